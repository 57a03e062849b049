/* See score.h. */
#include "synth/score.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/names.h"
#include "runtime/base/pool.h"
#include "synth/description.h"
#include "synth/given.h"

static const ScoreTask tasks[] = {
    {"t2i", "text", "image", GIVEN_NOTHING},       {"s2i", "sketch", "image", GIVEN_NOTHING},
    {"i2i", "none", "image", GIVEN_UPPER},         {"ti2i", "text", "image", GIVEN_SURROUNDING},
    {"t2v", "text", "video", GIVEN_NOTHING},       {"s2v", "sketch", "video", GIVEN_NOTHING},
    {"v2v", "none", "video", GIVEN_FIRST_FRAME},   {"tv2v", "text", "video", GIVEN_FIRST_FRAME},
    {"i2t", "image", "text", GIVEN_NOTHING},       {"v2t", "video", "text", GIVEN_NOTHING},
};

const ScoreTask *score_task(const char *name) {
  for (int i = 0; i < COUNT_OF(tasks); i++)
    if (strcmp(tasks[i].name, name) == 0) return &tasks[i];
  return NULL;
}

const ScoreTask *score_task_asked(const char *option, const char *name, Error *err) {
  const ScoreTask *t = score_task(name);
  if (t) return t;
  error_set(err, ERROR_USAGE, "%s %s: is none of t2i, s2i, i2i, ti2i, t2v, s2v, v2v, tv2v, i2t, v2t", option, name);
  return NULL;
}

bool score_task_is_clip(const ScoreTask *t) {
  return strcmp(t->target, PORT_VIDEO) == 0 || strcmp(t->condition, PORT_VIDEO) == 0;
}

typedef struct Scoring {
  Kit *kit;
  const ScoreRequest *r;
  Scene *scene, *wanted;        /* [count] what is given, and what is to be drawn */
  int frames;
  size_t bytes;                 /* of a frame */
  Given *given;                 /* [count]; NULL: not made, or nothing is given */
  Judgement *judged;            /* [count] of the row at hand */
  Judge **judge;                /* [threads] */
  Moments others;               /* features of other scenes; n 0: not yet measured */
  Arena *arena;
  Scores *out;
  Error *err;
} Scoring;

/* ---- scenes ---- */

static uint8_t *pixels_of(const Scoring *s, int row, int64_t i) {
  return s->out->rgb[row] + (size_t)i * (size_t)s->frames * s->bytes;
}

/* Another thing of the world in the same place, with its own colours. */
static Scene with_other_thing(const World *w, const Scene *s, int64_t i) {
  Scene out = *s;
  out.part[0].thing = (int)((s->part[0].thing + 1 + i % (world_thing_count(w) - 1)) % world_thing_count(w));
  out.part[0].colour = -1;
  return out;
}

/* Another motion that may begin as this clip does: with the thing where it is, as large as it is.  False where there
 * is none. */
static bool with_other_motion(const World *w, const Scene *s, int64_t i, Scene *out) {
  int x, y, size, ox, oy, osize, n = 0;
  Scene found[MOTION_COUNT * WORLD_PLACES];
  world_box(w, s, 0, 0, &x, &y, &size);
  for (int m = 1; m < MOTION_COUNT; m++)
    for (int place = 0; place < WORLD_PLACES; place++) {
      Scene o = *s;
      o.motion = (Motion)m;
      o.part[0].place = place;
      world_box(w, &o, 0, 0, &ox, &oy, &osize);
      bool is_turn = m == MOTION_TURN || s->motion == MOTION_TURN;   /* which are drawn smaller */
      if (m != (int)s->motion && !is_turn && world_scene_is_settled(&o) && abs(ox - x) <= 2 && abs(oy - y) <= 2 &&
          osize == size)
        found[n++] = o;
    }
  if (n) *out = found[i % n];
  return n > 0;
}

