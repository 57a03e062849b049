/* `nuwa ablate`: variants of a model, trained alike and measured (synth/ablation.h), as a table. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/ablate_scores.h"
#include "cli/ablate_table.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/training_args.h"
#include "media/metrics_log.h"
#include "media/report/plot.h"
#include "runtime/base/file.h"
#include "runtime/base/names.h"
#include "runtime/base/pool.h"
#include "synth/ablation.h"
#include "synth/drawing_cost.h"
#include "synth/score_figures.h"

typedef struct AblateArgs {
  TrainingArgs of;
  DefineList defines;          /* an option given several times makes variants */
  const char *variants, *runs, *csv, *report, *figure, *figure_of;
  int64_t seeds, eval;
  AblateScores scores;
  bool json, only_drawing;
} AblateArgs;

typedef struct AblateCommand {
  AblateArgs a;
  CliTarget target;
  Arena *arena;
  Recipe recipe;
  AblationSpec spec;
  AblationResult *result;      /* [n_variant * seeds]; NULL: nothing is trained */
  DrawingCost *cost;           /* [n_variant]; NULL: the model draws nothing by itself */
  TrainProgress progress;
} AblateCommand;

static const char about[] =
    "Trains variants of a model alike and shows what came of them: metrics (mean and deviation over --seeds), speed, memory,\n"
    "and what drawing takes.  -D given several times makes a variant of each value, several such options their product;\n"
    "--variants names a Lua file that returns a list of tables of options, { \"NAME\", encoder = \"full\" }.\n"
    "Every run has a folder in --runs: one that was killed goes on, one that is done stays, and any number of processes,\n"
    "on several machines too, share the work.  Its weights stay there.  With --score NAME what they draw is scored, too, as\n"
    "by nuwa score --task NAME, and the figures are metrics of the run: s2v.all, s2v.frechet.\n";

/* ---- what is trained ---- */

static bool open_data(void *ctx, TrainingSpec *spec, Error *err) {
  return training_args_open(&((AblateCommand *)ctx)->a.of, spec, err);
}

static void close_data(void *ctx, TrainingSpec *spec) { training_args_close(spec); }

static bool check_training(void *ctx, const Training *t, Error *err) {
  return training_args_check(&((AblateCommand *)ctx)->a.of, t, err);
}

static void begin_run(void *ctx, const AblationVariant *v, uint64_t seed) {
  AblateCommand *c = ctx;
  c->progress = progress_begin();
  fprintf(stderr, "%s, seed %" PRIu64 "\n", v->name, seed);
}

static void end_run(void *ctx, const AblationVariant *v, uint64_t seed, const Error *why) {
  progress_end(&((AblateCommand *)ctx)->progress);
  if (!why) return;
  fprintf(stderr, "%s, seed %" PRIu64 ": ", v->name, seed);
  cli_show(stderr, why->text);
  fputc('\n', stderr);
}

static bool measure_run(void *ctx, const TrainingSpec *spec, const char *weights, Metric **out, int *out_n,
                        Error *err) {
  AblateCommand *c = ctx;
  progress_end(&c->progress);
  return ablate_scores_measure(&c->a.scores, spec, weights, c->arena, out, out_n, err);
}

static void report(void *ctx, const TrainReport *r) { progress_show(&((AblateCommand *)ctx)->progress, r); }

