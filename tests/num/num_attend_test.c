/* Random attention problems, forward and gradients, against a plain float64 computation written here from the
 * definition: every kind, edge and causal rule, self and cross between unequal grids, extents that are odd, even,
 * infinite or a pair, head sizes that are no multiple of the vector. */
#include "tests/num/rig.h"

#include <math.h>
#include <string.h>

#include "runtime/base/philox.h"
#include "tests/test.h"

enum { SAMPLES = 2, ROUNDS = 2, LONG_ROUNDS = 20, MAX_PROBLEMS = 800 };

typedef struct Problem {
  AttendAttrs a;
  int64_t head_dim;
  bool has_batch;
  const char *name;
} Problem;

static Rig rig;
static Problem problem[MAX_PROBLEMS];
static int n_problem;
static DType element = DTYPE_F32;
static uint32_t draws;

/* ---- problems ---- */

static int64_t draw(int64_t lo, int64_t hi) {
  return lo + (int64_t)(philox(11, draws++, 0, 0).word[0] % (uint32_t)(hi - lo + 1));
}

/* One of: odd, even, infinite, a pair (also one that leaves out the centre, or has one open end). */
static void draw_extent(AttendAttrs *a, int x) {
  int64_t w = draw(1, 6);
  switch (draw(0, 5)) {
  case 0: a->lo[x] = -EXTENT_INF, a->hi[x] = EXTENT_INF; break;
  case 1: a->lo[x] = -draw(0, 3), a->hi[x] = draw(0, 2); break;
  case 2:
    a->lo[x] = draw(-3, 1), a->hi[x] = a->lo[x] + draw(0, 2);
    break;
  case 3:
    if (a->edge == EDGE_CLIP) {
      a->lo[x] = -EXTENT_INF, a->hi[x] = draw(-1, 1);
      break;
    }
    /* fall through */
  default: a->lo[x] = w % 2 ? -(w - 1) / 2 : -w / 2, a->hi[x] = w % 2 ? (w - 1) / 2 : w / 2 - 1;
  }
}

static Problem draw_problem(AttendKind kind, EdgeRule edge, Causal causal, bool is_cross) {
  static const int64_t head_dims[] = {1, 4, 5, 8, 16, 17, 20, 33, 48, 64};
  Problem p = {.a = {.heads = draw(1, 4), .kind = kind, .edge = edge, .causal = causal},
               .head_dim = head_dims[draw(0, COUNT_OF(head_dims) - 1)],
               .has_batch = draw(0, 3) > 0};
  for (int x = 0; x < 3; x++) {
    p.a.query_grid[x] = draw(0, 4) == 0 ? 1 : draw(1, 5);
    p.a.key_grid[x] = is_cross ? draw(1, 6) : p.a.query_grid[x];
    if (kind == ATTEND_BLOCK) p.a.block[x] = draw(1, 4);
    if (kind == ATTEND_NEARBY || kind == ATTEND_AXIS) draw_extent(&p.a, x);
    else p.a.lo[x] = -EXTENT_INF, p.a.hi[x] = EXTENT_INF;
  }
  return p;
}

static Node *tokens(const Problem *p, const char *name, const int64_t grid[3]) {
  Dim dim[5] = {{0, 1, 0}};
  for (int x = 0; x < 3; x++) dim[p->has_batch + x] = dim_const(grid[x]);
  dim[p->has_batch + 3] = dim_const(p->a.heads * p->head_dim);
  return rig_input(&rig, name, element, 4 + p->has_batch, dim);
}

static void add_problem(Problem p) {
  Graph *g = rig.model.graph;
  Node *q = tokens(&p, "q", p.a.query_grid), *k = tokens(&p, "k", p.a.key_grid), *v = tokens(&p, "v", p.a.key_grid);
  Node *dy = tokens(&p, "dy", p.a.query_grid), *in[] = {q, k, v}, *grad[3];
  Node *y = graph_op(g, OP_ATTEND, in, 3, &(Attrs){.attend = p.a}, NULL);
  if (!y) return;
  Node *all = graph_binary(g, OP_MUL, graph_cast(g, y, DTYPE_F32), graph_cast(g, dy, DTYPE_F32));
  Node *scalar = graph_sum(g, all, (1u << y->type.rank) - 1);
  if (!grad_build(g, scalar, in, 3, grad)) return;
  p.name = rig_name(&rig, "attend");
  if (rig_add(&rig, rig_function(&rig, p.name, (Port[]){{"dk", grad[1]}, {"dq", grad[0]}, {"dv", grad[2]}, {"y", y}}, 4)))
    problem[n_problem++] = p;
}

