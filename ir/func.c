/* Functions: views of a graph.  What a function needs is what its outputs, updates and inputs reach. */
#include <stdlib.h>
#include <string.h>

#include "ir/internal.h"

static const char *bad_ports(const Port *p, int n, bool are_inputs) {
  for (int i = 0; i < n; i++) {
    if (!p[i].name || !*p[i].name) return "a name is empty";
    if (!p[i].node) return "a node is missing";
    if (are_inputs && p[i].node->op != OP_INPUT) return "an input is no input node";
    if (are_inputs && strcmp(p[i].name, p[i].node->attrs.leaf.name) != 0) return "an input has two names";
    for (int j = 0; j < i; j++) {
      if (strcmp(p[i].name, p[j].name) == 0)
        return are_inputs ? "two inputs have one name" : "two outputs have one name";
    }
  }
  return NULL;
}

static Port *copy_ports(Graph *g, const Port *p, int n) {
  Port *copy = ARENA_ARRAY(g->arena, Port, n);
  for (int i = 0; i < n; i++) copy[i] = (Port){arena_strdup(g->arena, p[i].name), p[i].node};
  return copy;
}

static void sort_ports(Port *p, int n) {
  for (int i = 1; i < n; i++)
    for (int j = i; j > 0 && strcmp(p[j - 1].name, p[j].name) > 0; j--) {
      Port swap = p[j];
      p[j] = p[j - 1];
      p[j - 1] = swap;
    }
}

Func *func_new(Graph *g, const char *name, const Port *in, int n_in, const Port *out, int n_out) {
  if (g->err->code != ERROR_NONE) return NULL;
  const char *bad = bad_ports(in, n_in, true);
  if (!bad) bad = bad_ports(out, n_out, false);
  if (bad) return graph_error(g, NULL, "function %s: %s", name, bad);
  Func *f = ARENA_NEW(g->arena, Func);
  *f = (Func){.name = arena_strdup(g->arena, name), .graph = g, .n_in = n_in, .n_out = n_out, .loc = g->here};
  f->in = copy_ports(g, in, n_in);
  f->out = copy_ports(g, out, n_out);
  sort_ports(f->out, n_out);
  return f;
}

typedef struct Reach {
  Arena *arena;
  Node **by_id;       /* [n_nodes], NULL where not reached */
  Node **stack;
  int n, cap, n_nodes;
} Reach;

static void reach(Reach *r, Node *n) {
  BUG_IF(!n || n->id < 0 || n->id >= r->n_nodes, "a function reaches a node that is not of its graph");
  if (r->by_id[n->id]) return;
  r->by_id[n->id] = n;
  ARENA_PUSH(r->arena, r->stack, r->n, r->cap, n);
}

Node **func_nodes(const Func *f, int *out_n) {
  Arena *a = f->graph->arena;
  Reach r = {.arena = a, .by_id = ARENA_ARRAY(a, Node *, f->graph->n_nodes), .n_nodes = f->graph->n_nodes};
  for (int i = 0; i < f->n_in; i++) reach(&r, f->in[i].node);
  for (int i = 0; i < f->n_out; i++) reach(&r, f->out[i].node);
  for (int i = 0; i < f->n_update; i++) {
    reach(&r, f->update[i].target);
    reach(&r, f->update[i].value);
  }
  while (r.n > 0) {
    Node *n = r.stack[--r.n];
    for (int i = 0; i < n->n_in; i++) reach(&r, n->in[i]);
  }
  int k = 0;
  for (int id = 0; id < f->graph->n_nodes; id++)
    if (r.by_id[id]) r.by_id[k++] = r.by_id[id];
  *out_n = k;
  return r.by_id;
}

Node *node_rebuild(Graph *g, Node *n, Node *const *in) {
  bool same = true;
  for (int i = 0; i < n->n_in; i++) {
    if (!in[i]) return NULL;
    same = same && in[i] == n->in[i];
  }
  return same ? n : graph_op(g, n->op, in, n->n_in, &n->attrs, &n->type);
}

/* new_of[id]: what a node of f has become. */
static bool rewrite_nodes(Func *f, RewriteFn make, void *ctx, Node **new_of) {
  Graph *g = f->graph;
  int n, widest = 0;
  Node **nodes = func_nodes(f, &n);
  for (int i = 0; i < n; i++) widest = nodes[i]->n_in > widest ? nodes[i]->n_in : widest;
  Node **in = ARENA_ARRAY(g->arena, Node *, widest);
  const Loc *here = g->here;
  bool ok = true;
  for (int i = 0; i < n && ok; i++) {
    for (int k = 0; k < nodes[i]->n_in; k++) in[k] = new_of[nodes[i]->in[k]->id];
    g->here = nodes[i]->loc;
    new_of[nodes[i]->id] = make(ctx, g, nodes[i], in);
    ok = new_of[nodes[i]->id] != NULL;
  }
  g->here = here;
  return ok;
}

