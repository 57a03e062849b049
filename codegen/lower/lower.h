/* What the four families share: symbolic indices and the lowering of fused MAP and MOVE nodes at an index.
 *
 * An Ix is a symbolic integer in canonical affine form: constant + sum of coefficient * atom, where an atom is a
 * kernel value with a known range (loop variable, item coordinate, lane), a product with a symbolic size, or a
 * quotient / remainder that could not be simplified.  Ranges let (64 i + j) / 64 become i when 0 <= j < 64, so that
 * reshapes and transposes fused into a kernel keep vector loads: the lane's coefficient decides between a broadcast
 * (0), a vector load (1) and a gather.  Building an Ix emits nothing; ix_emit does.
 *
 * Symbolic sizes are taken to be at least 1: a kernel with an empty domain has no items.  The uniform part of an
 * address is 64 bits; what differs between lanes is 32 bits, and constant shapes whose lanes span more are refused.
 */
#ifndef NUWA_LOWER_H
#define NUWA_LOWER_H

#include "codegen/codegen.h"

typedef struct Ix Ix;

typedef struct Lower {
  Kernel *k;
  const Group *group;
  const Target *target;
  Arena *arena;
  Error *err;
  int *in_buf, *out_buf; /* kernel argument of group->in[i], group->out[i] */
  KInst *mask;           /* lanes that exist (NULL: all); given to every varying load and store */
  bool failed;           /* err is set: values are placeholders from here on, lower_group returns NULL */
  Ix *gather_along;      /* set by loads that gather: the uniform index along which they are contiguous, or NULL */
  bool quads;            /* lanes have four elements each, lowered one after the other: see ix_part */
  int part;              /* which of them */
  struct IxTable *index; /* every atom made */
  struct LowerMemo *memo;
} Lower;

Ix *ix_const(Lower *l, int64_t c);
Ix *ix_dim(Lower *l, Dim d);
/* A kernel value i64 (uniform) or i32 (varying) in [0, extent). */
Ix *ix_value(Lower *l, KInst *v, Dim extent);
/* Which of a lane's four elements: in [0, 4), emitted as the constant l->part.  What is lowered for all four parts at
 * such indices loads four elements at once where they are neighbours and sure to be aligned, and once where they are
 * one. */
Ix *ix_part(Lower *l);
/* Its coefficient in x, and x without it; -1 when x is not linear in it. */
int64_t ix_part_step(Lower *l, Ix *x, Ix **out_rest);
Ix *ix_add(Lower *l, Ix *x, Ix *y);
Ix *ix_scale(Lower *l, Ix *x, int64_t k);
Ix *ix_scale_dim(Lower *l, Ix *x, Dim k);
Ix *ix_div(Lower *l, Ix *x, Dim by); /* towards minus infinity; by > 0 */
Ix *ix_mod(Lower *l, Ix *x, Dim by); /* in [0, by) */
/* x, of which the caller knows that it is in [0, extent) wherever it matters (elsewhere it may be anything). */
Ix *ix_assume(Lower *l, Ix *x, Dim extent);
/* min(max(x, 0), extent - 1), as a value; x uniform.  On an axis of no samples it is 0: a session has room for one. */
Ix *ix_clamp(Lower *l, Ix *x, Dim extent);
bool ix_equal(const Ix *x, const Ix *y);
uint32_t ix_hash(const Ix *x);
/* Equal, or equal once assumed ranges are forgotten. */
bool ix_same(Lower *l, Ix *x, Ix *y);
bool ix_is_varying(const Ix *x);
bool ix_is_within(const Ix *x, Dim extent); /* surely in [0, extent) */
/* The bool 0 <= x < extent; NULL when that is sure. */
KInst *ix_inside(Lower *l, Ix *x, Dim extent);
/* A uniform atom whose coefficient in x is 1, as an index; NULL when there is none. */
Ix *ix_unit_term(Lower *l, Ix *x);
/* The uniform part as i64 and the varying part as i32 (NULL when there is none). */
void ix_emit(Lower *l, Ix *x, KInst **out_base, KInst **out_lane);
/* The whole as one i32 value (for IOTA and comparisons). */
KInst *ix_emit_i32(Lower *l, Ix *x);
/* Raster index of idx in a tensor of this shape; and back (out_idx [rank]). */
Ix *ix_flatten(Lower *l, const Type *t, Ix *const *idx);
void ix_unflatten(Lower *l, const Type *t, Ix *flat, Ix **out_idx);

