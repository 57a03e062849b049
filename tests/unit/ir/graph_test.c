/* Nodes: hash-consing, locations in diagnostics, short forms, functions and rewriting. */
#include "ir/ir.h"
#include "runtime/base/hooks.h"
#include "tests/test.h"

#include <math.h>

static Error err;

static Graph *new_graph(void) {
  err = (Error){0};
  return graph_new(&err);
}

static Type type2(DType t, int64_t m, int64_t n) { return type_make(t, 2, (Dim[]){dim_const(m), dim_const(n)}); }

static Node *input(Graph *g, const char *name, Type t) {
  Attrs a = {.leaf = {.name = name}};
  return graph_op(g, OP_INPUT, NULL, 0, &a, &t);
}

static Node *param(Graph *g, const char *name, Type t, double scale) {
  Attrs a = {.leaf = {.name = name, .init = {INIT_NORMAL, scale}}};
  return graph_op(g, OP_PARAM, NULL, 0, &a, &t);
}

TEST("equal nodes are one node") {
  Graph *g = new_graph();
  Node *x = input(g, "x", type2(DTYPE_F32, 4, 8)), *y = input(g, "y", type2(DTYPE_F32, 4, 8));
  EXPECT(x != y && input(g, "x", type2(DTYPE_F32, 4, 8)) == x);
  EXPECT(graph_binary(g, OP_ADD, x, y) == graph_binary(g, OP_ADD, x, y));
  EXPECT(graph_binary(g, OP_ADD, x, y) != graph_binary(g, OP_ADD, y, x));
  EXPECT(graph_fill_like(g, 0.0, x) != graph_fill_like(g, -0.0, x), "signed zeros are two constants");
  EXPECT(graph_fill_like(g, NAN, x) == graph_fill_like(g, NAN, x));
  EXPECT(input(g, "x", type2(DTYPE_F32, 1, 8)) != x, "inputs of two functions may share a name");
  for (int i = 0; i < 3000; i++) graph_fill(g, i, &x->type);
  EXPECT(graph_fill(g, 17, &x->type) == graph_fill(g, 17, &x->type) && g->n_nodes < 3020, "%d", g->n_nodes);
  graph_free(g);
}

TEST("a param declared twice must be declared alike") {
  Graph *g = new_graph();
  Loc first = {"a.lua", 3, NULL}, second = {"a.lua", 9, NULL};
  g->here = &first;
  Node *w = param(g, "w", type2(DTYPE_F32, 4, 8), 0.02);
  EXPECT(w && param(g, "w", type2(DTYPE_F32, 4, 8), 0.02) == w);
  g->here = &second;
  EXPECT(!param(g, "w", type2(DTYPE_F32, 8, 4), 0.02));
  EXPECT_TEXT(err.text,
              "a.lua:9: param: \"w\" is f32[8,4] here but f32[4,8] where it was first declared at a.lua:3");
  err = (Error){0};
  EXPECT(!param(g, "w", type2(DTYPE_F32, 4, 8), 0.5));
  EXPECT_HAS(err.text, "initialised differently");
  graph_free(g);
}

TEST("a diagnostic names the line, its callers, the shapes and the axis; the first one stays") {
  Graph *g = new_graph();
  Loc user = {"vit.lua", 41, NULL}, nn = {"nn.lua", 7, &user};
  g->here = &nn;
  Node *x = input(g, "x", type2(DTYPE_F32, 8, 16)), *y = input(g, "y", type2(DTYPE_F32, 8, 12));
  EXPECT(!graph_binary(g, OP_ADD, x, y) && err.code == ERROR_MODEL);
  const char *want = "nn.lua:7: add: sizes differ: f32[8,16] x f32[8,12] (axis 1: 16 vs 12); called from vit.lua:41";
  EXPECT_TEXT(err.text, want);
  EXPECT(!graph_matmul(g, x, y, false, false));
  EXPECT_TEXT(err.text, want);
  graph_free(g);
}

