/* REDUCE groups: one reduction over any axes of any shape, and chains of them, in both layouts. */
#include "tests/unit/codegen/lower_check.h"

static void at_sizes(const char *text, const int64_t *sizes, int n) {
  for (int i = 0; i < n; i++)
    check_run(&(Check){
        .family = FAMILY_REDUCE, .text = text, .B = sizes[i], .R = sizes[i] + 2, .interpret_only = i < n - 1});
}

static void everywhere(const char *text) {
  static const int64_t B[] = {1, 2, 19};
  at_sizes(text, B, strpbrk(text, "BR") ? COUNT_OF(B) : 1);
}

typedef struct ReduceCase {
  const char *shape, *axes, *kept;
} ReduceCase;

static const ReduceCase cases[] = {
    {"[1]", "0", "[]"},
    {"[17]", "0", "[]"},
    {"[0]", "0", "[]"},
    {"[160]", "0", "[]"},
    {"[5,33]", "1", "[5]"},
    {"[5,64]", "1", "[5]"},
    {"[5,3]", "1", "[5]"},
    {"[3,0]", "1", "[3]"},
    {"[0,3]", "1", "[0]"},
    {"[0,30]", "0", "[30]"},
    {"[5,33]", "0", "[33]"},
    {"[40,33]", "0", "[33]"},
    {"[40,300]", "0", "[300]"},
    {"[17,3]", "0", "[3]"},
    {"[B,7]", "0", "[7]"},
    {"[B,40]", "0", "[40]"},
    {"[B,40]", "1", "[B]"},
    {"[40,B]", "0", "[B]"},
    {"[7,B]", "1", "[7]"},
    {"[B,3,4,20]", "1,2", "[B,20]"},
    {"[B,3,4,20]", "0,1,2", "[20]"},
    {"[B,5,2,4]", "1,3", "[B,2]"},
    {"[B,5,2,32]", "1,3", "[B,2]"},
    {"[3,4,5,6]", "0,2", "[4,6]"},
    {"[3,4,5,18]", "0,2", "[4,18]"},
    {"[3,4,5]", "0,1,2", "[]"},
    {"[3,4,5]", "1", "[3,5]"},
    {"[4,17,1]", "1", "[4,1]"},
    {"[1,17]", "0", "[17]"},
    {"[20,20]", "0", "[20]"},
};

TEST("sums and maxima agree on every shape and set of axes") {
  char text[400], attrs[40], types[40], result[40];
  static const char *const ops[] = {"sum", "max"};
  for (int i = 0; i < COUNT_OF(cases); i++)
    for (int op = 0; op < 2; op++) {
      snprintf(attrs, sizeof attrs, "axes=[%s]", cases[i].axes);
      snprintf(types, sizeof types, "f32%s", cases[i].shape);
      snprintf(result, sizeof result, "f32%s", cases[i].kept);
      case_text(text, sizeof text, ops[op], types, attrs, result);
      everywhere(text);
    }
}

TEST("integer sums, maxima and argmax agree exactly, ties included") {
  static const ReduceCase some[] = {{"[33]", "0", "[]"},   {"[5,64]", "1", "[5]"},  {"[40,33]", "0", "[33]"},
                                    {"[3,B]", "1", "[3]"}, {"[B,40]", "0", "[40]"}, {"[6,4,5]", "1", "[6,5]"}};
  static const char *const ops[][3] = {{"sum", "i32", "i32"},    {"max", "i32", "i32"},   {"max", "u8", "u8"},
                                       {"argmax", "i32", "i32"}, {"argmax", "u8", "i32"}, {"argmax", "f32", "i32"}};
  char text[400], attrs[40], types[40], result[40];
  for (int i = 0; i < COUNT_OF(some); i++)
    for (int op = 0; op < COUNT_OF(ops); op++) {
      bool arg = !strcmp(ops[op][0], "argmax");
      snprintf(attrs, sizeof attrs, arg ? "axis=%s" : "axes=[%s]", some[i].axes);
      snprintf(types, sizeof types, "%s%s", ops[op][1], some[i].shape);
      snprintf(result, sizeof result, "%s%s", ops[op][2], some[i].kept);
      case_text(text, sizeof text, ops[op][0], types, attrs, result);
      everywhere(text);
    }
}

