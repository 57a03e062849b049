/* Meaning of the elementwise ops.  Floats compute in f64; integers are exact and wrap around in their type. */
#include <math.h>

#include "ir/eval.h"
#include "ir/scalar.h"

double integer_wrap(DType t, int64_t v) {
  if (t == DTYPE_U8) return (double)(uint8_t)(uint64_t)v;
  return (double)(int32_t)(uint32_t)(uint64_t)v;
}

typedef double (*Real1)(double x);
typedef double (*Real2)(double x, double y);
typedef int64_t (*Whole1)(int64_t x);
typedef int64_t (*Whole2)(int64_t x, int64_t y);

static bool map1(Eval *e, Real1 real, Whole1 whole) {
  const double *x = e->in[0]->data;
  double *y = e->out->data;
  bool is_float = dtype_is_float(e->in[0]->dtype);
  for (int64_t i = 0, n = tensor_elems(e->out); i < n; i++)
    y[i] = is_float ? real(x[i]) : integer_wrap(e->out->dtype, whole((int64_t)x[i]));
  return true;
}

static bool map2(Eval *e, Real2 real, Whole2 whole) {
  const double *x = e->in[0]->data, *y = e->in[1]->data;
  double *z = e->out->data;
  bool is_float = dtype_is_float(e->in[0]->dtype);
  for (int64_t i = 0, n = tensor_elems(e->out); i < n; i++)
    z[i] = is_float ? real(x[i], y[i]) : integer_wrap(e->out->dtype, whole((int64_t)x[i], (int64_t)y[i]));
  return true;
}

/* Scalar forms, X for floats and I for integers, side by side. */
#define MAP1(name, xexpr, iexpr)                            \
  static double real_##name(double x) { return xexpr; }     \
  static int64_t whole_##name(int64_t x) { return iexpr; }  \
  bool eval_##name(Eval *e) { return map1(e, real_##name, whole_##name); }
#define MAP2(name, xexpr, iexpr)                                       \
  static double real_##name(double x, double y) { return xexpr; }      \
  static int64_t whole_##name(int64_t x, int64_t y) { return iexpr; }  \
  bool eval_##name(Eval *e) { return map2(e, real_##name, whole_##name); }
#define MAP1_FLOAT(name, xexpr)                            \
  static double real_##name(double x) { return xexpr; }    \
  bool eval_##name(Eval *e) { return map1(e, real_##name, NULL); }

/* Rounds towards minus infinity; division by zero gives 0. */
static int64_t floor_div(int64_t x, int64_t y) {
  if (y == 0) return 0;
  return x / y - (x % y != 0 && (x < 0) != (y < 0));
}

static int64_t floor_mod(int64_t x, int64_t y) { return y == 0 ? 0 : x - floor_div(x, y) * y; }

MAP1(neg, -x, -x)
MAP1(abs, fabs(x), x < 0 ? -x : x)
MAP1(detach, x, x)
MAP1_FLOAT(exp, exp(x))
MAP1_FLOAT(log, log(x))
MAP1_FLOAT(log1p, log1p(x))
MAP1_FLOAT(sqrt, sqrt(x))
MAP1_FLOAT(tanh, tanh(x))
MAP1_FLOAT(erf, erf(x))
MAP1_FLOAT(normal_cdf, 0.5 * erfc(-x * sqrt(0.5)))
MAP1_FLOAT(sin, sin(x))
MAP1_FLOAT(cos, cos(x))
MAP1_FLOAT(floor, floor(x))
MAP2(add, x + y, x + y)
MAP2(sub, x - y, x - y)
MAP2(mul, x *y, x *y)
MAP2(div, x / y, floor_div(x, y))
MAP2(mod, x, floor_mod(x, y))
static double real_pow(double x, double y) { return pow(x, y); }
bool eval_pow(Eval *e) { return map2(e, real_pow, NULL); }
MAP2(maximum, x < y || isnan(y) ? y : x, x < y ? y : x)
MAP2(minimum, y < x || isnan(y) ? y : x, y < x ? y : x)
MAP2(lt, x < y, x < y)
MAP2(le, x <= y, x <= y)
MAP2(eq, x == y, x == y)

bool eval_fma(Eval *e) {
  for (int64_t i = 0, n = tensor_elems(e->out); i < n; i++)
    e->out->data[i] = fma(e->in[0]->data[i], e->in[1]->data[i], e->in[2]->data[i]);
  return true;
}

bool eval_select(Eval *e) {
  for (int64_t i = 0, n = tensor_elems(e->out); i < n; i++)
    e->out->data[i] = e->in[0]->data[i] != 0 ? e->in[1]->data[i] : e->in[2]->data[i];
  return true;
}

/* Float to integer: towards zero, cut to the range, NaN to 0.  Integer to integer: wraps. */
static double cast_to_integer(double x, bool from_float, DType to) {
  if (!from_float) return integer_wrap(to, (int64_t)x);
  double lo = to == DTYPE_U8 ? 0 : -2147483648.0, hi = to == DTYPE_U8 ? 255 : 2147483647.0;
  if (isnan(x)) return 0;
  return x <= lo ? lo : x >= hi ? hi : trunc(x) + 0.0;
}

bool eval_cast(Eval *e) {
  bool from_float = dtype_is_float(e->in[0]->dtype), to_float = dtype_is_float(e->out->dtype);
  for (int64_t i = 0, n = tensor_elems(e->out); i < n; i++) {
    double x = e->in[0]->data[i];
    e->out->data[i] = from_float && to_float ? x : to_float ? (float)x : cast_to_integer(x, from_float, e->out->dtype);
  }
  return true;
}

bool eval_fill(Eval *e) {
  for (int64_t i = 0, n = tensor_elems(e->out); i < n; i++) e->out->data[i] = e->node->attrs.fill.value;
  return true;
}

/* The kernels' own bits. */
bool eval_random(Eval *e) {
  for (int64_t i = 0, n = tensor_elems(e->out); i < n; i++) {
    double x[MAP_OPERANDS];
    for (int k = 0; k < e->node->n_in; k++) x[k] = e->in[k]->data[i];
    e->out->data[i] = scalar_compute(e->node, x);
  }
  return true;
}

bool eval_iota(Eval *e) {
  int64_t stride[MAX_RANK], axis = e->node->attrs.axis.axis;
  strides_of(e->out, stride);
  for (int64_t i = 0, n = tensor_elems(e->out); i < n; i++)
    e->out->data[i] = integer_wrap(DTYPE_I32, i / stride[axis] % e->out->dim[axis]);
  return true;
}
