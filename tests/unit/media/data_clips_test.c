/* Clips in folders as examples: files, folders of frames, rates, clips that are too short. */
#include <pthread.h>

#include <png.h>

#include "media/dataset.h"
#include "runtime/base/hooks.h"
#include "tests/test.h"
#include "tests/unit/media/clip_make.h"
#include "tests/unit/media/data_files.h"

static char warnings[4000];

static void warn(void *ctx, const char *text) { snprintf(warnings, sizeof warnings, "%s\n", text); }

static Dataset *open_data(const char *spec) {
  static Error err;
  *warnings = 0;
  Dataset *d = dataset_open(spec, &(DatasetOptions){.in_order = true, .whole = true, .warn = warn}, &err);
  if (!d) snprintf(warnings, sizeof warnings, "%s", err.text);
  return d;
}

static void write_clip(const char *name, const ClipMake *m) {
  Buffer b = m->format ? make_clip(m) : make_webp(m);
  write_bytes(name, b.data, b.len);
  buffer_done(&b);
}

/* "0 1 2 3 | 0 0": which of clip_make.h's greys the frames of each example show, by the pixel at the top left; and
 * "!" with the reason where they cannot be had. */
static const char *videos_of(const Dataset *d, int64_t frames) {
  static char text[2000];
  static uint8_t out[16 * 16 * 12 * 16 * 3];
  Error err;
  size_t at = 0, n = (size_t)dataset_count(d, WORLD_TRAIN);
  DataWant w = {"video", DTYPE_U8, 4, {frames, 12, 16, 3}, out};
  *text = 0;
  if (!dataset_match(d, NULL, &w, &err) || !dataset_fill(d, NULL, WORLD_TRAIN, 0, (int64_t)n, &w, 1, &err))
    return snprintf(text, sizeof text, "! %s", err.text), text;
  for (size_t i = 0; i < n * (size_t)frames; i++)
    at += (size_t)snprintf(text + at, sizeof text - at, "%s%d",
                           !i                   ? ""
                           : i % (size_t)frames ? " "
                                                : " | ",
                           (out[i * 12 * 16 * 3] - 30 + 20) / 40);
  return text;
}

static const char *keys_of(const Dataset *d) {
  static Buffer b;
  b.len = 0;
  for (uint64_t i = 0; i < dataset_count(d, WORLD_TRAIN); i++) {
    dataset_key(d, WORLD_TRAIN, i, &b);
    buffer_append(&b, " ", 1);
  }
  return b.data;
}

static const char *fields_of(const Dataset *d) {
  static Buffer b;
  int n;
  const DataField *f = dataset_fields(d, &n);
  b.len = 0;
  for (int i = 0; i < n; i++) {
    dataset_print_field(&f[i], &b);
    buffer_printf(&b, " (%d)\n", (int)f[i].missing);
  }
  return b.data;
}

static void make_folder(void) {
  ClipMake gif = {"gif", "gif", AV_PIX_FMT_PAL8, 32, 24, 4}, webp = {.width = 32, .height = 24, .frames = 5};
  write_clip("clips/a.gif", &gif);
  write_clip("clips/b.WebP", &webp);
  for (int i = 0; i < 3; i++) {
    static const char *const names[] = {"clips/c.frames/2.png", "clips/c.frames/10.png", "clips/c.frames/011.png"};
    write_picture(names[i], 16, 12, make_grey(i));
  }
  write_text("clips/c.frames/notes.md", "no frame");
  write_text("clips/c.frames/deep/x", "no frame");
  write_text("clips/c.txt", "counts up");
  write_text("clips/captions.txt", "a.gif\tfour\nb\tfive\n");
}

