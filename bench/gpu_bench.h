/* Measuring on a GPU: `nuwa bench --device cuda`. */
#ifndef NUWA_BENCH_GPU_BENCH_H
#define NUWA_BENCH_GPU_BENCH_H

#include "bench/bench.h"

typedef struct GpuDevice {
  char name[128];
  int capability, multiprocessors;
} GpuDevice;
/* The device that the options name; false with the reason when there is none. */
bool gpu_find(const NuwaCuda *o, GpuDevice *out, Error *err);

typedef struct GpuRoofOptions {
  NuwaCuda driver;
  GpuDevice device;
  const Nvrtc *nvrtc;
  const size_t *bytes;      /* footprints [n_sizes] */
  int n_sizes, repeat;
  bool tiny;                /* a test of the harness: the least work */
} GpuRoofOptions;
typedef struct GpuRoofs {
  double read[ROOF_SIZES], copy[ROOF_SIZES];   /* bytes a second; copy: read and written */
  double fma, tensor;       /* operations a second: f32 FMA (two each), bf16 products */
  double read_check[ROOF_SIZES], copy_check[ROOF_SIZES], fma_check, tensor_check;   /* the same by the other kernels */
} GpuRoofs;
/* Raises what stands in r to what is measured. */
bool gpu_roofs_measure(const GpuRoofOptions *o, GpuRoofs *r, Error *err);

/* All rows of a GPU; without one the report says so, and that is no error.  nvrtc: path or NULL. */
bool gpu_bench(const BenchOptions *o, const char *nvrtc, const char *command, BenchReport *out, Error *err);

#endif
