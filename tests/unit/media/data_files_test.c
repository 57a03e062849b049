/* Folders of pictures and files of arrays as data sets: what is found, what is fed, what is refused. */
#include <stdlib.h>
#include <unistd.h>

#include <stdio.h> /* which jpeglib.h needs */

#include <jpeglib.h>
#include <png.h>
#include <zlib.h>

#include "runtime/base/hooks.h"
#include "tests/test.h"
#include "tests/unit/media/data_sets.h"

/* ---- files ---- */

/* The same as JPEG. */
static void write_jpeg(const char *name, int width, int height, int red) {
  struct jpeg_compress_struct c;
  struct jpeg_error_mgr errors;
  uint8_t row[3 * 64] = {0};
  for (int x = 0; x < width; x++) row[3 * x] = (uint8_t)red;
  c.err = jpeg_std_error(&errors);
  jpeg_create_compress(&c);
  FILE *f = fopen(path_of(name), "wb");
  if (!f || width > 64) abort();
  jpeg_stdio_dest(&c, f);
  c.image_width = (JDIMENSION)width;
  c.image_height = (JDIMENSION)height;
  c.input_components = 3;
  c.in_color_space = JCS_RGB;
  jpeg_set_defaults(&c);
  jpeg_start_compress(&c, TRUE);
  for (int y = 0; y < height; y++) jpeg_write_scanlines(&c, (JSAMPROW[]){row}, 1);
  jpeg_finish_compress(&c);
  jpeg_destroy_compress(&c);
  fclose(f);
}

static void write_labels(const char *name, int width, int height, const uint8_t *labels) {
  png_image png = {.version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_GRAY};
  png.width = (png_uint_32)width;
  png.height = (png_uint_32)height;
  if (!png_image_write_to_file(&png, path_of(name), 0, labels, 0, NULL)) abort();
}

/* Indices of two bits into a palette of four colours, one row of four pixels. */
static void write_packed_labels(const char *name, uint8_t row) {
  png_color palette[4] = {{9, 9, 9}, {200, 0, 0}, {0, 200, 0}, {0, 0, 200}};
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
  png_infop info = png ? png_create_info_struct(png) : NULL;
  FILE *f = fopen(path_of(name), "wb");
  if (!info || !f) abort();
  png_init_io(png, f);
  png_set_IHDR(png, info, 4, 1, 2, PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  png_set_PLTE(png, info, palette, 4);
  png_write_info(png, info);
  png_write_row(png, &row);
  png_write_end(png, NULL);
  png_destroy_write_struct(&png, &info);
  fclose(f);
}

/* ---- folders ---- */

TEST("a folder is listed in the order of its paths, with folders within, and all else is counted") {
  write_picture("list/b/z.png", 3, 2, 1);
  write_picture("list/a.png", 3, 2, 2);
  write_picture("list/b/a.PNG", 3, 2, 3);
  write_picture("list/.hidden.png", 3, 2, 3);
  write_text("list/notes.svg", "no picture");
  write_text("list/b/lone.txt", "of no picture");
  write_text("list/b/empty.txt", "");
  if (symlink("..", path_of("list/b/up")) != 0) abort(); /* without end, were it followed */
  Dataset *d = open_data(path_of("list/"), (DatasetOptions){.in_order = true});
  REQUIRE(d, "");
  EXPECT_TEXT(keys_of(d, WORLD_TRAIN), "a b/a b/z ");
  Buffer notes = {0};
  dataset_print_notes(d, &notes);
  EXPECT_HAS(notes.data, "2 files are neither pictures nor clips and were passed over, \".hidden.png\" the first\n");
  EXPECT_HAS(notes.data, "1 texts are empty, \"b/empty.txt\" the first\n1 texts belong to no example, \"b/lone.txt\" the first\n");
  buffer_done(&notes);
  EXPECT(dataset_class_count(d) == 0, "a.png lies in no folder: these are no classes");
  dataset_close(d);
}

TEST("pictures are cropped in the centre and resized by area to the size that is wanted") {
  Image im;
  Error err;
  REQUIRE(image_init(&im, 6, 2, &err), "");
  for (int i = 0; i < 12; i++) im.rgb[3 * i] = (uint8_t)(i % 6 < 2 ? 10 : i % 6 < 4 ? (i % 2 ? 200 : 100) : 20);
  REQUIRE(image_write_png(path_of("fit/x.png"), &im, NULL, 0, &err), "%s", err.text);
  image_done(&im);
  Dataset *d = open_data(path_of("fit"), (DatasetOptions){0});
  REQUIRE(d, "");
  uint8_t whole[6 * 2 * 3], one[3], grey[1];
  DataWant w = {"image", DTYPE_U8, 3, {1, 1, 3}, one};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 1, &w, &err), "%s", err.text);
  EXPECT(one[0] == 150 && one[1] == 0, "the mean of the square in the middle, not %d", one[0]);
  w = (DataWant){"image", DTYPE_U8, 3, {2, 6, 3}, whole};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 1, &w, &err), "%s", err.text);
  EXPECT(whole[0] == 10 && whole[6] == 100 && whole[9] == 200 && whole[15] == 20, "%d %d", whole[0], whole[6]);
  w = (DataWant){"image", DTYPE_U8, 3, {1, 1, 1}, grey};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 1, &w, &err), "%s", err.text);
  EXPECT(grey[0] == 45, "0.299 of 150, not %d", grey[0]);
  EXPECT_HAS(mismatch(d, (DataWant){"image", DTYPE_F32, 3, {4, 4, 2}}),
             "image f32 [4, 4, 2] is wanted of every example; ");
  EXPECT_HAS(mismatch(d, (DataWant){"image", DTYPE_F32, 3, {4, 4, 2}}), " has image f32 or u8 [any, any, 3 or 1]");
  EXPECT_HAS(mismatch(d, (DataWant){"image", DTYPE_I32, 3, {4, 4, 3}}), "image i32 [4, 4, 3] is wanted");
  EXPECT_HAS(mismatch(d, (DataWant){"video", DTYPE_F32, 4, {2, 4, 4, 3}}), "video f32 [2, 4, 4, 3] is wanted");
  EXPECT_TEXT(mismatch(d, (DataWant){"video", DTYPE_F32, 4, {1, 4, 4, 3}}), "");
  EXPECT_HAS(mismatch(d, (DataWant){"text", DTYPE_I32, 1, {8}}), "text i32 [8] is wanted");
  dataset_close(d);
}

