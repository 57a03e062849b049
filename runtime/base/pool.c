/* A loop is published in `state`, one word that holds the loop's number, whether it is open, and how many workers are
 * inside.  A worker enters an open loop by adding itself with a compare-and-swap, so the loop's fields cannot change
 * while it reads them; the caller closes the loop when no chunk is left, and waits for those inside only.  A worker
 * that sleeps through a loop is not waited for, and costs nothing. */
#include "runtime/base/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "runtime/base/float_mode.h"
#include "runtime/base/memory.h"
#include "runtime/base/stack.h"

/* state: bits 0-9 workers inside, bit 10 open, bits 11-31 the loop's number (it may wrap: the worst that a worker
 * asleep for exactly 2^21 loops can do is to miss one more). */
enum { STATE_INSIDE = 1023, STATE_OPEN = 1024, STATE_LOOP = 2048 };
_Static_assert((int)POOL_MAX_THREADS <= (int)STATE_INSIDE, "all workers can be inside");

/* Who waits for a change of state. */
enum { WAIT_WORKER = 1, WAIT_CALLER = 2 };

enum { SPIN_NS = 40000, SPIN_PAUSES = 64 };

typedef struct Worker {
  struct Pool *pool;
  pthread_t handle;
  int thread;
} Worker;

struct Pool {
  void (*body)(void *ctx, int64_t begin, int64_t end, int thread);
  void *ctx;
  int64_t n, grain, chunks;
  int threads;
  Worker *workers; /* threads - 1 */
  atomic_bool stop, in_use;
  /* Each on a cache line of its own: they are written by different threads. */
  _Alignas(64) _Atomic uint32_t state;
  _Alignas(64) _Atomic int64_t next; /* chunk */
  _Alignas(64) atomic_int asleep;    /* workers */
  atomic_bool caller_waits;
};

#if defined(__x86_64__)
static void cpu_pause(void) { _mm_pause(); }
#else
static void cpu_pause(void) { __asm__ volatile("yield"); }
#endif

static void futex_wait(_Atomic uint32_t *word, uint32_t seen, uint32_t who) {
  syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, seen, NULL, NULL, who);
}

