/* The loop nest of a contraction on a GPU.
 *
 * An item is a block of groups and computes one tile of the result.  Its two sides are rows and columns: one runs along
 * the registers of a thread and then groups (U, the same in all lanes), the other along lanes, registers and groups (L).
 * U is rows, unless `swap` says otherwise, for results of few columns.  Tiles of both operands, tile_k elements deep, go
 * through shared memory; with stages > 1 asynchronous copies fill the next ones while the current one is multiplied.
 *
 * A side's coordinates are flattened into one index x, so that a tile runs over the ends of lines and pictures.  It is
 * staged as [x][k] where k is contiguous in memory, else as [k][x], and four elements at a time where all steps are
 * multiples of four.  Beyond the border zeros are staged; the sum itself ends at k's end, because 0 * 0 added to -0
 * would be +0. */
#include "codegen/lower_contract.h"

enum {
  MAX_AXES = MAX_OUTER + 1,
  MAX_REGS = 8,
  MAX_CHUNKS = 64,
  PAD = 4,                /* elements after each row of [x][k]: lanes then read from different banks */
  SHARED_BYTES = 96 << 10 /* of a block at most, so that every GPU from sm_75 on but the first has room */
};

/* A linear map from a flattened index; sizes after the first are constants. */
typedef struct Walk {
  int n;
  Dim size[MAX_AXES], step[MAX_AXES];
} Walk;

typedef struct Side {
  int buf;
  Walk x, k;
  Dim total;              /* elements along x */
  int regs, groups, tile; /* of x: a thread's registers, groups of a block, elements of a block */
  bool is_lanes;          /* x runs along lanes: side L */
  bool k_major;           /* staged as [x][k] */
  int count;              /* elements a lane stages at once: 1 or 4 */
  int64_t at, elems;      /* of a stage in shared memory */
  int ld, alloc;          /* distance of its rows; tile rounded up to what all lanes stage together */
  Ix *first;              /* the tile's first x */
  KInst *first_x, *base;  /* the same as i64; what it adds to addresses, with batches */
  KInst *left;            /* i32: elements of the tile that exist; NULL: all */
  KInst *group;           /* i32: the group's place along x */
  KInst *off[MAX_CHUNKS]; /* i32: what x adds to the address of a lane's chunk */
} Side;

typedef struct Emit {
  Lower *l;
  Kernel *k;
  const Product *p;
  KernelParams params;
  Side side[2];           /* U, L */
  Side *rows, *cols;
  int n_batch;            /* coordinates of p->outer that are not part of rows */
  Ix *batch;              /* their raster index */
  Dim k_total;            /* elements of k; not affine: see k_count */
  bool k_whole;           /* surely a multiple of tile_k */
  KInst *k_count;         /* i64 */
  int stage;              /* scratch */
  int64_t stage_elems;
  KInst *acc[MAX_REGS][MAX_REGS];
} Emit;

static KInst *plus(Emit *e, KInst *x, KInst *y) { return kir_bin(e->k, KOP_ADD, x, y); }
static KInst *times(Emit *e, KInst *x, int64_t c) {
  return kir_bin(e->k, KOP_MUL, x, x->type == K_I64 ? kir_i64(e->k, c) : kir_i32(e->k, (int32_t)c));
}
static KInst *to_i32(Emit *e, KInst *x) { return kir_un(e->k, KOP_TO_I32, x); }
static KInst *to_i64(Emit *e, KInst *x) { return kir_un(e->k, KOP_TO_I64, x); }
static KInst *both(Emit *e, KInst *x, KInst *y) { return !x ? y : !y ? x : kir_bin(e->k, KOP_AND, x, y); }

/* ---- linear maps ---- */

static bool dim_is(Dim d, int64_t c) { return dim_equal(d, dim_const(c)); }
static bool is_multiple(Dim d, int64_t of) { return d.c % of == 0 && d.b % of == 0 && d.r % of == 0; }

static void walk_push(Walk *w, Dim size, Dim step) {
  w->size[w->n] = size;
  w->step[w->n++] = step;
}

/* Axes that follow each other without a gap become one, where both operands agree. */
static void walks_merge(Walk *a, Walk *b) {
  int n = 0;
  for (int i = 1; i < a->n; i++) {
    Dim size = a->size[i];
    bool joins = dim_is_const(size) && dim_is_const(a->size[n]) &&
                 dim_equal(a->step[n], dim_scale(a->step[i], size.c)) &&
                 dim_equal(b->step[n], dim_scale(b->step[i], size.c));
    if (!joins) n++;
    a->size[n] = b->size[n] = joins ? dim_scale(a->size[n], size.c) : size;
    a->step[n] = a->step[i];
    b->step[n] = b->step[i];
  }
  a->n = b->n = n + 1;
}

