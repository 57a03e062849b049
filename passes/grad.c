/* Reverse mode, IR to IR: the sweep, and the pass that takes the gradients a model asked for.
 * needs: any form, after precision; composites are expanded on the way.  gives: FORM_GIVEN, new nodes in the same graph.
 * breaks: nothing.
 * The rules are one function an op (grad_map.c, grad_move.c, grad_contract.c), found through the op table.  Gradients
 * that meet at a node are added in the order in which its users appear, latest first. */
#include "passes/grad.h"

static bool grad_zero(Graph *g, Node *n, Node *dy, Node **dx) { return true; }

/* What the gradient of an attention is made of, the model's author never wrote. */
static bool is_of_attend(Op op) {
  return op == OP_ATTEND_LSE || op == OP_ATTEND_GRAD_Q || op == OP_ATTEND_GRAD_K || op == OP_ATTEND_GRAD_V;
}

static bool grad_none(Graph *g, Node *n, Node *dy, Node **dx) {
  if (is_of_attend(n->op)) graph_error(g, n->loc, "attend: its gradient has no gradient");
  else graph_error(g, n->loc, "%s has no gradient", op_info[n->op].text);
  return false;
}

static bool grad_composite(Graph *g, Node *n, Node *dy, Node **dx) {
  Node *e = expand_node(g, n);
  return e && grad_sweep(g, e, dy, n->in, n->n_in, true, dx);
}

static const GradRule grad_rule[OP_COUNT] = {
#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) grad_##grad,
#include "ir/ops.def"
#undef OP
};

/* Nodes between y and wrt, found by a walk over operands; `needs` marks those that depend on wrt. */
typedef struct Sweep {
  Node **node;        /* by id; NULL when not reached; [n_ids] */
  bool *needs;        /* by id */
  Node **grad;        /* by id: sum so far */
  int n_ids;
} Sweep;

static bool is_wrt(const Node *x, Node *const *wrt, int n) {
  for (int i = 0; i < n; i++)
    if (wrt[i] == x) return true;
  return false;
}

static void reach(Sweep *s, Graph *g, Node *y, Node *const *wrt, int n, bool stop) {
  Node **stack = ARENA_ARRAY(g->arena, Node *, s->n_ids);
  int top = 0;
  s->node[y->id] = stack[top++] = y;
  while (top > 0) {
    Node *x = stack[--top];
    if (stop && is_wrt(x, wrt, n)) continue;
    for (int i = 0; i < x->n_in; i++)
      if (!s->node[x->in[i]->id]) s->node[x->in[i]->id] = stack[top++] = x->in[i];
  }
}

static void mark_needs(Sweep *s, Node *const *wrt, int n, bool stop) {
  for (int id = 0; id < s->n_ids; id++) {
    Node *x = s->node[id];
    if (!x) continue;
    s->needs[id] = is_wrt(x, wrt, n);
    if (s->needs[id] && stop) continue;
    for (int i = 0; i < x->n_in; i++) s->needs[id] |= s->node[x->in[i]->id] && s->needs[x->in[i]->id];
  }
}

static bool accumulate(Sweep *s, Graph *g, Node *x, Node *dx) {
  Node **sum = &s->grad[x->id];
  *sum = *sum ? graph_binary(g, OP_ADD, *sum, dx) : dx;
  return *sum != NULL;
}

static bool sweep_node(Sweep *s, Graph *g, Node *x) {
  Node *dy = s->grad[x->id];
  Node **dx = ARENA_ARRAY(g->arena, Node *, x->n_in ? x->n_in : 1);
  g->here = x->loc;
  if (!grad_rule[x->op](g, x, dy, dx)) return false;
  for (int i = 0; i < x->n_in; i++)
    if (dx[i] && s->needs[x->in[i]->id] && !accumulate(s, g, x->in[i], dx[i])) return false;
  return true;
}

static Sweep sweep_new(Graph *g, Node *y, Node *const *wrt, int n, bool stop) {
  Sweep s = {.n_ids = g->n_nodes};
  s.node = ARENA_ARRAY(g->arena, Node *, s.n_ids);
  s.needs = ARENA_ARRAY(g->arena, bool, s.n_ids);
  s.grad = ARENA_ARRAY(g->arena, Node *, s.n_ids);
  reach(&s, g, y, wrt, n, stop);
  mark_needs(&s, wrt, n, stop);
  return s;
}

