/* Multiplying by FMAs: every element is one chain over k.
 *
 * One side runs along the registers of a thread and then groups (U, the same in all lanes), the other along lanes,
 * registers and groups (L).  U is rows, unless `swap` says otherwise, for results of few columns.  The sum ends at k's end,
 * because 0 * 0 added to -0 would be +0. */
#include "codegen/lower/contract/gpu.h"

void contract_fma_begin(GpuNest *e) {
  for (int r = 0; r < e->side[0].regs; r++)
    for (int c = 0; c < e->side[1].regs; c++) e->acc[r][c] = kir_var(e->k, kir_f32(e->k, 0.0f), true);
}

static bool reads_quads(const Side *s) { return !s->k_major && s->regs % QUAD == 0 && s->ld % QUAD == 0; }

/* Where a thread's register r lies along x in the tile: uniform (i64) and lane part (i32 or NULL). */
static void reg_place(GpuNest *e, const Side *s, int r, KInst **out_x, KInst **out_lane) {
  Kernel *k = e->k;
  KInst *own = to_i64(k, times(k, s->group, s->regs * (s->is_lanes ? LANES : 1)));
  bool quads = reads_quads(s);
  int at = !s->is_lanes ? r : quads ? r / QUAD * QUAD * LANES + r % QUAD : r * LANES;
  *out_x = add(k, own, kir_i64(k, at));
  *out_lane = !s->is_lanes ? NULL : quads ? times(k, kir_lane(k), QUAD) : kir_lane(k);
}

typedef KInst *Fragment[MAX_REGS][QUAD];   /* by register and k */

/* n elements of k (1 or 4) from kk on of a side's registers. */
static void load_fragment(GpuNest *e, const Side *s, KInst *slot, KInst *kk, int n, Fragment f) {
  Kernel *k = e->k;
  KInst *start = add(k, slot, kir_i64(k, s->at));
  bool quads = reads_quads(s);
  for (int r = 0; r < s->regs; r += quads ? QUAD : 1) {
    KInst *x, *lane;
    reg_place(e, s, r, &x, &lane);
    if (s->k_major) {
      KInst *at = add(k, start, add(k, times(k, x, s->ld), kk));
      if (lane) lane = times(k, lane, s->ld);
      KInst *v = n == 1 ? kir_load(k, e->stage, at, lane, NULL) : kir_load4(k, e->stage, at, lane, NULL);
      for (int j = 0; j < n; j++) f[r][j] = n == 1 ? v : kir_part(k, v, j);
      continue;
    }
    for (int j = 0; j < n; j++) {
      KInst *at = add(k, add(k, start, x), times(k, add(k, kk, kir_i64(k, j)), s->ld));
      KInst *v = quads ? kir_load4(k, e->stage, at, lane, NULL) : kir_load(k, e->stage, at, lane, NULL);
      for (int i = 0; i < (quads ? QUAD : 1); i++) f[r + i][j] = quads ? kir_part(k, v, i) : v;
    }
  }
}

void contract_fma_multiply(GpuNest *e, KInst *slot, KInst *kk, int n) {
  Kernel *k = e->k;
  Fragment u, v;
  load_fragment(e, &e->side[0], slot, kk, n, u);
  load_fragment(e, &e->side[1], slot, kk, n, v);
  for (int j = 0; j < n; j++)
    for (int r = 0; r < e->side[0].regs; r++)
      for (int c = 0; c < e->side[1].regs; c++)
        kir_set(k, e->acc[r][c], kir_op(k, KOP_FMA, u[r][j], v[c][j], kir_get(k, e->acc[r][c])));
}

/* ---- results ---- */

/* Row `reg` of the group's (i32, below regs), as an index of the product. */
static Ix *row_of(GpuNest *e, KInst *reg) {
  Lower *l = e->l;
  Side *s = e->rows;
  Ix *own = ix_scale(l, ix_value(l, to_i64(e->k, s->group), dim_const(s->groups)), s->regs);
  Ix *at = ix_add(l, own, ix_value(l, to_i64(e->k, reg), dim_const(s->regs)));
  return ix_assume(l, ix_add(l, s->first, at), s->total);
}

/* Opens what is executed only where row `reg` of the group's exists. */
static bool open_row(GpuNest *e, KInst *reg) {
  const Side *s = e->rows;
  if (!s->left) return false;
  kir_if(e->k, kir_bin(e->k, KOP_LT, add(e->k, times(e->k, s->group, s->regs), reg), s->left));
  return true;
}

/* Column 16 vector + lane of the group's (vector: i64, below regs), and whether it exists. */
static Ix *col_of(GpuNest *e, KInst *vector, KInst **out_mask) {
  Lower *l = e->l;
  Kernel *k = e->k;
  Side *s = e->cols;
  int wide = s->regs * LANES;
  KInst *lane = kir_lane(k), *own = times(k, s->group, wide);
  Ix *at = ix_add(l, ix_scale(l, ix_value(l, to_i64(k, s->group), dim_const(s->groups)), wide),
                  ix_scale(l, ix_value(l, vector, dim_const(s->regs)), LANES));
  *out_mask = NULL;
  if (s->left)
    *out_mask = kir_bin(k, KOP_LT, add(k, add(k, own, times(k, to_i32(k, vector), LANES)), lane), s->left);
  at = ix_add(l, at, ix_value(l, lane, dim_const(LANES)));
  return ix_assume(l, ix_add(l, s->first, at), s->total);
}

