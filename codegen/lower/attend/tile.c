/* The loop nest of attention on a CPU where many queries see the same keys: full attention, causal in raster order
 * or not, forward and gradients.
 *
 * An item is one sample, one head and a block of own positions.  The others that they meet are copied into scratch
 * first, one head's elements side by side, in f32.  A tile has 16 own positions a lane vector, and a few others at a
 * time: an element of an other is then one number for all lanes, and an element of the own positions one vector for
 * all others.  Weights stay in scratch, [other][own position], and results are summed with elements along lanes, a few
 * own positions at a time.  A score's 16 partial sums are 16 chains of vectors, added by the tree that tree_add has
 * across lanes; where raster order cuts, sums end at the last other that is seen, masked keys are left out of them, and
 * nothing is multiplied by zero. */
#include <math.h>

#include "codegen/lower/attend/attend.h"

enum { MAX_ROWS = 4, MAX_VECTORS = 2, SCRATCH_BYTES = 64 << 20 };

/* An operand in scratch: of the item's others f32 [others][pitch], zeros behind the head's end; of the tile's own
 * positions [width][lanes]; what others are weighted with, [others][lanes] forward, else of a chunk; sums of others so
 * weighted, [lanes][pitch].  -1: not needed. */
typedef struct Panel {
  const Heads *h;             /* of others */
  int rows, own, weights, sums;
} Panel;

typedef struct Tile {
  Attention *a;
  Kernel *k;
  bool before, after;         /* raster order cuts what comes after own queries, or before own keys */
  int rows, vectors;          /* of the register tile: others at once, 16 own positions each */
  int64_t lanes;              /* own positions of a tile: 16 vectors */
  int chunk, sums, unroll;    /* see ATTEND_PARAMS */
  Panel panel[OPERANDS];
  int total;                  /* scratch: sums of weights, [lanes] */
  KInst *row_lo;              /* first other of the item; panels begin with it */
  KInst *own, *left;          /* first own position of the tile, and how many exist */
} Tile;

typedef KInst *Scores[MAX_ROWS][MAX_VECTORS];

static KInst *own_row(Tile *e, KInst *index) { return attend_row(e->a, e->a->own, index); }

/* Where a row is in an operand's panel. */
static KInst *row_at(Tile *e, int operand, KInst *row) {
  return times(e->k, sub(e->k, row, e->row_lo), pitch_of(e->panel[operand].h));
}

/* ---- copies ---- */

static void pack_rows(Tile *e, int operand, KInst *hi) {
  const Panel *p = &e->panel[operand];
  if (p->rows < 0) return;
  KInst *row = kir_for(e->k, e->row_lo, hi, 1, 0);
  attend_pack(e->a, p->h, attend_row(e->a, e->a->other, row), p->rows, row_at(e, operand, row));
  kir_end(e->k);
}

/* Index of a lane's own position, relative to the tile's first; the last again beyond the end. */
static KInst *own_lane(Tile *e, int v) {
  KInst *last = to_i32(e->k, plus(e->k, e->left, -1));
  return least(e->k, plus(e->k, kir_lane(e->k), v * LANES), last);
}

static void load_columns(Tile *e, int operand) {
  const Heads *h = &e->a->own->of[operand];
  int columns = e->panel[operand].own;
  if (columns < 0) return;
  Kernel *k = e->k;
  KInst *base = attend_base(e->a, h, own_row(e, e->own)), *lane[MAX_VECTORS];
  for (int v = 0; v < e->vectors; v++) lane[v] = times(k, own_lane(e, v), h->row);
  KInst *d = kir_for(k, num(k, 0), num(k, h->width), 1, 0);
  for (int v = 0; v < e->vectors; v++) {
    KInst *x = kir_load(k, h->buf, add(k, base, d), lane[v], NULL);
    attend_put(k, columns, plus(k, times(k, d, e->lanes), v * LANES), x);
  }
  kir_end(k);
}

/* lse or delta of each lane's own position. */
static KInst *own_number(Tile *e, int operand, int v) {
  KInst *lane = times(e->k, own_lane(e, v), e->a->attrs->heads);
  return kir_load(e->k, e->a->number[operand], attend_number_at(e->a, own_row(e, e->own)), lane, NULL);
}

