/* Anything that verifies compiles: random graphs through the whole chain, generated code against the interpreter.
 *
 * A failure names its seed; NUWA_GRAPHS=SEED or NUWA_GRAPHS=FIRST:COUNT runs these alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/passes.h"
#include "tests/num/random_graph.h"
#include "tests/test.h"

enum { BATCH = 20, USUAL = 160, MANY = 10000, FIRST_SEED = 1000 };

static Rig rig;
static RandomGraph gen;
static uint64_t next_seed;
static int n_wanted;
static int n_kernels, n_unsteady, n_refused, n_done;

static void build_batch(Rig *r) {
  for (int i = 0; i < n_wanted; i++) {
    gen.seed = next_seed++;
    rig_add(r, random_graph(r, &gen));
  }
}

static void say(const Func *f, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(const Func *f, const char *fmt, ...) {
  char what[800];
  Buffer text = {0};
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(what, sizeof what, fmt, ap);
  va_end(ap);
  func_print(f, &text);
  TEST_FAIL_("%s: %s\n%s", f->name, what, text.data ? text.data : "");
  buffer_done(&text);
}

/* ---- refusals ---- */

/* One function alone: lowering it for a target must work. */
static bool lowers(Func *f, PlanDevice device) {
  rig_blame(f->name);
  Model one = rig.model;
  one.func = &f;
  one.n_func = 1;
  CompileOptions o = {.isa = isa_best(), .whole = true, .device = device};
  Lowered lowered;
  Error err = {0};
  bool ok = compile_lower(&one, &o, &lowered, &err);
  lowered_done(&lowered);
  if (!ok) say(f, "%s refuses: %s", device == PLAN_CUDA ? "cuda" : "cpu", err.text);
  return ok;
}

/* ---- values ---- */

typedef struct Results {
  Arena *arena;
  Tensor *out, *update;
  bool ok;
} Results;

/* Moves every float input a little, to see what a result makes of it. */
typedef struct Nudge {
  RigData plain;
  double by;
} Nudge;

static double nudge(void *ctx, const char *name, int64_t i, double x) {
  const Nudge *n = ctx;
  double y = n->plain.fit(n->plain.ctx, name, i, x);
  return y == floor(y) ? y : y * (1 + n->by * (i % 2 ? 1 : -0.7));
}

/* Those whose samples exist. */
static int64_t rows_of(int64_t B) { return B == RANDOM_SAMPLES ? RANDOM_ROWS : B; }

static Results interpret(const Func *f, const RigData *d, int64_t B) {
  Results r = {.arena = arena_new()};
  Error err = {0};
  r.out = calloc((size_t)f->n_out + 1, sizeof *r.out);
  r.update = calloc((size_t)f->n_update + 1, sizeof *r.update);
  Func *meaning = compile_meaning(&rig.model, f->name, DTYPE_F32, &err);
  r.ok = meaning && rig_interp(meaning, d, B, rows_of(B), r.arena, r.out, r.update, &err);
  if (!r.ok) say(f, "the interpreter refuses: %s", err.text);
  return r;
}

static void results_done(Results *r) {
  arena_free(r->arena);
  free(r->out);
  free(r->update);
}

static double distance(const Tensor *x, const Tensor *y) {
  double most = 0;
  for (int64_t i = 0; i < tensor_elems(x); i++)
    if (x->data[i] != y->data[i]) most = fmax(most, isfinite(x->data[i] - y->data[i]) ? fabs(x->data[i] - y->data[i]) : INFINITY);
  return most;
}

/* How far result k (outputs, then updates) moves when inputs move by what rounding is. */
static double unsteadiness(const Func *f, uint64_t seed, int64_t B, int k, bool half) {
  double most = 0;
  for (int i = 0; i < 4; i++) {
    Nudge n = {random_data(seed), (half ? 1.0 / 256 : 1e-6) * (i % 2 ? -1 : 1) * (1 + i)};
    RigData plain = random_data(seed), moved = {seed, nudge, &n};
    Results x = interpret(f, &plain, B), y = interpret(f, &moved, B);
    bool is_out = k < f->n_out;
    if (x.ok && y.ok)
      most = fmax(most, is_out ? distance(&x.out[k], &y.out[k]) : distance(&x.update[k - f->n_out], &y.update[k - f->n_out]));
    results_done(&x);
    results_done(&y);
  }
  return most;
}

