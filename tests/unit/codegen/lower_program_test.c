/* Whole functions through the passes: every group of the fused program is lowered and run on what earlier kernels
 * made, and must agree with the interpreter on those same operands. */
#include "codegen/lower/lower.h"
#include "passes/passes.h"
#include "tests/test.h"
#include "tests/unit/passes/pass_random.h"

typedef struct Run {
  PassCase c;
  Program *p;
  void **mem;       /* by node id: what a home holds; in the graph's arena */
  const char *text; /* of the function, for messages */
  const Group *group;
  bool ok;
} Run;

static int64_t elems_of(const Run *r, const Node *n) {
  int64_t e = 1;
  for (int i = 0; i < n->type.rank; i++) e *= dim_value(n->type.dim[i], r->c.B, r->c.R);
  return e;
}

static void *memory_of(Run *r, Node *n) {
  Node *home = program_home(n);
  if (!r->mem[home->id]) {
    r->mem[home->id] = arena_alloc(r->c.g->arena, (size_t)elems_of(r, home) * dtype_bytes(home->type.dtype) + 64);
    if (op_info[home->op].class == CLASS_LEAF) {
      const Tensor *t = case_leaf(&r->c, home, &r->c.err);
      for (int64_t i = 0; i < tensor_elems(t); i++) {
        if (t->dtype == DTYPE_F32)
          ((float *)r->mem[home->id])[i] = (float)t->data[i];
        else if (t->dtype == DTYPE_I32)
          ((int32_t *)r->mem[home->id])[i] = (int32_t)t->data[i];
        else
          ((uint8_t *)r->mem[home->id])[i] = (uint8_t)t->data[i];
      }
    }
  }
  return r->mem[home->id];
}

static double element(const void *p, DType t, int64_t i) {
  return t == DTYPE_F32   ? (double)((const float *)p)[i]
         : t == DTYPE_I32 ? ((const int32_t *)p)[i]
                          : ((const uint8_t *)p)[i];
}

/* Leafs of the group's function are named "in<k>" after the operand they stand for. */
static const Tensor *group_leaf(void *ctx, const Node *leaf, Error *err) {
  Run *r = ctx;
  Node *from = r->group->in[atoi(leaf->attrs.leaf.name + 2)];
  int64_t dim[MAX_RANK];
  for (int i = 0; i < leaf->type.rank; i++) dim[i] = dim_value(leaf->type.dim[i], r->c.B, r->c.R);
  Tensor *t = ARENA_NEW(r->c.g->arena, Tensor);
  *t = tensor_new(r->c.g->arena, leaf->type.dtype, leaf->type.rank, dim);
  const void *p = memory_of(r, from);
  for (int64_t i = 0; i < tensor_elems(t); i++) t->data[i] = element(p, t->dtype, i);
  return t;
}

/* The node over the group's inputs. */
static Node *rebuilt(Run *r, Node *n, Node **made) {
  Graph *g = r->c.g;
  if (made[n->id]) return made[n->id];
  for (int i = 0; i < r->group->n_in; i++)
    if (r->group->in[i] == n) {
      Attrs a = {.leaf.name = arena_printf(g->arena, "in%d_%d", i, n->id)};
      return made[n->id] = graph_op(g, OP_INPUT, NULL, 0, &a, &n->type);
    }
  Node **in = ARENA_ARRAY(g->arena, Node *, n->n_in);
  for (int i = 0; i < n->n_in; i++) in[i] = rebuilt(r, n->in[i], made);
  return made[n->id] = node_rebuild(g, n, in);
}

/* What the group should compute from the operands in memory. */
static Tensor *expected(Run *r) {
  Graph *g = r->c.g;
  const Group *gr = r->group;
  Node **made = ARENA_ARRAY(g->arena, Node *, g->n_nodes + 1);
  Port *out = ARENA_ARRAY(g->arena, Port, gr->n_out), *in = ARENA_ARRAY(g->arena, Port, gr->n_in);
  int n_in = 0;
  for (int i = 0; i < gr->n_out; i++)
    out[i] = (Port){arena_printf(g->arena, "out%03d", i), rebuilt(r, gr->out[i], made)};
  for (int i = 0; i < gr->n_in; i++)
    if (made[gr->in[i]->id]) in[n_in++] = (Port){made[gr->in[i]->id]->attrs.leaf.name, made[gr->in[i]->id]};
  Func *f = func_new(g, "group", in, n_in, out, gr->n_out);
  Tensor *want = ARENA_ARRAY(g->arena, Tensor, gr->n_out);
  return f && interp_run(f, r->c.B, r->c.R, group_leaf, r, g->arena, want, NULL, &r->c.err) ? want : NULL;
}

