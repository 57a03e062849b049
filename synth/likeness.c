/* See likeness.h. */
#include "synth/likeness.h"

#include <math.h>
#include <string.h>

#include "runtime/base/names.h"

/* f32 [B, s, height, width, 1 or 3], of constant sizes. */
static bool is_clip(const PlanTensor *t) {
  PlanTensor frame = *t;
  if (t->rank != 5 || !dim_is_const(t->dim[1]) || t->dim[1].c < 1) return false;
  frame.rank = 4;
  memmove(&frame.dim[1], &frame.dim[2], 3 * sizeof *frame.dim);
  return single_is_picture(&frame);
}

static bool check_ports(Likeness *l, const char *weights, Error *err) {
  const PlanFunction *f = l->features.f;
  if (!f) return error_set(err, ERROR_ARGUMENT, "%s: its model has no function \"%s\"", weights, FUNC_FEATURES);
  l->image = plan_find_input(f, PORT_IMAGE);
  if (!l->image) l->image = plan_find_input(f, PORT_VIDEO);
  l->vector = plan_find_output(f, PORT_FEATURES);
  bool ok = f->n_in == 1 && l->image && (single_is_picture(l->image) || is_clip(l->image)) && l->vector && l->vector->dtype == DTYPE_F32 &&
            l->vector->rank == 2 && dim_equal(l->vector->dim[0], (Dim){.b = 1}) && dim_is_const(l->vector->dim[1]) &&
            l->vector->dim[1].c >= 1 && l->vector->dim[1].c <= FRECHET_MAX_D;
  return ok || error_set(err, ERROR_ARGUMENT,
                         "%s: \"%s\" must take %s f32[batch, h, w, 1 or 3], or %s f32[batch, s, h, w, 1 or 3], and give %s "
                         "f32[batch, n], n up to %d",
                         weights, FUNC_FEATURES, PORT_IMAGE, PORT_VIDEO, PORT_FEATURES, FRECHET_MAX_D);
}

bool likeness_open(Likeness *l, const SynthTarget *t, const ModelSpec *m, const char *weights, Error *err) {
  static const char *const names[] = {FUNC_FEATURES};
  *l = (Likeness){0};
  return single_open(&l->features, t, m, weights, names, 1, PAINTER_PART, err) && check_ports(l, weights, err);
}

void likeness_close(Likeness *l) {
  single_close(&l->features);
  *l = (Likeness){0};
}

static void *port(const Likeness *l) { return nuwa_input(l->features.session, l->features.function, l->image->name); }

/* What is in the port by now. */
static bool add(Likeness *l, int64_t n, Moments *m, Error *err) {
  Single *s = &l->features;
  if (!single_run(s, n, err)) return false;
  moments_add(m, nuwa_output(s->session, s->function, PORT_FEATURES), n);
  return true;
}

static int64_t part(int64_t n, int64_t at) { return n - at < PAINTER_PART ? n - at : PAINTER_PART; }

/* Where the i-th of n pictures stands: as far from its neighbours as can be, for what is listed is often sorted. */
static uint64_t spread(const Dataset *d, uint64_t i, uint64_t n) {
  return dataset_is_endless(d) ? i : i * dataset_count(d, WORLD_TRAIN) / n;
}

/* Pictures at, at + 1, ... of the n of a data set, as features see them, to `to`. */
static bool fill(const Likeness *l, const Dataset *d, int64_t at, int64_t n, float *to, Error *err) {
  DataWant want = {.name = l->image->name, .dtype = DTYPE_F32, .rank = l->image->rank - 1};
  for (int i = 0; i < want.rank; i++) want.dim[i] = l->image->dim[i + 1].c;
  if (!dataset_match(d, NULL, &want, err)) return false;
  for (int64_t i = 0; i < part(n, at); i++) {
    want.out = (uint8_t *)to + (size_t)i * data_want_bytes(&want);
    if (!dataset_fill(d, NULL, WORLD_TRAIN, spread(d, (uint64_t)(at + i), (uint64_t)n), 1, &want, 1, err)) return false;
  }
  return true;
}

bool likeness_of_data(Likeness *l, const Dataset *d, int64_t n, Arena *a, Moments *out, Error *err) {
  *out = moments_new(a, l->vector->dim[1].c);
  for (int64_t at = 0; at < n; at += PAINTER_PART)
    if (!fill(l, d, at, n, port(l), err) || !add(l, part(n, at), out, err)) return false;
  return true;
}

static bool is_alike(const PlanTensor *t, const PlanTensor *image) {
  bool same = t && single_is_picture(t);
  for (int i = 1; same && i < 4; i++) same = dim_equal(t->dim[i], image->dim[i]);
  return same;
}

/* Outside of [-1, 1] there is no grey that a file could hold. */
static void take_clipped(const float *from, float *to, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = fminf(fmaxf(from[i], -1.0f), 1.0f);
}

bool likeness_of_reconstructions(Likeness *l, Single *codec, const Dataset *d, int64_t n, Arena *a, Moments *out,
                                 Error *err) {
  const PlanFunction *f = codec->f;
  const PlanTensor *image = l->image;
  size_t elements = (size_t)(image->dim[1].c * image->dim[2].c * image->dim[3].c);
  if (!f || !is_alike(plan_find_input(f, PORT_IMAGE), image) || !is_alike(plan_find_output(f, PORT_IMAGE), image))
    return error_set(
        err, ERROR_ARGUMENT,
        "%s: its model needs a function \"%s\" of pictures f32[B,%lld,%lld,%lld], as the features see them",
        codec->name, FUNC_RECONSTRUCT, (long long)image->dim[1].c, (long long)image->dim[2].c,
        (long long)image->dim[3].c);
  *out = moments_new(a, l->vector->dim[1].c);
  for (int64_t at = 0; at < n; at += PAINTER_PART) {
    if (!fill(l, d, at, n, nuwa_input(codec->session, codec->function, PORT_IMAGE), err) ||
        !single_run(codec, part(n, at), err))
      return false;
    take_clipped(nuwa_output(codec->session, codec->function, PORT_IMAGE), port(l), (size_t)part(n, at) * elements);
    if (!add(l, part(n, at), out, err)) return false;
  }
  return true;
}

bool likeness_of_drawings(Likeness *l, Painter *p, uint64_t seed, int64_t n, Arena *a, Moments *out, Error *err) {
  int64_t height = l->image->dim[1].c, width = l->image->dim[2].c;
  if (p->height != height || p->width != width)
    return error_set(err, ERROR_ARGUMENT, "drawings of %lld x %lld pixels, features of pictures of %lld x %lld",
                     (long long)p->width, (long long)p->height, (long long)width, (long long)height);
  uint8_t *rgb = arena_alloc(a, (size_t)(3 * PAINTER_PART * height * width));
  int32_t class[PAINTER_PART] = {0};
  *out = moments_new(a, l->vector->dim[1].c);
  for (int64_t at = 0; at < n; at += PAINTER_PART) {
    for (int64_t i = 0; p->classes && i < PAINTER_PART; i++) class[i] = (int32_t)((at + i) % p->classes);
    if (!painter_draw(p, seed, at, part(n, at), class, rgb, err)) return false;
    single_put_pictures(l->image, rgb, part(n, at), port(l));
    if (!add(l, part(n, at), out, err)) return false;
  }
  return true;
}