/* An input that became something else is no longer an input of the function. */
static Func *rewrite_signature(Func *f, Node **new_of) {
  Graph *g = f->graph;
  Func *to = ARENA_NEW(g->arena, Func);
  *to = *f;
  to->in = ARENA_ARRAY(g->arena, Port, f->n_in);
  to->out = ARENA_ARRAY(g->arena, Port, f->n_out);
  to->update = ARENA_ARRAY(g->arena, Update, f->n_update);
  to->n_in = 0;
  for (int i = 0; i < f->n_in; i++) {
    Node *n = new_of[f->in[i].node->id];
    if (n->op == OP_INPUT) to->in[to->n_in++] = (Port){f->in[i].name, n};
  }
  for (int i = 0; i < f->n_out; i++) to->out[i] = (Port){f->out[i].name, new_of[f->out[i].node->id]};
  for (int i = 0; i < f->n_update; i++) {
    Node *target = new_of[f->update[i].target->id];
    if (target->op != OP_PARAM && target->op != OP_STATE)
      return graph_error(g, f->loc, "function %s: an update's target became %s", f->name, op_info[target->op].text);
    to->update[i] = f->update[i];
    to->update[i].target = target;
    to->update[i].value = new_of[f->update[i].value->id];
  }
  return to;
}

Func *func_rewrite(Func *f, RewriteFn make, void *ctx) {
  Node **new_of = ARENA_ARRAY(f->graph->arena, Node *, f->graph->n_nodes);
  return rewrite_nodes(f, make, ctx, new_of) ? rewrite_signature(f, new_of) : NULL;
}

/* ---- into another graph ---- */

typedef struct CopyNodes {
  Graph *to;
  Node **new_of;      /* [nodes of the other graph] while collecting the node itself, then its copy */
  Node **list;
  int n, cap;
} CopyNodes;

static void collect(CopyNodes *c, Node *n) {
  if (c->new_of[n->id]) return;
  c->new_of[n->id] = n;
  ARENA_PUSH(c->to->arena, c->list, c->n, c->cap, n);
}

/* The list is its own queue of nodes whose operands are still to be collected. */
static void collect_all(CopyNodes *c, const Func *f) {
  for (int i = 0; i < f->n_in; i++) collect(c, f->in[i].node);
  for (int i = 0; i < f->n_out; i++) collect(c, f->out[i].node);
  for (int i = 0; i < f->n_update; i++) collect(c, f->update[i].target), collect(c, f->update[i].value);
  for (int i = 0; i < c->n; i++)
    for (int k = 0; k < c->list[i]->n_in; k++) collect(c, c->list[i]->in[k]);
}

static int by_id(const void *x, const void *y) {
  int a = (*(Node *const *)x)->id, b = (*(Node *const *)y)->id;
  return (a > b) - (a < b);
}

static bool copy_nodes(CopyNodes *c) {
  Graph *g = c->to;
  const Loc *here = g->here;
  Node *in[8];
  bool ok = true;
  if (c->n) qsort(c->list, (size_t)c->n, sizeof *c->list, by_id);
  for (int i = 0; i < c->n && ok; i++) {
    Node *n = c->list[i];
    Node **operand = n->n_in <= COUNT_OF(in) ? in : ARENA_ARRAY(g->arena, Node *, n->n_in);
    for (int k = 0; k < n->n_in; k++) operand[k] = c->new_of[n->in[k]->id];
    g->here = n->loc;
    ok = (c->new_of[n->id] = graph_op(g, n->op, operand, n->n_in, &n->attrs, &n->type)) != NULL;
  }
  g->here = here;
  return ok;
}

static Func *copy_signature(Graph *to, const Func *f, Node *const *new_of) {
  Func *copy = ARENA_NEW(to->arena, Func);
  *copy = *f;
  copy->graph = to;
  copy->name = arena_strdup(to->arena, f->name);
  copy->in = copy_ports(to, f->in, f->n_in);
  copy->out = copy_ports(to, f->out, f->n_out);
  copy->update = ARENA_ARRAY(to->arena, Update, f->n_update);
  for (int i = 0; i < f->n_in; i++) copy->in[i].node = new_of[f->in[i].node->id];
  for (int i = 0; i < f->n_out; i++) copy->out[i].node = new_of[f->out[i].node->id];
  for (int i = 0; i < f->n_update; i++) {
    copy->update[i] = f->update[i];
    copy->update[i].target = new_of[f->update[i].target->id];
    copy->update[i].value = new_of[f->update[i].value->id];
  }
  return copy;
}

Func *func_copy(Graph *to, const Func *f, Node **work) {
  CopyNodes c = {.to = to, .new_of = work};
  collect_all(&c, f);
  Func *copy = copy_nodes(&c) ? copy_signature(to, f, work) : NULL;
  for (int i = 0; i < c.n; i++) work[c.list[i]->id] = NULL;
  return copy;
}
