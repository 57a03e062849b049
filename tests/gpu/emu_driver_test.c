/* The driver API around the interpreter: handles, memory, limits, errors.  Needs no NVRTC. */
#include "tests/gpu/emu_test.h"

static const char ptx[] = ".version 8.0\n.target sm_75\n.address_size 64\n"
                          ".global .align 4 .u32 counter = 7;\n"
                          ".extern .shared .align 16 .b8 room[];\n"
                          ".visible .entry k(.param .u64 k_param_0, .param .u32 k_param_1)\n.maxntid 64, 1, 1\n{\n"
                          ".reg .b64 %rd<4>;\n.reg .b32 %r<4>;\n.shared .align 4 .b8 s[256];\n"
                          "ld.param.u64 %rd1, [k_param_0];\nld.param.u32 %r1, [k_param_1];\n"
                          "mov.u32 %r2, %tid.x;\nadd.s32 %r3, %r1, %r2;\nmul.wide.u32 %rd2, %r2, 4;\n"
                          "add.s64 %rd3, %rd1, %rd2;\nst.global.u32 [%rd3], %r3;\nret;\n}\n";

TEST("nothing works before cuInit and without a context") {
  int count;
  CUdeviceptr p;
  CUcontext c;
  emu_reset();
  EXPECT(cuDeviceGetCount(&count) == 3, "%d", count);
  EXPECT(cuMemAlloc_v2(&p, 4) == 3, "it allocated");
  cuInit(0);
  EXPECT(cuMemAlloc_v2(&p, 4) == 201, "it allocated");
  EXPECT(cuDevicePrimaryCtxRetain(&c, 1) == 101, "a second device");
  EXPECT_RUNS(cuDevicePrimaryCtxRetain(&c, 0));
  EXPECT_RUNS(cuCtxSetCurrent(c));
  EXPECT_RUNS(cuMemAlloc_v2(&p, 4));
}

TEST("the device has the capability that was chosen") {
  int major, minor, shared;
  static const struct { int capability, shared; } cases[] = {{75, 65536}, {80, 166912}, {90, 232448}};
  for (int k = 0; k < 3; k++) {
    device_fresh();
    EXPECT(emu_set_capability(cases[k].capability), "refused");
    cuDeviceGetAttribute(&major, 75, 0);
    cuDeviceGetAttribute(&minor, 76, 0);
    cuDeviceGetAttribute(&shared, 97, 0);
    EXPECT(major * 10 + minor == cases[k].capability && shared == cases[k].shared, "%d.%d, %d", major, minor, shared);
  }
  EXPECT(!emu_set_capability(42), "accepted");
}

TEST("hand-written PTX runs, and functions and variables are found by name") {
  CUmodule m;
  CUfunction f;
  CUdeviceptr g;
  size_t bytes;
  int value, got[64], add = 100;
  device_fresh();
  emu_set_capability(75);
  REQUIRE_RUNS(cuModuleLoadData(&m, ptx));
  REQUIRE_RUNS(cuModuleGetFunction(&f, m, "k"));
  EXPECT(cuModuleGetFunction(&f, m, "kk") == 500, "found");
  EXPECT_RUNS(cuModuleGetGlobal_v2(&g, &bytes, m, "counter"));
  cuMemcpyDtoH_v2(&value, g, 4);
  EXPECT(bytes == 4 && value == 7, "%zu bytes, %d", bytes, value);
  CUdeviceptr d = device_array(NULL, sizeof got);
  REQUIRE_RUNS(launch(f, 1, 64, 0, (void *[]){&d, &add}));
  cuMemcpyDtoH_v2(got, d, sizeof got);
  for (int k = 0; k < 64; k++) EXPECT(got[k] == 100 + k, "%d at %d", got[k], k);
  EXPECT_RUNS(cuModuleUnload(m));
  EXPECT(cuModuleUnload(m) == 400, "unloaded twice");
  EXPECT(launch(f, 1, 64, 0, (void *[]){&d, &add}) == 400, "launched after the unload");
}

