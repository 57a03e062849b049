/* The benchmarks in order, and how a time becomes a rate and a share of a roof. */
#include "bench/bench.h"

#include <string.h>

bool bench_wants(const Bench *b, const char *id) {
  if (b->o->filter && !strstr(id, b->o->filter)) return false;
  if (b->o->progress) fprintf(b->o->progress, "%s\n", id);
  return true;
}

void bench_add(Bench *b, const BenchRow *row) { ARENA_PUSH(b->arena, b->rows.row, b->rows.n, b->rows.cap, *row); }

/* A task cannot be faster than its arithmetic nor than its memory: the larger of both times is its roof. */
void bench_rate(const Bench *b, BenchRow *row) {
  bool copies = row->written > 0.2 * row->bytes;
  bool tensor = b->o->precision == DTYPE_BF16 && b->roofs.tensor > 0.0;
  double fma = tensor ? roof_of(b->roofs.tensor, b->roofs.tensor_check) : roofs_fma(&b->roofs, b->o->isa);
  double memory = copies ? roofs_copy(&b->roofs, row->bytes) : roofs_read(&b->roofs, row->bytes);
  double fma_s = fma > 0.0 ? row->flops / fma : 0.0, memory_s = memory > 0.0 ? row->bytes / memory : 0.0;
  row->rate = (row->unit == UNIT_FLOPS ? row->flops : row->bytes) / row->median_s;
  row->bound = fma_s > memory_s ? (tensor ? "tensor" : "fma") : copies ? "copy" : "read";
  row->share = (fma_s > memory_s ? fma_s : memory_s) / row->median_s;
}

typedef struct Whole {
  Bench bench;
  const char *command;
  BenchReport *out;
  Error *err;
  bool ok;
} Whole;

static bool measure_launch(Bench *b, Error *err) {
  static const TextCase smallest = {
      "launch", "a function with one kernel", "f32[16]",
      "func @f(%x: f32[16]) {\n  %y = neg(%x) : f32[16]\n  return y = %y\n}\n", 1, UNIT_TIME, 0};
  BenchOptions quiet = *b->o;
  Bench alone = {.o = &quiet, .arena = b->arena, .roofs = b->roofs};
  quiet.filter = NULL;
  if (!bench_text(&alone, &smallest, err)) return false;
  b->roofs.launch_s = alone.rows.row[0].best_s;
  return true;
}

static bool measure_rows(Bench *b, Error *err) {
  return bench_products(b, err) && bench_convolutions(b, err) && bench_maps(b, err) && bench_attention(b, err) &&
         bench_decoding(b, err) && bench_training(b, err);
}

/* Roofs are measured before and after the rows, since others may use the machine, and the higher ones count. */
static bool measure_whole(Bench *b, Error *err) {
  if (b->o->progress) fprintf(b->o->progress, "roofs\n");
  if (!roofs_measure(b->o, &b->roofs, err) || !measure_launch(b, err) || !measure_rows(b, err)) return false;
  if (b->o->progress) fprintf(b->o->progress, "roofs\n");
  if (!roofs_measure(b->o, &b->roofs, err)) return false;
  for (int i = 0; i < b->rows.n; i++)
    if (b->rows.row[i].share > 0.0) bench_rate(b, &b->rows.row[i]);
  return true;
}

static void run_body(void *ctx) {
  Whole *w = ctx;
  w->ok = measure_whole(&w->bench, w->err);
  if (!w->ok) return;
  bench_report(&w->bench, w->command, w->out);
  if (w->out->markdown.failed || w->out->json.failed)
    w->ok = error_set(w->err, ERROR_MEMORY, "the report: out of memory");
}

bool bench_run(const BenchOptions *o, const char *command, BenchReport *out, Error *err) {
  Whole w = {.bench = {.o = o, .arena = arena_new()}, .command = command, .out = out, .err = err};
  if (!w.bench.arena) return error_set(err, ERROR_MEMORY, "out of memory");
  bool within = arena_protect(w.bench.arena, run_body, &w, err);
  arena_free(w.bench.arena);
  return within && w.ok;
}
