/* Values that few programs meet on purpose: NaN, infinities, zeros of both signs, denormals, the ends of the integers.
 * Every elementwise op on all pairs of them: every instruction set gives the bits that folding gives. */
#include <math.h>
#include <string.h>

#include "ir/scalar.h"
#include "passes/passes.h"
#include "tests/num/rig.h"
#include "tests/test.h"

static const double reals[] = {0.0,    -0.0,    1.0,      -1.0,   NAN,     INFINITY, -INFINITY, 3.5,   -20.0, 1e30, -1e30, 1e-30,
                               0.3,    -0.7,    2.5e-38,  1e8,    -1e15,   3e38,     -88.5,     88.9,  12.9,  -12.9, 255.6, -9.0,
                               1e-40,  2147483520.0, 2147483648.0, -2147483904.0, 0.1f, 131072.5, 0x1.6ac5b2p62, 6.5};
static const double wholes[] = {0, 1, -1, 2, -2, 3, -3, 7, -7, 100, 2147483647, -2147483647, -2147483648.0, 1 << 30, 65537, 46341};
static const double bytes[] = {0, 1, 2, 3, 7, 100, 127, 128, 200, 255};

typedef struct Values {
  const double *x;
  int64_t n;
} Values;

static Values values_of(DType t) {
  if (t == DTYPE_I32) return (Values){wholes, COUNT_OF(wholes)};
  if (t == DTYPE_U8) return (Values){bytes, COUNT_OF(bytes)};
  return (Values){reals, COUNT_OF(reals)};
}

static const char *const port_name[] = {"x", "y", "z", "u", "v"};
enum { MOST = 32 * 32 };

/* Element i of operand k of a function: all pairs, and the third operand some other value. */
static double value_at(DType t, int k, int64_t i) {
  Values v = values_of(t);
  int64_t at = k == 0 ? i / 32 : k == 1 ? i % 32 : i / 7;
  double x = v.x[at % v.n];
  return t == DTYPE_BF16 ? (double)bf16_round((float)x) : t == DTYPE_F32 ? (double)(float)x : x;
}

static Rig rig;
static const NuwaOptions one_sample = {.threads = 1, .samples = 1, .rows = 1};

static void add_op(Op op, DType t, DType to) {
  Node *in[MAP_OPERANDS];
  int n = op_info[op].arity;
  Error ignored = {0}, *old = rig.model.graph->err;
  Type type = {.dtype = to};
  for (int k = 0; k < n; k++)
    in[k] = rig_input(&rig, port_name[k], op == OP_SELECT && k == 0 ? DTYPE_U8 : t, 1, (Dim[]){dim_const(MOST)});
  rig.model.graph->err = &ignored;
  Node *y = graph_op(rig.model.graph, op, in, n, &(Attrs){.cast.dtype = to}, op == OP_CAST ? &type : NULL);
  rig.model.graph->err = old;
  if (y && y->op == op) rig_add(&rig, rig_function(&rig, rig_name(&rig, op_info[op].text), &(Port){"y", y}, 1));
}

static void build_all(Rig *r) {
  static const DType types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_I32, DTYPE_U8};
  for (int op = 0; op < OP_COUNT; op++)
    for (int t = 0; t < COUNT_OF(types) && op_info[op].class == CLASS_MAP && op_info[op].arity > 0; t++)
      for (int to = 0; to < (op == OP_CAST ? COUNT_OF(types) : 1); to++) add_op((Op)op, types[t], types[to]);
}

static bool same(double a, double b) { return (isnan(a) && isnan(b)) || (a == b && !signbit(a) == !signbit(b)); }

static bool is_denormal(double x) { return x != 0 && fabs(x) < 0x1p-126; }

static void check_function(NuwaSession *s, const Plan *p, int f, Isa isa) {
  const Node *n = rig.func[f]->out[0].node;
  for (int k = 0; k < n->n_in; k++)
    for (int64_t i = 0; i < MOST; i++)
      rig_store(n->in[k]->type.dtype, nuwa_input(s, f, port_name[k]), i, value_at(n->in[k]->type.dtype, k, i));
  nuwa_run(s, f, 1, 0);
  int wrong = 0;
  for (int64_t i = 0; i < MOST && wrong < 3; i++) {
    double x[MAP_OPERANDS] = {0}, got = rig_load(n->type.dtype, nuwa_output(s, f, "y"), i);
    bool denormal = false;
    for (int k = 0; k < n->n_in; k++) {
      x[k] = value_at(n->in[k]->type.dtype, k, i);
      denormal |= dtype_is_float(n->in[k]->type.dtype) && is_denormal(x[k]);
    }
    if (denormal) continue;   /* folding leaves these to run time */
    double want = scalar_compute(n, x);
    if (same(got, want)) continue;
    wrong++;
    EXPECT(false, "%s: %s(%g, %g, %g) of %s: %.9g, not %.9g", isa_name(isa), op_info[n->op].text, x[0], x[1], x[2],
           dtype_name(n->in[0]->type.dtype), got, want);
  }
}

