/* Attention: forward, backward and cached decoding, from one description of what is seen.
 *
 * This file binds operands and has the common nest; lower_attend_tile.c and lower_attend_list.c compute the same faster
 * on a CPU, lower_attend_gpu.c on a GPU.
 *
 * An item is one sample, one head and a few queries (keys, for the gradients of keys and values).  Keys are visited in
 * raster order by three nested loops whose bounds come from the interval tables of runtime/base/extent.h, so no masked key costs
 * anything; the union of lines (kind axis) and the raster cut only change the bounds.  Elements of a head run along
 * lanes.
 *
 * Order of summation (ir/ops.def): a score is a 16-lane product sum and the fixed tree; p, l and the result are chains
 * over the visible keys in raster order.  It depends on what is visible only, so a cached step and the teacher-forced
 * function compute the same bits. */
#include <math.h>

#include "codegen/lower/attend/attend.h"

enum {
  QUERIES_PER_ITEM = 8,
  CUDA_BLOCKS = 8   /* resident, of CUDA_THREADS: leaves 64 registers a thread; without a number the compiler spills to
                       use fewer */
};


static void coords_of(Attend *a, const int64_t grid[3], KInst *p, KInst *at[3]) {
  at[2] = bin(a, KOP_MOD, p, num(a, grid[2]));
  KInst *rest = bin(a, KOP_DIV, p, num(a, grid[2]));
  at[1] = bin(a, KOP_MOD, rest, num(a, grid[1]));
  at[0] = bin(a, KOP_DIV, rest, num(a, grid[1]));
}

KInst *attend_raster(Attend *a, const int64_t grid[3], KInst *const at[3]) {
  return add(a, mul(a, add(a, mul(a, at[0], grid[1]), at[1]), grid[2]), at[2]);
}

/* ---- tables ---- */

static void make_tables(Attend *a, bool needs_reverse) {
  static const char *const name[2][3] = {{"window_s", "window_h", "window_w"}, {"queries_s", "queries_h", "queries_w"}};
  for (int x = 0; x < 3; x++) {
    const AxisExtent *e = &a->extent->axis[x];
    int32_t *window = ARENA_ARRAY(a->l->arena, int32_t, 3 * e->queries);
    for (int32_t q = 0; q < e->queries; q++) {
      window[3 * q] = e->centre[q];
      window[3 * q + 1] = e->lo[q];
      window[3 * q + 2] = e->hi[q];
    }
    a->table[x] = kir_table(a->k, name[0][x], DTYPE_I32, window, 3 * (int64_t)e->queries);
    if (!needs_reverse) continue;
    int32_t *reverse = ARENA_ARRAY(a->l->arena, int32_t, 4 * e->keys);
    for (int32_t key = 0; key < e->keys; key++) {
      reverse[4 * key] = e->query_lo[key];
      reverse[4 * key + 1] = e->query_hi[key];
      reverse[4 * key + 2] = e->at_lo[key];
      reverse[4 * key + 3] = e->at_hi[key];
    }
    a->reverse[x] = kir_table(a->k, name[1][x], DTYPE_I32, reverse, 4 * (int64_t)e->keys);
  }
}

/* The same entry for all queries of an axis (full attention: the whole axis) needs no table. */
static KInst *window_entry(Attend *a, int x, int entry, KInst *q) {
  const AxisExtent *e = &a->extent->axis[x];
  const int32_t *list = entry == 0 ? e->centre : entry == 1 ? e->lo : e->hi;
  bool is_same = true;
  for (int32_t i = 1; i < e->queries; i++) is_same &= list[i] == list[0];
  return is_same ? num(a, list[0]) : load_int(a, a->table[x], add(a, mul(a, q, 3), num(a, entry)));
}

Window attend_window(Attend *a, KInst *const q[3]) {
  Window w;
  for (int x = 0; x < 3; x++) {
    w.centre[x] = window_entry(a, x, 0, q[x]);
    w.lo[x] = window_entry(a, x, 1, q[x]);
    w.hi[x] = window_entry(a, x, 2, q[x]);
  }
  return w;
}

