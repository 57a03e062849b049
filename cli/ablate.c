/* `nuwa ablate`: the kinds of attention against each other, encoder x decoder, at one size of model.
 *
 * Steps, time and memory are measured on models with initial weights, for which they are the same.  The held-out loss needs
 * training: --train N gives each model the same N steps and writes what came out into the file that is read without it. */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/kit.h"
#include "train/source.h"

enum { VARIANTS = 5, HELD_OUT_BATCHES = 8, TIMED_RUNS = 5 };

typedef struct Variant {
  const char *name, *encoder, *decoder;
} Variant;
static const Variant variants[VARIANTS] = {
    {"FF", "full", "full"}, {"NF", "nearby", "full"}, {"FN", "full", "nearby"}, {"AA", "axis", "axis"}, {"NN", "nearby", "nearby"}};

typedef struct AblateArgs {
  ModelArgs model;
  const char *weights, *vq_weights, *results;
  int64_t train, batch, seed;
  double lr;
  bool json;
} AblateArgs;

typedef struct Row {
  int64_t steps, tokens, kv_bytes, params;
  double ms, loss;
  bool has_loss;
} Row;

typedef struct Ablation {
  AblateArgs *a;
  Arena *arena;
  Safetensors *weights;          /* names model, options, text encoder */
  Safetensors *results;          /* "loss" f32 [VARIANTS]; NULL: none yet */
  const char *vq_model;
  DefineList vq_defines;
  Row row[VARIANTS];
  Error *err;
  bool ok;
} Ablation;

static const char about[] =
    "Compares FF, NF, FN, AA, NN (encoder, decoder: Full, Nearby, Axis) at the size of the shipped model: decoding steps,\n"
    "milliseconds a picture, bytes of keys and values, parameters, and the held-out loss after the same short training.\n"
    "--train N trains all five again (N steps each) and writes their losses to --results.";

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void define(Ablation *b, DefineList *list, const char *name, const char *value) {
  Define *grown = ARENA_ARRAY(b->arena, Define, list->n + 1);
  int n = 0;
  for (int i = 0; i < list->n; i++)
    if (strcmp(list->item[i].name, name) != 0) grown[n++] = list->item[i];
  grown[n++] = (Define){name, value};
  *list = (DefineList){grown, n};
}

/* The model's arguments for one variant. */
static bool variant_args(Ablation *b, const Variant *v, ModelArgs *out) {
  *out = b->a->model;
  if (!kit_complete_args(b->arena, out, b->weights, b->err)) return false;
  define(b, &out->defines, "encoder", v->encoder);
  define(b, &out->defines, "decoder", v->decoder);
  return true;
}

/* ---- steps, time, memory ---- */

static int64_t tensor_bytes(const PlanTensor *t) {
  int64_t bytes = 0;
  return plan_tensor_bytes(t, 1, 1, &bytes) ? bytes : 0;
}

/* Keys and values of one sample: the rings, and what the prologue keeps. */
static int64_t kv_bytes(const Plan *p) {
  int64_t total = 0;
  for (int i = 0; i < p->n_state; i++)
    if (p->state[i].is_ring || strstr(p->state[i].type.name, ".keep.")) total += tensor_bytes(&p->state[i].type);
  return total;
}

static int64_t param_count(const Plan *p) {
  int64_t total = 0;
  for (int i = 0; i < p->n_param; i++) total += tensor_bytes(&p->param[i].type) / (int64_t)dtype_bytes(p->param[i].type.dtype);
  return total;
}

static bool measure(Ablation *b, const Variant *v, Row *row) {
  static const char *const functions[] = {"decode"};
  ModelArgs m;
  if (!variant_args(b, v, &m)) return false;
  Model *model = cli_load_model(&m, b->err);
  CompileOptions o = {.function = functions, .n_function = 1};
  Plan *p = model ? cli_compile_plan(model, &m, &o, b->err) : NULL;
  model_free(model);
  NuwaGenerate g = {.count = 1, .sample = {.temperature = 1.0f, .top_p = 1.0f}, .guidance = 1.0f};
  NuwaGenerateStats stats = {0};
  int64_t slots, rows;
  NuwaSession *s = NULL;
  bool ok = p && nuwa_generate_needs(p, &g, &slots, &rows, b->err);
  NuwaOptions so = {.threads = (int)m.threads, .samples = 1, .rows = ok ? rows : 1};
  ok = ok && (s = nuwa_session_open(p, &so, b->err));
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
    row->kv_bytes = kv_bytes(p);
    row->params = param_count(p);
  }
  nuwa_session_close(s);
  plan_free(p);
  return ok;
}

