/* `nuwa generate`: draws pictures for a caption, or the unknown part of a given picture.
 *
 * The unknown part is painted mid-grey before encoding; a token is given iff all its pixels are. */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "runtime/base/file.h"

typedef struct GenerateArgs {
  KitArgs kit;
  CliTarget target;
  Kit open;
  const char *text, *image, *mask, *rebuilt, *out, *tokens_out, *order;
  int64_t seed, top_k, count, first;
  double temperature, top_p, guidance;
  bool json;
} GenerateArgs;

static const char about[] =
    "Draws COUNT pictures for a caption.  With --image and --mask it completes a picture, the masked part of which\n"
    "is unknown; --reconstruct writes what the autoencoder makes of the whole picture.\n"
    "The weights name the model, its options and the text encoder; without --weights the shipped ones are used.\n"
    "PNG files carry the recipe (model, weights, seed, options) as text \"nuwa\".";

/* ---- masks ---- */

/* 1 where a pixel is unknown, [size * size].  mask: a picture (light is unknown), or one of the words. */
static bool read_mask(const char *mask, int size, uint8_t *unknown, Error *err) {
  static const char *const words[] = {"lower", "upper", "left", "right", "all"};
  for (int w = 0; w < COUNT_OF(words); w++) {
    if (strcmp(mask, words[w]) != 0) continue;
    for (int i = 0; i < size * size; i++) {
      int y = i / size, x = i % size;
      bool in[] = {2 * y >= size, 2 * y < size, 2 * x < size, 2 * x >= size, true};
      unknown[i] = in[w];
    }
    return true;
  }
  Image file = {0}, fitted = {0};
  if (!image_read(mask, &file, err))
    return error_prefix(err, "--mask (a picture, or lower, upper, left, right, all)");
  bool ok = image_resize(&file, size, size, &fitted, err);
  for (int i = 0; ok && i < size * size; i++)
    unknown[i] = fitted.rgb[3 * i] + fitted.rgb[3 * i + 1] + fitted.rgb[3 * i + 2] >= 3 * 128;
  image_done(&file);
  image_done(&fitted);
  return ok;
}

static void paint_unknown(uint8_t *rgb, const uint8_t *unknown, int size) {
  for (int i = 0; i < size * size; i++)
    if (unknown[i]) memset(rgb + 3 * i, 128, 3);
}

static void given_of_pixels(const Kit *k, const uint8_t *unknown, uint8_t *given) {
  int64_t h = k->grid[1], w = k->grid[2], size = k->size;
  memset(given, 1, (size_t)(h * w));
  for (int64_t y = 0; y < size; y++)
    for (int64_t x = 0; x < size; x++)
      if (unknown[y * size + x]) given[y * h / size * w + x * w / size] = 0;
}

/* The picture's known tokens, the same for all samples. */
static bool read_given(Kit *k, const GenerateArgs *a, Arena *arena, KitRequest *r, Error *err) {
  int size = (int)k->size;
  if (k->grid[0] != 1)
    return error_set(err, ERROR_USAGE, "--image completes pictures, this model makes %" PRId64 " frames", k->grid[0]);
  Image file = {0}, fitted = {0};
  uint8_t *unknown = arena_alloc(arena, (size_t)(size * size)), *given = arena_alloc(arena, (size_t)k->positions);
  int32_t *tokens = ARENA_ARRAY(arena, int32_t, k->positions);
  bool ok = read_mask(a->mask, size, unknown, err) && image_read(a->image, &file, err) &&
            image_fit(&file, size, size, &fitted, err);
  if (ok) {
    paint_unknown(fitted.rgb, unknown, size);
    ok = kit_encode(k, fitted.rgb, 1, tokens, err);
    given_of_pixels(k, unknown, given);
    r->given = given;
    r->given_tokens = tokens;
  }
  image_done(&file);
  image_done(&fitted);
  return ok;
}

/* The whole picture through the autoencoder and back. */
static bool write_rebuilt(Kit *k, const GenerateArgs *a, Arena *arena, Error *err) {
  int size = (int)k->size;
  Image file = {0}, fitted = {0};
  int32_t *codes = ARENA_ARRAY(arena, int32_t, k->grid[1] * k->grid[2]);
  bool ok = image_read(a->image, &file, err) && image_fit(&file, size, size, &fitted, err) &&
            kit_encode(k, fitted.rgb, 1, codes, err) && kit_decode(k, codes, 1, fitted.rgb, err) &&
            image_write_png(a->rebuilt, &fitted, NULL, 0, err);
  image_done(&file);
  image_done(&fitted);
  return ok;
}

/* ---- output ---- */

/* The model's file as seen from the folder of the shipped models, or its bare name: where folders lie is no part of a
 * drawing. */
