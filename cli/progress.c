/* See progress.h. */
#include "cli/progress.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "runtime/base/names.h"

static double metric_of(const TrainReport *r, const char *name) {
  for (int i = 0; i < r->n_metric; i++)
    if (strcmp(r->metric[i].name, name) == 0) return r->metric[i].value;
  return 0.0;
}

/* "loss", or the loss of an entry: "generator.loss". */
static bool is_loss(const char *metric) {
  const char *dot = strrchr(metric, '.');
  return strcmp(dot ? dot + 1 : metric, PORT_LOSS) == 0;
}

static void print_left(double left) {
  long long s = (long long)(left + 0.5);
  if (s >= 3600)
    fprintf(stderr, "%lldh%02lldm left", s / 3600, s / 60 % 60);
  else if (s >= 60)
    fprintf(stderr, "%lldm%02llds left", s / 60, s % 60);
  else
    fprintf(stderr, "%llds left", s);
}

static void print_bar(const TrainReport *r) {
  enum { WIDTH = 24 };
  int full = (int)(WIDTH * r->step / r->steps);
  fprintf(stderr, "\r[%.*s%.*s] ", full, "########################", WIDTH - full, "                        ");
}

static void show_step(const TrainProgress *p, const TrainReport *r) {
  if (p->is_terminal) print_bar(r);
  fprintf(stderr, "step %lld/%lld  ", (long long)r->step, (long long)r->steps);
  for (int i = 0; i < r->n_metric; i++) {
    if (!is_loss(r->metric[i].name)) continue;
    cli_show(stderr, r->metric[i].name);
    fprintf(stderr, " %.5f  ", r->metric[i].value);
  }
  fprintf(stderr, "%.1f samples/s  ", r->samples_per_s);
  print_left(r->seconds_left);
  fprintf(stderr, p->is_terminal ? "   " : "\n");
}

static void show_evaluation(TrainProgress *p, const TrainReport *r) {
  p->held_loss = metric_of(r, METRIC_HELD_OUT PORT_LOSS);
  fprintf(stderr, "%sstep %lld ", p->is_terminal ? "\n" : "", (long long)r->step);
  for (int i = 0; i < r->n_metric; i++) {
    fputc(' ', stderr);
    cli_show(stderr, r->metric[i].name);
    fprintf(stderr, " %.5f", r->metric[i].value);
  }
  fputc('\n', stderr);
}

TrainProgress progress_begin(void) { return (TrainProgress){.is_terminal = isatty(STDERR_FILENO)}; }

/* A line a step would drown everything: one a tenth of a second on a terminal, one every ten seconds elsewhere. */
void progress_show(void *ctx, const TrainReport *r) {
  TrainProgress *p = ctx;
  if (r->is_evaluation) {
    show_evaluation(p, r);
    return;
  }
  p->steps = r->step;
  for (int i = r->n_metric - 1; i >= 0; i--)
    if (is_loss(r->metric[i].name)) p->loss = r->metric[i].value;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  double at = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
  if (r->step > 1 && r->step < r->steps && at - p->last_shown < (p->is_terminal ? 0.1 : 10.0)) return;
  p->last_shown = at;
  show_step(p, r);
}

void progress_end(const TrainProgress *p) {
  if (p->is_terminal) fputc('\n', stderr);
}
