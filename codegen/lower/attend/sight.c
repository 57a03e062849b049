/* Who sees whom: the others that an own position meets, as loops of all nests visit them, and the boxes of others that
 * patches of own positions meet together.
 *
 * A query sees intervals of keys around its centre (runtime/base/extent.h): all of the box that they span, or of kind
 * axis the three lines through the centre; in raster order nothing after itself. */
#include <string.h>

#include "codegen/lower/attend/attend.h"

/* ---- on one axis ---- */

/* The others that an own coordinate may meet, first and last, and those on its own plane.  lo > hi: none. */
typedef struct Meets {
  int32_t lo, hi, near_lo, near_hi;
} Meets;

/* Lines go through the centre, wherever the interval is. */
static Meets meets(const Attention *a, int axis, int32_t i) {
  const AxisExtent *e = &a->extent->axis[axis];
  Meets m = {e->lo[i], e->hi[i], e->centre[i], e->centre[i]};
  if (a->for_keys) m = (Meets){e->query_lo[i], e->query_hi[i], e->at_lo[i], e->at_hi[i]};
  if (a->is_axis && m.near_lo <= m.near_hi) {
    bool is_empty = m.lo > m.hi;
    if (is_empty || m.near_lo < m.lo) m.lo = m.near_lo;
    if (is_empty || m.near_hi > m.hi) m.hi = m.near_hi;
  }
  if (axis == a->cut && a->for_keys && m.lo < i) m.lo = i;
  if (axis == a->cut && !a->for_keys && m.hi > i) m.hi = i;
  return m;
}

/* ---- tables for kernels ---- */

static AxisTable table_of(Attention *a, const char *name, int fields, int64_t coords) {
  return (AxisTable){.name = name, .fields = fields, .coords = coords, .buf = -1,
                     .entry = ARENA_ARRAY(a->arena, int32_t, fields * coords)};
}

void attend_tables(Attention *a) {
  static const char *const name[2][3] = {{"met_s", "met_h", "met_w"}, {"window_s", "window_h", "window_w"}};
  for (int x = 0; x < 3; x++) {
    const AxisExtent *e = &a->extent->axis[x];
    a->met[x] = table_of(a, name[0][x], !a->is_axis ? 2 : a->for_keys && a->tests_lines ? 4 : 3, a->own->grid[x]);
    a->window[x] = table_of(a, name[1][x], 3, e->queries);
    for (int32_t i = 0; i < a->met[x].coords; i++) {
      Meets m = meets(a, x, i);
      memcpy(a->met[x].entry + i * a->met[x].fields, &m, (size_t)a->met[x].fields * sizeof(int32_t));
    }
    for (int32_t q = 0; q < e->queries; q++)
      memcpy(a->window[x].entry + 3 * q, (int32_t[]){e->lo[q], e->hi[q], e->centre[q]}, 3 * sizeof(int32_t));
  }
}

/* A field of a coordinate, in its type.  No table is needed where it is the same for all (full attention: the whole
 * axis) or the coordinate itself (the centre in a grid of the same size). */
static KInst *field_of(Attention *a, AxisTable *t, KInst *at, int field) {
  Kernel *k = a->k;
  bool is_same = true, is_own = true;
  for (int64_t i = 0; i < t->coords; i++) {
    int32_t x = t->entry[i * t->fields + field];
    is_same &= x == t->entry[field];
    is_own &= x == i;
  }
  if (is_same) return like(k, at, t->entry[field]);
  if (is_own) return at;
  if (t->buf < 0) t->buf = kir_table(k, t->name, DTYPE_I32, t->entry, t->fields * t->coords);
  KInst *x = kir_load(k, t->buf, to_i64(k, plus(k, times(k, at, t->fields), field)), NULL, NULL);
  return at->type == K_I64 ? to_i64(k, x) : x;
}

static Sight sight_of(Attention *a, AxisTable *tables, KInst *const at[3]) {
  Sight s = {.at = {at[0], at[1], at[2]}};
  for (int x = 0; x < 3; x++) {
    AxisTable *t = &tables[x];
    s.lo[x] = field_of(a, t, at[x], 0);
    s.hi[x] = field_of(a, t, at[x], 1);
    if (t->fields > 2) s.near_lo[x] = s.near_hi[x] = field_of(a, t, at[x], 2);
    if (t->fields > 3) s.near_hi[x] = field_of(a, t, at[x], 3);
  }
  return s;
}

Sight attend_sight(Attention *a, KInst *const at[3]) { return sight_of(a, a->met, at); }
Sight attend_window(Attention *a, KInst *const query[3]) { return sight_of(a, a->window, query); }

/* ---- visiting ---- */

void attend_narrow(Attention *a, const Sight *s, int axis, KInst *same, KInst **lo, KInst **hi) {
  Kernel *k = a->k;
  if (a->is_axis) {
    *lo = pick(k, same, *lo, most(k, *lo, s->near_lo[axis]));
    *hi = pick(k, same, *hi, least(k, *hi, s->near_hi[axis]));
  }
  if (!a->is_raster || axis <= a->cut) return;   /* that axis is cut in its table */
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
    lo[x] = s->lo[x];
    hi[x] = s->hi[x];
    attend_narrow(a, s, x, same, &lo[x], &hi[x]);
    if (x == n) return;
    at[x] = kir_for(a->k, lo[x], plus(a->k, hi[x], 1), 1, 0);
    same = attend_same(a, s, x, at[x], same);
  }
}

KInst *attend_on_line(Kernel *k, const Sight *window, KInst *const key[3]) {
  KInst *at[3], *in[3], *sees = NULL;
  for (int x = 0; x < 3; x++) {
    at[x] = equal(k, window->near_lo[x], key[x]);
    in[x] = within(k, window->lo[x], key[x], window->hi[x]);
  }
  for (int x = 0; x < 3; x++) {
    KInst *line = both(k, in[x], both(k, at[(x + 1) % 3], at[(x + 2) % 3]));
    sees = sees ? kir_bin(k, KOP_OR, sees, line) : line;
  }
  return sees;
}

/* ---- patches of own positions ---- */

int64_t attend_box(const Attention *a, int axis, int64_t size, double *sum, int32_t *bounds) {
  int64_t longest = 1, n = a->own->grid[axis], others = a->other->grid[axis];
  if (sum) *sum = 0;
  for (int64_t from = 0; from < n; from += size) {
    int32_t first = (int32_t)others, last = -1;
    for (int64_t i = from; i < n && i < from + size; i++) {
      Meets m = meets(a, axis, (int32_t)i);
      if (m.lo > m.hi) continue;
      if (m.lo < first) first = m.lo;
      if (m.hi > last) last = m.hi;
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
