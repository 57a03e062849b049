/* Contractions: matrix products, convolutions and their filter gradients, as one loop nest.
 *
 * All of them are  y[row, col] = sum over k of a[A(row) + A'(k)] * b[B'(k) + B(col)]  with A, A', B, B' linear in a few
 * coordinates, so an implicit product needs no copy of its input.  Columns run along lanes; a register tile has
 * tile_m rows and tile_n lane vectors; an item takes block_m tiles of rows and one of columns.  Each element is one FMA
 * chain over k, from 0, whatever the tiles are: splitting k (tile_k) stores and reloads the accumulator, which rounds
 * nothing.
 *
 * Rows are tiled along one axis on which A has a constant step (rows of a, columns of the picture, channels of the
 * filter), so that all rows of a tile are addressed from one register. */
#include "codegen/lower.h"

enum { MAX_OUTER = 3, MAX_K = 3, MAX_TILE_M = 16, MAX_TILE_N = 4, MAX_PANEL = 1 << 17 /* elements */ };

typedef struct Axis {
  Dim size, step_a, step_b;
} Axis;

typedef struct Product {
  Node *node;
  int buf_a, buf_b;
  Axis outer[MAX_OUTER];    /* row coordinates before the tiled one; step_b: batches */
  int n_outer;
  bool outer_inside;        /* an item runs over all of outer (filter gradients: x is then read once for all taps) */
  Dim rows, row_step;       /* the tiled axis */
  Dim cols, col_step;
  Axis k[MAX_K];            /* outermost first */
  int n_k;
} Product;

/* ---- the three ops as products ---- */

static Dim elems_between(const Type *t, int from, int to) {
  Dim d;
  BUG_IF(!type_elems_range(t, from, to, &d), "a range of axes is not affine");
  return d;
}

static void describe_matmul(Product *p, const Node *n) {
  const Type *a = &n->in[0]->type, *b = &n->in[1]->type;
  bool ta = n->attrs.matmul.trans_a, tb = n->attrs.matmul.trans_b, is_shared = b->rank == 2 && a->rank > 2;
  Dim m = a->dim[a->rank - (ta ? 1 : 2)], k = a->dim[a->rank - (ta ? 2 : 1)], one = dim_const(1);
  p->cols = n->type.dim[n->type.rank - 1];
  p->rows = m;
  p->row_step = ta ? one : k;
  p->col_step = tb ? k : one;
  p->k[p->n_k++] = (Axis){k, ta ? m : one, tb ? one : p->cols};
  if (a->rank == 2) return;
  if (is_shared && !ta) {
    p->rows = elems_between(a, 0, a->rank - 1);
    return;
  }
  Dim none = dim_const(0);
  p->outer[p->n_outer++] = (Axis){elems_between(a, 0, a->rank - 2), elems_between(a, a->rank - 2, a->rank),
                                  is_shared ? none : elems_between(b, b->rank - 2, b->rank)};
}

static void describe_conv2d(Product *p, const Node *n) {
  const Type *x = &n->in[0]->type, *w = &n->in[1]->type;
  int64_t c = x->dim[3].c, line = x->dim[2].c * c, stride = n->attrs.conv.stride, o = w->dim[3].c;
  Dim none = dim_const(0);
  p->outer[p->n_outer++] = (Axis){x->dim[0], dim_const(x->dim[1].c * line), none};
  p->outer[p->n_outer++] = (Axis){n->type.dim[1], dim_const(stride * line), none};
  p->rows = n->type.dim[2];
  p->row_step = dim_const(stride * c);
  p->cols = w->dim[3];
  p->col_step = dim_const(1);
  int64_t run = w->dim[1].c * c;   /* kx and c are contiguous in both operands */
  p->k[p->n_k++] = (Axis){w->dim[0], dim_const(line), dim_const(run * o)};
  p->k[p->n_k++] = (Axis){dim_const(run), dim_const(1), dim_const(o)};
}

