/* Matrix products by cuBLASLt, which is loaded at run time.
 *
 * cuBLASLt picks an algorithm for a product, and algorithms differ in the order of summation.  Here the choice is
 * made once for all the shapes that a weight is used with (shapes[0] is the one that should be fast), so that a row
 * of the result has the same bits whatever the number of rows beside it: no split of k, no reduction scheme, no TF32.
 * The choice prints as text, which a plan carries, and is refused, never replaced, where it does not fit.
 *
 * GELU is not offered: cuBLASLt's is the tanh approximation, ours is x times the normal distribution (ir/ops.def), and
 * they differ by up to 5e-4.  A map kernel follows the product instead.
 *
 * The primary context of the device must be current in the calling thread.  Device memory is the caller's, the
 * workspace too. */
#ifndef NUWA_BLASLT_H
#define NUWA_BLASLT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/error.h"

/* C = A B, plus bias, plus what C held.  All matrices are row-major; C is never stored transposed, as then the
 * product B^T A^T is what to ask for.  in, out: f32 and f32, bf16 and bf16, bf16 and f32; products and sums are in
 * f32 and rounded once, after everything was added. */
typedef struct BlasLtForm {
  DType in, out;                /* of A and B; of C and bias */
  bool transpose_a;             /* A is stored as [k, m] rather than [m, k] */
  bool transpose_b;             /* B is stored as [n, k] rather than [k, n] */
  bool accumulate;              /* adds to C instead of writing it */
  bool bias;                    /* adds bias[n] to every row */
  int align_a, align_b, align_c, align_bias;   /* what the addresses are multiples of; bytes, powers of two */
} BlasLtForm;

/* Sizes in elements.  ld: from one stored row to the next, >= the stored row.  stride: from one matrix to the next
 * when batch > 1 (for A and B, 0 reads the same one again).  All fit in 31 bits except strides. */
typedef struct BlasLtShape {
  int64_t m, n, k;              /* >= 1; m and batch may be 0 when running, which does nothing */
  int64_t lda, ldb, ldc;
  int64_t batch, stride_a, stride_b, stride_c;
} BlasLtShape;

/* A choice: everything that the library may vary and we pin; the split of k is always 1. */
typedef struct BlasLtAlgo {
  uint64_t version;             /* of the library that chose, as cublasLtGetVersion has it */
  uint32_t id, tile, stages, swizzle, custom, inner, cluster;
} BlasLtAlgo;

enum { BLASLT_TEXT_BYTES = 192, BLASLT_WORKSPACE_ALIGNMENT = 256 };

/* "cublaslt 130100 algo 21 tile 20 stages 15 swizzle 0 custom 0 inner 0 cluster 0" and back; both sides are exact. */
void blaslt_algo_print(const BlasLtAlgo *algo, char out_text[BLASLT_TEXT_BYTES]);
bool blaslt_algo_parse(const char *text, BlasLtAlgo *out, Error *err);
/* "bf16 C[441,512] = bf16 A[441,256] B^T[256,512] + bias"; sizes are those of the product. */
void blaslt_product_print(const BlasLtForm *form, const BlasLtShape *shape, char out_text[BLASLT_TEXT_BYTES]);

typedef struct BlasLt BlasLt;
/* Loads the library at `path`; NULL: the usual names.  NULL with ERROR_DEVICE when it is missing, lacks a function,
 * or cannot be initialised.  One thread at a time may use the result and what is made from it. */
BlasLt *blaslt_open(const char *path, Error *err);
void blaslt_close(BlasLt *lt);   /* NULL is fine; the library itself stays loaded */

/* One algorithm for all shapes: the heuristic's first for shapes[0] that every shape accepts with at most
 * max_workspace bytes; then the others' own first choices are tried.  Deterministic for a library and device.
 * *out_workspace: bytes the largest shape needs.  ERROR_DEVICE when none serves, with the last refusal. */
bool blaslt_choose(BlasLt *lt, const BlasLtForm *form, const BlasLtShape *shapes, int n_shapes, size_t max_workspace,
                   BlasLtAlgo *out, size_t *out_workspace, Error *err);

/* Whether `algo` serves every shape; the errors are those of choosing.  A choice of another library version is
 * refused: the same numbers may mean another order of summation there. */
bool blaslt_check(BlasLt *lt, const BlasLtForm *form, const BlasLtShape *shapes, int n_shapes, const BlasLtAlgo *algo,
                  size_t max_workspace, size_t *out_workspace, Error *err);

/* A product ready to run.  Making one allocates, running does not, so it may be captured in a graph: what is captured
 * are the addresses and the shape of that call.  Free with blaslt_product_free (NULL is fine) before blaslt_close. */
typedef struct BlasLtProduct BlasLtProduct;
BlasLtProduct *blaslt_product_new(BlasLt *lt, const BlasLtForm *form, const BlasLtAlgo *algo, Error *err);
void blaslt_product_free(BlasLtProduct *p);

typedef struct BlasLtArgs {
  uint64_t a, b, c, bias;       /* device addresses; bias only where the form has one */
  uint64_t workspace;           /* aligned to BLASLT_WORKSPACE_ALIGNMENT; 0 when workspace_bytes is 0 */
  size_t workspace_bytes;       /* at least what blaslt_choose said */
  void *stream;                 /* CUstream */
} BlasLtArgs;

/* Enqueues the product.  The shape is one that the algorithm was chosen or checked for. */
bool blaslt_product_run(BlasLtProduct *p, const BlasLtShape *shape, const BlasLtArgs *args, Error *err);

#endif
