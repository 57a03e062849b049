/* Random functions: DAGs of maps, moves, reductions and products over a few shapes, with outputs, states and
 * updates. */
#ifndef NUWA_PASS_RANDOM_H
#define NUWA_PASS_RANDOM_H

#include "tests/unit/passes/pass_case.h"

typedef struct Rng { uint64_t seed; uint32_t at; } Rng;

static inline int rng_below(Rng *r, int n) {
  return (int)(philox(r->seed, r->at++, 0, STREAM_TEST).word[0] % (uint32_t)n);
}

typedef struct Pool { Node *node[200]; int n; } Pool;

static inline Node *pool_pick(Pool *p, Rng *r, int rank) {
  for (int tries = 0; tries < 40; tries++) {
    Node *n = p->node[p->n - 1 - rng_below(r, tries < 20 && p->n > 8 ? 8 : p->n)];
    if (n->type.rank == rank) return n;
  }
  for (int i = 0;; i++) {
    if (p->node[i]->type.rank == rank) return p->node[i];
  }
}

/* Shapes are [B,12,16], [B,12] and [16] only, so that most nodes can meet. */
static inline Type random_type(int rank) {
  Dim full[] = {{0, 1, 0}, {12, 0, 0}, {16, 0, 0}};
  return type_make(DTYPE_F32, rank, rank == 1 ? full + 2 : full);
}

static inline Node *random_leaf(Graph *g, Op op, const char *name, int rank) {
  Attrs a = {.leaf = {.name = name, .init = {INIT_NORMAL, 1}}};
  Type t = random_type(rank);
  return graph_op(g, op, NULL, 0, &a, &t);
}

static inline Node *random_map(Graph *g, Pool *p, Rng *r) {
  static const Op unary[] = {OP_NEG, OP_ABS, OP_TANH, OP_SIN, OP_DETACH},
                  binary[] = {OP_ADD, OP_SUB, OP_MUL, OP_MAXIMUM};
  int rank = 1 + rng_below(r, 3);
  Node *x = pool_pick(p, r, rank), *y = pool_pick(p, r, rank);
  switch (rng_below(r, 4)) {
    case 0: return graph_unary(g, unary[rng_below(r, 5)], x);
    case 1: return graph_binary(g, OP_ADD, x, graph_fill_like(g, rng_below(r, 3) - 1, x));
    default: return graph_binary(g, binary[rng_below(r, 4)], x, y);
  }
}

/* A move that keeps the shape [B,12,16]: there and back, or one of equal size. */
static inline Node *random_move(Graph *g, Pool *p, Rng *r) {
  Node *x = pool_pick(p, r, 3);
  Attrs a = {.axes = {1 + rng_below(r, 3) * 2}};
  Type flat = type_make(DTYPE_F32, 2, (Dim[]){{0, 12, 0}, {16, 0, 0}}), other = random_type(3);
  switch (rng_below(r, 4)) {
    case 0: return graph_op(g, OP_REVERSE, &x, 1, &a, NULL);
    case 1: return graph_reshape(g, graph_unary(g, OP_SIN, graph_reshape(g, x, &flat)), &other);
    case 2:
      return graph_transpose(g, graph_unary(g, OP_ABS, graph_transpose(g, x, (int64_t[]){0, 2, 1})),
                             (int64_t[]){0, 2, 1});
    default: return graph_broadcast(g, pool_pick(p, r, 1), &other);
  }
}

static inline Node *random_heavy(Graph *g, Pool *p, Rng *r) {
  Node *x = pool_pick(p, r, 3), *y = pool_pick(p, r, 3);
  Type full = random_type(3);
  switch (rng_below(r, 6)) {
    case 0: return graph_sum(g, x, 1u << 2);
    case 1: return graph_max(g, x, 1u << 2);
    case 2: return graph_sum(g, x, 3);
    case 3: return graph_broadcast(g, graph_insert_axes(g, pool_pick(p, r, 2), 1u << 2), &full);
    case 4: return graph_matmul(g, graph_matmul(g, x, y, false, true), y, false, false);
    default: {
      Attrs a = {.leaf = {.name = "w", .init = {INIT_NORMAL, 1}}};
      Type t = type_make(DTYPE_F32, 2, (Dim[]){{16, 0, 0}, {16, 0, 0}});
      return graph_matmul(g, x, graph_op(g, OP_PARAM, NULL, 0, &a, &t), false, rng_below(r, 2));
    }
  }
}

/* A function of about n nodes with updates of states s1..s3 and a few outputs. */
static inline Func *random_func(PassCase *c, uint64_t seed, int n) {
  Rng r = {seed, 0};
  Pool p = {0};
  Graph *g = c->g = graph_new(&c->err);
  c->B = 2;
  c->R = 1;
  Node *x = random_leaf(g, OP_INPUT, "x", 3), *b = random_leaf(g, OP_INPUT, "b", 1);
  Node *state[3] = {random_leaf(g, OP_STATE, "s1", 1), random_leaf(g, OP_STATE, "s2", 2),
                    random_leaf(g, OP_STATE, "s3", 3)};
  p.node[p.n++] = x, p.node[p.n++] = b;
  for (int i = 0; i < 3; i++) p.node[p.n++] = state[i];
  while (p.n < n) {
    int what = rng_below(&r, 10);
    Node *m = what < 5 ? random_map(g, &p, &r) : what < 7 ? random_move(g, &p, &r) : random_heavy(g, &p, &r);
    if (!m) return NULL;
    p.node[p.n++] = m;
  }
  Port in[] = {{"x", x}, {"b", b}},
       out[] = {{"o1", p.node[n - 1]}, {"o2", p.node[n - 4]}, {"o3", pool_pick(&p, &r, 1)}};
  Func *f = func_new(g, "f", in, 2, out, 3);
  if (!f) return NULL;
  f->update = ARENA_ARRAY(g->arena, Update, 3);
  for (int i = 0; i < 3; i++) f->update[f->n_update++] = (Update){state[i], pool_pick(&p, &r, i + 1)};
  return f;
}

#endif
