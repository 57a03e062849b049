/* Layers of models/nn.lua against PyTorch, in f64: values, gradients, and what training writes. */
#include <math.h>

#include "tests/test.h"
#include "tests/unit/frontend/run_model.h"

/* Lines "NAME NUMBER": the number is the sum of element i times cos(0.7 i).  y is the layer's value; x and the names of
 * parameters are the gradients of the sum of sin(y) for these; "-> NAME" is what training writes. */
typedef struct Case {
  const char *type, *expression, *lines;
} Case;

static const Case cases[] = {
    {"f32(batch, 5, 4, 3)", "nn.conv('c', x.x, 2, { stride = 2, dilation = 2 })",
     "y f32[2,3,2,2] 0.399132\n"
     "x -0.5075565\n"
     "c.bias 11.52224\n"
     "c.weight 1.48902\n"},
    {"f32(batch, 7, 6, 2)", "nn.conv('c', x.x, 3, { dilation = 3 })",
     "y f32[2,7,6,3] 5.108571\n"
     "x -5.490844\n"
     "c.bias 51.98344\n"
     "c.weight 7.065505\n"},
    {"f32(batch, 5, 4, 4)", "nn.conv('c', x.x, 6, { groups = 2 })",
     "y f32[2,5,4,6] -1.139556\n"
     "x -11.43111\n"
     "c.bias -4.143145\n"
     "c.weight -13.43496\n"},
    {"f32(batch, 6, 5, 6)", "nn.conv('c', x.x, 3, { groups = 3, stride = 2, size = { 3, 1 } })",
     "y f32[2,3,3,3] -2.807795\n"
     "x 0.3179553\n"
     "c.bias 24.98014\n"
     "c.weight -5.824196\n"},
    {"f32(batch, 5, 4, 3)", "nn.conv('c', x.x, 3, { groups = 3 })",
     "y f32[2,5,4,3] -5.934777\n"
     "x -2.832567\n"
     "c.bias -4.256619\n"
     "c.weight -0.3755229\n"},
    {"f32(batch, 7, 5, 3)", "nn.conv('c', x.x, 6, { groups = 3, stride = 2, size = 2, padding = 0, dilation = 2 })",
     "y f32[2,3,2,6] -1.030029\n"
     "x 4.293938\n"
     "c.bias -0.6905443\n"
     "c.weight -2.655804\n"},
    {"f32(batch, 4, 5, 1)", "nn.conv('c', x.x, 2, { dilation = 2, padding = { 0, 1, 2, 0 } })",
     "y f32[2,1,3,2] -0.3411882\n"
     "x -0.5099339\n"
     "c.bias 5.115877\n"
     "c.weight 1.074997\n"},
    {"f32(batch, 3, 2, 3)", "nn.conv_transpose2d('c', x.x, 2)",
     "y f32[2,6,4,2] -1.816809\n"
     "x -1.330386\n"
     "c.bias 46.64219\n"
     "c.weight 0.94677\n"},
    {"f32(batch, 3, 2, 3)",
     "nn.conv_transpose2d('c', x.x, 2, { size = 3, stride = 3, padding = 2, output_padding = 1 })",
     "y f32[2,6,3,2] 2.18726\n"
     "x -2.485075\n"
     "c.bias 33.53192\n"
     "c.weight -2.898827\n"},
    {"f32(batch, 3, 2, 2)", "nn.conv_transpose2d('c', x.x, 1, { padding = 0, output_padding = 1 })",
     "y f32[2,9,7,1] -0.2560663\n"
     "x 5.423476\n"
     "c.bias 62.61605\n"
     "c.weight -6.813246\n"},
    {"f32(batch, 2, 3, 1)",
     "nn.conv_transpose2d('c', x.x, 2, { size = { 5, 2 }, stride = 3, padding = 0, output_padding = 2 })",
     "y f32[2,10,10,2] 0.5107737\n"
     "x -2.319858\n"
     "c.bias 247.7569\n"
     "c.weight 7.230652\n"},
    {"f32(batch, 2, 3, 1)", "nn.conv_transpose2d('c', x.x, 2, { size = 3, bias = false })",
     "y f32[2,3,5,2] -3.740725\n"
     "x -0.3043614\n"
     "c.weight -0.3237517\n"},
    {"f32(batch, 1, 4, 2)", "nn.conv_transpose2d('c', x.x, 3, { size = { 2, 3 }, stride = 1, padding = 0 })",
     "y f32[2,2,6,3] 1.702947\n"
     "x 0.5466853\n"
     "c.bias 26.97042\n"
     "c.weight -2.679898\n"},
    {"f32(batch, 3, 4, 2, 2)", "nn.conv3d('c', x.x, 3)",
     "y f32[2,3,4,2,3] -10.3537\n"
     "x -0.2773561\n"
     "c.bias -4.19218\n"
     "c.weight -15.64755\n"},
    {"f32(batch, 5, 4, 3, 1)",
     "nn.conv3d('c', x.x, 2, { size = { 2, 3, 1 }, stride = { 3, 2 }, padding = { 1, 1, 0 } })",
     "y f32[2,2,2,2,2] 6.08975\n"
     "x 0.4412409\n"
     "c.bias 7.61992\n"
     "c.weight -1.747717\n"},
    {"f32(batch, 4, 6, 3)", "nn.max_pool2d(x.x, 2)",
     "y f32[2,2,3,3] -0.2979756\n"
     "x 0.4498862\n"},
    {"f32(batch, 7, 5, 2)", "nn.max_pool2d(x.x, 3, { stride = 2, padding = 1 })",
     "y f32[2,4,3,2] 0.3224319\n"
     "x -3.186522\n"},
    {"f32(batch, 5, 5, 2)", "nn.max_pool2d(stairs(x.x), 3, { stride = 1, padding = 1 })",
     "y f32[2,5,5,2] 0.6216909\n"
     "x 3.073959\n"},
    {"f32(batch, 3, 3, 4, 1)", "nn.max_pool3d(stairs(x.x), 2, { stride = 1 })",
     "y f32[2,2,2,3,1] 0.1750073\n"
     "x -0.1874518\n"},
    {"f32(batch, 5, 7, 2)", "nn.avg_pool2d(x.x, 2)",
     "y f32[2,2,3,2] -0.263542\n"
     "x 0.4230848\n"},
    {"f32(batch, 5, 7, 2)", "nn.avg_pool2d(x.x, 3, { stride = 2, padding = 1 })",
     "y f32[2,3,4,2] -0.07216677\n"
     "x -0.04591198\n"},
    {"f32(batch, 3, 4, 5, 2)", "nn.max_pool3d(x.x, 2, { stride = 1 })",
     "y f32[2,2,3,4,2] -0.6100537\n"
     "x 0.5792985\n"},
    {"f32(batch, 4, 4, 5, 1)", "nn.avg_pool3d(x.x, 3, { stride = 2, padding = 1 })",
     "y f32[2,2,2,3,1] -0.04973443\n"
     "x 0.3753883\n"},
    {"f32(batch, 4, 6, 3)", "nn.adaptive_avg_pool2d(x.x, 1)",
     "y f32[2,1,1,3] 0.05317783\n"
     "x 0.01589343\n"},
    {"f32(batch, 5, 7, 2)", "nn.adaptive_avg_pool2d(x.x, { 2, 3 })",
     "y f32[2,2,3,2] -0.2406182\n"
     "x 0.02846978\n"},
    {"f32(batch, 5, 6, 2)", "nn.adaptive_max_pool2d(x.x, { 3, 2 })",
     "y f32[2,3,2,2] -0.621416\n"
     "x -1.331612\n"},
    {"f32(batch, 2, 3, 2)", "nn.adaptive_avg_pool2d(x.x, { 4, 3 })",
     "y f32[2,4,3,2] 0.8973323\n"
     "x -0.8115262\n"},
    {"f32(batch, 3, 4, 3)", "nn.instance_norm('n', x.x)",
     "y f32[2,3,4,3] 0.2128691\n"
     "x 0.4067063\n"},
    {"f32(batch, 3, 4, 3)", "nn.instance_norm('n', x.x, { affine = true, eps = 0.1 })",
     "y f32[2,3,4,3] -0.670385\n"
     "x -0.1579292\n"
     "n.bias 28.03811\n"
     "n.weight -12.79297\n"},
    {"f32(batch, 3, 4, 3)", "nn.batch_norm('n', x.x)",
     "y f32[2,3,4,3] -0.5407189\n"
     "x 0.2700279\n"
     "n.bias 26.98786\n"
     "n.weight -21.64892\n"},
    {"f32(batch, 5)", "nn.batch_norm('n', x.x, { affine = false })",
     "y f32[2,5] -0.4599082\n"
     "x 0.6560167\n"},
    {"f32(batch, 5)", "nn.linear('l', x.x, 3, { spectral_norm = true })",
     "y f32[2,3] -1.882893\n"
     "x -2.197207\n"
     "l.bias -1.361355\n"
     "l.weight_orig -0.06660605\n"},
    {"f32(2, 3, 3)", "nn.cross_entropy(x.x, targets { 2, 0, -100, 1, -100, 2 }, { ignore = -100 })",
     "y f32[] 1.101996\n"
     "x -0.07118373\n"},
    {"f32(2, 3, 3)", "cross_entropy(x.x, targets { 2, 0, -100, 1, -100, 2 }, { ignore = -100 })",
     "y f32[2,3] 0.4437585\n"
     "x -0.6635829\n"},
    {"f32(2, 3, 3)", "nn.cross_entropy(x.x, targets { 5, 5, 5, 5, 5, 5 }, { ignore = 5 })",
     "y f32[] 0\n"
     "x 0\n"},
    {"f32(batch, 5, 4, 2)", "nn.avg_pool2d(x.x, 3, { stride = 1, padding = 1, count_pad = false })",
     "y f32[2,5,4,2] -0.4178595\n"
     "x -1.221632\n"},
    {"f32(batch, 3, 4, 5, 1)", "nn.avg_pool3d(x.x, 3, { stride = 2, padding = 1, count_pad = false })",
     "y f32[2,2,2,3,1] -0.04804156\n"
     "x 0.8931044\n"},
    {"f32(batch, 6)", "nn.quick_gelu(x.x)",
     "y f32[2,6] 0.2872777\n"
     "x 0.6680488\n"},
    {"f32(batch, 4, 5, 2)", "nn.resize(x.x, { 7, 3 })",
     "y f32[2,7,3,2] 0.9240655\n"
     "x -0.4518445\n"},
    {"f32(batch, 5, 4, 2)", "nn.pad_same(x.x, 4, 2)",
     "y f32[2,8,6,2] -0.6073026\n"
     "x -0.6066154\n"},
    {"f32(batch, 2, 5, 7, 1)", "nn.pad_same(x.x, 3, 2)",
     "y f32[2,3,7,9,1] 0.3853757\n"
     "x -0.05646477\n"},
};

