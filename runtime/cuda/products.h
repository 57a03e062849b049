/* The products of a plan by cuBLASLt: one algorithm for each, chosen or checked when a session opens.
 *
 * The choice is made over a fixed list of sizes, never those of the session: sessions of any number of samples and rows
 * choose alike and give a row the same bits.  All products share one workspace, as one stream runs them in order. */
#ifndef NUWA_CUDA_PRODUCTS_H
#define NUWA_CUDA_PRODUCTS_H

#include "runtime/cuda/blaslt.h"
#include "runtime/cuda/gpu.h"

typedef struct CudaProducts CudaProducts;

/* Opens the library and takes the workspace from d, which outlives the result; p and o outlive it too.  The context is
 * current. */
CudaProducts *cuda_products_open(CudaDevice *d, const Plan *p, const NuwaOptions *o, Error *err);
void cuda_products_close(CudaProducts *s);   /* NULL is fine; before its device is closed */
size_t cuda_products_workspace(const CudaProducts *s);   /* bytes; may be 0 */
size_t cuda_products_workspace_of(const CudaProducts *s, int index);
/* What product `index` runs, as text. */
const char *cuda_products_algorithm(const CudaProducts *s, int index);
/* Enqueues a launch of a product; allocates nothing. */
bool cuda_products_run(CudaProducts *s, const PlanLaunch *l, void *const *ref, int64_t B, int64_t R, Error *err);

#endif
