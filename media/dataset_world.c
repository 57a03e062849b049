/* The training world as a data set: a position is a scene. */
#include <stdlib.h>
#include <string.h>

#include "media/dataset_internal.h"
#include "runtime/base/names.h"
#include "runtime/base/philox.h"

typedef struct WorldData {
  Dataset base;
  World *world;
  const char **name; /* of its things */
} WorldData;

static const World *world_of(const Dataset *d) { return ((const WorldData *)d)->world; }

/* ---- reading ---- */

/* Which frame of a clip is its picture. */
static int frame_of_picture(const World *w, const Scene *s, const DataExample *e) {
  bool any = (world_options(w)->kinds & WORLD_ANY_FRAME) && world_scene_frames(s) > 1;
  uint32_t lot = philox(world_options(w)->seed, (uint32_t)e->number, (uint32_t)e->part << 30 | 0x3fffffff, STREAM_DATA).word[0];
  return any ? (int)(lot % WORLD_FRAMES) : 0;
}

/* A still scene repeats its frame. */
static bool read_frame(const World *w, const Scene *s, int first, int frame, uint8_t *rgb, uint16_t *labels,
                       const DataWant *want, int n, int64_t at, Error *err) {
  int size = world_options(w)->size, height, width;
  Image im = {size, size, rgb};
  world_render(w, s, world_scene_frames(s) > 1 ? first + frame : 0, rgb, labels);
  for (int i = 0; i < n; i++) {
    DataFit fit = want[i].field->fit;
    if ((fit != FIT_PICTURE && fit != FIT_LABELS) || data_want_frames(&want[i], &height, &width) <= frame) continue;
    if (fit == FIT_LABELS)
      data_put_labels(&want[i], at, frame, labels, size, size);
    else if (!data_put_picture(&want[i], at, frame, &im, err))
      return false;
  }
  return true;
}

static bool world_read(const Dataset *d, const DataExample *e, const DataWant *want, int n, int64_t at, Error *err) {
  const World *w = world_of(d);
  Scene s = world_scene(w, e->part, e->number);
  int64_t frames = 0;
  bool has_labels = false;
  for (int i = 0; i < n; i++) {
    DataFit fit = want[i].field->fit;
    int height, width;
    if (fit == FIT_CLASS) ((int32_t *)want[i].out)[at] = s.part[0].thing;
    if (fit != FIT_PICTURE && fit != FIT_LABELS) continue;
    int64_t k = data_want_frames(&want[i], &height, &width);
    if (k > frames) frames = k;
    has_labels |= fit == FIT_LABELS;
  }
  if (!frames) return true;
  size_t pixels = (size_t)world_options(w)->size * (size_t)world_options(w)->size;
  uint8_t *rgb = mem_alloc(pixels * 3);
  uint16_t *labels = has_labels ? mem_alloc(pixels * sizeof *labels) : NULL;
  bool ok = (rgb && (labels || !has_labels)) || error_set(err, ERROR_MEMORY, "a scene: out of memory");
  int first = frames == 1 ? frame_of_picture(w, &s, e) : 0;
  for (int f = 0; ok && f < frames; f++) ok = read_frame(w, &s, first, f, rgb, labels, want, n, at, err);
  mem_free(rgb);
  mem_free(labels);
  return ok;
}

static bool world_read_caption(const Dataset *d, const DataExample *e, Buffer *out, Error *err) {
  char caption[WORLD_CAPTION_BYTES];
  Scene s = world_scene(world_of(d), e->part, e->number);
  buffer_append(out, caption, (size_t)world_caption(world_of(d), &s, caption));
  return true;
}

static void world_key(const Dataset *d, const DataExample *e, Buffer *out) {
  buffer_printf(out, "%06llu", (unsigned long long)e->number);
}

static void world_done(Dataset *d) {
  WorldData *w = (WorldData *)d;
  world_close(w->world);
  mem_free(w->name);
}

static const DatasetKind kind = {world_read, world_read_caption, world_key, NULL, NULL, world_done};

const World *dataset_world(const Dataset *d) { return d->kind == &kind ? world_of(d) : NULL; }

/* ---- opening ---- */

static bool add_fields(Dataset *d, int64_t size, Error *err) {
  return dataset_add_field(d, PORT_IMAGE, FIT_PICTURE, 3, (int64_t[]){size, size, 3}, err) &&
         dataset_add_field(d, PORT_VIDEO, FIT_PICTURE, 4, (int64_t[]){WORLD_FRAMES, size, size, 3}, err) &&
         dataset_add_field(d, PORT_LABELS, FIT_LABELS, 2, (int64_t[]){size, size}, err) &&
         dataset_add_field(d, PORT_LABELS, FIT_LABELS, 3, (int64_t[]){WORLD_FRAMES, size, size}, err) &&
         dataset_add_field(d, PORT_TEXT, FIT_TEXT, 1, (int64_t[]){DATA_ANY}, err) &&
         dataset_add_field(d, PORT_CLASS, FIT_CLASS, 0, (int64_t[]){0}, err);
}

