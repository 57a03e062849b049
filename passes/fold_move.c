/* Simplification of movement: every rule gives the same elements at the same places.
 *
 * Chains of one kind become one node, moves of a constant become the constant, moves that only touch axes of size 1
 * become reshapes (which cost nothing), and a transpose of the last two axes goes into the product that reads it. */
#include "passes/fold.h"

#include <string.h>

bool fold_keeps_values(Op op) {
  OpReads r = op_info[op].reads;
  return r == READS_ORDER || r == READS_ONCE || r == READS_REPEATED || r == READS_TABLE;
}

static bool is_one(Dim d) { return dim_equal(d, dim_const(1)); }
static bool is_zero(Dim d) { return dim_equal(d, dim_const(0)); }

static Node *unary_with(Graph *g, Op op, Node *x, const Attrs *a) { return graph_op(g, op, &x, 1, a, NULL); }

Node *fold_reshape(Graph *g, Node *n) {
  Node *x = n->in[0];
  if (type_same_shape(&x->type, &n->type)) return x;
  return x->op == OP_RESHAPE ? graph_reshape(g, x->in[0], &n->type) : n;
}

/* Whether the axes of size other than 1 keep their order. */
static bool moves_only_ones(const Node *n) {
  int64_t last = -1;
  for (int i = 0; i < n->type.rank; i++) {
    int64_t from = n->attrs.perm.perm[i];
    if (is_one(n->type.dim[i])) continue;
    if (from < last) return false;
    last = from;
  }
  return true;
}

Node *fold_transpose(Graph *g, Node *n) {
  Node *x = n->in[0];
  const int64_t *perm = n->attrs.perm.perm;
  if (moves_only_ones(n)) return graph_reshape(g, x, &n->type);
  if (x->op == OP_TRANSPOSE) {
    int64_t both[MAX_RANK] = {0};
    for (int i = 0; i < n->type.rank; i++) both[i] = x->attrs.perm.perm[perm[i]];
    return graph_transpose(g, x->in[0], both);
  }
  if (x->op == OP_IOTA) {
    for (int i = 0; i < n->type.rank; i++) {
      if (perm[i] == x->attrs.axis.axis) return graph_iota(g, i, &n->type);
    }
  }
  return n;
}

/* No element is repeated: only axes of size 1 are new. */
Node *fold_broadcast(Graph *g, Node *n) {
  Node *x = n->in[0];
  int extra = n->type.rank - x->type.rank;
  bool repeats = false;
  for (int i = 0; i < n->type.rank; i++)
    repeats |= i < extra ? !is_one(n->type.dim[i]) : !dim_equal(n->type.dim[i], x->type.dim[i - extra]);
  if (!repeats) return graph_reshape(g, x, &n->type);
  if (x->op == OP_BROADCAST) return graph_broadcast(g, x->in[0], &n->type);
  if (x->op == OP_IOTA) {
    int64_t axis = x->attrs.axis.axis;
    if (dim_equal(x->type.dim[axis], n->type.dim[axis + extra])) return graph_iota(g, (int)axis + extra, &n->type);
  }
  return n;
}

/* slice(slice(x)): starts add up and steps multiply.  Needs constant sizes where the inner step is not 1. */
static Node *slice_of_slice(Graph *g, Node *n) {
  Node *x = n->in[0];
  Attrs a = n->attrs;
  for (int i = 0; i < n->type.rank; i++) {
    int64_t step = x->attrs.slice.step[i];
    if (step != 1 && (!dim_is_const(n->attrs.slice.stop[i]) || !dim_is_const(n->attrs.slice.start[i]))) return n;
    if (step != 1 && n->attrs.slice.stop[i].c == n->attrs.slice.start[i].c) return n;
    Dim start = x->attrs.slice.start[i], last = dim_add(n->attrs.slice.stop[i], dim_const(-1));
    a.slice.start[i] = dim_add(start, dim_scale(n->attrs.slice.start[i], step));
    a.slice.stop[i] = dim_add(dim_add(start, dim_scale(last, step)), dim_const(1));
    a.slice.step[i] = step * n->attrs.slice.step[i];
  }
  return unary_with(g, OP_SLICE, x->in[0], &a);
}

