/* `nuwa generate`: draws pictures for a caption, or the unknown part of a given picture.
 *
 * The unknown part is painted mid-grey before encoding; a token is given iff all its pixels are. */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/replay.h"
#include "media/clip_write.h"
#include "runtime/base/file.h"
#include "runtime/base/names.h"
#include "synth/given.h"
#include "synth/painter.h"
#include "synth/preview.h"
#include "synth/ranking.h"
#include "synth/sketch.h"
#include "synth/task.h"

typedef struct GenerateArgs {
  KitArgs kit;
  CliTarget target;
  Kit open;
  Painter painter;
  Ranking ranking;
  Replay replayed;
  const char *text, *sketch, *image, *video, *mask, *task, *rebuilt, *out, *sheet, *tokens_out, *order, *replay, *by,
      *preview;
  int64_t given_frames, fps, best, seed, top_k, count, first, class;
  double temperature, top_p, guidance;
  bool json;
  const Arg *arg;
  int n_arg;
} GenerateArgs;

static const char about[] =
    "Draws COUNT pictures or clips of a caption, of a sketch, or of nothing.  With --image and --mask it completes a "
    "picture,\n"
    "the masked part of which is unknown, with --video and --given-frames or --mask a clip; with a caption it "
    "redraws\n"
    "that part to fit it.  What is drawn follows from what is given and from the ending of OUT, unless --task names "
    "it.\n"
    "Where the model draws by a plain function of its `tasks` (GAN, VAE), it draws of random numbers, and of a class "
    "where it\n"
    "has some.  --reconstruct writes what the autoencoder makes of the whole picture.\n"
    "The weights name the model, its options and the text encoder; without --weights the shipped ones are used.\n"
    "Files carry the recipe (model, weights, seed, options), by which --replay draws them again.";

/* What is drawn, and where it goes. */
typedef struct GenerateCommand {
  const GenerateArgs *a;
  Kit *kit;
  const char *task;  /* that was chosen; NULL: the model has none */
  Arena *arena;
  Recipe recipe;
  Given given;
  int32_t *tokens;   /* [count][positions] */
  uint8_t *rgb;      /* room for the pictures of one part, or where they are kept of all */
  Preview preview;
  double *likeness;  /* [count] to the caption, of what is chosen among */
} GenerateCommand;

/* The whole picture through the autoencoder and back. */
static bool write_rebuilt(Kit *k, const GenerateArgs *a, Arena *arena, Error *err) {
  int32_t *codes = ARENA_ARRAY(arena, int32_t, k->grid[1] * k->grid[2]);
  Image picture = {.width = (int)k->size, .height = (int)k->size};
  return given_read_picture(k, arena, a->image, &picture.rgb, err) &&
         codec_encode(&k->codec[CODEC_IMAGE], picture.rgb, 1, codes, err) &&
         codec_decode(&k->codec[CODEC_IMAGE], codes, 1, picture.rgb, err) &&
         image_write_png(a->rebuilt, &picture, NULL, 0, err);
}

/* ---- output ---- */

/* OUT for one picture and for a stream, else OUT with "-0001" and so on before its ending. */
static const char *picture_path(Arena *arena, const char *out, int64_t i, int64_t count) {
  if (count == 1 || file_is_stream(out)) return out;
  const char *dot = strrchr(out, '.'), *slash = strrchr(out, '/');
  if (!dot || (slash && dot < slash)) dot = out + strlen(out);
  return arena_printf(arena, "%.*s-%04" PRId64 "%s", (int)(dot - out), out, i + 1, dot);
}

/* What is looked at when all are drawn. */
static bool keeps_all(const GenerateArgs *a) { return a->sheet || a->best; }

/* A sample as file number i of those written: a clip, or a PNG a frame. */
static bool write_sample(GenerateCommand *d, int64_t i, int64_t sample, const uint8_t *rgb, Error *err) {
  const GenerateArgs *a = d->a;
  ClipFormat format;
  int size = (int)d->kit->size, frames = (int)d->kit->grid[0];
  bool ok = true;
  int64_t first = a->best ? 0 : a->first, count = a->best ? a->best : a->count;
  recipe_set_int(&d->recipe, RECIPE_SAMPLE, sample);
  const char *recipe = recipe_print(&d->recipe, RECIPE_DRAWING);
  if (clip_format_of(a->out, &format))
    return clip_write(picture_path(d->arena, a->out, first + i, count), rgb, frames, size, size,
                      (ClipRate){(int32_t)a->fps, 1}, recipe, err);
  for (int f = 0; ok && f < frames; f++) {
    Image picture = {size, size, (uint8_t *)(uintptr_t)rgb + 3 * f * size * size};
    ImageText text = {RECIPE_KEY, recipe};
    ok = image_write_png(picture_path(d->arena, a->out, (first + i) * frames + f, count * frames), &picture, &text, 1,
                         err);
  }
  return ok;
}

