#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/train/tiny.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

enum { STEPS = 120, BATCH = 4 };

/* What a run gave, step by step. */
typedef struct Result {
  float loss[STEPS + 1], mse[STEPS + 1];
  double evaluated, held, held_loss; /* val.mse, held.mse, held.loss of the last evaluation */
  int64_t first, last;
  uint8_t weights[1 << 14];
  size_t bytes;
} Result;

static void note(void *ctx, const TrainReport *r) {
  Result *result = ctx;
  if (r->is_evaluation) {
    for (int i = 0; i < r->n_metric; i++) {
      if (strcmp(r->metric[i].name, "val.mse") == 0) result->evaluated = r->metric[i].value;
      if (strcmp(r->metric[i].name, "held.mse") == 0) result->held = r->metric[i].value;
      if (strcmp(r->metric[i].name, "held.loss") == 0) result->held_loss = r->metric[i].value;
    }
    return;
  }
  if (!result->first) result->first = r->step;
  result->last = r->step;
  for (int i = 0; i < r->n_metric; i++) {
    float value = (float)r->metric[i].value;
    if (strcmp(r->metric[i].name, "loss") == 0) result->loss[r->step] = value;
    if (strcmp(r->metric[i].name, "mse") == 0) result->mse[r->step] = value;
  }
}

/* With the model's own rate, or one that diverges. */
static const Plan *plan_at(const char *lr) {
  static const char *const function[] = {"evaluate", "loss"};
  static Plan *p[2];
  Plan **at = &p[lr != NULL];
  if (!*at) *at = tiny_plan(function, 2, true, lr);
  return *at;
}
static const Plan *plan(void) { return plan_at(NULL); }

static TrainOptions options(void) {
  static TrainEntry entry;
  entry = (TrainEntry){"main", plan_find_function(plan(), "train.main"), 1, STEPS, 1};
  return (TrainOptions){.steps = STEPS,
                        .batch = BATCH,
                        .seed = 3,
                        .entry = &entry,
                        .n_entry = 1,
                        .evaluate = plan_find_function(plan(), "evaluate"),
                        .evaluate_every = 20,
                        .evaluate_batches = 2,
                        .checkpoint_every = 7,
                        .recipe = "{\"lr\": 1, \"steps\": 2}",
                        .log_every = 1,
                        .report = note};
}

static void keep_weights(NuwaSession *s, Result *r) {
  for (int i = 0; i < plan()->n_param; i++) {
    const PlanTensor *t = &plan()->param[i].type;
    int64_t bytes = 0;
    if (!plan_tensor_bytes(t, 0, 0, &bytes) || r->bytes + (size_t)bytes > sizeof r->weights) abort();
    memcpy(r->weights + r->bytes, nuwa_param(s, t->name), (size_t)bytes);
    r->bytes += (size_t)bytes;
  }
}

/* A run from the beginning, or as far as its checkpoint allows. */
static bool train_with(const Plan *p, TrainOptions o, int threads, Result *r, Error *err) {
  NuwaOptions open = {.threads = threads, .samples = BATCH, .rows = 1};
  int function[] = {plan_find_function(p, "evaluate"), plan_find_function(p, "train.main")};
  SourceOptions from = {.data = tiny_data(), .evaluate = function[0], .batch = BATCH, .threads = 2};
  memset(r, 0, sizeof *r);
  o.report_ctx = r;
  NuwaSession *s = nuwa_session_open(p, &open, err);
  Source *source = s ? source_new(p, function, 2, &from, err) : NULL;
  bool ok = false;
  if (source) {
    TrainSource batches = source_interface(source);
    nuwa_init_weights(s, o.seed);
    ok = train_run(s, p, &o, &batches, err);
    keep_weights(s, r);
  }
  source_free(source);
  nuwa_session_close(s);
  return ok;
}

static bool train(TrainOptions o, int threads, Result *r, Error *err) { return train_with(plan(), o, threads, r, err); }

static bool same_weights(const Result *a, const Result *b) {
  return a->bytes == b->bytes && memcmp(a->weights, b->weights, a->bytes) == 0;
}

