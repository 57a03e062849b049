/* Weights: params from files, and initial values from a seed. */
#include <math.h>
#include <string.h>

#include "runtime/base/convert.h"
#include "runtime/base/philox.h"
#include "runtime/base/sha256.h"
#include "runtime/session.h"
#include "runtime/weights.h"

static bool same_shape(const PlanTensor *t, const TensorView *v) {
  if (t->rank != v->rank) return false;
  for (int i = 0; i < t->rank; i++)
    if (t->dim[i].c != v->dim[i]) return false;
  return true;
}

static void print_shape(char *out, size_t cap, int rank, const int64_t *dim) {
  size_t at = (size_t)snprintf(out, cap, "[");
  for (int i = 0; i < rank && at < cap; i++)
    at += (size_t)snprintf(out + at, cap - at, "%s%lld", i ? "," : "", (long long)dim[i]);
  if (at < cap) snprintf(out + at, cap - at, "]");
}

static bool check_param(const PlanTensor *t, const TensorView *v, Error *err) {
  char want[160], have[160];
  int64_t dim[MAX_RANK];
  for (int i = 0; i < t->rank; i++) dim[i] = t->dim[i].c;
  print_shape(want, sizeof want, t->rank, dim);
  if (!v) return error_set(err, ERROR_ARGUMENT, "the weights lack \"%s\" %s%s", t->name, dtype_name(t->dtype), want);
  print_shape(have, sizeof have, v->rank, v->dim);
  if (!same_shape(t, v))
    return error_set(err, ERROR_ARGUMENT, "weight \"%s\": the model wants %s, the file has %s", t->name, want, have);
  if (convert_is_possible(v, t->dtype)) return true;
  return error_set(
      err, ERROR_ARGUMENT,
      "weight \"%s\": the model wants %s, the file has %s; F32, F64, F16 and BF16 are read as floats, I32, I64, U8 "
      "and BOOL as either",
      t->name, dtype_name(t->dtype), stored_name(v->stored));
}

/* Where params come from. */
typedef struct ParamSource {
  bool (*fill)(const void *ctx, const PlanParam *p, int64_t n, void *to, Error *err);
  const void *(*in_place)(const void *ctx, const NuwaSession *s, const PlanParam *p);   /* or NULL: to be filled */
  const void *ctx;
} ParamSource;

/* Gives every param what the source has, then runs the prepare functions.  Where params are not in host memory
 * they are filled there first.  False: the failure is kept, or err says why. */
static bool write_params(NuwaSession *s, const ParamSource *from, Error *err) {
  const Plan *p = s->plan;
  int64_t most = 0, n = 0, bytes = 0;
  for (int i = 0; i < p->n_param; i++)
    if (plan_tensor_bytes(&p->param[i].type, 0, 0, &bytes) && bytes > most) most = bytes;
  bool staged = !s->device->is_host;
  void *staging = staged ? mem_alloc((size_t)most) : NULL;
  if (staged && !staging)
    return error_set(&s->failure, ERROR_MEMORY, "out of memory: %lld bytes for the largest param", (long long)most);
  bool ok = true;
  for (int i = 0; ok && i < p->n_param; i++) {
    const PlanParam *param = &p->param[i];
    BUG_IF(!plan_tensor_elems(&param->type, 0, 0, &n), "param \"%s\" has no size", param->type.name);
    const void *there = from->in_place(from->ctx, s, param);
    session_place_param(s, i, there ? there : s->room[i]);
    if (there) continue;
    ok = from->fill(from->ctx, param, n, staging ? staging : s->param[i], err);
    size_t size = (size_t)n * dtype_bytes(param->type.dtype);
    if (ok && staging) ok = session_write(s, s->param[i], staging, size);
  }
  mem_free(staging);
  session_resolve(s);
  return ok && nuwa_prepare(s);
}

static bool convert_weight(const void *ctx, const PlanParam *p, int64_t n, void *to, Error *err) {
  return convert_tensor(safetensors_find(ctx, p->type.name), p->type.dtype, to, err) || error_prefix(err, "weight");
}

/* The mapped weights of the bundle that the plan is a part of, which the session's owner keeps open, where kernels can
 * read them as they are and none writes them. */
