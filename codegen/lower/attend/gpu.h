/* What the files of attention's blocks on GPUs share.
 *
 * A block has a patch of own positions of one head.  A group has `tile` of them, neighbours on one axis.  The box of
 * others of the patch goes through shared memory in chunks.  gpu.c plans, gpu_stage.c fills shared memory, gpu_sums.c
 * holds the arithmetic on a chunk, gpu_pass.c the order of it all. */
#ifndef NUWA_LOWER_ATTEND_GPU_H
#define NUWA_LOWER_ATTEND_GPU_H

#include "codegen/lower/attend/attend.h"

enum {
  MAX_TILE = 4,
  MAX_TOGETHER = 2,           /* tensors of others in a slot, vectors of an own position, sums */
  MAX_LANE_QUADS = 4,         /* of a head's sum in a lane */
  PAD = 4                     /* elements after a head: lanes then read others from different banks */
};

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
typedef struct Spread {
  int lanes, at_once, rounds, quads;
} Spread;

/* sum = fma(weight, row of a staged tensor, sum), for every own position. */
typedef struct Sum {
  const Staged *from;
  int list;                   /* which of the group's lists has the weights */
  Spread y;
  KInst *of[MAX_TILE][MAX_LANE_QUADS * QUAD];
} Sum;

typedef struct Block {
  Attention *a;
  Kernel *k;
  bool is_async;
  bool is_streamed;           /* lists hold a chunk, not a whole window */
  int tile, axis;             /* own positions of a group, neighbours on this axis */
  int groups;
  Patches t;
  int slots;
  int64_t chunk[3], steps[3], n_step; /* others of a chunk on each axis; chunks of a box */
  Load load[2];               /* what goes through the slots: all chunks of the first, then all of the second */
  const Heads *kept[MAX_TOGETHER];    /* vectors of own positions */
  int n_kept, n_list;
  int64_t list;               /* others that a list has room for */
  int stage, numbers;         /* scratch: slots of rows, as the tensors store them, and of numbers */
  int vectors;                /* scratch: own vectors in f32, [groups][kept][tile][width] */
  int64_t slot_elems, slot_numbers;
  KInst *box[3][2];           /* lo and hi */
  KInst *lo[3], *hi[3];       /* union of the group's own */
  Own of[MAX_TILE];
} Block;

static inline int64_t padded(const Heads *h) { return (h->width + QUAD - 1) / QUAD * QUAD; }
static inline int64_t slot_pitch(const Heads *h) { return padded(h) + PAD; }

/* ---- staging ---- */

/* Places the parts of e->load in a slot and sets its size, once chunks are chosen. */
void stage_plan(Block *e);
/* First other of a chunk on axis x. */
KInst *stage_first(Block *e, KInst *step, int x);
/* Starts filling the first slot. */
void stage_begin(Block *e);
/* The group's own vectors to scratch; elements of a group, and where a vector is. */
int64_t stage_own_elems(const Block *e);
void stage_own(Block *e);
KInst *stage_own_at(Block *e, int kept, int t);
/* Where a tensor's rows, and its numbers, start in a slot. */
KInst *stage_rows_at(Block *e, const Staged *s, KInst *slot);
KInst *stage_numbers_at(Block *e, const Staged *s, KInst *slot);
typedef void (*ChunkFn)(Block *e, void *ctx, const Part *p, KInst *slot);   /* slot: its number */
/* body for all chunks of load i, in order. */
void stage_each_chunk(Block *e, int i, ChunkFn body, void *ctx);

/* ---- arithmetic on a chunk ---- */

Part part_of(Block *e, KInst *step);
/* 16 others of a part, from entry i on: coordinates, row in a slot (i32, varying), which exist. */
typedef struct Lanes {
  KInst *at[3], *row, *mask;
} Lanes;
Lanes lanes_of(Block *e, const Part *p, KInst *i);
/* Scores of own vectors with the lanes' rows, or products that are rounded, out [tile]: 16 chains, then the tree of
 * tree_add. */
void lane_dots(Block *e, int kept, const Staged *s, KInst *slot, KInst *row, bool rounds, KInst **out);
/* Do own position t and the other at `at` (i32) see each other? NULL: surely, inside its box. */
KInst *own_sees(Block *e, int t, KInst *const at[3]);
/* A number of own position i / lanes + r at_once. */
KInst *lane_own(Block *e, const Spread *y, int r, KInst *const *of_t);
Spread spread_of(const Block *e, const Heads *h);
void sum_start(Block *e, Sum *s, const Staged *from, int list);
KInst *list_at(Block *e, int list);
/* value [tile] to entries i + lane of a list. */
void list_put(Block *e, int list, KInst *i, KInst *const *value, KInst *mask);
/* The others of a part that each own position sees, in raster order; entry of the list where the part starts.  l, or
 * NULL: variables [rounds of the first sum's spread] of the sums of weights. */
void sum_part(Block *e, const Part *p, KInst *slot, KInst *start, Sum *s, int n_sum, const Spread *y,
              KInst *const *l);
/* value [rounds][quads * 4] to a result of own positions. */
void sum_store(Block *e, const Spread *y, const Heads *out, int r, KInst *const *value);

/* ---- the passes ---- */

void pass_forward(Block *e);
void pass_backward(Block *e);

#endif
