/* See training.h. */
#include "synth/training.h"

#include <string.h>

#include "runtime/base/names.h"
#include "synth/weights_file.h"
#include "train/checkpoint.h"

void training_init(TrainingSpec *spec, TrainOptions *loop) {
  *spec = (TrainingSpec){.fn = FUNC_LOSS, .batch = 32,
                         .adam = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 1.0}};
  *loop = (TrainOptions){.steps = 1000, .lr = 1e-3, .warmup = 0.05, .cosine = true, .evaluate_batches = 4,
                         .revive = {.window = 50}, .checkpoint_every = 500, .log_every = 1};
}

/* ---- opening ---- */

static NuwaSession *open_session(const Training *t, const Plan *p, Error *err) {
  return models_open_session(t->target, p, t->spec.batch, 1, 0, err);
}

/* Which model and which options, the weights know if they were trained here. */
static bool open_encoder(Training *t, Error *err) {
  static const char *const encode[] = {FUNC_ENCODE};
  const char *path = t->spec.vq_weights;
  if (!path) return true;
  SynthTarget target = *t->target;
  target.compile.precision = DTYPE_F32;   /* tokens are what they are, whatever the model computes in */
  CompileOptions o = {.function = encode, .n_function = 1};
  ModelSpec m = t->spec.vq;
  Safetensors *w = weights_file_open(&target, path, err);
  bool ok = w && weights_file_check_finite(w, path, err) &&
            weights_file_complete(t->arena, &target, &m, w, path, err) &&
            (t->vq_model = models_load(&target, &m, err)) &&
            (t->vq_plan = models_compile_plan(&target, t->vq_model, &o, err)) &&
            (t->vq_session = open_session(t, t->vq_plan, err)) &&
            ((models_check_weights(t->vq_model, w, err) && /* it has params that "encode" lacks: the decoder's */
              nuwa_load_weights(t->vq_session, w, true, err)) ||
             error_prefix(err, "%s", path));
  safetensors_close(w);
  return ok;
}

static CompileOptions compile_options(const Training *t) {
  return (CompileOptions){.function = &t->spec.fn, .n_function = 1, .train = t->spec.fn, .adam = t->spec.adam};
}

/* Whether the params learnt the tokens that they will read: those of this autoencoder and of these merges.  Where the
 * file says nothing of one, nothing is known. */
static bool check_pair(Training *t, const Safetensors *w, Error *err) {
  Recipe have = {.arena = t->arena};
  const char *merges = safetensors_metadata(w, WEIGHTS_BPE);
  Buffer ours = {0};
  if (t->spec.vq_weights && !recipe_set_file(&have, RECIPE_VQ, t->spec.vq_weights, err)) return false;
  if (!recipe_check_pair(safetensors_metadata(w, META_RECIPE), &have, err)) return false;
  if (!merges || !t->spec.bpe) return true;
  bool ok = bpe_serialise(t->spec.bpe, &ours, err);
  if (ok && strcmp(merges, ours.data ? ours.data : "") != 0)
    ok = error_set(err, ERROR_ARGUMENT, "they were trained with another text encoder: their merges are not these");
  buffer_done(&ours);
  return ok;
}

static bool load_weights(Training *t, Error *err) {
  const char *path = t->spec.weights;
  if (!path) return nuwa_init_weights(t->session, t->spec.seed) || nuwa_check(t->session, err);
  Safetensors *w = weights_file_open(t->target, path, err);
  bool ok = w && ((check_pair(t, w, err) && nuwa_load_weights(t->session, w, false, err)) ||
                  error_prefix(err, "%s", path));
  safetensors_close(w);
  return ok;
}

static bool open_model(Training *t, Error *err) {
  CompileOptions o = compile_options(t);
  return error_asked((t->model = models_load(t->target, &t->spec.model, err)) != NULL, err) &&
         error_asked(model_find(t->model, t->spec.fn, err) != NULL, err) &&
         (t->plan = models_compile_plan(t->target, t->model, &o, err)) &&
         (t->session = open_session(t, t->plan, err)) && load_weights(t, err);
}

static int64_t int_field(const Model *m, const char *name) {
  const Value *v = m ? model_field(m, name) : NULL;
  return v && v->kind == VALUE_INT ? v->integer : 0;
}

/* Ids must fit the tables of the model: out of range they would read beside them. */
static bool check_sizes(const Training *t, Error *err) {
  int64_t vocab = int_field(t->model, MODEL_VOCAB), codebook = int_field(t->model, MODEL_CODEBOOK);
  int64_t codes = int_field(t->vq_model, MODEL_CODEBOOK);
  if (t->spec.bpe && vocab && vocab < bpe_vocab(t->spec.bpe))
    return error_set(err, ERROR_ARGUMENT, "the merges make %d tokens, the model's vocab is %lld",
                     bpe_vocab(t->spec.bpe), (long long)vocab);
  if (codes && codebook && codebook < codes)
    return error_set(err, ERROR_ARGUMENT, "the autoencoder has %lld codes, the model's codebook %lld",
                     (long long)codes, (long long)codebook);
  return true;
}

static bool open_source(Training *t, Error *err) {
  int function[] = {plan_find_function(t->plan, t->spec.fn), plan_find_function(t->plan, FUNC_TRAIN)};
  SourceOptions o = {.world = t->spec.world,
                     .bpe = t->spec.bpe,
                     .null_text = t->spec.null_text,
                     .noise = t->spec.noise,
                     .codes = int_field(t->vq_model, MODEL_CODEBOOK),
                     .seed = t->spec.seed,
                     .batch = t->spec.batch};
  if (t->vq_plan) o.encoder = (Encoder){t->vq_session, t->vq_plan, plan_find_function(t->vq_plan, FUNC_ENCODE)};
  t->source = source_new(t->plan, function, COUNT_OF(function), &o, err);
  return error_asked(t->source != NULL, err); /* an input that nothing gives */
}

