/* `nuwa score`: how well a kit draws what captions say, slot by slot.
 *
 * The judge (media/judge.h) sees pictures only.  It judges the true renderings of held-out scenes (which bounds what
 * can be scored), their reconstructions by the autoencoder, one drawing for each caption, and the drawings against
 * each other's captions (chance). */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "media/dataset.h"
#include "media/judge.h"

typedef struct ScoreArgs {
  KitArgs kit;
  int64_t count, seed, top_k, things;
  double temperature, top_p, guidance;
  const char *sheet;
  bool json, no_drawings, seen;
} ScoreArgs;

enum { COLUMNS = 8 }; /* of the sheet */
enum { ROW_TRUE, ROW_VQ, ROW_DRAWN, ROW_SHUFFLED, ROWS };
static const char *const row_names[ROWS] = {"true renderings", "VQ reconstructions", "drawings", "shuffled captions"};

typedef struct Scores {
  SlotScore row[ROWS];
  bool has[ROWS];
  double psnr, psnr_box;         /* of reconstructions, over all pixels and over the things' boxes */
  NuwaGenerateStats stats;
} Scores;

typedef struct Scored {
  ScoreArgs *a;
  CliTarget target;
  Kit kit;
  World *world;
  Judge *judge;
  Scene *scene;                  /* [count] */
  uint8_t *truth, *rebuilt, *drawn;   /* [count][size, size, 3] */
  size_t bytes;                  /* of a picture */
  Scores s;
} Scored;

static const char about[] =
    "Draws one picture for each of COUNT captions of held-out pairs (thing, background) and has a judge that sees\n"
    "only the pictures find thing, place and background.  Beside it: the judge on true renderings, on their\n"
    "reconstructions, and on drawings paired with other captions.";

static void judge_row(Scored *s, int row, const uint8_t *rgb, int64_t rotate) {
  s->s.has[row] = true;
  for (int64_t i = 0; i < s->a->count; i++) {
    Judgement got = judge_picture(s->judge, rgb + (size_t)i * s->bytes);
    judge_count(&got, &s->scene[(i + rotate) % s->a->count], &s->s.row[row]);
  }
}