/* slice(concat) that lies in one operand, on axes of constant sizes. */
static Node *slice_of_concat(Graph *g, Node *n) {
  Node *x = n->in[0];
  int64_t axis = x->attrs.axis.axis, at = 0;
  Dim start = n->attrs.slice.start[axis], stop = n->attrs.slice.stop[axis];
  if (!dim_is_const(start) || !dim_is_const(stop)) return n;
  for (int i = 0; i < x->n_in; i++) {
    Dim size = x->in[i]->type.dim[axis];
    if (!dim_is_const(size)) return n;
    if (start.c >= at && stop.c <= at + size.c) {
      Attrs a = n->attrs;
      a.slice.start[axis].c -= at;
      a.slice.stop[axis].c -= at;
      return unary_with(g, OP_SLICE, x->in[i], &a);
    }
    at += size.c;
  }
  return n;
}

/* slice(pad(x)) that cuts into the new ends only, as the gradient of a padded convolution does. */
static Node *slice_of_pad(Graph *g, Node *n) {
  Node *x = n->in[0];
  Attrs a = x->attrs;
  for (int i = 0; i < n->type.rank; i++) {
    Dim cut = dim_add(x->type.dim[i], dim_scale(n->attrs.slice.stop[i], -1));
    a.pad.lo[i] = dim_add(a.pad.lo[i], dim_scale(n->attrs.slice.start[i], -1));
    a.pad.hi[i] = dim_add(a.pad.hi[i], dim_scale(cut, -1));
    if (n->attrs.slice.step[i] != 1 || !dim_is_const(a.pad.lo[i]) || !dim_is_const(a.pad.hi[i])) return n;
    if (a.pad.lo[i].c < 0 || a.pad.hi[i].c < 0) return n;
  }
  return unary_with(g, OP_PAD, x->in[0], &a);
}

/* Rows and columns of conv2d(pad(x), w) that are cut away need not be computed: their windows are cut from the padded
 * picture.  Each element that stays is the same sum.  (A padded operand marks a convolution made for this one reader.) */
static Node *slice_of_conv(Graph *g, Node *n) {
  Node *y = n->in[0], *x = y->in[0], *w = y->in[1];
  if (y->attrs.conv.stride != 1 || x->op != OP_PAD) return n;
  Attrs a = n->attrs;
  for (int i = 0; i < 4; i++) {
    bool whole = is_zero(a.slice.start[i]) && dim_equal(a.slice.stop[i], y->type.dim[i]);
    if (a.slice.step[i] != 1 || ((i == 0 || i == 3) && !whole)) return n;
  }
  for (int i = 1; i < 3; i++) a.slice.stop[i] = dim_add(a.slice.stop[i], dim_const(w->type.dim[i - 1].c - 1));
  a.slice.stop[3] = x->type.dim[3];
  Node *in[2] = {unary_with(g, OP_SLICE, x, &a), w};
  return in[0] ? graph_op(g, OP_CONV2D, in, 2, &y->attrs, NULL) : NULL;
}

Node *fold_slice(Graph *g, Node *n) {
  Node *x = n->in[0];
  bool whole = true;
  for (int i = 0; i < n->type.rank; i++)
    whole &= is_zero(n->attrs.slice.start[i]) && dim_equal(n->type.dim[i], x->type.dim[i]);
  if (whole) return x;
  if (x->op == OP_SLICE) return slice_of_slice(g, n);
  if (x->op == OP_CONCAT) return slice_of_concat(g, n);
  if (x->op == OP_PAD) return slice_of_pad(g, n);
  if (x->op == OP_CONV2D) return slice_of_conv(g, n);
  return n;
}

static bool same_value(double x, double y) { return memcmp(&x, &y, sizeof x) == 0; }

