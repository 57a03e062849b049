/* Who sees whom: the others that an own position meets, as loops of all nests visit them, and the boxes of others that
 * patches of own positions meet together.
 *
 * A query sees intervals of keys around its centre (runtime/base/extent.h): all of the box that they span, or of kind
 * axis the three lines through the centre; in raster order nothing after itself. */
#include "codegen/lower/attend/attend.h"

/* ---- one own position ---- */

/* Kernel table of a list per entry: entry i of coordinate c at c * n + i. */
static int table_of(Attention *a, const char *name, const int32_t *const *list, int n, int64_t coords) {
  int32_t *all = ARENA_ARRAY(a->arena, int32_t, n * coords);
  for (int64_t i = 0; i < n * coords; i++) all[i] = list[i % n][i / n];
  return kir_table(a->k, name, DTYPE_I32, all, n * coords);
}

void attend_tables(Attention *a) {
  static const char *const name[2][3] = {{"window_s", "window_h", "window_w"},
                                         {"queries_s", "queries_h", "queries_w"}};
  for (int x = 0; x < 3; x++) {
    const AxisExtent *e = &a->extent->axis[x];
    const int32_t *const window[] = {e->centre, e->lo, e->hi};
    const int32_t *const reverse[] = {e->query_lo, e->query_hi, e->at_lo, e->at_hi};
    a->table[x] = table_of(a, name[0][x], window, COUNT_OF(window), e->queries);
    if (a->for_keys) a->reverse[x] = table_of(a, name[1][x], reverse, COUNT_OF(reverse), e->keys);
  }
}

/* Entry i of a coordinate's n, in its type. */
static KInst *entry_of(Attention *a, int table, int n, KInst *at, int i) {
  Kernel *k = a->k;
  KInst *x = kir_load(k, table, to_i64(k, plus(k, times(k, at, n), i)), NULL, NULL);
  return at->type == K_I64 ? to_i64(k, x) : x;
}

/* The same entry for all queries of an axis (full attention: the whole axis) needs no table. */
static KInst *window_entry(Attention *a, int axis, const int32_t *list, KInst *at, int i) {
  bool is_same = true;
  for (int32_t q = 1; q < a->extent->axis[axis].queries; q++) is_same &= list[q] == list[0];
  return is_same ? like(a->k, at, list[0]) : entry_of(a, a->table[axis], 3, at, i);
}

Sight attend_window(Attention *a, KInst *const at[3]) {
  Sight s;
  for (int x = 0; x < 3; x++) {
    const AxisExtent *e = &a->extent->axis[x];
    s.at[x] = at[x];
    s.near_lo[x] = s.near_hi[x] = window_entry(a, x, e->centre, at[x], 0);
    s.lo[x] = window_entry(a, x, e->lo, at[x], 1);
    s.hi[x] = window_entry(a, x, e->hi, at[x], 2);
  }
  return s;
}

static Sight sight_of_key(Attention *a, KInst *const at[3]) {
  Sight s;
  for (int x = 0; x < 3; x++) {
    KInst **const entry[] = {&s.lo[x], &s.hi[x], &s.near_lo[x], &s.near_hi[x]};
    s.at[x] = at[x];
    for (int i = 0; i < COUNT_OF(entry); i++) *entry[i] = entry_of(a, a->reverse[x], COUNT_OF(entry), at[x], i);
  }
  return s;
}

Sight attend_sight(Attention *a, KInst *const at[3]) { return (a->for_keys ? sight_of_key : attend_window)(a, at); }

void attend_bounds(Attention *a, const Sight *s, int axis, KInst **out_lo, KInst **out_hi) {
  Kernel *k = a->k;
  KInst *lo = s->lo[axis], *hi = s->hi[axis], *at = s->at[axis];
  if (attend_tests_lines(a)) {
    lo = most(k, least(k, lo, s->near_lo[axis]), like(k, at, 0));
    hi = least(k, most(k, hi, s->near_hi[axis]), like(k, at, a->other->grid[axis] - 1));
  }
  if (axis == a->cut && a->for_keys) lo = most(k, lo, at);
  if (axis == a->cut && !a->for_keys) hi = least(k, hi, at);
  *out_lo = lo;
  *out_hi = hi;
}

void attend_narrow(Attention *a, const Sight *s, int axis, KInst *same, KInst **lo, KInst **hi) {
  Kernel *k = a->k;
  if (a->is_axis) {
    *lo = pick(k, same, *lo, most(k, *lo, s->near_lo[axis]));
    *hi = pick(k, same, *hi, least(k, *hi, s->near_hi[axis]));
  }
  if (!a->is_raster) return;
  if (a->for_keys) *lo = pick(k, same, most(k, *lo, s->at[axis]), *lo);
  else *hi = pick(k, same, least(k, *hi, s->at[axis]), *hi);
}