/* All but those of scores. */
static int list_args(AblateArgs *a, Arg out[ARGS_MAX]) {
  int n = training_args_list(&a->of, NULL, out);
  const Arg args[] = {
      {"-D", ARG_VARIANTS, "NAME=VALUE", "an option of the model; given several times: of its variants", &a->defines,
       0, 0},
      {"--variants", ARG_TEXT, "FILE.lua", "more variants, each a table of options", &a->variants, 0, 0},
      {"--like", ARG_TEXT, "WEIGHTS", "options, text encoder and autoencoder as these weights have them", &a->of.like,
       0, 0},
      {"--seeds", ARG_INT, "N", "runs of a variant, with seeds one after the other from --seed on (1)", &a->seeds, 1,
       10000},
      {"--eval", ARG_INT, "N", "steps between calls of `evaluate`, where there is one (at the end alone)", &a->eval,
       1, 1e12},
      {"--runs", ARG_FOLDER, "DIR", "where runs are kept, a folder each (runs)", &a->runs, 0, 0},
      {"--every", ARG_INT, "N", "steps between checkpoints (500)", &a->of.loop.checkpoint_every, 1, 1e12},
      {"--only-drawing", ARG_FLAG, NULL, "train nothing: what drawing takes is the same of initial weights",
       &a->only_drawing, 0, 0},
      {"--csv", ARG_OUT, "FILE", "the table as CSV", &a->csv, 0, 0},
      {"--report", ARG_OUT, "FILE.html", "the table as a page", &a->report, 0, 0},
      {"--figure", ARG_OUT, "FILE.svg",
       "variants as points, a metric against the time that drawing takes; also in --report", &a->figure, 0, 0,
       .without = "--only-drawing"},
      {"--figure-of", ARG_TEXT, "METRIC", "which (the first Frechet distance, else the first score, else a loss)",
       &a->figure_of, 0, 0, .with = "--figure|--report", .without = "--only-drawing"},
      {"--json", ARG_FLAG, NULL, "the table as JSON on stdout; else it is markdown", &a->json, 0, 0},
  };
  BUG_IF(n + COUNT_OF(args) > ARGS_MAX, "too many options");
  memcpy(out + n, args, sizeof args);
  return n + COUNT_OF(args);
}

static int list_all_args(AblateArgs *a, Arg out[ARGS_MAX]) {
  int n = list_args(a, out);
  return n + ablate_scores_list(&a->scores, out + n);
}

/* Runs that are done are of the same data. */
static bool set_data_digest(AblateCommand *c, Error *err) {
  TrainingSpec spec = c->spec.training;
  bool ok = training_args_open(&c->a.of, &spec, err);
  if (ok) recipe_set_text(&c->recipe, RECIPE_DATA_DIGEST, dataset_digest(spec.data));
  if (ok && spec.eval_data) recipe_set_text(&c->recipe, RECIPE_EVAL_DIGEST, dataset_digest(spec.eval_data));
  training_args_close(&spec);
  return ok;
}

static bool set_recipe(AblateCommand *c, Error *err) {
  Arg arg[ARGS_MAX];
  const TrainingArgs *of = &c->a.of;
  c->recipe = (Recipe){.arena = c->arena};
  if (!args_recipe(arg, list_args(&c->a, arg), &c->recipe, err) ||
      !ablate_scores_recipe(&c->a.scores, &c->recipe, err) ||
      !recipe_set_files(&c->recipe, RECIPE_PARTS, of->parts.item, of->parts.n, err))
    return false;
  if (of->spec.raw) recipe_set_int(&c->recipe, RECIPE_RAW, 1);
  if (of->loop.evaluate_batches) recipe_set_int(&c->recipe, RECIPE_EVAL_BATCHES, of->loop.evaluate_batches);
  return training_args_recipe(of, &c->spec.training, &c->recipe, err) && (c->a.only_drawing || set_data_digest(c, err));
}

static bool open_spec(AblateCommand *c, Error *err) {
  AblateArgs *a = &c->a;
  Variant *list = NULL;
  Define *shared;
  AblationVariant *variant;
  int n_list = 0, n_shared;
  c->spec = (AblationSpec){.arena = c->arena, .target = &c->target.synth, .loop = a->of.loop, .recipe = &c->recipe,
                           .seed = (uint64_t)a->of.seed, .seeds = a->seeds, .folder = a->runs ? a->runs : "runs",
                           .open_data = open_data, .close_data = close_data, .check = check_training, .begin = begin_run,
                           .end = end_run, .is_cancelled = cli_is_interrupted, .report = report, .ctx = c};
  if (a->variants && !variants_read(c->arena, a->variants, &list, &n_list, err)) return false;
  if (!ablation_variants(c->arena, list, n_list, a->defines.item, a->defines.n, &shared, &n_shared, &variant,
                         &c->spec.n_variant, err))
    return false;
  c->spec.variant = variant;
  if (a->scores.tasks.n) c->spec.measure = measure_run;
  a->of.model.defines = (DefineList){shared, n_shared};
  return training_args_spec(&a->of, c->arena, &c->target.synth, &c->spec.training, err) && set_recipe(c, err);
}

