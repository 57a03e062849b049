/* The inside of a session, shared by session.c (memory, launches), weights.c, decode.c and cuda/run.c.
 *
 * Addresses are those that kernels see.  On the CPU they are host memory and a port has one; on CUDA params, states, the
 * arena and every port are in device memory, and a port has pinned host memory beside, for the host to read and write. */
#ifndef NUWA_SESSION_H
#define NUWA_SESSION_H

#include "runtime/cuda/products.h"
#include "runtime/cpu/isa.h"
#include "runtime/cpu/loader.h"
#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"
#include "runtime/sampler.h"
#include "runtime/cpu/pool.h"

typedef void (*KernelFn)(void *const *buf, const int64_t *dim, int64_t begin, int64_t end, void *scratch);

/* The order in which one request's positions run; memory for the largest decode of the plan. */
typedef struct DecodeOrder {
  Arena *arena;           /* holds the arrays */
  const PlanDecode *decode; /* [n_decode] */
  int n_decode;
  Extent ***extent;       /* [n_decode][n_attend] */
  int64_t positions;      /* of the grid */
  int64_t n_wave;
  int32_t *position;      /* [positions] wave by wave, raster order inside a wave */
  int32_t *wave_begin;    /* [positions + 1] into position */
  int32_t *wave_of;       /* [positions] */
  int32_t *last_wave;     /* [positions] the last wave that sees the position's keys */
  int32_t *slot;          /* [positions] ring slot, -1 before and after its life */
  int32_t *free_slot;     /* [positions] a stack */
  int32_t *dying;         /* [positions] positions sorted by last_wave */
  int64_t slots;          /* most slots in use at once */
  int64_t rows;           /* positions of the largest wave */
  int64_t n_free;         /* slots on free_slot */
  int64_t next_slot;      /* slots from here on were never used */
  int64_t dead;           /* positions of dying whose slots are free again */
} DecodeOrder;

/* The steps of a decode as graphs: one for each number of rows that steps are rounded up to. */
enum { STEP_BUCKETS = 26, SMALLEST_BUCKET = 8 };
typedef struct StepGraphs {
  int64_t streams;        /* that the graphs are for */
  CudaGraphExec bucket[STEP_BUCKETS];   /* NULL: not captured yet */
} StepGraphs;

struct NuwaSession {
  const Plan *plan;
  NuwaOptions options;
  Pool *pool;
  CudaDevice *cuda;       /* NULL: the CPU */
  CudaProducts *products; /* NULL: the plan has none */
  Error failure;          /* of the device, the first */
  Object **object;        /* CPU: [n_object] */
  KernelFn *kernel;       /* CPU: [n_kernel] */
  uint8_t *memory;        /* everything below in one allocation, but for what is on the device or pinned */
  size_t bytes;
  void **param, **state;  /* [n_param], [n_state] addresses */
  void ***input, ***output; /* [n_function][n_in], [n_function][n_out] host memory */
  void ***input_at, ***output_at; /* the same: addresses */
  int32_t *tokens;        /* CUDA: [samples][positions] pinned, what decoding sends to its state; NULL without a decode */
  StepGraphs *graphs;     /* CUDA: [n_decode] */
  void ****args;          /* [n_function][n_launch][n_ref] */
  uint8_t *arena;
  uint8_t *scratch;       /* [threads][scratch_stride] */
  size_t scratch_stride;
  float *draw_scratch;    /* [threads][draw_stride] for the sampler */
  size_t draw_stride;
  int64_t **launch_ns;    /* [n_function][n_launch], in one allocation; NULL: not measured */
  DecodeOrder order;
};

/* Where a reference points in this session. */
void *session_resolve(const NuwaSession *s, int function, const PlanRef *r);
/* Work items of a launch. */
int64_t session_items(const PlanLaunch *l, int64_t B, int64_t R);
/* Bytes of a state in this session. */
int64_t session_state_bytes(const NuwaSession *s, int state);
/* Between host memory and an address of the session; waits.  False: the failure is kept. */
bool session_read(NuwaSession *s, void *to, const void *address, size_t bytes);
bool session_write(NuwaSession *s, void *address, const void *from, size_t bytes);

/* ---- cuda/run.c ---- */

/* nuwa_run on a device. */
bool cuda_run(NuwaSession *s, int function, int64_t B, int64_t R);
/* A step of a decode: sends s->tokens [streams][positions] to the state, then runs the step on R rows.  R is a result of
 * cuda_round_rows, with as many rows filled in. */
bool cuda_run_step(NuwaSession *s, int decode, int state, int64_t streams, int64_t R);
/* Rows that a step of R rows is rounded up to: few different numbers, none above the session's rows. */
int64_t cuda_round_rows(const NuwaSession *s, int64_t R);
void cuda_free_graphs(NuwaSession *s);

/* Fills o for a request to one of its decodes; given [positions] is NULL when no token is. */
void order_build(DecodeOrder *o, int decode, bool raster, const uint8_t *given);
/* Slots for the positions of a wave before it runs, and those nobody sees any more back after it ran.  In order of
 * waves; never more than o->slots at once. */
void order_take_slots(DecodeOrder *o, int64_t wave);
void order_release_slots(DecodeOrder *o, int64_t wave);
/* Memory for orders of any of the decodes, which must outlive o; order_done frees it. */
bool order_init(DecodeOrder *o, const PlanDecode *decode, int n_decode, Error *err);
void order_done(DecodeOrder *o);

#endif
