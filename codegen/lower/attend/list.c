/* The loop nest of attention on a CPU where each query sees keys of its own: boxes, blocks and lines, forward and
 * gradients.
 *
 * An item is one sample, one head and a patch of positions: queries, or for the gradients of keys and values keys.
 * The box of rows of the other side that they may meet is copied into scratch, one head's elements side by side, in
 * f32: where heads are strided in memory, their rows would fall on few sets of the caches. Each position makes a
 * list of the rows that it meets, in raster order, and takes 16 of them at once: elements run along lanes, and the
 * trees of 16 sums are added together by exchanging lanes, which gives 16 scores in one vector.
 *
 * Every sum is the common nest's (lower_attend.c), and so are its bits. */
#include <math.h>
#include <string.h>

#include "codegen/lower/attend/attend.h"

enum {
  CACHE_BYTES = 5 << 18,      /* of rows that stay in the second cache */
  SCRATCH_BYTES = 64 << 20,
  PATCH = 512,                /* positions from which on it matters whether there are items for all threads */
  ITEMS = 16,
  NEAR_BYTES = 4 << 20        /* of all rows */
};

typedef struct List {
  Attend *a;
  Kernel *k;
  bool for_keys, is_forward, has_y;
  const int64_t *own_grid, *row_grid;
  int64_t patch[3], box[3];   /* own positions of an item, and the most rows they meet, on each axis */
  int64_t longest[3];         /* the most rows that one position meets on an axis */
  int bounds[3];              /* table [patches][2]: first and last row; first > last: none */
  const Heads *x, *y;         /* rows: keys (queries), and values (dy) */
  const Heads *own_x, *own_y; /* queries (keys), and dy (values) */
  int64_t at_y, at_lse, pitch;/* of a row in the panel: x, y, and for gradients of keys lse and delta */
  int panel, p, ds;           /* scratch: rows; weights of a list; -1: none */
  int list;                   /* scratch: offsets in the panel of the rows that the positions of a line meet */
  KInst *first[3], *last[3];  /* rows of the item's box */
  KInst *at[3];               /* own position */
  int counts, largest;        /* scratch: entries of each list; the largest score */
  int64_t room;               /* of a list */
  KInst *n;                   /* variable: entries of a list, from its start */
  KInst *slot;                /* of the position among those of its line */
  KInst *from, *count;        /* where the position's list starts, and its entries */
} List;

static KInst *sub(List *e, KInst *x, KInst *y) { return bin(e->a, KOP_SUB, x, y); }
static KInst *plus(List *e, KInst *x, int64_t c) { return add(e->a, x, num(e->a, c)); }
static KInst *to_i32(List *e, KInst *x) { return kir_un(e->k, KOP_TO_I32, x); }

/* ---- patches ---- */

/* Rows that own coordinate i may meet on an axis. */
static void rows_of(const List *e, int axis, int32_t i, int32_t *lo, int32_t *hi) {
  const AxisExtent *x = &e->a->extent->axis[axis];
  *lo = e->for_keys ? x->query_lo[i] : x->lo[i];
  *hi = e->for_keys ? x->query_hi[i] : x->hi[i];
}

/* The most rows that a patch of `patch` coordinates meets; all together in *sum; bounds [patches][2] or NULL. */
static int64_t box_of(const List *e, int axis, int64_t patch, double *sum, int32_t *bounds) {
  int64_t most = 1;
  *sum = 0;
  for (int64_t i = 0; i < e->own_grid[axis]; i += patch) {
    int32_t lo = (int32_t)e->row_grid[axis], hi = -1;
    for (int64_t j = i; j < e->own_grid[axis] && j < i + patch; j++) {
      int32_t from, to;
      rows_of(e, axis, (int32_t)j, &from, &to);
      if (from > to) continue;
      if (from < lo) lo = from;
      if (to > hi) hi = to;
    }
    if (hi - lo + 1 > most) most = hi - lo + 1;
    if (hi >= lo) *sum += hi - lo + 1;
    if (bounds) bounds[i / patch * 2] = lo, bounds[i / patch * 2 + 1] = hi;
  }
  return most;
}

static int64_t box_bytes(const List *e) {
  return e->box[0] * e->box[1] * e->box[2] * e->pitch * (int64_t)sizeof(float);
}

/* Rows that are copied, against positions; half as much again or more where rows leave the cache, or threads may lack
 * work. */
