/* What the files of the kernel IR share: making instructions, type rules, ranges, and use counts. */
#ifndef NUWA_KIR_BUILD_H
#define NUWA_KIR_BUILD_H

#include "codegen/kir/kir.h"

typedef struct KOpInfo {
  const char *text;
  int n_in;
  bool pure;
} KOpInfo;
extern const KOpInfo kop_info[KOP_COUNT];

const char *ktype_name(KType t);

/* The instruction's type and whether it varies, from its operands.  Returns what is wrong, or NULL. */
const char *kir_infer(const KInst *i, KType *out_type, bool *out_varying);

/* Sets lo and hi of an integer instruction from its operands. */
void kir_set_range(KInst *i);

/* A simpler value equal to the pure instruction described by *i (not yet part of the kernel), or NULL.  May swap
 * operands of commutative instructions. */
KInst *kir_simplify(Kernel *k, KInst *i);

/* A constant: imm for integers and bools, fimm for f32. */
KInst *kir_const(Kernel *k, KType type, int64_t imm, float fimm);

/* Is block b the same as or inside block outer? */
bool kblock_inside(const KBlock *b, const KBlock *outer);

static inline bool kir_is_const(const KInst *i) { return i->op == KOP_CONST; }
static inline bool kir_is_int(KType t) { return t == K_I32 || t == K_I64; }
static inline bool kir_is_commutative(KOp op) {
  return op == KOP_ADD || op == KOP_MUL || op == KOP_AND || op == KOP_OR || op == KOP_XOR || op == KOP_EQ || op == KOP_MUL_HIGH;
}

/* Uses of every instruction by live instructions, indexed by id; -1 for instructions that need not be executed.
 * Free with mem_free; NULL when memory is short. */
int *kir_count_uses(const Kernel *k);

/* Byte offset of scratch buffer `buf` in the thread's scratch. */
int64_t kir_scratch_offset(const Kernel *k, int buf);

#endif