static bool has_half(const Func *f) {
  int n;
  Node **node = func_nodes(f, &n);
  for (int i = 0; i < n; i++)
    if (node[i]->type.dtype == DTYPE_BF16) return true;
  return false;
}

static void compare(const Func *f, uint64_t seed, int64_t B, int k, const PlanTensor *t, const void *got, const Tensor *want) {
  double e = rig_error(t, got, want), largest = 0;
  bool half = has_half(f);
  for (int64_t i = 0; i < tensor_elems(want); i++)
    if (isfinite(want->data[i])) largest = fmax(largest, fabs(want->data[i]));
  if (e <= (dtype_is_float(t->dtype) ? half ? 2e-2 : 2e-5 : 0)) return;
  /* What the interpreter has of a result that vanishes (a gradient of a norm's sum, say) is the rounding of its own sums.
   * What is added is about 1, so the code's is small too. */
  bool vanishes = dtype_is_float(t->dtype) && largest < 1e-12;
  if (vanishes && e * (largest > 0 ? largest : 1) <= (half ? 2e-2 : 1e-4)) return;
  /* A difference of numbers about 1 that no input moves, as of what a softmax makes of equal values, is their rounding. */
  bool is_rounding = dtype_is_float(t->dtype) && largest < 0.1 && e * largest <= (half ? 2e-2 : 1e-6);
  if (is_rounding || e * fmax(largest, 1e-30) <= 4 * unsteadiness(f, seed, B, k, half)) {
    n_unsteady++;
    return;
  }
  say(f, "result %d is off by %g of %g with B = %lld", k, e, largest, (long long)B);
}

/* ---- a batch ---- */

static void fill_session(NuwaSession *s, const Plan *p, const RigData *d) {
  for (int i = 0; i < p->n_param; i++) {
    int64_t n = 0;
    const PlanTensor *t = &p->param[i].type;
    BUG_IF(!plan_tensor_elems(t, 0, 0, &n), "too large");
    RigData own = *d;
    own.seed = strtoull(strchr(t->name, '.') + 1, NULL, 10);
    rig_fill(&own, t->name, t->dtype, n, nuwa_param(s, t->name));
  }
  EXPECT(nuwa_prepare(s));
}

static bool has_rows(const Func *f) {
  for (int i = 0; i < f->n_in; i++)
    for (int k = 0; k < f->in[i].node->type.rank; k++)
      if (f->in[i].node->type.dim[k].r) return true;
  return false;
}

/* With B samples: agrees, or code and interpreter both refuse an empty batch. */
static void run_one(NuwaSession *s, const Plan *p, const Func *f, int64_t B) {
  int fn = plan_find_function(p, f->name);
  uint64_t seed = strtoull(f->name + 5, NULL, 10);
  RigData d = random_data(seed);
  Error err = {0};
  if (B == 0 && has_rows(f)) return;   /* rows are of samples */
  rig_blame(f->name);
  if (B < p->function[fn].least_samples) {
    EXPECT(!nuwa_run(s, fn, B, rows_of(B)) && !nuwa_check(s, &err), "%s runs with %lld samples", f->name, (long long)B);
    n_refused++;
    return;
  }
  for (int i = 0; i < p->n_state; i++) {
    int64_t bytes = 0;
    BUG_IF(!plan_tensor_bytes(&p->state[i].type, 0, 0, &bytes), "too large");
    memset(nuwa_state(s, p->state[i].type.name), 0, (size_t)bytes);
  }
  EXPECT(nuwa_prepare(s));
  rig_run(s, p, fn, &d, B, rows_of(B));
  Results r = interpret(f, &d, B);
  for (int i = 0; r.ok && i < f->n_out; i++)
    compare(f, seed, B, i, &p->function[fn].out[i], nuwa_output(s, fn, f->out[i].name), &r.out[i]);
  for (int i = 0; r.ok && i < f->n_update; i++) {
    const Node *target = f->update[i].target;
    PlanTensor t = {.dtype = target->type.dtype, .rank = target->type.rank};
    memcpy(t.dim, target->type.dim, sizeof t.dim);
    const void *got = nuwa_state(s, target->attrs.leaf.name);
    if (got) compare(f, seed, B, f->n_out + i, &t, got, &r.update[i]);   /* else it keeps its zeros */
  }
  results_done(&r);
  n_done++;
}

