/* A model file trained for some steps by the interpreter, on pictures of two kinds: a bright square on the left,
 * which is class 0, or on the right. */
#ifndef NUWA_TEST_TRIAL_H
#define NUWA_TEST_TRIAL_H

#include <math.h>

#include "tests/unit/frontend/run_model.h"

enum { EXAMPLES = 6, MOST_LEAFS = 200 };

/* A model with all that its functions read, by name. */
typedef struct Trial {
  Model *m;
  Arena *arena;
  Tensor leaf[MOST_LEAFS];
  const char *leaf_name[MOST_LEAFS];
  int n_leaf;
  uint64_t state; /* of the initial params */
  int64_t step;
  double metric[RUN_MAX];
  Error err;
} Trial;

static inline double draw(Trial *x) { /* in [-1, 1) */
  x->state = x->state * 6364136223846793005u + 1442695040888963407u;
  return (double)(x->state >> 33) / (double)(1u << 30) - 1;
}

static inline void fill_param(Trial *x, Tensor *t, const ParamInit *init) {
  double scale = init->kind == INIT_NORMAL ? init->scale * 1.7 : init->scale;
  for (int64_t i = 0; i < tensor_elems(t); i++)
    t->data[i] = init->kind == INIT_ZEROS ? 0 : init->kind == INIT_ONES ? 1 : scale * draw(x);
}

static inline void fill_image(Tensor *t) {
  int64_t side = t->dim[1];
  for (int64_t i = 0; i < tensor_elems(t); i++) {
    int64_t b = i / (side * side * t->dim[3]), column = i / t->dim[3] % side;
    t->data[i] = (column >= side / 2) == (b % 2 == 1) && i / t->dim[3] / side % side >= 2 ? 0.6 : -0.9;
  }
}

static inline void fill(Trial *x, const Node *leaf, Tensor *t) {
  const char *name = leaf->attrs.leaf.name;
  if (leaf->op == OP_PARAM)
    fill_param(x, t, &leaf->attrs.leaf.init);
  else if (strcmp(name, "image") == 0)
    fill_image(t);
  for (int64_t i = 0; i < tensor_elems(t) && leaf->op == OP_INPUT && t->dtype == DTYPE_I32; i++)
    t->data[i] = strcmp(name, "class") == 0    ? (double)(i % 2)
                 : strcmp(name, "tokens") == 0 ? (double)(i * i % 5)
                                               : (double)i;
}

static inline const Tensor *read_leaf(void *ctx, const Node *leaf, Error *err) {
  Trial *x = ctx;
  const char *name = leaf->attrs.leaf.name;
  int k = 0;
  while (k < x->n_leaf && strcmp(x->leaf_name[k], name) != 0) k++;
  if (k == x->n_leaf) {
    int64_t dim[MAX_RANK];
    if (k == MOST_LEAFS) abort();
    for (int i = 0; i < leaf->type.rank; i++) dim[i] = dim_value(leaf->type.dim[i], EXAMPLES, 0);
    x->leaf[k] = tensor_new(x->arena, leaf->type.dtype, leaf->type.rank, dim);
    x->leaf_name[x->n_leaf++] = name;
    fill(x, leaf, &x->leaf[k]);
  }
  if (strcmp(name, "step") == 0) x->leaf[k].data[0] = (double)x->step;
  if (strcmp(name, "steps") == 0) x->leaf[k].data[0] = 100;
  return &x->leaf[k];
}

/* Runs a function whose marks of gradients are gone; its updates are what its leafs hold then.  Its outputs are in
 * x->metric, NaN where they are no scalars. */
static inline bool run(Trial *x, const Func *f) {
  Arena *a = arena_new();
  Tensor out[RUN_MAX], *update = calloc((size_t)f->n_update + 1, sizeof *update);
  bool ok = f->n_out <= RUN_MAX && interp_run(f, EXAMPLES, 0, read_leaf, x, a, out, update, &x->err);
  for (int i = 0; ok && i < f->n_out; i++) x->metric[i] = out[i].rank ? NAN : out[i].data[0];
  for (int i = 0; ok && i < f->n_update; i++) {
    const Tensor *t = read_leaf(x, f->update[i].target, &x->err);
    memcpy(t->data, update[i].data, (size_t)tensor_elems(t) * sizeof *t->data);
  }
  free(update);
  arena_free(a);
  return ok;
}

static inline double metric(const Trial *x, const Func *f, const char *name) {
  for (int i = 0; i < f->n_out; i++)
    if (strcmp(f->out[i].name, name) == 0) return x->metric[i];
  return NAN;
}

static inline bool trial_open(Trial *x, const char *name, const Define *define, int n) {
  char path[300];
  snprintf(path, sizeof path, MODELS_DIR "/%s.lua", name);
  *x = (Trial){.state = 1, .arena = arena_new()};
  x->m = model_load(path, &(ModelOptions){.define = define, .n_define = n, .models_dir = MODELS_DIR}, &x->err);
  EXPECT(x->m, "%s", x->err.text);
  return x->m != NULL;
}

static inline void trial_close(Trial *x) {
  arena_free(x->arena);
  model_free(x->m);
}

/* Steps first ... last of an entry; its loss before the first of them and after, both in step `first`'s random
 * numbers. */
static inline void train(Trial *x, const char *entry, int first, int last, double *before, double *after) {
  Func *f = model_find(x->m, entry, &x->err), *g = f ? pass_grad(f) : NULL;
  REQUIRE(g, "%s", x->err.text);
  for (x->step = first; x->step <= last; x->step++) {
    REQUIRE(run(x, g), "%s: %s", entry, x->err.text);
    EXPECT(isfinite(metric(x, g, "loss")) && isfinite(metric(x, g, "grad_norm")) && metric(x, g, "grad_norm") > 0,
           "%s: loss %g, norm of the gradient %g", entry, metric(x, g, "loss"), metric(x, g, "grad_norm"));
    if (x->step == first) *before = metric(x, g, "loss");
  }
  x->step = first;
  REQUIRE(run(x, g), "%s", x->err.text);
  *after = metric(x, g, "loss");
}

#endif
