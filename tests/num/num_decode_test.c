/* Decoding end to end, on models/nuwa.lua made small: wavefront and raster order give the same tokens to the bit, for
 * every kind of attention and stencil, any batch, rows and threads, greedy, sampled, guided and with given tokens; the
 * step's logits are those of the teacher-forced function in the interpreter; running allocates nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/hooks.h"
#include "runtime/base/stack.h"
#include "runtime/bundle.h"
#include "tests/num/rig.h"
#include "tests/test.h"

enum { S = 2, H = 4, W = 3, POSITIONS = S * H * W, VOCAB = 13, TEXT = 3, COUNT = 2, STREAMS = 2 * COUNT };

/* Objects are shared between the models of this program. */
static RigKeep kept;
static const ObjectStore keep = {rig_keep_get, rig_keep_put, &kept};

/* ---- one model ---- */

typedef struct Toy {
  Model *model;
  Plan *plan;
  Error err;
} Toy;

typedef struct Variant {
  const char *kind, *stencil, *causal, *extent;
  DType precision;
} Variant;

static bool toy_open(Toy *t, const Variant *v, Isa isa) {
  const Define define[] = {
      {"encoder", v->kind},   {"decoder", v->kind},    {"stencil", v->stencil}, {"causal", v->causal}, {"extent_s", v->extent},
      {"extent_h", v->extent}, {"extent_w", v->extent}, {"dim", "24"},          {"heads", "2"},         {"encoder_layers", "1"},
      {"decoder_layers", "2"}, {"codebook", "13"},      {"text_tokens", "3"},   {"vocab", "7"},         {"grid_s", "2"},
      {"grid_h", "4"},         {"grid_w", "3"},
  };
  ModelOptions o = {.define = define, .n_define = COUNT_OF(define), .models_dir = MODELS_DIR};
  *t = (Toy){0};
  t->model = model_load(MODELS_DIR "/nuwa.lua", &o, &t->err);
  const char *fn = "decode";
  CompileOptions c = {.function = &fn, .n_function = 1, .isa = isa, .threads = 2, .store = &keep, .precision = v->precision};
  Buffer bundle = {0};
  if (t->model && compile_model(t->model, &c, &bundle, &t->err)) t->plan = plan_read(bundle.data, bundle.len, "toy", &t->err);
  buffer_done(&bundle);
  return t->plan != NULL;
}

static void toy_close(Toy *t) {
  plan_free(t->plan);
  model_free(t->model);
}

/* Large enough that every weight shows in the logits. */
static double fit(void *ctx, const char *name, int64_t i, double x) {
  if (strcmp(name, "text") == 0) return (double)((i * 5 + 1) % 7);
  if (strcmp(name, "text_mask") == 0) return i % TEXT <= i / TEXT % TEXT;   /* longer with each sample */
  if (strcmp(name, "tokens") == 0) return (double)((const int32_t *)ctx)[i];
  return 0.3 * x;
}

static NuwaSession *toy_session(Toy *t, int threads, int64_t rows) {
  NuwaOptions o = {.threads = threads, .samples = STREAMS, .rows = rows, .ring_slots = POSITIONS};
  NuwaSession *s = nuwa_session_open(t->plan, &o, &t->err);
  RigData data = {3, fit, NULL};
  for (int i = 0; s && i < t->plan->n_param; i++) {
    int64_t n = 0;
    plan_tensor_elems(&t->plan->param[i].type, 0, 0, &n);
    rig_fill(&data, t->plan->param[i].type.name, t->plan->param[i].type.dtype, n, nuwa_param(s, t->plan->param[i].type.name));
  }
  if (s) nuwa_prepare(s);
  int prologue = t->plan->decode[0].prologue;
  int32_t *text = s && prologue >= 0 ? nuwa_input(s, prologue, "text") : NULL;
  if (text) rig_fill(&data, "text", DTYPE_I32, STREAMS * TEXT, text);
  if (text) rig_fill(&data, "text_mask", DTYPE_U8, STREAMS * TEXT, nuwa_input(s, prologue, "text_mask"));
  return s;
}

/* Position 5 and the whole first frame but its end are given. */
static uint8_t given[POSITIONS];
static int32_t given_tokens[COUNT * POSITIONS];

static void set_given(void) {
  for (int i = 0; i < POSITIONS; i++) given[i] = i < H * W - 4 || i == POSITIONS - 2;
  for (int i = 0; i < COUNT * POSITIONS; i++) given_tokens[i] = (i * 7 + 3) % VOCAB;
}

