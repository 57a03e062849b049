/* One GPU as a session uses it: a context, one stream, the modules of a plan, device memory, pinned host memory.
 *
 * What is enqueued runs in order; cuda_wait waits for it and tells what failed.  Errors name the call, the kernel where
 * there is one, and the driver's text.  After a failure of a kernel the driver refuses everything else of the
 * process.  The context is the device's primary one, shared with whatever else the process does there; cuda_enter
 * makes it current in the calling thread and must come before everything else. */
#ifndef NUWA_CUDA_DEVICE_H
#define NUWA_CUDA_DEVICE_H

#include "runtime/cuda/api.h"
#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"

typedef struct CudaDevice CudaDevice;

/* Loads the driver and every module of the plan, which must outlive the device; the context is then current. */
CudaDevice *cuda_open(const Plan *p, const NuwaCuda *o, Error *err);
void cuda_close(CudaDevice *d);   /* NULL is fine; frees everything that was got from it */
bool cuda_enter(CudaDevice *d, Error *err);

/* One allocation; `what` says for what in the error, with how much was asked and how much is free.  At least 256-aligned,
 * not cleared. */
bool cuda_alloc(CudaDevice *d, size_t bytes, const char *what, CudaAddress *out, Error *err);
/* Pinned host memory, cleared. */
void *cuda_alloc_host(CudaDevice *d, size_t bytes, Error *err);

/* Enqueue.  Of 0 bytes: nothing.  Host memory that is not pinned works too, and is then read before the return. */
bool cuda_copy_in(CudaDevice *d, CudaAddress to, const void *from, size_t bytes, Error *err);
bool cuda_copy_out(CudaDevice *d, void *to, CudaAddress from, size_t bytes, Error *err);
bool cuda_copy(CudaDevice *d, CudaAddress to, CudaAddress from, size_t bytes, Error *err);
bool cuda_clear(CudaDevice *d, CudaAddress to, size_t bytes, Error *err);
/* Kernel of the plan on `items` work items; ref [n_ref] are device addresses, dim {B, R}.  No items: nothing. */
bool cuda_launch(CudaDevice *d, int kernel, void *const *ref, int n_ref, const int64_t dim[2], int64_t items,
                 Error *err);
/* The time of what is enqueued between the two; the second waits for it. */
bool cuda_clock_start(CudaDevice *d, Error *err);
bool cuda_clock_stop(CudaDevice *d, int64_t *out_ns, Error *err);
bool cuda_wait(CudaDevice *d, Error *err);

/* Between begin and end what is enqueued becomes a graph instead of running.  end is called whether or not enqueueing
 * worked (`ok`); it returns false, and leaves the stream usable, when it did not.  Free with cuda_graph_free. */
bool cuda_capture_begin(CudaDevice *d, Error *err);
bool cuda_capture_end(CudaDevice *d, bool ok, CudaGraphExec *out, Error *err);
bool cuda_graph_run(CudaDevice *d, CudaGraphExec graph, Error *err);
void cuda_graph_free(CudaDevice *d, CudaGraphExec graph);   /* NULL is fine */

/* The CUstream, for a library that enqueues by itself. */
void *cuda_stream(CudaDevice *d);

const char *cuda_device_name(const CudaDevice *d);   /* as the driver has it */
/* 80: the cubin for sm_80 runs the kernel; 0: what the driver made of its PTX. */
int cuda_kernel_arch(const CudaDevice *d, int kernel);

#endif
