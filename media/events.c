/* The formats: JSON lines; TFRecord framing (length, masked CRC of it, data, masked CRC of them; little-endian); and
 * the two messages of tensorflow/core/util/event.proto that scalars need, written by hand:
 *   Event   { 1: double wall_time, 2: int64 step, 3: string file_version, 5: Summary }
 *   Summary { 1: repeated Value { 1: string tag, 2: float simple_value } } */
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

void event_format_scalars(Buffer *out, double wall_time, int64_t step, const Metric *metrics, int n) {
  Buffer event = {0}, summary = {0};
  for (int i = 0; i < n; i++) {
    Buffer value = {0};
    put_bytes(&value, 1, metrics[i].name, strlen(metrics[i].name));
    put_float(&value, 2, (float)metrics[i].value);
    if (!value.failed) put_bytes(&summary, 1, value.data, value.len);
    summary.failed |= value.failed;
    buffer_done(&value);
  }
  put_double(&event, 1, wall_time);
  put_tag(&event, 2, 0);
  put_varint(&event, (uint64_t)step);
  if (!summary.failed && summary.data) put_bytes(&event, 5, summary.data, summary.len);
  event.failed |= summary.failed;
  buffer_done(&summary);
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

struct MetricsLog {
  FILE *lines, *events;
};

static FILE *open_log(const char *path, Error *err) {
  FILE *f = fopen(path, "ab");
  if (!f) error_set(err, ERROR_IO, "%s: %s", path, strerror(errno));
  return f;
}

static bool append(FILE *f, Buffer *b, Error *err) {
  bool ok = !b->failed && fwrite(b->data, 1, b->len, f) == b->len && !fflush(f);
  if (!ok)
    error_set(err, b->failed ? ERROR_MEMORY : ERROR_IO, "writing metrics: %s", strerror(b->failed ? ENOMEM : errno));
  buffer_done(b);
  return ok;
}

MetricsLog *metrics_open(const char *dir, int64_t last_step, Error *err) {
  char lines[1024], events[1024];
  if (snprintf(lines, sizeof lines, "%s/metrics.jsonl", dir) >= (int)sizeof lines ||
      snprintf(events, sizeof events, "%s/events.out.tfevents.nuwa", dir) >= (int)sizeof events) {
    error_set(err, ERROR_ARGUMENT, "the folder of the metrics has too long a name");
    return NULL;
  }
  if (mkdir(dir, 0777) && errno != EEXIST) {
    error_set(err, ERROR_IO, "%s: %s", dir, strerror(errno));
    return NULL;
  }
  int64_t kept_events;
  MetricsLog *log = mem_alloc(sizeof *log);
  bool ok = log || error_set(err, ERROR_MEMORY, "opening metrics: out of memory");
  ok = ok && jsonl_truncate_after(lines, last_step, NULL, err);
  /* The version record is no step's; a log begun anew gets a new one. */
  ok = ok && events_truncate_after(events, last_step < 0 ? -1 : last_step, &kept_events, err);
  ok = ok && (log->lines = open_log(lines, err)) && (log->events = open_log(events, err));
  if (ok && !kept_events) {
    Buffer b = {0};
    event_format_version(&b, 0);
    ok = append(log->events, &b, err);
  }
  if (ok) return log;
  Error ignored;
  metrics_close(log, &ignored);
  return NULL;
}

bool metrics_write(MetricsLog *log, double wall_time, int64_t step, const Metric *metrics, int n, Error *err) {
  Buffer line = {0}, event = {0};
  jsonl_format(&line, step, metrics, n);
  event_format_scalars(&event, wall_time, step, metrics, n);
  bool ok = append(log->lines, &line, err);
  return append(log->events, &event, err) && ok;
}

bool metrics_close(MetricsLog *log, Error *err) {
  if (!log) return true;
  bool ok = true;
  if (log->lines && fclose(log->lines)) ok = false;
  if (log->events && fclose(log->events)) ok = false;
  mem_free(log);
  return ok || error_set(err, ERROR_IO, "closing the metrics: %s", strerror(errno));
}
