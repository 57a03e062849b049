/* SCATTER groups: rows added or written at computed places.
 *
 * scatter_add: an item is one row of the result (and a block of its columns); it scans the indices, 16 comparisons at
 * a time, and adds the rows that match in order of the index: no atomics, one order whatever the split.  On a GPU an
 * item is a block: its groups share the scanning, and each adds 16 columns of the rows that match. ring_write:
 * an item is one row that is written; rows that are not written stay as they are, so the result must lie over the
 * ring, or the planner must have copied the ring there first. */
#include "codegen/kir/arith.h"
#include "codegen/lower/lower.h"

enum { MAX_SCAN = 8 };

typedef struct Scatter {
  const ScatterParams *params;
  Node *node, *index, *x;
  Type row; /* axes of a row of the result */
  LanePlan plan;
  Ix *piece;
  Ix *target;         /* row of the result */
  Ix *from[MAX_RANK]; /* index of the row of x */
  int acc;            /* scratch: sums of this item */
  /* blocks of a GPU */
  int match, any;     /* scratch i32, twice: which of the indices name the row; of a group's, whether one does */
  KInst *sum, *exists;/* variable: the lane's column; which lanes have one, NULL: all */
  Ix *column;
} Scatter;

static bool is_float(const Node *n) { return dtype_is_float(n->type.dtype); }

/* Rows of `rows` and pieces of a row as items; the row in *out_row. */
static bool decode_item(Lower *l, Scatter *s, Dim rows, Ix **out_row) {
  Kernel *k = l->k;
  Dim n;
  s->row = type_make(DTYPE_F32, s->node->type.rank - 1, s->node->type.dim + 1);
  if (!type_elems(&s->row, &n)) return lower_fail(l, s->node, "the number of elements is not affine in B and R");
  s->plan = lane_plan(n, s->params->vectors);
  int64_t step = LANES * s->plan.vectors;
  kir_factor(k, rows, 1);
  kir_factor(k, n, step);
  KInst *item = kir_item(k);
  s->piece = ix_const(l, 0);
  *out_row = ix_value(l, item, rows);
  if (!s->plan.single) {
    KInst *pieces = kir_bin(k, KOP_DIV, kir_bin(k, KOP_ADD, kir_dim(k, n), kir_i64(k, step - 1)), kir_i64(k, step));
    Dim most = dim_is_const(n) ? dim_const((n.c + step - 1) / step) : n;
    *out_row = ix_value(l, kir_bin(k, KOP_DIV, item, pieces), rows);
    s->piece = ix_value(l, kir_bin(k, KOP_MOD, item, pieces), most);
  }
  return true;
}

/* Element i of the result's row, and of the row of x. */
static void row_index(Lower *l, const Scatter *s, Ix *i, Ix **out_target, Ix **out_from) {
  int m = s->index->type.rank;
  out_target[0] = s->target;
  ix_unflatten(l, &s->row, i, out_target + 1);
  for (int a = 0; a < m; a++) out_from[a] = s->from[a];
  for (int a = 0; a < s->row.rank; a++) out_from[m + a] = out_target[1 + a];
}

/* Every vector of the item's piece of a row; a row of one element is uniform. */
static void each(Lower *l, Scatter *s, LaneFn body) {
  if (dim_equal(s->plan.n, dim_const(1)))
    body(s, l, ix_const(l, 0));
  else
    lane_each(l, &s->plan, s->piece, s->params->unroll, body, s);
}

/* ---- scatter_add ---- */

static void acc_place(Lower *l, const Scatter *s, Ix *i, KInst **out_base, KInst **out_lane) {
  ix_emit(l, ix_add(l, i, ix_scale(l, s->piece, -LANES * s->plan.vectors)), out_base, out_lane);
}

static void start_vector(void *ctx, Lower *l, Ix *i) {
  Scatter *s = ctx;
  KInst *base, *lane;
  acc_place(l, s, i, &base, &lane);
  kir_store(l->k, s->acc, base, lane, is_float(s->node) ? kir_f32(l->k, 0) : kir_i32(l->k, 0), l->mask);
}

static void add_vector(void *ctx, Lower *l, Ix *i) {
  Scatter *s = ctx;
  Kernel *k = l->k;
  KInst *base, *lane;
  Ix *target[MAX_RANK], *from[MAX_RANK];
  row_index(l, s, i, target, from);
  KInst *x = lower_value(l, s->x, from);
  acc_place(l, s, i, &base, &lane);
  KInst *sum = kir_bin(k, KOP_ADD, kir_load(k, s->acc, base, lane, l->mask), x);
  kir_store(k, s->acc, base, lane, sum, l->mask);
}

