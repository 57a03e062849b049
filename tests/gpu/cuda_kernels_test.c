/* Kernel IR as CUDA C: compiled by NVRTC, executed by the emulated driver, against the interpreter of kernels. */
#include "codegen/codegen.h"
#include "tests/gpu/emu_test.h"
#include "tests/unit/codegen/random_kernel.h"

/* The kernel's function, NULL after a message. */
static CUfunction compile_kernel(const Kernel *k) {
  static const char *const options[] = {"--ftz=true"};
  Buffer text = {0};
  NvrtcResult r;
  CUfunction f = NULL;
  cuda_print(k, &text);
  if (!nvrtc_compile(the_nvrtc, text.data, "compute_80", options, 1, &r)) fprintf(stderr, "%s\n%s\n", text.data, r.log);
  else if (!(f = kernel_of_ptx(r.image, k->name))) fprintf(stderr, "%s\n", emu_last_error());
  nvrtc_result_done(&r);
  buffer_done(&text);
  return f;
}

static CUresult run_on_device(const Kernel *k, CUfunction f, void **args, long long B, long long R) {
  CUdeviceptr device[MAX_ARGS];
  long long items = kir_item_count(k, B, R);
  void *param[MAX_ARGS + 3];
  for (int i = 0; i < k->n_args; i++) {
    device[i] = device_array(args[i], MAX_ELEMS * sizeof(float));
    param[i] = &device[i];
  }
  param[k->n_args] = &B;
  param[k->n_args + 1] = &R;
  param[k->n_args + 2] = &items;
  CudaShape shape = cuda_shape(k);
  CUresult code = launch(f, (unsigned)((items + shape.items - 1) / shape.items), (unsigned)shape.threads,
                         (unsigned)shape.shared_bytes, param);
  for (int i = 0; i < k->n_args; i++) {
    if (code == 0) cuMemcpyDtoH_v2(args[i], device[i], MAX_ELEMS * sizeof(float));
    cuMemFree_v2(device[i]);
  }
  return code;
}

static bool check_device(const Kernel *k, long long B, long long R) {
  static float got_data[MAX_ARGS][MAX_ELEMS], want_data[MAX_ARGS][MAX_ELEMS];
  void *got[MAX_ARGS], *want[MAX_ARGS];
  Error err;
  for (int i = 0; i < k->n_args; i++) {
    got[i] = got_data[i];
    want[i] = want_data[i];
    memset(got[i], 0, sizeof got_data[i]);
    fill_arg(k->buf[i].dtype, got[i], MAX_ELEMS);
    memcpy(want[i], got[i], sizeof got_data[i]);
  }
  CUfunction f = compile_kernel(k);
  EXPECT(f, "%s does not compile", k->name);
  if (!f) return false;
  EXPECT(kir_interpret(k, want, B, R, &err), "%s", err.text);
  CUresult code = run_on_device(k, f, got, B, R);
  EXPECT(code == 0, "%s", emu_last_error());
  return code == 0 && compare_args(k, got, want, "cuda") == 0;
}

TEST("softmax through shared memory is the interpreter's, to the bit") {
  NEED_NVRTC();
  Arena *a = arena_new();
  check_device(softmax_kernel(a, 37), 9, 0);
  check_device(softmax_kernel(a, 64), 16, 0);
  arena_free(a);
}

TEST("random kernels are the interpreter's, to the bit") {
  NEED_NVRTC();
  for (int seed = 0; seed < 40; seed++) {
    Arena *a = arena_new();
    bool ok = check_device(random_kernel(a, seed), 5, 0);
    arena_free(a);
    REQUIRE(ok, "seed %d", seed);
  }
}

TEST("bf16 copied by 4, 8 and 16 bytes a lane, loaded and stored by fours, is the interpreter's") {
  NEED_NVRTC();
  Arena *a = arena_new();
  for (int count = 2; count <= 8; count *= 2) check_device(halves_kernel(a, count), 1, 0);
  arena_free(a);
}

TEST("products of matrix tiles, of operands stored either way, are the interpreter's") {
  NEED_NVRTC();
  Arena *a = arena_new();
  for (int form = 0; form < 4; form++) check_device(tiles_kernel(a, (KLayout)(form / 2), (KLayout)(form % 2)), 1, 0);
  arena_free(a);
}

TEST("kernels join into one program") {
  NEED_NVRTC();
  Arena *a = arena_new();
  Kernel *one = random_kernel(a, 1), *two = random_kernel(a, 2);
  two->name = "other";
  Buffer text = {0};
  NvrtcResult r;
  cuda_print(one, &text);
  cuda_print(two, &text);
  cuda_print(softmax_kernel(a, 64), &text);
  EXPECT(nvrtc_compile(the_nvrtc, text.data, "sm_90", NULL, 0, &r), "%s", r.log);
  nvrtc_result_done(&r);
  buffer_done(&text);
  arena_free(a);
}

TEST("the text of a kernel can be read") {
  Arena *a = arena_new();
  Kernel *k = kir_new(a, "saxpy");
  int x = kir_arg(k, "x", DTYPE_BF16, false), y = kir_arg(k, "float", DTYPE_F32, true);
  kir_factor(k, dim_const(70), LANES);
  KInst *base = mul(k, kir_item(k), kir_i64(k, LANES)), *lane = kir_lane(k);
  KInst *mask = lt(k, add(k, kir_un(k, KOP_TO_I32, base), lane), kir_i32(k, 70));
  KInst *vx = kir_load(k, x, base, lane, mask), *vy = kir_load(k, y, base, lane, mask);
  kir_store(k, y, base, lane, fma_(k, kir_f32(k, 1.7f), vx, vy), mask);
  Buffer text = {0};
  cuda_print(k, &text);
  const char *body = strstr(text.data, "extern \"C\"");
  EXPECT_TEXT(body ? body : "",
              "extern \"C\" __global__ void __launch_bounds__(128) saxpy(const unsigned short *__restrict__ x_0, "
              "float *__restrict__ float_1, i64 B, i64 R, i64 items) {\n"
              "  const int lane = threadIdx.x & 15, group = threadIdx.x >> 4;\n"
              "  const unsigned half = 0xffffu << (threadIdx.x & 16);\n"
              "  const i64 item = (i64)blockIdx.x * 8 + group;\n"
              "  if (item < items) {\n"
              "    const i64 v0 = item * 16ll;\n"
              "    const bool v1 = (int)((unsigned)(int)v0 + (unsigned)lane) < 70;\n"
              "    const float v2 = v1 ? from_bf16(x_0[v0 + lane]) : 0.0f;\n"
              "    const float v3 = v1 ? float_1[v0 + lane] : 0.0f;\n"
              "    if (v1) float_1[v0 + lane] = __fmaf_rn(1.70000005f, v2, v3);\n"
              "  }\n"
              "}\n");
  buffer_done(&text);
  arena_free(a);
}

TEST_MAIN()
