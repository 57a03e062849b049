/* cvt between all types, mov with packing, and conversion of addresses. */
#include <fenv.h>
#include <math.h>

#include "tests/gpu/ptx_exec.h"

/* f16 has 11 bits of significand and exponents from -14, bf16 8 bits and exponents from -126. */
double half_value(uint32_t bits, PtxType t) {
  if (t == T_BF16) return f32_of((uint64_t)bits << 16);
  int exponent = bits >> 10 & 31;
  double m = bits & 1023, v = exponent == 31 ? (m != 0 ? (double)NAN : (double)INFINITY)
                              : exponent     ? ldexp(m + 1024, exponent - 25)
                                             : ldexp(m, -24);
  return bits & 0x8000 ? -v : v;
}

uint32_t half_bits(double v, PtxType t, PtxRound round) {
  int precision = t == T_F16 ? 11 : 8, least = t == T_F16 ? -14 : -126;
  uint32_t infinity = t == T_F16 ? 0x7c00 : 0x7f80, sign = signbit(v) ? 0x8000 : 0;
  if (v != v) return 0x7fff;
  if (isinf(v)) return sign | infinity;
  if (v == 0) return sign;
  int exponent;
  frexp(v, &exponent);
  exponent = exponent - 1 < least ? least : exponent - 1;
  double units = ldexp(fabs(v), precision - 1 - exponent);
  units = round == ROUND_RZ ? trunc(units) : rint(units);
  if (exponent > 127 - (t == T_F16 ? 112 : 0)) return sign | (round == ROUND_RZ ? infinity - 1 : infinity);
  /* The leading one of a normal number carries into the exponent field, as does rounding up to a power of two. */
  uint32_t bits = ((uint32_t)(exponent - least) << (precision - 1)) + (uint32_t)units;
  if (bits >= infinity) bits = round == ROUND_RZ ? infinity - 1 : infinity;
  return sign | bits;
}

static __int128 integer_least(int type) {
  return ptx_type_is_signed(type) ? -((__int128)1 << (8 * ptx_type_bytes((PtxType)type) - 1)) : 0;
}

static __int128 integer_most(int type) {
  return ((__int128)1 << (8 * ptx_type_bytes((PtxType)type) - ptx_type_is_signed(type))) - 1;
}

static uint64_t integer_cut(uint64_t v, int type) {
  switch (type) {
  case T_B8: case T_U8: return (uint8_t)v;
  case T_S8: return (uint64_t)(int64_t)(int8_t)v;
  case T_B16: case T_U16: return (uint16_t)v;
  case T_S16: return (uint64_t)(int64_t)(int16_t)v;
  case T_B32: case T_U32: return (uint32_t)v;
  case T_S32: return (uint64_t)(int64_t)(int32_t)v;
  default: return v;
  }
}

static uint64_t integer_to(uint64_t bits, const Instr *i) {
  int from = i->type[1], to = i->type[0];
  uint64_t cut = integer_cut(bits, from);
  bool is_signed = ptx_type_is_signed(from);
  if (to == T_F32) return f32_bits(is_signed ? (float)(int64_t)cut : (float)cut);
  if (to == T_F64) return f64_bits(is_signed ? (double)(int64_t)cut : (double)cut);
  if (to == T_F16 || to == T_BF16)
    return half_bits(is_signed ? (double)(int64_t)cut : (double)cut, (PtxType)to, (PtxRound)i->round);
  if (i->flags & FLAG_SAT) {
    __int128 v = is_signed ? (__int128)(int64_t)cut : (__int128)cut;
    v = v < integer_least(to) ? integer_least(to) : v > integer_most(to) ? integer_most(to) : v;
    cut = (uint64_t)v;
  }
  return integer_cut(cut, to);
}

static double rounded(double v, int round) {
  switch (round) {
  case ROUND_RNI: return rint(v);
  case ROUND_RZI: return trunc(v);
  case ROUND_RMI: return floor(v);
  case ROUND_RPI: return ceil(v);
  default: return v;
  }
}

/* NaN becomes 0, or the lowest bit pattern with the top bit set where 64 bits take part. */
static uint64_t float_to_integer(double v, const Instr *i) {
  int to = i->type[0];
  if (v != v) return i->type[1] == T_F64 || ptx_type_bytes((PtxType)to) == 8 ? (uint64_t)1 << 63 : 0;
  v = rounded(v, i->round);
  if (v <= (double)integer_least(to)) return (uint64_t)integer_least(to);
  if (v >= (double)integer_most(to)) return (uint64_t)integer_most(to);
  return ptx_type_is_signed(to) ? (uint64_t)(int64_t)v : (uint64_t)v;
}

static uint64_t float_to(uint64_t bits, const Instr *i) {
  int from = i->type[1], to = i->type[0];
  bool flush = i->flags & FLAG_FTZ;
  if (from == T_F32 && flush) bits = f32_flush(bits);
  double v = from == T_F32   ? (double)f32_of(bits)
             : from == T_F64 ? f64_of(bits)
                             : half_value((uint32_t)bits & 0xffff, (PtxType)from);
  if (!ptx_type_is_float(to)) return float_to_integer(v, i);
  v = rounded(v, i->round);
  if (i->flags & FLAG_SAT) v = v > 0 ? v < 1 ? v : 1 : 0;
  uint64_t r;
  switch (to) {
  case T_F64: return f64_bits(v);
  case T_F32: r = f32_bits((float)v); return flush ? f32_flush(r) : r;
  case T_TF32: return v != v ? 0x7fffffffu : (((uint32_t)bits + 0x1000u) & 0xffffe000u);
  default: return half_bits(v, (PtxType)to, (PtxRound)i->round);
  }
}

