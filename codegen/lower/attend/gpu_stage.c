/* Filling shared memory: chunk i of all is in slot i mod slots and on its way when its turn comes; its predecessor's
 * slot is free once all groups have met, and takes its successor. */
#include "codegen/lower/attend/gpu.h"

/* Elements that a lane moves at once. */
static int count_of(const Heads *h) { return h->width % QUAD ? 1 : QUAD; }

/* Copies move 4 bytes at least. */
static bool is_copied(const Tile *e, int buf, int count) {
  return e->is_async && count * (int64_t)dtype_bytes(e->k->buf[buf].dtype) >= 4;
}

static int64_t vectors_to_stage(const Tile *e, const Heads *h) {
  return (chunk_others(e) * padded(h) / count_of(h) + LANES - 1) / LANES;
}

/* Rows of a slot: what all lanes of the vectors write, also those beyond the last other. */
static int64_t rows_of(const Tile *e, const Staged *s) {
  int64_t wide = padded(s->h) / count_of(s->h);
  return (vectors_to_stage(e, s->h) * LANES + wide - 1) / wide;
}

static int64_t numbers_of(const Tile *e, const Staged *s) {
  return s->number < 0 ? 0 : (chunk_others(e) + LANES - 1) / LANES * LANES;
}

void stage_plan(Tile *e) {
  e->slot_elems = e->slot_numbers = 0;
  for (int i = 0; i < COUNT_OF(e->load); i++) {
    int64_t at = 0, numbers = 0;
    for (int j = 0; j < e->load[i].n; j++) {
      Staged *s = &e->load[i].part[j];
      s->at = at;
      s->numbers_at = numbers;
      at += rows_of(e, s) * pitch(s->h);
      numbers += numbers_of(e, s);
    }
    if (at > e->slot_elems) e->slot_elems = at;
    if (numbers > e->slot_numbers) e->slot_numbers = numbers;
  }
}

KInst *stage_rows_at(Tile *e, const Staged *s, KInst *slot) {
  return plus(e, times(e, slot, e->slot_elems), num(e->a, s->at));
}

KInst *stage_numbers_at(Tile *e, const Staged *s, KInst *slot) {
  return plus(e, times(e, slot, e->slot_numbers), num(e->a, s->numbers_at));
}

KInst *stage_first(Tile *e, KInst *step, int x) {
  Attend *a = e->a;
  int64_t inner = 1;
  for (int i = x + 1; i < 3; i++) inner *= e->steps[i];
  KInst *i = bin(a, KOP_MOD, bin(a, KOP_DIV, to_i32(e, step), num32(e, inner)), num32(e, e->steps[x]));
  return plus(e, e->box[x][0], times(e, i, e->chunk[x]));
}

/* The raster index of a chunk's row in the others' grid, and whether it is one of the box. */
static KInst *place_of(Tile *e, KInst *const first[3], KInst *row, KInst **out_mask) {
  Attend *a = e->a;
  KInst *rest = row, *place = num32(e, 0), *mask = NULL;
  int64_t grid = 1;
  for (int x = 2; x >= 0; x--) {
    KInst *at = x ? bin(a, KOP_MOD, rest, num32(e, e->chunk[x])) : rest;
    rest = bin(a, KOP_DIV, rest, num32(e, e->chunk[x]));
    KInst *in = bin(a, KOP_LE, at, minus(e, e->box[x][1], first[x]));
    if (!x) in = both(a, in, bin(a, KOP_LT, at, num32(e, e->chunk[0])));
    mask = mask ? both(a, mask, in) : in;
    place = plus(e, place, times(e, plus(e, at, first[x]), grid));
    grid *= e->other[x];
  }
  *out_mask = mask;
  return place;
}

static void move(Tile *e, KPlace to, KPlace from, int count, KInst *mask) {
  Kernel *k = e->k;
  if (is_copied(e, from.buf, count)) {
    kir_copy(k, to, from, count, mask);
  } else if (count == 1) {
    kir_store(k, to.buf, to.base, to.lane_offset, kir_load(k, from.buf, from.base, from.lane_offset, mask), NULL);
  } else {
    KInst *part[QUAD], *quad = kir_load4(k, from.buf, from.base, from.lane_offset, mask);
    for (int j = 0; j < QUAD; j++) part[j] = kir_part(k, quad, j);
    kir_store4(k, to.buf, to.base, to.lane_offset, part, NULL);
  }
}

static void stage_heads(Tile *e, const Staged *s, KInst *const first[3], KInst *slot, KInst *vector) {
  Attend *a = e->a;
  const Heads *h = s->h;
  int count = count_of(h);
  int64_t wide = padded(h) / count;
  KInst *piece = plus(e, times(e, to_i32(e, vector), LANES), kir_lane(e->k)), *mask;
  KInst *row = bin(a, KOP_DIV, piece, num32(e, wide)), *place = place_of(e, first, row, &mask);
  KInst *col = times(e, bin(a, KOP_MOD, piece, num32(e, wide)), count);
  if (h->width % QUAD) mask = both(a, mask, bin(a, KOP_LT, col, num32(e, h->width)));
  KInst *sample = attend_base(a, h, times(e, a->sample, positions_of(e->other)));
  move(e, (KPlace){e->stage, stage_rows_at(e, s, slot), plus(e, times(e, row, pitch(h)), col)},
       (KPlace){h->buf, sample, plus(e, times(e, place, h->row), col)}, count, mask);
}

