/* The loop nest of a contraction on a CPU.
 *
 * Columns run along lanes; a register tile has tile_m rows and tile_n lane vectors; an item takes block_m tiles of rows
 * and one of columns.  Splitting k (tile_k) stores and reloads the accumulator, which rounds nothing.
 *
 * Rows are tiled along one axis on which A has a constant step (rows of a, columns of the picture, channels of the
 * filter), so that all rows of a tile are addressed from one register.
 *
 * bf16 operands are summed in the order inside AMX: of every 32 elements of the innermost k axis the 16 even products are
 * one FMA chain from 0, the 16 odd ones another, and their sum is added to the accumulator.  Rows of a are widened to f32
 * in scratch first, so that the chains read single elements at no cost; one chain at a time has the registers, unless
 * there are few rows. */
#include "codegen/kir/arith.h"
#include "codegen/lower/contract/contract.h"

enum { MAX_TILE_M = 16, MAX_TILE_N = 8, MAX_PANEL = 1 << 17 /* elements */, AMX_K = 32 };

typedef struct CpuNest {
  Lower *l;
  Kernel *k;
  Product p;
  ContractParams params;
  int panel, tile;                    /* scratch: packed B [k][16 tile_n], results [tile_m][16 tile_n]; -1: none */
  int stage, even;                    /* scratch of bf16: rows of a, [tile_m][32] or [32][16]; sums of even products */
  KInst *base_a, *base_b;             /* of the item's outer coordinates */
  KInst *outer[MAX_OUTER];
  KInst *n0;                          /* first column */
  KInst *mask[MAX_TILE_N];            /* NULL: all lanes */
  KInst *k_begin, *k_end;             /* range of the outermost k axis */
  bool has_epilogue, splits_k, is_bf16;
  bool stage_by_k;                    /* stage is [32][16]: rows are neighbours in a */
} CpuNest;

static KInst *times_dim(CpuNest *e, KInst *x, Dim d) { return mul(e->k, x, kir_dim(e->k, d)); }

static KInst *ceil_div(CpuNest *e, Dim size, int64_t tile) {
  return kir_bin(e->k, KOP_DIV, kir_dim(e->k, dim_add(size, dim_const(tile - 1))), kir_i64(e->k, tile));
}

static void set_outer(CpuNest *e, int i, KInst *at) {
  e->outer[i] = at;
  e->base_a = add(e->k, e->base_a, times_dim(e, at, e->p.outer[i].step_a));
  e->base_b = add(e->k, e->base_b, times_dim(e, at, e->p.outer[i].step_b));
}

static int lanes_of_tile(const CpuNest *e) { return e->params.tile_n * LANES; }

static void set_masks(CpuNest *e) {
  Dim cols = e->p.cols;
  if (dim_is_const(cols) && cols.c % lanes_of_tile(e) == 0) return;
  for (int j = 0; j < e->params.tile_n; j++) {
    KInst *left = kir_bin(e->k, KOP_SUB, kir_dim(e->k, cols), plus(e->k, e->n0, j * LANES));
    e->mask[j] = kir_bin(e->k, KOP_LT, kir_lane(e->k), kir_un(e->k, KOP_TO_I32, left));
  }
}

/* Lane vector j of row `at` (an offset into b without the column). */
static KInst *load_b(CpuNest *e, KInst *at, int j) {
  Kernel *k = e->k;
  KInst *col = plus(k, e->n0, j * LANES), *lane = kir_lane(k);
  if (!dim_is_const(e->p.col_step) || e->p.col_step.c != 1)
    lane = kir_bin(k, KOP_MUL, lane, kir_un(k, KOP_TO_I32, kir_dim(k, e->p.col_step)));
  return kir_load(k, e->p.buf_b, add(k, at, times_dim(e, col, e->p.col_step)), lane, e->mask[j]);
}

