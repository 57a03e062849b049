/* Pure instructions as LLVM IR.  No fast-math flag is ever set and FMA is never formed from other operations. */
#include "codegen/emit/llvm_emit.h"

#include <string.h>

LLVMTypeRef emit_type(Emit *e, KType t) {
  switch (t) {
  case K_BOOL: return e->i1;
  case K_I32: return e->i32;
  case K_I64: return e->i64;
  default: return e->f32;
  }
}

LLVMTypeRef emit_vector(Emit *e, LLVMTypeRef t) { return LLVMVectorType(t, (unsigned)e->width); }

LLVMValueRef emit_const_splat(LLVMValueRef scalar, int width) {
  LLVMValueRef all[LANES];
  for (int l = 0; l < width; l++) all[l] = scalar;
  return LLVMConstVector(all, (unsigned)width);
}

LLVMValueRef emit_splat(Emit *e, LLVMValueRef scalar, int width) {
  if (LLVMIsConstant(scalar)) return emit_const_splat(scalar, width);
  LLVMTypeRef vector = LLVMVectorType(LLVMTypeOf(scalar), (unsigned)width);
  LLVMValueRef one = LLVMBuildInsertElement(e->b, LLVMGetPoison(vector), scalar, LLVMConstInt(e->i32, 0, 0), "");
  LLVMValueRef zeros = LLVMConstNull(LLVMVectorType(e->i32, (unsigned)width));
  return LLVMBuildShuffleVector(e->b, one, LLVMGetPoison(vector), zeros, "");
}

LLVMValueRef emit_operand(Emit *e, const KInst *i, int p) { return e->value[i->id].v[i->varying ? p : 0]; }

LLVMValueRef emit_piece(Emit *e, const KInst *i, int p) {
  LLVMValueRef v = emit_operand(e, i, p);
  return i->varying ? v : emit_splat(e, v, e->width);
}

LLVMValueRef emit_intrinsic(Emit *e, const char *name, LLVMTypeRef *types, int n_types, LLVMValueRef *args, int n_args) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  BUG_IF(id == 0, "LLVM has no intrinsic %s", name);
  LLVMValueRef fn = LLVMGetIntrinsicDeclaration(e->mod, id, types, (size_t)n_types);
  LLVMTypeRef type = LLVMIntrinsicGetType(e->ctx, id, types, (size_t)n_types);
  return LLVMBuildCall2(e->b, type, fn, args, (unsigned)n_args, "");
}

static LLVMValueRef unary_intrinsic(Emit *e, const char *name, LLVMValueRef x) {
  LLVMTypeRef type = LLVMTypeOf(x);
  return emit_intrinsic(e, name, &type, 1, &x, 1);
}

/* The type of x's shape with other elements. */
static LLVMTypeRef like(LLVMValueRef x, LLVMTypeRef element) {
  LLVMTypeRef t = LLVMTypeOf(x);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMVectorType(element, LLVMGetVectorSize(t)) : element;
}

static LLVMValueRef const_like(LLVMValueRef x, LLVMValueRef c) {
  LLVMTypeRef t = LLVMTypeOf(x);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? emit_const_splat(c, (int)LLVMGetVectorSize(t)) : c;
}

/* x y + z rounded once, in f64: the product is exact there, the sum is rounded to odd (its error moves an even last bit
 * towards the true value), and 53 >= 24 + 2 bits make the second rounding right. */
