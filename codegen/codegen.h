/* Code generation: groups -> kernel IR -> machine code.
 *
 * lower_group fills the family's template in; llvm_compile turns kernels into one ELF object; cuda_print
 * turns a kernel into CUDA C.  Codegen never asks a cache. */
#ifndef NUWA_CODEGEN_H
#define NUWA_CODEGEN_H

#include "codegen/kir/kir.h"
#include "codegen/params.h"
#include "codegen/target.h"
#include "ir/program.h"

/* Arguments of the kernel are group.in then group.out, in order, then group's in-place aliases resolved by the caller.
 * NULL after a diagnostic in err: parameters that are not legal, or a group that cannot be lowered (a bug of fuse,
 * reported with the node). */
Kernel *lower_group(Arena *a, const Group *g, const Target *t, const Params *p, const char *name, Error *err);

/* Compiles kernels into one relocatable ELF object without undefined symbols, position-independent; one global function
 * a kernel, of its name.  Bytes appended to out.  Any number of threads may compile at once. */
bool llvm_compile(Kernel *const *kernels, int n, const Target *t, Buffer *out, Error *err);
/* Appends everything beside the kernels that shapes what llvm_compile makes of them: LLVM's exact build, its passes and
 * options, the target. */
void llvm_key(const Target *t, Buffer *out);
/* LLVM IR or assembly, for `inspect`. */
bool llvm_print(const Kernel *k, const Target *t, bool assembly, Buffer *out, Error *err);

/* CUDA C with an extern "C" __global__ entry of the kernel's name; self-contained (no toolkit header); the texts
 * of several kernels can be joined into one program.  Compile with
 * --fmad=false --ftz=true.  Parameters: the argument buffers in order, 16-aligned, then long long B, R, items.  Launch
 * as cuda_shape says. */
enum { CUDA_ITEMS = 8, CUDA_THREADS = CUDA_ITEMS * LANES };   /* of kernels whose items have one group */
enum { CUDA_SHARED_BYTES = 96 << 10 };   /* of a block at most, so that every GPU from sm_75 on but the first has room */
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