static bool check_eval(AblateCommand *c, Error *err) {
  ModelSpec m = ablation_model(&c->spec, 0);
  Error ignored;
  Model *model = models_load(&c->target.synth, &m, err);
  if (!model) return error_prefix(err, "%s", c->spec.variant[0].name);
  bool ok = !c->a.eval || model_find(model, FUNC_EVALUATE, &ignored) ||
            error_set(err, ERROR_USAGE, "%s: --eval needs a function in its module:  evaluate = loss", m.path);
  c->spec.loop.evaluate_every = c->a.eval ? c->a.eval : c->spec.loop.steps;
  model_free(model);
  return ok;
}

/* Before anything is trained; what is wrong with a variant by itself is told later. */
static bool open_scores(AblateCommand *c, Error *err) {
  AblateArgs *a = &c->a;
  for (int v = 0; v < c->spec.n_variant && a->scores.tasks.n; v++) {
    ModelSpec m = ablation_model(&c->spec, v);
    Error ignored;
    Model *model = models_load(&c->target.synth, &m, &ignored);
    bool ok = !model || ablate_scores_check_model(&a->scores, model, c->arena, err);
    model_free(model);
    if (!ok) return error_prefix(err, "%s", c->spec.variant[v].name);
  }
  int threads = a->of.model.threads ? (int)a->of.model.threads : pool_count_processors();
  return !a->scores.tasks.n || ablate_scores_open(&a->scores, &c->target.synth, threads, err);
}

/* Where nothing draws, there is no time to show. */
static bool check_figure(AblateCommand *c, Error *err) {
  bool draws = !c->a.figure;
  for (int v = 0; v < c->spec.n_variant && !draws; v++) {
    ModelSpec m = ablation_model(&c->spec, v);
    Error ignored;
    Model *model = models_load(&c->target.synth, &m, &ignored);
    draws = model && model_find_decode(model, FUNC_DECODE, &ignored);
    model_free(model);
  }
  return draws || error_set(err, ERROR_USAGE, "--figure: %s draws nothing token by token (decode)",
                            c->spec.training.model.path);
}

/* Of the variants that draw; a run that failed says by itself what its variant lacks. */
static bool measure(AblateCommand *c, Error *err) {
  bool draws = false;
  DrawingCost *cost = ARENA_ARRAY(c->arena, DrawingCost, c->spec.n_variant);
  for (int v = 0; v < c->spec.n_variant; v++) {
    ModelSpec m = ablation_model(&c->spec, v);
    if (cli_is_interrupted(NULL)) return error_set(err, ERROR_CANCELLED, "interrupted while drawing was measured");
    bool ok = drawing_cost_measure(&c->target.synth, &m, &cost[v], err);
    if (!ok && (!c->result || c->result[v * c->spec.seeds].state != RUN_FAILED))
      return error_prefix(err, "%s", c->spec.variant[v].name);
    draws |= cost[v].steps > 0;
  }
  if (draws) c->cost = cost;
  return draws || c->result ||
         error_set(err, ERROR_USAGE, "--only-drawing: %s draws nothing token by token (decode)", c->spec.training.model.path);
}

/* ---- the table ---- */

typedef struct Columns {
  Arena *a;
  FigureColumn *column;
  int n, cap;
} Columns;

static void add_column(Columns *l, const char *name, int digits, bool less_is_better) {
  for (int i = 0; i < l->n; i++)
    if (strcmp(l->column[i].name, name) == 0) return;
  FigureColumn column = {name, digits, less_is_better};
  ARENA_PUSH(l->a, l->column, l->n, l->cap, column);
}

static const char runs_done[] = "runs", per_second[] = "samples/s", megabytes[] = "MB to train";
static const char steps[] = "steps", tokens[] = "tokens", ms[] = "ms / picture", kv[] = "key/value bytes",
                  params[] = "parameters";

