/* Whole functions on the emulated device through the session, against the CPU's session; and what goes wrong. */
#include "runtime/base/hooks.h"
#include "tests/gpu/pair.h"
#include "tests/test.h"

enum { SAMPLES = 3 };
static const double tolerance = 1e-4;   /* of the largest value */

/* Tokens are small, the rest is about normal. */
static double fit(void *ctx, const char *name, int64_t i, double x) {
  return strcmp(name, "tokens") == 0 ? (double)((i * 5 + 1) % 9) : x;
}
static const RigData data = {3, fit, NULL};

#define ATTEND(kind, box)                                                                                         \
  "{heads=2, kind=" kind ", " box ", block=[0,0,0], edge=clip, causal=raster, query_grid=[2,3,4], "                \
  "key_grid=[2,3,4]} : f32[B,2,3,4,20]\n"

/* An embedding, attention, a norm, cross-entropy, the gradient of the embedding's row sums; two functions. */
static const char model[] =
    "func @a_scores(%tokens: i32[B,2,3,4], %bias: f32[20]) {\n"
    "  %1 = param() {name=\"embedding\", init=normal, scale=1} : f32[9,20]\n"
    "  %2 = gather(%1, %tokens) : f32[B,2,3,4,20]\n"
    "  %3 = param() {name=\"start\", init=uniform, scale=1} : f32[20]\n"
    "  %4 = shift(%2, %3) {delta=[0,0,-1], raster=0} : f32[B,2,3,4,20]\n"
    "  %5 = attend(%4, %2, %2) " ATTEND("nearby", "lo=[-1,-1,-1], hi=[1,1,1]")
    "  %6 = attend(%5, %4, %5) " ATTEND("full", "lo=[-inf,-inf,-inf], hi=[inf,inf,inf]")
    "  %7 = broadcast(%bias) : f32[B,2,3,4,20]\n  %8 = add(%6, %7) : f32[B,2,3,4,20]\n"
    "  %9 = softmax(%8) : f32[B,2,3,4,20]\n"
    "  %10 = argmax(%8) {axis=4} : i32[B,2,3,4]\n  return p = %9, best = %10\n}\n"
    "func @b_rows(%tokens: i32[B,6], %x: f32[B,6,37]) {\n"
    "  %1 = gelu(%x) : f32[B,6,37]\n  %2 = scatter_add(%tokens, %1) {rows=9} : f32[9,37]\n"
    "  %3 = sum(%2) {axes=[0]} : f32[37]\n  return sums = %2, all = %3\n}\n";

TEST("functions of gather, shift, attention, reductions and scatter give what the CPU gives, for every B") {
  NEED_NVRTC();
  Pair p;
  bool ok = pair_open(&p, model, false, SAMPLES, 1);
  EXPECT(ok, "%s", p.err.text);
  for (int64_t B = 1; ok && B <= SAMPLES; B++)
    for (int f = 0; f < 2; f++) {
      EXPECT(pair_run(&p, f, &data, B, 1), "%s", p.err.text);
      double e = pair_error(&p, f, B, 1);
      EXPECT(e <= tolerance, "%s, B=%d: differs by %g of the largest", p.plan[0]->function[f].name, (int)B, e);
    }
  pair_close(&p);
}

/* Class 5 is ahead of 36 others by 20, and the target. */
static double fit_ahead(void *ctx, const char *name, int64_t i, double x) {
  return name[0] == 't' ? 5 : i % 37 == 5 ? 20 : 0;
}

