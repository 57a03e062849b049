/* What the loop nests of attention share: operands, and arithmetic on positions. */
#ifndef NUWA_LOWER_ATTEND_H
#define NUWA_LOWER_ATTEND_H

#include "codegen/lower/lower.h"

enum { MAX_HEAD_VECTORS = 16 };

/* A tensor [.., positions, heads * width] whose head vectors are read or written. */
typedef struct Heads {
  int buf;
  int64_t width;      /* elements of a head */
  int64_t row;        /* elements of a position: heads * width */
} Heads;

typedef struct Attend {
  Lower *l;
  Kernel *k;
  const AttendAttrs *attrs;
  Extent *extent;
  bool is_rows;                   /* attend_rows: queries are rows, see ops.def */
  bool has_slots;
  int table[3];                   /* per axis, [queries][3]: centre, lo, hi */
  int reverse[3];                 /* per axis, [keys][4]: query_lo, query_hi, at_lo, at_hi; -1 when not needed */
  int buf_rows, buf_slots;
  KInst *sample, *head;           /* of the item */
  Heads q, key, v, dy, out_q, out_key, out_v;
  int buf_lse, buf_delta, out_lse;
  int scores;                     /* scratch: a list with an entry for every key (query) that is seen */
  KInst *n;                       /* variable: entries so far */
} Attend;

/* ---- small arithmetic on i64 ---- */

static inline KInst *num(Attend *a, int64_t x) { return kir_i64(a->k, x); }
static inline KInst *bin(Attend *a, KOp op, KInst *x, KInst *y) { return kir_bin(a->k, op, x, y); }
static inline KInst *add(Attend *a, KInst *x, KInst *y) { return bin(a, KOP_ADD, x, y); }
static inline KInst *mul(Attend *a, KInst *x, int64_t y) { return bin(a, KOP_MUL, x, num(a, y)); }
static inline KInst *pick(Attend *a, KInst *cond, KInst *x, KInst *y) { return kir_op(a->k, KOP_SELECT, cond, x, y); }
static inline KInst *both(Attend *a, KInst *x, KInst *y) { return bin(a, KOP_AND, x, y); }
static inline KInst *either(Attend *a, KInst *x, KInst *y) { return bin(a, KOP_OR, x, y); }
static inline KInst *equal(Attend *a, KInst *x, KInst *y) { return bin(a, KOP_EQ, x, y); }

static inline KInst *within(Attend *a, KInst *lo, KInst *x, KInst *hi) {
  return both(a, bin(a, KOP_LE, lo, x), bin(a, KOP_LE, x, hi));
}

static inline KInst *load_int(Attend *a, int buf, KInst *at) {
  return kir_un(a->k, KOP_TO_I64, kir_load(a->k, buf, at, NULL, NULL));
}

typedef struct Window {
  KInst *centre[3], *lo[3], *hi[3];
} Window;

typedef struct Forward {
  KInst *q[MAX_HEAD_VECTORS];
  KInst *m, *l;                       /* variables: largest score, sum of weights */
  KInst *y[MAX_HEAD_VECTORS];
} Forward;

static inline int64_t positions_of(const int64_t grid[3]) { return grid[0] * grid[1] * grid[2]; }
static inline int vectors_of(const Heads *h) { return (int)((h->width + LANES - 1) / LANES); }

/* Centre and interval of a query's keys on each axis. */
Window attend_window(Attend *a, KInst *const q[3]);
bool attend_windows_hold_centre(const Extent *e);
KInst *attend_scaled(Attend *a, KInst *score);
/* Lanes of vector j of a head that exist; NULL: all. */
KInst *attend_lanes(Attend *a, const Heads *h, int j);
/* Offset of the item's head at a position; position counts rows of the tensor, samples included. */
KInst *attend_base(Attend *a, const Heads *h, KInst *position);
void attend_load(Attend *a, const Heads *h, KInst *position, KInst **out);
void attend_store(Attend *a, const Heads *h, KInst *position, int j, KInst *value);
/* Index in a grid of a position. */
KInst *attend_raster(Attend *a, const int64_t grid[3], KInst *const at[3]);
/* Row of q, or of k and v (samples included, in units of Heads.row), of the item's sample. */
KInst *attend_query_position(Attend *a, KInst *index);
KInst *attend_key_position(Attend *a, KInst *index);
/* Offset of the item's head in [positions, heads]. */
KInst *attend_per_head(Attend *a, KInst *position);
/* x = exp(x - m) for n scores in scratch from `start` on (m NULL: exp(x)). */
void attend_exponentiate(Attend *a, KInst *start, KInst *n, KInst *m);
void attend_start_sums(Attend *a, const Heads *h, KInst **sum);
/* Results of a query whose sums are complete; has_keys: it sees any. */
void attend_finish(Attend *a, const Forward *f, KInst *position, KInst *has_keys);

/* On a GPU, with what is shared in shared memory: forward, or backward for queries or keys.  most_seen: others that a
 * position sees, or that see it, at most.  False: nothing was emitted, the common nest takes it. */
bool attend_gpu(Attend *a, Dim samples, const AttendGpuParams *params, bool for_keys, bool forward, int64_t most_seen);

/* On a CPU, where queries see keys of their own; most: rows that a position meets.  False: the same. */
bool attend_list(Attend *a, Dim samples, bool for_keys, bool is_forward, int64_t most);

/* On a CPU, where many queries see the same keys.  False: nothing was emitted, the common nest takes it. */
bool attend_tile(Attend *a, Dim samples, const AttendParams *params, bool for_keys, bool is_forward);

#endif
