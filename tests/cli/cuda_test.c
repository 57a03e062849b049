/* Commands with --device cuda: what they show without a GPU, and what they do on the emulated driver with the
 * cuBLASLt stand-in.  The figures of either are not looked at. */
#include "runtime/base/safetensors.h"
#include "runtime/bundle.h"
#include "tests/cli/commands.h"
#include "tests/nvrtc.h"

#define EMULATED " --cuda-driver " EMUCUDA " --cublaslt " EMUBLASLT " "
#define PRODUCTS "models/products.lua --fn layers --device cuda "

static int count(const char *text) {
  int n = 0;
  for (const char *at = output; (at = strstr(at, text)); at += strlen(text)) n++;
  return n;
}

/* ---- inspect ---- */

TEST("inspect --device cuda says of every kernel what it takes, moves and computes on every arch") {
  NEED_NVRTC();
  EXPECT_STATUS(0, "inspect " PRODUCTS, "# kernel 1: ");
  int kernels = count("# kernel ");
  EXPECT(kernels == 2, "%d kernels", kernels);
  EXPECT(count("launched by layers x") == kernels && count("a launch reads ") == kernels, "%s", output);
  EXPECT(count("  sm_80: ") == kernels && count("  sm_90: ") == kernels, "%s", output);
  EXPECT(count(" registers, no spills, ") == 2 * kernels && count(" bytes of shared memory; ") == 2 * kernels, "%s",
         output);
  EXPECT(count(" blocks of ") == 2 * kernels && count(" limited by ") == 2 * kernels, "%s", output);
  EXPECT_HAS(output, "2 launches are products of cuBLASLt");
  EXPECT_STATUS(0, "inspect " PRODUCTS "--products own --arch sm_86", "  sm_86: ");
  EXPECT(count("# kernel ") == 3 && count("  sm_") == 3 && !count("cuBLASLt"), "%s", output);
}

TEST("inspect --device cuda shows the source, and the kernel IR and PTX where asked") {
  NEED_NVRTC();
  EXPECT_STATUS(0, "inspect " PRODUCTS, "__global__");
  EXPECT(!count("kernel matmul_") && !count(".entry"), "%s", output);
  EXPECT_STATUS(0, "inspect " PRODUCTS "--kernels", "kernel matmul_");
  EXPECT_STATUS(0, "inspect " PRODUCTS "--asm", ".entry");
}

TEST("inspect --device cuda --json has the same as numbers") {
  NEED_NVRTC();
  EXPECT_STATUS(0, "inspect " PRODUCTS "--json --kernels", "[{\"name\": \"");
  EXPECT(count("\"arch\": \"sm_80\", \"registers\": ") == 2 && count("\"occupancy\": ") == 4, "%s", output);
  EXPECT(count("\"bytes_read\": {\"constant\": ") == 2 && count("\"source\": ") == 2, "%s", output);
}

TEST("inspect --list-products says of every product who computes it and why, without NVRTC or a GPU") {
  const char *list = "inspect " PRODUCTS "--list-products --nvrtc none/nvrtc.so";
  EXPECT_STATUS(0, list, "cuBLASLt, product 0: f32 C[6B,256] = f32 A[6B,64] B[64,256] + bias (");
  EXPECT_HAS(output, "cuBLASLt, product 1: f32 C[6B,64] = f32 A[6B,256] B[256,64] (");
  EXPECT_HAS(output, "f32 C[6B,32] = f32 A[6B,64] B[64,32], then normal_cdf mul (");
  EXPECT_HAS(output, "not the library's: what follows is more than a bias, and k too small");
  EXPECT_HAS(output, "without algorithms, which a GPU and its library choose: ");
  EXPECT_HAS(output, "products.lua:");
  EXPECT_STATUS(0, "inspect " PRODUCTS "--list-products --products own", "not the library's: --products own");
  EXPECT(!count("cuBLASLt, "), "%s", output);
  EXPECT_STATUS(0, "inspect " PRODUCTS "--list-products --json", "\"by\": \"own\", \"kernel\": \"matmul_");
  EXPECT(count("\"by\": \"cublaslt\", \"product\": ") == 2 &&
             count("\"m\": {\"constant\": 0, \"per_sample\": 6") == 3,
         "%s", output);
  EXPECT_STATUS(0, "inspect models/vq.lua --fn encode --device cuda --list-products", "conv2d f32[B,");
  EXPECT_HAS(output, "the library has no such product");
  EXPECT_STATUS(2, "inspect models/products.lua --fn layers --list-products", "is for --device cuda");
}

