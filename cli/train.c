/* `nuwa train`: compiles a loss with its training step, opens the world, and shows how training goes.
 * The loop itself is train/'s; here is what a user says and sees. */
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/profile.h"
#include "cli/train.h"
#include "media/dataset.h"
#include "media/merges.h"
#include "runtime/base/file.h"
#include "runtime/base/sha256.h"
#include "synth/weights_file.h"
#include "train/checkpoint.h"
#include "train/source.h"
#include "train/trainer.h"

/* All that is open while training. */
typedef struct Training {
  Arena *arena; /* what weights say */
  TrainArgs a;
  CliTarget target;
  Error *err;
  bool ok;
  Model *model, *vq_model;
  Plan *plan, *vq_plan;
  NuwaSession *session, *vq_session;
  World *world;
  Bpe *bpe;
  Source *source;
  const char *recipe;
  Lowered lowered; /* for --profile */
  TrainResult result; /* so far */
  bool is_terminal;
  double last_shown; /* seconds of training at the last line of progress */
} Training;

static const char about[] =
    "Trains the params of a loss function on the training world; see nuwa data for what that is.\n"
    "The function needs a scalar output \"loss\"; its inputs are taken by name: image, video, text, labels, tokens.\n"
    "A killed run goes on from its checkpoint with --resume, bit for bit as if nothing had happened.\n"
    "Without --out and --checkpoint (to measure, say) a warning tells that nothing is kept.\n";

void train_args_init(TrainArgs *a) {
  *a = (TrainArgs){0};
  a->fn = "loss";
  a->schedule = "cosine";
  a->store = "f32";
  a->steps = 1000;
  a->batch = 32;
  a->lr = 1e-3;
  a->warmup = 0.05;
  a->clip = 1.0;
  a->beta1 = 0.9;
  a->beta2 = 0.999;
  a->every = 500;
  a->log_every = 1;
  a->evaluate_batches = 4;
  a->window = 50;
  a->things = WORLD_DEFAULT_THINGS;
  a->size = 32;
  a->data_seed = 1;
}

