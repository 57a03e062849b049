/* The loop nest of attention forward on a GPU.
 *
 * An item is a block of groups and computes a patch of queries of one head, a query a group.  The box of keys that
 * the patch sees (the union of its windows) goes through shared memory in chunks, keys first, then values: while one
 * chunk is worked on, the next is copied into the other of two slots.  A chunk is a run of planes, lines or keys of the
 * box, so that chunk after chunk visits a query's keys in raster order.
 *
 * Scores have keys along lanes: a lane computes all 16 partial sums of its key's product and adds them by the tree
 * that the common nest has across lanes, so there are no shuffles.  Values have elements along lanes.  Every sum is
 * the common nest's, and so are its bits.  Which attentions it does not take is said at `plan`. */
#include "codegen/lower_attend.h"

#include <math.h>
#include <string.h>

enum {
  SLOTS = 2,
  PAD = 4,                    /* elements after a head: lanes then read different keys from different banks */
  CHUNK_BYTES = 40 << 10,     /* of both slots, by default */
  SHARED_BYTES = 96 << 10,    /* of a block at most, as for products */
  QUERIES = 16,
  RESIDENT_THREADS = 512      /* of a multiprocessor, where heads are wide: 128 registers each */
};

/* The grid of queries cut into patches, and the box of keys that the queries of each may see. */
typedef struct Tiling {
  int patch[3];               /* queries of a block on each axis */
  int64_t tiles[3], box[3];   /* of the grid; the largest box */
  int32_t *bounds[3];         /* [tiles][2]: lo, hi; lo > hi: nothing is seen */
} Tiling;

typedef struct Tile {
  Attend *a;
  Lower *l;
  Kernel *k;
  bool is_async;
  Tiling t;
  int chunk[3], steps[3], n_step;   /* keys of a chunk on each axis; chunks of a box */
  int table[3];                     /* bounds */
  int stage, query;                 /* scratch: slots; the groups' queries */
  int64_t slot_elems, list;         /* scores of a group */
  KInst *box[3][2];                 /* lo and hi, i64 */
  KInst *at[3], *index;             /* the group's query, and its raster index */
  KInst *exists;
  KInst *scores_at;                 /* where the group's scores start */
  Window w;                         /* lo and hi: all that loops may visit */
} Tile;

/* The part of a window that is in a chunk. */
typedef struct Part {
  KInst *first[3];                  /* of the chunk */
  KInst *lo[3], *hi[3], *n[3], *count;
} Part;

static KInst *num32(Tile *e, int64_t x) { return kir_i32(e->k, (int32_t)x); }
static KInst *to_i32(Tile *e, KInst *x) { return kir_un(e->k, KOP_TO_I32, x); }
static KInst *to_i64(Tile *e, KInst *x) { return kir_un(e->k, KOP_TO_I64, x); }
static KInst *plus(Tile *e, KInst *x, KInst *y) { return kir_bin(e->k, KOP_ADD, x, y); }
static KInst *times(Tile *e, KInst *x, int64_t c) {
  return kir_bin(e->k, KOP_MUL, x, x->type == K_I64 ? kir_i64(e->k, c) : num32(e, c));
}

/* ---- patches ---- */

/* What a query may visit on an axis: lines go through the centre, wherever the interval is. */
static void seen_of(const Extent *x, int axis, int32_t q, int32_t *lo, int32_t *hi) {
  const AxisExtent *e = &x->axis[axis];
  *lo = e->lo[q];
  *hi = e->hi[q];
  if (!x->is_axis) return;
  if (e->centre[q] < *lo || *lo > *hi) *lo = e->centre[q];
  if (e->centre[q] > *hi) *hi = e->centre[q];
}

/* Largest box of tiles of `patch` queries; bounds [tiles][2] or NULL. */
static int64_t box_of(const Extent *x, int axis, int patch, int32_t *bounds) {
  const AxisExtent *e = &x->axis[axis];
  int64_t most = 0;
  for (int32_t q = 0; q < e->queries; q += patch) {
    int32_t lo = e->keys, hi = -1;
    for (int32_t i = q; i < e->queries && i < q + patch; i++) {
      int32_t from, to;
      seen_of(x, axis, i, &from, &to);
      if (from > to) continue;
      if (from < lo) lo = from;
      if (to > hi) hi = to;
    }
    if (lo < 0) lo = 0;
    if (hi >= e->keys) hi = e->keys - 1;
    if (hi - lo + 1 > most) most = hi - lo + 1;
    if (bounds) bounds[q / patch * 2] = lo, bounds[q / patch * 2 + 1] = hi;
  }
  return most < 1 ? 1 : most;
}

