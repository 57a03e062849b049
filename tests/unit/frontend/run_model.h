/* Functions of models run by the interpreter, their gradients computed. */
#ifndef NUWA_TEST_RUN_MODEL_H
#define NUWA_TEST_RUN_MODEL_H

#include "ir/interp.h"
#include "passes/passes.h"
#include "tests/unit/frontend/load.h"

enum { RUN_MAX = 96, RUN_BATCH = 2 };

/* What a function gave, and the leafs it read, by name. */
typedef struct Ran {
  Model *m;
  const char *function;
  Func *f;
  Arena *arena;
  Tensor leaf[RUN_MAX], out[RUN_MAX], update[RUN_MAX];
  const char *leaf_name[RUN_MAX];
  int n_leaf;
  void (*fill)(Tensor *t, const char *name);
  Error err;
  bool ok;
} Ran;

static inline const Tensor *run_leaf(void *ctx, const Node *leaf, Error *err) {
  Ran *r = ctx;
  for (int i = 0; i < r->n_leaf; i++)
    if (strcmp(r->leaf_name[i], leaf->attrs.leaf.name) == 0) return &r->leaf[i];
  if (r->n_leaf == RUN_MAX) {
    error_set(err, ERROR_LIMIT, "more than %d leafs", RUN_MAX);
    return NULL;
  }
  int64_t dim[MAX_RANK];
  for (int i = 0; i < leaf->type.rank; i++) dim[i] = dim_value(leaf->type.dim[i], RUN_BATCH, 0);
  Tensor *t = &r->leaf[r->n_leaf];
  *t = tensor_new(r->arena, leaf->type.dtype, leaf->type.rank, dim);
  r->leaf_name[r->n_leaf++] = leaf->attrs.leaf.name;
  r->fill(t, leaf->attrs.leaf.name);
  return t;
}

static inline void run_body(void *ctx) {
  Ran *r = ctx;
  Func *f = model_find(r->m, r->function, &r->err);
  r->f = f ? pass_grad(f) : NULL;
  r->ok = r->f && interp_run(r->f, RUN_BATCH, 0, run_leaf, r, r->arena, r->out, r->update, &r->err);
}

/* That function ("f", "train.main") of r->m, which may be NULL, with leafs that `fill` fills; run_done in any case. */
static inline bool run_function(Ran *r, const char *function, void (*fill)(Tensor *t, const char *name)) {
  r->fill = fill;
  r->function = function;
  r->arena = r->m ? arena_new() : NULL;
  r->ok = r->arena && arena_protect(r->m->graph->arena, run_body, r, &r->err) && r->ok;
  return r->ok;
}

/* That of the model `text`. */
static inline bool run_model(Ran *r, const char *text, const char *function,
                             void (*fill)(Tensor *t, const char *name)) {
  *r = (Ran){0};
  r->m = load_with(text, (ModelOptions){.models_dir = MODELS_DIR}, &r->err);
  return run_function(r, function, fill);
}

static inline void run_done(Ran *r) {
  arena_free(r->arena);
  model_free(r->m);
}

/* What the leaf of that name held; NULL: it was not read. */
static inline const double *run_leaf_data(const Ran *r, const char *name) {
  for (int i = 0; i < r->n_leaf; i++)
    if (strcmp(r->leaf_name[i], name) == 0) return r->leaf[i].data;
  return NULL;
}

/* Place of the output, -1: none. */
static inline int run_output(const Ran *r, const char *name) {
  for (int i = 0; i < r->f->n_out; i++)
    if (strcmp(r->f->out[i].name, name) == 0) return i;
  return -1;
}

#endif
