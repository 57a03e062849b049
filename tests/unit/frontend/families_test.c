/* models/families: what each learns in some steps, and the gradients of one. */
#include "tests/test.h"
#include "tests/unit/frontend/trial.h"

#define SMALL                                                                                                        \
  { "size", "8" }
#define OPEN(x, name, ...)                                                                                           \
  const Define define_[] = {__VA_ARGS__};                                                                            \
  Trial x;                                                                                                           \
  if (!trial_open(&x, "families/" name, define_, COUNT_OF(define_))) return

static void expect_falls(Trial *x, int steps, double share) {
  double before = NAN, after = NAN;
  train(x, "train.main", 1, steps, &before, &after);
  EXPECT(after < share * before, "the loss went from %g to %g", before, after);
}

TEST("the classifier, the VAE, the VQ-VAE and the prior of its codes learn in a few steps") {
  {
    OPEN(x, "classifier", SMALL, {"classes", "2"}, {"channels", "2"}, {"features", "6"}, {"flip", "false"},
         {"lr", "0.02"}, {"warmup", "0"});
    expect_falls(&x, 12, 0.9);
    trial_close(&x);
  }
  {
    OPEN(x, "vae", SMALL, {"hidden", "10"}, {"latent", "3"}, {"samples", "4"}, {"lr", "0.03"}, {"warmup", "0"});
    expect_falls(&x, 12, 0.9);
    trial_close(&x);
  }
  {
    OPEN(x, "vqvae", SMALL, {"channels", "4"}, {"blocks", "1"}, {"codebook", "6"}, {"width", "3"}, {"lr", "0.02"},
         {"warmup", "0"});
    expect_falls(&x, 12, 0.9);
    trial_close(&x);
  }
  OPEN(x, "prior", {"grid", "2"}, {"codebook", "5"}, {"classes", "2"}, {"dim", "8"}, {"heads", "2"}, {"layers", "1"},
       {"lr", "0.03"}, {"warmup", "0"});
  expect_falls(&x, 12, 0.9);
  trial_close(&x);
}

/* With D at one half, as it nearly is at first, both parts of D's loss are log 2, and those of G's are of either
 * sign. */
TEST("the losses of the GANs begin at log 2, and each network moves alone") {
  static const struct {
    const char *name, *loss;
    double generator;
  } gans[] = {{"gan", "minimax", -0.6931}, {"gan", "non_saturating", 0.6931}, {"dcgan", NULL, 0.6931}};
  for (int k = 0; k < COUNT_OF(gans); k++) {
    double d = NAN, g = NAN, after = NAN;
    Trial x;
    const Define define[] = {SMALL,
                             {"latent", "3"},
                             gans[k].loss ? (Define){"loss", gans[k].loss} : (Define){"classes", "2"},
                             gans[k].loss ? (Define){"hidden", "6"} : (Define){"channels", "2"}};
    char path[40];
    snprintf(path, sizeof path, "families/%s", gans[k].name);
    if (!trial_open(&x, path, define, COUNT_OF(define))) return;
    train(&x, "train.discriminator", 1, 1, &d, &after);
    EXPECT(fabs(d - 2 * 0.6931) < 0.4, "%s: D's loss is %g", gans[k].name, d);
    train(&x, "train.generator", 1, 1, &g, &after);
    EXPECT(fabs(g - gans[k].generator) < 0.3, "%s %s: G's loss is %g", gans[k].name, gans[k].loss ? gans[k].loss : "",
           g);
    Func *f = model_find(x.m, "train.generator", &x.err);
    for (int i = 0; i < f->n_update; i++)
      if (f->update[i].target->op == OP_PARAM && !f->update[i].by_call)
        EXPECT_HAS(f->update[i].target->attrs.leaf.name, "generator.");
    trial_close(&x);
  }
}

/* ---- the gradient of a gradient ---- */

/* The loss of an entry, and the gradients that its optimiser asks for: of the params whose names begin with `prefix`.
 */
