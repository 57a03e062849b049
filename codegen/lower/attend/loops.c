/* The loop nest of attention that takes everything, attend_rows included: one own position after the other.  Others
 * are visited by three nested loops whose bounds come from the tables of intervals, so no masked key costs anything; the
 * union of lines (kind axis) and raster order only change the bounds.  Elements of a head run along lanes. */
#include <math.h>

#include "codegen/lower/attend/attend.h"

typedef struct Position {
  KInst **x, **y;                                     /* its vectors, [widest] */
  KInst *lse, *delta;                                 /* of a query, for gradients */
  KInst *largest, *total;                             /* variables: of scores, of weights */
  KInst **sum_x, **sum_y;                             /* variables, [widest] */
} Position;

/* Emits what is done with one other; index is its raster index. */
typedef void (*VisitFn)(Attention *a, const Position *p, KInst *index);

/* ---- visiting ---- */

/* Keys that query q sees, in raster order. */
static void visit_keys(Attention *a, KInst *const q[3], VisitFn body, const Position *p) {
  Kernel *k = a->k;
  Window w = attend_window(a, q);
  bool tests = a->is_axis && !a->centred;
  KInst *at[3], *same = kir_bool(k, true);   /* same: the coordinates so far are those of the centre */
  for (int x = 0; x < 3; x++) {
    KInst *lo = w.lo[x], *hi = w.hi[x];
    if (tests) lo = least(k, lo, w.centre[x]), hi = most(k, hi, w.centre[x]);
    if (a->is_raster) hi = pick(k, same, least(k, hi, q[x]), hi);
    if (a->is_axis) lo = pick(k, same, lo, w.centre[x]), hi = pick(k, same, hi, w.centre[x]);
    at[x] = kir_for(k, lo, plus(k, hi, 1), 1, 0);
    if (a->is_axis || a->is_raster) same = both(k, same, equal(k, at[x], a->is_axis ? w.centre[x] : q[x]));
  }
  if (tests) kir_if(k, attend_on_line(k, &w, at));
  body(a, p, attend_raster(k, a->other->grid, at));
  for (int x = 0; x < 3 + tests; x++) kir_end(k);
}

/* Queries that see a key, in raster order. */
static void visit_queries(Attention *a, KInst *const key[3], VisitFn body, const Position *p) {
  Kernel *k = a->k;
  KInst *at[3], *same = kir_bool(k, true), *centred = kir_bool(k, true);
  for (int x = 0; x < 3; x++) {
    KInst *entry[4];
    for (int i = 0; i < 4; i++) entry[i] = to_i64(k, attend_reverse(a, x, key[x], i));
    KInst *lo = entry[0], *hi = entry[1];
    if (a->is_axis) {
      lo = pick(k, centred, least(k, lo, entry[2]), entry[2]);
      hi = pick(k, centred, most(k, hi, entry[3]), entry[3]);
      lo = most(k, lo, num(k, 0)), hi = least(k, hi, num(k, a->query.grid[x] - 1));
    }
    if (a->is_raster) lo = pick(k, same, most(k, lo, key[x]), lo);
    at[x] = kir_for(k, lo, plus(k, hi, 1), 1, 0);
    if (a->is_raster) same = both(k, same, equal(k, at[x], key[x]));
    if (a->is_axis) centred = both(k, centred, within(k, entry[2], at[x], entry[3]));
  }
  if (a->is_axis) {
    Window w = attend_window(a, at);
    kir_if(k, attend_on_line(k, &w, key));
  }
  body(a, p, attend_raster(k, a->other->grid, at));
  for (int x = 0; x < 3 + a->is_axis; x++) kir_end(k);
}

static void visit(Attention *a, KInst *const at[3], VisitFn body, const Position *p) {
  (a->for_keys ? visit_queries : visit_keys)(a, at, body, p);
}

/* ---- the list of weights, in scratch: scalars first, then exp over 16 lanes, then scalars again ---- */

static void list_begin(Attention *a) { kir_set(a->k, a->n, num(a->k, 0)); }
static void list_next(Attention *a) { kir_set(a->k, a->n, plus(a->k, kir_get(a->k, a->n), 1)); }

static void list_push(Attention *a, KInst *x) {
  kir_store(a->k, a->scores, kir_get(a->k, a->n), NULL, x, NULL);
  list_next(a);
}

static KInst *list_pull(Attention *a) {
  KInst *x = kir_load(a->k, a->scores, kir_get(a->k, a->n), NULL, NULL);
  list_next(a);
  return x;
}

/* ---- one position ---- */

/* A chain per lane from 0, then the tree. */
static KInst *dot(Attention *a, bool rounds, KInst *const *x, const Heads *h, KInst *base) {
  KInst *sum = zero32(a->k);
  for (int j = 0; j < vectors_of(h); j++) sum = attend_term(a->k, rounds, x[j], attend_vector(a, h, base, j), sum);
  return kir_un(a->k, KOP_TREE_ADD, sum);
}

