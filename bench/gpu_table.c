/* What a kernel's machine code says of its speed, and the table of all kernels of the demo.  Estimates, not
 * measurements: bench/README.md has the formula and what it leaves out. */
#include "bench/gpu.h"

#include <string.h>

/* NVIDIA's data sheets of the A100 SXM 80 GB and the H100 SXM; dense rates. */
const GpuRoof *gpu_roof(int arch) {
  static const GpuRoof list[] = {{80, "A100 SXM 80 GB", 108, 2039e9, 19.5e12, 312e12},
                                 {90, "H100 SXM", 132, 3350e9, 67e12, 989e12}};
  for (int i = 0; i < COUNT_OF(list); i++)
    if (list[i].arch == arch) return &list[i];
  return NULL;
}

static double smaller(double x, double y) { return x < y ? x : y; }

/* Little's law: bytes under way = bandwidth x latency.  Every resident thread has one load under way, of the widest
 * kind that its kernel has. */
static double reachable_bandwidth(const GpuRoof *g, const CudaFact *f, double blocks) {
  static const double latency_s = 600e-9;
  double width = f->code.wide_loads || f->code.wide_copies ? 16.0 : 4.0;
  double resident = smaller((double)f->occupancy.blocks * g->multiprocessors, blocks);
  return smaller(g->bytes_s, resident * f->shape.threads * width / latency_s);
}

GpuEstimate gpu_estimate(const GpuRoof *g, const Kernel *k, const GroupCost *cost, const CudaFact *f, int64_t B,
                         int64_t R) {
  double blocks = (double)((kir_item_count(k, B, R) + f->shape.items - 1) / f->shape.items);
  double bandwidth = reachable_bandwidth(g, f, blocks), busy = smaller(1.0, blocks / g->multiprocessors);
  double flops_s = (f->code.tensor ? g->tensor_s : g->f32_s) * busy;
  GpuEstimate e = {.bytes = (double)(dim_value(cost->bytes_read, B, R) + dim_value(cost->bytes_written, B, R)),
                   .flops = (double)dim_value(cost->flops, B, R)};
  double memory_s = bandwidth > 0.0 ? e.bytes / bandwidth : 0.0,
         operations_s = flops_s > 0.0 ? e.flops / flops_s : 0.0;
  e.time_s = memory_s > operations_s ? memory_s : operations_s;
  e.share = e.time_s > 0.0 ? e.bytes / g->bytes_s / e.time_s : 0.0;
  e.bound = operations_s > memory_s ? "operations" : bandwidth < g->bytes_s ? "latency" : "memory";
  return e;
}

/* ---- the table ---- */

enum { ARCHS = 2, TABLE_SAMPLES = 64, TABLE_ROWS = 256, KERNELS_TOGETHER = 24 };

typedef struct Table {
  const GpuTableOptions *o;
  const char *command;
  GpuKernels kernels;
  CudaFacts facts;
  Nvrtc *nvrtc;
  Buffer *out;
} Table;

static void print_uses(const GpuKernel *k, Buffer *out) {
  for (int i = 0; i < k->n_use; i++)
    buffer_printf(out, "%s%s x%d", i ? ", " : "", k->use[i].function, k->use[i].launches);
}

static void print_arch(const Table *t, int arch, int i, Buffer *out) {
  const CudaFact *f = cuda_fact(&t->facts, arch, i);
  const GpuKernel *k = &t->kernels.kernel[i];
  GpuEstimate e = gpu_estimate(gpu_roof(t->facts.arch[arch]), k->kernel, &k->cost, f, TABLE_SAMPLES, TABLE_ROWS);
  buffer_printf(out, " %d | ", f->code.registers);
  if (f->code.spills) buffer_printf(out, "%d (%d) | ", f->code.spills, f->code.inner_spills);
  else buffer_printf(out, "0 | ");
  buffer_printf(out, "%d x %d = %.0f %% | %.0f %% %s |", f->occupancy.blocks, f->shape.threads,
                100.0 * f->occupancy.share, 100.0 * e.share, e.bound);
}