bool grad_sweep(Graph *g, Node *y, Node *dy, Node *const *wrt, int n, bool stop, Node **out) {
  Sweep s = sweep_new(g, y, wrt, n, stop);
  s.grad[y->id] = dy;
  const Loc *here = g->here;
  bool ok = true;
  for (int id = y->id; id >= 0 && ok; id--) {
    Node *x = s.node[id];
    if (!x || !s.needs[id] || !s.grad[id] || x->n_in == 0 || (stop && is_wrt(x, wrt, n))) continue;
    ok = sweep_node(&s, g, x);
  }
  g->here = here;
  for (int i = 0; i < n; i++) out[i] = wrt[i]->id < s.n_ids ? s.grad[wrt[i]->id] : NULL;
  return ok;
}

static bool check_types(Graph *g, const Node *y, Node *const *wrt, int n) {
  char text[160];
  if (y->type.rank != 0 || !dtype_is_float(y->type.dtype)) {
    graph_error(g, g->here, "grad: the differentiated value must be a float scalar, it is %s",
                type_print(&y->type, text, sizeof text));
    return false;
  }
  for (int i = 0; i < n; i++)
    if (!dtype_is_float(wrt[i]->type.dtype)) {
      graph_error(g, g->here, "grad: entry %d is %s, only floats have gradients", i + 1,
                  dtype_name(wrt[i]->type.dtype));
      return false;
    }
  return true;
}

bool grad_check(Graph *g, Node *y, Node *const *wrt, int n) {
  if (!check_types(g, y, wrt, n)) return false;
  Sweep s = sweep_new(g, y, wrt, n, false);
  s.grad[y->id] = y;   /* here: gradients flow to it */
  for (int id = y->id; id >= 0; id--) {
    Node *x = s.node[id], *dx[1];
    if (!x || !s.needs[id] || !s.grad[id] || x->n_in == 0 || grad_rule[x->op] == grad_zero) continue;
    if (grad_rule[x->op] == grad_none && x->op != OP_GRAD) return grad_none(g, x, y, dx);
    for (int i = 0; i < x->n_in; i++)
      if (dtype_is_float(x->in[i]->type.dtype)) s.grad[x->in[i]->id] = y;
  }
  return true;
}

bool grad_build(Graph *g, Node *y, Node *const *wrt, int n, Node **out) {
  if (!check_types(g, y, wrt, n)) return false;
  Node *one = graph_fill_like(g, 1.0, y);
  if (!one || !grad_sweep(g, y, one, wrt, n, false, out)) return false;
  for (int i = 0; i < n; i++)
    if (!out[i] && !(out[i] = graph_fill_like(g, 0.0, wrt[i]))) return false;
  return true;
}

/* ---- the pass ---- */

typedef struct Marks {
  Node **node;    /* of the old function, in order */
  int n;
  Node **made;    /* by id of an old node: the new one */
  Node **taken;   /* by id of a mark: its gradient */
} Marks;

/* All marks of one value whose operands there are by now, in one sweep. */
static bool take_gradients(Marks *m, Graph *g, const Node *first, Node *y) {
  Node **mark = ARENA_ARRAY(g->arena, Node *, m->n), **wrt = ARENA_ARRAY(g->arena, Node *, m->n);
  Node **dx = ARENA_ARRAY(g->arena, Node *, m->n);
  int n = 0;
  for (int i = 0; i < m->n; i++) {
    Node *x = m->node[i];
    if (x->op != OP_GRAD || x->in[0] != first->in[0] || m->taken[x->id] || !m->made[x->in[1]->id]) continue;
    wrt[n] = m->made[x->in[1]->id];
    mark[n++] = x;
  }
  if (!grad_build(g, y, wrt, n, dx)) return false;
  for (int i = 0; i < n; i++) m->taken[mark[i]->id] = dx[i];
  return true;
}

static Node *take_visit(void *ctx, Graph *g, Node *n, Node *const *in) {
  Marks *m = ctx;
  Node *made = n->op != OP_GRAD ? node_rebuild(g, n, in)
               : m->taken[n->id] || take_gradients(m, g, n, in[0]) ? m->taken[n->id] : NULL;
  return m->made[n->id] = made;
}

Func *pass_grad(Func *f) {
  Marks m = {0};
  bool has_marks = false;
  m.node = func_nodes(f, &m.n);
  for (int i = 0; i < m.n; i++) has_marks |= m.node[i]->op == OP_GRAD;
  if (!has_marks) return f;
  m.made = ARENA_ARRAY(f->graph->arena, Node *, f->graph->n_nodes);
  m.taken = ARENA_ARRAY(f->graph->arena, Node *, f->graph->n_nodes);
  return func_rewrite(f, take_visit, &m);
}
