/* See execute.h. */
#include "synth/execute.h"

#include <string.h>

#include "ir/interp.h"
#include "ir/text.h"
#include "runtime/base/convert.h"
#include "runtime/base/names.h"
#include "runtime/bundle.h"
#include "runtime/weights.h"
#include "synth/tensors.h"
#include "synth/weights_file.h"

/* A run in progress; what is set is freed at the end. */
typedef struct Execution {
  const SynthTarget *target;
  const ExecuteSpec *spec;
  const char *out;
  Safetensors *in, *weights;
  Model *model;                 /* NULL: of a bundle */
  Plan *plan;
  NuwaSession *session;
  Arena *arena;
  Error *err;
  bool ok;
} Execution;

static bool write_outputs(Execution *r, const PlanTensor *out, int n, void *const *data, int64_t B, int64_t R) {
  TensorView *view = ARENA_ARRAY(r->arena, TensorView, n);
  for (int i = 0; i < n; i++)
    if (!tensors_view(&out[i], data[i], B, R, &view[i], r->err)) return false;
  return safetensors_write(r->out, view, n, NULL, 0, r->err);
}

static const TensorView *find_input(const Execution *r, const char *name) {
  return r->in ? safetensors_find(r->in, name) : NULL;
}

/* What an input holds that may be absent and is: zeros, or the seed. */
static void absent_input(const ExecuteSpec *spec, const PlanTensor *t, int64_t B, int32_t *out) {
  bool is_seed = strcmp(t->name, PORT_SEED) == 0;
  for (int64_t i = 0, n = t->rank ? dim_value(t->dim[0], B, 1) : 1; i < n; i++)
    out[i] = is_seed ? (int32_t)(uint32_t)(spec->rng_seed >> 32 * i) : 0;
}

/* ---- generated code ---- */

static int find_function(const Plan *p, const char *name, Error *err) {
  int f = plan_find_function(p, name);
  if (f >= 0 && !p->function[f].is_prepare) return f;
  if (plan_find_decode(p, name) >= 0)
    error_set(err, ERROR_ARGUMENT,
              "\"%s\" is compiled for generating; run it from the model file, or use nuwa generate", name);
  else
    error_set(err, ERROR_ARGUMENT, "the bundle has no function \"%s\"; it has:", name);
  for (int i = 0; i < p->n_function && plan_find_decode(p, name) < 0; i++)
    if (!p->function[i].is_prepare) text_add_name(err, " ", p->function[i].name);
  return -1;
}

static bool open_plan(Execution *r) {
  if (!r->model) return (r->plan = bundle_open_plan(r->spec->model.path, r->spec->fn, r->err)) != NULL;
  CompileOptions o = {.function = &r->spec->fn, .n_function = 1, .whole = true};
  return (r->plan = models_compile_plan(r->target, r->model, &o, r->err)) != NULL;
}

/* A file may hold the weights of all functions of a model, of which this plan needs some. */
static bool set_weights(Execution *r) {
  if (!r->weights) return nuwa_init_weights(r->session, r->spec->seed) || nuwa_check(r->session, r->err);
  bool is_partial = r->model || plan_text(r->plan, PLAN_TEXT_PARTIAL);
  if (r->model && !models_check_weights(r->model, r->weights, r->err)) return false;
  return nuwa_load_weights(r->session, r->weights, is_partial, r->err);
}

