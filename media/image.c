/* Pictures in memory: sizes, floats, contact sheets.  Files are image_file.c's. */
#include "media/image_internal.h"

#include <math.h>
#include <string.h>

bool image_init(Image *im, int width, int height, Error *err) {
  *im = (Image){0};
  if (width < 1 || height < 1 || width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE ||
      (int64_t)width * height > IMAGE_MAX_PIXELS)
    return error_set(err, ERROR_LIMIT, "a picture of %d x %d; the limits are 1 to %d pixels a side, %d in all", width,
                     height, IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS);
  uint8_t *rgb = mem_alloc((size_t)width * (size_t)height * 3);
  if (!rgb) return error_set(err, ERROR_MEMORY, "a picture of %d x %d: out of memory", width, height);
  *im = (Image){width, height, rgb};
  return true;
}

void image_done(Image *im) {
  mem_free(im->rgb);
  *im = (Image){0};
}

/* One axis of a resize: output i reads weight[0..count) of the inputs from `first` on. */
typedef struct Tap {
  int first, count;
  float *weight;
} Tap;

/* Shrinking: the share of each input pixel inside [i, i+1) * from/to.  Growing: the two nearest pixel centres. */
static void fill_tap(Tap *t, int i, int from, int to) {
  if (from > to) {
    double scale = (double)from / to, lo = i * scale, hi = (i + 1) * scale;
    t->first = (int)lo;
    t->count = 0;
    for (int x = t->first; x < from && x < hi; x++)
      t->weight[t->count++] = (float)((fmin(hi, x + 1) - fmax(lo, x)) / scale);
    return;
  }
  double at = (i + 0.5) * from / to - 0.5;
  int x = (int)floor(at);
  float part = (float)(at - x);
  if (x < 0) x = 0, part = 0;
  if (x >= from - 1) x = from - 1, part = 0;
  t->first = x;
  t->count = part > 0 ? 2 : 1;
  t->weight[0] = 1 - part;
  t->weight[1] = part;
}

/* The taps and all their weights in one block. */
static Tap *taps_new(int from, int to) {
  size_t per = from > to ? (size_t)(from / to) + 3 : 2;
  Tap *taps = mem_alloc((size_t)to * (sizeof(Tap) + per * sizeof(float)));
  if (!taps) return NULL;
  float *weights = (float *)(taps + to);
  for (int i = 0; i < to; i++) {
    taps[i].weight = weights + per * (size_t)i;
    fill_tap(&taps[i], i, from, to);
  }
  return taps;
}

static void resize_row(const uint8_t *row, const Tap *across, int width, float weight, float *sum) {
  for (int x = 0; x < width; x++) {
    const uint8_t *p = row + 3 * (size_t)across[x].first;
    for (int k = 0; k < across[x].count; k++, p += 3) {
      float w = weight * across[x].weight[k];
      for (int c = 0; c < 3; c++) sum[3 * x + c] += w * p[c];
    }
  }
}

static void resize_into(const Image *im, const Tap *across, const Tap *down, float *sum, Image *out) {
  size_t values = 3 * (size_t)out->width;
  for (int y = 0; y < out->height; y++) {
    memset(sum, 0, values * sizeof *sum);
    for (int k = 0; k < down[y].count; k++) {
      size_t row = (size_t)(down[y].first + k) * 3 * (size_t)im->width;
      resize_row(im->rgb + row, across, out->width, down[y].weight[k], sum);
    }
    uint8_t *q = out->rgb + (size_t)y * values;
    for (size_t i = 0; i < values; i++) q[i] = (uint8_t)(fminf(sum[i], 255) + 0.5f);
  }
}

bool image_resize(const Image *im, int width, int height, Image *out, Error *err) {
  Image made;
  if (!image_init(&made, width, height, err)) return false;
  Tap *across = taps_new(im->width, width), *down = taps_new(im->height, height);
  float *sum = mem_alloc(3 * (size_t)width * sizeof *sum);
  bool ok = across && down && sum;
  if (ok)
    resize_into(im, across, down, sum, &made);
  else
    error_set(err, ERROR_MEMORY, "resizing a picture to %d x %d: out of memory", width, height);
  mem_free(across);
  mem_free(down);
  mem_free(sum);
  if (ok)
    *out = made;
  else
    image_done(&made);
  return ok;
}