TEST("the loss and gradient of a class that is far ahead are relatively right on a GPU too") {
  static const RigData ahead = {3, fit_ahead, NULL};
  static const char text[] =
      "func @a(%x: f32[B,37], %t: i32[B]) {\n  %1 = cross_entropy(%x, %t) : f32[B]\n  %2 = sum(%1) {axes=[0]} : f32[]\n"
      "  %3 = grad(%2, %x) : f32[B,37]\n  return dx = %3, y = %1\n}\n";
  NEED_NVRTC();
  Pair p;
  bool ok = pair_open(&p, text, false, SAMPLES, 1) && pair_run(&p, 0, &ahead, SAMPLES, 1);
  EXPECT(ok, "%s", p.err.text);
  const double rest = 36 * exp(-20);
  for (int b = 0; ok && b < SAMPLES; b++) {
    double y = rig_load(DTYPE_F32, nuwa_output(p.session[ON_CUDA], 0, "y"), b);
    double dx = rig_load(DTYPE_F32, nuwa_output(p.session[ON_CUDA], 0, "dx"), b * 37 + 5);
    EXPECT(fabs(y - log1p(rest)) <= 1e-6 * rest, "the loss is %.9g, not %.9g", y, log1p(rest));
    EXPECT(fabs(dx + rest / (1 + rest)) <= 1e-6 * rest, "the gradient is %.9g, not %.9g", dx, -rest / (1 + rest));
  }
  pair_close(&p);
}

TEST("running allocates nothing, on the host and on the device") {
  NEED_NVRTC();
  Pair p;
  bool ok = pair_open(&p, model, false, SAMPLES, 1);
  size_t before = 0, after = 0, total;
  EXPECT(ok, "%s", p.err.text);
  NuwaSession *s = p.session[ON_CUDA];
  cuMemGetInfo_v2(&before, &total);
  uint64_t count = mem_alloc_count();
  for (int i = 0; ok && i < 3; i++) ok = nuwa_run(s, 0, SAMPLES, 1);
  EXPECT(ok && mem_alloc_count() == count, "%d allocations", (int)(mem_alloc_count() - count));
  cuMemGetInfo_v2(&after, &total);
  EXPECT(before == after && before < total, "%zu bytes of the device were free, then %zu", before, after);
  pair_close(&p);
}

static const char accumulate[] =
    "func @step(%x: f32[B,37]) {\n  %1 = sum(%x) {axes=[0]} : f32[37]\n"
    "  %2 = state() {name=\"total\"} : f32[37]\n  %3 = add(%1, %2) : f32[37]\n  return y = %3\n}\n";

TEST("params and states are read and written, weights are loaded") {
  NEED_NVRTC();
  Pair p;
  float w[9 * 20], cpu[9 * 20];
  bool ok = pair_open(&p, model, false, SAMPLES, 1);
  EXPECT(ok, "%s", p.err.text);
  NuwaSession *s = p.session[ON_CUDA];
  EXPECT(ok && nuwa_read_param(s, "embedding", w, &p.err), "%s", p.err.text);
  EXPECT(ok && nuwa_read_param(p.session[ON_CPU], "embedding", cpu, &p.err), "%s", p.err.text);
  EXPECT(memcmp(w, cpu, sizeof w) == 0, "the same seed gives other weights");
  EXPECT(nuwa_param(s, "embedding") == NULL, "a param's memory is out of the host's reach");
  for (int i = 0; i < 9 * 20; i++) w[i] = cpu[i] = (float)(i % 13) - 6;
  for (int d = 0; ok && d < 2; d++)
    EXPECT(nuwa_write_param(p.session[d], "embedding", w, &p.err) && nuwa_prepare(p.session[d]), "%s", p.err.text);
  EXPECT(ok && pair_run(&p, 0, &data, 2, 1) && pair_error(&p, 0, 2, 1) <= tolerance, "after writing: %s", p.err.text);
  EXPECT(!nuwa_read_param(s, "none", w, &p.err) && strstr(p.err.text, "no param \"none\""), "%s", p.err.text);
  pair_close(&p);
  ok = pair_open(&p, accumulate, false, SAMPLES, 1);
  EXPECT(ok, "%s", p.err.text);
  float total[37];
  for (int i = 0; i < 37; i++) total[i] = (float)i;
  for (int d = 0; ok && d < 2; d++) EXPECT(nuwa_write_state(p.session[d], "total", total, &p.err), "%s", p.err.text);
  EXPECT(ok && pair_run(&p, 0, &data, 2, 1) && pair_error(&p, 0, 2, 1) <= tolerance, "with a state: %s", p.err.text);
  EXPECT(ok && nuwa_read_state(p.session[ON_CUDA], "total", w, &p.err) && w[36] == 36, "%s", p.err.text);
  pair_close(&p);
}

