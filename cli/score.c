/* `nuwa score`: how well a kit draws what captions say, slot by slot (synth/score.h), as a table and a sheet. */
#include <inttypes.h>

#include "cli/cli.h"
#include "synth/score.h"

typedef struct ScoreArgs {
  KitArgs kit;
  int64_t count, seed, top_k, things;
  double temperature, top_p, guidance;
  const char *sheet;
  bool json, no_drawings, seen;
} ScoreArgs;

enum { COLUMNS = 8 }; /* of the sheet */

typedef struct ScoreCommand {
  ScoreArgs *a;
  CliTarget target;
  Kit kit;
  World *world;
  Judge *judge;
  Scores scores;
} ScoreCommand;

static const char about[] =
    "Draws one picture for each of COUNT captions of held-out pairs (thing, background) and has a judge that sees\n"
    "only the pictures find thing, place and background.  Beside it: the judge on true renderings, on their\n"
    "reconstructions, and on drawings paired with other captions.";

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

static bool check(void *ctx, Error *err) {
  const ScoreArgs *a = ((ScoreCommand *)ctx)->a;
  if (a->temperature == 0.0 && (a->top_k || a->top_p != 1.0))
    return error_set(err, ERROR_ARGUMENT, "--top-k and --top-p have no effect at --temperature 0, which takes the "
                                          "likeliest token");
  return !a->sheet || a->count >= COLUMNS ||
         error_set(err, ERROR_ARGUMENT, "--sheet needs --count %d at least", COLUMNS);
}

static bool run(void *ctx, Arena *arena, Error *err) {
  ScoreCommand *c = ctx;
  KitSpec spec = cli_kit(&c->a->kit);
  return cli_target_open(&c->a->kit.model, &c->target, err) &&
         kit_open(&c->kit, &c->target.synth, &spec, !c->a->no_drawings, KIT_PART, err) && open_world(c, err) &&
         score(c, arena, err);
}

static void run_done(void *ctx) {
  ScoreCommand *c = ctx;
  kit_close(&c->kit);
  judge_free(c->judge);
  world_close(c->world);
  cli_target_close(&c->target);
}

int cli_score(int argc, char **argv) {
  ScoreArgs a = {.count = 256, .temperature = 1.0, .top_p = 1.0, .guidance = 1.0};
  ScoreCommand s = {.a = &a};
  const Arg arg[] = {
      {"--count", ARG_INT, "N", "captions (256)", &a.count, 2, 4096},
      ARG_SAMPLING(&a, NULL, "--no-drawings"),
      {"--things", ARG_INT, "N", "of the world (64)", &a.things, 0, 4096},
      {"--sheet", ARG_PNG, "FILE.png", "rows of truths, reconstructions and drawings", &a.sheet, 0, 0},
      {"--seen", ARG_FLAG, NULL, "captions of pairs that training shows, instead of held-out ones", &a.seen, 0, 0},
      {"--no-drawings", ARG_FLAG, NULL, "score the autoencoder only", &a.no_drawings, 0, 0},
      ARG_WEIGHTS(&a.kit, NULL),
      ARG_VQ_WEIGHTS(&a.kit),
      {"--json", ARG_FLAG, NULL, "print numbers as JSON", &a.json, 0, 0},
  };
  const Command c = {.name = "score", .usage = "[options]", .about = about, .arg = arg, .n_arg = COUNT_OF(arg),
                     .target = &a.kit.model, .ctx = &s, .check = check, .run = run, .done = run_done};
  return cli_command(&c, argc, argv);
}
