/* Whole models of small pictures: drawing in both orders, and steps of training, on invented inputs. */
#include "bench/bench.h"
#include "runtime/base/names.h"

#include <string.h>

#define LIST(array) array, COUNT_OF(array)

enum { MAX_DEFINES = 16 };

/* 32 x 32 pixels, 8 x 8 codes. */
static const Define autoencoder[] = {
    {"size", "32"}, {"channels", "32"}, {"multipliers", "1,2,2"}, {"blocks", "1"}, {"attention", ""},
    {"latent", "64"}, {"width", "64"}, {"codebook", "512"}, {"groups", "8"},
};

#define SMALL(layers) \
    {"grid_s", "1"}, {"grid_h", "8"}, {"grid_w", "8"}, {"dim", "192"}, {"heads", "6"}, {"encoder_layers", "2"}, \
    {"decoder_layers", layers}, {"codebook", "512"}, {"text_tokens", "16"}, {"vocab", "1024"}
static const Define transformer[] = {SMALL("6")};

/* ---- a plan and its session ---- */

typedef struct ModelRun {
  Bench *b;
  Plan *plan;
  NuwaSession *session;
  int function;
  int64_t samples;
  NuwaGenerate request;
  int32_t *tokens;
  NuwaGenerateStats stats;
} ModelRun;

static bool open_run(ModelRun *r, const char *file, const Define *define, int n, CompileOptions *o,
                     NuwaOptions session, Error *err) {
  const BenchOptions *bo = r->b->o;
  o->isa = bo->isa;
  o->threads = bo->threads;
  session.threads = bo->threads;
  session.device = bo->device;
  session.cuda = bo->cuda;
  if (!r->plan) r->plan = bo->compile(bo->compile_ctx, file, define, n, o, err);
  r->session = r->plan ? nuwa_session_open(r->plan, &session, err) : NULL;
  if (r->session) nuwa_init_weights(r->session, 1);
  return r->session != NULL;
}

static void close_run(ModelRun *r) {
  nuwa_session_close(r->session);
  plan_free(r->plan);
  mem_free(r->tokens);
}

/* ---- steps of training ---- */

typedef struct TrainCase {
  const char *id, *what, *file;
  const char *function;      /* NULL: the training step */
  const Define *define;
  int n_define;
  int64_t batch;
} TrainCase;

static bool time_step(ModelRun *r, const TrainCase *c, Error *err) {
  const char *name = c->function ? c->function : FUNC_TRAIN ".main";
  r->function = plan_find_function(r->plan, name);
  if (r->function < 0) return error_set(err, ERROR_ARGUMENT, "there is no function \"%s\"", name);
  if (!bench_fill(r->session, r->plan, r->function, c->batch, 1, 1.0, err)) return false;
  Sample s;
  if (!bench_time_function(r->b->o, r->session, r->plan, r->function, c->batch, &s, err)) return false;
  BenchRow row = {.median_s = s.median_s,
                  .best_s = s.best_s,
                  .unit = UNIT_SAMPLES,
                  .rate = (double)c->batch / s.median_s,
                  .bound = ""};
  snprintf(row.id, sizeof row.id, "%s", c->id);
  snprintf(row.what, sizeof row.what, "%s", c->what);
  snprintf(row.size, sizeof row.size, "batch %d", (int)c->batch);
  snprintf(row.note, sizeof row.note, "%d kernels a call", r->plan->function[r->function].n_launch);
  bench_add(r->b, &row);
  return true;
}

static bool train_case(Bench *b, const TrainCase *c, Error *err) {
  if (!b->o->compile || !bench_wants(b, c->id)) return true;
  const char *const name[] = {c->function};
  CompileOptions o = {.function = name, .n_function = c->function != NULL, .train = !c->function};
  ModelRun r = {.b = b, .samples = c->batch};
  Define define[MAX_DEFINES];
  memcpy(define, c->define, sizeof *define * (size_t)c->n_define);
  /* The rate is tiny, so that hundreds of steps on one batch change nothing that matters. */
  define[c->n_define] = (Define){"lr", "1e-8"};
  bool ok = open_run(&r, c->file, define, c->n_define + !c->function, &o, (NuwaOptions){.samples = c->batch, .rows = 1}, err) &&
            time_step(&r, c, err);
  close_run(&r);
  return ok || error_prefix(err, "%s", c->id);
}

bool bench_training(Bench *b, Error *err) {
  const TrainCase cases[] = {
      {"train.vq", "training step, autoencoder (32 channels, 1,2,2)", "vqgan.lua", NULL, LIST(autoencoder), 32},
      {"train.transformer", "training step, transformer (d 192, 2 + 6 layers)", "nuwa.lua", NULL,
       LIST(transformer), 64},
  };
  for (int i = 0; i < COUNT_OF(cases); i++)
    if (!train_case(b, &cases[i], err)) return false;
  return true;
}

/* ---- decoding ---- */

static bool run_generate(void *ctx, Error *err) {
  ModelRun *r = ctx;
  return nuwa_generate(r->session, &r->request, r->tokens, &r->stats, NULL, NULL, err);
}

