#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/metrics_log.h"
#include "runtime/base/file.h"
#include "tests/test.h"

static const char dir[] = "metrics_log_test_dir";
static const char *const files[] = {"metrics.jsonl", "events.out.tfevents.nuwa", "pictures/draw.image-00000001.png",
                                    "pictures/draw.image-00000002.png", "pictures/draw.image-00000003.png"};

static void clean(void) {
  char path[200];
  for (int i = 0; i < COUNT_OF(files); i++) {
    snprintf(path, sizeof path, "%s/%s", dir, files[i]);
    remove(path);
  }
  snprintf(path, sizeof path, "%s/pictures", dir);
  rmdir(path);
  rmdir(dir);
}

static bool exists(const char *file) {
  char path[200];
  struct stat st;
  snprintf(path, sizeof path, "%s/%s", dir, file);
  return !stat(path, &st);
}

/* Steps first ... last of a run that goes on after a step: a metric, at odd steps another, and a picture. */
static void log_steps(int64_t after, int64_t first, int64_t last) {
  Error err;
  MetricsLog *log = metrics_open(dir, after, true, &err);
  if (!log) {
    TEST_FAIL_("%s", err.text);
    return;
  }
  for (int64_t s = first; s <= last; s++) {
    const Metric m[] = {{"loss", s == 2 ? NAN : 1.0 / (double)s}, {"odd", (double)s}};
    const LogPicture p = {"draw.image", "png", 3, 8, 4};
    EXPECT(metrics_write(log, 0, s, &(LogRecord){.metric = m, .n_metric = 1 + (int)(s & 1), .picture = &p, .n_picture = 1}, &err), "%s", err.text);
  }
  EXPECT(metrics_close(log, &err), "%s", err.text);
}

TEST("a log that somebody writes is refused to others, until he ends") {
  Error err = {0};
  clean();
  MetricsLog *one = metrics_open(dir, -1, true, &err);
  REQUIRE(one, "%s", err.text);
  EXPECT(!metrics_open(dir, 0, true, &err), "two at once");
  EXPECT_TEXT(err.text, "metrics_log_test_dir: another process writes this log");
  MetricsLog *two = metrics_open(dir, 0, false, &err);   /* where leases say whose it is */
  EXPECT(two && metrics_close(two, &err) && metrics_close(one, &err), "%s", err.text);
  one = metrics_open(dir, 0, true, &err);
  EXPECT(one && metrics_close(one, &err), "%s", err.text);
}

TEST("a new run is not written over another's log, whose folder and what to do are named") {
  Error err;
  clean();
  log_steps(-1, 1, 2);
  EXPECT(!metrics_open(dir, -1, true, &err), "");
  EXPECT_TEXT(err.text, "metrics_log_test_dir holds the log of a run already: resume that run, or name another folder, or remove it");
  EXPECT(exists(files[0]) && exists(files[2]), "it is still there");
  log_steps(2, 3, 3);
  clean();
}

TEST("a run that is resumed drops what came after its step, pictures too") {
  clean();
  log_steps(-1, 1, 3);
  log_steps(1, 2, 2);
  EXPECT(exists(files[2]) && exists(files[3]) && !exists(files[4]), "");
  LogCurves c = {0};
  Error err;
  REQUIRE(log_read_curves(&c, dir, &err), "%s", err.text);
  REQUIRE(c.n == 2 && c.curve[0].n == 2, "%d curves", c.n);
  log_curves_done(&c);
  log_steps(0, 1, 1); /* from the start on */
  EXPECT(exists(files[2]) && !exists(files[3]), "");
  clean();
}

TEST("curves are read as they grow: lines that were added, and half a line when it is whole") {
  LogCurves c = {0};
  Error err;
  char path[100];
  clean();
  REQUIRE(log_read_curves(&c, dir, &err) && c.n == 0, "a missing log is empty");
  log_steps(-1, 1, 2);
  REQUIRE(log_read_curves(&c, dir, &err), "%s", err.text);
  REQUIRE(c.n == 2, "%d", c.n);
  EXPECT_TEXT(c.curve[0].name, "loss");
  EXPECT_TEXT(c.curve[1].name, "odd");
  EXPECT(c.curve[0].n == 2 && c.curve[0].value[0] == 1 && isnan(c.curve[0].value[1]) && c.curve[0].step[1] == 2, "");
  snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
  FILE *f = fopen(path, "ab");
  fputs("{\"step\": 3, \"loss\": 0.2", f);
  fclose(f);
  REQUIRE(log_read_curves(&c, dir, &err) && c.curve[0].n == 2, "");
  f = fopen(path, "ab");
  fputs("5}\n", f);
  fclose(f);
  REQUIRE(log_read_curves(&c, dir, &err) && c.curve[0].n == 3 && c.curve[0].value[2] == 0.25, "");
  f = fopen(path, "ab");
  fputs("noise\n", f);
  fclose(f);
  EXPECT(!log_read_curves(&c, dir, &err), "");
  EXPECT_HAS(err.text, "metrics_log_test_dir/metrics.jsonl: JSON");
  log_curves_done(&c);
  clean();
}

typedef struct Listing {
  Arena *arena;
  LogPictureFile *list;
  int n;
  Error err;
  bool ok;
} Listing;

static void list_body(void *ctx) {
  Listing *l = ctx;
  l->ok = log_list_pictures(l->arena, dir, &l->list, &l->n, &l->err);
}

TEST("pictures are listed by name and step; what is none is passed over") {
  Listing l = {.arena = arena_new()};
  clean();
  REQUIRE(arena_protect(l.arena, list_body, &l, &l.err) && l.ok && l.n == 0, "a missing folder is empty");
  log_steps(-1, 1, 3);
  Error err;
  REQUIRE(file_write_all("metrics_log_test_dir/pictures/notes-12.txt", "x", 1, &err) && file_write_all("metrics_log_test_dir/pictures/a-1.png", "x", 1, &err), "");
  REQUIRE(arena_protect(l.arena, list_body, &l, &l.err) && l.ok && l.n == 4, "%d", l.n);
  EXPECT_TEXT(l.list[0].name, "a");
  EXPECT_TEXT(l.list[3].name, "draw.image");
  EXPECT_TEXT(l.list[3].path, "metrics_log_test_dir/pictures/draw.image-00000003.png");
  EXPECT(l.list[3].step == 3 && l.list[1].step == 1, "");
  remove("metrics_log_test_dir/pictures/notes-12.txt"), remove("metrics_log_test_dir/pictures/a-1.png");
  arena_free(l.arena);
  clean();
}

TEST("names of pictures that file systems would read otherwise become plain ones") {
  Error err;
  clean();
  MetricsLog *log = metrics_open(dir, -1, true, &err);
  REQUIRE(log, "%s", err.text);
  const LogPicture p = {"../.x/y z", "png", 3, 1, 1};
  EXPECT(metrics_write(log, 0, 7, &(LogRecord){.picture = &p, .n_picture = 1}, &err), "%s", err.text);
  metrics_close(log, &err);
  EXPECT(exists("pictures/_._.x_y_z-00000007.png"), "");
  remove("metrics_log_test_dir/pictures/_._.x_y_z-00000007.png");
  clean();
}

TEST_MAIN()
