/* Functions made of ops (frontend/lua/ops.lua), against values and gradients that PyTorch computed in f64. */
#include <math.h>

#include "tests/test.h"
#include "tests/unit/frontend/run_model.h"

/* a and b, f32[2,5] */
static const double a_values[] = {-40, -2.5, -1, -0.5, -1e-5, 0, 1e-5, 0.5, 2, 40};
static const double b_values[] = {0.5, -1, 2, 1, -0.5, 3, 1, -2, 0.25, -3};

/* The value, and the gradients of the sum of cos(i) times its element i for a and b. */
typedef struct Case {
  const char *expression, *type, *value, *by_a, *by_b;
} Case;

static const Case cases[] = {
    {"clamp(x.a, -1, 2)", "f32[2,5]",
     "-1 -1 -1 -0.5 -1e-05 0 1e-05 0.5 2 2",
     "0 0 0 -0.9899924966 -0.6536436209 0.2836621855 0.9601702867 0.7539022543 0 0",
     NULL},
    {"clamp(x.a, nil, x.b)", "f32[2,5]",
     "-40 -2.5 -1 -0.5 -0.5 0 1e-05 -2 0.25 -3",
     "1 0.5403023059 -0.4161468365 -0.9899924966 0 0.2836621855 0.9601702867 0 0 0",
     "0 0 0 0 -0.6536436209 0 0 0.7539022543 -0.1455000338 -0.9111302619"},
    {"x.a:clamp(0.5)", "f32[2,5]",
     "0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 2 40",
     "0 0 0 0 0 0 0 0 -0.1455000338 -0.9111302619",
     NULL},
    {"x.a ^ 2", "f32[2,5]",
     "1600 6.25 1 0.25 1e-10 0 1e-10 0.25 4 1600",
     "-80 -2.701511529 0.8322936731 0.9899924966 1.307287242e-05 0 1.920340573e-05 0.7539022543 -0.5820001352 "
     "-72.89042095",
     NULL},
    {"x.a ^ 3", "f32[2,5]",
     "-64000 -15.625 -1 -0.125 -1e-15 0 1e-15 0.125 8 64000",
     "4800 10.13066824 -1.24844051 -0.7424943725 -1.960930863e-10 0 2.88051086e-10 0.5654266908 -1.746000406 "
     "-4373.425257",
     NULL},
    {"x.a ^ 0", "f32[2,5]",
     "1 1 1 1 1 1 1 1 1 1",
     "0 0 0 0 0 0 0 0 0 0",
     NULL},
    {"x.a ^ 1", "f32[2,5]",
     "-40 -2.5 -1 -0.5 -1e-05 0 1e-05 0.5 2 40",
     "1 0.5403023059 -0.4161468365 -0.9899924966 -0.6536436209 0.2836621855 0.9601702867 0.7539022543 "
     "-0.1455000338 -0.9111302619",
     NULL},
    {"x.a ^ -2", "f32[2,5]",
     "0.000625 0.16 1 4 1e+10 inf 1e+10 4 0.25 0.000625",
     "3.125e-05 0.06915869515 -0.8322936731 -15.83987995 -1.307287242e+15 -inf -1.920340573e+15 -12.06243607 "
     "0.03637500845 2.847282068e-05",
     NULL},
    {"x.a ^ 7.0", "f32[2,5]",
     "-1.6384e+11 -610.3515625 -1 -0.0078125 -1e-35 0 1e-35 0.0078125 128 1.6384e+11",
     "2.8672e+10 923.3681985 -2.913027856 -0.1082804293 -4.575505346e-30 0 6.721192007e-30 0.08245805907 "
     "-65.18401515 -2.612392687e+10",
     NULL},
    {"pow(x.a, 0.5)", "f32[2,5]",
     "nan nan nan nan nan 0 0.00316227766 0.7071067812 1.414213562 6.32455532",
     "nan nan nan nan nan inf 151.8162524 0.5330893964 -0.05144203028 -0.07203117182",
     NULL},
    {"pow(x.a, 1.5)", "f32[2,5]",
     "nan nan nan nan nan 0 3.16227766e-08 0.3535533906 2.828427125 252.9822128",
     "nan nan nan nan nan 0 0.004554487571 0.7996340946 -0.3086521817 -8.643740618",
     NULL},
    {"pow(abs(x.b), x.a * 0.1)", "f32[2,5]",
     "16 1 0.9330329915 1 1.000000693 1 1 1.035264924 0.7578582833 81",
     "-1.109035489 0 -0.02691343055 -0 0.04530715469 0.03116347628 0 0.05409934448 0.01528644692 -8.107929108",
     "-128 0.1350755765 0.01941393639 0.04949962483 -1.307288148e-06 0 9.601702867e-07 -0.019512214 "
     "-0.08821472467 98.40206828"},
    {"pow(x.b, floor(x.a))", "f32[2,5]",
     "1.099511628e+12 -1 0.5 1 -2 1 1 1 0.0625 1.215766546e+19",
     "0 0 0 0 0 0 0 0 0 0",
     "-8.796093022e+13 -1.620906918 0.1040367091 0.9899924966 2.614574483 0 0 0 -0.0727500169 1.476962255e+20"},
    {"2 ^ x.a", "f32[2,5]",
     "9.094947018e-13 0.1767766953 0.5 0.7071067812 0.9999930686 1 1.000006931 1.414213562 4 1.099511628e+12",
     "6.304136883e-13 0.06620446691 -0.1442255032 -0.4852241034 -0.4530680925 0.1966196441 0.6655439402 "
     "0.7390188242 -0.4034117528 -6.943936792e+11",
     NULL},
    {"leaky_relu(x.a)", "f32[2,5]",
     "-0.4 -0.025 -0.01 -0.005 -1e-07 0 1e-05 0.5 2 40",
     "0.01 0.005403023059 -0.004161468365 -0.009899924966 -0.006536436209 0.002836621855 0.9601702867 "
     "0.7539022543 -0.1455000338 -0.9111302619",
     NULL},
    {"leaky_relu(x.a, 0.2)", "f32[2,5]",
     "-8 -0.5 -0.2 -0.1 -2e-06 0 1e-05 0.5 2 40",
     "0.2 0.1080604612 -0.08322936731 -0.1979984993 -0.1307287242 0.05673243709 0.9601702867 0.7539022543 "
     "-0.1455000338 -0.9111302619",
     NULL},
    {"softplus(x.a)", "f32[2,5]",
     "4.248354255e-18 0.07888973429 0.3132616875 0.4740769842 0.6931421806 0.6931471806 0.6931521806 "
     "0.9740769842 2.126928011 40",
     "4.248354255e-18 0.04098634958 -0.1119191217 -0.3737624293 -0.3268201763 0.1418310927 0.4800875438 "
     "0.469273493 -0.1281560046 -0.9111302619",
     NULL},
    {"log_sigmoid(x.a)", "f32[2,5]",
     "-40 -2.578889734 -1.313261688 -0.9740769842 -0.6931521806 -0.6931471806 -0.6931421806 -0.4740769842 "
     "-0.126928011 -4.248354255e-18",
     "1 0.4993159563 -0.3042277148 -0.6162300673 -0.3268234445 0.1418310927 0.4800827429 0.2846287613 "
     "-0.01734402918 -3.870804125e-18",
     NULL},
    {"elu(x.a)", "f32[2,5]",
     "-1 -0.9179150014 -0.6321205588 -0.3934693403 -9.99995e-06 0 1e-05 0.5 2 40",
     "4.248354255e-18 0.04435071403 -0.1530918657 -0.6004608021 -0.6536370845 0.2836621855 0.9601702867 "
     "0.7539022543 -0.1455000338 -0.9111302619",
     NULL},
    {"elu(x.a, 0.5)", "f32[2,5]",
     "-0.5 -0.4589575007 -0.3160602794 -0.1967346701 -4.999975e-06 0 1e-05 0.5 2 40",
     "2.124177128e-18 0.02217535702 -0.07654593284 -0.300230401 -0.3268185422 0.1418310927 0.9601702867 "
     "0.7539022543 -0.1455000338 -0.9111302619",
     NULL},
    {"min(x.b, 1)", "f32[2]",
     "-1 -3",
     NULL,
     "0 1 0 0 0 0 0 0 0 0.5403023059"},
    {"min(x.b, { 0, 1, keep = true })", "f32[1,1]",
     "-3",
     NULL,
     "0 0 0 0 0 0 0 0 0 1"},
    {"where(gt(x.a, x.b), x.a, x.b * 2)", "f32[2,5]",
     "1 -2 4 2 -1e-05 6 2 0.5 2 40",
     "0 0 0 0 -0.6536436209 0 0 0.7539022543 -0.1455000338 -0.9111302619",
     "2 1.080604612 -0.8322936731 -1.979984993 0 0.5673243709 1.920340573 0 0 0"},
    {"where(ge(x.b, 1), 7, x.a)", "f32[2,5]",
     "-40 -2.5 7 7 -1e-05 7 7 0.5 2 40",
     "1 0.5403023059 0 0 -0.6536436209 0 0 0.7539022543 -0.1455000338 -0.9111302619",
     "0 0 0 0 0 0 0 0 0 0"},
    {"cumsum(x.b)", "f32[2,5]",
     "0.5 -0.5 1.5 2.5 2 3 4 2 2.25 -0.75",
     NULL,
     "-0.5194806481 -1.519480648 -2.059782954 -1.643636117 -0.6536436209 0.9411044308 0.6574422453 "
     "-0.3027280413 -1.056630296 -0.9111302619"},
    {"cumsum(x.b, 0)", "f32[2,5]",
     "0.5 -1 2 1 -0.5 3.5 0 0 1.25 -3.5",
     NULL,
     "1.283662185 1.500472593 0.3377554178 -1.13549253 -1.564773883 0.2836621855 0.9601702867 0.7539022543 "
     "-0.1455000338 -0.9111302619"},
    {"stack({ x.a, x.b })", "f32[2,2,5]",
     "-40 -2.5 -1 -0.5 -1e-05 0 1e-05 0.5 2 40 0.5 -1 2 1 -0.5 3 1 -2 0.25 -3",
     "1 0.5403023059 -0.4161468365 -0.9899924966 -0.6536436209 0.2836621855 0.9601702867 0.7539022543 "
     "-0.1455000338 -0.9111302619",
     "-0.8390715291 0.004425697988 0.8438539587 0.9074467815 0.1367372182 -0.7596879129 -0.9576594803 "
     "-0.2751633381 0.6603167082 0.9887046182"},
    {"stack({ x.a, x.b }, -1)", "f32[2,5,2]",
     "-40 0.5 -2.5 -1 -1 2 -0.5 1 -1e-05 -0.5 0 3 1e-05 1 0.5 -2 2 0.25 40 -3",
     "1 -0.4161468365 -0.6536436209 0.9601702867 -0.1455000338 -0.8390715291 0.8438539587 0.1367372182 "
     "-0.9576594803 0.6603167082",
     "0.5403023059 -0.9899924966 0.2836621855 0.7539022543 -0.9111302619 0.004425697988 0.9074467815 "
     "-0.7596879129 -0.2751633381 0.9887046182"},
    {"stack({ x.a, x.b }, 1)", "f32[2,2,5]",
     "-40 -2.5 -1 -0.5 -1e-05 0.5 -1 2 1 -0.5 0 1e-05 0.5 2 40 3 1 -2 0.25 -3",
     "1 0.5403023059 -0.4161468365 -0.9899924966 -0.6536436209 -0.8390715291 0.004425697988 0.8438539587 "
     "0.9074467815 0.1367372182",
     "0.2836621855 0.9601702867 0.7539022543 -0.1455000338 -0.9111302619 -0.7596879129 -0.9576594803 "
     "-0.2751633381 0.6603167082 0.9887046182"},
    {"split(x.b, 2, 1)[1] + split(x.b, 2, 1)[2]", "f32[2,2]",
     "2.5 0 1 1.25",
     NULL,
     "1 0.5403023059 1 0.5403023059 0 -0.4161468365 -0.9899924966 -0.4161468365 -0.9899924966 0"},
    {"split(x.b, 2, -1)[3]", "f32[2,1]",
     "-0.5 -3",
     NULL,
     "0 0 0 0 1 0 0 0 0 0.5403023059"},
    {"split(x.b, 1)[2]", "f32[1,5]",
     "3 1 -2 0.25 -3",
     NULL,
     "0 0 0 0 0 1 0.5403023059 -0.4161468365 -0.9899924966 -0.6536436209"},
    {"split(x.b, { 1, 4 }, 1)[2]", "f32[2,4]",
     "-1 2 1 -0.5 1 -2 0.25 -3",
     NULL,
     "0 1 0.5403023059 -0.4161468365 -0.9899924966 0 -0.6536436209 0.2836621855 0.9601702867 0.7539022543"},
    {"tile(x.b, 2)", "f32[2,10]",
     "0.5 -1 2 1 -0.5 0.5 -1 2 1 -0.5 3 1 -2 0.25 -3 3 1 -2 0.25 -3",
     NULL,
     "1.283662185 1.500472593 0.3377554178 -1.13549253 -1.564773883 -1.598759442 -0.9532337823 0.5686906207 "
     "1.56776349 1.125441836"},
    {"tile(x.b, 2, 1)", "f32[4,5]",
     "0.5 -1 2 1 -0.5 3 1 -2 0.25 -3 0.5 -1 2 1 -0.5 3 1 -2 0.25 -3",
     NULL,
     "0.1609284709 0.5447280039 0.4277071222 -0.08254571515 -0.5169064027 -0.4760257274 0.002510806327 "
     "0.4787389163 0.5148166744 0.0775743563"},
    {"x.b:tile({ 2, 1, 3 })", "f32[2,2,15]",
     "0.5 -1 2 1 -0.5 0.5 -1 2 1 -0.5 0.5 -1 2 1 -0.5 3 1 -2 0.25 -3 3 1 -2 0.25 -3 3 1 -2 0.25 -3 0.5 -1 2 1 "
     "-0.5 0.5 -1 2 1 -0.5 0.5 -1 2 1 -0.5 3 1 -2 0.25 -3 3 1 -2 0.25 -3 3 1 -2 0.25 -3",
     NULL,
     "-0.9717881605 1.304337681 2.381261474 1.268864449 -1.010120698 2.152011734 0.3047269414 -1.822722396 "
     "-2.274369169 -0.6349714163"},
    {"repeat_interleave(x.b, 2)", "f32[2,10]",
     "0.5 0.5 -1 -1 2 2 1 1 -0.5 -0.5 3 3 1 1 -2 -2 0.25 0.25 -3 -3",
     NULL,
     "1.540302306 -1.406139333 -0.3699814354 1.714072541 -1.056630296 -0.8346458311 1.75130074 -0.6229506947 "
     "-1.232822818 1.649021326"},
    {"repeat_interleave(x.b, 3, 0)", "f32[6,5]",
     "0.5 -1 2 1 -0.5 0.5 -1 2 1 -0.5 0.5 -1 2 1 -0.5 3 1 -2 0.25 -3 3 1 -2 0.25 -3 3 1 -2 0.25 -3",
     NULL,
     "0.4445906564 1.504898291 1.181609377 -0.228045749 -1.428036665 0.6395969608 -0.8584694182 -1.567262973 "
     "-0.8351221784 0.6648260958"},
};

