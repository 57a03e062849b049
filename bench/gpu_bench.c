/* The rows of a GPU: products, attention, the autoencoder, decoding in both orders.  Decides what is measured; how is
 * measure.c's and models.c's, as on the CPU. */
#include "bench/gpu_bench.h"

#include <string.h>

/* ---- rows ---- */

static bool product(Bench *b, const char *id, int rows, int k, int cols, Error *err) {
  char text[512], size[64], what[64];
  snprintf(text, sizeof text, "func @f(%%x: f32[%d,%d]) {\n  %%w = param() {name=\"w\", init=normal, scale=0.02} : "
           "f32[%d,%d]\n  %%y = matmul(%%x, %%w) {trans_a=0, trans_b=0} : f32[%d,%d]\n  return y = %%y\n}\n",
           rows, k, k, cols, rows, cols);
  snprintf(size, sizeof size, "[%d,%d] x [%d,%d]", rows, k, k, cols);
  snprintf(what, sizeof what, "matrix product, %s", dtype_name(b->o->precision));
  return bench_text(b, &(TextCase){id, what, size, bench_precise(b, text), 1, UNIT_FLOPS, 0}, err);
}

static bool products(Bench *b, Error *err) {
  static const struct { const char *id; int rows, k, cols; } all[] = {
      {"gpu.matmul.1024", 1024, 1024, 1024},        {"gpu.matmul.4096", 4096, 4096, 4096},
      {"gpu.matmul.video.up", 4410, 1280, 5120},    {"gpu.matmul.video.down", 4410, 5120, 1280},
      {"gpu.matmul.rows.1", 1, 1280, 5120},         {"gpu.matmul.rows.64", 64, 1280, 5120}};
  for (int i = 0; i < COUNT_OF(all); i++) {
    int cut = b->o->tiny ? 64 : 1, rows = all[i].rows / cut;
    if (!product(b, all[i].id, rows < 1 ? 1 : rows, all[i].k / cut, all[i].cols / cut, err)) return false;
  }
  return true;
}

#define EVERYWHERE "[-inf,-inf,-inf]", "[inf,inf,inf]"
#define VIDEO 1, 20, 1280, {10, 21, 21}, {10, 21, 21}
#define TINY 1, 2, 32, {2, 4, 4}, {2, 4, 4}

static bool attention(Bench *b, Error *err) {
  static const AttendCase video[] = {
      {"gpu.attend.3x3x3", "nearby 3x3x3", "nearby", VIDEO, "[-1,-1,-1]", "[1,1,1]", "none"},
      {"gpu.attend.3x3x3.causal", "nearby 3x3x3, causal", "nearby", VIDEO, "[-1,-1,-1]", "[1,1,1]", "raster"},
      {"gpu.attend.3x5x5", "nearby 3x5x5", "nearby", VIDEO, "[-1,-2,-2]", "[1,2,2]", "none"},
      {"gpu.attend.5x7x7", "nearby 5x7x7", "nearby", VIDEO, "[-2,-3,-3]", "[2,3,3]", "none"},
      {"gpu.attend.axis", "axis", "axis", VIDEO, EVERYWHERE, "none"},
      {"gpu.attend.full", "full", "full", VIDEO, EVERYWHERE, "none"}};
  static const AttendCase tiny[] = {
      {"gpu.attend.3x3x3", "nearby 3x3x3", "nearby", TINY, "[-1,-1,-1]", "[1,1,1]", "none"},
      {"gpu.attend.full", "full", "full", TINY, EVERYWHERE, "none"}};
  return b->o->tiny ? bench_attention_cases(b, tiny, COUNT_OF(tiny), err)
                    : bench_attention_cases(b, video, COUNT_OF(video), err);
}

static bool rows_of_gpu(Bench *b, Error *err) {
  return products(b, err) && attention(b, err) && bench_gpu_models(b, err);
}

/* ---- roofs ---- */

