/* Scalar forms of the MAP ops: what one element of the result is, from one element of each operand.
 *
 * Integers live in i32; u8 results keep their low 8 bits.  Comparisons give i32 0 or 1, and select looks through
 * that. Named by the `scalar` column of ir/ops.def. */
#include "codegen/lower/lower.h"

typedef struct Scalar {
  Lower *l;
  Kernel *k;
  Node *node;
  Ix *const *idx;
  KInst *const *x;
} Scalar;

static bool is_float(const Node *n) { return dtype_is_float(n->type.dtype); }

KInst *lower_wrap(Lower *l, DType t, KInst *v) {
  return t == DTYPE_U8 ? kir_bin(l->k, KOP_AND, v, kir_i32(l->k, 255)) : v;
}

static KInst *unary(Scalar *s, KOp op) { return lower_wrap(s->l, s->node->type.dtype, kir_un(s->k, op, s->x[0])); }

static KInst *binary(Scalar *s, KOp op) {
  return lower_wrap(s->l, s->node->type.dtype, kir_bin(s->k, op, s->x[0], s->x[1]));
}

static KInst *compare(Scalar *s, KOp op) { return kir_un(s->k, KOP_TO_I32, kir_bin(s->k, op, s->x[0], s->x[1])); }

/* The bool behind an integer: what a comparison made, or v != 0. */
static KInst *truth(Kernel *k, KInst *v) {
  if (v->op == KOP_TO_I32 && v->in[0]->type == K_BOOL) return v->in[0];
  return kir_un(k, KOP_NOT, kir_bin(k, KOP_EQ, v, kir_i32(k, 0)));
}

static KInst *scalar_fill(Scalar *s) {
  double v = s->node->attrs.fill.value;
  return is_float(s->node) ? kir_f32(s->k, (float)v) : kir_i32(s->k, (int32_t)v);
}

static KInst *scalar_iota(Scalar *s) { return ix_emit_i32(s->l, s->idx[s->node->attrs.axis.axis]); }

static KInst *scalar_neg(Scalar *s) { return unary(s, KOP_NEG); }
static KInst *scalar_abs(Scalar *s) { return unary(s, KOP_ABS); }
static KInst *scalar_exp(Scalar *s) { return kir_exp(s->k, s->x[0]); }
static KInst *scalar_log(Scalar *s) { return kir_log(s->k, s->x[0]); }
static KInst *scalar_sqrt(Scalar *s) { return unary(s, KOP_SQRT); }
static KInst *scalar_tanh(Scalar *s) { return kir_tanh(s->k, s->x[0]); }
static KInst *scalar_erf(Scalar *s) { return kir_erf(s->k, s->x[0]); }
static KInst *scalar_sin(Scalar *s) { return kir_sin(s->k, s->x[0]); }
static KInst *scalar_cos(Scalar *s) { return kir_cos(s->k, s->x[0]); }
static KInst *scalar_floor(Scalar *s) { return unary(s, KOP_FLOOR); }
static KInst *scalar_detach(Scalar *s) { return s->x[0]; }

/* Towards zero, cut to the type's range, NaN to 0: conversions are only asked for what fits. */
static KInst *float_to_integer(Kernel *k, KInst *x, DType to) {
  float lo = to == DTYPE_U8 ? 0.0f : -0x1p31f, hi = to == DTYPE_U8 ? 255.0f : 0x1.fffffep30f;
  KInst *cut = kir_bin(k, KOP_MAX, kir_bin(k, KOP_MIN, x, kir_f32(k, hi)), kir_f32(k, lo));
  KInst *v = kir_un(k, KOP_TO_I32, cut);
  if (to == DTYPE_I32) v = kir_op(k, KOP_SELECT, kir_bin(k, KOP_LT, kir_f32(k, hi), x), kir_i32(k, INT32_MAX), v);
  return kir_op(k, KOP_SELECT, kir_bin(k, KOP_EQ, x, x), v, kir_i32(k, 0));
}

