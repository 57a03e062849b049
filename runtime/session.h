/* The inside of a session, shared by session.c (memory, launches), step.c, weights.c and decode.c.
 *
 * Addresses are those that kernels see.  On a device that works in host memory a port has one; on another one params,
 * states, the arena and every port are in device memory, and a port has host memory beside, for the host to read and
 * write. */
#ifndef NUWA_SESSION_H
#define NUWA_SESSION_H

#include "runtime/base/safetensors.h"
#include "runtime/device.h"
#include "runtime/include/nuwa.h"
#include "runtime/order.h"
#include "runtime/plan.h"
#include "runtime/sampler.h"

/* The steps of a decode as records of the device: one for each number of rows that steps are rounded up to. */
enum { STEP_BUCKETS = 26, SMALLEST_BUCKET = 8 };
typedef struct StepRecords {
  int64_t streams;        /* that the records are for */
  DeviceRecord *bucket[STEP_BUCKETS];   /* NULL: not recorded yet */
} StepRecords;

struct NuwaSession {
  const Plan *plan;
  NuwaOptions options;
  Pool *pool;
  Device *device;
  Error failure;          /* of the device, the first */
  Error refusal;          /* of the last call, whose arguments did not fit */
  uint8_t *memory;        /* the tables below in one allocation */
  size_t bytes;           /* of everything */
  void **param, **state;  /* [n_param], [n_state] addresses */
  void **room;            /* [n_param] the session's own memory for each: where param is, or weights lie elsewhere */
  void ***input, ***output; /* [n_function][n_in], [n_function][n_out] host memory */
  void ***input_at, ***output_at; /* the same: addresses */
  int32_t *tokens;        /* [samples][positions] host memory that decoding sends to its state; NULL on a device in host memory */
  StepRecords *records;   /* [n_decode]; NULL where the device does not record */
  void ****args;          /* [n_function][n_launch][n_ref] */
  uint8_t *arena;
  int32_t *stopped;       /* [samples] of decoding: the first position that holds the stop token */
  float *draw_scratch;    /* [threads][draw_stride] for the sampler */
  size_t draw_stride;
  int64_t **launch_ns;    /* [n_function][n_launch], in one allocation; NULL: not measured */
  DecodeOrder order;
};

/* Bytes of a state in this session. */
int64_t session_state_bytes(const NuwaSession *s, int state);
/* Where a param is from now on: its room, or memory that outlives the session and nothing writes.  Then tell all
 * launches. */
void session_place_param(NuwaSession *s, int param, const void *at);
void session_resolve(NuwaSession *s);
/* Between host memory and an address of the session; waits.  False: the failure is kept. */
bool session_read(NuwaSession *s, void *to, const void *address, size_t bytes);
bool session_write(NuwaSession *s, void *address, const void *from, size_t bytes);
/* Inputs to the device, launches, copies, outputs back, without waiting. */
bool session_enqueue(NuwaSession *s, int function, int64_t B, int64_t R);

/* A step of a decode on R rows, a result of step_round_rows, with as many rows filled in; sends s->tokens
 * [streams][positions] to the state first.  False: the failure is kept. */
bool step_run(NuwaSession *s, int decode, int state, int64_t streams, int64_t R);
/* Rows that the device wants a step of R rows to be rounded up to, none above the session's rows. */
int64_t step_round_rows(const NuwaSession *s, int64_t R);
void step_free_records(NuwaSession *s);

#endif
