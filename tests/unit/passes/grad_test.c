/* Gradients of every op but attention against central differences, first and second order. */
#include "tests/test.h"
#include "tests/unit/ir/ir_case.h"
#include "tests/unit/passes/grad_case.h"

typedef enum Domain { ALL, POSITIVE } Domain;

typedef struct OpCase {
  const char *op, *types, *attrs, *result;
  Domain domain;
} OpCase;

#define P "f32[7]"
#define T3 "f32[B,3,5]"

static const OpCase cases[] = {
    {"neg", T3, "", T3, ALL},
    {"abs", T3, "", T3, ALL},
    {"exp", T3, "", T3, ALL},
    {"log", T3, "", T3, POSITIVE},
    {"log1p", T3, "", T3, POSITIVE},
    {"sqrt", T3, "", T3, POSITIVE},
    {"tanh", T3, "", T3, ALL},
    {"normal_cdf", T3, "", T3, ALL},
    {"erf", T3, "", T3, ALL},
    {"sin", T3, "", T3, ALL},
    {"cos", "f32[]", "", "f32[]", ALL},
    {"cos", "f32[1,1]", "", "f32[1,1]", ALL},
    {"cast", "f32[3]", "dtype=f32", "f32[3]", ALL},
    {"add", T3 " " T3, "", T3, ALL},
    {"sub", T3 " " T3, "", T3, ALL},
    {"mul", T3 " " T3, "", T3, ALL},
    {"div", T3 " " T3, "", T3, POSITIVE},
    {"pow", T3 " " T3, "", T3, POSITIVE},
    {"maximum", T3 " " T3, "", T3, ALL},
    {"minimum", T3 " " T3, "", T3, ALL},
    {"fma", P " " P " " P, "", P, ALL},
    {"select", "u8[7] " P " " P, "", P, ALL},
    {"add", "f32[0,3] f32[0,3]", "", "f32[0,3]", ALL},

    {"reshape", "f32[B,6]", "", "f32[2B,3]", ALL},
    {"transpose", "f32[2,3,4]", "perm=[2,0,1]", "f32[4,2,3]", ALL},
    {"transpose", "f32[2,3,4,1]", "perm=[1,3,2,0]", "f32[3,1,4,2]", ALL},
    {"broadcast", "f32[3,1]", "", "f32[B,2,3,4]", ALL},
    {"broadcast", "f32[]", "", "f32[B,4]", ALL},
    {"broadcast", "f32[1,1]", "", "f32[1,1,5]", ALL},
    {"broadcast", "f32[B,1,3]", "", "f32[B,5,3]", ALL},
    {"slice", "f32[7,5]", "start=[1,0], stop=[7,5], step=[2,3]", "f32[3,2]", ALL},
    {"slice", "f32[7,5]", "start=[2,1], stop=[6,4], step=[3,1]", "f32[2,3]", ALL},
    {"slice", "f32[7]", "start=[6], stop=[7], step=[5]", "f32[1]", ALL},
    {"slice", "f32[7]", "start=[3], stop=[3], step=[2]", "f32[0]", ALL},
    {"slice", "f32[2B,3]", "start=[B,1], stop=[2B,2], step=[1,1]", "f32[B,1]", ALL},
    {"slice", "f32[4B]", "start=[0], stop=[4B], step=[2]", "f32[2B]", ALL},
    {"slice", "f32[4B]", "start=[1], stop=[4B-1], step=[1]", "f32[4B-2]", ALL},
    {"pad", "f32[3,2]", "lo=[1,0], hi=[2,3], interior=[2,0], value=0.5", "f32[10,5]", ALL},
    {"pad", "f32[B,1]", "lo=[0,2], hi=[B,0], interior=[0,4], value=0", "f32[2B,3]", ALL},
    {"pad", "f32[0]", "lo=[1], hi=[2], interior=[3], value=1", "f32[3]", ALL},
    {"reverse", "f32[2,3,4]", "axes=[0,2]", "f32[2,3,4]", ALL},
    {"concat", "f32[2,3] f32[2,1] f32[2,4]", "axis=1", "f32[2,8]", ALL},
    {"concat", "f32[B] f32[2B] f32[3]", "axis=0", "f32[3B+3]", ALL},
    {"gather", "f32[4,3] i32[B,5]", "", "f32[B,5,3]", ALL},
    {"gather", "f32[4] i32[9]", "", "f32[9]", ALL},
    {"gather", "f32[1,2,2] i32[]", "", "f32[2,2]", ALL},
    {"scatter_add", "i32[9] f32[9,2]", "rows=4", "f32[4,2]", ALL},
    {"scatter_add", "i32[B,3] f32[B,3]", "rows=3", "f32[3]", ALL},
    {"scatter_add", "i32[2,2] f32[2,2,3,1]", "rows=2", "f32[2,3,1]", ALL},
    {"shift", "f32[B,2,3,4,2] f32[2]", "delta=[0,0,-1], raster=0", "f32[B,2,3,4,2]", ALL},
    {"shift", "f32[B,2,3,4,2] f32[2]", "delta=[-1,1,-2], raster=0", "f32[B,2,3,4,2]", ALL},
    {"shift", "f32[2,3,4,2] f32[2]", "delta=[1,-1,3], raster=0", "f32[2,3,4,2]", ALL},
    {"shift", "f32[2,3,4,2] f32[2]", "delta=[0,-1,1], raster=0", "f32[2,3,4,2]", ALL},
    {"shift", "f32[2,3,4,1] f32[1]", "delta=[5,0,-9], raster=0", "f32[2,3,4,1]", ALL},
    {"shift", "f32[2,3,1,1] f32[1]", "delta=[0,0,0], raster=0", "f32[2,3,1,1]", ALL},
    {"shift", "f32[B,2,3,4,2] f32[2]", "delta=[0,0,0], raster=1", "f32[B,2,3,4,2]", ALL},
    {"shift", "f32[2,1,3,2] f32[2]", "delta=[0,0,0], raster=1", "f32[2,1,3,2]", ALL},
    {"shift", "f32[B,1,1,1,2] f32[2]", "delta=[0,0,0], raster=1", "f32[B,1,1,1,2]", ALL},

    {"sum", "f32[2,3,4]", "axes=[1]", "f32[2,4]", ALL},
    {"sum", "f32[B,3,4]", "axes=[0,2]", "f32[3]", ALL},
    {"sum", "f32[2,3]", "axes=[0,1]", "f32[]", ALL},
    {"max", "f32[2,3,4]", "axes=[1]", "f32[2,4]", ALL},
    {"max", "f32[B,3,4]", "axes=[0,2]", "f32[3]", ALL},

    {"matmul", "f32[3,4] f32[4,5]", "trans_a=0, trans_b=0", "f32[3,5]", ALL},
    {"matmul", "f32[4,3] f32[4,5]", "trans_a=1, trans_b=0", "f32[3,5]", ALL},
    {"matmul", "f32[3,4] f32[5,4]", "trans_a=0, trans_b=1", "f32[3,5]", ALL},
    {"matmul", "f32[4,3] f32[5,4]", "trans_a=1, trans_b=1", "f32[3,5]", ALL},
    {"matmul", "f32[B,2,3,4] f32[B,2,4,5]", "trans_a=0, trans_b=0", "f32[B,2,3,5]", ALL},
    {"matmul", "f32[B,4,3] f32[B,5,4]", "trans_a=1, trans_b=1", "f32[B,3,5]", ALL},
    {"matmul", "f32[B,4,3] f32[B,4,1]", "trans_a=1, trans_b=0", "f32[B,3,1]", ALL},
    {"matmul", "f32[B,1,4] f32[B,5,4]", "trans_a=0, trans_b=1", "f32[B,1,5]", ALL},
    {"matmul", "f32[B,2,3,4] f32[4,5]", "trans_a=0, trans_b=0", "f32[B,2,3,5]", ALL},
    {"matmul", "f32[B,4,3] f32[4,5]", "trans_a=1, trans_b=0", "f32[B,3,5]", ALL},
    {"matmul", "f32[B,3,4] f32[5,4]", "trans_a=0, trans_b=1", "f32[B,3,5]", ALL},
    {"matmul", "f32[B,2,4,3] f32[5,4]", "trans_a=1, trans_b=1", "f32[B,2,3,5]", ALL},
    {"matmul", "f32[B,4] f32[4,3]", "trans_a=0, trans_b=0", "f32[B,3]", ALL},
    {"conv2d", "f32[B,4,5,2] f32[3,2,2,3]", "stride=1, kh=0, kw=0", "f32[B,2,4,3]", ALL},
    {"conv2d", "f32[1,6,7,2] f32[3,2,2,1]", "stride=2, kh=0, kw=0", "f32[1,2,3,1]", ALL},
    {"conv2d", "f32[1,8,5,1] f32[2,1,1,2]", "stride=3, kh=0, kw=0", "f32[1,3,2,2]", ALL},
    {"conv2d", "f32[1,5,4,1] f32[1,1,1,2]", "stride=2, kh=0, kw=0", "f32[1,3,2,2]", ALL},
    {"conv2d", "f32[B,3,3,1] f32[3,3,1,1]", "stride=4, kh=0, kw=0", "f32[B,1,1,1]", ALL},
    {"conv2d_grad_w", "f32[B,6,7,2] f32[B,2,3,2]", "stride=2, kh=3, kw=2", "f32[3,2,2,2]", ALL},
    {"conv2d_grad_w", "f32[1,4,4,1] f32[1,3,3,2]", "stride=1, kh=2, kw=2", "f32[2,2,1,2]", ALL},

    {"mean", T3, "axes=[1]", "f32[B,5]", ALL},
    {"mean", T3, "axes=[0,2]", "f32[3]", ALL},
    {"sigmoid", T3, "", T3, ALL},
    {"silu", T3, "", T3, ALL},
    {"gelu", T3, "", T3, ALL},
    {"relu", T3, "", T3, ALL},
    {"softmax", "f32[B,3,5]", "", "f32[B,3,5]", ALL},
    {"softmax", "f32[3,1]", "", "f32[3,1]", ALL},
    {"log_softmax", "f32[B,7]", "", "f32[B,7]", ALL},
    {"layer_norm", "f32[B,3,5] f32[5] f32[5]", "eps=1e-5, groups=0", "f32[B,3,5]", ALL},
    {"layer_norm", "f32[4] f32[4] f32[4]", "eps=0.1, groups=0", "f32[4]", ALL},
    {"group_norm", "f32[B,2,3,6] f32[6] f32[6]", "eps=1e-5, groups=3", "f32[B,2,3,6]", ALL},
    {"group_norm", "f32[1,1,2,4] f32[4] f32[4]", "eps=1e-3, groups=1", "f32[1,1,2,4]", ALL},
    {"cross_entropy", "f32[B,3,4] i32[B,3]", "", "f32[B,3]", ALL},
    {"cross_entropy", "f32[5] i32[]", "", "f32[]", ALL},
};

