/* The loop nest of attention on a GPU, forward and backward: how the work is cut.
 *
 * An item is a block of groups and computes a patch of positions of one head: queries, or keys for the gradients of
 * keys and values.  The box of others that the patch sees, or that see it (the union of its windows), goes through
 * shared memory in chunks: while one is worked on, the next is copied into the other of two slots.  A chunk is a
 * run of planes, lines or single others of the box, so that chunk after chunk visits others in raster order.
 * Every sum is the common nest's, and so are its bits.  Which attentions it does not take is said at `plan`. */
#include <math.h>
#include <string.h>

#include "codegen/lower/attend/gpu.h"

enum {
  CHUNK_BYTES = 40 << 10,     /* of all slots, by default */
  LIST_BYTES = 32 << 10,      /* of a block's lists of whole windows */
  SHARED_BYTES = 96 << 10,    /* of a block at most, as for products */
  WIDE_THREADS = 512, NARROW_THREADS = 768,   /* of a multiprocessor: 128 and 80 registers each */
  MAX_RESIDENT = 16,
  BLOCK_COST = 16             /* what a block costs by itself, in rows of the box */
};

/* ---- patches ---- */

/* What an own position may visit on an axis: lines go through the centre, wherever the interval is.  Where what comes
 * after is not seen, the first axis longer than one ends (for keys: starts) at the position itself. */
static void seen_of(const Tile *e, int axis, int32_t i, int32_t *lo, int32_t *hi) {
  const Extent *x = e->a->extent;
  const AxisExtent *g = &x->axis[axis];
  int32_t near_lo = e->for_keys ? g->at_lo[i] : g->centre[i], near_hi = e->for_keys ? g->at_hi[i] : g->centre[i];
  *lo = e->for_keys ? g->query_lo[i] : g->lo[i];
  *hi = e->for_keys ? g->query_hi[i] : g->hi[i];
  if (x->is_axis && near_lo <= near_hi) {
    bool is_empty = *lo > *hi;
    if (is_empty || near_lo < *lo) *lo = near_lo;
    if (is_empty || near_hi > *hi) *hi = near_hi;
  }
  if (axis != e->cut) return;
  if (e->for_keys && *lo < i) *lo = i;
  if (!e->for_keys && *hi > i) *hi = i;
}

/* Largest box of tiles of `patch` own positions; bounds [tiles][2] or NULL. */
static int64_t box_of(const Tile *e, int axis, int patch, int32_t *bounds) {
  int64_t longest = 0;
  for (int32_t q = 0; q < e->own[axis]; q += patch) {
    int32_t lo = (int32_t)e->other[axis], hi = -1;
    for (int32_t i = q; i < e->own[axis] && i < q + patch; i++) {
      int32_t from, to;
      seen_of(e, axis, i, &from, &to);
      if (from > to) continue;
      if (from < lo) lo = from;
      if (to > hi) hi = to;
    }
    if (lo < 0) lo = 0;
    if (hi >= e->other[axis]) hi = (int32_t)e->other[axis] - 1;
    if (hi - lo + 1 > longest) longest = hi - lo + 1;
    if (bounds) bounds[q / patch * 2] = lo, bounds[q / patch * 2 + 1] = hi;
  }
  return longest < 1 ? 1 : longest;
}

/* Others that all blocks read together, the patch being what it is; a little for each block and each idle group. */
static double patch_cost(const Tile *e, const int patch[3]) {
  double boxes = 1, blocks = 1, positions = 1;
  for (int i = 0; i < 3; i++) {
    boxes *= (double)box_of(e, i, patch[i], NULL);
    blocks *= (double)((e->own[i] + patch[i] - 1) / patch[i]);
    positions *= patch[i];
  }
  return blocks * (boxes + positions + BLOCK_COST);
}

/* The cheapest patch of at most `limit` tiles. */
static void choose_patch(Tile *e, int limit) {
  double best = INFINITY;
  int by[3] = {1, 1, 1}, all = limit * e->tile;
  by[e->axis] = e->tile;
  for (int s = by[0]; s <= all && s < e->own[0] + by[0]; s += by[0])
    for (int h = by[1]; s * h <= all && h < e->own[1] + by[1]; h += by[1])
      for (int w = by[2]; s * h * w <= all && w < e->own[2] + by[2]; w += by[2]) {
        int patch[3] = {s, h, w};
        double cost = patch_cost(e, patch);
        if (cost >= best) continue;
        best = cost;
        memcpy(e->t.patch, patch, sizeof patch);
      }
  for (int i = 0; i < 3; i++) {
    e->t.tiles[i] = (e->own[i] + e->t.patch[i] - 1) / e->t.patch[i];
    e->t.bounds[i] = ARENA_ARRAY(e->l->arena, int32_t, 2 * e->t.tiles[i]);
    e->t.box[i] = box_of(e, i, e->t.patch[i], e->t.bounds[i]);
  }
}

