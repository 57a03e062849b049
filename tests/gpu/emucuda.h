/* An emulated CUDA driver: libnuwa_emucuda.so exports the driver API by name, runs PTX on the CPU and refuses what
 * real hardware would let pass: races, reads of memory never written, divergent shuffles (see ptx_exec.h).
 *
 * What a caller sees: cubins are refused with 209 (NO_BINARY_FOR_GPU), what is no PTX either with 200; work runs as
 * late as the API allows (emu_set_order), inside of the call that waits for it; the faults of kernels appear there
 * and stay until emu_reset.  So, among other things,
 *   - cuMemcpyHtoD from pageable memory of up to 64 KiB, cuMemcpyDtoD and cuMemset have not happened on return:
 *     streams made with CU_STREAM_NON_BLOCKING (1), which are not ordered with the null stream, must be made to wait;
 *   - asynchronous copies read and write the host's memory when somebody waits for them, not before;
 *   - the first query of an unfinished stream or event is answered with 600 (NOT_READY), the second makes it finish;
 *   - cuMemFree, cuMemFreeHost and cuModuleUnload wait for everything.
 * Libraries that stand in for cuBLASLt and the like put their work into the same queues with emu_enqueue.
 * The text of the last failure names the kernel, the PTX line and the thread.
 * Any thread may call; one call runs at a time. */
#ifndef EMU_CUDA_H
#define EMU_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EMU_API __attribute__((visibility("default")))

/* ---- the emulator's own entry points ---- */
EMU_API void emu_reset(void);                       /* everything is freed; as if the library had just been loaded */
EMU_API bool emu_set_capability(int capability);    /* 75, 80 (the default) or 90; false for others */
EMU_API void emu_set_memory(size_t bytes);          /* device memory; default 2 GiB */
EMU_API void emu_set_step_limit(uint64_t steps);    /* warp instructions a launch may take before 702; default 2^32 */
/* In what order work runs that is not ordered by streams and events: 0 (the default) as late as possible, unordered
 * streams newest first; 1 at once, as it is issued; 2 when somebody waits, everything else goes before what is waited
 * for; a larger number is the seed of a random legal order. */
EMU_API void emu_set_order(uint64_t order);
EMU_API const char *emu_last_error(void);           /* why a call last failed; "" if none did */
EMU_API uint64_t emu_last_steps(void);              /* warp instructions of the last launch that ran */
EMU_API uint64_t emu_all_steps(void);               /* ... of all since emu_reset */

/* ---- the driver API, as cuda.h has it ---- */
typedef int CUresult, CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

EMU_API CUresult cuInit(unsigned flags);
EMU_API CUresult cuDriverGetVersion(int *version);
EMU_API CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long long flags,
                                     int *status);
EMU_API CUresult cuGetErrorString(CUresult code, const char **text);
EMU_API CUresult cuGetErrorName(CUresult code, const char **name);
EMU_API CUresult cuDeviceGetCount(int *count);
EMU_API CUresult cuDeviceGet(CUdevice *device, int ordinal);
EMU_API CUresult cuDeviceGetName(char *name, int bytes, CUdevice device);
EMU_API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device);
EMU_API CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device);
EMU_API CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
EMU_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device);
EMU_API CUresult cuCtxSetCurrent(CUcontext context);
EMU_API CUresult cuCtxGetCurrent(CUcontext *context);
EMU_API CUresult cuCtxGetDevice(CUdevice *device);
EMU_API CUresult cuCtxSynchronize(void);

EMU_API CUresult cuModuleLoadData(CUmodule *module, const void *image);
EMU_API CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned n, int *option, void **value);
EMU_API CUresult cuModuleUnload(CUmodule module);
EMU_API CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name);
EMU_API CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *bytes, CUmodule module, const char *name);
EMU_API CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function);
EMU_API CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value);
EMU_API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads,
                                                              size_t dynamic_bytes);