static bool has_gradient(Op op) {
  switch (op) {
#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) \
  case OP_##id: return strcmp(#grad, "none") != 0 && strcmp(#grad, "zero") != 0;
#include "ir/ops.def"
#undef OP
    default: return false;
  }
}

static void check_op(const OpCase *o) {
  char text[1000];
  GradCase c;
  Func **f;
  int n;
  grad_case_init(&c);
  c.store.low = o->domain == POSITIVE ? 0.3 : -1.2;
  c.store.int_low = -2, c.store.int_high = 5;   /* indices beyond both ends of the tables */
  if (strcmp(o->op, "cross_entropy") == 0) c.store.int_low = 0, c.store.int_high = 3;
  case_text(text, sizeof text, o->op, o->types, o->attrs, o->result);
  bool ok = ir_parse(c.g, "case", text, &f, &n);
  if (ok) grad_case_take_leafs(&c, f[0]);
  ok = ok && grad_case_check(&c, grad_case_weigh(&c, f[0]->out[0].node, "w"), true);
  EXPECT(c.compared > 0 || strstr(o->types, "[0") || strstr(o->result, "[0"), "%s(%s): nothing compared", o->op,
         o->types);
  EXPECT(ok, "%s(%s) {%s}: off by %g %s", o->op, o->types, o->attrs, c.worst, c.err.text);
  grad_case_done(&c);
}

