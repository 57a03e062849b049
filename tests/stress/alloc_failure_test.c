/* Short of memory, anywhere: for each part of the way from a Lua file to tokens and weights, the n-th allocation
 * fails -- once alone, once with all that follow -- for every small n and a stride of larger ones.  What comes out is
 * an error that says so, or, where a part can do without, exactly the undisturbed result; never a crash, a half file,
 * an open file or a thread left behind (nor, under a sanitizer, a leak).
 *
 * Lua's memory is ours and fails too.  LLVM, SQLite and the C library allocate for themselves: out of reach here. */
#include <dirent.h>
#include <unistd.h>

#include "autotune/store.h"
#include "frontend/compile/compile.h"
#include "runtime/base/hooks.h"
#include "runtime/base/sha256.h"
#include "runtime/bundle.h"
#include "tests/num/rig.h"
#include "tests/test.h"
#include "tests/unit/frontend/load.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#ifdef HAS_ASAN
extern int __lsan_do_recoverable_leak_check(void);
static bool has_leaks(void) { return __lsan_do_recoverable_leak_check() != 0; }
#else
static bool has_leaks(void) { return false; }
#endif

enum { WORDS = 3, H = 3, W = 4, PLACES = H * W, CODES = 11, BATCH = 2, STEPS = 3 };

static const char model_text[] =
    "local nn, optim = require 'nn', require 'optim'\n"
    "local o = options { dim = 4, edge = one_of { 'clip', 'shift' } }\n"
    "local function block(name, x, memory, causal)\n"
    "  return nn.scope(name, function()\n"
    "    local n = nn.layer_norm('norm', x)\n"
    "    local q, k = nn.linear('q', n, o.dim), nn.linear('k', memory or n, o.dim)\n"
    "    local y = attend(q, k, memory or n, { heads = 2, extent = { s = 3, h = 3, w = 3 }, causal = causal, edge = "
    "o.edge })\n"
    "    return x + gelu(nn.linear('out', y, o.dim, { bias = false }))\n"
    "  end)\n"
    "end\n"
    "local function draw(a)\n"
    "  local text = reshape(nn.embedding('words', a.text, 7, o.dim), a.text.shape[1], 3, 1, 1, o.dim)\n"
    "  local memory = block('encoder', text)\n"
    "  local start = param('start', f32(o.dim), { normal = 0.5 })\n"
    "  local x = shift(nn.embedding('codes', a.tokens, 11, o.dim), { w = -1 }, start)\n"
    "  x = block('cross', block('self', x, nil, 'raster'), memory)\n"
    "  return nn.linear('logits', x, 11)\n"
    "end\n"
    "local inputs = { text = i32(batch, 3), tokens = i32(batch, 1, 3, 4) }\n"
    "local loss = fn(inputs, function(a) return { loss = mean(cross_entropy(draw(a), a.tokens)) } end)\n"
    "return module {\n"
    "  about = { name = 'stress', rate = 0.5 },\n"
    "  train = { { 'main', optim.adamw(loss, { lr = optim.cosine(1e-2, 0.05), clip = 1 }), average = 0.9 } },\n"
    "  draw = decode(fn(inputs, function(a) return { logits = draw(a) } end), { tokens = 'tokens', logits = 'logits' "
    "}),\n"
    "  loss = loss, evaluate = loss,\n"
    "}\n";

static const char small_text[] =
    "return module { f = fn({ x = f32(5, 24) }, function(a) return { y = softmax(a.x), s = sum(a.x, 0) } end) }\n";

static const Define define[] = {{"dim", "8"}, {"edge", "shift"}};
static const ModelOptions model_options = {.define = define, .n_define = 2, .models_dir = MODELS_DIR};

/* ---- failing ---- */

typedef struct Digest {
  uint8_t byte[32];
} Digest;

/* Which allocation fails between tested_begin and tested_end, 0: none; and what came of it. */
static struct {
  uint64_t n, begin, taken;
  bool for_good, is_on, reached;
} failing;

