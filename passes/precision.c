/* From f32 to bf16 storage.
 *
 * needs: any form, before gradients are taken and before decoding is split.  gives: the same signature, the same params;
 * grad nodes stand for gradients of what is computed in the precision, each in the type of what it is for.
 * breaks: nothing.
 *
 * What becomes bf16: results of products, of attention, of norms and other composites, and maps and moves of those; so
 * the weights are read as bf16, by casts that layout moves into the prepare function.  What stays f32:
 *   - inputs, params, states, outputs, updates, and what computes outputs, updates, differentiated values and operands of
 *     argmax back to the last product (included), norm or gradient, of updates also to the last sum: logits, losses and
 *     pictures are not rounded;
 *   - statistics: sums, largest values, means, log sum exp; and maps of them with anything else;
 *   - what is made of inputs, params and constants by maps and moves alone, until something of bf16 meets it. */
#include "passes/passes.h"

typedef enum Kind {
  KIND_OTHER,   /* no float */
  KIND_WEAK,    /* f32, and takes the type of what it meets */
  KIND_HALF,    /* bf16 */
  KIND_WIDE,    /* f32 */
} Kind;

typedef struct Precision {
  uint8_t *kind;   /* by id of the old node */
  bool *kept;      /* by id: stays f32 for what it is needed for */
  bool *is_wrt;    /* by id of the old node: a gradient is taken for it */
  Node **wrt;      /* new nodes of those: their readers read them, and nothing behind them */
  int n_wrt, cap_wrt;
} Precision;

static bool is_float(const Node *n) { return dtype_is_float(n->type.dtype); }

/* ---- what stays f32 ---- */

static bool is_norm(Op op) { return op == OP_LAYER_NORM || op == OP_GROUP_NORM; }

static bool is_statistic(const Node *n) {
  return n->op == OP_MEAN || op_info[n->op].class == CLASS_REDUCE || op_info[n->op].class == CLASS_SCATTER;
}

/* of_update: what a statistic is taken of may be rounded, as running means and counts are of activations. */
static void keep(Precision *p, const Node *n, bool of_update) {
  if (n->type.dtype != DTYPE_F32 || p->kept[n->id] || op_info[n->op].class == CLASS_ATTEND) return;
  p->kept[n->id] = true;
  if (op_info[n->op].class == CLASS_CONTRACT || is_norm(n->op) || n->op == OP_GRAD || (of_update && is_statistic(n))) return;
  for (int i = 0; i < n->n_in; i++) keep(p, n->in[i], of_update);
}

static void keep_roots(Precision *p, const Func *f, Node *const *nodes, int n) {
  for (int i = 0; i < f->n_out; i++) keep(p, f->out[i].node, false);
  for (int i = 0; i < n; i++)
    if (nodes[i]->op == OP_ARGMAX || nodes[i]->op == OP_GRAD) keep(p, nodes[i]->in[0], false);
  for (int i = 0; i < f->n_update; i++) keep(p, f->update[i].value, true); /* last: these stop earlier */
}

/* ---- what becomes bf16 ---- */

/* Of maps and moves: wide beats half, half beats weak. */
static Kind strongest(const Precision *p, const Node *n) {
  Kind k = KIND_WEAK;
  for (int i = 0; i < n->n_in; i++) {
    Kind in = (Kind)p->kind[n->in[i]->id];
    if (in > k) k = in;
  }
  return k;
}

static Kind kind_of(const Precision *p, const Node *n) {
  if (!is_float(n)) return KIND_OTHER;
  if (n->type.dtype == DTYPE_BF16) return KIND_HALF;
  if (op_info[n->op].class == CLASS_LEAF || n->op == OP_FILL) return KIND_WEAK;
  if (n->op == OP_GRAD) return p->kind[n->in[1]->id] == KIND_HALF ? KIND_HALF : KIND_WIDE;
  if (p->kept[n->id]) return KIND_WIDE;
  switch (op_info[n->op].class) {
  case CLASS_CONTRACT: return KIND_HALF;
  case CLASS_ATTEND: return n->op == OP_ATTEND_LSE ? KIND_WIDE : KIND_HALF;
  case CLASS_GRADIENT: case CLASS_COMPOSITE: return n->op == OP_MEAN || n->op == OP_CROSS_ENTROPY ? KIND_WIDE : KIND_HALF;
  case CLASS_REDUCE: return strongest(p, n) == KIND_WEAK ? KIND_WEAK : KIND_WIDE;
  case CLASS_SCATTER: return KIND_WIDE;
  case CLASS_LEAF: case CLASS_MAP: case CLASS_MOVE: break;
  }
  if (n->op == OP_CAST) return is_float(n->in[0]) ? KIND_WIDE : KIND_WEAK;
  return strongest(p, n);
}