TEST("every op's gradient, and the gradient of that, are those of central differences") {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_op(&cases[i]);
}

TEST("the table above holds every op that has a gradient, but attention") {
  for (int op = 0; op < OP_COUNT; op++) {
    bool listed = op == OP_ATTEND;   /* grad_attend_test.c */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) listed |= strcmp(cases[i].op, op_info[op].text) == 0;
    EXPECT(listed || !has_gradient((Op)op), "%s", op_info[op].text);
  }
}

/* ---- values at kinks, and what has no gradient ---- */

static Func *parse(GradCase *c, const char *text) {
  Func **f;
  int n;
  grad_case_init(c);
  return ir_parse(c->g, "case", text, &f, &n) ? f[0] : NULL;
}

static void put(GradCase *c, const char *name, int64_t n, const double *x) {
  Tensor t = tensor_new(c->store.arena, DTYPE_F32, 1, &n);
  memcpy(t.data, x, sizeof *x * (size_t)n);
  store_put(&c->store, name, t);
}

static void expect_gradient(const char *op, int n_in, const double *a, const double *b, const double *want_a,
                            const double *want_b) {
  GradCase c;
  char text[400];
  snprintf(text, sizeof text, "func @f(%%a: f32[3]%s) {\n  %%1 = %s(%%a%s)%s : f32[%s]\n  return y = %%1\n}\n",
           n_in == 2 ? ", %b: f32[3]" : "", op, n_in == 2 ? ", %b" : "", strcmp(op, "max") == 0 ? " {axes=[0]}" : "",
           strcmp(op, "max") == 0 ? "" : "3");
  Func *f = parse(&c, text);
  REQUIRE(f, "%s", c.err.text);
  Node *dx[2], *y = f->out[0].node;
  put(&c, "a", 3, a);
  if (b) put(&c, "b", 3, b);
  grad_case_take_leafs(&c, f);
  if (y->type.rank) y = graph_sum(c.g, y, 1);
  Tensor out[2];
  bool ok = grad_build(c.g, y, c.wrt, c.n_wrt, dx) && grad_case_eval(&c, dx, c.n_wrt, c.store.arena, out);
  EXPECT(ok, "%s", c.err.text);
  for (int i = 0; ok && i < 3; i++) {
    EXPECT(out[0].data[i] == want_a[i], "%s: da[%d] = %g", op, i, out[0].data[i]);
    if (b) EXPECT(out[1].data[i] == want_b[i], "%s: db[%d] = %g", op, i, out[1].data[i]);
  }
  grad_case_done(&c);
}

