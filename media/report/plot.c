/* See plot.h.  Coordinates are those of the view box; the browser scales it. */
#include "media/report/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
  WIDTH = 480, HEIGHT = 250, LEFT = 60, RIGHT = 24, TOP = 10, BOTTOM = 38,
  COLOURS = 8,
  DENSE = 400,     /* a series with more points is drawn as so many ... */
  STRETCHES = 200, /* ... stretches */
  MARKED = 40,     /* one with at most so many has a mark at each */
  BARS = 240,
};
static const double most_value = 1e300, least_log = 1e-300; /* beyond, axes would not have numbers */

typedef struct Drawing {
  Buffer *out;
  const Plot *p;
  PlotAxis x, y;
  bool any; /* value to draw */
} Drawing;

static void put(Buffer *out, const char *text) { buffer_append(out, text, strlen(text)); }

static double at_x(const Drawing *d, double x) { return LEFT + plot_place(&d->x, x) * (WIDTH - LEFT - RIGHT); }
static double at_y(const Drawing *d, double y) { return HEIGHT - BOTTOM - plot_place(&d->y, y) * (HEIGHT - TOP - BOTTOM); }

static bool is_drawn(const PlotAxis *y, double value) {
  return isfinite(value) && fabs(value) <= most_value && (!y->is_log || value >= least_log);
}

/* ---- axes ---- */