static void fill_operand(Tensor *t, const char *name) {
  memcpy(t->data, *name == 'a' ? a_values : b_values, sizeof a_values);
}

static bool is_near(double got, double want) {
  return got == want || (isnan(got) && isnan(want)) || fabs(got - want) <= 1e-7 * fabs(want);
}

static void expect_numbers(const Ran *r, const char *output, const char *want, const char *what) {
  int at = run_output(r, output);
  if (!want) return;
  REQUIRE(at >= 0, "%s: no %s", what, output);
  const Tensor *t = &r->out[at];
  char *end;
  for (int64_t i = 0; i < tensor_elems(t); i++, want = end) {
    double number = strtod(want, &end);
    REQUIRE(end != want, "%s: %s has more than %d elements", what, output, (int)i);
    EXPECT(is_near(t->data[i], number), "%s: %s[%d] is %.12g, not %.12g", what, output, (int)i, t->data[i], number);
  }
  EXPECT(!*want, "%s: %s lacks %s", what, output, want);
}

static void check(const Case *c) {
  char text[2000], type[100];
  snprintf(text, sizeof text,
           "return module { f = fn({ a = f32(2, 5), b = f32(2, 5) }, function(x)\n"
           "  local y, n = %s, 1\n"
           "  for _, size in ipairs(y.shape) do n = n * size end\n"
           "  local g = grad(sum(y * reshape(cos(cast(iota(i32(n), 0), f32)), y.shape)), { x.a, x.b })\n"
           "  return { y = y, a = g[1], b = g[2] } end) }",
           c->expression);
  Ran r;
  if (run_model(&r, text, "f", fill_operand)) {
    EXPECT_TEXT(type_print(&r.f->out[run_output(&r, "y")].node->type, type, sizeof type), c->type);
    expect_numbers(&r, "y", c->value, c->expression);
    expect_numbers(&r, "a", c->by_a, c->expression);
    expect_numbers(&r, "b", c->by_b, c->expression);
  } else {
    EXPECT(false, "%s: %s", c->expression, r.err.text);
  }
  run_done(&r);
}

