#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "media/image.h"
#include "runtime/base/file.h"
#include "runtime/base/hooks.h"
#include "tests/test.h"

static void fill(Image *im) {
  uint32_t x = 7;
  for (int i = 0; i < im->width * im->height * 3; i++) {
    x = x * 1664525u + 1013904223u;
    im->rgb[i] = (uint8_t)(x >> 24);
  }
}

static bool same(const Image *a, const Image *b) {
  return a->width == b->width && a->height == b->height &&
         !memcmp(a->rgb, b->rgb, (size_t)a->width * (size_t)a->height * 3);
}

TEST("a PNG gives back every pixel, whatever the shape") {
  static const int shapes[][2] = {{1, 1}, {32, 32}, {7, 1}, {1, 9}, {53, 31}};
  for (int i = 0; i < COUNT_OF(shapes); i++) {
    Image a, b;
    Error err;
    Buffer file = {0};
    REQUIRE(image_init(&a, shapes[i][0], shapes[i][1], &err), "%s", err.text);
    fill(&a);
    REQUIRE(image_encode_png(&a, NULL, 0, &file, &err), "%s", err.text);
    REQUIRE(image_decode(file.data, file.len, "memory", &b, &err), "%s", err.text);
    EXPECT(same(&a, &b), "%d x %d", a.width, a.height);
    image_done(&a), image_done(&b), buffer_done(&file);
  }
}

TEST("texts of a PNG file come back, ASCII or not, and other keys are absent") {
  Image a, b;
  Error err;
  const ImageText texts[] = {{"recipe", "{\"seed\": 7}"}, {"title", "女娲 paints"}, {"empty", ""}};
  const char *path = "image_test.png";
  REQUIRE(image_init(&a, 5, 4, &err), "%s", err.text);
  fill(&a);
  REQUIRE(image_write_png(path, &a, texts, 3, &err), "%s", err.text);
  REQUIRE(image_read(path, &b, &err), "%s", err.text);
  EXPECT(same(&a, &b), "");
  size_t n;
  char *bytes = file_read(path, &n, &err);
  REQUIRE(bytes, "%s", err.text);
  for (int i = 0; i < 3; i++) {
    char *got = image_find_text(bytes, n, path, texts[i].key, &err);
    EXPECT(got && !strcmp(got, texts[i].value), "%s: %s", texts[i].key, got ? got : "(absent)");
    mem_free(got);
  }
  EXPECT(!image_find_text(bytes, n, path, "recip", &err) && err.code == ERROR_NONE, "");
  char *part = strstr(bytes + 33, "seed");
  for (size_t i = 0; !part && i < n - 4; i++)
    if (!memcmp(bytes + i, "seed", 4)) part = bytes + i;
  REQUIRE(part, "");
  *part = 'f';
  EXPECT(!image_find_text(bytes, n, path, "recipe", &err) && err.code == ERROR_FORMAT, "");
  EXPECT_HAS(err.text, "checksum");
  remove(path);
  mem_free(bytes), image_done(&a), image_done(&b);
}

TEST("keys of texts that PNG cannot hold are refused") {
  Image a;
  Error err;
  REQUIRE(image_init(&a, 2, 2, &err), "%s", err.text);
  Buffer out = {0};
  ImageText bad = {"", "x"};
  EXPECT(!image_encode_png(&a, &bad, 1, &out, &err), "");
  EXPECT_HAS(err.text, "1 to 79");
  bad.key = "line\nbreak";
  EXPECT(!image_encode_png(&a, &bad, 1, &out, &err), "");
  buffer_done(&out), image_done(&a);
}

TEST("every truncation of a PNG is refused, and no damaged byte does harm") {
  Image a, b;
  Error err;
  Buffer file = {0};
  REQUIRE(image_init(&a, 16, 16, &err), "%s", err.text);
  fill(&a);
  REQUIRE(image_encode_png(&a, NULL, 0, &file, &err), "%s", err.text);
  for (size_t n = 0; n + 12 < file.len; n++) { /* the last 12 bytes are the empty end chunk */
    bool ok = image_decode(file.data, n, "cut", &b, &err);
    EXPECT(!ok, "%zu of %zu bytes", n, file.len);
    if (ok) image_done(&b);
  }
  for (size_t i = 0; i < file.len; i++) {
    file.data[i] ^= 0x41;
    if (image_decode(file.data, file.len, "damaged", &b, &err)) image_done(&b);
    file.data[i] ^= 0x41;
  }
  buffer_done(&file), image_done(&a);
}