TEST("every elementwise op has the bits of folding, on every instruction set, for every special value") {
  REQUIRE(rig_open(&rig), "memory");
  REQUIRE(rig_build(&rig, build_all), "%s", rig.err.text);
  EXPECT(rig.model.n_func > 60, "only %d functions", rig.model.n_func);
  Isa isa[ISA_COUNT];
  for (int i = 0, n = rig_isas(isa); i < n; i++) {
    Plan *p = rig_compile(&rig, isa[i], true);
    REQUIRE(p, "%s", rig.err.text);
    NuwaSession *s = nuwa_session_open(p, &one_sample, &rig.err);
    REQUIRE(s, "%s", rig.err.text);
    for (int f = 0; f < p->n_function; f++) check_function(s, p, f, isa[i]);
    nuwa_session_close(s);
    plan_free(p);
  }
  rig_close(&rig);
}

TEST("folding a function of constants gives these bits, and leaves only NaN and denormals") {
  REQUIRE(rig_open(&rig), "memory");
  Graph *g = rig.model.graph;
  for (int op = 0; op < OP_COUNT; op++) {
    if (op_info[op].class != CLASS_MAP || op_info[op].arity < 1) continue;
    for (int64_t i = 0; i < MOST; i += 5) {
      Node *in[MAP_OPERANDS];
      double x[MAP_OPERANDS] = {0};
      DType t = op == OP_MOD || op_info[op].attrs == ATTR_random ? DTYPE_I32 : DTYPE_F32;
      bool denormal = false;
      for (int k = 0; k < op_info[op].arity; k++) {
        Type type = {.dtype = op == OP_SELECT && k == 0 ? DTYPE_U8 : t};
        x[k] = value_at(type.dtype, k, i);
        denormal |= is_denormal(x[k]);
        in[k] = graph_fill(g, x[k], &type);
      }
      Type to = {.dtype = DTYPE_I32};
      Node *n = graph_op(g, (Op)op, in, op_info[op].arity, &(Attrs){.cast.dtype = DTYPE_I32}, op == OP_CAST ? &to : NULL);
      REQUIRE(n, "%s", rig.err.text);
      Func *f = pass_fold(func_new(g, "f", NULL, 0, &(Port){"y", n}, 1));
      REQUIRE(f, "%s", rig.err.text);
      const Node *y = f->out[0].node;
      double want = scalar_compute(n, x);
      if (y->op == OP_FILL) EXPECT(denormal || same(y->attrs.fill.value, want), "%s", op_info[op].text);
      else EXPECT(isnan(want) || denormal, "%s(%g, %g, %g) is not folded", op_info[op].text, x[0], x[1], x[2]);
    }
  }
  rig_close(&rig);
}

/* ---- reductions ---- */

enum { ROWS = 40, WIDTH = 37 };

/* Row r holds NaN at r and, where r is a multiple of 3, at 5 too; rows from WIDTH on hold none. */
static double row_value(int r, int i) {
  if (r < WIDTH && (i == r || (r % 3 == 0 && i == 5))) return r % 2 ? NAN : -NAN;
  return r == ROWS - 1 ? -INFINITY : (double)((i * 17 + r) % 23) - 11;
}

