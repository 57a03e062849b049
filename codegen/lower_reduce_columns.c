/* REDUCE groups with lanes along kept elements: an item is a block of columns.
 *
 * The 16 logical lanes of a reduction are 16 rows of accumulators in scratch: element i of a column adds to row i mod
 * 16, and the rows are combined by the same tree, so the bits are those of the row layout.  Memory is read row by
 * row. Row-level values that element-level ones need are kept in scratch, one for each column. */
#include "codegen/lower_reduce.h"

enum { GRAIN_ELEMS = 16384 };

typedef struct Columns {
  Reduce *r;
  LanePlan plan;
  Type outer, inner; /* kept axes before and after the last reduced one */
  Ix *outer_idx[MAX_RANK];
  Ix *piece;
  int buf[2]; /* scratch [n_rows, width]: floats, integers */
  int n_rows[2];
  int *acc, *acc_index; /* by member: first of 16 rows of scratch with running values, or -1 */
  int *column;          /* by member: row of scratch with row-level values that are read later, or -1 */
  Ix *gone[MAX_RANK];   /* index on the reduced axes, in the loop over them */
  Ix *slot;             /* lane of the reduction: number of the reduced element mod 16 */
  KInst *at;            /* that number as i32 */
} Columns;

static int64_t width(const Columns *c) { return LANES * c->plan.vectors; }

static int rows_new(Columns *c, bool is_int, int n) {
  int first = c->n_rows[is_int];
  c->n_rows[is_int] += n;
  return first;
}

static bool is_int(const Node *n) { return !dtype_is_float(n->type.dtype); }

/* Whether an index map, an element-level member or a later stage reads m. */
static bool is_read_later(const Reduce *r, const Member *m) {
  for (int i = 0; i < r->n_member; i++) {
    const Member *user = &r->member[i];
    if (user->row && user->stage <= m->stage && op_info[user->node->op].class != CLASS_MOVE) continue;
    for (int j = 0; j < user->node->n_in; j++) {
      Node *x = user->node->in[j];
      while (x != m->node && (x->op == OP_RESHAPE || x->op == OP_DETACH)) x = x->in[0];
      if (x == m->node) return true;
    }
  }
  return false;
}

static void scratch_new(Columns *c) {
  Reduce *r = c->r;
  Kernel *k = r->l->k;
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    c->acc[m] = c->acc_index[m] = c->column[m] = -1;
    bool map = op_info[x->node->op].class == CLASS_MAP, arg = x->node->op == OP_ARGMAX;
    bool later = x->row && (map || x->loop >= 0) && x->stage < r->n_loops && is_read_later(r, x);
    if (x->loop >= 0) c->acc[m] = rows_new(c, is_int(x->node->in[0]), LANES);
    if (arg) c->acc_index[m] = rows_new(c, true, LANES);
    if (later) c->column[m] = rows_new(c, is_int(x->node), 1);
  }
  if (c->n_rows[0]) c->buf[0] = kir_scratch(k, "columns", DTYPE_F32, c->n_rows[0] * width(c));
  if (c->n_rows[1]) c->buf[1] = kir_scratch(k, "columns_i", DTYPE_I32, c->n_rows[1] * width(c));
}

/* Place in scratch of row first + more and column i (counted in the whole tensor). */
static void place(Columns *c, int first, Ix *more, Ix *i, KInst **out_base, KInst **out_lane) {
  Lower *l = c->r->l;
  Ix *row = ix_add(l, ix_const(l, first), more), *local = ix_add(l, i, ix_scale(l, c->piece, -width(c)));
  ix_emit(l, ix_add(l, ix_scale(l, row, width(c)), local), out_base, out_lane);
}

static KInst *scratch_load(Columns *c, bool is_i, int first, Ix *more, Ix *i) {
  KInst *base, *lane;
  place(c, first, more, i, &base, &lane);
  return kir_load(c->r->l->k, c->buf[is_i], base, lane, c->r->l->mask);
}

static void scratch_store(Columns *c, bool is_i, int first, Ix *more, Ix *i, KInst *v) {
  KInst *base, *lane;
  place(c, first, more, i, &base, &lane);
  kir_store(c->r->l->k, c->buf[is_i], base, lane, v, c->r->l->mask);
}

