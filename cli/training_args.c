/* See training_args.h. */
#include "cli/training_args.h"

#include <string.h>

#include "media/merges.h"
#include "runtime/base/names.h"
#include "synth/weights_file.h"

static void warn(void *command, const char *text) {
  fprintf(stderr, "nuwa %s: ", (const char *)command);
  cli_show(stderr, text);
  fputc('\n', stderr);
}

void training_args_init(TrainingArgs *a, const char *command) {
  *a = (TrainingArgs){.spec_of_data = "world", .least_steps = 1, .data = {.warn = warn, .warn_ctx = (void *)(uintptr_t)command}};
  training_init(&a->spec, &a->loop);
}

int training_args_list(TrainingArgs *a, const char *with_eval, Arg *out) {
  const Arg args[] = {
      {"--steps", ARG_INT, "N", "of the whole run (1000)", &a->loop.steps, (double)a->least_steps, INT32_MAX, .shapes = RECIPE_STEPS},
      {"--batch", ARG_INT, "N", "examples a step (32)", &a->spec.batch, 1, 65536, .shapes = RECIPE_BATCH},
      {"--seed", ARG_INT, "N", "of initial weights, and of all that steps draw (0)", &a->seed, 0, 9e15,
       .shapes = RECIPE_SEED},
      {"--weights", ARG_TEXT, "FILE",
       "begin with these weights; options, autoencoder and text encoder are theirs where none are given",
       &a->spec.weights, 0, 0, .shapes = RECIPE_START},
      {"--fresh", ARG_LIST, "PATTERN",
       "params of such names begin at initial values: --weights need not hold them (\"discriminator.*\")", &a->fresh,
       0, 0, .shapes = RECIPE_FRESH, .with = "--weights"},
      {"--weights-of", ARG_DEFINE, "PREFIX=FILE",
       "params PREFIX.NAME begin with the file's NAME; may be given several times", &a->parts, 0, 0},
      {"--data", ARG_TEXT, "SPEC",
       "what to train on: world:OPTIONS, FOLDER, shards-{000..031}.tar, FILE.safetensors, idx:PREFIX (world)",
       &a->spec_of_data, 0, 0, .shapes = RECIPE_DATA},
      {"--eval-data", ARG_TEXT, "SPEC", "what --eval measures on, all of it; nothing of --data is held out then",
       &a->spec_of_eval, 0, 0, .shapes = RECIPE_EVAL_DATA, .with = with_eval},
      {"--load-threads", ARG_INT32, "N",
       "threads that read the data ahead of the step; 0: none (half the processors, at most 8)", &a->spec.loading, 0,
       64},
      {"--strict", ARG_FLAG, NULL, "an example that cannot be read ends the run; else the next stands in for it",
       &a->data.strict, 0, 0},
      {"--allow-missing", ARG_FLAG, NULL, "a picture without a caption has an empty one; else that is refused",
       &a->data.allow_missing, 0, 0},
      {"--names", ARG_TEXT, "FILE", "of the world: emoji-test.txt, if not in Debian's place", &a->data.names_path, 0,
       0},
      {"--font", ARG_TEXT, "FILE", "NotoColorEmoji.ttf, if not in Debian's place", &a->data.font_path, 0, 0},
      {"--bpe", ARG_TEXT, "FILE", "merges of the text encoder (nuwa data --bpe makes one)", &a->merges, 0, 0,
       .shapes = RECIPE_BPE},
      {"--vq", ARG_TEXT, "MODEL.lua", "the autoencoder that makes tokens of pictures (the weights name it)",
       &a->vq.path, 0, 0, .with = "--vq-weights|--tokens"},
      {"--vq-define", ARG_DEFINE, "NAME=VALUE", "an option of it", &a->vq.defines, 0, 0, .with = "--vq-weights|--tokens"},
      {"--vq-weights", ARG_TEXT, "FILE", "its weights", &a->vq_weights, 0, 0},
      ARG_TOKENS(&a->tokens),
      {"--raw", ARG_FLAG, NULL, "--eval and --out take the params themselves, not their averages", &a->spec.raw, 0,
       0},
      {"--eval-batches", ARG_INT, "N",
       "at most so many batches of each, no example twice but for those that stand in for broken ones (4; of "
       "--eval-data all)",
       &a->loop.evaluate_batches, 1, 1e6, .with = with_eval},
  };
  memcpy(out, args, sizeof args);
  return COUNT_OF(args);
}

/* Options and autoencoder as weights have them, where nobody says otherwise. */
static bool complete_spec(TrainingArgs *a, Arena *arena, const SynthTarget *t, TrainingSpec *s, Error *err) {
  const char *path = a->like;
  if (!(a->like_file = weights_file_open(t, path, err)) ||
      !weights_file_complete(arena, t, &s->model, a->like_file, path, err))
    return false;
  const char *model = safetensors_metadata(a->like_file, WEIGHTS_MODEL),
             *slash = s->model.path ? strrchr(s->model.path, '/') : NULL;
  const char *ours = slash ? slash + 1 : s->model.path;
  if (model && ours && strcmp(model, ours) != 0)
    synth_say(t, "%s: trained as %s, whose options are taken for %s, too", path, model, ours);
  OpenedFrom from = {.arena = arena, .target = t};
  for (int k = 0; k < CODEC_KINDS; k++)
    if (!s->codec[k].weights && !codec_find(&from, (CodecKind)k, a->like_file, path, &s->codec[k].weights, err))
      synth_say(t, "%s", err->text);
  return true;
}

