/* The order in which the positions of one request run, and the ring slots they occupy.
 *
 * Wave 0 holds the positions that depend on given tokens only; then follow the waves of the schedule.  A position
 * keeps its slot from its own wave to the last wave with a query that sees it. */
#include <string.h>

#include "runtime/order.h"

static void allocate(void *ctx) {
  DecodeOrder *o = ctx;
  int32_t **array[] = {&o->position, &o->wave_begin, &o->wave_of, &o->last_wave, &o->slot, &o->free_slot, &o->dying};
  int64_t most = 0;
  o->extent = ARENA_ARRAY(o->arena, Extent **, o->n_decode);
  for (int i = 0; i < o->n_decode; i++) {
    const PlanDecode *d = &o->decode[i];
    int64_t positions = plan_positions(d);
    if (positions > most) most = positions;
    o->extent[i] = ARENA_ARRAY(o->arena, Extent *, d->n_attend);
    for (int k = 0; k < d->n_attend; k++) o->extent[i][k] = extent_new(o->arena, &d->attend[k]);
  }
  for (int i = 0; i < COUNT_OF(array); i++) *array[i] = ARENA_ARRAY(o->arena, int32_t, most + 1);
}

bool order_init(DecodeOrder *o, const PlanDecode *decode, int n_decode, Error *err) {
  *o = (DecodeOrder){.arena = arena_new(), .decode = decode, .n_decode = n_decode};
  if (!o->arena) return error_set(err, ERROR_MEMORY, "out of memory for the order of decoding");
  if (arena_protect(o->arena, allocate, o, err)) return true;
  order_done(o);
  return error_prefix(err, "the order of decoding");
}

void order_done(DecodeOrder *o) {
  arena_free(o->arena);
  *o = (DecodeOrder){0};
}

static void coords_of(const int64_t grid[3], int64_t p, int64_t at[3]) {
  at[2] = p % grid[2];
  at[1] = p / grid[2] % grid[1];
  at[0] = p / (grid[2] * grid[1]);
}

static int64_t raster_of(const int64_t grid[3], const int64_t at[3]) {
  return (at[0] * grid[1] + at[1]) * grid[2] + at[2];
}

/* ---- wave 0 ---- */

static bool stencil_is_given(const PlanDecode *d, const uint8_t *given, int64_t p) {
  int64_t at[3];
  coords_of(d->grid, p, at);
  for (int i = 0; i < d->n_stencil; i++) {
    const PlanStencil *s = &d->stencil[i];
    if (s->raster) {
      if (p > 0 && !given[p - 1]) return false;
      continue;
    }
    int64_t from[3];
    bool inside = true;
    for (int x = 0; x < 3; x++) {
      inside &= s->delta[x] >= -at[x] && s->delta[x] < d->grid[x] - at[x];
      from[x] = inside ? at[x] + s->delta[x] : 0;
    }
    if (inside && !given[raster_of(d->grid, from)]) return false;
  }
  return true;
}

typedef struct FirstWave {
  const int32_t *wave_of;
  int64_t query;
} FirstWave;

static bool is_in_first_wave(void *ctx, int64_t key) {
  const FirstWave *f = ctx;
  return key == f->query || f->wave_of[key] == 0;
}

static bool can_run_first(const DecodeOrder *o, int decode, const uint8_t *given, int64_t p) {
  const PlanDecode *d = &o->decode[decode];
  if (!stencil_is_given(d, given, p)) return false;
  FirstWave ctx = {o->wave_of, p};
  int64_t at[3];
  coords_of(d->grid, p, at);
  for (int i = 0; i < d->n_attend; i++)
    if (!extent_visit(o->extent[decode][i], at, is_in_first_wave, &ctx)) return false;
  return true;
}

/* ---- waves ---- */

static int64_t schedule_time(const int64_t a[3], const int64_t grid[3], int64_t p) {
  int64_t at[3];
  coords_of(grid, p, at);
  return a[0] * at[0] + a[1] * at[1] + a[2] * at[2];
}

/* Stable counting sort of the positions by key[p] in [0, keys): fills out with positions, begin with keys + 1 bounds.
 */
static void sort_positions(int32_t *out, int32_t *begin, const int32_t *key, int64_t positions, int64_t keys) {
  memset(begin, 0, sizeof *begin * (size_t)(keys + 1));
  for (int64_t p = 0; p < positions; p++) begin[key[p]]++;
  int32_t sum = 0;
  for (int64_t k = 0; k <= keys; k++) {
    int32_t count = begin[k];
    begin[k] = sum;
    sum += count;
  }
  for (int64_t p = 0; p < positions; p++) out[begin[key[p]]++] = (int32_t)p;
  for (int64_t k = keys; k > 0; k--) begin[k] = begin[k - 1];
  begin[0] = 0;
}

