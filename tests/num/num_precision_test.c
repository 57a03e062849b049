/* Models in bf16 against the same models in f32: losses, gradients as the first moments of a training step, pictures, and
 * what must not change: signatures, params, the bits whatever the machine and the threads. */
#include <math.h>
#include <string.h>

#include "tests/num/rig.h"
#include "tests/test.h"
#include "tests/unit/frontend/load.h"

enum { SAMPLES = 3, MAX_DEFINES = 20 };

typedef struct Case {
  const char *file;
  Define define[MAX_DEFINES];
} Case;

#define SMALL_NUWA(kind)                                                                                            \
  {"/nuwa.lua", {{"encoder", kind}, {"decoder", kind}, {"dim", "24"}, {"heads", "2"}, {"encoder_layers", "1"},       \
                 {"decoder_layers", "2"}, {"codebook", "13"}, {"text_tokens", "3"}, {"vocab", "7"}, {"grid_s", "2"}, \
                 {"grid_h", "4"}, {"grid_w", "3"}}}
/* One code: between two that are nearly as near, rounding may choose. */
#define SMALL_VQ(norm)                                                                                               \
  {"/vqgan.lua", {{"size", "16"}, {"channels", "16"}, {"multipliers", "1,2"}, {"blocks", "1"}, {"attention", ""},      \
                  {"latent", "12"}, {"width", "10"}, {"codebook", "1"}, {"groups", "4"}, {"norm", norm}}}

static const Case cases[] = {SMALL_NUWA("nearby"), SMALL_VQ("group"), SMALL_NUWA("full"), SMALL_NUWA("axis"),
                             SMALL_NUWA("block"), SMALL_VQ("place")};
enum { TRAINED = 2 /* the first; compiling takes the time */ };

static Model *load(const Case *c, Error *err) {
  ModelOptions o = {.define = c->define, .models_dir = MODELS_DIR};
  while (o.n_define < MAX_DEFINES && c->define[o.n_define].name) o.n_define++;
  char path[600];
  snprintf(path, sizeof path, "%s%s", MODELS_DIR, c->file);
  return model_load(path, &o, err);
}

static Plan *compile(const Case *c, DType precision, Isa isa, Error *err) {
  static const char *const train = "train.main";
  Model *m = load(c, err);
  CompileOptions o = {.function = &train, .n_function = 1,
                      .precision = precision, .isa = isa, .threads = 2};
  Buffer bundle = {0};
  Plan *p = m && compile_model(m, &o, &bundle, err) ? plan_read(bundle.data, bundle.len, "model", err) : NULL;
  buffer_done(&bundle);
  model_free(m);
  return p;
}

/* Indices in range, pictures between 0 and 1, the first step. */
static double fit(void *ctx, const char *name, int64_t i, double x) {
  if (strcmp(name, "text") == 0) return (double)((i * 5 + 1) % 7);
  if (strcmp(name, "tokens") == 0) return (double)((i * 7 + i / 5) % 13);
  if (strcmp(name, "step") == 0) return 1;
  if (strcmp(name, "steps") == 0) return 100;
  if (strcmp(name, "image") == 0) return 0.5 + 0.4 * sin((double)i * 0.37 + x);
  return x;
}

static NuwaSession *train_once(const Plan *p, int threads, Error *err) {
  NuwaOptions o = {.threads = threads, .samples = SAMPLES, .rows = 1};
  NuwaSession *s = nuwa_session_open(p, &o, err);
  RigData data = {4, fit, NULL};
  if (!s) return NULL;
  nuwa_init_weights(s, 6);
  rig_run(s, p, plan_find_function(p, "train.main"), &data, SAMPLES, 1);
  return s;
}

static double scalar(NuwaSession *s, const Plan *p, const char *name) {
  return (double)*(const float *)nuwa_output(s, plan_find_function(p, "train.main"), name);
}

typedef struct Agreement {
  double most, error, dot, norm_x, norm_y;
} Agreement;

