/* `nuwa run`: one function on named tensors (synth/execute.h). */
#include <string.h>

#include "cli/cli.h"
#include "synth/execute.h"

typedef struct RunArgs {
  ModelArgs model;
  const char *fn, *in, *out, *weights;
  int64_t seed, rng_seed;
} RunArgs;

static bool is_interp(const RunArgs *a) { return a->model.device && strcmp(a->model.device, "interp") == 0; }

static bool is_bundle(const RunArgs *a) { return a->model.path && models_is_bundle(a->model.path); }

static bool run(void *ctx, Arena *arena, Error *err) {
  const RunArgs *a = ctx;
  ExecuteSpec spec = {.model = cli_spec(&a->model), .fn = a->fn, .in = a->in, .weights = a->weights,
                      .seed = (uint64_t)a->seed, .rng_seed = (uint64_t)a->rng_seed, .interprets = is_interp(a)};
  CliTarget t;
  bool ok = cli_target_open(&a->model, &t, err) && execute_function(&t.synth, &spec, a->out, err);
  cli_target_close(&t);
  return ok;
}

static bool check(void *ctx, Error *err) {
  RunArgs *a = ctx;
  if (!a->fn) return error_set(err, ERROR_ARGUMENT, "needs --fn NAME");
  if (!a->out) return error_set(err, ERROR_ARGUMENT, "needs --out OUT.safetensors");
  if (a->weights && a->seed >= 0) return error_set(err, ERROR_ARGUMENT, "--weights and --seed exclude each other");
  if (is_interp(a) && (a->model.isa || a->model.threads || a->model.no_cache))
    return error_set(err, ERROR_ARGUMENT, "--isa, --threads and --no-cache have no effect on the interpreter");
  if (a->seed < 0) a->seed = 0;
  if (!is_bundle(a))
    return a->model.path || a->weights ||
           error_set(err, ERROR_ARGUMENT,
                     "needs a model: MODEL.lua, a bundle, or --weights FILE, which carry theirs");
  if (a->model.defines.n || a->model.isa || a->model.precision || a->model.products)
    return error_set(err, ERROR_ARGUMENT, "-D, --isa, --precision and --products are for model files; a bundle is "
                                          "compiled already");
  return !is_interp(a) ||
         error_set(err, ERROR_ARGUMENT, "--device interp: needs the model file, a bundle has machine code only");
}

int cli_run(int argc, char **argv) {
  RunArgs a = {.seed = -1};
  const Arg table[] = {
      ARG_DEFINES(&a.model),
      {"--fn", ARG_TEXT, "NAME", "the function", &a.fn, 0, 0},
      {"--in", ARG_TEXT, "FILE", "safetensors with its inputs", &a.in, 0, 0},
      {"--out", ARG_OUT, "FILE", "safetensors for its outputs", &a.out, 0, 0},
      {"--weights", ARG_TEXT, "FILE", "safetensors with the params; they say model and options", &a.weights, 0, 0},
      {"--seed", ARG_INT, "N", "of initial params instead (default 0)", &a.seed, 0, 9e15},
      {"--rng-seed", ARG_INT, "N", "of the random numbers that the function draws (0)", &a.rng_seed, 0, 9e15},
  };
  static const char about[] =
      "Executes one function on named tensors.  The number of samples B is that of the inputs.\n";
  const Command c = {.name = "run",
                     .usage = "[MODEL.lua|BUNDLE.nuwa] --fn NAME --in IN.safetensors --out OUT.safetensors [options]",
                     .about = about, .arg = table, .n_arg = COUNT_OF(table), .model = &a.model.path,
                     .is_model_optional = true,
                     .target = &a.model, .devices = "cpu|cuda|interp", .ctx = &a, .check = check, .run = run};
  return cli_command(&c, argc, argv);
}
