/* models/nn.lua: names and layouts of parameters as PyTorch has them, and layers against plain loops. */
#include "tests/test.h"

#include <math.h>

#include "tests/unit/frontend/run_model.h"

/* A module of one function f of x with the given type; nn is there. */
static const char *layer_text(const char *type, const char *expression) {
  static char text[2000];
  snprintf(text, sizeof text,
           "local nn = require 'nn'\nreturn module { f = fn({ x = %s }, function(x)\nreturn { y = %s } end) }", type,
           expression);
  return text;
}

static Model *load_layer(const char *type, const char *expression, Error *err) {
  return load_with(layer_text(type, expression), (ModelOptions){.models_dir = MODELS_DIR}, err);
}

/* "name f32[...]" of all params, in order of name, each on a line. */
static void expect_params(const char *type, const char *expression, const char *wanted) {
  Error err;
  Model *m = load_layer(type, expression, &err);
  REQUIRE(m, "%s", err.text);
  const char *names[64];
  char lines[64][100];
  Buffer text = {0};
  int n_nodes, n = 0;
  Node **nodes = func_nodes(m->func[0], &n_nodes);
  for (int i = 0; i < n_nodes; i++) {
    if (nodes[i]->op != OP_PARAM || n == 64) continue;
    int at = n++;
    for (; at > 0 && strcmp(names[at - 1], nodes[i]->attrs.leaf.name) > 0; at--) {
      names[at] = names[at - 1];
      strcpy(lines[at], lines[at - 1]);
    }
    names[at] = nodes[i]->attrs.leaf.name;
    type_print(&nodes[i]->type, lines[at], sizeof lines[at]);
  }
  for (int i = 0; i < n; i++) buffer_printf(&text, "%s %s\n", names[i], lines[i]);
  EXPECT_TEXT(text.data, wanted);
  buffer_done(&text);
  model_free(m);
}

TEST("parameters have PyTorch's names and layouts") {
  expect_params("f32(batch, 5, 8)", "nn.linear('fc', x.x, 3)", "fc.bias f32[3]\nfc.weight f32[3,8]\n");
  expect_params("f32(batch, 6, 6, 4)", "nn.conv('c', x.x, 7)", "c.bias f32[7]\nc.weight f32[7,4,3,3]\n");
  expect_params("f32(batch, 6, 6, 4)", "nn.downsample('down.0', x.x)",
                "down.0.conv.bias f32[4]\ndown.0.conv.weight f32[4,4,3,3]\n");
  expect_params(
      "f32(batch, 6, 6, 4)", "nn.residual('r', x.x, 8, { groups = 2 })",
      "r.conv1.bias f32[8]\nr.conv1.weight f32[8,4,3,3]\nr.conv2.bias f32[8]\nr.conv2.weight f32[8,8,3,3]\n"
      "r.nin_shortcut.bias f32[8]\nr.nin_shortcut.weight f32[8,4,1,1]\nr.norm1.bias f32[4]\nr.norm1.weight f32[4]\n"
      "r.norm2.bias f32[8]\nr.norm2.weight f32[8]\n");
  expect_params("f32(batch, 6, 6, 4)", "nn.picture_attention('a', x.x, { groups = 2 })",
                "a.k.bias f32[4]\na.k.weight f32[4,4,1,1]\na.norm.bias f32[4]\na.norm.weight f32[4]\n"
                "a.proj_out.bias f32[4]\na.proj_out.weight f32[4,4,1,1]\na.q.bias f32[4]\na.q.weight f32[4,4,1,1]\n"
                "a.v.bias f32[4]\na.v.weight f32[4,4,1,1]\n");
  expect_params("i32(batch, 2, 3, 4)", "nn.positions('pos', nn.embedding('tok', x.x, 9, 8))",
                "pos.h f32[3,8]\npos.s f32[2,8]\npos.w f32[4,8]\ntok.weight f32[9,8]\n");
}

TEST("scopes nest, and end when their body fails") {
  expect_params("f32(2, 8)",
                "nn.scope('a', function() return nn.scope('0', function() return nn.layer_norm('n', x.x) end) end)",
                "a.0.n.bias f32[8]\na.0.n.weight f32[8]\n");
  expect_params("f32(2, 8)", "(function() pcall(nn.scope, 'a', error) return nn.layer_norm('n', x.x) end)()",
                "n.bias f32[8]\nn.weight f32[8]\n");
}

