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
  int64_t first, last, revived;
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
  result->revived = r->revived;
  for (int i = 0; i < r->n_metric; i++) {
    float value = (float)r->metric[i].value;
    if (strcmp(r->metric[i].name, "loss") == 0) result->loss[r->step] = value;
    if (strcmp(r->metric[i].name, "mse") == 0) result->mse[r->step] = value;
  }
}

static const Plan *plan(void) {
  static Plan *p;
  static const char *const function[] = {"loss"};
  if (!p) p = tiny_plan(function, 1, "loss");
  return p;
}

static TrainOptions options(void) {
  return (TrainOptions){.steps = STEPS,
                        .batch = BATCH,
                        .lr = 5e-3,
                        .warmup = 0.05,
                        .cosine = true,
                        .beta1 = 0.9,
                        .beta2 = 0.999,
                        .seed = 3,
                        .evaluate = plan_find_function(plan(), "loss"),
                        .evaluate_every = 20,
                        .evaluate_batches = 2,
                        .revive = {"book", "codes", "latent", 10, false},
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
static bool train(TrainOptions o, int threads, Result *r, Error *err) {
  NuwaOptions open = {.threads = threads, .samples = BATCH, .rows = 1};
  int function[] = {plan_find_function(plan(), "loss"), plan_find_function(plan(), "train")};
  SourceOptions from = {.world = tiny_world(), .batch = BATCH};
  memset(r, 0, sizeof *r);
  o.report_ctx = r;
  NuwaSession *s = nuwa_session_open(plan(), &open, err);
  Source *source = s ? source_new(plan(), function, 2, &from, err) : NULL;
  bool ok = false;
  if (source) {
    TrainSource batches = source_interface(source);
    nuwa_init_weights(s, o.seed);
    ok = train_run(s, plan(), &o, &batches, err);
    keep_weights(s, r);
  }
  source_free(source);
  nuwa_session_close(s);
  return ok;
}

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

TEST("the rate rises linearly, then falls as a cosine to a tenth") {
  TrainOptions o = {.steps = 1000, .lr = 2.0, .warmup = 0.05, .cosine = true};
  EXPECT(train_rate(&o, 1) == 2.0 / 50, "%g", train_rate(&o, 1));
  EXPECT(train_rate(&o, 50) == 2.0, "%g", train_rate(&o, 50));
  EXPECT(fabs(train_rate(&o, 525) - 1.1) < 1e-12, "%g", train_rate(&o, 525));
  EXPECT(fabs(train_rate(&o, 1000) - 0.2) < 1e-12, "%g", train_rate(&o, 1000));
  o.cosine = false;
  EXPECT(train_rate(&o, 1000) == 2.0, "%g", train_rate(&o, 1000));
  o.warmup = 0.0;
  EXPECT(train_rate(&o, 1) == 2.0, "%g", train_rate(&o, 1));
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
  EXPECT(one.revived == two.revived, "%lld and %lld", (long long)one.revived, (long long)two.revived);
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
  SourceOptions from = {.world = tiny_world(), .batch = BATCH};
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

TEST("a code that nothing uses is put on a vector of the batch, without momentum") {
  Error err = {0};
  NuwaOptions open = {.threads = 1, .samples = BATCH, .rows = 1};
  int function = plan_find_function(plan(), "train");
  NuwaSession *s = nuwa_session_open(plan(), &open, &err);
  REQUIRE(s, "%s", err.text);
  ReviveOptions o = {"book", "codes", "latent", 2, false};
  Revive *r = revive_new(s, plan(), function, &o, BATCH, &err);
  REQUIRE(r, "%s", err.text);
  enum { ROWS = BATCH * 256, WIDTH = 4 };
  float *book = nuwa_param(s, "book"), *m = nuwa_state(s, "adam.m.book"),
        *latent = nuwa_output(s, function, "latent");
  int32_t *codes = nuwa_output(s, function, "codes");
  for (int i = 0; i < 16 * WIDTH; i++) book[i] = 100.0f + (float)i, m[i] = 1.0f;
  for (int i = 0; i < ROWS * WIDTH; i++) latent[i] = (float)(i / WIDTH) * 0.01f + (float)(i % WIDTH);
  for (int i = 0; i < ROWS; i++) codes[i] = i % 15;
  int64_t revived = -1;
  EXPECT(revive_step(r, 7, 1, &revived, &err) && revived == 0, "revived inside the window");
  EXPECT(revive_step(r, 7, 2, &revived, &err) && revived == 1, "code 15 alone was unused");
  bool found = false;
  for (int i = 0; i < ROWS; i++) found |= memcmp(book + 15 * WIDTH, latent + i * WIDTH, WIDTH * sizeof(float)) == 0;
  EXPECT(found, "code 15 is no vector of the batch");
  EXPECT(book[0] == 100.0f && book[14 * WIDTH] == 156.0f, "a code in use moved");
  EXPECT(m[15 * WIDTH] == 0.0f && m[14 * WIDTH] == 1.0f, "momentum %g, %g", (double)m[15 * WIDTH],
         (double)m[14 * WIDTH]);
  o.vectors = "loss";
  EXPECT(!revive_new(s, plan(), function, &o, BATCH, &err), "vectors of another shape were taken");
  o.codebook = "bok";
  EXPECT(!revive_new(s, plan(), function, &o, BATCH, &err), "no codebook was taken");
  EXPECT_HAS(err.text, "no codebook \"bok\"");
  revive_free(r);
  nuwa_session_close(s);
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
    REQUIRE(weights_write(s, plan(), path, half, &meta, 1, &err), "%s", err.text);
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
  o.lr = 1e30;
  o.revive.codebook = NULL;
  EXPECT(!train(o, 1, &r, &err), "it went on");
  EXPECT_HAS(err.text, "diverged");
}

TEST_MAIN()
