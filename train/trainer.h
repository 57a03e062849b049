/* The training loop: batches through the compiled step of a bundle, with metrics, validation, checkpoints and
 * resumption.
 *
 * A run is a function of its options: batch k holds examples k * batch ... of the training split, and all randomness
 * is counted by step or example, never a running stream.  So a run that was killed and resumed from its last
 * checkpoint goes on bit for bit as an uninterrupted one.  What a batch holds is the source's matter (source.h), what
 * a step computes the compiler's. */
#ifndef NUWA_TRAINER_H
#define NUWA_TRAINER_H

#include "media/metrics_log.h"
#include "media/world.h"
#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"
#include "train/loader.h"

/* What the names of metrics of an evaluation begin with: of validation, and of pairs kept from training. */
#define METRIC_VALIDATION "val."
#define METRIC_HELD_OUT "held."

/* Fills the inputs of one function with examples [first, first + n) of a split.  All but fill may be NULL. */
typedef struct TrainSource {
  bool (*fill)(void *ctx, NuwaSession *s, int function, WorldSplit split, uint64_t first, int64_t n, Error *err);
  bool has_held_out; /* examples of WORLD_HELD_OUT: pairs that training never shows */
  void *ctx;
  /* How many examples of a split an evaluation can see; 0: without end. */
  uint64_t (*count)(void *ctx, WorldSplit split);
  /* Told of all batches that will be asked for, each once for every function that reads it, in this order; then that no
   * more will be. */
  void (*begin)(void *ctx, const LoaderBatches *b);
  void (*end)(void *ctx);
  double (*waited)(void *ctx); /* seconds that fill has waited for data since begin */
} TrainSource;

/* One of the updates of a step, in order: those after it see what it left. */
typedef struct TrainEntry {
  const char *name;
  int function;
  int64_t from, to, every; /* it runs in steps from, from + every, ..., counted from 1, not after `to` */
} TrainEntry;

typedef struct TrainReport {
  int64_t step, steps; /* steps done, of how many */
  int64_t begin;       /* the step that this process began after */
  bool is_evaluation;  /* metrics are means over batches of either split, under its prefix; after them what was shown */
  const Metric *metric; /* [n_metric] scalar outputs of the entries that ran: "loss", or "NAME.loss" where there are
                           several entries */
  int n_metric;
  const LogCounts *counts; /* [n_counts] of an evaluation; valid until the next one */
  int n_counts;
  double samples_per_s; /* since this process began to train, evaluations not counted */
  double seconds_left;
  double waiting; /* the share of the time that steps have waited for data */
} TrainReport;

typedef struct TrainOptions {
  int64_t steps; /* of the whole run */
  int64_t stop;  /* stop after this step, with a checkpoint; 0: at the end */
  int64_t batch;
  uint64_t seed;
  const TrainEntry *entry;
  int n_entry;
  int evaluate; /* function for validation, -1: none: evaluations then only show */
  int64_t evaluate_every, evaluate_batches; /* at most so many batches of each of the two splits, and no example twice */
  const char *checkpoint; /* path, NULL: none */
  int64_t checkpoint_every;
  bool resume;        /* go on from the checkpoint if it exists; else one that exists is refused */
  const char *recipe; /* all that shapes the result, a JSON object: a checkpoint of another is refused; NULL: {} */
  bool (*is_told)(const char *field); /* that field of a recipe is for people, and may differ; NULL: none is */
  const char *log;    /* folder (metrics_log.h), NULL: none.  One that holds a run is refused unless that is resumed */
  int64_t log_every;
  /* What an evaluation has to show beside its metrics: more of them, pictures, counts.  Valid until the next call; asked
   * only where there is a log; may be NULL. */
  bool (*show)(void *ctx, LogRecord *out, Error *err);
  /* Asked after every step, before it is written anywhere: false where somebody else has taken the run, which ends it with
   * nothing written; may be NULL. */
  bool (*is_held)(void *ctx);
  bool (*is_cancelled)(void *ctx);   /* asked after every step: ends the run, with a checkpoint; may be NULL */
  void (*report)(void *ctx, const TrainReport *r); /* after every step and evaluation, when the log has it; may be NULL */
  /* Appends to the error of an entry that gave no finite number where that began; may be NULL. */
  void (*explain)(void *ctx, const TrainEntry *e, Error *err);
  void *show_ctx, *report_ctx, *explain_ctx;
  int64_t *done; /* set to the last whole step, whether it was made now or before; may be NULL */
  double *waiting; /* set to the share of the run's time that steps waited for data; may be NULL */
} TrainOptions;

/* The seed that entry or function `name` is fed: SHA-256 of the run's seed and the name, its first eight bytes. */
uint64_t train_seed(uint64_t seed, const char *name);

/* Whether t is an input that the trainer feeds: seed i32 [2], step and steps i32 [], example i32 [B].  Others of these
 * names are data like any. */
bool train_feeds(const PlanTensor *t);
/* Feeds a function's inputs that are the trainer's: seed, step, steps (the run's), example (first, first + 1, ...). */
void train_feed(NuwaSession *s, const Plan *p, int function, uint64_t seed, int64_t step, int64_t steps,
                uint64_t first, int64_t n);

/* Trains s, whose weights are already initial.  s must hold at least o->batch samples.  Fails when a scalar output of an
 * entry is not finite any more: that entry then changed nothing (passes/train.c), and nothing was written.  Fails when a
 * file cannot be written, or when the checkpoint is damaged or another run's; the session is then in some state between. */
bool train_run(NuwaSession *s, const Plan *p, const TrainOptions *o, const TrainSource *source, Error *err);

#endif
