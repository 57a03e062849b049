/* A plan: everything a compiled model is, apart from its weights.  What runs is always a plan; the compiler makes one in
 * memory, a bundle (.nuwa) is one in a file.  A plan is for the CPU or for CUDA, never both.
 *
 * A plan has params (named weights), states (tensors that live as long as a session: optimiser moments, packed weights,
 * keys and values), functions (lists of kernel launches over references), native objects that hold the kernels, and what
 * a runtime must know to decode.  Sizes are affine in B and R (base/dim.h). */
#ifndef NUWA_PLAN_H
#define NUWA_PLAN_H

#include "runtime/base/dim.h"
#include "runtime/base/dtype.h"
#include "runtime/base/error.h"
#include "runtime/base/extent.h"
#include "runtime/base/memory.h"

typedef struct PlanTensor {
  const char *name;
  DType dtype;
  int32_t rank;
  Dim dim[MAX_RANK];
} PlanTensor;

typedef struct PlanParam {
  PlanTensor type;
  int32_t init;          /* 0 zeros, 1 ones, 2 normal, 3 uniform */
  double scale;
  bool is_updated;       /* a function writes it */
} PlanParam;

typedef struct PlanState {
  PlanTensor type;       /* starts as zeros */
  bool is_ring;          /* dim[0] counts slots; a session may be opened with another number of them */
} PlanState;

typedef enum RefKind { REF_ARENA, REF_INPUT, REF_OUTPUT, REF_PARAM, REF_STATE, REF_KIND_COUNT } RefKind;

/* Where an operand of a launch is. */
typedef struct PlanRef {
  RefKind kind;
  int32_t index;         /* input, output, param or state */
  int32_t part;          /* arena: 0 constant, 1 per B, 2 per R */
  int64_t unit_offset;   /* arena: bytes a unit of the part */
  Dim bytes;             /* of the tensor */
} PlanRef;

typedef struct PlanFactor {
  Dim size;
  int64_t tile;
} PlanFactor;

enum { PLAN_MAX_FACTORS = 6 };

enum { PLAN_MAX_REFS = 64 };   /* operands of a launch on CUDA, where they travel on the stack */

/* batch products C [m, n] = A [m, k] B [k, n] (+ bias [n]). */
typedef struct PlanShape {
  Dim batch, m, n, k;
} PlanShape;

/* What a launch runs. */
typedef enum LaunchKind {
  LAUNCH_KERNEL,         /* on items = product of ceil(size / tile) */
  LAUNCH_PRODUCT,        /* by the device's library; operands A, B, the bias where it has one, then C, all without gaps */
  LAUNCH_KIND_COUNT
} LaunchKind;

typedef struct PlanLaunch {
  LaunchKind kind;
  int32_t kernel;        /* of a LAUNCH_KERNEL */
  int32_t product;       /* of a LAUNCH_PRODUCT, and its shape; it has no factors */
  PlanShape shape;
  int32_t n_ref;
  PlanRef *ref;
  int32_t n_factor;
  PlanFactor factor[PLAN_MAX_FACTORS];
  int64_t grain;
} PlanLaunch;

typedef struct PlanCopy {
  PlanRef from, to;
} PlanCopy;

typedef struct PlanFunction {
  const char *name;
  int32_t n_in, n_out, n_launch, n_copy;
  PlanTensor *in, *out;
  PlanLaunch *launch;
  PlanCopy *copy;        /* after the launches; all sources are read as they were before the first copy */
  int64_t part_bytes[3];
  bool is_prepare;       /* runs once, when weights are there and whenever they change */
  int64_t least_samples; /* 0 or 1: the smallest B that it takes */
  const char *least_why; /* of 1: the op, its line and what an empty batch would leave it; else "" */
} PlanFunction;

/* What runs a plan. */
typedef enum PlanDevice { PLAN_CPU = NUWA_CPU, PLAN_CUDA = NUWA_CUDA, PLAN_DEVICE_COUNT } PlanDevice;
const char *plan_device_name(PlanDevice d);   /* "cpu", "cuda" */

typedef struct PlanKernel {
  const char *name;      /* symbol */
  int32_t object;
  int64_t scratch_bytes; /* CPU: a thread */
  int32_t threads;       /* CUDA: of a block */
  int32_t items;         /* CUDA: that a block executes */
  int64_t shared_bytes;  /* CUDA: dynamic shared memory of a block */
} PlanKernel;

/* Matrix products by cuBLASLt with one algorithm: a row of the result has the same bits in all of them, whatever the
 * number of rows beside it. */
