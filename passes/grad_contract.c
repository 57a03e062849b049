/* Gradients of products, convolutions and attention: again products, convolutions and attention. */
#include "passes/grad.h"

/* x with the last two axes exchanged. */
static Node *swap_last(Graph *g, Node *x) {
  if (!x) return NULL;
  int64_t perm[MAX_RANK];
  for (int i = 0; i < x->type.rank; i++) perm[i] = i;
  perm[x->type.rank - 1] = x->type.rank - 2;
  perm[x->type.rank - 2] = x->type.rank - 1;
  return graph_transpose(g, x, perm);
}

/* All axes but the last as one. */
static Node *as_rows(Graph *g, Node *x) {
  Type t = {.dtype = x->type.dtype, .rank = 2};
  if (!type_elems_range(&x->type, 0, x->type.rank - 1, &t.dim[0]))
    return graph_error(g, x->loc, "matmul: the number of rows is not affine in the number of samples");
  t.dim[1] = x->type.dim[x->type.rank - 1];
  return graph_reshape(g, x, &t);
}

/* For b [k, n] shared by all batches of a: its gradient sums over them, as one product over all rows. */
static Node *shared_grad_b(Graph *g, Node *a, Node *dy, bool trans_a, bool trans_b) {
  if (trans_a) a = swap_last(g, a);
  if (!a) return NULL;
  Node *rows = as_rows(g, a), *dy_rows = as_rows(g, dy);
  return trans_b ? graph_matmul(g, dy_rows, rows, true, false) : graph_matmul(g, rows, dy_rows, true, false);
}

bool grad_matmul(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *a = n->in[0], *b = n->in[1];
  bool ta = n->attrs.matmul.trans_a, tb = n->attrs.matmul.trans_b;
  bool is_shared = b->type.rank == 2 && a->type.rank > 2;
  if (ta && !is_shared) dx[0] = graph_matmul(g, b, dy, tb, true);
  else dx[0] = graph_matmul(g, dy, b, false, !tb);
  if (ta && is_shared) dx[0] = swap_last(g, dx[0]);
  if (is_shared) dx[1] = shared_grad_b(g, a, dy, ta, tb);
  else dx[1] = tb ? graph_matmul(g, dy, a, true, ta) : graph_matmul(g, a, dy, !ta, false);
  return dx[0] && dx[1];
}

/* How many elements of dy a place of x meets along an axis, at most. */
static int64_t most_met(Dim window, int64_t stride) { return (window.c + stride - 1) / stride; }

/* w [kh, kw, c, o] as the filter [m, n, o, s s c] that gives all elements s q + r of dx, r in a square of s x s, from what
 * is around element q of dy: its row j from the end is row s j + r of w, or zeros. */
static Node *turned_filter(Graph *g, Node *w, int64_t s) {
  const Dim *d = w->type.dim;
  int64_t m = most_met(d[0], s), n = most_met(d[1], s), perm[] = {0, 2, 5, 1, 3, 4};
  Attrs fill = {0}, turn = {.axes.axes = 1 << 0 | 1 << 2};
  fill.pad.hi[0] = dim_const(m * s - d[0].c);
  fill.pad.hi[1] = dim_const(n * s - d[1].c);
  Type split = {w->type.dtype, 6, {dim_const(m), dim_const(s), dim_const(n), dim_const(s), d[2], d[3]}};
  Type filter = {w->type.dtype, 4, {dim_const(m), dim_const(n), d[3], dim_const(s * s * d[2].c)}};
  Node *y = graph_op(g, OP_PAD, &w, 1, &fill, NULL);
  y = y ? graph_reshape(g, y, &split) : NULL;
  y = y ? graph_op(g, OP_REVERSE, &y, 1, &turn, NULL) : NULL;
  y = y ? graph_transpose(g, y, perm) : NULL;
  return y ? graph_reshape(g, y, &filter) : NULL;
}

/* y [b, q, p, s s c] with the squares where they belong: [b, q s, p s, c]. */
static Node *unfold_squares(Graph *g, Node *y, int64_t s) {
  const Dim *d = y->type.dim;
  int64_t perm[] = {0, 1, 3, 2, 4, 5};
  Dim c = dim_const(d[3].c / (s * s));
  Type split = {y->type.dtype, 6, {d[0], d[1], d[2], dim_const(s), dim_const(s), c}};
  Type joined = {y->type.dtype, 4, {d[0], dim_scale(d[1], s), dim_scale(d[2], s), c}};
  y = graph_reshape(g, y, &split);
  y = y ? graph_transpose(g, y, perm) : NULL;
  return y ? graph_reshape(g, y, &joined) : NULL;
}

/* y with rows and columns cut off, or zeros put, at the ends so that it is as large as x. */
static Node *fit_ends(Graph *g, Node *y, const Node *x) {
  Attrs cut = {0}, fill = {0};
  for (int i = 0; i < 4; i++) {
    int64_t have = y->type.dim[i].c, want = x->type.dim[i].c;
    bool is_side = i == 1 || i == 2;
    cut.slice.step[i] = 1;
    cut.slice.stop[i] = is_side && have > want ? x->type.dim[i] : y->type.dim[i];
    if (is_side && have < want) fill.pad.hi[i] = dim_const(want - have);
  }
  y = graph_op(g, OP_SLICE, &y, 1, &cut, NULL);
  return y ? graph_op(g, OP_PAD, &y, 1, &fill, NULL) : NULL;
}

