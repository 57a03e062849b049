/* What tests of passes share: functions from text, run before and after a pass on the same numbers, and the check
 * that a program computes its function. */
#ifndef NUWA_PASS_CASE_H
#define NUWA_PASS_CASE_H

#include <math.h>
#include <string.h>

#include "ir/interp.h"
#include "passes/passes.h"
#include "runtime/base/philox.h"

typedef struct PassCase {
  Error err;
  Graph *g;
  int64_t B, R;
} PassCase;

static inline Func *case_parse(PassCase *c, const char *name, const char *text) {
  Func **f;
  int n;
  c->g = graph_new(&c->err);
  if (c->B == 0) c->B = 2, c->R = 3;
  return c->g && ir_parse(c->g, name, text, &f, &n) ? f[0] : NULL;
}

static inline void case_done(PassCase *c) { graph_free(c->g); }

/* Numbers that depend only on the leaf's name: about normal; integers 0..3; u8 0 or 1. */
static const Tensor *case_leaf(void *ctx, const Node *leaf, Error *err) {
  PassCase *c = ctx;
  int64_t dim[MAX_RANK];
  uint64_t seed = 7;
  for (const char *s = leaf->attrs.leaf.name; *s; s++) seed = seed * 31 + (uint8_t)*s;
  for (int i = 0; i < leaf->type.rank; i++) dim[i] = dim_value(leaf->type.dim[i], c->B, c->R);
  Tensor *t = ARENA_NEW(c->g->arena, Tensor);
  *t = tensor_new(c->g->arena, leaf->type.dtype, leaf->type.rank, dim);
  for (int64_t i = 0; i < tensor_elems(t); i++) {
    Philox p = philox(seed, (uint32_t)i, 0, STREAM_TEST);
    double u = philox_uniform(p.word[0]), v = philox_uniform(p.word[1]);
    t->data[i] = t->dtype == DTYPE_I32  ? p.word[0] % 4
                 : t->dtype == DTYPE_U8 ? p.word[0] % 2
                                        : (float)(2 * (u + v - 1));
  }
  return t;
}

static inline bool case_close(const Tensor *x, const Tensor *y, const char *what, Error *err) {
  double most = 0, worst = 0;
  if (tensor_elems(x) != tensor_elems(y)) return error_set(err, ERROR_FORMAT, "%s has another size", what);
  for (int64_t i = 0; i < tensor_elems(x); i++) {
    double a = x->data[i], b = y->data[i];
    if (a == b || (isnan(a) && isnan(b))) continue;
    most = fmax(most, fmax(fabs(a), fabs(b)));
    worst = isfinite(a - b) ? fmax(worst, fabs(a - b)) : INFINITY;
  }
  return worst <= 1e-12 * most || error_set(err, ERROR_FORMAT, "%s differs by %g of %g", what, worst, most);
}

/* Whether all outputs and updates of x are those of y (which may have more), on random numbers. */
static inline bool case_equal(PassCase *c, const Func *x, const Func *y, Error *err) {
  Arena *a = c->g->arena;
  Tensor *ox = ARENA_ARRAY(a, Tensor, x->n_out), *oy = ARENA_ARRAY(a, Tensor, y->n_out);
  Tensor *ux = ARENA_ARRAY(a, Tensor, x->n_update), *uy = ARENA_ARRAY(a, Tensor, y->n_update);
  if (!interp_run(x, c->B, c->R, case_leaf, c, a, ox, ux, err)) return false;
  if (!interp_run(y, c->B, c->R, case_leaf, c, a, oy, uy, err)) return false;
  for (int i = 0; i < x->n_out; i++) {
    int k = 0;
    while (k < y->n_out && strcmp(x->out[i].name, y->out[k].name) != 0) k++;
    if (k == y->n_out) return error_set(err, ERROR_FORMAT, "output %s is gone", x->out[i].name);
    if (!case_close(&ox[i], &oy[k], x->out[i].name, err)) return false;
  }
  for (int i = 0; i < x->n_update && x->n_update == y->n_update; i++) {
    if (!case_close(&ux[i], &uy[i], x->update[i].target->attrs.leaf.name, err)) return false;
  }
  return true;
}