/* Keys that all blocks read together, the patch being what it is; a little for each block and each idle group. */
static double patch_cost(const Extent *x, const int patch[3]) {
  double boxes = 1, blocks = 1, groups = 1;
  for (int i = 0; i < 3; i++) {
    boxes *= (double)box_of(x, i, patch[i], NULL);
    blocks *= (x->axis[i].queries + patch[i] - 1) / patch[i];
    groups *= patch[i];
  }
  return blocks * (boxes + groups + QUERIES);
}

/* The cheapest patch of at most `limit` queries. */
static void choose_patch(Tile *e, int limit) {
  const Extent *x = e->a->extent;
  double best = INFINITY;
  for (int s = 1; s <= limit && s <= x->axis[0].queries; s++)
    for (int h = 1; s * h <= limit && h <= x->axis[1].queries; h++)
      for (int w = 1; s * h * w <= limit && w <= x->axis[2].queries; w++) {
        int patch[3] = {s, h, w};
        double cost = patch_cost(x, patch);
        if (cost >= best) continue;
        best = cost;
        memcpy(e->t.patch, patch, sizeof patch);
      }
  for (int i = 0; i < 3; i++) {
    e->t.tiles[i] = (x->axis[i].queries + e->t.patch[i] - 1) / e->t.patch[i];
    e->t.bounds[i] = ARENA_ARRAY(e->l->arena, int32_t, 2 * e->t.tiles[i]);
    e->t.box[i] = box_of(x, i, e->t.patch[i], e->t.bounds[i]);
  }
}

static int patch_queries(const Tile *e) { return e->t.patch[0] * e->t.patch[1] * e->t.patch[2]; }

/* Planes while a plane fits, else lines, else keys. */
static void choose_chunk(Tile *e, int keys) {
  int64_t inner = 1;
  bool whole = true;
  e->n_step = 1;
  for (int x = 2; x >= 0; x--) {
    int64_t room = whole ? keys / inner : 1;
    e->chunk[x] = (int)(room < 1 ? 1 : room < e->t.box[x] ? room : e->t.box[x]);
    whole = whole && e->chunk[x] == e->t.box[x];
    inner *= e->chunk[x];
    e->steps[x] = (int)((e->t.box[x] + e->chunk[x] - 1) / e->chunk[x]);
    e->n_step *= e->steps[x];
  }
}

static int chunk_keys(const Tile *e) { return e->chunk[0] * e->chunk[1] * e->chunk[2]; }

/* Scores of one query: its window with what loops skip. */
static int64_t longest_list(const Extent *x) {
  int64_t n = 1;
  for (int i = 0; i < 3; i++) n *= box_of(x, i, 1, NULL);
  return (n + LANES - 1) / LANES * LANES;
}

/* ---- staging ---- */

static int64_t padded(const Heads *h) { return (h->width + QUAD - 1) / QUAD * QUAD; }
static int64_t pitch(const Heads *h) { return padded(h) + PAD; }
static int count_of(const Heads *h) { return h->width % QUAD ? 1 : QUAD; }
static int64_t stage_vectors(const Tile *e, const Heads *h) {
  return (chunk_keys(e) * padded(h) / count_of(h) + LANES - 1) / LANES;
}

/* Elements of a slot: what all lanes of the vectors write, also those beyond the last key. */
static int64_t slot_of(const Tile *e, const Heads *h) {
  int64_t wide = padded(h) / count_of(h), rows = (stage_vectors(e, h) * LANES + wide - 1) / wide;
  return rows * pitch(h);
}

static KInst *chunk_first(Tile *e, KInst *step, int x) {
  Attend *a = e->a;
  int64_t inner = 1;
  for (int i = x + 1; i < 3; i++) inner *= e->steps[i];
  KInst *i = bin(a, KOP_MOD, bin(a, KOP_DIV, step, num(a, inner)), num(a, e->steps[x]));
  return plus(e, e->box[x][0], times(e, i, e->chunk[x]));
}