/* Whether the windows of all queries hold their centre, so that a line needs no test. */
bool attend_windows_hold_centre(const Extent *e) {
  for (int x = 0; x < 3; x++)
    for (int32_t q = 0; q < e->axis[x].queries; q++)
      if (e->axis[x].lo[q] > e->axis[x].centre[q] || e->axis[x].hi[q] < e->axis[x].centre[q]) return false;
  return true;
}

/* ---- visiting ---- */

/* body(ctx, a, key): emits what is done with one key (or query); key is a raster index in its grid. */
typedef void (*VisitFn)(void *ctx, Attend *a, KInst *const at[3], KInst *index);

/* One of the three lines through the centre holds the key. */
static KInst *on_line(Attend *a, const Window *w, KInst *const key[3]) {
  KInst *at[3], *in[3], *sees = NULL;
  for (int x = 0; x < 3; x++) {
    at[x] = equal(a, w->centre[x], key[x]);
    in[x] = within(a, w->lo[x], key[x], w->hi[x]);
  }
  for (int x = 0; x < 3; x++) {
    KInst *line = both(a, in[x], both(a, at[(x + 1) % 3], at[(x + 2) % 3]));
    sees = sees ? either(a, sees, line) : line;
  }
  return sees;
}

/* Keys that query q sees, in raster order. */
static void visit_keys(Attend *a, KInst *const q[3], VisitFn body, void *ctx) {
  Window w = attend_window(a, q);
  Kernel *k = a->k;
  bool is_axis = a->extent->is_axis, is_raster = a->extent->is_raster;
  bool tests = is_axis && !attend_windows_hold_centre(a->extent);
  KInst *at[3], *same = kir_bool(k, true);   /* same: the coordinates so far are those of the centre */
  for (int x = 0; x < 3; x++) {
    KInst *lo = w.lo[x], *hi = w.hi[x];
    if (tests) lo = bin(a, KOP_MIN, lo, w.centre[x]), hi = bin(a, KOP_MAX, hi, w.centre[x]);
    if (is_raster) hi = pick(a, same, bin(a, KOP_MIN, hi, q[x]), hi);
    if (is_axis) lo = pick(a, same, lo, w.centre[x]), hi = pick(a, same, hi, w.centre[x]);
    at[x] = kir_for(k, lo, add(a, hi, num(a, 1)), 1, 0);
    if (is_axis || is_raster) same = both(a, same, equal(a, at[x], is_axis ? w.centre[x] : q[x]));
  }
  if (tests) kir_if(k, on_line(a, &w, at));
  body(ctx, a, at, attend_raster(a, a->attrs->key_grid, at));
  if (tests) kir_end(k);
  for (int x = 0; x < 3; x++) kir_end(k);
}

/* Queries that see a key, in raster order. */
static void visit_queries(Attend *a, KInst *const key[3], VisitFn body, void *ctx) {
  Kernel *k = a->k;
  bool is_axis = a->extent->is_axis, is_raster = a->extent->is_raster;
  KInst *at[3], *same = kir_bool(k, true), *centred = kir_bool(k, true);
  for (int x = 0; x < 3; x++) {
    KInst *entry[4];
    for (int i = 0; i < 4; i++) entry[i] = load_int(a, a->reverse[x], add(a, mul(a, key[x], 4), num(a, i)));
    KInst *lo = entry[0], *hi = entry[1];
    if (is_axis) {
      lo = pick(a, centred, bin(a, KOP_MIN, lo, entry[2]), entry[2]);
      hi = pick(a, centred, bin(a, KOP_MAX, hi, entry[3]), entry[3]);
      lo = bin(a, KOP_MAX, lo, num(a, 0));
      hi = bin(a, KOP_MIN, hi, num(a, a->attrs->query_grid[x] - 1));
    }
    if (is_raster) lo = pick(a, same, bin(a, KOP_MAX, lo, key[x]), lo);
    at[x] = kir_for(k, lo, add(a, hi, num(a, 1)), 1, 0);
    if (is_raster) same = both(a, same, equal(a, at[x], key[x]));
    if (is_axis) centred = both(a, centred, within(a, entry[2], at[x], entry[3]));
  }
  if (is_axis) {
    Window w = attend_window(a, at);
    kir_if(k, on_line(a, &w, key));
  }
  body(ctx, a, at, attend_raster(a, a->attrs->query_grid, at));
  if (is_axis) kir_end(k);
  for (int x = 0; x < 3; x++) kir_end(k);
}

