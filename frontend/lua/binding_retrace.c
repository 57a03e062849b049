/* A body that is traced again must find the params it had.  One that counts their names in Lua ("layer" .. n, with n outside
 * of the body) makes others each time: what is trained and what draws would be two models, in silence.  A trace may have fewer
 * (a size left open, a branch of is_training()) or more, but not others instead of its own. */
#include "frontend/lua/binding.h"

#include <string.h>

typedef struct Reach {
  bool *is_seen;   /* by id */
  Node **stack;
  int n, cap;
} Reach;

static void visit(Graph *g, Reach *r, Node *n) {
  if (r->is_seen[n->id]) return;
  r->is_seen[n->id] = true;
  ARENA_PUSH(g->arena, r->stack, r->n, r->cap, n);
}

NodeList bind_params(Graph *g, const Port *out, int n_out, const Port *given, int n_given) {
  Reach r = {.is_seen = ARENA_ARRAY(g->arena, bool, g->n_nodes)};
  NodeList params = {0};
  for (int i = 0; i < n_given; i++) r.is_seen[given[i].node->id] = true;
  for (int i = 0; i < n_out; i++) visit(g, &r, out[i].node);
  while (r.n > 0) {
    Node *n = r.stack[--r.n];
    if (n->op == OP_PARAM) ARENA_PUSH(g->arena, params.node, params.n, params.cap, n);
    for (int i = 0; i < n->n_in; i++) visit(g, &r, n->in[i]);
  }
  return params;
}

/* The first of x in name order that y lacks; NULL: none. */
static const Node *missing(const NodeList *x, const NodeList *y) {
  const Node *first = NULL;
  for (int i = 0; i < x->n; i++) {
    bool has = false;
    for (int k = 0; k < y->n && !has; k++) has = x->node[i] == y->node[k];
    if (!has && (!first || strcmp(x->node[i]->attrs.leaf.name, first->attrs.leaf.name) < 0)) first = x->node[i];
  }
  return first;
}

typedef struct Retrace {
  const FnBody *before;
  const Port *out, *given;
  int n_out, n_given;
} Retrace;

static void *check(Graph *g, void *ctx) {
  const Retrace *r = ctx;
  NodeList now = bind_params(g, r->out, r->n_out, r->given, r->n_given);
  const Node *gone = missing(&r->before->params, &now), *come = missing(&now, &r->before->params);
  if (gone && come)
    return graph_error(
        g, NULL,
        "fn: traced again, the body made param \"%s\" where it made \"%s\" before: is a name counted outside of it?",
        come->attrs.leaf.name, gone->attrs.leaf.name);
  return g;
}

void bind_check_retrace(lua_State *L, const FnBody *before, const Port *out, int n_out, const Port *given, int n_given) {
  sandbox_charge(L, (uint64_t)binding_of(L)->g->n_nodes);
  bind_graph(L, check, &(Retrace){before, out, given, n_out, n_given});
}