static LLVMValueRef emulate_fma(Emit *e, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z) {
  LLVMTypeRef wide = like(x, e->f64), bits = like(x, e->i64);
  LLVMBuilderRef b = e->b;
  LLVMValueRef p = LLVMBuildFMul(b, LLVMBuildFPExt(b, x, wide, ""), LLVMBuildFPExt(b, y, wide, ""), "");
  LLVMValueRef q = LLVMBuildFPExt(b, z, wide, "");
  LLVMValueRef sum = LLVMBuildFAdd(b, p, q, "");
  LLVMValueRef q_part = LLVMBuildFSub(b, sum, p, "");
  LLVMValueRef p_part = LLVMBuildFSub(b, sum, q_part, "");
  LLVMValueRef lost = LLVMBuildFAdd(b, LLVMBuildFSub(b, p, p_part, ""), LLVMBuildFSub(b, q, q_part, ""), "");
  LLVMValueRef zero = LLVMConstNull(wide), one = const_like(x, LLVMConstInt(e->i64, 1, 0));
  LLVMValueRef word = LLVMBuildBitCast(b, sum, bits, "");
  LLVMValueRef even = LLVMBuildICmp(b, LLVMIntEQ, LLVMBuildAnd(b, word, one, ""), LLVMConstNull(bits), "");
  LLVMValueRef inexact = LLVMBuildFCmp(b, LLVMRealONE, lost, zero, "");
  LLVMValueRef up = LLVMBuildFCmp(b, LLVMRealOGT, lost, zero, "");
  LLVMValueRef positive = LLVMBuildFCmp(b, LLVMRealOGT, sum, zero, "");
  LLVMValueRef away = LLVMBuildICmp(b, LLVMIntEQ, up, positive, "");
  LLVMValueRef odd = LLVMBuildSelect(b, away, LLVMBuildAdd(b, word, one, ""), LLVMBuildSub(b, word, one, ""), "");
  word = LLVMBuildSelect(b, LLVMBuildAnd(b, even, inexact, ""), odd, word, "");
  return LLVMBuildFPTrunc(b, LLVMBuildBitCast(b, word, wide, ""), LLVMTypeOf(x), "");
}

static LLVMValueRef emit_fma(Emit *e, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z) {
  if (!e->t->has_fma) return emulate_fma(e, x, y, z);
  LLVMTypeRef type = LLVMTypeOf(x);
  LLVMValueRef args[3] = {x, y, z};
  return emit_intrinsic(e, "llvm.fma", &type, 1, args, 3);
}

static LLVMValueRef less(Emit *e, bool is_float, LLVMValueRef x, LLVMValueRef y) {
  return is_float ? LLVMBuildFCmp(e->b, LLVMRealOLT, x, y, "") : LLVMBuildICmp(e->b, LLVMIntSLT, x, y, "");
}

/* Of equal numbers the first, NaN when either is: x86's own maximum of (y, x) is `r`, which leaves a NaN in y to add. */
static LLVMValueRef emit_minmax(Emit *e, bool is_float, bool max, LLVMValueRef x, LLVMValueRef y) {
  LLVMValueRef takes_y = max ? less(e, is_float, x, y) : less(e, is_float, y, x);
  LLVMValueRef r = LLVMBuildSelect(e->b, takes_y, y, x, "");
  if (!is_float || LLVMIsConstant(y)) return r;   /* no constant is NaN: kir_fold.c */
  return LLVMBuildSelect(e->b, LLVMBuildFCmp(e->b, LLVMRealUNO, y, y, ""), y, r, "");
}

/* bf16_round of runtime/base/dtype.c. */
LLVMValueRef emit_round(Emit *e, LLVMValueRef x) {
  LLVMBuilderRef b = e->b;
  LLVMValueRef u = LLVMBuildBitCast(b, x, like(x, e->i32), "");
  LLVMValueRef upper = const_like(x, LLVMConstInt(e->i32, 0xffff0000u, 0));
  LLVMValueRef last = LLVMBuildAnd(b, LLVMBuildLShr(b, u, const_like(x, LLVMConstInt(e->i32, 16, 0)), ""),
                                   const_like(x, LLVMConstInt(e->i32, 1, 0)), "");
  LLVMValueRef half = LLVMBuildAdd(b, last, const_like(x, LLVMConstInt(e->i32, 0x7fff, 0)), "");
  LLVMValueRef rounded = LLVMBuildAdd(b, u, half, "");
  LLVMValueRef quiet = LLVMBuildOr(b, u, const_like(x, LLVMConstInt(e->i32, 0x400000, 0)), "");
  LLVMValueRef r = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealUNO, x, x, ""), quiet, rounded, "");
  LLVMValueRef exponent = LLVMBuildAnd(b, u, const_like(x, LLVMConstInt(e->i32, 0x7f800000u, 0)), "");
  LLVMValueRef is_small = LLVMBuildICmp(b, LLVMIntEQ, exponent, LLVMConstNull(LLVMTypeOf(u)), "");
  LLVMValueRef kept = LLVMBuildSelect(b, is_small, const_like(x, LLVMConstInt(e->i32, 0x80000000u, 0)), upper, "");
  return LLVMBuildAnd(b, LLVMBuildSelect(b, is_small, u, r, ""), kept, "");
}

