/* What the host computes, the emulated device computes bit for bit: NVRTC with --fmad=false contracts nothing, and
 * the interpreter rounds as IEEE 754 says. */
#include <fenv.h>

#include "tests/gpu/emu_test.h"

enum { N = 4096 };

/* Ordinary numbers, and every special one against every other. */
static void fill(float *a, float *b) {
  static const uint32_t special[] = {0,          0x80000000, 1,          0x80000001, 0x007fffff, 0x00800000,
                                     0x3f800000, 0xbf800000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
                                     0x7fc00000, 0x3effffff, 0x3f000001, 0x4b000001, 0x4f000000, 0xcf000000,
                                     0x5f000000, 0x3f7fffff, 0x40490fdb, 0x00000123};
  enum { S = sizeof special / sizeof *special };
  uint64_t seed = 5;
  for (int i = 0; i < N; i++) {
    uint32_t u = special[i % S], v = special[i / S % S];
    memcpy(&a[i], &u, 4);
    memcpy(&b[i], &v, 4);
    if (i < S * S) continue;
    a[i] = ldexpf(random_unit(&seed), i % 60 - 30);
    b[i] = ldexpf(random_unit(&seed), i % 37 - 18);
  }
}

static float same_nan(float f) {   /* the device has one NaN */
  uint32_t u = 0x7fffffff;
  if (f != f) memcpy(&f, &u, 4);
  return f;
}

/* Instructions that CUDA C has no name for without the toolkit's headers. */
static const char prelude[] =
    "typedef long long i64; typedef unsigned long long u64; typedef unsigned u32;\n"
    "__device__ u32 bf16x2(float high, float low)\n"
    "{ u32 d; asm(\"cvt.rn.bf16x2.f32 %0, %1, %2;\" : \"=r\"(d) : \"f\"(high), \"f\"(low)); return d; }\n"
    "__device__ float through_f16(float a) { unsigned short h; float f;\n"
    "  asm(\"cvt.rn.f16.f32 %0, %1;\" : \"=h\"(h) : \"f\"(a)); asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(f) : \"h\"(h)); "
    "return f; }\n"
    "__device__ float product(float a, float b)\n"
    "{ float d; asm(\"mul.rn.f32 %0, %1, %2;\" : \"=f\"(d) : \"f\"(a), \"f\"(b)); return d; }\n"
    "__device__ float flushed(float a, float b)\n"
    "{ float d; asm(\"mul.rn.ftz.f32 %0, %1, %2;\" : \"=f\"(d) : \"f\"(a), \"f\"(b)); return d; }\n"
    "#define DOT(name, op) __device__ u32 name(u32 a, u32 b, u32 c)\\\n"
    "{ u32 d; asm(op \" %0, %1, %2, %3;\" : \"=r\"(d) : \"r\"(a), \"r\"(b), \"r\"(c)); return d; }\n"
    "#define U __float_as_uint\n"
    "DOT(dot4_uu, \"dp4a.u32.u32\") DOT(dot4_us, \"dp4a.u32.s32\") DOT(dot4_ss, \"dp4a.s32.s32\")\n"
    "DOT(low_uu, \"dp2a.lo.u32.u32\") DOT(low_su, \"dp2a.lo.s32.u32\") DOT(high_ss, \"dp2a.hi.s32.s32\")\n";

/* Runs `z = EXPRESSION of a and b` on the device. */
static bool device_map(const char *type, const char *expression, const float *a, const float *b, void *z,
                       size_t bytes) {
  char source[3000];
  snprintf(source, sizeof source,
           "%s\nextern \"C\" __global__ void k(const float *x, const float *y, %s *z) {\n"
           "  int i = blockIdx.x * blockDim.x + threadIdx.x; float a = x[i], b = y[i]; z[i] = %s; }\n",
           prelude, type, expression);
  CUfunction f = kernel_of(source);
  if (!f) return false;
  CUdeviceptr da = device_array(a, N * 4), db = device_array(b, N * 4), dz = device_array(NULL, N * bytes);
  CUresult code = launch(f, N / 256, 256, 0, (void *[]){&da, &db, &dz});
  if (code) fprintf(stderr, "%s\n", emu_last_error());
  cuMemcpyDtoH_v2(z, dz, N * bytes);
  return code == 0;
}