static void stage_vector(Tile *e, const Heads *h, KInst *const first[3], KInst *slot, KInst *vector) {
  Attend *a = e->a;
  Kernel *k = e->k;
  int count = count_of(h);
  int64_t wide = padded(h) / count, at_grid = 1;
  KInst *piece = plus(e, times(e, to_i32(e, vector), LANES), kir_lane(k));
  KInst *row = bin(a, KOP_DIV, piece, num32(e, wide)), *rest = row, *offset = num32(e, 0);
  KInst *col = times(e, bin(a, KOP_MOD, piece, num32(e, wide)), count), *mask = NULL;
  for (int x = 2; x >= 0; x--) {
    KInst *at = x ? bin(a, KOP_MOD, rest, num32(e, e->chunk[x])) : rest;
    rest = bin(a, KOP_DIV, rest, num32(e, e->chunk[x]));
    KInst *left = to_i32(e, bin(a, KOP_SUB, e->box[x][1], first[x])), *in = bin(a, KOP_LE, at, left);
    if (!x) in = both(a, in, bin(a, KOP_LT, at, num32(e, e->chunk[0])));
    mask = mask ? both(a, mask, in) : in;
    offset = plus(e, offset, times(e, plus(e, at, to_i32(e, first[x])), at_grid));
    at_grid *= a->attrs->key_grid[x];
  }
  if (h->width % QUAD) mask = both(a, mask, bin(a, KOP_LT, col, num32(e, h->width)));
  KInst *from = attend_base(a, h, times(e, a->sample, at_grid));
  KPlace source = {h->buf, from, plus(e, times(e, offset, h->row), col)};
  KPlace to = {e->stage, slot, plus(e, times(e, row, pitch(h)), col)};
  if (e->is_async) {
    kir_copy(k, to, source, count, mask);
  } else if (count == 1) {
    kir_store(k, to.buf, to.base, to.lane_offset, kir_load(k, h->buf, from, source.lane_offset, mask), NULL);
  } else {
    KInst *part[QUAD], *quad = kir_load4(k, h->buf, from, source.lane_offset, mask);
    for (int j = 0; j < QUAD; j++) part[j] = kir_part(k, quad, j);
    kir_store4(k, to.buf, to.base, to.lane_offset, part, NULL);
  }
}

static void stage_chunk(Tile *e, const Heads *h, KInst *step, KInst *slot) {
  Kernel *k = e->k;
  KInst *first[3];
  for (int x = 0; x < 3; x++) first[x] = chunk_first(e, step, x);
  KInst *v = kir_for(k, to_i64(e, kir_group(k)), kir_i64(k, stage_vectors(e, h)), k->groups, 0);
  stage_vector(e, h, first, slot, v);
  kir_end(k);
}

/* ---- a query's keys ---- */

static Part part_of(Tile *e, KInst *step) {
  Attend *a = e->a;
  Part p;
  for (int x = 0; x < 3; x++) {
    p.first[x] = chunk_first(e, step, x);
    p.lo[x] = bin(a, KOP_MAX, e->w.lo[x], p.first[x]);
    p.hi[x] = bin(a, KOP_MIN, e->w.hi[x], plus(e, p.first[x], num(a, e->chunk[x] - 1)));
    p.n[x] = bin(a, KOP_MAX, bin(a, KOP_SUB, plus(e, p.hi[x], num(a, 1)), p.lo[x]), num(a, 0));
  }
  p.count = bin(a, KOP_MUL, bin(a, KOP_MUL, p.n[0], p.n[1]), p.n[2]);
  return p;
}