/* Gradient of conv2d(x, w) for x [b, h, w, c]: dy convolved with the filter turned by 180 degrees and its channels
 * exchanged.  Of a stride s the s x s elements of dx that meet the same elements of dy are channels of one convolution. */
static Node *conv_grad_x(Graph *g, Node *x, Node *w, Node *dy, int64_t stride) {
  Attrs around = {0}, conv = {.conv.stride = 1};
  for (int i = 0; i < 2; i++)
    around.pad.lo[i + 1] = around.pad.hi[i + 1] = dim_const(most_met(w->type.dim[i], stride) - 1);
  Node *in[2] = {graph_op(g, OP_PAD, &dy, 1, &around, NULL), turned_filter(g, w, stride)};
  Node *y = in[0] && in[1] ? graph_op(g, OP_CONV2D, in, 2, &conv, NULL) : NULL;
  if (y && stride > 1) y = unfold_squares(g, y, stride);
  return y ? fit_ends(g, y, x) : NULL;
}

bool grad_conv2d(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = n->in[0], *w = n->in[1], *in[2] = {x, dy};
  Attrs a = {.conv = {n->attrs.conv.stride, w->type.dim[0].c, w->type.dim[1].c}};
  dx[0] = conv_grad_x(g, x, w, dy, n->attrs.conv.stride);
  dx[1] = graph_op(g, OP_CONV2D_GRAD_W, in, 2, &a, NULL);
  return dx[0] && dx[1];
}

/* conv2d_grad_w is linear in both operands; its gradients are the other two members of the family. */
bool grad_conv2d_grad_w(Graph *g, Node *n, Node *dw, Node **dx) {
  Node *x = n->in[0], *dy = n->in[1], *in[2] = {x, dw};
  Attrs a = {.conv.stride = n->attrs.conv.stride};
  dx[0] = conv_grad_x(g, x, dw, dy, n->attrs.conv.stride);
  dx[1] = graph_op(g, OP_CONV2D, in, 2, &a, NULL);
  return dx[0] && dx[1];
}

static Node *as_f32(Graph *g, Node *x) {
  return x && x->type.dtype != DTYPE_F32 ? graph_cast(g, x, DTYPE_F32) : x;
}

/* delta [.., heads], f32: sum over each head of y * dy. */
static Node *head_sums(Graph *g, Node *y, Node *dy, int64_t heads) {
  Type t = y->type;
  t.dim[t.rank - 1] = dim_const(heads);
  t.dim[t.rank++] = dim_const(y->type.dim[y->type.rank - 1].c / heads);
  t.dtype = DTYPE_F32;
  Node *left = as_f32(g, y), *product = graph_binary(g, OP_MUL, left, as_f32(g, dy));
  return product ? graph_sum(g, graph_reshape(g, product, &t), 1u << (t.rank - 1)) : NULL;
}

/* Sum of dx, a gradient for each head of the queries, over those that share a head of x. */
static Node *sum_shared(Graph *g, Node *dx, const Node *x, int64_t heads, int64_t kv_heads) {
  if (!dx || heads == kv_heads) return dx;
  Type t = x->type;
  t.dim[t.rank + 1] = dim_const(x->type.dim[t.rank - 1].c / kv_heads);
  t.dim[t.rank] = dim_const(heads / kv_heads);
  t.dim[t.rank - 1] = dim_const(kv_heads);
  t.rank += 2;
  return graph_reshape(g, graph_sum(g, graph_reshape(g, dx, &t), 1u << (t.rank - 2)), &x->type);
}

/* With p the weights, dp = dy . v, ds = p (dp - delta):  dq = scale sum ds k,  dk = scale sum ds q,  dv = sum p dy
 * (Dao et al., FlashAttention, 2022, appendix B).  A mask has no gradient; it is the last operand of all. */
bool grad_attend(Graph *g, Node *n, Node *dy, Node **dx) {
  const AttendAttrs *a = &n->attrs.attend;
  Node *q = n->in[0], *k = n->in[1], *v = n->in[2], *mask = attend_mask(n);
  int more = mask != NULL;
  Node *qk[] = {q, k, mask}, *lse = graph_op(g, OP_ATTEND_LSE, qk, 2 + more, &n->attrs, NULL);
  Node *delta = head_sums(g, n, dy, a->heads);
  if (!lse || !delta) return false;
  Node *all[] = {q, k, v, dy, lse, delta, mask}, *for_v[] = {q, k, dy, lse, mask};
  dx[0] = graph_op(g, OP_ATTEND_GRAD_Q, all, 6 + more, &n->attrs, NULL);
  dx[1] = sum_shared(g, graph_op(g, OP_ATTEND_GRAD_K, all, 6 + more, &n->attrs, NULL), k, a->heads, a->kv_heads);
  dx[2] = sum_shared(g, graph_op(g, OP_ATTEND_GRAD_V, for_v, 4 + more, &n->attrs, NULL), v, a->heads, a->kv_heads);
  return dx[0] && dx[1] && dx[2];
}
