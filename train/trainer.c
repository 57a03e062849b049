/* One step after the other; everything that happens beside a step (revival, validation, logs, checkpoints) hangs on
 * its number, so that a resumed run does the same things at the same steps. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/names.h"
#include "train/checkpoint.h"

enum { MAX_METRICS = 64, NAME_BYTES = 96 };

typedef struct Trainer {
  NuwaSession *session;
  const Plan *plan;
  const TrainOptions *o;
  const TrainSource *source;
  int train; /* function */
  Revive *revive;
  MetricsLog *log;
  Checkpoint checkpoint;     /* .step: steps done */
  float *lr, *correction[2]; /* inputs of the step */
  Metric metric[MAX_METRICS];
  double sum[MAX_METRICS]; /* over the batches of an evaluation */
  char name[MAX_METRICS][NAME_BYTES];
  double begin; /* seconds, and the step then */
  int64_t begin_step, revived;
} Trainer;

static double seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t last_step(const TrainOptions *o) { return o->stop && o->stop < o->steps ? o->stop : o->steps; }

double train_rate(const TrainOptions *o, int64_t step) {
  double warm = floor(o->warmup * (double)o->steps + 0.5), t = (double)step;
  if (t <= warm) return o->lr * t / warm;
  if (!o->cosine) return o->lr;
  double share = (t - warm) / ((double)o->steps - warm);
  return o->lr * (0.1 + 0.45 * (1.0 + cos(3.14159265358979323846 * share)));
}

/* ---- metrics: the scalar outputs of a function ---- */

static bool is_metric(const PlanTensor *t) {
  return t->rank == 0 && t->dtype == DTYPE_F32 && strncmp(t->name, TRAIN_GRAD_SQUARE, strlen(TRAIN_GRAD_SQUARE)) != 0;
}

/* Values of a function, put behind the first n; those of the training step also have the learning rate.  How many
 * there are then. */
static int collect(Trainer *t, int function, const char *prefix, int n) {
  const PlanFunction *f = &t->plan->function[function];
  for (int i = 0; i < f->n_out && n < MAX_METRICS - 1; i++) {
    if (!is_metric(&f->out[i])) continue;
    snprintf(t->name[n], NAME_BYTES, "%s%s", prefix, f->out[i].name);
    t->metric[n] = (Metric){t->name[n], (double)*(float *)nuwa_output(t->session, function, f->out[i].name)};
    n++;
  }
  if (function == t->train) t->metric[n++] = (Metric){TRAIN_LR, (double)*t->lr};
  return n;
}

static bool write_log(Trainer *t, int n, Error *err) {
  return !t->log || metrics_write(t->log, seconds(CLOCK_REALTIME), t->checkpoint.step, t->metric, n, err);
}

static void report(Trainer *t, bool is_evaluation, int n) {
  if (!t->o->report) return;
  double spent = seconds(CLOCK_MONOTONIC) - t->begin;
  int64_t done = t->checkpoint.step - t->begin_step;
  TrainReport r = {.step = t->checkpoint.step,
                   .steps = t->o->steps,
                   .is_evaluation = is_evaluation,
                   .metric = t->metric,
                   .n_metric = n,
                   .revived = t->revived};
  if (done > 0 && spent > 0.0) {
    r.samples_per_s = (double)(done * t->o->batch) / spent;
    r.seconds_left = spent / (double)done * (double)(last_step(t->o) - r.step);
  }
  t->o->report(t->o->report_ctx, &r);
}

/* ---- one step, one evaluation ---- */

static bool fill(Trainer *t, int function, WorldSplit split, int64_t batch, Error *err) {
  return t->source->fill(t->source->ctx, t->session, function, split, (uint64_t)(batch * t->o->batch), t->o->batch,
                         err);
}

/* 1 / (1 - beta^step) */
static float correction(double beta, int64_t step) { return (float)(1.0 / (1.0 - pow(beta, (double)step))); }

/* The param whose gradient is to blame for a loss or norm that is not finite: the first one with NaN or infinity among
 * its squares, else the largest.  *out_square: their sum. */