TEST("argmax of minus infinities is the first, of values with NaN the best number") {
  everywhere("func @f(%x: f32[3,20]) {\n  %1 = fill() {value=-inf} : f32[3,20]\n  %2 = add(%x, %1) : f32[3,20]\n"
             "  %3 = argmax(%2) {axis=1} : i32[3]\n  return y = %3\n}\n");
  everywhere("func @f(%x: f32[3,20]) {\n  %1 = fill() {value=-inf} : f32[3,20]\n  %2 = add(%x, %1) : f32[3,20]\n"
             "  %3 = argmax(%2) {axis=0} : i32[20]\n  return y = %3\n}\n");
}

/* softmax over the last axis, with its result and its logarithm of the sum */
#define SOFTMAX(S, R, ONE)                                                                                           \
  "func @f(%x: f32" S ") {\n  %1 = max(%x) {axes=[1]} : f32" R "\n  %2 = reshape(%1) : f32" ONE "\n"                 \
  "  %3 = broadcast(%2) : f32" S "\n  %4 = sub(%x, %3) : f32" S "\n  %5 = exp(%4) : f32" S "\n"                      \
  "  %6 = sum(%5) {axes=[1]} : f32" R "\n  %7 = reshape(%6) : f32" ONE "\n  %8 = broadcast(%7) : f32" S "\n"         \
  "  %9 = div(%5, %8) : f32" S "\n  %10 = log(%6) : f32" R "\n  %11 = add(%10, %1) : f32" R "\n"                     \
  "  return lse = %11, y = %9\n}\n"

TEST("softmax: three loops, the exponentials kept in scratch") {
  everywhere(SOFTMAX("[B,512]", "[B]", "[B,1]"));
  everywhere(SOFTMAX("[B,33]", "[B]", "[B,1]"));
  everywhere(SOFTMAX("[4,1]", "[4]", "[4,1]"));
  everywhere(SOFTMAX("[20,20]", "[20]", "[20,1]"));
  everywhere(SOFTMAX("[5,B]", "[5]", "[5,1]"));
  everywhere(SOFTMAX("[2,17000]", "[2]", "[2,1]"));
}

/* layer norm of a sum of two tensors, which is a result too */
#define LAYER_NORM(S, R, ONE, D, N)                                                                                  \
  "func @f(%x: f32" S ", %r: f32" S ", %g: f32[" D "], %b: f32[" D "]) {\n  %1 = add(%x, %r) : f32" S "\n"           \
  "  %2 = sum(%1) {axes=[2]} : f32" R "\n  %3 = fill() {value=" N "} : f32" R "\n  %4 = mul(%2, %3) : f32" R "\n"    \
  "  %5 = reshape(%4) : f32" ONE "\n  %6 = broadcast(%5) : f32" S "\n  %7 = sub(%1, %6) : f32" S "\n"                \
  "  %8 = mul(%7, %7) : f32" S "\n  %9 = sum(%8) {axes=[2]} : f32" R "\n  %10 = mul(%9, %3) : f32" R "\n"            \
  "  %11 = fill() {value=1e-05} : f32" R "\n  %12 = add(%10, %11) : f32" R "\n  %13 = sqrt(%12) : f32" R "\n"        \
  "  %14 = reshape(%13) : f32" ONE "\n  %15 = broadcast(%14) : f32" S "\n  %16 = div(%7, %15) : f32" S "\n"          \
  "  %17 = broadcast(%g) : f32" S "\n  %18 = mul(%16, %17) : f32" S "\n  %19 = broadcast(%b) : f32" S "\n"           \
  "  %20 = add(%18, %19) : f32" S "\n  return h = %1, mean = %4, y = %20\n}\n"

