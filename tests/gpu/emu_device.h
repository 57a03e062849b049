/* A device with two kernels in PTX, two streams, two events and some memory: what tests of streams and graphs order. */
#ifndef EMU_DEVICE_H
#define EMU_DEVICE_H

#include "tests/gpu/emu_test.h"

/* fill(p, v): p[i] = v + i;  add(to, from, v): to[i] = from[i] + v.  Blocks of 64. */
static const char device_ptx[] = ".version 8.0\n.target sm_75\n.address_size 64\n"
                          ".visible .entry fill(.param .u64 fill_0, .param .u32 fill_1)\n{\n"
                          ".reg .b64 %rd<4>;\n.reg .b32 %r<8>;\n"
                          "ld.param.u64 %rd1, [fill_0];\nld.param.u32 %r1, [fill_1];\n"
                          "mov.u32 %r2, %tid.x;\nmov.u32 %r3, %ctaid.x;\nmad.lo.s32 %r4, %r3, 64, %r2;\n"
                          "add.s32 %r5, %r4, %r1;\nmul.wide.u32 %rd2, %r4, 4;\nadd.s64 %rd3, %rd1, %rd2;\n"
                          "st.global.u32 [%rd3], %r5;\nret;\n}\n"
                          ".visible .entry add(.param .u64 add_0, .param .u64 add_1, .param .u32 add_2)\n{\n"
                          ".reg .b64 %rd<8>;\n.reg .b32 %r<8>;\n"
                          "ld.param.u64 %rd1, [add_0];\nld.param.u64 %rd2, [add_1];\nld.param.u32 %r1, [add_2];\n"
                          "mov.u32 %r2, %tid.x;\nmov.u32 %r3, %ctaid.x;\nmad.lo.s32 %r4, %r3, 64, %r2;\n"
                          "mul.wide.u32 %rd3, %r4, 4;\nadd.s64 %rd4, %rd2, %rd3;\nadd.s64 %rd5, %rd1, %rd3;\n"
                          "ld.global.u32 %r5, [%rd4];\nadd.s32 %r6, %r5, %r1;\nst.global.u32 [%rd5], %r6;\nret;\n}\n";

typedef struct Device {
  int n;                  /* elements of x, y, z and pinned, i32; a multiple of 64 */
  CUmodule module;
  CUfunction fill, add;
  CUstream a, b;
  CUevent e, e2;
  CUdeviceptr x, y, z;    /* never written */
  int *pinned;
} Device;

static inline bool device_open(Device *v, uint64_t order, unsigned flags, int n) {
  size_t bytes = (size_t)n * sizeof *v->pinned;
  *v = (Device){.n = n};
  device_fresh();
  if (cuModuleLoadData(&v->module, device_ptx)) return false;
  cuModuleGetFunction(&v->fill, v->module, "fill");
  cuModuleGetFunction(&v->add, v->module, "add");
  cuStreamCreate(&v->a, flags);
  cuStreamCreate(&v->b, flags);
  cuEventCreate(&v->e, 2);
  cuEventCreate(&v->e2, 2);
  cuMemAlloc_v2(&v->x, bytes);
  cuMemAlloc_v2(&v->y, bytes);
  cuMemAlloc_v2(&v->z, bytes);
  emu_set_order(order);
  return cuMemAllocHost_v2((void **)&v->pinned, bytes) == 0;
}

static inline CUresult fill(Device *v, CUstream s, CUdeviceptr p, int value) {
  return cuLaunchKernel(v->fill, (unsigned)v->n / 64, 1, 1, 64, 1, 1, 0, s, (void *[]){&p, &value}, NULL);
}

static inline CUresult add(Device *v, CUstream s, CUdeviceptr to, CUdeviceptr from, int value) {
  return cuLaunchKernel(v->add, (unsigned)v->n / 64, 1, 1, 64, 1, 1, 0, s, (void *[]){&to, &from, &value}, NULL);
}

#endif