TEST("at kinks: abs gives 0, maximum and minimum the first operand, max equal parts") {
  const double x[] = {-2, 0, 3}, y[] = {-3, 0, 4}, twice[] = {1, 2, 2};
  expect_gradient("abs", 1, x, NULL, (double[]){-1, 0, 1}, NULL);
  expect_gradient("maximum", 2, x, y, (double[]){1, 1, 0}, (double[]){0, 0, 1});
  expect_gradient("minimum", 2, x, y, (double[]){0, 1, 1}, (double[]){1, 0, 0});
  expect_gradient("max", 1, twice, NULL, (double[]){0, 0.5, 0.5}, NULL);
  expect_gradient("floor", 1, x, NULL, (double[]){0, 0, 0}, NULL);
  expect_gradient("detach", 1, x, NULL, (double[]){0, 0, 0}, NULL);
  expect_gradient("relu", 1, x, NULL, (double[]){0, 0, 1}, NULL);
}

TEST("a gradient goes where a NaN came from") {
  const double x[] = {NAN, 1, NAN}, y[] = {1, NAN, NAN}, some[] = {NAN, 2, NAN};
  expect_gradient("abs", 1, x, NULL, (double[]){1, 1, 1}, NULL);
  expect_gradient("relu", 1, x, NULL, (double[]){1, 1, 1}, NULL);
  expect_gradient("maximum", 2, x, y, (double[]){1, 0, 0}, (double[]){0, 1, 1});
  expect_gradient("minimum", 2, x, y, (double[]){1, 0, 0}, (double[]){0, 1, 1});
  expect_gradient("max", 1, some, NULL, (double[]){0.5, 0, 0.5}, NULL);
}