static double patch_cost(List *e, const int64_t patch[3]) {
  double rows = 1, items = (double)e->a->attrs->heads, own = 1, all = 1;
  for (int x = 0; x < 3; x++) {
    double sum;
    e->box[x] = box_of(e, x, patch[x], &sum, NULL);
    rows *= sum;
    all *= (double)e->own_grid[x];
    own *= (double)patch[x];
    items *= (double)((e->own_grid[x] + patch[x] - 1) / patch[x]);
  }
  if (box_bytes(e) > SCRATCH_BYTES) return INFINITY;
  double cost = rows / all + (box_bytes(e) > CACHE_BYTES ? 1.5 : 0);
  return own > PATCH && items < ITEMS ? cost * ITEMS / items : cost;
}

static bool choose_patch(List *e) {
  double best = INFINITY;
  for (int64_t s = 1; s <= e->own_grid[0]; s++)
    for (int64_t h = 1; h <= e->own_grid[1]; h++)
      for (int64_t parts = 1; parts <= e->own_grid[2]; parts *= 2) {
        int64_t patch[3] = {s, h, (e->own_grid[2] + parts - 1) / parts};
        double cost = patch_cost(e, patch) * (1 + 1e-3 / (double)(s * h * patch[2]));
        if (cost >= best) continue;
        best = cost;
        memcpy(e->patch, patch, sizeof patch);
      }
  if (best == INFINITY) return false;
  static const char *const name[3] = {"rows_s", "rows_h", "rows_w"};
  for (int x = 0; x < 3; x++) {
    int64_t n = (e->own_grid[x] + e->patch[x] - 1) / e->patch[x];
    int32_t *bounds = ARENA_ARRAY(e->a->l->arena, int32_t, 2 * n);
    double sum;
    e->box[x] = box_of(e, x, e->patch[x], &sum, bounds);
    e->longest[x] = box_of(e, x, 1, &sum, NULL);
    e->bounds[x] = kir_table(e->k, name[x], DTYPE_I32, bounds, 2 * n);
  }
  return true;
}

/* ---- the panel ---- */

static KInst *row_position(List *e, KInst *index) {
  return e->for_keys ? attend_query_position(e->a, index) : attend_key_position(e->a, index);
}

/* Offset of a row in the panel. */
static KInst *panel_at(List *e, KInst *const at[3]) {
  KInst *row = num(e->a, 0);
  for (int x = 0; x < 3; x++) row = add(e->a, mul(e->a, row, e->box[x]), sub(e, at[x], e->first[x]));
  return mul(e->a, row, e->pitch);
}

static void pack_head(List *e, const Heads *h, KInst *position, KInst *at) {
  KInst *x[MAX_HEAD_VECTORS];
  attend_load(e->a, h, position, x);
  for (int j = 0; j < vectors_of(h); j++)
    kir_store(e->k, e->panel, plus(e, at, j * LANES), kir_lane(e->k), x[j], NULL);
}

static void pack_box(List *e) {
  Kernel *k = e->k;
  Attend *a = e->a;
  KInst *at[3];
  for (int x = 0; x < 3; x++) at[x] = kir_for(k, e->first[x], plus(e, e->last[x], 1), 1, 0);
  KInst *position = row_position(e, attend_raster(a, e->row_grid, at)), *to = panel_at(e, at);
  pack_head(e, e->x, position, to);
  if (e->has_y) pack_head(e, e->y, position, plus(e, to, e->at_y));
  if (e->for_keys) {
    KInst *number = attend_per_head(a, position);
    kir_store(k, e->panel, plus(e, to, e->at_lse), NULL, kir_load(k, a->buf_lse, number, NULL, NULL), NULL);
    if (e->ds >= 0)
      kir_store(k, e->panel, plus(e, to, e->at_lse + 1), NULL, kir_load(k, a->buf_delta, number, NULL, NULL), NULL);
  }
  for (int x = 0; x < 3; x++) kir_end(k);
}

/* Vector j of an operand of a row. */
static KInst *row_vector(List *e, const Heads *h, KInst *row, int j) {
  return kir_load(e->k, e->panel, plus(e, row, (h == e->y ? e->at_y : 0) + j * LANES), kir_lane(e->k), NULL);
}

/* ---- lists ---- */

