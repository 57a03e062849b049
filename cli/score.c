/* `nuwa score`: how well a kit draws what captions say, slot by slot (synth/score.h), as a table and a sheet; or how
 * like a data set's pictures others are by a classifier's features (synth/likeness.h). */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "runtime/base/names.h"
#include "runtime/base/pool.h"
#include "synth/likeness.h"
#include "synth/score_figures.h"
#include "synth/score_open.h"
#include "synth/weights_file.h"

typedef struct ScoreArgs {
  KitArgs kit;
  int64_t count, draws, seed, top_k, things;
  double temperature, top_p, guidance;
  const char *task, *sheet, *segment, *features, *data, *pictures, *real, *drawn, *by, *similarity;
  bool json, no_drawings, seen;
} ScoreArgs;

enum { SHEET_COLUMNS = 8 };
enum { CAPTIONS = 256, PICTURES = 10000 }; /* where --count does not say */

typedef struct ScoreCommand {
  ScoreArgs *a;
  CliTarget target;
  Kit kit;
  World *world;
  const ScoreTask *task;
  ScoreNetworks networks;
  Ranking similarity;
  Scores scores;
  Likeness likeness;
  Painter painter;
  Single codec;          /* whose reconstructions are compared */
  Dataset *data, *pictures;
} ScoreCommand;

static const char about[] =
    "Draws one picture for each of COUNT captions of scenes with held-out pairs and has a judge that sees only the "
    "pictures\n"
    "find thing, place, background, and colour.  Beside it: the judge on true renderings, on their reconstructions, "
    "and on\n"
    "drawings paired with other captions.  --task names another task: s2i of sketches, i2i the lower half of a "
    "picture, ti2i\n"
    "another thing in its place, t2v and s2v clips, whose motion is judged, too, v2v and tv2v clips whose first "
    "frame is\n"
    "given, tv2v with the caption of another motion; i2t and v2t captions, whose slots are read.\n"
    "With --features: the Frechet distance of the features that a classifier tells of --data and of drawings of\n"
    "--weights, or of --pictures; --real and --drawn --by NAME are the same of two folders.";

static bool write_sheet(const ScoreCommand *c, Arena *arena, Error *err) {
  Image sheet = {0};
  bool ok = score_sheet(&c->scores, SHEET_COLUMNS, arena, &sheet, err) &&
            image_write_png(c->a->sheet, &sheet, NULL, 0, err);
  image_done(&sheet);
  return ok;
}

static double percent_seen(const ScoreRow *r) { return 100.0 * r->thing_seen / r->n_seen; }

static void print_cells(const Scores *s, int row) {
  for (ScoreFigureId i = 0; i < SCORE_FIGURES; i++) {
    const ScoreFigure *f = score_figure(i);
    double x = score_figure_value(s, row, i);
    if (!score_has_figure(s, i)) continue;
    if (isnan(x)) printf(" |");
    else printf(" %.*f%s |", f->digits, x, f->unit);
  }
}

static void print_table(const ScoreCommand *c) {
  static const char *const name[SCORE_ROWS] = {
      "true renderings",     "VQ reconstructions",          "drawings",
      "shuffled conditions", "first frame, standing still", "best of the draws",
      "of the draws that most like its caption"};
  const Scores *s = &c->scores;
  printf("| %s, %" PRId64 " %s |", c->task->name, s->count, c->a->seen ? "seen pairs" : "held-out pairs");
  for (ScoreFigureId i = 0; i < SCORE_FIGURES; i++)
    if (score_has_figure(s, i)) printf(" %s |", score_figure(i)->name);
  printf("\n|---|");
  for (ScoreFigureId i = 0; i < SCORE_FIGURES; i++)
    if (score_has_figure(s, i)) printf("---|");
  puts("");
  for (int i = 0; i < SCORE_ROWS; i++) {
    if (!s->has[i]) continue;
    printf("| %s |", name[i]);
    print_cells(s, i);
    puts("");
  }
  const ScoreRow *drawn = &s->row[SCORE_DRAWN];
  if (s->has[SCORE_DRAWN] && drawn->n_seen)
    printf("\nwhere a third of the thing is given (%d): thing %.1f %%\n", drawn->n_seen, percent_seen(drawn));
  if (s->has[SCORE_REBUILT])
    printf("\nreconstruction of unseen scenes: %.2f dB, over the thing's box %.2f dB\n", s->psnr, s->psnr_box);
}

