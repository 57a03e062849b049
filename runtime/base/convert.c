/* Elements of every type that safetensors knows to those that params have. */
#include "runtime/base/convert.h"

#include <math.h>
#include <string.h>

#include "runtime/base/safetensors.h"

static float f32_from_f16(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023, u;
  float f;
  if (exponent == 0) { /* 0 and what is below the normal numbers of f16 */
    f = (float)mantissa * 0x1p-24f;
    return sign ? -f : f;
  }
  u = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | mantissa << 13;
  memcpy(&f, &u, sizeof f);
  return f;
}

/* x to f32 so that rounding again to fewer bits gives what rounding x at once would: towards 0, the last bit set where
 * something was lost. */
static float f32_to_odd(double x) {
  float f = (float)x;
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  if (isnan(x) || (double)f == x) return f;
  if (fabs((double)f) > fabs(x)) u--;
  u |= 1;
  memcpy(&f, &u, sizeof f);
  return f;
}

/* A number of a file: integers exactly, all else as a double. */
typedef struct Number {
  bool is_whole;
  int64_t whole;
  double real;
} Number;

static Number number_at(const TensorView *v, size_t i) {
  const char *at = (const char *)v->data + i * stored_bytes(v->stored);
  uint16_t half;
  float single;
  double real;
  int32_t i32;
  int64_t i64;
  switch (v->stored) {
  case STORED_F32: memcpy(&single, at, sizeof single); return (Number){false, 0, (double)single};
  case STORED_F64: memcpy(&real, at, sizeof real); return (Number){false, 0, real};
  case STORED_BF16: memcpy(&half, at, sizeof half); return (Number){false, 0, (double)f32_from_bf16(half)};
  case STORED_F16: memcpy(&half, at, sizeof half); return (Number){false, 0, (double)f32_from_f16(half)};
  case STORED_I32: memcpy(&i32, at, sizeof i32); return (Number){true, i32, 0};
  case STORED_I64: memcpy(&i64, at, sizeof i64); return (Number){true, i64, 0};
  default: return (Number){true, *(const uint8_t *)at, 0};
  }
}

static bool is_float(StoredType t) {
  return t == STORED_F32 || t == STORED_F64 || t == STORED_BF16 || t == STORED_F16;
}

bool convert_is_possible(const TensorView *v, DType to) {
  static const bool read[STORED_COUNT] = {[STORED_F32] = true, [STORED_BF16] = true, [STORED_I32] = true,
                                          [STORED_U8] = true, [STORED_F16] = true, [STORED_F64] = true,
                                          [STORED_I64] = true, [STORED_BOOL] = true};
  return read[v->stored] && (dtype_is_float(to) || !is_float(v->stored));
}

static bool put_float(void *out, DType to, size_t i, Number x) {
  double real = x.is_whole ? (double)x.whole : x.real;
  if (x.is_whole && (fabs(real) > 0x1p53 || (int64_t)real != x.whole)) return false;
  float f = (float)real;
  uint16_t half = bf16_from_f32(f32_to_odd(real));
  float kept = to == DTYPE_F32 ? f : f32_from_bf16(half);
  if ((isinf(kept) && !isinf(real)) || (x.is_whole && (double)kept != real)) return false;
  if (to == DTYPE_F32) ((float *)out)[i] = f;
  else ((uint16_t *)out)[i] = half;
  return true;
}

static bool put_whole(void *out, DType to, size_t i, Number x) {
  if (to == DTYPE_I32 ? x.whole < INT32_MIN || x.whole > INT32_MAX : x.whole < 0 || x.whole > 255) return false;
  if (to == DTYPE_I32) ((int32_t *)out)[i] = (int32_t)x.whole;
  else ((uint8_t *)out)[i] = (uint8_t)x.whole;
  return true;
}

/* The frequent case: half as many bits, every number kept. */
static void widen(const TensorView *v, size_t n, float *out) {
  for (size_t i = 0; i < n; i++) {
    uint16_t half;
    memcpy(&half, (const char *)v->data + 2 * i, sizeof half);
    out[i] = v->stored == STORED_BF16 ? f32_from_bf16(half) : f32_from_f16(half);
  }
}

bool convert_tensor(const TensorView *v, DType to, void *out, Error *err) {
  if (v->dtype == to) { /* the same bits, NaNs and all */
    if (v->bytes) memcpy(out, v->data, v->bytes);
    return true;
  }
  if (!convert_is_possible(v, to))
    return error_set(err, ERROR_ARGUMENT, "\"%s\" is stored as %s, from which no %s is read; F32, F64, F16, BF16, I32, I64, U8 "
                                          "and BOOL are", v->name, stored_name(v->stored), dtype_name(to));
  size_t n = v->bytes / stored_bytes(v->stored);
  if (to == DTYPE_F32 && (v->stored == STORED_BF16 || v->stored == STORED_F16)) {
    widen(v, n, out);
    return true;
  }
  for (size_t i = 0; i < n; i++) {
    Number x = number_at(v, i);
    if (dtype_is_float(to) ? put_float(out, to, i, x) : put_whole(out, to, i, x)) continue;
    char value[40];
    if (x.is_whole) snprintf(value, sizeof value, "%lld", (long long)x.whole);
    else snprintf(value, sizeof value, "%.17g", x.real);
    return error_set(err, ERROR_ARGUMENT, "\"%s\": element %zu, %s of type %s, does not fit into %s", v->name, i, value,
                     stored_name(v->stored), dtype_name(to));
  }
  return true;
}
