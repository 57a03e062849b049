/* A chooser through the whole compiler: whatever legal parameters every group of the demo's models gets, what comes out
 * are the bits of the defaults: outputs of all functions, a step of training with its gradients, drawn tokens. */
#include "codegen/params.h"
#include "tests/gpu/demo.h"

/* ---- choosing ---- */

typedef struct Dice {
  uint64_t seed, state;
  int n_group, n_other;   /* groups that were asked about, and that did not get their default */
} Dice;

static uint32_t roll(Dice *d, int n) {
  d->state = d->state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(d->state >> 33) % (uint32_t)n;
}

/* Equal groups get equal choices, as from a tuner: their kernels are then one. */
static void begin_group(Dice *d, const Group *g) {
  Buffer text = {0};
  Arena *a = arena_new();
  group_print(a, g, &text);
  d->state = d->seed;
  for (size_t i = 0; i < text.len; i++) d->state = (d->state ^ (uint8_t)text.data[i]) * 0x100000001b3u;
  buffer_done(&text);
  arena_free(a);
}

/* Some fields anew, which must go together: a walk over what is legal. */
static void choose_any(void *ctx, const Group *g, const Target *t, Params *out) {
  enum { STEPS = 40, MOST_FIELDS = 3 };
  Dice *d = ctx;
  Params usual = *out;
  begin_group(d, g);
  for (int i = 0; i < STEPS; i++) {
    Params p = *out;
    Error ignored;
    for (uint32_t changes = 1 + roll(d, MOST_FIELDS); changes > 0; changes--) {
      const int *values;
      int field = (int)roll(d, params_fields(p.kind)), n = params_field_values(p.kind, field, &values);
      p.value[field] = values[roll(d, n)];
    }
    if (params_is_legal(g, t, &p, &ignored)) *out = p;
  }
  d->n_group++;
  d->n_other += !params_equal(out, &usual);
}

/* ---- comparing ---- */

static bool open_with(Demo *d, CompileOptions o, const ParamsChooser *chooser, int64_t rows) {
  NuwaOptions open = pair_options(o.device, d->samples, rows);
  Buffer bundle = {0};
  close_plan(d);
  o.precision = d->precision;
  o.threads = o.device == PLAN_CUDA ? 1 : 2;
  o.chooser = chooser;
  if (compile_model(d->model, &o, &bundle, &d->err)) d->plan = plan_read(bundle.data, bundle.len, "demo", &d->err);
  buffer_done(&bundle);
  d->session = d->plan ? nuwa_session_open(d->plan, &open, &d->err) : NULL;
  return d->session && nuwa_load_weights(d->session, d->weights, true, &d->err);
}

static void append_ports(Demo *d, int f, Buffer *out) {
  const PlanFunction *pf = &d->plan->function[f];
  for (int i = 0; i < pf->n_out; i++) {
    int64_t bytes = 0;
    plan_tensor_bytes(&pf->out[i], d->samples, 1, &bytes);
    buffer_append(out, nuwa_output(d->session, f, pf->out[i].name), (size_t)bytes);
  }
}

/* What a state or a param holds in the end. */
static void append_kept(Demo *d, bool is_param, Buffer *out) {
  for (int i = 0; i < (is_param ? d->plan->n_param : d->plan->n_state); i++) {
    const PlanTensor *t = is_param ? &d->plan->param[i].type : &d->plan->state[i].type;
    int64_t bytes = 0;
    plan_tensor_bytes(t, d->samples, 1, &bytes);
    void *copy = calloc(1, (size_t)bytes + 1);
    EXPECT((is_param ? nuwa_read_param : nuwa_read_state)(d->session, t->name, copy, &d->err), "%s", d->err.text);
    buffer_append(out, copy, (size_t)bytes);
    free(copy);
  }
}

/* All functions in turn, the training step among them, and what they leave behind. */
static bool run_functions(Demo *d, Buffer *out) {
  for (int f = 0; f < d->plan->n_function; f++) {
    if (d->plan->function[f].is_prepare) continue;
    rig_run(d->session, d->plan, f, &d->data, d->samples, 1);
    if (!nuwa_check(d->session, &d->err)) return false;
    append_ports(d, f, out);
  }
  append_kept(d, true, out);
  append_kept(d, false, out);
  return true;
}

