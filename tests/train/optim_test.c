/* models/regression.lua against PyTorch 2.15 in f64 (Lion: lion-pytorch): the params after 100 steps of one regression, from
 * optim.safetensors; and its schedules against their formulas. */
#include <math.h>

#include "tests/train/tiny.h"
#include "train/trainer.h"

enum { STEPS = 100, ROWS = 8, BATCHES = 4 };

typedef struct Case {
  Plan *plan;
  NuwaSession *session;
  int function;
  Safetensors *traces;
  Error err;
} Case;

static bool open_case(Case *c, const char *which) {
  static const char *const function[] = {"train.main"};
  const Define define = {"which", which};
  const ModelOptions load = {.models_dir = MODELS_DIR, .define = &define, .n_define = 1};
  const CompileOptions o = {.function = function, .n_function = 1, .isa = isa_best(), .threads = 1};
  Buffer bundle = {0};
  *c = (Case){0};
  Model *m = model_load(TRACES "/regression.lua", &load, &c->err);
  if (m && compile_model(m, &o, &bundle, &c->err)) c->plan = plan_read(bundle.data, bundle.len, which, &c->err);
  buffer_done(&bundle);
  model_free(m);
  c->session = c->plan ? nuwa_session_open(c->plan, &(NuwaOptions){.threads = 1, .samples = ROWS, .rows = 1}, &c->err) : NULL;
  c->function = c->plan ? plan_find_function(c->plan, function[0]) : -1;
  c->traces = safetensors_open(TRACES "/optim.safetensors", &c->err);
  return c->session && c->traces;
}

static void close_case(Case *c) {
  safetensors_close(c->traces);
  nuwa_session_close(c->session);
  plan_free(c->plan);
}

static const TensorView *trace(Case *c, const char *prefix, const char *name) {
  char full[100];
  snprintf(full, sizeof full, "%s%s", prefix, name);
  const TensorView *v = safetensors_find(c->traces, full);
  if (!v) TEST_FAIL_("no tensor %s", full);
  return v;
}

static void step(Case *c, int64_t number) {
  size_t batch = (size_t)(number - 1) % BATCHES;
  train_feed(c->session, c->plan, c->function, 0, number, STEPS, 0, ROWS);
  memcpy(nuwa_input(c->session, c->function, "x"), (const float *)trace(c, "", "x")->data + batch * ROWS * 5, ROWS * 5 * sizeof(float));
  memcpy(nuwa_input(c->session, c->function, "y"), (const float *)trace(c, "", "y")->data + batch * ROWS * 3, ROWS * 3 * sizeof(float));
  nuwa_run(c->session, c->function, ROWS, 1);
}

static const char *const param[] = {"w1", "b", "w2"};

static void check_optimiser(const char *which) {
  Case c;
  char prefix[40];
  double largest = 0, error = 0;
  REQUIRE(open_case(&c, which), "%s", c.err.text);
  for (int i = 0; i < 3; i++) {
    const TensorView *v = trace(&c, "start.", param[i]);
    memcpy(nuwa_param(c.session, param[i]), v->data, v->bytes);
  }
  nuwa_prepare(c.session);
  for (int64_t t = 1; t <= STEPS; t++) step(&c, t);
  snprintf(prefix, sizeof prefix, "%s.", which);
  for (int i = 0; i < 3; i++) {
    const TensorView *v = trace(&c, prefix, param[i]);
    const float *want = v->data, *have = nuwa_param(c.session, param[i]);
    for (size_t k = 0; k < v->bytes / sizeof *want; k++) {
      largest = fmax(largest, fabs((double)want[k]));
      error = fmax(error, isfinite(have[k]) ? fabs((double)want[k] - (double)have[k]) : INFINITY);
    }
  }
  printf("%s: off by %.1e of the largest weight\n", which, error / largest);
  EXPECT(error <= 1e-5 * largest, "%s is off by %g, the largest weight is %g", which, error, largest);
  close_case(&c);
}

TEST("every optimiser is PyTorch's over 100 steps, to 1e-5 of the largest weight") {
  static const char *const which[] = {"adam", "adamw", "sgd", "momentum", "nesterov", "lion", "adafactor", "clip", "linear", "steps"};
  for (int i = 0; i < COUNT_OF(which); i++) check_optimiser(which[i]);
}

