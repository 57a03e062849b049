/* The loop nest of attention on a CPU where many queries see the same keys: full attention, causal in raster order
 * or not, forward and gradients.
 *
 * An item is one sample, one head and a block of own positions.  The others that they meet are copied into scratch
 * first, one head's elements side by side, in f32.  A tile has 16 own positions a lane vector, and a few others at a
 * time: an element of an other is then one number for all lanes, and an element of the own positions one vector for
 * all others.  Weights stay in scratch, [other][own position], and results are summed with elements along lanes, a few
 * own positions at a time.  A score's 16 partial sums are 16 chains of vectors, added by the tree that tree_add has
 * across lanes; where raster order cuts, sums end at the last other that is seen, and nothing is multiplied by zero. */
#include <math.h>

#include "codegen/lower/attend/attend.h"

enum { MAX_ROWS = 4, MAX_VECTORS = 2, SCRATCH_BYTES = 64 << 20 };

/* x or y of the item's others in scratch, f32, [others][pitch]; zeros behind the head's end. With the own positions'
 * elements, [width][lanes], and sums of rows, [lanes][pitch]; -1: not needed. */
typedef struct Panel {
  const Heads *h;
  bool is_y;
  int rows, own, sums;
} Panel;

typedef struct Tile {
  Attention *a;
  Kernel *k;
  bool before, after;         /* raster order cuts what comes after own queries, or before own keys */
  int rows, vectors;          /* of the register tile: others at once, 16 own positions each */
  int64_t lanes;              /* own positions of a tile: 16 vectors */
  int chunk, sums, unroll;    /* see ATTEND_PARAMS */
  Panel x, y;
  int p, ds;                  /* scratch: [others][lanes] forward, else of a chunk; -1: none */
  int total;                  /* scratch: sums of weights, [lanes] */
  KInst *row_lo;              /* first other of the item; panels begin with it */
  KInst *own, *left;          /* first own position of the tile, and how many exist */
} Tile;

typedef KInst *Scores[MAX_ROWS][MAX_VECTORS];

static KInst *own_row(Tile *e, KInst *index) { return attend_row(e->a, e->a->own, index); }
static KInst *lane_vector(Tile *e, int buf, KInst *at) { return kir_load(e->k, buf, at, kir_lane(e->k), NULL); }

static void put_vector(Tile *e, int buf, KInst *at, KInst *x) {
  kir_store(e->k, buf, at, kir_lane(e->k), x, NULL);
}

/* ---- copies ---- */

static void pack_rows(Tile *e, const Panel *p, KInst *lo, KInst *hi) {
  if (p->rows < 0) return;
  Kernel *k = e->k;
  KInst *row = kir_for(k, lo, hi, 1, 0), *x[MAX_HEAD_VECTORS];
  attend_load(e->a, p->h, attend_row(e->a, e->a->other, row), x);
  KInst *at = times(k, sub(k, row, lo), pitch_of(p->h));
  for (int j = 0; j < vectors_of(p->h); j++) {
    KInst *lane = kir_lane(k);
    kir_store(k, p->rows, plus(k, at, j * LANES), lane, x[j], NULL);
  }
  kir_end(k);
}

/* Index of a lane's own position, relative to the tile's first; the last again beyond the end. */
static KInst *own_lane(Tile *e, int v) {
  KInst *last = to_i32(e->k, plus(e->k, e->left, -1));
  return least(e->k, plus(e->k, kir_lane(e->k), v * LANES), last);
}

static void load_columns(Tile *e, const Heads *h, int columns) {
  if (columns < 0) return;
  Kernel *k = e->k;
  KInst *base = attend_base(e->a, h, own_row(e, e->own)), *lane[MAX_VECTORS];
  for (int v = 0; v < e->vectors; v++) lane[v] = times(k, own_lane(e, v), h->row);
  KInst *d = kir_for(k, num(k, 0), num(k, h->width), 1, 0);
  for (int v = 0; v < e->vectors; v++) {
    KInst *x = kir_load(k, h->buf, add(k, base, d), lane[v], NULL), *to = kir_lane(k);
    kir_store(k, columns, plus(k, times(k, d, e->lanes), v * LANES), to, x, NULL);
  }
  kir_end(k);
}

