/* Codes that nothing uses learn nothing.  Over windows of steps the uses of every code are counted; at the end of a
 * window those without any are put where the codebook is worst: on vectors of the current batch, each drawn with a
 * chance proportional to its squared distance from its nearest code (Arthur, Vassilvitskii: k-means++, SODA 2007), so
 * that many codes revived at once spread out.  The same draw makes a first codebook from the first batch. */
#ifndef NUWA_REVIVE_H
#define NUWA_REVIVE_H

#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"

typedef struct ReviveOptions {
  const char *codebook;        /* param f32 [codes, width]; NULL: nothing is revived */
  const char *codes, *vectors; /* outputs: i32 [..], a code for each vector; f32 [.., width], the vectors */
  int64_t window;              /* steps, at least 1 */
  bool keep_start;             /* the first codebook stays as it is */
} ReviveOptions;

typedef struct Revive Revive;

/* For function "train" (and revive_start's) of p, run with `batch` samples.  NULL with the reason when names or
 * shapes do not fit. */
Revive *revive_new(NuwaSession *s, const Plan *p, int train, const ReviveOptions *o, int64_t batch, Error *err);
void revive_free(Revive *r); /* NULL is fine */

/* After a step: counts its codes, and at the end of a window revives; *out_n: how many.  False: the session failed. */
bool revive_step(Revive *r, uint64_t seed, int64_t step, int64_t *out_n, Error *err);
/* Replaces the whole codebook by vectors that `function` has just given for a batch.  False when it lacks that output,
 * or the session failed. */
bool revive_start(Revive *r, int function, uint64_t seed, Error *err);

/* Uses in the current window, [n]; part of a checkpoint. */
int32_t *revive_uses(Revive *r, int64_t *out_n);

#endif
