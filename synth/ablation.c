/* See ablation.h. */
#include "synth/ablation.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "media/metrics_log.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/names.h"
#include "runtime/base/sha256.h"
#include "synth/lease.h"

/* ---- variants ---- */

static const Define *find_define(const Define *list, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (strcmp(list[i].name, name) == 0) return &list[i];
  return NULL;
}

/* "decoder=nearby dim=64" */
static const char *describe(Arena *a, const Define *define, int n) {
  const char *text = "";
  for (int i = 0; i < n; i++) text = arena_printf(a, "%s%s%s=%s", text, i ? " " : "", define[i].name, define[i].value);
  return n ? text : "model";
}

/* A name that every file system takes: other characters become "_", and then, as where it is long, a digest tells names
 * apart. */
static const char *file_name(Arena *a, const char *name) {
  enum { LONGEST = 80 };
  char *made = arena_strdup(a, name), digest[65];
  bool is_plain = strlen(name) <= LONGEST && *name != '.';
  for (char *c = made; *c; c++)
    if (!isalnum((unsigned char)*c) && !strchr("=-+.", *c)) {
      is_plain &= *c == ' ';
      *c = *c == ' ' ? ',' : '_';
    }
  if (is_plain) return made;
  Sha256 h;
  uint8_t bytes[32];
  sha256_init(&h);
  sha256_update(&h, name, strlen(name));
  sha256_done(&h, bytes);
  sha256_hex(bytes, digest);
  return arena_printf(a, "%.*s-%.8s", LONGEST, *made == '.' ? made + 1 : made, digest);
}

typedef struct Product {
  Arena *a;
  AblationVariant *variant;
  int n, cap;
} Product;

static void add_variant(Product *p, const AblationVariant *v) { ARENA_PUSH(p->a, p->variant, p->n, p->cap, *v); }

static AblationVariant with_define(Arena *a, const AblationVariant *v, const Define *d) {
  AblationVariant more = *v;
  Define *define = ARENA_ARRAY(a, Define, v->n_define + 1);
  if (v->n_define) memcpy(define, v->define, (size_t)v->n_define * sizeof *define);
  define[more.n_define++] = *d;
  more.define = define;
  if (v->name) more.name = arena_printf(a, "%s %s=%s", v->name, d->name, d->value);
  return more;
}

/* All that is there, with each of the values that `name` was given. */
static bool multiply(Product *p, const Define *given, int n_given, const char *name, Error *err) {
  Product more = {.a = p->a};
  for (int i = 0; i < p->n; i++)
    for (int k = 0; k < n_given; k++) {
      if (strcmp(given[k].name, name) != 0) continue;
      if (more.n >= VARIANTS_MAX) return error_set(err, ERROR_ARGUMENT, "more than %d variants", VARIANTS_MAX);
      AblationVariant v = with_define(p->a, &p->variant[i], &given[k]);
      add_variant(&more, &v);
    }
  *p = more;
  return true;
}

/* Every option is set in one place, and to each of its values once. */
static bool check_given(const Variant *list, int n, const Define *given, int n_given, Error *err) {
  for (int i = 0; i < n_given; i++) {
    for (int k = 0; k < i; k++)
      if (strcmp(given[i].name, given[k].name) == 0 && strcmp(given[i].value, given[k].value) == 0)
        return error_set(err, ERROR_USAGE, "-D %s=%s is given twice", given[i].name, given[i].value);
    for (int k = 0; k < n; k++)
      if (find_define(list[k].define, list[k].n_define, given[i].name))
        return error_set(err, ERROR_USAGE, "-D %s=%s has no effect: the variants set %s", given[i].name, given[i].value,
                         given[i].name);
  }
  return true;
}

/* Names them all; no two may be one. */
static bool name_variants(Product *p, Error *err) {
  for (int i = 0; i < p->n; i++) {
    AblationVariant *v = &p->variant[i];
    if (!v->name) v->name = describe(p->a, v->define, v->n_define);
    v->file_name = file_name(p->a, v->name);
    for (int k = 0; k < i; k++)
      if (strcmp(p->variant[k].file_name, v->file_name) == 0)
        return error_set(err, ERROR_ARGUMENT, "two variants are called \"%s\": give each a name of its own", v->name);
  }
  return true;
}

