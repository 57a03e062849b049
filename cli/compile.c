/* `nuwa compile`: a model's functions to a bundle. */
#include "cli/cli.h"
#include "synth/package.h"

typedef struct CompileArgs {
  KitArgs kit;
  ArgList fn;
  const char *out;
  bool explain, pin, embed;
} CompileArgs;

static bool run(void *ctx, Arena *arena, Error *err) {
  const CompileArgs *a = ctx;
  Buffer explain = {0};
  PackageSpec spec = {.function = a->fn.item, .n_function = a->fn.n, .embeds = a->embed,
                      .pins = a->pin, .explain = a->explain ? &explain : NULL};
  CliTarget t;
  bool ok = cli_kit(&a->kit, &spec.kit, err) && cli_target_open(&a->kit.model, &t, err) && package_write(&t.synth, &spec, a->out, err);
  if (explain.data) fwrite(explain.data, 1, explain.len, stdout);
  buffer_done(&explain);
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
      ARG_TOKENS(&a.kit.tokens),
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