/* ---- training ---- */

static void push(Ablation *b, const char **argv, int *n, const char *name, const char *value) {
  argv[(*n)++] = name;
  if (value) argv[(*n)++] = value;
}

static void push_defines(Ablation *b, const char **argv, int *n, const char *option, const DefineList *list) {
  for (int i = 0; i < list->n; i++) push(b, argv, n, option, arena_printf(b->arena, "%s=%s", list->item[i].name, list->item[i].value));
}

static bool write_merges(Ablation *b, const char *path) {
  const char *merges = safetensors_metadata(b->weights, "bpe");
  if (!merges) return error_set(b->err, ERROR_ARGUMENT, "%s holds no text encoder", b->a->weights);
  return file_write_all(path, merges, strlen(merges), b->err);
}

/* `nuwa train` with the variant's options; weights to `out`. */
static bool train_variant(Ablation *b, const Variant *v, const char *merges, const char *out) {
  ModelArgs m;
  if (!variant_args(b, v, &m)) return false;
  const char **argv = ARENA_ARRAY(b->arena, const char *, 64 + 2 * (m.defines.n + b->vq_defines.n));
  int n = 0;
  push(b, argv, &n, "train", m.path);
  push_defines(b, argv, &n, "-D", &m.defines);
  push(b, argv, &n, "--steps", arena_printf(b->arena, "%" PRId64, b->a->train));
  push(b, argv, &n, "--batch", arena_printf(b->arena, "%" PRId64, b->a->batch));
  push(b, argv, &n, "--seed", arena_printf(b->arena, "%" PRId64, b->a->seed));
  push(b, argv, &n, "--lr", arena_printf(b->arena, "%.9g", b->a->lr));
  push(b, argv, &n, "--bpe", merges);
  push(b, argv, &n, "--vq", b->vq_model);
  push_defines(b, argv, &n, "--vq-define", &b->vq_defines);
  push(b, argv, &n, "--vq-weights", b->a->vq_weights);
  push(b, argv, &n, "--out", out);
  if (m.models_dir) push(b, argv, &n, "--models", m.models_dir);
  if (m.threads) push(b, argv, &n, "--threads", arena_printf(b->arena, "%" PRId64, m.threads));
  fprintf(stderr, "%s: %" PRId64 " steps of %" PRId64 "\n", v->name, b->a->train, b->a->batch);
  if (cli_train(n, (char **)argv) == EXIT_OK) return true;
  return error_set(b->err, ERROR_ARGUMENT, "training of %s failed", v->name);
}

typedef struct LossRun {
  Plan *plan, *vq_plan;
  NuwaSession *session, *vq;
  World *world;
  Bpe *bpe;
  Source *source;
  Safetensors *weights, *vq_weights;
} LossRun;

static void loss_run_done(LossRun *r) {
  source_free(r->source);
  nuwa_session_close(r->session);
  nuwa_session_close(r->vq);
  plan_free(r->plan);
  plan_free(r->vq_plan);
  bpe_free(r->bpe);
  if (r->world) world_close(r->world);
  if (r->weights) safetensors_close(r->weights);
  if (r->vq_weights) safetensors_close(r->vq_weights);
}

static Plan *plan_for(const ModelArgs *m, const char *function, Error *err) {
  Model *model = cli_load_model(m, err);
  CompileOptions o = {.function = &function, .n_function = 1};
  Plan *p = model ? cli_compile_plan(model, m, &o, err) : NULL;
  model_free(model);
  return p;
}

/* Mean loss over scenes with held-out pairs. */
static bool held_out_loss(Ablation *b, LossRun *r, double *out) {
  int loss = plan_find_function(r->plan, "loss");
  TrainSource source = source_interface(r->source);
  *out = 0;
  for (int64_t i = 0; i < HELD_OUT_BATCHES; i++) {
    if (!source.fill(source.ctx, r->session, loss, WORLD_HELD_OUT, (uint64_t)(i * b->a->batch), b->a->batch, b->err)) return false;
    nuwa_run(r->session, loss, b->a->batch, 0);
    *out += *(const float *)nuwa_output(r->session, loss, "loss") / HELD_OUT_BATCHES;
  }
  return true;
}