/* Each instruction set in turn. */
static void run_batch(void) {
  static int turn;
  Isa isa[ISA_COUNT];
  int n = rig_isas(isa);
  Plan *p = rig_compile(&rig, isa[turn++ % n], true);
  for (int i = 0; i < rig.model.n_func && !p; i++) say(rig.func[i], "one of these makes no plan: %s", rig.err.text);
  if (!p) return;
  n_kernels += p->n_kernel;
  NuwaOptions o = {.threads = 2, .samples = RANDOM_SAMPLES, .rows = RANDOM_ROWS};
  NuwaSession *s = nuwa_session_open(p, &o, &rig.err);
  EXPECT(s, "%s", rig.err.text);
  if (s) {
    RigData d = random_data(0);
    fill_session(s, p, &d);
    for (int i = 0; i < rig.model.n_func; i++) for (int64_t B = 0; B <= RANDOM_SAMPLES; B += B ? 2 : 1) run_one(s, p, rig.func[i], B);
  }
  nuwa_session_close(s);
  plan_free(p);
}

static void campaign(uint64_t first, int count) {
  next_seed = first;
  memset(gen.made, 0, sizeof gen.made);
  for (int at = 0; at < count; at += BATCH) {
    n_wanted = count - at < BATCH ? count - at : BATCH;
    REQUIRE(rig_open(&rig) && rig_build(&rig, build_batch), "from seed %llu: %s", (unsigned long long)next_seed, rig.err.text);
    int kept = 0;
    for (int i = 0; i < rig.model.n_func; i++) {
      bool gpu = lowers(rig.func[i], PLAN_CUDA), cpu = lowers(rig.func[i], PLAN_CPU);
      if (cpu && gpu) rig.func[kept++] = rig.func[i];
    }
    rig.model.n_func = kept;
    if (kept) run_batch();
    rig_close(&rig);
  }
  printf("%d runs of %d graphs, %d kernels, %d empty batches refused, %d results too unsteady to compare\n", n_done, count,
         n_kernels, n_refused, n_unsteady);
}

static bool asked(void) {
  const char *text = getenv("NUWA_GRAPHS");
  if (!text) return false;
  const char *colon = strchr(text, ':');
  campaign(strtoull(text, NULL, 10), colon ? atoi(colon + 1) : 1);
  return true;
}

TEST("random graphs over every op compile for both devices, and their code agrees with the interpreter") {
  if (asked()) return;
  campaign(FIRST_SEED, USUAL);
  for (int op = 0; op < OP_COUNT; op++) EXPECT(gen.made[op], "%s is in no graph", op_info[op].text);
}

/* ---- what was once refused ---- */

static Node *many_params(Rig *r, int n) {
  Node **in = ARENA_ARRAY(r->model.graph->arena, Node *, n);
  Type t = type_make(DTYPE_F32, 1, (Dim[]){dim_const(3)});
  for (int i = 0; i < n; i++) {
    Attrs a = {.leaf = {arena_printf(r->model.graph->arena, "p%d.0", i), {INIT_NORMAL, 1}}};
    in[i] = graph_op(r->model.graph, OP_PARAM, NULL, 0, &a, &t);
  }
  return graph_op(r->model.graph, OP_CONCAT, in, n, NULL, NULL);
}

static Node *state(Rig *r, const char *name, int64_t n) {
  Type t = type_make(DTYPE_F32, 2, (Dim[]){dim_const(n), dim_const(5)});
  return graph_op(r->model.graph, OP_STATE, NULL, 0, &(Attrs){.leaf.name = name}, &t);
}

static void add_updated(Rig *r, Node *y, Node *out, const Update *update, int n) {
  Port port[] = {{"y", y}, {"z", out}};
  Func *f = rig_add(r, rig_function(r, rig_name(r, "graph"), port, 2));
  if (!f) return;
  f->update = arena_copy(r->model.graph->arena, update, (size_t)n * sizeof *update);
  f->n_update = n;
}