static void build_reductions(Rig *r) {
  Dim dim[] = {dim_const(ROWS), dim_const(WIDTH)}, turned[] = {dim_const(WIDTH), dim_const(ROWS)};
  Node *x = rig_input(r, "x", DTYPE_F32, 2, dim), *y = rig_input(r, "y", DTYPE_F32, 2, turned), *out[6];
  Graph *g = r->model.graph;
  out[0] = graph_max(g, x, 2);
  out[1] = graph_max(g, y, 1);
  out[2] = graph_op(g, OP_ARGMAX, &x, 1, &(Attrs){.axis.axis = 1}, NULL);
  out[3] = graph_op(g, OP_ARGMAX, &y, 1, &(Attrs){.axis.axis = 0}, NULL);
  out[4] = graph_op(g, OP_SOFTMAX, &x, 1, NULL, NULL);
  out[5] = graph_unary(g, OP_RELU, x);
  static const char *const name[] = {"max_rows", "max_columns", "argmax_rows", "argmax_columns", "softmax", "relu"};
  for (int i = 0; i < 6; i++) rig_add(r, rig_function(r, name[i], &(Port){"y", out[i]}, 1));
}

static void expect_row(NuwaSession *s, const Plan *p, int row) {
  int first = -1, best = 0;
  for (int i = 0; i < WIDTH; i++) {
    if (isnan(row_value(row, i)) && first < 0) first = i;
    if (row_value(row, i) > row_value(row, best)) best = i;
  }
  for (int f = 0; f < 6; f++) {
    const void *y = nuwa_output(s, f, "y");
    const char *name = p->function[f].name;
    if (f < 2) EXPECT(same(rig_load(DTYPE_F32, y, row), first < 0 ? row_value(row, best) : (double)NAN), "%s of row %d", name, row);
    else if (f < 4) EXPECT(rig_load(DTYPE_I32, y, row) == (first < 0 ? best : first), "%s of row %d: %g", name, row, rig_load(DTYPE_I32, y, row));
    for (int i = 0; f >= 4 && i < WIDTH; i++) {
      double got = rig_load(DTYPE_F32, y, row * WIDTH + i), x = row_value(row, i);
      bool is_nan = f == 4 ? first >= 0 || row == ROWS - 1 : (bool)isnan(x);
      EXPECT(!isnan(got) == !is_nan && (f == 4 || is_nan || got == fmax(x, 0)), "%s of row %d: %g", name, row, got);
    }
  }
}

TEST("NaN spreads through max, softmax and relu, and argmax takes the first") {
  REQUIRE(rig_open(&rig), "memory");
  REQUIRE(rig_build(&rig, build_reductions), "%s", rig.err.text);
  Isa isa[ISA_COUNT];
  for (int k = 0, n = rig_isas(isa); k < n; k++) {
    Plan *p = rig_compile(&rig, isa[k], true);
    REQUIRE(p, "%s", rig.err.text);
    NuwaSession *s = nuwa_session_open(p, &one_sample, &rig.err);
    REQUIRE(s, "%s", rig.err.text);
    for (int f = 0; f < 6; f++) {
      const char *in = p->function[f].in[0].name;
      for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < WIDTH; i++)
          rig_store(DTYPE_F32, nuwa_input(s, f, in), in[0] == 'x' ? r * WIDTH + i : i * ROWS + r, row_value(r, i));
      nuwa_run(s, f, 1, 0);
    }
    for (int r = 0; r < ROWS; r++) expect_row(s, p, r);
    nuwa_session_close(s);
    plan_free(p);
  }
  rig_close(&rig);
}

/* ---- tails ---- */

static const double tail[] = {-87, -60, -38, -20, -12.9, -9, -5, -1, -1e-3, 0, 1e-3, 0.5, 1, 5, 9, 20, 40, 80};
enum { N_TAIL = COUNT_OF(tail) };

static long double sigmoid_at(long double x) { return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x)); }
static long double cdf_at(long double x) { return 0.5L * erfcl(-x * sqrtl(0.5L)); }
static long double bell_at(long double x) { return expl(-x * x / 2) / sqrtl(2 * acosl(-1.0L)); }
static long double slope_at(long double x) { return sigmoid_at(x) * sigmoid_at(-x); }
static long double silu_at(long double x) { return x * sigmoid_at(x); }
static long double silu_slope_at(long double x) { return sigmoid_at(x) + x * slope_at(x); }
static long double gelu_at(long double x) { return x * cdf_at(x); }
static long double gelu_slope_at(long double x) { return cdf_at(x) + x * bell_at(x); }
static long double tanh_slope_at(long double x) { return 1 / (coshl(x) * coshl(x)); }