static const Case training_cases[] = {
    {"f32(batch, 3, 4, 3)", "nn.batch_norm('n', x.x)",
     "y f32[2,3,4,3] -0.7707632\n"
     "x -0.4229951\n"
     "n.bias 26.71922\n"
     "n.weight -14.63327\n"
     "-> n.running_mean 0.5443867\n"
     "-> n.running_var 2.096872\n"},
    {"f32(batch, 4)", "nn.batch_norm('n', x.x, { momentum = 0.3, eps = 0.01 })",
     "y f32[2,4] 2.755973\n"
     "x -0.9953001\n"
     "n.bias 1.365141\n"
     "n.weight -1.22905\n"
     "-> n.running_mean 0.5563152\n"
     "-> n.running_var 1.411388\n"},
    {"f32(2, 4)", "nn.batch_norm('n', x.x, { momentum = 0.3, eps = 0.01 })",
     "y f32[2,4] 2.755973\n"
     "x -0.9953001\n"
     "n.bias 1.365141\n"
     "n.weight -1.22905\n"
     "-> n.running_mean 0.5563152\n"
     "-> n.running_var 1.411388\n"},
    {"f32(batch, 2, 3, 2)", "nn.batch_norm('n', nn.batch_norm('n', x.x))",
     "y f32[2,2,3,2] -0.2797623\n"
     "x -0.1873241\n"
     "n.bias 12.63444\n"
     "n.weight -6.036933\n"
     "-> n.running_mean 0.6188029\n"
     "-> n.running_var 1.857692\n"},
    {"f32(batch, 3, 4, 2)", "nn.conv('c', x.x, 3, { spectral_norm = true })",
     "y f32[2,3,4,3] -0.1514422\n"
     "x -2.466184\n"
     "c.bias 30.24208\n"
     "c.weight_orig 0.2344578\n"
     "-> c.weight_u 0.5845402\n"
     "-> c.weight_v -0.06262567\n"},
};

