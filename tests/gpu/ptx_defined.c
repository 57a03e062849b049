/* Follows values that nobody wrote.  Reading memory never written is no mistake in itself: a vector load may bring
 * more than is used.  So such bits of a register are marked, with where they come from, and the marks go where the
 * bits go: exactly through moves, packing, shifts and logic, and to the whole result of everything else.  A marked
 * bit is a mistake where it decides something: an address, a predicate that switches an instruction on, what is
 * stored, and whatever else is not listed here.
 *
 * While no register of the warp is marked, which is nearly always, none of this runs. */
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/ptx_exec.h"

static const uint64_t all_bits = ~(uint64_t)0;

static uint64_t low_bits(int bytes) { return bytes >= 8 ? all_bits : ((uint64_t)1 << 8 * bytes) - 1; }

static uint64_t register_bits(const Exec *x, int row) {
  int type = x->f->row[row].type;
  return type == T_PRED ? 1 : low_bits(ptx_type_bytes((PtxType)type));
}

Unknown unknown_get(const Exec *x, int row, int lane) {
  const Warp *w = &x->warp[x->current];
  if (!w->tainted || !(w->unknown[row].lanes >> lane & 1)) return (Unknown){0};
  return w->unknown[row].lane[lane];
}

void unknown_set(Exec *x, int row, int lane, Unknown u) {
  Warp *w = &x->warp[x->current];
  u.bits &= register_bits(x, row);
  if (!u.bits && !w->tainted) return;
  if (!w->unknown) w->unknown = emu_alloc((size_t)x->f->rows * sizeof *w->unknown);
  UnknownRow *r = &w->unknown[row];
  bool was = r->lanes != 0;
  if (u.bits) r->lanes |= 1u << lane;
  else r->lanes &= ~(1u << lane);
  r->lane[lane] = u;
  w->tainted += (r->lanes != 0) - was;
}

void unknown_forget(Exec *x, Warp *w) {
  for (int r = 0; w->tainted && r < x->f->rows; r++) {
    w->tainted -= w->unknown[r].lanes != 0;
    w->unknown[r].lanes = 0;
  }
}

__attribute__((noreturn)) static void fault_unknown(Exec *x, const Instr *i, int lane, Unknown u) {
  if (u.shared)
    exec_fault(x, i, lane, FAULT_LAUNCH,
               "read of shared memory never written: offset %llu, by the load of line %d; its value is used here",
               (unsigned long long)u.address, u.line);
  const Allocation *a = memory_find(x->memory, u.address);
  exec_fault(x, i, lane, FAULT_LAUNCH,
             "read of global memory never written: offset %lld of the %zu bytes at %#llx, by the load of line %d; "
             "its value is used here", (long long)(u.address - a->address), a->bytes, (unsigned long long)a->address,
             u.line);
}

/* Faults where one of the bits of a row is unknown. */
static void need_known(Exec *x, const Instr *i, int row, uint32_t lanes, uint64_t bits) {
  lanes &= x->warp[x->current].unknown[row].lanes;
  EACH_LANE(l, lanes) {
    Unknown u = unknown_get(x, row, (int)l);
    if (u.bits & bits) fault_unknown(x, i, (int)l, u);
  }
}

void follow_guard(Exec *x, const Instr *i, uint32_t lanes) {
  if (i->guard >= 0) need_known(x, i, i->guard, lanes, 1);
}

/* ---- rules ---- */

/* What is known of the operands of an instruction: from the second on, operand k is at k - 1. */
typedef struct Operands {
  const uint64_t *value[4];
  uint64_t bits[4][LANES];      /* the unknown ones */
} Operands;

/* Bits of a function of three bits that come out both ways, by its table (as lop3's). */
static uint64_t undecided(const Operands *o, int l, int operands, unsigned table) {
  uint64_t one[3] = {0}, zero[3] = {all_bits, all_bits, all_bits}, outcome[2] = {0};
  for (int k = 0; k < operands; k++) {
    one[k] = o->value[k][l] | o->bits[k][l];
    zero[k] = ~o->value[k][l] | o->bits[k][l];
  }
  for (int k = 0; k < 8; k++)
    outcome[table >> k & 1] |= (k & 4 ? one : zero)[0] & (k & 2 ? one : zero)[1] & (k & 1 ? one : zero)[2];
  return outcome[0] & outcome[1];
}

/* Operations that move bits of their first operands by the others: they move the marks the same way. */
static void follow_moved(const Instr *i, const Operands *o, int moved, uint64_t *r) {
  const uint64_t *row[4];
  for (int k = 0; k < 4; k++) row[k] = k < moved ? o->bits[k] : o->value[k];
  i->alu(r, row[0], row[1], row[2], row[3]);
  for (int k = moved; k < i->operands - 1; k++)
    for (int l = 0; l < LANES; l++)
      if (o->bits[k][l]) r[l] = all_bits;
}

static uint64_t follow_compare(const Instr *i, const Operands *o, int l) {
  uint64_t with = i->operands == 4 ? (o->value[2][l] ^ (i->negated >> 3)) & 1 : 0;
  bool open = i->operands == 4 && o->bits[2][l], decides = i->sub2 == BOOL_AND ? !with : i->sub2 == BOOL_OR && with;
  if (i->operands == 4 && !open && decides) return 0;
  return open || o->bits[0][l] || o->bits[1][l];
}

static uint64_t cut(uint64_t bits, int type) {
  int unused = 64 - 8 * ptx_type_bytes((PtxType)type);
  return ptx_type_is_signed(type) ? (uint64_t)((int64_t)(bits << unused) >> unused) : bits << unused >> unused;
}