static void print_json(const ScoreCommand *c) {
  static const char *const key[SCORE_ROWS] = {"true", "vq", "drawn", "shuffled", "frozen", "best", "likest"};
  const Scores *s = &c->scores;
  printf("{\"task\": \"%s\", \"count\": %" PRId64, c->task->name, s->count);
  if (s->has[SCORE_REBUILT]) printf(", \"psnr\": %.4f, \"psnr_box\": %.4f", s->psnr, s->psnr_box);
  for (int i = 0; i < SCORE_ROWS; i++) {
    const ScoreRow *r = &s->row[i];
    const char *between = "";
    if (!s->has[i]) continue;
    printf(", \"%s\": {", key[i]);
    for (ScoreFigureId k = 0; k < SCORE_FIGURES; k++) {
      double x = score_figure_value(s, i, k);
      if (!score_has_figure(s, k) || isnan(x)) continue;
      printf("%s\"%s\": %.*f", between, score_figure(k)->key, score_figure(k)->exact_digits, x);
      between = ", ";
    }
    if (r->n_seen) printf(", \"seen\": %d, \"thing_seen\": %.2f", r->n_seen, percent_seen(r));
    printf("}");
  }
  printf("}\n");
}

static bool score(ScoreCommand *c, Arena *arena, Error *err) {
  const ScoreArgs *a = c->a;
  int64_t threads = a->kit.model.threads ? a->kit.model.threads : pool_count_processors();
  ScoreRequest r = {.task = c->task,
                    .world = c->world,
                    .split = a->seen ? WORLD_VALIDATION : WORLD_HELD_OUT,
                    .threads = (int)threads,
                    .count = a->count,
                    .draws = !a->no_drawings,
                    .draws_of_each = a->draws,
                    .seed = (uint64_t)a->seed,
                    .sample = {(float)a->temperature, (int)a->top_k, (float)a->top_p},
                    .guidance = (float)a->guidance};
  if (a->segment || a->features) r.networks = &c->networks;
  if (a->similarity && !ranking_open(r.similarity = &c->similarity, &c->target.synth, a->similarity, err)) return false;
  if (r.networks && !score_networks_open(&c->networks, &c->target.synth, a->segment, a->features, err)) return false;
  if (!score_kit(&c->kit, &r, arena, &c->scores, err) || (a->sheet && !write_sheet(c, arena, err))) return false;
  if (a->json) print_json(c);
  else print_table(c);
  return true;
}

