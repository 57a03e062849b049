/* What an attention is, described once for its loop nests: its two sides, which positions of one see which of the
 * other (windows, patches and the rows that they meet), and the parts of arithmetic that all nests share.
 *
 * An item computes positions of one side, its *own*: queries, or keys where gradients of keys and values are made.
 * It visits positions of the *other* side, which own positions see or which see them, in raster order:
 *   forward     score = scale own.x . other.x      p = exp(score - largest)   out_y = sum p other.y / sum p
 *   backward    p = exp(score - lse)   ds = p (own.y . other.y - delta)
 *               out_x = scale sum ds other.x       out_y = sum p other.y (of values)
 * where x of the queries is q and y its gradient dy, x of the keys is k and y is v. */
#ifndef NUWA_LOWER_ATTEND_H
#define NUWA_LOWER_ATTEND_H

#include "codegen/kir/arith.h"
#include "codegen/lower/lower.h"

enum { MAX_HEAD_VECTORS = 64, MAX_BLOCK_VECTORS = 16 };   /* of nests on a CPU, of a GPU's; attend_loops takes any */

/* The operands of a side: of queries q and its gradient dy, of keys k and v.  And what comes of others: X sums their x,
 * weighted with ds, Y their y, weighted with p. */
enum { X, Y, OPERANDS };

/* A tensor [.., positions, heads * width] whose head vectors are read or written; buf -1: there is none. */
typedef struct Heads {
  int buf;
  DType dtype;
  int64_t width;      /* elements of a head */
  int64_t row;        /* elements of a position: heads * width */
  int64_t share;      /* heads of queries that read one of these */
} Heads;

typedef struct Side {
  const int64_t *grid;
  int64_t n;          /* positions of the grid */
  Heads of[OPERANDS];
} Side;

/* For each coordinate of an axis some numbers, [coords][fields]; buf: in the kernel, once it needs them, else -1. */
typedef struct AxisTable {
  const char *name;
  int64_t coords;
  int fields, buf;
  int32_t *entry;
} AxisTable;

typedef struct Attention {
  Lower *l;                       /* NULL, k too: described for its parameters only, and buffers are 0 */
  Kernel *k;
  Arena *arena;
  const AttendAttrs *attrs;
  Extent *extent;
  Dim samples;
  bool is_forward, for_keys;      /* for_keys: gradients of keys, values */
  bool is_rows, has_slots;        /* attend_rows: queries are rows, see ops.def */
  bool is_raster, is_axis;        /* of the extent */
  bool tests_lines;               /* kind axis: loops over what is met hold more than lines, and each other has to be
                                     asked for: windows miss their centre, or keys are not that of one query each */
  Side query, key;
  const Side *own, *other;
  Heads out[OPERANDS];
  bool has[OPERANDS];             /* they are asked for */
  int number[OPERANDS];           /* of queries, for gradients: lse, which scores are less; delta, which dp are */
  int out_lse, buf_rows, buf_slots;
  int buf_mask;                   /* u8 [samples, keys], 0 is not visible; -1: all are */
  int64_t most;                   /* others that a position meets, at most */
  int widest;                     /* vectors of the widest head */
  int cut;                        /* axis on which raster order bounds what is met, the first that has any; -1: none */
  AxisTable met[3];               /* of own coordinates: the others that they meet, lo, hi; of lines near_lo, near_hi */
  AxisTable window[3];            /* of queries: lo, hi, centre */
  KInst *sample, *head;           /* of the item; head: of queries */
  int scores;                     /* scratch: a list with an entry for every other that is met */
  KInst *n;                       /* variable: entries so far */
} Attention;

/* ---- heads ---- */

/* Lanes below n, an i64. */
static inline KInst *lanes_below(Kernel *k, KInst *n) { return below(k, kir_lane(k), to_i32(k, n)); }

static inline KInst *load_int(Kernel *k, int buf, KInst *at) { return to_i64(k, kir_load(k, buf, at, NULL, NULL)); }

