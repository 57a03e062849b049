/* Gradients of the elementwise ops.  A rule may return a gradient for an operand that needs none; the sweep drops it.
 */
#include <math.h>

#include "passes/grad.h"

static Node *mul(Graph *g, Node *x, Node *y) { return graph_binary(g, OP_MUL, x, y); }
static Node *divide(Graph *g, Node *x, Node *y) { return graph_binary(g, OP_DIV, x, y); }
static Node *neg(Graph *g, Node *x) { return graph_unary(g, OP_NEG, x); }
static Node *like(Graph *g, double value, Node *n) { return n ? graph_fill_like(g, value, n) : NULL; }

bool grad_neg(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = neg(g, dy)); }

/* 0 at 0; NaN, whose value comes through, lets its gradient through. */
bool grad_abs(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = n->in[0], *zero = like(g, 0.0, x);
  Node *not_negative = graph_select(g, graph_binary(g, OP_EQ, x, zero), zero, dy), *minus = neg(g, dy);
  return (dx[0] = graph_select(g, graph_binary(g, OP_LT, x, zero), minus, not_negative));
}

bool grad_exp(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = mul(g, dy, n)); }

bool grad_log(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = divide(g, dy, n->in[0])); }

bool grad_log1p(Graph *g, Node *n, Node *dy, Node **dx) {
  return (dx[0] = divide(g, dy, graph_binary(g, OP_ADD, n->in[0], like(g, 1.0, n))));
}

bool grad_sqrt(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = divide(g, mul(g, dy, like(g, 0.5, n)), n)); }

/* 1 - tanh^2 = 4 u / (1 + u)^2, u = exp(-2 |x|): nothing cancels where tanh is nearly 1. */
bool grad_tanh(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *a = graph_unary(g, OP_ABS, n->in[0]);   /* one by one: compilers differ in which argument they evaluate first */
  Node *u = graph_unary(g, OP_EXP, mul(g, a, like(g, -2.0, n))), *sum = graph_binary(g, OP_ADD, u, like(g, 1.0, n));
  Node *four = mul(g, u, like(g, 4.0, n)), *square = mul(g, sum, sum);
  return (dx[0] = mul(g, dy, divide(g, four, square)));
}

/* by * exp(-rate x^2), where the exponential makes up for what rounding took from the square: in the tails it would be
 * off by as many units as the exponent says.  Beyond 40 the square is that of 40, the result 0 in f64 too. */
static Node *bell(Graph *g, Node *x, double rate, double by) {
  Node *size = graph_unary(g, OP_ABS, x);
  Node *a = graph_binary(g, OP_MINIMUM, size, like(g, 40.0, x)), *square = mul(g, a, a);
  if (!square) return NULL;
  Node *product[] = {a, a, neg(g, square)};
  Node *lost = graph_op(g, OP_FMA, product, 3, NULL, NULL);
  Node *e = graph_unary(g, OP_EXP, mul(g, square, like(g, -rate, x)));
  Node *mended[] = {mul(g, e, like(g, -rate, x)), lost, e};
  if (!mended[0] || !lost) return NULL;
  Node *whole = graph_op(g, OP_FMA, mended, 3, NULL, NULL);
  return mul(g, whole, like(g, by, x));
}

/* e / (1 + e)^2, e = exp(-|x|), which expand_sigmoid has too. */
static Node *sigmoid_slope(Graph *g, Node *x) {
  Node *e = graph_unary(g, OP_EXP, graph_binary(g, OP_MINIMUM, neg(g, x), x));
  Node *sum = graph_binary(g, OP_ADD, e, like(g, 1.0, x));
  return divide(g, e, mul(g, sum, sum));
}

Node *grad_wide(Graph *g, Node *x) { return x->type.dtype == DTYPE_BF16 ? graph_cast(g, x, DTYPE_F32) : x; }

Node *grad_narrow(Graph *g, Node *dx, const Node *x) {
  return dx && x->type.dtype == DTYPE_BF16 ? graph_cast(g, dx, DTYPE_BF16) : dx;
}

bool grad_sigmoid(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = grad_wide(g, n->in[0]), *dy_wide = grad_wide(g, dy);
  return (dx[0] = grad_narrow(g, mul(g, dy_wide, sigmoid_slope(g, x)), n));
}

/* sigmoid(x) + x sigmoid'(x) */
bool grad_silu(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = grad_wide(g, n->in[0]), *dy_wide = grad_wide(g, dy);
  Node *value = graph_unary(g, OP_SIGMOID, x), *rest = mul(g, x, sigmoid_slope(g, x));
  return (dx[0] = grad_narrow(g, mul(g, dy_wide, graph_binary(g, OP_ADD, value, rest)), n));
}