TEST("clips are examples with their captions, their frames by number, and a picture of them is the first") {
  make_folder();
  Dataset *d = open_data(path_of("clips"));
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(keys_of(d), "a b c ");
  EXPECT_TEXT(
      fields_of(d),
      "image f32 or u8 [any, any, 3 or 1] (0)\nvideo f32 or u8 [any, any, any, 3 or 1] (0)\ntext i32 [any] (0)\n");
  EXPECT_TEXT(videos_of(d, 3), "0 1 2 | 0 1 2 | 0 1 2");
  EXPECT_TEXT(videos_of(d, 1), "0 | 0 | 0");
  Buffer b = {0};
  Error err;
  EXPECT(dataset_caption(d, WORLD_TRAIN, 0, &b, &err) && dataset_caption(d, WORLD_TRAIN, 2, &b, &err), "%s",
         err.text);
  EXPECT_TEXT(b.data, "fourcounts up");
  b.len = 0;
  dataset_print_notes(d, &b);
  EXPECT_TEXT(b.data, "2 files are neither pictures nor clips and were passed over, \"c.frames/deep\" the first\n");
  buffer_done(&b);
  dataset_close(d);
}

TEST("a rate picks frames by time, of folders of frames takes all; short clips are refused, or their last frame "
     "stays") {
  char spec[500];
  make_folder();
  snprintf(spec, sizeof spec, "%s:fps=5", path_of("clips"));
  Dataset *d = open_data(spec);
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(videos_of(d, 2), "0 2 | 0 2 | 0 1");
  EXPECT_TEXT(videos_of(d, 3), "0 2 4 | 0 2 4 | 0 1 2"); /* b stands in for a, which is too short */
  EXPECT_HAS(warnings, "clips/a.gif: a clip of 2 frames at this rate, where 3 are wanted (short=hold lets the last "
                       "one stay); the next one");
  dataset_close(d);
  snprintf(spec, sizeof spec, "%s:short=hold,fps=5", path_of("clips"));
  d = open_data(spec);
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(videos_of(d, 5), "0 2 2 2 2 | 0 2 4 4 4 | 0 1 2 2 2");
  EXPECT_TEXT(warnings, "");
  dataset_close(d);
  d = open_data(path_of("clips"));
  EXPECT_HAS(videos_of(d, 6), "clips: none of 3 examples can be read, this one neither: ");
  dataset_close(d);
}

static void write_labels(const char *name, int label) {
  png_image png = {.version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_GRAY, .width = 16, .height = 12};
  uint8_t labels[16 * 12];
  memset(labels, label, sizeof labels);
  if (!png_image_write_to_file(&png, path_of(name), 0, labels, 0, NULL)) abort();
}

TEST("a map of labels beside a folder of frames is of nobody: those of frames lie in it") {
  Error err = {0};
  Buffer b = {0};
  write_picture("beside/v.frames/1.png", 2, 2, 1);
  write_labels("beside/v.labels.png", 1);
  Dataset *d = dataset_open(path_of("beside"), &(DatasetOptions){0}, &err);
  REQUIRE(d, "%s", err.text);
  dataset_print_notes(d, &b);
  EXPECT_HAS(b.data ? b.data : "", "1 maps of labels belong to no example, \"v.labels.png\" the first");
  int n;
  const DataField *field = dataset_fields(d, &n);
  for (int i = 0; i < n; i++) EXPECT(strcmp(field[i].name, "labels") != 0, "it has labels");
  buffer_done(&b);
  dataset_close(d);
}

