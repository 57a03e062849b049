/* The interpreter: one launch at a time, blocks in sequence, warp by warp, 32 lanes per operation.
 * Lanes of a warp that are at different instructions run lowest instruction first, so that they meet again where the
 * branches join.  A join may lie below one of its branches: therefore lanes that come to an operation between lanes
 * before its other members wait there until no lane can move. */
#ifndef EMU_PTX_EXEC_H
#define EMU_PTX_EXEC_H

#include <setjmp.h>

#include "tests/gpu/ptx.h"

/* ---- device memory (ptx_memory.c) ---- */

/* Addresses are invented and never used twice; between two allocations lies a gap, so that an access out of bounds
 * or after a free hits nothing. */
enum { ALLOCATION_ALIGN = 512, ALLOCATION_GAP = 1 << 16 };
#define GLOBAL_BASE 0x700000000000u
#define SHARED_BASE 0x500000000000u   /* the windows of generic addresses */
#define LOCAL_BASE 0x600000000000u
#define WINDOW_BYTES 0x010000000000u

typedef struct Allocation {
  uint64_t address;
  size_t bytes;
  unsigned char *data;
  unsigned char *written;       /* a bit per byte */
  bool constant;
} Allocation;
typedef struct Memory {
  Allocation *list;             /* by address */
  int n, cap, recent;
  uint64_t next;
  size_t used, limit;
} Memory;

/* 0 when the limit is passed.  Fresh memory counts as never written. */
uint64_t memory_alloc(Memory *m, size_t bytes);
bool memory_free(Memory *m, uint64_t address);
void memory_done(Memory *m);
Allocation *memory_find(Memory *m, uint64_t address);   /* the one that holds the address, or NULL */
void memory_mark_written(Allocation *a, uint64_t address, size_t bytes);
void memory_forget(Allocation *a, uint64_t address, size_t bytes);   /* as never written */
bool memory_is_written(const Allocation *a, uint64_t address, size_t bytes);

/* ---- one launch ---- */

/* Who touched a piece of shared memory last, and when: the clock of the launch moves on at every barrier, of the
 * block or of a warp.  A piece is as large as the smallest access that the kernel can make to shared memory. */
typedef struct Mark {
  uint32_t stamp;
  uint32_t warps;               /* those that touched it and are not ordered before the latest of them */
  int16_t thread;               /* the only thread among them, or -1 */
} Mark;
typedef struct Shadow {
  Mark write, read;
  bool in_flight;               /* the target of a cp.async that has not been waited for */
  bool atomic;                  /* the last write was atomic */
} Shadow;
enum { BARRIERS = 16 };

typedef struct PendingCopy {
  uint64_t from;                /* global address */
  uint32_t to;                  /* shared offset */
  uint32_t group;
  uint8_t bytes, from_bytes, lane;
} PendingCopy;

/* Bits of a register that were read from memory never written, and where. */
typedef struct Unknown {
  uint64_t bits;
  uint64_t address;             /* of global memory, or an offset in shared memory */
  int line;                     /* of the load */
  bool shared;
} Unknown;
typedef struct UnknownRow {
  uint32_t lanes;               /* those with such bits */
  Unknown lane[LANES];
} UnknownRow;

typedef struct Warp {
  uint64_t (*row)[LANES];
  UnknownRow *unknown;          /* [rows], or NULL while there never was one */
  int tainted;                  /* rows with unknown bits */
  int pc[LANES];
  uint32_t exists, live, waiting;   /* lanes; waiting ones stand behind their barrier */
  uint32_t parked;              /* stand before an operation of the whole warp that other lanes may still reach */
  const Instr *barrier[LANES];
  int barrier_id[LANES], barrier_threads[LANES];
  uint32_t vote;                /* predicates given to bar.red */
  uint32_t seen[MAX_WARPS];     /* what that warp did before this clock happened before what this one does now */
  uint32_t settled;             /* the least of `seen`: what anybody did before */
  bool even;                    /* all of the others' are the same */
  uint32_t arrived[BARRIERS], arrive_clock[BARRIERS];   /* lanes that went on, and when */
  unsigned char *local;         /* [LANES, local_bytes] */
  PendingCopy *copy;
  int copies, copy_cap;
  uint32_t group[LANES];        /* copy groups committed so far */
} Warp;

/* Registers of one launch, kept for the next: fresh memory is slow to touch. */
typedef struct Scratch {
  unsigned char *p;
  size_t bytes;
} Scratch;

typedef struct Exec {
  const Function *f;
  Memory *memory;
  unsigned grid[3], block[3], id[3];
  int threads, warps;
  int *place_row, place_rows;   /* those that change from block to block */
  unsigned char *params, *shared;
  Shadow *shadow;
  int piece_shift;              /* a shadow covers 1 << piece_shift bytes */
  uint32_t shared_bytes, dynamic_bytes;
  uint32_t clock, block_clock;  /* now, when this block began */
  Warp warp[MAX_WARPS];
  const unsigned char *storing; /* the bytes of the plain store in progress, or NULL */
  unsigned unwritten;           /* a bit for every byte of the last ACCESS_LOAD that nobody wrote */
  int current;                  /* the warp that runs */
  uint64_t (*row)[LANES];       /* its rows */
  uint64_t steps, limit;        /* warp instructions executed and allowed */
  jmp_buf escape;
  int code;                     /* driver error, 0 is none */
  char *message;
  size_t message_bytes;
} Exec;