static void compare_states(NuwaSession *sx, NuwaSession *sy, const Plan *p, Agreement *a) {
  for (int i = 0; i < p->n_state; i++) {
    const PlanTensor *t = &p->state[i].type;
    if (strncmp(t->name, "main.m.", 7) != 0) continue;
    const float *x = nuwa_state(sx, t->name), *y = nuwa_state(sy, t->name);
    int64_t n = 0;
    plan_tensor_elems(t, 0, 0, &n);
    for (int64_t k = 0; k < n; k++) {
      double u = (double)x[k], v = (double)y[k];
      a->most = fmax(a->most, fabs(u));
      a->error = fmax(a->error, isfinite(v) ? fabs(u - v) : INFINITY);
      a->dot += u * v;
      a->norm_x += u * u;
      a->norm_y += v * v;
    }
  }
}

TEST("gradients in bf16 are those of f32 but for the rounding") {
  for (int i = 0; i < TRAINED; i++) {
    Error err = {0};
    Plan *full = compile(&cases[i], DTYPE_F32, isa_best(), &err), *half = full ? compile(&cases[i], DTYPE_BF16, isa_best(), &err) : NULL;
    REQUIRE(full && half, "case %d: %s", i, err.text);
    NuwaSession *x = train_once(full, 2, &err), *y = train_once(half, 2, &err);
    REQUIRE(x && y, "%s", err.text);
    double loss_x = scalar(x, full, "loss"), loss_y = scalar(y, half, "loss");
    EXPECT(fabs(loss_x - loss_y) <= 2e-2 * fabs(loss_x), "case %d: loss %g in f32, %g in bf16", i, loss_x, loss_y);
    Agreement a = {0};
    compare_states(x, y, full, &a);
    double cosine = a.dot / sqrt(a.norm_x * a.norm_y);
    EXPECT(a.error <= 2e-2 * a.most, "case %d: a gradient is off by %g of %g", i, a.error, a.most);
    EXPECT(cosine > 0.9995, "case %d: cosine of the two gradients %.6f", i, cosine);
    EXPECT(loss_x != loss_y, "case %d: the loss in bf16 is exactly that of f32", i);
    nuwa_session_close(x);
    nuwa_session_close(y);
    plan_free(full);
    plan_free(half);
  }
}

TEST("a training step in bf16 gives the same bits on every instruction set and for one thread and two") {
  Isa isa[ISA_COUNT];
  int n = rig_isas(isa);
  NuwaSession *first = NULL;
  Plan *plan[ISA_COUNT];
  Error err = {0};
  for (int k = 0; k < n; k++) {
    REQUIRE((plan[k] = compile(&cases[0], DTYPE_BF16, isa[k], &err)), "%s", err.text);
    for (int threads = 1; threads <= 2; threads++) {
      NuwaSession *s = train_once(plan[k], threads, &err);
      REQUIRE(s, "%s", err.text);
      Agreement a = {0};
      if (first) compare_states(first, s, plan[0], &a);
      EXPECT(a.error == 0, "%s, %d threads: other bits", isa_name(isa[k]), threads);
      if (first) nuwa_session_close(s);
      else first = s;
    }
  }
  nuwa_session_close(first);
  for (int k = 0; k < n; k++) plan_free(plan[k]);
}

/* ---- the pass ---- */

typedef struct Precise {
  Func *from, *to;
} Precise;

static void make_precise(void *ctx) {
  Precise *p = ctx;
  p->to = pass_precision(p->from);
}

static int count_products(const Func *f, DType t) {
  int n, count = 0;
  Node **nodes = func_nodes(f, &n);
  for (int i = 0; i < n; i++) count += op_info[nodes[i]->op].class == CLASS_CONTRACT && nodes[i]->type.dtype == t;
  return count;
}

