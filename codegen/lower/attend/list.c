/* The loop nest of attention on a CPU where each query sees keys of its own: boxes, blocks and lines, forward and
 * gradients.
 *
 * An item is one sample, one head and a patch of own positions.  The box of others that they may meet is copied into
 * scratch first, one head's elements side by side, in f32: where heads are strided in memory, their rows would fall
 * on few sets of the caches.  Each position makes a list of the others that it meets, in raster order, and takes 16 of
 * them at once: elements run along lanes, and the trees of 16 sums are added together by exchanging lanes, which gives
 * 16 scores in one vector. */
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
  Attention *a;
  Kernel *k;
  Patches t;
  int64_t longest[3];         /* the most others that one position meets on an axis */
  int unroll;                 /* of loops that sum */
  bool packs[OPERANDS];       /* what the panel has of others: rows of x, y, and for gradients of keys lse and delta */
  int64_t at[OPERANDS], at_number, pitch;
  int panel;                  /* scratch: rows */
  int list;                   /* scratch: offsets in the panel of the rows that the positions of a line meet */
  int weights[OPERANDS];      /* scratch: what the rows of a list are multiplied with; -1: nothing */
  int counts, largest;        /* scratch: entries of each list; the largest score */
  int64_t room;               /* of a list */
  KInst *first[3], *last[3];  /* others of the item's box */
  KInst *own[3];              /* own position */
  KInst *n;                   /* variable: entries of a list, from its start */
  KInst *slot;                /* of the position among those of its line */
  KInst *from, *count;        /* where the position's list starts, and its entries */
} List;

/* ---- patches ---- */

static List layout_of(Attention *a) {
  List e = {.a = a, .k = a->k, .packs = {true, a->has[X] || a->has[Y]}};
  for (int i = X; i <= Y; i++) {
    e.at[i] = e.pitch;
    if (e.packs[i]) e.pitch += pitch_of(&a->other->of[i]);
  }
  e.at_number = e.pitch;
  if (a->for_keys) e.pitch += LANES;
  return e;
}

static int64_t box_bytes(const List *e) { return volume(e->t.box) * e->pitch * (int64_t)sizeof(float); }

/* Rows that are copied, against positions; half as much again or more where rows leave the cache, or threads may lack
 * work. */
static double patch_cost(List *e) {
  const Attention *a = e->a;
  double rows = 1, items = (double)a->attrs->heads;
  for (int x = 0; x < 3; x++) {
    double sum;
    e->t.box[x] = attend_box(a, x, e->t.size[x], &sum, NULL);
    rows *= sum;
    items *= (double)parts_of(a->own->grid[x], e->t.size[x]);
  }
  if (box_bytes(e) > SCRATCH_BYTES) return INFINITY;
  double cost = rows / (double)a->own->n + (box_bytes(e) > CACHE_BYTES ? 1.5 : 0), own = (double)volume(e->t.size);
  return (own > PATCH && items < ITEMS ? cost * ITEMS / items : cost) * (1 + 1e-3 / own);
}

/* False: none fits. */
static bool cheapest_patch(List *e) {
  const int64_t *grid = e->a->own->grid;
  int64_t found[3] = {1, 1, 1};
  double best = INFINITY;
  for (int64_t s = 1; s <= grid[0]; s++)
    for (int64_t h = 1; h <= grid[1]; h++)
      for (int64_t parts = 1; parts <= grid[2]; parts *= 2) {
        memcpy(e->t.size, (int64_t[]){s, h, parts_of(grid[2], parts)}, sizeof found);
        double cost = patch_cost(e);
        if (cost >= best) continue;
        best = cost;
        memcpy(found, e->t.size, sizeof found);
      }
  memcpy(e->t.size, found, sizeof found);
  return best < INFINITY;
}

/* The patch of an item and the boxes of others.  False: they do not fit. */
static bool choose_size(List *e, const AttendParams *p) {
  if (p->patch_s) memcpy(e->t.size, (int64_t[]){p->patch_s, p->patch_h, p->patch_w}, sizeof e->t.size);
  else if (!cheapest_patch(e)) return false;
  attend_patches(e->a, &e->t);
  return box_bytes(e) <= SCRATCH_BYTES;
}

/* ---- the panel ---- */