static bool same_file(const char *a, const char *b) {
  Error err;
  size_t n = 0, m = 0;
  char *x = file_read(a, &n, &err), *y = file_read(b, &m, &err);
  bool same = x && y && n == m && memcmp(x, y, n) == 0;
  mem_free(x);
  mem_free(y);
  return same;
}

static void write_file(const char *path, const void *bytes, size_t n) {
  Error err;
  if (!file_write_all(path, bytes, n, &err)) abort();
}

TEST("training brings the pictures closer, those of validation too") {
  Error err = {0};
  Result r;
  REQUIRE(plan(), "");
  REQUIRE(train(options(), 2, &r, &err), "%s", err.text);
  float begin = 0, end = 0;
  for (int i = 1; i <= 5; i++) begin += r.mse[i] / 5, end += r.mse[STEPS + 1 - i] / 5;
  EXPECT(end < 0.6f * begin, "from %g to %g", (double)begin, (double)end);
  EXPECT(r.evaluated < 0.6 * (double)begin, "from %g to %g", (double)begin, r.evaluated);
}

TEST("one thread and two give the same losses and weights") {
  Error err = {0};
  Result one, two;
  REQUIRE(train(options(), 1, &one, &err) && train(options(), 2, &two, &err), "%s", err.text);
  EXPECT(memcmp(one.loss, two.loss, sizeof one.loss) == 0, "the losses differ");
  EXPECT(same_weights(&one, &two), "the weights differ");
}

TEST("a run that stops and is resumed is the uninterrupted one, to the bit") {
  Error err = {0};
  Result whole, part, rest;
  TrainOptions o = options();
  o.log = tiny_path("whole");
  REQUIRE(train(o, 2, &whole, &err), "%s", err.text);
  o.log = tiny_path("parts");
  o.checkpoint = tiny_path("parts.ckpt");
  o.resume = true;
  o.stop = 23;
  REQUIRE(train(o, 2, &part, &err), "%s", err.text);
  EXPECT(part.last == 23, "stopped at %lld", (long long)part.last);
  o.stop = 0;
  REQUIRE(train(o, 1, &rest, &err), "%s", err.text);
  EXPECT(rest.first == 24 && rest.last == STEPS, "%lld to %lld", (long long)rest.first, (long long)rest.last);
  EXPECT(memcmp(whole.loss, part.loss, sizeof(float) * 24) == 0, "the first losses differ");
  EXPECT(memcmp(whole.loss + 24, rest.loss + 24, sizeof(float) * (STEPS - 23)) == 0, "the last losses differ");
  EXPECT(same_weights(&whole, &rest), "the weights differ");
  EXPECT(same_file(tiny_path("whole/metrics.jsonl"), tiny_path("parts/metrics.jsonl")), "the logs differ");
}

static bool file_has(const char *path, const char *word) {
  Error err;
  size_t n = 0;
  char *x = file_read(path, &n, &err);
  bool has = x && memmem(x, n, word, strlen(word));
  mem_free(x);
  return has;
}

/* The mean of "mse" over scenes of a split, with the weights that a training left. */
static double mean_of_split(const Result *trained, WorldSplit split, int64_t batches) {
  Error err = {0};
  NuwaOptions open = {.threads = 1, .samples = BATCH, .rows = 1};
  SourceOptions from = {.data = tiny_data(), .evaluate = -1, .batch = BATCH};
  int loss = plan_find_function(plan(), "loss");
  NuwaSession *s = nuwa_session_open(plan(), &open, &err);
  Source *source = s ? source_new(plan(), &loss, 1, &from, &err) : NULL;
  if (!source) abort();
  const uint8_t *at = trained->weights;
  for (int i = 0; i < plan()->n_param; i++) {
    int64_t bytes = 0;
    if (!plan_tensor_bytes(&plan()->param[i].type, 0, 0, &bytes)) abort();
    memcpy(nuwa_param(s, plan()->param[i].type.name), at, (size_t)bytes);
    at += bytes;
  }
  nuwa_prepare(s);
  TrainSource batch = source_interface(source);
  double sum = 0.0;
  for (int64_t b = 0; b < batches; b++) {
    if (!batch.fill(batch.ctx, s, loss, split, (uint64_t)(b * BATCH), BATCH, &err)) abort();
    nuwa_run(s, loss, BATCH, 1);
    sum += (double)*(float *)nuwa_output(s, loss, "mse");
  }
  source_free(source);
  nuwa_session_close(s);
  return sum / (double)batches;
}