/* ---- scores ---- */

typedef struct TileDot {
  int operand;
  KInst *at[MAX_ROWS];        /* of the rows in their panel */
} TileDot;

/* Partial sum i of every score. */
static void dot_chain(Tile *e, const TileDot *d, int i, Scores sum) {
  Kernel *k = e->k;
  const Panel *p = &e->panel[d->operand];
  KInst *y[MAX_VECTORS], *zero = zero32(k);
  for (int r = 0; r < e->rows; r++)
    for (int v = 0; v < e->vectors; v++) sum[r][v] = zero;
  for (int64_t at = i; at < pitch_of(p->h); at += LANES) {
    bool is_real = at < p->h->width;
    for (int v = 0; v < e->vectors; v++)
      y[v] = is_real ? attend_scratch(k, p->own, num(k, at * e->lanes + v * LANES)) : zero;
    for (int r = 0; r < e->rows; r++) {
      KInst *x = is_real ? kir_load(k, p->rows, plus(k, d->at[r], at), NULL, NULL) : zero;
      for (int v = 0; v < e->vectors; v++) sum[r][v] = attend_term(k, d->operand, x, y[v], sum[r][v]);
    }
  }
}

/* The sum of partial sums i, i + step, i + 2 step... by the tree, depth first: few are alive at a time. */
static void dot_tree(Tile *e, const TileDot *d, int i, int step, Scores sum) {
  if (step == LANES) {
    dot_chain(e, d, i, sum);
    return;
  }
  Scores other;
  dot_tree(e, d, i, 2 * step, sum);
  dot_tree(e, d, i + step, 2 * step, other);
  for (int r = 0; r < e->rows; r++)
    for (int v = 0; v < e->vectors; v++) sum[r][v] = add(e->k, sum[r][v], other[r][v]);
}

/* Products of an operand's rows with the tile's own positions. */
static void dot_rows(Tile *e, int operand, KInst *const row[], Scores sum) {
  TileDot d = {.operand = operand};
  for (int r = 0; r < e->rows; r++) d.at[r] = row_at(e, operand, row[r]);
  dot_tree(e, &d, 0, 1, sum);
}

/* Rows i, i + 1...: no further than the last, which is repeated. */
static void rows_from(Tile *e, KInst *i, KInst *end, KInst *row[MAX_ROWS]) {
  for (int r = 0; r < e->rows; r++) {
    KInst *last = r ? plus(e->k, end, -1) : NULL;
    row[r] = r ? least(e->k, plus(e->k, i, r), last) : i;
  }
}

/* Where the weights of a row stand; first: the row that scratch begins with. */
static KInst *weight_at(Tile *e, KInst *row, KInst *first, int v) {
  return plus(e->k, times(e->k, sub(e->k, row, first), e->lanes), (int64_t)v * LANES);
}

/* x where a lane's query sees a row, else y. */
static KInst *where_seen(Tile *e, KInst *row, int v, KInst *x, KInst *y) {
  Kernel *k = e->k;
  KInst *seen = attend_unmasked(e->a, row, NULL);
  if (e->a->is_raster) {
    KInst *after = to_i32(k, plus(k, sub(k, row, e->own), -v * LANES));
    seen = both(k, seen, kir_bin(k, KOP_LE, after, kir_lane(k)));
  }
  return seen ? pick(k, seen, x, y) : x;
}

/* Whether the mask lets a key be seen, and whether it is this side's to ask; NULL: surely. */
static KInst *unmasked_row(Tile *e, KInst *row) { return e->a->for_keys ? NULL : attend_unmasked(e->a, row, NULL); }
static KInst *unmasked_own(Tile *e, KInst *own) { return e->a->for_keys ? attend_unmasked(e->a, own, NULL) : NULL; }

/* ---- results: sums of weighted rows ---- */