TEST("frames of a folder have labels each, of which a picture of it has the first") {
  for (int i = 0; i < 3; i++) {
    char name[40];
    snprintf(name, sizeof name, "sketch/v.frames/%d.png", i);
    write_picture(name, 16, 12, make_grey(i));
    snprintf(name, sizeof name, "sketch/v.frames/%d.labels.png", i);
    write_labels(name, 7 + i);
  }
  Dataset *d = open_data(path_of("sketch"));
  REQUIRE(d, "%s", warnings);
  EXPECT_HAS(fields_of(d), "labels i32 [any, any] (0)\nlabels i32 [any, any, any] (0)\n");
  uint8_t rgb[3 * 3];
  int32_t labels[3], first[1];
  Error err;
  DataWant w[] = {{"video", DTYPE_U8, 4, {3, 1, 1, 3}, rgb},
                  {"labels", DTYPE_I32, 3, {3, 1, 1}, labels},
                  {"labels", DTYPE_I32, 2, {1, 1}, first}};
  for (int i = 0; i < 3; i++) REQUIRE(dataset_match(d, NULL, &w[i], &err), "%s", err.text);
  REQUIRE(dataset_fill(d, NULL, WORLD_TRAIN, 0, 1, w, 3, &err), "%s", err.text);
  EXPECT(labels[0] == 7 && labels[1] == 8 && labels[2] == 9 && first[0] == 7, "%d %d %d %d", labels[0], labels[1],
         labels[2], first[0]);
  EXPECT(rgb[0] == make_grey(0) && rgb[6] == make_grey(2), "%d %d", rgb[0], rgb[6]);
  DataWant longer = {"labels", DTYPE_I32, 3, {4, 1, 1}, labels};
  REQUIRE(dataset_match(d, NULL, &longer, &err) && !dataset_fill(d, NULL, WORLD_TRAIN, 0, 1, &longer, 1, &err),
          "4 of 3");
  EXPECT_HAS(err.text, "v.frames: a clip of 3 frames, where 4 are wanted (short=hold lets the last one stay)");
  if (unlink(path_of("sketch/v.frames/1.labels.png")) != 0) abort();
  EXPECT(!dataset_fill(d, NULL, WORLD_TRAIN, 0, 1, &w[1], 1, &err), "one is gone");
  EXPECT_HAS(err.text, "v.frames/1.labels.png: No such file");
  dataset_close(d);
}

TEST("options of a folder that are none, and folders that are none, are refused") {
  char spec[500];
  static const struct {
    const char *options, *reason;
  } bad[] = {{":fps=0", "\"0\" is no rate"},
             {":speed=2", "\"speed=2\" is no option; there are flip"},
             {":fps=8,", "\"\" is no option"},
             {"/none:fps=8", "no such folder; data are "}};
  make_folder();
  for (int k = 0; k < COUNT_OF(bad); k++) {
    snprintf(spec, sizeof spec, "%s%s", path_of("clips"), bad[k].options);
    Dataset *d = open_data(spec);
    EXPECT_HAS(warnings, bad[k].reason);
    dataset_close(d);
  }
}

TEST("pictures among clips are examples of the one and not of the other, still WebP too") {
  ClipMake webp = {.width = 32, .height = 24, .frames = 3}, still = {.width = 32, .height = 24, .frames = 1};
  write_clip("mixed/moves.webp", &webp);
  write_clip("mixed/rests.webp", &still);
  write_picture("mixed/z.png", 16, 12, make_grey(2));
  Dataset *d = open_data(path_of("mixed"));
  REQUIRE(d, "%s", warnings);
  EXPECT_HAS(fields_of(d), "image f32 or u8 [any, any, 3 or 1] (0)\nvideo f32 or u8 [any, any, any, 3 or 1] (2)\n");
  EXPECT_HAS(videos_of(d, 3), "2 of 3 examples have no video, \"rests\" the first of them");
  EXPECT_TEXT(videos_of(d, 1), "0 | 0 | 2");
  dataset_close(d);
}

TEST("broken clips are named with the reason, and the next one stands in: cut short, of no frames, of sound alone") {
  ClipMake gif = {"gif", "gif", AV_PIX_FMT_PAL8, 32, 24, 4}, sound = {.format = "mov", .with_sound_only = true};
  Buffer b = make_clip(&gif);
  static const char *const reasons[] = {
      "1.mp4: a GIF that is cut short or damaged", "1.mp4: holds no video (1 other streams)",
      "1.frames: a clip of 0 frames, where 2 are wanted", "1.frames/0.jpg: not a PNG, JPEG or WebP"};
  for (int k = 0; k < 4; k++) {
    char name[60], folder_name[40];
    snprintf(folder_name, sizeof folder_name, "broken%d", k);
    snprintf(name, sizeof name, "%s/%s", folder_name, k < 2 ? "1.mp4" : k == 2 ? "1.frames/x" : "1.frames/0.jpg");
    if (k == 0)
      write_bytes(name, b.data, b.len / 2);
    else if (k == 1)
      write_clip(name, &sound);
    else
      write_text(name, "text");
    snprintf(name, sizeof name, "%s/2.mp4", folder_name);
    write_bytes(name, b.data, b.len); /* whatever it is called */
    Dataset *d = open_data(path_of(folder_name));
    REQUIRE(d, "%s", warnings);
    EXPECT_TEXT(videos_of(d, 2), "0 1 | 0 1");
    EXPECT_HAS(warnings, reasons[k]);
    dataset_close(d);
  }
  buffer_done(&b);
}