/* The pictures of n samples, of which the first has the number `first` among those drawn. */
static bool write_pictures(void *ctx, int64_t first, int64_t n, Error *err) {
  GenerateCommand *d = ctx;
  const GenerateArgs *a = d->a;
  int64_t frames = d->kit->grid[0], bytes = d->kit->size * d->kit->size * 3;
  uint8_t *rgb = keeps_all(a) ? d->rgb + first * frames * bytes : d->rgb;
  if (!a->out && !a->sheet) return true;
  if (!codec_decode(&d->kit->codec[CODEC_IMAGE], d->tokens + first * d->kit->positions, n * frames, rgb, err))
    return false;
  for (int64_t i = 0; d->given.rgb && i < n * frames; i++)
    given_restore(d->kit, &d->given, i % frames, rgb + i * bytes);
  for (int64_t i = 0; a->out && !a->best && i < n; i++)
    if (!write_sample(d, first + i, a->first + first + i, rgb + i * frames * bytes, err)) return false;
  return true;
}

/* Puts the best of the n drawings first, in d->rgb and on disk, and forgets the others. */
static bool choose_best(GenerateCommand *d, int64_t *io_n, Error *err) {
  const GenerateArgs *a = d->a;
  int64_t n = *io_n, frames = d->kit->grid[0], bytes = frames * d->kit->size * d->kit->size * 3;
  int64_t *order = ARENA_ARRAY(d->arena, int64_t, n);
  uint8_t *all = arena_copy(d->arena, d->rgb, (size_t)(n * bytes));
  d->likeness = ARENA_ARRAY(d->arena, double, n);
  if (!ranking_compare((Ranking *)(uintptr_t)&a->ranking, a->text, all, n, frames, d->kit->size, d->likeness, err))
    return false;
  ranking_order(d->likeness, n, order);
  *io_n = n < a->best ? n : a->best;
  for (int64_t i = 0; i < *io_n; i++) {
    memcpy(d->rgb + i * bytes, all + order[i] * bytes, (size_t)bytes);
    fprintf(stderr, "%" PRId64 ". sample %" PRId64 ": %.4f\n", i + 1, a->first + order[i], d->likeness[order[i]]);
    if (a->out && !write_sample(d, i, a->first + order[i], d->rgb + i * bytes, err)) return false;
  }
  return true;
}

enum { SHEET_COLUMNS = 8, SHEET_GAP = 2, SHEET_ZOOM = 2 };

static int sheet_columns(const Kit *k, int64_t n) {
  return (int)(k->grid[0] > 1 ? k->grid[0] : n < SHEET_COLUMNS ? n : SHEET_COLUMNS);
}

static bool check_sheet(const Kit *k, int64_t n, Error *err) {
  int64_t tile = SHEET_ZOOM * k->size + SHEET_GAP, columns = sheet_columns(k, n),
          rows = (n * k->grid[0] + columns - 1) / columns;
  return rows * tile + SHEET_GAP <= IMAGE_MAX_SIDE ||
         error_set(err, ERROR_USAGE,
                   "--sheet: %" PRId64 " drawings make %" PRId64 " rows; at most %" PRId64 " fit a picture", n, rows,
                   (IMAGE_MAX_SIDE - SHEET_GAP) / tile);
}

/* All that is drawn in one picture: pictures in rows of at most SHEET_COLUMNS, of clips a row each. */
static bool write_sheet(GenerateCommand *d, int64_t n, Error *err) {
  const GenerateArgs *a = d->a;
  int64_t frames = d->kit->grid[0];
  int columns = sheet_columns(d->kit, n), size = (int)d->kit->size;
  Image sheet = {0};
  recipe_set_int(&d->recipe, RECIPE_SAMPLE, a->first);
  ImageText text = {"nuwa sheet", recipe_print(&d->recipe, RECIPE_DRAWING)};   /* of many: nothing to replay */
  bool ok = image_sheet(d->rgb, (int)(n * frames), size, size, columns, SHEET_GAP, SHEET_ZOOM, &sheet, err) &&
            image_write_png(a->sheet, &sheet, &text, 1, err);
  image_done(&sheet);
  return ok;
}