/* Sums of an operand for a few own positions: sum [own][vectors]. */
typedef struct Few {
  const Panel *panel;
  int operand;
  int own;                    /* positions */
  KInst *g;                   /* the first of them, in the tile */
  KInst *first;               /* row that the weights begin with */
  KInst *sum[MAX_HEAD_VECTORS];
} Few;

/* One row: sum += weight * row, for own positions from `lo` to `hi` of the few. */
static void weigh_row(Tile *e, const Few *w, KInst *row, int lo, int hi) {
  Kernel *k = e->k;
  int n = vectors_of(w->panel->h);
  KInst *unmasked = unmasked_row(e, row);
  if (unmasked) kir_if(k, unmasked);
  KInst *x[MAX_HEAD_VECTORS], *at = row_at(e, w->operand, row);
  KInst *p = add(k, weight_at(e, row, w->first, 0), w->g);
  for (int j = 0; j < n; j++) x[j] = attend_scratch(k, w->panel->rows, plus(k, at, j * LANES));
  for (int q = lo; q < hi; q++) {
    KInst *weight = kir_load(k, w->panel->weights, plus(k, p, q), NULL, NULL);
    for (int j = 0; j < n; j++) attend_add(k, weight, x[j], w->sum[q * n + j]);
  }
  if (unmasked) kir_end(k);
}

/* The rows around the diagonal, which some of the few see and some do not. */
static void weigh_diagonal(Tile *e, const Few *w, KInst *lo, KInst *hi) {
  Kernel *k = e->k;
  KInst *own = add(k, e->own, w->g);
  for (int s = e->before ? 1 : 0; s < w->own - e->after; s++) {
    KInst *row = plus(k, own, s), *last = plus(k, hi, -1);
    kir_if(k, within(k, lo, row, last));
    weigh_row(e, w, row, e->after ? 0 : s, e->after ? s + 1 : w->own);
    kir_end(k);
  }
}

/* Adds rows lo to hi to the sums of a few own positions. */
static void weigh_few(Tile *e, Few *w, KInst *lo, KInst *hi) {
  Kernel *k = e->k;
  const Panel *p = w->panel;
  KInst *own = add(k, e->own, w->g), *from = lo, *to = hi, *base = times(k, w->g, pitch_of(p->h));
  int n = w->own * vectors_of(p->h);
  for (int i = 0; i < n; i++) w->sum[i] = kir_var(k, attend_scratch(k, p->sums, plus(k, base, i * LANES)), true);
  if (e->after) {
    weigh_diagonal(e, w, lo, hi);
    from = most(k, lo, plus(k, own, w->own - 1));
  }
  if (e->before) to = least(k, hi, plus(k, own, 1));
  KInst *row = kir_for(k, from, to, 1, e->unroll);
  weigh_row(e, w, row, 0, w->own);
  kir_end(k);
  if (e->before) weigh_diagonal(e, w, lo, hi);
  for (int i = 0; i < n; i++) attend_put(k, p->sums, plus(k, base, i * LANES), kir_get(k, w->sum[i]));
}

/* Adds rows lo to hi, weighted, to the sums of an operand; first: the row that its weights begin with. */
static void weigh_rows(Tile *e, int operand, KInst *first, KInst *lo, KInst *hi) {
  const Panel *p = &e->panel[operand];
  if (p->sums < 0) return;
  Few w = {.panel = p, .operand = operand, .own = 1, .first = first};
  while (2 * w.own * vectors_of(p->h) <= e->sums && w.own < LANES) w.own *= 2;
  w.g = kir_for(e->k, num(e->k, 0), least(e->k, num(e->k, e->lanes), e->left), w.own, 0);
  weigh_few(e, &w, lo, hi);
  kir_end(e->k);
}

static void clear_sums(Tile *e, int operand) {
  const Panel *p = &e->panel[operand];
  if (p->sums < 0) return;
  KInst *i = kir_for(e->k, num(e->k, 0), num(e->k, e->lanes * pitch_of(p->h)), LANES, 0);
  attend_put(e->k, p->sums, i, zero32(e->k));
  kir_end(e->k);
}

/* x, or `none` where no key is seen, which only a mask can do here.  The largest score's weight is 1: a sum of 0 has no
 * terms. */