/* The rings and rows that this order needs. */
static bool open_order(ModelRun *r, const Define *define, int n, Error *err) {
  static const char *const decode[] = {FUNC_DECODE};
  CompileOptions o = {.function = decode, .n_function = 1};
  NuwaOptions session = {.samples = r->request.count, .rows = 1};
  r->plan = r->b->o->compile(r->b->o->compile_ctx, "nuwa.lua", define, n, &o, err);
  if (!r->plan) return false;
  if (r->plan->n_decode < 1) return error_set(err, ERROR_ARGUMENT, "nuwa.lua has no decode");
  const PlanDecode *d = &r->plan->decode[0];
  r->tokens = mem_alloc(sizeof(int32_t) * (size_t)(r->request.count * d->grid[0] * d->grid[1] * d->grid[2]));
  if (!r->tokens) return error_set(err, ERROR_MEMORY, "out of memory");
  return nuwa_generate_needs(r->plan, &r->request, &session.ring_slots, &session.rows, err) &&
         open_run(r, "nuwa.lua", define, n, &o, session, err) &&
         (d->prologue < 0 || bench_fill(r->session, r->plan, d->prologue, r->request.count, 1, 1.0, err));
}

static bool time_order(ModelRun *r, const char *id, const char *model, Error *err) {
  Sample s;
  if (!bench_time(r->b->o->repeat, run_generate, r, &s, err)) return false;
  int64_t count = r->request.count;
  BenchRow row = {.median_s = s.median_s,
                  .best_s = s.best_s,
                  .unit = UNIT_SAMPLES,
                  .rate = (double)count / s.median_s,
                  .bound = ""};
  snprintf(row.id, sizeof row.id, "%s", id);
  snprintf(row.what, sizeof row.what, "decoding, %s order", r->request.raster ? "raster" : "wavefront");
  snprintf(row.size, sizeof row.size, "%d x %s", (int)count, model);
  snprintf(row.note, sizeof row.note, "%d steps, %.2f ms an image (prologue %.2f ms a run)", (int)r->stats.steps,
           1e3 * s.median_s / (double)count, r->stats.prologue_ms);
  bench_add(r->b, &row);
  return true;
}

/* model: what the size of a row says after the number of samples. */
static bool decode_case(Bench *b, const char *id, const char *model, const Define *define, int n, bool raster,
                        int64_t count, Error *err) {
  if (!b->o->compile || !bench_wants(b, id)) return true;
  ModelRun r = {.b = b, .samples = count};
  r.request =
      (NuwaGenerate){.raster = raster, .count = count, .seed = 1, .sample = {1.0f, 0, 1.0f}, .guidance = 1.0f};
  bool ok = open_order(&r, define, n, err) && time_order(&r, id, model, err);
  close_run(&r);
  return ok || error_prefix(err, "%s", id);
}

static bool decode_both(Bench *b, const char *prefix, const char *model, const Define *define, int n, int64_t count,
                        Error *err) {
  for (int raster = 0; raster < 2; raster++) {
    char id[64];
    snprintf(id, sizeof id, "%s.%s.%d", prefix, raster ? "raster" : "wavefront", (int)count);
    if (!decode_case(b, id, model, define, n, raster, count, err)) return false;
  }
  return true;
}

static const char small_size[] = "8x8 codes, d 192, 2 + 6 layers";

bool bench_decoding(Bench *b, Error *err) {
  return decode_both(b, "decode", small_size, LIST(transformer), 1, err) &&
         decode_both(b, "decode", small_size, LIST(transformer), 16, err);
}

/* ---- on a GPU ---- */

static const Define tiny_autoencoder[] = {
    {"size", "8"}, {"channels", "8"}, {"multipliers", "1,2"}, {"blocks", "1"}, {"attention", ""},
    {"latent", "8"}, {"width", "8"}, {"codebook", "16"}, {"groups", "4"}};
static const Define tiny_transformer[] = {
    {"grid_s", "1"}, {"grid_h", "4"}, {"grid_w", "4"}, {"dim", "16"}, {"heads", "2"}, {"encoder_layers", "1"},
    {"decoder_layers", "1"}, {"codebook", "16"}, {"text_tokens", "4"}, {"vocab", "64"}};

static bool tiny_models(Bench *b, Error *err) {
  const TrainCase cases[] = {
      {"gpu.vq.encode", "autoencoder, encode", "vqgan.lua", FUNC_ENCODE, LIST(tiny_autoencoder), 1},
      {"gpu.vq.decode", "autoencoder, decode", "vqgan.lua", FUNC_DECODE, LIST(tiny_autoencoder), 1}};
  for (int i = 0; i < COUNT_OF(cases); i++)
    if (!train_case(b, &cases[i], err)) return false;
  return decode_both(b, "gpu.decode", "4x4 codes", LIST(tiny_transformer), 1, err);
}

bool bench_gpu_models(Bench *b, Error *err) {
  if (b->o->tiny) return tiny_models(b, err);
  const TrainCase cases[] = {
      {"gpu.vq.encode", "autoencoder, encode", "vqgan.lua", FUNC_ENCODE, LIST(autoencoder), 64},
      {"gpu.vq.decode", "autoencoder, decode", "vqgan.lua", FUNC_DECODE, LIST(autoencoder), 64},
      {"gpu.train.vq", "training step, autoencoder", "vqgan.lua", NULL, LIST(autoencoder), 64},
      {"gpu.train.transformer", "training step, transformer", "nuwa.lua", NULL, LIST(transformer), 64}};
  for (int i = 0; i < COUNT_OF(cases); i++)
    if (!train_case(b, &cases[i], err)) return false;
  for (int64_t count = 1; count <= 64; count *= 8)
    if (!decode_both(b, "gpu.decode", small_size, LIST(transformer), count, err)) return false;
  return true;
}
