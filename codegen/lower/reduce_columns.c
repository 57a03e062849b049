/* REDUCE groups with lanes along kept elements: an item is a block of columns.
 *
 * The 16 logical lanes of a reduction are 16 rows of accumulators: element i of a column adds to row i mod 16, and the
 * rows are combined by the same tree, so the bits are those of the row layout.  Memory is read row by row. Row-level
 * values that element-level ones need are kept in scratch, one for each column.
 *
 * On the CPU an item has several vectors of columns and accumulators in scratch.  On a GPU it has one vector and
 * is executed by 16 groups, each of which has one row of accumulators in its registers; they meet in shared memory for
 * the tree, which group 0 computes. */
#include "codegen/lower/reduce.h"

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
  /* blocks of a GPU */
  bool is_block;
  Ix *vector;           /* the columns of the block, one a lane */
  KInst *exists;        /* which of them are there; NULL: all */
  KInst **value, **index; /* by member: the group's accumulators, variables */
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
    if (c->is_block && x->stage == 0) later = false; /* each group computes it before its loop */
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
    int rows = c->is_block ? l->k->groups : LANES;
    for (int j = 0; j < LANES; j++)
      lane[j] = j < rows ? running_load(c, m, ix_const(l, j), i) : reduce_start(l, x->node);
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

/* ---- on a GPU ---- */

/* Starts the group's accumulators and computes what its loop would compute for every element. */
static void block_start(Columns *c) {
  Reduce *r = c->r;
  Lower *l = r->l;
  at_column(c, c->vector);
  bind_columns(c, c->vector);
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->row && x->loop < 0 && x->stage == 0) reduce_row_value(r, x);
    if (x->loop != r->loop) continue;
    Running start = reduce_start(l, x->node);
    c->value[m] = kir_var(l->k, start.value, true);
    if (start.index) c->index[m] = kir_var(l->k, start.index, true);
  }
}

static void block_element(Columns *c, Ix *at) {
  Reduce *r = c->r;
  Lower *l = r->l;
  Kernel *k = l->k;
  Ix *idx[MAX_RANK];
  ix_unflatten(l, &r->reduced, at, c->gone);
  reduce_element_index(r, c->gone, idx);
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->loop != r->loop) continue;
    bool arg = x->node->op == OP_ARGMAX;
    Running now = {kir_get(k, c->value[m]), arg ? kir_get(k, c->index[m]) : NULL};
    now = reduce_step(l, x->node, now, lower_value(l, x->node->in[0], idx), arg ? ix_emit_i32(l, at) : NULL);
    kir_set(k, c->value[m], now.value);
    if (arg) kir_set(k, c->index[m], now.index);
  }
  for (int m = 0; m < r->n_member; m++) {
    Member *x = &r->member[m];
    if (x->out >= 0 && x->element && x->stage == r->loop) reduce_store_element(r, x, idx);
  }
}

/* The accumulators to shared memory; then group 0 has the totals and what follows from them. */
static void block_finish(Columns *c) {
  Reduce *r = c->r;
  Lower *l = r->l;
  Kernel *k = l->k;
  Ix *own = ix_value(l, kir_un(k, KOP_TO_I64, kir_group(k)), dim_const(k->groups));
  for (int m = 0; m < r->n_member; m++) {
    if (r->member[m].loop != r->loop) continue;
    Running end = {kir_get(k, c->value[m]), c->index[m] ? kir_get(k, c->index[m]) : NULL};
    running_store(c, m, own, c->vector, end);
  }
  kir_barrier(k);
  kir_if(k, kir_bin(k, KOP_EQ, kir_group(k), kir_i32(k, 0)));
  finish_vector(c, l, c->vector);
  kir_end(k);
  if (r->loop + 1 < r->n_loops) kir_barrier(k);
}

static bool loop_has_reduction(const Reduce *r) {
  for (int m = 0; m < r->n_member; m++)
    if (r->member[m].loop == r->loop) return true;
  return false;
}