static LLVMValueRef emit_f32(Emit *e, KOp op, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z) {
  switch (op) {
  case KOP_ADD: return LLVMBuildFAdd(e->b, x, y, "");
  case KOP_SUB: return LLVMBuildFSub(e->b, x, y, "");
  case KOP_MUL: return LLVMBuildFMul(e->b, x, y, "");
  case KOP_DIV: return LLVMBuildFDiv(e->b, x, y, "");
  case KOP_MIN: return emit_minmax(e, true, false, x, y);
  case KOP_MAX: return emit_minmax(e, true, true, x, y);
  case KOP_NEG: return LLVMBuildFNeg(e->b, x, "");
  case KOP_ABS: return unary_intrinsic(e, "llvm.fabs", x);
  case KOP_SQRT: return unary_intrinsic(e, "llvm.sqrt", x);
  case KOP_FLOOR: return unary_intrinsic(e, "llvm.floor", x);
  case KOP_RINT: return unary_intrinsic(e, "llvm.roundeven", x);
  case KOP_ROUND: return LLVMBuildBitCast(e->b, emit_round(e, x), LLVMTypeOf(x), "");
  case KOP_FMA: return emit_fma(e, x, y, z);
  case KOP_LT: return LLVMBuildFCmp(e->b, LLVMRealOLT, x, y, "");
  case KOP_LE: return LLVMBuildFCmp(e->b, LLVMRealOLE, x, y, "");
  case KOP_EQ: return LLVMBuildFCmp(e->b, LLVMRealOEQ, x, y, "");
  case KOP_TO_I32: return LLVMBuildFPToSI(e->b, x, like(x, e->i32), "");
  case KOP_BITS_I32: return LLVMBuildBitCast(e->b, x, like(x, e->i32), "");
  default: BUG("%s has no f32 form", kop_info[op].text);
  }
}

/* Quotient and remainder towards minus infinity; unsigned division where the operands are known not to be negative. */
static LLVMValueRef emit_divmod(Emit *e, const KInst *i, LLVMValueRef x, LLVMValueRef y) {
  bool mod = i->op == KOP_MOD;
  if (i->in[0]->lo >= 0) return mod ? LLVMBuildURem(e->b, x, y, "") : LLVMBuildUDiv(e->b, x, y, "");
  LLVMValueRef r = LLVMBuildSRem(e->b, x, y, ""), zero = LLVMConstNull(LLVMTypeOf(x));
  LLVMValueRef below = LLVMBuildICmp(e->b, LLVMIntSLT, r, zero, "");
  if (mod) return LLVMBuildSelect(e->b, below, LLVMBuildAdd(e->b, r, y, ""), r, "");
  LLVMValueRef q = LLVMBuildSDiv(e->b, x, y, "");
  return LLVMBuildAdd(e->b, q, LLVMBuildSExt(e->b, below, LLVMTypeOf(x), ""), "");
}

/* Indices do not overflow (see kir_type.c), which lets LLVM strengthen address arithmetic. */
static LLVMValueRef emit_index(Emit *e, KOp op, LLVMValueRef x, LLVMValueRef y) {
  if (op == KOP_ADD) return LLVMBuildNSWAdd(e->b, x, y, "");
  return op == KOP_SUB ? LLVMBuildNSWSub(e->b, x, y, "") : LLVMBuildNSWMul(e->b, x, y, "");
}

static LLVMValueRef emit_mul_high(Emit *e, LLVMValueRef x, LLVMValueRef y) {
  LLVMTypeRef wide = like(x, e->i64);
  LLVMValueRef xy = LLVMBuildMul(e->b, LLVMBuildZExt(e->b, x, wide, ""), LLVMBuildZExt(e->b, y, wide, ""), "");
  LLVMValueRef half = LLVMBuildZExt(e->b, const_like(x, LLVMConstInt(e->i32, 32, 0)), wide, "");
  return LLVMBuildTrunc(e->b, LLVMBuildLShr(e->b, xy, half, ""), LLVMTypeOf(x), "");
}

static LLVMValueRef emit_convert_int(Emit *e, KOp op, LLVMValueRef x, KType from) {
  switch (op) {
  case KOP_TO_F32: return LLVMBuildSIToFP(e->b, x, like(x, e->f32), "");
  case KOP_TO_I64: return LLVMBuildSExt(e->b, x, like(x, e->i64), "");
  case KOP_BITS_F32: return LLVMBuildBitCast(e->b, x, like(x, e->f32), "");
  default: return from == K_I64 ? LLVMBuildTrunc(e->b, x, like(x, e->i32), "")
                                : LLVMBuildZExt(e->b, x, like(x, e->i32), "");
  }
}

