/* What operands an instruction may have, its type, and the range of its integers.
 *
 * Ranges are intervals whose ends INT64_MIN and INT64_MAX mean "not known".  i64 values are indices and sizes and are
 * taken not to overflow; an i32 result that could wrap has no known range. */
#include "codegen/kir/build.h"

#define WRONG_IF(condition, text) \
  if (condition) return text

static const char *infer_memory(const KInst *i, bool *out_varying) {
  const KInst *base = i->in[0], *lane = i->in[1], *mask = i->in[2];
  WRONG_IF(!base || base->type != K_I64 || base->varying, "the base must be a uniform i64");
  WRONG_IF(lane && lane->type != K_I32, "the lane offset must be i32");
  WRONG_IF(mask && mask->type != K_BOOL, "the mask must be bool");
  *out_varying = (lane && lane->varying) || (mask && mask->varying);
  if (i->op == KOP_LOAD) return NULL;
  const KInst *value = i->in[3];
  WRONG_IF(!value, "nothing to store");
  WRONG_IF(value->type != i->type, "the value's type is not the buffer's (f32 for floats, else i32)");
  WRONG_IF(!lane && *out_varying, "a varying mask needs a lane offset");
  WRONG_IF(!lane && value->varying, "a varying value needs a lane offset");
  return NULL;
}

/* LOAD4, STORE4 and COPY. */
static const char *infer_quad(const KInst *i, KType *out_type, bool *out_varying) {
  int count = i->op == KOP_COPY ? i->count : QUAD;
  KInst place = {.op = KOP_LOAD, .in = {i->in[0], i->in[1], i->in[2]}};
  const char *wrong = infer_memory(&place, out_varying);
  if (wrong) return wrong;
  WRONG_IF(count != 1 && count != 2 && count != QUAD && count != 2 * QUAD, "a lane copies 1, 2, 4 or 8 elements");
  WRONG_IF(kir_align(i->in[0]) < count || (i->in[1] && kir_align(i->in[1]) < count),
           "several elements must start at a multiple of their number");
  *out_type = i->op == KOP_LOAD4 ? K_QUAD : K_F32;
  if (i->op == KOP_LOAD4) return NULL;
  WRONG_IF(!i->in[1] || !i->in[1]->varying, "a varying lane offset is needed");
  *out_varying = false;
  for (int j = 0; j < QUAD && i->op == KOP_STORE4; j++)
    WRONG_IF(!i->in[3 + j] || i->in[3 + j]->type != K_F32, "the values must be f32");
  if (i->op == KOP_STORE4) return NULL;
  place = (KInst){.op = KOP_LOAD, .in = {i->in[3], i->in[4]}};
  bool varying;
  WRONG_IF(count > 1 && (!i->in[3] || kir_align(i->in[3]) < count || (i->in[4] && kir_align(i->in[4]) < count)),
           "several elements must be read from a multiple of their number");
  return infer_memory(&place, &varying);
}

/* TILE and MMA. */
static const char *infer_tile(const KInst *i, KType *out_type, bool *out_varying) {
  *out_varying = i->op == KOP_MMA;
  *out_type = i->op == KOP_MMA ? K_QUAD : K_TILE;
  if (i->op == KOP_TILE) {
    WRONG_IF(!i->in[0] || i->in[0]->type != K_I64 || i->in[0]->varying, "the base must be a uniform i64");
    WRONG_IF(kir_align(i->in[0]) < 8 || i->stride % 8 || i->stride < LANES, "rows of tiles start at multiples of 8");
    return NULL;
  }
  WRONG_IF(i->imm != 0 && i->imm != 1, "a tile has two halves");
  for (int j = 0; j < i->n_in; j++)
    WRONG_IF(!i->in[j] || i->in[j]->type != (j < 2 ? K_TILE : K_F32), "two tiles and four f32 are needed");
  return NULL;
}

/* SET, FOR, IF and SYNC. */
static const char *infer_statement(const KInst *i, KType *out_type) {
  if (i->op == KOP_SET) {
    WRONG_IF(i->in[0]->op != KOP_VAR, "not a variable");
    WRONG_IF(i->in[0]->type != i->in[1]->type, "the value's type is not the variable's");
    WRONG_IF(i->in[1]->varying && !i->in[0]->varying, "a varying value for a uniform variable");
    *out_type = i->in[0]->type;
    return NULL;
  }
  *out_type = i->op == KOP_FOR ? K_I64 : K_BOOL;
  for (int j = 0; j < i->n_in; j++) {
    WRONG_IF(i->in[j]->varying, "control flow must be uniform");
    WRONG_IF(i->in[j]->type != *out_type, "a loop's bounds are i64, a condition is bool");
  }
  return NULL;
}

