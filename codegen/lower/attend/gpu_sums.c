/* What a group does with a chunk of others in shared memory.
 *
 * Products of head vectors have others along lanes: a lane computes all 16 partial sums of its other's product with
 * each own position and adds them by the tree that the common nest has across lanes, so there are no shuffles, and a
 * row is read once for all own positions.  Sums over others have elements along lanes, four neighbours each; where a
 * head needs fewer than 16 lanes, they serve several own positions.  A lane visits the union of what the group's own
 * positions see; who does not see an other keeps its sum. */
#include "codegen/lower/attend/gpu.h"

Part part_of(Tile *e, KInst *step) {
  Attend *a = e->a;
  Part p;
  for (int x = 0; x < 3; x++) {
    p.first[x] = stage_first(e, step, x);
    p.lo[x] = most(e, e->lo[x], p.first[x]);
    p.hi[x] = least(e, e->hi[x], plus(e, p.first[x], num32(e, e->chunk[x] - 1)));
    p.n[x] = least(e, most(e, minus(e, plus(e, p.hi[x], num32(e, 1)), p.lo[x]), num32(e, 0)), num32(e, e->chunk[x]));
  }
  for (int x = 1; x < 3; x++)
    p.inverse[x] = kir_bin(e->k, KOP_DIV, kir_f32(e->k, 1.0f),
                           kir_un(e->k, KOP_TO_F32, most(e, p.n[x], num32(e, 1))));
  p.count = bin(a, KOP_MUL, bin(a, KOP_MUL, p.n[0], p.n[1]), p.n[2]);
  return p;
}

/* x / n for 0 <= x < 2^20, from n's inverse: a division by what is not constant takes 30 instructions. The product is
 * off by less than 0.5 / n, and so far from an integer. */
static KInst *quotient(Tile *e, KInst *x, KInst *n, KInst *inverse) {
  KInst *middle = plus(e, kir_un(e->k, KOP_TO_F32, x), kir_f32(e->k, 0.5f));
  return kir_un(e->k, KOP_TO_I32, kir_bin(e->k, KOP_MUL, middle, inverse));
}

Lanes lanes_of(Tile *e, const Part *p, KInst *i) {
  Attend *a = e->a;
  KInst *entry = plus(e, to_i32(e, i), kir_lane(e->k));
  Lanes o = {.mask = bin(a, KOP_LT, entry, p->count)};
  KInst *rest = most(e, least(e, entry, minus(e, p->count, num32(e, 1))), num32(e, 0));
  for (int x = 2; x >= 0; x--) {
    KInst *over = x ? quotient(e, rest, p->n[x], p->inverse[x]) : num32(e, 0);
    o.at[x] = plus(e, minus(e, rest, kir_bin(e->k, KOP_MUL, over, p->n[x])), p->lo[x]);
    rest = over;
  }
  for (int x = 0; x < 3; x++) {
    KInst *in = minus(e, o.at[x], p->first[x]);
    o.row = o.row ? plus(e, times(e, o.row, e->chunk[x]), in) : in;
  }
  return o;
}

/* ---- products ---- */

static KInst *chained(Tile *e, bool is_rounded, KInst *x, KInst *y, KInst *sum) {
  if (!is_rounded) return kir_op(e->k, KOP_FMA, x, y, sum);
  return plus(e, sum, kir_bin(e->k, KOP_MUL, x, y));
}

enum { HALF = LANES / 2 };

/* The chains of elements i and i + 8 of 16, i in quad `half`, of a lane's row with all own vectors. */
typedef struct Dot {
  int kept;
  KInst *base, *offset;               /* of the row */
  bool is_rounded;
  KInst *sum[MAX_TILE][HALF];
} Dot;

