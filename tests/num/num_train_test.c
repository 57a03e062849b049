/* A training step: loss, gradient norm and every update as the interpreter computes them, and a loss that falls. */
#include <math.h>
#include <string.h>

#include "tests/num/rig.h"
#include "tests/test.h"

enum { SAMPLES = 8, IN = 10, HIDDEN = 20, CLASSES = 5 };

static Rig rig;

static Node *param(const char *name, int64_t rows, int64_t cols, double scale) {
  Type t = type_make(DTYPE_F32, 2, (Dim[]){dim_const(rows), dim_const(cols)});
  return graph_op(rig.model.graph, OP_PARAM, NULL, 0, &(Attrs){.leaf = {name, {INIT_NORMAL, scale}}}, &t);
}

/* Two layers, cross-entropy, the mean over samples. */
static void build(Rig *r) {
  Graph *g = r->model.graph;
  Dim rows[] = {{0, 1, 0}, {IN, 0, 0}};
  Node *x = rig_input(r, "x", DTYPE_F32, 2, rows), *target = rig_input(r, "target", DTYPE_I32, 1, rows);
  Node *hidden = graph_unary(g, OP_GELU, graph_matmul(g, x, param("w1", IN, HIDDEN, 0.3), false, false));
  Node *logits = graph_matmul(g, hidden, param("w2", HIDDEN, CLASSES, 0.3), false, false);
  Node *each[] = {logits, target};
  Node *loss = graph_op(g, OP_CROSS_ENTROPY, each, 2, NULL, NULL);
  loss = graph_op(g, OP_MEAN, &loss, 1, &(Attrs){.axes.axes = 1}, NULL);
  rig_add(r, rig_function(r, "loss", &(Port){"loss", loss}, 1));
}

static double fit(void *ctx, const char *name, int64_t i, double x) {
  if (strcmp(name, "target") == 0) return (double)(i % CLASSES);
  if (strcmp(name, "lr") == 0) return 0.02;
  int step = ctx ? *(const int *)ctx : 1;
  if (strcmp(name, "correction1") == 0) return 1 / (1 - pow(0.9, step));
  if (strcmp(name, "correction2") == 0) return 1 / (1 - pow(0.999, step));
  return x;
}

static const AdamOptions adam = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .clip = 0.05};
static Func *train;

static void build_train(Rig *r) {
  r->model.graph->err = &r->err;
  train = train_build(r->func[0], &adam);
}

static const Tensor *output(const Func *f, const Tensor *out, const char *name) {
  for (int i = 0; i < f->n_out; i++)
    if (strcmp(f->out[i].name, name) == 0) return &out[i];
  return NULL;
}

TEST("a training step moves params and moments as the interpreter says, and the loss falls") {
  REQUIRE(rig_open(&rig) && rig_build(&rig, build) && rig_build(&rig, build_train) && train, "%s", rig.err.text);
  Buffer bundle = {0};
  CompileOptions c = {.isa = isa_best(), .threads = 2, .train = "loss", .adam = adam};
  REQUIRE(compile_model(&rig.model, &c, &bundle, &rig.err), "%s", rig.err.text);
  Plan *p = plan_read(bundle.data, bundle.len, "train", &rig.err);
  REQUIRE(p, "%s", rig.err.text);
  NuwaOptions o = {.threads = 2, .samples = SAMPLES, .rows = 1};
  NuwaSession *s = nuwa_session_open(p, &o, &rig.err);
  REQUIRE(s, "%s", rig.err.text);
  int step = 1, f = plan_find_function(p, "train");
  RigData data = {2, fit, &step};
  for (int i = 0; i < p->n_param; i++) rig_fill(&data, p->param[i].type.name, DTYPE_F32, i ? HIDDEN * CLASSES : IN * HIDDEN, nuwa_param(s, p->param[i].type.name));
  nuwa_prepare(s);
  Arena *a = arena_new();
  Tensor out[4], update[6];
  REQUIRE(train->n_update == 6, "%d updates", train->n_update);
  REQUIRE(rig_interp(train, &data, SAMPLES, 1, a, out, update, &rig.err), "%s", rig.err.text);
  rig_run(s, p, f, &data, SAMPLES, 1);
  float first = *(const float *)nuwa_output(s, f, "loss"), norm = *(const float *)nuwa_output(s, f, "grad_norm"), last = first;
  EXPECT(fabs((double)first - output(train, out, "loss")->data[0]) < 1e-5, "loss %g", (double)first);
  EXPECT(fabs((double)norm - output(train, out, "grad_norm")->data[0]) < 1e-5 * (double)norm && norm > 0.05f, "norm %g", (double)norm);
  for (int i = 0; i < train->n_update; i++) {
    const Node *target = train->update[i].target;
    const char *name = target->attrs.leaf.name;
    PlanTensor t = {.dtype = DTYPE_F32};
    double e = rig_error(&t, target->op == OP_PARAM ? nuwa_param(s, name) : nuwa_state(s, name), &update[i]);
    EXPECT(e < 2e-5, "%s: error %g", name, e);
  }
  for (step = 2; step <= 60; step++) {
    rig_run(s, p, f, &data, SAMPLES, 1);
    last = *(const float *)nuwa_output(s, f, "loss");
  }
  EXPECT(last < 0.3f * first, "the loss went from %g to %g", (double)first, (double)last);
  arena_free(a);
  nuwa_session_close(s);
  plan_free(p);
  buffer_done(&bundle);
  rig_close(&rig);
}

TEST_MAIN()
