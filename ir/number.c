#include "ir/number.h"

#include <math.h>
#include <string.h>

#include "runtime/base/dtype.h"
#include "runtime/base/error.h"

static float compute_f32(NumberOp op, float x, float y, float z) {
  switch (op) {
  case NUMBER_ADD: return x + y;
  case NUMBER_SUB: return x - y;
  case NUMBER_MUL: return x * y;
  case NUMBER_DIV: return x / y;
  case NUMBER_MIN: return y < x || isnan(y) ? y : x;
  case NUMBER_MAX: return x < y || isnan(y) ? y : x;
  case NUMBER_NEG: return -x;
  case NUMBER_ABS: return fabsf(x);
  case NUMBER_SQRT: return sqrtf(x);
  case NUMBER_FLOOR: return floorf(x);
  case NUMBER_RINT: return rintf(x);
  case NUMBER_ROUND: return bf16_round(x);
  case NUMBER_FMA: return fmaf(x, y, z);
  default: BUG("operation %d is none on f32", (int)op);
  }
}

static bool compare_f32(NumberOp op, float x, float y) {
  return op == NUMBER_LT ? x < y : op == NUMBER_LE ? x <= y : x == y;
}

static int64_t compute_int(NumberOp op, NumberType t, int64_t x, int64_t y) {
  uint64_t a = (uint64_t)x, b = (uint64_t)y, r = 0;
  switch (op) {
  case NUMBER_ADD: r = a + b; break;
  case NUMBER_SUB: r = a - b; break;
  case NUMBER_MUL: r = a * b; break;
  case NUMBER_DIV: return x / y - (x % y < 0);
  case NUMBER_MOD: return x % y + (x % y < 0 ? y : 0);
  case NUMBER_MIN: return x < y ? x : y;
  case NUMBER_MAX: return x > y ? x : y;
  case NUMBER_NEG: r = 0 - a; break;
  case NUMBER_ABS: r = x < 0 ? 0 - a : a; break;
  case NUMBER_AND: return x & y;
  case NUMBER_OR: return x | y;
  case NUMBER_XOR: return x ^ y;
  case NUMBER_NOT: return t == NUMBER_BOOL ? !x : ~x;
  case NUMBER_SHL: r = a << (b & 31); break;
  case NUMBER_SHR: return x >> (b & 31);
  case NUMBER_MUL_HIGH: r = ((uint64_t)(uint32_t)a * (uint32_t)b) >> 32; break;
  case NUMBER_LT: return x < y;
  case NUMBER_LE: return x <= y;
  case NUMBER_EQ: return x == y;
  default: BUG("operation %d is none on integers", (int)op);
  }
  return t == NUMBER_I32 ? (int32_t)(uint32_t)r : (int64_t)r;
}

static int64_t truncate_f32(float x) { return fabsf(x) < 0x1p31f ? (int32_t)x : INT32_MIN; }

Number number_compute(NumberOp op, NumberType t, Number x, Number y, Number z) {
  Number r = {0};
  int32_t bits;
  switch (op) {
  case NUMBER_SELECT: return x.i ? y : z;
  case NUMBER_TO_F32: r.f = (float)x.i; return r;
  case NUMBER_TO_I32: r.i = t == NUMBER_F32 ? truncate_f32(x.f) : (int32_t)(uint32_t)x.i; return r;
  case NUMBER_TO_I64: return x;
  case NUMBER_BITS_I32: memcpy(&bits, &x.f, sizeof bits); r.i = bits; return r;
  case NUMBER_BITS_F32: bits = (int32_t)x.i; memcpy(&r.f, &bits, sizeof bits); return r;
  default: break;
  }
  if (t != NUMBER_F32) r.i = compute_int(op, t, x.i, y.i);
  else if (op == NUMBER_LT || op == NUMBER_LE || op == NUMBER_EQ) r.i = compare_f32(op, x.f, y.f);
  else r.f = compute_f32(op, x.f, y.f, z.f);
  return r;
}