/* Sines of large numbers tell f32 from f64 without anything being wrong. */
static bool has_sine(const Group *g) {
  for (int i = 0; i < g->n_node; i++)
    if (g->node[i]->op == OP_SIN) return true;
  return false;
}

static bool has_large_operands(Run *r) {
  for (int i = 0; i < r->group->n_in; i++) {
    Node *n = r->group->in[i];
    const void *p = memory_of(r, n);
    for (int64_t j = 0; n->type.dtype == DTYPE_F32 && j < elems_of(r, n); j++)
      if (!(fabs(element(p, DTYPE_F32, j)) < 100)) return true;
  }
  return false;
}

static void complain(const Run *r, int out, int64_t i, double got, double want, double largest) {
  TEST_FAIL_("group %d (anchor %s, %d nodes) output %d[%lld]: got %.9g, want %.9g, largest %g\n%s",
             (int)(r->group - r->p->group), op_info[r->group->anchor->op].text, r->group->n_node, out, (long long)i,
             got, want, largest, r->text);
}

static bool compare(Run *r, const Tensor *want) {
  for (int o = 0; o < r->group->n_out; o++) {
    Node *n = r->group->out[o];
    const void *p = memory_of(r, n);
    double largest = 1e-3, tolerance = dtype_is_float(n->type.dtype) ? has_sine(r->group) ? 1e-3 : 2e-5 : 0;
    for (int64_t i = 0; i < tensor_elems(&want[o]); i++)
      if (isfinite(want[o].data[i])) largest = fmax(largest, fabs(want[o].data[i]));
    for (int64_t i = 0; i < tensor_elems(&want[o]); i++) {
      double x = element(p, n->type.dtype, i), y = want[o].data[i];
      if (x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= tolerance * largest) continue;
      complain(r, o, i, x, y, largest);
      return false;
    }
  }
  return true;
}

static bool run_group(Run *r) {
  const Group *g = r->group;
  Target t = target_of(ISA_AVX2);
  Params params;
  if (!params_default(r->c.g->arena, g, &t, &params, &r->c.err)) return false;
  Kernel *k = lower_group(r->c.g->arena, g, &t, &params, "k", &r->c.err);
  if (!k) return false;
  void **args = ARENA_ARRAY(r->c.g->arena, void *, g->n_in + g->n_out);
  for (int i = 0; i < g->n_in; i++) args[i] = memory_of(r, g->in[i]);
  for (int o = 0; o < g->n_out; o++) {
    Node *n = g->out[o];
    args[g->n_in + o] = memory_of(r, n);
    size_t bytes = (size_t)elems_of(r, n) * dtype_bytes(n->type.dtype);
    if (n->op == OP_RING_WRITE)
      memcpy(args[g->n_in + o], memory_of(r, n->in[0]), bytes);
    else
      memset(args[g->n_in + o], 0xab, bytes);
  }
  Tensor *want = expected(r);
  return want && kir_interpret(k, args, r->c.B, r->c.R, &r->c.err) && compare(r, want);
}

static bool run_all(Run *r, Func *f) {
  Buffer text = {0};
  if (f) f = pass_expand(f);
  if (f) f = pass_fold(f);
  if (f) f = pass_dce(f);
  if (!f) return false;
  func_print(f, &text);
  r->text = arena_strdup(r->c.g->arena, text.data ? text.data : "");
  buffer_done(&text);
  r->p = pass_fuse(f);
  if (!r->p) return false;
  r->mem = ARENA_ARRAY(r->c.g->arena, void *, r->c.g->n_nodes + 1);
  for (int i = 0; i < r->p->n_group; i++) {
    r->group = &r->p->group[i];
    if (has_sine(r->group) && has_large_operands(r)) return true;
    if (!run_group(r)) return false;
  }
  return true;
}

typedef struct Source {
  Run run;
  uint64_t seed;
  const char *model; /* text of a function whose output is a scalar; NULL: random */
} Source;

static void random_body(void *ctx) {
  Source *s = ctx;
  s->run.ok = run_all(&s->run, random_func(&s->run.c, s->seed, 40));
}

TEST("every group of random fused functions agrees with the interpreter on its operands") {
  for (uint64_t seed = 0; seed < 100; seed++) {
    Source s = {.seed = seed};
    random_body(&s);
    EXPECT(s.run.ok, "seed %d: %s\n%s", (int)seed, s.run.c.err.text, s.run.text ? s.run.text : "");
    case_done(&s.run.c);
  }
}

/* Adds the gradients of the only output for all inputs of type f32 as outputs. */
static Func *with_gradients(PassCase *c, Func *f) {
  Graph *g = c->g;
  Node *wrt[8], *grads[8];
  Port out[9] = {{"loss", f->out[0].node}};
  int n = 0;
  for (int i = 0; i < f->n_in; i++)
    if (f->in[i].node->type.dtype == DTYPE_F32) wrt[n++] = f->in[i].node;
  if (!grad_build(g, f->out[0].node, wrt, n, grads)) return NULL;
  for (int i = 0; i < n; i++) out[1 + i] = (Port){arena_printf(g->arena, "d%d", i), grads[i]};
  return func_new(g, "g", f->in, f->n_in, out, n + 1);
}