KInst *attend_same(Attention *a, const Sight *s, int axis, KInst *x, KInst *same) {
  Kernel *k = a->k;
  KInst *lo = a->is_axis ? s->near_lo[axis] : s->at[axis], *hi = a->is_axis ? s->near_hi[axis] : lo;
  if (!a->is_axis && !a->is_raster) return same;
  return both(k, same, lo == hi ? equal(k, x, lo) : within(k, lo, x, hi));
}

void attend_visit(Attention *a, const Sight *s, int n, KInst **at, KInst **lo, KInst **hi) {
  KInst *same = kir_bool(a->k, true);
  for (int x = 0; x < 3 && x <= n; x++) {
    attend_bounds(a, s, x, &lo[x], &hi[x]);
    attend_narrow(a, s, x, same, &lo[x], &hi[x]);
    if (x == n) return;
    at[x] = kir_for(a->k, lo[x], plus(a->k, hi[x], 1), 1, 0);
    same = attend_same(a, s, x, at[x], same);
  }
}

KInst *attend_on_line(Kernel *k, const Sight *query, KInst *const key[3]) {
  KInst *at[3], *in[3], *sees = NULL;
  for (int x = 0; x < 3; x++) {
    at[x] = equal(k, query->near_lo[x], key[x]);
    in[x] = within(k, query->lo[x], key[x], query->hi[x]);
  }
  for (int x = 0; x < 3; x++) {
    KInst *line = both(k, in[x], both(k, at[(x + 1) % 3], at[(x + 2) % 3]));
    sees = sees ? kir_bin(k, KOP_OR, sees, line) : line;
  }
  return sees;
}

/* ---- patches of own positions ---- */

void attend_meets(const Attention *a, int axis, int32_t i, int32_t *lo, int32_t *hi) {
  const AxisExtent *e = &a->extent->axis[axis];
  int32_t near_lo = a->for_keys ? e->at_lo[i] : e->centre[i], near_hi = a->for_keys ? e->at_hi[i] : e->centre[i];
  *lo = a->for_keys ? e->query_lo[i] : e->lo[i];
  *hi = a->for_keys ? e->query_hi[i] : e->hi[i];
  if (a->is_axis && near_lo <= near_hi) {
    bool is_empty = *lo > *hi;
    if (is_empty || near_lo < *lo) *lo = near_lo;
    if (is_empty || near_hi > *hi) *hi = near_hi;
  }
  if (axis != a->cut) return;
  if (a->for_keys && *lo < i) *lo = i;
  if (!a->for_keys && *hi > i) *hi = i;
}

int64_t attend_box(const Attention *a, int axis, int64_t size, double *sum, int32_t *bounds) {
  int64_t longest = 1, n = a->own->grid[axis], others = a->other->grid[axis];
  if (sum) *sum = 0;
  for (int64_t from = 0; from < n; from += size) {
    int32_t first = (int32_t)others, last = -1;
    for (int64_t i = from; i < n && i < from + size; i++) {
      int32_t lo, hi;
      attend_meets(a, axis, (int32_t)i, &lo, &hi);
      if (lo > hi) continue;
      if (lo < first) first = lo;
      if (hi > last) last = hi;
    }
    if (first < 0) first = 0;
    if (last >= others) last = (int32_t)others - 1;
    if (last - first + 1 > longest) longest = last - first + 1;
    if (sum && last >= first) *sum += last - first + 1;
    if (bounds) bounds[from / size * 2] = first, bounds[from / size * 2 + 1] = last;
  }
  return longest;
}

void attend_patches(const Attention *a, Patches *p) {
  for (int x = 0; x < 3; x++) {
    p->count[x] = parts_of(a->own->grid[x], p->size[x]);
    p->box[x] = attend_box(a, x, p->size[x], NULL, NULL);
  }
}

void attend_patch_tables(Attention *a, Patches *p, const char *const name[3]) {
  for (int x = 0; x < 3; x++) {
    int32_t *bounds = ARENA_ARRAY(a->arena, int32_t, 2 * p->count[x]);
    attend_box(a, x, p->size[x], NULL, bounds);
    p->bounds[x] = kir_table(a->k, name[x], DTYPE_I32, bounds, 2 * p->count[x]);
  }
}

void attend_items(Attention *a, int n, const int64_t *grid, const int64_t *size) {
  kir_factor(a->k, a->samples, 1);
  for (int x = 0; x < n; x++) kir_factor(a->k, dim_const(grid[x]), size[x]);
  kir_factor(a->k, dim_const(a->attrs->heads), 1);
}

void attend_open_item(Attention *a, int n, const int64_t *count, KInst **out_piece) {
  KInst *item = kir_item(a->k);
  a->head = kir_peel(a->k, &item, num(a->k, a->attrs->heads));
  for (int x = n - 1; x >= 0; x--) out_piece[x] = kir_peel(a->k, &item, num(a->k, count[x]));
  a->sample = item;
}
