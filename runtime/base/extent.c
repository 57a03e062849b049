/* What an attention sees (design section 2), as intervals on each axis.  Everything else is derived from these. */
#include "runtime/base/extent.h"

#include <stdio.h>
#include <string.h>

static int64_t min64(int64_t x, int64_t y) { return x < y ? x : y; }
static int64_t max64(int64_t x, int64_t y) { return x > y ? x : y; }

static bool broken(const char **out_rule, const char *rule) {
  *out_rule = rule;
  return false;
}

bool extent_check(const AttendAttrs *a, const char **out_rule, char detail[EXTENT_DETAIL]) {
  const long long kind = (long long)a->kind, edge = (long long)a->edge, causal = (long long)a->causal;
  snprintf(detail, EXTENT_DETAIL, "%lld, %lld, %lld", kind, edge, causal);
  if (kind < 0 || kind > ATTEND_BLOCK || edge < 0 || edge > EDGE_SHIFT || causal < 0 || causal > CAUSAL_PAST)
    return broken(out_rule, "unknown kind, edge or causal");
  for (int x = 0; x < 3; x++) {
    const long long lo = a->lo[x], hi = a->hi[x], block = a->block[x], q = a->query_grid[x], k = a->key_grid[x];
    const char axis = "shw"[x];
    snprintf(detail, EXTENT_DETAIL, "axis %c: %lld and %lld", axis, q, k);
    if (q < 1 || k < 1 || q > EXTENT_INF || k > EXTENT_INF) return broken(out_rule, "a grid needs sizes of at least 1");
    snprintf(detail, EXTENT_DETAIL, "axis %c: lo %lld > hi %lld", axis, lo, hi);
    if (lo > hi) return broken(out_rule, "the extent is empty");
    snprintf(detail, EXTENT_DETAIL, "axis %c: lo %lld, hi %lld", axis, lo, hi);
    if (lo < -EXTENT_INF || hi > EXTENT_INF) return broken(out_rule, "the extent is out of range");
    snprintf(detail, EXTENT_DETAIL, "axis %c: %lld", axis, block);
    if (kind == ATTEND_BLOCK && block < 1) return broken(out_rule, "a block needs at least one key");
    if (block > EXTENT_INF) return broken(out_rule, "the block is out of range");
  }
  for (int x = 0; x < 3 && causal != CAUSAL_NONE; x++) {
    const long long q = a->query_grid[x], k = a->key_grid[x];
    snprintf(detail, EXTENT_DETAIL, "axis %c: %lld vs %lld", "shw"[x], q, k);
    if (q != k) return broken(out_rule, "causal needs equal grids");
  }
  return true;
}

typedef struct KeyRange {
  int64_t lo, hi;   /* inclusive */
} KeyRange;

/* The window around centre c on an axis of n keys, under the edge rule.  An infinite end is the end of the axis and
 * cannot move, so `shift` moves a window only when both of its ends are finite. */
static KeyRange window(const AttendAttrs *a, int x, int64_t c, int64_t n) {
  bool open_lo = a->lo[x] <= -EXTENT_INF, open_hi = a->hi[x] >= EXTENT_INF;
  int64_t lo = open_lo ? 0 : c + a->lo[x], hi = open_hi ? n - 1 : c + a->hi[x];
  if (a->edge == EDGE_SHIFT && !open_lo && !open_hi) {
    int64_t width = hi - lo + 1;
    if (width >= n) return (KeyRange){0, n - 1};
    lo = min64(max64(lo, 0), n - width);
    hi = lo + width - 1;
  }
  return (KeyRange){max64(lo, 0), min64(hi, n - 1)};
}