static KInst *where_any(Tile *e, KInst *total, KInst *x, float none) {
  if (e->a->buf_mask < 0) return x;
  return pick(e->k, equal(e->k, total, zero32(e->k)), kir_f32(e->k, none), x);
}

static void store_sums(Tile *e, int operand) {
  const Panel *p = &e->panel[operand];
  const Heads *out = &e->a->out[operand];
  if (p->sums < 0) return;
  Kernel *k = e->k;
  KInst *own = kir_for(k, num(k, 0), least(k, num(k, e->lanes), e->left), 1, 0);
  KInst *index = add(k, e->own, own), *row = own_row(e, index), *at = times(k, own, pitch_of(out));
  KInst *unmasked = unmasked_own(e, index);
  for (int j = 0; j < vectors_of(out); j++) {
    KInst *x = attend_scratch(k, p->sums, plus(k, at, j * LANES));
    KInst *total = e->a->is_forward ? kir_load(k, e->total, own, NULL, NULL) : NULL;
    if (unmasked) x = pick(k, unmasked, x, zero32(k));
    x = attend_result(e->a, operand, x, total);
    attend_store(e->a, out, row, j, e->a->is_forward ? where_any(e, total, x, 0.0f) : x);
  }
  kir_end(k);
}

/* ---- a tile ---- */

/* Of each lane's own position; what changes as rows are visited is a variable. */
typedef struct Tops {
  KInst *largest[MAX_VECTORS], *total[MAX_VECTORS];   /* forward */
  KInst *lse[MAX_VECTORS], *delta[MAX_VECTORS];       /* of queries, for gradients */
} Tops;

/* Scores of rows lo to hi, as weights, and the largest of each lane. */
static void score_rows(Tile *e, KInst *lo, KInst *hi, Tops *t) {
  Kernel *k = e->k;
  for (int v = 0; v < e->vectors; v++) t->largest[v] = kir_var(k, kir_f32(k, -INFINITY), true);
  KInst *i = kir_for(k, lo, hi, e->rows, 0), *row[MAX_ROWS];
  Scores s;
  rows_from(e, i, hi, row);
  dot_rows(e, X, row, s);
  for (int r = 0; r < e->rows; r++)
    for (int v = 0; v < e->vectors; v++) {
      KInst *score = attend_scaled(e->a, s[r][v]), *m = kir_get(k, t->largest[v]);
      attend_put(k, e->panel[Y].weights, weight_at(e, plus(k, i, r), lo, v), score);
      KInst *larger = most(k, m, score);
      kir_set(k, t->largest[v], where_seen(e, row[r], v, larger, m));
    }
  kir_end(k);
  for (int v = 0; v < e->vectors; v++) {
    t->largest[v] = kir_get(k, t->largest[v]);
    t->total[v] = kir_var(k, zero32(k), true);
  }
}

/* p = exp(score - largest) and total += p, for rows lo to hi of those that begin with `first`. */
static void exponentiate_rows(Tile *e, KInst *first, KInst *lo, KInst *hi, const Tops *tops) {
  Kernel *k = e->k;
  KInst *row = kir_for(k, lo, hi, 1, 0);
  for (int v = 0; v < e->vectors; v++) {
    KInst *at = weight_at(e, row, first, v), *t = kir_get(k, tops->total[v]);
    KInst *p = kir_exp(k, sub(k, attend_scratch(k, e->panel[Y].weights, at), tops->largest[v]));
    attend_put(k, e->panel[Y].weights, at, p);
    KInst *more = add(k, t, p);
    kir_set(k, tops->total[v], where_seen(e, row, v, more, t));
  }
  kir_end(k);
}

