/* Opening a world: options checked, things named, sprites made.  Which scenes there are is world_scene.c's. */
#include "media/world.h"

#include <stdlib.h>
#include <string.h>

#include "media/world_internal.h"
#include "runtime/base/sha256.h"

static const char *const colour_names[] = {
#define X(id, name, r, g, b) name,
    WORLD_COLOUR_TABLE(X)
#undef X
};
static const uint8_t colour_values[][3] = {
#define X(id, name, r, g, b) {r, g, b},
    WORLD_COLOUR_TABLE(X)
#undef X
};
static const char *const texture_names[] = {
#define X(id, name, ...) name,
    WORLD_TEXTURE_TABLE(X)
#undef X
};
static const uint8_t texture_values[][2][3] = {
#define X(id, name, r, g, b, r2, g2, b2) {{r, g, b}, {r2, g2, b2}},
    WORLD_TEXTURE_TABLE(X)
#undef X
};
static const char *const motion_names[] = {
#define X(id, name) name,
    WORLD_MOTION_TABLE(X)
#undef X
};
static const char *const place_names[] = {"top left", "top",         "top right", "left",        "center",
                                          "right",    "bottom left", "bottom",    "bottom right"};

void world_options_init(WorldOptions *o) {
  *o = (WorldOptions){.things = WORLD_DEFAULT_THINGS,
                      .size = 32,
                      .thing_min = 16,
                      .thing_max = 16,
                      .size_step = 2,
                      .recolours = WORLD_RECOLOURS,
                      .jitter = 0,
                      .align = 1,
                      .held_out = 8,
                      .kinds = WORLD_SINGLE,
                      .weight = {1, 1, 1, 1},
                      .seed = 1};
}

const WorldOptions *world_options(const World *w) { return &w->options; }
int world_thing_count(const World *w) { return w->things; }
const char *world_thing_name(const World *w, int thing) { return w->names[thing]; }
const char *world_colour_name(int colour) { return colour_names[colour]; }
const uint8_t *world_colour_rgb(int colour) { return colour_values[colour]; }
int world_background_count(const World *w) {
  return w->options.kinds & WORLD_TEXTURED ? WORLD_BACKGROUNDS : WORLD_COLOURS;
}

const char *world_background_name(int background) {
  return background < WORLD_COLOURS ? colour_names[background] : texture_names[background - WORLD_COLOURS];
}

/* Four stars in each square of 32, of five pixels each. */
static bool is_star(int x, int y) {
  static const int8_t star[4][2] = {{6, 5}, {23, 3}, {14, 18}, {28, 26}};
  for (int i = 0; i < 4; i++)
    if (abs(x % 32 - star[i][0]) + abs(y % 32 - star[i][1]) <= 1) return true;
  return false;
}

const uint8_t *world_background_rgb(int background, int x, int y) {
  if (background < WORLD_COLOURS) return colour_values[background];
  int texture = background - WORLD_COLOURS;
  const bool is_second[WORLD_TEXTURES] = {
      [TEXTURE_STRIPED] = (x + y) % 8 < 4,
      [TEXTURE_CHECKERED] = (x / 8 + y / 8) % 2 == 1,
      [TEXTURE_BRICK] = y % 8 == 7 || (x + y / 8 % 2 * 8) % 16 == 15,
      [TEXTURE_STARRY] = is_star(x, y),
  };
  return texture_values[texture][is_second[texture]];
}

const char *world_place_name(int place) { return place_names[place]; }
const char *world_motion_name(Motion m) { return motion_names[m]; }

int world_size_count(const World *w) { return (w->options.thing_max - w->options.thing_min) / w->options.size_step + 1; }

int world_recolour_count(const World *w) { return w->options.kinds & WORLD_RECOLOUR ? w->options.recolours : 0; }
int world_recolour(const World *w, int i) { return i < 0 ? -1 : i * WORLD_RECOLOURS / w->options.recolours; }

const Sprite *world_sprite(const World *w, int thing, int size) {
  return &w->still[(size_t)thing * (size_t)(w->size_hi - w->size_lo + 1) + (size_t)(size - w->size_lo)];
}

int world_jitter_steps(const World *w) { return w->options.jitter / w->options.align + 1; }

int world_axis_position(const World *w, int size, int cell, int offset) {
  int align = w->options.align;
  return (w->options.size - size - w->options.jitter) * cell / 2 / align * align + offset;
}

