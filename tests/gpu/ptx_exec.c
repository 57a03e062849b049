/* Runs a launch: blocks in sequence, in a block every warp until it exits or waits, then the barrier.  Control flow
 * is executed here, everything else by the handlers that ptx_ops.def names. */
#include "tests/gpu/ptx_exec.h"

#include <fenv.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static RunFn *const run_table[OP_COUNT] = {
#define OP(id, text, groups, fewest, most, run) run,
#include "tests/gpu/ptx_ops.def"
};

const char *ptx_instr_bind(Instr *i) {
  RunFn *run = run_table[i->op];
  if (run == run_alu) {
    for (int k = 0; k < i->operands; k++)
      if (i->count[k] != 1) return "a vector operand";
    return bind_alu(i);
  }
  if (run == run_setp) return bind_setp(i);
  if (run == run_cvt) return bind_cvt(i);
  if (run == run_ld || run == run_st || run == run_atom || run == run_cp) return bind_memory(i);
  if (run == run_shfl || run == run_vote || run == run_match || run == run_redux || run == run_activemask)
    return bind_warp(i);
  if (run == run_ldmatrix || run == run_mma) return bind_matrix(i);
  if (i->op == OP_CVTA && (i->space == SPACE_PARAM || i->type[0] != T_U64)) return "this address conversion";
  if (i->op == OP_MOV && (i->types != 1 || (i->count[0] > 1 && i->count[1] > 1))) return "this move";
  if (i->op == OP_BAR || i->op == OP_BARRIER) {
    int fewest = i->sub == BARRIER_RED ? 3 : i->sub == BARRIER_ARRIVE ? 2 : 1;
    int most = i->sub == BARRIER_WARP || i->sub == BARRIER_ARRIVE ? fewest : fewest + 1;
    if (i->operands < fewest || i->operands > most || (i->sub == BARRIER_RED) != (i->sub2 != 0))
      return "this form of a barrier";
  }
  return NULL;
}

void exec_fault(Exec *x, const Instr *i, int lane, int code, const char *fmt, ...) {
  char why[300];
  va_list args;
  va_start(args, fmt);
  vsnprintf(why, sizeof why, fmt, args);
  va_end(args);
  unsigned t = (unsigned)(x->current * LANES + lane);
  x->code = code;
  snprintf(x->message, x->message_bytes,
           "kernel %s: %s; PTX line %d: '%.*s'; block (%u,%u,%u), thread (%u,%u,%u), number %u", x->f->name, why,
           i->line, i->text_bytes, i->text, x->id[0], x->id[1], x->id[2], t % x->block[0],
           t / x->block[0] % x->block[1], t / x->block[0] / x->block[1], t);
  longjmp(x->escape, 1);
}

int ptx_instr_capability(const Instr *i) {
  bool brain = false, tensor = false;
  for (int k = 0; k < i->types; k++) {
    brain |= i->type[k] == T_BF16 || i->type[k] == T_BF16X2;
    tensor |= i->type[k] == T_TF32;
  }
  switch (i->op) {
  case OP_ADD: case OP_SUB: case OP_MUL: return brain ? 90 : 50;
  case OP_LDMATRIX: return 75;
  case OP_CP: case OP_REDUX: return 80;
  case OP_MMA: return brain || tensor || i->shape == SHAPE_M16N8K16 ? 80 : 75;
  case OP_MIN: case OP_MAX: return brain || (i->flags & FLAG_NAN) ? 80 : 50;
  case OP_CVT: return brain && (ptx_type_is_signed(i->type[0]) || !ptx_type_is_float(i->type[0])) &&
                              i->type[0] != T_BF16X2 ? 90 : brain || tensor || i->type[0] == T_F16X2 ? 80 : 50;
  default: return brain || tensor ? 80 : 50;
  }
}

static void warp_settle(const Exec *x, Warp *w) {
  w->settled = UINT32_MAX;
  for (int v = 0; v < x->warps; v++) w->settled = w->seen[v] < w->settled ? w->seen[v] : w->settled;
  w->even = true;
  for (int v = 0; v < x->warps; v++) w->even &= w->seen[v] == w->settled || w == &x->warp[v];
}