typedef struct Reader {
  const Dataset *d;
  uint8_t rgb[4 * 3 * 6 * 8 * 3]; /* of four examples, three frames of 6 x 8 */
  bool ok;
} Reader;

static void *read_all(void *ctx) {
  Reader *r = ctx;
  Error err;
  DataWant w = {"video", DTYPE_U8, 4, {3, 6, 8, 3}, r->rgb};
  r->ok = dataset_match(r->d, NULL, &w, &err);
  for (int round = 0; r->ok && round < 5; round++) r->ok = dataset_fill(r->d, NULL, WORLD_TRAIN, 0, 4, &w, 1, &err);
  if (!r->ok) fprintf(stderr, "%s\n", err.text);
  return NULL;
}

TEST("any number of threads read clips at once, and the same of them") {
  enum { THREADS = 4 };
  static const ClipMake kinds[] = {{"gif", "gif", AV_PIX_FMT_PAL8, 32, 24, 4},
                                   {"mp4", "libx264", AV_PIX_FMT_YUV420P, 32, 24, 4},
                                   {"webm", "libvpx-vp9", AV_PIX_FMT_YUV420P, 32, 24, 4},
                                   {.width = 32, .height = 24, .frames = 4}};
  static const char *const names[] = {"many/a.gif", "many/b.mp4", "many/c.webm", "many/d.webp"};
  static Reader reader[THREADS];
  pthread_t thread[THREADS];
  for (int i = 0; i < 4; i++) write_clip(names[i], &kinds[i]);
  Dataset *d = open_data(path_of("many"));
  REQUIRE(d, "%s", warnings);
  for (int i = 0; i < THREADS; i++) {
    reader[i].d = d;
    if (pthread_create(&thread[i], NULL, read_all, &reader[i]) != 0) abort();
  }
  for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
  for (int i = 0; i < THREADS; i++)
    EXPECT(reader[i].ok && memcmp(reader[i].rgb, reader[0].rgb, sizeof reader[i].rgb) == 0, "thread %d", i);
  EXPECT_TEXT(videos_of(d, 3), "0 1 2 | 0 1 2 | 0 1 2 | 0 1 2");
  dataset_close(d);
}

TEST("whichever allocation fails, clips are read as ever or memory is said to be short") {
  int failures = 0;
  make_folder();
  for (uint64_t n = 1;; n++) {
    uint64_t before = mem_alloc_count();
    uint8_t rgb[3 * 2 * 3];
    Error err = {0};
    DataWant w = {"video", DTYPE_U8, 4, {2, 1, 1, 3}, rgb};
    mem_fail_at(n);
    Dataset *d =
        dataset_open(path_of("clips"), &(DatasetOptions){.in_order = true, .whole = true, .strict = true}, &err);
    bool ok = d && dataset_match(d, NULL, &w, &err) && dataset_fill(d, NULL, WORLD_TRAIN, 0, 3, &w, 1, &err);
    bool reached = mem_alloc_count() - before >= n;
    mem_fail_at(0);
    if (ok)
      EXPECT(rgb[0] == 75 && rgb[3] == 95 && rgb[12] == 30 && rgb[15] == 70, "allocation %d: %d %d", (int)n, rgb[0],
             rgb[3]);
    if (!ok) EXPECT(err.code == ERROR_MEMORY, "allocation %d: %s", (int)n, err.text);
    failures += !ok;
    dataset_close(d);
    if (!reached) break;
  }
  EXPECT(failures > 20, "%d", failures);
}

TEST_MAIN()