static void describe_conv2d_grad_w(Product *p, const Node *n) {
  const Type *x = &n->in[0]->type, *dy = &n->in[1]->type;
  int64_t c = x->dim[3].c, line = x->dim[2].c * c, stride = n->attrs.conv.stride, o = dy->dim[3].c;
  Dim none = dim_const(0);
  p->outer[p->n_outer++] = (Axis){n->type.dim[0], dim_const(line), none};
  p->outer[p->n_outer++] = (Axis){n->type.dim[1], dim_const(c), none};
  p->outer_inside = true;
  p->rows = x->dim[3];
  p->row_step = dim_const(1);
  p->cols = dy->dim[3];
  p->col_step = dim_const(1);
  p->k[p->n_k++] = (Axis){dy->dim[0], dim_const(x->dim[1].c * line), dim_const(dy->dim[1].c * dy->dim[2].c * o)};
  p->k[p->n_k++] = (Axis){dy->dim[1], dim_const(stride * line), dim_const(dy->dim[2].c * o)};
  p->k[p->n_k++] = (Axis){dy->dim[2], dim_const(stride * c), dim_const(o)};
}

static void describe(Product *p, Node *n) {
  p->node = n;
  if (n->op == OP_MATMUL) describe_matmul(p, n);
  else if (n->op == OP_CONV2D) describe_conv2d(p, n);
  else describe_conv2d_grad_w(p, n);
}

/* Elements of k when constant, else -1. */
static int64_t k_elems(const Product *p) {
  int64_t n = 1;
  for (int i = 0; i < p->n_k; i++) {
    if (!dim_is_const(p->k[i].size)) return -1;
    n *= p->k[i].size.c;
  }
  return n;
}

/* ---- emission ---- */

typedef struct Emit {
  Lower *l;
  Kernel *k;
  Product p;
  KernelParams params;
  int panel, tile;                    /* scratch: packed B [k][16 tile_n], results [tile_m][16 tile_n]; -1: none */
  KInst *base_a, *base_b;             /* of the item's outer coordinates */
  KInst *outer[MAX_OUTER];
  KInst *n0;                          /* first column */
  KInst *mask[MAX_TILE_N];            /* NULL: all lanes */
  KInst *k_begin, *k_end;             /* range of the outermost k axis */
  bool has_epilogue, splits_k;
} Emit;

static KInst *plus(Emit *e, KInst *x, KInst *y) { return kir_bin(e->k, KOP_ADD, x, y); }
static KInst *times(Emit *e, KInst *x, Dim d) { return kir_bin(e->k, KOP_MUL, x, kir_dim(e->k, d)); }
static KInst *offset(Emit *e, KInst *x, int64_t c) { return plus(e, x, kir_i64(e->k, c)); }

static KInst *ceil_div(Emit *e, Dim size, int64_t tile) {
  return kir_bin(e->k, KOP_DIV, kir_dim(e->k, dim_add(size, dim_const(tile - 1))), kir_i64(e->k, tile));
}

/* The rest of `*item` modulo count; *item becomes the quotient. */
static KInst *peel(Emit *e, KInst **item, KInst *count) {
  KInst *rest = kir_bin(e->k, KOP_MOD, *item, count);
  *item = kir_bin(e->k, KOP_DIV, *item, count);
  return rest;
}

static void set_outer(Emit *e, int i, KInst *at) {
  e->outer[i] = at;
  e->base_a = plus(e, e->base_a, times(e, at, e->p.outer[i].step_a));
  e->base_b = plus(e, e->base_b, times(e, at, e->p.outer[i].step_b));
}

static int lanes_of_tile(const Emit *e) { return e->params.tile_n * LANES; }

static void set_masks(Emit *e) {
  Dim cols = e->p.cols;
  if (dim_is_const(cols) && cols.c % lanes_of_tile(e) == 0) return;
  for (int j = 0; j < e->params.tile_n; j++) {
    KInst *left = kir_bin(e->k, KOP_SUB, kir_dim(e->k, cols), offset(e, e->n0, j * LANES));
    e->mask[j] = kir_bin(e->k, KOP_LT, kir_lane(e->k), kir_un(e->k, KOP_TO_I32, left));
  }
}

