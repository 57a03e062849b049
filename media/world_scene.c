/* Drawing lots for scenes, and drawing scenes.
 *
 * A scene comes from Philox words alone: key = seed, counter = (index, split and attempt and block, STREAM_DATA), so
 * scenes are made in any order by any thread.  A scene whose pairs are on the wrong side of the held-out rule is
 * drawn again with the next attempt number. */
#include <string.h>

#include "media/world_internal.h"
#include "runtime/base/philox.h"

/* The words of one attempt, handed out one by one. */
typedef struct Lots {
  uint64_t seed;
  uint32_t index, sample;
  int used;
  Philox block;
} Lots;

static uint32_t lots_word(Lots *l) {
  if (l->used % 4 == 0) l->block = philox(l->seed, l->index, l->sample + (uint32_t)(l->used / 4), STREAM_DATA);
  return l->block.word[l->used++ % 4];
}

/* 0..n-1, without the modulo's bias. */
static int lots_below(Lots *l, int n) { return (int)((uint64_t)lots_word(l) * (uint64_t)n >> 32); }

bool world_pair_held_out(const World *w, WorldPair kind, int thing, int value) {
  uint32_t h = w->hashes[thing] >> (8 * (int)kind) & 0xff;
  return ((uint32_t)value + h) % (uint32_t)w->options.held_out == 0;
}

bool world_scene_held_out(const World *w, const Scene *s) {
  for (int i = 0; i < s->n_things; i++) {
    const SceneThing *t = &s->part[i];
    if (world_pair_held_out(w, PAIR_BACKGROUND, t->thing, s->background)) return true;
    if (t->colour >= 0 && world_pair_held_out(w, PAIR_COLOUR, t->thing, t->colour)) return true;
  }
  return s->motion != MOTION_NONE && world_pair_held_out(w, PAIR_MOTION, s->part[0].thing, (int)s->motion - 1);
}

/* "red envelope" is a thing of its own, so neither an envelope nor an "envelope with arrow" is ever recoloured red.
 */
static bool can_recolour(const World *w, int thing, int colour) {
  size_t n = strlen(world_colour_name(colour));
  for (int i = 0; i < w->things; i++) {
    if (strncmp(w->names[i], world_colour_name(colour), n) || w->names[i][n] != ' ') continue;
    const char *rest = w->names[i] + n + 1;
    size_t len = strlen(rest);
    if (!strncmp(rest, w->names[thing], len) && (!w->names[thing][len] || w->names[thing][len] == ' ')) return false;
  }
  return true;
}

static void draw_thing(const World *w, Lots *l, int background, SceneThing *t) {
  const WorldOptions *o = &w->options;
  *t = (SceneThing){.thing = lots_below(l, w->things), .colour = -1, .place = lots_below(l, WORLD_PLACES)};
  int sizes = world_size_count(w);
  t->size = o->thing_min + o->size_step * lots_below(l, sizes);
  t->dx = o->align * lots_below(l, world_jitter_steps(w));
  t->dy = o->align * lots_below(l, world_jitter_steps(w));
  if ((o->kinds & WORLD_RECOLOUR) && lots_below(l, 2)) {
    int colour = world_recolour(w, lots_below(l, world_recolour_count(w)));
    if (colour != background && can_recolour(w, t->thing, colour)) t->colour = colour;
  }
  if ((o->kinds & WORLD_SIZED) && sizes > 1 && lots_below(l, 2)) {
    t->size_word = lots_below(l, 2) ? 1 : -1;
    t->size = t->size_word > 0 ? o->thing_min + o->size_step * (sizes - 1) : o->thing_min;
  }
}

/* Where a moving thing's path spans an axis, its place does not choose on that axis. */
void world_settle_motion(Scene *s) {
  int row = s->part[0].place / 3, column = s->part[0].place % 3;
  switch (s->motion) {
  case MOTION_LEFT:
  case MOTION_RIGHT:
    column = 1;
    break;
  case MOTION_UP:
  case MOTION_DOWN:
    row = 1;
    break;
  case MOTION_DIAGONAL:
    row = column = 1;
    break;
  case MOTION_BOUNCE:
    row = 2;
    break;
  default:
    break;
  }
  s->part[0].place = 3 * row + column;
}

