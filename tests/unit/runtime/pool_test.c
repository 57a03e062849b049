#include "runtime/base/pool.h"

#include <float.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/hooks.h"
#include "runtime/base/memory.h"
#include "tests/test.h"

enum { MOST = 1000 };

typedef struct Visits {
  int count[MOST];
  atomic_int chunks, odd_chunks, bad_thread;
  int64_t n, grain;
  int threads;
} Visits;

static void visit(void *ctx, int64_t begin, int64_t end, int thread) {
  Visits *v = ctx;
  atomic_fetch_add(&v->chunks, 1);
  int64_t want = v->n - begin < v->grain ? v->n - begin : v->grain;
  if (begin % v->grain || end - begin != want) atomic_fetch_add(&v->odd_chunks, 1);
  if (thread < 0 || thread >= v->threads) atomic_fetch_add(&v->bad_thread, 1);
  for (int64_t i = begin; i < end; i++) v->count[i]++;
}

static void check_visits(Pool *p, int64_t n, int64_t grain) {
  static Visits v;
  v = (Visits){.n = n, .grain = grain, .threads = pool_threads(p)};
  pool_run(p, visit, &v, n, grain);
  int wrong = 0;
  for (int i = 0; i < MOST; i++) wrong += v.count[i] != (i < n);
  EXPECT(wrong == 0, "n %d grain %d: %d elements", (int)n, (int)grain, wrong);
  EXPECT(v.chunks == (n + grain - 1) / grain, "n %d grain %d: %d chunks", (int)n, (int)grain, v.chunks);
  EXPECT(v.odd_chunks == 0 && v.bad_thread == 0, "n %d grain %d", (int)n, (int)grain);
}

TEST("every element is visited once, in chunks of the grain, for any number of threads") {
  static const int threads[] = {1, 2, 3, 8};
  static const int sizes[] = {0, 1, 2, 7, 64, 997};
  for (int t = 0; t < COUNT_OF(threads); t++) {
    Error err = {0};
    Pool *p = pool_new(threads[t], &err);
    REQUIRE(p, "%s", err.text);
    EXPECT(pool_threads(p) == threads[t], "%d", pool_threads(p));
    for (int s = 0; s < COUNT_OF(sizes); s++)
      for (int grain = 1; grain <= 1000; grain = grain * 3 + 1) check_visits(p, sizes[s], grain);
    pool_free(p);
  }
}

TEST("one loop after the other, each sees what the last one wrote") {
  Error err = {0};
  Pool *p = pool_new(4, &err);
  REQUIRE(p, "%s", err.text);
  static Visits v;
  v = (Visits){.n = 64, .grain = 1, .threads = 4};
  for (int i = 0; i < 20000; i++) pool_run(p, visit, &v, 64, 1);
  int wrong = 0;
  for (int i = 0; i < 64; i++) wrong += v.count[i] != 20000;
  EXPECT(wrong == 0, "%d elements lost a visit", wrong);
  pool_free(p);
}

static void sleep_ms(int ms) {
  struct timespec t = {.tv_nsec = ms * 1000000L};
  nanosleep(&t, NULL);
}

TEST("workers wake up again after they went to sleep") {
  Error err = {0};
  Pool *p = pool_new(3, &err);
  REQUIRE(p, "%s", err.text);
  for (int i = 0; i < 20; i++) {
    sleep_ms(2);
    check_visits(p, 100, 3);
  }
  pool_free(p);
}

static void meet(void *ctx, int64_t begin, int64_t end, int thread) {
  atomic_int *inside = ctx;
  atomic_fetch_add(inside, 1);
  for (int i = 0; i < 5000 && atomic_load(inside) < 2; i++) sleep_ms(1);
}

TEST("a sleeping worker takes part: two chunks that wait for each other both run") {
  Error err = {0};
  Pool *p = pool_new(2, &err);
  REQUIRE(p, "%s", err.text);
  for (int i = 0; i < 5; i++) {
    atomic_int inside = 0;
    sleep_ms(3);
    pool_run(p, meet, &inside, 2, 1);
    EXPECT(inside == 2, "%d", inside);
  }
  pool_free(p);
}

static void stall(void *ctx, int64_t begin, int64_t end, int thread) {
  if (thread) sleep_ms(5);
  else sleep_ms(1);
  atomic_fetch_add((atomic_int *)ctx, 1);
}

TEST("the caller waits for a worker that is slower than it") {
  Error err = {0};
  Pool *p = pool_new(4, &err);
  REQUIRE(p, "%s", err.text);
  for (int i = 0; i < 10; i++) {
    atomic_int done = 0;
    pool_run(p, stall, &done, 8, 1);
    EXPECT(done == 8, "%d", done);
  }
  pool_free(p);
}

typedef struct Halves {
  volatile float tiny[64], half[64];
} Halves;

static void halve(void *ctx, int64_t begin, int64_t end, int thread) {
  Halves *h = ctx;
  for (int64_t i = begin; i < end; i++) h->half[i] = h->tiny[i] * 0.5f;
  if (thread == 0) sleep_ms(1); /* leaves some to the workers */
}

static void check_flush(int threads) {
  Error err = {0};
  Halves h;
  Pool *p = pool_new(threads, &err);
  REQUIRE(p, "%s", err.text);
  for (int i = 0; i < 64; i++) h.tiny[i] = i % 2 ? FLT_MIN : FLT_MIN / 4;
  pool_run(p, halve, &h, 64, 1);
  for (int i = 0; i < 64; i++) EXPECT(h.half[i] == 0, "%g", (double)h.half[i]);
  h.half[0] = h.tiny[1] * 0.5f;
  EXPECT(h.half[0] == FLT_MIN / 2 && h.half[0] > 0, "outside of the pool denormals are kept");
  pool_free(p);
}

TEST("denormals are flushed inside, and kept outside") {
  check_flush(1);
  check_flush(4);
}

TEST("a loop allocates nothing") {
  Error err = {0};
  Pool *p = pool_new(2, &err);
  REQUIRE(p, "%s", err.text);
  uint64_t before = mem_alloc_count();
  check_visits(p, 100, 1);
  EXPECT(mem_alloc_count() == before, "%d allocations", (int)(mem_alloc_count() - before));
  pool_free(p);
}

TEST("a pool that cannot be is refused") {
  Error err = {0};
  EXPECT(!pool_new(0, &err), "0 threads");
  EXPECT_HAS(err.text, "a pool of 0 threads");
  EXPECT(!pool_new(POOL_MAX_THREADS + 1, &err), "too many threads");
  for (uint64_t n = 1; n <= 2; n++) {
    mem_fail_at(n);
    err = (Error){0};
    EXPECT(!pool_new(2, &err) && err.code == ERROR_MEMORY, "allocation %d", (int)n);
  }
  mem_fail_at(0);
  pool_free(NULL);
}

static void *run_from_thread(void *pool) {
  check_visits(pool, 500, 7);
  return NULL;
}

TEST("loops may come from different threads, one after the other") {
  Error err = {0};
  Pool *p = pool_new(3, &err);
  REQUIRE(p, "%s", err.text);
  for (int i = 0; i < 10; i++) {
    pthread_t t;
    REQUIRE(pthread_create(&t, NULL, run_from_thread, p) == 0, "no thread");
    pthread_join(t, NULL);
    check_visits(p, 500, 7);
  }
  pool_free(p);
}

TEST("the machine has at least one processor") { EXPECT(pool_count_processors() >= 1, "none"); }

TEST_MAIN()