/* Appends rows lo to hi along an axis, the others at `at`. */
static void list_run(List *e, KInst *const at[3], int axis, KInst *lo, KInst *hi) {
  Kernel *k = e->k;
  KInst *from[3] = {at[0], at[1], at[2]};
  int64_t stride = e->pitch, most = e->longest[axis];
  for (int x = axis + 1; x < 3; x++) stride *= e->box[x];
  from[axis] = lo;
  KInst *first = to_i32(e, panel_at(e, from)), *n = kir_get(k, e->n);
  KInst *lanes = kir_bin(k, KOP_MUL, kir_lane(k), kir_i32(k, (int32_t)stride));
  KInst *count = bin(e->a, KOP_MAX, plus(e, sub(e, hi, lo), 1), num(e->a, 0));
  KInst *i = most > LANES ? kir_for(k, num(e->a, 0), count, LANES, 0) : num(e->a, 0);
  KInst *base = kir_bin(k, KOP_ADD, first, kir_bin(k, KOP_MUL, to_i32(e, i), kir_i32(k, (int32_t)stride)));
  kir_store(k, e->list, add(e->a, add(e->a, e->from, n), i), kir_lane(k), kir_bin(k, KOP_ADD, base, lanes), NULL);
  if (most > LANES) kir_end(k);
  kir_set(k, e->n, add(e->a, n, count));
}

typedef struct Interval {
  KInst *lo[3], *hi[3];
} Interval;

static Interval rows_met(List *e) {
  Interval r;
  if (!e->for_keys) {
    Window w = attend_window(e->a, e->at);
    memcpy(r.lo, w.lo, sizeof r.lo);
    memcpy(r.hi, w.hi, sizeof r.hi);
    return r;
  }
  for (int x = 0; x < 3; x++) {
    KInst *entry = mul(e->a, e->at[x], 4);
    r.lo[x] = load_int(e->a, e->a->reverse[x], entry);
    r.hi[x] = load_int(e->a, e->a->reverse[x], plus(e, entry, 1));
  }
  return r;
}

/* The box, up to the own position in raster order (from it on, for keys). */
static void list_box(List *e) {
  Kernel *k = e->k;
  Attend *a = e->a;
  bool cuts = a->extent->is_raster;
  Interval r = rows_met(e);
  KInst *at[3], *same = kir_bool(k, true);
  for (int x = 0; x < 3; x++) {
    KInst *lo = r.lo[x], *hi = r.hi[x];
    if (cuts && e->for_keys) lo = pick(a, same, bin(a, KOP_MAX, lo, e->at[x]), lo);
    if (cuts && !e->for_keys) hi = pick(a, same, bin(a, KOP_MIN, hi, e->at[x]), hi);
    if (x == 2) {
      at[2] = lo;
      list_run(e, at, 2, lo, hi);
      break;
    }
    at[x] = kir_for(k, lo, plus(e, hi, 1), 1, 0);
    if (cuts) same = both(a, same, equal(a, at[x], e->at[x]));
  }
  kir_end(k);
  kir_end(k);
}

/* The lines through the own position.  Grids are the same and every line holds it. */
static void list_lines(List *e) {
  Interval r = rows_met(e);
  bool cuts = e->a->extent->is_raster;
  KInst **at = e->at;
  for (int x = 0; x < 2; x++)
    if (!cuts || !e->for_keys) list_run(e, at, x, r.lo[x], plus(e, at[x], -1));
  list_run(e, at, 2, cuts && e->for_keys ? at[2] : r.lo[2], cuts && !e->for_keys ? at[2] : r.hi[2]);
  for (int x = 1; x >= 0; x--)
    if (!cuts || e->for_keys) list_run(e, at, x, plus(e, at[x], 1), r.hi[x]);
}

static void make_list(List *e, KInst *position) {
  Kernel *k = e->k;
  kir_set(k, e->n, num(e->a, 0));
  if (e->a->extent->is_axis) list_lines(e);
  else list_box(e);
  KInst *n = kir_get(k, e->n);
  kir_store(k, e->list, add(e->a, e->from, n), kir_lane(k), kir_i32(k, 0), NULL);   /* 16 can be taken to the end */
  kir_store(k, e->counts, e->slot, NULL, to_i32(e, n), NULL);
}

static KInst *entry(List *e, KInst *i) {
  return kir_un(e->k, KOP_TO_I64, kir_load(e->k, e->list, add(e->a, e->from, i), NULL, NULL));
}

/* ---- products with 16 rows ---- */

