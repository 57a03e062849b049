/* What a group does with a chunk of others in shared memory.
 *
 * Products of head vectors have others along lanes: a lane computes all 16 partial sums of its other's product with
 * each own position and adds them by the tree that other nests have across lanes, so there are no shuffles, and a
 * row is read once for all own positions.  Sums over others have elements along lanes, four neighbours each; where a
 * head needs fewer than 16 lanes, they serve several own positions.  A lane visits the union of what the group's own
 * positions see; who does not see an other keeps its sum. */
#include "codegen/lower/attend/gpu.h"

Part part_of(Block *e, KInst *step) {
  Kernel *k = e->k;
  Part p;
  for (int x = 0; x < 3; x++) {
    p.first[x] = stage_first(e, step, x);
    p.lo[x] = most(k, e->lo[x], p.first[x]);
    p.hi[x] = least(k, e->hi[x], plus(k, p.first[x], e->chunk[x] - 1));
    p.n[x] = least(k, most(k, sub(k, plus(k, p.hi[x], 1), p.lo[x]), num32(k, 0)), num32(k, e->chunk[x]));
  }
  for (int x = 1; x < 3; x++) {
    KInst *n = kir_un(k, KOP_TO_F32, most(k, p.n[x], num32(k, 1)));
    p.inverse[x] = kir_bin(k, KOP_DIV, kir_f32(k, 1.0f), n);
  }
  p.count = mul(k, mul(k, p.n[0], p.n[1]), p.n[2]);
  return p;
}

/* x / n for 0 <= x < 2^20, from n's inverse: a division by what is not constant takes 30 instructions. The product is
 * off by less than 0.5 / n, and so far from an integer. */
static KInst *divided(Kernel *k, KInst *x, KInst *inverse) {
  return to_i32(k, mul(k, add(k, kir_un(k, KOP_TO_F32, x), kir_f32(k, 0.5f)), inverse));
}

Lanes lanes_of(Block *e, const Part *p, KInst *i) {
  Kernel *k = e->k;
  KInst *lane = kir_lane(k), *entry = add(k, to_i32(k, i), lane);
  Lanes o = {.mask = below(k, entry, p->count)};
  KInst *rest = most(k, least(k, entry, plus(k, p->count, -1)), num32(k, 0));
  for (int x = 2; x >= 0; x--) {
    KInst *over = x ? divided(k, rest, p->inverse[x]) : num32(k, 0);
    o.at[x] = add(k, sub(k, rest, mul(k, over, p->n[x])), p->lo[x]);
    rest = over;
  }
  for (int x = 0; x < 3; x++) {
    KInst *in = sub(k, o.at[x], p->first[x]);
    o.row = o.row ? add(k, times(k, o.row, e->chunk[x]), in) : in;
  }
  return o;
}

/* ---- products ---- */

enum { HALF = LANES / 2 };

/* The chains of elements i and i + 8 of 16, i in quad `half`, of a lane's row with all own vectors. */
typedef struct Dot {
  int kept, half;
  KInst *base, *offset;               /* of the row */
  bool rounds;
  KInst *sum[MAX_TILE][HALF];
} Dot;

/* n elements of the chains' quad i, from element `at` of the heads on; other nests' lanes add 0 * 0 beyond the end. */
static void dot_quad(Block *e, Dot *d, KInst *at, int i, int64_t n) {
  Kernel *k = e->k;
  KInst *y = n > 0 ? kir_load4(k, e->stage, add(k, d->base, at), d->offset, NULL) : NULL, *zero = zero32(k);
  for (int t = 0; t < e->tile && y; t++) {
    KInst *x = kir_load4(k, e->vectors, add(k, stage_own_at(e, d->kept, t), at), NULL, NULL);
    for (int j = 0; j < n && j < QUAD; j++) {
      KInst *sum = d->sum[t][i * QUAD + j], *old = kir_get(k, sum), *of_y = kir_part(k, y, j);
      kir_set(k, sum, attend_term(k, d->rounds, kir_part(k, x, j), of_y, old));
    }
  }
  for (int64_t j = n < 0 ? 0 : n; j < QUAD; j++)
    for (int t = 0; t < e->tile; t++) {
      KInst *sum = d->sum[t][i * QUAD + j];
      kir_set(k, sum, attend_term(k, d->rounds, zero, zero, kir_get(k, sum)));
    }
}