/* Sum of q and a lane's key: 16 chains, then the tree of tree_add. */
static KInst *lane_dot(Tile *e, KInst *query, KInst *slot, KInst *key) {
  Kernel *k = e->k;
  const Heads *h = &e->a->key;
  KInst *sum[LANES], *zero = kir_f32(k, 0.0f);
  int64_t full = h->width / LANES * LANES, left = h->width - full;
  for (int i = 0; i < LANES; i++) sum[i] = kir_var(k, zero, true);
  if (full) {
    KInst *j = kir_for(k, kir_i64(k, 0), kir_i64(k, full), LANES, 0);
    for (int i = 0; i < LANES; i += QUAD) {
      KInst *at = plus(e, j, kir_i64(k, i)), *x = kir_load4(k, e->query, plus(e, query, at), NULL, NULL);
      KInst *y = kir_load4(k, e->stage, plus(e, slot, at), key, NULL);
      for (int n = 0; n < QUAD; n++)
        kir_set(k, sum[i + n], kir_op(k, KOP_FMA, kir_part(k, x, n), kir_part(k, y, n), kir_get(k, sum[i + n])));
    }
    kir_end(k);
  }
  for (int i = 0; i < LANES; i++) sum[i] = kir_get(k, sum[i]);
  for (int i = 0; i < left; i += QUAD) {
    KInst *at = kir_i64(k, full + i), *x = kir_load4(k, e->query, plus(e, query, at), NULL, NULL);
    KInst *y = kir_load4(k, e->stage, plus(e, slot, at), key, NULL);
    for (int n = 0; n < QUAD && i + n < left; n++)
      sum[i + n] = kir_op(k, KOP_FMA, kir_part(k, x, n), kir_part(k, y, n), sum[i + n]);
  }
  /* the common nest's lanes beyond the end add 0 * 0 */
  for (int64_t i = left; left && i < LANES; i++) sum[i] = kir_op(k, KOP_FMA, zero, zero, sum[i]);
  for (int d = LANES / 2; d; d /= 2)
    for (int i = 0; i < d; i++) sum[i] = kir_bin(k, KOP_ADD, sum[i], sum[i + d]);
  return sum[0];
}

/* Does the query see the lane's key? NULL: surely. */
static KInst *lane_sees(Tile *e, KInst *const at[3]) {
  Attend *a = e->a;
  KInst *sees = NULL, *centre[3], *in[3];
  const int64_t *grid = a->attrs->key_grid;
  if (a->extent->is_raster) {
    KInst *raster = plus(e, times(e, plus(e, times(e, at[0], grid[1]), at[1]), grid[2]), at[2]);
    sees = bin(a, KOP_LE, raster, to_i32(e, e->index));
  }
  if (!a->extent->is_axis) return sees;
  Window w = attend_window(a, e->at);
  KInst *line = NULL;
  for (int x = 0; x < 3; x++) {
    centre[x] = equal(a, at[x], to_i32(e, w.centre[x]));
    in[x] = within(a, to_i32(e, w.lo[x]), at[x], to_i32(e, w.hi[x]));
  }
  for (int x = 0; x < 3; x++) {
    KInst *one = both(a, in[x], both(a, centre[(x + 1) % 3], centre[(x + 2) % 3]));
    line = line ? either(a, line, one) : one;
  }
  return sees ? both(a, sees, line) : line;
}

/* Scores of a chunk's keys, and in `most` the largest of each lane. */
static void score_chunk(Tile *e, KInst *step, KInst *slot, KInst *most) {
  Attend *a = e->a;
  Kernel *k = e->k;
  Part p = part_of(e, step);
  KInst *query = to_i64(e, times(e, kir_group(k), vectors_of(&a->q) * LANES));
  KInst *i = kir_for(k, num(a, 0), p.count, LANES, 0), *at[3], *key = NULL;
  KInst *mask = bin(a, KOP_LT, kir_lane(k), to_i32(e, bin(a, KOP_SUB, p.count, i)));
  KInst *rest = bin(a, KOP_MIN, plus(e, to_i32(e, i), kir_lane(k)), to_i32(e, bin(a, KOP_SUB, p.count, num(a, 1))));
  rest = bin(a, KOP_MAX, rest, num32(e, 0));
  for (int x = 2; x >= 0; x--) {
    KInst *n = bin(a, KOP_MAX, to_i32(e, p.n[x]), num32(e, 1));
    at[x] = plus(e, x ? bin(a, KOP_MOD, rest, n) : rest, to_i32(e, p.lo[x]));
    if (x) rest = bin(a, KOP_DIV, rest, n);
  }
  for (int x = 0; x < 3; x++) {
    KInst *in = bin(a, KOP_SUB, at[x], to_i32(e, p.first[x]));
    key = key ? plus(e, times(e, key, e->chunk[x]), in) : in;
  }
  KInst *score = attend_scaled(a, lane_dot(e, query, slot, times(e, key, pitch(&a->key)))), *sees = lane_sees(e, at);
  kir_store(k, a->scores, plus(e, plus(e, e->scores_at, kir_get(k, a->n)), i), kir_lane(k), score, mask);
  KInst *m = kir_bin(k, KOP_MAX, kir_get(k, most), score);
  kir_set(k, most, pick(a, sees ? both(a, mask, sees) : mask, m, kir_get(k, most)));
  kir_end(k);
  kir_set(k, a->n, plus(e, kir_get(k, a->n), p.count));
}

