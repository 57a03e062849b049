/* The reference interpreter: walks a function and evaluates node by node.  What an op means is in interp_*.c. */
#include "ir/interp.h"

#include <string.h>

#include "ir/eval.h"

int64_t tensor_elems(const Tensor *t) {
  int64_t n = 1;
  for (int i = 0; i < t->rank; i++) n *= t->dim[i];
  return n;
}

Tensor tensor_new(Arena *a, DType dtype, int rank, const int64_t *dim) {
  Tensor t = {.dtype = dtype, .rank = rank};
  size_t n = 1;
  for (int i = 0; i < rank; i++) {
    t.dim[i] = dim[i];
    if (!size_mul(n, (size_t)dim[i], &n)) n = SIZE_MAX; /* the allocation then fails */
  }
  t.data = ARENA_ARRAY(a, double, n);
  return t;
}

bool index_next(int rank, const int64_t *dim, int64_t *at) {
  for (int i = rank - 1; i >= 0; i--) {
    if (++at[i] < dim[i]) return true;
    at[i] = 0;
  }
  return false;
}

void strides_of(const Tensor *t, int64_t *stride) {
  int64_t n = 1;
  for (int i = t->rank - 1; i >= 0; i--) {
    stride[i] = n;
    n *= t->dim[i];
  }
}

typedef bool (*EvalFn)(Eval *e);
static const EvalFn eval_of[OP_COUNT] = {
#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) eval_##eval,
#include "ir/ops.def"
#undef OP
};

/* A bf16 result is rounded once, from f32, and denormals are flushed; arithmetic on bf16 operands is that on their
 * values. */
static void round_bf16(Tensor *t) {
  int64_t n = tensor_elems(t);
  for (int64_t i = 0; i < n; i++) t->data[i] = (double)bf16_round((float)t->data[i]);
}

bool eval_leaf(Eval *e) {
  const Node *n = e->node;
  const Tensor *t = e->leaf(e->ctx, n, e->err);
  if (!t) return false;
  bool fits = t->dtype == e->out->dtype && t->rank == e->out->rank;
  for (int i = 0; fits && i < t->rank; i++) fits = t->dim[i] == e->out->dim[i];
  if (!fits) {
    Type has = {.dtype = t->dtype, .rank = t->rank}, needs = {.dtype = e->out->dtype, .rank = e->out->rank};
    char text[2][400];
    for (int i = 0; i < t->rank; i++) has.dim[i] = dim_const(t->dim[i]);
    for (int i = 0; i < needs.rank; i++) needs.dim[i] = dim_const(e->out->dim[i]);
    return error_set(e->err, ERROR_ARGUMENT, "%s \"%s\" needs %s, has %s", op_info[n->op].text, n->attrs.leaf.name,
                     type_print(&needs, text[0], sizeof text[0]), type_print(&has, text[1], sizeof text[1]));
  }
  *e->out = *t;
  return true;
}

bool eval_grad(Eval *e) {
  return error_set(e->err, ERROR_ARGUMENT, "grad: is a mark, which the pass grad replaces before a function can run");
}

typedef struct InterpRun {
  const Func *f;
  Node **nodes;
  int n_nodes;
  int64_t B, R;
  LeafFn leaf;
  void *ctx;
  Arena *arena;
  Tensor *out, *update;
  Error *err;
  bool holds, ok;
} InterpRun;

static void list_nodes(void *ctx) {
  InterpRun *r = ctx;
  r->nodes = func_nodes(r->f, &r->n_nodes);
  r->holds = func_holds_at(r->f, r->B, r->R, r->err);
}

static bool run_node(InterpRun *r, const Node *n, Tensor *value) {
  int64_t dim[MAX_RANK];
  for (int i = 0; i < n->type.rank; i++) {
    dim[i] = dim_value(n->type.dim[i], r->B, r->R);
    if (dim[i] < 0)
      return error_set(r->err, ERROR_ARGUMENT, "%s: axis %d would have %lld elements", op_info[n->op].text, i,
                       (long long)dim[i]);
  }
  const Tensor **in = ARENA_ARRAY(r->arena, const Tensor *, n->n_in);
  for (int i = 0; i < n->n_in; i++) in[i] = &value[n->in[i]->id];
  Tensor *out = &value[n->id];
  *out = op_info[n->op].class == CLASS_LEAF ? (Tensor){.dtype = n->type.dtype, .rank = n->type.rank}
                                            : tensor_new(r->arena, n->type.dtype, n->type.rank, dim);
  memcpy(out->dim, dim, (size_t)n->type.rank * sizeof *dim);
  Eval e = {n, in, out, r->B, r->R, r->arena, r->leaf, r->ctx, r->err};
  if (!eval_of[n->op](&e)) return false;
  if (out->dtype == DTYPE_BF16 && op_info[n->op].class != CLASS_LEAF) round_bf16(out);
  return true;
}

static void run_nodes(void *ctx) {
  InterpRun *r = ctx;
  int last = r->n_nodes ? r->nodes[r->n_nodes - 1]->id : -1;
  Tensor *value = ARENA_ARRAY(r->arena, Tensor, last + 1);
  for (int i = 0; i < r->n_nodes; i++)
    if (!run_node(r, r->nodes[i], value)) return;
  for (int i = 0; i < r->f->n_out; i++) r->out[i] = value[r->f->out[i].node->id];
  for (int i = 0; r->update && i < r->f->n_update; i++) r->update[i] = value[r->f->update[i].value->id];
  r->ok = true;
}

bool interp_run(const Func *f, int64_t B, int64_t R, LeafFn leaf, void *ctx, Arena *a, Tensor *out, Tensor *update,
                Error *err) {
  InterpRun r = {.f = f, .B = B, .R = R, .leaf = leaf, .ctx = ctx, .arena = a, .out = out, .update = update, .err = err};
  /* One after the other, not nested: leaving the outer of two protected arenas would strand the inner one. */
  return arena_protect(f->graph->arena, list_nodes, &r, err) && r.holds && arena_protect(a, run_nodes, &r, err) && r.ok;
}
