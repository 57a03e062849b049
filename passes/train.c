/* A function that updates params, as a step of training.
 *
 * needs: FORM_GIVEN.  gives: the same signature, and perhaps one output more.  breaks: nothing.
 *
 * Where a scalar output is not finite (a loss, the norm of a gradient), every update writes back what was there: the state
 * after such a step is that before it.  A loss does not show all that can go wrong (the root of 0 is 0, its gradient
 * infinite).  The norm of the whole gradient does, and optimisers give it as PORT_GRAD_NORM and say of
 * their updates that it shows them.  Of all other numbers that a step itself would write there is one output more, PORT_LARGEST,
 * for one more copy of what it is of; what functions that it calls write beside a norm (running statistics) is theirs.
 *
 * An entry with an average d keeps for every param p that it updates itself
 *
 *   ENTRY.average.p <- d ENTRY.average.p + (1 - d) p     after each step; after the first, p itself
 *
 * and ENTRY.averaged counts the steps. */
#include <float.h>
#include <string.h>

#include "passes/passes.h"
#include "runtime/base/names.h"

typedef struct Step {
  Func *f;
  Graph *g;
  Node *is_finite;   /* u8; NULL: no output says */
  Update *update;
  int n_update;
} Step;

/* ---- what says that a step went wrong ---- */

static bool is_scalar(const Node *n) { return n->type.rank == 0 && n->type.dtype == DTYPE_F32; }

static bool is_float(const Node *n) { return n->type.dtype == DTYPE_F32 || n->type.dtype == DTYPE_BF16; }

static bool has_output(const Func *f, const char *name) {
  for (int i = 0; i < f->n_out; i++)
    if (strcmp(f->out[i].name, name) == 0) return true;
  return false;
}

/* One in bf16 is not looked at. */
static bool gives_norm(const Func *f) {
  for (int i = 0; i < f->n_out; i++)
    if (strcmp(f->out[i].name, PORT_GRAD_NORM) == 0) return is_scalar(f->out[i].node);
  return false;
}

/* f32 [1]: of the absolute values, NaN where one is. */
static Node *largest(Graph *g, Node *x) {
  static const Type one = {.rank = 1, .dim = {{.c = 1}}};
  Node *size = graph_unary(g, OP_ABS, graph_cast(g, x, DTYPE_F32));
  if (size && x->type.rank > 0) size = graph_max(g, size, (1u << x->type.rank) - 1);
  return graph_reshape(g, size, &one);
}

/* f with the output PORT_LARGEST where something that it writes would not be seen; NULL after a diagnostic. */
static Func *show_updates(Func *f) {
  Graph *g = f->graph;
  Node **each = ARENA_ARRAY(g->arena, Node *, f->n_update);
  int n = 0;
  bool has_norm = gives_norm(f);
  for (int i = 0; i < f->n_update; i++) {
    const Update *u = &f->update[i];
    if (is_float(u->value) && !(has_norm && (u->is_shown || u->by_call))) each[n++] = largest(g, u->value);
  }
  if (n == 0) return f;
  if (has_output(f, PORT_LARGEST))
    return graph_error(
        g, f->loc, "function %s: \"%s\" is the largest value that training writes; another output needs another name",
        f->name, PORT_LARGEST);
  Node *all = graph_op(g, OP_CONCAT, each, n, &(Attrs){.axis.axis = 0}, NULL);
  Port *out = ARENA_ARRAY(g->arena, Port, f->n_out + 1);
  memcpy(out, f->out, (size_t)f->n_out * sizeof *out);
  out[f->n_out] = (Port){PORT_LARGEST, graph_max(g, all, 1)};
  Func *to = func_new(g, f->name, f->in, f->n_in, out, f->n_out + 1);
  if (!to) return NULL;
  to->update = f->update;
  to->n_update = f->n_update;
  return to;
}

/* ---- the step ---- */

/* u8: 1 where all scalar outputs are finite; no comparison with NaN holds.  NULL without any, or after a diagnostic. */
static Node *all_finite(const Func *f) {
  Node *all = NULL;
  for (int i = 0; i < f->n_out; i++) {
    Node *x = f->out[i].node;
    if (!is_scalar(x)) continue;
    Node *size = graph_unary(f->graph, OP_ABS, x);
    Node *is = size ? graph_binary(f->graph, OP_LE, size, graph_fill_like(f->graph, FLT_MAX, size)) : NULL;
    all = all ? graph_binary(f->graph, OP_MUL, all, is) : is;
  }
  return all;
}

