/* Writing bundles (docs/bundle.md): a model's plan, alone or with its weights, or an application. */
#ifndef NUWA_SYNTH_PACKAGE_H
#define NUWA_SYNTH_PACKAGE_H

#include "synth/kit.h"

typedef struct PackageSpec {
  KitSpec kit;                  /* the model; its path may be NULL where weights are named, which carry theirs */
  const char *const *function;  /* [n_function] names to compile; none: all */
  int n_function;
  bool embeds;                  /* the weights go in too; where all functions do and the model draws, all that drawing
                                 * takes: the autoencoder with its weights, and the merges */
  bool pins;                    /* CUDA: with cuBLASLt's algorithms as the GPU at hand has them */
  Buffer *explain;              /* not with embeds; may be NULL */
} PackageSpec;

/* Compiled for the target.  Weights are compared with every param before anything is written.  ERROR_USAGE where the
 * model has no such function or option. */
bool package_write(const SynthTarget *t, const PackageSpec *spec, const char *out, Error *err);

#endif
