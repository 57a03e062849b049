/* See ablation.h. */
#include "synth/ablation.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "runtime/base/names.h"
#include "synth/weights_file.h"

const AblationVariant ablation_variant[ABLATION_VARIANTS] = {{"FF", "full", "full"},
                                                             {"NF", "nearby", "full"},
                                                             {"FN", "full", "nearby"},
                                                             {"AA", "axis", "axis"},
                                                             {"NN", "nearby", "nearby"}};

static const char option_encoder[] = "encoder", option_decoder[] = "decoder";

static const char meta_steps[] = "steps", meta_batch[] = "batch";

enum { HELD_OUT_BATCHES = 8, TIMED_RUNS = 5 };

bool ablation_varies(const char *option) {
  return strcmp(option, option_encoder) == 0 || strcmp(option, option_decoder) == 0;
}

bool ablation_open(Ablation *b, Arena *arena, const SynthTarget *t, const ModelSpec *model, const char *weights,
                   const char *vq_weights, Error *err) {
  *b = (Ablation){.arena = arena, .target = t, .model = *model, .weights_path = weights, .vq_path = vq_weights};
  return (b->weights = weights_file_open(t, weights, err)) && weights_file_digest(vq_weights, b->vq_digest, err);
}

void ablation_close(Ablation *b) {
  safetensors_close(b->weights);
  safetensors_close(b->results);
  *b = (Ablation){0};
}

static bool variant_spec(Ablation *b, int variant, ModelSpec *out, Error *err) {
  *out = b->model;
  if (!weights_file_complete(b->arena, b->target, out, b->weights, b->weights_path, err)) return false;
  models_define(b->arena, out, option_encoder, ablation_variant[variant].encoder);
  models_define(b->arena, out, option_decoder, ablation_variant[variant].decoder);
  return true;
}

/* ---- steps, time, memory ---- */

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int64_t param_count(const Plan *p) {
  int64_t total = 0;
  for (int i = 0; i < p->n_param; i++) {
    int64_t elems;
    if (plan_tensor_elems(&p->param[i].type, 1, 1, &elems)) total += elems;
  }
  return total;
}

/* Draws with initial weights, again and again. */
static bool time_drawing(NuwaSession *s, const Plan *p, const NuwaGenerate *g, DrawingCost *out, Error *err) {
  const int64_t *grid = p->decode[0].grid;
  int32_t *tokens = mem_alloc((size_t)(grid[0] * grid[1] * grid[2]) * sizeof *tokens);
  NuwaGenerateStats stats = {0};
  if (!tokens) return error_set(err, ERROR_MEMORY, "out of memory");
  bool ok = nuwa_init_weights(s, 1) || nuwa_check(s, err);
  out->ms = INFINITY;
  for (int i = 0; i < TIMED_RUNS && ok; i++) {
    double begin = now_ms();
    ok = nuwa_generate(s, g, tokens, &stats, NULL, NULL, err);
    out->ms = fmin(out->ms, now_ms() - begin);
  }
  mem_free(tokens);
  out->steps = stats.steps;
  out->tokens = stats.tokens;
  return ok;
}

static Plan *compile_variant(Ablation *b, const ModelSpec *m, DrawingCost *out, Error *err) {
  static const char *const functions[] = {FUNC_DECODE};
  CompileOptions o = {.function = functions, .n_function = 1};
  DecodeFacts facts = {0};
  Model *model = models_load(b->target, m, err);
  const ModelDecode *md = model ? model_find_decode(model, functions[0], err) : NULL;
  bool ok = md && compile_decode_describe(model, md, b->target->compile.precision, &facts, err);
  Plan *p = ok ? models_compile_plan(b->target, model, &o, err) : NULL;
  out->kv_bytes = facts.kv_bytes;
  model_free(model);
  return p;
}

bool ablation_measure(Ablation *b, int variant, DrawingCost *out, Error *err) {
  const NuwaGenerate g = {.count = 1, .sample = {.temperature = 1.0f, .top_p = 1.0f}, .guidance = 1.0f};
  ModelSpec m;
  *out = (DrawingCost){0};
  if (!variant_spec(b, variant, &m, err)) return false;
  Plan *p = compile_variant(b, &m, out, err);
  int64_t slots, rows;
  NuwaSession *s = p && nuwa_generate_needs(p, &g, &slots, &rows, err)
                       ? models_open_session(b->target, p, 1, rows, 0, err)
                       : NULL;
  bool ok = s && time_drawing(s, p, &g, out, err);
  if (ok) out->params = param_count(p);
  nuwa_session_close(s);
  plan_free(p);
  return ok;
}

/* ---- which losses these are ---- */

enum { N_IDENTITY = 5 };

/* The options that the variants share, a line each.  In the arena. */
static const char *shared_options(Arena *a, const Options *options) {
  Buffer text = {0};
  for (int i = 0; i < options->n; i++) {
    const Option *o = &options->option[i];
    if (ablation_varies(o->name)) continue;
    buffer_printf(&text, "%s=", o->name);
    value_print(&o->value, &text);
    buffer_printf(&text, "\n");
  }
  return arena_take_buffer(a, &text);
}

