/* The emulated driver: devices, contexts, errors and modules. */
#include "tests/gpu/driver.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRESH .capability = 80, .step_limit = (uint64_t)1 << 32, .null = {.blocking = true}
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Driver the_driver = {FRESH, .memory.limit = (size_t)2 << 30};
static _Thread_local bool context_is_current;

Driver *driver_enter_unchecked(void) {
  pthread_mutex_lock(&lock);
  return &the_driver;
}

CUresult driver_leave(Driver *d, CUresult code) {
  pthread_mutex_unlock(&lock);
  return code;
}

CUresult driver_error(Driver *d, CUresult code, const char *fmt, ...) {
  char text[sizeof d->error];   /* the arguments may point into d->error */
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  memcpy(d->error, text, sizeof text);
  return code;
}

CUresult driver_fail(Driver *d, CUresult code, const char *fmt, ...) {
  char text[sizeof d->error];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  memcpy(d->error, text, sizeof text);
  return driver_leave(d, code);
}

Driver *driver_enter(CUresult *out_code) {
  Driver *d = driver_of_host_work();
  if (d) {   /* locked, by this thread */
    *out_code = driver_host_fault(d, CU_NOT_PERMITTED, "its function on the host called the driver");
    return NULL;
  }
  d = driver_enter_unchecked();
  if (!d->initialised) {
    *out_code = driver_fail(d, CU_NOT_INITIALIZED, "cuInit was not called");
  } else if (!context_is_current || !d->retained) {
    *out_code = driver_fail(d, CU_INVALID_CONTEXT, "no context is current in this thread");
  } else if (d->sticky) {
    *out_code = driver_leave(d, d->sticky);
  } else {
    return d;
  }
  return NULL;
}

/* ---- the emulator's own entry points ---- */

static void loaded_free(Driver *d, Loaded *m) {
  for (int k = 0; k < m->ptx->variables; k++)
    if (m->ptx->variable[k]->address) memory_free(&d->memory, m->ptx->variable[k]->address);
  ptx_module_free(m->ptx);
  free(m->kernel);
  free(m);
}

void emu_reset(void) {
  Driver *d = driver_enter_unchecked();
  for (int k = 0; k < d->captures; k++) EMU_PUSH(d->graph, d->graphs, d->graph_cap, d->capture[k].graph);
  for (int k = 0; k < d->modules; k++) loaded_free(d, d->module[k]);
  free(d->module);
  driver_free_streams(d);
  driver_free_graphs(d);
  driver_free_host(d);
  free(d->scratch.p);
  memory_done(&d->memory);
  *d = (Driver){FRESH, .memory = {.limit = (size_t)2 << 30, .next = d->memory.next}};
  driver_leave(d, CU_OK);
}

__attribute__((destructor)) static void free_at_exit(void) { emu_reset(); }

bool emu_set_capability(int capability) {
  if (capability != 75 && capability != 80 && capability != 90) return false;
  Driver *d = driver_enter_unchecked();
  d->capability = capability;
  driver_leave(d, CU_OK);
  return true;
}

void emu_set_memory(size_t bytes) {
  Driver *d = driver_enter_unchecked();
  d->memory.limit = bytes < d->memory.used ? d->memory.used : bytes;
  driver_leave(d, CU_OK);
}

void emu_set_step_limit(uint64_t steps) {
  Driver *d = driver_enter_unchecked();
  d->step_limit = steps;
  driver_leave(d, CU_OK);
}

const char *emu_last_error(void) { return the_driver.error; }
uint64_t emu_last_steps(void) { return the_driver.steps; }
uint64_t emu_all_steps(void) { return the_driver.all_steps; }

/* ---- errors ---- */

