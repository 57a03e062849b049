/* What the files of attention's blocks on GPUs share.
 *
 * A block has a patch of positions of one head, its *own*: queries, or keys where their gradients are made.  A group
 * has `tile` of them, neighbours on one axis.  *Others* are what they see or what sees them; the box of others of the
 * patch goes through shared memory in chunks.  lower_attend_gpu.c plans, lower_attend_gpu_stage.c fills shared
 * memory, lower_attend_gpu_sums.c holds the arithmetic on a chunk, lower_attend_gpu_pass.c the order of it all. */
#ifndef NUWA_LOWER_ATTEND_GPU_H
#define NUWA_LOWER_ATTEND_GPU_H

#include "codegen/lower/attend/attend.h"

enum {
  MAX_TILE = 4,
  MAX_TOGETHER = 2,           /* tensors of others in a slot, vectors of an own position, sums */
  MAX_LANE_QUADS = 4,         /* of a head's sum in a lane */
  PAD = 4                     /* elements after a head: lanes then read others from different banks */
};

/* The grid of own positions cut into patches, and the box of others of each. */
typedef struct Tiling {
  int patch[3];
  int64_t tiles[3], box[3];   /* of the grid; the largest box */
  int32_t *bounds[3];         /* [tiles][2]: lo, hi; lo > hi: nothing is seen */
} Tiling;

/* One of the group's positions, numbers in i32; those beyond the grid repeat its last one. */
typedef struct Own {
  KInst *at[3], *index;
  KInst *exists;
  KInst *lo[3], *hi[3];           /* others that loops may visit */
  KInst *near_lo[3], *near_hi[3]; /* of kind axis: others on the same line, the query's centre or the key's queries */
  Window w;                       /* of a query */
} Own;

/* A tensor of others as it stands in a slot: a row of padded width for each; and a number for each of them. */
typedef struct Staged {
  const Heads *h;
  int number;                 /* buffer [.., positions, heads] or -1 */
  int64_t at;                 /* elements from the start of the slot */
  int64_t numbers_at;         /* likewise, of its numbers */
} Staged;

typedef struct Load {
  Staged part[MAX_TOGETHER];
  int n;
} Load;

/* The part of a box of others that is in a chunk; i32. */
typedef struct Part {
  KInst *first[3];            /* of the chunk */
  KInst *lo[3], *hi[3], *n[3], *count;
  KInst *inverse[3];          /* 1 / n, f32 */
} Part;

/* How sums over others lie in lanes: a lane holds elements 4 (i mod lanes) + 64 j .. + 3 of a head, for the own
 * positions i / lanes + r at_once, r < rounds. */
typedef struct Layout {
  int lanes, at_once, rounds, quads;
} Layout;

/* sum = fma(weight, row of a staged tensor, sum), for every own position. */
typedef struct Sum {
  const Staged *from;
  int list;                   /* which of the group's lists has the weights */
  Layout y;
  KInst *of[MAX_TILE][MAX_LANE_QUADS * QUAD];
} Sum;

typedef struct Tile {
  Attend *a;
  Lower *l;
  Kernel *k;
  bool is_async, for_keys;
  bool is_streamed;           /* lists hold a chunk, not a whole window */
  int tile, axis;             /* own positions of a group, neighbours on this axis */
  int cut;                    /* causal, in raster order: the first axis of several positions; else -1 */
  int64_t own[3], other[3];   /* grids */
  Tiling t;
  int slots;
  int chunk[3], steps[3], n_step;     /* others of a chunk on each axis; chunks of a box */
  Load load[2];               /* what goes through the slots: all chunks of the first, then all of the second */
  const Heads *kept[MAX_TOGETHER];    /* vectors of own positions */
  int n_kept, n_list;
  int64_t list;               /* others that a list has room for */
  int table[3];               /* bounds */
  int stage, numbers;         /* scratch: slots of rows, as the tensors store them, and of numbers */
  int vectors;                /* scratch: own vectors in f32, [groups][kept][tile][width] */
  int64_t slot_elems, slot_numbers;
  KInst *box[3][2];           /* lo and hi */
  KInst *lo[3], *hi[3];       /* union of the group's own */
  Own of[MAX_TILE];
} Tile;

