/* See train_page.h. */
#include "cli/train_page.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "bench/bench.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "media/image.h"
#include "media/report/plot.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "synth/showing.h"

enum { EVERY_SECONDS = 60, MOST_PICTURES = 12 /* of a name */, MOST_CURVES = 256 };

typedef struct PageWriting {
  TrainPage *p;
  Arena *arena;
  Buffer out;
  const char *state;
  Error *err;
  bool ok;
} PageWriting;

/* ---- curves ---- */

/* "loss" of "val.loss" and "held.loss": what is measured alike is drawn together. */
static const char *base_of(const char *name) {
  static const char *const prefix[] = {METRIC_VALIDATION, METRIC_HELD_OUT};
  for (int i = 0; i < COUNT_OF(prefix); i++)
    if (strncmp(name, prefix[i], strlen(prefix[i])) == 0) return name + strlen(prefix[i]);
  return name;
}

static void plot_group(PageWriting *w, const char *base) {
  const LogCurves *c = &w->p->curves;
  PlotSeries series[PLOT_MAX_SERIES];
  int n = 0;
  for (int i = 0; i < c->n && n < PLOT_MAX_SERIES; i++)
    if (strcmp(base_of(c->curve[i].name), base) == 0)
      series[n++] = (PlotSeries){c->curve[i].name, c->curve[i].step, c->curve[i].value, c->curve[i].n};
  plot_lines(&w->out, &(Plot){.title = base, .x_name = "step", .series = series, .n_series = n});
}

static bool is_first_of_group(const LogCurves *c, int at) {
  for (int i = 0; i < at; i++)
    if (strcmp(base_of(c->curve[i].name), base_of(c->curve[at].name)) == 0) return false;
  return true;
}

/* Losses first, then the others in the order of the log. */
static void put_curves(PageWriting *w) {
  const LogCurves *c = &w->p->curves;
  page_heading(&w->out, "Curves");
  if (!c->n) page_text(&w->out, "No step has been logged yet.");
  page_figures_begin(&w->out);
  for (int is_other = 0; is_other < 2; is_other++)
    for (int i = 0; i < c->n && i < MOST_CURVES; i++)
      if (is_first_of_group(c, i) && progress_is_loss(c->curve[i].name) == !is_other) plot_group(w, base_of(c->curve[i].name));
  page_figures_end(&w->out);
}

/* ---- pictures ---- */

static bool put_picture(PageWriting *w, const LogPictureFile *f, char **captions) {
  Image picture = {0};
  size_t bytes;
  char *png = file_read(f->path, &bytes, w->err);
  Error none = {0};
  if (!png) return false;
  bool ok = image_decode(png, bytes, f->path, &picture, w->err);
  if (ok) {
    page_picture(&w->out, &(PagePicture){png, bytes, picture.width, picture.height, arena_printf(w->arena, "step %" PRId64, f->step)});
    mem_free(*captions);
    *captions = image_find_text(png, bytes, f->path, SHOWING_CAPTIONS, &none);
  }
  image_done(&picture);
  mem_free(png);
  return ok;
}

/* n pictures of a name: all, or the first, the last, and some between. */
static bool put_pictures_of(PageWriting *w, const LogPictureFile *file, int n) {
  int shown = n < MOST_PICTURES ? n : MOST_PICTURES;
  char *captions = NULL;
  bool ok = true;
  page_figures_begin(&w->out);
  for (int i = 0; ok && i < shown; i++) ok = put_picture(w, &file[shown > 1 ? (int)((int64_t)i * (n - 1) / (shown - 1)) : 0], &captions);
  page_figures_end(&w->out);
  if (captions && *captions) {
    page_fold_begin(&w->out, "Captions, from left to right");
    page_text(&w->out, captions);
    page_fold_end(&w->out);
  }
  mem_free(captions);
  return ok;
}

static bool put_pictures(PageWriting *w) {
  LogPictureFile *file;
  int n;
  if (!log_list_pictures(w->arena, w->p->log, &file, &n, w->err)) return false;
  for (int from = 0, to; from < n; from = to) {
    for (to = from; to < n && strcmp(file[to].name, file[from].name) == 0;) to++;
    page_heading(&w->out, arena_printf(w->arena, "Pictures of %s", file[from].name));
    page_text(&w->out, to - from > MOST_PICTURES ? arena_printf(w->arena, "%d of %d, of the same examples each time; where pictures go in they stand above what comes out.",
                                                               MOST_PICTURES, to - from)
                                                 : "Of the same examples each time; where pictures go in they stand above what comes out.");
    if (!put_pictures_of(w, file + from, to - from)) return false;
  }
  return true;
}

static void put_counts(PageWriting *w) {
  const TrainReport *r = &w->p->last;
  if (!r->n_counts) return;
  page_heading(&w->out, "Use of codes");
  page_figures_begin(&w->out);
  for (int i = 0; i < r->n_counts; i++) {
    const LogCounts *c = &r->counts[i];
    double *value = ARENA_ARRAY(w->arena, double, c->n + 1);
    for (int k = 0; k < c->n; k++) value[k] = (double)c->count[k];
    plot_bars(&w->out, &(PlotBars){c->name, "code", value, c->n});
  }
  page_figures_end(&w->out);
}

/* ---- time ---- */

static void put_kernels(PageWriting *w) {
  const Training *t = w->p->training;
  page_heading(&w->out, "Time of kernels");
  if (!w->p->lowered) {
    page_text(&w->out, "Not measured: on a GPU every launch would be waited for. --profile measures it.");
    return;
  }
  for (int i = 0; i < t->model->n_train; i++) {
    int64_t runs = progress_runs(&t->entry[i], w->p->last.step) - progress_runs(&t->entry[i], w->p->last.begin);
    if (runs > 0)
      profile_page(w->arena, &w->out, t->session, t->plan, t->model->train[i].func->name, w->p->lowered, runs, t->spec.batch);
  }
}

