/* The order of work of a block.
 *
 * Forward: all keys, to lists of scores; their largest; weights; then all values.  The lists hold a whole window,
 * since weights are differences from the largest score.  Where such lists are too long, the scores of the first pass
 * are not kept, and the second, over keys and values, is the backward pass's kind.
 *
 * Backward: a chunk of others has all that its weights need, so nothing outlives a chunk but the sums: others along
 * lanes give weights to lists, then the lists and the same chunk's rows give the sums.  So a box of any size is
 * streamed. */
#include <math.h>

#include "codegen/lower/attend/gpu.h"

/* ---- forward ---- */

typedef struct ForwardPass {
  KInst *most[MAX_TILE];              /* variables: of each lane, the largest score */
  KInst *largest[MAX_TILE];
  KInst *l[MAX_TILE];                 /* variables, by the layout's rounds: sums of weights */
  Layout y;
  Sum sum;
  bool has_values;
} ForwardPass;

static void score_chunk(Tile *e, void *ctx, const Part *p, KInst *slot) {
  Attend *a = e->a;
  Kernel *k = e->k;
  ForwardPass *f = ctx;
  KInst *dot[MAX_TILE], *i = kir_for(k, num(a, 0), to_i64(e, p->count), LANES, 0);
  Lanes o = lanes_of(e, p, i);
  lane_dots(e, 0, &e->load[0].part[0], slot, o.row, false, dot);
  for (int t = 0; t < e->tile; t++) {
    dot[t] = attend_scaled(a, dot[t]);
    KInst *sees = own_sees(e, t, o.at), *m = kir_bin(k, KOP_MAX, kir_get(k, f->most[t]), dot[t]);
    kir_set(k, f->most[t], pick(a, sees ? both(a, o.mask, sees) : o.mask, m, kir_get(k, f->most[t])));
  }
  if (!e->is_streamed) list_put(e, 0, plus(e, kir_get(k, a->n), to_i32(e, i)), dot, o.mask);
  kir_end(k);
  kir_set(k, a->n, plus(e, kir_get(k, a->n), p->count));
}

static void weigh_chunk(Tile *e, void *ctx, const Part *p, KInst *slot) {
  ForwardPass *f = ctx;
  sum_part(e, p, slot, kir_get(e->k, e->a->n), &f->sum, f->has_values, &f->y, f->l);
  kir_set(e->k, e->a->n, plus(e, kir_get(e->k, e->a->n), p->count));
}

/* The same where scores were not kept. */
static void weigh_anew(Tile *e, void *ctx, const Part *p, KInst *slot) {
  Kernel *k = e->k;
  ForwardPass *f = ctx;
  KInst *w[MAX_TILE], *i = kir_for(k, num(e->a, 0), to_i64(e, p->count), LANES, 0);
  Lanes o = lanes_of(e, p, i);
  lane_dots(e, 0, &e->load[1].part[0], slot, o.row, false, w);
  for (int t = 0; t < e->tile; t++) w[t] = kir_exp(k, minus(e, attend_scaled(e->a, w[t]), f->largest[t]));
  list_put(e, 0, to_i32(e, i), w, o.mask);
  kir_end(k);
  kir_sync(k);
  sum_part(e, p, slot, num32(e, 0), &f->sum, f->has_values, &f->y, f->l);
  kir_sync(k);
}

/* Scores to weights; an entry's own positions stand side by side. */
static void exponentiate(Tile *e, KInst *const *largest) {
  Attend *a = e->a;
  KInst *m = largest[0], *t = bin(a, KOP_MOD, kir_lane(e->k), num32(e, e->tile));
  for (int i = 1; i < e->tile; i++) m = pick(a, equal(a, t, num32(e, i)), largest[i], m);
  attend_exponentiate(a, to_i64(e, list_at(e, 0)), to_i64(e, times(e, kir_get(e->k, a->n), e->tile)), m);
}

