/* Compiling kernels to look at them: several to a program, since most of NVRTC's time is the program's. */
#include "codegen/emit/cuda_facts.h"

#include <string.h>

#include "runtime/base/pool.h"

typedef struct Facts {
  Kernel *const *kernel;
  const CudaFactsOptions *o;
  CudaFacts *out;
  int n_program;            /* of an arch; program p holds kernels p, p + n_program, ... */
  Error *error;             /* [n_arch * n_program] */
} Facts;

/* Different kernels may share a name, but not in one program. */
static const char *program_name(const Facts *f, int kernel, char out[32]) {
  snprintf(out, 32, "k%d", kernel);
  return f->o->together > 1 ? out : f->kernel[kernel]->name;
}

static void print_program(const Facts *f, int program, Buffer *out) {
  for (int i = program; i < f->out->n; i += f->n_program) {
    Kernel renamed = *f->kernel[i];
    char name[32];
    renamed.name = program_name(f, i, name);
    cuda_print(&renamed, out);
  }
}

static bool read_kernel(const Facts *f, int arch, int i, const NvrtcResult *r, const char *log, Error *err) {
  CudaFact *fact = &f->out->fact[arch * f->out->n + i];
  const GpuLimits *limits = gpu_limits(f->o->arch[arch]);
  char name[32];
  if (!cubin_read(r->image, r->bytes, f->o->arch[arch], program_name(f, i, name), &fact->code, err))
    return error_prefix(err, "sm_%d, kernel %s", f->o->arch[arch], f->kernel[i]->name);
  fact->shape = cuda_shape(f->kernel[i]);
  fact->shared_bytes = fact->shape.shared_bytes + fact->code.shared_bytes;
  if (limits) fact->occupancy = gpu_occupancy(limits, fact->code.registers, fact->shared_bytes, fact->shape.threads);
  fact->log = log;
  return true;
}

static bool compile_program(const Facts *f, int job, Error *err) {
  /* 177: a helper that this kernel does not need. */
  static const char *const options[] = {"--ftz=true", "--diag-suppress=177", "--ptxas-options=-v"};
  int arch = job / f->n_program, program = job % f->n_program;
  char arch_text[16];
  Buffer text = {0};
  NvrtcResult r = {0};
  snprintf(arch_text, sizeof arch_text, "sm_%d", f->o->arch[arch]);
  print_program(f, program, &text);
  bool ok = text.failed ? error_set(err, ERROR_MEMORY, "out of memory")
                        : nvrtc_compile(f->o->nvrtc, text.data, arch_text, options, f->o->together > 1 ? 2 : 3, &r);
  if (!ok && !text.failed)
    error_set(err, ERROR_DEVICE, "NVRTC does not compile kernel %s (or one beside it) for %s:\n%s",
              f->kernel[program]->name, arch_text, r.log ? r.log : "");
  f->out->log[job] = r.log;
  r.log = NULL;
  const char *log = f->out->log[job] ? f->out->log[job] : "";
  for (int i = program; ok && i < f->out->n; i += f->n_program) ok = read_kernel(f, arch, i, &r, log, err);
  nvrtc_result_done(&r);
  buffer_done(&text);
  return ok;
}

static void compile_programs(void *ctx, int64_t begin, int64_t end, int thread) {
  Facts *f = ctx;
  for (int64_t i = begin; i < end; i++) compile_program(f, (int)i, &f->error[i]);
}

static bool compile_all(Facts *f, Error *err) {
  Pool *pool = pool_new(f->o->threads < 1 ? 1 : f->o->threads, err);
  if (!pool) return false;
  pool_run(pool, compile_programs, f, f->out->n_log, 1);
  pool_free(pool);
  for (int i = 0; i < f->out->n_log; i++) {
    if (f->error[i].code == ERROR_NONE) continue;
    *err = f->error[i];
    return false;
  }
  return true;
}

bool cuda_facts(Kernel *const *kernel, int n, const CudaFactsOptions *o, CudaFacts *out, Error *err) {
  int together = o->together < 1 ? 1 : o->together;
  Facts f = {.kernel = kernel, .o = o, .out = out, .n_program = (n + together - 1) / together};
  *out = (CudaFacts){.n = n, .n_arch = o->n_arch, .n_log = o->n_arch * f.n_program};
  memcpy(out->arch, o->arch, sizeof out->arch);
  out->fact = mem_alloc(sizeof *out->fact * (size_t)n * (size_t)o->n_arch);
  out->log = mem_alloc(sizeof *out->log * (size_t)out->n_log);
  f.error = mem_alloc(sizeof *f.error * (size_t)out->n_log);
  bool ok = out->fact && out->log && f.error ? compile_all(&f, err) : error_set(err, ERROR_MEMORY, "out of memory");
  mem_free(f.error);
  if (!ok) cuda_facts_done(out);
  return ok;
}

void cuda_facts_done(CudaFacts *f) {
  for (int i = 0; f->log && i < f->n_log; i++) mem_free(f->log[i]);
  mem_free(f->log);
  mem_free(f->fact);
  *f = (CudaFacts){0};
}
