/* Logs of a training run that grow line by line: metrics as JSON lines and as TensorBoard event files.
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

/* CRC-32C (Castagnoli), and TensorBoard's masked form of it. */
uint32_t crc32c(const void *bytes, size_t n);
uint32_t crc32c_masked(const void *bytes, size_t n);

/* {"step": 12, "loss": 0.5}\n , appended to out; numbers print so that they read back as the same double. */
void jsonl_format(Buffer *out, int64_t step, const Metric *metrics, int n);
/* Keeps the leading whole lines whose "step" is at most last_step and drops the rest; a missing file is fine.
 * *out_kept (may be NULL) is the number of lines kept. */
bool jsonl_truncate_after(const char *path, int64_t last_step, int64_t *out_kept, Error *err);

/* One event as TensorBoard's record: framing, checksums, protocol buffer. */
void event_format_version(Buffer *out, double wall_time);
void event_format_scalars(Buffer *out, double wall_time, int64_t step, const Metric *metrics, int n);
/* The same as jsonl_truncate_after, for event files. */
bool events_truncate_after(const char *path, int64_t last_step, int64_t *out_kept, Error *err);

/* The log of a run: DIR/metrics.jsonl and DIR/events.out.tfevents.nuwa, whose first record is the version. */
typedef struct MetricsLog MetricsLog;
/* Creates DIR if need be.  last_step < 0 begins anew; otherwise what comes after that step is dropped. */
MetricsLog *metrics_open(const char *dir, int64_t last_step, Error *err);
/* Appends to both files and hands them to the operating system.  wall_time: seconds since 1970. */
bool metrics_write(MetricsLog *log, double wall_time, int64_t step, const Metric *metrics, int n, Error *err);
bool metrics_close(MetricsLog *log, Error *err); /* NULL is fine */

#endif
