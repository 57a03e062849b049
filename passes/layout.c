/* Moves what depends only on params out of a function, into one that runs when weights are loaded.
 * needs: primitive form.  gives: the same function over STATEs "prepare.<function>.<k>", and the function that fills
 * them.
 *
 * Index maps that only view a param (reshape, broadcast) stay: they are free, and a broadcast would only grow.  So
 * does what is cheaply computed from constants (masks).  Weights that products read along their rows (trans_b) are
 * kept transposed, which costs their memory once more and lets every product read whole vectors. */
#include <string.h>

#include "passes/passes.h"

typedef struct Layout {
  Func *f;
  Node **nodes;
  int n_nodes;
  bool *fixed;          /* by id: depends on params and constants only */
  bool *computed;       /* by id: fixed, and some work that is worth doing once is in it */
  bool *from_param;     /* by id: fixed, and a param is in it */
  Node **state;         /* by id: the state that replaces it, or NULL */
  Update *update;       /* of the prepare function */
  int n_update, cap_update;
} Layout;

static bool is_view(const Node *n) { return op_info[n->op].work == WORK_VIEW; }

/* Constants are made again where they are used unless that costs more than reading them. */
static bool is_work(const Node *n, bool from_param) {
  if (n->n_in == 0 || is_view(n)) return false;
  return from_param || op_info[n->op].work >= WORK_POLYNOMIAL;
}

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
      from_param |= l->from_param[n->in[k]->id];
    }
    l->fixed[n->id] = fixed;
    l->from_param[n->id] = fixed && from_param;
    l->computed[n->id] = fixed && (computed || is_work(n, from_param));
  }
}

static void analyse(Layout *l) {
  Arena *a = l->f->graph->arena;
  int n = l->f->graph->n_nodes;
  l->nodes = func_nodes(l->f, &l->n_nodes);
  l->fixed = ARENA_ARRAY(a, bool, n);
  l->computed = ARENA_ARRAY(a, bool, n);
  l->from_param = ARENA_ARRAY(a, bool, n);
  l->state = ARENA_ARRAY(a, Node *, n);
  classify(l);
}

/* ---- products ---- */

/* a . b^T with b from params becomes a . (b^T), a transpose that is work of its own. */
static Node *untranspose(void *ctx, Graph *g, Node *n, Node *const *in) {
  const Layout *l = ctx;
  bool reads_rows = n->op == OP_MATMUL && n->attrs.matmul.trans_b && l->from_param[n->in[1]->id] && !l->fixed[n->id];
  if (!reads_rows) return node_rebuild(g, n, in);
  int rank = in[1]->type.rank;
  int64_t perm[MAX_RANK];
  for (int i = 0; i < rank; i++) perm[i] = i;
  perm[rank - 1] = rank - 2;
  perm[rank - 2] = rank - 1;
  return graph_matmul(g, in[0], graph_transpose(g, in[1], perm), n->attrs.matmul.trans_a, false);
}

/* ---- what is kept ---- */

/* The value worth keeping behind a use: views of computed values are looked through. */
static Node *kept_value(const Layout *l, Node *n) {
  while (is_view(n) && l->computed[n->in[0]->id]) n = n->in[0];
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

/* Every computed operand of something that is not fixed.  Outputs and updates that are fixed as a whole stay what
 * they are: a function that sets a state does so whenever it is called. */
static bool choose(Layout *l) {
  const Loc *here = l->f->graph->here;
  bool ok = true;
  for (int i = 0; i < l->n_nodes && ok; i++) {
    Node *n = l->nodes[i];
    for (int k = 0; k < n->n_in && !l->fixed[n->id] && ok; k++)
      if (l->computed[n->in[k]->id]) ok = make_state(l, kept_value(l, n->in[k]));
  }
  l->f->graph->here = here;
  return ok;
}

static Node *replace(void *ctx, Graph *g, Node *n, Node *const *in) {
  const Layout *l = ctx;
  return l->state[n->id] ? l->state[n->id] : node_rebuild(g, n, in);
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
  Layout before = {.f = f};
  analyse(&before);
  Layout l = {.f = func_rewrite(f, untranspose, &before)};
  if (!l.f) return NULL;
  analyse(&l);
  if (!choose(&l)) return NULL;
  if (l.n_update == 0) return l.f;
  Func *rest = func_rewrite(l.f, replace, &l);
  Func *prepare = func_new(g, arena_printf(g->arena, "prepare.%s", f->name), NULL, 0, NULL, 0);
  if (!rest || !prepare) return NULL;
  prepare->update = l.update;
  prepare->n_update = l.n_update;
  *out_prepare = prepare;
  return rest;
}
