/* The table, and the walk along it.
 *
 * A work goes through all passes before the next one starts: what incremental and layout take out of it is sent ahead,
 * and comes before it in the plan.  After every pass the verifier looks at the function: a pass that breaks one is a bug
 * and is named. */
#include "frontend/compile/pipeline.h"

#include <string.h>

#include "codegen/plan/products.h"

static bool run_from(Pipeline *p, PassWork *w, int index);

static bool replace(PassWork *w, Func *f) {
  if (f) w->func = f;
  return f != NULL;
}

static bool run_precision(Pipeline *p, PassWork *w, int index) {
  return p->precision != DTYPE_BF16 || replace(w, pass_precision(w->func));
}

static bool run_grad(Pipeline *p, PassWork *w, int index) { return replace(w, pass_grad(w->func)); }

static bool run_train(Pipeline *p, PassWork *w, int index) {
  if (w->train) return replace(w, pass_train(w->func, w->train->name, w->train->average));
  return !w->is_evaluation || replace(w, pass_evaluate(w->func, p->averaged, p->n_averaged));
}

/* Shape rules hold from one sample on; whether they do for none is a matter of its own. */
static bool run_sizes(Pipeline *p, PassWork *w, int index) {
  Error why = {0};
  w->no_samples = func_holds_at(w->func, 0, 1, &why) ? NULL : arena_strdup(w->func->graph->arena, why.text);
  return true;
}

static bool run_incremental(Pipeline *p, PassWork *w, int index) {
  if (!w->decode) return true;
  Decode *d = pass_incremental(w->func, w->decode->tokens, w->decode->logits);
  if (!d) return false;
  d->has_stop = w->decode->has_stop;
  d->stop = w->decode->stop;
  w->decode = NULL;
  w->split = d;
  PassWork prologue = *w;
  prologue.func = d->prologue;
  prologue.is_prologue = true;
  w->func = d->step;
  prologue.known |= pipeline_passes[index].gives;
  return func_verify(d->prologue, FORM_GIVEN, "incremental", p->err) &&
         (d->prologue->n_update == 0 || run_from(p, &prologue, index + 1));
}

static bool run_expand(Pipeline *p, PassWork *w, int index) { return replace(w, pass_expand(w->func)); }
static bool run_fold(Pipeline *p, PassWork *w, int index) { return replace(w, pass_fold(w->func)); }
static bool run_dce(Pipeline *p, PassWork *w, int index) { return replace(w, pass_dce(w->func)); }

static int index_of(const char *name) {
  for (int i = 0; i < pipeline_n_pass; i++)
    if (strcmp(pipeline_passes[i].name, name) == 0) return i;
  return -1;
}

/* What layout takes out goes through the passes once more, but for layout itself. */
static bool run_layout(Pipeline *p, PassWork *w, int index) {
  Func *taken = NULL;
  if (w->is_prepare) return true;
  if (!replace(w, pass_layout(w->func, &taken))) return false;
  if (!taken) return true;
  PassWork prepare = {.func = taken, .is_prepare = true, .known = KNOWN_PRECISE | KNOWN_GIVEN | KNOWN_PART | KNOWN_PRIMITIVE};
  bool shows = p->until && strcmp(p->until, pipeline_passes[index].name) == 0;
  return func_verify(taken, FORM_PRIMITIVE, "layout", p->err) &&
         (shows ? p->done(p->ctx, &prepare, &pipeline_passes[index]) : run_from(p, &prepare, index_of("expand")));
}

static bool run_copy(Pipeline *p, PassWork *w, int index) { return replace(w, pass_copy(w->func)); }
static bool run_fuse(Pipeline *p, PassWork *w, int index) { return (w->program = pass_fuse(w->func)) != NULL; }

static bool run_products(Pipeline *p, PassWork *w, int index) {
  if (p->cublaslt) w->program = pass_products(w->func->graph->arena, w->program);
  return true;
}

static bool run_memplan(Pipeline *p, PassWork *w, int index) { return (w->memplan = pass_memplan(w->program)) != NULL; }

