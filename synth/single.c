/* See single.h. */
#include "synth/single.h"

#include "media/image.h"
#include "runtime/base/sha256.h"
#include "runtime/bundle.h"
#include "synth/weights_file.h"

typedef struct OpenCall {
  Single *s;
  const SynthTarget *target;
  ModelSpec model;
  const char *weights;
  const char *const *name;
  int n_name;
  int64_t samples;
  Error *err;
  bool ok;
} OpenCall;

/* A function that draws token by token is none to be called once. */
static bool is_there(const Model *m, const Plan *p, const char *name) {
  Error ignored;
  if (!m) return plan_find_function(p, name) >= 0 && plan_find_decode(p, name) < 0;
  return model_find(m, name, &ignored) && !model_find_decode(m, name, &ignored);
}

/* Sets c->name to the one that is there, or NULL. */
static void choose(OpenCall *c, const Model *m, const Plan *p) {
  const char *const *end = c->name + c->n_name;
  while (c->name < end && !is_there(m, p, *c->name)) c->name++;
  if (c->name == end) c->name = NULL;
}

static bool open_weights(OpenCall *c) {
  Single *s = c->s;
  return (s->weights = weights_file_open(c->target, c->weights, c->err)) &&
         weights_file_digest(c->weights, s->digest, c->err);
}

static bool open_embedded(OpenCall *c) {
  Single *s = c->s;
  const BundlePart *part = bundle_find(s->bundle, NUWA_PART_WEIGHTS, BUNDLE_MODEL);
  if (!part) return (c->name = NULL, true);
  if (!(s->weights = nuwa_bundle_weights(s->bundle, BUNDLE_MODEL, c->err))) return false;
  const char *digest = safetensors_metadata(s->weights, WEIGHTS_DIGEST);
  if (digest)
    snprintf(s->digest, sizeof s->digest, "%s", digest);
  else
    sha256_hex(bundle_digest(s->bundle, part), s->digest);
  return true;
}

static bool open_bundle(OpenCall *c) {
  Single *s = c->s;
  if (!(s->bundle = nuwa_bundle_open(c->model.path, c->err))) return false;
  s->plan = nuwa_bundle_plan(s->bundle, BUNDLE_MODEL);
  if (s->plan)
    choose(c, NULL, s->plan);
  else
    c->name = NULL;
  return !c->name || (c->weights ? open_weights(c) : open_embedded(c));
}

static bool compile(OpenCall *c, Model *m) {
  CompileOptions o = {.function = c->name, .n_function = 1, .whole = true};
  return models_check_weights(m, c->s->weights, c->err) &&
         (c->s->plan = c->s->owned = models_compile_plan(c->target, m, &o, c->err));
}

static bool open_model(OpenCall *c) {
  if (!open_weights(c) ||
      !weights_file_complete(c->s->arena, c->target, &c->model, c->s->weights, c->weights, c->err))
    return false;
  Model *m = models_load(c->target, &c->model, c->err);
  if (m) choose(c, m, NULL);
  bool ok = m && (!c->name || compile(c, m));
  model_free(m);
  return ok;
}

static bool open_session(OpenCall *c) {
  Single *s = c->s;
  bool ok = weights_file_check_finite(s->weights, s->name, c->err) &&
            (s->session = models_open_session(c->target, s->plan, c->samples, 1, 0, c->err)) &&
            (nuwa_load_weights(s->session, s->weights, true, c->err) || error_prefix(c->err, "%s", s->name));
  if (ok) s->f = &s->plan->function[s->function = plan_find_function(s->plan, *c->name)];
  return ok;
}

static void open_body(void *ctx) {
  OpenCall *c = ctx;
  bool is_bundle = c->model.path && models_is_bundle(c->model.path);
  c->s->name = c->weights ? c->weights : c->model.path;
  c->ok = (is_bundle ? open_bundle(c) : open_model(c)) && (!c->name || open_session(c));
}

bool single_open(Single *s, const SynthTarget *t, const ModelSpec *m, const char *weights, const char *const *names,
                 int n_names, int64_t samples, Error *err) {
  *s = (Single){.arena = arena_new()};
  if (!s->arena) return error_set(err, ERROR_MEMORY, "out of memory");
  OpenCall c = {s, t, *m, weights, names, n_names, samples, err, false};
  return arena_protect(s->arena, open_body, &c, err) && c.ok;
}

void single_close(Single *s) {
  nuwa_session_close(s->session);
  plan_free(s->owned);
  safetensors_close(s->weights);
  nuwa_bundle_close(s->bundle);
  arena_free(s->arena);
  *s = (Single){0};
}

bool single_run(Single *s, int64_t B, Error *err) {
  return nuwa_run(s->session, s->function, B, 1) || nuwa_check(s->session, err);
}

/* ---- pictures ---- */

bool single_is_picture(const PlanTensor *t) {
  if (t->dtype != DTYPE_F32 || t->rank != 4 || !dim_equal(t->dim[0], (Dim){.b = 1})) return false;
  for (int i = 1; i < 4; i++)
    if (!dim_is_const(t->dim[i])) return false;
  return t->dim[1].c > 0 && t->dim[1].c <= IMAGE_MAX_SIDE && t->dim[2].c > 0 && t->dim[2].c <= IMAGE_MAX_SIDE &&
         (t->dim[3].c == 1 || t->dim[3].c == 3);
}

static size_t pixels_of(const PlanTensor *t, int64_t n) {
  return (size_t)n * (size_t)t->dim[1].c * (size_t)t->dim[2].c;
}

void single_put_pictures(const PlanTensor *t, const uint8_t *rgb, int64_t n, float *out) {
  image_to_channels(rgb, pixels_of(t, n), t->dim[3].c, out);
}

void single_get_pictures(const PlanTensor *t, const float *values, int64_t n, uint8_t *rgb) {
  image_from_channels(values, pixels_of(t, n), t->dim[3].c, rgb);
}
