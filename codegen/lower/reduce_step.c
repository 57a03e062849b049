/* One reduction: its first value, one more element, and the fixed tree at the end.  Of bf16 elements too the sum is in
 * f32, and rounded once.
 *
 * Element i goes to lane i mod 16; sums start from 0; a maximum starts from the smallest number and is NaN when any
 * element is; argmax takes the first NaN, or the lowest index among the largest. */
#include <math.h>

#include "codegen/kir/arith.h"
#include "codegen/lower/reduce.h"

static bool is_float(const Node *n) { return dtype_is_float(n->in[0]->type.dtype); }

static KInst *smallest(Lower *l, const Node *n) {
  if (is_float(n)) return kir_f32(l->k, -INFINITY);
  return kir_i32(l->k, n->in[0]->type.dtype == DTYPE_U8 ? 0 : INT32_MIN);
}

Running reduce_start(Lower *l, const Node *n) {
  if (n->op == OP_SUM) return (Running){is_float(n) ? kir_f32(l->k, 0) : kir_i32(l->k, 0), NULL};
  return (Running){smallest(l, n), n->op == OP_ARGMAX ? kir_i32(l->k, INT32_MAX) : NULL};
}

/* Whether x replaces the best so far: it is larger or NaN, or the first; but nothing replaces a NaN. */
static KInst *is_better(Lower *l, const Node *n, Running r, KInst *x) {
  Kernel *k = l->k;
  KInst *first = kir_bin(k, KOP_EQ, r.index, kir_i32(k, INT32_MAX));
  if (!is_float(n)) return kir_bin(k, KOP_OR, first, kir_bin(k, KOP_LT, r.value, x));
  KInst *no_less = kir_un(k, KOP_NOT, kir_bin(k, KOP_LE, x, r.value));
  return kir_bin(k, KOP_OR, first, kir_bin(k, KOP_AND, no_less, kir_bin(k, KOP_EQ, r.value, r.value)));
}

/* Whether a lane's value is the best of all: as large, or NaN as it is. */
static KInst *is_best(Lower *l, const Node *n, KInst *value, KInst *best) {
  Kernel *k = l->k;
  KInst *equal = kir_bin(k, KOP_EQ, value, best);
  return is_float(n) ? kir_bin(k, KOP_OR, equal, kir_un(k, KOP_NOT, kir_bin(k, KOP_EQ, value, value))) : equal;
}

Running reduce_step(Lower *l, const Node *n, Running r, KInst *x, KInst *at) {
  Kernel *k = l->k;
  if (n->op == OP_ARGMAX) {
    KInst *take = both(l->k, is_better(l, n, r, x), l->mask);
    return (Running){kir_op(k, KOP_SELECT, take, x, r.value), kir_op(k, KOP_SELECT, take, at, r.index)};
  }
  KInst *next = n->op == OP_SUM ? kir_bin(k, KOP_ADD, r.value, x) : kir_bin(k, KOP_MAX, r.value, x);
  return (Running){l->mask ? kir_op(k, KOP_SELECT, l->mask, next, r.value) : next, NULL};
}

/* Among lanes that hold the maximum the lowest index; INT32_MAX stands for none. */
static KInst *index_or_zero(Lower *l, KInst *index) {
  Kernel *k = l->k;
  return kir_op(k, KOP_SELECT, kir_bin(k, KOP_EQ, index, kir_i32(k, INT32_MAX)), kir_i32(k, 0), index);
}

KInst *reduce_end_lanes(Lower *l, const Node *n, Running r) {
  Kernel *k = l->k;
  if (n->op == OP_SUM && is_float(n)) return lower_round(l, n, kir_un(k, KOP_TREE_ADD, r.value));
  if (n->op == OP_SUM) {
    KInst *sum = kir_bin(k, KOP_LANE_GET, r.value, kir_i32(k, 0));
    for (int i = 1; i < LANES; i++) sum = kir_bin(k, KOP_ADD, sum, kir_bin(k, KOP_LANE_GET, r.value, kir_i32(k, i)));
    return sum;
  }
  KInst *best = kir_un(k, KOP_TREE_MAX, r.value);
  if (n->op == OP_MAX) return best;
  KInst *holds = is_best(l, n, r.value, best);
  KInst *index = kir_op(k, KOP_SELECT, holds, r.index, kir_i32(k, INT32_MAX));
  return index_or_zero(l, kir_un(k, KOP_TREE_MIN, index));
}

static KInst *tree(Kernel *k, KOp op, KInst *x[LANES]) {
  for (int half = LANES / 2; half >= 1; half /= 2)
    for (int i = 0; i < half; i++) x[i] = kir_bin(k, op, x[i], x[i + half]);
  return x[0];
}

KInst *reduce_end_values(Lower *l, const Node *n, Running lane[LANES]) {
  Kernel *k = l->k;
  KInst *x[LANES];
  for (int i = 0; i < LANES; i++) x[i] = lane[i].value;
  KInst *best = tree(k, n->op == OP_SUM ? KOP_ADD : KOP_MAX, x);
  if (n->op != OP_ARGMAX) return lower_round(l, n, best);
  for (int i = 0; i < LANES; i++) {
    KInst *holds = is_best(l, n, lane[i].value, best);
    x[i] = kir_op(k, KOP_SELECT, holds, lane[i].index, kir_i32(k, INT32_MAX));
  }
  return index_or_zero(l, tree(k, KOP_MIN, x));
}