static inline bool case_holds(Node *const *list, int n, const Node *x) {
  for (int i = 0; i < n; i++) {
    if (list[i] == x) return true;
  }
  return false;
}

/* Every operand of a member is a member or (its home) an operand of the group; results are members. */
static inline bool case_group_closed(const Group *g, Error *err) {
  for (int i = 0; i < g->n_node; i++) {
    for (int k = 0; k < g->node[i]->n_in; k++) {
      Node *in = g->node[i]->in[k];
      bool later = case_holds(g->node + i, g->n_node - i, in);
      if (later || (!case_holds(g->node, i, in) && !case_holds(g->in, g->n_in, program_home(in))))
        return error_set(err, ERROR_FORMAT, "%s reads %s from nowhere", op_info[g->node[i]->op].text,
                         op_info[in->op].text);
    }
  }
  for (int i = 0; i < g->n_out; i++) {
    if (!case_holds(g->node, g->n_node, g->out[i])) return error_set(err, ERROR_FORMAT, "a result is no member");
  }
  return true;
}

/* Groups in order, operands computed before, no arithmetic twice, everything the function gives computed. */
static inline bool case_program_sound(const Program *p, Error *err) {
  Arena *a = p->func->graph->arena;
  bool *done = ARENA_ARRAY(a, bool, p->func->graph->n_nodes), *stored = ARENA_ARRAY(a, bool, p->func->graph->n_nodes);
  for (int k = 0; k < p->n_group; k++) {
    const Group *g = &p->group[k];
    if (!case_group_closed(g, err)) return false;
    if (g->n_in + g->n_out > 40 || g->n_out < 1)
      return error_set(err, ERROR_FORMAT, "group %d has too many buffers", k);
    for (int i = 0; i < g->n_in; i++) {
      bool leaf = op_info[g->in[i]->op].class == CLASS_LEAF;
      if (!leaf && !stored[g->in[i]->id])
        return error_set(err, ERROR_FORMAT, "group %d reads what is not there yet", k);
    }
    for (int i = 0; i < g->n_node; i++) {
      Node *n = g->node[i];
      bool cheap = op_info[n->op].class == CLASS_MOVE || n->op == OP_FILL || n->op == OP_IOTA || n->op == OP_DETACH;
      if (done[n->id] && !cheap) return error_set(err, ERROR_FORMAT, "%s is computed twice", op_info[n->op].text);
      done[n->id] = true;
    }
    for (int i = 0; i < g->n_out; i++) stored[g->out[i]->id] = true;
  }
  for (int i = 0; i < p->func->n_out; i++) {
    Node *home = program_home(p->func->out[i].node);
    if (op_info[home->op].class != CLASS_LEAF && !stored[home->id])
      return error_set(err, ERROR_FORMAT, "output %s is not computed", p->func->out[i].name);
  }
  return true;
}

/* "map: mul add | reads x w | writes add": values of other groups as "op#group". */
static inline void case_print_value(const Program *p, const Node *n, Buffer *out) {
  if (op_info[n->op].class == CLASS_LEAF) {
    buffer_printf(out, " %s", n->attrs.leaf.name);
    return;
  }
  for (int k = 0; k < p->n_group; k++) {
    if (case_holds(p->group[k].out, p->group[k].n_out, n)) buffer_printf(out, " %s#%d", op_info[n->op].text, k);
  }
}

static inline void case_print_groups(const Program *p, Buffer *out) {
  static const char *const family[] = {"map", "reduce", "scatter", "contract", "attend"};
  for (int k = 0; k < p->n_group; k++) {
    const Group *g = &p->group[k];
    buffer_printf(out, "%d %s:", k, family[g->family]);
    for (int i = 0; i < g->n_node; i++) buffer_printf(out, " %s", op_info[g->node[i]->op].text);
    buffer_printf(out, " | reads");
    for (int i = 0; i < g->n_in; i++) case_print_value(p, g->in[i], out);
    buffer_printf(out, " | writes");
    for (int i = 0; i < g->n_out; i++) buffer_printf(out, " %s", op_info[g->out[i]->op].text);
    buffer_printf(out, "\n   ends: %s\n", g->why);
  }
}

#endif
