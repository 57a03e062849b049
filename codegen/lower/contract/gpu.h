/* What the files of the GPU's loop nest for contractions share.
 *
 * An item is a block of groups and computes one tile of the result.  Its two sides are rows and columns; tiles of both
 * operands, tile_k elements deep, go through shared memory (lower_contract_gpu_stage.c) and are multiplied from there: f32
 * by chains of FMAs (lower_contract_gpu_fma.c), bf16 by matrix tiles (lower_contract_gpu_mma.c).  The loop over k, items
 * and parameters are lower_contract_gpu.c's. */
#ifndef NUWA_LOWER_CONTRACT_GPU_H
#define NUWA_LOWER_CONTRACT_GPU_H

#include "codegen/kir/arith.h"
#include "codegen/lower/contract/contract.h"

enum {
  MAX_AXES = MAX_OUTER + 1,
  MAX_REGS = 8,             /* along one side of a thread's, or a pair's */
  MAX_CHUNKS = 64,
};

/* A linear map from a flattened index; sizes after the first are constants. */
typedef struct LinearMap {
  int n;
  Dim size[MAX_AXES], step[MAX_AXES];
} LinearMap;

typedef struct Side {
  int buf;
  LinearMap x, k;
  Dim total;                /* elements along x */
  int regs, groups, unit;   /* of x: registers (or matrix tiles) of one who multiplies, how many who multiply there are,
                               elements of a register */
  int tile;                 /* elements of the block: the product of these */
  bool is_lanes;            /* a register's elements are lanes */
  bool k_major;             /* staged as [x][k] */
  int count;                /* elements a lane stages at once */
  int64_t at, elems;        /* of a stage in shared memory */
  int ld, alloc;            /* distance of its rows; tile rounded up to what all lanes stage together */
  Ix *first;                /* the tile's first x */
  KInst *first_x, *base;    /* the same as i64; what it adds to addresses, with batches */
  KInst *left;              /* i32: elements of the tile that exist; NULL: all */
  KInst *group;             /* i32: which of the `groups` this one is */
  KInst *off[MAX_CHUNKS];   /* i32: what x adds to the address of a lane's chunk */
} Side;

typedef struct GpuNest {
  Lower *l;                 /* NULL as long as only what parameters need is known */
  Kernel *k;
  const Group *group;
  const Product *p;
  ContractGpuParams params;
  DType dtype;              /* of the operands */
  bool is_mma;              /* by matrix tiles */
  int groups;               /* of a block */
  Side side[2];             /* U, L: see lower_contract_gpu_fma.c */
  Side *rows, *cols;
  int n_batch;              /* coordinates of p->outer that are not part of rows */
  Ix *batch;                /* their raster index */
  Dim k_total;              /* elements of k; not affine: see k_count */
  bool k_whole;             /* surely a multiple of tile_k */
  KInst *k_count;           /* i64 */
  int stage;                /* scratch of dtype */
  int64_t stage_elems;
  int result;               /* scratch of f32 over it */
  KInst *acc[MAX_REGS][MAX_REGS];             /* of FMAs */
  KInst *tile_acc[MAX_REGS][MAX_REGS][2][QUAD];   /* of matrix tiles: by half of 16 columns, and element */
} GpuNest;

static inline bool dim_is(Dim d, int64_t c) { return dim_equal(d, dim_const(c)); }
static inline bool is_multiple(Dim d, int64_t of) { return d.c % of == 0 && d.b % of == 0 && d.r % of == 0; }
static inline int round_up(int n, int to) { return (n + to - 1) / to * to; }

/* ---- sides and staging ---- */

/* What rows, columns and batches are: walks, totals, n_batch. */
void contract_describe_sides(GpuNest *e);
/* Where and how a side is staged; returns the end of its place in shared memory. */
int64_t contract_place_side(GpuNest *e, Side *s, int64_t at);
/* Chunks that a lane stages of the side. */
int contract_side_chunks(const GpuNest *e, const Side *s);
/* The largest offset within a tile of the side, as far as sizes are known. */
double contract_side_reach(const GpuNest *e, const Side *s);
/* Everything about a side that does not depend on k. */
void contract_locate_side(GpuNest *e, Side *s, KInst *tile_index, KInst *batch_base);
/* Both operands' tile number t (i64) into the stage that starts at slot. */
void contract_stage_tile(GpuNest *e, KInst *t, KInst *slot);

/* ---- multiplying and storing ---- */

enum { FMA_STEP = QUAD, MMA_STEP = LANES };   /* elements of k at once */

void contract_fma_begin(GpuNest *e);
/* n elements of k, FMA_STEP or 1, from kk on of the stage at slot. */
void contract_fma_multiply(GpuNest *e, KInst *slot, KInst *kk, int n);
void contract_fma_store(GpuNest *e);
/* Are results stored from where they are, without e->result? */
bool contract_fma_stores_registers(const GpuNest *e);

void contract_mma_begin(GpuNest *e);
/* MMA_STEP elements of k. */
void contract_mma_multiply(GpuNest *e, KInst *slot, KInst *kk);
void contract_mma_store(GpuNest *e);
/* Elements between rows of e->result. */
int contract_mma_stride(const GpuNest *e);

/* The result's raster index of this row and column. */
static inline Ix *contract_flat_index(GpuNest *e, Ix *row, Ix *col) {
  Lower *l = e->l;
  row = ix_add(l, ix_scale_dim(l, e->batch, e->rows->total), row);
  return ix_add(l, ix_scale_dim(l, row, e->p->cols), col);
}

/* Stores e->result, whose rows are `stride` elements apart, where all columns, a constant number, are in the tile: elements
 * follow each other in memory, and lanes run along them. */
void contract_store_flat(GpuNest *e, int stride);

#endif
