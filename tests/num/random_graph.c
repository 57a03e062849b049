/* One builder for every class of ops; operands of a given type are found among the nodes that there are, or made. */
#include "tests/num/random_graph.h"

#include <math.h>
#include <string.h>

#include "passes/passes.h"
#include "runtime/base/philox.h"

enum { MOST_NODES = 400, MOST_ELEMS = 2500, MOST_DIMS = 5 };

typedef struct Gen {
  Rig *rig;
  Graph *g;
  RandomGraph *s;
  uint32_t at;            /* numbers drawn */
  Dim dim[MOST_DIMS];     /* the sizes of this function */
  int n_dim;
  DType types[4];         /* the types of this function */
  int n_type;
  Node *node[MOST_NODES];
  int n_node, n_leaf, n_state;
  Node *state[8];
} Gen;

static int draw(Gen *x, int n) { return (int)(philox(x->s->seed, x->at++, 0, STREAM_TEST).word[0] % (uint32_t)n); }
static bool chance(Gen *x, int percent) { return draw(x, 100) < percent; }

static int64_t elems(const Type *t) {
  int64_t n = 1;
  for (int i = 0; i < t->rank; i++) n *= dim_value(t->dim[i], RANDOM_SAMPLES, RANDOM_ROWS);
  return n;
}

/* Rows are of samples, and of none there are none: 3R - 2 is no size.  (3B - 2 needs a sample, which plans know.) */
static bool fits(const Type *t) {
  Dim d;
  Type full = *t;
  for (int i = 0; i < t->rank; i++)
    if (t->dim[i].r && t->dim[i].c < 0) return false;
  for (int i = 0; i < full.rank; i++)
    if (dim_equal(full.dim[i], dim_const(0))) full.dim[i] = dim_const(1);
  return t->rank <= 6 && type_elems(&full, &d) && elems(t) <= MOST_ELEMS;
}

/* An op that may refuse these operands. */
static Node *attempt(Gen *x, Op op, Node *const *in, int n, const Attrs *attrs, const Type *type) {
  Error ignored = {0}, *old = x->g->err;
  for (int i = 0; i < n; i++)
    if (!in[i]) return NULL;
  x->g->err = &ignored;
  Node *y = graph_op(x->g, op, in, n, attrs, type);
  x->g->err = old;
  return y && fits(&y->type) ? y : NULL;
}

/* ---- types ---- */

static Dim draw_dim(Gen *x) {
  static const int64_t sizes[] = {1, 2, 3, 5, 7, 8, 13, 16, 17, 20, 31, 33, 40};
  static const Dim symbolic[] = {{0, 1, 0}, {0, 2, 0}, {1, 1, 0}, {0, 1, 0}, {-1, 2, 0}};
  if (chance(x, 25)) return symbolic[draw(x, COUNT_OF(symbolic))];
  return chance(x, 2) ? dim_const(0) : dim_const(sizes[draw(x, COUNT_OF(sizes))]);
}

static DType draw_dtype(Gen *x) { return x->types[draw(x, x->n_type)]; }
static DType draw_float(Gen *x) {
  DType t = draw_dtype(x);
  return dtype_is_float(t) ? t : DTYPE_F32;
}

static Type draw_type(Gen *x, DType t) {
  Dim d[4];
  for (;;) {
    int rank = draw(x, 5);
    for (int i = 0; i < rank; i++) d[i] = x->dim[draw(x, x->n_dim)];
    Type type = type_make(t, rank, d);
    if (fits(&type)) return type;
  }
}

/* ---- leafs ---- */

static Node *leaf(Gen *x, Op op, const char *kind, const Type *t) {
  Attrs a = {.leaf.name = arena_printf(x->g->arena, "%s%d.%llu", kind, x->n_leaf++, (unsigned long long)x->s->seed)};
  if (op == OP_PARAM && dtype_is_float(t->dtype)) a.leaf.init = (ParamInit){INIT_NORMAL, 1};
  return graph_op(x->g, op, NULL, 0, &a, t);
}

static bool is_constant_shape(const Type *t) {
  for (int i = 0; i < t->rank; i++)
    if (!dim_is_const(t->dim[i])) return false;
  return true;
}

static Node *fresh_leaf(Gen *x, const Type *t) {
  int what = draw(x, 10);
  if (what < 2 && is_constant_shape(t)) return leaf(x, OP_PARAM, "w", t);
  if (what == 2 && is_constant_shape(t) && x->n_state < COUNT_OF(x->state))
    return x->state[x->n_state++] = leaf(x, OP_STATE, "s", t);
  if (what == 3) return graph_fill(x->g, draw(x, 4), t);
  if (what == 4 && t->dtype == DTYPE_I32 && t->rank > 0) return graph_iota(x->g, draw(x, t->rank), t);
  return leaf(x, OP_INPUT, "x", t);
}

