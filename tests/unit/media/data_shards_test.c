/* Tar shards as a data set: what members are, where they are read, in which order, and what is passed over. */
#include <zlib.h>

#include "media/dataset.h"
#include "runtime/base/hooks.h"
#include "tests/test.h"
#include "tests/unit/media/clip_make.h"
#include "tests/unit/media/data_files.h"
#include "tests/unit/media/tar_make.h"

static char warnings[4000];

static void warn(void *ctx, const char *text) {
  strncat(warnings, text, sizeof warnings - strlen(warnings) - 2);
  strcat(warnings, "\n");
}

static Dataset *open_as(const char *name, DatasetOptions o) {
  static Error err;
  *warnings = 0;
  o.warn = warn;
  Dataset *d = dataset_open(path_of(name), &o, &err);
  if (!d) snprintf(warnings, sizeof warnings, "%s", err.text);
  return d;
}

static Dataset *open_data(const char *name) {
  return open_as(name, (DatasetOptions){.in_order = true, .whole = true});
}

static void write_tar(const char *name, Buffer *b) {
  write_bytes(name, b->data ? b->data : "", b->len);
  buffer_done(b);
}

/* "a=1 b=2": keys and the red of each picture, at n positions. */
static const char *say(const Dataset *d, uint64_t n) {
  static Buffer text;
  uint8_t rgb[3];
  Error err;
  DataWant w = {"image", DTYPE_U8, 3, {1, 1, 3}, rgb};
  text.len = 0;
  buffer_append(&text, "", 0);
  for (uint64_t i = 0; i < n; i++) {
    dataset_key(d, WORLD_TRAIN, i, &text);
    if (!dataset_match(d, NULL, &w, &err) || !dataset_fill(d, NULL, WORLD_TRAIN, i, 1, &w, 1, &err))
      return buffer_printf(&text, "! %s", err.text), text.data;
    buffer_printf(&text, "=%d ", rgb[0]);
  }
  return n ? text.data : "";
}

static const char *notes_of(const Dataset *d) {
  static Buffer b;
  b.len = 0;
  buffer_printf(&b, "%s", "");
  dataset_print_notes(d, &b);
  return b.len ? b.data : "";
}

static const char *caption_of(const Dataset *d, uint64_t i) {
  static Buffer b;
  Error err;
  b.len = 0;
  buffer_append(&b, "", 1), b.len = 0;
  if (!dataset_caption(d, WORLD_TRAIN, i, &b, &err)) return TEST_FAIL_("%s", err.text), "";
  return b.len ? b.data : "";
}

/* Two shards: a clip, captions of both forms, classes, a map of labels. */
static void make_shards(void) {
  Buffer b = {0}, gif = make_clip(&(ClipMake){"gif", "gif", AV_PIX_FMT_PAL8, 32, 24, 4});
  tar_add_as(&b, "in/", '5', "", 0, 0);
  tar_add_picture(&b, "in/a.png", 1);
  tar_add_text(&b, "in/a.txt", "one\n");
  tar_add_text(&b, "in/a.cls", "3\n");
  tar_add_text(&b, "./b.JSON", "{\"caption\": \"two\", \"url\": [1, {}]}");
  tar_add_picture(&b, "./b.PNG", 2);
  tar_add_text(&b, "./b.cls", "0");
  tar_end(&b);
  write_tar("two/s-08.tar", &b);
  tar_add(&b, "c.gif", gif.data, gif.len);
  tar_add_text(&b, "c.txt", "three\nde.utf8=drei\n");
  tar_add_text(&b, "c.cls", "1");
  tar_end(&b);
  write_tar("two/s-09.tar", &b);
  buffer_done(&gif);
}