/* ---- what it is of ---- */

static const char *machine(PageWriting *w) {
  const Training *t = w->p->training;
  char cpu[160];
  bench_cpu_name(cpu, sizeof cpu);
  return arena_printf(w->arena, "%s, %d threads%s%s; %.1f MB for the session", cpu, nuwa_threads(t->session),
                      t->plan->device == PLAN_CUDA ? "; " : "", t->plan->device == PLAN_CUDA ? nuwa_device_name(t->session) : "",
                      (double)nuwa_session_bytes(t->session) * 1e-6);
}

static bool put_recipe(PageWriting *w) {
  const Training *t = w->p->training;
  JsonField *field;
  int n;
  if (!json_read_object(w->arena, t->recipe ? t->recipe : "{}", &field, &n, w->err)) return false;
  PageFact *fact = ARENA_ARRAY(w->arena, PageFact, n + 2);
  fact[0] = (PageFact){"model", t->model->path};
  fact[1] = (PageFact){"machine", machine(w)};
  for (int i = 0; i < n; i++) fact[i + 2] = (PageFact){field[i].name, field[i].value};
  page_heading(&w->out, "Recipe");
  page_code(&w->out, w->p->command);
  page_facts(&w->out, fact, n + 2);
  return true;
}

static void put_data(PageWriting *w) {
  const Dataset *data[] = {w->p->training->spec.data, w->p->training->spec.eval_data};
  page_heading(&w->out, "Data");
  for (int i = 0; i < COUNT_OF(data) && data[i]; i++) {
    Buffer about = {0};
    int n;
    const DataField *field = dataset_fields(data[i], &n);
    if (dataset_is_endless(data[i])) buffer_printf(&about, "%s: endless\n", dataset_spec(data[i]));
    else
      buffer_printf(&about, "%s: %" PRIu64 " examples to train on, %" PRIu64 " held out\n", dataset_spec(data[i]), dataset_count(data[i], WORLD_TRAIN),
                    dataset_count(data[i], WORLD_VALIDATION));
    for (int k = 0; k < n; k++) {
      buffer_printf(&about, "  ");
      dataset_print_field(&field[k], &about);
      buffer_printf(&about, "\n");
    }
    dataset_print_notes(data[i], &about);
    page_code(&w->out, arena_take_buffer(w->arena, &about));
  }
}

/* ---- the page ---- */

static const char *lead(PageWriting *w) {
  const TrainReport *r = &w->p->last;
  char date[32], left[32];
  time_t now = time(NULL);
  struct tm utc;
  strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &utc));
  if (w->state) return arena_printf(w->arena, "%s (%s)", w->state, date);
  progress_left(r->seconds_left, left, sizeof left);
  return arena_printf(w->arena, "running: step %" PRId64 " of %" PRId64 ", %.1f samples/s, %.1f %% of the time waiting for data, %s left (%s)", r->step, r->steps, r->samples_per_s,
                      100.0 * r->waiting, left, date);
}

static const char *title_of(PageWriting *w) {
  const char *path = w->p->training->model->path, *slash = strrchr(path, '/');
  return arena_printf(w->arena, "Training of %s", slash ? slash + 1 : path);
}

static void write_body(void *ctx) {
  PageWriting *w = ctx;
  page_begin(&w->out, title_of(w), lead(w));
  put_curves(w);
  if (!put_pictures(w)) return;
  put_counts(w);
  put_kernels(w);
  if (!put_recipe(w)) return;
  put_data(w);
  page_end(&w->out);
  w->ok = !w->out.failed || error_set(w->err, ERROR_MEMORY, "out of memory");
}

static double now_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

bool train_page_write(TrainPage *p, const char *state, Error *err) {
  PageWriting w = {.p = p, .arena = arena_new(), .state = state, .err = err};
  bool ok = w.arena || error_set(err, ERROR_MEMORY, "out of memory");
  ok = ok && log_read_curves(&p->curves, p->log, err) && arena_protect(w.arena, write_body, &w, err) && w.ok &&
       file_write_all(p->path, w.out.data, w.out.len, err);
  buffer_done(&w.out);
  arena_free(w.arena);
  p->written = now_seconds();
  return ok || error_prefix(err, "--report %s", p->path);
}

void train_page_report(TrainPage *p, const TrainReport *r) {
  Error err = {0};
  const TrainReport before = p->last;
  p->last = *r;
  if (!r->is_evaluation) p->last.counts = before.counts, p->last.n_counts = before.n_counts;
  if (!r->is_evaluation && now_seconds() - p->written < EVERY_SECONDS) return;
  if (train_page_write(p, NULL, &err) || p->has_warned) return;
  p->has_warned = true;
  fprintf(stderr, "\nnuwa train: %s; training goes on\n", err.text);
}

void train_page_done(TrainPage *p) { log_curves_done(&p->curves); }

void train_page_command(Buffer *out, int argc, char **argv) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=,:+@%^";
  buffer_printf(out, "nuwa");
  for (int i = 0; i < argc; i++) {
    bool is_plain = *argv[i] && strspn(argv[i], plain) == strlen(argv[i]);
    buffer_printf(out, is_plain ? " " : " '");
    for (const char *p = argv[i]; *p; p++) {
      if (*p == '\'') buffer_printf(out, "'\\''");
      else buffer_append(out, p, 1);
    }
    if (!is_plain) buffer_printf(out, "'");
  }
}
