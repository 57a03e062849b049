/* What one operation on numbers computes: the interpreter of kernels runs these lane by lane, the kernel IR and the
 * graph IR fold constants with them.  f32 is what the processor's mode makes of it: see base/float_mode.h. */
#ifndef NUWA_NUMBER_H
#define NUWA_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* Operations: id, text, number of operands, is it pure (all are). */
#define NUMBER_OPS(X)                                                                                          \
  X(ADD, "add", 2, 1) X(SUB, "sub", 2, 1) X(MUL, "mul", 2, 1)                                                  \
  X(DIV, "div", 2, 1)       /* f32: IEEE; integers: towards minus infinity, divisor > 0 */                     \
  X(MOD, "mod", 2, 1)       /* integers: in [0, divisor) */                                                    \
  X(MIN, "min", 2, 1) X(MAX, "max", 2, 1)   /* f32: NaN when either is; of equals the first: x < y ? y : x */   \
  X(NEG, "neg", 1, 1) X(ABS, "abs", 1, 1) X(SQRT, "sqrt", 1, 1)                                                \
  X(FLOOR, "floor", 1, 1)   /* f32 -> f32, towards minus infinity */                                           \
  X(RINT, "rint", 1, 1)     /* f32 -> f32, nearest even */                                                     \
  X(ROUND, "round", 1, 1)   /* f32 -> f32: bf16's nearest number, ties to even; denormals to 0 */              \
  X(FMA, "fma", 3, 1)                                                                                          \
  X(AND, "and", 2, 1) X(OR, "or", 2, 1) X(XOR, "xor", 2, 1) X(NOT, "not", 1, 1)  /* bool, or bits of i32 */     \
  X(SHL, "shl", 2, 1) X(SHR, "shr", 2, 1)   /* i32, by y mod 32; SHR is arithmetic */                           \
  X(MUL_HIGH, "mul_high", 2, 1)   /* i32: the upper half of the 64-bit product of the two as unsigned numbers */ \
  X(LT, "lt", 2, 1) X(LE, "le", 2, 1) X(EQ, "eq", 2, 1)                                                        \
  X(SELECT, "select", 3, 1) /* cond, then, else */                                                             \
  X(TO_F32, "to_f32", 1, 1) /* from i32 */                                                                     \
  X(TO_I32, "to_i32", 1, 1) /* from f32 (towards zero; saturating is not promised), i64 (low bits), bool (0/1) */ \
  X(TO_I64, "to_i64", 1, 1) /* from i32, sign-extended; uniform only */                                        \
  X(BITS_I32, "bits_i32", 1, 1) X(BITS_F32, "bits_f32", 1, 1)

typedef enum NumberOp {
#define X(id, text, n, pure) NUMBER_##id,
  NUMBER_OPS(X)
#undef X
  NUMBER_OP_COUNT
} NumberOp;

typedef enum NumberType { NUMBER_BOOL, NUMBER_I32, NUMBER_I64, NUMBER_F32 } NumberType;

typedef union Number {
  int64_t i;
  float f;
} Number;

/* t: of the first operand.  Integers wrap around in it. */
Number number_compute(NumberOp op, NumberType t, Number x, Number y, Number z);

#endif