static KeyRange visible(const AttendAttrs *a, int x, int64_t c, int64_t n) {
  KeyRange v = {0, n - 1};
  if (a->kind == ATTEND_BLOCK) {
    v.lo = c / a->block[x] * a->block[x];
    v.hi = min64(v.lo + a->block[x] - 1, n - 1);
  } else if (a->kind != ATTEND_FULL) {
    v = window(a, x, c, n);
  }
  if (a->causal == CAUSAL_PAST) v.hi = min64(v.hi, c);
  return v;
}

/* lo and hi never decrease, so the queries with lo <= key are a prefix and those with hi >= key a suffix. */
static void reverse(AxisExtent *e) {
  int32_t last = 0, first = 0, at = 0;
  for (int32_t k = 0; k < e->keys; k++) {
    while (last < e->queries && e->lo[last] <= k) last++;
    while (first < e->queries && e->hi[first] < k) first++;
    e->query_lo[k] = first;
    e->query_hi[k] = last - 1;
    while (at < e->queries && e->centre[at] < k) at++;
    e->at_lo[k] = at;
    while (at < e->queries && e->centre[at] == k) at++;
    e->at_hi[k] = at - 1;
  }
}

static void axis_init(Arena *arena, AxisExtent *e, const AttendAttrs *a, int x) {
  int64_t queries = a->query_grid[x], keys = a->key_grid[x];
  BUG_IF(queries < 1 || keys < 1 || queries > EXTENT_INF || keys > EXTENT_INF,
         "extent of a grid axis of %lld and %lld", (long long)queries, (long long)keys);
  *e = (AxisExtent){.queries = (int32_t)queries, .keys = (int32_t)keys};
  int32_t **of_query[] = {&e->centre, &e->lo, &e->hi};
  int32_t **of_key[] = {&e->query_lo, &e->query_hi, &e->at_lo, &e->at_hi};
  for (int i = 0; i < COUNT_OF(of_query); i++) *of_query[i] = ARENA_ARRAY(arena, int32_t, queries);
  for (int i = 0; i < COUNT_OF(of_key); i++) *of_key[i] = ARENA_ARRAY(arena, int32_t, keys);
  for (int64_t q = 0; q < queries; q++) {
    int64_t c = q * keys / queries;
    KeyRange v = visible(a, x, c, keys);
    e->centre[q] = (int32_t)c;
    e->lo[q] = (int32_t)min64(v.lo, keys);
    e->hi[q] = (int32_t)max64(v.hi, -1);
    BUG_IF(q > 0 && (e->lo[q] < e->lo[q - 1] || e->hi[q] < e->hi[q - 1]),
           "the interval of query %lld on axis %c steps back", (long long)q, "shw"[x]);
  }
  reverse(e);
}

Extent *extent_new(Arena *a, const AttendAttrs *attrs) {
  Extent *e = ARENA_NEW(a, Extent);
  e->is_axis = attrs->kind == ATTEND_AXIS;
  e->is_raster = attrs->causal == CAUSAL_RASTER;
  for (int x = 0; x < 3; x++) axis_init(a, &e->axis[x], attrs, x);
  return e;
}

static int64_t raster_index(const Extent *e, const int64_t p[3]) {
  return (p[0] * e->axis[1].keys + p[1]) * e->axis[2].keys + p[2];
}

static bool in_interval(const AxisExtent *e, int64_t q, int64_t key) { return key >= e->lo[q] && key <= e->hi[q]; }

/* Some line through the centre holds the key: all other axes are at the centre. */
static bool on_line(const Extent *e, const int64_t q[3], const int64_t key[3]) {
  for (int x = 0; x < 3; x++) {
    bool others = true;
    for (int y = 0; y < 3; y++) others = others && (y == x || key[y] == e->axis[y].centre[q[y]]);
    if (others && in_interval(&e->axis[x], q[x], key[x])) return true;
  }
  return false;
}