static void dot_half(Block *e, Dot *d, int64_t width) {
  Kernel *k = e->k;
  int64_t full = width / LANES * LANES, first = (int64_t)d->half * QUAD;
  for (int t = 0; t < e->tile; t++)
    for (int i = 0; i < HALF; i++) d->sum[t][i] = kir_var(k, zero32(k), true);
  if (full) {
    KInst *j = kir_for(k, num(k, 0), num(k, full), LANES, 1);
    for (int i = 0; i < 2; i++) dot_quad(e, d, plus(k, j, first + i * HALF), i, QUAD);
    kir_end(k);
  }
  for (int i = 0; full < width && i < 2; i++) {
    int64_t at = full + first + i * HALF;
    dot_quad(e, d, num(k, at), i, width - at);
  }
}

/* Half of the chains at a time: a tile's 16 need too many registers. */
void lane_dots(Block *e, int kept, const Staged *s, KInst *slot, KInst *row, bool rounds, KInst **out) {
  Kernel *k = e->k;
  Dot d = {.kept = kept, .rounds = rounds};
  KInst *x[MAX_TILE][HALF];
  d.base = stage_rows_at(e, s, slot);
  d.offset = times(k, row, slot_pitch(s->h));
  for (d.half = 0; d.half < 2; d.half++) {
    dot_half(e, &d, s->h->width);
    for (int t = 0; t < e->tile; t++)
      for (int i = 0; i < QUAD; i++) {
        KInst *far = kir_get(k, d.sum[t][QUAD + i]);
        x[t][d.half * QUAD + i] = add(k, kir_get(k, d.sum[t][i]), far);
      }
  }
  for (int t = 0; t < e->tile; t++) {
    for (int n = HALF / 2; n; n /= 2)
      for (int i = 0; i < n; i++) x[t][i] = add(k, x[t][i], x[t][i + n]);
    out[t] = x[t][0];
  }
}

/* ---- who sees whom ---- */

/* x and y; either may be NULL: surely. */
static KInst *and_also(Kernel *k, KInst *x, KInst *y) { return x && y ? both(k, x, y) : x ? x : y; }

KInst *own_sees(Block *e, int t, KInst *const at[3]) {
  Attention *a = e->a;
  Kernel *k = e->k;
  const Own *o = &e->of[t];
  KInst *sees = e->tile > 1 ? within(k, o->lo[e->axis], at[e->axis], o->hi[e->axis]) : NULL;
  if (a->is_raster) sees = and_also(k, sees, kir_bin(k, KOP_LE, attend_raster(k, a->other->grid, at), o->index));
  return a->is_axis ? and_also(k, sees, attend_on_line(k, &o->w, at)) : sees;
}

/* ---- lanes of sums ---- */

Spread spread_of(const Block *e, const Heads *h) {
  /* Results of one lane are not stored under a mask of lanes. */
  int quads = (int)(padded(h) / QUAD), lanes = e->tile == 1 ? 2 : 1;
  while (lanes < quads && lanes < LANES) lanes *= 2;
  Spread y = {.lanes = lanes, .at_once = LANES / lanes, .quads = (quads + LANES - 1) / LANES};
  if (y.at_once > e->tile) y.at_once = e->tile;
  y.rounds = e->tile / y.at_once;
  return y;
}

/* The lane's own position among those at once. */
static KInst *lane_which(Kernel *k, const Spread *y) {
  return least(k, quotient(k, kir_lane(k), y->lanes), num32(k, y->at_once - 1));
}

/* First element of the lane's quad j. */
static KInst *lane_column(Kernel *k, const Spread *y, int j) {
  return plus(k, times(k, remainder_of(k, kir_lane(k), y->lanes), QUAD), (int64_t)j * LANES * QUAD);
}

KInst *lane_own(Block *e, const Spread *y, int r, KInst *const *of_t) {
  Kernel *k = e->k;
  KInst *x = of_t[r * y->at_once];
  for (int i = 1; i < y->at_once; i++)
    x = pick(k, equal(k, lane_which(k, y), num32(k, i)), of_t[r * y->at_once + i], x);
  return x;
}

void sum_start(Block *e, Sum *s, const Staged *from, int list) {
  *s = (Sum){.from = from, .list = list, .y = spread_of(e, from->h)};
  for (int r = 0; r < s->y.rounds; r++)
    for (int j = 0; j < s->y.quads * QUAD; j++) s->of[r][j] = kir_var(e->k, zero32(e->k), true);
}

/* ---- lists of weights: entry i holds one for each own position ---- */

KInst *list_at(Block *e, int list) {
  int64_t elems = e->list * e->tile;
  return plus(e->k, times(e->k, kir_group(e->k), e->n_list * elems), list * elems);
}

