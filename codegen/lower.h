/* What the four families share: symbolic indices and the lowering of fused MAP and MOVE nodes at an index.
 *
 * An Ix is a symbolic integer in canonical affine form: constant + sum of coefficient * atom, where an atom is a kernel
 * value with a known range (loop variable, item coordinate, lane), a product with a symbolic size, or a quotient /
 * remainder that could not be simplified.  Ranges let (64 i + j) / 64 become i when 0 <= j < 64, so that reshapes and
 * transposes fused into a kernel keep vector loads: the lane's coefficient decides between a broadcast (0), a vector
 * load (1) and a gather. */
#ifndef NUWA_LOWER_H
#define NUWA_LOWER_H

#include "codegen/codegen.h"

typedef struct Ix Ix;

typedef struct Lower {
  Kernel *k;
  const Group *group;
  Arena *arena;
  Error *err;
  int *in_buf, *out_buf;        /* kernel argument of group->in[i], group->out[i] */
  KInst *mask;                  /* lanes that exist (NULL: all); given to every varying load and store */
  struct LowerMemo *memo;
} Lower;

Ix *ix_const(Lower *l, int64_t c);
/* A kernel value i64 (uniform) or i32 (varying) in [0, extent). */
Ix *ix_value(Lower *l, KInst *v, Dim extent);
Ix *ix_add(Lower *l, Ix *x, Ix *y);
Ix *ix_scale(Lower *l, Ix *x, int64_t k);
Ix *ix_scale_dim(Lower *l, Ix *x, Dim k);
Ix *ix_div(Lower *l, Ix *x, Dim by);    /* x >= 0 */
Ix *ix_mod(Lower *l, Ix *x, Dim by);
/* The uniform part as i64 and the varying part as i32 (NULL when there is none). */
void ix_emit(Lower *l, Ix *x, KInst **out_base, KInst **out_lane);
/* The whole as one i32 value (for IOTA and comparisons). */
KInst *ix_emit_i32(Lower *l, Ix *x);
/* Raster index of idx in a tensor of this shape; and back. */
Ix *ix_flatten(Lower *l, const Type *t, Ix *const *idx);
void ix_unflatten(Lower *l, const Type *t, Ix *flat, Ix **out_idx);

/* Sets up a kernel for a group: arguments for its ins and outs. NULL after a diagnostic. */
Lower *lower_begin(Arena *a, const Group *g, const char *name, Error *err);

/* The value of node n at idx [rank of n]: a load when n comes from memory (group->in, through views), the given value
 * when one was set by lower_bind, else its operands' values at the mapped indices and its own scalar form.  Values are
 * memoised per (node, idx) within the open block and its parents. f32, or i32 for integer tensors (u8: i32 0/1). */
KInst *lower_value(Lower *l, Node *n, Ix *const *idx);

/* From now on (within the open block) n's value is v whatever the index asked: the template computed it for exactly the
 * element that its epilogue will ask for. */
void lower_bind(Lower *l, Node *n, KInst *v);

/* Stores value as element idx of out (group->out[i]). */
void lower_store(Lower *l, int out, Ix *const *idx, KInst *value);

/* The family templates. */
bool lower_map(Lower *l, const KernelParams *p);
bool lower_reduce(Lower *l, const KernelParams *p);
bool lower_scatter(Lower *l, const KernelParams *p);
bool lower_contract(Lower *l, const KernelParams *p);
bool lower_attend(Lower *l, const KernelParams *p);

#endif