TEST("short forms leave out what changes nothing, and pass NULL on") {
  Graph *g = new_graph();
  Node *x = input(g, "x", type2(DTYPE_F32, 4, 1));
  Type wide = type_make(DTYPE_F32, 3, (Dim[]){dim_const(5), dim_const(4), dim_const(6)});
  EXPECT(graph_reshape(g, x, &x->type) == x && graph_cast(g, x, DTYPE_F32) == x && graph_sum(g, x, 0) == x);
  EXPECT(graph_transpose(g, x, (int64_t[]){0, 1}) == x && graph_broadcast(g, x, &x->type) == x);
  Node *y = graph_broadcast(g, x, &wide);
  REQUIRE(y && type_equal(&y->type, &wide), "%s", err.text);
  Node *back = graph_sum_to(g, y, &x->type);
  EXPECT(back && type_equal(&back->type, &x->type));
  Node *ins = graph_insert_axes(g, x, 1u << 0 | 1u << 2);
  char text[100];
  EXPECT_TEXT(type_print(&ins->type, text, sizeof text), "f32[1,4,1,1]");
  EXPECT(!graph_unary(g, OP_EXP, NULL) && !graph_sum_to(g, NULL, &wide) && err.code == ERROR_NONE);
  EXPECT(!graph_insert_axes(g, x, 1u << 5));
  graph_free(g);
}

TEST("types print their sizes as sums in B and R") {
  char text[100];
  Type t = type_make(DTYPE_I32, 5, (Dim[]){{0, 1, 0}, {2, 4, 0}, {0, 0, 1}, {-1, 0, 3}, {0, 0, 0}});
  EXPECT_TEXT(type_print(&t, text, sizeof text), "i32[B,4B+2,R,3R-1,0]");
  Dim n;
  EXPECT(type_elems(&t, &n) && dim_equal(n, dim_const(0)), "a zero makes any product constant");
  EXPECT(!type_elems_range(&t, 0, 2, &n), "B * B is not affine");
  Type big = type_make(DTYPE_U8, 2, (Dim[]){dim_const((int64_t)1 << 40), dim_const((int64_t)1 << 40)});
  EXPECT(!type_elems(&big, &n));
  EXPECT(strlen(type_print(&t, text, 6)) == 5, "a short buffer cuts the text");
}

static Node *double_adds(void *ctx, Graph *g, Node *n, Node *const *in) {
  ++*(int *)ctx;
  return n->op == OP_ADD ? graph_binary(g, OP_MUL, in[0], in[1]) : node_rebuild(g, n, in);
}

static Node *fail_on_exp(void *ctx, Graph *g, Node *n, Node *const *in) {
  return n->op == OP_EXP ? graph_error(g, NULL, "no exp today") : node_rebuild(g, n, in);
}

TEST("a function sorts its outputs, lists its nodes in order, and can be rewritten") {
  Graph *g = new_graph();
  Node *x = input(g, "x", type2(DTYPE_F32, 2, 2)), *unused = input(g, "u", type2(DTYPE_F32, 1, 1));
  Node *sum = graph_binary(g, OP_ADD, x, x);
  graph_unary(g, OP_SIN, x);
  Node *e = graph_unary(g, OP_EXP, sum);
  Port in[] = {{"x", x}, {"u", unused}}, out[] = {{"z", e}, {"a", sum}};
  Func *f = func_new(g, "f", in, 2, out, 2);
  REQUIRE(f, "%s", err.text);
  EXPECT_TEXT(f->out[0].name, "a");
  int n, visits = 0;
  Node **nodes = func_nodes(f, &n);
  EXPECT(n == 4 && nodes[0] == x && nodes[1] == unused && nodes[2] == sum && nodes[3] == e, "%d", n);
  Func *h = func_rewrite(f, double_adds, &visits);
  REQUIRE(h, "%s", err.text);
  EXPECT(visits == 4 && h->out[0].node->op == OP_MUL && h->out[1].node->in[0] == h->out[0].node && h->n_in == 2);
  EXPECT(!func_rewrite(f, fail_on_exp, NULL));
  EXPECT_HAS(err.text, "no exp today");
  err = (Error){0};
  EXPECT(!func_new(g, "f", in, 2, (Port[]){{"a", e}, {"a", sum}}, 2));
  EXPECT_HAS(err.text, "two outputs have one name");
  graph_free(g);
}