TEST("a PNG that claims to be huge is refused before memory is asked for") {
  Image a, b;
  Error err;
  Buffer file = {0};
  REQUIRE(image_init(&a, 4, 4, &err), "%s", err.text);
  REQUIRE(image_encode_png(&a, NULL, 0, &file, &err), "%s", err.text);
  memcpy(file.data + 16, "\0\0\x40\0\0\0\x40\0", 8); /* 16384 x 16384, with the checksum of the header to match */
  uint32_t crc = ~0u;
  for (int i = 12; i < 29; i++) {
    crc ^= (uint8_t)file.data[i];
    for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
  }
  for (int i = 0; i < 4; i++) file.data[29 + i] = (char)(~crc >> (24 - 8 * i));
  EXPECT(!image_decode(file.data, file.len, "huge.png", &b, &err), "");
  EXPECT(err.code == ERROR_LIMIT, "%s", err.text);
  EXPECT_HAS(err.text, "huge.png");
  EXPECT(!image_init(&b, 0, 5, &err) && !image_init(&b, 5, -1, &err) && !image_init(&b, 20000, 1, &err), "");
  buffer_done(&file), image_done(&a);
}

static unsigned char *make_jpeg(const Image *im, int components, unsigned long *out_len) {
  struct jpeg_compress_struct jpeg;
  struct jpeg_error_mgr handlers;
  unsigned char *bytes = NULL;
  *out_len = 0;
  jpeg.err = jpeg_std_error(&handlers);
  jpeg_create_compress(&jpeg);
  jpeg_mem_dest(&jpeg, &bytes, out_len);
  jpeg.image_width = (JDIMENSION)im->width, jpeg.image_height = (JDIMENSION)im->height;
  jpeg.input_components = components;
  jpeg.in_color_space = components == 3 ? JCS_RGB : JCS_GRAYSCALE;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 95, TRUE);
  jpeg_start_compress(&jpeg, TRUE);
  while (jpeg.next_scanline < jpeg.image_height) {
    JSAMPROW row = im->rgb + (size_t)jpeg.next_scanline * (size_t)components * (size_t)im->width;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  return bytes;
}

TEST("a JPEG is read close to what was written, grey ones too, and truncated ones are refused") {
  Image a, b;
  Error err;
  REQUIRE(image_init(&a, 40, 24, &err), "%s", err.text);
  for (int i = 0; i < 40 * 24 * 3; i++) a.rgb[i] = (uint8_t)(i / 12 % 200 + 20);
  for (int components = 1; components <= 3; components += 2) {
    unsigned long n;
    unsigned char *bytes = make_jpeg(&a, components, &n);
    REQUIRE(image_decode(bytes, n, "memory", &b, &err), "%s", err.text);
    EXPECT(b.width == 40 && b.height == 24, "%d x %d", b.width, b.height);
    if (components == 3)
      EXPECT(image_psnr(a.rgb, b.rgb, 40 * 24 * 3) > 30, "");
    else
      EXPECT(b.rgb[0] == b.rgb[1] && abs(b.rgb[0] - a.rgb[0]) < 12, "%d %d", b.rgb[0], a.rgb[0]);
    image_done(&b);
    for (size_t k = 0; k < n - 2; k += 7) {
      bool ok = image_decode(bytes, k, "cut.jpg", &b, &err);
      EXPECT(!ok, "%zu of %lu bytes", k, n);
      if (ok) image_done(&b);
    }
    EXPECT_HAS(err.text, "cut.jpg: damaged JPEG");
    for (size_t k = 0; k < n; k++) {
      bytes[k] ^= 0x55;
      if (image_decode(bytes, n, "damaged", &b, &err)) image_done(&b);
      bytes[k] ^= 0x55;
    }
    free(bytes);
  }
  image_done(&a);
}

TEST("what is neither PNG nor JPEG is named so, and a missing file too") {
  Image b;
  Error err;
  EXPECT(!image_decode("GIF89a..", 8, "x.gif", &b, &err), "");
  EXPECT_HAS(err.text, "x.gif: not a PNG, JPEG or WebP file");
  EXPECT(!image_read("no such file.png", &b, &err), "");
  EXPECT_HAS(err.text, "no such file.png");
}

TEST("resizing keeps flat pictures flat, averages areas, and interpolates upwards") {
  Image a, b;
  Error err;
  REQUIRE(image_init(&a, 4, 2, &err), "%s", err.text);
  for (int i = 0; i < 8; i++) a.rgb[3 * i] = (uint8_t)(i * 10), a.rgb[3 * i + 1] = 77;
  REQUIRE(image_resize(&a, 2, 1, &b, &err), "%s", err.text);
  EXPECT(b.rgb[0] == 25 && b.rgb[3] == 45 && b.rgb[1] == 77, "%d %d", b.rgb[0], b.rgb[3]);
  image_done(&b);
  REQUIRE(image_resize(&a, 8, 2, &b, &err), "%s", err.text);
  EXPECT(b.rgb[0] == 0 && b.rgb[3] == 3 && b.rgb[6] == 8 && b.rgb[21] == 30, "%d %d %d %d", b.rgb[0], b.rgb[3],
         b.rgb[6], b.rgb[21]);
  image_done(&b);
  for (int w = 1; w < 40; w += 3) {
    REQUIRE(image_resize(&a, w, 41 - w, &b, &err), "%s", err.text);
    for (int i = 0; i < w * (41 - w); i++) EXPECT(b.rgb[3 * i + 1] == 77, "%d", b.rgb[3 * i + 1]);
    image_done(&b);
  }
  image_done(&a);
}

