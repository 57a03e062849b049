/* Clips to files and back: pixels, times, texts, the same bytes again, and what is refused. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "media/clip_write.h"
#include "runtime/base/file.h"
#include "runtime/base/hooks.h"
#include "tests/test.h"

static const char *const names[CLIP_FORMATS] = {"GIF", "WebP", "MP4"};
static const ClipRate eight = {8, 1};

/* Frames [n, height, width, 3] that the caller frees: pixel (x, y) of frame i by a function. */
typedef void Draw(int i, int x, int y, uint8_t rgb[3]);

static uint8_t *draw_clip(Draw *draw, int n, int width, int height) {
  uint8_t *rgb = mem_alloc(3 * (size_t)n * (size_t)width * (size_t)height), *p = rgb;
  if (!rgb) abort();
  for (int i = 0; i < n; i++)
    for (int y = 0; y < height; y++)
      for (int x = 0; x < width; x++, p += 3) draw(i, x, y, p);
  return rgb;
}

/* A bright square that wanders over dark stripes, of one tint: half the chroma is enough. */
static void draw_square(int i, int x, int y, uint8_t rgb[3]) {
  bool inside = x >= 2 * i && x < 2 * i + 6 && y >= i + 1 && y < i + 7;
  rgb[0] = inside ? 210 : (uint8_t)(40 + 30 * (x / 8 % 4));
  rgb[1] = rgb[0] + 10;
  rgb[2] = rgb[0] + 20;
}

/* Thousands of colours, smooth. */
static void draw_gradient(int i, int x, int y, uint8_t rgb[3]) {
  rgb[0] = (uint8_t)(40 + 3 * x);
  rgb[1] = (uint8_t)(200 - 3 * y);
  rgb[2] = (uint8_t)(60 + x + y + 8 * i);
}

static void draw_flat(int i, int x, int y, uint8_t rgb[3]) {
  static const uint8_t colours[][3] = {{220, 40, 30},   {20, 40, 210}, {30, 180, 60}, {128, 128, 128},
                                       {255, 255, 255}, {0, 0, 0},     {250, 220, 40}};
  memcpy(rgb, colours[i % COUNT_OF(colours)], 3);
}

static void draw_still(int i, int x, int y, uint8_t rgb[3]) { draw_square(0, x, y, rgb); }

/* The bytes, which buffer_done frees; empty after a failure, which the test has then. */
static Buffer encode(ClipFormat format, const uint8_t *rgb, int n, int width, int height, ClipRate rate,
                     const char *text) {
  Buffer b = {0};
  Error err = {0};
  if (clip_encode(format, rgb, n, width, height, rate, text, &b, &err)) return b;
  EXPECT(false, "%s: %s", names[format], err.text);
  b.len = 0;
  return b;
}

/* How many frames are read at a rate, and their PSNR against `rgb`; -1 where sizes differ or reading fails. */
static int read_back(const Buffer *b, const uint8_t *rgb, int n, int width, int height, ClipRate rate,
                     double *out_psnr) {
  Error err = {0};
  Image im;
  int count = 0;
  double worst = INFINITY;
  size_t values = 3 * (size_t)width * (size_t)height;
  Clip *c = clip_open(b->data, b->len, "clip", rate, &err);
  for (; c && clip_next(c, &im, &err); count++) {
    bool fits = im.width == width && im.height == height;
    double psnr = fits && count < n ? image_psnr(im.rgb, rgb + (size_t)count * values, values) : 0.0;
    if (psnr < worst) worst = psnr;
    image_done(&im);
    if (!fits) count = -2;
    if (!fits) break;
  }
  clip_close(c);
  *out_psnr = worst;
  if (err.code) fprintf(stderr, "%s\n", err.text);
  return err.code ? -1 : count;
}

static double psnr_of(ClipFormat format, Draw *draw, int n, int width, int height, ClipRate rate) {
  double psnr = 0.0;
  uint8_t *rgb = draw_clip(draw, n, width, height);
  Buffer b = encode(format, rgb, n, width, height, rate, NULL);
  int count = read_back(&b, rgb, n, width, height, rate, &psnr);
  EXPECT(count == n, "%s at %d/%d: %d frames", names[format], rate.frames, rate.seconds, count);
  buffer_done(&b);
  mem_free(rgb);
  return psnr;
}

TEST("GIF of few colours and WebP of any give every pixel back, MP4 comes close") {
  EXPECT(psnr_of(CLIP_GIF, draw_square, 8, 33, 17, eight) == INFINITY, "GIF");
  EXPECT(psnr_of(CLIP_WEBP, draw_square, 8, 33, 17, eight) == INFINITY, "WebP");
  EXPECT(psnr_of(CLIP_WEBP, draw_gradient, 8, 65, 49, eight) == INFINITY, "WebP of many colours");
  double psnr = psnr_of(CLIP_MP4, draw_gradient, 8, 64, 48, eight);
  EXPECT(psnr > 35.0, "MP4: %.2f dB", psnr);
}