void exec_sync_warp(Exec *x) {
  Warp *w = &x->warp[x->current];
  w->seen[x->current] = ++x->clock;
  warp_settle(x, w);
}

/* Never reached: exec_control does the work.  It marks control flow in the table. */
void run_control(Exec *x, const Instr *i, uint32_t lanes) {}

void run_trap(Exec *x, const Instr *i, uint32_t lanes) {
  if (lanes) exec_fault(x, i, __builtin_ctz(lanes), FAULT_LAUNCH, "a trap was executed");
}

/* Lanes that share the lowest program counter, none when no lane can move.  They run together below `limit`, where
 * others wait to be met. */
typedef struct Group {
  uint32_t lanes;
  int pc, limit;
} Group;

static Group group_select(const Warp *w) {
  uint32_t ready = w->live & ~w->waiting & ~w->parked;
  Group g = {0};
  int low = INT32_MAX, next = INT32_MAX;
  EACH_LANE(l, ready) if (w->pc[l] < low) low = w->pc[l];
  EACH_LANE(k, ready) {
    if (w->pc[k] == low) g.lanes |= 1u << k;
    else if (w->pc[k] < next) next = w->pc[k];
  }
  g.pc = low;
  g.limit = next;
  return g;
}

static void group_store(Warp *w, uint32_t lanes, int pc) {
  EACH_LANE(l, lanes) w->pc[l] = pc;
}

/* ---- barriers of the block ---- */

/* Lanes of a warp that wait at barrier `id`. */
static uint32_t waiting_at(const Warp *w, int id) {
  uint32_t here = 0;
  EACH_LANE(l, w->waiting) here |= (uint32_t)(w->barrier_id[l] == id) << l;
  return here;
}

static uint64_t vote_result(const Exec *x, int id, int how) {
  int set = 0, all = 0;
  for (int k = 0; k < x->warps; k++) {
    uint32_t here = waiting_at(&x->warp[k], id);
    set += __builtin_popcount(x->warp[k].vote & here);
    all += __builtin_popcount(here);
  }
  return how == REDUCE_POPC ? (uint64_t)set : how == REDUCE_OR ? set > 0 : set == all;
}

/* What the warps at a barrier did before it happened before what the waiting ones of them do after it, and with it
 * what they had learnt from others. */
static void barrier_order(Exec *x, int id) {
  uint32_t known[MAX_WARPS] = {0};
  x->clock++;
  for (int k = 0; k < x->warps; k++) {
    const Warp *w = &x->warp[k];
    bool waits = waiting_at(w, id) != 0;
    if (!waits && !w->arrived[id]) continue;
    for (int v = 0; v < x->warps; v++) known[v] = w->seen[v] > known[v] ? w->seen[v] : known[v];
    uint32_t until = waits ? x->clock : w->arrive_clock[id];
    known[k] = until > known[k] ? until : known[k];
  }
  for (int k = 0; k < x->warps; k++) {
    if (!waiting_at(&x->warp[k], id)) continue;
    memcpy(x->warp[k].seen, known, sizeof known);
    warp_settle(x, &x->warp[k]);
  }
}

static void barrier_release(Exec *x, int id) {
  barrier_order(x, id);
  for (int k = 0; k < x->warps; k++) {
    Warp *w = &x->warp[k];
    EACH_LANE(l, waiting_at(w, id)) {
      const Instr *i = w->barrier[l];
      if (i->sub == BARRIER_RED) w->row[i->row[i->at[0]]][l] = vote_result(x, id, i->sub2);
    }
  }
  for (int k = 0; k < x->warps; k++) {
    x->warp[k].waiting &= ~waiting_at(&x->warp[k], id);
    x->warp[k].arrived[id] = 0;
  }
}

typedef struct Gathering {
  int threads, needed, waiting; /* here, waited for, a thread that waits or -1 */
  bool is_full;
} Gathering;

