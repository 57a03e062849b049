/* Splits a teacher-forced function into a prologue and a step.
 * needs: any form (composites are expanded).  gives: Decode; f is unchanged.
 *
 * f maps tokens i32 [B,S,H,W] (and conditions) to logits [B,S,H,W,V].  The step computes the same logits for R rows:
 * row r is position rows[r] = (sample, raster index).  A value that depends on the tokens has its grid axes in front
 * ([B,S,H,W,rest], [B*P,rest], [B,P,rest]; P = S H W) and becomes [R,rest]; ops that keep rows apart are applied to
 * rows, the others are refused by name.  A value that does not depend on the tokens is made once, by the prologue,
 * which keeps it in a STATE "<name>.keep.<k>"; the step gathers its rows.
 *
 *   attend(q, k, v) of rows     writes k and v into rings and attends over them (attend_rows, arity 5)
 *   attend(q, k, v), k, v kept  attend_rows over the whole of them (arity 4)
 *   ... with a mask             is kept whole, so it may not depend on the tokens
 *   shift(x, delta, start)      x computed at the displaced positions, start where they are off the grid.  So x is
 *                               computed again for every stencil entry; it must be a function of single tokens.
 *
 * Ports of the step: inputs rows i32 [R,2], row_slot i32 [R] (ring row slot*B + sample), slots i32 [P] (slot of every
 * live position); output logits [R,V]; STATE "<name>.tokens" i32 [B,P]; rings STATE "<name>.ring.<k>" f32 [P,B,d]
 * (slots first, so that their number can be chosen when a session is opened; P is only the most there can be). */
#include <string.h>

#include "passes/passes.h"
#include "runtime/base/names.h"

/* The positions that an evaluation reads: those of the rows, displaced by the shifts on the way down. */
typedef struct DisplacedRows {
  Node *coord[3];         /* i32 [R], may be off the grid */
  Node *index;            /* i32 [R], raster index of coord */
  int64_t delta[3];       /* the displacement, for the stencil */
  bool raster;            /* displaced by one in raster order */
  struct DisplacedRows *next;     /* list of all places */
  Node **row_of;          /* by id: the value at this place, or NULL */
} DisplacedRows;

typedef struct Incremental {
  Func *f;
  Graph *g;
  const char *name;
  Node *tokens;
  int64_t grid[3], positions;
  Node **nodes;
  int n_nodes, n_ids;
  bool *live;             /* by id: depends on the tokens */
  bool *varies;           /* by id: depends on some input or state */
  Node **kept;            /* by id: what stands in the step for a value that does not */
  Node *rows, *row_slot, *slots, *token_state, *sample;
  DisplacedRows *places;          /* the first is the rows' own */
  Update *keep; int n_keep, cap_keep;       /* updates of the prologue */
  Update *ring; int n_ring, cap_ring;       /* updates of the step */
  SelfAttend *attend; int n_attend, cap_attend;
  StencilEntry *stencil; int n_stencil, cap_stencil;
  bool uses_rings;
} Incremental;

static Node *row_value(Incremental *c, DisplacedRows *at, Node *n);

static Node *refuse(Incremental *c, const Node *n, const char *why) {
  return graph_error(c->g, n->loc, "%s mixes positions of the generated grid of \"%s\": %s", op_info[n->op].text,
                     c->name, why);
}

/* ---- where the grid axes of a value are ---- */

/* The number of leading axes that hold (sample, position), or -1. */
static int grid_axes(const Incremental *c, const Type *t) {
  Dim want = {0, c->positions, 0}, have;
  for (int k = 1; k <= t->rank; k++)
    if (type_elems_range(t, 0, k, &have) && dim_equal(have, want)) return k;
  return -1;
}

/* [R, rest] for a value of type t whose first `lead` axes are the grid. */
static Type row_type(const Type *t, int lead) {
  Type r = {.dtype = t->dtype, .rank = 1, .dim = {{0, 0, 1}}};
  for (int i = lead; i < t->rank; i++) r.dim[r.rank++] = t->dim[i];
  return r;
}

static Type rows_vector(DType dtype) { return (Type){.dtype = dtype, .rank = 1, .dim = {{0, 0, 1}}}; }

/* ---- small integer expressions ---- */