/* Grids of several tiles, chunks and patches, with borders that divide nothing. */
static void add_large_problems(void) {
  static const struct {
    AttendKind kind;
    Causal causal;
    int64_t lo, hi, head_dim, query[3], key[3];
  } large[] = {
      {ATTEND_FULL, CAUSAL_RASTER, -EXTENT_INF, EXTENT_INF, 20, {3, 13, 7}, {3, 13, 7}},
      {ATTEND_FULL, CAUSAL_NONE, -EXTENT_INF, EXTENT_INF, 33, {2, 9, 11}, {5, 3, 13}},
      {ATTEND_AXIS, CAUSAL_RASTER, -EXTENT_INF, EXTENT_INF, 17, {4, 9, 19}, {4, 9, 19}},
      {ATTEND_AXIS, CAUSAL_NONE, -2, 9, 8, {4, 9, 19}, {4, 9, 19}},
      {ATTEND_NEARBY, CAUSAL_NONE, -1, 1, 20, {5, 10, 13}, {5, 10, 13}},
      {ATTEND_NEARBY, CAUSAL_PAST, -2, 1, 16, {5, 10, 13}, {5, 10, 13}},
      {ATTEND_NEARBY, CAUSAL_NONE, -2, 2, 5, {6, 10, 11}, {3, 9, 22}},
  };
  for (int i = 0; i < COUNT_OF(large); i++) {
    Problem p = {.a = {.heads = 2, .kind = large[i].kind, .causal = large[i].causal}, .head_dim = large[i].head_dim};
    for (int x = 0; x < 3; x++) {
      p.a.query_grid[x] = large[i].query[x], p.a.key_grid[x] = large[i].key[x];
      p.a.lo[x] = large[i].lo, p.a.hi[x] = large[i].hi;
    }
    add_problem(p);
  }
}

static void build_problems(Rig *r) {
  add_large_problems();
  for (int round = 0; round < (test_is_long ? LONG_ROUNDS : ROUNDS); round++)
    for (int kind = 0; kind < 4; kind++)
      for (int edge = 0; edge < 2; edge++)
        for (int causal = 0; causal < 4; causal++)   /* the last: cross */
          add_problem(draw_problem((AttendKind)kind, (EdgeRule)edge, causal == 3 ? CAUSAL_NONE : (Causal)causal, causal == 3));
}

/* ---- the definition ---- */

static bool sees_axis(const AttendAttrs *a, int x, int64_t c, int64_t key) {
  int64_t n = a->key_grid[x], lo = c + a->lo[x], hi = c + a->hi[x];
  if (a->edge == EDGE_SHIFT) {
    int64_t width = a->hi[x] - a->lo[x] + 1;
    if (width >= n) return true;
    if (lo < 0) lo = 0, hi = width - 1;
    if (hi > n - 1) hi = n - 1, lo = n - width;
  }
  return lo <= key && key <= hi;
}

static bool sees(const AttendAttrs *a, const int64_t q[3], const int64_t key[3]) {
  int64_t c[3], raster_q = 0, raster_k = 0;
  int near = 0, equal = 0, line = 0;
  for (int x = 0; x < 3; x++) {
    c[x] = q[x] * a->key_grid[x] / a->query_grid[x];
    raster_q = raster_q * a->query_grid[x] + q[x];
    raster_k = raster_k * a->key_grid[x] + key[x];
    if (a->causal == CAUSAL_PAST && key[x] > c[x]) return false;
    if (a->kind == ATTEND_BLOCK && c[x] / a->block[x] != key[x] / a->block[x]) return false;
  }
  if (a->causal == CAUSAL_RASTER && raster_k > raster_q) return false;
  if (a->kind == ATTEND_FULL || a->kind == ATTEND_BLOCK) return true;
  for (int x = 0; x < 3; x++) {
    near += sees_axis(a, x, c[x], key[x]);
    equal += key[x] == c[x];
    line |= sees_axis(a, x, c[x], key[x]) && key[(x + 1) % 3] == c[(x + 1) % 3] && key[(x + 2) % 3] == c[(x + 2) % 3];
  }
  return a->kind == ATTEND_NEARBY ? near == 3 : line && equal >= 2;
}

static int64_t positions(const int64_t grid[3]) { return grid[0] * grid[1] * grid[2]; }

static void coords(const int64_t grid[3], int64_t i, int64_t at[3]) {
  at[2] = i % grid[2];
  at[1] = i / grid[2] % grid[1];
  at[0] = i / grid[2] / grid[1];
}

typedef struct Answer {
  double *q, *k, *v, *dy, *y, *dq, *dk, *dv;
  int64_t n_q, n_k;    /* elements */
} Answer;

static double dot(const double *x, const double *y, int64_t n) {
  double s = 0;
  for (int64_t i = 0; i < n; i++) s += x[i] * y[i];
  return s;
}

