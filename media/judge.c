/* Least squares among renderings.  With B a background and R a rendering on it, R = B outside of the thing's box, so
 * that the squared distance of R from the pixels X is that of B plus, over the box, (X - R)^2 - (X - B)^2. */
#include "media/judge.h"

#include <stdlib.h>
#include <string.h>

#include "media/world_internal.h"

enum {
  LIKE = 48,        /* a value this near to the background's is taken for it */
  MOST_GROUNDS = 2, /* backgrounds that are tried */
  MOST_PATHS = 36,  /* places and motions that are tried */
  MOST_FINE = 8,    /* of clips: candidates that are compared in all frames, the others in some */
};

/* A sprite in a colour. */
typedef struct Tinted {
  const Sprite *of;
  uint8_t *rgb; /* [size, size, 3], premultiplied */
} Tinted;

/* Where a thing is in each frame, whatever thing it is: place, jitter, size and motion of the scene count. */
typedef struct Path {
  Scene scene;
  double misfit;
} Path;

typedef struct Candidate {
  Scene scene;
  double error; /* beside the background alone; of the frames compared */
} Candidate;

struct Judge {
  const World *world;
  int size, frames; /* frames: of what is being judged */
  const uint8_t *rgb;
  Path *path; /* [n_paths], of stills first */
  int n_paths, n_stills;
  int32_t *inside; /* [WORLD_FRAMES, size + 1, size + 1]: how many pixels above and left look unlike the background */
  Tinted *tinted;  /* [n_tinted] of the thing and colour at hand */
  int n_tinted;
  uint8_t *tints; /* room for their pixels */
  size_t tint_bytes;
};

/* ---- paths ---- */

static bool spans_x(Motion m) { return m == MOTION_LEFT || m == MOTION_RIGHT || m == MOTION_DIAGONAL; }
static bool spans_y(Motion m) {
  return m == MOTION_UP || m == MOTION_DOWN || m == MOTION_DIAGONAL || m == MOTION_BOUNCE;
}

/* Calls for every place, jitter and size that makes a difference to a motion; their number. */
static int list_paths(const World *w, Motion m, Path *out) {
  const WorldOptions *o = world_options(w);
  int n = 0, sizes = world_size_count(w);
  int steps_x = spans_x(m) ? 1 : world_jitter_steps(w), steps_y = spans_y(m) ? 1 : world_jitter_steps(w);
  for (int place = 0; place < WORLD_PLACES; place++) {
    Scene s = {.n_things = 1, .motion = m, .part = {{.colour = -1, .place = place}}};
    world_settle_motion(&s);
    for (int k = 0; s.part[0].place == place && k < sizes * steps_x * steps_y; k++) {
      s.part[0].size = o->thing_min + o->size_step * (k % sizes);
      s.part[0].dx = o->align * (k / sizes % steps_x);
      s.part[0].dy = o->align * (k / sizes / steps_x);
      if (out) out[n] = (Path){.scene = s};
      n++;
    }
  }
  return n;
}

static int most_paths(const World *w) {
  int n = 0;
  for (int m = 0; m < MOTION_COUNT; m++) n += list_paths(w, (Motion)m, NULL);
  return n;
}

static void fill_paths(Judge *j) {
  bool moves = (world_options(j->world)->kinds & WORLD_MOVING) != 0;
  j->n_stills = j->n_paths = list_paths(j->world, MOTION_NONE, j->path);
  for (int m = 1; moves && m < MOTION_COUNT; m++) j->n_paths += list_paths(j->world, (Motion)m, j->path + j->n_paths);
}

/* ---- life ---- */

Judge *judge_new(const World *w, Error *err) {
  Judge *j = mem_alloc(sizeof *j);
  size_t size = (size_t)world_options(w)->size, side = (size_t)world_options(w)->thing_max;
  if (j) {
    *j = (Judge){.world = w, .size = (int)size};
    j->path = mem_alloc((size_t)most_paths(w) * sizeof *j->path);
    j->inside = mem_alloc((size_t)WORLD_FRAMES * (size + 1) * (size + 1) * sizeof *j->inside);
    /* Still sprites of all sizes, and turned ones of those drawn. */
    size_t sprites = side + 1 + (size_t)world_size_count(w) * TURN_STEPS;
    j->tinted = mem_alloc(sprites * sizeof *j->tinted);
    j->tint_bytes = sprites * side * side * 3;
    j->tints = mem_alloc(j->tint_bytes);
  }
  if (!j || !j->path || !j->inside || !j->tinted || !j->tints) {
    error_set(err, ERROR_MEMORY, "a judge of %d things: out of memory", world_thing_count(w));
    judge_free(j);
    return NULL;
  }
  fill_paths(j);
  return j;
}