static double metric_of(const AblationResult *r, const char *name) {
  if (strcmp(name, per_second) == 0) return r->samples_per_s;
  if (strcmp(name, megabytes) == 0) return 1e-6 * (double)r->session_bytes;
  for (int i = 0; i < r->n_metric; i++)
    if (strcmp(r->metric[i].name, name) == 0) return r->metric[i].value;
  return NAN;
}

static Figure drawing_figure(const DrawingCost *d, const char *name) {
  double x = strcmp(name, steps) == 0    ? (double)d->steps
             : strcmp(name, tokens) == 0 ? (double)d->tokens
             : strcmp(name, ms) == 0     ? d->ms
             : strcmp(name, kv) == 0     ? (double)d->kv_bytes
                                         : (double)d->params;
  return (Figure){d->steps > 0 ? x : NAN, NAN};
}

static bool is_of_drawing(const char *name) {
  return name == steps || name == tokens || name == ms || name == kv || name == params;
}

static Figure find_figure(const AblateCommand *c, int v, const char *name) {
  int64_t n = c->spec.seeds;
  int done = 0, with = 0;
  if (is_of_drawing(name)) return drawing_figure(&c->cost[v], name);
  double *x = ARENA_ARRAY(c->arena, double, n);
  for (int64_t k = 0; k < n; k++) {
    const AblationResult *r = &c->result[v * n + k];
    if (r->state != RUN_DONE) continue;
    double value = metric_of(r, name);
    done++;
    if (!isnan(value) || name != per_second) x[with++] = value;   /* of one that has no number there is no mean */
  }
  Figure f = name == runs_done ? (Figure){done, NAN} : figure_of(x, with);
  return name == megabytes ? (Figure){f.mean, NAN} : f;   /* the same every time */
}

static void list_columns(const AblateCommand *c, Columns *l) {
  for (int64_t i = 0; c->result && i < c->spec.n_variant * c->spec.seeds; i++)
    for (int k = 0; k < c->result[i].n_metric; k++) {
      const char *name = c->result[i].metric[k].name;
      const ScoreFigure *f = score_figure_of_metric(name);
      add_column(l, name, f ? f->digits : 4, f ? f->less_is_better : progress_is_loss(name));
    }
  if (c->result) {
    add_column(l, per_second, 1, false);
    add_column(l, megabytes, 1, false);
    if (c->spec.seeds > 1) add_column(l, runs_done, 0, false);
  }
  if (!c->cost) return;
  add_column(l, steps, 0, false);
  add_column(l, tokens, 0, false);
  add_column(l, ms, 2, false);
  add_column(l, kv, 0, false);
  add_column(l, params, 0, false);
}

static FigureTable make_table(const AblateCommand *c) {
  Columns l = {.a = c->arena};
  list_columns(c, &l);
  int rows = c->spec.n_variant;
  const char **row = ARENA_ARRAY(c->arena, const char *, rows);
  Figure *figure = ARENA_ARRAY(c->arena, Figure, rows * l.n);
  for (int v = 0; v < rows; v++) {
    row[v] = c->spec.variant[v].name;
    for (int i = 0; i < l.n; i++) figure[v * l.n + i] = find_figure(c, v, l.column[i].name);
  }
  return (FigureTable){row, l.column, figure, rows, l.n};
}

/* ---- the figure ---- */

static int find_column(const FigureTable *t, const char *name) {
  for (int i = 0; i < t->n_column; i++)
    if (strcmp(t->column[i].name, name) == 0) return i;
  return -1;
}

/* The first Frechet distance, else the first score, else a loss; -1: none of these. */
static int usual_column(const FigureTable *t) {
  static const char *const losses[] = {METRIC_HELD_OUT PORT_LOSS, METRIC_VALIDATION PORT_LOSS, PORT_LOSS};
  int score = -1, loss = -1;
  for (int i = t->n_column - 1; i >= 0; i--)
    if (score_figure_of_metric(t->column[i].name)) score = i;
  for (int i = 0; i < t->n_column; i++)
    if (score_figure_of_metric(t->column[i].name) == score_figure(FIGURE_FRECHET)) return i;
  for (int i = 0; i < COUNT_OF(losses) && loss < 0; i++) loss = find_column(t, losses[i]);
  return score >= 0 ? score : loss;
}

