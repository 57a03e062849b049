/* What a GPU can do at most: reading and copying at several footprints, f32 FMA, and products of bf16 on tensor
 * cores. Decides the hand-written kernels that measure it, and talks to the driver alone: it shares nothing with
 * sessions.
 *
 * As on the CPU every roof is measured twice, by kernels that have nothing in common but what they measure; a copy by the
 * driver's own. */
#include "bench/gpu_bench.h"

#include <string.h>

#include "codegen/emit/nvrtc.h"
#include "runtime/cuda/api.h"

static const char source[] =
    "typedef long long i64;\n"
    "#define PLACE (blockIdx.x * (i64)blockDim.x + threadIdx.x)\n"
    "extern \"C\" __global__ void read4(float *sink, const float4 *from, i64 n, int steps) {\n"
    "  float4 s = {0.0f, 0.0f, 0.0f, 0.0f};\n"
    "  for (i64 i = PLACE; i < n; i += (i64)gridDim.x * blockDim.x) {\n"
    "    float4 x = from[i];\n"
    "    s.x += x.x, s.y += x.y, s.z += x.z, s.w += x.w;\n"
    "  }\n"
    "  sink[PLACE] = s.x + s.y + s.z + s.w;\n"
    "}\n"
    "extern \"C\" __global__ void peak2(float *sink, const float2 *from, i64 n, int steps) {\n"
    "  const float2 *half = from + n / 2;\n"
    "  float s = 0.0f, t = 0.0f;\n"
    "  for (i64 i = PLACE; i < n / 2; i += (i64)gridDim.x * blockDim.x) {\n"
    "    float2 x = from[i], y = half[i];\n"
    "    s = fmaxf(s, fmaxf(x.x, x.y)), t = fmaxf(t, fmaxf(y.x, y.y));\n"
    "  }\n"
    "  sink[PLACE] = fmaxf(s, t);\n"
    "}\n"
    "extern \"C\" __global__ void copy4(float4 *to, const float4 *from, i64 n, int steps) {\n"
    "  for (i64 i = PLACE; i < n; i += (i64)gridDim.x * blockDim.x) to[i] = from[i];\n"
    "}\n"
    "extern \"C\" __global__ void fma8(float *sink, const float4 *from, i64 n, int steps) {\n"
    "  float a[8], x = 1.0f + 1e-6f * threadIdx.x, y = 1e-6f * blockIdx.x;\n"
    "#pragma unroll\n"
    "  for (int k = 0; k < 8; k++) a[k] = k;\n"
    "  for (int s = 0; s < steps; s++) {\n"
    "#pragma unroll\n"
    "    for (int k = 0; k < 8; k++) a[k] = __fmaf_rn(a[k], x, y);\n"
    "  }\n"
    "  sink[PLACE] = a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];\n"
    "}\n"
    "/* A tile of a product: 8 x 4 sums, columns from shared memory. */\n"
    "extern \"C\" __global__ void tile8x4(float *sink, const float4 *from, i64 n, int steps) {\n"
    "  __shared__ float4 b[16];\n"
    "  float s[8][4], a[8];\n"
    "  if (threadIdx.x < 16) b[threadIdx.x] = from[threadIdx.x];\n"
    "  __syncthreads();\n"
    "#pragma unroll\n"
    "  for (int k = 0; k < 8; k++) a[k] = 1e-3f * (threadIdx.x + k), s[k][0] = s[k][1] = s[k][2] = s[k][3] = k;\n"
    "  for (int t = 0; t < steps; t++) {\n"
    "    float4 y = b[t & 15];\n"
    "#pragma unroll\n"
    "    for (int k = 0; k < 8; k++) {\n"
    "      s[k][0] = __fmaf_rn(a[k], y.x, s[k][0]), s[k][1] = __fmaf_rn(a[k], y.y, s[k][1]);\n"
    "      s[k][2] = __fmaf_rn(a[k], y.z, s[k][2]), s[k][3] = __fmaf_rn(a[k], y.w, s[k][3]);\n"
    "    }\n"
    "  }\n"
    "  float sum = 0.0f;\n"
    "#pragma unroll\n"
    "  for (int k = 0; k < 8; k++) sum += s[k][0] + s[k][1] + s[k][2] + s[k][3];\n"
    "  sink[PLACE] = sum;\n"
    "}\n"
    "#if __CUDA_ARCH__ >= 800\n"
    "/* A tile of a product: 2 x 4 results, b from shared memory. */\n"
    "extern \"C\" __global__ void mma2x4(float *sink, const float4 *from, i64 n, int steps) {\n"
    "  __shared__ uint2 b[4][32];\n"
    "  float c[2][4][4];\n"
    "  unsigned a[2] = {0x3f803f80u + threadIdx.x, 0x3f003f00u + threadIdx.x};\n"
    "  if (threadIdx.x < 128) b[threadIdx.x / 32][threadIdx.x % 32] = make_uint2(0x3c003c00u + threadIdx.x, 0x3c003c00u);\n"
    "  __syncthreads();\n"
    "#pragma unroll\n"
    "  for (int k = 0; k < 8; k++) c[k / 4][k % 4][0] = c[k / 4][k % 4][1] = c[k / 4][k % 4][2] = c[k / 4][k % 4][3] = k;\n"
    "  for (int s = 0; s < steps; s++) {\n"
    "#pragma unroll\n"
    "    for (int j = 0; j < 4; j++) {\n"
    "      uint2 y = b[(s + j) & 3][threadIdx.x % 32];\n"
    "#pragma unroll\n"
    "      for (int i = 0; i < 2; i++)\n"
    "        asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},\"\n"
    "                     \"{%4,%4,%4,%4},{%5,%6},{%0,%1,%2,%3};\"\n"
    "                     : \"+f\"(c[i][j][0]), \"+f\"(c[i][j][1]), \"+f\"(c[i][j][2]), \"+f\"(c[i][j][3])\n"
    "                     : \"r\"(a[i]), \"r\"(y.x), \"r\"(y.y));\n"
    "    }\n"
    "  }\n"
    "  float t = 0.0f;\n"
    "#pragma unroll\n"
    "  for (int k = 0; k < 8; k++) t += c[k / 4][k % 4][0] + c[k / 4][k % 4][1] + c[k / 4][k % 4][2] + c[k / 4][k % 4][3];\n"
    "  sink[PLACE] = t;\n"
    "}\n"
    "extern \"C\" __global__ void mma4(float *sink, const float4 *from, i64 n, int steps) {\n"
    "  float c[4][4];\n"
    "  unsigned a = 0x3f803f80u + threadIdx.x, b = 0x3c003c00u + threadIdx.x;\n"
    "#pragma unroll\n"
    "  for (int k = 0; k < 4; k++) c[k][0] = c[k][1] = c[k][2] = c[k][3] = k;\n"
    "  for (int s = 0; s < steps; s++) {\n"
    "#pragma unroll\n"
    "    for (int k = 0; k < 4; k++)\n"
    "      asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},\"\n"
    "                   \"{%4,%4,%4,%4},{%5,%5},\"\n"
    "                   \"{%0,%1,%2,%3};\" : \"+f\"(c[k][0]), \"+f\"(c[k][1]), \"+f\"(c[k][2]), \"+f\"(c[k][3])\n"
    "                   : \"r\"(a), \"r\"(b));\n"
    "  }\n"
    "  float t = 0.0f;\n"
    "#pragma unroll\n"
    "  for (int k = 0; k < 4; k++) t += c[k][0] + c[k][1] + c[k][2] + c[k][3];\n"
    "  sink[PLACE] = t;\n"
    "}\n"
    "#endif\n";

