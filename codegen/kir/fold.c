/* Simplification of one instruction: constants, identities, and what integer ranges decide.
 *
 * f32 constants are folded only where every target computes the same bits whatever its denormal mode and its default
 * NaN: not when an operand or the result is denormal (or at the edge, where flushing depends on when tininess is
 * detected) or the result is NaN.  No f32 identity changes a bit except that x * 1 keeps a denormal x. */
#include "codegen/kir/build.h"

#include <float.h>
#include <math.h>
#include <string.h>

static bool float_is_safe(float x) { return !isnan(x) && (x == 0 || fabsf(x) > FLT_MIN); }

/* Whether the operation is defined on these integers. */
static bool int_is_defined(KOp op, int64_t y) {
  if (op == KOP_DIV || op == KOP_MOD) return y > 0;
  return (op != KOP_SHL && op != KOP_SHR) || (y >= 0 && y < 32);
}

static bool f32_is_safe(const KInst *i) {
  for (int j = 0; j < i->n_in; j++)
    if (!float_is_safe(i->in[j]->fimm)) return false;
  return i->op != KOP_TO_I32 || fabsf(i->in[0]->fimm) < 0x1p30f;
}

static KInst *fold_const(Kernel *k, const KInst *i) {
  Number x[3] = {{0}};
  KType t = i->in[0]->type;
  if (i->op < KOP_ADD || i->op > KOP_BITS_F32) return NULL;
  for (int j = 0; j < i->n_in; j++) {
    if (i->in[j]->type == K_F32) x[j].f = i->in[j]->fimm;
    else x[j].i = i->in[j]->imm;
  }
  bool moves_bits = i->op == KOP_BITS_I32 || i->op == KOP_BITS_F32;
  if (!moves_bits && (t == K_F32 ? !f32_is_safe(i) : !int_is_defined(i->op, x[1].i))) return NULL;
  Number r = number_compute((NumberOp)(i->op - KOP_ADD), (NumberType)t, x[0], x[1], x[2]);
  if (i->type != K_F32) return kir_const(k, i->type, r.i, 0);
  return moves_bits || t != K_F32 || float_is_safe(r.f) ? kir_f32(k, r.f) : NULL;
}

static bool is_imm(const KInst *i, int64_t x) { return kir_is_const(i) && i->type != K_F32 && i->imm == x; }

/* Equal to this float, the sign of zero included. */
static bool is_float(const KInst *i, float x) {
  return kir_is_const(i) && i->type == K_F32 && !memcmp(&i->fimm, &x, sizeof x);
}

static KInst *simplify_f32(Kernel *k, const KInst *i) {
  KInst *x = i->in[0], *y = i->in[1];
  switch (i->op) {
  case KOP_ADD: return is_float(y, -0.0f) ? x : NULL;
  case KOP_SUB: return is_float(y, 0.0f) ? x : NULL;
  case KOP_MUL: case KOP_DIV: return is_float(y, 1.0f) ? x : NULL;
  case KOP_NEG: return x->op == KOP_NEG ? x->in[0] : NULL;
  case KOP_ROUND: return x->op == KOP_ROUND ? x : NULL;
  case KOP_ABS: return x->op == KOP_ABS ? x : x->op == KOP_NEG ? kir_un(k, KOP_ABS, x->in[0]) : NULL;
  default: return NULL;
  }
}

/* Sums of an integer and constants gather their constants, so that equal addresses meet. */
static KInst *simplify_add(Kernel *k, const KInst *i) {
  KInst *x = i->in[0], *y = i->in[1];
  if (is_imm(y, 0)) return x;
  if (!kir_is_const(y) || x->op != KOP_ADD || !kir_is_const(x->in[1])) return NULL;
  return kir_bin(k, KOP_ADD, x->in[0], kir_bin(k, KOP_ADD, x->in[1], y));
}

static KInst *simplify_int(Kernel *k, const KInst *i) {
  KInst *x = i->in[0], *y = i->in[1];
  switch (i->op) {
  case KOP_ADD: return simplify_add(k, i);
  case KOP_SUB:
    if (x == y) return kir_const(k, i->type, 0, 0);
    if (!kir_is_const(y)) return NULL;
    return kir_bin(k, KOP_ADD, x, kir_un(k, KOP_NEG, y));
  case KOP_MUL:
    if (is_imm(y, 1)) return x;
    if (is_imm(y, 0)) return y;
    if (kir_is_const(y) && x->op == KOP_MUL && kir_is_const(x->in[1]))
      return kir_bin(k, KOP_MUL, x->in[0], kir_bin(k, KOP_MUL, x->in[1], y));
    return NULL;
  case KOP_DIV: return is_imm(y, 1) ? x : NULL;
  case KOP_MOD: return x->lo >= 0 && y->lo != INT64_MIN && x->hi < y->lo ? x : NULL;
  case KOP_MIN: return x == y || x->hi <= y->lo ? x : y->hi <= x->lo ? y : NULL;
  case KOP_MAX: return x == y || x->lo >= y->hi ? x : y->lo >= x->hi ? y : NULL;
  case KOP_NEG: return x->op == KOP_NEG ? x->in[0] : NULL;
  case KOP_ABS: return x->lo >= 0 ? x : NULL;
  case KOP_AND: return x == y || is_imm(y, -1) ? x : is_imm(y, 0) ? y : NULL;
  case KOP_OR: return x == y || is_imm(y, 0) ? x : is_imm(y, -1) ? y : NULL;
  case KOP_XOR: return is_imm(y, 0) ? x : NULL;
  case KOP_SHL: case KOP_SHR: return is_imm(y, 0) ? x : NULL;
  case KOP_NOT: return x->op == KOP_NOT ? x->in[0] : NULL;
  default: return NULL;
  }
}

