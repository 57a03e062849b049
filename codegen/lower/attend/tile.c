/* The loop nest of attention on a CPU where many queries see the same keys: full attention, causal in raster order
 * or not, forward and gradients.
 *
 * An item is one sample, one head and a block of positions of its own: queries, or for the gradients of keys and
 * values keys. The rows of the other side that they meet are copied into scratch first, one head's elements side by
 * side, in f32. A tile has 16 own positions a lane vector, and a few rows at a time: an element of a row is then one
 * number for all lanes, and an element of the own positions one vector for all rows. Weights stay in scratch,
 * [row][own position], and results are summed with elements along lanes, a few own positions at a time.
 *
 * Every sum is the common nest's (lower_attend.c), and so are its bits: a score's 16 partial sums are 16 chains of
 * vectors, added by the tree that tree_add has across lanes; where the causal rule cuts, sums end at the last row
 * that is seen, and nothing is multiplied by zero. */
#include <math.h>

#include "codegen/lower/attend/attend.h"

enum {
  MAX_ROWS = 4, MAX_VECTORS = 2,
  LEAST_OWN = LANES / 2,      /* fewer positions leave too many lanes empty */
  CHUNK = 64,                 /* rows whose weights and values stay in the first cache */
  SUMS = 16,                  /* vectors of results that stay in registers */
  SCRATCH_BYTES = 64 << 20
};

/* One operand's rows in scratch, f32, [rows][pitch]; zeros behind the head's end. */
typedef struct Panel {
  const Heads *h;
  int buf;
} Panel;

typedef struct Tile {
  Attend *a;
  Kernel *k;
  bool for_keys, is_forward;
  int rows, vectors;          /* of the register tile: rows at once, 16 own positions each */
  int64_t lanes;              /* own positions of a tile: 16 vectors */
  int64_t n_own, n_row;
  Panel x, y;                 /* rows: keys (queries), and values (dy) */
  const Heads *own_x, *own_y; /* queries (keys), and dy (values) */
  int column_x, column_y;     /* scratch: own elements, [width][lanes] */
  int p, ds;                  /* scratch: [n_row][lanes] forward, else of a chunk; -1: none */
  int sum_x, sum_y;           /* scratch: results, [lanes][pitch]; -1: none */
  int total;                  /* scratch: sums of weights, [lanes] */
  KInst *row_lo;              /* first row of the item; panels begin with it */
  KInst *own, *left;          /* first own position of the tile, and how many exist */
} Tile;

typedef KInst *Scores[MAX_ROWS][MAX_VECTORS];

static int64_t pitch_of(const Heads *h) { return (int64_t)vectors_of(h) * LANES; }
static KInst *sub(Tile *e, KInst *x, KInst *y) { return bin(e->a, KOP_SUB, x, y); }
static KInst *plus(Tile *e, KInst *x, int64_t c) { return add(e->a, x, num(e->a, c)); }
static KInst *least(Tile *e, KInst *x, KInst *y) { return bin(e->a, KOP_MIN, x, y); }
static KInst *most(Tile *e, KInst *x, KInst *y) { return bin(e->a, KOP_MAX, x, y); }

static KInst *own_position(Tile *e, KInst *index) {
  return e->for_keys ? attend_key_position(e->a, index) : attend_query_position(e->a, index);
}

static KInst *row_position(Tile *e, KInst *index) {
  return e->for_keys ? attend_query_position(e->a, index) : attend_key_position(e->a, index);
}

static bool is_raster(const Tile *e) { return e->a->extent->is_raster; }

/* ---- copies ---- */

static void pack_rows(Tile *e, const Panel *p, KInst *lo, KInst *hi) {
  Kernel *k = e->k;
  KInst *row = kir_for(k, lo, hi, 1, 0), *x[MAX_HEAD_VECTORS];
  attend_load(e->a, p->h, row_position(e, row), x);
  KInst *at = mul(e->a, sub(e, row, lo), pitch_of(p->h));
  for (int j = 0; j < vectors_of(p->h); j++) kir_store(k, p->buf, plus(e, at, j * LANES), kir_lane(k), x[j], NULL);
  kir_end(k);
}