bool extent_sees(const Extent *e, const int64_t q[3], const int64_t key[3]) {
  for (int x = 0; x < 3; x++)
    if (key[x] < 0 || key[x] >= e->axis[x].keys) return false;
  if (e->is_raster && raster_index(e, key) > raster_index(e, q)) return false; /* the grids are equal */
  if (e->is_axis) return on_line(e, q, key);
  for (int x = 0; x < 3; x++)
    if (!in_interval(&e->axis[x], q[x], key[x])) return false;
  return true;
}

/* How many keys of [lo[q], hi[q]] are at most `end`. */
static int64_t count_to(const AxisExtent *e, int64_t q, int64_t end) {
  return max64(min64(e->hi[q], end) - e->lo[q] + 1, 0);
}

static int64_t count_product(const Extent *e, const int64_t q[3]) {
  int64_t all[3], before[3], at[3];
  for (int x = 0; x < 3; x++) {
    all[x] = count_to(&e->axis[x], q[x], e->axis[x].keys);
    before[x] = count_to(&e->axis[x], q[x], q[x] - 1);
    at[x] = count_to(&e->axis[x], q[x], q[x]) - before[x];
  }
  if (!e->is_raster) return all[0] * all[1] * all[2];
  return before[0] * all[1] * all[2] + at[0] * (before[1] * all[2] + at[1] * (before[2] + at[2]));
}

static int64_t count_lines(const Extent *e, const int64_t q[3]) {
  int64_t n = 0, with_centre = 0;
  for (int x = 0; x < 3; x++) {
    int64_t c = e->axis[x].centre[q[x]];
    n += count_to(&e->axis[x], q[x], e->is_raster ? c : e->axis[x].keys);
    with_centre += in_interval(&e->axis[x], q[x], c);
  }
  return with_centre > 1 ? n - (with_centre - 1) : n;
}

int64_t extent_count(const Extent *e, const int64_t q[3]) {
  return e->is_axis ? count_lines(e, q) : count_product(e, q);
}

int64_t extent_max_keys(const Extent *e) {
  int64_t most = 0, q[3];
  for (q[0] = 0; q[0] < e->axis[0].queries; q[0]++)
    for (q[1] = 0; q[1] < e->axis[1].queries; q[1]++)
      for (q[2] = 0; q[2] < e->axis[2].queries; q[2]++) most = max64(most, extent_count(e, q));
  return most;
}

int64_t extent_max_queries(const Extent *e) {
  int64_t longest[3] = {0}, centred[3] = {0}, box = 1, lines = 0;
  for (int x = 0; x < 3; x++) {
    const AxisExtent *axis = &e->axis[x];
    for (int32_t key = 0; key < axis->keys; key++) {
      longest[x] = max64(longest[x], axis->query_hi[key] - axis->query_lo[key] + 1);
      centred[x] = max64(centred[x], axis->at_hi[key] - axis->at_lo[key] + 1);
    }
    box *= longest[x];
  }
  for (int x = 0; x < 3; x++) lines += longest[x] * centred[(x + 1) % 3] * centred[(x + 2) % 3];
  return e->is_axis ? lines : box;
}

bool extent_is_full(const Extent *e) {
  if (e->is_axis) return false;
  for (int x = 0; x < 3; x++)
    for (int32_t q = 0; q < e->axis[x].queries; q++)
      if (e->axis[x].lo[q] > 0 || e->axis[x].hi[q] < e->axis[x].keys - 1) return false;
  return true;
}

bool extent_holds_centre(const Extent *e) {
  for (int x = 0; x < 3; x++)
    for (int32_t q = 0; q < e->axis[x].queries; q++)
      if (!in_interval(&e->axis[x], q, e->axis[x].centre[q])) return false;
  return true;
}

/* ---- visiting ---- */

/* What coordinate x of a key that q sees may be, when its earlier ones are given: on a line they decide whether this
 * one moves (all are the centre's) or not.  `same`: they are all the centre's, and so, with `raster`, the query's. */
