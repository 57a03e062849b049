/* `nuwa score`: how well a kit draws what captions say, slot by slot (synth/score.h), as a table and a sheet; or how like a
 * data set's pictures others are by a classifier's features (synth/likeness.h). */
#include <inttypes.h>

#include "cli/cli.h"
#include "runtime/base/names.h"
#include "synth/likeness.h"
#include "synth/score.h"

typedef struct ScoreArgs {
  KitArgs kit;
  int64_t count, seed, top_k, things;
  double temperature, top_p, guidance;
  const char *sheet, *features, *data, *pictures;
  bool json, no_drawings, seen;
} ScoreArgs;

enum { COLUMNS = 8 }; /* of the sheet */
enum { CAPTIONS = 256, PICTURES = 10000 }; /* where --count does not say */

typedef struct ScoreCommand {
  ScoreArgs *a;
  CliTarget target;
  Kit kit;
  World *world;
  Judge *judge;
  Scores scores;
  Likeness likeness;
  Painter painter;
  Single codec;          /* whose reconstructions are compared */
  Dataset *data, *pictures;
} ScoreCommand;

static const char about[] =
    "Draws one picture for each of COUNT captions of held-out pairs (thing, background) and has a judge that sees\n"
    "only the pictures find thing, place and background.  Beside it: the judge on true renderings, on their\n"
    "reconstructions, and on drawings paired with other captions.\n"
    "With --features: the Frechet distance of the features that a classifier tells of --data and of drawings of\n"
    "--weights, or of --pictures.";

static bool write_sheet(const ScoreCommand *c, Arena *arena, Error *err) {
  Image sheet = {0};
  bool ok = score_sheet(&c->scores, COLUMNS, arena, &sheet, err) &&
            image_write_png(c->a->sheet, &sheet, NULL, 0, err);
  image_done(&sheet);
  return ok;
}

static double percent(int part, int n) { return n ? 100.0 * part / n : 0.0; }

static void print_table(const ScoreCommand *c) {
  static const char *const name[SCORE_ROWS] = {"true renderings", "VQ reconstructions", "drawings",
                                               "shuffled captions"};
  const Scores *s = &c->scores;
  printf("| %" PRId64 " captions of %s pairs | thing | place | background | all three |\n|---|---|---|---|---|\n",
         s->count, c->a->seen ? "seen" : "held-out");
  for (int i = 0; i < SCORE_ROWS; i++) {
    const SlotScore *r = &s->row[i];
    if (s->has[i])
      printf("| %s | %.1f %% | %.1f %% | %.1f %% | %.1f %% |\n", name[i], percent(r->thing, r->n),
             percent(r->place, r->n), percent(r->background, r->n), percent(r->all, r->n));
  }
  printf("\nreconstruction of unseen scenes: %.2f dB, over the thing's box %.2f dB\n", s->psnr, s->psnr_box);
}

static void print_json(const Scores *s) {
  static const char *const key[SCORE_ROWS] = {"true", "vq", "drawn", "shuffled"};
  printf("{\"count\": %" PRId64 ", \"psnr\": %.4f, \"psnr_box\": %.4f", s->count, s->psnr, s->psnr_box);
  for (int i = 0; i < SCORE_ROWS; i++) {
    const SlotScore *r = &s->row[i];
    if (s->has[i])
      printf(", \"%s\": {\"thing\": %.2f, \"place\": %.2f, \"background\": %.2f, \"all\": %.2f}", key[i],
             percent(r->thing, r->n), percent(r->place, r->n), percent(r->background, r->n), percent(r->all, r->n));
  }
  printf("}\n");
}

static bool open_world(ScoreCommand *c, Error *err) {
  WorldOptions w;
  world_options_init(&w);
  w.size = (int)c->kit.size;
  if (c->a->things > 0) w.things = (int)c->a->things;
  return error_asked((c->world = world_open(&w, err)) != NULL, err) && (c->judge = judge_new(c->world, err));
}

