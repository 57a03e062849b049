/* The order in which the positions of one request run, and the ring slots that they occupy.  The compiler asks it how many
 * slots to plan, a session decodes by it. */
#ifndef NUWA_ORDER_H
#define NUWA_ORDER_H

#include "runtime/base/extent.h"
#include "runtime/plan.h"

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