/* p and ds of rows lo to hi, where lse is known. */
static void weights_of_rows(Tile *e, KInst *lo, KInst *hi, const Tops *t) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *i = kir_for(k, lo, hi, e->rows, 0), *row[MAX_ROWS], *number = NULL;
  Scores s, dp;
  rows_from(e, i, hi, row);
  dot_rows(e, X, row, s);
  for (int r = 0; r < e->rows; r++) {
    if (a->for_keys) number = attend_number(a, a->number[X], attend_row(a, a->other, row[r]));
    for (int v = 0; v < e->vectors; v++) {
      KInst *p = kir_exp(k, sub(k, attend_scaled(a, s[r][v]), number ? number : t->lse[v]));
      attend_put(k, e->panel[Y].weights, weight_at(e, plus(k, i, r), lo, v), p);
    }
  }
  if (a->has[X]) dot_rows(e, Y, row, dp);
  for (int r = 0; a->has[X] && r < e->rows; r++) {
    if (a->for_keys) number = attend_number(a, a->number[Y], attend_row(a, a->other, row[r]));
    for (int v = 0; v < e->vectors; v++) {
      KInst *at = weight_at(e, plus(k, i, r), lo, v), *p = attend_scratch(k, e->panel[Y].weights, at);
      attend_put(k, e->panel[X].weights, at, attend_ds(k, p, dp[r][v], number ? number : t->delta[v]));
    }
  }
  kir_end(k);
}

/* The sums of weights, for results, and lse. */
static void finish_total(Tile *e, Tops *t) {
  Kernel *k = e->k;
  for (int v = 0; v < e->vectors; v++) {
    KInst *total = kir_get(k, t->total[v]);
    attend_put(k, e->total, num(k, v * LANES), total);
    if (e->a->out_lse < 0) continue;
    KInst *lane = times(k, plus(k, kir_lane(k), v * LANES), e->a->attrs->heads);
    KInst *exists = lanes_below(k, plus(k, e->left, -v * LANES)), *lse = add(k, t->largest[v], kir_log(k, total));
    lse = where_any(e, total, lse, -INFINITY);
    kir_store(k, e->a->out_lse, attend_number_at(e->a, own_row(e, e->own)), lane, lse, exists);
  }
}

/* One tile, of others lo to hi: weights of a chunk of them, then sums.  Forward, scores of all come first, since
 * weights are differences from the largest. */
static void emit_tile(Tile *e, KInst *lo, KInst *hi) {
  Attention *a = e->a;
  Kernel *k = e->k;
  Tops t;
  for (int v = 0; !a->is_forward && !a->for_keys && v < e->vectors; v++) {
    t.lse[v] = own_number(e, X, v);
    t.delta[v] = own_number(e, Y, v);
  }
  if (a->is_forward) score_rows(e, lo, hi, &t);
  for (int i = X; i <= Y; i++) clear_sums(e, i);
  KInst *c = kir_for(k, lo, hi, e->chunk, 0), *end = least(k, plus(k, c, e->chunk), hi);
  if (a->is_forward) exponentiate_rows(e, lo, c, end, &t);
  else weights_of_rows(e, c, end, &t);
  for (int i = X; i <= Y; i++) weigh_rows(e, i, a->is_forward ? lo : c, c, end);
  kir_end(k);
  if (a->is_forward) finish_total(e, &t);
  for (int i = X; i <= Y; i++) store_sums(e, i);
}

/* ---- items ---- */

static void emit_item(Tile *e, int64_t block) {
  Attention *a = e->a;
  Kernel *k = e->k;
  int64_t n = a->own->n, count = parts_of(n, block);
  KInst *piece, *zero = num(k, 0), *rows = num(k, a->other->n);
  attend_open_item(a, 1, &count, &piece);
  KInst *first = times(k, piece, block), *end = least(k, plus(k, first, block), num(k, n));
  e->row_lo = e->after ? first : zero;
  for (int i = X; i <= Y; i++) pack_rows(e, i, e->before ? end : rows);
  e->own = kir_for(k, first, end, e->lanes, 0);
  e->left = sub(k, num(k, n), e->own);
  for (int i = X; i <= Y; i++) load_columns(e, i);
  emit_tile(e, e->after ? e->own : zero, e->before ? least(k, plus(k, e->own, e->lanes), rows) : rows);
  kir_end(k);
}

static int scratch(Tile *e, const char *name, bool is_needed, int64_t elems) {
  return is_needed ? kir_scratch(e->k, name, DTYPE_F32, elems) : -1;
}

