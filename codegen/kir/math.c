/* The functions of ir/math_forms.h as instructions. */
#include "codegen/kir/calc.h"

/* The slow way is gone only when some lane needs it. */
static Num rarely(Calc *k, Num cond, Num usual, Num (*slow)(Calc *k, Num x, int n), Num x, int n) {
  KInst *result = kir_var(k, usual, usual->varying);
  KInst *any = cond->varying ? kir_bin(k, KOP_EQ, kir_un(k, KOP_TREE_MAX, kir_un(k, KOP_TO_I32, cond)), kir_i32(k, 1)) : cond;
  kir_if(k, any);
  kir_set(k, result, kir_op(k, KOP_SELECT, cond, slow(k, x, n), usual));
  kir_end(k);
  return kir_get(k, result);
}

#include "ir/math_forms.h"

KInst *kir_exp(Kernel *k, KInst *x) { return math_exp(k, x); }
KInst *kir_log(Kernel *k, KInst *x) { return math_log(k, x); }
KInst *kir_log1p(Kernel *k, KInst *x) { return math_log1p(k, x); }
KInst *kir_pow(Kernel *k, KInst *x, KInst *y) { return math_pow(k, x, y); }
KInst *kir_tanh(Kernel *k, KInst *x) { return math_tanh(k, x); }
KInst *kir_erf(Kernel *k, KInst *x) { return math_erf(k, x); }
KInst *kir_normal_cdf(Kernel *k, KInst *x) { return math_normal_cdf(k, x); }
KInst *kir_sin(Kernel *k, KInst *x) { return math_sin(k, x); }
KInst *kir_cos(Kernel *k, KInst *x) { return math_cos(k, x); }
KInst *kir_uniform(Kernel *k, KInst *const counter[4], KInst *const key[2]) { return math_uniform(k, counter, key); }
KInst *kir_normal(Kernel *k, KInst *const counter[4], KInst *const key[2]) { return math_normal(k, counter, key); }