/* All that two sets of losses must share to be shown as one.  out [N_IDENTITY], in the arena. */
static bool identify(Ablation *b, MetadataEntry *out, Error *err) {
  ModelSpec m;
  if (!variant_spec(b, 0, &m, err)) return false;
  Model *model = models_load(b->target, &m, err);
  if (!model) return false;
  const char *slash = strrchr(m.path, '/');
  out[0] = (MetadataEntry){"variants", "FF NF FN AA NN"};
  out[1] = (MetadataEntry){"model", arena_strdup(b->arena, slash ? slash + 1 : m.path)};
  out[2] = (MetadataEntry){META_OPTIONS, shared_options(b->arena, &model->options)};
  out[3] = (MetadataEntry){"autoencoder", b->vq_digest};
  out[4] = (MetadataEntry){"precision", dtype_name(b->target->compile.precision)};
  model_free(model);
  return true;
}

/* ---- training ---- */

AblationTraining ablation_defaults(void) {
  return (AblationTraining){.steps = 1000, .batch = 32, .seed = 1};
}

/* Passes reports on, and keeps the loss over held-out pairs. */
typedef struct HeldLoss {
  const AblationTraining *o;
  double value;
} HeldLoss;

static void on_report(void *ctx, const TrainReport *r) {
  HeldLoss *h = ctx;
  for (int i = 0; r->is_evaluation && i < r->n_metric; i++)
    if (strcmp(r->metric[i].name, METRIC_HELD_OUT PORT_LOSS) == 0) h->value = r->metric[i].value;
  if (h->o->report) h->o->report(h->o->ctx, r);
}

static bool train_variant(Ablation *b, int variant, const AblationTraining *o, const Dataset *d, const Bpe *bpe,
                          Error *err) {
  HeldLoss held = {.o = o};
  TrainingSpec spec;
  TrainOptions loop;
  training_init(&spec, &loop);
  if (!variant_spec(b, variant, &spec.model, err)) return false;
  spec.vq_weights = b->vq_path;
  spec.data = d;
  spec.bpe = bpe;
  spec.batch = o->batch;
  spec.seed = o->seed;
  spec.evaluates = true;
  loop.steps = loop.evaluate_every = o->steps;
  loop.evaluate_batches = HELD_OUT_BATCHES;
  loop.report = on_report;
  loop.report_ctx = &held;
  Training t;
  if (o->begin) o->begin(o->ctx, variant);
  bool ok = training_open(&t, b->target, &spec, err) && training_run(&t, &loop, err);
  training_close(&t);
  if (!ok) return error_prefix(err, "training %s", ablation_variant[variant].name);
  if (o->end) o->end(o->ctx, variant, held.value);
  b->loss[variant] = (float)held.value;
  return true;
}

static bool write_losses(Ablation *b, const AblationTraining *o, const char *path, Error *err) {
  TensorView t = {.name = PORT_LOSS, .dtype = DTYPE_F32, .rank = 1, .dim = {ABLATION_VARIANTS}, .data = b->loss,
                  .bytes = sizeof b->loss};
  MetadataEntry meta[N_IDENTITY + 3] = {[N_IDENTITY] = {meta_steps, arena_printf(b->arena, "%" PRId64, o->steps)},
                                        {meta_batch, arena_printf(b->arena, "%" PRId64, o->batch)},
                                        {"seed", arena_printf(b->arena, "%" PRIu64, o->seed)}};
  return identify(b, meta, err) && safetensors_write(path, &t, 1, meta, COUNT_OF(meta), err);
}

bool ablation_train(Ablation *b, const AblationTraining *o, const char *path, Error *err) {
  const char *merges = safetensors_metadata(b->weights, WEIGHTS_BPE);
  if (!merges) return error_set(err, ERROR_ARGUMENT, "%s holds no text encoder", b->weights_path);
  Dataset *d = dataset_open("world", &(DatasetOptions){.seed = o->seed}, err);
  Bpe *bpe = d ? bpe_parse(merges, strlen(merges), "merges in the weights", err) : NULL;
  bool ok = bpe != NULL;
  for (int i = 0; ok && i < ABLATION_VARIANTS; i++) ok = train_variant(b, i, o, d, bpe, err);
  bpe_free(bpe);
  dataset_close(d);
  return ok && write_losses(b, o, path, err);
}

/* ---- losses of an earlier training ---- */

/* Whether the file's losses are of this model; err says what differs. */
static bool are_ours(Ablation *b, const char *path, Error *err) {
  MetadataEntry want[N_IDENTITY];
  if (!identify(b, want, err)) return false;
  for (int i = 0; i < N_IDENTITY; i++) {
    const char *have = safetensors_metadata(b->results, want[i].key);
    if (!have && i == 4) have = dtype_name(DTYPE_F32);   /* files from before there was a choice */
    if (!have || strcmp(have, want[i].value) != 0)
      return error_set(err, ERROR_FORMAT, "%s: its losses are of other %s", path,
                       i == 2 ? "options" : i == 1 ? "models" : want[i].key);
  }
  return true;
}

bool ablation_read(Ablation *b, const char *path, Error *err) {
  safetensors_close(b->results);
  if (!(b->results = safetensors_open(path, err))) return false;
  const TensorView *t = safetensors_find(b->results, PORT_LOSS);
  bool ok = t && t->dtype == DTYPE_F32 && t->rank == 1 && t->dim[0] == ABLATION_VARIANTS;
  if (!ok) error_set(err, ERROR_FORMAT, "%s: no tensor loss f32[%d]", path, ABLATION_VARIANTS);
  ok = ok && are_ours(b, path, err);
  if (ok) {
    memcpy(b->loss, t->data, sizeof b->loss);
    b->steps = safetensors_metadata(b->results, meta_steps);
    b->batch = safetensors_metadata(b->results, meta_batch);
    return true;
  }
  safetensors_close(b->results);
  b->results = NULL;
  return false;
}