TEST("captions lie beside pictures, in a table of names, or in a table of objects") {
  static const char *const name[] = {"own", "tabbed", "bare", "json"};
  char file[60];
  for (int i = 0; i < 4; i++) snprintf(file, sizeof file, "said/in/%s.png", name[i]), write_picture(file, 2, 2, i);
  write_text("said/in/own.txt", "\xef\xbb\xbfOne horse.\r\nde.utf8=Ein Pferd.\n\nzh_cn.utf8=\xe9\xa9\xac\n");
  write_text("said/in/captions.txt", "tabbed.png\ta blue\tbox\nbare\ta red ball\ngone.png\tnothing\n");
  write_text("said/metadata.jsonl", "{\"file_name\": \"in/json.png\", \"text\": \"an \\\"e\\u0301\\\"\"}\n\n");
  Dataset *d = open_data(path_of("said"), (DatasetOptions){.in_order = true});
  REQUIRE(d, "");
  EXPECT_TEXT(caption_of(d, "in/own"), "One horse.");
  EXPECT_TEXT(caption_of(d, "in/tabbed"), "a blue\tbox");
  EXPECT_TEXT(caption_of(d, "in/bare"), "a red ball");
  EXPECT_TEXT(caption_of(d, "in/json"), "an \"e\xcc\x81\"");
  Buffer notes = {0};
  dataset_print_notes(d, &notes);
  EXPECT_HAS(notes.data, "1 captions in tables belong to no example, \"in/gone.png\" the first\n");
  buffer_done(&notes);
  EXPECT_TEXT(mismatch(d, (DataWant){"text", DTYPE_I32, 1, {8}}), "");
  EXPECT_HAS(mismatch(d, (DataWant){"text", DTYPE_I32, 1, {1}}), "is wanted of every example");
  dataset_close(d);
}

/* How often positions draw "one", "two" and "three"; each the same when it is read again. */
static void count_captions(const char *spec, int seen[3]) {
  Dataset *d = open_data(spec, (DatasetOptions){.seed = 3});
  for (uint64_t i = 0; d && i < 60; i++) {
    static const char *const caption[] = {"one", "two", "three"};
    Buffer a = {0}, b = {0};
    Error err;
    if (!dataset_caption(d, WORLD_TRAIN, i, &a, &err) || !dataset_caption(d, WORLD_TRAIN, i, &b, &err))
      TEST_FAIL_("%s", err.text);
    EXPECT_TEXT(a.data, b.data);
    for (int k = 0; k < 3; k++) seen[k] += strcmp(a.data, caption[k]) == 0;
    buffer_done(&a);
    buffer_done(&b);
  }
  dataset_close(d);
}

TEST("each caption of a picture is drawn in some epoch, and the same one when a position is read again") {
  int own[3] = {0}, table[3] = {0};
  write_picture("lines/x.png", 2, 2, 0);
  write_text("lines/x.txt", "one\nfr.utf8=un\ntwo\n\nthree\n");
  count_captions(path_of("lines"), own);
  write_picture("rows/x.png", 2, 2, 0);
  write_text("rows/captions.txt", "x\tone\nother\tfour\nx\ttwo\nx\tthree\n");
  count_captions(path_of("rows"), table);
  for (int k = 0; k < 3; k++) EXPECT(own[k] > 8 && table[k] > 8, "%d: %d and %d of 60", k, own[k], table[k]);
  int mixed[3] = {0};   /* by its path and by its stem, as two tables may have it */
  write_picture("mixed/x.png", 2, 2, 0);
  write_text("mixed/captions.txt", "x.png\tone\nx\ttwo\nx.png\tthree\n");
  count_captions(path_of("mixed"), mixed);
  for (int k = 0; k < 3; k++) EXPECT(mixed[k] > 8, "%d: %d of 60", k, mixed[k]);
  EXPECT(own[0] + own[1] + own[2] == 60 && table[0] + table[1] + table[2] == 60, "others are drawn too");
}

TEST("pictures without a caption are counted and named, refused where text is wanted, and empty if that is allowed") {
  write_picture("lack/a.png", 2, 2, 0);
  write_picture("lack/b.png", 2, 2, 0);
  write_picture("lack/c.png", 2, 2, 0);
  write_text("lack/a.txt", "one\n");
  write_text("lack/c.txt", "fr.utf8=un\n");
  Dataset *d = open_data(path_of("lack"), (DatasetOptions){.in_order = true, .strict = true});
  REQUIRE(d, "");
  EXPECT_HAS(mismatch(d, (DataWant){"text", DTYPE_I32, 1, {4}}),
             "lack: 1 of 3 examples have no caption, \"b\" the first of them; --allow-missing gives them empty ones");
  dataset_close(d);
  write_text("lack/b.txt", "two\n");
  int32_t text[3 * 4];
  Error err;
  DataWant w = {"text", DTYPE_I32, 1, {4}, text};
  d = open_data(path_of("lack"), (DatasetOptions){.in_order = true, .strict = true});
  REQUIRE(d, "");
  EXPECT(!fill(d, WORLD_TRAIN, 0, 3, &w, &err), "what only reading tells");
  EXPECT_HAS(err.text, "the caption of \"c\" is empty");
  dataset_close(d);
  if (unlink(path_of("lack/b.txt")) != 0) abort();
  d = open_data(path_of("lack"), (DatasetOptions){.in_order = true, .strict = true, .allow_missing = true});
  REQUIRE(d, "");
  REQUIRE(fill(d, WORLD_TRAIN, 0, 3, &w, &err), "%s", err.text);
  for (int i = 1; i < 3; i++)
    EXPECT(text[4 * i] == bpe_start(bpe()) && text[4 * i + 1] == bpe_end(bpe()) && !text[4 * i + 2], "example %d", i);
  EXPECT(text[1] != bpe_end(bpe()), "a has one");
  dataset_close(d);
}