TEST("inspect --list-products shows algorithms and workspace of the GPU at hand; a driver that was named must work") {
  NEED_NVRTC();
  EXPECT_STATUS(0, "inspect " PRODUCTS "--list-products" EMULATED, " bytes of workspace");
  EXPECT(count("    cublaslt 130100 algo ") == 2, "%s", output);
  EXPECT_STATUS(0, "inspect " PRODUCTS "--list-products --json" EMULATED, "\"workspace_bytes\": ");
  EXPECT(count("\"algorithm\": \"cublaslt 130100 algo ") == 2, "%s", output);
  EXPECT_STATUS(1, "inspect " PRODUCTS "--list-products --cuda-driver none/cuda.so", "none/cuda.so");
}

/* ---- pins ---- */

/* x.safetensors, free.nuwa, pinned.nuwa. */
static bool compile_both(void) {
  enum { ELEMS = 2 * 6 * 64 };
  static float x[ELEMS];
  TensorView t = {.name = "x", .dtype = DTYPE_F32, .rank = 3, .dim = {2, 6, 64}, .data = x, .bytes = sizeof x};
  char path[100];
  Error err = {0};
  open_folder();
  snprintf(path, sizeof path, "%s/x.safetensors", folder);
  for (int i = 0; i < ELEMS; i++) x[i] = (float)(i * 37 % 101) / 101.0f - 0.5f;
  bool ok = safetensors_write(path, &t, 1, NULL, 0, &err) &&
            nuwa("compile models/products.lua -o free.nuwa --device cuda") == 0 &&
            nuwa("compile models/products.lua -o pinned.nuwa --device cuda --pin" EMULATED) == 0;
  EXPECT(ok, "%s", output);
  return ok;
}

static Plan *open_bundle(const char *name) {
  char path[100];
  Error err = {0};
  snprintf(path, sizeof path, "%s/%s", folder, name);
  Plan *p = bundle_open_plan(path, NULL, &err);
  EXPECT(p, "%s", err.text);
  return p;
}

TEST("a bundle compiled with --pin holds the algorithms that sessions there choose, and gives their bits") {
  NEED_NVRTC();
  REQUIRE(compile_both(), "");
  EXPECT_HAS(output, "2 products pinned on nuwa emulated GPU sm_80");
  Plan *p = open_bundle("pinned.nuwa"), *free_one = open_bundle("free.nuwa");
  REQUIRE(p && free_one, "");
  EXPECT(p->n_product == 2 && free_one->n_product == 2, "%d and %d products", p->n_product, free_one->n_product);
  for (int i = 0; i < p->n_product; i++) {
    EXPECT(strncmp(p->product[i].algorithm, "cublaslt 130100 algo ", 21) == 0, "\"%s\"", p->product[i].algorithm);
    EXPECT_TEXT(free_one->product[i].algorithm, "");
  }
  EXPECT_TEXT(plan_text(p, "pinned"), "nuwa emulated GPU sm_80");
  EXPECT(!plan_text(free_one, "pinned"), "a pin that nobody asked for");
  plan_free(p);
  plan_free(free_one);
  EXPECT_STATUS(0, "run pinned.nuwa --fn layers --in x.safetensors --seed 3 --out p.safetensors" EMULATED, "");
  EXPECT_STATUS(0, "run free.nuwa --fn layers --in x.safetensors --seed 3 --out f.safetensors" EMULATED, "");
  EXPECT(shell("cmp p.safetensors f.safetensors") == 0, "%s", output);
  EXPECT_STATUS(0, "inspect pinned.nuwa", "algorithm cublaslt 130100 algo ");
}

/* The pinned bundle with another algorithm of its last product, said to be pinned on another GPU. */
static bool write_other(const char *algorithm) {
  Plan *p = open_bundle("pinned.nuwa");
  Buffer bytes = {0};
  char path[100];
  Error err = {0};
  snprintf(path, sizeof path, "%s/other.nuwa", folder);
  bool ok = p != NULL;
  if (ok) p->product[1].algorithm = algorithm;
  for (int i = 0; ok && i < p->n_text; i++)
    if (strcmp(p->text[i].key, "pinned") == 0) p->text[i].value = "NVIDIA Other";
  ok = ok && plan_write(p, &bytes, &err);
  BundlePart part = {NUWA_PART_PLAN, BUNDLE_MODEL, (const uint8_t *)bytes.data, bytes.len};
  ok = ok && bundle_write(path, &part, 1, &err);
  EXPECT(ok, "%s", err.text);
  buffer_done(&bytes);
  plan_free(p);
  return ok;
}