bool training_args_spec(TrainingArgs *a, Arena *arena, const SynthTarget *t, TrainingSpec *out, Error *err) {
  TrainingSpec s = a->spec;
  s.model = cli_spec(&a->model);
  if (!cli_codecs(&a->tokens, &a->vq, a->vq_weights, s.codec, err)) return false;
  s.part = a->parts.item;
  s.n_part = a->parts.n;
  s.fresh = a->fresh.item;
  s.n_fresh = a->fresh.n;
  s.seed = (uint64_t)a->seed;
  if (!a->like) a->like = s.weights;
  bool ok = !a->like || complete_spec(a, arena, t, &s, err);
  *out = s;
  return ok;
}

static const char *merges_of_weights(const TrainingArgs *a) {
  return a->like_file && !a->merges ? safetensors_metadata(a->like_file, WEIGHTS_BPE) : NULL;
}

bool training_args_recipe(const TrainingArgs *a, const TrainingSpec *spec, Recipe *r, Error *err) {
  const char *merges = merges_of_weights(a);
  if (merges) recipe_set_digest(r, RECIPE_BPE, merges, strlen(merges));
  return true;
}

void training_args_done(TrainingArgs *a) {
  safetensors_close(a->like_file);
  a->like_file = NULL;
}

/* What was left out, a line each. */
static void say_notes(const Dataset *d) {
  Buffer notes = {0};
  dataset_print_notes(d, &notes);
  for (char *rest = notes.data, *line; rest && (line = strsep(&rest, "\n"));) {
    if (!*line) continue;
    fprintf(stderr, "%s: ", dataset_spec(d));
    cli_show(stderr, line);
    fputc('\n', stderr);
  }
  buffer_done(&notes);
}

void training_args_say_notes(const TrainingSpec *spec) {
  say_notes(spec->data);
  if (spec->eval_data) say_notes(spec->eval_data);
}

bool training_args_open(TrainingArgs *a, TrainingSpec *spec, Error *err) {
  DatasetOptions o = a->data;
  Dataset *data = NULL, *eval_data = NULL;
  Bpe *bpe = NULL;
  const char *merges = merges_of_weights(a);
  o.cache = a->model.no_cache ? NULL : cli_cache(CACHE_LISTINGS, a->cache);
  o.seed = spec->seed;
  o.whole = a->spec_of_eval != NULL;
  DatasetOptions of_eval = o;
  of_eval.measures = true;
  bool ok = error_asked((data = dataset_open(a->spec_of_data, &o, err)) != NULL, err) &&
            (!a->spec_of_eval || error_asked((eval_data = dataset_open(a->spec_of_eval, &of_eval, err)) != NULL, err)) &&
            (!a->merges || (bpe = merges_read(a->merges, err))) &&
            (!merges || (bpe = bpe_parse(merges, strlen(merges), a->like, err)));
  spec->data = data;
  spec->eval_data = eval_data;
  spec->bpe = bpe;
  if (ok && !dataset_world(data) && !(eval_data && dataset_world(eval_data)) && (o.names_path || o.font_path))
    return error_set(err, ERROR_USAGE, "--names and --font are of the world: %s is another", a->spec_of_data);
  return ok;
}

void training_args_close(TrainingSpec *spec) {
  bpe_free((Bpe *)(uintptr_t)spec->bpe);
  dataset_close((Dataset *)(uintptr_t)spec->data);
  dataset_close((Dataset *)(uintptr_t)spec->eval_data);
  spec->bpe = NULL;
  spec->data = spec->eval_data = NULL;
}

static bool has_one_of(const Training *t, const char *const *name, int n) {
  for (int i = 0; i < n; i++)
    if (training_has_input(t, name[i])) return true;
  return false;
}

bool training_args_check(const TrainingArgs *a, const Training *open, Error *err) {
  static const char lacks[] = "%s has no effect: nothing that is trained has an input \"%s\"";
  if (a->merges && !training_has_input(open, PORT_TEXT)) return error_set(err, ERROR_USAGE, lacks, "--bpe", PORT_TEXT);
  static const char *const image[] = {PORT_TOKENS, PORT_VIDEO_TOKENS, PORT_IMAGE_TOKENS}, *const labels[] = {PORT_LABELS_TOKENS};
  CodecSpec said[CODEC_KINDS];
  if (!cli_codecs(&a->tokens, &a->vq, a->vq_weights, said, err)) return false;
  if (said[CODEC_IMAGE].weights && !has_one_of(open, image, COUNT_OF(image)))
    return error_set(err, ERROR_USAGE, lacks, a->vq_weights ? "--vq-weights" : "--tokens image", PORT_TOKENS);
  return !said[CODEC_LABELS].weights || has_one_of(open, labels, COUNT_OF(labels)) ||
         error_set(err, ERROR_USAGE, lacks, "--tokens labels", PORT_LABELS_TOKENS);
}
