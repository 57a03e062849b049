/* Extents against the words of design section 2, spelled out key by key. */
#include <string.h>

#include "runtime/base/extent.h"
#include "runtime/base/philox.h"
#include "tests/test.h"

static Error err;

/* ---- the definition, written without looking at extent.c ---- */

static bool in_line(const AttendAttrs *a, int x, int64_t c, int64_t key) {
  int64_t n = a->key_grid[x], lo = a->lo[x], hi = a->hi[x];
  bool has_lo = lo > -EXTENT_INF, has_hi = hi < EXTENT_INF;
  int64_t move = 0;
  if (a->edge == EDGE_SHIFT && has_lo && has_hi) {
    if (hi - lo + 1 >= n) return true;
    while (c + lo + move < 0) move++;
    while (c + hi + move > n - 1) move--;
  }
  return (!has_lo || key - c >= lo + move) && (!has_hi || key - c <= hi + move);
}

static bool sees(const AttendAttrs *a, const int64_t q[3], const int64_t key[3]) {
  int64_t c[3];
  for (int x = 0; x < 3; x++) c[x] = q[x] * a->key_grid[x] / a->query_grid[x];
  int64_t h = a->key_grid[1], w = a->key_grid[2];
  if (a->causal == CAUSAL_RASTER && (key[0] * h + key[1]) * w + key[2] > (q[0] * h + q[1]) * w + q[2]) return false;
  for (int x = 0; x < 3; x++)
    if (a->causal == CAUSAL_PAST && key[x] > c[x]) return false;
  switch (a->kind) {
    case ATTEND_FULL: return true;
    case ATTEND_BLOCK:
      for (int x = 0; x < 3; x++)
        if (c[x] / a->block[x] != key[x] / a->block[x]) return false;
      return true;
    case ATTEND_NEARBY:
      return in_line(a, 0, c[0], key[0]) && in_line(a, 1, c[1], key[1]) && in_line(a, 2, c[2], key[2]);
    case ATTEND_AXIS: {
      bool at[3], seen = false;
      for (int x = 0; x < 3; x++) at[x] = key[x] == c[x];
      for (int x = 0; x < 3; x++) seen = seen || (at[(x + 1) % 3] && at[(x + 2) % 3] && in_line(a, x, c[x], key[x]));
      return seen;
    }
  }
  return false;
}

/* ---- random attributes ---- */

static uint32_t draw(uint32_t test, uint32_t i, uint32_t n) { return philox(7, test, i, STREAM_TEST).word[0] % n; }

static AttendAttrs random_attrs(uint32_t t) {
  AttendAttrs a = {.heads = 1, .kind = (AttendKind)(t % 4), .edge = (EdgeRule)(t / 4 % 2), .causal = (Causal)(t / 8 % 3)};
  for (uint32_t x = 0; x < 3; x++) {
    a.query_grid[x] = 1 + draw(t, 10 + x, 6);
    a.key_grid[x] = a.causal != CAUSAL_NONE || draw(t, 3, 3) == 0 ? a.query_grid[x] : 1 + draw(t, 20 + x, 7);
    int64_t width = 1 + draw(t, 30 + x, 8);
    a.lo[x] = -(width / 2);                      /* odd e: -(e-1)/2, even e: -e/2 */
    a.hi[x] = a.lo[x] + width - 1;
    if (draw(t, 40 + x, 4) == 0) a.lo[x] = (int64_t)draw(t, 50 + x, 7) - 4, a.hi[x] = a.lo[x] + draw(t, 60 + x, 4);
    if (draw(t, 70 + x, 4) == 0) a.lo[x] = -EXTENT_INF;
    if (draw(t, 80 + x, 4) == 0) a.hi[x] = EXTENT_INF;
    a.block[x] = 1 + draw(t, 90 + x, 5);
  }
  return a;
}

typedef struct Case {
  Arena *arena;
  AttendAttrs attrs;
  Extent *e;
  bool offset[27][27][27];   /* key - query + 13 */
  int64_t seen[343];         /* raster indices of the keys that the query at hand sees, by the definition */
  int64_t n_seen, at;
  int64_t max_keys;
} Case;

static bool next(int64_t p[3], const int64_t grid[3]) {
  for (int x = 2; x >= 0; x--) {
    if (++p[x] < grid[x]) return true;
    p[x] = 0;
  }
  return false;
}