static inline int vectors_of(const Heads *h) { return (int)((h->width + LANES - 1) / LANES); }
/* Elements of a head in scratch, in whole vectors. */
static inline int64_t pitch_of(const Heads *h) { return (int64_t)vectors_of(h) * LANES; }

/* Everything but the kernel's buffers when l is NULL. */
void attend_describe(Attention *a, Arena *arena, const Group *g, Lower *l);

/* ---- who sees whom: sight.c ---- */

void attend_tables(Attention *a);

/* What an own position meets, in numbers of the type of its coordinates: i64, or i32. */
typedef struct Sight {
  KInst *at[3];                   /* its coordinates */
  KInst *lo[3], *hi[3];           /* all others that it may meet on each axis */
  KInst *near_lo[3], *near_hi[3]; /* kind axis: those on its own plane: of a query its centre, of a key all queries
                                     that have it for their centre */
} Sight;

Sight attend_sight(Attention *a, KInst *const at[3]);
/* The interval and centre of a query, whichever side it is on: what attend_on_line asks of. */
Sight attend_window(Attention *a, KInst *const query[3]);
/* Narrows bounds of others to those that are met where the axes before have coordinates `same` (a bool) as the own
 * position; and `same` when this axis has coordinate x. */
void attend_narrow(Attention *a, const Sight *s, int axis, KInst *same, KInst **lo, KInst **hi);
KInst *attend_same(Attention *a, const Sight *s, int axis, KInst *x, KInst *same);
/* Opens loops over the first n axes of what is met, in raster order.  at, lo, hi [3]: their variables and bounds, those
 * of axis n too. */
void attend_visit(Attention *a, const Sight *s, int n, KInst **at, KInst **lo, KInst **hi);
/* One of the three lines through the query's centre holds the key. */
KInst *attend_on_line(Kernel *k, const Sight *window, KInst *const key[3]);
/* The most others that `size` neighbouring own coordinates meet on an axis, at least 1; *sum, or NULL: of all such
 * runs together; bounds [runs][2], or NULL: the first and last of each run, first > last: none. */
int64_t attend_box(const Attention *a, int axis, int64_t size, double *sum, int32_t *bounds);

/* The own grid cut into patches, and the box of others that each meets. */
typedef struct Patches {
  int64_t size[3], count[3];      /* own positions of a patch, patches of the grid */
  int64_t box[3];                 /* the largest box */
  int bounds[3];                  /* table [count][2]: first and last other */
} Patches;

static inline int64_t volume(const int64_t size[3]) { return size[0] * size[1] * size[2]; }
static inline int64_t parts_of(int64_t n, int64_t size) { return (n + size - 1) / size; }
/* Sizes of boxes and counts, once p->size is chosen; then the tables. */
void attend_patches(const Attention *a, Patches *p);
void attend_patch_tables(Attention *a, Patches *p, const char *const name[3]);
/* Items over samples, n axes of own positions in pieces of `size`, and heads. */
void attend_items(Attention *a, int n, const int64_t *grid, const int64_t *size);
/* Sample and head of an item so made, and its piece on each axis, of `count`. */
void attend_open_item(Attention *a, int n, const int64_t *count, KInst **out_piece);

/* The mask lets the key be seen whose index in raster order this is, an i64 with an i32 lane (NULL: one key). NULL: there
 * is no mask. */
KInst *attend_unmasked(Attention *a, KInst *index, KInst *lane);

/* ---- head vectors ---- */

