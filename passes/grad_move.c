/* Gradients of index maps and reductions: each is the transpose of a 0-1 matrix, written with index maps again. */
#include "passes/grad.h"

bool grad_reshape(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = graph_reshape(g, dy, &n->in[0]->type)); }

bool grad_transpose(Graph *g, Node *n, Node *dy, Node **dx) {
  int64_t inverse[MAX_RANK] = {0};
  for (int i = 0; i < n->type.rank; i++) inverse[n->attrs.perm.perm[i]] = i;
  return (dx[0] = graph_transpose(g, dy, inverse));
}

bool grad_broadcast(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = graph_sum_to(g, dy, &n->in[0]->type)); }

/* Zeros between the taken elements (step - 1 of them), before the first and after the last. */
bool grad_slice(Graph *g, Node *n, Node *dy, Node **dx) {
  Attrs a = {0};
  for (int i = 0; i < n->type.rank; i++) {
    Dim size = n->in[0]->type.dim[i], taken = n->type.dim[i], start = n->attrs.slice.start[i];
    int64_t step = n->attrs.slice.step[i];
    if (dim_is_const(taken) && taken.c == 0) {
      dx[0] = graph_fill_like(g, 0.0, n->in[0]);
      return dx[0];
    }
    Dim span = dim_add(dim_scale(taken, step), dim_const(1 - step));
    a.pad.lo[i] = start;
    a.pad.interior[i] = step - 1;
    a.pad.hi[i] = dim_add(size, dim_scale(dim_add(start, span), -1));
  }
  return (dx[0] = graph_op(g, OP_PAD, &dy, 1, &a, NULL));
}

bool grad_pad(Graph *g, Node *n, Node *dy, Node **dx) {
  Attrs a = {0};
  for (int i = 0; i < n->type.rank; i++) {
    Dim size = n->in[0]->type.dim[i];
    int64_t step = n->attrs.pad.interior[i] + 1;
    if (dim_is_const(size) && size.c == 0) return (dx[0] = graph_fill_like(g, 0.0, n->in[0]));
    a.slice.start[i] = n->attrs.pad.lo[i];
    a.slice.step[i] = step;
    a.slice.stop[i] = dim_add(n->attrs.pad.lo[i], dim_add(dim_scale(size, step), dim_const(1 - step)));
  }
  return (dx[0] = graph_op(g, OP_SLICE, &dy, 1, &a, NULL));
}

bool grad_reverse(Graph *g, Node *n, Node *dy, Node **dx) {
  return (dx[0] = graph_op(g, OP_REVERSE, &dy, 1, &n->attrs, NULL));
}

bool grad_concat(Graph *g, Node *n, Node *dy, Node **dx) {
  int axis = (int)n->attrs.axis.axis;
  Dim at = dim_const(0);
  for (int k = 0; k < n->n_in; k++) {
    Attrs a = {0};
    for (int i = 0; i < n->type.rank; i++) {
      a.slice.stop[i] = n->type.dim[i];
      a.slice.step[i] = 1;
    }
    a.slice.start[axis] = at;
    at = dim_add(at, n->in[k]->type.dim[axis]);
    a.slice.stop[axis] = at;
    if (!(dx[k] = graph_op(g, OP_SLICE, &dy, 1, &a, NULL))) return false;
  }
  return true;
}

/* gather clamps its index, so the transpose adds at the clamped index. */
static Node *clamp_index(Graph *g, Node *index, int64_t rows) {
  Node *low = graph_binary(g, OP_MAXIMUM, index, graph_fill_like(g, 0.0, index));
  return low ? graph_binary(g, OP_MINIMUM, low, graph_fill_like(g, (double)(rows - 1), index)) : NULL;
}

bool grad_gather(Graph *g, Node *n, Node *dy, Node **dx) {
  Dim rows = n->in[0]->type.dim[0];
  if (!dim_is_const(rows)) {
    graph_error(g, n->loc, "gather: its gradient needs a table with a constant number of rows");
    return false;
  }
  Attrs a = {.scatter.rows = rows.c};
  Node *in[2] = {clamp_index(g, n->in[1], rows.c), dy};
  return in[0] && (dx[0] = graph_op(g, OP_SCATTER_ADD, in, 2, &a, NULL));
}

/* Rows of dy at the indices, zero where the index was dropped. */
bool grad_scatter_add(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *index = n->in[0], *in[2] = {dy, index};
  Node *rows = graph_op(g, OP_GATHER, in, 2, NULL, NULL);
  Node *zero = graph_fill_like(g, 0.0, index), *end = graph_fill_like(g, (double)n->attrs.scatter.rows, index);
  Node *below = graph_binary(g, OP_LT, index, zero), *inside = graph_binary(g, OP_LT, index, end);
  if (!rows || !below || !inside) return false;
  /* The masks [m...] are spread over the rest axes of the rows. */
  Type shape = index->type;
  for (int i = index->type.rank; i < rows->type.rank; i++) shape.dim[shape.rank++] = dim_const(1);
  below = graph_broadcast(g, graph_reshape(g, below, &shape), &rows->type);
  inside = graph_broadcast(g, graph_reshape(g, inside, &shape), &rows->type);
  Node *none = graph_fill_like(g, 0.0, rows);
  return (dx[1] = graph_select(g, below, none, graph_select(g, inside, rows, none)));
}

/* ---- shift ---- */

