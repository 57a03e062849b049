/* What a function becomes on a GPU, for `nuwa inspect --device cuda`. */
#ifndef NUWA_CLI_INSPECT_CUDA_H
#define NUWA_CLI_INSPECT_CUDA_H

#include "cli/cli.h"

typedef struct InspectCuda {
  const ModelArgs *args;    /* --arch, --nvrtc, --threads; without archs sm_80 and sm_90 */
  bool kernels, assembly;   /* with kernel IR; with PTX */
  bool json;
} InspectCuda;

/* Appends every kernel of the functions in o: CUDA C, registers, spills, shared memory, occupancy, estimated bytes and
 * operations, and what NVRTC said. */
bool inspect_cuda(Model *m, const InspectCuda *q, CompileOptions *o, Buffer *out, Error *err);

#endif
