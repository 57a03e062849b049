/* Opening a kit and drawing with it. */
#include "synth/kit.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/names.h"
#include "runtime/base/sha256.h"
#include "runtime/bundle.h"
#include "synth/weights_file.h"

/* ---- what the plans must have ---- */

static bool is_codes_input(const PlanTensor *t) {
  static const char *const names[] = {PORT_LABELS_TOKENS, PORT_IMAGE_TOKENS, PORT_VIDEO_TOKENS};
  int i = 0;
  while (i < COUNT_OF(names) && strcmp(names[i], t->name) != 0) i++;
  return i < COUNT_OF(names) && t->dtype == DTYPE_I32 && t->rank == 4 && dim_is_const(t->dim[1]) &&
         dim_is_const(t->dim[2]) && dim_is_const(t->dim[3]);
}

/* What the generating model draws of: text, a class, codes, or nothing. */
static bool find_conditions(Kit *k, const PlanFunction *prologue, Error *err) {
  const char *classes = plan_text(k->drawer.plan, PLAN_TEXT_FIELD MODEL_CLASSES);
  const PlanTensor *mask = NULL;
  for (int i = 0; i < prologue->n_in; i++) {
    const PlanTensor *t = &prologue->in[i];
    if (strcmp(t->name, PORT_TEXT) == 0 && t->dtype == DTYPE_I32 && t->rank == 2) k->text_tokens = t->dim[1].c;
    else if (strcmp(t->name, PORT_CLASS) == 0 && t->dtype == DTYPE_I32 && t->rank == 1)
      k->classes = classes ? strtoll(classes, NULL, 10) : 0;
    else if (strcmp(t->name, PORT_TEXT_MASK) == 0) mask = t;
    else if (is_codes_input(t)) {
      k->codes_input = t->name;
      for (int x = 0; x < 3; x++) k->codes_grid[x] = t->dim[x + 1].c;
    } else
      return error_set(
          err, ERROR_ARGUMENT,
          "the generating model has an input \"%s\", which nothing here gives: it draws of text i32[batch,words], of a "
          "class i32[batch], or of labels_tokens, image_tokens or video_tokens i32[batch,s,h,w]",
          t->name);
  }
  Dim words = dim_const(k->text_tokens);
  if (mask && (mask->dtype != DTYPE_U8 || mask->rank != 2 || !words.c || !dim_equal(mask->dim[1], words)))
    return error_set(err, ERROR_ARGUMENT, "input \"%s\" of the generating model must be u8[batch,%lld], as its text",
                     mask->name, (long long)words.c);
  if (plan_find_input(prologue, PORT_CLASS) && k->classes < 1)
    return error_set(err, ERROR_ARGUMENT,
                     "the generating model draws of a class, and its module does not say how many there "
                     "are:  %s = N",
                     MODEL_CLASSES);
  return true;
}

/* The grid that is drawn: a frame's codes, or words. */
static bool find_grid(Kit *k, const PlanDecode *d, Error *err) {
  const Codec *image = &k->codec[CODEC_IMAGE];
  memcpy(k->grid, d->grid, sizeof k->grid);
  k->positions = plan_positions(d);
  if ((k->draws_words = d->has_stop)) return true;
  if (image->grid[0] != d->grid[1] || image->grid[1] != d->grid[2])
    return error_set(err, ERROR_ARGUMENT, "the autoencoder makes %lldx%lld codes, the generating model %lldx%lld",
                     (long long)image->grid[0], (long long)image->grid[1], (long long)d->grid[1],
                     (long long)d->grid[2]);
  if (image->codes && image->codes != d->vocab)
    return error_set(err, ERROR_ARGUMENT, "the autoencoder has %lld codes, the generating model draws from %lld",
                     (long long)image->codes, (long long)d->vocab);
  return true;
}

/* The function of the generating model. */
static bool find_generator(Kit *k, const char *name, Error *err) {
  const Plan *p = k->drawer.plan;
  k->decode = plan_find_decode(p, name);
  if (k->decode < 0 && plan_find_function(p, name) >= 0)   /* of codes, into pictures */
    return error_set(err, ERROR_ARGUMENT,
                     "--weights is an autoencoder, which draws nothing by itself: --vq-weights names it, and "
                     "--weights what was trained on its codes");
  if (k->decode < 0) return error_set(err, ERROR_ARGUMENT, "the generating model has no decode \"%s\"", name);
  const PlanDecode *d = &p->decode[k->decode];
  return find_grid(k, d, err) && (d->prologue < 0 || find_conditions(k, &p->function[d->prologue], err));
}