/* Odd lanes take a detour whose code lies behind the join, as compilers place what they think is rare. */
static const char detour[] =
    ".version 8.0\n.target sm_80\n.address_size 64\n"
    ".visible .entry k(.param .u64 k_param_0)\n{\n"
    ".reg .b64 %rd<4>;\n.reg .b32 %r<8>;\n.reg .pred %p<2>;\n"
    "ld.param.u64 %rd1, [k_param_0];\nmov.u32 %r1, %tid.x;\nmov.u32 %r3, %r1;\n"
    "and.b32 %r2, %r1, 1;\nsetp.eq.s32 %p1, %r2, 1;\n@%p1 bra RARE;\n"
    "JOIN:\nshfl.sync.bfly.b32 %r4, %r3, 1, 31, -1;\nbar.sync 0;\n"
    "mul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, %rd2;\nst.global.u32 [%rd3], %r4;\nret;\n"
    "RARE:\nadd.s32 %r3, %r3, 100;\nbra JOIN;\n}\n";

TEST("lanes meet again at a join that lies before one of its branches") {
  int got[64];
  device_fresh();
  CUfunction f = kernel_of_ptx(detour, "k");
  REQUIRE(f, "%s", emu_last_error());
  CUdeviceptr d = device_array(NULL, sizeof got);
  REQUIRE_RUNS(launch(f, 1, 64, 0, (void *[]){&d}));
  cuMemcpyDtoH_v2(got, d, sizeof got);
  for (int k = 0; k < 64; k++) EXPECT(got[k] == (k ^ 1) + (k & 1 ? 0 : 100), "%d at %d", got[k], k);
}

/* What NVRTC seldom or never emits.  Each thread stores 4 words at k_param_0. */
static const char rare[] = ".version 8.0\n.target sm_80\n.address_size 64\n"
                           ".visible .entry k(.param .u64 k_param_0)\n{\n"
                           ".reg .b64 %rd<4>;\n.reg .b32 %r<16>;\n.reg .pred %p<4>;\n"
                           "ld.param.u64 %rd1, [k_param_0];\nmov.u32 %r1, %tid.x;\nand.b32 %r2, %r1, 3;\n"
                           "mov.u32 %r3, 0;\n"
                           "TABLE: .branchtargets A, B, C, B;\nbrx.idx %r2, TABLE;\n"
                           "A: mov.u32 %r3, 10;\nbra.uni END;\nB: mov.u32 %r3, 20;\nbra.uni END;\n"
                           "C: mov.u32 %r3, 30;\n"
                           "END:\n{ .reg .b32 %r3;\nmov.b32 %r3, 0x12345678;\n"   /* a name of the inner scope */
                           "lop3.b32 %r4, %r3, %r1, 0xff, 0x96;\nslct.b32.s32 %r5, 7, 8, -1;\n}\n"
                           "setp.lt.u32 %p1, %r1, 16;\nsetp.gt.and.s32 %p2|%p3, %r1, 8, !%p1;\n"
                           "selp.b32 %r6, 1, 0, %p2;\nselp.b32 %r7, 2, 0, %p3;\nadd.s32 %r6, %r6, %r7;\n"
                           "barrier.sync 1;\nbar.red.popc.u32 %r8, 0, !%p1;\n"
                           "mad.wide.u32 %rd2, %r1, 16, %rd1;\nadd.s32 %r5, %r5, %r8;\n"
                           "st.global.v4.u32 [%rd2], {%r3, %r4, %r5, %r6};\nret;\n}\n";

TEST("indirect branches, inner scopes, three-input logic and predicates of two outcomes") {
  unsigned got[40][4];
  device_fresh();
  CUfunction f = kernel_of_ptx(rare, "k");
  REQUIRE(f, "%s", emu_last_error());
  CUdeviceptr d = device_array(NULL, sizeof got);
  REQUIRE_RUNS(launch(f, 1, 40, 0, (void *[]){&d}));
  cuMemcpyDtoH_v2(got, d, sizeof got);
  static const unsigned way[4] = {10, 20, 30, 20};
  for (unsigned k = 0; k < 40; k++) {
    EXPECT(got[k][0] == way[k & 3], "%u at %u", got[k][0], k);
    EXPECT(got[k][1] == (0x12345678 ^ k ^ 0xff), "%#x at %u", got[k][1], k);
    EXPECT(got[k][2] == 8 + 24, "%u at %u", got[k][2], k);
    EXPECT(got[k][3] == (k < 16 ? 0 : 1), "%u at %u", got[k][3], k);
  }
}

