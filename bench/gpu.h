/* Kernels of whole models on GPUs: which there are (gpu_kernels.c), what NVRTC makes of them and what that says of
 * their speed (gpu_table.c).  Nothing here needs a GPU. */
#ifndef NUWA_BENCH_GPU_H
#define NUWA_BENCH_GPU_H

#include "codegen/emit/cuda_facts.h"
#include "frontend/compile/compile.h"

enum { GPU_MAX_MODELS = 6, GPU_MAX_USES = 12 };

/* Launches of a kernel in one call of a function. */
typedef struct GpuUse {
  const char *function;
  int launches;
} GpuUse;

typedef struct GpuKernel {
  Kernel *kernel;
  const char *model;         /* the first that has it */
  const char *text;          /* as kernel IR, but for the name */
  GroupCost cost;            /* of a launch */
  GpuUse use[GPU_MAX_USES];
  int n_use;
} GpuKernel;

/* Distinct kernels: two that differ in nothing but their name are one. */
typedef struct GpuKernels {
  Arena *arena;              /* of this list; kernels belong to what was lowered */
  GpuKernel *kernel;
  int n, cap;
  Model *model[GPU_MAX_MODELS];
  int n_model;
  Lowered lowered[2 * GPU_MAX_MODELS];
  int n_lowered;
} GpuKernels;

typedef struct GpuModel {
  const char *name;          /* "demo" */
  const char *path;          /* of the Lua file */
  const char *weights;       /* its text and options are those that these weights carry; NULL: the file's, the defaults */
  const Define *define;      /* values in their place */
  int n_define;
  const char *models_dir;
  bool train;                /* with the training step of its function "loss" */
  DType precision;           /* as CompileOptions have it */
} GpuModel;

bool gpu_kernels_open(GpuKernels *g, Error *err);
void gpu_kernels_close(GpuKernels *g);
/* Adds all functions of a model; what decodes both as prologue and step and from all tokens to all logits at once. */
bool gpu_kernels_add(GpuKernels *g, const GpuModel *m, Error *err);
/* The demo's models, by the folder of the shipped models; in f32 with their training steps.  In the list's arena. */
bool gpu_kernels_add_demo(GpuKernels *g, const char *models_dir, DType precision, Error *err);
/* Compiles them all.  Free with cuda_facts_done. */
bool gpu_kernels_facts(const GpuKernels *g, const CudaFactsOptions *o, CudaFacts *out, Error *err);

/* ---- what limits a kernel ---- */

/* A GPU as its data sheet has it. */
typedef struct GpuRoof {
  int arch;
  const char *name;
  int multiprocessors;
  double bytes_s, f32_s, tensor_s;   /* memory; f32 operations, an FMA two; of bf16 products */
} GpuRoof;
const GpuRoof *gpu_roof(int arch);   /* NULL: not known */

typedef struct GpuEstimate {
  double bytes, flops;       /* of a launch */
  double time_s;
  double share;              /* of the memory's bandwidth */
  const char *bound;         /* "memory", "latency" (too few bytes under way) or "operations" */
} GpuEstimate;
/* For B samples and R rows, by the formula of bench/README.md. */
GpuEstimate gpu_estimate(const GpuRoof *g, const Kernel *k, const GroupCost *cost, const CudaFact *f, int64_t B,
                         int64_t R);

typedef struct GpuTableOptions {
  const char *models_dir;
  const char *nvrtc;         /* path; NULL: the usual places */
  DType precision;
  int threads;
} GpuTableOptions;
/* The table of the demo's kernels for sm_80 and sm_90, in markdown. */
bool gpu_table(const GpuTableOptions *o, const char *command, Buffer *out, Error *err);

#endif