TEST("a block has self-attention, cross-attention when there is a context, and a feed-forward part") {
  Error err;
  Model *m =
      load_layer("f32(batch, 1, 4, 4, 8)",
                 "nn.block('b', x.x, x.x, { self = { heads = 2, extent = { h = 3, w = 3 }, causal = 'raster' },"
                 " cross = { heads = 2, kind = 'full' } })",
                 &err);
  REQUIRE(m, "%s", err.text);
  int n, attends = 0;
  Node **nodes = func_nodes(m->func[0], &n);
  for (int i = 0; i < n; i++) attends += nodes[i]->op == OP_ATTEND;
  EXPECT(attends == 2, "%d", attends);
  EXPECT(func_verify(m->func[0], FORM_ANY, "loading", &err), "%s", err.text);
  model_free(m);
}

TEST("keys and values of an attention have as many heads as they are given") {
  expect_params("f32(batch, 1, 2, 2, 8)", "nn.attention('a', x.x, nil, { heads = 4, kv_heads = 2, width = 16, bias = false })",
                "a.k.weight f32[8,8]\na.out.weight f32[8,16]\na.q.weight f32[16,8]\na.v.weight f32[8,8]\n");
}

/* ---- values ---- */

/* Numbers in [-1, 1] that differ by name and place. */
static void fill_waves(Tensor *t, const char *name) {
  for (int64_t i = 0; i < tensor_elems(t); i++) t->data[i] = sin((double)(i + 1) * 1.7 + name[0]);
}

static bool run_layer(Ran *r, const char *type, const char *expression) {
  bool ok = run_model(r, layer_text(type, expression), "f", fill_waves);
  EXPECT(ok, "%s", r->err.text);
  return ok;
}

/* x [b, h, w, c], weight [o, c, k, k] as in PyTorch; `top` and `left` zeros before. */
static double conv_at(const double *x, const double *weight, const double *bias, const int n[4], int k, int top,
                      int left, int stride, const int at[4]) {
  double sum = bias[at[3]];
  for (int ky = 0; ky < k; ky++)
    for (int kx = 0; kx < k; kx++)
      for (int c = 0; c < n[3]; c++) {
        int row = at[1] * stride + ky - top, column = at[2] * stride + kx - left;
        if (row < 0 || row >= n[1] || column < 0 || column >= n[2]) continue;
        sum += x[((at[0] * n[1] + row) * n[2] + column) * n[3] + c] * weight[((at[3] * n[3] + c) * k + ky) * k + kx];
      }
  return sum;
}

static double conv_error(const Ran *r, const char *weight, const char *bias, const int n[4], int k, int top, int left,
                         int stride) {
  double worst = 0;
  const int64_t *d = r->out[0].dim;
  const double *x = run_leaf_data(r, "x"), *w = run_leaf_data(r, weight), *b = run_leaf_data(r, bias);
  for (int64_t i = 0; i < tensor_elems(&r->out[0]); i++) {
    const int at[4] = {(int)(i / (d[1] * d[2] * d[3])), (int)(i / (d[2] * d[3]) % d[1]), (int)(i / d[3] % d[2]),
                       (int)(i % d[3])};
    worst = fmax(worst, fabs(r->out[0].data[i] - conv_at(x, w, b, n, k, top, left, stride, at)));
  }
  return worst;
}

TEST("a convolution pads and strides like PyTorch's") {
  Ran r;
  const int n[4] = {2, 5, 4, 3};
  if (run_layer(&r, "f32(batch, 5, 4, 3)", "nn.conv('c', x.x, 2)")) {
    EXPECT(r.out[0].dim[1] == 5 && r.out[0].dim[2] == 4 && r.out[0].dim[3] == 2, "size is kept");
    EXPECT(conv_error(&r, "c.weight", "c.bias", n, 3, 1, 1, 1) < 1e-12, "%g",
           conv_error(&r, "c.weight", "c.bias", n, 3, 1, 1, 1));
  }
  run_done(&r);
  const int m[4] = {2, 6, 4, 3};
  if (run_layer(&r, "f32(batch, 6, 4, 3)", "nn.downsample('d', x.x)")) {
    EXPECT(r.out[0].dim[1] == 3 && r.out[0].dim[2] == 2, "half the size");
    EXPECT(conv_error(&r, "d.conv.weight", "d.conv.bias", m, 3, 0, 0, 2) < 1e-12, "downsample");
  }
  run_done(&r);
}

