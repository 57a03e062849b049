/* Capture of streams and replay of graphs.  Needs no NVRTC. */
#include <pthread.h>
#include <string.h>

#include "tests/gpu/emu_device.h"

enum { N = 64, BYTES = N * 4, NON_BLOCKING = 1, GLOBAL = 0, THREAD = 1, RELAXED = 2 };

/* x holds zeros. */
static bool open_zeroed(Device *v, uint64_t order, unsigned flags) {
  return device_open(v, order, flags, N) && cuMemsetD32_v2(v->x, 0, N) == 0 && cuCtxSynchronize() == 0;
}

static int first_of(CUdeviceptr p) {
  int got = -1;
  cuCtxSynchronize();
  cuMemcpyDtoH_v2(&got, p, 4);
  return got;
}

TEST("a replay does again what was captured; the capture itself does nothing") {
  Device v;
  CUgraph g;
  CUgraphExec x;
  int status = 9;
  size_t nodes = 0;
  REQUIRE(open_zeroed(&v, 0, NON_BLOCKING), "%s", emu_last_error());
  EXPECT_RUNS(cuStreamBeginCapture_v2(v.a, GLOBAL));
  EXPECT_RUNS(cuStreamIsCapturing(v.a, &status));
  EXPECT(status == 1, "%d", status);
  EXPECT_RUNS(add(&v, v.a, v.x, v.x, 2));
  EXPECT_RUNS(add(&v, v.a, v.y, v.x, 10));
  REQUIRE_RUNS(cuStreamEndCapture(v.a, &g));
  EXPECT_RUNS(cuStreamIsCapturing(v.a, &status));
  EXPECT(status == 0, "%d", status);
  EXPECT_RUNS(cuGraphGetNodes(g, NULL, &nodes));
  EXPECT(nodes == 2, "%zu nodes", nodes);
  EXPECT(first_of(v.x) == 0, "%d", first_of(v.x));
  REQUIRE_RUNS(cuGraphInstantiateWithFlags(&x, g, 0));
  EXPECT_RUNS(cuGraphDestroy(g));
  EXPECT(cuGraphDestroy(g) == 400, "destroyed twice");
  EXPECT_RUNS(cuGraphUpload(x, v.a));
  for (int k = 1; k <= 3; k++) {
    EXPECT_RUNS(cuGraphLaunch(x, v.a));
    EXPECT(first_of(v.y) == 2 * k + 10, "%d", first_of(v.y));
  }
  EXPECT_RUNS(cuGraphLaunch(x, v.a));
  EXPECT_RUNS(cuGraphLaunch(x, v.b));   /* a graph does not overlap itself */
  EXPECT_RUNS(cuGraphExecDestroy(x));
  EXPECT(first_of(v.y) == 20, "%d", first_of(v.y));
  EXPECT(cuGraphLaunch(x, v.a) == 400, "launched after its end");
}

TEST("a replay uses the parameters of the capture and the memory of now") {
  Device v;
  CUgraph g;
  CUgraphExec x;
  int step = 1;
  REQUIRE(open_zeroed(&v, 0, NON_BLOCKING), "%s", emu_last_error());
  void *params[] = {&v.y, &v.x, &step};
  cuStreamBeginCapture_v2(v.a, THREAD);
  EXPECT_RUNS(cuMemcpyHtoDAsync_v2(v.x, v.pinned, BYTES, v.a));
  EXPECT_RUNS(cuLaunchKernel(v.add, 1, 1, 1, N, 1, 1, 0, v.a, params, NULL));
  EXPECT_RUNS(cuMemsetD32Async(v.z, 77, N, v.a));
  REQUIRE_RUNS(cuStreamEndCapture(v.a, &g));
  REQUIRE_RUNS(cuGraphInstantiateWithFlags(&x, g, 0));
  for (step = 5; step < 8; step++) {   /* a mistake: the replay still adds 1 */
    for (int i = 0; i < N; i++) v.pinned[i] = 100 * step;
    EXPECT_RUNS(cuGraphLaunch(x, v.a));
    EXPECT(first_of(v.y) == 100 * step + 1, "%d in step %d", first_of(v.y), step);
  }
  EXPECT(first_of(v.z) == 77, "%d", first_of(v.z));
  cuModuleUnload(v.module);
  EXPECT(cuGraphLaunch(x, v.a) == 400, "its kernel is gone");
}

