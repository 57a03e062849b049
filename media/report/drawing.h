/* What plots share (plot.h): the view box, which the browser scales, axes, figures, marks. */
#ifndef NUWA_REPORT_DRAWING_H
#define NUWA_REPORT_DRAWING_H

#include "media/report/plot.h"

enum { PLOT_WIDTH = 480, PLOT_HEIGHT = 250, PLOT_LEFT = 60, PLOT_RIGHT = 24, PLOT_TOP = 10, PLOT_BOTTOM = 38 };

typedef struct Drawing {
  Buffer *out;
  PlotAxis x, y;
} Drawing;

void plot_put(Buffer *out, const char *text);
double plot_at_x(const Drawing *d, double x);
double plot_at_y(const Drawing *d, double y);
/* Whether the axis, NULL: a linear one, has a place for a value. */
bool plot_is_drawn(const PlotAxis *a, double value);
void plot_draw_axes(const Drawing *d, const char *x_name);
/* Up to the drawing, whose end is "</svg></figure>".  note: behind the title, or "". */
void plot_open_figure(Buffer *out, const char *title, const char *note);
/* The mark of a series or point. */
void plot_draw_mark(Buffer *out, int series, double x, double y);

/* From the least to the largest of values. */
typedef struct PlotSpan {
  double lo, hi;
  bool any;
} PlotSpan;
void plot_span_add(PlotSpan *s, double v);
/* Whether PLOT_AUTO is logarithmic. */
bool plot_wants_log(const PlotSpan *s);

#endif