static void make_scenes(Scored *s, Arena *arena) {
  int64_t n = s->a->count;
  s->bytes = (size_t)(s->kit.size * s->kit.size * 3);
  s->scene = ARENA_ARRAY(arena, Scene, n);
  s->truth = arena_alloc(arena, s->bytes * (size_t)n);
  s->rebuilt = arena_alloc(arena, s->bytes * (size_t)n);
  s->drawn = arena_alloc(arena, s->bytes * (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    s->scene[i] = world_scene(s->world, s->a->seen ? WORLD_VALIDATION : WORLD_HELD_OUT, (uint64_t)i);
    world_render(s->world, &s->scene[i], 0, s->truth + (size_t)i * s->bytes, NULL);
  }
}

static bool score_autoencoder(Scored *s, Arena *arena, Error *err) {
  int64_t n = s->a->count;
  int size = (int)s->kit.size;
  int32_t *codes = ARENA_ARRAY(arena, int32_t, n * s->kit.grid[1] * s->kit.grid[2]);
  if (!kit_encode(&s->kit, s->truth, n, codes, err) || !kit_decode(&s->kit, codes, n, s->rebuilt, err)) return false;
  double sum = 0, box_sum = 0;
  size_t box_values = 0;
  for (int64_t i = 0; i < n; i++) {
    const uint8_t *x = s->truth + (size_t)i * s->bytes, *y = s->rebuilt + (size_t)i * s->bytes;
    int bx, by, side;
    world_box(s->world, &s->scene[i], 0, 0, &bx, &by, &side);
    sum += image_box_error(x, y, size, 0, 0, size, size);
    box_sum += image_box_error(x, y, size, bx, by, side, side);
    box_values += (size_t)(side * side * 3);
  }
  s->s.psnr = image_psnr_of(sum, s->bytes * (size_t)n);
  s->s.psnr_box = image_psnr_of(box_sum, box_values);
  judge_row(s, ROW_VQ, s->rebuilt, 0);
  return true;
}

static bool score_drawings(Scored *s, Arena *arena, Error *err) {
  const ScoreArgs *a = s->a;
  const char **text = ARENA_ARRAY(arena, const char *, a->count);
  for (int64_t i = 0; i < a->count; i++) {
    char *caption = arena_alloc(arena, WORLD_CAPTION_BYTES);
    world_caption(s->world, &s->scene[i], caption);
    text[i] = caption;
  }
  KitRequest r = {.text = text, .count = a->count, .seed = (uint64_t)a->seed, .guidance = (float)a->guidance,
                  .sample = {(float)a->temperature, (int)a->top_k, (float)a->top_p}};
  int32_t *tokens = ARENA_ARRAY(arena, int32_t, a->count * s->kit.positions);
  int64_t done;
  if (!kit_generate(&s->kit, &r, tokens, &s->s.stats, &done, err) ||
      !kit_decode(&s->kit, tokens, a->count, s->drawn, err))
    return false;
  judge_row(s, ROW_DRAWN, s->drawn, 0);
  judge_row(s, ROW_SHUFFLED, s->drawn, a->count / 2 + 1);
  return true;
}

/* Rows of truth, reconstruction and drawing, eight scenes wide. */
static bool write_sheet(const Scored *s, Arena *arena, Error *err) {
  int64_t n = s->a->count / COLUMNS * COLUMNS;
  const uint8_t *source[] = {s->truth, s->rebuilt, s->drawn};
  uint8_t *rgb = arena_alloc(arena, 3 * s->bytes * (size_t)n), *at = rgb;
  for (int64_t i = 0; i < n; i += COLUMNS)
    for (int k = 0; k < 3; k++, at += COLUMNS * s->bytes)
      memcpy(at, source[k] + (size_t)i * s->bytes, COLUMNS * s->bytes);
  Image sheet = {0};
  bool ok = image_sheet(rgb, (int)(3 * n), (int)s->kit.size, (int)s->kit.size, COLUMNS, 2, 2, &sheet, err) &&
            image_write_png(s->a->sheet, &sheet, NULL, 0, err);
  image_done(&sheet);
  return ok;
}

static double percent(int part, int n) { return n ? 100.0 * part / n : 0.0; }

static void print_table(const Scored *s) {
  printf("| %" PRId64 " captions of %s pairs | thing | place | background | all three |\n|---|---|---|---|---|\n",
         s->a->count, s->a->seen ? "seen" : "held-out");
  for (int i = 0; i < ROWS; i++) {
    const SlotScore *r = &s->s.row[i];
    if (s->s.has[i])
      printf("| %s | %.1f %% | %.1f %% | %.1f %% | %.1f %% |\n", row_names[i], percent(r->thing, r->n),
             percent(r->place, r->n), percent(r->background, r->n), percent(r->all, r->n));
  }
  printf("\nreconstruction of unseen scenes: %.2f dB, over the thing's box %.2f dB\n", s->s.psnr, s->s.psnr_box);
}

static void print_json(const Scored *s) {
  static const char *const key[ROWS] = {"true", "vq", "drawn", "shuffled"};
  printf("{\"count\": %" PRId64 ", \"psnr\": %.4f, \"psnr_box\": %.4f", s->a->count, s->s.psnr, s->s.psnr_box);
  for (int i = 0; i < ROWS; i++) {
    const SlotScore *r = &s->s.row[i];
    if (s->s.has[i])
      printf(", \"%s\": {\"thing\": %.2f, \"place\": %.2f, \"background\": %.2f, \"all\": %.2f}", key[i],
             percent(r->thing, r->n), percent(r->place, r->n), percent(r->background, r->n), percent(r->all, r->n));
  }
  printf("}\n");
}

static bool score_all(Scored *s, Arena *arena, Error *err) {
  WorldOptions w;
  world_options_init(&w);
  w.size = (int)s->kit.size;
  if (s->a->things > 0) w.things = (int)s->a->things;
  if (!cli_asked((s->world = world_open(&w, err)) != NULL, err) || !(s->judge = judge_new(s->world, err)))
    return false;
  make_scenes(s, arena);
  judge_row(s, ROW_TRUE, s->truth, 0);
  if (!score_autoencoder(s, arena, err)) return false;
  if (!s->a->no_drawings && !score_drawings(s, arena, err)) return false;
  if (s->a->sheet && !write_sheet(s, arena, err)) return false;
  if (s->a->json) print_json(s);
  else print_table(s);
  return true;
}

static bool check(void *ctx, Error *err) {
  const ScoreArgs *a = ((Scored *)ctx)->a;
  if (a->temperature == 0.0 && (a->top_k || a->top_p != 1.0))
    return error_set(err, ERROR_ARGUMENT, "--top-k and --top-p have no effect at --temperature 0, which takes the "
                                          "likeliest token");
  return !a->sheet || a->count >= COLUMNS ||
         error_set(err, ERROR_ARGUMENT, "--sheet needs --count %d at least", COLUMNS);
}

static bool run(void *ctx, Arena *arena, Error *err) {
  Scored *s = ctx;
  KitSpec spec = cli_kit(&s->a->kit);
  return cli_target_open(&s->a->kit.model, &s->target, err) &&
         kit_open(&s->kit, &s->target.synth, &spec, !s->a->no_drawings, KIT_PART, err) && score_all(s, arena, err);
}

static void run_done(void *ctx) {
  Scored *s = ctx;
  kit_close(&s->kit);
  judge_free(s->judge);
  world_close(s->world);
  cli_target_close(&s->target);
}

int cli_score(int argc, char **argv) {
  ScoreArgs a = {.count = 256, .temperature = 1.0, .top_p = 1.0, .guidance = 1.0};
  Scored s = {.a = &a};
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
