/* Arithmetic and logic: functions over 32 lanes, the table that finds them, and setp.
 *
 * Lanes that are switched off are computed too and dropped.  Integers are computed without sign and wrap; flushing of
 * denormals, saturation and rounding modes are applied around the function, once for all operations. */
#include <fenv.h>
#include <math.h>
#include <string.h>

#include "tests/gpu/ptx_exec.h"

#define ALU(name, expression)                                                                          \
  static WIDE void name(uint64_t *d, const uint64_t *ap, const uint64_t *bp, const uint64_t *cp,       \
                        const uint64_t *ep) {                                                          \
    LANES_APART for (int l = 0; l < LANES; l++) {                                                                  \
      uint64_t a = ap[l], b = bp[l], c = cp[l], e = ep[l];                                             \
      (void)a, (void)b, (void)c, (void)e;                                                              \
      d[l] = (uint64_t)(expression);                                                                   \
    }                                                                                                  \
  }

/* ---- integers: the low bits of these do not depend on the type ---- */
ALU(add_any, a + b)
ALU(sub_any, a - b)
ALU(mul_any, a * b)
ALU(mad_any, a * b + c)
ALU(neg_any, 0 - a)
ALU(and_any, a & b)
ALU(or_any, a | b)
ALU(xor_any, a ^ b)
ALU(not_any, ~a)
ALU(not_pred, ~a & 1)
ALU(selp_any, c & 1 ? a : b)
ALU(slct_s32, (int32_t)c >= 0 ? a : b)
ALU(slct_f32, f32_of(c) >= 0 ? a : b)

