/* `nuwa compile`: a model's functions to a bundle. */
#include <string.h>

#include "cli/cli.h"
#include "runtime/base/names.h"
#include "runtime/bundle.h"
#include "synth/weights_file.h"

typedef struct CompileArgs {
  KitArgs kit;
  ArgList fn;
  const char *out;
  bool explain, pin, embed;
} CompileArgs;

/* ---- pins ---- */

typedef struct Pin {
  Plan *plan;
  const NuwaSession *session;
} Pin;

/* The plan with what the session chose, and where. */
static void write_pins(void *ctx) {
  const Pin *x = ctx;
  Plan *p = x->plan;
  PlanText *text = ARENA_ARRAY(p->arena, PlanText, p->n_text + 1);
  if (p->n_text) memcpy(text, p->text, sizeof *text * (size_t)p->n_text);
  text[p->n_text++] = (PlanText){PLAN_TEXT_PINNED, arena_strdup(p->arena, nuwa_device_name(x->session))};
  p->text = text;
  for (int i = 0; i < p->n_product; i++)
    p->product[i].algorithm = arena_strdup(p->arena, nuwa_product_algorithm(x->session, i));
}

/* Opens the plan on the GPU at hand, which chooses an algorithm for each product of the library as every session
 * does, and writes the choices into it: all such GPUs with this version of the library then give the same bits. */
static bool pin_plan(void *ctx, Plan *p, Error *err) {
  const CompileArgs *a = ctx;
  if (!a->pin) return true;
  NuwaOptions o = {.device = PLAN_CUDA, .cuda = cli_cuda(&a->kit.model), .threads = 1, .samples = 1, .rows = 1};
  NuwaSession *s = nuwa_session_open(p, &o, err);
  if (!s) return error_prefix(err, "--pin needs the GPU that the bundle is for");
  Pin x = {p, s};
  bool ok = arena_protect(p->arena, write_pins, &x, err);
  if (ok) fprintf(stderr, "%d products pinned on %s\n", p->n_product, nuwa_device_name(s));
  nuwa_session_close(s);
  return ok;
}

/* ---- one model ---- */

/* The plan, with --embed its weights and their text encoder. */
static bool write_bundle(const CompileArgs *a, const Plan *p, const Safetensors *w, Error *err) {
  Buffer plan = {0}, weights = {0};
  char digest[65];
  BundlePart part[3];
  const char *merges = a->embed ? safetensors_metadata(w, WEIGHTS_BPE) : NULL;
  bool ok = plan_write(p, &plan, err) && (!a->embed || (weights_file_digest(a->kit.weights, digest, err) &&
                                                     weights_file_embed(w, p, digest, &weights, err)));
  int n = 0;
  part[n++] = (BundlePart){NUWA_PART_PLAN, BUNDLE_MODEL, (const uint8_t *)plan.data, plan.len};
  if (merges) part[n++] = (BundlePart){NUWA_PART_TEXT, BUNDLE_MERGES, (const uint8_t *)merges, strlen(merges) + 1};
  if (a->embed) part[n++] = (BundlePart){NUWA_PART_WEIGHTS, BUNDLE_MODEL, (const uint8_t *)weights.data, weights.len};
  ok = ok && bundle_write(a->out, part, n, err);
  buffer_done(&weights);
  buffer_done(&plan);
  return ok;
}

/* Names, shapes and element types of the weights against every param: nothing is written when they do not fit. */
static bool compile_one(CompileArgs *a, const CliTarget *t, Model *m, const Safetensors *w, Error *err) {
  Buffer explain = {0};
  CompileOptions o = {.function = a->fn.n ? a->fn.item : NULL, .n_function = a->fn.n,
                      .explain = a->explain ? &explain : NULL};
  Plan *p = models_compile_plan(&t->synth, m, &o, err);
  bool ok = p && pin_plan(a, p, err) &&
            (!w || (models_check_weights(m, w, err) && nuwa_check_weights(p, w, true, err))) &&
            write_bundle(a, p, w, err);
  if (explain.data) fwrite(explain.data, 1, explain.len, stdout);
  buffer_done(&explain);
  plan_free(p);
  return ok;
}

