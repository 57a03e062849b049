/* What viewers show of pictures of every kind; the values were computed by hand from the formulas beside them. */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>
#include <png.h>

#include "media/image.h"
#include "tests/test.h"

/* A PNG to be made: samples as PNG stores them, rows one after the other. */
typedef struct Png {
  int width, height, depth, colour;
  const void *samples;
  bool is_interlaced, is_srgb, has_profile, has_primaries, suggests_background;
  double gamma; /* 0: no gAMA */
  const png_color *palette;
  int n_palette;
  const uint8_t *alpha; /* of the palette */
  int n_alpha;
  const png_color_16 *transparent;
} Png;

typedef struct Bytes {
  uint8_t data[8192];
  size_t n;
} Bytes;

static void put(png_structp png, png_bytep data, size_t n) {
  Bytes *b = png_get_io_ptr(png);
  if (b->n + n > sizeof b->data) png_error(png, "full");
  memcpy(b->data + b->n, data, n);
  b->n += n;
}

/* A head and one tag, of bytes that do not compress to what libpng takes for too little. */
static void put_profile(png_structp png, png_infop info) {
  static uint8_t icc[400] = {[2] = 1, 144, [8] = 4, [36] = 'a', 'c', 's', 'p', [131] = 1, 'c', 'p', 'r', 't', 0, 0, 0, 144,
                             0, 0, 1, 0, 't', 'e', 'x', 't'};
  memcpy(icc + 12, "mntrRGB XYZ ", 12);
  memcpy(icc + 68, "\0\0\xf6\xd6\0\1\0\0\0\0\xd3\x2d", 12);
  for (int i = 152; i < COUNT_OF(icc); i++) icc[i] = (uint8_t)(i * i * 7 + i / 3);
  png_set_iCCP(png, info, "profile", 0, icc, sizeof icc);
}

static Bytes make_png(const Png *p) {
  static Bytes b;
  b.n = 0;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(png, &b, put, NULL);
  png_set_IHDR(png, info, (png_uint_32)p->width, (png_uint_32)p->height, p->depth, p->colour, p->is_interlaced, 0, 0);
  if (p->gamma > 0) png_set_gAMA(png, info, p->gamma);
  if (p->is_srgb) png_set_sRGB(png, info, 0);
  if (p->has_profile) put_profile(png, info);
  if (p->has_primaries) png_set_cHRM(png, info, 0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06);
  if (p->palette) png_set_PLTE(png, info, p->palette, p->n_palette);
  if (p->alpha || p->transparent) png_set_tRNS(png, info, p->alpha, p->n_alpha, p->transparent);
  if (p->suggests_background) png_set_bKGD(png, info, &(png_color_16){0, 1, 2, 3, 4});
  png_write_info(png, info);
  png_bytep row[64];
  size_t row_bytes = png_get_rowbytes(png, info);
  for (int y = 0; y < p->height; y++) row[y] = (png_bytep)(uintptr_t)p->samples + (size_t)y * row_bytes;
  png_write_image(png, row);
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return b;
}

static void expect_bytes(const char *what, const void *bytes, size_t n, const uint8_t *want, int values) {
  Image im;
  Error err;
  REQUIRE(image_decode(bytes, n, what, &im, &err), "%s", err.text);
  EXPECT(im.width * im.height * 3 == values, "%s: %d x %d", what, im.width, im.height);
  for (int i = 0; i < values && values == im.width * im.height * 3; i++)
    EXPECT(im.rgb[i] == want[i], "%s: value %d is %d, not %d", what, i, im.rgb[i], want[i]);
  image_done(&im);
}

#define EXPECT_PNG(what, png, ...)                                                                          \
  do {                                                                                                      \
    static const uint8_t want[] = {__VA_ARGS__};                                                            \
    Bytes b = make_png(png);                                                                                \
    expect_bytes(what, b.data, b.n, want, COUNT_OF(want));                                                  \
  } while (0)

/* 0x8000 / 257 = 127.502, 0x1234 / 257 = 18.13, 0x00ff / 257 = 0.99, 0x7f80 / 257 = 126.998 */
TEST("samples of 16 bits are sRGB like those of 8, rounded") {
  static const uint8_t rgb[] = {0x80, 0x00, 0x12, 0x34, 0x00, 0xff, 0x7f, 0x80, 0xff, 0xff, 0x00, 0x00};
  static const uint8_t grey[] = {0x80, 0x00, 0x12, 0x34};
  EXPECT_PNG("colour", (&(Png){2, 1, 16, PNG_COLOR_TYPE_RGB, rgb}), 128, 18, 1, 127, 255, 0);
  EXPECT_PNG("grey", (&(Png){2, 1, 16, PNG_COLOR_TYPE_GRAY, grey}), 128, 128, 128, 18, 18, 18);
}