static bool score(ScoreCommand *c, Arena *arena, Error *err) {
  const ScoreArgs *a = c->a;
  ScoreRequest r = {.world = c->world, .judge = c->judge, .split = a->seen ? WORLD_VALIDATION : WORLD_HELD_OUT,
                    .count = a->count, .draws = !a->no_drawings, .seed = (uint64_t)a->seed,
                    .sample = {(float)a->temperature, (int)a->top_k, (float)a->top_p}, .guidance = (float)a->guidance};
  if (!score_kit(&c->kit, &r, arena, &c->scores, err) || (a->sheet && !write_sheet(c, arena, err))) return false;
  if (a->json) print_json(&c->scores);
  else print_table(c);
  return true;
}

/* ---- by features ---- */

static void warn(void *ctx, const char *text) {
  fputs("nuwa score: ", stderr);
  cli_show(stderr, text);
  fputc('\n', stderr);
}

/* All of it as it is listed; *n becomes at most what there is. */
static Dataset *open_data(const char *spec, int64_t *n, Error *err) {
  const DatasetOptions o = {.whole = true, .in_order = true, .warn = warn};
  Dataset *d = dataset_open(spec, &o, err);
  if (!error_asked(d != NULL, err)) return NULL;
  if (!dataset_is_endless(d) && dataset_count(d, WORLD_TRAIN) < (uint64_t)*n) *n = (int64_t)dataset_count(d, WORLD_TRAIN);
  return d;
}

/* What is compared with the data: *n of them. */
static bool measure_others(ScoreCommand *c, int64_t *n, Arena *arena, Moments *out, Error *err) {
  const ScoreArgs *a = c->a;
  const SynthTarget *t = &c->target.synth;
  ModelSpec m = cli_spec(&a->kit.model);
  static const char *const reconstruct[] = {FUNC_RECONSTRUCT};
  if (a->pictures)
    return (c->pictures = open_data(a->pictures, n, err)) &&
           likeness_of_data(&c->likeness, c->pictures, *n, arena, out, err);
  if (a->kit.vq_weights)
    return single_open(&c->codec, t, &(ModelSpec){0}, a->kit.vq_weights, reconstruct, 1, PAINTER_PART, err) &&
           likeness_of_reconstructions(&c->likeness, &c->codec, c->data, *n, arena, out, err);
  if (!painter_open(&c->painter, t, &m, a->kit.weights, PAINTER_ANY_CLASS, err)) return false;
  if (!c->painter.is_one)
    return error_set(err, ERROR_ARGUMENT,
                     "%s draws by no plain function of its module's `tasks`: draw into a folder, which is "
                     "data for --pictures",
                     a->kit.weights);
  return likeness_of_drawings(&c->likeness, &c->painter, (uint64_t)a->seed, *n, arena, out, err);
}

static bool score_features(ScoreCommand *c, Arena *arena, Error *err) {
  const ScoreArgs *a = c->a;
  int64_t n = a->count ? a->count : PICTURES, n_data = n;
  const char *what = a->pictures ? "pictures" : a->kit.vq_weights ? "reconstructions" : "drawings";
  Moments data, others;
  double distance;
  if (!likeness_open(&c->likeness, &c->target.synth, &(ModelSpec){0}, a->features, err) ||
      !(c->data = open_data(a->data, &n_data, err)) ||
      !likeness_of_data(&c->likeness, c->data, n_data, arena, &data, err))
    return false;
  if (a->kit.vq_weights) n = n_data;
  if (!measure_others(c, &n, arena, &others, err))
    return false;
  if (n < 2 || n_data < 2)
    return error_set(err, ERROR_ARGUMENT, "%s: a distribution needs two pictures at least", n < 2 ? a->pictures : a->data);
  if (!frechet_distance(&data, &others, arena, &distance, err)) return false;
  if (a->json)
    printf("{\"frechet\": %.6g, \"pictures\": %" PRId64 ", \"data\": %" PRId64 ", \"features\": %" PRId64 "}\n", distance, n,
           n_data, data.d);
  else
    printf("Frechet distance of %" PRId64 " features: %.3f (%" PRId64 " %s, %" PRId64 " of %s)\n", data.d, distance, n,
           what, n_data, a->data);
  return true;
}

/* ---- the command ---- */

