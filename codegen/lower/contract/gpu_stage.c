/* Staging: tiles of both operands to shared memory, with stages > 1 by asynchronous copies.
 *
 * A side's coordinates are flattened into one index x, so that a tile runs over the ends of lines and pictures.  It is
 * staged as [x][k] where k is contiguous in memory, else as [k][x], 16 bytes at a time where all steps are multiples of
 * that, less where they are not; single elements of bf16, for which there is no copy, by loads.  Beyond the border zeros
 * are staged. */
#include "codegen/lower/contract/gpu.h"

/* A lane's largest copy, and what rows of a stage are longer by, so that lanes read from different banks: rows of [x][k]
 * where FMAs read them, all rows of matrix tiles, of which eight times 16 bytes are read at once. */
enum { COPY_BYTES = 16 };

/* ---- linear maps ---- */

static void walk_push(LinearMap *w, Dim size, Dim step) {
  w->size[w->n] = size;
  w->step[w->n++] = step;
}

/* Axes that follow each other without a gap become one, where both operands agree. */
static void walks_merge(LinearMap *a, LinearMap *b) {
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
static void walk_offset(GpuNest *e, const LinearMap *w, KInst *start, KInst *rel, int64_t span, KInst **base, KInst **lane) {
  Kernel *k = e->k;
  KInst *rest = start, *carry = rel;
  *base = kir_i64(k, 0);
  *lane = kir_i32(k, 0);
  for (int i = w->n - 1; i >= 0; i--) {
    int64_t size = i == 0 || w->size[i].c < 1 ? 1 : w->size[i].c;
    KInst *at = i ? kir_bin(k, KOP_MOD, rest, kir_i64(k, size)) : rest, *step = kir_dim(k, w->step[i]);
    if (i) rest = kir_bin(k, KOP_DIV, rest, kir_i64(k, size));
    bool inside = i == 0 || (i == w->n - 1 && size % span == 0);
    if (inside || !carry) *base = add(k, *base, kir_bin(k, KOP_MUL, at, step));
    if (!carry) continue;
    KInst *sum = inside ? carry : add(k, to_i32(k, at), carry), *size32 = kir_i32(k, (int32_t)size);
    KInst *here = inside ? sum : kir_bin(k, KOP_MOD, sum, size32);
    *lane = add(k, *lane, kir_bin(k, KOP_MUL, here, to_i32(k, step)));
    carry = inside ? NULL : kir_bin(k, KOP_DIV, sum, size32);
  }
}

/* The largest offset that walk_offset gives a lane, as far as sizes are known. */
static double walk_reach(const LinearMap *w, int64_t span) {
  double reach = 0, most = (double)span;
  for (int i = w->n - 1; i >= 0; i--) {
    double size = i ? (double)w->size[i].c : most;
    reach += (size < most && i == w->n - 1 ? most : size) * (dim_is_const(w->step[i]) ? (double)w->step[i].c : 0);
    most = most / (size < 1 ? 1 : size) + 1;
  }
  return reach;
}

double contract_side_reach(const GpuNest *e, const Side *s) {
  return walk_reach(&s->x, s->tile) + walk_reach(&s->k, e->params.tile_k);
}

static bool steps_are_multiples(const LinearMap *w, int of) {
  for (int i = 0; i < w->n; i++)
    if (!is_multiple(w->step[i], of)) return false;
  return true;
}

/* ---- the two sides ---- */

void contract_describe_sides(GpuNest *e) {
  const Product *p = e->p;
  Side *rows = e->rows, *cols = e->cols;
  LinearMap row_b = {0};
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

static bool batches_are_multiples(const GpuNest *e, const Side *s, int of) {
  for (int i = 0; i < e->n_batch; i++)
    if (!is_multiple(s == e->rows ? e->p->outer[i].step_a : e->p->outer[i].step_b, of)) return false;
  return true;
}

/* Can all of a side be staged by n elements at once? */
static bool side_has(const GpuNest *e, const Side *s, int n) {
  const LinearMap *along = s->k_major ? &s->k : &s->x, *across = s->k_major ? &s->x : &s->k;
  int last = along->n - 1;
  LinearMap outer = *along;
  outer.n = last;
  return dim_is(along->step[last], 1) && is_multiple(along->size[last], n) && steps_are_multiples(&outer, n) &&
         steps_are_multiples(across, n) && batches_are_multiples(e, s, n) && (s->k_major || s->tile % n == 0);
}

/* Elements a lane stages at once: 16 bytes or, of bf16, 8 or 4, else one. */
static int side_count(const GpuNest *e, const Side *s) {
  bool copies = e->params.stages > 1;   /* loads are of four or one */
  int n = copies ? COPY_BYTES / (int)dtype_bytes(e->dtype) : QUAD, least = copies && e->dtype == DTYPE_BF16 ? 2 : QUAD;
  while (n >= least && !side_has(e, s, n)) n /= 2;
  return n < least ? 1 : n;
}

int64_t contract_place_side(GpuNest *e, Side *s, int64_t at) {
  int tile_k = e->params.tile_k, line = COPY_BYTES / (int)dtype_bytes(e->dtype);
  s->tile = s->regs * s->groups * s->unit;
  s->k_major = dim_is(s->k.step[s->k.n - 1], 1);
  s->count = side_count(e, s);
  s->alloc = s->tile;
  if (s->k_major)
    while (s->alloc * (tile_k / s->count) % LANES) s->alloc++;
  s->ld = s->k_major ? tile_k + line : e->is_mma ? s->alloc + line : s->alloc;
  s->at = at;
  s->elems = round_up(s->k_major ? s->alloc * s->ld : tile_k * s->ld, line);
  return at + s->elems;
}

/* Vectors of 16 chunks that a stage of the side has. */
static int side_vectors(const GpuNest *e, const Side *s) { return s->alloc * e->params.tile_k / s->count / LANES; }
int contract_side_chunks(const GpuNest *e, const Side *s) {
  return (side_vectors(e, s) + e->groups - 1) / e->groups;
}

/* Of a lane's chunk i: its first element along x and k, from the tile's corner. */
static void chunk_place(GpuNest *e, const Side *s, int i, KInst **out_x, KInst **out_k) {
  Kernel *k = e->k;
  KInst *vector = add(k, kir_group(k), kir_i32(k, i * k->groups));
  KInst *chunk = add(k, times(k, vector, LANES), kir_lane(k));
  int wide = (s->k_major ? e->params.tile_k : s->alloc) / s->count;
  KInst *row = kir_bin(k, KOP_DIV, chunk, kir_i32(k, wide));
  KInst *col = times(k, kir_bin(k, KOP_MOD, chunk, kir_i32(k, wide)), s->count);
  *out_x = s->k_major ? row : col;
  *out_k = s->k_major ? col : row;
}

void contract_locate_side(GpuNest *e, Side *s, KInst *tile_index, KInst *batch_base) {
  Kernel *k = e->k;
  s->first = ix_scale(e->l, ix_value(e->l, tile_index, s->total), s->tile);
  s->first_x = times(k, tile_index, s->tile);
  if (!dim_is_const(s->total) || s->total.c % s->tile) {
    KInst *left = kir_bin(k, KOP_SUB, kir_dim(k, s->total), s->first_x);
    s->left = to_i32(k, kir_bin(k, KOP_MIN, left, kir_i64(k, s->tile)));
  } else if (s->alloc > s->tile) {
    s->left = kir_i32(k, s->tile);
  }
  for (int i = 0; i < contract_side_chunks(e, s); i++) {
    KInst *x, *at_k, *base;
    chunk_place(e, s, i, &x, &at_k);
    walk_offset(e, &s->x, s->first_x, x, s->tile, &base, &s->off[i]);
    s->base = add(k, batch_base, base);
  }
}

/* ---- staging ---- */

/* Elements of k from k0 on that exist, i32, at most tile_k; NULL: a whole tile. */
static KInst *k_left(GpuNest *e, KInst *k0) {
  if (e->k_whole) return NULL;
  KInst *left = kir_bin(e->k, KOP_SUB, e->k_count, k0);
  return to_i32(e->k, kir_bin(e->k, KOP_MIN, left, kir_i64(e->k, e->params.tile_k)));
}

static void stage_chunk(GpuNest *e, Side *s, int i, KInst *k0, KInst *slot) {
  Kernel *k = e->k;
  KInst *x, *at_k, *base, *lane, *left = k_left(e, k0), *mask = NULL;
  chunk_place(e, s, i, &x, &at_k);
  walk_offset(e, &s->k, k0, at_k, e->params.tile_k, &base, &lane);
  if (s->left) mask = kir_bin(k, KOP_LT, x, s->left);
  if (left) mask = both(k, mask, kir_bin(k, KOP_LT, at_k, left));
  KInst *offset = s->k_major ? add(k, times(k, x, s->ld), at_k) : add(k, times(k, at_k, s->ld), x);
  KPlace to = {e->stage, add(k, slot, kir_i64(k, s->at)), offset};
  KPlace from = {s->buf, add(k, s->base, base), add(k, s->off[i], lane)};
  lower_move(k, e->params.stages > 1, to, from, s->count, mask);
}

void contract_stage_tile(GpuNest *e, KInst *t, KInst *slot) {
  Kernel *k = e->k;
  KInst *k0 = times(k, t, e->params.tile_k);
  for (int n = 0; n < 2; n++) {
    Side *s = &e->side[n];
    for (int i = 0; i < contract_side_chunks(e, s); i++) {
      int vectors = side_vectors(e, s) - i * k->groups;
      if (vectors < k->groups) kir_if(k, kir_bin(k, KOP_LT, kir_group(k), kir_i32(k, vectors)));
      stage_chunk(e, s, i, k0, slot);
      if (vectors < k->groups) kir_end(k);
    }
  }
}