static const char *model_name(const Kit *k, Arena *arena) {
  char folder[PATH_MAX], file[PATH_MAX];
  const char *path = plan_text(k->plan, "model");
  if (!path) return "";
  if (realpath(models_find(arena, k->target, "."), folder) && realpath(path, file)) {
    size_t n = strlen(folder);
    if (strncmp(file, folder, n) == 0 && file[n] == '/') return arena_strdup(arena, file + n + 1);
  }
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static void print_recipe(const Kit *k, const GenerateArgs *a, const char *model, int64_t sample, Buffer *out) {
  buffer_printf(out, "{\"text\": ");
  json_print_text(out, a->text);
  buffer_printf(out, ", \"model\": ");
  json_print_text(out, model);
  buffer_printf(out, ", \"weights_sha256\": \"%s\", \"seed\": %" PRId64 ", \"sample\": %" PRId64, k->digest, a->seed,
                sample);
  buffer_printf(out,
                ", \"temperature\": %g, \"top_k\": %" PRId64 ", \"top_p\": %g, \"guidance\": %g, \"order\": \"%s\"",
                a->temperature, a->top_k, a->top_p, a->guidance, a->order);
  if (a->image) {
    buffer_printf(out, ", \"image\": ");
    json_print_text(out, a->image);
    buffer_printf(out, ", \"mask\": ");
    json_print_text(out, a->mask);
  }
  buffer_printf(out, ", \"options\": {");
  bool first = true;
  for (int i = 0; i < k->plan->n_text; i++) {
    if (strncmp(k->plan->text[i].key, "option.", 7) != 0) continue;
    buffer_printf(out, "%s", first ? "" : ", ");
    json_print_text(out, k->plan->text[i].key + 7);
    buffer_printf(out, ": ");
    json_print_text(out, k->plan->text[i].value);
    first = false;
  }
  buffer_printf(out, "}}");
}

/* OUT for one picture and for a stream, else OUT with "-0001" and so on before its ending. */
static const char *picture_path(Arena *arena, const char *out, int64_t i, int64_t count) {
  if (count == 1 || file_is_stream(out)) return out;
  const char *dot = strrchr(out, '.'), *slash = strrchr(out, '/');
  if (!dot || (slash && dot < slash)) dot = out + strlen(out);
  return arena_printf(arena, "%.*s-%04" PRId64 "%s", (int)(dot - out), out, i + 1, dot);
}

/* The pictures of n samples, of which the first has the number `first` among those drawn.  rgb: room for them. */
static bool write_some(Kit *k, const GenerateArgs *a, Arena *arena, const int32_t *tokens, int64_t first, int64_t n,
                       uint8_t *rgb, Error *err) {
  int64_t frames = k->grid[0], bytes = k->size * k->size * 3;
  const char *model = model_name(k, arena);
  if (!kit_decode(k, tokens + first * k->positions, n * frames, rgb, err)) return false;
  for (int64_t i = 0; i < n * frames; i++) {
    Buffer recipe = {0};
    print_recipe(k, a, model, a->first + first + i / frames, &recipe);
    Image picture = {(int)k->size, (int)k->size, rgb + i * bytes};
    ImageText text = {"nuwa", recipe.data};
    const char *path = picture_path(arena, a->out, (a->first + first) * frames + i, a->count * frames);
    bool ok = recipe.failed ? error_set(err, ERROR_MEMORY, "out of memory")
                            : image_write_png(path, &picture, &text, 1, err);
    buffer_done(&recipe);
    if (!ok) return false;
  }
  return true;
}

static bool write_pictures(Kit *k, const GenerateArgs *a, Arena *arena, const int32_t *tokens, Error *err) {
  int64_t most = a->count < KIT_PART ? a->count : KIT_PART;
  uint8_t *rgb = arena_alloc(arena, (size_t)(most * k->grid[0] * k->size * k->size * 3));
  for (int64_t at = 0; at < a->count; at += most)
    if (!write_some(k, a, arena, tokens, at, a->count - at < most ? a->count - at : most, rgb, err)) return false;
  return true;
}

static bool write_tokens(const Kit *k, const GenerateArgs *a, const int32_t *tokens, Error *err) {
  TensorView t = {.name = "tokens",
                  .dtype = DTYPE_I32,
                  .rank = 4,
                  .dim = {a->count, k->grid[0], k->grid[1], k->grid[2]},
                  .data = tokens,
                  .bytes = sizeof *tokens * (size_t)(a->count * k->positions)};
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

static bool wants_drawings(const GenerateArgs *a) { return a->out || a->tokens_out; }

static bool draw(Kit *k, const GenerateArgs *a, Arena *arena, Error *err) {
  if (a->rebuilt && !write_rebuilt(k, a, arena, err)) return false;
  if (!wants_drawings(a)) return true;
  KitRequest r = {.count = a->count,
                  .first = a->first,
                  .seed = (uint64_t)a->seed,
                  .guidance = (float)a->guidance,
                  .raster = strcmp(a->order, "raster") == 0,
                  .sample = {(float)a->temperature, (int)a->top_k, (float)a->top_p}};
  const char **text = ARENA_ARRAY(arena, const char *, a->count);
  for (int64_t i = 0; i < a->count; i++) text[i] = a->text;
  r.text = text;
  if (a->image && !read_given(k, a, arena, &r, err)) return false;
  int32_t *tokens = ARENA_ARRAY(arena, int32_t, a->count * k->positions);
  NuwaGenerateStats stats;
  if (!kit_generate(k, &r, tokens, &stats, err)) return false;
  if (a->tokens_out && !write_tokens(k, a, tokens, err)) return false;
  if (a->out && !write_pictures(k, a, arena, tokens, err)) return false;
  print_stats(a, k, &stats);
  return true;
}

static bool check(void *ctx, Error *err) {
  GenerateArgs *a = ctx;
  if (!wants_drawings(a) && !a->rebuilt)
    return error_set(err, ERROR_ARGUMENT,
                     "nothing to write: give -o FILE.png, --tokens-out FILE.safetensors or --reconstruct FILE.png");
  if (a->rebuilt && !a->image) return error_set(err, ERROR_ARGUMENT, "--reconstruct needs --image");
  if (!a->text && !a->image) return error_set(err, ERROR_ARGUMENT, "give --text CAPTION, or --image and --mask");
  if ((a->mask && !a->image) || (wants_drawings(a) && a->image && !a->mask))
    return error_set(err, ERROR_ARGUMENT, "--image and --mask go together");
  if (!a->text) a->text = "";
  return true;
}

static bool run(void *ctx, Arena *arena, Error *err) {
  GenerateArgs *a = ctx;
  KitSpec spec = cli_kit(&a->kit);
  return cli_target_open(&a->kit.model, &a->target, err) &&
         kit_open(&a->open, &a->target.synth, &spec, wants_drawings(a), a->count < KIT_PART ? a->count : KIT_PART,
                  err) &&
         draw(&a->open, a, arena, err);
}

static void run_done(void *ctx) {
  GenerateArgs *a = ctx;
  kit_close(&a->open);
  cli_target_close(&a->target);
}

int cli_generate(int argc, char **argv) {
  GenerateArgs a = {.order = "wavefront", .count = 1, .temperature = 1.0, .top_p = 1.0, .guidance = 1.0};
  const Arg arg[] = {
      {"--text", ARG_TEXT, "CAPTION", "what to draw", &a.text, 0, 0},
      {"--image", ARG_TEXT, "FILE", "a picture to complete (PNG or JPEG)", &a.image, 0, 0},
      {"--mask", ARG_TEXT, "FILE|WORD",
       "its unknown part: a picture (light is unknown) or lower, upper, left, right, all", &a.mask, 0, 0},
      {"--reconstruct", ARG_PNG, "FILE.png", "--image through the autoencoder and back", &a.rebuilt, 0, 0},
      {"-o", ARG_PNG, "FILE.png", "the picture; with --count N: FILE-0001.png, ...", &a.out, 0, 0},
      {"--tokens-out", ARG_OUT, "FILE", "the tokens, as safetensors", &a.tokens_out, 0, 0},
      {"--count", ARG_INT, "N", "pictures (1)", &a.count, 1, 65536},
      {"--first", ARG_INT, "N", "number of the first; the recipe in a PNG tells it as \"sample\" (0)", &a.first, 0,
       UINT32_MAX - 65536.0},
      ARG_SAMPLING(&a),
      {"--order", ARG_CHOICE, "wavefront|raster", "of decoding; the same tokens come out", &a.order, 0, 0},
      ARG_WEIGHTS(&a.kit),
      {"--vq", ARG_TEXT, "MODEL", "the autoencoder: a Lua file or a bundle", &a.kit.vq.path, 0, 0},
      ARG_VQ_WEIGHTS(&a.kit),
      {"--vq-define", ARG_DEFINE, "NAME=VALUE", "an option of the autoencoder", &a.kit.vq.defines, 0, 0},
      ARG_DEFINES(&a.kit.model),
      {"--json", ARG_FLAG, NULL, "print numbers as JSON", &a.json, 0, 0},
  };
  const Command c = {.name = "generate", .usage = "[MODEL] --text CAPTION -o FILE.png [options]", .about = about,
                     .arg = arg, .n_arg = COUNT_OF(arg), .model = &a.kit.model.path, .is_model_optional = true,
                     .target = &a.kit.model, .ctx = &a, .check = check, .run = run, .done = run_done};
  return cli_command(&c, argc, argv);
}
