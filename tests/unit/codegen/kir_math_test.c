/* The polynomials against libm in f64, over the floats; executed by the interpreter of kernels.  `kir_math_test long`
 * compiles them and takes all 2^32 operands of each. */
#include <float.h>
#include <math.h>
#include <pthread.h>

#include "runtime/base/float_mode.h"
#include "tests/test.h"
#include "tests/unit/codegen/run_kernel.h"

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
  double ulp;
  float at;
} Worst;

static double normal_cdf(double x) { return 0.5 * erfc(-x * sqrt(0.5)); }

/* What ir/math_forms.h promises, in units in the last place. */
static const struct {
  const char *name;
  Build build;
  double (*truth)(double x);
  double ulp;
} functions[] = {
    {"exp", kir_exp, exp, 1},     {"log", kir_log, log, 1},       {"log1p", kir_log1p, log1p, 2},
    {"tanh", kir_tanh, tanh, 2},  {"erf", kir_erf, erf, 2},       {"normal_cdf", kir_normal_cdf, normal_cdf, 6},
    {"sin", kir_sin, sin, 2},     {"cos", kir_cos, cos, 2},
};

/* Distance in units in the last place of the true value, which counts as 0 where it is denormal. */
static double ulp_error(float got, double want) {
  if (isnan(want) || isnan(got)) return isnan(want) && isnan(got) ? 0 : INFINITY;
  if (fabs(want) < FLT_MIN) return got == 0 || fabs(fabsf(got) - FLT_MIN) < 1e-44 ? 0 : INFINITY;
  if (isinf(want)) return (double)got == want ? 0 : INFINITY;
  if (fabs(want) > FLT_MAX) return isinf(got) && (got > 0) == (want > 0) ? 0 : fabsf(got) == FLT_MAX ? 1 : INFINITY;
  int e;
  frexp(want, &e);
  return fabs((double)got - want) / ldexp(1, e - FLT_MANT_DIG);
}

static void compare(double (*truth)(double), const float *x, const float *y, int n, Worst *w) {
  for (int i = 0; i < n; i++) {
    double operand = fabsf(x[i]) < FLT_MIN ? copysign(0, (double)x[i]) : (double)x[i];
    double u = ulp_error(y[i], truth(operand));
    if (!(u <= w->ulp)) *w = (Worst){u, x[i]};
  }
}

/* Every step-th of all floats, by the interpreter of kernels. */
static Worst measure(Build build, double (*truth)(double), uint32_t step) {
  static float x[BLOCK], y[BLOCK];
  Arena *a = arena_new();
  Kernel *k = unary_kernel(a, build);
  Error err;
  Worst w = {0};
  for (uint64_t bits = 0; bits < 0x100000000u;) {
    int n = 0;
    for (; bits < 0x100000000u && n < BLOCK; bits += step) x[n++] = from_bits((uint32_t)bits);
    bool ok = kir_interpret(k, (void *[]){x, y}, n, 0, &err);
    EXPECT(ok, "%s", err.text);
    if (!ok) break;
    compare(truth, x, y, n, &w);
  }
  arena_free(a);
  return w;
}

enum { STEP = 97 * 31 * 7 };

TEST("every function is right to its unit over all floats, infinities, NaN and denormals included") {
  for (int f = 0; f < COUNT_OF(functions); f++) {
    Worst w = measure(functions[f].build, functions[f].truth, STEP);
    printf("%s %.3f ulp at %a\n", functions[f].name, w.ulp, (double)w.at);
    EXPECT(w.ulp <= functions[f].ulp, "%s: %g at %a", functions[f].name, w.ulp, (double)w.at);
  }
}