/* The derivative of op at x[i], relatively: want has more digits than naive formulas in f64 keep. */
static void expect_slopes(const char *op, int n, const double *x, const double *want) {
  GradCase c;
  char text[400];
  snprintf(text, sizeof text, "func @f(%%a: f32[%d]) {\n  %%1 = %s(%%a) : f32[%d]\n  return y = %%1\n}\n", n, op, n);
  Func *f = parse(&c, text);
  REQUIRE(f, "%s", c.err.text);
  Node *dx;
  Tensor out;
  put(&c, "a", n, x);
  grad_case_take_leafs(&c, f);
  bool ok = grad_build(c.g, graph_sum(c.g, f->out[0].node, 1), c.wrt, 1, &dx) && grad_case_eval(&c, &dx, 1, c.store.arena, &out);
  EXPECT(ok, "%s", c.err.text);
  for (int i = 0; ok && i < n; i++)
    EXPECT(fabs(out.data[i] - want[i]) <= 1e-13 * fabs(want[i]), "%s at %g: %.17g, not %.17g", op, x[i], out.data[i], want[i]);
  grad_case_done(&c);
}

TEST("derivatives are relatively right in the tails") {
  expect_slopes("sigmoid", 7, (double[]){-700, -38, -9, 0, 20, 40, 300},
                (double[]){9.8596765437597709e-305, 3.1391327920480294e-17, 0.00012337934976484891, 0.25, 2.0611536139418493e-9, 4.248354255291589e-18, 5.1482002224120138e-131});
  expect_slopes("silu", 5, (double[]){-300, -40, -9, 0.5, 20},
                (double[]){-1.5393118665011921e-128, -1.6568581595637197e-16, -0.00098701957189740844, 0.73996118730265181, 1.0000000391619187});
  expect_slopes("tanh", 6, (double[]){-300, -20, -0.25, 0, 9, 40},
                (double[]){1.0601586212017243e-260, 1.6993417021166356e-17, 0.94001484880637796, 1.0, 6.0919917123232292e-8, 7.2194055513816607e-35});
  expect_slopes("erf", 5, (double[]){-20, -3, 0, 5, 26},
                (double[]){2.1610374743867985e-174, 0.00013925305194674785, 1.1283791670955126, 1.5670866531017335e-11, 2.9470349932662695e-294});
  expect_slopes("normal_cdf", 5, (double[]){-37, -9, 0, 3, 30},
                (double[]){2.1200065515246056e-298, 1.0279773571668915e-18, 0.39894228040143268, 0.0044318484119380072, 1.4736461348785475e-196});
  expect_slopes("gelu", 6, (double[]){-37, -20, -9, -3, 0, 2},
                (double[]){-7.8382986694185162e-297, -1.1014360483133464e-86, -9.1389373739066393e-18, -0.011945647204183927, 0.5, 1.0852318010781969});
}