#define AGREES(text, host)                                                                             \
  do {                                                                                                 \
    const char *expression = text;                                                                     \
    REQUIRE(device_map("float", expression, x, y, z, 4), "%s", expression);                            \
    int wrong = 0, first = -1;                                                                         \
    for (int i = 0; i < N; i++) {                                                                      \
      volatile float a = x[i], b = y[i];                                                               \
      (void)b;                                                                                         \
      float want = same_nan(host);                                                                     \
      if (bits_of(want) != bits_of(z[i])) wrong++, first = first < 0 ? i : first;                      \
      if (first == i) fprintf(stderr, "%s: %a, %a: %a for %a\n", text, a, b, z[i], want);              \
    }                                                                                                  \
    EXPECT(wrong == 0, "%s: %d of %d differ", text, wrong, N);                                         \
  } while (0)

static float x[N], y[N], z[N];

TEST("sums, products, quotients and roots are the host's bit for bit") {
  NEED_NVRTC();
  fill(x, y);
  AGREES("a + b", a + b);
  AGREES("a - b", a - b);
  AGREES("a * b", a * b);
  AGREES("a * b + a", a * b + a);
  AGREES("a / b", a / b);
  AGREES("1.0f / a", 1.0f / a);
  AGREES("sqrtf(a)", sqrtf(a));
  AGREES("fmaf(a, b, a)", fmaf(a, b, a));
  AGREES("fabsf(a) + copysignf(b, a)", fabsf(a) + copysignf(b, a));
}

TEST("64-bit quotients and remainders, which NVRTC expands into branches, are exact") {
  NEED_NVRTC();
  fill(x, y);
  AGREES("(float)(((i64)__float_as_int(a) << 20) / ((i64)__float_as_int(b) | 1))",
         (float)((int64_t)((uint64_t)(int64_t)(int)bits_of(a) << 20) / ((int64_t)(int)bits_of(b) | 1)));
  AGREES("(float)(((u64)__float_as_uint(a) << 20) % ((u64)__float_as_uint(b) | 1))",
         (float)(((uint64_t)bits_of(a) << 20) % ((uint64_t)bits_of(b) | 1)));
}

TEST("minimum and maximum prefer numbers to NaN and order the zeros") {
  NEED_NVRTC();
  fill(x, y);
  AGREES("fminf(a, b)", a != a ? b : b != b ? a : a < b || (a == b && signbit(a)) ? a : b);
  AGREES("fmaxf(a, b)", a != a ? b : b != b ? a : a > b || (a == b && !signbit(a)) ? a : b);
}

TEST("rounding to whole numbers and single directed roundings are the host's") {
  NEED_NVRTC();
  fill(x, y);
  AGREES("rintf(a)", rintf(a));
  AGREES("truncf(a)", truncf(a));
  AGREES("floorf(a)", floorf(a));
  AGREES("ceilf(a)", ceilf(a));
  fesetround(FE_TOWARDZERO);
  static float want[N];
  for (int i = 0; i < N; i++) {
    volatile float a = x[i], b = y[i];
    volatile float s = a + b;
    want[i] = same_nan(s);
  }
  fesetround(FE_TONEAREST);
  REQUIRE(device_map("float", "__fadd_rz(a, b)", x, y, z, 4), "no kernel");
  EXPECT(memcmp(z, want, sizeof z) == 0, "__fadd_rz differs");
}

/* C leaves out-of-range conversions open, PTX clamps them and turns NaN to 0. */
static long long clamped(double v, double low, double high) {
  return v != v ? 0 : v <= low ? (long long)low : v >= high ? (long long)high : (long long)v;
}

TEST("conversions to integers clamp, round as asked and turn NaN to 0") {
  NEED_NVRTC();
  fill(x, y);
  static int got[N];
  static unsigned ugot[N];
  REQUIRE(device_map("int", "(int)a", x, y, got, 4), "no kernel");
  for (int i = 0; i < N; i++)
    EXPECT(got[i] == clamped(x[i], -2147483648.0, 2147483647.0), "(int)%a is %d", x[i], got[i]);
  REQUIRE(device_map("u32", "__float2uint_rz(a)", x, y, ugot, 4), "no kernel");
  for (int i = 0; i < N; i++)
    EXPECT(ugot[i] == (unsigned)clamped(x[i], 0, 4294967295.0), "(unsigned)%a is %u", x[i], ugot[i]);
  REQUIRE(device_map("int", "__float2int_rn(a)", x, y, got, 4), "no kernel");
  for (int i = 0; i < N; i++)
    EXPECT(got[i] == clamped(rint(x[i]), -2147483648.0, 2147483647.0), "rn %a is %d", x[i], got[i]);
  REQUIRE(device_map("int", "__float2int_ru(a)", x, y, got, 4), "no kernel");
  for (int i = 0; i < N; i++)
    EXPECT(got[i] == clamped(ceil(x[i]), -2147483648.0, 2147483647.0), "ru %a is %d", x[i], got[i]);
}