/* Renumbers wave_of so that waves are dense, in order of time; unset (-1) positions get theirs from the schedule. */
static void number_waves(DecodeOrder *o, const PlanDecode *d, const int64_t schedule[3], int64_t first) {
  int64_t N = o->positions;
  for (int64_t p = 0; p < N; p++) o->position[p] = (int32_t)p;
  /* Times can exceed the number of positions (an axis may be skipped), so sort by comparison: shell sort, no memory.
   */
  for (int64_t gap = N / 2; gap > 0; gap /= 2)
    for (int64_t i = gap; i < N; i++) {
      int32_t p = o->position[i];
      int64_t t = schedule_time(schedule, d->grid, p), k = i;
      for (; k >= gap; k -= gap) {
        int32_t q = o->position[k - gap];
        int64_t u = schedule_time(schedule, d->grid, q);
        if (u < t || (u == t && q < p)) break;
        o->position[k] = q;
      }
      o->position[k] = p;
    }
  int64_t wave = first - 1, last_time = -1;
  for (int64_t i = 0; i < N; i++) {
    int32_t p = o->position[i];
    if (o->wave_of[p] == 0) continue;
    int64_t t = schedule_time(schedule, d->grid, p);
    if (t != last_time) wave++, last_time = t;
    o->wave_of[p] = (int32_t)wave;
  }
  o->n_wave = wave + 1;
}

typedef struct LastUse {
  int32_t *last_wave;
  int32_t wave;
} LastUse;

static bool extend_life(void *ctx, int64_t key) {
  const LastUse *u = ctx;
  if (u->last_wave[key] < u->wave) u->last_wave[key] = u->wave;
  return true;
}

static void find_lives(DecodeOrder *o, int decode) {
  const PlanDecode *d = &o->decode[decode];
  memcpy(o->last_wave, o->wave_of, sizeof *o->last_wave * (size_t)o->positions);
  for (int i = 0; i < d->n_attend; i++)
    for (int64_t p = 0; p < o->positions; p++) {
      LastUse ctx = {o->last_wave, o->wave_of[p]};
      int64_t at[3];
      coords_of(d->grid, p, at);
      extent_visit(o->extent[decode][i], at, extend_life, &ctx);
    }
}

static void count_slots(DecodeOrder *o) {
  int64_t live = 0, dead = 0;
  o->slots = o->rows = 0;
  for (int64_t w = 0; w < o->n_wave; w++) {
    int64_t rows = o->wave_begin[w + 1] - o->wave_begin[w];
    live += rows;
    if (rows > o->rows) o->rows = rows;
    if (live > o->slots) o->slots = live;
    for (; dead < o->positions && o->last_wave[o->dying[dead]] == w; dead++) live--;
  }
}

static void reset_slots(DecodeOrder *o) {
  for (int64_t p = 0; p < o->positions; p++) o->slot[p] = -1;
  o->n_free = o->next_slot = o->dead = 0;
}

void order_take_slots(DecodeOrder *o, int64_t wave) {
  for (int32_t i = o->wave_begin[wave]; i < o->wave_begin[wave + 1]; i++)
    o->slot[o->position[i]] = o->n_free ? o->free_slot[--o->n_free] : (int32_t)o->next_slot++;
}

void order_release_slots(DecodeOrder *o, int64_t wave) {
  for (; o->dead < o->positions && o->last_wave[o->dying[o->dead]] == wave; o->dead++) {
    int32_t p = o->dying[o->dead];
    o->free_slot[o->n_free++] = o->slot[p];
    o->slot[p] = -1;
  }
}

void order_build(DecodeOrder *o, int decode, bool raster, const uint8_t *given) {
  const PlanDecode *d = &o->decode[decode];
  o->positions = plan_positions(d);
  int64_t first = 0;
  for (int64_t p = 0; p < o->positions; p++) o->wave_of[p] = -1;
  for (int64_t p = 0; given && p < o->positions; p++)
    if (can_run_first(o, decode, given, p)) o->wave_of[p] = 0, first = 1;
  number_waves(o, d, raster ? d->raster : d->wavefront, first);
  find_lives(o, decode);
  sort_positions(o->dying, o->wave_begin, o->last_wave, o->positions, o->n_wave);
  sort_positions(o->position, o->wave_begin, o->wave_of, o->positions, o->n_wave);
  count_slots(o);
  reset_slots(o);
}