static void sum_vector(void *ctx, Lower *l, Ix *i) {
  Scatter *s = ctx;
  KInst *base, *lane;
  Ix *target[MAX_RANK], *from[MAX_RANK];
  row_index(l, s, i, target, from);
  acc_place(l, s, i, &base, &lane);
  lower_store(l, 0, target, kir_load(l->k, s->acc, base, lane, l->mask));
}

/* 16 indices: which of them name this row, then those rows one after the other. */
static void scan_vector(void *ctx, Lower *l, Ix *i) {
  Scatter *s = ctx;
  Kernel *k = l->k;
  Ix *at[MAX_RANK];
  ix_unflatten(l, &s->index->type, i, at);
  KInst *row = ix_emit_i32(l, s->target), *saved = l->mask;
  KInst *match = kir_bin(k, KOP_EQ, lower_value(l, s->index, at), row);
  if (saved) match = kir_bin(k, KOP_AND, match, saved);
  match = kir_un(k, KOP_TO_I32, match);
  KInst *base, *lane;
  ix_emit(l, ix_add(l, i, ix_scale(l, ix_value(l, kir_lane(k), dim_const(LANES)), -1)), &base, &lane);
  kir_if(k, kir_bin(k, KOP_LT, kir_i32(k, 0), kir_un(k, KOP_TREE_MAX, match)));
  KInst *j = kir_for(k, kir_i64(k, 0), kir_i64(k, LANES), 1, 1);
  kir_if(k, kir_bin(k, KOP_LT, kir_i32(k, 0), kir_bin(k, KOP_LANE_GET, match, kir_un(k, KOP_TO_I32, j))));
  Dim n;
  type_elems(&s->index->type, &n);
  ix_unflatten(l, &s->index->type, ix_value(l, kir_bin(k, KOP_ADD, base, j), n), s->from);
  l->mask = NULL;
  each(l, s, add_vector);
  l->mask = saved;
  kir_end(k);
  kir_end(k);
  kir_end(k);
}

static bool scatter_add(Lower *l, Scatter *s) {
  Dim n;
  Kernel *k = l->k;
  if (!type_elems(&s->index->type, &n))
    return lower_fail(l, s->node, "the number of indices is not affine in B and R");
  if (!decode_item(l, s, dim_const(s->node->attrs.scatter.rows), &s->target)) return false;
  s->acc = kir_scratch(k, "sum", is_float(s->node) ? DTYPE_F32 : DTYPE_I32, LANES * s->plan.vectors);
  each(l, s, start_vector);
  LanePlan all = lane_plan(n, INT64_MAX / (4 * LANES));
  lane_each(l, &all, ix_const(l, 0), 1, scan_vector, s);
  each(l, s, sum_vector);
  int64_t grain = s->params->grain, indices = dim_is_const(n) && n.c > 0 ? n.c : grain;
  k->grain = indices < grain ? grain / indices : 1;
  return !l->failed;
}

/* ---- scatter_add on a GPU ---- */

static KInst *is_set(Kernel *k, KInst *x) { return kir_bin(k, KOP_LT, kir_i32(k, 0), x); }

/* The group's indices from t on: what names the row goes to shared memory, at `slot` of the two halves. */
static void block_scan(Lower *l, Scatter *s, KInst *t, KInst *slot, Dim n) {
  Kernel *k = l->k;
  KInst *group = kir_un(k, KOP_TO_I64, kir_group(k)), *lane = kir_lane(k), *any = NULL;
  KInst *row = ix_emit_i32(l, s->target), *own = times(k, group, s->params->scan * LANES);
  KInst *left = kir_bin(k, KOP_SUB, kir_dim(k, n), add(k, t, own)), *match[MAX_SCAN];
  left = kir_bin(k, KOP_MAX, kir_bin(k, KOP_MIN, left, kir_i64(k, s->params->scan * LANES)), kir_i64(k, 0));
  left = kir_un(k, KOP_TO_I32, left);
  for (int v = 0; v < s->params->scan; v++) {
    Ix *at[MAX_RANK], *i = ix_add(l, ix_value(l, add(k, t, own), n), ix_const(l, v * LANES));
    ix_unflatten(l, &s->index->type, ix_assume(l, ix_add(l, i, ix_value(l, lane, dim_const(LANES))), n), at);
    l->mask = kir_bin(k, KOP_LT, plus(k, lane, v * LANES), left);
    match[v] = kir_bin(k, KOP_AND, kir_bin(k, KOP_EQ, lower_value(l, s->index, at), row), l->mask);
    match[v] = kir_un(k, KOP_TO_I32, match[v]);
  }
  for (int v = 0; v < s->params->scan; v++) {
    KInst *here = add(k, times(k, add(k, slot, group), s->params->scan * LANES), kir_i64(k, v * LANES));
    kir_store(k, s->match, here, lane, match[v], NULL);
    any = any ? kir_bin(k, KOP_MAX, any, match[v]) : match[v];
  }
  kir_store(k, s->any, add(k, slot, group), NULL, kir_un(k, KOP_TREE_MAX, any), NULL);
  l->mask = NULL;
}