/* Address of index start + rel, 0 <= rel < span: the uniform part and what differs between lanes (i32).  start is a
 * multiple of span. */
static void walk_offset(Emit *e, const Walk *w, KInst *start, KInst *rel, int64_t span, KInst **base, KInst **lane) {
  Kernel *k = e->k;
  KInst *rest = start, *carry = rel;
  *base = kir_i64(k, 0);
  *lane = kir_i32(k, 0);
  for (int i = w->n - 1; i >= 0; i--) {
    int64_t size = i == 0 || w->size[i].c < 1 ? 1 : w->size[i].c;
    KInst *at = i ? kir_bin(k, KOP_MOD, rest, kir_i64(k, size)) : rest, *step = kir_dim(k, w->step[i]);
    if (i) rest = kir_bin(k, KOP_DIV, rest, kir_i64(k, size));
    bool inside = i == 0 || (i == w->n - 1 && size % span == 0);
    if (inside || !carry) *base = plus(e, *base, kir_bin(k, KOP_MUL, at, step));
    if (!carry) continue;
    KInst *sum = inside ? carry : plus(e, to_i32(e, at), carry), *size32 = kir_i32(k, (int32_t)size);
    KInst *here = inside ? sum : kir_bin(k, KOP_MOD, sum, size32);
    *lane = plus(e, *lane, kir_bin(k, KOP_MUL, here, to_i32(e, step)));
    carry = inside ? NULL : kir_bin(k, KOP_DIV, sum, size32);
  }
}

/* The largest offset that walk_offset gives a lane, as far as sizes are known. */
static double walk_reach(const Walk *w, int64_t span) {
  double reach = 0, most = (double)span;
  for (int i = w->n - 1; i >= 0; i--) {
    double size = i ? (double)w->size[i].c : most;
    reach += (size < most && i == w->n - 1 ? most : size) * (dim_is_const(w->step[i]) ? (double)w->step[i].c : 0);
    most = most / (size < 1 ? 1 : size) + 1;
  }
  return reach;
}

static bool steps_are_multiples(const Walk *w, int from) {
  for (int i = from; i < w->n; i++)
    if (!is_multiple(w->step[i], QUAD)) return false;
  return true;
}

/* ---- the two sides ---- */

static void describe_sides(Emit *e) {
  const Product *p = e->p;
  Side *rows = e->rows, *cols = e->cols;
  Walk row_b = {0};
  int first = p->n_outer;
  rows->total = p->rows;
  while (first > 0 && dim_is_const(rows->total) && dim_is(p->outer[first - 1].step_b, 0))
    rows->total = dim_scale(p->outer[--first].size, rows->total.c);
  e->n_batch = first;
  for (int i = first; i < p->n_outer; i++) walk_push(&rows->x, p->outer[i].size, p->outer[i].step_a);
  walk_push(&rows->x, p->rows, p->row_step);
  row_b = rows->x;
  walks_merge(&rows->x, &row_b);
  walk_push(&cols->x, p->cols, p->col_step);
  cols->total = p->cols;
  for (int i = 0; i < p->n_k; i++) {
    walk_push(&rows->k, p->k[i].size, p->k[i].step_a);
    walk_push(&cols->k, p->k[i].size, p->k[i].step_b);
  }
  walks_merge(&rows->k, &cols->k);
  rows->buf = p->buf_a;
  cols->buf = p->buf_b;
}

static bool batches_are_multiples(const Emit *e, const Side *s) {
  for (int i = 0; i < e->n_batch; i++)
    if (!is_multiple(s == e->rows ? e->p->outer[i].step_a : e->p->outer[i].step_b, QUAD)) return false;
  return true;
}

/* Can all of a side be staged by fours? */
static bool side_has_quads(const Emit *e, const Side *s) {
  const Walk *along = s->k_major ? &s->k : &s->x, *across = s->k_major ? &s->x : &s->k;
  int last = along->n - 1;
  Walk outer = *along;
  outer.n = last;
  return dim_is(along->step[last], 1) && is_multiple(along->size[last], QUAD) && steps_are_multiples(&outer, 0) &&
         steps_are_multiples(across, 0) && batches_are_multiples(e, s) && (s->k_major || s->tile % QUAD == 0);
}

static int round_up(int n, int to) { return (n + to - 1) / to * to; }