/* ---- head vectors ---- */

KInst *attend_lanes(Attend *a, const Heads *h, int j) {
  int64_t left = h->width - (int64_t)j * LANES;
  return left >= LANES ? NULL : bin(a, KOP_LT, kir_lane(a->k), kir_i32(a->k, (int32_t)left));
}

/* Offset of the item's head at a position (position counts rows of the tensor, samples included). */
KInst *attend_base(Attend *a, const Heads *h, KInst *position) {
  return add(a, mul(a, position, h->row), mul(a, a->head, h->width));
}

static KInst *load_head(Attend *a, const Heads *h, KInst *base, int j) {
  return kir_load(a->k, h->buf, add(a, base, num(a, j * LANES)), kir_lane(a->k), attend_lanes(a, h, j));
}

void attend_load(Attend *a, const Heads *h, KInst *position, KInst **out) {
  KInst *base = attend_base(a, h, position);
  for (int j = 0; j < vectors_of(h); j++) out[j] = load_head(a, h, base, j);
}

/* sum x y: a chain per lane from 0, then the tree. */
static KInst *dot(Attend *a, KInst *const *x, const Heads *h, KInst *base) {
  KInst *sum = kir_f32(a->k, 0.0f);
  for (int j = 0; j < vectors_of(h); j++) sum = kir_op(a->k, KOP_FMA, x[j], load_head(a, h, base, j), sum);
  return kir_un(a->k, KOP_TREE_ADD, sum);
}

/* The same sum with each product rounded, as delta = sum(y dy) is made: so that p (dp - delta) is exactly 0 where one key
 * takes all the weight. */
static KInst *rounded_dot(Attend *a, KInst *const *x, const Heads *h, KInst *base) {
  KInst *sum = kir_f32(a->k, 0.0f);
  for (int j = 0; j < vectors_of(h); j++) {
    KInst *product = kir_bin(a->k, KOP_MUL, x[j], load_head(a, h, base, j));
    sum = kir_bin(a->k, KOP_ADD, sum, product);
  }
  return kir_un(a->k, KOP_TREE_ADD, sum);
}

static float scale_of(const Heads *h) { return (float)(1.0 / sqrt((double)h->width)); }

KInst *attend_scaled(Attend *a, KInst *x) { return kir_bin(a->k, KOP_MUL, x, kir_f32(a->k, scale_of(&a->q))); }

void attend_start_sums(Attend *a, const Heads *h, KInst **sum) {
  for (int j = 0; j < vectors_of(h); j++) sum[j] = kir_var(a->k, kir_f32(a->k, 0.0f), true);
}

/* sum[j] = fma(p, vector j at base, sum[j]) */
static void add_scaled(Attend *a, const Heads *h, KInst *base, KInst *p, KInst *const *sum) {
  for (int j = 0; j < vectors_of(h); j++)
    kir_set(a->k, sum[j], kir_op(a->k, KOP_FMA, p, load_head(a, h, base, j), kir_get(a->k, sum[j])));
}

void attend_store(Attend *a, const Heads *h, KInst *position, int j, KInst *value) {
  kir_store(a->k, h->buf, add(a, attend_base(a, h, position), num(a, j * LANES)), kir_lane(a->k), value, attend_lanes(a, h, j));
}

/* Row of k or v (samples included, in units of Heads.row) that holds a key of the item's sample. */
KInst *attend_key_position(Attend *a, KInst *index) {
  if (!a->has_slots) return add(a, mul(a, a->sample, positions_of(a->attrs->key_grid)), index);
  KInst *slot = load_int(a, a->buf_slots, index);
  return add(a, bin(a, KOP_MUL, slot, kir_dim(a->k, (Dim){0, 1, 0})), a->sample);
}

KInst *attend_query_position(Attend *a, KInst *index) {
  return add(a, mul(a, a->sample, positions_of(a->attrs->query_grid)), index);
}

KInst *attend_per_head(Attend *a, KInst *position) { return add(a, mul(a, position, a->attrs->heads), a->head); }

/* ---- weights of one position's list, in scratch: scalars first, then exp over 16 lanes, then scalars again ---- */

static void list_begin(Attend *a) { kir_set(a->k, a->n, num(a, 0)); }

