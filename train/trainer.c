/* One step after the other; everything that happens beside a step (validation, logs, checkpoints) hangs on its number, so
 * that a resumed run does the same things at the same steps. */
#include "runtime/base/names.h"
#include "train/trainer.h"

#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/sha256.h"
#include "train/checkpoint.h"
#include "train/schedule.h"

enum { MAX_SHOWN = 64 }; /* metrics */

typedef struct Trainer {
  NuwaSession *session;
  const Plan *plan;
  const TrainOptions *o;
  const TrainSource *source;
  MetricsLog *log;
  Checkpoint checkpoint;     /* .step: steps done */
  Arena *arena;
  const char ***name;      /* [n_entry + 2][outputs]: of the metrics of each entry, of both evaluations; NULL: no metric */
  Metric *metric;          /* room for all metrics of a step or of an evaluation */
  double *sum;             /* likewise, over the batches of an evaluation */
  double begin; /* seconds, and the step then */
  double evaluating;       /* seconds that evaluations took since */
  int64_t begin_step;
  int64_t kept_step;       /* that the checkpoint holds; 0: there is none */
} Trainer;

static double seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint64_t train_seed(uint64_t seed, const char *name) {
  Sha256 h;
  uint8_t digest[32], bytes[8];
  uint64_t mixed = 0;
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(seed >> 8 * i);
  sha256_init(&h);
  sha256_update(&h, bytes, sizeof bytes);
  sha256_update(&h, name, strlen(name));
  sha256_done(&h, digest);
  for (int i = 0; i < 8; i++) mixed |= (uint64_t)digest[i] << 8 * i;
  return mixed;
}

bool train_feeds(const PlanTensor *t) {
  if (t->dtype != DTYPE_I32) return false;
  if (strcmp(t->name, PORT_STEP) == 0 || strcmp(t->name, PORT_STEPS) == 0) return t->rank == 0;
  if (t->rank != 1) return false;
  return (strcmp(t->name, PORT_SEED) == 0 && dim_equal(t->dim[0], dim_const(2))) ||
         (strcmp(t->name, PORT_EXAMPLE) == 0 && dim_equal(t->dim[0], (Dim){.b = 1}));
}

static int32_t *own_input(NuwaSession *s, const Plan *p, int function, const char *name) {
  const PlanTensor *t = plan_find_input(&p->function[function], name);
  return t && train_feeds(t) ? nuwa_input(s, function, name) : NULL;
}

void train_feed(NuwaSession *s, const Plan *p, int function, uint64_t seed, int64_t step, int64_t steps,
                uint64_t first, int64_t n) {
  int32_t *seeds = own_input(s, p, function, PORT_SEED), *at = own_input(s, p, function, PORT_STEP);
  int32_t *all = own_input(s, p, function, PORT_STEPS), *example = own_input(s, p, function, PORT_EXAMPLE);
  for (int i = 0; seeds && i < 2; i++) seeds[i] = (int32_t)(uint32_t)(seed >> 32 * i);
  if (at) *at = (int32_t)(uint32_t)(uint64_t)step;
  if (all) *all = (int32_t)(uint32_t)(uint64_t)steps;
  for (int64_t i = 0; example && i < n; i++) example[i] = (int32_t)(uint32_t)(first + (uint64_t)i);
}

/* ---- metrics: the scalar outputs of a function ---- */

enum { EVALUATE_VALIDATION, EVALUATE_HELD_OUT }; /* names of these follow those of the entries */

static bool is_metric(const PlanTensor *t) { return t->rank == 0 && t->dtype == DTYPE_F32; }

/* Values of a function, put behind the first n under their names.  How many there are then. */
static int collect(Trainer *t, int function, const char *const *name, int n) {
  const PlanFunction *f = &t->plan->function[function];
  for (int i = 0; i < f->n_out; i++)
    if (name[i]) t->metric[n++] = (Metric){name[i], (double)*(float *)nuwa_output(t->session, function, f->out[i].name)};
  return n;
}

static const char **name_outputs(Trainer *t, int function, const char *prefix, const char *dot) {
  const PlanFunction *f = &t->plan->function[function];
  const char **name = ARENA_ARRAY(t->arena, const char *, f->n_out + 1);
  for (int i = 0; i < f->n_out; i++)
    if (is_metric(&f->out[i])) name[i] = arena_printf(t->arena, "%s%s%s", prefix, dot, f->out[i].name);
  return name;
}

