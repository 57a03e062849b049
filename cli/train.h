/* Training as `nuwa train` does it, for other commands as well. */
#ifndef NUWA_CLI_TRAIN_H
#define NUWA_CLI_TRAIN_H

#include "cli/cli.h"

/* The options of `nuwa train`, which says what they mean. */
typedef struct TrainArgs {
  ModelArgs model, vq;
  const char *fn, *schedule, *merges, *vq_weights, *weights, *out, *store, *checkpoint, *log, *names, *font;
  const char *merges_text; /* what a file `merges` would hold; no option */
  int64_t steps, stop, batch, seed, every, log_every, evaluate, evaluate_batches, window, things, size, data_seed;
  double lr, warmup, clip, beta1, beta2, decay, null_text, noise;
  bool resume, json, profile, clips, no_revive;
} TrainArgs;

/* Of the last step and the last evaluation (0 where there was none). */
typedef struct TrainResult {
  int64_t steps;
  double loss, held_loss;
} TrainResult;

void train_args_init(TrainArgs *a);
/* Trains, shows progress on stderr, and writes what the options name. */
bool train_model(const TrainArgs *a, TrainResult *out, Error *err);

#endif