/* The options, to be read into a; their number. */
static int list_args(TrainArgs *a, Arg out[ARGS_MAX]) {
  const Arg args[] = {
      ARG_DEFINES(&a->model),
      {"--fn", ARG_TEXT, "NAME", "the loss function (loss)", &a->fn, 0, 0, .shapes = RECIPE_FUNCTION},
      {"--steps", ARG_INT, "N", "of the whole run (1000)", &a->steps, 1, 1e12, .shapes = RECIPE_STEPS},
      {"--stop", ARG_INT, "N", "stop after this step, with a checkpoint; --resume goes on", &a->stop, 1, 1e12},
      {"--batch", ARG_INT, "N", "examples a step (32)", &a->batch, 1, 65536, .shapes = RECIPE_BATCH},
      {"--lr", ARG_REAL, "X", "learning rate at its highest (1e-3)", &a->lr, 0, 1e3, .shapes = RECIPE_LR},
      {"--schedule", ARG_CHOICE, "cosine|constant", "after warm-up; cosine falls to a tenth", &a->schedule, 0, 0,
       .shapes = RECIPE_SCHEDULE},
      {"--warmup", ARG_REAL, "F", "share of the steps in which the rate rises (0.05)", &a->warmup, 0, 1,
       .shapes = RECIPE_WARMUP},
      {"--clip", ARG_REAL, "X", "largest norm of the gradient, 0: no limit (1)", &a->clip, 0, 1e30,
       .shapes = RECIPE_CLIP},
      {"--beta1", ARG_REAL, "X", "of Adam (0.9)", &a->beta1, 0, 0.999999, .shapes = RECIPE_BETA1},
      {"--beta2", ARG_REAL, "X", "of Adam (0.999)", &a->beta2, 0, 0.999999, .shapes = RECIPE_BETA2},
      {"--decay", ARG_REAL, "X", "decoupled weight decay (0)", &a->decay, 0, 1e3, .shapes = RECIPE_DECAY},
      {"--seed", ARG_INT, "N", "of weights, revival, dropped captions (0)", &a->seed, 0, 9e15,
       .shapes = RECIPE_SEED},
      {"--weights", ARG_TEXT, "FILE", "begin with these weights", &a->weights, 0, 0, .shapes = RECIPE_START},
      {"--things", ARG_INT, "N", "of the world (64)", &a->things, 0, 65535, .shapes = RECIPE_THINGS},
      {"--size", ARG_INT, "N", "of pictures (32)", &a->size, 16, 1024, .shapes = RECIPE_SIZE},
      {"--data-seed", ARG_INT, "N", "of the scenes (1)", &a->data_seed, 0, 9e15, .shapes = RECIPE_DATA_SEED},
      {"--clips", ARG_FLAG, NULL, "clips instead of pictures", &a->clips, 0, 0, .shapes = RECIPE_CLIPS},
      {"--names", ARG_TEXT, "FILE", "emoji-test.txt, if not in Debian's place", &a->names, 0, 0},
      {"--font", ARG_TEXT, "FILE", "NotoColorEmoji.ttf, if not in Debian's place", &a->font, 0, 0},
      {"--bpe", ARG_TEXT, "FILE", "merges of the text encoder (nuwa data --bpe makes one)", &a->merges, 0, 0,
       .shapes = RECIPE_BPE},
      {"--null-text", ARG_REAL, "P", "share of examples without their caption, for guidance (0)", &a->null_text, 0, 1,
       .shapes = RECIPE_NULL_TEXT, .with = "--bpe"},
      {"--noise", ARG_REAL, "P", "a share 0 to P of each picture's codes are read as random ones (0)", &a->noise,
       0, 1, .shapes = RECIPE_NOISE},
      {"--vq", ARG_TEXT, "MODEL.lua", "the autoencoder that makes tokens of pictures (the weights name it)",
       &a->vq.path, 0, 0, .with = "--vq-weights"},
      {"--vq-define", ARG_DEFINE, "NAME=VALUE", "an option of it", &a->vq.defines, 0, 0, .with = "--vq-weights"},
      {"--vq-weights", ARG_TEXT, "FILE", "its weights", &a->vq_weights, 0, 0, .shapes = RECIPE_VQ},
      {"--window", ARG_INT, "N", "steps after which codes without use are revived (50)", &a->window, 1, 1e9,
       .shapes = RECIPE_WINDOW, .without = "--no-revive"},
      {"--no-revive", ARG_FLAG, NULL, "leave codes without use alone", &a->no_revive, 0, 0,
       .shapes = RECIPE_NO_REVIVE},
      {"--out", ARG_OUT, "FILE", "the weights at the end", &a->out, 0, 0},
      {"--store", ARG_CHOICE, "f32|bf16", "how --out stores them (f32)", &a->store, 0, 0, .with = "--out"},
      {"--checkpoint", ARG_OUT, "FILE", "to resume from", &a->checkpoint, 0, 0},
      {"--every", ARG_INT, "N", "steps between checkpoints (500)", &a->every, 1, 1e12, .with = "--checkpoint"},
      {"--resume", ARG_FLAG, NULL, "go on from the checkpoint, if there is one", &a->resume, 0, 0,
       .with = "--checkpoint"},
      {"--log", ARG_FOLDER, "DIR", "metrics.jsonl and a TensorBoard file", &a->log, 0, 0},
      {"--log-every", ARG_INT, "N", "steps between their lines (1)", &a->log_every, 1, 1e12, .with = "--log"},
      {"--eval", ARG_INT, "N", "steps between validations: val.loss on seen pairs, held.loss on held-out ones (none)",
       &a->evaluate, 1, 1e12},
      {"--eval-batches", ARG_INT, "N", "batches of each of the two (4)", &a->evaluate_batches, 1, 1e6,
       .with = "--eval"},
      {"--profile", ARG_FLAG, NULL, "time of each kernel at the end", &a->profile, 0, 0},
      {"--json", ARG_FLAG, NULL, "the last loss as JSON on stdout", &a->json, 0, 0},
  };
  _Static_assert(COUNT_OF(args) <= ARGS_MAX, "too many options");
  memcpy(out, args, sizeof args);
  return COUNT_OF(args);
}

/* ---- opening ---- */