/* ---- operands ---- */

static Node *any_node(Gen *x) {
  int n = x->n_node;
  return x->node[chance(x, 60) && n > 6 ? n - 1 - draw(x, 6) : draw(x, n)];
}

static Node *with_dtype(Gen *x, DType t) {
  for (int tries = 0; tries < 30; tries++) {
    Node *n = any_node(x);
    if (n->type.dtype == t) return n;
  }
  Type type = draw_type(x, t);
  return fresh_leaf(x, &type);
}

static Node *float_node(Gen *x) { return with_dtype(x, draw_float(x)); }

static bool is_exact(const Node *n) {
  static const Op keep[] = {OP_NEG, OP_ABS, OP_MAXIMUM, OP_MINIMUM, OP_SELECT, OP_DETACH, OP_FLOOR, OP_LT, OP_LE, OP_EQ,
                            OP_MAX, OP_ARGMAX, OP_RING_WRITE};
  OpClass class = op_info[n->op].class;
  bool keeps = class == CLASS_MOVE || class == CLASS_LEAF || n->op == OP_FILL || n->op == OP_IOTA;
  for (int i = 0; i < COUNT_OF(keep); i++) keeps |= n->op == keep[i];
  if (n->op == OP_CAST) keeps = n->type.dtype != DTYPE_BF16 || n->in[0]->type.dtype == DTYPE_BF16;
  if (!dtype_is_float(n->type.dtype)) keeps = true;
  for (int i = 0; keeps && i < n->n_in; i++) keeps = is_exact(n->in[i]);
  return keeps;
}

static Node *of_type(Gen *x, const Type *t, int depth);

/* A tensor of the type by a move or a cast of another. */
static Node *derived(Gen *x, const Type *t, int depth) {
  Type from = *t;
  Dim n;
  switch (draw(x, 5)) {
  case 0:
    if (t->rank == 0) return NULL;
    from = type_make(t->dtype, t->rank - 1, t->dim + 1);
    return graph_broadcast(x->g, of_type(x, &from, depth + 1), t);
  case 1:
    if (t->rank == 0) return NULL;
    from.dim[draw(x, t->rank)] = dim_const(1);
    return graph_broadcast(x->g, of_type(x, &from, depth + 1), t);
  case 2:
    if (!type_elems(t, &n)) return NULL;
    from = type_make(t->dtype, 1, &n);
    return graph_reshape(x->g, of_type(x, &from, depth + 1), t);
  case 3:
    if (t->rank < 2) return NULL;
    from.dim[0] = t->dim[1], from.dim[1] = t->dim[0];
    return graph_transpose(x->g, of_type(x, &from, depth + 1), (int64_t[MAX_RANK]){1, 0, 2, 3, 4, 5, 6, 7});
  default:
    from.dtype = draw_dtype(x);
    if (dtype_is_float(from.dtype) && !dtype_is_float(t->dtype)) return NULL;
    return graph_cast(x->g, of_type(x, &from, depth + 1), t->dtype);
  }
}

static Node *of_type(Gen *x, const Type *t, int depth) {
  int first = x->n_node ? draw(x, x->n_node) : 0;
  for (int i = 0; i < x->n_node && chance(x, 97); i++) {
    Node *n = x->node[(first + i) % x->n_node];
    if (type_equal(&n->type, t)) return n;
  }
  Node *n = depth < 3 && chance(x, 40) ? derived(x, t, depth) : NULL;
  return n ? n : fresh_leaf(x, t);
}

static Node *like(Gen *x, const Node *n) { return chance(x, 8) ? (Node *)(uintptr_t)n : of_type(x, &n->type, 0); }

static Node *exact_like(Gen *x, const Type *t) {
  for (int tries = 0; tries < 8; tries++) {
    Node *n = of_type(x, t, 0);
    if (is_exact(n)) return n;
  }
  return leaf(x, OP_INPUT, "x", t);
}

static Node *exact_node(Gen *x, DType t) {
  for (int tries = 0; tries < 8; tries++) {
    Node *n = with_dtype(x, t);
    if (is_exact(n)) return n;
  }
  Type type = draw_type(x, t);
  return leaf(x, OP_INPUT, "x", &type);
}

static Node *typed(Gen *x, DType t, int rank, const Dim *dim) {
  Type type = type_make(t, rank, dim);
  return fits(&type) ? of_type(x, &type, 0) : NULL;
}