/* sin(1.7 (i + 1) + the sum of the name's characters), and for a variance 1 + half of it. */
static void fill_waves(Tensor *t, const char *name) {
  int phase = 0;
  size_t n = strlen(name);
  bool is_variance = n > 4 && strcmp(name + n - 4, "_var") == 0;
  for (const char *c = name; *c; c++) phase += *c;
  for (int64_t i = 0; i < tensor_elems(t); i++) {
    double wave = sin((double)(i + 1) * 1.7 + phase);
    t->data[i] = is_variance ? 1 + 0.5 * wave : wave;
  }
}

static double projection(const Tensor *t) {
  double sum = 0;
  for (int64_t i = 0; i < tensor_elems(t); i++) sum += t->data[i] * cos(0.7 * (double)i);
  return sum;
}

static const char function_text[] =
    "fn({ x = %s }, function(x)\n"
    "  local y = %s\n"
    "  local list, out = parameters(y), { y = y }\n"
    "  list[#list + 1] = x.x\n"
    "  for i, g in ipairs(grad(sum(sin(y)), list)) do out[i == #list and 'x' or list[i].name] = g end\n"
    "  return out\n"
    "end)";

static const Tensor *result(const Ran *r, const char *name) {
  int at = run_output(r, name);
  for (int i = 0; i < r->f->n_update && strncmp(name, "-> ", 3) == 0; i++)
    if (strcmp(r->f->update[i].target->attrs.leaf.name, name + 3) == 0) return &r->update[i];
  return at < 0 ? NULL : &r->out[at];
}