/* Where and how a side is staged; returns the end of its place in shared memory. */
static int64_t place_side(Emit *e, Side *s, int64_t at) {
  int tile_k = e->params.tile_k;
  s->tile = s->regs * s->groups * (s->is_lanes ? LANES : 1);
  s->k_major = dim_is(s->k.step[s->k.n - 1], 1);
  s->count = side_has_quads(e, s) ? QUAD : 1;
  s->alloc = s->tile;
  if (s->k_major)
    while (s->alloc * (tile_k / s->count) % LANES) s->alloc++;
  s->ld = s->k_major ? tile_k + PAD : s->alloc;
  s->at = at;
  s->elems = round_up(s->k_major ? s->alloc * s->ld : tile_k * s->ld, QUAD);
  return at + s->elems;
}

/* Vectors of 16 chunks that a stage of the side has. */
static int side_vectors(const Emit *e, const Side *s) { return s->alloc * e->params.tile_k / s->count / LANES; }
static int side_chunks(const Emit *e, const Side *s) {
  return (side_vectors(e, s) + e->k->groups - 1) / e->k->groups;
}

/* Of a lane's chunk i: its first element along x and k, from the tile's corner. */
static void chunk_place(Emit *e, const Side *s, int i, KInst **out_x, KInst **out_k) {
  Kernel *k = e->k;
  KInst *vector = plus(e, kir_group(k), kir_i32(k, i * k->groups));
  KInst *chunk = plus(e, times(e, vector, LANES), kir_lane(k));
  int wide = (s->k_major ? e->params.tile_k : s->alloc) / s->count;
  KInst *row = kir_bin(k, KOP_DIV, chunk, kir_i32(k, wide));
  KInst *col = times(e, kir_bin(k, KOP_MOD, chunk, kir_i32(k, wide)), s->count);
  *out_x = s->k_major ? row : col;
  *out_k = s->k_major ? col : row;
}

/* Everything about a side that does not depend on k. */
static void locate_side(Emit *e, Side *s, KInst *tile_index, KInst *batch_base) {
  Kernel *k = e->k;
  s->first = ix_scale(e->l, ix_value(e->l, tile_index, s->total), s->tile);
  s->first_x = times(e, tile_index, s->tile);
  if (!dim_is_const(s->total) || s->total.c % s->tile) {
    KInst *left = kir_bin(k, KOP_SUB, kir_dim(k, s->total), s->first_x);
    s->left = to_i32(e, kir_bin(k, KOP_MIN, left, kir_i64(k, s->tile)));
  } else if (s->alloc > s->tile) {
    s->left = kir_i32(k, s->tile);
  }
  for (int i = 0; i < side_chunks(e, s); i++) {
    KInst *x, *at_k, *base;
    chunk_place(e, s, i, &x, &at_k);
    walk_offset(e, &s->x, s->first_x, x, s->tile, &base, &s->off[i]);
    s->base = plus(e, batch_base, base);
  }
}

/* ---- staging ---- */

/* Elements of k from k0 on that exist, i32, at most tile_k; NULL: a whole tile. */
static KInst *k_left(Emit *e, KInst *k0) {
  if (e->k_whole) return NULL;
  KInst *left = kir_bin(e->k, KOP_SUB, e->k_count, k0);
  return to_i32(e, kir_bin(e->k, KOP_MIN, left, kir_i64(e->k, e->params.tile_k)));
}

static void stage_chunk(Emit *e, Side *s, int i, KInst *k0, KInst *slot) {
  Kernel *k = e->k;
  KInst *x, *at_k, *base, *lane, *left = k_left(e, k0), *mask = NULL;
  chunk_place(e, s, i, &x, &at_k);
  walk_offset(e, &s->k, k0, at_k, e->params.tile_k, &base, &lane);
  if (s->left) mask = kir_bin(k, KOP_LT, x, s->left);
  if (left) mask = both(e, mask, kir_bin(k, KOP_LT, at_k, left));
  KInst *offset = s->k_major ? plus(e, times(e, x, s->ld), at_k) : plus(e, times(e, at_k, s->ld), x);
  KPlace to = {e->stage, plus(e, slot, kir_i64(k, s->at)), offset};
  KPlace from = {s->buf, plus(e, s->base, base), plus(e, s->off[i], lane)};
  if (e->params.stages > 1) {
    kir_copy(k, to, from, s->count, mask);
  } else if (s->count == 1) {
    kir_store(k, to.buf, to.base, to.lane_offset, kir_load(k, from.buf, from.base, from.lane_offset, mask), NULL);
  } else {
    KInst *part[QUAD], *quad = kir_load4(k, from.buf, from.base, from.lane_offset, mask);
    for (int j = 0; j < QUAD; j++) part[j] = kir_part(k, quad, j);
    kir_store4(k, to.buf, to.base, to.lane_offset, part, NULL);
  }
}

