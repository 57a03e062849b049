/* SCATTER groups: sums over equal indices in order, and rows of a ring. */
#include "tests/unit/codegen/lower_check.h"

static void everywhere(const char *text) {
  static const int64_t B[] = {1, 3, 40};
  int n = strpbrk(text, "BR") ? COUNT_OF(B) : 1;
  for (int i = 0; i < n; i++)
    check_run(&(Check){.family = FAMILY_SCATTER, .text = text, .B = B[i], .R = B[i], .interpret_only = i < n - 1});
}

static void scatter(const char *index, const char *x, const char *rows, const char *result) {
  char text[500], types[100], attrs[40];
  snprintf(types, sizeof types, "%s %s", index, x);
  snprintf(attrs, sizeof attrs, "rows=%s", rows);
  case_text(text, sizeof text, "scatter_add", types, attrs, result);
  everywhere(text);
}

TEST("scatter_add sums rows of equal index in order and drops indices outside") {
  scatter("i32[B,7]", "f32[B,7,33]", "9", "f32[9,33]");
  scatter("i32[40]", "f32[40]", "20", "f32[20]");
  scatter("i32[40]", "i32[40,3]", "20", "i32[20,3]");
  scatter("i32[B]", "f32[B,2,20]", "20", "f32[20,2,20]");
  scatter("i32[5]", "f32[5,1000]", "4", "f32[4,1000]");
  scatter("i32[5,4]", "f32[5,4,B]", "6", "f32[6,B]");
  scatter("i32[]", "f32[17]", "6", "f32[6,17]");
  scatter("i32[0]", "f32[0,17]", "3", "f32[3,17]");
}

TEST("scatter_add takes a prologue on its rows: the gradient of an embedding") {
  everywhere(
      "func @f(%t: i32[B,4], %dy: f32[4,B,20], %s: f32[20]) {\n  %1 = transpose(%dy) {perm=[1,0,2]} : f32[B,4,20]\n"
      "  %2 = broadcast(%s) : f32[B,4,20]\n  %3 = mul(%1, %2) : f32[B,4,20]\n"
      "  %4 = scatter_add(%t, %3) {rows=12} : f32[12,20]\n  return y = %4\n}\n");
}

/* Distinct indices, some of them outside: 5 i - 4. */
TEST("ring_write replaces rows in place and leaves the others") {
  everywhere("func @f(%ring: f32[9,B,20], %x: f32[4,B,20]) {\n  %1 = iota() {axis=0} : i32[4]\n  %2 = fill() "
             "{value=5} : i32[4]\n"
             "  %3 = mul(%1, %2) : i32[4]\n  %4 = fill() {value=-4} : i32[4]\n  %5 = add(%3, %4) : i32[4]\n"
             "  %6 = exp(%x) : f32[4,B,20]\n  %7 = ring_write(%ring, %5, %6) : f32[9,B,20]\n  return y = %7\n}\n");
  everywhere("func @f(%ring: i32[30], %x: i32[R]) {\n  %1 = iota() {axis=0} : i32[R]\n"
             "  %7 = ring_write(%ring, %1, %x) : i32[30]\n  return y = %7\n}\n");
}

TEST_MAIN()