static Node *number(Incremental *c, int64_t x, const Node *like) { return graph_fill_like(c->g, (double)x, like); }
static Node *add(Incremental *c, Node *x, Node *y) { return graph_binary(c->g, OP_ADD, x, y); }
static Node *mul(Incremental *c, Node *x, int64_t k) {
  return x ? graph_binary(c->g, OP_MUL, x, number(c, k, x)) : NULL;
}
static Node *quotient(Incremental *c, Node *x, int64_t k) {
  return x ? graph_binary(c->g, OP_DIV, x, number(c, k, x)) : NULL;
}
static Node *modulo(Incremental *c, Node *x, int64_t k) {
  return x ? graph_binary(c->g, OP_MOD, x, number(c, k, x)) : NULL;
}

static Node *rows_column(Incremental *c, int64_t column) {
  Attrs a = {0};
  a.slice.stop[0] = (Dim){0, 0, 1};
  a.slice.step[0] = a.slice.step[1] = 1;
  a.slice.start[1] = dim_const(column);
  a.slice.stop[1] = dim_const(column + 1);
  Type t = rows_vector(DTYPE_I32);
  return graph_reshape(c->g, graph_op(c->g, OP_SLICE, &c->rows, 1, &a, NULL), &t);
}

static DisplacedRows *place_new(Incremental *c) {
  DisplacedRows *p = ARENA_NEW(c->g->arena, DisplacedRows), **end = &c->places;
  p->row_of = ARENA_ARRAY(c->g->arena, Node *, c->n_ids);
  while (*end) end = &(*end)->next;
  return *end = p;
}

static bool place_from_index(Incremental *c, DisplacedRows *p, Node *index) {
  p->index = index;
  p->coord[2] = modulo(c, index, c->grid[2]);
  p->coord[1] = modulo(c, quotient(c, index, c->grid[2]), c->grid[1]);
  p->coord[0] = quotient(c, index, c->grid[1] * c->grid[2]);
  return p->coord[0] && p->coord[1] && p->coord[2];
}

/* The place of a shift's operand, shared by all shifts with the same displacement. */
static DisplacedRows *place_shifted(Incremental *c, DisplacedRows *from, const Node *shift) {
  const int64_t *delta = shift->attrs.shift.delta;
  bool raster = shift->attrs.shift.raster;
  if (from->raster || (raster && from != c->places))
    return refuse(c, shift, "shifts in raster order cannot be combined with others"), NULL;
  int64_t sum[3];
  for (int x = 0; x < 3; x++) sum[x] = from->delta[x] + delta[x];
  for (DisplacedRows *p = c->places; p; p = p->next)
    if (p->raster == raster && memcmp(p->delta, sum, sizeof sum) == 0) return p;
  DisplacedRows *p = place_new(c);
  memcpy(p->delta, sum, sizeof sum);
  p->raster = raster;
  if (raster) return place_from_index(c, p, add(c, from->index, number(c, -1, from->index))) ? p : NULL;
  for (int x = 0; x < 3; x++)
    if (!(p->coord[x] = add(c, from->coord[x], number(c, delta[x], from->coord[x])))) return NULL;
  p->index = add(c, mul(c, add(c, mul(c, p->coord[0], c->grid[1]), p->coord[1]), c->grid[2]), p->coord[2]);
  return p->index ? p : NULL;
}

/* x where the place is on the grid, y elsewhere; both [R, rest]. */
static Node *where_on_grid(Incremental *c, const DisplacedRows *p, Node *x, Node *y) {
  Type column = {.dtype = DTYPE_U8, .rank = x->type.rank, .dim = {{0, 0, 1}}};
  for (int i = 1; i < column.rank; i++) column.dim[i] = dim_const(1);
  for (int axis = 0; axis < 3 && x; axis++) {
    Node *at = p->coord[axis];
    Node *below = graph_binary(c->g, OP_LT, at, number(c, 0, at)),
         *beyond = graph_binary(c->g, OP_LE, number(c, c->grid[axis], at), at);
    if (!below || !beyond) return NULL;
    below = graph_broadcast(c->g, graph_reshape(c->g, below, &column), &x->type);
    beyond = graph_broadcast(c->g, graph_reshape(c->g, beyond, &column), &x->type);
    x = graph_select(c->g, below, y, graph_select(c->g, beyond, y, x));
  }
  return x;
}

/* ---- values that do not depend on the tokens ---- */

static Node *remember(Incremental *c, Node *n, Node *stands_for) { return c->kept[n->id] = stands_for; }