TEST("cross-entropy of a target outside the classes has the gradient of the nearest class") {
  GradCase c;
  Func *f =
      parse(&c, "func @f(%a: f32[B,3], %t: i32[B]) {\n  %1 = cross_entropy(%a, %t) : f32[B]\n  return y = %1\n}\n");
  REQUIRE(f, "%s", c.err.text);
  c.store.int_low = c.store.int_high = 7;
  grad_case_take_leafs(&c, f);
  Node *dx, *loss = graph_sum(c.g, expand_node(c.g, f->out[0].node), 1);
  Tensor out;
  REQUIRE(loss && grad_build(c.g, loss, c.wrt, 1, &dx) && grad_case_eval(&c, &dx, 1, c.store.arena, &out), "%s",
          c.err.text);
  EXPECT(fabs(out.data[0] + out.data[1] + out.data[2]) < 1e-12 && out.data[2] < 0);
  grad_case_done(&c);
}

TEST("a value used many times collects from every use, and what y does not depend on gets zeros") {
  GradCase c;
  Func *f = parse(&c, "func @f(%a: f32[4], %b: f32[4], %c: f32[2,3]) {\n"
                      "  %1 = mul(%a, %b) : f32[4]\n  %2 = mul(%1, %1) : f32[4]\n  %3 = add(%2, %1) : f32[4]\n"
                      "  %4 = tanh(%3) : f32[4]\n  %5 = fma(%4, %a, %1) : f32[4]\n  return y = %5\n}\n");
  REQUIRE(f, "%s", c.err.text);
  for (int i = 0; i < f->n_in; i++) c.wrt[c.n_wrt++] = f->in[i].node;
  c.wrt[c.n_wrt++] = f->in[0].node;   /* the same one twice */
  EXPECT(grad_case_check(&c, grad_case_weigh(&c, f->out[0].node, "w"), true), "off by %g %s", c.worst, c.err.text);
  grad_case_done(&c);
}

TEST("values in the middle can be differentiated for, also when one lies on the way to another") {
  GradCase c;
  Func *f = parse(&c, "func @f(%a: f32[3]) {\n  %1 = exp(%a) : f32[3]\n  %2 = mul(%1, %1) : f32[3]\n"
                      "  %3 = sum(%2) {axes=[0]} : f32[]\n  return y = %3\n}\n");
  REQUIRE(f, "%s", c.err.text);
  Node *y = f->out[0].node, *square = y->in[0], *e = square->in[0], *wrt[3] = {square, e, f->in[0].node}, *dx[3];
  Tensor out[3];
  REQUIRE(grad_build(c.g, y, wrt, 3, dx) && grad_case_eval(&c, dx, 3, c.store.arena, out), "%s", c.err.text);
  const double *a = store_find(&c.store, "a")->data;
  for (int i = 0; i < 3; i++) {
    EXPECT(out[0].data[i] == 1);
    EXPECT(fabs(out[1].data[i] - 2 * exp(a[i])) < 1e-12);
    EXPECT(fabs(out[2].data[i] - 2 * exp(2 * a[i])) < 1e-12);
  }
  grad_case_done(&c);
}

TEST("straight-through: x + detach(y - x) has the gradient of x") {
  GradCase c;
  Func *f = parse(&c, "func @f(%a: f32[3]) {\n  %1 = floor(%a) : f32[3]\n  %2 = sub(%1, %a) : f32[3]\n"
                      "  %3 = detach(%2) : f32[3]\n  %4 = add(%a, %3) : f32[3]\n  %5 = sum(%4) {axes=[0]} : f32[]\n"
                      "  return y = %5\n}\n");
  REQUIRE(f, "%s", c.err.text);
  Node *dx;
  Tensor out;
  REQUIRE(grad_build(c.g, f->out[0].node, &f->in[0].node, 1, &dx) && grad_case_eval(&c, &dx, 1, c.store.arena, &out));
  for (int i = 0; i < 3; i++) EXPECT(out.data[i] == 1);
  grad_case_done(&c);
}