static NuwaGenerate request(int mode) {
  NuwaGenerate g = {.count = COUNT, .seed = 5, .guidance = mode == 3 ? 2.5f : 1.0f};
  g.sample = mode == 0 ? (NuwaSampling){.temperature = 0} : (NuwaSampling){.temperature = 1, .top_k = mode == 2 ? 5 : 0, .top_p = 1};
  if (mode == 2) g.given = given, g.given_tokens = given_tokens;
  return g;
}

static bool generate(NuwaSession *s, NuwaGenerate g, bool raster, int32_t *tokens, Error *err) {
  g.raster = raster;
  return nuwa_generate(s, &g, tokens, NULL, NULL, NULL, err);
}

static const char *const mode_name[] = {"greedy", "sampled", "given", "guided"};

static void check_orders(Toy *t, const Variant *v) {
  /* Enough rows for the largest wave; so few that waves are cut. */
  NuwaSession *many = toy_session(t, 1, STREAMS * POSITIONS), *few = toy_session(t, 2, STREAMS * 2);
  REQUIRE(many && few, "%s", t->err.text);
  for (int mode = 0; mode < 4; mode++) {
    int32_t want[COUNT * POSITIONS], got[COUNT * POSITIONS];
    NuwaGenerate g = request(mode), one = g;
    one.count = 1;
    REQUIRE(generate(many, g, true, want, &t->err), "%s", t->err.text);
    for (int i = 0; i < COUNT * POSITIONS; i++) EXPECT(want[i] >= 0 && want[i] < VOCAB, "token %d", want[i]);
    REQUIRE(generate(many, g, false, got, &t->err), "%s", t->err.text);
    EXPECT(memcmp(want, got, sizeof got) == 0, "%s %s %s %s: wavefront and raster differ", v->kind, v->stencil, v->causal, mode_name[mode]);
    REQUIRE(generate(few, g, false, got, &t->err), "%s", t->err.text);
    EXPECT(memcmp(want, got, sizeof got) == 0, "%s %s %s %s: cut waves differ", v->kind, v->stencil, v->causal, mode_name[mode]);
    for (int i = 0; g.given && i < COUNT * POSITIONS; i++)
      if (given[i % POSITIONS]) EXPECT(want[i] == given_tokens[i], "a given token was replaced");
    if (mode == 3) continue;   /* with one sample the null condition would stand at another place */
    REQUIRE(generate(few, one, false, got, &t->err), "%s", t->err.text);
    EXPECT(memcmp(want, got, sizeof got / COUNT) == 0, "%s %s %s %s: one sample differs", v->kind, v->stencil, v->causal, mode_name[mode]);
  }
  nuwa_session_close(many);
  nuwa_session_close(few);
}

/* ---- the step's logits against the teacher-forced function ---- */

typedef struct Record {
  const float *logits;   /* [COUNT][VOCAB] of the position that just ran */
  float all[COUNT][POSITIONS][VOCAB];
} Record;

static bool record_step(void *ctx, int64_t done, int64_t total) {
  Record *r = ctx;
  for (int b = 0; b < COUNT; b++) memcpy(r->all[b][done - 1], r->logits + b * VOCAB, sizeof r->all[b][0]);
  return true;
}

static void check_logits(Toy *t, const Variant *v) {
  static Record r;
  int32_t tokens[COUNT * POSITIONS];
  NuwaSession *s = toy_session(t, 2, STREAMS);
  REQUIRE(s, "%s", t->err.text);
  NuwaGenerate g = request(1);
  g.raster = true;
  r.logits = nuwa_output(s, t->plan->decode[0].step, "logits");
  REQUIRE(nuwa_generate(s, &g, tokens, NULL, record_step, &r, &t->err), "%s", t->err.text);
  nuwa_session_close(s);
  RigData data = {3, fit, tokens};
  Arena *a = arena_new();
  Tensor want;
  REQUIRE(rig_interp(model_find(t->model, "decode", &t->err), &data, COUNT, 1, a, &want, NULL, &t->err), "%s", t->err.text);
  double most = 0, error = 0;
  for (int64_t i = 0; i < COUNT * POSITIONS * VOCAB; i++) {
    most = fmax(most, fabs(want.data[i]));
    error = fmax(error, fabs(want.data[i] - (double)(&r.all[0][0][0])[i]));
  }
  EXPECT(error <= (v->precision == DTYPE_BF16 ? 2e-2 : 1e-5) * most, "%s %s %s: the step's logits are off by %g of %g", v->kind, v->stencil, v->causal, error, most);
  arena_free(a);
}

