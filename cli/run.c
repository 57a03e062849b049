/* `nuwa run`: one function on named tensors, by generated code or by the interpreter that defines what it should
 * give. */
#include <string.h>

#include "cli/cli.h"
#include "cli/tensors.h"
#include "ir/interp.h"
#include "runtime/base/convert.h"
#include "runtime/bundle.h"
#include "runtime/weights.h"
#include "synth/weights_file.h"

typedef struct RunArgs {
  ModelArgs model;
  const char *fn, *in, *out, *weights;
  int64_t seed;
} RunArgs;

/* A run in progress; what is set is freed at the end. */
typedef struct RunCommand {
  RunArgs *args;
  CliTarget target;
  Safetensors *in, *weights;
  Model *model;
  Plan *plan;
  NuwaSession *session;
  Arena *arena;
  Error *err;
} RunCommand;

static bool write_outputs(RunCommand *r, const PlanTensor *out, int n, void *const *data, int64_t B, int64_t R) {
  TensorView *view = ARENA_ARRAY(r->arena, TensorView, n);
  for (int i = 0; i < n; i++)
    if (!tensors_view(&out[i], data[i], B, R, &view[i], r->err)) return false;
  return safetensors_write(r->args->out, view, n, NULL, 0, r->err);
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
    if (!p->function[i].is_prepare) cli_add_name(err, " ", p->function[i].name);
  return -1;
}

static bool open_plan(RunCommand *r) {
  if (!r->model) return (r->plan = bundle_open_plan(r->args->model.path, r->args->fn, r->err)) != NULL;
  CompileOptions o = {.function = &r->args->fn, .n_function = 1, .whole = true};
  return (r->plan = models_compile_plan(&r->target.synth, r->model, &o, r->err)) != NULL;
}

/* A file may hold the weights of all functions of a model, of which this plan needs some. */
static bool set_weights(RunCommand *r) {
  if (!r->weights) return nuwa_init_weights(r->session, (uint64_t)r->args->seed) || nuwa_check(r->session, r->err);
  bool is_partial = r->model || plan_text(r->plan, PLAN_TEXT_PARTIAL);
  if (r->model && !models_check_weights(r->model, r->weights, r->err)) return false;
  return nuwa_load_weights(r->session, r->weights, is_partial, r->err);
}

