/* exp, log, tanh, erf, sin and cos as polynomials over the kernel IR: the same bits on every target.
 *
 * Every step is an IEEE operation or an explicit FMA.  The polynomials are weighted minimax fits (relative error) whose
 * coefficients were rounded to f32 one by one, lowest power first, the others refitted each time.  Errors against the
 * true functions, in units in the last place over all f32 (kir_math_test measures them): exp 1, log 1, tanh 2, erf 2;
 * sin and cos, for |x| <= 10000, an absolute error of 1e-7 and 2 units outside of their zeros' neighbourhoods. */
#include <float.h>
#include <math.h>

#include "codegen/kir/kir.h"

/* Adding it rounds |x| < 2^22 to an integer, which then stands in the low bits; NaN stays NaN. */
#define ROUNDER 0x1.8p23f

static KInst *f32(Kernel *k, float x) { return kir_f32(k, x); }
static KInst *i32(Kernel *k, int32_t x) { return kir_i32(k, x); }
static KInst *add(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_ADD, x, y); }
static KInst *sub(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_SUB, x, y); }
static KInst *mul(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_MUL, x, y); }
static KInst *fma_(Kernel *k, KInst *x, KInst *y, KInst *z) { return kir_op(k, KOP_FMA, x, y, z); }
static KInst *fma_c(Kernel *k, KInst *x, float y, KInst *z) { return fma_(k, x, f32(k, y), z); }
static KInst *less(Kernel *k, KInst *x, float y) { return kir_bin(k, KOP_LT, x, f32(k, y)); }
static KInst *select_(Kernel *k, KInst *c, KInst *x, KInst *y) { return kir_op(k, KOP_SELECT, c, x, y); }

/* coef[0] + x (coef[1] + ...), one FMA chain from the highest power. */
static KInst *poly(Kernel *k, KInst *x, const float *coef, int n) {
  KInst *p = f32(k, coef[n - 1]);
  for (int i = n - 2; i >= 0; i--) p = fma_(k, p, x, f32(k, coef[i]));
  return p;
}

/* exp(x) = 2^n p, p = exp(r) with |r| <= ln(2)/2; n stands in the low 9 bits of the integer, for |x| < 2^20. */
typedef struct Exp {
  KInst *p, *n;
} Exp;

static Exp reduce_exp(Kernel *k, KInst *x) {
  static const float coef[] = {0x1.0p-1f, 0x1.555554p-3f, 0x1.5554e6p-5f, 0x1.1112fcp-7f, 0x1.6d4f1cp-10f,
                               0x1.9e24e6p-13f};
  KInst *t = fma_c(k, x, 0x1.715476p0f, f32(k, ROUNDER)), *nf = sub(k, t, f32(k, ROUNDER));
  KInst *r = fma_c(k, nf, -0x1.62e430p-1f, x);
  r = fma_c(k, nf, 0x1.05c610p-29f, r);
  KInst *p = poly(k, r, coef, COUNT_OF(coef));
  return (Exp){add(k, fma_(k, mul(k, r, r), p, r), f32(k, 1)), kir_un(k, KOP_BITS_I32, t)};
}

/* n is added to the exponent of p, which serves even 2^128 p with p < 1.  Results below the smallest normal number
 * are 0; what overflows, and NaN, is x + infinity. */
KInst *kir_exp(Kernel *k, KInst *x) {
  Exp e = reduce_exp(k, x);
  KInst *bits = add(k, kir_un(k, KOP_BITS_I32, e.p), kir_bin(k, KOP_SHL, e.n, i32(k, 23)));
  KInst *y = select_(k, less(k, x, -0x1.5d589ep6f), f32(k, 0), kir_un(k, KOP_BITS_F32, bits));
  return select_(k, less(k, x, 0x1.62e430p6f), y, add(k, x, f32(k, INFINITY)));
}

/* The same for -80 < x <= 0, or NaN. */
static KInst *exp_small(Kernel *k, KInst *x) {
  Exp e = reduce_exp(k, x);
  KInst *biased = add(k, kir_bin(k, KOP_SHL, e.n, i32(k, 23)), i32(k, 127 << 23));
  return mul(k, e.p, kir_un(k, KOP_BITS_F32, biased));
}

/* log(2^e m) = e ln(2) + log(m), m in [sqrt(1/2), sqrt(2)).  log(0) = -inf, denormals count as 0, below it is NaN. */
KInst *kir_log(Kernel *k, KInst *x) {
  static const float coef[] = {0x1.555548p-2f, -0x1.000008p-2f, 0x1.99a47ap-3f,  -0x1.555b90p-3f, 0x1.233ac0p-3f,
                               -0x1.fc3d26p-4f, 0x1.e6df82p-4f, -0x1.dda1b0p-4f, 0x1.13c372p-4f};
  const int32_t sqrt_half = 0x3f3504f3;
  KInst *bits = kir_un(k, KOP_BITS_I32, x);
  KInst *e = kir_bin(k, KOP_SHR, sub(k, bits, i32(k, sqrt_half)), i32(k, 23));
  KInst *m = kir_un(k, KOP_BITS_F32, sub(k, bits, kir_bin(k, KOP_SHL, e, i32(k, 23))));
  KInst *ef = kir_un(k, KOP_TO_F32, e);
  KInst *f = sub(k, m, f32(k, 1));
  KInst *p = poly(k, f, coef, COUNT_OF(coef));
  KInst *y = mul(k, mul(k, f, p), mul(k, f, f));
  y = fma_c(k, ef, -0x1.05c610p-29f, y);
  y = fma_(k, mul(k, f, f32(k, -0.5f)), f, y);
  y = fma_c(k, ef, 0x1.62e430p-1f, add(k, f, y));
  y = select_(k, less(k, x, FLT_MIN), f32(k, -INFINITY), y);
  y = select_(k, kir_bin(k, KOP_LE, x, f32(k, -FLT_MIN)), f32(k, NAN), y);
  return select_(k, less(k, x, INFINITY), y, x);
}