static inline KInst *num32(Tile *e, int64_t x) { return kir_i32(e->k, (int32_t)x); }
static inline KInst *to_i32(Tile *e, KInst *x) { return kir_un(e->k, KOP_TO_I32, x); }
static inline KInst *to_i64(Tile *e, KInst *x) { return kir_un(e->k, KOP_TO_I64, x); }
static inline KInst *plus(Tile *e, KInst *x, KInst *y) { return kir_bin(e->k, KOP_ADD, x, y); }
static inline KInst *minus(Tile *e, KInst *x, KInst *y) { return kir_bin(e->k, KOP_SUB, x, y); }
static inline KInst *least(Tile *e, KInst *x, KInst *y) { return kir_bin(e->k, KOP_MIN, x, y); }
static inline KInst *most(Tile *e, KInst *x, KInst *y) { return kir_bin(e->k, KOP_MAX, x, y); }
static inline KInst *times(Tile *e, KInst *x, int64_t c) {
  return kir_bin(e->k, KOP_MUL, x, x->type == K_I64 ? kir_i64(e->k, c) : num32(e, c));
}

static inline int64_t padded(const Heads *h) { return (h->width + QUAD - 1) / QUAD * QUAD; }
static inline int64_t pitch(const Heads *h) { return padded(h) + PAD; }
static inline int chunk_others(const Tile *e) { return e->chunk[0] * e->chunk[1] * e->chunk[2]; }

/* ---- staging ---- */

/* Places the parts of e->load in a slot and sets its size, once chunks are chosen. */
void stage_plan(Tile *e);
/* First other of a chunk on axis x. */
KInst *stage_first(Tile *e, KInst *step, int x);
/* Starts filling the first slot. */
void stage_begin(Tile *e);
/* The group's own vectors to scratch. */
void stage_own(Tile *e);
KInst *stage_own_at(Tile *e, int kept, int t);
/* Where a tensor's rows, and its numbers, start in a slot. */
KInst *stage_rows_at(Tile *e, const Staged *s, KInst *slot);
KInst *stage_numbers_at(Tile *e, const Staged *s, KInst *slot);
typedef void (*ChunkFn)(Tile *e, void *ctx, const Part *p, KInst *slot);   /* slot: its number */
/* body for all chunks of load i, in order. */
void stage_each_chunk(Tile *e, int i, ChunkFn body, void *ctx);

/* ---- arithmetic on a chunk ---- */

Part part_of(Tile *e, KInst *step);
/* 16 others of a part, from entry i on: coordinates, row in a slot (i32, varying), which exist. */
typedef struct Lanes {
  KInst *at[3], *row, *mask;
} Lanes;
Lanes lanes_of(Tile *e, const Part *p, KInst *i);
/* Products of own vectors with the lanes' rows, out [tile]: 16 chains, then the tree of tree_add.  is_rounded: each
 * product rounded, see lower_attend.c. */
void lane_dots(Tile *e, int kept, const Staged *s, KInst *slot, KInst *row, bool is_rounded, KInst **out);
/* Do own position t and the other at `at` (i32) see each other? NULL: surely, inside its box. */
KInst *own_sees(Tile *e, int t, KInst *const at[3]);
/* A number of own position i / lanes + r at_once. */
KInst *lane_own(Tile *e, const Layout *y, int r, KInst *const *of_t);
Layout layout_of(const Tile *e, const Heads *h);
void sum_start(Tile *e, Sum *s, const Staged *from, int list);
KInst *list_at(Tile *e, int list);
/* value [tile] to entries i + lane of a list. */
void list_put(Tile *e, int list, KInst *i, KInst *const *value, KInst *mask);
/* The others of a part that each own position sees, in raster order; entry of the list where the part starts.  l, or
 * NULL: variables [rounds of the first sum's layout] of the sums of weights. */
void sum_part(Tile *e, const Part *p, KInst *slot, KInst *start, Sum *s, int n_sum, const Layout *y, KInst *const *l);
/* value [rounds][quads * 4] to a result of own positions. */
void sum_store(Tile *e, const Layout *y, const Heads *out, int r, KInst *const *value);

/* ---- the passes ---- */

void pass_forward(Tile *e);
void pass_backward(Tile *e);

#endif
