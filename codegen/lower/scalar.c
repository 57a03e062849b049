/* The scalar forms of ir/scalar_forms.h as instructions. */
#include "codegen/kir/calc.h"
#include "codegen/lower/lower.h"

#define MATH(name) kir_##name

typedef struct Scalar {
  Lower *l;
  Calc *c;
  Node *node;
  Ix *const *idx;
  KInst *const *x;
} Scalar;

/* Looks through what a comparison made. */
static Num is_true(Calc *c, Num v) {
  if (v->op == KOP_TO_I32 && v->in[0]->type == K_BOOL) return v->in[0];
  return op1(c, NUMBER_NOT, op2(c, NUMBER_EQ, v, whole(c, 0)));
}

static bool surely_positive(const KInst *v) { return v->op == KOP_CONST && v->imm > 0; }

static Num scalar_fill(Scalar *s) {
  double v = s->node->attrs.fill.value;
  return dtype_is_float(s->node->type.dtype) ? real(s->c, (float)v) : whole(s->c, (int32_t)v);
}

static Num scalar_iota(Scalar *s) { return ix_emit_i32(s->l, s->idx[s->node->attrs.axis.axis]); }

#include "ir/scalar_forms.h"

KInst *lower_scalar(Lower *l, Node *n, Ix *const *idx, KInst *const *x) {
  Scalar s = {l, l->k, n, idx, x};
  BUG_IF(!scalar_form[n->op], "%s has no scalar form", op_info[n->op].text);
  return scalar_form[n->op](&s);
}

int lower_costly(const Group *g) {
  int n = 0;
  /* The polynomials of erf and normal_cdf fill the registers: two at once spill their constants. */
  for (int i = 0; i < g->n_node; i++) {
    Op op = g->node[i]->op;
    bool is_costly = op_info[op].work == WORK_DIVIDE || op_info[op].work == WORK_POLYNOMIAL;
    n += is_costly + (op == OP_ERF || op == OP_NORMAL_CDF);
  }
  return n;
}
