/* With a the cover (0..1) and P the premultiplied colour of a sprite, a rendering is B + Q inside the sprite's
 * square, Q = P - a B, and B elsewhere.  For D = X - B its squared distance from the picture X is sum D^2 - 2 sum D Q
 * + sum Q^2 and sum D Q splits into sum X P and sum a X, which do not know the background, and sums of the sprite
 * alone.  So the pixels are read once per thing, size and position, and the backgrounds cost a few operations each.
 * With a texture B depends on the place: sum a X B is read too, and what X is not part of is kept from the start. */
#include "media/judge.h"

#include <string.h>

#include "media/world_internal.h"

/* Sums over one sprite, a channel each. */
typedef struct SpriteSums {
  double p[3], pp, ap[3], a, aa;
} SpriteSums;

struct Judge {
  const World *world;
  int size, sizes, things, textures, positions; /* positions: places and jitters of a sprite */
  int16_t *planes;  /* [4, thing_max, thing_max] of each sprite, rows packed: R, G, B, alpha */
  size_t *plane_at; /* [things, sizes] into planes */
  SpriteSums *sums; /* [things, sizes] */
  int16_t *picture; /* [3, size, size] */
  int32_t *woven;   /* [textures, size, size], sum over channels of X B */
  double *rest;     /* [textures, things, sizes, positions]: sum Q^2 + 2 sum B Q */
};

static void read_sprite(const Sprite *s, int pixels, int16_t *plane, SpriteSums *sums) {
  for (int i = 0; i < pixels; i++) {
    double a = s->alpha[i] / 255.0;
    plane[3 * pixels + i] = s->alpha[i];
    sums->a += a;
    sums->aa += a * a;
    for (int c = 0; c < 3; c++) {
      double p = s->rgb[3 * i + c];
      plane[c * pixels + i] = s->rgb[3 * i + c];
      sums->p[c] += p;
      sums->pp += p * p;
      sums->ap[c] += a * p;
    }
  }
}

static int size_of(const Judge *j, int k) { return world_options(j->world)->thing_min + k * WORLD_SIZE_STEP; }

/* Where position k of a sprite of a size is: its place and jitter, and its first pixel. */
static Judgement position_of(const Judge *j, int size, int k, int *x, int *y) {
  int steps = world_options(j->world)->jitter + 1;
  Judgement at = {.size = size, .place = k / (steps * steps), .dy = k / steps % steps, .dx = k % steps};
  *x = world_axis_position(j->world, size, at.place % 3, at.dx);
  *y = world_axis_position(j->world, size, at.place / 3, at.dy);
  return at;
}

/* Of a sprite whose first pixel is (x, y), on a background. */
static double rest_of(const int16_t *plane, int size, int background, int x, int y) {
  int area = size * size;
  double sum = 0;
  for (int i = 0; i < area; i++) {
    const uint8_t *b = world_background_rgb(background, x + i % size, y + i / size);
    double a = plane[3 * area + i] / 255.0;
    for (int c = 0; c < 3; c++) {
      double q = plane[c * area + i] - a * b[c];
      sum += q * q + 2 * b[c] * q;
    }
  }
  return sum;
}

static void fill_rest(Judge *j) {
  double *to = j->rest;
  for (int t = 0; t < j->textures; t++)
    for (int s = 0; s < j->things * j->sizes; s++)
      for (int k = 0, x, y, size = size_of(j, s % j->sizes); k < j->positions; k++) {
        position_of(j, size, k, &x, &y);
        *to++ = rest_of(j->planes + j->plane_at[s], size, WORLD_COLOURS + t, x, y);
      }
}

Judge *judge_new(const World *w, Error *err) {
  Judge *j = mem_alloc(sizeof *j);
  if (j) {
    int steps = world_options(w)->jitter + 1;
    *j = (Judge){.world = w,
                 .size = world_options(w)->size,
                 .sizes = world_size_count(w),
                 .things = world_thing_count(w),
                 .textures = world_background_count(w) - WORLD_COLOURS,
                 .positions = WORLD_PLACES * steps * steps};
    size_t n = (size_t)j->things * (size_t)j->sizes, side = (size_t)world_options(w)->thing_max;
    j->woven = mem_alloc((size_t)j->textures * (size_t)j->size * (size_t)j->size * sizeof *j->woven + 1);
    j->rest = mem_alloc((size_t)j->textures * n * (size_t)j->positions * sizeof *j->rest + 1);
    j->planes = mem_alloc(n * side * side * 4 * sizeof *j->planes);
    j->plane_at = mem_alloc(n * sizeof *j->plane_at);
    j->sums = mem_alloc(n * sizeof *j->sums);
    j->picture = mem_alloc(3 * (size_t)j->size * (size_t)j->size * sizeof *j->picture);
  }
  if (!j || !j->planes || !j->plane_at || !j->sums || !j->picture || !j->woven || !j->rest) {
    error_set(err, ERROR_MEMORY, "a judge of %d things: out of memory", world_thing_count(w));
    judge_free(j);
    return NULL;
  }
  size_t at = 0;
  for (int i = 0; i < j->things * j->sizes; i++) {
    int size = size_of(j, i % j->sizes);
    j->plane_at[i] = at;
    read_sprite(world_sprite(w, i / j->sizes, size), size * size, j->planes + at, &j->sums[i]);
    at += (size_t)(4 * size * size);
  }
  fill_rest(j);
  return j;
}