TEST("repeat2 copies each element to four places") {
  Ran r;
  if (run_layer(&r, "f32(batch, 3, 2, 4)", "nn.repeat2(x.x)")) {
    const double *x = run_leaf_data(&r, "x");
    bool same = r.out[0].dim[1] == 6 && r.out[0].dim[2] == 4;
    for (int64_t i = 0; same && i < tensor_elems(&r.out[0]); i++) {
      int64_t c = i % 4, column = i / 4 % 4, row = i / 16 % 6, b = i / 96;
      same = r.out[0].data[i] == x[((b * 3 + row / 2) * 2 + column / 2) * 4 + c];
    }
    EXPECT(same, "repeated");
  }
  run_done(&r);
}

TEST("linear is x times the transposed weight plus the bias") {
  Ran r;
  if (run_layer(&r, "f32(batch, 3, 5)", "nn.linear('l', x.x, 4)")) {
    const double *x = run_leaf_data(&r, "x"), *w = run_leaf_data(&r, "l.weight"), *b = run_leaf_data(&r, "l.bias");
    double worst = 0;
    for (int i = 0; i < 6 * 4; i++) {
      double sum = b[i % 4];
      for (int k = 0; k < 5; k++) sum += x[i / 4 * 5 + k] * w[i % 4 * 5 + k];
      worst = fmax(worst, fabs(sum - r.out[0].data[i]));
    }
    EXPECT(worst < 1e-12, "%g", worst);
  }
  run_done(&r);
}

TEST("the nearest code is the one of the least distance") {
  Ran r;
  if (run_layer(&r, "f32(batch, 3, 3)", "nn.nearest_code(x.x, param('book', f32(7, 3)))")) {
    const double *x = run_leaf_data(&r, "x"), *book = run_leaf_data(&r, "book");
    for (int i = 0; i < 6; i++) {
      int best = -1;
      double least = HUGE_VAL;
      for (int k = 0; k < 7; k++) {
        double sum = 0;
        for (int c = 0; c < 3; c++) sum += (x[i * 3 + c] - book[k * 3 + c]) * (x[i * 3 + c] - book[k * 3 + c]);
        if (sum < least) least = sum, best = k;
      }
      EXPECT(r.out[0].data[i] == best, "row %d: %g, not %d", i, r.out[0].data[i], best);
    }
  }
  run_done(&r);
}

/* Captions of two words and the first, then the second number behind their end. */
static double word_behind;

static void fill_caption(Tensor *t, const char *name) {
  for (int64_t i = 0; i < tensor_elems(t); i++) {
    bool is_word = i % 4 < 2;
    if (strcmp(name, "text") == 0) t->data[i] = is_word ? (double)(i % 5) : word_behind;
    else if (strcmp(name, "text_mask") == 0) t->data[i] = is_word;
    else if (strcmp(name, "tokens") == 0) t->data[i] = (double)(i * 5 % 6);
    else t->data[i] = sin((double)(i + 1) * 1.7 + name[0]);
  }
}

/* The loss of models/nuwa.lua, made small, on them. */
static double caption_loss(const char *is_masked, double behind) {
  const Define d[] = {{"grid_s", "1"}, {"grid_h", "2"}, {"grid_w", "2"}, {"dim", "8"}, {"heads", "2"}, {"encoder_layers", "2"},
                      {"decoder_layers", "1"}, {"codebook", "6"}, {"text_tokens", "4"}, {"vocab", "9"}, {"text_mask", is_masked}};
  ModelOptions o = {.define = d, .n_define = COUNT_OF(d), .models_dir = MODELS_DIR};
  Ran r = {0};
  word_behind = behind;
  r.m = model_load(MODELS_DIR "/nuwa.lua", &o, &r.err);
  bool ok = run_function(&r, "loss", fill_caption);
  EXPECT(ok, "%s", r.err.text);
  double loss = ok ? r.out[0].data[0] : 0;
  run_done(&r);
  return loss;
}

TEST("models/nuwa.lua attends to nothing behind the end of a caption, unless it is told to") {
  EXPECT(caption_loss("true", 0) == caption_loss("true", 7), "%g, %g", caption_loss("true", 0), caption_loss("true", 7));
  EXPECT(caption_loss("false", 0) != caption_loss("false", 7), "the caption is not read at all");
}

