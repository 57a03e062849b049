/* Batches loaded ahead of the step that reads them, by threads of their own.
 *
 * Which batches come is known beforehand (LoaderBatches), and what a batch holds is a function of its number alone; so
 * who loads it, and when, changes nothing.  There is room for a few batches at once, and examples are loaded one by one:
 * the batch that is waited for is everybody's first work, the one who waits helps.  What is to be told of broken examples
 * is told when their batch is taken, in the order of examples, and so is the failure of the first that failed. */
#ifndef NUWA_LOADER_H
#define NUWA_LOADER_H

#include "media/dataset.h"

typedef struct LoaderBatch {
  bool is_evaluation; /* of the function `evaluate`, else of a step */
  WorldSplit split;
  uint64_t first; /* position of the first example */
  int64_t n;
} LoaderBatch;

/* The batches that will be taken, one after the other; false when there are no more.  Any thread asks, one at a time. */
typedef struct LoaderBatches {
  bool (*next)(void *ctx, LoaderBatch *out);
  void *ctx;
} LoaderBatches;

typedef struct LoaderOptions {
  int slots;     /* batches that there is room for, from 1 */
  int64_t batch; /* largest n */
  /* Loads example i of a batch into a slot; several threads at once, each another example. */
  bool (*load)(void *ctx, const LoaderBatch *b, int64_t i, int slot, DataBroken **broken, Error *err);
  void (*tell)(void *ctx, const LoaderBatch *b, DataBroken *broken); /* frees the list */
  void *ctx;
} LoaderOptions;

typedef struct Loader Loader;

Loader *loader_new(const LoaderOptions *o, Error *err);
void loader_free(Loader *l); /* NULL is fine */

/* From now on threads load what b says; where none can be started, whoever takes a batch loads it. */
void loader_begin(Loader *l, const LoaderBatches *b, int threads);
/* Stops them, and forgets what was not taken. */
void loader_end(Loader *l);
/* Waits until the batch is loaded; *slot holds it until another is taken.  It must be the next one of those begun, or the
 * one that was taken last. */
bool loader_take(Loader *l, const LoaderBatch *b, int *out_slot, Error *err);
/* Seconds that loader_take has taken since loader_begin, and the threads that there are. */
double loader_waited(const Loader *l);
int loader_threads(const Loader *l);

#endif