static bool check_geometry(const WorldOptions *o, Error *err) {
  if (o->size < 16 || o->size > 1024)
    return error_set(err, ERROR_ARGUMENT, "world: pictures of %d pixels; 16 to 1024 are possible", o->size);
  if (o->thing_min < 14 || o->thing_max < o->thing_min || o->thing_max > 256)
    return error_set(err, ERROR_ARGUMENT, "world: things of %d to %d pixels; at least 14 and at most 256",
                     o->thing_min, o->thing_max);
  if (o->size_step < 1 || (o->thing_max - o->thing_min) % o->size_step != 0)
    return error_set(err, ERROR_ARGUMENT, "world: sizes from %d to %d in steps of %d: the last is missed", o->thing_min, o->thing_max, o->size_step);
  int room = o->size - o->thing_max - o->jitter;
  if (o->jitter < 0 || o->jitter > 64 || room / 2 <= o->jitter)
    return error_set(err, ERROR_ARGUMENT,
                     "world: things of %d pixels and a jitter of %d leave no three places on %d pixels: "
                     "(size - thing - jitter) / 2 must exceed jitter",
                     o->thing_max, o->jitter, o->size);
  if (o->align < 1 || o->align > 64 || o->jitter % o->align != 0)
    return error_set(err, ERROR_ARGUMENT, "world: things at multiples of %d pixels, and a jitter of %d; 1 to 64, and the jitter a multiple of it",
                     o->align, o->jitter);
  if (room / 2 < o->align)
    return error_set(err, ERROR_ARGUMENT, "world: at multiples of %d pixels things of %d have no three places on %d", o->align, o->thing_max, o->size);
  if ((o->kinds & (WORLD_TWO | WORLD_PAIRS)) && 2 * o->thing_min > o->size)
    return error_set(err, ERROR_ARGUMENT, "world: two things of %d pixels do not fit side by side on %d",
                     o->thing_min, o->size);
  return true;
}

static bool check_options(const WorldOptions *o, Error *err) {
  if (!check_geometry(o, err)) return false;
  if (o->held_out < 2 || o->held_out > WORLD_COLOURS)
    return error_set(err, ERROR_ARGUMENT, "world: one pair in %d held out; 2 to %d are possible", o->held_out,
                     WORLD_COLOURS);
  if (!(o->kinds & (WORLD_SINGLE | WORLD_TWO | WORLD_MOVING)) || o->kinds > 255)
    return error_set(err, ERROR_ARGUMENT, "world: kinds %u names no kind of scene", o->kinds);
  if (o->recolours < 1 || o->recolours > WORLD_RECOLOURS)
    return error_set(err, ERROR_ARGUMENT, "world: %d recolours; 1 to %d are possible", o->recolours, WORLD_RECOLOURS);
  for (int k = 0; k < WORLD_SCENE_KINDS; k++)
    if (o->weight[k] < 1 || o->weight[k] > 99)
      return error_set(err, ERROR_ARGUMENT, "world: a kind of weight %d; 1 to 99 are possible", o->weight[k]);
  if (o->things < 0 || o->things == 1)
    return error_set(err, ERROR_ARGUMENT, "world: %d things; 0 (all) or at least 2", o->things);
  return true;
}

/* FNV-1a, and MurmurHash3's last step: names are short, and their low bits are used. */
static uint32_t hash_name(const char *s) {
  uint32_t h = 2166136261u;
  for (; *s; s++) h = (h ^ (uint8_t)*s) * 16777619u;
  h = (h ^ h >> 16) * 0x85ebca6bu;
  h = (h ^ h >> 13) * 0xc2b2ae35u;
  return h ^ h >> 16;
}

/* Every sprite of the world in one block: still ones of every size, and turned ones of the sizes drawn. */
static bool allocate_sprites(World *w, int capacity, Error *err) {
  bool clips = (w->options.kinds & WORLD_MOVING) != 0;
  w->size_lo = clips ? w->options.thing_min / 2 : w->options.thing_min;
  w->size_hi = w->options.thing_max;
  size_t n = (size_t)capacity, sizes = (size_t)(w->size_hi - w->size_lo + 1), per_thing = 0;
  for (int s = w->size_lo; s <= w->size_hi; s++) per_thing += (size_t)(s * s);
  for (int s = w->options.thing_min; clips && s <= w->size_hi; s += w->options.size_step)
    per_thing += (size_t)(s * s * TURN_STEPS);
  w->names = mem_alloc(n * sizeof *w->names);
  w->hashes = mem_alloc(n * sizeof *w->hashes);
  w->still = mem_alloc(n * sizes * sizeof(Sprite));
  w->turned = clips ? mem_alloc(n * (size_t)world_size_count(w) * TURN_STEPS * sizeof(Sprite)) : NULL;
  w->pixel_bytes = n * per_thing * 4;
  w->pixels = mem_alloc(w->pixel_bytes);
  return (w->names && w->hashes && w->still && (w->turned || !clips) && w->pixels) ||
         error_set(err, ERROR_MEMORY, "a world of %d things: out of memory", capacity);
}

