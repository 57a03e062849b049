/* Operations between the lanes of a warp.  All of them name their members; a member that is not here (it diverged or
 * has exited) is an error, as is a value taken from a lane outside. */
#include "tests/gpu/ptx_exec.h"

const char *bind_warp(Instr *i) {
  int t = i->type[0];
  if (i->types != 1) return "this type";
  if (i->negated && i->op != OP_VOTE) return "a negated operand";
  switch (i->op) {
  case OP_SHFL: return t == T_B32 && i->sub ? NULL : "this type";
  case OP_VOTE: return i->sub && t == (i->sub == VOTE_BALLOT ? T_B32 : T_PRED) ? NULL : "this vote";
  case OP_MATCH:
    return (i->sub == VOTE_ANY || i->sub == VOTE_ALL) && (t == T_B32 || t == T_B64) ? NULL : "this match";
  case OP_REDUX:
    if (i->sub == ATOMIC_ADD || i->sub == ATOMIC_MIN || i->sub == ATOMIC_MAX)
      return t == T_U32 || t == T_S32 ? NULL : "this type";
    return (i->sub >= ATOMIC_AND && i->sub <= ATOMIC_XOR) && t == T_B32 ? NULL : "this reduction";
  default: return t == T_B32 ? NULL : "this type";
  }
}

void warp_check_members(Exec *x, const Instr *i, uint32_t lanes, const uint64_t *members) {
  const Warp *w = &x->warp[x->current];
  EACH_LANE(l, lanes) {
    uint32_t named = (uint32_t)members[l], missing = named & w->exists & ~lanes;
    if (!(named >> l & 1))
      exec_fault(x, i, (int)l, FAULT_LAUNCH, "the member mask %#x does not name the executing lane %u", named, l);
    if (missing)
      exec_fault(x, i, (int)l, FAULT_LAUNCH,
                 "lanes %#x of the member mask %#x are not here: they diverged or have exited", missing, named);
  }
}

/* The operand with the member mask; -1 when the whole warp takes part, -2 for other operations. */
static int members_operand(const Instr *i) {
  switch (i->op) {
  case OP_SHFL: return 4;
  case OP_VOTE: case OP_MATCH: case OP_REDUX: return 2;
  case OP_LDMATRIX: case OP_MMA: return -1;
  case OP_BAR: case OP_BARRIER: return i->sub == BARRIER_WARP ? 0 : i->flags & FLAG_ALIGNED ? -1 : -2;
  default: return -2;
  }
}

bool warp_is_incomplete(Exec *x, const Instr *i, uint32_t lanes) {
  uint32_t elsewhere = x->warp[x->current].live & ~lanes, named = 0;
  int operand = members_operand(i);
  if (!elsewhere || operand == -2) return false;
  if (operand == -1) return true;
  const uint64_t *members = operand_row(x, i, operand, 0);
  EACH_LANE(l, lanes) named |= (uint32_t)members[l];
  return (named & elsewhere) != 0;
}

/* shfl d|p, a, b, c, members: c holds the highest lane in bits 0-4 and the segment mask in bits 8-12. */
void run_shfl(Exec *x, const Instr *i, uint32_t lanes) {
  const uint64_t *a = operand_row(x, i, 1, 0), *b = operand_row(x, i, 2, 0), *c = operand_row(x, i, 3, 0);
  const uint64_t *members = operand_row(x, i, 4, 0);
  uint64_t got[LANES], inside[LANES];
  Unknown unknown[LANES];
  bool tainted = x->warp[x->current].tainted != 0;
  warp_check_members(x, i, lanes, members);
  EACH_LANE(l, lanes) {
    int by = (int)(b[l] & 31), segment = (int)(c[l] >> 8 & 31), last = (int)(c[l] & 31), lane = (int)l;
    int limit = (lane & segment) | (last & ~segment), from = lane;
    bool ok;
    switch (i->sub) {
    case SHUFFLE_UP: from = lane - by; ok = from >= limit; break;
    case SHUFFLE_DOWN: from = lane + by; ok = from <= limit; break;
    case SHUFFLE_BFLY: from = lane ^ by; ok = from <= limit; break;
    default: from = (lane & segment) | (by & ~segment); ok = from <= limit;
    }
    if (!ok) from = lane;
    if (!((uint32_t)members[l] & lanes & 1u << from))
      exec_fault(x, i, lane, FAULT_LAUNCH, "shuffle reads lane %d, which is not taking part (lanes %#x do)", from,
                 (uint32_t)members[l] & lanes);
    got[l] = (uint32_t)a[from];
    if (tainted) unknown[l] = unknown_get(x, i->row[i->at[1]], from);
    inside[l] = ok;
  }
  uint64_t *d = operand_row(x, i, 0, 0), *p = i->count[0] == 2 ? operand_row(x, i, 0, 1) : NULL;
  EACH_LANE(l, lanes) {
    d[l] = got[l];
    if (p) p[l] = inside[l];
    if (!tainted) continue;
    unknown_set(x, i->row[0], (int)l, unknown[l]);
    if (p) unknown_set(x, i->row[1], (int)l, (Unknown){0});
  }
}

