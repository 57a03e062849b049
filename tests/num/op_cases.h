/* Every op of the table on awkward shapes, for chosen element types: generated code against the interpreter, the same
 * bits from every instruction set, from one thread and from two, and however the samples are split. */
#ifndef NUWA_OP_CASES_H
#define NUWA_OP_CASES_H

#include "tests/num/rig.h"

#include <string.h>

#include "tests/test.h"

enum { SAMPLES = 3 };

static Rig rig;
static bool seen[OP_COUNT];

#define C(n) {n, 0, 0}
#define PER_SAMPLE(n) {0, n, 0}

typedef struct Shape {
  int rank;
  Dim dim[5];
} Shape;

static const Shape shapes[] = {
    {0, {C(0)}},           {1, {C(1)}},           {1, {C(7)}},
    {1, {C(16)}},          {1, {C(17)}},          {2, {C(33), C(5)}},
    {2, {C(0), C(4)}},     {2, {PER_SAMPLE(1), C(13)}}, {3, {PER_SAMPLE(1), C(3), C(17)}},
    {3, {C(2), C(1), C(31)}}, {2, {PER_SAMPLE(2), C(16)}},
};
/* Of operands; of products and norms; the types that casts go to. */
static const DType *types;
static int n_types;
static DType real = DTYPE_F32;
static const DType every_type[] = {DTYPE_F32, DTYPE_BF16, DTYPE_I32, DTYPE_U8};
static const char *const port_name[] = {"x", "y", "z", "u", "v"};

/* ---- cases ---- */

static Node *input(int k, DType t, const Shape *s) {
  return rig_input(&rig, port_name[k], t, s->rank, s->dim);
}

/* Adds a function of one op, if the op takes these operands: the shape rule decides. */
static void add(Op op, Node *const *in, int n, const Attrs *attrs, const Type *type) {
  Graph *g = rig.model.graph;
  Error ignored = {0}, *old = g->err;
  g->err = &ignored;
  Node *y = graph_op(g, op, in, n, attrs, type);
  g->err = old;
  if (!y) return;
  seen[op] = true;
  if (op_info[op].class == CLASS_COMPOSITE || y->op == op)
    rig_add(&rig, rig_function(&rig, rig_name(&rig, op_info[op].text), &(Port){"y", y}, 1));
}

static void add_maps(void) {
  for (int op = 0; op < OP_COUNT; op++) {
    int n = op_info[op].arity;
    bool is_elementwise = op_info[op].class == CLASS_MAP || op == OP_SIGMOID || op == OP_SILU || op == OP_GELU || op == OP_RELU;
    if (!is_elementwise || n < 1) continue;
    for (int s = 0; s < COUNT_OF(shapes); s++)
      for (int t = 0; t < n_types; t++) {
        Node *in[MAP_OPERANDS];
        for (int k = 0; k < n; k++)
          in[k] = input(k, op == OP_SELECT && k == 0 ? DTYPE_U8 : types[t], &shapes[s]);
        for (int to = 0; to < (op == OP_CAST ? COUNT_OF(every_type) : 1); to++) {
          Type type = {.dtype = every_type[to]};
          add((Op)op, in, n, &(Attrs){.cast.dtype = type.dtype}, op == OP_CAST ? &type : NULL);
        }
      }
  }
}

static void add_constants(void) {
  for (int s = 0; s < COUNT_OF(shapes); s++)
    for (int t = 0; t < n_types; t++) {
      Type type = type_make(types[t], shapes[s].rank, shapes[s].dim);
      add(OP_FILL, NULL, 0, &(Attrs){.fill.value = 3}, &type);
      for (int axis = 0; axis < shapes[s].rank; axis++) add(OP_IOTA, NULL, 0, &(Attrs){.axis.axis = axis}, &type);
    }
}