/* 2 / sqrt(pi) exp(-x^2) */
bool grad_erf(Graph *g, Node *n, Node *dy, Node **dx) {
  return (dx[0] = mul(g, dy, bell(g, n->in[0], 1, 2.0 / sqrt(acos(-1.0)))));
}

/* exp(-x^2 / 2) / sqrt(2 pi) */
bool grad_normal_cdf(Graph *g, Node *n, Node *dy, Node **dx) {
  return (dx[0] = mul(g, dy, bell(g, n->in[0], 0.5, sqrt(0.5 / acos(-1.0)))));
}

bool grad_sin(Graph *g, Node *n, Node *dy, Node **dx) {
  return (dx[0] = mul(g, dy, graph_unary(g, OP_COS, n->in[0])));
}

bool grad_cos(Graph *g, Node *n, Node *dy, Node **dx) {
  return (dx[0] = neg(g, mul(g, dy, graph_unary(g, OP_SIN, n->in[0]))));
}

/* Between floats the gradient is cast back; integers have none. */
bool grad_cast(Graph *g, Node *n, Node *dy, Node **dx) {
  if (!dtype_is_float(n->in[0]->type.dtype) || !dtype_is_float(n->type.dtype)) return true;
  return (dx[0] = graph_cast(g, dy, n->in[0]->type.dtype));
}

bool grad_add(Graph *g, Node *n, Node *dy, Node **dx) {
  dx[0] = dx[1] = dy;
  return true;
}

bool grad_sub(Graph *g, Node *n, Node *dy, Node **dx) {
  dx[0] = dy;
  return (dx[1] = neg(g, dy));
}

bool grad_mul(Graph *g, Node *n, Node *dy, Node **dx) {
  dx[0] = mul(g, dy, n->in[1]);
  dx[1] = mul(g, dy, n->in[0]);
  return dx[0] && dx[1];
}

/* d(x/y) = dx/y - (x/y) dy/y */
bool grad_div(Graph *g, Node *n, Node *dy, Node **dx) {
  dx[0] = divide(g, dy, n->in[1]);
  dx[1] = neg(g, mul(g, dx[0], n));
  return dx[0] && dx[1];
}

/* y x^(y-1), 0 for y = 0; x^y log x, 0 where x is 0 and y is not below it. */
bool grad_pow(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = grad_wide(g, n->in[0]), *y = grad_wide(g, n->in[1]), *wide = grad_wide(g, dy), *zero = like(g, 0.0, x);
  Node *less_one = graph_binary(g, OP_SUB, y, like(g, 1.0, y)), *slope = mul(g, y, graph_binary(g, OP_POW, x, less_one));
  Node *by_x = graph_select(g, graph_binary(g, OP_EQ, y, zero), zero, mul(g, wide, slope));
  Node *by_y = mul(g, wide, mul(g, graph_binary(g, OP_POW, x, y), graph_unary(g, OP_LOG, x)));
  Node *kept = graph_select(g, graph_binary(g, OP_LE, zero, y), zero, by_y);
  dx[0] = grad_narrow(g, by_x, n);
  return (dx[1] = grad_narrow(g, graph_select(g, graph_binary(g, OP_EQ, x, zero), kept, by_y), n)) && dx[0];
}

/* To the operand whose value was taken: y where it is NaN or wins, else x. */
static bool grad_choice(Graph *g, Node *y, Node *y_is_taken, Node *dy, Node **dx) {
  Node *zero = like(g, 0.0, dy), *y_is_number = graph_binary(g, OP_EQ, y, y);
  dx[0] = graph_select(g, y_is_number, graph_select(g, y_is_taken, zero, dy), zero);
  dx[1] = graph_select(g, y_is_number, graph_select(g, y_is_taken, dy, zero), dy);
  return dx[0] && dx[1];
}

bool grad_maximum(Graph *g, Node *n, Node *dy, Node **dx) {
  return grad_choice(g, n->in[1], graph_binary(g, OP_LT, n->in[0], n->in[1]), dy, dx);
}

bool grad_minimum(Graph *g, Node *n, Node *dy, Node **dx) {
  return grad_choice(g, n->in[1], graph_binary(g, OP_LT, n->in[1], n->in[0]), dy, dx);
}

bool grad_fma(Graph *g, Node *n, Node *dy, Node **dx) {
  dx[0] = mul(g, dy, n->in[1]);
  dx[1] = mul(g, dy, n->in[0]);
  dx[2] = dy;
  return dx[0] && dx[1];
}

bool grad_select(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *zero = like(g, 0.0, dy);
  dx[1] = graph_select(g, n->in[0], dy, zero);
  dx[2] = graph_select(g, n->in[0], zero, dy);
  return dx[1] && dx[2];
}
