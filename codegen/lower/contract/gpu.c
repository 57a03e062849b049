/* The loop nest of a contraction on a GPU.
 *
 * With stages > 1 asynchronous copies fill the next tiles of both operands while the current ones are multiplied. */
#include "codegen/lower/contract/gpu.h"

enum {
  PAIR = 2,                /* groups that multiply matrix tiles together */
  MAX_TILES = 16,          /* of theirs; each takes 8 registers of a thread */
  RESIDENT_THREADS = 2048, RESIDENT_BYTES = 160 << 10,   /* of a multiprocessor's blocks together */
  BLOCK_BYTES = 1 << 10    /* that a block takes beside what it asks for */
};

static void multiply(GpuNest *e, KInst *slot, KInst *kk, int n) {
  if (e->is_mma) contract_mma_multiply(e, slot, kk);
  else contract_fma_multiply(e, slot, kk, n);
}

static void multiply_tile(GpuNest *e, KInst *t, KInst *slot) {
  Kernel *k = e->k;
  KInst *tile_k = kir_i64(k, e->params.tile_k), *zero = kir_i64(k, 0);
  KInst *left = kir_bin(k, KOP_SUB, e->k_count, times(k, t, e->params.tile_k));
  int step = e->is_mma ? MMA_STEP : FMA_STEP, rest = e->is_mma ? MMA_STEP : 1;
  if (!e->k_whole) kir_if(k, kir_bin(k, KOP_LE, tile_k, left));
  multiply(e, slot, kir_for(k, zero, tile_k, step, e->params.unroll), step);
  kir_end(k);
  if (e->k_whole) return;
  kir_else(k);
  multiply(e, slot, kir_for(k, zero, left, rest, 0), rest);
  kir_end(k);
  kir_end(k);
}

/* Where tile t (i64) is staged. */
static KInst *slot_of(GpuNest *e, KInst *t) {
  return times(e->k, kir_bin(e->k, KOP_MOD, t, kir_i64(e->k, e->params.stages)), e->stage_elems);
}

/* One barrier a tile: it says that tile t is there for all, and that all are done with tile t - 1, whose place the
 * copies issued next take. */
static void multiply_all(GpuNest *e) {
  Kernel *k = e->k;
  int ahead = e->params.stages - 1;
  KInst *size = kir_i64(k, e->params.tile_k), *zero = kir_i64(k, 0);
  KInst *tiles = kir_bin(k, KOP_DIV, add(k, e->k_count, kir_i64(k, e->params.tile_k - 1)), size);
  for (int s = 0; s < ahead; s++) {
    KInst *t = kir_i64(k, s);
    kir_if(k, kir_bin(k, KOP_LT, t, tiles));
    contract_stage_tile(e, t, slot_of(e, t));
    kir_end(k);
    kir_commit(k);
  }
  KInst *t = kir_for(k, zero, tiles, 1, 0);
  if (ahead) {
    KInst *next = add(k, t, kir_i64(k, ahead));
    kir_wait(k, ahead - 1);
    kir_barrier(k);
    kir_if(k, kir_bin(k, KOP_LT, next, tiles));
    contract_stage_tile(e, next, slot_of(e, next));
    kir_end(k);
    kir_commit(k);
  } else {
    kir_barrier(k);
    contract_stage_tile(e, t, zero);
    kir_barrier(k);
  }
  multiply_tile(e, t, ahead ? slot_of(e, t) : zero);
  kir_end(k);
}

/* ---- results ---- */

