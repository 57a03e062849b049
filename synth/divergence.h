/* Where a step of training that gave no finite number went wrong. */
#ifndef NUWA_SYNTH_DIVERGENCE_H
#define NUWA_SYNTH_DIVERGENCE_H

#include "synth/training.h"

/* Runs the entry again, on the same params, states and inputs, with checks: which param has a gradient that is not finite,
 * or else the largest one, and which op first gave what is not finite.  Appends what it finds to err; says nothing where
 * it cannot find out. */
void divergence_explain(Training *t, const TrainEntry *e, Error *err);

#endif
