/* Attention: forward, backward and cached decoding.  This file describes what is computed, sight.c who sees whom;
 * loops.c, list.c and tile.c are its loop nests on a CPU, gpu*.c the one on a GPU.
 *
 * Order of summation (ir/ops.def): a score is a 16-lane product sum and the fixed tree; p, the sum of weights and the
 * results are chains over what is visible in raster order.  It depends on what is visible only, so all nests, cached
 * steps and the teacher-forced function compute the same bits. */
#include <math.h>
#include <string.h>

#include "codegen/lower/attend/attend.h"

/* ---- head vectors ---- */

KInst *attend_row(Attention *a, const Side *s, KInst *index) {
  Kernel *k = a->k;
  if (s == &a->query || !a->has_slots) return add(k, times(k, a->sample, s->n), index);
  KInst *slot = load_int(k, a->buf_slots, index);
  return add(k, mul(k, slot, kir_dim(k, (Dim){0, 1, 0})), a->sample);
}

KInst *attend_unmasked(Attention *a, KInst *index, KInst *lane) {
  Kernel *k = a->k;
  if (a->buf_mask < 0) return NULL;
  KInst *seen = kir_load(k, a->buf_mask, add(k, times(k, a->sample, a->key.n), index), lane, NULL);
  return below(k, num32(k, 0), seen);
}

KInst *attend_raster(Kernel *k, const int64_t grid[3], KInst *const at[3]) {
  return add(k, times(k, add(k, times(k, at[0], grid[1]), at[1]), grid[2]), at[2]);
}

void attend_coords(Kernel *k, const int64_t grid[3], KInst *index, KInst *at[3]) {
  at[2] = remainder_of(k, index, grid[2]);
  KInst *rest = quotient(k, index, grid[2]);
  at[1] = remainder_of(k, rest, grid[1]);
  at[0] = quotient(k, rest, grid[1]);
}

KInst *attend_base(Attention *a, const Heads *h, KInst *row) {
  KInst *head = times(a->k, quotient(a->k, a->head, h->share), h->width);
  return add(a->k, times(a->k, row, h->row), head);
}

KInst *attend_number_at(Attention *a, KInst *row) { return add(a->k, times(a->k, row, a->attrs->heads), a->head); }

KInst *attend_number(Attention *a, int buf, KInst *row) {
  return kir_load(a->k, buf, attend_number_at(a, row), NULL, NULL);
}

/* Lanes of vector j of a head that exist; NULL: all. */
static KInst *lanes_of_head(Attention *a, const Heads *h, int j) {
  int64_t left = h->width - (int64_t)j * LANES;
  return left >= LANES ? NULL : below(a->k, kir_lane(a->k), num32(a->k, left));
}

KInst *attend_vector(Attention *a, const Heads *h, KInst *base, int j) {
  KInst *mask = lanes_of_head(a, h, j), *lane = kir_lane(a->k);
  return kir_load(a->k, h->buf, plus(a->k, base, j * LANES), lane, mask);
}

void attend_load(Attention *a, const Heads *h, KInst *row, KInst **out) {
  KInst *base = attend_base(a, h, row);
  for (int j = 0; j < vectors_of(h); j++) out[j] = attend_vector(a, h, base, j);
}

void attend_store(Attention *a, const Heads *h, KInst *row, int j, KInst *value) {
  KInst *mask = lanes_of_head(a, h, j), *lane = kir_lane(a->k);
  kir_store(a->k, h->buf, plus(a->k, attend_base(a, h, row), j * LANES), lane, value, mask);
}

void attend_pack(Attention *a, const Heads *h, KInst *row, int scratch, KInst *to) {
  KInst **x = ARENA_ARRAY(a->arena, KInst *, vectors_of(h));
  attend_load(a, h, row, x);
  for (int j = 0; j < vectors_of(h); j++) attend_put(a->k, scratch, plus(a->k, to, j * LANES), x[j]);
}

KInst *attend_scratch(Kernel *k, int scratch, KInst *at) { return kir_load(k, scratch, at, kir_lane(k), NULL); }

void attend_put(Kernel *k, int scratch, KInst *at, KInst *vector) {
  kir_store(k, scratch, at, kir_lane(k), vector, NULL);
}

/* ---- arithmetic that nests share ---- */