enum { PLAN_ALIGNMENT = 64 };   /* of every tensor's address */
typedef struct PlanProduct {
  DType in, out;         /* of A and B; of C and the bias */
  bool transpose_a;      /* A is stored as [k, m] */
  bool transpose_b;      /* B is stored as [n, k] */
  bool share_b;          /* a batch reads one B */
  bool bias;             /* f32 only: it is added before the result is rounded */
  const char *algorithm; /* as blaslt_algo_print has it; "": a session chooses when it is opened */
} PlanProduct;

typedef struct PlanImage {
  int32_t arch;          /* CUDA: 80 is a cubin for sm_80, 0 is PTX (text with its final NUL).  CPU: 0, relocatable ELF */
  const uint8_t *bytes;
  int64_t len;
} PlanImage;

/* The same kernels in one or several forms.  CPU: one.  CUDA: cubins, each of another arch, then one PTX. */
typedef struct PlanObject {
  int32_t n_image;
  PlanImage *image;
} PlanObject;

typedef struct PlanStencil {
  int64_t delta[3];
  bool raster;
} PlanStencil;

typedef struct PlanDecode {
  const char *name;
  int64_t grid[3];
  int64_t vocab;
  bool has_stop;
  int64_t stop;                    /* token after which a sample is filled with it; the grid is a line then */
  int32_t prologue, step;          /* functions; prologue -1: none */
  int32_t n_attend, n_stencil;
  AttendAttrs *attend;             /* what the self-attentions of the grid see; on it, and without heads */
  PlanStencil *stencil;
  int64_t wavefront[3], raster[3]; /* schedules */
  int64_t live;                    /* slots of the rings as planned */
} PlanDecode;

/* Keys of texts. */
#define PLAN_TEXT_MODEL "model"           /* the file it was compiled from */
#define PLAN_TEXT_SOURCE "source_sha256"  /* of all Lua files that made it */
#define PLAN_TEXT_OPTION "option."        /* and the option's name */
#define PLAN_TEXT_FIELD "field."          /* and the name of a plain value of the module: "field.codebook" */
#define PLAN_TEXT_PARTIAL "partial"       /* there: not all functions of the model were compiled */
#define PLAN_TEXT_PRECISION "precision"
#define PLAN_TEXT_PINNED "pinned"         /* the device whose algorithms of products it holds */
#define PLAN_TEXT_BPE "bpe"               /* merges of the text encoder */
typedef struct PlanText {
  const char *key, *value;
} PlanText;

struct NuwaPlan {
  Arena *arena;                    /* owns everything */
  PlanDevice device;
  const char *isa;                 /* CPU: "avx512", ... what the objects were made for; CUDA: "cuda" */
  const char *features;            /* the exact feature string, for people; CUDA: "compute_80 sm_80 sm_90" */
  int32_t n_param, n_state, n_function, n_kernel, n_product, n_object, n_decode, n_text;
  PlanParam *param;
  PlanState *state;
  PlanFunction *function;
  PlanKernel *kernel;
  PlanProduct *product;
  PlanObject *object;
  PlanDecode *decode;
  PlanText *text;                  /* model, options ("option.dim"), vocabulary ("bpe"), ... */
  const NuwaBundle *bundle;        /* that it is a part of: sessions use weights of the same one where they lie; or NULL */
};
typedef NuwaPlan Plan;

void plan_free(Plan *p);
/* -1 when there is none. */
int plan_find_function(const Plan *p, const char *name);
int plan_find_decode(const Plan *p, const char *name);
int plan_find_param(const Plan *p, const char *name);
int plan_find_state(const Plan *p, const char *name);
/* NULL when there is none. */
const PlanTensor *plan_find_input(const PlanFunction *f, const char *name);
const PlanTensor *plan_find_output(const PlanFunction *f, const char *name);
const char *plan_text(const Plan *p, const char *key);   /* NULL when absent */
/* Work items of a launch of a kernel. */
int64_t plan_items(const PlanLaunch *l, int64_t B, int64_t R);
/* Of the generated grid. */
int64_t plan_positions(const PlanDecode *d);
/* Elements and bytes under B and R; false on overflow or a negative size. */
bool plan_tensor_elems(const PlanTensor *t, int64_t B, int64_t R, int64_t *out);
bool plan_tensor_bytes(const PlanTensor *t, int64_t B, int64_t R, int64_t *out);

/* Everything in range and consistent?  What plan_read accepts, a session can run without further checks.  The native
 * code itself is trusted. */
bool plan_check(const Plan *p, Error *err);

/* Bytes of a bundle: magic, version, length, SHA-256 of the rest, the plan. */
bool plan_write(const Plan *p, Buffer *out, Error *err);
/* Refuses truncated, foreign, damaged and inconsistent bundles with the reason; `where` names it in errors. The result
 * owns copies of everything. */
Plan *plan_read(const void *bytes, size_t n, const char *where, Error *err);

#endif