static void draw_axes(const Drawing *d, const char *x_name) {
  char label[32];
  for (int i = 0; i < d->y.n_tick; i++) {
    double y = at_y(d, d->y.tick[i]);
    plot_label(&d->y, d->y.tick[i], label, sizeof label);
    buffer_printf(d->out,
                  "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                  LEFT, y, WIDTH - RIGHT, LEFT - 7, y + 4, label);
  }
  for (int i = 0; i < d->x.n_tick; i++) {
    double x = at_x(d, d->x.tick[i]);
    plot_label(&d->x, d->x.tick[i], label, sizeof label);
    buffer_printf(
        d->out, "<path class=\"grid\" d=\"M%.1f %dv4\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
        x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 17, label);
  }
  buffer_printf(d->out, "<path class=\"grid\" d=\"M%d %dH%d\"/><text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LEFT,
                HEIGHT - BOTTOM, WIDTH - RIGHT, WIDTH - RIGHT, HEIGHT - 5);
  page_escape(d->out, x_name);
  put(d->out, "</text>\n");
}

static void open_figure(Buffer *out, const char *title, const char *note) {
  put(out, "<figure class=\"plot\"><figcaption>");
  page_escape(out, title);
  if (*note) buffer_printf(out, " <small>(%s)</small>", note);
  buffer_printf(out, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
  page_escape(out, title);
  put(out, "\">\n");
}

/* ---- one series ---- */

static const char *const dash[] = {"", " stroke-dasharray=\"7 4\"", " stroke-dasharray=\"2 4\"",
                                   " stroke-dasharray=\"9 4 2 4\""};

/* Series are told apart without colour by their mark where they have marks, and else by their dashes. */
static bool has_marks(const PlotSeries *s) { return s->n <= MARKED; }

static void draw_mark(Buffer *out, int series, double x, double y) {
  static const char *const shape[] = {"m-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z", "m-3-3h6v6h-6z",
                                      "m0-4l3.8 6.6h-7.6z", "m0-4.2l4.2 4.2l-4.2 4.2l-4.2-4.2z"};
  buffer_printf(out, "<path class=\"m\" d=\"M%.1f %.1f%s\"/>", x, y, shape[series % COUNT_OF(shape)]);
}

typedef struct Stretch {
  double x, mean, lo, hi;
  bool is_gap;
} Stretch;

/* Points [from, to) of a series as one. */
static Stretch stretch_of(const Drawing *d, const PlotSeries *s, int from, int to) {
  Stretch t = {.is_gap = true};
  int n = 0;
  for (int i = from; i < to; i++) {
    double y = s->y[i];
    if (!is_drawn(&d->y, y)) continue;
    t.lo = n && t.lo < y ? t.lo : y, t.hi = n && t.hi > y ? t.hi : y;
    n++;
    t.mean += (y - t.mean) / n;
    t.x += (s->x[i] - t.x) / n;
  }
  t.is_gap = n == 0;
  return t;
}

static int stretches_of(const PlotSeries *s) { return s->n > DENSE ? STRETCHES : s->n; }

static Stretch stretch_at(const Drawing *d, const PlotSeries *s, int i) {
  int n = stretches_of(s);
  return stretch_of(d, s, (int)((int64_t)s->n * i / n), (int)((int64_t)s->n * (i + 1) / n));
}

/* From least to largest, stretch by stretch: a part between gaps goes out along the top and back along the bottom. */
static void draw_band(const Drawing *d, const PlotSeries *s) {
  int n = stretches_of(s);
  put(d->out, "<path class=\"b\" d=\"");
  for (int from = 0, to; from < n; from = to + 1) {
    for (to = from; to < n && !stretch_at(d, s, to).is_gap; to++) {
      Stretch t = stretch_at(d, s, to);
      buffer_printf(d->out, "%c%.1f %.1f", to > from ? 'L' : 'M', at_x(d, t.x), at_y(d, t.hi));
    }
    for (int i = to - 1; i >= from; i--) {
      Stretch t = stretch_at(d, s, i);
      buffer_printf(d->out, "L%.1f %.1f", at_x(d, t.x), at_y(d, t.lo));
    }
    if (to > from) put(d->out, "z");
  }
  put(d->out, "\"/>");
}

static void draw_line(const Drawing *d, const PlotSeries *s, int series) {
  int n = stretches_of(s);
  bool is_open = false;
  buffer_printf(d->out, "<path class=\"l\"%s d=\"", has_marks(s) ? "" : dash[series % COUNT_OF(dash)]);
  for (int i = 0; i < n; i++) {
    Stretch t = stretch_at(d, s, i);
    /* A lone point is a line of no length, which round ends show. */
    if (!t.is_gap) buffer_printf(d->out, is_open ? "L%.1f %.1f" : "M%.1f %.1fh0", at_x(d, t.x), at_y(d, t.mean));
    is_open = !t.is_gap;
  }
  put(d->out, "\"/>\n");
}

static void draw_series(const Drawing *d, int series) {
  const PlotSeries *s = &d->p->series[series];
  buffer_printf(d->out, "<g style=\"--c:var(--s%d)\">", series % COLOURS);
  if (s->n > DENSE) draw_band(d, s);
  draw_line(d, s, series);
  for (int i = 0; has_marks(s) && i < s->n; i++)
    if (is_drawn(&d->y, s->y[i])) draw_mark(d->out, series, at_x(d, s->x[i]), at_y(d, s->y[i]));
  put(d->out, "</g>\n");
}

static void draw_legend(const Drawing *d, int n) {
  put(d->out, "<ul class=\"legend\">\n");
  for (int i = 0; i < n; i++) {
    const PlotSeries *s = &d->p->series[i];
    int last = s->n - 1;
    while (last >= 0 && !isfinite(s->y[last])) last--;
    buffer_printf(d->out,
                  "<li style=\"--c:var(--s%d)\"><svg viewBox=\"0 0 30 12\" aria-hidden=\"true\"><path class=\"l\"%s "
                  "d=\"M1 6H29\"/>",
                  i % COLOURS, has_marks(s) ? "" : dash[i % COUNT_OF(dash)]);
    if (has_marks(s)) draw_mark(d->out, i, 15, 6);
    put(d->out, "</svg>");
    page_escape(d->out, s->name);
    if (last >= 0) buffer_printf(d->out, " <b>%.4g</b>", s->y[last]);
    put(d->out, "</li>\n");
  }
  put(d->out, "</ul>");
}

/* ---- plots of lines ---- */

typedef struct Span {
  double lo, hi;
  bool any;
} Span;

static void span_add(Span *s, double v) {
  s->lo = s->any && s->lo < v ? s->lo : v;
  s->hi = s->any && s->hi > v ? s->hi : v;
  s->any = true;
}

static bool wants_log(const Plot *p, const Span *all) {
  return p->scale == PLOT_LOG || (p->scale == PLOT_AUTO && all->any && all->lo >= least_log && all->hi >= 30 * all->lo);
}

/* How many values are gaps. */
static int set_axes(Drawing *d, int n) {
  const PlotAxis any = {.is_log = false};
  Span x = {0}, y = {0}, all = {0};
  int gaps = 0;
  for (int i = 0; i < n; i++)
    for (int k = 0; k < d->p->series[i].n; k++)
      if (is_drawn(&any, d->p->series[i].y[k])) span_add(&all, d->p->series[i].y[k]);
  d->y.is_log = wants_log(d->p, &all);
  for (int i = 0; i < n; i++)
    for (int k = 0; k < d->p->series[i].n; k++) {
      span_add(&x, d->p->series[i].x[k]);
      if (is_drawn(&d->y, d->p->series[i].y[k])) span_add(&y, d->p->series[i].y[k]);
      else gaps++;
    }
  d->any = y.any;
  if (!y.any) y = (Span){1, 1, true};
  if (!x.any) x = (Span){0, 1, true};
  if (x.lo == x.hi) x.lo -= 1, x.hi += 1; /* steps are whole numbers */
  d->x = plot_axis(x.lo, x.hi, 5, false, false);
  d->y = plot_axis(y.lo, y.hi, 5, d->y.is_log, true);
  return gaps;
}

void plot_lines(Buffer *out, const Plot *p) {
  Drawing d = {.out = out, .p = p};
  char note[96] = "";
  int n = p->n_series < PLOT_MAX_SERIES ? p->n_series : PLOT_MAX_SERIES, gaps = set_axes(&d, n);
  if (p->n_series > n) snprintf(note, sizeof note, "the first %d of %d", n, p->n_series);
  if (gaps) snprintf(note + strlen(note), sizeof note - strlen(note), "%s%d values are not shown", *note ? "; " : "", gaps);
  if (!d.any && !*note) snprintf(note, sizeof note, "no values yet");
  open_figure(out, p->title, note);
  draw_axes(&d, p->x_name);
  for (int i = n - 1; i >= 0; i--) draw_series(&d, i);
  put(out, "</svg>\n");
  draw_legend(&d, n);
  put(out, "</figure>\n");
}

/* ---- bars ---- */

static double sum_of(const PlotBars *p, int bar, int bars) {
  double sum = 0;
  for (int64_t i = (int64_t)p->n * bar / bars; i < (int64_t)p->n * (bar + 1) / bars; i++)
    if (isfinite(p->value[i]) && p->value[i] > 0) sum += p->value[i];
  return sum < most_value ? sum : most_value;
}

void plot_bars(Buffer *out, const PlotBars *p) {
  Drawing d = {.out = out};
  int bars = p->n < BARS ? p->n : BARS;
  double most = 0;
  for (int i = 0; i < bars; i++) most = fmax(most, sum_of(p, i, bars));
  d.x = plot_axis(0, p->n > 1 ? p->n : 1, 5, false, false);
  d.y = plot_axis(0, most > 0 ? most : 1, 5, false, true);
  open_figure(out, p->title, "");
  draw_axes(&d, p->x_name);
  put(out, "<path class=\"f\" style=\"--c:var(--s0)\" d=\"");
  for (int i = 0; i < bars; i++) {
    double from = at_x(&d, (double)p->n * i / bars), to = at_x(&d, (double)p->n * (i + 1) / bars), sum = sum_of(p, i, bars);
    double gap = (to - from) * 0.12;
    if (sum > 0)
      buffer_printf(out, "M%.2f %dV%.2fH%.2fV%dz", from + gap, HEIGHT - BOTTOM, at_y(&d, sum), to - gap,
                    HEIGHT - BOTTOM);
  }
  put(out, "\"/>\n</svg></figure>\n");
}