TEST("composed functions and their gradients are PyTorch's, at 0 and in the tails too") {
  for (int i = 0; i < COUNT_OF(cases); i++) check(&cases[i]);
}

/* ---- integers, NaN and mistakes ---- */

static const double n_values[] = {3, -2147483648.0, 2147483647, -1, 0, 7}, u_values[] = {200, 0, 255, 7, 1, 2};
static const double f_values[] = {NAN, 1, -INFINITY, 2, NAN, -0.0};

/* n i32[2,3], u u8[2,3], f f32[2,3]; others count from 1. */
static void fill_whole(Tensor *t, const char *name) {
  const double *from = *name == 'n' ? n_values : *name == 'u' ? u_values : *name == 'f' ? f_values : NULL;
  for (int64_t i = 0; i < tensor_elems(t); i++) t->data[i] = from ? from[i] : (double)(i + 1);
}

static const struct {
  const char *expression, *type, *value;
} whole_cases[] = {
    {"gt(x.n, 0)", "u8[2,3]", "1 0 1 0 0 1"},
    {"ge(x.n, 0)", "u8[2,3]", "1 0 1 0 1 1"},
    {"x.n:ne(-1)", "u8[2,3]", "1 1 1 0 1 1"},
    {"gt(x.f, 1)", "u8[2,3]", "0 0 0 1 0 0"},
    {"ge(x.f, 1)", "u8[2,3]", "0 1 0 1 0 0"},
    {"ne(x.f, x.f)", "u8[2,3]", "1 0 0 0 1 0"},
    {"gt(1, x.f)", "u8[2,3]", "0 0 1 0 0 1"},
    {"ge(reshape(x.n, 2, 3, 1), slice(x.n, 0, 0, 1))", "u8[2,3,3]", "1 1 0 0 1 0 1 1 1 0 1 0 0 1 0 1 1 0"},
    {"min(x.n)", "i32[]", "-2147483648"},
    {"min(x.n, 0)", "i32[3]", "-1 -2147483648 7"},
    {"min(x.u, 1)", "u8[2]", "0 1"},
    {"min(x.f, 0)", "f32[3]", "nan nan -inf"},
    {"min(slice(x.f, 0, 0, 0), 0)", "f32[3]", "inf inf inf"},
    {"clamp(x.n, -5, 5)", "i32[2,3]", "3 -5 5 -1 0 5"},
    {"clamp(x.f, 0, 1)", "f32[2,3]", "nan 1 0 1 nan 0"},
    {"x.n ^ 2", "i32[2,3]", "9 0 1 1 0 49"},
    {"pow(x.f, 0)", "f32[2,3]", "1 1 1 1 1 1"},
    {"pow(x.f, 3)", "f32[2,3]", "nan 1 -inf 8 nan 0"},
    {"softplus(slice(x.f, 0, 0, 1))", "f32[1,3]", "nan 1.3132616875 0"},
    {"cumsum(x.n)", "i32[2,3]", "3 -2147483645 2 -1 -1 6"},
    {"cumsum(x.n, 0)", "i32[2,3]", "3 -2147483648 2147483647 2 -2147483648 -2147483642"},
    {"cumsum(slice(x.f, 1, 1, 3))", "f32[2,2]", "1 -inf nan nan"},
    {"cumsum(cast(x.n, f32), 0) - cast(x.n, f32)", "f32[2,3]", "0 0 0 3 -2147483648 2147483647"},
    {"sum(abs(cumsum(iota(i32(1000), 0)) - iota(i32(1000), 0) * (iota(i32(1000), 0) + 1) // 2))", "i32[]", "0"},
    {"cumsum(iota(i32(13), 0))", "i32[13]", "0 1 3 6 10 15 21 28 36 45 55 66 78"},
    {"cumsum(slice(x.g, 1, 0, 1))", "f32[2,1]", "1 4"},
    {"cumsum(slice(x.g, 1, 0, 0))", "f32[2,0]", ""},
    {"cumsum(slice(x.g, 0, 0, 0))", "f32[0,3]", ""},
    {"tile(slice(x.g, 1, 0, 0), 2)", "f32[2,0]", ""},
    {"repeat_interleave(slice(x.g, 1, 0, 0), 2, 0)", "f32[4,0]", ""},
    {"stack({ slice(x.g, 1, 0, 0) }, 1)", "f32[2,1,0]", ""},
    {"concat(split(slice(x.n, 0, 0, 0), 2, 1), 1)", "i32[0,3]", ""},
    {"one_hot(slice(x.n, 1, 0, 0), 2)", "f32[2,0,2]", ""},
    {"one_hot(x.n, 4)", "f32[2,3,4]", "0 0 0 1 0 0 0 0 0 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0"},
    {"one_hot(x.u, 2)", "f32[2,3,2]", "0 0 1 0 0 0 0 0 0 1 0 0"},
    {"tile(x.s, 2)", "f32[2]", "1 1"},
    {"tile(x.g, 2, 1)", "f32[4,3]", "1 2 3 4 5 6 1 2 3 4 5 6"},
    {"repeat_interleave(x.g, 2, 0)", "f32[4,3]", "1 2 3 1 2 3 4 5 6 4 5 6"},
    {"stack({ x.g, x.g }, -1)", "f32[2,3,2]", "1 1 2 2 3 3 4 4 5 5 6 6"},
    {"stack({ x.s })", "f32[1]", "1"},
    {"cumsum(cast(x.g, bf16) * 0.25 + 128)", "bf16[2,3]", "128 256 384 129 258 388"},
    {"softplus(cast(x.g, bf16))", "bf16[2,3]", "1.3125 2.125 3.046875 4.03125 5 6"},
    {"elu(cast(x.g * -0.25, bf16))", "bf16[2,3]",
     "-0.2216796875 -0.392578125 -0.52734375 -0.6328125 -0.71484375 -0.77734375"},
    {"split(x.g, { batch }, 0)[1]", "f32[2,3]", "1 2 3 4 5 6"},
};