TEST("validation is of seen pairs and of held-out ones, in the report and in both logs") {
  Error err = {0};
  Result with, without;
  TrainOptions o = options();
  o.log = tiny_path("both");
  REQUIRE(train(o, 2, &with, &err), "%s", err.text);
  EXPECT(with.held == mean_of_split(&with, WORLD_HELD_OUT, 2), "held-out pairs: %g", with.held);
  EXPECT(with.evaluated == mean_of_split(&with, WORLD_VALIDATION, 2), "seen pairs: %g", with.evaluated);
  EXPECT(with.held_loss > with.held && with.held != with.evaluated, "held.loss %g", with.held_loss);
  EXPECT(file_has(tiny_path("both/metrics.jsonl"), "\"held.loss\": "), "metrics.jsonl lacks it");
  EXPECT(file_has(tiny_path("both/events.out.tfevents.nuwa"), "held.loss"), "the event file lacks it");
  o.evaluate_every = 0;
  o.log = NULL;
  REQUIRE(train(o, 2, &without, &err), "%s", err.text);
  EXPECT(memcmp(with.loss, without.loss, sizeof with.loss) == 0 && same_weights(&with, &without),
         "evaluation changed the training");
}

/* Kills a child that trains, after some milliseconds. */
static void train_and_kill(const TrainOptions *o, int milliseconds) {
  pid_t child = fork();
  if (child == 0) {
    Error err = {0};
    Result r;
    _exit(train(*o, 2, &r, &err) ? 0 : 1);
  }
  struct timespec wait = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
  nanosleep(&wait, NULL);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
}

TEST("a run that is killed again and again ends as the uninterrupted one") {
  Error err = {0};
  Result whole, last;
  TrainOptions o = options();
  REQUIRE(train(o, 2, &whole, &err), "%s", err.text);
  o.log = tiny_path("killed");
  o.checkpoint = tiny_path("killed.ckpt");
  o.checkpoint_every = 3;
  o.resume = true;
  for (int i = 0; i < 8; i++) train_and_kill(&o, 15 + 23 * i);
  REQUIRE(train(o, 2, &last, &err), "%s", err.text);
  EXPECT(same_weights(&whole, &last), "the weights differ");
  EXPECT(same_file(tiny_path("whole/metrics.jsonl"), tiny_path("killed/metrics.jsonl")), "the logs differ");
}

TEST("a checkpoint is not overwritten by a run that does not resume it") {
  Error err = {0};
  Result r;
  TrainOptions o = options();
  o.checkpoint = tiny_path("kept.ckpt");
  write_file(o.checkpoint, "precious", 8);
  EXPECT(!train(o, 1, &r, &err), "it trained");
  EXPECT_HAS(err.text, "exists: resume it");
}

static const char *resume_error(const char *path) {
  static Error err;
  Result r;
  TrainOptions o = options();
  err = (Error){0};
  o.checkpoint = path;
  o.resume = true;
  return train(o, 1, &r, &err) ? "" : err.text;
}

TEST("checkpoints that are truncated, damaged, foreign or another run's are refused") {
  Error err = {0};
  Result r;
  TrainOptions o = options();
  o.checkpoint = tiny_path("good.ckpt");
  o.stop = 2;
  REQUIRE(train(o, 1, &r, &err), "%s", err.text);
  size_t n = 0;
  char *bytes = file_read(o.checkpoint, &n, &err);
  REQUIRE(bytes, "%s", err.text);
  write_file(tiny_path("short.ckpt"), bytes, n / 2);
  EXPECT(*resume_error(tiny_path("short.ckpt")), "a truncated one was taken");
  bytes[n - 5] ^= 1;
  write_file(tiny_path("bit.ckpt"), bytes, n);
  EXPECT_HAS(resume_error(tiny_path("bit.ckpt")), "is damaged");
  write_file(tiny_path("foreign.ckpt"), "\x02\0\0\0\0\0\0\0{}", 10);
  EXPECT_HAS(resume_error(tiny_path("foreign.ckpt")), "is no checkpoint");
  mem_free(bytes);
  o.recipe = "{\"lr\": 1, \"steps\": 3}";
  o.resume = true;
  EXPECT(!train(o, 1, &r, &err), "another run's was taken");
  EXPECT_HAS(err.text, "its steps is 2, this run's is 3");
}