const Pass pipeline_passes[] = {
    /* name          needs                              gives            breaks                          run */
    {"lua",          0,                                 0,               0,                              NULL, SHOW_FUNCTION},
    {"precision",    0,                                 KNOWN_PRECISE,   KNOWN_GIVEN,                    run_precision, SHOW_FUNCTION},
    {"grad",         KNOWN_PRECISE,                     KNOWN_GIVEN,     0,                              run_grad, SHOW_FUNCTION},
    {"train",        KNOWN_PRECISE | KNOWN_GIVEN,       0,               0,                              run_train, SHOW_FUNCTION},
    {"sizes",        KNOWN_GIVEN,                       0,               0,                              run_sizes, SHOW_SIZES},
    {"extents",      KNOWN_GIVEN,                       0,               0,                              NULL, SHOW_EXTENTS},
    {"incremental",  KNOWN_PRECISE | KNOWN_GIVEN,       KNOWN_PART,      0,                              run_incremental, SHOW_FUNCTION},
    {"wavefront",    KNOWN_PART,                        0,               0,                              NULL, SHOW_SCHEDULE},
    {"expand",       KNOWN_GIVEN | KNOWN_PART,          KNOWN_PRIMITIVE, KNOWN_FOLDED | KNOWN_STORABLE,  run_expand, SHOW_FUNCTION},
    {"fold",         KNOWN_GIVEN | KNOWN_PRIMITIVE,     KNOWN_FOLDED,    KNOWN_STORABLE,                 run_fold, SHOW_FUNCTION},
    {"dce",          KNOWN_GIVEN,                       0,               0,                              run_dce, SHOW_FUNCTION},
    {"layout",       KNOWN_PRIMITIVE | KNOWN_FOLDED,    0,               0,                              run_layout, SHOW_FUNCTION},
    {"copy",         KNOWN_PRIMITIVE | KNOWN_FOLDED,    KNOWN_STORABLE,  KNOWN_GROUPS,                   run_copy, SHOW_FUNCTION},
    {"fuse",         KNOWN_PRIMITIVE | KNOWN_STORABLE,  KNOWN_GROUPS,    KNOWN_PRODUCTS | KNOWN_MEMORY,  run_fuse, SHOW_GROUPS},
    {"products",     KNOWN_GROUPS,                      KNOWN_PRODUCTS,  KNOWN_MEMORY,                   run_products, SHOW_GROUPS},
    {"memplan",      KNOWN_GROUPS | KNOWN_PRODUCTS,     KNOWN_MEMORY,    0,                              run_memplan, SHOW_MEMORY},
};
const int pipeline_n_pass = COUNT_OF(pipeline_passes);

static Form form_of(const PassWork *w) {
  return w->known & KNOWN_PRIMITIVE ? FORM_PRIMITIVE : w->known & KNOWN_GIVEN ? FORM_GIVEN : FORM_ANY;
}

static bool run_pass(Pipeline *p, PassWork *w, int index) {
  const Pass *pass = &pipeline_passes[index];
  BUG_IF(pass->needs & ~w->known, "the pass %s lacks 0x%x of what it needs", pass->name, pass->needs & ~w->known);
  const Func *before = w->func;
  Form form = form_of(w);
  if (pass->run && !pass->run(p, w, index)) return false;
  w->known = (w->known & ~pass->breaks) | pass->gives;
  bool is_same = index > 0 && w->func == before && form_of(w) == form;
  return is_same || func_verify(w->func, form_of(w), pass->name, p->err);
}

static bool run_from(Pipeline *p, PassWork *w, int index) {
  int last = p->until ? index_of(p->until) : pipeline_n_pass - 1;
  for (; index <= last; index++)
    if (!run_pass(p, w, index)) return false;
  return p->done(p->ctx, w, &pipeline_passes[last]);
}

bool pipeline_run(Pipeline *p, const PassWork *w) {
  PassWork work = *w;
  return run_from(p, &work, 0);
}

static bool take_function(void *ctx, PassWork *w, const Pass *last) {
  *(Func **)ctx = w->func;
  return true;
}

Func *pipeline_meaning(Func *f, const ModelTrain *train, DType precision, Error *err) {
  Func *meaning = NULL;
  Pipeline p = {.precision = precision, .until = "train", .done = take_function, .ctx = &meaning, .err = err};
  return f && pipeline_run(&p, &(PassWork){.func = f, .train = train}) ? meaning : NULL;
}

const Pass *pipeline_find(const char *name, Error *err) {
  int index = index_of(name);
  if (index >= 0) return &pipeline_passes[index];
  error_set(err, ERROR_ARGUMENT, "no pass \"%s\"; there are:", name);
  for (int i = 0; i < pipeline_n_pass; i++) {
    size_t at = strlen(err->text);
    snprintf(err->text + at, sizeof err->text - at, " %s", pipeline_passes[i].name);
  }
  return NULL;
}
