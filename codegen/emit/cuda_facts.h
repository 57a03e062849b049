/* What NVRTC makes of kernels: machine code for every arch, compiled in parallel and read back (cubin.h). */
#ifndef NUWA_CUDA_FACTS_H
#define NUWA_CUDA_FACTS_H

#include "codegen/emit/cubin.h"
#include "codegen/emit/images.h"

typedef struct CudaFact {
  CubinKernel code;
  CudaShape shape;
  int64_t shared_bytes;     /* of a block: static and dynamic */
  Occupancy occupancy;      /* share 0 where the arch is not in the table of limits */
  const char *log;          /* what NVRTC said of the program that holds the kernel, "" for nothing */
} CudaFact;

typedef struct CudaFacts {
  int n, n_arch;
  int arch[CUDA_MAX_ARCHS];
  CudaFact *fact;           /* [n_arch][n] */
  char **log;               /* [n_log], of programs */
  int n_log;
} CudaFacts;

typedef struct CudaFactsOptions {
  const Nvrtc *nvrtc;
  int arch[CUDA_MAX_ARCHS], n_arch;
  int together;             /* kernels that are compiled as one program, at least 1; 1: logs are of one kernel each,
                               and say what ptxas reports of it */
  int threads;
} CudaFactsOptions;

/* Fails with NVRTC's words when something does not compile.  Free with cuda_facts_done, which takes zeros too. */
bool cuda_facts(Kernel *const *kernel, int n, const CudaFactsOptions *o, CudaFacts *out, Error *err);
void cuda_facts_done(CudaFacts *f);
static inline const CudaFact *cuda_fact(const CudaFacts *f, int arch, int kernel) {
  return &f->fact[arch * f->n + kernel];
}

#endif
