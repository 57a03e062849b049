/* `nuwa ablate`: the kinds of attention against each other, encoder x decoder, at one size of model.
 *
 * Steps, time and memory are measured on models with initial weights, for which they are the same.  The held-out loss
 * needs training: --train N gives each model the same N steps and writes what came out into the file that is read
 * without it. The file says which model, options and autoencoder its losses are of; those of others are not shown. */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/train.h"
#include "synth/weights_file.h"

enum { VARIANTS = 5, HELD_OUT_BATCHES = 8, TIMED_RUNS = 5 };

typedef struct Variant {
  const char *name, *encoder, *decoder;
} Variant;
static const Variant variants[VARIANTS] = {{"FF", "full", "full"},
                                           {"NF", "nearby", "full"},
                                           {"FN", "full", "nearby"},
                                           {"AA", "axis", "axis"},
                                           {"NN", "nearby", "nearby"}};

typedef struct AblateArgs {
  ModelArgs model;
  const char *weights, *vq_weights, *results;
  int64_t train, batch, seed;
  double lr, noise;
  bool json;
} AblateArgs;

typedef struct VariantRow {
  int64_t steps, tokens, kv_bytes, params;
  double ms, loss;
  bool has_loss;
} VariantRow;

typedef struct Ablation {
  AblateArgs *a;
  Arena *arena;
  CliTarget target;
  Safetensors *weights;          /* names model, options, text encoder */
  Safetensors *results;          /* "loss" f32 [VARIANTS]; NULL: none of this model */
  char vq_digest[65];            /* of the autoencoder's weights */
  VariantRow row[VARIANTS];
  Error *err;
} Ablation;

static const char about[] =
    "Compares FF, NF, FN, AA, NN (encoder, decoder: Full, Nearby, Axis) at the size of the shipped model: decoding\n"
    "steps, milliseconds a picture, bytes of keys and values, parameters, and the held-out loss after the same\n"
    "short training.  --train N trains all five again (N steps each) and writes their losses to --results.";

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* The model for one variant. */
static bool variant_spec(Ablation *b, const Variant *v, ModelSpec *out) {
  *out = cli_spec(&b->a->model);
  if (!weights_file_complete(b->arena, &b->target.synth, out, b->weights, b->a->weights, b->err)) return false;
  models_define(b->arena, out, "encoder", v->encoder);
  models_define(b->arena, out, "decoder", v->decoder);
  return true;
}

/* ---- steps, time, memory ---- */

static int64_t tensor_bytes(const PlanTensor *t) {
  int64_t bytes = 0;
  return plan_tensor_bytes(t, 1, 1, &bytes) ? bytes : 0;
}

static int64_t param_count(const Plan *p) {
  int64_t total = 0;
  for (int i = 0; i < p->n_param; i++)
    total += tensor_bytes(&p->param[i].type) / (int64_t)dtype_bytes(p->param[i].type.dtype);
  return total;
}

static bool measure(Ablation *b, const Variant *v, VariantRow *row) {
  static const char *const functions[] = {"decode"};
  ModelSpec m;
  if (!variant_spec(b, v, &m)) return false;
  Model *model = models_load(&b->target.synth, &m, b->err);
  const ModelDecode *md = model ? model_find_decode(model, functions[0], b->err) : NULL;
  CompileOptions o = {.function = functions, .n_function = 1};
  DecodeFacts facts = {0};
  bool ok = md && compile_decode_describe(model, md, b->target.synth.compile.precision, &facts, b->err);
  Plan *p = ok ? models_compile_plan(&b->target.synth, model, &o, b->err) : NULL;
  model_free(model);
  NuwaGenerate g = {.count = 1, .sample = {.temperature = 1.0f, .top_p = 1.0f}, .guidance = 1.0f};
  NuwaGenerateStats stats = {0};
  int64_t slots, rows;
  NuwaSession *s = NULL;
  ok = p && nuwa_generate_needs(p, &g, &slots, &rows, b->err);
  if (ok) {
    s = models_open_session(&b->target.synth, p, 1, rows, 0, b->err);
    ok = s != NULL;
  }
  if (ok) {
    const int64_t *grid = p->decode[0].grid;
    int32_t *tokens = ARENA_ARRAY(b->arena, int32_t, grid[0] * grid[1] * grid[2]);
    nuwa_init_weights(s, 1);
    row->ms = 1e30;
    for (int i = 0; i < TIMED_RUNS && ok; i++) {
      double t0 = now_ms();
      ok = nuwa_generate(s, &g, tokens, &stats, NULL, NULL, b->err);
      if (now_ms() - t0 < row->ms) row->ms = now_ms() - t0;
    }
    row->steps = stats.steps;
    row->tokens = stats.tokens;
    row->kv_bytes = facts.kv_bytes;
    row->params = param_count(p);
  }
  nuwa_session_close(s);
  plan_free(p);
  return ok;
}