static bool run_code(Execution *r) {
  if (!open_plan(r)) return false;
  int f = find_function(r->plan, r->spec->fn, r->err);
  if (f < 0) return error_asked(false, r->err);
  const PlanFunction *pf = &r->plan->function[f];
  int64_t B, R;
  if (!tensors_bind(pf->in, pf->n_in, r->in, &B, &R, r->err)) return false;
  r->session = models_open_session(r->target, r->plan, B > 0 ? B : 1, R > 0 ? R : 1, 0, r->err);
  if (!r->session || !set_weights(r)) return false;
  for (int i = 0; i < pf->n_in; i++) {
    const TensorView *v = find_input(r, pf->in[i].name);
    void *to = nuwa_input(r->session, f, pf->in[i].name);
    if (!v) absent_input(r->spec, &pf->in[i], B, to);
    else if (v->bytes) memcpy(to, v->data, v->bytes);
  }
  if (!nuwa_run(r->session, f, B, R)) return nuwa_check(r->session, r->err);
  void **data = ARENA_ARRAY(r->arena, void *, pf->n_out);
  for (int i = 0; i < pf->n_out; i++) data[i] = nuwa_output(r->session, f, pf->out[i].name);
  return write_outputs(r, pf->out, pf->n_out, data, B, R);
}

/* ---- the interpreter ---- */

static double element_at(DType t, const void *data, int64_t i) {
  const char *at = (const char *)data + (size_t)i * dtype_bytes(t);
  uint16_t half;
  float full;
  int32_t whole;
  switch (t) {
  case DTYPE_F32: memcpy(&full, at, sizeof full); return (double)full;
  case DTYPE_BF16: memcpy(&half, at, sizeof half); return (double)f32_from_bf16(half);
  case DTYPE_I32: memcpy(&whole, at, sizeof whole); return (double)whole;
  default: return (double)*(const uint8_t *)at;
  }
}

static void element_set(DType t, void *data, int64_t i, double x) {
  switch (t) {
  case DTYPE_F32: ((float *)data)[i] = (float)x; break;
  case DTYPE_BF16: ((uint16_t *)data)[i] = bf16_from_f32((float)x); break;
  case DTYPE_I32: ((int32_t *)data)[i] = (int32_t)x; break;
  default: ((uint8_t *)data)[i] = (uint8_t)x; break;
  }
}

static PlanTensor tensor_of(const char *name, const Node *n) {
  PlanTensor t = {.name = name, .dtype = n->type.dtype, .rank = n->type.rank};
  memcpy(t.dim, n->type.dim, sizeof t.dim);
  return t;
}

typedef struct Leafs {
  Execution *r;
  int64_t B, R;
} Leafs;

static bool fill_param(Execution *r, const Node *leaf, Tensor *t, Error *err) {
  int64_t n = tensor_elems(t);
  PlanParam p = {.type = tensor_of(leaf->attrs.leaf.name, leaf), .init = (int32_t)leaf->attrs.leaf.init.kind,
                 .scale = leaf->attrs.leaf.init.scale};
  if (r->weights) {
    const TensorView *v = safetensors_find(r->weights, p.type.name);
    char want[200], have[200] = "nothing";
    if (v) tensors_print_shape(v, have, sizeof have);
    bool fits = v && v->rank == t->rank && convert_is_possible(v, t->dtype);
    for (int i = 0; fits && i < t->rank; i++) fits = v->dim[i] == t->dim[i];
    if (!fits)
      return error_set(err, ERROR_ARGUMENT, "weight \"%s\": the model wants %s, the file has %s", p.type.name,
                       type_print(&leaf->type, want, sizeof want), have);
    void *values = arena_alloc(r->arena, (size_t)n * dtype_bytes(t->dtype) + 1);
    if (!convert_tensor(v, t->dtype, values, err)) return error_prefix(err, "weight");
    for (int64_t i = 0; i < n; i++) t->data[i] = element_at(t->dtype, values, i);
    return true;
  }
  void *values = arena_alloc(r->arena, (size_t)n * dtype_bytes(t->dtype) + 1);
  weights_init(&p, r->spec->seed, n, values);
  for (int64_t i = 0; i < n; i++) t->data[i] = element_at(t->dtype, values, i);
  return true;
}