/* The numbers of 16 others. */
static void stage_numbers(Tile *e, const Staged *s, KInst *const first[3], KInst *slot, KInst *vector) {
  Attend *a = e->a;
  KInst *row = plus(e, times(e, to_i32(e, vector), LANES), kir_lane(e->k)), *mask;
  KInst *place = place_of(e, first, row, &mask);
  KInst *sample = plus(e, times(e, times(e, a->sample, positions_of(e->other)), a->attrs->heads), a->head);
  move(e, (KPlace){e->numbers, stage_numbers_at(e, s, slot), row},
       (KPlace){s->number, sample, times(e, place, a->attrs->heads)}, 1, mask);
}

static void stage_chunk(Tile *e, const Load *load, KInst *step, KInst *slot) {
  Kernel *k = e->k;
  KInst *first[3];
  for (int x = 0; x < 3; x++) first[x] = stage_first(e, step, x);
  for (int i = 0; i < load->n; i++) {
    const Staged *s = &load->part[i];
    KInst *group = to_i64(e, kir_group(k));
    KInst *v = kir_for(k, group, kir_i64(k, vectors_to_stage(e, s->h)), k->groups, 0);
    stage_heads(e, s, first, slot, v);
    kir_end(k);
    if (s->number < 0) continue;
    v = kir_for(k, group, kir_i64(k, (chunk_others(e) + LANES - 1) / LANES), k->groups, 0);
    stage_numbers(e, s, first, slot, v);
    kir_end(k);
  }
}

void stage_begin(Tile *e) {
  stage_chunk(e, &e->load[0], num(e->a, 0), num(e->a, 0));
  if (e->is_async) kir_commit(e->k);
}

static KInst *slot_of(Tile *e, KInst *turn) { return bin(e->a, KOP_MOD, turn, num(e->a, e->slots)); }

/* The chunk whose turn comes after this one. */
static void stage_next(Tile *e, int i, KInst *step, KInst *turn) {
  Attend *a = e->a;
  Kernel *k = e->k;
  bool single = e->n_step == 1, follows = i + 1 < COUNT_OF(e->load) && e->load[i + 1].n;
  KInst *next = plus(e, step, num(a, 1)), *slot = slot_of(e, plus(e, turn, num(a, 1)));
  if (!single) {
    kir_barrier(k);
    kir_if(k, bin(a, KOP_LT, next, num(a, e->n_step)));
    stage_chunk(e, &e->load[i], next, slot);
    if (follows) kir_else(k);
  }
  if (follows) stage_chunk(e, &e->load[i + 1], num(a, 0), slot);
  if (!single) kir_end(k);
  if (e->is_async) {
    kir_commit(k);
    kir_wait(k, 1);
  }
  kir_barrier(k);
}

void stage_each_chunk(Tile *e, int i, ChunkFn body, void *ctx) {
  Attend *a = e->a;
  Kernel *k = e->k;
  bool single = e->n_step == 1;
  KInst *step = single ? num(a, 0) : kir_for(k, num(a, 0), num(a, e->n_step), 1, 0);
  KInst *turn = plus(e, step, num(a, (int64_t)i * e->n_step));
  if (e->load[i].n) stage_next(e, i, step, turn);
  Part p = part_of(e, step);
  body(e, ctx, &p, slot_of(e, turn));
  if (!single) kir_end(k);
}

/* ---- own positions ---- */

static int64_t kept_elems(const Tile *e, int kept) { return (int64_t)e->tile * vectors_of(e->kept[kept]) * LANES; }

KInst *stage_own_at(Tile *e, int kept, int t) {
  int64_t before = 0, all = 0;
  for (int i = 0; i < e->n_kept; i++) {
    if (i < kept) before += kept_elems(e, i);
    all += kept_elems(e, i);
  }
  before += (int64_t)t * vectors_of(e->kept[kept]) * LANES;
  return plus(e, to_i64(e, times(e, kir_group(e->k), all)), num(e->a, before));
}

void stage_own(Tile *e) {
  Attend *a = e->a;
  KInst *sample = times(e, a->sample, positions_of(e->own)), *v[MAX_HEAD_VECTORS];
  for (int i = 0; i < e->n_kept; i++)
    for (int t = 0; t < e->tile; t++) {
      attend_load(a, e->kept[i], plus(e, sample, to_i64(e, e->of[t].index)), v);
      for (int j = 0; j < vectors_of(e->kept[i]); j++)
        kir_store(e->k, e->vectors, plus(e, stage_own_at(e, i, t), num(a, (int64_t)j * LANES)), kir_lane(e->k), v[j],
                  NULL);
    }
  kir_sync(e->k);
}