TEST("a code that nothing uses for the window is put on a vector of the batch, and a fresh codebook is from the start") {
  Error err = {0};
  enum { WIDTH = 4, CODES = 16, FAR = 15 };
  NuwaOptions open = {.threads = 1, .samples = BATCH, .rows = 1};
  int f = plan_find_function(plan(), "train.main"), function[] = {f};
  SourceOptions from = {.data = tiny_data(), .evaluate = -1, .batch = BATCH};
  NuwaSession *s = nuwa_session_open(plan(), &open, &err);
  Source *source = s ? source_new(plan(), function, 1, &from, &err) : NULL;
  REQUIRE(source, "%s", err.text);
  TrainSource batches = source_interface(source);
  nuwa_init_weights(s, 3);
  float *book = nuwa_param(s, "book");
  int32_t *idle = nuwa_state(s, "book.idle");
  for (int64_t step = 1; step <= 13; step++) {
    train_feed(s, plan(), f, 5, step, 100, 0, BATCH);
    REQUIRE(batches.fill(batches.ctx, s, f, WORLD_TRAIN, 0, BATCH, &err) && nuwa_run(s, f, BATCH, 1), "%s", err.text);
    float most = 0;
    for (int i = 0; i < CODES * WIDTH; i++) most = fmaxf(most, fabsf(book[i]));
    if (step == 1) EXPECT(most > 1.0f / CODES, "the codebook is still what it was: %g", (double)most);
    if (step == 1) /* out of reach from here on */
      for (int i = 0; i < WIDTH; i++) book[FAR * WIDTH + i] = 100;
    if (step == 10) EXPECT(idle[FAR] == 9 && book[FAR * WIDTH] > 90, "step 10: idle for %d, at %g", idle[FAR], (double)book[FAR * WIDTH]);
    if (step == 11) EXPECT(idle[FAR] == 0 && fabsf(book[FAR * WIDTH]) < 1.5f, "step 11: idle for %d, at %g", idle[FAR], (double)book[FAR * WIDTH]);
  }
  source_free(source);
  nuwa_session_close(s);
}

TEST("entries run in their steps and see what those before them left, and a seed is mixed with the entry's name") {
  EXPECT(train_seed(3, "generator") != train_seed(3, "discriminator") && train_seed(3, "a") != train_seed(4, "a"), "");
  EXPECT(train_seed(3, "a") == train_seed(3, "a"), "");
}

TEST("the weights are written so that they load strictly, as f32 or bf16") {
  Error err = {0};
  NuwaOptions open = {.threads = 1, .samples = 1, .rows = 1};
  NuwaSession *s = nuwa_session_open(plan(), &open, &err);
  REQUIRE(s, "%s", err.text);
  for (int half = 0; half < 2; half++) {
    const char *path = tiny_path("weights.safetensors");
    MetadataEntry meta = {"made-by", "a test"};
    nuwa_init_weights(s, 5);
    float first = *(float *)nuwa_param(s, "down.weight");
    REQUIRE(weights_write(s, plan(), NULL, 0, path, half, &meta, 1, &err), "%s", err.text);
    nuwa_init_weights(s, 6);
    Safetensors *w = safetensors_open(path, &err);
    REQUIRE(w && nuwa_load_weights(s, w, false, &err), "%s", err.text);
    EXPECT_TEXT(safetensors_metadata(w, "made-by"), "a test");
    float want = half ? f32_from_bf16(bf16_from_f32(first)) : first;
    EXPECT(*(float *)nuwa_param(s, "down.weight") == want, "%g", (double)want);
    safetensors_close(w);
  }
  nuwa_session_close(s);
}

TEST("a loss that is no number ends the run") {
  Error err = {0};
  Result r;
  TrainOptions o = options();
  REQUIRE(plan_at("1e30"), "");
  EXPECT(!train_with(plan_at("1e30"), o, 1, &r, &err), "it went on");
  EXPECT_HAS(err.text, "diverged");
}

TEST_MAIN()