TEST("GIF of more than 256 colours comes close") {
  double psnr = psnr_of(CLIP_GIF, draw_gradient, 8, 64, 48, eight);
  EXPECT(psnr > 30.0, "%.2f dB", psnr);
}

TEST("flat colours of an MP4 are read back within 4") {
  enum { N = 7, SIDE = 32 };
  uint8_t *rgb = draw_clip(draw_flat, N, SIDE, SIDE), *p = rgb;
  Buffer b = encode(CLIP_MP4, rgb, N, SIDE, SIDE, eight, NULL);
  Error err = {0};
  Image im;
  Clip *c = clip_open(b.data, b.len, "clip", (ClipRate){0}, &err);
  for (int i = 0; c && clip_next(c, &im, &err); i++) {
    int worst = 0;
    for (int k = 0; k < 3 * SIDE * SIDE; k++, p++) worst = abs(im.rgb[k] - *p) > worst ? abs(im.rgb[k] - *p) : worst;
    EXPECT(worst <= 4, "frame %d: %d", i, worst);
    image_done(&im);
  }
  EXPECT(p == rgb + 3 * N * SIDE * SIDE && !err.code, "%s", err.text);
  clip_close(c);
  buffer_done(&b);
  mem_free(rgb);
}

TEST("every rate gives as many frames as were written, also where they do not last whole ticks") {
  static const ClipRate rates[] = {{8, 1}, {12500, 1000}, {24, 1}, {30000, 1001}, {40, 1}, {47, 1}, {50, 1}, {1, 3}};
  for (ClipFormat k = 0; k < CLIP_FORMATS; k++)
    for (int i = 0; i < COUNT_OF(rates); i++)
      for (int n = k == CLIP_WEBP ? 4 : 1; n <= 7; n += 3) /* a still WebP has no time */
        EXPECT(psnr_of(k, draw_square, n, 20, 14, rates[i]) > 30.0, "%s of %d at %d/%d", names[k], n, rates[i].frames,
               rates[i].seconds);
}

TEST("frames that are all the same are kept, each for its time") {
  for (ClipFormat k = 0; k < CLIP_FORMATS; k++)
    EXPECT(psnr_of(k, draw_still, 5, 20, 14, eight) > 30.0, "%s", names[k]);
}

TEST("an MP4 of odd sides grows by the last column and row again") {
  enum { W = 33, H = 25 };
  uint8_t *rgb = draw_clip(draw_gradient, 3, W, H), *wide = mem_alloc(3 * 3 * (W + 1) * (H + 1));
  REQUIRE(wide, "out of memory");
  for (int i = 0; i < 3; i++)
    for (int y = 0; y <= H; y++)
      for (int x = 0; x <= W; x++)
        draw_gradient(i, x < W ? x : W - 1, y < H ? y : H - 1, wide + 3 * ((i * (H + 1) + y) * (W + 1) + x));
  Buffer b = encode(CLIP_MP4, rgb, 3, W, H, eight, NULL);
  double psnr;
  EXPECT(read_back(&b, wide, 3, W + 1, H + 1, eight, &psnr) == 3 && psnr > 35.0, "%.2f dB", psnr);
  buffer_done(&b);
  mem_free(rgb);
  mem_free(wide);
  rgb = draw_clip(draw_flat, 2, 1, 1);
  b = encode(CLIP_MP4, rgb, 2, 1, 1, eight, NULL);
  EXPECT(b.len > 0, "1 x 1");
  buffer_done(&b);
  mem_free(rgb);
}

/* ---- texts ---- */

/* More than 64 KiB, with what XML and blocks of 255 bytes could trip over. */
static char *make_long_text(void) {
  Buffer b = {0};
  for (int i = 0; b.len < 100000; i++) buffer_printf(&b, "%d <\"&'>; \xc3\xa9\xe2\x98\x83 &amp; nuwa ]]>\r\n", i);
  return b.data;
}

static void expect_text(ClipFormat format, const uint8_t *rgb, int n, const char *text) {
  Buffer b = encode(format, rgb, n, 20, 14, eight, text);
  Error err = {0};
  double psnr;
  char *found = clip_find_text(b.data, b.len, "clip", &err);
  EXPECT(err.code == ERROR_NONE, "%s: %s", names[format], err.text);
  EXPECT(found && text ? strcmp(found, text) == 0 : !found && !text, "%s of %d with \"%.20s\": \"%.200s\"",
         names[format], n, text ? text : "", found ? found : "no text");
  int count = read_back(&b, rgb, n, 20, 14, eight, &psnr);
  EXPECT(count == n && psnr > 30.0, "%s with a text: %d frames, %.1f dB", names[format], count, psnr);
  mem_free(found);
  buffer_done(&b);
}