typedef struct Dot {
  KInst *const *own;          /* vectors of the own position */
  int n;
  const Heads *h;             /* operand of the rows */
  bool rounds;                /* each product, see rounded_dot of lower_attend.c */
  KInst *row[LANES];
} Dot;

/* Sums of rows first, first + step...: the tree's levels down to a distance of `step` are done. */
static KInst *dot_tree(List *e, const Dot *d, int first, int step) {
  Kernel *k = e->k;
  if (step < LANES) {
    KInst *x = dot_tree(e, d, first, 2 * step), *y = dot_tree(e, d, first + step, 2 * step), *far = kir_i32(k, step);
    return kir_bin(k, KOP_ADD, kir_op(k, KOP_LOW, x, y, far), kir_op(k, KOP_HIGH, x, y, far));
  }
  KInst *sum = kir_f32(k, 0.0f);
  for (int j = 0; j < d->n; j++) {
    KInst *x = row_vector(e, d->h, d->row[first], j);
    KInst *own = d->own[j];
    sum = d->rounds ? kir_bin(k, KOP_ADD, sum, kir_bin(k, KOP_MUL, own, x)) : kir_op(k, KOP_FMA, own, x, sum);
  }
  return sum;
}

static KInst *dots(List *e, KInst *const *row, const Heads *h, KInst *const *own, bool rounds) {
  Dot d = {.own = own, .n = vectors_of(h), .h = h, .rounds = rounds};
  memcpy(d.row, row, sizeof d.row);
  return dot_tree(e, &d, 0, 1);
}

static void take_rows(List *e, KInst *i, KInst *row[LANES]) {
  for (int j = 0; j < LANES; j++) row[j] = entry(e, plus(e, i, j));
}

/* sum[j] += weight * (vector j of an operand of a row). */
static void add_row(List *e, const Heads *h, KInst *row, KInst *weight, KInst *const *sum) {
  Kernel *k = e->k;
  for (int j = 0; j < vectors_of(h); j++) {
    KInst *x = row_vector(e, h, row, j);
    kir_set(k, sum[j], kir_op(k, KOP_FMA, weight, x, kir_get(k, sum[j])));
  }
}

static KInst *weight(List *e, int buf, KInst *i) { return kir_load(e->k, buf, add(e->a, e->from, i), NULL, NULL); }

static void store_weights(List *e, int buf, KInst *i, KInst *x) {
  kir_store(e->k, buf, add(e->a, e->from, i), kir_lane(e->k), x, NULL);
}

/* ---- positions ---- */

/* Scores into p, and the largest. */
static void score_list(List *e, KInst *position) {
  Kernel *k = e->k;
  KInst *most = kir_var(k, kir_f32(k, -INFINITY), true), *row[LANES], *q[MAX_HEAD_VECTORS];
  attend_load(e->a, e->own_x, position, q);
  KInst *i = kir_for(k, num(e->a, 0), e->count, LANES, 0);
  take_rows(e, i, row);
  KInst *score = attend_scaled(e->a, dots(e, row, e->x, q, false)), *m = kir_get(k, most);
  KInst *exists = bin(e->a, KOP_LT, kir_lane(k), to_i32(e, sub(e, e->count, i)));
  store_weights(e, e->p, i, score);
  kir_set(k, most, pick(e->a, exists, kir_bin(k, KOP_MAX, m, score), m));
  kir_end(k);
  kir_store(k, e->largest, e->slot, NULL, kir_un(k, KOP_TREE_MAX, kir_get(k, most)), NULL);
}

static void exponentiate_list(List *e, KInst *position) {
  Kernel *k = e->k;
  KInst *largest = kir_load(k, e->largest, e->slot, NULL, NULL), *i = kir_for(k, num(e->a, 0), e->count, LANES, 0);
  KInst *score = kir_load(k, e->p, add(e->a, e->from, i), kir_lane(k), NULL);
  store_weights(e, e->p, i, kir_exp(k, kir_bin(k, KOP_SUB, score, largest)));
  kir_end(k);
}

