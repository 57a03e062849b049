/* What the files of the LLVM back end share.
 *
 * A uniform value is an LLVM scalar.  A varying one is cut in pieces of `width` lanes: 1, 2 or 4 vectors that fill the
 * target's registers, so that LLVM never has to split a vector. */
#ifndef NUWA_LLVM_EMIT_H
#define NUWA_LLVM_EMIT_H

#include <llvm-c/Core.h>

#include "codegen/codegen.h"
#include "codegen/kir/build.h"

enum { MAX_PIECES = 4 };

typedef struct Piece {
  LLVMValueRef v[MAX_PIECES];   /* uniform: v[0] */
} Piece;

typedef struct Emit {
  const Kernel *k;
  const Target *t;
  LLVMContextRef ctx;
  LLVMModuleRef mod;
  LLVMBuilderRef b;
  LLVMValueRef fn;
  LLVMBasicBlockRef entry;           /* where variables get their stack slots */
  LLVMTypeRef i1, i8, i16, i32, i64, f32, f64, ptr;
  int pieces, width;
  int *uses;                         /* by id; negative: not executed */
  Piece *value;                      /* by id */
  LLVMValueRef buf[KIR_MAX_BUFS];    /* pointers */
  LLVMValueRef size[2], item;        /* B, R */
} Emit;

/* llvm_value.c */
LLVMTypeRef emit_type(Emit *e, KType t);
LLVMTypeRef emit_vector(Emit *e, LLVMTypeRef t);
/* Piece p of i: a vector also when i is uniform (then a splat). */
LLVMValueRef emit_piece(Emit *e, const KInst *i, int p);
/* Piece p of i: scalar when i is uniform. */
LLVMValueRef emit_operand(Emit *e, const KInst *i, int p);
LLVMValueRef emit_splat(Emit *e, LLVMValueRef scalar, int width);
LLVMValueRef emit_const_splat(LLVMValueRef scalar, int width);
/* Calls an intrinsic overloaded on the given types. */
LLVMValueRef emit_intrinsic(Emit *e, const char *name, LLVMTypeRef *types, int n_types, LLVMValueRef *args, int n_args);
void emit_pure(Emit *e, const KInst *i);
/* f32 to the bits of KOP_ROUND as i32: bf16 in the upper half, zeros below. */
LLVMValueRef emit_round(Emit *e, LLVMValueRef x);

/* llvm_memory.c */
void emit_load(Emit *e, const KInst *i);
void emit_store(Emit *e, const KInst *i);

/* llvm_kernel.c: adds a kernel to a module.  False when memory is short. */
bool emit_kernel(LLVMContextRef ctx, LLVMModuleRef mod, const Kernel *k, const Target *t);

#endif