/* The share of the time since the run began that steps have waited for data. */
static double waiting(const Trainer *t) {
  double spent = seconds(CLOCK_MONOTONIC) - t->begin;
  return t->source->waited && spent > 0.0 ? t->source->waited(t->source->ctx) / spent : 0.0;
}

static void name_metrics(void *ctx) {
  Trainer *t = ctx;
  const TrainOptions *o = t->o;
  int n = MAX_SHOWN;
  t->name = ARENA_ARRAY(t->arena, const char **, o->n_entry + 2);
  for (int i = 0; i < o->n_entry; i++) {
    bool is_one = o->n_entry == 1;
    t->name[i] = name_outputs(t, o->entry[i].function, is_one ? "" : o->entry[i].name, is_one ? "" : ".");
    n += t->plan->function[o->entry[i].function].n_out;
  }
  if (o->evaluate >= 0) {
    t->name[o->n_entry + EVALUATE_VALIDATION] = name_outputs(t, o->evaluate, METRIC_VALIDATION, "");
    t->name[o->n_entry + EVALUATE_HELD_OUT] = name_outputs(t, o->evaluate, METRIC_HELD_OUT, "");
    n += 2 * t->plan->function[o->evaluate].n_out;
  }
  t->metric = ARENA_ARRAY(t->arena, Metric, n);
  t->sum = ARENA_ARRAY(t->arena, double, n);
}

static bool write_log(Trainer *t, const LogRecord *r, Error *err) {
  return !t->log || metrics_write(t->log, seconds(CLOCK_REALTIME), t->checkpoint.step, r, err);
}

static void report(Trainer *t, bool is_evaluation, const LogRecord *record) {
  if (!t->o->report) return;
  double spent = seconds(CLOCK_MONOTONIC) - t->begin, training = spent - t->evaluating;
  int64_t done = t->checkpoint.step - t->begin_step;
  TrainReport r = {.step = t->checkpoint.step,
                   .steps = t->o->steps,
                   .begin = t->begin_step,
                   .is_evaluation = is_evaluation,
                   .metric = record->metric,
                   .n_metric = record->n_metric,
                   .counts = record->counts,
                   .n_counts = record->n_counts,
                   .waiting = waiting(t)};
  if (done > 0 && training > 0.0) {
    r.samples_per_s = (double)(done * t->o->batch) / training;
    r.seconds_left = spent / (double)done * (double)(schedule_last(t->o) - r.step);
  }
  t->o->report(t->o->report_ctx, &r);
}

/* ---- one step, one evaluation ---- */

static bool fill(Trainer *t, int function, const char *name, const LoaderBatch *b, Error *err) {
  int64_t step = t->checkpoint.step + !b->is_evaluation;
  train_feed(t->session, t->plan, function, train_seed(t->o->seed, name), step, t->o->steps, b->first, b->n);
  return t->source->fill(t->source->ctx, t->session, function, b->split, b->first, b->n, err);
}

/* An entry that gave no finite number changed nothing. */
static bool check_finite(Trainer *t, const TrainEntry *e, Error *err) {
  const PlanFunction *f = &t->plan->function[e->function];
  for (int i = 0; i < f->n_out; i++) {
    if (!is_metric(&f->out[i])) continue;
    float x = *(const float *)nuwa_output(t->session, e->function, f->out[i].name);
    if (isfinite(x)) continue;
    error_set(err, ERROR_ARGUMENT,
              "step %lld: \"%s\" of \"%s\" is %g: training diverged; \"%s\" changed nothing, and no weights were written; a "
              "smaller learning rate may help",
              (long long)(t->checkpoint.step + 1), f->out[i].name, e->name, (double)x, e->name);
    if (t->o->explain) t->o->explain(t->o->explain_ctx, e, err);
    return false;
  }
  return true;
}

static bool keep(Trainer *t, Error *err) {
  if (!checkpoint_write(&t->checkpoint, t->o->checkpoint, err)) return false;
  t->kept_step = t->checkpoint.step;
  return true;
}

/* Training ends.  Where it stands as the step before left it, that is worth keeping; where an entry has moved already, what was
 * kept before counts. */
