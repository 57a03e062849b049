/* The training step of a loss function: gradients, clipping, Adam, all as IR.
 *
 *   norm  = sqrt(sum over params of sum(g^2))          g <- g * clip / max(norm, clip)
 *   m     <- beta1 m + (1 - beta1) g                   v <- beta2 v + (1 - beta2) g^2
 *   p     <- p - lr (m correction1 / (sqrt(v correction2) + eps) + weight_decay p)
 *
 * The loss's own updates are made too; a param that one of them writes is not moved by Adam.  Where the loss or the
 * norm is not finite, every update writes back what was there: the state after such a step is that before it. */
#include <float.h>
#include <string.h>

#include "frontend/compile/pipeline.h"
#include "runtime/base/names.h"
#include "runtime/plan.h"

typedef struct TrainBuild {
  Graph *g;
  Func *f;
  const AdamOptions *o;
  Node **param, **grad, **square; /* square: sum of g^2 */
  int n_param;
  Node *lr, *correction1, *correction2, *scale, *is_finite;
  Update *update;
  int n_update;
} TrainBuild;

static Node *add(TrainBuild *t, Node *x, Node *y) { return graph_binary(t->g, OP_ADD, x, y); }
static Node *mul(TrainBuild *t, Node *x, Node *y) { return graph_binary(t->g, OP_MUL, x, y); }
static Node *times(TrainBuild *t, Node *x, double k) { return x ? mul(t, x, graph_fill_like(t->g, k, x)) : NULL; }
static Node *spread(TrainBuild *t, Node *scalar, const Node *like) { return graph_broadcast(t->g, scalar, &like->type); }

static Node *scalar_input(TrainBuild *t, const char *name) {
  Type scalar = {.dtype = DTYPE_F32};
  return graph_op(t->g, OP_INPUT, NULL, 0, &(Attrs){.leaf.name = name}, &scalar);
}

static Node *adam_state(TrainBuild *t, const char *moment, const Node *param) {
  Attrs a = {.leaf.name = arena_printf(t->g->arena, "%s%s", moment, param->attrs.leaf.name)};
  return graph_op(t->g, OP_STATE, NULL, 0, &a, &param->type);
}

static Node *gradient_norm(TrainBuild *t) {
  Node *total = NULL;
  for (int i = 0; i < t->n_param; i++) {
    Node *g = t->grad[i];
    t->square[i] = graph_sum(t->g, mul(t, g, g), (1u << g->type.rank) - 1);
    total = total ? add(t, total, t->square[i]) : t->square[i];
  }
  return total ? graph_unary(t->g, OP_SQRT, total) : NULL;
}

static Node *is_at_most(TrainBuild *t, Node *x, double most) {
  return x ? graph_binary(t->g, OP_LE, x, graph_fill_like(t->g, most, x)) : NULL;
}

/* u8: 1 where both numbers are finite; no comparison with NaN holds. */
static Node *both_finite(TrainBuild *t, Node *loss, Node *norm) {
  return mul(t, is_at_most(t, graph_unary(t->g, OP_ABS, loss), FLT_MAX), is_at_most(t, norm, FLT_MAX));
}

static bool push_update(TrainBuild *t, Node *target, Node *value) {
  Type flags = target->type;
  flags.dtype = DTYPE_U8;
  Node *kept = value ? graph_select(t->g, graph_broadcast(t->g, t->is_finite, &flags), value, target) : NULL;
  if (kept) t->update[t->n_update++] = (Update){target, kept};
  return kept != NULL;
}

static bool update_param(TrainBuild *t, int i) {
  Node *p = t->param[i], *g = mul(t, t->grad[i], spread(t, t->scale, p));
  Node *m = adam_state(t, TRAIN_MOMENT1, p), *v = adam_state(t, TRAIN_MOMENT2, p);
  if (!g || !m || !v) return false;
  Node *m1 = add(t, times(t, m, t->o->beta1), times(t, g, 1.0 - t->o->beta1));
  Node *v1 = add(t, times(t, v, t->o->beta2), times(t, mul(t, g, g), 1.0 - t->o->beta2));
  Node *root = graph_unary(t->g, OP_SQRT, mul(t, v1, spread(t, t->correction2, p)));
  Node *below = root ? add(t, root, graph_fill_like(t->g, t->o->eps, root)) : NULL;
  Node *step = graph_binary(t->g, OP_DIV, mul(t, m1, spread(t, t->correction1, p)), below);
  if (t->o->weight_decay != 0.0) step = add(t, step, times(t, p, t->o->weight_decay));
  Node *p1 = graph_binary(t->g, OP_SUB, p, mul(t, step, spread(t, t->lr, p)));
  return push_update(t, p, p1) && push_update(t, m, m1) && push_update(t, v, v1);
}