static const struct {
  Op op;
  long double (*value)(long double x), (*slope)(long double x);
} tails[] = {{OP_SIGMOID, sigmoid_at, slope_at}, {OP_SILU, silu_at, silu_slope_at}, {OP_GELU, gelu_at, gelu_slope_at},
             {OP_NORMAL_CDF, cdf_at, bell_at},   {OP_TANH, tanhl, tanh_slope_at}};

static void build_tails(Rig *r) {
  Node *x = rig_input(r, "x", DTYPE_F32, 1, (Dim[]){dim_const(N_TAIL)}), *dx;
  for (int i = 0; i < COUNT_OF(tails); i++) {
    Node *y = graph_unary(r->model.graph, tails[i].op, x);
    if (!y || !grad_build(r->model.graph, graph_sum(r->model.graph, y, 1), &x, 1, &dx)) return;
    rig_add(r, rig_function(r, rig_name(r, op_info[tails[i].op].text), &(Port){"y", y}, 1));
    rig_add(r, rig_function(r, rig_name(r, op_info[tails[i].op].text), &(Port){"y", dx}, 1));
  }
}

TEST("activations and their derivatives are relatively right in the tails") {
  REQUIRE(rig_open(&rig), "memory");
  REQUIRE(rig_build(&rig, build_tails), "%s", rig.err.text);
  Isa isa[ISA_COUNT];
  rig_isas(isa);
  Plan *p = rig_compile(&rig, isa[0], true);
  REQUIRE(p, "%s", rig.err.text);
  NuwaSession *s = nuwa_session_open(p, &one_sample, &rig.err);
  REQUIRE(s && p->n_function == 2 * COUNT_OF(tails), "%s", rig.err.text);
  for (int f = 0; f < p->n_function; f++) {
    for (int i = 0; i < N_TAIL; i++) rig_store(DTYPE_F32, nuwa_input(s, f, "x"), i, tail[i]);
    nuwa_run(s, f, 1, 0);
    for (int i = 0; i < N_TAIL; i++) {
      long double want = (f % 2 ? tails[f / 2].slope : tails[f / 2].value)((long double)(float)tail[i]);
      double got = rig_load(DTYPE_F32, nuwa_output(s, f, "y"), i);
      bool small = fabsl(want) < 0x1p-126L;
      EXPECT(small ? fabs(got) < 0x1p-125 : fabsl(got - want) <= 1e-6L * fabsl(want), "%s at %g: %.9g, not %.9Lg",
             p->function[f].name, tail[i], got, want);
    }
  }
  nuwa_session_close(s);
  plan_free(p);
  rig_close(&rig);
}

/* ---- one class far ahead ---- */

enum { CLASSES = 37, N_GAP = 11, N_ROW = 4 * N_GAP };

/* Row r: class `ahead` stands above the others by a gap or more (for gap 0 a few share the first place); the target is that
 * class in even rows; every second pair of rows looks at the winner's result alone.  All differences are exact. */
typedef struct SureRow {
  int ahead, target;
  long double x[CLASSES], dy[CLASSES];
} SureRow;

static SureRow sure_row(int r) {
  static const float gaps[N_GAP] = {0, 0.125f, 1, 5, 9.5f, 12, 16, 17.5f, 20, 40, 80};
  SureRow row = {.ahead = r * 5 % CLASSES};
  row.target = r % 2 ? (row.ahead + 3) % CLASSES : row.ahead;
  for (int i = 0; i < CLASSES; i++) {
    row.x[i] = i == row.ahead ? 2.25L : 2.25L - (long double)gaps[r / 4] - (i * 3 + r) % 5 * 0.25L;
    row.dy[i] = r % 4 < 2 ? (i * 7 + r) % 5 - 1.5L : i == row.ahead;
  }
  return row;
}

/* p of a row, and 1 - p, neither by subtraction from 1. */
static void probabilities(const SureRow *row, long double *p, long double *lacks) {
  long double e[CLASSES], sum = 0;
  for (int i = 0; i < CLASSES; i++) sum += e[i] = expl(row->x[i] - row->x[row->ahead]);
  for (int i = 0; i < CLASSES; i++) {
    lacks[i] = 0;
    for (int j = 0; j < CLASSES; j++) lacks[i] += j == i ? 0 : e[j] / sum;
    p[i] = e[i] / sum;
  }
}

/* A result and what its relative error counts from: the sum of sizes of what is added. */
typedef struct Expected {
  long double value, size;
} Expected;

enum { SURE_LOG, SURE_LOSS, SURE_GRAD, SURE_LOG_GRAD, SURE_LOSS_GRAD, N_SURE };