TEST("mistakes with layers name the user's line") {
  Error err;
  EXPECT(!load_layer("f32(2, 3)", "nn.linear(x.x, 4)", &err), "it loaded");
  EXPECT_HAS(err.text, "model.lua:3: a layer needs a name, not f32[2,3]");
  EXPECT(!load_layer("f32(2, 3)", "nn.conv('c', x.x, 4)", &err), "it loaded");
  EXPECT_HAS(err.text, "model.lua:3: conv: x must be [b, h, w, c], not f32[2,3]");
  EXPECT(!load_layer("f32(2, batch)", "nn.linear('l', x.x, 4)", &err), "it loaded");
  EXPECT_HAS(err.text, "model.lua:3: linear: the width of x must be a constant, not B");
  EXPECT(!load_layer("f32(1, 4, 4, 6)", "nn.attention('a', x.x, nil, { heads = 4 })", &err), "it loaded");
  EXPECT_HAS(err.text, "nn.lua:");
  EXPECT_HAS(err.text, "attend: heads must divide the width: f32[1,4,4,6]");
  EXPECT_HAS(err.text, "model.lua:3");
  EXPECT(!load_layer("f32(1, 4, 4, 6)", "nn.attention('a', x.x, nil, { kv_heads = 2 })", &err), "it loaded");
  EXPECT_HAS(err.text, "attend: needs heads");
  static const struct {
    const char *type, *layer, *says;
  } wrong[] = {
      {"f32(1, 4, 4, 8)", "nn.attention('a', x.x, nil, { heads = 2, extents = { h = 3 } })",
       "model.lua:3: attention: there is no option extents; the options are: heads, kv_heads, scale, mask, kind, extent, causal, edge, "
       "width, init, out_init, bias"},
      {"f32(1, 4, 4, 8)", "nn.attention('a', x.x)", "attend: needs heads"},
      {"f32(1, 4, 4, 8)", "nn.block('a', x.x, nil, { heads = 2 })", "model.lua:3: block: there is no option heads; the options are: self, cross"},
      {"f32(1, 4, 4, 8)", "nn.conv('c', x.x, 8, { kernel = 5 })", "model.lua:3: conv: there is no option kernel"},
      {"f32(1, 4, 4, 8)", "nn.conv('c', x.x, 8, { groups = 0 })", "model.lua:3: conv: groups must be a whole number of at least 1, not 0"},
      {"f32(1, 4, 4, 8)", "nn.conv('c', x.x, 8, { padding = { 1, 1 } })", "model.lua:3: conv: padding must be a number or a table { top, bottom"},
      {"f32(1, 4, 4, 8)", "nn.conv_transpose2d('c', x.x, 8, { groups = 8 })", "model.lua:3: conv_transpose2d: there is no option groups"},
      {"f32(1, 4, 4, 4, 8)", "nn.conv3d('c', x.x, 8, { stride = { 1, 1, 2 } })", "model.lua:3: conv3d: size is a number or { s, h, w }, stride"},
      {"f32(1, 4, 4, 8)", "nn.max_pool2d(x.x, 2, 2)", "max_pool2d: options must be a table, not 2"},
      {"f32(1, 4, 4, 8)", "nn.max_pool2d(x.x, 2, { ceil_mode = true })", "max_pool2d: there is no option ceil_mode; the options are: stride, padding"},
      {"f32(2, 8)", "nn.linear('l', x.x, 4, { spectral = true })", "model.lua:3: linear: there is no option spectral"},
      {"f32(2, 8)", "nn.batch_norm('n', x.x, { momentum = 1.5 })", "model.lua:3: batch_norm: momentum must be in [0, 1], not 1.5"},
      {"f32(2, 4, 4, 8)", "nn.residual('r', x.x, 8, { dropout = 0.1 })", "model.lua:3: residual: there is no option dropout; the options are: groups, norm, size"},
  };
  for (int i = 0; i < COUNT_OF(wrong); i++) {
    EXPECT(!load_layer(wrong[i].type, wrong[i].layer, &err), "%s loaded", wrong[i].layer);
    EXPECT_HAS(err.text, wrong[i].says);
  }
}

TEST_MAIN()
