/* Scalar forms of the MAP ops, once: what one element of the result is, from one element of each operand; the op table
 * names them in its column `scalar`.  Included by codegen/lower/scalar.c, where a Num is an instruction of a kernel, and
 * by ir/scalar.c, where it is a number and folding computes with it: so folding never changes a bit.
 *
 * Integers live in i32; u8 results keep their low 8 bits.  Comparisons give i32 0 or 1.  Who includes this defines, besides
 * what math_forms.h asks for, MATH(name) for its functions, the struct Scalar with members c (Calc *), node and x (the
 * operands), fill and iota, and
 *
 *   is_true(c, v)          whether an integer is not 0, as the condition of a selection
 *   surely_positive(v)     whether an integer is known to be
 */
static bool real_node(const Node *n) { return dtype_is_float(n->type.dtype); }

static Num wrap_u8(Scalar *s, Num v) {
  return s->node->type.dtype == DTYPE_U8 ? op2(s->c, NUMBER_AND, v, whole(s->c, 255)) : v;
}

static Num unary(Scalar *s, NumberOp op) { return wrap_u8(s, op1(s->c, op, s->x[0])); }
static Num binary(Scalar *s, NumberOp op) { return wrap_u8(s, op2(s->c, op, s->x[0], s->x[1])); }
static Num compare(Scalar *s, NumberOp op) { return op1(s->c, NUMBER_TO_I32, op2(s->c, op, s->x[0], s->x[1])); }
static Num choose(Scalar *s, Num cond, Num x, Num y) { return op3(s->c, NUMBER_SELECT, cond, x, y); }

static Num scalar_neg(Scalar *s) { return unary(s, NUMBER_NEG); }
static Num scalar_abs(Scalar *s) { return unary(s, NUMBER_ABS); }
static Num scalar_exp(Scalar *s) { return MATH(exp)(s->c, s->x[0]); }
static Num scalar_log(Scalar *s) { return MATH(log)(s->c, s->x[0]); }
static Num scalar_log1p(Scalar *s) { return MATH(log1p)(s->c, s->x[0]); }
static Num scalar_pow(Scalar *s) { return MATH(pow)(s->c, s->x[0], s->x[1]); }
static Num scalar_sqrt(Scalar *s) { return unary(s, NUMBER_SQRT); }
static Num scalar_tanh(Scalar *s) { return MATH(tanh)(s->c, s->x[0]); }
static Num scalar_erf(Scalar *s) { return MATH(erf)(s->c, s->x[0]); }
static Num scalar_normal_cdf(Scalar *s) { return MATH(normal_cdf)(s->c, s->x[0]); }
static Num scalar_sin(Scalar *s) { return MATH(sin)(s->c, s->x[0]); }
static Num scalar_cos(Scalar *s) { return MATH(cos)(s->c, s->x[0]); }
static Num scalar_floor(Scalar *s) { return unary(s, NUMBER_FLOOR); }
static Num scalar_detach(Scalar *s) { return s->x[0]; }

/* Towards zero, cut to the type's range, NaN to 0: conversions are only asked for what fits. */
static Num real_to_integer(Scalar *s, Num x, DType to) {
  Calc *c = s->c;
  float lo = to == DTYPE_U8 ? 0.0f : -0x1p31f, hi = to == DTYPE_U8 ? 255.0f : 0x1.fffffep30f;
  Num number = choose(s, op2(c, NUMBER_EQ, x, x), x, real(c, 0));
  Num cut = op2(c, NUMBER_MAX, op2(c, NUMBER_MIN, number, real(c, hi)), real(c, lo));
  Num v = op1(c, NUMBER_TO_I32, cut);
  return to == DTYPE_U8 ? v : choose(s, op2(c, NUMBER_LT, real(c, hi), x), whole(c, INT32_MAX), v);
}

static Num scalar_cast(Scalar *s) {
  bool from = real_node(s->node->in[0]), to = real_node(s->node);
  if (from && to) return s->x[0];
  if (to) return op1(s->c, NUMBER_TO_F32, s->x[0]);
  return from ? real_to_integer(s, s->x[0], s->node->type.dtype) : wrap_u8(s, s->x[0]);
}

static Num scalar_add(Scalar *s) { return binary(s, NUMBER_ADD); }
static Num scalar_sub(Scalar *s) { return binary(s, NUMBER_SUB); }
static Num scalar_mul(Scalar *s) { return binary(s, NUMBER_MUL); }

