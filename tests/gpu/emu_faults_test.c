/* Seeded bugs: each must be caught, and named. */
#include "tests/gpu/emu_test.h"

/* Runs `source` with a float array of n ones and an output array of 1024; expects the failure. */
static void expect_fault(const char *source, unsigned threads, CUresult code, const char *text) {
  static float ones[256];
  for (int i = 0; i < 256; i++) ones[i] = 1;
  CUfunction f = kernel_of(source);
  REQUIRE(f, "no kernel");
  CUdeviceptr in = device_array(ones, sizeof ones), out = device_array(NULL, 4096);
  CUresult got = launch(f, 1, threads, 1024, (void *[]){&in, &out});
  EXPECT(got == code, "code %d for %d: %s", got, code, emu_last_error());
  EXPECT_HAS(emu_last_error(), text);
  EXPECT(cuMemFree_v2(in) == code, "the failure does not stay");
}

#define KERNEL "extern \"C\" __global__ void k(const float *in, float *out) { int i = threadIdx.x;\n"

TEST("a barrier dropped between writing and reading shared memory is a race") {
  NEED_NVRTC();
  expect_fault(KERNEL "__shared__ float s[64]; s[i] = in[i]; out[i] = i < 32 ? 0 : s[63 - i]; }", 64, 719,
               "shared memory race");
}

TEST("a barrier dropped at the end of a loop is a race of the next round's write with this one's read") {
  NEED_NVRTC();
  expect_fault(KERNEL "__shared__ float s[64]; float a = 0;\n"
               "for (int j = 0; j < 3; j++) { s[i] = in[i + j]; __syncthreads(); a += s[63 - i]; }\n"
               "out[i] = a; }", 64, 719, "no barrier lies between");
}

TEST("two warps that write the same place race") {
  NEED_NVRTC();
  expect_fault(KERNEL "__shared__ float s[64]; s[i & 31] = in[i]; __syncthreads(); out[i] = s[i & 31]; }", 64, 719,
               "was also written by thread");
}

TEST("lanes of one warp that exchange through shared memory need a warp barrier") {
  NEED_NVRTC();
  expect_fault(KERNEL "__shared__ volatile float s[32]; s[i] = in[i]; out[i] = s[31 - i]; }", 32, 719,
               "shared memory race");
  NEED_NVRTC();
  CUfunction f =
      kernel_of(KERNEL "__shared__ volatile float s[32]; s[i] = in[i]; __syncwarp(); out[i] = s[31 - i]; }");
  float in[32] = {0};
  CUdeviceptr a = device_array(in, sizeof in), b = device_array(NULL, sizeof in);
  EXPECT_RUNS(launch(f, 1, 32, 0, (void *[]){&a, &b}));
}

TEST("an index one too large is out of bounds, in global and in shared memory") {
  NEED_NVRTC();
  expect_fault(KERNEL "out[i] = in[i + 1 + 192]; }", 64, 700, "offset 1024 of the 1024 bytes");
  EXPECT_HAS(emu_last_error(), "thread (63,0,0)");
  NEED_NVRTC();
  expect_fault(KERNEL "extern __shared__ float s[]; s[i + 193] = in[i]; __syncthreads(); out[i] = s[i + 193]; }", 64,
               700, "out of bounds: 4 bytes at offset 1024 of 1024 bytes of shared memory");
}

TEST("a read below an array and through a freed pointer hit nothing") {
  NEED_NVRTC();
  expect_fault(KERNEL "out[i] = in[i - 1]; }", 32, 700, "offset -4 of the 1024 bytes");
  NEED_NVRTC();
  CUfunction f = kernel_of(KERNEL "out[i] = in[i]; }");
  CUdeviceptr a = device_array(NULL, 128), b = device_array(NULL, 128);
  cuMemsetD32_v2(a, 0, 32);
  cuMemFree_v2(a);
  EXPECT(launch(f, 1, 32, 0, (void *[]){&a, &b}) == 700, "it ran");
}

