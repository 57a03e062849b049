#include "tests/num/op_cases.h"

WIDE_TEST("generated code gives what the interpreter gives, for every op, element type and awkward shape") {
  check_every_op((DType[]){DTYPE_F32, DTYPE_I32, DTYPE_U8}, 3, DTYPE_F32);
}

TEST_MAIN()