static bool is_opaque(KType t) { return t == K_QUAD || t == K_TILE; }
static const char opaque[] = "a quad has only parts, a tile is only multiplied";

static const char *infer_convert(const KInst *i, KType *out_type) {
  KType t = i->in[0]->type;
  WRONG_IF(is_opaque(t), opaque);
  switch (i->op) {
  case KOP_TO_F32: *out_type = K_F32; return t == K_I32 ? NULL : "the operand must be i32";
  case KOP_TO_I32: *out_type = K_I32; return NULL;
  case KOP_TO_I64: *out_type = K_I64; return t == K_I32 || t == K_I64 ? NULL : "the operand must be i32";
  case KOP_BITS_I32: *out_type = K_I32; return t == K_F32 ? NULL : "the operand must be f32";
  default: *out_type = K_F32; return t == K_I32 ? NULL : "the operand must be i32";
  }
}

static const char *infer_arith(const KInst *i, KType *out_type) {
  KType t = i->in[0]->type;
  for (int j = 1; j < i->n_in; j++)
    if (i->op != KOP_SELECT) WRONG_IF(i->in[j]->type != t, "operands of different types");
  for (int j = 0; j < i->n_in; j++) WRONG_IF(is_opaque(i->in[j]->type), opaque);
  *out_type = t;
  switch (i->op) {
  case KOP_ADD: case KOP_SUB: case KOP_MUL: case KOP_DIV: case KOP_MIN: case KOP_MAX: case KOP_NEG: case KOP_ABS:
    return t == K_BOOL ? "operands must be numbers" : NULL;
  case KOP_MOD: return kir_is_int(t) ? NULL : "operands must be integers";
  case KOP_SQRT: case KOP_FLOOR: case KOP_RINT: case KOP_ROUND: case KOP_FMA: return t == K_F32 ? NULL : "operands must be f32";
  case KOP_AND: case KOP_OR: case KOP_XOR: case KOP_NOT:
    return t == K_BOOL || t == K_I32 ? NULL : "operands must be bool or i32";
  case KOP_SHL: case KOP_SHR: case KOP_MUL_HIGH: return t == K_I32 ? NULL : "operands must be i32";
  case KOP_LT: case KOP_LE: *out_type = K_BOOL; return t == K_BOOL ? "operands must be numbers" : NULL;
  case KOP_EQ: *out_type = K_BOOL; return NULL;
  case KOP_SELECT:
    WRONG_IF(t != K_BOOL, "the condition must be bool");
    WRONG_IF(i->in[1]->type != i->in[2]->type, "the two choices have different types");
    *out_type = i->in[1]->type;
    return NULL;
  case KOP_TREE_ADD: return t == K_F32 ? NULL : "the operand must be f32";
  case KOP_TREE_MAX: case KOP_TREE_MIN: return t == K_F32 || t == K_I32 ? NULL : "the operand must be f32 or i32";
  default: return "not an arithmetic instruction";
  }
}

static const char *infer_exchange(const KInst *i) {
  KType t = i->in[0]->type;
  const KInst *d = i->in[2];
  WRONG_IF(t != K_F32 && t != K_I32, "the operand must be f32 or i32");
  WRONG_IF(i->in[1]->type != t, "operands of different types");
  bool known = d->op == KOP_CONST && d->type == K_I32;
  WRONG_IF(!known || (d->imm != 8 && d->imm != 4 && d->imm != 2 && d->imm != 1), "the distance must be 8, 4, 2 or 1");
  return NULL;
}