/* Both operands' tile number t into the stage that starts at slot. */
static void stage_tile(Emit *e, KInst *t, KInst *slot) {
  Kernel *k = e->k;
  KInst *k0 = times(e, t, e->params.tile_k);
  for (int n = 0; n < 2; n++) {
    Side *s = &e->side[n];
    for (int i = 0; i < side_chunks(e, s); i++) {
      int vectors = side_vectors(e, s) - i * k->groups;
      if (vectors < k->groups) kir_if(k, kir_bin(k, KOP_LT, kir_group(k), kir_i32(k, vectors)));
      stage_chunk(e, s, i, k0, slot);
      if (vectors < k->groups) kir_end(k);
    }
  }
}

/* ---- multiplying ---- */

static bool reads_quads(const Side *s) { return !s->k_major && s->regs % QUAD == 0 && s->ld % QUAD == 0; }

/* Where a thread's register r lies along x in the tile: uniform (i64) and lane part (i32 or NULL). */
static void reg_place(Emit *e, const Side *s, int r, KInst **out_x, KInst **out_lane) {
  Kernel *k = e->k;
  KInst *own = to_i64(e, times(e, s->group, s->regs * (s->is_lanes ? LANES : 1)));
  bool quads = reads_quads(s);
  int at = !s->is_lanes ? r : quads ? r / QUAD * QUAD * LANES + r % QUAD : r * LANES;
  *out_x = plus(e, own, kir_i64(k, at));
  *out_lane = !s->is_lanes ? NULL : quads ? times(e, kir_lane(k), QUAD) : kir_lane(k);
}

typedef KInst *Fragment[MAX_REGS][QUAD];   /* by register and k */

/* n elements of k (1 or 4) from kk on of a side's registers. */
static void load_fragment(Emit *e, const Side *s, KInst *slot, KInst *kk, int n, Fragment f) {
  Kernel *k = e->k;
  KInst *start = plus(e, slot, kir_i64(k, s->at));
  bool quads = reads_quads(s);
  for (int r = 0; r < s->regs; r += quads ? QUAD : 1) {
    KInst *x, *lane;
    reg_place(e, s, r, &x, &lane);
    if (s->k_major) {
      KInst *at = plus(e, start, plus(e, times(e, x, s->ld), kk));
      if (lane) lane = times(e, lane, s->ld);
      KInst *v = n == 1 ? kir_load(k, e->stage, at, lane, NULL) : kir_load4(k, e->stage, at, lane, NULL);
      for (int j = 0; j < n; j++) f[r][j] = n == 1 ? v : kir_part(k, v, j);
      continue;
    }
    for (int j = 0; j < n; j++) {
      KInst *at = plus(e, plus(e, start, x), times(e, plus(e, kk, kir_i64(k, j)), s->ld));
      KInst *v = quads ? kir_load4(k, e->stage, at, lane, NULL) : kir_load(k, e->stage, at, lane, NULL);
      for (int i = 0; i < (quads ? QUAD : 1); i++) f[r + i][j] = quads ? kir_part(k, v, i) : v;
    }
  }
}

static void multiply(Emit *e, KInst *slot, KInst *kk, int n) {
  Kernel *k = e->k;
  Fragment u, v;
  load_fragment(e, &e->side[0], slot, kk, n, u);
  load_fragment(e, &e->side[1], slot, kk, n, v);
  for (int j = 0; j < n; j++)
    for (int r = 0; r < e->side[0].regs; r++)
      for (int c = 0; c < e->side[1].regs; c++)
        kir_set(k, e->acc[r][c], kir_op(k, KOP_FMA, u[r][j], v[c][j], kir_get(k, e->acc[r][c])));
}

static void multiply_tile(Emit *e, KInst *t, KInst *slot) {
  Kernel *k = e->k;
  KInst *tile_k = kir_i64(k, e->params.tile_k), *zero = kir_i64(k, 0);
  KInst *left = kir_bin(k, KOP_SUB, e->k_count, times(e, t, e->params.tile_k));
  int unroll = e->side[0].regs * e->side[1].regs <= 32 ? 4 : 1;
  if (!e->k_whole) kir_if(k, kir_bin(k, KOP_LE, tile_k, left));
  multiply(e, slot, kir_for(k, zero, tile_k, QUAD, unroll), QUAD);
  kir_end(k);
  if (e->k_whole) return;
  kir_else(k);
  multiply(e, slot, kir_for(k, zero, left, 1, 0), 1);
  kir_end(k);
  kir_end(k);
}

static KInst *slot_of(Emit *e, KInst *t) {
  return times(e, kir_bin(e->k, KOP_MOD, t, kir_i64(e->k, e->params.stages)), e->stage_elems);
}

/* One barrier a tile: it says that tile t is there for all, and that all are done with tile t - 1, whose place the
 * copies issued next take. */
