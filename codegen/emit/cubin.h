/* What a cubin says of its kernels, read from the ELF file and its machine code without a disassembler; and how many
 * blocks of a kernel a multiprocessor holds.
 *
 * Everything is checked: a damaged file gives an error, never a wild read. */
#ifndef NUWA_CUBIN_H
#define NUWA_CUBIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/error.h"

typedef struct CubinKernel {
  int registers;            /* of a thread */
  int64_t local_bytes;      /* of a thread: what does not fit into registers */
  int64_t shared_bytes;     /* static, of a block */
  int instructions;
  int fma, tensor;          /* FFMA; HMMA, IMMA, DMMA and Hopper's GMMA */
  int copies, wide_copies;  /* LDGSTS; of 128 bits */
  int loads, wide_loads;    /* LDG; of 128 bits */
  int wide_shared;          /* LDS of 128 bits */
  int matrix_loads;         /* LDSM */
  int spills;               /* accesses to local memory: LDL, STL */
  int loops;                /* backward branches */
  int loop_spills;          /* of the spills: in any loop */
  int inner_spills;         /* in a loop that holds no other */
  int inner_fma, inner_tensor, inner_matrix_loads;   /* of all innermost loops */
} CubinKernel;

/* The kernel `name` of a cubin for sm_<arch>.  False with the reason: no cubin, damaged, no such kernel. */
bool cubin_read(const void *image, size_t bytes, int arch, const char *name, CubinKernel *out, Error *err);

/* Limits of a multiprocessor (CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability"). */
typedef struct GpuLimits {
  int arch;                 /* 80 for sm_80 */
  int warps, blocks;        /* resident at most */
  int registers;
  int64_t shared_bytes;     /* of all blocks, with those that the system takes */
  int64_t block_bytes;      /* of one block at most */
} GpuLimits;
/* NULL: not in the table. */
const GpuLimits *gpu_limits(int arch);

typedef struct Occupancy {
  int blocks;               /* of a multiprocessor; 0: the kernel cannot run there */
  int warps;
  double share;             /* warps of those that fit at most */
  const char *limit;        /* "registers", "shared memory", "warps", "blocks": which comes first */
} Occupancy;
/* Of blocks with `threads` threads and shared_bytes (static and dynamic). */
Occupancy gpu_occupancy(const GpuLimits *g, int registers, int64_t shared_bytes, int threads);

#endif
