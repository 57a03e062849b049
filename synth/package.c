/* See package.h. */
#include "synth/package.h"

#include <string.h>

#include "runtime/base/names.h"
#include "runtime/bundle.h"
#include "synth/weights_file.h"

typedef struct Package {
  const SynthTarget *target;
  const PackageSpec *spec;
  const char *out;
  Arena *arena;
  Safetensors *weights;         /* NULL: none are named */
  Model *model;
  Error *err;
  bool ok;
} Package;

/* ---- pins ---- */

typedef struct Pin {
  Plan *plan;
  const NuwaSession *session;
} Pin;

/* The plan with what the session chose, and where. */
static void write_pins(void *ctx) {
  const Pin *x = ctx;
  Plan *p = x->plan;
  PlanText *text = ARENA_ARRAY(p->arena, PlanText, p->n_text + 1);
  if (p->n_text) memcpy(text, p->text, sizeof *text * (size_t)p->n_text);
  text[p->n_text++] = (PlanText){PLAN_TEXT_PINNED, arena_strdup(p->arena, nuwa_device_name(x->session))};
  p->text = text;
  for (int i = 0; i < p->n_product; i++)
    p->product[i].algorithm = arena_strdup(p->arena, nuwa_product_algorithm(x->session, i));
}

/* Opens the plan on the GPU at hand, which chooses an algorithm for each product of the library as every session
 * does, and writes the choices into it: all such GPUs with this version of the library then give the same bits. */
static bool pin_plan(const Package *k, Plan *p) {
  if (!k->spec->pins) return true;
  NuwaOptions o = {.device = PLAN_CUDA, .cuda = k->target->session.cuda, .threads = 1, .samples = 1, .rows = 1};
  NuwaSession *s = nuwa_session_open(p, &o, k->err);
  if (!s) return error_prefix(k->err, "pinning needs the GPU that the bundle is for");
  Pin x = {p, s};
  bool ok = arena_protect(p->arena, write_pins, &x, k->err);
  if (ok) synth_say(k->target, "%d products pinned on %s", p->n_product, nuwa_device_name(s));
  nuwa_session_close(s);
  return ok;
}

/* ---- parts ---- */

static BundlePart bytes_part(int kind, const char *name, const Buffer *b) {
  return (BundlePart){kind, name, (const uint8_t *)b->data, b->len};
}

static BundlePart text_part(const char *name, const char *text) {
  return (BundlePart){NUWA_PART_TEXT, name, (const uint8_t *)text, strlen(text) + 1};
}

/* ---- one model ---- */

/* The plan, and what is embedded: its weights and their text encoder. */
static bool write_model(const Package *k, const Plan *p) {
  Buffer plan = {0}, weights = {0};
  char digest[65];
  BundlePart part[3];
  bool embeds = k->spec->embeds;
  const char *merges = embeds ? safetensors_metadata(k->weights, WEIGHTS_BPE) : NULL;
  bool ok = plan_write(p, &plan, k->err) &&
            (!embeds || (weights_file_digest(k->spec->kit.weights, digest, k->err) &&
                         weights_file_embed(k->weights, p, digest, &weights, k->err)));
  int n = 0;
  part[n++] = bytes_part(NUWA_PART_PLAN, BUNDLE_MODEL, &plan);
  if (merges) part[n++] = text_part(BUNDLE_MERGES, merges);
  if (embeds) part[n++] = bytes_part(NUWA_PART_WEIGHTS, BUNDLE_MODEL, &weights);
  ok = ok && bundle_write(k->out, part, n, k->err);
  buffer_done(&weights);
  buffer_done(&plan);
  return ok;
}

static bool package_model(const Package *k) {
  CompileOptions o = {.function = k->spec->n_function ? k->spec->function : NULL, .n_function = k->spec->n_function,
                      .explain = k->spec->explain};
  Plan *p = models_compile_plan(k->target, k->model, &o, k->err);
  bool ok = p && pin_plan(k, p) &&
            (!k->weights || (models_check_weights(k->model, k->weights, k->err) &&
                             nuwa_check_weights(p, k->weights, true, k->err))) &&
            write_model(k, p);
  plan_free(p);
  return ok;
}