static void keep_last(Trainer *t, bool has_moved, Error *err) {
  Error ignored;
  size_t at = strlen(err->text);
  if (!t->o->checkpoint) return;
  if (!has_moved && t->checkpoint.step > t->kept_step) keep(t, &ignored);
  if (t->kept_step > 0)
    snprintf(err->text + at, sizeof err->text - at, "; %s holds step %lld", t->o->checkpoint, (long long)t->kept_step);
  else if (has_moved)
    snprintf(err->text + at, sizeof err->text - at, "; no checkpoint was written before, --every says how often");
}

/* *n: how many metrics there are. */
static bool run_step(Trainer *t, int *n, Error *err) {
  int64_t step = t->checkpoint.step + 1;
  bool has_moved = false;   /* an entry, in this step */
  LoaderBatch batch = schedule_batch(t->o, false, WORLD_TRAIN, step - 1, step * t->o->batch);
  *n = 0;
  for (int i = 0; i < t->o->n_entry; i++) {
    const TrainEntry *e = &t->o->entry[i];
    if (!schedule_has_entry(e, step)) continue;
    if (!fill(t, e->function, e->name, &batch, err)) return false;
    if (!nuwa_run(t->session, e->function, t->o->batch, 1)) return nuwa_check(t->session, err);
    if (!check_finite(t, e, err)) {
      keep_last(t, has_moved, err);
      return false;
    }
    has_moved = true;
    *n = collect(t, e->function, t->name[i], *n);
  }
  t->checkpoint.step = step;
  return true;
}

/* Means over the first examples of a split, put behind the first *n metrics. */
static bool evaluate_split(Trainer *t, WorldSplit split, int names, int *n, Error *err) {
  int64_t examples = schedule_evaluated(t->o, t->source, split);
  int first = *n;
  for (int64_t b = 0; b * t->o->batch < examples; b++) {
    LoaderBatch batch = schedule_batch(t->o, true, split, b, examples);
    if (!fill(t, t->o->evaluate, FUNC_EVALUATE, &batch, err)) return false;
    if (!nuwa_run(t->session, t->o->evaluate, batch.n, 1)) return nuwa_check(t->session, err);
    *n = collect(t, t->o->evaluate, t->name[t->o->n_entry + names], first);
    for (int i = first; i < *n; i++) t->sum[i] = (b ? t->sum[i] : 0) + t->metric[i].value * (double)batch.n;
  }
  for (int i = first; i < *n; i++) t->metric[i].value = t->sum[i] / (double)examples;
  return true;
}

/* Unseen examples, and where there are some those of pairs that training never shows. */
static bool measure(Trainer *t, int *n, Error *err) {
  return evaluate_split(t, WORLD_VALIDATION, EVALUATE_VALIDATION, n, err) &&
         (!t->source->has_held_out || evaluate_split(t, WORLD_HELD_OUT, EVALUATE_HELD_OUT, n, err));
}

static bool evaluate(Trainer *t, Error *err) {
  int n = 0;
  double begin = seconds(CLOCK_MONOTONIC);
  if (!nuwa_prepare(t->session)) return nuwa_check(t->session, err);
  if (t->o->evaluate >= 0 && !measure(t, &n, err)) return false;
  LogRecord r = {0};
  if (t->log && t->o->show && !t->o->show(t->o->show_ctx, &r, err)) return false;
  for (int i = 0; i < r.n_metric && i < MAX_SHOWN; i++) t->metric[n++] = r.metric[i];
  r.metric = t->metric, r.n_metric = n;
  if (!write_log(t, &r, err)) return false;
  t->evaluating += seconds(CLOCK_MONOTONIC) - begin;
  report(t, true, &r);
  return true;
}

/* ---- the run ---- */

/* A run that got beyond its first checkpoint has one: where it is not there, its name is wrong, and to begin anew would cost
 * the log. */
static bool check_log(const TrainOptions *o, Error *err) {
  LogCurves c = {0};
  double last = 0;
  if (!o->log || !o->resume || !log_read_curves(&c, o->log, err)) return !o->log || !o->resume;
  for (int i = 0; i < c.n; i++) last = fmax(last, c.curve[i].step[c.curve[i].n - 1]);
  log_curves_done(&c);
  return last <= (double)o->checkpoint_every ||
         error_set(err, ERROR_ARGUMENT,
                   "%s holds steps up to %.0f, and there is no %s: --checkpoint names the checkpoint of that run; "
                   "remove the log to begin anew",
                   o->log, last, o->checkpoint);
}

