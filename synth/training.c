/* See training.h. */
#include "synth/training.h"

#include <string.h>

#include "runtime/base/convert.h"
#include "runtime/base/names.h"
#include "synth/codes_kept.h"
#include "synth/divergence.h"
#include "synth/showing.h"
#include "synth/tensors.h"
#include "synth/weights_file.h"
#include "train/checkpoint.h"

void training_init(TrainingSpec *spec, TrainOptions *loop) {
  *spec = (TrainingSpec){.batch = 32, .loading = source_default_threads()};
  *loop = (TrainOptions){.steps = 1000, .checkpoint_every = 500, .log_every = 1};
}

/* ---- opening ---- */

static NuwaSession *open_session(const Training *t, const Plan *p, Error *err) {
  return models_open_session(t->target, p, t->spec.batch, 1, 0, err);
}

/* Which model and which options, the weights know if they were trained here.  Tokens are what they are, whatever the model
 * computes in. */
static bool open_codecs(Training *t, Error *err) {
  SynthTarget target = *t->target;
  target.compile.precision = DTYPE_F32;
  OpenedFrom from = {.arena = t->arena, .target = &target};
  bool ok = true;
  for (int k = 0; ok && k < CODEC_KINDS; k++)
    ok = !t->spec.codec[k].weights ||
         codec_open(&t->codec[k], &from, (CodecKind)k, &t->spec.codec[k], t->spec.batch, err) ||
         error_prefix(err, "%s", t->spec.codec[k].weights);
  return ok;
}

static bool has_evaluate(const Training *t) {
  Error ignored;
  return model_find(t->model, FUNC_EVALUATE, &ignored) != NULL;
}

/* Where no step is wanted the evaluation stands for the entries, which takes what they take, but less memory. */
static bool only_begins(const Training *t) { return t->spec.begins && has_evaluate(t); }

/* The entries alone, and the evaluation where it is wanted. */
static CompileOptions compile_options(const Training *t) {
  static const char *const evaluate[] = {FUNC_EVALUATE};
  if (only_begins(t)) return (CompileOptions){.function = evaluate, .n_function = 1};
  return (CompileOptions){.function = evaluate, .n_function = t->spec.evaluates, .train = true, .raw = t->spec.raw};
}

/* Whether the params learnt the tokens that they will read: those of this autoencoder and of these merges.  Where the
 * file says nothing of one, nothing is known. */
static bool check_pair(Training *t, const Safetensors *w, Error *err) {
  Recipe have = {.arena = t->arena};
  const char *merges = safetensors_metadata(w, WEIGHTS_BPE);
  Buffer ours = {0};
  for (int k = 0; k < CODEC_KINDS; k++)
    if (codec_is_open(&t->codec[k])) codec_recipe(&t->codec[k], t->codec[k].opened.codes, &have);
  if (!recipe_check_pair(safetensors_metadata(w, META_RECIPE), &have, err)) return false;
  if (!merges || !t->spec.bpe) return true;
  bool ok = bpe_serialise(t->spec.bpe, &ours, err);
  if (ok && strcmp(merges, ours.data ? ours.data : "") != 0)
    ok = error_set(err, ERROR_ARGUMENT, "they were trained with another text encoder: their merges are not these");
  buffer_done(&ours);
  return ok;
}

typedef struct ParamsCall {
  const Model *model;
  Node **param;
  int n;
} ParamsCall;

static void params_body(void *ctx) {
  ParamsCall *c = ctx;
  c->param = models_params(c->model, &c->n);
}

/* Params of other functions than those that train stay as they came, so that what is trained in parts stays whole. */
static bool keep_rest(Training *t, const Safetensors *w, Error *err) {
  ParamsCall c = {.model = t->model};
  if (!arena_protect(t->model->graph->arena, params_body, &c, err)) return false;
  t->kept = ARENA_ARRAY(t->arena, TensorView, c.n + 1);
  for (int i = 0; i < c.n; i++) {
    const char *name = c.param[i]->attrs.leaf.name;
    const Type *type = &c.param[i]->type;
    const TensorView *v = plan_find_param(t->plan, name) < 0 ? safetensors_find(w, name) : NULL;
    if (!v) continue;
    TensorView kept = {.name = arena_strdup(t->arena, name),
                       .dtype = type->dtype,
                       .rank = type->rank,
                       .bytes = dtype_bytes(type->dtype)};
    if (!tensors_fit(v, type))
      return error_set(err, ERROR_ARGUMENT, "\"%s\" has another shape or type than the model's", name);
    for (int k = 0; k < v->rank; k++) {
      kept.dim[k] = v->dim[k];
      kept.bytes *= (size_t)v->dim[k];
    }
    void *values = arena_alloc(t->arena, kept.bytes + 1);
    if (!convert_tensor(v, type->dtype, values, err)) return false;
    kept.data = values;
    t->kept[t->n_kept++] = kept;
  }
  return true;
}

