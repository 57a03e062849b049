/* The shipped models, made tiny, on the emulated device: drawing, the autoencoder both ways, steps of training. */
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/names.h"
#include "tests/gpu/pair.h"
#include "tests/test.h"
#include "train/checkpoint.h"

static const double tolerance = 1e-4;   /* of the largest value */

/* A pair of a model file; the first function named is compiled, as a decode unless whole, or the training step. */
static bool open_model(Pair *p, const char *file, const Define *define, int n, const CompileOptions *o,
                       int64_t samples, int64_t rows) {
  ModelOptions options = {.define = define, .n_define = n, .models_dir = MODELS_DIR};
  char path[1000];
  *p = (Pair){0};
  snprintf(path, sizeof path, "%s/%s", MODELS_DIR, file);
  Model *m = model_load(path, &options, &p->err);
  if (!m) return false;
  for (int d = ON_CPU; d <= ON_CUDA; d++) {
    NuwaOptions open = pair_options(d == ON_CPU ? PLAN_CPU : PLAN_CUDA, samples, rows);
    CompileOptions c = *o;
    Buffer bundle = {0};
    open.cuda.cublaslt = EMUBLASLT;
    c.device = open.device;
    c.cublaslt = o->cublaslt && d == ON_CUDA;
    c.isa = isa_best();
    c.threads = 1;
    if (compile_model(m, &c, &bundle, &p->err)) p->plan[d] = plan_read(bundle.data, bundle.len, file, &p->err);
    buffer_done(&bundle);
    p->session[d] = p->plan[d] ? nuwa_session_open(p->plan[d], &open, &p->err) : NULL;
    if (!p->session[d] || !nuwa_init_weights(p->session[d], 7)) break;
  }
  model_free(m);
  return p->session[ON_CUDA] != NULL;
}

static void close_model(Pair *p) {
  for (int d = ON_CPU; d <= ON_CUDA; d++) {
    nuwa_session_close(p->session[d]);
    plan_free(p->plan[d]);
  }
}

static const Define drawer[] = {{"grid_s", "2"},         {"grid_h", "3"},         {"grid_w", "3"},      {"dim", "32"},
                                {"heads", "2"},          {"encoder_layers", "1"}, {"decoder_layers", "1"}, {"codebook", "24"},
                                {"text_tokens", "3"},    {"vocab", "7"},          {"extent_s", "3"},    {"extent_h", "3"},
                                {"extent_w", "3"}};
static const Define codec[] = {{"size", "8"},    {"channels", "16"}, {"multipliers", "1,2"}, {"blocks", "1"},
                               {"attention", ""}, {"latent", "16"},   {"width", "8"},         {"codebook", "24"},
                               {"groups", "4"}};

static double fit(void *ctx, const char *name, int64_t i, double x) {
  if (strcmp(name, "text") == 0) return (double)((i * 5 + 1) % 7);
  if (strcmp(name, "text_mask") == 0) return i % 3 <= i / 3;
  if (strcmp(name, "tokens") == 0 || strcmp(name, "codes") == 0) return (double)((i * 7 + 3) % 24);
  if (strcmp(name, "image") == 0) return 0.5 * x;
  if (strcmp(name, "step") == 0) return 50;
  return strcmp(name, "steps") == 0 ? 100 : x;
}
static const RigData data = {3, fit, NULL};

TEST("nuwa.lua draws the tokens of the CPU on the device") {
  NEED_NVRTC();
  enum { COUNT = 2, POSITIONS = 18 };
  Pair p;
  const char *fn = "decode";
  CompileOptions o = {.function = &fn, .n_function = 1};
  int32_t tokens[2][COUNT * POSITIONS];
  bool ok = open_model(&p, "nuwa.lua", drawer, COUNT_OF(drawer), &o, COUNT, COUNT * POSITIONS);
  EXPECT(ok, "%s", p.err.text);
  for (int d = ON_CPU; ok && d <= ON_CUDA; d++) {
    NuwaGenerate g = {.count = COUNT, .seed = 5, .guidance = 1, .sample = {.temperature = 0}};
    int prologue = p.plan[d]->decode[0].prologue;
    rig_fill(&data, "text", DTYPE_I32, COUNT * 3, nuwa_input(p.session[d], prologue, "text"));
    rig_fill(&data, "text_mask", DTYPE_U8, COUNT * 3, nuwa_input(p.session[d], prologue, "text_mask"));
    ok = nuwa_generate(p.session[d], &g, tokens[d], NULL, NULL, NULL, &p.err);
    EXPECT(ok, "%s", p.err.text);
  }
  EXPECT(!ok || memcmp(tokens[0], tokens[1], sizeof tokens[0]) == 0, "the tokens differ");
  close_model(&p);
}