/* The running value of member m for reduction lane `slot`. */
static Running running_load(Columns *c, int m, Ix *slot, Ix *i) {
  const Node *n = c->r->member[m].node;
  return (Running){scratch_load(c, is_int(n->in[0]), c->acc[m], slot, i),
                   n->op == OP_ARGMAX ? scratch_load(c, true, c->acc_index[m], slot, i) : NULL};
}

static void running_store(Columns *c, int m, Ix *slot, Ix *i, Running v) {
  const Node *n = c->r->member[m].node;
  scratch_store(c, is_int(n->in[0]), c->acc[m], slot, i, v.value);
  if (v.index) scratch_store(c, true, c->acc_index[m], slot, i, v.index);
}

/* Sets the kept index to column i of this item. */
static void at_column(Columns *c, Ix *i) {
  Reduce *r = c->r;
  for (int a = 0; a < c->outer.rank; a++) r->kept_idx[a] = c->outer_idx[a];
  ix_unflatten(r->l, &c->inner, i, r->kept_idx + c->outer.rank);
}

/* Row-level values of earlier stages are what scratch holds for this column. */
static void bind_columns(Columns *c, Ix *i) {
  Reduce *r = c->r;
  for (int m = 0; m < r->n_member; m++)
    if (c->column[m] >= 0 && r->member[m].stage <= r->loop)
      reduce_bind_row(r, &r->member[m],
                      scratch_load(c, is_int(r->member[m].node), c->column[m], ix_const(r->l, 0), i));
}

static void start_vector(void *ctx, Lower *l, Ix *i) {
  Columns *c = ctx;
  Reduce *r = c->r;
  for (int m = 0; m < r->n_member; m++) {
    if (r->member[m].loop != r->loop) continue;
    running_store(c, m, c->slot, i, reduce_start(l, r->member[m].node));
  }
}

static void element_vector(void *ctx, Lower *l, Ix *i) {
  Columns *c = ctx;
  Reduce *r = c->r;
  Ix *idx[MAX_RANK];
  at_column(c, i);
  reduce_element_index(r, c->gone, idx);
  bind_columns(c, i);
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->loop != r->loop) continue;
    KInst *value = lower_value(l, x->node->in[0], idx);
    running_store(c, m, c->slot, i, reduce_step(l, x->node, running_load(c, m, c->slot, i), value, c->at));
  }
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->out >= 0 && x->element && x->stage == r->loop) reduce_store_element(r, x, idx);
  }
}

static void column_store(Columns *c, int m, Ix *i) {
  const Member *x = &c->r->member[m];
  scratch_store(c, is_int(x->node), c->column[m], ix_const(c->r->l, 0), i, reduce_row_value(c->r, x));
}

/* After loop r->loop: totals, then the row-level values that they make known. */
static void finish_vector(void *ctx, Lower *l, Ix *i) {
  Columns *c = ctx;
  Reduce *r = c->r;
  at_column(c, i);
  bind_columns(c, i);
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->loop != r->loop) continue;
    Running lane[LANES];
    for (int j = 0; j < LANES; j++) lane[j] = running_load(c, m, ix_const(l, j), i);
    reduce_bind_row(r, x, reduce_end_values(l, x->node, lane));
  }
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    bool now = x->stage == r->loop + 1;
    if (c->column[m] >= 0 && now) column_store(c, m, i);
    if (x->out >= 0 && !x->element && (now || (x->stage == 0 && r->loop == 0))) reduce_store_row(r, x);
  }
}

/* Row-level values that need no reduction, for loop 0. */
static void before_vector(void *ctx, Lower *l, Ix *i) {
  Columns *c = ctx;
  Reduce *r = c->r;
  at_column(c, i);
  for (int m = 0; m < r->n_member; m++)
    if (c->column[m] >= 0 && r->member[m].stage == 0) column_store(c, m, i);
}

static bool loop_has_reduction(const Reduce *r) {
  for (int m = 0; m < r->n_member; m++)
    if (r->member[m].loop == r->loop) return true;
  return false;
}