void contract_store_flat(GpuNest *e, int stride) {
  Lower *l = e->l;
  Kernel *k = e->k;
  Side *rows = e->rows;
  int64_t cols = e->p->cols.c, vectors = (rows->tile * cols + LANES - 1) / LANES;
  bool is_one = dim_is(rows->total, 1) && cols == 1;   /* no axis for the lanes to run along */
  if (is_one) vectors = 1;
  KInst *v = kir_for(k, to_i64(k, kir_group(k)), kir_i64(k, vectors), k->groups, 0), *lane = kir_lane(k);
  KInst *at = times(k, v, LANES), *element = add(k, to_i32(k, at), lane), *mask = NULL, *value;
  if (rows->left) mask = kir_bin(k, KOP_LT, element, times(k, rows->left, cols));
  Dim all = dim_scale(rows->total, cols);
  Ix *x = ix_add(l, ix_scale(l, ix_value(l, v, dim_const(vectors)), LANES), ix_value(l, lane, dim_const(LANES)));
  x = ix_assume(l, ix_add(l, ix_scale(l, rows->first, cols), x), all);
  x = ix_add(l, ix_scale_dim(l, e->batch, all), x);
  if (stride == cols) {
    value = kir_load(k, e->result, at, lane, NULL);
  } else {
    KInst *row = kir_bin(k, KOP_DIV, element, kir_i32(k, (int32_t)cols));
    KInst *col = kir_bin(k, KOP_MOD, element, kir_i32(k, (int32_t)cols));
    value = kir_load(k, e->result, kir_i64(k, 0), add(k, times(k, row, stride), col), NULL);
  }
  if (is_one) value = kir_bin(k, KOP_LANE_GET, value, kir_i32(k, 0));
  contract_store(l, e->p, x, mask, value);
  kir_end(k);
}

/* ---- items ---- */

static KInst *tiles_of(GpuNest *e, const Side *s) {
  KInst *n = kir_dim(e->k, dim_add(s->total, dim_const(s->tile - 1)));
  return kir_bin(e->k, KOP_DIV, n, kir_i64(e->k, s->tile));
}

static void emit_item(GpuNest *e) {
  Kernel *k = e->k;
  Lower *l = e->l;
  KInst *item = kir_item(k), *base_a = kir_i64(k, 0), *base_b = base_a, *at[MAX_OUTER];
  KInst *col_tile = kir_peel(e->k, &item, tiles_of(e, e->cols));
  KInst *row_tile = e->n_batch ? kir_peel(e->k, &item, tiles_of(e, e->rows)) : item;
  e->batch = ix_const(l, 0);
  for (int i = e->n_batch - 1; i >= 0; i--) {
    const Axis *x = &e->p->outer[i];
    at[i] = i ? kir_peel(e->k, &item, kir_dim(k, x->size)) : item;
    base_a = add(k, base_a, kir_bin(k, KOP_MUL, at[i], kir_dim(k, x->step_a)));
    base_b = add(k, base_b, kir_bin(k, KOP_MUL, at[i], kir_dim(k, x->step_b)));
  }
  for (int i = 0; i < e->n_batch; i++)
    e->batch = ix_add(l, ix_scale_dim(l, e->batch, e->p->outer[i].size), ix_value(l, at[i], e->p->outer[i].size));
  e->k_count = kir_i64(k, 1);
  for (int i = 0; i < e->p->n_k; i++) e->k_count = kir_bin(k, KOP_MUL, e->k_count, kir_dim(k, e->p->k[i].size));
  KInst *worker = e->is_mma ? kir_bin(k, KOP_DIV, kir_group(k), kir_i32(k, PAIR)) : kir_group(k);
  e->rows->group = kir_bin(k, KOP_MOD, worker, kir_i32(k, e->rows->groups));
  e->cols->group = kir_bin(k, KOP_DIV, worker, kir_i32(k, e->rows->groups));
  contract_locate_side(e, e->rows, row_tile, base_a);
  contract_locate_side(e, e->cols, col_tile, base_b);
  if (e->is_mma) contract_mma_begin(e);
  else contract_fma_begin(e);
  multiply_all(e);
  if (e->is_mma) contract_mma_store(e);
  else contract_fma_store(e);
}

/* ---- what parameters need ---- */
/* Elements of f32 of the results on their way through shared memory; 0: they take another. */
static int64_t result_elems(const GpuNest *e) {
  if (!e->is_mma && contract_fma_stores_registers(e)) return 0;
  return (int64_t)e->rows->tile * (e->is_mma ? contract_mma_stride(e) : e->cols->tile);
}