static void make_scenes(Scoring *s) {
  int64_t n = s->r->count;
  const World *w = s->r->world;
  s->scene = ARENA_ARRAY(s->arena, Scene, n);
  s->wanted = ARENA_ARRAY(s->arena, Scene, n);
  s->judged = ARENA_ARRAY(s->arena, Judgement, n);
  for (int i = 0; i < SCORE_PIXELS; i++) s->out->rgb[i] = arena_alloc(s->arena, s->bytes * (size_t)(n * s->frames));
  bool changes = s->r->task->given == GIVEN_FIRST_FRAME && strcmp(s->r->task->condition, PORT_TEXT) == 0;
  uint64_t number = 0;
  for (int64_t i = 0; i < n; i++) {
    do s->scene[i] = s->wanted[i] = world_scene(w, s->r->split, number++);
    while (changes && !with_other_motion(w, &s->scene[i], i, &s->wanted[i]) && number < 1000 * (uint64_t)n);
    if (s->r->task->given == GIVEN_SURROUNDING) s->wanted[i] = with_other_thing(w, &s->scene[i], i);
    for (int f = 0; f < s->frames; f++)
      world_render(w, &s->scene[i], f, pixels_of(s, SCORE_TRUE, i) + (size_t)f * s->bytes, NULL);
  }
}

/* How much of the thing lies in the upper half: at least a third. */
static bool is_seen(const Scoring *s, const Scene *scene) {
  int x, y, size;
  world_box(s->r->world, scene, 0, 0, &x, &y, &size);
  return 3 * ((int)s->kit->size / 2 - y) >= size;
}

/* ---- judging ---- */

typedef struct JudgeCall {
  const Scoring *s;
  const uint8_t *rgb;
} JudgeCall;

static bool is_cancelled(const Scoring *s) {
  const SynthTarget *t = s->kit->target;
  return t->is_cancelled && t->is_cancelled(t->ctx);
}

static void judge_body(void *ctx, int64_t begin, int64_t end, int thread) {
  const JudgeCall *c = ctx;
  const Scoring *s = c->s;
  for (int64_t i = begin; i < end && !is_cancelled(s); i++) {
    const uint8_t *rgb = c->rgb + (size_t)i * s->bytes * (size_t)s->frames;
    s->judged[i] = s->frames > 1 ? judge_clip(s->judge[thread], rgb) : judge_picture(s->judge[thread], rgb);
  }
}

/* Judgement i against the scene `rotate` places on. */
static void count_row(Scoring *s, int row, const Scene *scene, int64_t rotate) {
  ScoreRow *out = &s->out->row[row];
  s->out->has[row] = true;
  for (int64_t i = 0; i < s->r->count; i++) {
    const Scene *want = &scene[(i + rotate) % s->r->count];
    judge_count(&s->judged[i], want, &out->slots);
    out->moves += s->judged[i].scene.motion != MOTION_NONE;
    if (s->r->task->given != GIVEN_UPPER || !is_seen(s, want)) continue;
    out->n_seen++;
    out->thing_seen += s->judged[i].scene.part[0].thing == want->part[0].thing;
  }
}

/* ---- networks ---- */

/* Labels of the scenes' frames [count][frames, size, size]. */
static uint16_t *labels_of(const Scoring *s, const Scene *scene) {
  size_t pixels = (size_t)(s->kit->size * s->kit->size);
  uint16_t *labels = ARENA_ARRAY(s->arena, uint16_t, (size_t)(s->r->count * s->frames) * pixels);
  uint8_t *rgb = arena_alloc(s->arena, s->bytes);
  for (int64_t i = 0; i < s->r->count * s->frames; i++)
    world_render(s->r->world, &scene[i / s->frames], (int)(i % s->frames), rgb, labels + (size_t)i * pixels);
  return labels;
}