static bool open_bpe(Kit *k, Error *err) {
  const char *merges = safetensors_metadata(k->drawer.weights, WEIGHTS_BPE);
  if (!k->text_tokens && !k->draws_words) return true;
  if (!merges) merges = plan_text(k->drawer.plan, PLAN_TEXT_BPE);
  if (!merges) return error_set(err, ERROR_ARGUMENT, "the weights hold no text encoder (metadata \"bpe\")");
  k->bpe = bpe_parse(merges, strlen(merges), "merges in the weights", err);
  if (!k->bpe || !k->draws_words) return k->bpe != NULL;
  const PlanDecode *d = &k->drawer.plan->decode[k->decode];
  return d->stop == bpe_vocab(k->bpe) - 1 ||
         error_set(err, ERROR_ARGUMENT,
                   "the model's captions end with token %lld, those of the weights' text encoder with %d",
                   (long long)d->stop, bpe_vocab(k->bpe) - 1);
}

typedef struct OpenCall {
  Kit *k;
  KitSpec spec;
  bool draws;
  int64_t samples;              /* 0: without a session */
  Error *err;
  bool ok;
} OpenCall;

/* ---- from an application ---- */

/* The bundle is one when it has a plan of what draws. */
static bool open_application(OpenCall *c) {
  Kit *k = c->k;
  if (!c->spec.model.path || !models_is_bundle(c->spec.model.path)) return true;
  if (!(k->bundle = nuwa_bundle_open(c->spec.model.path, c->err))) return false;
  if (nuwa_bundle_plan(k->bundle, BUNDLE_DRAWER)) return true;
  nuwa_bundle_close(k->bundle);
  k->bundle = NULL;
  return true;
}

/* ---- opening ---- */

static OpenedFrom from_of(const OpenCall *c) {
  return (OpenedFrom){c->k->arena, c->k->target, c->k->bundle, c->spec.model.path};
}

/* The codec that was named; else that of the application; else the one that the generating model was trained with, by
 * its digest; else the shipped one. */
static bool open_codec(OpenCall *c, CodecKind kind) {
  static const char *const shipped[CODEC_KINDS] = {SHIPPED_IMAGE, SHIPPED_LABELS};
  Kit *k = c->k;
  OpenedFrom from = from_of(c);
  CodecSpec spec = c->spec.codec[kind];
  bool is_embedded = !spec.weights && opened_is_embedded(&from, codec_name(kind));
  if (!spec.weights && !is_embedded) {
    const Safetensors *w = k->drawer.weights;
    if (w && !codec_find(&from, kind, w, k->drawer.where, &spec.weights, c->err)) return false;
    if (!spec.weights) spec.weights = weights_file_shipped(k->arena, k->target, shipped[kind]);
  }
  k->codes_target = *k->target;   /* codes are what they are, whatever the model computes in, as in training */
  k->codes_target.compile.precision = DTYPE_F32;
  from.target = &k->codes_target;
  return codec_open(&k->codec[kind], &from, kind, &spec, c->samples, c->err);
}

static bool open_image_codec(OpenCall *c) {
  Kit *k = c->k;
  const Codec *image = &k->codec[CODEC_IMAGE];
  if (!open_codec(c, CODEC_IMAGE)) return false;
  if (image->height != image->width)
    return error_set(c->err, ERROR_ARGUMENT, "the autoencoder's pictures are %lld x %lld: they must be square",
                     (long long)image->width, (long long)image->height);
  k->size = image->height;
  k->grid[0] = 1;
  memcpy(k->grid + 1, image->grid, sizeof image->grid);
  k->positions = k->grid[1] * k->grid[2];
  return true;
}

static bool open_weights(OpenCall *c) {
  OpenedFrom from = from_of(c);
  if (!c->spec.weights && !opened_is_embedded(&from, BUNDLE_DRAWER))
    c->spec.weights = weights_file_shipped(c->k->arena, c->k->target, SHIPPED_DRAWER);
  return opened_weights(&c->k->drawer, &from, BUNDLE_DRAWER, c->spec.weights, c->err);
}

