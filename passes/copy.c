/* Copies that memory asks for, and the limit of operands.
 *
 * needs: FORM_PRIMITIVE, after fold (which would undo it).  gives: every ring_write may write over its ring, updates can
 * be stored one after the other, and no node has more than MAX_OPERANDS operands.  breaks: nothing.
 *
 * A ring_write works in place when its ring is a STATE that the function updates with the result and that nothing else
 * reads; of any other ring it gets a copy.  Updates that exchange what leafs hold get a copy of one of them.  A copy is
 * a slice of everything.
 * A concat of many becomes a concat of concats; how much of it stands in memory is fuse's decision. */
#include "passes/passes.h"

enum { MAX_OPERANDS = 16 };

typedef struct Copies {
  const Func *f;
  int *users;        /* [n_ids] nodes, outputs and updates that read a home, through views */
} Copies;

static bool is_leaf(const Node *n) { return op_info[n->op].class == CLASS_LEAF; }

static Node *copy_of(Graph *g, Node *x) {
  Attrs a = {0};
  for (int i = 0; i < x->type.rank; i++) {
    a.slice.stop[i] = x->type.dim[i];
    a.slice.step[i] = 1;
  }
  return graph_op(g, OP_SLICE, &x, 1, &a, NULL);
}

static void count_users(Copies *c) {
  int n;
  Node **node = func_nodes(c->f, &n);
  c->users = ARENA_ARRAY(c->f->graph->arena, int, c->f->graph->n_nodes);
  for (int i = 0; i < n; i++)
    for (int k = 0; k < node[i]->n_in && program_home(node[i]) == node[i]; k++) c->users[program_home(node[i]->in[k])->id]++;
  for (int i = 0; i < c->f->n_out; i++) c->users[program_home(c->f->out[i].node)->id]++;
  for (int i = 0; i < c->f->n_update; i++) c->users[program_home(c->f->update[i].value)->id]++;
}

static bool is_in_place(const Copies *c, Node *write) {
  Node *ring = program_home(write->in[0]);
  if (ring->op != OP_STATE || c->users[ring->id] != 1) return false;
  for (int i = 0; i < c->f->n_update; i++)
    if (c->f->update[i].target == ring) return program_home(c->f->update[i].value) == write;
  return false;
}

static Node *concat_in_steps(Graph *g, const Node *n, Node *const *in, int n_in) {
  if (n_in <= MAX_OPERANDS) return graph_op(g, OP_CONCAT, in, n_in, &n->attrs, NULL);
  int n_part = (n_in + MAX_OPERANDS - 1) / MAX_OPERANDS;
  Node **part = ARENA_ARRAY(g->arena, Node *, n_part);
  for (int i = 0; i < n_part; i++) {
    int from = i * MAX_OPERANDS, left = n_in - from;
    part[i] = graph_op(g, OP_CONCAT, in + from, left < MAX_OPERANDS ? left : MAX_OPERANDS, &n->attrs, NULL);
    if (!part[i]) return NULL;
  }
  return concat_in_steps(g, n, part, n_part);
}

static Node *visit(void *ctx, Graph *g, Node *n, Node *const *in) {
  const Copies *c = ctx;
  if (n->op == OP_CONCAT) return concat_in_steps(g, n, in, n->n_in);
  if (n->op != OP_RING_WRITE || is_in_place(c, n)) return node_rebuild(g, n, in);
  Node *with[] = {copy_of(g, in[0]), in[1], in[2]};
  return with[0] ? node_rebuild(g, n, with) : NULL;
}

/* The update whose target is what update i stores, or -1. */
static int update_of_value(const Func *f, int i) {
  const Node *value = program_home(f->update[i].value);
  for (int k = 0; k < f->n_update; k++)
    if (f->update[k].target == value && k != i) return k;
  return -1;
}

static bool is_in_circle(const Func *f, int i) {
  int at = update_of_value(f, i);
  for (int steps = 0; at >= 0 && at != i && steps < f->n_update; steps++) at = update_of_value(f, at);
  return at == i;
}

static bool break_circles(Func *f) {
  for (int i = 0; i < f->n_update; i++)
    if (is_leaf(program_home(f->update[i].value)) && is_in_circle(f, i) &&
        !(f->update[i].value = copy_of(f->graph, f->update[i].value)))
      return false;
  return true;
}

Func *pass_copy(Func *f) {
  Copies c = {.f = f};
  count_users(&c);
  Func *to = func_rewrite(f, visit, &c);
  return to && break_circles(to) ? to : NULL;
}
