/* Folding keeps every bit, also of -0, infinities and NaN; each rule alone is in tests/golden/fold.txt. */
#include "tests/test.h"
#include "tests/unit/passes/pass_random.h"

static const double odd[] = {0.0, -0.0, 1.0, -1.0, INFINITY, -INFINITY, NAN, 3.5, -1e-30, 1e30};
enum { N_ODD = COUNT_OF(odd) };

/* Every leaf is [100]: all pairs of odd values. x: the first of the pair, others the second. */
static const Tensor *odd_leaf(void *ctx, const Node *leaf, Error *err) {
  Graph *g = ctx;
  int64_t dim = N_ODD * N_ODD;
  Tensor *t = ARENA_NEW(g->arena, Tensor);
  *t = tensor_new(g->arena, DTYPE_F32, 1, &dim);
  for (int i = 0; i < dim; i++) t->data[i] = odd[leaf->attrs.leaf.name[0] == 'x' ? i / N_ODD : i % N_ODD];
  return t;
}

static void expect_same_bits(Graph *g, Node *n, const char *what) {
  Error err = {0};
  Port out = {"y", n};
  Func *f = func_new(g, "f", NULL, 0, &out, 1), *to = f ? pass_fold(f) : NULL;
  REQUIRE(to, "%s: %s", what, g->err->text);
  Tensor before, after;
  REQUIRE(interp_run(f, 1, 1, odd_leaf, g, g->arena, &before, NULL, &err) &&
              interp_run(to, 1, 1, odd_leaf, g, g->arena, &after, NULL, &err), "%s: %s", what, err.text);
  for (int64_t i = 0; i < tensor_elems(&before); i++) {
    float a = (float)before.data[i], b = (float)after.data[i];   /* the interpreter keeps more of a constant */
    EXPECT((isnan(a) && isnan(b)) || (a == b && !signbit(a) == !signbit(b)), "%s: element %lld: %g became %g", what,
           (long long)i, (double)a, (double)b);
  }
}

/* All one- and two-level expressions over x, y and constants: any rule that changes a bit shows. */
TEST("no rule changes a bit of odd values") {
  static const Op binary[] = {OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_MAXIMUM, OP_MINIMUM};
  static const Op unary[] = {OP_NEG, OP_ABS, OP_FLOOR, OP_EXP};
  Error err = {0};
  Graph *g = graph_new(&err);
  Type t = type_make(DTYPE_F32, 1, (Dim[]){{N_ODD * N_ODD, 0, 0}});
  Attrs ax = {.leaf = {.name = "x"}}, ay = {.leaf = {.name = "y"}};
  Node *term[40];
  int n = 0;
  term[n++] = graph_op(g, OP_INPUT, NULL, 0, &ax, &t);
  term[n++] = graph_op(g, OP_INPUT, NULL, 0, &ay, &t);
  const double constant[] = {0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 0.25, INFINITY};
  for (int i = 0; i < COUNT_OF(constant); i++) term[n++] = graph_fill(g, constant[i], &t);
  for (int i = 0; i < 2; i++)
    for (int k = 0; k < COUNT_OF(unary); k++) term[n++] = graph_unary(g, unary[k], term[i]);
  term[n++] = graph_binary(g, OP_MUL, term[0], term[0]);
  term[n++] = graph_binary(g, OP_ADD, term[0], term[1]);
  for (int k = 0; k < COUNT_OF(binary); k++)
    for (int i = 0; i < n; i++)
      for (int j = 0; j < n; j++) {
        char what[80];
        snprintf(what, sizeof what, "%s of terms %d and %d", op_info[binary[k]].text, i, j);
        expect_same_bits(g, graph_binary(g, binary[k], term[i], term[j]), what);
      }
  graph_free(g);
}

TEST("fma, comparisons and selections keep their bits") {
  static const Op compare[] = {OP_LT, OP_LE, OP_EQ};
  Error err = {0};
  Graph *g = graph_new(&err);
  Type t = type_make(DTYPE_F32, 1, (Dim[]){{N_ODD * N_ODD, 0, 0}});
  Attrs ax = {.leaf = {.name = "x"}}, ay = {.leaf = {.name = "y"}};
  Node *x = graph_op(g, OP_INPUT, NULL, 0, &ax, &t), *y = graph_op(g, OP_INPUT, NULL, 0, &ay, &t);
  Node *term[] = {x, y, graph_fill(g, 1, &t), graph_fill(g, -0.0, &t), graph_fill(g, 0.0, &t)};
  for (int i = 0; i < 5 * 5 * 5; i++) {
    Node *in[] = {term[i / 25], term[i / 5 % 5], term[i % 5]};
    expect_same_bits(g, graph_op(g, OP_FMA, in, 3, NULL, NULL), "fma");
    Node *is = graph_binary(g, compare[i % 3], in[0], in[1]);
    expect_same_bits(g, graph_select(g, is, in[2], in[0]), "select");
  }
  graph_free(g);
}

TEST("random functions compute the same after folding, and folding again changes nothing") {
  for (uint64_t seed = 1000; seed < 1150; seed++) {
    PassCase c = {0};
    Error err = {0};
    Func *f = random_func(&c, seed, 60);
    REQUIRE(f, "%s", c.err.text);
    Func *once = pass_fold(f), *twice = once ? pass_fold(once) : NULL;
    REQUIRE(twice && func_verify(once, FORM_ANY, "fold", &err), "%s%s", c.err.text, err.text);
    for (int i = 0; i < once->n_out; i++) EXPECT(once->out[i].node == twice->out[i].node);
    int before, after;
    func_nodes(f, &before);
    func_nodes(once, &after);
    EXPECT(after <= before, "seed %llu: %d nodes became %d", (unsigned long long)seed, before, after);
    EXPECT(case_equal(&c, f, once, &err), "seed %llu: %s", (unsigned long long)seed, err.text);
    case_done(&c);
  }
}

TEST_MAIN()