static void add_reductions(void) {
  static const Op ops[] = {OP_SUM, OP_MAX, OP_MEAN};
  static const Shape more[] = {{2, {C(5), C(0)}}, {3, {C(3), C(20), C(18)}}, {2, {C(3), C(1000)}}, {2, {C(70), C(3)}},
                               {4, {PER_SAMPLE(1), C(3), C(4), C(18)}}};
  for (int s = 0; s < COUNT_OF(shapes) + COUNT_OF(more); s++) {
    const Shape *shape = s < COUNT_OF(shapes) ? &shapes[s] : &more[s - COUNT_OF(shapes)];
    for (int t = 0; t < n_types; t++) {
      Node *x = input(0, types[t], shape);
      for (int axes = 1; axes < 1 << shape->rank; axes++)
        for (int k = 0; k < COUNT_OF(ops); k++) add(ops[k], &x, 1, &(Attrs){.axes.axes = axes}, NULL);
      for (int axis = 0; axis < shape->rank; axis++) add(OP_ARGMAX, &x, 1, &(Attrs){.axis.axis = axis}, NULL);
      add(OP_SOFTMAX, &x, 1, NULL, NULL);
      add(OP_LOG_SOFTMAX, &x, 1, NULL, NULL);
    }
  }
}

static void add_moves(DType t) {
  static const Shape from[] = {{3, {C(3), C(5), C(17)}}, {3, {PER_SAMPLE(1), C(6), C(4)}}, {2, {C(0), C(4)}}};
  for (int s = 0; s < COUNT_OF(from); s++) {
    const Shape *f = &from[s];
    Node *x = input(0, t, f), *pair[] = {x, input(1, t, f)};
    static const int64_t perms[][3] = {{2, 0, 1}, {0, 2, 1}, {2, 1, 0}, {1, 0, 2}};
    for (int p = 0; p < COUNT_OF(perms); p++) {
      Attrs a = {0};
      memcpy(a.perm.perm, perms[p], sizeof perms[p]);
      if (f->rank == 3) add(OP_TRANSPOSE, &x, 1, &a, NULL);
    }
    if (f->rank == 2) add(OP_TRANSPOSE, &x, 1, &(Attrs){.perm.perm = {1, 0}}, NULL);
    Attrs cut = {0}, all = {0}, pad = {.pad.value = 2};
    for (int i = 0; i < f->rank; i++) {
      bool is_const = dim_is_const(f->dim[i]) && f->dim[i].c > 2;
      cut.slice.start[i] = dim_const(is_const ? 1 : 0);
      cut.slice.stop[i] = f->dim[i];
      cut.slice.step[i] = is_const ? 2 : 1;
      all.slice.stop[i] = f->dim[i];
      all.slice.step[i] = 1;
      pad.pad.lo[i] = dim_const(i);
      pad.pad.hi[i] = dim_const(2 - i);
      pad.pad.interior[i] = is_const && i == 1 ? 1 : 0;
    }
    all.slice.start[f->rank - 1] = dim_const(3);
    add(OP_SLICE, &x, 1, &cut, NULL);
    add(OP_SLICE, &x, 1, &all, NULL);
    add(OP_PAD, &x, 1, &pad, NULL);
    for (int axes = 1; axes < 1 << f->rank; axes++) add(OP_REVERSE, &x, 1, &(Attrs){.axes.axes = axes}, NULL);
    for (int axis = 0; axis < f->rank; axis++) add(OP_CONCAT, pair, 2, &(Attrs){.axis.axis = axis}, NULL);
    Type flat = {.dtype = t, .rank = 1};
    if (type_elems(&x->type, &flat.dim[0])) add(OP_RESHAPE, &x, 1, NULL, &flat);
    Type wide = type_make(t, f->rank, f->dim);
    wide.rank = f->rank + 1;
    memcpy(wide.dim + 1, f->dim, sizeof(Dim) * (size_t)f->rank);
    wide.dim[0] = dim_const(4);
    add(OP_BROADCAST, &x, 1, NULL, &wide);
  }
  Shape row = {1, {C(17)}}, column = {2, {C(9), C(1)}};
  Node *r = input(0, t, &row), *c = input(0, t, &column);
  Type to = type_make(t, 2, (Dim[]){dim_const(9), dim_const(17)});
  add(OP_BROADCAST, &r, 1, NULL, &to);
  add(OP_BROADCAST, &c, 1, NULL, &to);
}

