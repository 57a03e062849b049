#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/metrics_log.h"
#include "runtime/base/file.h"
#include "tests/test.h"

static char *read_text(const char *path, size_t *len) {
  Error err;
  char *text = file_read(path, len, &err);
  if (!text) TEST_FAIL_("%s", err.text);
  return text;
}

static void write_text(const char *path, const char *text) {
  Error err;
  if (!file_write_all(path, text, strlen(text), &err)) TEST_FAIL_("%s", err.text);
}

TEST("CRC-32C gives the known answers of RFC 3720") {
  uint8_t bytes[32] = {0};
  EXPECT(crc32c(bytes, 32) == 0x8a9136aau, "%08x", crc32c(bytes, 32));
  memset(bytes, 0xff, 32);
  EXPECT(crc32c(bytes, 32) == 0x62a8ab43u, "%08x", crc32c(bytes, 32));
  for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
  EXPECT(crc32c(bytes, 32) == 0x46dd794eu, "%08x", crc32c(bytes, 32));
  EXPECT(crc32c("123456789", 9) == 0xe3069283u, "");
  EXPECT(crc32c("", 0) == 0, "");
}

TEST("the first record is byte for byte what TensorFlow writes") {
  Buffer b = {0};
  event_format_version(&b, 0);
  static const uint8_t head[] = {24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22,
                                 9,  0, 0, 0, 0, 0, 0, 0, 0,    0x1a, 13};
  REQUIRE(b.len == 40, "%zu", b.len);
  EXPECT(!memcmp(b.data, head, sizeof head) && !memcmp(b.data + sizeof head, "brain.Event:2", 13), "");
  buffer_done(&b);
}

TEST("scalars are an Event with a Summary of tags and floats") {
  Buffer b = {0};
  event_format_record(&b, 1.5, 300, &(LogRecord){.metric = (Metric[]){{"loss", 0.25}, {"lr", 1}}, .n_metric = 2});
  REQUIRE(!b.failed && b.len == 12 + 9 + 3 + 2 + 13 + 11 + 4, "%zu", b.len);
  const uint8_t *p = (const uint8_t *)b.data + 12;
  double wall;
  memcpy(&wall, p + 1, 8);
  EXPECT(p[0] == 9 && wall == 1.5, "%g", wall);
  static const uint8_t rest[] = {0x10, 0xac, 0x02, 0x2a, 24, 0x0a, 11, 0x0a, 4,   'l',  'o', 's', 's',  0x15, 0,
                                 0,    0x80, 0x3e, 0x0a, 9,  0x0a, 2,  'l',  'r', 0x15, 0,   0,   0x80, 0x3f};
  EXPECT(!memcmp(p + 9, rest, sizeof rest), "");
  buffer_done(&b);
}

TEST("pictures and counts are an Image and a Histogram under their tags") {
  static const uint8_t image[] = {0x0a, 22, 0x0a, 3, 'i', 'm', 'g', 0x22, 15, 0x08, 4, 0x10, 0xac, 0x02, 0x18, 3, 0x22, 6, 'p', 'n', 'g', '\0', 0xff, '!'};
  const int64_t count[] = {0, 3, 0, 5};
  const LogPicture picture = {"img", "png\0\xff!", 6, 300, 4};
  const LogCounts counts = {"use", count, 4};
  Buffer b = {0};
  event_format_record(&b, 0, 1, &(LogRecord){.picture = &picture, .n_picture = 1, .counts = &counts, .n_counts = 1});
  REQUIRE(!b.failed && b.len == 12 + 9 + 2 + 3 + sizeof image + 122 + 4, "%zu", b.len);
  const uint8_t *p = (const uint8_t *)b.data + 12 + 9 + 2;
  EXPECT(p[0] == 0x2a && !memcmp(p + 3, image, sizeof image), "");
  static const uint8_t head[] = {0x0a, 120, 0x0a, 3, 'u', 's', 'e', 0x2a, 113};
  p += 3 + sizeof image;
  EXPECT(!memcmp(p, head, sizeof head), "");
  static const double sums[] = {1, 3, 8, 18, 48}, limit[] = {0.5, 1.5, 2.5, 3.5}, bucket[] = {0, 3, 0, 5};
  p += sizeof head;
  for (int i = 0; i < 5; i++) {
    double have;
    memcpy(&have, p + 9 * i + 1, 8);
    EXPECT(p[9 * i] == ((i + 1) << 3 | 1) && have == sums[i], "%d: %g", i, have);
  }
  EXPECT(!memcmp(p + 47, limit, sizeof limit) && !memcmp(p + 47 + 34, bucket, sizeof bucket), "");
  buffer_done(&b);
}

TEST("many counts become buckets of neighbours, none of which is lost") {
  enum { N = 12288 };
  static int64_t count[N];
  for (int i = 0; i < N; i++) count[i] = 1;
  Buffer b = {0};
  event_format_record(&b, 0, 1, &(LogRecord){.counts = &(LogCounts){"use", count, N}, .n_counts = 1});
  const char *bucket = b.data + b.len - 4 - 8 * EVENT_BUCKETS;
  double sum = 0, one, limit;
  for (int i = 0; i < EVENT_BUCKETS; i++) memcpy(&one, bucket + 8 * i, 8), sum += one;
  memcpy(&limit, bucket - 3 - 8, 8); /* behind it a tag and two bytes of length */
  EXPECT(sum == N && limit == N - 0.5, "%g below %g", sum, limit);
  buffer_done(&b);
}

