/* Moves what depends only on params out of a function, into one that runs when weights are loaded.
 * needs: any form.  gives: the same function over STATEs "prepare.<function>.<k>", and the function that fills them.
 * Index maps that only view a param (reshape, broadcast) stay: they are free, and a broadcast would only grow. */
#include <string.h>

#include "passes/passes.h"

static bool is_view(const Node *n) {
  return n->op == OP_RESHAPE || n->op == OP_BROADCAST || n->op == OP_DETACH || n->op == OP_PARAM ||
         n->op == OP_FILL || n->op == OP_IOTA;
}

typedef struct Layout {
  Func *f;
  Node **nodes;
  int n_nodes;
  bool *fixed;          /* by id: depends on params and constants only */
  bool *computed;       /* by id: fixed, and some arithmetic or reordering of a param is in it */
  Node **state;         /* by id: the state that replaces it, or NULL */
  Update *update;       /* of the prepare function */
  int n_update, cap_update;
} Layout;

static bool has_const_type(const Node *n) {
  for (int i = 0; i < n->type.rank; i++)
    if (!dim_is_const(n->type.dim[i])) return false;
  return true;
}

static void classify(Layout *l) {
  for (int i = 0; i < l->n_nodes; i++) {
    Node *n = l->nodes[i];
    bool fixed = n->op != OP_INPUT && n->op != OP_STATE && has_const_type(n), from_param = n->op == OP_PARAM;
    bool computed = false;
    for (int k = 0; k < n->n_in; k++) {
      fixed &= l->fixed[n->in[k]->id];
      computed |= l->computed[n->in[k]->id];
      from_param = true;
    }
    l->fixed[n->id] = fixed;
    l->computed[n->id] = fixed && from_param && (computed || !is_view(n));
  }
}

/* The value worth keeping behind a use: views of computed values are looked through. */
static Node *kept_value(const Layout *l, Node *n) {
  while (is_view(n) && n->n_in == 1 && l->computed[n->in[0]->id]) n = n->in[0];
  return n;
}

static bool make_state(Layout *l, Node *n) {
  Graph *g = l->f->graph;
  if (l->state[n->id]) return true;
  Attrs a = {.leaf.name = arena_printf(g->arena, "prepare.%s.%d", l->f->name, l->n_update)};
  g->here = n->loc;
  Node *s = graph_op(g, OP_STATE, NULL, 0, &a, &n->type);
  if (!s) return false;
  l->state[n->id] = s;
  ARENA_PUSH(g->arena, l->update, l->n_update, l->cap_update, ((Update){s, n}));
  return true;
}

/* Every computed operand of something that is not fixed, and every computed output. */
static bool choose(Layout *l) {
  for (int i = 0; i < l->n_nodes; i++) {
    Node *n = l->nodes[i];
    for (int k = 0; k < n->n_in && !l->fixed[n->id]; k++)
      if (l->computed[n->in[k]->id] && !make_state(l, kept_value(l, n->in[k]))) return false;
  }
  return true;
}

static Node *replace(void *ctx, Graph *g, Node *n, Node *const *in) {
  const Layout *l = ctx;
  return l->state[n->id] ? l->state[n->id] : node_rebuild(g, n, in);
}

/* Updates whose value is fixed are made by the prepare function itself. */
static void move_updates(Layout *l) {
  Func *f = l->f;
  int kept = 0;
  Update *update = ARENA_ARRAY(f->graph->arena, Update, f->n_update);
  for (int i = 0; i < f->n_update; i++) {
    Update u = f->update[i];
    if (u.target->op == OP_STATE && l->fixed[u.value->id])
      ARENA_PUSH(f->graph->arena, l->update, l->n_update, l->cap_update, u);
    else update[kept++] = u;
  }
  f->update = update;
  f->n_update = kept;
}

static bool updates_params(const Func *f) {
  for (int i = 0; i < f->n_update; i++)
    if (f->update[i].target->op == OP_PARAM) return true;
  return false;
}

Func *pass_layout(Func *f, Func **out_prepare) {
  Graph *g = f->graph;
  *out_prepare = NULL;
  if (updates_params(f)) return f;
  Func *own = ARENA_NEW(g->arena, Func);
  *own = *f;
  Layout l = {.f = own};
  l.nodes = func_nodes(f, &l.n_nodes);
  l.fixed = ARENA_ARRAY(g->arena, bool, g->n_nodes);
  l.computed = ARENA_ARRAY(g->arena, bool, g->n_nodes);
  l.state = ARENA_ARRAY(g->arena, Node *, g->n_nodes);
  classify(&l);
  move_updates(&l);
  if (!choose(&l)) return NULL;
  if (l.n_update == 0) return f;
  Func *rest = func_rewrite(own, replace, &l);
  Func *prepare = func_new(g, arena_printf(g->arena, "prepare.%s", f->name), NULL, 0, NULL, 0);
  if (!rest || !prepare) return NULL;
  prepare->update = l.update;
  prepare->n_update = l.n_update;
  *out_prepare = prepare;
  return rest;
}