static Expected expected_at(int function, const SureRow *row, int i) {
  long double p[CLASSES], lacks[CLASSES], top = row->x[row->ahead], z = row->x[i] - top, z_target = row->x[row->target] - top;
  probabilities(row, p, lacks);
  long double log_sum = -logl(p[row->ahead]);
  if (lacks[row->ahead] < 0.5L) log_sum = -log1pl(-lacks[row->ahead]);
  if (function == SURE_LOG) return (Expected){z - log_sum, log_sum - z};
  if (function == SURE_LOSS) return (Expected){log_sum - z_target, log_sum - z_target};
  if (function == SURE_LOSS_GRAD) return i == row->target ? (Expected){-lacks[i], lacks[i]} : (Expected){p[i], p[i]};
  Expected d = {0, 0};
  if (function == SURE_LOG_GRAD) d = (Expected){row->dy[i] * lacks[i], fabsl(row->dy[i]) * lacks[i]};
  for (int j = 0; j < CLASSES; j++) {
    long double weight = function == SURE_GRAD ? p[i] * p[j] : p[i], own = function == SURE_GRAD ? row->dy[i] : 0;
    if (j == i) continue;
    d.value += weight * (own - row->dy[j]);
    d.size += weight * (fabsl(own) + fabsl(row->dy[j]));
  }
  return d;
}

static void build_sure(Rig *r) {
  Graph *g = r->model.graph;
  Dim dim[] = {dim_const(N_ROW), dim_const(CLASSES)};
  Node *x = rig_input(r, "x", DTYPE_F32, 2, dim), *dy = rig_input(r, "dy", DTYPE_F32, 2, dim);
  Node *target = rig_input(r, "t", DTYPE_I32, 1, dim), *dx[3];
  Node *y[] = {graph_unary(g, OP_SOFTMAX, x), graph_unary(g, OP_LOG_SOFTMAX, x),
               graph_binary(g, OP_CROSS_ENTROPY, x, target)};
  for (int i = 0; i < 3; i++) {
    Node *loss = graph_sum(g, i < 2 ? graph_binary(g, OP_MUL, y[i], dy) : y[i], i < 2 ? 3 : 1);
    if (!loss || !grad_build(g, loss, &x, 1, &dx[i])) return;
  }
  Node *result[N_SURE] = {y[1], y[2], dx[0], dx[1], dx[2]};
  static const char *const name[N_SURE] = {"log_softmax", "loss", "grad_softmax", "grad_log_softmax", "grad_loss"};
  for (int f = 0; f < N_SURE; f++) rig_add(r, rig_function(r, name[f], &(Port){"y", result[f]}, 1));
}

static void check_sure(NuwaSession *s, const Plan *p, int f) {
  for (int k = 0; k < p->function[f].n_in; k++) {
    const char *name = p->function[f].in[k].name;
    void *to = nuwa_input(s, f, name);
    for (int r = 0; r < N_ROW; r++) {
      SureRow row = sure_row(r);
      if (name[0] == 't') rig_store(DTYPE_I32, to, r, row.target);
      else for (int i = 0; i < CLASSES; i++)
        rig_store(DTYPE_F32, to, r * CLASSES + i, (double)(name[0] == 'x' ? row.x[i] : row.dy[i]));
    }
  }
  nuwa_run(s, f, 1, 0);
  for (int r = 0; r < N_ROW; r++) {
    SureRow row = sure_row(r);
    int n = p->function[f].out[0].rank == 2 ? CLASSES : 1;
    for (int i = 0; i < n; i++) {
      Expected want = expected_at(f, &row, i);
      double got = rig_load(DTYPE_F32, nuwa_output(s, f, "y"), r * n + i);
      EXPECT(fabsl(got - want.value) <= 2e-6L * want.size, "%s of row %d, class %d (%d is ahead): %.9g, not %.9Lg",
             p->function[f].name, r, i, row.ahead, got, want.value);
    }
  }
}