/* An input whose values random_data makes valid for its kind. */
static Node *index_input(Gen *x, const char *kind, int rank, const Dim *dim) {
  Type type = type_make(DTYPE_I32, rank, dim);
  return leaf(x, OP_INPUT, kind, &type);
}

/* ---- builders ---- */

static Node *make_unary(Gen *x, Op op) {
  Node *n = op == OP_CAST || op == OP_NEG || op == OP_ABS || op == OP_DETACH ? with_dtype(x, draw_dtype(x)) : float_node(x);
  if (op == OP_FLOOR) n = exact_node(x, DTYPE_F32);
  if (op == OP_CAST) {
    Type to = {.dtype = draw_dtype(x)};
    if (dtype_is_float(n->type.dtype) && !dtype_is_float(to.dtype)) n = exact_node(x, n->type.dtype);
    return attempt(x, op, &n, 1, &(Attrs){.cast.dtype = to.dtype}, &to);
  }
  if (op == OP_LOG || op == OP_SQRT) {
    n = graph_unary(x->g, OP_ABS, n);
    n = graph_binary(x->g, OP_ADD, n, graph_fill_like(x->g, 0.25, n));
  }
  return attempt(x, op, &n, 1, NULL, NULL);
}

static Node *make_map(Gen *x, Op op) {
  Node *in[MAP_OPERANDS] = {NULL};
  bool compares = op == OP_LT || op == OP_LE || op == OP_EQ;
  if (op == OP_FILL || op == OP_IOTA) {
    Type t = draw_type(x, op == OP_IOTA ? DTYPE_I32 : draw_dtype(x));
    if (op == OP_IOTA && t.rank == 0) return NULL;
    return op == OP_FILL ? graph_fill(x->g, draw(x, 5), &t) : graph_iota(x->g, draw(x, t.rank), &t);
  }
  if (op_info[op].arity == 1) return make_unary(x, op);
  if (op_info[op].attrs == ATTR_random) {
    in[0] = with_dtype(x, DTYPE_I32);
    for (int k = 1; k < MAP_OPERANDS; k++) in[k] = like(x, in[0]);
    return attempt(x, op, in, MAP_OPERANDS, &(Attrs){.random.stream = draw(x, 1000)}, NULL);
  }
  DType t = op == OP_MOD ? chance(x, 70) ? DTYPE_I32 : DTYPE_U8 : op == OP_FMA ? draw_float(x) : draw_dtype(x);
  if (op == OP_SELECT) {
    in[1] = with_dtype(x, t), in[2] = like(x, in[1]);
    Type cond = in[1]->type;
    cond.dtype = DTYPE_U8;
    in[0] = of_type(x, &cond, 0);
    return attempt(x, op, in, 3, NULL, NULL);
  }
  in[0] = compares ? exact_node(x, t) : with_dtype(x, t);
  in[1] = compares ? exact_like(x, &in[0]->type) : like(x, in[0]);
  in[2] = op == OP_FMA ? like(x, in[0]) : NULL;
  if (op == OP_DIV && dtype_is_float(t)) {
    in[1] = graph_unary(x->g, OP_ABS, in[1]);
    in[1] = graph_binary(x->g, OP_ADD, in[1], graph_fill_like(x->g, 0.5, in[1]));
  }
  return attempt(x, op, in, op_info[op].arity, NULL, NULL);
}

static Node *make_slice(Gen *x, Node *n) {
  Attrs a = {0};
  for (int i = 0; i < n->type.rank; i++) {
    Dim d = n->type.dim[i];
    a.slice.stop[i] = d;
    a.slice.step[i] = 1;
    if (dim_is_const(d)) {
      int64_t start = draw(x, (int)d.c + 1), left = d.c - start;
      a.slice.start[i] = dim_const(chance(x, 50) ? 0 : start);
      if (chance(x, 50)) a.slice.stop[i] = dim_const(a.slice.start[i].c + (start ? draw(x, (int)left + 1) : left));
      a.slice.step[i] = 1 + draw(x, 3);
    } else if (d.b >= 1 && chance(x, 50)) {
      a.slice.start[i] = dim_const(draw(x, 2));   /* the rule decides */
    }
  }
  return attempt(x, OP_SLICE, &n, 1, &a, NULL);
}

static Node *make_pad(Gen *x, Node *n) {
  Attrs a = {.pad.value = draw(x, 3)};
  for (int i = 0; i < n->type.rank; i++) {
    a.pad.lo[i] = chance(x, 10) ? (Dim){0, 1, 0} : dim_const(draw(x, 3));
    a.pad.hi[i] = dim_const(draw(x, 3));
    a.pad.interior[i] = chance(x, 30) ? draw(x, 3) : 0;
  }
  return attempt(x, OP_PAD, &n, 1, &a, NULL);
}