TEST("sub-folders are classes, sorted by name") {
  write_picture("kinds/owl/deep/1.png", 2, 2, 2);
  write_picture("kinds/owl-2/1.png", 2, 2, 3);
  write_picture("kinds/ant/1.png", 2, 2, 1);
  Dataset *d = open_data(path_of("kinds"), (DatasetOptions){.in_order = true});
  REQUIRE(d, "");
  REQUIRE(dataset_class_count(d) == 3, "%d", dataset_class_count(d));
  EXPECT_TEXT(dataset_class_name(d, 0), "ant");
  EXPECT_TEXT(dataset_class_name(d, 1), "owl");
  EXPECT_TEXT(dataset_class_name(d, 2), "owl-2");
  int32_t class[3] = {9, 9, 9};
  uint8_t pixel[3 * 3];
  Error err;
  DataWant w = {"class", DTYPE_I32, 0, {0}, class}, image = {"image", DTYPE_U8, 3, {1, 1, 3}, pixel};
  int n = (int)dataset_count(d, WORLD_TRAIN);
  REQUIRE(fill(d, WORLD_TRAIN, 0, n, &w, &err) && fill(d, WORLD_TRAIN, 0, n, &image, &err), "%s", err.text);
  for (int i = 0; i < n; i++) EXPECT(class[i] == pixel[3 * i] - 1, "example %d: class %d", i, class[i]);
  dataset_close(d);
}

TEST("maps of labels are cropped as their picture is, each pixel the label at its centre") {
  static const uint8_t map[2 * 6] = {1, 1, 2, 3, 4, 4, 1, 1, 5, 6, 4, 4};
  write_picture("maps/x.png", 6, 2, 7);
  write_labels("maps/x.labels.png", 6, 2, map);
  write_labels("maps/none.labels.png", 6, 2, map);
  Dataset *d = open_data(path_of("maps"), (DatasetOptions){.strict = true});
  REQUIRE(d, "");
  int32_t labels[16];
  uint8_t pixels[12];
  Error err;
  DataWant w = {"labels", DTYPE_I32, 2, {2, 2}, labels};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 1, &w, &err), "%s", err.text);
  EXPECT(labels[0] == 2 && labels[1] == 3 && labels[2] == 5 && labels[3] == 6, "%d %d", labels[0], labels[1]);
  w = (DataWant){"labels", DTYPE_I32, 2, {4, 4}, labels};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 1, &w, &err), "%s", err.text);
  EXPECT(labels[0] == 2 && labels[1] == 2 && labels[2] == 3 && labels[15] == 6, "%d %d", labels[0], labels[1]);
  static const uint8_t square[9] = {1, 1, 1, 1, 5, 1, 1, 1, 1};
  write_picture("maps/x.png", 3, 3, 7);
  write_labels("maps/x.labels.png", 3, 3, square);
  w = (DataWant){"labels", DTYPE_I32, 2, {1, 1}, labels};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 1, &w, &err), "%s", err.text);
  EXPECT(labels[0] == 5, "the centre, not %d", labels[0]);
  write_packed_labels("maps/x.labels.png", 0xd8); /* 3, 1, 2, 0 */
  w = (DataWant){"labels", DTYPE_I32, 2, {1, 4}, labels};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 1, &w, &err), "%s", err.text);
  EXPECT(labels[0] == 3 && labels[1] == 1 && labels[2] == 2 && labels[3] == 0, "%d %d", labels[0], labels[1]);
  DataWant both[] = {w, {"image", DTYPE_U8, 3, {1, 4, 3}, pixels}};
  REQUIRE(dataset_match(d, NULL, &both[1], &err), "%s", err.text);
  EXPECT(!dataset_fill(d, NULL, WORLD_TRAIN, 0, 1, both, 2, &err), "labels of another size");
  EXPECT_HAS(err.text, "x.labels.png: labels of 4 x 1 for a picture of 3 x 3");
  dataset_close(d);
  write_picture("maps/x.labels.png", 6, 2, 7);
  d = open_data(path_of("maps"), (DatasetOptions){.strict = true});
  REQUIRE(d && !fill(d, WORLD_TRAIN, 0, 1, &w, &err), "colours as labels");
  EXPECT_HAS(err.text, "x.labels.png: a map of labels is grey or has a palette");
  dataset_close(d);
}

TEST("ids that the model has no table for are refused with both numbers, and nothing stands in for them") {
  static const uint8_t map[4] = {1, 2, 255, 3};
  write_picture("ids/ant/x.png", 2, 2, 1);
  write_picture("ids/bee/y.png", 2, 2, 1);
  write_labels("ids/ant/x.labels.png", 2, 2, map);
  write_labels("ids/bee/y.labels.png", 2, 2, map);
  Dataset *d = open_data(path_of("ids"), (DatasetOptions){.whole = true});
  REQUIRE(d, "");
  int32_t labels[4];
  Error err;
  EXPECT_HAS(mismatch(d, (DataWant){"class", DTYPE_I32, 0, {0}, .ids = 1}), "ids has 2 classes, the model takes 1");
  EXPECT_TEXT(mismatch(d, (DataWant){"class", DTYPE_I32, 0, {0}, .ids = 2}), "");
  EXPECT_TEXT(mismatch(d, (DataWant){"class", DTYPE_I32, 0, {0}, .ids = 1, .ignored = 1}), "");
  DataWant w = {"labels", DTYPE_I32, 2, {2, 2}, labels, .ids = 4, .ignored = 255};
  EXPECT(fill(d, WORLD_TRAIN, 0, 1, &w, &err), "%s", err.text);
  w.ignored = 0;
  EXPECT(!fill(d, WORLD_TRAIN, 0, 1, &w, &err), "255 is no class");
  EXPECT_HAS(err.text, "has 255; the model takes 0 to 3");
  w.ids = 3, w.ignored = 255;
  EXPECT(!fill(d, WORLD_TRAIN, 0, 1, &w, &err) && err.code == ERROR_USAGE, "nor is 3 any more");
  EXPECT(!*warnings, "%s", warnings);
  dataset_close(d);
}

