/* The CUDA driver API by dlopen: the functions used, once, in a table; their types as the driver's ABI has them.
 *
 * No toolkit header is needed and nothing is linked.  Opening fails when the library or one function is missing, and
 * says which.  The library stays loaded: a driver keeps threads and exit handlers of its own. */
#ifndef NUWA_CUDA_API_H
#define NUWA_CUDA_API_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/error.h"

typedef int CudaResult;                 /* CUresult */
typedef unsigned long long CudaAddress; /* CUdeviceptr */
typedef struct CudaContextOf *CudaContext;
typedef struct CudaModuleOf *CudaModule;
typedef struct CudaFunctionOf *CudaFunction;
typedef struct CudaStreamOf *CudaStream;
typedef struct CudaEventOf *CudaEvent;
typedef struct CudaGraphOf *CudaGraph;
typedef struct CudaGraphExecOf *CudaGraphExec;

enum {   /* CUresult */
  CUDA_OUT_OF_MEMORY = 2, CUDA_INVALID_IMAGE = 200, CUDA_NO_BINARY_FOR_GPU = 209
};
enum {   /* CUdevice_attribute, CUfunction_attribute, CUjit_option, CUstream_flags, CUstreamCaptureMode */
  CUDA_CAPABILITY_MAJOR = 75, CUDA_CAPABILITY_MINOR = 76, CUDA_MULTIPROCESSORS = 16, CUDA_MAX_DYNAMIC_SHARED = 8,
  CUDA_JIT_ERROR_LOG = 5, CUDA_JIT_ERROR_LOG_BYTES = 6, CUDA_STREAM_NON_BLOCKING = 1, CUDA_CAPTURE_THREAD_LOCAL = 1
};

#define CUDA_FUNCTIONS(F)                                                                                          \
  F(cuInit, (unsigned flags))                                                                                      \
  F(cuGetErrorName, (CudaResult code, const char **out))                                                           \
  F(cuGetErrorString, (CudaResult code, const char **out))                                                         \
  F(cuDeviceGetCount, (int *out))                                                                                  \
  F(cuDeviceGet, (int *out, int ordinal))                                                                          \
  F(cuDeviceGetName, (char *out, int bytes, int device))                                                           \
  F(cuDeviceGetAttribute, (int *out, int attribute, int device))                                                   \
  F(cuDevicePrimaryCtxRetain, (CudaContext *out, int device))                                                      \
  F(cuDevicePrimaryCtxRelease_v2, (int device))                                                                    \
  F(cuCtxSetCurrent, (CudaContext context))                                                                        \
  F(cuModuleLoadDataEx, (CudaModule *out, const void *image, unsigned n, int *option, void **value))               \
  F(cuModuleUnload, (CudaModule module))                                                                           \
  F(cuModuleGetFunction, (CudaFunction *out, CudaModule module, const char *name))                                 \
  F(cuFuncSetAttribute, (CudaFunction function, int attribute, int value))                                         \
  F(cuMemGetInfo_v2, (size_t *out_free, size_t *out_total))                                                        \
  F(cuMemAlloc_v2, (CudaAddress *out, size_t bytes))                                                               \
  F(cuMemFree_v2, (CudaAddress address))                                                                           \
  F(cuMemHostAlloc, (void **out, size_t bytes, unsigned flags))                                                    \
  F(cuMemFreeHost, (void *p))                                                                                      \
  F(cuMemcpyHtoDAsync_v2, (CudaAddress to, const void *from, size_t bytes, CudaStream stream))                     \
  F(cuMemcpyDtoHAsync_v2, (void *to, CudaAddress from, size_t bytes, CudaStream stream))                           \
  F(cuMemcpyDtoDAsync_v2, (CudaAddress to, CudaAddress from, size_t bytes, CudaStream stream))                     \
  F(cuMemsetD8Async, (CudaAddress to, unsigned char value, size_t bytes, CudaStream stream))                       \
  F(cuStreamCreate, (CudaStream *out, unsigned flags))                                                             \
  F(cuStreamDestroy_v2, (CudaStream stream))                                                                       \
  F(cuStreamSynchronize, (CudaStream stream))                                                                      \
  F(cuStreamBeginCapture_v2, (CudaStream stream, int mode))                                                        \
  F(cuStreamEndCapture, (CudaStream stream, CudaGraph *out))                                                       \
  F(cuGraphInstantiateWithFlags, (CudaGraphExec *out, CudaGraph graph, unsigned long long flags))                  \
  F(cuGraphLaunch, (CudaGraphExec exec, CudaStream stream))                                                        \
  F(cuGraphDestroy, (CudaGraph graph))                                                                             \
  F(cuGraphExecDestroy, (CudaGraphExec exec))                                                                      \
  F(cuEventCreate, (CudaEvent *out, unsigned flags))                                                               \
  F(cuEventDestroy_v2, (CudaEvent event))                                                                          \
  F(cuEventRecord, (CudaEvent event, CudaStream stream))                                                           \
  F(cuEventSynchronize, (CudaEvent event))                                                                         \
  F(cuEventElapsedTime, (float *out_ms, CudaEvent begin, CudaEvent end))                                           \
  F(cuLaunchKernel, (CudaFunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,   \
                     unsigned block_y, unsigned block_z, unsigned shared_bytes, CudaStream stream, void **params,  \
                     void **extra))

typedef struct CudaApi {
#define FIELD(name, arguments) CudaResult(*name) arguments;
  CUDA_FUNCTIONS(FIELD)
#undef FIELD
} CudaApi;

/* Fills the table from the library at `path`; NULL: "libcuda.so.1". */
bool cuda_api_open(CudaApi *api, const char *path, Error *err);

/* The driver's words for a failure: `CALL: CUDA_ERROR_NAME (code): text`.  Returns false. */
bool cuda_api_error(const CudaApi *api, const char *call, CudaResult code, Error *err);

/* The call as an expression that is true when it succeeded, else err names it:  CUDA_TRY(api, err, cuInit, (0)) */
#define CUDA_TRY(api, err, name, arguments) cuda_api_check((api), #name, (api)->name arguments, (err))
static inline bool cuda_api_check(const CudaApi *api, const char *call, CudaResult code, Error *err) {
  return code == 0 || cuda_api_error(api, call, code, err);
}

#endif
