/* The modules of a plan in a context: for every object the cubin of the device's capability where there is one that the
 * driver takes, else its PTX, which the driver compiles. */
#ifndef NUWA_CUDA_MODULES_H
#define NUWA_CUDA_MODULES_H

#include "runtime/cuda/api.h"
#include "runtime/plan.h"

typedef struct CudaModules {
  int n_object;
  CudaModule *module;     /* [n_object] */
  int *arch;              /* [n_object] of the cubin that was taken; 0: PTX */
  CudaFunction *function; /* [n_kernel] */
} CudaModules;

/* capability: 80 for sm_80.  On failure, too, m is to be freed. */
bool cuda_modules_load(CudaModules *m, const CudaApi *api, const Plan *p, int capability, Error *err);
void cuda_modules_free(CudaModules *m, const CudaApi *api);

#endif