static void block_loop(Columns *c) {
  Reduce *r = c->r;
  Lower *l = r->l;
  Kernel *k = l->k;
  block_start(c);
  KInst *n = kir_for(k, kir_un(k, KOP_TO_I64, kir_group(k)), kir_dim(k, r->n_reduced), LANES, r->params->unroll);
  block_element(c, dim_equal(r->n_reduced, dim_const(1)) ? ix_const(l, 0) : ix_value(l, n, r->n_reduced));
  kir_end(k);
  if (loop_has_reduction(r)) block_finish(c);
}

static void column_loop(Columns *c) {
  Reduce *r = c->r;
  Lower *l = r->l;
  Kernel *k = l->k;
  bool reduces = loop_has_reduction(r);
  if (reduces) {
    c->slot = ix_value(l, kir_for(k, kir_i64(k, 0), kir_i64(k, LANES), 1, 1), dim_const(LANES));
    lane_each(l, &c->plan, c->piece, r->params->start_unroll, start_vector, c);
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
  if (reduces) lane_each(l, &c->plan, c->piece, r->params->end_unroll, finish_vector, c);
}

/* The block's columns: lanes beyond the last one are masked. */
static void locate_vector(Columns *c, Dim n_inner) {
  Lower *l = c->r->l;
  Kernel *k = l->k;
  KInst *lane = kir_lane(k), *base, *none;
  Ix *start = ix_scale(l, c->piece, LANES);
  Dim lanes = dim_is_const(n_inner) && n_inner.c < LANES ? n_inner : dim_const(LANES);
  ix_emit(l, start, &base, &none);
  if (c->plan.has_tail) {
    KInst *left = kir_bin(k, KOP_MIN, kir_bin(k, KOP_SUB, kir_dim(k, n_inner), base), kir_i64(k, LANES));
    c->exists = kir_bin(k, KOP_LT, lane, kir_un(k, KOP_TO_I32, left));
  }
  c->vector = ix_assume(l, ix_add(l, start, ix_value(l, lane, lanes)), n_inner);
}

/* Groups of a block: as many as have an element. */
static int block_groups(Dim n_reduced) {
  int n = 2;
  while (n < LANES && (!dim_is_const(n_reduced) || n < n_reduced.c)) n *= 2;
  return n;
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
  c->plan = lane_plan(n_inner, r->params->vectors);
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
  if (c->is_block) locate_vector(c, n_inner);
  return true;
}

static void columns_cpu(Columns *c) {
  Reduce *r = c->r;
  lane_each(r->l, &c->plan, c->piece, r->params->end_unroll, before_vector, c);
  for (r->loop = 0; r->loop < r->n_loops; r->loop++) column_loop(c);
  int64_t grain = r->params->grain, column = dim_is_const(r->n_reduced) && r->n_reduced.c > 0 ? r->n_reduced.c : grain;
  int64_t elems = column < grain ? column * width(c) : grain;
  r->l->k->grain = elems < grain ? grain / elems : 1;
}

static void columns_block(Columns *c) {
  Reduce *r = c->r;
  c->value = ARENA_ARRAY(r->l->arena, KInst *, r->n_member);
  c->index = ARENA_ARRAY(r->l->arena, KInst *, r->n_member);
  r->l->mask = c->exists;
  for (r->loop = 0; r->loop < r->n_loops; r->loop++) block_loop(c);
  r->l->mask = NULL;
}

bool reduce_columns(Reduce *r) {
  Lower *l = r->l;
  Columns c = {.r = r, .is_block = target_is_gpu(r->l->target)};
  c.acc = ARENA_ARRAY(l->arena, int, r->n_member);
  c.acc_index = ARENA_ARRAY(l->arena, int, r->n_member);
  c.column = ARENA_ARRAY(l->arena, int, r->n_member);
  if (c.is_block) kir_block(l->k, block_groups(r->n_reduced), 0);
  if (!decode_item(&c)) return false;
  scratch_new(&c);
  if (c.is_block) columns_block(&c);
  else columns_cpu(&c);
  return !l->failed;
}
