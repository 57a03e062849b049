/* The reference interpreter: computes every op in f64, plainly, and is the definition of the ops.  i32 and u8 values
 * are exact in f64.  (bf16 rounding will happen where the op definitions say so.) */
#ifndef NUWA_INTERP_H
#define NUWA_INTERP_H

#include "ir/ir.h"

typedef struct Tensor {
  DType dtype;
  int rank;
  int64_t dim[MAX_RANK];
  double *data;       /* raster order */
} Tensor;

int64_t tensor_elems(const Tensor *t);
Tensor tensor_new(Arena *a, DType dtype, int rank, const int64_t *dim);   /* zeros */

/* What leafs hold: an INPUT, PARAM or STATE by name. NULL after err was set. */
typedef const Tensor *(*LeafFn)(void *ctx, const Node *leaf, Error *err);

/* Runs f with B samples and R rows.  out[i] is output i of f, update[i] the new value of update i (may be NULL when
 * f has none); all in arena a.  Values of tensors from leaf must fit the leaf's type under B and R (checked). */
bool interp_run(const Func *f, int64_t B, int64_t R, LeafFn leaf, void *ctx, Arena *a, Tensor *out, Tensor *update,
                Error *err);

#endif