/* Twelve pictures, of which these are broken. */
static void make_broken(void) {
  for (int i = 0; i < 12; i++) {
    char name[40];
    snprintf(name, sizeof name, "broken/%02d.png", i);
    if (i == 3)
      write_text(name, "no picture at all");
    else
      write_picture(name, 2, 2, i);
  }
  size_t n;
  Error err;
  char *bytes = file_read(path_of("broken/05.png"), &n, &err);
  write_bytes("broken/05.png", bytes, n / 2);
  mem_free(bytes);
}

TEST(
    "a broken picture is named once with the reason, and the next readable one stands in for it; or it is an error") {
  make_broken();
  Error err;
  uint8_t pixel[12 * 3];
  DataWant w = {"image", DTYPE_U8, 3, {1, 1, 3}, pixel};
  Dataset *d = open_data(path_of("broken"), (DatasetOptions){.in_order = true});
  REQUIRE(d, "");
  int n = (int)dataset_count(d, WORLD_TRAIN);
  REQUIRE(n > 9, "%d", n);
  for (int round = 0; round < 2; round++) REQUIRE(fill(d, WORLD_TRAIN, 0, n, &w, &err), "%s", err.text);
  EXPECT_HAS(warnings, "03.png: not a PNG, JPEG or WebP file (17 bytes); the next one stands in for it\n");
  EXPECT_HAS(warnings, "05.png: damaged PNG: it ends too early; the next one");
  int lines = 0;
  for (const char *p = warnings; (p = strchr(p, '\n')); p++) lines++;
  EXPECT(lines == 2, "%s", warnings);
  EXPECT(pixel[3 * place_of(d, "03")] == 4 && pixel[3 * place_of(d, "05")] == 6, "%d", pixel[9]);
  dataset_close(d);
  d = open_data(path_of("broken"), (DatasetOptions){.in_order = true, .strict = true});
  REQUIRE(d && !fill(d, WORLD_TRAIN, 0, n, &w, &err), "strict");
  EXPECT_HAS(err.text, "03.png: not a PNG");
  dataset_close(d);
  write_text("all/a.png", "x");
  write_text("all/b.png", "y");
  d = open_data(path_of("all"), (DatasetOptions){0});
  REQUIRE(d && !fill(d, WORLD_TRAIN, 0, 1, &w, &err), "nothing to read");
  EXPECT_HAS(err.text, "all: none of 2 examples can be read");
  dataset_close(d);
}

TEST("folders and tables that cannot be are refused by name") {
  write_text("empty/readme.md", "x");
  EXPECT_HAS(refusal(path_of("empty")), "empty: holds neither pictures nor clips (1 other files)");
  write_picture("table/x.png", 2, 2, 0);
  write_text("table/captions.txt", "x.png\tone\nx.png two\n");
  EXPECT_HAS(refusal(path_of("table")), "captions.txt:2: a line must be NAME, a tab, and its caption");
  write_text("table/captions.txt", "\tone\n");
  EXPECT_HAS(refusal(path_of("table")), "captions.txt:1: a line must be NAME");
  write_bytes("table/captions.txt", "x\ta\0b\n", 6);
  EXPECT_HAS(refusal(path_of("table")), "captions.txt:1: a zero byte");
  write_text("table/captions.txt", "");
  write_text("table/metadata.jsonl", "\n{\"file_name\": 3, \"text\": \"x\"}\n");
  EXPECT_HAS(refusal(path_of("table")), "metadata.jsonl:2: it must have \"file_name\" and \"text\"");
  write_text("table/metadata.jsonl", "{\"file_name\": ");
  EXPECT_HAS(refusal(path_of("table")), "metadata.jsonl:1: ");
  char *long_line = calloc(1, (1 << 20) + 20);
  memset(long_line, 'a', (1 << 20) + 10);
  long_line[1] = '\t';
  write_text("table/captions.txt", long_line);
  EXPECT_HAS(refusal(path_of("table")), "captions.txt:1: a line of 1048586 bytes; at most 1048576");
  free(long_line);
}

TEST("JPEG pictures are read like PNG ones, by whichever of its suffixes") {
  static const char *const name[] = {"jpegs/a.jpg", "jpegs/b.jpeg", "jpegs/c.JPG"};
  for (int i = 0; i < 3; i++) write_jpeg(name[i], 16, 16, 60 * i + 60);
  Dataset *d = open_data(path_of("jpegs"), (DatasetOptions){.in_order = true, .strict = true});
  REQUIRE(d, "");
  EXPECT_TEXT(keys_of(d, WORLD_TRAIN), "a b c ");
  uint8_t pixel[3 * 3];
  Error err;
  DataWant w = {"image", DTYPE_U8, 3, {1, 1, 3}, pixel};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 3, &w, &err), "%s", err.text);
  for (int i = 0; i < 3; i++) EXPECT(abs(pixel[3 * i] - (60 * i + 60)) <= 3, "%d: %d", i, pixel[3 * i]);
  dataset_close(d);
}

/* ---- parts and epochs ---- */

TEST("a part is held out by the hash of keys, and stays whatever else comes or goes") {
  char name[60], held[2000];
  for (int i = 0; i < 300; i++) snprintf(name, sizeof name, "parts/%03d.png", i), write_picture(name, 1, 1, i % 256);
  Dataset *d = open_data(path_of("parts"), (DatasetOptions){.in_order = true});
  REQUIRE(d, "");
  uint64_t n = dataset_count(d, WORLD_VALIDATION), all = n + dataset_count(d, WORLD_TRAIN);
  EXPECT(n > 4 && n < 30 && all == 300, "%d of %d", (int)n, (int)all);
  snprintf(held, sizeof held, "%s", keys_of(d, WORLD_VALIDATION));
  char digest[65];
  snprintf(digest, sizeof digest, "%s", dataset_digest(d));
  dataset_close(d);
  write_picture("parts/more/1.png", 1, 1, 0);
  if (unlink(path_of("parts/000.png")) != 0) abort();
  d = open_data(path_of("parts"), (DatasetOptions){.in_order = true});
  REQUIRE(d, "");
  const char *now = keys_of(d, WORLD_VALIDATION), *first = strncmp(held, "000 ", 4) == 0 ? held + 4 : held;
  EXPECT(strncmp(now, first, strlen(first)) == 0, "%s\n%s", now, held);
  EXPECT(strcmp(digest, dataset_digest(d)) != 0, "another listing has another digest");
  dataset_close(d);
}

