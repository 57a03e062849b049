/* Constant folding and exact algebra, to a fixed point.
 *
 * needs: any form.  gives: the same form.  breaks: grad (detach disappears: gradients are taken before).
 * Only rules that keep every bit: also for -0, infinities and NaN (whose payload does not count).  So x+0, 0*x,
 * x-x and x*c1*c2 stay for floats unless the operand is known to make them exact.  Constants are computed with the
 * functions that kernels compute with (ir/scalar.h).
 * Every rule either removes a node or replaces it by a cheaper one of the same operands, so folding ends.
 * Movement is in fold_move.c. */
#include "passes/fold.h"

#include <float.h>
#include <math.h>

#include "ir/scalar.h"

static bool is_int(const Node *n) { return !dtype_is_float(n->type.dtype); }

static bool is_value(const Node *n, double v) {
  double x;
  return fold_is_fill(n, &x) && x == v && signbit(x) == signbit(v);
}

/* ---- constants ---- */

/* Arithmetic takes a denormal for 0, moves do not. */
static bool is_denormal(const Node *n, double v) { return !is_int(n) && v != 0 && fabs(v) < (double)FLT_MIN; }

/* The node as a constant, when all operands are: what a kernel would compute, to the bit.  Only which NaN is left to run
 * time. */
static Node *fold_constants(Graph *g, Node *n) {
  double v[MAP_OPERANDS] = {0};
  if (n->n_in < 1 || n->n_in > COUNT_OF(v)) return n;
  for (int i = 0; i < n->n_in; i++)
    if (!fold_is_fill(n->in[i], &v[i]) || is_denormal(n->in[i], v[i])) return n;
  double y = scalar_compute(n, v);
  return isnan(y) ? n : graph_fill(g, y, &n->type);
}

/* ---- algebra ---- */

/* Whether x is never -0, so that x + 0 is x: it is never negative, or it was an integer.  (That a sum of IEEE
 * numbers is not -0 would not do: negative results below the smallest normal number are flushed to -0.) */
static bool no_minus_zero(const Node *x, int depth) {
  if (is_int(x)) return true;
  if (depth == 0) return false;
  if (x->op == OP_FILL) return !signbit(x->attrs.fill.value);
  if (x->op == OP_EXP || x->op == OP_ABS) return true;
  if (x->op == OP_CAST) return is_int(x->in[0]) || no_minus_zero(x->in[0], depth - 1);
  if (x->op == OP_MUL) return x->in[0] == x->in[1];
  if (x->op == OP_SELECT) return no_minus_zero(x->in[1], depth - 1) && no_minus_zero(x->in[2], depth - 1);
  return (fold_keeps_values(x->op) || x->op == OP_DETACH) && no_minus_zero(x->in[0], depth - 1);
}

/* x + -0 = x for all x; x + 0 = x unless x is -0; x + -y = x - y by definition. */
Node *fold_add(Graph *g, Node *n) {
  Node *x = n->in[0], *y = n->in[1];
  if (x->op == OP_FILL && y->op != OP_FILL) return graph_binary(g, OP_ADD, y, x);   /* constants stand right */
  if (!is_int(n) && is_value(y, -0.0)) return x;
  if (is_value(y, 0) && no_minus_zero(x, 4)) return x;
  if (is_int(n)) return n;
  if (y->op == OP_NEG) return graph_binary(g, OP_SUB, x, y->in[0]);
  if (x->op == OP_NEG) return graph_binary(g, OP_SUB, y, x->in[0]);
  return n;
}

/* x - 0 = x also for -0; -0 - x = -x; x - -y = x + y; x - x = 0 for integers only (inf - inf). */
Node *fold_sub(Graph *g, Node *n) {
  Node *x = n->in[0], *y = n->in[1];
  if (is_value(y, 0)) return x;
  if (is_int(n)) return x == y ? graph_fill_like(g, 0, n) : n;
  if (is_value(x, -0.0)) return graph_unary(g, OP_NEG, y);
  if (y->op == OP_NEG) return graph_binary(g, OP_ADD, x, y->in[0]);
  return n;
}

/* x * 1 = x; x * -1 = -x; -x * -y = x * y; x * 0 = 0 for integers only. */
Node *fold_mul(Graph *g, Node *n) {
  Node *x = n->in[0], *y = n->in[1];
  if (x->op == OP_FILL && y->op != OP_FILL) return graph_binary(g, OP_MUL, y, x);
  if (is_value(y, 1)) return x;
  if (is_int(n)) return is_value(y, 0) ? y : n;
  if (is_value(y, -1)) return graph_unary(g, OP_NEG, x);
  if (x->op == OP_NEG && y->op == OP_NEG) return graph_binary(g, OP_MUL, x->in[0], y->in[0]);
  return n;
}