/* Sets up a kernel for a group: arguments for its ins and outs. NULL after a diagnostic. */
Lower *lower_begin(Arena *a, const Group *g, const Target *t, const char *name, Error *err);
/* An empty kernel of the same name and arguments in place of what was built so far (templates compare candidates). */
void lower_restart(Lower *l);
/* Records the first diagnostic "LOC: op: ..." of a node that cannot be lowered. Returns NULL. */
void *lower_fail(Lower *l, const Node *n, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The value of node n at idx [rank of n]: a load when n comes from memory (group->in, through views), the given value
 * when one was set by lower_bind, else its operands' values at the mapped indices and its own scalar form.  Values
 * are memoised per (node, idx, mask) within the open block and its parents. f32 (of bf16 tensors: a number of bf16), or
 * i32 for integer tensors (u8: 0..255). Loads stay inside their tensor whatever the data: indices are clamped, or lanes masked, where an op may
 * leave it. */
KInst *lower_value(Lower *l, Node *n, Ix *const *idx);

/* From now on (within the open block) n's value is v whatever the index asked: the template computed it for exactly
 * the element that its epilogue will ask for. */
void lower_bind(Lower *l, Node *n, KInst *v);
/* The same for element idx [rank of n] only. */
void lower_bind_at(Lower *l, Node *n, Ix *const *idx, KInst *v);

/* Stores value as element idx of out (group->out[i]). */
void lower_store(Lower *l, int out, Ix *const *idx, KInst *value);

/* The kernel argument that holds an operand (through views) of the group's anchor; fails when it is not in memory. */
int lower_operand(Lower *l, Node *operand);
/* One or four elements a lane from an argument to scratch, zeros under the mask; is_async: by a copy where it can be,
 * which moves 4 bytes at least. */
void lower_move(Kernel *k, bool is_async, KPlace to, KPlace from, int count, KInst *mask);

/* Stores the values of the four parts at idx, which holds ix_part. */
void lower_store_quad(Lower *l, int out, Ix *const *idx, KInst *const value[QUAD]);

/* Whether n is computed inside the group. */
bool lower_is_member(const Lower *l, const Node *n);

/* x rounded as a result of n is: f32 or, when n is bf16, its nearest bf16 number. */
KInst *lower_round(Lower *l, const Node *n, KInst *x);

/* The scalar form of MAP node n over its operands' values x; idx is needed by iota only. */
KInst *lower_scalar(Lower *l, Node *n, Ix *const *idx, KInst *const *x);

/* One kir_factor of `chunks` pieces of a range of n elements, 16 * vectors elements each, and how to walk over a
 * piece: full vectors in a loop, then the tail under a mask. */
typedef struct LanePlan {
  Dim n;           /* elements */
  int64_t vectors; /* 16-lane vectors a piece has at most */
  bool single;     /* one piece is all */
  bool has_tail;   /* n is not surely a multiple of 16 */
} LanePlan;
LanePlan lane_plan(Dim n, int64_t max_vectors);
typedef void (*LaneFn)(void *ctx, Lower *l, Ix *i); /* i: element index, varying */
/* Emits body for every vector of piece (i64 Ix, ignored when single); unroll is a hint. */
void lane_each(Lower *l, const LanePlan *p, Ix *piece, int unroll, LaneFn body, void *ctx);

/* ---- parameters: of each kind NAME ----
 *
 * NAME_params fills the default in.  NAME_params_refuse gives -1 for legal parameters, whose values are among their
 * fields' (params.h); else the last of the fields that the reason names, after params_refuse: whatever the fields after
 * it are, the same reason holds, so that a search can leave those out. */
#define PARAM_RULES(id, name, Type, fields)                                                        \
  bool name##_params(Arena *a, const Group *g, const Target *t, Params *out, Error *err);          \
  int name##_params_refuse(const Group *g, const Target *t, const Params *p, Error *err);
PARAM_KINDS(PARAM_RULES)
#undef PARAM_RULES
/* How many nodes of a group take much code: polynomials, quotients and roots. */
int lower_costly(const Group *g);
/* Sets the error, which will be prefixed with "parameters of KIND: FIELD=VALUE".  Returns field. */
int params_refuse(int field, Error *err, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* What is legal of a grain; -1 when it is. */
int params_refuse_grain(int field, int grain, const Target *t, Error *err);

/* Whether a CONTRACT group takes the loop nest of GPUs on this target. */
bool contract_takes_gpu(const Group *g, const Target *t);

/* ---- the family templates ---- */

bool lower_map(Lower *l, const Params *p);
bool lower_reduce(Lower *l, const Params *p);
bool lower_scatter(Lower *l, const Params *p);
bool lower_contract(Lower *l, const Params *p);
bool lower_attend(Lower *l, const Params *p);

#endif
