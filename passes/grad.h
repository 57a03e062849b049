/* Inside of reverse mode: what grad.c (the sweep) and the rules share. */
#ifndef NUWA_GRAD_H
#define NUWA_GRAD_H

#include "passes/passes.h"

/* A rule: dx[i] becomes the gradient for operand i of n given the gradient dy of its result; NULL where there is
 * none. False after a diagnostic. */
typedef bool (*GradRule)(Graph *g, Node *n, Node *dy, Node **dx);

/* Gradients of sum(y * dy) for wrt.  Nodes of wrt count as independent when `stop` is set, else paths through them
 * count too.  out[i] is NULL where y does not depend on wrt[i]. */
bool grad_sweep(Graph *g, Node *y, Node *dy, Node *const *wrt, int n, bool stop, Node **out);

/* x in f32, so that of what follows only the result is rounded; and that result in the type of x again. */
Node *grad_wide(Graph *g, Node *x);
Node *grad_narrow(Graph *g, Node *dx, const Node *x);

/* Rules in grad_map.c, grad_move.c, grad_contract.c, softmax.c. */
bool grad_reshape(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_transpose(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_broadcast(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_slice(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_pad(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_reverse(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_concat(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_gather(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_shift(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_sum(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_max(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_scatter_add(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_matmul(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_conv2d(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_conv2d_grad_w(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_attend(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_neg(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_abs(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_exp(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_log(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_log1p(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_sqrt(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_tanh(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_erf(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_normal_cdf(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_sigmoid(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_silu(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_softmax(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_log_softmax(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_cross_entropy(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_sin(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_cos(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_cast(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_add(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_sub(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_mul(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_div(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_maximum(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_minimum(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_pow(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_fma(Graph *g, Node *n, Node *dy, Node **dx);
bool grad_select(Graph *g, Node *n, Node *dy, Node **dx);

#endif