/* Index of a lane's own position, relative to the tile's first; the last again beyond the end. */
static KInst *own_lane(Tile *e, int v) {
  Kernel *k = e->k;
  KInst *last = kir_un(k, KOP_TO_I32, plus(e, e->left, -1));
  return bin(e->a, KOP_MIN, bin(e->a, KOP_ADD, kir_lane(k), kir_i32(k, v * LANES)), last);
}

static void load_columns(Tile *e, const Heads *h, int columns) {
  Kernel *k = e->k;
  KInst *base = attend_base(e->a, h, own_position(e, e->own)), *lane[MAX_VECTORS];
  for (int v = 0; v < e->vectors; v++)
    lane[v] = kir_bin(k, KOP_MUL, own_lane(e, v), kir_i32(k, (int32_t)h->row));
  KInst *d = kir_for(k, num(e->a, 0), num(e->a, h->width), 1, 0);
  for (int v = 0; v < e->vectors; v++) {
    KInst *x = kir_load(k, h->buf, add(e->a, base, d), lane[v], NULL);
    kir_store(k, columns, plus(e, mul(e->a, d, e->lanes), v * LANES), kir_lane(k), x, NULL);
  }
  kir_end(k);
}

/* One number of each own position, from [positions, heads]. */
static KInst *own_number(Tile *e, int buf, int v) {
  Kernel *k = e->k;
  KInst *lane = kir_bin(k, KOP_MUL, own_lane(e, v), kir_i32(k, (int32_t)e->a->attrs->heads));
  return kir_load(k, buf, attend_per_head(e->a, own_position(e, e->own)), lane, NULL);
}

static KInst *row_number(Tile *e, int buf, KInst *row) {
  return kir_load(e->k, buf, attend_per_head(e->a, row_position(e, row)), NULL, NULL);
}

/* ---- scores ---- */

typedef struct Dot {
  const Panel *rows;
  int columns;
  bool rounds;                /* each product, see rounded_dot of lower_attend.c */
  KInst *at[MAX_ROWS];        /* of the rows in their panel */
} Dot;

/* Partial sum i of every score. */
static void dot_chain(Tile *e, const Dot *d, int i, Scores sum) {
  Kernel *k = e->k;
  int64_t width = d->rows->h->width;
  KInst *y[MAX_VECTORS], *zero = kir_f32(k, 0.0f);
  for (int r = 0; r < e->rows; r++)
    for (int v = 0; v < e->vectors; v++) sum[r][v] = zero;
  for (int64_t at = i; at < pitch_of(d->rows->h); at += LANES) {
    bool is_real = at < width;
    for (int v = 0; v < e->vectors; v++)
      y[v] = is_real ? kir_load(k, d->columns, num(e->a, at * e->lanes + v * LANES), kir_lane(k), NULL) : zero;
    for (int r = 0; r < e->rows; r++) {
      KInst *x = is_real ? kir_load(k, d->rows->buf, plus(e, d->at[r], at), NULL, NULL) : zero;
      for (int v = 0; v < e->vectors; v++) {
        KInst *s = sum[r][v];
        sum[r][v] = d->rounds ? kir_bin(k, KOP_ADD, s, kir_bin(k, KOP_MUL, x, y[v])) : kir_op(k, KOP_FMA, x, y[v], s);
      }
    }
  }
}

/* The sum of partial sums i, i + step, i + 2 step... by the tree, depth first: few are alive at a time. */
static void dot_tree(Tile *e, const Dot *d, int i, int step, Scores sum) {
  if (step == LANES) {
    dot_chain(e, d, i, sum);
    return;
  }
  Scores other;
  dot_tree(e, d, i, 2 * step, sum);
  dot_tree(e, d, i + step, 2 * step, other);
  for (int r = 0; r < e->rows; r++)
    for (int v = 0; v < e->vectors; v++) sum[r][v] = kir_bin(e->k, KOP_ADD, sum[r][v], other[r][v]);
}

