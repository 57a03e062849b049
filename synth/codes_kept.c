/* See codes_kept.h. */
#include "synth/codes_kept.h"

#include <string.h>

#include "runtime/base/convert.h"
#include "runtime/base/names.h"
#include "synth/tensors.h"
#include "synth/weights_file.h"

/* The values of a tensor in f32, which holds every float of a param exactly; NULL: they do not convert. */
static float *values_of(Arena *a, const TensorView *v, int64_t *out_n) {
  Error ignored;
  *out_n = 1;
  for (int k = 0; k < v->rank; k++) *out_n *= v->dim[k];
  float *values = arena_alloc(a, (size_t)*out_n * sizeof *values + 1);
  return convert_tensor(v, DTYPE_F32, values, &ignored) ? values : NULL;
}

bool codes_note_start(Training *t, const Safetensors *w, const char *path, Error *err) {
  Error ignored;
  char digest[65];
  int n;
  const Func *encode = model_find(t->model, FUNC_ENCODE, &ignored);
  const char *of = safetensors_metadata(w, WEIGHTS_CODES);
  if (!encode) return true;
  if (!of && !weights_file_digest(path, digest, err)) return false;
  Node **node = func_nodes(encode, &n);
  CodesStart start = {.param = ARENA_ARRAY(t->arena, CodesParam, n + 1), .of = arena_strdup(t->arena, of ? of : digest)};
  for (int i = 0; i < n; i++) {
    if (node[i]->op != OP_PARAM) continue;
    CodesParam *p = &start.param[start.n++];
    const TensorView *v = safetensors_find(w, node[i]->attrs.leaf.name);
    if (!v || !tensors_fit(v, &node[i]->type) || !(p->value = values_of(t->arena, v, &p->n))) return true;   /* it begins anew */
    p->name = arena_strdup(t->arena, v->name);
  }
  t->codes = start;
  return true;
}

/* What is written of a param. */
static bool read_now(Training *t, const CodesParam *p, float *out, Error *err) {
  int i = plan_find_param(t->plan, p->name);
  if (i < 0) {   /* no step reads it */
    memcpy(out, p->value, (size_t)p->n * sizeof *out);
    return true;
  }
  const PlanTensor *type = &t->plan->param[i].type;
  TensorView now = {.name = p->name, .dtype = type->dtype, .stored = type->dtype == DTYPE_F32 ? STORED_F32 : STORED_BF16,
                    .rank = 1, .dim = {p->n}, .bytes = (size_t)p->n * dtype_bytes(type->dtype)};
  void *bytes = arena_alloc(t->arena, now.bytes + 1);
  now.data = bytes;
  return nuwa_read_param(t->session, p->name, bytes, err) && convert_tensor(&now, DTYPE_F32, out, err);
}

static bool is_same(const CodesParam *p, const float *now, bool as_bf16) {
  for (int64_t i = 0; i < p->n; i++) {
    float written = as_bf16 ? f32_from_bf16(bf16_from_f32(now[i])) : now[i];
    if (memcmp(&written, &p->value[i], sizeof written) != 0) return false;
  }
  return true;
}

bool codes_are_kept(Training *t, bool as_bf16, const char **out, Error *err) {
  *out = NULL;
  for (int i = 0; i < t->codes.n; i++) {
    const CodesParam *p = &t->codes.param[i];
    float *now = arena_alloc(t->arena, (size_t)p->n * sizeof *now + 1);
    if (!read_now(t, p, now, err)) return false;
    if (!is_same(p, now, as_bf16)) return true;
  }
  *out = t->codes.of;
  return true;
}
