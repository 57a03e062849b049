/* How many values an input of ids may have: what is read at it says so.  Ids are followed through what only moves them
 * and through choices, so also where some are replaced; what is computed with them is not followed. */
#include "ir/ir.h"

static bool moves_ids(const Node *n) {
  switch (n->op) {
  case OP_RESHAPE:
  case OP_TRANSPOSE:
  case OP_BROADCAST:
  case OP_SLICE:
  case OP_REVERSE:
  case OP_CONCAT:
  case OP_DETACH:
    return true;
  case OP_CAST:
    return n->type.dtype == DTYPE_I32;
  default:
    return false;
  }
}

/* The numbers 0 ... n - 1 along an axis, under whatever shape: n; 0: it is something else. */
static int64_t count_iota(const Node *n) {
  while (n->op == OP_RESHAPE || n->op == OP_BROADCAST || n->op == OP_CAST) n = n->in[0];
  if (n->op != OP_IOTA) return 0;
  Dim d = n->type.dim[n->attrs.axis.axis];
  return dim_is_const(d) ? d.c : 0;
}

static void limit(IdRange *r, int64_t n, const Node *by) {
  if (n > 0 && (!r->n || n < r->n)) r->n = n, r->loc = by->loc;
}

static void limit_dim(IdRange *r, Dim d, const Node *by) {
  if (dim_is_const(d)) limit(r, d.c, by);
}

/* Whether x is more surely no id than y: below 0, or else larger. */
static bool is_further(int64_t x, int64_t y) { return x < 0 ? y >= 0 || x < y : y >= 0 && x > y; }

/* An id is compared with another: with a number, which it may then be, or with all there are (one_hot).  Of several
 * numbers (a count of class 3 beside `ignore`) it is the one that is no id. */
static void note_equal(IdRange *r, const Node *other, const Node *by) {
  if (other->op != OP_FILL) limit(r, count_iota(other), by);
  else if (is_further((int64_t)other->attrs.fill.value, r->ignored)) r->ignored = (int64_t)other->attrs.fill.value;
}

static void note_use(IdRange *r, const Node *n, const bool *is_id) {
  if (n->op == OP_GATHER && is_id[n->in[1]->id]) limit_dim(r, n->in[0]->type.dim[0], n);
  if (n->op == OP_CROSS_ENTROPY && is_id[n->in[1]->id]) limit_dim(r, n->in[0]->type.dim[n->in[0]->type.rank - 1], n);
  if (n->op == OP_SCATTER_ADD && is_id[n->in[0]->id]) limit(r, n->attrs.scatter.rows, n);
  if (n->op != OP_EQ) return;
  for (int i = 0; i < 2; i++)
    if (is_id[n->in[i]->id] && !is_id[n->in[!i]->id]) note_equal(r, n->in[!i], n);
}

IdRange func_ids(const Func *f, const Node *input) {
  IdRange r = {0};
  int n;
  Node **node = func_nodes(f, &n);
  bool *is_id = ARENA_ARRAY(f->graph->arena, bool, f->graph->n_nodes);
  for (int i = 0; i < n; i++) {
    const Node *x = node[i];
    bool has = x == input;
    int from = x->op == OP_SELECT ? 1 : 0;
    if (moves_ids(x) || x->op == OP_SELECT)
      for (int k = from; k < x->n_in; k++) has |= is_id[x->in[k]->id];
    is_id[x->id] = has;
    note_use(&r, x, is_id);
  }
  return r;
}