static void tested_begin(void) {
  failing.begin = mem_alloc_count();
  failing.is_on = true;
  if (failing.n && failing.for_good) mem_fail_from(failing.n);
  if (failing.n && !failing.for_good) mem_fail_at(failing.n);
}

static void tested_end(void) {
  mem_fail_at(0);
  failing.taken = mem_alloc_count() - failing.begin;
  failing.reached = failing.n && failing.taken >= failing.n;
  failing.is_on = false;
}

static int count_entries(const char *folder, const char *part) {
  int n = 0;
  DIR *d = opendir(folder);
  for (struct dirent *e; d && (e = readdir(d));) n += strstr(e->d_name, part) != NULL;
  if (d) closedir(d);
  return n;
}

/* Does one part of the way: prepares, tested_begin, works, tested_end, digests what came out; false with err set. */
typedef bool (*Attempt)(Digest *out, Error *err);

/* The first `every` allocations fail one by one, then about `sampled` of the others, the last one among them. */
typedef struct Sweep {
  const char *what;
  Attempt attempt;
  uint64_t every, sampled;
  Digest want;
  uint64_t total;
  int injected, failed;
} Sweep;

static void fail_one(Sweep *s, uint64_t n, bool for_good) {
  Error err = {0};
  Digest got = {{0}};
  const char *how = for_good ? "from" : "at";
  failing.n = n;
  failing.for_good = for_good;
  bool ok = s->attempt(&got, &err);
  failing.n = 0;
  EXPECT(failing.reached, "%s: allocation %d was never asked for", s->what, (int)n);
  if (ok)
    EXPECT(memcmp(&got, &s->want, sizeof got) == 0, "%s: failing %s %d changes the result", s->what, how, (int)n);
  else
    EXPECT(err.code == ERROR_MEMORY && strstr(err.text, "memory"), "%s: failing %s %d: code %d: %s", s->what, how,
           (int)n, err.code, err.text);
  EXPECT(count_entries(load_folder, ".tmp-") == 0, "%s: failing %s %d leaves half a file", s->what, how, (int)n);
  s->injected += failing.reached;
  s->failed += !ok;
}

static uint64_t next_to_fail(const Sweep *s, uint64_t n) {
  uint64_t stride = n < s->every || s->total <= s->every ? 1 : (s->total - s->every) / s->sampled + 1;
  return n < s->total && n + stride > s->total ? s->total : n + stride;
}

static void sweep_in_one_way(Sweep *s, bool for_good) {
  int before = test_failures;
  s->injected = s->failed = 0;
  /* Stops after the first few wrong ones: the rest would say the same. */
  for (uint64_t n = 1; n <= s->total && test_failures < before + 5; n = next_to_fail(s, n)) fail_one(s, n, for_good);
  printf("%s: %d allocations, %d made to fail %s: %d errors, %d did without\n", s->what, (int)s->total, s->injected,
         for_good ? "with all after" : "alone", s->failed, s->injected - s->failed);
  EXPECT(s->failed > 0, "%s: nothing failed", s->what);
  /* With nothing left at all, only what ends with a dispensable allocation can still come out. */
  EXPECT(!for_good || s->failed * 10 >= s->injected * 9, "%s: %d of %d failed", s->what, s->failed, s->injected);
}

/* The undisturbed attempt, twice: what it takes and gives must be the same. */
static bool sweep_begin(Sweep *s) {
  Digest again = {{0}};
  Error err = {0};
  bool ok = s->attempt(&s->want, &err);
  s->total = failing.taken;
  ok = ok && s->attempt(&again, &err);
  EXPECT(ok, "%s: %s", s->what, err.text);
  bool same = s->total == failing.taken && memcmp(&again, &s->want, sizeof again) == 0;
  EXPECT(same, "%s: two undisturbed attempts differ: %d and %d allocations", s->what, (int)s->total,
         (int)failing.taken);
  return ok && same;
}