static double rate_at(Case *c, int64_t t) {
  step(c, t);
  return (double)*(const float *)nuwa_output(c->session, c->function, "lr");
}

TEST("a rate rises linearly over its share of the steps, then goes as its schedule says") {
  static const struct {
    const char *which;
    int64_t step;
    double rate;
  } points[] = {{"constant", 1, 0.05 / 20}, {"constant", 20, 0.05}, {"constant", 100, 0.05}, {"clip", 10, 0.01},
                {"clip", 55, 0.005}, {"clip", 100, 0}, {"linear", 5, 0.025}, {"linear", 55, 0.03}, {"linear", 100, 0.01},
                {"steps", 10, 0.05}, {"steps", 11, 0.025}, {"steps", 100, 0.05 / 512}, {"adam", 7, 0.01}};
  for (int i = 0; i < COUNT_OF(points); i++) {
    Case c;
    REQUIRE(open_case(&c, points[i].which), "%s", c.err.text);
    double rate = rate_at(&c, points[i].step);
    EXPECT(fabs(rate - points[i].rate) <= 1e-8, "%s at step %d: %.9g, not %.9g", points[i].which, (int)points[i].step, rate,
           points[i].rate);
    close_case(&c);
  }
}

TEST("options that an optimiser does not have are refused, and a step needs its rate") {
  static const struct {
    const char *with, *says;
  } cases[] = {{"optim.adam(loss, { lr = 1, beta3 = 1 })", "adam: there is no option beta3; the options are: accumulate, beta1"},
               {"optim.sgd(loss, {})", "sgd: needs lr"},
               {"optim.sgd(loss, { lr = 1, params = '^none' })", "no param has a name that \"^none\" finds"},
               {"optim.sgd(loss, { lr = 1, params = { '', '^none' } })", "no param has a name that \"^none\" finds"},
               {"optim.sgd(loss, { lr = -1 })", "sgd: lr must not be negative: -1"},
               {"optim.sgd(loss, { lr = 1, clip = 0/0 })", "sgd: clip must be a number, 0 for no limit, not"},
               {"optim.sgd(loss, { lr = 1, nesterov = true })", "sgd: nesterov has no effect without momentum"},
               {"optim.adam(loss, { lr = 1, beta1 = 1 })", "adam: beta1 must be in [0, 1), not 1"},
               {"optim.lion(loss, { lr = 1, beta2 = -0.5 })", "lion: beta2 must be in [0, 1), not -0.5"},
               {"optim.adam(loss, { lr = 1, eps = 0 })", "adam: eps must be above 0, not 0"},
               {"optim.adafactor(loss, { lr = 1, threshold = 0 })", "adafactor: threshold must be above 0, not 0"},
               {"optim.sgd(loss, { lr = 1, accumulate = 0 })", "accumulate is a number of steps"},
               {"optim.sgd(loss, { lr = 1, clip = -1 })", "sgd: clip must be a number, 0 for no limit, not -1"},
               {"optim.sgd(loss, { lr = 'x' })", "sgd: lr must be a number or a schedule, not x"},
               {"optim.adam(loss, { lr = 1, beta1 = true })", "adam: beta1 must be a number, not true"},
               {"optim.sgd(nothing, { lr = 1 })", "no scalar output \"loss\""}};
  for (int i = 0; i < COUNT_OF(cases); i++) {
    char text[600];
    Error err = {0};
    const char *path = tiny_path("refused.lua");
    ModelOptions load = {.models_dir = MODELS_DIR};
    snprintf(text, sizeof text,
             "local optim = require 'optim'\n"
             "local loss = fn({ x = f32(3) }, function(a) return { loss = sum(a.x * param('w', f32(3))) } end)\n"
             "local nothing = fn({ x = f32(3) }, function(a) return { y = a.x } end)\n"
             "return module { train = { { 'main', %s } } }\n", cases[i].with);
    REQUIRE(file_write_all(path, text, strlen(text), &err), "%s", err.text);
    Model *m = model_load(path, &load, &err);
    EXPECT(!m, "%s was taken", cases[i].with);
    if (!m) EXPECT_HAS(err.text, cases[i].says);
    model_free(m);
  }
}

TEST_MAIN()
