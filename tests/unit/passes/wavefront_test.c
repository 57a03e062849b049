/* The decoding schedule against the table of design section 2, and against a search that tries everything. */
#include <time.h>

#include "passes/passes.h"
#include "runtime/base/philox.h"
#include "tests/test.h"

static Error err;

/* ---- one problem: a grid, attentions of it, a stencil ---- */

typedef struct Problem {
  Graph *g;
  int64_t grid[3];
  SelfAttend attend[3];
  int n_attend;
  StencilEntry stencil[4];
  int n_stencil;
} Problem;

static Problem problem_new(int64_t s, int64_t h, int64_t w) {
  err = (Error){0};
  return (Problem){.g = graph_new(&err), .grid = {s, h, w}};
}

static void add_attend(Problem *p, AttendAttrs a) {
  AttendAttrs *own = ARENA_NEW(p->g->arena, AttendAttrs);
  for (int x = 0; x < 3; x++) a.query_grid[x] = a.key_grid[x] = p->grid[x];
  a.heads = 1;
  *own = a;
  p->attend[p->n_attend++] = (SelfAttend){own, extent_new(p->g->arena, own)};
}

static void add_box(Problem *p, int64_t width, EdgeRule edge, Causal causal) {
  int64_t lo = -(width - 1) / 2, hi = (width - 1) / 2;
  add_attend(p, (AttendAttrs){
                    .kind = ATTEND_NEARBY, .lo = {lo, lo, lo}, .hi = {hi, hi, hi}, .edge = edge, .causal = causal});
}

static void add_whole(Problem *p, AttendKind kind, Causal causal) {
  add_attend(p, (AttendAttrs){.kind = kind, .lo = {-EXTENT_INF, -EXTENT_INF, -EXTENT_INF},
                              .hi = {EXTENT_INF, EXTENT_INF, EXTENT_INF}, .causal = causal});
}

static void add_delta(Problem *p, int64_t s, int64_t h, int64_t w) {
  p->stencil[p->n_stencil++] = (StencilEntry){{s, h, w}, false};
}

static void add_left(Problem *p) { add_delta(p, 0, 0, -1); }
static void add_up_right(Problem *p) { add_left(p), add_delta(p, 0, -1, 1); }
static void add_local(Problem *p) { add_left(p), add_delta(p, 0, -1, 0), add_delta(p, -1, 0, 0); }
static void add_raster(Problem *p) { p->stencil[p->n_stencil++] = (StencilEntry){{0}, true}; }

static bool solve(const Problem *p, Schedule *out) {
  return wavefront_find(p->g, p->grid, p->attend, p->n_attend, p->stencil, p->n_stencil, out);
}

/* ---- the table ---- */

static void box3(Problem *p) { add_box(p, 3, EDGE_CLIP, CAUSAL_RASTER); }
static void box7(Problem *p) { add_box(p, 7, EDGE_CLIP, CAUSAL_RASTER); }
static void shift3(Problem *p) { add_box(p, 3, EDGE_SHIFT, CAUSAL_RASTER); }
static void past3(Problem *p) { add_box(p, 3, EDGE_CLIP, CAUSAL_PAST); }
static void axis(Problem *p) { add_whole(p, ATTEND_AXIS, CAUSAL_RASTER); }
static void axis_past(Problem *p) { add_whole(p, ATTEND_AXIS, CAUSAL_PAST); }
static void full(Problem *p) { add_whole(p, ATTEND_FULL, CAUSAL_RASTER); }
static void nothing(Problem *p) { (void)p; }

typedef struct Known {
  const char *what;
  void (*attend)(Problem *), (*stencil)(Problem *);
  int64_t a[3], video, image;
} Known;