static bool visit(void *ctx, int64_t key) {
  Case *c = ctx;
  EXPECT(c->at < c->n_seen && c->seen[c->at] == key, "key %d is visited", (int)key);
  c->at++;
  return true;
}

static bool stop_at_second(void *ctx, int64_t key) { return ++*(int *)ctx < 2; }

static void compare_query(Case *c, const int64_t q[3], uint32_t t) {
  int64_t k[3] = {0}, index = 0;
  c->n_seen = c->at = 0;
  do {
    bool want = sees(&c->attrs, q, k);
    EXPECT(extent_sees(c->e, q, k) == want, "case %u: query %d %d %d key %d %d %d", t, (int)q[0], (int)q[1], (int)q[2],
           (int)k[0], (int)k[1], (int)k[2]);
    if (want) c->offset[k[0] - q[0] + 13][k[1] - q[1] + 13][k[2] - q[2] + 13] = true;
    if (want) c->seen[c->n_seen++] = index;
    index++;
  } while (next(k, c->attrs.key_grid));
  EXPECT(extent_visit(c->e, q, visit, c) && c->at == c->n_seen, "case %u: %d keys visited, want %d", t, (int)c->at,
         (int)c->n_seen);
  EXPECT(extent_count(c->e, q) == c->n_seen, "case %u: %d keys counted, want %d", t, (int)extent_count(c->e, q),
         (int)c->n_seen);
  int visited = 0;
  EXPECT(extent_visit(c->e, q, stop_at_second, &visited) == (c->n_seen < 2) && visited == (c->n_seen < 2 ? c->n_seen : 2));
  if (c->n_seen > c->max_keys) c->max_keys = c->n_seen;
}

/* Whether all see all, and the most queries that see one key. */
static void compare_whole(Case *c, uint32_t t) {
  int64_t q[3] = {0}, k[3] = {0}, most = 0;
  bool full = c->attrs.kind != ATTEND_AXIS, centred = true;
  do {
    int64_t readers = 0;
    memset(q, 0, sizeof q);
    do {
      readers += sees(&c->attrs, q, k);
      AttendAttrs uncut = c->attrs;
      if (uncut.causal == CAUSAL_RASTER) uncut.causal = CAUSAL_NONE;
      full = full && sees(&uncut, q, k);
    } while (next(q, c->attrs.query_grid));
    most = readers > most ? readers : most;
  } while (next(k, c->attrs.key_grid));
  for (int x = 0; x < 3; x++)
    for (int64_t i = 0; i < c->attrs.query_grid[x]; i++) {
      int64_t centre = i * c->attrs.key_grid[x] / c->attrs.query_grid[x];
      bool windowed = c->attrs.kind == ATTEND_AXIS || c->attrs.kind == ATTEND_NEARBY;
      centred = centred && (!windowed || in_line(&c->attrs, x, centre, centre));
    }
  EXPECT(extent_is_full(c->e) == full, "case %u", t);
  EXPECT(extent_holds_centre(c->e) == centred, "case %u", t);
  EXPECT(extent_max_queries(c->e) >= most, "case %u: at most %d queries, %d see one key", t,
         (int)extent_max_queries(c->e), (int)most);
}

static void compare_sees(Case *c, uint32_t t) {
  int64_t q[3] = {0};
  do compare_query(c, q, t);
  while (next(q, c->attrs.query_grid));
}

static void compare_reverse(const Case *c, uint32_t t) {
  for (int x = 0; x < 3; x++) {
    const AxisExtent *e = &c->e->axis[x];
    for (int q = 0; q < e->queries; q++)
      for (int k = 0; k < e->keys; k++) {
        EXPECT((e->lo[q] <= k && k <= e->hi[q]) == (e->query_lo[k] <= q && q <= e->query_hi[k]), "case %u", t);
        EXPECT((e->centre[q] == k) == (e->at_lo[k] <= q && q <= e->at_hi[k]), "case %u", t);
      }
  }
}

static void compare_offsets(const Case *c, uint32_t t) {
  int64_t(*offset)[3];
  int n = extent_offsets(c->arena, c->e, &offset), i = 0;
  for (int s = 0; s < 27; s++)
    for (int h = 0; h < 27; h++)
      for (int w = 0; w < 27; w++) {
        if (!c->offset[s][h][w]) continue;
        bool same = i < n && offset[i][0] == s - 13 && offset[i][1] == h - 13 && offset[i][2] == w - 13;
        EXPECT(same, "case %u: offset %d", t, i);
        i++;
      }
  EXPECT(i == n, "case %u: %d offsets, want %d", t, n, i);
}

