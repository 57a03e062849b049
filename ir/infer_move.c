/* Shape rules of index maps and scatters. */
#include <math.h>
#include <string.h>

#include "ir/internal.h"

/* The caller's shape for reshape and broadcast: its dtype does not matter. */
static bool given_shape(Infer *c) {
  char dim[DIM_TEXT];
  if (!c->given) return infer_refuse(c, "needs a shape", "%s", "");
  if (c->given->rank < 0 || c->given->rank > MAX_RANK)
    return infer_refuse(c, "not a shape", "rank %d, at most %d", c->given->rank, MAX_RANK);
  for (int i = 0; i < c->given->rank; i++)
    if (!dim_is_sound(c->given->dim[i]))
      return infer_refuse(c, "not a size", "axis %d: %s", i, dim_print(c->given->dim[i], dim));
  *c->out = type_make(c->in[0]->type.dtype, c->given->rank, c->given->dim);
  return true;
}

bool infer_reshape(Infer *c) {
  if (!given_shape(c)) return false;
  Dim from, to;
  char type[TYPE_TEXT], tf[DIM_TEXT], tt[DIM_TEXT] = "?";
  if (type_elems(&c->in[0]->type, &from) && type_elems(c->out, &to)) {
    if (dim_equal(from, to)) return true;
    dim_print(to, tt);
  }
  return infer_refuse(c, "the number of elements changes", "to %s: %s vs %s", type_print(c->out, type, sizeof type),
                      dim_print(from, tf), tt);
}

bool infer_broadcast(Infer *c) {
  if (!given_shape(c)) return false;
  const Type *x = &c->in[0]->type;
  char type[TYPE_TEXT], tx[DIM_TEXT], to[DIM_TEXT];
  int extra = c->out->rank - x->rank;
  if (extra < 0)
    return infer_refuse(c, "cannot broadcast to a lower rank", "to %s", type_print(c->out, type, sizeof type));
  for (int i = 0; i < x->rank; i++)
    if (!dim_is_one(x->dim[i]) && !dim_equal(x->dim[i], c->out->dim[i + extra]))
      return infer_refuse(c, "cannot broadcast", "to %s, axis %d: %s vs %s", type_print(c->out, type, sizeof type),
                          i + extra, dim_print(x->dim[i], tx), dim_print(c->out->dim[i + extra], to));
  return true;
}

bool infer_transpose(Infer *c) {
  const Type *x = &c->in[0]->type;
  int64_t *perm = c->attrs->perm.perm;
  unsigned seen = 0;
  *c->out = *x;
  for (int i = 0; i < x->rank; i++) {
    if (perm[i] < 0 || perm[i] >= x->rank || (seen >> perm[i] & 1))
      return infer_refuse(c, "not a permutation of the axes", "entry %d is %lld", i, (long long)perm[i]);
    seen |= 1u << perm[i];
    c->out->dim[i] = x->dim[perm[i]];
  }
  for (int i = x->rank; i < MAX_RANK; i++) perm[i] = 0;
  return true;
}

/* ceil(d / step) when that is affine. */
static bool dim_ceil_div(Dim d, int64_t step, Dim *out) {
  if (step == 1) return *out = d, true;
  if (d.b % step || d.r % step) return false;
  int64_t c = d.c / step + (d.c % step > 0);
  *out = (Dim){c, d.b / step, d.r / step};
  return true;
}

bool infer_slice(Infer *c) {
  const Type *x = &c->in[0]->type;
  char t0[DIM_TEXT], t1[DIM_TEXT], t2[DIM_TEXT];
  *c->out = *x;
  for (int i = 0; i < MAX_RANK; i++) {
    Dim *start = &c->attrs->slice.start[i], *stop = &c->attrs->slice.stop[i];
    int64_t *step = &c->attrs->slice.step[i];
    if (i >= x->rank) {
      *start = *stop = dim_const(0);
      *step = 0;
      continue;
    }
    if (*step < 1 || *step > (int64_t)1 << 40)
      return infer_refuse(c, "the step must be at least 1", "axis %d: %lld", i, (long long)*step);
    if (!dim_le(dim_const(0), *start) || !dim_le(*start, *stop) || !dim_le(*stop, x->dim[i]))
      return infer_refuse(c, "the slice leaves the axis", "axis %d: %s to %s of %s", i, dim_print(*start, t0),
                          dim_print(*stop, t1), dim_print(x->dim[i], t2));
    if (!dim_ceil_div(dim_add(*stop, dim_scale(*start, -1)), *step, &c->out->dim[i]))
      return infer_refuse(c, "the size is not affine in B and R", "axis %d: (%s to %s) by %lld", i,
                          dim_print(*start, t0), dim_print(*stop, t1), (long long)*step);
  }
  return true;
}

/* lo, the elements with `interior` between each two, hi. */
static Dim padded(Dim n, Dim lo, Dim hi, int64_t interior) {
  Dim all = dim_add(n, dim_add(lo, hi));
  if (interior == 0 || dim_equal(n, dim_const(0))) return all;
  return dim_add(all, dim_scale(dim_add(n, dim_const(-1)), interior));
}

