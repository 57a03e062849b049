/* Products, convolutions and maps as IR text, in the sizes of the demo's models and of textbooks. */
#include "bench/bench.h"

#define COUNTED UNIT_FLOPS, 0
#define MOVED UNIT_BYTES, 0

static bool all_cases(Bench *b, const TextCase *c, int n, Error *err) {
  for (int i = 0; i < n; i++) {
    TextCase precise = c[i];
    precise.text = bench_precise(b, c[i].text);
    if (!bench_text(b, &precise, err)) return false;
  }
  return true;
}

/* ---- matrix products ---- */

#define SQUARE(n) "func @f(%a: f32[" n "," n "], %b: f32[" n "," n "]) {\n" \
  "  %y = matmul(%a, %b) {trans_a=0, trans_b=0} : f32[" n "," n "]\n  return y = %y\n}\n"

#define WEIGHT(name, shape) "  %" name " = param() {name=\"" name "\", init=normal, scale=0.02} : f32[" shape "]\n"

static const TextCase products[] = {
    {"matmul.256", "matrix product", "256^3", SQUARE("256"), 1, COUNTED},
    {"matmul.1024", "matrix product", "1024^3", SQUARE("1024"), 1, COUNTED},
    {"matmul.linear", "linear layer", "[64*64,192] x [192,768]",
     "func @f(%x: f32[64B,192]) {\n" WEIGHT("w", "192,768")
     "  %y = matmul(%x, %w) {trans_a=0, trans_b=0} : f32[64B,768]\n  return y = %y\n}\n", 64, COUNTED},
    {"matmul.linear.transposed", "linear layer, weight stored [out,in]", "[64*64,192] x [768,192]^T",
     "func @f(%x: f32[64B,192]) {\n" WEIGHT("w", "768,192")
     "  %y = matmul(%x, %w) {trans_a=0, trans_b=1} : f32[64B,768]\n  return y = %y\n}\n", 64, COUNTED},
    {"matmul.linear.down", "linear layer", "[64*64,768] x [768,192]",
     "func @f(%x: f32[64B,768]) {\n" WEIGHT("w", "768,192")
     "  %y = matmul(%x, %w) {trans_a=0, trans_b=0} : f32[64B,192]\n  return y = %y\n}\n", 64, COUNTED},
    {"matmul.linear.gelu", "linear layer with bias and gelu (the product is counted)", "[64*64,192] x [192,768]",
     "func @f(%x: f32[64B,192]) {\n" WEIGHT("w", "192,768") WEIGHT("b", "768")
     "  %y = matmul(%x, %w) {trans_a=0, trans_b=0} : f32[64B,768]\n  %c = broadcast(%b) : f32[64B,768]\n"
     "  %z = add(%y, %c) : f32[64B,768]\n  %g = gelu(%z) : f32[64B,768]\n  return y = %g\n}\n", 64, COUNTED},
    {"matmul.logits", "logits of 512 codes", "[64*64,192] x [192,512]",
     "func @f(%x: f32[64B,192]) {\n" WEIGHT("w", "192,512")
     "  %y = matmul(%x, %w) {trans_a=0, trans_b=0} : f32[64B,512]\n  return y = %y\n}\n", 64, COUNTED},
    {"matmul.grad_x", "gradient of a linear layer's input", "[64*64,768] x [192,768]^T",
     "func @f(%dy: f32[64B,768], %w: f32[192,768]) {\n"
     "  %y = matmul(%dy, %w) {trans_a=0, trans_b=1} : f32[64B,192]\n  return y = %y\n}\n", 64, COUNTED},
    {"matmul.grad_w", "gradient of a linear layer's weight", "[64*64,192]^T x [64*64,768]",
     "func @f(%x: f32[64B,192], %dy: f32[64B,768]) {\n"
     "  %y = matmul(%x, %dy) {trans_a=1, trans_b=0} : f32[192,768]\n  return y = %y\n}\n", 64, COUNTED},
};

/* Few rows through weights that no cache near the core holds: what decoding does all day. */
static bool few_rows(Bench *b, int rows, Error *err) {
  enum { LAYERS = 8, WIDTH = 2048 };
  Buffer text = {0};
  buffer_printf(&text, "func @f(%%x0: f32[%d,%d]) {\n", rows, WIDTH);
  for (int i = 0; i < LAYERS; i++) {
    buffer_printf(&text, "  %%w%d = param() {name=\"w%d\", init=normal, scale=0.02} : f32[%d,%d]\n", i, i, WIDTH,
                  WIDTH);
    buffer_printf(&text, "  %%x%d = matmul(%%x%d, %%w%d) {trans_a=0, trans_b=0} : f32[%d,%d]\n", i + 1, i, i, rows,
                  WIDTH);
  }
  buffer_printf(&text, "  return y = %%x%d\n}\n", LAYERS);
  if (text.failed) return error_set(err, ERROR_MEMORY, "out of memory");
  char id[32], size[64];
  snprintf(id, sizeof id, "matmul.rows.%d", rows);
  snprintf(size, sizeof size, "%d x [%d,%d] x [%d,%d]", LAYERS, rows, WIDTH, WIDTH, WIDTH);
  const TextCase c = {id, "few rows, as in decoding", size, text.data, 1, COUNTED};
  bool ok = all_cases(b, &c, 1, err);
  buffer_done(&text);
  return ok;
}

