/* What kernels are made for: an instruction set of a CPU, or a GPU of a compute capability. */
#ifndef NUWA_TARGET_H
#define NUWA_TARGET_H

#include "runtime/base/error.h"

typedef enum Isa { ISA_PLAIN, ISA_AVX2, ISA_AVX512, ISA_NEON, ISA_COUNT } Isa;
const char *isa_name(Isa isa);
bool isa_from_name(const char *name, Isa *out);
/* The best that this machine can run, by feature bits (cpuid, xgetbv / hwcaps), never by the CPU's name. */
Isa isa_best(void);
bool isa_available(Isa isa);

typedef enum TargetDevice { TARGET_CPU, TARGET_CUDA } TargetDevice;

typedef struct Target {
  TargetDevice device;
  /* a CPU */
  Isa isa;
  int vector_bits;        /* 512, 256 or 128: how 16 lanes are cut into machine vectors */
  int vector_registers;   /* 32 or 16 */
  const char *triple;     /* LLVM */
  const char *features;   /* the exact feature string given to LLVM; part of every cache key */
  bool has_fma;           /* else FMA is emulated exactly in f64: correct, slow */
  /* a GPU */
  int capability;         /* compute capability, 80 for sm_80 */
} Target;

/* A GPU of this compute capability. */
Target target_cuda(int capability);
/* The target of an instruction set, whatever this machine is. */
Target target_of(Isa isa);
/* The machine this program runs on, restricted to isa.  Error when isa is not available. */
bool target_host(Isa isa, Target *out, Error *err);

static inline bool target_is_gpu(const Target *t) { return t->device == TARGET_CUDA; }
/* From here on a GPU copies to shared memory asynchronously, and multiplies matrix tiles of bf16. */
static inline bool target_has_async_copies(const Target *t) { return target_is_gpu(t) && t->capability >= 80; }
static inline bool target_has_bf16_tiles(const Target *t) { return target_is_gpu(t) && t->capability >= 80; }

#endif
