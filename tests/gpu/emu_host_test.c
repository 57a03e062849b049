/* Work of the host in the device's queues (emu_enqueue): when it runs, how it is captured, what is a fault, and that
 * its context lives exactly as long as somebody needs it.  Needs no NVRTC. */
#include "tests/gpu/emu_test.h"

enum { N = 64, BYTES = N * 4, ORDERS = 24, NON_BLOCKING = 1 };

typedef struct Device {
  CUstream a, b;
  CUevent e, e2;
  CUdeviceptr x, y, z, scratch;
} Device;

static bool device_open(Device *v, uint64_t order) {
  *v = (Device){0};
  device_fresh();
  cuStreamCreate(&v->a, NON_BLOCKING);
  cuStreamCreate(&v->b, NON_BLOCKING);
  cuEventCreate(&v->e, 2);
  cuEventCreate(&v->e2, 2);
  cuMemAlloc_v2(&v->x, BYTES);
  cuMemAlloc_v2(&v->y, BYTES);
  cuMemAlloc_v2(&v->z, BYTES);
  cuMemAlloc_v2(&v->scratch, BYTES);
  emu_set_order(order);
  return cuCtxSynchronize() == 0;
}

/* to[i] = from[i] + value; from 0: to[i] = value */
typedef struct Add {
  CUdeviceptr to, from;
  int value;
} Add;
static int ran, held;   /* how often any ran; contexts not released */

static CUresult add_run(void *context) {
  const Add *a = context;
  int x[N] = {0};
  ran++;
  CUresult code = a->from ? emu_read(x, a->from, BYTES) : 0;
  for (int i = 0; i < N; i++) x[i] += a->value;
  return code ? code : emu_write(a->to, x, BYTES);
}

static void context_release(void *context) {
  held--;
  free(context);
}

static EmuWork add_work(CUdeviceptr to, CUdeviceptr from, int value) {
  Add *a = malloc(sizeof *a);
  *a = (Add){to, from, value};
  held++;
  return (EmuWork){"add", add_run, a, context_release, 0, 0};
}

static CUresult add(CUstream s, CUdeviceptr to, CUdeviceptr from, int value) {
  EmuWork w = add_work(to, from, value);
  return emu_enqueue(s, &w);
}

static CUresult add_with_scratch(CUstream s, CUdeviceptr to, int value, CUdeviceptr scratch, size_t bytes) {
  EmuWork w = add_work(to, 0, value);
  w.scratch = scratch;
  w.scratch_bytes = bytes;
  return emu_enqueue(s, &w);
}

static int first_of(CUdeviceptr p) {
  int got = -1;
  if (cuCtxSynchronize()) return -1;
  cuMemcpyDtoH_v2(&got, p, 4);
  return got;
}

