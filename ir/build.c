/* Short forms of graph_op, as passes use them.  A NULL operand means that a diagnostic is on its way up. */
#include "ir/internal.h"

#include <string.h>

Node *graph_unary(Graph *g, Op op, Node *x) { return x ? graph_op(g, op, &x, 1, NULL, NULL) : NULL; }

Node *graph_binary(Graph *g, Op op, Node *x, Node *y) {
  Node *in[] = {x, y};
  return x && y ? graph_op(g, op, in, 2, NULL, NULL) : NULL;
}

Node *graph_select(Graph *g, Node *cond, Node *x, Node *y) {
  Node *in[] = {cond, x, y};
  return cond && x && y ? graph_op(g, OP_SELECT, in, 3, NULL, NULL) : NULL;
}

Node *graph_fill(Graph *g, double value, const Type *type) {
  Attrs a = {.fill = {value}};
  return graph_op(g, OP_FILL, NULL, 0, &a, type);
}

Node *graph_fill_like(Graph *g, double value, const Node *like) {
  return like ? graph_fill(g, value, &like->type) : NULL;
}

Node *graph_iota(Graph *g, int axis, const Type *type) {
  Attrs a = {.axis = {axis}};
  return graph_op(g, OP_IOTA, NULL, 0, &a, type);
}

Node *graph_cast(Graph *g, Node *x, DType t) {
  if (!x || x->type.dtype == t) return x;
  Attrs a = {.cast = {t}};
  return graph_op(g, OP_CAST, &x, 1, &a, NULL);
}

Node *graph_reshape(Graph *g, Node *x, const Type *shape) {
  if (!x || type_same_shape(&x->type, shape)) return x;
  return graph_op(g, OP_RESHAPE, &x, 1, NULL, shape);
}

Node *graph_broadcast(Graph *g, Node *x, const Type *shape) {
  if (!x || type_same_shape(&x->type, shape)) return x;
  return graph_op(g, OP_BROADCAST, &x, 1, NULL, shape);
}

Node *graph_transpose(Graph *g, Node *x, const int64_t *perm) {
  if (!x) return NULL;
  Attrs a = {0};
  bool same = true;
  for (int i = 0; i < x->type.rank; i++) {
    a.perm.perm[i] = perm[i];
    same = same && perm[i] == i;
  }
  return same ? x : graph_op(g, OP_TRANSPOSE, &x, 1, &a, NULL);
}

static Node *graph_reduce(Graph *g, Op op, Node *x, uint32_t axes) {
  if (!x || axes == 0) return x;
  Attrs a = {.axes = {axes}};
  return graph_op(g, op, &x, 1, &a, NULL);
}

Node *graph_sum(Graph *g, Node *x, uint32_t axes) { return graph_reduce(g, OP_SUM, x, axes); }
Node *graph_max(Graph *g, Node *x, uint32_t axes) { return graph_reduce(g, OP_MAX, x, axes); }

Node *graph_matmul(Graph *g, Node *a, Node *b, bool trans_a, bool trans_b) {
  Node *in[] = {a, b};
  Attrs attrs = {.matmul = {trans_a, trans_b}};
  return a && b ? graph_op(g, OP_MATMUL, in, 2, &attrs, NULL) : NULL;
}

Node *graph_sum_to(Graph *g, Node *x, const Type *shape) {
  if (!x) return NULL;
  int extra = x->type.rank - shape->rank;
  if (extra < 0)
    return graph_error(g, NULL, "sum_to: rank %d cannot be summed to rank %d", x->type.rank, shape->rank);
  uint32_t axes = 0;
  for (int i = 0; i < x->type.rank; i++)
    if (i < extra || (dim_is_one(shape->dim[i - extra]) && !dim_is_one(x->type.dim[i]))) axes |= 1u << i;
  return graph_reshape(g, graph_sum(g, x, axes), shape);
}

Node *graph_insert_axes(Graph *g, Node *x, uint32_t axes) {
  if (!x) return NULL;
  Type t = {.dtype = x->type.dtype};
  int from = 0;
  while (from < x->type.rank || axes >> t.rank) {
    if (t.rank == MAX_RANK) return graph_error(g, NULL, "insert_axes: more than %d axes", MAX_RANK);
    bool put_in = axes >> t.rank & 1;
    if (!put_in && from == x->type.rank)
      return graph_error(g, NULL, "insert_axes: axis %d of the result is nowhere in rank %d", t.rank, x->type.rank);
    t.dim[t.rank++] = put_in ? dim_const(1) : x->type.dim[from++];
  }
  return graph_reshape(g, x, &t);
}

Node *graph_spread(Graph *g, Node *reduced, uint32_t axes, const Type *shape) {
  return graph_broadcast(g, graph_insert_axes(g, reduced, axes), shape);
}