static bool has_const_type(const Node *n) {
  for (int i = 0; i < n->type.rank; i++)
    if (!dim_is_const(n->type.dim[i])) return false;
  return true;
}

/* The whole of n, as the step sees it: a constant, what is made of params alone (layout moves it to where weights are
 * loaded), or what the prologue kept. */
static Node *whole(Incremental *c, Node *n) {
  if (c->kept[n->id]) return c->kept[n->id];
  if (n->op == OP_FILL || n->op == OP_IOTA) return remember(c, n, n);
  if (!c->varies[n->id] && has_const_type(n)) return remember(c, n, n);
  if (op_info[n->op].work == WORK_VIEW) {
    Node *x = whole(c, n->in[0]);
    return x ? remember(c, n, node_rebuild(c->g, n, &x)) : NULL;
  }
  Attrs a = {.leaf.name = arena_printf(c->g->arena, "%s.keep.%d", c->name, c->n_keep)};
  Node *state = graph_op(c->g, OP_STATE, NULL, 0, &a, &n->type);
  if (!state) return NULL;
  ARENA_PUSH(c->g->arena, c->keep, c->n_keep, c->cap_keep, ((Update){state, n}));
  return remember(c, n, state);
}

static Node *gather(Incremental *c, Node *table, Node *index) {
  Node *in[2] = {table, index};
  return table && index ? graph_op(c->g, OP_GATHER, in, 2, NULL, NULL) : NULL;
}

/* Rows of a value [B,S,H,W,rest] that does not depend on the tokens. */
static Node *gather_rows(Incremental *c, const DisplacedRows *at, Node *n, int lead) {
  Node *all = whole(c, n);
  Type flat = {.dtype = n->type.dtype, .rank = 1, .dim = {{0, c->positions, 0}}};
  for (int i = lead; i < n->type.rank; i++) flat.dim[flat.rank++] = n->type.dim[i];
  return gather(c, graph_reshape(c->g, all, &flat), add(c, mul(c, c->sample, c->positions), at->index));
}

/* Rows of x, whose `lead` leading axes span `grid` elements, as a table [grid, rest] read at index. */
static Node *table_rows(Incremental *c, Node *x, int lead, Dim grid, Node *index) {
  Type table = {.dtype = x->type.dtype, .rank = 1, .dim = {grid}};
  for (int i = lead; i < x->type.rank; i++) table.dim[table.rank++] = x->type.dim[i];
  return gather(c, graph_reshape(c->g, whole(c, x), &table), index);
}

/* Where rows find themselves in the `lead` leading axes of x, which a broadcast copies into the grid's axes: by
 * position, by sample, or by one coordinate.  NULL: none of these. */
static Node *row_index(Incremental *c, const DisplacedRows *at, const Type *x, int lead, Dim grid) {
  if (dim_equal(grid, dim_const(c->positions))) return at->index;
  if (dim_equal(grid, (Dim){0, 1, 0})) return c->sample;
  for (int i = 0; i < 3 && lead >= 3; i++)
    if (dim_equal(grid, dim_const(c->grid[i])) && dim_equal(x->dim[lead - 3 + i], grid)) return at->coord[i];
  return NULL;
}

/* A broadcast into the grid; lead: axes of the result that are the grid's.  *out_done is false when it must be made
 * whole. */
static Node *broadcast_rows(Incremental *c, const DisplacedRows *at, Node *n, int lead, bool *out_done) {
  Node *x = n->in[0];
  Type rows = row_type(&n->type, lead);
  int lead_in = lead - (n->type.rank - x->type.rank);
  Dim grid = dim_const(1);
  *out_done = true;
  if (lead_in > 0 && !type_elems_range(&x->type, 0, lead_in, &grid)) grid = dim_const(-1);
  if (lead_in <= 0) return graph_broadcast(c->g, whole(c, x), &rows);
  if (dim_equal(grid, dim_const(1))) {
    Type rest = type_make(x->type.dtype, x->type.rank - lead_in, x->type.dim + lead_in);
    return graph_broadcast(c->g, graph_reshape(c->g, whole(c, x), &rest), &rows);
  }
  /* A coordinate needs the axes one by one: [B,S,H,W,..], not [B*P,..]. */
  Node *index = row_index(c, at, &x->type, lead == 4 ? lead_in : 0, grid);
  if (index) return graph_broadcast(c->g, table_rows(c, x, lead_in, grid, index), &rows);
  *out_done = false;
  return NULL;
}