/* Opens loops over k; returns the offsets into a and b (without base) and the position in the panel. */
static void open_k(CpuNest *e, int unroll, KInst **off_a, KInst **off_b, KInst **at) {
  Kernel *k = e->k;
  *off_a = *off_b = *at = kir_i64(k, 0);
  for (int i = 0; i < e->p.n_k; i++) {
    const Axis *x = &e->p.k[i];
    KInst *lo = i == 0 ? e->k_begin : kir_i64(k, 0), *hi = i == 0 ? e->k_end : kir_dim(k, x->size);
    KInst *v = kir_for(k, lo, hi, 1, i == e->p.n_k - 1 ? unroll : 0);
    *off_a = add(k, *off_a, times_dim(e, v, x->step_a));
    *off_b = add(k, *off_b, times_dim(e, v, x->step_b));
    *at = add(k, times_dim(e, *at, x->size), v);
  }
}

static void close_k(CpuNest *e) {
  for (int i = 0; i < e->p.n_k; i++) kir_end(e->k);
}

static void pack_panel(CpuNest *e) {
  KInst *off_a, *off_b, *at;
  open_k(e, 0, &off_a, &off_b, &at);
  for (int j = 0; j < e->params.tile_n; j++) {
    KInst *row = plus(e->k, kir_bin(e->k, KOP_MUL, at, kir_i64(e->k, lanes_of_tile(e))), j * LANES);
    kir_store(e->k, e->panel, row, kir_lane(e->k), load_b(e, add(e->k, e->base_b, off_b), j), NULL);
  }
  close_k(e);
  kir_sync(e->k);
}

/* Raster index of the result's row m among all rows. */
static Ix *row_index(CpuNest *e, Ix *m) {
  Lower *l = e->l;
  Ix *row = ix_const(l, 0);
  for (int i = 0; i < e->p.n_outer; i++)
    row = ix_add(l, ix_scale_dim(l, row, e->p.outer[i].size), ix_value(l, e->outer[i], e->p.outer[i].size));
  return ix_add(l, ix_scale_dim(l, row, e->p.rows), m);
}

static Ix *result_index(CpuNest *e, Ix *m, int j) {
  Lower *l = e->l;
  Ix *col = ix_add(l, ix_add(l, ix_value(l, e->n0, e->p.cols), ix_const(l, j * LANES)),
                   ix_value(l, kir_lane(l->k), dim_const(LANES)));
  return ix_add(l, ix_scale_dim(l, row_index(e, m), e->p.cols), ix_assume(l, col, e->p.cols));
}

/* Row m, `i` rows below the tile's first. */
static Ix *tile_row(CpuNest *e, KInst *m, Ix *i) {
  return ix_assume(e->l, ix_add(e->l, ix_value(e->l, m, e->p.rows), i), e->p.rows);
}

static void store_result(CpuNest *e, Ix *m, int j, KInst *value) {
  if (dim_equal(e->p.cols, dim_const(1))) {   /* no axis for the lanes to run along */
    if (j > 0) return;
    value = kir_bin(e->k, KOP_LANE_GET, value, kir_i32(e->k, 0));
  }
  contract_store(e->l, &e->p, result_index(e, m, j), e->mask[j], value);
}

/* The element that an accumulator continues from when k is split. */
static KInst *load_partial(CpuNest *e, Ix *m, int j) {
  KInst *base, *lane;
  ix_emit(e->l, result_index(e, m, j), &base, &lane);
  KInst *old = kir_load(e->k, e->l->out_buf[0], base, lane, e->mask[j]);
  KInst *is_first = kir_bin(e->k, KOP_EQ, e->k_begin, kir_i64(e->k, 0));
  return kir_op(e->k, KOP_SELECT, is_first, kir_f32(e->k, 0.0f), old);
}

/* Row i, vector j of a tile in scratch. */
static KInst *tile_at(CpuNest *e, KInst *i, int j) {
  return plus(e->k, kir_bin(e->k, KOP_MUL, i, kir_i64(e->k, lanes_of_tile(e))), j * LANES);
}