static void multiply_all(Emit *e) {
  Kernel *k = e->k;
  int ahead = e->params.stages - 1;
  KInst *size = kir_i64(k, e->params.tile_k), *zero = kir_i64(k, 0);
  KInst *tiles = kir_bin(k, KOP_DIV, plus(e, e->k_count, kir_i64(k, e->params.tile_k - 1)), size);
  for (int s = 0; s < ahead; s++) {
    KInst *t = kir_i64(k, s);
    kir_if(k, kir_bin(k, KOP_LT, t, tiles));
    stage_tile(e, t, slot_of(e, t));
    kir_end(k);
    kir_commit(k);
  }
  KInst *t = kir_for(k, zero, tiles, 1, 0);
  if (ahead) {
    KInst *next = plus(e, t, kir_i64(k, ahead));
    kir_wait(k, ahead - 1);
    kir_barrier(k);
    kir_if(k, kir_bin(k, KOP_LT, next, tiles));
    stage_tile(e, next, slot_of(e, next));
    kir_end(k);
    kir_commit(k);
  } else {
    kir_barrier(k);
    stage_tile(e, t, zero);
    kir_barrier(k);
  }
  multiply_tile(e, t, ahead ? slot_of(e, t) : zero);
  kir_end(k);
}

/* ---- results ---- */

static Ix *flat_index(Emit *e, Ix *row, Ix *col) {
  Lower *l = e->l;
  row = ix_add(l, ix_scale_dim(l, e->batch, e->rows->total), row);
  return ix_add(l, ix_scale_dim(l, row, e->p->cols), col);
}

/* Row `reg` of the group's (i32, below regs), as an index of the product. */
static Ix *row_of(Emit *e, KInst *reg) {
  Lower *l = e->l;
  Side *s = e->rows;
  Ix *own = ix_scale(l, ix_value(l, to_i64(e, s->group), dim_const(s->groups)), s->regs);
  Ix *at = ix_add(l, own, ix_value(l, to_i64(e, reg), dim_const(s->regs)));
  return ix_assume(l, ix_add(l, s->first, at), s->total);
}

/* Opens what is executed only where row `reg` of the group's exists. */
static bool open_row(Emit *e, KInst *reg) {
  const Side *s = e->rows;
  if (!s->left) return false;
  kir_if(e->k, kir_bin(e->k, KOP_LT, plus(e, times(e, s->group, s->regs), reg), s->left));
  return true;
}

/* Column 16 vector + lane of the group's (vector: i64, below regs), and whether it exists. */
static Ix *col_of(Emit *e, KInst *vector, KInst **out_mask) {
  Lower *l = e->l;
  Kernel *k = e->k;
  Side *s = e->cols;
  int wide = s->regs * LANES;
  KInst *lane = kir_lane(k), *own = times(e, s->group, wide);
  Ix *at = ix_add(l, ix_scale(l, ix_value(l, to_i64(e, s->group), dim_const(s->groups)), wide),
                  ix_scale(l, ix_value(l, vector, dim_const(s->regs)), LANES));
  *out_mask = NULL;
  if (s->left)
    *out_mask = kir_bin(k, KOP_LT, plus(e, plus(e, own, times(e, to_i32(e, vector), LANES)), lane), s->left);
  at = ix_add(l, at, ix_value(l, lane, dim_const(LANES)));
  return ix_assume(l, ix_add(l, s->first, at), s->total);
}

/* Four columns a lane at once, straight from the accumulators. */
static void store_row_quads(Emit *e, int r) {
  Lower *l = e->l;
  Kernel *k = e->k;
  Side *s = e->cols;
  for (int j = 0; j < s->regs; j += QUAD) {
    KInst *x, *lane, *base, *none, *value[QUAD], *mask = NULL;
    reg_place(e, s, j, &x, &lane);
    ix_emit(l, flat_index(e, row_of(e, kir_i32(k, r)), s->first), &base, &none);
    if (s->left) mask = kir_bin(k, KOP_LT, plus(e, to_i32(e, x), lane), s->left);
    for (int i = 0; i < QUAD; i++) value[i] = kir_get(k, e->acc[r][j + i]);
    kir_store4(k, l->out_buf[0], plus(e, base, x), lane, value, mask);
  }
}

static void store_registers(Emit *e) {
  Kernel *k = e->k;
  for (int r = 0; r < e->rows->regs; r++) {
    bool opened = open_row(e, kir_i32(k, r));
    if (reads_quads(e->cols)) store_row_quads(e, r);
    for (int j = 0; j < e->cols->regs && !reads_quads(e->cols); j++) {
      KInst *mask;
      Ix *col = col_of(e, kir_i64(k, j), &mask);
      contract_store(e->l, e->p, flat_index(e, row_of(e, kir_i32(k, r)), col), mask, kir_get(k, e->acc[r][j]));
    }
    if (opened) kir_end(k);
  }
}