bool ablation_variants(Arena *a, const Variant *list, int n, const Define *given, int n_given, Define **out_shared,
                       int *out_n_shared, AblationVariant **out, int *out_n, Error *err) {
  Product p = {.a = a};
  *out_shared = ARENA_ARRAY(a, Define, n_given + 1);
  *out_n_shared = 0;
  if (!check_given(list, n, given, n_given, err)) return false;
  for (int i = 0; i < n; i++) add_variant(&p, &(AblationVariant){list[i].name, NULL, list[i].define, list[i].n_define});
  if (n == 0) add_variant(&p, &(AblationVariant){0});
  for (int i = 0; i < n_given; i++) {
    if (find_define(given, i, given[i].name)) continue;
    bool has_several = find_define(given + i + 1, n_given - i - 1, given[i].name) != NULL;
    if (!has_several) (*out_shared)[(*out_n_shared)++] = given[i];
    else if (!multiply(&p, given, n_given, given[i].name, err)) return false;
  }
  *out = p.variant;
  *out_n = p.n;
  return name_variants(&p, err);
}

ModelSpec ablation_model(const AblationSpec *s, int variant) {
  ModelSpec m = s->training.model;
  for (int i = 0; i < s->variant[variant].n_define; i++)
    models_define(s->arena, &m, s->variant[variant].define[i].name, s->variant[variant].define[i].value);
  return m;
}

/* ---- one run ---- */

static const char *run_folder(const AblationSpec *s, const AblationVariant *v, uint64_t seed) {
  return arena_printf(s->arena, "%s/%s-seed%" PRIu64, s->folder, v->file_name, seed);
}

const char *ablation_log(const AblationSpec *s, const AblationVariant *v, uint64_t seed) {
  return arena_printf(s->arena, "%s/log", run_folder(s, v, seed));
}

typedef struct Run {
  const AblationSpec *s;
  const AblationVariant *variant;
  TrainingSpec spec;
  AblationResult *result;
  const char *folder;
  Lease *lease;
  Metric *last;              /* [n_last] in the arena: of the last report that counts, and what else was measured */
  int n_last;
  double samples_per_s;
  size_t session_bytes;
} Run;

static const char *path_in(const Run *r, const char *name) { return arena_printf(r->s->arena, "%s/%s", r->folder, name); }

static const char *weights_path(const Run *r) { return path_in(r, "weights.safetensors"); }

static void on_report(void *ctx, const TrainReport *t) {
  Run *r = ctx;
  if (t->samples_per_s > 0) r->samples_per_s = t->samples_per_s;
  if (r->s->report) r->s->report(r->s->ctx, t);
}

static double number(const JsonField *f) {
  return f && !f->is_text && strcmp(f->value, "null") != 0 ? strtod(f->value, NULL) : NAN;
}

static bool is_of_evaluation(const char *metric) {
  return strncmp(metric, METRIC_VALIDATION, strlen(METRIC_VALIDATION)) == 0 ||
         strncmp(metric, METRIC_HELD_OUT, strlen(METRIC_HELD_OUT)) == 0;
}

/* Those of the last step, in the log: what an evaluation gave stands for the step itself. */
static void keep_metrics(Run *r, const LogCurves *c) {
  bool has_evaluated = false;
  r->last = ARENA_ARRAY(r->s->arena, Metric, c->n);
  for (int i = 0; i < c->n; i++) has_evaluated |= is_of_evaluation(c->curve[i].name);
  for (int i = 0; i < c->n; i++) {
    const LogCurve *k = &c->curve[i];
    if (k->step[k->n - 1] == (double)r->s->loop.steps && is_of_evaluation(k->name) == has_evaluated)
      r->last[r->n_last++] = (Metric){arena_strdup(r->s->arena, k->name), k->value[k->n - 1]};
  }
}

/* From the log: a process that finds the run trained to its end was told of no step. */
static bool read_metrics(Run *r, Error *err) {
  LogCurves c = {0};
  bool ok = log_read_curves(&c, ablation_log(r->s, r->variant, r->spec.seed), err);
  if (ok) keep_metrics(r, &c);
  log_curves_done(&c);
  return ok;
}

static bool is_cancelled(void *ctx) {
  const Run *r = ctx;
  return r->s->is_cancelled && r->s->is_cancelled(r->s->ctx);
}

static bool is_held(void *ctx) { return lease_is_held(((Run *)ctx)->lease); }

/* What a finished run must share with this one, as JSON: what shapes it, but for what only compiling it would tell.  NULL
 * after err was set. */
static const char *identity(Run *r, Error *err) {
  Recipe recipe = *r->s->recipe;
  Error ignored;
  char digest[65];
  Model *m = models_load(r->s->target, &r->spec.model, err);
  if (!m) return NULL;
  r->spec.evaluates = model_find(m, FUNC_EVALUATE, &ignored) != NULL;   /* which a variant may have and another not */
  recipe.arena = r->s->arena;
  source_digest(&m->source, digest);
  recipe_set_int(&recipe, RECIPE_SEED, (int64_t)r->spec.seed);
  recipe_set_text(&recipe, RECIPE_SOURCE, digest);
  recipe_set_options(&recipe, RECIPE_OPTIONS, &m->options);
  recipe_set_text(&recipe, RECIPE_PRECISION, dtype_name(r->s->target->compile.precision));
  model_free(m);
  return recipe_print(&recipe, RECIPE_RUN | RECIPE_MEASURE);
}