TEST("a profile has a time for every launch, and changes no bit") {
  NEED_NVRTC();
  Pair p;
  bool ok = pair_open(&p, model, false, SAMPLES, 1);
  EXPECT(ok && nuwa_profile_start(p.session[ON_CUDA], &p.err), "%s", p.err.text);
  EXPECT(ok && pair_run(&p, 0, &data, 2, 1) && pair_error(&p, 0, 2, 1) <= tolerance, "%s", p.err.text);
  for (int i = 0; ok && i < p.plan[ON_CUDA]->function[0].n_launch; i++)
    EXPECT(nuwa_profile_ns(p.session[ON_CUDA], 0, i) > 0, "launch %d took no time", i);
  pair_close(&p);
}

/* ---- images ---- */

TEST("a bundle with cubins falls back to its PTX where the driver has no use for them, and says so") {
  NEED_NVRTC();
  Pair p;
  const int arch[] = {80, 90};
  EXPECT(pair_parse_text(&p, accumulate, false), "%s", p.err.text);
  Plan *plan = pair_compile(&p, (CompileOptions){.device = PLAN_CUDA, .arch = arch, .n_arch = 2});
  EXPECT(plan, "%s", p.err.text);
  NuwaOptions o = pair_options(PLAN_CUDA, 1, 1);
  NuwaSession *s = plan ? nuwa_session_open(plan, &o, &p.err) : NULL;
  EXPECT(s, "%s", p.err.text);
  EXPECT(plan && plan->object[0].n_image == 3 && plan->object[0].image[1].arch == 90, "two cubins and PTX");
  EXPECT(plan && strcmp(plan->features, "compute_80 sm_80 sm_90") == 0, "%s", plan ? plan->features : "");
  EXPECT(s && nuwa_kernel_is_compiled(s, 0), "the emulator takes no cubin");
  nuwa_session_close(s);
  plan_free(plan);
  pair_close(&p);
}

static const int too_old[] = {30}, twice[] = {80, 80};

TEST("archs that are too old or given twice are refused") {
  NEED_NVRTC();
  Pair p;
  EXPECT(pair_parse_text(&p, accumulate, false), "%s", p.err.text);
  EXPECT(!pair_compile(&p, (CompileOptions){.device = PLAN_CUDA, .arch = too_old, .n_arch = 1}), "sm_30");
  EXPECT(strstr(p.err.text, "the least arch is sm_75"), "%s", p.err.text);
  EXPECT(!pair_compile(&p, (CompileOptions){.device = PLAN_CUDA, .arch = twice, .n_arch = 2}), "twice");
  EXPECT(strstr(p.err.text, "sm_80 is given twice"), "%s", p.err.text);
  pair_close(&p);
}

/* ---- what goes wrong ---- */

/* A session of the plan must not open; the error holds both words. */
static void refuse(const Plan *plan, NuwaOptions o, const char *word, const char *other) {
  Error err = {0};
  NuwaSession *s = nuwa_session_open(plan, &o, &err);
  EXPECT(!s, "a session opened; expected \"%s\"", word);
  EXPECT(s || (strstr(err.text, word) && strstr(err.text, other)), "expected \"%s\" and \"%s\" in: %s", word, other,
         err.text);
  nuwa_session_close(s);
}

TEST("a missing driver, one without a function, a device that does not exist: errors name them") {
  NEED_NVRTC();
  Pair p;
  EXPECT(pair_parse_text(&p, accumulate, false), "%s", p.err.text);
  Plan *plan = pair_compile(&p, (CompileOptions){.device = PLAN_CUDA});
  REQUIRE(plan, "%s", p.err.text);
  NuwaOptions o = pair_options(PLAN_CUDA, 1, 1);
  o.cuda.driver = "/nowhere/libcuda.so.1";
  refuse(plan, o, "the CUDA driver cannot be loaded", "/nowhere/libcuda.so.1");
  o.cuda.driver = "libm.so.6";
  refuse(plan, o, "libm.so.6", "no function \"cuInit\"");
  o = pair_options(PLAN_CUDA, 1, 1);
  o.cuda.ordinal = 4;
  refuse(plan, o, "no CUDA device 4", "has 1");
  CompileOptions c = {.device = PLAN_CUDA, .nvrtc = "/nowhere/libnvrtc.so"};
  EXPECT(!pair_compile(&p, c) && strstr(p.err.text, "/nowhere/libnvrtc.so"), "%s", p.err.text);
  plan_free(plan);
  pair_close(&p);
}