#define PER_TYPE(T, name)                                                                              \
  ALU(min_##name, (T)a < (T)b ? a : b)                                                                 \
  ALU(max_##name, (T)a > (T)b ? a : b)                                                                 \
  ALU(sad_##name, ((T)a > (T)b ? a - b : b - a) + c)
PER_TYPE(uint16_t, u16)
PER_TYPE(int16_t, s16)
PER_TYPE(uint32_t, u32)
PER_TYPE(int32_t, s32)
PER_TYPE(uint64_t, u64)
PER_TYPE(int64_t, s64)

/* A zero divisor has been refused for the lanes that count; the lowest number by -1 wraps. */
#define DIVIDE(T, name, wraps)                                                                         \
  ALU(div_##name, (T)b == 0 ? ~(uint64_t)0 : (wraps) ? 0 - a : (uint64_t)((T)a / (T)b))                \
  ALU(rem_##name, (T)b == 0 ? a : (wraps) ? 0 : (uint64_t)((T)a % (T)b))
DIVIDE(uint16_t, u16, false)
DIVIDE(int16_t, s16, (int16_t)b == -1)
DIVIDE(uint32_t, u32, false)
DIVIDE(int32_t, s32, (int32_t)b == -1)
DIVIDE(uint64_t, u64, false)
DIVIDE(int64_t, s64, (int64_t)b == -1)

ALU(abs_s16, (int16_t)a < 0 ? 0 - a : a)
ALU(abs_s32, (int32_t)a < 0 ? 0 - a : a)
ALU(abs_s64, (int64_t)a < 0 ? 0 - a : a)

ALU(wide_u16, (uint32_t)(uint16_t)a * (uint16_t)b)
ALU(wide_s16, (int32_t)(int16_t)a * (int16_t)b)
ALU(wide_u32, (uint64_t)(uint32_t)a * (uint32_t)b)
ALU(wide_s32, (int64_t)(int32_t)a * (int32_t)b)
ALU(madwide_u16, (uint32_t)(uint16_t)a * (uint16_t)b + c)
ALU(madwide_s16, (uint64_t)(int64_t)((int32_t)(int16_t)a * (int16_t)b) + c)
ALU(madwide_u32, (uint64_t)(uint32_t)a * (uint32_t)b + c)
ALU(madwide_s32, (uint64_t)((int64_t)(int32_t)a * (int32_t)b) + c)
ALU(hi_u32, (uint64_t)(uint32_t)a * (uint32_t)b >> 32)
ALU(hi_s32, ((int64_t)(int32_t)a * (int32_t)b) >> 32)
ALU(hi_u64, (unsigned __int128)a * b >> 64)
ALU(hi_s64, ((__int128)(int64_t)a * (int64_t)b) >> 64)
ALU(madhi_u32, ((uint64_t)(uint32_t)a * (uint32_t)b >> 32) + c)
ALU(madhi_s32, (uint64_t)(((int64_t)(int32_t)a * (int32_t)b) >> 32) + c)

ALU(shl_16, (uint32_t)b > 15 ? 0 : a << (b & 15))
ALU(shl_32, (uint32_t)b > 31 ? 0 : a << (b & 31))
ALU(shl_64, (uint32_t)b > 63 ? 0 : a << (b & 63))
ALU(shr_u16, (uint32_t)b > 15 ? 0 : (uint16_t)a >> (b & 15))
ALU(shr_u32, (uint32_t)b > 31 ? 0 : (uint32_t)a >> (b & 31))
ALU(shr_u64, (uint32_t)b > 63 ? 0 : a >> (b & 63))
ALU(shr_s16, (int16_t)a >> ((uint32_t)b > 15 ? 15 : b & 15))
ALU(shr_s32, (int32_t)a >> ((uint32_t)b > 31 ? 31 : b & 31))
ALU(shr_s64, (int64_t)a >> ((uint32_t)b > 63 ? 63 : b & 63))
#define PAIR ((uint64_t)(uint32_t)a | b << 32)
#define SHIFT_CLAMPED ((uint32_t)c > 32 ? 32 : (uint32_t)c)
ALU(shf_l_wrap, (PAIR << (c & 31)) >> 32)
ALU(shf_r_wrap, (uint32_t)(PAIR >> (c & 31)))
ALU(shf_l_clamp, (PAIR << SHIFT_CLAMPED) >> 32)
ALU(shf_r_clamp, (uint32_t)(PAIR >> SHIFT_CLAMPED))

ALU(popc_32, __builtin_popcount((uint32_t)a))
ALU(popc_64, __builtin_popcountll(a))
ALU(clz_32, (uint32_t)a ? __builtin_clz((uint32_t)a) : 32)
ALU(clz_64, a ? __builtin_clzll(a) : 64)
ALU(bfind_u32, (uint32_t)a ? (uint32_t)(31 - __builtin_clz((uint32_t)a)) : ~0u)
ALU(bfind_shift_u32, (uint32_t)a ? (uint32_t)__builtin_clz((uint32_t)a) : ~0u)

static uint64_t reversed(uint64_t v, int bits) {
  uint64_t r = 0;
  for (int k = 0; k < bits; k++) r |= (v >> k & 1) << (bits - 1 - k);
  return r;
}
ALU(brev_32, reversed(a, 32))
ALU(brev_64, reversed(a, 64))

static uint64_t extracted(uint64_t a, uint64_t pos, uint64_t len, int bits, bool is_signed) {
  pos &= 255;
  len &= 255;
  if (len == 0) return 0;
  uint64_t last = pos + len - 1 < (unsigned)bits ? pos + len - 1 : (unsigned)bits - 1;
  uint64_t sign = is_signed ? a >> last & 1 : 0, r = 0;
  for (uint64_t k = 0; k < (unsigned)bits; k++)
    r |= (k < len && pos + k < (unsigned)bits ? a >> (pos + k) & 1 : sign) << k;
  return r;
}
ALU(bfe_u32, extracted(a, b, c, 32, false))
ALU(bfe_s32, extracted(a, b, c, 32, true))
ALU(bfe_u64, extracted(a, b, c, 64, false))
ALU(bfe_s64, extracted(a, b, c, 64, true))

/* bfi d, a, b, pos, len: a's low bits into b. */
static uint64_t inserted(uint64_t a, uint64_t b, uint64_t pos, uint64_t len, int bits) {
  pos &= 255;
  len &= 255;
  if (len == 0 || pos >= (unsigned)bits) return b;
  uint64_t mask = (len > 63 ? ~(uint64_t)0 : ((uint64_t)1 << len) - 1) << pos;
  return (b & ~mask) | (a << pos & mask);
}
ALU(bfi_32, inserted(a, b, c, e, 32))
ALU(bfi_64, inserted(a, b, c, e, 64))

static uint64_t permuted(uint64_t a, uint64_t b, uint64_t selector) {
  uint64_t pair = (uint64_t)(uint32_t)a | b << 32, r = 0;
  for (int k = 0; k < 4; k++) {
    uint64_t s = selector >> 4 * k & 15, byte = pair >> 8 * (s & 7) & 255;
    if (s & 8) byte = byte & 128 ? 255 : 0;
    r |= byte << 8 * k;
  }
  return r;
}
ALU(prmt_32, permuted(a, b, c))

static uint64_t lop3(uint64_t a, uint64_t b, uint64_t c, uint64_t table) {
  uint64_t r = 0;
  for (int k = 0; k < 8; k++)
    if (table >> k & 1) r |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
  return r;
}
ALU(lop3_32, lop3(a, b, c, e))

/* c + sum of products: four bytes of a and b; or the halves of a and two bytes of b, from bit `from` on. */
#define DOT4(X, Y) c + (uint64_t)((X)a * (Y)b + (X)(a >> 8) * (Y)(b >> 8) + (X)(a >> 16) * (Y)(b >> 16) + \
                                  (X)(a >> 24) * (Y)(b >> 24))
#define DOT2(X, Y, from) c + (uint64_t)((X)a * (int64_t)(Y)(b >> from) + (X)(a >> 16) * (int64_t)(Y)(b >> (from + 8)))
#define DOTS(x, y, X, Y, X2)                                                                           \
  ALU(dp4a_##x##_##y, DOT4(X, Y))                                                                      \
  ALU(dp2a_lo_##x##_##y, DOT2(X2, Y, 0))                                                               \
  ALU(dp2a_hi_##x##_##y, DOT2(X2, Y, 16))
DOTS(u32, u32, uint8_t, uint8_t, uint16_t)
DOTS(u32, s32, uint8_t, int8_t, uint16_t)
DOTS(s32, u32, int8_t, uint8_t, int16_t)
DOTS(s32, s32, int8_t, int8_t, int16_t)

/* ---- floating point ---- */
#define A f32_of(a)
#define B f32_of(b)
#define C f32_of(c)
/* Twice: as it is, and with denormals flushed before and after. */
#define F32(name, expression)                                                                          \
  ALU(name##_f32, f32_bits(expression))                                                                \
  ALU(name##_ftz_f32, (a = f32_flush(a), b = f32_flush(b), c = f32_flush(c), f32_flush(f32_bits(expression))))
#define F64(name, expression) ALU(name##_f64, f64_bits(expression))
F32(add, A + B)
F32(sub, A - B)
F32(mul, A * B)
F32(fma, fmaf(A, B, C))
F32(div, A / B)
F32(rcp, 1.0f / A)
F32(sqrt, sqrtf(A))
F64(add, f64_of(a) + f64_of(b))
F64(sub, f64_of(a) - f64_of(b))
F64(mul, f64_of(a) * f64_of(b))
F64(fma, fma(f64_of(a), f64_of(b), f64_of(c)))
F64(div, f64_of(a) / f64_of(b))
F64(rcp, 1.0 / f64_of(a))
F64(sqrt, sqrt(f64_of(a)))

/* The smaller; of a number and a NaN the number; -0 is below +0. */
#define MINMAX(T, name, bits, of, sign)                                                                \
  static T min_of_##name(T x, T y) { return x != x ? y : y != y ? x : x < y || (x == y && signbit(x)) ? x : y; } \
  static T max_of_##name(T x, T y) { return x != x ? y : y != y ? x : x > y || (x == y && !signbit(x)) ? x : y; } \
  ALU(min_##name, bits(min_of_##name(of(a), of(b))))                                                   \
  ALU(max_##name, bits(max_of_##name(of(a), of(b))))                                                   \
  ALU(min_nan_##name, bits(of(a) != of(a) || of(b) != of(b) ? (T)NAN : min_of_##name(of(a), of(b))))   \
  ALU(max_nan_##name, bits(of(a) != of(a) || of(b) != of(b) ? (T)NAN : max_of_##name(of(a), of(b))))   \
  ALU(neg_##name, a ^ sign)                                                                            \
  ALU(abs_##name, a & ~(uint64_t)sign)                                                                 \
  ALU(copysign_##name, (b & ~(uint64_t)sign) | (a & sign))
MINMAX(float, f32, f32_bits, f32_of, 0x80000000u)
MINMAX(double, f64, f64_bits, f64_of, (uint64_t)1 << 63)

ALU(min_ftz_f32, f32_flush(f32_bits(min_of_f32(f32_of(f32_flush(a)), f32_of(f32_flush(b))))))
ALU(max_ftz_f32, f32_flush(f32_bits(max_of_f32(f32_of(f32_flush(a)), f32_of(f32_flush(b))))))
ALU(finite_f32, isfinite(A) != 0)
ALU(infinite_f32, isinf(A) != 0)
ALU(number_f32, A == A)
ALU(notanumber_f32, A != A)
ALU(normal_f32, isnormal(A) != 0)
ALU(subnormal_f32, (a & 0x7f800000u) == 0 && (a & 0x7fffffu) != 0)

/* f16 and bf16: exact in f64 but for fma, whose sum is rounded to odd there so that rounding again is safe. */
static double add_to_odd(double x, double y) {
  double s = x + y, t = s - x, rest = (x - (s - t)) + (y - t);
  uint64_t u = f64_bits(s);
  if (rest != 0 && isfinite(s) && !(u & 1)) u += (rest > 0) == (s > 0) ? 1 : (uint64_t)-1;
  return f64_of(u);
}
#define HV(v) half_value((uint32_t)(v) & 0xffff, HT)
#define HB(v) half_bits(v, HT, ROUND_RN)
#define HALVES(name, f)                                                                                \
  ALU(add_##name, f(HB(HV(x) + HV(y))))                                                                \
  ALU(sub_##name, f(HB(HV(x) - HV(y))))                                                                \
  ALU(mul_##name, f(HB(HV(x) * HV(y))))                                                                \
  ALU(fma_##name, f(HB(add_to_odd(HV(x) * HV(y), HV(z)))))                                             \
  ALU(min_##name, f(HB(min_of_f64(HV(x), HV(y)))))                                                     \
  ALU(max_##name, f(HB(max_of_f64(HV(x), HV(y)))))                                                     \
  ALU(neg_##name, f(((uint32_t)x & 0xffff) ^ 0x8000u))                                                 \
  ALU(abs_##name, f((uint32_t)x & 0x7fff))
#define ONE(expression) ({ uint64_t x = a, y = b, z = c; (void)x, (void)y, (void)z; (uint64_t)(expression); })
#define TWO(expression)                                                                                \
  ({ uint64_t r = 0; for (int h = 0; h < 32; h += 16) { uint64_t x = a >> h, y = b >> h, z = c >> h;   \
     (void)x, (void)y, (void)z; r |= (uint64_t)(uint32_t)(expression) << h; } r; })
#define HT T_F16
HALVES(f16, ONE)
HALVES(f16x2, TWO)
#undef HT
#define HT T_BF16
HALVES(bf16, ONE)
HALVES(bf16x2, TWO)

/* ---- the table ---- */
typedef struct AluEntry {
  PtxOp op;
  PtxType type;
  int sub, flags;               /* flags: those that choose the function */
  AluFn *fn;
} AluEntry;
enum { CHOOSING = FLAG_NAN | FLAG_SHIFT_RIGHT | FLAG_SHIFT_CLAMP | FLAG_SHIFTAMT };

#define INTS(OP, fn16, fn32, fn64)                                                                     \
  {OP, T_U16, 0, 0, fn16##_u16}, {OP, T_S16, 0, 0, fn16##_s16}, {OP, T_U32, 0, 0, fn32##_u32},         \
  {OP, T_S32, 0, 0, fn32##_s32}, {OP, T_U64, 0, 0, fn64##_u64}, {OP, T_S64, 0, 0, fn64##_s64}
#define SAME(OP, sub, fn)                                                                              \
  {OP, T_U16, sub, 0, fn}, {OP, T_S16, sub, 0, fn}, {OP, T_U32, sub, 0, fn}, {OP, T_S32, sub, 0, fn},  \
  {OP, T_U64, sub, 0, fn}, {OP, T_S64, sub, 0, fn}
#define BITS(OP, fn) {OP, T_PRED, 0, 0, fn}, {OP, T_B16, 0, 0, fn}, {OP, T_B32, 0, 0, fn}, {OP, T_B64, 0, 0, fn}
#define FLOATS(OP, fn) {OP, T_F32, 0, 0, fn##_f32}, {OP, T_F64, 0, 0, fn##_f64}
#define HALF(OP, fn)                                                                                   \
  {OP, T_F16, 0, 0, fn##_f16}, {OP, T_F16X2, 0, 0, fn##_f16x2}, {OP, T_BF16, 0, 0, fn##_bf16},         \
  {OP, T_BF16X2, 0, 0, fn##_bf16x2}
static const AluEntry table[] = {
    SAME(OP_ADD, 0, add_any), FLOATS(OP_ADD, add), HALF(OP_ADD, add), SAME(OP_SUB, 0, sub_any), FLOATS(OP_SUB, sub),
    HALF(OP_SUB, sub), SAME(OP_MUL, WIDTH_LO, mul_any), FLOATS(OP_MUL, mul), HALF(OP_MUL, mul),
    {OP_MUL, T_U16, WIDTH_WIDE, 0, wide_u16}, {OP_MUL, T_S16, WIDTH_WIDE, 0, wide_s16},
    {OP_MUL, T_U32, WIDTH_WIDE, 0, wide_u32}, {OP_MUL, T_S32, WIDTH_WIDE, 0, wide_s32},
    {OP_MUL, T_U32, WIDTH_HI, 0, hi_u32}, {OP_MUL, T_S32, WIDTH_HI, 0, hi_s32}, {OP_MUL, T_U64, WIDTH_HI, 0, hi_u64},
    {OP_MUL, T_S64, WIDTH_HI, 0, hi_s64}, SAME(OP_MAD, WIDTH_LO, mad_any),
    {OP_MAD, T_U16, WIDTH_WIDE, 0, madwide_u16}, {OP_MAD, T_S16, WIDTH_WIDE, 0, madwide_s16},
    {OP_MAD, T_U32, WIDTH_WIDE, 0, madwide_u32}, {OP_MAD, T_S32, WIDTH_WIDE, 0, madwide_s32},
    {OP_MAD, T_U32, WIDTH_HI, 0, madhi_u32}, {OP_MAD, T_S32, WIDTH_HI, 0, madhi_s32}, FLOATS(OP_MAD, fma),
    FLOATS(OP_FMA, fma), HALF(OP_FMA, fma), INTS(OP_SAD, sad, sad, sad), INTS(OP_DIV, div, div, div),
    FLOATS(OP_DIV, div), INTS(OP_REM, rem, rem, rem), INTS(OP_MIN, min, min, min), INTS(OP_MAX, max, max, max),
    FLOATS(OP_MIN, min), FLOATS(OP_MAX, max), HALF(OP_MIN, min), HALF(OP_MAX, max),
    {OP_MIN, T_F32, 0, FLAG_NAN, min_nan_f32}, {OP_MAX, T_F32, 0, FLAG_NAN, max_nan_f32},
    {OP_MIN, T_F64, 0, FLAG_NAN, min_nan_f64}, {OP_MAX, T_F64, 0, FLAG_NAN, max_nan_f64},
    {OP_NEG, T_S16, 0, 0, neg_any}, {OP_NEG, T_S32, 0, 0, neg_any}, {OP_NEG, T_S64, 0, 0, neg_any},
    FLOATS(OP_NEG, neg), HALF(OP_NEG, neg), {OP_ABS, T_S16, 0, 0, abs_s16}, {OP_ABS, T_S32, 0, 0, abs_s32},
    {OP_ABS, T_S64, 0, 0, abs_s64}, FLOATS(OP_ABS, abs), HALF(OP_ABS, abs), FLOATS(OP_COPYSIGN, copysign),
    FLOATS(OP_RCP, rcp), FLOATS(OP_SQRT, sqrt), {OP_TESTP, T_F32, TEST_FINITE, 0, finite_f32},
    {OP_TESTP, T_F32, TEST_INFINITE, 0, infinite_f32}, {OP_TESTP, T_F32, TEST_NUMBER, 0, number_f32},
    {OP_TESTP, T_F32, TEST_NOTANUMBER, 0, notanumber_f32}, {OP_TESTP, T_F32, TEST_NORMAL, 0, normal_f32},
    {OP_TESTP, T_F32, TEST_SUBNORMAL, 0, subnormal_f32}, BITS(OP_AND, and_any), BITS(OP_OR, or_any),
    BITS(OP_XOR, xor_any), {OP_NOT, T_PRED, 0, 0, not_pred}, {OP_NOT, T_B16, 0, 0, not_any},
    {OP_NOT, T_B32, 0, 0, not_any}, {OP_NOT, T_B64, 0, 0, not_any}, {OP_LOP3, T_B32, 0, 0, lop3_32},
    {OP_SHL, T_B16, 0, 0, shl_16}, {OP_SHL, T_B32, 0, 0, shl_32}, {OP_SHL, T_B64, 0, 0, shl_64},
    INTS(OP_SHR, shr, shr, shr), {OP_SHR, T_B16, 0, 0, shr_u16}, {OP_SHR, T_B32, 0, 0, shr_u32},
    {OP_SHR, T_B64, 0, 0, shr_u64}, {OP_SHF, T_B32, 0, 0, shf_l_wrap},
    {OP_SHF, T_B32, 0, FLAG_SHIFT_RIGHT, shf_r_wrap}, {OP_SHF, T_B32, 0, FLAG_SHIFT_CLAMP, shf_l_clamp},
    {OP_SHF, T_B32, 0, FLAG_SHIFT_CLAMP | FLAG_SHIFT_RIGHT, shf_r_clamp}, {OP_BFE, T_U32, 0, 0, bfe_u32},
    {OP_BFE, T_S32, 0, 0, bfe_s32}, {OP_BFE, T_U64, 0, 0, bfe_u64}, {OP_BFE, T_S64, 0, 0, bfe_s64},
    {OP_BFI, T_B32, 0, 0, bfi_32}, {OP_BFI, T_B64, 0, 0, bfi_64}, {OP_PRMT, T_B32, 0, 0, prmt_32},
    {OP_POPC, T_B32, 0, 0, popc_32}, {OP_POPC, T_B64, 0, 0, popc_64}, {OP_CLZ, T_B32, 0, 0, clz_32},
    {OP_CLZ, T_B64, 0, 0, clz_64}, {OP_BREV, T_B32, 0, 0, brev_32}, {OP_BREV, T_B64, 0, 0, brev_64},
    {OP_BFIND, T_U32, 0, 0, bfind_u32}, {OP_BFIND, T_U32, 0, FLAG_SHIFTAMT, bfind_shift_u32}};

/* Functions of f32 that flush by themselves; for others it is done around the function. */
static const struct { PtxOp op; AluFn *fn; } flushing[] = {
    {OP_ADD, add_ftz_f32}, {OP_SUB, sub_ftz_f32}, {OP_MUL, mul_ftz_f32}, {OP_FMA, fma_ftz_f32},
    {OP_MAD, fma_ftz_f32}, {OP_DIV, div_ftz_f32}, {OP_RCP, rcp_ftz_f32}, {OP_SQRT, sqrt_ftz_f32},
    {OP_MAX, max_ftz_f32}, {OP_MIN, min_ftz_f32}};

static void bind_flushing(Instr *i) {
  if (!(i->flags & FLAG_FTZ) || (i->flags & FLAG_NAN)) return;
  for (size_t k = 0; k < sizeof flushing / sizeof *flushing; k++)
    if (flushing[k].op == (PtxOp)i->op) {
      i->alu = flushing[k].fn;
      i->flags &= (uint16_t)~FLAG_FTZ;
    }
}

/* Two types, that of a and that of b. */
static const char *bind_dot(Instr *i) {
  static AluFn *const fn[3][2][2] = {
      {{dp4a_u32_u32, dp4a_u32_s32}, {dp4a_s32_u32, dp4a_s32_s32}},
      {{dp2a_lo_u32_u32, dp2a_lo_u32_s32}, {dp2a_lo_s32_u32, dp2a_lo_s32_s32}},
      {{dp2a_hi_u32_u32, dp2a_hi_u32_s32}, {dp2a_hi_s32_u32, dp2a_hi_s32_s32}}};
  int kind = i->op == OP_DP4A ? 0 : i->sub == WIDTH_LO ? 1 : i->sub == WIDTH_HI ? 2 : -1;
  if (kind < 0) return "no half of the bytes, or this one,";
  if (i->types != 2) return "this number of types";
  for (int k = 0; k < 2; k++)
    if (i->type[k] != T_U32 && i->type[k] != T_S32) return "this type";
  i->alu = fn[kind][i->type[0] == T_S32][i->type[1] == T_S32];
  return NULL;
}

const char *bind_alu(Instr *i) {
  PtxType type = (PtxType)i->type[0];
  if (i->negated) return "a negated operand";
  static AluFn *const choice[] = {selp_any, slct_f32, slct_s32};
  if (i->op == OP_SELP) {
    i->alu = choice[0];
    i->plain = true;
    return i->types == 1 ? NULL : "this type";
  }
  if (i->op == OP_DP4A || i->op == OP_DP2A) return bind_dot(i);
  if (i->op == OP_SLCT) {
    i->alu = choice[i->type[1] == T_F32 ? 1 : 2];
    return i->types == 2 && (i->type[1] == T_F32 || i->type[1] == T_S32) ? NULL : "this type";
  }
  if ((i->flags & FLAG_SAT) && type != T_F32) return "saturation of this type";
  if ((i->flags & FLAG_FTZ) && type != T_F32) return "flushing denormals of this type";
  if (i->round > ROUND_RN && type != T_F32 && type != T_F64) return "this rounding";
  if (i->types != 1) return "this number of types";
  if ((i->op == OP_DIV || i->op == OP_RCP || i->op == OP_SQRT) && ptx_type_is_float(type) && i->round == ROUND_NONE)
    return "this without a rounding";
  for (size_t k = 0; k < sizeof table / sizeof *table; k++)
    if (table[k].op == i->op && table[k].type == type && table[k].sub == i->sub &&
        table[k].flags == (i->flags & CHOOSING)) {
      i->alu = table[k].fn;
      bind_flushing(i);
      i->plain = !(i->flags & (FLAG_FTZ | FLAG_SAT)) && i->round <= ROUND_RN &&
                 (ptx_type_is_float(type) || (i->op != OP_DIV && i->op != OP_REM));
      return NULL;
    }
  return "this type of the operation";
}

static WIDE void blend(uint64_t *d, const uint64_t *from, uint32_t lanes) {
  LANES_APART for (uint32_t l = 0; l < LANES; l++) d[l] = lanes >> l & 1 ? from[l] : d[l];
}

static void refuse_zero_divisor(Exec *x, const Instr *i, const uint64_t *b, uint32_t lanes) {
  int bits = 8 * ptx_type_bytes((PtxType)i->type[0]);
  EACH_LANE(l, lanes) {
    if ((b[l] & (~(uint64_t)0 >> (64 - bits))) == 0)
      exec_fault(x, i, (int)l, FAULT_LAUNCH, "integer division by zero");
  }
}

static WIDE void flush_row(uint64_t *d, const uint64_t *s) {
  for (int l = 0; l < LANES; l++) d[l] = f32_flush(s[l]);
}

static void saturate_row(uint64_t *d) {
  for (int l = 0; l < LANES; l++) {
    float f = f32_of(d[l]);
    d[l] = f32_bits(f > 0 ? f < 1 ? f : 1 : 0);   /* NaN becomes +0 */
  }
}

static int host_rounding(int round) {
  return round == ROUND_RZ ? FE_TOWARDZERO : round == ROUND_RM ? FE_DOWNWARD : FE_UPWARD;
}

void run_alu(Exec *x, const Instr *i, uint32_t lanes) {
  uint64_t *d = x->row[i->row[0]], result[LANES], flushed[3][LANES];
  const uint64_t *a = x->row[i->row[1]], *b = x->row[i->row[2]], *c = x->row[i->row[3]], *e = x->row[i->row[4]];
  if (i->plain) {
    if (lanes == UINT32_MAX) {
      i->alu(d, a, b, c, e);
    } else {
      i->alu(result, a, b, c, e);
      blend(d, result, lanes);
    }
    return;
  }
  if (i->op == OP_DIV || i->op == OP_REM)
    if (!ptx_type_is_float(i->type[0])) refuse_zero_divisor(x, i, b, lanes);
  if (i->flags & FLAG_FTZ) {
    flush_row(flushed[0], a);
    flush_row(flushed[1], b);
    flush_row(flushed[2], c);
    if (i->op != OP_SLCT) a = flushed[0], b = flushed[1];
    c = flushed[2];
  }
  if (i->round > ROUND_RN) fesetround(host_rounding(i->round));
  i->alu(result, a, b, c, e);
  if (i->round > ROUND_RN) fesetround(FE_TONEAREST);
  if ((i->flags & FLAG_FTZ) && i->op != OP_SLCT && i->op != OP_TESTP) flush_row(result, result);
  if (i->flags & FLAG_SAT) saturate_row(result);
  blend(d, result, lanes);
}

/* ---- setp ---- */
#define COMPARE_AS(T, of)                                                                              \
  for (int l = 0; l < LANES; l++) {                                                                    \
    T u = (T)of(a[l]), v = (T)of(b[l]);                                                                \
    bool less = u < v, equal = u == v, unordered = u != u || v != v;                                   \
    r[l] = (uint64_t)((less & want_less) | (equal & want_equal) | ((!less & !equal & !unordered) & want_more) | \
                      (unordered & want_unordered));                                                   \
  }
#define AS_IS(v) (v)

static WIDE void compare_rows(uint64_t *r, const Instr *i, const uint64_t *a, const uint64_t *b) {
  int cmp = i->sub & 15;
  bool want_less = cmp == CMP_LT || cmp == CMP_LE || cmp == CMP_NE || cmp == CMP_NUM;
  bool want_more = cmp == CMP_GT || cmp == CMP_GE || cmp == CMP_NE || cmp == CMP_NUM;
  bool want_equal = cmp == CMP_EQ || cmp == CMP_LE || cmp == CMP_GE || cmp == CMP_NUM;
  bool want_unordered = (i->sub & 16) || cmp == CMP_NAN;
  switch (i->type[0]) {
  case T_U16: case T_B16: COMPARE_AS(uint16_t, AS_IS) break;
  case T_S16: COMPARE_AS(int16_t, AS_IS) break;
  case T_U32: case T_B32: COMPARE_AS(uint32_t, AS_IS) break;
  case T_S32: COMPARE_AS(int32_t, AS_IS) break;
  case T_U64: case T_B64: COMPARE_AS(uint64_t, AS_IS) break;
  case T_S64: COMPARE_AS(int64_t, AS_IS) break;
  case T_F32: COMPARE_AS(float, f32_of) break;
  case T_F64: COMPARE_AS(double, f64_of) break;
  default: break;
  }
}

const char *bind_setp(Instr *i) {
  int t = i->type[0];
  bool known = (t >= T_B16 && t <= T_S64) || t == T_F32 || t == T_F64;
  if (i->types != 1 || !known) return "this type";
  if ((i->sub & 15) >= CMP_NUM && t < T_F16) return "this comparison of integers";
  if ((i->flags & FLAG_FTZ) && t != T_F32) return "flushing denormals of this type";
  if ((i->operands == 4) != (i->sub2 != BOOL_NONE)) return "this number of operands";
  if (i->negated & ~8u) return "a negated operand";
  return NULL;
}

static uint64_t combined(int how, uint64_t value, uint64_t with) {
  return how == BOOL_AND ? value & with : how == BOOL_OR ? value | with : how == BOOL_XOR ? value ^ with : value;
}

void run_setp(Exec *x, const Instr *i, uint32_t lanes) {
  const uint64_t *a = operand_row(x, i, 1, 0), *b = operand_row(x, i, 2, 0);
  uint64_t r[LANES], flushed[2][LANES];
  if (i->flags & FLAG_FTZ) {
    flush_row(flushed[0], a);
    flush_row(flushed[1], b);
    a = flushed[0], b = flushed[1];
  }
  compare_rows(r, i, a, b);
  uint64_t other[LANES];
  const uint64_t *with = i->operands == 4 ? operand_row(x, i, 3, 0) : r;
  for (int l = 0; l < LANES; l++) {
    uint64_t w = (with[l] ^ (i->negated >> 3)) & 1, value = r[l];
    r[l] = combined(i->sub2, value, w);
    other[l] = combined(i->sub2, value ^ 1, w);
  }
  blend(operand_row(x, i, 0, 0), r, lanes);
  if (i->count[0] == 2) blend(operand_row(x, i, 0, 1), other, lanes);
}