void judge_free(Judge *j) {
  if (!j) return;
  mem_free(j->path);
  mem_free(j->inside);
  mem_free(j->tinted);
  mem_free(j->tints);
  mem_free(j);
}

/* ---- backgrounds ---- */

static const uint8_t *pixel_of(const Judge *j, int frame, int x, int y) {
  return j->rgb + 3 * ((size_t)frame * (size_t)j->size * (size_t)j->size + (size_t)(y * j->size + x));
}

static bool is_like(const uint8_t *a, const uint8_t *b) {
  return abs(a[0] - b[0]) <= LIKE && abs(a[1] - b[1]) <= LIKE && abs(a[2] - b[2]) <= LIKE;
}

/* How many pixels look like a background, and their squared distance from it. */
static int count_like(const Judge *j, int background, double *out_error) {
  int n = 0;
  int64_t sum = 0;
  for (int f = 0; f < j->frames; f++)
    for (int y = 0; y < j->size; y++)
      for (int x = 0; x < j->size; x++) {
        const uint8_t *p = pixel_of(j, f, x, y), *b = world_background_rgb(background, x, y);
        n += is_like(p, b);
        for (int c = 0; c < 3; c++) sum += (p[c] - b[c]) * (p[c] - b[c]);
      }
  *out_error = (double)sum;
  return n;
}

typedef struct Ground {
  int background, like;
  double error;
} Ground;

/* The likeliest backgrounds; a second one where it is nearly as likely. */
static int find_grounds(const Judge *j, Ground out[MOST_GROUNDS]) {
  int n = 0;
  for (int b = 0; b < world_background_count(j->world); b++) {
    Ground g = {.background = b};
    g.like = count_like(j, b, &g.error);
    int at = n < MOST_GROUNDS ? n++ : MOST_GROUNDS;
    for (; at > 0 && (out[at - 1].like < g.like || (out[at - 1].like == g.like && out[at - 1].error > g.error)); at--)
      if (at < MOST_GROUNDS) out[at] = out[at - 1];
    if (at < MOST_GROUNDS) out[at] = g;
  }
  while (n > 1 && 5 * out[n - 1].like < 4 * out[0].like) n--;
  return n;
}

/* ---- places and motions ---- */

static void count_unlike(Judge *j, int background) {
  int row = j->size + 1;
  for (int f = 0; f < j->frames; f++) {
    int32_t *to = j->inside + (size_t)f * (size_t)row * (size_t)row;
    for (int y = 0; y < j->size; y++)
      for (int x = 0; x < j->size; x++) {
        bool unlike = !is_like(pixel_of(j, f, x, y), world_background_rgb(background, x, y));
        to[(y + 1) * row + x + 1] = unlike + to[y * row + x + 1] + to[(y + 1) * row + x] - to[y * row + x];
      }
  }
}

/* Pixels unlike the background outside of the box, and some of the box's that are like it. */
static double misfit_of(const Judge *j, const Scene *s) {
  double sum = 0;
  int row = j->size + 1;
  for (int f = 0, x, y, size; f < j->frames; f++) {
    const int32_t *in = j->inside + (size_t)f * (size_t)row * (size_t)row;
    world_box(j->world, s, 0, f, &x, &y, &size);
    int inside = in[(y + size) * row + x + size] - in[y * row + x + size] - in[(y + size) * row + x] + in[y * row + x];
    sum += in[row * row - 1] - inside + 0.25 * (size * size - inside);
  }
  return sum;
}

static int by_misfit(const void *a, const void *b) {
  const Path *x = a, *y = b;
  return x->misfit < y->misfit ? -1 : x->misfit > y->misfit;
}

/* The paths that fit best, in the order of their misfit; out has room for all.  Their number. */
static int find_paths(Judge *j, int background, Path *out) {
  int n = j->frames > 1 ? j->n_paths : j->n_stills;
  count_unlike(j, background);
  memcpy(out, j->path, (size_t)n * sizeof *out);
  for (int i = 0; i < n; i++) out[i].misfit = misfit_of(j, &out[i].scene);
  qsort(out, (size_t)n, sizeof *out, by_misfit);
  return n < MOST_PATHS ? n : MOST_PATHS;
}

/* ---- things ---- */

static const uint8_t *tinted(Judge *j, const Sprite *s, int size, int colour) {
  if (colour < 0) return s->rgb;
  for (int i = 0; i < j->n_tinted; i++)
    if (j->tinted[i].of == s) return j->tinted[i].rgb;
  uint8_t *to = j->n_tinted ? j->tinted[j->n_tinted - 1].rgb : j->tints;
  if (j->n_tinted) to += 3 * world_options(j->world)->thing_max * world_options(j->world)->thing_max;
  for (int i = 0; i < size * size; i++)
    world_recolour_pixel(s->rgb + 3 * i, s->alpha[i], world_colour_rgb(colour), to + 3 * i);
  j->tinted[j->n_tinted++] = (Tinted){s, to};
  return to;
}

