/* Functions of the demo's models (demo.h says of which tasks), as large as they are shipped and with their weights, on the
 * emulated device against the interpreter: in f32 to 1e-4 of the largest value, in bf16 (on both sides) to 2e-2.  Products
 * are the cuBLASLt stand-in's where the rule gives them to the library. */
#include "tests/gpu/demo.h"

static double tolerance_of(DType precision) { return precision == DTYPE_BF16 ? 2e-2 : 1e-4; }

/* Compiles and opens a session with the demo's weights; rows: of decode steps. */
static bool open_plan(Demo *d, CompileOptions o, int64_t rows) {
  NuwaOptions open = pair_options(PLAN_CUDA, d->samples, rows);
  Buffer bundle = {0};
  close_plan(d);
  open.cuda.cublaslt = EMUBLASLT;
  o.device = PLAN_CUDA;
  o.cublaslt = true;
  o.precision = d->precision;
  o.isa = isa_best();
  o.threads = 1;   /* sanitizers see nothing of NVRTC's locks */
  if (compile_model(d->model, &o, &bundle, &d->err)) d->plan = plan_read(bundle.data, bundle.len, "demo", &d->err);
  buffer_done(&bundle);
  d->session = d->plan ? nuwa_session_open(d->plan, &open, &d->err) : NULL;
  return d->session && nuwa_load_weights(d->session, d->weights, true, &d->err);
}

/* ---- functions ---- */

/* How far a tensor of gradients may be off, of its own largest value and the largest of all tensors.  Where the true
 * gradient is 0 (a key's bias: softmax does not see it), which f64 shows, what is computed is noise.  In bf16 what is
 * left of terms that cancel is as wrong as the terms. */
static double gradient_slack(DType precision, double own, double all) {
  if (precision == DTYPE_BF16) return 2e-2 * fmax(own, 5e-2 * all);
  return own <= 1e-12 * all ? 1e-7 * all : 1e-4 * own;
}

static bool is_moment(const Update *u) { return strncmp(u->target->attrs.leaf.name, "adam.m.", 7) == 0; }

/* The first moments after one step: gradients. */
static void check_gradients(Reference *r) {
  double most = 0;
  for (int i = 0; i < r->f->n_update; i++)
    if (is_moment(&r->f->update[i])) most = fmax(most, largest(&r->update[i]));
  for (int i = 0; i < r->f->n_update; i++) {
    if (!is_moment(&r->f->update[i])) continue;
    const char *name = r->f->update[i].target->attrs.leaf.name;
    const Tensor *want = &r->update[i];
    int64_t n = tensor_elems(want);
    float *got = malloc((size_t)n * sizeof *got);
    double worst = 0, own = largest(want);
    EXPECT(nuwa_read_state(r->d->session, name, got, &r->d->err), "%s", r->d->err.text);
    for (int64_t k = 0; k < n; k++)
      worst = fmax(worst, isfinite(got[k]) ? fabs((double)got[k] - want->data[k]) : INFINITY);
    EXPECT(worst <= gradient_slack(r->d->precision, own, most), "%s is off by %g, its largest is %g, any's %g", name,
           worst, own, most);
    free(got);
  }
}

static void check_function(Demo *d, const char *name) {
  int f = plan_find_function(d->plan, name);
  REQUIRE(f >= 0, "no function %s", name);
  const PlanFunction *pf = &d->plan->function[f];
  fill_inputs(d, f);
  REQUIRE(nuwa_run(d->session, f, d->samples, 1) || nuwa_check(d->session, &d->err), "%s", d->err.text);
  Reference r = {.d = d, .name = name, .decided = nuwa_output(d->session, f, "codes")};
  double worst = 0, tolerance = tolerance_of(d->precision);
  bool ok = reference_run(&r);
  EXPECT(ok, "%s: %s", name, d->err.text);
  for (int i = 0; ok && i < pf->n_out; i++) {
    const PlanTensor *t = &pf->out[i];
    if (t->dtype != DTYPE_F32) continue;
    double e = rig_error(t, nuwa_output(d->session, f, t->name), &r.out[i]);
    EXPECT(e <= tolerance, "%s: output %s differs by %g of the largest", name, t->name, e);
    worst = fmax(worst, e);
  }
  printf("%s in %s: outputs differ by at most %.1e of the largest\n", name, dtype_name(d->precision), worst);
  const Tensor *scores = &r.out[ok ? r.f->n_out - 1 : 0];
  if (ok && r.scores) check_decisions(name, scores, r.decided, tolerance * largest(scores));
  if (ok && r.f->n_update) check_gradients(&r);
  arena_free(r.arena);
}

/* ---- drawing ---- */

typedef struct Drawing {
  Demo *d;
  int64_t positions, vocab, done;
  float *logits;                /* [samples][positions][vocab], of the step that made each */
} Drawing;