/* Stores what scratch holds, in a loop: the code of an epilogue is then there once, not tile_m times. */
static void store_tile(CpuNest *e, KInst *m, int rows) {
  Kernel *k = e->k;
  kir_sync(k);
  KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, rows), 1, 0);
  for (int j = 0; j < e->params.tile_n; j++) {
    KInst *value = kir_load(k, e->tile, tile_at(e, i, j), kir_lane(k), NULL);
    store_result(e, tile_row(e, m, ix_value(e->l, i, dim_const(rows))), j, value);
  }
  kir_end(k);
  kir_sync(k);
}

/* Lane vectors of row `at` of the panel, or of row off_b of b. */
static void load_row(CpuNest *e, KInst *off_b, KInst *at, KInst **b) {
  for (int j = 0; j < e->params.tile_n; j++)
    b[j] = e->panel >= 0 ? kir_load(e->k, e->panel, tile_at(e, at, j), kir_lane(e->k), NULL)
                         : load_b(e, add(e->k, e->base_b, off_b), j);
}

static void emit_tile_f32(CpuNest *e, KInst *m, int rows) {
  Kernel *k = e->k;
  Lower *l = e->l;
  int cols = e->params.tile_n;
  KInst *acc[MAX_TILE_M][MAX_TILE_N], *off_a, *off_b, *at, *b[MAX_TILE_N];
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++)
      acc[i][j] = kir_var(k, e->splits_k ? load_partial(e, tile_row(e, m, ix_const(l, i)), j) : kir_f32(k, 0.0f), true);
  KInst *first = add(k, e->base_a, times_dim(e, m, e->p.row_step));
  open_k(e, e->params.unroll, &off_a, &off_b, &at);
  KInst *row = add(k, first, off_a);
  load_row(e, off_b, at, b);
  for (int i = 0; i < rows; i++) {
    KInst *a = kir_load(k, e->p.buf_a, add(k, row, times_dim(e, kir_i64(k, i), e->p.row_step)), NULL, NULL);
    for (int j = 0; j < cols; j++) kir_set(k, acc[i][j], kir_op(k, KOP_FMA, a, b[j], kir_get(k, acc[i][j])));
  }
  close_k(e);
  if (!e->has_epilogue) {
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < cols; j++) store_result(e, tile_row(e, m, ix_const(l, i)), j, kir_get(k, acc[i][j]));
    return;
  }
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++)
      kir_store(k, e->tile, tile_at(e, kir_i64(k, i), j), kir_lane(k), kir_get(k, acc[i][j]), NULL);
  store_tile(e, m, rows);
}

/* ---- bf16 ---- */

/* A block of at most 32 elements of the innermost k axis. */
typedef struct RegisterBlock {
  KInst *n;             /* how many; NULL: all 32 */
  KInst *a, *b, *at;    /* offsets of the first into a and b (with bases), its row of the panel */
} RegisterBlock;

/* bool: element `at` of the block exists; NULL: surely. */
static KInst *in_block(CpuNest *e, const RegisterBlock *x, KInst *at) {
  return x->n ? kir_bin(e->k, KOP_LT, at, kir_un(e->k, KOP_TO_I32, x->n)) : NULL;
}

/* Widens the block's part of the tile's rows of a. */
static void stage_rows(CpuNest *e, const RegisterBlock *x, int rows) {
  Kernel *k = e->k;
  Dim step = e->p.k[e->p.n_k - 1].step_a;
  KInst *lane = kir_lane(k);
  kir_sync(k);
  if (e->stage_by_k) {
    KInst *i = kir_for(k, kir_i64(k, 0), x->n ? x->n : kir_i64(k, AMX_K), 1, e->params.widen_unroll);
    KInst *mask = rows < LANES ? kir_bin(k, KOP_LT, lane, kir_i32(k, rows)) : NULL;
    KInst *a = kir_load(k, e->p.buf_a, add(k, x->a, times_dim(e, i, step)), lane, mask);
    kir_store(k, e->stage, kir_bin(k, KOP_MUL, i, kir_i64(k, LANES)), lane, a, NULL);
    kir_end(k);
  } else {
    KInst *along = lane;
    if (!dim_equal(step, dim_const(1))) along = kir_bin(k, KOP_MUL, lane, kir_un(k, KOP_TO_I32, kir_dim(k, step)));
    KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, rows), 1, e->params.widen_unroll);
    KInst *from = add(k, x->a, times_dim(e, i, e->p.row_step));
    for (int v = 0; v < AMX_K; v += LANES) {
      KInst *mask = in_block(e, x, kir_bin(k, KOP_ADD, lane, kir_i32(k, v)));
      KInst *a = kir_load(k, e->p.buf_a, add(k, from, times_dim(e, kir_i64(k, v), step)), along, mask);
      kir_store(k, e->stage, plus(k, kir_bin(k, KOP_MUL, i, kir_i64(k, AMX_K)), v), lane, a, NULL);
    }
    kir_end(k);
  }
  kir_sync(k);
}