static bool write_tokens(const Kit *k, const GenerateArgs *a, const int32_t *tokens, int64_t count, Error *err) {
  TensorView t = {.name = PORT_TOKENS,
                  .dtype = DTYPE_I32,
                  .rank = 4,
                  .dim = {count, k->grid[0], k->grid[1], k->grid[2]},
                  .data = tokens,
                  .bytes = sizeof *tokens * (size_t)(count * k->positions)};
  return safetensors_write(a->tokens_out, &t, 1, NULL, 0, err);
}

static void print_stats(const GenerateArgs *a, const Kit *k, const NuwaGenerateStats *s) {
  if (a->json) {
    printf("{\"pictures\": %" PRId64 ", \"steps\": %" PRId64 ", \"tokens\": %" PRId64 ", \"live\": %" PRId64
           ", \"prologue_ms\": %.3f, \"step_ms\": %.3f}\n",
           a->count, s->steps, s->tokens, s->live, s->prologue_ms, s->step_ms);
    return;
  }
  fprintf(stderr,
          "%" PRId64 " tokens a picture in %" PRId64 " steps (%s order), %.1f ms; keys and values of at most %" PRId64
          " positions\n",
          k->positions, s->steps, a->order, s->prologue_ms + s->step_ms, s->live);
}

/* ---- the command ---- */

static bool wants_drawings(const GenerateArgs *a) { return a->out || a->tokens_out || a->sheet; }

static bool set_recipe(GenerateCommand *d, Error *err) {
  const GenerateArgs *a = d->a;
  d->recipe.arena = d->arena;
  kit_recipe(d->kit, &d->recipe);
  char sketch[65];
  if (a->sketch && !sketch_digest(a->sketch, d->arena, sketch, err)) return false;
  if (a->sketch) recipe_set_text(&d->recipe, RECIPE_SKETCH_BYTES, sketch);
  ClipFormat format;
  char encoder[64] = "";
  if (a->out && clip_format_of(a->out, &format) && !clip_encoder(format, encoder, err)) return false;
  if (*encoder) recipe_set_text(&d->recipe, RECIPE_ENCODER, encoder);
  bool ok = args_recipe(a->arg, a->n_arg, &d->recipe, err);
  if (a->class < 0) d->recipe.value[RECIPE_CLASS] = NULL;
  if (d->task) recipe_set_text(&d->recipe, RECIPE_TASK, d->task);
  return ok && (!a->video || recipe_set_file(&d->recipe, RECIPE_VIDEO_BYTES, a->video, err)) &&
         (!a->image || recipe_set_file(&d->recipe, RECIPE_IMAGE_BYTES, a->image, err)) &&
         (!a->mask || given_is_word(a->mask) || recipe_set_file(&d->recipe, RECIPE_MASK_BYTES, a->mask, err));
}

static bool finish(GenerateCommand *d, const NuwaGenerateStats *stats, int64_t done, Error *err) {
  const GenerateArgs *a = d->a;
  if (a->tokens_out && done && !write_tokens(d->kit, a, d->tokens, done, err)) return false;
  int64_t shown = done;
  if (a->best && done && !choose_best(d, &shown, err)) return false;
  if (a->sheet && done && !write_sheet(d, shown, err)) return false;
  if (done < a->count)
    return error_set(err, ERROR_CANCELLED,
                     "interrupted: %" PRId64 " of %" PRId64 " drawings are finished and written", done, a->count);
  print_stats(a, d->kit, stats);
  return true;
}

/* The first of those that are drawn at once. */
static bool show_step(void *ctx, const int32_t *tokens, int64_t first, int64_t n) {
  return preview_show(&((GenerateCommand *)ctx)->preview, tokens);
}

enum { AT_ONCE = 16 };   /* drawings, so that the first ones are soon there */

static bool completes(const GenerateArgs *a) { return a->image || a->video; }

