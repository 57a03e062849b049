/* The dtype table's columns as functions, and bf16 conversions. */
#include "runtime/base/dtype.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "runtime/base/error.h"

typedef struct DTypeInfo {
  const char *name, *safetensors;
  size_t bytes;
  bool is_float;
} DTypeInfo;

static const DTypeInfo dtype_table[DTYPE_COUNT] = {
#define X(id, text, st, size, floating) {text, st, size, floating},
    DTYPES(X)
#undef X
};

static const DTypeInfo *dtype_info(DType t) {
  BUG_IF((unsigned)t >= DTYPE_COUNT, "dtype %d does not exist", (int)t);
  return &dtype_table[t];
}

const char *dtype_name(DType t) { return dtype_info(t)->name; }
const char *dtype_safetensors_name(DType t) { return dtype_info(t)->safetensors; }
size_t dtype_bytes(DType t) { return dtype_info(t)->bytes; }
bool dtype_is_float(DType t) { return dtype_info(t)->is_float; }

bool dtype_from_name(const char *name, DType *out) {
  for (int i = 0; i < DTYPE_COUNT; i++)
    if (!strcmp(name, dtype_table[i].name) || !strcmp(name, dtype_table[i].safetensors)) {
      *out = (DType)i;
      return true;
    }
  return false;
}

uint16_t bf16_from_f32(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40); /* quiet, and not an infinity */
  return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

float f32_from_bf16(uint16_t x) {
  uint32_t u = (uint32_t)x << 16;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

float bf16_round(float x) {
  if (x > -FLT_MIN && x < FLT_MIN) return signbit(x) ? -0.0f : 0.0f;
  return f32_from_bf16(bf16_from_f32(x));
}
