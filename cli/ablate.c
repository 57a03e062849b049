/* `nuwa ablate`: the kinds of attention against each other (synth/ablation.h), as a table. */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "synth/ablation.h"
#include "synth/weights_file.h"

typedef struct AblateArgs {
  ModelArgs model;
  const char *weights, *vq_weights, *results;
  AblationTraining training;   /* of which the options say: */
  int64_t train, seed;
  bool json;
} AblateArgs;

typedef struct AblateCommand {
  AblateArgs *a;
  CliTarget target;
  Ablation ablation;
  DrawingCost cost[ABLATION_VARIANTS];
  TrainProgress progress;
} AblateCommand;

static const char about[] =
    "Compares FF, NF, FN, AA, NN (encoder, decoder: Full, Nearby, Axis) at the size of the shipped model: decoding\n"
    "steps, milliseconds a picture, bytes of keys and values, parameters, and the held-out loss after the same\n"
    "short training.  --train N trains all five again (N steps each) and writes their losses to --results.";

/* ---- output ---- */

static void print_table(const AblateCommand *c) {
  const Ablation *b = &c->ablation;
  printf("| encoder, decoder | steps | tokens | ms / picture | key/value bytes | parameters | held-out loss |\n"
         "|---|---|---|---|---|---|---|\n");
  for (int i = 0; i < ABLATION_VARIANTS; i++) {
    const DrawingCost *r = &c->cost[i];
    printf("| %s (%s, %s) | %" PRId64 " | %" PRId64 " | %.2f | %" PRId64 " | %" PRId64 " | ", ablation_variant[i].name,
           ablation_variant[i].encoder, ablation_variant[i].decoder, r->steps, r->tokens, r->ms, r->kv_bytes,
           r->params);
    if (b->results) printf("%.4f |\n", (double)b->loss[i]);
    else printf("- |\n");
  }
  if (b->steps && b->batch) printf("\nlosses after %s steps of %s pictures (%s)\n", b->steps, b->batch, c->a->results);
}

static void print_json(const AblateCommand *c) {
  const Ablation *b = &c->ablation;
  printf("[");
  for (int i = 0; i < ABLATION_VARIANTS; i++) {
    const DrawingCost *r = &c->cost[i];
    printf("%s{\"name\": \"%s\", \"steps\": %" PRId64 ", \"tokens\": %" PRId64
           ", \"ms\": %.4f, \"kv_bytes\": %" PRId64 ", \"params\": %" PRId64,
           i ? ", " : "", ablation_variant[i].name, r->steps, r->tokens, r->ms, r->kv_bytes, r->params);
    if (b->results) printf(", \"loss\": %.6f", (double)b->loss[i]);
    printf("}");
  }
  printf("]\n");
}

/* The variants are the encoders and decoders. */
static bool check(void *ctx, Error *err) {
  const DefineList *list = &((AblateCommand *)ctx)->a->model.defines;
  for (int i = 0; i < list->n; i++) {
    const char *name = list->item[i].name;
    if (ablation_varies(name))
      return error_set(err, ERROR_ARGUMENT,
                       "-D %s=%s has no effect: FF, NF, FN, AA and NN are compared whatever it is; give others",
                       name, list->item[i].value);
  }
  return true;
}

/* ---- training ---- */

static void begin_variant(void *ctx, int variant) {
  AblateCommand *c = ctx;
  c->progress = progress_begin();
  fprintf(stderr, "%s (%d of %d): %" PRId64 " steps of %" PRId64 "\n", ablation_variant[variant].name, variant + 1,
          ABLATION_VARIANTS, c->a->train, c->a->training.batch);
}

static void show_progress(void *ctx, const TrainReport *r) { progress_show(&((AblateCommand *)ctx)->progress, r); }

static void end_variant(void *ctx, int variant, double held_loss) {
  progress_end(&((AblateCommand *)ctx)->progress);
  fprintf(stderr, "%s: held-out loss %.4f\n", ablation_variant[variant].name, held_loss);
}

static bool train(AblateCommand *c, Error *err) {
  AblationTraining o = c->a->training;
  o.steps = c->a->train;
  o.seed = (uint64_t)c->a->seed;
  o.begin = begin_variant;
  o.report = show_progress;
  o.end = end_variant;
  o.ctx = c;
  return ablation_train(&c->ablation, &o, c->a->results, err);
}

/* ---- the command ---- */

/* Losses of an earlier --train.  The shipped ones may be missing or another model's: the column is then empty. */
static bool read_results(AblateCommand *c, bool is_shipped, Error *err) {
  struct stat st;
  if (is_shipped && stat(c->a->results, &st) != 0) return true;
  if (ablation_read(&c->ablation, c->a->results, err)) return true;
  size_t at = strlen(err->text);
  if (err->code == ERROR_FORMAT) snprintf(err->text + at, sizeof err->text - at, "; --train N makes them anew");
  if (!is_shipped || err->code != ERROR_FORMAT) return false;
  fprintf(stderr, "%s\n", err->text);
  *err = (Error){0}; /* it was no failure, and what follows may ask whether there was one */
  return true;
}

static bool run(void *ctx, Arena *arena, Error *err) {
  AblateCommand *c = ctx;
  AblateArgs *a = c->a;
  bool is_shipped = !a->results && !a->train;
  const SynthTarget *t = &c->target.synth;
  ModelSpec model = cli_spec(&a->model);
  if (a->train && a->results && !cli_check_output("--results", a->results, err)) return false;
  if (!cli_target_open(&a->model, &c->target, err)) return false;
  if (!a->weights) a->weights = weights_file_shipped(arena, t, SHIPPED_DRAWER);
  if (!a->vq_weights) a->vq_weights = weights_file_shipped(arena, t, SHIPPED_IMAGE);
  if (!a->results) a->results = weights_file_shipped(arena, t, "ablation");
  bool ok = (!a->train || cli_check_output("--results", a->results, err)) &&
            ablation_open(&c->ablation, arena, t, &model, a->weights, a->vq_weights, err) &&
            (!a->train || train(c, err)) && read_results(c, is_shipped, err);
  for (int i = 0; i < ABLATION_VARIANTS && ok; i++) ok = ablation_measure(&c->ablation, i, &c->cost[i], err);
  if (ok && a->json) print_json(c);
  else if (ok) print_table(c);
  return ok;
}

static void run_done(void *ctx) {
  AblateCommand *c = ctx;
  ablation_close(&c->ablation);
  cli_target_close(&c->target);
}

int cli_ablate(int argc, char **argv) {
  AblateArgs a = {.training = ablation_defaults()};
  AblateCommand b = {.a = &a};
  a.seed = (int64_t)a.training.seed;
  const Arg arg[] = {
      {"--train", ARG_INT, "N", "train each variant for N steps and write --results", &a.train, 1, 1 << 30},
      {"--batch", ARG_INT, "N", "pictures a step (32)", &a.training.batch, 1, 4096, .with = "--train"},
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