static void futex_wake(_Atomic uint32_t *word, int how_many, uint32_t who) {
  syscall(SYS_futex, word, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, how_many, NULL, NULL, who);
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Waits briefly for state to differ from `seen`; the state at the end. */
static uint32_t state_spin(Pool *p, uint32_t seen) {
  uint32_t state = seen;
  for (int64_t end = now_ns() + SPIN_NS; state == seen && now_ns() < end;)
    for (int i = 0; i < SPIN_PAUSES && state == seen; i++) {
      cpu_pause();
      state = atomic_load_explicit(&p->state, memory_order_acquire);
    }
  return state;
}

static void pool_run_chunks(Pool *p, int thread) {
  for (;;) {
    int64_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
    if (i >= p->chunks) return;
    int64_t begin = i * p->grain, left = p->n - begin;
    p->body(p->ctx, begin, begin + (left < p->grain ? left : p->grain), thread);
  }
}

static bool state_has_news(uint32_t state, uint32_t loop) {
  return (state & STATE_OPEN) && state / STATE_LOOP != loop;
}

static void worker_sleep(Pool *p, uint32_t seen) {
  atomic_fetch_add(&p->asleep, 1);
  if (!atomic_load(&p->stop)) futex_wait(&p->state, seen, WAIT_WORKER);
  atomic_fetch_sub(&p->asleep, 1);
}

/* Enters the open loop, if there is one that this worker has not seen.  The number of the last one it has seen. */
static uint32_t worker_join(Pool *p, uint32_t state, uint32_t loop, int thread) {
  while (state_has_news(state, loop)) {
    if (!atomic_compare_exchange_weak(&p->state, &state, state + 1)) continue;
    pool_run_chunks(p, thread);
    uint32_t left = atomic_fetch_sub(&p->state, 1) - 1;
    if ((left & (STATE_INSIDE | STATE_OPEN)) == 0 && atomic_load(&p->caller_waits))
      futex_wake(&p->state, 1, WAIT_CALLER);
    return state / STATE_LOOP;
  }
  return loop;
}

static void *worker_main(void *arg) {
  Worker *w = arg;
  Pool *p = w->pool;
  uint32_t loop = 0; /* loops are numbered from 1 */
  float_mode_set(float_mode_kernels);
  while (!atomic_load(&p->stop)) {
    uint32_t state = atomic_load_explicit(&p->state, memory_order_acquire);
    if (state_has_news(state, loop)) loop = worker_join(p, state, loop, w->thread);
    else if (state_spin(p, state) == state) worker_sleep(p, state);
  }
  return NULL;
}

/* Starts workers until there are `threads` threads, with all signals blocked: signals belong to the program's own
 * threads.  0, or the error number of the first failure. */
static int pool_start_workers(Pool *p, int threads) {
  sigset_t all, before;
  sigfillset(&all);
  int failure = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (failure) return failure;
  for (; !failure && p->threads < threads; p->threads += !failure) {
    Worker *w = &p->workers[p->threads - 1];
    *w = (Worker){.pool = p, .thread = p->threads};
    failure = stack_thread_start(&w->handle, STACK_BYTES, worker_main, w);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failure;
}

Pool *pool_new(int threads, Error *err) {
  if (threads < 1 || threads > POOL_MAX_THREADS) {
    error_set(err, ERROR_ARGUMENT, "a pool of %d threads: it takes 1 to %d", threads, POOL_MAX_THREADS);
    return NULL;
  }
  Pool *p = mem_alloc_aligned(sizeof *p, _Alignof(Pool));
  if (p) p->workers = mem_alloc((size_t)threads * sizeof *p->workers);
  if (!p || !p->workers) {
    mem_free(p);
    error_set(err, ERROR_MEMORY, "out of memory for a pool of %d threads", threads);
    return NULL;
  }
  p->threads = 1;
  int failure = pool_start_workers(p, threads);
  if (!failure) return p;
  error_set(err, ERROR_DEVICE, "cannot start thread %d of %d: %s", p->threads + 1, threads, strerror(failure));
  pool_free(p);
  return NULL;
}

void pool_free(Pool *p) {
  if (!p) return;
  atomic_store(&p->stop, true);
  atomic_fetch_add(&p->state, STATE_LOOP);
  futex_wake(&p->state, INT_MAX, WAIT_WORKER);
  for (int i = 0; i < p->threads - 1; i++) pthread_join(p->workers[i].handle, NULL);
  mem_free(p->workers);
  mem_free(p);
}

int pool_threads(const Pool *p) { return p->threads; }

int pool_count_processors(void) {
  cpu_set_t set;
  int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
  return n < 1 ? 1 : n > POOL_MAX_THREADS ? POOL_MAX_THREADS : n;
}

static void pool_open_loop(Pool *p) {
  uint32_t loop = atomic_load_explicit(&p->state, memory_order_relaxed) / STATE_LOOP + 1;
  atomic_store(&p->state, loop * STATE_LOOP | STATE_OPEN);
  if (atomic_load(&p->asleep) == 0) return;
  int64_t others = p->chunks - 1;
  futex_wake(&p->state, others < INT_MAX ? (int)others : INT_MAX, WAIT_WORKER);
}

/* From here on nobody enters; waits for those inside. */
static void pool_close_loop(Pool *p) {
  uint32_t state = atomic_fetch_and(&p->state, ~(uint32_t)STATE_OPEN) & ~(uint32_t)STATE_OPEN;
  for (int64_t end = 0; state & STATE_INSIDE; state = atomic_load(&p->state)) {
    if (!end) end = now_ns() + SPIN_NS;
    if (now_ns() < end) {
      cpu_pause();
      continue;
    }
    atomic_store(&p->caller_waits, true);
    state = atomic_load(&p->state);
    if (state & STATE_INSIDE) futex_wait(&p->state, state, WAIT_CALLER);
    atomic_store(&p->caller_waits, false);
  }
}

void pool_run(Pool *p, void (*body)(void *ctx, int64_t begin, int64_t end, int thread), void *ctx, int64_t n,
              int64_t grain) {
  BUG_IF(n < 0 || grain < 1, "a loop over %lld in chunks of %lld", (long long)n, (long long)grain);
  BUG_IF(atomic_exchange(&p->in_use, true), "two loops in one pool at the same time");
  FloatMode before = float_mode_enter();
  p->body = body;
  p->ctx = ctx;
  p->n = n;
  p->grain = grain;
  p->chunks = n / grain + (n % grain != 0);
  atomic_store_explicit(&p->next, 0, memory_order_relaxed);
  bool shared = p->threads > 1 && p->chunks > 1;
  if (shared) pool_open_loop(p);
  pool_run_chunks(p, 0);
  if (shared) pool_close_loop(p);
  float_mode_set(before);
  atomic_store(&p->in_use, false);
}