static const Variant variants[] = {
    {"nearby", "local", "raster", "3"}, {"nearby", "left", "raster", "3"}, {"nearby", "raster", "raster", "3"},
    {"nearby", "local", "past", "3"},   {"nearby", "local", "raster", "2"}, {"nearby", "local", "raster", "5"},
    {"full", "local", "raster", "3"},   {"full", "left", "past", "3"},      {"axis", "local", "raster", "3"},
    {"axis", "left", "raster", "inf"},  {"axis", "raster", "past", "3"},    {"block", "local", "raster", "2"},
    {"block", "left", "raster", "2"},   {"block", "raster", "past", "2"},
    {"nearby", "local", "raster", "3", DTYPE_BF16}, {"full", "local", "raster", "3", DTYPE_BF16},
    {"axis", "left", "raster", "inf", DTYPE_BF16},  {"block", "raster", "past", "2", DTYPE_BF16},
};

TEST("decoding gives the same tokens in every order, and the logits of the teacher-forced function") {
  set_given();
  for (int i = 0; i < COUNT_OF(variants); i++) {
    Toy t;
    bool ok = toy_open(&t, &variants[i], isa_best());
    EXPECT(ok, "%s %s %s: %s", variants[i].kind, variants[i].stencil, variants[i].causal, t.err.text);
    if (ok) check_orders(&t, &variants[i]);
    if (ok) check_logits(&t, &variants[i]);
    toy_close(&t);
  }
  printf("%d kernels\n", kept.n);
}

static void check_instruction_sets(const Variant *v) {
  Isa isa[ISA_COUNT];
  int n = rig_isas(isa);
  int32_t want[COUNT * POSITIONS], got[COUNT * POSITIONS];
  for (int i = 0; i < n; i++) {
    Toy t;
    REQUIRE(toy_open(&t, v, isa[i]), "%s", t.err.text);
    NuwaSession *s = toy_session(&t, 2, STREAMS * POSITIONS);
    REQUIRE(s && generate(s, request(1), false, i ? got : want, &t.err), "%s", t.err.text);
    EXPECT(i == 0 || memcmp(want, got, sizeof got) == 0, "%s: other tokens", isa_name(isa[i]));
    nuwa_session_close(s);
    toy_close(&t);
  }
}

TEST("decoding gives the same tokens on every instruction set") {
  check_instruction_sets(&variants[0]);
  check_instruction_sets(&variants[COUNT_OF(variants) - 4]);
}

/* ---- allocations ---- */

#if defined(__has_feature)
#define HAS_SANITIZER (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#else
#define HAS_SANITIZER 0
#endif

static volatile uint64_t mallocs;

#if !HAS_SANITIZER
/* Stand before those of the C library, so that nothing goes uncounted. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t each);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t alignment, size_t n);
__attribute__((visibility("default"))) void *malloc(size_t n) { return mallocs++, __libc_malloc(n); }
__attribute__((visibility("default"))) void *calloc(size_t n, size_t each) { return mallocs++, __libc_calloc(n, each); }
__attribute__((visibility("default"))) void *realloc(void *p, size_t n) { return mallocs++, __libc_realloc(p, n); }
__attribute__((visibility("default"))) void *aligned_alloc(size_t a, size_t n) { return mallocs++, __libc_memalign(a, n); }
#endif

TEST("samples drawn in parts are those drawn at once, and a number that is none is refused") {
  Toy t;
  REQUIRE(toy_open(&t, &variants[0], isa_best()), "%s", t.err.text);
  for (int mode = 1; mode < 4; mode++) {
    int32_t want[COUNT * POSITIONS], got[POSITIONS];
    NuwaSession *s = toy_session(&t, 2, STREAMS * POSITIONS);
    NuwaGenerate g = request(mode);
    REQUIRE(s && generate(s, g, false, want, &t.err), "%s", t.err.text);
    int32_t *text = nuwa_input(s, t.plan->decode[0].prologue, "text");
    uint8_t *mask = nuwa_input(s, t.plan->decode[0].prologue, "text_mask"), seen[STREAMS * TEXT];
    memcpy(seen, mask, sizeof seen);
    g.count = 1;
    for (g.first = 0; g.first < COUNT; g.first++) {
      int32_t words[STREAMS * TEXT];
      memcpy(words, text, sizeof words);
      memcpy(text, words + g.first * TEXT, sizeof *text * TEXT);
      memcpy(text + TEXT, words + (COUNT + g.first) * TEXT, sizeof *text * TEXT);   /* with guidance: the null condition */
      memcpy(mask, seen + g.first * TEXT, TEXT);
      memcpy(mask + TEXT, seen + (COUNT + g.first) * TEXT, TEXT);
      g.given_tokens = g.given ? given_tokens + g.first * POSITIONS : NULL;
      REQUIRE(generate(s, g, false, got, &t.err), "%s", t.err.text);
      EXPECT(memcmp(want + g.first * POSITIONS, got, sizeof got) == 0, "%s: sample %d alone differs", mode_name[mode], (int)g.first);
      memcpy(text, words, sizeof words);
    }
    g.first = -1;
    EXPECT(!generate(s, g, false, got, &t.err) && strstr(t.err.text, "the first of 1 samples"), "%s", t.err.text);
    g.first = UINT32_MAX;
    EXPECT(!generate(s, g, false, got, &t.err), "a number above 32 bits");
    nuwa_session_close(s);
  }
  toy_close(&t);
}