static const char whole_model[] =
    "return module { f = fn({ n = i32(2, 3), u = u8(2, 3), f = f32(2, 3), g = f32(batch, 3), s = f32() }, function(x)\n"
    "return { y = %s } end) }";

/* The type with sizes as they are when the batch is RUN_BATCH. */
static void expect_type(const Tensor *t, const char *want, const char *what) {
  char text[100];
  size_t at = (size_t)snprintf(text, sizeof text, "%s[", dtype_name(t->dtype));
  for (int i = 0; i < t->rank; i++)
    at += (size_t)snprintf(text + at, sizeof text - at, "%s%d", i ? "," : "", (int)t->dim[i]);
  snprintf(text + at, sizeof text - at, "]");
  EXPECT(strcmp(text, want) == 0, "%s: %s, not %s", what, text, want);
}

TEST("composed functions are right for integers, NaN, infinities, scalars and batches") {
  for (int i = 0; i < COUNT_OF(whole_cases); i++) {
    const char *expression = whole_cases[i].expression;
    char text[1000];
    snprintf(text, sizeof text, whole_model, expression);
    Ran r;
    if (run_model(&r, text, "f", fill_whole)) {
      expect_type(&r.out[0], whole_cases[i].type, expression);
      expect_numbers(&r, "y", whole_cases[i].value, expression);
    } else {
      EXPECT(false, "%s: %s", expression, r.err.text);
    }
    run_done(&r);
  }
}