TEST("vqgan.lua encodes and decodes on the device as on the CPU") {
  NEED_NVRTC();
  Pair p;
  static const char *const fn[] = {"encode", "decode"};
  CompileOptions o = {.function = fn, .n_function = 2};
  bool ok = open_model(&p, "vqgan.lua", codec, COUNT_OF(codec), &o, 1, 1);
  EXPECT(ok, "%s", p.err.text);
  for (int f = 0; ok && f < p.plan[0]->n_function; f++) {
    if (p.plan[0]->function[f].is_prepare) continue;
    if (!(ok = pair_run(&p, f, &data, 1, 1))) EXPECT(ok, "%s", p.err.text);
    double e = ok ? pair_error(&p, f, 1, 1) : 0;
    EXPECT(e <= tolerance, "%s differs by %g of the largest", p.plan[0]->function[f].name, e);
  }
  close_model(&p);
}

/* ---- training ---- */

typedef struct Compared {
  double error, scale;          /* the worst difference of a tensor, its largest value on the CPU */
} Compared;

static Compared compare(Pair *p, bool is_state, const PlanTensor *t) {
  bool (*read)(NuwaSession *, const char *, void *, Error *) = is_state ? nuwa_read_state : nuwa_read_param;
  Compared c = {0};
  int64_t n = 0;
  plan_tensor_elems(t, 0, 0, &n);
  float *cpu = malloc((size_t)n * sizeof *cpu), *cuda = malloc((size_t)n * sizeof *cuda);
  bool ok = read(p->session[ON_CPU], t->name, cpu, &p->err) && read(p->session[ON_CUDA], t->name, cuda, &p->err);
  EXPECT(ok, "%s", p->err.text);
  for (int64_t i = 0; ok && i < n; i++) {
    c.error = fmax(c.error, isfinite(cuda[i]) ? fabs((double)cpu[i] - (double)cuda[i]) : INFINITY);
    c.scale = fmax(c.scale, fabs((double)cpu[i]));
  }
  free(cpu);
  free(cuda);
  return c;
}

/* A param that the loss does not depend on (a key's bias: softmax does not see it) has a gradient of 0 and what is
 * computed of it is noise, another one on each device; Adam makes steps of full length of it.  So gradients count as large
 * as a part of the largest one, and what only noise moves may be off by the length of two steps. */
static const double lr = 1e-3, least_gradient = 1e-3;

static bool is_moment(const PlanTensor *t) { return strncmp(t->name, "main.m.", 7) == 0; }

/* Of the param whose first moment is no more than noise. */
static bool is_noise(Pair *p, const char *param, double most) {
  char name[200];
  snprintf(name, sizeof name, "main.m.%s", param);
  int i = plan_find_state(p->plan[ON_CPU], name);
  return i >= 0 && compare(p, true, &p->plan[ON_CPU]->state[i].type).scale <= least_gradient * most;
}

static void check_trained(Pair *p) {
  const Plan *plan = p->plan[ON_CPU];
  double most = 0;
  for (int i = 0; i < plan->n_state; i++)
    if (is_moment(&plan->state[i].type)) most = fmax(most, compare(p, true, &plan->state[i].type).scale);
  EXPECT(most > 0, "no gradients");
  for (int i = 0; i < plan->n_state; i++) {
    const PlanTensor *t = &plan->state[i].type;
    Compared c = is_moment(t) ? compare(p, true, t) : (Compared){0};
    EXPECT(c.error <= tolerance * fmax(c.scale, least_gradient * most), "%s is off by %g, its largest is %g, any's %g",
           t->name, c.error, c.scale, most);
  }
  for (int i = 0; i < plan->n_param; i++) {
    Compared c = compare(p, false, &plan->param[i].type);
    double noise = is_noise(p, plan->param[i].type.name, most) ? 2 * lr : 0;
    EXPECT(c.error <= fmax(noise, tolerance * fmax(c.scale, lr)), "%s is off by %g, its largest is %g", plan->param[i].type.name,
           c.error, c.scale);
  }
}

