/* PNG files to pictures, as viewers show them.
 *
 * Samples are sRGB at any depth: where the file says so (sRGB), where it says nothing, and where it has a colour
 * profile (iCCP; profiles are left to others, and most are sRGB).  A gAMA chunk alone is obeyed, unless it names what
 * is sRGB but for rounding.  Transparent pixels are laid on white, mixed as they are encoded, not in linear light; the
 * background that a file suggests (bKGD) is nobody's.  Every pixel is computed from the samples at their full depth
 * and rounded once. */
#include <math.h>
#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "media/image_internal.h"
#include "runtime/base/file.h"

typedef struct PngState {
  png_structp png;
  png_infop info;
  const uint8_t *at, *end;
  jmp_buf failed;
  char message[200];
  uint8_t *rows;   /* one row, or all of an interlaced picture; samples of 8 or 16 bits, 3 or 4 a pixel */
  uint16_t *gamma; /* sample -> sRGB sample of the same depth; NULL: as it is */
  int depth, channels;
  Image im;
  bool wants_labels;
  uint16_t *labels; /* [height, width]: samples as they are, where those are wanted instead of a picture */
} PngState;

static void png_fail(png_structp png, png_const_charp message) {
  PngState *s = png_get_error_ptr(png);
  snprintf(s->message, sizeof s->message, "%s", message);
  longjmp(s->failed, 1);
}

/* A damaged ancillary chunk costs no pixel. */
static void png_ignore(png_structp png, png_const_charp message) {}

static void png_take(png_structp png, png_bytep to, size_t n) {
  PngState *s = png_get_io_ptr(png);
  if ((size_t)(s->end - s->at) < n) png_error(png, "it ends too early");
  memcpy(to, s->at, n);
  s->at += n;
}

static double srgb_encode(double light) {
  return light <= 0.0031308 ? 12.92 * light : 1.055 * pow(light, 1.0 / 2.4) - 0.055;
}

/* The exponent of a gAMA chunk that stands alone and differs from that of sRGB, or 0. */
static double foreign_gamma(const PngState *s) {
  double gamma;
  if (png_get_valid(s->png, s->info, PNG_INFO_sRGB) || png_get_valid(s->png, s->info, PNG_INFO_iCCP)) return 0.0;
  if (!png_get_gAMA(s->png, s->info, &gamma) || fabs(gamma * 2.2 - 1.0) < 0.05) return 0.0;
  return gamma;
}

static bool make_gamma(PngState *s) {
  double gamma = foreign_gamma(s), top = s->depth == 16 ? 65535.0 : 255.0;
  if (gamma <= 0.0) return true;
  size_t n = (size_t)top + 1;
  if (!(s->gamma = mem_alloc(n * sizeof *s->gamma))) return false;
  for (size_t i = 0; i < n; i++)
    s->gamma[i] = (uint16_t)(srgb_encode(pow((double)i / top, 1.0 / gamma)) * top + 0.5);
  return true;
}

/* Samples to 8 bits, on white. */
static void convert_row(const PngState *s, const uint8_t *row, uint8_t *rgb) {
  uint64_t top = s->depth == 16 ? 65535 : 255, half = top * (top / 255) / 2;
  for (int x = 0; x < s->im.width; x++) {
    uint32_t sample[4];
    for (int c = 0; c < s->channels; c++, row += s->depth / 8)
      sample[c] = s->depth == 16 ? (uint32_t)row[0] << 8 | row[1] : row[0];
    uint64_t alpha = s->channels == 4 ? sample[3] : top;
    for (int c = 0; c < 3; c++) {
      uint64_t v = s->gamma ? s->gamma[sample[c]] : sample[c];
      *rgb++ = (uint8_t)((v * alpha + top * (top - alpha) + half) / (top * (top / 255)));
    }
  }
}

/* Asks for RGB or RGBA of 8 or 16 bits. */
static int set_transforms(PngState *s) {
  png_set_expand(s->png); /* palettes, grey of fewer bits, tRNS to alpha at full depth */
  png_set_gray_to_rgb(s->png);
  int passes = png_set_interlace_handling(s->png);
  png_read_update_info(s->png, s->info);
  s->depth = png_get_bit_depth(s->png, s->info);
  s->channels = png_get_channels(s->png, s->info);
  return passes;
}