/* x with the sign of s; x >= 0. */
static KInst *copy_sign(Kernel *k, KInst *x, KInst *s) {
  KInst *sign = kir_bin(k, KOP_AND, kir_un(k, KOP_BITS_I32, s), i32(k, INT32_MIN));
  return kir_un(k, KOP_BITS_F32, kir_bin(k, KOP_OR, kir_un(k, KOP_BITS_I32, x), sign));
}

/* A polynomial near 0, 1 - 2 / (exp(2 |x|) + 1) elsewhere. */
KInst *kir_tanh(Kernel *k, KInst *x) {
  static const float coef[] = {-0x1.555554p-2f, 0x1.11107ap-3f, -0x1.b9f192p-5f, 0x1.63a640p-6f, -0x1.0c65eep-7f,
                               0x1.1a4aa6p-9f};
  KInst *a = kir_un(k, KOP_ABS, x);
  KInst *s = mul(k, a, a);
  KInst *near = fma_(k, mul(k, a, s), poly(k, s, coef, COUNT_OF(coef)), a);
  KInst *e = kir_exp(k, add(k, a, a));
  KInst *q = kir_bin(k, KOP_DIV, f32(k, 2), add(k, e, f32(k, 1)));
  KInst *far = sub(k, f32(k, 1), q);
  return copy_sign(k, select_(k, less(k, a, 0.625f), near, far), x);
}

/* A polynomial near 0; elsewhere 1 - exp(-t - Q(t)), where t + Q(t) fits -log(erfc(t)) up to 3.95, from where on erf
 * rounds to 1. */
KInst *kir_erf(Kernel *k, KInst *x) {
  static const float small[] = {0x1.06eba6p-3f, -0x1.8126e2p-2f, 0x1.ce1986p-4f, -0x1.b67c04p-6f, 0x1.46d9e6p-8f,
                                -0x1.387442p-11f};
  static const float large[] = {-0x1.6e6172p-13f, 0x1.093f2ep-3f,  0x1.444604p-1f,   0x1.bb842ap-4f,
                                -0x1.9b8f1cp-6f,  0x1.115b7ap-8f, -0x1.c79208p-12f, 0x1.61e960p-16f};
  KInst *a = kir_un(k, KOP_ABS, x);
  KInst *t = kir_bin(k, KOP_MIN, f32(k, 3.95f), a);
  KInst *near = fma_(k, a, poly(k, mul(k, a, a), small, COUNT_OF(small)), a);
  KInst *log_erfc = add(k, poly(k, t, large, COUNT_OF(large)), t);
  KInst *far = sub(k, f32(k, 1), exp_small(k, kir_un(k, KOP_NEG, log_erfc)));
  return copy_sign(k, select_(k, less(k, a, 0.92f), near, far), x);
}

/* sin(x + quarter pi/2): x = q pi/2 + r with pi/2 in three parts (Cody and Waite), |r| <= pi/4. */
static KInst *sine(Kernel *k, KInst *x, int quarter) {
  static const float sin_coef[] = {-0x1.555556p-3f, 0x1.111174p-7f, -0x1.a05966p-13f, 0x1.7c359cp-19f};
  static const float cos_coef[] = {0x1.55554ap-5f, -0x1.6c0c28p-10f, 0x1.99e818p-16f};
  KInst *t = fma_c(k, x, 0x1.45f306p-1f, f32(k, ROUNDER));
  KInst *q = add(k, kir_un(k, KOP_BITS_I32, t), i32(k, quarter));
  KInst *qf = sub(k, t, f32(k, ROUNDER));
  KInst *r = fma_c(k, qf, -0x1.921fb6p0f, x);
  r = fma_c(k, qf, 0x1.777a5cp-25f, r);
  r = fma_c(k, qf, 0x1.ee59dap-50f, r);
  KInst *s = mul(k, r, r);
  KInst *sin_r = fma_(k, mul(k, r, s), poly(k, s, sin_coef, COUNT_OF(sin_coef)), r);
  KInst *cos_r = fma_(k, mul(k, s, s), poly(k, s, cos_coef, COUNT_OF(cos_coef)), fma_c(k, s, -0.5f, f32(k, 1)));
  KInst *odd = kir_bin(k, KOP_EQ, kir_bin(k, KOP_AND, q, i32(k, 1)), i32(k, 1));
  KInst *y = select_(k, odd, cos_r, sin_r);
  KInst *negative = kir_bin(k, KOP_EQ, kir_bin(k, KOP_AND, q, i32(k, 2)), i32(k, 2));
  return select_(k, negative, kir_un(k, KOP_NEG, y), y);
}

KInst *kir_sin(Kernel *k, KInst *x) { return sine(k, x, 0); }
KInst *kir_cos(Kernel *k, KInst *x) { return sine(k, x, 1); }