static bool push(Step *s, Node *target, Node *value) {
  if (value && s->is_finite) {
    Type flags = target->type;
    flags.dtype = DTYPE_U8;
    value = graph_select(s->g, graph_broadcast(s->g, s->is_finite, &flags), value, target);
  }
  if (value) s->update[s->n_update++] = (Update){target, value};
  return value != NULL;
}

static Node *state(Graph *g, const char *name, const Type *type) {
  return graph_op(g, OP_STATE, NULL, 0, &(Attrs){.leaf.name = name}, type);
}

bool train_averages(const Update *u) {
  return u->target->op == OP_PARAM && u->target->type.dtype == DTYPE_F32 && !u->by_call;
}

Node *train_average(Graph *g, const char *entry, const Node *param) {
  return state(g, arena_printf(g->arena, "%s.average.%s", entry, param->attrs.leaf.name), &param->type);
}

Node *train_averaged(Graph *g, const char *entry) {
  return state(g, arena_printf(g->arena, "%s.averaged", entry), &(Type){.dtype = DTYPE_I32});
}

/* u8, of p's shape: 1 before the first step. */
static Node *is_first(Graph *g, Node *count, const Node *p) {
  Type flags = p->type;
  flags.dtype = DTYPE_U8;
  return graph_broadcast(g, graph_binary(g, OP_EQ, count, graph_fill_like(g, 0, count)), &flags);
}

static Node *follow(Graph *g, Node *count, Node *average, Node *p, double d) {
  Node *kept = graph_binary(g, OP_MUL, average, graph_fill_like(g, d, average));
  Node *moved = graph_binary(g, OP_ADD, kept, graph_binary(g, OP_MUL, p, graph_fill_like(g, 1.0 - d, p)));
  return graph_select(g, is_first(g, count, p), p, moved);
}

static bool push_averages(Step *s, const char *entry, double d) {
  Node *count = train_averaged(s->g, entry);
  for (int i = 0; i < s->f->n_update; i++) {
    Update u = s->f->update[i];
    if (!train_averages(&u)) continue;
    Node *average = train_average(s->g, entry, u.target);
    if (!average || !push(s, average, follow(s->g, count, average, u.value, d))) return false;
  }
  return push(s, count, graph_binary(s->g, OP_ADD, count, graph_fill_like(s->g, 1, count)));
}

Func *pass_train(Func *f, const char *entry, double average) {
  if (!(f = show_updates(f))) return NULL;
  Step s = {.f = f, .g = f->graph, .is_finite = all_finite(f)};
  s.update = ARENA_ARRAY(s.g->arena, Update, 2 * f->n_update + 1);
  for (int i = 0; i < f->n_update; i++)
    if (!push(&s, f->update[i].target, f->update[i].value)) return NULL;
  if (average > 0 && !push_averages(&s, entry, average)) return NULL;
  Func *step = func_new(s.g, f->name, f->in, f->n_in, f->out, f->n_out);
  if (!step) return NULL;
  step->update = s.update;
  step->n_update = s.n_update;
  return step;
}

/* ---- reading averages ---- */

static const Averaged *averaged(const Averaged *a, int n, const Node *param) {
  for (int i = 0; i < n; i++)
    for (int k = 0; k < a[i].n_param; k++)
      if (strcmp(a[i].param[k], param->attrs.leaf.name) == 0) return &a[i];
  return NULL;
}

typedef struct Reading {
  const Averaged *a;
  int n;
} Reading;

static Node *read(void *ctx, Graph *g, Node *n, Node *const *in) {
  const Reading *r = ctx;
  if (n->op != OP_PARAM) return node_rebuild(g, n, in);
  const Averaged *a = averaged(r->a, r->n, n);
  if (!a) return n;
  Node *average = train_average(g, a->entry, n), *count = train_averaged(g, a->entry);
  return average && count ? graph_select(g, is_first(g, count, n), n, average) : NULL;
}

Func *pass_evaluate(Func *f, const Averaged *a, int n) {
  Func copy = *f;
  copy.update = NULL;
  copy.n_update = 0;
  return func_rewrite(&copy, read, &(Reading){a, n});
}
