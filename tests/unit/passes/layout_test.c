/* A function after layout, fed by its prepare function, is the function before. */
#include "tests/test.h"
#include "tests/unit/passes/store.h"
#include "tests/unit/passes/toy_model.h"

static Error err;

static Func *parse(const char *text) {
  Func **f;
  int n;
  err = (Error){0};
  Graph *g = graph_new(&err);
  if (ir_parse(g, "case", text, &f, &n)) return f[0];
  graph_free(g);
  return NULL;
}

/* Runs f on the store; updates go into it when `keep`. */
static bool run(const Func *f, Store *s, bool keep, Tensor *out) {
  Tensor *update = ARENA_ARRAY(s->arena, Tensor, f->n_update + 1);
  if (!func_verify(f, FORM_PRIMITIVE, "layout", &err)) return false;
  if (!interp_run(f, s->B, s->R, store_leaf, s, s->arena, out, update, &err)) return false;
  for (int i = 0; keep && i < f->n_update; i++) store_put(s, f->update[i].target->attrs.leaf.name, update[i]);
  for (int i = 0; i < f->n_update; i++) out[f->n_out + i] = update[i];
  return true;
}

static bool same_bits(const Tensor *x, const Tensor *y) {
  return tensor_elems(x) == tensor_elems(y) &&
         memcmp(x->data, y->data, sizeof *x->data * (size_t)tensor_elems(x)) == 0;
}

static int count(const Func *f, Op op) {
  int n, found = 0;
  Node **nodes = func_nodes(f, &n);
  for (int i = 0; i < n; i++) found += nodes[i]->op == op;
  return found;
}

/* The function after layout on the same numbers: outputs and updates bit by bit. */
static Func *check_same(const char *what, Func *f, Func **out_prepare) {
  Store s;
  store_init(&s, 2);
  s.int_high = 1;
  Func *plain = pass_expand(f), *rest = plain ? pass_layout(plain, out_prepare) : NULL;
  EXPECT(rest, "%s: %s", what, err.text);
  Tensor *want = ARENA_ARRAY(s.arena, Tensor, 64), *got = want + 32;
  bool ok = rest && run(plain, &s, false, want) && (!*out_prepare || run(*out_prepare, &s, true, got)) &&
            run(rest, &s, false, got);
  EXPECT(ok, "%s: %s", what, err.text);
  for (int i = 0; ok && i < rest->n_out + rest->n_update; i++)
    EXPECT(same_bits(&want[i], &got[i]), "%s: result %d differs", what, i);
  EXPECT(!ok || rest->n_update == plain->n_update);
  store_done(&s);
  return rest;
}

static void expect_text(const char *text, const char *want_rest, const char *want_prepare) {
  Func *f = parse(text), *prepare = NULL;
  REQUIRE(f, "%s", err.text);
  Func *rest = check_same("text", f, &prepare);
  Buffer out[2] = {0};
  if (rest) func_print(rest, &out[0]);
  if (prepare) func_print(prepare, &out[1]);
  EXPECT_TEXT(out[0].data ? out[0].data : "", want_rest);
  EXPECT_TEXT(out[1].data ? out[1].data : "", want_prepare);
  buffer_done(&out[0]);
  buffer_done(&out[1]);
  graph_free(f->graph);
}

#define PARAM(id, type) "  " id " = param() {name=\"w\", init=normal, scale=0.02} : " type "\n"

TEST("a product with transposed weights reads them transposed once and for all") {
  expect_text("func @f(%x: f32[B,4]) {\n" PARAM("%1", "f32[5,4]")
              "  %2 = matmul(%x, %1) {trans_a=0, trans_b=1} : f32[B,5]\n  return y = %2\n}\n",
              "func @f(%x: f32[B,4]) {\n  %1 = state() {name=\"prepare.f.0\"} : f32[4,5]\n"
              "  %2 = matmul(%x, %1) {trans_a=0, trans_b=0} : f32[B,5]\n  return y = %2\n}\n",
              "func @prepare.f() {\n  %1 = state() {name=\"prepare.f.0\"} : f32[4,5]\n" PARAM("%2", "f32[5,4]")
              "  %3 = transpose(%2) {perm=[1,0]} : f32[4,5]\n  update %1 = %3\n  return\n}\n");
}

TEST("views of a param stay, work on it goes") {
  expect_text("func @f(%x: f32[B,6]) {\n" PARAM("%1", "f32[2,3]") "  %2 = reshape(%1) : f32[6]\n"
              "  %3 = broadcast(%2) : f32[B,6]\n  %4 = add(%x, %3) : f32[B,6]\n  return y = %4\n}\n",
              "func @f(%x: f32[B,6]) {\n" PARAM("%1", "f32[2,3]") "  %2 = reshape(%1) : f32[6]\n"
              "  %3 = broadcast(%2) : f32[B,6]\n  %4 = add(%x, %3) : f32[B,6]\n  return y = %4\n}\n",
              "");
  expect_text("func @f(%x: f32[B,6]) {\n"
              PARAM("%1", "f32[2,3]")
              "  %2 = exp(%1) : f32[2,3]\n  %3 = reshape(%2) : f32[6]\n  %4 = broadcast(%3) : f32[B,6]\n"
              "  %5 = add(%x, %4) : f32[B,6]\n  return y = %5\n}\n",
              "func @f(%x: f32[B,6]) {\n  %1 = state() {name=\"prepare.f.0\"} : f32[2,3]\n"
              "  %2 = reshape(%1) : f32[6]\n  %3 = broadcast(%2) : f32[B,6]\n  %4 = add(%x, %3) : f32[B,6]\n"
              "  return y = %4\n}\n",
              "func @prepare.f() {\n  %1 = state() {name=\"prepare.f.0\"} : f32[2,3]\n"
              PARAM("%2", "f32[2,3]")
              "  %3 = exp(%2) : f32[2,3]\n  update %1 = %3\n  return\n}\n");
}