static uint64_t follow_convert(const Instr *i, const Operands *o, int l) {
  if (i->operands == 3) return (o->bits[0][l] ? 0xffff0000u : 0) | (o->bits[1][l] ? 0xffffu : 0);
  uint64_t u = cut(o->bits[0][l], i->type[1]);
  bool whole = ptx_type_is_float(i->type[0]) || ptx_type_is_float(i->type[1]) || (i->flags & FLAG_SAT);
  return whole ? (u ? all_bits : 0) : cut(u, i->type[0]);
}

static uint64_t follow_lane(const Instr *i, const Operands *o, int l) {
  switch (i->op) {
  case OP_NOT: return o->bits[0][l];
  case OP_AND: return undecided(o, l, 2, 0xc0);
  case OP_OR: return undecided(o, l, 2, 0xfc);
  case OP_XOR: return undecided(o, l, 2, 0x3c);
  case OP_LOP3: return undecided(o, l, 3, (unsigned)o->value[3][l]);
  case OP_SELP: return o->bits[2][l] ? all_bits : o->bits[o->value[2][l] & 1 ? 0 : 1][l];
  case OP_SETP: return follow_compare(i, o, l);
  case OP_CVT: return follow_convert(i, o, l);
  default: return o->bits[0][l] | o->bits[1][l] | o->bits[2][l] | o->bits[3][l] ? all_bits : 0;
  }
}

static void operands_read(const Exec *x, const Instr *i, Operands *o) {
  for (int k = 0; k < 4; k++) {
    int row = k + 1 < i->operands ? i->row[i->at[k + 1]] : -1;
    o->value[k] = x->row[row < 0 ? i->row[0] : row];
    for (int l = 0; l < LANES; l++) o->bits[k][l] = row < 0 ? 0 : unknown_get(x, row, l).bits;
  }
}

/* Arithmetic and the like: one register from up to four. */
static void follow_value(Exec *x, const Instr *i, uint32_t lanes) {
  Operands o;
  uint64_t r[LANES];
  operands_read(x, i, &o);
  switch (i->op) {
  case OP_SHL: case OP_SHR: case OP_BFE: follow_moved(i, &o, 1, r); break;
  case OP_SHF: case OP_PRMT: case OP_BFI: follow_moved(i, &o, 2, r); break;
  default: EACH_LANE(l, lanes) r[l] = follow_lane(i, &o, (int)l);
  }
  EACH_LANE(l, lanes) {
    Unknown u = {0};
    for (int k = 1; k < i->operands && !u.bits; k++) u = unknown_get(x, i->row[i->at[k]], (int)l);
    u.bits = r[l];
    for (int k = 0; k < i->count[0]; k++) unknown_set(x, i->row[k], (int)l, u);
  }
}

/* Registers packed into one, or one into several: see run_mov. */
static void follow_mov(Exec *x, const Instr *i, uint32_t lanes) {
  int to = i->count[0], from = i->count[1], parts = to > from ? to : from;
  int bytes = ptx_type_bytes((PtxType)i->type[0]) / parts;
  EACH_LANE(l, lanes) {
    Unknown all = {0};
    for (int k = from - 1; k >= 0; k--) {
      Unknown u = unknown_get(x, i->row[i->at[1] + k], (int)l);
      uint64_t bits = from == 1 ? u.bits : all.bits | (u.bits & low_bits(bytes)) << 8 * bytes * k;
      if (u.bits) all = u;
      all.bits = bits;
    }
    for (int k = 0; k < to; k++) {
      Unknown u = all;
      if (to > 1) u.bits = all.bits >> 8 * bytes * k & low_bits(bytes);
      unknown_set(x, i->row[k], (int)l, u);
    }
  }
}

/* Operations that give their first operand its marks themselves. */
static bool follows_itself(const Instr *i) {
  return i->op == OP_LD || i->op == OP_LDMATRIX || i->op == OP_SHFL || i->op == OP_MMA;
}

static bool is_value(const Instr *i) {
  return i->alu || i->op == OP_SETP || i->op == OP_CVT || i->op == OP_CVTA || i->op == OP_ISSPACEP;
}

static bool has_result(const Instr *i) {
  switch (i->op) {
  case OP_ST: case OP_RED: case OP_CP: case OP_PREFETCH: case OP_BRX: return false;
  case OP_BAR: case OP_BARRIER: return i->sub == BARRIER_RED;
  default: return i->operands > 0;
  }
}

static bool is_concerned(const Exec *x, const Instr *i, uint32_t lanes) {
  const UnknownRow *unknown = x->warp[x->current].unknown;
  for (int k = 0; k < i->operands; k++)
    for (int c = 0; c < i->count[k]; c++)
      if (unknown[i->row[i->at[k] + c]].lanes & lanes) return true;
  return false;
}

void follow_unknown(Exec *x, const Instr *i, uint32_t lanes) {
  if (!is_concerned(x, i, lanes)) return;
  if (i->op == OP_MOV) {
    follow_mov(x, i, lanes);
    return;
  }
  if (is_value(i)) {
    follow_value(x, i, lanes);
    return;
  }
  for (int k = has_result(i); k < i->operands; k++) {
    if ((i->op == OP_SHFL && k == 1) || i->op == OP_MMA) continue;
    uint64_t bits = i->op == OP_ST && k == 1 ? low_bits(ptx_type_bytes((PtxType)i->type[0])) : all_bits;
    for (int c = 0; c < i->count[k]; c++) need_known(x, i, i->row[i->at[k] + c], lanes, bits);
  }
  if (!has_result(i) || follows_itself(i)) return;
  for (int c = 0; c < i->count[0]; c++)
    EACH_LANE(l, lanes) unknown_set(x, i->row[c], (int)l, (Unknown){0});
}
