/* Element types, once.  id, name in IR text and Lua, name in safetensors, bytes, floating. */
#ifndef NUWA_DTYPE_H
#define NUWA_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DTYPES(X)                    \
  X(F32, "f32", "F32", 4, true)      \
  X(BF16, "bf16", "BF16", 2, true)   \
  X(I32, "i32", "I32", 4, false)     \
  X(U8, "u8", "U8", 1, false)

typedef enum DType {
#define X(id, text, st, bytes, is_float) DTYPE_##id,
  DTYPES(X)
#undef X
  DTYPE_COUNT
} DType;

const char *dtype_name(DType t);
const char *dtype_safetensors_name(DType t);
size_t dtype_bytes(DType t);
bool dtype_is_float(DType t);
/* By either name; false when there is none. */
bool dtype_from_name(const char *name, DType *out);

/* Round to nearest even; NaN stays NaN. */
uint16_t bf16_from_f32(float x);
float f32_from_bf16(uint16_t x);
/* What arithmetic gives when its result is bf16: x rounded, and 0 of its sign where x is below the normal numbers. */
float bf16_round(float x);

#endif
