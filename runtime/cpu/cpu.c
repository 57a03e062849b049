/* The CPU as a device: native objects in this process, their kernels run by the session's pool.  Nothing is ever left to
 * wait for, and running cannot fail. */
#include <string.h>
#include <time.h>

#include "runtime/base/isa.h"
#include "runtime/cpu/loader.h"
#include "runtime/device.h"

enum { MAX_ALLOCATIONS = 8 };

typedef void (*KernelFn)(void *const *buf, const int64_t *dim, int64_t begin, int64_t end, void *scratch);

typedef struct CpuDevice {
  Device base;
  const Plan *plan;
  Pool *pool;
  Object **object;          /* [n_object] */
  KernelFn *kernel;         /* [n_kernel] */
  uint8_t *scratch;         /* [threads][scratch_stride] */
  size_t scratch_stride;
  void *memory[MAX_ALLOCATIONS];
  size_t memory_bytes[MAX_ALLOCATIONS];
  int n_memory;
  int64_t clock_ns;         /* when it was started */
} CpuDevice;

/* ---- opening ---- */

static bool load_objects(CpuDevice *c, Error *err) {
  const Plan *p = c->plan;
  for (int i = 0; i < p->n_object; i++) {
    c->object[i] = object_load(p->object[i].image[0].bytes, (size_t)p->object[i].image[0].len, err);
    if (!c->object[i]) return error_prefix(err, "native object %d", i);
  }
  return true;
}

static bool find_kernels(CpuDevice *c, Error *err) {
  for (int i = 0; i < c->plan->n_kernel; i++) {
    const PlanKernel *k = &c->plan->kernel[i];
    void *at = object_symbol(c->object[k->object], k->name);
    if (!at) return error_set(err, ERROR_FORMAT, "kernel \"%s\" is not in native object %d", k->name, k->object);
    memcpy(&c->kernel[i], &at, sizeof at);
  }
  return true;
}

static bool allocate_scratch(CpuDevice *c, Error *err) {
  size_t most = 0, threads = (size_t)pool_threads(c->pool), bytes;
  for (int i = 0; i < c->plan->n_kernel; i++)
    if ((size_t)c->plan->kernel[i].scratch_bytes > most) most = (size_t)c->plan->kernel[i].scratch_bytes;
  c->scratch_stride = (most + PLAN_ALIGNMENT - 1) / PLAN_ALIGNMENT * PLAN_ALIGNMENT;
  if (!size_mul(c->scratch_stride, threads, &bytes) || !(c->scratch = mem_alloc_aligned(bytes, PLAN_ALIGNMENT)))
    return error_set(err, ERROR_MEMORY, "out of memory: the scratch of %zu threads needs %zu bytes each", threads,
                     c->scratch_stride);
  return true;
}

static void cpu_close(Device *d) {
  CpuDevice *c = (CpuDevice *)d;
  for (int i = 0; c->object && i < c->plan->n_object; i++) object_free(c->object[i]);
  for (int i = 0; i < c->n_memory; i++) mem_free_pages(c->memory[i], c->memory_bytes[i]);
  mem_free(c->object);
  mem_free(c->kernel);
  mem_free(c->scratch);
  mem_free(c);
}

static Device *cpu_open(const Plan *p, const NuwaOptions *o, Pool *pool, Error *err) {
  if (!isa_is_available(p->isa)) {
    error_set(err, ERROR_DEVICE, "this bundle holds code for %s, which this machine lacks", p->isa);
    return NULL;
  }
  CpuDevice *c = mem_alloc(sizeof *c);
  if (!c) {
    error_set(err, ERROR_MEMORY, "out of memory for a device");
    return NULL;
  }
  *c = (CpuDevice){.base = {.does = &cpu_device, .is_host = true}, .plan = p, .pool = pool};
  c->object = mem_alloc(sizeof *c->object * (size_t)p->n_object);
  c->kernel = mem_alloc(sizeof *c->kernel * (size_t)p->n_kernel);
  bool ok = c->object && c->kernel;
  if (!ok) error_set(err, ERROR_MEMORY, "out of memory for %d objects", p->n_object);
  if (ok && load_objects(c, err) && find_kernels(c, err) && allocate_scratch(c, err)) return &c->base;
  cpu_close(&c->base);
  return NULL;
}