static bool check_features(const ScoreArgs *a, Error *err) {
  if (!a->data) return error_set(err, ERROR_ARGUMENT, "--features needs --data SPEC to compare with");
  if ((a->kit.weights != NULL) + (a->pictures != NULL) + (a->kit.vq_weights != NULL) != 1)
    return error_set(err, ERROR_ARGUMENT,
                     "--features compares drawings of --weights FILE, or what the autoencoder of --vq-weights FILE "
                     "makes of the data, or --pictures SPEC: give one of the three");
  if (a->temperature != 1.0 || a->top_k || a->top_p != 1.0 || a->guidance != 1.0)
    return error_set(err, ERROR_ARGUMENT, "what is said of sampling has no effect with --features: no tokens are drawn");
  return a->kit.weights || !a->seed ||
         error_set(err, ERROR_ARGUMENT, "--seed has no effect without --weights: nothing is drawn");
}

static bool check(void *ctx, Error *err) {
  ScoreArgs *a = ((ScoreCommand *)ctx)->a;
  if (a->features) return check_features(a, err);
  if (a->count > 4096) return error_set(err, ERROR_ARGUMENT, "--count %" PRId64 ": at most 4096 captions", a->count);
  if (!a->count) a->count = CAPTIONS;
  if (a->temperature == 0.0 && (a->top_k || a->top_p != 1.0))
    return error_set(err, ERROR_ARGUMENT, "--top-k and --top-p have no effect at --temperature 0, which takes the "
                                          "likeliest token");
  return !a->sheet || a->count >= COLUMNS ||
         error_set(err, ERROR_ARGUMENT, "--sheet needs --count %d at least", COLUMNS);
}

static bool run(void *ctx, Arena *arena, Error *err) {
  ScoreCommand *c = ctx;
  KitSpec spec;
  if (!cli_kit(&c->a->kit, &spec, err) || !cli_target_open(&c->a->kit.model, &c->target, err)) return false;
  if (c->a->features) return score_features(c, arena, err);
  return kit_open(&c->kit, &c->target.synth, &spec, !c->a->no_drawings, KIT_PART, err) && open_world(c, err) &&
         score(c, arena, err);
}

static void run_done(void *ctx) {
  ScoreCommand *c = ctx;
  kit_close(&c->kit);
  judge_free(c->judge);
  world_close(c->world);
  likeness_close(&c->likeness);
  painter_close(&c->painter);
  single_close(&c->codec);
  dataset_close(c->data);
  dataset_close(c->pictures);
  cli_target_close(&c->target);
}

int cli_score(int argc, char **argv) {
  ScoreArgs a = {.temperature = 1.0, .top_p = 1.0, .guidance = 1.0};
  ScoreCommand s = {.a = &a};
  const Arg arg[] = {
      {"--count", ARG_INT, "N", "captions (256); of pictures (10000)", &a.count, 2, 1000000},
      ARG_SAMPLING(&a, NULL, "--no-drawings"),
      {"--features", ARG_TEXT, "FILE", "weights of a classifier: compare by its features instead", &a.features, 0, 0},
      {"--data", ARG_TEXT, "SPEC", "the pictures to compare with (as train's)", &a.data, 0, 0, .with = "--features"},
      {"--pictures", ARG_TEXT, "SPEC", "the pictures to compare, in place of drawings", &a.pictures, 0, 0,
       .with = "--features", .without = "--weights"},
      {"--things", ARG_INT, "N", "of the world (64)", &a.things, 0, 4096, .without = "--features"},
      {"--sheet", ARG_PNG, "FILE.png", "rows of truths, reconstructions and drawings", &a.sheet, 0, 0,
       .without = "--features"},
      {"--seen", ARG_FLAG, NULL, "captions of pairs that training shows, instead of held-out ones", &a.seen, 0, 0,
       .without = "--features"},
      {"--no-drawings", ARG_FLAG, NULL, "score the autoencoder only", &a.no_drawings, 0, 0, .without = "--features"},
      ARG_WEIGHTS(&a.kit, NULL),
      ARG_VQ_WEIGHTS(&a.kit),
      ARG_TOKENS(&a.kit.tokens),
      {"--json", ARG_FLAG, NULL, "print numbers as JSON", &a.json, 0, 0},
  };
  const Command c = {.name = "score", .usage = "[options]", .about = about, .arg = arg, .n_arg = COUNT_OF(arg),
                     .target = &a.kit.model, .ctx = &s, .check = check, .run = run, .done = run_done};
  return cli_command(&c, argc, argv);
}