TEST("positions are an endless sequence of epochs, each of which shows every example once") {
  char name[60];
  for (int i = 0; i < 40; i++) snprintf(name, sizeof name, "epochs/%02d.png", i), write_picture(name, 1, 1, i);
  Dataset *d = open_data(path_of("epochs"), (DatasetOptions){.seed = 11});
  REQUIRE(d, "");
  int n = (int)dataset_count(d, WORLD_TRAIN), differs = 0;
  uint8_t pixel[3 * 3 * 40], part[3 * 7];
  Error err;
  DataWant w = {"image", DTYPE_U8, 3, {1, 1, 3}, pixel};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 3 * n, &w, &err), "%s", err.text);
  for (int epoch = 0; epoch < 3; epoch++) {
    uint64_t seen = 0;
    for (int i = 0; i < n; i++) seen |= UINT64_C(1) << pixel[3 * (epoch * n + i)];
    EXPECT(__builtin_popcountll(seen) == n, "epoch %d", epoch);
  }
  for (int i = 0; i < n; i++) differs += pixel[3 * i] != pixel[3 * (n + i)];
  EXPECT(differs > n / 2, "epochs have orders of their own");
  w.out = part; /* across the end of an epoch, read alone */
  REQUIRE(fill(d, WORLD_TRAIN, (uint64_t)n - 3, 7, &w, &err), "%s", err.text);
  EXPECT(memcmp(part, pixel + 3 * (n - 3), sizeof part) == 0, "a batch that is read again");
  dataset_close(d);
}

TEST("of data that are opened whole nothing is held out") {
  char name[60];
  for (int i = 0; i < 60; i++) snprintf(name, sizeof name, "whole/%02d.png", i), write_picture(name, 1, 1, i);
  Dataset *d = open_data(path_of("whole"), (DatasetOptions){.whole = true});
  REQUIRE(d, "");
  EXPECT(dataset_count(d, WORLD_TRAIN) == 60 && dataset_count(d, WORLD_VALIDATION) == 0, "");
  dataset_close(d);
  d = open_data(path_of("whole"), (DatasetOptions){0});
  REQUIRE(d, "");
  EXPECT(dataset_count(d, WORLD_TRAIN) < 60, "else some are");
  dataset_close(d);
}

/* ---- flips ---- */

/* Whether position i shows its picture mirrored: its columns have the values 10 and 20, as its labels do. */
static void read_flips(const Dataset *d, WorldSplit part, uint64_t first, int n, bool *out) {
  enum { MOST = 80 };
  static float image[MOST * 2 * 3];
  static uint8_t grey[MOST * 2];
  static int32_t labels[MOST * 4];
  Error err;
  DataWant w[] = {{"image", DTYPE_F32, 3, {1, 2, 3}, image},
                  {"image", DTYPE_U8, 3, {1, 2, 1}, grey},
                  {"labels", DTYPE_I32, 2, {1, 4}, labels}};
  for (int i = 0; i < 3; i++)
    if (!dataset_match(d, NULL, &w[i], &err)) TEST_FAIL_("%s", err.text);
  if (n > MOST || !dataset_fill(d, NULL, part, first, n, w, 3, &err)) TEST_FAIL_("%s", err.text);
  for (int i = 0; i < n; i++) {
    out[i] = image[6 * i] > image[6 * i + 3];
    EXPECT(out[i] == (grey[2 * i] > grey[2 * i + 1]) && out[i] == (labels[4 * i] > labels[4 * i + 3]) &&
               labels[4 * i] == labels[4 * i + 1],
           "example %d: the map of labels flips with its picture", i);
  }
}

TEST("half of the examples of an epoch are mirrored with their labels, others in the next, the same when read again") {
  enum { N = 40 };
  static const uint8_t map[2] = {10, 20};
  char name[60];
  for (int i = 0; i < N; i++) {
    Image im;
    Error err;
    if (!image_init(&im, 2, 1, &err)) abort();
    for (int k = 0; k < 6; k++) im.rgb[k] = k < 3 ? 10 : 20;
    snprintf(name, sizeof name, "flips/%02d.png", i);
    REQUIRE(image_write_png(path_of(name), &im, NULL, 0, &err), "%s", err.text);
    image_done(&im);
    snprintf(name, sizeof name, "flips/%02d.labels.png", i);
    write_labels(name, 2, 1, map);
  }
  snprintf(name, sizeof name, "%s:flip", path_of("flips"));
  Dataset *d = open_data(name, (DatasetOptions){.seed = 4}), *plain = open_data(path_of("flips"), (DatasetOptions){.seed = 4});
  Dataset *measured = open_data(name, (DatasetOptions){.seed = 4, .measures = true});
  REQUIRE(d && plain && measured, "");
  int n = (int)dataset_count(d, WORLD_TRAIN), held = (int)dataset_count(d, WORLD_VALIDATION), flipped = 0, differs = 0;
  bool two[2 * N], again[7], other[N];
  read_flips(d, WORLD_TRAIN, 0, 2 * n, two);
  read_flips(d, WORLD_TRAIN, (uint64_t)n - 3, 7, again);
  EXPECT(memcmp(again, two + n - 3, sizeof again) == 0, "a batch that is read again");
  for (int epoch = 0; epoch < 2; epoch++)
    for (int i = 0; i < n; i++) flipped += two[epoch * n + i];
  EXPECT(flipped > n / 2 && flipped < 3 * n / 2, "%d of %d", flipped, 2 * n);
  for (int i = 0; i < n; i++) {
    Buffer key[2] = {{0}, {0}};
    dataset_key(d, WORLD_TRAIN, (uint64_t)i, &key[0]);
    for (int k = n; k < 2 * n; k++) {
      key[1].len = 0;
      dataset_key(d, WORLD_TRAIN, (uint64_t)k, &key[1]);
      differs += strcmp(key[0].data, key[1].data) == 0 && two[i] != two[k];
    }
    buffer_done(&key[0]);
    buffer_done(&key[1]);
  }
  EXPECT(differs > n / 5 && differs < 4 * n / 5, "of %d examples %d are flipped in one epoch alone", n, differs);
  read_flips(plain, WORLD_TRAIN, 0, n, other);
  for (int i = 0; i < n; i++) EXPECT(!other[i], "without the option none is");
  read_flips(measured, WORLD_TRAIN, 0, n, other);
  for (int i = 0; i < n; i++) EXPECT(!other[i], "nor is one where a model is measured");
  if (held) read_flips(d, WORLD_VALIDATION, 0, held, other);
  for (int i = 0; i < held; i++) EXPECT(!other[i], "what is held out is shown as it is");
  dataset_close(d);
  dataset_close(measured);
  dataset_close(plain);
  EXPECT_HAS(refusal("world:flip,size=32"), "no flip: captions of the world say left and right");
  EXPECT_HAS(refusal("world:size=32,flip"), "no flip: captions");
  snprintf(name, sizeof name, "%s:flip,mirror", path_of("flips"));
  EXPECT_HAS(refusal(name), "\"mirror\"");
}