static void store_lse(Tile *e, const ForwardPass *f, int r, KInst *m, KInst *none) {
  Attend *a = e->a;
  Kernel *k = e->k;
  KInst *lse = plus(e, m, kir_log(k, kir_get(k, f->l[r]))), *at[MAX_TILE], *exists[MAX_TILE];
  for (int t = 0; t < e->tile; t++) {
    at[t] = minus(e, e->of[t].index, e->of[0].index);
    exists[t] = e->of[t].exists;
  }
  KInst *position = plus(e, times(e, a->sample, positions_of(e->own)), to_i64(e, e->of[0].index));
  KInst *mask = lane_own(e, &f->y, r, exists);
  if (f->y.at_once > 1) {   /* else all lanes have the same */
    KInst *first = equal(a, bin(a, KOP_MOD, kir_lane(k), num32(e, f->y.lanes)), num32(e, 0));
    mask = both(a, both(a, mask, first), bin(a, KOP_LT, kir_lane(k), num32(e, f->y.lanes * f->y.at_once)));
  }
  kir_store(k, a->out_lse, plus(e, times(e, position, a->attrs->heads), a->head),
            times(e, lane_own(e, &f->y, r, at), a->attrs->heads), pick(a, none, kir_f32(k, -INFINITY), lse), mask);
}

static void finish(Tile *e, const ForwardPass *f) {
  Attend *a = e->a;
  Kernel *k = e->k;
  for (int r = 0; r < f->y.rounds; r++) {
    /* the largest score's weight is 1: a sum of 0 has no terms */
    KInst *zero = kir_f32(k, 0.0f), *l = kir_get(k, f->l[r]), *none = equal(a, l, zero);
    KInst *y[MAX_LANE_QUADS * QUAD];
    for (int j = 0; f->has_values && j < f->y.quads * QUAD; j++)
      y[j] = pick(a, none, zero, kir_bin(k, KOP_DIV, kir_get(k, f->sum.of[r][j]), l));
    if (f->has_values) sum_store(e, &f->y, &a->out_q, r, y);
    if (a->out_lse >= 0) store_lse(e, f, r, lane_own(e, &f->y, r, f->largest), none);
  }
}

void pass_forward(Tile *e) {
  Attend *a = e->a;
  Kernel *k = e->k;
  ForwardPass f = {.has_values = a->out_q.buf >= 0};
  f.y = layout_of(e, f.has_values ? &a->v : &a->q);
  for (int t = 0; t < e->tile; t++) f.most[t] = kir_var(k, kir_f32(k, -INFINITY), true);
  a->n = kir_var(k, num32(e, 0), false);
  stage_each_chunk(e, 0, score_chunk, &f);
  for (int t = 0; t < e->tile; t++) f.largest[t] = kir_un(k, KOP_TREE_MAX, kir_get(k, f.most[t]));
  if (!e->is_streamed) exponentiate(e, f.largest);
  kir_set(k, a->n, num32(e, 0));
  if (f.has_values) sum_start(e, &f.sum, &e->load[1].part[e->load[1].n - 1], 0);
  for (int r = 0; r < f.y.rounds; r++) f.l[r] = kir_var(k, kir_f32(k, 0.0f), f.y.at_once > 1);
  stage_each_chunk(e, 1, e->is_streamed ? weigh_anew : weigh_chunk, &f);
  finish(e, &f);
}

/* ---- backward ---- */

typedef struct BackwardPass {
  KInst *lse[MAX_TILE], *delta[MAX_TILE];   /* of own queries */
  bool has_scores;                          /* p (dp - delta) is needed */
  int list_p, list_ds;                      /* -1: none */
  Sum sum[MAX_TOGETHER];
  const Heads *out[MAX_TOGETHER];
  int n_sum;
} BackwardPass;

/* lse or delta of the lanes' queries. */
static KInst *staged_number(Tile *e, const Staged *s, KInst *slot, KInst *row) {
  return kir_load(e->k, e->numbers, stage_numbers_at(e, s, slot), row, NULL);
}