enum { THREADS = 256, CHAINS = 8, TILE = 8 * 4, MMA_CHAINS = 4, MMA_TILE = 2 * 4, MMA_FLOPS = 2 * 16 * 8 * 16, WARP = 32, VECTOR = 16 };

typedef struct Probe {
  CudaApi api;
  int device, multiprocessors, capability;
  bool retained;
  CudaContext context;
  CudaModule module;
  CudaStream stream;
  CudaEvent begin, end;
  CudaAddress sink, from;
  int64_t blocks, steps;
  int repeat;
  Error *err;
} Probe;

#define TRY(p, name, arguments) CUDA_TRY(&(p)->api, (p)->err, name, arguments)

/* ---- is there a GPU? ---- */

static bool find_device(Probe *p, const NuwaCuda *o) {
  int n = 0;
  if (!cuda_api_open(&p->api, o->driver, p->err) || !TRY(p, cuInit, (0)) || !TRY(p, cuDeviceGetCount, (&n)))
    return false;
  if (o->ordinal >= n)
    return error_set(p->err, ERROR_DEVICE, "the driver knows %d devices, number %d is none", n, o->ordinal);
  return TRY(p, cuDeviceGet, (&p->device, o->ordinal));
}

bool gpu_find(const NuwaCuda *o, GpuDevice *out, Error *err) {
  Probe p = {.err = err};
  int major = 0, minor = 0;
  *out = (GpuDevice){0};
  bool ok = find_device(&p, o) && TRY(&p, cuDeviceGetName, (out->name, (int)sizeof out->name, p.device)) &&
            TRY(&p, cuDeviceGetAttribute, (&major, CUDA_CAPABILITY_MAJOR, p.device)) &&
            TRY(&p, cuDeviceGetAttribute, (&minor, CUDA_CAPABILITY_MINOR, p.device)) &&
            TRY(&p, cuDeviceGetAttribute, (&out->multiprocessors, CUDA_MULTIPROCESSORS, p.device));
  out->capability = 10 * major + minor;
  return ok;
}