static void sum_values(List *e, KInst *position) {
  Attend *a = e->a;
  Kernel *k = e->k;
  Forward f = {.l = kir_var(k, kir_f32(k, 0.0f), false)};
  f.m = kir_var(k, kir_load(k, e->largest, e->slot, NULL, NULL), false);
  if (e->has_y) attend_start_sums(a, &a->v, f.y);
  KInst *i = kir_for(k, num(a, 0), e->count, 1, 2), *p = weight(e, e->p, i);
  kir_set(k, f.l, kir_bin(k, KOP_ADD, kir_get(k, f.l), p));
  if (e->has_y) add_row(e, e->y, entry(e, i), p, f.y);
  kir_end(k);
  attend_finish(a, &f, position, bin(a, KOP_LT, num(a, 0), e->count));
}

/* lse or delta of 16 rows: of each its own for gradients of keys, else the position's. */
static KInst *number_of(List *e, KInst *i, KInst *position, bool is_delta) {
  Kernel *k = e->k;
  int buf = is_delta ? e->a->buf_delta : e->a->buf_lse;
  if (!e->for_keys) return kir_load(k, buf, attend_per_head(e->a, position), NULL, NULL);
  KInst *row = kir_load(k, e->list, add(e->a, e->from, i), kir_lane(k), NULL);
  return kir_load(k, e->panel, num(e->a, e->at_lse + is_delta), row, NULL);
}

/* p = exp(score - lse) and ds = p (dp - delta) of the list. */
static void weigh_list(List *e, KInst *position) {
  Attend *a = e->a;
  Kernel *k = e->k;
  KInst *x[MAX_HEAD_VECTORS], *y[MAX_HEAD_VECTORS], *row[LANES];
  attend_load(a, e->own_x, position, x);
  if (e->ds >= 0) attend_load(a, e->own_y, position, y);
  KInst *i = kir_for(k, num(a, 0), e->count, LANES, 0);
  take_rows(e, i, row);
  KInst *score = attend_scaled(a, dots(e, row, e->x, x, false));
  KInst *p = kir_exp(k, kir_bin(k, KOP_SUB, score, number_of(e, i, position, false)));
  if (e->p >= 0) store_weights(e, e->p, i, p);
  if (e->ds >= 0) {
    KInst *dp = dots(e, row, e->y, y, true);
    KInst *ds = kir_bin(k, KOP_MUL, p, kir_bin(k, KOP_SUB, dp, number_of(e, i, position, true)));
    store_weights(e, e->ds, i, ds);
  }
  kir_end(k);
}

static void sum_gradients(List *e, KInst *position) {
  Attend *a = e->a;
  Kernel *k = e->k;
  const Heads *out = e->for_keys ? &a->out_key : &a->out_q;
  KInst *sum[MAX_HEAD_VECTORS], *sum_v[MAX_HEAD_VECTORS];
  if (e->ds >= 0) attend_start_sums(a, out, sum);
  if (e->p >= 0) attend_start_sums(a, &a->out_v, sum_v);
  KInst *i = kir_for(k, num(a, 0), e->count, 1, 2), *row = entry(e, i);
  if (e->p >= 0) add_row(e, e->y, row, weight(e, e->p, i), sum_v);
  if (e->ds >= 0) add_row(e, e->x, row, weight(e, e->ds, i), sum);
  kir_end(k);
  for (int j = 0; e->ds >= 0 && j < vectors_of(out); j++)
    attend_store(a, out, position, j, attend_scaled(a, kir_get(k, sum[j])));
  for (int j = 0; e->p >= 0 && j < vectors_of(&a->out_v); j++)
    attend_store(a, &a->out_v, position, j, kir_get(k, sum_v[j]));
}

/* ---- items ---- */

typedef void (*PositionFn)(List *e, KInst *position);

/* One phase for all positions of a line: what one of them waits for, the next need not. */
static void each_of_line(List *e, KInst *first, KInst *end, PositionFn phase) {
  Attend *a = e->a;
  e->at[2] = kir_for(e->k, first, end, 1, 0);
  e->slot = sub(e, e->at[2], first);
  e->from = mul(a, e->slot, e->room);
  if (phase != make_list) e->count = load_int(a, e->counts, e->slot);
  KInst *index = attend_raster(a, e->own_grid, e->at);
  phase(e, e->for_keys ? attend_key_position(a, index) : attend_query_position(a, index));
  kir_end(e->k);
}