/* Features of true renderings of other scenes, which all rows are compared with. */
static bool measure_others(Scoring *s) {
  uint8_t *rgb = arena_alloc(s->arena, s->bytes * (size_t)s->frames);
  s->others = moments_new(s->arena, score_networks_width(s->r->networks));
  for (int64_t i = 0; i < s->r->count; i++) {
    Scene scene = world_scene(s->r->world, s->r->split, (uint64_t)(s->r->count + i));
    for (int f = 0; f < s->frames; f++) world_render(s->r->world, &scene, f, rgb + (size_t)f * s->bytes, NULL);
    if (!score_networks_features(s->r->networks, rgb, 1, s->frames, s->kit->size, &s->others, s->err)) return false;
  }
  return true;
}

/* How like a scene's caption a clip or picture is, with the network that ranks. */
static bool likeness_of(const Scoring *s, const Scene *scene, const uint8_t *rgb, double *out) {
  char caption[WORLD_CAPTION_BYTES];
  world_caption(s->r->world, scene, caption);
  return ranking_compare(s->r->similarity, caption, rgb, 1, s->frames, s->kit->size, out, s->err);
}

/* Each to the caption of the scene `rotate` places on. */
static bool ask_similarity(Scoring *s, int row, const uint8_t *rgb, const Scene *scene, int64_t rotate) {
  double sum = 0, one;
  int64_t n = s->r->count;
  for (int64_t i = 0; i < n; i++) {
    if (!likeness_of(s, &scene[(i + rotate) % n], rgb + (size_t)(i * s->frames) * s->bytes, &one)) return false;
    sum += one;
  }
  s->out->row[row].similarity = sum / (double)n;
  return true;
}

static bool ask_networks(Scoring *s, int row, const uint8_t *rgb, const Scene *scene) {
  ScoreNetworks *n = s->r->networks;
  ScoreRow *out = &s->out->row[row];
  int64_t frames = s->r->count * s->frames;
  if (s->r->similarity && !ask_similarity(s, row, rgb, scene, 0)) return false;
  if (!n) return true;
  if (n->segment.f &&
      !score_networks_accuracy(n, rgb, labels_of(s, scene), frames, s->kit->size, &out->accuracy, s->err))
    return false;
  if (!n->features.f) return true;
  Moments m = moments_new(s->arena, score_networks_width(n));
  return (s->others.n || measure_others(s)) &&
         score_networks_features(n, rgb, s->r->count, s->frames, s->kit->size, &m, s->err) &&
         frechet_distance(&s->others, &m, s->arena, &out->frechet, s->err);
}

/* Clips whose first frame stands still. */
static uint8_t *frozen(const Scoring *s, const uint8_t *rgb) {
  uint8_t *out = arena_alloc(s->arena, s->bytes * (size_t)(s->r->count * s->frames));
  for (int64_t i = 0; i < s->r->count * s->frames; i++)
    memcpy(out + (size_t)i * s->bytes, rgb + (size_t)(i / s->frames * s->frames) * s->bytes, s->bytes);
  return out;
}

static bool judge_row(Scoring *s, int row, const uint8_t *rgb, const Scene *scene) {
  if (row == SCORE_FROZEN) rgb = frozen(s, rgb);
  JudgeCall c = {s, rgb};
  Pool *pool = pool_new(s->r->threads, s->err);
  if (!pool) return false;
  pool_run(pool, judge_body, &c, s->r->count, 1);
  pool_free(pool);
  if (is_cancelled(s)) return error_set(s->err, ERROR_CANCELLED, "interrupted while drawings were judged");
  count_row(s, row, scene, 0);
  return ask_networks(s, row, rgb, scene);
}

/* ---- the autoencoder ---- */