static bool open_loss(Ablation *b, const Variant *v, const char *weights, LossRun *r) {
  ModelArgs m, vq = b->a->model;
  vq.path = b->vq_model;
  vq.defines = b->vq_defines;
  NuwaOptions o = {.threads = (int)b->a->model.threads, .samples = b->a->batch, .rows = 1};
  const char *merges = safetensors_metadata(b->weights, "bpe");
  WorldOptions w;
  world_options_init(&w);
  if (!variant_args(b, v, &m) || !(r->plan = plan_for(&m, "loss", b->err)) || !(r->vq_plan = plan_for(&vq, "encode", b->err))) return false;
  if (!(r->session = nuwa_session_open(r->plan, &o, b->err)) || !(r->vq = nuwa_session_open(r->vq_plan, &o, b->err))) return false;
  if (!(r->weights = safetensors_open(weights, b->err)) || !(r->vq_weights = safetensors_open(b->a->vq_weights, b->err))) return false;
  if (!nuwa_load_weights(r->session, r->weights, false, b->err) || !nuwa_load_weights(r->vq, r->vq_weights, true, b->err)) return false;
  if (!(r->world = world_open(&w, b->err)) || !(r->bpe = bpe_parse(merges, strlen(merges), "merges", b->err))) return false;
  SourceOptions so = {.world = r->world, .bpe = r->bpe, .encoder = {r->vq, r->vq_plan, plan_find_function(r->vq_plan, "encode")},
                      .batch = b->a->batch};
  int loss = plan_find_function(r->plan, "loss");
  return (r->source = source_new(r->plan, &loss, 1, &so, b->err)) != NULL;
}

static bool train_all(Ablation *b) {
  char folder[] = "/tmp/nuwa-ablate-XXXXXX";
  if (!mkdtemp(folder)) return error_set(b->err, ERROR_IO, "no temporary folder");
  const char *merges = arena_printf(b->arena, "%s/merges.txt", folder), *weights = arena_printf(b->arena, "%s/weights.safetensors", folder);
  float loss[VARIANTS];
  bool ok = write_merges(b, merges);
  for (int i = 0; i < VARIANTS && ok; i++) {
    LossRun r = {0};
    ok = train_variant(b, &variants[i], merges, weights) && open_loss(b, &variants[i], weights, &r) &&
         held_out_loss(b, &r, &b->row[i].loss);
    loss_run_done(&r);
    b->row[i].has_loss = ok;
    loss[i] = (float)b->row[i].loss;
    unlink(weights);
  }
  unlink(merges);
  rmdir(folder);
  if (!ok) return false;
  TensorView t = {.name = "loss", .dtype = DTYPE_F32, .rank = 1, .dim = {VARIANTS}, .data = loss, .bytes = sizeof loss};
  MetadataEntry meta[] = {{"variants", "FF NF FN AA NN"}, {"steps", arena_printf(b->arena, "%" PRId64, b->a->train)},
                          {"batch", arena_printf(b->arena, "%" PRId64, b->a->batch)}, {"lr", arena_printf(b->arena, "%.9g", b->a->lr)},
                          {"seed", arena_printf(b->arena, "%" PRId64, b->a->seed)}};
  return safetensors_write(b->a->results, &t, 1, meta, COUNT_OF(meta), b->err);
}

/* Losses of an earlier --train; a missing file only leaves the column empty. */
static bool read_results(Ablation *b) {
  struct stat st;
  if (stat(b->a->results, &st) != 0) return true;
  if (!(b->results = safetensors_open(b->a->results, b->err))) return false;
  const TensorView *t = safetensors_find(b->results, "loss");
  if (!t || t->dtype != DTYPE_F32 || t->rank != 1 || t->dim[0] != VARIANTS)
    return error_set(b->err, ERROR_FORMAT, "%s: no tensor loss f32[%d]", b->a->results, VARIANTS);
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
  printf("| encoder, decoder | steps | tokens | ms / picture | key/value bytes | parameters | held-out loss |\n|---|---|---|---|---|---|---|\n");
  for (int i = 0; i < VARIANTS; i++) {
    const Row *r = &b->row[i];
    printf("| %s (%s, %s) | %" PRId64 " | %" PRId64 " | %.2f | %" PRId64 " | %" PRId64 " | ", variants[i].name, variants[i].encoder,
           variants[i].decoder, r->steps, r->tokens, r->ms, r->kv_bytes, r->params);
    if (r->has_loss) printf("%.4f |\n", r->loss);
    else printf("- |\n");
  }
  if (b->results) printf("\nlosses after %s steps of %s pictures (%s)\n", safetensors_metadata(b->results, "steps"),
                         safetensors_metadata(b->results, "batch"), b->a->results);
}

