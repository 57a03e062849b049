/* Variants of a model against each other: each is trained alike, some times over with a seed of its own, by any number of
 * processes that share a folder.
 *
 *   FOLDER/NAME-seedN/       a run
 *     lease, lock            while somebody trains it (lease.h)
 *     checkpoint, log/       of train_run: a run that was killed goes on, in whatever process
 *     weights.safetensors    what was trained
 *     result.json            written last, with what was measured of the weights: the run is done
 */
#ifndef NUWA_SYNTH_ABLATION_H
#define NUWA_SYNTH_ABLATION_H

#include "frontend/lua/variants.h"
#include "synth/training.h"

typedef struct AblationVariant {
  const char *name;          /* shown */
  const char *file_name;     /* in the folder: no two variants have one */
  const Define *define;      /* [n_define] what it sets */
  int n_define;
} AblationVariant;

/* Splits what was given several times from what the variants share, and lists the product of `list` (n 0: of one variant
 * that sets nothing) and of all values of each option that has several.  In a (call inside arena_protect). */
bool ablation_variants(Arena *a, const Variant *list, int n, const Define *given, int n_given, Define **out_shared,
                       int *out_n_shared, AblationVariant **out, int *out_n, Error *err);

typedef struct AblationSpec {
  Arena *arena;
  const SynthTarget *target;
  TrainingSpec training;     /* of every run, but for its data and its seed; its model's options are what variants share */
  TrainOptions loop;         /* of every run: steps, and what is done every so many steps */
  const Recipe *recipe;      /* what the caller chose, but for the seed */
  const AblationVariant *variant;
  int n_variant;
  uint64_t seed;             /* of the first run of a variant, */
  int64_t seeds;             /* of how many, each one more */
  const char *folder;
  /* Opens and closes data, eval_data and bpe of a run's spec. */
  bool (*open_data)(void *ctx, TrainingSpec *spec, Error *err);
  void (*close_data)(void *ctx, TrainingSpec *spec);
  bool (*check)(void *ctx, const Training *t, Error *err);                       /* of what was opened; may be NULL */
  void (*begin)(void *ctx, const AblationVariant *v, uint64_t seed);             /* may be NULL */
  /* err: why the run failed, while others go on; NULL: it did not.  May be NULL. */
  void (*end)(void *ctx, const AblationVariant *v, uint64_t seed, const Error *err);
  /* What else is measured of a run, by the weights that its spec has trained: metrics behind those of the last step, in the
   * arena.  May be NULL. */
  bool (*measure)(void *ctx, const TrainingSpec *spec, const char *weights, Metric **out, int *out_n, Error *err);
  bool (*is_cancelled)(void *ctx);
  void (*report)(void *ctx, const TrainReport *r);
  void *ctx;
} AblationSpec;

typedef enum RunState { RUN_OPEN, RUN_DONE, RUN_ELSEWHERE, RUN_FAILED } RunState;

/* What came of a run. */
typedef struct AblationResult {
  RunState state;
  Error why;                 /* RUN_FAILED */
  const Metric *metric;      /* [n_metric] of the last evaluation, or where there is none of the last step; then what else
                              * was measured */
  int n_metric;
  double samples_per_s;
  int64_t session_bytes;
} AblationResult;

/* The variant's model: what it sets, on top of what variants share.  In the arena. */
ModelSpec ablation_model(const AblationSpec *s, int variant);
/* The folder of a run's log (media/metrics_log.h).  In the arena. */
const char *ablation_log(const AblationSpec *s, const AblationVariant *v, uint64_t seed);
/* Trains every run that nobody has done and nobody is at, one after the other.  result [n_variant * seeds], by variant, in the
 * arena; a run that fails is among them, and the others go on.  False after err was set: nothing can go on, or it was
 * cancelled. */
bool ablation_train(const AblationSpec *s, AblationResult *result, Error *err);

#endif
