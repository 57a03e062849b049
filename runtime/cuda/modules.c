/* Which image of an object is loaded, and where its kernels are. */
#include "runtime/cuda/modules.h"

#include <string.h>

#include "runtime/base/memory.h"

enum { LOG_BYTES = 900, SHARED_WITHOUT_ASKING = 48 << 10 };

/* Code of a capability runs on those of the same major number that are not older. */
static const PlanImage *best_cubin(const PlanObject *o, int capability) {
  const PlanImage *best = NULL;
  for (int i = 0; i < o->n_image; i++) {
    const PlanImage *m = &o->image[i];
    bool runs = m->arch && m->arch / 10 == capability / 10 && m->arch <= capability;
    if (runs && (!best || m->arch > best->arch)) best = m;
  }
  return best;
}

static CudaResult load_image(const CudaApi *api, const PlanImage *m, char *log, CudaModule *out) {
  int option[2] = {CUDA_JIT_ERROR_LOG, CUDA_JIT_ERROR_LOG_BYTES};
  void *value[2] = {log, (void *)(uintptr_t)LOG_BYTES};
  log[0] = 0;
  return api->cuModuleLoadDataEx(out, m->bytes, 2, option, value);
}

static bool load_object(CudaModules *m, const CudaApi *api, const Plan *p, int index, int capability, Error *err) {
  const PlanObject *o = &p->object[index];
  const PlanImage *cubin = best_cubin(o, capability), *ptx = &o->image[o->n_image - 1];
  char log[LOG_BYTES + 1] = "";
  if (cubin) {
    CudaResult code = load_image(api, cubin, log, &m->module[index]);
    m->arch[index] = cubin->arch;
    if (code == 0) return true;
    if (code != CUDA_INVALID_IMAGE && code != CUDA_NO_BINARY_FOR_GPU) {
      cuda_api_error(api, "cuModuleLoadDataEx", code, err);
      return error_prefix(err, "object %d, cubin for sm_%d", index, cubin->arch);
    }
  }
  m->arch[index] = 0;
  CudaResult code = load_image(api, ptx, log, &m->module[index]);
  if (code == 0) return true;
  cuda_api_error(api, "cuModuleLoadDataEx", code, err);
  error_prefix(err, "object %d, PTX on a device of sm_%d", index, capability);
  size_t at = strlen(err->text);
  if (log[0]) snprintf(err->text + at, sizeof err->text - at, "\n%s", log);
  return false;
}

static bool find_function(CudaModules *m, const CudaApi *api, const Plan *p, int index, Error *err) {
  const PlanKernel *k = &p->kernel[index];
  if (!CUDA_TRY(api, err, cuModuleGetFunction, (&m->function[index], m->module[k->object], k->name)))
    return error_prefix(err, "kernel %s", k->name);
  if (k->shared_bytes <= SHARED_WITHOUT_ASKING) return true;
  return CUDA_TRY(api, err, cuFuncSetAttribute, (m->function[index], CUDA_MAX_DYNAMIC_SHARED, (int)k->shared_bytes)) ||
         error_prefix(err, "kernel %s, %lld bytes of shared memory", k->name, (long long)k->shared_bytes);
}

bool cuda_modules_load(CudaModules *m, const CudaApi *api, const Plan *p, int capability, Error *err) {
  m->module = mem_alloc(sizeof *m->module * (size_t)p->n_object);
  m->arch = mem_alloc(sizeof *m->arch * (size_t)p->n_object);
  m->function = mem_alloc(sizeof *m->function * (size_t)p->n_kernel);
  if (!m->module || !m->arch || !m->function)
    return error_set(err, ERROR_MEMORY, "out of memory for %d modules", p->n_object);
  m->n_object = p->n_object;
  for (int i = 0; i < p->n_object; i++)
    if (!load_object(m, api, p, i, capability, err)) return false;
  for (int i = 0; i < p->n_kernel; i++)
    if (!find_function(m, api, p, i, err)) return false;
  return true;
}

void cuda_modules_free(CudaModules *m, const CudaApi *api) {
  for (int i = 0; i < m->n_object; i++)
    if (m->module[i]) api->cuModuleUnload(m->module[i]);
  mem_free(m->module);
  mem_free(m->arch);
  mem_free(m->function);
  *m = (CudaModules){0};
}
