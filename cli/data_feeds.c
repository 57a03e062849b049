/* See data_feeds.h. */
#include "cli/data_feeds.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "runtime/base/names.h"
#include "train/trainer.h"

/* An input of a function and what one example gives it. */
typedef struct Feed {
  const Dataset *data;
  const Func *f;
  int input;
  DataWant want;
} Feed;

static PlanTensor port_tensor(const Port *p) {
  const Type *t = &p->node->type;
  PlanTensor out = {.name = p->name, .dtype = t->dtype, .rank = t->rank};
  memcpy(out.dim, t->dim, (size_t)t->rank * sizeof *t->dim);
  return out;
}

/* Its sizes but the first, which must be the batch. */
static bool fill_want(Feed *f, const PlanTensor *t, Error *err) {
  bool ok = t->rank > 0 && dim_equal(t->dim[0], (Dim){.b = 1});
  f->want = (DataWant){.name = t->name, .dtype = t->dtype, .rank = t->rank - 1};
  for (int i = 0; ok && i < f->want.rank; i++) {
    ok = dim_is_const(t->dim[i + 1]);
    f->want.dim[i] = t->dim[i + 1].c;
  }
  return ok || error_set(err, ERROR_ARGUMENT, "input \"%s\" of \"%s\" must be a batch: its first size must be B, alone",
                         t->name, f->f->name);
}

/* "text i32 [any], takes 0 to 599": a field, and the ids that the model has a place for. */
static void print_source(const Feed *f, const DataField *field, Buffer *out) {
  IdRange ids = f->want.dtype == DTYPE_I32 ? func_ids(f->f, f->f->in[f->input].node) : (IdRange){0};
  dataset_print_field(field, out);
  if (field->fit == FIT_TEXT) buffer_printf(out, ", by the merges of nuwa train --bpe");
  if (field->missing) buffer_printf(out, ", not of %llu examples", (unsigned long long)field->missing);
  if (ids.n) buffer_printf(out, "; the model takes 0 to %lld", (long long)(ids.n - 1));
}

static bool print_feed(Feed *f, Buffer *out, Error *err) {
  char type[200];
  PlanTensor t = port_tensor(&f->f->in[f->input]);
  buffer_printf(out, "    %s %s <- ", t.name, type_print(&f->f->in[f->input].node->type, type, sizeof type));
  if (train_feeds(&t)) return buffer_printf(out, "the trainer\n"), true;
  if (!fill_want(f, &t, err)) return false;
  const DataField *field = dataset_find_field(f->data, &f->want);
  if (field)
    print_source(f, field, out);
  else if (strcmp(t.name, PORT_TOKENS) == 0)
    buffer_printf(out, "codes of the autoencoder of nuwa train --vq-weights");
  else if (!dataset_match(f->data, NULL, &f->want, err))
    return error_prefix(err, "input \"%s\" of \"%s\"", t.name, f->f->name);
  buffer_printf(out, "\n");
  return true;
}

static bool print_function(const Dataset *d, const Func *f, Buffer *out, Error *err) {
  bool ok = true;
  buffer_printf(out, "  %s\n", f->name);
  for (int i = 0; ok && i < f->n_in; i++) {
    size_t begun = out->len;
    ok = print_feed(&(Feed){.data = d, .f = f, .input = i}, out, err);
    if (!ok) out->len = begun; /* the error says it */
  }
  return ok;
}

typedef struct Call {
  const Dataset *data;
  const Model *model;
  Buffer out;
  bool ok;
  Error *err;
} Call;

static void print_body(void *ctx) {
  Call *c = ctx;
  const Model *m = c->model;
  Error ignored;
  const Func *evaluate = model_find(m, FUNC_EVALUATE, &ignored);
  c->ok = m->n_train || evaluate ||
          error_set(c->err, ERROR_ARGUMENT, "%s does not say how it is trained: there is nothing to feed", m->path);
  if (c->ok) buffer_printf(&c->out, "%s is fed\n", m->path);
  for (int i = 0; c->ok && i < m->n_train; i++) c->ok = print_function(c->data, m->train[i].func, &c->out, c->err);
  if (c->ok && evaluate) c->ok = print_function(c->data, evaluate, &c->out, c->err);
}

bool data_feeds_print(const Dataset *d, const Model *m, Error *err) {
  Call c = {.data = d, .model = m, .err = err};
  bool ok = arena_protect(m->graph->arena, print_body, &c, err) && c.ok;
  if (c.out.data && !c.out.failed) cli_show(stdout, c.out.data);
  buffer_done(&c.out);
  return error_asked(ok, err);
}