/* Four columns a lane at once, straight from the accumulators. */
static void store_row_quads(GpuNest *e, int r) {
  Lower *l = e->l;
  Kernel *k = e->k;
  Side *s = e->cols;
  for (int j = 0; j < s->regs; j += QUAD) {
    KInst *x, *lane, *base, *none, *value[QUAD], *mask = NULL;
    reg_place(e, s, j, &x, &lane);
    ix_emit(l, contract_flat_index(e, row_of(e, kir_i32(k, r)), s->first), &base, &none);
    if (s->left) mask = kir_bin(k, KOP_LT, add(k, to_i32(k, x), lane), s->left);
    for (int i = 0; i < QUAD; i++) value[i] = kir_get(k, e->acc[r][j + i]);
    kir_store4(k, l->out_buf[0], add(k, base, x), lane, value, mask);
  }
}

static void store_registers(GpuNest *e) {
  Kernel *k = e->k;
  for (int r = 0; r < e->rows->regs; r++) {
    bool opened = open_row(e, kir_i32(k, r));
    if (reads_quads(e->cols)) store_row_quads(e, r);
    for (int j = 0; j < e->cols->regs && !reads_quads(e->cols); j++) {
      KInst *mask;
      Ix *col = col_of(e, kir_i64(k, j), &mask);
      contract_store(e->l, e->p, contract_flat_index(e, row_of(e, kir_i32(k, r)), col), mask, kir_get(k, e->acc[r][j]));
    }
    if (opened) kir_end(k);
  }
}

/* The accumulators to shared memory; from there on lanes run along columns whatever the registers were, and the code of
 * an epilogue is there once.  step_u, step_l: distance of neighbours along U and L; n: neighbours along U. */
static void spread_registers(GpuNest *e, KInst *start, int n, int64_t step_u, int64_t step_l) {
  Kernel *k = e->k;
  Side *s = &e->side[1];
  for (int r = 0; r < n; r++)
    for (int j = 0; j < s->regs; j++) {
      KInst *x, *lane, *value[QUAD];
      bool quads = step_l == 1 && reads_quads(s);
      reg_place(e, s, j, &x, &lane);
      KInst *at = add(k, add(k, start, kir_i64(k, r * step_u)), times(k, x, step_l));
      if (quads) {
        for (int i = 0; i < QUAD; i++) value[i] = kir_get(k, e->acc[r][j + i]);
        kir_store4(k, e->result, at, lane, value, NULL);
        j += QUAD - 1;
      } else {
        kir_store(k, e->result, at, times(k, lane, step_l), kir_get(k, e->acc[r][j]), NULL);
      }
    }
}

/* Each group reads back what it wrote itself, row by row. */
static void store_through_shared(GpuNest *e) {
  Kernel *k = e->k;
  const Side *s = e->cols;
  int64_t wide = s->tile;
  kir_barrier(k);
  KInst *start = to_i64(k, times(k, times(k, e->rows->group, e->rows->regs), wide));
  spread_registers(e, start, e->rows->regs, wide, 1);
  kir_sync(k);
  KInst *own = add(k, start, to_i64(k, times(k, s->group, s->regs * LANES)));
  KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, e->rows->regs), 1, 0), *reg = to_i32(k, i);
  bool opened = open_row(e, reg);
  KInst *v = kir_for(k, kir_i64(k, 0), kir_i64(k, s->regs), 1, 0), *mask;
  Ix *col = col_of(e, v, &mask);
  KInst *at = add(k, own, add(k, times(k, i, wide), times(k, v, LANES)));
  contract_store(e->l, e->p, contract_flat_index(e, row_of(e, reg), col), mask, kir_load(k, e->result, at, kir_lane(k), NULL));
  kir_end(k);
  if (opened) kir_end(k);
  kir_end(k);
}

/* Columns are few and all in the tile. */
static void store_swapped(GpuNest *e) {
  kir_barrier(e->k);
  spread_registers(e, kir_i64(e->k, 0), (int)e->p->cols.c, 1, e->p->cols.c);
  kir_barrier(e->k);
  contract_store_flat(e, (int)e->p->cols.c);
}

bool contract_fma_stores_registers(const GpuNest *e) {
  bool fits = !reads_quads(e->cols) || is_multiple(e->p->cols, QUAD);
  return fits && !e->params.swap && contract_is_bare(e->group, e->p);
}

void contract_fma_store(GpuNest *e) {
  if (e->params.swap) store_swapped(e);
  else if (contract_fma_stores_registers(e)) store_registers(e);
  else store_through_shared(e);
}