/* Without points where no run is done. */
static bool make_figure(const AblateCommand *c, const FigureTable *t, PlotPoints *out, Error *err) {
  int y = c->a.figure_of ? find_column(t, c->a.figure_of) : usual_column(t), x = find_column(t, ms);
  *out = (PlotPoints){.title = "Variants against the time of drawing", .x_name = ms};
  if (c->a.figure_of && y < 0) {
    const char *all = t->column[0].name;
    for (int i = 1; i < t->n_column; i++) all = arena_printf(c->arena, "%s, %s", all, t->column[i].name);
    return error_set(err, ERROR_ARGUMENT, "--figure-of %s: is none of %s", c->a.figure_of, all);
  }
  if (x < 0 || y < 0) return true;
  PlotPoint *point = ARENA_ARRAY(c->arena, PlotPoint, t->n_row);
  for (int r = 0; r < t->n_row; r++) {
    const Figure *of = &t->figure[r * t->n_column];
    point[r] = (PlotPoint){t->row[r], of[x].mean, of[y].mean, of[y].deviation};
  }
  out->title = arena_printf(c->arena, "%s%s against the time of drawing", t->column[y].name,
                            t->column[y].less_is_better ? " (less is better)" : "");
  out->point = point;
  out->n = t->n_row;
  return true;
}

/* ---- the page ---- */

/* The curves of a metric, one a variant: of its first run. */
static void plot_metric(const AblateCommand *c, const LogCurves *logs, const char *metric, Buffer *out) {
  PlotSeries series[PLOT_MAX_SERIES];
  int n = 0;
  for (int v = 0; v < c->spec.n_variant && n < PLOT_MAX_SERIES; v++)
    for (int i = 0; i < logs[v].n; i++)
      if (strcmp(logs[v].curve[i].name, metric) == 0 && n < PLOT_MAX_SERIES)
        series[n++] = (PlotSeries){c->spec.variant[v].name, logs[v].curve[i].step, logs[v].curve[i].value, logs[v].curve[i].n};
  if (n) plot_lines(out, &(Plot){.title = metric, .x_name = "step", .series = series, .n_series = n});
}

/* Variants against each other; then of the losses: what the runs were told of each step, and what evaluations gave. */
static bool print_plots(const AblateCommand *c, const PlotPoints *figure, Buffer *out, Error *err) {
  static const char *const metrics[] = {PORT_LOSS, METRIC_VALIDATION PORT_LOSS, METRIC_HELD_OUT PORT_LOSS};
  LogCurves *logs = ARENA_ARRAY(c->arena, LogCurves, c->spec.n_variant);
  bool ok = true;
  for (int v = 0; v < c->spec.n_variant && ok; v++)
    ok = log_read_curves(&logs[v], ablation_log(&c->spec, &c->spec.variant[v], c->spec.seed), err);
  page_figures_begin(out);
  if (figure->n) plot_points(out, figure);
  for (int i = 0; i < COUNT_OF(metrics) && ok; i++) plot_metric(c, logs, metrics[i], out);
  page_figures_end(out);
  for (int v = 0; v < c->spec.n_variant; v++) log_curves_done(&logs[v]);
  return ok;
}

static bool print_page(const AblateCommand *c, const FigureTable *t, const PlotPoints *figure, Buffer *out,
                       Error *err) {
  PageFact *fact = ARENA_ARRAY(c->arena, PageFact, RECIPE_COUNT);
  int n = 0;
  page_begin(out, "nuwa ablate", c->spec.training.model.path);
  figures_print_page(t, c->arena, out);
  for (int64_t i = 0; c->result && i < c->spec.n_variant * c->spec.seeds; i++)
    if (c->result[i].state == RUN_FAILED)
      page_text(out, arena_printf(c->arena, "%s, seed %" PRIu64 ": %s", c->spec.variant[i / c->spec.seeds].name,
                                  c->spec.seed + (uint64_t)(i % c->spec.seeds), c->result[i].why.text));
  if (c->result && !print_plots(c, figure, out, err)) return false;
  page_heading(out, "What the runs share");
  for (RecipeField f = 1; f < RECIPE_COUNT; f++)
    if (c->recipe.value[f]) fact[n++] = (PageFact){recipe_name(f), c->recipe.value[f]};
  page_facts(out, fact, n);
  page_end(out);
  return true;
}

