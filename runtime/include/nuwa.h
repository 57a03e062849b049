/* The public interface of the lean runtime: open a bundle, give it weights, run its functions, decode.
 *
 * Needs libc, libm, libdl and pthread; for a bundle of CUDA the driver's libcuda, and cuBLASLt when it has products by
 * that, both loaded when a session is opened.
 * Inputs and outputs are host memory either way.  A CPU never fails while running; a device may: the session then keeps
 * the failure, every later call fails at once, and closing it is all that is left.  A session holds all memory; running allocates nothing.  A session is for one
 * thread at a time; different sessions are independent.  A bundle's native code is executed: open only bundles you
 * trust (damage is detected, malice is not). */
#ifndef NUWA_H
#define NUWA_H

#include "runtime/base/dtype.h"
#include "runtime/base/error.h"
#include "runtime/base/safetensors.h"
#include "runtime/plan.h"
#include "runtime/sampler.h"

#if defined(__GNUC__)
#define NUWA_API __attribute__((visibility("default")))
#else
#define NUWA_API
#endif

/* Reads and checks a bundle. */
NUWA_API Plan *nuwa_bundle_open(const char *path, Error *err);
NUWA_API void nuwa_bundle_close(Plan *p);

typedef struct NuwaSession NuwaSession;

typedef struct NuwaCuda {
  const char *driver;     /* path of the driver; NULL: "libcuda.so.1" */
  const char *cublaslt;   /* path of cuBLASLt, for plans with products by it; NULL: the usual names */
  int ordinal;            /* which device, 0 the first */
  bool direct;            /* decode steps launch their kernels one by one instead of replaying a graph: the same bits */
} NuwaCuda;

typedef struct NuwaOptions {
  PlanDevice device;      /* must be the plan's */
  NuwaCuda cuda;          /* when that is CUDA */
  int threads;            /* 0: as many as the process may use */
  int64_t samples;        /* the largest B that will be asked for, at least 1 */
  int64_t rows;           /* the largest R, at least 1 when a decode step is to run */
  int64_t ring_slots;     /* slots of the rings; 0: as planned */
} NuwaOptions;

/* Allocates everything, loads the objects, zeroes states and params.  The plan must outlive the session. */
NUWA_API NuwaSession *nuwa_session_open(const Plan *p, const NuwaOptions *o, Error *err);
NUWA_API void nuwa_session_close(NuwaSession *s);

/* False, with the first failure of the device in err, once there was one. */
NUWA_API bool nuwa_check(const NuwaSession *s, Error *err);
/* CUDA: 80 when the cubin for sm_80 was taken for the kernel, 0 when the driver compiled its PTX.  CPU: -1. */
NUWA_API int nuwa_kernel_arch(const NuwaSession *s, int kernel);
/* CUDA: the algorithm of a product of the plan, as text that may be put into PlanProduct.algorithm; "" where nothing
 * launches it. */
NUWA_API const char *nuwa_product_algorithm(const NuwaSession *s, int product);
/* CUDA: bytes that it needs beside its operands, at the sizes it was chosen for and those of the session. */
NUWA_API size_t nuwa_product_workspace(const NuwaSession *s, int product);
/* The GPU's name as the driver has it; "cpu". */
NUWA_API const char *nuwa_device_name(const NuwaSession *s);

/* Weights.  Strict: every param must be there with its shape; a tensor that is no param is an error too, unless
 * allow_others.  bf16 and f32 convert into each other. Runs the prepare functions. */
NUWA_API bool nuwa_load_weights(NuwaSession *s, const Safetensors *w, bool allow_others, Error *err);
/* Would they load?  Needs no session. */
NUWA_API bool nuwa_check_weights(const Plan *p, const Safetensors *w, bool allow_others, Error *err);
/* Params from their initialisers and the seed (counter: element, param's name digest). Runs the prepare functions. */
NUWA_API bool nuwa_init_weights(NuwaSession *s, uint64_t seed);

/* Whole params and states, by name, in C order for the session's largest B and R, out of the session and into it. */
NUWA_API bool nuwa_read_param(NuwaSession *s, const char *name, void *to, Error *err);
NUWA_API bool nuwa_write_param(NuwaSession *s, const char *name, const void *from, Error *err);
NUWA_API bool nuwa_read_state(NuwaSession *s, const char *name, void *to, Error *err);
NUWA_API bool nuwa_write_state(NuwaSession *s, const char *name, const void *from, Error *err);
/* Their memory where the host can reach it, valid as long as the session.  NULL when absent, and always on CUDA. */
NUWA_API void *nuwa_param(NuwaSession *s, const char *name);
NUWA_API void *nuwa_state(NuwaSession *s, const char *name);
/* After params were written. */
NUWA_API bool nuwa_prepare(NuwaSession *s);

/* Input and output memory of a function, in C order, for the largest B and R; NULL when absent. */
NUWA_API void *nuwa_input(NuwaSession *s, int function, const char *name);
NUWA_API void *nuwa_output(NuwaSession *s, int function, const char *name);
/* Executes one function on B <= samples and R <= rows, from its inputs to its outputs.  False: see nuwa_check. */
NUWA_API bool nuwa_run(NuwaSession *s, int function, int64_t B, int64_t R);
NUWA_API int nuwa_threads(const NuwaSession *s);
/* From now on the time of every launch is added up; false when memory is short.  (Two readings of the clock a
 * launch; on CUDA every launch is waited for.) */
NUWA_API bool nuwa_profile_start(NuwaSession *s, Error *err);
/* Nanoseconds in launch i of a function so far; 0 when nothing is measured. */
NUWA_API int64_t nuwa_profile_ns(const NuwaSession *s, int function, int launch);
NUWA_API int64_t nuwa_samples(const NuwaSession *s);
/* Bytes held, on the host and on the device: arena, states, params, inputs, outputs. */
NUWA_API size_t nuwa_session_bytes(const NuwaSession *s);

/* ---- decoding ---- */

typedef struct NuwaGenerate {
  int decode;                    /* which PlanDecode */
  bool raster;                   /* raster order instead of the wavefront: the same tokens */
  int64_t count;                 /* samples, at least 1 */
  int64_t first;                 /* number of the first: samples 64 to 127 alone are what they are among 128 */
  uint64_t seed;
  SampleOptions sample;
  float guidance;                /* 1: none.  Else samples [count, 2 count) of the inputs are the null condition */
  const uint8_t *given;          /* [S*H*W] 1 where the token is given, NULL: none.  The same for all samples */
  const int32_t *given_tokens;   /* [count][S*H*W] */
} NuwaGenerate;

typedef struct NuwaGenerateStats {
  int64_t steps, tokens;         /* step calls, and tokens that were drawn */
  int64_t live;                  /* most positions whose keys and values were held at once */
  double prologue_ms, step_ms;
} NuwaGenerateStats;

/* How many ring slots and rows a session needs for g (rows: all of the largest wave at once; fewer rows work too, waves
 * are then cut). */
NUWA_API bool nuwa_generate_needs(const Plan *p, const NuwaGenerate *g, int64_t *out_slots, int64_t *out_rows, Error *err);
/* Runs prologue (inputs were written through nuwa_input) and all steps; tokens [count][S*H*W].  progress (may be NULL)
 * is called after each step. */
NUWA_API bool nuwa_generate(NuwaSession *s, const NuwaGenerate *g, int32_t *tokens, NuwaGenerateStats *stats,
                            void (*progress)(void *ctx, int64_t done, int64_t total), void *ctx, Error *err);

#endif