bool image_crop(const Image *im, int x, int y, int width, int height, Image *out, Error *err) {
  if (x < 0 || y < 0 || width < 1 || height < 1 || width > im->width - x || height > im->height - y)
    return error_set(err, ERROR_ARGUMENT, "a part of %d x %d at (%d, %d) is not inside a picture of %d x %d", width,
                     height, x, y, im->width, im->height);
  Image made;
  if (!image_init(&made, width, height, err)) return false;
  size_t bytes = 3 * (size_t)width;
  for (int i = 0; i < height; i++)
    memcpy(made.rgb + (size_t)i * bytes, im->rgb + ((size_t)(y + i) * (size_t)im->width + (size_t)x) * 3, bytes);
  *out = made;
  return true;
}

void image_fit_part(int from_width, int from_height, int width, int height, int *out_width, int *out_height) {
  int64_t w = from_width, h = from_height;
  if (w * height > h * width)
    w = h * width / height;
  else
    h = w * height / width;
  *out_width = w < 1 ? 1 : (int)w;
  *out_height = h < 1 ? 1 : (int)h;
}

void image_fit_labels(const uint16_t *labels, int width, int height, int to_width, int to_height, int32_t *out) {
  int part_w, part_h;
  image_fit_part(width, height, to_width, to_height, &part_w, &part_h);
  int x0 = (width - part_w) / 2, y0 = (height - part_h) / 2;
  for (int y = 0; y < to_height; y++) {
    const uint16_t *row = labels + (size_t)(y0 + (int)((2 * (int64_t)y + 1) * part_h / (2 * to_height))) * (size_t)width;
    for (int x = 0; x < to_width; x++) *out++ = row[x0 + (int)((2 * (int64_t)x + 1) * part_w / (2 * to_width))];
  }
}

bool image_fit(const Image *im, int width, int height, Image *out, Error *err) {
  if (width < 1 || height < 1)
    return error_set(err, ERROR_ARGUMENT, "cannot fit a picture into %d x %d", width, height);
  int w, h;
  image_fit_part(im->width, im->height, width, height, &w, &h);
  Image part;
  if (!image_crop(im, (im->width - w) / 2, (im->height - h) / 2, w, h, &part, err)) return false;
  bool ok = image_resize(&part, width, height, out, err);
  image_done(&part);
  return ok;
}

bool image_turn(Image *im, int orientation, Error *err) {
  bool swaps = orientation >= 5, mirrors_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7,
       mirrors_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  int width = swaps ? im->height : im->width, height = swaps ? im->width : im->height;
  Image shown;
  if (orientation == 1) return true;
  if (!image_init(&shown, width, height, err)) return false;
  for (int y = 0; y < im->height; y++)
    for (int x = 0; x < im->width; x++) {
      int sx = swaps ? y : x, sy = swaps ? x : y;
      if (mirrors_x) sx = width - 1 - sx;
      if (mirrors_y) sy = height - 1 - sy;
      memcpy(shown.rgb + ((size_t)sy * (size_t)width + (size_t)sx) * 3,
             im->rgb + ((size_t)y * (size_t)im->width + (size_t)x) * 3, 3);
    }
  image_done(im);
  *im = shown;
  return true;
}

bool image_from_rgba(const uint8_t *rgba, size_t stride, int width, int height, Image *out, Error *err) {
  Image im;
  if (!image_init(&im, width, height, err)) return false;
  uint8_t *rgb = im.rgb;
  for (int y = 0; y < height; y++) {
    const uint8_t *p = rgba + (size_t)y * stride;
    for (int x = 0; x < width; x++, p += 4)
      for (int c = 0; c < 3; c++) *rgb++ = (uint8_t)((p[c] * p[3] + 255 * (255 - p[3]) + 127) / 255);
  }
  *out = im;
  return true;
}

void image_to_floats(const uint8_t *rgb, size_t values, float *out) {
  for (size_t i = 0; i < values; i++) out[i] = (float)rgb[i] * (2.0f / 255.0f) - 1.0f;
}