static bool load_values(Training *t, const Safetensors *w, Error *err) {
  if (!models_check_weights(t->model, w, err) || !keep_rest(t, w, err)) return false;
  if (t->spec.n_fresh)
    return weights_file_load_rest(t->target, t->session, t->plan, w, t->spec.fresh, t->spec.n_fresh, err);
  Error why = {0};
  if (nuwa_load_weights(t->session, w, true, &why)) return true;
  int i = 0;
  while (i < t->plan->n_param && safetensors_find(w, t->plan->param[i].type.name)) i++;
  bool lacks = i < t->plan->n_param;
  return error_set(err, why.code, "%s%s", why.text, lacks ? "; --fresh PATTERN begins such params at initial values" : "");
}

static bool load_start(Training *t, Error *err) {
  const char *path = t->spec.weights;
  if ((!path || t->spec.n_fresh) && !nuwa_init_weights(t->session, t->spec.seed)) return nuwa_check(t->session, err);
  if (!path) return true;
  Safetensors *w = weights_file_open(t->target, path, err);
  bool ok = w && ((check_pair(t, w, err) && load_values(t, w, err) && codes_note_start(t, w, path, err)) ||
                  error_prefix(err, "%s", path));
  safetensors_close(w);
  return ok;
}

static bool is_of_part(const Training *t, const char *name) {
  for (int i = 0; i < t->spec.n_part; i++) {
    size_t n = strlen(t->spec.part[i].name);
    if (strncmp(name, t->spec.part[i].name, n) == 0 && name[n] == '.') return true;
  }
  return false;
}

/* Random params that stay so: of a network whose weights were forgotten, or that no pattern of an optimiser meets. */
static void say_what_stays_random(const Training *t) {
  const char *first = NULL;
  int n = 0;
  for (int i = 0; i < t->plan->n_param; i++) {
    const PlanParam *p = &t->plan->param[i];
    if (t->spec.weights && !weights_file_is_like(p->type.name, t->spec.fresh, t->spec.n_fresh)) continue;
    bool is_random = p->init > 1 && !t->spec.begins;   /* neither zeros nor ones */
    if (is_random && !p->is_updated && !is_of_part(t, p->type.name) && n++ == 0) first = p->type.name;
  }
  if (n > 0)
    synth_say(t->target, "no step moves \"%s\"%s: random, and to stay so; --weights-of PREFIX=FILE gives them values", first,
              n > 1 ? " and others" : "");
}

static bool load_weights(Training *t, Error *err) {
  bool ok = load_start(t, err);
  for (int i = 0; ok && i < t->spec.n_part; i++)
    ok = weights_file_load_part(t->target, t->session, t->plan, t->spec.part[i].name, t->spec.part[i].value, err);
  if (ok) say_what_stays_random(t);
  return ok;
}

/* What a module needs to be trained. */
static bool refuse_evaluation(const Training *t, Error *err) {
  return error_set(err, ERROR_USAGE, "%s: --eval needs a function in its module:  evaluate = loss", t->model->path);
}

static bool check_module(const Training *t, Error *err) {
  const Model *m = t->model;
  if (!m->n_train)
    return error_set(err, ERROR_USAGE,
                     "%s does not say how it is trained: its module needs  train = { { \"main\", optim.adam(loss, { "
                     "lr = 1e-3 }) } }  "
                     "(and before it  local optim = require \"optim\")",
                     m->path);
  return !t->spec.evaluates || t->spec.shows || has_evaluate(t) || refuse_evaluation(t, err);
}

static void list_entries(Training *t) {
  const Model *m = t->model;
  t->entry = ARENA_ARRAY(t->arena, TrainEntry, m->n_train);
  const char *stands_in = only_begins(t) ? FUNC_EVALUATE : NULL;
  for (int i = 0; i < m->n_train; i++)
    t->entry[i] = (TrainEntry){m->train[i].name, plan_find_function(t->plan, stands_in ? stands_in : m->train[i].func->name), m->train[i].from,
                               m->train[i].to, m->train[i].every};
  t->evaluate = t->spec.evaluates ? plan_find_function(t->plan, FUNC_EVALUATE) : -1;
}