TEST("layer norm: two reductions, a result of each level") {
  everywhere(LAYER_NORM("[B,3,64]", "[B,3]", "[B,3,1]", "64", "0.015625"));
  everywhere(LAYER_NORM("[B,3,50]", "[B,3]", "[B,3,1]", "50", "0.02"));
}

/* Normalises x [b, p, g, c] over axes `AXES` with the statistics' shape R and the same with ones, ONE */
#define NORM(S, AXES, R, ONE, N)                                                                                     \
  "func @f(%x: f32" S ") {\n  %2 = sum(%x) {axes=" AXES "} : f32" R "\n  %3 = fill() {value=" N "} : f32" R "\n"     \
  "  %4 = mul(%2, %3) : f32" R "\n  %5 = reshape(%4) : f32" ONE "\n  %6 = broadcast(%5) : f32" S "\n"                \
  "  %7 = sub(%x, %6) : f32" S "\n  %8 = mul(%7, %7) : f32" S "\n  %9 = sum(%8) {axes=" AXES "} : f32" R "\n"        \
  "  %10 = mul(%9, %3) : f32" R "\n  %11 = fill() {value=1e-05} : f32" R "\n  %12 = add(%10, %11) : f32" R "\n"      \
  "  %13 = sqrt(%12) : f32" R "\n  %14 = reshape(%13) : f32" ONE "\n  %15 = broadcast(%14) : f32" S "\n"             \
  "  %16 = div(%7, %15) : f32" S "\n  %17 = add(%9, %4) : f32" R "\n  return s = %17, y = %16\n}\n"

TEST("statistics over any axes: groups of channels, columns, the middle of a tensor") {
  everywhere(NORM("[B,12,4,5]", "[1,3]", "[B,4]", "[B,1,4,1]", "0.016666666"));
  everywhere(NORM("[B,6,2,16]", "[1,3]", "[B,2]", "[B,1,2,1]", "0.010416667"));
  everywhere(NORM("[20,20]", "[0]", "[20]", "[1,20]", "0.05"));
  everywhere(NORM("[20,20]", "[1]", "[20]", "[20,1]", "0.05"));
  everywhere(NORM("[B,4,5,33]", "[1,2]", "[B,33]", "[B,1,1,33]", "0.05"));
  everywhere(NORM("[3,4,150]", "[0,1]", "[150]", "[1,1,150]", "0.08333333"));
  everywhere(NORM("[B,4,2,9]", "[1]", "[B,2,9]", "[B,1,2,9]", "0.25"));
  everywhere(NORM("[3,5,1]", "[1]", "[3,1]", "[3,1,1]", "0.2"));
}

TEST("cross-entropy: a one-hot comparison inside the reduction") {
  everywhere(
      "func @f(%x: f32[B,70], %t: i32[B]) {\n  %1 = max(%x) {axes=[1]} : f32[B]\n  %2 = reshape(%1) : f32[B,1]\n"
      "  %3 = broadcast(%2) : f32[B,70]\n  %4 = sub(%x, %3) : f32[B,70]\n  %5 = exp(%4) : f32[B,70]\n"
      "  %6 = sum(%5) {axes=[1]} : f32[B]\n  %7 = log(%6) : f32[B]\n  %8 = iota() {axis=1} : i32[B,70]\n"
      "  %9 = reshape(%t) : i32[B,1]\n  %10 = broadcast(%9) : i32[B,70]\n  %11 = eq(%8, %10) : u8[B,70]\n"
      "  %12 = fill() {value=0} : f32[B,70]\n  %13 = select(%11, %4, %12) : f32[B,70]\n"
      "  %14 = sum(%13) {axes=[1]} : f32[B]\n  %15 = sub(%7, %14) : f32[B]\n  return loss = %15\n}\n");
}