static void score_other(Attention *a, const Position *p, KInst *index) {
  Kernel *k = a->k;
  const Heads *x = &a->other->x;
  KInst *row = attend_row(a, a->other, index), *lse = p->lse;
  if (a->for_keys) lse = attend_number(a, a->buf_lse, row);
  KInst *score = attend_scaled(a, dot(a, false, p->x, x, attend_base(a, x, row)));
  list_push(a, lse ? sub(k, score, lse) : score);
  if (a->is_forward) kir_set(k, p->largest, most(k, kir_get(k, p->largest), score));
}

static void add_row(Attention *a, const Heads *h, KInst *row, KInst *weight, KInst *const *sum) {
  KInst *base = attend_base(a, h, row);
  for (int j = 0; j < vectors_of(h); j++) {
    KInst *old = kir_get(a->k, sum[j]);
    kir_set(a->k, sum[j], fma_of(a->k, weight, attend_vector(a, h, base, j), old));
  }
}

static void weigh_other(Attention *a, const Position *p, KInst *index) {
  Kernel *k = a->k;
  const Side *o = a->other;
  KInst *weight = a->is_forward ? list_pull(a) : NULL, *delta = p->delta;
  if (weight) kir_set(k, p->total, add(k, kir_get(k, p->total), weight));
  KInst *row = attend_row(a, o, index);
  if (a->for_keys) attend_base(a, &o->y, row);
  if (!weight) weight = list_pull(a);
  if (a->has_y) add_row(a, &o->y, row, weight, p->sum_y);
  if (!a->has_x) return;
  if (a->for_keys) delta = attend_number(a, a->buf_delta, row);
  KInst *dp = dot(a, true, p->y, &o->y, attend_base(a, &o->y, row));
  add_row(a, &o->x, row, attend_ds(k, weight, dp, delta), p->sum_x);
}

/* row: of the own side's tensors; at: coordinates. */
static void one_position(Attention *a, KInst *row, KInst *const at[3]) {
  Kernel *k = a->k;
  KInst **list[4];
  for (int i = 0; i < COUNT_OF(list); i++) list[i] = ARENA_ARRAY(a->arena, KInst *, a->widest);
  Position p = {.x = list[0], .y = list[1], .sum_x = list[2], .sum_y = list[3]};
  KInst *has_keys = NULL;
  attend_load(a, &a->own->x, row, p.x);
  if (a->is_forward) {
    p.largest = kir_var(k, kir_f32(k, -INFINITY), false);
    p.total = kir_var(k, zero32(k), false);
  } else if (!a->for_keys) {
    attend_load(a, &a->own->y, row, p.y);
    p.lse = attend_number(a, a->buf_lse, row);
    p.delta = attend_number(a, a->buf_delta, row);
  }
  list_begin(a);
  visit(a, at, score_other, &p);
  if (a->is_forward) has_keys = below(k, num(k, 0), kir_get(k, a->n));
  KInst *largest = a->is_forward ? kir_get(k, p.largest) : NULL;
  attend_exponentiate(a, num(k, 0), kir_get(k, a->n), largest);
  list_begin(a);
  if (a->for_keys && a->has_x) attend_load(a, &a->own->y, row, p.y);
  if (a->has_x) attend_start_sums(a, &a->out_x, p.sum_x);
  if (a->has_y) attend_start_sums(a, &a->out_y, p.sum_y);
  visit(a, at, weigh_other, &p);
  kir_sync(k);
  if (a->is_forward) attend_finish(a, p.sum_y, p.largest, p.total, row, has_keys);
  else attend_finish_gradients(a, p.sum_x, p.sum_y, row);
}

/* ---- items ---- */

static void over_rows(Attention *a) {
  Kernel *k = a->k;
  kir_factor(k, (Dim){0, 0, 1}, 1);
  kir_factor(k, dim_const(a->attrs->heads), 1);
  KInst *row = kir_item(k), *at[3];
  a->head = kir_peel(k, &row, num(k, a->attrs->heads));
  a->sample = load_int(k, a->buf_rows, times(k, row, 2));
  attend_coords(k, a->own->grid, load_int(k, a->buf_rows, plus(k, times(k, row, 2), 1)), at);
  one_position(a, row, at);
}

static void over_positions(Attention *a, int64_t size) {
  Kernel *k = a->k;
  int64_t n = a->own->n;
  attend_items(a, 1, &n, &size);
  KInst *item = kir_item(k), *at[3];
  a->head = kir_peel(k, &item, num(k, a->attrs->heads));
  KInst *first = times(k, kir_peel(k, &item, num(k, parts_of(n, size))), size);
  a->sample = item;
  KInst *index = kir_for(k, first, least(k, plus(k, first, size), num(k, n)), 1, 0), *row = NULL;
  if (a->for_keys) row = attend_row(a, a->own, index);
  attend_coords(k, a->own->grid, index, at);
  one_position(a, row ? row : attend_row(a, a->own, index), at);
  kir_end(k);
}

void attend_loops(Attention *a, int positions, int resident) {
  a->k->resident = resident;
  a->scores = kir_scratch(a->k, "scores", DTYPE_F32, (a->most + LANES) / LANES * LANES);
  a->n = kir_var(a->k, num(a->k, 0), false);
  if (a->is_rows) over_rows(a);
  else over_positions(a, positions);
}