/* What the device's run has kept goes to a file, and from there into the CPU's session: params, and Adam's moments. */
static void checkpoint_travels(Pair *p, int train) {
  const TrainEntry entry = {.name = "main", .function = train};
  char path[] = "/tmp/nuwa_device_XXXXXX";
  int file = mkstemp(path);
  REQUIRE(file >= 0, "no temporary file");
  close(file);
  Checkpoint from = {.session = p->session[ON_CUDA], .plan = p->plan[ON_CUDA], .entry = &entry, .n_entry = 1, .step = 2, .recipe = "{}"};
  Checkpoint to = {.session = p->session[ON_CPU], .plan = p->plan[ON_CPU], .entry = &entry, .n_entry = 1, .recipe = "{}"};
  for (int i = 0; i < p->plan[0]->n_param; i++) {
    const PlanTensor *t = &p->plan[0]->param[i].type;
    int64_t bytes = 0;
    plan_tensor_bytes(t, 0, 0, &bytes);
    memset(nuwa_param(p->session[ON_CPU], t->name), 0, (size_t)bytes);
  }
  EXPECT(checkpoint_write(&from, path, &p->err) && checkpoint_read(&to, path, &p->err), "%s", p->err.text);
  EXPECT(to.step == 2, "step %d", (int)to.step);
  for (int i = 0; i < p->plan[0]->n_param; i++)
    EXPECT(compare(p, false, &p->plan[0]->param[i].type).error == 0, "%s differs", p->plan[0]->param[i].type.name);
  unlink(path);
}

static double first_number(const Pair *p, int side, int f, const char *name) {
  return (double)*(const float *)nuwa_output(p->session[side], f, name);
}

static void check_outputs(Pair *p, int f, int step) {
  const PlanFunction *fn = &p->plan[ON_CPU]->function[f];
  for (int i = 0; i < fn->n_out; i++) {
    const char *name = fn->out[i].name;
    double cpu = first_number(p, ON_CPU, f, name), e = fabs(cpu - first_number(p, ON_CUDA, f, name));
    double most = fabs(cpu);
    EXPECT(fn->out[i].rank == 0 && e <= 2 * tolerance * most, "step %d: %s is off by %g of %g", step, name, e, most);
  }
}

static void check_training(const char *file, const Define *define, int n, bool cublaslt) {
  Pair p;
  const char *fn = "train.main";
  CompileOptions o = {.function = &fn, .n_function = 1, .cublaslt = cublaslt};
  bool ok = open_model(&p, file, define, n, &o, 2, 1);
  EXPECT(ok, "%s", p.err.text);
  EXPECT(!ok || (p.plan[ON_CUDA]->n_product > 0) == cublaslt, "%d products", p.plan[ON_CUDA]->n_product);
  int f = ok ? plan_find_function(p.plan[0], fn) : -1;
  for (int step = 0; ok && step < 2; step++) {
    if (!(ok = pair_run(&p, f, &data, 2, 1))) EXPECT(ok, "%s", p.err.text);
    if (ok) check_outputs(&p, f, step);
  }
  if (ok) check_trained(&p);
  if (ok) checkpoint_travels(&p, f);
  close_model(&p);
}

TEST("steps of training nuwa.lua have the CPU's loss, gradients and params") {
  NEED_NVRTC();
  check_training("nuwa.lua", drawer, COUNT_OF(drawer), false);
}

TEST("so they have with cuBLASLt's products") {
  NEED_NVRTC();
  check_training("nuwa.lua", drawer, COUNT_OF(drawer), true);
}

TEST_MAIN()