TEST("texts of any length and letters are found again, and none where there is none") {
  uint8_t *rgb = draw_clip(draw_square, 3, 20, 14);
  char *long_text = make_long_text();
  const char *const texts[] = {
      NULL, "", "{\"seed\": 7}", "<&\"'>&lt;&amp;#13;\r\n\t</nuwa:recipe", "snow \xe2\x98\x83", long_text};
  for (ClipFormat k = 0; k < CLIP_FORMATS; k++)
    for (int i = 0; i < COUNT_OF(texts); i++)
      for (int n = 1; n <= 3; n += 2) expect_text(k, rgb, n, texts[i]);
  mem_free(long_text);
  mem_free(rgb);
}

TEST("comments of others are no text, and neither is what is no clip") {
  static const char foreign[] = "GIF89a\1\0\1\0\0\0\0!\xfe\3abc\0!\xfe\0;",
                    longer[] = "GIF89a\1\0\1\0\0\0\0!\xfe\3abc\0!\xfe\7nuwa yes\0;";
  Error err = {0};
  EXPECT(!clip_find_text(foreign, sizeof foreign - 1, "f", &err) && err.code == ERROR_NONE, "%s", err.text);
  EXPECT(!clip_find_text(longer, sizeof longer - 1, "f", &err), "its block ends after the file");
  EXPECT_TEXT(err.text, "f: damaged GIF: it is cut short");
  EXPECT(!clip_find_text("\x89PNG\r\n\x1a\n", 8, "f.png", &err), "a PNG");
  EXPECT_TEXT(err.text, "f.png: not a GIF, WebP or MP4 file (8 bytes)");
}

TEST("files that are cut short have no text, and damaged ones never crash") {
  uint8_t *rgb = draw_clip(draw_square, 3, 20, 14);
  for (ClipFormat k = 0; k < CLIP_FORMATS; k++) {
    Buffer b = encode(k, rgb, 3, 20, 14, eight, "{\"words\": \"<a & b>\"}");
    Error err = {0};
    for (size_t n = 0; n < b.len; n++) {
      char *cut = malloc(n + 1), *text; /* of its own, so that sanitizers see its end */
      if (!cut) abort();
      memcpy(cut + 1, b.data, n);
      text = clip_find_text(cut + 1, n, "cut", &err);
      EXPECT(!text && err.code == ERROR_FORMAT, "%s cut to %zu of %zu: %s", names[k], n, b.len, text ? text : "none");
      mem_free(text);
      free(cut);
    }
    char *flipped = malloc(b.len);
    if (!flipped) abort();
    for (size_t bit = 0; bit < 8 * b.len; bit += 3) {
      memcpy(flipped, b.data, b.len);
      flipped[bit / 8] ^= (char)(1 << bit % 8);
      mem_free(clip_find_text(flipped, b.len, "flipped", &err));
    }
    free(flipped);
    buffer_done(&b);
  }
  mem_free(rgb);
}

/* ---- files ---- */

TEST("the same frames and text give the same bytes, appended to what is there") {
  uint8_t *rgb = draw_clip(draw_gradient, 6, 48, 32);
  for (ClipFormat k = 0; k < CLIP_FORMATS; k++) {
    Buffer a = encode(k, rgb, 6, 48, 32, eight, "{}"), b = {0};
    Error err = {0};
    buffer_append(&b, "before", 6);
    EXPECT(clip_encode(k, rgb, 6, 48, 32, eight, "{}", &b, &err), "%s", err.text);
    EXPECT(b.len == a.len + 6 && !memcmp(b.data, "before", 6) && !memcmp(b.data + 6, a.data, a.len), "%s: %zu, %zu",
           names[k], a.len, b.len);
    buffer_done(&a);
    buffer_done(&b);
  }
  mem_free(rgb);
}