TEST("members of one key are an example, in the order of the archives, with what their suffixes say") {
  make_shards();
  Dataset *d = open_data("two/s-{08..09}.tar");
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(say(d, 3), "in/a=1 b=2 c=75 ");
  EXPECT_TEXT(caption_of(d, 0), "one");
  EXPECT_TEXT(caption_of(d, 1), "two");
  EXPECT_TEXT(caption_of(d, 2), "three");
  EXPECT_TEXT(notes_of(d), "");
  int32_t class_id[3];
  Error err;
  DataWant w = {"class", DTYPE_I32, 0, {0}, class_id};
  REQUIRE(dataset_match(d, NULL, &w, &err) && dataset_fill(d, NULL, WORLD_TRAIN, 0, 3, &w, 1, &err), "%s", err.text);
  EXPECT(class_id[0] == 3 && class_id[1] == 0 && class_id[2] == 1 && dataset_class_count(d) == 4, "%d", class_id[0]);
  w = (DataWant){"video", DTYPE_U8, 4, {2, 4, 4, 3}};
  EXPECT(!dataset_match(d, NULL, &w, &err), "");
  EXPECT_HAS(err.text, "2 of 3 examples have no video, \"in/a\" the first");
  char digest[65];
  strcpy(digest, dataset_digest(d));
  dataset_close(d);
  d = open_data("two/s-09.tar:fps=5");
  REQUIRE(d, "%s", warnings);
  uint8_t rgb[2 * 3];
  w = (DataWant){"video", DTYPE_U8, 4, {2, 1, 1, 3}, rgb};
  REQUIRE(dataset_match(d, NULL, &w, &err) && dataset_fill(d, NULL, WORLD_TRAIN, 0, 1, &w, 1, &err), "%s", err.text);
  EXPECT(strcmp(digest, dataset_digest(d)) != 0, "the same digest for other shards");
  dataset_close(d);
}

TEST("maps of labels lie beside their pictures, and must have their size") {
  Buffer b = {0};
  tar_add_picture(&b, "a.png", 1);
  tar_add_picture(&b, "a.labels.png", 5);
  tar_end(&b);
  write_tar("labels.tar", &b);
  Dataset *d = open_data("labels.tar");
  REQUIRE(d, "%s", warnings);
  int32_t labels[12];
  Error err;
  DataWant w = {"labels", DTYPE_I32, 2, {3, 4}, labels};
  REQUIRE(dataset_match(d, NULL, &w, &err), "%s", err.text);
  EXPECT(!dataset_fill(d, NULL, WORLD_TRAIN, 0, 1, &w, 1, &err), "colours are no labels");
  EXPECT_HAS(err.text, "labels.tar: a.labels.png: ");
  dataset_close(d);
}

TEST("names are read in GNU's long form and pax's, and those that leave the archive are passed over") {
  Buffer b = {0};
  char longest[301], pax[400];
  memset(longest, 'x', 300);
  longest[300] = 0;
  memcpy(longest + 296, ".png", 4);
  tar_add_as(&b, "././@LongLink", 'L', longest, 301, 301);
  tar_add_picture(&b, "cut.png", 1);
  int n = snprintf(pax, sizeof pax, "%d path=p/%.290s.png\n", 3 + 1 + 5 + 2 + 290 + 4 + 1, longest);
  tar_add_as(&b, "PaxHeader", 'x', pax, (size_t)n, (size_t)n);
  tar_add_picture(&b, "cut.png", 2);
  tar_add_picture(&b, "../up.png", 3);
  tar_add_picture(&b, "/etc/root.png", 4);
  tar_add_picture(&b, "in/../../up.png", 5);
  tar_add_picture(&b, "._mac.png", 6);
  tar_add_as(&b, "link.png", '2', "", 0, 0);
  tar_add_picture(&b, "..ok/a.png", 7);
  tar_end(&b);
  write_tar("names.tar", &b);
  Dataset *d = open_data("names.tar");
  REQUIRE(d, "%s", warnings);
  const char *said = say(d, dataset_count(d, WORLD_TRAIN));
  EXPECT(strncmp(said, longest, 296) == 0 && strncmp(said + 296, "=1 p/xxxx", 9) == 0, "%s", said);
  EXPECT_HAS(said, "=2 ..ok/a=7 ");
  EXPECT_HAS(
      notes_of(d),
      "4 members have no key, or a path that leaves the archive, and were passed over, \"../up.png\" the first\n");
  EXPECT_HAS(notes_of(d), "1 files are neither pictures nor clips and were passed over, \"link.png\" the first\n");
  dataset_close(d);
}

