/* Weights files: params as safetensors whose metadata say what they are for, so that a weights file is all that has to
 * be named. */
#ifndef NUWA_SYNTH_WEIGHTS_FILE_H
#define NUWA_SYNTH_WEIGHTS_FILE_H

#include "synth/models.h"

/* Keys of the metadata. */
#define WEIGHTS_FORMAT "format"
#define WEIGHTS_MODEL "model"       /* the model's file among the shipped models */
#define WEIGHTS_OPTIONS "options"   /* "name=value" a line */
#define WEIGHTS_BPE "bpe"           /* merges of the text encoder; only where the model reads text */
#define WEIGHTS_RECIPE "recipe"

/* The weights that are used when none are named: models/weights/NAME.safetensors of the shipped models.  In a. */
const char *weights_file_shipped(Arena *a, const SynthTarget *t, const char *name);
/* SHA-256 of a file, in hexadecimal. */
bool weights_file_digest(const char *path, char out[65], Error *err);
/* Fills what m leaves open: its path, and values of options, from the metadata.  In a. */
bool weights_file_complete(Arena *a, const SynthTarget *t, ModelSpec *m, const Safetensors *w, Error *err);
/* Sets or replaces an option's value.  In a. */
void models_define(Arena *a, ModelSpec *m, const char *name, const char *value);

enum { WEIGHTS_META = 5 };
/* The metadata of weights of a model; merges and recipe may be NULL.  Texts in a; the number of entries. */
int weights_file_describe(Arena *a, const Model *m, const char *merges, const char *recipe,
                          MetadataEntry out[WEIGHTS_META]);

#endif
