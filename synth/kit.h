/* A kit: what drawing takes. A generating model with its text encoder, the autoencoder of its codes, and both
 * weights. */
#ifndef NUWA_SYNTH_KIT_H
#define NUWA_SYNTH_KIT_H

#include "media/image.h"
#include "runtime/text/bpe.h"
#include "synth/models.h"
#include "synth/recipe.h"

typedef struct KitSpec {
  ModelSpec model, vq;          /* paths may be NULL: taken from the weights */
  const char *weights, *vq_weights;   /* NULL: the shipped ones */
  /* Where model is an application (a bundle with a plan "drawer"), what is NULL is taken from that. */
} KitSpec;

/* Without a generating model: weights, plan, bpe are NULL, digest is empty, and the grid is that of one picture. */
typedef struct Kit {
  Arena *arena;                 /* defines and paths */
  Safetensors *weights, *vq_weights;
  char digest[65], vq_digest[65];   /* SHA-256 of the weights files */
  const Plan *plan, *vq_plan;
  NuwaBundle *bundle;           /* the application that these are of, or NULL: then they are */
  Plan *owned[2];
  const char *weights_path, *vq_weights_path;   /* the files; NULL: of the bundle */
  NuwaSession *vq;
  Bpe *bpe;
  int decode;                   /* of plan */
  int encode_codes, decode_codes;   /* functions of vq_plan */
  int64_t size, colours;        /* of pictures; 3, or 1: grey */
  int64_t codes;                /* that the autoencoder has; 0: it does not say */
  int64_t text_tokens;          /* 0: the model draws of no text */
  int64_t classes;              /* 0: of no class */
  int64_t grid[3], positions;
  const SynthTarget *target;    /* of all sessions */
} Kit;

/* Loads everything, or the autoencoder alone (draws false); `samples`: pictures the autoencoder takes at once, 0: it
 * only describes.  The target must outlive the kit.  False with err set (kit then holds nothing). */
bool kit_open(Kit *k, const SynthTarget *t, const KitSpec *spec, bool draws, int64_t samples, Error *err);
void kit_close(Kit *k);
/* What of a drawing's recipe follows from the kit. */
void kit_recipe(const Kit *k, Recipe *r);

enum { KIT_PART = 64 };          /* most samples that are drawn at once, and pictures that the autoencoder takes */

/* Says which words of a caption the weights' captions never had, and where it is cut because it is too long. */
bool kit_check_caption(const Kit *k, const char *text, Error *err);

typedef struct KitRequest {
  const char *const *text;      /* [count]; NULL: none */
  int32_t class;                /* of all; -1: none */
  int64_t count, first;         /* samples first, first + 1, ... of the seed */
  int64_t at_once;              /* samples drawn together, 0: KIT_PART.  The same tokens whatever it is */
  uint64_t seed;
  NuwaSampling sample;
  float guidance;
  bool raster;
  const uint8_t *given;         /* [positions] or NULL */
  const int32_t *given_tokens;  /* [positions], of every sample */
  /* Called when samples [first, first + n) of the request are drawn; may be NULL. */
  bool (*finished)(void *ctx, int64_t first, int64_t n, Error *err);
  void *ctx;
} KitRequest;

/* tokens [count][positions]; stats: steps and live of one part, the rest of all.  The target hears of progress and
 * may cancel: *out_done samples are finished then, and nothing has failed. */
bool kit_generate(Kit *k, const KitRequest *r, int32_t *tokens, NuwaGenerateStats *stats, int64_t *out_done,
                  Error *err);

/* Pictures <-> codes, any number n; rgb [n, size, size, 3], codes [n][positions of one picture]. */
bool kit_encode(Kit *k, const uint8_t *rgb, int64_t n, int32_t *codes, Error *err);
bool kit_decode(Kit *k, const int32_t *codes, int64_t n, uint8_t *rgb, Error *err);

#endif
