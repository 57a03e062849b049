/* Composites -> primitives.
 *
 * needs: any form.  gives: FORM_PRIMITIVE.  breaks: nothing.
 * Decides the numerically stable form of each composite, and thereby its order of summation (sums are taken as the
 * primitives `sum` and `max` define).  Which of the resulting nodes share a kernel is fuse's decision: rows are
 * reduced to values that come back by reshape and broadcast, which is the shape that fuse recognises.
 *
 * A composite of bf16 is that of f32 between casts: its operands are exact in f32, and only its result is rounded.
 *
 * A long sum is several, so that there is independent work: see sum_in_steps.
 *
 * One rule for each composite of ops.def: expand_<scalar>, here or in softmax.c.  A missing one fails to compile. */
#include "passes/softmax.h"

static Node *plus(Graph *g, Node *x, double add) {
  return x ? graph_binary(g, OP_ADD, x, graph_fill_like(g, add, x)) : NULL;
}

static Node *reciprocal(Graph *g, Node *x) {
  return x ? graph_binary(g, OP_DIV, graph_fill_like(g, 1, x), x) : NULL;
}

static uint32_t last_axis(const Node *x) { return 1u << (x->type.rank - 1); }

/* The shape that `axes` of x span. */
static Type axes_type(const Node *x, uint32_t axes) {
  Type t = {x->type.dtype, 0, {{0}}};
  for (int i = 0; i < x->type.rank; i++) {
    if (axes >> i & 1) t.dim[t.rank++] = x->type.dim[i];
  }
  return t;
}

/* x / number of elements of `counted`: a constant, or where samples or rows are counted too, a sum over those (of
 * whole numbers, exact below 2^24). */
static Node *divide_by_count(Graph *g, Node *x, const Type *counted) {
  if (!x) return NULL;
  double each = 1;
  Type symbolic = {counted->dtype, 0, {{0}}};
  for (int i = 0; i < counted->rank; i++) {
    if (dim_is_const(counted->dim[i])) each *= (double)counted->dim[i].c;
    else symbolic.dim[symbolic.rank++] = counted->dim[i];
  }
  if (!symbolic.rank) return graph_binary(g, OP_DIV, x, graph_fill_like(g, each, x));
  Node *total = graph_sum(g, graph_fill(g, each, &symbolic), (1u << symbolic.rank) - 1);
  return graph_binary(g, OP_DIV, x, graph_broadcast(g, total, &x->type));
}

/* A sum that also covers the last axis takes that first: rows are then independent work. */
static Node *expand_mean(Graph *g, Node *n) {
  Node *x = n->in[0];
  uint32_t axes = (uint32_t)n->attrs.axes.axes;
  if (!axes) return x;
  uint32_t last = last_axis(x);
  Node *sum = axes & last && axes != last ? graph_sum(g, graph_sum(g, x, last), axes & ~last) : graph_sum(g, x, axes);
  Type counted = axes_type(x, axes);
  return divide_by_count(g, sum, &counted);
}

/* e / (1 + e) or 1 / (1 + e), e = exp(-|x|): right in both tails, and so is the derivative, e / (1 + e)^2.  That of
 * min(-x, x) at 0 is -1, which belongs to the second form. */
static Node *sigmoid_of(Graph *g, Node *x) {
  Node *e = graph_unary(g, OP_EXP, graph_binary(g, OP_MINIMUM, graph_unary(g, OP_NEG, x), x));
  Node *one = graph_fill_like(g, 1, x), *below = graph_binary(g, OP_LT, x, graph_fill_like(g, 0, x));
  Node *top = graph_select(g, below, e, one);
  return graph_binary(g, OP_DIV, top, graph_binary(g, OP_ADD, e, one));
}

static Node *expand_sigmoid(Graph *g, Node *n) { return sigmoid_of(g, n->in[0]); }

static Node *expand_silu(Graph *g, Node *n) { return graph_binary(g, OP_MUL, n->in[0], sigmoid_of(g, n->in[0])); }

static Node *expand_gelu(Graph *g, Node *n) {
  return graph_binary(g, OP_MUL, n->in[0], graph_unary(g, OP_NORMAL_CDF, n->in[0]));
}

/* A selection, so that the derivative at 0 is 0, and NaN comes through. */
static Node *expand_relu(Graph *g, Node *n) {
  Node *x = n->in[0], *zero = graph_fill_like(g, 0, x);
  return graph_select(g, graph_binary(g, OP_LE, x, zero), zero, x);
}