TEST("a prologue of index maps: transposed, padded, shifted and gathered operands") {
  everywhere("func @f(%x: f32[40,B]) {\n  %1 = transpose(%x) {perm=[1,0]} : f32[B,40]\n  %2 = exp(%1) : f32[B,40]\n"
             "  %3 = sum(%2) {axes=[1]} : f32[B]\n  return y = %3\n}\n");
  everywhere("func @f(%x: f32[B,30]) {\n  %1 = pad(%x) {lo=[0,3], hi=[0,0], interior=[0,0], value=2} : f32[B,33]\n"
             "  %2 = sum(%1) {axes=[1]} : f32[B]\n  %3 = max(%1) {axes=[1]} : f32[B]\n  return m = %3, y = %2\n}\n");
  everywhere(
      "func @f(%e: f32[12,20], %t: i32[B,3]) {\n  %1 = gather(%e, %t) : f32[B,3,20]\n"
      "  %2 = sum(%1) {axes=[0,1]} : f32[20]\n  %3 = max(%1) {axes=[0,1]} : f32[20]\n  return y = %2, z = %3\n}\n");
}

TEST("a value that an index map moves is never taken from another element") {
  /* exp(x) is kept in scratch for the second loop, but the reversed copy needs other elements */
  everywhere(
      "func @f(%x: f32[B,40]) {\n  %1 = exp(%x) : f32[B,40]\n  %2 = sum(%1) {axes=[1]} : f32[B]\n"
      "  %3 = reshape(%2) : f32[B,1]\n  %4 = broadcast(%3) : f32[B,40]\n  %5 = reverse(%1) {axes=[1]} : f32[B,40]\n"
      "  %6 = div(%5, %4) : f32[B,40]\n  %7 = add(%6, %1) : f32[B,40]\n  return y = %7\n}\n");
  /* a total broadcast along the wrong axis of a square is refused, not miscomputed */
  Check c = {.family = FAMILY_REDUCE,
             .B = 1,
             .R = 1,
             .text =
                 "func @f(%x: f32[20,20]) {\n  %1 = sum(%x) {axes=[1]} : f32[20]\n  %2 = broadcast(%1) : f32[20,20]\n"
                 "  %3 = mul(%x, %2) : f32[20,20]\n  return y = %3\n}\n"};
  c.graph = graph_new(&c.err);
  check_parse(&c);
  check_group(&c);
  EXPECT(!check_lower(&c), "accepted");
  EXPECT_HAS(c.err.text, "is needed at another element");
  check_done(&c);
}

TEST("sums do not depend on the layout or on the number of samples, to the bit") {
  /* The same numbers as rows and as columns. */
  Check rows = {.family = FAMILY_REDUCE,
                .B = 37,
                .R = 1,
                .interpret_only = true,
                .keep = true,
                .text = "func @f(%x: f32[B,37]) {\n  %1 = sum(%x) {axes=[1]} : f32[B]\n  return y = %1\n}\n"};
  Check columns = {.family = FAMILY_REDUCE,
                   .B = 37,
                   .R = 1,
                   .interpret_only = true,
                   .keep = true,
                   .text = "func @f(%x: f32[37,37]) {\n  %1 = sum(%x) {axes=[0]} : f32[37]\n  return y = %1\n}\n"};
  check_run(&rows);
  check_run(&columns);
  float x[37 * 37], t[37 * 37], y[37], z[37], one[1];
  for (int i = 0; i < 37 * 37; i++) x[i] = philox_uniform(philox(7, (uint32_t)i, 0, STREAM_TEST).word[0]) - 0.4f;
  for (int i = 0; i < 37 * 37; i++) t[i % 37 * 37 + i / 37] = x[i];
  REQUIRE(kir_interpret(rows.kernel, (void *[]){x, y}, 37, 1, &rows.err), "%s", rows.err.text);
  REQUIRE(kir_interpret(columns.kernel, (void *[]){t, z}, 37, 1, &columns.err), "%s", columns.err.text);
  EXPECT(!memcmp(y, z, sizeof y), "rows and columns differ");
  REQUIRE(kir_interpret(rows.kernel, (void *[]){x, one}, 1, 1, &rows.err), "%s", rows.err.text);
  EXPECT(one[0] == y[0], "one sample differs from many");
  check_done(&rows);
  check_done(&columns);
}

TEST_MAIN()