static void list_next(Attend *a) { kir_set(a->k, a->n, add(a, kir_get(a->k, a->n), num(a, 1))); }

static void list_push(Attend *a, KInst *x) {
  kir_store(a->k, a->scores, kir_get(a->k, a->n), NULL, x, NULL);
  list_next(a);
}

static KInst *list_pull(Attend *a) {
  KInst *x = kir_load(a->k, a->scores, kir_get(a->k, a->n), NULL, NULL);
  list_next(a);
  return x;
}

void attend_exponentiate(Attend *a, KInst *start, KInst *n, KInst *m) {
  Kernel *k = a->k;
  kir_sync(k);
  KInst *i = kir_for(k, num(a, 0), n, LANES, 0), *at = add(a, start, i);
  KInst *mask = bin(a, KOP_LT, kir_lane(k), kir_un(k, KOP_TO_I32, bin(a, KOP_SUB, n, i)));
  KInst *x = kir_load(k, a->scores, at, kir_lane(k), mask);
  if (m) x = kir_bin(k, KOP_SUB, x, m);
  kir_store(k, a->scores, at, kir_lane(k), kir_exp(k, x), mask);
  kir_end(k);
  kir_sync(k);
}

static void list_exponentiate(Attend *a, KInst *m) { attend_exponentiate(a, num(a, 0), kir_get(a->k, a->n), m); }

/* ---- forward ---- */

static void visit_score(void *ctx, Attend *a, KInst *const at[3], KInst *index) {
  Forward *f = ctx;
  KInst *score = attend_scaled(a, dot(a, f->q, &a->key, attend_base(a, &a->key, attend_key_position(a, index))));
  list_push(a, score);
  kir_set(a->k, f->m, kir_bin(a->k, KOP_MAX, kir_get(a->k, f->m), score));
}

static void visit_weight(void *ctx, Attend *a, KInst *const at[3], KInst *index) {
  Forward *f = ctx;
  KInst *p = list_pull(a);
  kir_set(a->k, f->l, kir_bin(a->k, KOP_ADD, kir_get(a->k, f->l), p));
  if (a->out_q.buf >= 0) add_scaled(a, &a->v, attend_base(a, &a->v, attend_key_position(a, index)), p, f->y);
}

void attend_finish(Attend *a, const Forward *f, KInst *position, KInst *has_keys) {
  Kernel *k = a->k;
  KInst *l = kir_get(k, f->l), *zero = kir_f32(k, 0.0f);
  for (int j = 0; a->out_q.buf >= 0 && j < vectors_of(&a->v); j++) {
    KInst *y = kir_bin(k, KOP_DIV, kir_get(k, f->y[j]), l);
    attend_store(a, &a->out_q, position, j, pick(a, has_keys, y, zero));
  }
  if (a->out_lse >= 0) {
    KInst *lse = kir_bin(k, KOP_ADD, kir_get(k, f->m), kir_log(k, l));
    kir_store(k, a->out_lse, attend_per_head(a, position), NULL, pick(a, has_keys, lse, kir_f32(k, -INFINITY)), NULL);
  }
}

/* position: row of q; q_at: coordinates of the query. */
static void forward_query(Attend *a, KInst *position, KInst *const q_at[3]) {
  Kernel *k = a->k;
  Forward f;
  attend_load(a, &a->q, position, f.q);
  f.m = kir_var(k, kir_f32(k, -INFINITY), false);
  f.l = kir_var(k, kir_f32(k, 0.0f), false);
  list_begin(a);
  visit_keys(a, q_at, visit_score, &f);
  KInst *has_keys = bin(a, KOP_LT, num(a, 0), kir_get(k, a->n));
  list_exponentiate(a, kir_get(k, f.m));
  list_begin(a);
  if (a->out_q.buf >= 0) attend_start_sums(a, &a->v, f.y);
  visit_keys(a, q_at, visit_weight, &f);
  kir_sync(k);
  attend_finish(a, &f, position, has_keys);
}

/* ---- backward ---- */

typedef struct Backward {
  KInst *x[MAX_HEAD_VECTORS], *y[MAX_HEAD_VECTORS];       /* of the item's own position: q and dy, or k and v */
  KInst *lse, *delta;                                     /* of the query, when the item is one */
  KInst *sum[MAX_HEAD_VECTORS], *sum_v[MAX_HEAD_VECTORS];
} Backward;

