/* When work runs: streams, events and copies as late, and in as bad an order, as the driver may choose.
 * Every mistake is shown to be caught (a wrong value, or the read of what was never written) and its correct twin to
 * pass in every order.  Needs no NVRTC. */
#include <string.h>

#include "tests/gpu/emu_device.h"

enum { N = 256, ORDERS = 24, NON_BLOCKING = 1, BYTES = N * 4 };

/* Is p[i] == value + i, everything having been waited for? */
static bool holds(CUdeviceptr p, int value) {
  int got[N];
  if (cuCtxSynchronize() || cuMemcpyDtoH_v2(got, p, BYTES)) return false;
  for (int i = 0; i < N; i++)
    if (got[i] != value + i) return false;
  return true;
}

/* In how many orders does `run` give what it should?  Every one must be legal. */
typedef bool RunOrder(Device *v);
static int orders_right(RunOrder *run, unsigned flags) {
  Device v;
  int right = 0;
  for (uint64_t order = 0; order < ORDERS; order++) right += device_open(&v, order, flags, N) && run(&v);
  return right;
}

#define EXPECT_ALWAYS(run, flags)                                                                      \
  do {                                                                                                 \
    int right_ = orders_right(run, flags);                                                             \
    EXPECT(right_ == ORDERS, "right in %d orders: %s", right_, emu_last_error());                      \
  } while (0)
/* Wrong in the default order, and in some others. */
#define EXPECT_CAUGHT(run, flags)                                                                      \
  do {                                                                                                 \
    Device v_;                                                                                         \
    EXPECT(device_open(&v_, 0, flags, N) && !run(&v_), "right in the default order");                     \
    int right_ = orders_right(run, flags);                                                             \
    EXPECT(right_ < ORDERS - 4, "right in %d orders", right_);                                         \
  } while (0)

static bool two_in_one_stream(Device *v) {
  fill(v, v->a, v->x, 5);
  add(v, v->a, v->y, v->x, 1);
  add(v, v->a, v->z, v->y, 1);
  return holds(v->z, 7);
}

TEST("work in one stream runs in order") { EXPECT_ALWAYS(two_in_one_stream, NON_BLOCKING); }

static bool event_between(Device *v) {
  fill(v, v->a, v->x, 5);
  cuEventRecord(v->e, v->a);
  cuStreamWaitEvent(v->b, v->e, 0);
  add(v, v->b, v->y, v->x, 1);
  return holds(v->y, 6);
}
static bool event_missing(Device *v) {
  fill(v, v->a, v->x, 5);
  add(v, v->b, v->y, v->x, 1);
  return holds(v->y, 6);
}
static bool event_too_early(Device *v) {
  cuEventRecord(v->e, v->a);
  fill(v, v->a, v->x, 5);
  cuStreamWaitEvent(v->b, v->e, 0);
  add(v, v->b, v->y, v->x, 1);
  return holds(v->y, 6);
}

TEST("an event orders two streams; a missing one is caught, and one recorded too early") {
  EXPECT_ALWAYS(event_between, NON_BLOCKING);
  EXPECT_CAUGHT(event_missing, NON_BLOCKING);
  EXPECT_CAUGHT(event_missing, 0);
  EXPECT_CAUGHT(event_too_early, NON_BLOCKING);
  Device v;
  device_open(&v, 0, NON_BLOCKING, N);
  event_missing(&v);
  EXPECT_HAS(emu_last_error(), "kernel add: read of global memory never written");
}

static bool reader_waited_for(Device *v) {
  fill(v, v->a, v->x, 5);
  cuStreamSynchronize(v->a);
  add(v, v->b, v->y, v->x, 1);
  cuEventRecord(v->e, v->b);
  cuStreamWaitEvent(v->a, v->e, 0);
  fill(v, v->a, v->x, 50);
  return holds(v->y, 6);
}
static bool reader_not_waited_for(Device *v) {
  fill(v, v->a, v->x, 5);
  cuStreamSynchronize(v->a);
  add(v, v->b, v->y, v->x, 1);
  fill(v, v->a, v->x, 50);
  return cuStreamSynchronize(v->a) == 0 && holds(v->y, 6);
}