static Gathering barrier_gather(Exec *x, int id) {
  Gathering g = {0, 0, -1, false};
  for (int k = 0; k < x->warps; k++) {
    const Warp *w = &x->warp[k];
    uint32_t here = waiting_at(w, id);
    g.threads += __builtin_popcount(here) + __builtin_popcount(w->arrived[id]);
    EACH_LANE(l, here | w->arrived[id]) {
      int needed = w->barrier_threads[l] ? w->barrier_threads[l] : x->threads;
      if (g.needed && needed != g.needed && (here >> l & 1)) {
        x->current = k;
        exec_fault(x, w->barrier[l], (int)l, FAULT_LAUNCH, "barrier %d for %d threads, others came for %d", id,
                   needed, g.needed);
      }
      if ((here >> l & 1) || !g.needed) g.needed = needed;
    }
    if (here && g.waiting < 0) g.waiting = k * LANES + __builtin_ctz(here);
  }
  g.is_full = g.needed && g.threads == g.needed;
  return g;
}

/* The number of threads that a barrier waits for, 0 for all of the block. */
static int barrier_threads(Exec *x, const Instr *i, int lane) {
  int operand = i->sub == BARRIER_RED ? 2 : 1, given = i->sub == BARRIER_RED ? 4 : 2;
  if (i->operands < given) return 0;
  int n = (int)operand_row(x, i, operand, 0)[lane];
  if (n < LANES || n % LANES || n > MAX_WARPS * LANES)
    exec_fault(x, i, lane, FAULT_LAUNCH, "a barrier for %d threads, which is not a number of whole warps", n);
  return n;
}

static bool barrier_is_counted(const Warp *w, int id, uint32_t lanes) {
  EACH_LANE(l, lanes) {
    if (w->barrier_id[l] == id && w->barrier_threads[l]) return true;
  }
  return false;
}

static void barrier_arrive(Exec *x, const Instr *i, uint32_t lanes) {
  int index = x->current;
  Warp *w = &x->warp[index];
  bool red = i->sub == BARRIER_RED;
  int vote = i->operands - 1;
  if ((i->flags & FLAG_ALIGNED) && lanes != w->live)
    exec_fault(x, i, __builtin_ctz(lanes), FAULT_LAUNCH,
               "only lanes %#x of the warp reach this barrier together, lanes %#x are elsewhere", lanes,
               w->live & ~lanes);
  EACH_LANE(l, lanes) {
    int id = (int)operand_row(x, i, red ? 1 : 0, 0)[l];
    if (id < 0 || id >= BARRIERS) exec_fault(x, i, (int)l, FAULT_LAUNCH, "barrier %d of %d", id, BARRIERS);
    w->barrier[l] = i;
    w->barrier_id[l] = id;
    w->barrier_threads[l] = barrier_threads(x, i, (int)l);
    if (red && ((operand_row(x, i, vote, 0)[l] ^ (unsigned)(i->negated >> vote)) & 1)) w->vote |= 1u << l;
    else w->vote &= ~(1u << l);
    if (i->sub != BARRIER_ARRIVE) continue;
    if (w->arrived[id] >> l & 1)
      exec_fault(x, i, (int)l, FAULT_LAUNCH, "arrives twice at barrier %d before it was passed", id);
    w->arrived[id] |= 1u << l;
  }
  if (i->sub == BARRIER_ARRIVE) {
    x->clock++;
    for (int id = 0; id < BARRIERS; id++)
      if (w->arrived[id] & lanes) w->arrive_clock[id] = x->clock;
  } else {
    w->waiting |= lanes;
  }
  /* A barrier for some of the threads opens as soon as so many have come, whoever they are. */
  for (int id = 0; id < BARRIERS; id++)
    if (barrier_is_counted(w, id, lanes) && barrier_gather(x, id).is_full) barrier_release(x, id);
  x->current = index;
}

static void barrier_of_warp(Exec *x, const Instr *i, uint32_t lanes) {
  warp_check_members(x, i, lanes, operand_row(x, i, 0, 0));
  exec_sync_warp(x);
}

