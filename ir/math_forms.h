/* The transcendental functions, once: exp, log, log1p, pow, tanh, erf, normal_cdf, sin and cos as polynomials over f32 and
 * i32 operations, the same bits on every target.  Included by codegen/kir/math.c, where a Num is an instruction, and by
 * ir/scalar.c, where it is a number and everything is computed on the spot.  Who includes this defines Num, Calc and
 *
 *   real(c, x), whole(c, n)      constants, f32 and i32
 *   op1, op2, op3(c, NUMBER_..)  one operation
 *   rarely(c, cond, usual, slow, x, k)   slow(c, x, k) where cond holds (seldom), else usual
 *
 * Every step is an IEEE operation or an explicit FMA.  The polynomials are weighted minimax fits (relative error) whose
 * coefficients were rounded to f32 one by one, lowest power first, the others refitted each time.
 *
 * Errors against the true functions, in units in the last place of a normal result, over all of f32 (kir_math_test
 * measures every one of the 2^32 operands in its long form): exp 1, log 1, tanh 2, erf 2, sin 2, cos 2, log1p 2,
 * normal_cdf 6.  Denormal operands count as 0, denormal results are 0.  NaN gives NaN. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "ir/number.h"
#include "runtime/base/memory.h"

/* Adding it rounds |x| < 2^22 to an integer, which then stands in the low bits; NaN stays NaN. */
#define ROUNDER 0x1.8p23f

static Num add(Calc *c, Num x, Num y) { return op2(c, NUMBER_ADD, x, y); }
static Num sub(Calc *c, Num x, Num y) { return op2(c, NUMBER_SUB, x, y); }
static Num mul(Calc *c, Num x, Num y) { return op2(c, NUMBER_MUL, x, y); }
static Num fused(Calc *c, Num x, Num y, Num z) { return op3(c, NUMBER_FMA, x, y, z); }
static Num fused_by(Calc *c, Num x, float y, Num z) { return fused(c, x, real(c, y), z); }
static Num less(Calc *c, Num x, float y) { return op2(c, NUMBER_LT, x, real(c, y)); }
static Num either(Calc *c, Num cond, Num x, Num y) { return op3(c, NUMBER_SELECT, cond, x, y); }
static Num negative(Calc *c, Num x) { return op1(c, NUMBER_NEG, x); }
static Num bits_of(Calc *c, Num x) { return op1(c, NUMBER_BITS_I32, x); }
static Num of_bits(Calc *c, Num x) { return op1(c, NUMBER_BITS_F32, x); }
static Num shl(Calc *c, Num x, int n) { return op2(c, NUMBER_SHL, x, whole(c, n)); }
static Num shr(Calc *c, Num x, int n) { return op2(c, NUMBER_SHR, x, whole(c, n)); }
static Num masked(Calc *c, Num x, int32_t mask) { return op2(c, NUMBER_AND, x, whole(c, mask)); }
static Num has_bit(Calc *c, Num x, int32_t bit) { return op2(c, NUMBER_EQ, masked(c, x, bit), whole(c, bit)); }

/* coef[0] + x (coef[1] + ...), one FMA chain from the highest power. */
static Num poly(Calc *c, Num x, const float *coef, int n) {
  Num p = real(c, coef[n - 1]);
  for (int i = n - 2; i >= 0; i--) p = fused(c, p, x, real(c, coef[i]));
  return p;
}

/* exp(x) = 2^n p, p = exp(r) with |r| <= ln(2)/2; n stands in the low 9 bits of the integer, for |x| < 2^20. */
typedef struct Exp {
  Num p, n;
} Exp;

