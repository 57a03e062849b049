/* Meaning of matrix products, convolutions and composites.  Loops are ordered so that the inner one runs over the
 * columns of the result: every element of the result is still one chain over k, in order. */
#include <math.h>

#include "ir/eval.h"

/* y[j] += x * w[j] */
static void axpy(double *y, double x, const double *w, int64_t n) {
  for (int64_t j = 0; j < n; j++) y[j] += x * w[j];
}

/* b [k, n], stored [n, k] when transposed, as rows of n. */
static const double *rows_of_b(Eval *e, const double *b, double *room, int64_t k, int64_t n) {
  if (!e->node->attrs.matmul.trans_b) return b;
  for (int64_t j = 0; j < n; j++)
    for (int64_t i = 0; i < k; i++) room[i * n + j] = b[j * k + i];
  return room;
}

bool eval_matmul(Eval *e) {
  const Tensor *a = e->in[0], *b = e->in[1], *out = e->out;
  bool trans_a = e->node->attrs.matmul.trans_a;
  int64_t m = out->dim[out->rank - 2], n = out->dim[out->rank - 1], k = a->dim[a->rank - (trans_a ? 2 : 1)],
          batch = 1;
  for (int i = 0; i < out->rank - 2; i++) batch *= out->dim[i];
  double *room = ARENA_ARRAY(e->arena, double, k * n);
  for (int64_t g = 0; g < batch; g++) {
    const double *pa = a->data + g * m * k;
    const double *pb = rows_of_b(e, b->data + (b->rank > 2 ? g * k * n : 0), room, k, n);
    for (int64_t i = 0; i < m; i++)
      for (int64_t l = 0; l < k; l++)
        axpy(out->data + (g * m + i) * n, trans_a ? pa[l * m + i] : pa[i * k + l], pb + l * n, n);
  }
  return true;
}

/* Calls body for every pair of an output pixel and an input pixel under the kernel: pixel y of [b, oh, ow], pixel px
 * of [b, h, w], place w = ky * kw + kx in the kernel. */
typedef void (*ConvBody)(void *ctx, int64_t y, int64_t px, int64_t w);

typedef struct ConvShape {
  int64_t b, h, w, oh, ow, kh, kw, stride;
} ConvShape;

static void conv_walk(const ConvShape *s, ConvBody body, void *ctx) {
  for (int64_t b = 0; b < s->b; b++)
    for (int64_t y = 0; y < s->oh; y++)
      for (int64_t x = 0; x < s->ow; x++)
        for (int64_t ky = 0; ky < s->kh; ky++)
          for (int64_t kx = 0; kx < s->kw; kx++)
            body(ctx, (b * s->oh + y) * s->ow + x, (b * s->h + y * s->stride + ky) * s->w + x * s->stride + kx,
                 ky * s->kw + kx);
}

typedef struct Conv {
  const double *x, *other;   /* other: w, or dy */
  double *out;
  int64_t c, o;
} Conv;

static void conv_forward(void *ctx, int64_t y, int64_t px, int64_t w) {
  const Conv *v = ctx;
  for (int64_t i = 0; i < v->c; i++)
    axpy(v->out + y * v->o, v->x[px * v->c + i], v->other + (w * v->c + i) * v->o, v->o);
}

static void conv_backward(void *ctx, int64_t y, int64_t px, int64_t w) {
  const Conv *v = ctx;
  for (int64_t i = 0; i < v->c; i++)
    axpy(v->out + (w * v->c + i) * v->o, v->x[px * v->c + i], v->other + y * v->o, v->o);
}

bool eval_conv2d(Eval *e) {
  const Tensor *x = e->in[0], *w = e->in[1], *out = e->out;
  Conv v = {x->data, w->data, out->data, x->dim[3], w->dim[3]};
  ConvShape s = {x->dim[0], x->dim[1], x->dim[2], out->dim[1], out->dim[2], w->dim[0], w->dim[1],
                 e->node->attrs.conv.stride};
  conv_walk(&s, conv_forward, &v);
  return true;
}

bool eval_conv2d_grad_w(Eval *e) {
  const Tensor *x = e->in[0], *dy = e->in[1], *out = e->out;
  Conv v = {x->data, dy->data, out->data, x->dim[3], dy->dim[3]};
  ConvShape s = {x->dim[0], x->dim[1], x->dim[2], dy->dim[1], dy->dim[2], out->dim[0], out->dim[1],
                 e->node->attrs.conv.stride};
  conv_walk(&s, conv_backward, &v);
  return true;
}

/* ---- composites, each by its own formula: expansions are tested against these ---- */

static double sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
static double silu(double x) { return x * sigmoid(x); }
static double gelu(double x) { return x * (0.5 * erfc(-x * sqrt(0.5))); }
static double relu(double x) { return x <= 0 ? 0 : x; }

static bool each(Eval *e, double (*f)(double)) {
  for (int64_t i = 0, n = tensor_elems(e->out); i < n; i++) e->out->data[i] = f(e->in[0]->data[i]);
  return true;
}