static bool write_result(const Run *r, const char *recipe, Error *err) {
  Buffer text = {0};
  buffer_printf(&text, "{\"variant\": ");
  json_print_text(&text, r->variant->name);
  buffer_printf(&text, ", \"seed\": %" PRIu64 ", \"recipe\": %s, \"samples_per_s\": ", r->spec.seed, recipe);
  json_print_real(&text, r->samples_per_s > 0 ? r->samples_per_s : NAN);   /* the last process made no step */
  buffer_printf(&text, ", \"session_bytes\": %zu, \"metrics\": {", r->session_bytes);
  for (int i = 0; i < r->n_last; i++) {
    buffer_printf(&text, i ? ", " : "");
    json_print_text(&text, r->last[i].name);
    buffer_printf(&text, ": ");
    json_print_real(&text, r->last[i].value);
  }
  buffer_printf(&text, "}}\n");
  bool ok = text.failed ? error_set(err, ERROR_MEMORY, "out of memory")
                        : file_write_all(path_in(r, "result.json"), text.data, text.len, err);
  buffer_done(&text);
  return ok;
}

/* That data lie elsewhere is no difference. */
static bool same_recipe(const Run *r, const char *path, const char *have, const char *want, Error *err) {
  JsonDifference d;
  if (!json_compare(r->s->arena, have, want, recipe_is_told, &d, err)) return error_prefix(err, "%s", path);
  return !d.name || error_set(err, ERROR_ARGUMENT,
                              "%s is of another run: its %s%s is %s, this run's is %s; --runs names another folder",
                              path, d.within, d.name, d.theirs, d.ours);
}

/* The result that the run's folder holds; false with ERROR_NONE where there is none yet. */
static bool read_result(Run *r, const char *want, Error *err) {
  const char *path = path_in(r, "result.json");
  JsonField *field, *metric;
  int n, n_metric;
  size_t len;
  if (access(path, F_OK) != 0) return false;
  char *text = file_read(path, &len, err);
  if (!text) return false;
  const char *kept = arena_strdup(r->s->arena, text);
  mem_free(text);
  if (!json_read_object(r->s->arena, kept, &field, &n, err)) return error_prefix(err, "%s", path);
  const JsonField *recipe = json_find(field, n, META_RECIPE), *metrics = json_find(field, n, "metrics");
  if (!recipe || !metrics)
    return error_set(err, ERROR_FORMAT, "%s is no result of a run: remove its folder to train anew", path);
  if (!same_recipe(r, path, recipe->value, want, err) ||
      !json_read_object(r->s->arena, metrics->value, &metric, &n_metric, err))
    return false;
  Metric *list = ARENA_ARRAY(r->s->arena, Metric, n_metric);
  for (int i = 0; i < n_metric; i++) list[i] = (Metric){metric[i].name, number(&metric[i])};
  *r->result = (AblationResult){.state = RUN_DONE, .metric = list, .n_metric = n_metric,
                                .samples_per_s = number(json_find(field, n, "samples_per_s")),
                                .session_bytes = (int64_t)number(json_find(field, n, "session_bytes"))};
  return true;
}

/* What a run says of itself, to the others as to its own later processes: the lease is ours. */
static bool train_opened(Run *r, Training *t, Error *err) {
  Recipe chosen = *r->s->recipe;
  TrainOptions loop = r->s->loop;
  int64_t done = 0;
  chosen.arena = r->s->arena;
  recipe_set_int(&chosen, RECIPE_SEED, (int64_t)r->spec.seed);
  loop.checkpoint = path_in(r, "checkpoint");
  loop.log = ablation_log(r->s, r->variant, r->spec.seed);
  loop.resume = true;
  if (!r->spec.evaluates) loop.evaluate_every = 0;
  loop.done = &done;
  loop.report = on_report;
  loop.is_held = is_held;
  loop.is_cancelled = is_cancelled;
  loop.report_ctx = r;
  if (r->s->check && !r->s->check(r->s->ctx, t, err)) return false;
  if (!training_recipe(t, &chosen, err) || !training_run(t, &loop, err)) return false;
  if (done < loop.steps || !lease_renew(r->lease))
    return error_set(err, ERROR_CANCELLED, "interrupted after step %" PRId64 ", from which the run goes on", done);
  r->session_bytes = nuwa_session_bytes(t->session);
  return training_write(t, weights_path(r), false, err) && read_metrics(r, err);
}