TEST("a plan is refused on a device that it is not for") {
  NEED_NVRTC();
  Pair p;
  EXPECT(pair_open(&p, accumulate, false, 1, 1), "%s", p.err.text);
  refuse(p.plan[ON_CUDA], pair_options(PLAN_CPU, 1, 1), "is for cuda", "opened for cpu");
  refuse(p.plan[ON_CPU], pair_options(PLAN_CUDA, 1, 1), "is for cpu", "opened for cuda");
  pair_close(&p);
}

TEST("too little memory on the device: how much was asked for, how much is free") {
  NEED_NVRTC();
  Pair p;
  size_t total, left;
  EXPECT(pair_parse_text(&p, accumulate, false), "%s", p.err.text);
  Plan *plan = pair_compile(&p, (CompileOptions){.device = PLAN_CUDA});
  REQUIRE(plan, "%s", p.err.text);
  emu_set_memory(1 << 20);
  refuse(plan, pair_options(PLAN_CUDA, 100000, 1), "lacks memory: params, states, arena and ports need 14800",
         "of 1048576 are free");
  cuMemGetInfo_v2(&left, &total);
  EXPECT(left == total, "%zu of %zu bytes are left after the failure", left, total);
  plan_free(plan);
  pair_close(&p);
}

TEST("damaged PTX: the object, the driver's code and what its compiler says") {
  NEED_NVRTC();
  Pair p;
  EXPECT(pair_parse_text(&p, accumulate, false), "%s", p.err.text);
  Plan *plan = pair_compile(&p, (CompileOptions){.device = PLAN_CUDA});
  REQUIRE(plan, "%s", p.err.text);
  PlanImage *ptx = &plan->object[0].image[0];
  char *text = (char *)arena_copy(plan->arena, ptx->bytes, (size_t)ptx->len), *ret = strstr(text, "ret;");
  REQUIRE(ret, "no ret in the PTX");
  memcpy(ret, "rot;", 4);
  ptx->bytes = (const uint8_t *)text;
  refuse(plan, pair_options(PLAN_CUDA, 1, 1), "object 0, PTX on a device of sm_80", "CUDA_ERROR_INVALID_PTX (218)");
  memcpy(ret, "ret;", 4);
  plan->kernel[0].name = "another";
  refuse(plan, pair_options(PLAN_CUDA, 1, 1), "kernel another: cuModuleGetFunction", "CUDA_ERROR_NOT_FOUND (500)");
  plan_free(plan);
  pair_close(&p);
}

TEST("a fault of a kernel is told with the function, and the session stays failed") {
  NEED_NVRTC();
  Pair p;
  Error err = {0};
  EXPECT(pair_open(&p, model, false, SAMPLES, 1), "%s", p.err.text);
  NuwaSession *s = p.session[ON_CUDA];
  emu_set_step_limit(10);
  EXPECT(s && nuwa_check(s, &err) && !nuwa_run(s, 0, 1, 1), "a kernel without time ran to its end");
  EXPECT(s && !nuwa_check(s, &err) && strstr(err.text, "function \"a_scores\"") && strstr(err.text, "(702)"), "%s",
         err.text);
  EXPECT(s && !nuwa_run(s, 1, 1, 1) && !nuwa_prepare(s) && !nuwa_init_weights(s, 1), "a failed session went on");
  EXPECT(s && !nuwa_read_param(s, "embedding", &err, &p.err) && strstr(p.err.text, "(702)"), "%s", p.err.text);
  pair_close(&p);
  emu_reset();
}

TEST_MAIN()
