/* Weights: params from files, and initial values from a seed. */
#include <math.h>
#include <string.h>

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
  for (int i = 0; i < rank && at < cap; i++) at += (size_t)snprintf(out + at, cap - at, "%s%lld", i ? "," : "", (long long)dim[i]);
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
  if (v->dtype != t->dtype && !(dtype_is_float(v->dtype) && dtype_is_float(t->dtype)))
    return error_set(err, ERROR_ARGUMENT, "weight \"%s\": the model wants %s, the file has %s", t->name, dtype_name(t->dtype),
                     dtype_name(v->dtype));
  return true;
}

static void convert(void *to, DType to_type, const void *from, DType from_type, int64_t n) {
  if (to_type == from_type) {
    memcpy(to, from, (size_t)n * dtype_bytes(to_type));
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    uint16_t half;
    float full;
    if (from_type == DTYPE_BF16) {
      memcpy(&half, (const char *)from + 2 * i, sizeof half);
      full = f32_from_bf16(half);
      memcpy((char *)to + 4 * i, &full, sizeof full);
    } else {
      memcpy(&full, (const char *)from + 4 * i, sizeof full);
      half = bf16_from_f32(full);
      memcpy((char *)to + 2 * i, &half, sizeof half);
    }
  }
}

/* Gives every param what fill writes, then runs the prepare functions.  Where params are not in host memory
 * they are filled there first.  False: the failure is kept. */
static bool write_params(NuwaSession *s, void (*fill)(const void *ctx, const PlanParam *p, int64_t n, void *to),
                         const void *ctx) {
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
    fill(ctx, param, n, staging ? staging : s->param[i]);
    size_t size = (size_t)n * dtype_bytes(param->type.dtype);
    if (staging) ok = session_write(s, s->param[i], staging, size);
  }
  mem_free(staging);
  return ok && nuwa_prepare(s);
}

static void convert_weight(const void *ctx, const PlanParam *p, int64_t n, void *to) {
  const TensorView *v = safetensors_find(ctx, p->type.name);
  convert(to, p->type.dtype, v->data, v->dtype, n);
}

bool nuwa_check_weights(const Plan *p, const Safetensors *w, bool allow_others, Error *err) {
  for (int i = 0; !allow_others && i < safetensors_count(w); i++)
    if (plan_find_param(p, safetensors_get(w, i)->name) < 0)
      return error_set(err, ERROR_ARGUMENT, "weight \"%s\" is in the file, but the model has no such param",
                       safetensors_get(w, i)->name);
  for (int i = 0; i < p->n_param; i++)
    if (!check_param(&p->param[i].type, safetensors_find(w, p->param[i].type.name), err)) return false;
  return true;
}

bool nuwa_load_weights(NuwaSession *s, const Safetensors *w, bool allow_others, Error *err) {
  if (!nuwa_check_weights(s->plan, w, allow_others, err)) return false;
  return write_params(s, convert_weight, w) || nuwa_check(s, err);
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

static void draw_weight(const void *ctx, const PlanParam *p, int64_t n, void *to) {
  weights_init(p, *(const uint64_t *)ctx, n, to);
}

bool nuwa_init_weights(NuwaSession *s, uint64_t seed) { return write_params(s, draw_weight, &seed); }