static Node *make_concat(Gen *x, Node *n) {
  Node *in[48] = {n};
  if (n->type.rank == 0) return NULL;
  int axis = draw(x, n->type.rank), many = chance(x, 6) ? 20 + draw(x, 28) : 1 + draw(x, 4);
  for (int i = 1; i < many; i++) {
    Type t = n->type;
    if (chance(x, 50)) t.dim[axis] = x->dim[draw(x, x->n_dim)];
    if (many > 5) t.dim[axis] = dim_const(1 + draw(x, 2));
    in[i] = fits(&t) ? many > 5 ? fresh_leaf(x, &t) : of_type(x, &t, 0) : n;
  }
  return attempt(x, OP_CONCAT, in, many, &(Attrs){.axis.axis = axis}, NULL);
}

static Node *make_gather(Gen *x, Node *n) {
  Type index = draw_type(x, DTYPE_I32);
  if (index.rank > 2) index.rank = 2;
  if (n->type.rank == 0 || !fits(&index) || elems(&index) * elems(&n->type) > 40000) return NULL;
  return attempt(x, OP_GATHER, (Node *[]){n, of_type(x, &index, 0)}, 2, NULL, NULL);
}

static Node *make_shift(Gen *x, Node *n) {
  Dim d[] = {{0, 1, 0}, dim_const(1 + draw(x, 3)), dim_const(1 + draw(x, 4)), dim_const(1 + draw(x, 5)),
             dim_const(1 + draw(x, 19))};
  bool batch = chance(x, 50);
  Node *in[] = {typed(x, n->type.dtype, batch ? 5 : 4, batch ? d : d + 1), typed(x, n->type.dtype, 1, d + 4)};
  Attrs a = {.shift.raster = chance(x, 25)};
  for (int i = 0; i < 3 && !a.shift.raster; i++) a.shift.delta[i] = draw(x, 5) - 2;
  return attempt(x, OP_SHIFT, in, 2, &a, NULL);
}

static Node *make_move(Gen *x, Op op) {
  Node *n = with_dtype(x, draw_dtype(x));
  Attrs a = {0};
  Type t;
  int rank = n->type.rank;
  switch (op) {
  case OP_RESHAPE:
    t = draw_type(x, n->type.dtype);
    if (chance(x, 50) && rank > 1 && type_elems_range(&n->type, 0, 2, &t.dim[0])) {
      for (int i = 2; i < rank; i++) t.dim[i - 1] = n->type.dim[i];
      t.rank = rank - 1;
    }
    return attempt(x, op, &n, 1, NULL, &t);
  case OP_TRANSPOSE:
    for (int i = 0; i < rank; i++) a.perm.perm[i] = i;
    for (int i = rank - 1; i > 0; i--) {
      int j = draw(x, i + 1);
      int64_t p = a.perm.perm[i];
      a.perm.perm[i] = a.perm.perm[j];
      a.perm.perm[j] = p;
    }
    return attempt(x, op, &n, 1, &a, NULL);
  case OP_BROADCAST:
    t = type_make(n->type.dtype, 1, &x->dim[draw(x, x->n_dim)]);
    for (int i = 0; i < rank && i < 5; i++) t.dim[t.rank++] = n->type.dim[i];
    return attempt(x, op, &n, 1, NULL, &t);
  case OP_SLICE: return make_slice(x, n);
  case OP_PAD: return make_pad(x, n);
  case OP_REVERSE: return rank ? attempt(x, op, &n, 1, &(Attrs){.axes.axes = 1 + draw(x, (1 << rank) - 1)}, NULL) : NULL;
  case OP_CONCAT: return make_concat(x, n);
  case OP_GATHER: return make_gather(x, n);
  default: return make_shift(x, n);
  }
}

static Node *make_reduction(Gen *x, Op op) {
  Node *n = op == OP_ARGMAX ? exact_node(x, draw_dtype(x)) : with_dtype(x, op == OP_MEAN ? draw_float(x) : draw_dtype(x));
  if (n->type.rank == 0) return NULL;
  if (op == OP_ARGMAX) return attempt(x, op, &n, 1, &(Attrs){.axis.axis = draw(x, n->type.rank)}, NULL);
  return attempt(x, op, &n, 1, &(Attrs){.axes.axes = 1 + draw(x, (1 << n->type.rank) - 1)}, NULL);
}