TEST("a text whose mask was never filled is refused by its number, and so is the empty one of guidance") {
  Toy t;
  REQUIRE(toy_open(&t, &variants[0], isa_best()), "%s", t.err.text);
  NuwaSession *s = toy_session(&t, 1, STREAMS * POSITIONS);
  REQUIRE(s, "%s", t.err.text);
  uint8_t *mask = nuwa_input(s, t.plan->decode[0].prologue, "text_mask");
  int32_t tokens[COUNT * POSITIONS];
  memset(mask + (STREAMS - 1) * TEXT, 0, TEXT);
  EXPECT(generate(s, request(0), false, tokens, &t.err), "%s", t.err.text);
  EXPECT(!generate(s, request(3), false, tokens, &t.err) && strstr(t.err.text, "\"text_mask\" is 0 for the whole empty text of sample 1"),
         "%s", t.err.text);
  memset(mask, 0, TEXT);
  EXPECT(!generate(s, request(0), false, tokens, &t.err) && strstr(t.err.text, "whole text of sample 0: nuwa_text_mask fills it"),
         "%s", t.err.text);
  mask[TEXT - 1] = 255;
  EXPECT(generate(s, request(0), false, tokens, &t.err), "%s", t.err.text);
  nuwa_session_close(s);
  toy_close(&t);
}

typedef struct Stop {
  int64_t after, done, total, calls;
} Stop;

static bool stop_after(void *ctx, int64_t done, int64_t total) {
  Stop *s = ctx;
  EXPECT(done > s->done && done <= total, "%lld after %lld", (long long)done, (long long)s->done);
  s->done = done, s->total = total, s->calls++;
  return s->calls < s->after;
}

TEST("a drawing that progress stops, at any step, gives no tokens, and the next one is what it would have been") {
  Toy t;
  REQUIRE(toy_open(&t, &variants[0], isa_best()), "%s", t.err.text);
  NuwaSession *s = toy_session(&t, 1, STREAMS * 2);
  REQUIRE(s, "%s", t.err.text);
  int32_t want[COUNT * POSITIONS], got[COUNT * POSITIONS];
  NuwaGenerate g = request(3);
  NuwaGenerateStats stats = {.steps = -1};
  REQUIRE(generate(s, g, false, want, &t.err), "%s", t.err.text);
  Stop all = {.after = INT64_MAX};
  REQUIRE(nuwa_generate(s, &g, got, &stats, stop_after, &all, &t.err), "%s", t.err.text);
  EXPECT(all.calls == stats.steps && all.done == POSITIONS && all.total == POSITIONS, "%lld calls", (long long)all.calls);
  for (int64_t after = 1; after <= all.calls; after += 5) {
    Stop one = {.after = after};
    Error err = {0};
    stats.steps = -1;
    memset(got, 0x5a, sizeof got);
    EXPECT(!nuwa_generate(s, &g, got, &stats, stop_after, &one, &err) && err.code == ERROR_CANCELLED, "%s", err.text);
    EXPECT(one.calls == after, "went on for %lld steps", (long long)one.calls);
    EXPECT(stats.steps == -1 && got[0] == 0x5a5a5a5a && memcmp(got, got + 1, sizeof got - sizeof *got) == 0, "wrote");
    REQUIRE(generate(s, g, false, got, &t.err), "%s", t.err.text);
    EXPECT(memcmp(want, got, sizeof got) == 0, "stopped after %lld steps: the next drawing differs", (long long)after);
  }
  nuwa_session_close(s);
  toy_close(&t);
}

