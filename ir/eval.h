/* One step of the reference interpreter: what the eval_* functions of the op table see. */
#ifndef NUWA_IR_EVAL_H
#define NUWA_IR_EVAL_H

#include "ir/interp.h"

typedef struct Eval {
  const Node *node;
  const Tensor *const *in;   /* [n_in] */
  Tensor *out;               /* of the node's type, zeros */
  int64_t B, R;
  Arena *arena;
  LeafFn leaf;
  void *ctx;                 /* of leaf */
  Error *err;
} Eval;

/* False after an error: only where operands hold what no program may compute (rows and slots of attend_rows). */
#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) bool eval_##eval(Eval *e);
#include "ir/ops.def"
#undef OP

/* The end of a sum whose element i went to lane i mod 16: the tree.  Overwrites the lanes. */
double lanes_tree(double lane[16]);
/* Integers wrap around in their type; out-of-range floats are cut to it by casts only. */
double integer_wrap(DType t, int64_t v);

/* Steps a coordinate through a shape in raster order; false after the last. */
bool index_next(int rank, const int64_t *dim, int64_t *at);
void strides_of(const Tensor *t, int64_t *stride);

/* Coordinates s, h, w of a raster index. */
void grid_point(const int64_t grid[3], int64_t index, int64_t p[3]);

#endif