static bool open_model(Training *t, Error *err) {
  if (!error_asked((t->model = models_load(t->target, &t->spec.model, err)) != NULL, err) || !check_module(t, err))
    return false;
  t->spec.evaluates &= has_evaluate(t);
  CompileOptions o = compile_options(t);
  if (!(t->plan = models_compile_plan(t->target, t->model, &o, err))) return false;
  list_entries(t);
  return (t->session = open_session(t, t->plan, err)) && load_weights(t, err);
}

static int64_t int_field(const Model *m, const char *name) {
  const Value *v = m ? model_field(m, name) : NULL;
  return v && v->kind == VALUE_INT ? v->integer : 0;
}

/* Ids must fit the tables of the model: out of range they would read beside them. */
static bool check_sizes(const Training *t, Error *err) {
  int64_t vocab = int_field(t->model, MODEL_VOCAB);
  static const char *const codebooks[CODEC_KINDS] = {MODEL_CODEBOOK, MODEL_LABELS_CODEBOOK};
  if (t->spec.bpe && vocab && vocab < bpe_vocab(t->spec.bpe))
    return error_set(err, ERROR_ARGUMENT, "the merges make %d tokens, the model's vocab is %lld",
                     bpe_vocab(t->spec.bpe), (long long)vocab);
  int64_t classes = int_field(t->model, MODEL_CLASSES), shown = dataset_class_count(t->spec.data);
  if (classes && classes < shown)
    return error_set(err, ERROR_ARGUMENT, "%s has %lld classes, the model's classes are %lld", dataset_spec(t->spec.data),
                     (long long)shown, (long long)classes);
  for (int k = 0; k < CODEC_KINDS; k++) {
    int64_t codes = t->codec[k].codes, codebook = int_field(t->model, codebooks[k]);
    if (codes && codebook && codebook < codes)
      return error_set(err, ERROR_ARGUMENT, "the autoencoder%s has %lld codes, the model's %s %lld",
                       k == CODEC_IMAGE ? "" : " of labels", (long long)codes, codebooks[k], (long long)codebook);
  }
  return true;
}

/* What evaluates must be there, and mean the same by its classes. */
static bool check_evaluated(const Training *t, Error *err) {
  const Dataset *d = t->spec.data, *e = t->spec.eval_data;
  if (!e)
    return dataset_is_endless(d) || dataset_count(d, WORLD_VALIDATION) ||
           error_set(err, ERROR_ARGUMENT, "%s: of so few examples none is held out: --eval needs --eval-data",
                     dataset_spec(d));
  if (!plan_find_input(&t->plan->function[t->evaluate], PORT_CLASS)) return true;
  for (int i = 0; i < dataset_class_count(e); i++) {
    const char *name = dataset_class_name(e, i);
    const char *trained = i < dataset_class_count(d) ? dataset_class_name(d, i) : NULL;
    if (name && dataset_class_count(d) && (!trained || strcmp(name, trained) != 0))
      return error_set(err, ERROR_ARGUMENT, "class %d is \"%s\" in %s and \"%s\" in %s", i, name, dataset_spec(e),
                       trained ? trained : "none", dataset_spec(d));
  }
  return true;
}

void training_encoders(const Training *t, Encoder out[ENCODER_KINDS]) {
  static const int kind[ENCODER_KINDS] = {[ENCODER_IMAGE] = CODEC_IMAGE, [ENCODER_LABELS] = CODEC_LABELS};
  for (int i = 0; i < ENCODER_KINDS; i++) {
    const Codec *c = &t->codec[kind[i]];
    out[i] = (Encoder){c->session, c->opened.plan, c->encode, kind[i] == CODEC_LABELS ? c->channels : 0};
  }
}

typedef struct IdsCall {
  const Func *f;
  int input;
  IdRange range;
} IdsCall;

static void ids_body(void *ctx) {
  IdsCall *c = ctx;
  c->range = func_ids(c->f, c->f->in[c->input].node);
}

/* What the model's tables say of ids that a function takes. */
static bool list_ids(Training *t, const Func *f, int function, SourceOptions *o, Error *err) {
  SourceIds *ids = ARENA_ARRAY(t->arena, SourceIds, o->n_ids + f->n_in);
  if (o->n_ids) memcpy(ids, o->ids, (size_t)o->n_ids * sizeof *ids);
  for (int i = 0; i < f->n_in; i++) {
    IdsCall c = {.f = f, .input = i};
    if (!arena_protect(f->graph->arena, ids_body, &c, err)) return false;
    if (c.range.n) ids[o->n_ids++] = (SourceIds){function, f->in[i].name, c.range.n, c.range.ignored};
  }
  o->ids = ids;
  return true;
}