static const struct { int code; const char *name, *text; } errors[] = {
    {CU_OK, "CUDA_SUCCESS", "no error"},
    {CU_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CU_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CU_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CU_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CU_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CU_NO_BINARY, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {CU_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {CU_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CU_ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CU_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {FAULT_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CU_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {FAULT_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {FAULT_MISALIGNED, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {FAULT_LAUNCH, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CU_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {CU_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CU_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CU_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CU_CAPTURE_MERGE, "CUDA_ERROR_STREAM_CAPTURE_MERGE",
     "operation would result in a merge of separate capture sequences"},
    {CU_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
     "capture was not ended in the same stream as it began"},
    {CU_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {CU_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CU_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {CU_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {CU_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

static int error_index(CUresult code) {
  for (int k = 0; k < (int)(sizeof errors / sizeof *errors); k++)
    if (errors[k].code == code) return k;
  return -1;
}

/* For the failure of a kernel, the emulator's reason follows the driver's words. */
CUresult cuGetErrorString(CUresult code, const char **text) {
  int k = error_index(code);
  *text = k < 0 ? NULL : errors[k].text;
  if (k < 0) return CU_INVALID_VALUE;
  Driver *d = driver_enter_unchecked();
  if (code == d->sticky && code) {
    snprintf(d->shown, sizeof d->shown, "%s: %.890s", errors[k].text, d->error);
    *text = d->shown;
  }
  return driver_leave(d, CU_OK);
}

/* The newest version of a function by its name without a version. */
CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long long flags,
                             int *status) {
  enum { FOUND = 0, NOT_FOUND = 1 };
  static const char *const suffix[] = {"_v2", ""};
  Dl_info self;
  char name[128];
  void *library = dladdr((void *)(uintptr_t)cuInit, &self) ? dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD) : NULL;
  *function = NULL;
  for (int k = 0; library && !*function && k < 2; k++) {
    snprintf(name, sizeof name, "%s%s", symbol, suffix[k]);
    *function = dlsym(library, name);
  }
  if (library) dlclose(library);
  if (status) *status = *function ? FOUND : NOT_FOUND;
  return *function ? CU_OK : CU_NOT_FOUND;
}

CUresult cuGetErrorName(CUresult code, const char **name) {
  int k = error_index(code);
  *name = k < 0 ? NULL : errors[k].name;
  return k < 0 ? CU_INVALID_VALUE : CU_OK;
}

/* ---- device and context ---- */

CUresult cuInit(unsigned flags) {
  Driver *d = driver_enter_unchecked();
  if (flags) return driver_fail(d, CU_INVALID_VALUE, "cuInit: flags must be 0");
  d->initialised = true;
  return driver_leave(d, CU_OK);
}

CUresult cuDriverGetVersion(int *version) {
  *version = 13000;
  return CU_OK;
}

/* For calls that need no context. */
static Driver *enter_device(CUresult *out_code, CUdevice device) {
  Driver *d = driver_enter_unchecked();
  if (d->initialised && device == 0) return d;
  *out_code = d->initialised ? driver_fail(d, CU_INVALID_DEVICE, "device %d: there is only device 0", device)
                             : driver_fail(d, CU_NOT_INITIALIZED, "cuInit was not called");
  return NULL;
}

CUresult cuDeviceGetCount(int *count) {
  CUresult code;
  Driver *d = enter_device(&code, 0);
  if (!d) return code;
  *count = 1;
  return driver_leave(d, CU_OK);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  CUresult code;
  Driver *d = enter_device(&code, ordinal);
  if (!d) return code;
  *device = ordinal;
  return driver_leave(d, CU_OK);
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
  CUresult code;
  Driver *d = enter_device(&code, device);
  if (!d) return code;
  snprintf(name, (size_t)bytes, "nuwa emulated GPU sm_%d", d->capability);
  return driver_leave(d, CU_OK);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  CUresult code;
  Driver *d = enter_device(&code, device);
  if (!d) return code;
  *bytes = d->memory.limit;
  return driver_leave(d, CU_OK);
}

/* CUdevice_attribute by number; those of shared memory and occupancy as the chip of that capability has them. */
int driver_attribute(int capability, int attribute) {
  int turing = capability == 75, hopper = capability == 90;
  switch (attribute) {
  case 1: case 2: case 3: return 1024;              /* threads of a block; its x and y */
  case 4: return 64;
  case 5: return 0x7fffffff;                        /* the grid's x, y, z */
  case 6: case 7: return 65535;
  case 8: return 48 << 10;                          /* shared memory of a block */
  case 9: return 64 << 10;                          /* constant memory */
  case 10: return LANES;
  case 12: case 82: return 64 << 10;                /* registers of a block, of a multiprocessor */
  case 13: return 1000000;                          /* kHz */
  case 16: return turing ? 40 : hopper ? 132 : 108; /* multiprocessors */
  case 36: return 1000000;
  case 37: return 1024;                             /* bus width, bits */
  case 38: return (turing ? 4 : hopper ? 50 : 40) << 20;   /* level 2 cache */
  case 39: return turing ? 1024 : 2048;             /* threads of a multiprocessor */
  case 40: return 1;
  case 41: return 1;
  case 75: return capability / 10;
  case 76: return capability % 10;
  case 81: return (turing ? 64 : hopper ? 228 : 164) << 10;    /* shared memory of a multiprocessor */
  case 97: return (turing ? 64 : hopper ? 227 : 163) << 10;    /* of a block that opts in */
  case 106: return turing ? 16 : 32;                /* blocks of a multiprocessor */
  case 111: return turing ? 0 : 1024;               /* shared memory kept by the system */
  default: return -1;
  }
}

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  CUresult code;
  Driver *d = enter_device(&code, device);
  if (!d) return code;
  *value = driver_attribute(d->capability, attribute);
  if (*value < 0) return driver_fail(d, CU_INVALID_VALUE, "device attribute %d is not known", attribute);
  return driver_leave(d, CU_OK);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  CUresult code;
  Driver *d = enter_device(&code, device);
  if (!d) return code;
  d->retained++;
  *context = (CUcontext)d;
  return driver_leave(d, CU_OK);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  CUresult code;
  Driver *d = enter_device(&code, device);
  if (!d) return code;
  if (!d->retained)
    return driver_fail(d, CU_INVALID_CONTEXT, "the primary context is released more often than retained");
  d->retained--;
  return driver_leave(d, CU_OK);
}

CUresult cuCtxSetCurrent(CUcontext context) {
  Driver *d = driver_enter_unchecked();
  if (!d->initialised) return driver_fail(d, CU_NOT_INITIALIZED, "cuInit was not called");
  if (context && (Driver *)context != d) return driver_fail(d, CU_INVALID_CONTEXT, "this is no context");
  context_is_current = context != NULL;
  return driver_leave(d, CU_OK);
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  *context = context_is_current ? (CUcontext)&the_driver : NULL;
  return CU_OK;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  *device = 0;
  return driver_leave(d, CU_OK);
}

/* ---- modules ---- */

static bool place_variable(void *ctx, Variable *v) {
  Driver *d = ctx;
  v->address = memory_alloc(&d->memory, v->bytes ? v->bytes : 1);
  if (!v->address) return false;
  Allocation *a = memory_find(&d->memory, v->address);
  memcpy(a->data, v->init, v->bytes);
  memory_mark_written(a, v->address, v->bytes);
  a->constant = v->constant;
  return true;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned n, int *option, void **value) {
  enum { JIT_ERROR_LOG = 5, JIT_ERROR_LOG_BYTES = 6 };
  char *log = NULL, text[600] = "";
  size_t log_bytes = 0;
  CUresult code;
  for (unsigned k = 0; k < n; k++) {
    if (option[k] == JIT_ERROR_LOG) log = value[k];
    if (option[k] == JIT_ERROR_LOG_BYTES) log_bytes = (size_t)(uintptr_t)value[k];
  }
  Driver *d = driver_enter_waiting(&code, "cuModuleLoadData");
  if (!d) return code;
  if (!image || !module) return driver_fail(d, CU_INVALID_VALUE, "cuModuleLoadData: no image");
  if (strncmp(image, "\177ELF", 4) == 0 || strncmp(image, "\x50\xed\x55\xba", 4) == 0)
    return driver_fail(d, CU_NO_BINARY, "the emulated device runs PTX, not machine code");
  if (!strstr(image, ".version"))
    return driver_fail(d, CU_INVALID_IMAGE, "this is not PTX: it has no .version; nor is it machine code");
  uint64_t mark = d->memory.next;
  Module *ptx = ptx_module_new(image, place_variable, d, text, sizeof text);
  if (ptx && ptx->target > d->capability) {
    snprintf(text, sizeof text, "the PTX is for sm_%d, the device is sm_%d", ptx->target, d->capability);
    ptx_module_free(ptx);
    ptx = NULL;
  }
  if (!ptx) {
    while (d->memory.n && d->memory.list[d->memory.n - 1].address >= mark)   /* its variables */
      memory_free(&d->memory, d->memory.list[d->memory.n - 1].address);
    if (log && log_bytes) snprintf(log, log_bytes, "%s", text);
    return driver_fail(d, CU_INVALID_PTX, "%s", text);
  }
  Loaded *m = emu_alloc(sizeof *m);
  m->ptx = ptx;
  m->kernel = emu_alloc((size_t)ptx->kernels * sizeof *m->kernel);
  for (int k = 0; k < ptx->kernels; k++)
    m->kernel[k] = (KernelHandle){m, ptx->kernel[k], (48 << 10) - ptx->kernel[k]->shared_bytes};
  EMU_PUSH(d->module, d->modules, d->module_cap, m);
  *module = (CUmodule)m;
  return driver_leave(d, CU_OK);
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  return cuModuleLoadDataEx(module, image, 0, NULL, NULL);
}

static int module_index(const Driver *d, CUmodule module) {
  for (int k = 0; k < d->modules; k++)
    if (d->module[k] == (Loaded *)module) return k;
  return -1;
}

CUresult cuModuleUnload(CUmodule module) {
  CUresult code;
  Driver *d = driver_enter_waiting(&code, "cuModuleUnload");
  if (!d) return code;
  code = driver_finish(d, NULL);
  if (code) return driver_leave(d, code);
  int k = module_index(d, module);
  if (k < 0) return driver_fail(d, CU_INVALID_HANDLE, "cuModuleUnload: this is no module");
  loaded_free(d, d->module[k]);
  d->module[k] = d->module[--d->modules];
  return driver_leave(d, CU_OK);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  int index = module_index(d, module);
  if (index < 0) return driver_fail(d, CU_INVALID_HANDLE, "cuModuleGetFunction: this is no module");
  Loaded *m = d->module[index];
  for (int k = 0; k < m->ptx->kernels; k++)
    if (strcmp(m->kernel[k].kernel->name, name) == 0) {
      *function = (CUfunction)&m->kernel[k];
      return driver_leave(d, CU_OK);
    }
  return driver_fail(d, CU_NOT_FOUND, "the module has no kernel '%s'", name);
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *bytes, CUmodule module, const char *name) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  int index = module_index(d, module);
  if (index < 0) return driver_fail(d, CU_INVALID_HANDLE, "cuModuleGetGlobal: this is no module");
  const Module *m = d->module[index]->ptx;
  for (int k = 0; k < m->variables; k++)
    if (strcmp(m->variable[k]->name, name) == 0) {
      if (address) *address = m->variable[k]->address;
      if (bytes) *bytes = m->variable[k]->bytes;
      return driver_leave(d, CU_OK);
    }
  return driver_fail(d, CU_NOT_FOUND, "the module has no variable '%s'", name);
}

KernelHandle *driver_find_kernel(const Driver *d, CUfunction function) {
  for (int k = 0; k < d->modules; k++)
    for (int j = 0; j < d->module[k]->ptx->kernels; j++)
      if (&d->module[k]->kernel[j] == (KernelHandle *)function) return &d->module[k]->kernel[j];
  return NULL;
}