static bool open(ScoreCommand *c, const KitSpec *spec, Arena *arena, Error *err) {
  const ScoreArgs *a = c->a;
  return (a->no_drawings ? kit_open(&c->kit, &c->target.synth, spec, false, KIT_PART, err)
                         : score_open_kit(&c->kit, &c->target.synth, spec, c->task, arena, err)) &&
         (c->world = score_open_world(&c->kit, c->task, a->data, a->things, arena, err));
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
  if (!dataset_is_endless(d) && dataset_count(d, WORLD_TRAIN) < (uint64_t)*n)
    *n = (int64_t)dataset_count(d, WORLD_TRAIN);
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

/* --by FILE, or a network of models/metrics by its name, NAME=FILE or with weights among the shipped ones. */
static bool find_network(ScoreCommand *c, ModelSpec *m, Arena *arena, Error *err) {
  ScoreArgs *a = c->a;
  if (!a->by || access(a->by, R_OK) == 0) return a->features = a->by ? a->by : a->features, true;
  size_t n = strcspn(a->by, "=");
  const char *path = cli_find_model(arena, &a->kit.model, arena_printf(arena, "metrics/%.*s.lua", (int)n, a->by));
  if (access(path, R_OK) != 0)
    return error_set(err, ERROR_ARGUMENT, "--by %s: is neither a weights file nor a network of models/metrics (%s)",
                     a->by, path);
  m->path = path;
  a->features =
      a->by[n] ? a->by + n + 1
               : cli_find_model(arena, &a->kit.model, arena_printf(arena, "weights/%.*s.safetensors", (int)n, a->by));
  return access(a->features, R_OK) == 0 ||
         error_set(
             err, ERROR_ARGUMENT,
             "--by %s: its weights %s are not there; give --by %.*s=FILE (docs/metrics.md says how to get them)",
             a->by, a->features, (int)n, a->by);
}

static bool score_features(ScoreCommand *c, Arena *arena, Error *err) {
  const ScoreArgs *a = c->a;
  int64_t n = a->count ? a->count : PICTURES, n_data = n;
  const char *what = a->pictures ? NULL : a->kit.vq_weights ? "reconstructions" : "drawings";
  Moments data, others;
  double distance;
  ModelSpec network = {0};
  if (!find_network(c, &network, arena, err) ||
      !likeness_open(&c->likeness, &c->target.synth, &network, a->features, err) ||
      !(c->data = open_data(a->data, &n_data, err)) ||
      !likeness_of_data(&c->likeness, c->data, n_data, arena, &data, err))
    return false;
  if (a->kit.vq_weights) n = n_data;
  if (!measure_others(c, &n, arena, &others, err))
    return false;
  if (n < 2 || n_data < 2)
    return error_set(err, ERROR_ARGUMENT, "%s: a distribution needs two pictures at least",
                     n < 2 ? a->pictures : a->data);
  if (!frechet_distance(&data, &others, arena, &distance, err)) return false;
  if (!what) what = c->likeness.image->rank == 5 ? "clips" : "pictures";
  if (a->json)
    printf("{\"frechet\": %.6g, \"pictures\": %" PRId64 ", \"data\": %" PRId64 ", \"features\": %" PRId64 "}\n",
           distance, n, n_data, data.d);
  else
    printf("Frechet distance of %" PRId64 " features: %.3f (%" PRId64 " %s, %" PRId64 " of %s)\n", data.d, distance, n,
           what, n_data, a->data);
  return true;
}

/* ---- the command ---- */

static bool check_features(const ScoreArgs *a, Error *err) {
  const char *given = a->seen          ? "--seen"
                      : a->no_drawings ? "--no-drawings"
                      : a->sheet       ? "--sheet"
                      : a->things      ? "--things"
                                       : NULL;
  if (given) return error_set(err, ERROR_USAGE, "%s has no effect beside --features without --task", given);
  if (!a->data) return error_set(err, ERROR_ARGUMENT, "--features needs --data SPEC to compare with");
  if ((a->kit.weights != NULL) + (a->pictures != NULL) + (a->kit.vq_weights != NULL) != 1)
    return error_set(err, ERROR_ARGUMENT,
                     "--features compares drawings of --weights FILE, or what the autoencoder of --vq-weights FILE "
                     "makes of the data, or --pictures SPEC: give one of the three");
  if (a->temperature != 1.0 || a->top_k || a->top_p != 1.0 || a->guidance != 1.0)
    return error_set(err, ERROR_ARGUMENT,
                     "what is said of sampling has no effect with --features: no tokens are drawn");
  return a->kit.weights || !a->seed ||
         error_set(err, ERROR_ARGUMENT, "--seed has no effect without --weights: nothing is drawn");
}

static bool check(void *ctx, Error *err) {
  ScoreArgs *a = ((ScoreCommand *)ctx)->a;
  if (a->by && !a->drawn) return error_set(err, ERROR_USAGE, "--by compares --real SPEC with --drawn SPEC: give both");
  if (a->by) a->features = a->by, a->data = a->real, a->pictures = a->drawn;
  if (a->features && !a->task) return check_features(a, err);
  if (!(((ScoreCommand *)ctx)->task = score_task_asked("--task", a->task ? a->task : "t2i", err))) return false;
  const char *network = a->segment      ? "--segment"
                        : a->features   ? "--features"
                        : a->similarity ? "--similarity"
                        : a->sheet      ? "--sheet"
                        : a->draws > 1  ? "--draws"
                                        : NULL;
  if (network && strcmp(((ScoreCommand *)ctx)->task->target, PORT_TEXT) == 0)
    return error_set(err, ERROR_USAGE, "%s has no effect with --task %s, which draws captions", network, a->task);
  WorldOptions world;
  if (a->data && !dataset_world_options(a->data, &world, err))
    return error_prefix(err, "--data, without --features the world whose scenes are scored");
  if (a->count > 4096) return error_set(err, ERROR_ARGUMENT, "--count %" PRId64 ": at most 4096 captions", a->count);
  if (!a->count) a->count = CAPTIONS;
  if (!cli_check_chance(a->temperature, a->top_k, a->top_p, err)) return false;
  return !a->sheet || a->count >= SHEET_COLUMNS ||
         error_set(err, ERROR_ARGUMENT, "--sheet needs --count %d at least", SHEET_COLUMNS);
}

static bool run(void *ctx, Arena *arena, Error *err) {
  ScoreCommand *c = ctx;
  KitSpec spec;
  if (!cli_kit(&c->a->kit, &spec, err) || !cli_target_open(&c->a->kit.model, &c->target, err)) return false;
  if (c->a->features && !c->a->task) return score_features(c, arena, err);
  return open(c, &spec, arena, err) && score(c, arena, err);
}

static void run_done(void *ctx) {
  ScoreCommand *c = ctx;
  kit_close(&c->kit);
  world_close(c->world);
  likeness_close(&c->likeness);
  score_networks_close(&c->networks);
  ranking_close(&c->similarity);
  painter_close(&c->painter);
  single_close(&c->codec);
  dataset_close(c->data);
  dataset_close(c->pictures);
  cli_target_close(&c->target);
}

int cli_score(int argc, char **argv) {
  ScoreArgs a = {.draws = 1, .temperature = 1.0, .top_p = 1.0, .guidance = 1.0};
  ScoreCommand s = {.a = &a};
  const Arg arg[] = {
      {"--count", ARG_INT, "N", "captions (256); of pictures (10000)", &a.count, 2, 1000000},
      {"--draws", ARG_INT, "N", "of each scene; beside the first one the nearest to the truth is judged (1)",
       &a.draws, 1, 1024, .with = "--task", .without = "--no-drawings"},
      ARG_SAMPLING(&a, NULL, "--no-drawings"),
      {"--features", ARG_TEXT, "FILE", "weights of a classifier: compare by its features instead, or with --task too",
       &a.features, 0, 0},
      {"--data", ARG_TEXT, "SPEC",
       "the pictures to compare with (as train's); of tasks the world, world:OPTIONS (the weights')", &a.data, 0, 0},
      {"--pictures", ARG_TEXT, "SPEC", "the pictures to compare, in place of drawings", &a.pictures, 0, 0,
       .with = "--features", .without = "--weights"},
      {"--task", ARG_TEXT, "NAME", "t2i, s2i, i2i, ti2i, t2v, s2v, v2v, tv2v, i2t or v2t (t2i)", &a.task, 0, 0},
      {"--similarity", ARG_TEXT, "FILE", "weights of models/metrics/clip.lua: how like the captions they are",
       &a.similarity, 0, 0, .with = "--task"},
      {"--segment", ARG_TEXT, "FILE",
       "weights of a network that says what pixels show: compared with the scenes' labels", &a.segment, 0, 0,
       .with = "--task"},
      {"--real", ARG_TEXT, "SPEC", "pictures or clips that are compared with --drawn", &a.real, 0, 0, .with = "--by",
       .without = "--data"},
      {"--drawn", ARG_TEXT, "SPEC", "those that are compared", &a.drawn, 0, 0, .with = "--by",
       .without = "--pictures"},
      {"--by", ARG_TEXT, "NAME|FILE", "by this network's features: inception, i3d, NAME=FILE, or weights", &a.by, 0,
       0, .with = "--real", .without = "--features|--task"},
      {"--things", ARG_INT, "N", "of the world (as trained)", &a.things, 0, 4096},
      {"--sheet", ARG_PNG, "FILE.png", "rows of truths, reconstructions and drawings", &a.sheet, 0, 0},
      {"--seen", ARG_FLAG, NULL, "captions of pairs that training shows, instead of held-out ones", &a.seen, 0, 0},
      {"--no-drawings", ARG_FLAG, NULL, "score the autoencoder only", &a.no_drawings, 0, 0},
      ARG_WEIGHTS(&a.kit, NULL),
      ARG_VQ_WEIGHTS(&a.kit),
      ARG_TOKENS(&a.kit.tokens),
      {"--json", ARG_FLAG, NULL, "print numbers as JSON", &a.json, 0, 0},
  };
  const Command c = {.name = "score", .usage = "[options]", .about = about, .arg = arg, .n_arg = COUNT_OF(arg),
                     .target = &a.kit.model, .ctx = &s, .check = check, .run = run, .done = run_done};
  return cli_command(&c, argc, argv);
}
