/* What the files of the world share; nobody else but the judge includes it. */
#ifndef NUWA_WORLD_INTERNAL_H
#define NUWA_WORLD_INTERNAL_H

#include "media/world.h"
#include "runtime/base/memory.h"

enum { THING_NAME_BYTES = 64, TURN_STEPS = WORLD_FRAMES };

/* An emoji of the names file. */
typedef struct ThingName {
  uint32_t code;
  char name[THING_NAME_BYTES]; /* lower case */
} ThingName;

/* The names file in the world's order: media/things.def, then names of at most two words, then the rest, each in
 * file order.  *out (mem_free) and *out_count; *out_fixed says how many come from things.def. */
bool things_read(const char *path, ThingName **out, int *out_count, int *out_fixed, Error *err);

/* The colour bitmap of a glyph: premultiplied RGBA, only its non-transparent box. */
typedef struct GlyphBitmap {
  int width, height;
  uint8_t *rgba; /* [height, width, 4], owned */
} GlyphBitmap;
typedef struct EmojiFont EmojiFont;
EmojiFont *emoji_font_open(const char *path, Error *err); /* NULL path: search */
void emoji_font_close(EmojiFont *f);
/* *out_found is false (and true returned) when the font has no colour bitmap for the code point. */
bool emoji_font_glyph(EmojiFont *f, uint32_t code, GlyphBitmap *out, bool *out_found, Error *err);

/* A thing at one size: size x size pixels, premultiplied. */
typedef struct Sprite {
  uint8_t *rgb;   /* [size, size, 3] */
  uint8_t *alpha; /* [size, size] */
} Sprite;
/* The glyph's longer side becomes `size` pixels, centred; area average. */
void sprite_draw(const GlyphBitmap *g, int size, Sprite *out);
/* Turned by step * 45 degrees clockwise, so small that no step leaves the square. */
void sprite_draw_turned(const GlyphBitmap *g, int size, int step, Sprite *out);

struct World {
  WorldOptions options;
  int things;
  char (*names)[THING_NAME_BYTES]; /* [things] */
  uint32_t *hashes;                /* [things], of the names */
  int size_lo, size_hi;            /* sizes there are sprites of */
  Sprite *still;                   /* [things, size_hi - size_lo + 1] */
  Sprite *turned;                  /* [things, drawn sizes, TURN_STEPS]; NULL without clips */
  uint8_t *pixels;                 /* of all sprites */
  size_t pixel_bytes;
};

int world_size_count(const World *w); /* sizes things are drawn in */
const Sprite *world_sprite(const World *w, int thing, int size);
/* What is drawn of part[part] in a frame, of the size that its box has there. */
const Sprite *world_part_sprite(const World *w, const Scene *s, int part, int frame, int size);
/* A premultiplied pixel in another colour, and one laid on q. */
void world_recolour_pixel(const uint8_t p[3], int alpha, const uint8_t *colour, uint8_t out[3]);
void world_blend_pixel(const uint8_t *rgb, int alpha, uint8_t *q);
/* Where a moving thing's path spans an axis, its place is the middle there (of a bounce the bottom). */
void world_settle_motion(Scene *s);
int world_jitter_steps(const World *w); /* offsets there are on an axis, of options.align pixels each */
/* First pixel on one axis of a thing in cell 0..2. */
int world_axis_position(const World *w, int size, int cell, int offset);

#endif