static void emit_item(List *e) {
  Attend *a = e->a;
  Kernel *k = e->k;
  KInst *item = kir_item(k), *first[3];
  a->head = kir_peel(a->k, &item, num(a, a->attrs->heads));
  for (int x = 2; x >= 0; x--) {
    KInst *patch = kir_peel(a->k, &item, num(a, (e->own_grid[x] + e->patch[x] - 1) / e->patch[x]));
    first[x] = mul(a, patch, e->patch[x]);
    e->first[x] = load_int(a, e->bounds[x], mul(a, patch, 2));
    e->last[x] = load_int(a, e->bounds[x], plus(e, mul(a, patch, 2), 1));
  }
  a->sample = item;
  pack_box(e);
  KInst *end[3];
  for (int x = 0; x < 3; x++) end[x] = bin(a, KOP_MIN, plus(e, first[x], e->patch[x]), num(a, e->own_grid[x]));
  for (int x = 0; x < 2; x++) e->at[x] = kir_for(k, first[x], end[x], 1, 0);
  each_of_line(e, first[2], end[2], make_list);
  if (e->is_forward) {
    each_of_line(e, first[2], end[2], score_list);
    each_of_line(e, first[2], end[2], exponentiate_list);
    each_of_line(e, first[2], end[2], sum_values);
  } else {
    each_of_line(e, first[2], end[2], weigh_list);
    each_of_line(e, first[2], end[2], sum_gradients);
  }
  kir_end(k);
  kir_end(k);
}

/* Few rows a position are not worth their copy, unless all are on few pages and one pass reads them: then a copy costs
 * little. */
static bool pays(const List *e, int64_t most) {
  int64_t rows = e->row_grid[0] * e->row_grid[1] * e->row_grid[2], bytes = e->x->row * (int64_t)sizeof(float);
  return most > (e->is_forward && 2 * rows * bytes <= NEAR_BYTES ? LANES / 2 : LANES);
}

/* Lines are taken where they begin and end at the position itself. */
static bool is_simple(const Attend *a) {
  if (!a->extent->is_axis) return true;
  for (int x = 0; x < 3; x++)
    if (a->attrs->query_grid[x] != a->attrs->key_grid[x]) return false;
  return attend_windows_hold_centre(a->extent);
}

static void choose_sides(List *e) {
  Attend *a = e->a;
  e->own_grid = e->for_keys ? a->attrs->key_grid : a->attrs->query_grid;
  e->row_grid = e->for_keys ? a->attrs->query_grid : a->attrs->key_grid;
  e->x = e->for_keys ? &a->q : &a->key;
  e->y = e->for_keys ? &a->dy : &a->v;
  e->own_x = e->for_keys ? &a->key : &a->q;
  e->own_y = e->for_keys ? &a->v : &a->dy;
  e->has_y = !e->is_forward || a->out_q.buf >= 0;
  e->at_y = (int64_t)vectors_of(e->x) * LANES;
  e->at_lse = e->at_y + (e->has_y ? (int64_t)vectors_of(e->y) * LANES : 0);
  e->pitch = e->at_lse + (e->for_keys ? LANES : 0);
}

bool attend_list(Attend *a, Dim samples, bool for_keys, bool is_forward, int64_t most) {
  List e = {.a = a, .k = a->k, .for_keys = for_keys, .is_forward = is_forward, .p = -1, .ds = -1};
  if (!is_simple(a)) return false;
  choose_sides(&e);
  if (!pays(&e, most) || !choose_patch(&e)) return false;
  int64_t room = e.room = (most + 3 * LANES) / LANES * LANES;
  e.panel = kir_scratch(e.k, "rows", DTYPE_F32, e.box[0] * e.box[1] * e.box[2] * e.pitch);
  e.list = kir_scratch(e.k, "lists", DTYPE_I32, room * e.patch[2]);
  e.counts = kir_scratch(e.k, "counts", DTYPE_I32, e.patch[2]);
  if (is_forward) e.largest = kir_scratch(e.k, "largest", DTYPE_F32, e.patch[2]);
  if (is_forward || a->out_v.buf >= 0) e.p = kir_scratch(e.k, "weights", DTYPE_F32, room * e.patch[2]);
  if (!is_forward && (!for_keys || a->out_key.buf >= 0)) e.ds = kir_scratch(e.k, "ds", DTYPE_F32, room * e.patch[2]);
  e.n = kir_var(e.k, num(a, 0), false);
  kir_factor(e.k, samples, 1);
  for (int x = 0; x < 3; x++) kir_factor(e.k, dim_const(e.own_grid[x]), e.patch[x]);
  kir_factor(e.k, dim_const(a->attrs->heads), 1);
  emit_item(&e);
  return true;
}