/* Offset of a row in the panel. */
static KInst *panel_at(List *e, KInst *const at[3]) {
  KInst *row = num(e->k, 0);
  for (int x = 0; x < 3; x++) {
    KInst *in = sub(e->k, at[x], e->first[x]);
    row = add(e->k, times(e->k, row, e->t.box[x]), in);
  }
  return times(e->k, row, e->pitch);
}

static void pack_box(List *e) {
  Kernel *k = e->k;
  Attention *a = e->a;
  KInst *at[3];
  for (int x = 0; x < 3; x++) at[x] = kir_for(k, e->first[x], plus(k, e->last[x], 1), 1, 0);
  KInst *row = attend_row(a, a->other, attend_raster(k, a->other->grid, at)), *to = panel_at(e, at);
  for (int i = X; i <= Y; i++)
    if (e->packs[i]) attend_pack(a, &a->other->of[i], row, e->panel, plus(k, to, e->at[i]));
  for (int i = 0; a->for_keys && i < 1 + a->has[X]; i++) {
    KInst *number = attend_number(a, a->number[i], row);
    kir_store(k, e->panel, plus(k, to, e->at_number + i), NULL, number, NULL);
  }
  for (int x = 0; x < 3; x++) kir_end(k);
}

/* Vector j of an operand of a row. */
static KInst *row_vector(List *e, int operand, KInst *row, int j) {
  return attend_scratch(e->k, e->panel, plus(e->k, row, e->at[operand] + j * LANES));
}

/* ---- lists ---- */

/* Appends keys lo to hi along an axis that the mask lets be seen. */
static void list_unmasked(List *e, KInst *const at[3], int axis, KInst *lo, KInst *hi) {
  Kernel *k = e->k;
  KInst *key[3] = {at[0], at[1], at[2]};
  key[axis] = kir_for(k, lo, plus(k, hi, 1), 1, 0);
  KInst *n = kir_get(k, e->n), *seen = attend_unmasked(e->a, attend_raster(k, e->a->key.grid, key), NULL);
  kir_store(k, e->list, add(k, e->from, n), NULL, to_i32(k, panel_at(e, key)), NULL);
  kir_set(k, e->n, add(k, n, pick(k, seen, num(k, 1), num(k, 0))));
  kir_end(k);
}

/* Appends others lo to hi along an axis, those at `at` on the other axes. */
static void list_run(List *e, KInst *const at[3], int axis, KInst *lo, KInst *hi) {
  if (e->a->buf_mask >= 0 && !e->a->for_keys) {
    list_unmasked(e, at, axis, lo, hi);
    return;
  }
  Kernel *k = e->k;
  KInst *from[3] = {at[0], at[1], at[2]};
  int64_t stride = e->pitch;
  bool loops = e->longest[axis] > LANES;
  for (int x = axis + 1; x < 3; x++) stride *= e->t.box[x];
  from[axis] = lo;
  KInst *first = to_i32(k, panel_at(e, from)), *n = kir_get(k, e->n), *lanes = times(k, kir_lane(k), stride);
  KInst *count = most(k, plus(k, sub(k, hi, lo), 1), num(k, 0));
  KInst *i = loops ? kir_for(k, num(k, 0), count, LANES, 0) : num(k, 0);
  KInst *row = add(k, add(k, first, times(k, to_i32(k, i), stride)), lanes);
  attend_put(k, e->list, add(k, add(k, e->from, n), i), row);
  if (loops) kir_end(k);
  kir_set(k, e->n, add(k, n, count));
}

/* The box, up to the own position in raster order (from it on, for keys). */
static void list_box(List *e, const Sight *s) {
  KInst *at[3], *lo[3], *hi[3];
  attend_visit(e->a, s, 2, at, lo, hi);
  list_run(e, at, 2, lo[2], hi[2]);
  kir_end(e->k);
  kir_end(e->k);
}

/* The lines through the query's centre, which they hold; a key is the centre of its own query only. */
static void list_lines(List *e, const Sight *s) {
  bool from_own = e->a->is_raster && e->a->for_keys, to_own = e->a->is_raster && !e->a->for_keys;
  KInst *const *at = s->near_lo;
  for (int x = 0; x < 2 && !from_own; x++) list_run(e, at, x, s->lo[x], plus(e->k, at[x], -1));
  list_run(e, at, 2, from_own ? at[2] : s->lo[2], to_own ? at[2] : s->hi[2]);
  for (int x = 1; x >= 0 && !to_own; x--) list_run(e, at, x, plus(e->k, at[x], 1), s->hi[x]);
}