void image_from_floats(const float *values, size_t n, uint8_t *out) {
  for (size_t i = 0; i < n; i++) {
    float v = values[i] * 127.5f + 127.5f;
    out[i] = v > 0 ? (uint8_t)(v < 255 ? v + 0.5f : 255) : 0; /* NaN fails the first test */
  }
}

uint8_t image_grey(const uint8_t rgb[3]) { return (uint8_t)((77 * rgb[0] + 150 * rgb[1] + 29 * rgb[2] + 128) >> 8); }

void image_to_channels(const uint8_t *rgb, size_t pixels, int64_t channels, float *out) {
  if (channels == 3) return image_to_floats(rgb, 3 * pixels, out);
  for (size_t i = 0; i < pixels; i++) {
    uint8_t grey = image_grey(rgb + 3 * i);
    image_to_floats(&grey, 1, out + i);
  }
}

void image_from_channels(const float *values, size_t pixels, int64_t channels, uint8_t *rgb) {
  if (channels == 3) return image_from_floats(values, 3 * pixels, rgb);
  for (size_t i = 0; i < pixels; i++) {
    image_from_floats(values + i, 1, rgb + 3 * i);
    rgb[3 * i + 1] = rgb[3 * i + 2] = rgb[3 * i];
  }
}

static void sheet_place(const uint8_t *rgb, int width, int height, int zoom, int x0, int y0, Image *sheet) {
  for (int y = 0; y < height * zoom; y++) {
    uint8_t *q = sheet->rgb + ((size_t)(y0 + y) * (size_t)sheet->width + (size_t)x0) * 3;
    const uint8_t *row = rgb + (size_t)(y / zoom) * 3 * (size_t)width;
    for (int x = 0; x < width * zoom; x++, q += 3) memcpy(q, row + 3 * (size_t)(x / zoom), 3);
  }
}

bool image_sheet(const uint8_t *rgb, int n, int width, int height, int columns, int gap, int zoom, Image *out,
                 Error *err) {
  if (n < 1 || columns < 1 || gap < 0 || gap > 1000 || zoom < 1 || zoom > 64 || width < 1 || height < 1 ||
      width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE)
    return error_set(err, ERROR_ARGUMENT, "a sheet of %d pictures, %d columns, gap %d, zoom %d", n, columns, gap,
                     zoom);
  if (columns > n) columns = n;
  int rows = (n - 1) / columns + 1;
  int64_t cell_w = (int64_t)width * zoom + gap, cell_h = (int64_t)height * zoom + gap;
  int64_t w = cell_w * columns + gap, h = cell_h * rows + gap;
  if (w > IMAGE_MAX_SIDE || h > IMAGE_MAX_SIDE)
    return error_set(err, ERROR_LIMIT,
                     "a sheet of %lld x %lld pixels; at most %d a side: fewer pictures, or a smaller zoom",
                     (long long)w, (long long)h, IMAGE_MAX_SIDE);
  Image sheet;
  if (!image_init(&sheet, (int)w, (int)h, err)) return false;
  memset(sheet.rgb, 128, 3 * (size_t)w * (size_t)h);
  for (int i = 0; i < n; i++)
    sheet_place(rgb + (size_t)i * 3 * (size_t)width * (size_t)height, width, height, zoom,
                gap + (int)cell_w * (i % columns), gap + (int)cell_h * (i / columns), &sheet);
  *out = sheet;
  return true;
}

double image_box_error(const uint8_t *a, const uint8_t *b, int width, int x, int y, int w, int h) {
  double sum = 0;
  for (int row = y; row < y + h; row++) {
    size_t at = 3 * ((size_t)row * (size_t)width + (size_t)x);
    for (size_t i = at; i < at + 3 * (size_t)w; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
  }
  return sum;
}

double image_psnr_of(double sum, size_t n) {
  return sum > 0 ? 10 * log10(255.0 * 255.0 * (double)n / sum) : INFINITY;
}

double image_psnr(const uint8_t *a, const uint8_t *b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
  return image_psnr_of(sum, n);
}
