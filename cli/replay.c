/* See replay.h. */
#include "cli/replay.h"

#include <stdlib.h>
#include <string.h>

#include "media/clip_write.h"
#include "runtime/base/file.h"
#include "synth/weights_file.h"

/* The recipe's text, which mem_free frees. */
static char *find_recipe(const char *path, Error *err) {
  FileMap map;
  Error none = {0};
  if (!file_map(path, &map, err)) return NULL;
  char *text = image_find_text(map.data, map.len, path, RECIPE_KEY, &none);
  if (!text) text = clip_find_text(map.data, map.len, path, err);
  file_unmap(&map);
  if (!text)
    error_set(err, ERROR_ARGUMENT,
              "--replay %s: the file holds no recipe: it is a PNG, GIF, WebP or MP4 that nuwa generate wrote", path);
  return text;
}

/* Input files may lie elsewhere by now: what is named beside --replay is where, and its bytes are compared. */
static bool is_input(RecipeField f) {
  return f == RECIPE_IMAGE || f == RECIPE_VIDEO || f == RECIPE_SKETCH || f == RECIPE_MASK;
}
static bool is_moved(const Arg *a) { return is_input(a->shapes) && *(const char *const *)a->to; }

/* A whole number that was not given stands in a recipe as 0. */
static bool set_option(Arena *arena, const Arg *a, const char *value, Error *err) {
  return (a->kind == ARG_INT && strcmp(value, "0") == 0) || args_read_value(arena, a, value, err);
}

static const char *text_of(const JsonField *list, int n, RecipeField field) {
  const JsonField *f = json_find(list, n, recipe_name(field));
  return f ? f->value : NULL;
}

/* Weights by digest. */
static bool find_weights(const char *path, const JsonField *list, int n, KitArgs *kit, Arena *a, Error *err) {
  SynthTarget t = {0};
  const char *digest = text_of(list, n, RECIPE_WEIGHTS);
  char models[CLI_PATH_BYTES];
  t.models_dir = cli_models_dir(&kit->model, models);
  if (kit->weights || !digest || (kit->model.path && models_is_bundle(kit->model.path))) return true;
  kit->weights = weights_file_find(a, &t, digest, path);
  return kit->weights || error_set(err, ERROR_ARGUMENT,
                                   "--replay %s: drawn with weights of the SHA-256 %s, which are neither beside it "
                                   "nor among the shipped ones: give --weights",
                                   path, digest);
}

bool replay_read(const char *path, const Arg *arg, int n, KitArgs *kit, int64_t *out_sample, Arena *a, Replay *out,
                 Error *err) {
  char *text = find_recipe(path, err);
  JsonField *list;
  int fields;
  if (!text) return false;
  *out = (Replay){path, arena_strdup(a, text)};
  mem_free(text);
  if (!json_read_object(a, out->recipe, &list, &fields, err)) return error_prefix(err, "--replay %s", path);
  for (const Arg *o = arg; o < arg + n; o++) {
    const char *value = o->shapes == RECIPE_NONE || is_moved(o) ? NULL : text_of(list, fields, o->shapes);
    if (value && !set_option(a, o, value, err)) return error_prefix(err, "--replay %s", path);
  }
  const char *sample = text_of(list, fields, RECIPE_SAMPLE), *precision = text_of(list, fields, RECIPE_PRECISION);
  if (sample) *out_sample = strtoll(sample, NULL, 10);
  if (*out_sample < 0 || *out_sample > UINT32_MAX - 65536ll)
    return error_set(err, ERROR_FORMAT, "--replay %s: the recipe's sample %s is out of range", path, sample);
  if (precision && !kit->model.precision) kit->model.precision = precision;
  return find_weights(path, list, fields, kit, a, err);
}

/* Which sample it is follows from the recipe, and where files lie does not count; a mask that is no file is its name.
 */
static bool is_told(const char *name) {
  RecipeField f = recipe_field(name);
  return f == RECIPE_SAMPLE || (is_input(f) && f != RECIPE_MASK);
}
static bool is_told_or_mask(const char *name) { return is_told(name) || recipe_field(name) == RECIPE_MASK; }

bool replay_check(const Replay *r, Recipe *now, Error *err) {
  static const RecipeField inputs[] = {RECIPE_IMAGE, RECIPE_VIDEO, RECIPE_SKETCH, RECIPE_MASK};
  JsonDifference d;
  JsonField *list;
  int n;
  if (!json_compare(now->arena, r->recipe, recipe_print(now, RECIPE_DRAWING),
                    now->value[RECIPE_MASK_BYTES] ? is_told_or_mask : is_told, &d, err) ||
      !json_read_object(now->arena, r->recipe, &list, &n, err))
    return false;
  for (int i = 0; i < COUNT_OF(inputs); i++) {
    const char *path = text_of(list, n, inputs[i]);
    if (path) recipe_set_text(now, inputs[i], path);
  }
  return !d.name || error_set(err, ERROR_ARGUMENT,
                              "--replay %s: its %s%s is %.200s, here it is %.200s: the bytes would be others",
                              r->file, d.within, d.name, d.theirs, d.ours);
}