/* A ring is a state that the function updates. */
static void add_ring(DType t) {
  static const char *const names[] = {"ring.f32", "ring.bf16", "ring.i32", "ring.u8"};
  Type type = type_make(t, 2, (Dim[]){dim_const(12), dim_const(17)});
  Dim slots[] = {dim_const(5)}, rows[] = {dim_const(5), dim_const(17)};
  Node *ring = graph_op(rig.model.graph, OP_STATE, NULL, 0, &(Attrs){.leaf.name = names[t]}, &type);
  Node *in[] = {ring, rig_input(&rig, "slot", DTYPE_I32, 1, slots), rig_input(&rig, "x", t, 2, rows)};
  Node *y = graph_op(rig.model.graph, OP_RING_WRITE, in, 3, NULL, NULL);
  Func *f = rig_add(&rig, rig_function(&rig, rig_name(&rig, "ring_write"), &(Port){"y", y}, 1));
  if (!f) return;
  f->update = arena_copy(rig.model.graph->arena, &(Update){ring, y}, sizeof(Update));
  f->n_update = 1;
  seen[OP_RING_WRITE] = true;
}

static void add_tables(DType t) {
  Shape table = {2, {C(7), C(19)}}, column = {1, {C(7)}}, index = {2, {PER_SAMPLE(1), C(5)}}, one = {0, {C(0)}};
  Node *i = rig_input(&rig, "index", DTYPE_I32, index.rank, index.dim), *i0 = rig_input(&rig, "index", DTYPE_I32, one.rank, one.dim);
  add(OP_GATHER, (Node *[]){input(0, t, &table), i}, 2, NULL, NULL);
  add(OP_GATHER, (Node *[]){input(0, t, &column), i}, 2, NULL, NULL);
  add(OP_GATHER, (Node *[]){input(0, t, &table), i0}, 2, NULL, NULL);
  Shape x = {3, {PER_SAMPLE(1), C(5), C(18)}}, thin = {2, {PER_SAMPLE(1), C(5)}};
  add(OP_SCATTER_ADD, (Node *[]){i, input(0, t, &x)}, 2, &(Attrs){.scatter.rows = 6}, NULL);
  add(OP_SCATTER_ADD, (Node *[]){i, input(0, t, &thin)}, 2, &(Attrs){.scatter.rows = 11}, NULL);
  Shape grid = {5, {PER_SAMPLE(1), C(2), C(3), C(4), C(17)}}, start = {1, {C(17)}};
  Node *shifted[] = {input(0, t, &grid), input(1, t, &start)};
  static const int64_t deltas[][3] = {{0, 0, -1}, {0, -1, 0}, {-1, 0, 0}, {1, -1, 1}, {0, 0, 0}, {-5, 0, 0}, {0, 2, -1}};
  for (int d = 0; d < COUNT_OF(deltas); d++) {
    Attrs a = {0};
    memcpy(a.shift.delta, deltas[d], sizeof deltas[d]);
    add(OP_SHIFT, shifted, 2, &a, NULL);
  }
  add(OP_SHIFT, shifted, 2, &(Attrs){.shift.raster = 1}, NULL);
  add_ring(t);
}

static void add_products(void) {
  static const Dim sizes[][3] = {{C(1), C(1), C(1)},    {C(7), C(5), C(3)},     {C(16), C(16), C(16)}, {C(17), C(33), C(31)},
                                 {C(65), C(48), C(70)}, {C(3), C(0), C(4)},     {PER_SAMPLE(1), C(29), C(18)},
                                 {PER_SAMPLE(9), C(64), C(50)}, {C(1), C(600), C(37)}, {C(30), C(7), C(1)}, {C(0), C(3), C(5)},
                                 {C(1), C(290), C(197)}, {C(5), C(260), C(150)}, {C(19), C(131), C(98)}};
  for (int s = 0; s < COUNT_OF(sizes); s++)
    for (int trans = 0; trans < 4; trans++) {
      Dim m = sizes[s][0], k = sizes[s][1], n = sizes[s][2];
      bool ta = trans & 1, tb = trans & 2;
      Shape a = {2, {ta ? k : m, ta ? m : k}}, b = {2, {tb ? n : k, tb ? k : n}};
      Shape a3 = {3, {PER_SAMPLE(1), a.dim[0], a.dim[1]}}, b3 = {3, {PER_SAMPLE(1), b.dim[0], b.dim[1]}};
      Attrs attrs = {.matmul = {ta, tb}};
      add(OP_MATMUL, (Node *[]){input(0, real, &a), input(1, real, &b)}, 2, &attrs, NULL);
      if (!dim_is_const(m) || s % 2) continue;
      add(OP_MATMUL, (Node *[]){input(0, real, &a3), input(1, real, &b)}, 2, &attrs, NULL);
      add(OP_MATMUL, (Node *[]){input(0, real, &a3), input(1, real, &b3)}, 2, &attrs, NULL);
    }
}