typedef KInst *Chain[MAX_TILE_M][MAX_TILE_N];

/* One product of every chain: element 2 t + odd of the block. */
static void chain_step(CpuNest *e, const RegisterBlock *x, int rows, KInst *t, int odd, Chain sum) {
  Kernel *k = e->k;
  KInst *at = plus(k, kir_bin(k, KOP_MUL, t, kir_i64(k, 2)), odd), *b[MAX_TILE_N];
  load_row(e, add(k, x->b, times_dim(e, at, e->p.k[e->p.n_k - 1].step_b)), add(k, x->at, at), b);
  for (int i = 0; i < rows; i++) {
    KInst *place = e->stage_by_k ? plus(k, times(k, at, LANES), i) : plus(k, at, i * AMX_K);
    KInst *a = kir_load(k, e->stage, place, NULL, NULL);
    for (int j = 0; j < e->params.tile_n; j++)
      kir_set(k, sum[i][j], kir_op(k, KOP_FMA, a, b[j], kir_get(k, sum[i][j])));
  }
}

static void chain_begin(CpuNest *e, int rows, Chain sum) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < e->params.tile_n; j++) sum[i][j] = kir_var(e->k, kir_f32(e->k, 0.0f), true);
}

/* How many even or odd elements the block has. */
static KInst *chain_length(CpuNest *e, const RegisterBlock *x, int odd) {
  return x->n ? kir_bin(e->k, KOP_DIV, plus(e->k, x->n, 1 - odd), kir_i64(e->k, 2)) : kir_i64(e->k, AMX_K / 2);
}

static KInst *even_sum(CpuNest *e, Chain even, bool in_scratch, int i, int j) {
  if (!in_scratch) return kir_get(e->k, even[i][j]);
  return kir_load(e->k, e->even, tile_at(e, kir_i64(e->k, i), j), kir_lane(e->k), NULL);
}

/* tile += (even products) + (odd products). */
static void add_block(CpuNest *e, const RegisterBlock *x, int rows) {
  Kernel *k = e->k;
  int cols = e->params.tile_n;
  bool together = 2 * rows <= e->params.tile_m;   /* both chains then fit into the registers */
  Chain even, odd;
  stage_rows(e, x, rows);
  chain_begin(e, rows, even);
  if (together) chain_begin(e, rows, odd);
  KInst *t = kir_for(k, kir_i64(k, 0), chain_length(e, x, together), 1, e->params.unroll);
  chain_step(e, x, rows, t, 0, even);
  if (together) chain_step(e, x, rows, t, 1, odd);
  kir_end(k);
  KInst *half = chain_length(e, x, 1), *longer = kir_bin(k, KOP_LT, half, chain_length(e, x, 0));
  if (together && !(longer->op == KOP_CONST && longer->imm == 0)) {   /* an odd number: one even product more */
    kir_if(k, longer);
    chain_step(e, x, rows, half, 0, even);
    kir_end(k);
  }
  for (int i = 0; i < rows && !together; i++)
    for (int j = 0; j < cols; j++)
      kir_store(k, e->even, tile_at(e, kir_i64(k, i), j), kir_lane(k), kir_get(k, even[i][j]), NULL);
  if (!together) {
    chain_begin(e, rows, odd);
    t = kir_for(k, kir_i64(k, 0), chain_length(e, x, 1), 1, e->params.unroll);
    chain_step(e, x, rows, t, 1, odd);
    kir_end(k);
  }
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++) {
      KInst *at = tile_at(e, kir_i64(k, i), j), *old = kir_load(k, e->tile, at, kir_lane(k), NULL);
      KInst *both = add(k, even_sum(e, even, !together, i, j), kir_get(k, odd[i][j]));
      kir_store(k, e->tile, at, kir_lane(k), add(k, old, both), NULL);
    }
}