static void print_json(const Ablation *b) {
  printf("[");
  for (int i = 0; i < VARIANTS; i++) {
    const Row *r = &b->row[i];
    printf("%s{\"name\": \"%s\", \"steps\": %" PRId64 ", \"tokens\": %" PRId64 ", \"ms\": %.4f, \"kv_bytes\": %" PRId64
           ", \"params\": %" PRId64, i ? ", " : "", variants[i].name, r->steps, r->tokens, r->ms, r->kv_bytes, r->params);
    if (r->has_loss) printf(", \"loss\": %.6f", r->loss);
    printf("}");
  }
  printf("]\n");
}

static bool open_vq_names(Ablation *b) {
  ModelArgs vq = {.models_dir = b->a->model.models_dir};
  Safetensors *w = safetensors_open(b->a->vq_weights, b->err);
  bool ok = w && kit_complete_args(b->arena, &vq, w, b->err);
  if (w) safetensors_close(w);
  b->vq_model = vq.path;
  b->vq_defines = vq.defines;
  return ok;
}

static void ablate_body(void *ctx) {
  Ablation *b = ctx;
  AblateArgs *a = b->a;
  if (!a->weights) a->weights = kit_shipped_weights(b->arena, &a->model, "demo");
  if (!a->vq_weights) a->vq_weights = kit_shipped_weights(b->arena, &a->model, "demo_vq");
  if (!a->results) a->results = kit_shipped_weights(b->arena, &a->model, "ablation");
  b->ok = (b->weights = safetensors_open(a->weights, b->err)) && open_vq_names(b);
  if (b->ok && a->train) b->ok = train_all(b);
  b->ok = b->ok && read_results(b);
  for (int i = 0; i < VARIANTS && b->ok; i++) b->ok = measure(b, &variants[i], &b->row[i]);
  if (b->ok && a->json) print_json(b);
  else if (b->ok) print_table(b);
}

int cli_ablate(int argc, char **argv) {
  AblateArgs a = {.batch = 32, .lr = 1e-3, .seed = 1};
  const Arg arg[] = {
      {"--train", ARG_INT, "N", "train each variant for N steps and write --results", &a.train, 1, 1 << 30},
      {"--batch", ARG_INT, "N", "pictures a step (32)", &a.batch, 1, 4096},
      {"--lr", ARG_REAL, "X", "highest learning rate (0.001)", &a.lr, 0, 1},
      {"--seed", ARG_INT, "N", "of initial weights (1)", &a.seed, 0, 9.0e15},
      {"--results", ARG_TEXT, "FILE", "losses of the variants (default: the shipped ones)", &a.results, 0, 0},
      {"--weights", ARG_TEXT, "FILE", "whose model, options and text encoder are compared", &a.weights, 0, 0},
      {"--vq-weights", ARG_TEXT, "FILE", "of the autoencoder", &a.vq_weights, 0, 0},
      ARG_DEFINES(&a.model), ARG_MODELS(&a.model), ARG_ISA(&a.model), ARG_THREADS(&a.model), ARG_NO_CACHE(&a.model),
      {"--json", ARG_FLAG, NULL, "print numbers as JSON", &a.json, 0, 0},
  };
  const Command c = {"ablate", "[options]", about, arg, COUNT_OF(arg), NULL};
  Error err = {0};
  Arena *arena = arena_new();
  if (!arena) return EXIT_FAILED;
  ArgResult parsed = args_parse(&c, argc, argv, arena, &err);
  int status = parsed == ARGS_HELP ? EXIT_OK : EXIT_FAILED;
  if (parsed == ARGS_WRONG) status = cli_fail(&c, EXIT_USAGE, &err);
  if (parsed == ARGS_OK) {
    Ablation b = {.a = &a, .arena = arena, .err = &err};
    bool ok = arena_protect(arena, ablate_body, &b, &err) && b.ok;
    if (b.weights) safetensors_close(b.weights);
    if (b.results) safetensors_close(b.results);
    status = ok ? EXIT_OK : cli_fail(&c, EXIT_FAILED, &err);
  }
  arena_free(arena);
  return status;
}