const char *kir_infer(const KInst *i, KType *out_type, bool *out_varying) {
  *out_varying = false;
  switch (i->op) {
  case KOP_LOAD: case KOP_STORE: return infer_memory(i, out_varying);
  case KOP_SET: case KOP_FOR: case KOP_IF: case KOP_SYNC: return infer_statement(i, out_type);
  case KOP_LANE: *out_varying = true; return NULL;
  case KOP_CONST: case KOP_ITEM: case KOP_SIZE: case KOP_GROUP: return NULL;
  case KOP_COMMIT: case KOP_WAIT: case KOP_BARRIER: *out_type = K_BOOL; return NULL;
  case KOP_LOAD4: case KOP_STORE4: case KOP_COPY: return infer_quad(i, out_type, out_varying);
  case KOP_TILE: case KOP_MMA: return infer_tile(i, out_type, out_varying);
  case KOP_PART:
    WRONG_IF(i->in[0]->type != K_QUAD, "the operand must be a quad");
    WRONG_IF(i->imm < 0 || i->imm >= QUAD, "a quad has four parts");
    *out_type = K_F32;
    *out_varying = i->in[0]->varying;
    return NULL;
  case KOP_VAR: case KOP_GET:
    WRONG_IF(is_opaque(i->type), opaque);
    *out_varying = i->varying;
    return NULL;
  case KOP_LOW: case KOP_HIGH:
    *out_type = i->in[0]->type;
    *out_varying = true;
    return infer_exchange(i);
  case KOP_LANE_GET:
    WRONG_IF(i->in[0]->type == K_I64, "i64 values do not vary");
    WRONG_IF(is_opaque(i->in[0]->type), opaque);
    WRONG_IF(i->in[1]->type != K_I32 || i->in[1]->varying, "the lane must be a uniform i32");
    *out_type = i->in[0]->type;
    return NULL;
  default: break;
  }
  for (int j = 0; j < i->n_in; j++) *out_varying |= i->in[j]->varying;
  bool convert = i->op >= KOP_TO_F32 && i->op <= KOP_BITS_F32;
  const char *wrong = convert ? infer_convert(i, out_type) : infer_arith(i, out_type);
  if (i->op == KOP_TREE_ADD || i->op == KOP_TREE_MAX || i->op == KOP_TREE_MIN) *out_varying = false;
  WRONG_IF(!wrong && *out_varying && *out_type == K_I64, "i64 values cannot vary");
  return wrong;
}

/* ---- ranges ---- */

typedef struct ValueRange {
  int64_t lo, hi;
} ValueRange;
static const ValueRange UNKNOWN = {INT64_MIN, INT64_MAX};

static int64_t add_lo(int64_t x, int64_t y) {
  int64_t r;
  return x == INT64_MIN || y == INT64_MIN || __builtin_add_overflow(x, y, &r) ? INT64_MIN : r;
}

static int64_t add_hi(int64_t x, int64_t y) {
  int64_t r;
  return x == INT64_MAX || y == INT64_MAX || __builtin_add_overflow(x, y, &r) ? INT64_MAX : r;
}

static ValueRange range_neg(ValueRange x) {
  return (ValueRange){x.hi == INT64_MAX ? INT64_MIN : -x.hi, x.lo == INT64_MIN ? INT64_MAX : -x.lo};
}

static bool range_finite(ValueRange x) { return x.lo != INT64_MIN && x.hi != INT64_MAX; }

static ValueRange range_mul(ValueRange x, ValueRange y) {
  if (x.lo >= 0 && y.lo >= 0) {
    ValueRange r = {0, INT64_MAX};
    if (__builtin_mul_overflow(x.lo, y.lo, &r.lo)) r.lo = 0;
    if (x.hi == 0 || y.hi == 0) r.hi = 0;
    else if (x.hi == INT64_MAX || y.hi == INT64_MAX || __builtin_mul_overflow(x.hi, y.hi, &r.hi)) r.hi = INT64_MAX;
    return r;
  }
  if (!range_finite(x) || !range_finite(y)) return UNKNOWN;
  int64_t p[4];
  if (__builtin_mul_overflow(x.lo, y.lo, &p[0]) || __builtin_mul_overflow(x.lo, y.hi, &p[1]) ||
      __builtin_mul_overflow(x.hi, y.lo, &p[2]) || __builtin_mul_overflow(x.hi, y.hi, &p[3]))
    return UNKNOWN;
  ValueRange r = {p[0], p[0]};
  for (int i = 1; i < 4; i++) {
    if (p[i] < r.lo) r.lo = p[i];
    if (p[i] > r.hi) r.hi = p[i];
  }
  return r;
}

static int64_t floor_div(int64_t x, int64_t y) { return x / y - (x % y < 0); }

static ValueRange range_div(ValueRange x, ValueRange y) {
  if (y.lo < 1) return UNKNOWN;
  ValueRange r = UNKNOWN;
  if (x.lo >= 0) r.lo = y.hi == INT64_MAX ? 0 : x.lo / y.hi;
  else if (x.lo != INT64_MIN) r.lo = floor_div(x.lo, y.lo);
  if (x.hi != INT64_MAX) r.hi = x.hi >= 0 ? x.hi / y.lo : y.hi == INT64_MAX ? -1 : floor_div(x.hi, y.hi);
  return r;
}

static ValueRange range_mod(ValueRange x, ValueRange y) {
  ValueRange r = {0, y.hi == INT64_MAX ? INT64_MAX : y.hi - 1};
  if (x.lo >= 0 && x.hi < r.hi) r.hi = x.hi;
  return r;
}