/* 1 / sqrt(variance + eps) */
static Node *inverse_deviation(Graph *g, Node *variance, double eps) {
  return reciprocal(g, graph_unary(g, OP_SQRT, plus(g, variance, eps)));
}

/* normal * gain + bias, both over the last axis. */
static Node *gain_and_bias(Graph *g, Node *normal, Node *gain, Node *bias) {
  if (!normal) return NULL;
  Node *y = graph_binary(g, OP_MUL, normal, graph_broadcast(g, gain, &normal->type));
  return graph_binary(g, OP_ADD, y, graph_broadcast(g, bias, &normal->type));
}

/* The variance in two passes, as the mean of squared distances from the mean: no cancellation. */
static Node *expand_layer_norm(Graph *g, Node *n) {
  Node *x = n->in[0];
  uint32_t last = last_axis(x);
  Type row = axes_type(x, last);
  Node *mean = divide_by_count(g, graph_sum(g, x, last), &row);
  Node *c = graph_binary(g, OP_SUB, x, graph_spread(g, mean, last, &x->type));
  if (!c) return NULL;
  Node *variance = divide_by_count(g, graph_sum(g, graph_binary(g, OP_MUL, c, c), last), &row);
  Node *r = inverse_deviation(g, variance, n->attrs.norm.eps);
  return gain_and_bias(g, graph_binary(g, OP_MUL, c, graph_spread(g, r, last, &x->type)), n->in[1], n->in[2]);
}

/* Mean of x [b,h,w,c] over h, w and the channels of a group -> [b,groups].  Over h and w first, which keeps channels
 * side by side in the vectors, then over the few channels of a group. */
static Node *group_mean(Graph *g, Node *x, int64_t groups) {
  Node *by_channel = graph_sum(g, x, 1u << 1 | 1u << 2);
  if (!by_channel) return NULL;
  const Dim *dim = x->type.dim;
  int64_t width = dim[3].c / groups;
  Type split = type_make(x->type.dtype, 3, (Dim[]){dim[0], dim_const(groups), dim_const(width)});
  Node *sum = graph_sum(g, graph_reshape(g, by_channel, &split), 1u << 2);
  Type counted = type_make(x->type.dtype, 3, (Dim[]){dim[1], dim[2], dim_const(width)});
  return divide_by_count(g, sum, &counted);
}

/* y [b,groups] -> [b,h,w,c] */
static Node *group_spread(Graph *g, Node *y, Node *x, int64_t groups) {
  const Dim *dim = x->type.dim;
  int64_t width = dim[3].c / groups;
  DType t = x->type.dtype;
  Type split = type_make(t, 3, (Dim[]){dim[0], dim_const(groups), dim_const(width)});
  Type row = type_make(t, 4, (Dim[]){dim[0], dim_const(1), dim_const(1), dim[3]});
  Node *wide = graph_spread(g, y, 1u << 2, &split);
  return graph_broadcast(g, graph_reshape(g, wide, &row), &x->type);
}

static Node *expand_group_norm(Graph *g, Node *n) {
  Node *x = n->in[0];
  int64_t groups = n->attrs.norm.groups;
  Node *c = graph_binary(g, OP_SUB, x, group_spread(g, group_mean(g, x, groups), x, groups));
  Node *square = graph_binary(g, OP_MUL, c, c);
  if (!square) return NULL;
  Node *r = inverse_deviation(g, group_mean(g, square, groups), n->attrs.norm.eps);
  return gain_and_bias(g, graph_binary(g, OP_MUL, c, group_spread(g, r, x, groups)), n->in[1], n->in[2]);
}

typedef Node *(*ExpandFn)(Graph *g, Node *n);

#define EXPAND_LEAF(id, rule)
#define EXPAND_MAP(id, rule)
#define EXPAND_MOVE(id, rule)
#define EXPAND_REDUCE(id, rule)
#define EXPAND_SCATTER(id, rule)
#define EXPAND_CONTRACT(id, rule)
#define EXPAND_ATTEND(id, rule)
#define EXPAND_GRADIENT(id, rule)
#define EXPAND_COMPOSITE(id, rule) [OP_##id] = expand_##rule,

static const ExpandFn expand_rule[OP_COUNT] = {
#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) EXPAND_##class(id, scalar)
#include "ir/ops.def"
#undef OP
};

