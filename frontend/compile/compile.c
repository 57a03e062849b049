/* The pipeline, in one place.
 *
 * A function:  precision when bf16 is asked for, expand, fold, dce, layout (-> a prepare function of its own), then
 * fuse and memplan; plan_build.c lowers.  A decode: incremental first, then its prologue and its step as functions.
 * The verifier runs between all passes: a pass that breaks a function is a bug and is named. */
#include "frontend/compile/compile.h"

#include <string.h>

#include "codegen/plan/products.h"

typedef struct Compile {
  Model *m;
  const CompileOptions *o;
  PlanBuild *b;
  ImageOptions images;
  Nvrtc *nvrtc;        /* when machine code for CUDA is wanted */
  Buffer *out;
  Error *err;
  bool ok;
} Compile;

static bool checked(Func *f, Form form, const char *after, Error *err) { return f && func_verify(f, form, after, err); }

/* Up to what layout gives; *out_prepare may become NULL.  out_prepare NULL: no layout, for functions that layout made. */
static Func *run_passes(Func *f, Func **out_prepare, Error *err) {
  f = pass_expand(f);
  if (!checked(f, FORM_PRIMITIVE, "expand", err)) return NULL;
  f = pass_fold(f);
  if (!checked(f, FORM_PRIMITIVE, "fold", err)) return NULL;
  f = pass_dce(f);
  if (!checked(f, FORM_PRIMITIVE, "dce", err)) return NULL;
  if (!out_prepare) return f;
  f = pass_layout(f, out_prepare);
  return checked(f, FORM_PRIMITIVE, "layout", err) ? f : NULL;
}

/* A function in primitive form; its index in the plan, or -1. */
static int plan_function(Compile *c, Func *f, bool is_prepare) {
  Program *p = pass_fuse(f);
  if (p && c->o->cublaslt) p = products_split(c->m->graph->arena, p);
  MemPlan *m = p ? pass_memplan(p) : NULL;
  if (!m) return -1;
  if (c->o->explain) {
    buffer_printf(c->o->explain, "function %s\n", f->name);
    extents_explain(f, c->o->explain);
    program_explain(p, m, c->o->explain);
    if (c->o->cublaslt) products_explain(p, c->o->explain);
  }
  return plan_build_function(c->b, p, m, is_prepare);
}

/* The index of the function in the plan, or -1. */
static int add_function(Compile *c, Func *f) {
  Func *prepare = NULL;
  f = run_passes(f, &prepare, c->err);
  if (!f) return -1;
  if (prepare) {
    prepare = run_passes(prepare, NULL, c->err);
    if (!prepare || plan_function(c, prepare, true) < 0) return -1;
  }
  return plan_function(c, f, false);
}

Func *compile_precision(Func *f, DType precision) { return f && precision == DTYPE_BF16 ? pass_precision(f) : f; }