static void measure_errors(Scoring *s) {
  int size = (int)s->kit->size;
  double sum = 0, box_sum = 0;
  size_t box_values = 0;
  for (int64_t i = 0; i < s->r->count * s->frames; i++) {
    const uint8_t *x = s->out->rgb[SCORE_TRUE] + (size_t)i * s->bytes;
    const uint8_t *y = s->out->rgb[SCORE_REBUILT] + (size_t)i * s->bytes;
    int bx, by, side;
    world_box(s->r->world, &s->scene[i / s->frames], 0, (int)(i % s->frames), &bx, &by, &side);
    sum += image_box_error(x, y, size, 0, 0, size, size);
    box_sum += image_box_error(x, y, size, bx, by, side, side);
    box_values += (size_t)(side * side * 3);
  }
  s->out->psnr = image_psnr_of(sum, s->bytes * (size_t)(s->r->count * s->frames));
  s->out->psnr_box = image_psnr_of(box_sum, box_values);
}

static bool score_autoencoder(Scoring *s) {
  const Codec *c = &s->kit->codec[CODEC_IMAGE];
  int64_t n = s->r->count * s->frames;
  int32_t *codes = ARENA_ARRAY(s->arena, int32_t, n * c->grid[0] * c->grid[1]);
  if (!codec_encode(c, s->out->rgb[SCORE_TRUE], n, codes, s->err) ||
      !codec_decode(c, codes, n, s->out->rgb[SCORE_REBUILT], s->err))
    return false;
  measure_errors(s);
  return judge_row(s, SCORE_TRUE, s->out->rgb[SCORE_TRUE], s->scene) &&
         judge_row(s, SCORE_REBUILT, s->out->rgb[SCORE_REBUILT], s->scene);
}

/* ---- drawing ---- */

static const char *const *captions(const Scoring *s) {
  const char **text = ARENA_ARRAY(s->arena, const char *, s->r->count);
  for (int64_t i = 0; i < s->r->count; i++) {
    char *caption = arena_alloc(s->arena, WORLD_CAPTION_BYTES);
    world_caption(s->r->world, &s->wanted[i], caption);
    if (strcmp(s->r->task->condition, PORT_TEXT) == 0) text[i] = caption;
  }
  return text;
}

/* The sketches of all scenes as codes. */
static bool sketch_codes(const Scoring *s, const int32_t **out) {
  const Codec *c = &s->kit->codec[CODEC_LABELS];
  size_t pixels = (size_t)(s->kit->size * s->kit->size);
  int64_t n = s->r->count * s->frames;
  if (c->height != s->kit->size || c->width != s->kit->size)
    return error_set(s->err, ERROR_ARGUMENT, "the autoencoder of labels has other sizes than the pictures");
  int32_t *labels = ARENA_ARRAY(s->arena, int32_t, (size_t)n * pixels),
          *codes = ARENA_ARRAY(s->arena, int32_t, n * c->grid[0] * c->grid[1]);
  uint16_t *map = ARENA_ARRAY(s->arena, uint16_t, pixels);
  uint8_t *rgb = arena_alloc(s->arena, s->bytes);
  for (int64_t i = 0; i < n; i++) {
    world_render(s->r->world, &s->scene[i / s->frames], (int)(i % s->frames), rgb, map);
    for (size_t k = 0; k < pixels; k++) {
      labels[(size_t)i * pixels + k] = map[k];
      if (c->channels && map[k] >= c->channels)
        return error_set(s->err, ERROR_ARGUMENT, "the world has label %d, the autoencoder of labels knows 0 to %lld",
                         map[k], (long long)c->channels - 1);
    }
  }
  *out = codes;
  return codec_encode_frames(c, labels, n, codes, s->err);
}

/* Which pixels of a scene's drawing are unknown: [frames, size, size]. */
static void mark_unknown(const Scoring *s, const Scene *scene, uint8_t *unknown) {
  int size = (int)s->kit->size, x, y, side;
  memset(unknown, 0, (size_t)(s->frames * size * size));
  world_box(s->r->world, scene, 0, 0, &x, &y, &side);
  for (int i = 0; i < s->frames * size * size; i++) {
    int px = i % size, py = i / size % size, frame = i / (size * size);
    bool in_box = px >= x && px < x + side && py >= y && py < y + side;
    unknown[i] = s->r->task->given == GIVEN_UPPER         ? py >= size / 2
                 : s->r->task->given == GIVEN_SURROUNDING ? in_box
                                                          : frame > 0;
  }
}