/* One key: l += p, y += p v. */
static void weigh_key(Tile *e, const Forward *f, const Part *p, KInst *slot, KInst *const at[3]) {
  Attend *a = e->a;
  Kernel *k = e->k;
  KInst *place = num(a, 0), *key = num(a, 0);
  for (int x = 0; x < 3; x++) {
    place = plus(e, bin(a, KOP_MUL, place, p->n[x]), bin(a, KOP_SUB, at[x], p->lo[x]));
    key = plus(e, times(e, key, e->chunk[x]), bin(a, KOP_SUB, at[x], p->first[x]));
  }
  KInst *w = kir_load(k, a->scores, plus(e, plus(e, e->scores_at, kir_get(k, a->n)), place), NULL, NULL);
  kir_set(k, f->l, kir_bin(k, KOP_ADD, kir_get(k, f->l), w));
  if (a->out_q.buf < 0) return;
  KInst *base = plus(e, slot, times(e, key, pitch(&a->v)));
  for (int j = 0; j < vectors_of(&a->v); j++) {
    KInst *v = kir_load(k, e->stage, plus(e, base, num(a, j * LANES)), kir_lane(k), attend_lanes(a, &a->v, j));
    kir_set(k, f->y[j], kir_op(k, KOP_FMA, w, v, kir_get(k, f->y[j])));
  }
}

/* The keys of a chunk that the query sees, in raster order. */
static void weigh_chunk(Tile *e, const Forward *f, KInst *step, KInst *slot) {
  Attend *a = e->a;
  Kernel *k = e->k;
  Part p = part_of(e, step);
  bool is_axis = a->extent->is_axis, is_raster = a->extent->is_raster;
  bool tests = is_axis && !attend_windows_hold_centre(a->extent);
  KInst *at[3], *same = kir_bool(k, true);   /* the coordinates so far are those of the centre */
  for (int x = 0; x < 3; x++) {
    KInst *lo = p.lo[x], *hi = p.hi[x];
    if (is_axis) {
      lo = pick(a, same, lo, bin(a, KOP_MAX, lo, e->w.centre[x]));
      hi = pick(a, same, hi, bin(a, KOP_MIN, hi, e->w.centre[x]));
    }
    if (is_raster) hi = pick(a, same, bin(a, KOP_MIN, hi, e->at[x]), hi);
    at[x] = kir_for(k, lo, plus(e, hi, num(a, 1)), 1, 0);
    if (is_axis || is_raster) same = both(a, same, equal(a, at[x], is_axis ? e->w.centre[x] : e->at[x]));
  }
  if (tests) {
    KInst *lane_at[3];
    for (int x = 0; x < 3; x++) lane_at[x] = to_i32(e, at[x]);
    kir_if(k, lane_sees(e, lane_at));
  }
  weigh_key(e, f, &p, slot, at);
  if (tests) kir_end(k);
  for (int x = 0; x < 3; x++) kir_end(k);
  kir_set(k, a->n, plus(e, kir_get(k, a->n), p.count));
}

/* ---- items ---- */

static KInst *slot_at(Tile *e, KInst *t) {
  return times(e, bin(e->a, KOP_MOD, t, num(e->a, SLOTS)), e->slot_elems);
}

/* All chunks of keys, or of values.  Chunk i of all is in slot i mod 2 and on its way when its turn comes; its
 * predecessor's slot is free once all groups have met, and takes its successor. */
