/* The training world: scenes of emoji on coloured backgrounds, their captions, and what each pixel shows.
 *
 * Things are the concrete emoji of Unicode's emoji-test.txt (animals, food, travel, activities, objects) with the
 * colour bitmaps of NotoColorEmoji.ttf.  A scene is a struct of slots; scene `index` of a split is a function of
 * (seed, split, index) and of nothing else, so there is no running stream and any scene can be made again.
 * A World never changes after world_open: any number of threads may use it. */
#ifndef NUWA_WORLD_H
#define NUWA_WORLD_H

#include <stdint.h>

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

/* Colours of backgrounds; the first RECOLOURS of them are also what a thing can be recoloured to.  Mid-grey is not
 * among them: it is what the unknown part of a picture is painted with. */
#define WORLD_COLOUR_TABLE(X)                                                                                        \
  X(RED, "red", 180, 25, 35)                                                                                         \
  X(ORANGE, "orange", 230, 115, 20)                                                                                  \
  X(YELLOW, "yellow", 250, 225, 60)                                                                                  \
  X(GREEN, "green", 25, 125, 60)                                                                                     \
  X(CYAN, "cyan", 70, 205, 215)                                                                                      \
  X(BLUE, "blue", 30, 55, 175)                                                                                       \
  X(PURPLE, "purple", 130, 50, 150)                                                                                  \
  X(PINK, "pink", 245, 150, 200)                                                                                     \
  X(WHITE, "white", 245, 245, 245)                                                                                   \
  X(BLACK, "black", 20, 20, 24)

/* Backgrounds with a texture, of two colours each: what a world of WORLD_TEXTURED has behind the plain colours. */
#define WORLD_TEXTURE_TABLE(X)                                                                                       \
  X(STRIPED, "striped", 205, 225, 235, 110, 150, 190)                                                                \
  X(CHECKERED, "checkered", 225, 215, 190, 150, 110, 70)                                                             \
  X(BRICK, "brick", 160, 75, 55, 215, 205, 195)                                                                      \
  X(STARRY, "starry", 25, 30, 80, 255, 240, 170)

#define WORLD_MOTION_TABLE(X)                                                                                        \
  X(NONE, "")                                                                                                        \
  X(LEFT, "moving left")                                                                                             \
  X(RIGHT, "moving right")                                                                                           \
  X(UP, "moving up")                                                                                                 \
  X(DOWN, "moving down")                                                                                             \
  X(DIAGONAL, "moving diagonally")                                                                                   \
  X(GROW, "growing")                                                                                                 \
  X(SHRINK, "shrinking")                                                                                             \
  X(BOUNCE, "bouncing")                                                                                              \
  X(TURN, "turning")

enum {
#define X(id, ...) COLOUR_##id,
  WORLD_COLOUR_TABLE(X)
#undef X
      WORLD_COLOURS,
  WORLD_RECOLOURS = COLOUR_WHITE,
  WORLD_PLACES = 9, /* three rows of three; place = 3 * row + column */
  WORLD_FRAMES = 8, /* of a clip */
  WORLD_PHRASINGS = 4,
  WORLD_CAPTION_BYTES = 256, /* room for any caption and its NUL */
  WORLD_DEFAULT_THINGS = 64,
  WORLD_SCENE_KINDS = 4,
};

enum {
#define X(id, ...) TEXTURE_##id,
  WORLD_TEXTURE_TABLE(X)
#undef X
      WORLD_TEXTURES,
  WORLD_BACKGROUNDS = WORLD_COLOURS + WORLD_TEXTURES, /* at most; background WORLD_COLOURS + t has texture t */
};

typedef enum Motion {
#define X(id, ...) MOTION_##id,
  WORLD_MOTION_TABLE(X)
#undef X
      MOTION_COUNT
} Motion;

/* What scenes there are (with chances as their weights, but a draw whose things would touch is drawn again), and slots
 * that half of them use. */
enum {
  WORLD_SINGLE = 1,   /* one thing, one frame */
  WORLD_TWO = 2,      /* two things that do not touch, one frame */
  WORLD_CLIPS = 4,    /* one thing that moves, WORLD_FRAMES frames */
  WORLD_RECOLOUR = 8, /* "a blue apple" */
  WORLD_SIZED = 16,   /* "a little apple", "a big apple" */
  WORLD_TEXTURED = 32, /* "a striped background" among the others */
  WORLD_PAIRS = 64,    /* a kind of scene: two things that do not touch, of which the first moves, WORLD_FRAMES frames */
  WORLD_ANY_FRAME = 128, /* as data: pictures of clips are any of their frames, not the first */
  WORLD_MOVING = WORLD_CLIPS | WORLD_PAIRS,
};