/* One query and head; the arrays begin at the sample's head: element e of position i is [i * d + e]. */
static void attend_one(const Problem *p, const Answer *w, int64_t query, double *weight) {
  const AttendAttrs *a = &p->a;
  int64_t n = positions(a->key_grid), hd = p->head_dim, d = hd * a->heads, at[3], key[3];
  double scale = 1 / sqrt((double)hd), most = -INFINITY, sum = 0, mean = 0;
  const double *q = w->q + query * d, *dy = w->dy + query * d;
  coords(a->query_grid, query, at);
  for (int64_t j = 0; j < n; j++) {
    coords(a->key_grid, j, key);
    weight[j] = sees(a, at, key) ? dot(q, w->k + j * d, hd) * scale : -INFINITY;
    most = fmax(most, weight[j]);
  }
  if (most == -INFINITY) return;
  for (int64_t j = 0; j < n; j++) sum += weight[j] = exp(weight[j] - most);
  for (int64_t j = 0; j < n; j++) {
    weight[j] /= sum;
    mean += weight[j] * dot(dy, w->v + j * d, hd);
  }
  for (int64_t j = 0; j < n; j++) {
    if (weight[j] == 0) continue;
    double ds = weight[j] * (dot(dy, w->v + j * d, hd) - mean) * scale;
    for (int64_t e = 0; e < hd; e++) {
      w->y[query * d + e] += weight[j] * w->v[j * d + e];
      w->dq[query * d + e] += ds * w->k[j * d + e];
      w->dk[j * d + e] += ds * q[e];
      w->dv[j * d + e] += weight[j] * dy[e];
    }
  }
}

static double *input_values(Arena *a, const RigData *data, const char *name, int64_t n) {
  float *f = ARENA_ARRAY(a, float, n);
  double *x = ARENA_ARRAY(a, double, n);
  rig_fill(data, name, element, n, f);
  for (int64_t i = 0; i < n; i++) x[i] = rig_load(element, f, i);
  return x;
}

static void answer(Arena *a, const Problem *p, const RigData *data, Answer *w) {
  int64_t samples = p->has_batch ? SAMPLES : 1, d = p->a.heads * p->head_dim;
  int64_t nq = positions(p->a.query_grid) * d, nk = positions(p->a.key_grid) * d;
  *w = (Answer){.n_q = samples * nq, .n_k = samples * nk};
  w->q = input_values(a, data, "q", w->n_q);
  w->k = input_values(a, data, "k", w->n_k);
  w->v = input_values(a, data, "v", w->n_k);
  w->dy = input_values(a, data, "dy", w->n_q);
  w->y = ARENA_ARRAY(a, double, w->n_q);
  w->dq = ARENA_ARRAY(a, double, w->n_q);
  w->dk = ARENA_ARRAY(a, double, w->n_k);
  w->dv = ARENA_ARRAY(a, double, w->n_k);
  double *weight = ARENA_ARRAY(a, double, positions(p->a.key_grid));
  for (int64_t b = 0; b < samples; b++)
    for (int64_t h = 0; h < p->a.heads; h++) {
      int64_t oq = b * nq + h * p->head_dim, ok = b * nk + h * p->head_dim;
      Answer one = {w->q + oq, w->k + ok, w->v + ok, w->dy + oq, w->y + oq, w->dq + oq, w->dk + ok, w->dv + ok, 0, 0};
      for (int64_t i = 0; i < positions(p->a.query_grid); i++) attend_one(p, &one, i, weight);
    }
}

/* ---- comparing ---- */

static const char *describe(const Problem *p, char out[300]) {
  static const char *const kind[] = {"full", "axis", "nearby", "block"}, *const edge[] = {"clip", "shift"},
                    *const causal[] = {"none", "raster", "past"};
  const AttendAttrs *a = &p->a;
  snprintf(out, 300, "%s %s %s, %lld heads of %lld, %lldx%lldx%lld on %lldx%lldx%lld, s [%lld,%lld] h [%lld,%lld] w [%lld,%lld] block %lldx%lldx%lld",
           kind[a->kind], edge[a->edge], causal[a->causal], (long long)a->heads, (long long)p->head_dim,
           (long long)a->query_grid[0], (long long)a->query_grid[1], (long long)a->query_grid[2], (long long)a->key_grid[0],
           (long long)a->key_grid[1], (long long)a->key_grid[2], (long long)a->lo[0], (long long)a->hi[0], (long long)a->lo[1],
           (long long)a->hi[1], (long long)a->lo[2], (long long)a->hi[2], (long long)a->block[0], (long long)a->block[1],
           (long long)a->block[2]);
  return out;
}