static int patch_positions(const Tile *e) { return e->t.patch[0] * e->t.patch[1] * e->t.patch[2]; }
static int patch_groups(const Tile *e) { return patch_positions(e) / e->tile; }
static int groups_of(const Tile *e) { return (patch_groups(e) + 1) / 2 * 2; }   /* whole warps */

/* Planes while a plane fits, else lines, else single others. */
static void choose_chunk(Tile *e, int others) {
  int64_t inner = 1;
  bool whole = true;
  e->n_step = 1;
  for (int x = 2; x >= 0; x--) {
    int64_t room = whole ? others / inner : 1;
    e->chunk[x] = (int)(room < 1 ? 1 : room < e->t.box[x] ? room : e->t.box[x]);
    whole = whole && e->chunk[x] == e->t.box[x];
    inner *= e->chunk[x];
    e->steps[x] = (int)((e->t.box[x] + e->chunk[x] - 1) / e->chunk[x]);
    e->n_step *= e->steps[x];
  }
}

/* Others that a tile visits: its windows' union with what loops skip. */
static int64_t longest_list(const Tile *e) {
  int64_t n = 1;
  for (int x = 0; x < 3; x++) n *= box_of(e, x, x == e->axis ? e->tile : 1, NULL);
  return n;
}

/* ---- where a block is ---- */

static KInst *entry(Tile *e, int x, KInst *at, int i) {
  return kir_load(e->k, e->a->reverse[x], to_i64(e, plus(e, times(e, at, 4), num32(e, i))), NULL, NULL);
}

/* What own position o sees on axis x, or what sees it. */
static void locate_seen(Tile *e, Own *o, int x) {
  Attend *a = e->a;
  o->lo[x] = e->for_keys ? entry(e, x, o->at[x], 0) : to_i32(e, o->w.lo[x]);
  o->hi[x] = e->for_keys ? entry(e, x, o->at[x], 1) : to_i32(e, o->w.hi[x]);
  if (a->extent->is_axis) {
    o->near_lo[x] = e->for_keys ? entry(e, x, o->at[x], 2) : to_i32(e, o->w.centre[x]);
    o->near_hi[x] = e->for_keys ? entry(e, x, o->at[x], 3) : to_i32(e, o->w.centre[x]);
  }
  if (a->extent->is_axis && (e->for_keys || !attend_windows_hold_centre(a->extent))) {
    o->lo[x] = most(e, least(e, o->lo[x], o->near_lo[x]), num32(e, 0));
    o->hi[x] = least(e, most(e, o->hi[x], o->near_hi[x]), num32(e, e->other[x] - 1));
  }
  if (x != e->cut) return;
  if (e->for_keys) o->lo[x] = most(e, o->lo[x], o->at[x]);
  else o->hi[x] = least(e, o->hi[x], o->at[x]);
}

/* The tile's own positions, the first of which is at `at`. */
static void locate_own(Tile *e, KInst *const at[3], KInst *exists) {
  Attend *a = e->a;
  for (int t = 0; t < e->tile; t++) {
    Own *o = &e->of[t];
    o->exists = exists;
    for (int x = 0; x < 3; x++) {
      KInst *p = x == e->axis ? plus(e, at[x], num32(e, t)) : at[x], *last = num32(e, e->own[x] - 1);
      o->exists = both(a, o->exists, bin(a, KOP_LE, p, last));
      o->at[x] = least(e, p, last);
    }
    o->index = plus(e, times(e, plus(e, times(e, o->at[0], e->own[1]), o->at[1]), e->own[2]), o->at[2]);
    KInst *wide[3] = {to_i64(e, o->at[0]), to_i64(e, o->at[1]), to_i64(e, o->at[2])};
    if (!e->for_keys) o->w = attend_window(a, wide);
    for (int x = 0; x < 3; x++) {
      locate_seen(e, o, x);
      e->lo[x] = t ? least(e, e->lo[x], o->lo[x]) : o->lo[x];
      e->hi[x] = t ? most(e, e->hi[x], o->hi[x]) : o->hi[x];
    }
  }
}

