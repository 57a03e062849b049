/* The emulated driver: what is asked of kernels, and their launches. */
#include "tests/gpu/driver.h"

#include <stdio.h>
#include <string.h>

/* CUfunction_attribute.  The emulator allocates no registers; their number is the estimate of ptx_link.c. */
enum {
  FUNCTION_MAX_THREADS = 0,
  FUNCTION_SHARED = 1,
  FUNCTION_CONST = 2,
  FUNCTION_LOCAL = 3,
  FUNCTION_REGISTERS = 4,
  FUNCTION_PTX_VERSION = 5,
  FUNCTION_BINARY_VERSION = 6,
  FUNCTION_MAX_DYNAMIC_SHARED = 8,
  FUNCTION_CARVEOUT = 9
};

CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  const KernelHandle *h = driver_find_kernel(d, function);
  if (!h) return driver_fail(d, CU_INVALID_HANDLE, "cuFuncGetAttribute: this is no kernel");
  switch (attribute) {
  case FUNCTION_MAX_THREADS: *value = h->kernel->max_threads ? h->kernel->max_threads : 1024; break;
  case FUNCTION_SHARED: *value = h->kernel->shared_bytes; break;
  case FUNCTION_CONST: *value = 0; break;
  case FUNCTION_LOCAL: *value = h->kernel->local_bytes; break;
  case FUNCTION_REGISTERS: *value = h->kernel->registers; break;
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
  KernelHandle *h = driver_find_kernel(d, function);
  if (!h) return driver_fail(d, CU_INVALID_HANDLE, "cuFuncSetAttribute: this is no kernel");
  if (attribute == FUNCTION_CARVEOUT) return driver_leave(d, CU_OK);
  int most = driver_attribute(d->capability, 97) - h->kernel->shared_bytes;
  if (attribute != FUNCTION_MAX_DYNAMIC_SHARED)
    return driver_fail(d, CU_INVALID_VALUE, "cuFuncSetAttribute: attribute %d cannot be set", attribute);
  if (value < 0 || value > most)
    return driver_fail(d, CU_INVALID_VALUE,
                       "kernel %s cannot have %d bytes of dynamic shared memory: at most %d remain", h->kernel->name,
                       value, most);
  h->dynamic_limit = value;
  return driver_leave(d, CU_OK);
}

/* Blocks of a multiprocessor: its threads, registers (allotted by 256 a warp) and shared memory allow so many. */
static int occupancy(const Driver *d, const Function *f, int threads, size_t dynamic_bytes) {
  int warps = (threads + LANES - 1) / LANES;
  int registers = (f->registers * LANES + 255) / 256 * 256 * warps;
  size_t kept = (size_t)driver_attribute(d->capability, 111);
  size_t shared = ((size_t)f->shared_bytes + dynamic_bytes + kept + 127) / 128 * 128;
  int blocks = driver_attribute(d->capability, 106);
  int by_threads = driver_attribute(d->capability, 39) / (warps * LANES);
  int by_registers = driver_attribute(d->capability, 82) / registers;
  int by_shared = shared ? (int)((size_t)driver_attribute(d->capability, 81) / shared) : blocks;
  blocks = by_threads < blocks ? by_threads : blocks;
  blocks = by_registers < blocks ? by_registers : blocks;
  return by_shared < blocks ? by_shared : blocks;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads,
                                                     size_t dynamic_bytes) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  const KernelHandle *h = driver_find_kernel(d, function);
  if (!h) return driver_fail(d, CU_INVALID_HANDLE, "cuOccupancyMaxActiveBlocks...: this is no kernel");
  if (threads < 1 || threads > 1024 || dynamic_bytes > (size_t)h->dynamic_limit + (1 << 20))
    return driver_fail(d, CU_INVALID_VALUE, "cuOccupancyMaxActiveBlocks...: blocks of %d threads, %zu bytes", threads,
                       dynamic_bytes);
  bool fits = h->dynamic_limit >= 0 && dynamic_bytes <= (size_t)h->dynamic_limit;
  *blocks = fits ? occupancy(d, h->kernel, threads, dynamic_bytes) : 0;
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

CUresult driver_run_launch(Driver *d, const Work *w) {
  char why[800] = "";
  Launch l = {.kernel = w->kernel->kernel, .memory = &d->memory, .dynamic_bytes = w->dynamic_bytes,
              .params = w->params, .limit = d->step_limit, .scratch = &d->scratch};
  memcpy(l.grid, w->grid, sizeof l.grid);
  memcpy(l.block, w->block, sizeof l.block);
  CUresult code = exec_launch(&l, &d->steps, why, sizeof why);
  d->all_steps += d->steps;
  return code ? driver_error(d, code, "%s", why) : CU_OK;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **params,
                        void **extra) {
  CUresult code;
  char why[800] = "";
  Driver *d = driver_enter(&code);
  if (!d) return code;
  KernelHandle *h = driver_find_kernel(d, function);
  if (!h) return driver_fail(d, CU_INVALID_HANDLE, "cuLaunchKernel: this is no kernel");
  Handle *s = driver_stream(d, stream);
  if (!s) return driver_fail(d, CU_INVALID_HANDLE, "cuLaunchKernel: this is no stream");
  const Function *f = h->kernel;
  Launch l = {.kernel = f, .grid = {grid_x, grid_y, grid_z}, .block = {block_x, block_y, block_z},
              .dynamic_bytes = shared_bytes};
  code = check_launch(d, h, &l, why, sizeof why);
  if (code) return driver_fail(d, code, "%s", why);
  if (extra || (f->params && !params))
    return driver_fail(d, CU_INVALID_VALUE, "kernel %s: parameters must be given as an array of pointers", f->name);
  Work *w = work_new(WORK_LAUNCH, "cuLaunchKernel");
  w->kernel = h;
  memcpy(w->grid, l.grid, sizeof w->grid);
  memcpy(w->block, l.block, sizeof w->block);
  w->dynamic_bytes = shared_bytes;
  w->params = emu_alloc((size_t)f->param_bytes);
  for (int k = 0; k < f->params; k++) memcpy(w->params + f->param[k].offset, params[k], (size_t)f->param[k].bytes);
  return driver_leave(d, driver_issue(d, s, w));
}
