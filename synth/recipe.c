/* See recipe.h. */
#include "synth/recipe.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/base/file.h"
#include "runtime/base/sha256.h"

static const struct {
  const char *name;
  unsigned shapes;
} fields[RECIPE_COUNT] = {
#define X(id, text, what) [RECIPE_##id] = {text, what},
    RECIPE_TABLE(X)
#undef X
};

static void set(Recipe *r, RecipeField f, Buffer *value) { r->value[f] = arena_take_buffer(r->arena, value); }

void recipe_set_text(Recipe *r, RecipeField f, const char *text) {
  Buffer b = {0};
  json_print_text(&b, text);
  set(r, f, &b);
}

void recipe_set_int(Recipe *r, RecipeField f, int64_t n) { r->value[f] = arena_printf(r->arena, "%" PRId64, n); }

void recipe_set_real(Recipe *r, RecipeField f, double x) {
  Buffer b = {0};
  json_print_real(&b, x);
  set(r, f, &b);
}

void recipe_set_digest(Recipe *r, RecipeField f, const void *bytes, size_t n) {
  uint8_t digest[32];
  char hex[65];
  sha256(bytes, n, digest);
  sha256_hex(digest, hex);
  recipe_set_text(r, f, hex);
}

static bool file_digest(const char *path, char hex[65], Error *err) {
  FileMap map;
  uint8_t digest[32];
  if (!file_map(path, &map, err)) return false;
  sha256(map.data, map.len, digest);
  file_unmap(&map);
  sha256_hex(digest, hex);
  return true;
}

bool recipe_set_file(Recipe *r, RecipeField f, const char *path, Error *err) {
  char hex[65];
  if (!file_digest(path, hex, err)) return false;
  recipe_set_text(r, f, hex);
  return true;
}

static void add_option(Buffer *b, const char *name, const char *value) {
  buffer_append(b, b->len ? ", " : "{", b->len ? 2 : 1);
  json_print_text(b, name);
  buffer_append(b, ": ", 2);
  json_print_text(b, value);
}

static void set_list(Recipe *r, RecipeField f, Buffer *b) {
  if (!b->len) buffer_append(b, "{", 1);
  buffer_append(b, "}", 1);
  set(r, f, b);
}

bool recipe_set_files(Recipe *r, RecipeField f, const Define *file, int n, Error *err) {
  Buffer b = {0};
  char hex[65];
  bool ok = true;
  for (int i = 0; ok && i < n; i++)
    if ((ok = file_digest(file[i].value, hex, err))) add_option(&b, file[i].name, hex);
  if (ok && n) set_list(r, f, &b);
  else buffer_done(&b);
  return ok;
}

void recipe_set_options(Recipe *r, RecipeField f, const Options *o) {
  Buffer b = {0};
  for (int i = 0; i < o->n; i++) {
    Buffer value = {0};
    value_print(&o->option[i].value, &value);
    add_option(&b, o->option[i].name, value.data ? value.data : "");
    b.failed |= value.failed;
    buffer_done(&value);
  }
  set_list(r, f, &b);
}

static void set_plan_options(Recipe *r, RecipeField f, const Plan *p) {
  Buffer b = {0};
  size_t prefix = strlen(PLAN_TEXT_OPTION);
  for (int i = 0; i < p->n_text; i++)
    if (strncmp(p->text[i].key, PLAN_TEXT_OPTION, prefix) == 0)
      add_option(&b, p->text[i].key + prefix, p->text[i].value);
  set_list(r, f, &b);
}

void recipe_set_plan_model(Recipe *r, RecipeField source, RecipeField options, const Plan *p) {
  const char *digest = plan_text(p, PLAN_TEXT_SOURCE);
  if (digest) recipe_set_text(r, source, digest);
  set_plan_options(r, options, p);
}

/* The name of the model's main file: where folders lie is no part of a drawing. */
static const char *model_name(const Plan *p) {
  const char *path = plan_text(p, PLAN_TEXT_MODEL), *slash = path ? strrchr(path, '/') : NULL;
  return slash ? slash + 1 : path ? path : "";
}

void recipe_set_plan(Recipe *r, const Plan *p) {
  const char *precision = plan_text(p, PLAN_TEXT_PRECISION);
  recipe_set_text(r, RECIPE_MODEL, model_name(p));
  recipe_set_plan_model(r, RECIPE_SOURCE, RECIPE_OPTIONS, p);
  if (precision) recipe_set_text(r, RECIPE_PRECISION, precision);
  recipe_set_text(r, RECIPE_DEVICE, plan_device_name(p->device));
  if (p->device == PLAN_CUDA) recipe_set_text(r, RECIPE_PRODUCTS, p->n_product ? "cublaslt" : "own");
}

bool recipe_is_told(const char *name) {
  for (int i = 1; i < RECIPE_COUNT; i++)
    if (strcmp(fields[i].name, name) == 0) return fields[i].shapes & RECIPE_TOLD;
  return false;
}

RecipeField recipe_field(const char *name) {
  int i = RECIPE_NONE + 1;
  while (i < RECIPE_COUNT && strcmp(recipe_name((RecipeField)i), name) != 0) i++;
  return (RecipeField)i;
}

const char *recipe_name(RecipeField f) { return fields[f].name; }

const char *recipe_print(const Recipe *r, unsigned shapes) {
  Buffer b = {0};
  for (int i = 1; i < RECIPE_COUNT; i++) {
    if (!r->value[i] || !(fields[i].shapes & shapes)) continue;
    buffer_printf(&b, "%s\"%s\": ", b.len ? ", " : "{", fields[i].name);
    buffer_append(&b, r->value[i], strlen(r->value[i]));
  }
  if (!b.len) buffer_append(&b, "{", 1);
  buffer_append(&b, "}", 1);
  return arena_take_buffer(r->arena, &b);
}

/* ---- pairs ---- */

typedef struct PairCheck {
  const char *trained;
  const Recipe *have;
  Arena *arena;
  Error *err;
  bool ok;
} PairCheck;

static void check_pair(void *ctx) {
  PairCheck *c = ctx;
  JsonField *list;
  int n;
  if (!json_read_object(c->arena, c->trained, &list, &n, c->err)) {
    error_prefix(c->err, "the recipe");
    return;
  }
  for (int i = 1; i < RECIPE_COUNT; i++) {
    const JsonField *f = json_find(list, n, fields[i].name);
    if (!(fields[i].shapes & RECIPE_PAIR) || !f || !c->have->value[i]) continue;
    Buffer value = {0};
    if (f->is_text) json_print_text(&value, f->value);
    else buffer_append(&value, f->value, strlen(f->value));
    const char *want = arena_take_buffer(c->arena, &value);
    if (strcmp(want, c->have->value[i]) == 0) continue;
    error_set(c->err, ERROR_ARGUMENT, "they were trained with %s %s, not %s", fields[i].name, want,
              c->have->value[i]);
    return;
  }
  c->ok = true;
}

bool recipe_check_pair(const char *trained, const Recipe *have, Error *err) {
  if (!trained || *trained != '{') return true;   /* weights from before recipes were JSON */
  PairCheck c = {trained, have, arena_new(), err, false};
  if (!c.arena) return error_set(err, ERROR_MEMORY, "out of memory");
  bool within = arena_protect(c.arena, check_pair, &c, err);
  arena_free(c.arena);
  return within && c.ok;
}