/* Products of rows from `row` on with the tile's own positions; rows beyond `end` are the last again. */
static void dot_rows(Tile *e, const Panel *rows, int columns, bool rounds, KInst *const row[], Scores sum) {
  Dot d = {.rows = rows, .columns = columns, .rounds = rounds};
  for (int r = 0; r < e->rows; r++) d.at[r] = mul(e->a, sub(e, row[r], e->row_lo), pitch_of(rows->h));
  dot_tree(e, &d, 0, 1, sum);
}

/* Rows i, i + 1...: no further than the last. */
static void rows_from(Tile *e, KInst *i, KInst *end, KInst *row[MAX_ROWS]) {
  for (int r = 0; r < e->rows; r++) row[r] = r ? least(e, plus(e, i, r), plus(e, end, -1)) : i;
}

/* Where the weights of a row stand; first: the row that scratch begins with. */
static KInst *weight_at(Tile *e, KInst *row, KInst *first, int v) {
  return plus(e, mul(e->a, sub(e, row, first), e->lanes), (int64_t)v * LANES);
}

/* Which lanes see a row; NULL: all. */
static KInst *lanes_see(Tile *e, KInst *row, int v) {
  if (!is_raster(e)) return NULL;
  KInst *after = kir_un(e->k, KOP_TO_I32, plus(e, sub(e, row, e->own), -v * LANES));
  return bin(e->a, KOP_LE, after, kir_lane(e->k));
}

static KInst *where(Tile *e, KInst *mask, KInst *x, KInst *y) { return mask ? pick(e->a, mask, x, y) : x; }

/* ---- results: sums of weighted rows ---- */

typedef struct Weigh {
  int weights, sums;          /* scratch */
  const Panel *rows;
  int own;                    /* positions at once */
  KInst *g;                   /* the first of them, in the tile */
  KInst *first;               /* row that the weights begin with */
} Weigh;

/* One row: sum += weight * row, for own positions from `lo` to `hi` of the few. */
static void weigh_row(Tile *e, const Weigh *w, KInst *row, int lo, int hi, KInst **sum) {
  Kernel *k = e->k;
  int n = vectors_of(w->rows->h);
  KInst *x[MAX_HEAD_VECTORS], *at = mul(e->a, sub(e, row, e->row_lo), pitch_of(w->rows->h));
  KInst *p = add(e->a, weight_at(e, row, w->first, 0), w->g);
  for (int j = 0; j < n; j++) x[j] = kir_load(k, w->rows->buf, plus(e, at, j * LANES), kir_lane(k), NULL);
  for (int q = lo; q < hi; q++) {
    KInst *weight = kir_load(k, w->weights, plus(e, p, q), NULL, NULL);
    for (int j = 0; j < n; j++)
      kir_set(k, sum[q * n + j], kir_op(k, KOP_FMA, weight, x[j], kir_get(k, sum[q * n + j])));
  }
}

/* The rows around the diagonal, which some of the few see and some do not. */
static void weigh_diagonal(Tile *e, const Weigh *w, KInst *lo, KInst *hi, KInst **sum) {
  KInst *own = add(e->a, e->own, w->g);
  for (int s = 0; s < w->own; s++) {
    bool is_common = s == (e->for_keys ? w->own - 1 : 0);
    if (is_common) continue;
    KInst *row = plus(e, own, s);
    kir_if(e->k, within(e->a, lo, row, plus(e, hi, -1)));
    weigh_row(e, w, row, e->for_keys ? 0 : s, e->for_keys ? s + 1 : w->own, sum);
    kir_end(e->k);
  }
}