TEST("a pin that does not fit is refused: the product, where it was pinned, where it is opened, and why") {
  static const struct { const char *algorithm, *why; } bad[] = {
      {"cublaslt 1 algo 4 tile 15 stages 8 swizzle 0 custom 0 inner 0 cluster 0", "chosen by cuBLASLt 1"},
      {"cublaslt 130100 algo 77 tile 15 stages 8 swizzle 0 custom 0 inner 0 cluster 0", "algo 77"},
      {"cublaslt 130100 algo 4 tile 23 stages 8 swizzle 0 custom 0 inner 0 cluster 0", "cublasLtMatmulAlgoCheck"},
      {"cublaslt 130100 algo 5 tile 18 stages 8 swizzle 0 custom 0 inner 0 cluster 0", "cublasLtMatmulAlgoCheck"},
      {"cublaslt 130100 algo 40 tile 15 stages 15 swizzle 0 custom 0 inner 0 cluster 0", "less than f32"}};
  NEED_NVRTC();
  REQUIRE(compile_both(), "");
  for (int i = 0; i < COUNT_OF(bad); i++) {
    REQUIRE(write_other(bad[i].algorithm), "");
    EXPECT_STATUS(
        1, "run other.nuwa --fn layers --in x.safetensors --seed 3 --out o.safetensors" EMULATED,
        "product 1 of this plan, whose algorithm was pinned on NVIDIA Other and does not fit nuwa emulated GPU");
    EXPECT_HAS(output, bad[i].why);
  }
}

TEST("--pin needs products by cuBLASLt and a GPU that works, and leaves no bundle without") {
  EXPECT_STATUS(2, "compile models/products.lua -o no.nuwa --pin", "--pin is for products by cuBLASLt");
  EXPECT_STATUS(2, "compile models/products.lua -o no.nuwa --device cuda --products own --pin",
                "--pin is for products");
  NEED_NVRTC();
  EXPECT_STATUS(1, "compile models/products.lua -o no.nuwa --device cuda --pin --cuda-driver none/cuda.so",
                "none/cuda.so");
  EXPECT_STATUS(
      1, "compile models/products.lua -o no.nuwa --device cuda --pin --cublaslt none/lt.so --cuda-driver " EMUCUDA,
      "none/lt.so");
  EXPECT(shell("! test -e no.nuwa") == 0, "it was written");
}

/* ---- bench ---- */

TEST("bench --device cuda without a GPU says so and succeeds") {
  EXPECT_STATUS(0, "bench --device cuda --cuda-driver none/cuda.so", "There is no GPU here, so nothing was measured");
  EXPECT_STATUS(2, "bench --tiny", "--tiny is for --device cuda");
  EXPECT_STATUS(2, "bench --products own", "--products is for --device cuda");
}

TEST("bench --device cuda measures by either products and in either precision") {
  NEED_NVRTC();
#define TINY "bench --device cuda --tiny --repeat 1 --filter gpu.matmul.4096 --json b.json --cuda-driver " EMUCUDA
  EXPECT_STATUS(0, TINY " --cublaslt " EMUBLASLT, "large products by cuBLASLt; f32.");
  EXPECT_HAS(output, "| `gpu.matmul.4096` | matrix product, f32 | [64,64] x [64,64] |");
  EXPECT(shell("grep -c '\"precision\": \"f32\", .*\"products\": \"cublaslt\"' b.json") == 0, "%s", output);
  EXPECT_STATUS(0, TINY " --products own --precision bf16", "large products by own kernels; bf16.");
  EXPECT_HAS(output, "| `gpu.matmul.4096` | matrix product, bf16 |");
  EXPECT(shell("grep -c '\"precision\": \"bf16\", .*\"products\": \"own\"' b.json") == 0, "%s", output);
  EXPECT_STATUS(1, TINY " --cublaslt none/lt.so", "none/lt.so");
  EXPECT_HAS(output, "--products own");
}

TEST("bench/gpu/run.sh without a GPU says so and succeeds; it refuses what it does not know") {
  open_folder();
  EXPECT(shell(GPU_RUN " --nuwa " NUWA " -- --cuda-driver none/cuda.so") == 0, "%s", output);
  EXPECT_HAS(output, "There is no GPU here, so nothing was measured");
  EXPECT(shell(GPU_RUN " --nuwa none/nuwa") == 1, "%s", output);
  EXPECT_HAS(output, "there is no none/nuwa");
  EXPECT(shell(GPU_RUN " --nuwa " NUWA " --only all") == 2, "%s", output);
  EXPECT(shell(GPU_RUN " --tiny") == 2, "%s", output);
}

TEST("bench/gpu/run.sh measures in both precisions, by the library and by own kernels, and leaves its files") {
  NEED_NVRTC();
  open_folder();
  EXPECT(shell(GPU_RUN " --nuwa " NUWA
                       " --python none --out g -- --tiny --repeat 1 --filter gpu.matmul.4096" EMULATED) == 0,
         "%s", output);
  EXPECT(count("| `gpu.matmul.4096` | matrix product, f32 |") == 2, "%s", output);
  EXPECT(count("| `gpu.matmul.4096` | matrix product, bf16 |") == 2, "%s", output);
  EXPECT(count("large products by cuBLASLt; ") == 2 && count("large products by own kernels; ") == 2, "%s", output);
  EXPECT_HAS(output, "PyTorch is not installed for none: no peers");
  EXPECT(shell("cd g && test -s f32.json && test -s bf16.md && test -s own-f32.json && test -s own-bf16.md") == 0,
         "");
}

TEST_MAIN()
