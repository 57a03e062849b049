#include "tests/num/op_cases.h"

WIDE_TEST("generated code gives what the interpreter gives, for every op of bf16 and awkward shape") {
  check_every_op((DType[]){DTYPE_BF16}, 1, DTYPE_BF16);
}

TEST_MAIN()