/* ---- the command ---- */

static bool find_functions(const Model *m, const ArgList *fn, Error *err) {
  for (int i = 0; i < fn->n; i++)
    if (!cli_find_function(m, fn->item[i], err)) return false;
  return true;
}

/* A model that draws takes its autoencoder with it. */
static bool is_application(const CompileArgs *a, const Model *m) {
  Error none;
  return a->embed && !a->fn.n && model_find_decode(m, FUNC_DECODE, &none);
}

static bool compile(CompileArgs *a, const CliTarget *t, const Safetensors *w, Error *err) {
  Model *m = cli_load_model(t, &a->kit.model, err);
  if (!m) return false;
  KitSpec spec = cli_kit(&a->kit);
  bool ok = find_functions(m, &a->fn, err);
  if (ok && is_application(a, m)) ok = kit_embed(&t->synth, &spec, pin_plan, a, a->out, err);
  else if (ok) ok = compile_one(a, t, m, w, err);
  model_free(m);
  return ok;
}

static bool run(void *ctx, Arena *arena, Error *err) {
  CompileArgs *a = ctx;
  const char *path = a->kit.weights;
  CliTarget t;
  Safetensors *w = NULL;
  bool ok = cli_target_open(&a->kit.model, &t, err) &&
            (!path || ((w = weights_file_open(&t.synth, path, err)) &&
                       cli_complete_model(arena, &t, &a->kit.model, w, path, err))) &&
            compile(a, &t, w, err);
  safetensors_close(w);
  cli_target_close(&t);
  return ok;
}

static bool check(void *ctx, Error *err) {
  const CompileArgs *a = ctx;
  if (a->pin && !cli_uses_cublaslt(&a->kit.model))
    return error_set(err, ERROR_ARGUMENT,
                     "--pin is for products by cuBLASLt, which --device cuda has without --products own");
  if (a->embed && !a->kit.weights) return error_set(err, ERROR_ARGUMENT, "--embed needs --weights FILE to put in");
  if (a->embed && a->explain) return error_set(err, ERROR_ARGUMENT, "--explain and --embed do not go together");
  if (a->kit.vq_weights && !a->embed) return error_set(err, ERROR_ARGUMENT, "--vq-weights goes with --embed");
  if (!a->kit.model.path && !a->kit.weights)
    return error_set(err, ERROR_ARGUMENT, "needs a model: MODEL.lua, or --weights FILE, which carry theirs");
  return a->out || error_set(err, ERROR_ARGUMENT, "needs -o BUNDLE.nuwa");
}

int cli_compile(int argc, char **argv) {
  CompileArgs a = {0};
  const Arg table[] = {
      ARG_DEFINES(&a.kit.model),
      {"-o", ARG_OUT, "FILE", "the bundle", &a.out, 0, 0},
      {"--fn", ARG_LIST, "NAME", "only this function (may be repeated)", &a.fn, 0, 0},
      {"--weights", ARG_TEXT, "FILE", "safetensors that must fit the params; they say model and options",
       &a.kit.weights, 0, 0},
      {"--embed", ARG_FLAG, NULL,
       "put the weights in, and where they draw from text the autoencoder and the merges: one file is all", &a.embed,
       0, 0},
      ARG_VQ_WEIGHTS(&a.kit),
      {"--explain", ARG_FLAG, NULL, "print every decision", &a.explain, 0, 0},
      {"--arch", ARG_TEXT, "LIST", "for GPUs: machine code for these beside PTX, as sm_80,sm_90", &a.kit.model.arch,
       0, 0},
      {"--pin", ARG_FLAG, NULL, "for GPUs: with cuBLASLt's algorithms as the GPU here has them", &a.pin, 0, 0},
  };
  const Command c = {.name = "compile", .usage = "[MODEL.lua] -o BUNDLE.nuwa [options]",
                     .about = "Compiles all functions of a model, or those named, ahead of time.\n",
                     .arg = table, .n_arg = COUNT_OF(table), .model = &a.kit.model.path, .is_model_optional = true,
                     .target = &a.kit.model, .ctx = &a, .check = check, .run = run};
  return cli_command(&c, argc, argv);
}
