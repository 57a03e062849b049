/* Random fused DAGs of maps, index maps and reductions: whatever fits the families' contracts must agree with the
 * interpreter, for several numbers of samples and on every instruction set. */
#include "tests/unit/codegen/lower_check.h"

typedef struct Rng {
  uint32_t seed, at;
} Rng;

static uint32_t draw(Rng *r, uint32_t n) { return philox(r->seed, r->at++, 0, STREAM_TEST).word[0] % n; }

static Dim draw_dim(Rng *r, bool symbolic) {
  static const int64_t sizes[] = {1, 2, 3, 5, 7, 8, 16, 17, 20, 33, 48};
  if (symbolic && draw(r, 5) == 0) return (Dim){0, 1 + draw(r, 2), 0};
  return dim_const(sizes[draw(r, COUNT_OF(sizes))]);
}

/* At most one symbolic axis, rank 1 to 4. */
static Type draw_type(Rng *r) {
  Dim d[4];
  int rank = 1 + (int)draw(r, 4);
  bool symbolic = true;
  for (int i = 0; i < rank; i++) {
    d[i] = draw_dim(r, symbolic);
    symbolic &= dim_is_const(d[i]);
    if (i >= 2 && dim_is_const(d[i]) && d[i].c > 8) d[i].c = d[i].c % 5 + 1;
  }
  return type_make(DTYPE_F32, rank, d);
}

typedef struct Gen {
  Rng rng;
  Graph *g;
  Port in[40];
  int n_in;
} Gen;

static Node *leaf(Gen *s, const Type *t, const char *kind) {
  if (s->n_in == 40) return graph_fill(s->g, 0.5, t);
  char *name = arena_printf(s->g->arena, "%s%d", kind, s->n_in);
  Attrs a = {.leaf.name = name};
  Node *n = graph_op(s->g, OP_INPUT, NULL, 0, &a, t);
  s->in[s->n_in++] = (Port){name, n};
  return n;
}

static Node *value(Gen *s, Type t, int depth);

static Node *move_reshape(Gen *s, Type t, int depth) {
  Dim n;
  Type from = t;
  if (!type_elems(&t, &n)) return leaf(s, &t, "x");
  if (draw(&s->rng, 2) && t.rank > 1) { /* merge two axes */
    int a = (int)draw(&s->rng, (uint32_t)t.rank - 1);
    if (!type_elems_range(&t, a, a + 2, &from.dim[a])) return leaf(s, &t, "x");
    for (int i = a + 1; i < t.rank - 1; i++) from.dim[i] = t.dim[i + 1];
    from.rank--;
  } else {
    from = type_make(DTYPE_F32, 1, &n);
  }
  return graph_reshape(s->g, value(s, from, depth), &t);
}

static Node *move_transpose(Gen *s, Type t, int depth) {
  int64_t perm[MAX_RANK];
  Type from = t;
  for (int i = 0; i < t.rank; i++) perm[i] = i;
  for (int i = t.rank - 1; i > 0; i--) {
    int j = (int)draw(&s->rng, (uint32_t)i + 1);
    int64_t p = perm[i];
    perm[i] = perm[j];
    perm[j] = p;
  }
  for (int i = 0; i < t.rank; i++) from.dim[perm[i]] = t.dim[i];
  return graph_transpose(s->g, value(s, from, depth), perm);
}

static Node *move_broadcast(Gen *s, Type t, int depth) {
  int drop = (int)draw(&s->rng, (uint32_t)t.rank);
  Type from = type_make(DTYPE_F32, t.rank - drop, t.dim + drop);
  for (int i = 0; i < from.rank; i++)
    if (draw(&s->rng, 3) == 0) from.dim[i] = dim_const(1);
  return graph_broadcast(s->g, value(s, from, depth), &t);
}

