/* What a trainer reads: batches of scenes as tensors, made when asked for.
 *
 * Example i of a split is scene i of the world (world.h), so a batch is a function of (options, split, first, n) and
 * a run that resumes at example i reads what it would have read.  Filling changes nothing in the dataset: any number
 * of threads may fill batches at once. */
#ifndef NUWA_DATASET_H
#define NUWA_DATASET_H

#include "runtime/text/bpe.h"
#include "media/world.h"

/* Columns of Batch.slots. */
enum { SLOT_THING, SLOT_BACKGROUND, SLOT_PLACE, SLOT_MOTION, DATASET_SLOTS };

typedef struct Dataset {
  const World *world; /* both outlive the dataset */
  const Bpe *bpe;     /* may be NULL if no batch asks for text */
  int text_tokens;    /* length of a text: start, tokens, end, zeros */
  int frames;         /* of an example: 1, or WORLD_FRAMES; a still scene repeats its frame */
} Dataset;

/* A batch of n examples; any pointer may be NULL and is then left out. */
typedef struct Batch {
  float *images;   /* [n, frames, size, size, 3] in [-1, 1] */
  uint8_t *pixels; /* the same as 8 bits */
  int32_t *text;   /* [n, text_tokens] */
  int32_t *labels; /* [n, frames, size, size]: 0 background, 1 + thing */
  int32_t *slots;  /* [n, DATASET_SLOTS]; of the first thing */
} Batch;

/* Fails only when memory is short or a caption cannot be encoded; nothing is said of what was filled then. */
bool dataset_fill(const Dataset *d, WorldSplit split, uint64_t first, int n, const Batch *out, Error *err);

/* Values in one example's images. */
size_t dataset_image_values(const Dataset *d);

/* An encoder trained on the captions of the first n training scenes. */
Bpe *dataset_train_bpe(const World *w, int n, int max_merges, Error *err);

#endif