enum { FAULT_ADDRESS = 700, FAULT_TIMEOUT = 702, FAULT_MISALIGNED = 716, FAULT_LAUNCH = 719 };   /* CUresult */

typedef struct Launch {
  const Function *kernel;
  Memory *memory;
  unsigned grid[3], block[3], dynamic_bytes;
  unsigned char *params;        /* kernel->param_bytes */
  uint64_t limit;
  Scratch *scratch;             /* the caller frees scratch->p in the end */
} Launch;

/* 0, or a CUresult and the reason in `message`: kernel, what, PTX line and text, block and thread. */
int exec_launch(const Launch *launch, uint64_t *out_steps, char *message, size_t message_bytes);

/* Ends the launch. */
__attribute__((noreturn, format(printf, 5, 6))) void exec_fault(Exec *x, const Instr *i, int lane, int code,
                                                               const char *fmt, ...);

typedef enum AccessKind { ACCESS_LOAD, ACCESS_READ, ACCESS_WRITE, ACCESS_ATOMIC, ACCESS_COPY } AccessKind;

/* Checks everything there is to check about one access of one lane (alignment, bounds, never written, races) and
 * gives the bytes.  LOAD brings a value into a register, which may be unknown: x->unwritten says so.  COPY is the
 * issue of a cp.async into shared memory. */
unsigned char *exec_access(Exec *x, const Instr *i, int lane, int space, uint64_t address, int bytes,
                           AccessKind kind);
/* Loads and stores of several lanes, checked the same; lane l's bytes are out[l].  Gives the lanes that read memory
 * never written, where unwritten[l] has a bit for every byte. */
uint32_t exec_load(Exec *x, const Instr *i, uint32_t lanes, const uint64_t *address, int bytes,
                   unsigned char (*out)[16], uint16_t *unwritten);
void exec_store(Exec *x, const Instr *i, uint32_t lanes, const uint64_t *address, int bytes,
                unsigned char (*from)[16]);
/* The copy has arrived: its bytes in shared memory are written by its thread now. */
void exec_land_copy(Exec *x, const Instr *i, const PendingCopy *c);
/* Orders what the lanes of the current warp did before against what they do after. */
void exec_sync_warp(Exec *x);

/* What happens to unknown values (ptx_defined.c), before the instruction is executed; loads, shuffles and matrix
 * products mark their results themselves.  Only needed where the warp is tainted. */
void follow_unknown(Exec *x, const Instr *i, uint32_t lanes);
void follow_guard(Exec *x, const Instr *i, uint32_t lanes);
Unknown unknown_get(const Exec *x, int row, int lane);   /* .bits are 0 where all is known */
void unknown_set(Exec *x, int row, int lane, Unknown u);
void unknown_forget(Exec *x, Warp *w);

/* Are members of this operation between lanes alive but not in `lanes`?  False for other operations. */
bool warp_is_incomplete(Exec *x, const Instr *i, uint32_t lanes);

typedef void RunFn(Exec *x, const Instr *i, uint32_t lanes);
RunFn run_alu, run_setp, run_cvt, run_mov, run_cvta, run_isspacep, run_ld, run_st, run_atom, run_cp, run_nothing,
    run_shfl, run_vote, run_match, run_redux, run_activemask, run_ldmatrix, run_mma, run_control, run_trap,
    run_param_copy;

/* For bind: NULL or what is missing. */
const char *bind_alu(Instr *i);
const char *bind_setp(Instr *i);
const char *bind_cvt(Instr *i);
const char *bind_memory(Instr *i);
const char *bind_warp(Instr *i);
const char *bind_matrix(Instr *i);

/* Faults unless all lanes that `members` names (and that exist) are here. */
void warp_check_members(Exec *x, const Instr *i, uint32_t lanes, const uint64_t *members);

/* Row k of operand n. */
static inline uint64_t *operand_row(Exec *x, const Instr *i, int n, int k) { return x->row[i->row[i->at[n] + k]]; }

#define EACH_LANE(l, lanes)                                                                            \
  for (uint32_t rest_##l = (lanes), l = 0; rest_##l && (l = (uint32_t)__builtin_ctz(rest_##l), 1);      \
       rest_##l &= rest_##l - 1)

/* Loops over lanes exist for several instruction sets, chosen when the library is loaded; sanitizers cannot stand
 * code that runs that early. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE
#endif
/* Rows are the same or apart, so lanes may be computed together. */
#ifdef __clang__
#define LANES_APART
#else
#define LANES_APART _Pragma("GCC ivdep")
#endif

/* ---- values ---- */

static inline float f32_of(uint64_t bits) {
  union { uint32_t u; float f; } x = {.u = (uint32_t)bits};
  return x.f;
}
static inline double f64_of(uint64_t bits) {
  union { uint64_t u; double f; } x = {.u = bits};
  return x.f;
}
/* A NaN result of f32 arithmetic is always this one on the device. */
static inline uint64_t f32_bits(float f) {
  union { float f; uint32_t u; } x = {.f = f};
  return f != f ? 0x7fffffffu : x.u;
}
static inline uint64_t f64_bits(double f) {
  union { double f; uint64_t u; } x = {.f = f};
  return x.u;
}
static inline uint64_t f32_flush(uint64_t bits) { return bits & 0x7f800000u ? bits : bits & 0x80000000u; }

/* ptx_convert.c */
double half_value(uint32_t bits, PtxType t);            /* of f16 or bf16 */
uint32_t half_bits(double v, PtxType t, PtxRound round);   /* nearest even, or towards zero for ROUND_RZ */

#endif