static void expect_refusal(const char *text, const char *why) {
  GradCase c;
  Func *f = parse(&c, text);
  REQUIRE(f, "%s", c.err.text);
  Node *dx[2], *wrt[2] = {f->in[0].node, f->in[f->n_in - 1].node};
  EXPECT(!grad_build(c.g, f->out[0].node, wrt, 2, dx));
  EXPECT_HAS(c.err.text, why);
  grad_case_done(&c);
}

TEST("what cannot be differentiated says so") {
  expect_refusal("func @f(%a: f32[3]) {\n  return y = %a\n}\n", "must be a float scalar, it is f32[3]");
  expect_refusal("func @f(%a: i32[]) {\n  return y = %a\n}\n", "must be a float scalar, it is i32[]");
  expect_refusal("func @f(%a: f32[], %b: i32[]) {\n  return y = %a\n}\n", "entry 2 is i32");
  expect_refusal("func @f(%a: f32[B,3], %i: i32[B,1]) {\n  %1 = gather(%a, %i) : f32[B,1,3]\n"
                 "  %2 = sum(%1) {axes=[0,1,2]} : f32[]\n  return y = %2\n}\n", "entry 2");
  expect_refusal("func @f(%i: i32[B,1], %a: f32[B,3]) {\n  %1 = gather(%a, %i) : f32[B,1,3]\n"
                 "  %2 = sum(%1) {axes=[0,1,2]} : f32[]\n  return y = %2\n}\n", "entry 1");
}

TEST("a table whose number of rows is not constant has no gradient, and the line is named") {
  GradCase c;
  Func *f = parse(&c, "func @f(%a: f32[B,3], %i: i32[4]) {\n  %1 = gather(%a, %i) : f32[4,3]\n"
                      "  %2 = sum(%1) {axes=[0,1]} : f32[]\n  return y = %2\n}\n");
  Node *dx;
  REQUIRE(f, "%s", c.err.text);
  EXPECT(!grad_build(c.g, f->out[0].node, &f->in[0].node, 1, &dx));
  EXPECT_HAS(c.err.text, "case:2: gather");
  grad_case_done(&c);
}

/* ---- marks ---- */

TEST("the pass takes all gradients of a value in one sweep, gradients of gradients too, and leaves no mark") {
  GradCase c;
  Func *f = parse(&c, "func @f(%x: f32[3], %w: f32[3]) {\n"
                      "  %1 = mul(%x, %w) : f32[3]\n  %2 = tanh(%1) : f32[3]\n  %3 = sum(%2) {axes=[0]} : f32[]\n"
                      "  %4 = grad(%3, %w) : f32[3]\n  %5 = grad(%3, %x) : f32[3]\n  %6 = grad(%3, %1) : f32[3]\n"
                      "  %7 = mul(%5, %5) : f32[3]\n  %8 = sum(%7) {axes=[0]} : f32[]\n  %9 = grad(%8, %w) : f32[3]\n"
                      "  return a = %4, b = %5, c = %6, d = %9\n}\n");
  REQUIRE(f && func_verify(f, FORM_ANY, "parsing", &c.err), "%s", c.err.text);
  EXPECT(!func_verify(f, FORM_GIVEN, "parsing", &c.err));
  c.err = (Error){0};
  Func *to = pass_grad(f);
  REQUIRE(to && func_verify(to, FORM_GIVEN, "grad", &c.err), "%s", c.err.text);
  Node *loss = f->out[0].node->in[0], *wrt[] = {f->in[1].node, f->in[0].node, loss->in[0]->in[0]}, *dx[3], *again;
  REQUIRE(grad_build(c.g, loss, wrt, 3, dx), "%s", c.err.text);
  for (int i = 0; i < 3; i++) EXPECT(to->out[i].node == dx[i], "output %d is another gradient", i);
  REQUIRE(grad_build(c.g, graph_sum(c.g, graph_binary(c.g, OP_MUL, dx[1], dx[1]), 1), wrt, 1, &again), "%s", c.err.text);
  EXPECT(to->out[3].node == again, "the gradient of the gradient is another one");
  EXPECT(pass_grad(to) == to);
  grad_case_done(&c);
}

TEST_MAIN()