/* ---- training ---- */

/* `nuwa train` with the variant's options; the loss over held-out pairs after the last step. */
static bool train_variant(Ablation *b, int which, const char *merges) {
  const AblateArgs *a = b->a;
  const Variant *v = &variants[which];
  TrainArgs t;
  train_args_init(&t);
  ModelSpec m;
  if (!variant_spec(b, v, &m)) return false;
  t.model = a->model;
  t.model.path = m.path;
  t.model.source = m.source;
  t.model.defines = (DefineList){m.define, m.n_define};
  t.merges_text = merges;
  t.vq_weights = a->vq_weights;
  t.steps = t.evaluate = a->train;
  t.evaluate_batches = HELD_OUT_BATCHES;
  t.batch = a->batch;
  t.seed = a->seed;
  t.lr = a->lr;
  t.noise = a->noise;
  fprintf(stderr, "%s (%d of %d): %" PRId64 " steps of %" PRId64 "\n", v->name, which + 1, VARIANTS, a->train,
          a->batch);
  TrainResult r;
  if (!train_model(&t, &r, b->err)) return error_prefix(b->err, "training %s", v->name);
  fprintf(stderr, "%s: held-out loss %.4f\n", v->name, r.held_loss);
  b->row[which].loss = r.held_loss;
  b->row[which].has_loss = true;
  return true;
}

/* ---- results ---- */

enum { N_IDENTITY = 5 };

/* Which losses these are: all that two sets must share to be shown as one.  out [N_IDENTITY], in the arena. */
static bool identify(Ablation *b, MetadataEntry *out) {
  ModelSpec m;
  if (!variant_spec(b, &variants[0], &m)) return false;
  Model *model = models_load(&b->target.synth, &m, b->err);
  if (!model) return false;
  Buffer options = {0};
  for (int i = 0; i < model->options.n; i++) {
    const Option *o = &model->options.option[i];
    if (strcmp(o->name, "encoder") == 0 || strcmp(o->name, "decoder") == 0) continue;
    buffer_printf(&options, "%s=", o->name);
    value_print(&o->value, &options);
    buffer_printf(&options, "\n");
  }
  const char *slash = strrchr(m.path, '/');
  out[0] = (MetadataEntry){"variants", "FF NF FN AA NN"};
  out[1] = (MetadataEntry){"model", arena_strdup(b->arena, slash ? slash + 1 : m.path)};
  out[2] = (MetadataEntry){"options", arena_strdup(b->arena, options.data ? options.data : "")};
  out[3] = (MetadataEntry){"autoencoder", b->vq_digest};
  out[4] = (MetadataEntry){"precision", dtype_name(cli_precision(&b->a->model))};
  bool ok = !options.failed || error_set(b->err, ERROR_MEMORY, "out of memory");
  buffer_done(&options);
  model_free(model);
  return ok;
}

