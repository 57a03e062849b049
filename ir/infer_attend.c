/* Shape rules of attention.  Attributes get one normal form, so that equal attentions are one node: both grids filled
 * in, so are heads of keys and the scale, no extent where the kind has none, no edge rule where nothing can reach
 * over the edge. */
#include <math.h>

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

static bool check_heads(Infer *c, int i, int64_t heads) {
  const Type *t = &c->in[i]->type;
  Dim d = t->dim[t->rank - 1];
  char dim[DIM_TEXT];
  if (heads >= 1 && dim_is_const(d) && d.c >= heads && d.c % heads == 0) return true;
  return infer_refuse(c, "heads must divide the width", "operand %d: width %s, %lld heads", i, dim_print(d, dim),
                      (long long)heads);
}

static int64_t head_width(const Infer *c, int i, int64_t heads) {
  const Type *t = &c->in[i]->type;
  return t->dim[t->rank - 1].c / heads;
}

/* Heads of queries and of keys (operand k), which have one width, and the scale. */
static bool take_heads(Infer *c, int k) {
  AttendAttrs *a = &c->attrs->attend;
  if (!check_heads(c, 0, a->heads)) return false;
  if (a->kv_heads == 0) a->kv_heads = a->heads;
  if (a->kv_heads < 0 || a->heads % a->kv_heads)
    return infer_refuse(c, "kv_heads must divide heads", "%lld kv_heads, %lld heads", (long long)a->kv_heads,
                        (long long)a->heads);
  if (!check_heads(c, k, a->kv_heads)) return false;
  int64_t wide = head_width(c, 0, a->heads), key = head_width(c, k, a->kv_heads);
  if (wide != key)
    return infer_refuse(c, "heads of queries and keys differ in width", "%lld of %lld vs %lld of %lld",
                        (long long)a->heads, (long long)wide, (long long)a->kv_heads, (long long)key);
  if (a->scale == 0) a->scale = 1 / sqrt((double)wide);
  bool is_f32 = isfinite((float)a->scale) && (float)a->scale != 0;
  return is_f32 || infer_refuse(c, "the scale of scores must be a finite f32, not 0", "%g", a->scale);
}

/* The type of a result: queries' places, and as many heads of the width that values, operand v, have. */
static bool result_of(Infer *c, int v) {
  const AttendAttrs *a = &c->attrs->attend;
  int64_t width = head_width(c, v, a->kv_heads);
  *c->out = c->in[0]->type;
  if (!__builtin_mul_overflow(width, a->heads, &c->out->dim[c->out->rank - 1].c)) return true;
  return infer_refuse(c, "the result is too wide", "%lld heads of %lld", (long long)a->heads, (long long)width);
}

static bool is_masked(const Infer *c) { return c->n_in > 0 && c->in[c->n_in - 1]->type.dtype == DTYPE_U8; }

/* The number of operands: those of the op, and perhaps a mask. */
static bool check_count(Infer *c, int least, int most) {
  int n = c->n_in - is_masked(c);
  if (n >= least && n <= most) return true;
  if (least < most)
    return infer_refuse(c, "wrong number of operands", "needs %d or %d and perhaps a u8 mask", least, most);
  return infer_refuse(c, "wrong number of operands", "needs %d and perhaps a u8 mask", least);
}

/* The mask, if there is one, has a byte for every key: the batch and the grid of operand k. */
static bool check_mask(Infer *c, int k) {
  int rank = c->in[k]->type.rank - 1, mask = c->n_in - 1;
  if (!is_masked(c)) return true;
  if (!infer_rank(c, mask, rank, rank)) return false;
  for (int i = 0; i < rank; i++)
    if (!infer_same_dim(c, k, i, mask, i)) return false;
  return true;
}

