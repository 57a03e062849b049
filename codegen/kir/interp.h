/* What the interpreter of kernels and its part for items of several groups share. */
#ifndef NUWA_KIR_INTERP_H
#define NUWA_KIR_INTERP_H

#include "codegen/kir/build.h"

typedef Number Lane;

typedef struct Value {
  Lane lane[LANES];   /* of a uniform value all are equal */
} Value;

typedef struct Shadow Shadow;
typedef struct CopyQueue CopyQueue;

typedef struct Machine {
  const Kernel *k;
  void *const *args;
  char *scratch;
  int64_t size[2];    /* B, R */
  int64_t item;
  int group;          /* the one that executes */
  Value *value;       /* its values, by id */
  Value *values;      /* [groups, n_inst] */
  uint32_t epoch;     /* counts barriers and items */
  Shadow *shadow;     /* groups > 1: by byte of scratch */
  CopyQueue *queue;   /* groups > 1: [groups] */
  Error *err;
} Machine;

/* Sets the error; false. */
bool machine_fault(Machine *m, const KInst *i, const char *what);

/* kir_interp_block.c, for kernels whose items have several groups.  False: memory is short. */
bool block_new(Machine *m);
void block_free(Machine *m);
/* An access to scratch: false after a fault when another group may be doing something to these bytes. */
bool block_access(Machine *m, const KInst *i, int64_t at, int64_t bytes, bool stores);
bool block_copy(Machine *m, const KInst *i);
bool block_tile(Machine *m, const KInst *i);
void block_mma(Machine *m, const KInst *i);
void block_commit(Machine *m);
void block_wait(Machine *m, int64_t batches);
/* After an item: no copy is under way. */
bool block_done(Machine *m);

#endif