/* Adds rows lo to hi to the sums of a few own positions. */
static void weigh_few(Tile *e, const Weigh *w, KInst *lo, KInst *hi) {
  Kernel *k = e->k;
  KInst *sum[SUMS], *own = add(e->a, e->own, w->g), *from = lo, *to = hi;
  int n = w->own * vectors_of(w->rows->h);
  KInst *base = mul(e->a, w->g, pitch_of(w->rows->h));
  for (int i = 0; i < n; i++)
    sum[i] = kir_var(k, kir_load(k, w->sums, plus(e, base, i * LANES), kir_lane(k), NULL), true);
  if (is_raster(e) && e->for_keys) {
    weigh_diagonal(e, w, lo, hi, sum);
    from = most(e, lo, plus(e, own, w->own - 1));
  }
  if (is_raster(e) && !e->for_keys) to = least(e, hi, plus(e, own, 1));
  KInst *row = kir_for(k, from, to, 1, 2);
  weigh_row(e, w, row, 0, w->own, sum);
  kir_end(k);
  if (is_raster(e) && !e->for_keys) weigh_diagonal(e, w, lo, hi, sum);
  for (int i = 0; i < n; i++) kir_store(k, w->sums, plus(e, base, i * LANES), kir_lane(k), kir_get(k, sum[i]), NULL);
}

static void weigh_rows(Tile *e, int weights, const Panel *rows, int sums, KInst *first, KInst *lo, KInst *hi) {
  Weigh w = {.weights = weights, .sums = sums, .rows = rows, .own = 1, .first = first};
  while (2 * w.own * vectors_of(rows->h) <= SUMS && w.own < LANES) w.own *= 2;
  w.g = kir_for(e->k, num(e->a, 0), least(e, num(e->a, e->lanes), e->left), w.own, 0);
  weigh_few(e, &w, lo, hi);
  kir_end(e->k);
}

static void clear_sums(Tile *e, const Heads *h, int sums) {
  KInst *i = kir_for(e->k, num(e->a, 0), num(e->a, e->lanes * pitch_of(h)), LANES, 0);
  kir_store(e->k, sums, i, kir_lane(e->k), kir_f32(e->k, 0.0f), NULL);
  kir_end(e->k);
}

typedef KInst *(*FinishFn)(Tile *e, KInst *own, KInst *x);

static KInst *finish_total(Tile *e, KInst *own, KInst *x) {
  return kir_bin(e->k, KOP_DIV, x, kir_load(e->k, e->total, own, NULL, NULL));
}

static KInst *finish_scaled(Tile *e, KInst *own, KInst *x) { return attend_scaled(e->a, x); }
static KInst *finish_as_is(Tile *e, KInst *own, KInst *x) { return x; }

