/* Shape rules of attention.  Attributes get one normal form, so that equal attentions are one node: both grids filled
 * in, no extent where the kind has none, no edge rule where nothing can reach over the edge. */
#include "ir/internal.h"

static const char axis_name[] = "shw";

/* The grid of operand i, whose last four axes are s, h, w, d: compared with what the attributes say, or put there. */
static bool take_grid(Infer *c, int i, int64_t grid[3]) {
  const Type *t = &c->in[i]->type;
  char dim[DIM_TEXT];
  for (int x = 0; x < 3; x++) {
    Dim d = t->dim[t->rank - 4 + x];
    if (!dim_is_const(d) || d.c < 1 || d.c > EXTENT_INF)
      return infer_refuse(c, "a grid needs constant sizes of at least 1", "operand %d, axis %c: %s", i, axis_name[x],
                          dim_print(d, dim));
    if (grid[x] && grid[x] != d.c)
      return infer_refuse(c, "the grid of the attributes differs from the operand's",
                          "operand %d, axis %c: %lld vs %lld", i, axis_name[x], (long long)grid[x], (long long)d.c);
    grid[x] = d.c;
  }
  return true;
}

static void normalise(AttendAttrs *a) {
  for (int x = 0; x < 3; x++) {
    if (a->kind == ATTEND_FULL || a->kind == ATTEND_BLOCK || a->lo[x] < -EXTENT_INF) a->lo[x] = -EXTENT_INF;
    if (a->kind == ATTEND_FULL || a->kind == ATTEND_BLOCK || a->hi[x] > EXTENT_INF) a->hi[x] = EXTENT_INF;
    if (a->kind != ATTEND_BLOCK) a->block[x] = 0;
    else if (a->block[x] > EXTENT_INF) a->block[x] = EXTENT_INF;
  }
  if (a->kind == ATTEND_FULL || a->kind == ATTEND_BLOCK) a->edge = EDGE_CLIP;
}

/* Both grids are filled in. */
static bool check_rules(Infer *c) {
  AttendAttrs *a = &c->attrs->attend;
  const char *rule;
  char detail[EXTENT_DETAIL];
  normalise(a);
  return extent_check(a, &rule, detail) || infer_refuse(c, rule, "%s", detail);
}

static bool check_heads(Infer *c, int i) {
  const Type *t = &c->in[i]->type;
  Dim d = t->dim[t->rank - 1];
  char dim[DIM_TEXT];
  int64_t heads = c->attrs->attend.heads;
  if (heads >= 1 && dim_is_const(d) && d.c >= heads && d.c % heads == 0) return true;
  return infer_refuse(c, "heads must divide the width", "operand %d: width %s, %lld heads", i, dim_print(d, dim),
                      (long long)heads);
}

/* q and k on their grids: ranks, batches and widths agree. */
static bool check_qk(Infer *c) {
  const Type *q = &c->in[0]->type;
  if (!infer_rank(c, 0, 4, 5) || !infer_rank(c, 1, q->rank, q->rank)) return false;
  if (!infer_is_float(c, 0) || !infer_dtype(c, 1, q->dtype)) return false;
  if (q->rank == 5 && !infer_same_dim(c, 0, 0, 1, 0)) return false;
  if (!infer_same_dim(c, 0, q->rank - 1, 1, q->rank - 1) || !check_heads(c, 0)) return false;
  AttendAttrs *a = &c->attrs->attend;
  return take_grid(c, 0, a->query_grid) && take_grid(c, 1, a->key_grid) && check_rules(c);
}

/* Operand i has the batch and grid of operand `like`; its width is its own. */
static bool same_places(Infer *c, int i, int like) {
  int rank = c->in[like]->type.rank;
  if (!infer_rank(c, i, rank, rank) || !infer_dtype(c, i, c->in[like]->type.dtype)) return false;
  for (int a = 0; a < rank - 1; a++)
    if (!infer_same_dim(c, like, a, i, a)) return false;
  return true;
}

static bool check_qkv(Infer *c) { return check_qk(c) && same_places(c, 2, 1) && check_heads(c, 2); }

/* Operand i holds one number per query and head, f32 whatever the queries are. */
static bool per_head(Infer *c, int i) {
  int rank = c->in[0]->type.rank;
  if (!infer_rank(c, i, rank, rank) || !infer_dtype(c, i, DTYPE_F32)) return false;
  for (int a = 0; a < rank - 1; a++)
    if (!infer_same_dim(c, 0, a, i, a)) return false;
  const Type *t = &c->in[i]->type;
  char dim[DIM_TEXT];
  if (dim_equal(t->dim[t->rank - 1], dim_const(c->attrs->attend.heads))) return true;
  return infer_refuse(c, "needs one number a head", "operand %d: %s vs %lld heads", i,
                      dim_print(t->dim[t->rank - 1], dim), (long long)c->attrs->attend.heads);
}

