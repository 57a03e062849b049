/* What a user says of a training, for the commands that train: options that they share, and what these name, opened. */
#ifndef NUWA_CLI_TRAINING_ARGS_H
#define NUWA_CLI_TRAINING_ARGS_H

#include "cli/cli.h"
#include "synth/training.h"

typedef struct TrainingArgs {
  ModelArgs model, vq;
  TrainingSpec spec;       /* as the options say it, */
  TrainOptions loop;       /* and what of these they do not say as they do: */
  DatasetOptions data;
  DefineList parts, tokens;
  const char *vq_weights;
  ArgList fresh;
  const char *spec_of_data, *spec_of_eval, *merges;
  int64_t seed, least_steps;   /* that may be asked for (1) */
  const char *like;        /* weights that fill what nobody says otherwise: options of the model, autoencoder, text encoder */
  Safetensors *like_file;  /* NULL: none, or not open */
  char cache[CLI_PATH_BYTES];
} TrainingArgs;

/* As it is when nobody says otherwise.  `command` stands before what is told of examples that cannot be read. */
void training_args_init(TrainingArgs *a, const char *command);
/* The options, to be read into a; their number.  with_eval: the option without which those of evaluations have no effect;
 * NULL: they have. */
int training_args_list(TrainingArgs *a, const char *with_eval, Arg *out);
/* What the options name, opened and put into spec, whose seed counts; training_args_close frees it, also after a failure. */
bool training_args_open(TrainingArgs *a, TrainingSpec *spec, Error *err);
void training_args_close(TrainingSpec *spec);
/* What of a spec follows from the options alone, and from a->like, or else from the weights to begin with.  In arena. */
bool training_args_spec(TrainingArgs *a, Arena *arena, const SynthTarget *t, TrainingSpec *out, Error *err);
/* Adds what the spec has from weights to the recipe of what was typed. */
bool training_args_recipe(const TrainingArgs *a, const TrainingSpec *spec, Recipe *r, Error *err);
void training_args_done(TrainingArgs *a);
/* Says what opening left out of the data, on stderr. */
void training_args_say_notes(const TrainingSpec *spec);
/* Refuses options that the model makes meaningless. */
bool training_args_check(const TrainingArgs *a, const Training *open, Error *err);

#endif