static const struct {
  const char *expression, *complaint;
} mistakes[] = {
    {"cumsum(x.g, 2)", "model.lua:2: cumsum: there is no axis 2 among 2"},
    {"cumsum(x.g, 0)", "model.lua:2: cumsum: the axis must have a constant size, not B"},
    {"softplus(x.n)", "model.lua:2: softplus: needs f32 or bf16, has i32[2,3]"},
    {"x.n ^ -1", "model.lua:2: pow: i32 takes a power from 0 to 64, not -1"},
    {"x.n ^ x.n", "pow: wrong element type: i32[2,3] x i32[2,3] (operand 0 needs f32 or bf16, has i32); called from"},
    {"clamp(x.f)", "model.lua:2: clamp: needs a bound"},
    {"split(x.f, { 1, 1 }, 1)[1]", "model.lua:2: split: the sizes sum to 2, the axis has 3"},
    {"split(x.g, 1, 0)[1]", "model.lua:2: split: an axis of B needs a list of sizes"},
    {"split(x.f, 0)[1]", "model.lua:2: split: the size of a part must be a whole number of at least 1, not 0"},
    {"stack({ x.f, x.s })", "model.lua:2: stack: the shapes differ: f32[2,3] and f32[]"},
    {"stack(x.f)", "model.lua:2: stack: needs a list of tensors, not f32[2,3]"},
    {"one_hot(x.f, 2)", "model.lua:2: one_hot: needs whole numbers, has f32[2,3]"},
    {"tile(x.f, 2.5)", "model.lua:2: tile: how often must be a whole number of at least 1, not 2.5"},
    {"where(true, x.f, x.f)", "model.lua:2: where: needs a tensor, not true"},
    {"min(3)", "model.lua:2: min: needs a tensor, not 3"},
    {"gt(x.f, x.n)", "called from"},
};

TEST("mistakes with composed functions name the user's line") {
  for (int i = 0; i < COUNT_OF(mistakes); i++) {
    char text[1000];
    snprintf(text, sizeof text, whole_model, mistakes[i].expression);
    EXPECT_HAS(load_error(text), mistakes[i].complaint);
  }
}

TEST("a model that puts something else in a global of ops changes no composed function") {
  EXPECT_TEXT(load_error("exp, maximum, pow = nil, nil, nil\nreturn module { f = fn({ x = f32(3) }, function(x)\n"
                         "return { y = softplus(x.x) + x.x ^ 2.5 } end) }"),
              "");
}

TEST_MAIN()