static LLVMValueRef emit_int(Emit *e, const KInst *i, LLVMValueRef x, LLVMValueRef y) {
  KType t = i->in[0]->type;
  switch (i->op) {
  case KOP_ADD: if (t == K_I64) return emit_index(e, i->op, x, y); return LLVMBuildAdd(e->b, x, y, "");
  case KOP_SUB: if (t == K_I64) return emit_index(e, i->op, x, y); return LLVMBuildSub(e->b, x, y, "");
  case KOP_MUL: if (t == K_I64) return emit_index(e, i->op, x, y); return LLVMBuildMul(e->b, x, y, "");
  case KOP_DIV: case KOP_MOD: return emit_divmod(e, i, x, y);
  case KOP_MIN: return emit_minmax(e, false, false, x, y);
  case KOP_MAX: return emit_minmax(e, false, true, x, y);
  case KOP_NEG: return LLVMBuildNeg(e->b, x, "");
  case KOP_ABS: return emit_minmax(e, false, true, x, LLVMBuildNeg(e->b, x, ""));
  case KOP_AND: return LLVMBuildAnd(e->b, x, y, "");
  case KOP_OR: return LLVMBuildOr(e->b, x, y, "");
  case KOP_XOR: return LLVMBuildXor(e->b, x, y, "");
  case KOP_NOT: return LLVMBuildNot(e->b, x, "");
  case KOP_SHL: return LLVMBuildShl(e->b, x, y, ""); /* y < 32: kir_fold.c */
  case KOP_SHR: return LLVMBuildAShr(e->b, x, y, "");
  case KOP_MUL_HIGH: return emit_mul_high(e, x, y);
  case KOP_LT: return LLVMBuildICmp(e->b, LLVMIntSLT, x, y, "");
  case KOP_LE: return LLVMBuildICmp(e->b, LLVMIntSLE, x, y, "");
  case KOP_EQ: return LLVMBuildICmp(e->b, LLVMIntEQ, x, y, "");
  default: return emit_convert_int(e, i->op, x, t);
  }
}

/* ---- across lanes ---- */

static LLVMValueRef tree_step(Emit *e, const KInst *i, LLVMValueRef x, LLVMValueRef y) {
  if (i->op == KOP_TREE_ADD) return LLVMBuildFAdd(e->b, x, y, "");
  return emit_minmax(e, i->type == K_F32, i->op == KOP_TREE_MAX, x, y);
}

/* Lanes [from, from + n) of a vector. */
static LLVMValueRef lanes_of(Emit *e, LLVMValueRef x, int from, int n) {
  LLVMValueRef mask[LANES];
  for (int l = 0; l < n; l++) mask[l] = LLVMConstInt(e->i32, (unsigned long long)(from + l), 0);
  return LLVMBuildShuffleVector(e->b, x, LLVMGetPoison(LLVMTypeOf(x)), LLVMConstVector(mask, (unsigned)n), "");
}

static LLVMValueRef emit_tree(Emit *e, const KInst *i) {
  LLVMValueRef part[MAX_PIECES];
  for (int p = 0; p < e->pieces; p++) part[p] = emit_piece(e, i->in[0], p);
  for (int half = e->pieces / 2; half; half /= 2)
    for (int p = 0; p < half; p++) part[p] = tree_step(e, i, part[p], part[p + half]);
  LLVMValueRef x = part[0];
  for (int half = e->width / 2; half; half /= 2)
    x = tree_step(e, i, lanes_of(e, x, 0, half), lanes_of(e, x, half, half));
  return LLVMBuildExtractElement(e->b, x, LLVMConstInt(e->i32, 0, 0), "");
}

