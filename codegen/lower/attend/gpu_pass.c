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
  KInst *l[MAX_TILE];                 /* variables, by the spread's rounds: sums of weights */
  Spread y;
  Sum sum;
} ForwardPass;

static void score_chunk(Block *e, void *ctx, const Part *p, KInst *slot) {
  Attention *a = e->a;
  Kernel *k = e->k;
  ForwardPass *f = ctx;
  KInst *dot[MAX_TILE], *i = kir_for(k, num(k, 0), to_i64(k, p->count), LANES, 0);
  Lanes o = lanes_of(e, p, i);
  lane_dots(e, 0, &e->load[0].part[0], slot, o.row, false, dot);
  for (int t = 0; t < e->tile; t++) {
    dot[t] = attend_scaled(a, dot[t]);
    KInst *sees = own_sees(e, t, o.at), *m = most(k, kir_get(k, f->most[t]), dot[t]), *old = kir_get(k, f->most[t]);
    kir_set(k, f->most[t], pick(k, sees ? both(k, o.mask, sees) : o.mask, m, old));
  }
  if (!e->is_streamed) {
    KInst *at = to_i32(k, i);
    list_put(e, 0, add(k, kir_get(k, a->n), at), dot, o.mask);
  }
  kir_end(k);
  kir_set(k, a->n, add(k, kir_get(k, a->n), p->count));
}

static void weigh_chunk(Block *e, void *ctx, const Part *p, KInst *slot) {
  ForwardPass *f = ctx;
  sum_part(e, p, slot, kir_get(e->k, e->a->n), &f->sum, e->a->has_y, &f->y, f->l);
  kir_set(e->k, e->a->n, add(e->k, kir_get(e->k, e->a->n), p->count));
}

/* The same where scores were not kept. */
static void weigh_anew(Block *e, void *ctx, const Part *p, KInst *slot) {
  Kernel *k = e->k;
  ForwardPass *f = ctx;
  KInst *w[MAX_TILE], *i = kir_for(k, num(k, 0), to_i64(k, p->count), LANES, 0);
  Lanes o = lanes_of(e, p, i);
  lane_dots(e, 0, &e->load[1].part[0], slot, o.row, false, w);
  for (int t = 0; t < e->tile; t++) w[t] = kir_exp(k, sub(k, attend_scaled(e->a, w[t]), f->largest[t]));
  list_put(e, 0, to_i32(k, i), w, o.mask);
  kir_end(k);
  kir_sync(k);
  sum_part(e, p, slot, num32(k, 0), &f->sum, e->a->has_y, &f->y, f->l);
  kir_sync(k);
}

/* Scores to weights; an entry's own positions stand side by side. */
static void exponentiate(Block *e, KInst *const *largest) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *m = largest[0], *t = remainder_of(k, kir_lane(k), e->tile);
  for (int i = 1; i < e->tile; i++) m = pick(k, equal(k, t, num32(k, i)), largest[i], m);
  KInst *n = to_i64(k, times(k, kir_get(k, a->n), e->tile));
  attend_exponentiate(a, to_i64(k, list_at(e, 0)), n, m);
}

static void store_lse(Block *e, const ForwardPass *f, int r, KInst *m, KInst *none) {
  Attention *a = e->a;
  Kernel *k = e->k;
  KInst *lse = add(k, m, kir_log(k, kir_get(k, f->l[r]))), *at[MAX_TILE], *exists[MAX_TILE];
  for (int t = 0; t < e->tile; t++) {
    at[t] = sub(k, e->of[t].index, e->of[0].index);
    exists[t] = e->of[t].exists;
  }
  KInst *row = attend_row(a, a->own, to_i64(k, e->of[0].index)), *mask = lane_own(e, &f->y, r, exists);
  if (f->y.at_once > 1) {   /* else all lanes have the same */
    KInst *first = equal(k, remainder_of(k, kir_lane(k), f->y.lanes), num32(k, 0));
    KInst *in = below(k, kir_lane(k), num32(k, f->y.lanes * f->y.at_once));
    mask = both(k, both(k, mask, first), in);
  }
  lse = pick(k, none, kir_f32(k, -INFINITY), lse);
  KInst *lane = times(k, lane_own(e, &f->y, r, at), a->attrs->heads);
  kir_store(k, a->out_lse, attend_number_at(a, row), lane, lse, mask);
}

static void finish(Block *e, const ForwardPass *f) {
  Attention *a = e->a;
  Kernel *k = e->k;
  for (int r = 0; r < f->y.rounds; r++) {
    /* the largest score's weight is 1: a sum of 0 has no terms */
    KInst *zero = zero32(k), *l = kir_get(k, f->l[r]), *none = equal(k, l, zero), *y[MAX_LANE_QUADS * QUAD];
    for (int j = 0; a->has_y && j < f->y.quads * QUAD; j++)
      y[j] = pick(k, none, zero, kir_bin(k, KOP_DIV, kir_get(k, f->sum.of[r][j]), l));
    if (a->has_y) sum_store(e, &f->y, &a->out_y, r, y);
    if (a->out_lse >= 0) store_lse(e, f, r, lane_own(e, &f->y, r, f->largest), none);
  }
}