static KInst *simplify_bool(Kernel *k, const KInst *i) {
  KInst *x = i->in[0], *y = i->in[1];
  switch (i->op) {
  case KOP_AND: return x == y || is_imm(y, 1) ? x : is_imm(y, 0) ? y : NULL;
  case KOP_OR: return x == y || is_imm(y, 0) ? x : is_imm(y, 1) ? y : NULL;
  case KOP_XOR: return is_imm(y, 0) ? x : is_imm(y, 1) ? kir_un(k, KOP_NOT, x) : NULL;
  case KOP_NOT: return x->op == KOP_NOT ? x->in[0] : NULL;
  default: return NULL;
  }
}

/* Comparisons that ranges decide. */
static KInst *simplify_compare(Kernel *k, const KInst *i) {
  const KInst *x = i->in[0], *y = i->in[1];
  if (!kir_is_int(x->type)) return NULL;
  bool y_known = y->lo != INT64_MIN, x_known = x->lo != INT64_MIN;
  switch (i->op) {
  case KOP_LT:
    if (x == y || (x_known && x->lo >= y->hi)) return kir_bool(k, false);
    return y_known && x->hi < y->lo ? kir_bool(k, true) : NULL;
  case KOP_LE:
    if (x == y || (y_known && x->hi <= y->lo)) return kir_bool(k, true);
    return x_known && x->lo > y->hi ? kir_bool(k, false) : NULL;
  case KOP_EQ:
    if (x == y) return kir_bool(k, true);
    return (y_known && x->hi < y->lo) || (x_known && y->hi < x->lo) ? kir_bool(k, false) : NULL;
  default: return NULL;
  }
}

static KInst *simplify_select(const KInst *i) {
  KInst *c = i->in[0], *x = i->in[1], *y = i->in[2];
  if (x == y) return x;
  return kir_is_const(c) ? (c->imm ? x : y) : NULL;
}

/* Of a uniform value: the tree adds 16 equal numbers, by doubling. */
static KInst *simplify_lanes(Kernel *k, const KInst *i) {
  KInst *x = i->in[0];
  if (x->varying) return NULL;
  return i->op == KOP_TREE_ADD ? kir_bin(k, KOP_MUL, x, kir_f32(k, LANES)) : x;
}

KInst *kir_simplify(Kernel *k, KInst *i) {
  if (kir_is_commutative(i->op) && kir_is_const(i->in[0]) && !kir_is_const(i->in[1])) {
    KInst *x = i->in[0];
    i->in[0] = i->in[1];
    i->in[1] = x;
  }
  bool shift = i->op == KOP_SHL || i->op == KOP_SHR;
  if (shift && (i->in[1]->lo < 0 || i->in[1]->hi > 31)) i->in[1] = kir_bin(k, KOP_AND, i->in[1], kir_i32(k, 31));
  switch (i->op) {
  case KOP_SELECT: return simplify_select(i);
  case KOP_LOW: case KOP_HIGH: return NULL;
  case KOP_TREE_ADD: case KOP_TREE_MAX: case KOP_TREE_MIN: case KOP_LANE_GET: return simplify_lanes(k, i);
  case KOP_TO_I32: case KOP_TO_I64:
    if (i->in[0]->type == i->type) return i->in[0];
    if (i->in[0]->op == KOP_TO_I64) return i->in[0]->in[0];
    break;
  case KOP_BITS_I32: if (i->in[0]->op == KOP_BITS_F32) return i->in[0]->in[0]; break;
  case KOP_BITS_F32: if (i->in[0]->op == KOP_BITS_I32) return i->in[0]->in[0]; break;
  default: break;
  }
  bool all = true;
  for (int j = 0; j < i->n_in; j++) all &= kir_is_const(i->in[j]);
  KInst *c = all ? fold_const(k, i) : NULL;
  if (c) return c;
  if (i->type == K_BOOL && i->in[0]->type != K_BOOL) return simplify_compare(k, i);
  if (i->type == K_BOOL) return simplify_bool(k, i);
  if (i->op == KOP_TO_I32 || i->op == KOP_TO_I64 || i->op == KOP_TO_F32) return NULL;
  return i->type == K_F32 ? simplify_f32(k, i) : simplify_int(k, i);
}