/* Where the lanes of an indirect branch go. */
static void branch_indirect(Exec *x, Warp *w, const Instr *i, uint32_t lanes) {
  EACH_LANE(l, lanes) {
    uint32_t k = (uint32_t)operand_row(x, i, 0, 0)[l];
    if (k >= (uint32_t)i->targets)
      exec_fault(x, i, (int)l, FAULT_LAUNCH, "branch %u of %d", k, i->targets);
    w->pc[l] = x->f->branch_targets[i->target + (int)k];
  }
}

/* One control instruction for the lanes of g that pass its guard.  False: the group must be selected anew. */
static bool exec_control(Exec *x, Warp *w, const Instr *i, Group *g, uint32_t lanes) {
  if (!lanes || i->sub == BARRIER_WARP) {
    if (lanes) barrier_of_warp(x, i, lanes);
    g->pc++;
    return true;
  }
  uint32_t others = g->lanes & ~lanes;
  group_store(w, others, g->pc + 1);
  switch (i->op) {
  case OP_CALL:
    EACH_LANE(l, lanes) x->row[i->link][l] = (uint64_t)(g->pc + 1);
    /* fall through */
  case OP_BRA:
    if (!others) {
      g->pc = i->target;
      return true;
    }
    group_store(w, lanes, i->target);
    break;
  case OP_BRX: branch_indirect(x, w, i, lanes); break;
  case OP_RET:
    EACH_LANE(k, lanes) w->pc[k] = (int)x->row[i->link][k];
    break;
  case OP_EXIT: w->live &= ~lanes; break;
  default:
    group_store(w, lanes, g->pc + 1);
    barrier_arrive(x, i, lanes);
  }
  return false;
}

static WIDE uint32_t lanes_set(const uint64_t *predicate) {
  uint64_t set = 0;
  for (uint64_t l = 0; l < LANES; l++) set |= (predicate[l] & 1) << l;
  return (uint32_t)set;
}

static uint32_t guarded(Exec *x, const Instr *i, uint32_t lanes) {
  if (i->guard < 0) return lanes;
  uint32_t set = lanes_set(x->row[i->guard]);
  return lanes & (i->guard_negated ? ~set : set);
}

/* Runs a group until it parts, waits or meets other lanes.  `forced`: no lane can move, so the first instruction is
 * executed even where members are missing, and says so. */
static void run_group(Exec *x, Warp *w, Group *g, bool forced) {
  while (g->pc < g->limit) {
    const Instr *i = &x->f->code[g->pc];
    if (w->tainted) follow_guard(x, i, g->lanes);
    uint32_t lanes = guarded(x, i, g->lanes);
    if (++x->steps > x->limit)
      exec_fault(x, i, __builtin_ctz(g->lanes), FAULT_TIMEOUT, "no end after %llu warp instructions",
                 (unsigned long long)x->limit);
    if (lanes && lanes != w->live && !forced && warp_is_incomplete(x, i, lanes)) {
      w->parked |= g->lanes;
      break;
    }
    forced = false;
    if (w->tainted && lanes) follow_unknown(x, i, lanes);
    RunFn *run = run_table[i->op];
    if (run == run_control) {
      if (!exec_control(x, w, i, g, lanes)) return;
    } else {
      if (lanes) run(x, i, lanes);
      g->pc++;
    }
  }
  group_store(w, g->lanes, g->pc);
}

/* Until all lanes of the warp have exited or wait. */
static void run_warp(Exec *x, int index) {
  Warp *w = &x->warp[index];
  x->current = index;
  x->row = w->row;
  for (;;) {
    Group g = group_select(w);
    bool forced = !g.lanes;
    if (forced) {
      w->parked = 0;
      g = group_select(w);
    }
    if (!g.lanes) return;
    run_group(x, w, &g, forced);
  }
}

/* ---- blocks ---- */