/* Lane vector j of row `at` (an offset into b without the column). */
static KInst *load_b(Emit *e, KInst *at, int j) {
  Kernel *k = e->k;
  KInst *col = offset(e, e->n0, j * LANES), *lane = kir_lane(k);
  if (!dim_is_const(e->p.col_step) || e->p.col_step.c != 1)
    lane = kir_bin(k, KOP_MUL, lane, kir_un(k, KOP_TO_I32, kir_dim(k, e->p.col_step)));
  return kir_load(k, e->p.buf_b, plus(e, at, times(e, col, e->p.col_step)), lane, e->mask[j]);
}

/* Opens loops over k; returns the offsets into a and b (without base) and the position in the panel. */
static void open_k(Emit *e, int unroll, KInst **off_a, KInst **off_b, KInst **at) {
  Kernel *k = e->k;
  *off_a = *off_b = *at = kir_i64(k, 0);
  for (int i = 0; i < e->p.n_k; i++) {
    const Axis *x = &e->p.k[i];
    KInst *lo = i == 0 ? e->k_begin : kir_i64(k, 0), *hi = i == 0 ? e->k_end : kir_dim(k, x->size);
    KInst *v = kir_for(k, lo, hi, 1, i == e->p.n_k - 1 ? unroll : 0);
    *off_a = plus(e, *off_a, times(e, v, x->step_a));
    *off_b = plus(e, *off_b, times(e, v, x->step_b));
    *at = plus(e, times(e, *at, x->size), v);
  }
}

static void close_k(Emit *e) {
  for (int i = 0; i < e->p.n_k; i++) kir_end(e->k);
}

static void pack_panel(Emit *e) {
  KInst *off_a, *off_b, *at;
  open_k(e, 0, &off_a, &off_b, &at);
  for (int j = 0; j < e->params.tile_n; j++) {
    KInst *row = offset(e, kir_bin(e->k, KOP_MUL, at, kir_i64(e->k, lanes_of_tile(e))), j * LANES);
    kir_store(e->k, e->panel, row, kir_lane(e->k), load_b(e, plus(e, e->base_b, off_b), j), NULL);
  }
  close_k(e);
  kir_sync(e->k);
}

/* Raster index of the result's row m among all rows. */
static Ix *row_index(Emit *e, Ix *m) {
  Lower *l = e->l;
  Ix *row = ix_const(l, 0);
  for (int i = 0; i < e->p.n_outer; i++)
    row = ix_add(l, ix_scale_dim(l, row, e->p.outer[i].size), ix_value(l, e->outer[i], e->p.outer[i].size));
  return ix_add(l, ix_scale_dim(l, row, e->p.rows), m);
}

static Ix *result_index(Emit *e, Ix *m, int j) {
  Lower *l = e->l;
  Ix *col = ix_add(l, ix_add(l, ix_value(l, e->n0, e->p.cols), ix_const(l, j * LANES)), ix_value(l, kir_lane(l->k), dim_const(LANES)));
  return ix_add(l, ix_scale_dim(l, row_index(e, m), e->p.cols), ix_assume(l, col, e->p.cols));
}

/* Row m, `i` rows below the tile's first. */
static Ix *tile_row(Emit *e, KInst *m, Ix *i) {
  return ix_assume(e->l, ix_add(e->l, ix_value(e->l, m, e->p.rows), i), e->p.rows);
}