/* Piece p of LOW or HIGH: a whole piece of one operand, or lanes of the same piece of both. */
static LLVMValueRef emit_exchange(Emit *e, const KInst *i, int p) {
  int d = (int)i->in[2]->imm, pieces = d / e->width, stays = i->op == KOP_HIGH ? d : 0;
  if (pieces) {
    bool is_y = p & pieces, moves = (is_y ? d : 0) != stays;
    return emit_piece(e, i->in[is_y], moves ? p ^ pieces : p);
  }
  LLVMValueRef mask[LANES];
  for (int l = 0; l < e->width; l++) {
    int from = (l & d) == stays ? l : l ^ d;
    mask[l] = LLVMConstInt(e->i32, (unsigned long long)(l & d ? from + e->width : from), 0);
  }
  LLVMValueRef x = emit_piece(e, i->in[0], p), y = emit_piece(e, i->in[1], p);
  return LLVMBuildShuffleVector(e->b, x, y, LLVMConstVector(mask, (unsigned)e->width), "");
}

static LLVMValueRef emit_lane_get(Emit *e, const KInst *i) {
  const KInst *x = i->in[0], *lane = i->in[1];
  if (kir_is_const(lane)) {
    LLVMValueRef at = LLVMConstInt(e->i32, (unsigned long long)(lane->imm % e->width), 0);
    return LLVMBuildExtractElement(e->b, emit_piece(e, x, (int)(lane->imm / e->width) % e->pieces), at, "");
  }
  LLVMValueRef l = emit_operand(e, lane, 0), width = LLVMConstInt(e->i32, (unsigned long long)e->width, 0);
  LLVMValueRef at = LLVMBuildURem(e->b, l, width, ""), piece = LLVMBuildUDiv(e->b, l, width, "");
  LLVMValueRef r = LLVMBuildExtractElement(e->b, emit_piece(e, x, 0), at, "");
  for (int p = 1; p < e->pieces; p++) {
    LLVMValueRef other = LLVMBuildExtractElement(e->b, emit_piece(e, x, p), at, "");
    LLVMValueRef here = LLVMBuildICmp(e->b, LLVMIntEQ, piece, LLVMConstInt(e->i32, (unsigned long long)p, 0), "");
    r = LLVMBuildSelect(e->b, here, other, r, "");
  }
  return r;
}

/* ---- one instruction ---- */

static LLVMValueRef emit_const(Emit *e, const KInst *i) {
  if (i->type != K_F32) return LLVMConstInt(emit_type(e, i->type), (unsigned long long)i->imm, 1);
  uint32_t bits;
  memcpy(&bits, &i->fimm, sizeof bits);
  return LLVMConstBitCast(LLVMConstInt(e->i32, bits, 0), e->f32);
}

static LLVMValueRef emit_lane(Emit *e, int p) {
  LLVMValueRef lane[LANES];
  for (int l = 0; l < e->width; l++) lane[l] = LLVMConstInt(e->i32, (unsigned long long)(p * e->width + l), 0);
  return LLVMConstVector(lane, (unsigned)e->width);
}

static LLVMValueRef emit_one(Emit *e, const KInst *i, int p) {
  LLVMValueRef in[3] = {0};
  for (int j = 0; j < i->n_in; j++) {
    /* A select between vectors by one bit needs no vector of bits. */
    bool scalar = i->op == KOP_SELECT && j == 0;
    in[j] = i->varying && !scalar ? emit_piece(e, i->in[j], p) : emit_operand(e, i->in[j], p);
  }
  if (i->op == KOP_SELECT) return LLVMBuildSelect(e->b, in[0], in[1], in[2], "");
  if (i->in[0]->type == K_F32) return emit_f32(e, i->op, in[0], in[1], in[2]);
  return emit_int(e, i, in[0], in[1]);
}

void emit_pure(Emit *e, const KInst *i) {
  Piece *r = &e->value[i->id];
  switch (i->op) {
  case KOP_CONST: r->v[0] = emit_const(e, i); return;
  case KOP_ITEM: r->v[0] = e->item; return;
  case KOP_SIZE: r->v[0] = e->size[i->imm]; return;
  case KOP_LANE:
    for (int p = 0; p < e->pieces; p++) r->v[p] = emit_lane(e, p);
    return;
  case KOP_TREE_ADD: case KOP_TREE_MAX: case KOP_TREE_MIN: r->v[0] = emit_tree(e, i); return;
  case KOP_LANE_GET: r->v[0] = emit_lane_get(e, i); return;
  case KOP_LOW: case KOP_HIGH:
    for (int p = 0; p < e->pieces; p++) r->v[p] = emit_exchange(e, i, p);
    return;
  default:
    for (int p = 0; p < (i->varying ? e->pieces : 1); p++) r->v[p] = emit_one(e, i, p);
  }
}