typedef struct ConvCase {
  int64_t h, w, c, kh, kw, o, stride;
} ConvCase;

static void add_convolutions(void) {
  static const ConvCase cases[] = {{5, 6, 3, 3, 3, 8, 1},   {8, 8, 16, 3, 3, 32, 1}, {9, 7, 5, 3, 3, 17, 2}, {6, 6, 33, 1, 1, 19, 1},
                                   {10, 9, 32, 3, 3, 3, 1}, {8, 8, 7, 4, 4, 5, 2},   {1, 1, 40, 1, 1, 1, 1}, {5, 20, 64, 3, 3, 64, 1}};
  for (int i = 0; i < COUNT_OF(cases); i++) {
    const ConvCase *c = &cases[i];
    int64_t oh = (c->h - c->kh) / c->stride + 1, ow = (c->w - c->kw) / c->stride + 1;
    Shape x = {4, {PER_SAMPLE(1), C(c->h), C(c->w), C(c->c)}}, w = {4, {C(c->kh), C(c->kw), C(c->c), C(c->o)}};
    Shape dy = {4, {PER_SAMPLE(1), C(oh), C(ow), C(c->o)}};
    add(OP_CONV2D, (Node *[]){input(0, real, &x), input(1, real, &w)}, 2, &(Attrs){.conv = {c->stride, 0, 0}}, NULL);
    add(OP_CONV2D_GRAD_W, (Node *[]){input(0, real, &x), input(1, real, &dy)}, 2,
        &(Attrs){.conv = {c->stride, c->kh, c->kw}}, NULL);
  }
}

static void add_norms(void) {
  static const int64_t widths[] = {1, 16, 17, 70};
  for (int i = 0; i < COUNT_OF(widths); i++) {
    Shape x = {3, {PER_SAMPLE(1), C(3), C(widths[i])}}, d = {1, {C(widths[i])}}, target = {2, {PER_SAMPLE(1), C(3)}};
    Node *in[] = {input(0, real, &x), input(1, real, &d), input(2, real, &d)};
    add(OP_LAYER_NORM, in, 3, &(Attrs){.norm.eps = 1e-5}, NULL);
    add(OP_CROSS_ENTROPY, (Node *[]){in[0], input(3, DTYPE_I32, &target)}, 2, NULL, NULL);
  }
  static const int64_t groups[][2] = {{4, 2}, {32, 32}, {34, 2}, {48, 3}};
  for (int i = 0; i < COUNT_OF(groups); i++) {
    Shape x = {4, {PER_SAMPLE(1), C(3), C(5), C(groups[i][0])}}, d = {1, {C(groups[i][0])}};
    Node *in[] = {input(0, real, &x), input(1, real, &d), input(2, real, &d)};
    add(OP_GROUP_NORM, in, 3, &(Attrs){.norm = {1e-5, groups[i][1]}}, NULL);
  }
}

static void build_all(Rig *r) {
  add_maps();
  add_constants();
  add_reductions();
  for (int t = 0; t < n_types; t++) {
    add_moves(types[t]);
    add_tables(types[t]);
  }
  add_products();
  add_convolutions();
  add_norms();
}

/* ---- comparing ---- */

/* Logarithms and roots of what is positive; distinct slots. */
static double fit(void *ctx, const char *name, int64_t i, double x) {
  const char *function = ctx;
  bool positive = strncmp(function, "log.", 4) == 0 || strncmp(function, "sqrt.", 5) == 0;
  if (positive && strcmp(name, "x") == 0) return x < 0 ? 0.01 - x : x + 0.01;
  if (strcmp(name, "slot") == 0) return (double)((i * 5 + 2) % 12);
  return x;
}

/* Of the largest value.  bf16: ops of one rounding give its bits, transcendental ones and sums at most the neighbour. */
static double tolerance(const char *name, DType t) {
  static const char *const exact[] = {"neg.", "abs.", "floor.", "maximum.", "minimum.", "select.", "reshape.", "transpose.",
                                      "broadcast.", "slice.", "pad.", "reverse.", "concat.", "gather.", "shift.", "max.",
                                      "ring_write.", "fill.", "detach."};
  static const char *const rounded[] = {"add.", "sub.", "mul.", "div.", "fma.", "sqrt.", "cast.", "relu."};
  if (!dtype_is_float(t)) return 0;
  for (int i = 0; i < COUNT_OF(exact); i++)
    if (strncmp(name, exact[i], strlen(exact[i])) == 0) return 0;
  for (int i = 0; i < COUNT_OF(rounded) && t == DTYPE_BF16; i++)
    if (strncmp(name, rounded[i], strlen(rounded[i])) == 0) return 0;
  return t == DTYPE_BF16 ? 1.0 / 128 : 3e-6;
}