static void check_line(const Ran *r, const Case *c, const char *line) {
  char name[60], shape[60] = "f32[", *space;
  snprintf(name, sizeof name, "%.*s", (int)strcspn(line, "\n"), line);
  space = strrchr(name, ' ');
  double want = strtod(space, NULL);
  *space = 0;
  if ((space = strstr(name, " f32["))) *space = 0;
  const Tensor *t = result(r, name);
  REQUIRE(t, "%s: no %s", c->expression, name);
  double got = projection(t);
  EXPECT(fabs(got - want) <= 2e-6 * fmax(1, fabs(want)), "%s: %s is %.8g, not %.8g", c->expression, name, got, want);
  if (!space) return;
  for (int i = 0; i < t->rank; i++)
    snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%d", i ? "," : "", (int)t->dim[i]);
  snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "]");
  EXPECT(strcmp(space + 1, shape) == 0, "%s: %s is not %s", c->expression, shape, space + 1);
}

static const char head[] = "local nn = require 'nn'\n"
                           "local function stairs(x) return floor(x * 2) * 0.5 + (x - detach(x)) end\n"
                           "local function targets(list)\n"
                           "  for i, n in ipairs(list) do list[i] = fill(n, i32(1)) end\n"
                           "  return reshape(concat(list, 0), 2, 3)\n"
                           "end\n";

