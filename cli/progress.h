/* How a training goes, on stderr: for the commands that train. */
#ifndef NUWA_CLI_PROGRESS_H
#define NUWA_CLI_PROGRESS_H

#include "train/trainer.h"

typedef struct TrainProgress {
  int64_t steps;            /* done */
  double loss, held_loss;   /* of the first entry that ran in the last step, of the last evaluation; 0: there was none */
  bool is_terminal;
  double last_shown;        /* seconds of a steady clock at the last line */
} TrainProgress;

TrainProgress progress_begin(void);
/* For TrainOptions.report; ctx: the TrainProgress. */
void progress_show(void *ctx, const TrainReport *r);
/* Ends the line of the bar. */
void progress_end(const TrainProgress *p);

#endif