bool bench_products(Bench *b, Error *err) {
  if (!all_cases(b, products, COUNT_OF(products), err)) return false;
  return few_rows(b, 1, err) && few_rows(b, 4, err) && few_rows(b, 16, err);
}

/* ---- convolutions: 3x3, the border of zeros is part of the work ---- */

#define BORDER(to, x, shape) \
  "  %" to " = pad(%" x ") {lo=[0,1,1,0], hi=[0,1,1,0], interior=[0,0,0,0], value=0} : f32[" shape "]\n"
/* Zeros below and to the right only, as VQ-GAN's downsampling has them. */
#define BORDER_BELOW(to, x, shape) \
  "  %" to " = pad(%" x ") {lo=[0,0,0,0], hi=[0,1,1,0], interior=[0,0,0,0], value=0} : f32[" shape "]\n"
#define CONV(stride, shape)                                                                                          \
  "  %y = conv2d(%p, %w) {stride=" stride ", kh=0, kw=0} : f32[" shape "]\n  return y = %y\n}\n"
#define GRAD_W(stride, shape) \
  "  %y = conv2d_grad_w(%p, %dy) {stride=" stride ", kh=3, kw=3} : f32[" shape "]\n  return y = %y\n}\n"

static const TextCase convolutions[] = {
    {"conv.32x32x64", "convolution 3x3", "16 x 32x32, 64 -> 64",
     "func @f(%x: f32[B,32,32,64]) {\n" WEIGHT("w", "3,3,64,64") BORDER("p", "x", "B,34,34,64")
         CONV("1", "B,32,32,64"),
     16, COUNTED},
    {"conv.32x32x32", "convolution 3x3", "32 x 32x32, 32 -> 32",
     "func @f(%x: f32[B,32,32,32]) {\n" WEIGHT("w", "3,3,32,32") BORDER("p", "x", "B,34,34,32")
         CONV("1", "B,32,32,32"),
     32, COUNTED},
    {"conv.8x8x64", "convolution 3x3", "64 x 8x8, 64 -> 64",
     "func @f(%x: f32[B,8,8,64]) {\n" WEIGHT("w", "3,3,64,64") BORDER("p", "x", "B,10,10,64") CONV("1", "B,8,8,64"),
     64, COUNTED},
    {"conv.valid", "convolution 3x3, border already there", "16 x 34x34 -> 32x32, 64 -> 64",
     "func @f(%p: f32[B,34,34,64]) {\n" WEIGHT("w", "3,3,64,64") CONV("1", "B,32,32,64"), 16, COUNTED},
    {"conv.strided", "convolution 3x3, stride 2", "16 x 32x32 -> 16x16, 64 -> 64",
     "func @f(%x: f32[B,32,32,64]) {\n" WEIGHT("w", "3,3,64,64") BORDER_BELOW("p", "x", "B,33,33,64")
         CONV("2", "B,16,16,64"),
     16, COUNTED},
    {"conv.output", "convolution 3x3 to colours", "16 x 32x32, 128 -> 3",
     "func @f(%x: f32[B,32,32,128]) {\n" WEIGHT("w", "3,3,128,3") BORDER("p", "x", "B,34,34,128")
         CONV("1", "B,32,32,3"),
     16, COUNTED},
    {"conv.1x1", "convolution 1x1", "64 x 8x8, 128 -> 64",
     "func @f(%p: f32[B,8,8,128]) {\n" WEIGHT("w", "1,1,128,64") CONV("1", "B,8,8,64"), 64, COUNTED},
    {"conv.grad_x", "gradient of a convolution's input", "16 x 32x32, 64 <- 64",
     "func @f(%x: f32[B,32,32,64], %v: f32[3,3,64,64]) {\n  %r = reverse(%v) {axes=[0,1]} : f32[3,3,64,64]\n"
     "  %w = transpose(%r) {perm=[0,1,3,2]} : f32[3,3,64,64]\n" BORDER("p", "x", "B,34,34,64")
         CONV("1", "B,32,32,64"),
     16, COUNTED},
    {"conv.grad_w.32x32x64", "gradient of a convolution's filter", "16 x 32x32, 64 x 64",
     "func @f(%x: f32[B,32,32,64], %dy: f32[B,32,32,64]) {\n" BORDER("p", "x", "B,34,34,64") GRAD_W("1", "3,3,64,64"),
     16, COUNTED},
    {"conv.grad_w.8x8x64", "gradient of a convolution's filter", "64 x 8x8, 64 x 64",
     "func @f(%x: f32[B,8,8,64], %dy: f32[B,8,8,64]) {\n" BORDER("p", "x", "B,10,10,64") GRAD_W("1", "3,3,64,64"), 64,
     COUNTED},
    {"conv.grad_w.strided", "gradient of a filter, stride 2", "16 x 32x32 -> 16x16, 64 x 64",
     "func @f(%x: f32[B,32,32,64], %dy: f32[B,16,16,64]) {\n" BORDER_BELOW("p", "x", "B,33,33,64")
         GRAD_W("2", "3,3,64,64"),
     16, COUNTED},
    {"conv.grad_w.output", "gradient of the filter to colours", "16 x 32x32, 128 x 3",
     "func @f(%x: f32[B,32,32,128], %dy: f32[B,32,32,3]) {\n" BORDER("p", "x", "B,34,34,128")
         GRAD_W("1", "3,3,128,3"),
     16, COUNTED},
};

