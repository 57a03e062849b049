/* Filling shared memory: chunk i of all is in slot i mod slots and on its way when its turn comes; its predecessor's
 * slot is free once all groups have met, and takes its successor. */
#include "codegen/lower/attend/gpu.h"

/* Elements that a lane moves at once. */
static int count_of(const Heads *h) { return h->width % QUAD ? 1 : QUAD; }

static int64_t vectors_to_stage(const Block *e, const Heads *h) {
  return parts_of(volume(e->chunk) * padded(h) / count_of(h), LANES);
}

/* Rows of a slot: what all lanes of the vectors write, also those beyond the last other. */
static int64_t rows_of(const Block *e, const Heads *h) {
  return parts_of(vectors_to_stage(e, h) * LANES, padded(h) / count_of(h));
}

/* Vectors of a chunk's numbers. */
static int64_t numbers_to_stage(const Block *e, int operand) {
  return has_numbers(e->a, operand) ? parts_of(volume(e->chunk), LANES) : 0;
}

void stage_plan(Block *e) {
  e->slot_elems = e->slot_numbers = 0;
  for (int i = 0; i < LOADS; i++) {
    int64_t at = 0, numbers = 0;
    for (int operand = X; operand <= Y; operand++) {
      const Heads *h = &e->a->other->of[operand];
      if (!e->loads[i][operand]) continue;
      e->rows_at[operand] = at;
      e->numbers_at[operand] = numbers;
      at += rows_of(e, h) * slot_pitch(h);
      numbers += numbers_to_stage(e, operand) * LANES;
    }
    if (at > e->slot_elems) e->slot_elems = at;
    if (numbers > e->slot_numbers) e->slot_numbers = numbers;
  }
}

KInst *stage_rows_at(Block *e, int operand, KInst *slot) {
  return plus(e->k, times(e->k, slot, e->slot_elems), e->rows_at[operand]);
}

KInst *stage_numbers_at(Block *e, int operand, KInst *slot) {
  return plus(e->k, times(e->k, slot, e->slot_numbers), e->numbers_at[operand]);
}

KInst *stage_first(Block *e, KInst *step, int x) {
  Kernel *k = e->k;
  int64_t inner = 1;
  for (int i = x + 1; i < 3; i++) inner *= e->steps[i];
  KInst *i = remainder_of(k, quotient(k, to_i32(k, step), inner), e->steps[x]);
  return add(k, e->box[x][0], times(k, i, e->chunk[x]));
}

/* The raster index of a chunk's row in the others' grid, and whether it is one of the box. */
static KInst *place_of(Block *e, KInst *const first[3], KInst *row, KInst **out_mask) {
  Kernel *k = e->k;
  KInst *rest = row, *place = num32(k, 0), *mask = NULL;
  int64_t grid = 1;
  for (int x = 2; x >= 0; x--) {
    KInst *at = x ? remainder_of(k, rest, e->chunk[x]) : rest;
    rest = quotient(k, rest, e->chunk[x]);
    KInst *in = kir_bin(k, KOP_LE, at, sub(k, e->box[x][1], first[x]));
    if (!x) in = both(k, in, below(k, at, num32(k, e->chunk[0])));
    mask = mask ? both(k, mask, in) : in;
    place = add(k, place, times(k, add(k, at, first[x]), grid));
    grid *= e->a->other->grid[x];
  }
  *out_mask = mask;
  return place;
}

/* The item's first row of the others' tensors. */
static KInst *first_row(Block *e) { return times(e->k, e->a->sample, e->a->other->n); }

/* The group's lane of vector `vector` of all that are moved. */
static KInst *piece_of(Block *e, KInst *vector) {
  return add(e->k, times(e->k, to_i32(e->k, vector), LANES), kir_lane(e->k));
}

static void stage_heads(Block *e, int operand, KInst *const first[3], KInst *slot, KInst *vector) {
  Kernel *k = e->k;
  const Heads *h = &e->a->other->of[operand];
  int count = count_of(h);
  int64_t wide = padded(h) / count;
  KInst *piece = piece_of(e, vector), *mask;
  KInst *row = quotient(k, piece, wide), *place = place_of(e, first, row, &mask);
  KInst *col = times(k, remainder_of(k, piece, wide), count);
  if (h->width % QUAD) mask = both(k, mask, below(k, col, num32(k, h->width)));
  KInst *sample = attend_base(e->a, h, first_row(e)), *from = add(k, times(k, place, h->row), col);
  KInst *to = stage_rows_at(e, operand, slot), *lane = add(k, times(k, row, slot_pitch(h)), col);
  lower_move(e->k, e->is_async, (KPlace){e->stage, to, lane}, (KPlace){h->buf, sample, from}, count, mask);
}