/* One number of each own position, from [positions, heads]. */
static KInst *own_number(Tile *e, int buf, int v) {
  KInst *lane = times(e->k, own_lane(e, v), e->a->attrs->heads);
  return kir_load(e->k, buf, attend_number_at(e->a, own_row(e, e->own)), lane, NULL);
}

/* ---- scores ---- */

typedef struct TileDot {
  const Panel *panel;         /* products with y are rounded */
  KInst *at[MAX_ROWS];        /* of the rows in their panel */
} TileDot;

/* Partial sum i of every score. */
static void dot_chain(Tile *e, const TileDot *d, int i, Scores sum) {
  Kernel *k = e->k;
  const Panel *p = d->panel;
  KInst *y[MAX_VECTORS], *zero = zero32(k);
  for (int r = 0; r < e->rows; r++)
    for (int v = 0; v < e->vectors; v++) sum[r][v] = zero;
  for (int64_t at = i; at < pitch_of(p->h); at += LANES) {
    bool is_real = at < p->h->width;
    for (int v = 0; v < e->vectors; v++)
      y[v] = is_real ? lane_vector(e, p->own, num(k, at * e->lanes + v * LANES)) : zero;
    for (int r = 0; r < e->rows; r++) {
      KInst *x = is_real ? kir_load(k, p->rows, plus(k, d->at[r], at), NULL, NULL) : zero;
      for (int v = 0; v < e->vectors; v++) sum[r][v] = attend_term(k, p->is_y, x, y[v], sum[r][v]);
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

/* Products of rows with the tile's own positions. */
static void dot_rows(Tile *e, const Panel *p, KInst *const row[], Scores sum) {
  TileDot d = {.panel = p};
  for (int r = 0; r < e->rows; r++) d.at[r] = times(e->k, sub(e->k, row[r], e->row_lo), pitch_of(p->h));
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

/* x where a lane sees a row, else y. */
static KInst *where_seen(Tile *e, KInst *row, int v, KInst *x, KInst *y) {
  Kernel *k = e->k;
  if (!e->a->is_raster) return x;
  KInst *after = to_i32(k, plus(k, sub(k, row, e->own), -v * LANES));
  return pick(k, kir_bin(k, KOP_LE, after, kir_lane(k)), x, y);
}

/* ---- results: sums of weighted rows ---- */

typedef struct Weigh {
  int weights;                /* scratch */
  const Panel *panel;
  int own;                    /* positions at once */
  KInst *g;                   /* the first of them, in the tile */
  KInst *first;               /* row that the weights begin with */
} Weigh;

/* One row: sum += weight * row, for own positions from `lo` to `hi` of the few. */
static void weigh_row(Tile *e, const Weigh *w, KInst *row, int lo, int hi, KInst **sum) {
  Kernel *k = e->k;
  int n = vectors_of(w->panel->h);
  KInst *x[MAX_HEAD_VECTORS], *at = times(k, sub(k, row, e->row_lo), pitch_of(w->panel->h));
  KInst *p = add(k, weight_at(e, row, w->first, 0), w->g);
  for (int j = 0; j < n; j++) {
    KInst *lane = kir_lane(k);
    x[j] = kir_load(k, w->panel->rows, plus(k, at, j * LANES), lane, NULL);
  }
  for (int q = lo; q < hi; q++) {
    KInst *weight = kir_load(k, w->weights, plus(k, p, q), NULL, NULL);
    for (int j = 0; j < n; j++) attend_add(k, weight, x[j], sum[q * n + j]);
  }
}

/* The rows around the diagonal, which some of the few see and some do not. */
static void weigh_diagonal(Tile *e, const Weigh *w, KInst *lo, KInst *hi, KInst **sum) {
  Kernel *k = e->k;
  KInst *own = add(k, e->own, w->g);
  for (int s = e->before ? 1 : 0; s < w->own - e->after; s++) {
    KInst *row = plus(k, own, s), *last = plus(k, hi, -1);
    kir_if(k, within(k, lo, row, last));
    weigh_row(e, w, row, e->after ? 0 : s, e->after ? s + 1 : w->own, sum);
    kir_end(k);
  }
}

/* Adds rows lo to hi to the sums of a few own positions. */
static void weigh_few(Tile *e, const Weigh *w, KInst *lo, KInst *hi) {
  Kernel *k = e->k;
  const Panel *p = w->panel;
  KInst *sum[MAX_HEAD_VECTORS], *own = add(k, e->own, w->g), *from = lo, *to = hi;
  int n = w->own * vectors_of(p->h);
  KInst *base = times(k, w->g, pitch_of(p->h));
  for (int i = 0; i < n; i++) {
    KInst *lane = kir_lane(k);
    sum[i] = kir_var(k, kir_load(k, p->sums, plus(k, base, i * LANES), lane, NULL), true);
  }
  if (e->after) {
    weigh_diagonal(e, w, lo, hi, sum);
    from = most(k, lo, plus(k, own, w->own - 1));
  }
  if (e->before) to = least(k, hi, plus(k, own, 1));
  KInst *row = kir_for(k, from, to, 1, e->unroll);
  weigh_row(e, w, row, 0, w->own, sum);
  kir_end(k);
  if (e->before) weigh_diagonal(e, w, lo, hi, sum);
  for (int i = 0; i < n; i++) {
    KInst *x = kir_get(k, sum[i]);
    put_vector(e, p->sums, plus(k, base, i * LANES), x);
  }
}

static void weigh_rows(Tile *e, int weights, const Panel *p, KInst *first, KInst *lo, KInst *hi) {
  if (p->sums < 0) return;
  Weigh w = {.weights = weights, .panel = p, .own = 1, .first = first};
  while (2 * w.own * vectors_of(p->h) <= e->sums && w.own < LANES) w.own *= 2;
  w.g = kir_for(e->k, num(e->k, 0), least(e->k, num(e->k, e->lanes), e->left), w.own, 0);
  weigh_few(e, &w, lo, hi);
  kir_end(e->k);
}

static void clear_sums(Tile *e, const Panel *p) {
  if (p->sums < 0) return;
  KInst *i = kir_for(e->k, num(e->k, 0), num(e->k, e->lanes * pitch_of(p->h)), LANES, 0);
  put_vector(e, p->sums, i, zero32(e->k));
  kir_end(e->k);
}

static void store_sums(Tile *e, const Heads *out, const Panel *p) {
  if (p->sums < 0) return;
  Kernel *k = e->k;
  KInst *own = kir_for(k, num(k, 0), least(k, num(k, e->lanes), e->left), 1, 0);
  KInst *row = own_row(e, add(k, e->own, own)), *at = times(k, own, pitch_of(out));
  for (int j = 0; j < vectors_of(out); j++) {
    KInst *lane = kir_lane(k), *x = kir_load(k, p->sums, plus(k, at, j * LANES), lane, NULL);
    if (e->a->is_forward) x = kir_bin(k, KOP_DIV, x, kir_load(k, e->total, own, NULL, NULL));
    else if (!p->is_y) x = attend_scaled(e->a, x);
    attend_store(e->a, out, row, j, x);
  }
  kir_end(k);
}

/* ---- forward ---- */

/* Scores of rows lo to hi, and the largest of each lane. */
static void score_rows(Tile *e, KInst *lo, KInst *hi, KInst **largest) {
  Kernel *k = e->k;
  KInst *i = kir_for(k, lo, hi, e->rows, 0), *row[MAX_ROWS];
  Scores s;
  rows_from(e, i, hi, row);
  dot_rows(e, &e->x, row, s);
  for (int r = 0; r < e->rows; r++)
    for (int v = 0; v < e->vectors; v++) {
      KInst *score = attend_scaled(e->a, s[r][v]), *m = kir_get(k, largest[v]);
      put_vector(e, e->p, weight_at(e, plus(k, i, r), lo, v), score);
      KInst *larger = most(k, m, score);
      kir_set(k, largest[v], where_seen(e, row[r], v, larger, m));
    }
  kir_end(k);
}

/* p = exp(score - largest) and total += p, for rows lo to hi of those that begin with `first`. */
static void exponentiate_rows(Tile *e, KInst *first, KInst *lo, KInst *hi, KInst *const *largest, KInst **total) {
  Kernel *k = e->k;
  KInst *row = kir_for(k, lo, hi, 1, 0);
  for (int v = 0; v < e->vectors; v++) {
    KInst *at = weight_at(e, row, first, v), *t = kir_get(k, total[v]);
    KInst *p = kir_exp(k, sub(k, lane_vector(e, e->p, at), largest[v]));
    put_vector(e, e->p, at, p);
    KInst *more = add(k, t, p);
    kir_set(k, total[v], where_seen(e, row, v, more, t));
  }
  kir_end(k);
}

static void store_lse(Tile *e, KInst *const *largest, KInst *const *total) {
  Kernel *k = e->k;
  for (int v = 0; v < e->vectors; v++) {
    KInst *lane = times(k, plus(k, kir_lane(k), v * LANES), e->a->attrs->heads);
    KInst *exists = lanes_below(k, plus(k, e->left, -v * LANES));
    KInst *log = kir_log(k, total[v]), *lse = add(k, largest[v], log);
    kir_store(k, e->a->out_lse, attend_number_at(e->a, own_row(e, e->own)), lane, lse, exists);
  }
}

static void forward_tile(Tile *e, KInst *lo, KInst *hi) {
  Kernel *k = e->k;
  KInst *largest[MAX_VECTORS], *total[MAX_VECTORS];
  for (int v = 0; v < e->vectors; v++) largest[v] = kir_var(k, kir_f32(k, -INFINITY), true);
  score_rows(e, lo, hi, largest);
  for (int v = 0; v < e->vectors; v++) {
    largest[v] = kir_get(k, largest[v]);
    total[v] = kir_var(k, zero32(k), true);
  }
  clear_sums(e, &e->y);
  KInst *c = kir_for(k, lo, hi, e->chunk, 0), *end = least(k, plus(k, c, e->chunk), hi);
  exponentiate_rows(e, lo, c, end, largest, total);
  weigh_rows(e, e->p, &e->y, lo, c, end);
  kir_end(k);
  for (int v = 0; v < e->vectors; v++) {
    total[v] = kir_get(k, total[v]);
    put_vector(e, e->total, num(k, v * LANES), total[v]);
  }
  store_sums(e, &e->a->out_y, &e->y);
  if (e->a->out_lse >= 0) store_lse(e, largest, total);
}

/* ---- backward ---- */

/* p and ds of rows lo to hi. */
static void weights_of_rows(Tile *e, KInst *lo, KInst *hi, KInst *const *own_lse, KInst *const *own_delta) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *i = kir_for(k, lo, hi, e->rows, 0), *row[MAX_ROWS], *number = NULL;
  Scores s, dp;
  rows_from(e, i, hi, row);
  dot_rows(e, &e->x, row, s);
  for (int r = 0; r < e->rows; r++) {
    if (a->for_keys) number = attend_number(a, a->buf_lse, attend_row(a, a->other, row[r]));
    for (int v = 0; v < e->vectors; v++) {
      KInst *p = kir_exp(k, sub(k, attend_scaled(a, s[r][v]), number ? number : own_lse[v]));
      put_vector(e, e->p, weight_at(e, plus(k, i, r), lo, v), p);
    }
  }
  if (a->has_x) dot_rows(e, &e->y, row, dp);
  for (int r = 0; a->has_x && r < e->rows; r++) {
    if (a->for_keys) number = attend_number(a, a->buf_delta, attend_row(a, a->other, row[r]));
    for (int v = 0; v < e->vectors; v++) {
      KInst *at = weight_at(e, plus(k, i, r), lo, v), *p = lane_vector(e, e->p, at);
      put_vector(e, e->ds, at, attend_ds(k, p, dp[r][v], number ? number : own_delta[v]));
    }
  }
  kir_end(k);
}

static void backward_tile(Tile *e, KInst *lo, KInst *hi) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *lse[MAX_VECTORS], *delta[MAX_VECTORS];
  for (int v = 0; !a->for_keys && v < e->vectors; v++) {
    lse[v] = own_number(e, a->buf_lse, v);
    delta[v] = own_number(e, a->buf_delta, v);
  }
  clear_sums(e, &e->x);
  clear_sums(e, &e->y);
  KInst *c = kir_for(k, lo, hi, e->chunk, 0), *end = least(k, plus(k, c, e->chunk), hi);
  weights_of_rows(e, c, end, lse, delta);
  weigh_rows(e, e->ds, &e->x, c, c, end);
  weigh_rows(e, e->p, &e->y, c, c, end);
  kir_end(k);
  store_sums(e, &a->out_x, &e->x);
  store_sums(e, &a->out_y, &e->y);
}

/* ---- items ---- */

static void emit_item(Tile *e, int64_t block) {
  Attention *a = e->a;
  Kernel *k = e->k;
  int64_t n = a->own->n;
  KInst *item = kir_item(k), *zero = num(k, 0), *rows = num(k, a->other->n);
  a->head = kir_peel(k, &item, num(k, a->attrs->heads));
  KInst *first = times(k, kir_peel(k, &item, num(k, parts_of(n, block))), block);
  a->sample = item;
  KInst *end = least(k, plus(k, first, block), num(k, n));
  e->row_lo = e->after ? first : zero;
  KInst *row_hi = e->before ? end : rows;
  pack_rows(e, &e->x, e->row_lo, row_hi);
  pack_rows(e, &e->y, e->row_lo, row_hi);
  e->own = kir_for(k, first, end, e->lanes, 0);
  e->left = sub(k, num(k, n), e->own);
  load_columns(e, &a->own->x, e->x.own);
  load_columns(e, &a->own->y, e->y.own);
  KInst *lo = e->after ? e->own : zero;
  KInst *hi = e->before ? least(k, plus(k, e->own, e->lanes), rows) : rows;
  if (a->is_forward) forward_tile(e, lo, hi);
  else backward_tile(e, lo, hi);
  kir_end(k);
}

static int scratch(Tile *e, const char *name, bool is_needed, int64_t elems) {
  return is_needed ? kir_scratch(e->k, name, DTYPE_F32, elems) : -1;
}

static void make_scratch(Tile *e) {
  const Attention *a = e->a;
  /* Tiles may name rows past the last, which no sum takes. */
  int64_t rows = a->other->n + LANES, list = ((a->is_forward ? a->other->n : e->chunk) + LANES) * e->lanes;
  int64_t pitch_x = pitch_of(e->x.h), pitch_y = pitch_of(e->y.h);
  e->x.rows = scratch(e, "rows_x", true, rows * pitch_x);
  e->y.rows = scratch(e, "rows_y", a->has_x || a->has_y, rows * pitch_y);
  e->x.own = scratch(e, "own_x", true, a->own->x.width * e->lanes);
  e->y.own = scratch(e, "own_y", a->has_x, a->own->y.width * e->lanes);
  e->p = scratch(e, "weights", true, list);
  e->ds = scratch(e, "ds", a->has_x, list);
  e->x.sums = scratch(e, "sum_x", a->has_x, e->lanes * pitch_x);
  e->y.sums = scratch(e, "sum_y", a->has_y, e->lanes * pitch_y);
  e->total = scratch(e, "totals", a->is_forward, e->lanes);
}

void attend_tiles(Attention *a, const AttendParams *p) {
  Tile e = {.a = a, .k = a->k, .before = a->is_raster && !a->for_keys, .after = a->is_raster && a->for_keys,
            .rows = p->rows, .vectors = p->vectors, .lanes = (int64_t)p->vectors * LANES,
            .chunk = p->chunk, .sums = p->sums, .unroll = p->unroll,
            .x = {.h = &a->other->x}, .y = {.h = &a->other->y, .is_y = true}};
  int64_t block = p->patch_w;
  make_scratch(&e);
  attend_items(a, 1, &a->own->n, &block);
  emit_item(&e, block);
}

/* ---- parameters ---- */

static bool has_room(const Attention *a, int vectors) {
  int64_t room = pitch_of(&a->other->x) + pitch_of(&a->query.x) + (int64_t)vectors * LANES;
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