TEST("inputs, outputs and params keep their types, and all products but those of outputs and decisions are bf16") {
  static const int wide[] = {1, 3, 1, 1, 1, 3};   /* logits; latent, scores of codes, picture */
  for (int i = 0; i < COUNT_OF(cases); i++) {
    Error err = {0};
    Model *m = load(&cases[i], &err);
    Func *f = m ? model_find(m, "loss", &err) : NULL;
    Precise p = {f, NULL};
    REQUIRE(f && arena_protect(m->graph->arena, make_precise, &p, &err) && p.to, "%s", err.text);
    EXPECT(func_verify(p.to, FORM_ANY, "precision", &err), "%s", err.text);
    EXPECT(p.to->n_in == f->n_in && p.to->n_out == f->n_out, "the signature changed");
    for (int k = 0; k < f->n_out; k++) EXPECT(type_equal(&p.to->out[k].node->type, &f->out[k].node->type), "%s", f->out[k].name);
    int n;
    Node **nodes = func_nodes(p.to, &n);
    for (int k = 0; k < n; k++) EXPECT(nodes[k]->op != OP_PARAM || nodes[k]->type.dtype == DTYPE_F32, "%s", nodes[k]->attrs.leaf.name);
    EXPECT(count_products(p.to, DTYPE_F32) == wide[i], "case %d: %d products in f32, %d in bf16", i,
           count_products(p.to, DTYPE_F32), count_products(p.to, DTYPE_BF16));
    EXPECT(count_products(p.to, DTYPE_BF16) == count_products(f, DTYPE_F32) - wide[i], "products were lost");
    model_free(m);
  }
}

TEST("products stay bf16 whose statistics training keeps: a batch norm's running mean is no reason to compute in f32") {
  static const char text[] =
      "local nn, optim = require 'nn', require 'optim'\n"
      "local loss = fn({ x = f32(batch, 8, 8, 3) }, function(a)\n"
      "  local y = a.x\n"
      "  for i = 1, 3 do y = relu(nn.batch_norm('n' .. i, nn.conv('c' .. i, y, 8))) end\n"
      "  return { loss = mean(y * y) } end)\n"
      "return module { train = { { 'main', optim.sgd(loss, { lr = 0.1 }) } } }\n";
  Error err = {0};
  Model *m = load_with(text, (ModelOptions){.models_dir = MODELS_DIR}, &err);
  Precise p = {m ? m->train[0].func : NULL, NULL};
  REQUIRE(m && arena_protect(m->graph->arena, make_precise, &p, &err) && p.to, "%s", err.text);
  EXPECT(count_products(p.to, DTYPE_BF16) == 2 && count_products(p.to, DTYPE_F32) == 1, "%d in bf16, %d in f32: the loss's own last",
         count_products(p.to, DTYPE_BF16), count_products(p.to, DTYPE_F32));
  for (int i = 0; i < p.to->n_update; i++)
    EXPECT(type_equal(&p.to->update[i].value->type, &p.to->update[i].target->type), "update %d", i);
  model_free(m);
}

TEST("a bundle says its precision, and holds prepared weights in bf16") {
  static const char *const decode = "decode";
  Error err = {0};
  Model *m = load(&cases[0], &err);
  CompileOptions o = {.function = &decode, .n_function = 1, .precision = DTYPE_BF16, .isa = isa_best(), .threads = 2};
  Buffer bundle = {0};
  REQUIRE(m && compile_model(m, &o, &bundle, &err), "%s", err.text);
  Plan *p = plan_read(bundle.data, bundle.len, "model", &err);
  REQUIRE(p, "%s", err.text);
  EXPECT_TEXT(plan_text(p, "precision"), "bf16");
  int prepared = 0, full = 0, rings = 0;
  for (int i = 0; i < p->n_state; i++) {
    const PlanState *s = &p->state[i];
    bool is_prepared = strncmp(s->type.name, "prepare.", 8) == 0;
    prepared += is_prepared && s->type.dtype == DTYPE_BF16;
    full += is_prepared && s->type.dtype == DTYPE_F32 && s->type.rank > 1;
    if (s->is_ring) EXPECT(s->type.dtype == DTYPE_BF16, "ring %s is %s", s->type.name, dtype_name(s->type.dtype)), rings++;
  }
  EXPECT(prepared > 20 && full == 1 && rings == 4, "%d prepared in bf16, %d matrices in f32, %d rings", prepared, full, rings);
  plan_free(p);
  buffer_done(&bundle);
  model_free(m);
}

TEST_MAIN()