static const Known known[] = {
    {"3x3x3 raster, local", box3, add_local, {2, 1, 1}, 59, 41},
    {"axis raster, local", axis, add_local, {1, 1, 1}, 50, 41},
    {"axis past, local", axis_past, add_local, {1, 1, 1}, 50, 41},
    {"past box, local", past3, add_local, {1, 1, 1}, 50, 41},
    {"7x7x7 raster, local", box7, add_local, {12, 3, 1}, 189, 81},
    {"3x3x3 raster, edge shift, local", shift3, add_local, {6, 2, 1}, 115, 61},
    {"3x3x3 raster, left and up-right", box3, add_up_right, {3, 2, 1}, 88, 61},
    {"full raster, local", full, add_local, {420, 20, 1}, 4201, 421},
    {"axis raster, left", axis, add_left, {0, 0, 1}, 21, 21},
    {"axis past, left", axis_past, add_left, {0, 0, 1}, 21, 21},
    {"past box, left", past3, add_left, {0, 0, 1}, 21, 21},
    {"3x3x3 raster, raster", box3, add_raster, {441, 21, 1}, 4410, 441},
    {"full raster, raster", full, add_raster, {441, 21, 1}, 4410, 441},
    {"axis past, raster", axis_past, add_raster, {441, 21, 1}, 4410, 441},
    {"no attention, raster", nothing, add_raster, {441, 21, 1}, 4410, 441},
};

static void check(const char *what, const Problem *p, int64_t a, int64_t b, int64_t c, int64_t steps) {
  Schedule s = {0};
  REQUIRE(solve(p, &s), "%s: %s", what, err.text);
  EXPECT(s.a[0] == a && s.a[1] == b && s.a[2] == c && s.steps == steps,
         "%s: %lld s + %lld h + %lld w, %lld steps; not %lld %lld %lld, %lld", what, (long long)s.a[0],
         (long long)s.a[1], (long long)s.a[2], (long long)s.steps, (long long)a, (long long)b, (long long)c,
         (long long)steps);
}

TEST("the known answers for video and image") {
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    const Known *k = &known[i];
    for (int image = 0; image < 2; image++) {
      Problem p = problem_new(image ? 1 : 10, 21, 21);
      k->attend(&p);
      k->stencil(&p);
      check(k->what, &p, image ? 0 : k->a[0], k->a[1], k->a[2], image ? k->image : k->video);
      graph_free(p.g);
    }
  }
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double time_to_solve(const int64_t grid[3], void (*attend)(Problem *), void (*stencil)(Problem *)) {
  Problem p = problem_new(grid[0], grid[1], grid[2]);
  Schedule s;
  attend(&p);
  stencil(&p);
  double t = seconds();
  EXPECT(solve(&p, &s), "%s", err.text);
  t = seconds() - t;
  graph_free(p.g);
  return t;
}

/* Of processor time, so that a busy machine does not matter; the limit leaves room for sanitizers, 0.2 s is usual. */
TEST("no schedule takes long to find") {
  static const int64_t grids[][3] = {{10, 21, 21}, {1, 64, 64}, {1, 1, 77}, {77, 1, 1},
                                     {8, 8, 8},    {64, 4, 4},  {32, 1, 32}};
  static const int64_t large[3] = {16, 64, 64};
  void (*const attend[])(Problem *) = {box3, box7, shift3, past3, axis, axis_past, full, nothing};
  void (*const stencil[])(Problem *) = {add_local, add_left, add_up_right, add_raster};
  double worst = time_to_solve(large, axis, add_local);
  for (size_t g = 0; g < sizeof grids / sizeof *grids; g++)
    for (size_t i = 0; i < 32; i++) {
      double t = time_to_solve(grids[g], attend[i / 4], stencil[i % 4]);
      worst = t > worst ? t : worst;
    }
  EXPECT(worst < 10, "%.2f s", worst);
}