static Func *with_gradients(Trial *x, const char *entry, const char *prefix) {
  Func *f = model_find(x->m, entry, &x->err);
  Port out[RUN_MAX];
  int n_nodes, n = 0;
  Node **nodes = func_nodes(f, &n_nodes), *loss = NULL;
  for (int i = 0; i < f->n_out; i++)
    if (strcmp(f->out[i].name, "loss") == 0) loss = f->out[i].node;
  out[n++] = (Port){"a_loss", loss};
  for (int i = 0; i < n_nodes && n < RUN_MAX; i++) {
    Node *of = nodes[i]->op == OP_GRAD ? nodes[i]->in[1] : NULL;
    if (nodes[i]->op == OP_GRAD && nodes[i]->in[0] == loss && of->op == OP_PARAM &&
        strncmp(of->attrs.leaf.name, prefix, strlen(prefix)) == 0)
      out[n++] = (Port){of->attrs.leaf.name, nodes[i]};
  }
  f = func_new(x->m->graph, "gradients", f->in, f->n_in, out, n);
  return f ? pass_grad(f) : NULL;
}

static double loss_of(Trial *x, const Func *f) {
  Arena *a = arena_new();
  Tensor out[RUN_MAX];
  double loss = interp_run(f, EXAMPLES, 0, read_leaf, x, a, out, NULL, &x->err) ? out[0].data[0] : NAN;
  arena_free(a);
  return loss;
}

/* Of one param: differences of the loss at some of its elements. */
static void compare(Trial *x, const Func *f, const char *name, const Tensor *gradient, double *most, double *worst) {
  Tensor *p = NULL;
  for (int i = 0; i < x->n_leaf; i++)
    if (strcmp(x->leaf_name[i], name) == 0) p = &x->leaf[i];
  REQUIRE(p, "%s is not read", name);
  for (int64_t i = 0, n = tensor_elems(p); i < n; i += n / 5 + 1) {
    const double h = 1e-6, at = p->data[i];
    p->data[i] = at + h;
    double up = loss_of(x, f);
    p->data[i] = at - h;
    double down = loss_of(x, f), difference = (up - down) / (2 * h);
    p->data[i] = at;
    *most = fmax(*most, fabs(difference));
    *worst = fmax(*worst, fabs(difference - gradient->data[i]));
  }
}

TEST("the gradient of the WGAN's penalty, which holds a gradient, is that of central differences") {
  double most = 0, worst = 0;
  OPEN(x, "wgan_gp", SMALL, {"latent", "3"}, {"channels", "2"});
  x.step = 1;
  Func *f = with_gradients(&x, "train.critic", "critic.");
  Arena *a = arena_new();
  Tensor out[RUN_MAX];
  REQUIRE(f && f->n_out == 7 && interp_run(f, EXAMPLES, 0, read_leaf, &x, a, out, NULL, &x.err), "%s", x.err.text);
  for (int i = 1; i < f->n_out; i++) compare(&x, f, f->out[i].name, &out[i], &most, &worst);
  EXPECT(most > 0.1 && worst < 1e-5 * most, "off by %g of %g", worst, most);
  arena_free(a);
  trial_close(&x);
}

TEST("the WGAN trains, and its critic's penalty is that of a slope of 1") {
  double before = NAN, after = NAN;
  OPEN(x, "wgan_gp", SMALL, {"latent", "3"}, {"channels", "2"}, {"lr", "0.01"});
  train(&x, "train.critic", 1, 8, &before, &after);
  EXPECT(after < before, "the critic's loss went from %g to %g", before, after);
  train(&x, "train.generator", 5, 6, &before, &after);
  trial_close(&x);
}

TEST("a gradient of the gradient of attention is refused by name") {
  const char *text = "return module { f = fn({ x = f32(batch, 1, 2, 2, 4) }, function(x)\n"
                     "local y = attend(x.x, x.x, x.x, { heads = 1, kind = 'full' })\n"
                     "local g = grad(sum(y * y), { x.x })[1]\n"
                     "return { y = grad(sum(g * g), { x.x })[1] } end) }";
  Ran r;
  EXPECT(!run_model(&r, text, "f", NULL), "it has one");
  const char *said = r.m ? r.m->diag.text : r.err.text;
  EXPECT_HAS(said, "model.lua:2: attend: its gradient has no gradient; called from");
  run_done(&r);
}

TEST_MAIN()