static void make_scratch(Tile *e) {
  static const char *const name[][OPERANDS] = {
      {"rows_x", "rows_y"}, {"own_x", "own_y"}, {"ds", "weights"}, {"sum_x", "sum_y"}};
  const Attention *a = e->a;
  const bool has_rows[] = {true, a->has[X] || a->has[Y]}, has_own[] = {true, a->has[X]}, weighs[] = {a->has[X], true};
  /* Tiles may name rows past the last, which no sum takes. */
  int64_t rows = a->other->n + LANES, list = ((a->is_forward ? a->other->n : e->chunk) + LANES) * e->lanes;
  for (int i = X; i <= Y; i++) {
    Panel *p = &e->panel[i];
    p->h = &a->other->of[i];
    p->rows = scratch(e, name[0][i], has_rows[i], rows * pitch_of(p->h));
    p->own = scratch(e, name[1][i], has_own[i], a->own->of[i].width * e->lanes);
    p->weights = scratch(e, name[2][i], weighs[i], list);
    p->sums = scratch(e, name[3][i], a->has[i], e->lanes * pitch_of(p->h));
  }
  e->total = scratch(e, "totals", a->is_forward, e->lanes);
}

void attend_tiles(Attention *a, const AttendParams *p) {
  Tile e = {.a = a, .k = a->k, .before = a->is_raster && !a->for_keys, .after = a->is_raster && a->for_keys,
            .rows = p->rows, .vectors = p->vectors, .lanes = (int64_t)p->vectors * LANES,
            .chunk = p->chunk, .sums = p->sums, .unroll = p->unroll};
  int64_t block = p->patch_w;
  make_scratch(&e);
  attend_items(a, 1, &a->own->n, &block);
  emit_item(&e, block);
}

/* ---- parameters ---- */

static bool has_room(const Attention *a, int vectors) {
  int64_t room = pitch_of(&a->other->of[X]) + pitch_of(&a->query.of[X]) + (int64_t)vectors * LANES;
  return a->other->n <= SCRATCH_BYTES / (int64_t)sizeof(float) / room;
}

bool attend_tiles_params(Attention *a, const Target *t, AttendParams *out) {
  /* Fewer positions leave too many lanes empty. */
  if (!extent_is_full(a->extent) || a->own->n < LANES / 2 || a->widest > MAX_HEAD_VECTORS) return false;
  int vectors = t->vector_bits == 512 && a->own->n > LANES ? 2 : 1, block = 512;
  while (block > 2 * LANES * vectors && block * 8 > a->own->n) block /= 2;
  *out = (AttendParams){.nest = 2, .patch_s = 1, .patch_h = 1, .patch_w = block, .rows = 2, .vectors = vectors,
                        .chunk = 64, .sums = 16, .unroll = 2};
  return has_room(a, vectors);
}

int attend_tiles_refuse(Attention *a, const AttendParams *p, Error *err) {
  if (!extent_is_full(a->extent)) return ATTEND_REFUSE(nest, "queries see keys of their own");
  if (a->widest > MAX_HEAD_VECTORS) return ATTEND_REFUSE(nest, "heads have more than %d vectors", MAX_HEAD_VECTORS);
  if (!p->patch_w || p->patch_w % LANES) return ATTEND_REFUSE(patch_w, "nest 2 takes multiples of %d", LANES);
  if (p->patch_w % (LANES * p->vectors)) return ATTEND_REFUSE(vectors, "patch_w=%d is not whole tiles", p->patch_w);
  if (p->vectors > 1 && a->own->n <= LANES)
    return ATTEND_REFUSE(vectors, "there are %lld positions", (long long)a->own->n);
  if (!has_room(a, p->vectors)) return ATTEND_REFUSE(vectors, "scratch takes more than %d bytes", SCRATCH_BYTES);
  if (!p->chunk) return ATTEND_REFUSE(chunk, "it must be positive in nest 2");
  if (!p->sums) return ATTEND_REFUSE(sums, "it must be positive in nest 2");
  return -1;
}