static void emit_tile_bf16(CpuNest *e, KInst *m, int rows) {
  Kernel *k = e->k;
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < e->params.tile_n; j++)
      kir_store(k, e->tile, tile_at(e, kir_i64(k, i), j), kir_lane(k), kir_f32(k, 0.0f), NULL);
  KInst *off_a = add(k, e->base_a, times_dim(e, m, e->p.row_step)), *off_b = kir_i64(k, 0), *at = kir_i64(k, 0);
  for (int i = 0; i < e->p.n_k - 1; i++) {
    const Axis *x = &e->p.k[i];
    KInst *v = kir_for(k, kir_i64(k, 0), kir_dim(k, x->size), 1, 0);
    off_a = add(k, off_a, times_dim(e, v, x->step_a));
    off_b = add(k, off_b, times_dim(e, v, x->step_b));
    at = add(k, times_dim(e, at, x->size), v);
  }
  const Axis *last = &e->p.k[e->p.n_k - 1];
  KInst *size = kir_dim(k, last->size), *v = kir_for(k, kir_i64(k, 0), size, AMX_K, 0);
  RegisterBlock x = {.a = add(k, off_a, times_dim(e, v, last->step_a)),
                     .b = add(k, off_b, times_dim(e, v, last->step_b)),
                     .at = add(k, times_dim(e, at, last->size), v)};
  bool is_whole = dim_is_const(last->size) && last->size.c % AMX_K == 0;
  if (!is_whole) x.n = kir_bin(k, KOP_MIN, kir_i64(k, AMX_K), kir_bin(k, KOP_SUB, size, v));
  add_block(e, &x, rows);
  for (int i = 0; i < e->p.n_k; i++) kir_end(k);
  store_tile(e, m, rows);
}

/* One register tile of `rows` rows from row m on. */
static void emit_tile(CpuNest *e, KInst *m, int rows) {
  if (e->is_bf16) emit_tile_bf16(e, m, rows);
  else emit_tile_f32(e, m, rows);
}

/* Rows [m0, m_end): full tiles, then one tile each of 8, 4, 2 and 1 rows as the binary digits of the rest say. */
static void emit_rows(CpuNest *e, KInst *m0, KInst *m_end) {
  Kernel *k = e->k;
  int full = e->params.tile_m;
  KInst *m = kir_for(k, m0, plus(k, m_end, 1 - full), full, 0);
  emit_tile(e, m, full);
  kir_end(k);
  if (dim_is_const(e->p.rows) && e->p.rows.c % full == 0) return;
  KInst *rest = kir_un(k, KOP_TO_I32, kir_bin(k, KOP_MOD, kir_bin(k, KOP_SUB, m_end, m0), kir_i64(k, full)));
  KInst *tail = kir_bin(k, KOP_SUB, m_end, kir_un(k, KOP_TO_I64, rest));
  for (int size = 8; size >= 1; size /= 2) {
    if (size >= full) continue;
    kir_if(k, kir_bin(k, KOP_LT, kir_i32(k, 0), kir_bin(k, KOP_AND, rest, kir_i32(k, size))));
    KInst *before = kir_bin(k, KOP_AND, rest, kir_i32(k, ~(2 * size - 1)));
    emit_tile(e, add(k, tail, kir_un(k, KOP_TO_I64, before)), size);
    kir_end(k);
  }
}

