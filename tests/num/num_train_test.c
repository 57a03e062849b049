/* A training step: loss, gradient norm and every update as the interpreter computes them, and a loss that falls. */
#include <math.h>
#include <string.h>

#include "tests/num/rig.h"
#include "tests/test.h"
#include "tests/unit/frontend/load.h"

enum { SAMPLES = 8, CLASSES = 5, UPDATES = 7 };

/* Two layers, cross-entropy, the mean over samples. */
static const char text[] =
    "local optim = require 'optim'\n"
    "local loss = fn({ x = f32(batch, 10), target = i32(batch) }, function(i)\n"
    "  local w1, w2 = param('w1', f32(10, 20), { normal = 0.3 }), param('w2', f32(20, 5), { normal = 0.3 })\n"
    "  return { loss = mean(cross_entropy(matmul(gelu(matmul(i.x, w1)), w2), i.target)) }\n"
    "end)\n"
    "return module {\n"
    "  train = { { 'main', optim.adamw(loss, { lr = 0.02, clip = 0.05, weight_decay = 0.01 }), average = 0.5 } },\n"
    "  evaluate = loss,\n"
    "}\n";

static double fit(void *ctx, const char *name, int64_t i, double x) {
  if (strcmp(name, "target") == 0) return (double)(i % CLASSES);
  if (strcmp(name, "step") == 0) return *(const int *)ctx;
  if (strcmp(name, "steps") == 0) return 60;
  return x;
}

static const Tensor *output(const Func *f, const Tensor *out, const char *name) {
  for (int i = 0; i < f->n_out; i++)
    if (strcmp(f->out[i].name, name) == 0) return &out[i];
  return NULL;
}

typedef struct Case {
  Model *model;
  Plan *plan;
  NuwaSession *session;
  RigData data;
  int step, train;
  Error err;
} Case;

static bool open_case(Case *c) {
  static const char *const evaluate = "evaluate";
  Buffer bundle = {0};
  CompileOptions o = {.function = &evaluate, .n_function = 1, .isa = isa_best(), .threads = 2, .train = true};
  NuwaOptions open = {.threads = 2, .samples = SAMPLES, .rows = 1};
  *c = (Case){.step = 1, .data = {2, fit, NULL}};
  c->data.ctx = &c->step;
  c->model = load_with(text, (ModelOptions){.models_dir = MODELS_DIR}, &c->err);
  if (c->model && compile_model(c->model, &o, &bundle, &c->err)) c->plan = plan_read(bundle.data, bundle.len, "train", &c->err);
  buffer_done(&bundle);
  c->session = c->plan ? nuwa_session_open(c->plan, &open, &c->err) : NULL;
  if (!c->session) return false;
  for (int i = 0; i < c->plan->n_param; i++) {
    const PlanTensor *t = &c->plan->param[i].type;
    rig_fill(&c->data, t->name, DTYPE_F32, t->dim[0].c * t->dim[1].c, nuwa_param(c->session, t->name));
  }
  c->train = plan_find_function(c->plan, "train.main");
  return nuwa_prepare(c->session);
}

static void close_case(Case *c) {
  nuwa_session_close(c->session);
  plan_free(c->plan);
  model_free(c->model);
}

static float scalar(Case *c, int f, const char *name) { return *(const float *)nuwa_output(c->session, f, name); }

static void *held_by(Case *c, const Node *n) {
  const char *name = n->attrs.leaf.name;
  return n->op == OP_PARAM ? nuwa_param(c->session, name) : nuwa_state(c->session, name);
}