/* What is given of each scene, once for all its drawings. */
static bool make_given(Scoring *s) {
  int64_t pixels = s->frames * s->kit->size * s->kit->size;
  s->given = ARENA_ARRAY(s->arena, Given, s->r->count);
  for (int64_t i = 0; i < s->r->count; i++) {
    Given *g = &s->given[i];
    *g = (Given){.frames = s->frames, .rgb = pixels_of(s, SCORE_TRUE, i), .unknown = arena_alloc(s->arena, (size_t)pixels)};
    mark_unknown(s, &s->scene[i], g->unknown);
    if (!given_encode(s->kit, s->arena, g, s->err)) return false;
  }
  return true;
}

/* Scenes from `at` on whose known part is the same positions; where they end. */
static int64_t alike_from(const Scoring *s, int64_t at) {
  size_t positions = (size_t)s->kit->positions;
  int64_t to = at + 1;
  while (to < s->r->count && memcmp(s->given[at].given, s->given[to].given, positions) == 0) to++;
  return to;
}

static bool generate(Scoring *s, const KitRequest *r, int32_t *tokens) {
  int64_t done;
  return kit_generate(s->kit, r, tokens, &s->out->stats, &done, s->err) &&
         (done == r->count || error_set(s->err, ERROR_CANCELLED, "interrupted while scenes were drawn"));
}

/* Of scenes alike in what is known, as tokens. */
static bool draw_given(Scoring *s, const KitRequest *r, int32_t *tokens) {
  int64_t positions = s->kit->positions;
  int32_t *known = ARENA_ARRAY(s->arena, int32_t, s->r->count * positions);
  for (int64_t i = 0; i < s->r->count; i++)
    memcpy(known + i * positions, s->given[i].tokens, sizeof *known * (size_t)positions);
  for (int64_t at = 0, to; at < s->r->count; at = to) {
    KitRequest part = *r;
    to = alike_from(s, at);
    part.count = to - at;
    part.first = r->first + at;
    part.text = r->text ? r->text + at : NULL;
    part.given = s->given[at].given;
    part.given_tokens = known + at * positions;
    if (!generate(s, &part, tokens + at * positions)) return false;
  }
  return true;
}

/* One drawing of each scene, as pixels. */
static bool draw(Scoring *s, const KitRequest *r, int32_t *tokens) {
  Kit *k = s->kit;
  int64_t n = s->r->count;
  bool is_given = s->r->task->given != GIVEN_NOTHING;
  if (is_given && !s->given && !make_given(s)) return false;
  if (!(is_given ? draw_given(s, r, tokens) : generate(s, r, tokens)) ||
      !codec_decode(&k->codec[CODEC_IMAGE], tokens, n * s->frames, s->out->rgb[SCORE_DRAWN], s->err))
    return false;
  for (int64_t i = 0; is_given && i < n * s->frames; i++)
    given_restore(k, &s->given[i / s->frames], i % s->frames, s->out->rgb[SCORE_DRAWN] + (size_t)i * s->bytes);
  return true;
}

/* The drawings' classes against each other's labels. */
static bool ask_shuffled(Scoring *s) {
  int64_t n = s->r->count;
  Scene *scene = ARENA_ARRAY(s->arena, Scene, n);
  for (int64_t i = 0; i < n; i++) scene[i] = s->wanted[(i + (n + 1) / 2) % n];
  return score_networks_accuracy(s->r->networks, s->out->rgb[SCORE_DRAWN], labels_of(s, scene), n * s->frames,
                                 s->kit->size, &s->out->row[SCORE_SHUFFLED].accuracy, s->err);
}