static uint64_t special_value(const Exec *x, const Row *r, int warp, int lane) {
  unsigned t = (unsigned)(warp * LANES + lane);
  const unsigned tid[3] = {t % x->block[0], t / x->block[0] % x->block[1], t / x->block[0] / x->block[1]};
  switch (r->kind) {
  case ROW_CONSTANT: return r->value;
  case ROW_TID: return tid[r->axis];
  case ROW_NTID: return x->block[r->axis];
  case ROW_CTAID: return x->id[r->axis];
  case ROW_NCTAID: return x->grid[r->axis];
  case ROW_LANEID: return (unsigned)lane;
  case ROW_WARPID: return (unsigned)warp;
  case ROW_NWARPID: return (unsigned)x->warps;
  case ROW_LANEMASK_EQ: return 1u << lane;
  case ROW_LANEMASK_LT: return (1u << lane) - 1;
  case ROW_LANEMASK_LE: return (2u << lane) - 1;
  case ROW_LANEMASK_GT: return ~((2u << lane) - 1);
  case ROW_LANEMASK_GE: return ~((1u << lane) - 1);
  case ROW_NSMID: return 1;
  case ROW_DYNAMIC_SHARED: return (unsigned)x->f->shared_bytes;
  case ROW_DYNAMIC_SHARED_BYTES: return x->dynamic_bytes;
  default: return 0;
  }
}

static void fill_row(Exec *x, int warp, int k) {
  const Row *r = &x->f->row[k];
  uint64_t *lane = x->warp[warp].row[k];
  bool same = r->kind == ROW_CONSTANT || r->kind == ROW_CTAID;
  uint64_t value = same ? special_value(x, r, warp, 0) : 0;
  for (int l = 0; l < LANES; l++) lane[l] = same ? value : special_value(x, r, warp, l);
}

static void block_begin(Exec *x) {
  x->block_clock = ++x->clock;
  for (int k = 0; k < x->warps; k++) {
    Warp *w = &x->warp[k];
    for (int r = 0; r < x->place_rows; r++) fill_row(x, k, x->place_row[r]);
    memset(w->pc, 0, sizeof w->pc);
    memset(w->group, 0, sizeof w->group);
    w->live = w->exists;
    unknown_forget(x, w);
    w->waiting = w->parked = w->vote = 0;
    for (int v = 0; v < MAX_WARPS; v++) w->seen[v] = x->clock;
    w->settled = x->clock;
    w->even = true;
    memset(w->arrived, 0, sizeof w->arrived);
    for (int c = 0; c < w->copies; c++)
      for (int b = 0; b < w->copy[c].bytes; b++)
        x->shadow[(w->copy[c].to + (unsigned)b) >> x->piece_shift].in_flight = false;
    w->copies = 0;
  }
}

/* The threads wait at `id` for ever.  Says for whom. */
static void report_deadlock(Exec *x, int id, const Gathering *g) {
  x->current = g->waiting / LANES;
  int lane = g->waiting % LANES, missing = x->threads - 1;
  const Instr *at = x->warp[x->current].barrier[lane];
  if (g->needed != x->threads)
    exec_fault(x, at, lane, FAULT_LAUNCH, "deadlock: barrier %d waits for %d threads, %d have come", id, g->needed,
               g->threads);
  while (missing > 0 && (waiting_at(&x->warp[missing / LANES], id) >> missing % LANES & 1)) missing--;
  exec_fault(x, at, lane, FAULT_LAUNCH, "deadlock: this barrier waits for thread %d, which %s", missing,
             x->warp[missing / LANES].live >> missing % LANES & 1 ? "is at another one" : "has exited");
}

/* All warps have run as far as they can.  False: all have exited.  Otherwise a barrier must be complete; a thread
 * that has exited leaves the others waiting for ever. */
static bool block_pass_barrier(Exec *x) {
  bool passed = false;
  Gathering stuck = {0};
  int stuck_at = -1;
  for (int k = 0; k < x->warps; k++)
    if (x->warp[k].live & ~x->warp[k].waiting) return true;   /* let on by a warp after it */
  for (int id = 0; id < BARRIERS; id++) {
    Gathering g = barrier_gather(x, id);
    if (g.waiting < 0) continue;
    if (g.is_full) {
      barrier_release(x, id);
      passed = true;
    } else if (stuck_at < 0) {
      stuck = g;
      stuck_at = id;
    }
  }
  if (!passed && stuck_at >= 0) report_deadlock(x, stuck_at, &stuck);
  return passed;
}