/* x / 1 = x; x / -1 = -x; x / 2^k = x * 2^-k, both round the same real number, while 2^-k is a normal f32. */
Node *fold_div(Graph *g, Node *n) {
  Node *x = n->in[0], *y = n->in[1];
  double v;
  int exponent;
  if (is_value(y, 1)) return x;
  if (is_int(n) || !fold_is_fill(y, &v)) return n;
  if (v == -1) return graph_unary(g, OP_NEG, x);
  if (fabs(frexp(v, &exponent)) == 0.5 && exponent > -120 && exponent < 120)
    return graph_binary(g, OP_MUL, x, graph_fill_like(g, 1 / v, x));
  return n;
}

/* fma(x, y, -0) = x * y: the sum with -0 changes no product.  fma(x, 1, y) = x + y: the product is exact. */
Node *fold_fma(Graph *g, Node *n) {
  Node *x = n->in[0], *y = n->in[1], *z = n->in[2];
  if (is_value(z, -0.0)) return graph_binary(g, OP_MUL, x, y);
  if (is_value(y, 1)) return graph_binary(g, OP_ADD, x, z);
  if (is_value(x, 1)) return graph_binary(g, OP_ADD, y, z);
  return n;
}

/* Whether every number of `from` is one of `to`. */
static bool lossless(DType from, DType to) {
  if (from == to || from == DTYPE_U8) return true;
  return from == DTYPE_BF16 && to == DTYPE_F32;
}

Node *fold_cast(Graph *g, Node *n) {
  Node *x = n->in[0];
  if (x->type.dtype == n->type.dtype) return x;
  if (x->op == OP_CAST && lossless(x->in[0]->type.dtype, x->type.dtype))
    return graph_cast(g, x->in[0], n->type.dtype);
  return n;
}

/* x < x is false even for NaN; x <= x and x == x are not true for it. */
Node *fold_compare(Graph *g, Node *n) {
  if (n->in[0] != n->in[1]) return n;
  if (n->op == OP_LT) return graph_fill(g, 0, &n->type);
  return is_int(n->in[0]) ? graph_fill(g, 1, &n->type) : n;
}

Node *fold_select(Graph *g, Node *n) {
  double c;
  if (n->in[1] == n->in[2]) return n->in[1];
  if (fold_is_fill(n->in[0], &c)) return n->in[c != 0 ? 1 : 2];
  return n;
}

Node *fold_none(Graph *g, Node *n) { return n; }
Node *fold_detach(Graph *g, Node *n) { return n->in[0]; }
Node *fold_neg(Graph *g, Node *n) { return n->in[0]->op == OP_NEG ? n->in[0]->in[0] : n; }
Node *fold_floor(Graph *g, Node *n) { return n->in[0]->op == OP_FLOOR ? n->in[0] : n; }

/* |-x| = |x|; but bytes have no sign: all of them are their own size. */
Node *fold_abs(Graph *g, Node *n) {
  Node *x = n->in[0];
  if (x->op == OP_ABS || x->type.dtype == DTYPE_U8) return x;
  return x->op == OP_NEG ? graph_unary(g, OP_ABS, x->in[0]) : n;
}

/* Of two equal operands one. */
Node *fold_same(Graph *g, Node *n) { return n->in[0] == n->in[1] ? n->in[0] : n; }

static const FoldRule fold_rule[OP_COUNT] = {
#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) fold_##fold,
#include "ir/ops.def"
#undef OP
};

static Node *fold_node(Graph *g, Node *n) {
  double v;
  if (op_info[n->op].class == CLASS_MAP) {
    Node *y = fold_constants(g, n);
    if (y != n) return y;
  }
  if (fold_keeps_values(n->op) && fold_is_fill(n->in[0], &v)) return graph_fill(g, v, &n->type);
  return fold_rule[n->op](g, n);
}

/* A result of a rule may have operands that are new, but these are constants; so only the result itself is tried
 * again. */
static Node *fold_visit(void *ctx, Graph *g, Node *old, Node *const *in) {
  Node *n = node_rebuild(g, old, in);
  for (Node *before = NULL; n && n != before;) {
    before = n;
    n = fold_node(g, n);
  }
  return n;
}

static bool same_function(const Func *x, const Func *y) {
  for (int i = 0; i < x->n_out; i++) {
    if (x->out[i].node != y->out[i].node) return false;
  }
  for (int i = 0; i < x->n_update; i++) {
    if (x->update[i].value != y->update[i].value) return false;
  }
  return true;
}

Func *pass_fold(Func *f) {
  for (;;) {
    Func *to = func_rewrite(f, fold_visit, NULL);
    if (!to || same_function(f, to)) return to;
    f = to;
  }
}