static void weigh_lanes(Tile *e, const BackwardPass *b, const Part *p, KInst *slot, KInst *i) {
  Attend *a = e->a;
  Kernel *k = e->k;
  const Staged *x = &e->load[0].part[0], *y = &e->load[0].part[1];
  Lanes o = lanes_of(e, p, i);
  KInst *w[MAX_TILE], *dp[MAX_TILE], *lse = e->for_keys ? staged_number(e, x, slot, o.row) : NULL;
  lane_dots(e, 0, x, slot, o.row, false, w);
  for (int t = 0; t < e->tile; t++) w[t] = kir_exp(k, minus(e, attend_scaled(a, w[t]), lse ? lse : b->lse[t]));
  if (b->list_p >= 0) list_put(e, b->list_p, to_i32(e, i), w, o.mask);
  if (b->list_ds < 0) return;
  KInst *delta = e->for_keys ? staged_number(e, y, slot, o.row) : NULL;
  lane_dots(e, 1, y, slot, o.row, true, dp);
  for (int t = 0; t < e->tile; t++) w[t] = kir_bin(k, KOP_MUL, w[t], minus(e, dp[t], delta ? delta : b->delta[t]));
  list_put(e, b->list_ds, to_i32(e, i), w, o.mask);
}

static void backward_chunk(Tile *e, void *ctx, const Part *p, KInst *slot) {
  Kernel *k = e->k;
  BackwardPass *b = ctx;
  KInst *i = kir_for(k, num(e->a, 0), to_i64(e, p->count), LANES, 0);
  weigh_lanes(e, b, p, slot, i);
  kir_end(k);
  kir_sync(k);
  sum_part(e, p, slot, num32(e, 0), b->sum, b->n_sum, NULL, NULL);
  kir_sync(k);
}

static void add_sum(Tile *e, BackwardPass *b, const Staged *from, int list, const Heads *out) {
  sum_start(e, &b->sum[b->n_sum], from, list);
  b->out[b->n_sum++] = out;
}

static void load_numbers(Tile *e, BackwardPass *b) {
  Attend *a = e->a;
  KInst *sample = times(e, a->sample, positions_of(e->own));
  for (int t = 0; t < e->tile; t++) {
    KInst *at = plus(e, times(e, plus(e, sample, to_i64(e, e->of[t].index)), a->attrs->heads), a->head);
    b->lse[t] = kir_load(e->k, a->buf_lse, at, NULL, NULL);
    b->delta[t] = kir_load(e->k, a->buf_delta, at, NULL, NULL);
  }
}

void pass_backward(Tile *e) {
  Attend *a = e->a;
  Kernel *k = e->k;
  bool has_v = e->for_keys && a->out_v.buf >= 0, has_ds = !e->for_keys || a->out_key.buf >= 0;
  BackwardPass b = {.list_p = has_v ? 0 : -1, .list_ds = has_ds ? has_v : -1};
  if (!e->for_keys) load_numbers(e, &b);
  if (has_ds) add_sum(e, &b, &e->load[0].part[0], b.list_ds, e->for_keys ? &a->out_key : &a->out_q);
  if (has_v) add_sum(e, &b, &e->load[0].part[1], b.list_p, &a->out_v);
  stage_each_chunk(e, 0, backward_chunk, &b);
  for (int i = 0; i < b.n_sum; i++)
    for (int r = 0; r < b.sum[i].y.rounds; r++) {
      KInst *x[MAX_LANE_QUADS * QUAD];
      for (int j = 0; j < b.sum[i].y.quads * QUAD; j++) {
        x[j] = kir_get(k, b.sum[i].of[r][j]);
        if (b.out[i] != &a->out_v) x[j] = attend_scaled(a, x[j]);
      }
      sum_store(e, &b.sum[i].y, b.out[i], r, x);
    }
}
