/* Fusion: every grouping computes the function, in order, without doing arithmetic twice; which nodes share a
 * kernel in the cases that matter is in tests/golden/fuse.txt. */
#include "tests/test.h"
#include "tests/unit/passes/pass_random.h"

TEST("random functions become sound programs, as they are and folded") {
  for (uint64_t seed = 1; seed <= 200; seed++) {
    PassCase c = {0};
    Func *f = random_func(&c, seed, 20 + (int)(seed % 5) * 30);
    REQUIRE(f, "seed %llu: %s", (unsigned long long)seed, c.err.text);
    for (int folded = 0; folded < 2; folded++) {
      Program *p = pass_fuse(folded ? pass_fold(f) : f);
      Error err = {0};
      REQUIRE(p, "seed %llu: %s", (unsigned long long)seed, c.err.text);
      EXPECT(case_program_sound(p, &err), "seed %llu: %s", (unsigned long long)seed, err.text);
    }
    case_done(&c);
  }
}

/* The results of a MAP group have one shape; a REDUCE group reduces one shape over one set of axes. */
static void expect_forms(const Program *p, uint64_t seed) {
  for (int k = 0; k < p->n_group; k++) {
    const Group *g = &p->group[k];
    const Node *first = NULL;
    for (int i = 0; i < g->n_out && g->family == FAMILY_MAP; i++)
      EXPECT(type_same_shape(&g->out[i]->type, &g->out[0]->type), "seed %llu", (unsigned long long)seed);
    for (int i = 0; i < g->n_node; i++) {
      Node *n = g->node[i];
      OpClass class = op_info[n->op].class;
      EXPECT(class <= CLASS_MOVE || g->family != FAMILY_MAP);
      if (class == CLASS_CONTRACT) EXPECT(n == g->anchor && g->family == FAMILY_CONTRACT);
      if (class != CLASS_REDUCE) continue;
      EXPECT(g->family == FAMILY_REDUCE);
      if (!first) first = n;
      EXPECT(type_same_shape(&first->in[0]->type, &n->in[0]->type) && first->attrs.axes.axes == n->attrs.axes.axes,
             "seed %llu: two domains in one kernel", (unsigned long long)seed);
    }
    EXPECT(g->family != FAMILY_REDUCE || g->anchor == first);
  }
}

TEST("groups have the form of their family") {
  for (uint64_t seed = 300; seed < 400; seed++) {
    PassCase c = {0};
    Program *p = pass_fuse(random_func(&c, seed, 80));
    REQUIRE(p, "%s", c.err.text);
    expect_forms(p, seed);
    case_done(&c);
  }
}

TEST("a program depends only on its function, not on what else its graph holds") {
  Buffer text[2] = {{0}};
  for (int k = 0; k < 2; k++) {
    PassCase c = {0};
    Func *f = random_func(&c, 99, 100);
    REQUIRE(f, "%s", c.err.text);
    for (int i = 0; i < 50 * k; i++) graph_fill_like(c.g, i, f->in[0].node);
    if (k) pass_fuse(pass_fold(f));
    case_print_groups(pass_fuse(f), &text[k]);
    case_done(&c);
  }
  EXPECT_TEXT(text[0].data, text[1].data);
  buffer_done(&text[0]);
  buffer_done(&text[1]);
}

TEST("a composite is refused by name") {
  PassCase c = {0};
  Func *f = case_parse(&c, "t", "func @f(%x: f32[4]) {\n %y = silu(%x) : f32[4]\n return y = %y\n}\n");
  REQUIRE(f, "%s", c.err.text);
  EXPECT(!pass_fuse(f));
  EXPECT_HAS(c.err.text, "silu is a composite");
  case_done(&c);
}

TEST("a function of more results than a kernel may have is cut into several") {
  PassCase c = {0};
  Graph *g = c.g = graph_new(&c.err);
  Node *x = random_leaf(g, OP_INPUT, "x", 3);
  Port in = {"x", x}, out[90];
  char name[90][8];
  for (int i = 0; i < 90; i++) {
    snprintf(name[i], sizeof name[i], "o%02d", i);
    x = graph_unary(g, i % 2 ? OP_SIN : OP_TANH, x);
    out[i] = (Port){name[i], x};
  }
  Program *p = pass_fuse(func_new(g, "f", &in, 1, out, 90));
  Error err = {0};
  REQUIRE(p, "%s", c.err.text);
  EXPECT(case_program_sound(p, &err), "%s", err.text);
  EXPECT(p->n_group == 3, "%d groups", p->n_group);
  case_done(&c);
}

