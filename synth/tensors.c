/* Named tensors between files and functions: which sizes B and R have, whether everything fits. */
#include "synth/tensors.h"

#include <string.h>

#include "ir/text.h"
#include "runtime/base/convert.h"
#include "train/trainer.h"

void tensors_print_shape(const TensorView *v, char *out, size_t cap) {
  size_t at = (size_t)snprintf(out, cap, "%s[", v->dtype < DTYPE_COUNT ? dtype_name(v->dtype) : stored_name(v->stored));
  for (int i = 0; i < v->rank && at < cap; i++)
    at += (size_t)snprintf(out + at, cap - at, "%s%lld", i ? "," : "", (long long)v->dim[i]);
  if (at < cap) snprintf(out + at, cap - at, "]");
}

const char *tensors_print_type(const PlanTensor *t, char *out, size_t cap) {
  Type type = type_make(t->dtype, t->rank, t->dim);
  return type_print(&type, out, cap);
}

/* What is known of a symbolic size, and which axis said so. */
typedef struct Symbol {
  const char *name;
  int64_t value;         /* -1: unknown */
  const PlanTensor *from;
  int axis;
} Symbol;

static bool learn(Symbol *s, const PlanTensor *t, int axis, int64_t value, Error *err) {
  if (s->value >= 0 && s->value != value)
    return error_set(err, ERROR_ARGUMENT,
                     "%s is %lld by axis %d of input \"%s\", but %lld by axis %d of input \"%s\"", s->name,
                     (long long)s->value, s->axis, s->from->name, (long long)value, axis, t->name);
  *s = (Symbol){s->name, value, t, axis};
  return true;
}

static bool learn_axis(Symbol *B, Symbol *R, const PlanTensor *t, int axis, int64_t size, Error *err) {
  Dim d = t->dim[axis];
  int64_t unit = d.b ? d.b : d.r;
  if ((d.b != 0) == (d.r != 0)) return true;   /* constant, or both at once: checked afterwards */
  char want[200];
  if (size < d.c || (size - d.c) % unit != 0)
    return error_set(err, ERROR_ARGUMENT,
                     "input \"%s\": axis %d has size %lld, which no %s gives: the function wants %s", t->name, axis,
                     (long long)size, d.b ? "B" : "R", tensors_print_type(t, want, sizeof want));
  return learn(d.b ? B : R, t, axis, (size - d.c) / unit, err);
}

static bool check_input(const PlanTensor *t, const TensorView *v, Error *err) {
  char want[200], have[200];
  tensors_print_type(t, want, sizeof want);
  if (!v) return error_set(err, ERROR_ARGUMENT, "the file lacks input \"%s\": %s", t->name, want);
  tensors_print_shape(v, have, sizeof have);
  if (v->dtype != t->dtype || v->rank != t->rank)
    return error_set(err, ERROR_ARGUMENT, "input \"%s\": the function wants %s, the file has %s", t->name, want,
                     have);
  return true;
}

static bool check_sizes(const PlanTensor *t, const TensorView *v, int64_t B, int64_t R, Error *err) {
  char want[200], have[200];
  for (int i = 0; i < t->rank; i++) {
    int64_t size = dim_value(t->dim[i], B, R);
    if (size == v->dim[i]) continue;
    tensors_print_shape(v, have, sizeof have);
    return error_set(err, ERROR_ARGUMENT,
                     "input \"%s\": the function wants %s, the file has %s (axis %d: %lld vs %lld)", t->name,
                     tensors_print_type(t, want, sizeof want), have, i, (long long)size, (long long)v->dim[i]);
  }
  return true;
}

static bool check_names(const PlanTensor *in, int n, const Safetensors *file, Error *err) {
  for (int i = 0; file && i < safetensors_count(file); i++) {
    const char *name = safetensors_get(file, i)->name;
    int k = 0;
    while (k < n && strcmp(in[k].name, name) != 0) k++;
    if (k < n) continue;
    error_set(err, ERROR_ARGUMENT, "the function has no input \"%s\"; it has:%s", name, n ? "" : " none");
    for (k = 0; k < n; k++) text_add_name(err, k ? ", " : " ", in[k].name);
    return false;
  }
  return true;
}

bool tensors_bind(const PlanTensor *in, int n, const Safetensors *file, int64_t *out_B, int64_t *out_R, Error *err) {
  Symbol B = {"B", -1, NULL, 0}, R = {"R", -1, NULL, 0};
  if (!check_names(in, n, file, err)) return false;
  for (int i = 0; i < n; i++) {
    const TensorView *v = file ? safetensors_find(file, in[i].name) : NULL;
    if (!v && train_feeds(&in[i])) continue;
    if (!check_input(&in[i], v, err)) return false;
    for (int axis = 0; axis < in[i].rank; axis++)
      if (!learn_axis(&B, &R, &in[i], axis, v->dim[axis], err)) return false;
  }
  *out_B = B.value < 0 ? 1 : B.value;
  *out_R = R.value < 0 ? 1 : R.value;
  for (int i = 0; i < n; i++) {
    const TensorView *v = file ? safetensors_find(file, in[i].name) : NULL;
    if (v && !check_sizes(&in[i], v, *out_B, *out_R, err)) return false;
  }
  return true;
}

bool tensors_view(const PlanTensor *t, const void *data, int64_t B, int64_t R, TensorView *out, Error *err) {
  int64_t bytes;
  if (!plan_tensor_bytes(t, B, R, &bytes)) return error_set(err, ERROR_ARGUMENT, "\"%s\" is too large", t->name);
  *out = (TensorView){.name = t->name, .dtype = t->dtype, .rank = t->rank, .data = data, .bytes = (size_t)bytes};
  for (int i = 0; i < t->rank; i++) out->dim[i] = dim_value(t->dim[i], B, R);
  return true;
}

bool tensors_fit(const TensorView *v, const Type *type) {
  bool fits = v->rank == type->rank && convert_is_possible(v, type->dtype);
  for (int i = 0; fits && i < v->rank; i++) fits = v->dim[i] == type->dim[i].c;
  return fits;
}