/* Whether the weights go with the codecs: nothing else tells a picture from noise. */
static bool check_pair(const OpenCall *c) {
  Recipe have = {.arena = c->k->arena};
  for (int i = 0; i < CODEC_KINDS; i++)
    if (codec_is_open(&c->k->codec[i]))
      recipe_set_text(&have, codec_fields((CodecKind)i).digest, c->k->codec[i].opened.codes);
  return recipe_check_pair(safetensors_metadata(c->k->drawer.weights, META_RECIPE), &have, c->err) ||
         error_prefix(c->err, "%s", c->k->drawer.where);
}

static bool open_generator(OpenCall *c) {
  Kit *k = c->k;
  OpenedFrom from = from_of(c);
  const char *name = c->spec.task ? arena_printf(k->arena, FUNC_TASKS ".%s", c->spec.task) : FUNC_DECODE;
  bool takes_bundle = k->bundle && nuwa_bundle_plan(k->bundle, BUNDLE_DRAWER);
  return check_pair(c) &&
         opened_plan(&k->drawer, &from, BUNDLE_DRAWER, &c->spec.model, takes_bundle, &name, 1, c->err) &&
         find_generator(k, name, c->err) && open_bpe(k, c->err);
}

/* The grid of codes that is drawn of must be one of frames of the codec that makes them. */
static bool open_condition(OpenCall *c) {
  Kit *k = c->k;
  if (!k->codes_input) return true;
  CodecKind kind = strcmp(k->codes_input, PORT_LABELS_TOKENS) == 0 ? CODEC_LABELS : CODEC_IMAGE;
  if (kind == CODEC_LABELS && (!open_codec(c, kind) || !check_pair(c))) return false;
  const Codec *codec = &k->codec[kind];
  return (codec->grid[0] == k->codes_grid[1] && codec->grid[1] == k->codes_grid[2]) ||
         error_set(c->err, ERROR_ARGUMENT,
                   "the autoencoder of %s makes %lldx%lld codes, the generating model reads %lldx%lld",
                   codec_name(kind), (long long)codec->grid[0], (long long)codec->grid[1],
                   (long long)k->codes_grid[1], (long long)k->codes_grid[2]);
}

static void open_body(void *ctx) {
  OpenCall *c = ctx;
  bool wants_weights = c->draws || c->spec.weights;   /* these also say which codecs */
  c->ok = open_application(c) && (!wants_weights || open_weights(c)) && open_image_codec(c) &&
          (!c->draws || (open_generator(c) && open_condition(c)));
}

bool kit_open(Kit *k, const SynthTarget *t, const KitSpec *spec, bool draws, int64_t samples, Error *err) {
  *k = (Kit){.arena = arena_new(), .target = t};
  if (!k->arena) return error_set(err, ERROR_MEMORY, "out of memory");
  OpenCall c = {.k = k, .spec = *spec, .draws = draws, .samples = samples, .err = err};
  if (arena_protect(k->arena, open_body, &c, err) && c.ok) return true;
  kit_close(k);
  return false;
}

typedef struct ListCall {
  const SynthTarget *target;
  const KitSpec *spec;
  Arena *arena;
  const char *list;
  Error *err;
  bool ok;
} ListCall;

static void list_of_bundle(ListCall *c) {
  NuwaBundle *b = nuwa_bundle_open(c->spec->model.path, c->err);
  const Plan *p = b ? nuwa_bundle_plan(b, BUNDLE_DRAWER) : NULL;
  for (int i = 0; p && i < p->n_decode; i++) c->list = models_add_task(c->arena, c->list, p->decode[i].name);
  c->ok = b != NULL;
  nuwa_bundle_close(b);
}

static void list_of_model(ListCall *c) {
  ModelSpec m = c->spec->model;
  const char *path = c->spec->weights ? c->spec->weights : weights_file_shipped(c->arena, c->target, SHIPPED_DRAWER);
  Safetensors *w = safetensors_open(path, c->err);
  Model *model =
      w && weights_file_complete(c->arena, c->target, &m, w, path, c->err) && !(!m.source && models_is_bundle(m.path))
          ? models_load(c->target, &m, c->err)
          : NULL;
  if (model) c->list = models_list_tasks(model, c->arena);
  c->ok = model || (w && !m.source && m.path && models_is_bundle(m.path));
  model_free(model);
  safetensors_close(w);
}

static void list_body(void *ctx) {
  ListCall *c = ctx;
  bool is_bundle = c->spec->model.path && models_is_bundle(c->spec->model.path);
  if (is_bundle) list_of_bundle(c);
  else list_of_model(c);
}

