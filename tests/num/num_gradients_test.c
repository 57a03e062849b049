/* Gradients that a model asks for in Lua, in bf16: taken of what is computed in the precision, as the trainer's are. */
#include <math.h>
#include <string.h>

#include "tests/num/rig.h"
#include "tests/test.h"
#include "tests/unit/frontend/load.h"

enum { SAMPLES = 5 };

static const char text[] =
    "local optim = require 'optim'\n"
    "local function forward(i)\n"
    "  local w, u, v = param('w', f32(12, 20), { normal = 0.3 }), param('u', f32(4, 5, 20), { normal = 0.3 }),\n"
    "    param('v', f32(20, 3), { normal = 0.3 })\n"
    "  local flat = reshape(u, 20, 20)\n"
    "  local h = tanh(matmul(tanh(matmul(i.x, w)), flat))\n"
    "  local d = matmul(h, v) - i.y\n"
    "  return mean(d * d), w, u, v, flat, h\n"
    "end\n"
    "local inputs = { x = f32(batch, 12), y = f32(batch, 3) }\n"
    "local loss = fn(inputs, function(i) return { loss = (forward(i)) } end)\n"
    "return module {\n"
    "  train = { { 'main', optim.adam(loss, { lr = 1e-3 }) } },\n"
    "  step = fn(inputs, function(i)\n"
    "    local loss, w, u, v, flat, h = forward(i)\n"
    "    local g = grad(loss, { u, v, w, flat, h })\n"
    "    return { loss = loss, u = g[1], v = g[2], w = g[3], flat = g[4], h = cast(g[5], 'f32') },\n"
    "      { { u, u - 0.5 * g[1] }, { v, v - 0.5 * g[2] }, { w, w - 0.5 * g[3] } }\n"
    "  end),\n"
    "  penalty = fn(inputs, function(i)\n"
    "    local loss, w = forward(i)\n"
    "    local g = grad(loss, { i.x })[1]\n"
    "    return { w = grad(loss + sum(g * g), { w })[1] }\n"
    "  end),\n"
    "}\n";

typedef struct Case {
  Model *model;
  Plan *plan;
  NuwaSession *session;
  RigData data;
  Error err;
} Case;

static bool fill_params(Case *c) {
  for (int i = 0; i < c->plan->n_param; i++) {
    int64_t n = 0;
    const PlanTensor *t = &c->plan->param[i].type;
    plan_tensor_elems(t, 0, 0, &n);
    rig_fill(&c->data, t->name, t->dtype, n, nuwa_param(c->session, t->name));
    for (int64_t k = 0; k < n; k++) ((float *)nuwa_param(c->session, t->name))[k] *= 0.25f;
  }
  return nuwa_prepare(c->session);
}

/* With the entry of training, or without it the penalty. */
static bool open_case(Case *c, DType precision, bool trains) {
  static const char *const names[] = {"step", "penalty"};
  CompileOptions o = {.function = names, .n_function = trains ? 1 : 2, .train = trains,
                      .precision = precision, .isa = isa_best(), .threads = 2};
  NuwaOptions s = {.threads = 2, .samples = SAMPLES, .rows = 1};
  Buffer bundle = {0};
  *c = (Case){.data = {.seed = 3}};
  c->model = load_with(text, (ModelOptions){.models_dir = MODELS_DIR}, &c->err);
  if (c->model && compile_model(c->model, &o, &bundle, &c->err)) c->plan = plan_read(bundle.data, bundle.len, "m", &c->err);
  buffer_done(&bundle);
  c->session = c->plan ? nuwa_session_open(c->plan, &s, &c->err) : NULL;
  return c->session && fill_params(c);
}

static void close_case(Case *c) {
  nuwa_session_close(c->session);
  plan_free(c->plan);
  model_free(c->model);
}

static double quarter(void *ctx, const char *name, int64_t i, double x) { return strlen(name) == 1 && strchr("wuv", *name) ? x / 4 : x; }