TEST("what belongs to nothing or is there twice is counted, and the first of it is taken") {
  Buffer b = {0};
  tar_add_picture(&b, "a.png", 1);
  tar_add_picture(&b, "a.jpg", 2);
  tar_add_text(&b, "a.txt", "first");
  tar_add_text(&b, "a.txt", "second");
  tar_add_text(&b, "a.cls", "many");
  tar_add_text(&b, "b.txt", "of no picture");
  tar_add_text(&b, "c.txt", "");
  tar_add_picture(&b, "c.png", 3);
  tar_add_text(&b, "c.seg.png", "unknown");
  tar_add_text(&b, "c.json", "{broken");
  tar_add_text(&b, "c.npy", "unknown");
  tar_add_picture(&b, "a.png", 4); /* another example of the same key */
  tar_end(&b);
  write_tar("odd.tar", &b);
  Dataset *d = open_data("odd.tar");
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(say(d, dataset_count(d, WORLD_TRAIN)), "a=1 c=3 a=4 ");
  EXPECT_TEXT(caption_of(d, 0), "first");
  EXPECT_TEXT(notes_of(d),
              "2 files are neither pictures nor clips and were passed over, \"c.npy\" the first\n"
              "1 texts are empty, \"c.txt\" the first\n"
              "2 members are there a second time in their example and were passed over, \"a.jpg\" the first\n"
              "1 keys have neither a picture nor a clip, \"b\" the first\n"
              "1 classes are no whole numbers from 0 to 16777215, \"a.cls\" the first\n"
              "1 members are no JSON objects, or larger than a caption can be, and were passed over, \"c.json\" the first\n");
  dataset_close(d);
}

TEST("JSON that is none leaves no error behind, may begin with a mark of UTF-8, and is refused by --strict") {
  Buffer b = {0};
  tar_add_picture(&b, "a.png", 1);
  tar_add_text(&b, "a.json", "\xef\xbb\xbf{\"text\": \"marked\"}");
  tar_end(&b);
  write_tar("marked.tar", &b);
  Dataset *d = open_data("marked.tar");
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(caption_of(d, 0), "marked");
  dataset_close(d);
  b = (Buffer){0};
  tar_add_picture(&b, "a.png", 1);
  tar_add_text(&b, "a.json", "[1]");
  tar_end(&b);
  write_tar("list.tar", &b);
  Error err = {0};
  d = dataset_open(path_of("list.tar"), &(DatasetOptions){.whole = true}, &err);
  EXPECT(d && err.code == ERROR_NONE, "%s", err.text);
  dataset_close(d);
  EXPECT(!open_as("list.tar", (DatasetOptions){.strict = true}), "it is taken");
  EXPECT_HAS(warnings, "1 members are no JSON objects, a.json the first");
}

/* Three examples of a picture and a caption each. */
static Buffer make_three(void) {
  Buffer b = {0};
  for (int i = 0; i < 3; i++) {
    char name[10];
    snprintf(name, sizeof name, "%d.png", i);
    tar_add_picture(&b, name, i + 1);
    snprintf(name, sizeof name, "%d.txt", i);
    tar_add_text(&b, name, "text");
  }
  tar_end(&b);
  return b;
}