static void store_result(Emit *e, Ix *m, int j, KInst *value) {
  Lower *l = e->l;
  Ix *flat = result_index(e, m, j);
  if (dim_equal(e->p.cols, dim_const(1))) {   /* no axis for the lanes to run along */
    if (j > 0) return;
    value = kir_bin(e->k, KOP_LANE_GET, value, kir_i32(e->k, 0));
  }
  l->mask = e->mask[j];
  lower_bind(l, e->p.node, value);
  for (int i = 0; i < l->group->n_out; i++) {
    Node *out = l->group->out[i];
    Ix *idx[MAX_RANK];
    ix_unflatten(l, &out->type, flat, idx);
    lower_store(l, i, idx, lower_value(l, out, idx));
  }
  l->mask = NULL;
}

/* The element that an accumulator continues from when k is split. */
static KInst *load_partial(Emit *e, Ix *m, int j) {
  KInst *base, *lane;
  ix_emit(e->l, result_index(e, m, j), &base, &lane);
  KInst *old = kir_load(e->k, e->l->out_buf[0], base, lane, e->mask[j]);
  KInst *is_first = kir_bin(e->k, KOP_EQ, e->k_begin, kir_i64(e->k, 0));
  return kir_op(e->k, KOP_SELECT, is_first, kir_f32(e->k, 0.0f), old);
}

/* One register tile of `rows` rows from row m on. */
static void emit_tile(Emit *e, KInst *m, int rows) {
  Kernel *k = e->k;
  Lower *l = e->l;
  int cols = e->params.tile_n;
  KInst *acc[MAX_TILE_M][MAX_TILE_N], *off_a, *off_b, *at;
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++)
      acc[i][j] = kir_var(k, e->splits_k ? load_partial(e, tile_row(e, m, ix_const(l, i)), j) : kir_f32(k, 0.0f), true);
  KInst *first = plus(e, e->base_a, times(e, m, e->p.row_step));
  open_k(e, 4, &off_a, &off_b, &at);
  KInst *b[MAX_TILE_N], *row = plus(e, first, off_a);
  for (int j = 0; j < cols; j++) {
    KInst *packed = offset(e, kir_bin(k, KOP_MUL, at, kir_i64(k, lanes_of_tile(e))), j * LANES);
    b[j] = e->panel >= 0 ? kir_load(k, e->panel, packed, kir_lane(k), NULL) : load_b(e, plus(e, e->base_b, off_b), j);
  }
  for (int i = 0; i < rows; i++) {
    KInst *a = kir_load(k, e->p.buf_a, plus(e, row, times(e, kir_i64(k, i), e->p.row_step)), NULL, NULL);
    for (int j = 0; j < cols; j++) kir_set(k, acc[i][j], kir_op(k, KOP_FMA, a, b[j], kir_get(k, acc[i][j])));
  }
  close_k(e);
  if (!e->has_epilogue) {
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < cols; j++) store_result(e, tile_row(e, m, ix_const(l, i)), j, kir_get(k, acc[i][j]));
    return;
  }
  /* Through scratch and a loop: the code of an epilogue is then there once, not tile_m times. */
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++)
      kir_store(k, e->tile, kir_i64(k, i * lanes_of_tile(e) + j * LANES), kir_lane(k), kir_get(k, acc[i][j]), NULL);
  kir_sync(k);
  KInst *i = kir_for(k, kir_i64(k, 0), kir_i64(k, rows), 1, 0);
  for (int j = 0; j < cols; j++) {
    KInst *from = offset(e, kir_bin(k, KOP_MUL, i, kir_i64(k, lanes_of_tile(e))), j * LANES);
    KInst *value = kir_load(k, e->tile, from, kir_lane(k), NULL);
    store_result(e, tile_row(e, m, ix_value(l, i, dim_const(rows))), j, value);
  }
  kir_end(k);
  kir_sync(k);
}