/* After a wave, of which all rows were one step: keeps their logits. */
static bool keep_logits(void *ctx, int64_t done, int64_t total) {
  Drawing *w = ctx;
  int step = w->d->plan->decode[0].step;
  const int32_t *rows = nuwa_input(w->d->session, step, "rows");
  const float *logits = nuwa_output(w->d->session, step, "logits");
  for (int64_t i = 0; i < (done - w->done) * w->d->samples; i++)
    memcpy(w->logits + (rows[2 * i] * w->positions + rows[2 * i + 1]) * w->vocab, logits + i * w->vocab,
           sizeof *logits * (size_t)w->vocab);
  w->done = done;
  return true;
}

static void check_drawing(Demo *d) {
  const PlanDecode *pd = &d->plan->decode[0];
  int64_t positions = pd->grid[0] * pd->grid[1] * pd->grid[2], n = d->samples * positions;
  Drawing w = {d, positions, pd->vocab, 0, malloc(sizeof(float) * (size_t)(n * pd->vocab))};
  int32_t *tokens = malloc(sizeof *tokens * (size_t)n);
  NuwaGenerate g = {.count = d->samples, .guidance = 1};
  fill_inputs(d, pd->prologue);
  bool ok = nuwa_generate(d->session, &g, tokens, NULL, keep_logits, &w, &d->err);
  EXPECT(ok, "%s", d->err.text);
  Reference r = {.d = d, .name = "decode", .tokens = tokens};
  EXPECT(ok && w.done == positions && (ok = reference_run(&r)), "%s", d->err.text);
  PlanTensor t = {.dtype = DTYPE_F32};
  double e = ok ? rig_error(&t, w.logits, &r.out[0]) : 0;
  printf("steps in %s: logits differ by at most %.1e of the largest\n", dtype_name(d->precision), e);
  EXPECT(e <= tolerance_of(d->precision), "the steps' logits differ by %g of the largest", e);
  if (ok) check_decisions("tokens", &r.out[0], tokens, token_slack(d->precision, &r.out[0]));
  arena_free(r.arena);
  free(w.logits);
  free(tokens);
}

static void check_drawer_steps(DType precision, int64_t samples) {
  static const char *const decode = "decode";
  CompileOptions steps = {.function = &decode, .n_function = 1};
  Demo d;
  bool ok = open_demo(&d, SHIPPED_DRAWER, precision, samples) && open_plan(&d, steps, samples * 64);
  EXPECT(ok, "%s", d.err.text);
  if (ok) check_drawing(&d);
  close_demo(&d);
}

/* Everything of a model but its decoding steps. */
static void check_functions(const char *weights, DType precision, int64_t samples, const char *const *name, int n) {
  CompileOptions o = {.function = name, .n_function = n, .whole = true};
  Demo d;
  bool ok = open_demo(&d, weights, precision, samples) && open_plan(&d, o, 1);
  EXPECT(ok, "%s", d.err.text);
  for (int i = 0; ok && i < n; i++) check_function(&d, name[i]);
  close_demo(&d);
}

static const char *const drawer[] = {"decode", "loss", "train.main"};
static const char *const autoencoder[] = {"encode", "decode", "reconstruct", "loss", "train.main"};

TEST("the drawer's prologue and steps are the interpreter's, in f32") {
  NEED_NVRTC();
  check_drawer_steps(DTYPE_F32, 1);
}

TEST("the autoencoder's encode and decode are the interpreter's, in f32") {
  NEED_NVRTC();
  check_functions(SHIPPED_IMAGE, DTYPE_F32, 1, autoencoder, 2);
}

LONG_TEST("the drawer's prologue and steps, all at once, its loss and a training step are the interpreter's, in f32") {
  NEED_NVRTC();
  check_drawer_steps(DTYPE_F32, 2);
  check_functions(SHIPPED_DRAWER, DTYPE_F32, 2, drawer, COUNT_OF(drawer));
}

LONG_TEST("and in bf16") {
  NEED_NVRTC();
  check_drawer_steps(DTYPE_BF16, 1);
  check_functions(SHIPPED_DRAWER, DTYPE_BF16, 1, drawer, COUNT_OF(drawer));
}

LONG_TEST("the autoencoder's encode, decode, reconstruct, loss and a training step are the interpreter's, in f32") {
  NEED_NVRTC();
  check_functions(SHIPPED_IMAGE, DTYPE_F32, 2, autoencoder, COUNT_OF(autoencoder));
}

LONG_TEST("those in bf16 too") {
  NEED_NVRTC();
  check_functions(SHIPPED_IMAGE, DTYPE_BF16, 1, autoencoder, COUNT_OF(autoencoder));
}

TEST_MAIN()
