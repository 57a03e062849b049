/* Opening a kit and drawing with it. */
#include "synth/kit.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/names.h"
#include "runtime/base/sha256.h"
#include "runtime/bundle.h"
#include "synth/weights_file.h"

/* ---- what the plans must have ---- */

/* What the generating model draws of: text, a class, or nothing. */
static bool find_conditions(Kit *k, const PlanFunction *prologue, Error *err) {
  const char *classes = plan_text(k->plan, PLAN_TEXT_FIELD MODEL_CLASSES);
  const PlanTensor *mask = NULL;
  for (int i = 0; i < prologue->n_in; i++) {
    const PlanTensor *t = &prologue->in[i];
    if (strcmp(t->name, PORT_TEXT) == 0 && t->dtype == DTYPE_I32 && t->rank == 2) k->text_tokens = t->dim[1].c;
    else if (strcmp(t->name, PORT_CLASS) == 0 && t->dtype == DTYPE_I32 && t->rank == 1)
      k->classes = classes ? strtoll(classes, NULL, 10) : 0;
    else if (strcmp(t->name, PORT_TEXT_MASK) == 0) mask = t;
    else
      return error_set(
          err, ERROR_ARGUMENT,
          "the generating model has an input \"%s\", which nothing here gives: it draws of text i32[batch,words] or "
          "of a class i32[batch]",
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

/* Functions of the generating model, whose grid must be one of the autoencoder's pictures. */
static bool find_generator(Kit *k, Error *err) {
  k->decode = plan_find_decode(k->plan, FUNC_DECODE);
  if (k->decode < 0 && plan_find_function(k->plan, FUNC_DECODE) >= 0)   /* of codes, into pictures */
    return error_set(err, ERROR_ARGUMENT,
                     "--weights is an autoencoder, which draws nothing by itself: --vq-weights names it, and "
                     "--weights what was trained on its codes");
  if (k->decode < 0) return error_set(err, ERROR_ARGUMENT, "the generating model has no decode \"decode\"");
  const PlanDecode *d = &k->plan->decode[k->decode];
  if (k->grid[1] != d->grid[1] || k->grid[2] != d->grid[2])
    return error_set(err, ERROR_ARGUMENT, "the autoencoder makes %lldx%lld codes, the generating model %lldx%lld",
                     (long long)k->grid[1], (long long)k->grid[2], (long long)d->grid[1], (long long)d->grid[2]);
  k->grid[0] = d->grid[0];
  k->positions = d->grid[0] * d->grid[1] * d->grid[2];
  if (d->prologue >= 0 && !find_conditions(k, &k->plan->function[d->prologue], err)) return false;
  if (k->codes && k->codes != d->vocab)
    return error_set(err, ERROR_ARGUMENT, "the autoencoder has %lld codes, the generating model draws from %lld",
                     (long long)k->codes, (long long)d->vocab);
  return true;
}

static bool find_autoencoder(Kit *k, Error *err) {
  k->encode_codes = plan_find_function(k->vq_plan, FUNC_ENCODE);
  k->decode_codes = plan_find_function(k->vq_plan, FUNC_DECODE);
  if (k->encode_codes < 0 || k->decode_codes < 0)
    return error_set(err, ERROR_ARGUMENT, "the autoencoder has no functions \"encode\" and \"decode\"");
  const PlanFunction *f = &k->vq_plan->function[k->encode_codes];
  const PlanTensor *image = plan_find_input(f, PORT_IMAGE),
                   *codes = plan_find_output(f, PORT_CODES);
  if (!image || image->rank != 4 || !codes || codes->rank != 4 || (image->dim[3].c != 3 && image->dim[3].c != 1))
    return error_set(err, ERROR_ARGUMENT,
                     "the autoencoder must map image f32[batch,h,w,3 or 1] to codes i32[batch,1,h,w]");
  const char *codebook = plan_text(k->vq_plan, PLAN_TEXT_FIELD MODEL_CODEBOOK);
  k->codes = codebook ? strtoll(codebook, NULL, 10) : 0;
  k->size = image->dim[1].c;
  k->colours = image->dim[3].c;
  k->grid[0] = 1;
  k->grid[1] = codes->dim[2].c;
  k->grid[2] = codes->dim[3].c;
  k->positions = k->grid[1] * k->grid[2];
  return true;
}

static bool open_bpe(Kit *k, Error *err) {
  const char *merges = safetensors_metadata(k->weights, WEIGHTS_BPE);
  if (!k->text_tokens) return true;
  if (!merges) merges = plan_text(k->plan, PLAN_TEXT_BPE);
  if (!merges) return error_set(err, ERROR_ARGUMENT, "the weights hold no text encoder (metadata \"bpe\")");
  k->bpe = bpe_parse(merges, strlen(merges), "merges in the weights", err);
  return k->bpe != NULL;
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

/* w, or NULL when it holds what is no number. */
static Safetensors *check_finite(const OpenCall *c, Safetensors *w, const char *path) {
  if (!w || weights_file_check_finite(w, path, c->err)) return w;
  safetensors_close(w);
  return NULL;
}

/* Weights from the application where it has some and no file is named, else from the file. */
static Safetensors *open_weights_of(OpenCall *c, const char *part, const char *path, char digest[65]) {
  const BundlePart *p = c->k->bundle ? bundle_find(c->k->bundle, NUWA_PART_WEIGHTS, part) : NULL;
  if (!path && p) {
    Safetensors *w = check_finite(c, nuwa_bundle_weights(c->k->bundle, part, c->err), c->spec.model.path);
    const char *of_file = w ? safetensors_metadata(w, WEIGHTS_DIGEST) : NULL;
    if (of_file) snprintf(digest, 65, "%s", of_file);
    else sha256_hex(bundle_digest(c->k->bundle, p), digest);
    return w;
  }
  return weights_file_digest(path, digest, c->err)
             ? check_finite(c, weights_file_open(c->k->target, path, c->err), path)
             : NULL;
}

static bool has_weights(const OpenCall *c, const char *part) {
  return c->k->bundle && bundle_find(c->k->bundle, NUWA_PART_WEIGHTS, part);
}

/* The application's plan, else that of m, which is then completed from its weights. */
static const Plan *open_plan_of(OpenCall *c, const char *part, ModelSpec *m, const Safetensors *w, const char *path,
                                const char *const *functions, int n) {
  Kit *k = c->k;
  const Plan *p = k->bundle ? nuwa_bundle_plan(k->bundle, part) : NULL;
  Plan **owned = &k->owned[strcmp(part, BUNDLE_DRAWER) == 0];
  if (p && (m == &c->spec.model || !m->path)) return nuwa_check_weights(p, w, false, c->err) ? p : NULL;
  if (!weights_file_complete(k->arena, k->target, m, w, path, c->err)) return NULL;
  return *owned = models_open_plan(k->target, m, functions, n, w, c->err);
}

/* ---- opening ---- */

static NuwaSession *open_session(const Kit *k, const Plan *p, int64_t samples, Error *err) {
  return models_open_session(k->target, p, samples, 1, 0, err);
}

/* The autoencoder that was named; else the one that the generating model was trained with, by its digest; else the
 * shipped one. */
static const char *find_vq(OpenCall *c) {
  Kit *k = c->k;
  const char *digest = k->weights ? weights_file_vq(k->arena, k->weights) : NULL;
  if (c->spec.vq_weights) return c->spec.vq_weights;
  if (!digest) return weights_file_shipped(k->arena, k->target, SHIPPED_IMAGE);
  const char *found = weights_file_find(k->arena, k->target, digest,
                                        c->spec.weights ? c->spec.weights : c->spec.model.path);
  if (!found)
    error_set(c->err, ERROR_ARGUMENT,
              "%s was trained with an autoencoder whose weights have the SHA-256 %s; neither beside it nor among the "
              "shipped weights is such a file: give --vq-weights",
              c->spec.weights ? c->spec.weights : c->spec.model.path, digest);
  return found;
}

static bool open_vq(OpenCall *c) {
  static const char *const functions[] = {FUNC_ENCODE, FUNC_DECODE};
  Kit *k = c->k;
  ModelSpec *m = &c->spec.vq;
  bool is_embedded = !c->spec.vq_weights && has_weights(c, BUNDLE_IMAGE);
  const char *path = is_embedded ? NULL : find_vq(c), *where = is_embedded ? c->spec.model.path : path;
  k->vq_weights_path = path;
  return where && (k->vq_weights = open_weights_of(c, BUNDLE_IMAGE, path, k->vq_digest)) &&
         ((k->vq_plan = open_plan_of(c, BUNDLE_IMAGE, m, k->vq_weights, where, functions, 2)) ||
          error_prefix(c->err, "the autoencoder")) &&
         find_autoencoder(k, c->err) &&
         (!c->samples || ((k->vq = open_session(k, k->vq_plan, c->samples, c->err)) &&
                          nuwa_load_weights(k->vq, k->vq_weights, true, c->err)));
}

static bool open_weights(OpenCall *c) {
  Kit *k = c->k;
  bool is_embedded = !c->spec.weights && has_weights(c, BUNDLE_DRAWER);
  if (!c->spec.weights && !is_embedded) c->spec.weights = weights_file_shipped(k->arena, k->target, SHIPPED_DRAWER);
  k->weights_path = c->spec.weights;
  return (k->weights = open_weights_of(c, BUNDLE_DRAWER, k->weights_path, k->digest)) != NULL;
}

/* Whether the weights go with the autoencoder: nothing else tells a picture from noise. */
static bool check_pair(const OpenCall *c) {
  Recipe have = {.arena = c->k->arena};
  recipe_set_text(&have, RECIPE_VQ, c->k->vq_digest);
  return recipe_check_pair(safetensors_metadata(c->k->weights, META_RECIPE), &have, c->err) ||
         error_prefix(c->err, "%s", c->spec.weights ? c->spec.weights : c->spec.model.path);
}

static bool open_generator(OpenCall *c) {
  static const char *const functions[] = {FUNC_DECODE};
  Kit *k = c->k;
  ModelSpec *m = &c->spec.model;
  return check_pair(c) &&
         (k->plan = open_plan_of(c, BUNDLE_DRAWER, m, k->weights, c->spec.weights, functions, 1)) &&
         find_generator(k, c->err) && open_bpe(k, c->err);
}

static void open_body(void *ctx) {
  OpenCall *c = ctx;
  bool wants_weights = c->draws || c->spec.weights;   /* these also say which autoencoder */
  c->ok = open_application(c) && (!wants_weights || open_weights(c)) && open_vq(c) &&
          (!c->draws || open_generator(c));
}

bool kit_open(Kit *k, const SynthTarget *t, const KitSpec *spec, bool draws, int64_t samples, Error *err) {
  *k = (Kit){.arena = arena_new(), .target = t};
  if (!k->arena) return error_set(err, ERROR_MEMORY, "out of memory");
  OpenCall c = {.k = k, .spec = *spec, .draws = draws, .samples = samples, .err = err};
  if (arena_protect(k->arena, open_body, &c, err) && c.ok) return true;
  kit_close(k);
  return false;
}

void kit_close(Kit *k) {
  nuwa_session_close(k->vq);
  plan_free(k->owned[0]);
  plan_free(k->owned[1]);
  bpe_free(k->bpe);
  if (k->weights) safetensors_close(k->weights);
  if (k->vq_weights) safetensors_close(k->vq_weights);
  nuwa_bundle_close(k->bundle);
  arena_free(k->arena);
  *k = (Kit){0};
}

/* ---- the recipe ---- */

void kit_recipe(const Kit *k, Recipe *r) {
  recipe_set_plan(r, k->plan);
  recipe_set_plan_model(r, RECIPE_VQ_SOURCE, RECIPE_VQ_OPTIONS, k->vq_plan);
  recipe_set_text(r, RECIPE_WEIGHTS, k->digest);
  recipe_set_text(r, RECIPE_VQ, k->vq_digest);
}

/* ---- drawing ---- */

/* A request is drawn in parts that share a session, whose memory is that of one part. */
typedef struct SampleRange {
  const SynthTarget *target;
  const KitRequest *r;
  int64_t first, count;          /* of the request's samples */
} SampleRange;

static bool is_cancelled(const SynthTarget *t) { return t->is_cancelled && t->is_cancelled(t->ctx); }

static bool pass_progress(void *ctx, int64_t done, int64_t total) {
  const SampleRange *p = ctx;
  if (p->target->progress)
    p->target->progress(p->target->ctx, p->first * total + p->count * done, p->r->count * total);
  return !is_cancelled(p->target);
}

/* Texts of the samples, then as many empty ones for the null condition; and their masks, if the model takes any. */
static bool fill_text(const Kit *k, NuwaSession *s, const SampleRange *p, Error *err) {
  int prologue = k->plan->decode[k->decode].prologue, words = (int)k->text_tokens;
  bool is_masked = plan_find_input(&k->plan->function[prologue], PORT_TEXT_MASK) != NULL;
  int32_t *to = nuwa_input(s, prologue, PORT_TEXT);
  uint8_t *mask = is_masked ? nuwa_input(s, prologue, PORT_TEXT_MASK) : NULL;
  int64_t streams = p->r->guidance != 1.0f ? 2 * p->count : p->count;
  for (int64_t i = 0; i < streams; i++, to += words) {
    if (!bpe_encode_fixed(k->bpe, i < p->count ? p->r->text[p->first + i] : "", to, words, err)) return false;
    if (mask) bpe_mask(k->bpe, to, mask + i * words, words);
  }
  return true;
}

static bool fill_conditions(const Kit *k, NuwaSession *s, const SampleRange *p, Error *err) {
  int32_t *class = k->classes ? nuwa_input(s, k->plan->decode[k->decode].prologue, PORT_CLASS) : NULL;
  for (int64_t i = 0; class && i < p->count; i++) class[i] = p->r->class;
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
  return r->guidance == 1.0f || (k->text_tokens && !k->classes) ||
         error_set(err, ERROR_ARGUMENT, "guidance is between a text and none: the generating model has no such condition");
}

static NuwaSession *open_generating(const Kit *k, const NuwaGenerate *g, Error *err) {
  int64_t slots, rows;
  if (!nuwa_generate_needs(k->plan, g, &slots, &rows, err)) return NULL;
  if (slots <= k->plan->decode[k->decode].live) slots = 0;
  return models_open_session(k->target, k->plan, g->count * (g->guidance != 1.0f ? 2 : 1), rows, slots, err);
}

static void add_stats(NuwaGenerateStats *sum, const NuwaGenerateStats *part) {
  sum->steps = part->steps;
  sum->tokens += part->tokens;
  sum->live = part->live;
  sum->prologue_ms += part->prologue_ms;
  sum->step_ms += part->step_ms;
}

/* The given tokens once a sample.  Free with mem_free. */
static int32_t *repeat_given(const Kit *k, const KitRequest *r, int64_t n, Error *err) {
  size_t bytes = sizeof(int32_t) * (size_t)k->positions;
  int32_t *given = mem_alloc((size_t)n * bytes);
  if (!given) error_set(err, ERROR_MEMORY, "out of memory for the given tokens");
  for (int64_t i = 0; given && i < n; i++) memcpy(given + i * k->positions, r->given_tokens, bytes);
  return given;
}

static bool draw_part(Kit *k, NuwaSession *s, NuwaGenerate *g, SampleRange *p, int32_t *tokens, NuwaGenerateStats *stats,
                      Error *err) {
  NuwaGenerateStats part;
  if (p->count > p->r->count - p->first) p->count = p->r->count - p->first;
  g->count = p->count;
  g->first = p->r->first + p->first;
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
  int32_t *given = NULL;
  *out_done = 0;
  if (!check_conditions(k, r, err)) return false;
  if (r->given && !(given = repeat_given(k, r, p.count, err))) return false;
  g.given_tokens = given;
  NuwaSession *s = open_generating(k, &g, err);
  bool ok = s && nuwa_load_weights(s, k->weights, true, err);
  *stats = (NuwaGenerateStats){0};
  for (; ok && p.first < r->count && !is_cancelled(k->target); p.first += p.count) {
    ok = draw_part(k, s, &g, &p, tokens, stats, err);
    if (ok) *out_done += p.count;
  }
  if (!ok && s && err->code == ERROR_CANCELLED) ok = true;   /* in the middle of a part, which is lost */
  nuwa_session_close(s);
  mem_free(given);
  return ok;
}

static int64_t vq_samples(const Kit *k) { return nuwa_samples(k->vq); }

bool kit_encode(Kit *k, const uint8_t *rgb, int64_t n, int32_t *codes, Error *err) {
  int64_t pixels = k->size * k->size, per_picture = k->grid[1] * k->grid[2];
  for (int64_t at = 0; at < n; at += vq_samples(k)) {
    int64_t B = n - at < vq_samples(k) ? n - at : vq_samples(k);
    image_to_channels(rgb + 3 * at * pixels, (size_t)(B * pixels), k->colours,
                      nuwa_input(k->vq, k->encode_codes, PORT_IMAGE));
    if (!nuwa_run(k->vq, k->encode_codes, B, 0)) return nuwa_check(k->vq, err);
    memcpy(codes + at * per_picture, nuwa_output(k->vq, k->encode_codes, PORT_CODES),
           sizeof *codes * (size_t)(B * per_picture));
  }
  return true;
}

bool kit_decode(Kit *k, const int32_t *codes, int64_t n, uint8_t *rgb, Error *err) {
  int64_t pixels = k->size * k->size, per_picture = k->grid[1] * k->grid[2];
  for (int64_t at = 0; at < n; at += vq_samples(k)) {
    int64_t B = n - at < vq_samples(k) ? n - at : vq_samples(k);
    memcpy(nuwa_input(k->vq, k->decode_codes, PORT_CODES), codes + at * per_picture,
           sizeof *codes * (size_t)(B * per_picture));
    if (!nuwa_run(k->vq, k->decode_codes, B, 0)) return nuwa_check(k->vq, err);
    image_from_channels(nuwa_output(k->vq, k->decode_codes, PORT_IMAGE), (size_t)(B * pixels), k->colours,
                        rgb + 3 * at * pixels);
  }
  return true;
}