/* By a divisor below 0: the quotient by its absolute value a, rounded up and negated; the remainder less a. */
static Num divide_by_negative(Scalar *s, NumberOp op, Num x, Num a) {
  Calc *c = s->c;
  Num r = op2(c, NUMBER_MOD, x, a), exact = op2(c, NUMBER_EQ, r, whole(c, 0));
  if (op == NUMBER_MOD) return choose(s, exact, r, op2(c, NUMBER_SUB, r, a));
  Num q = op2(c, NUMBER_DIV, x, a);
  return op1(c, NUMBER_NEG, choose(s, exact, q, op2(c, NUMBER_ADD, q, whole(c, 1))));
}

/* By the smallest integer, which has no absolute value. */
static Num divide_by_least(Scalar *s, NumberOp op, Num x) {
  Calc *c = s->c;
  Num above = op2(c, NUMBER_LT, whole(c, 0), x), equal = op2(c, NUMBER_EQ, x, whole(c, INT32_MIN));
  if (op == NUMBER_DIV) return choose(s, above, whole(c, -1), op1(c, NUMBER_TO_I32, equal));
  return choose(s, above, op2(c, NUMBER_ADD, x, whole(c, INT32_MIN)), choose(s, equal, whole(c, 0), x));
}

/* Integer quotient or remainder, rounded towards minus infinity, by any divisor; by zero the result is 0. */
static Num divide(Scalar *s, NumberOp op) {
  Calc *c = s->c;
  Num x = s->x[0], y = s->x[1], zero = whole(c, 0);
  if (surely_positive(y)) return op2(c, op, x, y);
  Num none = op2(c, NUMBER_EQ, y, zero);
  if (s->node->type.dtype == DTYPE_U8) return choose(s, none, zero, op2(c, op, x, choose(s, none, whole(c, 1), y)));
  Num least = op2(c, NUMBER_EQ, y, whole(c, INT32_MIN)), below = op2(c, NUMBER_LT, y, zero);
  Num a = choose(s, op2(c, NUMBER_OR, none, least), whole(c, 1), op1(c, NUMBER_ABS, y));
  Num r = choose(s, below, divide_by_negative(s, op, x, a), op2(c, op, x, a));
  return choose(s, none, zero, choose(s, least, divide_by_least(s, op, x), r));
}

static Num scalar_div(Scalar *s) { return real_node(s->node) ? binary(s, NUMBER_DIV) : divide(s, NUMBER_DIV); }
static Num scalar_mod(Scalar *s) { return divide(s, NUMBER_MOD); }
static Num scalar_maximum(Scalar *s) { return binary(s, NUMBER_MAX); }
static Num scalar_minimum(Scalar *s) { return binary(s, NUMBER_MIN); }
static Num scalar_fma(Scalar *s) { return op3(s->c, NUMBER_FMA, s->x[0], s->x[1], s->x[2]); }
static Num scalar_lt(Scalar *s) { return compare(s, NUMBER_LT); }
static Num scalar_le(Scalar *s) { return compare(s, NUMBER_LE); }
static Num scalar_eq(Scalar *s) { return compare(s, NUMBER_EQ); }

/* Operands: number of the element within a sample, example, step, the two words of the key. */
static Num random_number(Scalar *s, Num (*form)(Calc *c, const Num counter[4], const Num key[2])) {
  Num stream = whole(s->c, (int32_t)s->node->attrs.random.stream);
  return form(s->c, (Num[]){s->x[0], s->x[1], stream, s->x[2]}, (Num[]){s->x[3], s->x[4]});
}

static Num scalar_uniform(Scalar *s) { return random_number(s, MATH(uniform)); }
static Num scalar_normal(Scalar *s) { return random_number(s, MATH(normal)); }
static Num scalar_select(Scalar *s) { return choose(s, is_true(s->c, s->x[0]), s->x[1], s->x[2]); }

typedef Num (*ScalarForm)(Scalar *s);

#define FORM_MAP(name) scalar_##name
#define FORM_LEAF(name) NULL
#define FORM_MOVE(name) NULL
#define FORM_REDUCE(name) NULL
#define FORM_SCATTER(name) NULL
#define FORM_CONTRACT(name) NULL
#define FORM_ATTEND(name) NULL
#define FORM_COMPOSITE(name) NULL
#define FORM_GRADIENT(name) NULL

static const ScalarForm scalar_form[OP_COUNT] = {
#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) FORM_##class(scalar),
#include "ir/ops.def"
#undef OP
};
