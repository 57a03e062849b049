/* From a model to a bundle: every function goes through the pipeline (pipeline.c), what comes out of it is lowered and
 * put into the plan. */
#include "frontend/compile/compile.h"

#include <string.h>

#include "codegen/plan/products.h"
#include "runtime/base/names.h"

/* What one compile makes.  A function is copied out of the model's graph into one of its own: what passes make of it
 * goes with the compile, and what they need to work is as large as the function, not as the model. */
typedef struct Workspace {
  Arena *arena;        /* the plan and its kernels */
  Graph **graph;       /* one for every function */
  int n_graph;
  Node **copied;       /* func_copy's, [nodes of the model's graph] */
} Workspace;

typedef struct Compile {
  const Model *m;
  const CompileOptions *o;
  Workspace *work;
  PlanBuild *b;
  ImageOptions images;
  Nvrtc *nvrtc;        /* when machine code for CUDA is wanted */
  Averaged *averaged;  /* entries of training with averages */
  int n_averaged;
  int prologue;        /* of the decode on its way: its index in the plan */
  Buffer *out;
  Error *err;
  bool ok;
} Compile;

static void explain(Compile *c, const PassWork *w) {
  if (!c->o->explain) return;
  buffer_printf(c->o->explain, "function %s\n", w->func->name);
  extents_explain(w->func, c->o->explain);
  program_explain(w->program, w->memplan, c->o->explain);
  if (c->o->cublaslt) products_explain(w->program, c->o->explain);
}

/* Puts a work that has come through into the plan. */
static bool add_work(void *ctx, PassWork *w, const Pass *last) {
  Compile *c = ctx;
  explain(c, w);
  int index = plan_build_function(c->b, w->program, w->memplan, w->is_prepare);
  if (index < 0) return false;
  if (w->no_samples) plan_build_needs_samples(c->b, index, w->no_samples);
  if (!w->split) return true;
  if (w->is_prologue) {
    c->prologue = index;
    return true;
  }
  return plan_build_decode(c->b, w->split, w->split->prologue->n_update > 0 ? c->prologue : -1, index);
}

static bool is_wanted(const CompileOptions *o, const char *name) {
  for (int i = 0; i < o->n_function; i++)
    if (strcmp(o->function[i], name) == 0) return true;
  return o->function == NULL;
}

static bool names_exist(Compile *c) {
  for (int i = 0; i < c->o->n_function; i++)
    if (!model_find(c->m, c->o->function[i], c->err)) return false;
  return true;
}

const ModelDecode *compile_decode_of(const Model *m, const Func *f) {
  for (int i = 0; i < m->n_decode; i++)
    if (m->decode[i].func == f) return &m->decode[i];
  return NULL;
}

static void add_value(Compile *c, const char *prefix, const char *name, const Value *v) {
  Arena *a = c->work->arena;
  Buffer value = {0};
  value_print(v, &value);
  const char *text = arena_take_buffer(a, &value);
  plan_build_text(c->b, arena_printf(a, "%s%s", prefix, name), text);
}

static void add_texts(Compile *c) {
  char digest[65];
  source_digest(&c->m->source, digest);
  plan_build_text(c->b, PLAN_TEXT_MODEL, c->m->path);
  plan_build_text(c->b, PLAN_TEXT_SOURCE, digest);
  if (c->o->function) plan_build_text(c->b, PLAN_TEXT_PARTIAL, "true");
  plan_build_text(c->b, PLAN_TEXT_PRECISION, dtype_name(c->o->precision));
  for (int i = 0; i < c->m->options.n; i++)
    add_value(c, PLAN_TEXT_OPTION, c->m->options.option[i].name, &c->m->options.option[i].value);
  for (int i = 0; i < c->m->n_field; i++) add_value(c, PLAN_TEXT_FIELD, c->m->field[i].name, &c->m->field[i].value);
}

/* A function of the model on its way into the plan. */
typedef struct Adding {
  Compile *c;
  const Func *f;
  const ModelTrain *train; /* the entry that f is, or NULL */
  bool ok;
} Adding;

static void add_body(void *ctx) {
  Adding *a = ctx;
  Compile *c = a->c;
  Pipeline p = {.precision = c->o->precision, .done = add_work, .ctx = c, .err = c->err,
                .averaged = c->averaged, .n_averaged = c->o->raw ? 0 : c->n_averaged};
  p.cublaslt = c->o->cublaslt && c->o->device == PLAN_CUDA;
  PassWork w = {.func = func_copy(c->work->graph[c->work->n_graph - 1], a->f, c->work->copied), .train = a->train};
  w.decode = c->o->whole || a->train ? NULL : compile_decode_of(c->m, a->f);
  w.is_evaluation = c->o->train && strcmp(a->f->name, FUNC_EVALUATE) == 0;
  a->ok = w.func && pipeline_run(&p, &w);
}

static bool add_one(Compile *c, const Func *f, const ModelTrain *train) {
  Adding a = {.c = c, .f = f, .train = train};
  Graph *g = graph_new(c->err);
  if (!g) return false;
  c->work->graph[c->work->n_graph++] = g;
  return arena_protect(g->arena, add_body, &a, c->err) && a.ok;
}

static void find_averages(Compile *c) {
  Arena *a = c->work->arena;
  c->averaged = ARENA_ARRAY(a, Averaged, c->m->n_train);
  for (int i = 0; i < c->m->n_train; i++) {
    const ModelTrain *t = &c->m->train[i];
    if (t->average <= 0) continue;
    Averaged *to = &c->averaged[c->n_averaged++];
    *to = (Averaged){t->name, ARENA_ARRAY(a, const char *, t->func->n_update), 0};
    for (int k = 0; k < t->func->n_update; k++)
      if (train_averages(&t->func->update[k])) to->param[to->n_param++] = t->func->update[k].target->attrs.leaf.name;
  }
}

