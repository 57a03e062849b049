/* Loads and stores.  Whole vectors where the lane offset is LANE itself, else gathers and scatters; bf16 is widened and
 * rounded here, u8 widened. */
#include "codegen/emit/llvm_emit.h"

static LLVMTypeRef memory_type(Emit *e, DType t) {
  switch (t) {
  case DTYPE_F32: return e->f32;
  case DTYPE_BF16: return e->i16;
  case DTYPE_I32: return e->i32;
  default: return e->i8;
  }
}

static LLVMTypeRef like(LLVMValueRef x, LLVMTypeRef element) {
  LLVMTypeRef t = LLVMTypeOf(x);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMVectorType(element, LLVMGetVectorSize(t)) : element;
}

static LLVMValueRef int_like(Emit *e, LLVMValueRef x, unsigned value) {
  LLVMTypeRef t = LLVMTypeOf(x);
  LLVMValueRef c = LLVMConstInt(e->i32, value, 0);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? emit_const_splat(c, (int)LLVMGetVectorSize(t)) : c;
}

static LLVMValueRef widen(Emit *e, DType t, LLVMValueRef x) {
  if (t == DTYPE_F32 || t == DTYPE_I32) return x;
  LLVMValueRef word = LLVMBuildZExt(e->b, x, like(x, e->i32), "");
  if (t == DTYPE_U8) return word;
  return LLVMBuildBitCast(e->b, LLVMBuildShl(e->b, word, int_like(e, x, 16), ""), like(x, e->f32), "");
}

/* The stored form of a value; its instruction says whether it is rounded already. */
static LLVMValueRef narrow(Emit *e, DType t, const KInst *value, LLVMValueRef x) {
  if (t == DTYPE_U8) return LLVMBuildTrunc(e->b, x, like(x, e->i8), "");
  if (t != DTYPE_BF16) return x;
  LLVMValueRef word = value->op == KOP_ROUND ? LLVMBuildBitCast(e->b, x, like(x, e->i32), "") : emit_round(e, x);
  return LLVMBuildTrunc(e->b, LLVMBuildLShr(e->b, word, int_like(e, x, 16), ""), like(x, e->i16), "");
}

typedef struct Address {
  DType dtype;
  LLVMTypeRef elem;
  unsigned bytes;
  LLVMValueRef base;       /* pointer to element `base` */
  bool contiguous;
} Address;

static LLVMValueRef element_pointer(Emit *e, LLVMTypeRef elem, LLVMValueRef base, LLVMValueRef index) {
  return LLVMBuildGEP2(e->b, elem, base, &index, 1, "");
}

static Address place_of(Emit *e, const KInst *i) {
  Address p = {.dtype = e->k->buf[i->imm].dtype};
  p.elem = memory_type(e, p.dtype);
  p.bytes = (unsigned)dtype_bytes(p.dtype);
  p.base = element_pointer(e, p.elem, e->buf[i->imm], emit_operand(e, i->in[0], 0));
  p.contiguous = i->in[1] && i->in[1]->op == KOP_LANE;
  return p;
}

/* Pointer to the vector of piece p, or the vector of pointers of its lanes. */
static LLVMValueRef piece_pointer(Emit *e, const Address *at, const KInst *lane, int p) {
  if (at->contiguous)
    return element_pointer(e, at->elem, at->base, LLVMConstInt(e->i64, (unsigned long long)(p * e->width), 0));
  LLVMValueRef index = lane ? emit_piece(e, lane, p) : LLVMConstNull(emit_vector(e, e->i32));
  return element_pointer(e, at->elem, at->base, index);
}

static LLVMValueRef all_lanes(Emit *e) { return LLVMConstAllOnes(emit_vector(e, e->i1)); }

