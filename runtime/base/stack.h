/* Work on a stack of a known size, whatever the limits of the process and the stack of the caller. */
#ifndef NUWA_STACK_H
#define NUWA_STACK_H

#include <pthread.h>
#include <stddef.h>

#include "runtime/base/error.h"

/* What compiling a model may need, and a thread of a pool. */
enum { STACK_BYTES = 8 << 20 };

/* pthread_create with such a stack: 0, or the error number. */
int stack_thread_start(pthread_t *out, size_t bytes, void *(*body)(void *ctx), void *ctx);

/* Runs body(ctx) in a thread with a stack of `bytes` and waits for it.  Signals for the process go to that thread
 * meanwhile, as they would to a caller that ran body itself.  False: there is no such thread, and body did not run. */
bool stack_run(size_t bytes, void (*body)(void *ctx), void *ctx, Error *err);

#endif
