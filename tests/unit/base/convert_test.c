/* Tensors of public checkpoints as the types that params have; values by hand from the formats. */
#include "runtime/base/convert.h"

#include <math.h>
#include <string.h>

#include "tests/test.h"

#define VIEW(type, bytes_of, ...)                                                                                    \
  (TensorView) {                                                                                                     \
    .name = "w", .dtype = (int)STORED_##type < DTYPE_COUNT ? (DType)STORED_##type : DTYPE_COUNT, .stored = STORED_##type, \
    .data = (const bytes_of[]){__VA_ARGS__}, .bytes = sizeof((const bytes_of[]){__VA_ARGS__})                        \
  }

static bool is_bits(const float *x, uint32_t want) {
  uint32_t u;
  memcpy(&u, x, sizeof u);
  return u == want;
}

TEST("f16 becomes f32 exactly: zeros, the smallest, the largest, infinities, NaN") {
  TensorView v = VIEW(F16, uint16_t, 0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xc580, 0x7bff, 0x7c00, 0xfc00, 0x7e00);
  float x[11];
  Error err = {0};
  REQUIRE(convert_tensor(&v, DTYPE_F32, x, &err), "%s", err.text);
  static const float want[] = {0, -0.0f, 0x1p-24f, 1023 * 0x1p-24f, 0x1p-14f, 1, -5.5f, 65504, INFINITY, -INFINITY};
  for (int i = 0; i < 10; i++) EXPECT(x[i] == want[i] && signbit(x[i]) == signbit(want[i]), "%d: %a", i, (double)x[i]);
  EXPECT(isnan(x[10]), "NaN");
}

TEST("f64 is rounded to nearest, ties to even, once") {
  /* 1 + 2^-24 is halfway between 1 and 1 + 2^-23; 1 + 3 2^-24 between that and 1 + 2^-22 */
  TensorView v = VIEW(F64, double, 1 + 0x1p-24, 1 + 3 * 0x1p-24, 1 + 0x1p-24 + 0x1p-50, 0.1, -0x1p-149, 0x1.fffffefp127);
  float x[6];
  uint16_t half[3];
  Error err = {0};
  REQUIRE(convert_tensor(&v, DTYPE_F32, x, &err), "%s", err.text);
  EXPECT(is_bits(&x[0], 0x3f800000) && is_bits(&x[1], 0x3f800002) && is_bits(&x[2], 0x3f800001), "ties");
  EXPECT(x[3] == 0.1f && x[4] == -0x1p-149f && x[5] == 0x1.fffffep127f, "%a %a", (double)x[3], (double)x[5]);
  /* 1 + 2^-8 is halfway in bf16; a little more, which f32 cannot hold, is not */
  TensorView b = VIEW(F64, double, 1 + 0x1p-8, 1 + 0x1p-8 + 0x1p-40, -1 - 0x1p-8 - 0x1p-40);
  REQUIRE(convert_tensor(&b, DTYPE_BF16, half, &err), "%s", err.text);
  EXPECT(half[0] == 0x3f80 && half[1] == 0x3f81 && half[2] == 0xbf81, "%x %x %x", half[0], half[1], half[2]);
}

TEST("what would become infinite or wrap around is refused with the tensor's name") {
  const struct {
    TensorView v;
    DType to;
    const char *says;
  } cases[] = {{VIEW(F64, double, 1, 1e39), DTYPE_F32, "\"w\": element 1, 9.9999999999999994e+38 of type F64, does not fit into f32"},
               {VIEW(F32, float, 3.4e38f), DTYPE_BF16, "does not fit into bf16"},
               {VIEW(I64, int64_t, 5, -3000000000), DTYPE_I32, "element 1, -3000000000 of type I64, does not fit into i32"},
               {VIEW(I64, int64_t, 16777217), DTYPE_F32, "16777217 of type I64, does not fit into f32"},
               {VIEW(I32, int32_t, 256), DTYPE_U8, "does not fit into u8"},
               {VIEW(U16, uint16_t, 1), DTYPE_I32, "stored as U16, from which no i32 is read; F32, F64, F16, BF16, I32, I64, U8"},
               {VIEW(F8_E4M3, uint8_t, 1), DTYPE_F32, "stored as F8_E4M3"},
               {VIEW(F16, uint16_t, 1), DTYPE_I32, "stored as F16, from which no i32 is read"}};
  for (int i = 0; i < COUNT_OF(cases); i++) {
    char out[64];
    Error err = {0};
    EXPECT(!convert_tensor(&cases[i].v, cases[i].to, out, &err), "case %d", i);
    EXPECT_HAS(err.text, cases[i].says);
  }
}

TEST("whole numbers and truth values become what a param wants, infinities stay") {
  TensorView i64 = VIEW(I64, int64_t, -2147483648, 2147483647), truth = VIEW(BOOL, uint8_t, 0, 1), inf = VIEW(F64, double, -INFINITY, NAN);
  int32_t whole[2];
  uint8_t byte[2];
  float x[2];
  Error err = {0};
  EXPECT(convert_tensor(&i64, DTYPE_I32, whole, &err) && whole[0] == INT32_MIN && whole[1] == INT32_MAX, "%s", err.text);
  EXPECT(convert_tensor(&truth, DTYPE_U8, byte, &err) && !byte[0] && byte[1] == 1, "%s", err.text);
  EXPECT(convert_tensor(&truth, DTYPE_F32, x, &err) && x[0] == 0 && x[1] == 1, "%s", err.text);
  EXPECT(convert_tensor(&inf, DTYPE_F32, x, &err) && x[0] == -INFINITY && isnan(x[1]), "%s", err.text);
}

TEST_MAIN()