static Exp reduce_exp(Calc *c, Num x) {
  static const float coef[] = {0x1.0p-1f, 0x1.555554p-3f, 0x1.5554e6p-5f, 0x1.1112fcp-7f, 0x1.6d4f1cp-10f,
                               0x1.9e24e6p-13f};
  Num t = fused_by(c, x, 0x1.715476p0f, real(c, ROUNDER)), nf = sub(c, t, real(c, ROUNDER));
  Num r = fused_by(c, nf, -0x1.62e430p-1f, x);
  r = fused_by(c, nf, 0x1.05c610p-29f, r);
  Num p = poly(c, r, coef, COUNT_OF(coef));
  return (Exp){add(c, fused(c, mul(c, r, r), p, r), real(c, 1)), bits_of(c, t)};
}

/* n is added to the exponent of p, which serves even 2^128 p with p < 1.  Results below the smallest normal number
 * are 0; what overflows, and NaN, is x + infinity. */
static Num math_exp(Calc *c, Num x) {
  Exp e = reduce_exp(c, x);
  Num bits = add(c, bits_of(c, e.p), shl(c, e.n, 23));
  Num y = either(c, less(c, x, -0x1.5d589ep6f), real(c, 0), of_bits(c, bits));
  return either(c, less(c, x, 0x1.62e430p6f), y, add(c, x, real(c, INFINITY)));
}

/* The same for -80 < x <= 0, or NaN. */
static Num exp_small(Calc *c, Num x) {
  Exp e = reduce_exp(c, x);
  return mul(c, e.p, of_bits(c, add(c, shl(c, e.n, 23), whole(c, 127 << 23))));
}

/* log(2^e m) = e ln(2) + log(m), m in [sqrt(1/2), sqrt(2)).  log(0) = -inf, denormals count as 0, below it is NaN. */
static Num math_log(Calc *c, Num x) {
  static const float coef[] = {0x1.555548p-2f, -0x1.000008p-2f, 0x1.99a47ap-3f,  -0x1.555b90p-3f, 0x1.233ac0p-3f,
                               -0x1.fc3d26p-4f, 0x1.e6df82p-4f, -0x1.dda1b0p-4f, 0x1.13c372p-4f};
  const int32_t sqrt_half = 0x3f3504f3;
  Num bits = bits_of(c, x);
  Num e = shr(c, sub(c, bits, whole(c, sqrt_half)), 23);
  Num m = of_bits(c, sub(c, bits, shl(c, e, 23)));
  Num ef = op1(c, NUMBER_TO_F32, e);
  Num f = sub(c, m, real(c, 1));
  Num p = poly(c, f, coef, COUNT_OF(coef));
  Num y = mul(c, mul(c, f, p), mul(c, f, f));
  y = fused_by(c, ef, -0x1.05c610p-29f, y);
  y = fused(c, mul(c, f, real(c, -0.5f)), f, y);
  y = fused_by(c, ef, 0x1.62e430p-1f, add(c, f, y));
  y = either(c, less(c, x, FLT_MIN), real(c, -INFINITY), y);
  y = either(c, op2(c, NUMBER_LE, x, real(c, -FLT_MIN)), real(c, NAN), y);
  return either(c, less(c, x, INFINITY), y, x);
}

/* log(w) for the rounded sum w = 1 + x, and what rounding took, divided by w; far from 0 that does not count. */
static Num math_log1p(Calc *c, Num x) {
  Num one = real(c, 1), w = add(c, x, one);
  Num lost = op2(c, NUMBER_DIV, sub(c, x, sub(c, w, one)), w);
  Num near = op2(c, NUMBER_AND, less(c, x, 0x1p24f), op2(c, NUMBER_LT, real(c, -0.5f), x));
  return add(c, math_log(c, w), either(c, near, lost, real(c, 0)));
}

/* x with the sign of s; x >= 0. */
static Num copy_sign(Calc *c, Num x, Num s) {
  return of_bits(c, op2(c, NUMBER_OR, bits_of(c, x), masked(c, bits_of(c, s), INT32_MIN)));
}

/* exp(y log |x|) with the sign of x where y is odd, NaN where x is below 0 and y no whole number; 1 where y is 0 or x is 1,
 * and for -1 to an infinite power.  The logarithm's rounding is multiplied: off by 2 + 2 |y log x| units. */
