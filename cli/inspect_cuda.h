/* What a function becomes on a GPU, for `nuwa inspect --device cuda`. */
#ifndef NUWA_CLI_INSPECT_CUDA_H
#define NUWA_CLI_INSPECT_CUDA_H

#include "cli/cli.h"

typedef struct InspectCuda {
  const ModelArgs *args;    /* what executes; without archs sm_80 and sm_90 */
  const SynthTarget *target;
  bool kernels, assembly;   /* with kernel IR; with PTX */
  bool json;
} InspectCuda;

/* Appends every kernel of the functions in o: CUDA C, registers, spills, shared memory, occupancy, estimated bytes
 * and operations, and what NVRTC said. */
bool inspect_cuda(Model *m, const InspectCuda *q, CompileOptions *o, Buffer *out, Error *err);
/* Appends every product of the functions in o: sizes, types, what follows it, who computes it and why; and, with a
 * GPU, the algorithms of the library's.  Needs no NVRTC without a GPU. */
bool inspect_products(Model *m, const InspectCuda *q, CompileOptions *o, Buffer *out, Error *err);

/* Appends `"name": {...}, `. */
void inspect_json_dim(const char *name, Dim d, Buffer *out);

#endif
