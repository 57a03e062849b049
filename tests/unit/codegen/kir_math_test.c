/* The polynomials against libm in f64, over the floats; executed by the interpreter of kernels. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "codegen/kir/kir.h"
#include "tests/test.h"

enum { BLOCK = 1 << 14 };

typedef KInst *(*Build)(Kernel *k, KInst *x);

static Kernel *unary_kernel(Arena *a, Build build) {
  Kernel *k = kir_new(a, "unary");
  int x = kir_arg(k, "x", DTYPE_F32, false), y = kir_arg(k, "y", DTYPE_F32, true);
  kir_factor(k, (Dim){0, 1, 0}, LANES);
  KInst *base = kir_bin(k, KOP_MUL, kir_item(k), kir_i64(k, LANES));
  KInst *lane = kir_lane(k);
  kir_store(k, y, base, lane, build(k, kir_load(k, x, base, lane, NULL)), NULL);
  return k;
}

static float from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

typedef struct Worst {
  double ulp, absolute;
  float at;
} Worst;

/* Distance in units in the last place of the true value, which counts as 0 where it is denormal. */
static double ulp_error(float got, double want) {
  if (fabs(want) < FLT_MIN) return got == 0 || fabs(fabsf(got) - FLT_MIN) < 1e-44 ? 0 : 1e9;
  if (fabs(want) > FLT_MAX) return isinf(got) && (got > 0) == (want > 0) ? 0 : fabsf(got) == FLT_MAX ? 1 : 1e9;
  int e;
  frexp(want, &e);
  return fabs((double)got - want) / ldexp(1, e - FLT_MANT_DIG);
}

static void measure(Build build, double (*truth)(double), uint32_t step, float limit, bool negative, Worst *w) {
  static float x[BLOCK], y[BLOCK];
  Arena *a = arena_new();
  Kernel *k = unary_kernel(a, build);
  Error err;
  uint64_t bits = 0;
  *w = (Worst){0};
  while (bits < 0x100000000u) {
    int n = 0;
    for (; bits < 0x100000000u && n < BLOCK; bits += step) {
      float v = from_bits((uint32_t)bits);
      bool normal = v == 0 || (fabsf(v) >= FLT_MIN && fabsf(v) <= limit);
      if (normal && (negative || !signbit(v))) x[n++] = v;
    }
    REQUIRE(kir_interpret(k, (void *[]){x, y}, n, 0, &err), "%s", err.text);
    for (int i = 0; i < n; i++) {
      double want = truth((double)x[i]), u = isinf(want) && want == (double)y[i] ? 0 : ulp_error(y[i], want);
      if (!(u <= w->ulp)) w->ulp = u, w->at = x[i];
      double d = fabs((double)y[i] - want);
      if (d > w->absolute) w->absolute = d;
    }
  }
  arena_free(a);
}

enum { STEP = 97 * 31 };

TEST("exp is within 1 unit everywhere") {
  Worst w;
  measure(kir_exp, exp, STEP, INFINITY, true, &w);
  printf("exp %.3f ulp at %a\n", w.ulp, (double)w.at);
  EXPECT(w.ulp <= 1, "%g at %g", w.ulp, (double)w.at);
}

TEST("log is within 1 unit for positive numbers") {
  Worst w;
  measure(kir_log, log, STEP / 2, INFINITY, false, &w);
  printf("log %.3f ulp at %a\n", w.ulp, (double)w.at);
  EXPECT(w.ulp <= 1, "%g at %g", w.ulp, (double)w.at);
}

TEST("tanh is within 2 units everywhere") {
  Worst w;
  measure(kir_tanh, tanh, STEP, INFINITY, true, &w);
  printf("tanh %.3f ulp at %a\n", w.ulp, (double)w.at);
  EXPECT(w.ulp <= 2, "%g at %g", w.ulp, (double)w.at);
}

TEST("erf is within 2 units everywhere") {
  Worst w;
  measure(kir_erf, erf, STEP, INFINITY, true, &w);
  printf("erf %.3f ulp at %a\n", w.ulp, (double)w.at);
  EXPECT(w.ulp <= 2, "%g at %g", w.ulp, (double)w.at);
}

