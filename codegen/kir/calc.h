/* What ir/math_forms.h and ir/scalar_forms.h are written in, as instructions. */
#ifndef NUWA_KIR_CALC_H
#define NUWA_KIR_CALC_H

#include "codegen/kir/kir.h"

typedef Kernel Calc;
typedef KInst *Num;

static inline KOp calc_kop(NumberOp op) { return (KOp)(KOP_ADD + (int)op); }
static inline Num real(Calc *k, float x) { return kir_f32(k, x); }
static inline Num whole(Calc *k, int32_t x) { return kir_i32(k, x); }
static inline Num op1(Calc *k, NumberOp op, Num x) { return kir_un(k, calc_kop(op), x); }
static inline Num op2(Calc *k, NumberOp op, Num x, Num y) { return kir_bin(k, calc_kop(op), x, y); }
static inline Num op3(Calc *k, NumberOp op, Num x, Num y, Num z) { return kir_op(k, calc_kop(op), x, y, z); }

#endif
