/* See progress.h. */
#include "cli/progress.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/names.h"

bool progress_is_loss(const char *metric) {
  const char *dot = strrchr(metric, '.');
  return strcmp(dot ? dot + 1 : metric, PORT_LOSS) == 0;
}

void progress_left(double seconds, char *out, size_t bytes) {
  long long s = seconds >= 0 && seconds < 1e15 ? (long long)(seconds + 0.5) : 0;
  if (s >= 86400) snprintf(out, bytes, "%lldd%02lldh", s / 86400, s / 3600 % 24);
  else if (s >= 3600) snprintf(out, bytes, "%lldh%02lldm", s / 3600, s / 60 % 60);
  else if (s >= 60) snprintf(out, bytes, "%lldm%02llds", s / 60, s % 60);
  else snprintf(out, bytes, "%llds", s);
}

int64_t progress_runs(const TrainEntry *e, int64_t step) {
  int64_t to = step < e->to ? step : e->to;
  return to < e->from ? 0 : (to - e->from) / e->every + 1;
}

/* ---- a line in parts ---- */

enum { BAR = 24, MAX_PARTS = 32, PART_BYTES = 160 };

typedef struct LinePart {
  char text[PART_BYTES];
  int rank;   /* the largest ones are left out first */
} LinePart;

typedef struct Line {
  LinePart part[MAX_PARTS];
  int n;
} Line;

enum { RANK_STEP, RANK_LEFT, RANK_LOSS, RANK_MORE_LOSSES, RANK_RATE, RANK_BAR, RANK_METRICS };

static LinePart *add_part(Line *l, int rank) {
  if (l->n == MAX_PARTS) return NULL;
  l->part[l->n].rank = rank;
  return &l->part[l->n++];
}

/* Names are a model's: what would move the cursor is not passed on. */
static void add_metric(Line *l, const Metric *m, int rank) {
  LinePart *p = add_part(l, rank);
  if (!p) return;
  snprintf(p->text, sizeof p->text, "%.100s %.5g", m->name, m->value);
  for (char *c = p->text; *c; c++)
    if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
}

static void add_text(Line *l, int rank, const char *fmt, const char *text) {
  LinePart *p = add_part(l, rank);
  if (p) snprintf(p->text, sizeof p->text, "%s%s", text, fmt);
}

static void add_bar(Line *l, const TrainReport *r) {
  LinePart *p = add_part(l, RANK_BAR);
  int full = (int)(BAR * r->step / (r->steps ? r->steps : 1));
  if (p)
    snprintf(p->text, sizeof p->text, "[%.*s%.*s]", full, "########################", BAR - full,
             "                        ");
}

static void list_parts(Line *l, const TrainReport *r) {
  char text[64];
  int losses = 0, others = 0;
  add_bar(l, r);
  snprintf(text, sizeof text, "step %" PRId64 "/%" PRId64, r->step, r->steps);
  add_text(l, RANK_STEP, "", text);
  for (int i = 0; i < r->n_metric; i++)
    if (progress_is_loss(r->metric[i].name)) add_metric(l, &r->metric[i], losses++ ? RANK_MORE_LOSSES : RANK_LOSS);
  for (int i = 0; i < r->n_metric; i++)
    if (!progress_is_loss(r->metric[i].name)) add_metric(l, &r->metric[i], RANK_METRICS + others++);
  snprintf(text, sizeof text, "%.1f", r->samples_per_s);
  add_text(l, RANK_RATE, " samples/s", text);
  progress_left(r->seconds_left, text, sizeof text);
  add_text(l, RANK_LEFT, " left", text);
}

static int width_of(const Line *l) {
  int width = 0;
  for (int i = 0; i < l->n; i++) width += (int)strlen(l->part[i].text) + (width ? 2 : 0);
  return width;
}

static void drop_least(Line *l) {
  int worst = 0;
  for (int i = 1; i < l->n; i++)
    if (l->part[i].rank >= l->part[worst].rank) worst = i;
  memmove(&l->part[worst], &l->part[worst + 1], (size_t)(l->n - worst - 1) * sizeof *l->part);
  l->n--;
}

void progress_line(const TrainReport *r, int columns, Buffer *out) {
  Line l = {.n = 0};
  list_parts(&l, r);
  while (l.n > 1 && width_of(&l) > columns) drop_least(&l);
  for (int i = 0; i < l.n; i++) buffer_printf(out, "%s%.*s", i ? "  " : "", columns, l.part[i].text);
}

/* ---- on stderr ---- */

static int columns(void) {
  struct winsize size;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 79;
}

/* Over the line that stands there; the cursor stays behind it. */
static void draw(TrainProgress *p, const char *text) {
  int len = (int)strlen(text);
  fprintf(stderr, "\r%s%*s", text, p->drawn > len ? p->drawn - len : 0, "");
  if (p->drawn > len) fprintf(stderr, "\r%s", text);
  fflush(stderr);
  p->drawn = len;
}

static void show_step(TrainProgress *p, const TrainReport *r) {
  Buffer line = {0};
  Line parts = {.n = 0};
  if (p->is_terminal) progress_line(r, columns(), &line);
  else {   /* what a file is read for: the losses */
    list_parts(&parts, r);
    for (int i = 0; i < parts.n; i++)
      if (parts.part[i].rank < RANK_BAR) buffer_printf(&line, "%s%s", line.len ? "  " : "", parts.part[i].text);
  }
  if (p->is_terminal) draw(p, line.data ? line.data : "");
  else fprintf(stderr, "%s\n", line.data ? line.data : "");
  buffer_done(&line);
}

static void show_evaluation(TrainProgress *p, const TrainReport *r) {
  if (!r->n_metric) return; /* it only showed */
  if (p->is_terminal) draw(p, "");
  fprintf(stderr, p->is_terminal ? "\rstep %" PRId64 " " : "step %" PRId64 " ", r->step);
  for (int i = 0; i < r->n_metric; i++) {
    Line l = {.n = 0};
    add_metric(&l, &r->metric[i], 0);
    fprintf(stderr, " %s", l.part[0].text);
  }
  fputc('\n', stderr);
}

TrainProgress progress_begin(void) { return (TrainProgress){.is_terminal = isatty(STDERR_FILENO), .loss = NAN}; }

/* A line a step would drown everything: one a tenth of a second on a terminal, one every ten seconds elsewhere. */
void progress_show(void *ctx, const TrainReport *r) {
  TrainProgress *p = ctx;
  if (r->is_evaluation) {
    show_evaluation(p, r);
    return;
  }
  for (int i = r->n_metric - 1; i >= 0; i--)
    if (progress_is_loss(r->metric[i].name)) p->loss = r->metric[i].value;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  double at = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
  if (r->step > 1 && r->step < r->steps && at - p->last_shown < (p->is_terminal ? 0.1 : 10.0)) return;
  p->last_shown = at;
  show_step(p, r);
}

void progress_end(TrainProgress *p) {
  if (p->is_terminal && p->drawn) fputc('\n', stderr);
  p->drawn = 0;
}