static void each_chunk(Tile *e, const Forward *f, KInst *most) {
  Attend *a = e->a;
  Kernel *k = e->k;
  bool is_keys = most != NULL, has_values = a->out_q.buf >= 0, single = e->n_step == 1;
  KInst *zero = num(a, 0), *steps = num(a, e->n_step), *step = single ? zero : kir_for(k, zero, steps, 1, 0);
  KInst *turn = is_keys ? step : plus(e, step, steps), *next = plus(e, step, num(a, 1));
  bool stages = is_keys || has_values, follows = is_keys && has_values;
  if (stages) {
    if (!single) kir_barrier(k);
    KInst *slot = slot_at(e, plus(e, turn, num(a, 1)));
    if (!single) {
      kir_if(k, bin(a, KOP_LT, next, steps));
      stage_chunk(e, is_keys ? &a->key : &a->v, next, slot);
      if (follows) kir_else(k);
    }
    if (follows) stage_chunk(e, &a->v, zero, slot);
    if (!single) kir_end(k);
    if (e->is_async) {
      kir_commit(k);
      kir_wait(k, 1);
    }
    kir_barrier(k);
  }
  if (is_keys) score_chunk(e, step, slot_at(e, turn), most);
  else weigh_chunk(e, f, step, slot_at(e, turn));
  if (!single) kir_end(k);
}

/* Which queries, which box, what the group's query sees. */
static void locate(Tile *e, KInst *item) {
  Attend *a = e->a;
  Kernel *k = e->k;
  const int64_t *grid = a->attrs->query_grid;
  KInst *group = bin(a, KOP_MIN, kir_group(k), num32(e, patch_queries(e) - 1)), *own = group;
  a->head = bin(a, KOP_MOD, item, num(a, a->attrs->heads));
  item = bin(a, KOP_DIV, item, num(a, a->attrs->heads));
  e->exists = bin(a, KOP_LT, kir_group(k), num32(e, patch_queries(e)));
  for (int x = 2; x >= 0; x--) {
    KInst *tile = bin(a, KOP_MOD, item, num(a, e->t.tiles[x]));
    item = bin(a, KOP_DIV, item, num(a, e->t.tiles[x]));
    for (int i = 0; i < 2; i++)
      e->box[x][i] = to_i64(e, kir_load(k, e->table[x], plus(e, times(e, tile, 2), num(a, i)), NULL, NULL));
    KInst *local = bin(a, KOP_MOD, own, num32(e, e->t.patch[x]));
    own = bin(a, KOP_DIV, own, num32(e, e->t.patch[x]));
    KInst *at = plus(e, times(e, tile, e->t.patch[x]), to_i64(e, local));
    e->exists = both(a, e->exists, bin(a, KOP_LT, at, num(a, grid[x])));
    e->at[x] = bin(a, KOP_MIN, at, num(a, grid[x] - 1));
  }
  a->sample = item;
  e->index = plus(e, times(e, plus(e, times(e, e->at[0], grid[1]), e->at[1]), grid[2]), e->at[2]);
  e->w = attend_window(a, e->at);
  bool tests = a->extent->is_axis && !attend_windows_hold_centre(a->extent);
  for (int x = 0; tests && x < 3; x++) {
    e->w.lo[x] = bin(a, KOP_MIN, e->w.lo[x], e->w.centre[x]);
    e->w.hi[x] = bin(a, KOP_MAX, e->w.hi[x], e->w.centre[x]);
  }
  e->scores_at = to_i64(e, times(e, kir_group(k), e->list));
}

static void keep_query(Tile *e, KInst *position) {
  Attend *a = e->a;
  KInst *q[MAX_HEAD_VECTORS], *at = to_i64(e, times(e, kir_group(e->k), vectors_of(&a->q) * LANES));
  attend_load(a, &a->q, position, q);
  for (int j = 0; j < vectors_of(&a->q); j++)
    kir_store(e->k, e->query, plus(e, at, num(a, j * LANES)), kir_lane(e->k), q[j], NULL);
  kir_sync(e->k);
}

static void emit_item(Tile *e) {
  Attend *a = e->a;
  Kernel *k = e->k;
  Forward f = {.l = kir_var(k, kir_f32(k, 0.0f), false)};
  locate(e, kir_item(k));
  KInst *position = plus(e, times(e, a->sample, positions_of(a->attrs->query_grid)), e->index);
  stage_chunk(e, &a->key, num(a, 0), num(a, 0));
  if (e->is_async) kir_commit(k);
  keep_query(e, position);
  KInst *most = kir_var(k, kir_f32(k, -INFINITY), true);
  each_chunk(e, &f, most);
  f.m = kir_var(k, kir_un(k, KOP_TREE_MAX, kir_get(k, most)), false);
  attend_exponentiate(a, e->scores_at, kir_get(k, a->n), kir_get(k, f.m));
  kir_set(k, a->n, num(a, 0));
  if (a->out_q.buf >= 0) attend_start_sums(a, &a->v, f.y);
  each_chunk(e, &f, NULL);
  kir_if(k, e->exists);
  /* the largest score's weight is 1: a sum of 0 has no terms */
  KInst *none = equal(a, kir_get(k, f.l), kir_f32(k, 0.0f));
  attend_finish(a, &f, position, kir_un(k, KOP_NOT, none));
  kir_end(k);
}

