/* REDUCE groups with lanes along the reduced elements: an item is a row, every loop walks over it once more.
 *
 * Row-level values are uniform and computed between the loops.  Works for any axes; vector loads need the reduced
 * axes innermost (or a last reduced axis of a multiple of 16 elements). */
#include "codegen/lower/reduce.h"

typedef struct RowLoop {
  Reduce *r;
  KInst **value, **index; /* variables by member */
} RowLoop;

static KInst *cache_offset(Lower *l, Ix *i, KInst **out_base) {
  KInst *lane;
  ix_emit(l, i, out_base, &lane);
  return lane;
}

/* Costly values: loaded where an earlier loop has kept them. */
static void bind_cached(Reduce *r, Ix *i, Ix *const *idx) {
  Lower *l = r->l;
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->cache < 0 || x->first_loop >= r->loop) continue;
    KInst *base, *lane = cache_offset(l, i, &base);
    lower_bind_at(l, x->node, idx, kir_load(l->k, x->cache, base, lane, l->mask));
  }
}

static void keep_costly(Reduce *r, Ix *i, Ix *const *idx) {
  Lower *l = r->l;
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->cache < 0 || x->first_loop != r->loop) continue;
    KInst *base, *lane = cache_offset(l, i, &base);
    kir_store(l->k, x->cache, base, lane, lower_value(l, x->node, idx), l->mask);
  }
}

static void row_vector(void *ctx, Lower *l, Ix *i) {
  RowLoop *w = ctx;
  Reduce *r = w->r;
  Kernel *k = l->k;
  Ix *gone[MAX_RANK], *idx[MAX_RANK];
  ix_unflatten(l, &r->reduced, i, gone);
  reduce_element_index(r, gone, idx);
  bind_cached(r, i, idx);
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->loop != r->loop) continue;
    bool arg = x->node->op == OP_ARGMAX;
    Running now = {kir_get(k, w->value[m]), arg ? kir_get(k, w->index[m]) : NULL};
    now = reduce_step(l, x->node, now, lower_value(l, x->node->in[0], idx), arg ? ix_emit_i32(l, i) : NULL);
    kir_set(k, w->value[m], now.value);
    if (arg) kir_set(k, w->index[m], now.index);
  }
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->out >= 0 && x->element && x->stage == r->loop) reduce_store_element(r, x, idx);
  }
  keep_costly(r, i, idx);
}

/* Computes here, outside the loop, what the loop would compute for every element. */
static void row_values(Reduce *r) {
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->row && x->loop < 0 && x->stage <= r->loop) reduce_row_value(r, x);
  }
}

static void row_loop(Reduce *r, const LanePlan *p) {
  Lower *l = r->l;
  Kernel *k = l->k;
  RowLoop w = {r, ARENA_ARRAY(l->arena, KInst *, r->n_member), ARENA_ARRAY(l->arena, KInst *, r->n_member)};
  row_values(r);
  for (int m = 0; m < r->n_member; m++) {
    if (r->member[m].loop != r->loop) continue;
    Running start = reduce_start(l, r->member[m].node);
    w.value[m] = kir_var(k, start.value, true);
    if (start.index) w.index[m] = kir_var(k, start.index, true);
  }
  lane_each(l, p, ix_const(l, 0), r->params->unroll, row_vector, &w);
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->loop != r->loop) continue;
    Running end = {kir_get(k, w.value[m]), w.index[m] ? kir_get(k, w.index[m]) : NULL};
    reduce_bind_row(r, x, reduce_end_lanes(l, x->node, end));
  }
}

bool reduce_rows(Reduce *r) {
  Lower *l = r->l;
  bool one = dim_equal(r->n_kept, dim_const(1));
  kir_factor(l->k, r->n_kept, 1);
  ix_unflatten(l, &r->kept, one ? ix_const(l, 0) : ix_value(l, kir_item(l->k), r->n_kept), r->kept_idx);
  for (int i = 0; i < r->kept.rank; i++) { /* once a row, for those quotients that stay */
    KInst *base, *none;
    ix_emit(l, r->kept_idx[i], &base, &none);
  }
  /* The whole row is one piece, whatever its size. */
  LanePlan p = lane_plan(r->n_reduced, INT64_MAX / (4 * LANES));
  for (r->loop = 0; r->loop < r->n_loops; r->loop++) row_loop(r, &p);
  row_values(r);
  for (int m = 0; m < r->n_member; m++)
    if (r->member[m].out >= 0 && !r->member[m].element) reduce_store_row(r, &r->member[m]);
  int64_t grain = r->params->grain, row = dim_is_const(r->n_reduced) && r->n_reduced.c > 0 ? r->n_reduced.c : grain;
  l->k->grain = row < grain ? grain / row : 1;
  return !l->failed;
}