/* How many threads there are for good: one that was joined is listed for some time after. */
static int count_threads(void) {
  int least = count_entries("/proc/self/task", "");
  for (int i = 0; i < 20; i++) {
    usleep(5000);
    int n = count_entries("/proc/self/task", "");
    if (n < least) least = n;
  }
  return least;
}

static void sweep(Sweep s) {
#ifdef __SANITIZE_THREAD__   /* ten times as slow, and what it looks for does not depend on which allocation fails */
  s.every = (s.every + 9) / 10;
  s.sampled = (s.sampled + 9) / 10;
#endif
  if (!sweep_begin(&s)) return;
  int files = count_entries("/proc/self/fd", ""), threads = count_threads();
  sweep_in_one_way(&s, false);
  sweep_in_one_way(&s, true);
  EXPECT(count_entries("/proc/self/fd", "") == files, "%s: files stay open", s.what);
  int now = count_threads();
  for (int i = 0; i < 20 && now > threads; i++) now = count_threads();
  EXPECT(now == threads, "%s: %d threads before, %d after", s.what, threads, now);
  EXPECT(!has_leaks(), "%s: memory is lost", s.what);
}

/* ---- what all parts work on, made once and undisturbed ---- */

static RigKeep kept;

/* While something is tested nothing is kept, so that every attempt finds the same. */
static void keep_put(void *ctx, const char *key, const void *bytes, size_t n) {
  if (!failing.is_on) rig_keep_put(ctx, key, bytes, n);
}

static const ObjectStore keep = {rig_keep_get, keep_put, &kept};

static CompileOptions compile_options(void) {
  return (CompileOptions){
      .train = true, .isa = isa_best(), .threads = 1, .store = &keep};
}

typedef struct Fixture {
  Buffer bundle;
  Plan *plan;
  char model[300], small[300], weights[300], trained[300], bundle_file[300], kernels[300], checkpoint[300],
      log[300]; /* paths */
} Fixture;
static Fixture fixture;

static void fixture_done(void) {
  buffer_done(&fixture.bundle);
  plan_free(fixture.plan);
  rig_keep_done(&kept);
}

static bool make_weights(Error *err) {
  NuwaOptions o = {.threads = 1, .samples = 1, .rows = 1};
  NuwaSession *s = nuwa_session_open(fixture.plan, &o, err);
  bool ok = s && nuwa_init_weights(s, 11) && weights_write(s, fixture.plan, NULL, 0, fixture.weights, false, NULL, 0, err);
  nuwa_session_close(s);
  return ok;
}

static bool fixture_make(Error *err) {
  Fixture *f = &fixture;
  if (f->plan) return true;
  strcpy(f->model, load_write("stress.lua", model_text));
  strcpy(f->small, load_write("small.lua", small_text));
  strcpy(f->weights, load_path("weights.safetensors"));
  strcpy(f->trained, load_path("trained.safetensors"));
  strcpy(f->bundle_file, load_path("model.nuwa"));
  strcpy(f->kernels, load_path("kernels.db"));
  strcpy(f->checkpoint, load_path("run.ckpt"));
  strcpy(f->log, load_path("log"));
  CompileOptions o = compile_options();
  Model *m = model_load(f->model, &model_options, err);
  bool ok = m && compile_model(m, &o, &f->bundle, err);
  model_free(m);
  f->plan = ok ? plan_read(f->bundle.data, f->bundle.len, "stress", err) : NULL;
  atexit(fixture_done);
  return f->plan && make_weights(err);
}

static Digest digest_of(const void *bytes, size_t n) {
  Digest d;
  sha256(bytes, n, d.byte);
  return d;
}

/* ---- loading ---- */