static bool cpu_enter(Device *d, Error *err) { return true; }
static bool cpu_wait(Device *d, Error *err) { return true; }

/* ---- memory ---- */

static void *cpu_alloc(Device *d, size_t bytes, const char *what, Error *err) {
  CpuDevice *c = (CpuDevice *)d;
  BUG_IF(c->n_memory == MAX_ALLOCATIONS, "more than %d allocations on a device", MAX_ALLOCATIONS);
  void *p = mem_alloc_pages(bytes);
  c->memory_bytes[c->n_memory] = bytes;
  if (p) return c->memory[c->n_memory++] = p;
  error_set(err, ERROR_MEMORY, "out of memory: %s need %zu bytes", what, bytes);
  return NULL;
}

static void *cpu_alloc_host(Device *d, size_t bytes, Error *err) { return cpu_alloc(d, bytes, "ports", err); }

static bool cpu_clear(Device *d, void *to, size_t bytes, Error *err) {
  memset(to, 0, bytes);
  return true;
}

/* All memory is the host's. */
static bool cpu_copy(Device *d, void *to, const void *from, size_t bytes, Error *err) {
  memmove(to, from, bytes);
  return true;
}

/* ---- launches ---- */

typedef struct KernelCall {
  const CpuDevice *device;
  KernelFn fn;
  void *const *ref;
  int64_t dim[2];
} KernelCall;

static void run_items(void *ctx, int64_t begin, int64_t end, int thread) {
  const KernelCall *c = ctx;
  c->fn(c->ref, c->dim, begin, end, c->device->scratch + (size_t)thread * c->device->scratch_stride);
}

static bool cpu_launch(Device *d, const PlanLaunch *l, void *const *ref, int64_t B, int64_t R, Error *err) {
  CpuDevice *c = (CpuDevice *)d;
  KernelCall call = {.device = c, .fn = c->kernel[l->kernel], .ref = ref, .dim = {B, R}};
  pool_run(c->pool, run_items, &call, plan_items(l, B, R), l->grain);
  return true;
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool cpu_clock_start(Device *d, Error *err) {
  ((CpuDevice *)d)->clock_ns = now_ns();
  return true;
}

static bool cpu_clock_stop(Device *d, int64_t *out_ns, Error *err) {
  *out_ns = now_ns() - ((CpuDevice *)d)->clock_ns;
  return true;
}

/* ---- questions ---- */

static const char *cpu_name(const Device *d) { return plan_device_name(PLAN_CPU); }

static size_t cpu_bytes(const Device *d) {
  const CpuDevice *c = (const CpuDevice *)d;
  return c->scratch_stride * (size_t)pool_threads(c->pool);
}

static bool cpu_is_kernel_compiled(const Device *d, int kernel) { return false; }
static const char *cpu_product_algorithm(const Device *d, int product) { return ""; }
static size_t cpu_product_workspace(const Device *d, int product) { return 0; }

const DeviceKind cpu_device = {
  .open = cpu_open, .close = cpu_close, .enter = cpu_enter, .wait = cpu_wait,
  .alloc = cpu_alloc, .alloc_host = cpu_alloc_host, .clear = cpu_clear,
  .copy_in = cpu_copy, .copy_out = cpu_copy, .copy = cpu_copy,
  .launch = cpu_launch, .clock_start = cpu_clock_start, .clock_stop = cpu_clock_stop,
  .name = cpu_name, .bytes = cpu_bytes, .is_kernel_compiled = cpu_is_kernel_compiled,
  .product_algorithm = cpu_product_algorithm, .product_workspace = cpu_product_workspace,
};