TEST("a read of memory never written is caught, in global and in shared memory") {
  NEED_NVRTC();
  expect_fault(KERNEL "out[i] = out[i + 32] + in[i]; }", 32, 719,
               "read of global memory never written: offset 128 of the 4096");
  NEED_NVRTC();
  expect_fault(KERNEL "__shared__ float s[64]; if (i < 63) s[i] = in[i]; __syncthreads(); out[i] = s[i]; }", 64, 719,
               "read of shared memory never written: offset 252");
}

TEST("a vector load may bring global memory never written, which may not be used") {
  NEED_NVRTC();
#define FOURTH(use)                                                                                    \
  KERNEL "out[4 * i] = in[i]; float a, b, c, d;\n"                                                     \
         "asm volatile(\"ld.global.v4.f32 {%0, %1, %2, %3}, [%4];\"\n"                                  \
         ": \"=f\"(a), \"=f\"(b), \"=f\"(c), \"=f\"(d) : \"l\"(out + 4 * i) : \"memory\"); out[4 * i + 3] = " use "; }"
  CUfunction f = kernel_of(FOURTH("a * 2"));
  float ones[32] = {0};
  CUdeviceptr in = device_array(ones, sizeof ones), out = device_array(NULL, 4096);
  EXPECT_RUNS(launch(f, 1, 32, 0, (void *[]){&in, &out}));
  NEED_NVRTC();
  expect_fault(FOURTH("a + d"), 32, 719, "read of global memory never written: offset 12 of the 4096");
}

TEST("shared memory is unwritten again in the next block") {
  NEED_NVRTC();
  CUfunction f =
      kernel_of(KERNEL "__shared__ float s[32]; if (blockIdx.x == 0) s[i] = in[i]; __syncwarp(); out[i] = s[i]; }");
  float in[32] = {0};
  CUdeviceptr a = device_array(in, sizeof in), b = device_array(NULL, sizeof in);
  EXPECT(launch(f, 2, 32, 0, (void *[]){&a, &b}) == 719, "it ran");
  EXPECT_HAS(emu_last_error(), "block (1,0,0)");
}

TEST("a vector access at an address that is no multiple of its size is misaligned") {
  NEED_NVRTC();
  expect_fault(KERNEL "float4 v = *(const float4 *)(in + 4 * i + 2); out[i] = v.x + v.w; }", 8, 716,
               "an access of 16 bytes needs a multiple of 16");
  EXPECT_HAS(emu_last_error(), "ld.global");
}

TEST("a shuffle that some lanes of its mask do not reach is caught") {
  NEED_NVRTC();
  expect_fault(KERNEL "float v = in[i]; if (i & 1) v = __shfl_xor_sync(~0u, v, 2); out[i] = v; }", 32, 719,
               "of the member mask 0xffffffff are not here");
}

TEST("a shuffle from a lane outside of its mask is caught") {
  NEED_NVRTC();
  expect_fault(KERNEL "float v = in[i]; if (i < 16) v = __shfl_sync(0xffff, v, i + 16); out[i] = v; }", 32, 719,
               "shuffle reads lane 16, which is not taking part");
}

TEST("a warp that exits leaves the others waiting at their barrier") {
  NEED_NVRTC();
  expect_fault(KERNEL "if (i >= 32) return; __syncthreads(); out[i] = in[i]; }", 64, 719,
               "deadlock: this barrier waits for thread 63, which has exited");
}

TEST("a barrier inside a branch that divides a warp is caught") {
  NEED_NVRTC();
  expect_fault(KERNEL "if (i & 1) { out[i] = in[i]; __syncthreads(); out[i + 1] = 0; } }", 64, 719, "deadlock");
  NEED_NVRTC();
  expect_fault(KERNEL "if (i & 1) { out[i] = in[i]; __syncthreads(); out[i] = 2; }\n"
               "else { out[i] = -in[i]; __syncthreads(); out[i] = 3; } }", 64, 719, "reach this barrier together");
}

TEST("a loop without end is stopped") {
  NEED_NVRTC();
  emu_set_step_limit(100000);
  expect_fault(KERNEL "volatile float *v = out; v[i] = 0; while (v[i] == 0) {} }", 32, 702,
               "no end after 100000 warp instructions");
}