static void make_list(List *e, KInst *row) {
  Kernel *k = e->k;
  bool may_be_masked = e->a->buf_mask >= 0 && e->a->for_keys;
  kir_set(k, e->n, num(k, 0));
  if (may_be_masked) kir_if(k, attend_unmasked(e->a, attend_raster(k, e->a->own->grid, e->own), NULL));
  Sight s = attend_sight(e->a, e->own);
  (e->a->is_axis ? list_lines : list_box)(e, &s);
  if (may_be_masked) kir_end(k);
  KInst *n = kir_get(k, e->n);
  attend_put(k, e->list, add(k, e->from, n), num32(k, 0));   /* 16 can be taken to the end */
  kir_store(k, e->counts, e->slot, NULL, to_i32(k, n), NULL);
}

static KInst *entry(List *e, KInst *i) { return load_int(e->k, e->list, add(e->k, e->from, i)); }

static KInst *list_load(List *e, int buf, KInst *i, KInst *lane) {
  return kir_load(e->k, buf, add(e->k, e->from, i), lane, NULL);
}

static void list_store(List *e, int buf, KInst *i, KInst *x) { attend_put(e->k, buf, add(e->k, e->from, i), x); }

/* ---- products with 16 rows ---- */

typedef struct ListDot {
  int operand;
  KInst *own[MAX_HEAD_VECTORS];
  KInst *const *row;          /* [16] */
} ListDot;

/* Sums of rows first, first + step...: the tree's levels down to a distance of `step` are done. */
static KInst *dot_tree(List *e, const ListDot *d, int first, int step) {
  Kernel *k = e->k;
  if (step < LANES) {
    KInst *x = dot_tree(e, d, first, 2 * step), *y = dot_tree(e, d, first + step, 2 * step), *far = num32(k, step);
    KInst *high = kir_op(k, KOP_HIGH, x, y, far);
    return add(k, kir_op(k, KOP_LOW, x, y, far), high);
  }
  KInst *sum = zero32(k);
  for (int j = 0; j < vectors_of(&e->a->other->of[d->operand]); j++)
    sum = attend_term(k, d->operand, d->own[j], row_vector(e, d->operand, d->row[first], j), sum);
  return sum;
}

static ListDot dot_start(List *e, int operand, KInst *own_row) {
  ListDot d = {.operand = operand};
  attend_load(e->a, &e->a->own->of[operand], own_row, d.own);
  return d;
}

/* The 16 rows from entry i of the list on, and an operand's products with them. */
static void rows_from(List *e, KInst *i, KInst *row[LANES]) {
  for (int j = 0; j < LANES; j++) row[j] = entry(e, plus(e->k, i, j));
}

static KInst *dots(List *e, ListDot *d, KInst *const row[LANES]) {
  d->row = row;
  return dot_tree(e, d, 0, 1);
}

/* ---- positions ---- */

/* Scores as weights, and the largest. */
static void score_list(List *e, KInst *row) {
  Kernel *k = e->k;
  KInst *largest = kir_var(k, kir_f32(k, -INFINITY), true);
  ListDot d = dot_start(e, X, row);
  KInst *i = kir_for(k, num(k, 0), e->count, LANES, 0), *rows[LANES];
  rows_from(e, i, rows);
  KInst *score = attend_scaled(e->a, dots(e, &d, rows)), *m = kir_get(k, largest);
  KInst *exists = lanes_below(k, sub(k, e->count, i));
  list_store(e, e->weights[Y], i, score);
  kir_set(k, largest, pick(k, exists, most(k, m, score), m));
  kir_end(k);
  kir_store(k, e->largest, e->slot, NULL, kir_un(k, KOP_TREE_MAX, kir_get(k, largest)), NULL);
}

static void exponentiate_list(List *e, KInst *row) {
  Kernel *k = e->k;
  KInst *largest = kir_load(k, e->largest, e->slot, NULL, NULL), *i = kir_for(k, num(k, 0), e->count, LANES, 0);
  list_store(e, e->weights[Y], i, kir_exp(k, sub(k, list_load(e, e->weights[Y], i, kir_lane(k)), largest)));
  kir_end(k);
}

