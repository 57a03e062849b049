/* How a training goes, on stderr: for the commands that train.
 *
 * On a terminal one line that is drawn anew, as wide as the terminal: of what does not fit the least important is left out
 * first (other metrics, the bar, the rate).  Elsewhere a line every ten seconds.  Evaluations have lines of their own. */
#ifndef NUWA_CLI_PROGRESS_H
#define NUWA_CLI_PROGRESS_H

#include "train/trainer.h"

typedef struct TrainProgress {
  double loss;         /* that was reported last, of the first entry that ran in that step; NaN: no entry ran */
  bool is_terminal;
  int drawn;           /* columns of the line that stands on the terminal */
  double last_shown;   /* seconds of a steady clock at the last line */
} TrainProgress;

TrainProgress progress_begin(void);
/* For TrainOptions.report; ctx: the TrainProgress. */
void progress_show(void *ctx, const TrainReport *r);
/* Ends the line of the bar. */
void progress_end(TrainProgress *p);

/* The line of a step within `columns`, without an end; appended. */
void progress_line(const TrainReport *r, int columns, Buffer *out);
/* "loss", or the loss of an entry ("generator.loss") or of an evaluation. */
bool progress_is_loss(const char *metric);
/* "4m10s" */
void progress_left(double seconds, char *out, size_t bytes);
/* How often an entry ran up to a step. */
int64_t progress_runs(const TrainEntry *e, int64_t step);

#endif