static void compare_random(void *ctx) {
  Case *c = ctx;
  for (uint32_t t = 0; t < 1500; t++) {
    *c = (Case){.arena = c->arena, .attrs = random_attrs(t)};
    c->e = extent_new(c->arena, &c->attrs);
    compare_sees(c, t);
    compare_whole(c, t);
    compare_reverse(c, t);
    compare_offsets(c, t);
    EXPECT(extent_max_keys(c->e) == c->max_keys, "case %u: %d keys, want %d", t, (int)extent_max_keys(c->e),
           (int)c->max_keys);
  }
}

TEST("extents of random attributes are those of the definition") {
  static Case c;
  c.arena = arena_new();
  EXPECT(arena_protect(c.arena, compare_random, &c, &err), "%s", err.text);
  arena_free(c.arena);
}

static AttendAttrs box(AttendKind kind, int64_t e, Causal causal, EdgeRule edge) {
  AttendAttrs a = {.heads = 1, .kind = kind, .causal = causal, .edge = edge, .query_grid = {10, 21, 21}};
  for (int x = 0; x < 3; x++) {
    a.key_grid[x] = a.query_grid[x];
    a.lo[x] = e ? -(e / 2) : -EXTENT_INF;
    a.hi[x] = e ? (e - 1) / 2 : EXTENT_INF;
  }
  return a;
}

static void known(void *ctx) {
  Arena *a = ctx;
  int64_t(*o)[3];
  AttendAttrs near = box(ATTEND_NEARBY, 3, CAUSAL_RASTER, EDGE_CLIP);
  EXPECT(extent_offsets(a, extent_new(a, &near), &o) == 14 && extent_max_keys(extent_new(a, &near)) == 14);
  AttendAttrs past = box(ATTEND_NEARBY, 3, CAUSAL_PAST, EDGE_CLIP);
  EXPECT(extent_max_keys(extent_new(a, &past)) == 8);
  AttendAttrs line = box(ATTEND_AXIS, 0, CAUSAL_NONE, EDGE_CLIP);
  EXPECT(extent_max_keys(extent_new(a, &line)) == 10 + 21 + 21 - 2);
  AttendAttrs full = box(ATTEND_FULL, 0, CAUSAL_RASTER, EDGE_CLIP);
  EXPECT(extent_max_keys(extent_new(a, &full)) == 4410);
  AttendAttrs shift = box(ATTEND_NEARBY, 3, CAUSAL_RASTER, EDGE_SHIFT);
  Extent *e = extent_new(a, &shift);
  EXPECT(e->axis[2].lo[0] == 0 && e->axis[2].hi[0] == 2 && e->axis[2].lo[20] == 18 && e->axis[2].hi[20] == 20);
}

static void expect_fault(AttendAttrs a, const char *want) {
  const char *rule = "none";
  char detail[EXTENT_DETAIL];
  EXPECT(!extent_check(&a, &rule, detail) && strcmp(rule, want) == 0, "%s, want %s", rule, want);
}

TEST("attributes that mean nothing are refused by name") {
  AttendAttrs good = box(ATTEND_NEARBY, 3, CAUSAL_RASTER, EDGE_CLIP), a;
  const char *rule;
  char detail[EXTENT_DETAIL];
  EXPECT(extent_check(&good, &rule, detail));
  a = good, a.kind = (AttendKind)4;
  expect_fault(a, "unknown kind, edge or causal");
  a = good, a.lo[1] = 2;
  expect_fault(a, "the extent is empty");
  a = good, a.hi[2] = INT64_MAX;
  expect_fault(a, "the extent is out of range");
  a = good, a.lo[0] = INT64_MIN;
  expect_fault(a, "the extent is out of range");
  a = good, a.kind = ATTEND_BLOCK;
  expect_fault(a, "a block needs at least one key");
  a = good, a.key_grid[2] = 20;
  expect_fault(a, "causal needs equal grids");
  a = good, a.query_grid[0] = a.key_grid[0] = 0;
  expect_fault(a, "a grid needs sizes of at least 1");
}

TEST("the grids of the paper see what the paper counts") {
  Arena *a = arena_new();
  EXPECT(arena_protect(a, known, a, &err), "%s", err.text);
  arena_free(a);
}

TEST_MAIN()
