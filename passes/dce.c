/* Dead code: drops the nodes that nothing reaches, and updates that change nothing.
 *
 * needs: any form.  gives: the same form.  breaks: nothing.
 * A function is a view of its graph, so an unreached node is not in it to begin with; what can be dead is an
 * update that writes back what its target holds, and everything that such an update alone kept alive.  Inputs
 * stay: a function keeps its signature. */
#include "passes/passes.h"

/* What a node computes without arithmetic and movement: detach gives its operand, a reshape to the same shape too. */
static const Node *same_value(const Node *n) {
  while (n->op == OP_DETACH || (n->op == OP_RESHAPE && type_same_shape(&n->type, &n->in[0]->type))) n = n->in[0];
  return n;
}

Func *pass_dce(Func *f) {
  Func *out = arena_copy(f->graph->arena, f, sizeof *f);
  out->update = ARENA_ARRAY(f->graph->arena, Update, f->n_update);
  out->n_update = 0;
  for (int i = 0; i < f->n_update; i++) {
    if (same_value(f->update[i].value) != f->update[i].target) out->update[out->n_update++] = f->update[i];
  }
  return out;
}
