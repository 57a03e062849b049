/* PTX with random edits on the emulated device: refused when it is loaded, or run until it ends, faults or reaches
 * the limit of steps. */
#include "tests/fuzz/fuzz.h"
#include "tests/gpu/emu_test.h"

static const char seed_ptx[] =
  ".version 8.0\n.target sm_80\n.address_size 64\n"
  ".visible .entry k(\n.param .u64 k_param_0,\n.param .u32 k_param_1\n)\n{\n"
  ".reg .pred %p<3>;\n.reg .f32 %f<6>;\n.reg .b32 %r<8>;\n.reg .b64 %rd<6>;\n"
  ".shared .align 4 .b8 s[256];\n"
  "ld.param.u64 %rd1, [k_param_0];\nld.param.u32 %r1, [k_param_1];\n"
  "cvta.to.global.u64 %rd2, %rd1;\nmov.u32 %r2, %tid.x;\nsetp.ge.s32 %p1, %r2, %r1;\n@%p1 bra $L_end;\n"
  "mul.wide.s32 %rd3, %r2, 4;\nadd.s64 %rd4, %rd2, %rd3;\nld.global.f32 %f1, [%rd4];\n"
  "fma.rn.f32 %f2, %f1, 0f3F000000, %f1;\nmov.u32 %r3, s;\nshl.b32 %r4, %r2, 2;\nadd.s32 %r5, %r3, %r4;\n"
  "st.shared.f32 [%r5], %f2;\nmov.u32 %r6, 0;\n"
  "$L_loop:\nld.shared.f32 %f3, [%r5];\nadd.rn.f32 %f4, %f3, 0f3F800000;\nst.shared.f32 [%r5], %f4;\n"
  "add.s32 %r6, %r6, 1;\nsetp.lt.s32 %p2, %r6, 4;\n@%p2 bra $L_loop;\n"
  "ld.shared.f32 %f5, [%r5];\nst.global.f32 [%rd4], %f5;\n$L_end:\nret;\n}\n";

static const char *const ptx_word[] = {
  "%r1", "%rd9", "%f99", "%p1", "@!%p2 ", ".f64", ".u8", "0x7fffffffffffffff", "-1", "99999999999999999999",
  "$L_loop",
  "$L_end:", ";", "{", "}", "[", "]", "bra ", "ret;\n", "exit;\n", "bar.sync 0;\n", "shfl.sync.bfly.b32",
  ".reg .b32 %q<2000000000>;\n",
  ".shared .align 4 .b8 big[4000000000];\n", "//", "/*", "\"", ".param", "call", ".func", "<", ">", ",", "0f",
  "\xff", "1",
};

/* An edit may give the kernel more or larger parameters: all of those it can declare are there. */
enum { MAX_PARAMS = 64 };

static void run_case(int i, const char *ptx, int *loaded, int *ended) {
  device_fresh();
  emu_set_step_limit(20000);
  float host[32];
  for (int k = 0; k < 32; k++) host[k] = (float)k;
  CUfunction k = kernel_of_ptx(ptx, "k");
  if (!k) {
    EXPECT(emu_last_error()[0], "case %d is refused without a reason:\n%s", i, ptx);
    return;
  }
  (*loaded)++;
  CUdeviceptr a = device_array(host, sizeof host);
  static uint64_t param[MAX_PARAMS][512];
  void *params[MAX_PARAMS];
  for (int j = 0; j < MAX_PARAMS; j++) params[j] = param[j], param[j][0] = j == 0 ? a : 32;
  CUresult code = launch(k, 1, 32, 0, params);
  EXPECT(code == 0 || emu_last_error()[0], "case %d fails without a reason:\n%s", i, ptx);
  *ended += code == 0;
}

TEST("the seed itself adds up") {
  float host[32];
  for (int k = 0; k < 32; k++) host[k] = (float)k;
  device_fresh();
  CUfunction k = kernel_of_ptx(seed_ptx, "k");
  REQUIRE(k, "%s", emu_last_error());
  CUdeviceptr a = device_array(host, sizeof host);
  int n = 20;
  REQUIRE_RUNS(launch(k, 1, 32, 0, (void *[]){&a, &n}));
  cuMemcpyDtoH_v2(host, a, sizeof host);
  for (int j = 0; j < 32; j++)
    EXPECT(host[j] == (j < 20 ? 1.5f * (float)j + 4 : (float)j), "element %d is %g", j, (double)host[j]);
}

TEST("edited PTX is refused with a reason, or runs and ends") {
  static char text[8192];
  int loaded = 0, ended = 0;
  for (int i = 0; i < 6000; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i * 31};
    strcpy(text, seed_ptx);
    size_t n = strlen(text);
    for (size_t edits = fuzz_below(&f, 3) + 1; edits > 0; edits--)
      n = fuzz_edit(&f, text, n, ptx_word, sizeof ptx_word / sizeof *ptx_word);
    run_case(i, text, &loaded, &ended);
  }
  EXPECT(loaded > 5 && ended > 0, "%d of the edited texts load, %d end well", loaded, ended);
  device_fresh();
}

TEST_MAIN()
