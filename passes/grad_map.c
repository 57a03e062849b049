/* Gradients of the elementwise ops.  A rule may return a gradient for an operand that needs none; the sweep drops it.
 */
#include <math.h>

#include "passes/grad.h"

static Node *sub(Graph *g, Node *x, Node *y) { return graph_binary(g, OP_SUB, x, y); }
static Node *mul(Graph *g, Node *x, Node *y) { return graph_binary(g, OP_MUL, x, y); }
static Node *divide(Graph *g, Node *x, Node *y) { return graph_binary(g, OP_DIV, x, y); }
static Node *neg(Graph *g, Node *x) { return graph_unary(g, OP_NEG, x); }
static Node *like(Graph *g, double value, Node *n) { return n ? graph_fill_like(g, value, n) : NULL; }

bool grad_neg(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = neg(g, dy)); }

/* 0 at 0. */
bool grad_abs(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = n->in[0], *zero = like(g, 0.0, x);
  Node *positive = graph_select(g, graph_binary(g, OP_LT, zero, x), dy, zero);
  return (dx[0] = graph_select(g, graph_binary(g, OP_LT, x, zero), neg(g, dy), positive));
}

bool grad_exp(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = mul(g, dy, n)); }

bool grad_log(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = divide(g, dy, n->in[0])); }

bool grad_sqrt(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = divide(g, mul(g, dy, like(g, 0.5, n)), n)); }

/* 1 - tanh^2 */
bool grad_tanh(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *square = mul(g, n, n);   /* by itself: compilers differ in which argument they evaluate first */
  return (dx[0] = mul(g, dy, sub(g, like(g, 1.0, n), square)));
}

/* 2 / sqrt(pi) exp(-x^2) */
bool grad_erf(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = n->in[0];
  Node *bell = graph_unary(g, OP_EXP, neg(g, mul(g, x, x)));
  return (dx[0] = mul(g, dy, mul(g, like(g, 2.0 / sqrt(acos(-1.0)), x), bell)));
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

/* To the larger operand; to the first where they are equal. */
bool grad_maximum(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *second = graph_binary(g, OP_LT, n->in[0], n->in[1]), *zero = like(g, 0.0, dy);
  dx[0] = graph_select(g, second, zero, dy);
  dx[1] = graph_select(g, second, dy, zero);
  return dx[0] && dx[1];
}

bool grad_minimum(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *second = graph_binary(g, OP_LT, n->in[1], n->in[0]), *zero = like(g, 0.0, dy);
  dx[0] = graph_select(g, second, zero, dy);
  dx[1] = graph_select(g, second, dy, zero);
  return dx[0] && dx[1];
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
