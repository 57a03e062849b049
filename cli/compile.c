/* `nuwa compile`: a model's functions to a bundle. */
#include <string.h>

#include "cli/cli.h"

typedef struct CompileArgs {
  ModelArgs model;
  ArgList fn;
  const char *out, *weights;
  bool explain;
} CompileArgs;

/* Names, shapes and element types of the weights against every param; nothing is written when they do not fit. */
static bool check_weights(const Plan *p, const Model *m, const char *path, Error *err) {
  Safetensors *w = safetensors_open(path, err);
  bool ok = w && cli_check_weights(m, w, err) && nuwa_check_weights(p, w, true, err);
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
  return file_write_all(a->out, bundle->data, bundle->len, err);
}

static bool find_functions(const Model *m, const ArgList *fn, Error *err) {
  for (int i = 0; i < fn->n; i++)
    if (!cli_find_function(m, fn->item[i], err)) return false;
  return true;
}

static bool run(void *ctx, Arena *arena, Error *err) {
  const CompileArgs *a = ctx;
  Model *m = cli_load_model(&a->model, err);
  if (!m) return false;
  Buffer bundle = {0}, explain = {0};
  CompileOptions o = {.function = a->fn.n ? a->fn.item : NULL, .n_function = a->fn.n, .explain = a->explain ? &explain : NULL};
  bool ok = find_functions(m, &a->fn, err) && cli_compile_model(m, &a->model, &o, &bundle, err) &&
            write_bundle(a, m, &bundle, err);
  if (explain.data) fwrite(explain.data, 1, explain.len, stdout);
  buffer_done(&explain);
  buffer_done(&bundle);
  model_free(m);
  return ok;
}

static bool check(void *ctx, Error *err) {
  const CompileArgs *a = ctx;
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
      {"--arch", ARG_TEXT, "LIST", "for GPUs: machine code for these beside PTX, as sm_80,sm_90", &a.model.arch, 0, 0},
  };
  const Command c = {.name = "compile", .usage = "MODEL.lua -o BUNDLE.nuwa [options]",
                     .about = "Compiles all functions of a model, or those named, ahead of time.\n",
                     .arg = table, .n_arg = COUNT_OF(table), .model = &a.model.path, .target = &a.model, .ctx = &a,
                     .check = check, .run = run};
  return cli_command(&c, argc, argv);
}
