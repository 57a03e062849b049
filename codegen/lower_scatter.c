/* SCATTER groups: rows added or written at computed places.
 *
 * scatter_add: an item is one row of the result (and a block of its columns); it scans the indices, 16 comparisons at
 * a time, and adds the rows that match in order of the index: no atomics, one order whatever the split. ring_write:
 * an item is one row that is written; rows that are not written stay as they are, so the result must lie over the
 * ring, or the planner must have copied the ring there first. */
#include "codegen/lower.h"

enum { ROW_VECTORS = 32, GRAIN_ELEMS = 16384 };

typedef struct Scatter {
  Node *node, *index, *x;
  Type row; /* axes of a row of the result */
  LanePlan plan;
  Ix *piece;
  Ix *target;         /* row of the result */
  Ix *from[MAX_RANK]; /* index of the row of x */
  int acc;            /* scratch: sums of this item */
} Scatter;

static bool is_float(const Node *n) { return dtype_is_float(n->type.dtype); }

/* Rows of `rows` and pieces of a row as items; the row in *out_row. */
static bool decode_item(Lower *l, Scatter *s, Dim rows, Ix **out_row) {
  Kernel *k = l->k;
  Dim n;
  s->row = type_make(DTYPE_F32, s->node->type.rank - 1, s->node->type.dim + 1);
  if (!type_elems(&s->row, &n)) return lower_fail(l, s->node, "the number of elements is not affine in B and R");
  s->plan = lane_plan(n, ROW_VECTORS);
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
    lane_each(l, &s->plan, s->piece, 4, body, s);
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
  int64_t indices = dim_is_const(n) && n.c > 0 ? n.c : GRAIN_ELEMS;
  k->grain = indices < GRAIN_ELEMS ? GRAIN_ELEMS / indices : 1;
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
  k->grain = 1 + GRAIN_ELEMS / (LANES * s->plan.vectors) / 4;
  return !l->failed;
}

bool lower_scatter(Lower *l, const KernelParams *p) {
  Node *n = l->group->anchor;
  bool add = n->op == OP_SCATTER_ADD;
  if (!add && n->op != OP_RING_WRITE) return lower_fail(l, n, "is not a scatter");
  if (l->group->n_out != 1 || l->group->out[0] != n)
    return lower_fail(l, n, "a scatter group has one result, its anchor");
  Scatter s = {.node = n, .index = add ? n->in[0] : n->in[1], .x = add ? n->in[1] : n->in[2]};
  return add ? scatter_add(l, &s) : ring_write(l, &s);
}