/* The accumulators to shared memory; from there on lanes run along columns whatever the registers were, and the code of
 * an epilogue is there once.  step_u, step_l: distance of neighbours along U and L; n: neighbours along U. */
static void spread_registers(Emit *e, KInst *start, int n, int64_t step_u, int64_t step_l) {
  Kernel *k = e->k;
  Side *s = &e->side[1];
  for (int r = 0; r < n; r++)
    for (int j = 0; j < s->regs; j++) {
      KInst *x, *lane, *value[QUAD];
      bool quads = step_l == 1 && reads_quads(s);
      reg_place(e, s, j, &x, &lane);
      KInst *at = plus(e, plus(e, start, kir_i64(k, r * step_u)), times(e, x, step_l));
      if (quads) {
        for (int i = 0; i < QUAD; i++) value[i] = kir_get(k, e->acc[r][j + i]);
        kir_store4(k, e->stage, at, lane, value, NULL);
        j += QUAD - 1;
      } else {
        kir_store(k, e->stage, at, times(e, lane, step_l), kir_get(k, e->acc[r][j]), NULL);
      }
    }
}

/* Each group reads back what it wrote itself, row by row. */
static void store_through_shared(Emit *e) {
  Kernel *k = e->k;
  const Side *s = e->cols;
  int64_t wide = s->tile;
  kir_barrier(k);
  KInst *start = to_i64(e, times(e, times(e, e->rows->group, e->rows->regs), wide));
  spread_registers(e, start, e->rows->regs, wide, 1);
  kir_sync(k);
  KInst *own = plus(e, start, to_i64(e, times(e, s->group, s->regs * LANES)));
  KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, e->rows->regs), 1, 0), *reg = to_i32(e, i);
  bool opened = open_row(e, reg);
  KInst *v = kir_for(k, kir_i64(k, 0), kir_i64(k, s->regs), 1, 0), *mask;
  Ix *col = col_of(e, v, &mask);
  KInst *at = plus(e, own, plus(e, times(e, i, wide), times(e, v, LANES)));
  contract_store(e->l, e->p, flat_index(e, row_of(e, reg), col), mask, kir_load(k, e->stage, at, kir_lane(k), NULL));
  kir_end(k);
  if (opened) kir_end(k);
  kir_end(k);
}

/* Columns are few and all in the tile: elements follow each other in the result, and lanes run along them. */
static void store_swapped(Emit *e) {
  Lower *l = e->l;
  Kernel *k = e->k;
  Side *rows = e->rows;
  int64_t cols = e->p->cols.c, vectors = (rows->tile * cols + LANES - 1) / LANES;
  bool is_one = dim_is(e->rows->total, 1) && cols == 1;   /* no axis for the lanes to run along */
  if (is_one) vectors = 1;
  kir_barrier(k);
  spread_registers(e, kir_i64(k, 0), (int)cols, 1, cols);
  kir_barrier(k);
  KInst *v = kir_for(k, to_i64(e, kir_group(k)), kir_i64(k, vectors), k->groups, 0), *lane = kir_lane(k);
  KInst *at = times(e, v, LANES), *mask = NULL;
  if (rows->left) mask = kir_bin(k, KOP_LT, plus(e, to_i32(e, at), lane), times(e, rows->left, cols));
  Dim all = dim_scale(rows->total, cols);
  Ix *x = ix_add(l, ix_scale(l, ix_value(l, v, dim_const(vectors)), LANES), ix_value(l, lane, dim_const(LANES)));
  x = ix_assume(l, ix_add(l, ix_scale(l, rows->first, cols), x), all);
  x = ix_add(l, ix_scale_dim(l, e->batch, all), x);
  KInst *value = kir_load(k, e->stage, at, lane, NULL);
  if (is_one) value = kir_bin(k, KOP_LANE_GET, value, kir_i32(k, 0));
  contract_store(l, e->p, x, mask, value);
  kir_end(k);
}

/* Can the results be stored from where they are? */
static bool stores_registers(const Emit *e) {
  bool fits = !reads_quads(e->cols) || is_multiple(e->p->cols, QUAD);
  return fits && !e->params.swap && contract_is_bare(e->l, e->p);
}

static void store_results(Emit *e) {
  if (e->params.swap) store_swapped(e);
  else if (stores_registers(e)) store_registers(e);
  else store_through_shared(e);
}

/* ---- items ---- */

static KInst *peel(Emit *e, KInst **item, KInst *count) {
  KInst *rest = kir_bin(e->k, KOP_MOD, *item, count);
  *item = kir_bin(e->k, KOP_DIV, *item, count);
  return rest;
}

