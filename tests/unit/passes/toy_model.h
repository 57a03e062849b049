/* Small models for tests: an encoder-decoder over grids, built as the Lua layers build it. */
#ifndef NUWA_TESTS_TOY_MODEL_H
#define NUWA_TESTS_TOY_MODEL_H

#include "passes/passes.h"

typedef enum ToyShape {
  TOY_GRID,
  TOY_ROWS,
  TOY_SEQUENCE
} ToyShape; /* feed-forward on [B,S,H,W,d], [B*P,d], [B,P,d] */

typedef struct Toy {
  int64_t grid[3], cond_grid[3];   /* cond_grid[0] == 0: no encoder */
  int64_t dim, heads, vocab, layers;
  AttendAttrs self, cross;         /* grids and heads are filled in */
  struct { int64_t delta[3]; bool raster; } stencil[4];
  int n_stencil;
  ToyShape shape;
  bool is_tied, has_position, position_on_batch, has_style, concat_stencil;
  bool position_inside;            /* positions are added before the stencil */
  bool add_cond;                   /* the encoder has the decoder's grid and is added before the stencil */
  bool shift_twice;                /* an entry of the stencil is a shift of a shift */
  AttendAttrs odd;                 /* self-attention of odd layers, when heads > 0 there */
} Toy;

typedef struct ToyBuild {
  const Toy *m;
  Graph *g;
  Type tokens, states;             /* i32 [B,S,H,W], f32 [B,S,H,W,d] */
} ToyBuild;

static inline Type toy_type(DType t, int rank, int64_t a, int64_t b) {
  return (Type){.dtype = t, .rank = rank, .dim = {dim_const(a), dim_const(b)}};
}

static inline Node *toy_param(ToyBuild *b, const char *layer, const char *name, int rank, int64_t x, int64_t y) {
  Attrs a = {.leaf = {arena_printf(b->g->arena, "%s.%s", layer, name), {INIT_NORMAL, 0.02}}};
  Type t = toy_type(DTYPE_F32, rank, x, y);
  return graph_op(b->g, OP_PARAM, NULL, 0, &a, &t);
}

static inline Node *toy_input(ToyBuild *b, const char *name, const Type *t) {
  Attrs a = {.leaf.name = name};
  return graph_op(b->g, OP_INPUT, NULL, 0, &a, t);
}

static inline Node *toy_add(ToyBuild *b, Node *x, Node *y) {
  return y ? graph_binary(b->g, OP_ADD, x, graph_broadcast(b->g, y, &x->type)) : NULL;
}

static inline Node *toy_linear(ToyBuild *b, const char *layer, const char *name, Node *x, int64_t to) {
  int64_t from = x->type.dim[x->type.rank - 1].c;
  Node *y = graph_matmul(b->g, x, toy_param(b, layer, name, 2, from, to), false, false);
  return toy_add(b, y, toy_param(b, layer, arena_printf(b->g->arena, "%s.bias", name), 1, to, 0));
}

static inline Node *toy_norm(ToyBuild *b, const char *layer, const char *name, Node *x) {
  int64_t d = b->m->dim;
  Attrs a = {.norm = {.eps = 1e-5}};
  Node *in[3] = {x, toy_param(b, layer, arena_printf(b->g->arena, "%s.gain", name), 1, d, 0),
                 toy_param(b, layer, arena_printf(b->g->arena, "%s.shift", name), 1, d, 0)};
  return graph_op(b->g, OP_LAYER_NORM, in, 3, &a, NULL);
}

static inline Node *toy_embed(ToyBuild *b, const char *layer, Node *tokens) {
  Node *in[2] = {toy_param(b, layer, "table", 2, b->m->vocab, b->m->dim), tokens};
  return graph_op(b->g, OP_GATHER, in, 2, NULL, NULL);
}

