/* The GPU: opening it, memory, launches, graphs.  Modules are modules.c's. */
#include "runtime/cuda/gpu.h"

#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/cuda/modules.h"

enum { MAX_BLOCKS_X = 0x7fffffff, MAX_ALLOCATIONS = 8 };

struct CudaDevice {
  CudaApi api;
  const Plan *plan;
  int device;
  CudaContext context;      /* NULL: not retained */
  CudaStream stream;
  CudaEvent begin, end;     /* of a measured launch; made when first needed */
  CudaModules modules;
  CudaAddress memory[MAX_ALLOCATIONS];
  void *host[MAX_ALLOCATIONS];
  int n_memory, n_host;
  char name[96];
};

/* ---- opening ---- */

static bool find_device(CudaDevice *d, int ordinal, Error *err) {
  int count = 0;
  if (!CUDA_TRY(&d->api, err, cuInit, (0)) || !CUDA_TRY(&d->api, err, cuDeviceGetCount, (&count))) return false;
  if (ordinal < 0 || ordinal >= count)
    return error_set(err, ERROR_DEVICE, "there is no CUDA device %d; this machine has %d", ordinal, count);
  return CUDA_TRY(&d->api, err, cuDeviceGet, (&d->device, ordinal)) &&
         CUDA_TRY(&d->api, err, cuDeviceGetName, (d->name, (int)sizeof d->name, d->device));
}

static bool open_context(CudaDevice *d, Error *err) {
  return CUDA_TRY(&d->api, err, cuDevicePrimaryCtxRetain, (&d->context, d->device)) && cuda_enter(d, err) &&
         CUDA_TRY(&d->api, err, cuStreamCreate, (&d->stream, CUDA_STREAM_NON_BLOCKING));
}

static bool load_modules(CudaDevice *d, Error *err) {
  int major = 0, minor = 0;
  return CUDA_TRY(&d->api, err, cuDeviceGetAttribute, (&major, CUDA_CAPABILITY_MAJOR, d->device)) &&
         CUDA_TRY(&d->api, err, cuDeviceGetAttribute, (&minor, CUDA_CAPABILITY_MINOR, d->device)) &&
         cuda_modules_load(&d->modules, &d->api, d->plan, 10 * major + minor, err);
}

CudaDevice *cuda_open(const Plan *p, const NuwaCuda *o, Error *err) {
  CudaDevice *d = mem_alloc(sizeof *d);
  if (!d) {
    error_set(err, ERROR_MEMORY, "out of memory for a device");
    return NULL;
  }
  d->plan = p;
  if (!cuda_api_open(&d->api, o->driver, err)) {
    mem_free(d);
    return NULL;
  }
  if (find_device(d, o->ordinal, err) && open_context(d, err) && load_modules(d, err)) return d;
  cuda_close(d);
  return NULL;
}

void cuda_close(CudaDevice *d) {
  if (!d) return;
  const CudaApi *api = &d->api;
  if (d->context) {
    api->cuCtxSetCurrent(d->context);
    if (d->stream) api->cuStreamSynchronize(d->stream);
    cuda_modules_free(&d->modules, api);
    for (int i = 0; i < d->n_memory; i++) api->cuMemFree_v2(d->memory[i]);
    for (int i = 0; i < d->n_host; i++) api->cuMemFreeHost(d->host[i]);
    if (d->begin) api->cuEventDestroy_v2(d->begin);
    if (d->end) api->cuEventDestroy_v2(d->end);
    if (d->stream) api->cuStreamDestroy_v2(d->stream);
    api->cuDevicePrimaryCtxRelease_v2(d->device);
  }
  mem_free(d);
}

bool cuda_enter(CudaDevice *d, Error *err) { return CUDA_TRY(&d->api, err, cuCtxSetCurrent, (d->context)); }

const char *cuda_device_name(const CudaDevice *d) { return d->name; }

void *cuda_stream(CudaDevice *d) { return d->stream; }

int cuda_kernel_arch(const CudaDevice *d, int kernel) { return d->modules.arch[d->plan->kernel[kernel].object]; }

/* ---- memory ---- */

bool cuda_alloc(CudaDevice *d, size_t bytes, const char *what, CudaAddress *out, Error *err) {
  BUG_IF(d->n_memory == MAX_ALLOCATIONS, "more than %d allocations on a device", MAX_ALLOCATIONS);
  CudaResult code = d->api.cuMemAlloc_v2(out, bytes);
  if (code == 0) {
    d->memory[d->n_memory++] = *out;
    return true;
  }
  size_t free_bytes = 0, total = 0;
  cuda_api_error(&d->api, "cuMemAlloc", code, err);
  if (code != CUDA_OUT_OF_MEMORY || d->api.cuMemGetInfo_v2(&free_bytes, &total))
    return error_prefix(err, "%zu bytes for %s", bytes, what);
  return error_prefix(err, "%s lacks memory: %s need %zu bytes, %zu of %zu are free", d->name, what, bytes, free_bytes,
                      total);
}