/* The item's rows for each outer coordinate that the item itself runs over. */
static void emit_outer(CpuNest *e, int i, KInst *m0, KInst *m_end) {
  if (i == e->p.n_outer || !e->p.outer_inside) {
    emit_rows(e, m0, m_end);
    return;
  }
  KInst *base_a = e->base_a, *base_b = e->base_b;
  set_outer(e, i, kir_for(e->k, kir_i64(e->k, 0), kir_dim(e->k, e->p.outer[i].size), 1, 0));
  emit_outer(e, i + 1, m0, m_end);
  kir_end(e->k);
  e->base_a = base_a;
  e->base_b = base_b;
}

static void emit_item(CpuNest *e) {
  Kernel *k = e->k;
  int64_t block = (int64_t)e->params.tile_m * e->params.block_m;
  KInst *item = kir_item(k);
  e->n0 = kir_bin(k, KOP_MUL, kir_peel(e->k, &item, ceil_div(e, e->p.cols, lanes_of_tile(e))), kir_i64(k, lanes_of_tile(e)));
  KInst *m0 = kir_bin(k, KOP_MUL, kir_peel(e->k, &item, ceil_div(e, e->p.rows, block)), kir_i64(k, block));
  KInst *m_end = kir_bin(k, KOP_MIN, plus(k, m0, block), kir_dim(k, e->p.rows));
  e->base_a = e->base_b = kir_i64(k, 0);
  for (int i = e->p.n_outer - 1; i >= 0 && !e->p.outer_inside; i--)
    set_outer(e, i, kir_peel(e->k, &item, kir_dim(k, e->p.outer[i].size)));
  set_masks(e);
  Dim size = e->p.k[0].size;
  e->k_begin = kir_i64(k, 0);
  e->k_end = kir_dim(k, size);
  if (e->panel >= 0) pack_panel(e);
  if (!e->splits_k) {
    emit_outer(e, 0, m0, m_end);
    return;
  }
  int64_t inner = 1;
  for (int i = 1; i < e->p.n_k; i++) inner *= e->p.k[i].size.c;
  int64_t step = inner >= e->params.tile_k ? 1 : e->params.tile_k / (inner ? inner : 1);
  /* Once at least: a sum over no samples is stored too. */
  KInst *end = kir_dim(k, size);
  if (size.c == 0) end = kir_bin(k, KOP_MAX, end, kir_i64(k, 1));
  e->k_begin = kir_for(k, kir_i64(k, 0), end, step, 0);
  e->k_end = kir_bin(k, KOP_MIN, plus(k, e->k_begin, step), kir_dim(k, size));
  emit_outer(e, 0, m0, m_end);
  kir_end(k);
}

/* Long sums are split so that the rows of b stay in cache; the accumulators then rest in the result, so only a bare
 * f32 product whose result is its one output can.  Only the outermost axis may be empty (of samples, say). */
static bool may_split_k(const Group *g, const Product *p) {
  for (int i = 1; i < p->n_k; i++)
    if (!dim_is_const(p->k[i].size) || p->k[i].size.c == 0) return false;
  return p->node->in[0]->type.dtype == DTYPE_F32 && contract_is_bare(g, p);
}

static bool panel_fits(const Product *p, int tile_n) {
  int64_t k = contract_k_elems(p);
  return k > 0 && k <= MAX_PANEL / (LANES * tile_n);
}

static void add_factors(CpuNest *e) {
  for (int i = 0; i < e->p.n_outer && !e->p.outer_inside; i++) kir_factor(e->k, e->p.outer[i].size, 1);
  kir_factor(e->k, e->p.rows, (int64_t)e->params.tile_m * e->params.block_m);
  kir_factor(e->k, e->p.cols, lanes_of_tile(e));
}

/* Are rows neighbours in a, and elements of k not? */
static bool stages_by_k(const Product *p) {
  return dim_equal(p->row_step, dim_const(1)) && !dim_equal(p->k[p->n_k - 1].step_a, dim_const(1));
}