/* A table for each axis, summed: over the positions first and then to all samples, or each to all samples. */
static inline Node *toy_position(ToyBuild *b, const char *layer, Node *x) {
  Node *sum = NULL;
  Type all = x->type;
  if (!b->m->position_on_batch) {
    all.rank = 4;
    for (int i = 0; i < 4; i++) all.dim[i] = x->type.dim[i + 1];
  }
  for (int axis = 0; axis < 3; axis++) {
    Type t = {.dtype = DTYPE_F32, .rank = 4, .dim = {dim_const(1), dim_const(1), dim_const(1), dim_const(b->m->dim)}};
    t.dim[axis] = x->type.dim[axis + 1];
    Node *table =
        toy_param(b, layer, arena_printf(b->g->arena, "position.%c", "shw"[axis]), 2, t.dim[axis].c, b->m->dim);
    table = graph_broadcast(b->g, graph_reshape(b->g, table, &t), &all);
    sum = sum ? graph_binary(b->g, OP_ADD, sum, table) : table;
  }
  return toy_add(b, x, sum);
}

static inline Node *toy_attend(ToyBuild *b, const char *layer, const AttendAttrs *attrs, Node *x, Node *from) {
  Attrs a = {.attend = *attrs};
  a.attend.heads = b->m->heads;
  Node *in[3] = {toy_linear(b, layer, "q", x, b->m->dim), toy_linear(b, layer, "k", from, b->m->dim),
                 toy_linear(b, layer, "v", from, b->m->dim)};
  return toy_linear(b, layer, "o", graph_op(b->g, OP_ATTEND, in, 3, &a, NULL), b->m->dim);
}

static inline Node *toy_feed_forward(ToyBuild *b, const char *layer, Node *x) {
  Type shape = x->type, flat = {.dtype = DTYPE_F32};
  if (b->m->shape == TOY_SEQUENCE) flat.dim[flat.rank++] = x->type.dim[0];
  int from = flat.rank;
  flat.rank++;
  if (!type_elems_range(&shape, from, 4, &flat.dim[from])) return NULL;
  flat.dim[flat.rank++] = x->type.dim[4];
  if (b->m->shape != TOY_GRID) x = graph_reshape(b->g, x, &flat);
  x = graph_unary(b->g, OP_GELU, toy_linear(b, layer, "up", x, 2 * b->m->dim));
  return graph_reshape(b->g, toy_linear(b, layer, "down", x, b->m->dim), &shape);
}

static inline Node *toy_encoder(ToyBuild *b) {
  Type t = {.dtype = DTYPE_I32, .rank = 4, .dim = {{0, 1, 0}}};
  for (int x = 0; x < 3; x++) t.dim[x + 1] = dim_const(b->m->cond_grid[x]);
  Node *x = toy_position(b, "enc", toy_embed(b, "enc", toy_input(b, "cond", &t)));
  AttendAttrs all = {.kind = ATTEND_FULL};
  return toy_add(b, x, toy_attend(b, "enc.self", &all, toy_norm(b, "enc", "norm", x), x));
}

static inline Node *toy_shifted(ToyBuild *b, Node *x) {
  Node *part[4], *sum = NULL;
  for (int i = 0; i < b->m->n_stencil; i++) {
    char *name = arena_printf(b->g->arena, "stencil.%d", i);
    Attrs a = {.shift = {.raster = b->m->stencil[i].raster}};
    for (int k = 0; k < 3; k++) a.shift.delta[k] = b->m->stencil[i].delta[k];
    Node *in[2] = {x, toy_param(b, name, "start", 1, b->m->dim, 0)};
    part[i] = graph_op(b->g, OP_SHIFT, in, 2, &a, NULL);
    if (b->m->shift_twice && part[i] && !a.shift.raster) {
      Attrs more = {.shift.delta = {-1, i % 2, 0}};
      Node *again[2] = {part[i], toy_param(b, name, "again", 1, b->m->dim, 0)};
      part[i] = toy_add(b, part[i], graph_op(b->g, OP_SHIFT, again, 2, &more, NULL));
    }
    if (b->m->concat_stencil) continue;
    Node *y = toy_linear(b, name, "mix", part[i], b->m->dim);
    sum = sum ? toy_add(b, sum, y) : y;
  }
  Attrs last = {.axis.axis = 4};
  if (!b->m->concat_stencil) return sum;
  return toy_linear(b, "stencil", "mix", graph_op(b->g, OP_CONCAT, part, b->m->n_stencil, &last, NULL), b->m->dim);
}