/* lse or delta of 16 rows: of each its own for gradients of keys, else the position's. */
static KInst *number_of(List *e, int operand, KInst *i, KInst *own_row) {
  if (!e->a->for_keys) return attend_number(e->a, e->a->number[operand], own_row);
  KInst *rows = list_load(e, e->list, i, kir_lane(e->k));
  return kir_load(e->k, e->panel, num(e->k, e->at_number + operand), rows, NULL);
}

/* Weights of the list where lse is known: p and ds. */
static void weigh_list(List *e, KInst *row) {
  Kernel *k = e->k;
  ListDot x = dot_start(e, X, row), y;
  if (e->a->has[X]) y = dot_start(e, Y, row);
  KInst *i = kir_for(k, num(k, 0), e->count, LANES, 0), *rows[LANES];
  rows_from(e, i, rows);
  KInst *score = attend_scaled(e->a, dots(e, &x, rows));
  KInst *p = kir_exp(k, sub(k, score, number_of(e, X, i, row)));
  if (e->a->has[Y]) list_store(e, e->weights[Y], i, p);
  if (e->a->has[X]) list_store(e, e->weights[X], i, attend_ds(k, p, dots(e, &y, rows), number_of(e, Y, i, row)));
  kir_end(k);
}

/* Sums of the rows so weighted, and the position's results. */
static void sum_list(List *e, KInst *own_row) {
  Attention *a = e->a;
  Kernel *k = e->k;
  Sums s;
  if (a->is_forward) {
    s.total = kir_var(k, zero32(k), false);
    s.largest = kir_var(k, kir_load(k, e->largest, e->slot, NULL, NULL), false);
  }
  attend_start_sums(a, &s);
  KInst *i = kir_for(k, num(k, 0), e->count, 1, e->unroll), *row = entry(e, i);
  if (a->is_forward) kir_set(k, s.total, add(k, kir_get(k, s.total), list_load(e, e->weights[Y], i, NULL)));
  for (int operand = Y; operand >= X; operand--) {
    if (!a->has[operand]) continue;
    KInst *weight = list_load(e, e->weights[operand], i, NULL);
    for (int j = 0; j < vectors_of(&a->out[operand]); j++)
      attend_add(k, weight, row_vector(e, operand, row, j), s.of[operand][j]);
  }
  kir_end(k);
  attend_finish(a, &s, own_row, below(k, num(k, 0), e->count));
}

/* ---- items ---- */

typedef void (*PhaseFn)(List *e, KInst *own_row);

/* One phase for all positions of a line: what one of them waits for, the next need not. */
static void each_of_line(List *e, KInst *first, KInst *end, PhaseFn phase) {
  Attention *a = e->a;
  e->own[2] = kir_for(e->k, first, end, 1, 0);
  e->slot = sub(e->k, e->own[2], first);
  e->from = times(e->k, e->slot, e->room);
  if (phase != make_list) e->count = load_int(e->k, e->counts, e->slot);
  phase(e, attend_row(a, a->own, attend_raster(e->k, a->own->grid, e->own)));
  kir_end(e->k);
}

static void emit_item(List *e) {
  static const PhaseFn forward[] = {make_list, score_list, exponentiate_list, sum_list, NULL},
                       backward[] = {make_list, weigh_list, sum_list, NULL};
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *patch[3], *first[3], *end[3];
  attend_open_item(a, 3, e->t.count, patch);
  for (int x = 0; x < 3; x++) {
    e->first[x] = load_int(k, e->t.bounds[x], times(k, patch[x], 2));
    e->last[x] = load_int(k, e->t.bounds[x], plus(k, times(k, patch[x], 2), 1));
    first[x] = times(k, patch[x], e->t.size[x]);
    end[x] = least(k, plus(k, first[x], e->t.size[x]), num(k, a->own->grid[x]));
  }
  pack_box(e);
  for (int x = 0; x < 2; x++) e->own[x] = kir_for(k, first[x], end[x], 1, 0);
  for (const PhaseFn *phase = a->is_forward ? forward : backward; *phase; phase++)
    each_of_line(e, first[2], end[2], *phase);
  kir_end(k);
  kir_end(k);
}

static int scratch(List *e, const char *name, DType t, bool is_needed, int64_t elems) {
  return is_needed ? kir_scratch(e->k, name, t, elems * e->t.size[2]) : -1;
}

