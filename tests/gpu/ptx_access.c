/* Loads, stores, atomics and asynchronous copies.  The checks are exec_access's. */
#include <string.h>

#include "tests/gpu/ptx_exec.h"

const char *bind_memory(Instr *i) {
  int t = i->type[0], data = i->op == OP_LD ? 0 : 1;
  if (i->negated) return "a negated operand";
  if (i->op == OP_CP) {
    if (i->sub == COPY_ASYNC) return i->operands >= 3 && i->space == SPACE_SHARED ? NULL : "this copy";
    return i->sub && i->operands == (i->sub == COPY_WAIT) ? NULL : "this copy";
  }
  if (i->op == OP_LD || i->op == OP_ST) {
    if (i->types != 1 || t == T_PRED || t == T_TF32 || i->count[data] != i->vector) return "this type";
    return ptx_type_bytes((PtxType)t) * i->vector <= 16 ? NULL : "a vector of more than 16 bytes";
  }
  bool real = t == T_F32 || t == T_F64, bits = t == T_B32 || t == T_B64;
  bool integer = t == T_U32 || t == T_S32 || t == T_U64 || t == T_S64;
  if (i->types != 1 || (!real && !integer && !bits) || !i->sub) return "this atomic operation";
  if (real && i->sub != ATOMIC_ADD && i->sub != ATOMIC_EXCH) return "this atomic operation";
  if (i->operands != (i->op == OP_ATOM) + 2 + (i->sub == ATOMIC_CAS)) return "this number of operands";
  return NULL;
}

static uint64_t extended(uint64_t v, int type) {
  return type == T_S8    ? (uint64_t)(int64_t)(int8_t)v
         : type == T_S16 ? (uint64_t)(int64_t)(int16_t)v
         : type == T_S32 ? (uint64_t)(int64_t)(int32_t)v
                         : v;
}

static void mark_unwritten(Exec *x, const Instr *i, int lane, uint64_t address, unsigned unwritten) {
  int elem = ptx_type_bytes((PtxType)i->type[0]);
  bool shared = i->space == SPACE_SHARED || (i->space == SPACE_GENERIC && address - SHARED_BASE < WINDOW_BYTES);
  for (int k = 0; k < i->vector; k++) {
    Unknown u = {.address = address, .line = i->line, .shared = shared};
    unsigned bytes = unwritten >> k * elem & ((1u << elem) - 1);
    if (shared && i->space == SPACE_GENERIC) u.address -= SHARED_BASE;
    if (bytes) u.address += (unsigned)(k * elem + __builtin_ctz(bytes));
    for (int b = 0; b < elem; b++)
      if (bytes >> b & 1) u.bits |= (uint64_t)0xff << 8 * b;
    if (ptx_type_is_signed(i->type[0])) u.bits = extended(u.bits, i->type[0]);
    unknown_set(x, i->row[i->at[0] + k], lane, u);
  }
}

void run_ld(Exec *x, const Instr *i, uint32_t lanes) {
  int elem = ptx_type_bytes((PtxType)i->type[0]), n = i->vector;
  unsigned char got[LANES][16];
  uint16_t unwritten[LANES];
  const uint64_t *address = operand_row(x, i, 1, 0);
  uint32_t unknown = exec_load(x, i, lanes, address, elem * n, got, unwritten);
  if (unknown || x->warp[x->current].tainted)
    EACH_LANE(l, lanes)
      mark_unwritten(x, i, (int)l, address[l] + (uint64_t)i->offset[0], unknown >> l & 1 ? unwritten[l] : 0);
  for (int k = 0; k < n; k++) {
    uint64_t *d = operand_row(x, i, 0, k);
    EACH_LANE(l, lanes) {
      uint64_t v = 0;
      if (elem == 4) {
        uint32_t word;
        memcpy(&word, got[l] + 4 * k, 4);
        v = word;
      } else {
        memcpy(&v, got[l] + k * elem, (size_t)elem);
      }
      d[l] = ptx_type_is_signed(i->type[0]) ? extended(v, i->type[0]) : v;
    }
  }
}

void run_st(Exec *x, const Instr *i, uint32_t lanes) {
  int elem = ptx_type_bytes((PtxType)i->type[0]), n = i->vector;
  unsigned char bytes[LANES][16];
  for (int k = 0; k < n; k++) {
    const uint64_t *value = operand_row(x, i, 1, k);
    EACH_LANE(l, lanes) {
      if (elem == 4) memcpy(bytes[l] + 4 * k, &value[l], 4);
      else memcpy(bytes[l] + k * elem, &value[l], (size_t)elem);
    }
  }
  exec_store(x, i, lanes, operand_row(x, i, 0, 0), elem * n, bytes);
}

static uint64_t atomic_integer(const Instr *i, uint64_t old, uint64_t b, uint64_t c) {
  bool narrow = ptx_type_bytes((PtxType)i->type[0]) == 4, is_signed = ptx_type_is_signed(i->type[0]);
  if (narrow) {
    old = is_signed ? (uint64_t)(int64_t)(int32_t)old : (uint32_t)old;
    b = is_signed ? (uint64_t)(int64_t)(int32_t)b : (uint32_t)b;
    c = (uint32_t)c;
  }
  bool less = is_signed ? (int64_t)b < (int64_t)old : b < old;
  switch (i->sub) {
  case ATOMIC_ADD: return old + b;
  case ATOMIC_MIN: return less ? b : old;
  case ATOMIC_MAX: return less ? old : b;
  case ATOMIC_AND: return old & b;
  case ATOMIC_OR: return old | b;
  case ATOMIC_XOR: return old ^ b;
  case ATOMIC_EXCH: return b;
  case ATOMIC_CAS: return old == b ? c : old;
  case ATOMIC_INC: return old >= b ? 0 : old + 1;
  default: return old == 0 || old > b ? b : old - 1;
  }
}