static void print_model(const Model *m, Buffer *out) {
  for (int i = 0; i < m->n_func; i++) {
    model_print_signature(m->func[i], out);
    func_print(m->func[i], out);
  }
  for (int i = 0; i < m->n_decode; i++) buffer_printf(out, "%s %s\n", m->decode[i].tokens, m->decode[i].logits);
  for (int i = 0; i < m->n_field; i++) {
    buffer_printf(out, "%s ", m->field[i].name);
    value_print(&m->field[i].value, out);
  }
}

static bool try_load(Digest *out, Error *err) {
  tested_begin();
  Model *m = model_load(fixture.model, &model_options, err);
  tested_end();
  if (!m) return false;
  Buffer text = {0};
  print_model(m, &text);
  *out = digest_of(text.data, text.len);
  buffer_done(&text);
  model_free(m);
  return true;
}

TEST("short of memory: loading a model from Lua") {
  Error err = {0};
  REQUIRE(fixture_make(&err), "%s", err.text);
  sweep((Sweep){"load", try_load, .every = 300, .sampled = 150});
}

/* ---- compiling ---- */

static bool compile_digest(Model *m, const CompileOptions *o, Digest *out, Error *err) {
  Buffer bundle = {0};
  bool ok = compile_model(m, o, &bundle, err);
  if (ok) *out = digest_of(bundle.data, bundle.len);
  buffer_done(&bundle);
  return ok;
}

static bool try_compile_with(const char *path, const CompileOptions *o, Digest *out, Error *err) {
  static int turn;
  Model *m = model_load(path, path == fixture.model ? &model_options : NULL, err);
  tested_begin();
  bool ok = m && compile_digest(m, o, out, err);
  tested_end();
  Digest again;
  Error none = {0};
  /* A model that could not be compiled for want of memory can be, once there is some. */
  if (m && !ok && ++turn % 16 == 0) EXPECT(compile_digest(m, o, &again, &none), "the model is spoilt: %s", none.text);
  model_free(m);
  return ok;
}

/* Everything but machine code, which is there already. */
static bool try_compile(Digest *out, Error *err) {
  CompileOptions o = compile_options();
  return try_compile_with(fixture.model, &o, out, err);
}

TEST("short of memory: compiling a decode, a loss and a training step to a plan") {
  Error err = {0};
  REQUIRE(fixture_make(&err), "%s", err.text);
  sweep((Sweep){"compile", try_compile, .every = 150, .sampled = 150});
}

static bool try_explain(Digest *out, Error *err) {
  Buffer text = {0};
  CompileOptions o = compile_options();
  o.explain = &text;
  bool ok = try_compile_with(fixture.model, &o, out, err);
  if (ok && text.failed) ok = error_set(err, ERROR_MEMORY, "out of memory: the explanation is cut");
  if (ok) *out = digest_of(text.data, text.len);
  buffer_done(&text);
  return ok;
}

TEST("short of memory: explaining what was compiled") {
  Error err = {0};
  REQUIRE(fixture_make(&err), "%s", err.text);
  sweep((Sweep){"explain", try_explain, .every = 10, .sampled = 60});
}

/* Small, because here every attempt that gets far compiles anew. */
static bool try_machine_code(Digest *out, Error *err) {
  CompileOptions o = {.isa = isa_best(), .threads = 2};
  return try_compile_with(fixture.small, &o, out, err);
}

TEST("short of memory: making machine code on two threads") {
  Error err = {0};
  REQUIRE(fixture_make(&err), "%s", err.text);
  sweep((Sweep){"machine code", try_machine_code, .every = 20, .sampled = 60});
}

/* The store is dispensable: without it, or with half of it, the same comes out. */
static bool try_store(Digest *out, Error *err) {
  Error without = {0};
  unlink(fixture.kernels);
  Model *m = model_load(fixture.small, NULL, err);
  tested_begin();
  Store *s = store_open(fixture.kernels, STORE_WAIT_MS, &without);
  CompileOptions o = {.isa = isa_best(), .threads = 1, .store = store_objects(s)};
  bool ok = m && compile_digest(m, &o, out, err) && compile_digest(m, &o, out, err);
  store_close(s);
  tested_end();
  EXPECT(s || without.code == ERROR_MEMORY, "code %d: %s", without.code, without.text);
  model_free(m);
  return ok;
}