/* ---- arrays ---- */

TEST("an array of clips in 8 bits is fed as floats from -1 to 1, is not mirrored, and is no array of other numbers") {
  static const uint8_t frames[2 * 2 * 1 * 2 * 3] = {0, 255, 51};
  static const int64_t long_ones[2 * 2 * 1 * 2 * 3];
  Error err = {0};
  TensorView v = {.name = "video", .dtype = DTYPE_U8, .stored = STORED_U8, .rank = 5, .dim = {2, 2, 1, 2, 3}, .data = frames, .bytes = sizeof frames};
  REQUIRE(safetensors_write(path_of("v.safetensors"), &v, 1, NULL, 0, &err), "%s", err.text);
  Dataset *d = dataset_open(path_of("v.safetensors"), &(DatasetOptions){.in_order = true, .whole = true}, &err);
  float got[12] = {0};
  DataWant want = {"video", DTYPE_F32, 4, {2, 1, 2, 3}, got};
  REQUIRE(d && dataset_match(d, NULL, &want, &err) && dataset_fill(d, NULL, WORLD_TRAIN, 0, 1, &want, 1, &err), "%s", err.text);
  EXPECT(got[0] == -1.0f && got[1] == 1.0f && got[2] == 51 * (2.0f / 255.0f) - 1.0f, "%g %g %g", (double)got[0], (double)got[1], (double)got[2]);
  dataset_close(d);
  char flips[100];
  snprintf(flips, sizeof flips, "%s:flip", path_of("v.safetensors"));
  EXPECT_HAS(refusal(flips), "no flip: the array \"video\" would stay as it is");
  v = (TensorView){.name = "video", .dtype = DTYPE_I32, .stored = STORED_I32, .rank = 5, .dim = {2, 2, 1, 2, 3}, .data = long_ones,
                   .bytes = sizeof long_ones / 2};
  REQUIRE(safetensors_write(path_of("v.safetensors"), &v, 1, NULL, 0, &err), "%s", err.text);
  EXPECT_HAS(refusal(path_of("v.safetensors")), "\"video\" is I32: of pictures and clips the numbers are U8, or floats in [-1, 1]");
}

TEST("arrays of a safetensors file are fed by their own names and sizes, image as a picture, class as a class") {
  enum { EXAMPLES = 5 };
  float x[EXAMPLES * 6];
  int32_t class[EXAMPLES] = {0, 3, 1, 2, 1}, classes[EXAMPLES];
  uint8_t image[EXAMPLES * 4];
  for (int i = 0; i < EXAMPLES * 6; i++) x[i] = (float)i;
  for (int i = 0; i < EXAMPLES * 4; i++) image[i] = (uint8_t)(i / 4 * 10 + 2 * (i % 2));
  TensorView v[] = {
      {.name = "x", .dtype = DTYPE_F32, .rank = 3, .dim = {EXAMPLES, 2, 3}, .data = x, .bytes = sizeof x},
      {.name = "image", .dtype = DTYPE_U8, .rank = 3, .dim = {EXAMPLES, 2, 2}, .data = image, .bytes = sizeof image},
      {.name = "class", .dtype = DTYPE_I32, .rank = 1, .dim = {EXAMPLES}, .data = class, .bytes = sizeof class}};
  Error err;
  REQUIRE(safetensors_write(path_of("a.safetensors"), v, 3, NULL, 0, &err), "%s", err.text);
  Dataset *d = open_data(path_of("a.safetensors"), (DatasetOptions){.in_order = true});
  REQUIRE(d, "");
  int n = (int)dataset_count(d, WORLD_TRAIN);
  float got[EXAMPLES * 6], grey[EXAMPLES];
  DataWant w = {"x", DTYPE_F32, 2, {2, 3}, got};
  DataWant of_class = {"class", DTYPE_I32, 0, {0}, classes};
  REQUIRE(fill(d, WORLD_TRAIN, 0, n, &w, &err) && fill(d, WORLD_TRAIN, 0, n, &of_class, &err), "%s", err.text);
  EXPECT(dataset_class_count(d) == 4, "%d", dataset_class_count(d));
  for (int i = 0; i < n; i++) {
    Buffer key = {0};
    dataset_key(d, WORLD_TRAIN, (uint64_t)i, &key);
    int number = atoi(key.data);
    EXPECT(memcmp(got + 6 * i, x + 6 * number, 6 * sizeof *x) == 0 && classes[i] == class[number], "example %d", i);
    buffer_done(&key);
  }
  w = (DataWant){"image", DTYPE_F32, 3, {1, 1, 1}, grey};
  REQUIRE(fill(d, WORLD_TRAIN, 0, n, &w, &err), "%s", err.text);
  EXPECT(grey[0] == 1.0f * (2.0f / 255.0f) - 1.0f || place_of(d, "0") != 0, "%g", (double)grey[0]);
  EXPECT_HAS(mismatch(d, (DataWant){"x", DTYPE_F32, 2, {3, 2}}), "x f32 [3, 2] is wanted of every example; ");
  EXPECT_HAS(mismatch(d, (DataWant){"x", DTYPE_F32, 2, {3, 2}}),
             " has x F32 [2, 3], image f32 or u8 [any, any, 3 or 1], class i32 []");
  EXPECT_HAS(mismatch(d, (DataWant){"x", DTYPE_I32, 2, {2, 3}}), "x i32 [2, 3] is wanted");
  dataset_close(d);
  char flips[100];
  snprintf(flips, sizeof flips, "%s:flip", path_of("a.safetensors"));
  EXPECT_TEXT(refusal(flips), "");
  v[0].name = "labels";
  REQUIRE(safetensors_write(path_of("b.safetensors"), v, 3, NULL, 0, &err), "%s", err.text);
  snprintf(flips, sizeof flips, "%s:flip", path_of("b.safetensors"));
  EXPECT_HAS(refusal(flips), "no flip: the array \"labels\" would stay as it is");
  v[0].name = "x";
  class[2] = -1;
  REQUIRE(safetensors_write(path_of("b.safetensors"), v, 3, NULL, 0, &err), "%s", err.text);
  EXPECT_HAS(refusal(path_of("b.safetensors")), "b.safetensors: example 2 has class -1; they are 0 to ");
  v[1] = (TensorView){.name = "y", .dtype = DTYPE_U8, .rank = 1, .dim = {4}, .data = image, .bytes = 4};
  REQUIRE(safetensors_write(path_of("b.safetensors"), v, 2, NULL, 0, &err), "%s", err.text);
  EXPECT_HAS(refusal(path_of("b.safetensors")), "has 4 examples, \"");
  write_text("c.safetensors", "no file of tensors");
  EXPECT_HAS(refusal(path_of("c.safetensors")), "c.safetensors");
}