static bool measure_roofs(Bench *b, const GpuRoofOptions *o, Error *err) {
  Roofs *roofs = &b->roofs;
  GpuRoofs r = {.fma = roofs->fma[b->o->isa], .fma_check = roofs->fma_check[b->o->isa], .tensor = roofs->tensor,
                .tensor_check = roofs->tensor_check};
  memcpy(r.read, roofs->read, sizeof r.read);
  memcpy(r.copy, roofs->copy, sizeof r.copy);
  memcpy(r.read_check, roofs->read_check, sizeof r.read_check);
  memcpy(r.copy_check, roofs->copy_check, sizeof r.copy_check);
  if (!gpu_roofs_measure(o, &r, err)) return error_prefix(err, "roofs");
  roofs->fma[b->o->isa] = r.fma;
  roofs->fma_check[b->o->isa] = r.fma_check;
  roofs->tensor = r.tensor;
  roofs->tensor_check = r.tensor_check;
  memcpy(roofs->read, r.read, sizeof r.read);
  memcpy(roofs->copy, r.copy, sizeof r.copy);
  memcpy(roofs->read_check, r.read_check, sizeof r.read_check);
  memcpy(roofs->copy_check, r.copy_check, sizeof r.copy_check);
  return true;
}

/* From what stays in the L2 cache to what does not. */
static void choose_footprints(Bench *b) {
  for (int i = 0; i < ROOF_SIZES; i++) b->roofs.bytes[i] = b->o->tiny ? (size_t)4096 << i : (size_t)1 << (20 + 2 * i);
}

/* ---- all ---- */

typedef struct BenchCall {
  Bench bench;
  GpuRoofOptions roofs;
  const char *command;
  BenchReport *out;
  Error *err;
  bool ok;
} BenchCall;

/* Roofs before and after the rows, as on the CPU: the higher ones count. */
static bool measure_all(BenchCall *c) {
  Bench *b = &c->bench;
  choose_footprints(b);
  if (!measure_roofs(b, &c->roofs, c->err) || !rows_of_gpu(b, c->err) || !measure_roofs(b, &c->roofs, c->err))
    return false;
  for (int i = 0; i < b->rows.n; i++)
    if (b->rows.row[i].share > 0.0) bench_rate(b, &b->rows.row[i]);
  return true;
}

static void call_body(void *ctx) {
  BenchCall *c = ctx;
  c->ok = measure_all(c);
  if (c->ok) bench_report(&c->bench, c->command, c->out);
}

static bool run_on(BenchOptions *o, const GpuDevice *d, const char *command, BenchReport *out, Error *err) {
  char device[256];
  snprintf(device, sizeof device, "%s (sm_%d, %d multiprocessors)", d->name, d->capability, d->multiprocessors);
  o->capability = d->capability;
  o->isa = ISA_PLAIN;      /* of which the roof is the device's */
  BenchCall c = {.bench = {.o = o, .arena = arena_new(), .device = device}, .command = command, .out = out, .err = err};
  c.roofs = (GpuRoofOptions){.driver = o->cuda, .device = *d, .nvrtc = o->nvrtc, .bytes = c.bench.roofs.bytes,
                             .n_sizes = ROOF_SIZES, .repeat = o->tiny ? 1 : 7, .tiny = o->tiny};
  if (!c.bench.arena) return error_set(err, ERROR_MEMORY, "out of memory");
  c.bench.roofs.threads = o->threads;
  bool within = arena_protect(c.bench.arena, call_body, &c, err);
  arena_free(c.bench.arena);
  return within && c.ok;
}

bool gpu_bench(const BenchOptions *options, const char *nvrtc, const char *command, BenchReport *out, Error *err) {
  BenchOptions o = *options;
  GpuDevice d;
  Error why = {0};
  if (!gpu_find(&o.cuda, &d, &why)) {
    buffer_printf(&out->markdown, "There is no GPU here, so nothing was measured (%s).\n", why.text);
    buffer_printf(&out->json, "{\"rows\": []}\n");
    return !out->markdown.failed && !out->json.failed;
  }
  Nvrtc *compiler = nvrtc_open(nvrtc, err);
  o.nvrtc = compiler;
  bool ok = compiler && run_on(&o, &d, command, out, err);
  nvrtc_close(compiler);
  return ok && ((!out->markdown.failed && !out->json.failed) || error_set(err, ERROR_MEMORY, "out of memory"));
}
