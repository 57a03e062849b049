/* The training loop: batches through the compiled step of a bundle, with metrics, validation, checkpoints and
 * resumption.
 *
 * A run is a function of its options: batch k holds examples k * batch ... of the training split, and all randomness
 * is counted by step or example, never a running stream.  So a run that was killed and resumed from its last
 * checkpoint goes on bit for bit as an uninterrupted one.  What a batch holds is the source's matter (source.h), what
 * a step computes the compiler's. */
#ifndef NUWA_TRAINER_H
#define NUWA_TRAINER_H

#include "media/events.h"
#include "media/world.h"
#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"
#include "train/revive.h"

/* Fills the inputs of one function with examples [first, first + n) of a split. */
typedef struct TrainSource {
  bool (*fill)(void *ctx, NuwaSession *s, int function, WorldSplit split, uint64_t first, int64_t n, Error *err);
  void *ctx;
} TrainSource;

/* What the names of metrics of an evaluation begin with: of validation, and of pairs kept from training. */
#define METRIC_VALIDATION "val."
#define METRIC_HELD_OUT "held."

typedef struct TrainReport {
  int64_t step, steps; /* steps done, of how many */
  bool is_evaluation;  /* metrics are means over batches of either split, under its prefix */
  const Metric *metric;
  int n_metric;
  double samples_per_s; /* since this process began to train */
  double seconds_left;
  int64_t revived; /* codes, so far in this process */
} TrainReport;

typedef struct TrainOptions {
  int64_t steps; /* of the whole run: the schedule's length */
  int64_t stop;  /* stop after this step, with a checkpoint; 0: at the end */
  int64_t batch;
  double lr;           /* at its highest */
  double warmup;       /* share of the steps in which it rises linearly */
  bool cosine;         /* then falls as a cosine to a tenth; else stays */
  double beta1, beta2; /* those the step was compiled with */
  uint64_t seed;
  int evaluate; /* function for validation, -1: none */
  int64_t evaluate_every, evaluate_batches; /* batches of each of the two splits */
  ReviveOptions revive;   /* codebook NULL: none */
  const char *checkpoint; /* path, NULL: none */
  int64_t checkpoint_every;
  bool resume;        /* go on from the checkpoint if it exists; else one that exists is refused */
  const char *recipe; /* all that shapes the result, a JSON object: a checkpoint of another is refused; NULL: {} */
  const char *log;    /* folder of metrics.jsonl and the event file, NULL: none */
  int64_t log_every;
  bool (*is_cancelled)(void *ctx);   /* asked after every step: ends the run, with a checkpoint; may be NULL */
  void (*report)(void *ctx, const TrainReport *r); /* after every step and evaluation; may be NULL */
  void *report_ctx;
} TrainOptions;

/* The learning rate of step 1..steps. */
double train_rate(const TrainOptions *o, int64_t step);

/* Trains s, whose weights are already initial, by function "train" of its plan.  s must hold at least o->batch
 * samples. Fails when the loss or a gradient is not finite any more: the session then has what the step before left,
 * and nothing was written.  Fails when a file cannot be written, or when the checkpoint is damaged or another run's; the
 * session is then in some state between. */
bool train_run(NuwaSession *s, const Plan *p, const TrainOptions *o, const TrainSource *source, Error *err);

#endif