bool world_scene_is_settled(const Scene *s) {
  Scene settled = *s;
  world_settle_motion(&settled);
  return settled.part[0].place == s->part[0].place;
}

/* Two things stand in rows or columns that are not neighbours and are as small as they get. */
static bool settle_pair(const World *w, Scene *s) {
  SceneThing *a = &s->part[0], *b = &s->part[1];
  int rows = a->place / 3 - b->place / 3, columns = a->place % 3 - b->place % 3;
  if (rows * rows < 4 && columns * columns < 4) return false;
  for (int i = 0; i < 2; i++) {
    SceneThing *t = &s->part[i];
    t->size = w->options.thing_min;
    t->size_word = 0;
    /* Towards the border, so that two things of half the picture fit. */
    t->dx = t->place % 3 == 2 ? w->options.jitter : t->place % 3 == 0 ? 0 : t->dx;
    t->dy = t->place / 3 == 2 ? w->options.jitter : t->place / 3 == 0 ? 0 : t->dy;
  }
  return a->thing != b->thing;
}

/* Of two things that stand; of two of which the first moves a path must be free, too. */
static bool is_free(const Scene *s) {
  int columns = s->part[0].place % 3 - s->part[1].place % 3;
  return s->motion != MOTION_BOUNCE || columns * columns == 4;
}

static unsigned draw_kind(const World *w, Lots *l) {
  static const unsigned kinds[WORLD_SCENE_KINDS] = {WORLD_SINGLE, WORLD_TWO, WORLD_CLIPS, WORLD_PAIRS};
  int n = 0, k = 0;
  for (int i = 0; i < WORLD_SCENE_KINDS; i++)
    if (w->options.kinds & kinds[i]) n += w->options.weight[i];
  int lot = lots_below(l, n);
  while (!(w->options.kinds & kinds[k]) || (lot -= w->options.weight[k]) >= 0) k++;
  return kinds[k];
}

static bool draw_scene(const World *w, Lots *l, Scene *s) {
  unsigned kind = draw_kind(w, l);
  *s = (Scene){.n_things = 1, .phrasing = lots_below(l, WORLD_PHRASINGS), .background = lots_below(l, world_background_count(w))};
  draw_thing(w, l, s->background, &s->part[0]);
  if (kind & WORLD_MOVING) {
    s->motion = (Motion)(1 + lots_below(l, MOTION_COUNT - 1));
    world_settle_motion(s);
  }
  if (kind & (WORLD_TWO | WORLD_PAIRS)) {
    draw_thing(w, l, s->background, &s->part[1]);
    s->n_things = 2;
    return settle_pair(w, s) && is_free(s);
  }
  return true;
}

/* With one pair in 2..WORLD_COLOURS held out, every thing has backgrounds on both sides of the rule, so an attempt of
 * either kind succeeds at least one time in a few dozen: 4096 attempts do not fail. */
Scene world_scene(const World *w, WorldSplit split, uint64_t index) {
  Scene s = {0};
  for (uint32_t attempt = 0; attempt < 4096; attempt++) {
    Lots l = {.seed = w->options.seed + (index >> 32) * 0x9e3779b97f4a7c15u, .index = (uint32_t)index};
    l.sample = (uint32_t)split << 30 | attempt << 8;
    if (draw_scene(w, &l, &s) && world_scene_held_out(w, &s) == (split == WORLD_HELD_OUT)) return s;
  }
  BUG("scene %llu of split %d: no attempt fits the held-out rule", (unsigned long long)index, (int)split);
}

int world_scene_frames(const Scene *s) { return s->motion == MOTION_NONE ? 1 : WORLD_FRAMES; }

/* a to b over the frames of a clip, rounded down. */
static int glide(int a, int b, int frame) {
  return (a * (WORLD_FRAMES - 1 - frame) + b * frame) / (WORLD_FRAMES - 1);
}

/* The multiple of options.align that is next to it; of two the greater one. */
static int aligned(const World *w, int x) {
  int align = w->options.align;
  return (x + align / 2) / align * align;
}

