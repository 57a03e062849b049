/* Machine code of kernels, each kernel an object of a plan: an ELF object by LLVM for a CPU; for CUDA cubins of the
 * chosen archs and PTX by NVRTC.  What a store keeps is not compiled again. */
#ifndef NUWA_IMAGES_H
#define NUWA_IMAGES_H

#include "codegen/codegen.h"
#include "codegen/emit/nvrtc.h"
#include "runtime/plan.h"

/* Keeps compiled kernels between runs: fills out with the image whose full key is this text, or returns false.  Called
 * from one thread at a time. */
typedef struct ObjectStore {
  bool (*get)(void *ctx, const char *key, Buffer *out);
  void (*put)(void *ctx, const char *key, const void *bytes, size_t n);
  void *ctx;
} ObjectStore;

/* What compiling for CUDA takes beside the target, whose capability is that of the PTX. */
enum { CUDA_MAX_ARCHS = 8 };
typedef struct CudaBuild {
  const Nvrtc *nvrtc;
  int arch[CUDA_MAX_ARCHS];  /* a cubin for each: 80 for sm_80 */
  int n_arch;
} CudaBuild;

typedef struct ImageOptions {
  Target target;
  CudaBuild cuda;            /* when the target is a GPU */
  const ObjectStore *store;  /* may be NULL */
  int threads;
} ImageOptions;

/* Digest of the code generator's sources, from the build. */
extern const char codegen_revision[];

/* The whole key of a kernel's image: what is compiled, for what, by what and how.  arch: CUDA's, of a cubin; 0: PTX. */
const char *images_key(Arena *a, const ImageOptions *o, const Kernel *k, int arch);

/* Compiles the kernels, in parallel, and gives write(ctx, objects [n]) the result; the bytes live as long as that call,
 * whose answer is the result.  Works in the arena, inside arena_protect. */
bool images_compile(Arena *a, Kernel *const *kernel, int n, const ImageOptions *o,
                    bool (*write)(void *ctx, PlanObject *objects), void *ctx, Error *err);

#endif