static void check_layer(const Case *c, bool trains) {
  char function[1500], text[2000];
  snprintf(function, sizeof function, function_text, c->type, c->expression);
  const char *module = trains ? "%sreturn module { train = { { 'main', %s } } }" : "%sreturn module { f = %s }";
  snprintf(text, sizeof text, module, head, function);
  Ran r;
  if (run_model(&r, text, trains ? "train.main" : "f", fill_waves)) {
    for (const char *line = c->lines; *line; line += strcspn(line, "\n") + 1) check_line(&r, c, line);
  } else {
    EXPECT(false, "%s: %s%s", c->expression, r.err.text, r.m ? r.m->diag.text : "");
  }
  run_done(&r);
}

TEST("layers and their gradients are PyTorch's") {
  for (int i = 0; i < COUNT_OF(cases); i++) check_layer(&cases[i], false);
}

TEST("layers with running statistics train as PyTorch's do") {
  for (int i = 0; i < COUNT_OF(training_cases); i++) check_layer(&training_cases[i], true);
}

/* ---- codebooks ---- */

enum { CODES = 4, WIDTH = 2, VECTORS = 6 };

/* Integers count from 0; counts of use are positive. */
static void fill_codes(Tensor *t, const char *name) {
  fill_waves(t, name);
  for (int64_t i = 0; i < tensor_elems(t); i++)
    t->data[i] = t->dtype == DTYPE_I32 ? (double)i : strstr(name, "cluster_size") ? 1.5 + t->data[i] : t->data[i];
}

static const double *written(const Ran *r, const char *name) {
  const Tensor *t = result(r, name);
  return t ? t->data : NULL;
}

/* Row k: its count, sum and place after a step of decay 0.9. */
static void check_code(const Ran *r, int k, const double *codes) {
  const double *x = run_leaf_data(r, "x"), *book = run_leaf_data(r, "book");
  double uses = 0, count = 0.9 * run_leaf_data(r, "q.cluster_size")[k];
  const double *before = run_leaf_data(r, "q.embed_avg") + k * WIDTH;
  double total[WIDTH] = {0.9 * before[0], 0.9 * before[1]};
  for (int i = 0; i < VECTORS; i++)
    for (int c = 0; c < WIDTH && codes[i] == k; c++) {
      total[c] += 0.1 * x[i * WIDTH + c];
      if (c == 0) uses++;
    }
  count += 0.1 * uses;
  EXPECT(fabs(written(r, "-> q.cluster_size")[k] - count) < 1e-6, "count of %d", k);
  for (int c = 0; c < WIDTH; c++) {
    double want = uses ? total[c] / count : book[k * WIDTH + c];
    EXPECT(fabs(written(r, "-> q.embed_avg")[k * WIDTH + c] - total[c]) < 1e-6, "sum of %d", k);
    EXPECT(fabs(written(r, "-> book")[k * WIDTH + c] - want) < 1e-6, "row %d, %g uses", k, uses);
  }
}

static bool run_codes(Ran *r, const char *options) {
  char text[1000];
  snprintf(text, sizeof text,
           "local nn = require 'nn'\n"
           "return module { train = { { 'main', fn({ x = f32(batch, 3, 2) }, function(x)\n"
           "  local book = param('book', f32(4, 2), { uniform = 0.25 })\n"
           "  local codes = nn.nearest_code(x.x, book)\n"
           "  nn.average_codes('q', book, x.x, codes, { decay = 0.9%s })\n"
           "  return { codes = codes } end) } } }",
           options);
  bool ok = run_model(r, text, "train.main", fill_codes);
  EXPECT(ok, "%s", r->err.text);
  return ok;
}