TEST("lines are JSON, and their numbers read back as the same doubles") {
  Buffer b = {0};
  jsonl_format(&b, 12, (Metric[]){{"loss", 0.1}, {"x", 1.0 / 3}, {"bad", NAN}, {"n", 4e9}}, 4);
  EXPECT_TEXT(b.data, "{\"step\": 12, \"loss\": 0.1, \"x\": 0.3333333333333333, \"bad\": null, \"n\": 4e+09}\n");
  buffer_done(&b);
}

TEST("names with quotes and backslashes are escaped, and are no step when a log is cut") {
  Buffer b = {0};
  Error err;
  int64_t kept;
  jsonl_format(&b, 3, (Metric[]){{"a \"step\": 9\\", 1}}, 1);
  EXPECT_TEXT(b.data, "{\"step\": 3, \"a \\\"step\\\": 9\\\\\": 1}\n");
  write_text("events_quotes.jsonl", b.data);
  EXPECT(jsonl_truncate_after("events_quotes.jsonl", 3, &kept, &err) && kept == 1, "%d", (int)kept);
  remove("events_quotes.jsonl");
  buffer_done(&b);
}

TEST("lines after a step and half a line are dropped, the others stay as they are") {
  const char *path = "events_test.jsonl";
  Error err;
  size_t len;
  int64_t kept;
  write_text(path, "{\"step\": 1, \"a\": 1}\n{\"step\": 2, \"a\": 1}\n{\"step\": 3, \"a\": 1}\n{\"step\": 4, \"a");
  REQUIRE(jsonl_truncate_after(path, 9, &kept, &err), "%s", err.text);
  EXPECT(kept == 3, "%d", (int)kept);
  REQUIRE(jsonl_truncate_after(path, 2, &kept, &err), "%s", err.text);
  EXPECT(kept == 2, "%d", (int)kept);
  char *text = read_text(path, &len);
  EXPECT_TEXT(text, "{\"step\": 1, \"a\": 1}\n{\"step\": 2, \"a\": 1}\n");
  mem_free(text);
  REQUIRE(jsonl_truncate_after(path, -1, &kept, &err) && kept == 0, "");
  write_text(path, "\n\nnoise\n");
  REQUIRE(jsonl_truncate_after(path, 5, &kept, &err) && kept == 0, "");
  remove(path);
  EXPECT(jsonl_truncate_after(path, 5, &kept, &err) && kept == 0, "a missing file is an empty log");
}

static void log_steps(const char *dir, int64_t from_after, int64_t first, int64_t last) {
  Error err;
  MetricsLog *log = metrics_open(dir, from_after, true, &err);
  if (!log) {
    TEST_FAIL_("%s", err.text);
    return;
  }
  for (int64_t s = first; s <= last; s++) {
    bool ok = metrics_write(log, (double)s, s, &(LogRecord){.metric = (Metric[]){{"loss", 1.0 / (double)s}, {"rate", 2}}, .n_metric = 2}, &err);
    EXPECT(ok, "%s", err.text);
  }
  EXPECT(metrics_close(log, &err), "%s", err.text);
}

static void cut_last_bytes(const char *path, size_t n) {
  size_t len;
  char *text = read_text(path, &len);
  mem_free(text);
  EXPECT(!truncate(path, (off_t)(len - n)), "");
}

TEST("a log that crashed and went on equals the log of a run without a crash") {
  static const char *const files[] = {"metrics.jsonl", "events.out.tfevents.nuwa"};
  char a[100], b[100];
  log_steps("events_test_a", -1, 1, 200);
  log_steps("events_test_b", -1, 1, 150);
  for (int i = 0; i < 2; i++) {
    snprintf(b, sizeof b, "events_test_b/%s", files[i]);
    cut_last_bytes(b, 7);
  }
  log_steps("events_test_b", 120, 121, 200);
  for (int i = 0; i < 2; i++) {
    snprintf(a, sizeof a, "events_test_a/%s", files[i]);
    snprintf(b, sizeof b, "events_test_b/%s", files[i]);
    size_t na, nb;
    char *ta = read_text(a, &na), *tb = read_text(b, &nb);
    EXPECT(ta && tb && na == nb && !memcmp(ta, tb, na), "%s: %zu and %zu bytes", files[i], na, nb);
    mem_free(ta), mem_free(tb);
    remove(a), remove(b);
  }
  rmdir("events_test_a"), rmdir("events_test_b");
}

TEST("a damaged record ends what is kept of an event file") {
  const char *path = "events_test.tfevents";
  Error err;
  Buffer b = {0};
  event_format_version(&b, 0);
  for (int64_t s = 1; s <= 5; s++) event_format_record(&b, 0, s, &(LogRecord){.metric = (Metric[]){{"x", 1}}, .n_metric = 1});
  size_t record = (b.len - 40) / 5;
  b.data[40 + 2 * record + 20] ^= 1;
  REQUIRE(file_write_all(path, b.data, b.len, &err), "%s", err.text);
  int64_t kept;
  REQUIRE(events_truncate_after(path, 5, &kept, &err), "%s", err.text);
  EXPECT(kept == 3, "%d", (int)kept);
  memset(b.data, 0xff, 40); /* a length that overflows */
  REQUIRE(file_write_all(path, b.data, b.len, &err), "%s", err.text);
  REQUIRE(events_truncate_after(path, 5, &kept, &err) && kept == 0, "");
  remove(path), buffer_done(&b);
}

TEST("a folder that cannot be is refused by name") {
  Error err;
  EXPECT(!metrics_open("/nowhere/at/all", -1, true, &err), "");
  EXPECT_HAS(err.text, "/nowhere/at/all");
}

TEST_MAIN()