static bool train_leased(Run *r, Error *err) {
  Training t = {0};
  bool ok = r->s->open_data(r->s->ctx, &r->spec, err) && training_open(&t, r->s->target, &r->spec, err) &&
            train_opened(r, &t, err);
  training_close(&t);
  r->s->close_data(r->s->ctx, &r->spec);
  return ok;
}

static bool measure(Run *r, Error *err) {
  const AblationSpec *s = r->s;
  Metric *more;
  int n;
  if (!s->measure) return true;
  if (!s->measure(s->ctx, &r->spec, weights_path(r), &more, &n, err)) return false;
  Metric *all = ARENA_ARRAY(s->arena, Metric, r->n_last + n);
  if (r->n_last) memcpy(all, r->last, sizeof *all * (size_t)r->n_last);
  if (n) memcpy(all + r->n_last, more, sizeof *all * (size_t)n);
  r->last = all;
  r->n_last += n;
  return true;
}

/* The checkpoint of the last step stays until all is measured: a run that is killed before goes on from there. */
static bool finish(Run *r, const char *recipe, Error *err) {
  if (!measure(r, err)) return false;
  if (!lease_renew(r->lease)) return error_set(err, ERROR_CANCELLED, "another process has taken the run");
  if (!write_result(r, recipe, err)) return false;
  unlink(path_in(r, "checkpoint"));
  return true;
}

/* What the folder's log and checkpoint are of, with what is measured, which a checkpoint does not say. */
static bool claim_folder(const Run *r, const char *recipe, Error *err) {
  const char *path = path_in(r, "recipe.json");
  size_t n;
  if (access(path, F_OK) != 0) return file_write_all(path, recipe, strlen(recipe), err);
  char *have = file_read(path, &n, err);
  if (!have) return false;
  const char *kept = arena_strdup(r->s->arena, have);
  mem_free(have);
  return same_recipe(r, path, kept, recipe, err);
}

/* Whether nothing may go on after it. */
static bool ends_all(const Error *err) {
  return err->code == ERROR_CANCELLED || err->code == ERROR_MEMORY || err->code == ERROR_USAGE;
}

static bool run(Run *r, Error *err) {
  const AblationSpec *s = r->s;
  bool is_taken = false;
  const char *recipe = identity(r, err);
  if (!recipe) return error_prefix(err, "%s", r->variant->name);
  if (!file_make_folders(path_in(r, "lease"), err)) return false;
  if (read_result(r, recipe, err)) return true;
  if (err->code != ERROR_NONE) return false;
  r->lease = lease_take(r->folder, &is_taken, err);
  if (is_taken) r->result->state = RUN_ELSEWHERE;
  if (!r->lease) return is_taken;
  bool is_done = read_result(r, recipe, err);   /* by who had the lease just before */
  bool ok = is_done || err->code == ERROR_NONE, is_lost = false;
  if (ok && !is_done) {
    if (s->begin) s->begin(s->ctx, r->variant, r->spec.seed);
    ok = claim_folder(r, recipe, err) && train_leased(r, err) && finish(r, recipe, err);
    is_lost = !ok && err->code == ERROR_CANCELLED && !lease_is_held(r->lease);
    if (s->end) s->end(s->ctx, r->variant, r->spec.seed, ok || ends_all(err) ? NULL : err);
    if (ok) ok = read_result(r, recipe, err);
  }
  if (is_lost) r->result->state = RUN_ELSEWHERE;   /* this process stood still for so long that another took the run */
  lease_release(r->lease);
  return ok || is_lost;
}

/* A mistake in the last is told before the first is trained; the others are trained all the same. */
static void say_what_is_broken(const AblationSpec *s) {
  for (int v = 0; v < s->n_variant; v++) {
    ModelSpec m = ablation_model(s, v);
    Error why = {0};
    Model *model = models_load(s->target, &m, &why);
    if (!model) synth_say(s->target, "%s will not be trained: %s", s->variant[v].name, why.text);
    model_free(model);
  }
}

bool ablation_train(const AblationSpec *s, AblationResult *result, Error *err) {
  bool can_go_on = true;
  say_what_is_broken(s);
  for (int64_t k = 0; k < s->seeds; k++)
    for (int v = 0; v < s->n_variant && can_go_on; v++) {
      Run r = {.s = s, .variant = &s->variant[v], .spec = s->training, .result = &result[v * s->seeds + k]};
      Error why = {0};
      r.spec.model = ablation_model(s, v);
      r.spec.seed = s->seed + (uint64_t)k;
      r.folder = run_folder(s, r.variant, r.spec.seed);
      *r.result = (AblationResult){.state = RUN_OPEN};
      if (run(&r, &why)) continue;
      if (why.code != ERROR_CANCELLED) *r.result = (AblationResult){.state = RUN_FAILED, .why = why};
      can_go_on = !ends_all(&why);
      if (!can_go_on) *err = why;
    }
  return can_go_on;
}
