/* Multiplying bf16 by matrix tiles: a pair of groups has tile_m x tile_n tiles of 16 x 16 results.
 *
 * k is cut into steps of 16 from its start; the last is filled up with zeros of both operands.  That adds 0 to the sum,
 * which could only make a 0 of a -0, and an element's steps are the same whatever its tile, its batch and the number of
 * rows.  Results pass through shared memory, which gives the epilogue whole rows: a group has four of every eight rows of
 * its pair's results, in all their columns, so it reads back what it wrote itself; only of fewer than 16 columns lanes run
 * along all elements. */
#include "codegen/lower/contract/gpu.h"

enum { HALVES = 2, ROWS = 8 /* of 16, that a group has */, RESULT_PAD = 8 /* rows then start in different banks */ };

int contract_mma_stride(const GpuNest *e) { return e->cols->tile + RESULT_PAD; }

void contract_mma_begin(GpuNest *e) {
  for (int r = 0; r < e->rows->regs; r++)
    for (int c = 0; c < e->cols->regs; c++)
      for (int h = 0; h < HALVES; h++)
        for (int q = 0; q < QUAD; q++) e->tile_acc[r][c][h][q] = kir_var(e->k, kir_f32(e->k, 0.0f), true);
}

/* The pair's tile number r of the side, at kk of the stage at slot. */
static KInst *load_tile(GpuNest *e, const Side *s, KInst *slot, KInst *kk, int r) {
  Kernel *k = e->k;
  KInst *x = add(k, to_i64(k, times(k, s->group, s->regs * LANES)), kir_i64(k, r * LANES));
  KInst *at = s->k_major ? add(k, times(k, x, s->ld), kk) : add(k, times(k, kk, s->ld), x);
  return kir_tile(k, e->stage, add(k, add(k, slot, kir_i64(k, s->at)), at), s->ld,
                  s->k_major ? LAYOUT_XK : LAYOUT_KX);
}

static void add_product(GpuNest *e, KInst *a, KInst *b, int half, KInst *const acc[QUAD]) {
  Kernel *k = e->k;
  KInst *sum[QUAD];
  for (int q = 0; q < QUAD; q++) sum[q] = kir_get(k, acc[q]);
  KInst *quad = kir_mma(k, a, b, half, sum);
  for (int q = 0; q < QUAD; q++) kir_set(k, acc[q], kir_part(k, quad, q));
}

void contract_mma_multiply(GpuNest *e, KInst *slot, KInst *kk) {
  KInst *a[MAX_REGS], *b[MAX_REGS];
  for (int r = 0; r < e->rows->regs; r++) a[r] = load_tile(e, e->rows, slot, kk, r);
  for (int c = 0; c < e->cols->regs; c++) b[c] = load_tile(e, e->cols, slot, kk, c);
  for (int r = 0; r < e->rows->regs; r++)
    for (int c = 0; c < e->cols->regs; c++)
      for (int h = 0; h < HALVES; h++) add_product(e, a[r], b[c], h, e->tile_acc[r][c][h]);
}

/* ---- results ---- */

/* The first row (i32) that the group has of the block's tile: the others are 4 (n / 4) + n from it, n < ROWS * regs. */
static KInst *first_row(GpuNest *e) {
  Kernel *k = e->k;
  KInst *parity = kir_bin(k, KOP_MOD, kir_group(k), kir_i32(k, 2));
  return add(k, times(k, e->rows->group, e->rows->regs * LANES), times(k, parity, QUAD));
}

static KInst *row_after(GpuNest *e, KInst *first, KInst *n) {
  return add(e->k, first, add(e->k, times(e->k, kir_bin(e->k, KOP_DIV, n, kir_i32(e->k, QUAD)), QUAD), n));
}

static KInst *first_col(GpuNest *e) { return times(e->k, e->cols->group, e->cols->regs * LANES); }

/* The accumulators to e->result, as kir_mma places them. */
static void spread(GpuNest *e) {
  Kernel *k = e->k;
  int stride = contract_mma_stride(e);
  KInst *lane = kir_lane(k), *start = to_i64(k, add(k, times(k, first_row(e), stride), first_col(e)));
  KInst *own = add(k, times(k, kir_bin(k, KOP_DIV, lane, kir_i32(k, 4)), stride),
                    times(k, kir_bin(k, KOP_MOD, lane, kir_i32(k, 4)), 2));
  for (int r = 0; r < e->rows->regs; r++)
    for (int c = 0; c < e->cols->regs; c++)
      for (int h = 0; h < HALVES; h++)
        for (int q = 0; q < QUAD; q++) {
          int64_t at = (int64_t)(r * LANES + q / 2 * 8) * stride + c * LANES + h * 8 + q % 2;
          kir_store(k, e->result, add(k, start, kir_i64(k, at)), own, kir_get(k, e->tile_acc[r][c][h][q]), NULL);
        }
}