/* ---- the new function ---- */

static bool is_wrt(const Precision *p, const Node *x) {
  for (int i = 0; i < p->n_wrt; i++)
    if (p->wrt[i] == x) return true;
  return false;
}

/* x as t.  Casts go below views and fills, so that a param is cast once whatever reads it. */
static Node *as(const Precision *p, Graph *g, Node *x, DType t) {
  if (!x || !is_float(x) || x->type.dtype == t) return x;
  if (is_wrt(p, x)) return graph_cast(g, x, t);
  if (x->op == OP_FILL && t == DTYPE_BF16) {
    Type type = x->type;
    type.dtype = t;
    return graph_fill(g, x->attrs.fill.value, &type);
  }
  bool is_view = x->op == OP_RESHAPE || x->op == OP_BROADCAST || x->op == OP_TRANSPOSE || x->op == OP_REVERSE ||
                 x->op == OP_SLICE || x->op == OP_DETACH;
  if (!is_view || t != DTYPE_BF16) return graph_cast(g, x, t);
  Node *below = as(p, g, x->in[0], t);
  return below ? node_rebuild(g, x, &below) : NULL;
}

static bool is_compare(Op op) { return op == OP_LT || op == OP_LE || op == OP_EQ; }

/* The type in which n reads float operand i. */
static DType read_type(const Precision *p, const Node *n, int i, Node *const *in) {
  bool is_half = p->kind[n->id] == KIND_HALF;
  if (n->op == OP_ATTEND_LSE) return DTYPE_BF16;
  if (op_info[n->op].class == CLASS_ATTEND) {
    int statistics = n->op == OP_ATTEND_GRAD_V ? 3 : n->op == OP_ATTEND_GRAD_Q || n->op == OP_ATTEND_GRAD_K ? 4 : n->n_in;
    return i < statistics ? DTYPE_BF16 : DTYPE_F32;
  }
  if (is_compare(n->op)) {
    bool all_half = true;
    for (int k = 0; k < n->n_in; k++) all_half &= in[k]->type.dtype == DTYPE_BF16;
    return all_half ? DTYPE_BF16 : DTYPE_F32;
  }
  return is_half ? DTYPE_BF16 : DTYPE_F32;
}

static Node *rebuild(Precision *p, Graph *g, Node *n, Node *const *in) {
  if (n->n_in == 0) return n;
  if (n->op == OP_GRAD) return node_rebuild(g, n, in);
  if (n->op == OP_CAST && is_float(n)) return graph_cast(g, in[0], n->type.dtype);
  Node **to = ARENA_ARRAY(g->arena, Node *, n->n_in);
  for (int i = 0; i < n->n_in; i++) {
    to[i] = is_float(in[i]) ? as(p, g, in[i], read_type(p, n, i, in)) : in[i];
    if (!to[i]) return NULL;
  }
  return node_rebuild(g, n, to);
}

static Node *visit(void *ctx, Graph *g, Node *n, Node *const *in) {
  Precision *p = ctx;
  Node *made = rebuild(p, g, n, in);
  if (made && p->is_wrt[n->id]) ARENA_PUSH(g->arena, p->wrt, p->n_wrt, p->cap_wrt, made);
  return made;
}

/* Outputs and updates have the types they had. */
static bool restore_ports(const Precision *p, Func *f, const Func *old) {
  for (int i = 0; i < f->n_out; i++)
    if (!(f->out[i].node = as(p, f->graph, f->out[i].node, old->out[i].node->type.dtype))) return false;
  for (int i = 0; i < f->n_update; i++)
    if (!(f->update[i].value = as(p, f->graph, f->update[i].value, old->update[i].target->type.dtype))) return false;
  return true;
}

Func *pass_precision(Func *f) {
  Arena *a = f->graph->arena;
  int n;
  Node **nodes = func_nodes(f, &n);
  Precision p = {ARENA_ARRAY(a, uint8_t, f->graph->n_nodes), ARENA_ARRAY(a, bool, f->graph->n_nodes),
                 ARENA_ARRAY(a, bool, f->graph->n_nodes)};
  for (int i = 0; i < n; i++)
    if (nodes[i]->op == OP_GRAD) p.is_wrt[nodes[i]->in[1]->id] = true;
  keep_roots(&p, f, nodes, n);
  for (int i = 0; i < n; i++) p.kind[nodes[i]->id] = (uint8_t)kind_of(&p, nodes[i]);
  Func *to = func_rewrite(f, visit, &p);
  return to && restore_ports(&p, to, f) ? to : NULL;
}