static void visit_key_score(void *ctx, Attend *a, KInst *const at[3], KInst *index) {
  Backward *b = ctx;
  KInst *score = attend_scaled(a, dot(a, b->x, &a->key, attend_base(a, &a->key, attend_key_position(a, index))));
  list_push(a, kir_bin(a->k, KOP_SUB, score, b->lse));
}

static void visit_grad_q(void *ctx, Attend *a, KInst *const at[3], KInst *index) {
  Backward *b = ctx;
  KInst *position = attend_key_position(a, index), *p = list_pull(a);
  KInst *dp = rounded_dot(a, b->y, &a->v, attend_base(a, &a->v, position));
  KInst *ds = kir_bin(a->k, KOP_MUL, p, kir_bin(a->k, KOP_SUB, dp, b->delta));
  add_scaled(a, &a->key, attend_base(a, &a->key, position), ds, b->sum);
}

static void backward_query(Attend *a, KInst *position, KInst *const q_at[3]) {
  Backward b;
  attend_load(a, &a->q, position, b.x);
  attend_load(a, &a->dy, position, b.y);
  b.lse = kir_load(a->k, a->buf_lse, attend_per_head(a, position), NULL, NULL);
  b.delta = kir_load(a->k, a->buf_delta, attend_per_head(a, position), NULL, NULL);
  list_begin(a);
  visit_keys(a, q_at, visit_key_score, &b);
  list_exponentiate(a, NULL);
  list_begin(a);
  attend_start_sums(a, &a->q, b.sum);
  visit_keys(a, q_at, visit_grad_q, &b);
  kir_sync(a->k);
  for (int j = 0; j < vectors_of(&a->q); j++) attend_store(a, &a->out_q, position, j, attend_scaled(a, kir_get(a->k, b.sum[j])));
}

static void visit_query_score(void *ctx, Attend *a, KInst *const at[3], KInst *index) {
  Backward *b = ctx;
  KInst *position = attend_query_position(a, index);
  KInst *lse = kir_load(a->k, a->buf_lse, attend_per_head(a, position), NULL, NULL);
  list_push(a, kir_bin(a->k, KOP_SUB, attend_scaled(a, dot(a, b->x, &a->q, attend_base(a, &a->q, position))), lse));
}

static void visit_grad_key(void *ctx, Attend *a, KInst *const at[3], KInst *index) {
  Backward *b = ctx;
  KInst *position = attend_query_position(a, index), *dy = attend_base(a, &a->dy, position), *p = list_pull(a);
  if (a->out_v.buf >= 0) add_scaled(a, &a->dy, dy, p, b->sum_v);
  if (a->out_key.buf < 0) return;
  KInst *delta = kir_load(a->k, a->buf_delta, attend_per_head(a, position), NULL, NULL);
  KInst *dp = rounded_dot(a, b->y, &a->dy, dy);
  add_scaled(a, &a->q, attend_base(a, &a->q, position), kir_bin(a->k, KOP_MUL, p, kir_bin(a->k, KOP_SUB, dp, delta)), b->sum);
}

static void backward_key(Attend *a, KInst *index) {
  Backward b;
  KInst *at[3], *position = attend_key_position(a, index);
  coords_of(a, a->attrs->key_grid, index, at);
  attend_load(a, &a->key, position, b.x);
  list_begin(a);
  visit_queries(a, at, visit_query_score, &b);
  list_exponentiate(a, NULL);
  list_begin(a);
  if (a->out_key.buf >= 0) attend_load(a, &a->v, position, b.y), attend_start_sums(a, &a->key, b.sum);
  if (a->out_v.buf >= 0) attend_start_sums(a, &a->out_v, b.sum_v);
  visit_queries(a, at, visit_grad_key, &b);
  kir_sync(a->k);
  for (int j = 0; a->out_key.buf >= 0 && j < vectors_of(&a->key); j++)
    attend_store(a, &a->out_key, position, j, attend_scaled(a, kir_get(a->k, b.sum[j])));
  for (int j = 0; a->out_v.buf >= 0 && j < vectors_of(&a->out_v); j++)
    attend_store(a, &a->out_v, position, j, kir_get(a->k, b.sum_v[j]));
}

