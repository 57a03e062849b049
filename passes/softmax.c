/* softmax, log_softmax, cross_entropy and their gradients, relatively right however far one class is ahead.
 *
 * With m the largest element of a row, z = x - m and e = exp(z), the elements at z = 0 (nearly always one) are counted
 * and not summed: s = (their number - 1) + sum of e over the others, so that the sum over all is 1 + s, and what a sure
 * winner leaves to the rest is s and not 1 - 1.  log sum exp(x) = m + log1p(s).  What follows is written so that the
 * winner's own term drops out exactly, by subtraction of equal numbers; sums have the order of `sum`.
 *
 * The rules are gradients by hand for that reason; they can be differentiated again (z = 0 does not move at the winner,
 * so that counting it loses nothing). */
#include "passes/softmax.h"

#include "passes/grad.h"

typedef struct Row {
  Graph *g;
  Node *x;        /* [..., n] */
  uint32_t last;  /* the axis of n */
  Node *z, *e, *zero, *one;
  Node *is_top;   /* z = 0 */
  Node *n_top;    /* [...]: how many */
  Node *rest;     /* [...]: s above */
  Node *inverse;  /* [...]: 1 / (1 + s) */
} Row;

static Node *add(Row *r, Node *x, Node *y) { return graph_binary(r->g, OP_ADD, x, y); }
static Node *sub(Row *r, Node *x, Node *y) { return graph_binary(r->g, OP_SUB, x, y); }
static Node *mul(Row *r, Node *x, Node *y) { return graph_binary(r->g, OP_MUL, x, y); }
static Node *sum(Row *r, Node *x) { return graph_sum(r->g, x, r->last); }
static Node *spread(Row *r, Node *x) { return graph_spread(r->g, x, r->last, &r->x->type); }

/* Sums over the largest elements and over the others. */
static Node *sum_top(Row *r, Node *x) { return sum(r, graph_select(r->g, r->is_top, x, r->zero)); }
static Node *sum_rest(Row *r, Node *x) { return sum(r, graph_select(r->g, r->is_top, r->zero, x)); }

static Row row_of(Graph *g, Node *x) {
  Row r = {.g = g, .x = x, .last = 1u << (x->type.rank - 1)};
  Node *top = graph_max(g, x, r.last);
  r.z = sub(&r, x, spread(&r, top));
  r.e = graph_unary(g, OP_EXP, r.z);
  r.zero = graph_fill_like(g, 0, x);
  r.one = graph_fill_like(g, 1, x);
  return r;
}

/* A row of x with what stands beside its largest elements. */
static Row row_with_rest(Graph *g, Node *x) {
  Row r = row_of(g, x);
  r.is_top = graph_binary(g, OP_EQ, r.z, r.zero);
  r.n_top = sum_top(&r, r.one);
  Node *others = sum_rest(&r, r.e), *one = graph_fill_like(g, 1, r.n_top);
  if (!others || !one) return r;
  Node *ties = sub(&r, r.n_top, one);
  r.rest = add(&r, others, ties);
  r.inverse = graph_binary(g, OP_DIV, one, add(&r, r.rest, one));
  return r;
}

Node *expand_softmax(Graph *g, Node *n) {
  Row r = row_of(g, n->in[0]);
  Node *total = sum(&r, r.e);
  Node *inverse = graph_binary(g, OP_DIV, graph_fill_like(g, 1, total), total);
  return mul(&r, r.e, spread(&r, inverse));
}

Node *expand_log_softmax(Graph *g, Node *n) {
  Row r = row_with_rest(g, n->in[0]);
  Node *log_sum = graph_unary(g, OP_LOG1P, r.rest);
  return sub(&r, r.z, spread(&r, log_sum));
}

/* u8 [..., n]: where the class is the target, which is clamped to [0, n). */
static Node *is_target(Row *r, Node *target) {
  Type index = r->x->type;
  index.dtype = DTYPE_I32;
  int last = r->x->type.rank - 1;
  Node *at = graph_iota(r->g, last, &index);
  Node *low = graph_binary(r->g, OP_MAXIMUM, target, graph_fill_like(r->g, 0, target));
  Node *clamped = graph_binary(r->g, OP_MINIMUM, low, graph_fill_like(r->g, (double)(index.dim[last].c - 1), target));
  return graph_binary(r->g, OP_EQ, at, graph_spread(r->g, clamped, r->last, &index));
}

/* log1p(s) - z[target], where nothing cancels: z is at most 0.  z[target] is a masked sum over the row: no gather. */
Node *expand_cross_entropy(Graph *g, Node *n) {
  Row r = row_with_rest(g, n->in[0]);
  Node *log_sum = graph_unary(g, OP_LOG1P, r.rest);
  Node *picked = sum(&r, graph_select(g, is_target(&r, n->in[1]), r.z, r.zero));
  return sub(&r, log_sum, picked);
}

/* ---- gradients ---- */

/* dx = p (dy - sum p dy), where dy counts from its mean at the largest elements: p (c - sum p c), c = dy - mean. */
bool grad_softmax(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = grad_wide(g, n->in[0]), *dy_wide = grad_wide(g, dy);
  if (!x || !dy_wide) return false;
  Row r = row_with_rest(g, x);
  Node *p = graph_unary(g, OP_SOFTMAX, x);
  Node *at_top = sum_top(&r, dy_wide);
  Node *mean = graph_binary(g, OP_DIV, at_top, r.n_top);
  Node *c = sub(&r, dy_wide, spread(&r, mean));
  Node *pull = sum(&r, mul(&r, p, c));
  Node *moved = sub(&r, c, spread(&r, pull));
  return (dx[0] = grad_narrow(g, mul(&r, p, moved), n->in[0]));
}

/* dx = dy (1 - p) - p (sum of dy over the others), over 1 + s: (dy (s + (1 - e)) - e others) / (1 + s). */
bool grad_log_softmax(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = grad_wide(g, n->in[0]), *dy_wide = grad_wide(g, dy);
  if (!x || !dy_wide) return false;
  Row r = row_with_rest(g, x);
  Node *at_top = sum_top(&r, dy_wide), *below = sum_rest(&r, dy_wide);
  Node *beside = sub(&r, spread(&r, at_top), dy_wide);
  Node *others = add(&r, beside, spread(&r, below));
  Node *lacking = sub(&r, r.one, r.e);
  Node *own = mul(&r, dy_wide, add(&r, lacking, spread(&r, r.rest)));
  Node *whole = sub(&r, own, mul(&r, r.e, others));
  return (dx[0] = grad_narrow(g, mul(&r, whole, spread(&r, r.inverse)), n->in[0]));
}

/* dx = dy (p - (1 at the target)), over 1 + s: e, and at the target (e - 1) - s. */
bool grad_cross_entropy(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = grad_wide(g, n->in[0]), *dy_wide = grad_wide(g, dy);
  if (!x || !dy_wide) return false;
  Row r = row_with_rest(g, x);
  Node *lacking = sub(&r, r.e, r.one);
  Node *at_target = sub(&r, lacking, spread(&r, r.rest));
  Node *whole = graph_select(g, is_target(&r, n->in[1]), at_target, r.e);
  Node *scale = mul(&r, dy_wide, r.inverse);
  return (dx[0] = grad_narrow(g, mul(&r, whole, spread(&r, scale)), n->in[0]));
}