TEST(
    "a shard that is cut short gives the examples before the cut, says so, and is an error where told to be strict") {
  Buffer b = make_three();
  for (size_t n = 1; n < b.len - 511; n += 256) {
    Buffer cut = {0};
    buffer_append(&cut, b.data, n);
    write_tar("cut/a.tar", &cut);
    Dataset *d = open_data("cut/a.tar");
    int whole = n < 512 ? 0 : (int)((n - 512) / 2048); /* which end where another's head begins */
    if (d) {
      uint64_t count = dataset_count(d, WORLD_TRAIN);
      const char *said = say(d, count);
      EXPECT(strncmp("0=1 1=2 2=3 ", said, strlen(said)) == 0, "at %zu: %s", n, said);
      EXPECT((int)count == whole, "at %zu: %d examples, not %d", n, (int)count, whole);
      EXPECT_HAS(notes_of(d), "1 shards are cut short or damaged, and what follows is left out, \"a.tar (");
    } else {
      EXPECT(whole == 0, "at %zu: %s", n, warnings);
      EXPECT_HAS(warnings, "a.tar: the shards hold neither pictures nor clips; one is cut short or damaged: a.tar (");
    }
    dataset_close(d);
    d = open_as("cut/a.tar", (DatasetOptions){.strict = true});
    EXPECT(!d, "strict");
    EXPECT_HAS(warnings, "a.tar: 1 shards are cut short or damaged, a.tar (");
    dataset_close(d);
  }
  b.data[2 * 2048 + 20] ^= 1; /* the head of the third */
  write_tar("cut/b.tar", &b);
  Dataset *d = open_data("cut/b.tar");
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(say(d, dataset_count(d, WORLD_TRAIN)), "0=1 ");
  dataset_close(d);
}

TEST("sizes that are none, empty shards, compressed ones, and what is no tar are refused or counted") {
  Buffer b = {0}, three = make_three();
  tar_add_picture(&b, "a.png", 1);
  tar_add_as(&b, "huge.png", '0', "x", 1, 0777777777);
  tar_end(&b);
  write_tar("huge.tar", &b);
  Dataset *d = open_data("huge.tar");
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(say(d, dataset_count(d, WORLD_TRAIN)), "a=1 ");
  EXPECT_HAS(notes_of(d), "\"huge.tar (");
  dataset_close(d);

  tar_end(&b);
  write_tar("few/s-0.tar", &b);
  write_bytes("few/s-1.tar", three.data, three.len);
  write_text("few/s-2.tar", "");
  write_text("few/s-3.tar", "this is no tar file, but some text that is long enough to be looked at");
  d = open_data("few/s-{0..3}.tar");
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(say(d, dataset_count(d, WORLD_TRAIN)), "0=1 1=2 2=3 ");
  EXPECT_HAS(notes_of(d), "3 shards hold no example, \"s-0.tar\" the first\n2 shards are cut short or damaged, and "
                          "what follows is left out, \"s-2.tar (it is empty)\" the first\n");
  dataset_close(d);

  gzFile gz = gzopen(path_of("gz.tar"), "wb");
  gzwrite(gz, three.data, (unsigned)three.len);
  gzclose(gz);
  EXPECT(!open_data("gz.tar"), "");
  EXPECT_HAS(warnings,
             "gz.tar: compressed by gzip; examples are read at any place, so shards must be plain tar files");
  buffer_done(&three);
}

TEST("a range names every shard, with as many digits as its first; what is no range is refused") {
  static const struct {
    const char *pattern, *reason;
  } bad[] = {{"two/s-{08..10}.tar", "two/s-10.tar: No such file or directory (of "},
             {"two/none.tar", "two/none.tar: No such file"},
             {"two/s-{09..08}.tar", "a range of shards is one {FIRST..LAST}"},
             {"two/s-{08,09}.tar", "a range of shards is one {FIRST..LAST}"},
             {"two/s-{0..9}{0..9}.tar", "a range of shards is one {FIRST..LAST}"},
             {"two/s-{8..999999}.tar", "more than 100000 shards"},
             {"two/s-{08..09}.tar:speed=1", "\"speed=1\" is no option"}};
  make_shards();
  for (int i = 0; i < COUNT_OF(bad); i++) {
    Dataset *d = open_data(bad[i].pattern);
    EXPECT_HAS(d ? "opened" : warnings, bad[i].reason);
    dataset_close(d);
  }
}