/* The composite over operands in f32; n itself when they are. */
static Node *in_f32(Graph *g, Node *n) {
  if (n->in[0]->type.dtype != DTYPE_BF16) return n;
  Node *in[3];
  BUG_IF(n->n_in > COUNT_OF(in), "%s has %d operands", op_info[n->op].text, n->n_in);
  for (int i = 0; i < n->n_in; i++) {
    in[i] = n->in[i]->type.dtype == DTYPE_BF16 ? graph_cast(g, n->in[i], DTYPE_F32) : n->in[i];
    if (!in[i]) return NULL;
  }
  return graph_op(g, n->op, in, n->n_in, &n->attrs, NULL);
}

Node *expand_node(Graph *g, Node *n) {
  BUG_IF(!expand_rule[n->op], "%s is no composite", op_info[n->op].text);
  const Loc *here = g->here;
  g->here = n->loc;
  Node *wide = in_f32(g, n), *y = wide ? expand_rule[n->op](g, wide) : NULL;
  if (y && y->type.dtype != n->type.dtype) y = graph_cast(g, y, n->type.dtype);
  g->here = here;
  return y;
}

/* ---- long sums ---- */

enum { SUM_ALONE = 4096, SUM_FIRST = 1024 };

/* The last of the axes that are summed, up to SUM_FIRST elements together (of one axis any number); 0: they are all,
 * or their number is not known. */
static uint32_t first_axes(const Type *x, uint32_t axes) {
  uint32_t first = 0;
  int64_t n = 1;
  for (int i = x->rank - 1; i >= 0; i--) {
    if (!(axes >> i & 1)) continue;
    bool fits = dim_is_const(x->dim[i]) && (n == 1 || x->dim[i].c <= SUM_FIRST / n);
    if (!fits) return n > 1 ? first : 0;
    n *= x->dim[i].c;
    first |= 1u << i;
  }
  return 0;
}

/* Does a sum over these axes run over samples, or over a whole tensor, and over many elements? */
static bool is_long(const Type *x, uint32_t axes) {
  double n = 1;
  int outermost = 0;
  while (outermost < x->rank && dim_equal(x->dim[outermost], dim_const(1))) outermost++;
  for (int i = 0; i < x->rank; i++)
    if (axes >> i & 1) n *= dim_is_const(x->dim[i]) ? (double)x->dim[i].c : SUM_ALONE + 1;
  return outermost < x->rank && axes >> outermost & 1 && n > SUM_ALONE;
}

/* Axes `axes` of a tensor that has lost axes `gone`. */
static uint32_t axes_without(uint32_t axes, uint32_t gone) {
  uint32_t left = 0;
  for (int i = 0, at = 0; i < MAX_RANK; i++) {
    if (gone >> i & 1) continue;
    left |= (axes >> i & 1) << at++;
  }
  return left;
}

/* A sum has 16 chains; over all samples, or all elements of a weight, they would be long and all the work there is.
 * So it is taken over its last axes first, up to SUM_FIRST elements, then over what is left in the same way.  In f32
 * between: bf16 is rounded once. */
static Node *sum_in_steps(Graph *g, Node *x, uint32_t axes) {
  uint32_t first = is_long(&x->type, axes) ? first_axes(&x->type, axes) : 0;
  if (!first) return graph_sum(g, x, axes);
  Node *part = graph_sum(g, x, first);
  return part ? sum_in_steps(g, part, axes_without(axes & ~first, first)) : NULL;
}

static Node *expand_sum(Graph *g, Node *n) {
  Node *x = n->in[0];
  uint32_t axes = (uint32_t)n->attrs.axes.axes;
  if (!dtype_is_float(x->type.dtype) || !is_long(&x->type, axes) || !first_axes(&x->type, axes)) return n;
  const Loc *here = g->here;
  g->here = n->loc;
  if (x->type.dtype == DTYPE_BF16) x = graph_cast(g, x, DTYPE_F32);
  Node *y = x ? sum_in_steps(g, x, axes) : NULL;
  if (y && y->type.dtype != n->type.dtype) y = graph_cast(g, y, n->type.dtype);
  g->here = here;
  return y;
}

static Node *expand_visit(void *ctx, Graph *g, Node *n, Node *const *in) {
  Node *same = node_rebuild(g, n, in);
  if (same && same->op == OP_SUM) return expand_sum(g, same);
  return same && op_info[n->op].class == CLASS_COMPOSITE ? expand_node(g, same) : same;
}

Func *pass_expand(Func *f) { return func_rewrite(f, expand_visit, NULL); }