/* What draws of text or of a class needs to be told of which; a picture or clip is completed without words, too. */
static bool check_conditions(const Kit *k, GenerateArgs *a, Error *err) {
  bool draws_of_sketch = k->codes_input && strcmp(k->codes_input, PORT_LABELS_TOKENS) == 0;
  if (k->text_tokens && !a->text && !completes(a))
    return error_set(err, ERROR_USAGE, "give --text CAPTION, or --image and --mask");
  if (!k->text_tokens && a->text)
    return error_set(err, ERROR_USAGE, "--text has no effect: the model draws of no text");
  if (a->sketch && !draws_of_sketch)
    return error_set(err, ERROR_USAGE, "--sketch has no effect: the model draws of no sketch");
  return !k->draws_words || error_set(err, ERROR_USAGE, "captions are drawn by nuwa describe FILE");
}

static bool read_conditions(GenerateCommand *d, KitRequest *r, Error *err) {
  const GenerateArgs *a = d->a;
  Kit *k = d->kit;
  const char **text = ARENA_ARRAY(d->arena, const char *, a->count);
  for (int64_t i = 0; i < a->count; i++) text[i] = a->text;
  if (k->text_tokens) r->text = text;
  if (a->text && !kit_check_caption(k, a->text, err)) return false;
  if (a->sketch) {
    int32_t *codes;
    int64_t n = k->codes_grid[0] * k->codes_grid[1] * k->codes_grid[2];
    if (!sketch_read(k, d->arena, a->sketch, &codes, err)) return false;
    int32_t *all = ARENA_ARRAY(d->arena, int32_t, a->count * n);
    for (int64_t i = 0; i < a->count; i++) memcpy(all + i * n, codes, sizeof *all * (size_t)n);
    r->codes = all;
  }
  const GivenSpec given = {a->image, a->video, a->mask, a->given_frames};
  if (completes(a) && !given_read(k, d->arena, &given, &d->given, err)) return false;
  int32_t *tokens = completes(a) ? ARENA_ARRAY(d->arena, int32_t, a->count * k->positions) : NULL;
  for (int64_t i = 0; tokens && i < a->count; i++)
    memcpy(tokens + i * k->positions, d->given.tokens, sizeof *tokens * (size_t)k->positions);
  r->given = d->given.given;
  r->given_tokens = tokens;
  return true;
}

static bool draw(Kit *k, GenerateArgs *a, const char *task, Arena *arena, Error *err) {
  if (a->rebuilt && !write_rebuilt(k, a, arena, err)) return false;
  if (!wants_drawings(a)) return true;
  if (!check_conditions(k, a, err)) return false;
  GenerateCommand d = {.a = a, .kit = k, .task = task, .arena = arena};
  int64_t most = a->count < AT_ONCE ? a->count : AT_ONCE, done;
  KitRequest r = {.count = a->count,
                  .first = a->first,
                  .at_once = most,
                  .class = (int32_t)a->class,
                  .seed = (uint64_t)a->seed,
                  .guidance = (float)a->guidance,
                  .raster = strcmp(a->order, "raster") == 0,
                  .sample = {(float)a->temperature, (int)a->top_k, (float)a->top_p},
                  .finished = write_pictures,
                  .ctx = &d};
  if (!read_conditions(&d, &r, err)) return false;
  d.tokens = ARENA_ARRAY(arena, int32_t, a->count * k->positions);
  d.rgb = arena_alloc(arena, (size_t)((keeps_all(a) ? a->count : most) * k->grid[0] * k->size * k->size * 3));
  NuwaGenerateStats stats;
  if (a->sheet && !check_sheet(k, a->best ? a->best : a->count, err)) return false;
  if (a->preview && !preview_open(&d.preview, k, a->preview, stderr, err)) return preview_close(&d.preview), false;
  if (a->preview) r.step = show_step;
  bool ok = set_recipe(&d, err) && (!a->replay || replay_check(&a->replayed, &d.recipe, err)) &&
            kit_generate(k, &r, d.tokens, &stats, &done, err) && finish(&d, &stats, done, err);
  if (d.preview.err.code != ERROR_NONE) ok = (*err = d.preview.err, false);
  preview_close(&d.preview);
  return ok;
}

/* Whether the model may draw by a plain function: the shipped one does not. */
static bool may_be_plain(const GenerateArgs *a) {
  return a->kit.weights || (a->kit.model.path && models_is_bundle(a->kit.model.path));
}