/* Of all stages, or of the results that take their place. */
static int64_t scratch_bytes(const GpuNest *e) {
  int64_t stages = e->stage_elems * e->params.stages * (int64_t)dtype_bytes(e->dtype);
  int64_t results = result_elems(e) * (int64_t)sizeof(float);
  return stages > results ? stages : results;
}

#define FIELD(name) PARAM_AT(ContractGpuParams, name)

/* Which of them go together; as contract_gpu_params_refuse. */
static int refuse_tiles(const GpuNest *e, Error *err) {
  const ContractGpuParams *p = &e->params;
  if (e->is_mma && p->swap)
    return params_refuse(FIELD(swap), err, "it must be 0: rows of matrix tiles do not run along lanes");
  bool few = dim_is_const(e->p->cols) && e->p->cols.c <= p->tile_m;
  if (!e->is_mma && !p->swap && dim_is(e->p->cols, 1))
    return params_refuse(FIELD(swap), err, "it must be 1: of one column, rows must run along lanes");
  if (p->swap && !few)
    return params_refuse(FIELD(tile_m), err,
                         "rows run along lanes (swap=1) only where all columns are one register tile's");
  if (e->is_mma && p->tile_m * p->tile_n > MAX_TILES)
    return params_refuse(FIELD(tile_n), err, "a pair of groups has no registers for %d x %d matrix tiles, %d is most",
                         p->tile_m, p->tile_n, (int)MAX_TILES);
  if (p->swap && p->block_m > 1)
    return params_refuse(FIELD(block_m), err, "it must be 1 where rows run along lanes (swap=1)");
  if (e->groups < 2 || e->groups > KIR_MAX_GROUPS)
    return params_refuse(FIELD(block_n), err, "no block of %d x %d groups: it has 2 to %d%s", p->block_m, p->block_n,
                         (int)KIR_MAX_GROUPS, e->is_mma ? ", two for each matrix tile" : "");
  return -1;
}

static int refuse_resident(const GpuNest *e, int64_t bytes, Error *err) {
  int threads = e->params.resident * e->groups * LANES;
  if (threads > RESIDENT_THREADS)
    return params_refuse(FIELD(resident), err, "%d threads are more than a multiprocessor's %d", threads,
                         (int)RESIDENT_THREADS);
  if (e->params.resident * (bytes + BLOCK_BYTES) > RESIDENT_BYTES)
    return params_refuse(FIELD(resident), err, "blocks of %lld bytes of shared memory are more than %d together",
                         (long long)bytes, (int)RESIDENT_BYTES);
  return -1;
}

/* What the tiles need of the machine; e->side is set. */
static int refuse_room(const GpuNest *e, Error *err) {
  int64_t bytes = scratch_bytes(e);
  for (int i = 0; i < 2; i++) {
    const Side *s = &e->side[i];
    double reach = contract_side_reach(e, s);
    int chunks = contract_side_chunks(e, s);
    if (chunks > MAX_CHUNKS)
      return params_refuse(FIELD(stages), err, "a tile of %d x %d is too much for %d groups: %d chunks a lane, %d is most",
                           s->tile, e->params.tile_k, e->groups, chunks, (int)MAX_CHUNKS);
    if (reach >= 0x1p31)
      return params_refuse(FIELD(tile_k), err, "a block reads from %g elements; offsets in it have 31 bits", reach);
  }
  if (bytes > CUDA_SHARED_BYTES)
    return params_refuse(FIELD(stages), err, "%d stages and results need %lld bytes of shared memory, there are %d",
                         e->params.stages, (long long)bytes, (int)CUDA_SHARED_BYTES);
  return refuse_resident(e, bytes, err);
}

#undef FIELD

static GpuNest nest_begin(const Group *g, const Product *p, const ContractGpuParams *params) {
  GpuNest e = {.group = g, .p = p, .params = *params, .dtype = p->node->in[0]->type.dtype};
  e.is_mma = e.dtype == DTYPE_BF16;
  e.groups = params->block_m * params->block_n * (e.is_mma ? PAIR : 1);
  return e;
}