static bool write_results(Ablation *b) {
  const AblateArgs *a = b->a;
  float loss[VARIANTS];
  for (int i = 0; i < VARIANTS; i++) loss[i] = (float)b->row[i].loss;
  TensorView t = {
      .name = "loss", .dtype = DTYPE_F32, .rank = 1, .dim = {VARIANTS}, .data = loss, .bytes = sizeof loss};
  MetadataEntry meta[N_IDENTITY + 5] = {[N_IDENTITY] = {"steps", arena_printf(b->arena, "%" PRId64, a->train)},
                                        {"batch", arena_printf(b->arena, "%" PRId64, a->batch)},
                                        {"lr", arena_printf(b->arena, "%.9g", a->lr)},
                                        {"noise", arena_printf(b->arena, "%.9g", a->noise)},
                                        {"seed", arena_printf(b->arena, "%" PRId64, a->seed)}};
  return identify(b, meta) && safetensors_write(a->results, &t, 1, meta, COUNT_OF(meta), b->err);
}

static bool train_all(Ablation *b) {
  const char *merges = safetensors_metadata(b->weights, WEIGHTS_BPE);
  if (!merges) return error_set(b->err, ERROR_ARGUMENT, "%s holds no text encoder", b->a->weights);
  for (int i = 0; i < VARIANTS; i++)
    if (!train_variant(b, i, merges)) return false;
  return write_results(b);
}

/* Whether the file's losses are of this model; err says what differs. */
static bool are_ours(Ablation *b) {
  MetadataEntry want[N_IDENTITY];
  if (!identify(b, want)) return false;
  for (int i = 0; i < N_IDENTITY; i++) {
    const char *have = safetensors_metadata(b->results, want[i].key);
    if (!have && i == 4) have = dtype_name(DTYPE_F32);   /* files from before there was a choice */
    if (!have || strcmp(have, want[i].value) != 0)
      return error_set(b->err, ERROR_FORMAT, "%s: its losses are of other %s; --train N makes them anew",
                       b->a->results, i == 2 ? "options" : i == 1 ? "models" : want[i].key);
  }
  return true;
}

/* Losses of an earlier --train.  The shipped ones may be missing or another model's: the column is then empty. */
static bool read_results(Ablation *b, bool is_shipped) {
  struct stat st;
  if (is_shipped && stat(b->a->results, &st) != 0) return true;
  if (!(b->results = safetensors_open(b->a->results, b->err))) return false;
  const TensorView *t = safetensors_find(b->results, "loss");
  if (!t || t->dtype != DTYPE_F32 || t->rank != 1 || t->dim[0] != VARIANTS)
    return error_set(b->err, ERROR_FORMAT, "%s: no tensor loss f32[%d]", b->a->results, VARIANTS);
  if (!are_ours(b)) {
    if (!is_shipped || b->err->code != ERROR_FORMAT) return false;
    fprintf(stderr, "%s\n", b->err->text);
    *b->err = (Error){0}; /* it was no failure, and what follows may ask whether there was one */
    safetensors_close(b->results);
    b->results = NULL;
    return true;
  }
  for (int i = 0; i < VARIANTS; i++) {
    float x;
    memcpy(&x, (const char *)t->data + sizeof x * (size_t)i, sizeof x);
    b->row[i].loss = x;
    b->row[i].has_loss = true;
  }
  return true;
}

/* ---- output ---- */

static void print_table(const Ablation *b) {
  printf("| encoder, decoder | steps | tokens | ms / picture | key/value bytes | parameters | held-out loss |\n"
         "|---|---|---|---|---|---|---|\n");
  for (int i = 0; i < VARIANTS; i++) {
    const VariantRow *r = &b->row[i];
    printf("| %s (%s, %s) | %" PRId64 " | %" PRId64 " | %.2f | %" PRId64 " | %" PRId64 " | ", variants[i].name,
           variants[i].encoder, variants[i].decoder, r->steps, r->tokens, r->ms, r->kv_bytes, r->params);
    if (r->has_loss) printf("%.4f |\n", r->loss);
    else printf("- |\n");
  }
  if (b->results) printf("\nlosses after %s steps of %s pictures (%s)\n", safetensors_metadata(b->results, "steps"),
                         safetensors_metadata(b->results, "batch"), b->a->results);
}