static bool check(void *ctx, Error *err) {
  GenerateArgs *a = ctx;
  if (!wants_drawings(a) && !a->rebuilt)
    return error_set(err, ERROR_ARGUMENT,
                     "nothing to write: give -o FILE.png (or .gif, .webp, .mp4), --sheet FILE.png, --tokens-out "
                     "FILE.safetensors or --reconstruct "
                     "FILE.png");
  ClipFormat format;
  bool is_clip = a->out && clip_format_of(a->out, &format);
  if (a->out && !is_clip && !file_is_stream(a->out) && !file_has_ending(a->out, ".png"))
    return error_set(err, ERROR_ARGUMENT, "-o %s: must end in .png, .gif, .webp or .mp4", a->out);
  if (a->fps && !is_clip) return error_set(err, ERROR_USAGE, "--fps has no effect without -o FILE.gif, .webp or .mp4");
  if (!a->fps) a->fps = is_clip ? 8 : 0;
  if (a->class >= 0 && !may_be_plain(a))
    return error_set(err, ERROR_ARGUMENT, "--class is for models that draw of classes: give --weights");
  if (!a->best != !a->by)
    return error_set(err, ERROR_USAGE, "--best K and --by FILE go together: how many, and what says which");
  if (a->best > a->count)
    return error_set(err, ERROR_USAGE, "--best %" PRId64 " of --count %" PRId64 ": there are not so many", a->best,
                     a->count);
  if (a->image && a->video)
    return error_set(err, ERROR_ARGUMENT, "--image and --video exclude each other: give what is known");
  if (a->mask && !wants_drawings(a))
    return error_set(err, ERROR_ARGUMENT, "--mask has no effect without -o or --tokens-out");
  return cli_check_chance(a->temperature, a->top_k, a->top_p, err);
}

/* ---- a model that draws by a plain function ---- */

/* Options that only models of tokens know. */
static bool check_plain(const GenerateArgs *a, Error *err) {
  static const char has_no[] = "%s has no effect: %s draws by \"%s\", which reads %s";
  const char *fn = a->painter.single.f->name;
  const char *given = a->text     ? "--text"
                      : a->sketch ? "--sketch"
                      : a->image  ? "--image"
                      : a->video  ? "--video"
                      : a->task   ? "--task"
                      : a->sheet  ? "--sheet"
                      : a->preview ? "--preview"
                      : a->kit.tokens.n ? "--tokens"
                      : a->kit.vq_weights ? "--vq-weights"
                      : a->tokens_out ? "--tokens-out" : NULL;
  ClipFormat format;
  if (a->out && clip_format_of(a->out, &format))
    return error_set(err, ERROR_USAGE, "-o %s: %s draws pictures: .png", a->out, a->painter.single.name);
  if (given) return error_set(err, ERROR_USAGE, has_no, given, a->painter.single.name, fn, "nothing of the kind");
  bool samples = a->temperature != 1.0 || a->top_k || a->top_p != 1.0 || a->guidance != 1.0 ||
                 strcmp(a->order, "wavefront") != 0;
  return !samples || error_set(err, ERROR_USAGE, has_no, "what is said of sampling", a->painter.single.name, fn,
                               "random numbers, not tokens");
}

static bool write_plain(GenerateCommand *d, int64_t first, int64_t n, const uint8_t *rgb, Error *err) {
  const GenerateArgs *a = d->a;
  size_t bytes = (size_t)(3 * a->painter.height * a->painter.width);
  for (int64_t i = 0; i < n; i++) {
    recipe_set_int(&d->recipe, RECIPE_SAMPLE, first + i);
    Image picture = {(int)a->painter.width, (int)a->painter.height, (uint8_t *)rgb + (size_t)i * bytes};
    ImageText text = {RECIPE_KEY, recipe_print(&d->recipe, RECIPE_DRAWING)};
    if (!image_write_png(picture_path(d->arena, a->out, first + i, a->count), &picture, &text, 1, err)) return false;
  }
  return true;
}