/* q and k on their grids: ranks, batches and widths agree; the other operands are `n` with them. */
static bool check_qk(Infer *c, int n) {
  if (!check_count(c, n, n)) return false;
  const Type *q = &c->in[0]->type;
  if (!infer_rank(c, 0, 4, 5) || !infer_rank(c, 1, q->rank, q->rank)) return false;
  if (!infer_is_float(c, 0) || !infer_dtype(c, 1, q->dtype)) return false;
  if (q->rank == 5 && !infer_same_dim(c, 0, 0, 1, 0)) return false;
  if (!take_heads(c, 1) || !check_mask(c, 1)) return false;
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

static bool check_qkv(Infer *c, int n) {
  return check_qk(c, n) && same_places(c, 2, 1) && check_heads(c, 2, c->attrs->attend.kv_heads);
}

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

bool infer_attend(Infer *c) { return check_qkv(c, 3) && result_of(c, 2); }

bool infer_attend_lse(Infer *c) {
  if (!check_qk(c, 2)) return false;
  *c->out = c->in[0]->type;
  c->out->dtype = DTYPE_F32;
  c->out->dim[c->out->rank - 1] = dim_const(c->attrs->attend.heads);
  return true;
}

/* (q, k, v, dy, lse, delta): dy is of the result's type. */
static bool check_grad(Infer *c) {
  if (!check_qkv(c, 6) || !same_places(c, 3, 0) || !result_of(c, 2)) return false;
  Dim has = c->in[3]->type.dim[c->out->rank - 1], wide = c->out->dim[c->out->rank - 1];
  char dim[2][DIM_TEXT];
  if (!dim_equal(has, wide))
    return infer_refuse(c, "sizes differ", "axis %d of operand 3: %s vs %s", c->out->rank - 1, dim_print(has, dim[0]),
                        dim_print(wide, dim[1]));
  return per_head(c, 4) && per_head(c, 5);
}

bool infer_attend_grad_q(Infer *c) {
  if (!check_grad(c)) return false;
  *c->out = c->in[0]->type;
  return true;
}

/* The places of keys, and the heads of operand i, which are the queries'. */
static bool key_result(Infer *c, int i) {
  *c->out = c->in[1]->type;
  c->out->dim[c->out->rank - 1] = c->in[i]->type.dim[c->out->rank - 1];
  return true;
}

bool infer_attend_grad_k(Infer *c) { return check_grad(c) && key_result(c, 0); }

/* (q, k, dy, lse): v itself is not needed; the width of its heads is that of dy's. */
bool infer_attend_grad_v(Infer *c) {
  if (!check_qk(c, 4) || !same_places(c, 2, 0) || !check_heads(c, 2, c->attrs->attend.heads)) return false;
  return per_head(c, 3) && key_result(c, 2);
}

/* Keys and values of arity 4 stand on their grid, [B, s, h, w, d]. */
static bool rows_on_grid(Infer *c) {
  return infer_rank(c, 2, 5, 5) && same_places(c, 3, 2) && take_grid(c, 2, c->attrs->attend.key_grid) &&
         check_mask(c, 2);
}

/* The mask of keys in rings is that of all positions, [B, s, h, w]. */
static bool check_ring_mask(Infer *c) {
  const int64_t *grid = c->attrs->attend.key_grid;
  if (!is_masked(c)) return true;
  if (!infer_rank(c, 5, 4, 4) || !infer_same_dim(c, 2, 1, 5, 0)) return false;
  for (int x = 0; x < 3; x++)
    if (!dim_equal(c->in[5]->type.dim[1 + x], dim_const(grid[x])))
      return infer_refuse(c, "the mask needs a byte for every position", "axis %c: the grid has %lld", axis_name[x],
                          (long long)grid[x]);
  return true;
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
  return check_ring_mask(c);
}

/* (q [R, d], rows [R, 2], k, v) or (q, rows, k, v, slot), and perhaps a mask: the queries' grid comes from the
 * attributes. */
bool infer_attend_rows(Infer *c) {
  AttendAttrs *a = &c->attrs->attend;
  if (!check_count(c, 4, 5)) return false;
  const Type *q = &c->in[0]->type;
  if (!infer_rank(c, 0, 2, 2) || !infer_is_float(c, 0)) return false;
  if (!infer_rank(c, 1, 2, 2) || !infer_dtype(c, 1, DTYPE_I32) || !infer_same_dim(c, 0, 0, 1, 0)) return false;
  if (!dim_equal(c->in[1]->type.dim[1], dim_const(2)))
    return infer_refuse(c, "rows are pairs of sample and position", "%s", "axis 1 of operand 1 must be 2");
  bool on_grid = c->n_in - is_masked(c) == 4;
  if (!infer_dtype(c, 2, q->dtype) || !(on_grid ? rows_on_grid(c) : rows_in_rings(c))) return false;
  if (!take_heads(c, 2) || !check_heads(c, 3, a->kv_heads)) return false;
  for (int x = 0; x < 3; x++)
    if (a->query_grid[x] < 1 || a->query_grid[x] > EXTENT_INF)
      return infer_refuse(c, "needs the queries' grid in the attributes", "axis %c: %lld", axis_name[x],
                          (long long)a->query_grid[x]);
  return result_of(c, 3) && check_rules(c);
}