static bool open_world(Training *t, Error *err) {
  WorldOptions o;
  world_options_init(&o);
  o.things = (int)t->a.things;
  o.size = (int)t->a.size;
  o.seed = (uint64_t)t->a.data_seed;
  if (t->a.clips) o.kinds = WORLD_CLIPS;
  if (t->a.names) o.names_path = t->a.names;
  if (t->a.font) o.font_path = t->a.font;
  if (!error_asked((t->world = world_open(&o, err)) != NULL, err)) return false;
  if (t->a.merges) return (t->bpe = merges_read(t->a.merges, err)) != NULL;
  const char *text = t->a.merges_text;
  return !text || (t->bpe = bpe_parse(text, strlen(text), "merges in the weights", err)) != NULL;
}

static bool load_weights(const SynthTarget *t, NuwaSession *s, const char *path, Error *err) {
  Safetensors *w = weights_file_open(t, path, err);
  bool ok = w && (nuwa_load_weights(s, w, false, err) || error_prefix(err, "%s", path));
  safetensors_close(w);
  return ok;
}

static NuwaSession *open_session(const Training *t, const Plan *p, Error *err) {
  return models_open_session(&t->target.synth, p, t->a.batch, 1, 0, err);
}

/* Which model and which options, the weights know if they were trained here. */
static bool open_encoder(Training *t, Error *err) {
  static const char *const encode[] = {"encode"};
  if (!t->a.vq_weights) return true;
  SynthTarget target = t->target.synth;
  target.compile.precision = DTYPE_F32;   /* tokens are what they are, whatever the model computes in */
  CompileOptions o = {.function = encode, .n_function = 1};
  ModelSpec m = cli_spec(&t->a.vq);
  Safetensors *w = weights_file_open(&target, t->a.vq_weights, err);
  bool ok = w && weights_file_check_finite(w, t->a.vq_weights, err) &&
            weights_file_complete(t->arena, &target, &m, w, t->a.vq_weights, err) &&
            (t->vq_model = models_load(&target, &m, err)) &&
            (t->vq_plan = models_compile_plan(&target, t->vq_model, &o, err)) &&
            (t->vq_session = open_session(t, t->vq_plan, err)) &&
            ((models_check_weights(t->vq_model, w, err) && /* it has params that "encode" lacks: the decoder's */
              nuwa_load_weights(t->vq_session, w, true, err)) ||
             error_prefix(err, "%s", t->a.vq_weights));
  safetensors_close(w);
  return ok;
}

/* Ids must fit the tables of the model: out of range they would read beside them. */
static bool check_sizes(const Training *t, Error *err) {
  const Value *vocab = model_field(t->model, MODEL_VOCAB), *codebook = model_field(t->model, MODEL_CODEBOOK);
  const Value *codes = t->vq_model ? model_field(t->vq_model, MODEL_CODEBOOK) : NULL;
  if (t->bpe && vocab && vocab->kind == VALUE_INT && vocab->integer < bpe_vocab(t->bpe))
    return error_set(err, ERROR_ARGUMENT, "%s has %d tokens, the model's vocab is %lld", t->a.merges,
                     bpe_vocab(t->bpe), (long long)vocab->integer);
  if (codes && codebook && codes->kind == VALUE_INT && codebook->kind == VALUE_INT &&
      codebook->integer < codes->integer)
    return error_set(err, ERROR_ARGUMENT, "the autoencoder has %lld codes, the model's codebook %lld",
                     (long long)codes->integer, (long long)codebook->integer);
  return true;
}

static bool open_model(Training *t, Error *err) {
  const char *function[] = {t->a.fn};
  CompileOptions o = {.function = function,
                      .n_function = 1,
                      .train = t->a.fn,
                      .adam = {t->a.beta1, t->a.beta2, 1e-8, t->a.decay, t->a.clip}};
  t->model = cli_load_model(&t->target, &t->a.model, err);
  if (!t->model || !cli_find_function(t->model, t->a.fn, err)) return false;
  fprintf(stderr, "compiling %s and its training step\n", t->a.fn);
  t->plan = models_compile_plan(&t->target.synth, t->model, &o, err);
  t->session = t->plan ? open_session(t, t->plan, err) : NULL;
  if (!t->session) return false;
  if (t->a.profile && !models_lower(&t->target.synth, t->model, &o, &t->lowered, err)) return false;
  if (t->a.weights) return load_weights(&t->target.synth, t->session, t->a.weights, err);
  return nuwa_init_weights(t->session, (uint64_t)t->a.seed) || nuwa_check(t->session, err);
}

