/* Compiling kernels: what an image's key is, who makes it, and in how many threads. */
#include "codegen/emit/images.h"

#include <string.h>

#include "runtime/base/pool.h"

/* One image to make. */
typedef struct ImageJob {
  const Kernel *kernel;
  int arch;             /* CUDA: of a cubin; 0: PTX */
  const char *source;   /* CUDA C */
  const char *key;      /* for the store, if there is one */
  bool was_stored;
  Buffer bytes;         /* data NULL: to be compiled */
  Error error;
} ImageJob;

typedef struct Images {
  const ImageOptions *o;
  Kernel *const *kernel;
  int n_image, n_job;   /* of a kernel, of all; those of a kernel stand together */
  ImageJob *job;
} Images;

static bool is_cuda(const ImageOptions *o) { return target_is_gpu(&o->target); }

/* ---- one image ---- */

static const char *const cuda_options[] = {"--ftz=true"};

static const char *arch_text(const ImageOptions *o, const ImageJob *j, char out[32]) {
  snprintf(out, 32, j->arch ? "sm_%d" : "compute_%d", j->arch ? j->arch : o->target.capability);
  return out;
}

static void compile_cuda(const ImageOptions *o, ImageJob *j) {
  char arch[32];
  NvrtcResult r;
  if (nvrtc_compile(o->cuda.nvrtc, j->source, arch_text(o, j, arch), cuda_options, COUNT_OF(cuda_options), &r)) {
    buffer_append(&j->bytes, r.image, r.bytes);
    if (j->bytes.failed) error_set(&j->error, ERROR_MEMORY, "out of memory for the code of %s", j->kernel->name);
  } else {
    error_set(&j->error, ERROR_DEVICE, "NVRTC does not compile kernel %s for %s:\n%s", j->kernel->name, arch,
              r.log ? r.log : "");
  }
  nvrtc_result_done(&r);
}

static void compile_items(void *ctx, int64_t begin, int64_t end, int thread) {
  Images *m = ctx;
  for (int64_t i = begin; i < end; i++) {
    ImageJob *j = &m->job[i];
    Kernel *kernel = m->kernel[i / m->n_image];
    if (j->bytes.data) continue;
    if (is_cuda(m->o)) compile_cuda(m->o, j);
    else llvm_compile(&kernel, 1, &m->o->target, &j->bytes, &j->error);
  }
}

/* ---- all ---- */

static const char *cuda_source(Arena *a, const Kernel *k) {
  Buffer text = {0};
  cuda_print(k, &text);
  return arena_take_buffer(a, &text);
}

const char *images_key(Arena *a, const ImageOptions *o, const Kernel *k, int arch) {
  Buffer text = {0};
  char name[32];
  ImageJob j = {.kernel = k, .arch = arch};
  buffer_printf(&text, "generator %s\n", codegen_revision);
  if (is_cuda(o)) {
    nvrtc_key(o->cuda.nvrtc, arch_text(o, &j, name), cuda_options, COUNT_OF(cuda_options), &text);
    cuda_print(k, &text);
  } else {
    llvm_key(&o->target, &text);
    kir_print(k, &text);
  }
  return arena_take_buffer(a, &text);
}

static Images images_new(Arena *a, Kernel *const *kernel, int n, const ImageOptions *o) {
  Images m = {.o = o, .kernel = kernel, .n_image = is_cuda(o) ? o->cuda.n_arch + 1 : 1};
  m.n_job = n * m.n_image;
  m.job = ARENA_ARRAY(a, ImageJob, m.n_job);
  for (int i = 0; i < m.n_job; i++) {
    ImageJob *j = &m.job[i];
    int image = i % m.n_image;
    j->kernel = kernel[i / m.n_image];
    j->arch = is_cuda(o) && image < o->cuda.n_arch ? o->cuda.arch[image] : 0;
    if (is_cuda(o)) j->source = image ? j[-1].source : cuda_source(a, j->kernel);
    if (o->store) j->key = images_key(a, o, j->kernel, j->arch);
  }
  return m;
}

static bool compile_all(Images *m, Error *err) {
  const ObjectStore *store = m->o->store;
  for (int i = 0; i < m->n_job && store; i++)
    m->job[i].was_stored = store->get(store->ctx, m->job[i].key, &m->job[i].bytes);
  Pool *pool = pool_new(m->o->threads < 1 ? 1 : m->o->threads, err);
  if (!pool) return false;
  pool_run(pool, compile_items, m, m->n_job, 1);
  pool_free(pool);
  for (int i = 0; i < m->n_job; i++) {
    const ImageJob *j = &m->job[i];
    if (j->error.code != ERROR_NONE) {
      *err = j->error;
      return false;
    }
    if (store && !j->was_stored) store->put(store->ctx, j->key, j->bytes.data, j->bytes.len);
  }
  return true;
}

static PlanObject *objects_new(Arena *a, const Images *m, int n) {
  PlanObject *object = ARENA_ARRAY(a, PlanObject, n);
  PlanImage *image = ARENA_ARRAY(a, PlanImage, m->n_job);
  for (int i = 0; i < n; i++) object[i] = (PlanObject){m->n_image, image + i * m->n_image};
  return object;
}

static void fill_objects(const Images *m, PlanObject *object) {
  for (int i = 0; i < m->n_job; i++) {
    const ImageJob *j = &m->job[i];
    object[i / m->n_image].image[i % m->n_image] =
        (PlanImage){j->arch, (const uint8_t *)j->bytes.data, (int64_t)j->bytes.len};
  }
}

/* The arena is used before anything is compiled: a failure there would leave the images behind. */
bool images_compile(Arena *a, Kernel *const *kernel, int n, const ImageOptions *o,
                    bool (*write)(void *ctx, PlanObject *objects), void *ctx, Error *err) {
  Images m = images_new(a, kernel, n, o);
  PlanObject *object = objects_new(a, &m, n);
  bool ok = compile_all(&m, err);
  if (ok) fill_objects(&m, object);
  ok = ok && write(ctx, object);
  for (int i = 0; i < m.n_job; i++) buffer_done(&m.job[i].bytes);
  return ok;
}
