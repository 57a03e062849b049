/* What the logs of a training run are made of: metrics as JSON lines; metrics, pictures and counts as records of
 * TensorBoard's event files.  metrics_log.h keeps a run's.
 *
 * Both are append-only and so may end in half a record after a crash.  Opening one to go on from a step first drops
 * that half record and everything after the step, so a resumed run leaves the log an uninterrupted one leaves. */
#ifndef NUWA_EVENTS_H
#define NUWA_EVENTS_H

#include <stdint.h>

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

typedef struct Metric {
  const char *name;
  double value; /* in JSON, what is not finite is null */
} Metric;

typedef struct LogPicture {
  const char *name;
  const void *png; /* the file */
  size_t bytes;
  int width, height; /* of it */
} LogPicture;

/* How often each of the whole numbers 0 ... n - 1 was there. */
typedef struct LogCounts {
  const char *name;
  const int64_t *count; /* [n] */
  int n;
} LogCounts;

/* What there is to say of a step. */
typedef struct LogRecord {
  const Metric *metric;
  int n_metric;
  const LogPicture *picture;
  int n_picture;
  const LogCounts *counts;
  int n_counts;
} LogRecord;

/* CRC-32C (Castagnoli), and TensorBoard's masked form of it. */
uint32_t crc32c(const void *bytes, size_t n);
uint32_t crc32c_masked(const void *bytes, size_t n);

/* {"step": 12, "loss": 0.5}\n , appended to out; numbers print so that they read back as the same double. */
void jsonl_format(Buffer *out, int64_t step, const Metric *metrics, int n);
/* Keeps the leading whole lines whose "step" is at most last_step and drops the rest; a missing file is fine.
 * *out_kept (may be NULL) is the number of lines kept. */
bool jsonl_truncate_after(const char *path, int64_t last_step, int64_t *out_kept, Error *err);

/* One event as TensorBoard's record: framing, checksums, protocol buffer.  Counts become a histogram of at most
 * EVENT_BUCKETS buckets, each of which holds as many neighbours. */
enum { EVENT_BUCKETS = 512 };
void event_format_version(Buffer *out, double wall_time);
void event_format_record(Buffer *out, double wall_time, int64_t step, const LogRecord *r);
/* The same as jsonl_truncate_after, for event files. */
bool events_truncate_after(const char *path, int64_t last_step, int64_t *out_kept, Error *err);

#endif