bool infer_pad(Infer *c) {
  const Type *x = &c->in[0]->type;
  *c->out = *x;
  for (int i = 0; i < MAX_RANK; i++) {
    Dim *lo = &c->attrs->pad.lo[i], *hi = &c->attrs->pad.hi[i];
    int64_t *interior = &c->attrs->pad.interior[i];
    if (i >= x->rank) {
      *lo = *hi = dim_const(0);
      *interior = 0;
      continue;
    }
    char tl[DIM_TEXT], th[DIM_TEXT];
    if (!dim_is_sound(*lo) || !dim_is_sound(*hi) || *interior < 0 || *interior > 1 << 30)
      return infer_refuse(c, "padding must not be negative", "axis %d: %s, %s, interior %lld", i, dim_print(*lo, tl),
                          dim_print(*hi, th), (long long)*interior);
    if (x->dim[i].b > 1 << 30 || x->dim[i].r > 1 << 30 || x->dim[i].c > 1 << 30)
      return infer_refuse(c, "too large to pad", "axis %d", i);
    c->out->dim[i] = padded(x->dim[i], *lo, *hi, *interior);
  }
  if (dtype_is_float(x->dtype)) return true;
  double v = c->attrs->pad.value;
  bool fits = v == floor(v) && (x->dtype == DTYPE_U8 ? v >= 0 && v <= 255 : v >= -2147483648.0 && v <= 2147483647.0);
  return fits || infer_refuse(c, "the value is no number of the type", "%g as %s", v, dtype_name(x->dtype));
}

bool infer_concat(Infer *c) {
  const Type *x = &c->in[0]->type;
  int64_t axis = c->attrs->axis.axis;
  if (axis < 0 || axis >= x->rank)
    return infer_refuse(c, "no such axis", "axis %lld of rank %d", (long long)axis, x->rank);
  *c->out = *x;
  for (int i = 1; i < c->n_in; i++) {
    const Type *y = &c->in[i]->type;
    if (y->rank != x->rank) return infer_refuse(c, "ranks differ", "%d vs %d", x->rank, y->rank);
    if (!infer_dtype(c, i, x->dtype)) return false;
    for (int a = 0; a < x->rank; a++)
      if (a != axis && !infer_same_dim(c, 0, a, i, a)) return false;
    c->out->dim[axis] = dim_add(c->out->dim[axis], y->dim[axis]);
    if (!dim_is_sound(c->out->dim[axis])) return infer_refuse(c, "too large", "axis %lld", (long long)axis);
  }
  return true;
}

bool infer_gather(Infer *c) {
  const Type *x = &c->in[0]->type, *index = &c->in[1]->type;
  if (!infer_rank(c, 0, 1, MAX_RANK) || !infer_dtype(c, 1, DTYPE_I32)) return false;
  if (!dim_le(dim_const(1), x->dim[0])) return infer_refuse(c, "nothing to gather from", "axis 0: 0");
  if (index->rank + x->rank - 1 > MAX_RANK)
    return infer_refuse(c, "the result has too many axes", "%d, at most %d", index->rank + x->rank - 1, MAX_RANK);
  *c->out = *index;
  c->out->dtype = x->dtype;
  for (int i = 1; i < x->rank; i++) c->out->dim[c->out->rank++] = x->dim[i];
  return true;
}

bool infer_shift(Infer *c) {
  const Type *x = &c->in[0]->type;
  int64_t *delta = c->attrs->shift.delta, raster = c->attrs->shift.raster;
  if (!infer_rank(c, 0, 4, 5) || !infer_rank(c, 1, 1, 1) || !infer_dtype(c, 1, x->dtype)) return false;
  if (!infer_same_dim(c, 0, x->rank - 1, 1, 0)) return false;
  if (raster != 0 && raster != 1) return infer_refuse(c, "raster is 0 or 1", "%lld", (long long)raster);
  for (int i = 0; i < 3; i++) {
    if (raster && delta[i]) return infer_refuse(c, "raster takes no delta", "axis %c: %lld", "shw"[i],
                                                (long long)delta[i]);
    if (delta[i] > EXTENT_INF || delta[i] < -EXTENT_INF)
      return infer_refuse(c, "delta is too large", "axis %c: %lld", "shw"[i], (long long)delta[i]);
    if (!dim_is_const(x->dim[x->rank - 4 + i]))
      return infer_refuse(c, "the grid must be constant", "axis %c", "shw"[i]);
  }
  *c->out = *x;
  return true;
}

bool infer_scatter(Infer *c) {
  const Type *index = &c->in[0]->type, *x = &c->in[1]->type;
  int64_t rows = c->attrs->scatter.rows;
  if (!infer_dtype(c, 0, DTYPE_I32) || !infer_rank(c, 1, index->rank, MAX_RANK)) return false;
  for (int i = 0; i < index->rank; i++)
    if (!infer_same_dim(c, 0, i, 1, i)) return false;
  if (rows < 1 || rows > INT32_MAX) return infer_refuse(c, "needs at least one row", "rows %lld", (long long)rows);
  if (x->rank - index->rank + 1 > MAX_RANK)
    return infer_refuse(c, "the result has too many axes", "at most %d", MAX_RANK);
  if (x->dtype == DTYPE_U8) return infer_refuse(c, "u8 is too small for sums: cast it first", "%s", "");
  *c->out = (Type){.dtype = x->dtype, .rank = 1, .dim = {dim_const(rows)}};
  for (int i = index->rank; i < x->rank; i++) c->out->dim[c->out->rank++] = x->dim[i];
  return true;
}

bool infer_ring(Infer *c) {
  const Type *ring = &c->in[0]->type;
  if (!infer_rank(c, 0, 1, MAX_RANK) || !infer_rank(c, 1, 1, 1) || !infer_rank(c, 2, ring->rank, ring->rank))
    return false;
  if (!infer_dtype(c, 1, DTYPE_I32) || !infer_dtype(c, 2, ring->dtype) || !infer_same_dim(c, 1, 0, 2, 0))
    return false;
  for (int i = 1; i < ring->rank; i++)
    if (!infer_same_dim(c, 0, i, 2, i)) return false;
  *c->out = *ring;
  return true;
}