static bool run_code(RunCommand *r) {
  if (!open_plan(r)) return false;
  int f = find_function(r->plan, r->args->fn, r->err);
  if (f < 0) return error_asked(false, r->err);
  const PlanFunction *pf = &r->plan->function[f];
  int64_t B, R;
  if (!tensors_bind(pf->in, pf->n_in, r->in, &B, &R, r->err)) return false;
  r->session = models_open_session(&r->target.synth, r->plan, B > 0 ? B : 1, R > 0 ? R : 1, 0, r->err);
  if (!r->session || !set_weights(r)) return false;
  for (int i = 0; i < pf->n_in; i++) {
    const TensorView *v = safetensors_find(r->in, pf->in[i].name);
    if (v->bytes) memcpy(nuwa_input(r->session, f, v->name), v->data, v->bytes);
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
  RunCommand *r;
  int64_t B, R;
} Leafs;

static bool fill_param(RunCommand *r, const Node *leaf, Tensor *t, Error *err) {
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
  weights_init(&p, (uint64_t)r->args->seed, n, values);
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
  const TensorView *v = safetensors_find(l->r->in, leaf->attrs.leaf.name);
  for (int64_t i = 0; i < tensor_elems(t); i++) t->data[i] = element_at(v->dtype, v->data, i);
  return t;
}

static bool run_interp(RunCommand *r) {
  Func *f = compile_meaning(r->model, r->args->fn, cli_precision(&r->args->model), r->err);
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

/* ---- the command ---- */

static bool is_interp(const RunArgs *a) { return a->model.device && strcmp(a->model.device, "interp") == 0; }

static bool is_bundle(const RunArgs *a) { return a->model.path && models_is_bundle(a->model.path); }

static bool run(void *ctx, Arena *arena, Error *err) {
  RunCommand *r = ctx;
  const RunArgs *a = r->args;
  r->arena = arena;
  r->err = err;
  if (!cli_target_open(&a->model, &r->target, err)) return false;
  if (a->weights && !(r->weights = weights_file_open(&r->target.synth, a->weights, err))) return false;
  if (!is_bundle(a)) {
    ModelArgs m = a->model;
    if (r->weights && !cli_complete_model(arena, &r->target, &m, r->weights, a->weights, err)) return false;
    if (!(r->model = cli_load_model(&r->target, &m, err)) || !cli_find_function(r->model, a->fn, err)) return false;
  }
  if (a->in && !(r->in = safetensors_open(a->in, err))) return false;
  return is_interp(a) ? run_interp(r) : run_code(r);
}

static void run_done(void *ctx) {
  RunCommand *r = ctx;
  nuwa_session_close(r->session);
  plan_free(r->plan);
  model_free(r->model);
  safetensors_close(r->weights);
  safetensors_close(r->in);
  cli_target_close(&r->target);
}

static bool check(void *ctx, Error *err) {
  RunArgs *a = ((RunCommand *)ctx)->args;
  if (!a->fn) return error_set(err, ERROR_ARGUMENT, "needs --fn NAME");
  if (!a->out) return error_set(err, ERROR_ARGUMENT, "needs --out OUT.safetensors");
  if (a->weights && a->seed >= 0) return error_set(err, ERROR_ARGUMENT, "--weights and --seed exclude each other");
  if (is_interp(a) && (a->model.isa || a->model.threads || a->model.no_cache))
    return error_set(err, ERROR_ARGUMENT, "--isa, --threads and --no-cache have no effect on the interpreter");
  if (a->seed < 0) a->seed = 0;
  if (!is_bundle(a))
    return a->model.path || a->weights ||
           error_set(err, ERROR_ARGUMENT,
                     "needs a model: MODEL.lua, a bundle, or --weights FILE, which carry theirs");
  if (a->model.defines.n || a->model.isa || a->model.precision || a->model.products)
    return error_set(err, ERROR_ARGUMENT, "-D, --isa, --precision and --products are for model files; a bundle is "
                                          "compiled already");
  return !is_interp(a) ||
         error_set(err, ERROR_ARGUMENT, "--device interp: needs the model file, a bundle has machine code only");
}

int cli_run(int argc, char **argv) {
  RunArgs a = {.seed = -1};
  RunCommand r = {.args = &a};
  const Arg table[] = {
      ARG_DEFINES(&a.model),
      {"--fn", ARG_TEXT, "NAME", "the function", &a.fn, 0, 0},
      {"--in", ARG_TEXT, "FILE", "safetensors with its inputs", &a.in, 0, 0},
      {"--out", ARG_OUT, "FILE", "safetensors for its outputs", &a.out, 0, 0},
      {"--weights", ARG_TEXT, "FILE", "safetensors with the params; they say model and options", &a.weights, 0, 0},
      {"--seed", ARG_INT, "N", "of initial params instead (default 0)", &a.seed, 0, 9e15},
  };
  static const char about[] =
      "Executes one function on named tensors.  The number of samples B is that of the inputs.\n";
  const Command c = {.name = "run",
                     .usage = "[MODEL.lua|BUNDLE.nuwa] --fn NAME --in IN.safetensors --out OUT.safetensors [options]",
                     .about = about, .arg = table, .n_arg = COUNT_OF(table), .model = &a.model.path,
                     .is_model_optional = true,
                     .target = &a.model, .devices = "cpu|cuda|interp", .ctx = &r, .check = check, .run = run,
                     .done = run_done};
  return cli_command(&c, argc, argv);
}