void list_put(Block *e, int list, KInst *i, KInst *const *value, KInst *mask) {
  Kernel *k = e->k;
  KInst *place = times(k, i, e->tile);
  KInst *at = to_i64(k, add(k, list_at(e, list), place)), *lane = times(k, kir_lane(k), e->tile);
  if (e->tile == QUAD) kir_store4(k, e->a->scores, at, lane, value, mask);
  for (int t = 0; t < e->tile && e->tile != QUAD; t++)
    kir_store(k, e->a->scores, plus(k, at, t), lane, value[t], mask);
}

/* The lanes' weights of an entry, in round r. */
static KInst *list_get(Block *e, int list, const Spread *y, KInst *entry, int r) {
  Kernel *k = e->k;
  KInst *which = y->at_once > 1 ? lane_which(k, y) : NULL;
  return kir_load(k, e->a->scores, plus(k, entry, r * y->at_once), which, NULL);
}

/* ---- sums over others ---- */

/* Others that each own position sees on the tile's axis, in the loop's plane or line. */
typedef struct Seen {
  KInst *lo[MAX_TILE], *hi[MAX_TILE];   /* i32; lo[0] NULL: all that the loop visits */
} Seen;

/* Whether lines need a test beyond the loops' bounds. */
static bool tests_lines(const Block *e) {
  const Attention *a = e->a;
  return a->is_axis && (a->for_keys || (e->tile > 1 && e->axis != 2) || !a->centred);
}

static KInst *over_own(Block *e, KOp op, KInst *const *x) {
  KInst *all = x[0];
  for (int t = 1; t < e->tile; t++) all = kir_bin(e->k, op, all, x[t]);
  return all;
}

/* Bounds on axis x of one own position; same: on the axes before, this is the plane or line of its centre. */
static void tighten(Block *e, const Own *o, int x, KInst *same, KInst **lo, KInst **hi) {
  Attention *a = e->a;
  Kernel *k = e->k;
  if (a->is_axis) {
    *lo = pick(k, same, *lo, most(k, *lo, o->near_lo[x]));
    *hi = pick(k, same, *hi, least(k, *hi, o->near_hi[x]));
  }
  if (!a->is_raster) return;
  if (a->for_keys) *lo = pick(k, same, most(k, *lo, o->at[x]), *lo);
  else *hi = pick(k, same, least(k, *hi, o->at[x]), *hi);
}

/* The loop of axis x over what any own position sees.  Beyond the tile's axis their grid has one position. */
static KInst *visit_axis(Block *e, const Part *p, int x, KInst **same, Seen *seen) {
  Kernel *k = e->k;
  const Own *o = &e->of[0];
  KInst *lo = p->lo[x], *hi = p->hi[x];
  bool is_axis = e->a->is_axis, tightens = !is_axis || e->axis == 2 || e->tile == 1;
  if (e->tile > 1 && x == e->axis) {
    for (int t = 0; t < e->tile; t++) {
      seen->lo[t] = e->of[t].lo[x];
      seen->hi[t] = e->of[t].hi[x];
      if (tightens) tighten(e, &e->of[t], x, *same, &seen->lo[t], &seen->hi[t]);
    }
    lo = most(k, lo, over_own(e, KOP_MIN, seen->lo));
    hi = least(k, hi, over_own(e, KOP_MAX, seen->hi));
  } else if (tightens && (e->tile == 1 || x < e->axis)) {
    tighten(e, o, x, *same, &lo, &hi);
  }
  KInst *end = to_i64(k, plus(k, hi, 1)), *at = to_i32(k, kir_for(k, to_i64(k, lo), end, 1, 0));
  if (is_axis) *same = both(k, *same, within(k, o->near_lo[x], at, o->near_hi[x]));
  else if (e->a->is_raster) *same = both(k, *same, equal(k, at, o->at[x]));
  return at;
}

/* Does own position t see the other at `at`?  NULL: surely. */
static KInst *sees_at(Block *e, const Seen *seen, const Window *other, int t, KInst *const at[3]) {
  Kernel *k = e->k;
  const Own *o = &e->of[t];
  KInst *x = seen->lo[0] ? within(k, seen->lo[t], at[e->axis], seen->hi[t]) : NULL;
  if (!tests_lines(e)) return x;
  return and_also(k, x, e->a->for_keys ? attend_on_line(k, other, o->at) : attend_on_line(k, &o->w, at));
}