static Node *make_scatter(Gen *x, Op op) {
  Node *n = with_dtype(x, draw_dtype(x));
  if (n->type.rank == 0) return NULL;
  if (op == OP_SCATTER_ADD) {
    Type index = type_make(DTYPE_I32, 1 + draw(x, n->type.rank), n->type.dim);
    return attempt(x, op, (Node *[]){of_type(x, &index, 0), n}, 2, &(Attrs){.scatter.rows = 1 + draw(x, 20)}, NULL);
  }
  Type ring = n->type;
  ring.dim[0] = dim_const(12);
  if (!dim_is_const(n->type.dim[0]) || n->type.dim[0].c > 12 || !is_constant_shape(&ring) || x->n_state == COUNT_OF(x->state))
    return NULL;
  Node *state = x->state[x->n_state++] = leaf(x, OP_STATE, "ring", &ring);
  Node *slot = index_input(x, "slot", 1, n->type.dim);
  return attempt(x, op, (Node *[]){state, slot, n}, 3, NULL, NULL);
}

static Node *make_matmul(Gen *x) {
  DType t = draw_float(x);
  Dim m = x->dim[draw(x, x->n_dim)], k = x->dim[draw(x, x->n_dim)], n = x->dim[draw(x, x->n_dim)];
  bool ta = chance(x, 30), tb = chance(x, 30), batch = chance(x, 40), shared = !batch || chance(x, 50);
  Dim a[] = {{0, 1, 0}, ta ? k : m, ta ? m : k}, b[] = {{0, 1, 0}, tb ? n : k, tb ? k : n};
  Node *in[] = {typed(x, t, 2 + batch, batch ? a : a + 1), typed(x, t, shared ? 2 : 3, shared ? b + 1 : b)};
  return attempt(x, OP_MATMUL, in, 2, &(Attrs){.matmul = {ta, tb}}, NULL);
}

static Node *make_conv(Gen *x, Op op) {
  DType t = draw_float(x);
  int64_t stride = 1 + draw(x, 3), kh = 1 + draw(x, 4), kw = 1 + draw(x, 4), h = kh + draw(x, 6), w = kw + draw(x, 6);
  int most = chance(x, 30) ? 48 : 18;
  Dim c = dim_const(1 + draw(x, most)), o = dim_const(1 + draw(x, most));
  Dim b = chance(x, 70) ? (Dim){0, 1, 0} : dim_const(2);
  Dim px[] = {b, dim_const(h), dim_const(w), c}, pw[] = {dim_const(kh), dim_const(kw), c, o};
  Dim py[] = {b, dim_const((h - kh) / stride + 1), dim_const((w - kw) / stride + 1), o};
  bool forward = op == OP_CONV2D;
  Node *in[] = {typed(x, t, 4, px), typed(x, t, 4, forward ? pw : py)};
  return attempt(x, op, in, 2, &(Attrs){.conv = {stride, forward ? 0 : kh, forward ? 0 : kw}}, NULL);
}

static Node *tamed(Gen *x, Node *n);

/* Queries and keys on small grids, kinds and rules at random. */
static AttendAttrs draw_attention(Gen *x, int64_t query[3], int64_t key[3]) {
  int heads = 1 + draw(x, 4), share = 1 + draw(x, 4);
  AttendAttrs a = {.heads = heads, .kv_heads = heads % share ? heads : heads / share, .kind = (AttendKind)draw(x, 4), .edge = (EdgeRule)draw(x, 2),
                   .causal = (Causal)draw(x, 3)};
  if (chance(x, 20)) a.scale = draw(x, 2) ? 0.4 : -0.3;
  for (int i = 0; i < 3; i++) {
    key[i] = 1 + draw(x, 4);
    query[i] = a.causal != CAUSAL_NONE || chance(x, 60) ? key[i] : 1 + draw(x, 4);
    int width = 1 + draw(x, 4);
    a.lo[i] = -(width / 2);
    a.hi[i] = (width - 1) / 2;
    if (chance(x, 20)) a.lo[i] = -draw(x, 4), a.hi[i] = draw(x, 4);
    if (chance(x, 20)) a.lo[i] = -EXTENT_INF;
    if (chance(x, 20)) a.hi[i] = EXTENT_INF;
    a.block[i] = a.kind == ATTEND_BLOCK ? 1 + draw(x, 3) : 0;
  }
  if (chance(x, 20)) {   /* words */
    key[0] = 1 + draw(x, 40);
    query[0] = a.causal != CAUSAL_NONE || chance(x, 60) ? key[0] : 1 + draw(x, 20);
    key[1] = key[2] = query[1] = query[2] = 1;
  }
  return a;
}