/* 200 a + 255 (1 - a) with a = 128/255: 227.4; 100: 177.2; 0: 127.  60 at a = 51/255: 216.  16 bits: 0x8000 at a =
 * 0x4000/0xffff: (8192.1 + 49151) / 257 = 223.1. */
TEST("half-transparent pixels are mixed with white as they are encoded, and a suggested background is ignored") {
  static const uint8_t rgba[] = {200, 100, 0, 128, 9, 9, 9, 0, 7, 8, 9, 255}, grey[] = {60, 51};
  static const uint8_t deep[] = {0x80, 0, 0xff, 0xff, 0, 0, 0x40, 0}, deep_grey[] = {0x80, 0, 0x40, 0};
  EXPECT_PNG("colour", (&(Png){3, 1, 8, PNG_COLOR_TYPE_RGBA, rgba}), 227, 177, 127, 255, 255, 255, 7, 8, 9);
  EXPECT_PNG("colour", (&(Png){1, 1, 8, PNG_COLOR_TYPE_RGBA, rgba, .suggests_background = true}), 227, 177, 127);
  EXPECT_PNG("grey", (&(Png){1, 1, 8, PNG_COLOR_TYPE_GRAY_ALPHA, grey}), 216, 216, 216);
  EXPECT_PNG("16 bits", (&(Png){1, 1, 16, PNG_COLOR_TYPE_RGBA, deep}), 223, 255, 191);
  EXPECT_PNG("grey of 16 bits", (&(Png){1, 1, 16, PNG_COLOR_TYPE_GRAY_ALPHA, deep_grey}), 223, 223, 223);
}

/* 85 = 255/3, 119 = 7 * 17; palette entry 2 has alpha 102/255 = 0.4: 100 * 0.4 + 255 * 0.6 = 193. */
TEST("grey of 1, 2 and 4 bits, palettes and transparent colours give what they name") {
  static const uint8_t bits[] = {0x40}, pairs[] = {0x1b}, nibbles[] = {0x7f}, index[] = {0, 1, 2, 3};
  static const png_color palette[] = {{10, 20, 30}, {40, 80, 120}, {100, 0, 255}, {1, 2, 3}};
  static const uint8_t alpha[] = {0, 255, 102};
  static const uint8_t rgb[] = {1, 2, 3, 1, 2, 4}, deep[] = {1, 2, 1, 3};
  EXPECT_PNG("1 bit", (&(Png){2, 1, 1, PNG_COLOR_TYPE_GRAY, bits}), 0, 0, 0, 255, 255, 255);
  EXPECT_PNG("2 bits", (&(Png){4, 1, 2, PNG_COLOR_TYPE_GRAY, pairs}), 0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255);
  EXPECT_PNG("4 bits", (&(Png){2, 1, 4, PNG_COLOR_TYPE_GRAY, nibbles}), 119, 119, 119, 255, 255, 255);
  EXPECT_PNG("2 bits, one of them transparent",
             (&(Png){4, 1, 2, PNG_COLOR_TYPE_GRAY, pairs, .transparent = &(png_color_16){.gray = 1}}), 0, 0, 0, 255, 255,
             255, 170, 170, 170, 255, 255, 255);
  EXPECT_PNG("palette", (&(Png){4, 1, 8, PNG_COLOR_TYPE_PALETTE, index, .palette = palette, .n_palette = 4,
                                .alpha = alpha, .n_alpha = 3}), 255, 255, 255, 40, 80, 120, 193, 153, 255, 1, 2, 3);
  EXPECT_PNG("palette of 2 bits", (&(Png){4, 1, 2, PNG_COLOR_TYPE_PALETTE, pairs, .palette = palette, .n_palette = 4}),
             10, 20, 30, 40, 80, 120, 100, 0, 255, 1, 2, 3);
  EXPECT_PNG("a transparent colour", (&(Png){2, 1, 8, PNG_COLOR_TYPE_RGB, rgb,
                                             .transparent = &(png_color_16){0, 1, 2, 3, 0}}), 255, 255, 255, 1, 2, 4);
  EXPECT_PNG("a transparent grey of 16 bits, and its neighbour", /* 0x0103 / 257 = 1.008 */
             (&(Png){2, 1, 16, PNG_COLOR_TYPE_GRAY, deep, .transparent = &(png_color_16){.gray = 0x102}}), 255, 255, 255,
             1, 1, 1);
}