/* Rows [m0, m_end): full tiles, then one tile each of 8, 4, 2 and 1 rows as the binary digits of the rest say. */
static void emit_rows(Emit *e, KInst *m0, KInst *m_end) {
  Kernel *k = e->k;
  int full = e->params.tile_m;
  KInst *m = kir_for(k, m0, offset(e, m_end, 1 - full), full, 0);
  emit_tile(e, m, full);
  kir_end(k);
  if (dim_is_const(e->p.rows) && e->p.rows.c % full == 0) return;
  KInst *rest = kir_un(k, KOP_TO_I32, kir_bin(k, KOP_MOD, kir_bin(k, KOP_SUB, m_end, m0), kir_i64(k, full)));
  KInst *tail = kir_bin(k, KOP_SUB, m_end, kir_un(k, KOP_TO_I64, rest));
  for (int size = 8; size >= 1; size /= 2) {
    if (size >= full) continue;
    kir_if(k, kir_bin(k, KOP_LT, kir_i32(k, 0), kir_bin(k, KOP_AND, rest, kir_i32(k, size))));
    KInst *before = kir_bin(k, KOP_AND, rest, kir_i32(k, ~(2 * size - 1)));
    emit_tile(e, plus(e, tail, kir_un(k, KOP_TO_I64, before)), size);
    kir_end(k);
  }
}

/* The item's rows for each outer coordinate that the item itself runs over. */
static void emit_outer(Emit *e, int i, KInst *m0, KInst *m_end) {
  if (i == e->p.n_outer || !e->p.outer_inside) {
    emit_rows(e, m0, m_end);
    return;
  }
  KInst *base_a = e->base_a, *base_b = e->base_b;
  set_outer(e, i, kir_for(e->k, kir_i64(e->k, 0), kir_dim(e->k, e->p.outer[i].size), 1, 0));
  emit_outer(e, i + 1, m0, m_end);
  kir_end(e->k);
  e->base_a = base_a;
  e->base_b = base_b;
}

static void emit_item(Emit *e) {
  Kernel *k = e->k;
  int64_t block = (int64_t)e->params.tile_m * e->params.block_m;
  KInst *item = kir_item(k);
  e->n0 = kir_bin(k, KOP_MUL, peel(e, &item, ceil_div(e, e->p.cols, lanes_of_tile(e))), kir_i64(k, lanes_of_tile(e)));
  KInst *m0 = kir_bin(k, KOP_MUL, peel(e, &item, ceil_div(e, e->p.rows, block)), kir_i64(k, block));
  KInst *m_end = kir_bin(k, KOP_MIN, offset(e, m0, block), kir_dim(k, e->p.rows));
  e->base_a = e->base_b = kir_i64(k, 0);
  for (int i = e->p.n_outer - 1; i >= 0 && !e->p.outer_inside; i--) set_outer(e, i, peel(e, &item, kir_dim(k, e->p.outer[i].size)));
  set_masks(e);
  Dim size = e->p.k[0].size;
  e->k_begin = kir_i64(k, 0);
  e->k_end = kir_dim(k, size);
  if (e->panel >= 0) pack_panel(e);
  if (!e->splits_k) {
    emit_outer(e, 0, m0, m_end);
    return;
  }
  int64_t inner = 1;
  for (int i = 1; i < e->p.n_k; i++) inner *= e->p.k[i].size.c;
  int64_t step = inner >= e->params.tile_k ? 1 : e->params.tile_k / (inner ? inner : 1);
  e->k_begin = kir_for(k, kir_i64(k, 0), kir_dim(k, size), step, 0);
  e->k_end = kir_bin(k, KOP_MIN, offset(e, e->k_begin, step), kir_dim(k, size));
  emit_outer(e, 0, m0, m_end);
  kir_end(k);
}

/* Long sums are split so that the rows of b stay in cache; the accumulators then rest in the result, so only a bare
 * product whose result is its one output can.  An empty sum must still write zeros, so k must not be 0. */
static bool may_split_k(const Emit *e) {
  const Group *g = e->l->group;
  int64_t n = k_elems(&e->p);
  bool is_long = n < 0 || n > 2 * (int64_t)e->params.tile_k;
  for (int i = 1; i < e->p.n_k; i++)
    if (!dim_is_const(e->p.k[i].size) || e->p.k[i].size.c == 0) return false;
  return is_long && !e->has_epilogue && g->n_out == 1 && g->out[0] == e->p.node;
}

