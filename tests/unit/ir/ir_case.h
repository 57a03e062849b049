/* One op as a function, from a line of a table: parsed, printed, parsed again, verified, interpreted. */
#ifndef NUWA_TESTS_IR_CASE_H
#define NUWA_TESTS_IR_CASE_H

#include "ir/interp.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>

/* "func @f(%a: T, %b: T) { %1 = op(%a, %b) attrs : result  return y = %1 }" for types "T T ..." */
static inline void case_text(char *out, size_t cap, const char *op, const char *types, const char *attrs,
                             const char *result) {
  char list[400], *save = NULL, operands[100] = "";
  snprintf(list, sizeof list, "%s", types);
  size_t at = (size_t)snprintf(out, cap, "func @f(");
  char name = 'a';
  for (char *t = strtok_r(list, " ", &save); t; t = strtok_r(NULL, " ", &save), name++) {
    at += (size_t)snprintf(out + at, cap - at, "%s%%%c: %s", name == 'a' ? "" : ", ", name, t);
    snprintf(operands + strlen(operands), sizeof operands - strlen(operands), "%s%%%c", name == 'a' ? "" : ", ",
             name);
  }
  snprintf(out + at, cap - at, ") {\n  %%1 = %s(%s)%s%s%s : %s\n  return y = %%1\n}\n", op, operands,
           *attrs ? " {" : "", attrs, *attrs ? "}" : "", result);
}

/* Numbers separated by blanks into t; false when their number is not t's. */
static inline bool case_values(const char *text, Tensor *t) {
  int64_t n = tensor_elems(t), i = 0;
  char *end;
  for (;; text = end) {
    double v = strtod(text, &end);
    if (end == text) return i == n;
    if (i == n) return false;
    t->data[i++] = v;
  }
}

static inline bool case_near(double x, double y, double tolerance) {
  return x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= tolerance * fmax(1, fabs(y));
}

#endif