/* Light 55/255 is 255 (1.055 (55/255)^(1/2.4) - 0.055) = 127.95 in sRGB. */
TEST("gAMA is obeyed where it stands alone; sRGB, profiles and primaries leave samples as they are") {
  static const uint8_t light[] = {55}, mixed[] = {55, 128}, deep[] = {0x37, 0x37};
  EXPECT_PNG("linear", (&(Png){1, 1, 8, PNG_COLOR_TYPE_GRAY, light, .gamma = 1.0}), 128, 128, 128);
  EXPECT_PNG("linear, 16 bits", (&(Png){1, 1, 16, PNG_COLOR_TYPE_GRAY, deep, .gamma = 1.0}), 128, 128, 128);
  EXPECT_PNG("linear, mixed in sRGB: 128 a + 255 (1 - a) = 191.25", /* a = 128/255 */
             (&(Png){1, 1, 8, PNG_COLOR_TYPE_GRAY_ALPHA, mixed, .gamma = 1.0}), 191, 191, 191);
  EXPECT_PNG("1 / 2.2", (&(Png){1, 1, 8, PNG_COLOR_TYPE_GRAY, light, .gamma = 0.45455}), 55, 55, 55);
  EXPECT_PNG("sRGB", (&(Png){1, 1, 16, PNG_COLOR_TYPE_GRAY, deep, .is_srgb = true}), 55, 55, 55);
  EXPECT_PNG("a profile", (&(Png){1, 1, 8, PNG_COLOR_TYPE_RGB, "\1\2\3", .has_profile = true, .gamma = 1.0}), 1, 2, 3);
  EXPECT_PNG("primaries", (&(Png){1, 1, 8, PNG_COLOR_TYPE_RGB, "\1\2\3", .has_primaries = true}), 1, 2, 3);
}

TEST("an interlaced picture is that without interlacing, at any depth") {
  static uint8_t samples[7 * 11 * 8];
  for (int i = 0; i < COUNT_OF(samples); i++) samples[i] = (uint8_t)(i * 37 + i / 5);
  static const int kinds[][2] = {{8, PNG_COLOR_TYPE_RGB}, {16, PNG_COLOR_TYPE_RGBA}, {1, PNG_COLOR_TYPE_GRAY}};
  for (int k = 0; k < COUNT_OF(kinds); k++) {
    Png p = {7, 11, kinds[k][0], kinds[k][1], samples};
    Image plain;
    Error err;
    Bytes b = make_png(&p);
    REQUIRE(image_decode(b.data, b.n, "plain", &plain, &err), "%s", err.text);
    p.is_interlaced = true;
    b = make_png(&p);
    expect_bytes("interlaced", b.data, b.n, plain.rgb, 7 * 11 * 3);
    image_done(&plain);
  }
}

/* ---- JPEG ---- */