KInst *attend_scaled(Attention *a, KInst *x) {
  return mul(a->k, x, kir_f32(a->k, (float)a->attrs->scale));
}

KInst *attend_term(Kernel *k, int operand, KInst *x, KInst *y, KInst *sum) {
  return operand == Y ? add(k, sum, mul(k, x, y)) : fma_of(k, x, y, sum);
}

KInst *attend_ds(Kernel *k, KInst *p, KInst *dp, KInst *delta) { return mul(k, p, sub(k, dp, delta)); }

void attend_exponentiate(Attention *a, KInst *start, KInst *n, KInst *m) {
  Kernel *k = a->k;
  kir_sync(k);
  KInst *i = kir_for(k, num(k, 0), n, LANES, 0), *at = add(k, start, i);
  KInst *mask = lanes_below(k, sub(k, n, i)), *x = kir_load(k, a->scores, at, kir_lane(k), mask);
  if (m) x = sub(k, x, m);
  kir_store(k, a->scores, at, kir_lane(k), kir_exp(k, x), mask);
  kir_end(k);
  kir_sync(k);
}

void attend_add(Kernel *k, KInst *weight, KInst *x, KInst *sum) {
  kir_set(k, sum, fma_of(k, weight, x, kir_get(k, sum)));
}

KInst *attend_result(Attention *a, int operand, KInst *sum, KInst *total) {
  if (a->is_forward) return kir_bin(a->k, KOP_DIV, sum, total);
  return operand == X ? attend_scaled(a, sum) : sum;
}

void attend_start_sums(Attention *a, Sums *s) {
  for (int i = X; i <= Y; i++) {
    int n = a->has[i] ? vectors_of(&a->out[i]) : 0;
    s->of[i] = ARENA_ARRAY(a->arena, KInst *, n);
    for (int j = 0; j < n; j++) s->of[i][j] = kir_var(a->k, zero32(a->k), true);
  }
}

void attend_finish(Attention *a, const Sums *s, KInst *row, KInst *has_keys) {
  Kernel *k = a->k;
  KInst *total = a->is_forward ? kir_get(k, s->total) : NULL;
  for (int i = X; i <= Y; i++)
    for (int j = 0; a->has[i] && j < vectors_of(&a->out[i]); j++) {
      KInst *x = attend_result(a, i, kir_get(k, s->of[i][j]), total);
      attend_store(a, &a->out[i], row, j, a->is_forward ? pick(k, has_keys, x, zero32(k)) : x);
    }
  if (a->out_lse < 0) return;
  KInst *log = kir_log(k, total), *lse = add(k, kir_get(k, s->largest), log);
  lse = pick(k, has_keys, lse, kir_f32(k, -INFINITY));
  kir_store(k, a->out_lse, attend_number_at(a, row), NULL, lse, NULL);
}

/* ---- the description of a group ---- */

/* heads: how many n has. */
static Heads heads_of(Attention *a, const Node *n, int64_t heads, int buf) {
  int64_t row = n->type.dim[n->type.rank - 1].c;
  Heads h = {buf, n->type.dtype, row / heads, row, a->attrs->heads / heads};
  if (vectors_of(&h) > a->widest) a->widest = vectors_of(&h);
  return h;
}

/* Operands, from whichever members of the group name them: their places, -1 where the op has none.  The mask is the
 * last of all, and of every member. */