static Num math_pow(Calc *c, Num x, Num y) {
  Num a = op1(c, NUMBER_ABS, x), one = real(c, 1), half = mul(c, y, real(c, 0.5f));
  Num is_whole = op2(c, NUMBER_EQ, op1(c, NUMBER_FLOOR, y), y);
  Num is_even = op2(c, NUMBER_EQ, op1(c, NUMBER_FLOOR, half), half);
  Num power = mul(c, y, math_log(c, a));
  Num of_one = either(c, op2(c, NUMBER_EQ, y, y), real(c, 0), y);
  Num size = math_exp(c, either(c, op2(c, NUMBER_EQ, a, one), of_one, power));
  Num of_whole = either(c, is_even, size, copy_sign(c, size, x));
  Num of_part = either(c, op2(c, NUMBER_AND, less(c, x, 0), less(c, a, INFINITY)), real(c, NAN), size);
  Num z = either(c, is_whole, of_whole, of_part);
  return either(c, op2(c, NUMBER_OR, op2(c, NUMBER_EQ, x, one), op2(c, NUMBER_EQ, y, real(c, 0))), one, z);
}

/* A polynomial near 0, 1 - 2 / (exp(2 |x|) + 1) elsewhere. */
static Num math_tanh(Calc *c, Num x) {
  static const float coef[] = {-0x1.555554p-2f, 0x1.11107ap-3f, -0x1.b9f192p-5f, 0x1.63a640p-6f, -0x1.0c65eep-7f,
                               0x1.1a4aa6p-9f};
  Num a = op1(c, NUMBER_ABS, x);
  Num s = mul(c, a, a);
  Num near = fused(c, mul(c, a, s), poly(c, s, coef, COUNT_OF(coef)), a);
  Num e = math_exp(c, add(c, a, a));
  Num q = op2(c, NUMBER_DIV, real(c, 2), add(c, e, real(c, 1)));
  Num far = sub(c, real(c, 1), q);
  return copy_sign(c, either(c, less(c, a, 0.625f), near, far), x);
}

/* A polynomial near 0; elsewhere 1 - exp(-t - Q(t)), where t + Q(t) fits -log(erfc(t)) up to 3.95, from where on erf
 * rounds to 1. */
static Num math_erf(Calc *c, Num x) {
  static const float small[] = {0x1.06eba6p-3f, -0x1.8126e2p-2f, 0x1.ce1986p-4f, -0x1.b67c04p-6f, 0x1.46d9e6p-8f,
                                -0x1.387442p-11f};
  static const float large[] = {-0x1.6e6172p-13f, 0x1.093f2ep-3f,  0x1.444604p-1f,   0x1.bb842ap-4f,
                                -0x1.9b8f1cp-6f,  0x1.115b7ap-8f, -0x1.c79208p-12f, 0x1.61e960p-16f};
  Num a = op1(c, NUMBER_ABS, x);
  Num t = op2(c, NUMBER_MIN, a, real(c, 3.95f));
  Num near = fused(c, a, poly(c, mul(c, a, a), small, COUNT_OF(small)), a);
  Num log_erfc = add(c, poly(c, t, large, COUNT_OF(large)), t);
  Num far = sub(c, real(c, 1), exp_small(c, negative(c, log_erfc)));
  return copy_sign(c, either(c, less(c, a, 0.92f), near, far), x);
}

/* The share of the normal distribution below x.  Below -a: exp(-a^2/2) H(q) / (a + 4), q = (a - 4) / (a + 4), where H is
 * smooth up to where the result is denormal.  a^2 is rounded; the exponential makes up for what that took. */