static bool open_source(Training *t, Error *err) {
  int n = t->model->n_train, *function = ARENA_ARRAY(t->arena, int, n + 1);
  SourceOptions o = {.data = t->spec.data, .eval_data = t->spec.eval_data, .evaluate = t->evaluate,
                     .bpe = t->spec.bpe, .batch = t->spec.batch, .threads = t->spec.loading};
  if (t->spec.evaluates && !check_evaluated(t, err)) return error_asked(false, err);
  for (int i = 0; i < n; i++) function[i] = t->entry[i].function;
  for (int i = 0; i < n; i++)
    if (!list_ids(t, t->model->train[i].func, function[i], &o, err)) return false;
  if (t->evaluate >= 0) {
    if (!list_ids(t, model_find(t->model, FUNC_EVALUATE, err), t->evaluate, &o, err)) return false;
    function[n++] = t->evaluate;
  }
  training_encoders(t, o.encoder);
  t->source = source_new(t->plan, function, n, &o, err);
  return error_asked(t->source != NULL, err); /* an input that nothing gives */
}

typedef struct TrainingCall {
  Training *t;
  const Recipe *recipe;
  const char *path;
  bool as_bf16, ok;
  Error *err;
} TrainingCall;

/* Where there is no `evaluate` there must be something to look at. */
static bool open_showing(Training *t, Error *err) {
  if (!t->spec.shows) return true;
  return showing_open(t, &t->showing, err) && (t->spec.evaluates || t->showing || refuse_evaluation(t, err));
}

static void open_body(void *ctx) {
  TrainingCall *c = ctx;
  bool begins = c->t->spec.begins;   /* which takes no example: data may lack what the steps would read */
  c->ok = open_codecs(c->t, c->err) && open_model(c->t, c->err) && check_sizes(c->t, c->err) &&
          (begins || open_source(c->t, c->err)) && open_showing(c->t, c->err);
}

static bool call(TrainingCall *c, void (*body)(void *)) {
  return arena_protect(c->t->arena, body, c, c->err) && c->ok;
}

bool training_open(Training *t, const SynthTarget *target, const TrainingSpec *spec, Error *err) {
  *t = (Training){.arena = arena_new(), .target = target, .spec = *spec, .evaluate = -1};
  if (!t->arena) return error_set(err, ERROR_MEMORY, "out of memory");
  if (spec->begins) t->spec.batch = 1;
  return call(&(TrainingCall){.t = t, .err = err}, open_body);
}

void training_close(Training *t) {
  showing_close(t->showing);
  source_free(t->source);
  nuwa_session_close(t->session);
  for (int k = 0; k < CODEC_KINDS; k++) codec_close(&t->codec[k]);
  plan_free(t->plan);
  model_free(t->model);
  arena_free(t->arena);
  *t = (Training){0};
}

bool training_has_input(const Training *t, const char *name) {
  bool has = t->evaluate >= 0 && plan_find_input(&t->plan->function[t->evaluate], name);
  for (int i = 0; i < t->model->n_train && !has; i++)
    has = plan_find_input(&t->plan->function[t->entry[i].function], name);
  return has;
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
  recipe_set_text(&r, RECIPE_DATA_DIGEST, dataset_digest(t->spec.data));
  if (t->spec.eval_data) recipe_set_text(&r, RECIPE_EVAL_DIGEST, dataset_digest(t->spec.eval_data));
  for (int k = 0; k < CODEC_KINDS; k++)
    if (codec_is_open(&t->codec[k])) codec_recipe(&t->codec[k], t->codec[k].opened.codes, &r);
  if (!recipe_set_files(&r, RECIPE_PARTS, t->spec.part, t->spec.n_part, c->err)) return;
  c->t->recipe = recipe_print(&r, RECIPE_RUN);
  c->ok = true;
}

bool training_recipe(Training *t, const Recipe *r, Error *err) {
  if (!source_check(&t->model->source, err)) return error_prefix(err, "%s", t->model->path);
  return call(&(TrainingCall){.t = t, .recipe = r, .err = err}, recipe_body);
}

/* ---- the run ---- */

enum { EVALUATE_BATCHES = 4 };

/* Of data that are there to measure all, else some batches. */
static int64_t evaluate_batches(const Training *t) {
  const Dataset *e = t->spec.eval_data;
  if (!e || dataset_is_endless(e)) return EVALUATE_BATCHES;
  return (int64_t)((dataset_count(e, WORLD_TRAIN) + (uint64_t)t->spec.batch - 1) / (uint64_t)t->spec.batch);
}

static void explain(void *ctx, const TrainEntry *e, Error *err) { divergence_explain(ctx, e, err); }