static bool draw(Demo *d, Buffer *out) {
  const PlanDecode *pd = &d->plan->decode[0];
  int32_t *tokens = calloc((size_t)(d->samples * plan_positions(pd)), sizeof *tokens);
  NuwaGenerate g = {.count = d->samples, .guidance = 1, .seed = 5, .sample = {.temperature = 1, .top_p = 1}};
  fill_inputs(d, pd->prologue);
  bool ok = nuwa_generate(d->session, &g, tokens, NULL, NULL, NULL, &d->err);
  buffer_append(out, tokens, sizeof *tokens * (size_t)(d->samples * plan_positions(pd)));
  buffer_append(out, nuwa_output(d->session, pd->step, "logits"), sizeof(float) * (size_t)pd->vocab);
  free(tokens);
  return ok;
}

typedef struct Trial {
  const char *weights;
  CompileOptions options;
  DType precision;
  bool (*run)(Demo *d, Buffer *out);
  int rounds;
} Trial;

static void try_choices(const Trial *t) {
  Demo d;
  Buffer want = {0};
  Dice dice = {0};
  int64_t rows = t->run == draw ? 16 : 1;
  bool ok = open_demo(&d, t->weights, t->precision, 1) && open_with(&d, t->options, NULL, rows) && t->run(&d, &want);
  EXPECT(ok, "%s", d.err.text);
  for (int i = 0; ok && i < t->rounds; i++) {
    Buffer got = {0};
    dice.seed = 77u * (uint64_t)i + 5;
    ok = open_with(&d, t->options, &(ParamsChooser){choose_any, &dice}, rows) && t->run(&d, &got);
    EXPECT(ok, "choices %d: %s", i, d.err.text);
    EXPECT(got.len == want.len && memcmp(got.data, want.data, want.len) == 0, "choices %d of %s give other bits", i, t->weights);
    buffer_done(&got);
  }
  printf("%s in %s: %d of %d groups with other parameters\n", t->weights, dtype_name(t->precision), dice.n_other, dice.n_group);
  EXPECT(!ok || dice.n_other > dice.n_group / 2, "%d of %d groups", dice.n_other, dice.n_group);
  buffer_done(&want);
  close_demo(&d);
}

static const char *const drawing[] = {"decode"}, *const drawer[] = {"decode", "loss"}, *const codes[] = {"encode", "decode"};

static CompileOptions training(const char *const *function, int n) {
  return (CompileOptions){.isa = isa_best(), .function = function, .n_function = n, .whole = true, .train = true};
}

TEST("any legal parameters of all kernels give the bits of the defaults: the drawer all at once and a training step") {
  try_choices(&(Trial){SHIPPED_DRAWER, training(drawing, 1), DTYPE_F32, run_functions, 1});
}

TEST("and the autoencoder's encode and decode, in bf16") {
  try_choices(&(Trial){SHIPPED_IMAGE, {.isa = isa_best(), .function = codes, .n_function = 2}, DTYPE_BF16, run_functions, 1});
}

TEST("and the tokens that the drawer's steps give") {
  try_choices(&(Trial){SHIPPED_DRAWER, {.isa = isa_best(), .function = drawing, .n_function = 1}, DTYPE_F32, draw, 1});
}

LONG_TEST("many choices for every instruction set here, in f32 and bf16") {
  for (Isa isa = 0; isa < ISA_COUNT; isa++) {
    if (!isa_available(isa) || isa == ISA_PLAIN) continue;
    for (int bf16 = 0; bf16 < 2; bf16++) {
      CompileOptions o = training(drawer, 2), all = training(NULL, 0), steps = {.isa = isa, .function = drawing, .n_function = 1};
      o.isa = all.isa = isa;
      DType precision = bf16 ? DTYPE_BF16 : DTYPE_F32;
      try_choices(&(Trial){SHIPPED_DRAWER, o, precision, run_functions, 5});
      try_choices(&(Trial){SHIPPED_IMAGE, all, precision, run_functions, 5});
      try_choices(&(Trial){SHIPPED_DRAWER, steps, precision, draw, 10});
    }
  }
}

LONG_TEST("and on a GPU, in f32: the autoencoder's encode and decode, and the drawer's steps") {
  NEED_NVRTC();
  try_choices(&(Trial){SHIPPED_IMAGE, {.device = PLAN_CUDA, .function = codes, .n_function = 2}, DTYPE_F32, run_functions, 3});
  try_choices(&(Trial){SHIPPED_DRAWER, {.device = PLAN_CUDA, .function = drawing, .n_function = 1}, DTYPE_F32, draw, 3});
}

TEST_MAIN()