static bool is_updated_by_loss(const TrainBuild *t, const Node *param) {
  for (int i = 0; i < t->f->n_update; i++)
    if (t->f->update[i].target == param) return true;
  return false;
}

static bool find_params(TrainBuild *t, Node *loss) {
  int n;
  Node **nodes = func_nodes(t->f, &n);
  Arena *a = t->g->arena;
  t->param = ARENA_ARRAY(a, Node *, n);
  t->grad = ARENA_ARRAY(a, Node *, n);
  t->square = ARENA_ARRAY(a, Node *, n);
  bool *reached = ARENA_ARRAY(a, bool, t->g->n_nodes);
  reached[loss->id] = true;
  for (int i = n - 1; i >= 0; i--)
    for (int k = 0; reached[nodes[i]->id] && k < nodes[i]->n_in; k++) reached[nodes[i]->in[k]->id] = true;
  for (int i = 0; i < n; i++)
    if (nodes[i]->op == OP_PARAM && reached[nodes[i]->id] && !is_updated_by_loss(t, nodes[i]))
      t->param[t->n_param++] = nodes[i];
  if (t->n_param > 0) return true;
  graph_error(t->g, t->f->loc, "train: the loss of \"%s\" depends on no param that it does not update itself",
              t->f->name);
  return false;
}

static Node *clip_scale(TrainBuild *t, Node *norm) {
  if (t->o->clip <= 0.0) return graph_fill_like(t->g, 1.0, norm);
  Node *clip = graph_fill_like(t->g, t->o->clip, norm);
  return graph_binary(t->g, OP_DIV, clip, graph_binary(t->g, OP_MAXIMUM, norm, clip));
}

static Func *assemble(TrainBuild *t, Node *norm) {
  Arena *a = t->g->arena;
  const Func *f = t->f;
  Port *in = ARENA_ARRAY(a, Port, f->n_in + 3), *out = ARENA_ARRAY(a, Port, f->n_out + 1 + t->n_param);
  memcpy(in, f->in, sizeof *in * (size_t)f->n_in);
  memcpy(out, f->out, sizeof *out * (size_t)f->n_out);
  in[f->n_in] = (Port){TRAIN_LR, t->lr};
  in[f->n_in + 1] = (Port){TRAIN_CORRECTION1, t->correction1};
  in[f->n_in + 2] = (Port){TRAIN_CORRECTION2, t->correction2};
  out[f->n_out] = (Port){TRAIN_GRAD_NORM, norm};
  for (int i = 0; i < t->n_param; i++)
    out[f->n_out + 1 + i] =
        (Port){arena_printf(a, TRAIN_GRAD_SQUARE "%s", t->param[i]->attrs.leaf.name), t->square[i]};
  Func *train = func_new(t->g, FUNC_TRAIN, in, f->n_in + 3, out, f->n_out + 1 + t->n_param);
  if (!train) return NULL;
  train->update = t->update;
  train->n_update = t->n_update;
  return train;
}

Func *train_build(Func *f, const AdamOptions *o) {
  TrainBuild t = {.g = f->graph, .f = f, .o = o};
  Node *loss = NULL;
  for (int i = 0; i < f->n_out; i++)
    if (strcmp(f->out[i].name, PORT_LOSS) == 0) loss = f->out[i].node;
  if (!loss || loss->type.rank != 0 || loss->type.dtype != DTYPE_F32)
    return graph_error(t.g, f->loc, "train: \"%s\" needs an output \"loss\" that is an f32 scalar", f->name);
  if (!find_params(&t, loss) || !grad_build(t.g, loss, t.param, t.n_param, t.grad)) return NULL;
  t.lr = scalar_input(&t, TRAIN_LR);
  t.correction1 = scalar_input(&t, TRAIN_CORRECTION1);
  t.correction2 = scalar_input(&t, TRAIN_CORRECTION2);
  t.update = ARENA_ARRAY(t.g->arena, Update, 3 * t.n_param + f->n_update);
  Node *norm = gradient_norm(&t);
  t.scale = norm ? clip_scale(&t, norm) : NULL;
  t.is_finite = norm ? both_finite(&t, loss, norm) : NULL;
  if (!t.lr || !t.correction1 || !t.correction2 || !t.scale || !t.is_finite) return NULL;
  for (int i = 0; i < t.n_param; i++)
    if (!update_param(&t, i)) return NULL;
  for (int i = 0; i < f->n_update; i++)
    if (!push_update(&t, f->update[i].target, f->update[i].value)) return NULL;
  return assemble(&t, norm);
}