static void places(Dim out[5], Dim batch, const int64_t grid[3], int64_t width) {
  out[0] = batch;
  for (int i = 0; i < 3; i++) out[1 + i] = dim_const(grid[i]);
  out[4] = dim_const(width);
}

/* Sometimes the mask of keys in these places, behind n operands; the number of operands. */
static int with_mask(Gen *x, Node **in, int n, int rank, const Dim *place) {
  Type mask = type_make(DTYPE_U8, rank, place), number = type_make(DTYPE_I32, rank, place);
  if (!fits(&mask) || !chance(x, 30)) return n;
  if (chance(x, 30)) in[n] = exact_like(x, &mask);
  else in[n] = attempt(x, OP_LT, (Node *[]){exact_like(x, &number), exact_like(x, &number)}, 2, NULL, NULL);
  return n + (in[n] != NULL);
}

static Node *make_attend_rows(Gen *x, DType t) {
  int64_t query[3], key[3];
  Attrs a = {.attend = draw_attention(x, query, key)};
  memcpy(a.attend.query_grid, query, sizeof query);
  memcpy(a.attend.key_grid, key, sizeof key);
  int64_t width = 1 + draw(x, 20), q_width = width * a.attend.heads, positions = key[0] * key[1] * key[2];
  for (int i = 0; i < 3; i++) a.attend.query_grid[i] = query[i] = 4;   /* of what random_data makes rows */
  if (a.attend.causal != CAUSAL_NONE) a.attend.causal = CAUSAL_NONE;
  width *= a.attend.kv_heads;
  Dim q[] = {{0, 0, 1}, dim_const(q_width)}, rows[] = {{0, 0, 1}, dim_const(2)}, k[5];
  Node *r = index_input(x, "rows", 2, rows);
  places(k, (Dim){0, 1, 0}, key, width);
  if (chance(x, 50)) {
    Node *in[5] = {tamed(x, typed(x, t, 2, q)), r, tamed(x, typed(x, t, 5, k)), typed(x, t, 5, k)};
    int n = with_mask(x, in, 4, 4, k);
    return attempt(x, OP_ATTEND_ROWS, in, n, &a, NULL);
  }
  Dim ring[] = {dim_const(positions + 1), {0, 1, 0}, dim_const(width)}, all = dim_const(positions);
  Node *slot = index_input(x, "place", 1, &all);
  Node *in[6] = {tamed(x, typed(x, t, 2, q)), r, tamed(x, typed(x, t, 3, ring)), typed(x, t, 3, ring), slot};
  int n = with_mask(x, in, 5, 4, k);
  return attempt(x, OP_ATTEND_ROWS, in, n, &a, NULL);
}

static Node *make_attention(Gen *x, Op op) {
  DType t = draw_float(x);
  if (op == OP_ATTEND_ROWS) return make_attend_rows(x, t);
  int64_t query[3], key[3];
  Attrs a = {.attend = draw_attention(x, query, key)};
  int64_t width = 1 + draw(x, 20), width_v = chance(x, 70) ? width : 1 + draw(x, 20);
  int64_t heads = a.attend.heads, kv_heads = a.attend.kv_heads;
  Dim batch = {0, 1, 0}, q[5], k[5], v[5], y[5], number[5];
  places(q, batch, query, width * heads);
  places(k, batch, key, width * kv_heads);
  places(v, batch, key, width_v * kv_heads);
  places(y, batch, query, width_v * heads);
  places(number, batch, query, heads);
  int skip = chance(x, 30), rank = 5 - skip;
  Node *nq = tamed(x, typed(x, t, rank, q + skip)), *nk = tamed(x, typed(x, t, rank, k + skip));
  Node *nv = typed(x, t, rank, v + skip), *mask[1];
  if (!nq || !nk || !nv) return NULL;
  int more = with_mask(x, mask, 0, rank - 1, k + skip);
  if (!more) mask[0] = NULL;
  if (op == OP_ATTEND) return attempt(x, op, (Node *[]){nq, nk, nv, mask[0]}, 3 + more, &a, NULL);
  Node *lse = attempt(x, OP_ATTEND_LSE, (Node *[]){nq, nk, mask[0]}, 2 + more, &a, NULL);
  if (op == OP_ATTEND_LSE || !lse) return lse;
  Node *dy = typed(x, t, rank, y + skip), *delta = typed(x, DTYPE_F32, rank, number + skip);
  if (op == OP_ATTEND_GRAD_V) return attempt(x, op, (Node *[]){nq, nk, dy, lse, mask[0]}, 4 + more, &a, NULL);
  return attempt(x, op, (Node *[]){nq, nk, nv, dy, lse, delta, mask[0]}, 6 + more, &a, NULL);
}