static Node *move_slice(Gen *s, Type t, int depth) {
  Type from = t;
  Attrs a = {0};
  for (int i = 0; i < t.rank; i++) {
    int64_t lo = draw(&s->rng, 3), hi = draw(&s->rng, 3), step = dim_is_const(t.dim[i]) ? 1 + draw(&s->rng, 2) : 1;
    from.dim[i] = dim_add(dim_scale(t.dim[i], step), dim_const(lo + hi));
    a.slice.start[i] = dim_const(lo);
    a.slice.stop[i] = dim_add(dim_scale(t.dim[i], step), dim_const(lo));
    a.slice.step[i] = step;
  }
  Node *x = value(s, from, depth);
  return x ? graph_op(s->g, OP_SLICE, &x, 1, &a, NULL) : NULL;
}

static Node *move_pad(Gen *s, Type t, int depth) {
  Type from = t;
  Attrs a = {.pad.value = -0.25};
  for (int i = 0; i < t.rank; i++) {
    if (!dim_is_const(t.dim[i]) || t.dim[i].c < 4) continue;
    int64_t n = t.dim[i].c, lo = draw(&s->rng, 3), interior = draw(&s->rng, 2), have = 1 + draw(&s->rng, 3);
    while (have * (1 + interior) - interior + lo > n) have--;
    if (have < 1) continue;
    if (interior == 0) have = n - lo - draw(&s->rng, 2);
    from.dim[i] = dim_const(have);
    a.pad.lo[i] = dim_const(lo);
    a.pad.hi[i] = dim_const(n - lo - (have * (1 + interior) - interior));
    a.pad.interior[i] = interior;
  }
  Node *x = value(s, from, depth);
  return x ? graph_op(s->g, OP_PAD, &x, 1, &a, NULL) : NULL;
}

static Node *move_concat(Gen *s, Type t, int depth) {
  int axis = (int)draw(&s->rng, (uint32_t)t.rank);
  if (!dim_is_const(t.dim[axis]) || t.dim[axis].c < 2) return leaf(s, &t, "x");
  Type x = t, y = t;
  int64_t n = t.dim[axis].c, part = 1 + draw(&s->rng, (uint32_t)n - 1);
  x.dim[axis] = dim_const(part);
  y.dim[axis] = dim_const(n - part);
  Node *in[2] = {value(s, x, depth), value(s, y, depth)};
  Attrs a = {.axis.axis = axis};
  return in[0] && in[1] ? graph_op(s->g, OP_CONCAT, in, 2, &a, NULL) : NULL;
}

static Node *move_gather(Gen *s, Type t, int depth) {
  int m = (int)draw(&s->rng, (uint32_t)t.rank + 1);
  Type index = type_make(DTYPE_I32, m, t.dim), x = t;
  x.rank = 1 + t.rank - m;
  x.dim[0] = dim_const(9);
  for (int i = m; i < t.rank; i++) x.dim[1 + i - m] = t.dim[i];
  Node *in[2] = {value(s, x, depth), leaf(s, &index, "i")};
  return in[0] ? graph_op(s->g, OP_GATHER, in, 2, NULL, NULL) : NULL;
}

static Node *move_reverse(Gen *s, Type t, int depth) {
  Attrs a = {.axes.axes = 1 + draw(&s->rng, (1u << t.rank) - 1)};
  Node *x = value(s, t, depth);
  return x ? graph_op(s->g, OP_REVERSE, &x, 1, &a, NULL) : NULL;
}

static Node *map_op(Gen *s, Type t, int depth) {
  static const Op one[] = {OP_NEG, OP_ABS, OP_TANH, OP_ERF, OP_SIN, OP_EXP};
  static const Op two[] = {OP_ADD, OP_SUB, OP_MUL, OP_MAXIMUM, OP_MINIMUM};
  if (draw(&s->rng, 3) == 0) {
    Node *x = value(s, t, depth);
    Op op = one[draw(&s->rng, COUNT_OF(one))];
    if (op == OP_EXP) x = graph_unary(s->g, OP_SIN, x); /* bounded */
    return graph_unary(s->g, op, x);
  }
  Node *x = value(s, t, depth), *y = value(s, t, depth);
  if (draw(&s->rng, 5) == 0) return graph_select(s->g, graph_binary(s->g, OP_LT, x, y), y, x);
  return graph_binary(s->g, two[draw(&s->rng, COUNT_OF(two))], x, y);
}