/* Apart from the setjmp, so that no variable of the loops lives across it. */
__attribute__((noinline)) static void run_blocks(Exec *x) {
  for (int k = 0; k < x->warps; k++)
    for (int r = 0; r < x->f->rows; r++)
      if (x->f->row[r].kind != ROW_REGISTER) fill_row(x, k, r);
  for (x->id[2] = 0; x->id[2] < x->grid[2]; x->id[2]++)
    for (x->id[1] = 0; x->id[1] < x->grid[1]; x->id[1]++)
      for (x->id[0] = 0; x->id[0] < x->grid[0]; x->id[0]++) {
        block_begin(x);
        do
          for (int k = 0; k < x->warps; k++) run_warp(x, k);
        while (block_pass_barrier(x));
      }
}

static void exec_init(Exec *x, const Launch *launch) {
  const Function *f = launch->kernel;
  x->f = f;
  x->memory = launch->memory;
  memcpy(x->grid, launch->grid, sizeof x->grid);
  memcpy(x->block, launch->block, sizeof x->block);
  x->threads = (int)(x->block[0] * x->block[1] * x->block[2]);
  x->warps = (x->threads + LANES - 1) / LANES;
  x->params = launch->params;
  x->dynamic_bytes = launch->dynamic_bytes;
  x->shared_bytes = (uint32_t)f->shared_bytes + launch->dynamic_bytes;
  x->shared = emu_alloc(x->shared_bytes);
  x->piece_shift = f->shared_access >= 4 ? 2 : f->shared_access == 2;
  x->shadow = emu_alloc(((x->shared_bytes >> x->piece_shift) + 1) * sizeof *x->shadow);
  x->limit = launch->limit;
  x->place_row = emu_alloc((size_t)f->rows * sizeof *x->place_row);
  for (int r = 0; r < f->rows; r++)
    if (f->row[r].kind == ROW_CTAID) x->place_row[x->place_rows++] = r;
  size_t row_bytes = (size_t)f->rows * sizeof *x->row, all_bytes = row_bytes * (size_t)x->warps;
  if (launch->scratch->bytes < all_bytes) {
    free(launch->scratch->p);
    *launch->scratch = (Scratch){emu_alloc(all_bytes), all_bytes};
  }
  memset(launch->scratch->p, 0xff, all_bytes);   /* registers never set show as NaN and -1 */
  for (int k = 0; k < x->warps; k++) {
    Warp *w = &x->warp[k];
    int lanes = x->threads - k * LANES;
    w->exists = lanes >= LANES ? UINT32_MAX : (1u << lanes) - 1;
    w->row = (uint64_t (*)[LANES])(void *)(launch->scratch->p + row_bytes * (size_t)k);
    w->local = emu_alloc((size_t)f->local_bytes * LANES);
    memset(w->local, 0xff, (size_t)f->local_bytes * LANES);
  }
}

static void exec_done(Exec *x) {
  for (int k = 0; k < x->warps; k++) {
    free(x->warp[k].local);
    free(x->warp[k].unknown);
    free(x->warp[k].copy);
  }
  free(x->place_row);
  free(x->shared);
  free(x->shadow);
  free(x);
}

static void run_caught(Exec *x) {
  if (setjmp(x->escape) == 0) run_blocks(x);
}

int exec_launch(const Launch *launch, uint64_t *out_steps, char *message, size_t message_bytes) {
  Exec *x = emu_alloc(sizeof *x);
  fenv_t mode;
  exec_init(x, launch);
  x->message = message;
  x->message_bytes = message_bytes;
  /* The caller's thread may flush denormals; the device does so only where the instruction says. */
  fegetenv(&mode);
  fesetenv(FE_DFL_ENV);
  run_caught(x);
  fesetenv(&mode);
  int code = x->code;
  *out_steps = x->steps;
  exec_done(x);
  return code;
}
