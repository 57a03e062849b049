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
  if (!text) error_set(err, ERROR_ARGUMENT, "--replay %s: the file holds no recipe: it is a PNG, GIF, WebP or MP4 that nuwa generate wrote", path);
  return text;
}

/* Whether an option's value is one of its words. */
static bool is_choice(const char *words, const char *value) {
  size_t n = strlen(value);
  for (const char *p = words; *p;) {
    size_t len = strcspn(p, "|");
    if (len == n && memcmp(p, value, n) == 0) return true;
    p += len + (p[len] == '|');
  }
  return false;
}

static bool set_option(const Arg *a, const char *value, Error *err) {
  char *end = NULL;
  double x = strtod(value, &end);
  bool is_number = end != value && !*end && x >= a->lo && x <= a->hi;
  if (a->kind == ARG_TEXT || (a->kind == ARG_CHOICE && is_choice(a->value, value))) *(const char **)a->to = value;
  else if (a->kind == ARG_INT && is_number) *(int64_t *)a->to = strtoll(value, NULL, 10);
  else if (a->kind == ARG_REAL && is_number) *(double *)a->to = x;
  /* A number that was not given stands in a recipe as 0. */
  else if (a->kind != ARG_INT || strcmp(value, "0") != 0)
    return error_set(err, ERROR_FORMAT, "the recipe's %s \"%s\" is no value of %s", recipe_name(a->shapes), value, a->name);
  return true;
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
  return kit->weights ||
         error_set(err, ERROR_ARGUMENT,
                   "--replay %s: drawn with weights of the SHA-256 %s, which are neither beside it nor among the shipped ones: give --weights",
                   path, digest);
}

bool replay_read(const char *path, const Arg *arg, int n, KitArgs *kit, int64_t *out_sample, Arena *a, Replay *out, Error *err) {
  char *text = find_recipe(path, err);
  JsonField *list;
  int fields;
  if (!text) return false;
  *out = (Replay){path, arena_strdup(a, text)};
  mem_free(text);
  if (!json_read_object(a, out->recipe, &list, &fields, err)) return error_prefix(err, "--replay %s", path);
  for (const Arg *o = arg; o < arg + n; o++) {
    const char *value = o->shapes == RECIPE_NONE ? NULL : text_of(list, fields, o->shapes);
    if (value && !set_option(o, value, err)) return error_prefix(err, "--replay %s", path);
  }
  const char *sample = text_of(list, fields, RECIPE_SAMPLE), *precision = text_of(list, fields, RECIPE_PRECISION);
  if (sample) *out_sample = strtoll(sample, NULL, 10);
  if (precision && !kit->model.precision) kit->model.precision = precision;
  return find_weights(path, list, fields, kit, a, err);
}

static bool is_sample(const char *name) { return strcmp(name, recipe_name(RECIPE_SAMPLE)) == 0; }

bool replay_check(const Replay *r, const Recipe *now, Error *err) {
  JsonDifference d;
  if (!json_compare(now->arena, r->recipe, recipe_print(now, RECIPE_DRAWING), is_sample, &d, err)) return false;
  return !d.name || error_set(err, ERROR_ARGUMENT, "--replay %s: its %s%s is %.200s, here it is %.200s: the bytes would be others", r->file,
                              d.within, d.name, d.theirs, d.ours);
}