/* The most queries that may hold one key: of a box the product of its axes' longest lists, of lines their sum. */
static int64_t most_queries(const Extent *e) {
  int64_t longest[3] = {0}, at[3] = {0}, box = 1, lines = 0;
  for (int x = 0; x < 3; x++) {
    const AxisExtent *axis = &e->axis[x];
    for (int32_t key = 0; key < axis->keys; key++) {
      int64_t n = axis->query_hi[key] - axis->query_lo[key] + 1, c = axis->at_hi[key] - axis->at_lo[key] + 1;
      if (n > longest[x]) longest[x] = n;
      if (c > at[x]) at[x] = c;
    }
    box *= longest[x];
  }
  for (int x = 0; x < 3; x++) lines += longest[x] * at[(x + 1) % 3] * at[(x + 2) % 3];
  return e->is_axis ? lines : box;
}

/* ---- items ---- */

typedef void (*PositionFn)(Attend *a, KInst *index);

static void query_forward(Attend *a, KInst *index) {
  KInst *at[3];
  coords_of(a, a->attrs->query_grid, index, at);
  forward_query(a, attend_query_position(a, index), at);
}

static void query_backward(Attend *a, KInst *index) {
  KInst *at[3];
  coords_of(a, a->attrs->query_grid, index, at);
  backward_query(a, attend_query_position(a, index), at);
}

/* Items over samples x blocks of positions x heads. */
static void over_positions(Attend *a, Dim samples, int64_t positions, PositionFn each) {
  Kernel *k = a->k;
  kir_factor(k, samples, 1);
  kir_factor(k, dim_const(positions), QUERIES_PER_ITEM);
  kir_factor(k, dim_const(a->attrs->heads), 1);
  KInst *item = kir_item(k);
  a->head = kir_peel(a->k, &item, num(a, a->attrs->heads));
  KInst *first = mul(a, kir_peel(a->k, &item, num(a, (positions + QUERIES_PER_ITEM - 1) / QUERIES_PER_ITEM)), QUERIES_PER_ITEM);
  a->sample = item;
  KInst *index = kir_for(k, first, bin(a, KOP_MIN, add(a, first, num(a, QUERIES_PER_ITEM)), num(a, positions)), 1, 0);
  each(a, index);
  kir_end(k);
}

static void over_rows(Attend *a) {
  Kernel *k = a->k;
  kir_factor(k, (Dim){0, 0, 1}, 1);
  kir_factor(k, dim_const(a->attrs->heads), 1);
  KInst *row = kir_item(k), *at[3];
  a->head = kir_peel(a->k, &row, num(a, a->attrs->heads));
  a->sample = load_int(a, a->buf_rows, mul(a, row, 2));
  coords_of(a, a->attrs->query_grid, load_int(a, a->buf_rows, add(a, mul(a, row, 2), num(a, 1))), at);
  forward_query(a, row, at);
}

/* ---- set-up ---- */

static Heads heads_of(Attend *a, const Node *n, int buf) {
  int64_t row = n->type.dim[n->type.rank - 1].c;
  if (row / a->attrs->heads > MAX_HEAD_VECTORS * LANES)
    lower_fail(a->l, n, "a head has %lld elements, at most %d are supported", (long long)(row / a->attrs->heads), MAX_HEAD_VECTORS * LANES);
  return (Heads){buf, row / a->attrs->heads, row};
}

static Heads operand_heads(Attend *a, Node *n, int i) { return heads_of(a, n->in[i], lower_operand(a->l, n->in[i])); }

static void bind_outputs(Attend *a) {
  const Group *g = a->l->group;
  a->out_q.buf = a->out_key.buf = a->out_v.buf = a->out_lse = -1;
  for (int i = 0; i < g->n_out; i++) {
    Node *out = g->out[i];
    int buf = a->l->out_buf[i];
    if (out->op == OP_ATTEND_LSE) a->out_lse = buf;
    else if (out->op == OP_ATTEND_GRAD_K) a->out_key = heads_of(a, out, buf);
    else if (out->op == OP_ATTEND_GRAD_V) a->out_v = heads_of(a, out, buf);
    else a->out_q = heads_of(a, out, buf);
  }
}

