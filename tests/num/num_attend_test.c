/* Random attention problems, forward and gradients, against a plain float64 computation written here from the
 * definition: every kind, edge and causal rule, self and cross between unequal grids, extents that are odd, even,
 * infinite or a pair, head sizes that are no multiple of the vector, scales, masks (of everything too), keys with fewer
 * heads than queries. */
#include "tests/num/rig.h"

#include <math.h>
#include <string.h>

#include "runtime/base/philox.h"
#include "tests/test.h"

enum { SAMPLES = 2, ROUNDS = 1, LONG_ROUNDS = 20, MAX_PROBLEMS = 800 };

typedef struct Problem {
  AttendAttrs a;
  int64_t head_dim;
  bool has_batch;
  const char *mask;     /* its input: one of those of fit, or NULL */
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

/* A mask leaves out a third of the keys, or all of them. */
static double fit(void *ctx, const char *name, int64_t i, double x) {
  if (strcmp(name, "all_masked") == 0) return 0;
  return strcmp(name, "mask") == 0 && (int)x % 3 == 0 ? 0 : x;
}

static void draw_options(Problem *p) {
  p->a.heads = draw(1, 4);
  do p->a.kv_heads = draw(0, 2) ? p->a.heads : draw(1, p->a.heads);
  while (p->a.heads % p->a.kv_heads);
  if (draw(0, 3) == 0) p->a.scale = (double)draw(-8, -1) / 16;
  if (draw(0, 2) == 0) p->mask = draw(0, 7) ? "mask" : "all_masked";
}

static Problem draw_problem(AttendKind kind, EdgeRule edge, Causal causal, bool is_cross) {
  static const int64_t head_dims[] = {1, 4, 5, 8, 16, 17, 20, 33, 48, 64};
  Problem p = {.a = {.kind = kind, .edge = edge, .causal = causal},
               .head_dim = head_dims[draw(0, COUNT_OF(head_dims) - 1)],
               .has_batch = draw(0, 3) > 0};
  draw_options(&p);
  for (int x = 0; x < 3; x++) {
    p.a.query_grid[x] = draw(0, 4) == 0 ? 1 : draw(1, 5);
    p.a.key_grid[x] = is_cross ? draw(1, 6) : p.a.query_grid[x];
    if (kind == ATTEND_BLOCK) p.a.block[x] = draw(1, 4);
    if (kind == ATTEND_NEARBY || kind == ATTEND_AXIS) draw_extent(&p.a, x);
    else p.a.lo[x] = -EXTENT_INF, p.a.hi[x] = EXTENT_INF;
  }
  return p;
}

/* heads 0: a number for each token. */
static Node *tokens(const Problem *p, const char *name, DType t, const int64_t grid[3], int64_t heads) {
  Dim dim[5] = {{0, 1, 0}};
  for (int x = 0; x < 3; x++) dim[p->has_batch + x] = dim_const(grid[x]);
  dim[p->has_batch + 3] = dim_const(heads * p->head_dim);
  return rig_input(&rig, name, t, 3 + (heads > 0) + p->has_batch, dim);
}

static void add_problem(Problem p) {
  Graph *g = rig.model.graph;
  int64_t heads = p.a.heads, kv_heads = p.a.kv_heads;
  Node *q = tokens(&p, "q", element, p.a.query_grid, heads), *k = tokens(&p, "k", element, p.a.key_grid, kv_heads);
  Node *v = tokens(&p, "v", element, p.a.key_grid, kv_heads), *dy = tokens(&p, "dy", element, p.a.query_grid, heads);
  Node *in[] = {q, k, v, p.mask ? tokens(&p, p.mask, DTYPE_U8, p.a.key_grid, 0) : NULL}, *grad[3];
  Node *y = graph_op(g, OP_ATTEND, in, p.mask ? 4 : 3, &(Attrs){.attend = p.a}, NULL);
  if (!y) return;
  Node *all = graph_binary(g, OP_MUL, graph_cast(g, y, DTYPE_F32), graph_cast(g, dy, DTYPE_F32));
  Node *scalar = graph_sum(g, all, (1u << y->type.rank) - 1);
  if (!grad_build(g, scalar, in, 3, grad)) return;
  p.a = y->attrs.attend;
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
    const char *mask;
    int64_t kv_heads;
  } large[] = {
      {ATTEND_FULL, CAUSAL_RASTER, -EXTENT_INF, EXTENT_INF, 20, {3, 13, 7}, {3, 13, 7}},
      {ATTEND_FULL, CAUSAL_NONE, -EXTENT_INF, EXTENT_INF, 33, {2, 9, 11}, {5, 3, 13}},
      {ATTEND_AXIS, CAUSAL_RASTER, -EXTENT_INF, EXTENT_INF, 17, {4, 9, 19}, {4, 9, 19}},
      {ATTEND_AXIS, CAUSAL_NONE, -2, 9, 8, {4, 9, 19}, {4, 9, 19}},
      {ATTEND_NEARBY, CAUSAL_NONE, -1, 1, 20, {5, 10, 13}, {5, 10, 13}},
      {ATTEND_NEARBY, CAUSAL_PAST, -2, 1, 16, {5, 10, 13}, {5, 10, 13}},
      {ATTEND_NEARBY, CAUSAL_NONE, -2, 2, 5, {6, 10, 11}, {3, 9, 22}},
      {ATTEND_FULL, CAUSAL_RASTER, -EXTENT_INF, EXTENT_INF, 20, {2, 7, 7}, {2, 7, 7}, "mask", 1},
      {ATTEND_FULL, CAUSAL_NONE, -EXTENT_INF, EXTENT_INF, 16, {1, 5, 9}, {19, 1, 1}, "mask", 2},
      {ATTEND_NEARBY, CAUSAL_NONE, -2, 2, 20, {4, 8, 9}, {4, 8, 9}, "mask", 1},
  };
  for (int i = 0; i < COUNT_OF(large); i++) {
    Problem p = {.a = {.heads = 2, .kind = large[i].kind, .causal = large[i].causal}, .head_dim = large[i].head_dim};
    p.a.kv_heads = large[i].kv_heads ? large[i].kv_heads : 2;
    p.mask = large[i].mask;
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
  double *mask;        /* [keys] of the sample, or NULL */
  int64_t n_q, n_k;    /* elements */
} Answer;

static double dot(const double *x, const double *y, int64_t n) {
  double s = 0;
  for (int64_t i = 0; i < n; i++) s += x[i] * y[i];
  return s;
}

/* One query and head; the arrays begin at the sample's head: element e of position i is [i * d + e], of keys
 * [i * dk + e]. */
static void attend_one(const Problem *p, const Answer *w, int64_t query, double *weight) {
  const AttendAttrs *a = &p->a;
  int64_t n = positions(a->key_grid), hd = p->head_dim, d = hd * a->heads, dk = hd * a->kv_heads, at[3], key[3];
  double scale = a->scale, most = -INFINITY, sum = 0, mean = 0;
  const double *q = w->q + query * d, *dy = w->dy + query * d;
  coords(a->query_grid, query, at);
  for (int64_t j = 0; j < n; j++) {
    coords(a->key_grid, j, key);
    bool seen = sees(a, at, key) && (!w->mask || w->mask[j] != 0);
    weight[j] = seen ? dot(q, w->k + j * dk, hd) * scale : -INFINITY;
    most = fmax(most, weight[j]);
  }
  if (most == -INFINITY) return;
  for (int64_t j = 0; j < n; j++) sum += weight[j] = exp(weight[j] - most);
  for (int64_t j = 0; j < n; j++) {
    weight[j] /= sum;
    mean += weight[j] * dot(dy, w->v + j * dk, hd);
  }
  for (int64_t j = 0; j < n; j++) {
    if (weight[j] == 0) continue;
    double ds = weight[j] * (dot(dy, w->v + j * dk, hd) - mean) * scale;
    for (int64_t e = 0; e < hd; e++) {
      w->y[query * d + e] += weight[j] * w->v[j * dk + e];
      w->dq[query * d + e] += ds * w->k[j * dk + e];
      w->dk[j * dk + e] += ds * q[e];
      w->dv[j * dk + e] += weight[j] * dy[e];
    }
  }
}

static double *input_values(Arena *a, const RigData *data, const char *name, DType t, int64_t n) {
  float *f = ARENA_ARRAY(a, float, n);
  double *x = ARENA_ARRAY(a, double, n);
  rig_fill(data, name, t, n, f);
  for (int64_t i = 0; i < n; i++) x[i] = rig_load(t, f, i);
  return x;
}

static void answer(Arena *a, const Problem *p, const RigData *data, Answer *w) {
  int64_t samples = p->has_batch ? SAMPLES : 1, keys = positions(p->a.key_grid), share = p->a.heads / p->a.kv_heads;
  int64_t nq = positions(p->a.query_grid) * p->a.heads * p->head_dim, nk = keys * p->a.kv_heads * p->head_dim;
  *w = (Answer){.n_q = samples * nq, .n_k = samples * nk};
  w->q = input_values(a, data, "q", element, w->n_q);
  w->k = input_values(a, data, "k", element, w->n_k);
  w->v = input_values(a, data, "v", element, w->n_k);
  w->dy = input_values(a, data, "dy", element, w->n_q);
  w->y = ARENA_ARRAY(a, double, w->n_q);
  w->dq = ARENA_ARRAY(a, double, w->n_q);
  w->dk = ARENA_ARRAY(a, double, w->n_k);
  w->dv = ARENA_ARRAY(a, double, w->n_k);
  if (p->mask) w->mask = input_values(a, data, p->mask, DTYPE_U8, samples * keys);
  double *weight = ARENA_ARRAY(a, double, keys);
  for (int64_t b = 0; b < samples; b++)
    for (int64_t h = 0; h < p->a.heads; h++) {
      int64_t oq = b * nq + h * p->head_dim, ok = b * nk + h / share * p->head_dim;
      Answer one = {w->q + oq, w->k + ok, w->v + ok, w->dy + oq, w->y + oq, w->dq + oq, w->dk + ok, w->dv + ok,
                    w->mask ? w->mask + b * keys : NULL, 0, 0};
      for (int64_t i = 0; i < positions(p->a.query_grid); i++) attend_one(p, &one, i, weight);
    }
}

/* ---- comparing ---- */

static const char *describe(const Problem *p, char out[300]) {
  static const char *const kind[] = {"full", "axis", "nearby", "block"}, *const edge[] = {"clip", "shift"},
                    *const causal[] = {"none", "raster", "past"};
  const AttendAttrs *a = &p->a;
  snprintf(out, 300, "%s %s %s, %s, %lld heads (%lld) of %lld, scale %g, %lldx%lldx%lld on %lldx%lldx%lld, s [%lld,%lld] h [%lld,%lld] w [%lld,%lld] block %lldx%lldx%lld",
           kind[a->kind], edge[a->edge], causal[a->causal], p->mask ? p->mask : "no mask", (long long)a->heads, (long long)a->kv_heads,
           (long long)p->head_dim, a->scale,
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
    RigData data = {(uint64_t)i, fit, NULL};
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
    RigData data = {(uint64_t)i, fit, NULL};
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

/* ---- masked keys and keys that are not there ---- */

enum { KEYS = 19, SEEN = 10, WIDE = 40 };

/* Attention of 3 x 5 queries, two heads, to these keys and values, and its gradient for the queries. */
static void attend_to(Node *q, Node *dy, Node *k, Node *v, Node *mask, Port out[2], const char *y, const char *dq) {
  Graph *g = rig.model.graph;
  Attrs a = {.attend = {.heads = 2, .kind = ATTEND_FULL}}, all = {.axes.axes = 31};
  Node *in[] = {q, k, v, mask}, *grad;
  out[0] = (Port){y, graph_op(g, OP_ATTEND, in, mask ? 4 : 3, &a, NULL)};
  Node *loss = graph_binary(g, OP_MUL, out[0].node, dy);
  loss = loss ? graph_op(g, OP_SUM, &loss, 1, &all, NULL) : NULL;
  out[1] = (Port){dq, loss && grad_build(g, loss, &q, 1, &grad) ? grad : NULL};
}

/* NaN where the mask leaves a key out. */
static Node *spoiled(Node *x, Node *mask) {
  Graph *g = rig.model.graph;
  Type t = x->type;
  t.dtype = DTYPE_U8;
  return graph_select(g, graph_broadcast(g, graph_insert_axes(g, mask, 1u << 4), &t), x, graph_fill_like(g, NAN, x));
}

static void build_masked(Rig *r) {
  Graph *g = r->model.graph;
  Dim query[] = {{0, 1, 0}, dim_const(1), dim_const(3), dim_const(5), dim_const(WIDE)};
  Dim key[] = {{0, 1, 0}, dim_const(KEYS), dim_const(1), dim_const(1), dim_const(WIDE)};
  Node *q = rig_input(r, "q", DTYPE_F32, 5, query), *dy = rig_input(r, "dy", DTYPE_F32, 5, query);
  Node *k = rig_input(r, "k", DTYPE_F32, 5, key), *v = rig_input(r, "v", DTYPE_F32, 5, key), *few[2] = {k, v};
  Type place = type_make(DTYPE_I32, 4, key);
  Node *mask = graph_binary(g, OP_LT, graph_iota(g, 1, &place), graph_fill(g, SEEN, &place));
  Attrs first = {.slice.stop = {key[0], dim_const(SEEN), key[2], key[3], key[4]}, .slice.step = {1, 1, 1, 1, 1}};
  Port out[4];
  for (int i = 0; i < 2; i++) few[i] = graph_op(g, OP_SLICE, &few[i], 1, &first, NULL);
  attend_to(q, dy, spoiled(k, mask), spoiled(v, mask), mask, out, "a", "da");
  attend_to(q, dy, few[0], few[1], NULL, out + 2, "b", "db");
  rig_add(r, rig_function(r, "f", (Port[]){out[0], out[2], out[1], out[3]}, 4));
}

TEST("a masked key is to a query what a key is that is not there, to the bit, whatever it holds") {
  REQUIRE(rig_open(&rig) && rig_build(&rig, build_masked), "%s", rig.err.text);
  Plan *p = rig_compile(&rig, isa_best(), true);
  REQUIRE(p, "%s", rig.err.text);
  NuwaOptions o = {.threads = 1, .samples = SAMPLES, .rows = 1};
  NuwaSession *s = nuwa_session_open(p, &o, &rig.err);
  REQUIRE(s, "%s", rig.err.text);
  rig_run(s, p, 0, &(RigData){1, NULL, NULL}, SAMPLES, 1);
  size_t bytes = sizeof(float) * SAMPLES * 15 * WIDE;
  EXPECT(memcmp(nuwa_output(s, 0, "a"), nuwa_output(s, 0, "b"), bytes) == 0, "the results differ");
  EXPECT(memcmp(nuwa_output(s, 0, "da"), nuwa_output(s, 0, "db"), bytes) == 0, "the gradients differ");
  EXPECT(isfinite(*(const float *)nuwa_output(s, 0, "da")) && *(const float *)nuwa_output(s, 0, "da") != 0, "nothing is computed");
  nuwa_session_close(s);
  plan_free(p);
  rig_close(&rig);
}

TEST_MAIN()