/* Adds one other: its row in the slot, and its entry in the list. */
static void sum_one(Block *e, Sum *s, KInst *slot, KInst *row, KInst *entry, KInst *const *sees) {
  Kernel *k = e->k;
  const Spread *y = &s->y;
  const Heads *h = s->from->h;
  KInst *at = to_i64(k, times(k, row, slot_pitch(h))), *base = add(k, stage_rows_at(e, s->from, slot), at);
  KInst *place = times(k, entry, e->tile);
  KInst *list = to_i64(k, add(k, list_at(e, s->list), place)), *x[MAX_LANE_QUADS];
  for (int j = 0; j < y->quads; j++) {
    KInst *column = lane_column(k, y, j);
    bool all = ((int64_t)j * LANES + y->lanes) * QUAD <= padded(h);
    x[j] = kir_load4(k, e->stage, base, column, all ? NULL : below(k, column, num32(k, padded(h))));
  }
  for (int r = 0; r < y->rounds; r++) {
    KInst *w = list_get(e, s->list, y, list, r), *in = sees[0] ? lane_own(e, y, r, sees) : NULL;
    for (int j = 0; j < y->quads * QUAD; j++) {
      KInst *old = kir_get(k, s->of[r][j]), *sum = fma_of(k, w, kir_part(k, x[j / QUAD], j % QUAD), old);
      kir_set(k, s->of[r][j], in ? pick(k, in, sum, old) : sum);
    }
  }
}

static void weight_one(Block *e, const Spread *y, KInst *entry, KInst *const *sees, KInst *const *l) {
  Kernel *k = e->k;
  KInst *place = times(k, entry, e->tile), *list = to_i64(k, add(k, list_at(e, 0), place));
  for (int r = 0; r < y->rounds; r++) {
    KInst *which = y->at_once > 1 ? lane_which(k, y) : NULL, *old = kir_get(k, l[r]);
    KInst *sum = add(k, old, kir_load(k, e->a->scores, plus(k, list, r * y->at_once), which, NULL));
    kir_set(k, l[r], sees[0] ? pick(k, lane_own(e, y, r, sees), sum, old) : sum);
  }
}

void sum_part(Block *e, const Part *p, KInst *slot, KInst *start, Sum *s, int n_sum, const Spread *y,
              KInst *const *l) {
  Kernel *k = e->k;
  KInst *at[3], *wide[3], *same = kir_bool(k, true), *entry = num32(k, 0), *row = num32(k, 0), *sees[MAX_TILE];
  Seen seen = {{NULL}};
  for (int x = 0; x < 3; x++) {
    at[x] = visit_axis(e, p, x, &same, &seen);
    wide[x] = to_i64(k, at[x]);
    KInst *after = sub(k, at[x], p->lo[x]);
    entry = add(k, mul(k, entry, p->n[x]), after);
    after = sub(k, at[x], p->first[x]);
    row = add(k, times(k, row, e->chunk[x]), after);
  }
  Window other = {{NULL}};
  if (tests_lines(e) && e->a->for_keys) other = attend_window(e->a, wide);
  for (int t = 0; t < e->tile; t++) sees[t] = sees_at(e, &seen, &other, t, at);
  entry = add(k, start, entry);
  for (int i = 0; i < n_sum; i++) sum_one(e, &s[i], slot, row, entry, sees);
  if (l) weight_one(e, y, entry, sees, l);
  for (int x = 0; x < 3; x++) kir_end(k);
}

void sum_store(Block *e, const Spread *y, const Heads *out, int r, KInst *const *value) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *exists[MAX_TILE], *lane = kir_lane(k);
  int64_t stride = 1;
  for (int x = e->axis + 1; x < 3; x++) stride *= a->own->grid[x];
  for (int t = 0; t < e->tile; t++) exists[t] = e->of[t].exists;
  KInst *mask = lane_own(e, y, r, exists), *index = to_i64(k, e->of[0].index);
  KInst *base = attend_base(a, out, add(k, times(k, a->sample, a->own->n), index));
  KInst *own = times(k, plus(k, lane_which(k, y), r * y->at_once), stride * out->row);
  if (y->lanes * y->at_once < LANES) mask = both(k, mask, below(k, lane, num32(k, y->lanes * y->at_once)));
  for (int j = 0; j < y->quads; j++) {
    KInst *column = lane_column(k, y, j);
    for (int i = 0; i < (out->width % QUAD ? QUAD : 1); i++) {
      KInst *c = plus(k, column, i), *in = both(k, mask, below(k, c, num32(k, out->width)));
      KInst *at = add(k, own, c);
      if (out->width % QUAD) kir_store(k, out->buf, base, at, value[j * QUAD + i], in);
      else kir_store4(k, out->buf, base, at, value + j * QUAD, in);
    }
  }
}