static void build_chain(void *ctx) {
  Graph *g = ctx;
  Node *x = input(g, "x", type2(DTYPE_F32, 2, 2));
  for (int i = 0; i < 600; i++) x = graph_binary(g, OP_ADD, x, graph_fill_like(g, i, x));
  Port in = {"x", input(g, "x", type2(DTYPE_F32, 2, 2))}, out = {"y", x};
  Func *f = func_new(g, "f", &in, 1, &out, 1);
  int n, visits = 0;
  if (f && func_rewrite(f, double_adds, &visits)) func_nodes(f, &n);
}

TEST("when any allocation fails, building reports it and leaks nothing") {
  bool done = false;
  for (uint64_t n = 1; n < 10000 && !done; n++) {
    err = (Error){0};
    mem_fail_at(n);
    uint64_t before = mem_alloc_count();
    Graph *g = graph_new(&err);
    bool ok = g && arena_protect(g->arena, build_chain, g, &err);
    done = mem_alloc_count() - before < n;
    mem_fail_at(0);
    EXPECT(ok || err.code == ERROR_MEMORY, "%s", err.text);
    graph_free(g);
  }
  EXPECT(done);
}

TEST("what ids an input takes is said by the least of the tables, classes and counts that are read at it") {
  Graph *g = new_graph();
  Type ids = type_make(DTYPE_I32, 1, (Dim[]){dim_const(6)}), logits = type2(DTYPE_F32, 6, 9);
  Node *of_table = input(g, "of_table", ids), *of_class = input(g, "of_class", ids), *hot = input(g, "hot", ids);
  Node *computed = input(g, "computed", ids), *unread = input(g, "unread", ids), *target = input(g, "target", ids);
  Node *counted = input(g, "counted", ids), *small = param(g, "small", type2(DTYPE_F32, 5, 2), 1);
  Node *large = param(g, "large", type2(DTYPE_F32, 7, 2), 1), *one = graph_fill(g, 1, &ids), *x = input(g, "x", logits);
  Type square = type2(DTYPE_I32, 6, 12), column = type2(DTYPE_I32, 6, 1);
  Type row = type_make(DTYPE_I32, 1, (Dim[]){dim_const(12)}), pair = type2(DTYPE_I32, 2, 3);
  Node *moved = graph_reshape(g, of_table, &pair), *null = graph_fill(g, 250, &ids);
  Node *chosen = graph_select(g, graph_binary(g, OP_LT, of_class, one), one, of_class);
  Attrs rows = {.scatter = {.rows = 4}};
  Port out[] = {{"a", graph_op(g, OP_GATHER, (Node *[]){large, of_table}, 2, NULL, NULL)},
                {"b", graph_op(g, OP_GATHER, (Node *[]){small, moved}, 2, NULL, NULL)},
                {"c", graph_op(g, OP_GATHER, (Node *[]){small, chosen}, 2, NULL, NULL)},
                {"d", graph_op(g, OP_GATHER, (Node *[]){small, graph_binary(g, OP_ADD, computed, one)}, 2, NULL, NULL)},
                {"e", graph_binary(g, OP_EQ, graph_broadcast(g, graph_reshape(g, hot, &column), &square),
                                   graph_broadcast(g, graph_iota(g, 0, &row), &square))},
                {"f", graph_op(g, OP_CROSS_ENTROPY, (Node *[]){x, target}, 2, NULL, NULL)},
                {"g", graph_binary(g, OP_EQ, target, null)},
                {"i", graph_binary(g, OP_EQ, target, one)},
                {"h", graph_op(g, OP_SCATTER_ADD, (Node *[]){counted, x}, 2, &rows, NULL)}};
  Port in[] = {{"of_table", of_table}, {"of_class", of_class}, {"hot", hot},         {"computed", computed},
               {"unread", unread},     {"target", target},     {"counted", counted}, {"x", x}};
  Func *f = func_new(g, "f", in, 8, out, COUNT_OF(out));
  REQUIRE(f, "%s", err.text);
  EXPECT(func_ids(f, of_table).n == 5 && func_ids(f, of_class).n == 5 && func_ids(f, hot).n == 12, "");
  EXPECT(func_ids(f, computed).n == 0 && func_ids(f, unread).n == 0 && func_ids(f, counted).n == 4, "");
  EXPECT(func_ids(f, target).n == 9 && func_ids(f, target).ignored == 250, "%d", (int)func_ids(f, target).n);
  EXPECT(func_ids(f, of_table).loc == out[1].node->loc, "the place that says so");
  graph_free(g);
}

TEST_MAIN()