TEST("a training step moves params and states as the interpreter says, and the loss falls") {
  Case c;
  REQUIRE(open_case(&c), "%s", c.err.text);
  Func *train = compile_meaning(c.model, "train.main", DTYPE_F32, &c.err);
  REQUIRE(train && train->n_update == UPDATES + 3, "%s: %d updates", c.err.text, train ? train->n_update : 0);
  Arena *a = arena_new();
  Tensor out[8], update[UPDATES + 3];
  REQUIRE(rig_interp(train, &c.data, SAMPLES, 1, a, out, update, &c.err), "%s", c.err.text);
  rig_run(c.session, c.plan, c.train, &c.data, SAMPLES, 1);
  float first = scalar(&c, c.train, "loss"), norm = scalar(&c, c.train, "grad_norm"), last = first;
  EXPECT(fabs((double)first - output(train, out, "loss")->data[0]) < 1e-5, "loss %g", (double)first);
  EXPECT(fabs((double)norm - output(train, out, "grad_norm")->data[0]) < 1e-5 * (double)norm && norm > 0.05f, "norm %g", (double)norm);
  for (int i = 0; i < train->n_update; i++) {
    const Node *target = train->update[i].target;
    PlanTensor t = {.dtype = target->type.dtype};
    double e = rig_error(&t, held_by(&c, target), &update[i]);
    EXPECT(e < 2e-5, "%s: error %g", target->attrs.leaf.name, e);
  }
  for (c.step = 2; c.step <= 60; c.step++) {
    rig_run(c.session, c.plan, c.train, &c.data, SAMPLES, 1);
    last = scalar(&c, c.train, "loss");
  }
  EXPECT(last < 0.3f * first, "the loss went from %g to %g", (double)first, (double)last);
  EXPECT(*(const int32_t *)nuwa_state(c.session, "main.moves") == 60, "moves");
  arena_free(a);
  close_case(&c);
}

TEST("averages follow the params, and the evaluation reads them; before the first step it reads the params") {
  Case c;
  REQUIRE(open_case(&c), "%s", c.err.text);
  int evaluate = plan_find_function(c.plan, "evaluate");
  rig_run(c.session, c.plan, evaluate, &c.data, SAMPLES, 1);
  float before = scalar(&c, evaluate, "loss");
  const float *w = nuwa_param(c.session, "w1"), *average = nuwa_state(c.session, "main.average.w1");
  double want[5] = {0}, seen[5] = {0};
  for (c.step = 1; c.step <= 4; c.step++) {
    rig_run(c.session, c.plan, c.train, &c.data, SAMPLES, 1);
    if (c.step == 1) EXPECT(scalar(&c, c.train, "loss") == before, "the params were not read before the first step");
    for (int i = 0; i < 5; i++) want[i] = c.step == 1 ? (double)w[i] : 0.5 * want[i] + 0.5 * (double)w[i];
    for (int i = 0; i < 5; i++) seen[i] = fmax(seen[i], fabs(want[i] - (double)average[i]));
  }
  for (int i = 0; i < 5; i++) EXPECT(seen[i] < 1e-6, "average %d is off by %g", i, seen[i]);
  rig_run(c.session, c.plan, evaluate, &c.data, SAMPLES, 1);
  float averaged = scalar(&c, evaluate, "loss");
  memcpy(nuwa_param(c.session, "w1"), average, 200 * sizeof(float));
  memcpy(nuwa_param(c.session, "w2"), nuwa_state(c.session, "main.average.w2"), 100 * sizeof(float));
  rig_run(c.session, c.plan, c.train, &c.data, SAMPLES, 1);
  EXPECT(scalar(&c, c.train, "loss") == averaged, "%g with averages, %g with params that are them", (double)averaged,
         (double)scalar(&c, c.train, "loss"));
  close_case(&c);
}

TEST("a step whose loss is not finite changes nothing") {
  Case c;
  REQUIRE(open_case(&c), "%s", c.err.text);
  rig_run(c.session, c.plan, c.train, &c.data, SAMPLES, 1);
  float w[200], m[200];
  memcpy(w, nuwa_param(c.session, "w1"), sizeof w);
  memcpy(m, nuwa_state(c.session, "main.m.w1"), sizeof m);
  ((float *)nuwa_param(c.session, "w2"))[7] = NAN;
  rig_run(c.session, c.plan, c.train, &c.data, SAMPLES, 1);
  EXPECT(isnan(scalar(&c, c.train, "loss")), "the loss is a number");
  EXPECT(memcmp(w, nuwa_param(c.session, "w1"), sizeof w) == 0 && memcmp(m, nuwa_state(c.session, "main.m.w1"), sizeof m) == 0,
         "something moved");
  EXPECT(*(const int32_t *)nuwa_state(c.session, "main.moves") == 1, "the step was counted");
  close_case(&c);
}

TEST_MAIN()