static void locate(Tile *e, KInst *item) {
  Attend *a = e->a;
  Kernel *k = e->k;
  KInst *group = least(e, kir_group(k), num32(e, patch_groups(e) - 1)), *rest = group, *at[3];
  a->head = bin(a, KOP_MOD, item, num(a, a->attrs->heads));
  item = bin(a, KOP_DIV, item, num(a, a->attrs->heads));
  for (int x = 2; x >= 0; x--) {
    int by = x == e->axis ? e->tile : 1, n = e->t.patch[x] / by;
    KInst *tile = bin(a, KOP_MOD, item, num(a, e->t.tiles[x]));
    item = bin(a, KOP_DIV, item, num(a, e->t.tiles[x]));
    for (int i = 0; i < 2; i++)
      e->box[x][i] = kir_load(k, e->table[x], plus(e, times(e, tile, 2), num(a, i)), NULL, NULL);
    KInst *local = times(e, bin(a, KOP_MOD, rest, num32(e, n)), by);
    rest = bin(a, KOP_DIV, rest, num32(e, n));
    at[x] = plus(e, times(e, to_i32(e, tile), e->t.patch[x]), local);
  }
  a->sample = item;
  locate_own(e, at, bin(a, KOP_LT, kir_group(k), num32(e, patch_groups(e))));
}

/* ---- planning ---- */

/* Forward where a block's lists of whole windows would be too long: scores are made twice, for their largest and,
 * with the values beside the keys, for weights. */
static void stream(Tile *e) {
  bool has_values = e->load[1].n > 0;
  e->is_streamed = true;
  e->load[1] = (Load){{e->load[0].part[0], e->load[1].part[0]}, 1 + has_values};
}

/* What goes through shared memory, what is kept, and how many lists of weights there are. */
static void bind(Tile *e, bool forward) {
  Attend *a = e->a;
  e->n_list = 1;
  e->is_streamed = !forward;
  e->kept[e->n_kept++] = e->for_keys ? &a->key : &a->q;
  if (forward) {
    e->load[0] = (Load){{{.h = &a->key, .number = -1}}, 1};
    if (a->out_q.buf >= 0) e->load[1] = (Load){{{.h = &a->v, .number = -1}}, 1};
  } else if (!e->for_keys) {
    e->load[0] = (Load){{{.h = &a->key, .number = -1}, {.h = &a->v, .number = -1}}, 2};
    e->kept[e->n_kept++] = &a->dy;
  } else {
    bool needs_ds = a->out_key.buf >= 0;
    int delta = needs_ds ? a->buf_delta : -1;
    e->load[0] = (Load){{{.h = &a->q, .number = a->buf_lse}, {.h = &a->dy, .number = delta}}, 2};
    if (needs_ds) e->kept[e->n_kept++] = &a->v;
    e->n_list = needs_ds && a->out_v.buf >= 0 ? 2 : 1;
  }
}

/* Own positions of a group, neighbours on the last axis that has any; and the axis that raster order surely cuts. */
static void choose_tile(Tile *e, int wanted) {
  e->axis = 2;
  while (e->axis > 0 && e->own[e->axis] == 1) e->axis--;
  e->cut = -1;
  for (int x = 2; x >= 0; x--) if (e->a->extent->is_raster && e->own[x] > 1) e->cut = x;
  e->tile = 1;
  while (e->tile * 2 <= wanted && e->tile * 2 <= MAX_TILE && e->tile * 2 <= e->own[e->axis]) e->tile *= 2;
}

static DType stored_type(const Tile *e) { return e->k->buf[e->load[0].part[0].h->buf].dtype; }

static int64_t block_bytes(const Tile *e, int groups) {
  int64_t own = 0;
  for (int i = 0; i < e->n_kept; i++) own += (int64_t)vectors_of(e->kept[i]) * LANES;
  int64_t numbers = e->slots * e->slot_numbers + groups * e->tile * (e->n_list * e->list + own);
  return e->slots * e->slot_elems * (int64_t)dtype_bytes(stored_type(e)) + numbers * (int64_t)sizeof(float);
}

static int64_t row_elems(const Tile *e) {
  int64_t longest = 0;
  for (int i = 0; i < COUNT_OF(e->load); i++) {
    int64_t n = 0;
    for (int j = 0; j < e->load[i].n; j++) n += pitch(e->load[i].part[j].h);
    if (n > longest) longest = n;
  }
  return longest;
}