/* Flat blocks of 8 x 8 at the best quality survive a JPEG but for rounding.  exif: an APP1 marker, or NULL. */
static unsigned char *make_jpeg(const uint8_t *samples, int width, int height, J_COLOR_SPACE space, bool says_adobe,
                                const uint8_t *exif, unsigned n_exif, unsigned long *out_len) {
  struct jpeg_compress_struct jpeg;
  struct jpeg_error_mgr handlers;
  unsigned char *bytes = NULL;
  *out_len = 0;
  jpeg.err = jpeg_std_error(&handlers);
  jpeg_create_compress(&jpeg);
  jpeg_mem_dest(&jpeg, &bytes, out_len);
  jpeg.image_width = (JDIMENSION)width, jpeg.image_height = (JDIMENSION)height;
  jpeg.input_components = space == JCS_CMYK ? 4 : 1;
  jpeg.in_color_space = space;
  jpeg_set_defaults(&jpeg);
  jpeg.write_Adobe_marker = says_adobe;
  jpeg_set_quality(&jpeg, 100, TRUE);
  jpeg_start_compress(&jpeg, TRUE);
  if (exif) jpeg_write_marker(&jpeg, JPEG_APP0 + 1, exif, n_exif);
  while (jpeg.next_scanline < jpeg.image_height) {
    JSAMPROW row = (JSAMPROW)(uintptr_t)samples + (size_t)jpeg.next_scanline * (size_t)(width * jpeg.input_components);
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  return bytes;
}

static bool is_near(const uint8_t *rgb, int r, int g, int b) {
  return abs(rgb[0] - r) <= 2 && abs(rgb[1] - g) <= 2 && abs(rgb[2] - b) <= 2;
}

/* Half of the light on white under half black: 0.5 * 0.5 * 255 = 64. */
TEST("four inks are laid on white paper, as Adobe stores them and as others do") {
  static const uint8_t adobe[] = {255, 0, 128, 255, 128, 255, 128, 128}, plain[] = {0, 255, 127, 0, 127, 0, 127, 127};
  for (int k = 0; k < 2; k++) {
    uint8_t samples[16 * 8 * 4];
    for (int i = 0; i < 16 * 8; i++) memcpy(samples + 4 * i, (k ? plain : adobe) + (i % 16 >= 8 ? 4 : 0), 4);
    unsigned long n;
    unsigned char *bytes = make_jpeg(samples, 16, 8, JCS_CMYK, k == 0, NULL, 0, &n);
    Image im;
    Error err;
    REQUIRE(image_decode(bytes, n, "inks", &im, &err), "%s", err.text);
    EXPECT(is_near(im.rgb, 255, 0, 128), "%d %d %d", im.rgb[0], im.rgb[1], im.rgb[2]);
    EXPECT(is_near(im.rgb + 3 * 8, 64, 128, 64), "%d %d %d", im.rgb[24], im.rgb[25], im.rgb[26]);
    image_done(&im);
    free(bytes);
  }
}

/* The stored picture, 24 x 16: 20 at its top left, 90 top right, 160 bottom left, 230 bottom right.  What is shown in
 * the corners, in the same order, under each orientation. */
TEST("JPEGs are turned and mirrored as their EXIF data say, whatever their byte order") {
  static const uint8_t shown[9][4] = {{20, 90, 160, 230}, {20, 90, 160, 230}, {90, 20, 230, 160},
                                      {230, 160, 90, 20}, {160, 230, 20, 90}, {20, 160, 90, 230},
                                      {160, 20, 230, 90}, {230, 90, 160, 20}, {90, 230, 20, 160}};
  uint8_t samples[24 * 16];
  for (int y = 0; y < 16; y++)
    for (int x = 0; x < 24; x++) samples[24 * y + x] = shown[1][2 * (y >= 8) + (x >= 16)];
  for (int k = 0; k < 18; k++) {
    uint8_t little[] = "Exif\0\0II*\0\10\0\0\0\1\0\x12\1\3\0\1\0\0\0\0\0\0\0\0\0\0\0",
            big[] = "Exif\0\0MM\0*\0\0\0\10\0\1\1\x12\0\3\0\0\0\1\0\0\0\0\0\0\0\0";
    int o = k / 2;
    little[24] = big[25] = (uint8_t)o; /* 0 is none: upright */
    unsigned long n;
    unsigned char *bytes = make_jpeg(samples, 24, 16, JCS_GRAYSCALE, false, k % 2 ? big : little, sizeof big - 1, &n);
    Image im;
    Error err;
    REQUIRE(image_decode(bytes, n, "turned", &im, &err), "%s", err.text);
    EXPECT(im.width == (o >= 5 ? 16 : 24) && im.height == (o >= 5 ? 24 : 16), "%d: %d x %d", o, im.width, im.height);
    int corner[] = {0, im.width - 1, (im.height - 1) * im.width, im.height * im.width - 1};
    for (int c = 0; c < 4; c++)
      EXPECT(abs(im.rgb[3 * corner[c]] - shown[o][c]) <= 2, "orientation %d, corner %d: %d, not %d", o, c,
             im.rgb[3 * corner[c]], shown[o][c]);
    image_done(&im);
    for (unsigned cut = 0; cut < 32; cut += 3) { /* a damaged marker turns nothing and harms nobody */
      free(bytes);
      bytes = make_jpeg(samples, 24, 16, JCS_GRAYSCALE, false, k % 2 ? big : little, cut, &n);
      if (image_decode(bytes, n, "cut", &im, &err)) image_done(&im);
    }
    free(bytes);
  }
}

TEST_MAIN()