TEST("fitting cuts the centre out and cropping stays inside") {
  Image a, b;
  Error err;
  REQUIRE(image_init(&a, 9, 3, &err), "%s", err.text);
  for (int i = 0; i < 27; i++) a.rgb[3 * i] = (uint8_t)(i % 9);
  REQUIRE(image_fit(&a, 3, 3, &b, &err), "%s", err.text);
  EXPECT(b.width == 3 && b.rgb[0] == 3 && b.rgb[6] == 5, "%d", b.rgb[0]);
  image_done(&b);
  EXPECT(!image_crop(&a, 7, 0, 3, 1, &b, &err), "");
  EXPECT(!image_crop(&a, INT32_MAX, 0, INT32_MAX, 1, &b, &err), "");
  image_done(&a);
}

TEST("bytes to floats and back is exact, and wild floats are clamped") {
  uint8_t bytes[256], back[256];
  float f[256];
  for (int i = 0; i < 256; i++) bytes[i] = (uint8_t)i;
  image_to_floats(bytes, 256, f);
  EXPECT(f[0] == -1 && f[255] == 1, "%g %g", f[0], f[255]);
  image_from_floats(f, 256, back);
  EXPECT(!memcmp(bytes, back, 256), "");
  float wild[] = {-5, 5, NAN, INFINITY, -INFINITY};
  image_from_floats(wild, 5, back);
  EXPECT(back[0] == 0 && back[1] == 255 && back[2] == 0 && back[3] == 255 && back[4] == 0, "");
}

TEST("a sheet holds every picture, zoomed, with grey gaps") {
  uint8_t rgb[5 * 2 * 2 * 3];
  for (int i = 0; i < 5; i++) memset(rgb + 12 * i, 10 * i + 1, 12);
  Image s;
  Error err;
  REQUIRE(image_sheet(rgb, 5, 2, 2, 3, 1, 2, &s, &err), "%s", err.text);
  EXPECT(s.width == 16 && s.height == 11, "%d x %d", s.width, s.height);
  EXPECT(s.rgb[0] == 128 && s.rgb[3 * (16 + 1)] == 1 && s.rgb[3 * (16 * 9 + 9)] == 41 &&
             s.rgb[3 * (16 * 9 + 14)] == 128,
         "");
  image_done(&s);
  EXPECT(!image_sheet(rgb, 5, 2, 2, 0, 1, 2, &s, &err), "");
  EXPECT(!image_sheet(rgb, 1 << 30, 2, 2, 1, 1, 64, &s, &err), "");
}

TEST("PSNR of a known error") {
  uint8_t a[4] = {10, 10, 10, 10}, b[4] = {11, 9, 11, 9};
  EXPECT(fabs(image_psnr(a, b, 4) - 48.1308) < 1e-3, "%g", image_psnr(a, b, 4));
  EXPECT(isinf(image_psnr(a, a, 4)), "");
  uint8_t p[5 * 4 * 3] = {0}, q[5 * 4 * 3] = {0};
  for (int i = 0; i < 60; i++) q[i] = 2;
  EXPECT(image_box_error(p, q, 5, 3, 1, 2, 3) == 4 * 2 * 3 * 3, "%g", image_box_error(p, q, 5, 3, 1, 2, 3));
}

static bool pass_through(const Image *im, Buffer *file, Image *back, Image *small, Image *sheet, Error *err) {
  static const ImageText text = {"key", "value"};
  return image_encode_png(im, &text, 1, file, err) && image_decode(file->data, file->len, "memory", back, err) &&
         image_fit(back, 5, 9, small, err) && image_sheet(small->rgb, 1, 5, 9, 1, 1, 1, sheet, err);
}

TEST("running out of memory anywhere is reported") {
  Image a;
  Error err;
  REQUIRE(image_init(&a, 40, 30, &err), "%s", err.text);
  int failures = 0;
  for (uint64_t k = 1; k < 30; k++) {
    Buffer file = {0};
    Image back = {0}, small = {0}, sheet = {0};
    mem_fail_at(k);
    bool ok = pass_through(&a, &file, &back, &small, &sheet, &err);
    mem_fail_at(0);
    failures += !ok;
    if (!ok) EXPECT(err.code == ERROR_MEMORY, "allocation %d: %s", (int)k, err.text);
    buffer_done(&file), image_done(&back), image_done(&small), image_done(&sheet);
  }
  EXPECT(failures >= 8 && failures < 29, "%d", failures);
  image_done(&a);
}

TEST_MAIN()