static bool read_pixels(PngState *s, const char *where, Error *err) {
  int passes = set_transforms(s);
  size_t row_bytes = png_get_rowbytes(s->png, s->info), n = passes > 1 ? (size_t)s->im.height : 1;
  s->rows = mem_alloc(row_bytes * n);
  if (!s->rows || !make_gamma(s)) return error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  for (int pass = 0; pass < passes; pass++)
    for (int y = 0; y < s->im.height; y++) {
      uint8_t *row = s->rows + (passes > 1 ? row_bytes * (size_t)y : 0);
      png_read_row(s->png, row, NULL);
      if (pass == passes - 1) convert_row(s, row, s->im.rgb + (size_t)y * 3 * (size_t)s->im.width);
    }
  png_read_end(s->png, NULL);
  return true;
}

/* Samples as they are stored, which palettes and grey have one of a pixel. */
static bool read_labels(PngState *s, size_t width, size_t height, const char *where, Error *err) {
  int type = png_get_color_type(s->png, s->info);
  if (type != PNG_COLOR_TYPE_GRAY && type != PNG_COLOR_TYPE_PALETTE)
    return error_set(err, ERROR_FORMAT,
                     "%s: a map of labels is grey or has a palette, one number a pixel; this has colours", where);
  png_set_packing(s->png);
  int passes = png_set_interlace_handling(s->png);
  png_read_update_info(s->png, s->info);
  size_t bytes = png_get_bit_depth(s->png, s->info) == 16 ? 2 : 1, row_bytes = png_get_rowbytes(s->png, s->info);
  s->rows = mem_alloc(row_bytes * height);
  s->labels = mem_alloc(width * height * sizeof *s->labels);
  if (!s->rows || !s->labels) return error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  for (int pass = 0; pass < passes; pass++)
    for (size_t y = 0; y < height; y++) png_read_row(s->png, s->rows + row_bytes * y, NULL);
  png_read_end(s->png, NULL);
  for (size_t y = 0; y < height; y++)
    for (size_t x = 0; x < width; x++) {
      const uint8_t *p = s->rows + row_bytes * y + bytes * x;
      s->labels[y * width + x] = (uint16_t)(bytes == 2 ? p[0] << 8 | p[1] : p[0]);
    }
  return true;
}

static bool png_run(PngState *s, const char *where, Error *err) {
  if (setjmp(s->failed)) return error_set(err, ERROR_FORMAT, "%s: damaged PNG: %s", where, s->message);
  s->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, s, png_fail, png_ignore);
  s->info = s->png ? png_create_info_struct(s->png) : NULL;
  if (!s->info) return error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  png_set_read_fn(s->png, s, png_take);
  png_set_benign_errors(s->png, 1);
  png_set_user_limits(s->png, 0x7fffffff, 0x7fffffff); /* the size is checked below, with a message of ours */
  png_read_info(s->png, s->info);
  uint32_t width = png_get_image_width(s->png, s->info), height = png_get_image_height(s->png, s->info);
  if (!image_check_size(where, width, height, err)) return false;
  s->im = (Image){(int)width, (int)height, NULL};
  if (s->wants_labels) return read_labels(s, width, height, where, err);
  if (!image_init(&s->im, (int)width, (int)height, err)) return false;
  return read_pixels(s, where, err);
}

/* What the caller takes of the result is his; the rest is freed here. */
static bool decode(PngState *s, const void *bytes, size_t n, const char *where, Error *err) {
  s->at = bytes;
  s->end = s->at + n;
  bool ok = png_run(s, where, err);
  png_destroy_read_struct(&s->png, &s->info, NULL);
  mem_free(s->rows);
  mem_free(s->gamma);
  if (ok) return true;
  image_done(&s->im);
  mem_free(s->labels);
  return false;
}

static PngState *state_new(const char *where, Error *err) {
  PngState *s = mem_alloc(sizeof *s);
  if (!s) error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  return s;
}

bool image_decode_png(const void *bytes, size_t n, const char *where, Image *out, Error *err) {
  PngState *s = state_new(where, err);
  bool ok = s && decode(s, bytes, n, where, err);
  if (ok) *out = s->im;
  mem_free(s);
  return ok;
}

bool image_decode_labels(const void *bytes, size_t n, const char *where, uint16_t **out, int *out_width,
                         int *out_height, Error *err) {
  bool is_png = (n >= 8 && !png_sig_cmp(bytes, 0, 8)) || error_set(err, ERROR_FORMAT, "%s: not a PNG file", where);
  PngState *s = is_png ? state_new(where, err) : NULL;
  if (s) s->wants_labels = true;
  bool ok = s && decode(s, bytes, n, where, err);
  if (ok) *out = s->labels, *out_width = s->im.width, *out_height = s->im.height;
  mem_free(s);
  return ok;
}