static Node **operand_rows(Incremental *c, DisplacedRows *at, Node *n) {
  Node **in = ARENA_ARRAY(c->g->arena, Node *, n->n_in);
  for (int i = 0; i < n->n_in; i++)
    if (!(in[i] = row_value(c, at, n->in[i]))) return NULL;
  return in;
}

/* Cheaper computed for the rows at hand than kept for every sample and position: smaller values copied into the grid,
 * and sums and the like of such (position tables). */
static bool is_spread(const Node *n, int depth) {
  if (n->op == OP_BROADCAST || n->op == OP_FILL) return true;
  if (op_info[n->op].class != CLASS_MAP || n->op == OP_IOTA || depth == 0) return false;
  for (int i = 0; i < n->n_in; i++)
    if (!is_spread(n->in[i], depth - 1)) return false;
  return true;
}

static Node *fixed_rows(Incremental *c, DisplacedRows *at, Node *n) {
  enum { MOST_SPREAD = 6 };
  int lead = grid_axes(c, &n->type);
  if (lead < 0) return refuse(c, n, "its value has no grid axes in front");
  Type rows = row_type(&n->type, lead);
  if (n->op == OP_FILL) return graph_fill(c->g, n->attrs.fill.value, &rows);
  if (n->op == OP_BROADCAST) {
    bool done;
    Node *r = broadcast_rows(c, at, n, lead, &done);
    return done ? r : gather_rows(c, at, n, lead);
  }
  if (!is_spread(n, MOST_SPREAD)) return gather_rows(c, at, n, lead);
  Node **in = operand_rows(c, at, n);
  return in ? graph_op(c->g, n->op, in, n->n_in, &n->attrs, NULL) : NULL;
}

/* ---- values that do ---- */

/* Whether the attributes leave the first `lead` axes, the grid's, as they are. */
static bool keeps_rows(const Node *n, int lead) {
  int64_t axes = ((int64_t)1 << lead) - 1;
  bool keeps = true;
  for (int i = 0; i < lead; i++) {
    Dim size = n->in[0]->type.dim[i];
    switch (op_info[n->op].attrs) {
    case ATTR_perm: keeps &= n->attrs.perm.perm[i] == i; break;
    case ATTR_slice:
      keeps &= dim_equal(n->attrs.slice.start[i], dim_const(0)) && dim_equal(n->attrs.slice.stop[i], size) &&
               n->attrs.slice.step[i] == 1;
      break;
    case ATTR_pad: keeps &= dim_equal(n->type.dim[i], size); break;
    case ATTR_axes: keeps &= !(n->attrs.axes.axes & axes); break;
    case ATTR_axis: keeps &= n->attrs.axis.axis >= lead; break;
    case ATTR_none:
      keeps &= n->op != OP_BROADCAST || (n->type.rank == n->in[0]->type.rank && dim_equal(n->type.dim[i], size));
      break;
    case ATTR_leaf: case ATTR_param: case ATTR_fill: case ATTR_cast: case ATTR_shift: case ATTR_matmul: case ATTR_conv:
    case ATTR_random: case ATTR_scatter: case ATTR_norm: case ATTR_attend: case ATTR_KIND_COUNT:
      BUG("%s is not said to leave axes alone", op_info[n->op].text);
    }
  }
  return keeps;
}

static Attrs slice_rows(const Node *n, int lead, int rest) {
  Attrs a = {0};
  a.slice.stop[0] = (Dim){0, 0, 1};
  a.slice.step[0] = 1;
  for (int i = 0; i < rest; i++) {
    a.slice.start[i + 1] = n->attrs.slice.start[i + lead];
    a.slice.stop[i + 1] = n->attrs.slice.stop[i + lead];
    a.slice.step[i + 1] = n->attrs.slice.step[i + lead];
  }
  return a;
}

static Attrs pad_rows(const Node *n, int lead, int rest) {
  Attrs a = {.pad.value = n->attrs.pad.value};
  for (int i = 0; i < rest; i++) {
    a.pad.lo[i + 1] = n->attrs.pad.lo[i + lead];
    a.pad.hi[i + 1] = n->attrs.pad.hi[i + lead];
    a.pad.interior[i + 1] = n->attrs.pad.interior[i + lead];
  }
  return a;
}