static bool open_source(Training *t, Error *err) {
  int function[] = {plan_find_function(t->plan, t->a.fn), plan_find_function(t->plan, "train")};
  const Value *codes = t->vq_model ? model_field(t->vq_model, MODEL_CODEBOOK) : NULL;
  SourceOptions o = {.world = t->world,
                     .bpe = t->bpe,
                     .null_text = t->a.null_text,
                     .noise = t->a.noise,
                     .codes = codes && codes->kind == VALUE_INT ? codes->integer : 0,
                     .seed = (uint64_t)t->a.seed,
                     .batch = t->a.batch};
  if (t->vq_plan) o.encoder = (Encoder){t->vq_session, t->vq_plan, plan_find_function(t->vq_plan, "encode")};
  t->source = source_new(t->plan, function, COUNT_OF(function), &o, err);
  return error_asked(t->source != NULL, err); /* an input that these options do not give */
}

static bool has_input(const Training *t, const char *name) {
  int f = plan_find_function(t->plan, t->a.fn), train = plan_find_function(t->plan, "train");
  return (f >= 0 && plan_find_input(&t->plan->function[f], name)) || plan_find_input(&t->plan->function[train], name);
}

/* Options that the model makes meaningless. */
static bool check_effects(const Training *t, Error *err) {
  const TrainArgs *a = &t->a;
  static const char lacks[] = "%s has no effect: %s and its training step have no input \"%s\"";
  bool has_codes = has_input(t, "tokens") || has_input(t, "seen");
  if (a->merges && !has_input(t, "text")) return error_set(err, ERROR_USAGE, lacks, "--bpe", a->fn, "text");
  if (a->noise > 0.0 && !has_input(t, "seen")) return error_set(err, ERROR_USAGE, lacks, "--noise", a->fn, "seen");
  if (a->vq_weights && !has_codes) return error_set(err, ERROR_USAGE, lacks, "--vq-weights", a->fn, "tokens");
  if (a->no_revive && !model_field(t->model, MODEL_REVIVE_CODEBOOK))
    return error_set(err, ERROR_USAGE, "--no-revive has no effect: the model names no codebook to revive");
  return true;
}

/* ---- the recipe ---- */

static bool set_recipe(Training *t, Error *err) {
  Arg arg[ARGS_MAX];
  Recipe r = {.arena = t->arena};
  char digest[65];
  if (!source_check(&t->model->source, err)) return error_prefix(err, "%s", t->model->path);
  if (!args_recipe(arg, list_args(&t->a, arg), &r, err)) return false;
  source_digest(&t->model->source, digest);
  recipe_set_text(&r, RECIPE_SOURCE, digest);
  recipe_set_options(&r, RECIPE_OPTIONS, &t->model->options);
  recipe_set_text(&r, RECIPE_PRECISION, dtype_name(t->target.synth.compile.precision));
  recipe_set_text(&r, RECIPE_DEVICE, plan_device_name(t->plan->device));
  if (t->plan->device == PLAN_CUDA)
    recipe_set_text(&r, RECIPE_PRODUCTS, t->target.synth.compile.cublaslt ? "cublaslt" : "own");
  world_digest(t->world, digest);
  recipe_set_text(&r, RECIPE_DATA, digest);
  if (t->a.merges_text) recipe_set_digest(&r, RECIPE_BPE, t->a.merges_text, strlen(t->a.merges_text));
  if (t->vq_model) {
    source_digest(&t->vq_model->source, digest);
    recipe_set_text(&r, RECIPE_VQ_SOURCE, digest);
    recipe_set_options(&r, RECIPE_VQ_OPTIONS, &t->vq_model->options);
  }
  t->recipe = recipe_print(&r, RECIPE_RUN);
  return true;
}

/* ---- progress ---- */

static double metric_of(const TrainReport *r, const char *name) {
  for (int i = 0; i < r->n_metric; i++)
    if (strcmp(r->metric[i].name, name) == 0) return r->metric[i].value;
  return 0.0;
}