/* Of the box in a frame: (X - R)^2 - (X - B)^2. */
static int64_t error_in_frame(Judge *j, const Scene *s, int frame) {
  int x0, y0, size;
  int64_t sum = 0;
  world_box(j->world, s, 0, frame, &x0, &y0, &size);
  const Sprite *sprite = world_part_sprite(j->world, s, 0, frame, size);
  const uint8_t *rgb = tinted(j, sprite, size, s->part[0].colour);
  for (int y = 0; y < size; y++) {
    const uint8_t *at = pixel_of(j, frame, x0, y0 + y);
    for (int x = 0; x < size; x++, at += 3) {
      int k = y * size + x;
      if (!sprite->alpha[k]) continue;
      const uint8_t *b = world_background_rgb(s->background, x0 + x, y0 + y);
      uint8_t r[3] = {b[0], b[1], b[2]};
      world_blend_pixel(rgb + 3 * k, sprite->alpha[k], r);
      for (int c = 0; c < 3; c++) sum += (at[c] - r[c]) * (at[c] - r[c]) - (at[c] - b[c]) * (at[c] - b[c]);
    }
  }
  return sum;
}

/* Keeps the best candidates in order. */
static void keep(Candidate *best, int *n, int most, const Candidate *c) {
  int at = *n < most ? (*n)++ : most;
  for (; at > 0 && best[at - 1].error > c->error; at--)
    if (at < most) best[at] = best[at - 1];
  if (at < most) best[at] = *c;
}

static void try_colour(Judge *j, Scene s, const Path *path, int n_paths, int step, Candidate *best, int *n) {
  SceneThing thing = s.part[0];
  int background = s.background;
  j->n_tinted = 0;
  for (int p = 0; p < n_paths; p++) {
    Candidate c = {.scene = path[p].scene};
    c.scene.background = background;
    c.scene.part[0].thing = thing.thing;
    c.scene.part[0].colour = thing.colour;
    for (int f = 0; f < j->frames; f += step) c.error += (double)error_in_frame(j, &c.scene, f);
    keep(best, n, MOST_FINE, &c);
  }
}

/* The best scene on one background; *io_best is replaced where it is better. */
static void try_ground(Judge *j, const Ground *g, Path *path, Candidate *io_best) {
  int n_paths = find_paths(j, g->background, path), n = 0, step = j->frames > 1 ? 3 : 1;
  Candidate best[MOST_FINE];
  Scene s = {.background = g->background};
  for (s.part[0].thing = 0; s.part[0].thing < world_thing_count(j->world); s.part[0].thing++)
    for (int k = -1; k < world_recolour_count(j->world); k++) {
      s.part[0].colour = world_recolour(j->world, k);
      if (s.part[0].colour != g->background) try_colour(j, s, path, n_paths, step, best, &n);
    }
  for (int i = 0; i < n; i++) {
    double error = g->error;
    j->n_tinted = 0;
    for (int f = 0; f < j->frames; f++) error += (double)error_in_frame(j, &best[i].scene, f);
    if (error < io_best->error) *io_best = (Candidate){best[i].scene, error};
  }
}

static Judgement judge(Judge *j, const uint8_t *rgb, int frames) {
  Ground ground[MOST_GROUNDS];
  Candidate best = {.error = 1e300};
  j->rgb = rgb;
  j->frames = frames;
  Path *path = mem_alloc((size_t)j->n_paths * sizeof *path);
  int n = find_grounds(j, ground);
  for (int i = 0; path && i < n; i++) try_ground(j, &ground[i], path, &best);
  mem_free(path);
  return (Judgement){best.scene, best.error > 0 ? best.error / (3.0 * frames * j->size * j->size) : 0};
}

Judgement judge_picture(Judge *j, const uint8_t *rgb) { return judge(j, rgb, 1); }
Judgement judge_clip(Judge *j, const uint8_t *rgb) { return judge(j, rgb, WORLD_FRAMES); }

void judge_count(const Judgement *got, const Scene *want, SlotScore *score) {
  const SceneThing *a = &got->scene.part[0], *b = &want->part[0];
  bool thing = a->thing == b->thing, place = a->place == b->place,
       background = got->scene.background == want->background;
  bool colour = a->colour == b->colour, motion = got->scene.motion == want->motion;
  score->n++;
  score->thing += thing;
  score->place += place;
  score->background += background;
  score->colour += colour;
  score->motion += motion;
  score->all += thing && place && background && colour && motion;
}