static Dataset *wrap(World *w, Error *err) {
  WorldData *d = mem_alloc(sizeof *d);
  const char **name = mem_alloc((size_t)world_thing_count(w) * sizeof *name);
  if (!d || !name || !add_fields(&d->base, world_options(w)->size, err)) {
    error_set(err, ERROR_MEMORY, "the world: out of memory");
    world_close(w);
    mem_free(name);
    mem_free(d);
    return NULL;
  }
  d->world = w;
  d->name = name;
  d->base.kind = &kind;
  d->base.is_endless = true;
  d->base.n_class = world_thing_count(w);
  for (int i = 0; i < d->base.n_class; i++) name[i] = world_thing_name(w, i);
  d->base.class_name = name;
  world_digest(w, d->base.digest);
  return &d->base;
}

/* ---- options ---- */

static const struct {
  const char *name;
  unsigned kind;
} kinds[] = {{"single", WORLD_SINGLE},
             {"two", WORLD_TWO},
             {"clips", WORLD_CLIPS},
             {"pairs", WORLD_PAIRS},
             {"recolour", WORLD_RECOLOUR},
             {"sized", WORLD_SIZED},
             {"textured", WORLD_TEXTURED},
             {"any_frame", WORLD_ANY_FRAME}};

static bool set_number(const char *name, size_t name_bytes, const char *value, size_t n, WorldOptions *o,
                       Error *err) {
  const struct {
    const char *name;
    int *to, lo, hi;
  } numbers[] = {{"things", &o->things, 0, 65535},
                 {"size", &o->size, 16, 1024},
                 {"thing_min", &o->thing_min, 14, 256},
                 {"thing_max", &o->thing_max, 14, 256},
                 {"jitter", &o->jitter, 0, 64},
                 {"align", &o->align, 1, 64},
                 {"size_step", &o->size_step, 1, 64},
                 {"recolours", &o->recolours, 1, WORLD_RECOLOURS}};
  char text[24], *end;
  bool is_number = n > 0 && n < sizeof text && strspn(value, "0123456789") >= n;
  if (is_number) memcpy(text, value, n), text[n] = 0;
  unsigned long long x = is_number ? strtoull(text, &end, 10) : 0;
  if (name_bytes == 4 && memcmp(name, "seed", 4) == 0) {
    o->seed = x;
    return (is_number && x <= 9000000000000000u) ||
           error_set(err, ERROR_ARGUMENT, "world: seed=%.*s: must be a whole number, at most 9e15", (int)n, value);
  }
  for (int i = 0; i < COUNT_OF(numbers); i++) {
    if (strlen(numbers[i].name) != name_bytes || memcmp(numbers[i].name, name, name_bytes) != 0) continue;
    if (!is_number || x < (unsigned)numbers[i].lo || x > (unsigned)numbers[i].hi)
      return error_set(err, ERROR_ARGUMENT, "world: %s=%.*s: must be a whole number from %d to %d", numbers[i].name,
                       (int)n, value, numbers[i].lo, numbers[i].hi);
    *numbers[i].to = (int)x;
    return true;
  }
  return error_set(err, ERROR_ARGUMENT, "world: \"%.*s\" is none of things, size, thing_min, thing_max, jitter, align, size_step, recolours, seed",
                   (int)name_bytes, name);
}

/* "clips,size=64,things=64"; a kind said k times has the weight k. */
static bool read_options(const char *text, WorldOptions *o, Error *err) {
  unsigned said = 0;
  for (const char *p = text; *text && p;) {
    size_t n = strcspn(p, ","), name = strcspn(p, ",=");
    int k = 0;
    if (name < n) {
      if (!set_number(p, name, p + name + 1, n - name - 1, o, err)) return false;
    } else {
      while (k < COUNT_OF(kinds) && (strlen(kinds[k].name) != n || memcmp(kinds[k].name, p, n) != 0)) k++;
      if (k == COUNT_OF(kinds))
        return error_set(err, ERROR_ARGUMENT,
                         "world: \"%.*s\" is none of single, two, clips, pairs, recolour, sized, textured, and no NAME=NUMBER", (int)n,
                         p);
      if (kinds[k].kind & said && k < WORLD_SCENE_KINDS) o->weight[k]++;
      said |= kinds[k].kind;
    }
    p = p[n] ? p + n + 1 : NULL;
  }
  if (said) o->kinds = said;
  return true;
}

bool dataset_world_options(const char *spec, WorldOptions *out, Error *err) {
  world_options_init(out);
  if (strncmp(spec, "world", 5) != 0 || (spec[5] && spec[5] != ':'))
    return error_set(err, ERROR_ARGUMENT, "%s is no world: world, or world:OPTIONS", spec);
  return read_options(spec[5] ? spec + 6 : "", out, err);
}

Dataset *dataset_open_world(const char *options, const DatasetOptions *data, Error *err) {
  WorldOptions o;
  world_options_init(&o);
  o.names_path = data->names_path;
  o.font_path = data->font_path;
  World *w = read_options(options, &o, err) ? world_open(&o, err) : NULL;
  return w ? wrap(w, err) : NULL;
}