/* Attributes of n for rows: axes move from lead + i to 1 + i. */
static Attrs row_attrs(const Node *n, int lead) {
  Attrs a = {0};
  int rest = n->in[0]->type.rank - lead;
  switch (op_info[n->op].attrs) {
  case ATTR_perm:
    for (int i = 0; i < rest; i++) a.perm.perm[i + 1] = n->attrs.perm.perm[i + lead] - lead + 1;
    return a;
  case ATTR_slice: return slice_rows(n, lead, rest);
  case ATTR_pad: return pad_rows(n, lead, rest);
  case ATTR_axes: a.axes.axes = n->attrs.axes.axes >> lead << 1; return a;
  case ATTR_axis: a.axis.axis = n->attrs.axis.axis - lead + 1; return a;
  case ATTR_none: return a;
  case ATTR_leaf: case ATTR_param: case ATTR_fill: case ATTR_cast: case ATTR_shift: case ATTR_matmul: case ATTR_conv:
  case ATTR_random: case ATTR_scatter: case ATTR_norm: case ATTR_attend: case ATTR_KIND_COUNT: break;
  }
  BUG("%s is not said to leave axes alone", op_info[n->op].text);
}

/* Operands first, so that the op that breaks the rows up is refused and not the one that tries to read them. */
static Node *move_rows(Incremental *c, DisplacedRows *at, Node *n) {
  Node **in = operand_rows(c, at, n);
  if (!in) return NULL;
  int lead_in = grid_axes(c, &n->in[0]->type),
      lead = op_info[n->op].class == CLASS_REDUCE ? lead_in : grid_axes(c, &n->type);
  bool keeps = n->op == OP_RESHAPE ? lead > 0 : lead > 0 && lead == lead_in && keeps_rows(n, lead);
  if (!keeps) return refuse(c, n, "it moves or reduces grid axes");
  Type rows = row_type(&n->type, lead);
  if (n->op == OP_RESHAPE) return graph_reshape(c->g, in[0], &rows);
  if (n->op == OP_BROADCAST) return graph_broadcast(c->g, in[0], &rows);
  Attrs a = row_attrs(n, lead);
  return graph_op(c->g, n->op, in, n->n_in, &a, NULL);
}

static Node *token_rows(Incremental *c, DisplacedRows *at) {
  if (at == c->places)
    return graph_error(c->g, c->tokens->loc,
                       "decode \"%s\": the logits of a position depend on its own token; shift the input", c->name);
  Type flat = {.dtype = DTYPE_I32, .rank = 1, .dim = {{0, c->positions, 0}}};
  Node *all = graph_reshape(c->g, c->token_state, &flat);
  Type rows = row_type(&c->tokens->type, grid_axes(c, &c->tokens->type));
  return graph_reshape(c->g, gather(c, all, add(c, mul(c, c->sample, c->positions), at->index)), &rows);
}

static Node *gather_rows_of_table(Incremental *c, DisplacedRows *at, Node *n) {
  if (c->live[n->in[0]->id]) return refuse(c, n, "its table depends on the generated tokens");
  return gather(c, whole(c, n->in[0]), row_value(c, at, n->in[1]));
}

static void note_stencil(Incremental *c, const DisplacedRows *p) {
  for (int i = 0; i < c->n_stencil; i++)
    if (c->stencil[i].raster == p->raster && memcmp(c->stencil[i].delta, p->delta, sizeof p->delta) == 0) return;
  StencilEntry e = {{p->delta[0], p->delta[1], p->delta[2]}, p->raster};
  ARENA_PUSH(c->g->arena, c->stencil, c->n_stencil, c->cap_stencil, e);
}

static Node *shift_rows(Incremental *c, DisplacedRows *at, Node *n) {
  Node *start = n->in[1];
  if (c->live[start->id]) return refuse(c, n, "its start vector depends on the generated tokens");
  DisplacedRows *from = place_shifted(c, at, n);
  if (!from) return NULL;
  Node *x = row_value(c, from, n->in[0]);
  if (!x) return NULL;
  note_stencil(c, from);
  return where_on_grid(c, from, x, graph_broadcast(c->g, whole(c, start), &x->type));
}