static void bind_inputs(Attention *a, const Group *g) {
  enum { Q, K, V, DY, LSE, DELTA, ROWS, SLOTS, PLACES };
  static const struct {
    Op op;
    signed char at[PLACES];
  } takes[] = {
      {OP_ATTEND, {0, 1, 2, -1, -1, -1, -1, -1}},       {OP_ATTEND_LSE, {0, 1, -1, -1, -1, -1, -1, -1}},
      {OP_ATTEND_GRAD_Q, {0, 1, 2, 3, 4, 5, -1, -1}},   {OP_ATTEND_GRAD_K, {0, 1, 2, 3, 4, 5, -1, -1}},
      {OP_ATTEND_GRAD_V, {0, 1, -1, 2, 3, -1, -1, -1}}, {OP_ATTEND_ROWS, {0, 2, 3, -1, -1, -1, 1, 4}},
  };
  Heads *const heads[] = {&a->query.of[X], &a->key.of[X], &a->key.of[Y], &a->query.of[Y]};
  int *const buf[] = {&a->number[X], &a->number[Y], &a->buf_rows, &a->buf_slots};
  Node *mask = attend_mask(g->anchor);
  a->buf_mask = !mask ? -1 : a->l ? lower_operand(a->l, mask) : 0;
  for (int i = 0; i < g->n_node; i++)
    for (int j = 0; j < COUNT_OF(takes); j++)
      for (int p = 0; p < PLACES && takes[j].op == g->node[i]->op; p++) {
        int at = takes[j].at[p];
        if (at < 0 || at >= g->node[i]->n_in || g->node[i]->in[at] == mask) continue;
        int operand = a->l ? lower_operand(a->l, g->node[i]->in[at]) : 0;
        int64_t n = p == K || p == V ? a->attrs->kv_heads : a->attrs->heads;
        if (p < LSE) *heads[p] = heads_of(a, g->node[i]->in[at], n, operand);
        else *buf[p - LSE] = operand;
      }
}

static void bind_outputs(Attention *a, const Group *g) {
  a->out_lse = a->out[X].buf = a->out[Y].buf = -1;
  for (int i = 0; i < g->n_out; i++) {
    Node *out = g->out[i];
    int buf = a->l ? a->l->out_buf[i] : 0;
    bool is_x = out->op == OP_ATTEND_GRAD_Q || out->op == OP_ATTEND_GRAD_K;
    if (out->op == OP_ATTEND_LSE) a->out_lse = buf;
    else a->out[is_x ? X : Y] = heads_of(a, out, a->attrs->heads, buf);
  }
  for (int i = X; i <= Y; i++) a->has[i] = a->out[i].buf >= 0;
}

void attend_describe(Attention *a, Arena *arena, const Group *g, Lower *l) {
  Node *anchor = g->anchor;
  *a = (Attention){.l = l, .k = l ? l->k : NULL, .arena = arena, .attrs = &anchor->attrs.attend, .cut = -1};
  a->extent = extent_new(arena, a->attrs);
  a->is_raster = a->extent->is_raster;
  a->is_axis = a->extent->is_axis;
  a->for_keys = anchor->op == OP_ATTEND_GRAD_K || anchor->op == OP_ATTEND_GRAD_V;
  a->is_rows = anchor->op == OP_ATTEND_ROWS;
  a->is_forward = anchor->op == OP_ATTEND || anchor->op == OP_ATTEND_LSE || a->is_rows;
  a->has_slots = a->is_rows && anchor->n_in - (attend_mask(anchor) != NULL) == 5;
  a->samples = anchor->in[0]->type.rank == 5 ? anchor->in[0]->type.dim[0] : dim_const(1);
  a->query.grid = a->attrs->query_grid;
  a->key.grid = a->attrs->key_grid;
  a->query.n = volume(a->query.grid);
  a->key.n = volume(a->key.grid);
  for (int x = 2; x >= 0; x--)
    if (a->is_raster && a->query.grid[x] > 1) a->cut = x;
  a->own = a->for_keys ? &a->key : &a->query;
  a->other = a->for_keys ? &a->query : &a->key;
  a->most = a->for_keys ? extent_max_queries(a->extent) : extent_max_keys(a->extent);
  bool is_one_grid = !memcmp(a->query.grid, a->key.grid, sizeof a->attrs->query_grid);
  a->tests_lines = a->is_axis && !(extent_holds_centre(a->extent) && (is_one_grid || !a->for_keys));
  bind_inputs(a, g);
  bind_outputs(a, g);
}

bool lower_attend(Lower *l, const Params *params) {
  static void (*const nest[])(Attention *, const AttendParams *) = {NULL, attend_listed, attend_tiles};
  Attention a;
  attend_describe(&a, l->arena, l->group, l);
  if (l->failed) return false;
  attend_tables(&a);
  const AttendParams *p = &params->attend;
  const AttendGpuParams *gpu = &params->attend_gpu;
  if (target_is_gpu(l->target) && gpu->nest) attend_blocks(&a, gpu);
  else if (target_is_gpu(l->target)) attend_loops(&a, gpu->own, gpu->resident);
  else if (p->nest) nest[p->nest](&a, p);
  else attend_loops(&a, p->patch_w, 0);
  return !l->failed;
}
