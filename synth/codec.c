/* See codec.h. */
#include "synth/codec.h"

#include <stdlib.h>
#include <string.h>

#include "media/image.h"
#include "runtime/base/names.h"
#include "synth/weights_file.h"

static const struct {
  const char *name;
  CodecFields fields;
} kinds[CODEC_KINDS] = {{PORT_IMAGE, {RECIPE_VQ, RECIPE_VQ_SOURCE, RECIPE_VQ_OPTIONS}},
                        {PORT_LABELS, {RECIPE_LABELS_VQ, RECIPE_LABELS_VQ_SOURCE, RECIPE_LABELS_VQ_OPTIONS}}};

const char *codec_name(CodecKind kind) { return kinds[kind].name; }
CodecFields codec_fields(CodecKind kind) { return kinds[kind].fields; }

CodecKind codec_of_name(const char *name) {
  int k = 0;
  while (k < CODEC_KINDS && strcmp(kinds[k].name, name) != 0) k++;
  return (CodecKind)k;
}

/* ---- what the plan must have ---- */

static bool is_constant(const PlanTensor *t, int first) {
  for (int i = first; i < t->rank; i++)
    if (!dim_is_const(t->dim[i])) return false;
  return dim_equal(t->dim[0], (Dim){.b = 1});
}

static bool is_frame(const Codec *c, const PlanTensor *t) {
  if (!t || t->rank != (c->kind == CODEC_IMAGE ? 4 : 3) || !is_constant(t, 1)) return false;
  if (c->kind == CODEC_LABELS) return t->dtype == DTYPE_I32;
  return t->dtype == DTYPE_F32 && (t->dim[3].c == 3 || t->dim[3].c == 1);
}

static bool is_codes(const PlanTensor *t) {
  return t && t->rank == 4 && t->dtype == DTYPE_I32 && is_constant(t, 1) && t->dim[1].c == 1;
}

static int64_t field_of(const Plan *p, const char *key) {
  const char *text = plan_text(p, key);
  return text ? strtoll(text, NULL, 10) : 0;
}

static bool refuse(const Codec *c, Error *err) {
  return error_set(err, ERROR_ARGUMENT, c->kind == CODEC_IMAGE
                   ? "the autoencoder must map image f32[batch,h,w,3 or 1] to codes i32[batch,1,h,w]"
                   : "the autoencoder of labels must map labels i32[batch,h,w] to codes i32[batch,1,h,w]");
}

static bool describe(Codec *c, Error *err) {
  const Plan *p = c->opened.plan;
  c->encode = plan_find_function(p, FUNC_ENCODE);
  c->decode = plan_find_function(p, FUNC_DECODE);
  if (c->encode < 0 || c->decode < 0)
    return error_set(err, ERROR_ARGUMENT, "the autoencoder has no functions \"encode\" and \"decode\"");
  const PlanFunction *encode = &p->function[c->encode], *decode = &p->function[c->decode];
  const PlanTensor *frame = plan_find_input(encode, codec_name(c->kind)), *codes = plan_find_output(encode, PORT_CODES);
  if (!is_frame(c, frame) || !is_codes(codes) || encode->n_in != 1 || !is_codes(plan_find_input(decode, PORT_CODES)) ||
      !is_frame(c, plan_find_output(decode, codec_name(c->kind))) || decode->n_in != 1)
    return refuse(c, err);
  c->codes = field_of(p, PLAN_TEXT_FIELD MODEL_CODEBOOK);
  c->channels = c->kind == CODEC_IMAGE ? frame->dim[3].c : field_of(p, PLAN_TEXT_FIELD MODEL_CLASSES);
  c->height = frame->dim[1].c;
  c->width = frame->dim[2].c;
  c->grid[0] = codes->dim[2].c;
  c->grid[1] = codes->dim[3].c;
  return true;
}

/* ---- life ---- */

bool codec_open(Codec *c, const OpenedFrom *from, CodecKind kind, const CodecSpec *spec, int64_t samples, Error *err) {
  static const char *const functions[] = {FUNC_ENCODE, FUNC_DECODE};
  *c = (Codec){.kind = kind};
  ModelSpec m = spec->model;
  bool ok = opened_weights(&c->opened, from, codec_name(kind), spec->weights, err) &&
            (opened_plan(&c->opened, from, codec_name(kind), &m, !m.path, functions, COUNT_OF(functions), err) ||
             error_prefix(err, kind == CODEC_IMAGE ? "the autoencoder" : "the autoencoder of labels")) &&
            describe(c, err);
  if (!ok || !samples) return ok;
  c->session = models_open_session(from->target, c->opened.plan, samples, 1, 0, err);
  return c->session && nuwa_load_weights(c->session, c->opened.weights, true, err);
}