EMU_API CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                                CUstream stream, void **params, void **extra);

EMU_API CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes);
EMU_API CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes);
EMU_API CUresult cuMemFree_v2(CUdeviceptr address);
EMU_API CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream);
EMU_API CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream);
EMU_API CUresult cuMemAllocHost_v2(void **p, size_t bytes);
EMU_API CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned flags);
EMU_API CUresult cuMemFreeHost(void *p);
EMU_API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes);
EMU_API CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes);
EMU_API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes);
EMU_API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream);
EMU_API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream);
EMU_API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream);
EMU_API CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t n);
EMU_API CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t n);
EMU_API CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t n);
EMU_API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, CUstream stream);
EMU_API CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t n, CUstream stream);
EMU_API CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t n, CUstream stream);

EMU_API CUresult cuStreamCreate(CUstream *stream, unsigned flags);
EMU_API CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority);
EMU_API CUresult cuStreamDestroy_v2(CUstream stream);
EMU_API CUresult cuStreamSynchronize(CUstream stream);
EMU_API CUresult cuStreamQuery(CUstream stream);
EMU_API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags);
EMU_API CUresult cuEventCreate(CUevent *event, unsigned flags);
EMU_API CUresult cuEventDestroy_v2(CUevent event);
EMU_API CUresult cuEventRecord(CUevent event, CUstream stream);
EMU_API CUresult cuEventSynchronize(CUevent event);
EMU_API CUresult cuEventQuery(CUevent event);
EMU_API CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end);
EMU_API CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end);

/* mode: 0 global, 1 of the thread, 2 relaxed; status: 0 none, 1 active, 2 invalidated.  flags are ignored. */
EMU_API CUresult cuStreamBeginCapture_v2(CUstream stream, int mode);
EMU_API CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph);
EMU_API CUresult cuStreamIsCapturing(CUstream stream, int *status);
EMU_API CUresult cuStreamGetCaptureInfo_v2(CUstream stream, int *status, unsigned long long *id, CUgraph *graph,
                                           const void **nodes, size_t *n_nodes);
EMU_API CUresult cuGraphGetNodes(CUgraph graph, void **nodes, size_t *n_nodes);
EMU_API CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags);
EMU_API CUresult cuGraphUpload(CUgraphExec exec, CUstream stream);
EMU_API CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream);
EMU_API CUresult cuGraphExecDestroy(CUgraphExec exec);
EMU_API CUresult cuGraphDestroy(CUgraph graph);

/* ---- for libraries that run on the device, such as cuBLASLt ---- */

/* A kernel whose code is the host's. */
typedef struct EmuWork {
  const char *what;             /* for messages; stays as long as the context */
  CUresult (*run)(void *context);   /* 0, or how it failed */
  void *context;
  void (*release)(void *context);   /* or NULL */
  CUdeviceptr scratch;          /* memory that it alone uses while it runs; before and after, as never written */
  size_t scratch_bytes;
} EmuWork;

/* Queues it, or captures it, as a launch would be.  `run` is called when the launch would run, once for every replay;
 * `release` when no stream, graph or executable needs it any more, also when this fails.  Both are called while the
 * driver is locked and must call nothing of it (run gets 800, NOT_PERMITTED) but emu_read, emu_write, emu_forget.
 * What these refuse is a fault of the device, as one of a kernel is, whatever `run` returns. */
EMU_API CUresult emu_enqueue(CUstream stream, const EmuWork *work);
/* For `run`; elsewhere 401.  All of the bytes must lie inside of one allocation. */
EMU_API CUresult emu_read(void *to, CUdeviceptr from, size_t bytes);   /* all written; to: NULL only checks that */
EMU_API CUresult emu_write(CUdeviceptr to, const void *from, size_t bytes);
EMU_API CUresult emu_forget(CUdeviceptr at, size_t bytes);   /* they count as never written again */

#endif