static Num math_normal_cdf(Calc *c, Num x) {
  static const float coef[] = {0x1.82b4bcp-1f, -0x1.373e3ap-1f, 0x1.8c6d70p-2f, -0x1.7dff64p-3f, 0x1.eee6b8p-5f,
                               -0x1.ed919ap-8f, -0x1.d1b024p-9f, 0x1.9ac328p-10f, 0x1.f8b7b0p-13f, -0x1.8dead4p-14f};
  Num a = op2(c, NUMBER_MIN, op1(c, NUMBER_ABS, x), real(c, 16));
  Num square = mul(c, a, a), lost = fused(c, a, a, negative(c, square));
  Num bell = math_exp(c, mul(c, square, real(c, -0.5f)));
  bell = fused(c, mul(c, bell, real(c, -0.5f)), lost, bell);
  Num p = add(c, a, real(c, 4)), q = op2(c, NUMBER_DIV, sub(c, a, real(c, 4)), p);
  Num tail = op2(c, NUMBER_DIV, mul(c, bell, poly(c, q, coef, COUNT_OF(coef))), p);
  return either(c, op2(c, NUMBER_LT, real(c, 0), x), sub(c, real(c, 1), tail), tail);
}

/* ---- sin and cos ---- */

/* An angle of q quarter turns and r, |r| <= pi/4 or little more. */
typedef struct Angle {
  Num q, r;
} Angle;

/* With pi/2 in three parts (Cody and Waite): right while x has few turns. */
static Angle angle_small(Calc *c, Num x) {
  Num t = fused_by(c, x, 0x1.45f306p-1f, real(c, ROUNDER)), qf = sub(c, t, real(c, ROUNDER));
  Num r = fused_by(c, qf, -0x1.921fb6p0f, x);
  r = fused_by(c, qf, 0x1.777a5cp-25f, r);
  return (Angle){bits_of(c, t), fused_by(c, qf, 0x1.ee59dap-50f, r)};
}

enum { PIECES = 6 };

/* The bits of 2/pi that count for 2^e times an integer below 2^24, e in [-14, 104]: those that give whole turns are left
 * out; 16 bits a piece, the first bit of the first piece has the weight of two quarter turns. */
static void turn_pieces(Calc *c, Num e, Num piece[PIECES]) {
  static const int32_t two_over_pi[14] = {0,      0xa2f9, 0x836e, 0x4e44, 0x1529, 0xfc27, 0x57d1,
                                          0xf534, 0xddc0, 0xdb62, 0x9599, 0x3c43, 0x9041, 0xfe51};
  Num from = add(c, e, whole(c, 14)), w[14];
  for (int i = 0; i < 14; i++) w[i] = whole(c, two_over_pi[i]);
  for (int n = 10, step = 4; step; step /= 2, n = step == 2 ? 8 : 7) {
    Num later = has_bit(c, from, 16 * step);
    for (int i = 0; i < n; i++) w[i] = either(c, later, w[i + step], w[i]);
  }
  Num left = masked(c, from, 15), right = sub(c, whole(c, 16), left);
  for (int i = 0; i < PIECES; i++) {
    Num high = op2(c, NUMBER_SHL, w[i], left), low = op2(c, NUMBER_SHR, w[i + 1], right);
    piece[i] = masked(c, op2(c, NUMBER_OR, high, low), 0xffff);
  }
}

/* The highest four of the six pieces of m times the number that the pieces make, m below 2^24: m is taken as 12 and 12
 * bits, so that products stay below 2^28. */
static void turn_multiply(Calc *c, Num m, const Num piece[PIECES], Num product[4]) {
  Num low = masked(c, m, 4095), high = shr(c, m, 12), carry = whole(c, 0);
  for (int i = PIECES - 1; i >= 0; i--) {
    Num x = mul(c, low, piece[i]), over = add(c, shr(c, x, 12), mul(c, high, piece[i]));
    Num here = op2(c, NUMBER_OR, shl(c, masked(c, over, 15), 12), masked(c, x, 4095));
    Num sum = add(c, here, carry);
    if (i < 4) product[i] = masked(c, sum, 0xffff);
    carry = add(c, shr(c, over, 4), shr(c, sum, 16));
  }
}