TEST("conversions from integers and between widths are the host's") {
  NEED_NVRTC();
  fill(x, y);
  AGREES("(float)__float_as_int(a)", (float)(int)bits_of(a));
  AGREES("(float)__float_as_uint(a)", (float)bits_of(a));
  AGREES("(float)((i64)__float_as_int(a) * 1234567891)", (float)((long long)(int)bits_of(a) * 1234567891));
  AGREES("(float)((u64)__float_as_uint(a) * 4123456789ull)", (float)(bits_of(a) * 4123456789ull));
  AGREES("(float)((double)a * (double)b)", (float)((double)a * (double)b));
  AGREES("(float)(signed char)__float_as_int(a)", (float)(signed char)bits_of(a));
  AGREES("(float)(unsigned short)(__float_as_int(a) + 77)", (float)(unsigned short)(bits_of(a) + 77));
}

TEST("bits are moved as C moves them") {
  NEED_NVRTC();
  fill(x, y);
  static unsigned r[N];
  static const char text[] =
      "(__float_as_uint(a) << (i & 31)) ^ (__float_as_int(b) >> (i & 31)) ^ "
      "__byte_perm(__float_as_uint(a), __float_as_uint(b), 0x6142) + __popc(__float_as_uint(a)) + "
      "__clz(__float_as_uint(b)) + __brev(__float_as_uint(a)) + __umulhi(__float_as_uint(a), 77777u) + "
      "__funnelshift_r(__float_as_uint(a), __float_as_uint(b), i) + (__float_as_int(a) / (i + 1)) % 7 + "
      "(u32)((i64)__float_as_int(b) * __float_as_int(a) >> 13) + __mulhi(__float_as_int(a), i - 9)";
  REQUIRE(device_map("u32", text, x, y, r, 4), "no kernel");
  for (int i = 0; i < N; i++) {
    uint32_t a = bits_of(x[i]), b = bits_of(y[i]), reversed = 0;
    for (int k = 0; k < 32; k++) reversed |= (a >> k & 1) << (31 - k);
    uint32_t perm = (a >> 16 & 255) | (b & 255) << 8 | (a >> 8 & 255) << 16 | (b >> 16 & 255) << 24;
    uint32_t funnel = (uint32_t)(((uint64_t)b << 32 | a) >> (i & 31));
    int s = i & 31;
    uint32_t sum = perm + (uint32_t)__builtin_popcount(a) + (b ? (uint32_t)__builtin_clz(b) : 32) + reversed +
                   (uint32_t)((uint64_t)a * 77777 >> 32) + funnel + (uint32_t)((int)a / (i + 1) % 7) +
                   (uint32_t)((int64_t)((uint64_t)(int64_t)(int)b * (uint64_t)(int64_t)(int)a) >> 13) +
                   (uint32_t)((int64_t)(int)a * (i - 9) >> 32);
    uint32_t want = (a << s) ^ (uint32_t)((int)b >> s) ^ sum;
    EXPECT(r[i] == want, "at %d: %#x for %#x", i, r[i], want);
  }
}