static bool draw_plain(GenerateArgs *a, Arena *arena, Error *err) {
  Painter *p = &a->painter;
  GenerateCommand d = {.a = a, .arena = arena, .recipe = {.arena = arena}};
  uint8_t *rgb = arena_alloc(arena, (size_t)(3 * PAINTER_PART * p->height * p->width));
  int32_t *class = ARENA_ARRAY(arena, int32_t, PAINTER_PART);
  if (!check_plain(a, err)) return false;
  painter_recipe(p, &d.recipe);
  recipe_set_int(&d.recipe, RECIPE_SEED, a->seed);
  if (p->classes) recipe_set_int(&d.recipe, RECIPE_CLASS, a->class);
  if (a->replay && !replay_check(&a->replayed, &d.recipe, err)) return false;
  for (int i = 0; i < PAINTER_PART; i++) class[i] = (int32_t)a->class;
  for (int64_t at = 0; at < a->count; at += PAINTER_PART) {
    int64_t n = a->count - at < PAINTER_PART ? a->count - at : PAINTER_PART;
    if (cli_is_interrupted(NULL))
      return error_set(err, ERROR_CANCELLED, "interrupted: %" PRId64 " of %" PRId64 " drawings are written", at,
                       a->count);
    if (!painter_draw(p, (uint64_t)a->seed, a->first + at, n, class, rgb, err) ||
        !write_plain(&d, a->first + at, n, rgb, err))
      return false;
  }
  return true;
}

static bool choose_task(const GenerateArgs *a, KitSpec *spec, Arena *arena, Error *err) {
  const TaskWish wish = {.task = a->task,
                         .has_text = a->text,
                         .has_sketch = a->sketch,
                         .has_class = a->class >= 0,
                         .is_sketch_clip = a->sketch && sketch_is_clip(a->sketch),
                         .has_image = a->image,
                         .has_video = a->video,
                         .out = a->out};
  const char *tasks;
  return kit_list_tasks(&a->target.synth, spec, arena, &tasks, err) &&
         task_choose(tasks, &wish, arena, &spec->task, err);
}

static bool run(void *ctx, Arena *arena, Error *err) {
  GenerateArgs *a = ctx;
  KitSpec spec;
  cli_catch_interrupts();
  if (a->replay && !replay_read(a->replay, a->arg, a->n_arg, &a->kit, &a->first, arena, &a->replayed, err))
    return false;
  if (!cli_kit(&a->kit, &spec, err) || !cli_target_open(&a->kit.model, &a->target, err)) return false;
  if (may_be_plain(a) && wants_drawings(a) &&
      !painter_open(&a->painter, &a->target.synth, &spec.model, a->kit.weights, a->class, err))
    return false;
  if (a->painter.is_one) return draw_plain(a, arena, err);
  if (a->by && !ranking_open(&a->ranking, &a->target.synth, a->by, err)) return false;
  if (wants_drawings(a) && !choose_task(a, &spec, arena, err)) return false;
  return kit_open(&a->open, &a->target.synth, &spec, wants_drawings(a), a->count < AT_ONCE ? a->count : AT_ONCE,
                  err) &&
         draw(&a->open, a, spec.task, arena, err);
}

static void run_done(void *ctx) {
  GenerateArgs *a = ctx;
  kit_close(&a->open);
  ranking_close(&a->ranking);
  painter_close(&a->painter);
  cli_target_close(&a->target);
}

#define NOT_AGAIN .without = "--replay"   /* the recipe says it */
#define DRAWS .with = "-o|--tokens-out|--sheet|--replay"   /* of no effect on a reconstruction alone */