bool contract_cpu(Lower *l, const Product *p, const ContractParams *params) {
  CpuNest e = {.l = l, .k = l->k, .p = *p, .params = *params, .panel = -1, .tile = -1,
               .is_bf16 = p->node->in[0]->type.dtype == DTYPE_BF16};
  for (int i = 0; i < l->group->n_out; i++) e.has_epilogue |= l->group->out[i] != e.p.node;
  e.splits_k = params->tile_k > 0;
  if (params->pack_b) e.panel = kir_scratch(l->k, "panel", DTYPE_F32, contract_k_elems(p) * lanes_of_tile(&e));
  int64_t tile = (int64_t)params->tile_m * lanes_of_tile(&e);
  if (e.has_epilogue || e.is_bf16) e.tile = kir_scratch(l->k, "tile", DTYPE_F32, tile);
  if (e.is_bf16) {
    e.stage_by_k = stages_by_k(p);
    e.stage = kir_scratch(l->k, "rows", DTYPE_F32, AMX_K * (e.stage_by_k ? LANES : params->tile_m));
    e.even = kir_scratch(l->k, "even", DTYPE_F32, tile);
  }
  add_factors(&e);
  emit_item(&e);
  return !l->failed;
}

/* ---- parameters ---- */

/* The largest register tile whose rows divide an inner axis best.  Accumulators take most registers; a row of b and one
 * element of a need the rest. */
static int pick_tile_m(const Product *p, int most) {
  if (!dim_is_const(p->rows)) return most;
  int best = most;
  double best_waste = 1e9;
  for (int m = most; m >= 1 && m >= most / 2; m--) {
    int64_t tiles = (p->rows.c + m - 1) / m;
    double waste = (double)(tiles * m) / (double)(p->rows.c ? p->rows.c : 1) + 0.02 * (most - m);
    if (waste < best_waste) best = m, best_waste = waste;
  }
  return best;
}

/* Rows of a decode step, or a few constant ones: then b, read once, is all that counts. */
static bool has_few_rows(const Product *p) {
  enum { FEW_ROWS = 32 };
  int64_t rows = dim_is_const(p->rows) ? p->rows.c : 0;
  for (int i = 0; i < p->n_outer; i++) rows *= dim_is_const(p->outer[i].size) ? p->outer[i].size.c : FEW_ROWS + 1;
  return p->n_outer ? rows > 0 && rows <= FEW_ROWS : p->rows.b == 0 && (p->rows.r > 0 || rows <= FEW_ROWS);
}

/* Vectors of columns of a tile, at most n: narrower ones only where they leave 5 % fewer lanes idle for each vector. */
static int pick_tile_n(int64_t cols, int n) {
  int64_t vectors = (cols + LANES - 1) / LANES, least = INT64_MAX;
  int best = 1;
  for (int i = n; i >= 1 && 3 * i >= 2 * n; i--) {
    int64_t cost = (vectors + i - 1) / i * i * (20 + n - i);
    if (cost < least) best = i, least = cost;
  }
  return best;
}

/* A row of b is a page of memory or more, so what a tile reads of each should be long: wide tiles, and few elements of k
 * at a time, so that the next rows of a find b in the cache. */
static void few_rows_params(const Product *p, int registers, ContractParams *out) {
  int accumulators = registers * 3 / 4, most = dim_equal(p->rows, dim_const(1)) ? accumulators / 3 : accumulators / 4;
  int64_t cols = dim_is_const(p->cols) ? p->cols.c : INT32_MAX;
  out->tile_n = pick_tile_n(cols, most < 3 ? 3 : most > MAX_TILE_N ? MAX_TILE_N : most);
  int rows = accumulators / out->tile_n;
  out->tile_m = dim_equal(p->rows, dim_const(1)) || rows < 1 ? 1 : rows > MAX_TILE_M ? MAX_TILE_M : rows;
  out->block_m = 32;
  out->tile_k = 128;
}