static inline Node *toy_layer(ToyBuild *b, int i, Node *x, Node *cond) {
  char *name = arena_printf(b->g->arena, "dec.%d", i), *cross = arena_printf(b->g->arena, "dec.%d.cross", i);
  Node *n = toy_norm(b, name, "norm", x);
  x = toy_add(b, x, toy_attend(b, name, i % 2 && b->m->odd.heads ? &b->m->odd : &b->m->self, n, n));
  if (cond) x = toy_add(b, x, toy_attend(b, cross, &b->m->cross, toy_norm(b, cross, "norm", x), cond));
  return toy_add(b, x, toy_feed_forward(b, name, toy_norm(b, name, "norm2", x)));
}

/* logits f32 [B,S,H,W,V] */
static inline Node *toy_logits(ToyBuild *b, Node *tokens, Node *cond, Node *style) {
  Node *x = toy_embed(b, "dec", tokens);
  if (b->m->add_cond) x = toy_add(b, x, cond);
  if (b->m->position_inside) x = toy_position(b, "inner", x);
  x = toy_shifted(b, x);
  if (b->m->has_position) x = toy_position(b, "dec", x);
  if (style) {
    Type t = {.dtype = DTYPE_F32,
              .rank = 5,
              .dim = {{0, 1, 0}, dim_const(1), dim_const(1), dim_const(1), dim_const(b->m->dim)}};
    x = graph_binary(b->g, OP_MUL, x, graph_broadcast(b->g, graph_reshape(b->g, style, &t), &x->type));
  }
  for (int i = 0; i < b->m->layers; i++) x = toy_layer(b, i, x, cond);
  x = toy_norm(b, "dec", "last", x);
  if (!b->m->is_tied) return toy_linear(b, "dec", "head", x, b->m->vocab);
  return graph_matmul(b->g, x, toy_param(b, "dec", "table", 2, b->m->vocab, b->m->dim), false, true);
}

/* fn(tokens[, cond][, style]) -> logits.  NULL after a diagnostic. */
static inline Func *toy_build(Graph *g, const Toy *m) {
  ToyBuild b = {.m = m, .g = g, .tokens = {.dtype = DTYPE_I32, .rank = 4, .dim = {{0, 1, 0}}}};
  for (int x = 0; x < 3; x++) b.tokens.dim[x + 1] = dim_const(m->grid[x]);
  Type style = {.dtype = DTYPE_F32, .rank = 2, .dim = {{0, 1, 0}, dim_const(m->dim)}};
  Node *tokens = toy_input(&b, "tokens", &b.tokens), *by = m->has_style ? toy_input(&b, "style", &style) : NULL;
  Node *cond = m->cond_grid[0] ? toy_encoder(&b) : NULL, *logits = toy_logits(&b, tokens, cond, by);
  if (!logits) return NULL;
  Port in[3] = {{"tokens", tokens}}, out = {"logits", logits};
  int n = 1;
  if (by) in[n++] = (Port){"style", by};
  Type c = {.dtype = DTYPE_I32, .rank = 4, .dim = {{0, 1, 0}}};
  for (int x = 0; x < 3; x++) c.dim[x + 1] = dim_const(m->cond_grid[x]);
  if (cond) in[n++] = (Port){"cond", toy_input(&b, "cond", &c)};
  return func_new(g, "decode", in, n, &out, 1);
}

#endif