TEST("codes follow the averages of their vectors, and those without vectors stay") {
  Ran r;
  int used = 0;
  if (run_codes(&r, "")) {
    const double *codes = r.out[run_output(&r, "codes")].data;
    for (int k = 0; k < CODES; k++) check_code(&r, k, codes);
    for (int k = 0; k < CODES; k++)
      for (int i = 0; i < VECTORS; i++)
        if (codes[i] == k) {
          used++;
          break;
        }
    EXPECT(used > 0 && used < CODES, "%d codes are used", used);
  }
  run_done(&r);
}

TEST("a code that is put on a vector of the batch begins its averages anew") {
  Ran r;
  int n_fresh = 0;
  if (run_codes(&r, ", window = 1")) {
    const double *codes = r.out[run_output(&r, "codes")].data;
    const double *x = run_leaf_data(&r, "x"), *book = written(&r, "-> book");
    for (int k = 0; k < CODES; k++) {
      bool is_used = false, is_vector = false;
      for (int i = 0; i < VECTORS; i++) {
        is_used = is_used || codes[i] == k;
        is_vector = is_vector || (x[i * WIDTH] == book[k * WIDTH] && x[i * WIDTH + 1] == book[k * WIDTH + 1]);
      }
      if (is_used) continue;
      n_fresh++;
      EXPECT(is_vector, "row %d", k);
      EXPECT(written(&r, "-> q.cluster_size")[k] == 0 && written(&r, "-> q.embed_avg")[k * WIDTH] == 0, "row %d", k);
    }
    EXPECT(n_fresh > 0, "no code is without use");
  }
  run_done(&r);
}

/* ---- mistakes ---- */

static const struct {
  const char *type, *expression, *complaint;
} mistakes[] = {
    {"f32(batch, 4, 4, 3)", "nn.conv('c', x.x, 4, { groups = 2 })",
     "model.lua:7: conv: 2 groups must divide the channels, 3 and 4"},
    {"f32(batch, 4, 4, 3)", "nn.conv('c', x.x, 4, { size = { 1, 2, 3 } })",
     "model.lua:7: conv: size must be a number or a table { h, w }"},
    {"f32(batch, 4, 3)", "nn.max_pool2d(x.x, 2)", "model.lua:7: max_pool2d: x must be [b, h, w, c], not f32[B,4,3]"},
    {"f32(batch, 4, 4, 3)",
     "nn.max_pool3d(x.x, 2)", "model.lua:7: max_pool3d: x must be [b, s, h, w, c], not f32[B,4,4,3]"},
    {"f32(batch, 4, 4, 3)", "nn.avg_pool2d(x.x, 5)", "model.lua:7: avg_pool2d: the window is larger than x"},
    {"f32(batch, 4, 4, 3)", "nn.max_pool2d(x.x, 2, { padding = 2 })",
     "model.lua:7: max_pool2d: the padding must be at most half the size"},
    {"f32(batch, 4, 4, 3)", "nn.conv_transpose2d('c', x.x, 2, { size = 2, padding = 2 })",
     "model.lua:7: conv_transpose2d: the padding must be below the size"},
    {"f32(batch, 4, 4, 3)",
     "nn.conv3d('c', x.x, 2)", "model.lua:7: conv3d: x must be [b, s, h, w, c], not f32[B,4,4,3]"},
    {"f32(2, 3, 3)",
     "nn.cross_entropy(x.x, targets { 0, 0, 0, 0, 0, 0 }, {})", "options.ignore must be a whole number"},
};

TEST("mistakes with layers name the user's line") {
  for (int i = 0; i < COUNT_OF(mistakes); i++) {
    char text[1000];
    Error err;
    snprintf(text, sizeof text, "%sreturn module { f = fn({ x = %s }, function(x) return { y = %s } end) }", head,
             mistakes[i].type, mistakes[i].expression);
    Model *m = load_with(text, (ModelOptions){.models_dir = MODELS_DIR}, &err);
    EXPECT(!m, "%s loaded", mistakes[i].expression);
    if (!m) EXPECT_HAS(err.text, mistakes[i].complaint);
    model_free(m);
  }
}

TEST_MAIN()