Node *fold_pad(Graph *g, Node *n) {
  Node *x = n->in[0];
  bool nothing = true, plain = true;
  double v;
  for (int i = 0; i < n->type.rank; i++) {
    nothing &= dim_equal(n->type.dim[i], x->type.dim[i]);
    plain &= n->attrs.pad.interior[i] == 0 && (x->op != OP_PAD || x->attrs.pad.interior[i] == 0);
  }
  if (nothing) return x;
  if (fold_is_fill(x, &v) && same_value(v, n->attrs.pad.value)) return graph_fill(g, v, &n->type);
  if (x->op != OP_PAD || !plain || !same_value(x->attrs.pad.value, n->attrs.pad.value)) return n;
  Attrs a = n->attrs;
  for (int i = 0; i < n->type.rank; i++) {
    a.pad.lo[i] = dim_add(a.pad.lo[i], x->attrs.pad.lo[i]);
    a.pad.hi[i] = dim_add(a.pad.hi[i], x->attrs.pad.hi[i]);
  }
  return unary_with(g, OP_PAD, x->in[0], &a);
}

Node *fold_reverse(Graph *g, Node *n) {
  Node *x = n->in[0];
  int64_t axes = n->attrs.axes.axes;
  if (x->op == OP_REVERSE) {
    Attrs a = {.axes = {axes ^ x->attrs.axes.axes}};
    return a.axes.axes ? unary_with(g, OP_REVERSE, x->in[0], &a) : x->in[0];
  }
  for (int i = 0; i < n->type.rank; i++) {
    if (is_one(n->type.dim[i])) axes &= ~((int64_t)1 << i);
  }
  Attrs a = {.axes = {axes}};
  if (axes == n->attrs.axes.axes) return n;
  return axes ? unary_with(g, OP_REVERSE, x, &a) : x;
}

/* Operands that are concats along the same axis give their operands. */
Node *fold_concat(Graph *g, Node *n) {
  int total = 0;
  if (n->n_in == 1) return n->in[0];
#define IS_INNER(x) ((x)->op == OP_CONCAT && (x)->attrs.axis.axis == n->attrs.axis.axis)
  for (int i = 0; i < n->n_in; i++) total += IS_INNER(n->in[i]) ? n->in[i]->n_in : 1;
  if (total == n->n_in) return n;
  Node **in = ARENA_ARRAY(g->arena, Node *, total);
  int k = 0;
  for (int i = 0; i < n->n_in; i++) {
    Node *x = n->in[i];
    for (int j = 0; IS_INNER(x) && j < x->n_in; j++) in[k++] = x->in[j];
    if (!IS_INNER(x)) in[k++] = x;
  }
#undef IS_INNER
  return graph_op(g, OP_CONCAT, in, total, &n->attrs, NULL);
}

Node *fold_shift(Graph *g, Node *n) {
  const int64_t *d = n->attrs.shift.delta;
  return !n->attrs.shift.raster && !d[0] && !d[1] && !d[2] ? n->in[0] : n;
}

/* The maximum of one element is the element; the sum of one element is 0 + x, which differs from x for -0. */
Node *fold_reduce(Graph *g, Node *n) {
  Node *x = n->in[0];
  int64_t axes = n->op == OP_ARGMAX ? (int64_t)1 << n->attrs.axis.axis : n->attrs.axes.axes;
  for (int i = 0; i < x->type.rank; i++) {
    if ((axes >> i & 1) && !is_one(x->type.dim[i])) return n;
  }
  if (n->op == OP_ARGMAX) return graph_fill(g, 0, &n->type);
  Node *one = graph_reshape(g, x, &n->type);
  return n->op == OP_MAX ? one : one ? graph_binary(g, OP_ADD, one, graph_fill_like(g, 0, one)) : NULL;
}

static bool swaps_last_two(const Node *n) {
  int rank = n->type.rank;
  if (n->op != OP_TRANSPOSE || rank < 2) return false;
  for (int i = 0; i < rank - 2; i++) {
    if (n->attrs.perm.perm[i] != i) return false;
  }
  return n->attrs.perm.perm[rank - 1] == rank - 2;
}

Node *fold_matmul(Graph *g, Node *n) {
  Node *a = n->in[0], *b = n->in[1];
  bool flip_a = swaps_last_two(a), flip_b = swaps_last_two(b);
  if (!flip_a && !flip_b) return n;
  return graph_matmul(g, flip_a ? a->in[0] : a, flip_b ? b->in[0] : b, flip_a != (n->attrs.matmul.trans_a != 0),
                      flip_b != (n->attrs.matmul.trans_b != 0));
}
