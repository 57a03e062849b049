#include "runtime/base/stack.h"

#include <signal.h>
#include <string.h>

int stack_thread_start(pthread_t *out, size_t bytes, void *(*body)(void *ctx), void *ctx) {
  pthread_attr_t attributes;
  int failure = pthread_attr_init(&attributes);
  if (failure) return failure;
  failure = pthread_attr_setstacksize(&attributes, bytes);
  if (!failure) failure = pthread_create(out, &attributes, body, ctx);
  pthread_attr_destroy(&attributes);
  return failure;
}

typedef struct StackWork {
  void (*body)(void *ctx);
  void *ctx;
} StackWork;

static void *run(void *ctx) {
  StackWork *w = ctx;
  w->body(w->ctx);
  return NULL;
}

bool stack_run(size_t bytes, void (*body)(void *ctx), void *ctx, Error *err) {
  StackWork w = {body, ctx};
  pthread_t thread;
  sigset_t all, before;
  int failure = stack_thread_start(&thread, bytes, run, &w);
  if (failure)
    return error_set(err, ERROR_MEMORY, "no thread with a stack of %zu bytes: %s", bytes, strerror(failure));
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_join(thread, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return true;
}