TEST("axes of length 1 get 0") {
  Problem p = problem_new(77, 1, 1);
  full(&p);
  add_delta(&p, -1, 0, 0);
  check("text along s", &p, 1, 0, 0, 77);
  graph_free(p.g);
  p = problem_new(1, 1, 77);
  full(&p);
  add_raster(&p);
  check("text along w", &p, 0, 0, 1, 77);
  graph_free(p.g);
  p = problem_new(1, 1, 1);
  full(&p);
  add_local(&p);
  check("one token", &p, 0, 0, 0, 1);
  graph_free(p.g);
}

TEST("a stencil that reads later tokens is refused") {
  Problem p = problem_new(2, 3, 3);
  Schedule s;
  add_delta(&p, 0, 0, 1);
  EXPECT(!solve(&p, &s));
  EXPECT_HAS(err.text, "raster order");
  graph_free(p.g);
}

/* ---- everything tried ---- */

enum { MOST_TOKENS = 64, MOST_OFFSETS = 2048 };

typedef struct Offsets {
  int64_t d[MOST_OFFSETS][4];   /* s, h, w, strict */
  int n;
} Offsets;

static void point(const int64_t grid[3], int64_t i, int64_t at[3]) {
  at[2] = i % grid[2];
  at[1] = i / grid[2] % grid[1];
  at[0] = i / grid[2] / grid[1];
}

static void note(Offsets *o, const int64_t q[3], const int64_t key[3], int64_t strict) {
  int64_t d[4] = {key[0] - q[0], key[1] - q[1], key[2] - q[2], strict};
  for (int i = 0; i < o->n; i++)
    if (memcmp(o->d[i], d, sizeof d) == 0) return;
  memcpy(o->d[o->n++], d, sizeof d);
}

static bool reads(const StencilEntry *e, const int64_t grid[3], int64_t i, int64_t k, const int64_t q[3],
                  const int64_t key[3]) {
  if (e->raster) return k == i - 1;
  for (int x = 0; x < 3; x++)
    if (key[x] != q[x] + e->delta[x]) return false;
  return true;
}

/* Every dependence between two tokens, pair by pair. */
static void list_offsets(const Problem *p, Offsets *o) {
  int64_t n = p->grid[0] * p->grid[1] * p->grid[2], q[3], key[3];
  o->n = 0;
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < n; k++) {
      point(p->grid, i, q);
      point(p->grid, k, key);
      for (int a = 0; a < p->n_attend; a++)
        if (extent_sees(p->attend[a].extent, q, key)) note(o, q, key, 0);
      for (int a = 0; a < p->n_stencil; a++)
        if (reads(&p->stencil[a], p->grid, i, k, q, key)) note(o, q, key, 1);
    }
}

static bool allowed(const Offsets *o, const int64_t a[3]) {
  for (int i = 0; i < o->n; i++)
    if (a[0] * o->d[i][0] + a[1] * o->d[i][1] + a[2] * o->d[i][2] > -o->d[i][3]) return false;
  return true;
}

static int64_t steps_of(const int64_t grid[3], const int64_t a[3]) {
  static uint8_t seen[1 << 14];
  int64_t steps = 0;
  memset(seen, 0, sizeof seen);
  for (int64_t s = 0; s < grid[0]; s++)
    for (int64_t h = 0; h < grid[1]; h++)
      for (int64_t w = 0; w < grid[2]; w++) {
        int64_t t = a[0] * s + a[1] * h + a[2] * w;
        steps += !seen[t];
        seen[t] = 1;
      }
  return steps;
}

/* In order of A, B, C, so that the first of the fewest steps is the smallest.  Raster order must be possible. */
static bool try_all(const Problem *p, const Offsets *o, Schedule *out) {
  const int64_t *g = p->grid;
  int64_t most[3] = {5 * g[1] * g[2], 5 * g[0] * g[2], 5 * g[0] * g[1]}, a[3];
  Schedule raster = wavefront_raster(g);
  if (!allowed(o, raster.a)) return false;
  *out = (Schedule){.steps = INT64_MAX};
  for (int x = 0; x < 3; x++)
    if (g[x] == 1) most[x] = 0;
  for (a[0] = 0; a[0] <= most[0]; a[0]++)
    for (a[1] = 0; a[1] <= most[1]; a[1]++)
      for (a[2] = 0; a[2] <= most[2]; a[2]++) {
        if (!allowed(o, a)) continue;
        int64_t steps = steps_of(g, a);
        if (steps < out->steps) *out = (Schedule){{a[0], a[1], a[2]}, steps};
      }
  return true;
}