static const Tensor *read_leaf(void *ctx, const Node *leaf, Error *err) {
  Leafs *l = ctx;
  Arena *a = l->r->arena;
  int64_t dim[MAX_RANK];
  for (int i = 0; i < leaf->type.rank; i++) dim[i] = dim_value(leaf->type.dim[i], l->B, l->R);
  Tensor *t = ARENA_NEW(a, Tensor);
  *t = tensor_new(a, leaf->type.dtype, leaf->type.rank, dim);
  if (leaf->op == OP_PARAM && !fill_param(l->r, leaf, t, err)) return NULL;
  if (leaf->op != OP_INPUT) return t;
  const TensorView *v = find_input(l->r, leaf->attrs.leaf.name);
  int64_t n = tensor_elems(t);
  int32_t *absent = v ? NULL : ARENA_ARRAY(a, int32_t, n);
  PlanTensor type = tensor_of(leaf->attrs.leaf.name, leaf);
  if (!v) absent_input(l->r->spec, &type, l->B, absent);
  for (int64_t i = 0; i < n; i++) t->data[i] = element_at(t->dtype, v ? v->data : absent, i);
  return t;
}

static bool run_interp(Execution *r) {
  Func *f = compile_meaning(r->model, r->spec->fn, r->target->compile.precision, r->err);
  if (!f || (r->weights && !models_check_weights(r->model, r->weights, r->err))) return false;
  PlanTensor *in = ARENA_ARRAY(r->arena, PlanTensor, f->n_in), *out = ARENA_ARRAY(r->arena, PlanTensor, f->n_out);
  for (int i = 0; i < f->n_in; i++) in[i] = tensor_of(f->in[i].name, f->in[i].node);
  for (int i = 0; i < f->n_out; i++) out[i] = tensor_of(f->out[i].name, f->out[i].node);
  Leafs leafs = {.r = r};
  if (!tensors_bind(in, f->n_in, r->in, &leafs.B, &leafs.R, r->err)) return false;
  Tensor *result = ARENA_ARRAY(r->arena, Tensor, f->n_out), *update = ARENA_ARRAY(r->arena, Tensor, f->n_update);
  if (!interp_run(f, leafs.B, leafs.R, read_leaf, &leafs, r->arena, result, update, r->err)) return false;
  void **data = ARENA_ARRAY(r->arena, void *, f->n_out);
  for (int i = 0; i < f->n_out; i++) {
    int64_t n = tensor_elems(&result[i]);
    data[i] = arena_alloc(r->arena, (size_t)n * dtype_bytes(result[i].dtype) + 1);
    for (int64_t k = 0; k < n; k++) element_set(result[i].dtype, data[i], k, result[i].data[k]);
  }
  return write_outputs(r, out, f->n_out, data, leafs.B, leafs.R);
}

/* ---- all ---- */

static bool open_model(Execution *r) {
  ModelSpec m = r->spec->model;
  const char *path = r->spec->weights;
  if (path && !(r->weights = weights_file_open(r->target, path, r->err))) return false;
  if (m.path && models_is_bundle(m.path)) return true;
  if (path && !weights_file_complete(r->arena, r->target, &m, r->weights, path, r->err)) return false;
  return error_asked((r->model = models_load(r->target, &m, r->err)) != NULL, r->err) &&
         error_asked(model_find(r->model, r->spec->fn, r->err) != NULL, r->err);
}

static void execute_body(void *ctx) {
  Execution *r = ctx;
  r->ok = open_model(r) && (!r->spec->in || (r->in = safetensors_open(r->spec->in, r->err))) &&
          (r->spec->interprets ? run_interp(r) : run_code(r));
}

bool execute_function(const SynthTarget *t, const ExecuteSpec *spec, const char *out, Error *err) {
  Execution r = {.target = t, .spec = spec, .out = out, .arena = arena_new(), .err = err};
  bool within = r.arena ? arena_protect(r.arena, execute_body, &r, err) : error_set(err, ERROR_MEMORY, "out of memory");
  nuwa_session_close(r.session);
  plan_free(r.plan);
  model_free(r.model);
  safetensors_close(r.weights);
  safetensors_close(r.in);
  arena_free(r.arena);
  return within && r.ok;
}