TEST("losses, logarithms and gradients of a class that is far ahead are relatively right") {
  REQUIRE(rig_open(&rig), "memory");
  REQUIRE(rig_build(&rig, build_sure) && rig.model.n_func == N_SURE, "%s", rig.err.text);
  Isa isa[ISA_COUNT];
  for (int k = 0, n = rig_isas(isa); k < n; k++) {
    Plan *p = rig_compile(&rig, isa[k], true);
    REQUIRE(p, "%s", rig.err.text);
    NuwaSession *s = nuwa_session_open(p, &one_sample, &rig.err);
    REQUIRE(s, "%s", rig.err.text);
    for (int f = 0; f < N_SURE; f++) check_sure(s, p, f);
    nuwa_session_close(s);
    plan_free(p);
  }
  rig_close(&rig);
}

/* ---- norms of a large mean ---- */

enum { NORM_ROWS = 6, NORM_WIDTH = 1000 };

static double norm_value(int r, int i) {
  static const double mean[NORM_ROWS] = {0, 10, -1e3, 1e4, 1e5, -1e6};
  return (double)(float)(mean[r] + rig_value(DTYPE_F32, (uint64_t)r, i));
}

/* Rows as rows, and as pictures of 10 by 25 of one group of four channels. */
static void build_norms(Rig *r) {
  Graph *g = r->model.graph;
  Dim row[] = {dim_const(NORM_ROWS), dim_const(NORM_WIDTH)};
  Dim picture[] = {row[0], dim_const(10), dim_const(25), dim_const(4)};
  Type wide = type_make(DTYPE_F32, 1, &row[1]), narrow = type_make(DTYPE_F32, 1, &picture[3]);
  Node *x = rig_input(r, "x", DTYPE_F32, 2, row), *y = rig_input(r, "y", DTYPE_F32, 4, picture);
  Node *layer[] = {x, graph_fill(g, 1, &wide), graph_fill(g, 0, &wide)};
  Node *group[] = {y, graph_fill(g, 1, &narrow), graph_fill(g, 0, &narrow)};
  Attrs a = {.norm = {.eps = 1e-6, .groups = 1}};
  rig_add(r, rig_function(r, "group", &(Port){"y", graph_op(g, OP_GROUP_NORM, group, 3, &a, NULL)}, 1));
  a.norm.groups = 0;
  rig_add(r, rig_function(r, "layer", &(Port){"y", graph_op(g, OP_LAYER_NORM, layer, 3, &a, NULL)}, 1));
}

/* Rounding the mean to f32 alone moves every element by half a unit of the mean over the deviation. */
static void check_norms(NuwaSession *s, const Plan *p, int f) {
  for (int i = 0; i < NORM_ROWS * NORM_WIDTH; i++)
    rig_store(DTYPE_F32, nuwa_input(s, f, p->function[f].in[0].name), i, norm_value(i / NORM_WIDTH, i % NORM_WIDTH));
  nuwa_run(s, f, 1, 0);
  for (int r = 0; r < NORM_ROWS; r++) {
    long double mean = 0, variance = 0, worst = 0;
    for (int i = 0; i < NORM_WIDTH; i++) mean += norm_value(r, i) / (long double)NORM_WIDTH;
    for (int i = 0; i < NORM_WIDTH; i++) variance += (norm_value(r, i) - mean) * (norm_value(r, i) - mean) / NORM_WIDTH;
    long double deviation = sqrtl(variance + 1e-6L), unit = (1 + fabsl(mean)) * 0x1p-23L / deviation;
    for (int i = 0; i < NORM_WIDTH; i++) {
      double got = rig_load(DTYPE_F32, nuwa_output(s, f, "y"), r * NORM_WIDTH + i);
      worst = fmaxl(worst, fabsl(got - (norm_value(r, i) - mean) / deviation));
    }
    EXPECT(worst <= 4 * unit, "%s norm of mean %Lg is off by %Lg units", p->function[f].name, mean, worst / unit);
  }
}

TEST("norms of a mean that is large beside the deviation lose what rounding the mean loses, and no more") {
  REQUIRE(rig_open(&rig), "memory");
  REQUIRE(rig_build(&rig, build_norms) && rig.model.n_func == 2, "%s", rig.err.text);
  Isa isa[ISA_COUNT];
  rig_isas(isa);
  Plan *p = rig_compile(&rig, isa[0], true);
  REQUIRE(p, "%s", rig.err.text);
  NuwaSession *s = nuwa_session_open(p, &one_sample, &rig.err);
  REQUIRE(s, "%s", rig.err.text);
  for (int f = 0; f < 2; f++) check_norms(s, p, f);
  nuwa_session_close(s);
  plan_free(p);
  rig_close(&rig);
}

TEST_MAIN()