static void print_json(const Ablation *b) {
  printf("[");
  for (int i = 0; i < VARIANTS; i++) {
    const VariantRow *r = &b->row[i];
    printf("%s{\"name\": \"%s\", \"steps\": %" PRId64 ", \"tokens\": %" PRId64
           ", \"ms\": %.4f, \"kv_bytes\": %" PRId64 ", \"params\": %" PRId64,
           i ? ", " : "", variants[i].name, r->steps, r->tokens, r->ms, r->kv_bytes, r->params);
    if (r->has_loss) printf(", \"loss\": %.6f", r->loss);
    printf("}");
  }
  printf("]\n");
}

/* The variants are the encoders and decoders. */
static bool check(void *ctx, Error *err) {
  const DefineList *list = &((Ablation *)ctx)->a->model.defines;
  for (int i = 0; i < list->n; i++) {
    const char *name = list->item[i].name;
    if (strcmp(name, "encoder") == 0 || strcmp(name, "decoder") == 0)
      return error_set(err, ERROR_ARGUMENT,
                       "-D %s=%s has no effect: FF, NF, FN, AA and NN are compared whatever it is; give others",
                       name, list->item[i].value);
  }
  return true;
}

static bool run(void *ctx, Arena *arena, Error *err) {
  Ablation *b = ctx;
  AblateArgs *a = b->a;
  b->arena = arena;
  b->err = err;
  bool is_shipped = !a->results && !a->train;
  const SynthTarget *t = &b->target.synth;
  if (a->train && a->results && !cli_check_output("--results", a->results, err)) return false;
  if (!cli_target_open(&a->model, &b->target, err)) return false;
  if (!a->weights) a->weights = weights_file_shipped(arena, t, "demo");
  if (!a->vq_weights) a->vq_weights = weights_file_shipped(arena, t, "demo_vq");
  if (!a->results) a->results = weights_file_shipped(arena, t, "ablation");
  bool ok = (!a->train || cli_check_output("--results", a->results, err)) &&
            (b->weights = weights_file_open(t, a->weights, err)) &&
            weights_file_digest(a->vq_weights, b->vq_digest, err) &&
            (!a->train || train_all(b)) && read_results(b, is_shipped);
  for (int i = 0; i < VARIANTS && ok; i++) ok = measure(b, &variants[i], &b->row[i]);
  if (ok && a->json) print_json(b);
  else if (ok) print_table(b);
  return ok;
}

static void run_done(void *ctx) {
  Ablation *b = ctx;
  safetensors_close(b->weights);
  safetensors_close(b->results);
  cli_target_close(&b->target);
}

int cli_ablate(int argc, char **argv) {
  AblateArgs a = {.batch = 32, .lr = 1e-3, .noise = 0.6, .seed = 1};
  Ablation b = {.a = &a};
  const Arg arg[] = {
      {"--train", ARG_INT, "N", "train each variant for N steps and write --results", &a.train, 1, 1 << 30},
      {"--batch", ARG_INT, "N", "pictures a step (32)", &a.batch, 1, 4096, .with = "--train"},
      {"--lr", ARG_REAL, "X", "highest learning rate (0.001)", &a.lr, 0, 1, .with = "--train"},
      {"--noise", ARG_REAL, "P", "as of nuwa train (0.6)", &a.noise, 0, 1, .with = "--train"},
      {"--seed", ARG_INT, "N", "of initial weights (1)", &a.seed, 0, 9.0e15, .with = "--train"},
      {"--results", ARG_TEXT, "FILE",
       "losses of the variants, read, or written by --train (default: the shipped ones)", &a.results, 0, 0},
      {"--weights", ARG_TEXT, "FILE", "whose model, options and text encoder are compared", &a.weights, 0, 0},
      {"--vq-weights", ARG_TEXT, "FILE", "of the autoencoder", &a.vq_weights, 0, 0},
      ARG_DEFINES(&a.model),
      {"--json", ARG_FLAG, NULL, "print numbers as JSON", &a.json, 0, 0},
  };
  const Command c = {.name = "ablate", .usage = "[options]", .about = about, .arg = arg, .n_arg = COUNT_OF(arg),
                     .target = &a.model, .ctx = &b, .check = check, .run = run, .done = run_done};
  return cli_command(&c, argc, argv);
}