static KInst *tiles_of(Emit *e, const Side *s) {
  KInst *n = kir_dim(e->k, dim_add(s->total, dim_const(s->tile - 1)));
  return kir_bin(e->k, KOP_DIV, n, kir_i64(e->k, s->tile));
}

static void emit_item(Emit *e) {
  Kernel *k = e->k;
  Lower *l = e->l;
  KInst *item = kir_item(k), *base_a = kir_i64(k, 0), *base_b = base_a, *at[MAX_OUTER];
  KInst *col_tile = peel(e, &item, tiles_of(e, e->cols));
  KInst *row_tile = e->n_batch ? peel(e, &item, tiles_of(e, e->rows)) : item;
  e->batch = ix_const(l, 0);
  for (int i = e->n_batch - 1; i >= 0; i--) {
    const Axis *x = &e->p->outer[i];
    at[i] = i ? peel(e, &item, kir_dim(k, x->size)) : item;
    base_a = plus(e, base_a, kir_bin(k, KOP_MUL, at[i], kir_dim(k, x->step_a)));
    base_b = plus(e, base_b, kir_bin(k, KOP_MUL, at[i], kir_dim(k, x->step_b)));
  }
  for (int i = 0; i < e->n_batch; i++)
    e->batch = ix_add(l, ix_scale_dim(l, e->batch, e->p->outer[i].size), ix_value(l, at[i], e->p->outer[i].size));
  e->k_count = kir_i64(k, 1);
  for (int i = 0; i < e->p->n_k; i++) e->k_count = kir_bin(k, KOP_MUL, e->k_count, kir_dim(k, e->p->k[i].size));
  e->rows->group = kir_bin(k, KOP_MOD, kir_group(k), kir_i32(k, e->rows->groups));
  e->cols->group = kir_bin(k, KOP_DIV, kir_group(k), kir_i32(k, e->rows->groups));
  locate_side(e, e->rows, row_tile, base_a);
  locate_side(e, e->cols, col_tile, base_b);
  for (int r = 0; r < e->side[0].regs; r++)
    for (int c = 0; c < e->side[1].regs; c++) e->acc[r][c] = kir_var(k, kir_f32(k, 0.0f), true);
  multiply_all(e);
  store_results(e);
}

static bool params_fit(Emit *e) {
  const KernelParams *p = &e->params;
  const Node *n = e->p->node;
  int groups = p->block_m * p->block_n;
  if (p->tile_m > MAX_REGS || p->tile_n > MAX_REGS || groups < 2 || groups > KIR_MAX_GROUPS)
    return lower_fail(e->l, n, "no block of %d x %d groups with %d x %d registers", p->block_m, p->block_n, p->tile_m,
                      p->tile_n) != NULL;
  if (p->tile_k % LANES)
    return lower_fail(e->l, n, "tiles in shared memory are multiples of %d deep, not %d", LANES, p->tile_k) != NULL;
  bool few = dim_is_const(e->p->cols) && e->p->cols.c <= p->tile_m && p->block_m == 1;
  if (!p->swap && dim_is(e->p->cols, 1))
    return lower_fail(e->l, n, "of one column, rows must run along lanes") != NULL;
  if (p->swap && !few)
    return lower_fail(e->l, n, "rows run along lanes only where all columns are one register tile's") != NULL;
  return true;
}

/* What the tiles need of the machine. */
static bool tiles_fit(Emit *e) {
  double reach = 0;
  for (int i = 0; i < 2; i++) {
    const Side *s = &e->side[i];
    reach = walk_reach(&s->x, s->tile) + walk_reach(&s->k, e->params.tile_k);
    if (side_chunks(e, s) > MAX_CHUNKS)
      return lower_fail(e->l, e->p->node, "a tile of %d x %d is too much for %d groups", s->tile, e->params.tile_k,
                        e->k->groups) != NULL;
    if (reach >= 0x1p31)
      return lower_fail(e->l, e->p->node, "a block reads from %g elements; offsets in it have 31 bits", reach) != NULL;
  }
  if (e->stage_elems * e->params.stages * (int64_t)sizeof(float) > SHARED_BYTES)
    return lower_fail(e->l, e->p->node, "%d stages need %lld bytes of shared memory, there are %d", e->params.stages,
                      (long long)e->stage_elems * e->params.stages * (int64_t)sizeof(float), (int)SHARED_BYTES) != NULL;
  return true;
}

/* Blocks that a multiprocessor of 64 Ki registers and 160 KiB of shared memory may hold.  A thread's registers:
 * accumulators, fragments of four k, two for each chunk that it stages, and what addresses need. */
