/* What a block does with chunks of others in shared memory.
 *
 * Products of head vectors have others along lanes: a lane computes all 16 partial sums of its other's product with
 * each own position and adds them by the tree that other nests have across lanes, so there are no shuffles, and a
 * row is read once for all own positions.  Sums over others have elements along lanes, four neighbours each; where a
 * head needs fewer than 16 lanes, they serve several own positions.  A lane visits the union of what the group's own
 * positions see; who does not see an other keeps its sum.
 *
 * Weights are differences from the largest score, or from lse.  Gradients know lse, so nothing outlives a chunk but
 * the sums: products give weights to lists, then the lists and the same chunk's rows give the sums, and a box of any
 * size is streamed.  Forward, all keys come first, to lists of scores that hold a whole window, then all values.  Where
 * such lists are too long, the first pass keeps the largest score only, and the second, over keys and values, is the
 * gradients' kind. */
#include <math.h>

#include "codegen/lower/attend/gpu.h"

/* ---- the others of a chunk that the group visits ---- */

static Part part_of(Block *e, KInst *step) {
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

/* 16 others of a part, from entry i on: coordinates, row in a slot (i32, varying), which exist. */
typedef struct Lanes {
  KInst *at[3], *row, *mask;
} Lanes;

static Lanes lanes_of(Block *e, const Part *p, KInst *i) {
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
  int operand, half;
  KInst *base, *offset;               /* of the row */
  KInst *sum[MAX_TILE][HALF];
} Dot;

/* n elements of the chains' quad i, from element `at` of the heads on; other nests' lanes add 0 * 0 beyond the end. */
static void dot_quad(Block *e, Dot *d, KInst *at, int i, int64_t n) {
  Kernel *k = e->k;
  KInst *y = n > 0 ? kir_load4(k, e->stage, add(k, d->base, at), d->offset, NULL) : NULL, *zero = zero32(k);
  for (int t = 0; t < e->tile && y; t++) {
    KInst *x = kir_load4(k, e->vectors, add(k, stage_own_at(e, d->operand, t), at), NULL, NULL);
    for (int j = 0; j < n && j < QUAD; j++) {
      KInst *sum = d->sum[t][i * QUAD + j], *old = kir_get(k, sum), *of_y = kir_part(k, y, j);
      kir_set(k, sum, attend_term(k, d->operand, kir_part(k, x, j), of_y, old));
    }
  }
  for (int64_t j = n < 0 ? 0 : n; j < QUAD; j++)
    for (int t = 0; t < e->tile; t++) {
      KInst *sum = d->sum[t][i * QUAD + j];
      kir_set(k, sum, attend_term(k, d->operand, zero, zero, kir_get(k, sum)));
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

/* Products of an operand's rows with the own vectors, out [tile].  Half of the chains at a time: a tile's 16 need too
 * many registers. */
static void lane_dots(Block *e, int operand, KInst *slot, KInst *row, KInst **out) {
  Kernel *k = e->k;
  const Heads *h = &e->a->other->of[operand];
  Dot d = {.operand = operand};
  KInst *x[MAX_TILE][HALF];
  d.base = stage_rows_at(e, operand, slot);
  d.offset = times(k, row, slot_pitch(h));
  for (d.half = 0; d.half < 2; d.half++) {
    dot_half(e, &d, h->width);
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

/* ---- lanes of sums ---- */

static Spread spread_of(const Block *e, const Heads *h) {
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

/* A number of own position i / lanes + r at_once. */
static KInst *lane_own(Block *e, const Spread *y, int r, KInst *const *of_t) {
  Kernel *k = e->k;
  KInst *x = of_t[r * y->at_once];
  for (int i = 1; i < y->at_once; i++)
    x = pick(k, equal(k, lane_which(k, y), num32(k, i)), of_t[r * y->at_once + i], x);
  return x;
}

/* ---- lists of weights: entry i holds one for each own position ---- */

static KInst *list_at(Block *e, int list, KInst *i) {
  Kernel *k = e->k;
  int64_t elems = e->list * e->tile;
  KInst *start = plus(k, times(k, kir_group(k), lists_of(e->a) * elems), list * elems), *place = times(k, i, e->tile);
  return to_i64(k, add(k, start, place));
}

/* value [tile] to entries i + lane of a list. */
static void list_put(Block *e, int list, KInst *i, KInst *const *value, KInst *mask) {
  Kernel *k = e->k;
  KInst *at = list_at(e, list, i), *lane = times(k, kir_lane(k), e->tile);
  if (e->tile == QUAD) kir_store4(k, e->a->scores, at, lane, value, mask);
  for (int t = 0; t < e->tile && e->tile != QUAD; t++)
    kir_store(k, e->a->scores, plus(k, at, t), lane, value[t], mask);
}

/* The lanes' weights of an entry, in round r. */
static KInst *list_get(Block *e, int list, const Spread *y, KInst *i, int r) {
  Kernel *k = e->k;
  KInst *at = list_at(e, list, i), *which = y->at_once > 1 ? lane_which(k, y) : NULL;
  return kir_load(k, e->a->scores, plus(k, at, r * y->at_once), which, NULL);
}

/* Scores to weights; an entry's own positions stand side by side. */
static void exponentiate(Block *e) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *m = e->number[X][0], *t = remainder_of(k, kir_lane(k), e->tile);
  for (int i = 1; i < e->tile; i++) m = pick(k, equal(k, t, num32(k, i)), e->number[X][i], m);
  KInst *n = to_i64(k, times(k, kir_get(k, a->n), e->tile));
  attend_exponentiate(a, list_at(e, 0, num32(k, 0)), n, m);
}

/* ---- who sees whom ---- */

/* Does own query t see the key at `at`, of its box?  NULL: surely. */
static KInst *own_sees(Block *e, int t, KInst *const at[3]) {
  Attention *a = e->a;
  Kernel *k = e->k;
  const Own *o = &e->of[t];
  KInst *sees = e->tile > 1 ? within(k, o->sight.lo[e->axis], at[e->axis], o->sight.hi[e->axis]) : NULL;
  if (a->is_raster) sees = both(k, sees, kir_bin(k, KOP_LE, attend_raster(k, a->other->grid, at), o->index));
  return a->is_axis ? both(k, sees, attend_on_line(k, &o->window, at)) : sees;
}

/* Others that each own position sees on the tile's axis, in the loop's plane or line. */
typedef struct Seen {
  KInst *lo[MAX_TILE], *hi[MAX_TILE];   /* i32; lo[0] NULL: all that the loop visits */
} Seen;

/* Are loops bounded by planes and lines?  Not where neighbours of a group lie on different ones. */
static bool narrows(const Block *e) { return !e->a->is_axis || e->axis == 2 || e->tile == 1; }
/* Whether lines need a test beyond these bounds. */
static bool tests_lines(const Block *e) { return e->a->tests_lines || !narrows(e); }

static KInst *over_own(Block *e, KOp op, KInst *const *x) {
  KInst *all = x[0];
  for (int t = 1; t < e->tile; t++) all = kir_bin(e->k, op, all, x[t]);
  return all;
}

/* The loop of axis x over what any own position sees.  Beyond the tile's axis their grid has one position. */
static KInst *visit_axis(Block *e, const Part *p, int x, KInst **same, Seen *seen) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *lo = p->lo[x], *hi = p->hi[x];
  if (e->tile > 1 && x == e->axis) {
    for (int t = 0; t < e->tile; t++) {
      seen->lo[t] = e->of[t].sight.lo[x];
      seen->hi[t] = e->of[t].sight.hi[x];
      if (narrows(e)) attend_narrow(a, &e->of[t].sight, x, *same, &seen->lo[t], &seen->hi[t]);
    }
    lo = most(k, lo, over_own(e, KOP_MIN, seen->lo));
    hi = least(k, hi, over_own(e, KOP_MAX, seen->hi));
  } else if (narrows(e) && (e->tile == 1 || x < e->axis)) {
    attend_narrow(a, &e->of[0].sight, x, *same, &lo, &hi);
  }
  KInst *end = to_i64(k, plus(k, hi, 1)), *at = to_i32(k, kir_for(k, to_i64(k, lo), end, 1, 0));
  *same = attend_same(a, &e->of[0].sight, x, at, *same);
  return at;
}

/* Does own position t see the other at `at`?  other: the window of an other that is a query.  NULL: surely. */
static KInst *sees_at(Block *e, const Seen *seen, const Sight *other, int t, KInst *const at[3]) {
  Kernel *k = e->k;
  const Own *own = &e->of[t];
  KInst *x = seen->lo[0] ? within(k, seen->lo[t], at[e->axis], seen->hi[t]) : NULL;
  if (!tests_lines(e)) return x;
  return both(k, x, e->a->for_keys ? attend_on_line(k, other, own->sight.at) : attend_on_line(k, &own->window, at));
}

/* ---- sums over others ---- */

/* Adds one other to an operand's sums: its row in the slot, and its entry in the list. */
static void sum_one(Block *e, int operand, KInst *slot, KInst *row, KInst *entry, KInst *const *sees) {
  Kernel *k = e->k;
  const Spread *y = &e->of_sum[operand];
  const Heads *h = &e->a->other->of[operand];
  KInst *at = to_i64(k, times(k, row, slot_pitch(h))), *base = add(k, stage_rows_at(e, operand, slot), at);
  KInst *x[MAX_LANE_QUADS];
  for (int j = 0; j < y->quads; j++) {
    KInst *column = lane_column(k, y, j);
    bool all = ((int64_t)j * LANES + y->lanes) * QUAD <= padded(h);
    x[j] = kir_load4(k, e->stage, base, column, all ? NULL : below(k, column, num32(k, padded(h))));
  }
  for (int r = 0; r < y->rounds; r++) {
    KInst *w = list_get(e, list_of(e->a, operand), y, entry, r), *in = sees[0] ? lane_own(e, y, r, sees) : NULL;
    for (int j = 0; j < y->quads * QUAD; j++) {
      KInst *old = kir_get(k, e->sum[operand][r][j]), *sum = fma_of(k, w, kir_part(k, x[j / QUAD], j % QUAD), old);
      kir_set(k, e->sum[operand][r][j], in ? pick(k, in, sum, old) : sum);
    }
  }
}

static void weight_one(Block *e, KInst *entry, KInst *const *sees) {
  Kernel *k = e->k;
  for (int r = 0; r < e->of_total.rounds; r++) {
    KInst *old = kir_get(k, e->total[r]), *sum = add(k, old, list_get(e, 0, &e->of_total, entry, r));
    kir_set(k, e->total[r], sees[0] ? pick(k, lane_own(e, &e->of_total, r, sees), sum, old) : sum);
  }
}

/* The others of a part that each own position sees, in raster order; start: the lists' entry where the part starts. */
static void sum_part(Block *e, const Part *p, KInst *slot, KInst *start) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *at[3], *same = kir_bool(k, true), *entry = num32(k, 0), *row = num32(k, 0), *sees[MAX_TILE];
  Seen seen = {{NULL}};
  for (int x = 0; x < 3; x++) {
    at[x] = visit_axis(e, p, x, &same, &seen);
    KInst *after = sub(k, at[x], p->lo[x]);
    entry = add(k, mul(k, entry, p->n[x]), after);
    after = sub(k, at[x], p->first[x]);
    row = add(k, times(k, row, e->chunk[x]), after);
  }
  Sight other = {{NULL}};
  if (tests_lines(e) && a->for_keys) other = attend_window(a, at);
  KInst *unmasked = a->for_keys ? NULL : attend_unmasked(a, num(k, 0), attend_raster(k, a->other->grid, at));
  for (int t = 0; t < e->tile; t++)
    sees[t] = both(k, sees_at(e, &seen, &other, t, at), a->for_keys ? e->of[t].unmasked : unmasked);
  entry = add(k, start, entry);
  for (int i = X; i <= Y; i++)
    if (a->has[i]) sum_one(e, i, slot, row, entry, sees);
  if (a->is_forward) weight_one(e, entry, sees);
  for (int x = 0; x < 3; x++) kir_end(k);
}

/* value [quads * 4] of round r to a result of own positions. */
static void sum_store(Block *e, const Spread *y, const Heads *out, int r, KInst *const *value) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *exists[MAX_TILE], *lane = kir_lane(k);
  int64_t stride = 1;
  for (int x = e->axis + 1; x < 3; x++) stride *= a->own->grid[x];
  for (int t = 0; t < e->tile; t++) exists[t] = e->of[t].exists;
  KInst *mask = lane_own(e, y, r, exists), *index = to_i64(k, e->of[0].index);
  KInst *base = attend_base(a, out, attend_row(a, a->own, index));
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

static void store_lse(Block *e, int r, KInst *none) {
  Attention *a = e->a;
  Kernel *k = e->k;
  const Spread *y = &e->of_total;
  KInst *m = lane_own(e, y, r, e->number[X]), *lse = add(k, m, kir_log(k, kir_get(k, e->total[r])));
  KInst *at[MAX_TILE], *exists[MAX_TILE];
  for (int t = 0; t < e->tile; t++) {
    at[t] = sub(k, e->of[t].index, e->of[0].index);
    exists[t] = e->of[t].exists;
  }
  KInst *row = attend_row(a, a->own, to_i64(k, e->of[0].index)), *mask = lane_own(e, y, r, exists);
  if (y->at_once > 1) {   /* else all lanes have the same */
    KInst *first = equal(k, remainder_of(k, kir_lane(k), y->lanes), num32(k, 0));
    KInst *in = below(k, kir_lane(k), num32(k, y->lanes * y->at_once));
    mask = both(k, both(k, mask, first), in);
  }
  lse = pick(k, none, kir_f32(k, -INFINITY), lse);
  KInst *lane = times(k, lane_own(e, y, r, at), a->attrs->heads);
  kir_store(k, a->out_lse, attend_number_at(a, row), lane, lse, mask);
}

/* ---- the passes ---- */

/* Forward, the first: the largest score of each lane, and lists of scores. */
static void score_chunk(Block *e, KInst *step, KInst *slot) {
  Attention *a = e->a;
  Kernel *k = e->k;
  Part p = part_of(e, step);
  KInst *score[MAX_TILE], *i = kir_for(k, num(k, 0), to_i64(k, p.count), LANES, 0);
  Lanes o = lanes_of(e, &p, i);
  lane_dots(e, X, slot, o.row, score);
  KInst *counts = both(k, o.mask, attend_unmasked(a, num(k, 0), attend_raster(k, a->other->grid, o.at)));
  for (int t = 0; t < e->tile; t++) {
    KInst *largest = e->number[X][t], *sees = own_sees(e, t, o.at), *old = kir_get(k, largest);
    score[t] = attend_scaled(a, score[t]);
    kir_set(k, largest, pick(k, both(k, counts, sees), most(k, old, score[t]), old));
  }
  if (!e->is_streamed) list_put(e, 0, add(k, kir_get(k, a->n), to_i32(k, i)), score, o.mask);
  kir_end(k);
  kir_set(k, a->n, add(k, kir_get(k, a->n), p.count));
}

/* The second, where scores were kept. */
static void sum_chunk(Block *e, KInst *step, KInst *slot) {
  Kernel *k = e->k;
  Part p = part_of(e, step);
  sum_part(e, &p, slot, kir_get(k, e->a->n));
  kir_set(k, e->a->n, add(k, kir_get(k, e->a->n), p.count));
}

/* lse or delta of the lanes' queries; NULL: they are the own positions'. */
static KInst *number_of(Block *e, int operand, KInst *slot, KInst *row) {
  if (!has_numbers(e->a, operand)) return NULL;
  return kir_load(e->k, e->numbers, stage_numbers_at(e, operand, slot), row, NULL);
}

/* Weights of 16 others, p and ds, to the lists. */
static void weigh_lanes(Block *e, const Part *p, KInst *slot, KInst *i) {
  Attention *a = e->a;
  Kernel *k = e->k;
  Lanes o = lanes_of(e, p, i);
  KInst *w[MAX_TILE], *dp[MAX_TILE], *lse = number_of(e, X, slot, o.row);
  lane_dots(e, X, slot, o.row, w);
  for (int t = 0; t < e->tile; t++) w[t] = kir_exp(k, sub(k, attend_scaled(a, w[t]), lse ? lse : e->number[X][t]));
  if (a->is_forward || a->has[Y]) list_put(e, list_of(a, Y), to_i32(k, i), w, o.mask);
  if (!a->has[X]) return;
  KInst *delta = number_of(e, Y, slot, o.row);
  lane_dots(e, Y, slot, o.row, dp);
  for (int t = 0; t < e->tile; t++) w[t] = attend_ds(k, w[t], dp[t], delta ? delta : e->number[Y][t]);
  list_put(e, list_of(a, X), to_i32(k, i), w, o.mask);
}

/* The only one of gradients, and the second where scores were not kept. */
static void weigh_chunk(Block *e, KInst *step, KInst *slot) {
  Kernel *k = e->k;
  Part p = part_of(e, step);
  KInst *i = kir_for(k, num(k, 0), to_i64(k, p.count), LANES, 0);
  weigh_lanes(e, &p, slot, i);
  kir_end(k);
  kir_sync(k);
  sum_part(e, &p, slot, num32(k, 0));
  kir_sync(k);
}

/* The largest score of each own position, and forward's lists of weights where they are kept. */
static void find_largest(Block *e) {
  Attention *a = e->a;
  Kernel *k = e->k;
  for (int t = 0; t < e->tile; t++) e->number[X][t] = kir_var(k, kir_f32(k, -INFINITY), true);
  a->n = kir_var(k, num32(k, 0), false);
  stage_each_chunk(e, 0, score_chunk);
  for (int t = 0; t < e->tile; t++) e->number[X][t] = kir_un(k, KOP_TREE_MAX, kir_get(k, e->number[X][t]));
  if (!e->is_streamed) exponentiate(e);
  kir_set(k, a->n, num32(k, 0));
}

static void load_numbers(Block *e) {
  Attention *a = e->a;
  for (int t = 0; t < e->tile && !a->for_keys; t++)
    for (int i = X; i <= Y; i++)
      e->number[i][t] = attend_number(a, a->number[i], attend_row(a, a->own, to_i64(e->k, e->of[t].index)));
}

static void start_sums(Block *e) {
  Attention *a = e->a;
  for (int i = X; i <= Y; i++) {
    if (!a->has[i]) continue;
    e->of_sum[i] = spread_of(e, &a->out[i]);
    for (int r = 0; r < e->of_sum[i].rounds; r++)
      for (int j = 0; j < e->of_sum[i].quads * QUAD; j++) e->sum[i][r][j] = kir_var(e->k, zero32(e->k), true);
  }
  if (!a->is_forward) return;
  e->of_total = a->has[Y] ? e->of_sum[Y] : spread_of(e, &a->own->of[X]);
  for (int r = 0; r < e->of_total.rounds; r++)
    e->total[r] = kir_var(e->k, zero32(e->k), e->of_total.at_once > 1);
}

static void finish(Block *e) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *total[MAX_TILE] = {NULL}, *none[MAX_TILE], *zero = zero32(k);
  /* The largest score's weight is 1: a sum of 0 has no terms. */
  for (int r = 0; a->is_forward && r < e->of_total.rounds; r++) {
    total[r] = kir_get(k, e->total[r]);
    none[r] = equal(k, total[r], zero);
  }
  for (int i = X; i <= Y; i++)
    for (int r = 0; a->has[i] && r < e->of_sum[i].rounds; r++) {
      KInst *x[MAX_LANE_QUADS * QUAD];
      for (int j = 0; j < e->of_sum[i].quads * QUAD; j++) {
        x[j] = attend_result(a, i, kir_get(k, e->sum[i][r][j]), total[r]);
        if (a->is_forward) x[j] = pick(k, none[r], zero, x[j]);
      }
      sum_store(e, &e->of_sum[i], &a->out[i], r, x);
    }
  for (int r = 0; a->out_lse >= 0 && r < e->of_total.rounds; r++) store_lse(e, r, none[r]);
}

void pass_all(Block *e) {
  if (e->a->is_forward) find_largest(e);
  else load_numbers(e);
  start_sums(e);
  stage_each_chunk(e, e->a->is_forward, e->is_streamed ? weigh_chunk : sum_chunk);
  finish(e);
}