static KInst *scalar_cast(Scalar *s) {
  bool from = is_float(s->node->in[0]), to = is_float(s->node);
  if (from && to) return s->x[0];
  if (to) return kir_un(s->k, KOP_TO_F32, s->x[0]);
  DType t = s->node->type.dtype;
  return from ? float_to_integer(s->k, s->x[0], t) : lower_wrap(s->l, t, s->x[0]);
}

static KInst *scalar_add(Scalar *s) { return binary(s, KOP_ADD); }
static KInst *scalar_sub(Scalar *s) { return binary(s, KOP_SUB); }
static KInst *scalar_mul(Scalar *s) { return binary(s, KOP_MUL); }

/* Integer quotient or remainder by any divisor: a negative one changes the sign of both operands (and of the
 * remainder); by zero the result is 0. */
static KInst *divide(Scalar *s, KOp op) {
  Kernel *k = s->k;
  KInst *x = s->x[0], *y = s->x[1];
  if (y->op == KOP_CONST && y->imm > 0) return kir_bin(k, op, x, y);
  KInst *zero = kir_i32(k, 0), *none = kir_bin(k, KOP_EQ, y, zero), *negative = kir_bin(k, KOP_LT, y, zero);
  x = kir_op(k, KOP_SELECT, negative, kir_un(k, KOP_NEG, x), x);
  y = kir_op(k, KOP_SELECT, none, kir_i32(k, 1), kir_un(k, KOP_ABS, y));
  KInst *r = kir_bin(k, op, x, y);
  if (op == KOP_MOD) r = kir_op(k, KOP_SELECT, negative, kir_un(k, KOP_NEG, r), r);
  return kir_op(k, KOP_SELECT, none, zero, r);
}

static KInst *scalar_div(Scalar *s) { return is_float(s->node) ? binary(s, KOP_DIV) : divide(s, KOP_DIV); }
static KInst *scalar_mod(Scalar *s) { return divide(s, KOP_MOD); }
static KInst *scalar_maximum(Scalar *s) { return binary(s, KOP_MAX); }
static KInst *scalar_minimum(Scalar *s) { return binary(s, KOP_MIN); }
static KInst *scalar_fma(Scalar *s) { return kir_op(s->k, KOP_FMA, s->x[0], s->x[1], s->x[2]); }
static KInst *scalar_lt(Scalar *s) { return compare(s, KOP_LT); }
static KInst *scalar_le(Scalar *s) { return compare(s, KOP_LE); }
static KInst *scalar_eq(Scalar *s) { return compare(s, KOP_EQ); }

static KInst *scalar_select(Scalar *s) { return kir_op(s->k, KOP_SELECT, truth(s->k, s->x[0]), s->x[1], s->x[2]); }

typedef KInst *(*ScalarFn)(Scalar *s);

#define FORM_MAP(name) scalar_##name
#define FORM_LEAF(name) NULL
#define FORM_MOVE(name) NULL
#define FORM_REDUCE(name) NULL
#define FORM_SCATTER(name) NULL
#define FORM_CONTRACT(name) NULL
#define FORM_ATTEND(name) NULL
#define FORM_COMPOSITE(name) NULL

static const ScalarFn scalar_form[OP_COUNT] = {
#define OP(id, text, arity, attrs, class, infer, eval, grad, scalar) FORM_##class(scalar),
#include "ir/ops.def"
#undef OP
};

KInst *lower_scalar(Lower *l, Node *n, Ix *const *idx, KInst *const *x) {
  Scalar s = {l, l->k, n, idx, x};
  BUG_IF(!scalar_form[n->op], "%s has no scalar form", op_info[n->op].text);
  return scalar_form[n->op](&s);
}

static bool is_costly(Op op) {
  return op == OP_EXP || op == OP_LOG || op == OP_TANH || op == OP_ERF || op == OP_SIN || op == OP_COS ||
         op == OP_DIV || op == OP_SQRT;
}

int lower_costly(const Group *g) {
  int n = 0;
  /* The polynomial of erf fills the registers by itself: two at once spill its constants. */
  for (int i = 0; i < g->n_node; i++) n += is_costly(g->node[i]->op) + (g->node[i]->op == OP_ERF);
  return n;
}
