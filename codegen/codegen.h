/* Code generation: groups -> kernel IR -> machine code.
 *
 * lower_group picks the family's template and parameters; llvm_compile turns kernels into one ELF object; cuda_print
 * turns a kernel into CUDA C.  Codegen never asks a cache. */
#ifndef NUWA_CODEGEN_H
#define NUWA_CODEGEN_H

#include "codegen/kir/kir.h"
#include "ir/program.h"

typedef enum Isa { ISA_PLAIN, ISA_AVX2, ISA_AVX512, ISA_NEON, ISA_COUNT } Isa;
const char *isa_name(Isa isa);
bool isa_from_name(const char *name, Isa *out);
/* The best that this machine can run, by feature bits (cpuid, xgetbv / hwcaps), never by the CPU's name. */
Isa isa_best(void);
bool isa_available(Isa isa);

typedef struct Target {
  Isa isa;
  int vector_bits;        /* 512, 256 or 128: how 16 lanes are cut into machine vectors */
  int vector_registers;   /* 32 or 16 */
  const char *triple;     /* LLVM */
  const char *features;   /* the exact feature string given to LLVM; part of every cache key */
  bool has_fma;           /* else FMA is emulated exactly in f64: correct, slow */
  int capability;         /* a GPU's compute capability, 80 for sm_80; 0: a CPU */
} Target;
/* A GPU of this compute capability. */
Target target_cuda(int capability);
/* The target of an instruction set, whatever this machine is. */
Target target_of(Isa isa);
/* The machine this program runs on, restricted to isa.  Error when isa is not available. */
bool target_host(Isa isa, Target *out, Error *err);

/* Tile sizes and other choices; printed into --explain and into keys. */
typedef struct KernelParams {
  int tile_m, tile_n;     /* CONTRACT: rows and 16-lane columns of the register tile */
  int tile_k;             /* k elements between stores of the accumulators; on a GPU of a tile in shared memory */
  int block_m;            /* register tiles a work item has along m */
  int block_n;            /* the same along n: GPU, where each register tile is a group's */
  int stages;             /* 0: not for a GPU.  CONTRACT on a GPU: tiles of k that shared memory holds, filled by
                             asynchronous copies; 1: one, filled by plain loads.  Of bf16 tile_m and tile_n then count
                             matrix tiles of 16 x 16 that a pair of groups has, block_m and block_n pairs */
  bool swap;              /* CONTRACT on a GPU: m and n change places in the tiles: lanes run along rows */
  bool pack_b;            /* copy the B panel into scratch first */
  int unroll;             /* MAP/REDUCE: 16-lane blocks a loop step takes */
} KernelParams;
KernelParams params_default(const Group *g, const Target *t);
void params_print(const KernelParams *p, Buffer *out);
bool params_parse(const char *text, KernelParams *out, Error *err);

/* Arguments of the kernel are group.in then group.out, in order, then group's in-place aliases resolved by the caller.
 * NULL after a diagnostic in err (a group that cannot be lowered is a bug of fuse, reported with the node). */
Kernel *lower_group(Arena *a, const Group *g, const KernelParams *p, const char *name, Error *err);

/* Compiles kernels into one relocatable ELF object without undefined symbols, position-independent; one global function
 * a kernel, of its name.  Bytes appended to out.  Any number of threads may compile at once. */
bool llvm_compile(Kernel *const *kernels, int n, const Target *t, Buffer *out, Error *err);
/* LLVM IR or assembly, for `inspect`. */
bool llvm_print(const Kernel *k, const Target *t, bool assembly, Buffer *out, Error *err);

/* CUDA C with an extern "C" __global__ entry of the kernel's name; self-contained (no toolkit header); the texts
 * of several kernels can be joined into one program.  Compile with
 * --fmad=false --ftz=true.  Parameters: the argument buffers in order, 16-aligned, then long long B, R, items.  Launch
 * as cuda_shape says. */
enum { CUDA_ITEMS = 8, CUDA_THREADS = CUDA_ITEMS * LANES };   /* of kernels whose items have one group */
typedef struct CudaShape {
  int items;              /* a block executes: launch ceil(items of the kernel / items) blocks */
  int threads;            /* of a block */
  int64_t shared_bytes;   /* dynamic shared memory of a block */
} CudaShape;
CudaShape cuda_shape(const Kernel *k);
void cuda_print(const Kernel *k, Buffer *out);
/* The entry alone, without the helper functions that stand before it: for people. */
void cuda_print_entry(const Kernel *k, Buffer *out);

#endif