/* atom d, [a], b (, c) and red [a], b.  Lanes act in order. */
void run_atom(Exec *x, const Instr *i, uint32_t lanes) {
  int first = i->op == OP_ATOM, elem = ptx_type_bytes((PtxType)i->type[0]);
  const uint64_t *address = operand_row(x, i, first, 0), *b = operand_row(x, i, first + 1, 0);
  const uint64_t *c = i->sub == ATOMIC_CAS ? operand_row(x, i, first + 2, 0) : b;
  uint64_t got[LANES];
  EACH_LANE(l, lanes) {
    unsigned char *p =
        exec_access(x, i, (int)l, i->space, address[l] + (uint64_t)i->offset[0], elem, ACCESS_ATOMIC);
    uint64_t old = 0, v;
    memcpy(&old, p, (size_t)elem);
    if (i->type[0] == T_F32 && i->sub == ATOMIC_ADD) v = f32_bits(f32_of(old) + f32_of(b[l]));
    else if (i->type[0] == T_F64 && i->sub == ATOMIC_ADD) v = f64_bits(f64_of(old) + f64_of(b[l]));
    else v = atomic_integer(i, old, b[l], c[l]);
    memcpy(p, &v, (size_t)elem);
    got[l] = old;
  }
  if (!first) return;
  uint64_t *d = operand_row(x, i, 0, 0);
  EACH_LANE(l, lanes) d[l] = got[l];
}

static void copy_issue(Exec *x, const Instr *i, int lane) {
  Warp *w = &x->warp[x->current];
  uint64_t bytes = operand_row(x, i, 2, 0)[lane];
  uint64_t from_bytes = i->operands == 4 ? (uint32_t)operand_row(x, i, 3, 0)[lane] : bytes;
  if (bytes != 4 && bytes != 8 && bytes != 16)
    exec_fault(x, i, lane, FAULT_LAUNCH, "cp.async of %llu bytes", (unsigned long long)bytes);
  if ((i->flags & FLAG_BYPASS) && bytes != 16)
    exec_fault(x, i, lane, FAULT_LAUNCH, "cp.async.cg of %llu bytes: past level 1 only 16 can be copied",
               (unsigned long long)bytes);
  if (from_bytes > bytes)
    exec_fault(x, i, lane, FAULT_LAUNCH, "cp.async reads %llu bytes for %llu", (unsigned long long)from_bytes,
               (unsigned long long)bytes);
  PendingCopy c = {
      .bytes = (uint8_t)bytes, .from_bytes = (uint8_t)from_bytes, .lane = (uint8_t)lane, .group = w->group[lane]};
  c.from = operand_row(x, i, 1, 0)[lane] + (uint64_t)i->offset[1];
  if (c.from & (bytes - 1))
    exec_fault(x, i, lane, FAULT_MISALIGNED,
               "misaligned address %#llx: a cp.async of %d bytes needs a multiple of %d", (unsigned long long)c.from,
               c.bytes, c.bytes);
  if (from_bytes == bytes) exec_access(x, i, lane, SPACE_GLOBAL, c.from, c.bytes, ACCESS_READ);
  for (uint64_t k = 0; from_bytes < bytes && k < from_bytes; k++)
    exec_access(x, i, lane, SPACE_GLOBAL, c.from + k, 1, ACCESS_READ);
  unsigned char *to = exec_access(x, i, lane, SPACE_SHARED,
                                  operand_row(x, i, 0, 0)[lane] + (uint64_t)i->offset[0], c.bytes, ACCESS_COPY);
  memset(to, 0xff, bytes);
  c.to = (uint32_t)(to - x->shared);
  EMU_PUSH(w->copy, w->copies, w->copy_cap, c);
}

/* Lands the copies of a lane in groups below `end`; the queue keeps its order. */
static void copies_land(Exec *x, const Instr *i, uint32_t lanes, const uint32_t *end) {
  Warp *w = &x->warp[x->current];
  int kept = 0;
  for (int k = 0; k < w->copies; k++) {
    const PendingCopy c = w->copy[k];
    if ((lanes >> c.lane & 1) && c.group < end[c.lane]) exec_land_copy(x, i, &c);
    else w->copy[kept++] = c;
  }
  w->copies = kept;
}

void run_cp(Exec *x, const Instr *i, uint32_t lanes) {
  Warp *w = &x->warp[x->current];
  uint32_t end[LANES];
  switch (i->sub) {
  case COPY_ASYNC:
    EACH_LANE(l, lanes) copy_issue(x, i, (int)l);
    return;
  case COPY_COMMIT:
    EACH_LANE(l, lanes) w->group[l]++;
    return;
  case COPY_WAIT:
    EACH_LANE(l, lanes) {
      uint64_t open = operand_row(x, i, 0, 0)[l];
      end[l] = open < w->group[l] ? w->group[l] - (uint32_t)open : 0;
    }
    break;
  default:
    EACH_LANE(l, lanes) end[l] = UINT32_MAX;
  }
  copies_land(x, i, lanes, end);
}

void run_nothing(Exec *x, const Instr *i, uint32_t lanes) {}

void run_param_copy(Exec *x, const Instr *i, uint32_t lanes) {
  EACH_LANE(l, lanes) {
    unsigned char *frame = x->warp[x->current].local + (size_t)l * (size_t)x->f->local_bytes;
    memcpy(frame + i->offset[0], frame + i->offset[1], (size_t)i->targets);
  }
}
