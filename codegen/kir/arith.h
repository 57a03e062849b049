/* Short names for the arithmetic of kernels.  Constants are of the other operand's type. */
#ifndef NUWA_KIR_ARITH_H
#define NUWA_KIR_ARITH_H

#include "codegen/kir/kir.h"

static inline KInst *num(Kernel *k, int64_t x) { return kir_i64(k, x); }
static inline KInst *num32(Kernel *k, int64_t x) { return kir_i32(k, (int32_t)x); }
static inline KInst *zero32(Kernel *k) { return kir_f32(k, 0.0f); }
static inline KInst *like(Kernel *k, KInst *x, int64_t c) { return x->type == K_I64 ? num(k, c) : num32(k, c); }
static inline KInst *add(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_ADD, x, y); }
static inline KInst *sub(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_SUB, x, y); }
static inline KInst *mul(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_MUL, x, y); }
static inline KInst *fma_of(Kernel *k, KInst *x, KInst *y, KInst *z) { return kir_op(k, KOP_FMA, x, y, z); }
static inline KInst *plus(Kernel *k, KInst *x, int64_t c) { return add(k, x, like(k, x, c)); }
static inline KInst *times(Kernel *k, KInst *x, int64_t c) { return mul(k, x, like(k, x, c)); }
static inline KInst *least(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_MIN, x, y); }
static inline KInst *most(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_MAX, x, y); }
static inline KInst *below(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_LT, x, y); }
static inline KInst *equal(Kernel *k, KInst *x, KInst *y) { return kir_bin(k, KOP_EQ, x, y); }
/* Either may be NULL: surely. */
static inline KInst *both(Kernel *k, KInst *x, KInst *y) { return !x ? y : !y ? x : kir_bin(k, KOP_AND, x, y); }
static inline KInst *pick(Kernel *k, KInst *cond, KInst *x, KInst *y) { return kir_op(k, KOP_SELECT, cond, x, y); }
static inline KInst *to_i32(Kernel *k, KInst *x) { return kir_un(k, KOP_TO_I32, x); }
static inline KInst *to_i64(Kernel *k, KInst *x) { return kir_un(k, KOP_TO_I64, x); }
static inline KInst *quotient(Kernel *k, KInst *x, int64_t c) { return kir_bin(k, KOP_DIV, x, like(k, x, c)); }
static inline KInst *remainder_of(Kernel *k, KInst *x, int64_t c) { return kir_bin(k, KOP_MOD, x, like(k, x, c)); }

static inline KInst *within(Kernel *k, KInst *lo, KInst *x, KInst *hi) {
  return both(k, kir_bin(k, KOP_LE, lo, x), kir_bin(k, KOP_LE, x, hi));
}

#endif