TEST("a broken member is named with its shard, and the next one stands in for it; so is a shard that changed") {
  Buffer b = {0};
  tar_add_text(&b, "a.png", "no picture");
  tar_add_picture(&b, "b.png", 2);
  tar_end(&b);
  write_bytes("broken.tar", b.data, b.len);
  Dataset *d = open_data("broken.tar");
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(say(d, 2), "a=2 b=2 ");
  EXPECT_TEXT(warnings,
              "broken.tar: a.png: not a PNG, JPEG or WebP file (10 bytes); the next one stands in for it\n");
  write_bytes("broken.tar", b.data, b.len / 2);
  EXPECT_HAS(say(d, 1), "broken.tar: b.png: the shard has changed since it was listed");
  dataset_close(d);
  buffer_done(&b);
}

TEST("an epoch reads shard by shard, each in an order of its own, all of it once") {
  enum { SHARDS = 4, EACH = 20 };
  char name[40];
  for (int s = 0; s < SHARDS; s++) {
    Buffer b = {0};
    for (int i = 0; i < EACH; i++) {
      snprintf(name, sizeof name, "%d-%02d.png", s, i);
      tar_add_text(&b, name, "x");
    }
    tar_end(&b);
    snprintf(name, sizeof name, "order/%d.tar", s);
    write_tar(name, &b);
  }
  Dataset *d = open_as("order/{0..3}.tar", (DatasetOptions){.seed = 7});
  REQUIRE(d, "%s", warnings);
  uint64_t n = dataset_count(d, WORLD_TRAIN);
  EXPECT(n > 60 && n < SHARDS * EACH && n + dataset_count(d, WORLD_VALIDATION) == SHARDS * EACH, "%d", (int)n);
  int orders = 0, ascending = 0;
  char first[2] = "";
  for (uint64_t epoch = 0; epoch < 3; epoch++) {
    int seen[SHARDS][EACH] = {0}, changes = 0, last_shard = -1, last = -1;
    for (uint64_t i = 0; i < n; i++) {
      Buffer key = {0};
      dataset_key(d, WORLD_TRAIN, epoch * n + i, &key);
      int shard = key.data[0] - '0', number = atoi(key.data + 2);
      seen[shard][number]++;
      changes += shard != last_shard;
      ascending += shard == last_shard && number > last;
      if (!i) orders += first[0] != key.data[0], first[0] = key.data[0];
      last_shard = shard, last = number;
      buffer_done(&key);
    }
    int once = 0;
    for (int s = 0; s < SHARDS; s++)
      for (int i = 0; i < EACH; i++) once += seen[s][i] == 1;
    EXPECT(once == (int)n && changes == SHARDS, "epoch %d: %d of %d once, %d changes", (int)epoch, once, (int)n,
           changes);
  }
  EXPECT(orders > 1, "every epoch begins with the same shard");
  EXPECT(ascending > (int)n && ascending < 2 * (int)n, "%d of %d ascend", ascending, 3 * (int)n);
  dataset_close(d);
}

static ino_t kept_file(const char *cache) {
  struct stat st = {0};
  char command[400], path[400] = "";
  snprintf(command, sizeof command, "ls -d '%s'/*.listing", cache);
  FILE *f = popen(command, "r");
  if (!f || !fgets(path, sizeof path, f)) TEST_FAIL_("nothing is kept");
  if (f) pclose(f);
  path[strcspn(path, "\n")] = 0;
  stat(path, &st);
  return st.st_ino;
}