static void print_left(double left) {
  long long s = (long long)(left + 0.5);
  if (s >= 3600)
    fprintf(stderr, "%lldh%02lldm left", s / 3600, s / 60 % 60);
  else if (s >= 60)
    fprintf(stderr, "%lldm%02llds left", s / 60, s % 60);
  else
    fprintf(stderr, "%llds left", s);
}

static void print_bar(const TrainReport *r) {
  enum { WIDTH = 24 };
  int full = (int)(WIDTH * r->step / r->steps);
  fprintf(stderr, "\r[%.*s%.*s] ", full, "########################", WIDTH - full, "                        ");
}

static void show_progress(Training *t, const TrainReport *r) {
  if (t->is_terminal) print_bar(r);
  fprintf(stderr, "step %lld/%lld  loss %.5f  gradient %.3f  %.1f samples/s  ", (long long)r->step,
          (long long)r->steps, metric_of(r, "loss"), metric_of(r, "grad_norm"), r->samples_per_s);
  print_left(r->seconds_left);
  if (r->revived) fprintf(stderr, "  %lld revived", (long long)r->revived);
  fprintf(stderr, t->is_terminal ? "   " : "\n");
}

static void show_evaluation(Training *t, const TrainReport *r) {
  t->result.held_loss = metric_of(r, "held.loss");
  fprintf(stderr, "%sstep %lld ", t->is_terminal ? "\n" : "", (long long)r->step);
  for (int i = 0; i < r->n_metric; i++) {
    fputc(' ', stderr);
    cli_show(stderr, r->metric[i].name);
    fprintf(stderr, " %.5f", r->metric[i].value);
  }
  fputc('\n', stderr);
}

/* A line a step would drown everything: one a tenth of a second on a terminal, one every ten seconds elsewhere. */
static void on_report(void *ctx, const TrainReport *r) {
  Training *t = ctx;
  if (r->is_evaluation) {
    show_evaluation(t, r);
    return;
  }
  t->result.steps = r->step;
  t->result.loss = metric_of(r, "loss");
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  double at = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
  if (r->step > 1 && r->step < r->steps && at - t->last_shown < (t->is_terminal ? 0.1 : 10.0)) return;
  t->last_shown = at;
  show_progress(t, r);
}

/* ---- the command ---- */

static const char *text_field(const Model *m, const char *name) {
  const Value *v = model_field(m, name);
  return v && v->kind == VALUE_TEXT ? v->text : NULL;
}

static TrainOptions train_options(Training *t) {
  const TrainArgs *a = &t->a;
  TrainOptions o = {.steps = a->steps,
                    .stop = a->stop,
                    .batch = a->batch,
                    .lr = a->lr,
                    .warmup = a->warmup,
                    .cosine = strcmp(a->schedule, "cosine") == 0,
                    .beta1 = a->beta1,
                    .beta2 = a->beta2,
                    .seed = (uint64_t)a->seed,
                    .evaluate = plan_find_function(t->plan, a->fn),
                    .evaluate_every = a->evaluate,
                    .evaluate_batches = a->evaluate_batches,
                    .checkpoint = a->checkpoint,
                    .checkpoint_every = a->every,
                    .resume = a->resume,
                    .recipe = t->recipe,
                    .log = a->log,
                    .log_every = a->log_every,
                    .is_cancelled = cli_is_interrupted,
                    .report = on_report,
                    .report_ctx = t};
  if (!a->no_revive)
    o.revive = (ReviveOptions){text_field(t->model, MODEL_REVIVE_CODEBOOK), text_field(t->model, MODEL_REVIVE_CODES),
                               text_field(t->model, MODEL_REVIVE_VECTORS), a->window};
  o.revive.keep_start = a->weights != NULL;
  return o;
}

static bool write_weights(Training *t, Error *err) {
  Buffer merges = {0}, words = {0};
  MetadataEntry entry[WEIGHTS_META];
  WeightsMeta meta = {.model = t->model, .recipe = t->recipe};
  if (t->bpe) {
    if (!bpe_serialise(t->bpe, &merges, err)) return false;
    world_words(t->world, &words);
    meta.merges = arena_take_buffer(t->arena, &merges);
    meta.words = arena_take_buffer(t->arena, &words);
  }
  int n = weights_file_describe(t->arena, &meta, entry);
  return weights_write(t->session, t->plan, t->a.out, strcmp(t->a.store, "bf16") == 0, entry, n, err);
}