static Node *matmul_rows(Incremental *c, DisplacedRows *at, Node *n) {
  Node *a = n->in[0], *b = n->in[1];
  int lead = grid_axes(c, &a->type);
  Node *x = row_value(c, at, a);
  if (!x) return NULL;
  if (c->live[b->id]) return refuse(c, n, "its second operand depends on the generated tokens");
  bool rows_in_front = lead > 0 && lead < a->type.rank && (lead < a->type.rank - 1 || !n->attrs.matmul.trans_a);
  if (!rows_in_front || b->type.rank != 2)
    return refuse(c, n, "rows must stay apart: grid axes in front, second operand [k, n]");
  Node *y = whole(c, b);
  return y ? graph_matmul(c->g, x, y, n->attrs.matmul.trans_a, n->attrs.matmul.trans_b) : NULL;
}

/* ---- attention ---- */

static Node *flat_rows(Incremental *c, Node *x) {
  Dim d;
  if (!x || !type_elems_range(&x->type, 1, x->type.rank, &d)) return NULL;
  Type t = {.dtype = x->type.dtype, .rank = 2, .dim = {{0, 0, 1}, d}};
  return graph_reshape(c->g, x, &t);
}

/* Writes rows [R, d] into a new ring; returns the ring [P, B, d] after the write. */
static Node *ring_store(Incremental *c, Node *rows) {
  Graph *g = c->g;
  Attrs a = {.leaf.name = arena_printf(g->arena, "%s.ring.%d", c->name, c->n_ring)};
  Type t = {.dtype = rows->type.dtype, .rank = 3, .dim = {dim_const(c->positions), {0, 1, 0}, rows->type.dim[1]}};
  Type flat = {.dtype = t.dtype, .rank = 2, .dim = {{0, c->positions, 0}, t.dim[2]}};
  Node *ring = graph_op(g, OP_STATE, NULL, 0, &a, &t);
  Node *in[3] = {graph_reshape(g, ring, &flat), c->row_slot, rows};
  if (!in[0]) return NULL;
  Node *after = graph_reshape(g, graph_op(g, OP_RING_WRITE, in, 3, NULL, NULL), &t);
  if (!after) return NULL;
  ARENA_PUSH(g->arena, c->ring, c->n_ring, c->cap_ring, ((Update){ring, after}));
  return after;
}

static void note_attend(Incremental *c, const AttendAttrs *attrs) {
  for (int i = 0; i < c->n_attend; i++)
    if (memcmp(c->attend[i].attrs, attrs, sizeof *attrs) == 0) return;
  SelfAttend s = {attrs, extent_new(c->g->arena, attrs)};
  ARENA_PUSH(c->g->arena, c->attend, c->n_attend, c->cap_attend, s);
}

static Node *self_attend(Incremental *c, DisplacedRows *at, Node *n) {
  if (n->attrs.attend.causal == CAUSAL_NONE)
    return refuse(c, n, "without causal = \"raster\" or \"past\" it sees tokens that are not there yet");
  Node *in[6] = {flat_rows(c, row_value(c, at, n->in[0]))}, *mask = attend_mask(n);
  for (int i = 1; i < 3; i++) {
    Node *rows = flat_rows(c, row_value(c, at, n->in[i]));
    in[i + 1] = rows ? ring_store(c, rows) : NULL;
  }
  if (!in[0] || !in[2] || !in[3]) return NULL;
  in[1] = c->rows;
  in[4] = c->slots;
  if (mask && !(in[5] = whole(c, mask))) return NULL;
  c->uses_rings = true;
  note_attend(c, &n->attrs.attend);
  return graph_op(c->g, OP_ATTEND_ROWS, in, mask ? 6 : 5, &n->attrs, NULL);
}

static Node *attend_rows(Incremental *c, DisplacedRows *at, Node *n) {
  if (at != c->places) return refuse(c, n, "a shift of what attention made would need another ring");
  for (int x = 0; x < 3; x++)
    if (n->attrs.attend.query_grid[x] != c->grid[x]) return refuse(c, n, "its queries are on another grid");
  bool live_k = c->live[n->in[1]->id], live_v = c->live[n->in[2]->id];
  if (live_k != live_v || !c->live[n->in[0]->id])
    return refuse(c, n, "queries, keys and values must all depend on the tokens, or only the queries");
  Node *y, *mask = attend_mask(n);
  if (mask && c->live[mask->id])
    return refuse(c, n, "its mask depends on the tokens: causal or extent must say what is not seen");
  if (live_k) {
    y = self_attend(c, at, n);
  } else {
    Node *in[5] = {flat_rows(c, row_value(c, at, n->in[0])), c->rows, whole(c, n->in[1]), whole(c, n->in[2])};
    if (!in[0] || !in[2] || !in[3] || (mask && !(in[4] = whole(c, mask)))) return NULL;
    y = graph_op(c->g, OP_ATTEND_ROWS, in, mask ? 5 : 4, &n->attrs, NULL);
  }
  Type rows = row_type(&n->type, grid_axes(c, &n->type));
  return y ? graph_reshape(c->g, y, &rows) : NULL;
}

