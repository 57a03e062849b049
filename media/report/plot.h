/* Plots as SVG inside a page (page.h): lines over a shared axis, bars, and points.
 *
 * Each is a <figure> with its title, ticks at 1, 2, 5 times powers of ten, and a legend below that tells every series by
 * colour and by mark or dash, with its last value.  Width follows the page.  Nothing that a number can be breaks a plot:
 * what is not finite is a gap, and the title says how many there were. */
#ifndef NUWA_REPORT_PLOT_H
#define NUWA_REPORT_PLOT_H

#include "media/report/page.h"

enum { PLOT_MAX_SERIES = 16 }; /* of one plot: more cannot be told apart, and are left out by the note below it */

typedef struct PlotSeries {
  const char *name;
  const double *x, *y; /* [n], x ascending.  Long series are drawn as means of stretches in a band from least to largest */
  int n;
} PlotSeries;

typedef enum PlotScale {
  PLOT_AUTO, /* logarithmic where all values are above 0 and the largest is 30 times the least */
  PLOT_LINEAR,
  PLOT_LOG, /* values up to 0 are gaps */
} PlotScale;

typedef struct Plot {
  const char *title, *x_name;
  const PlotSeries *series;
  int n_series;
  PlotScale scale; /* of y */
} Plot;
void plot_lines(Buffer *out, const Plot *p);

/* n values from 0 up, side by side over their numbers; where there are many, sums of neighbours. */
typedef struct PlotBars {
  const char *title, *x_name;
  const double *value; /* [n] */
  int n;
} PlotBars;
void plot_bars(Buffer *out, const PlotBars *p);

/* Points in a plane, each with its name beside it. */
typedef struct PlotPoint {
  const char *name;
  double x, y;
  double deviation; /* a bar from y - deviation to y + deviation; NAN: none */
} PlotPoint;

enum { PLOT_MAX_POINTS = 64 }; /* more are left out by the note */

typedef struct PlotPoints {
  const char *title, *x_name;
  const PlotPoint *point;
  int n;
} PlotPoints;
void plot_points(Buffer *out, const PlotPoints *p);
/* The same as an SVG file of its own, in light mode, for papers and slides. */
void plot_points_file(Buffer *out, const PlotPoints *p);

/* ---- axes ---- */

enum { PLOT_MAX_TICKS = 16 };

typedef struct PlotAxis {
  double lo, hi; /* lo < hi */
  bool is_log;
  double tick[PLOT_MAX_TICKS]; /* ascending, within */
  int n_tick;
} PlotAxis;
/* About `want` ticks over [lo, hi], finite, lo <= hi.  Widens the axis to ticks where that is asked for, and where it has
 * no width.  On a logarithmic axis lo > 0. */
PlotAxis plot_axis(double lo, double hi, int want, bool is_log, bool widens);
/* 0..1 along the axis. */
double plot_place(const PlotAxis *a, double value);
/* As short as tells neighbouring ticks apart: 0.05, 20k, 1e-6. */
void plot_label(const PlotAxis *a, double tick, char *out, size_t bytes);

#endif