TEST("memory that another stream still reads must not be written") {
  EXPECT_ALWAYS(reader_waited_for, NON_BLOCKING);
  EXPECT_CAUGHT(reader_not_waited_for, NON_BLOCKING);
}

static bool event_kept(Device *v) {
  fill(v, v->a, v->x, 5);
  cuEventRecord(v->e, v->a);
  cuStreamWaitEvent(v->b, v->e, 0);
  cuEventRecord(v->e, v->b);   /* the wait is for what the event was then */
  cuEventDestroy_v2(v->e);
  cuStreamDestroy_v2(v->a);
  add(v, v->b, v->y, v->x, 1);
  return holds(v->y, 6);
}

TEST("a wait outlives its event, and work its stream") { EXPECT_ALWAYS(event_kept, NON_BLOCKING); }

static bool null_between(Device *v) {
  fill(v, v->a, v->x, 5);
  add(v, NULL, v->y, v->x, 1);
  add(v, v->b, v->z, v->y, 1);
  return holds(v->z, 7);
}

TEST("the null stream waits for blocking streams and they for it, non-blocking ones do not take part") {
  EXPECT_ALWAYS(null_between, 0);
  EXPECT_CAUGHT(null_between, NON_BLOCKING);
}

static bool upload_then_use(Device *v) {
  int host[N];
  for (int i = 0; i < N; i++) host[i] = 3 + i;
  cuMemcpyHtoD_v2(v->x, host, BYTES);
  memset(host, 0, sizeof host);   /* allowed: the driver has read it */
  add(v, v->a, v->y, v->x, 1);
  return holds(v->y, 4);
}

TEST("a small upload without Async is ordered for blocking streams only") {
  EXPECT_ALWAYS(upload_then_use, 0);
  EXPECT_CAUGHT(upload_then_use, NON_BLOCKING);
}

static void host_fill(int *host, int value) {
  for (int i = 0; i < N; i++) host[i] = value + i;
}
static bool host_reused_late(Device *v) {
  host_fill(v->pinned, 3);
  cuMemcpyHtoDAsync_v2(v->x, v->pinned, BYTES, v->a);
  cuEventRecord(v->e, v->a);
  cuEventSynchronize(v->e);
  host_fill(v->pinned, 100);
  return holds(v->x, 3);
}
static bool host_reused_early(Device *v) {
  host_fill(v->pinned, 3);
  cuMemcpyHtoDAsync_v2(v->x, v->pinned, BYTES, v->a);
  host_fill(v->pinned, 100);
  return holds(v->x, 3);
}
static bool pageable_reused_early(Device *v) {
  int host[N];
  host_fill(host, 3);
  cuMemcpyHtoDAsync_v2(v->x, host, BYTES, v->a);
  host_fill(host, 100);
  return holds(v->x, 3);
}

TEST("the source of an asynchronous copy must stay until it was waited for") {
  EXPECT_ALWAYS(host_reused_late, NON_BLOCKING);
  EXPECT_CAUGHT(host_reused_early, NON_BLOCKING);
  EXPECT_CAUGHT(pageable_reused_early, 0);
}

static bool result_waited_for(Device *v) {
  memset(v->pinned, 0, BYTES);
  fill(v, v->a, v->x, 8);
  cuMemcpyDtoHAsync_v2(v->pinned, v->x, BYTES, v->a);
  cuStreamSynchronize(v->a);
  return v->pinned[0] == 8 && v->pinned[N - 1] == 8 + N - 1;
}
static bool result_not_waited_for(Device *v) {
  memset(v->pinned, 0, BYTES);
  fill(v, v->a, v->x, 8);
  cuMemcpyDtoHAsync_v2(v->pinned, v->x, BYTES, v->a);
  cuStreamSynchronize(v->b);
  return v->pinned[0] == 8 && v->pinned[N - 1] == 8 + N - 1;
}