TEST("a division by zero and a trap are caught") {
  NEED_NVRTC();
  expect_fault(KERNEL "out[i] = 100 / (i - 5) + in[i]; }", 32, 719, "integer division by zero");
  NEED_NVRTC();
  expect_fault(KERNEL "if (i == 7) __trap(); out[i] = in[i]; }", 32, 719, "a trap was executed");
}

TEST("the failure names kernel, instruction, line, block and thread") {
  NEED_NVRTC();
  expect_fault(KERNEL "out[i] = in[i * 100]; }", 32, 700, "kernel k: out of bounds");
  const char *text;
  EXPECT_HAS(emu_last_error(), "PTX line ");
  EXPECT_HAS(emu_last_error(), "block (0,0,0), thread (3,0,0), number 3");
  cuGetErrorString(700, &text);
  EXPECT_HAS(text, "an illegal memory access was encountered: kernel k");
}

/* ---- what is refused when a module is loaded ---- */
#define HEAD ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(\n.param .u64 k_param_0)\n{\n" \
             ".reg .b32 %r<4>;\n.reg .f32 %f<4>;\n.reg .pred %p<2>;\n"
#define TAIL "\nret;\n}\n"
#define PTX(body) HEAD body TAIL

static void expect_refused(const char *ptx, const char *text) {
  CUmodule m;
  device_fresh();
  CUresult got = cuModuleLoadData(&m, ptx);
  EXPECT(got == 218, "code %d", got);
  EXPECT_HAS(emu_last_error(), text);
}

TEST("an unknown operation, modifier, type or name is refused with its line and text") {
  expect_refused(PTX("frobnicate.b32 %r1, %r2;"),
                 "PTX line 10: opcode frobnicate is not supported: frobnicate.b32 %r1, %r2");
  expect_refused(PTX("\nadd.funny.s32 %r1, %r2, %r3;"),
                 "PTX line 11: modifier .funny is not supported: add.funny.s32");
  expect_refused(PTX("add.s8 %r1, %r2, %r3;"), "is not supported: add.s8");
  expect_refused(PTX("add.s32 %r1, %r2, %r9;"), "unknown name '%r9'");
  expect_refused(PTX("add.s32 %r1, %r2;"), "2 operands are too few");
  expect_refused(PTX("bra nowhere;"), "no label 'nowhere'");
  expect_refused(PTX("add.s32 %r1, %r2, %r3"), "PTX line 11: ';' expected, found 'ret'");
  expect_refused(PTX("bar.arrive 0;"), "this form of a barrier");
  expect_refused(PTX(".shared .b8 s[50000];"), "50000 bytes of static shared");
  expect_refused(PTX(".local .b8 s[9999999999];"), "is too long");
  expect_refused(PTX("{ "), "found the end of the text");
}

TEST("approximations are refused, as are quotients and roots without a rounding") {
  static const char *const refused[] = {
      "ex2.approx.f32 %f1, %f2;", "ex2.approx.ftz.f32 %f1, %f2;", "lg2.approx.f32 %f1, %f2;",
      "sin.approx.f32 %f1, %f2;", "cos.approx.ftz.f32 %f1, %f2;", "tanh.approx.f32 %f1, %f2;",
      "rcp.approx.f32 %f1, %f2;", "rcp.approx.ftz.f32 %f1, %f2;", "rsqrt.approx.f32 %f1, %f2;",
      "sqrt.approx.f32 %f1, %f2;", "div.approx.f32 %f1, %f2, %f3;", "div.full.ftz.f32 %f1, %f2, %f3;"};
  char ptx[600], want[200];
  for (int k = 0; k < (int)(sizeof refused / sizeof *refused); k++) {
    int n = (int)strlen(refused[k]) - 1;
    snprintf(ptx, sizeof ptx, "%s%s%s", HEAD, refused[k], TAIL);
    snprintf(want, sizeof want, "results would differ from device to device: %.*s", n, refused[k]);
    expect_refused(ptx, want);
    EXPECT_HAS(emu_last_error(), strstr(refused[k], "full") ? "PTX line 10: .full is refused" :
                                                              "PTX line 10: .approx is refused");
  }
  expect_refused(PTX("div.f32 %f1, %f2, %f3;"), "this without a rounding is not supported: div.f32");
  expect_refused(PTX("rcp.f32 %f1, %f2;"), "this without a rounding is not supported: rcp.f32");
  expect_refused(PTX("sqrt.ftz.f32 %f1, %f2;"), "this without a rounding is not supported: sqrt.ftz.f32");
}

