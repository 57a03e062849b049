/* Axes of plots: which ticks, and what they are called. */
#include "media/report/plot.h"

#include <math.h>
#include <stdio.h>

static const double mantissa[] = {1, 2, 5};

/* The least of 1, 2, 5 times a power of ten that is not below x > 0. */
static double round_up(double x) {
  double power = pow(10, floor(log10(x)));
  for (int i = 0; i < 3; i++)
    if (mantissa[i] * power >= x * (1 - 1e-9)) return mantissa[i] * power;
  return 10 * power;
}

static void add_tick(PlotAxis *a, double at) {
  if (a->n_tick < PLOT_MAX_TICKS) a->tick[a->n_tick++] = at;
}

static PlotAxis linear_axis(double lo, double hi, int want, bool widens) {
  if (!(hi - lo > fmax(fabs(lo), fabs(hi)) * 1e-12)) {
    double by = fmax(fabs(lo) * 0.1, 1e-6);
    if (lo == 0) by = 1;
    lo -= by, hi += by;
  }
  double step = round_up((hi - lo) / want);
  PlotAxis a = {.lo = lo, .hi = hi};
  if (widens) a.lo = floor(lo / step + 1e-9) * step, a.hi = ceil(hi / step - 1e-9) * step;
  for (double k = ceil(a.lo / step - 1e-9); k * step <= a.hi + step * 1e-9 && a.n_tick < PLOT_MAX_TICKS; k++)
    add_tick(&a, k * step);
  return a;
}

/* Powers of ten, every second or third one where there are many; their double and fivefold too where there are few. */
static PlotAxis log_axis(double lo, double hi, int want) {
  PlotAxis a = {.is_log = true};
  int first = (int)floor(log10(lo)), last = (int)ceil(log10(hi)), per = last - first <= 3 ? 3 : 1;
  int stride = (last - first + want - 1) / want;
  if (stride < 1) stride = 1;
  a.lo = pow(10, first), a.hi = pow(10, first == last ? first + 1 : last);
  for (int k = 0; per == 3 && k < 3; k++) {
    double below = mantissa[k] * pow(10, first), above = mantissa[2 - k] * pow(10, last - 1);
    if (below <= lo) a.lo = below;
    if (above >= hi && above > a.lo) a.hi = above;
  }
  for (int e = first; e <= last; e += per == 3 ? 1 : stride)
    for (int k = 0; k < per; k++) {
      double at = mantissa[k] * pow(10, e);
      if (at >= a.lo * (1 - 1e-9) && at <= a.hi * (1 + 1e-9)) add_tick(&a, at);
    }
  return a;
}

PlotAxis plot_axis(double lo, double hi, int want, bool is_log, bool widens) {
  return is_log ? log_axis(lo, hi, want) : linear_axis(lo, hi, want, widens);
}

double plot_place(const PlotAxis *a, double value) {
  return a->is_log ? log(value / a->lo) / log(a->hi / a->lo) : (value - a->lo) / (a->hi - a->lo);
}

void plot_label(const PlotAxis *a, double tick, char *out, size_t bytes) {
  double step = a->n_tick > 1 ? a->tick[1] - a->tick[0] : fabs(tick), most = fmax(fabs(a->lo), fabs(a->hi));
  if (a->is_log) step = tick, most = tick;
  if (tick == 0) snprintf(out, bytes, "0");
  else if (step >= 1 && most >= 1e4 && most < 1e9) {
    bool is_million = most >= 1e6;
    snprintf(out, bytes, "%g%c", tick / (is_million ? 1e6 : 1e3), is_million ? 'M' : 'k');
  } else if (step >= 1e-4 && most < 1e9) {
    int digits = (int)-floor(log10(step) + 1e-9);
    snprintf(out, bytes, "%.*f", digits > 0 ? digits : 0, tick);
  } else
    snprintf(out, bytes, "%.3g", tick);
}