void pass_forward(Block *e) {
  Attention *a = e->a;
  Kernel *k = e->k;
  ForwardPass f = {.y = spread_of(e, a->has_y ? &a->out_y : &a->own->x)};
  for (int t = 0; t < e->tile; t++) f.most[t] = kir_var(k, kir_f32(k, -INFINITY), true);
  a->n = kir_var(k, num32(k, 0), false);
  stage_each_chunk(e, 0, score_chunk, &f);
  for (int t = 0; t < e->tile; t++) f.largest[t] = kir_un(k, KOP_TREE_MAX, kir_get(k, f.most[t]));
  if (!e->is_streamed) exponentiate(e, f.largest);
  kir_set(k, a->n, num32(k, 0));
  if (a->has_y) sum_start(e, &f.sum, &e->load[1].part[e->load[1].n - 1], 0);
  for (int r = 0; r < f.y.rounds; r++) f.l[r] = kir_var(k, zero32(k), f.y.at_once > 1);
  stage_each_chunk(e, 1, e->is_streamed ? weigh_anew : weigh_chunk, &f);
  finish(e, &f);
}

/* ---- backward ---- */

typedef struct BackwardPass {
  KInst *lse[MAX_TILE], *delta[MAX_TILE];   /* of own queries */
  int list_p, list_ds;                      /* -1: none */
  Sum sum[MAX_TOGETHER];
  const Heads *out[MAX_TOGETHER];
  int n_sum;
} BackwardPass;

/* lse or delta of the lanes' queries; NULL: they are the own positions'. */
static KInst *number_of(Block *e, const Staged *s, KInst *slot, KInst *row) {
  return e->a->for_keys ? kir_load(e->k, e->numbers, stage_numbers_at(e, s, slot), row, NULL) : NULL;
}

static void weigh_lanes(Block *e, const BackwardPass *b, const Part *p, KInst *slot, KInst *i) {
  Kernel *k = e->k;
  const Staged *x = &e->load[0].part[0], *y = &e->load[0].part[1];
  Lanes o = lanes_of(e, p, i);
  KInst *w[MAX_TILE], *dp[MAX_TILE], *number = number_of(e, x, slot, o.row);
  lane_dots(e, 0, x, slot, o.row, false, w);
  for (int t = 0; t < e->tile; t++)
    w[t] = kir_exp(k, sub(k, attend_scaled(e->a, w[t]), number ? number : b->lse[t]));
  if (b->list_p >= 0) list_put(e, b->list_p, to_i32(k, i), w, o.mask);
  if (b->list_ds < 0) return;
  number = number_of(e, y, slot, o.row);
  lane_dots(e, 1, y, slot, o.row, true, dp);
  for (int t = 0; t < e->tile; t++) w[t] = attend_ds(k, w[t], dp[t], number ? number : b->delta[t]);
  list_put(e, b->list_ds, to_i32(k, i), w, o.mask);
}

static void backward_chunk(Block *e, void *ctx, const Part *p, KInst *slot) {
  Kernel *k = e->k;
  BackwardPass *b = ctx;
  KInst *i = kir_for(k, num(k, 0), to_i64(k, p->count), LANES, 0);
  weigh_lanes(e, b, p, slot, i);
  kir_end(k);
  kir_sync(k);
  sum_part(e, p, slot, num32(k, 0), b->sum, b->n_sum, NULL, NULL);
  kir_sync(k);
}

static void add_sum(Block *e, BackwardPass *b, const Staged *from, int list, const Heads *out) {
  sum_start(e, &b->sum[b->n_sum], from, list);
  b->out[b->n_sum++] = out;
}

void pass_backward(Block *e) {
  Attention *a = e->a;
  Kernel *k = e->k;
  BackwardPass b = {.list_p = a->has_y ? 0 : -1, .list_ds = a->has_x ? a->has_y : -1};
  for (int t = 0; t < e->tile && !a->for_keys; t++) {
    KInst *row = attend_row(a, a->own, to_i64(k, e->of[t].index));
    b.lse[t] = attend_number(a, a->buf_lse, row);
    b.delta[t] = attend_number(a, a->buf_delta, row);
  }
  if (a->has_x) add_sum(e, &b, &e->load[0].part[0], b.list_ds, &a->out_x);
  if (a->has_y) add_sum(e, &b, &e->load[0].part[1], b.list_p, &a->out_y);
  stage_each_chunk(e, 0, backward_chunk, &b);
  for (int i = 0; i < b.n_sum; i++)
    for (int r = 0; r < b.sum[i].y.rounds; r++) {
      KInst *x[MAX_LANE_QUADS * QUAD];
      for (int j = 0; j < b.sum[i].y.quads * QUAD; j++) {
        x[j] = kir_get(k, b.sum[i].of[r][j]);
        if (b.out[i] == &a->out_x) x[j] = attend_scaled(a, x[j]);
      }
      sum_store(e, &b.sum[i].y, b.out[i], r, x);
    }
}