void run_vote(Exec *x, const Instr *i, uint32_t lanes) {
  const uint64_t *a = operand_row(x, i, 1, 0), *members = operand_row(x, i, 2, 0);
  uint64_t *d = operand_row(x, i, 0, 0), r[LANES];
  uint32_t set = 0;
  warp_check_members(x, i, lanes, members);
  EACH_LANE(l, lanes) set |= (uint32_t)((a[l] ^ (i->negated >> 1)) & 1) << l;
  EACH_LANE(l, lanes) {
    uint32_t all = (uint32_t)members[l] & lanes, mine = set & all;
    r[l] = i->sub == VOTE_BALLOT ? mine : i->sub == VOTE_ANY ? mine != 0 : i->sub == VOTE_ALL ? mine == all
                                                                         : mine == all || mine == 0;
  }
  EACH_LANE(l, lanes) d[l] = r[l];
}

void run_match(Exec *x, const Instr *i, uint32_t lanes) {
  const uint64_t *a = operand_row(x, i, 1, 0), *members = operand_row(x, i, 2, 0);
  uint64_t mask = i->type[0] == T_B64 ? ~(uint64_t)0 : UINT32_MAX, r[LANES], p[LANES];
  warp_check_members(x, i, lanes, members);
  EACH_LANE(l, lanes) {
    uint32_t same = 0, all = (uint32_t)members[l] & lanes;
    EACH_LANE(k, all) same |= (uint32_t)(((a[k] ^ a[l]) & mask) == 0) << k;
    p[l] = same == all;
    r[l] = i->sub == VOTE_ANY || same == all ? same : 0;
  }
  EACH_LANE(l, lanes) {
    operand_row(x, i, 0, 0)[l] = r[l];
    if (i->count[0] == 2) operand_row(x, i, 0, 1)[l] = p[l];
  }
}

static uint32_t reduced(const Instr *i, uint32_t u, uint32_t v) {
  bool less = i->type[0] == T_S32 ? (int32_t)v < (int32_t)u : v < u;
  switch (i->sub) {
  case ATOMIC_ADD: return u + v;
  case ATOMIC_MIN: return less ? v : u;
  case ATOMIC_MAX: return less ? u : v;
  case ATOMIC_AND: return u & v;
  case ATOMIC_OR: return u | v;
  default: return u ^ v;
  }
}

void run_redux(Exec *x, const Instr *i, uint32_t lanes) {
  const uint64_t *a = operand_row(x, i, 1, 0), *members = operand_row(x, i, 2, 0);
  uint64_t *d = operand_row(x, i, 0, 0), r[LANES];
  warp_check_members(x, i, lanes, members);
  EACH_LANE(l, lanes) {
    uint32_t all = (uint32_t)members[l] & lanes, sum = (uint32_t)a[__builtin_ctz(all)];
    EACH_LANE(k, all & (all - 1)) sum = reduced(i, sum, (uint32_t)a[k]);
    r[l] = sum;
  }
  EACH_LANE(l, lanes) d[l] = r[l];
}

void run_activemask(Exec *x, const Instr *i, uint32_t lanes) {
  EACH_LANE(l, lanes) operand_row(x, i, 0, 0)[l] = lanes;
}
