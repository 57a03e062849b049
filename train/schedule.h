/* What happens in which step of a run, and which batches that takes: all of it follows from the options. */
#ifndef NUWA_SCHEDULE_H
#define NUWA_SCHEDULE_H

#include "train/trainer.h"

bool schedule_has_entry(const TrainEntry *e, int64_t step);
/* Whether what is done every so many steps, and in the last one, is done in this one. */
bool schedule_is_due(int64_t step, int64_t every, int64_t last);
int64_t schedule_last(const TrainOptions *o);
/* How many examples of a split an evaluation reads. */
int64_t schedule_evaluated(const TrainOptions *o, const TrainSource *s, WorldSplit split);
/* Batch b of a step's or an evaluation's examples, of which there are so many. */
LoaderBatch schedule_batch(const TrainOptions *o, bool is_evaluation, WorldSplit split, int64_t b, int64_t examples);

/* The batches of all steps after `step`, and of the evaluations among them. */
typedef struct TrainSchedule {
  const TrainOptions *o;
  const TrainSource *source;
  int64_t step;       /* the last one that is over but for its evaluation */
  int64_t evaluation; /* batches of its evaluation that are over; -1: there is none */
} TrainSchedule;
bool schedule_next(void *schedule, LoaderBatch *out);

#endif