static bool convertible(int t) { return t != T_NONE && t != T_PRED && t != T_F16X2 && t != T_BF16X2; }

const char *bind_cvt(Instr *i) {
  int to = i->type[0], from = i->type[1];
  if (i->types != 2 || i->negated) return "this conversion";
  if (to == T_F16X2 || to == T_BF16X2)
    return from == T_F32 && i->operands == 3 && (i->round == ROUND_RN || i->round == ROUND_RZ) ? NULL
                                                                                               : "this conversion";
  if (!convertible(to) || !convertible(from) || from == T_TF32 || i->operands != 2) return "this conversion";
  if ((to == T_TF32) != (i->round == ROUND_RNA) || (to == T_TF32 && from != T_F32)) return "this conversion";
  bool half = to == T_F16 || to == T_BF16;
  if (half && i->round != ROUND_RN && i->round != ROUND_RZ && i->round < ROUND_RNI) return "this rounding";
  if (ptx_type_is_float(from) && !ptx_type_is_float(to) && i->round < ROUND_RNI) return "this rounding";
  return NULL;
}

static uint64_t pack_halves(uint64_t high, uint64_t low, const Instr *i) {
  PtxType t = i->type[0] == T_F16X2 ? T_F16 : T_BF16;
  PtxRound r = (PtxRound)i->round;
  return (uint64_t)half_bits(f32_of(high), t, r) << 16 | half_bits(f32_of(low), t, r);
}

void run_cvt(Exec *x, const Instr *i, uint32_t lanes) {
  uint64_t *d = operand_row(x, i, 0, 0);
  const uint64_t *a = operand_row(x, i, 1, 0);
  if (i->operands == 3) {
    const uint64_t *b = operand_row(x, i, 2, 0);
    EACH_LANE(l, lanes) d[l] = pack_halves(a[l], b[l], i);
    return;
  }
  bool narrows = i->round > ROUND_RN && i->round < ROUND_RNI;
  if (narrows) fesetround(i->round == ROUND_RZ ? FE_TOWARDZERO : i->round == ROUND_RM ? FE_DOWNWARD : FE_UPWARD);
  uint64_t (*volatile convert)(uint64_t, const Instr *) = ptx_type_is_float(i->type[1]) ? float_to : integer_to;
  EACH_LANE(l, lanes) d[l] = convert(a[l], i);
  if (narrows) fesetround(FE_TONEAREST);
}

/* mov.b64 {a, b}, c and c, {a, b}: the first is the lowest. */
void run_mov(Exec *x, const Instr *i, uint32_t lanes) {
  int to = i->count[0], from = i->count[1], parts = to > from ? to : from;
  int bits = 8 * ptx_type_bytes((PtxType)i->type[0]) / parts;
  uint64_t mask = bits == 64 ? ~(uint64_t)0 : ((uint64_t)1 << bits) - 1, r[LANES] = {0};
  if (parts == 1) {
    uint64_t *d = operand_row(x, i, 0, 0);
    const uint64_t *a = operand_row(x, i, 1, 0);
    for (uint32_t l = 0; l < LANES; l++) d[l] = lanes >> l & 1 ? a[l] : d[l];
    return;
  }
  for (int k = 0; k < from; k++) {
    const uint64_t *a = operand_row(x, i, 1, k);
    EACH_LANE(l, lanes) r[l] |= from == 1 ? a[l] : (a[l] & mask) << k * bits;
  }
  for (int k = 0; k < to; k++) {
    uint64_t *d = operand_row(x, i, 0, k);
    EACH_LANE(l, lanes) d[l] = to == 1 ? r[l] : r[l] >> k * bits & mask;
  }
}

static uint64_t window(int space) {
  return space == SPACE_SHARED ? SHARED_BASE : space == SPACE_LOCAL ? LOCAL_BASE : 0;
}

void run_cvta(Exec *x, const Instr *i, uint32_t lanes) {
  uint64_t *d = operand_row(x, i, 0, 0), base = window(i->space);
  const uint64_t *a = operand_row(x, i, 1, 0);
  EACH_LANE(l, lanes) d[l] = i->flags & FLAG_TO ? a[l] - base : a[l] + base;
}

void run_isspacep(Exec *x, const Instr *i, uint32_t lanes) {
  uint64_t *d = operand_row(x, i, 0, 0);
  const uint64_t *a = operand_row(x, i, 1, 0);
  EACH_LANE(l, lanes) {
    bool shared = a[l] - SHARED_BASE < WINDOW_BYTES, local = a[l] - LOCAL_BASE < WINDOW_BYTES;
    d[l] = i->space == SPACE_SHARED ? shared : i->space == SPACE_LOCAL ? local : !shared && !local;
  }
}