/* ---- an application ---- */

static bool write_application(const Package *k, const Kit *kit) {
  const Opened *of[2] = {&kit->drawer, &kit->codec[CODEC_IMAGE].opened};
  Buffer plan[2] = {0}, weights[2] = {0};
  const char *merges = safetensors_metadata(kit->drawer.weights, WEIGHTS_BPE);
  if (!merges) merges = plan_text(kit->drawer.plan, PLAN_TEXT_BPE);
  bool ok = true;
  for (int i = 0; ok && i < 2; i++)
    ok = plan_write(of[i]->plan, &plan[i], k->err) &&
         weights_file_embed(of[i]->weights, of[i]->plan, of[i]->digest, &weights[i], k->err);
  const BundlePart part[] = {bytes_part(NUWA_PART_PLAN, BUNDLE_DRAWER, &plan[0]),
                             bytes_part(NUWA_PART_PLAN, BUNDLE_IMAGE, &plan[1]),
                             text_part(BUNDLE_MERGES, merges),
                             text_part(BUNDLE_NULL_TEXT, ""),
                             bytes_part(NUWA_PART_WEIGHTS, BUNDLE_DRAWER, &weights[0]),
                             bytes_part(NUWA_PART_WEIGHTS, BUNDLE_IMAGE, &weights[1])};
  ok = ok && bundle_write(k->out, part, COUNT_OF(part), k->err);
  for (int i = 0; i < 2; i++) {
    buffer_done(&plan[i]);
    buffer_done(&weights[i]);
  }
  return ok;
}

static bool package_application(const Package *k, const KitSpec *spec) {
  Kit kit;
  if (!kit_open(&kit, k->target, spec, true, 0, k->err)) return false;
  Opened *drawer = &kit.drawer, *image = &kit.codec[CODEC_IMAGE].opened;
  bool ok = drawer->owned && image->owned && drawer->path && image->path;
  if (!ok) error_set(k->err, ERROR_ARGUMENT, "an application is made from Lua files and weights, not from a bundle");
  if (ok && (!kit.text_tokens || kit.classes))
    ok = error_set(k->err, ERROR_ARGUMENT, "an application draws of text, this model of %s",
                   kit.classes ? "a class" : "nothing");
  ok = ok && pin_plan(k, drawer->owned) && pin_plan(k, image->owned) && write_application(k, &kit);
  kit_close(&kit);
  return ok;
}

/* ---- all ---- */

static bool find_functions(const Package *k) {
  for (int i = 0; i < k->spec->n_function; i++)
    if (!error_asked(model_find(k->model, k->spec->function[i], k->err) != NULL, k->err)) return false;
  return true;
}

static bool is_application(const Package *k) {
  Error none;
  return k->spec->embeds && !k->spec->n_function && model_find_decode(k->model, FUNC_DECODE, &none);
}

static void write_body(void *ctx) {
  Package *k = ctx;
  KitSpec spec = k->spec->kit;
  const char *path = spec.weights;
  if (path && !((k->weights = weights_file_open(k->target, path, k->err)) &&
                weights_file_complete(k->arena, k->target, &spec.model, k->weights, path, k->err)))
    return;
  if (!error_asked((k->model = models_load(k->target, &spec.model, k->err)) != NULL, k->err) || !find_functions(k))
    return;
  k->ok = is_application(k) ? package_application(k, &spec) : package_model(k);
}

bool package_write(const SynthTarget *t, const PackageSpec *spec, const char *out, Error *err) {
  Package k = {.target = t, .spec = spec, .out = out, .arena = arena_new(), .err = err};
  bool within = k.arena ? arena_protect(k.arena, write_body, &k, err) : error_set(err, ERROR_MEMORY, "out of memory");
  model_free(k.model);
  safetensors_close(k.weights);
  arena_free(k.arena);
  return within && k.ok;
}