TEST("cheap constants stay, sines of constants go") {
  Func *prepare,
      *f = parse("func @f(%x: f32[4]) {\n  %1 = iota() {axis=0} : i32[4]\n  %2 = cast(%1) {dtype=f32} : f32[4]\n"
                 "  %3 = add(%2, %2) : f32[4]\n  %4 = mul(%x, %3) : f32[4]\n  return y = %4\n}\n");
  REQUIRE(f, "%s", err.text);
  check_same("constants", f, &prepare);
  EXPECT(prepare == NULL);
  graph_free(f->graph);
  f = parse(
      "func @f(%x: f32[4]) {\n  %1 = iota() {axis=0} : i32[4]\n  %2 = cast(%1) {dtype=f32} : f32[4]\n"
      "  %3 = sin(%2) : f32[4]\n  %4 = add(%3, %3) : f32[4]\n  %5 = mul(%x, %4) : f32[4]\n  return y = %5\n}\n");
  REQUIRE(f, "%s", err.text);
  Func *rest = check_same("sines", f, &prepare);
  EXPECT(prepare && rest && count(rest, OP_SIN) == 0 && count(rest, OP_ADD) == 0);
  graph_free(f->graph);
}

TEST("a function that sets a state from params does so whenever it is called") {
  Func *prepare,
      *f = parse("func @f(%x: f32[3]) {\n" PARAM(
          "%1",
          "f32[3]") "  %2 = state() {name=\"s\"} : f32[3]\n"
                    "  %3 = exp(%1) : f32[3]\n  %4 = mul(%x, %3) : f32[3]\n  update %2 = %3\n  return y = %4\n}\n");
  REQUIRE(f, "%s", err.text);
  Func *rest = check_same("set", f, &prepare);
  EXPECT(prepare && prepare->n_update == 1 && rest->n_update == 1 && rest->update[0].target == f->update[0].target);
  graph_free(f->graph);
}

TEST("a function that updates params is left alone") {
  Func *prepare,
      *f = parse("func @f(%x: f32[3,3]) {\n" PARAM(
          "%1",
          "f32[3,3]") "  %2 = matmul(%x, %1) {trans_a=0, trans_b=1} : f32[3,3]\n  update %1 = %2\n  return\n}\n");
  REQUIRE(f, "%s", err.text);
  EXPECT(pass_layout(f, &prepare) == f && prepare == NULL);
  graph_free(f->graph);
}

/* What a prepared function may not contain any more. */
static void expect_prepared(const char *what, const Func *f) {
  int n;
  Node **nodes = func_nodes(f, &n);
  for (int i = 0; i < n; i++) {
    const Node *x = nodes[i];
    EXPECT(x->op != OP_TRANSPOSE || x->in[0]->op != OP_PARAM, "%s: transposes a param", what);
    EXPECT(x->op != OP_MATMUL || !x->attrs.matmul.trans_b || x->in[1]->op != OP_PARAM, "%s: reads weights by columns",
           what);
  }
}

TEST("small models: the function, its prologue and its step") {
  for (int i = 0; i < 12; i++) {
    Toy m = {.grid = {2, 2, 2}, .dim = 4, .heads = 2, .vocab = 3, .layers = 1, .has_position = true};
    m.self = (AttendAttrs){.kind = ATTEND_NEARBY, .lo = {-1, -1, -1}, .hi = {1, 1, 1}, .causal = CAUSAL_RASTER};
    m.n_stencil = 1;
    m.stencil[0].raster = true;
    m.is_tied = i % 2;
    m.position_on_batch = i / 2 % 2;
    m.shape = (ToyShape)(i % 3);
    if (i / 4) memcpy(m.cond_grid, i / 4 == 1 ? (int64_t[]){3, 1, 1} : m.grid, sizeof m.grid);
    err = (Error){0};
    Graph *g = graph_new(&err);
    Func *f = toy_build(g, &m), *prepare;
    Decode *d = f ? pass_incremental(f, "tokens", "logits") : NULL;
    EXPECT(d, "%s", err.text);
    Func *all[3] = {f, d ? d->prologue : NULL, d ? d->step : NULL};
    for (int k = 0; d && k < 3; k++) {
      Func *rest = check_same((const char *[]){"function", "prologue", "step"}[k], all[k], &prepare);
      if (rest) expect_prepared("model", rest);
      EXPECT(k == 1 || (prepare != NULL) == (m.is_tied || (m.has_position && !m.position_on_batch)), "model %d, %d",
             i, k);
    }
    graph_free(g);
  }
}

TEST_MAIN()