static bool add_decode(Compile *c, const ModelDecode *md, Func *f) {
  Decode *d = pass_incremental(f, md->tokens, md->logits);
  if (!d || !checked(d->prologue, FORM_ANY, "incremental", c->err) || !checked(d->step, FORM_ANY, "incremental", c->err)) return false;
  int prologue = d->prologue->n_update > 0 ? add_function(c, d->prologue) : -1;
  int step = add_function(c, d->step);
  return step >= 0 && (prologue >= 0 || d->prologue->n_update == 0) && plan_build_decode(c->b, d, prologue, step);
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

static void add_texts(Compile *c) {
  plan_build_text(c->b, "model", c->m->path);
  if (c->o->function) plan_build_text(c->b, "partial", "true");
  plan_build_text(c->b, "precision", dtype_name(c->o->precision));
  for (int i = 0; i < c->m->options.n; i++) {
    const Option *o = &c->m->options.option[i];
    Buffer value = {0};
    value_print(&o->value, &value);
    const char *text = arena_take_buffer(c->m->graph->arena, &value);
    plan_build_text(c->b, arena_printf(c->m->graph->arena, "option.%s", o->name), text);
  }
}

/* A loss that is trained is there for validation too, which must not move what training moves. */
static Func *without_updates(const Func *f) {
  Func *copy = ARENA_NEW(f->graph->arena, Func);
  *copy = *f;
  copy->update = NULL;
  copy->n_update = 0;
  return copy;
}

static bool add_all(Compile *c) {
  for (int i = 0; i < c->m->n_func; i++) {
    Func *f = c->m->func[i];
    if (!is_wanted(c->o, f->name)) continue;
    const ModelDecode *d = c->o->whole ? NULL : compile_decode_of(c->m, f);
    f = compile_precision(f, c->o->precision);
    if (!checked(f, FORM_ANY, "precision", c->err)) return false;
    if (c->o->train && strcmp(f->name, c->o->train) == 0 && f->n_out > 0) f = without_updates(f);
    if (d ? !add_decode(c, d, f) : add_function(c, f) < 0) return false;
  }
  if (!c->o->train) return true;
  Func *loss = compile_precision(model_find(c->m, c->o->train, c->err), c->o->precision);
  Func *train = loss ? train_build(loss, &c->o->adam) : NULL;
  return checked(train, FORM_ANY, "train", c->err) && add_function(c, train) >= 0;
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
  c->m->graph->err = c->err;
  *o = (ImageOptions){.cuda.nvrtc = c->nvrtc, .store = c->o->store, .threads = c->o->threads};
  bool cuda = c->o->device == PLAN_CUDA;
  if (!(cuda ? choose_cuda(c->o, o, c->err) : target_host(c->o->isa, &o->target, c->err)) || !names_exist(c)) return false;
  c->b = plan_build_new(c->m->graph->arena, o, c->err);
  if (c->o->cublaslt) plan_build_use_cublaslt(c->b);
  plan_build_choose(c->b, c->o->chooser);
  add_texts(c);
  return add_all(c);
}

static void compile_body(void *ctx) {
  Compile *c = ctx;
  c->ok = lower_all(c) && plan_build_finish(c->b, c->out);
}

bool compile_model(Model *m, const CompileOptions *o, Buffer *out, Error *err) {
  Compile c = {.m = m, .o = o, .out = out, .err = err};
  if (o->device == PLAN_CUDA && !(c.nvrtc = nvrtc_open(o->nvrtc, err))) return false;
  bool within = arena_protect(m->graph->arena, compile_body, &c, err);
  nvrtc_close(c.nvrtc);
  m->graph->err = &m->diag;
  return within && c.ok;
}

static void lower_body(void *ctx) {
  Compile *c = ctx;
  c->ok = lower_all(c);
}

bool compile_lower(Model *m, const CompileOptions *o, Kernel *const **out_kernel, int *out_n, Error *err) {
  Compile c = {.m = m, .o = o, .err = err};
  bool within = arena_protect(m->graph->arena, lower_body, &c, err);
  m->graph->err = &m->diag;
  if (!within || !c.ok) return false;
  *out_n = plan_build_kernels(c.b, out_kernel);
  return true;
}

typedef struct EstimateCall {
  Compile c;
  Estimate *out;
} EstimateCall;

static void estimate_body(void *ctx) {
  EstimateCall *e = ctx;
  const LaunchGroup *launch;
  if (!(e->c.ok = lower_all(&e->c))) return;
  Arena *a = e->c.m->graph->arena;
  e->out->n_kernel = plan_build_kernels(e->c.b, &e->out->kernel);
  e->out->n_launch = plan_build_launches(e->c.b, &launch);
  e->out->launch = ARENA_ARRAY(a, LaunchEstimate, e->out->n_launch);
  for (int i = 0; i < e->out->n_launch; i++)
    e->out->launch[i] = (LaunchEstimate){launch[i].function, launch[i].kind, launch[i].kernel, launch[i].product, launch[i].group,
                                           program_cost(a, launch[i].group)};
}

bool compile_estimate(Model *m, const CompileOptions *o, Estimate *out, Error *err) {
  EstimateCall e = {.c = {.m = m, .o = o, .err = err}, .out = out};
  *out = (Estimate){0};
  bool within = arena_protect(m->graph->arena, estimate_body, &e, err);
  m->graph->err = &m->diag;
  return within && e.c.ok;
}
