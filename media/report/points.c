/* Plots of points (plot.h).  Names are put where they hide least; colours beside the classes are what a file of its own goes
 * by, which has no style sheet of a page. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "media/report/drawing.h"

enum { TITLE = 30, /* above the plot, in a file */ PLACES = 8 };
static const double glyph = 7.4, line = 13, mark = 6;   /* about a letter's width, a line's height, half a mark */

typedef struct Box {
  double left, top, right, bottom;
} Box;

typedef struct Points {
  Drawing d;
  const PlotPoint *point[PLOT_MAX_POINTS]; /* [n] those that have a place */
  int n, gaps;
  Box taken[3 * PLOT_MAX_POINTS]; /* [n_taken] by marks, bars, names */
  int n_taken;
} Points;

static bool has_place(const PlotPoint *p) { return plot_is_drawn(NULL, p->x) && plot_is_drawn(NULL, p->y); }

static double deviation_of(const PlotPoint *p) { return plot_is_drawn(NULL, p->deviation) ? fabs(p->deviation) : 0; }

/* ---- names ---- */

static double overlap(const Box *a, const Box *b) {
  double w = fmin(a->right, b->right) - fmax(a->left, b->left), h = fmin(a->bottom, b->bottom) - fmax(a->top, b->top);
  return w > 0 && h > 0 ? w * h : 0;
}

static double width_of(const char *name) {
  double n = 0;
  for (; *name; name++) n += (*name & 0xc0) != 0x80;
  return n * glyph;
}

/* Beside, above and below the point, then at its corners; the baseline is 3 above the box's end. */
static const double across[PLACES] = {1, -1, 0, 0, 1, 1, -1, -1}, down[PLACES] = {0, 0, -1, 1, -1, 1, -1, 1};

static Box place_of(double x, double y, double width, int place) {
  double gap = down[place] != 0 ? mark - 1 : mark + 4;
  double left = across[place] > 0 ? x + gap : across[place] < 0 ? x - gap - width : x - width / 2;
  double middle = y + down[place] * (across[place] == 0 ? mark + 1 + line / 2 : mark + 1);
  return (Box){left, middle - line / 2, left + width, middle + line / 2};
}

static double cost_of(const Points *p, const Box *b) {
  const Box inside = {PLOT_LEFT + 2, PLOT_TOP - 8, PLOT_WIDTH - 2, PLOT_HEIGHT - PLOT_BOTTOM - 2};
  double area = (b->right - b->left) * (b->bottom - b->top), cost = 4 * (area - overlap(b, &inside));
  for (int i = 0; i < p->n_taken; i++) cost += overlap(b, &p->taken[i]);
  return cost;
}

static void draw_name(Points *p, const PlotPoint *o) {
  double x = plot_at_x(&p->d, o->x), y = plot_at_y(&p->d, o->y), width = width_of(o->name), least = INFINITY;
  Box best = {0};
  int at = 0;
  for (int i = 0; i < PLACES; i++) {
    Box b = place_of(x, y, width, i);
    double cost = cost_of(p, &b);
    if (cost < least - 1e-9) least = cost, best = b, at = i;
  }
  p->taken[p->n_taken++] = best;
  const char *anchor = across[at] > 0 ? "start" : across[at] < 0 ? "end" : "middle";
  double from = across[at] > 0 ? best.left : across[at] < 0 ? best.right : x;
  buffer_printf(p->d.out, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", from, best.bottom - 3,
                anchor);
  page_escape(p->d.out, o->name);
  plot_put(p->d.out, "</text>\n");
}

/* ---- marks ---- */

#define COLOUR(i, colour) colour,
static const char *const colours[] = {PAGE_SERIES(COLOUR)};