void attend_listed(Attention *a, const AttendParams *p) {
  static const char *const name[3] = {"rows_s", "rows_h", "rows_w"};
  List e = layout_of(a);
  e.unroll = p->unroll;
  choose_size(&e, p);
  for (int x = 0; x < 3; x++) e.longest[x] = attend_box(a, x, 1, NULL, NULL);
  attend_patch_tables(a, &e.t, name);
  e.room = (a->most + 3 * LANES) / LANES * LANES;
  e.panel = kir_scratch(e.k, "rows", DTYPE_F32, volume(e.t.box) * e.pitch);
  e.list = scratch(&e, "lists", DTYPE_I32, true, e.room);
  e.counts = scratch(&e, "counts", DTYPE_I32, true, 1);
  e.largest = scratch(&e, "largest", DTYPE_F32, a->is_forward, 1);
  e.weights[Y] = scratch(&e, "weights", DTYPE_F32, a->is_forward || a->has[Y], e.room);
  e.weights[X] = scratch(&e, "ds", DTYPE_F32, a->has[X], e.room);
  e.n = kir_var(e.k, num(e.k, 0), false);
  attend_items(a, 3, a->own->grid, e.t.size);
  emit_item(&e);
}

/* ---- parameters ---- */

/* Few rows a position are not worth their copy, unless all are on few pages and one pass reads them: then a copy costs
 * little.  Nor are lines in another grid. */
static bool pays(const Attention *a) {
  if (a->is_axis && memcmp(a->own->grid, a->other->grid, sizeof a->attrs->query_grid)) return false;
  int64_t bytes = a->other->n * a->other->of[X].row * (int64_t)sizeof(float);
  return a->most > (a->is_forward && 2 * bytes <= NEAR_BYTES ? LANES / 2 : LANES);
}

bool attend_listed_params(Attention *a, const Target *t, AttendParams *out) {
  List e = layout_of(a);
  const int *value;
  int n = params_field_values(PARAMS_ATTEND, PARAM_AT(AttendParams, patch_w), &value), listed = 0;
  if (a->tests_lines || !pays(a) || a->widest > MAX_HEAD_VECTORS || !cheapest_patch(&e)) return false;
  for (int x = 0; x < 3; x++)
    for (int i = 0; i < n; i++) listed += value[i] == e.t.size[x];
  *out = (AttendParams){.nest = 1, .rows = 1, .vectors = 1, .unroll = 2};
  if (listed < 3) return true;
  out->patch_s = (int)e.t.size[0], out->patch_h = (int)e.t.size[1], out->patch_w = (int)e.t.size[2];
  return true;
}

int attend_listed_refuse(Attention *a, const AttendParams *p, Error *err) {
  const int64_t *grid = a->own->grid;
  AttendParams best;
  List e = layout_of(a);
  if (a->tests_lines) return ATTEND_REFUSE(nest, "lines do not hold their centre, or grids of keys and queries differ");
  if (a->widest > MAX_HEAD_VECTORS) return ATTEND_REFUSE(nest, "heads have more than %d vectors", MAX_HEAD_VECTORS);
  if (p->patch_s > grid[0]) return ATTEND_REFUSE(patch_s, "the grid has %lld", (long long)grid[0]);
  if (p->patch_h > grid[1]) return ATTEND_REFUSE(patch_h, "the grid has %lld", (long long)grid[1]);
  if (!p->patch_s != !p->patch_h) return ATTEND_REFUSE(patch_h, "all are 0 or none is (patch_s=%d)", p->patch_s);
  if (p->patch_w > grid[2]) return ATTEND_REFUSE(patch_w, "the grid has %lld", (long long)grid[2]);
  if (!p->patch_s != !p->patch_w) return ATTEND_REFUSE(patch_w, "all are 0 or none is (patch_s=%d)", p->patch_s);
  if (!p->patch_s && attend_listed_params(a, NULL, &best) && best.patch_s)
    return ATTEND_REFUSE(patch_w, "the cheapest box is %d x %d x %d", best.patch_s, best.patch_h, best.patch_w);
  if (!choose_size(&e, p)) return ATTEND_REFUSE(patch_w, "rows take more than %d bytes", SCRATCH_BYTES);
  return -1;
}
