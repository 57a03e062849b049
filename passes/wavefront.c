/* The decoding schedule t(p) = A s + B h + C w with the fewest steps (design section 2).
 *
 * Constraints: t(delta) <= 0 for every visible offset of a self-attention, < 0 for every offset of the input shift;
 * only offsets between two tokens of the grid count.  All of them are lexicographically negative for causal
 * attention, so raster order (H W, W, 1) always satisfies them.
 *
 * The search.  How many times occur depends on which pairs of tokens share one, and a primitive schedule that lets
 * some share is bounded: sharing on one plane fixes a ratio of two coefficients below the sizes of its axes, sharing
 * on two fixes the schedule as their cross product.  Within those bounds all schedules are tried; the number of steps
 * of a plane, known in closed form, plus the length of the third axis less one is a lower bound (|X + Y| >= |X| + |Y|
 * - 1) that discards nearly all before their steps are counted. */
#include <string.h>

#include "passes/passes.h"

/* a0 ds + a1 dh + a2 dw <= -strict */
typedef struct Constraint {
  int64_t d[3];
  int64_t strict;
} Constraint;

typedef struct ScheduleSearch {
  int64_t grid[3];
  Constraint *list;
  int n, cap;
  uint8_t *seen;        /* marks of times, [most_times] */
  int64_t most_times;
  Schedule best;
  bool found;
} ScheduleSearch;

static int64_t max64(int64_t x, int64_t y) { return x > y ? x : y; }

static bool fits(const int64_t grid[3], const int64_t d[3]) {
  for (int x = 0; x < 3; x++)
    if (d[x] <= -grid[x] || d[x] >= grid[x]) return false;
  return true;
}

/* Of offsets with the same ds and dh only the one with the largest dw matters, as C >= 0. */
static void add_constraint(ScheduleSearch *s, Arena *a, const int64_t d[3], int64_t strict) {
  if (!fits(s->grid, d) || (!strict && d[0] == 0 && d[1] == 0 && d[2] == 0)) return;
  for (int i = 0; i < s->n; i++) {
    Constraint *c = &s->list[i];
    if (c->d[0] != d[0] || c->d[1] != d[1] || c->strict != strict) continue;
    c->d[2] = max64(c->d[2], d[2]);
    return;
  }
  ARENA_PUSH(a, s->list, s->n, s->cap, ((Constraint){{d[0], d[1], d[2]}, strict}));
}

/* `raster` is the token before: one to the left, and from the start of a row (frame) to the end of the one before. */
static void add_raster(ScheduleSearch *s, Arena *a) {
  const int64_t *g = s->grid;
  add_constraint(s, a, (int64_t[]){0, 0, -1}, 1);
  add_constraint(s, a, (int64_t[]){0, -1, g[2] - 1}, 1);
  add_constraint(s, a, (int64_t[]){-1, g[1] - 1, g[2] - 1}, 1);
}

static bool satisfies(const ScheduleSearch *s, const int64_t a[3]) {
  for (int i = 0; i < s->n; i++) {
    const Constraint *c = &s->list[i];
    if (a[0] * c->d[0] + a[1] * c->d[1] + a[2] * c->d[2] > -c->strict) return false;
  }
  return true;
}

/* The smallest coefficient of `axis` that the constraints allow, given those of later axes; those in which an earlier
 * axis moves do not limit it.  -1: none does. */
static int64_t smallest(const ScheduleSearch *s, const int64_t a[3], int axis) {
  int64_t least = 0;
  for (int i = 0; i < s->n; i++) {
    const Constraint *c = &s->list[i];
    bool earlier = (axis > 0 && c->d[0] != 0) || (axis > 1 && c->d[1] != 0);
    if (earlier || c->d[axis] == 0) continue;
    int64_t need = c->strict;
    for (int x = axis + 1; x < 3; x++) need += a[x] * c->d[x];
    if (c->d[axis] > 0) {
      if (need > 0) return -1;
      continue;
    }
    if (need > 0) least = max64(least, (need - c->d[axis] - 1) / -c->d[axis]);
  }
  return least;
}

static int64_t gcd(int64_t x, int64_t y) {
  while (y) {
    int64_t r = x % y;
    x = y;
    y = r;
  }
  return x;
}

/* Distinct values of x i + y j, 0 <= i < m, 0 <= j < n. */
static int64_t plane_steps(int64_t x, int64_t y, int64_t m, int64_t n) {
  if (x == 0) return y == 0 ? 1 : n;
  if (y == 0) return m;
  int64_t d = gcd(x, y), p = x / d, q = y / d;
  int64_t shared = max64(m - q, 0) * max64(n - p, 0);
  return m * n - shared;
}

