/* `nuwa compile`: a model's functions to a bundle. */
#include <string.h>

#include "cli/cli.h"
#include "runtime/bundle.h"

typedef struct CompileArgs {
  ModelArgs model;
  ArgList fn;
  const char *out, *weights;
  bool explain, pin;
} CompileArgs;

/* Names, shapes and element types of the weights against every param; nothing is written when they do not fit. */
static bool check_weights(const Plan *p, const Model *m, const char *path, Error *err) {
  Safetensors *w = safetensors_open(path, err);
  bool ok = w && models_check_weights(m, w, err) && nuwa_check_weights(p, w, true, err);
  safetensors_close(w);
  return ok;
}

static bool write_bundle(const CompileArgs *a, const Model *m, const Buffer *bundle, Error *err) {
  if (a->weights) {
    Plan *p = plan_read(bundle->data, bundle->len, a->out, err);
    bool fits = p && check_weights(p, m, a->weights, err);
    plan_free(p);
    if (!fits) return false;
  }
  BundlePart part = {NUWA_PART_PLAN, BUNDLE_MODEL, (const uint8_t *)bundle->data, bundle->len};
  return bundle_write(a->out, &part, 1, err);
}

/* ---- pins ---- */

typedef struct Pin {
  Plan *plan;
  const NuwaSession *session;
  Buffer *out;
  Error *err;
  bool ok;
} Pin;

/* The plan with what the session chose, and where. */
static void write_pins(void *ctx) {
  Pin *x = ctx;
  Plan *p = x->plan;
  PlanText *text = ARENA_ARRAY(p->arena, PlanText, p->n_text + 1);
  if (p->n_text) memcpy(text, p->text, sizeof *text * (size_t)p->n_text);
  text[p->n_text++] = (PlanText){"pinned", nuwa_device_name(x->session)};
  p->text = text;
  for (int i = 0; i < p->n_product; i++) p->product[i].algorithm = nuwa_product_algorithm(x->session, i);
  x->ok = plan_write(p, x->out, x->err);
}

/* Opens the bundle on the GPU at hand, which chooses an algorithm for each product of the library as every session
 * does, and writes the choices into it: all such GPUs with this version of the library then give the same bits. */
static bool pin_products(const CompileArgs *a, Buffer *bundle, Error *err) {
  Buffer pinned = {0};
  Pin x = {.plan = plan_read(bundle->data, bundle->len, a->out, err), .out = &pinned, .err = err};
  NuwaOptions o = {.device = PLAN_CUDA, .cuda = cli_cuda(&a->model), .threads = 1, .samples = 1, .rows = 1};
  NuwaSession *s = x.plan ? nuwa_session_open(x.plan, &o, err) : NULL;
  bool opened = s || (x.plan && error_prefix(err, "--pin needs the GPU that the bundle is for"));
  x.session = s;
  bool ok = opened && arena_protect(x.plan->arena, write_pins, &x, err) && x.ok;
  if (ok) {
    fprintf(stderr, "%d products pinned on %s\n", x.plan->n_product, nuwa_device_name(s));
    buffer_done(bundle);
    *bundle = pinned;
  } else {
    buffer_done(&pinned);
  }
  nuwa_session_close(s);
  plan_free(x.plan);
  return ok;
}

/* ---- the command ---- */

static bool find_functions(const Model *m, const ArgList *fn, Error *err) {
  for (int i = 0; i < fn->n; i++)
    if (!cli_find_function(m, fn->item[i], err)) return false;
  return true;
}

static bool compile(const CompileArgs *a, const CliTarget *t, Error *err) {
  Model *m = cli_load_model(t, &a->model, err);
  if (!m) return false;
  Buffer bundle = {0}, explain = {0};
  CompileOptions o = {.function = a->fn.n ? a->fn.item : NULL, .n_function = a->fn.n,
                      .explain = a->explain ? &explain : NULL};
  bool ok = find_functions(m, &a->fn, err) && models_compile(&t->synth, m, &o, &bundle, err) &&
            (!a->pin || pin_products(a, &bundle, err)) && write_bundle(a, m, &bundle, err);
  if (explain.data) fwrite(explain.data, 1, explain.len, stdout);
  buffer_done(&explain);
  buffer_done(&bundle);
  model_free(m);
  return ok;
}

static bool run(void *ctx, Arena *arena, Error *err) {
  const CompileArgs *a = ctx;
  CliTarget t;
  bool ok = cli_target_open(&a->model, &t, err) && compile(a, &t, err);
  cli_target_close(&t);
  return ok;
}

static bool check(void *ctx, Error *err) {
  const CompileArgs *a = ctx;
  if (a->pin && !cli_uses_cublaslt(&a->model))
    return error_set(err, ERROR_ARGUMENT,
                     "--pin is for products by cuBLASLt, which --device cuda has without --products own");
  return a->out || error_set(err, ERROR_ARGUMENT, "needs -o BUNDLE.nuwa");
}

int cli_compile(int argc, char **argv) {
  CompileArgs a = {0};
  const Arg table[] = {
      ARG_DEFINES(&a.model),
      {"-o", ARG_OUT, "FILE", "the bundle", &a.out, 0, 0},
      {"--fn", ARG_LIST, "NAME", "only this function (may be repeated)", &a.fn, 0, 0},
      {"--weights", ARG_TEXT, "FILE", "safetensors that must fit the params", &a.weights, 0, 0},
      {"--explain", ARG_FLAG, NULL, "print every decision", &a.explain, 0, 0},
      {"--arch", ARG_TEXT, "LIST", "for GPUs: machine code for these beside PTX, as sm_80,sm_90", &a.model.arch, 0,
       0},
      {"--pin", ARG_FLAG, NULL, "for GPUs: with cuBLASLt's algorithms as the GPU here has them", &a.pin, 0, 0},
  };
  const Command c = {.name = "compile", .usage = "MODEL.lua -o BUNDLE.nuwa [options]",
                     .about = "Compiles all functions of a model, or those named, ahead of time.\n",
                     .arg = table, .n_arg = COUNT_OF(table), .model = &a.model.path, .target = &a.model, .ctx = &a,
                     .check = check, .run = run};
  return cli_command(&c, argc, argv);
}