TEST("a file's format is the ending of its name") {
  ClipFormat k;
  EXPECT(clip_format_of("a.b/c.gif", &k) && k == CLIP_GIF, "gif");
  EXPECT(clip_format_of("x.WebP", &k) && k == CLIP_WEBP, "webp");
  EXPECT(clip_format_of("x.gif.MP4", &k) && k == CLIP_MP4, "mp4");
  static const char *const none[] = {"", "gif", "x.png", "x.gif/y", "x.gif2", "x.mp4."};
  for (int i = 0; i < COUNT_OF(none); i++) EXPECT(!clip_format_of(none[i], &k), "%s", none[i]);
  static const char *const paths[] = {"clip_write_test.gif", "clip_write_test.webp", "clip_write_test.mp4"};
  uint8_t *rgb = draw_clip(draw_square, 2, 20, 14);
  for (int i = 0; i < CLIP_FORMATS; i++) {
    Error err = {0};
    REQUIRE(clip_write(paths[i], rgb, 2, 20, 14, eight, "{}", &err), "%s", err.text);
    Buffer b = encode((ClipFormat)i, rgb, 2, 20, 14, eight, "{}");
    FileMap m;
    REQUIRE(file_load(paths[i], &m, &err), "%s", err.text);
    EXPECT(m.len == b.len && !memcmp(m.data, b.data, b.len), "%s", paths[i]);
    file_unmap(&m);
    buffer_done(&b);
    unlink(paths[i]);
  }
  Error err = {0};
  EXPECT(!clip_write("x.avi", rgb, 2, 20, 14, eight, NULL, &err) && err.code == ERROR_ARGUMENT, "avi");
  EXPECT_TEXT(err.text, "x.avi: names of clips end in .gif, .webp or .mp4");
  mem_free(rgb);
}

TEST("no frames, no size, too much of it, and rates that cannot be shown are refused with what would be right") {
  static const struct {
    int n, width, height;
    ClipRate rate;
    const char *reason[CLIP_FORMATS];
  } bad[] = {
      {0, 8, 8, {8, 1}, {"GIF of 0 frames of 8 x 8: at least 1 frame of 1 x 1 is needed", "WebP of 0", "MP4 of 0"}},
      {2, 0, 8, {8, 1}, {"0 x 8", "0 x 8", "0 x 8"}},
      {2, 8, -1, {8, 1}, {"8 x -1", "8 x -1", "8 x -1"}},
      {1, IMAGE_MAX_SIDE + 1, 1, {8, 1}, {"16385 x 1; the limits are 16384 pixels a side", "16385", "16385"}},
      {1, 1, IMAGE_MAX_SIDE, {8, 1}, {NULL, "a WebP of 1 x 16384: it has at most 16383 pixels a side", NULL}},
      {1 << 20, 1, 1, {8, 1}, {"at most 65536 can be read", "65536", "65536"}},
      {1, 8, 8, {0, 0}, {"a GIF of 0/0 frames a second: must be above 0 and at most 1000", "WebP", "MP4 of 0/0"}},
      {1, 8, 8, {2000, 1}, {"2000/1", "2000/1", "2000/1"}},
      {1, 8, 8, {60, 1}, {"GIF of 60/1 frames a second: frames of GIF last 2/100 to 65535/100", NULL, NULL}},
      {1, 8, 8, {100, 1}, {"2/100", "a WebP of 100/1 frames a second: frames of WebP last 11/1000 to", NULL}},
  };
  uint8_t *rgb = draw_clip(draw_flat, 1, 1, IMAGE_MAX_SIDE);
  for (int i = 0; i < COUNT_OF(bad); i++)
    for (ClipFormat k = 0; k < CLIP_FORMATS; k++) {
      Error err = {0};
      Buffer b = {0};
      if (!bad[i].reason[k]) continue;
      EXPECT(!clip_encode(k, rgb, bad[i].n, bad[i].width, bad[i].height, bad[i].rate, NULL, &b, &err), "case %d", i);
      EXPECT_HAS(err.text, bad[i].reason[k]);
      buffer_done(&b);
    }
  mem_free(rgb);
}

TEST("whichever allocation fails, a clip is written as ever or memory is said to be short") {
  uint8_t *rgb = draw_clip(draw_gradient, 2, 40, 30);
  for (ClipFormat k = 0; k < CLIP_FORMATS; k++)
    for (uint64_t i = 1;; i++) {
      Buffer b = {0};
      Error err = {0};
      uint64_t before = mem_alloc_count();
      mem_fail_at(i);
      bool ok = clip_encode(k, rgb, 2, 40, 30, eight, "{\"seed\": 7}", &b, &err);
      char *text = ok ? clip_find_text(b.data, b.len, "clip", &err) : NULL;
      bool reached = mem_alloc_count() - before >= i;
      mem_fail_at(0);
      EXPECT(text ? !strcmp(text, "{\"seed\": 7}") : err.code == ERROR_MEMORY, "%s, allocation %d: %s", names[k],
             (int)i, err.text);
      mem_free(text);
      buffer_done(&b);
      if (!reached) break;
    }
  mem_free(rgb);
}

TEST_MAIN()
