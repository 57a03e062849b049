/* Bundles for CUDA with damage (see bundle.h): cubins, PTX, products by cuBLASLt.  Sessions are opened on the emulated
 * driver with the stand-in. */
#include "tests/fuzz/bundle.h"
#include "tests/nvrtc.h"

static const NuwaOptions options = {.device = PLAN_CUDA, .threads = 1, .samples = 2, .rows = 4,
                                    .cuda = {.driver = EMUCUDA, .cublaslt = EMUBLASLT}};

static const char model[] =
  "local w = param('w', f32(32, 64), { normal = 0.3 })\n"
  "local b = param('b', f32(64), { normal = 0.3 })\n"
  "local v = param('v', f32(64, 32), { normal = 0.3 })\n"
  "return module {\n"
  "  f = fn({ x = f32(batch, 6, 32) }, function(p)\n"
  "    return { y = softmax(matmul(matmul(p.x, w) + b, v)) }\n"
  "  end),\n"
  "}\n";

/* Two cubins and PTX of every kernel, and two products. */
static bool open_bundle(Buffer *out) {
  static const int arch[] = {80, 90};
  Error err = {0};
  Model *m = load_text(model, &err);
  CompileOptions o = {.device = PLAN_CUDA, .arch = arch, .n_arch = 2, .cublaslt = true, .threads = 1};
  bool ok = m && compile_model(m, &o, out, &err);
  EXPECT(ok, "%s", err.text);
  model_free(m);
  return ok;
}

TEST("a bundle for CUDA with any damage is refused by its digest") {
  NEED_NVRTC();
  Buffer bundle = {0};
  if (open_bundle(&bundle)) check_damage(&bundle);
  buffer_done(&bundle);
}

TEST("a bundle for CUDA that is damaged and signed again is refused with a reason or is consistent") {
  NEED_NVRTC();
  Buffer bundle = {0};
  if (open_bundle(&bundle)) check_signed_damage(&bundle, &options);
  buffer_done(&bundle);
}

TEST("every number of a plan for CUDA may be any number") {
  NEED_NVRTC();
  Buffer bundle = {0};
  if (open_bundle(&bundle)) check_numbers(&bundle, &options);
  buffer_done(&bundle);
}

/* The first byte at which the plan is another one after a change to product i; 0 when it cannot be written. */
static size_t place_of_product(const Buffer *bundle, int i) {
  Error err = {0};
  Buffer changed = {0};
  Plan *p = plan_read(bundle->data, bundle->len, "bundle", &err);
  size_t at = HEADER;
  if (p) p->product[i].in = p->product[i].out = DTYPE_BF16;
  if (p && plan_write(p, &changed, &err))
    while (at < changed.len && changed.data[at] == bundle->data[at]) at++;
  if (at >= changed.len) at = 0;
  EXPECT(at, "%s", err.text);
  buffer_done(&changed);
  plan_free(p);
  return at;
}

TEST("every bit of the products' records may be wrong") {
  NEED_NVRTC();
  Buffer bundle = {0};
  REQUIRE(open_bundle(&bundle), "");
  size_t first = place_of_product(&bundle, 0), second = place_of_product(&bundle, 1), refused = 0;
  uint8_t *bytes = malloc(bundle.len);
  REQUIRE(first && second > first && second - first < 200, "products at %zu and %zu", first, second);
  for (size_t at = first - 8; at < second + (second - first); at += FUZZ_STRIDE)
    for (int bit = 0; bit < 8; bit++) {
      memcpy(bytes, bundle.data, bundle.len);
      bytes[at] ^= (uint8_t)(1u << bit);
      sign(bytes, bundle.len);
      Error e = {0};
      Plan *p = plan_read(bytes, bundle.len, "damaged", &e);
      if (!p) expect_refused((int)at, &e), refused++;
      if (p) use_plan((int)at, p, &options);
      plan_free(p);
    }
  EXPECT(refused > 100, "only %zu are refused", refused);
  free(bytes);
  buffer_done(&bundle);
}

TEST_MAIN()
