/* See ranking.h. */
#include "synth/ranking.h"

#include <string.h>

#include "media/image.h"
#include "runtime/base/names.h"
#include "synth/weights_file.h"

enum { AT_ONCE = 16 };

static const PlanTensor *features_of(const Single *s) { return s->f ? plan_find_output(s->f, PORT_FEATURES) : NULL; }

static bool check(const Ranking *r, const char *weights, Error *err) {
  const PlanTensor *a = r->vector[0], *b = r->vector[1];
  bool ok = r->picture && single_is_picture(r->picture) && r->words && r->words->rank == 2 &&
            dim_is_const(r->words->dim[1]) && a && b && a->rank == 2 && b->rank == 2 && a->dtype == DTYPE_F32 &&
            b->dtype == DTYPE_F32 && dim_is_const(a->dim[1]) && dim_equal(a->dim[1], b->dim[1]);
  return ok ||
         error_set(err, ERROR_ARGUMENT,
                   "%s is no model of likeness: it must have \"" FUNC_IMAGE_FEATURES "\" of image f32[B,h,w,3] and "
                   "\"" FUNC_TEXT_FEATURES
                   "\" of text i32[B,n], with features f32[B,m] alike (models/metrics/clip.lua)",
                   weights);
}

bool ranking_open(Ranking *r, const SynthTarget *t, const char *weights, Error *err) {
  static const char *const of_image[] = {FUNC_IMAGE_FEATURES}, *const of_text[] = {FUNC_TEXT_FEATURES};
  const ModelSpec none = {0};
  *r = (Ranking){0};
  if (!single_open(&r->image, t, &none, weights, of_image, 1, AT_ONCE, err) ||
      !single_open(&r->text, t, &none, weights, of_text, 1, 1, err))
    return false;
  r->picture = r->image.f ? plan_find_input(r->image.f, PORT_IMAGE) : NULL;
  r->words = r->text.f ? plan_find_input(r->text.f, PORT_TEXT) : NULL;
  r->vector[0] = features_of(&r->image);
  r->vector[1] = features_of(&r->text);
  if (!check(r, weights, err)) return false;
  const char *merges = safetensors_metadata(r->text.weights, WEIGHTS_BPE);
  if (!merges) return error_set(err, ERROR_ARGUMENT, "%s hold no text encoder (metadata \"bpe\")", weights);
  return (r->bpe = bpe_parse(merges, strlen(merges), weights, err)) != NULL;
}

void ranking_close(Ranking *r) {
  single_close(&r->image);
  single_close(&r->text);
  bpe_free(r->bpe);
  *r = (Ranking){0};
}

static bool read_text(Ranking *r, const char *text, Error *err) {
  Single *s = &r->text;
  int words = (int)r->words->dim[1].c;
  int32_t *ids = nuwa_input(s->session, s->function, PORT_TEXT);
  if (!bpe_encode_fixed(r->bpe, text, ids, words, err)) return false;
  uint8_t *mask = plan_find_input(s->f, PORT_TEXT_MASK) ? nuwa_input(s->session, s->function, PORT_TEXT_MASK) : NULL;
  if (mask) bpe_mask(r->bpe, ids, mask, words);
  return single_run(s, 1, err);
}

/* Frames [n, size, size, 3] of the size that the model reads. */
static bool put_frames(const Ranking *r, const uint8_t *rgb, int64_t n, int64_t size, float *to, Error *err) {
  int height = (int)r->picture->dim[1].c, width = (int)r->picture->dim[2].c;
  size_t bytes = (size_t)(3 * size * size), values = (size_t)height * (size_t)width * (size_t)r->picture->dim[3].c;
  for (int64_t i = 0; i < n; i++) {
    Image frame = {(int)size, (int)size, (uint8_t *)(uintptr_t)rgb + (size_t)i * bytes}, fitted = {0};
    if (!image_fit(&frame, width, height, &fitted, err)) return false;
    single_put_pictures(r->picture, fitted.rgb, 1, to + (size_t)i * values);
    image_done(&fitted);
  }
  return true;
}

bool ranking_compare(Ranking *r, const char *text, const uint8_t *rgb, int64_t n, int64_t frames, int64_t size,
                     double *out, Error *err) {
  Single *s = &r->image;
  int64_t m = r->vector[0]->dim[1].c;
  if (!read_text(r, text, err)) return false;
  const float *of_text = nuwa_output(r->text.session, r->text.function, PORT_FEATURES);
  memset(out, 0, (size_t)n * sizeof *out);
  for (int64_t at = 0, some; at < n * frames; at += some) {
    some = n * frames - at < AT_ONCE ? n * frames - at : AT_ONCE;
    if (!put_frames(r, rgb + (size_t)(3 * size * size * at), some, size,
                    nuwa_input(s->session, s->function, PORT_IMAGE), err) ||
        !single_run(s, some, err))
      return false;
    const float *v = nuwa_output(s->session, s->function, PORT_FEATURES);
    for (int64_t i = 0; i < some * m; i++)
      out[(at + i / m) / frames] += (double)v[i] * (double)of_text[i % m] / (double)frames;
  }
  return true;
}

void ranking_order(const double *likeness, int64_t n, int64_t *out) {
  for (int64_t i = 0; i < n; i++) {
    int64_t at = i;
    for (; at > 0 && likeness[out[at - 1]] < likeness[i]; at--) out[at] = out[at - 1];
    out[at] = i;
  }
}
