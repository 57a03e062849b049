/* What a contraction is, for both of its loop nests: operands and result as linear maps, and the epilogue.
 *
 * All of them are  y[row, col] = sum over k of a[A(row) + A'(k)] * b[B'(k) + B(col)]  with A, A', B, B' linear in a few
 * coordinates, so an implicit product needs no copy of its input.  Of f32 each element is one FMA chain over k, from 0, in
 * both nests and whatever their tiles are: results are the same bits.  Of bf16 each nest has its own order (ir/ops.def),
 * again whatever its tiles are. */
#ifndef NUWA_LOWER_CONTRACT_H
#define NUWA_LOWER_CONTRACT_H

#include "codegen/lower/lower.h"

enum { MAX_OUTER = 3, MAX_K = 3 };

typedef struct Axis {
  Dim size, step_a, step_b;
} Axis;

typedef struct Product {
  Node *node;
  int buf_a, buf_b;
  Axis outer[MAX_OUTER];    /* row coordinates before the last one; step_b: batches */
  int n_outer;
  bool outer_inside;        /* an item of the CPU runs over all of outer (filter gradients: x is then read once for all
                               taps) */
  Dim rows, row_step;       /* the last row coordinate */
  Dim cols, col_step;
  Axis k[MAX_K];            /* outermost first */
  int n_k;
} Product;

/* Everything but the buffers. */
void contract_describe(Product *p, Node *n);

/* Elements of k when constant, else -1. */
int64_t contract_k_elems(const Product *p);

/* Is the product itself a result, and the only one? */
bool contract_is_bare(const Group *g, const Product *p);

/* The group's results at the element of raster index flat of the product, whose value is given; mask: lanes that exist
 * or NULL. */
void contract_store(Lower *l, const Product *p, Ix *flat, KInst *mask, KInst *value);

/* The loop nests.  buf_a and buf_b are set. */
bool contract_cpu(Lower *l, const Product *p, const ContractParams *params);
bool contract_gpu(Lower *l, const Product *p, const ContractGpuParams *params);

#endif
