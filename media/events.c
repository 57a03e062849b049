/* The formats: JSON lines; TFRecord framing (length, masked CRC of it, data, masked CRC of them; little-endian); and
 * of tensorflow/core/util/event.proto and framework/summary.proto, histogram.proto what is needed, written by hand:
 *   Event     { 1: double wall_time, 2: int64 step, 3: string file_version, 5: Summary }
 *   Summary   { 1: repeated Value { 1: string tag, 2: float simple_value | 4: Image | 5: Histogram } }
 *   Image     { 1: int32 height, 2: int32 width, 3: int32 colorspace (3: RGB), 4: bytes encoded_image_string }
 *   Histogram { 1: double min, 2: max, 3: num, 4: sum, 5: sum_squares, 6: repeated double bucket_limit, 7: bucket } */
#include "media/events.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/file.h"
#include "runtime/base/json.h"

uint32_t crc32c(const void *bytes, size_t n) {
  const uint8_t *p = bytes;
  uint32_t crc = ~0u;
  for (size_t i = 0; i < n; i++) {
    crc ^= p[i];
    for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
  }
  return ~crc;
}

uint32_t crc32c_masked(const void *bytes, size_t n) {
  uint32_t crc = crc32c(bytes, n);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

void jsonl_format(Buffer *out, int64_t step, const Metric *metrics, int n) {
  buffer_printf(out, "{\"step\": %" PRId64, step);
  for (int i = 0; i < n; i++) {
    buffer_append(out, ", ", 2);
    json_print_text(out, metrics[i].name);
    buffer_append(out, ": ", 2);
    json_print_real(out, metrics[i].value);
  }
  buffer_append(out, "}\n", 2);
}

/* Cuts a file to its first `keep` bytes if it is longer. */
static bool cut_file(const char *path, size_t len, size_t keep, Error *err) {
  if (keep == len || !truncate(path, (off_t)keep)) return true;
  return error_set(err, ERROR_IO, "%s: cannot be cut to %zu bytes: %s", path, keep, strerror(errno));
}

/* The file's bytes; *out_missing (and NULL) when there is none. */
static char *read_log(const char *path, size_t *out_len, bool *out_missing, Error *err) {
  struct stat st;
  *out_missing = stat(path, &st) && errno == ENOENT;
  return *out_missing ? NULL : file_read(path, out_len, err);
}

bool jsonl_truncate_after(const char *path, int64_t last_step, int64_t *out_kept, Error *err) {
  size_t len, keep = 0;
  bool missing;
  int64_t kept = 0;
  char *text = read_log(path, &len, &missing, err);
  if (!text && !missing) return false;
  for (const char *end; text && (end = memchr(text + keep, '\n', len - keep)); kept++) {
    const char *line = text + keep, *step = "{\"step\":";
    if (strncmp(line, step, strlen(step)) != 0 || end[-1] != '}' || strtoll(line + strlen(step), NULL, 10) > last_step)
      break;
    keep = (size_t)(end + 1 - text);
  }
  bool ok = missing || cut_file(path, len, keep, err);
  mem_free(text);
  if (out_kept) *out_kept = kept;
  return ok;
}

static void put_varint(Buffer *b, uint64_t v) {
  uint8_t bytes[10];
  size_t n = 0;
  for (; v >= 128; v >>= 7) bytes[n++] = (uint8_t)(v | 128);
  bytes[n++] = (uint8_t)v;
  buffer_append(b, bytes, n);
}

static void put_little(Buffer *b, uint64_t v, int bytes) {
  uint8_t out[8];
  for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(v >> 8 * i);
  buffer_append(b, out, (size_t)bytes);
}

/* Field numbers here are below 16, so a tag is one byte; wire types: 0 varint, 1 eight bytes, 2 length, 5 four. */
static void put_tag(Buffer *b, int field, int wire) { put_varint(b, (uint64_t)(field << 3 | wire)); }

static void put_bytes(Buffer *b, int field, const void *bytes, size_t n) {
  put_tag(b, field, 2);
  put_varint(b, n);
  buffer_append(b, bytes, n);
}

static void put_double(Buffer *b, int field, double v) {
  uint64_t bits;
  memcpy(&bits, &v, 8);
  put_tag(b, field, 1);
  put_little(b, bits, 8);
}

static void put_float(Buffer *b, int field, float v) {
  uint32_t bits;
  memcpy(&bits, &v, 4);
  put_tag(b, field, 5);
  put_little(b, bits, 4);
}

/* Frames `event` and frees it. */
static void put_record(Buffer *out, Buffer *event) {
  size_t start = out->len;
  put_little(out, event->len, 8);
  if (!out->failed) put_little(out, crc32c_masked(out->data + start, 8), 4);
  if (event->data) buffer_append(out, event->data, event->len);
  put_little(out, crc32c_masked(event->data, event->len), 4);
  out->failed |= event->failed;
  buffer_done(event);
}

void event_format_version(Buffer *out, double wall_time) {
  Buffer event = {0};
  put_double(&event, 1, wall_time);
  put_bytes(&event, 3, "brain.Event:2", 13);
  put_record(out, &event);
}

static void put_int(Buffer *b, int field, uint64_t v) {
  put_tag(b, field, 0);
  put_varint(b, v);
}

/* Puts `message` as a field and frees it. */
static void put_message(Buffer *b, int field, Buffer *message) {
  if (!message->failed) put_bytes(b, field, message->data ? message->data : "", message->len);
  b->failed |= message->failed;
  buffer_done(message);
}

static void put_picture(Buffer *value, const LogPicture *p) {
  Buffer image = {0};
  put_int(&image, 1, (uint64_t)p->height);
  put_int(&image, 2, (uint64_t)p->width);
  put_int(&image, 3, 3);
  put_bytes(&image, 4, p->png, p->bytes);
  put_message(value, 4, &image);
}

static void put_packed(Buffer *b, int field, const double *v, int n) {
  Buffer list = {0};
  for (int i = 0; i < n; i++) {
    uint64_t bits;
    memcpy(&bits, &v[i], 8);
    put_little(&list, bits, 8);
  }
  put_message(b, field, &list);
}

/* A bucket holds what is up to its limit and above that of the one before: the limits lie half way between numbers. */
static void put_histogram(Buffer *value, const LogCounts *c) {
  Buffer histogram = {0};
  double sums[5] = {0}, limit[EVENT_BUCKETS], bucket[EVENT_BUCKETS] = {0}; /* sums: min, max, num, sum, sum_squares */
  int buckets = c->n < EVENT_BUCKETS ? c->n : EVENT_BUCKETS;
  for (int k = 0; k < buckets; k++) {
    int from = (int)((int64_t)c->n * k / buckets), to = (int)((int64_t)c->n * (k + 1) / buckets);
    limit[k] = to - 0.5;
    for (int i = from; i < to; i++) {
      double count = (double)c->count[i];
      if (count > 0 && sums[2] == 0) sums[0] = i;
      if (count > 0) sums[1] = i;
      bucket[k] += count, sums[2] += count, sums[3] += i * count, sums[4] += (double)i * i * count;
    }
  }
  for (int i = 0; i < COUNT_OF(sums); i++) put_double(&histogram, i + 1, sums[i]);
  put_packed(&histogram, 6, limit, buckets);
  put_packed(&histogram, 7, bucket, buckets);
  put_message(value, 5, &histogram);
}

/* A value of the summary under a tag, whose content is still to be put. */
static Buffer begin_value(const char *tag) {
  Buffer value = {0};
  put_bytes(&value, 1, tag, strlen(tag));
  return value;
}

void event_format_record(Buffer *out, double wall_time, int64_t step, const LogRecord *r) {
  Buffer event = {0}, summary = {0};
  for (int i = 0; i < r->n_metric; i++) {
    Buffer value = begin_value(r->metric[i].name);
    put_float(&value, 2, (float)r->metric[i].value);
    put_message(&summary, 1, &value);
  }
  for (int i = 0; i < r->n_picture; i++) {
    Buffer value = begin_value(r->picture[i].name);
    put_picture(&value, &r->picture[i]);
    put_message(&summary, 1, &value);
  }
  for (int i = 0; i < r->n_counts; i++) {
    Buffer value = begin_value(r->counts[i].name);
    put_histogram(&value, &r->counts[i]);
    put_message(&summary, 1, &value);
  }
  put_double(&event, 1, wall_time);
  put_int(&event, 2, (uint64_t)step);
  put_message(&event, 5, &summary);
  put_record(out, &event);
}

static uint64_t load_little(const uint8_t *p, int bytes) {
  uint64_t v = 0;
  for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
  return v;
}

/* The step (0 where it is not written) of an Event as event_format_* write it: wall time, then perhaps the step. */
static int64_t event_step(const uint8_t *p, size_t n) {
  if (n < 10 || p[0] != (1 << 3 | 1) || p[9] != (2 << 3 | 0)) return 0;
  uint64_t v = 0;
  int shift = 0;
  for (size_t i = 10; i < n && shift < 64; i++, shift += 7) {
    v |= (uint64_t)(p[i] & 127) << shift;
    if (!(p[i] & 128)) break;
  }
  return (int64_t)v;
}

bool events_truncate_after(const char *path, int64_t last_step, int64_t *out_kept, Error *err) {
  size_t len = 0, keep = 0;
  bool missing;
  int64_t kept = 0;
  char *text = read_log(path, &len, &missing, err);
  if (!text && !missing) return false;
  for (const uint8_t *p; text && len - keep >= 16; kept++) {
    p = (const uint8_t *)text + keep;
    uint64_t n = load_little(p, 8);
    if (load_little(p + 8, 4) != crc32c_masked(p, 8) || n > len - keep - 16) break;
    if (load_little(p + 12 + n, 4) != crc32c_masked(p + 12, (size_t)n) || event_step(p + 12, (size_t)n) > last_step)
      break;
    keep += (size_t)n + 16;
  }
  bool ok = missing || cut_file(path, len, keep, err);
  mem_free(text);
  if (out_kept) *out_kept = kept;
  return ok;
}