static size_t output_bytes(const Plan *p, int fn, int64_t B) {
  int64_t bytes = 0;
  BUG_IF(!plan_tensor_bytes(&p->function[fn].out[0], B, 1, &bytes), "too large");
  return (size_t)bytes;
}

/* The result of every function, one after the other, for B samples. */
static uint8_t *run_all(const Plan *p, int threads, int64_t B, Error *err) {
  NuwaOptions o = {.threads = threads, .samples = B > 0 ? B : 1, .rows = 1};
  NuwaSession *s = nuwa_session_open(p, &o, err);
  if (!s) return NULL;
  size_t total = 1, at = 0;
  for (int f = 0; f < p->n_function; f++) total += output_bytes(p, f, B);
  uint8_t *all = mem_alloc(total);
  for (int f = 0; all && f < p->n_function; f++) {
    RigData d = {1, fit, (void *)p->function[f].name};
    rig_run(s, p, f, &d, B, 1);
    memcpy(all + at, nuwa_output(s, f, "y"), output_bytes(p, f, B));
    at += output_bytes(p, f, B);
  }
  nuwa_session_close(s);
  return all;
}

static Func *function_of(const char *name) {
  for (int i = 0; i < rig.model.n_func; i++)
    if (strcmp(rig.func[i]->name, name) == 0) return rig.func[i];
  return NULL;
}

static void compare_with_interp(const Plan *p, const uint8_t *all, int64_t B) {
  size_t at = 0;
  for (int f = 0; f < p->n_function; f++) {
    const PlanFunction *pf = &p->function[f];
    Arena *a = arena_new();
    Tensor want, update;
    Error err = {0};
    RigData d = {1, fit, (void *)pf->name};
    const Func *func = function_of(pf->name);
    bool ok = a && rig_interp(func, &d, B, 1, a, &want, &update, &err);
    EXPECT(ok, "%s: %s", pf->name, err.text);
    double e = ok ? rig_error(&pf->out[0], all + at, &want) : 0;
    char in[200] = "", out[200];
    if (pf->n_in) type_print(&func->in[0].node->type, in, sizeof in);
    EXPECT(e <= tolerance(pf->name, pf->out[0].dtype), "%s of %s -> %s with B = %lld: error %g", pf->name, in,
           type_print(&func->out[0].node->type, out, sizeof out), (long long)B, e);
    at += output_bytes(p, f, B);
    arena_free(a);
  }
}

/* Outputs x of plan p against those, y, of plan q, which has functions of p in the same order, perhaps not all. */
static void compare_bits(const Plan *p, const uint8_t *x, const Plan *q, const uint8_t *y, const char *what) {
  size_t at = 0, at_q = 0;
  int g = 0;
  for (int f = 0; f < p->n_function; f++) {
    size_t n = output_bytes(p, f, SAMPLES);
    if (g < q->n_function && strcmp(p->function[f].name, q->function[g].name) == 0) {
      EXPECT(memcmp(x + at, y + at_q, n) == 0, "%s: other bits with %s", p->function[f].name, what);
      at_q += n;
      g++;
    }
    at += n;
  }
  EXPECT(g == q->n_function, "%d of %d functions were compared", g, q->n_function);
}

static bool samples_come_first(const PlanTensor *t) {
  for (int i = 0; i < t->rank; i++)
    if (t->dim[i].b > 0 && (i > 0 || t->dim[i].c > 0)) return false;
  return true;
}

