/* See score_networks.h. */
#include "synth/score_networks.h"

#include <string.h>

#include "media/image.h"
#include "runtime/base/names.h"

enum { AT_ONCE = 16 };

static const PlanTensor *features_input(const Single *s) {
  const PlanTensor *video = plan_find_input(s->f, PORT_VIDEO);
  return video ? video : plan_find_input(s->f, PORT_IMAGE);
}

static bool check_segment(const Single *s, const char *path, Error *err) {
  const PlanTensor *in = plan_find_input(s->f, PORT_IMAGE), *out = plan_find_output(s->f, PORT_LABELS);
  return (in && single_is_picture(in) && out && out->dtype == DTYPE_I32 && out->rank == 3 &&
          dim_equal(out->dim[1], in->dim[1]) && dim_equal(out->dim[2], in->dim[2])) ||
         error_set(err, ERROR_ARGUMENT, "%s: \"segment\" must take image f32[B,h,w,3] and give labels i32[B,h,w]",
                   path);
}

static bool check_features(const Single *s, const char *path, Error *err) {
  const PlanTensor *in = features_input(s), *out = plan_find_output(s->f, PORT_FEATURES);
  bool ok = in && in->dtype == DTYPE_F32 && out && out->dtype == DTYPE_F32 && out->rank == 2 &&
            dim_is_const(out->dim[1]) && out->dim[1].c >= 1 && out->dim[1].c <= FRECHET_MAX_D;
  for (int i = 1; ok && i < in->rank; i++) ok = dim_is_const(in->dim[i]);
  return ok || error_set(err, ERROR_ARGUMENT,
                         "%s: \"features\" must take image or video and give features f32[B,n], n up to %d", path,
                         FRECHET_MAX_D);
}

static bool open(Single *s, const SynthTarget *t, const char *path, const char *name, Error *err) {
  const ModelSpec none = {0};
  return single_open(s, t, &none, path, &name, 1, AT_ONCE, err) &&
         (s->f || error_set(err, ERROR_ARGUMENT, "%s: its model has no function \"%s\"", path, name));
}

bool score_networks_open(ScoreNetworks *n, const SynthTarget *t, const char *segment, const char *features,
                         Error *err) {
  *n = (ScoreNetworks){0};
  return (!segment ||
          (open(&n->segment, t, segment, FUNC_SEGMENT, err) && check_segment(&n->segment, segment, err))) &&
         (!features ||
          (open(&n->features, t, features, FUNC_FEATURES, err) && check_features(&n->features, features, err)));
}

void score_networks_close(ScoreNetworks *n) {
  single_close(&n->segment);
  single_close(&n->features);
}

static bool check_size(const Single *s, const PlanTensor *in, int64_t size, Error *err) {
  return (in->dim[in->rank - 3].c == size && in->dim[in->rank - 2].c == size) ||
         error_set(err, ERROR_ARGUMENT, "%s sees pictures of %lld x %lld, what is judged has %lld", s->name,
                   (long long)in->dim[in->rank - 2].c, (long long)in->dim[in->rank - 3].c, (long long)size);
}

bool score_networks_accuracy(ScoreNetworks *n, const uint8_t *rgb, const uint16_t *labels, int64_t frames,
                             int64_t size, double *out, Error *err) {
  Single *s = &n->segment;
  const PlanTensor *in = plan_find_input(s->f, PORT_IMAGE);
  int64_t pixels = size * size, right = 0;
  if (!check_size(s, in, size, err)) return false;
  for (int64_t at = 0, some; at < frames; at += some) {
    some = frames - at < AT_ONCE ? frames - at : AT_ONCE;
    single_put_pictures(in, rgb + (size_t)(3 * at * pixels), some, nuwa_input(s->session, s->function, PORT_IMAGE));
    if (!single_run(s, some, err)) return false;
    const int32_t *found = nuwa_output(s->session, s->function, PORT_LABELS);
    for (int64_t i = 0; i < some * pixels; i++) right += found[i] == labels[at * pixels + i];
  }
  *out = (double)right / (double)(frames * pixels);
  return true;
}

bool score_networks_see(const ScoreNetworks *n, int64_t frames) {
  const PlanTensor *in = n->features.f ? features_input(&n->features) : NULL;
  return in && (in->rank != 5 || in->dim[1].c == frames);
}

int64_t score_networks_width(const ScoreNetworks *n) {
  return n->features.f ? plan_find_output(n->features.f, PORT_FEATURES)->dim[1].c : 0;
}

bool score_networks_features(ScoreNetworks *n, const uint8_t *rgb, int64_t count, int64_t frames, int64_t size,
                             Moments *out, Error *err) {
  Single *s = &n->features;
  const PlanTensor *in = features_input(s);
  bool is_clip = in->rank == 5;
  int64_t of_one = is_clip ? frames : 1, total = is_clip ? count : count * frames;
  if (!check_size(s, in, size, err)) return false;
  if (is_clip && in->dim[1].c != frames)
    return error_set(err, ERROR_ARGUMENT, "%s sees clips of %lld frames, what is judged has %lld", s->name,
                     (long long)in->dim[1].c, (long long)frames);
  for (int64_t at = 0, some; at < total; at += some) {
    some = total - at < AT_ONCE ? total - at : AT_ONCE;
    image_to_channels(rgb + (size_t)(3 * at * of_one * size * size), (size_t)(some * of_one * size * size),
                      in->dim[in->rank - 1].c, nuwa_input(s->session, s->function, in->name));
    if (!single_run(s, some, err)) return false;
    moments_add(out, nuwa_output(s->session, s->function, PORT_FEATURES), some);
  }
  return true;
}