static KeyRange key_range(const Extent *e, const int64_t q[3], int x, bool same) {
  const AxisExtent *a = &e->axis[x];
  int64_t at = q[x], centre = a->centre[at];
  KeyRange k = {a->lo[at], a->hi[at]};
  if (e->is_axis) k = same ? (KeyRange){min64(k.lo, centre), max64(k.hi, centre)} : (KeyRange){centre, centre};
  if (e->is_raster && same) k.hi = min64(k.hi, at);
  return k;
}

bool extent_visit(const Extent *e, const int64_t q[3], ExtentVisit visit, void *ctx) {
  int64_t k[3], centre[3];
  for (int x = 0; x < 3; x++) centre[x] = e->axis[x].centre[q[x]];
  KeyRange s = key_range(e, q, 0, true);
  for (k[0] = s.lo; k[0] <= s.hi; k[0]++) {
    KeyRange h = key_range(e, q, 1, k[0] == centre[0]);
    for (k[1] = h.lo; k[1] <= h.hi; k[1]++) {
      KeyRange w = key_range(e, q, 2, k[0] == centre[0] && k[1] == centre[1]);
      for (k[2] = w.lo; k[2] <= w.hi; k[2]++)
        if ((!e->is_axis || on_line(e, q, k)) && !visit(ctx, raster_index(e, k))) return false;
    }
  }
  return true;
}

/* ---- offsets ---- */

/* Which offsets key - query occur on an axis: index offset + queries - 1, [queries + keys - 1]. */
typedef struct AxisOffsets {
  bool *in_window, *to_centre;
} AxisOffsets;

static AxisOffsets axis_offsets(Arena *a, const AxisExtent *e) {
  AxisOffsets o = {ARENA_ARRAY(a, bool, e->queries + e->keys - 1), ARENA_ARRAY(a, bool, e->queries + e->keys - 1)};
  for (int32_t q = 0; q < e->queries; q++) {
    int32_t zero = e->queries - 1 - q;
    o.to_centre[e->centre[q] + zero] = true;
    for (int32_t k = e->lo[q]; k <= e->hi[q]; k++) o.in_window[k + zero] = true;
  }
  return o;
}

/* Axes are independent of each other, and within one grid whether a key comes after the query in raster order depends
 * on the offset alone; so an offset occurs iff each of its parts does. */
static bool offset_occurs(const Extent *e, const AxisOffsets o[3], const int64_t d[3]) {
  if (e->is_raster && (d[0] > 0 || (d[0] == 0 && (d[1] > 0 || (d[1] == 0 && d[2] > 0))))) return false;
  bool in[3], at[3];
  for (int x = 0; x < 3; x++) {
    int64_t i = d[x] + e->axis[x].queries - 1;
    in[x] = o[x].in_window[i];
    at[x] = o[x].to_centre[i];
  }
  if (!e->is_axis) return in[0] && in[1] && in[2];
  return (in[0] && at[1] && at[2]) || (at[0] && in[1] && at[2]) || (at[0] && at[1] && in[2]);
}

int extent_offsets(Arena *a, const Extent *e, int64_t (**out)[3]) {
  AxisOffsets o[3];
  int64_t lo[3], hi[3], d[3];
  for (int x = 0; x < 3; x++) {
    o[x] = axis_offsets(a, &e->axis[x]);
    lo[x] = 1 - e->axis[x].queries;
    hi[x] = e->axis[x].keys - 1;
  }
  int n = 0, cap = 0;
  *out = NULL;
  for (d[0] = lo[0]; d[0] <= hi[0]; d[0]++)
    for (d[1] = lo[1]; d[1] <= hi[1]; d[1]++)
      for (d[2] = lo[2]; d[2] <= hi[2]; d[2]++) {
        if (!offset_occurs(e, o, d)) continue;
        if (n == cap) *out = arena_grow(a, *out, (size_t)n, sizeof **out, &cap);
        memcpy((*out)[n++], d, sizeof d);
      }
  return n;
}