static bool begin_or_resume(Trainer *t, Error *err) {
  const TrainOptions *o = t->o;
  bool exists = o->checkpoint && access(o->checkpoint, F_OK) == 0;
  if (exists && !o->resume)
    return error_set(err, ERROR_ARGUMENT, "%s exists: resume it, or remove it to begin anew", o->checkpoint);
  if (exists ? !checkpoint_read(&t->checkpoint, o->checkpoint, err) : !check_log(o, err)) return false;
  if (t->checkpoint.step > o->steps)
    return error_set(err, ERROR_ARGUMENT, "%s is at step %lld, after the last, %lld", o->checkpoint,
                     (long long)t->checkpoint.step, (long long)o->steps);
  t->begin_step = t->kept_step = t->checkpoint.step;
  if (o->log) t->log = metrics_open(o->log, o->resume ? t->checkpoint.step : -1, !o->is_held, err);
  return !o->log || t->log;
}

static bool lose_run(int64_t step, Error *err) {
  return error_set(err, ERROR_CANCELLED, "another process took the run, and step %lld is not written here", (long long)step);
}

static bool loop(Trainer *t, Error *err) {
  const TrainOptions *o = t->o;
  int64_t last = schedule_last(o);
  bool evaluates = o->evaluate >= 0 || (t->log && o->show);
  while (t->checkpoint.step < last) {
    int n;
    if (!run_step(t, &n, err)) return false;
    int64_t step = t->checkpoint.step;
    if (o->is_held && !o->is_held(o->report_ctx)) return lose_run(step, err);
    LogRecord record = {.metric = t->metric, .n_metric = n};
    if (schedule_is_due(step, o->log_every, o->steps) && !write_log(t, &record, err)) return false;
    report(t, false, &record);
    if (evaluates && schedule_is_due(step, o->evaluate_every, o->steps) && !evaluate(t, err)) return false;
    if (o->is_held && !o->is_held(o->report_ctx)) return lose_run(step, err);
    bool is_cancelled = o->is_cancelled && o->is_cancelled(o->report_ctx);
    if (o->checkpoint && (is_cancelled || schedule_is_due(step, o->checkpoint_every, last)) &&
        !keep(t, err))
      return false;
    if (is_cancelled) return true;
  }
  return true;
}

/* The loop, while the source loads ahead. */
static bool run(Trainer *t, Error *err) {
  TrainSchedule schedule = {t->o, t->source, t->checkpoint.step, -1};
  t->begin = seconds(CLOCK_MONOTONIC);
  if (t->source->begin) t->source->begin(t->source->ctx, &(LoaderBatches){schedule_next, &schedule});
  bool ok = loop(t, err);
  if (t->o->waiting) *t->o->waiting = waiting(t);
  if (t->source->end) t->source->end(t->source->ctx);
  return ok;
}

static bool check(const Trainer *t, Error *err) {
  const TrainOptions *o = t->o;
  if (o->n_entry < 1) return error_set(err, ERROR_ARGUMENT, "there is nothing to train: no entry");
  if (o->steps < 1 || o->steps > INT32_MAX || o->batch < 1 || o->stop < 0)
    return error_set(err, ERROR_ARGUMENT, "steps %lld, batch %lld, stop %lld: out of range", (long long)o->steps,
                     (long long)o->batch, (long long)o->stop);
  return true;
}

bool train_run(NuwaSession *s, const Plan *p, const TrainOptions *o, const TrainSource *source, Error *err) {
  Trainer *t = mem_alloc(sizeof *t);
  if (!t) return error_set(err, ERROR_MEMORY, "training: out of memory");
  *t = (Trainer){.session = s, .plan = p, .o = o, .source = source};
  t->checkpoint = (Checkpoint){.session = s, .plan = p, .entry = o->entry, .n_entry = o->n_entry,
                               .recipe = o->recipe ? o->recipe : "{}", .is_told = o->is_told};
  if (!(t->arena = arena_new())) error_set(err, ERROR_MEMORY, "training: out of memory");
  bool ok = t->arena && check(t, err) && arena_protect(t->arena, name_metrics, t, err) && begin_or_resume(t, err) &&
            run(t, err);
  if (o->done) *o->done = t->checkpoint.step;
  Error ignored;
  if (!metrics_close(t->log, ok ? err : &ignored)) ok = false;
  if (ok && !nuwa_prepare(s)) ok = nuwa_check(s, err);
  arena_free(t->arena);
  mem_free(t);
  return ok;
}