/* The numbers of 16 others. */
static void stage_numbers(Block *e, int operand, KInst *const first[3], KInst *slot, KInst *vector) {
  Kernel *k = e->k;
  KInst *row = piece_of(e, vector), *mask, *place = place_of(e, first, row, &mask);
  KInst *sample = attend_number_at(e->a, first_row(e)), *from = times(k, place, e->a->attrs->heads);
  KInst *to = stage_numbers_at(e, operand, slot);
  lower_move(e->k, e->is_async, (KPlace){e->numbers, to, row}, (KPlace){e->a->number[operand], sample, from}, 1, mask);
}

static void stage_chunk(Block *e, int load, KInst *step, KInst *slot) {
  Kernel *k = e->k;
  KInst *first[3];
  for (int x = 0; x < 3; x++) first[x] = stage_first(e, step, x);
  for (int i = X; i <= Y; i++) {
    if (!e->loads[load][i]) continue;
    KInst *group = to_i64(k, kir_group(k));
    KInst *v = kir_for(k, group, num(k, vectors_to_stage(e, &e->a->other->of[i])), k->groups, 0);
    stage_heads(e, i, first, slot, v);
    kir_end(k);
    if (!has_numbers(e->a, i)) continue;
    v = kir_for(k, group, num(k, numbers_to_stage(e, i)), k->groups, 0);
    stage_numbers(e, i, first, slot, v);
    kir_end(k);
  }
}

void stage_begin(Block *e) {
  stage_chunk(e, 0, num(e->k, 0), num(e->k, 0));
  if (e->is_async) kir_commit(e->k);
}

static bool is_load(const Block *e, int i) { return i < LOADS && (e->loads[i][X] || e->loads[i][Y]); }

/* The chunk whose turn comes after this one. */
static void stage_next(Block *e, int i, KInst *step, KInst *turn) {
  Kernel *k = e->k;
  bool single = e->n_step == 1, follows = is_load(e, i + 1);
  KInst *next = plus(k, step, 1), *slot = remainder_of(k, plus(k, turn, 1), e->slots);
  if (!single) {
    kir_barrier(k);
    kir_if(k, below(k, next, num(k, e->n_step)));
    stage_chunk(e, i, next, slot);
    if (follows) kir_else(k);
  }
  if (follows) stage_chunk(e, i + 1, num(k, 0), slot);
  if (!single) kir_end(k);
  if (e->is_async) {
    kir_commit(k);
    kir_wait(k, 1);
  }
  kir_barrier(k);
}

void stage_each_chunk(Block *e, int i, ChunkFn body) {
  Kernel *k = e->k;
  bool single = e->n_step == 1;
  KInst *step = single ? num(k, 0) : kir_for(k, num(k, 0), num(k, e->n_step), 1, 0);
  KInst *turn = plus(k, step, i * e->n_step);
  if (is_load(e, i)) stage_next(e, i, step, turn);
  body(e, step, remainder_of(k, turn, e->slots));
  if (!single) kir_end(k);
}

/* ---- own positions ---- */

static int64_t own_elems(const Block *e, int operands) {
  int64_t all = 0;
  for (int i = X; i < operands; i++)
    if (keeps(e->a, i)) all += e->tile * pitch_of(&e->a->own->of[i]);
  return all;
}

int64_t stage_own_elems(const Block *e) { return own_elems(e, OPERANDS); }

KInst *stage_own_at(Block *e, int operand, int t) {
  KInst *group = to_i64(e->k, times(e->k, kir_group(e->k), stage_own_elems(e)));
  return plus(e->k, group, own_elems(e, operand) + t * pitch_of(&e->a->own->of[operand]));
}

void stage_own(Block *e) {
  Attention *a = e->a;
  for (int i = X; i <= Y && keeps(a, i); i++)
    for (int t = 0; t < e->tile; t++) {
      KInst *row = attend_row(a, a->own, to_i64(e->k, e->of[t].index));
      attend_pack(a, &a->own->of[i], row, e->vectors, stage_own_at(e, i, t));
    }
  kir_sync(e->k);
}
