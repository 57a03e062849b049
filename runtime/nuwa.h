/* The public interface of the lean runtime: open a bundle, give it weights, run its functions, decode.
 *
 * Needs libc, libm, libdl and pthread.  A session holds all memory; running allocates nothing.  A session is for one
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
typedef struct NuwaOptions {
  int threads;            /* 0: as many as the process may use */
  int64_t samples;        /* the largest B that will be asked for, at least 1 */
  int64_t rows;           /* the largest R, at least 1 when a decode step is to run */
  int64_t ring_slots;     /* slots of the rings; 0: as planned */
} NuwaOptions;

/* Allocates everything, loads the objects, zeroes states and params.  The plan must outlive the session. */
NUWA_API NuwaSession *nuwa_session_open(const Plan *p, const NuwaOptions *o, Error *err);
NUWA_API void nuwa_session_close(NuwaSession *s);

/* Weights.  Strict: every param must be there with its shape; a tensor that is no param is an error too, unless
 * allow_others.  bf16 and f32 convert into each other. Runs the prepare functions. */
NUWA_API bool nuwa_load_weights(NuwaSession *s, const Safetensors *w, bool allow_others, Error *err);
/* Params from their initialisers and the seed (counter: element, param's name digest). Runs the prepare functions. */
NUWA_API void nuwa_init_weights(NuwaSession *s, uint64_t seed);

/* Memory of params and states, valid as long as the session. NULL when absent. */
NUWA_API void *nuwa_param(NuwaSession *s, const char *name);
NUWA_API void *nuwa_state(NuwaSession *s, const char *name);
/* After params were written through nuwa_param. */
NUWA_API void nuwa_prepare(NuwaSession *s);

/* Input and output memory of a function, in C order, for the largest B and R; NULL when absent. */
NUWA_API void *nuwa_input(NuwaSession *s, int function, const char *name);
NUWA_API void *nuwa_output(NuwaSession *s, int function, const char *name);
/* Executes one function on B <= samples and R <= rows. */
NUWA_API void nuwa_run(NuwaSession *s, int function, int64_t B, int64_t R);
NUWA_API int nuwa_threads(const NuwaSession *s);
/* From now on the time of every launch is added up; false when memory is short.  (Two readings of the clock a launch.) */
NUWA_API bool nuwa_profile_start(NuwaSession *s, Error *err);
/* Nanoseconds in launch i of a function so far; 0 when nothing is measured. */
NUWA_API int64_t nuwa_profile_ns(const NuwaSession *s, int function, int launch);
NUWA_API int64_t nuwa_samples(const NuwaSession *s);
/* Bytes held: arena, states, params. */
NUWA_API size_t nuwa_session_bytes(const NuwaSession *s);

/* ---- decoding ---- */

typedef struct NuwaGenerate {
  int decode;                    /* which PlanDecode */
  bool raster;                   /* raster order instead of the wavefront: the same tokens */
  int64_t count;                 /* samples, at least 1 */
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