/* a: x = x + 1; b: y = x + 10; a: z = y + 100.  Joined or not where b begins, and where it ends. */
static CUresult fork_and_join(Device *v, bool fork, bool join, CUgraph *g) {
  cuStreamBeginCapture_v2(v->a, GLOBAL);
  add(v, v->a, v->x, v->x, 1);
  cuEventRecord(v->e, v->a);
  if (fork) cuStreamWaitEvent(v->b, v->e, 0);
  add(v, v->b, v->y, v->x, 10);
  CUresult code = cuEventRecord(v->e2, v->b);
  if (join) code = cuStreamWaitEvent(v->a, v->e2, 0);
  if (!code) code = add(v, v->a, v->z, v->y, 100);
  CUresult end = cuStreamEndCapture(v->a, g);
  return code ? code : end;
}

TEST("streams that wait for captured events are captured too") {
  Device v;
  CUgraph g;
  CUgraphExec x;
  for (uint64_t order = 0; order < 12; order++) {
    REQUIRE(open_zeroed(&v, order, NON_BLOCKING), "%s", emu_last_error());
    REQUIRE_RUNS(fork_and_join(&v, true, true, &g));
    REQUIRE_RUNS(cuGraphInstantiateWithFlags(&x, g, 0));
    for (int k = 1; k < 4; k++) EXPECT_RUNS(cuGraphLaunch(x, v.b));
    EXPECT(first_of(v.z) == 113, "%d", first_of(v.z));
    EXPECT(cuEventSynchronize(v.e) == 907, "the event of a capture");
  }
}

TEST("a stream that is not joined again, or not joined at all, is an error") {
  Device v;
  CUgraph g;
  REQUIRE(open_zeroed(&v, 0, NON_BLOCKING), "%s", emu_last_error());
  EXPECT(fork_and_join(&v, true, false, &g) == 904 && !g, "%s", emu_last_error());
  REQUIRE(open_zeroed(&v, 0, NON_BLOCKING), "%s", emu_last_error());
  EXPECT(fork_and_join(&v, false, true, &g) == 905 && !g, "%s", emu_last_error());
}

/* Calls that must not be made during a capture: each fails, and so does the end. */
static CUresult wait_stream(Device *v) { return cuStreamSynchronize(v->a); }
static CUresult wait_context(Device *v) { return cuCtxSynchronize(); }
static CUresult query_stream(Device *v) { return cuStreamQuery(v->a); }
static CUresult copy_and_wait(Device *v) { return cuMemcpyDtoH_v2(v->pinned, v->x, 4); }
static CUresult allocate(Device *v) { return cuMemAlloc_v2(&v->z, 4); }
static CUresult release(Device *v) { return cuMemFree_v2(v->z); }
static CUresult destroy(Device *v) { return cuStreamDestroy_v2(v->a); }
static CUresult captured_event(Device *v) { return cuEventRecord(v->e, v->a) ? -1 : cuEventSynchronize(v->e); }
static CUresult null_stream(Device *v) { return add(v, NULL, v->y, v->x, 1); }
static CUresult foreign_event(Device *v) {
  return cuEventRecord(v->e, v->b) ? -1 : cuStreamWaitEvent(v->a, v->e, 0);
}

