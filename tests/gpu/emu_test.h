/* What the tests of the emulator share: a fresh device, CUDA C compiled and launched, arrays to and fro. */
#ifndef EMU_TEST_H
#define EMU_TEST_H

#include <math.h>
#include <stdlib.h>

#include "codegen/emit/nvrtc.h"
#include "tests/gpu/emucuda.h"
#include "tests/test.h"

static Nvrtc *the_nvrtc;

/* A device as after loading, its context current. */
static inline void device_fresh(void) {
  CUcontext c;
  emu_reset();
  cuInit(0);
  cuDevicePrimaryCtxRetain(&c, 0);
  cuCtxSetCurrent(c);
}

static inline bool have_nvrtc(void) {
  Error err;
  if (!the_nvrtc) the_nvrtc = nvrtc_open(NULL, &err);
  return the_nvrtc != NULL;
}
#define NEED_NVRTC()                                                                                   \
  do {                                                                                                 \
    if (!have_nvrtc()) SKIP("NVRTC is not installed");                                                 \
    device_fresh();                                                                                    \
  } while (0)

/* The kernel `name` of PTX text, or NULL with emu_last_error. */
static inline CUfunction kernel_of_ptx(const char *ptx, const char *name) {
  CUmodule m;
  CUfunction f;
  return cuModuleLoadData(&m, ptx) == 0 && cuModuleGetFunction(&f, m, name) == 0 ? f : NULL;
}

/* The kernel `k` of CUDA C for sm_80; prints why when there is none. */
static inline CUfunction kernel_of(const char *source) {
  NvrtcResult r;
  CUfunction f = NULL;
  if (!nvrtc_compile(the_nvrtc, source, "compute_80", NULL, 0, &r)) fprintf(stderr, "%s\n", r.log);
  else if (!(f = kernel_of_ptx(r.image, "k"))) fprintf(stderr, "%s\n", emu_last_error());
  nvrtc_result_done(&r);
  return f;
}

static inline CUdeviceptr device_array(const void *from, size_t bytes) {
  CUdeviceptr p = 0;
  cuMemAlloc_v2(&p, bytes);
  if (from) cuMemcpyHtoD_v2(p, from, bytes);
  return p;
}

/* Launches in one dimension and waits; the code of what went wrong first. */
static inline CUresult launch(CUfunction f, unsigned blocks, unsigned threads, unsigned shared, void **params) {
  CUresult code = cuLaunchKernel(f, blocks, 1, 1, threads, 1, 1, shared, NULL, params, NULL);
  return code ? code : cuCtxSynchronize();
}
#define EXPECT_RUNS(call) EXPECT((call) == 0, "%s", emu_last_error())
#define REQUIRE_RUNS(call) REQUIRE((call) == 0, "%s", emu_last_error())

/* Uniform in [-1, 1), the same on every run. */
static inline float random_unit(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (float)(int32_t)(*state >> 32) * 0x1p-31f;
}

static inline uint32_t bits_of(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

#endif