/* Row of a side's tensors for a position of the item's sample, samples included; index: i64, in raster order. */
KInst *attend_row(Attention *a, const Side *s, KInst *index);
/* Index in a grid of a position, and the position of an index. */
KInst *attend_raster(Kernel *k, const int64_t grid[3], KInst *const at[3]);
void attend_coords(Kernel *k, const int64_t grid[3], KInst *index, KInst *at[3]);
/* Offset of the item's head in a row; and in the rows of [.., positions, heads of queries]. */
KInst *attend_base(Attention *a, const Heads *h, KInst *row);
KInst *attend_number_at(Attention *a, KInst *row);
/* That number, of buffer buf. */
KInst *attend_number(Attention *a, int buf, KInst *row);
/* Vector j of the head at base, zeros behind its end; all of a row's; and storing one. */
KInst *attend_vector(Attention *a, const Heads *h, KInst *base, int j);
void attend_load(Attention *a, const Heads *h, KInst *row, KInst **out);
void attend_store(Attention *a, const Heads *h, KInst *row, int j, KInst *value);
/* Copies the head of a row, in f32, to scratch from `to` on; and vectors of scratch. */
void attend_pack(Attention *a, const Heads *h, KInst *row, int scratch, KInst *to);
KInst *attend_scratch(Kernel *k, int scratch, KInst *at);
void attend_put(Kernel *k, int scratch, KInst *at, KInst *vector);

/* ---- arithmetic that nests share ---- */

KInst *attend_scaled(Attention *a, KInst *score);
/* The next term of a product of head vectors of this operand: sum + x y.  Products with dy round each term, as
 * delta = sum(y dy) is made: so that p (dp - delta) is exactly 0 where one key takes all the weight. */
KInst *attend_term(Kernel *k, int operand, KInst *x, KInst *y, KInst *sum);
/* p (dp - delta) */
KInst *attend_ds(Kernel *k, KInst *p, KInst *dp, KInst *delta);
/* x = exp(x - m) for n scores in scratch from `start` on (m NULL: exp(x)). */
void attend_exponentiate(Attention *a, KInst *start, KInst *n, KInst *m);
/* sum = fma(weight, x, sum), a variable. */
void attend_add(Kernel *k, KInst *weight, KInst *x, KInst *sum);
/* What the sum of an operand's weighted others is divided by or scaled with; total: of weights, forward. */
KInst *attend_result(Attention *a, int operand, KInst *sum, KInst *total);

/* Variables of an own position: a head vector of each sum that is asked for; forward, the largest score and the sum
 * of weights. */
typedef struct Sums {
  KInst **of[OPERANDS];
  KInst *largest, *total;
} Sums;

/* Sums from 0. */
void attend_start_sums(Attention *a, Sums *s);
/* Results of a row whose sums are complete; has_keys, forward: the query sees any. */
void attend_finish(Attention *a, const Sums *s, KInst *row, KInst *has_keys);

/* ---- the loop nests ---- */

/* Anywhere: one own position after the other, `positions` of them an item. */
void attend_loops(Attention *a, int positions, int resident);
/* On a CPU, where queries see keys of their own. */
void attend_listed(Attention *a, const AttendParams *p);
/* On a CPU, where many queries see the same keys. */
void attend_tiles(Attention *a, const AttendParams *p);
/* On a GPU, with what is shared in shared memory. */
void attend_blocks(Attention *a, const AttendGpuParams *p);

/* What each takes by default; false: another nest is better.  And which of its parameters are not legal, as
 * NAME_params_refuse of lower.h. */
bool attend_listed_params(Attention *a, const Target *t, AttendParams *out);
bool attend_tiles_params(Attention *a, const Target *t, AttendParams *out);
bool attend_blocks_params(Attention *a, const Target *t, AttendGpuParams *out);
int attend_listed_refuse(Attention *a, const AttendParams *p, Error *err);
int attend_tiles_refuse(Attention *a, const AttendParams *p, Error *err);
int attend_blocks_refuse(Attention *a, const Target *t, const AttendGpuParams *p, Error *err);
#define ATTEND_REFUSE(field, ...) params_refuse(PARAM_AT(AttendParams, field), err, __VA_ARGS__)
#define ATTEND_GPU_REFUSE(field, ...) params_refuse(PARAM_AT(AttendGpuParams, field), err, __VA_ARGS__)

#endif