bool kit_list_tasks(const SynthTarget *t, const KitSpec *spec, Arena *a, const char **out, Error *err) {
  ListCall c = {t, spec, a, "", err, false};
  bool ok = arena_protect(a, list_body, &c, err) && c.ok;
  *out = c.list;
  return ok;
}

void kit_close(Kit *k) {
  for (int i = 0; i < CODEC_KINDS; i++) codec_close(&k->codec[i]);
  opened_close(&k->drawer);
  bpe_free(k->bpe);
  nuwa_bundle_close(k->bundle);
  arena_free(k->arena);
  *k = (Kit){0};
}

/* ---- the recipe ---- */

void kit_recipe(const Kit *k, Recipe *r) {
  recipe_set_plan(r, k->drawer.plan);
  recipe_set_text(r, RECIPE_WEIGHTS, k->drawer.digest);
  for (int i = 0; i < CODEC_KINDS; i++)
    if (codec_is_open(&k->codec[i])) codec_recipe(&k->codec[i], k->codec[i].opened.digest, r);
}

/* ---- drawing ---- */

/* A request is drawn in parts that share a session, whose memory is that of one part. */
typedef struct SampleRange {
  const SynthTarget *target;
  const KitRequest *r;
  int64_t first, count;          /* of the request's samples */
  int32_t *so_far;               /* [count][positions]; NULL: nobody looks on */
} SampleRange;

static bool is_cancelled(const SynthTarget *t) { return t->is_cancelled && t->is_cancelled(t->ctx); }

static bool pass_progress(void *ctx, int64_t done, int64_t total) {
  const SampleRange *p = ctx;
  if (p->target->progress)
    p->target->progress(p->target->ctx, p->first * total + p->count * done, p->r->count * total);
  if (p->so_far && !p->r->step(p->r->ctx, p->so_far, p->first, p->count)) return false;
  return !is_cancelled(p->target);
}

/* A condition of none: as the model was trained without one.  By the module's field null_condition = "token" that is
 * a text of zeros under a mask of ones and codes of -1; else an empty text. */
static bool has_null_token(const Kit *k) { return plan_text(k->drawer.plan, PLAN_TEXT_FIELD MODEL_NULL) != NULL; }

static int64_t streams_of(const SampleRange *p) { return p->r->guidance != 1.0f ? 2 * p->count : p->count; }

/* Texts of the samples, then as many of the null condition; and their masks, if the model takes any. */
static bool fill_text(const Kit *k, NuwaSession *s, const SampleRange *p, Error *err) {
  int prologue = k->drawer.plan->decode[k->decode].prologue, words = (int)k->text_tokens;
  bool is_masked = plan_find_input(&k->drawer.plan->function[prologue], PORT_TEXT_MASK) != NULL;
  int32_t *to = nuwa_input(s, prologue, PORT_TEXT);
  uint8_t *mask = is_masked ? nuwa_input(s, prologue, PORT_TEXT_MASK) : NULL;
  for (int64_t i = 0; i < streams_of(p); i++, to += words) {
    const char *text = i < p->count ? p->r->text[p->first + i] : NULL;
    if (!text && has_null_token(k)) {
      memset(to, 0, sizeof *to * (size_t)words);
      if (mask) memset(mask + i * words, 1, (size_t)words);
      continue;
    }
    if (!bpe_encode_fixed(k->bpe, text ? text : "", to, words, err)) return false;
    if (mask) bpe_mask(k->bpe, to, mask + i * words, words);
  }
  return true;
}

static void fill_codes(const Kit *k, NuwaSession *s, const SampleRange *p) {
  int32_t *to = nuwa_input(s, k->drawer.plan->decode[k->decode].prologue, k->codes_input);
  int64_t grid = k->codes_grid[0] * k->codes_grid[1] * k->codes_grid[2], streams = streams_of(p);
  memcpy(to, p->r->codes + p->first * grid, sizeof *to * (size_t)(p->count * grid));
  for (int64_t i = p->count * grid; i < streams * grid; i++) to[i] = -1;
}

static bool fill_conditions(const Kit *k, NuwaSession *s, const SampleRange *p, Error *err) {
  int32_t *class = k->classes ? nuwa_input(s, k->drawer.plan->decode[k->decode].prologue, PORT_CLASS) : NULL;
  for (int64_t i = 0; class && i < p->count; i++) class[i] = p->r->class;
  if (k->codes_input) fill_codes(k, s, p);
  return !k->text_tokens || fill_text(k, s, p, err);
}

