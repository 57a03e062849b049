/* One function on named tensors, by generated code or by the interpreter that defines what it should give. */
#ifndef NUWA_SYNTH_EXECUTE_H
#define NUWA_SYNTH_EXECUTE_H

#include "synth/models.h"

typedef struct ExecuteSpec {
  ModelSpec model;              /* a Lua file or a bundle; its path may be NULL where weights are named */
  const char *fn;
  const char *in;               /* a file of its inputs, whose sizes say what B and R are; NULL: it has none */
  const char *weights;          /* a file; NULL: initial params of seed */
  uint64_t seed;
  uint64_t rng_seed;            /* of the random numbers that the function draws, where the file does not say */
  bool interprets;              /* needs a Lua file, or weights that carry theirs */
} ExecuteSpec;

/* Writes the outputs as safetensors.  ERROR_USAGE where the model lacks what is asked for. */
bool execute_function(const SynthTarget *t, const ExecuteSpec *spec, const char *out, Error *err);

#endif