/* Of each scene the best drawing so far, by distance from the truth or by likeness to the caption. */
typedef struct Kept {
  int row;
  double *cost;   /* [count] */
  uint8_t *rgb;   /* [count][frames, size, size, 3] */
} Kept;

static Kept kept_of(const Scoring *s, int row) {
  size_t bytes = s->bytes * (size_t)(s->r->count * s->frames);
  return (Kept){row, ARENA_ARRAY(s->arena, double, s->r->count), arena_alloc(s->arena, bytes)};
}

static bool cost_of(const Scoring *s, int row, int64_t i, double *out) {
  const uint8_t *x = pixels_of(s, SCORE_TRUE, i), *y = pixels_of(s, SCORE_DRAWN, i);
  double sum = 0, likeness;
  if (row == SCORE_LIKEST) return likeness_of(s, &s->wanted[i], y, &likeness) && (*out = -likeness, true);
  for (size_t k = 0; k < s->bytes * (size_t)s->frames; k++) sum += (double)((x[k] - y[k]) * (x[k] - y[k]));
  *out = sum;
  return true;
}

static bool keep_better(const Scoring *s, Kept *k, bool is_first) {
  size_t clip = s->bytes * (size_t)s->frames;
  for (int64_t i = 0; i < s->r->count; i++) {
    double cost;
    if (!cost_of(s, k->row, i, &cost)) return false;
    if (!is_first && cost >= k->cost[i]) continue;
    k->cost[i] = cost;
    memcpy(k->rgb + (size_t)i * clip, pixels_of(s, SCORE_DRAWN, i), clip);
  }
  return true;
}

/* The first of its drawings is there; afterwards it is again. */
static bool score_best(Scoring *s, KitRequest *r, int32_t *tokens) {
  size_t bytes = s->bytes * (size_t)(s->r->count * s->frames);
  uint8_t *first = arena_copy(s->arena, s->out->rgb[SCORE_DRAWN], bytes);
  Kept kept[2] = {kept_of(s, SCORE_BEST)};
  int n = 1;
  if (s->r->similarity) kept[n++] = kept_of(s, SCORE_LIKEST);
  for (int64_t i = 0; i < s->r->draws_of_each; i++) {
    r->first = i * s->r->count;
    if (i > 0 && !draw(s, r, tokens)) return false;
    for (int k = 0; k < n; k++)
      if (!keep_better(s, &kept[k], i == 0)) return false;
  }
  memcpy(s->out->rgb[SCORE_DRAWN], first, bytes);
  for (int k = 0; k < n; k++)
    if (!judge_row(s, kept[k].row, kept[k].rgb, s->wanted)) return false;
  return true;
}

static bool score_drawings(Scoring *s) {
  int64_t n = s->r->count;
  Kit *k = s->kit;
  KitRequest r = {.class = -1, .count = n, .seed = s->r->seed, .guidance = s->r->guidance, .sample = s->r->sample};
  if (k->text_tokens) r.text = captions(s);
  if (k->codes_input && !sketch_codes(s, &r.codes)) return false;
  int32_t *tokens = ARENA_ARRAY(s->arena, int32_t, n * k->positions);
  if (!draw(s, &r, tokens)) return false;
  if (!judge_row(s, SCORE_DRAWN, s->out->rgb[SCORE_DRAWN], s->wanted)) return false;
  if (s->r->only_draws) return true;
  count_row(s, SCORE_SHUFFLED, s->wanted, (n + 1) / 2);
  if (s->out->has_accuracy && !ask_shuffled(s)) return false;
  if (s->r->similarity && !ask_similarity(s, SCORE_SHUFFLED, s->out->rgb[SCORE_DRAWN], s->wanted, (n + 1) / 2))
    return false;
  return (s->frames == 1 || judge_row(s, SCORE_FROZEN, s->out->rgb[SCORE_TRUE], s->wanted)) &&
         (s->r->draws_of_each == 1 || score_best(s, &r, tokens));
}