TEST("launches beyond the limits are refused and leave the device alone") {
  device_fresh();
  CUfunction f = kernel_of_ptx(ptx, "k");
  CUdeviceptr d = device_array(NULL, 4096);
  int add = 0, value;
  void *params[] = {&d, &add};
  EXPECT(launch(f, 1, 65, 0, params) == 701, "%s", emu_last_error());
  EXPECT_HAS(emu_last_error(), "65 threads in a block, compiled for at most 64");
  EXPECT(launch(f, 0, 32, 0, params) == 1, "%s", emu_last_error());
  EXPECT(launch(f, 1, 32, 49152, params) == 1, "%s", emu_last_error());
  EXPECT(cuFuncSetAttribute(f, 8, 200000) == 1, "%s", emu_last_error());
  EXPECT_RUNS(cuFuncSetAttribute(f, 8, 100000));
  EXPECT_RUNS(launch(f, 1, 32, 100000, params));
  EXPECT_RUNS(cuFuncGetAttribute(&value, 1, f));
  EXPECT(value == 256, "%d bytes of static shared memory", value);
}

TEST("memory is counted, runs out, and copies stay inside allocations") {
  size_t free_bytes, total;
  CUdeviceptr a, b;
  char text[64] = "0123456789", back[64] = "";
  device_fresh();
  emu_set_memory(1 << 20);
  EXPECT_RUNS(cuMemAlloc_v2(&a, 1000000));
  EXPECT(cuMemAlloc_v2(&b, 100000) == 2, "it allocated");
  EXPECT_HAS(emu_last_error(), "cuMemAlloc of 100000 bytes, 48576 of 1048576 are free");
  cuMemGetInfo_v2(&free_bytes, &total);
  EXPECT(free_bytes == 48576 && total == 1 << 20, "%zu of %zu", free_bytes, total);
  EXPECT_RUNS(cuMemAlloc_v2(&b, 64));
  EXPECT_RUNS(cuMemcpyHtoD_v2(b, text, 11));
  EXPECT_RUNS(cuMemcpyDtoD_v2(a + 999989, b, 11));
  EXPECT(cuMemcpyDtoD_v2(a + 999990, b, 11) == 1, "it copied");
  EXPECT(cuMemcpyHtoD_v2(b + 60, text, 5) == 1, "it copied");
  EXPECT_RUNS(cuMemcpyDtoH_v2(back, a + 999989, 11));
  EXPECT_TEXT(back, "0123456789");
  EXPECT_RUNS(cuMemFree_v2(a));
  EXPECT(cuMemFree_v2(a) == 1, "freed twice");
  EXPECT(cuMemFree_v2(b + 4) == 1, "freed from the middle");
}

TEST("streams and events are told from rubbish") {
  CUstream s;
  CUevent e, e2;
  float ms = -1;
  device_fresh();
  EXPECT_RUNS(cuStreamCreate(&s, 1));
  EXPECT_RUNS(cuEventCreate(&e, 0));
  EXPECT_RUNS(cuEventCreate(&e2, 0));
  EXPECT_RUNS(cuEventRecord(e, s));
  EXPECT(cuEventElapsedTime(&ms, e, e2) == 400, "an event that was not recorded");
  EXPECT_RUNS(cuEventRecord(e2, NULL));
  EXPECT_RUNS(cuStreamWaitEvent(s, e, 0));
  EXPECT_RUNS(cuEventSynchronize(e));
  EXPECT(cuEventElapsedTime(&ms, e, e2) == 600, "the times of events that have not come");
  EXPECT_RUNS(cuCtxSynchronize());
  EXPECT_RUNS(cuEventElapsedTime(&ms, e, e2));
  EXPECT(ms >= 0, "%g", ms);
  EXPECT(cuStreamSynchronize((CUstream)e) == 400, "an event is no stream");
  EXPECT_RUNS(cuStreamDestroy_v2(s));
  EXPECT(cuStreamSynchronize(s) == 400, "destroyed");
}

TEST("error codes have the driver's names") {
  const char *name, *text;
  EXPECT_RUNS(cuGetErrorName(218, &name));
  EXPECT_TEXT(name, "CUDA_ERROR_INVALID_PTX");
  EXPECT_RUNS(cuGetErrorString(2, &text));
  EXPECT_TEXT(text, "out of memory");
  EXPECT(cuGetErrorName(12345, &name) == 1 && !name, "a name for 12345");
}

TEST_MAIN()