static void store_sums(Tile *e, const Heads *out, int sums, FinishFn finish) {
  Kernel *k = e->k;
  KInst *own = kir_for(k, num(e->a, 0), least(e, num(e->a, e->lanes), e->left), 1, 0);
  KInst *position = own_position(e, add(e->a, e->own, own)), *at = mul(e->a, own, pitch_of(out));
  for (int j = 0; j < vectors_of(out); j++) {
    KInst *x = kir_load(k, sums, plus(e, at, j * LANES), kir_lane(k), NULL);
    attend_store(e->a, out, position, j, finish(e, own, x));
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
  dot_rows(e, &e->x, e->column_x, false, row, s);
  for (int r = 0; r < e->rows; r++)
    for (int v = 0; v < e->vectors; v++) {
      KInst *score = attend_scaled(e->a, s[r][v]), *m = kir_get(k, largest[v]);
      kir_store(k, e->p, weight_at(e, plus(e, i, r), lo, v), kir_lane(k), score, NULL);
      kir_set(k, largest[v], where(e, lanes_see(e, row[r], v), kir_bin(k, KOP_MAX, m, score), m));
    }
  kir_end(k);
}

/* p = exp(score - largest) and total += p, for rows lo to hi of those that begin with `first`. */
static void exponentiate_rows(Tile *e, KInst *first, KInst *lo, KInst *hi, KInst *const *largest, KInst **total) {
  Kernel *k = e->k;
  KInst *row = kir_for(k, lo, hi, 1, 0);
  for (int v = 0; v < e->vectors; v++) {
    KInst *at = weight_at(e, row, first, v), *t = kir_get(k, total[v]);
    KInst *p = kir_exp(k, kir_bin(k, KOP_SUB, kir_load(k, e->p, at, kir_lane(k), NULL), largest[v]));
    kir_store(k, e->p, at, kir_lane(k), p, NULL);
    kir_set(k, total[v], where(e, lanes_see(e, row, v), kir_bin(k, KOP_ADD, t, p), t));
  }
  kir_end(k);
}

static void store_lse(Tile *e, KInst *const *largest, KInst *const *total) {
  Kernel *k = e->k;
  for (int v = 0; v < e->vectors; v++) {
    KInst *lane = bin(e->a, KOP_ADD, kir_lane(k), kir_i32(k, v * LANES));
    lane = kir_bin(k, KOP_MUL, lane, kir_i32(k, (int32_t)e->a->attrs->heads));
    KInst *exists = bin(e->a, KOP_LT, kir_lane(k), kir_un(k, KOP_TO_I32, plus(e, e->left, -v * LANES)));
    KInst *lse = kir_bin(k, KOP_ADD, largest[v], kir_log(k, total[v]));
    kir_store(k, e->a->out_lse, attend_per_head(e->a, own_position(e, e->own)), lane, lse, exists);
  }
}

static void forward_tile(Tile *e, KInst *lo, KInst *hi) {
  Kernel *k = e->k;
  bool has_values = e->a->out_q.buf >= 0;
  KInst *largest[MAX_VECTORS], *total[MAX_VECTORS];
  for (int v = 0; v < e->vectors; v++) largest[v] = kir_var(k, kir_f32(k, -INFINITY), true);
  score_rows(e, lo, hi, largest);
  for (int v = 0; v < e->vectors; v++) {
    largest[v] = kir_get(k, largest[v]);
    total[v] = kir_var(k, kir_f32(k, 0.0f), true);
  }
  if (has_values) clear_sums(e, &e->a->v, e->sum_y);
  KInst *c = kir_for(k, lo, hi, CHUNK, 0), *end = least(e, plus(e, c, CHUNK), hi);
  exponentiate_rows(e, lo, c, end, largest, total);
  if (has_values) weigh_rows(e, e->p, &e->y, e->sum_y, lo, c, end);
  kir_end(k);
  for (int v = 0; v < e->vectors; v++) {
    total[v] = kir_get(k, total[v]);
    kir_store(k, e->total, num(e->a, v * LANES), kir_lane(k), total[v], NULL);
  }
  if (has_values) store_sums(e, &e->a->out_q, e->sum_y, finish_total);
  if (e->a->out_lse >= 0) store_lse(e, largest, total);
}

/* ---- backward ---- */

/* p = exp(score - lse), and ds = p (dp - delta), of rows lo to hi. */
static void weights_of_rows(Tile *e, KInst *lo, KInst *hi, KInst *const *own_lse, KInst *const *own_delta) {
  Attend *a = e->a;
  Kernel *k = e->k;
  KInst *i = kir_for(k, lo, hi, e->rows, 0), *row[MAX_ROWS];
  Scores s, dp;
  rows_from(e, i, hi, row);
  dot_rows(e, &e->x, e->column_x, false, row, s);
  for (int r = 0; r < e->rows; r++) {
    KInst *lse = e->for_keys ? row_number(e, a->buf_lse, row[r]) : NULL;
    for (int v = 0; v < e->vectors; v++) {
      KInst *p = kir_exp(k, kir_bin(k, KOP_SUB, attend_scaled(a, s[r][v]), lse ? lse : own_lse[v]));
      kir_store(k, e->p, weight_at(e, plus(e, i, r), lo, v), kir_lane(k), p, NULL);
    }
  }
  if (e->ds >= 0) {
    dot_rows(e, &e->y, e->column_y, true, row, dp);
    for (int r = 0; r < e->rows; r++) {
      KInst *delta = e->for_keys ? row_number(e, a->buf_delta, row[r]) : NULL;
      for (int v = 0; v < e->vectors; v++) {
        KInst *at = weight_at(e, plus(e, i, r), lo, v), *p = kir_load(k, e->p, at, kir_lane(k), NULL);
        KInst *ds = kir_bin(k, KOP_MUL, p, kir_bin(k, KOP_SUB, dp[r][v], delta ? delta : own_delta[v]));
        kir_store(k, e->ds, at, kir_lane(k), ds, NULL);
      }
    }
  }
  kir_end(k);
}

static void backward_tile(Tile *e, KInst *lo, KInst *hi) {
  Attend *a = e->a;
  Kernel *k = e->k;
  const Heads *out_x = e->for_keys ? &a->out_key : &a->out_q;
  KInst *lse[MAX_VECTORS], *delta[MAX_VECTORS];
  for (int v = 0; !e->for_keys && v < e->vectors; v++) {
    lse[v] = own_number(e, a->buf_lse, v);
    delta[v] = own_number(e, a->buf_delta, v);
  }
  if (e->sum_x >= 0) clear_sums(e, out_x, e->sum_x);
  if (e->sum_y >= 0) clear_sums(e, &a->out_v, e->sum_y);
  KInst *c = kir_for(k, lo, hi, CHUNK, 0), *end = least(e, plus(e, c, CHUNK), hi);
  weights_of_rows(e, c, end, lse, delta);
  if (e->sum_x >= 0) weigh_rows(e, e->ds, &e->x, e->sum_x, c, c, end);
  if (e->sum_y >= 0) weigh_rows(e, e->p, &e->y, e->sum_y, c, c, end);
  kir_end(k);
  if (e->sum_x >= 0) store_sums(e, out_x, e->sum_x, finish_scaled);
  if (e->sum_y >= 0) store_sums(e, &a->out_v, e->sum_y, finish_as_is);
}

/* ---- items ---- */

static void emit_item(Tile *e, int64_t block) {
  Attend *a = e->a;
  Kernel *k = e->k;
  KInst *item = kir_item(k), *zero = num(a, 0);
  a->head = kir_peel(a->k, &item, num(a, a->attrs->heads));
  KInst *first = mul(a, kir_peel(a->k, &item, num(a, (e->n_own + block - 1) / block)), block);
  a->sample = item;
  KInst *end = least(e, plus(e, first, block), num(a, e->n_own)), *rows = num(a, e->n_row);
  bool cuts = is_raster(e);
  e->row_lo = cuts && e->for_keys ? first : zero;
  KInst *row_hi = cuts && !e->for_keys ? end : rows;
  pack_rows(e, &e->x, e->row_lo, row_hi);
  if (e->y.buf >= 0) pack_rows(e, &e->y, e->row_lo, row_hi);
  e->own = kir_for(k, first, end, e->lanes, 0);
  e->left = sub(e, num(a, e->n_own), e->own);
  load_columns(e, e->own_x, e->column_x);
  if (e->column_y >= 0) load_columns(e, e->own_y, e->column_y);
  KInst *lo = cuts && e->for_keys ? e->own : zero;
  KInst *hi = cuts && !e->for_keys ? least(e, plus(e, e->own, e->lanes), rows) : rows;
  if (e->is_forward) forward_tile(e, lo, hi);
  else backward_tile(e, lo, hi);
  kir_end(k);
}

static int scratch_f32(Tile *e, const char *name, int64_t elems) { return kir_scratch(e->k, name, DTYPE_F32, elems); }

static void make_scratch(Tile *e) {
  const Attend *a = e->a;
  bool has_ds = !e->is_forward && (!e->for_keys || a->out_key.buf >= 0);
  bool needs_y = has_ds || (e->is_forward ? a->out_q.buf >= 0 : a->out_v.buf >= 0);
  /* Tiles may name rows past the last, which no sum takes. */
  int64_t rows = e->n_row + LANES, list = ((e->is_forward ? e->n_row : CHUNK) + LANES) * e->lanes;
  e->x.buf = scratch_f32(e, "rows_x", rows * pitch_of(e->x.h));
  e->y.buf = needs_y ? scratch_f32(e, "rows_y", rows * pitch_of(e->y.h)) : -1;
  e->column_x = scratch_f32(e, "own_x", e->own_x->width * e->lanes);
  e->column_y = has_ds ? scratch_f32(e, "own_y", e->own_y->width * e->lanes) : -1;
  e->p = scratch_f32(e, "weights", list);
  e->ds = has_ds ? scratch_f32(e, "ds", list) : -1;
  e->sum_x = has_ds ? scratch_f32(e, "sum_x", e->lanes * pitch_of(e->x.h)) : -1;
  bool sums_y = e->is_forward ? a->out_q.buf >= 0 : a->out_v.buf >= 0;
  e->sum_y = sums_y ? scratch_f32(e, "sum_y", e->lanes * pitch_of(e->y.h)) : -1;
  if (e->is_forward) e->total = scratch_f32(e, "totals", e->lanes);
}

/* Every query sees every key, but for the raster cut. */
static bool is_full(const Extent *x) {
  if (x->is_axis) return false;
  for (int i = 0; i < 3; i++)
    for (int32_t q = 0; q < x->axis[i].queries; q++)
      if (x->axis[i].lo[q] > 0 || x->axis[i].hi[q] < x->axis[i].keys - 1) return false;
  return true;
}

static void choose_sides(Tile *e) {
  Attend *a = e->a;
  int64_t queries = positions_of(a->attrs->query_grid), keys = positions_of(a->attrs->key_grid);
  e->n_own = e->for_keys ? keys : queries;
  e->n_row = e->for_keys ? queries : keys;
  e->x.h = e->for_keys ? &a->q : &a->key;
  e->y.h = e->for_keys ? &a->dy : &a->v;
  e->own_x = e->for_keys ? &a->key : &a->q;
  e->own_y = e->for_keys ? &a->v : &a->dy;
}

bool attend_tile(Attend *a, Dim samples, const AttendParams *params, bool for_keys, bool is_forward) {
  Tile e = {.a = a, .k = a->k, .for_keys = for_keys, .is_forward = is_forward};
  choose_sides(&e);
  if (!is_full(a->extent) || e.n_own < LEAST_OWN) return false;
  e.rows = params->tile_m < MAX_ROWS ? params->tile_m : MAX_ROWS;
  e.vectors = params->tile_n < MAX_VECTORS ? params->tile_n : MAX_VECTORS;
  if (e.n_own <= LANES) e.vectors = 1;
  e.lanes = (int64_t)e.vectors * LANES;
  int64_t room = pitch_of(e.x.h) + pitch_of(&a->q) + e.lanes, block = params->block_m / e.lanes * e.lanes;
  if (e.n_row > SCRATCH_BYTES / (int64_t)sizeof(float) / room) return false;
  while (block > 2 * e.lanes && block * 8 > e.n_own) block /= 2;
  block = block < e.lanes ? e.lanes : block / e.lanes * e.lanes;
  make_scratch(&e);
  kir_factor(e.k, samples, 1);
  kir_factor(e.k, dim_const(e.n_own), block);
  kir_factor(e.k, dim_const(a->attrs->heads), 1);
  emit_item(&e, block);
  return true;
}