TEST("pictures of floats are fed as they are where the sizes fit, and resized where they do not") {
  float x[2 * 2 * 2 * 3], got[2 * 2 * 2 * 3];
  uint8_t small[2 * 3];
  for (int i = 0; i < 24; i++) x[i] = (float)i / 23.0f - 0.3f;
  TensorView v = {.name = "image", .dtype = DTYPE_F32, .rank = 4, .dim = {2, 2, 2, 3}, .data = x, .bytes = sizeof x};
  Error err;
  REQUIRE(safetensors_write(path_of("f.safetensors"), &v, 1, NULL, 0, &err), "%s", err.text);
  Dataset *d = open_data(path_of("f.safetensors"), (DatasetOptions){.in_order = true, .whole = true});
  REQUIRE(d, "");
  DataWant w = {"image", DTYPE_F32, 3, {2, 2, 3}, got};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 2, &w, &err), "%s", err.text);
  EXPECT(memcmp(got, x, sizeof x) == 0, "not one bit is lost");
  w = (DataWant){"image", DTYPE_U8, 3, {1, 1, 3}, small};
  REQUIRE(fill(d, WORLD_TRAIN, 0, 2, &w, &err), "%s", err.text);
  for (int i = 0; i < 6; i++) {
    const float *p = x + i / 3 * 12 + i % 3;
    float mean = (p[0] + p[3] + p[6] + p[9]) / 4 * 127.5f + 127.5f;
    EXPECT(mean - (float)small[i] < 1 && mean - (float)small[i] > -1, "%d: %d, not %g", i, small[i], (double)mean);
  }
  dataset_close(d);
}

/* images [n, 2, 3] of bytes i, and labels i % 3. */
static void write_idx(const char *prefix, int n, bool gzipped) {
  uint8_t images[16 + 6 * 50] = {0, 0, 8, 3, 0, 0, 0, (uint8_t)n, 0, 0, 0, 2, 0, 0, 0, 3};
  uint8_t labels[8 + 50] = {0, 0, 8, 1, 0, 0, 0, (uint8_t)n};
  char name[2][80];
  for (int i = 0; i < n; i++) memset(images + 16 + 6 * i, i, 6), labels[8 + i] = (uint8_t)(i % 3);
  snprintf(name[0], 80, "%s-images-idx3-ubyte%s", prefix, gzipped ? ".gz" : "");
  snprintf(name[1], 80, "%s-labels-idx1-ubyte%s", prefix, gzipped ? ".gz" : "");
  const uint8_t *bytes[] = {images, labels};
  const size_t size[] = {16 + 6 * (size_t)n, 8 + (size_t)n};
  for (int k = 0; k < 2; k++) {
    if (!gzipped) {
      write_bytes(name[k], bytes[k], size[k]);
      continue;
    }
    gzFile f = gzopen(path_of(name[k]), "wb");
    if (!f || gzwrite(f, bytes[k], (unsigned)size[k]) != (int)size[k] || gzclose(f) != Z_OK) abort();
  }
}

TEST("IDX files are read, gzipped or not") {
  for (int gzipped = 0; gzipped < 2; gzipped++) {
    char spec[100];
    write_idx(gzipped ? "packed" : "plain", 50, gzipped);
    snprintf(spec, sizeof spec, "idx:%s", path_of(gzipped ? "packed" : "plain"));
    Dataset *d = open_data(spec, (DatasetOptions){.in_order = true});
    REQUIRE(d, "");
    int n = (int)dataset_count(d, WORLD_TRAIN);
    EXPECT(n + (int)dataset_count(d, WORLD_VALIDATION) == 50 && dataset_class_count(d) == 3, "%d", n);
    uint8_t pixel[50];
    int32_t class[50];
    Error err;
    DataWant image = {"image", DTYPE_U8, 3, {1, 1, 1}, pixel}, w = {"class", DTYPE_I32, 0, {0}, class};
    REQUIRE(fill(d, WORLD_TRAIN, 0, n, &image, &err) && fill(d, WORLD_TRAIN, 0, n, &w, &err), "%s", err.text);
    for (int i = 0; i < n; i++) {
      int want = pixel[i] % 3;
      EXPECT(class[i] == want, "example %d", i);
    }
    dataset_close(d);
  }
}

