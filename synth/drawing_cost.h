/* What drawing one picture takes: measured on a model with initial weights, for which it is the same. */
#ifndef NUWA_SYNTH_DRAWING_COST_H
#define NUWA_SYNTH_DRAWING_COST_H

#include "synth/models.h"

typedef struct DrawingCost {
  int64_t steps, tokens, kv_bytes, params;
  double ms;                    /* of the fastest of some runs */
} DrawingCost;

/* Of the model's generated function FUNC_DECODE; where there is none all is 0. */
bool drawing_cost_measure(const SynthTarget *t, const ModelSpec *m, DrawingCost *out, Error *err);

#endif
