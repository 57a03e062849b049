/* What `nuwa inspect` shows: a function after a pass, a decode's schedule.  The passes run as in compile.c, but stop. */
#include <string.h>

#include "frontend/compile.h"

const char *const compile_passes[] = {"lua", "expand", "fold", "dce", "layout", "fuse", "prologue", "step", "train", NULL};

typedef struct PrintAfter {
  Model *m;
  Func *f;
  const char *pass;
  Buffer *out;
  Error *err;
  bool ok;
} PrintAfter;

static bool is_pass(const PrintAfter *p, const char *name) { return strcmp(p->pass, name) == 0; }

/* Up to the pass of that name, or to the last. */
static Func *apply(const char *until, Func *f) {
  static Func *(*const pass[])(Func *) = {pass_expand, pass_fold, pass_dce};
  static const char *const name[] = {"expand", "fold", "dce"};
  if (strcmp(until, "lua") == 0) return f;
  for (int i = 0; i < COUNT_OF(pass); i++) {
    f = pass[i](f);
    if (!f || strcmp(until, name[i]) == 0) return f;
  }
  return f;
}

static Func *derive(PrintAfter *p) {
  const ModelDecode *md = compile_decode_of(p->m, p->f);
  if (is_pass(p, "train")) return train_build(p->f, &(AdamOptions){0.9, 0.999, 1e-8, 0.0, 1.0});
  if (!md) {
    error_set(p->err, ERROR_ARGUMENT, "\"%s\" is no decode, it has no %s", p->f->name, p->pass);
    return NULL;
  }
  Decode *d = pass_incremental(p->f, md->tokens, md->logits);
  return !d ? NULL : is_pass(p, "step") ? d->step : d->prologue;
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
  bool is_derived = is_pass(p, "train") || is_pass(p, "step") || is_pass(p, "prologue");
  Func *f = is_derived ? derive(p) : p->f, *prepare = NULL;
  f = f ? apply(is_derived ? "dce" : p->pass, f) : NULL;
  if (f && (is_pass(p, "layout") || is_pass(p, "fuse"))) f = pass_layout(f, &prepare);
  if (!f) return;
  if (is_pass(p, "fuse")) {
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

/* ---- schedules ---- */

typedef struct Describe {
  Model *m;
  const ModelDecode *md;
  PlanDecode *out;
  int64_t steps;
  Error *err;
  bool ok;
} Describe;

static void describe_body(void *ctx) {
  Describe *d = ctx;
  d->m->graph->err = d->err;
  Decode *decode = pass_incremental(d->md->func, d->md->tokens, d->md->logits);
  if (!decode) return;
  d->steps = decode->wavefront.steps;
  d->ok = plan_decode_describe(d->m->graph->arena, decode, d->out, d->err);
}

bool compile_decode_describe(Model *m, const ModelDecode *md, PlanDecode *out, int64_t *out_steps, Error *err) {
  Describe d = {.m = m, .md = md, .out = out, .err = err};
  bool within = arena_protect(m->graph->arena, describe_body, &d, err);
  m->graph->err = &m->diag;
  *out_steps = d.steps;
  return within && d.ok;
}