static void plan_chunks(Tile *e, bool forward, int wanted) {
  int64_t row = row_elems(e) * (int64_t)dtype_bytes(stored_type(e)), box = e->t.box[0] * e->t.box[1] * e->t.box[2];
  e->slots = !forward && (wanted > 1 ? wanted >= box : box * row <= CHUNK_BYTES) ? 1 : 2;
  choose_chunk(e, wanted > 1 ? wanted : (int)(CHUNK_BYTES / (e->slots * row)));
  int64_t chunk = chunk_others(e);
  if (e->is_streamed && chunk < e->list) e->list = chunk;
  e->list = (e->list + LANES - 1) / LANES * LANES;
  stage_plan(e);
}

/* Patch, chunks and room.  False where the common nest is better: patches whose box holds as many others as their
 * positions see together, offsets of more than 31 bits. */
static bool plan(Tile *e, const AttendGpuParams *params, bool forward, int64_t most_seen) {
  int limit = params->block_m < KIR_MAX_GROUPS ? params->block_m : KIR_MAX_GROUPS;
  int64_t widest = 0;
  for (int i = 0; i < COUNT_OF(e->load); i++)
    for (int j = 0; j < e->load[i].n; j++)
      if (e->load[i].part[j].h->row > widest) widest = e->load[i].part[j].h->row;
  if ((double)positions_of(e->other) * (double)widest >= 0x1p31) return false;
  choose_tile(e, params->tile_m);
  e->list = longest_list(e);
  if (limit < 2) return false;
  if (forward && limit * e->tile * e->list * (int64_t)sizeof(float) > LIST_BYTES) stream(e);
  choose_patch(e, limit);
  double box = (double)e->t.box[0] * (double)e->t.box[1] * (double)e->t.box[2];
  if (box >= (double)most_seen * patch_positions(e)) return false;
  plan_chunks(e, forward, params->tile_k);
  return block_bytes(e, groups_of(e)) <= SHARED_BYTES;
}

/* Blocks of a multiprocessor that leave enough registers: without a number the compiler spills to use fewer. */
static int resident_of(const Tile *e, int groups) {
  int64_t widest = 0, bytes = block_bytes(e, groups);
  for (int i = 0; i < e->n_kept; i++) if (e->kept[i]->width > widest) widest = e->kept[i]->width;
  int threads = widest > 2 * LANES ? WIDE_THREADS : NARROW_THREADS;
  int fit = (int)((160 << 10) / (bytes + 1024)), blocks = threads / (groups * LANES);
  return fit < blocks ? fit : blocks < MAX_RESIDENT ? blocks : MAX_RESIDENT;
}

static void make_buffers(Tile *e, int groups) {
  static const char *const name[3] = {"box_s", "box_h", "box_w"};
  Kernel *k = e->k;
  int64_t own = 0;
  for (int x = 0; x < 3; x++) e->table[x] = kir_table(k, name[x], DTYPE_I32, e->t.bounds[x], 2 * e->t.tiles[x]);
  for (int i = 0; i < e->n_kept; i++) own += (int64_t)vectors_of(e->kept[i]) * LANES;
  e->stage = kir_scratch(k, "stage", stored_type(e), e->slots * e->slot_elems);
  if (e->slot_numbers) e->numbers = kir_scratch(k, "numbers", DTYPE_F32, e->slots * e->slot_numbers);
  e->vectors = kir_scratch(k, "own", DTYPE_F32, groups * e->tile * own);
  e->a->scores = kir_scratch(k, "scores", DTYPE_F32, groups * e->tile * e->n_list * e->list);
}

bool attend_gpu(Attend *a, Dim samples, const AttendGpuParams *params, bool for_keys, bool forward, int64_t most_seen) {
  Tile e = {.a = a, .l = a->l, .k = a->k, .is_async = params->stages > 1, .for_keys = for_keys};
  memcpy(e.own, for_keys ? a->attrs->key_grid : a->attrs->query_grid, sizeof e.own);
  memcpy(e.other, for_keys ? a->attrs->query_grid : a->attrs->key_grid, sizeof e.other);
  bind(&e, forward);
  if (!plan(&e, params, forward, most_seen)) return false;
  int groups = groups_of(&e);
  kir_block(e.k, groups, resident_of(&e, groups));
  make_buffers(&e, groups);
  kir_factor(e.k, samples, 1);
  for (int x = 0; x < 3; x++) kir_factor(e.k, dim_const(e.own[x]), e.t.patch[x]);
  kir_factor(e.k, dim_const(a->attrs->heads), 1);
  locate(&e, kir_item(e.k));
  stage_begin(&e);
  stage_own(&e);
  if (forward) pass_forward(&e);
  else pass_backward(&e);
  return true;
}
