/* Dead code: what stays and what goes. */
#include "tests/test.h"
#include "tests/unit/passes/pass_case.h"

static int count_after(const char *text, int *out_updates, int *out_inputs) {
  PassCase c = {0};
  int n = -1;
  Func *f = case_parse(&c, "t", text), *to = f ? pass_dce(f) : NULL;
  if (to) {
    func_nodes(to, &n);
    *out_updates = to->n_update;
    *out_inputs = to->n_in;
  }
  case_done(&c);
  return n;
}

TEST("nodes that no output or update reaches are gone, inputs stay") {
  int updates, inputs;
  const char *text =
      "func @f(%x: f32[4], %u: f32[4]) {\n %1 = exp(%x) : f32[4]\n %2 = exp(%1) : f32[4]\n"
      " return y = %1\n}\n";
  EXPECT(count_after(text, &updates, &inputs) == 3);
  EXPECT(inputs == 2);
}

TEST("an update with its own old value goes, another stays") {
  int updates, inputs;
  const char *text =
      "func @f(%x: f32[4]) {\n %a = state() {name=\"a\"} : f32[4]\n %b = state() {name=\"b\"} : f32[4]\n"
      " %1 = detach(%a) : f32[4]\n %2 = add(%b, %x) : f32[4]\n update %a = %1\n update %b = %2\n return\n}\n";
  EXPECT(count_after(text, &updates, &inputs) == 3);
  EXPECT(updates == 1);
}

TEST_MAIN()
