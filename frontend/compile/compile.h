/* From a model's functions to the bytes of a bundle. */
#ifndef NUWA_COMPILE_H
#define NUWA_COMPILE_H

#include "codegen/plan/plan_build.h"
#include "frontend/compile/pipeline.h"

typedef struct CompileOptions {
  const char *const *function;    /* names to compile; NULL: all functions and decodes */
  int n_function;
  bool whole;                     /* decodes too as plain functions, from all tokens to all logits */
  bool train;                     /* also all entries of the model's training; its "evaluate" then moves nothing */
  bool raw;                       /* ... and reads the params themselves, not their averages */
  DType precision;                /* of activations and of weights as they are read: DTYPE_F32 (0) or DTYPE_BF16 */
  PlanDevice device;
  Isa isa;                        /* of a CPU */
  const int *arch;                /* CUDA: cubins for these, 80 for sm_80, beside PTX for the least of them; none: PTX */
  int n_arch;                     /* for sm_80 */
  bool cublaslt;                  /* CUDA: large matrix products by cuBLASLt instead of kernels of our own */
  const char *nvrtc;              /* CUDA: path of the compiler; NULL: the usual places */
  int threads;                    /* that compile */
  const ObjectStore *store;       /* may be NULL */
  const ParamsChooser *chooser;   /* of kernels' parameters; NULL: the defaults */
  Buffer *explain;                /* may be NULL */
} CompileOptions;

/* Appends the bundle to out.  Whatever is made on the way is freed. */
bool compile_model(const Model *m, const CompileOptions *o, Buffer *out, Error *err);

/* What every launch of a function is estimated to do. */
typedef struct LaunchEstimate {
  const char *function;
  LaunchKind kind;
  int kernel, product;   /* by kind; 0 else */
  const Group *group;
  GroupCost cost;
} LaunchEstimate;

/* What a compile makes before machine code: kernels, and launches in order.  All of it, with what it points to, lives
 * until lowered_done, and needs the model as long. */
typedef struct Lowered {
  Kernel *const *kernel;
  LaunchEstimate *launch;
  int n_kernel, n_launch;
  struct Workspace *work;
} Lowered;

/* The same without machine code; fills o->explain.  lowered_done, also after a failure. */
bool compile_lower(const Model *m, const CompileOptions *o, Lowered *out, Error *err);
void lowered_done(Lowered *l);

/* The function of that name as it is meant, which is what the interpreter runs: in a precision, with its gradients taken
 * (pipeline_meaning; protects its own arena).  NULL after a diagnostic. */
Func *compile_meaning(Model *m, const char *name, DType precision, Error *err);

/* The decode of the model that f belongs to, or NULL. */
const ModelDecode *compile_decode_of(const Model *m, const Func *f);

/* ---- looking inside (print.c) ---- */

/* Prints f, computed in a precision, after the pass of that name (pipeline_passes): of a decode prologue and step, once
 * it is split.  pass NULL: lua. */
bool compile_print_after(Model *m, Func *f, const char *pass, DType precision, Buffer *out, Error *err);
/* What the runtime will know of a decode (belongs to the model), and what follows from it. */
typedef struct DecodeFacts {
  PlanDecode plan;
  int64_t steps;    /* of the wavefront */
  int64_t kv_bytes; /* keys and values that attention reads, for one sample and in the precision's type: rings, and
                       what the prologue keeps for it */
} DecodeFacts;
bool compile_decode_describe(Model *m, const ModelDecode *d, DType precision, DecodeFacts *out, Error *err);

#endif