static Node *live_rows(Incremental *c, DisplacedRows *at, Node *n) {
  if (n == c->tokens) return token_rows(c, at);
  switch (op_info[n->op].rows) {
  case ROWS_EACH: {
    Node **in = operand_rows(c, at, n);
    return in ? graph_op(c->g, n->op, in, n->n_in, &n->attrs, NULL) : NULL;
  }
  case ROWS_AXES: return move_rows(c, at, n);
  case ROWS_TABLE: return gather_rows_of_table(c, at, n);
  case ROWS_STENCIL: return shift_rows(c, at, n);
  case ROWS_PRODUCT: return matmul_rows(c, at, n);
  case ROWS_VISIBLE: return attend_rows(c, at, n);
  case ROWS_NEIGHBOURS: return refuse(c, n, "a convolution sees its neighbours");
  case ROWS_MIXED: return refuse(c, n, "it has no form for rows");
  case ROWS_NONE: case ROWS_EXPANDED: break;
  }
  BUG("%s depends on tokens", op_info[n->op].text);
}

static Node *row_value(Incremental *c, DisplacedRows *at, Node *n) {
  if (at->row_of[n->id]) return at->row_of[n->id];
  const Loc *here = c->g->here;
  c->g->here = n->loc;
  Node *r = c->live[n->id] ? live_rows(c, at, n) : fixed_rows(c, at, n);
  c->g->here = here;
  return at->row_of[n->id] = r;
}

/* ---- assembly ---- */

static Node *find_port(const Port *list, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (strcmp(list[i].name, name) == 0) return list[i].node;
  return NULL;
}

static bool check_signature(Incremental *c, const Node *logits) {
  const Type *t = &c->tokens->type, *l = &logits->type;
  char text[2][160];
  bool ok = t->dtype == DTYPE_I32 && t->rank == 4 && dim_equal(t->dim[0], (Dim){0, 1, 0}) && l->rank == 5;
  for (int i = 1; ok && i < 4; i++)
    ok = dim_is_const(t->dim[i]) && t->dim[i].c >= 1 && dim_equal(l->dim[i], t->dim[i]);
  ok = ok && dim_equal(l->dim[0], t->dim[0]) && dim_is_const(l->dim[4]) && l->dtype == DTYPE_F32;
  if (!ok)
    graph_error(
        c->g, c->f->loc,
        "decode \"%s\": tokens must be i32[batch,s,h,w] and logits f32[batch,s,h,w,classes]; they are %s and %s",
        c->name, type_print(t, text[0], sizeof text[0]), type_print(l, text[1], sizeof text[1]));
  return ok;
}

