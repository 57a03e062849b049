/* Codecs: autoencoders between pictures, or maps of labels, and grids of codes.  An image codec has functions
 *
 *   encode  image f32 [B, h, w, 3 or 1] -> codes i32 [B, 1, gh, gw]         decode  codes -> image
 *
 * and a codec of labels the same of labels i32 [B, h, w]. */
#ifndef NUWA_SYNTH_CODEC_H
#define NUWA_SYNTH_CODEC_H

#include "synth/opened.h"
#include "synth/recipe.h"

typedef enum CodecKind { CODEC_IMAGE, CODEC_LABELS, CODEC_KINDS } CodecKind;

/* "image" and "labels": names of inputs, of parts of bundles, and in --tokens NAME=FILE. */
const char *codec_name(CodecKind kind);
/* CODEC_KINDS: there is none of that name. */
CodecKind codec_of_name(const char *name);
/* Of a recipe: the digest of its weights, and the source and options of its model. */
typedef struct CodecFields {
  RecipeField digest, source, options;
} CodecFields;
CodecFields codec_fields(CodecKind kind);

typedef struct CodecSpec {
  ModelSpec model;      /* a path may be NULL: taken from the weights */
  const char *weights;  /* a file; NULL: not said */
} CodecSpec;

typedef struct Codec {
  CodecKind kind;
  Opened opened;        /* no plan: there is no such codec */
  NuwaSession *session; /* NULL: it only describes */
  int encode, decode;   /* functions of the plan; -1: none */
  int64_t height, width;
  int64_t channels;     /* of pictures: 3, or 1: grey; of maps: how many labels there are */
  int64_t grid[2];      /* rows and columns of codes */
  int64_t codes;        /* that there are; 0: it does not say */
} Codec;

/* Opens the weights of spec, or with none those that the bundle embeds; `samples` are taken at once, 0: without a
 * session. False with err set; close it either way. */
bool codec_open(Codec *c, const OpenedFrom *from, CodecKind kind, const CodecSpec *spec, int64_t samples, Error *err);
void codec_close(Codec *c);
static inline bool codec_is_open(const Codec *c) { return c->opened.plan != NULL; }
/* The weights file that a codec's digest in the recipe of w names, beside `beside` or among the shipped ones.  *out
 * NULL: the recipe names none.  In the arena.  False with err set when it names one that is not there. */
bool codec_find(const OpenedFrom *from, CodecKind kind, const Safetensors *w, const char *beside, const char **out,
                Error *err);
/* Source and options of its model into a recipe, and a digest: of drawings that of its file, of trainings, which read codes
 * alone, that of its codes. */
void codec_recipe(const Codec *c, const char *digest, Recipe *r);

/* Any number n of frames, as the functions take and give them: image f32 or labels i32.  codes i32 [n][grid]. */
bool codec_encode_frames(const Codec *c, const void *frames, int64_t n, int32_t *codes, Error *err);
bool codec_decode_frames(const Codec *c, const int32_t *codes, int64_t n, void *frames, Error *err);
/* Pictures of 8 bits, rgb [n, h, w, 3]. */
bool codec_encode(const Codec *c, const uint8_t *rgb, int64_t n, int32_t *codes, Error *err);
bool codec_decode(const Codec *c, const int32_t *codes, int64_t n, uint8_t *rgb, Error *err);

#endif