TEST("a function that calls itself and one without a body are refused") {
  expect_refused(".version 8.0\n.target sm_80\n.address_size 64\n.func f()\n;\n.func f()\n{\ncall f;\nret;\n}\n"
                 ".visible .entry k()\n{\ncall f;\nret;\n}\n", "function f calls itself");
  expect_refused(".version 8.0\n.target sm_80\n.address_size 64\n.extern .func f()\n;\n"
                 ".visible .entry k()\n{\ncall f;\nret;\n}\n", "function f is not defined");
}

TEST("what is neither PTX nor machine code is no image") {
  CUmodule m;
  device_fresh();
  EXPECT(cuModuleLoadData(&m, "int main() {}") == 200, "it loaded");
  EXPECT_HAS(emu_last_error(), "this is not PTX");
}

TEST("machine code is refused so that the PTX is taken, as is PTX for a newer device") {
  CUmodule m;
  device_fresh();
  EXPECT(cuModuleLoadData(&m, "\177ELF\2\1\1") == 209, "%s", emu_last_error());
  EXPECT(cuModuleLoadData(&m, ".version 8.0\n.target sm_90\n.address_size 64\n") == 218, "%s", emu_last_error());
  emu_set_capability(90);
  EXPECT_RUNS(cuModuleLoadData(&m, ".version 8.0\n.target sm_90\n.address_size 64\n"));
}

TEST("a cubin that NVRTC made is refused with 209 too") {
  NEED_NVRTC();
  NvrtcResult r;
  CUmodule m;
  REQUIRE(nvrtc_compile(the_nvrtc, KERNEL "out[i] = in[i]; }", "sm_80", NULL, 0, &r), "%s", r.log);
  EXPECT(cuModuleLoadData(&m, r.image) == 209, "%s", emu_last_error());
  nvrtc_result_done(&r);
  EXPECT(!nvrtc_compile(the_nvrtc, "__global__ void k() { nonsense }", "compute_80", NULL, 0, &r), "it compiled");
  EXPECT_HAS(r.log, "nonsense");
  nvrtc_result_done(&r);
}

TEST("the log of a refused module goes to the caller's buffer") {
  CUmodule m;
  char log[200] = "";
  device_fresh();
  int option[] = {5, 6};
  void *value[] = {log, (void *)sizeof log};
  EXPECT(cuModuleLoadDataEx(&m, PTX("frobnicate;"), 2, option, value) == 218, "it loaded");
  EXPECT_HAS(log, "opcode frobnicate is not supported");
}

TEST("text cut anywhere is refused or understood, never worse") {
  if (!have_nvrtc()) SKIP("NVRTC is not installed");
  NvrtcResult r;
  REQUIRE(nvrtc_compile(
              the_nvrtc,
              "__device__ __noinline__ float g(float x) { return x * 2; }\n"
              "extern \"C\" __global__ void k(const float *a, float *b) { b[threadIdx.x] = g(a[threadIdx.x]); }",
              "compute_80", NULL, 0, &r),
          "no PTX");
  device_fresh();
  for (size_t cut = 0; cut < r.bytes; cut++) {
    char *part = strndup(r.image, cut);
    CUmodule m;
    if (cuModuleLoadData(&m, part) == 0) cuModuleUnload(m);
    free(part);
    for (int c = 0; c < 3 && cut + 1 < r.bytes; c++) {
      part = strdup(r.image);
      part[cut] = "{%;"[c];
      if (cuModuleLoadData(&m, part) == 0) cuModuleUnload(m);
      free(part);
    }
  }
  nvrtc_result_done(&r);
}

TEST_MAIN()