/* One head, and its gradients. */
static Node *wide_attention(Rig *r, int64_t width) {
  Graph *g = r->model.graph;
  Dim d[] = {{0, 1, 0}, dim_const(1), dim_const(2), dim_const(3), dim_const(width)};
  Node *in[3], *dx[3];
  for (int i = 0; i < 3; i++)
    in[i] = rig_input(r, arena_printf(g->arena, "%c%d", "qkv"[i], (int)width), DTYPE_F32, 5, d);
  Node *y = graph_op(g, OP_ATTEND, in, 3, &(Attrs){.attend.heads = 1}, NULL);
  Node *loss = y ? graph_sum(g, graph_binary(g, OP_MUL, y, y), 31) : NULL;
  if (!loss || !grad_build(g, loss, in, 3, dx)) return NULL;
  return graph_binary(g, OP_ADD, graph_binary(g, OP_ADD, y, dx[0]), graph_binary(g, OP_ADD, dx[1], dx[2]));
}

static void build_refused(Rig *r) {
  Graph *g = r->model.graph;
  Node *all = many_params(r, 300), *half = graph_fill_like(g, 0.5, all);
  rig_add(r, rig_function(r, rig_name(r, "graph"), (Port[]){{"y", all}, {"z", graph_binary(g, OP_MUL, all, half)}}, 2));
  /* A constant that is a product's operand and stands in what follows it. */
  Type square = type_make(DTYPE_F32, 2, (Dim[]){dim_const(6), dim_const(6)});
  Node *x = rig_input(r, "x", DTYPE_F32, 2, square.dim), *quarter = graph_fill(g, 0.25, &square);
  Node *y = graph_binary(g, OP_ADD, graph_binary(g, OP_MUL, x, quarter), graph_matmul(g, quarter, x, false, false));
  rig_add(r, rig_function(r, rig_name(r, "graph"), (Port[]){{"y", y}}, 1));
  /* States that change places, and a ring whose old contents are still wanted. */
  Node *s = state(r, "s.0", 4), *t = state(r, "t.0", 4);
  add_updated(r, graph_binary(g, OP_ADD, s, t), s, (Update[]){{s, t}, {t, s}}, 2);
  Dim slot = dim_const(5), rows[] = {slot, slot};
  Node *in[] = {state(r, "ring.0", 12), rig_input(r, "slot", DTYPE_I32, 1, &slot), rig_input(r, "x5", DTYPE_F32, 2, rows)};
  Node *written = graph_op(g, OP_RING_WRITE, in, 3, NULL, NULL);
  add_updated(r, graph_binary(g, OP_SUB, written, in[0]), in[0], (Update[]){{in[0], written}}, 1);
  rig_add(r, rig_function(r, rig_name(r, "graph"), (Port[]){{"y", written}, {"z", in[0]}}, 2));
  add_updated(r, in[1], in[2], (Update[]){{state(r, "other.0", 12), written}}, 1);
  Dim none[] = {dim_const(7), dim_const(0)};
  Node *nothing[] = {rig_input(r, "i0", DTYPE_I32, 2, none), rig_input(r, "x0", DTYPE_F32, 2, none)};
  rig_add(r, rig_function(r, rig_name(r, "graph"),
                          (Port[]){{"y", graph_op(g, OP_SCATTER_ADD, nothing, 2, &(Attrs){.scatter.rows = 3}, NULL)}}, 1));
  /* Rows of one element, however many axes they have. */
  Dim single[] = {slot, dim_const(1), dim_const(1)};
  Node *rows_of_one[] = {in[1], rig_input(r, "x1", DTYPE_F32, 3, single)};
  Node *added = graph_op(g, OP_SCATTER_ADD, rows_of_one, 2, &(Attrs){.scatter.rows = 12}, NULL);
  rig_add(r, rig_function(r, rig_name(r, "graph"), (Port[]){{"y", added}}, 1));
  static const int64_t widths[] = {272, 512, 1040};
  for (int i = 0; i < COUNT_OF(widths); i++)
    rig_add(r, rig_function(r, rig_name(r, "graph"), (Port[]){{"y", wide_attention(r, widths[i])}}, 1));
}

TEST("concats of hundreds, constants beside products, exchanged states, rings read, rows of one, wide heads compile") {
  if (getenv("NUWA_GRAPHS")) return;
  REQUIRE(rig_open(&rig) && rig_build(&rig, build_refused), "%s", rig.err.text);
  for (int i = 0; i < rig.model.n_func; i++)
    EXPECT(lowers(rig.func[i], PLAN_CUDA) && lowers(rig.func[i], PLAN_CPU), "%s", rig.func[i]->name);
  run_batch();
  rig_close(&rig);
}

LONG_TEST("ten thousand random graphs agree with the interpreter") { campaign(1000000, MANY); }

TEST_MAIN()