/* n elements of the chains' quad i, from element `at` of the heads on. */
static void dot_quad(Tile *e, Dot *d, KInst *at, int i, int n) {
  Kernel *k = e->k;
  KInst *y = kir_load4(k, e->stage, plus(e, d->base, at), d->offset, NULL);
  for (int t = 0; t < e->tile; t++) {
    KInst *x = kir_load4(k, e->vectors, plus(e, stage_own_at(e, d->kept, t), at), NULL, NULL);
    for (int j = 0; j < n; j++) {
      KInst *sum = d->sum[t][i * QUAD + j];
      kir_set(k, sum, chained(e, d->is_rounded, kir_part(k, x, j), kir_part(k, y, j), kir_get(k, sum)));
    }
  }
}

static void dot_half(Tile *e, Dot *d, int64_t width, int half) {
  Kernel *k = e->k;
  int64_t full = width / LANES * LANES;
  KInst *zero = kir_f32(k, 0.0f);
  for (int t = 0; t < e->tile; t++)
    for (int i = 0; i < HALF; i++) d->sum[t][i] = kir_var(k, zero, true);
  if (full) {
    KInst *j = kir_for(k, kir_i64(k, 0), kir_i64(k, full), LANES, 1);
    for (int i = 0; i < 2; i++) dot_quad(e, d, plus(e, j, kir_i64(k, (int64_t)half * QUAD + i * HALF)), i, QUAD);
    kir_end(k);
  }
  for (int i = 0; full < width && i < 2; i++) {
    int64_t at = full + (int64_t)half * QUAD + i * HALF, left = width - at;
    if (left > 0) dot_quad(e, d, kir_i64(k, at), i, left < QUAD ? (int)left : QUAD);
    /* the common nest's lanes beyond the end add 0 * 0 */
    for (int64_t j = left < 0 ? 0 : left; j < QUAD; j++)
      for (int t = 0; t < e->tile; t++) {
        KInst *sum = d->sum[t][i * QUAD + j];
        kir_set(k, sum, chained(e, d->is_rounded, zero, zero, kir_get(k, sum)));
      }
  }
}

/* Half of the chains at a time: a tile's 16 need too many registers. */
void lane_dots(Tile *e, int kept, const Staged *s, KInst *slot, KInst *row, bool is_rounded, KInst **out) {
  Kernel *k = e->k;
  Dot d = {.kept = kept, .is_rounded = is_rounded};
  KInst *x[MAX_TILE][HALF];
  d.base = stage_rows_at(e, s, slot);
  d.offset = times(e, row, pitch(s->h));
  for (int half = 0; half < 2; half++) {
    dot_half(e, &d, s->h->width, half);
    for (int t = 0; t < e->tile; t++)
      for (int i = 0; i < QUAD; i++)
        x[t][half * QUAD + i] = plus(e, kir_get(k, d.sum[t][i]), kir_get(k, d.sum[t][QUAD + i]));
  }
  for (int t = 0; t < e->tile; t++) {
    for (int n = HALF / 2; n; n /= 2)
      for (int i = 0; i < n; i++) x[t][i] = plus(e, x[t][i], x[t][i + n]);
    out[t] = x[t][0];
  }
}

/* ---- who sees whom ---- */

/* One of the three lines through the centre holds the key; all i32. */
static KInst *on_line(Tile *e, const Window *w, KInst *const key[3]) {
  Attend *a = e->a;
  KInst *at[3], *in[3], *sees = NULL;
  for (int x = 0; x < 3; x++) {
    at[x] = equal(a, key[x], to_i32(e, w->centre[x]));
    in[x] = within(a, to_i32(e, w->lo[x]), key[x], to_i32(e, w->hi[x]));
  }
  for (int x = 0; x < 3; x++) {
    KInst *line = both(a, in[x], both(a, at[(x + 1) % 3], at[(x + 2) % 3]));
    sees = sees ? either(a, sees, line) : line;
  }
  return sees;
}

