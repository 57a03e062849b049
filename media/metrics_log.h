/* The log of a training run, a folder:
 *
 *   metrics.jsonl                  metrics, a line a step or evaluation
 *   events.out.tfevents.nuwa       the same for TensorBoard, with pictures and histograms
 *   pictures/NAME-00000500.png     pictures, of step 500
 *
 * A resumed run goes on with it as if it had not been interrupted; a new run does not write over another's. */
#ifndef NUWA_METRICS_LOG_H
#define NUWA_METRICS_LOG_H

#include "media/events.h"

typedef struct MetricsLog MetricsLog;
/* Creates DIR if need be.  last_step < 0 begins a run, and is refused where DIR holds one; otherwise what comes after that
 * step is dropped.  is_alone: refused while another process writes the same log (where leases decide, nothing is). */
MetricsLog *metrics_open(const char *dir, int64_t last_step, bool is_alone, Error *err);
/* Appends to the files and hands them to the operating system.  wall_time: seconds since 1970. */
bool metrics_write(MetricsLog *log, double wall_time, int64_t step, const LogRecord *r, Error *err);
bool metrics_close(MetricsLog *log, Error *err); /* NULL is fine */

/* ---- reading it again ---- */

/* A metric over the steps. */
typedef struct LogCurve {
  char *name;
  double *step, *value; /* [n]; null in the file is NaN */
  int n, cap;
} LogCurve;

typedef struct LogCurves {
  LogCurve *curve; /* [n], in the order in which the file first has them */
  int n, cap;
  size_t read; /* bytes of the file */
} LogCurves;
/* Reads the lines of DIR/metrics.jsonl that were added since the last time (c zeroed: all).  A missing file is empty, half a
 * line at its end is left for the next time. */
bool log_read_curves(LogCurves *c, const char *dir, Error *err);
void log_curves_done(LogCurves *c);

/* A picture in the folder. */
typedef struct LogPictureFile {
  const char *path, *name; /* in the arena */
  int64_t step;
} LogPictureFile;
/* All of them by name, then step.  Call inside arena_protect.  A missing folder is empty. */
bool log_list_pictures(Arena *a, const char *dir, LogPictureFile **out, int *out_n, Error *err);

#endif