static const char *find_culprit(const Trainer *t, double *out_square) {
  const PlanFunction *f = &t->plan->function[t->train];
  const char *largest = NULL;
  *out_square = -1.0;
  for (int i = 0; i < f->n_out; i++) {
    const char *name = f->out[i].name;
    size_t n = strlen(TRAIN_GRAD_SQUARE);
    if (strncmp(name, TRAIN_GRAD_SQUARE, n) != 0) continue;
    double square = (double)*(const float *)nuwa_output(t->session, t->train, name);
    if (isfinite(square) && square <= *out_square) continue;
    *out_square = square;
    largest = name + n;
    if (!isfinite(square)) break;
  }
  return largest;
}

/* The step wrote nothing then (train_build.c). */
static bool check_finite(Trainer *t, int64_t step, Error *err) {
  float loss = *(const float *)nuwa_output(t->session, t->train, PORT_LOSS);
  float norm = *(const float *)nuwa_output(t->session, t->train, TRAIN_GRAD_NORM);
  if (isfinite(loss) && isfinite(norm)) return true;
  double square;
  const char *name = find_culprit(t, &square);
  char what[600];
  if (isfinite(square) && isfinite(norm))
    snprintf(what, sizeof what, "the loss is %g", (double)loss);
  else
    snprintf(what, sizeof what, "the gradient of \"%.400s\" %s (the loss is %g)", name ? name : "",
             isnan(square)   ? "holds NaN"
             : isinf(square) ? "is too large: its squares do not add up in f32"
                             : "is the largest, and the squares of all do not add up in f32",
             (double)loss);
  return error_set(err, ERROR_ARGUMENT,
                   "step %lld: %s: training diverged; it stands where the step before left it, and nothing was written; a "
                   "smaller learning rate may help",
                   (long long)step, what);
}

static bool run_step(Trainer *t, Error *err) {
  int64_t step = t->checkpoint.step + 1;
  if (!fill(t, t->train, WORLD_TRAIN, step - 1, err)) return false;
  *t->lr = (float)train_rate(t->o, step);
  *t->correction[0] = correction(t->o->beta1, step);
  *t->correction[1] = correction(t->o->beta2, step);
  int64_t revived = 0;
  if (!nuwa_run(t->session, t->train, t->o->batch, 1)) return nuwa_check(t->session, err);
  if (!check_finite(t, step, err)) return false;
  if (t->revive && !revive_step(t->revive, t->o->seed, step, &revived, err)) return false;
  t->revived += revived;
  t->checkpoint.step = step;
  return true;
}

/* Means over the first batches of a split, put behind the first *n metrics. */
static bool evaluate_split(Trainer *t, WorldSplit split, const char *prefix, int *n, Error *err) {
  int64_t batches = t->o->evaluate_batches;
  int first = *n;
  memset(t->sum, 0, sizeof t->sum);
  for (int64_t b = 0; b < batches; b++) {
    if (!fill(t, t->o->evaluate, split, b, err)) return false;
    if (!nuwa_run(t->session, t->o->evaluate, t->o->batch, 1)) return nuwa_check(t->session, err);
    *n = collect(t, t->o->evaluate, prefix, first);
    for (int i = first; i < *n; i++) t->sum[i] += t->metric[i].value;
  }
  for (int i = first; i < *n; i++) t->metric[i].value = t->sum[i] / (double)batches;
  return true;
}

/* Unseen scenes of pairs that training shows, and of pairs that it never does. */
static bool evaluate(Trainer *t, Error *err) {
  int n = 0;
  if (!nuwa_prepare(t->session)) return nuwa_check(t->session, err);
  if (!evaluate_split(t, WORLD_VALIDATION, METRIC_VALIDATION, &n, err) || !evaluate_split(t, WORLD_HELD_OUT, METRIC_HELD_OUT, &n, err))
    return false;
  report(t, true, n);
  return write_log(t, n, err);
}

/* The first codebook: vectors that the untrained encoder gives for the first batch. */
static bool start_codebook(Trainer *t, Error *err) {
  if (!t->revive || t->o->evaluate < 0 || t->o->revive.keep_start) return true;
  if (!nuwa_prepare(t->session)) return nuwa_check(t->session, err);
  if (!fill(t, t->o->evaluate, WORLD_TRAIN, 0, err)) return false;
  if (!nuwa_run(t->session, t->o->evaluate, t->o->batch, 1)) return nuwa_check(t->session, err);
  return revive_start(t->revive, t->o->evaluate, t->o->seed, err);
}

/* ---- the run ---- */