KInst *own_sees(Tile *e, int t, KInst *const at[3]) {
  Attend *a = e->a;
  KInst *sees = NULL;
  if (e->tile > 1) sees = within(a, e->of[t].lo[e->axis], at[e->axis], e->of[t].hi[e->axis]);
  if (a->extent->is_raster) {
    KInst *raster = plus(e, times(e, plus(e, times(e, at[0], e->other[1]), at[1]), e->other[2]), at[2]);
    KInst *before = bin(a, KOP_LE, raster, e->of[t].index);
    sees = sees ? both(a, sees, before) : before;
  }
  if (!a->extent->is_axis) return sees;
  KInst *line = on_line(e, &e->of[t].w, at);
  return sees ? both(a, sees, line) : line;
}

/* ---- lanes of sums ---- */

Layout layout_of(const Tile *e, const Heads *h) {
  int quads = (int)(padded(h) / QUAD), lanes = 1;
  while (lanes < quads && lanes < LANES) lanes *= 2;
  Layout y = {.lanes = lanes, .at_once = LANES / lanes, .quads = (quads + LANES - 1) / LANES};
  if (y.at_once > e->tile) y.at_once = e->tile;
  y.rounds = e->tile / y.at_once;
  return y;
}

/* The lane's own position among those at once. */
static KInst *lane_which(Tile *e, const Layout *y) {
  KInst *which = bin(e->a, KOP_DIV, kir_lane(e->k), num32(e, y->lanes));
  return least(e, which, num32(e, y->at_once - 1));
}

/* First element of the lane's quad j. */
static KInst *lane_column(Tile *e, const Layout *y, int j) {
  KInst *quad = bin(e->a, KOP_MOD, kir_lane(e->k), num32(e, y->lanes));
  return plus(e, times(e, quad, QUAD), num32(e, (int64_t)j * LANES * QUAD));
}

KInst *lane_own(Tile *e, const Layout *y, int r, KInst *const *of_t) {
  KInst *x = of_t[r * y->at_once];
  for (int i = 1; i < y->at_once; i++)
    x = pick(e->a, equal(e->a, lane_which(e, y), num32(e, i)), of_t[r * y->at_once + i], x);
  return x;
}

void sum_start(Tile *e, Sum *s, const Staged *from, int list) {
  *s = (Sum){.from = from, .list = list, .y = layout_of(e, from->h)};
  for (int r = 0; r < s->y.rounds; r++)
    for (int j = 0; j < s->y.quads * QUAD; j++) s->of[r][j] = kir_var(e->k, kir_f32(e->k, 0.0f), true);
}

/* ---- lists of weights: entry i holds one for each own position ---- */

KInst *list_at(Tile *e, int list) {
  KInst *group = times(e, kir_group(e->k), e->n_list * e->list * e->tile);
  return plus(e, group, num32(e, list * e->list * e->tile));
}

void list_put(Tile *e, int list, KInst *i, KInst *const *value, KInst *mask) {
  Kernel *k = e->k;
  KInst *at = to_i64(e, plus(e, list_at(e, list), times(e, i, e->tile))), *lane = times(e, kir_lane(k), e->tile);
  if (e->tile == QUAD) {
    kir_store4(k, e->a->scores, at, lane, value, mask);
    return;
  }
  for (int t = 0; t < e->tile; t++) kir_store(k, e->a->scores, plus(e, at, num(e->a, t)), lane, value[t], mask);
}

/* ---- sums over others ---- */

/* Others that each own position sees on the tile's axis, in the loop's plane or line. */
typedef struct Seen {
  KInst *lo[MAX_TILE], *hi[MAX_TILE];   /* i32; lo[0] NULL: all that the loop visits */
} Seen;

/* Whether lines need a test beyond the loops' bounds. */
static bool tests_lines(const Tile *e) {
  const Extent *x = e->a->extent;
  return x->is_axis && (e->for_keys || (e->tile > 1 && e->axis != 2) || !attend_windows_hold_centre(x));
}

static KInst *over_own(Tile *e, KOp op, KInst *const *x) {
  KInst *all = x[0];
  for (int t = 1; t < e->tile; t++) all = kir_bin(e->k, op, all, x[t]);
  return all;
}