TEST("short of memory: keeping machine code in the store") {
  Error err = {0};
  REQUIRE(fixture_make(&err), "%s", err.text);
  sweep((Sweep){"store", try_store, .every = 20, .sampled = 40});
}

/* ---- bundles ---- */

static bool write_and_open(Digest *out, Error *err) {
  Buffer bytes = {0};
  Plan *p = NULL;
  bool ok = plan_write(fixture.plan, &bytes, err);
  BundlePart part[] = {{NUWA_PART_PLAN, "model", (const uint8_t *)bytes.data, bytes.len},
                       {NUWA_PART_TEXT, "null_text", (const uint8_t *)"", 1}};
  ok = ok && bundle_write(fixture.bundle_file, part, COUNT_OF(part), err) &&
       (p = bundle_open_plan(fixture.bundle_file, NULL, err)) != NULL;
  tested_end();
  buffer_done(&bytes);
  if (ok && plan_write(p, &bytes, err)) *out = digest_of(bytes.data, bytes.len);
  buffer_done(&bytes);
  plan_free(p);
  return ok;
}

static bool try_bundle(Digest *out, Error *err) {
  unlink(fixture.bundle_file);
  tested_begin();
  if (write_and_open(out, err)) return true;
  Error none = {0};
  bool exists = access(fixture.bundle_file, F_OK) == 0;
  NuwaBundle *p = exists ? nuwa_bundle_open(fixture.bundle_file, &none) : NULL;
  EXPECT(!exists || p, "a bundle that cannot be opened was left: %s", none.text);
  nuwa_bundle_close(p);
  return false;
}

TEST("short of memory: writing a bundle and opening it") {
  Error err = {0};
  REQUIRE(fixture_make(&err), "%s", err.text);
  sweep((Sweep){"bundle", try_bundle, .every = 300, .sampled = 200});
}

/* ---- running ---- */

static void fill_inputs(NuwaSession *s, int function, uint64_t first, int64_t n) {
  int32_t *text = nuwa_input(s, function, "text"), *tokens = nuwa_input(s, function, "tokens");
  for (int64_t i = 0; text && i < n * WORDS; i++) text[i] = (int32_t)((first * 5 + (uint64_t)i * 3) % 7);
  for (int64_t i = 0; tokens && i < n * PLACES; i++) tokens[i] = (int32_t)((first + (uint64_t)i * 4) % CODES);
}

typedef struct Ran {
  float loss;
  int32_t tokens[BATCH * PLACES];
} Ran;

static bool load_weights(NuwaSession *s, Error *err) {
  Safetensors *w = safetensors_open(fixture.weights, err);
  bool ok = w && nuwa_load_weights(s, w, false, err);
  safetensors_close(w);
  return ok;
}

static bool run_and_generate(const Plan *p, Ran *ran, Error *err) {
  NuwaGenerate g = {
      .count = BATCH, .seed = 5, .guidance = 1.0f, .sample = {.temperature = 1, .top_k = 6, .top_p = 1}};
  NuwaOptions o = {.threads = 2, .samples = BATCH};
  if (!nuwa_generate_needs(p, &g, &o.ring_slots, &o.rows, err)) return false;
  NuwaSession *s = nuwa_session_open(p, &o, err);
  bool ok = s && nuwa_profile_start(s, err) && load_weights(s, err);
  if (ok) {
    int loss = plan_find_function(p, "loss");
    fill_inputs(s, loss, 1, BATCH);
    ok = nuwa_run(s, loss, BATCH, 1);
    ran->loss = *(float *)nuwa_output(s, loss, "loss");
    fill_inputs(s, p->decode[0].prologue, 2, BATCH);
    ok = ok && nuwa_generate(s, &g, ran->tokens, NULL, NULL, NULL, err);
  }
  nuwa_session_close(s);
  return ok;
}