bool infer_attend(Infer *c) {
  if (!check_qkv(c)) return false;
  *c->out = c->in[0]->type;
  c->out->dim[c->out->rank - 1] = c->in[2]->type.dim[c->out->rank - 1];
  return true;
}

bool infer_attend_lse(Infer *c) {
  if (!check_qk(c)) return false;
  *c->out = c->in[0]->type;
  c->out->dtype = DTYPE_F32;
  c->out->dim[c->out->rank - 1] = dim_const(c->attrs->attend.heads);
  return true;
}

/* (q, k, v, dy, lse, delta) */
static bool check_grad(Infer *c) {
  if (!check_qkv(c) || !same_places(c, 3, 0)) return false;
  int last = c->in[0]->type.rank - 1;
  return infer_same_dim(c, 2, last, 3, last) && per_head(c, 4) && per_head(c, 5);
}

bool infer_attend_grad_q(Infer *c) {
  if (!check_grad(c)) return false;
  *c->out = c->in[0]->type;
  return true;
}

bool infer_attend_grad_k(Infer *c) {
  if (!check_grad(c)) return false;
  *c->out = c->in[1]->type;
  return true;
}

/* (q, k, dy, lse): v itself is not needed; its width is dy's. */
bool infer_attend_grad_v(Infer *c) {
  if (!check_qk(c) || !same_places(c, 2, 0) || !check_heads(c, 2) || !per_head(c, 3)) return false;
  *c->out = c->in[1]->type;
  c->out->dim[c->out->rank - 1] = c->in[2]->type.dim[c->out->rank - 1];
  return true;
}

/* Keys and values of arity 4 stand on their grid, [B, s, h, w, d]. */
static bool rows_on_grid(Infer *c) {
  return infer_rank(c, 2, 5, 5) && same_places(c, 3, 2) && take_grid(c, 2, c->attrs->attend.key_grid);
}

/* Those of arity 5 in rings [slots, B, d], found by slot [S*H*W]. */
static bool rows_in_rings(Infer *c) {
  AttendAttrs *a = &c->attrs->attend;
  if (!infer_rank(c, 2, 3, 3) || !same_places(c, 3, 2)) return false;
  if (!infer_rank(c, 4, 1, 1) || !infer_dtype(c, 4, DTYPE_I32)) return false;
  int64_t positions = 1;
  for (int x = 0; x < 3; x++) {
    if (a->key_grid[x] < 1 || a->key_grid[x] > EXTENT_INF ||
        __builtin_mul_overflow(positions, a->key_grid[x], &positions))
      return infer_refuse(c, "rings need the keys' grid in the attributes", "axis %c: %lld", axis_name[x],
                          (long long)a->key_grid[x]);
  }
  char dim[DIM_TEXT];
  Dim n = c->in[4]->type.dim[0];
  if (!dim_equal(n, dim_const(positions)))
    return infer_refuse(c, "needs a slot for every position", "operand 4: %s vs %lld", dim_print(n, dim),
                        (long long)positions);
  return true;
}

/* (q [R, d], rows [R, 2], k, v) or (q, rows, k, v, slot): the queries' grid comes from the attributes. */
bool infer_attend_rows(Infer *c) {
  AttendAttrs *a = &c->attrs->attend;
  if (c->n_in != 4 && c->n_in != 5) return infer_refuse(c, "needs 4 or 5 operands", "has %d", c->n_in);
  const Type *q = &c->in[0]->type;
  if (!infer_rank(c, 0, 2, 2) || !infer_is_float(c, 0)) return false;
  if (!infer_rank(c, 1, 2, 2) || !infer_dtype(c, 1, DTYPE_I32) || !infer_same_dim(c, 0, 0, 1, 0)) return false;
  if (!dim_equal(c->in[1]->type.dim[1], dim_const(2)))
    return infer_refuse(c, "rows are pairs of sample and position", "%s", "axis 1 of operand 1 must be 2");
  if (!infer_dtype(c, 2, q->dtype) || !(c->n_in == 4 ? rows_on_grid(c) : rows_in_rings(c))) return false;
  if (!infer_same_dim(c, 0, 1, 2, c->in[2]->type.rank - 1) || !check_heads(c, 0) || !check_heads(c, 3)) return false;
  for (int x = 0; x < 3; x++)
    if (a->query_grid[x] < 1 || a->query_grid[x] > EXTENT_INF)
      return infer_refuse(c, "needs the queries' grid in the attributes", "axis %c: %lld", axis_name[x],
                          (long long)a->query_grid[x]);
  *c->out = *q;
  c->out->dim[1] = c->in[3]->type.dim[c->in[3]->type.rank - 1];
  return check_rules(c);
}