static Node *make_composite(Gen *x, Op op) {
  Node *n = float_node(x);
  int rank = n->type.rank;
  Node *in[3] = {n};
  if (op == OP_MEAN) return make_reduction(x, op);
  if (op == OP_CROSS_ENTROPY) {
    if (rank == 0) return NULL;
    in[1] = typed(x, DTYPE_I32, rank - 1, n->type.dim);
    return attempt(x, op, in, 2, NULL, NULL);
  }
  if (op != OP_LAYER_NORM && op != OP_GROUP_NORM) return attempt(x, op, in, 1, NULL, NULL);
  int64_t groups = 1 + draw(x, 3);
  Dim d[] = {{0, 1, 0}, dim_const(1 + draw(x, 4)), dim_const(1 + draw(x, 4)), dim_const(groups * (1 + draw(x, 7)))};
  if (op == OP_GROUP_NORM && !(in[0] = typed(x, n->type.dtype, 4, d))) return NULL;
  if ((rank = in[0]->type.rank) == 0) return NULL;
  for (int i = 1; i < 3; i++) in[i] = typed(x, n->type.dtype, 1, &in[0]->type.dim[rank - 1]);
  return attempt(x, op, in, 3, &(Attrs){.norm = {0.1, op == OP_GROUP_NORM ? groups : 0}}, NULL);
}

static Node *make_leaf(Gen *x, Op op) {
  Type t = draw_type(x, draw_dtype(x));
  if (op == OP_INPUT) return leaf(x, op, "x", &t);
  if (!is_constant_shape(&t) || (op == OP_STATE && x->n_state == COUNT_OF(x->state))) return NULL;
  Node *n = leaf(x, op, op == OP_PARAM ? "w" : "s", &t);
  if (op == OP_STATE) x->state[x->n_state++] = n;
  return n;
}

static void add_gradients(Gen *x);

static Node *make(Gen *x, Op op) {
  switch (op_info[op].class) {
  case CLASS_LEAF: return make_leaf(x, op);
  case CLASS_MAP: return make_map(x, op);
  case CLASS_MOVE: return make_move(x, op);
  case CLASS_REDUCE: return make_reduction(x, op);
  case CLASS_SCATTER: return make_scatter(x, op);
  case CLASS_CONTRACT: return op == OP_MATMUL ? make_matmul(x) : make_conv(x, op);
  case CLASS_ATTEND: return make_attention(x, op);
  case CLASS_COMPOSITE: return make_composite(x, op);
  case CLASS_GRADIENT: add_gradients(x); return NULL;
  }
  return NULL;
}

/* ---- values ---- */

/* Its largest value, by the interpreter; infinite when one is no number, or where a gradient has no gradient. */
static double largest(Gen *x, Node *n) {
  Error err = {0}, *old = x->g->err;
  x->g->err = &err;
  Func *f = pipeline_meaning(rig_function(x->rig, "value", &(Port){"y", n}, 1), NULL, DTYPE_F32, &err);
  x->g->err = old;
  if (!f) return INFINITY;
  Arena *a = arena_new();
  Tensor y;
  RigData d = random_data(x->s->seed);
  double most = a && rig_interp(f, &d, RANDOM_SAMPLES, RANDOM_ROWS, a, &y, NULL, &err) ? 0 : INFINITY;
  BUG_IF(err.code, "%s", err.text);
  for (int64_t i = 0; most < INFINITY && i < tensor_elems(&y); i++)
    most = isfinite(y.data[i]) ? fmax(most, fabs(y.data[i])) : INFINITY;
  arena_free(a);
  return most;
}

/* A node of values up to 20, or made so; NULL where they are very large.  Scores of attention would else be so large that
 * exp(score - lse) has the rounding of lse, which is f32. */
static Node *tamed(Gen *x, Node *n) {
  double most = n ? largest(x, n) : INFINITY;
  if (!(most < 1e6)) return NULL;
  return most > 20 ? graph_binary(x->g, OP_MUL, n, graph_fill_like(x->g, exp2(-ceil(log2(most))), n)) : n;
}

/* Keeps a node whose values are tame, or made so. */
static Node *keep(Gen *x, Node *n) {
  if (!n || !fits(&n->type) || x->n_node == MOST_NODES) return NULL;
  if (dtype_is_float(n->type.dtype) && !is_exact(n)) n = tamed(x, n);
  if (n) x->node[x->n_node++] = n;
  return n;
}

