/* `nuwa describe`: a caption of a picture or clip. */
#include "cli/cli.h"
#include "synth/description.h"
#include "synth/given.h"
#include "synth/task.h"

typedef struct DescribeArgs {
  KitArgs kit;
  CliTarget target;
  Kit open;
  World *world;
  const char *file, *task;
  int64_t seed, top_k;
  double temperature, top_p;
  bool json;
} DescribeArgs;

static const char about[] = "Prints a caption of a picture (PNG, JPEG, WebP) or of a clip (GIF, MP4, WebM, WebP ...) "
                            "that a model with a task image_text\n"
                            "or video_text draws, word by word; the likeliest one unless a temperature is given.  "
                            "With --json also each word's\n"
                            "probability, and where the caption is one of the world's, its slots and theirs.";

/* The picture, or as many frames as the model reads. */
static bool read_file(const DescribeArgs *a, Arena *arena, uint8_t **rgb, Error *err) {
  const Kit *k = &a->open;
  int64_t frames = k->codes_grid[0], n;
  bool all;
  if (frames == 1) return given_read_picture(k, arena, a->file, rgb, err);
  if (!given_read_clip(k, arena, a->file, frames, rgb, &n, &all, err)) return false;
  return (n == frames && all) ||
         error_set(err, ERROR_ARGUMENT, "%s has %s%lld frame%s, the model reads clips of %lld", a->file,
                   all ? "" : "more than ", (long long)n, n == 1 ? "" : "s", (long long)frames);
}

static bool open_kit(DescribeArgs *a, Arena *arena, Error *err) {
  KitSpec spec;
  const char *tasks;
  if (!cli_kit(&a->kit, &spec, err) || !kit_list_tasks(&a->target.synth, &spec, arena, &tasks, err)) return false;
  err->code = ERROR_NONE;
  bool is_clip = !a->task && description_is_clip(a->file, err);
  if (err->code != ERROR_NONE) return false;
  spec.task = a->task ? a->task : is_clip ? "video_text" : "image_text";
  if (!task_is_listed(tasks, spec.task))
    return error_set(err, ERROR_ARGUMENT, "%s%s the model has no task %s; it has %s", a->file,
                     a->task   ? ":"
                     : is_clip ? " is a clip, and"
                               : " is a picture, and",
                     spec.task, *tasks ? tasks : "none");
  return kit_open(&a->open, &a->target.synth, &spec, true, 8, err) &&
         ((a->open.draws_words && a->open.codes_input) ||
          error_set(err, ERROR_ARGUMENT, "--task %s draws no words of pictures", spec.task));
}

static void print_json(const DescribeArgs *a, const Description *d, Arena *arena) {
  Buffer out = {0};
  DescriptionSlot slot[DESCRIPTION_SLOTS];
  int n = a->world ? description_slots(d, a->world, arena, slot) : 0;
  buffer_printf(&out, "{\"caption\": ");
  json_print_text(&out, d->caption);
  buffer_printf(&out, ", \"probability\": %.6g, \"words\": [", d->chance);
  for (int i = 0; i < d->n_word; i++) {
    buffer_printf(&out, "%s{\"word\": ", i ? ", " : "");
    json_print_text(&out, d->word[i].text);
    buffer_printf(&out, ", \"probability\": %.6g}", d->word[i].chance);
  }
  buffer_printf(&out, "], \"slots\": {");
  for (int i = 0; i < n; i++) {
    buffer_printf(&out, "%s\"%s\": {\"value\": ", i ? ", " : "", slot[i].name);
    json_print_text(&out, slot[i].value);
    buffer_printf(&out, ", \"probability\": %.6g}", slot[i].chance);
  }
  buffer_printf(&out, "}}\n");
  if (!out.failed) fwrite(out.data, 1, out.len, stdout);
  buffer_done(&out);
}

/* The world's names; where its files are not there, there are no slots. */
static World *open_world(void) {
  WorldOptions o;
  Error ignored;
  world_options_init(&o);
  o.things = 0;
  o.kinds |= WORLD_TEXTURED;
  return world_open(&o, &ignored);
}

static bool check(void *ctx, Error *err) {
  const DescribeArgs *a = ctx;
  return a->temperature > 0 || (!a->top_k && a->top_p == 1 && !a->seed) ||
         error_set(err, ERROR_USAGE,
                   "--seed, --top-k and --top-p have no effect at --temperature 0, which takes the likeliest word");
}

static bool run(void *ctx, Arena *arena, Error *err) {
  DescribeArgs *a = ctx;
  uint8_t *rgb;
  Description d;
  const NuwaSampling sample = {(float)a->temperature, (int)a->top_k, (float)a->top_p};
  if (!cli_target_open(&a->kit.model, &a->target, err) || !open_kit(a, arena, err) || !read_file(a, arena, &rgb, err) ||
      !description_make(&a->open, arena, rgb, 1, (uint64_t)a->seed, sample, &d, err))
    return false;
  if (a->json) {
    a->world = open_world();
    print_json(a, &d, arena);
  } else {
    cli_show(stdout, d.caption);
    putchar('\n');
  }
  return true;
}

static void run_done(void *ctx) {
  DescribeArgs *a = ctx;
  world_close(a->world);
  kit_close(&a->open);
  cli_target_close(&a->target);
}

int cli_describe(int argc, char **argv) {
  DescribeArgs a = {.temperature = 0, .top_p = 1};
  const Arg arg[] = {
      {"--task", ARG_CHOICE, "image_text|video_text", "which; else as the file is", &a.task, 0, 0},
      {"--temperature", ARG_REAL, "X", "0: the likeliest word (0)", &a.temperature, 0, 100},
      {"--top-k", ARG_INT, "K", "draw among the K likeliest, 0: all (0)", &a.top_k, 0, 1 << 20,
       .with = "--temperature"},
      {"--top-p", ARG_REAL, "P", "draw among the likeliest that hold the share P (1)", &a.top_p, 0, 1,
       .with = "--temperature"},
      {"--seed", ARG_INT, "N", "of what is drawn (0)", &a.seed, 0, 9.0e15, .with = "--temperature"},
      ARG_WEIGHTS(&a.kit, NULL),
      ARG_VQ_WEIGHTS(&a.kit),
      ARG_TOKENS(&a.kit.tokens),
      {"--json", ARG_FLAG, NULL, "print words, slots and probabilities as JSON", &a.json, 0, 0},
  };
  const Command c = {.name = "describe", .usage = "FILE [options]", .about = about, .arg = arg, .n_arg = COUNT_OF(arg),
                     .model = &a.file, .target = &a.kit.model, .ctx = &a, .check = check, .run = run, .done = run_done};
  return cli_command(&c, argc, argv);
}
