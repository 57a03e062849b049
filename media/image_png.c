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
  if (!image_check_size(where, width, height, err) || !image_init(&s->im, (int)width, (int)height, err)) return false;
  return read_pixels(s, where, err);
}

bool image_decode_png(const void *bytes, size_t n, const char *where, Image *out, Error *err) {
  PngState *s = mem_alloc(sizeof *s);
  if (!s) return error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  s->at = bytes;
  s->end = s->at + n;
  bool ok = png_run(s, where, err);
  png_destroy_read_struct(&s->png, &s->info, NULL);
  mem_free(s->rows);
  mem_free(s->gamma);
  if (ok) *out = s->im;
  else image_done(&s->im);
  mem_free(s);
  return ok;
}