/* Bounds on axis x of one own position; same: on the axes before, this is the plane or line of its centre. */
static void tighten(Tile *e, const Own *o, int x, KInst *same, KInst **lo, KInst **hi) {
  Attend *a = e->a;
  if (a->extent->is_axis) {
    *lo = pick(a, same, *lo, most(e, *lo, o->near_lo[x]));
    *hi = pick(a, same, *hi, least(e, *hi, o->near_hi[x]));
  }
  if (!a->extent->is_raster) return;
  if (e->for_keys) *lo = pick(a, same, most(e, *lo, o->at[x]), *lo);
  else *hi = pick(a, same, least(e, *hi, o->at[x]), *hi);
}

/* The loop of axis x over what any own position sees.  Beyond the tile's axis their grid has one position. */
static KInst *visit_axis(Tile *e, const Part *p, int x, KInst **same, Seen *seen) {
  Attend *a = e->a;
  KInst *lo = p->lo[x], *hi = p->hi[x];
  bool tightens = !a->extent->is_axis || e->axis == 2 || e->tile == 1;
  if (e->tile > 1 && x == e->axis) {
    for (int t = 0; t < e->tile; t++) {
      seen->lo[t] = e->of[t].lo[x];
      seen->hi[t] = e->of[t].hi[x];
      if (tightens) tighten(e, &e->of[t], x, *same, &seen->lo[t], &seen->hi[t]);
    }
    lo = most(e, lo, over_own(e, KOP_MIN, seen->lo));
    hi = least(e, hi, over_own(e, KOP_MAX, seen->hi));
  } else if (tightens && (e->tile == 1 || x < e->axis)) {
    tighten(e, &e->of[0], x, *same, &lo, &hi);
  }
  KInst *at = to_i32(e, kir_for(e->k, to_i64(e, lo), to_i64(e, plus(e, hi, num32(e, 1))), 1, 0));
  const Own *o = &e->of[0];
  if (a->extent->is_axis) *same = both(a, *same, within(a, o->near_lo[x], at, o->near_hi[x]));
  else if (a->extent->is_raster) *same = both(a, *same, equal(a, at, o->at[x]));
  return at;
}

/* Does own position t see the other at `at`?  NULL: surely. */
static KInst *sees_at(Tile *e, const Seen *seen, const Window *other, int t, KInst *const at[3]) {
  Attend *a = e->a;
  KInst *x = seen->lo[0] ? within(a, seen->lo[t], at[e->axis], seen->hi[t]) : NULL;
  if (!tests_lines(e)) return x;
  KInst *line = e->for_keys ? on_line(e, other, e->of[t].at) : on_line(e, &e->of[t].w, at);
  return x ? both(a, x, line) : line;
}

/* Adds one other: its row in the slot, and its entry in the list. */
static void sum_one(Tile *e, Sum *s, KInst *slot, KInst *row, KInst *entry, KInst *const *sees) {
  Attend *a = e->a;
  Kernel *k = e->k;
  const Layout *y = &s->y;
  const Heads *h = s->from->h;
  KInst *base = plus(e, stage_rows_at(e, s->from, slot), to_i64(e, times(e, row, pitch(h))));
  KInst *list = to_i64(e, plus(e, list_at(e, s->list), times(e, entry, e->tile))), *x[MAX_LANE_QUADS];
  for (int j = 0; j < y->quads; j++) {
    KInst *column = lane_column(e, y, j);
    bool all = ((int64_t)j * LANES + y->lanes) * QUAD <= padded(h);
    KInst *mask = all ? NULL : bin(a, KOP_LT, column, num32(e, padded(h)));
    x[j] = kir_load4(k, e->stage, base, column, mask);
  }
  for (int r = 0; r < y->rounds; r++) {
    KInst *which = y->at_once > 1 ? lane_which(e, y) : NULL;
    KInst *w = kir_load(k, a->scores, plus(e, list, num(a, r * y->at_once)), which, NULL);
    KInst *in = sees[0] ? lane_own(e, y, r, sees) : NULL;
    for (int j = 0; j < y->quads * QUAD; j++) {
      KInst *old = kir_get(k, s->of[r][j]), *sum = kir_op(k, KOP_FMA, w, kir_part(k, x[j / QUAD], j % QUAD), old);
      kir_set(k, s->of[r][j], in ? pick(a, in, sum, old) : sum);
    }
  }
}

