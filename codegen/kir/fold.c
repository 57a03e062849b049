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

static bool fold_f32(KOp op, float x, float y, float z, float *out) {
  switch (op) {
  case KOP_ADD: *out = x + y; return true;
  case KOP_SUB: *out = x - y; return true;
  case KOP_MUL: *out = x * y; return true;
  case KOP_DIV: *out = x / y; return true;
  case KOP_MIN: *out = x < y ? x : y; return true;
  case KOP_MAX: *out = x > y ? x : y; return true;
  case KOP_NEG: *out = -x; return true;
  case KOP_ABS: *out = fabsf(x); return true;
  case KOP_SQRT: *out = sqrtf(x); return true;
  case KOP_FLOOR: *out = floorf(x); return true;
  case KOP_RINT: *out = rintf(x); return true;
  case KOP_ROUND: *out = bf16_round(x); return true;
  case KOP_FMA: *out = fmaf(x, y, z); return true;
  default: return false;
  }
}

static int64_t wrap(KType t, uint64_t x) { return t == K_I32 ? (int32_t)(uint32_t)x : (int64_t)x; }

static bool fold_int(KOp op, KType t, int64_t x, int64_t y, int64_t *out) {
  uint64_t a = (uint64_t)x, b = (uint64_t)y;
  switch (op) {
  case KOP_ADD: *out = wrap(t, a + b); return true;
  case KOP_SUB: *out = wrap(t, a - b); return true;
  case KOP_MUL: *out = wrap(t, a * b); return true;
  case KOP_DIV: if (y > 0) *out = x / y - (x % y < 0); return y > 0;
  case KOP_MOD: if (y > 0) *out = x % y + (x % y < 0 ? y : 0); return y > 0;
  case KOP_MIN: *out = x < y ? x : y; return true;
  case KOP_MAX: *out = x > y ? x : y; return true;
  case KOP_NEG: *out = wrap(t, 0 - a); return true;
  case KOP_ABS: *out = wrap(t, x < 0 ? 0 - a : a); return true;
  case KOP_AND: *out = x & y; return true;
  case KOP_OR: *out = x | y; return true;
  case KOP_XOR: *out = x ^ y; return true;
  case KOP_NOT: *out = t == K_BOOL ? !x : ~x; return true;
  case KOP_SHL: if (b < 32) *out = wrap(t, a << b); return b < 32;
  case KOP_SHR: if (b < 32) *out = x >> y; return b < 32;
  case KOP_LT: *out = x < y; return true;
  case KOP_LE: *out = x <= y; return true;
  case KOP_EQ: *out = x == y; return true;
  case KOP_TO_I32: *out = (int32_t)(uint32_t)a; return true;
  case KOP_TO_I64: *out = x; return true;
  default: return false;
  }
}

/* Conversions and comparisons of an f32. */
static bool fold_from_f32(KOp op, float x, float y, int64_t *out) {
  switch (op) {
  case KOP_LT: *out = x < y; return true;
  case KOP_LE: *out = x <= y; return true;
  case KOP_EQ: *out = x == y; return true;
  case KOP_TO_I32: if (fabsf(x) < 0x1p30f) *out = (int32_t)x; return fabsf(x) < 0x1p30f;
  default: return false;
  }
}

static KInst *fold_const(Kernel *k, const KInst *i) {
  const KInst *x = i->in[0], *y = i->n_in > 1 ? i->in[1] : x, *z = i->n_in > 2 ? i->in[2] : x;
  int64_t n = 0;
  float f = 0;
  if (i->op == KOP_BITS_I32) {
    int32_t bits;
    memcpy(&bits, &x->fimm, sizeof bits);
    return kir_i32(k, bits);
  }
  if (i->op == KOP_BITS_F32) {
    int32_t bits = (int32_t)x->imm;
    memcpy(&f, &bits, sizeof f);
    return kir_f32(k, f);
  }
  if (i->op == KOP_TO_F32) return kir_f32(k, (float)x->imm);
  if (x->type != K_F32) return fold_int(i->op, x->type, x->imm, y->imm, &n) ? kir_const(k, i->type, n, 0) : NULL;
  if (!float_is_safe(x->fimm) || !float_is_safe(y->fimm) || !float_is_safe(z->fimm)) return NULL;
  if (i->type != K_F32) return fold_from_f32(i->op, x->fimm, y->fimm, &n) ? kir_const(k, i->type, n, 0) : NULL;
  return fold_f32(i->op, x->fimm, y->fimm, z->fimm, &f) && float_is_safe(f) ? kir_f32(k, f) : NULL;
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
