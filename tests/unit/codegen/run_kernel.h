/* For tests: compiles one kernel, loads the object and runs all items, denormals flushed as in the pool. */
#ifndef NUWA_RUN_KERNEL_H
#define NUWA_RUN_KERNEL_H

#include "codegen/codegen.h"
#include "runtime/cpu/loader.h"
#include "runtime/base/pool.h"

typedef void (*KernelEntry)(void *const *buf, const int64_t *dim, int64_t begin, int64_t end, void *scratch);

typedef struct KernelRun {
  KernelEntry entry;
  void *const *args;
  int64_t dim[2];
  char *scratch;
} KernelRun;

static inline void kernel_run_body(void *ctx, int64_t begin, int64_t end, int thread) {
  KernelRun *r = ctx;
  r->entry(r->args, r->dim, begin, end, r->scratch);
}

static inline bool kernel_run(const Kernel *k, const Target *t, void *const *args, int64_t B, int64_t R, Error *err) {
  Buffer object = {0};
  Kernel *one = (Kernel *)(uintptr_t)k;
  bool ok = llvm_compile(&one, 1, t, &object, err);
  Object *o = ok ? object_load(object.data, object.len, err) : NULL;
  Pool *pool = o ? pool_new(1, err) : NULL;
  KernelRun r = {.args = args, .dim = {B, R}, .scratch = mem_alloc_aligned((size_t)kir_scratch_bytes(k) + 64, 64)};
  ok = pool && r.scratch;
  if (ok) {
    void *symbol = object_symbol(o, k->name);
    memcpy(&r.entry, &symbol, sizeof symbol);
    int64_t items = kir_item_count(k, B, R);
    ok = r.entry || error_set(err, ERROR_FORMAT, "the object does not define %s", k->name);
    /* Uneven ranges: the result must not depend on how items are shared out. */
    if (ok) pool_run(pool, kernel_run_body, &r, items, items > 3 ? 3 : 1);
  }
  mem_free(r.scratch);
  pool_free(pool);
  object_free(o);
  buffer_done(&object);
  return ok;
}

#endif