int cli_generate(int argc, char **argv) {
  GenerateArgs a = {
      .order = "wavefront", .count = 1, .class = PAINTER_NO_CLASS, .temperature = 1.0, .top_p = 1.0, .guidance = 1.0};
  const Arg arg[] = {
      {"--text", ARG_TEXT, "CAPTION", "what to draw", &a.text, 0, 0, .shapes = RECIPE_TEXT, DRAWS, NOT_AGAIN},
      {"--class", ARG_INT, "N", "which class to draw, of a model that has some", &a.class, 0, INT32_MAX,
       .shapes = RECIPE_CLASS, DRAWS, NOT_AGAIN},
      {"--sketch", ARG_TEXT, "FILE", "what to draw: a PNG of labels, for clips a folder of them", &a.sketch, 0, 0,
       .shapes = RECIPE_SKETCH, DRAWS},
      {"--image", ARG_TEXT, "FILE", "a picture to complete (PNG, JPEG, WebP), or the first frame of a clip", &a.image,
       0, 0, .shapes = RECIPE_IMAGE},
      {"--video", ARG_TEXT, "FILE", "a clip to complete (GIF, MP4, WebM, WebP ...)", &a.video, 0, 0,
       .shapes = RECIPE_VIDEO, DRAWS},
      {"--mask", ARG_TEXT, "FILE|WORD|BOX",
       "the unknown part: a picture or clip (light is unknown), lower, upper, left, right, center, thing, all, or "
       "X,Y,WIDTH,HEIGHT in "
       "pixels",
       &a.mask, 0, 0, .shapes = RECIPE_MASK, .with = "--image|--video"},
      {"--given-frames", ARG_INT, "N", "the first N frames of --video are known", &a.given_frames, 1, 4096,
       .shapes = RECIPE_GIVEN_FRAMES, .with = "--video", NOT_AGAIN},
      {"--task", ARG_TEXT, "NAME", "of the model's tasks: text_image, sketch_video, ...", &a.task, 0, 0,
       .shapes = RECIPE_TASK, DRAWS, NOT_AGAIN},
      {"--reconstruct", ARG_PNG, "FILE.png", "--image through the autoencoder and back", &a.rebuilt, 0, 0,
       .with = "--image"},
      {"-o", ARG_OUT, "FILE", "the picture (.png) or clip (.gif, .webp, .mp4); with --count N: FILE-0001.png, ...",
       &a.out, 0, 0},
      {"--sheet", ARG_PNG, "FILE.png", "all that is drawn in one picture, a row a clip", &a.sheet, 0, 0},
      {"--fps", ARG_INT, "N", "frames a second of a clip (8)", &a.fps, 1, 1000, .shapes = RECIPE_FPS, .with = "-o",
       NOT_AGAIN},
      {"--preview", ARG_TEXT, "DIR|terminal",
       "what is drawn after each step: DIR/step-0001.png, ..., or in a terminal that shows pictures", &a.preview, 0,
       0, DRAWS},
      {"--replay", ARG_TEXT, "FILE", "draw by the recipe in a picture or clip: the same bytes", &a.replay, 0, 0,
       .with = "-o"},
      {"--tokens-out", ARG_OUT, "FILE", "the tokens, as safetensors", &a.tokens_out, 0, 0},
      {"--count", ARG_INT, "N", "pictures (1)", &a.count, 1, 65536, DRAWS, NOT_AGAIN},
      {"--first", ARG_INT, "N", "number of the first; the recipe in a PNG tells it as \"sample\" (0)", &a.first, 0,
       UINT32_MAX - 65536.0, DRAWS, NOT_AGAIN},
      {"--best", ARG_INT, "K", "of these keep the K that are most like the caption, the best first", &a.best, 1,
       65536, .with = "--text"},
      {"--by", ARG_TEXT, "FILE", "weights of the model that says how like they are (models/metrics/clip.lua)", &a.by,
       0, 0, .with = "--text"},
      ARG_SAMPLING(&a, "-o|--tokens-out|--sheet", "--replay"),
      {"--order", ARG_CHOICE, "wavefront|raster", "of decoding; the same tokens come out", &a.order, 0, 0,
       .shapes = RECIPE_ORDER, DRAWS, NOT_AGAIN},
      ARG_WEIGHTS(&a.kit, NULL),
      {"--vq", ARG_TEXT, "MODEL", "the autoencoder: a Lua file or a bundle", &a.kit.vq.path, 0, 0},
      ARG_VQ_WEIGHTS(&a.kit),
      ARG_TOKENS(&a.kit.tokens),
      {"--vq-define", ARG_DEFINE, "NAME=VALUE", "an option of the autoencoder", &a.kit.vq.defines, 0, 0},
      {"-D", ARG_DEFINE, "NAME=VALUE", "an option of the model", &a.kit.model.defines, 0, 0, DRAWS},
      {"--json", ARG_FLAG, NULL, "print numbers as JSON", &a.json, 0, 0, DRAWS},
  };
  a.arg = arg;
  a.n_arg = COUNT_OF(arg);
  const Command c = {.name = "generate", .usage = "[MODEL] --text CAPTION -o FILE.png [options]", .about = about,
                     .arg = arg, .n_arg = COUNT_OF(arg), .model = &a.kit.model.path, .is_model_optional = true,
                     .target = &a.kit.model, .ctx = &a, .check = check, .run = run, .done = run_done};
  return cli_command(&c, argc, argv);
}