static void bind_rows(Attend *a, Node *n) {
  a->is_rows = true;
  a->buf_rows = lower_operand(a->l, n->in[1]);
  a->key = operand_heads(a, n, 2);
  a->v = operand_heads(a, n, 3);
  a->has_slots = n->n_in == 5;
  if (a->has_slots) a->buf_slots = lower_operand(a->l, n->in[4]);
}

/* Operands, from whichever members of the group name them. */
static void bind_inputs(Attend *a) {
  const Group *g = a->l->group;
  for (int i = 0; i < g->n_node; i++) {
    Node *n = g->node[i];
    a->q = operand_heads(a, n, 0);
    if (n->op == OP_ATTEND_ROWS) {
      bind_rows(a, n);
      continue;
    }
    a->key = operand_heads(a, n, 1);
    if (n->op != OP_ATTEND_LSE && n->op != OP_ATTEND_GRAD_V) a->v = operand_heads(a, n, 2);
    if (n->op == OP_ATTEND_GRAD_V) {
      a->dy = operand_heads(a, n, 2);
      a->buf_lse = lower_operand(a->l, n->in[3]);
    }
    if (n->op == OP_ATTEND_GRAD_Q || n->op == OP_ATTEND_GRAD_K) {
      a->dy = operand_heads(a, n, 3);
      a->buf_lse = lower_operand(a->l, n->in[4]);
      a->buf_delta = lower_operand(a->l, n->in[5]);
    }
  }
}

bool lower_attend(Lower *l, const Params *params) {
  Node *anchor = l->group->anchor;
  Attend a = {.l = l, .k = l->k, .attrs = &anchor->attrs.attend, .scores = -1};
  a.extent = extent_new(l->arena, a.attrs);
  bind_inputs(&a);
  bind_outputs(&a);
  if (l->failed) return false;
  bool for_keys = anchor->op == OP_ATTEND_GRAD_K || anchor->op == OP_ATTEND_GRAD_V;
  make_tables(&a, for_keys);
  Dim samples = anchor->in[0]->type.rank == 5 ? anchor->in[0]->type.dim[0] : dim_const(1);
  bool forward = anchor->op == OP_ATTEND || anchor->op == OP_ATTEND_LSE;
  int64_t most = for_keys ? most_queries(a.extent) : extent_max_keys(a.extent);
  bool taken = false, is_gpu = target_is_gpu(l->target);
  if (!a.is_rows && is_gpu) taken = attend_gpu(&a, samples, &params->attend_gpu, for_keys, forward, most);
  if (!a.is_rows && !is_gpu)
    taken = attend_tile(&a, samples, &params->attend, for_keys, forward) || attend_list(&a, samples, for_keys, forward, most);
  if (taken) return !l->failed;
  if (is_gpu) l->k->resident = CUDA_BLOCKS;
  a.scores = kir_scratch(l->k, "scores", DTYPE_F32, (most + LANES) / LANES * LANES);
  a.n = kir_var(l->k, num(&a, 0), false);
  if (for_keys) over_positions(&a, samples, positions_of(a.attrs->key_grid), backward_key);
  else if (a.is_rows) over_rows(&a);
  else over_positions(&a, samples, positions_of(a.attrs->query_grid), anchor->op == OP_ATTEND_GRAD_Q ? query_backward : query_forward);
  return !l->failed;
}

/* ---- parameters ---- */

bool attend_params(Arena *arena, const Group *g, const Target *t, Params *out, Error *err) {
  out->attend = (AttendParams){.tile_m = 2, .tile_n = t->vector_bits == 512 ? 2 : 1, .block_m = 512};
  return true;
}

int attend_params_refuse(const Group *g, const Target *t, const Params *p, Error *err) { return -1; }

bool attend_gpu_params(Arena *arena, const Group *g, const Target *t, Params *out, Error *err) {
  int stages = target_has_async_copies(t) ? 2 : 1;
  out->attend_gpu = (AttendGpuParams){.block_m = 16, .tile_m = 2, .tile_k = 1, .stages = stages};
  return true;
}

int attend_gpu_params_refuse(const Group *g, const Target *t, const Params *p, Error *err) {
  if (p->attend_gpu.stages > 1 && !target_has_async_copies(t))
    return params_refuse(PARAM_AT(AttendGpuParams, stages), err, "sm_%d has no asynchronous copies", t->capability);
  return -1;
}
