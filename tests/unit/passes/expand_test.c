/* Composites against their direct definitions in the interpreter, at plain, large and degenerate values. */
#include "tests/test.h"
#include "tests/unit/passes/pass_case.h"

/* Every "f32" of text as "bf16". */
static void as_bf16(const char *text, char *out, size_t cap) {
  size_t n = 0;
  while (*text && n + 5 < cap) {
    bool is_type = strncmp(text, "f32", 3) == 0;
    n += (size_t)snprintf(out + n, cap - n, "%.*s", is_type ? 4 : 1, is_type ? "bf16" : text);
    text += is_type ? 3 : 1;
  }
  out[n] = 0;
}

static void expect_function_expands(const char *text, const char *body) {
  PassCase c = {0};
  Error err = {0};
  Func *f = case_parse(&c, "t", text), *to = f ? pass_expand(f) : NULL;
  REQUIRE(to, "%s: %s", body, c.err.text);
  EXPECT(func_verify(to, FORM_PRIMITIVE, "expand", &err), "%s", err.text);
  for (c.B = 1; c.B <= 5; c.B += 2) EXPECT(case_equal(&c, f, to, &err), "%s: %s", body, err.text);
  case_done(&c);
}

/* In f32, and in bf16, where only the end is rounded. */
static void expect_expands(const char *body) {
  char text[600], half[700];
  snprintf(text, sizeof text,
           "func @f(%%x: f32[B,3,5,8], %%g: f32[8], %%b: f32[8], %%t: i32[B,3,5]) {\n%s return y = %%y\n}\n", body);
  as_bf16(text, half, sizeof half);
  expect_function_expands(text, body);
  expect_function_expands(half, body);
}

TEST("every composite equals its definition") {
  expect_expands(" %y = sigmoid(%x) : f32[B,3,5,8]\n");
  expect_expands(" %y = silu(%x) : f32[B,3,5,8]\n");
  expect_expands(" %y = gelu(%x) : f32[B,3,5,8]\n");
  expect_expands(" %y = relu(%x) : f32[B,3,5,8]\n");
  expect_expands(" %y = softmax(%x) : f32[B,3,5,8]\n");
  expect_expands(" %y = log_softmax(%x) : f32[B,3,5,8]\n");
  expect_expands(" %y = layer_norm(%x, %g, %b) {eps=1e-05, groups=0} : f32[B,3,5,8]\n");
  expect_expands(" %y = group_norm(%x, %g, %b) {eps=1e-06, groups=4} : f32[B,3,5,8]\n");
  expect_expands(" %y = group_norm(%x, %g, %b) {eps=1e-06, groups=1} : f32[B,3,5,8]\n");
  expect_expands(" %y = group_norm(%x, %g, %b) {eps=1e-06, groups=8} : f32[B,3,5,8]\n");
  expect_expands(" %y = cross_entropy(%x, %t) : f32[B,3,5]\n");
}

TEST("means over every set of axes equal their definition, samples among them") {
  for (int axes = 1; axes < 16; axes++) {
    char body[200], shape[40] = "", list[20] = "";
    static const char *const dim[] = {"B", "3", "5", "8"};
    for (int i = 0; i < 4; i++) {
      char *to = axes >> i & 1 ? list : shape;
      if (*to) strcat(to, ",");
      char digit[4];
      snprintf(digit, sizeof digit, "%d", i);
      strcat(to, axes >> i & 1 ? digit : dim[i]);
    }
    snprintf(body, sizeof body, " %%y = mean(%%x) {axes=[%s]} : f32[%s]\n", list, shape);
    expect_expands(body);
  }
}

static int count_sums(const Func *f) {
  int n, sums = 0;
  Node **node = func_nodes(f, &n);
  for (int i = 0; i < n; i++) sums += node[i]->op == OP_SUM;
  return sums;
}

/* The sum of x over these axes, in this many steps. */
static void expect_sums(const char *x, const char *axes, const char *result, int steps) {
  char text[300], half[400];
  snprintf(text, sizeof text, "func @f(%%x: f32[%s]) {\n %%y = sum(%%x) {axes=[%s]} : f32[%s]\n return y = %%y\n}\n", x,
           axes, result);
  as_bf16(text, half, sizeof half);
  for (int i = 0; i < 2; i++) {
    PassCase c = {0};
    Error err = {0};
    Func *f = case_parse(&c, "t", i ? half : text), *to = f ? pass_expand(f) : NULL;
    REQUIRE(to, "%s", c.err.text);
    EXPECT(count_sums(to) == steps, "f32[%s] over %s: %d sums, not %d", x, axes, count_sums(to), steps);
    EXPECT(count_sums(pass_expand(to)) == steps, "f32[%s] over %s: expanded twice", x, axes);
    for (c.B = 1; c.B <= 3; c.B += 2) EXPECT(case_equal(&c, f, to, &err), "%s", err.text);
    case_done(&c);
  }
}

TEST("sums over all samples, and of a whole weight, are taken in steps of up to 1024 elements") {
  expect_sums("B,4,8,3", "0,1,2", "3", 2);
  expect_sums("B,40,60,3", "0,1,2", "3", 3);
  expect_sums("B,5,3,7", "0,2", "5,7", 2);
  expect_sums("1,B,4,3", "1,2", "1,3", 2);
  expect_sums("80,60", "0,1", "", 2);
  expect_sums("3,3,40,30", "0,1,2,3", "", 2);
  expect_sums("2,2100", "1,0", "", 2);
}

TEST("sums of one axis, of a few elements, or within a sample are one") {
  expect_sums("B,8", "0", "8", 1);
  expect_sums("B,1,1,8", "0,1,2", "8", 1);
  expect_sums("5000", "0", "", 1);
  expect_sums("64,64", "0,1", "", 1);
  expect_sums("B,80,60,3", "1,2", "B,3", 1);
  expect_sums("2,80,60", "1,2", "2", 1);
  expect_sums("3,B", "0,1", "", 1);
  expect_sums("B,0,4", "0,1,2", "", 1);
}

TEST("softmax and cross-entropy of huge logits are finite and right") {
  expect_expands(" %k = fill() {value=1e30} : f32[B,3,5,8]\n %z = mul(%x, %k) : f32[B,3,5,8]\n"
                 " %y = softmax(%z) : f32[B,3,5,8]\n");
  expect_expands(" %k = fill() {value=1000} : f32[B,3,5,8]\n %z = mul(%x, %k) : f32[B,3,5,8]\n"
                 " %y = cross_entropy(%z, %t) : f32[B,3,5]\n");
}

TEST("the norm of a constant is the bias") {
  expect_expands(" %c = fill() {value=7} : f32[B,3,5,8]\n"
                 " %y = layer_norm(%c, %g, %b) {eps=1e-05, groups=0} : f32[B,3,5,8]\n");
}

TEST("a mean over a multiple of the samples counts them") {
  PassCase c = {0};
  Func *f = case_parse(&c, "t", "func @f(%x: f32[4B,8]) {\n %y = mean(%x) {axes=[0,1]} : f32[]\n return y = %y\n}\n");
  REQUIRE(f, "%s", c.err.text);
  Error err = {0};
  for (c.B = 1; c.B < 4; c.B++) EXPECT(case_equal(&c, f, pass_expand(f), &err), "%s", err.text);
  case_done(&c);
}

TEST_MAIN()