void codec_close(Codec *c) {
  nuwa_session_close(c->session);
  opened_close(&c->opened);
  *c = (Codec){0};
}

bool codec_find(const OpenedFrom *from, CodecKind kind, const Safetensors *w, const char *beside, const char **out,
                Error *err) {
  const char *digest = weights_file_recipe_text(from->arena, w, codec_fields(kind).digest);
  *out = digest ? weights_file_find(from->arena, from->target, digest, beside) : NULL;
  return *out || !digest ||
         error_set(
             err, ERROR_ARGUMENT,
             "%s was trained with an autoencoder%s whose weights have the SHA-256 %s; neither beside it nor among "
             "the shipped weights is such a file: give --tokens %s=FILE",
             beside, kind == CODEC_IMAGE ? "" : " of labels", digest, codec_name(kind));
}

void codec_recipe(const Codec *c, const char *digest, Recipe *r) {
  CodecFields f = codec_fields(c->kind);
  recipe_set_plan_model(r, f.source, f.options, c->opened.plan);
  recipe_set_text(r, f.digest, digest);
}

/* ---- frames and codes ---- */

static size_t frame_values(const Codec *c) {
  return (size_t)c->height * (size_t)c->width * (c->kind == CODEC_IMAGE ? (size_t)c->channels : 1);
}

bool codec_encode_frames(const Codec *c, const void *frames, int64_t n, int32_t *codes, Error *err) {
  int64_t most = nuwa_samples(c->session), grid = c->grid[0] * c->grid[1];
  size_t bytes = frame_values(c) * sizeof(float);
  for (int64_t at = 0, some; at < n; at += some) {
    some = n - at < most ? n - at : most;
    memcpy(nuwa_input(c->session, c->encode, codec_name(c->kind)), (const char *)frames + (size_t)at * bytes,
           (size_t)some * bytes);
    if (!nuwa_run(c->session, c->encode, some, 0)) return nuwa_check(c->session, err);
    memcpy(codes + at * grid, nuwa_output(c->session, c->encode, PORT_CODES), sizeof *codes * (size_t)(some * grid));
  }
  return true;
}

bool codec_decode_frames(const Codec *c, const int32_t *codes, int64_t n, void *frames, Error *err) {
  int64_t most = nuwa_samples(c->session), grid = c->grid[0] * c->grid[1];
  size_t bytes = frame_values(c) * sizeof(float);
  for (int64_t at = 0, some; at < n; at += some) {
    some = n - at < most ? n - at : most;
    memcpy(nuwa_input(c->session, c->decode, PORT_CODES), codes + at * grid, sizeof *codes * (size_t)(some * grid));
    if (!nuwa_run(c->session, c->decode, some, 0)) return nuwa_check(c->session, err);
    memcpy((char *)frames + (size_t)at * bytes, nuwa_output(c->session, c->decode, codec_name(c->kind)),
           (size_t)some * bytes);
  }
  return true;
}

/* Through floats, as many frames at once as a session takes. */
static bool through_floats(const Codec *c, uint8_t *rgb, int64_t n, int32_t *codes, bool encodes, Error *err) {
  int64_t most = nuwa_samples(c->session), grid = c->grid[0] * c->grid[1];
  size_t pixels = (size_t)(c->height * c->width);
  float *values = mem_alloc((size_t)(n < most ? n : most) * frame_values(c) * sizeof *values + 1);
  bool ok = values || error_set(err, ERROR_MEMORY, "pictures: out of memory");
  for (int64_t at = 0, some; ok && at < n; at += some) {
    some = n - at < most ? n - at : most;
    uint8_t *part = rgb + 3 * (size_t)at * pixels;
    if (encodes) image_to_channels(part, (size_t)some * pixels, c->channels, values);
    ok = encodes ? codec_encode_frames(c, values, some, codes + at * grid, err)
                 : codec_decode_frames(c, codes + at * grid, some, values, err);
    if (ok && !encodes) image_from_channels(values, (size_t)some * pixels, c->channels, part);
  }
  mem_free(values);
  return ok;
}

bool codec_encode(const Codec *c, const uint8_t *rgb, int64_t n, int32_t *codes, Error *err) {
  return through_floats(c, (uint8_t *)(uintptr_t)rgb, n, codes, true, err);
}

bool codec_decode(const Codec *c, const int32_t *codes, int64_t n, uint8_t *rgb, Error *err) {
  return through_floats(c, rgb, n, (int32_t *)(uintptr_t)codes, false, err);
}