static void print_row(const Table *t, int i, Buffer *out) {
  const GpuKernel *k = &t->kernels.kernel[i];
  GpuEstimate e = gpu_estimate(gpu_roof(t->facts.arch[0]), k->kernel, &k->cost, cuda_fact(&t->facts, 0, i),
                               TABLE_SAMPLES, TABLE_ROWS);
  buffer_printf(out, "| %s | `%s` | ", k->model, k->kernel->name);
  print_uses(k, out);
  buffer_printf(out, " | %.3g | %.3g | %.3g |", e.bytes * 1e-6, e.flops * 1e-6,
                (double)cuda_fact(&t->facts, 0, i)->shared_bytes / 1024.0);
  for (int a = 0; a < t->facts.n_arch; a++) print_arch(t, a, i, out);
  buffer_printf(out, "\n");
}

/* The extremes, for who does not read the rows. */
static void print_summary(const Table *t, int arch, Buffer *out) {
  int spilling = 0, inner = 0, worst = 0, full = 0;
  for (int i = 0; i < t->kernels.n; i++) {
    const CudaFact *f = cuda_fact(&t->facts, arch, i);
    spilling += f->code.spills > 0;
    inner += f->code.inner_spills > 0;
    full += f->occupancy.share >= 0.5;
    if (f->occupancy.share < cuda_fact(&t->facts, arch, worst)->occupancy.share) worst = i;
  }
  const CudaFact *f = cuda_fact(&t->facts, arch, worst);
  buffer_printf(out,
                "- sm_%d: %d of %d kernels have half of the warps or more; the fewest has `%s`: %.0f %% (%s: %d "
                "registers, %lld bytes of shared memory). %d kernels spill, %d of them in an innermost loop.\n",
                t->facts.arch[arch], full, t->kernels.n, t->kernels.kernel[worst].kernel->name,
                100.0 * f->occupancy.share, f->occupancy.limit, f->code.registers, (long long)f->shared_bytes,
                spilling, inner);
}

static void print_table(const Table *t, Buffer *out) {
  int major = 0, minor = 0;
  nvrtc_version(t->nvrtc, &major, &minor);
  buffer_printf(out, "`%s`\n\nNVRTC %d.%d; %d samples (B), %d rows of a decode step (R).\n\n", t->command, major,
                minor, TABLE_SAMPLES, TABLE_ROWS);
  for (int a = 0; a < t->facts.n_arch; a++) print_summary(t, a, out);
  buffer_printf(out, "\n| model | kernel | launches of a call | MB | MFLOP | shared KiB |");
  for (int a = 0; a < t->facts.n_arch; a++)
    buffer_printf(out, " sm_%d registers | spills (inner loops) | occupancy | bandwidth |", t->facts.arch[a]);
  buffer_printf(out, "\n|---|---|---|---:|---:|---:|");
  for (int a = 0; a < t->facts.n_arch; a++) buffer_printf(out, "---:|---:|---|---|");
  buffer_printf(out, "\n");
  for (int i = 0; i < t->kernels.n; i++) print_row(t, i, out);
}

bool gpu_table(const GpuTableOptions *o, const char *command, Buffer *out, Error *err) {
  Table t = {.o = o, .command = command};
  CudaFactsOptions fo = {.arch = {80, 90}, .n_arch = ARCHS, .together = KERNELS_TOGETHER, .threads = o->threads};
  bool ok = gpu_kernels_open(&t.kernels, err) && (fo.nvrtc = t.nvrtc = nvrtc_open(o->nvrtc, err)) != NULL &&
            gpu_kernels_add_demo(&t.kernels, o->models_dir, o->precision, err) &&
            gpu_kernels_facts(&t.kernels, &fo, &t.facts, err);
  if (ok) print_table(&t, out);
  cuda_facts_done(&t.facts);
  gpu_kernels_close(&t.kernels);
  nvrtc_close(t.nvrtc);
  return ok && (!out->failed || error_set(err, ERROR_MEMORY, "out of memory"));
}
