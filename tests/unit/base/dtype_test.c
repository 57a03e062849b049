#include "runtime/base/dtype.h"

#include <math.h>

#include "tests/test.h"

TEST("every dtype is found by both of its names") {
  for (int i = 0; i < DTYPE_COUNT; i++) {
    DType t = DTYPE_COUNT;
    EXPECT(dtype_from_name(dtype_name((DType)i), &t) && t == (DType)i, "%s", dtype_name((DType)i));
    EXPECT(dtype_from_name(dtype_safetensors_name((DType)i), &t) && t == (DType)i, "%s", dtype_name((DType)i));
  }
  DType t = DTYPE_U8;
  EXPECT(!dtype_from_name("f64", &t) && !dtype_from_name("", &t) && t == DTYPE_U8, "no such dtype");
}

TEST("dtypes have the bytes their names say") {
  EXPECT(dtype_bytes(DTYPE_F32) == 4 && dtype_bytes(DTYPE_BF16) == 2, "floats");
  EXPECT(dtype_bytes(DTYPE_I32) == 4 && dtype_bytes(DTYPE_U8) == 1, "integers");
  EXPECT(dtype_is_float(DTYPE_BF16) && !dtype_is_float(DTYPE_I32), "kinds");
}

static float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

TEST("every bf16 comes back from f32 unchanged") {
  for (uint32_t u = 0; u < 0x10000; u++) {
    float f = f32_from_bf16((uint16_t)u);
    if (isnan(f)) EXPECT(isnan(f32_from_bf16(bf16_from_f32(f))), "%04x", (unsigned)u);
    else EXPECT(bf16_from_f32(f) == u, "%04x", (unsigned)u);
  }
}

TEST("bf16 rounds to nearest, ties to even") {
  static const struct {
    uint32_t f32;
    uint16_t bf16;
  } cases[] = {{0x3F800000, 0x3F80}, {0x3F807FFF, 0x3F80}, {0x3F808000, 0x3F80}, {0x3F808001, 0x3F81},
               {0x3F818000, 0x3F82}, {0xBF808001, 0xBF81}, {0x7F7FFFFF, 0x7F80}, {0xFF800000, 0xFF80},
               {0x80000000, 0x8000}, {0x00008000, 0x0000}, {0x00018000, 0x0002}, {0x7F7F7FFF, 0x7F7F}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    EXPECT(bf16_from_f32(from_bits(cases[i].f32)) == cases[i].bf16, "%08x gives %04x", (unsigned)cases[i].f32,
           bf16_from_f32(from_bits(cases[i].f32)));
}

TEST("NaN stays NaN in bf16, whatever its bits") {
  static const uint32_t nans[] = {0x7F800001, 0x7FFFFFFF, 0xFF800001, 0x7FC00000, 0xFFFFFFFF};
  for (size_t i = 0; i < sizeof nans / sizeof nans[0]; i++)
    EXPECT(isnan(f32_from_bf16(bf16_from_f32(from_bits(nans[i])))), "%08x", (unsigned)nans[i]);
}

TEST_MAIN()