static int blocks_resident(const Emit *e, int64_t shared_bytes) {
  const KernelParams *p = &e->params;
  int threads = p->block_m * p->block_n * LANES, chunks = side_chunks(e, &e->side[0]) + side_chunks(e, &e->side[1]);
  int regs = round_up(p->tile_m * p->tile_n + QUAD * p->tile_m + 2 * p->tile_n + 2 * chunks + 24, 8);
  int blocks = 65536 / (threads * (regs < 64 ? 64 : regs > 128 && threads == 256 ? 128 : regs));
  int fit = (int)((160 << 10) / (shared_bytes + 1024)), most = 2048 / threads < 16 ? 2048 / threads : 16;
  if (blocks > fit) blocks = fit;
  return blocks < 1 ? 1 : blocks > most ? most : blocks;
}

bool contract_gpu(Lower *l, const Product *p, const KernelParams *params) {
  Emit e = {.l = l, .k = l->k, .p = p, .params = *params};
  if (l->failed || !params_fit(&e)) return false;
  e.side[1].is_lanes = true;
  e.rows = &e.side[params->swap];
  e.cols = &e.side[!params->swap];
  e.side[0].regs = params->tile_m;
  e.side[0].groups = params->block_m;
  e.side[1].regs = params->tile_n;
  e.side[1].groups = params->block_n;
  kir_block(l->k, params->block_m * params->block_n, 0);
  describe_sides(&e);
  e.stage_elems = place_side(&e, &e.side[1], place_side(&e, &e.side[0], 0));
  int64_t k = contract_k_elems(p), result = (int64_t)e.side[0].tile * e.side[1].tile;
  e.k_whole = k >= 0 && k % params->tile_k == 0;
  if (!tiles_fit(&e)) return false;
  int64_t elems = e.stage_elems * params->stages;
  if (elems < result && !stores_registers(&e)) elems = result;
  e.stage = kir_scratch(l->k, "stage", DTYPE_F32, elems);
  l->k->resident = blocks_resident(&e, elems * (int64_t)sizeof(float));
  for (int i = 0; i < e.n_batch; i++) kir_factor(l->k, p->outer[i].size, 1);
  kir_factor(l->k, e.rows->total, e.rows->tile);
  kir_factor(l->k, e.cols->total, e.cols->tile);
  emit_item(&e);
  return !l->failed;
}

/* ---- parameters ---- */

enum { FEW_COLS = 8, FEW_ROWS = 32 };

static Dim rows_of(const Product *p) {
  Emit e = {.p = p};
  e.rows = &e.side[0];
  e.cols = &e.side[1];
  describe_sides(&e);
  return e.rows->total;
}

/* Rows that grow with B are many, rows that grow with R alone are a wave of a decode step: few. */
void contract_gpu_params(const Product *p, const Target *t, KernelParams *out) {
  Dim rows = rows_of(p);
  int64_t cols = dim_is_const(p->cols) ? p->cols.c : 1 << 20;
  bool few_rows = rows.b == 0 && (rows.r > 0 ? rows.r <= FEW_ROWS : rows.c <= FEW_ROWS);
  out->stages = t->capability >= 80 ? 3 : 1;
  out->tile_k = 16;
  out->swap = cols <= FEW_COLS;
  out->pack_b = false;
  out->block_n = 1;
  bool k_major = dim_is(p->k[p->n_k - 1].step_a, 1);   /* else a thread reads neighbouring rows by fours */
  if (out->swap) {                 /* 128 rows, all columns */
    out->tile_m = cols < 1 ? 1 : (int)cols;
    out->tile_n = k_major ? 1 : QUAD;
    out->block_m = 1;
    out->block_n = k_major ? 8 : 2;
    out->stages = t->capability >= 80 ? 2 : 1;
  } else if (few_rows) {           /* 16 x 32: more blocks of columns */
    out->tile_m = k_major ? 2 : QUAD;
    out->tile_n = cols <= LANES ? 1 : 2;
    out->block_m = 16 / out->tile_m;
    out->tile_k = 32;
  } else if (cols <= 2 * LANES) {  /* 128 x 16 or 32 */
    out->tile_m = 8;
    out->tile_n = cols <= LANES ? 1 : 2;
    out->block_m = 16;
  } else if (cols % 128 == 0 && (rows.b >= 256 || rows.c >= 2048)) {   /* 128 x 128 */
    out->tile_m = out->tile_n = 8;
    out->block_m = 16;
    out->stages = t->capability >= 80 ? 2 : 1;
  } else {                         /* 64 x 64: half the width of the largest, for more blocks */
    out->tile_m = 8;
    out->tile_n = 4;
    out->block_m = 8;
  }
}