static void compare(const Problem *p, const char *what, const void *all, const double *want, int64_t n, double tolerance) {
  double most = 0, error = 0;
  /* Operands are about 1.  Where one key takes nearly all the weight, p (dp - delta) keeps the error of the rounded y. */
  if (element == DTYPE_BF16) tolerance = 2e-2, most = 1;
  for (int64_t i = 0; i < n; i++) {
    double got = rig_load(element, all, i);
    most = fmax(most, fabs(want[i]));
    error = fmax(error, isfinite(got) ? fabs(got - want[i]) : INFINITY);
  }
  char text[300];
  EXPECT(error <= tolerance * most, "%s of %s: error %g of %g", what, describe(p, text), error, most);
}

static void check_plan(const Plan *plan, int threads) {
  NuwaOptions o = {.threads = threads, .samples = SAMPLES, .rows = 1};
  Error err;
  NuwaSession *s = nuwa_session_open(plan, &o, &err);
  REQUIRE(s, "%s", err.text);
  for (int i = 0; i < n_problem; i++) {
    Arena *a = arena_new();
    RigData data = {(uint64_t)i, NULL, NULL};
    int f = plan_find_function(plan, problem[i].name);
    Answer w;
    rig_run(s, plan, f, &data, SAMPLES, 1);
    answer(a, &problem[i], &data, &w);
    compare(&problem[i], "y", nuwa_output(s, f, "y"), w.y, w.n_q, 2e-5);
    compare(&problem[i], "dq", nuwa_output(s, f, "dq"), w.dq, w.n_q, 5e-5);
    compare(&problem[i], "dk", nuwa_output(s, f, "dk"), w.dk, w.n_k, 5e-5);
    compare(&problem[i], "dv", nuwa_output(s, f, "dv"), w.dv, w.n_k, 5e-5);
    arena_free(a);
  }
  nuwa_session_close(s);
}

/* All results of one session, to be compared with those of another. */
static void results(const Plan *plan, int threads, Buffer *out) {
  static const char *const names[] = {"dk", "dq", "dv", "y"};
  NuwaOptions o = {.threads = threads, .samples = SAMPLES, .rows = 1};
  Error err;
  NuwaSession *s = nuwa_session_open(plan, &o, &err);
  REQUIRE(s, "%s", err.text);
  for (int i = 0; i < plan->n_function; i++) {
    RigData data = {(uint64_t)i, NULL, NULL};
    rig_run(s, plan, i, &data, SAMPLES, 1);
    for (int k = 0; k < 4; k++) {
      int64_t bytes = 0;
      plan_tensor_bytes(&plan->function[i].out[k], SAMPLES, 1, &bytes);
      buffer_append(out, nuwa_output(s, i, names[k]), (size_t)bytes);
    }
  }
  nuwa_session_close(s);
}

static void check_problems(DType t) {
  element = t;
  n_problem = 0;
  draws = 0;
  REQUIRE(rig_open(&rig), "memory");
  REQUIRE(rig_build(&rig, build_problems), "%s", rig.err.text);
  Plan *p = rig_compile(&rig, isa_best(), true);
  REQUIRE(p, "%s", rig.err.text);
  printf("%d problems, %d kernels\n", n_problem, p->n_kernel);
  check_plan(p, 2);
  plan_free(p);
}

static void check_bits(void) {
  REQUIRE(rig.model.graph, "the problems could not be built");
  int most = test_is_long ? 128 : 24;
  if (rig.model.n_func > most) rig.model.n_func = most;
  Isa isa[ISA_COUNT];
  int n = rig_isas(isa);
  Buffer first = {0};
  for (int i = 0; i < n; i++) {
    Plan *p = rig_compile(&rig, isa[i], true);
    REQUIRE(p, "%s: %s", isa_name(isa[i]), rig.err.text);
    for (int threads = 1; threads <= 2; threads++) {
      Buffer got = {0};
      results(p, threads, &got);
      if (!first.data) {
        first = got;
        continue;
      }
      EXPECT(got.len == first.len && memcmp(got.data, first.data, got.len) == 0, "%s, %d threads: other bits", isa_name(isa[i]), threads);
      buffer_done(&got);
    }
    plan_free(p);
  }
  buffer_done(&first);
  rig_close(&rig);
}

WIDE_TEST("random attention problems agree with an independent float64 computation, forward and gradients") {
  check_problems(DTYPE_F32);
}

WIDE_TEST("attention has the same bits on every instruction set and for one thread and two") { check_bits(); }

WIDE_TEST("attention of bf16 agrees with the same computation on the same numbers") { check_problems(DTYPE_BF16); }

WIDE_TEST("attention of bf16 has the same bits on every instruction set and for one thread and two") { check_bits(); }

TEST_MAIN()
