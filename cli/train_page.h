/* The page of `nuwa train --report`: curves, pictures over time, use of codes, recipe, time of kernels, of one run.
 *
 * All that it shows of earlier steps is read from the run's log, so that the page of a run that was killed and resumed goes
 * on.  It is made anew at each evaluation, and once a minute, and appears whole or not at all. */
#ifndef NUWA_CLI_TRAIN_PAGE_H
#define NUWA_CLI_TRAIN_PAGE_H

#include "media/metrics_log.h"
#include "synth/training.h"

typedef struct TrainPage {
  const char *path, *log;       /* of the page; the folder of the log */
  const char *command;          /* as it was typed */
  const Training *training;
  const Lowered *lowered;       /* of its entries; NULL: their time is not measured */
  LogCurves curves;
  TrainReport last;             /* what was reported last, with step 0: nothing */
  double written;               /* seconds of a steady clock at the last writing */
  bool has_warned;
} TrainPage;

/* After each report; a page that cannot be written is told once on stderr, and training goes on. */
void train_page_report(TrainPage *p, const TrainReport *r);
/* What became of the run: "finished", "stopped after step 12: ...". */
bool train_page_write(TrainPage *p, const char *state, Error *err);
void train_page_done(TrainPage *p);
/* Words as a shell takes them, after "nuwa"; appended. */
void train_page_command(Buffer *out, int argc, char **argv);

#endif
