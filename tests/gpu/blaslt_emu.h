/* A stand-in for cuBLASLt on the emulated driver: libnuwa_emublaslt.so exports the functions that blaslt_abi.h lists
 * and computes on the host.  Every configuration of every algorithm sums in an order of its own, and the heuristic
 * prefers other algorithms for other shapes: whoever lets the choice vary with the shape gets other bits.
 *
 * It refuses what the library refuses: configurations that an algorithm does not have, sizes that do not match,
 * leading dimensions and addresses that are not aligned, workspaces that are too small.  What is undefined there
 * is a fault here, and appears like a kernel's, when somebody waits: reading what was never written, as which count
 * the result, unless it is added to, and the workspace, also afterwards; a workspace used twice at the same time.
 * Known to it are f32 and bf16, column order, host scalars, strided batches, and the epilogues none and bias. */
#ifndef BLASLT_EMU_H
#define BLASLT_EMU_H

#include <stdbool.h>

#include "runtime/cuda/blaslt_abi.h"

#define LT_API __attribute__((visibility("default")))
#define DECLARE(result, name, arguments) LT_API result name arguments;
BLASLT_FUNCTIONS(DECLARE)
#undef DECLARE

enum { MAGIC_HANDLE = 0x4c740001, MAGIC_DESC, MAGIC_LAYOUT, MAGIC_PREFERENCE, MAGIC_ALGO };

struct LtHandle_ { int magic, capability; };
struct LtDesc_ {
  int magic, compute_type, scale_type;
  int32_t op_a, op_b;
  uint32_t epilogue;
  const void *bias;
};
struct LtLayout_ {
  int magic, type;
  uint64_t rows, cols;          /* as stored */
  int64_t ld;                   /* from column to column */
  int32_t batch;
  int64_t stride;
};
struct LtPreference_ {
  int magic;
  uint64_t workspace_bytes, numerics;
  uint32_t reductions, align[4];
};

/* What an LtAlgo holds here. */
typedef struct Config {
  int magic;
  int32_t id, split;
  uint32_t tile, stages, reduction, swizzle, custom;
  uint16_t inner, cluster;
  int in, out;
} Config;

/* A product with everything resolved: D = op(A) op(B), D is m x n. */
typedef struct Problem {
  const struct LtHandle_ *handle;
  const struct LtDesc_ *desc;
  const struct LtLayout_ *a, *b, *c, *d;
  uint64_t m, n, k;
} Problem;

/* Keeps the reason for cublasLtGetStatusString and returns the status. */
__attribute__((format(printf, 2, 3))) int lt_fail(int status, const char *fmt, ...);
static inline uint64_t lt_bytes(int type) { return type == LT_R_16BF ? 2 : 4; }

/* Checks handle, descriptor and layouts and how they fit together. */
int problem_init(Problem *p, LtHandle handle, LtDesc desc, LtLayout a, LtLayout b, LtLayout c, LtLayout d);
/* False unless it was made by cublasLtMatmulAlgoInit or the heuristic. */
bool config_of(const LtAlgo *algo, Config *out);
int config_check(const Problem *p, const Config *c, size_t *out_workspace);
uint32_t config_alignment(const Config *c);   /* bytes, of addresses, columns and matrices */
bool config_is_tf32(const Config *c);

#endif
