/* Types: sizes that are affine in B and R, shapes, and how they print. */
#include <stdio.h>
#include <string.h>

#include "ir/internal.h"

enum { SIZE_LIMIT_LOG2 = 62 };

bool dim_le(Dim x, Dim y) {
  int64_t b = y.b - x.b, r = y.r - x.r, c = y.c - x.c;
  return b >= 0 && r >= 0 && c + b + r >= 0;
}

bool dim_is_one(Dim d) { return dim_equal(d, dim_const(1)); }

bool dim_is_sound(Dim d) {
  const int64_t limit = (int64_t)1 << 48;
  return d.b >= 0 && d.r >= 0 && d.b <= limit && d.r <= limit && d.c <= limit && d.c >= -limit &&
         d.c + d.b + d.r >= 0;
}

/* Adds "+kB" to the text at *at. */
static void term_print(char *out, size_t *at, int64_t k, const char *symbol) {
  if (k == 0) return;
  const char *sign = k < 0 ? "-" : *at ? "+" : "";
  uint64_t size = k < 0 ? 0 - (uint64_t)k : (uint64_t)k;
  int n;
  if (*symbol && size == 1)
    n = snprintf(out + *at, DIM_TEXT - *at, "%s%s", sign, symbol);
  else
    n = snprintf(out + *at, DIM_TEXT - *at, "%s%llu%s", sign, (unsigned long long)size, symbol);
  *at += (size_t)n;
}

char *dim_print(Dim d, char *out) {
  size_t at = 0;
  out[0] = 0;
  term_print(out, &at, d.b, "B");
  term_print(out, &at, d.r, "R");
  term_print(out, &at, d.c, "");
  if (at == 0) strcpy(out, "0");
  return out;
}

char *type_print(const Type *t, char *out, size_t cap) {
  int n = snprintf(out, cap, "%s[", dtype_name(t->dtype));
  size_t at = (size_t)n;
  char dim[DIM_TEXT];
  for (int i = 0; i < t->rank && at < cap; i++) {
    n = snprintf(out + at, cap - at, "%s%s", i ? "," : "", dim_print(t->dim[i], dim));
    at += (size_t)n;
  }
  if (at < cap) snprintf(out + at, cap - at, "]");
  return out;
}

Type type_make(DType dtype, int rank, const Dim *dim) {
  BUG_IF(rank < 0 || rank > MAX_RANK, "a type of rank %d", rank);
  Type t = {.dtype = dtype, .rank = rank};
  for (int i = 0; i < rank; i++) t.dim[i] = dim[i];
  return t;
}

bool type_same_shape(const Type *x, const Type *y) {
  if (x->rank != y->rank) return false;
  for (int i = 0; i < x->rank; i++)
    if (!dim_equal(x->dim[i], y->dim[i])) return false;
  return true;
}

bool type_equal(const Type *x, const Type *y) { return x->dtype == y->dtype && type_same_shape(x, y); }

static bool mul_bounded(int64_t x, int64_t y, int64_t *out) {
  return !__builtin_mul_overflow(x, y, out) && *out <= (int64_t)1 << SIZE_LIMIT_LOG2 &&
         *out >= -((int64_t)1 << SIZE_LIMIT_LOG2);
}

static bool dim_mul(Dim x, Dim y, Dim *out) {
  if (!dim_is_const(x)) {
    Dim swap = x;
    x = y;
    y = swap;
  }
  return dim_is_const(x) && mul_bounded(x.c, y.c, &out->c) && mul_bounded(x.c, y.b, &out->b) &&
         mul_bounded(x.c, y.r, &out->r);
}

bool type_elems_range(const Type *t, int from, int to, Dim *out) {
  for (int i = from; i < to; i++)
    if (dim_equal(t->dim[i], dim_const(0))) return *out = dim_const(0), true;
  Dim all = dim_const(1);
  for (int i = from; i < to; i++)
    if (!dim_mul(all, t->dim[i], &all)) return false;
  *out = all;
  return true;
}

bool type_elems(const Type *t, Dim *out) { return type_elems_range(t, 0, t->rank, out); }
