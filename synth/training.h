/* A training run, opened: the entries of a model's `train` and its `evaluate`, compiled; its batches; the autoencoder whose
 * codes it learns; and the recipe of it all.  The loop is train/'s. */
#ifndef NUWA_SYNTH_TRAINING_H
#define NUWA_SYNTH_TRAINING_H

#include "synth/codec.h"
#include "train/source.h"
#include "train/trainer.h"

typedef struct TrainingSpec {
  ModelSpec model;
  CodecSpec codec[CODEC_KINDS]; /* that make tokens of pictures and of maps of labels; without weights: no function wants them */
  const char *weights;          /* a file to begin with, trained with the same autoencoder and merges as far as it says;
                                 * NULL: initial weights */
  const char *const *fresh;     /* [n_fresh] patterns of names: such params begin at initial values all the same */
  int n_fresh;
  const Dataset *data;          /* as the next two, outlives the training */
  const Dataset *eval_data;     /* opened whole: what `evaluate` is fed; NULL: what data hold out */
  const Define *part;           /* [n_part] PREFIX=FILE: params PREFIX.NAME begin with the file's NAME */
  int n_part;
  const Bpe *bpe;               /* NULL: no function wants text */
  int64_t batch;                /* examples a step */
  int loading;                  /* threads that load ahead of the step */
  uint64_t seed;                /* of initial weights, and of all that a step draws */
  bool raw;                     /* evaluate and write the params themselves, not their averages */
  bool evaluates;               /* the model's `evaluate` is wanted, and refused where there is none, nor anything to show */
  bool begins;                  /* no step is wanted, only the weights to begin with: there is no room for steps */
  bool shows;                   /* its evaluations show what the model makes (showing.h) in the log */
} TrainingSpec;
/* Sets the loop as it is when nobody says otherwise: 1000 steps of 32. */
void training_init(TrainingSpec *spec, TrainOptions *loop);

typedef struct Showing Showing;

/* The params of an autoencoder's `encode` as a training began with them (codes_kept.h). */
typedef struct CodesParam {
  const char *name;
  float *value;                 /* [n] */
  int64_t n;
} CodesParam;
typedef struct CodesStart {
  CodesParam *param;            /* [n] */
  int n;                        /* 0: there is no such function, or no weights to begin with */
  const char *of;               /* digest of the file whose codes they make */
} CodesStart;

typedef struct Training {
  Arena *arena;
  const SynthTarget *target;
  TrainingSpec spec;
  Model *model;
  Plan *plan;
  NuwaSession *session;
  Codec codec[CODEC_KINDS];     /* open where the spec has weights */
  Source *source;
  TrainEntry *entry;            /* [model->n_train] */
  int evaluate;                 /* function; -1: none */
  Showing *showing;             /* NULL: nothing is shown */
  const char *recipe;           /* JSON, of a run; NULL before training_recipe */
  TensorView *kept;             /* [n_kept] of the weights to begin with: params that no step reads, but another function does */
  int n_kept;
  CodesStart codes;
} Training;

/* The target must outlive t.  False with err set; ERROR_USAGE where the model lacks what is asked for.  Close t
 * either way. */
bool training_open(Training *t, const SynthTarget *target, const TrainingSpec *spec, Error *err);
void training_close(Training *t);
/* What makes tokens of pictures and of maps of labels; a plan is NULL without such an autoencoder. */
void training_encoders(const Training *t, Encoder out[ENCODER_KINDS]);
/* A param as --eval and --out take it: its average where an entry keeps one, once it made a step, unless the spec is raw. */
bool training_read_param(Training *t, const char *name, void *to, Error *err);
/* Whether an entry or the evaluation has such an input. */
bool training_has_input(const Training *t, const char *name);
/* Kernels and launches with what these are estimated to do, as of models_lower. */
bool training_lower(const Training *t, Lowered *out, Error *err);
/* Sets t's recipe: what stands in r, which is what its caller chose, and what follows from model, data and target. */
bool training_recipe(Training *t, const Recipe *r, Error *err);
/* train_run with the loop's options; batch, seed, entries, evaluation and recipe are t's. */
bool training_run(Training *t, const TrainOptions *loop, Error *err);
/* The params, or their averages where there are some and the spec is not raw, with all that a weights file says
 * (weights_file.h); as_bf16 as of weights_write. */
bool training_write(Training *t, const char *path, bool as_bf16, Error *err);

#endif