static uint32_t draw(uint32_t test, uint32_t i, uint32_t n) { return philox(11, test, i, STREAM_TEST).word[0] % n; }

static void add_random_attend(Problem *p, uint32_t t, uint32_t at) {
  AttendAttrs a = {.kind = (AttendKind)draw(t, at, 4), .edge = (EdgeRule)draw(t, at + 1, 2)};
  a.causal = draw(t, at + 2, 2) ? CAUSAL_RASTER : CAUSAL_PAST;
  for (uint32_t x = 0; x < 3; x++) {
    int64_t width = 1 + draw(t, at + 10 + x, 5);
    a.lo[x] = -(width / 2);
    a.hi[x] = a.lo[x] + width - 1;
    if (draw(t, at + 20 + x, 4) == 0)
      a.lo[x] = (int64_t)draw(t, at + 23 + x, 5) - 3, a.hi[x] = a.lo[x] + draw(t, at + 26 + x, 3);
    if (draw(t, at + 30 + x, 5) == 0) a.lo[x] = -EXTENT_INF;
    if (draw(t, at + 33 + x, 5) == 0) a.hi[x] = EXTENT_INF;
    a.block[x] = 1 + draw(t, at + 36 + x, 3);
  }
  add_attend(p, a);
}

static void add_random_stencil(Problem *p, uint32_t t) {
  int n = 1 + (int)draw(t, 4, 3);
  for (uint32_t i = 0; i < (uint32_t)n; i++) {
    int64_t d[3];
    for (uint32_t x = 0; x < 3; x++) d[x] = (int64_t)draw(t, 100 + 4 * i + x, 5) - 2;
    /* Mostly earlier in raster order; now and then not, which must be refused if two tokens are that far apart. */
    int64_t sign = d[0] ? d[0] : d[1] ? d[1] : d[2];
    if (sign > 0 && draw(t, 103 + 4 * i, 20)) d[0] = -d[0], d[1] = -d[1], d[2] = -d[2];
    if (sign == 0) add_raster(p);
    else add_delta(p, d[0], d[1], d[2]);
  }
}

TEST("no schedule has fewer steps, and none with as few is smaller") {
  static Offsets offsets;
  for (uint32_t t = 0; t < 400; t++) {
    int64_t g[3];
    int64_t most = draw(t, 0, 3) == 0 ? 6 : 4;
    for (uint32_t x = 0; x < 3; x++) g[x] = 1 + draw(t, 1 + x, (uint32_t)most);
    if (most == 6) g[draw(t, 9, 3)] = 1;
    Problem p = problem_new(g[0], g[1], g[2]);
    for (uint32_t i = 0; i < draw(t, 5, 3); i++) add_random_attend(&p, t, 200 + 50 * i);
    add_random_stencil(&p, t);
    list_offsets(&p, &offsets);
    Schedule want, got;
    bool exists = try_all(&p, &offsets, &want), found = solve(&p, &got);
    EXPECT(exists == found, "case %u: %d %d", t, exists, found);
    if (exists && found)
      EXPECT(memcmp(&want, &got, sizeof got) == 0,
             "case %u, %lldx%lldx%lld: %lld %lld %lld in %lld, not %lld %lld %lld in %lld", t, (long long)g[0],
             (long long)g[1], (long long)g[2], (long long)got.a[0], (long long)got.a[1], (long long)got.a[2],
             (long long)got.steps, (long long)want.a[0], (long long)want.a[1], (long long)want.a[2],
             (long long)want.steps);
    graph_free(p.g);
  }
}

TEST_MAIN()
