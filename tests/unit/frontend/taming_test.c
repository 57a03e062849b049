/* models/vqgan.lua with taming-transformers' loss: names, start step, adaptive weight; models/perceptual.lua. */
#include "tests/test.h"
#include "tests/unit/frontend/trial.h"

#define TINY                                                                                                         \
  {"size", "16"}, {"channels", "2"}, {"multipliers", "1,1"}, {"blocks", "1"}, {"attention", ""}, {"latent", "2"},    \
      {"width", "2"}, {"codebook", "4"}, {"groups", "1"}, {"window", "0"}, {"loss", "taming"}, {"disc_start", "3"},  \
  {                                                                                                                  \
    "disc_ndf", "2"                                                                                                  \
  }

static bool open_tiny(Trial *x) {
  const Define define[] = {TINY, {"disc_num_layers", "1"}};
  return trial_open(x, "vqgan", define, COUNT_OF(define));
}

/* A function of these outputs of the one called `name`, which are sorted. */
static Func *part_of(Trial *x, const char *name, const char *const *output, int n) {
  Func *f = model_find(x->m, name, &x->err);
  Port out[4];
  for (int k = 0; k < n; k++)
    for (int i = 0; i < f->n_out; i++)
      if (strcmp(f->out[i].name, output[k]) == 0) out[k] = f->out[i];
  f = func_new(x->m->graph, "part", f->in, f->n_in, out, n);
  return f ? pass_grad(f) : NULL;
}

static bool outputs(Trial *x, const Func *f, double *out, int n) {
  Arena *a = arena_new();
  Tensor t[4];
  bool ok = interp_run(f, EXAMPLES, 0, read_leaf, x, a, t, NULL, &x->err);
  for (int i = 0; ok && i < n; i++) out[i] = t[i].data[0];
  arena_free(a);
  return ok;
}

TEST("the discriminator has the names of taming's, and only its own step moves it") {
  static const char *const names[] = {"main.0.weight", "main.0.bias",   "main.2.weight", "main.3.weight",
                                      "main.3.bias",   "main.5.weight", "main.5.bias"};
  Trial x;
  REQUIRE(open_tiny(&x), "");
  Func *f = model_find(x.m, "train.discriminator", &x.err);
  int n = 0;
  for (int i = 0; i < f->n_update; i++) {
    const Node *p = f->update[i].target;
    if (p->op != OP_PARAM || strstr(p->attrs.leaf.name, ".running_")) continue;
    int k = 0;
    while (k < COUNT_OF(names) && strcmp(names[k], p->attrs.leaf.name + strlen("loss.discriminator.")) != 0) k++;
    EXPECT(k < COUNT_OF(names), "%s", p->attrs.leaf.name);
    n++;
  }
  EXPECT(n == COUNT_OF(names), "%d params move", n);
  EXPECT(x.m->train[1].from == 4, "it begins in step %lld", (long long)x.m->train[1].from);
  f = model_find(x.m, "train.autoencoder", &x.err);
  for (int i = 0; i < f->n_update; i++)
    EXPECT(f->update[i].target->op != OP_PARAM || f->update[i].by_call ||
               !strstr(f->update[i].target->attrs.leaf.name, "discriminator"),
           "%s", f->update[i].target->attrs.leaf.name);
  trial_close(&x);
}

TEST("the discriminator counts from the step after disc_start on") {
  static const char *const wanted[] = {"loss", "nll_loss", "quant_loss"}, *const more[] = {"d_weight", "disc_factor",
                                                                                           "g_loss"};
  Trial x;
  double a[3], b[3];
  REQUIRE(open_tiny(&x), "");
  Func *f = part_of(&x, "train.autoencoder", wanted, 3), *g = part_of(&x, "train.autoencoder", more, 3);
  for (x.step = 3; x.step <= 4; x.step++) {
    REQUIRE(f && g && outputs(&x, f, a, 3) && outputs(&x, g, b, 3), "%s", x.err.text);
    EXPECT(b[1] == (x.step > 3), "a factor of %g in step %lld", b[1], (long long)x.step);
    EXPECT(b[0] != 0 && b[2] != 0 && fabs(a[0] - (a[1] + a[2] + b[0] * b[1] * b[2])) < 1e-9,
           "%g of %g + %g + %g %g %g", a[0], a[1], a[2], b[0], b[1], b[2]);
  }
  trial_close(&x);
}

/* Norms of central differences by every element of the decoder's last weight. */
static void norms(Trial *x, const Func *f, double norm[2]) {
  Tensor *w = NULL;
  for (int i = 0; i < x->n_leaf; i++)
    if (strcmp(x->leaf_name[i], "decoder.conv_out.weight") == 0) w = &x->leaf[i];
  REQUIRE(w, "the last layer is not read");
  norm[0] = norm[1] = 0;
  for (int64_t i = 0; i < tensor_elems(w); i++) {
    const double h = 1e-6, at = w->data[i];
    double up[2], down[2];
    w->data[i] = at + h;
    REQUIRE(outputs(x, f, up, 2), "%s", x->err.text);
    w->data[i] = at - h;
    REQUIRE(outputs(x, f, down, 2), "%s", x->err.text);
    w->data[i] = at;
    for (int k = 0; k < 2; k++) norm[k] += (up[k] - down[k]) / (2 * h) * (up[k] - down[k]) / (2 * h);
  }
  for (int k = 0; k < 2; k++) norm[k] = sqrt(norm[k]);
}