static const void *weight_in_place(const void *ctx, const NuwaSession *s, const PlanParam *p) {
  const TensorView *v = safetensors_find(ctx, p->type.name);
  bool is_kept = s->plan->bundle && s->plan->bundle == safetensors_bundle(ctx);
  bool fits = v->dtype == p->type.dtype && (uintptr_t)v->data % PLAN_ALIGNMENT == 0;
  return s->device->is_host && is_kept && fits && !p->is_updated ? v->data : NULL;
}

static bool check_others(const Plan *p, const Safetensors *w, Error *err) {
  int n = 0;
  const char **name = mem_alloc((size_t)safetensors_count(w) * sizeof *name);
  if (!name) return error_set(err, ERROR_MEMORY, "out of memory");
  for (int i = 0; i < safetensors_count(w); i++)
    if (plan_find_param(p, safetensors_get(w, i)->name) < 0) name[n++] = safetensors_get(w, i)->name;
  bool ok = n == 0 || safetensors_refuse(name, n, err);
  mem_free(name);
  return ok;
}

bool nuwa_check_weights(const Plan *p, const Safetensors *w, bool allow_others, Error *err) {
  if (!allow_others && !check_others(p, w, err)) return false;
  for (int i = 0; i < p->n_param; i++)
    if (!check_param(&p->param[i].type, safetensors_find(w, p->param[i].type.name), err)) return false;
  return true;
}

bool nuwa_load_weights(NuwaSession *s, const Safetensors *w, bool allow_others, Error *err) {
  Error why = {0};
  if (!nuwa_check_weights(s->plan, w, allow_others, err)) return false;
  if (write_params(s, &(ParamSource){convert_weight, weight_in_place, w}, &why)) return true;
  if (why.code == ERROR_NONE) return nuwa_check(s, err);
  *err = why;
  return false;
}

/* The name is part of the counter, so a param's values depend on nothing but the seed, its name and its shape. */
static uint32_t name_digest(const char *name) {
  uint8_t digest[32];
  uint32_t word;
  sha256(name, strlen(name), digest);
  memcpy(&word, digest, sizeof word);
  return word;
}

/* Box and Muller, in double: element i from the words of counter i. */
static float normal_at(uint64_t seed, uint32_t i, uint32_t name) {
  Philox r = philox(seed, i, name, STREAM_INIT);
  double u = ((double)r.word[0] + 1.0) / 4294967296.0, v = (double)r.word[1] / 4294967296.0;
  return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

static float initial_value(const PlanParam *p, uint64_t seed, uint32_t i, uint32_t name) {
  switch (p->init) {
  case 1: return 1.0f;
  case 2: return (float)p->scale * normal_at(seed, i, name);
  case 3: return (float)p->scale * (2.0f * philox_uniform(philox(seed, i, name, STREAM_INIT).word[0]) - 1.0f);
  default: return 0.0f;
  }
}

static void put(void *to, DType t, int64_t i, float x) {
  switch (t) {
  case DTYPE_F32: ((float *)to)[i] = x; break;
  case DTYPE_BF16: ((uint16_t *)to)[i] = bf16_from_f32(x); break;
  case DTYPE_I32: ((int32_t *)to)[i] = (int32_t)x; break;
  default: ((uint8_t *)to)[i] = (uint8_t)x; break;
  }
}

void weights_init(const PlanParam *p, uint64_t seed, int64_t n, void *to) {
  uint32_t name = name_digest(p->type.name);
  for (int64_t i = 0; i < n; i++) put(to, p->type.dtype, i, initial_value(p, seed, (uint32_t)i, name));
}

static bool draw_weight(const void *ctx, const PlanParam *p, int64_t n, void *to, Error *err) {
  weights_init(p, *(const uint64_t *)ctx, n, to);
  return true;
}

static const void *nowhere(const void *ctx, const NuwaSession *s, const PlanParam *p) { return NULL; }

bool nuwa_init_weights(NuwaSession *s, uint64_t seed) {
  return write_params(s, &(ParamSource){draw_weight, nowhere, &seed}, &(Error){0});
}