static void column_loop(Columns *c) {
  Reduce *r = c->r;
  Lower *l = r->l;
  Kernel *k = l->k;
  bool reduces = loop_has_reduction(r);
  if (reduces) {
    c->slot = ix_value(l, kir_for(k, kir_i64(k, 0), kir_i64(k, LANES), 1, 1), dim_const(LANES));
    lane_each(l, &c->plan, c->piece, 4, start_vector, c);
    kir_end(k);
  }
  KInst *n = kir_for(k, kir_i64(k, 0), kir_dim(k, r->n_reduced), 1, 1);
  Ix *at = dim_equal(r->n_reduced, dim_const(1)) ? ix_const(l, 0) : ix_value(l, n, r->n_reduced);
  KInst *base, *none;
  ix_unflatten(l, &r->reduced, at, c->gone);
  for (int a = 0; a < r->reduced.rank; a++) ix_emit(l, c->gone[a], &base, &none);
  ix_emit(l, ix_mod(l, at, dim_const(LANES)), &base, &none);
  c->slot = ix_value(l, base, dim_const(LANES));
  c->at = ix_emit_i32(l, at);
  lane_each(l, &c->plan, c->piece, r->params->unroll, element_vector, c);
  kir_end(k);
  if (reduces) lane_each(l, &c->plan, c->piece, 1, finish_vector, c);
}

/* Which columns the item has; false after a diagnostic. */
static bool decode_item(Columns *c) {
  Reduce *r = c->r;
  Lower *l = r->l;
  Kernel *k = l->k;
  Dim n_outer, n_inner;
  int last = 0; /* kept axes before the last reduced one */
  for (int i = 0, kept = 0; i < r->domain->rank; i++) {
    if (r->axes >> i & 1)
      last = kept;
    else
      kept++;
  }
  c->outer = type_make(DTYPE_F32, last, r->kept.dim);
  c->inner = type_make(DTYPE_F32, r->kept.rank - last, r->kept.dim + last);
  if (!type_elems(&c->outer, &n_outer) || !type_elems(&c->inner, &n_inner))
    return lower_fail(l, l->group->anchor, "the number of elements is not affine in B and R");
  c->plan = lane_plan(n_inner, COLUMN_VECTORS);
  int64_t step = width(c);
  Ix *outer = ix_const(l, 0);
  KInst *item = kir_item(k);
  c->piece = ix_const(l, 0);
  kir_factor(k, n_outer, 1);
  kir_factor(k, n_inner, step);
  bool one = dim_equal(n_outer, dim_const(1));
  if (c->plan.single) {
    if (!one) outer = ix_value(l, item, n_outer);
  } else {
    KInst *pieces =
        kir_bin(k, KOP_DIV, kir_bin(k, KOP_ADD, kir_dim(k, n_inner), kir_i64(k, step - 1)), kir_i64(k, step));
    Dim most = dim_is_const(n_inner) ? dim_const((n_inner.c + step - 1) / step) : n_inner;
    c->piece = ix_value(l, one ? item : kir_bin(k, KOP_MOD, item, pieces), most);
    if (!one) outer = ix_value(l, kir_bin(k, KOP_DIV, item, pieces), n_outer);
  }
  ix_unflatten(l, &c->outer, outer, c->outer_idx);
  return true;
}

bool reduce_columns(Reduce *r) {
  Lower *l = r->l;
  Columns c = {.r = r};
  c.acc = ARENA_ARRAY(l->arena, int, r->n_member);
  c.acc_index = ARENA_ARRAY(l->arena, int, r->n_member);
  c.column = ARENA_ARRAY(l->arena, int, r->n_member);
  if (!decode_item(&c)) return false;
  scratch_new(&c);
  lane_each(l, &c.plan, c.piece, 1, before_vector, &c);
  for (r->loop = 0; r->loop < r->n_loops; r->loop++) column_loop(&c);
  int64_t column = dim_is_const(r->n_reduced) && r->n_reduced.c > 0 ? r->n_reduced.c : GRAIN_ELEMS;
  int64_t elems = column < GRAIN_ELEMS ? column * width(&c) : GRAIN_ELEMS;
  l->k->grain = elems < GRAIN_ELEMS ? GRAIN_ELEMS / elems : 1;
  return !l->failed;
}