static bool add_all(Compile *c) {
  find_averages(c);
  for (int i = 0; i < c->m->n_func; i++)
    if (is_wanted(c->o, c->m->func[i]->name) && !add_one(c, c->m->func[i], NULL)) return false;
  for (int i = 0; i < c->m->n_train; i++) {
    const ModelTrain *t = &c->m->train[i];
    if ((c->o->train || (c->o->function && is_wanted(c->o, t->func->name))) && !add_one(c, t->func, t)) return false;
  }
  return true;
}

enum { LEAST_ARCH = 75, USUAL_ARCH = 80, LAST_ARCH = 999 };

static bool choose_cuda(const CompileOptions *o, ImageOptions *out, Error *err) {
  int least = o->n_arch ? LAST_ARCH : USUAL_ARCH;
  if (o->n_arch > CUDA_MAX_ARCHS)
    return error_set(err, ERROR_ARGUMENT, "%d archs are given, at most %d can be", o->n_arch, CUDA_MAX_ARCHS);
  for (int i = 0; i < o->n_arch; i++) {
    if (o->arch[i] < LEAST_ARCH || o->arch[i] > LAST_ARCH)
      return error_set(err, ERROR_ARGUMENT, "sm_%d: the least arch is sm_%d", o->arch[i], LEAST_ARCH);
    for (int k = 0; k < i; k++)
      if (o->arch[k] == o->arch[i]) return error_set(err, ERROR_ARGUMENT, "sm_%d is given twice", o->arch[i]);
    out->cuda.arch[out->cuda.n_arch++] = o->arch[i];
    if (o->arch[i] < least) least = o->arch[i];
  }
  out->target = target_cuda(least);
  return true;
}

/* Everything but machine code. */
static bool lower_all(Compile *c) {
  ImageOptions *o = &c->images;
  Workspace *w = c->work;
  *o = (ImageOptions){.cuda.nvrtc = c->nvrtc, .store = c->o->store, .threads = c->o->threads};
  bool cuda = c->o->device == PLAN_CUDA;
  if (!(cuda ? choose_cuda(c->o, o, c->err) : target_host(c->o->isa, &o->target, c->err)) || !names_exist(c)) return false;
  w->graph = ARENA_ARRAY(w->arena, Graph *, c->m->n_func + c->m->n_train);
  w->copied = ARENA_ARRAY(w->arena, Node *, c->m->graph->n_nodes);
  c->b = plan_build_new(w->arena, o, c->err);
  plan_build_choose(c->b, c->o->chooser);
  add_texts(c);
  return add_all(c);
}

static Workspace *workspace_new(Error *err) {
  Workspace *w = mem_alloc(sizeof *w);
  if (w && (w->arena = arena_new())) return w;
  mem_free(w);
  error_set(err, ERROR_MEMORY, "out of memory");
  return NULL;
}

static void workspace_free(Workspace *w) {
  if (!w) return;
  for (int i = 0; i < w->n_graph; i++) graph_free(w->graph[i]);
  arena_free(w->arena);
  mem_free(w);
}

static void compile_body(void *ctx) {
  Compile *c = ctx;
  c->ok = lower_all(c) && plan_build_finish(c->b, c->out);
}

bool compile_model(const Model *m, const CompileOptions *o, Buffer *out, Error *err) {
  Compile c = {.m = m, .o = o, .out = out, .err = err};
  if (o->device == PLAN_CUDA && !(c.nvrtc = nvrtc_open(o->nvrtc, err))) return false;
  c.work = workspace_new(err);
  bool ok = c.work && arena_protect(c.work->arena, compile_body, &c, err) && c.ok;
  workspace_free(c.work);
  nvrtc_close(c.nvrtc);
  return ok;
}

typedef struct Lowering {
  Compile c;
  Lowered *out;
} Lowering;

static void lower_body(void *ctx) {
  Lowering *l = ctx;
  Lowered *out = l->out;
  const LaunchGroup *launch;
  if (!(l->c.ok = lower_all(&l->c))) return;
  Arena *a = l->c.work->arena;
  out->n_kernel = plan_build_kernels(l->c.b, &out->kernel);
  out->n_launch = plan_build_launches(l->c.b, &launch);
  out->launch = ARENA_ARRAY(a, LaunchEstimate, out->n_launch);
  for (int i = 0; i < out->n_launch; i++)
    out->launch[i] = (LaunchEstimate){launch[i].function, launch[i].kind, launch[i].kernel,
                                      launch[i].product, launch[i].group,
                                      program_cost(a, launch[i].group)};
}

bool compile_lower(const Model *m, const CompileOptions *o, Lowered *out, Error *err) {
  *out = (Lowered){.work = workspace_new(err)};
  Lowering l = {.c = {.m = m, .o = o, .err = err, .work = out->work}, .out = out};
  return out->work && arena_protect(out->work->arena, lower_body, &l, err) && l.c.ok;
}

void lowered_done(Lowered *l) {
  workspace_free(l->work);
  *l = (Lowered){0};
}

typedef struct Meaning {
  const Model *model;
  Func *func;
  DType precision;
  Error *err;
} Meaning;

static void meaning_body(void *ctx) {
  Meaning *w = ctx;
  w->func = pipeline_meaning(w->func, model_train_of(w->model, w->func), w->precision, w->err);
}

Func *compile_meaning(Model *m, const char *name, DType precision, Error *err) {
  Meaning w = {m, model_find(m, name, err), precision, err};
  if (!w.func) return NULL;
  m->graph->err = err;
  bool within = arena_protect(m->graph->arena, meaning_body, &w, err);
  m->graph->err = &m->diag;
  return within ? w.func : NULL;
}