static bool try_run(Digest *out, Error *err) {
  Ran ran = {0};
  tested_begin();
  Plan *p = plan_read(fixture.bundle.data, fixture.bundle.len, "stress", err);
  bool ok = p && run_and_generate(p, &ran, err);
  plan_free(p);
  tested_end();
  *out = digest_of(&ran, sizeof ran);
  return ok;
}

TEST("short of memory: opening a session, loading weights, running a loss and generating") {
  Error err = {0};
  REQUIRE(fixture_make(&err), "%s", err.text);
  sweep((Sweep){"run", try_run, .every = 300, .sampled = 200});
}

/* ---- training ---- */

static bool fill_batch(void *ctx, NuwaSession *s, int function, WorldSplit split, uint64_t first, int64_t n,
                       Error *err) {
  fill_inputs(s, function, first + 100 * (uint64_t)split, n);
  return true;
}

static bool train(Error *err) {
  const TrainSource source = {fill_batch, true, NULL};
  const TrainEntry entry = {"main", plan_find_function(fixture.plan, "train.main"), 1, STEPS, 1};
  const TrainOptions o = {.steps = STEPS,
                          .batch = BATCH,
                          .seed = 3,
                          .entry = &entry,
                          .n_entry = 1,
                          .evaluate = plan_find_function(fixture.plan, "evaluate"),
                          .evaluate_every = 2,
                          .evaluate_batches = 1,
                          .checkpoint = fixture.checkpoint,
                          .checkpoint_every = 1,
                          .resume = true,
                          .recipe = "{\"stress\": 1}",
                          .log = fixture.log,
                          .log_every = 1};
  NuwaOptions open = {.threads = 2, .samples = BATCH, .rows = 1};
  NuwaSession *s = nuwa_session_open(fixture.plan, &open, err);
  bool ok = s && nuwa_init_weights(s, 3) && train_run(s, fixture.plan, &o, &source, err) &&
            weights_write(s, fixture.plan, NULL, 0, fixture.trained, true, NULL, 0, err);
  nuwa_session_close(s);
  return ok;
}

static bool digest_file(const char *path, Digest *out, Error *err) {
  size_t n;
  char *bytes = file_read(path, &n, err);
  if (bytes) *out = digest_of(bytes, n);
  mem_free(bytes);
  return bytes != NULL;
}

/* Training that ended for want of memory goes on from its checkpoint, and ends as if nothing had been. */
static void expect_resumed(const Digest *want) {
  Error err = {0};
  Digest got = {{0}};
  EXPECT(train(&err) && digest_file(fixture.trained, &got, &err), "it cannot be resumed: %s", err.text);
  EXPECT(memcmp(&got, want, sizeof got) == 0, "resumed, it ends with other weights");
}

static void remove_run(void) {
  char path[340];
  snprintf(path, sizeof path, "rm -rf '%s'", fixture.log);
  EXPECT(system(path) == 0, "%s", path);
  unlink(fixture.checkpoint);
  unlink(fixture.trained);
}

static bool try_train(Digest *out, Error *err) {
  static Digest want;
  static int turn;
  remove_run();
  tested_begin();
  bool ok = train(err);
  tested_end();
  if (ok) ok = digest_file(fixture.trained, out, err);
  if (ok && !failing.n) want = *out;
  if (!ok && ++turn % 4 == 0) expect_resumed(&want);
  return ok;
}

TEST("short of memory: training with checkpoints and logs, and writing weights") {
  Error err = {0};
  REQUIRE(fixture_make(&err), "%s", err.text);
  sweep((Sweep){"train", try_train, .every = 100, .sampled = 100});
}

TEST_MAIN()
