/* `nuwa run` with the batches that a file can bring: none, one, three, and more than there can be.  What comes out is right, or
 * refused by the op and its line. */
#include "runtime/base/safetensors.h"
#include "tests/cli/commands.h"

static const char model[] =
    "local function f(body) return fn({ x = f32(batch, 3) }, function(i) return { y = body(i.x) } end) end\n"
    "return module {\n"
    "  gather = f(function(x) return gather(x, fill(1, i32(2))) end),\n"
    "  slice = f(function(x) return slice(x, 0, 0, 1) end),\n"
    "  argmax = f(function(x) return argmax(x, 0) end),\n"
    "  less = f(function(x) return slice(x, 0, 1, x.shape[1]) end),\n"
    "  concat = f(function(x) return concat({ x, fill(2.0, f32(2, 3)) }, 0) end),\n"
    "  product = f(function(x) return matmul(transpose(x, 1, 0), x) end),\n"
    "  sum = f(function(x) return sum(x, 0) end),\n"
    "  max = f(function(x) return max(x, 0) end),\n"
    "  map = f(function(x) return tanh(reshape(x, -1)) * 2 end),\n"
    "  conv = f(function(x) return conv2d(reshape(x, x.shape[1], 1, 3, 1), fill(1.0, f32(1, 2, 1, 2))) end),\n"
    "  attend = f(function(x) local q = reshape(x, x.shape[1], 1, 1, 3, 1); return attend(q, q, q, { heads = 1 }) end),\n"
    "  pad = f(function(x) return pad(x, { lo = { 1, 0 }, hi = { 2, 1 } }) end),\n"
    "  weights = f(function(x)\n"
    "    local w = fill(0.5, f32(3, 70))\n"
    "    return grad(sum(matmul(x, w) * matmul(x, w)), { w })[1]\n"
    "  end),\n"
    "  empty = fn({ x = f32(batch, 0) }, function(i) return { y = fill(1.0, f32(batch, 4)) + sum(i.x) } end),\n"
    "}\n";

static void write_batch(int64_t B, int64_t width) {
  char path[100];
  Error err = {0};
  float x[30];
  for (int i = 0; i < 30; i++) x[i] = (float)(i % 7) - 2.5f;
  TensorView t = {.name = "x", .dtype = DTYPE_F32, .rank = 2, .dim = {B, width}, .data = x, .bytes = (size_t)(B * width * 4)};
  snprintf(path, sizeof path, "%s/x.safetensors", folder);
  if (!safetensors_write(path, &t, 1, NULL, 0, &err)) abort();
}

/* A file whose header promises B rows of that width, with no bytes behind it. */
static void write_header(const char *B, int width) {
  char path[100], header[200], bytes[300];
  Error err = {0};
  int n = snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"F32\",\"shape\":[%s,%d],\"data_offsets\":[0,0]}}", B, width);
  uint64_t length = (uint64_t)n;
  memcpy(bytes, &length, 8);
  memcpy(bytes + 8, header, (size_t)n);
  snprintf(path, sizeof path, "%s/x.safetensors", folder);
  if (!file_write_all(path, bytes, (size_t)n + 8, &err)) abort();
}

static int run(const char *fn, const char *device) {
  char args[200];
  snprintf(args, sizeof args, "run batch.lua --fn %s --in x.safetensors --out %s.safetensors --device %s", fn, device, device);
  return nuwa(args);
}

/* The bytes of the result of both devices are those of one. */
static void expect_same(const char *fn, int64_t B) {
  int cpu = run(fn, "cpu"), interp;
  EXPECT(cpu == 0, "%s with %d samples: %s", fn, (int)B, output);
  interp = run(fn, "interp");
  EXPECT(interp == 0, "%s with %d samples: %s", fn, (int)B, output);
  EXPECT(cpu || interp || shell("cmp cpu.safetensors interp.safetensors") == 0, "%s with %d samples: %s", fn, (int)B, output);
}

TEST("an empty batch is computed, or refused by the op and its line, by code and interpreter") {
  static const struct { const char *fn, *at; } refused[] = {
      {"gather", "batch.lua:3: gather: nothing to gather from"}, {"slice", "batch.lua:4: slice: the slice leaves the axis"},
      {"argmax", "batch.lua:5: argmax: nothing to choose from"}, {"less", "batch.lua:6: slice: the slice leaves the axis"}};
  static const char *const computed[] = {"concat", "product", "pad", "weights", "sum", "max", "map", "conv", "attend"};
  open_folder();
  write_text("batch.lua", model);
  write_batch(0, 3);
  for (int i = 0; i < COUNT_OF(refused); i++)
    for (int k = 0; k < 2; k++) {
      EXPECT(run(refused[i].fn, k ? "cpu" : "interp") == 1, "%s", output);
      EXPECT_HAS(output, refused[i].at);
      EXPECT_HAS(output, "batch of 0");
    }
  for (int i = 0; i < COUNT_OF(computed); i++) expect_same(computed[i], 0);
}

TEST("from one sample on, every function is computed") {
  static const char *const all[] = {"gather", "slice", "argmax", "less", "concat", "pad", "max"};
  open_folder();
  write_text("batch.lua", model);
  for (int64_t B = 1; B <= 3; B += 2) {
    write_batch(B, 3);
    for (int i = 0; i < COUNT_OF(all); i++) expect_same(all[i], B);
  }
}

TEST("a batch that no memory holds is an error") {
  static const char *const device[] = {"interp", "cpu"};
  open_folder();
  write_text("batch.lua", model);
  write_header("1099511627776", 3);
  EXPECT(run("map", "cpu") == 1, "%s", output);
  EXPECT_HAS(output, "x.safetensors");
  static const char *const huge[] = {"1099511627776", "70368744177664", "4611686018427387904", "9223372036854775807"};
  for (int i = 0; i < COUNT_OF(huge); i++)
    for (int k = 0; k < 2; k++) {
      write_header(huge[i], 0);
      EXPECT(run("empty", device[k]) == 1, "%s: %s", huge[i], output);
      EXPECT(strstr(output, "memory") || strstr(output, "too large") || strstr(output, "out of range") ||
                 strstr(output, "must be 1 to "), "%s: %s", huge[i], output);
    }
}

TEST_MAIN()