static bool write_text(const char *path, Buffer *text, Error *err) {
  bool ok = text->failed ? error_set(err, ERROR_MEMORY, "out of memory") : file_write_all(path, text->data, text->len, err);
  buffer_done(text);
  return ok;
}

static bool show(const AblateCommand *c, Error *err) {
  FigureTable t = make_table(c);
  PlotPoints figure;
  Buffer shown = {0}, csv = {0}, page = {0}, svg = {0};
  if (c->a.json) figures_print_json(&t, &shown);
  else figures_print_markdown(&t, &shown);
  if (c->a.csv) figures_print_csv(&t, &csv);
  bool ok = write_text("-", &shown, err) && (!c->a.csv || write_text(c->a.csv, &csv, err)) &&
            make_figure(c, &t, &figure, err);
  if (ok && c->a.figure) plot_points_file(&svg, &figure);
  ok = ok && (!c->a.figure || write_text(c->a.figure, &svg, err)) &&
       (!c->a.report || (print_page(c, &t, &figure, &page, err) && write_text(c->a.report, &page, err)));
  buffer_done(&page);
  return ok;
}

/* ---- the command ---- */

/* Runs that are not in the table, which is as far as it goes a success. */
static bool count_missing(const AblateCommand *c, Error *err) {
  int failed = 0, elsewhere = 0;
  const AblationResult *first = NULL;
  for (int64_t i = 0; c->result && i < c->spec.n_variant * c->spec.seeds; i++) {
    const AblationResult *r = &c->result[i];
    failed += r->state == RUN_FAILED;
    elsewhere += r->state == RUN_ELSEWHERE;
    if (r->state == RUN_FAILED && !first) first = r;
  }
  if (elsewhere)
    fprintf(stderr, "%d runs are under way elsewhere: the same command shows them when they are done\n", elsewhere);
  return !failed || error_set(err, ERROR_ARGUMENT, "%d runs failed, the first: %s", failed, first->why.text);
}

static bool check(void *ctx, Error *err) { return ablate_scores_check(&((AblateCommand *)ctx)->a.scores, err); }

static bool run(void *ctx, Arena *arena, Error *err) {
  AblateCommand *c = ctx;
  cli_catch_interrupts();
  c->arena = arena;
  if (!cli_target_open(&c->a.of.model, &c->target, err) || !open_spec(c, err) || !check_eval(c, err) ||
      !check_figure(c, err) || !open_scores(c, err))
    return false;
  if (!c->a.only_drawing) {
    c->result = ARENA_ARRAY(arena, AblationResult, c->spec.n_variant * c->spec.seeds);
    if (!ablation_train(&c->spec, c->result, err)) return false;
  }
  return measure(c, err) && show(c, err) && count_missing(c, err);
}

static void run_done(void *ctx) {
  AblateCommand *c = ctx;
  training_args_done(&c->a.of);
  ablate_scores_close(&c->a.scores);
  cli_target_close(&c->target);
}

int cli_ablate(int argc, char **argv) {
  AblateCommand a = {.a = {.seeds = 1}};
  Arg arg[ARGS_MAX];
  training_args_init(&a.a.of, "ablate");
  ablate_scores_init(&a.a.scores);
  const Command c = {.name = "ablate", .usage = "MODEL.lua [-D NAME=VALUE]... [options]", .about = about, .arg = arg,
                     .n_arg = list_all_args(&a.a, arg), .model = &a.a.of.model.path, .target = &a.a.of.model, .ctx = &a,
                     .check = check, .run = run, .done = run_done};
  return cli_command(&c, argc, argv);
}
