/* The harness of `nuwa bench --device cuda` on the emulated driver, in tiny sizes: that every row comes out and what is
 * said without a GPU.  Figures of an emulator say nothing and are not looked at. */
#include "bench/gpu_bench.h"
#include "tests/test.h"

static bool has_nvrtc(Error *err) {
  Nvrtc *n = nvrtc_open(NULL, err);
  nvrtc_close(n);
  return n != NULL;
}

TEST("without a GPU the report says so, and that is no error") {
  BenchOptions o = {.repeat = 1, .threads = 1, .device = PLAN_CUDA, .cuda.driver = "none/libcuda.so"};
  BenchReport r = {0};
  Error err = {0};
  REQUIRE(gpu_bench(&o, NULL, "bench", &r, &err), "%s", err.text);
  EXPECT_HAS(r.markdown.data, "There is no GPU here");
  EXPECT_HAS(r.markdown.data, "none/libcuda.so");
  EXPECT_TEXT(r.json.data, "{\"rows\": []}\n");
  buffer_done(&r.markdown);
  buffer_done(&r.json);
}

TEST("on a device roofs, products and attention are measured, and the report marks tiny sizes") {
  BenchOptions o = {.repeat = 1, .threads = 1, .device = PLAN_CUDA, .cuda.driver = EMUCUDA_PATH, .tiny = true};
  BenchReport r = {0};
  Error err = {0};
  if (!has_nvrtc(&err)) SKIP("NVRTC is not installed");
  REQUIRE(gpu_bench(&o, NULL, "bench", &r, &err), "%s", err.text);
  static const char *const part[] = {"f32 FMA, the device", "bf16 products", "gpu.matmul.4096", "gpu.matmul.rows.1",
                                     "gpu.attend.3x3x3.forward", "gpu.attend.full.backward", "the figures say nothing"};
  for (int i = 0; i < COUNT_OF(part); i++) EXPECT_HAS(r.markdown.data, part[i]);
  EXPECT(!strstr(r.json.data, "inf") && !strstr(r.json.data, "nan"), "%s", r.json.data);
  EXPECT_HAS(r.json.data, "\"device\": ");
  buffer_done(&r.markdown);
  buffer_done(&r.json);
}

TEST("every roof of a device is measured by two kernels") {
  enum { SIZES = 2 };
  static const size_t bytes[SIZES] = {4096, 16384};
  NuwaCuda driver = {.driver = EMUCUDA_PATH};
  GpuRoofOptions o = {.driver = driver, .bytes = bytes, .n_sizes = SIZES, .repeat = 1, .tiny = true};
  GpuRoofs r = {0};
  Error err = {0};
  Nvrtc *nvrtc = nvrtc_open(NULL, &err);
  if (!nvrtc) SKIP("NVRTC is not installed");
  o.nvrtc = nvrtc;
  REQUIRE(gpu_find(&driver, &o.device, &err) && gpu_roofs_measure(&o, &r, &err), "%s", err.text);
  EXPECT(r.fma > 0 && r.fma_check > 0 && r.tensor > 0 && r.tensor_check > 0, "%g %g %g %g", r.fma, r.fma_check, r.tensor,
         r.tensor_check);
  for (int i = 0; i < SIZES; i++)
    EXPECT(r.read[i] > 0 && r.read_check[i] > 0 && r.copy[i] > 0 && r.copy_check[i] > 0, "%zu bytes: %g %g %g %g", bytes[i],
           r.read[i], r.read_check[i], r.copy[i], r.copy_check[i]);
  nvrtc_close(nvrtc);
}

TEST_MAIN()