TEST("the listing of shards is kept, read again without being made, and made anew when one changes") {
  char command[500], cache[300];
  Buffer b = make_three();
  snprintf(cache, sizeof cache, "%s", path_of("kept"));
  write_tar("again/a.tar", &b);
  snprintf(command, sizeof command, "touch -d 2001-01-01 '%s'", path_of("again/a.tar"));
  if (system(command) != 0) abort();
  DatasetOptions o = {.cache = cache, .in_order = true, .whole = true};
  ino_t kept = 0;
  for (int round = 0; round < 2; round++) {
    Dataset *d = open_as("again/a.tar", o);
    REQUIRE(d, "%s", warnings);
    EXPECT_TEXT(say(d, 3), "0=1 1=2 2=3 ");
    EXPECT_TEXT(warnings, "");
    EXPECT(!round || kept == kept_file(cache), "made twice");
    kept = kept_file(cache);
    dataset_close(d);
  }
  tar_add_picture(&b, "other.png", 9);
  tar_end(&b);
  write_tar("again/a.tar", &b);
  Dataset *d = open_as("again/a.tar", o);
  REQUIRE(d, "%s", warnings);
  EXPECT_TEXT(say(d, 1), "other=9 ");
  dataset_close(d);
}

TEST("seeded damage in a shard crashes nothing, and every example that is left is read or refused by name") {
  Buffer b = make_three();
  unsigned seed = 3;
  int opened = 0, read = 0;
  for (int round = 0; round < 300; round++) {
    Buffer bad = {0};
    buffer_append(&bad, b.data, b.len);
    for (int i = 0; i < 2; i++) {
      seed = seed * 1664525 + 1013904223;
      size_t at = seed >> 8 & 1 ? seed % bad.len
                                : seed / 512 % (bad.len / 512) * 512 + seed % 512 / 3; /* half of them in heads */
      bad.data[at] ^= (char)(1 << (seed >> 29));
    }
    write_tar("damaged.tar", &bad);
    Dataset *d = open_data("damaged.tar");
    opened += d != NULL;
    const char *said = d ? say(d, dataset_count(d, WORLD_TRAIN)) : "!";
    read += !strchr(said, '!');
    EXPECT(!d || !strchr(said, '!') || strstr(said, "damaged.tar: "), "%s", said);
    dataset_close(d);
  }
  buffer_done(&b);
  EXPECT(opened > 100 && read > 100 && opened < 300, "%d opened, %d read", opened, read);
}

TEST("whichever allocation fails, shards and their clips are read as ever or memory is said to be short") {
  int failures = 0;
  make_shards();
  for (uint64_t n = 1;; n++) {
    uint64_t before = mem_alloc_count();
    uint8_t rgb[9];
    Error err = {0};
    DataWant w = {"image", DTYPE_U8, 3, {1, 1, 3}, rgb};
    mem_fail_at(n);
    Dataset *d = dataset_open(path_of("two/s-{08..09}.tar"),
                              &(DatasetOptions){.in_order = true, .whole = true, .strict = true}, &err);
    Buffer caption = {0};
    bool ok = d && dataset_match(d, NULL, &w, &err) && dataset_fill(d, NULL, WORLD_TRAIN, 0, 3, &w, 1, &err) &&
              dataset_caption(d, WORLD_TRAIN, 0, &caption, &err) &&
              dataset_caption(d, WORLD_TRAIN, 1, &caption, &err);
    bool reached = mem_alloc_count() - before >= n;
    mem_fail_at(0);
    if (ok) EXPECT(rgb[0] == 1 && rgb[3] == 2 && rgb[6] == 75, "allocation %d: %d", (int)n, rgb[0]);
    if (ok && !caption.failed) EXPECT_TEXT(caption.data, "onetwo");
    if (!ok) EXPECT(err.code == ERROR_MEMORY, "allocation %d: %s", (int)n, err.text);
    failures += !ok;
    buffer_done(&caption);
    dataset_close(d);
    if (!reached) break;
  }
  EXPECT(failures > 20, "%d", failures);
}

TEST_MAIN()