/* Whether result `out` of the only group may go over operand `in`, both by position. */
static bool overwrites(const char *body, int in, int out) {
  PassCase c = {0};
  char text[900];
  snprintf(text, sizeof text, "func @f(%%x: f32[8,8], %%y: f32[8,8], %%k: i32[8,8], %%v: f32[64]) {\n%s}\n", body);
  Func *f = case_parse(&c, "t", text);
  Program *p = f ? pass_fuse(f) : NULL;
  bool ok = p && p->n_group == 1 && group_overwrites(&p->group[0], p->group[0].in[in], p->group[0].out[out]);
  EXPECT(p && p->n_group == 1, "%s", c.err.text);
  case_done(&c);
  return ok;
}

TEST("an operand may be overwritten only when it is read at the written element") {
  const char *sum = " %1 = add(%x, %y) : f32[8,8]\n return a = %1\n";
  EXPECT(overwrites(sum, 0, 0) && overwrites(sum, 1, 0));
  const char *view = " %1 = reshape(%v) : f32[8,8]\n %2 = add(%x, %1) : f32[8,8]\n return a = %2\n";
  EXPECT(overwrites(view, 1, 0), "a reshape keeps the element");
}

TEST("an operand that is moved, or of another type, is not overwritten") {
  const char *moved = " %1 = transpose(%x) {perm=[1,0]} : f32[8,8]\n %2 = add(%x, %1) : f32[8,8]\n return a = %2\n";
  EXPECT(!overwrites(moved, 0, 0));
  const char *under = " %1 = reverse(%x) {axes=[0]} : f32[8,8]\n %2 = exp(%1) : f32[8,8]\n return a = %2\n";
  EXPECT(!overwrites(under, 0, 0));
  const char *view = " %1 = reshape(%v) : f32[8,8]\n %2 = transpose(%1) {perm=[1,0]} : f32[8,8]\n"
                     " %3 = add(%2, %x) : f32[8,8]\n return a = %3\n";
  EXPECT(!overwrites(view, 1, 0) && overwrites(view, 0, 0));
  const char *narrow = " %1 = lt(%x, %y) : u8[8,8]\n return a = %1\n";
  EXPECT(!overwrites(narrow, 0, 0));
}

TEST("of two results only one that reads the operand may go over it") {
  const char *two = " %1 = exp(%x) : f32[8,8]\n %2 = mul(%1, %y) : f32[8,8]\n return a = %1, b = %2\n";
  EXPECT(overwrites(two, 0, 0) && overwrites(two, 0, 1));
  EXPECT(!overwrites(two, 1, 0) && overwrites(two, 1, 1));
}

TEST("explaining a program names families, bytes, operations and reasons") {
  PassCase c = {0};
  Buffer out = {0};
  Func *f = case_parse(&c, "t",
                       "func @f(%x: f32[B,4], %w: f32[4,8]) {\n"
                       " %1 = matmul(%x, %w) {trans_a=0, trans_b=0} : f32[B,8]\n"
                       " %2 = exp(%1) : f32[B,8]\n %3 = sum(%2) {axes=[1]} : f32[B]\n return y = %3\n}\n");
  REQUIRE(f, "%s", c.err.text);
  Program *p = pass_fuse(f);
  program_explain(p, pass_memplan(p), &out);
  EXPECT_HAS(out.data, "group 0: contract");
  EXPECT_HAS(out.data, "cost: 48B+128 bytes (node by node: 112B+128), 72B operations");
  EXPECT_HAS(out.data, "ends: exp is read by sum: a product's kernel holds no reduction");
  EXPECT_HAS(out.data, "memory: 0 bytes + 64 a sample");
  buffer_done(&out);
  case_done(&c);
}

TEST("explaining extents counts keys, reuse and offsets") {
  PassCase c = {0};
  Buffer out = {0};
  Func *f = case_parse(&c, "t",
                       "func @f(%x: f32[B,1,4,4,8]) {\n %y = attend(%x, %x, %x) {heads=2, kind=nearby, lo=[0,-1,-1], "
                       "hi=[0,1,1], block=[0,0,0], edge=clip, causal=raster, query_grid=[1,4,4], key_grid=[1,4,4]} : "
                       "f32[B,1,4,4,8]\n return y = %y\n}\n");
  REQUIRE(f, "%s", c.err.text);
  extents_explain(f, &out);
  /* 16 queries: 1 + 12 lefts + 12 aboves + 9 + 9 diagonals above. */
  EXPECT_HAS(out.data, "at most 5, 3.6 on average of 16");
  EXPECT_HAS(out.data, "key box: s [0,0] h [-1,1] w [-1,1]");
  EXPECT_HAS(out.data, "operations: 1856B");
  EXPECT_HAS(out.data, "dependence offsets: 5");
  buffer_done(&out);
  case_done(&c);
}

TEST_MAIN()