static void print_profile(const Training *t) {
  profile_print(t->session, t->plan, "train", &t->lowered, t->a.stop ? t->a.stop : t->a.steps, t->a.batch);
}

static int64_t last_step(const TrainArgs *a) { return a->stop ? a->stop : a->steps; }

static bool say_interrupted(const Training *t, Error *err) {
  long long step = (long long)t->result.steps;
  if (!t->a.checkpoint)
    return error_set(err, ERROR_CANCELLED, "interrupted after step %lld; without --checkpoint nothing is kept", step);
  return error_set(err, ERROR_CANCELLED, "interrupted after step %lld, which %s holds: --resume goes on from it",
                   step, t->a.checkpoint);
}

static bool train(Training *t, Error *err) {
  if (!cli_target_open(&t->a.model, &t->target, err) || !open_world(t, err) || !open_encoder(t, err) ||
      !open_model(t, err) || !check_sizes(t, err) ||
      !open_source(t, err) || !check_effects(t, err) || !set_recipe(t, err))
    return false;
  if (t->a.profile && !nuwa_profile_start(t->session, err)) return false;
  TrainOptions o = train_options(t);
  TrainSource source = source_interface(t->source);
  fprintf(stderr, "%.1f MB for the session, %d threads\n", (double)nuwa_session_bytes(t->session) * 1e-6,
          nuwa_threads(t->session));
  bool ok = train_run(t->session, t->plan, &o, &source, err);
  if (t->is_terminal) fputc('\n', stderr);
  if (ok && t->result.steps < last_step(&t->a)) return say_interrupted(t, err);
  if (ok && t->a.profile) print_profile(t);
  return ok && (!t->a.out || write_weights(t, err));
}

static void training_done(Training *t) {
  source_free(t->source);
  nuwa_session_close(t->session);
  nuwa_session_close(t->vq_session);
  plan_free(t->plan);
  plan_free(t->vq_plan);
  lowered_done(&t->lowered);
  model_free(t->model);
  model_free(t->vq_model);
  bpe_free(t->bpe);
  world_close(t->world);
  cli_target_close(&t->target);
  arena_free(t->arena);
}

static void train_body(void *ctx) {
  Training *t = ctx;
  t->ok = train(t, t->err);
}

bool train_model(const TrainArgs *a, TrainResult *out, Error *err) {
  Training t = {.a = *a, .arena = arena_new(), .err = err, .is_terminal = isatty(STDERR_FILENO)};
  bool within = t.arena ? arena_protect(t.arena, train_body, &t, err) : error_set(err, ERROR_MEMORY, "out of memory");
  *out = t.result;
  training_done(&t);
  return within && t.ok;
}

static bool check(void *ctx, Error *err) {
  const TrainArgs *a = ctx;
  if (a->checkpoint && file_is_stream(a->checkpoint))
    return error_set(err, ERROR_ARGUMENT, "--checkpoint %s: must be a file, which is replaced again and again",
                     a->checkpoint);
  return a->stop <= a->steps || error_set(err, ERROR_ARGUMENT, "--stop %lld has no effect: --steps %lld come first",
                                          (long long)a->stop, (long long)a->steps);
}

static bool run(void *ctx, Arena *arena, Error *err) {
  const TrainArgs *a = ctx;
  TrainResult r;
  cli_catch_interrupts();
  if (!a->out && !a->checkpoint)
    fprintf(stderr,
            "nuwa train: nothing will be left of what is trained: neither --out nor --checkpoint names a file\n");
  if (!train_model(a, &r, err)) return false;
  if (a->json) printf("{\"steps\": %lld, \"loss\": %.9g}\n", (long long)r.steps, r.loss);
  return true;
}

int cli_train(int argc, char **argv) {
  TrainArgs a;
  Arg arg[ARGS_MAX];
  train_args_init(&a);
  const Command c = {.name = "train", .usage = "MODEL.lua [-D NAME=VALUE]... [options]", .about = about, .arg = arg,
                     .n_arg = list_args(&a, arg), .model = &a.model.path, .target = &a.model, .ctx = &a,
                     .check = check, .run = run};
  return cli_command(&c, argc, argv);
}