TEST("the adaptive weight is the ratio of both losses' gradients by the decoder's last layer") {
  static const char *const both[] = {"g_loss", "nll_loss"}, *const weight[] = {"d_weight"};
  double norm[2] = {0, 0}, got;
  Trial x;
  REQUIRE(open_tiny(&x), "");
  x.step = 5;
  Func *f = part_of(&x, "train.autoencoder", both, 2), *g = part_of(&x, "train.autoencoder", weight, 1);
  REQUIRE(f && g && outputs(&x, g, &got, 1), "%s", x.err.text);
  norms(&x, f, norm);
  double want = 0.8 * norm[1] / (norm[0] + 1e-4);
  EXPECT(norm[0] > 1e-6 && fabs(got - want) < 1e-4 * want, "%g, not %g of %g and %g", got, want, norm[1], norm[0]);
  trial_close(&x);
}

/* ---- perceptual distances ---- */

static double fill_step;

static void fill_test(Tensor *t, const char *name) {
  uint64_t state = 7;
  for (const char *p = name; *p; p++) state = state * 31 + (unsigned char)*p;
  bool is_variance = strstr(name, "running_var") != NULL;
  for (int64_t i = 0; i < tensor_elems(t); i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    double u = (double)(state >> 33) / (double)(1u << 30) - 1;
    t->data[i] = is_variance ? 1 + 0.5 * u : t->rank == 4 && strstr(name, "weight") ? 0.3 * u : u;
    if (strstr(name, "lin")) t->data[i] = fabs(u);
  }
  if (strcmp(name, "y") == 0) t->data[5] += fill_step;
}

static double perceptual(const char *kind) {
  char text[600];
  double d = NAN;
  snprintf(text, sizeof text,
           "local p = require 'perceptual'\nreturn module { f = fn({ x = f32(batch, 16, 16, 3), y = f32(batch, 16, "
           "16, 3) }, function(x)\n"
           "return { same = p.%s('p', x.x, x.x, { channels = 2 }), apart = p.%s('p', x.x, x.y, { channels = 2 }), "
           "back = p.%s('p', x.y, x.x, { channels = 2 }) } end) }",
           kind, kind, kind);
  Ran r;
  if (run_model(&r, text, "f", fill_test)) {
    EXPECT(r.out[run_output(&r, "same")].data[0] == 0, "%g from itself", r.out[run_output(&r, "same")].data[0]);
    d = r.out[run_output(&r, "apart")].data[0];
    EXPECT(d > 0 && fabs(d - r.out[run_output(&r, "back")].data[0]) < 1e-12 * d, "%g, and back %g", d,
           r.out[run_output(&r, "back")].data[0]);
  } else {
    EXPECT(false, "%s", r.err.text);
  }
  run_done(&r);
  return d;
}

TEST("the distance by a classifier's convolutions is 0 of a picture from itself, the same both ways, and depends on "
     "every pixel") {
  fill_step = 0;
  double near = perceptual("classifier");
  fill_step = 0.5;
  EXPECT(near != perceptual("classifier"), "a pixel counts for nothing");
}

TEST("a perceptual distance is refused of maps of labels") {
  const Define define[] = {{"perceptual", "lpips"}, {"of", "labels"}, {"classes", "9"}};
  Error err;
  Model *m = model_load(MODELS_DIR "/vqgan.lua", &(ModelOptions){.define = define, .n_define = COUNT_OF(define), .models_dir = MODELS_DIR}, &err);
  EXPECT_HAS(m ? "it loaded" : err.text, "perceptual is of pictures");
  model_free(m);
}

TEST("LPIPS has the names of taming's") {
  Error err;
  Model *m = load_with("local p = require 'perceptual'\nreturn module { f = fn({ x = f32(batch, 16, 16, 3), y = "
                       "f32(batch, 16, 16, 3) }, function(x)\n"
                       "return { d = p.lpips('loss.perceptual_loss', x.x, x.y) } end) }",
                       (ModelOptions){.models_dir = MODELS_DIR}, &err);
  REQUIRE(m, "%s", err.text);
  static const char *const some[] = {"net.slice1.0.weight",  "net.slice1.2.bias",    "net.slice2.5.weight",
                                     "net.slice2.7.weight",  "net.slice3.10.weight", "net.slice3.14.weight",
                                     "net.slice4.17.weight", "net.slice4.21.weight", "net.slice5.24.weight",
                                     "net.slice5.28.bias",   "lin0.model.1.weight",  "lin4.model.1.weight"};
  int n_nodes, n = 0;
  Node **nodes = func_nodes(m->func[0], &n_nodes);
  for (int i = 0; i < n_nodes; i++) {
    if (nodes[i]->op != OP_PARAM) continue;
    n++;
    for (int k = 0; k < COUNT_OF(some); k++)
      if (strcmp(some[k], nodes[i]->attrs.leaf.name + strlen("loss.perceptual_loss.")) == 0) n += 100;
  }
  EXPECT(n == 2 * 13 + 5 + 100 * COUNT_OF(some), "%d", n);
  model_free(m);
}

TEST_MAIN()