/* The least that block_m may be and that has so many tiles, or its largest. */
static int legal_block(int64_t tiles) {
  const int *value;
  int n = params_field_values(PARAMS_CONTRACT, PARAM_AT(ContractParams, block_m), &value), i = 0;
  while (i < n - 1 && value[i] < tiles) i++;
  return value[i];
}

static void choose(const Product *p, const Target *t, ContractParams *out) {
  int vectors_per_lanes = LANES * 32 / t->vector_bits, registers = t->vector_registers / vectors_per_lanes;
  int64_t cols = dim_is_const(p->cols) ? p->cols.c : 64;
  bool is_strided = !dim_is_const(p->col_step) || p->col_step.c != 1;
  if (has_few_rows(p) && !is_strided && cols > 3 * LANES && p->node->in[0]->type.dtype == DTYPE_F32) {
    few_rows_params(p, registers, out);
    return;
  }
  out->tile_n = registers >= 32 ? 3 : registers >= 16 ? 2 : 1;
  if (cols <= LANES) out->tile_n = 1;
  else if (cols <= 2 * LANES || (cols % (3 * LANES) != 0 && out->tile_n == 3)) out->tile_n = registers >= 16 ? 2 : 1;
  int most = (registers - out->tile_n - 1) / out->tile_n;
  out->tile_m = pick_tile_m(p, most < 1 ? 1 : most > 14 ? 14 : most);
  int64_t rows = dim_is_const(p->rows) ? p->rows.c : 0, tiles = rows ? (rows + out->tile_m - 1) / out->tile_m : 32;
  out->block_m = (int)(tiles > 32 ? 32 : tiles);
  if (p->outer_inside && tiles > 1) out->block_m = legal_block((tiles + 1) / 2);
  out->tile_k = 512;
  /* A panel pays where b is read along its rows' step, and where that step is so long that a panel's rows share few
   * cache sets; a decoding step has too few rows for the second. */
  out->pack_b = is_strided || (cols >= 512 && p->rows.r == 0);
}

bool contract_params(Arena *a, const Group *g, const Target *t, Params *out, Error *err) {
  ContractParams *c = &out->contract;
  Product p;
  contract_describe(&p, g->anchor);
  int64_t k = contract_k_elems(&p);
  choose(&p, t, c);
  c->unroll = 4;
  c->widen_unroll = p.node->in[0]->type.dtype == DTYPE_F32 ? 1 : stages_by_k(&p) ? 4 : 2;
  if (!may_split_k(g, &p) || (k >= 0 && k <= 2 * c->tile_k)) c->tile_k = 0;
  c->pack_b = c->pack_b && !c->tile_k && panel_fits(&p, c->tile_n);
  return true;
}

int contract_params_refuse(const Group *g, const Target *t, const Params *params, Error *err) {
  const ContractParams *c = &params->contract;
  Product p;
  contract_describe(&p, g->anchor);
  int64_t k = contract_k_elems(&p);
  if (c->tile_k && !may_split_k(g, &p))
    return params_refuse(PARAM_AT(ContractParams, tile_k), err,
                         "it must be 0: only a f32 product without an epilogue rests in its result");
  if (c->tile_k && k >= 0 && k <= c->tile_k)
    return params_refuse(PARAM_AT(ContractParams, tile_k), err, "it must be less than k, which is %lld", (long long)k);
  if (c->pack_b && c->tile_k)
    return params_refuse(PARAM_AT(ContractParams, pack_b), err, "it must be 0 where k is split (tile_k=%d)", c->tile_k);
  if (c->pack_b && !panel_fits(&p, c->tile_n))
    return params_refuse(PARAM_AT(ContractParams, pack_b), err,
                         "it must be 0: k (%lld, -1 is symbolic) times %d columns is to be known, more than 0 and at "
                         "most %d", (long long)k, LANES * c->tile_n, (int)MAX_PANEL);
  if (c->widen_unroll > 1 && p.node->in[0]->type.dtype == DTYPE_F32)
    return params_refuse(PARAM_AT(ContractParams, widen_unroll), err, "it must be 1: rows of f32 are not widened");
  return -1;
}