TEST("IDX files that say what they do not hold are refused by name") {
  static const struct {
    uint8_t bytes[20];
    size_t n;
    const char *says;
  } cases[] = {{{0}, 0, "not an IDX file (0 bytes)"},
               {{0, 1, 8, 1}, 4, "not an IDX file (4 bytes)"},
               {{0, 0, 13, 3, 0, 0, 0, 1}, 8, "IDX elements of type 0x0d; only 0x08 (u8) is read"},
               {{0, 0, 8, 0}, 4, "an IDX array of 0 axes; 1 to 4 are read"},
               {{0, 0, 8, 200}, 4, "an IDX array of 200 axes"},
               {{0, 0, 8, 3, 0, 0, 0}, 7, "ends within its head"},
               {{0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 1}, 17, "an IDX array of 2 elements in 1 bytes"},
               {{0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}, 16, "elements in 0 bytes"},
               {{0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, 16, "\"image\" holds no example"},
               {{0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, 16, "pictures of 1 x 0"},
               {{0, 0, 8, 1, 0, 0, 0, 1, 7}, 9, "an array of 1 axes, not 3"},
               {{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2}, 12, "gzip"}};
  char spec[100];
  write_idx("bad", 4, false);
  snprintf(spec, sizeof spec, "idx:%s", path_of("bad"));
  for (int i = 0; i < COUNT_OF(cases); i++) {
    write_bytes("bad-images-idx3-ubyte", cases[i].bytes, cases[i].n);
    EXPECT_HAS(refusal(spec), "bad-images-idx3-ubyte: ");
    EXPECT_HAS(refusal(spec), cases[i].says);
  }
  write_idx("cut", 50, true);
  size_t n;
  Error err;
  char *bytes = file_read(path_of("cut-images-idx3-ubyte.gz"), &n, &err);
  write_bytes("cut-images-idx3-ubyte.gz", bytes, n - 12);
  mem_free(bytes);
  snprintf(spec, sizeof spec, "idx:%s", path_of("cut"));
  EXPECT_HAS(refusal(spec), "cut-images-idx3-ubyte.gz: ");
  EXPECT_HAS(refusal("idx:/no/such"),
             "neither /no/such-images-idx3-ubyte nor /no/such-images-idx3-ubyte.gz is there");
}

TEST("the first caption that a model does not read to its end is named, once") {
  write_picture("long/a.png", 2, 2, 1);
  write_text("long/a.txt", "me\n");
  for (int i = 0; i < 2; i++) {
    write_picture(i ? "long/b.png" : "long/c.png", 2, 2, 1);
    write_text(i ? "long/b.txt" : "long/c.txt", "seven\n");
  }
  int32_t text[3 * 5];
  DataWant w = {"text", DTYPE_I32, 1, {5}, text};
  Error err = {0};
  Dataset *d = open_data(path_of("long"), (DatasetOptions){.in_order = true, .whole = true, .warn = warn});
  *warnings = 0;
  REQUIRE(d && dataset_match(d, bpe(), &w, &err) && dataset_fill(d, bpe(), WORLD_TRAIN, 0, 3, &w, 1, &err), "%s", err.text);
  EXPECT_HAS(warnings, "long: the caption of \"b\" has 5 tokens, of which the model reads 3; others may be cut, too\n");
  EXPECT(!strstr(warnings, "\"c\"") && !strstr(warnings, "stands in"), "%s", warnings);
  *warnings = 0;
  EXPECT(dataset_fill(d, bpe(), WORLD_TRAIN, 0, 3, &w, 1, &err) && !*warnings, "%s%s", err.text, warnings);
  dataset_close(d);
}

TEST("running out of memory anywhere is reported, and nothing is told to be broken for it") {
  static const uint8_t map[4] = {1, 2, 3, 4};
  char spec[2][100];
  write_picture("short/a/x.png", 2, 2, 1);
  write_labels("short/a/x.labels.png", 2, 2, map);
  write_text("short/a/x.txt", "one\n");
  write_picture("short/b/y.png", 2, 2, 1);
  write_labels("short/b/y.labels.png", 2, 2, map);
  write_text("short/b/metadata.jsonl", "{\"file_name\": \"y.png\", \"text\": \"two\"}\n");
  write_idx("short_idx", 4, false);
  snprintf(spec[0], 100, "%s", path_of("short"));
  snprintf(spec[1], 100, "idx:%s", path_of("short_idx"));
  bpe();
  for (int k = 0; k < 2; k++) {
    int failures = 0;
    for (uint64_t at = 1;; at++) {
      uint8_t image[2 * 3];
      int32_t text[2 * 5], labels[2], class[2];
      DataWant w[] = {{"image", DTYPE_U8, 3, {1, 1, 3}, image},
                      {"class", DTYPE_I32, 0, {0}, class},
                      {"text", DTYPE_I32, 1, {5}, text},
                      {"labels", DTYPE_I32, 2, {1, 1}, labels}};
      Error err = {0};
      int n = k ? 2 : 4;
      *warnings = 0;
      mem_fail_at(at);
      Dataset *d = dataset_open(spec[k], &(DatasetOptions){.warn = warn, .whole = true}, &err);
      bool ok = d != NULL;
      for (int i = 0; ok && i < n; i++) ok = dataset_match(d, bpe(), &w[i], &err);
      ok = ok && dataset_fill(d, bpe(), WORLD_TRAIN, 0, 2, w, n, &err);
      mem_fail_at(0);
      dataset_close(d);
      EXPECT(ok || err.code == ERROR_MEMORY, "allocation %d: %s", (int)at, err.text);
      EXPECT(!*warnings, "allocation %d: %s", (int)at, warnings);
      failures += !ok;
      if (ok && at > 200) break;
    }
    EXPECT(failures > 10, "%d", failures);
  }
}

TEST_MAIN()