/* Sample 0 of a run on one sample has the bits that it has among three, where the op keeps samples apart. */
static void compare_split(const Plan *p, const uint8_t *many, const uint8_t *one) {
  size_t at = 0, at_one = 0;
  for (int f = 0; f < p->n_function; f++) {
    const PlanTensor *t = &p->function[f].out[0];
    bool by_sample = t->rank > 0 && t->dim[0].b > 0 && t->dim[0].c == 0;
    for (int i = 0; i < p->function[f].n_in; i++) by_sample &= samples_come_first(&p->function[f].in[i]);
    bool mixes = strncmp(p->function[f].name, "reverse", 7) == 0 || strncmp(p->function[f].name, "concat", 6) == 0;
    if (by_sample && !mixes)
      EXPECT(memcmp(many + at, one + at_one, output_bytes(p, f, 1)) == 0, "%s: other bits with fewer samples", p->function[f].name);
    at += output_bytes(p, f, SAMPLES);
    at_one += output_bytes(p, f, 1);
  }
}

/* Drops what cannot be lowered, after saying so: one function must not hide all others. */
static void drop_refused(void) {
  int kept = 0;
  for (int i = 0; i < rig.model.n_func; i++) {
    Model one = rig.model;
    one.func = &rig.func[i];
    one.n_func = 1;
    CompileOptions o = {.isa = isa_best(), .whole = true};
    Lowered lowered;
    Error err = {0};
    char in[200] = "";
    if (rig.func[i]->n_in) type_print(&rig.func[i]->in[0].node->type, in, sizeof in);
    bool ok = compile_lower(&one, &o, &lowered, &err);
    lowered_done(&lowered);
    EXPECT(ok, "%s of %s: %s", rig.func[i]->name, in, err.text);
    if (ok) rig.func[kept++] = rig.func[i];
  }
  rig.model.n_func = kept;
}

/* Whether op takes the types under test. */
static bool has_form(int op) { return n_types > 1 || (op != OP_MOD && op != OP_IOTA && op != OP_UNIFORM && op != OP_NORMAL); }

/* One instruction set: the same bits from two threads, from fewer samples, and as with the first set. */
typedef struct Outputs {
  Plan *plan;
  uint8_t *all;
} Outputs;

static bool check_isa(Isa isa, const Outputs *first, Outputs *out) {
  Plan *p = out->plan = rig_compile(&rig, isa, true);
  if (!p) return false;
  out->all = run_all(p, 1, SAMPLES, &rig.err);
  uint8_t *threaded = run_all(p, 2, SAMPLES, &rig.err), *one = run_all(p, 2, 1, &rig.err);
  bool ok = out->all && threaded && one;
  if (ok) {
    printf("%s: %d functions, %d kernels\n", isa_name(isa), p->n_function, p->n_kernel);
    compare_bits(p, out->all, p, threaded, "two threads");
    compare_split(p, out->all, one);
    if (first) compare_bits(first->plan, first->all, p, out->all, isa_name(isa));
    else compare_with_interp(p, out->all, SAMPLES);
  }
  mem_free(threaded);
  mem_free(one);
  return ok;
}

/* Instruction sets after the best one take every third function, each other ones, unless the test is long. */
static void keep_share(Func *const *every, int n, int turn) {
  rig.model.n_func = 0;
  for (int f = 0; f < n; f++)
    if (test_is_long || turn == 0 || (f + turn) % 3 == 0) rig.func[rig.model.n_func++] = every[f];
}

static void check_every_op(const DType *operands, int n_operands, DType floats) {
  types = operands;
  n_types = n_operands;
  real = floats;
  REQUIRE(rig_open(&rig), "memory");
  REQUIRE(rig_build(&rig, build_all), "%s", rig.err.text);
  for (int op = 0; op < OP_COUNT; op++)
    if (op_info[op].class != CLASS_LEAF && op_info[op].class != CLASS_ATTEND && op != OP_GRAD) EXPECT(seen[op] || !has_form(op), "%s has no case", op_info[op].text);
  drop_refused();
  static Func *every[COUNT_OF(rig.func)];
  Isa isa[ISA_COUNT];
  Outputs out[ISA_COUNT] = {0};
  int n = rig_isas(isa), n_func = rig.model.n_func;
  memcpy(every, rig.func, sizeof *every * (size_t)n_func);
  for (int i = 0; i < n; i++) {
    keep_share(every, n_func, i);
    EXPECT(check_isa(isa[i], i ? &out[0] : NULL, &out[i]), "%s: %s", isa_name(isa[i]), rig.err.text);
  }
  for (int i = 0; i < n; i++) {
    mem_free(out[i].all);
    plan_free(out[i].plan);
  }
  rig_close(&rig);
}

#endif