static int64_t count_steps(ScheduleSearch *s, const int64_t a[3]) {
  const int64_t *g = s->grid;
  int64_t last = a[0] * (g[0] - 1) + a[1] * (g[1] - 1) + a[2] * (g[2] - 1), n = 0;
  BUG_IF(last >= s->most_times, "wavefront: time %lld is out of bounds", (long long)last);
  memset(s->seen, 0, (size_t)last + 1);
  for (int64_t i = 0; i < g[0]; i++)
    for (int64_t j = 0; j < g[1]; j++) {
      uint8_t *row = s->seen + a[0] * i + a[1] * j;
      for (int64_t k = 0; k < g[2]; k++) {
        n += !row[a[2] * k];
        row[a[2] * k] = 1;
      }
    }
  return n;
}

static bool is_smaller(const int64_t a[3], const int64_t b[3]) {
  for (int x = 0; x < 3; x++)
    if (a[x] != b[x]) return a[x] < b[x];
  return false;
}

static void consider(ScheduleSearch *s, const int64_t a[3], int64_t steps) {
  if (!satisfies(s, a)) return;
  if (s->found && (steps > s->best.steps || (steps == s->best.steps && !is_smaller(a, s->best.a)))) return;
  s->best = (Schedule){{a[0], a[1], a[2]}, steps};
  s->found = true;
}

/* Axes of length 1 have coefficient 0; else the bounds of the file comment, and raster order's. */
static void bounds(const int64_t g[3], int64_t most[3]) {
  int64_t reach[3];
  for (int x = 0; x < 3; x++) reach[x] = max64(g[x] - 1, 1);
  most[0] = max64(2 * reach[1] * reach[2], g[1] * g[2]);
  most[1] = max64(2 * reach[0] * reach[2], g[2]);
  most[2] = 2 * reach[0] * reach[1];
  for (int x = 0; x < 3; x++)
    if (g[x] == 1) most[x] = 0;
}

/* All a[0] for given a[1] and a[2].  From the first one that separates the frames on, more changes nothing. */
static void search_first(ScheduleSearch *s, int64_t a[3], int64_t most, int64_t plane) {
  const int64_t *g = s->grid;
  int64_t span = a[1] * (g[1] - 1) + a[2] * (g[2] - 1);
  a[0] = smallest(s, a, 0);
  for (; a[0] >= 0 && a[0] <= most; a[0]++) {
    if (a[0] && plane + g[0] - 1 > s->best.steps) return;
    if (a[0] && plane_steps(a[0], a[1], g[0], g[1]) + (a[2] ? g[2] - 1 : 0) > s->best.steps) continue;
    if (a[0] && plane_steps(a[0], a[2], g[0], g[2]) + (a[1] ? g[1] - 1 : 0) > s->best.steps) continue;
    if (a[0] > span) {
      consider(s, a, g[0] * plane);
      return;
    }
    if (gcd(gcd(a[0], a[1]), a[2]) <= 1) consider(s, a, count_steps(s, a));
  }
}

static void search(ScheduleSearch *s, const int64_t most[3]) {
  const int64_t *g = s->grid;
  int64_t a[3] = {0};
  for (a[2] = smallest(s, a, 2); a[2] >= 0 && a[2] <= most[2]; a[2]++) {
    int64_t least = smallest(s, a, 1);
    for (a[1] = least; least >= 0 && a[1] <= most[1]; a[1]++) {
      int64_t plane = plane_steps(a[1], a[2], g[1], g[2]);
      if (plane <= s->best.steps) search_first(s, a, most[0], plane);
    }
  }
}

Schedule wavefront_raster(const int64_t grid[3]) {
  int64_t a[3] = {grid[1] * grid[2], grid[2], 1};
  for (int x = 0; x < 3; x++)
    if (grid[x] == 1) a[x] = 0;
  return (Schedule){{a[0], a[1], a[2]}, grid[0] * grid[1] * grid[2]};
}

bool wavefront_find(Graph *g, const int64_t grid[3], const SelfAttend *attend, int n_attend,
                    const StencilEntry *stencil, int n_stencil, Schedule *out) {
  ScheduleSearch s = {.grid = {grid[0], grid[1], grid[2]}};
  Arena *a = g->arena;
  for (int i = 0; i < n_attend; i++) {
    int64_t(*offset)[3];
    int n = extent_offsets(a, attend[i].extent, &offset);
    for (int k = 0; k < n; k++) add_constraint(&s, a, offset[k], 0);
  }
  for (int i = 0; i < n_stencil; i++) {
    if (stencil[i].raster) add_raster(&s, a);
    else add_constraint(&s, a, stencil[i].delta, 1);
  }
  int64_t most[3];
  bounds(grid, most);
  s.most_times = 1;
  for (int x = 0; x < 3; x++) s.most_times += most[x] * (grid[x] - 1);
  s.seen = arena_alloc(a, (size_t)s.most_times);
  Schedule raster = wavefront_raster(grid);
  consider(&s, raster.a, raster.steps);
  if (!s.found) {
    graph_error(g, g->here,
                "decode: some token depends on one that is not earlier in raster order, so it cannot be generated");
    return false;
  }
  search(&s, most);
  *out = s.best;
  return true;
}
