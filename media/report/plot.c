/* Lines and bars (plot.h), and what all plots share (drawing.h). */
#include "media/report/drawing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
  COLOURS = 8,
  DENSE = 400,     /* a series with more points is drawn as so many ... */
  STRETCHES = 200, /* ... stretches */
  MARKED = 40,     /* one with at most so many has a mark at each */
  BARS = 240,
};
static const double most_value = 1e300, least_log = 1e-300; /* beyond, axes would not have numbers */

void plot_put(Buffer *out, const char *text) { buffer_append(out, text, strlen(text)); }

double plot_at_x(const Drawing *d, double x) {
  return PLOT_LEFT + plot_place(&d->x, x) * (PLOT_WIDTH - PLOT_LEFT - PLOT_RIGHT);
}

double plot_at_y(const Drawing *d, double y) {
  return PLOT_HEIGHT - PLOT_BOTTOM - plot_place(&d->y, y) * (PLOT_HEIGHT - PLOT_TOP - PLOT_BOTTOM);
}

bool plot_is_drawn(const PlotAxis *a, double value) {
  return isfinite(value) && fabs(value) <= most_value && (!a || !a->is_log || value >= least_log);
}

/* ---- axes ---- */

void plot_draw_axes(const Drawing *d, const char *x_name) {
  char label[32];
  for (int i = 0; i < d->y.n_tick; i++) {
    double y = plot_at_y(d, d->y.tick[i]);
    plot_label(&d->y, d->y.tick[i], label, sizeof label);
    buffer_printf(d->out,
                  "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                  PLOT_LEFT, y, PLOT_WIDTH - PLOT_RIGHT, PLOT_LEFT - 7, y + 4, label);
  }
  for (int i = 0; i < d->x.n_tick; i++) {
    double x = plot_at_x(d, d->x.tick[i]);
    plot_label(&d->x, d->x.tick[i], label, sizeof label);
    buffer_printf(
        d->out, "<path class=\"grid\" d=\"M%.1f %dv4\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
        x, PLOT_HEIGHT - PLOT_BOTTOM, x, PLOT_HEIGHT - PLOT_BOTTOM + 17, label);
  }
  buffer_printf(d->out, "<path class=\"grid\" d=\"M%d %dH%d\"/><text x=\"%d\" y=\"%d\" text-anchor=\"end\">", PLOT_LEFT,
                PLOT_HEIGHT - PLOT_BOTTOM, PLOT_WIDTH - PLOT_RIGHT, PLOT_WIDTH - PLOT_RIGHT, PLOT_HEIGHT - 5);
  page_escape(d->out, x_name);
  plot_put(d->out, "</text>\n");
}

void plot_open_figure(Buffer *out, const char *title, const char *note) {
  plot_put(out, "<figure class=\"plot\"><figcaption>");
  page_escape(out, title);
  if (*note) buffer_printf(out, " <small>(%s)</small>", note);
  buffer_printf(out, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", PLOT_WIDTH, PLOT_HEIGHT);
  page_escape(out, title);
  plot_put(out, "\">\n");
}

/* ---- one series ---- */

static const char *const dash[] = {"", " stroke-dasharray=\"7 4\"", " stroke-dasharray=\"2 4\"",
                                   " stroke-dasharray=\"9 4 2 4\""};

/* Series are told apart without colour by their mark where they have marks, and else by their dashes. */
static bool has_marks(const PlotSeries *s) { return s->n <= MARKED; }

void plot_draw_mark(Buffer *out, int series, double x, double y) {
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
    if (!plot_is_drawn(&d->y, y)) continue;
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
  plot_put(d->out, "<path class=\"b\" d=\"");
  for (int from = 0, to; from < n; from = to + 1) {
    for (to = from; to < n && !stretch_at(d, s, to).is_gap; to++) {
      Stretch t = stretch_at(d, s, to);
      buffer_printf(d->out, "%c%.1f %.1f", to > from ? 'L' : 'M', plot_at_x(d, t.x), plot_at_y(d, t.hi));
    }
    for (int i = to - 1; i >= from; i--) {
      Stretch t = stretch_at(d, s, i);
      buffer_printf(d->out, "L%.1f %.1f", plot_at_x(d, t.x), plot_at_y(d, t.lo));
    }
    if (to > from) plot_put(d->out, "z");
  }
  plot_put(d->out, "\"/>");
}

static void draw_line(const Drawing *d, const PlotSeries *s, int series) {
  int n = stretches_of(s);
  bool is_open = false;
  buffer_printf(d->out, "<path class=\"l\"%s d=\"", has_marks(s) ? "" : dash[series % COUNT_OF(dash)]);
  for (int i = 0; i < n; i++) {
    Stretch t = stretch_at(d, s, i);
    /* A lone point is a line of no length, which round ends show. */
    if (!t.is_gap) buffer_printf(d->out, is_open ? "L%.1f %.1f" : "M%.1f %.1fh0", plot_at_x(d, t.x), plot_at_y(d, t.mean));
    is_open = !t.is_gap;
  }
  plot_put(d->out, "\"/>\n");
}

static void draw_series(const Drawing *d, const PlotSeries *s, int series) {
  buffer_printf(d->out, "<g style=\"--c:var(--s%d)\">", series % COLOURS);
  if (s->n > DENSE) draw_band(d, s);
  draw_line(d, s, series);
  for (int i = 0; has_marks(s) && i < s->n; i++)
    if (plot_is_drawn(&d->y, s->y[i])) plot_draw_mark(d->out, series, plot_at_x(d, s->x[i]), plot_at_y(d, s->y[i]));
  plot_put(d->out, "</g>\n");
}

static void draw_legend(Buffer *out, const Plot *p, int n) {
  plot_put(out, "<ul class=\"legend\">\n");
  for (int i = 0; i < n; i++) {
    const PlotSeries *s = &p->series[i];
    int last = s->n - 1;
    while (last >= 0 && !isfinite(s->y[last])) last--;
    buffer_printf(out,
                  "<li style=\"--c:var(--s%d)\"><svg viewBox=\"0 0 30 12\" aria-hidden=\"true\"><path class=\"l\"%s "
                  "d=\"M1 6H29\"/>",
                  i % COLOURS, has_marks(s) ? "" : dash[i % COUNT_OF(dash)]);
    if (has_marks(s)) plot_draw_mark(out, i, 15, 6);
    plot_put(out, "</svg>");
    page_escape(out, s->name);
    if (last >= 0) buffer_printf(out, " <b>%.4g</b>", s->y[last]);
    plot_put(out, "</li>\n");
  }
  plot_put(out, "</ul>");
}

/* ---- plots of lines ---- */

void plot_span_add(PlotSpan *s, double v) {
  s->lo = s->any && s->lo < v ? s->lo : v;
  s->hi = s->any && s->hi > v ? s->hi : v;
  s->any = true;
}

bool plot_wants_log(const PlotSpan *s) { return s->any && s->lo >= least_log && s->hi >= 30 * s->lo; }

/* How many values are gaps. */
static int set_axes(Drawing *d, const Plot *p, int n, bool *out_any) {
  const PlotAxis any = {.is_log = false};
  PlotSpan x = {0}, y = {0}, all = {0};
  int gaps = 0;
  for (int i = 0; i < n; i++)
    for (int k = 0; k < p->series[i].n; k++)
      if (plot_is_drawn(&any, p->series[i].y[k])) plot_span_add(&all, p->series[i].y[k]);
  d->y.is_log = p->scale == PLOT_LOG || (p->scale == PLOT_AUTO && plot_wants_log(&all));
  for (int i = 0; i < n; i++)
    for (int k = 0; k < p->series[i].n; k++) {
      plot_span_add(&x, p->series[i].x[k]);
      if (plot_is_drawn(&d->y, p->series[i].y[k])) plot_span_add(&y, p->series[i].y[k]);
      else gaps++;
    }
  *out_any = y.any;
  if (!y.any) y = (PlotSpan){1, 1, true};
  if (!x.any) x = (PlotSpan){0, 1, true};
  if (x.lo == x.hi) x.lo -= 1, x.hi += 1; /* steps are whole numbers */
  d->x = plot_axis(x.lo, x.hi, 5, false, false);
  d->y = plot_axis(y.lo, y.hi, 5, d->y.is_log, true);
  return gaps;
}

void plot_lines(Buffer *out, const Plot *p) {
  Drawing d = {.out = out};
  bool any;
  char note[96] = "";
  int n = p->n_series < PLOT_MAX_SERIES ? p->n_series : PLOT_MAX_SERIES, gaps = set_axes(&d, p, n, &any);
  if (p->n_series > n) snprintf(note, sizeof note, "the first %d of %d", n, p->n_series);
  if (gaps) snprintf(note + strlen(note), sizeof note - strlen(note), "%s%d values are not shown", *note ? "; " : "", gaps);
  if (!any && !*note) snprintf(note, sizeof note, "no values yet");
  plot_open_figure(out, p->title, note);
  plot_draw_axes(&d, p->x_name);
  for (int i = n - 1; i >= 0; i--) draw_series(&d, &p->series[i], i);
  plot_put(out, "</svg>\n");
  draw_legend(out, p, n);
  plot_put(out, "</figure>\n");
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
  plot_open_figure(out, p->title, "");
  plot_draw_axes(&d, p->x_name);
  plot_put(out, "<path class=\"f\" style=\"--c:var(--s0)\" d=\"");
  for (int i = 0; i < bars; i++) {
    double from = plot_at_x(&d, (double)p->n * i / bars), to = plot_at_x(&d, (double)p->n * (i + 1) / bars), sum = sum_of(p, i, bars);
    double gap = (to - from) * 0.12;
    if (sum > 0)
      buffer_printf(out, "M%.2f %dV%.2fH%.2fV%dz", from + gap, PLOT_HEIGHT - PLOT_BOTTOM, plot_at_y(&d, sum), to - gap,
                    PLOT_HEIGHT - PLOT_BOTTOM);
  }
  plot_put(out, "\"/>\n</svg></figure>\n");
}