/* ---- measuring ---- */

static bool load_module(Probe *p, const Nvrtc *nvrtc, int capability) {
  char arch[32];
  NvrtcResult r = {0};
  snprintf(arch, sizeof arch, "compute_%d", capability);
  bool ok = nvrtc_compile(nvrtc, source, arch, NULL, 0, &r);
  if (!ok)
    error_set(p->err, ERROR_DEVICE, "NVRTC does not compile the kernels of the roofs:\n%s", r.log ? r.log : "");
  ok = ok && TRY(p, cuModuleLoadDataEx, (&p->module, r.image, 0, NULL, NULL));
  nvrtc_result_done(&r);
  return ok;
}

static bool open_probe(Probe *p, const GpuRoofOptions *o, size_t bytes) {
  return find_device(p, &o->driver) && TRY(p, cuDevicePrimaryCtxRetain, (&p->context, p->device)) &&
         (p->retained = true) && TRY(p, cuCtxSetCurrent, (p->context)) &&
         load_module(p, o->nvrtc, o->device.capability) &&
         TRY(p, cuStreamCreate, (&p->stream, CUDA_STREAM_NON_BLOCKING)) && TRY(p, cuEventCreate, (&p->begin, 0)) &&
         TRY(p, cuEventCreate, (&p->end, 0)) && TRY(p, cuMemAlloc_v2, (&p->sink, bytes)) &&
         TRY(p, cuMemAlloc_v2, (&p->from, bytes)) && TRY(p, cuMemsetD8Async, (p->from, 0, bytes, p->stream)) &&
         TRY(p, cuMemsetD8Async, (p->sink, 0, bytes, p->stream)) && TRY(p, cuStreamSynchronize, (p->stream));
}