/* Both sides, and where they are staged; e stays where it is from here on. */
static void plan_sides(GpuNest *e) {
  const ContractGpuParams *p = &e->params;
  e->rows = &e->side[p->swap];
  e->cols = &e->side[!p->swap];
  e->side[0].regs = p->tile_m;
  e->side[0].groups = p->block_m;
  e->side[0].unit = e->is_mma ? LANES : 1;
  e->side[1].regs = p->tile_n;
  e->side[1].groups = p->block_n;
  e->side[1].unit = LANES;
  e->side[1].is_lanes = !e->is_mma;
  contract_describe_sides(e);
  e->stage_elems = contract_place_side(e, &e->side[1], contract_place_side(e, &e->side[0], 0));
}

/* A thread's registers: accumulators, fragments (of four k, or of two steps), two for each chunk that it stages, and what
 * addresses need. */
static int registers_of(const GpuNest *e) {
  const ContractGpuParams *p = &e->params;
  int chunks = contract_side_chunks(e, &e->side[0]) + contract_side_chunks(e, &e->side[1]);
  int values = e->is_mma ? 8 * p->tile_m * p->tile_n + 8 * (p->tile_m + p->tile_n) + 16
                         : p->tile_m * p->tile_n + QUAD * p->tile_m + 2 * p->tile_n;
  return round_up(values + 2 * chunks + 24, 8);
}

/* Blocks that a multiprocessor of 64 Ki registers and 160 KiB of shared memory may hold. */
static int blocks_resident(const GpuNest *e, int64_t shared_bytes) {
  int threads = e->groups * LANES, regs = registers_of(e);
  int blocks = 65536 / (threads * (regs < 64 ? 64 : regs > 128 && threads == 256 ? 128 : regs));
  int fit = (int)(RESIDENT_BYTES / (shared_bytes + BLOCK_BYTES));
  int most = RESIDENT_THREADS / threads < 16 ? RESIDENT_THREADS / threads : 16;
  if (blocks > fit) blocks = fit;
  return blocks < 1 ? 1 : blocks > most ? most : blocks;
}

static void make_scratch(GpuNest *e) {
  e->stage = e->result = kir_scratch(e->k, "stage", e->dtype, scratch_bytes(e) / (int64_t)dtype_bytes(e->dtype));
  if (e->is_mma) e->result = kir_scratch_over(e->k, "result", DTYPE_F32, result_elems(e), e->stage);
}

static int resident_of(const GpuNest *e) {
  return e->params.resident ? e->params.resident : blocks_resident(e, scratch_bytes(e));
}

bool contract_gpu(Lower *l, const Product *p, const ContractGpuParams *params) {
  if (l->failed) return false;
  GpuNest e = nest_begin(l->group, p, params);
  e.l = l;
  e.k = l->k;
  kir_block(l->k, e.groups, 0);
  plan_sides(&e);
  int64_t k = contract_k_elems(p);
  e.k_whole = k >= 0 && k % params->tile_k == 0;
  make_scratch(&e);
  l->k->resident = resident_of(&e);
  for (int i = 0; i < e.n_batch; i++) kir_factor(l->k, p->outer[i].size, 1);
  kir_factor(l->k, e.rows->total, e.rows->tile);
  kir_factor(l->k, e.cols->total, e.cols->tile);
  emit_item(&e);
  return !l->failed;
}

/* ---- parameters ---- */

enum { FEW_COLS = 8, FEW_ROWS = 32 };

static Dim rows_of(const Product *p) {
  GpuNest e = {.p = p};
  e.rows = &e.side[0];
  e.cols = &e.side[1];
  contract_describe_sides(&e);
  return e.rows->total;
}

/* Rows that grow with B are many, rows that grow with R alone are a wave of a decode step: few. */
static bool has_few_rows(Dim rows) { return rows.b == 0 && (rows.r > 0 ? rows.r <= FEW_ROWS : rows.c <= FEW_ROWS); }
static bool has_many_rows(Dim rows) { return rows.b >= 256 || rows.c >= 2048; }
static int64_t cols_of(const Product *p) { return dim_is_const(p->cols) ? p->cols.c : 1 << 20; }