static void draw_point(Points *p, int i) {
  const PlotPoint *o = p->point[i];
  double x = plot_at_x(&p->d, o->x), y = plot_at_y(&p->d, o->y), by = deviation_of(o);
  int k = i % COUNT_OF(colours);
  buffer_printf(p->d.out, "<g style=\"--c:var(--s%d)\" stroke=\"%s\">", k, colours[k]);
  p->taken[p->n_taken++] = (Box){x - mark, y - mark, x + mark, y + mark};
  if (by > 0) {
    double top = plot_at_y(&p->d, o->y + by), bottom = plot_at_y(&p->d, o->y - by);
    buffer_printf(p->d.out, "<path class=\"l\" d=\"M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f %.1fh8\"/>", x, top, bottom, x - 4,
                  top, x - 4, bottom);
    p->taken[p->n_taken++] = (Box){x - 4, top, x + 4, bottom};
  }
  buffer_printf(p->d.out, "<g transform=\"translate(%.1f %.1f) scale(1.4)\">", x, y);
  plot_draw_mark(p->d.out, i, 0, 0);
  plot_put(p->d.out, "</g></g>\n");
}

/* ---- all ---- */

static void choose_points(Points *p, const PlotPoints *of) {
  for (int i = 0; i < of->n; i++) {
    if (!has_place(&of->point[i])) p->gaps++;
    else if (p->n < PLOT_MAX_POINTS) p->point[p->n++] = &of->point[i];
  }
}

static void set_axes(Points *p) {
  PlotSpan x = {0}, y = {0};
  for (int i = 0; i < p->n; i++) {
    const PlotPoint *o = p->point[i];
    plot_span_add(&x, o->x);
    plot_span_add(&y, o->y - deviation_of(o));
    plot_span_add(&y, o->y + deviation_of(o));
  }
  if (!p->n) x = y = (PlotSpan){0, 1, true};
  p->d.x = plot_axis(x.lo, x.hi, 5, plot_wants_log(&x), true);
  p->d.y = plot_axis(y.lo, y.hi, 5, plot_wants_log(&y), true);
}

static void note_of(const Points *p, const PlotPoints *of, char out[96]) {
  int left_out = of->n - p->n - p->gaps;
  out[0] = 0;
  if (left_out) snprintf(out, 96, "the first %d of %d", p->n, of->n - p->gaps);
  if (p->gaps)
    snprintf(out + strlen(out), 96 - strlen(out), "%s%d without a number", left_out ? "; " : "", p->gaps);
  if (!of->n) snprintf(out, 96, "no values yet");
}

/* What is within the axes; a mark over another's bar, names over all. */
static void draw(Points *p, const PlotPoints *of) {
  plot_draw_axes(&p->d, of->x_name);
  for (int i = 0; i < p->n; i++) draw_point(p, i);
  for (int i = 0; i < p->n; i++) draw_name(p, p->point[i]);
}

void plot_points(Buffer *out, const PlotPoints *of) {
  Points p = {.d = {.out = out}};
  char note[96];
  choose_points(&p, of);
  set_axes(&p);
  note_of(&p, of, note);
  plot_open_figure(out, of->title, note);
  draw(&p, of);
  plot_put(out, "</svg></figure>\n");
}

void plot_points_file(Buffer *out, const PlotPoints *of) {
  Points p = {.d = {.out = out}};
  char note[96];
  choose_points(&p, of);
  set_axes(&p);
  note_of(&p, of, note);
  buffer_printf(out,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 %d %d %d\" width=\"%d\" height=\"%d\" "
                "font-family=\"system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\" font-size=\"12\">\n"
                "<style>text{fill:" PAGE_FAINT "}.name,.title{fill:" PAGE_TEXT "}.title{font-size:13px;font-weight:600}"
                ".grid{stroke:" PAGE_LINE "}.l{fill:none;stroke-width:1.8;stroke-linecap:round}"
                ".m{fill:#fff;stroke-width:1.6}</style>\n"
                "<rect y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n<text class=\"title\" x=\"12\" y=\"-9\">",
                -TITLE, PLOT_WIDTH, PLOT_HEIGHT + TITLE, 3 * PLOT_WIDTH / 2, 3 * (PLOT_HEIGHT + TITLE) / 2, -TITLE,
                PLOT_WIDTH, PLOT_HEIGHT + TITLE);
  page_escape(out, of->title);
  plot_put(out, "</text>\n");
  if (*note) buffer_printf(out, "<text x=\"12\" y=\"%d\">%s</text>\n", PLOT_HEIGHT - 5, note);
  draw(&p, of);
  plot_put(out, "</svg>\n");
}