typedef struct WorldOptions {
  int things;               /* the first n of the fixed order of media/things.def; 0 = all there are */
  int size;                 /* of a picture, in pixels */
  int thing_min, thing_max; /* longer side of a thing, in pixels; between them in steps of */
  int size_step;            /* so many (2) */
  int recolours;            /* colours a thing can have beside its own, 1..WORLD_RECOLOURS, evenly among these */
  int jitter;               /* a thing stands 0..jitter pixels off on each axis; a multiple of align */
  int align;                /* things stand and move at multiples of so many pixels: where codes of pictures begin */
  int held_out;             /* one pair in this many is held out, 2..WORLD_COLOURS */
  unsigned kinds;           /* WORLD_SINGLE | ... */
  int weight[WORLD_SCENE_KINDS]; /* of the kinds single, two, clips, pairs that are there: 1..99 */
  uint64_t seed;
  const char *names_path; /* emoji-test.txt; NULL: Debian's place */
  const char *font_path;  /* NotoColorEmoji.ttf; NULL: looked for under /usr/share/fonts */
} WorldOptions;

/* 64 things of 16 pixels in 32 x 32, without jitter, one pair in 8 held out, single things, seed 1. */
void world_options_init(WorldOptions *o);

typedef struct World World;
World *world_open(const WorldOptions *o, Error *err);
void world_close(World *w);
const WorldOptions *world_options(const World *w);
int world_thing_count(const World *w);
const char *world_thing_name(const World *w, int thing);
const char *world_colour_name(int colour);
const uint8_t *world_colour_rgb(int colour);
int world_recolour_count(const World *w); /* 0 without WORLD_RECOLOUR */
int world_recolour(const World *w, int i); /* the colour of i in 0..count-1; -1 of -1 */
int world_background_count(const World *w);
const char *world_background_name(int background);
const uint8_t *world_background_rgb(int background, int x, int y); /* of a pixel */
const char *world_place_name(int place);
const char *world_motion_name(Motion m); /* "" for none */

typedef struct SceneThing {
  int thing;
  int colour;    /* it is recoloured to; -1: its own colours */
  int size_word; /* -1 "little", 1 "big", 0 unsaid */
  int place;
  int size;   /* pixels */
  int dx, dy; /* 0..jitter, multiples of align */
} SceneThing;

typedef struct Scene {
  int n_things; /* 1 or 2 */
  SceneThing part[2];
  int background; /* a colour, or WORLD_COLOURS + a texture */
  Motion motion;  /* of part[0] */
  int phrasing;  /* 0..WORLD_PHRASINGS-1 */
} Scene;

typedef enum WorldSplit { WORLD_TRAIN, WORLD_VALIDATION, WORLD_HELD_OUT } WorldSplit;

/* Scene `index` of a split.  Training and validation scenes (other draws of the same kind) never hold a held-out
 * pair; held-out scenes always do. */
Scene world_scene(const World *w, WorldSplit split, uint64_t index);
static inline Scene world_held_out_scene(const World *w, uint64_t index) {
  return world_scene(w, WORLD_HELD_OUT, index);
}

/* The pairs kept from training: (thing, background), (thing, motion), (thing, recolouring).  Pair (t, v) is held out
 * iff v + hash(name of t, kind of pair) is a multiple of options.held_out, so that every thing loses some values and
 * keeps most, and the set depends neither on the seed nor on the number of things. */
typedef enum WorldPair { PAIR_BACKGROUND, PAIR_MOTION, PAIR_COLOUR } WorldPair;
bool world_pair_held_out(const World *w, WorldPair kind, int thing, int value);
bool world_scene_held_out(const World *w, const Scene *s); /* any of its pairs */

/* SHA-256, in hexadecimal, of all that scenes are made from: things, their pictures, and the options. */
void world_digest(const World *w, char out[65]);

/* Whether its place chooses on the axes that its motion leaves open alone, as drawn scenes' places do. */
bool world_scene_is_settled(const Scene *s);
int world_scene_frames(const Scene *s);
/* Frame 0..frames-1: rgb [size, size, 3]; labels [size, size] (may be NULL): 0 background, 1 + thing where that
 * covers at least half of the pixel. */
void world_render(const World *w, const Scene *s, int frame, uint8_t *rgb, uint16_t *labels);
/* Where part[i] is in that frame: *x, *y its upper left pixel, *size its side.  Always inside the picture. */
void world_box(const World *w, const Scene *s, int part, int frame, int *x, int *y, int *size);

/* Writes the caption and returns its length; `out` has room for WORLD_CAPTION_BYTES. */
int world_caption(const World *w, const Scene *s, char *out);

/* All words that captions of these options have, sorted, with spaces between; appended. */
void world_words(const World *w, Buffer *out);

/* Reads a caption of the grammar (world_caption.c states it) back into slots; case, commas and a final full stop do
 * not matter.  What a caption does not say is filled in with thing_min and the middle dx and dy. */
bool world_parse_caption(const World *w, const char *text, Scene *out, Error *err);

#endif
