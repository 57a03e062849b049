/* A kit: what drawing takes. A generating model with its text encoder, the autoencoder of its codes, and both
 * weights.
 *
 * Weights say what they were trained as: their metadata holds "model" (a file of the shipped models), "option.<name>"
 * and, for a model that reads text, "bpe" (the merges), so that a weights file is all that has to be named. */
#ifndef NUWA_KIT_H
#define NUWA_KIT_H

#include "cli/cli.h"
#include "runtime/text/bpe.h"
#include "media/image.h"

typedef struct KitArgs {
  ModelArgs model, vq;          /* paths may be NULL: taken from the weights */
  const char *weights, *vq_weights;
} KitArgs;

/* Entries of a command's table for its kit, and for drawing as the fields of these names in its arguments say: */
#define ARG_WEIGHTS(kit)                                                                                             \
  { "--weights", ARG_TEXT, "FILE", "of the generating model (default: the shipped ones)", &(kit)->weights, 0, 0 }
#define ARG_VQ_WEIGHTS(kit)                                                                                          \
  { "--vq-weights", ARG_TEXT, "FILE", "of the autoencoder (default: the shipped ones)", &(kit)->vq_weights, 0, 0 }
#define ARG_SAMPLING(a) \
  {"--seed", ARG_INT, "N", "of the drawings (0)", &(a)->seed, 0, 9.0e15}, \
  {"--temperature", ARG_REAL, "X", "0: the likeliest token (1)", &(a)->temperature, 0, 100}, \
  {"--top-k", ARG_INT, "N", "only the N likeliest; 0: all (0)", &(a)->top_k, 0, 1 << 30}, \
  {"--top-p", ARG_REAL, "X", "only the likeliest that hold this share (1)", &(a)->top_p, 0, 1}, \
  {"--guidance", ARG_REAL, "X", "classifier-free guidance; 1: none (1)", &(a)->guidance, -1000, 1000}

/* Without a generating model: weights, plan, bpe are NULL, digest is empty, and the grid is that of one picture. */
typedef struct Kit {
  Arena *arena;                 /* defines and paths */
  Safetensors *weights, *vq_weights;
  char digest[65];              /* SHA-256 of the weights file */
  Plan *plan, *vq_plan;
  NuwaSession *vq;
  Bpe *bpe;
  int decode;                   /* of plan */
  int encode_codes, decode_codes;   /* functions of vq_plan */
  int64_t size, colours;        /* of pictures */
  int64_t text_tokens;
  int64_t grid[3], positions;
  ModelArgs args;               /* of the generating model: what its sessions run on */
} Kit;

/* Loads everything, or the autoencoder alone (draws false); `samples`: pictures the autoencoder takes at once.  False
 * with err set (kit then holds nothing). */
bool kit_open(Kit *k, const KitArgs *a, bool draws, int64_t samples, Error *err);
void kit_close(Kit *k);

/* The weights that are used when none are named: models/weights/NAME.safetensors of the shipped models. In a. */
const char *kit_shipped_weights(Arena *a, const ModelArgs *m, const char *name);
/* SHA-256 of a file, in hexadecimal. */
bool kit_digest_file(const char *path, char out[65], Error *err);
/* Defines of the command line, then those of the metadata that it leaves out; model's path from metadata if it has
 * none. */
bool kit_complete_args(Arena *a, ModelArgs *m, const Safetensors *w, Error *err);

enum { KIT_PART = 64 };          /* samples that are drawn at once, and pictures that the autoencoder takes */

typedef struct KitRequest {
  const char *const *text;      /* [count] */
  int64_t count, first;         /* samples first, first + 1, ... of the seed */
  uint64_t seed;
  SampleOptions sample;
  float guidance;
  bool raster;
  const uint8_t *given;         /* [positions] or NULL */
  const int32_t *given_tokens;  /* [positions], of every sample */
} KitRequest;

/* tokens [count][positions]; stats: steps and live of one part, the rest of all.  Progress goes to a bar on a
 * terminal's stderr. */
bool kit_generate(Kit *k, const KitRequest *r, int32_t *tokens, NuwaGenerateStats *stats, Error *err);

/* Pictures <-> codes, any number n; rgb [n, size, size, 3], codes [n][positions of one picture]. */
bool kit_encode(Kit *k, const uint8_t *rgb, int64_t n, int32_t *codes, Error *err);
bool kit_decode(Kit *k, const int32_t *codes, int64_t n, uint8_t *rgb, Error *err);

#endif