static bool mean(Eval *e) {
  double n = 1;
  for (int i = 0; i < e->in[0]->rank; i++)
    if (e->node->attrs.axes.axes >> i & 1) n *= (double)e->in[0]->dim[i];
  eval_sum(e);
  for (int64_t i = 0, m = tensor_elems(e->out); i < m; i++) e->out->data[i] /= n;
  return true;
}

/* The largest element of x [n], or NaN. */
static double row_max(const double *x, int64_t n) {
  double m = -INFINITY;
  for (int64_t i = 0; i < n; i++) m = m < x[i] || isnan(x[i]) ? x[i] : m;
  return m;
}

/* The sum of exp(x - m) without one of the elements that are m: log sum exp(x) = m + log1p of it, which is right for a
 * class that is far ahead, where a sum over all of them rounds to 1. */
static double row_rest(const double *x, int64_t n, double m) {
  double others = 0, n_top = 0;
  for (int64_t i = 0; i < n; i++)
    if (x[i] - m == 0) n_top++;
    else others += exp(x[i] - m);
  return n_top - 1 + others;
}

static int64_t row_length(const Tensor *t) { return t->rank ? t->dim[t->rank - 1] : 1; }

static bool softmax(Eval *e, bool is_log) {
  int64_t n = row_length(e->out), all = tensor_elems(e->out);
  for (int64_t r = 0; r < all; r += n) {
    const double *x = e->in[0]->data + r;
    double m = row_max(x, n), rest = row_rest(x, n, m);
    for (int64_t i = 0; i < n; i++)
      e->out->data[r + i] = is_log ? x[i] - m - log1p(rest) : exp(x[i] - m) / (1 + rest);
  }
  return true;
}

/* A target outside the classes counts as the nearest class, as in gather. */
static bool cross_entropy(Eval *e) {
  int64_t n = row_length(e->in[0]), rows = tensor_elems(e->out);
  for (int64_t r = 0; r < rows; r++) {
    int64_t k = (int64_t)e->in[1]->data[r];
    k = k < 0 ? 0 : k >= n ? n - 1 : k;
    const double *x = e->in[0]->data + r * n;
    double m = row_max(x, n);
    e->out->data[r] = log1p(row_rest(x, n, m)) - (x[k] - m);
  }
  return true;
}

/* Normalises `outer` runs of `inner` neighbours, `step` apart: together one set of statistics. */
static void normalise(const double *x, double *y, int64_t outer, int64_t step, int64_t inner, double eps) {
  double sum = 0, square = 0, n = (double)(outer * inner);
  for (int64_t i = 0; i < outer; i++)
    for (int64_t j = 0; j < inner; j++) sum += x[i * step + j];
  for (int64_t i = 0; i < outer; i++)
    for (int64_t j = 0; j < inner; j++) square += (x[i * step + j] - sum / n) * (x[i * step + j] - sum / n);
  for (int64_t i = 0; i < outer; i++)
    for (int64_t j = 0; j < inner; j++) y[i * step + j] = (x[i * step + j] - sum / n) / sqrt(square / n + eps);
}

/* group_norm(x [b, h, w, c]); layer_norm is the same with one pixel and one group a row. */
static bool norm(Eval *e, int64_t batch, int64_t pixels, int64_t groups) {
  int64_t c = row_length(e->out), width = c / groups;
  for (int64_t b = 0; b < batch; b++)
    for (int64_t g = 0; g < groups; g++) {
      int64_t at = b * pixels * c + g * width;
      normalise(e->in[0]->data + at, e->out->data + at, pixels, c, width, e->node->attrs.norm.eps);
    }
  for (int64_t i = 0, n = tensor_elems(e->out); i < n; i++)
    e->out->data[i] = e->out->data[i] * e->in[1]->data[i % c] + e->in[2]->data[i % c];
  return true;
}

static bool layer_norm(Eval *e) {
  int64_t c = row_length(e->out);
  return c == 0 || norm(e, tensor_elems(e->out) / c, 1, 1);
}

bool eval_composite(Eval *e) {
  const Tensor *x = e->in[0];
  switch (e->node->op) {
    case OP_MEAN: return mean(e);
    case OP_SIGMOID: return each(e, sigmoid);
    case OP_SILU: return each(e, silu);
    case OP_GELU: return each(e, gelu);
    case OP_RELU: return each(e, relu);
    case OP_SOFTMAX: return softmax(e, false);
    case OP_LOG_SOFTMAX: return softmax(e, true);
    case OP_CROSS_ENTROPY: return cross_entropy(e);
    case OP_LAYER_NORM: return layer_norm(e);
    case OP_GROUP_NORM: return norm(e, x->dim[0], x->dim[1] * x->dim[2], e->node->attrs.norm.groups);
    default: BUG("no formula for the composite %s", op_info[e->node->op].text);
  }
}