TEST("the result of an asynchronous copy is there once it was waited for, and not before") {
  EXPECT_ALWAYS(result_waited_for, NON_BLOCKING);
  EXPECT_CAUGHT(result_not_waited_for, NON_BLOCKING);
}

static bool freed_in_order(Device *v) {
  CUdeviceptr p;
  cuMemAllocAsync(&p, BYTES, v->a);
  fill(v, v->a, p, 5);
  add(v, v->a, v->y, p, 1);
  cuMemFreeAsync(p, v->a);
  return holds(v->y, 6);
}
static bool freed_by_another(Device *v) {
  CUdeviceptr p;
  cuMemAllocAsync(&p, BYTES, v->a);
  fill(v, v->a, p, 5);
  add(v, v->a, v->y, p, 1);
  cuMemFreeAsync(p, v->b);
  return holds(v->y, 6);
}

TEST("memory is freed in the order of its stream") {
  EXPECT_ALWAYS(freed_in_order, NON_BLOCKING);
  EXPECT_CAUGHT(freed_by_another, NON_BLOCKING);
}

TEST("queries say not ready once, then they are answered") {
  Device v;
  REQUIRE(device_open(&v, 0, NON_BLOCKING, N), "%s", emu_last_error());
  EXPECT_RUNS(cuStreamQuery(v.a));
  fill(&v, v.a, v.x, 1);
  cuEventRecord(v.e, v.a);
  EXPECT(cuEventQuery(v.e) == 600, "%s", emu_last_error());
  EXPECT_RUNS(cuEventQuery(v.e));
  fill(&v, v.a, v.x, 1);
  EXPECT(cuStreamQuery(v.a) == 600, "%s", emu_last_error());
  EXPECT_RUNS(cuStreamQuery(v.a));
  fill(&v, v.b, v.x, 1);
  EXPECT_RUNS(cuStreamQuery(v.a));
  EXPECT(cuStreamQuery(NULL) == 600, "%s", emu_last_error());
  EXPECT_RUNS(cuStreamQuery(NULL));
  EXPECT(cuEventRecord(v.e, (CUstream)v.e) == 400, "an event is no stream");
}

TEST("the failure of a kernel shows when it is waited for, and nothing runs after it") {
  Device v;
  REQUIRE(device_open(&v, 0, NON_BLOCKING, N), "%s", emu_last_error());
  EXPECT_RUNS(add(&v, v.a, v.y, v.x, 1));
  EXPECT_RUNS(fill(&v, v.a, v.z, 1));
  EXPECT_RUNS(cuStreamSynchronize(v.b));
  EXPECT(cuStreamSynchronize(v.a) == 719, "%s", emu_last_error());
  EXPECT(cuStreamSynchronize(v.b) == 719, "%s", emu_last_error());
  EXPECT(fill(&v, v.b, v.z, 1) == 719, "%s", emu_last_error());
}

TEST("thousands of launches may be under way at once") {
  Device v;
  REQUIRE(device_open(&v, 0, NON_BLOCKING, N), "%s", emu_last_error());
  fill(&v, v.a, v.x, 0);
  for (int k = 0; k < 3000; k++) add(&v, v.a, v.x, v.x, 1);
  EXPECT(holds(v.x, 3000), "%s", emu_last_error());
}

TEST("functions are found by their names without a version") {
  void *f = NULL;
  int status = -1;
  EXPECT_RUNS(cuGetProcAddress_v2("cuMemAlloc", &f, 12000, 0, &status));
  EXPECT(f == (void *)(uintptr_t)cuMemAlloc_v2 && status == 0, "status %d", status);
  EXPECT_RUNS(cuGetProcAddress_v2("cuInit", &f, 12000, 0, NULL));
  EXPECT(f == (void *)(uintptr_t)cuInit, "another function");
  EXPECT(cuGetProcAddress_v2("cuFrobnicate", &f, 12000, 0, &status) == 500 && status == 1 && !f, "found");
}

TEST_MAIN()
