/* Shape rules of products, norms and the loss. */
#include <math.h>

#include "ir/internal.h"

static bool is_bit(int64_t v) { return v == 0 || v == 1; }

bool infer_matmul(Infer *c) {
  const Type *a = &c->in[0]->type, *b = &c->in[1]->type;
  int64_t ta = c->attrs->matmul.trans_a, tb = c->attrs->matmul.trans_b;
  if (!is_bit(ta) || !is_bit(tb)) return infer_refuse(c, "trans_a and trans_b are 0 or 1", "%s", "");
  if (!infer_rank(c, 0, 2, MAX_RANK) || !infer_rank(c, 1, 2, MAX_RANK)) return false;
  if (!infer_is_float(c, 0) || !infer_dtype(c, 1, a->dtype)) return false;
  if (b->rank != 2 && b->rank != a->rank)
    return infer_refuse(c, "wrong rank", "operand 1 needs rank 2 or %d, has %d", a->rank, b->rank);
  for (int i = 0; b->rank > 2 && i < a->rank - 2; i++)
    if (!infer_same_dim(c, 0, i, 1, i)) return false;
  Dim k = a->dim[a->rank - (ta ? 2 : 1)], k_b = b->dim[b->rank - (tb ? 1 : 2)];
  char t0[DIM_TEXT], t1[DIM_TEXT];
  if (!dim_equal(k, k_b))
    return infer_refuse(c, "inner sizes differ", "%s vs %s", dim_print(k, t0), dim_print(k_b, t1));
  *c->out = *a;
  c->out->dim[a->rank - 2] = a->dim[a->rank - (ta ? 1 : 2)];
  c->out->dim[a->rank - 1] = b->dim[b->rank - (tb ? 2 : 1)];
  return true;
}

/* (size - kernel) / stride + 1, exactly; *out stays unset after a diagnostic. */
static bool conv_out(Infer *c, const char *axis, Dim size, Dim kernel, int64_t stride, Dim *out) {
  if (!dim_is_const(size) || !dim_is_const(kernel))
    return infer_refuse(c, "rows and columns must be constant", "axis %s", axis);
  if (kernel.c < 1 || kernel.c > size.c)
    return infer_refuse(c, "the kernel does not fit", "axis %s: kernel %lld on %lld", axis, (long long)kernel.c,
                        (long long)size.c);
  *out = dim_const((size.c - kernel.c) / stride + 1);
  return true;
}

static bool conv_stride(Infer *c) {
  int64_t s = c->attrs->conv.stride;
  if (s >= 1 && s <= 1 << 20) return true;
  return infer_refuse(c, "the stride must be at least 1", "stride %lld", (long long)s);
}

bool infer_conv2d(Infer *c) {
  const Type *x = &c->in[0]->type, *w = &c->in[1]->type;
  if (!infer_rank(c, 0, 4, 4) || !infer_rank(c, 1, 4, 4) || !conv_stride(c)) return false;
  if (!infer_is_float(c, 0) || !infer_dtype(c, 1, x->dtype)) return false;
  char t0[DIM_TEXT], t1[DIM_TEXT];
  if (!dim_equal(x->dim[3], w->dim[2]))
    return infer_refuse(c, "channels differ", "axis 3 of x vs axis 2 of w: %s vs %s", dim_print(x->dim[3], t0),
                        dim_print(w->dim[2], t1));
  c->attrs->conv.kh = c->attrs->conv.kw = 0;
  *c->out = *x;
  c->out->dim[3] = w->dim[3];
  return conv_out(c, "h", x->dim[1], w->dim[0], c->attrs->conv.stride, &c->out->dim[1]) &&
         conv_out(c, "w", x->dim[2], w->dim[1], c->attrs->conv.stride, &c->out->dim[2]);
}

bool infer_conv2d_grad_w(Infer *c) {
  const Type *x = &c->in[0]->type, *dy = &c->in[1]->type;
  if (!infer_rank(c, 0, 4, 4) || !infer_rank(c, 1, 4, 4) || !conv_stride(c)) return false;
  if (!infer_is_float(c, 0) || !infer_dtype(c, 1, x->dtype) || !infer_same_dim(c, 0, 0, 1, 0)) return false;
  int64_t kernel[] = {c->attrs->conv.kh, c->attrs->conv.kw};
  char t0[DIM_TEXT], t1[DIM_TEXT];
  for (int i = 0; i < 2; i++) {
    Dim n;
    if (!conv_out(c, i ? "w" : "h", x->dim[1 + i], dim_const(kernel[i]), c->attrs->conv.stride, &n)) return false;
    if (!dim_equal(n, dy->dim[1 + i]))
      return infer_refuse(c, "dy is not the size of the convolution's result", "axis %d: %s vs %s", 1 + i,
                          dim_print(dy->dim[1 + i], t0), dim_print(n, t1));
  }
  *c->out = (Type){x->dtype, 4, {dim_const(kernel[0]), dim_const(kernel[1]), x->dim[3], dy->dim[3]}};
  return true;
}

/* gain and bias are vectors over the last axis; eps is a small number. */
static bool norm_operands(Infer *c) {
  const Type *x = &c->in[0]->type;
  double eps = c->attrs->norm.eps;
  for (int i = 1; i <= 2; i++)
    if (!infer_rank(c, i, 1, 1) || !infer_dtype(c, i, x->dtype) || !infer_same_dim(c, 0, x->rank - 1, i, 0))
      return false;
  if (!(eps >= 0) || isinf(eps)) return infer_refuse(c, "eps must be finite and not negative", "%g", eps);
  *c->out = *x;
  return true;
}

bool infer_layer_norm(Infer *c) {
  c->attrs->norm.groups = 0;
  return infer_rank(c, 0, 1, MAX_RANK) && infer_is_float(c, 0) && norm_operands(c);
}

bool infer_group_norm(Infer *c) {
  if (!infer_rank(c, 0, 4, 4) || !infer_is_float(c, 0) || !norm_operands(c)) return false;
  Dim channels = c->in[0]->type.dim[3];
  int64_t groups = c->attrs->norm.groups;
  char text[DIM_TEXT];
  if (groups < 1 || !dim_is_const(channels) || channels.c % groups)
    return infer_refuse(c, "groups must divide the channels", "%lld groups, %s channels", (long long)groups,
                        dim_print(channels, text));
  return true;
}

bool infer_grad(Infer *c) {
  if (!infer_rank(c, 0, 0, 0) || !infer_is_float(c, 0) || !infer_is_float(c, 1)) return false;
  *c->out = c->in[1]->type;
  return true;
}

bool infer_last_axis(Infer *c) { return infer_rank(c, 0, 1, MAX_RANK) && infer_float(c); }

bool infer_cross_entropy(Infer *c) {
  const Type *logits = &c->in[0]->type;
  if (!infer_rank(c, 0, 1, MAX_RANK) || !infer_is_float(c, 0) || !infer_dtype(c, 1, DTYPE_I32)) return false;
  if (!infer_rank(c, 1, logits->rank - 1, logits->rank - 1)) return false;
  Dim classes = logits->dim[logits->rank - 1];
  if (!dim_is_const(classes)) return infer_refuse(c, "the number of classes must be constant", "%s", "");
  if (classes.c < 1) return infer_refuse(c, "no classes", "%s", "");
  for (int i = 0; i < logits->rank - 1; i++)
    if (!infer_same_dim(c, 0, i, 1, i)) return false;
  *c->out = *logits;
  c->out->rank--;
  c->out->dim[c->out->rank] = dim_const(0);
  return true;
}