/* Adds the rows that vector v of the tile at t names, in order; matches: which, from `here` on. */
static void block_add(Lower *l, Scatter *s, KInst *first, KInst *here, Dim n) {
  Kernel *k = l->k;
  KInst *match = kir_load(k, s->match, here, kir_lane(k), NULL);
  kir_if(k, is_set(k, kir_un(k, KOP_TREE_MAX, match)));
  KInst *j = kir_for(k, kir_i64(k, 0), kir_i64(k, LANES), 1, 1);
  kir_if(k, is_set(k, kir_bin(k, KOP_LANE_GET, match, kir_un(k, KOP_TO_I32, j))));
  Ix *target[MAX_RANK], *from[MAX_RANK];
  ix_unflatten(l, &s->index->type, ix_value(l, add(k, first, j), n), s->from);
  l->mask = s->exists;
  row_index(l, s, s->column, target, from);
  kir_set(k, s->sum, add(k, kir_get(k, s->sum), lower_value(l, s->x, from)));
  l->mask = NULL;
  kir_end(k);
  kir_end(k);
  kir_end(k);
}

/* One barrier a tile: while some groups still read one half of the matches, others fill the other. */
static void block_tiles(Lower *l, Scatter *s, Dim n) {
  Kernel *k = l->k;
  int64_t per_group = s->params->scan * LANES, tile = k->groups * per_group;
  KInst *t = kir_for(k, kir_i64(k, 0), kir_dim(k, n), tile, 1);
  KInst *half = kir_bin(k, KOP_MOD, kir_bin(k, KOP_DIV, t, kir_i64(k, tile)), kir_i64(k, 2));
  KInst *slot = times(k, half, k->groups);
  block_scan(l, s, t, slot, n);
  kir_barrier(k);
  KInst *g = kir_for(k, kir_i64(k, 0), kir_i64(k, k->groups), 1, 1);
  kir_if(k, is_set(k, kir_load(k, s->any, add(k, slot, g), NULL, NULL)));
  KInst *v = kir_for(k, kir_i64(k, 0), kir_i64(k, s->params->scan), 1, 1);
  KInst *first = add(k, t, add(k, times(k, g, per_group), times(k, v, LANES)));
  block_add(l, s, first, add(k, times(k, add(k, slot, g), per_group), times(k, v, LANES)), n);
  kir_end(k);
  kir_end(k);
  kir_end(k);
  kir_end(k);
}

static bool scatter_add_block(Lower *l, Scatter *s) {
  Dim n;
  Kernel *k = l->k;
  if (!type_elems(&s->index->type, &n))
    return lower_fail(l, s->node, "the number of indices is not affine in B and R");
  if (!decode_item(l, s, dim_const(s->node->attrs.scatter.rows), &s->target)) return false;
  int groups = s->plan.vectors < s->params->groups ? s->params->groups : (int)s->plan.vectors;
  int64_t span = LANES * s->plan.vectors;
  kir_block(k, groups, 0);
  s->match = kir_scratch(k, "match", DTYPE_I32, 2 * (int64_t)groups * s->params->scan * LANES);
  s->any = kir_scratch(k, "any", DTYPE_I32, 2 * groups);
  Ix *group = ix_value(l, kir_un(k, KOP_TO_I64, kir_group(k)), dim_const(groups));
  Ix *start = ix_scale(l, s->piece, span);
  Ix *local = ix_add(l, ix_scale(l, group, LANES), ix_value(l, kir_lane(k), dim_const(LANES)));
  KInst *base, *none;
  ix_emit(l, start, &base, &none);
  KInst *left = kir_bin(k, KOP_MIN, kir_bin(k, KOP_SUB, kir_dim(k, s->plan.n), base), kir_i64(k, span));
  s->exists = kir_bin(k, KOP_LT, ix_emit_i32(l, local), kir_un(k, KOP_TO_I32, left));
  s->column = ix_assume(l, ix_add(l, start, local), s->plan.n);
  s->sum = kir_var(k, is_float(s->node) ? kir_f32(k, 0) : kir_i32(k, 0), true);
  block_tiles(l, s, n);
  Ix *target[MAX_RANK], *from[MAX_RANK];
  row_index(l, s, s->column, target, from);
  l->mask = s->exists;
  lower_store(l, 0, target, kir_get(k, s->sum));
  l->mask = NULL;
  return !l->failed;
}