static bool begin_or_resume(Trainer *t, Error *err) {
  const TrainOptions *o = t->o;
  bool exists = o->checkpoint && access(o->checkpoint, F_OK) == 0;
  if (exists && !o->resume)
    return error_set(err, ERROR_ARGUMENT, "%s exists: resume it, or remove it to begin anew", o->checkpoint);
  if (exists ? !checkpoint_read(&t->checkpoint, o->checkpoint, err) : !start_codebook(t, err)) return false;
  if (t->checkpoint.step > o->steps)
    return error_set(err, ERROR_ARGUMENT, "%s is at step %lld, after the last, %lld", o->checkpoint,
                     (long long)t->checkpoint.step, (long long)o->steps);
  t->begin_step = t->checkpoint.step;
  if (o->log) t->log = metrics_open(o->log, exists ? t->checkpoint.step : -1, err);
  return !o->log || t->log;
}

static bool is_due(int64_t step, int64_t every, int64_t last) {
  return every > 0 && (step % every == 0 || step == last);
}

static bool loop(Trainer *t, Error *err) {
  const TrainOptions *o = t->o;
  int64_t last = last_step(o);
  t->begin = seconds(CLOCK_MONOTONIC);
  while (t->checkpoint.step < last) {
    if (!run_step(t, err)) return false;
    int64_t step = t->checkpoint.step;
    int n = collect(t, t->train, "", 0);
    report(t, false, n);
    if (is_due(step, o->log_every, o->steps) && !write_log(t, n, err)) return false;
    if (o->evaluate >= 0 && is_due(step, o->evaluate_every, o->steps) && !evaluate(t, err)) return false;
    bool is_cancelled = o->is_cancelled && o->is_cancelled(o->report_ctx);
    if (o->checkpoint && (is_cancelled || is_due(step, o->checkpoint_every, last)) &&
        !checkpoint_write(&t->checkpoint, o->checkpoint, err))
      return false;
    if (is_cancelled) return true;
  }
  return true;
}

static bool check(Trainer *t, Error *err) {
  const TrainOptions *o = t->o;
  if (t->train < 0) return error_set(err, ERROR_ARGUMENT, "the bundle has no training step");
  if (o->steps < 1 || o->batch < 1 || o->stop < 0 || o->warmup < 0.0 || o->warmup > 1.0)
    return error_set(err, ERROR_ARGUMENT, "steps %lld, batch %lld, stop %lld, warm-up %g: out of range",
                     (long long)o->steps, (long long)o->batch, (long long)o->stop, o->warmup);
  t->lr = nuwa_input(t->session, t->train, TRAIN_LR);
  t->correction[0] = nuwa_input(t->session, t->train, TRAIN_CORRECTION1);
  t->correction[1] = nuwa_input(t->session, t->train, TRAIN_CORRECTION2);
  if (!t->lr || !t->correction[0] || !t->correction[1] || !nuwa_output(t->session, t->train, PORT_LOSS) ||
      !nuwa_output(t->session, t->train, TRAIN_GRAD_NORM))
    return error_set(err, ERROR_ARGUMENT, "function \"train\" of the bundle is no training step");
  return true;
}

static bool run(Trainer *t, Error *err) {
  if (!check(t, err)) return false;
  if (t->o->revive.codebook) {
    t->revive = revive_new(t->session, t->plan, t->train, &t->o->revive, t->o->batch, err);
    if (!t->revive) return false;
    t->checkpoint.uses = revive_uses(t->revive, &t->checkpoint.n_uses);
  }
  return begin_or_resume(t, err) && loop(t, err);
}

bool train_run(NuwaSession *s, const Plan *p, const TrainOptions *o, const TrainSource *source, Error *err) {
  Trainer *t = mem_alloc(sizeof *t);
  if (!t) return error_set(err, ERROR_MEMORY, "training: out of memory");
  *t = (Trainer){.session = s, .plan = p, .o = o, .source = source, .train = plan_find_function(p, FUNC_TRAIN)};
  t->checkpoint = (Checkpoint){.session = s, .plan = p, .train = t->train, .recipe = o->recipe ? o->recipe : "{}"};
  bool ok = run(t, err);
  Error ignored;
  if (!metrics_close(t->log, ok ? err : &ignored)) ok = false;
  revive_free(t->revive);
  if (ok && !nuwa_prepare(s)) ok = nuwa_check(s, err);
  mem_free(t);
  return ok;
}