/* Numbers next to multiples of pi/2, found by continued fractions: where reduction loses most. */
TEST("sin and cos hold beside multiples of a quarter turn, small and huge") {
  static const float x[] = {0x1.921fb6p0f,  0x1.921fb6p1f,   0x1.2d97c8p2f,    0x1.f6a7a2p2f, 0x1.94919p20f, 0x1.0c0000p17f,
                            0x1.000002p17f, 0x1.fffffep16f,  0x1.6ac5b2p62f,   0x1.37a9b0p62f, 1e8f,         1e15f,         0x1.b08c4ap111f,
                            0x1.fffffep127f, 0x1.4ef0c0p87f, -0x1.6ac5b2p62f, -1e30f,        16367173e9f,  5e6f};
  float padded[2 * LANES] = {0}, y[2 * LANES];
  Error err;
  memcpy(padded, x, sizeof x);
  for (int f = COUNT_OF(functions) - 2; f < COUNT_OF(functions); f++) {
    Arena *a = arena_new();
    Worst w = {0};
    REQUIRE(kir_interpret(unary_kernel(a, functions[f].build), (void *[]){padded, y}, 2 * LANES, 0, &err), "%s", err.text);
    compare(functions[f].truth, padded, y, 2 * LANES, &w);
    EXPECT(w.ulp <= functions[f].ulp, "%s: %g at %a", functions[f].name, w.ulp, (double)w.at);
    arena_free(a);
  }
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

static float exponent;
static KInst *power_of(Kernel *k, KInst *x) { return kir_pow(k, x, kir_f32(k, exponent)); }

/* All of x to the power of `exponent`; a denormal counts as 0 of its sign. */
static void check_powers(const float *x, int n) {
  float y[LANES];
  for (int from = 0; from < n; from += LANES) {
    run16(power_of, x + from, y);
    for (int i = 0; i < LANES; i++) {
      double base = fabsf(x[from + i]) < FLT_MIN ? copysign(0, (double)x[from + i]) : (double)x[from + i];
      double want = pow(base, (double)exponent), u = ulp_error(y[i], want);
      bool is_sign = isnan(want) || want != 0 || !signbit(want) == !signbit(y[i]);
      bool is_near = !(u > 2 + 2 * fabs((double)exponent * log(fabs(base))));
      EXPECT(is_near && is_sign, "%a ^ %g: %g units, %g not %g", base, (double)exponent, u, (double)y[i], want);
    }
  }
}

TEST("powers are C's, signs and infinities too, within 2 + 2 |y log x| units") {
  static const float y[] = {0,    -0.0f,  1,  -1, 2,    3,     -3,       0.5f,      -0.5f, 1.5f,
                            0.1f, -7.25f, 20, 21, 1e9f, -1e9f, INFINITY, -INFINITY, NAN};
  static const float x[2 * LANES] = {0,     -0.0f, 1,  -1,  INFINITY, -INFINITY, NAN,   0.5f,   -0.5f,   2,      -2,
                                     1.5f,  -1.5f, 3,  -3,  10,       -10,       0.1f,  -0.1f,  1e10f,   1e-10f, 1e30f,
                                     -1e30f, 1e-30f, 1e-40f, 0.99f, 1.01f, 0.9999f, -1.0001f, 7.7f, 77.7f, 0.3f};
  for (int i = 0; i < COUNT_OF(y); i++) {
    exponent = y[i];
    check_powers(x, COUNT_OF(x));
  }
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

/* ---- long ---- */

typedef struct Campaign {
  KernelEntry entry;
  double (*truth)(double);
  FloatMode exact; /* the caller's: denormals are numbers to the truth */
  pthread_mutex_t lock;
  Worst worst;
} Campaign;

/* All floats whose bits begin with [begin, end), 2^16 each. */
static void campaign_body(void *ctx, int64_t begin, int64_t end, int thread) {
  Campaign *c = ctx;
  enum { TAIL = 1 << 16 };
  float *x = mem_alloc(2 * TAIL * sizeof *x);
  Worst w = {0};
  for (int64_t head = begin; x && head < end; head++) {
    for (uint32_t i = 0; i < TAIL; i++) x[i] = from_bits((uint32_t)head << 16 | i);
    c->entry((void *[]){x, x + TAIL}, (int64_t[]){TAIL, 0}, 0, TAIL / LANES, NULL);
    FloatMode kernels = float_mode_get();
    float_mode_set(c->exact);
    compare(c->truth, x, x + TAIL, TAIL, &w);
    float_mode_set(kernels);
  }
  mem_free(x);
  pthread_mutex_lock(&c->lock);
  if (!x || w.ulp > c->worst.ulp) c->worst = x ? w : (Worst){INFINITY, 0};
  pthread_mutex_unlock(&c->lock);
}

static Worst measure_all(Build build, double (*truth)(double)) {
  Arena *a = arena_new();
  Error err = {0};
  Target t;
  Buffer object = {0};
  Kernel *k = unary_kernel(a, build);
  Campaign c = {.truth = truth, .exact = float_mode_get(), .lock = PTHREAD_MUTEX_INITIALIZER, .worst = {INFINITY, 0}};
  Object *o = target_host(isa_best(), &t, &err) && llvm_compile(&k, 1, &t, &object, &err) ? object_load(object.data, object.len, &err) : NULL;
  Pool *pool = o ? pool_new(2, &err) : NULL;
  void *symbol = o ? object_symbol(o, k->name) : NULL;
  EXPECT(pool && symbol, "%s", err.text);
  if (pool && symbol) {
    memcpy(&c.entry, &symbol, sizeof symbol);
    c.worst = (Worst){0};
    pool_run(pool, campaign_body, &c, 1 << 16, 64);
  }
  pool_free(pool);
  object_free(o);
  buffer_done(&object);
  arena_free(a);
  return c.worst;
}

LONG_TEST("each of the 2^32 operands of every function") {
  for (int f = 0; f < COUNT_OF(functions); f++) {
    Worst w = measure_all(functions[f].build, functions[f].truth);
    printf("%s %.3f ulp at %a\n", functions[f].name, w.ulp, (double)w.at);
    fflush(stdout);
    EXPECT(w.ulp <= functions[f].ulp, "%s: %g at %a", functions[f].name, w.ulp, (double)w.at);
  }
}

TEST_MAIN()
