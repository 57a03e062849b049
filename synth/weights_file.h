/* Weights files: params as safetensors whose metadata say what they are for, so that a weights file is all that has
 * to be named: the model's Lua files, its options, the text encoder's merges, the words that captions had, and the
 * recipe, which has the digest of the autoencoder whose codes it draws. */
#ifndef NUWA_SYNTH_WEIGHTS_FILE_H
#define NUWA_SYNTH_WEIGHTS_FILE_H

#include "runtime/base/names.h"
#include "synth/models.h"
#include "synth/recipe.h"

/* Keys of the metadata, beside META_FORMAT, META_OPTIONS, META_SOURCE and META_RECIPE. */
#define WEIGHTS_MODEL "model"       /* the main file's name in the source; in old files among the shipped models */
#define WEIGHTS_BPE "bpe"           /* merges of the text encoder; only where the model reads text */
#define WEIGHTS_WORDS "words"       /* of the captions it was trained on, with spaces between */
#define WEIGHTS_CODES "codes_sha256"   /* of an autoencoder that makes another's codes: the other's file (codes_kept.h) */
#define WEIGHTS_DIGEST "file_sha256"   /* in a bundle: of the file that they were taken from */

/* The weights that are used when none are named: models/weights/NAME.safetensors of the shipped models.  In a. */
const char *weights_file_shipped(Arena *a, const SynthTarget *t, const char *name);
/* Opens a file without the tensors that the target ignores, and says how many those are. */
Safetensors *weights_file_open(const SynthTarget *t, const char *path, Error *err);
/* SHA-256 of a file, in hexadecimal. */
bool weights_file_digest(const char *path, char out[65], Error *err);
/* The file of that digest, else one whose codes are that file's, beside the file `beside` (may be NULL), else among the
 * shipped weights.  In a; NULL when there is none. */
const char *weights_file_find(Arena *a, const SynthTarget *t, const char *digest, const char *beside);
/* A text of the recipe in weights' metadata; NULL when they do not say.  In a. */
const char *weights_file_recipe_text(Arena *a, const Safetensors *w, RecipeField field);

/* Fills what m leaves open: its path and source, and values of options, from the metadata; path names the weights.
 * In a. */
bool weights_file_complete(Arena *a, const SynthTarget *t, ModelSpec *m, const Safetensors *w, const char *path,
                           Error *err);
/* Gives the params PREFIX.NAME of a session the values of the tensors NAME of a file; says how many others it holds. */
bool weights_file_load_part(const SynthTarget *t, NuwaSession *s, const Plan *p, const char *prefix, const char *path,
                            Error *err);
/* Whether a name is like one of the patterns ("loss.*"). */
bool weights_file_is_like(const char *name, const char *const *pattern, int n);
/* Params take the values of w's tensors, but for those of names like a pattern, which keep what they have: w need not hold
 * them. */
bool weights_file_load_rest(const SynthTarget *t, NuwaSession *s, const Plan *p, const Safetensors *w,
                            const char *const *fresh, int n_fresh, Error *err);
/* Fails with the name of a tensor that holds NaN or an infinity. */
bool weights_file_check_finite(const Safetensors *w, const char *path, Error *err);

/* Weights as a bundle carries them beside the plan, appended to out: each param as the plan wants it, those of whole
 * multiples of 64 bytes first, so that sessions can use them where they are mapped; the metadata of w, and digest, that of
 * its file.  They fit the plan (nuwa_check_weights). */
bool weights_file_embed(const Safetensors *w, const Plan *p, const char *digest, Buffer *out, Error *err);

typedef struct WeightsMeta {
  const Model *model;
  const char *merges, *words, *recipe, *codes;   /* may be NULL */
} WeightsMeta;
enum { WEIGHTS_META = 8 };
/* The metadata of weights.  Texts in a (call inside arena_protect); the number of entries. */
int weights_file_describe(Arena *a, const WeightsMeta *m, MetadataEntry out[WEIGHTS_META]);

#endif