/* Does the request name what the model draws of, and no more? */
static bool check_conditions(const Kit *k, const KitRequest *r, Error *err) {
  if (!r->text != !k->text_tokens)
    return error_set(err, ERROR_ARGUMENT, "the generating model draws of %s text", k->text_tokens ? "a" : "no");
  if (k->classes ? r->class < 0 || r->class >= k->classes : r->class >= 0)
    return error_set(err, ERROR_ARGUMENT,
                     k->classes ? "the generating model draws of a class from 0 to %lld"
                                : "the generating model draws of no class",
                     (long long)k->classes - 1);
  if (!r->codes != !k->codes_input)
    return error_set(err, ERROR_ARGUMENT, "the generating model draws of %s",
                     k->codes_input ? k->codes_input : "no codes");
  bool is_guided = (k->text_tokens && !k->classes) || (k->codes_input && has_null_token(k) && !k->draws_words);
  return r->guidance == 1.0f || is_guided ||
         error_set(err, ERROR_ARGUMENT,
                   "guidance is between a text and none: the generating model has no such condition");
}

static NuwaSession *open_generating(const Kit *k, const NuwaGenerate *g, Error *err) {
  int64_t slots, rows;
  if (!nuwa_generate_needs(k->drawer.plan, g, &slots, &rows, err)) return NULL;
  if (slots <= k->drawer.plan->decode[k->decode].live) slots = 0;
  return models_open_session(k->target, k->drawer.plan, g->count * (g->guidance != 1.0f ? 2 : 1), rows, slots, err);
}

static void add_stats(NuwaGenerateStats *sum, const NuwaGenerateStats *part) {
  sum->steps = part->steps;
  sum->tokens += part->tokens;
  sum->live = part->live;
  sum->prologue_ms += part->prologue_ms;
  sum->step_ms += part->step_ms;
}

static bool draw_part(Kit *k, NuwaSession *s, NuwaGenerate *g, SampleRange *p, int32_t *tokens,
                      NuwaGenerateStats *stats, Error *err) {
  NuwaGenerateStats part;
  if (p->count > p->r->count - p->first) p->count = p->r->count - p->first;
  g->count = p->count;
  g->first = p->r->first + p->first;
  g->so_far = p->so_far;
  g->given_tokens = p->r->given ? p->r->given_tokens + p->first * k->positions : NULL;
  g->chance = p->r->chance ? p->r->chance + p->first * k->positions : NULL;
  if (!fill_conditions(k, s, p, err) ||
      !nuwa_generate(s, g, tokens + p->first * k->positions, &part, pass_progress, p, err))
    return false;
  add_stats(stats, &part);
  return !p->r->finished || p->r->finished(p->r->ctx, p->first, p->count, err);
}

bool kit_generate(Kit *k, const KitRequest *r, int32_t *tokens, NuwaGenerateStats *stats, int64_t *out_done,
                  Error *err) {
  int64_t most = r->at_once ? r->at_once : KIT_PART;
  SampleRange p = {k->target, r, 0, r->count < most ? r->count : most};
  NuwaGenerate g = {.decode = k->decode, .raster = r->raster, .count = p.count, .first = r->first, .seed = r->seed,
                    .sample = r->sample, .guidance = r->guidance, .given = r->given};
  *out_done = 0;
  if (!check_conditions(k, r, err)) return false;
  g.given_tokens = r->given_tokens;
  if (r->step && !(p.so_far = mem_alloc(sizeof *p.so_far * (size_t)(p.count * k->positions))))
    return error_set(err, ERROR_MEMORY, "a preview: out of memory");
  NuwaSession *s = open_generating(k, &g, err);
  bool ok = s && nuwa_load_weights(s, k->drawer.weights, true, err);
  *stats = (NuwaGenerateStats){0};
  for (; ok && p.first < r->count && !is_cancelled(k->target); p.first += p.count) {
    ok = draw_part(k, s, &g, &p, tokens, stats, err);
    if (ok) *out_done += p.count;
  }
  if (!ok && s && err->code == ERROR_CANCELLED) ok = true;   /* in the middle of a part, which is lost */
  nuwa_session_close(s);
  mem_free(p.so_far);
  return ok;
}
