/* Glyph bitmaps scaled down to the sizes of things.  Colours are premultiplied throughout, so that averaging is
 * right at soft edges. */
#include <math.h>

#include "media/world_internal.h"

/* sum[4] += the glyph over the rectangle [x0,x1) x [y0,y1) of its own pixels, by area; nothing outside. */
static void add_area(const GlyphBitmap *g, double x0, double x1, double y0, double y1, double sum[4]) {
  int xa = (int)floor(fmax(x0, 0)), ya = (int)floor(fmax(y0, 0));
  for (int y = ya; y < g->height && y < y1; y++) {
    double h = fmin(y1, y + 1) - fmax(y0, y);
    for (int x = xa; x < g->width && x < x1; x++) {
      double area = h * (fmin(x1, x + 1) - fmax(x0, x));
      const uint8_t *p = g->rgba + ((size_t)y * (size_t)g->width + (size_t)x) * 4;
      for (int c = 0; c < 4; c++) sum[c] += area * p[c];
    }
  }
}

/* Rounded; a colour never exceeds its alpha, or compositing would overflow a byte. */
static void store_pixel(Sprite *s, int at, const double sum[4], double area) {
  int a = (int)(sum[3] / area + 0.5);
  s->alpha[at] = (uint8_t)(a > 255 ? 255 : a);
  for (int c = 0; c < 3; c++) {
    int v = (int)(sum[c] / area + 0.5);
    s->rgb[3 * at + c] = (uint8_t)(v > s->alpha[at] ? s->alpha[at] : v);
  }
}

void sprite_draw(const GlyphBitmap *g, int size, Sprite *out) {
  double scale = (double)(g->width > g->height ? g->width : g->height) / size;
  double left = (g->width - size * scale) / 2, top = (g->height - size * scale) / 2;
  for (int y = 0; y < size; y++)
    for (int x = 0; x < size; x++) {
      double sum[4] = {0};
      add_area(g, left + x * scale, left + (x + 1) * scale, top + y * scale, top + (y + 1) * scale, sum);
      store_pixel(out, y * size + x, sum, scale * scale);
    }
}

/* The farthest visible pixel from the middle decides the scale. */
static double glyph_radius(const GlyphBitmap *g) {
  double r2 = 1;
  for (int y = 0; y < g->height; y++)
    for (int x = 0; x < g->width; x++) {
      if (g->rgba[((size_t)y * (size_t)g->width + (size_t)x) * 4 + 3] < 32) continue;
      double dx = fabs(x + 0.5 - g->width / 2.0) + 0.5, dy = fabs(y + 0.5 - g->height / 2.0) + 0.5;
      r2 = fmax(r2, dx * dx + dy * dy);
    }
  return sqrt(r2);
}

void sprite_draw_turned(const GlyphBitmap *g, int size, int step, Sprite *out) {
  static const double eighth[8] = {0, 0.70710678118654752,  1,  0.70710678118654752,
                                   0, -0.70710678118654752, -1, -0.70710678118654752};
  enum { SAMPLES = 8 }; /* a side of a pixel; points, since a turned square has no simple area */
  double sine = eighth[step & 7], cosine = eighth[(step + 2) & 7], scale = 2 * glyph_radius(g) / size;
  for (int at = 0; at < size * size; at++) {
    double sum[4] = {0};
    for (int k = 0; k < SAMPLES * SAMPLES; k++) {
      double x = (at % size + (k % SAMPLES + 0.5) / SAMPLES - size / 2.0) * scale;
      double y = (at / size + (double)(2 * (k / SAMPLES) + 1) / (2 * SAMPLES) - size / 2.0) * scale;
      int gx = (int)floor(x * cosine + y * sine + g->width / 2.0);
      int gy = (int)floor(y * cosine - x * sine + g->height / 2.0);
      if (gx < 0 || gy < 0 || gx >= g->width || gy >= g->height) continue;
      const uint8_t *p = g->rgba + ((size_t)gy * (size_t)g->width + (size_t)gx) * 4;
      for (int c = 0; c < 4; c++) sum[c] += p[c];
    }
    store_pixel(out, at, sum, SAMPLES * SAMPLES);
  }
}