static bool begin(Incremental *c) {
  Graph *g = c->g;
  c->positions = 1;
  for (int x = 0; x < 3; x++) c->positions *= c->grid[x] = c->tokens->type.dim[x + 1].c;
  c->nodes = func_nodes(c->f, &c->n_nodes);
  c->n_ids = g->n_nodes;
  c->live = ARENA_ARRAY(g->arena, bool, c->n_ids);
  c->varies = ARENA_ARRAY(g->arena, bool, c->n_ids);
  c->kept = ARENA_ARRAY(g->arena, Node *, c->n_ids);
  for (int i = 0; i < c->n_nodes; i++) {
    Node *n = c->nodes[i];
    c->live[n->id] = n == c->tokens;
    c->varies[n->id] = n->op == OP_INPUT || n->op == OP_STATE;
    for (int k = 0; k < n->n_in; k++) {
      c->live[n->id] |= c->live[n->in[k]->id];
      c->varies[n->id] |= c->varies[n->in[k]->id];
    }
  }
  Type rows = {.dtype = DTYPE_I32, .rank = 2, .dim = {{0, 0, 1}, dim_const(2)}}, vector = rows_vector(DTYPE_I32);
  Type slots = {.dtype = DTYPE_I32, .rank = 1, .dim = {dim_const(c->positions)}};
  Type tokens = {.dtype = DTYPE_I32, .rank = 2, .dim = {{0, 1, 0}, dim_const(c->positions)}};
  c->rows = graph_op(g, OP_INPUT, NULL, 0, &(Attrs){.leaf.name = STEP_ROWS}, &rows);
  c->row_slot = graph_op(g, OP_INPUT, NULL, 0, &(Attrs){.leaf.name = STEP_ROW_SLOT}, &vector);
  c->slots = graph_op(g, OP_INPUT, NULL, 0, &(Attrs){.leaf.name = STEP_SLOTS}, &slots);
  c->token_state =
      graph_op(g, OP_STATE, NULL, 0, &(Attrs){.leaf.name = arena_printf(g->arena, "%s.tokens", c->name)}, &tokens);
  if (!c->rows || !c->row_slot || !c->slots || !c->token_state) return false;
  c->sample = rows_column(c, 0);
  return c->sample && place_from_index(c, place_new(c), rows_column(c, 1));
}

static Func *make_step(Incremental *c, Node *logits) {
  Node *rows = row_value(c, c->places, logits);
  if (!rows) return NULL;
  Type t = {.dtype = DTYPE_F32, .rank = 2, .dim = {{0, 0, 1}, logits->type.dim[4]}};
  Port out = {STEP_LOGITS, graph_reshape(c->g, rows, &t)};
  Port in[3] = {{STEP_ROWS, c->rows}, {STEP_ROW_SLOT, c->row_slot}, {STEP_SLOTS, c->slots}};
  Func *step = out.node
                   ? func_new(c->g, arena_printf(c->g->arena, "%s.step", c->name), in, c->uses_rings ? 3 : 1, &out, 1)
                   : NULL;
  if (!step) return NULL;
  step->update = c->ring;
  step->n_update = c->n_ring;
  return step;
}

static Func *make_prologue(Incremental *c) {
  Port *in = ARENA_ARRAY(c->g->arena, Port, c->f->n_in);
  int n = 0;
  for (int i = 0; i < c->f->n_in; i++)
    if (c->f->in[i].node != c->tokens) in[n++] = c->f->in[i];
  Func *p = func_new(c->g, arena_printf(c->g->arena, "%s.prologue", c->name), in, n, NULL, 0);
  if (!p) return NULL;
  p->update = c->keep;
  p->n_update = c->n_keep;
  return p;
}

Decode *pass_incremental(Func *f, const char *tokens, const char *logits) {
  Graph *g = f->graph;
  Node *input = find_port(f->in, f->n_in, tokens), *output = find_port(f->out, f->n_out, logits);
  if (!input) return graph_error(g, f->loc, "decode \"%s\": it has no input \"%s\"", f->name, tokens);
  if (!output) return graph_error(g, f->loc, "decode \"%s\": it has no output \"%s\"", f->name, logits);
  Func *plain = pass_expand(f);
  if (!plain) return NULL;
  Incremental c = {.f = plain, .g = g, .name = f->name, .tokens = find_port(plain->in, plain->n_in, tokens)};
  output = find_port(plain->out, plain->n_out, logits);
  if (!check_signature(&c, output) || !begin(&c)) return NULL;
  if (!c.live[output->id])
    return graph_error(g, f->loc, "decode \"%s\": the logits do not depend on the tokens", f->name);
  Decode *d = ARENA_NEW(g->arena, Decode);
  d->name = f->name;
  memcpy(d->grid, c.grid, sizeof d->grid);
  d->vocab = output->type.dim[4].c;
  d->step = make_step(&c, output);
  d->prologue = d->step ? make_prologue(&c) : NULL;
  if (!d->prologue) return NULL;
  d->attend = c.attend;
  d->n_attend = c.n_attend;
  d->stencil = c.stencil;
  d->n_stencil = c.n_stencil;
  d->raster = wavefront_raster(d->grid);
  const Loc *here = g->here;
  g->here = f->loc;
  bool found = wavefront_find(g, d->grid, d->attend, d->n_attend, d->stencil, d->n_stencil, &d->wavefront);
  g->here = here;
  return found ? d : NULL;
}