/* In how many orders does `run` give what it should? */
typedef bool RunOrder(Device *v);
static int orders_right(RunOrder *run) {
  Device v;
  int right = 0;
  for (uint64_t order = 0; order < ORDERS; order++) right += device_open(&v, order) && run(&v);
  return right;
}
#define EXPECT_ALWAYS(run) EXPECT(orders_right(run) == ORDERS, #run ": %s", emu_last_error())
#define EXPECT_CAUGHT(run)                                                                             \
  do {                                                                                                 \
    Device v_;                                                                                         \
    EXPECT(device_open(&v_, 0) && !run(&v_), #run " is right in the default order");                   \
    EXPECT(orders_right(run) < ORDERS - 4, #run " is right in %d orders", orders_right(run));          \
  } while (0)

TEST("the host's work runs when it is waited for, in the order of its stream") {
  Device v;
  REQUIRE(device_open(&v, 0), "%s", emu_last_error());
  ran = 0;
  EXPECT_RUNS(add(v.a, v.x, 0, 5));
  EXPECT_RUNS(add(v.b, v.z, 0, 9));
  EXPECT_RUNS(add(v.a, v.y, v.x, 1));
  EXPECT(ran == 0, "%d have run", ran);
  EXPECT_RUNS(cuStreamSynchronize(v.a));
  EXPECT(ran == 2, "%d have run", ran);
  EXPECT(first_of(v.y) == 6 && ran == 3, "%d, %d have run", first_of(v.y), ran);
  EXPECT(held == 0, "%d contexts are left", held);
}

static bool event_between(Device *v) {
  add(v->a, v->x, 0, 5);
  cuEventRecord(v->e, v->a);
  cuStreamWaitEvent(v->b, v->e, 0);
  add(v->b, v->y, v->x, 1);
  return first_of(v->y) == 6;
}
static bool event_missing(Device *v) {
  add(v->a, v->x, 0, 5);
  add(v->b, v->y, v->x, 1);
  return first_of(v->y) == 6;
}
static bool overwritten_early(Device *v) {
  add(v->a, v->x, 0, 5);
  cuStreamSynchronize(v->a);
  add(v->b, v->y, v->x, 1);
  cuMemsetD32Async(v->x, 70, N, v->a);
  return cuStreamSynchronize(v->a) == 0 && first_of(v->y) == 6;
}

TEST("an event orders it with another stream; a missing one is caught") {
  EXPECT_ALWAYS(event_between);
  EXPECT_CAUGHT(event_missing);
  EXPECT_CAUGHT(overwritten_early);
  Device v;
  device_open(&v, 0);
  event_missing(&v);
  EXPECT_HAS(emu_last_error(), "add: read of global memory never written: offset 0 of the 256 bytes");
}

/* a: x += 1; b: y = x + 10; a: z = y + 100 */
static CUgraph fork_and_join(Device *v) {
  CUgraph g = NULL;
  cuMemsetD32Async(v->x, 0, N, v->a);
  cuStreamBeginCapture_v2(v->a, 0);
  add(v->a, v->x, v->x, 1);
  cuEventRecord(v->e, v->a);
  cuStreamWaitEvent(v->b, v->e, 0);
  add(v->b, v->y, v->x, 10);
  cuEventRecord(v->e2, v->b);
  cuStreamWaitEvent(v->a, v->e2, 0);
  add(v->a, v->z, v->y, 100);
  cuStreamEndCapture(v->a, &g);
  return g;
}

TEST("captured work runs once for every replay, and its context lives as long as graph and executables") {
  Device v;
  CUgraphExec x, second;
  for (uint64_t order = 0; order < ORDERS; order++) {
    REQUIRE(device_open(&v, order), "%s", emu_last_error());
    ran = 0;
    CUgraph g = fork_and_join(&v);
    REQUIRE(g && held == 3 && ran == 0, "%d contexts, %d have run: %s", held, ran, emu_last_error());
    REQUIRE_RUNS(cuGraphInstantiateWithFlags(&x, g, 0));
    REQUIRE_RUNS(cuGraphInstantiateWithFlags(&second, g, 0));
    EXPECT_RUNS(cuGraphDestroy(g));
    for (int k = 1; k < 4; k++) EXPECT_RUNS(cuGraphLaunch(x, v.a));
    EXPECT(first_of(v.z) == 113 && ran == 9, "%d, %d have run: %s", first_of(v.z), ran, emu_last_error());
    EXPECT_RUNS(cuGraphExecDestroy(x));
    EXPECT(held == 3, "%d contexts while an executable is left", held);
    EXPECT_RUNS(cuGraphLaunch(second, v.a));
    EXPECT_RUNS(cuGraphExecDestroy(second));   /* its launch may still be under way */
    EXPECT(first_of(v.z) == 114, "%d: %s", first_of(v.z), emu_last_error());
    EXPECT(held == 0, "%d contexts are left", held);
  }
}

TEST("a context is released once, whatever becomes of its work") {
  Device v;
  CUgraph g;
  REQUIRE(device_open(&v, 0), "%s", emu_last_error());
  EXPECT(add((CUstream)v.e, v.x, 0, 1) == 400 && held == 0, "an event is no stream: %d left", held);
  EXPECT_HAS(emu_last_error(), "add: this is no stream");
  cuStreamBeginCapture_v2(v.a, 0);
  EXPECT(cuCtxSynchronize() == 900 && add(v.a, v.x, 0, 1) == 901 && held == 0, "invalid capture: %d left", held);
  EXPECT(cuStreamEndCapture(v.a, &g) == 901, "%s", emu_last_error());
  REQUIRE(fork_and_join(&v), "%s", emu_last_error());
  add(v.a, v.x, 0, 1);
  EXPECT(held == 4, "%d contexts", held);
  emu_reset();
  EXPECT(held == 0, "%d contexts after the reset", held);
  EXPECT(add(NULL, v.x, 0, 1) == 3 && held == 0, "before cuInit: %d left", held);
  REQUIRE(device_open(&v, 0), "%s", emu_last_error());
  add(v.a, v.x, v.y, 1);   /* a fault; the others never run */
  add(v.a, v.y, 0, 1);
  add(v.b, v.z, 0, 1);
  ran = 0;
  EXPECT(cuStreamSynchronize(v.a) == 719 && held == 0 && ran == 1, "%d contexts, %d have run", held, ran);
  EXPECT(add(v.a, v.x, 0, 1) == 719 && held == 0, "after the fault: %d left", held);
}

/* ---- faults ---- */

typedef struct Mistake {
  CUresult (*run)(void *context);
  CUresult code;
  const char *words;
} Mistake;

static CUresult read_unwritten(void *context) {
  const Device *v = context;
  char c[8];
  if (emu_read(c, v->x, 4) || emu_read(NULL, v->x, 8)) return 0;
  return 0;
}
static CUresult read_beyond(void *context) { return emu_read(NULL, ((Device *)context)->x + 1, BYTES); }
static CUresult write_beyond(void *context) {
  char c[16] = {0};
  return emu_write(((Device *)context)->x + BYTES - 8, c, sizeof c);
}
static CUresult write_nowhere(void *context) {
  char c = 0;
  emu_write(16, &c, 1);
  emu_read(&c, ((Device *)context)->x, 1);   /* does nothing any more, nor hides the first */
  return 0;
}
static CUresult forget_beyond(void *context) { return emu_forget(((Device *)context)->x, BYTES + 1); }
static CUresult call_driver(void *context) {
  char c = 0;
  CUresult code = cuMemcpyHtoD_v2(((Device *)context)->x, &c, 1);
  return code == 800 ? 0 : 1;
}
static CUresult return_failure(void *context) { return 2; }

TEST("what it does wrong is a fault of the device, which it cannot hide") {
  static const Mistake mistakes[] = {
      {read_unwritten, 719, "careless: read of global memory never written: offset 4 of the 256 bytes at 0x7"},
      {read_beyond, 700, "careless: it reads 256 bytes at 0x7"},
      {write_beyond, 700, "careless: it writes 16 bytes at 0x7"},
      {write_nowhere, 700, "careless: it writes 1 bytes at 0x10, which are not inside one allocation"},
      {forget_beyond, 700, "careless: it writes 257 bytes at 0x7"},
      {call_driver, 800, "careless: its function on the host called the driver"},
      {return_failure, 2, "careless: its function on the host returned 2"}};
  Device v;
  const char *text;
  for (int k = 0; k < (int)(sizeof mistakes / sizeof *mistakes); k++) {
    REQUIRE(device_open(&v, 0), "%s", emu_last_error());
    cuMemsetD8_v2(v.x, 0, 4);
    EmuWork w = {"careless", mistakes[k].run, &v, NULL, 0, 0};
    EXPECT_RUNS(emu_enqueue(NULL, &w));
    EXPECT(cuCtxSynchronize() == mistakes[k].code, "mistake %d", k);
    EXPECT(cuStreamSynchronize(v.b) == mistakes[k].code, "mistake %d does not stay", k);
    EXPECT_HAS(emu_last_error(), mistakes[k].words);
    cuGetErrorString(mistakes[k].code, &text);
    EXPECT_HAS(text, "careless: ");
  }
}

TEST("memory of constants cannot be written, and outside of the work nothing can be touched") {
  static const char ptx[] = ".version 8.0\n.target sm_75\n.address_size 64\n.visible .const .align 4 .b8 c[256];\n";
  Device v;
  CUmodule m;
  CUdeviceptr c;
  char byte = 0;
  REQUIRE(device_open(&v, 0), "%s", emu_last_error());
  EXPECT(emu_read(&byte, v.x, 1) == 401 && emu_write(v.x, &byte, 1) == 401 && emu_forget(v.x, 1) == 401, "outside");
  REQUIRE_RUNS(cuModuleLoadData(&m, ptx));
  REQUIRE_RUNS(cuModuleGetGlobal_v2(&c, NULL, m, "c"));
  EXPECT_RUNS(add(v.a, c, 0, 1));
  EXPECT(cuCtxSynchronize() == 700, "%s", emu_last_error());
  EXPECT_HAS(emu_last_error(), "add: write to constant memory");
}

/* Writes 61 bytes from byte 3 on and forgets those from 9 to 30. */
static CUresult write_and_forget(void *context) {
  const Device *v = context;
  char c[61] = {0};
  CUresult code = emu_write(v->x + 3, c, sizeof c);
  if (!code) code = emu_read(NULL, v->x + 3, sizeof c);
  if (!code) code = emu_forget(v->x + 9, 22);
  if (!code) code = emu_read(NULL, v->x + 3, 6);
  if (!code) code = emu_read(NULL, v->x + 31, 33);
  return code;
}

TEST("memory is written and forgotten byte by byte") {
  Device v;
  for (int k = 0; k < 2; k++) {
    REQUIRE(device_open(&v, 0), "%s", emu_last_error());
    EmuWork w = {"bytes", write_and_forget, &v, NULL, 0, 0};
    EXPECT_RUNS(emu_enqueue(NULL, &w));
    EXPECT_RUNS(cuCtxSynchronize());
  }
  EXPECT_RUNS(add(v.a, v.y, v.x, 0));
  EXPECT(cuCtxSynchronize() == 719, "forgotten memory was read");
}

/* ---- scratch memory ---- */

static bool scratch_in_one_stream(Device *v) {
  add_with_scratch(v->a, v->x, 1, v->scratch, BYTES);
  add_with_scratch(v->a, v->y, 2, v->scratch, BYTES);
  return first_of(v->x) == 1 && first_of(v->y) == 2;
}
static bool scratch_and_event(Device *v) {
  add_with_scratch(v->a, v->x, 1, v->scratch, BYTES);
  cuEventRecord(v->e, v->a);
  cuStreamWaitEvent(v->b, v->e, 0);
  add_with_scratch(v->b, v->y, 2, v->scratch, BYTES);
  return first_of(v->x) == 1 && first_of(v->y) == 2;
}
static bool scratch_apart(Device *v) {
  add_with_scratch(v->a, v->x, 1, v->scratch, BYTES / 2);
  add_with_scratch(v->b, v->y, 2, v->scratch + BYTES / 2, BYTES / 2);
  add_with_scratch(v->b, v->z, 3, 0, 0);
  return first_of(v->x) == 1 && first_of(v->y) == 2;
}
static bool scratch_twice(Device *v) {
  add_with_scratch(v->a, v->x, 1, v->scratch, BYTES / 2 + 1);
  add_with_scratch(v->b, v->y, 2, v->scratch + BYTES / 2, BYTES / 2);
  return first_of(v->x) == 1 && first_of(v->y) == 2;
}
static bool scratch_twice_in_graph(Device *v) {
  CUgraph g;
  CUgraphExec x;
  cuStreamBeginCapture_v2(v->a, 0);
  cuEventRecord(v->e, v->a);
  cuStreamWaitEvent(v->b, v->e, 0);
  add_with_scratch(v->a, v->x, 1, v->scratch, BYTES);
  add_with_scratch(v->b, v->y, 2, v->scratch, BYTES);
  cuEventRecord(v->e2, v->b);
  cuStreamWaitEvent(v->a, v->e2, 0);
  if (cuStreamEndCapture(v->a, &g) || cuGraphInstantiateWithFlags(&x, g, 0) || cuGraphLaunch(x, v->a)) return false;
  return first_of(v->x) == 1 && first_of(v->y) == 2;
}

TEST("scratch memory may be used twice in one stream or behind an event, not twice at the same time") {
  EXPECT_ALWAYS(scratch_in_one_stream);
  EXPECT_ALWAYS(scratch_and_event);
  EXPECT_ALWAYS(scratch_apart);
  EXPECT_CAUGHT(scratch_twice);
  EXPECT_CAUGHT(scratch_twice_in_graph);
  Device v;
  device_open(&v, 0);
  scratch_twice(&v);
  EXPECT_HAS(emu_last_error(), "add: its scratch memory of 128 bytes at 0x7");
  EXPECT_HAS(emu_last_error(), "may be in use by another add at the same time: no event orders them");
}

TEST("what was in scratch memory is lost") {
  Device v;
  REQUIRE(device_open(&v, 0), "%s", emu_last_error());
  EXPECT_RUNS(add(v.a, v.scratch, 0, 1));
  EXPECT_RUNS(add_with_scratch(v.a, v.x, 1, v.scratch + 200, 8));
  EXPECT_RUNS(add(v.a, v.y, v.scratch, 1));
  EXPECT(cuCtxSynchronize() == 719, "%s", emu_last_error());
  EXPECT_HAS(emu_last_error(), "never written: offset 200 of");
}

TEST_MAIN()