static void add_factors(Emit *e) {
  for (int i = 0; i < e->p.n_outer && !e->p.outer_inside; i++) kir_factor(e->k, e->p.outer[i].size, 1);
  kir_factor(e->k, e->p.rows, (int64_t)e->params.tile_m * e->params.block_m);
  kir_factor(e->k, e->p.cols, lanes_of_tile(e));
}

bool lower_contract(Lower *l, const KernelParams *params) {
  Emit e = {.l = l, .k = l->k, .params = *params, .panel = -1, .tile = -1};
  describe(&e.p, l->group->anchor);
  e.p.buf_a = lower_operand(l, e.p.node->in[0]);
  e.p.buf_b = lower_operand(l, e.p.node->in[1]);
  if (params->tile_m < 1 || params->tile_m > MAX_TILE_M || params->tile_n < 1 || params->tile_n > MAX_TILE_N)
    return lower_fail(l, e.p.node, "no register tile of %d x %d", params->tile_m, params->tile_n) != NULL;
  for (int i = 0; i < l->group->n_out; i++) e.has_epilogue |= l->group->out[i] != e.p.node;
  e.splits_k = may_split_k(&e);
  int64_t k = k_elems(&e.p);
  bool fits = k > 0 && k * lanes_of_tile(&e) <= MAX_PANEL;
  if (params->pack_b && fits && !e.splits_k) e.panel = kir_scratch(l->k, "panel", DTYPE_F32, k * lanes_of_tile(&e));
  if (e.has_epilogue) e.tile = kir_scratch(l->k, "tile", DTYPE_F32, (int64_t)params->tile_m * lanes_of_tile(&e));
  add_factors(&e);
  emit_item(&e);
  return !l->failed;
}

/* ---- parameters ---- */

/* The largest register tile whose rows divide an inner axis best.  Accumulators take most registers; a row of b and one
 * element of a need the rest. */
static int pick_tile_m(const Product *p, int most) {
  if (!dim_is_const(p->rows)) return most;
  int best = most;
  double best_waste = 1e9;
  for (int m = most; m >= 1 && m >= most / 2; m--) {
    int64_t tiles = (p->rows.c + m - 1) / m;
    double waste = (double)(tiles * m) / (double)(p->rows.c ? p->rows.c : 1) + 0.02 * (most - m);
    if (waste < best_waste) best = m, best_waste = waste;
  }
  return best;
}

void contract_params(const Group *g, const Target *t, KernelParams *out) {
  Product p = {0};
  describe(&p, g->anchor);
  int vectors_per_lanes = LANES * 32 / t->vector_bits, registers = t->vector_registers / vectors_per_lanes;
  int64_t cols = dim_is_const(p.cols) ? p.cols.c : 64;
  out->tile_n = registers >= 32 ? 3 : registers >= 16 ? 2 : 1;
  if (cols <= LANES) out->tile_n = 1;
  else if (cols <= 2 * LANES || (cols % (3 * LANES) != 0 && out->tile_n == 3)) out->tile_n = registers >= 16 ? 2 : 1;
  int most = (registers - out->tile_n - 1) / out->tile_n;
  out->tile_m = pick_tile_m(&p, most < 1 ? 1 : most > 14 ? 14 : most);
  int64_t rows = dim_is_const(p.rows) ? p.rows.c : 0, tiles = rows ? (rows + out->tile_m - 1) / out->tile_m : 32;
  out->block_m = (int)(tiles > 32 ? 32 : tiles);
  if (p.outer_inside && tiles > 1) out->block_m = (int)((tiles + 1) / 2);
  out->tile_k = 512;
  /* A panel pays where b is read along its rows' step, and where that step is so long that a panel's rows share few
   * cache sets; a decoding step has too few rows for the second. */
  bool is_strided = !dim_is_const(p.col_step) || p.col_step.c != 1;
  out->pack_b = is_strided || (cols >= 512 && p.rows.r == 0);
}
