/* The emulated driver: devices, contexts, errors, modules and launches.  Memory, streams and events are in
 * driver_memory.c. */
#include "tests/gpu/driver.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Driver the_driver = {.capability = 80, .memory.limit = (size_t)2 << 30, .step_limit = (uint64_t)1 << 32};
static _Thread_local bool context_is_current;

Driver *driver_enter_unchecked(void) {
  pthread_mutex_lock(&lock);
  return &the_driver;
}

CUresult driver_leave(Driver *d, CUresult code) {
  pthread_mutex_unlock(&lock);
  return code;
}

CUresult driver_fail(Driver *d, CUresult code, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  vsnprintf(d->error, sizeof d->error, fmt, args);
  va_end(args);
  return driver_leave(d, code);
}

Driver *driver_enter(CUresult *out_code) {
  Driver *d = driver_enter_unchecked();
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
  for (int k = 0; k < d->modules; k++) loaded_free(d, d->module[k]);
  free(d->module);
  driver_free_objects(d);
  memory_done(&d->memory);
  *d = (Driver){.capability = 80, .memory = {.limit = (size_t)2 << 30, .next = d->memory.next},
                .step_limit = (uint64_t)1 << 32};
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
    {CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CU_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {FAULT_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CU_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {FAULT_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {FAULT_MISALIGNED, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {FAULT_LAUNCH, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CU_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
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
static int device_attribute(int capability, int attribute) {
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
  *value = device_attribute(d->capability, attribute);
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

CUresult cuCtxSynchronize(void) {
  CUresult code;
  Driver *d = driver_enter(&code);
  return d ? driver_leave(d, CU_OK) : code;
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
  Driver *d = driver_enter(&code);
  if (!d) return code;
  if (!image || !module) return driver_fail(d, CU_INVALID_VALUE, "cuModuleLoadData: no image");
  if (strncmp(image, "\177ELF", 4) == 0 || strncmp(image, "\x50\xed\x55\xba", 4) == 0)
    return driver_fail(d, CU_NO_BINARY, "the emulated device runs PTX, not machine code");
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
  Driver *d = driver_enter(&code);
  if (!d) return code;
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

static KernelHandle *find_kernel(const Driver *d, CUfunction function) {
  for (int k = 0; k < d->modules; k++)
    for (int j = 0; j < d->module[k]->ptx->kernels; j++)
      if (&d->module[k]->kernel[j] == (KernelHandle *)function) return &d->module[k]->kernel[j];
  return NULL;
}

/* CUfunction_attribute.  The emulator allocates no registers, so it does not answer for their number. */
enum {
  FUNCTION_MAX_THREADS = 0,
  FUNCTION_SHARED = 1,
  FUNCTION_CONST = 2,
  FUNCTION_LOCAL = 3,
  FUNCTION_PTX_VERSION = 5,
  FUNCTION_BINARY_VERSION = 6,
  FUNCTION_MAX_DYNAMIC_SHARED = 8,
  FUNCTION_CARVEOUT = 9
};

CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  const KernelHandle *h = find_kernel(d, function);
  if (!h) return driver_fail(d, CU_INVALID_HANDLE, "cuFuncGetAttribute: this is no kernel");
  switch (attribute) {
  case FUNCTION_MAX_THREADS: *value = h->kernel->max_threads ? h->kernel->max_threads : 1024; break;
  case FUNCTION_SHARED: *value = h->kernel->shared_bytes; break;
  case FUNCTION_CONST: *value = 0; break;
  case FUNCTION_LOCAL: *value = h->kernel->local_bytes; break;
  case FUNCTION_PTX_VERSION: *value = h->module->ptx->target; break;
  case FUNCTION_BINARY_VERSION: *value = d->capability; break;
  case FUNCTION_MAX_DYNAMIC_SHARED: *value = h->dynamic_limit; break;
  default: return driver_fail(d, CU_INVALID_VALUE, "cuFuncGetAttribute: attribute %d is not known", attribute);
  }
  return driver_leave(d, CU_OK);
}

CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  KernelHandle *h = find_kernel(d, function);
  if (!h) return driver_fail(d, CU_INVALID_HANDLE, "cuFuncSetAttribute: this is no kernel");
  if (attribute == FUNCTION_CARVEOUT) return driver_leave(d, CU_OK);
  int most = device_attribute(d->capability, 97) - h->kernel->shared_bytes;
  if (attribute != FUNCTION_MAX_DYNAMIC_SHARED)
    return driver_fail(d, CU_INVALID_VALUE, "cuFuncSetAttribute: attribute %d cannot be set", attribute);
  if (value < 0 || value > most)
    return driver_fail(d, CU_INVALID_VALUE,
                       "kernel %s cannot have %d bytes of dynamic shared memory: at most %d remain", h->kernel->name,
                       value, most);
  h->dynamic_limit = value;
  return driver_leave(d, CU_OK);
}

/* ---- launch ---- */

static CUresult check_launch(Driver *d, const KernelHandle *h, const Launch *l, char *why, size_t bytes) {
  uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
  uint64_t blocks = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
  const Function *f = h->kernel;
  bool fits = l->block[0] <= 1024 && l->block[1] <= 1024 && l->block[2] <= 64 && threads <= 1024;
  if (!threads || !blocks || !fits || l->grid[0] > 0x7fffffff || l->grid[1] > 65535 || l->grid[2] > 65535) {
    snprintf(why, bytes, "kernel %s: a grid of %u x %u x %u blocks of %u x %u x %u threads", f->name, l->grid[0],
             l->grid[1], l->grid[2], l->block[0], l->block[1], l->block[2]);
    return CU_INVALID_VALUE;
  }
  if (f->max_threads && threads > (unsigned)f->max_threads) {
    snprintf(why, bytes, "kernel %s: %llu threads in a block, compiled for at most %d", f->name,
             (unsigned long long)threads, f->max_threads);
    return CU_OUT_OF_RESOURCES;
  }
  if (h->dynamic_limit < 0 || l->dynamic_bytes > (unsigned)h->dynamic_limit) {
    snprintf(why, bytes, "kernel %s: %u bytes of dynamic shared memory, at most %d are allowed", f->name,
             l->dynamic_bytes, h->dynamic_limit);
    return CU_INVALID_VALUE;
  }
  return CU_OK;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **params,
                        void **extra) {
  CUresult code;
  char why[800] = "";
  unsigned char block[MAX_PARAM_BYTES] = {0};
  Driver *d = driver_enter(&code);
  if (!d) return code;
  const KernelHandle *h = find_kernel(d, function);
  if (!h) return driver_fail(d, CU_INVALID_HANDLE, "cuLaunchKernel: this is no kernel");
  if (!driver_has_handle(d, stream, false))
    return driver_fail(d, CU_INVALID_HANDLE, "cuLaunchKernel: this is no stream");
  Launch l = {h->kernel, &d->memory, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, block,
              d->step_limit};
  code = check_launch(d, h, &l, why, sizeof why);
  if (code) return driver_fail(d, code, "%s", why);
  if (extra || (h->kernel->params && !params))
    return driver_fail(d, CU_INVALID_VALUE, "kernel %s: parameters must be given as an array of pointers",
                       h->kernel->name);
  for (int k = 0; k < h->kernel->params; k++)
    memcpy(block + h->kernel->param[k].offset, params[k], (size_t)h->kernel->param[k].bytes);
  d->sticky = exec_launch(&l, &d->steps, why, sizeof why);
  if (d->sticky) snprintf(d->error, sizeof d->error, "%s", why);
  return driver_leave(d, CU_OK);
}