static LLVMValueRef load_piece(Emit *e, const Address *at, const KInst *i, int p) {
  LLVMTypeRef vector = emit_vector(e, at->elem);
  LLVMValueRef ptr = piece_pointer(e, at, i->in[1], p);
  if (at->contiguous && !i->in[2]) {
    LLVMValueRef x = LLVMBuildLoad2(e->b, vector, ptr, "");
    LLVMSetAlignment(x, at->bytes);
    return x;
  }
  LLVMTypeRef types[2] = {vector, LLVMTypeOf(ptr)};
  LLVMValueRef mask = i->in[2] ? emit_piece(e, i->in[2], p) : all_lanes(e);
  LLVMValueRef args[4] = {ptr, LLVMConstInt(e->i32, at->bytes, 0), mask, LLVMConstNull(vector)};
  return emit_intrinsic(e, at->contiguous ? "llvm.masked.load" : "llvm.masked.gather", types, 2, args, 4);
}

/* Runs what follows only if cond; the block to continue in is returned, the builder is inside. */
static LLVMBasicBlockRef branch_if(Emit *e, LLVMValueRef cond) {
  LLVMBasicBlockRef then = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "");
  LLVMBasicBlockRef join = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "");
  LLVMBuildCondBr(e->b, cond, then, join);
  LLVMPositionBuilderAtEnd(e->b, then);
  return join;
}

static LLVMValueRef load_scalar(Emit *e, const Address *at) {
  LLVMValueRef x = LLVMBuildLoad2(e->b, at->elem, at->base, "");
  LLVMSetAlignment(x, at->bytes);
  return widen(e, at->dtype, x);
}

static LLVMValueRef load_uniform(Emit *e, const Address *at, const KInst *i) {
  if (!i->in[2]) return load_scalar(e, at);
  LLVMBasicBlockRef from = LLVMGetInsertBlock(e->b), join = branch_if(e, emit_operand(e, i->in[2], 0));
  LLVMValueRef x = load_scalar(e, at);
  LLVMBasicBlockRef then = LLVMGetInsertBlock(e->b);
  LLVMBuildBr(e->b, join);
  LLVMPositionBuilderAtEnd(e->b, join);
  LLVMValueRef phi = LLVMBuildPhi(e->b, LLVMTypeOf(x), "");
  LLVMAddIncoming(phi, (LLVMValueRef[]){x, LLVMConstNull(LLVMTypeOf(x))}, (LLVMBasicBlockRef[]){then, from}, 2);
  return phi;
}

void emit_load(Emit *e, const KInst *i) {
  Address at = place_of(e, i);
  Piece *r = &e->value[i->id];
  if (!i->varying) {
    r->v[0] = load_uniform(e, &at, i);
    return;
  }
  for (int p = 0; p < e->pieces; p++) r->v[p] = widen(e, at.dtype, load_piece(e, &at, i, p));
}

static void store_uniform(Emit *e, const Address *at, const KInst *i) {
  LLVMBasicBlockRef join = i->in[2] ? branch_if(e, emit_operand(e, i->in[2], 0)) : NULL;
  LLVMSetAlignment(LLVMBuildStore(e->b, narrow(e, at->dtype, i->in[3], emit_operand(e, i->in[3], 0)), at->base), at->bytes);
  if (!join) return;
  LLVMBuildBr(e->b, join);
  LLVMPositionBuilderAtEnd(e->b, join);
}

static void store_piece(Emit *e, const Address *at, const KInst *i, int p) {
  LLVMValueRef x = narrow(e, at->dtype, i->in[3], emit_piece(e, i->in[3], p));
  LLVMValueRef ptr = piece_pointer(e, at, i->in[1], p);
  if (at->contiguous && !i->in[2]) {
    LLVMSetAlignment(LLVMBuildStore(e->b, x, ptr), at->bytes);
    return;
  }
  LLVMTypeRef types[2] = {LLVMTypeOf(x), LLVMTypeOf(ptr)};
  LLVMValueRef mask = i->in[2] ? emit_piece(e, i->in[2], p) : all_lanes(e);
  LLVMValueRef args[4] = {x, ptr, LLVMConstInt(e->i32, at->bytes, 0), mask};
  emit_intrinsic(e, at->contiguous ? "llvm.masked.store" : "llvm.masked.scatter", types, 2, args, 4);
}

void emit_store(Emit *e, const KInst *i) {
  Address at = place_of(e, i);
  if (!i->in[1]) {
    store_uniform(e, &at, i);
    return;
  }
  for (int p = 0; p < e->pieces; p++) store_piece(e, &at, i, p);
}