static ValueRange range_abs(ValueRange x) {
  if (x.lo >= 0) return x;
  ValueRange n = range_neg(x);
  if (x.hi <= 0) return n;
  return (ValueRange){0, n.hi > x.hi ? n.hi : x.hi};
}

static ValueRange range_bits(KOp op, ValueRange x, ValueRange y) {
  if (op == KOP_AND && (x.lo >= 0 || y.lo >= 0)) {
    int64_t hi = INT32_MAX;
    if (x.lo >= 0 && x.hi < hi) hi = x.hi;
    if (y.lo >= 0 && y.hi < hi) hi = y.hi;
    return (ValueRange){0, hi};
  }
  if (y.lo != y.hi || y.lo < 0 || y.lo > 31) return UNKNOWN;
  if (op == KOP_SHR) return (ValueRange){x.lo >> y.lo, x.hi >> y.lo};
  if (op == KOP_SHL) return range_mul(x, (ValueRange){(int64_t)1 << y.lo, (int64_t)1 << y.lo});
  return UNKNOWN;
}

static int64_t min64(int64_t x, int64_t y) { return x < y ? x : y; }
static int64_t max64(int64_t x, int64_t y) { return x > y ? x : y; }

static ValueRange operand_range(const KInst *i) {
  if (!i) return UNKNOWN;
  if (i->type != K_I32) return i->type == K_BOOL ? (ValueRange){0, 1} : (ValueRange){i->lo, i->hi};
  return (ValueRange){max64(i->lo, INT32_MIN), min64(i->hi, INT32_MAX)};
}

static ValueRange range_of(const KInst *i) {
  ValueRange x = operand_range(i->in[0]), y = operand_range(i->in[1]), z = operand_range(i->in[2]);
  switch (i->op) {
  case KOP_ADD: return (ValueRange){add_lo(x.lo, y.lo), add_hi(x.hi, y.hi)};
  case KOP_SUB: y = range_neg(y); return (ValueRange){add_lo(x.lo, y.lo), add_hi(x.hi, y.hi)};
  case KOP_MUL: return range_mul(x, y);
  case KOP_DIV: return range_div(x, y);
  case KOP_MOD: return range_mod(x, y);
  case KOP_MIN: return (ValueRange){min64(x.lo, y.lo), min64(x.hi, y.hi)};
  case KOP_MAX: return (ValueRange){max64(x.lo, y.lo), max64(x.hi, y.hi)};
  case KOP_NEG: return range_neg(x);
  case KOP_ABS: return range_abs(x);
  case KOP_AND: case KOP_SHL: case KOP_SHR: return range_bits(i->op, x, y);
  case KOP_SELECT: return (ValueRange){min64(y.lo, z.lo), max64(y.hi, z.hi)};
  case KOP_TO_I32: return i->in[0]->type == K_F32 ? UNKNOWN : x;
  case KOP_TO_I64: case KOP_TREE_MAX: case KOP_TREE_MIN: case KOP_LANE_GET: return x;
  default: return UNKNOWN;
  }
}

/* ---- divisors ---- */

enum { MAX_ALIGN = 64 };

static int align_of_imm(int64_t imm) {
  uint64_t low = (uint64_t)imm & -(uint64_t)imm;
  return low == 0 || low > MAX_ALIGN ? MAX_ALIGN : (int)low;
}

int kir_align(const KInst *i) {
  if (kir_is_const(i)) return align_of_imm(i->imm);
  return i->align ? i->align : 1;
}

static int align_of(const KInst *i) {
  int x = kir_align(i->in[0]), y = i->n_in > 1 ? kir_align(i->in[1]) : x, less = x < y ? x : y;
  switch (i->op) {
  case KOP_ADD: case KOP_SUB: case KOP_MIN: case KOP_MAX: case KOP_MOD: return less;
  case KOP_MUL: return x * y < MAX_ALIGN ? x * y : MAX_ALIGN;
  case KOP_NEG: case KOP_ABS: case KOP_TO_I64: case KOP_LANE_GET: return x;
  case KOP_TO_I32: return kir_is_int(i->in[0]->type) ? x : 1;
  case KOP_SELECT: {
    int z = kir_align(i->in[2]);
    return y < z ? y : z;
  }
  default: return 1;
  }
}

void kir_set_range(KInst *i) {
  if (kir_is_int(i->type)) i->align = align_of(i);
  ValueRange r = kir_is_int(i->type) ? range_of(i) : UNKNOWN;
  if (i->type == K_I32 && (r.lo < INT32_MIN || r.hi > INT32_MAX)) r = UNKNOWN;
  if (r.lo > r.hi) r = UNKNOWN;
  i->lo = r.lo;
  i->hi = r.hi;
}