void judge_free(Judge *j) {
  if (!j) return;
  mem_free(j->planes);
  mem_free(j->plane_at);
  mem_free(j->sums);
  mem_free(j->picture);
  mem_free(j->woven);
  mem_free(j->rest);
  mem_free(j);
}

/* sum a b over a square of `size`; exact in 32 bits up to 181 pixels a side, in 64 beyond. */
static int64_t dot_square(const int16_t *a, const int16_t *b, int b_stride, int size) {
  int64_t sum = 0;
  for (int y = 0; y < size; y++, a += size, b += b_stride) {
    int32_t row = 0;
    for (int x = 0; x < size; x++) row += a[x] * b[x];
    sum += row;
  }
  return sum;
}

static int64_t dot_woven(const int16_t *a, const int32_t *b, int b_stride, int size) {
  int64_t sum = 0;
  for (int y = 0; y < size; y++, a += size, b += b_stride)
    for (int x = 0; x < size; x++) sum += (int64_t)a[x] * b[x];
  return sum;
}

/* Adds to *best every plain background behind one sprite at one position; ground[c] is sum (X - B)^2 over the picture. */
static void try_backgrounds(const SpriteSums *s, double xp, const double ax[3], const double *ground,
                            const Judgement *at, Judgement *best) {
  for (int b = 0; b < WORLD_COLOURS; b++) {
    const uint8_t *colour = world_colour_rgb(b);
    double dq = xp, qq = s->pp;
    for (int c = 0; c < 3; c++) {
      double v = colour[c];
      dq += v * v * s->a - v * s->p[c] - v * ax[c];
      qq += v * v * s->aa - 2 * v * s->ap[c];
    }
    double error = ground[b] - 2 * dq + qq;
    if (error >= best->error) continue;
    *best = *at;
    best->background = b;
    best->error = error;
  }
}

/* The same of textures; corner: the sprite's first pixel. */
static void try_textures(const Judge *j, int sprite, int k, int corner, double xp, const double *ground, const Judgement *at,
                         Judgement *best) {
  const int16_t *alpha = j->planes + j->plane_at[sprite] + 3 * at->size * at->size;
  for (int t = 0; t < j->textures; t++) {
    double axb = (double)dot_woven(alpha, j->woven + t * j->size * j->size + corner, j->size, at->size) / 255.0;
    size_t rest = (size_t)(t * j->things * j->sizes + sprite) * (size_t)j->positions + (size_t)k;
    double error = ground[WORLD_COLOURS + t] - 2 * (xp - axb) + j->rest[rest];
    if (error >= best->error) continue;
    *best = *at;
    best->background = WORLD_COLOURS + t;
    best->error = error;
  }
}

static void try_positions(const Judge *j, int sprite, const double *ground, Judgement *best) {
  const int16_t *plane = j->planes + j->plane_at[sprite];
  int size = size_of(j, sprite % j->sizes), square = size * size, area = j->size * j->size;
  for (int k = 0, x, y; k < j->positions; k++) {
    Judgement at = position_of(j, size, k, &x, &y);
    at.thing = sprite / j->sizes;
    const int16_t *corner = j->picture + y * j->size + x;
    double xp = 0, ax[3];
    for (int c = 0; c < 3; c++) {
      xp += (double)dot_square(plane + c * square, corner + c * area, j->size, size);
      ax[c] = (double)dot_square(plane + 3 * square, corner + c * area, j->size, size) / 255.0;
    }
    try_backgrounds(&j->sums[sprite], xp, ax, ground, &at, best);
    try_textures(j, sprite, k, y * j->size + x, xp, ground, &at, best);
  }
}

/* Reads a picture; ground: its squared distance from each background. */
static void read_picture(Judge *j, const uint8_t *rgb, double ground[WORLD_BACKGROUNDS]) {
  int area = j->size * j->size, backgrounds = WORLD_COLOURS + j->textures;
  memset(j->woven, 0, (size_t)(j->textures * area) * sizeof *j->woven);
  for (int i = 0; i < area; i++)
    for (int b = 0; b < backgrounds; b++) {
      const uint8_t *colour = world_background_rgb(b, i % j->size, i / j->size);
      for (int c = 0; c < 3; c++) {
        int x = rgb[3 * i + c];
        j->picture[c * area + i] = (int16_t)x;
        ground[b] += (double)((x - colour[c]) * (x - colour[c]));
        if (b >= WORLD_COLOURS) j->woven[(b - WORLD_COLOURS) * area + i] += x * colour[c];
      }
    }
}

Judgement judge_picture(Judge *j, const uint8_t *rgb) {
  double ground[WORLD_BACKGROUNDS] = {0};
  read_picture(j, rgb, ground);
  Judgement best = {.error = 1e300};
  for (int s = 0; s < j->things * j->sizes; s++) try_positions(j, s, ground, &best);
  best.error = best.error > 0 ? best.error / (3.0 * j->size * j->size) : 0;
  return best;
}

void judge_count(const Judgement *got, const Scene *want, SlotScore *score) {
  bool thing = got->thing == want->part[0].thing, place = got->place == want->part[0].place;
  bool background = got->background == want->background;
  score->n++;
  score->thing += thing;
  score->place += place;
  score->background += background;
  score->all += thing && place && background;
}