static void close_probe(Probe *p) {
  if (p->from) p->api.cuMemFree_v2(p->from);
  if (p->sink) p->api.cuMemFree_v2(p->sink);
  if (p->end) p->api.cuEventDestroy_v2(p->end);
  if (p->begin) p->api.cuEventDestroy_v2(p->begin);
  if (p->stream) p->api.cuStreamDestroy_v2(p->stream);
  if (p->module) p->api.cuModuleUnload(p->module);
  if (p->retained) p->api.cuDevicePrimaryCtxRelease_v2(p->device);
}

/* f NULL: the driver's copy of n bytes. */
static bool time_launch(Probe *p, CudaFunction f, int64_t n, int steps, double *out) {
  void *params[] = {&p->sink, &p->from, &n, &steps};
  float ms = 0.0f;
  bool ok = TRY(p, cuEventRecord, (p->begin, p->stream)) &&
            (f ? TRY(p, cuLaunchKernel, (f, (unsigned)p->blocks, 1, 1, THREADS, 1, 1, 0, p->stream, params, NULL))
               : TRY(p, cuMemcpyDtoDAsync_v2, (p->sink, p->from, (size_t)n, p->stream))) &&
            TRY(p, cuEventRecord, (p->end, p->stream)) && TRY(p, cuEventSynchronize, (p->end)) &&
            TRY(p, cuEventElapsedTime, (&ms, p->begin, p->end));
  *out = 1e-3 * (double)ms;
  return ok;
}

/* Raises *rate to work / the shortest time of a kernel, or of the driver's copy where that is NULL. */
static bool measure(Probe *p, const char *kernel, int64_t n, int steps, double work, double *rate) {
  CudaFunction f = NULL;
  if (kernel && !TRY(p, cuModuleGetFunction, (&f, p->module, kernel))) return false;
  for (int i = 0; i <= p->repeat; i++) {
    double s;
    if (!time_launch(p, f, n, steps, &s)) return false;
    if (i > 0 && s > 0.0 && work / s > *rate) *rate = work / s;   /* the first one warms up */
  }
  return true;
}

static bool measure_all(Probe *p, const GpuRoofOptions *o, GpuRoofs *r) {
  double threads = (double)p->blocks * THREADS, steps = (double)p->steps;
  for (int i = 0; i < o->n_sizes; i++) {
    double bytes = (double)o->bytes[i];
    int64_t vectors = (int64_t)o->bytes[i] / VECTOR;
    if (!measure(p, "read4", vectors, 0, bytes, &r->read[i]) ||
        !measure(p, "peak2", 2 * vectors, 0, bytes, &r->read_check[i]) ||
        !measure(p, "copy4", vectors / 2, 0, bytes, &r->copy[i]) ||
        !measure(p, NULL, (int64_t)o->bytes[i] / 2, 0, bytes, &r->copy_check[i])) return false;
  }
  double mma = MMA_FLOPS * steps * threads / WARP;
  return measure(p, "fma8", 0, (int)p->steps, 2.0 * CHAINS * steps * threads, &r->fma) &&
         measure(p, "tile8x4", 0, (int)p->steps, 2.0 * TILE * steps * threads, &r->fma_check) &&
         (o->device.capability < 80 || (measure(p, "mma4", 0, (int)p->steps, MMA_CHAINS * mma, &r->tensor) &&
                                        measure(p, "mma2x4", 0, (int)p->steps, MMA_TILE * mma, &r->tensor_check)));
}

bool gpu_roofs_measure(const GpuRoofOptions *o, GpuRoofs *r, Error *err) {
  Probe p = {.repeat = o->repeat, .err = err, .blocks = o->tiny ? 1 : 8 * (int64_t)o->device.multiprocessors,
             .steps = o->tiny ? 2 : 20000};
  size_t bytes = (size_t)p.blocks * THREADS * sizeof(float);
  for (int i = 0; i < o->n_sizes; i++)
    if (o->bytes[i] > bytes) bytes = o->bytes[i];
  bool ok = open_probe(&p, o, bytes) && measure_all(&p, o, r);
  close_probe(&p);
  return ok;
}