static void weight_one(Tile *e, const Layout *y, KInst *entry, KInst *const *sees, KInst *const *l) {
  Attend *a = e->a;
  KInst *list = to_i64(e, plus(e, list_at(e, 0), times(e, entry, e->tile)));
  for (int r = 0; r < y->rounds; r++) {
    KInst *which = y->at_once > 1 ? lane_which(e, y) : NULL, *old = kir_get(e->k, l[r]);
    KInst *sum = plus(e, old, kir_load(e->k, a->scores, plus(e, list, num(a, r * y->at_once)), which, NULL));
    kir_set(e->k, l[r], sees[0] ? pick(a, lane_own(e, y, r, sees), sum, old) : sum);
  }
}

void sum_part(Tile *e, const Part *p, KInst *slot, KInst *start, Sum *s, int n_sum, const Layout *y,
              KInst *const *l) {
  Attend *a = e->a;
  KInst *at[3], *wide[3], *same = kir_bool(e->k, true), *entry = num32(e, 0), *row = num32(e, 0), *sees[MAX_TILE];
  Seen seen = {{NULL}};
  for (int x = 0; x < 3; x++) {
    at[x] = visit_axis(e, p, x, &same, &seen);
    wide[x] = to_i64(e, at[x]);
    entry = plus(e, bin(a, KOP_MUL, entry, p->n[x]), minus(e, at[x], p->lo[x]));
    row = plus(e, times(e, row, e->chunk[x]), minus(e, at[x], p->first[x]));
  }
  Window other = {{NULL}};
  if (tests_lines(e) && e->for_keys) other = attend_window(a, wide);
  for (int t = 0; t < e->tile; t++) sees[t] = sees_at(e, &seen, &other, t, at);
  entry = plus(e, start, entry);
  for (int i = 0; i < n_sum; i++) sum_one(e, &s[i], slot, row, entry, sees);
  if (l) weight_one(e, y, entry, sees, l);
  for (int x = 0; x < 3; x++) kir_end(e->k);
}

void sum_store(Tile *e, const Layout *y, const Heads *out, int r, KInst *const *value) {
  Attend *a = e->a;
  Kernel *k = e->k;
  KInst *exists[MAX_TILE], *lane = kir_lane(k);
  int64_t stride = 1;
  for (int x = e->axis + 1; x < 3; x++) stride *= e->own[x];
  for (int t = 0; t < e->tile; t++) exists[t] = e->of[t].exists;
  KInst *mask = lane_own(e, y, r, exists);
  KInst *base = attend_base(a, out, plus(e, times(e, a->sample, positions_of(e->own)), to_i64(e, e->of[0].index)));
  KInst *own = times(e, plus(e, lane_which(e, y), num32(e, r * y->at_once)), stride * out->row);
  if (y->lanes * y->at_once < LANES) mask = both(a, mask, bin(a, KOP_LT, lane, num32(e, y->lanes * y->at_once)));
  bool is_wide = out->width % QUAD == 0;
  for (int j = 0; j < y->quads; j++) {
    KInst *column = lane_column(e, y, j), *in = both(a, mask, bin(a, KOP_LT, column, num32(e, out->width)));
    if (is_wide) {
      kir_store4(k, out->buf, base, plus(e, own, column), value + j * QUAD, in);
      continue;
    }
    for (int i = 0; i < QUAD; i++) {
      KInst *c = plus(e, column, num32(e, i));
      in = both(a, mask, bin(a, KOP_LT, c, num32(e, out->width)));
      kir_store(k, out->buf, base, plus(e, own, c), value[j * QUAD + i], in);
    }
  }
}
