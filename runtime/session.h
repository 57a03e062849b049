/* The inside of a session, shared by session.c (memory, launches), weights.c and decode.c. */
#ifndef NUWA_SESSION_H
#define NUWA_SESSION_H

#include "runtime/isa.h"
#include "runtime/loader.h"
#include "runtime/nuwa.h"
#include "runtime/pool.h"

typedef void (*KernelFn)(void *const *buf, const int64_t *dim, int64_t begin, int64_t end, void *scratch);

/* The order in which one request's positions run; memory for the largest decode of the plan. */
typedef struct DecodeOrder {
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

struct NuwaSession {
  const Plan *plan;
  NuwaOptions options;
  Pool *pool;
  Object **object;        /* [n_object] */
  KernelFn *kernel;       /* [n_kernel] */
  uint8_t *memory;        /* everything below in one allocation */
  size_t bytes;
  void **param, **state;  /* [n_param], [n_state] */
  void ***input, ***output; /* [n_function][n_in], [n_function][n_out] */
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

/* Fills o (whose arrays have room for the grid) for a request; given [positions] is NULL when no token is. */
void order_build(DecodeOrder *o, const PlanDecode *d, bool raster, const uint8_t *given);
/* Slots for the positions of a wave before it runs, and those nobody sees any more back after it ran.  In order of
 * waves; never more than o->slots at once. */
void order_take_slots(DecodeOrder *o, int64_t wave);
void order_release_slots(DecodeOrder *o, int64_t wave);
/* Arrays for `positions`, from mem_alloc; order_done frees them. */
bool order_init(DecodeOrder *o, int64_t positions, Error *err);
void order_done(DecodeOrder *o);

#endif
