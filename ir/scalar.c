#include "ir/scalar.h"

#include "ir/number.h"
#include "runtime/base/float_mode.h"

/* A number that knows its type; there is no machine behind it. */
typedef struct Num {
  NumberType type;
  Number n;
} Num;
typedef const struct Calc Calc;

#define MATH(name) math_##name

typedef struct Scalar {
  Calc *c;
  const Node *node;
  const Num *x;
} Scalar;

static NumberType type_of(NumberOp op, NumberType t) {
  switch (op) {
  case NUMBER_LT: case NUMBER_LE: case NUMBER_EQ: return NUMBER_BOOL;
  case NUMBER_TO_F32: case NUMBER_BITS_F32: return NUMBER_F32;
  case NUMBER_TO_I32: case NUMBER_BITS_I32: return NUMBER_I32;
  default: return t;
  }
}

static Num real(Calc *c, float x) { return (Num){NUMBER_F32, {.f = x}}; }
static Num whole(Calc *c, int32_t x) { return (Num){NUMBER_I32, {.i = x}}; }

static Num op3(Calc *c, NumberOp op, Num x, Num y, Num z) {
  Number r = number_compute(op, x.type, x.n, y.n, z.n);
  return (Num){op == NUMBER_SELECT ? y.type : type_of(op, x.type), r};
}

static Num op1(Calc *c, NumberOp op, Num x) { return op3(c, op, x, (Num){0}, (Num){0}); }
static Num op2(Calc *c, NumberOp op, Num x, Num y) { return op3(c, op, x, y, (Num){0}); }

static Num rarely(Calc *c, Num cond, Num usual, Num (*slow)(Calc *c, Num x, int n), Num x, int n) {
  return cond.n.i ? slow(c, x, n) : usual;
}

static Num is_true(Calc *c, Num v) { return (Num){NUMBER_BOOL, {.i = v.n.i != 0}}; }
static bool surely_positive(Num v) { return v.n.i > 0; }

static Num number_of(DType t, double x) {
  return dtype_is_float(t) ? (Num){NUMBER_F32, {.f = (float)x}} : (Num){NUMBER_I32, {.i = (int64_t)x}};
}

static Num scalar_fill(Scalar *s) { return number_of(s->node->type.dtype, s->node->attrs.fill.value); }
static Num scalar_iota(Scalar *s) { BUG("an iota depends on its place"); }

#include "ir/math_forms.h"
#include "ir/scalar_forms.h"

double scalar_compute(const Node *n, const double *x) {
  Num in[MAP_OPERANDS] = {{0}};
  BUG_IF(!scalar_form[n->op] || n->n_in > MAP_OPERANDS, "%s has no scalar form", op_info[n->op].text);
  FloatMode before = float_mode_enter();
  for (int i = 0; i < n->n_in; i++) in[i] = number_of(n->in[i]->type.dtype, x[i]);
  Num y = scalar_form[n->op](&(Scalar){NULL, n, in});
  if (n->type.dtype == DTYPE_BF16) y.n.f = bf16_round(y.n.f);
  double r = y.type == NUMBER_F32 ? (double)y.n.f : (double)y.n.i;
  float_mode_set(before);
  return r;
}