/* Results alone, four columns a lane; a group's lanes have some rows at once. */
static void store_quads(GpuNest *e) {
  Lower *l = e->l;
  Kernel *k = e->k;
  int wide = e->cols->regs * LANES / QUAD, turns = e->rows->regs * ROWS * wide / LANES;
  KInst *value[QUAD], *base, *none, *mask = NULL, *lane = kir_lane(k);
  KInst *turn = to_i32(k, kir_for(k, kir_i64(k, 0), kir_i64(k, turns), 1, 0));
  KInst *quad = add(k, times(k, turn, LANES), lane);
  KInst *row = row_after(e, first_row(e), kir_bin(k, KOP_DIV, quad, kir_i32(k, wide)));
  KInst *col = add(k, first_col(e), times(k, kir_bin(k, KOP_MOD, quad, kir_i32(k, wide)), QUAD));
  if (e->rows->left) mask = kir_bin(k, KOP_LT, row, e->rows->left);
  if (e->cols->left) mask = both(k, mask, kir_bin(k, KOP_LT, col, e->cols->left));
  ix_emit(l, contract_flat_index(e, e->rows->first, e->cols->first), &base, &none);
  KInst *from = add(k, times(k, row, contract_mma_stride(e)), col);
  KInst *v = kir_load4(k, e->result, kir_i64(k, 0), from, NULL);
  for (int q = 0; q < QUAD; q++) value[q] = kir_part(k, v, q);
  kir_store4(k, l->out_buf[0], base, add(k, times(k, row, e->p->cols.c), col), value, mask);
  kir_end(k);
}

/* Row by row, 16 columns at once, with the epilogue. */
static void store_rows(GpuNest *e) {
  Lower *l = e->l;
  Kernel *k = e->k;
  Side *rows = e->rows, *cols = e->cols;
  KInst *zero = kir_i64(k, 0), *lane = kir_lane(k);
  KInst *n = kir_for(k, zero, kir_i64(k, rows->regs * ROWS), 1, 0), *row = row_after(e, first_row(e), to_i32(k, n));
  if (rows->left) kir_if(k, kir_bin(k, KOP_LT, row, rows->left));
  KInst *v = kir_for(k, zero, kir_i64(k, cols->regs), 1, 0), *mask = NULL;
  KInst *col = add(k, first_col(e), to_i32(k, times(k, v, LANES)));
  if (cols->left) mask = kir_bin(k, KOP_LT, add(k, col, lane), cols->left);
  Ix *y = ix_add(l, rows->first, ix_value(l, to_i64(k, row), dim_const(rows->tile)));
  Ix *x = ix_add(l, ix_value(l, to_i64(k, col), dim_const(cols->tile)), ix_value(l, lane, dim_const(LANES)));
  Ix *flat = contract_flat_index(e, ix_assume(l, y, rows->total), ix_assume(l, ix_add(l, cols->first, x), cols->total));
  KInst *at = add(k, times(k, to_i64(k, row), contract_mma_stride(e)), to_i64(k, col));
  contract_store(l, e->p, flat, mask, kir_load(k, e->result, at, lane, NULL));
  kir_end(k);
  if (rows->left) kir_end(k);
  kir_end(k);
}

/* Can four columns be stored at once? */
static bool has_quads(const GpuNest *e) {
  bool fits = dim_is_const(e->p->cols) && e->p->cols.c % QUAD == 0 && e->p->cols.c * e->rows->tile < INT32_MAX;
  return fits && contract_is_bare(e->group, e->p);
}

void contract_mma_store(GpuNest *e) {
  bool few = dim_is_const(e->p->cols) && e->p->cols.c < LANES;
  kir_barrier(e->k);
  spread(e);
  if (few) kir_barrier(e->k);
  else kir_sync(e->k);
  if (few) contract_store_flat(e, contract_mma_stride(e));
  else if (has_quads(e)) store_quads(e);
  else store_rows(e);
}