/* Gradients of the sum of a node for some of the nodes. */
static void add_gradients(Gen *x) {
  Node *y = float_node(x), *wrt[3];
  int n = 0;
  for (int i = 0; i < 3; i++)
    if ((wrt[n] = with_dtype(x, y->type.dtype)) && dtype_is_float(wrt[n]->type.dtype)) n++;
  if (y->type.rank) y = graph_sum(x->g, y, (1u << y->type.rank) - 1);
  Error ignored = {0}, *old = x->g->err;
  x->g->err = &ignored;
  bool ok = y && grad_check(x->g, y, wrt, n);
  x->g->err = old;
  for (int i = 0; ok && i < n; i++) keep(x, graph_op(x->g, OP_GRAD, (Node *[]){y, wrt[i]}, 2, NULL, NULL));
}

/* ---- functions ---- */

static void begin(Gen *x) {
  static const DType mix[][4] = {
      {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_I32}, {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32},
      {DTYPE_F32, DTYPE_I32, DTYPE_U8, DTYPE_F32},  {DTYPE_F32, DTYPE_BF16, DTYPE_BF16, DTYPE_I32},
      {DTYPE_I32, DTYPE_I32, DTYPE_I32, DTYPE_U8},  {DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16}};
  static const int share[] = {0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 5};   /* how often which */
  memcpy(x->types, mix[share[draw(x, COUNT_OF(share))]], sizeof x->types);
  x->n_type = 4;
  x->n_dim = 3 + draw(x, 3);
  for (int i = 0; i < x->n_dim; i++) x->dim[i] = draw_dim(x);
  for (int i = 0; i < 3; i++) {
    Type t = draw_type(x, i ? draw_dtype(x) : DTYPE_F32);
    x->node[x->n_node++] = leaf(x, OP_INPUT, "x", &t);
  }
}

static void note_ops(Gen *x, const Func *f) {
  int n;
  Node **node = func_nodes(f, &n);
  for (int i = 0; i < n; i++) x->s->made[node[i]->op] = true;
}

static Func *finish(Gen *x) {
  Graph *g = x->g;
  Port out[5];
  int n_out = 1 + draw(x, 4), n_update = 0;
  for (int i = 0; i < n_out; i++) {
    Node *n = i < 2 ? x->node[x->n_node - 1 - i] : any_node(x);
    out[i] = (Port){arena_printf(g->arena, "y%d", i), n};
  }
  Update *update = ARENA_ARRAY(g->arena, Update, COUNT_OF(x->state));   /* of_type makes states, too */
  for (int i = 0; i < x->n_state; i++) {
    Node *value = chance(x, 60) ? of_type(x, &x->state[i]->type, 0) : NULL;
    if (value && value->op != OP_INPUT) update[n_update++] = (Update){x->state[i], value};
  }
  /* What only updates reach needs its inputs named too: as outputs of a view. */
  Port *all = ARENA_ARRAY(g->arena, Port, n_out + n_update);
  memcpy(all, out, sizeof *out * (size_t)n_out);
  for (int i = 0; i < n_update; i++) all[n_out + i] = (Port){arena_printf(g->arena, "z%d", i), update[i].value};
  Func *view = rig_function(x->rig, "view", all, n_out + n_update);
  const char *name = arena_printf(g->arena, "graph%llu", (unsigned long long)x->s->seed);
  Func *f = view ? func_new(g, name, view->in, view->n_in, out, n_out) : NULL;
  if (!f) return NULL;
  f->update = update;
  f->n_update = n_update;
  note_ops(x, f);
  return f;
}

Func *random_graph(Rig *r, RandomGraph *s) {
  Gen *x = ARENA_NEW(r->model.graph->arena, Gen);
  *x = (Gen){.rig = r, .g = r->model.graph, .s = s};
  begin(x);
  int n = 4 + draw(x, 20);
  for (int tries = 0; x->n_node < n && tries < 200; tries++) {
    if (chance(x, 7)) add_gradients(x);
    else keep(x, make(x, (Op)draw(x, OP_COUNT)));
  }
  return finish(x);
}

/* ---- data ---- */

static double fit(void *ctx, const char *name, int64_t i, double x) {
  if (strncmp(name, "slot", 4) == 0) return (double)((i * 5 + 2) % 12);
  if (strncmp(name, "place", 5) == 0) return (double)i;
  if (strncmp(name, "rows", 4) == 0) return (double)(i % 2 ? (i * 37 + 11) % 64 : i / 2 % RANDOM_SAMPLES);
  return x;
}

RigData random_data(uint64_t seed) { return (RigData){seed, fit, NULL}; }
