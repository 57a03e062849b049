/* What the files of attention's blocks on GPUs share.
 *
 * A block has a patch of own positions of one head.  A group has `tile` of them, neighbours on one axis.  The box of
 * others of the patch goes through shared memory in chunks.  gpu.c plans, gpu_stage.c fills shared memory, gpu_pass.c
 * says what is done with a chunk. */
#ifndef NUWA_LOWER_ATTEND_GPU_H
#define NUWA_LOWER_ATTEND_GPU_H

#include "codegen/lower/attend/attend.h"

enum {
  MAX_TILE = 4,
  MAX_LANE_QUADS = 4,         /* of a head's sum in a lane */
  PAD = 4,                    /* elements after a head: lanes then read others from different banks */
  LOADS = 2
};

/* One of the group's positions, numbers in i32; those beyond the grid repeat its last one. */
typedef struct Own {
  Sight sight, window;            /* window: of a query, kind axis */
  KInst *index;                   /* in raster order */
  KInst *exists;
  KInst *unmasked;                /* of a key; NULL: surely */
} Own;

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

typedef struct Block {
  Attention *a;
  Kernel *k;
  bool is_async;
  bool is_streamed;           /* lists hold a chunk, not a whole window */
  int tile, axis;             /* own positions of a group, neighbours on this axis */
  int groups;
  Patches t;
  bool loads[LOADS][OPERANDS];/* operands of others that go through the slots: of all chunks, then of all again */
  int64_t chunk[3], steps[3], n_step; /* others of a chunk on each axis; chunks of a box */
  int slots;
  int64_t slot_elems, slot_numbers;
  int64_t rows_at[OPERANDS];  /* where in a slot an operand's rows start, of padded width */
  int64_t numbers_at[OPERANDS];   /* likewise its numbers, lse or delta of others */
  int64_t list;               /* others that a list has room for */
  int stage, numbers;         /* scratch: slots of rows, as the tensors store them, and of numbers */
  int vectors;                /* scratch: own vectors in f32, [groups][operands][tile][width] */
  KInst *box[3][2];           /* lo and hi */
  KInst *lo[3], *hi[3];       /* union of the group's own */
  Own of[MAX_TILE];
  /* as passes go */
  KInst *number[OPERANDS][MAX_TILE];  /* of own queries: the largest score or lse, and delta */
  KInst *total[MAX_TILE];     /* variables, by rounds: sums of weights */
  Spread of_total, of_sum[OPERANDS];
  KInst *sum[OPERANDS][MAX_TILE][MAX_LANE_QUADS * QUAD];  /* variables, by rounds: sums of weighted others */
} Block;

static inline int64_t padded(const Heads *h) { return (h->width + QUAD - 1) / QUAD * QUAD; }
static inline int64_t slot_pitch(const Heads *h) { return padded(h) + PAD; }
/* Whether products need an own operand; whether others have numbers that are staged with it. */
static inline bool keeps(const Attention *a, int operand) { return operand == X || a->has[X]; }
static inline bool has_numbers(const Attention *a, int operand) { return a->for_keys && keeps(a, operand); }
/* Lists of weights, and which an operand's others are multiplied with. */
static inline int lists_of(const Attention *a) { return a->has[X] && a->has[Y] ? 2 : 1; }
static inline int list_of(const Attention *a, int operand) { return operand == X && a->has[Y]; }

/* ---- staging ---- */

/* Places operands in a slot and sets its size, once chunks are chosen. */
void stage_plan(Block *e);
/* First other of a chunk on axis x. */
KInst *stage_first(Block *e, KInst *step, int x);
/* Starts filling the first slot. */
void stage_begin(Block *e);
/* The group's own vectors to scratch; elements of a group, and where a vector is. */
int64_t stage_own_elems(const Block *e);
void stage_own(Block *e);
KInst *stage_own_at(Block *e, int operand, int t);
/* Where an operand's rows, and its numbers, start in a slot. */
KInst *stage_rows_at(Block *e, int operand, KInst *slot);
KInst *stage_numbers_at(Block *e, int operand, KInst *slot);
typedef void (*ChunkFn)(Block *e, KInst *step, KInst *slot);   /* their numbers */
/* body for all chunks of load i, in order. */
void stage_each_chunk(Block *e, int i, ChunkFn body);

/* Everything from the first chunk to the results. */
void pass_all(Block *e);

#endif