/* The most that outputs and updates of a function are off from the interpreter, relative to the largest of each. */
static double run_and_compare(Case *c, const char *name, DType precision, const Func **out_meaning) {
  int fn = plan_find_function(c->plan, name);
  Func *f = compile_meaning(c->model, name, precision, &c->err);
  Arena *a = arena_new();
  Tensor out[8], update[8];
  RigData d = {3, quarter, NULL};
  double worst = 0;
  *out_meaning = f;
  if (!f || !rig_interp(f, &d, SAMPLES, 1, a, out, update, &c->err)) return INFINITY;
  rig_run(c->session, c->plan, fn, &c->data, SAMPLES, 1);
  for (int i = 0; i < f->n_out; i++)
    worst = fmax(worst, rig_error(&c->plan->function[fn].out[i], nuwa_output(c->session, fn, f->out[i].name), &out[i]));
  for (int i = 0; i < f->n_update; i++) {
    PlanTensor t = {.dtype = DTYPE_F32};
    worst = fmax(worst, rig_error(&t, nuwa_param(c->session, f->update[i].target->attrs.leaf.name), &update[i]));
  }
  arena_free(a);
  return worst;
}

static int count_products(const Func *f, DType t) {
  int n, count = 0;
  Node **node = func_nodes(f, &n);
  for (int i = 0; i < n; i++) count += op_info[node[i]->op].class == CLASS_CONTRACT && node[i]->type.dtype == t;
  return count;
}

TEST("gradients asked for in Lua are those of what is computed in the precision") {
  for (int half = 0; half < 2; half++) {
    Case c;
    DType precision = half ? DTYPE_BF16 : DTYPE_F32;
    const Func *f;
    REQUIRE(open_case(&c, precision, false), "%s", c.err.text);
    double penalty = run_and_compare(&c, "penalty", precision, &f), step = run_and_compare(&c, "step", precision, &f);
    EXPECT(step <= (half ? 1.0 / 64 : 1e-5) && penalty <= (half ? 1.0 / 32 : 1e-4), "%s: step off by %g, penalty by %g: %s",
           dtype_name(precision), step, penalty, c.err.text);
    /* Forward: x w and tanh(x w) u in bf16, h v in f32; backward as the products that they are gradients of. */
    EXPECT(count_products(f, DTYPE_BF16) == (half ? 5 : 0) && count_products(f, DTYPE_F32) == (half ? 3 : 8),
           "%d products in bf16, %d in f32", count_products(f, DTYPE_BF16), count_products(f, DTYPE_F32));
    close_case(&c);
  }
}

TEST("a training step in Lua has the trainer's gradients, bit by bit, in f32 and in bf16") {
  for (int half = 0; half < 2; half++) {
    Case c;
    REQUIRE(open_case(&c, half ? DTYPE_BF16 : DTYPE_F32, true), "%s", c.err.text);
    int step = plan_find_function(c.plan, "step"), train = plan_find_function(c.plan, "train.main");
    rig_run(c.session, c.plan, train, &c.data, SAMPLES, 1);   /* its gradients are in the moments; then the same params again */
    fill_params(&c);
    rig_run(c.session, c.plan, step, &c.data, SAMPLES, 1);
    static const char *const name[] = {"w", "u", "v"};
    for (int i = 0; i < 3; i++) {
      char state[20];
      snprintf(state, sizeof state, "main.m.%s", name[i]);
      const float *m = nuwa_state(c.session, state), *g = nuwa_output(c.session, step, name[i]);
      for (int k = 0; k < (i == 0 ? 240 : i == 1 ? 400 : 60); k++)   /* m = 0.1 g, from 0 */
        if (m[k] != (float)(1.0 - 0.9) * g[k]) {
          EXPECT(false, "%s: gradient %d of %s is %g, the trainer's %g", half ? "bf16" : "f32", k, name[i], (double)g[k],
                 (double)m[k] * 10);
          break;
        }
    }
    close_case(&c);
  }
}

TEST_MAIN()