/* ---- captions ---- */

static bool score_captions(Scoring *s) {
  int64_t n = s->r->count;
  Description *d = ARENA_ARRAY(s->arena, Description, n);
  if (!description_make(s->kit, s->arena, s->out->rgb[SCORE_TRUE], n, s->r->seed, s->r->sample, d, s->err))
    return false;
  for (int64_t i = 0; i < n; i++) {
    Error ignored;
    Scene read = {.part = {{.thing = -1, .colour = -2, .place = -1}}, .background = -1, .motion = MOTION_COUNT};
    world_parse_caption(s->r->world, d[i].caption, &read, &ignored);
    s->judged[i] = (Judgement){.scene = read};
  }
  count_row(s, SCORE_DRAWN, s->scene, 0);
  if (!s->r->only_draws) count_row(s, SCORE_SHUFFLED, s->scene, (n + 1) / 2);
  return true;
}

/* ---- all ---- */

static bool open_judges(Scoring *s) {
  s->judge = ARENA_ARRAY(s->arena, Judge *, s->r->threads);
  for (int i = 0; i < s->r->threads; i++)
    if (!(s->judge[i] = judge_new(s->r->world, s->err))) return false;
  return true;
}

bool score_kit(Kit *k, const ScoreRequest *r, Arena *a, Scores *out, Error *err) {
  Scoring s = {k, r, .bytes = (size_t)(k->size * k->size * 3), .arena = a, .out = out, .err = err};
  s.frames = score_task_is_clip(r->task) ? WORLD_FRAMES : 1;
  BUG_IF(world_options(r->world)->size != k->size, "a world of other pictures than the kit's");
  int64_t has = k->draws_words ? k->codes_grid[0] : k->grid[0];
  if (r->draws && has != s.frames)
    return error_set(err, ERROR_ARGUMENT, "%s: the world's clips have %d frames, the model's %lld", r->task->name,
                     s.frames, (long long)has);
  bool is_judged = r->networks && !k->draws_words;
  *out = (Scores){.task = r->task, .count = r->count, .size = k->size, .frames = s.frames};
  out->has_colours = world_options(r->world)->kinds & WORLD_RECOLOUR;
  out->has_accuracy = is_judged && r->networks->segment.f;
  out->has_similarity = r->similarity && !k->draws_words;
  out->has_frechet = is_judged && r->networks->features.f;
  make_scenes(&s);
  bool ok = r->draws && k->draws_words
                ? score_captions(&s)
                : open_judges(&s) && (r->only_draws || score_autoencoder(&s)) && (!r->draws || score_drawings(&s));
  for (int i = 0; s.judge && i < r->threads; i++) judge_free(s.judge[i]);
  return ok;
}

enum { GAP = 2, ZOOM = 2 };

bool score_sheet(const Scores *s, int columns, Arena *a, Image *out, Error *err) {
  if (s->frames > 1) columns = 1;
  int64_t most = (IMAGE_MAX_SIDE - GAP) / (ZOOM * s->size + GAP) / SCORE_PIXELS * columns;   /* scenes that fit */
  int64_t n = (s->count < most ? s->count : most) / columns * columns, tiles = n * s->frames;
  int wide = (int)(columns * s->frames);
  size_t row = (size_t)(s->size * s->size * 3) * (size_t)wide;
  uint8_t *rgb = arena_alloc(a, SCORE_PIXELS * row * (size_t)(n / columns)), *at = rgb;
  for (int64_t i = 0; i < n / columns; i++)
    for (int k = 0; k < SCORE_PIXELS; k++, at += row) memcpy(at, s->rgb[k] + (size_t)i * row, row);
  return image_sheet(rgb, (int)(SCORE_PIXELS * tiles), (int)s->size, (int)s->size, wide, GAP, ZOOM, out, err);
}