static Sprite sprite_take(uint8_t **at, int size) {
  Sprite s = {*at, *at + 3 * size * size};
  *at += 4 * size * size;
  return s;
}

/* Draws all sprites of a new thing and returns the pixels still free. */
static uint8_t *add_thing(World *w, const ThingName *t, const GlyphBitmap *g, uint8_t *free_pixels) {
  int i = w->things++;
  memcpy(w->names[i], t->name, sizeof t->name);
  w->hashes[i] = hash_name(t->name);
  for (int s = w->size_lo; s <= w->size_hi; s++) {
    Sprite *sprite = (Sprite *)world_sprite(w, i, s);
    *sprite = sprite_take(&free_pixels, s);
    sprite_draw(g, s, sprite);
  }
  for (int k = 0; w->turned && k < world_size_count(w) * TURN_STEPS; k++) {
    int size = w->options.thing_min + k / TURN_STEPS * w->options.size_step;
    Sprite *sprite = &w->turned[(size_t)i * (size_t)world_size_count(w) * TURN_STEPS + (size_t)k];
    *sprite = sprite_take(&free_pixels, size);
    sprite_draw_turned(g, size, k % TURN_STEPS, sprite);
  }
  return free_pixels;
}

/* The first `limit` names the font can show.  A name of the fixed order that it cannot show is an error: leaving it
 * out would shift the meaning of all things after it. */
static bool load_things(World *w, const ThingName *list, int n, int fixed, int limit, Error *err) {
  EmojiFont *font = emoji_font_open(w->options.font_path, err);
  if (!font) return error_prefix(err, "the world's pictures");
  bool ok = true;
  uint8_t *free_pixels = w->pixels;
  for (int i = 0; ok && i < n && w->things < limit; i++) {
    GlyphBitmap g;
    bool found;
    ok = emoji_font_glyph(font, list[i].code, &g, &found, err);
    if (!ok) break;
    if (found) {
      free_pixels = add_thing(w, &list[i], &g, free_pixels);
      mem_free(g.rgba);
    } else if (i < fixed) {
      ok = error_set(err, ERROR_FORMAT, "the emoji font has no colour bitmap of \"%s\" (U+%04X)", list[i].name,
                     (unsigned)list[i].code);
    }
  }
  emoji_font_close(font);
  if (ok && w->things < w->options.things)
    ok = error_set(err, ERROR_ARGUMENT, "a world of %d things: there are only %d", w->options.things, w->things);
  return ok;
}

World *world_open(const WorldOptions *o, Error *err) {
  if (!check_options(o, err)) return NULL;
  World *w = mem_alloc(sizeof *w);
  if (!w) {
    error_set(err, ERROR_MEMORY, "opening a world: out of memory");
    return NULL;
  }
  w->options = *o;
  ThingName *list = NULL;
  int n = 0, fixed = 0;
  bool ok = things_read(o->names_path, &list, &n, &fixed, err);
  int limit = o->things && o->things < n ? o->things : n;
  ok = ok && allocate_sprites(w, limit, err) && load_things(w, list, n, fixed, limit, err);
  mem_free(list);
  w->options.names_path = w->options.font_path = NULL; /* the caller's; not ours to keep */
  if (ok) return w;
  world_close(w);
  return NULL;
}

void world_close(World *w) {
  if (!w) return;
  mem_free(w->names);
  mem_free(w->hashes);
  mem_free(w->still);
  mem_free(w->turned);
  mem_free(w->pixels);
  mem_free(w);
}

void world_digest(const World *w, char out[65]) {
  const WorldOptions *o = &w->options;
  Sha256 h;
  uint8_t digest[32];
  char numbers[200];
  int n = snprintf(numbers, sizeof numbers, "world %d %d %d %d %d %d %u %llu", w->things, o->size, o->thing_min,
                   o->thing_max, o->jitter, o->held_out, o->kinds, (unsigned long long)o->seed);
  sha256_init(&h);
  sha256_update(&h, numbers, (size_t)n);
  for (int k = 0; k < WORLD_SCENE_KINDS; k++)
    if (o->weight[k] != 1) sha256_update(&h, (int[2]){k, o->weight[k]}, sizeof(int[2]));
  const int more[3][2] = {{o->align, 1}, {o->size_step, 2}, {o->recolours, WORLD_RECOLOURS}};
  for (int k = 0; k < COUNT_OF(more); k++)
    if (more[k][0] != more[k][1]) sha256_update(&h, (int[2]){WORLD_SCENE_KINDS + k, more[k][0]}, sizeof(int[2]));
  for (int i = 0; i < w->things; i++) sha256_update(&h, w->names[i], strlen(w->names[i]) + 1);
  sha256_update(&h, w->pixels, w->pixel_bytes);
  sha256_done(&h, digest);
  sha256_hex(digest, out);
}