TEST("sums of products of bytes, and of halves by bytes, are exact") {
  NEED_NVRTC();
  fill(x, y);
  static unsigned r[N];
  static const char text[] =
      "dot4_uu(U(a), U(b), i) ^ 3 * dot4_us(U(a), U(b), 5) ^ 5 * dot4_ss(U(a), U(b), i) ^ "
      "7 * low_uu(U(a), U(b), i) ^ 9 * low_su(U(a), U(b), 1) ^ 11 * high_ss(U(a), U(b), i)";
  REQUIRE(device_map("u32", text, x, y, r, 4), "no kernel");
  for (int i = 0; i < N; i++) {
    uint32_t a = bits_of(x[i]), b = bits_of(y[i]), n = (uint32_t)i;
    uint32_t uu = n, us = 5, ss = n, low_uu = n, low_su = 1, high_ss = n;
    for (int k = 0; k < 4; k++) {
      uint32_t ua = a >> 8 * k & 255, ub = b >> 8 * k & 255;
      uu += ua * ub;
      us += ua * (uint32_t)(int32_t)(int8_t)ub;
      ss += (uint32_t)((int8_t)ua * (int8_t)ub);
    }
    for (int k = 0; k < 2; k++) {
      uint32_t ua = a >> 16 * k & 0xffff, ub = b >> 8 * k & 255, high = b >> (16 + 8 * k) & 255;
      low_uu += ua * ub;
      low_su += (uint32_t)((int16_t)ua * (int32_t)ub);
      high_ss += (uint32_t)((int16_t)ua * (int8_t)high);
    }
    uint32_t want = uu ^ 3 * us ^ 5 * ss ^ 7 * low_uu ^ 9 * low_su ^ 11 * high_ss;
    EXPECT(r[i] == want, "at %d: %#x for %#x", i, r[i], want);
  }
}

TEST("bf16 and f16 round to the nearest even") {
  NEED_NVRTC();
  fill(x, y);
  static unsigned r[N];
  REQUIRE(device_map("u32", "bf16x2(b, a)", x, y, r, 4), "no kernel");
  for (int i = 0; i < N; i++) {
    uint32_t u = bits_of(x[i]), low = x[i] != x[i] ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
    EXPECT((r[i] & 0xffff) == low, "bf16(%a) is %#x for %#x", x[i], r[i] & 0xffff, low);
  }
  REQUIRE(device_map("float", "through_f16(a)", x, y, z, 4), "no kernel");
  for (int i = 0; i < N; i++) {
    double m = fabs(x[i]), unit = m < 0x1p-14 || !isfinite(m) ? 0x1p-24 : ldexp(1, ilogb(m) - 10);
    double want = isfinite(x[i]) ? rint(m / unit) * unit : m;
    if (want >= 65520) want = INFINITY;
    EXPECT(want != want ? z[i] != z[i] : fabsf(z[i]) == want, "f16(%a) is %a for %a", x[i], z[i], want);
  }
}

TEST("flushing instructions flush denormals and the others keep them") {
  NEED_NVRTC();
  fill(x, y);
  AGREES("product(a, b)", a * b);
  REQUIRE(device_map("float", "flushed(a, b)", x, y, z, 4), "no kernel");
  for (int i = 0; i < N; i++) {
    float a = fabsf(x[i]) < 0x1p-126f ? copysignf(0, x[i]) : x[i],
          b = fabsf(y[i]) < 0x1p-126f ? copysignf(0, y[i]) : y[i];
    float want = a * b;
    if (fabsf(want) < 0x1p-126f) want = copysignf(0, want);
    EXPECT(bits_of(same_nan(want)) == bits_of(z[i]), "%a * %a is %a for %a", x[i], y[i], z[i], want);
  }
}

TEST("the functions that NVRTC expands to approximations are refused") {
  NEED_NVRTC();
  static const char *const refused[] = {"expf(a)", "__expf(a)", "exp2f(a)", "erff(a)", "tanhf(a)", "__logf(a)",
                                        "__sinf(a)", "__cosf(a)", "__fdividef(a, b)", "rsqrtf(a)", "powf(a, b)",
                                        "fmodf(a, b)"};
  NvrtcResult r;
  char source[400];
  for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
    snprintf(source, sizeof source,
             "extern \"C\" __global__ void k(const float *x, float *z) {\n"
             "  float a = x[threadIdx.x], b = x[threadIdx.x + 1]; z[threadIdx.x] = %s + b; }\n", refused[k]);
    bool compiled = nvrtc_compile(the_nvrtc, source, "compute_80", NULL, 0, &r);
    EXPECT(compiled, "%s: %s", refused[k], r.log);
    EXPECT(!compiled || !kernel_of_ptx(r.image, "k"), "%s is not refused", refused[k]);
    EXPECT_HAS(emu_last_error(), " is refused, as results would differ from device to device: ");
    nvrtc_result_done(&r);
  }
}

TEST_MAIN()
