/* With a the cover (0..1) and P the premultiplied colour of a sprite, a rendering is B + Q inside the sprite's
 * square, Q = P - a B, and B elsewhere.  For D = X - B its squared distance from the picture X is sum D^2 - 2 sum D Q
 * + sum Q^2 and sum D Q splits into sum X P and sum a X, which do not know the background, and sums of the sprite
 * alone.  So the pixels are read once per thing, size and position, and the backgrounds cost a few operations each.
 */
#include "media/judge.h"

#include <string.h>

#include "media/world_internal.h"

/* Sums over one sprite, a channel each. */
typedef struct SpriteSums {
  double p[3], pp, ap[3], a, aa;
} SpriteSums;

struct Judge {
  const World *world;
  int size, sizes, things;
  int16_t *planes;  /* [4, thing_max, thing_max] of each sprite, rows packed: R, G, B, alpha */
  size_t *plane_at; /* [things, sizes] into planes */
  SpriteSums *sums; /* [things, sizes] */
  int16_t *picture; /* [3, size, size] */
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

Judge *judge_new(const World *w, Error *err) {
  Judge *j = mem_alloc(sizeof *j);
  if (j) {
    *j = (Judge){
        .world = w, .size = world_options(w)->size, .sizes = world_size_count(w), .things = world_thing_count(w)};
    size_t n = (size_t)j->things * (size_t)j->sizes, side = (size_t)world_options(w)->thing_max;
    j->planes = mem_alloc(n * side * side * 4 * sizeof *j->planes);
    j->plane_at = mem_alloc(n * sizeof *j->plane_at);
    j->sums = mem_alloc(n * sizeof *j->sums);
    j->picture = mem_alloc(3 * (size_t)j->size * (size_t)j->size * sizeof *j->picture);
  }
  if (!j || !j->planes || !j->plane_at || !j->sums || !j->picture) {
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
  return j;
}

void judge_free(Judge *j) {
  if (!j) return;
  mem_free(j->planes);
  mem_free(j->plane_at);
  mem_free(j->sums);
  mem_free(j->picture);
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

/* Adds to *best every background behind one sprite at one position; ground[c] is sum (X - B)^2 over the picture. */
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

static void try_positions(const Judge *j, int sprite, const double *ground, Judgement *best) {
  Judgement at = {.thing = sprite / j->sizes, .size = size_of(j, sprite % j->sizes)};
  const int16_t *plane = j->planes + j->plane_at[sprite];
  int jitter = world_options(j->world)->jitter, square = at.size * at.size, area = j->size * j->size;
  for (at.place = 0; at.place < WORLD_PLACES; at.place++)
    for (at.dy = 0; at.dy <= jitter; at.dy++)
      for (at.dx = 0; at.dx <= jitter; at.dx++) {
        int x = world_axis_position(j->world, at.size, at.place % 3, at.dx);
        int y = world_axis_position(j->world, at.size, at.place / 3, at.dy);
        const int16_t *corner = j->picture + y * j->size + x;
        double xp = 0, ax[3];
        for (int c = 0; c < 3; c++) {
          xp += (double)dot_square(plane + c * square, corner + c * area, j->size, at.size);
          ax[c] = (double)dot_square(plane + 3 * square, corner + c * area, j->size, at.size) / 255.0;
        }
        try_backgrounds(&j->sums[sprite], xp, ax, ground, &at, best);
      }
}

Judgement judge_picture(Judge *j, const uint8_t *rgb) {
  int area = j->size * j->size;
  double ground[WORLD_COLOURS] = {0};
  for (int i = 0; i < area; i++)
    for (int c = 0; c < 3; c++) {
      j->picture[c * area + i] = rgb[3 * i + c];
      for (int b = 0; b < WORLD_COLOURS; b++) {
        double d = rgb[3 * i + c] - world_colour_rgb(b)[c];
        ground[b] += d * d;
      }
    }
  Judgement best = {.error = 1e300};
  for (int s = 0; s < j->things * j->sizes; s++) try_positions(j, s, ground, &best);
  best.error = best.error > 0 ? best.error / (3.0 * area) : 0;
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
