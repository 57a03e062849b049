/* The pipeline, in one place.
 *
 * A function:  expand, fold, dce, layout (-> a prepare function of its own), then fuse, memplan and lowering in
 * plan_build.c.  A decode: incremental first, then its prologue and its step as functions.  The verifier runs between all
 * passes: a pass that breaks a function is a bug and is named. */
#include "frontend/compile.h"

#include <string.h>

const char *const compile_passes[] = {"lua", "expand", "fold", "dce", "layout", "fuse", "prologue", "step", "train", NULL};

typedef struct Compile {
  Model *m;
  const CompileOptions *o;
  PlanBuild *b;
  Buffer *out;
  Error *err;
  bool ok;
} Compile;

static bool checked(Func *f, Form form, const char *after, Error *err) { return f && func_verify(f, form, after, err); }

/* Up to what layout gives; *out_prepare may become NULL. */
static Func *run_passes(Func *f, Func **out_prepare, Error *err) {
  f = pass_expand(f);
  if (!checked(f, FORM_PRIMITIVE, "expand", err)) return NULL;
  f = pass_fold(f);
  if (!checked(f, FORM_PRIMITIVE, "fold", err)) return NULL;
  f = pass_dce(f);
  if (!checked(f, FORM_PRIMITIVE, "dce", err)) return NULL;
  f = pass_layout(f, out_prepare);
  return checked(f, FORM_PRIMITIVE, "layout", err) ? f : NULL;
}

/* The index of the function in the plan, or -1. */
static int add_function(Compile *c, Func *f) {
  Func *prepare = NULL;
  f = run_passes(f, &prepare, c->err);
  if (!f) return -1;
  if (prepare) {
    Func *none;
    prepare = run_passes(prepare, &none, c->err);
    if (!prepare || plan_build_function(c->b, prepare, true) < 0) return -1;
  }
  return plan_build_function(c->b, f, false);
}

static bool add_decode(Compile *c, const ModelDecode *md) {
  Decode *d = pass_incremental(md->func, md->tokens, md->logits);
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

static const ModelDecode *decode_of(const Model *m, const Func *f) {
  for (int i = 0; i < m->n_decode; i++)
    if (m->decode[i].func == f) return &m->decode[i];
  return NULL;
}

static void add_texts(Compile *c) {
  plan_build_text(c->b, "model", c->m->path);
  for (int i = 0; i < c->m->options.n; i++) {
    const Option *o = &c->m->options.option[i];
    Buffer value = {0};
    value_print(&o->value, &value);
    if (value.data) plan_build_text(c->b, arena_printf(c->m->graph->arena, "option.%s", o->name), value.data);
    buffer_done(&value);
  }
}

static bool add_all(Compile *c) {
  for (int i = 0; i < c->m->n_func; i++) {
    Func *f = c->m->func[i];
    if (!is_wanted(c->o, f->name)) continue;
    const ModelDecode *d = decode_of(c->m, f);
    if (d ? !add_decode(c, d) : add_function(c, f) < 0) return false;
  }
  if (!c->o->train) return true;
  Func *loss = model_find(c->m, c->o->train, c->err), *train = loss ? train_build(loss, &c->o->adam) : NULL;
  return checked(train, FORM_ANY, "train", c->err) && add_function(c, train) >= 0;
}

static void compile_body(void *ctx) {
  Compile *c = ctx;
  Target target;
  c->m->graph->err = c->err;
  if (!target_host(c->o->isa, &target, c->err) || !names_exist(c)) return;
  c->b = plan_build_new(c->m->graph->arena, &target, c->o->store, c->o->threads, c->o->explain, c->err);
  add_texts(c);
  c->ok = add_all(c) && plan_build_finish(c->b, c->out);
}

bool compile_model(Model *m, const CompileOptions *o, Buffer *out, Error *err) {
  Compile c = {.m = m, .o = o, .out = out, .err = err};
  bool within = arena_protect(m->graph->arena, compile_body, &c, err);
  m->graph->err = &m->diag;
  return within && c.ok;
}

/* ---- printing ---- */

typedef struct PrintAfter {
  Model *m;
  Func *f;
  const char *pass;
  Buffer *out;
  Error *err;
  bool ok;
} PrintAfter;

static Func *apply(PrintAfter *p, const char *until, Func *f) {
  static Func *(*const pass[])(Func *) = {pass_expand, pass_fold, pass_dce};
  static const char *const name[] = {"expand", "fold", "dce"};
  if (strcmp(until, "lua") == 0) return f;
  for (int i = 0; i < COUNT_OF(pass); i++) {
    f = pass[i](f);
    if (!f || strcmp(until, name[i]) == 0) return f;
  }
  return f;
}

static void print_groups(PrintAfter *p, Func *f) {
  Program *program = pass_fuse(f);
  MemPlan *m = program ? pass_memplan(program) : NULL;
  if (!m) return;
  program_explain(program, m, p->out);
  p->ok = true;
}

static void print_body(void *ctx) {
  PrintAfter *p = ctx;
  p->m->graph->err = p->err;
  Func *f = p->f, *prepare = NULL;
  const ModelDecode *md = decode_of(p->m, f);
  bool is_prologue = strcmp(p->pass, "prologue") == 0, is_step = strcmp(p->pass, "step") == 0;
  if (is_prologue || is_step) {
    if (!md) {
      error_set(p->err, ERROR_ARGUMENT, "\"%s\" is no decode, it has no %s", f->name, p->pass);
      return;
    }
    Decode *d = pass_incremental(f, md->tokens, md->logits);
    f = d ? is_step ? d->step : d->prologue : NULL;
    f = f ? apply(p, "dce", f) : NULL;
  } else if (strcmp(p->pass, "train") == 0) {
    AdamOptions adam = {0.9, 0.999, 1e-8, 0.0, 1.0};
    f = train_build(f, &adam);
    f = f ? apply(p, "dce", f) : NULL;
  } else {
    f = apply(p, p->pass, f);
  }
  if (!f) return;
  if (strcmp(p->pass, "layout") == 0 || strcmp(p->pass, "fuse") == 0) f = pass_layout(f, &prepare);
  if (!f) return;
  if (strcmp(p->pass, "fuse") == 0) {
    print_groups(p, f);
    return;
  }
  if (prepare) func_print(prepare, p->out);
  func_print(f, p->out);
  p->ok = true;
}

bool compile_print_after(Model *m, Func *f, const char *pass, Buffer *out, Error *err) {
  bool known = false;
  for (int i = 0; compile_passes[i]; i++) known |= strcmp(compile_passes[i], pass) == 0;
  if (!known) {
    error_set(err, ERROR_ARGUMENT, "no pass \"%s\"; there are:", pass);
    for (int i = 0; compile_passes[i]; i++) {
      size_t at = strlen(err->text);
      snprintf(err->text + at, sizeof err->text - at, " %s", compile_passes[i]);
    }
    return false;
  }
  PrintAfter p = {.m = m, .f = f, .pass = pass, .out = out, .err = err};
  bool within = arena_protect(m->graph->arena, print_body, &p, err);
  m->graph->err = &m->diag;
  return within && p.ok;
}