static bool show(void *ctx, LogRecord *out, Error *err) { return showing_make(ctx, out, err); }

static void say_what_makes_no_step(const Training *t, int64_t steps) {
  for (int i = 0; i < t->model->n_train; i++)
    if (t->entry[i].from > steps)
      synth_say(t->target, "\"%s\" makes no step: it begins at step %lld, and --steps is %lld", t->entry[i].name,
                (long long)t->entry[i].from, (long long)steps);
}

bool training_run(Training *t, const TrainOptions *loop, Error *err) {
  TrainOptions o = *loop;
  if (t->spec.begins) return true;
  say_what_makes_no_step(t, loop->steps);
  TrainSource source = source_interface(t->source);
  o.batch = t->spec.batch;
  o.seed = t->spec.seed;
  o.entry = t->entry;
  o.n_entry = t->model->n_train;
  o.evaluate = t->evaluate;
  if (!o.evaluate_batches) o.evaluate_batches = evaluate_batches(t);
  o.recipe = t->recipe;
  o.is_told = recipe_is_told;
  o.show = t->showing ? show : NULL;
  o.show_ctx = t->showing;
  o.explain = explain;
  o.explain_ctx = t;
  return train_run(t->session, t->plan, &o, &source, err);
}

/* Whether an entry's averages have a step in them. */
static bool has_averages(Training *t, const ModelTrain *e, Error *err) {
  int32_t steps = 0;
  char name[512];
  return e->average > 0 && snprintf(name, sizeof name, "%s.averaged", e->name) < (int)sizeof name &&
         nuwa_read_state(t->session, name, &steps, err) && steps > 0;
}

/* The state that holds the average of a param; NULL where there is none.  Free it with buffer_done. */
static const char *find_average(Training *t, const char *param, Buffer *name, Error *err) {
  for (int i = 0; i < t->model->n_train && !t->spec.raw; i++) {
    const ModelTrain *e = &t->model->train[i];
    name->len = 0;
    buffer_printf(name, "%s.average.%s", e->name, param);
    if (!name->failed && plan_find_state(t->plan, name->data) >= 0 && has_averages(t, e, err)) return name->data;
  }
  return NULL;
}

bool training_read_param(Training *t, const char *name, void *to, Error *err) {
  Buffer state = {0};
  const char *average = find_average(t, name, &state, err);
  bool ok = !state.failed || error_set(err, ERROR_MEMORY, "\"%s\": out of memory", name);
  ok = ok && (average ? nuwa_read_state(t->session, average, to, err) : nuwa_read_param(t->session, name, to, err));
  buffer_done(&state);
  return ok;
}

/* Puts averages where the params were, for writing. */
static bool use_averages(Training *t, Error *err) {
  for (int i = 0; i < t->plan->n_param; i++) {
    const PlanTensor *p = &t->plan->param[i].type;
    int64_t bytes = 0;
    Buffer state = {0};
    bool has_average = find_average(t, p->name, &state, err) != NULL;
    buffer_done(&state);
    if (!has_average) continue;
    BUG_IF(!plan_tensor_bytes(p, 0, 0, &bytes), "\"%s\" has no size", p->name);
    void *values = arena_alloc(t->arena, (size_t)bytes + 1);
    if (!training_read_param(t, p->name, values, err) || !nuwa_write_param(t->session, p->name, values, err)) return false;
  }
  return true;
}

static void write_body(void *ctx) {
  TrainingCall *c = ctx;
  Training *t = c->t;
  Buffer merges = {0}, words = {0};
  MetadataEntry entry[WEIGHTS_META];
  WeightsMeta meta = {.model = t->model, .recipe = t->recipe};
  if (t->spec.bpe) {
    if (!bpe_serialise(t->spec.bpe, &merges, c->err)) return;
    meta.merges = arena_take_buffer(t->arena, &merges);
    if (dataset_world(t->spec.data)) { /* of others nobody knows all words */
      world_words(dataset_world(t->spec.data), &words);
      meta.words = arena_take_buffer(t->arena, &words);
    }
  }
  if ((!t->spec.raw && !use_averages(t, c->err)) || !codes_are_kept(t, c->as_bf16, &meta.codes, c->err)) return;
  int n = weights_file_describe(t->arena, &meta, entry);
  c->ok = weights_write(t->session, t->plan, t->kept, t->n_kept, c->path, c->as_bf16, entry, n, c->err);
}

bool training_write(Training *t, const char *path, bool as_bf16, Error *err) {
  return call(&(TrainingCall){.t = t, .path = path, .as_bf16 = as_bf16, .err = err}, write_body);
}