void *cuda_alloc_host(CudaDevice *d, size_t bytes, Error *err) {
  void *p = NULL;
  BUG_IF(d->n_host == MAX_ALLOCATIONS, "more than %d pinned allocations", MAX_ALLOCATIONS);
  if (!CUDA_TRY(&d->api, err, cuMemHostAlloc, (&p, bytes, 0))) {
    error_prefix(err, "%zu bytes of pinned memory", bytes);
    return NULL;
  }
  d->host[d->n_host++] = p;
  return memset(p, 0, bytes);
}

bool cuda_copy_in(CudaDevice *d, CudaAddress to, const void *from, size_t bytes, Error *err) {
  return !bytes || CUDA_TRY(&d->api, err, cuMemcpyHtoDAsync_v2, (to, from, bytes, d->stream));
}

bool cuda_copy_out(CudaDevice *d, void *to, CudaAddress from, size_t bytes, Error *err) {
  return !bytes || CUDA_TRY(&d->api, err, cuMemcpyDtoHAsync_v2, (to, from, bytes, d->stream));
}

bool cuda_copy(CudaDevice *d, CudaAddress to, CudaAddress from, size_t bytes, Error *err) {
  return !bytes || to == from || CUDA_TRY(&d->api, err, cuMemcpyDtoDAsync_v2, (to, from, bytes, d->stream));
}

bool cuda_clear(CudaDevice *d, CudaAddress to, size_t bytes, Error *err) {
  return !bytes || CUDA_TRY(&d->api, err, cuMemsetD8Async, (to, 0, bytes, d->stream));
}

/* ---- launches ---- */

bool cuda_launch(CudaDevice *d, int kernel, void *const *ref, int n_ref, const int64_t dim[2], int64_t items,
                 Error *err) {
  const PlanKernel *k = &d->plan->kernel[kernel];
  long long size[3] = {dim[0], dim[1], items};
  CudaAddress address[PLAN_MAX_REFS];
  void *param[PLAN_MAX_REFS + 3];
  int64_t blocks = items / k->items + (items % k->items != 0);
  if (items < 1) return true;
  if (blocks > MAX_BLOCKS_X)
    return error_set(err, ERROR_ARGUMENT, "kernel %s: %lld items are more than a grid holds", k->name, (long long)items);
  for (int i = 0; i < n_ref; i++) {
    address[i] = (CudaAddress)(uintptr_t)ref[i];
    param[i] = &address[i];
  }
  for (int i = 0; i < 3; i++) param[n_ref + i] = &size[i];
  return CUDA_TRY(&d->api, err, cuLaunchKernel,
                  (d->modules.function[kernel], (unsigned)blocks, 1, 1, (unsigned)k->threads, 1, 1,
                   (unsigned)k->shared_bytes, d->stream, param, NULL)) ||
         error_prefix(err, "kernel %s", k->name);
}

static bool make_events(CudaDevice *d, Error *err) {
  return (d->begin || CUDA_TRY(&d->api, err, cuEventCreate, (&d->begin, 0))) &&
         (d->end || CUDA_TRY(&d->api, err, cuEventCreate, (&d->end, 0)));
}

bool cuda_clock_start(CudaDevice *d, Error *err) {
  return make_events(d, err) && CUDA_TRY(&d->api, err, cuEventRecord, (d->begin, d->stream));
}

bool cuda_clock_stop(CudaDevice *d, int64_t *out_ns, Error *err) {
  float ms = 0;
  bool ok = CUDA_TRY(&d->api, err, cuEventRecord, (d->end, d->stream)) &&
            CUDA_TRY(&d->api, err, cuEventSynchronize, (d->end)) &&
            CUDA_TRY(&d->api, err, cuEventElapsedTime, (&ms, d->begin, d->end));
  *out_ns = (int64_t)((double)ms * 1e6);
  return ok;
}

bool cuda_wait(CudaDevice *d, Error *err) { return CUDA_TRY(&d->api, err, cuStreamSynchronize, (d->stream)); }

/* ---- graphs ---- */

bool cuda_capture_begin(CudaDevice *d, Error *err) {
  return CUDA_TRY(&d->api, err, cuStreamBeginCapture_v2, (d->stream, CUDA_CAPTURE_THREAD_LOCAL));
}

bool cuda_capture_end(CudaDevice *d, bool ok, CudaGraphExec *out, Error *err) {
  CudaGraph graph = NULL;
  Error end = {0};
  *out = NULL;
  if (!CUDA_TRY(&d->api, &end, cuStreamEndCapture, (d->stream, &graph))) {
    if (ok) *err = end;
    return false;
  }
  ok = ok && CUDA_TRY(&d->api, err, cuGraphInstantiateWithFlags, (out, graph, 0));
  if (graph) d->api.cuGraphDestroy(graph);
  return ok;
}

bool cuda_graph_run(CudaDevice *d, CudaGraphExec graph, Error *err) {
  return CUDA_TRY(&d->api, err, cuGraphLaunch, (graph, d->stream));
}

void cuda_graph_free(CudaDevice *d, CudaGraphExec graph) {
  if (graph) d->api.cuGraphExecDestroy(graph);
}