/* After Payne and Hanek: |x| times 2/pi modulo 4, in integers, to 62 bits behind the point; the rest of the nearest
 * quarter turn as two floats, times pi/2 as two floats. */
static Angle angle_large(Calc *c, Num x) {
  Num bits = bits_of(c, op1(c, NUMBER_ABS, x)), piece[PIECES], p[4];
  Num m = op2(c, NUMBER_OR, masked(c, bits, 0x7fffff), whole(c, 1 << 23));
  turn_pieces(c, sub(c, shr(c, bits, 23), whole(c, 150)), piece);
  turn_multiply(c, m, piece, p);
  /* 32 bits behind the point, from -1/2 to 1/2; then 30 more. */
  Num part = op2(c, NUMBER_OR, op2(c, NUMBER_OR, shl(c, p[0], 18), shl(c, p[1], 2)), shr(c, p[2], 14));
  Num rest = op2(c, NUMBER_OR, shl(c, masked(c, p[2], 0x3fff), 16), p[3]);
  Num q = add(c, shr(c, p[0], 14), masked(c, shr(c, p[0], 13), 1));
  /* The upper 24 bits to the nearest, so that beside a quarter turn the others are all there is. */
  Num upper = add(c, shr(c, part, 8), masked(c, shr(c, part, 7), 1));
  Num high = mul(c, op1(c, NUMBER_TO_F32, upper), real(c, 0x1p-24f));
  Num low = mul(c, op1(c, NUMBER_TO_F32, sub(c, part, shl(c, upper, 8))), real(c, 0x1p-32f));
  low = fused_by(c, op1(c, NUMBER_TO_F32, rest), 0x1p-62f, low);
  Num r = mul(c, high, real(c, 0x1.921fb6p0f)), error = fused_by(c, high, 0x1.921fb6p0f, negative(c, r));
  error = fused_by(c, high, -0x1.777a5cp-25f, error);
  error = fused_by(c, low, -0x1.777a5cp-25f, error);
  r = add(c, r, fused_by(c, low, 0x1.921fb6p0f, error));
  Num below = less(c, x, 0);
  return (Angle){either(c, below, negative(c, q), q), either(c, below, negative(c, r), r)};
}

/* sin of an angle and `quarter` quarter turns. */
static Num sine_of(Calc *c, Angle a, int quarter) {
  static const float sin_coef[] = {-0x1.555556p-3f, 0x1.111174p-7f, -0x1.a05966p-13f, 0x1.7c359cp-19f};
  static const float cos_coef[] = {0x1.55554ap-5f, -0x1.6c0c28p-10f, 0x1.99e818p-16f};
  Num q = add(c, a.q, whole(c, quarter)), s = mul(c, a.r, a.r);
  Num sin_r = fused(c, mul(c, a.r, s), poly(c, s, sin_coef, COUNT_OF(sin_coef)), a.r);
  Num cos_r = fused(c, mul(c, s, s), poly(c, s, cos_coef, COUNT_OF(cos_coef)), fused_by(c, s, -0.5f, real(c, 1)));
  Num y = either(c, has_bit(c, q, 1), cos_r, sin_r);
  return either(c, has_bit(c, q, 2), negative(c, y), y);
}

/* Infinity has no angle. */
static Num sine_large(Calc *c, Num x, int quarter) {
  Num y = sine_of(c, angle_large(c, x), quarter);
  return either(c, less(c, op1(c, NUMBER_ABS, x), INFINITY), y, sub(c, x, x));
}

static Num sine(Calc *c, Num x, int quarter) {
  Num small = op2(c, NUMBER_LE, op1(c, NUMBER_ABS, x), real(c, 0x1p17f));
  return rarely(c, op1(c, NUMBER_NOT, small), sine_of(c, angle_small(c, x), quarter), sine_large, x, quarter);
}

static Num math_sin(Calc *c, Num x) { return sine(c, x, 0); }
static Num math_cos(Calc *c, Num x) { return sine(c, x, 1); }

#include "ir/random_forms.h"