TEST("a hundred runs, and a whole generation, allocate nothing") {
  Toy t;
  REQUIRE(toy_open(&t, &variants[0], isa_best()), "%s", t.err.text);
  NuwaSession *s = toy_session(&t, 2, STREAMS * POSITIONS);
  REQUIRE(s, "%s", t.err.text);
  int32_t tokens[COUNT * POSITIONS];
  NuwaGenerate g = request(2);
  uint64_t before = mem_alloc_count(), mallocs_before = mallocs;
  for (int i = 0; i < 100; i++) nuwa_run(s, t.plan->decode[0].step, COUNT, COUNT);
  bool ok = nuwa_generate(s, &g, tokens, NULL, NULL, NULL, &t.err);
  uint64_t after = mem_alloc_count(), mallocs_after = mallocs;
  EXPECT(ok, "%s", t.err.text);
  EXPECT(HAS_SANITIZER || mallocs > 0, "malloc is not counted");
  EXPECT(after == before && mallocs_after == mallocs_before, "%llu allocations", (unsigned long long)(after - before + mallocs_after - mallocs_before));
  nuwa_session_close(s);
  toy_close(&t);
}

/* ---- little stack ---- */

/* From a bundle file to tokens. */
typedef struct Application {
  char path[64];
  int32_t tokens[COUNT * POSITIONS];
  bool ok;
  Error err;
} Application;

static void run_application(void *ctx) {
  Application *a = ctx;
  NuwaBundle *b = nuwa_bundle_open(a->path, &a->err);
  const Plan *p = b ? nuwa_bundle_plan(b, NULL) : NULL;
  NuwaOptions o = {.threads = 1, .samples = STREAMS, .rows = STREAMS * POSITIONS, .ring_slots = POSITIONS};
  NuwaSession *s = p ? nuwa_session_open(p, &o, &a->err) : NULL;
  NuwaGenerate g = request(3);
  g.sample.top_k = 5, g.sample.top_p = 0.9f;
  int64_t slots, rows;
  uint8_t *mask = s ? nuwa_input(s, p->decode[0].prologue, "text_mask") : NULL;
  if (mask) memset(mask, 1, STREAMS * TEXT);
  a->ok = s && nuwa_init_weights(s, 7) && nuwa_generate_needs(p, &g, &slots, &rows, &a->err) &&
          generate(s, g, false, a->tokens, &a->err);
  nuwa_session_close(s);
  nuwa_bundle_close(b);
}

TEST("a thread with 64 KiB of stack opens a bundle, makes weights and draws") {
  static Toy t;
  static Application usual, little;
  Buffer bundle = {0};
  REQUIRE(toy_open(&t, &variants[0], isa_best()), "%s", t.err.text);
  snprintf(usual.path, sizeof usual.path, "/tmp/nuwa-stack-%ld.nuwa", (long)getpid());
  bool written = plan_write(t.plan, &bundle, &t.err);
  BundlePart part = {.kind = NUWA_PART_PLAN, .name = BUNDLE_MODEL, .bytes = (const uint8_t *)bundle.data, .len = bundle.len};
  written = written && bundle_write(usual.path, &part, 1, &t.err);
  buffer_done(&bundle);
  toy_close(&t);
  REQUIRE(written, "%s", t.err.text);
  memcpy(little.path, usual.path, sizeof usual.path);
  run_application(&usual);
  EXPECT(usual.ok, "%s", usual.err.text);
  /* A sanitizer's own frames do not count. */
  bool ran = stack_run(HAS_SANITIZER ? STACK_BYTES : 64 << 10, run_application, &little, &little.err);
  EXPECT(ran && little.ok, "%s", little.err.text);
  EXPECT(memcmp(usual.tokens, little.tokens, sizeof usual.tokens) == 0, "other tokens");
  remove(usual.path);
}

TEST_MAIN()