TEST("sin and cos are within 1e-7 up to 10000") {
  Worst w;
  measure(kir_sin, sin, STEP, 10000, true, &w);
  printf("sin %.3f ulp at %a, absolute %g\n", w.ulp, (double)w.at, w.absolute);
  EXPECT(w.absolute <= 1e-7 && w.ulp <= 2, "%g, %g at %g", w.absolute, w.ulp, (double)w.at);
  measure(kir_cos, cos, STEP, 10000, true, &w);
  printf("cos %.3f ulp at %a, absolute %g\n", w.ulp, (double)w.at, w.absolute);
  EXPECT(w.absolute <= 1e-7 && w.ulp <= 2, "%g, %g at %g", w.absolute, w.ulp, (double)w.at);
}

static void run16(Build build, const float x[LANES], float y[LANES]) {
  Arena *a = arena_new();
  Error err;
  EXPECT(kir_interpret(unary_kernel(a, build), (void *[]){(void *)x, y}, LANES, 0, &err), "%s", err.text);
  arena_free(a);
}

TEST("special values") {
  const float x[LANES] = {0, -0.0f, INFINITY, -INFINITY, NAN, -1};
  float y[LANES];
  run16(kir_exp, x, y);
  EXPECT(y[0] == 1 && y[1] == 1 && y[2] == INFINITY && y[3] == 0 && isnan(y[4]));
  run16(kir_log, x, y);
  EXPECT(y[0] == -INFINITY && y[1] == -INFINITY && y[2] == INFINITY && isnan(y[3]) && isnan(y[4]) && isnan(y[5]));
  run16(kir_tanh, x, y);
  EXPECT(y[0] == 0 && signbit(y[1]) && y[2] == 1 && y[3] == -1 && isnan(y[4]));
  run16(kir_erf, x, y);
  EXPECT(y[0] == 0 && signbit(y[1]) && y[2] == 1 && y[3] == -1 && isnan(y[4]));
  run16(kir_sin, x, y);
  EXPECT(y[0] == 0 && isnan(y[2]) && isnan(y[3]) && isnan(y[4]));
  run16(kir_cos, x, y);
  EXPECT(y[0] == 1 && y[1] == 1 && isnan(y[2]) && isnan(y[4]));
}

/* exp of the 16 floats from `first` on, away from zero. */
static void exp_from(float first, float x[LANES], float y[LANES]) {
  for (int i = 0; i < LANES; i++) x[i] = i ? nextafterf(x[i - 1], first > 0 ? INFINITY : -INFINITY) : first;
  run16(kir_exp, x, y);
}

TEST("exp ends where its result is no normal number any more, and keeps every NaN") {
  float x[LANES], y[LANES];
  exp_from(0x1.62e426p6f, x, y);
  for (int i = 0; i < LANES; i++)
    EXPECT(x[i] < 0x1.62e430p6f ? y[i] <= FLT_MAX && y[i] > 0.999f * FLT_MAX : y[i] == INFINITY, "%a at %a", (double)y[i],
           (double)x[i]);
  exp_from(-0x1.5d5896p6f, x, y);
  for (int i = 0; i < LANES; i++)
    EXPECT(x[i] >= -0x1.5d589ep6f ? y[i] >= FLT_MIN && y[i] < 1.001f * FLT_MIN : y[i] == 0, "%a at %a", (double)y[i],
           (double)x[i]);
  for (int i = 0; i < LANES; i++) x[i] = from_bits((i % 2 ? 0xffc00000u : 0x7fc00000u) + (uint32_t)i * 0x3779bu);
  run16(kir_exp, x, y);
  for (int i = 0; i < LANES; i++) EXPECT(isnan(y[i]), "%a", (double)y[i]);
  run16(kir_erf, x, y);
  for (int i = 0; i < LANES; i++) EXPECT(isnan(y[i]), "%a", (double)y[i]);
}

TEST_MAIN()
