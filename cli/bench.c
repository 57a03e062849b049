/* `nuwa bench`: the benchmarks of bench/ as a command. */
#include <string.h>

#include "bench/gpu.h"
#include "bench/gpu_bench.h"
#include "cli/cli.h"
#include "runtime/base/file.h"

typedef struct BenchArgs {
  ModelArgs model;
  const char *filter, *json, *readme;
  int64_t repeat;
  bool gpu_table, tiny;
  Arena *arena;
  int argc;
  char **argv;
} BenchArgs;

static const char about[] =
    "Measures kernels, decoding and training beside the roofs of this machine; prints a table in markdown.\n"
    "A row's id begins with its group: matmul, conv, map, scatter, reduce, attend, decode, train.\n";

static Plan *compile(void *ctx, const char *file, const Define *define, int n_define, CompileOptions *o, Error *err) {
  BenchArgs *a = ctx;
  ModelArgs m = a->model;
  m.path = cli_find_model(a->arena, &a->model, file);
  m.defines = (DefineList){define, n_define};
  CliTarget t;
  Model *model = cli_target_open(&m, &t, err) ? cli_load_model(&t, &m, err) : NULL;
  Plan *p = model ? models_compile_plan(&t.synth, model, o, err) : NULL;
  model_free(model);
  cli_target_close(&t);
  return p;
}

static const char *command_text(Arena *a, int argc, char **argv) {
  const char *text = "nuwa bench";
  for (int i = 1; i < argc; i++) text = arena_printf(a, "%s %s", text, argv[i]);
  return text;
}

static bool run_gpu_table(const BenchArgs *a, const char *command, Error *err) {
  char *folder = arena_strdup(a->arena, cli_find_model(a->arena, &a->model, "."));
  GpuTableOptions o = {.models_dir = folder, .nvrtc = a->model.nvrtc, .precision = cli_precision(&a->model),
                       .threads = cli_threads(&a->model)};
  const char *part = o.precision == DTYPE_BF16 ? "gpu-table-bf16" : "gpu-table";
  Buffer table = {0};
  bool ok = gpu_table(&o, command, &table, err);
  if (ok && a->readme) ok = bench_rewrite(a->readme, part, table.data, err);
  else if (ok) fputs(table.data, stdout);
  buffer_done(&table);
  return ok;
}

static bool measure(BenchArgs *a, const BenchOptions *o, const char *command, BenchReport *report, Error *err) {
  return o->device == PLAN_CUDA ? gpu_bench(o, a->model.nvrtc, command, report, err)
                                : bench_run(o, command, report, err);
}

static bool check(void *ctx, Error *err) {
  const BenchArgs *a = ctx;
  return !a->tiny || cli_is_cuda(&a->model) || error_set(err, ERROR_ARGUMENT, "--tiny is for --device cuda");
}

static bool run(void *ctx, Arena *arena, Error *err) {
  BenchArgs *a = ctx;
  a->arena = arena;
  const char *command = command_text(arena, a->argc, a->argv);
  if (a->gpu_table) return run_gpu_table(a, command, err);
  BenchOptions o = {.filter = a->filter,
                    .repeat = (int)a->repeat,
                    .progress = stderr,
                    .device = cli_is_cuda(&a->model) ? PLAN_CUDA : PLAN_CPU,
                    .precision = cli_precision(&a->model),
                    .cuda = cli_cuda(&a->model),
                    .cublaslt = cli_uses_cublaslt(&a->model),
                    .tiny = a->tiny,
                    .compile = compile,
                    .compile_ctx = a,
                    .threads = cli_threads(&a->model)};
  BenchReport report = {0};
  bool ok = cli_isa(&a->model, &o.isa, err) && measure(a, &o, command, &report, err);
  if (ok) fputs(report.markdown.data, stdout);
  if (ok && a->json) ok = file_write_all(a->json, report.json.data, report.json.len, err);
  const char *part = o.device == PLAN_CUDA ? "gpu" : "bench";
  if (ok && a->readme) ok = bench_rewrite(a->readme, part, report.markdown.data, err);
  buffer_done(&report.markdown);
  buffer_done(&report.json);
  return ok;
}

int cli_bench(int argc, char **argv) {
  BenchArgs a = {.repeat = 15, .argc = argc, .argv = argv};
  const Arg table[] = {
      {"--filter", ARG_TEXT, "TEXT", "only rows whose id holds this", &a.filter, 0, 0},
      {"--repeat", ARG_INT, "N", "samples a row, of which the median counts (15)", &a.repeat, 1, 101},
      {"--json", ARG_TEXT, "FILE", "write everything as JSON too", &a.json, 0, 0},
      {"--readme", ARG_TEXT, "FILE", "put the table between the markers of this file", &a.readme, 0, 0},
      {"--gpu-table", ARG_FLAG, NULL, "no measurement: what NVRTC makes of the demo's kernels for sm_80 and sm_90",
       &a.gpu_table, 0, 0},
      {"--tiny", ARG_FLAG, NULL, "with --device cuda: the smallest sizes, to test the harness", &a.tiny, 0, 0},
  };
  const Command c = {.name = "bench", .usage = "[options]", .about = about, .arg = table, .n_arg = COUNT_OF(table),
                     .target = &a.model, .ctx = &a, .check = check, .run = run};
  return cli_command(&c, argc, argv);
}
