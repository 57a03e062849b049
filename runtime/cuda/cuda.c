/* A GPU as a device: what gpu.c does with one, and the library's products, in the shape that sessions ask for. */
#include "runtime/cuda/products.h"
#include "runtime/device.h"

typedef struct CudaRunner {
  Device base;
  const Plan *plan;
  CudaDevice *gpu;
  CudaProducts *products;   /* NULL: the plan has none */
} CudaRunner;

static CudaDevice *gpu_of(const Device *d) { return ((const CudaRunner *)d)->gpu; }

static CudaAddress address_of(const void *p) { return (CudaAddress)(uintptr_t)p; }

/* ---- opening ---- */

static void runner_close(Device *d) {
  CudaRunner *c = (CudaRunner *)d;
  cuda_products_close(c->products);
  cuda_close(c->gpu);
  mem_free(c);
}

static bool open_parts(CudaRunner *c, const NuwaOptions *o, Error *err) {
  if (!(c->gpu = cuda_open(c->plan, &o->cuda, err))) return false;
  return !c->plan->n_product || (c->products = cuda_products_open(c->gpu, c->plan, o, err)) != NULL;
}

static Device *runner_open(const Plan *p, const NuwaOptions *o, Pool *pool, Error *err) {
  CudaRunner *c = mem_alloc(sizeof *c);
  if (!c) {
    error_set(err, ERROR_MEMORY, "out of memory for a device");
    return NULL;
  }
  *c = (CudaRunner){.base = {.does = &cuda_device, .rounds_rows = true, .records = !o->cuda.direct}, .plan = p};
  if (open_parts(c, o, err)) return &c->base;
  runner_close(&c->base);
  return NULL;
}

static bool runner_enter(Device *d, Error *err) { return cuda_enter(gpu_of(d), err); }
static bool runner_wait(Device *d, Error *err) { return cuda_wait(gpu_of(d), err); }

/* ---- memory ---- */

static void *runner_alloc(Device *d, size_t bytes, const char *what, Error *err) {
  CudaAddress address;
  return cuda_alloc(gpu_of(d), bytes, what, &address, err) ? (void *)(uintptr_t)address : NULL;
}

static void *runner_alloc_host(Device *d, size_t bytes, Error *err) { return cuda_alloc_host(gpu_of(d), bytes, err); }

static bool runner_clear(Device *d, void *to, size_t bytes, Error *err) {
  return cuda_clear(gpu_of(d), address_of(to), bytes, err);
}

static bool runner_copy_in(Device *d, void *to, const void *from, size_t bytes, Error *err) {
  return cuda_copy_in(gpu_of(d), address_of(to), from, bytes, err);
}

static bool runner_copy_out(Device *d, void *to, const void *from, size_t bytes, Error *err) {
  return cuda_copy_out(gpu_of(d), to, address_of(from), bytes, err);
}

static bool runner_copy(Device *d, void *to, const void *from, size_t bytes, Error *err) {
  return cuda_copy(gpu_of(d), address_of(to), address_of(from), bytes, err);
}

/* ---- launches ---- */

static bool runner_launch(Device *d, const PlanLaunch *l, void *const *ref, int64_t B, int64_t R, Error *err) {
  int64_t dim[2] = {B, R};
  switch (l->kind) {
  case LAUNCH_KERNEL: return cuda_launch(gpu_of(d), l->kernel, ref, l->n_ref, dim, plan_items(l, B, R), err);
  case LAUNCH_PRODUCT: return cuda_products_run(((CudaRunner *)d)->products, l, ref, B, R, err);
  case LAUNCH_KIND_COUNT: break;
  }
  return error_set(err, ERROR_FORMAT, "a launch of kind %d, which does not exist", (int)l->kind);
}

static bool runner_clock_start(Device *d, Error *err) { return cuda_clock_start(gpu_of(d), err); }
static bool runner_clock_stop(Device *d, int64_t *out_ns, Error *err) { return cuda_clock_stop(gpu_of(d), out_ns, err); }

/* ---- records: the driver's graphs ---- */

static bool runner_record_begin(Device *d, Error *err) { return cuda_capture_begin(gpu_of(d), err); }

static bool runner_record_end(Device *d, bool ok, DeviceRecord **out, Error *err) {
  CudaGraphExec graph;
  ok = cuda_capture_end(gpu_of(d), ok, &graph, err);
  *out = (DeviceRecord *)graph;
  return ok;
}

static bool runner_replay(Device *d, DeviceRecord *record, Error *err) {
  return cuda_graph_run(gpu_of(d), (CudaGraphExec)record, err);
}

static void runner_record_free(Device *d, DeviceRecord *record) { cuda_graph_free(gpu_of(d), (CudaGraphExec)record); }

/* ---- questions ---- */

static const char *runner_name(const Device *d) { return cuda_device_name(gpu_of(d)); }

static size_t runner_bytes(const Device *d) {
  const CudaProducts *products = ((const CudaRunner *)d)->products;
  return products ? cuda_products_workspace(products) : 0;
}

static bool runner_is_kernel_compiled(const Device *d, int kernel) { return cuda_kernel_arch(gpu_of(d), kernel) == 0; }

static const char *runner_product_algorithm(const Device *d, int product) {
  return cuda_products_algorithm(((const CudaRunner *)d)->products, product);
}

static size_t runner_product_workspace(const Device *d, int product) {
  return cuda_products_workspace_of(((const CudaRunner *)d)->products, product);
}

static bool check_algorithm(const char *text, Error *err) {
  BlasLtAlgo algo;
  return blaslt_algo_parse(text, &algo, err);
}

const DeviceKind cuda_device = {
  .check_algorithm = check_algorithm, .open = runner_open, .close = runner_close, .enter = runner_enter,
  .wait = runner_wait, .alloc = runner_alloc, .alloc_host = runner_alloc_host, .clear = runner_clear,
  .copy_in = runner_copy_in, .copy_out = runner_copy_out, .copy = runner_copy,
  .launch = runner_launch, .clock_start = runner_clock_start, .clock_stop = runner_clock_stop,
  .record_begin = runner_record_begin, .record_end = runner_record_end, .replay = runner_replay,
  .record_free = runner_record_free,
  .name = runner_name, .bytes = runner_bytes, .is_kernel_compiled = runner_is_kernel_compiled,
  .product_algorithm = runner_product_algorithm, .product_workspace = runner_product_workspace,
};
