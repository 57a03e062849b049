/* The runtime's thread pool: one loop at a time, cut into chunks that idle threads fetch from a counter.
 * It decides who runs a chunk, never what a chunk is, so results cannot depend on the number of threads. */
#ifndef NUWA_POOL_H
#define NUWA_POOL_H

#include <stdint.h>

#include "runtime/base/error.h"

enum { POOL_MAX_THREADS = 512 };

typedef struct Pool Pool;

/* threads counts the caller of pool_run: 1 starts no thread.  NULL on failure. */
Pool *pool_new(int threads, Error *err);
/* No pool_run may be in progress.  NULL is fine. */
void pool_free(Pool *p);
int pool_threads(const Pool *p);

/* The processors this process may use, at least 1: a sensible number of threads. */
int pool_count_processors(void);

/* Calls body(ctx, begin, end, thread) for [0, grain), [grain, 2 grain), ... up to n; returns when all are done.
 * n >= 0, grain >= 1.  The caller is thread 0; thread < pool_threads, and two chunks that run at the same time have
 * different threads.  What the caller wrote before is seen by body, what body wrote is seen after the return.
 * Inside body arithmetic rounds to nearest and flushes denormals; the caller's own mode is restored.  Allocates
 * nothing.  One call at a time, from whichever thread; body must not call it. */
void pool_run(Pool *p, void (*body)(void *ctx, int64_t begin, int64_t end, int thread), void *ctx, int64_t n,
              int64_t grain);

#endif
