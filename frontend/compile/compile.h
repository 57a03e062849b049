/* The pipeline: from a model's functions to the bytes of a bundle. */
#ifndef NUWA_COMPILE_H
#define NUWA_COMPILE_H

#include "codegen/plan/plan_build.h"
#include "frontend/lua/model.h"
#include "passes/passes.h"

/* How parameters move in training (Kingma, Ba: Adam, ICLR 2015; decoupled weight decay: Loshchilov, Hutter, 2019). */
typedef struct AdamOptions {
  double beta1, beta2, eps, weight_decay;
  double clip;                    /* largest norm of the whole gradient; 0: no limit */
} AdamOptions;

typedef struct CompileOptions {
  const char *const *function;    /* names to compile; NULL: all functions and decodes */
  int n_function;
  bool whole;                     /* decodes too as plain functions, from all tokens to all logits */
  const char *train;              /* also the training step of this function (which has a scalar output "loss"), or NULL */
  AdamOptions adam;
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

/* The training step of a loss function as a function "train": inputs of f and the scalars lr, correction1 =
 * 1 / (1 - beta1^t), correction2 = 1 / (1 - beta2^t); outputs of f, grad_norm (before clipping) and for each param
 * grad_square.<param>, the sum of its squares; updates every param that the loss depends on and does not update
 * itself, STATEs "adam.m.<param>", "adam.v.<param>", and what f updates: nothing where loss or norm are not finite.
 * NULL after a diagnostic. */
Func *train_build(Func *f, const AdamOptions *o);

/* f as it is computed in a precision.  Inside arena_protect; NULL after a diagnostic. */
Func *compile_precision(Func *f, DType precision);

/* The decode of the model that f belongs to, or NULL. */
const ModelDecode *compile_decode_of(const Model *m, const Func *f);

/* ---- looking inside (print.c) ---- */

/* Names that `inspect --after` takes, ended by NULL.  Passes over a function: lua (as traced; grad has run then, and
 * prints the same), precision, expand, fold, dce, layout, fuse (as groups), memplan (where values live).  Analyses:
 * extents, and of a decode wavefront.  Made from a function: incremental (prologue and step as they come), prologue and step (after dce),
 * train. */
extern const char *const compile_passes[];
/* Prints f, computed in a precision, after the pass of that name. */
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