typedef struct TrainingCall {
  Training *t;
  const Recipe *recipe;
  const char *path;
  bool as_bf16, ok;
  Error *err;
} TrainingCall;

static void open_body(void *ctx) {
  TrainingCall *c = ctx;
  c->ok = open_encoder(c->t, c->err) && open_model(c->t, c->err) && check_sizes(c->t, c->err) &&
          open_source(c->t, c->err);
}

static bool call(TrainingCall *c, void (*body)(void *)) {
  return arena_protect(c->t->arena, body, c, c->err) && c->ok;
}

bool training_open(Training *t, const SynthTarget *target, const TrainingSpec *spec, Error *err) {
  *t = (Training){.arena = arena_new(), .target = target, .spec = *spec};
  if (!t->arena) return error_set(err, ERROR_MEMORY, "out of memory");
  return call(&(TrainingCall){.t = t, .err = err}, open_body);
}

void training_close(Training *t) {
  source_free(t->source);
  nuwa_session_close(t->session);
  nuwa_session_close(t->vq_session);
  plan_free(t->plan);
  plan_free(t->vq_plan);
  model_free(t->model);
  model_free(t->vq_model);
  arena_free(t->arena);
  *t = (Training){0};
}

bool training_has_input(const Training *t, const char *name) {
  int f = plan_find_function(t->plan, t->spec.fn), train = plan_find_function(t->plan, FUNC_TRAIN);
  return (f >= 0 && plan_find_input(&t->plan->function[f], name)) || plan_find_input(&t->plan->function[train], name);
}

bool training_lower(const Training *t, Lowered *out, Error *err) {
  CompileOptions o = compile_options(t);
  return models_lower(t->target, t->model, &o, out, err);
}

/* ---- the recipe ---- */

static void recipe_body(void *ctx) {
  TrainingCall *c = ctx;
  const Training *t = c->t;
  Recipe r = *c->recipe;
  char digest[65];
  r.arena = t->arena;
  source_digest(&t->model->source, digest);
  recipe_set_text(&r, RECIPE_SOURCE, digest);
  recipe_set_options(&r, RECIPE_OPTIONS, &t->model->options);
  recipe_set_text(&r, RECIPE_PRECISION, dtype_name(t->target->compile.precision));
  recipe_set_text(&r, RECIPE_DEVICE, plan_device_name(t->plan->device));
  if (t->plan->device == PLAN_CUDA)
    recipe_set_text(&r, RECIPE_PRODUCTS, t->target->compile.cublaslt ? "cublaslt" : "own");
  world_digest(t->spec.world, digest);
  recipe_set_text(&r, RECIPE_DATA, digest);
  if (t->vq_model) {
    source_digest(&t->vq_model->source, digest);
    recipe_set_text(&r, RECIPE_VQ_SOURCE, digest);
    recipe_set_options(&r, RECIPE_VQ_OPTIONS, &t->vq_model->options);
  }
  c->t->recipe = recipe_print(&r, RECIPE_RUN);
  c->ok = true;
}

bool training_recipe(Training *t, const Recipe *r, Error *err) {
  if (!source_check(&t->model->source, err)) return error_prefix(err, "%s", t->model->path);
  return call(&(TrainingCall){.t = t, .recipe = r, .err = err}, recipe_body);
}

/* ---- the run ---- */

static const char *text_field(const Model *m, const char *name) {
  const Value *v = model_field(m, name);
  return v && v->kind == VALUE_TEXT ? v->text : NULL;
}

bool training_run(Training *t, const TrainOptions *loop, Error *err) {
  TrainOptions o = *loop;
  TrainSource source = source_interface(t->source);
  o.batch = t->spec.batch;
  o.seed = t->spec.seed;
  o.beta1 = t->spec.adam.beta1;
  o.beta2 = t->spec.adam.beta2;
  o.evaluate = plan_find_function(t->plan, t->spec.fn);
  o.recipe = t->recipe;
  if (o.revive.window)
    o.revive = (ReviveOptions){text_field(t->model, MODEL_REVIVE_CODEBOOK), text_field(t->model, MODEL_REVIVE_CODES),
                               text_field(t->model, MODEL_REVIVE_VECTORS), o.revive.window};
  o.revive.keep_start = t->spec.weights != NULL;
  return train_run(t->session, t->plan, &o, &source, err);
}

static void write_body(void *ctx) {
  TrainingCall *c = ctx;
  Training *t = c->t;
  Buffer merges = {0}, words = {0};
  MetadataEntry entry[WEIGHTS_META];
  WeightsMeta meta = {.model = t->model, .recipe = t->recipe};
  if (t->spec.bpe) {
    if (!bpe_serialise(t->spec.bpe, &merges, c->err)) return;
    world_words(t->spec.world, &words);
    meta.merges = arena_take_buffer(t->arena, &merges);
    meta.words = arena_take_buffer(t->arena, &words);
  }
  int n = weights_file_describe(t->arena, &meta, entry);
  c->ok = weights_write(t->session, t->plan, c->path, c->as_bf16, entry, n, c->err);
}

bool training_write(Training *t, const char *path, bool as_bf16, Error *err) {
  return call(&(TrainingCall){.t = t, .path = path, .as_bf16 = as_bf16, .err = err}, write_body);
}