static Node *value(Gen *s, Type t, int depth) {
  static Node *(*const moves[])(Gen *, Type, int) = {move_reshape, move_transpose, move_broadcast, move_slice,
                                                     move_pad,     move_concat,    move_gather,    move_reverse};
  t.dtype = DTYPE_F32;
  if (depth <= 0 || t.rank == 0) return leaf(s, &t, "x");
  if (draw(&s->rng, 2)) return map_op(s, t, depth - 1);
  return moves[draw(&s->rng, COUNT_OF(moves))](s, t, depth - 1);
}

static Func *finish(Gen *s, const Port *out, int n) { return func_new(s->g, "f", s->in, s->n_in, out, n); }

static Func *build_map(Check *c) {
  Gen s = {.rng = {c->seed, 0}, .g = c->graph};
  Type t = draw_type(&s.rng);
  Node *x = graph_unary(s.g, OP_NEG, value(&s, t, 5));
  Node *y = graph_binary(s.g, OP_ADD, x, value(&s, t, 3));
  if (!x || !y) return NULL;
  Port out[] = {{"x", x}, {"y", y}};
  return finish(&s, out, 2);
}

static void check_maps(uint32_t count) {
  for (uint32_t seed = 0; seed < count; seed++)
    for (int64_t B = 1; B <= 3; B += 2)
      check_run(&(Check){.family = FAMILY_MAP,
                         .build = build_map,
                         .seed = seed,
                         .B = B,
                         .R = 1,
                         .interpret_only = seed % 10 != 0 || B == 1});
}

/* A chain of reductions over the same axes, row-level steps between them, results of both levels. */
static Func *build_reduce(Check *c) {
  Gen s = {.rng = {c->seed + 1000, 0}, .g = c->graph};
  Type t = draw_type(&s.rng), kept = {.dtype = DTYPE_F32}, ones = t;
  uint32_t axes = 1 + draw(&s.rng, (1u << t.rank) - 1);
  for (int i = 0; i < t.rank; i++)
    if (axes >> i & 1)
      ones.dim[i] = dim_const(1);
    else
      kept.dim[kept.rank++] = t.dim[i];
  Node *x = value(&s, t, 3), *last = NULL, *row = NULL;
  int n = 1 + (int)draw(&s.rng, 3);
  for (int i = 0; i < n; i++) {
    Node *r = draw(&s.rng, 3) ? graph_sum(s.g, x, axes) : graph_max(s.g, x, axes);
    row = graph_unary(s.g, OP_TANH, row ? graph_binary(s.g, OP_ADD, r, row) : r);
    row = graph_binary(s.g, OP_MUL, row, leaf(&s, &kept, "x"));
    Node *wide = graph_broadcast(s.g, graph_reshape(s.g, row, &ones), &t);
    x = graph_binary(s.g, OP_SUB, draw(&s.rng, 2) ? graph_unary(s.g, OP_EXP, graph_unary(s.g, OP_SIN, x)) : x, wide);
    last = r;
  }
  if (!x || !last || !row) return NULL;
  Port out[] = {{"a", x}, {"b", last}, {"c", row}};
  return finish(&s, out, 3);
}

static void check_chains(uint32_t count) {
  for (uint32_t seed = 0; seed < count; seed++)
    for (int64_t B = 1; B <= 5; B += 4)
      check_run(&(Check){.family = FAMILY_REDUCE,
                         .build = build_reduce,
                         .seed = seed,
                         .B = B,
                         .R = 1,
                         .interpret_only = seed % 10 != 0 || B == 1});
}

TEST("random maps agree with the interpreter") { check_maps(75); }
LONG_TEST("so do many") { check_maps(600); }

TEST("random chains of reductions agree with the interpreter") { check_chains(75); }
LONG_TEST("and many of those") { check_chains(600); }

TEST_MAIN()