bool bench_convolutions(Bench *b, Error *err) { return all_cases(b, convolutions, COUNT_OF(convolutions), err); }

/* ---- maps and reductions: what counts is bytes ---- */

static const TextCase maps[] = {
    {"map.add", "addition", "[64*64,192]",
     "func @f(%x: f32[64B,192], %y: f32[64B,192]) {\n  %z = add(%x, %y) : f32[64B,192]\n  return z = %z\n}\n", 64,
     MOVED},
    {"map.add.large", "addition", "[64*4096,192]",
     "func @f(%x: f32[4096B,192], %y: f32[4096B,192]) {\n  %z = add(%x, %y) : f32[4096B,192]\n  return z = %z\n}\n",
     64, MOVED},
    {"map.gelu", "gelu", "[64*64,768]",
     "func @f(%x: f32[64B,768]) {\n  %y = gelu(%x) : f32[64B,768]\n  return y = %y\n}\n", 64, MOVED},
    {"map.silu", "silu", "16 x 32x32x64",
     "func @f(%x: f32[B,32,32,64]) {\n  %y = silu(%x) : f32[B,32,32,64]\n  return y = %y\n}\n", 16, MOVED},
    {"map.transpose", "transposition", "[2048,2048]",
     "func @f(%x: f32[2048,2048]) {\n  %y = transpose(%x) {perm=[1,0]} : f32[2048,2048]\n  return y = %y\n}\n", 1,
     MOVED},
    {"map.upsample", "doubling of rows and columns", "16 x 16x16x64",
     "func @f(%x: f32[B,16,16,64]) {\n  %a = reshape(%x) : f32[B,16,1,16,1,64]\n  %b = broadcast(%a) : "
     "f32[B,16,2,16,2,64]\n"
     "  %y = reshape(%b) : f32[B,32,32,64]\n  return y = %y\n}\n",
     16, MOVED},
    {"map.gather", "rows of a table", "[64*64] of [512,192]",
     "func @f(%i: i32[64B], %x: f32[512,192]) {\n  %y = gather(%x, %i) : f32[64B,192]\n  return y = %y\n}\n", 64,
     MOVED},
    {"scatter.add", "gradient of a table", "[64*64,192] -> [512,192]",
     "func @f(%i: i32[64B], %x: f32[64B,192]) {\n  %y = scatter_add(%i, %x) {rows=512} : f32[512,192]\n  return y = "
     "%y\n}\n",
     64, MOVED},
    {"reduce.softmax", "softmax", "[64*64,512]",
     "func @f(%x: f32[64B,512]) {\n  %y = softmax(%x) : f32[64B,512]\n  return y = %y\n}\n", 64, MOVED},
    {"reduce.layer_norm", "layer norm", "[64*64,192]",
     "func @f(%x: f32[64B,192]) {\n" WEIGHT("g", "192") WEIGHT(
         "b", "192") "  %y = layer_norm(%x, %g, %b) {eps=1e-05, groups=0} : f32[64B,192]\n  return y = %y\n}\n",
     64, MOVED},
    {"reduce.group_norm", "group norm, 8 groups", "16 x 32x32x64",
     "func @f(%x: f32[B,32,32,64]) {\n" WEIGHT("g", "64") WEIGHT(
         "b", "64") "  %y = group_norm(%x, %g, %b) {eps=1e-06, groups=8} : f32[B,32,32,64]\n  return y = %y\n}\n",
     16, MOVED},
    {"reduce.cross_entropy", "cross-entropy", "[64*64,512]",
     "func @f(%x: f32[64B,512], %t: i32[64B]) {\n  %y = cross_entropy(%x, %t) : f32[64B]\n  return y = %y\n}\n", 64,
     MOVED},
    {"reduce.columns", "sums of columns, as for a bias", "[64*64,768]",
     "func @f(%x: f32[64B,768]) {\n  %y = sum(%x) {axes=[0]} : f32[768]\n  return y = %y\n}\n", 64, MOVED},
    {"reduce.pictures", "sums over pictures and places", "16 x 32x32x64",
     "func @f(%x: f32[B,32,32,64]) {\n  %y = sum(%x) {axes=[0,1,2]} : f32[64]\n  return y = %y\n}\n", 16, MOVED},
    {"reduce.all", "sum of everything", "[64*64,768]",
     "func @f(%x: f32[64B,768]) {\n  %y = sum(%x) {axes=[0,1]} : f32[]\n  return y = %y\n}\n", 64, MOVED},
};

bool bench_maps(Bench *b, Error *err) { return all_cases(b, maps, COUNT_OF(maps), err); }
