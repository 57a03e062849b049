/* See schedule.h. */
#include "train/schedule.h"

bool schedule_has_entry(const TrainEntry *e, int64_t step) {
  return step >= e->from && step <= e->to && (step - e->from) % e->every == 0;
}

bool schedule_is_due(int64_t step, int64_t every, int64_t last) {
  return every > 0 && (step % every == 0 || step == last);
}

int64_t schedule_last(const TrainOptions *o) { return o->stop && o->stop < o->steps ? o->stop : o->steps; }

int64_t schedule_evaluated(const TrainOptions *o, const TrainSource *s, WorldSplit split) {
  uint64_t n = s->count ? s->count(s->ctx, split) : 0;
  int64_t wanted = o->evaluate_batches * o->batch;
  return n && n < (uint64_t)wanted ? (int64_t)n : wanted;
}

LoaderBatch schedule_batch(const TrainOptions *o, bool is_evaluation, WorldSplit split, int64_t b, int64_t examples) {
  int64_t left = examples - b * o->batch;
  return (LoaderBatch){is_evaluation, split, (uint64_t)(b * o->batch), left < o->batch ? left : o->batch};
}

/* Batch s->evaluation of an evaluation, whichever split it is of; false: that was all. */
static bool next_evaluated(TrainSchedule *s, LoaderBatch *out) {
  static const WorldSplit splits[] = {WORLD_VALIDATION, WORLD_HELD_OUT};
  int64_t b = s->evaluation++;
  for (int i = 0; i < 1 + s->source->has_held_out; i++) {
    int64_t examples = schedule_evaluated(s->o, s->source, splits[i]), n = (examples + s->o->batch - 1) / s->o->batch;
    if (b < n) return *out = schedule_batch(s->o, true, splits[i], b, examples), true;
    b -= n;
  }
  s->evaluation = -1;
  return false;
}

bool schedule_next(void *schedule, LoaderBatch *out) {
  TrainSchedule *s = schedule;
  const TrainOptions *o = s->o;
  for (;;) {
    if (s->evaluation >= 0 && next_evaluated(s, out)) return true;
    if (s->step >= schedule_last(o)) return false;
    int64_t step = ++s->step;
    bool reads = false;
    for (int i = 0; i < o->n_entry; i++) reads |= schedule_has_entry(&o->entry[i], step);
    s->evaluation = o->evaluate >= 0 && schedule_is_due(step, o->evaluate_every, o->steps) ? 0 : -1;
    *out = schedule_batch(o, false, WORLD_TRAIN, step - 1, step * o->batch);
    if (reads) return true;
  }
}