/* Of matrix tiles: all bf16 products are, so that an element's sum does not depend on how many rows there are. */
static void choose_mma(const Product *p, ContractGpuParams *out) {
  Dim rows = rows_of(p);
  int64_t cols = cols_of(p);
  out->stages = 3;
  out->tile_k = 32;
  out->tile_m = out->tile_n = 2;
  out->block_m = out->block_n = 2;
  if (has_few_rows(rows)) {            /* 16 x 32, each warp 16 columns: more blocks, more bytes under way */
    out->tile_m = out->tile_n = out->block_m = 1;
    out->tile_k = 64;
    out->stages = 4;
  } else if (cols <= 2 * LANES) {      /* 128 x 16 or 32 */
    out->tile_n = cols <= LANES ? 1 : 2;
    out->block_m = 4;
    out->block_n = 1;
  } else if (cols % 128 == 0 && has_many_rows(rows)) {   /* 128 x 128, 64 x 32 a warp */
    out->tile_m = out->block_n = 4;
  }                                    /* else 64 x 64, 32 x 32 a warp */
}

static void choose_fma(const Product *p, const Target *t, ContractGpuParams *out) {
  bool copies = target_has_async_copies(t);
  Dim rows = rows_of(p);
  int64_t cols = cols_of(p);
  out->stages = copies ? 3 : 1;
  out->tile_k = 16;
  out->swap = cols <= FEW_COLS;
  out->block_n = 1;
  bool k_major = dim_is(p->k[p->n_k - 1].step_a, 1);   /* else a thread reads neighbouring rows by fours */
  if (out->swap) {                 /* 128 rows, all columns */
    out->tile_m = cols < 1 ? 1 : (int)cols;
    out->tile_n = k_major ? 1 : QUAD;
    out->block_m = 1;
    out->block_n = k_major ? 8 : 2;
    out->stages = copies ? 2 : 1;
  } else if (has_few_rows(rows)) {           /* 16 x 32: more blocks of columns */
    out->tile_m = k_major ? 2 : QUAD;
    out->tile_n = cols <= LANES ? 1 : 2;
    out->block_m = 16 / out->tile_m;
    out->tile_k = 32;
  } else if (cols <= 2 * LANES) {  /* 128 x 16 or 32 */
    out->tile_m = 8;
    out->tile_n = cols <= LANES ? 1 : 2;
    out->block_m = 16;
  } else if (cols % 128 == 0 && has_many_rows(rows)) {   /* 128 x 128 */
    out->tile_m = out->tile_n = 8;
    out->block_m = 16;
    out->stages = copies ? 2 : 1;
  } else {                         /* 64 x 64: half the width of the largest, for more blocks */
    out->tile_m = 8;
    out->tile_n = 4;
    out->block_m = 8;
  }
}

bool contract_gpu_params(Arena *a, const Group *g, const Target *t, Params *out, Error *err) {
  Product p;
  contract_describe(&p, g->anchor);
  if (g->anchor->type.dtype == DTYPE_BF16) choose_mma(&p, &out->contract_gpu);
  else choose_fma(&p, t, &out->contract_gpu);
  ContractGpuParams *c = &out->contract_gpu;
  c->unroll = p.node->in[0]->type.dtype == DTYPE_BF16 || c->tile_m * c->tile_n <= 32 ? 4 : 1;
  return true;
}

int contract_gpu_params_refuse(const Group *g, const Target *t, const Params *params, Error *err) {
  Product p;
  contract_describe(&p, g->anchor);
  GpuNest e = nest_begin(g, &p, &params->contract_gpu);
  int field = refuse_tiles(&e, err);
  if (field >= 0) return field;
  if (e.params.stages > 1 && !target_has_async_copies(t))
    return params_refuse(PARAM_AT(ContractGpuParams, stages), err, "sm_%d has no asynchronous copies", t->capability);
  plan_sides(&e);
  return refuse_room(&e, err);
}
