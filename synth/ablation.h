/* The kinds of attention against each other, encoder x decoder, at one size of model.
 *
 * Steps, time and memory are measured on models with initial weights, for which they are the same.  The held-out loss
 * needs training: each variant gets the same steps, and what came out is kept in a file, which says which model,
 * options and autoencoder its losses are of. */
#ifndef NUWA_SYNTH_ABLATION_H
#define NUWA_SYNTH_ABLATION_H

#include "synth/training.h"

enum { ABLATION_VARIANTS = 5 };

typedef struct AblationVariant {
  const char *name, *encoder, *decoder;   /* "NF", and values of the options "encoder", "decoder" */
} AblationVariant;
extern const AblationVariant ablation_variant[ABLATION_VARIANTS];
/* Is it one of the options that the variants set? */
bool ablation_varies(const char *option);

/* What drawing one picture takes. */
typedef struct DrawingCost {
  int64_t steps, tokens, kv_bytes, params;
  double ms;                    /* of the fastest of some runs */
} DrawingCost;

typedef struct Ablation {
  Arena *arena;                 /* the caller's, as the target and the paths */
  const SynthTarget *target;
  ModelSpec model;              /* what it leaves open the weights say; the variants' options are set here */
  const char *weights_path, *vq_path;
  Safetensors *weights;         /* names model, options, text encoder */
  char vq_digest[65];           /* of the autoencoder's weights */
  Safetensors *results;         /* whose losses these are; NULL: there are none */
  float loss[ABLATION_VARIANTS];
  const char *steps, *batch;    /* that the losses are after, as the results say */
} Ablation;

/* Fails where a weights file is missing.  Close it either way.  All functions allocate in the arena (call inside
 * arena_protect). */
bool ablation_open(Ablation *b, Arena *arena, const SynthTarget *t, const ModelSpec *model, const char *weights,
                   const char *vq_weights, Error *err);
void ablation_close(Ablation *b);

bool ablation_measure(Ablation *b, int variant, DrawingCost *out, Error *err);

/* What all variants are trained with; ablation_defaults says how they are when nobody says otherwise. */
typedef struct AblationTraining {
  int64_t steps, batch;
  uint64_t seed;
  void (*begin)(void *ctx, int variant);                              /* may be NULL */
  void (*report)(void *ctx, const TrainReport *r);                    /* as of TrainOptions */
  void (*end)(void *ctx, int variant, double held_loss);              /* may be NULL */
  void *ctx;
} AblationTraining;
AblationTraining ablation_defaults(void);
/* Trains every variant and writes the losses over held-out pairs after the last step. */
bool ablation_train(Ablation *b, const AblationTraining *o, const char *path, Error *err);
/* Reads losses of an earlier training.  False with ERROR_FORMAT when they are another model's; what differs is in
 * err. */
bool ablation_read(Ablation *b, const char *path, Error *err);

#endif