/* ---- ring_write ---- */

static void write_vector(void *ctx, Lower *l, Ix *i) {
  Scatter *s = ctx;
  Ix *target[MAX_RANK], *from[MAX_RANK];
  row_index(l, s, i, target, from);
  lower_store(l, 0, target, lower_value(l, s->x, from));
}

static bool ring_write(Lower *l, Scatter *s) {
  Kernel *k = l->k;
  Dim slots = s->node->type.dim[0];
  if (!decode_item(l, s, s->index->type.dim[0], &s->from[0])) return false;
  KInst *at = lower_value(l, s->index, s->from);
  KInst *n = kir_un(k, KOP_TO_I32, kir_dim(k, slots));
  s->target = ix_value(l, kir_un(k, KOP_TO_I64, at), slots);
  kir_if(k, kir_bin(k, KOP_AND, kir_bin(k, KOP_LE, kir_i32(k, 0), at), kir_bin(k, KOP_LT, at, n)));
  each(l, s, write_vector);
  kir_end(k);
  k->grain = 1 + s->params->grain / (LANES * s->plan.vectors) / 4;
  return !l->failed;
}

bool lower_scatter(Lower *l, const Params *p) {
  Node *n = l->group->anchor;
  bool add = n->op == OP_SCATTER_ADD;
  if (!add && n->op != OP_RING_WRITE) return lower_fail(l, n, "is not a scatter");
  if (l->group->n_out != 1 || l->group->out[0] != n)
    return lower_fail(l, n, "a scatter group has one result, its anchor");
  Scatter s = {.params = &p->scatter, .node = n, .index = add ? n->in[0] : n->in[1], .x = add ? n->in[1] : n->in[2]};
  if (!add) return ring_write(l, &s);
  return p->scatter.block ? scatter_add_block(l, &s) : scatter_add(l, &s);
}

/* ---- parameters ---- */

/* Rows of one element leave a block's lanes without columns. */
static bool has_blocks(const Group *g, const Target *t) {
  const Node *n = g->anchor;
  Dim row;
  bool one = type_elems_range(&n->type, 1, n->type.rank, &row) && dim_equal(row, dim_const(1));
  return target_is_gpu(t) && n->op == OP_SCATTER_ADD && !one;
}

bool scatter_params(Arena *a, const Group *g, const Target *t, Params *out, Error *err) {
  if (has_blocks(g, t)) out->scatter = (ScatterParams){.block = 1, .vectors = 16, .groups = 8, .scan = 4, .unroll = 1};
  else out->scatter = (ScatterParams){.block = 0, .vectors = 32, .groups = 1, .scan = 1, .unroll = 4};
  out->scatter.grain = GRAIN_ELEMS;
  return true;
}

int scatter_params_refuse(const Group *g, const Target *t, const Params *params, Error *err) {
  const ScatterParams *p = &params->scatter;
  if (p->block && !has_blocks(g, t))
    return params_refuse(PARAM_AT(ScatterParams, block), err, "it must be 0: scatter_add of rows on a GPU has blocks");
  if (p->block && p->vectors > KIR_MAX_GROUPS / 2)
    return params_refuse(PARAM_AT(ScatterParams, vectors), err, "a block has a group for each, at most %d",
                         KIR_MAX_GROUPS / 2);
  if (p->block && p->groups == 1)
    return params_refuse(PARAM_AT(ScatterParams, groups), err, "it must be more than 1 with block=1");
  if (!p->block && p->groups > 1) return params_refuse(PARAM_AT(ScatterParams, groups), err, "it must be 1 with block=0");
  if (!p->block && p->scan > 1) return params_refuse(PARAM_AT(ScatterParams, scan), err, "it must be 1 with block=0");
  if (p->block && p->unroll > 1) return params_refuse(PARAM_AT(ScatterParams, unroll), err, "it must be 1 with block=1");
  return params_refuse_grain(PARAM_AT(ScatterParams, grain), p->grain, t, err);
}