void world_box(const World *w, const Scene *s, int part, int frame, int *x, int *y, int *size) {
  static const int height[WORLD_FRAMES] = {0, 12, 16, 12, 0, 12, 16, 12}; /* of a bounce, in sixteenths */
  const SceneThing *t = &s->part[part];
  int align = w->options.align, far = (w->options.size - t->size) / align * align, small = t->size / 2;
  *size = t->size;
  *x = world_axis_position(w, t->size, t->place % 3, t->dx);
  *y = world_axis_position(w, t->size, t->place / 3, t->dy);
  switch (part == 0 ? s->motion : MOTION_NONE) {
  case MOTION_LEFT:
    *x = aligned(w, glide(far, 0, frame));
    break;
  case MOTION_RIGHT:
    *x = aligned(w, glide(0, far, frame));
    break;
  case MOTION_UP:
    *y = aligned(w, glide(far, 0, frame));
    break;
  case MOTION_DOWN:
    *y = aligned(w, glide(0, far, frame));
    break;
  case MOTION_DIAGONAL:
    *x = *y = aligned(w, glide(0, far, frame));
    break;
  case MOTION_GROW:
    *size = glide(small, t->size, frame);
    break;
  case MOTION_SHRINK:
    *size = glide(t->size, small, frame);
    break;
  case MOTION_BOUNCE:
    *y = aligned(w, far - far * height[frame] / 16);
    break;
  default:
    break;
  }
  *x += (t->size - *size) / 2;
  *y += (t->size - *size) / 2;
}

/* Keeps lightness: black stays black, white stays white, what is between takes the colour.  p is premultiplied. */
void world_recolour_pixel(const uint8_t p[3], int alpha, const uint8_t *colour, uint8_t out[3]) {
  int light = (77 * p[0] + 150 * p[1] + 29 * p[2] + 128) >> 8; /* 0..alpha */
  int share = 2 * light <= alpha ? 2 * light : 2 * (alpha - light), white = 2 * light > alpha ? 2 * light - alpha : 0;
  for (int c = 0; c < 3; c++) out[c] = (uint8_t)(colour[c] * share / 255 + white);
}

void world_blend_pixel(const uint8_t *rgb, int alpha, uint8_t *q) {
  for (int c = 0; c < 3; c++) {
    unsigned v = (unsigned)q[c] * (unsigned)(255 - alpha) + 128;
    q[c] = (uint8_t)(rgb[c] + ((v + (v >> 8)) >> 8)); /* v / 255, rounded */
  }
}

const Sprite *world_part_sprite(const World *w, const Scene *s, int part, int frame, int size) {
  const SceneThing *t = &s->part[part];
  if (part != 0 || s->motion != MOTION_TURN) return world_sprite(w, t->thing, size);
  int drawn = (t->size - w->options.thing_min) / w->options.size_step;
  return &w->turned[((size_t)t->thing * (size_t)world_size_count(w) + (size_t)drawn) * TURN_STEPS + (size_t)frame];
}

static void draw_part(const World *w, const Scene *s, int part, int frame, uint8_t *rgb, uint16_t *labels) {
  const SceneThing *t = &s->part[part];
  int x0, y0, size;
  world_box(w, s, part, frame, &x0, &y0, &size);
  const Sprite *sprite = world_part_sprite(w, s, part, frame, size);
  for (int y = 0; y < size; y++) {
    size_t at = (size_t)(y0 + y) * (size_t)w->options.size + (size_t)x0;
    uint8_t *q = rgb + 3 * at;
    for (int x = 0; x < size; x++, q += 3) {
      int k = y * size + x, alpha = sprite->alpha[k];
      uint8_t tinted[3];
      const uint8_t *p = sprite->rgb + 3 * k;
      if (t->colour >= 0) world_recolour_pixel(p, alpha, world_colour_rgb(t->colour), tinted), p = tinted;
      world_blend_pixel(p, alpha, q);
      if (labels && alpha >= 128) labels[at + (size_t)x] = (uint16_t)(1 + t->thing);
    }
  }
}

void world_render(const World *w, const Scene *s, int frame, uint8_t *rgb, uint16_t *labels) {
  size_t pixels = (size_t)w->options.size * (size_t)w->options.size;
  for (int y = 0; y < w->options.size; y++)
    for (int x = 0; x < w->options.size; x++)
      memcpy(rgb + 3 * (y * w->options.size + x), world_background_rgb(s->background, x, y), 3);
  if (labels) memset(labels, 0, pixels * sizeof *labels);
  for (int i = 0; i < s->n_things; i++) draw_part(w, s, i, frame, rgb, labels);
}