/* dy moved back: element p of the result is dy at p - delta, zero off the grid. */
static Node *shift_back(Graph *g, Node *n, Node *dy) {
  int first = n->type.rank - 4;
  Attrs take = {0}, put = {0};
  for (int i = 0; i < n->type.rank; i++) {
    take.slice.stop[i] = n->type.dim[i];
    take.slice.step[i] = 1;
  }
  for (int x = 0; x < 3; x++) {
    int64_t delta = n->attrs.shift.delta[x], size = n->type.dim[first + x].c;
    int64_t move = delta < 0 ? -delta : delta;
    if (move > size) move = size;
    if (delta < 0) {
      take.slice.start[first + x] = dim_const(move);
      put.pad.hi[first + x] = dim_const(move);
    } else {
      take.slice.stop[first + x] = dim_const(size - move);
      put.pad.lo[first + x] = dim_const(move);
    }
  }
  Node *part = graph_op(g, OP_SLICE, &dy, 1, &take, NULL);
  return part ? graph_op(g, OP_PAD, &part, 1, &put, NULL) : NULL;
}

/* The grid axes as one, so that "previous in raster order" is a shift by one. */
static Type flat_type(const Node *n) {
  int first = n->type.rank - 4;
  int64_t positions = n->type.dim[first].c * n->type.dim[first + 1].c * n->type.dim[first + 2].c;
  Type t = {.dtype = n->type.dtype, .rank = 3};
  t.dim[0] = first ? n->type.dim[0] : dim_const(1);
  t.dim[1] = dim_const(positions);
  t.dim[2] = n->type.dim[n->type.rank - 1];
  return t;
}

static Node *raster_part(Graph *g, Node *flat, int64_t from, int64_t to) {
  Attrs a = {0};
  for (int i = 0; i < 3; i++) {
    a.slice.stop[i] = flat->type.dim[i];
    a.slice.step[i] = 1;
  }
  a.slice.start[1] = dim_const(from);
  a.slice.stop[1] = dim_const(to);
  return graph_op(g, OP_SLICE, &flat, 1, &a, NULL);
}

static bool grad_shift_raster(Graph *g, Node *n, Node *dy, Node **dx) {
  Type t = flat_type(n);
  Node *flat = graph_reshape(g, dy, &t);
  Node *first = flat ? raster_part(g, flat, 0, 1) : NULL, *rest = first ? raster_part(g, flat, 1, t.dim[1].c) : NULL;
  if (!rest) return false;
  Attrs put = {0};
  put.pad.hi[1] = dim_const(1);
  dx[0] = graph_reshape(g, graph_op(g, OP_PAD, &rest, 1, &put, NULL), &n->type);
  dx[1] = graph_sum(g, first, 1 << 0 | 1 << 1);
  return dx[0] && dx[1];
}

/* 1 where p + delta is off the grid, [s, h, w]. */
static Node *off_grid(Graph *g, Node *n) {
  int first = n->type.rank - 4;
  Type grid = type_make(DTYPE_I32, 3, n->type.dim + first);
  Node *off = NULL;
  Type as_float = grid;
  as_float.dtype = n->type.dtype;
  Node *one = graph_fill(g, 1.0, &as_float), *zero = graph_fill(g, 0.0, &as_float);
  for (int x = 0; x < 3 && one && zero; x++) {
    Node *at =
        graph_binary(g, OP_ADD, graph_iota(g, x, &grid), graph_fill(g, (double)n->attrs.shift.delta[x], &grid));
    Node *below = graph_binary(g, OP_LT, at, graph_fill(g, 0.0, &grid));
    Node *beyond = graph_binary(g, OP_LE, graph_fill(g, (double)grid.dim[x].c, &grid), at);
    Node *here = graph_select(g, below, one, graph_select(g, beyond, one, zero));
    off = off ? graph_binary(g, OP_MAXIMUM, off, here) : here;
  }
  return off;
}

bool grad_shift(Graph *g, Node *n, Node *dy, Node **dx) {
  if (n->attrs.shift.raster) return grad_shift_raster(g, n, dy, dx);
  dx[0] = shift_back(g, n, dy);
  Node *mask = off_grid(g, n);
  if (!dx[0] || !mask) return false;
  mask = graph_spread(g, mask, 1 << 3, &dy->type);
  uint32_t all_but_last = (1u << (n->type.rank - 1)) - 1;
  return (dx[1] = graph_sum(g, graph_binary(g, OP_MUL, dy, mask), all_but_last));
}

/* ---- reductions ---- */

static Node *spread(Graph *g, Node *reduced, Node *n) {
  return graph_spread(g, reduced, (uint32_t)n->attrs.axes.axes, &n->in[0]->type);
}

bool grad_sum(Graph *g, Node *n, Node *dy, Node **dx) { return (dx[0] = spread(g, dy, n)); }

/* In equal parts to all elements that are the largest; where that is NaN, to all that are NaN. */
bool grad_max(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *x = n->in[0], *top = spread(g, n, n), *one = graph_fill_like(g, 1.0, x), *zero = graph_fill_like(g, 0.0, x);
  Node *is_number = graph_binary(g, OP_EQ, x, x);
  Node *is_top = graph_select(g, is_number, graph_select(g, graph_binary(g, OP_EQ, x, top), one, zero), one);
  Node *share = is_top ? graph_binary(g, OP_DIV, dy, graph_sum(g, is_top, (uint32_t)n->attrs.axes.axes)) : NULL;
  return share && (dx[0] = graph_binary(g, OP_MUL, is_top, spread(g, share, n)));
}