TEST("what a capture forbids fails with the driver's code and spoils the capture") {
  static const struct { CUresult (*call)(Device *); int code; } cases[] = {
      {wait_stream, 900}, {wait_context, 900}, {query_stream, 900}, {copy_and_wait, 900}, {allocate, 900},
      {release, 900}, {destroy, 900}, {captured_event, 907}, {null_stream, 906}, {foreign_event, 905}};
  Device v;
  CUgraph g;
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    REQUIRE(open_zeroed(&v, 0, 0), "%s", emu_last_error());
    EXPECT_RUNS(cuStreamBeginCapture_v2(v.a, GLOBAL));
    EXPECT_RUNS(add(&v, v.a, v.y, v.x, 1));
    CUresult got = cases[k].call(&v);
    EXPECT(got == cases[k].code, "case %zu: %d: %s", k, got, emu_last_error());
    EXPECT(add(&v, v.a, v.y, v.x, 1) == 901, "case %zu: %s", k, emu_last_error());
    EXPECT(cuStreamEndCapture(v.a, &g) == 901 && !g, "case %zu: %s", k, emu_last_error());
    EXPECT_RUNS(add(&v, v.a, v.y, v.x, 1));   /* the stream is free again */
    EXPECT_RUNS(cuCtxSynchronize());
  }
}

TEST("a relaxed capture lets other work happen") {
  Device v;
  CUgraph g;
  REQUIRE(open_zeroed(&v, 0, NON_BLOCKING), "%s", emu_last_error());
  EXPECT_RUNS(cuStreamBeginCapture_v2(v.a, RELAXED));
  EXPECT_RUNS(add(&v, v.a, v.y, v.x, 1));
  EXPECT_RUNS(add(&v, v.b, v.z, v.x, 3));
  EXPECT_RUNS(cuStreamSynchronize(v.b));
  EXPECT(first_of(v.z) == 3, "%d", first_of(v.z));
  EXPECT(cuStreamSynchronize(v.a) == 900, "waited for a captured stream");
  EXPECT(cuStreamEndCapture(v.a, &g) == 901, "%s", emu_last_error());
}

static void *end_elsewhere(void *stream) {
  CUcontext c;
  CUgraph g;
  cuDevicePrimaryCtxRetain(&c, 0);
  cuCtxSetCurrent(c);
  return (void *)(intptr_t)cuStreamEndCapture(stream, &g);
}

TEST("captures begin and end where they should") {
  Device v;
  CUgraph g;
  void *code;
  pthread_t thread;
  REQUIRE(open_zeroed(&v, 0, NON_BLOCKING), "%s", emu_last_error());
  EXPECT(cuStreamBeginCapture_v2(NULL, GLOBAL) == 900, "captured the null stream");
  EXPECT(cuStreamBeginCapture_v2(v.a, 3) == 1, "mode 3");
  EXPECT(cuStreamEndCapture(v.a, &g) == 401, "ended what had not begun");
  EXPECT_RUNS(cuStreamBeginCapture_v2(v.a, GLOBAL));
  EXPECT(cuStreamBeginCapture_v2(v.a, GLOBAL) == 401, "began twice");
  pthread_create(&thread, NULL, end_elsewhere, v.a);
  pthread_join(thread, &code);
  EXPECT((intptr_t)code == 908, "%d", (int)(intptr_t)code);
  EXPECT_RUNS(cuEventRecord(v.e, v.a));
  EXPECT_RUNS(cuStreamWaitEvent(v.b, v.e, 0));
  EXPECT(cuStreamEndCapture(v.b, &g) == 903, "%s", emu_last_error());
  EXPECT(cuStreamEndCapture(v.a, &g) == 901, "%s", emu_last_error());
  EXPECT_RUNS(cuStreamBeginCapture_v2(v.a, GLOBAL));
  EXPECT_RUNS(cuStreamBeginCapture_v2(v.b, GLOBAL));
  EXPECT_RUNS(cuEventRecord(v.e, v.a));
  EXPECT(cuStreamWaitEvent(v.b, v.e, 0) == 902, "%s", emu_last_error());
}

TEST_MAIN()
