/* See score.h. */
#include "synth/score.h"

#include <string.h>

typedef struct Scoring {
  Kit *kit;
  const ScoreRequest *r;
  Scene *scene;                 /* [count] */
  size_t bytes;                 /* of a picture */
  Arena *arena;
  Scores *out;
  Error *err;
} Scoring;

/* Picture i against the scene `rotate` places on. */
static void judge_row(Scoring *s, int row, const uint8_t *rgb, int64_t rotate) {
  s->out->has[row] = true;
  for (int64_t i = 0; i < s->r->count; i++) {
    Judgement got = judge_picture(s->r->judge, rgb + (size_t)i * s->bytes);
    judge_count(&got, &s->scene[(i + rotate) % s->r->count], &s->out->row[row]);
  }
}

static void make_scenes(Scoring *s) {
  int64_t n = s->r->count;
  s->scene = ARENA_ARRAY(s->arena, Scene, n);
  for (int i = 0; i < COUNT_OF(s->out->rgb); i++) s->out->rgb[i] = arena_alloc(s->arena, s->bytes * (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    s->scene[i] = world_scene(s->r->world, s->r->split, (uint64_t)i);
    world_render(s->r->world, &s->scene[i], 0, s->out->rgb[SCORE_TRUE] + (size_t)i * s->bytes, NULL);
  }
}

static void measure_errors(Scoring *s) {
  int size = (int)s->kit->size;
  double sum = 0, box_sum = 0;
  size_t box_values = 0;
  for (int64_t i = 0; i < s->r->count; i++) {
    const uint8_t *x = s->out->rgb[SCORE_TRUE] + (size_t)i * s->bytes;
    const uint8_t *y = s->out->rgb[SCORE_REBUILT] + (size_t)i * s->bytes;
    int bx, by, side;
    world_box(s->r->world, &s->scene[i], 0, 0, &bx, &by, &side);
    sum += image_box_error(x, y, size, 0, 0, size, size);
    box_sum += image_box_error(x, y, size, bx, by, side, side);
    box_values += (size_t)(side * side * 3);
  }
  s->out->psnr = image_psnr_of(sum, s->bytes * (size_t)s->r->count);
  s->out->psnr_box = image_psnr_of(box_sum, box_values);
}

static bool score_autoencoder(Scoring *s) {
  int64_t n = s->r->count;
  uint8_t *rebuilt = s->out->rgb[SCORE_REBUILT];
  int32_t *codes = ARENA_ARRAY(s->arena, int32_t, n * s->kit->grid[1] * s->kit->grid[2]);
  if (!codec_encode(&s->kit->codec[CODEC_IMAGE], s->out->rgb[SCORE_TRUE], n, codes, s->err) || !codec_decode(&s->kit->codec[CODEC_IMAGE], codes, n, rebuilt, s->err))
    return false;
  measure_errors(s);
  judge_row(s, SCORE_REBUILT, rebuilt, 0);
  return true;
}

static bool score_drawings(Scoring *s) {
  int64_t n = s->r->count, done;
  uint8_t *drawn = s->out->rgb[SCORE_DRAWN];
  const char **text = ARENA_ARRAY(s->arena, const char *, n);
  for (int64_t i = 0; i < n; i++) {
    char *caption = arena_alloc(s->arena, WORLD_CAPTION_BYTES);
    world_caption(s->r->world, &s->scene[i], caption);
    text[i] = caption;
  }
  KitRequest r = {
      .text = text, .class = -1, .count = n, .seed = s->r->seed, .guidance = s->r->guidance, .sample = s->r->sample};
  int32_t *tokens = ARENA_ARRAY(s->arena, int32_t, n * s->kit->positions);
  if (!kit_generate(s->kit, &r, tokens, &s->out->stats, &done, s->err) ||
      !codec_decode(&s->kit->codec[CODEC_IMAGE], tokens, n, drawn, s->err))
    return false;
  judge_row(s, SCORE_DRAWN, drawn, 0);
  judge_row(s, SCORE_SHUFFLED, drawn, n / 2 + 1);
  return true;
}

bool score_kit(Kit *k, const ScoreRequest *r, Arena *a, Scores *out, Error *err) {
  Scoring s = {k, r, .bytes = (size_t)(k->size * k->size * 3), .arena = a, .out = out, .err = err};
  BUG_IF(world_options(r->world)->size != k->size, "a world of other pictures than the kit's");
  *out = (Scores){.count = r->count, .size = k->size};
  make_scenes(&s);
  judge_row(&s, SCORE_TRUE, out->rgb[SCORE_TRUE], 0);
  return score_autoencoder(&s) && (!r->draws || score_drawings(&s));
}

bool score_sheet(const Scores *s, int columns, Arena *a, Image *out, Error *err) {
  int64_t n = s->count / columns * columns;
  size_t row = (size_t)(s->size * s->size * 3) * (size_t)columns;
  uint8_t *rgb = arena_alloc(a, SCORE_SHUFFLED * row * (size_t)(n / columns)), *at = rgb;
  for (int64_t i = 0; i < n / columns; i++)
    for (int k = 0; k < SCORE_SHUFFLED; k++, at += row) memcpy(at, s->rgb[k] + (size_t)i * row, row);
  return image_sheet(rgb, (int)(SCORE_SHUFFLED * n), (int)s->size, (int)s->size, columns, 2, 2, out, err);
}