static const char *const models[] = {
    /* embedding, layer norm, feed-forward, cross-entropy */
    "func @f(%t: i32[B,6], %e: f32[9,32], %g: f32[32], %b: f32[32], %w: f32[32,48], %c: f32[48], %v: f32[48,9], %y: "
    "i32[B,6]) {\n"
    "  %1 = gather(%e, %t) : f32[B,6,32]\n  %2 = layer_norm(%1, %g, %b) {eps=1e-05, groups=0} : f32[B,6,32]\n"
    "  %3 = matmul(%2, %w) {trans_a=0, trans_b=0} : f32[B,6,48]\n  %4 = broadcast(%c) : f32[B,6,48]\n"
    "  %5 = add(%3, %4) : f32[B,6,48]\n  %6 = gelu(%5) : f32[B,6,48]\n"
    "  %7 = matmul(%6, %v) {trans_a=0, trans_b=0} : f32[B,6,9]\n  %8 = cross_entropy(%7, %y) : f32[B,6]\n"
    "  %9 = sum(%8) {axes=[0,1]} : f32[]\n  return loss = %9\n}\n",
    /* padded convolution, group norm, SiLU, up-sampling, down-sampling, squared error */
    "func @f(%x: f32[B,6,6,3], %w: f32[3,3,3,8], %g: f32[8], %b: f32[8], %u: f32[3,3,8,3], %y: f32[B,6,6,3]) {\n"
    "  %1 = pad(%x) {lo=[0,1,1,0], hi=[0,1,1,0], interior=[0,0,0,0], value=0} : f32[B,8,8,3]\n"
    "  %2 = conv2d(%1, %w) {stride=2, kh=0, kw=0} : f32[B,3,3,8]\n  %3 = group_norm(%2, %g, %b) {eps=1e-05, "
    "groups=2} : f32[B,3,3,8]\n"
    "  %4 = silu(%3) : f32[B,3,3,8]\n  %5 = reshape(%4) : f32[B,3,1,3,1,8]\n  %6 = broadcast(%5) : f32[B,3,2,3,2,8]\n"
    "  %7 = reshape(%6) : f32[B,6,6,8]\n  %8 = pad(%7) {lo=[0,1,1,0], hi=[0,1,1,0], interior=[0,0,0,0], value=0} : "
    "f32[B,8,8,8]\n"
    "  %9 = conv2d(%8, %u) {stride=1, kh=0, kw=0} : f32[B,6,6,3]\n  %10 = sub(%9, %y) : f32[B,6,6,3]\n"
    "  %11 = mul(%10, %10) : f32[B,6,6,3]\n  %12 = mean(%11) {axes=[0,1,2,3]} : f32[]\n  return loss = %12\n}\n",
    /* shift, attention over a grid, softmax of its result */
    "func @f(%x: f32[B,2,3,4,16], %s: f32[16], %w: f32[16,16]) {\n"
    "  %1 = shift(%x, %s) {delta=[0,0,-1], raster=0} : f32[B,2,3,4,16]\n"
    "  %2 = matmul(%1, %w) {trans_a=0, trans_b=0} : f32[B,2,3,4,16]\n"
    "  %3 = attend(%2, %1, %x) {heads=2, kind=nearby, lo=[-1,-1,-1], hi=[1,1,1], block=[0,0,0], edge=clip, "
    "causal=raster, "
    "query_grid=[2,3,4], key_grid=[2,3,4]} : f32[B,2,3,4,16]\n  %4 = softmax(%3) : f32[B,2,3,4,16]\n"
    "  %5 = mul(%4, %x) : f32[B,2,3,4,16]\n  %6 = sum(%5) {axes=[0,1,2,3,4]} : f32[]\n  return loss = %6\n}\n",
};

static void model_body(void *ctx) {
  Source *s = ctx;
  Func *f = case_parse(&s->run.c, "model", s->model);
  s->run.ok = f && run_all(&s->run, with_gradients(&s->run.c, f));
}

TEST("models and their gradients: every group agrees with the interpreter on its operands") {
  for (int i = 0; i < COUNT_OF(models); i++) {
    Source s = {.model = models[i], .run.c.B = 3, .run.c.R = 1};
    model_body(&s);
    EXPECT(s.run.ok, "model %d: %s\n%s", i, s.run.c.err.text, s.run.text ? s.run.text : "");
    case_done(&s.run.c);
  }
}

TEST_MAIN()
