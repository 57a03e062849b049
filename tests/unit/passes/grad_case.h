/* Gradients against central differences in f64, through the interpreter. */
#ifndef NUWA_TESTS_GRAD_CASE_H
#define NUWA_TESTS_GRAD_CASE_H

#include "passes/passes.h"
#include "tests/unit/passes/store.h"

enum { GRAD_MOST_WRT = 64, GRAD_MOST_ELEMS = 40 };

typedef struct GradCase {
  Error err;
  Graph *g;
  Store store;
  Node *wrt[GRAD_MOST_WRT];
  int n_wrt;
  double worst;            /* largest difference, over the largest value */
  int64_t compared;        /* elements */
} GradCase;

static inline void grad_case_init(GradCase *c) {
  *c = (GradCase){0};
  c->g = graph_new(&c->err);
  store_init(&c->store, 2);
}

static inline void grad_case_done(GradCase *c) {
  store_done(&c->store);
  graph_free(c->g);
}

/* An input of the type of `like`. */
static inline Node *grad_case_input(GradCase *c, const char *name, const Type *t) {
  Attrs a = {.leaf.name = arena_strdup(c->g->arena, name)};
  return graph_op(c->g, OP_INPUT, NULL, 0, &a, t);
}

/* All float inputs and params that f reaches are differentiated. */
static inline void grad_case_take_leafs(GradCase *c, const Func *f) {
  int n;
  Node **nodes = func_nodes(f, &n);
  for (int i = 0; i < n; i++)
    if ((nodes[i]->op == OP_INPUT || nodes[i]->op == OP_PARAM) && dtype_is_float(nodes[i]->type.dtype))
      c->wrt[c->n_wrt++] = nodes[i];
}

/* sum of x times an input of its own, a scalar: every element counts differently. */
static inline Node *grad_case_weigh(GradCase *c, Node *x, const char *name) {
  if (!x) return NULL;
  Node *y = graph_binary(c->g, OP_MUL, x, grad_case_input(c, name, &x->type));
  return y && y->type.rank ? graph_sum(c->g, y, (1u << y->type.rank) - 1) : y;
}

/* A verified function of these outputs; its inputs are what they reach.  NULL after a diagnostic. */
static inline Func *grad_case_func(GradCase *c, Node *const *node, int n) {
  Port out[GRAD_MOST_WRT], in[GRAD_MOST_WRT];
  int n_nodes, n_in = 0;
  for (int i = 0; i < n; i++) out[i] = (Port){arena_printf(c->g->arena, "o%03d", i), node[i]};
  Func *f = func_new(c->g, "f", NULL, 0, out, n);
  Node **nodes = f ? func_nodes(f, &n_nodes) : NULL;
  for (int i = 0; nodes && i < n_nodes; i++)
    if (nodes[i]->op == OP_INPUT) in[n_in++] = (Port){nodes[i]->attrs.leaf.name, nodes[i]};
  f = func_new(c->g, "f", in, n_in, out, n);
  return f && func_verify(f, FORM_ANY, "grad", &c->err) ? f : NULL;
}

static inline bool grad_case_eval(GradCase *c, Node *const *node, int n, Arena *a, Tensor *out) {
  Func *f = grad_case_func(c, node, n);
  return f && interp_run(f, c->store.B, 3, store_leaf, &c->store, a, out, NULL, &c->err);
}

static inline double grad_case_loss(GradCase *c, const Func *y) {
  Arena *a = arena_new();
  Tensor t;
  double v = interp_run(y, c->store.B, 3, store_leaf, &c->store, a, &t, NULL, &c->err) ? t.data[0] : NAN;
  arena_free(a);
  return v;
}

/* (y(x + h) - y(x - h)) / 2h */
static inline double grad_case_difference(GradCase *c, const Func *y, double *x) {
  const double h = 1e-5, at = *x;
  *x = at + h;
  double up = grad_case_loss(c, y);
  *x = at - h;
  double down = grad_case_loss(c, y);
  *x = at;
  return (up - down) / (2 * h);
}

/* Compares dx with differences, at up to GRAD_MOST_ELEMS elements of each. */
static inline bool grad_case_compare(GradCase *c, Node *y, Node *const *dx) {
  Tensor out[GRAD_MOST_WRT];
  Arena *a = arena_new();
  double most = 1, worst = 0;
  Func *f = grad_case_func(c, &y, 1);
  bool ok = f && isfinite(grad_case_loss(c, f)) && grad_case_eval(c, dx, c->n_wrt, a, out);
  for (int i = 0; ok && i < c->n_wrt; i++) {
    Tensor *x = store_find(&c->store, c->wrt[i]->attrs.leaf.name);
    int64_t n = tensor_elems(&out[i]), step = n / GRAD_MOST_ELEMS + 1;
    for (int64_t k = 0; k < n; k += step) {
      if (!x) {   /* nothing reads it */
        worst = fmax(worst, fabs(out[i].data[k]));
        continue;
      }
      c->compared++;
      double d = grad_case_difference(c, f, &x->data[k]);
      most = fmax(most, fabs(d));
      worst = isfinite(d - out[i].data[k]) ? fmax(worst, fabs(d - out[i].data[k])) : INFINITY;
    }
  }
  arena_free(a);
  c->worst = worst / most;
  return ok && c->worst <= 1e-7;
}

/* First order; then, if `twice`, the gradient of the weighed sum of the gradients. */
static inline bool grad_case_check(GradCase *c, Node *y, bool twice) {
  Node *dx[GRAD_MOST_WRT], *sum = NULL;
  if (!y || c->err.code || !grad_build(c->g, y, c->wrt, c->n_wrt, dx) || !grad_case_compare(c, y, dx)) return false;
  if (!twice) return true;
  for (int i = 0; i < c->n_wrt; i++) {
    Node *s = grad_case_weigh(c, dx[i], arena_printf(c->g->arena, "v%d", i));
    sum = sum ? graph_binary(c->g, OP_ADD, sum, s) : s;
  }
  return sum && grad_build(c->g, sum, c->wrt, c->n_wrt, dx) && grad_case_compare(c, sum, dx);
}

#endif