static bool is_f32(const Attend *a) {
  const Heads *all[] = {&a->q, &a->key, &a->v, &a->out_q};
  for (int i = 0; i < COUNT_OF(all); i++) {
    bool used = i < 2 || a->out_q.buf >= 0;
    if (used && a->k->buf[all[i]->buf].dtype != DTYPE_F32) return false;
  }
  return true;
}

static int groups_of(const Tile *e) { return (patch_queries(e) + 1) / 2 * 2; }   /* whole warps */

static int64_t block_elems(const Tile *e, int groups) {
  return SLOTS * e->slot_elems + groups * (e->list + vectors_of(&e->a->q) * LANES);
}

/* Patch, chunks and room.  False where the common nest is better: patches whose box holds as many keys as their queries
 * see together, lists of scores that do not fit, offsets of more than 31 bits. */
static bool plan(Tile *e, const KernelParams *params) {
  Attend *a = e->a;
  int limit = params->block_m < KIR_MAX_GROUPS ? params->block_m : KIR_MAX_GROUPS;
  double reach = (double)positions_of(a->attrs->key_grid) * (double)(a->key.row > a->v.row ? a->key.row : a->v.row);
  e->list = longest_list(a->extent);
  while (limit > 1 && limit * e->list * (int64_t)sizeof(float) > SHARED_BYTES / 2) limit /= 2;
  if (reach >= 0x1p31 || limit < 2) return false;
  choose_patch(e, limit);
  double box = (double)e->t.box[0] * (double)e->t.box[1] * (double)e->t.box[2];
  if (box >= (double)extent_max_keys(a->extent) * patch_queries(e)) return false;
  int64_t per_key = pitch(&a->key);
  if (a->out_q.buf >= 0 && pitch(&a->v) > per_key) per_key = pitch(&a->v);
  int keys = (int)(CHUNK_BYTES / (SLOTS * per_key * (int64_t)sizeof(float)));
  choose_chunk(e, params->tile_k > 1 ? params->tile_k : keys);
  e->slot_elems = slot_of(e, &a->key);
  if (a->out_q.buf >= 0 && slot_of(e, &a->v) > e->slot_elems) e->slot_elems = slot_of(e, &a->v);
  return block_elems(e, groups_of(e)) * (int64_t)sizeof(float) <= SHARED_BYTES;
}

bool attend_gpu(Attend *a, Dim samples, const KernelParams *params) {
  static const char *const name[3] = {"box_s", "box_h", "box_w"};
  Tile e = {.a = a, .l = a->l, .k = a->k, .is_async = params->stages > 1};
  Kernel *k = a->k;
  if (!is_f32(a) || !plan(&e, params)) return false;
  int groups = groups_of(&e);
  int64_t bytes = block_elems(&e, groups) * (int64_t)sizeof(float);
  int resident = a->key.width > 2 * LANES ? RESIDENT_THREADS / (groups * LANES) : 0;
  int fit = (int)((160 << 10) / (bytes + 1024));
  kir_block(k, groups, resident < fit ? resident : fit);
  for (int x = 0; x < 3; x++) e.table[x] = kir_table(k, name[x], DTYPE_I32, e.t.bounds[x], 2 * e.t.tiles[x]);
  e.stage = kir_scratch(k, "stage", DTYPE_F32, SLOTS * e.slot_elems);
  e.query = kir_scratch(k, "query", DTYPE_F32, (int64_t)groups * vectors_of(&a->q) * LANES);
  a->scores = kir_scratch(k, "scores", DTYPE_F32, groups * e.list);
  a->n = kir_var(k, num(a, 0), false);
  kir_factor(k, samples, 1);
  for (int x = 0; x < 3; x++) kir_factor(k, dim_const(a->attrs->query_grid[x]), e.t.patch[x]);
  kir_factor(k, dim_const(a->attrs->heads), 1);
  emit_item(&e);
  return true;
}
