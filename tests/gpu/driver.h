/* The state behind the emulated driver API.  There is one device and one context, as a process sees a real driver.
 *
 * Nothing runs when it is issued: every launch, copy and fill becomes a Work that knows what it must wait for, and
 * runs when somebody waits for it, in the order that emu_set_order chose (driver_stream.c).  A stream that is being
 * captured collects the same Works in a graph instead (driver_graph.c). */
#ifndef EMU_DRIVER_H
#define EMU_DRIVER_H

#include <pthread.h>

#include "tests/gpu/emucuda.h"
#include "tests/gpu/ptx_exec.h"

enum {   /* CUresult */
  CU_OK = 0, CU_INVALID_VALUE = 1, CU_OUT_OF_MEMORY = 2, CU_NOT_INITIALIZED = 3, CU_INVALID_DEVICE = 101,
  CU_INVALID_IMAGE = 200, CU_INVALID_CONTEXT = 201, CU_NO_BINARY = 209, CU_INVALID_PTX = 218, CU_INVALID_HANDLE = 400,
  CU_ILLEGAL_STATE = 401, CU_NOT_FOUND = 500, CU_NOT_READY = 600, CU_OUT_OF_RESOURCES = 701, CU_NOT_PERMITTED = 800,
  CU_NOT_SUPPORTED = 801, CU_CAPTURE_UNSUPPORTED = 900, CU_CAPTURE_INVALIDATED = 901, CU_CAPTURE_MERGE = 902,
  CU_CAPTURE_UNMATCHED = 903, CU_CAPTURE_UNJOINED = 904, CU_CAPTURE_ISOLATION = 905, CU_CAPTURE_IMPLICIT = 906,
  CU_CAPTURED_EVENT = 907, CU_CAPTURE_WRONG_THREAD = 908
};

typedef struct Loaded Loaded;
typedef struct KernelHandle {
  Loaded *module;
  const Function *kernel;
  int dynamic_limit;            /* bytes of dynamic shared memory that a launch may ask for */
} KernelHandle;
struct Loaded {
  Module *ptx;
  KernelHandle *kernel;         /* one for each of ptx->kernel */
};

/* What emu_enqueue was given, shared by the Works that were made of it. */
typedef struct HostTask {
  int refs;
  EmuWork work;
} HostTask;

typedef enum WorkKind { WORK_MARK, WORK_LAUNCH, WORK_COPY, WORK_FILL, WORK_FREE, WORK_HOST } WorkKind;

/* One thing to do on the device: queued in a stream, or a node of a graph. */
typedef struct Work Work;
struct Work {
  WorkKind kind;
  int refs;
  bool done, needed, asked;     /* asked: a query has found it unfinished */
  double seconds;               /* when it was done */
  Work **dep;                   /* what must be done before; held */
  int deps, dep_cap, number;    /* number: in its graph */
  const char *call;             /* for messages */
  KernelHandle *kernel;         /* LAUNCH */
  unsigned grid[3], block[3], dynamic_bytes;
  unsigned char *params;        /* copied when the launch is issued */
  CUdeviceptr to, from;         /* COPY, FILL, FREE: 0 where the host's pointers count */
  void *host_to;
  const void *host_from;
  unsigned char *staged;        /* the source, where the driver has read it already */
  size_t bytes;
  unsigned value;               /* FILL: bytes / elem times */
  int elem;
  HostTask *host;               /* HOST; held */
  bool after;                   /* for check_scratch: waits for the work in question */
};

typedef struct Graph {
  bool ready;                   /* instantiated: a CUgraphExec */
  Work **node;                  /* held; a node's deps come before it */
  int nodes, node_cap;
  Work *last;                   /* the end of the latest launch: a graph does not overlap itself; held, or NULL */
} Graph;

typedef struct Capture {
  uint64_t id;
  int mode;                     /* 0 global, 1 of the thread, 2 relaxed */
  bool invalid;
  struct Handle *origin;
  pthread_t thread;
  Graph *graph;
} Capture;

/* A stream or an event. */
typedef struct Handle {
  bool event;
  bool blocking, destroyed;     /* a stream: ordered with the null stream; gone, but its work is not done */
  bool recorded, timed;         /* an event */
  Work *tail;                   /* a stream's latest work, what an event stands for; held, or NULL */
  uint64_t capture;             /* 0, or the capture that the stream is in, that the event was recorded in */
  Work **front;                 /* there: what comes next waits for these nodes, which the graph holds */
  int fronts, front_cap;
} Handle;

typedef struct HostBlock {
  unsigned char *p;
  size_t bytes;
} HostBlock;

typedef struct Driver {
  bool initialised;
  int capability, retained;
  Memory memory;
  Loaded **module;
  int modules, module_cap;
  Handle null, **handle;
  int handles, handle_cap;
  HostBlock *host;              /* from cuMemAllocHost */
  int hosts, host_cap;
  Work **pending;               /* issued and not done, oldest first; held */
  int pendings, pending_cap;
  Graph **graph;
  int graphs, graph_cap;
  Capture *capture;
  int captures, capture_cap;
  uint64_t last_capture;
  uint64_t order, random;       /* emu_set_order's, and the state of the coin */
  int sticky;                   /* the failure of a kernel: every later call returns it */
  const Work *host_work;        /* the one whose function on the host runs, or NULL */
  int host_fault;               /* what it did wrong first */
  Scratch scratch;
  uint64_t step_limit, steps, all_steps, runs;
  char error[900], shown[1000]; /* the last failure, and the form cuGetErrorString gave out */
} Driver;

/* Locks the driver and checks that it may be called: initialised, a context current, no kernel has failed.  Always
 * pair with driver_leave, which unlocks and returns its argument.  NULL: *out_code says why, nothing is locked. */
Driver *driver_enter(CUresult *out_code);
Driver *driver_enter_unchecked(void);
CUresult driver_leave(Driver *d, CUresult code);
__attribute__((format(printf, 3, 4))) CUresult driver_fail(Driver *d, CUresult code, const char *fmt, ...);
/* Keeps the message and returns the code; does not unlock. */
__attribute__((format(printf, 3, 4))) CUresult driver_error(Driver *d, CUresult code, const char *fmt, ...);
int driver_attribute(int capability, int attribute);   /* -1: not known */
KernelHandle *driver_find_kernel(const Driver *d, CUfunction function);

/* ---- driver_stream.c ---- */

/* As driver_enter, for calls that wait for the device or may have to: a capture that forbids them is invalidated. */
Driver *driver_enter_waiting(CUresult *out_code, const char *call);
Handle *driver_stream(Driver *d, CUstream stream);   /* NULL if it is none */
Work *work_new(WorkKind kind, const char *call);
void work_wait_for(Work *w, Work *before);      /* done or NULL: nothing to wait for */
void work_release(Work *w);                     /* NULL is fine */
/* Hands w over to the stream or to its capture. */
CUresult driver_issue(Driver *d, Handle *s, Work *w);
/* Runs what w (NULL: everything) waits for, and w.  The device's failure so far. */
CUresult driver_finish(Driver *d, Work *w);
/* ... what the null stream waits for. */
CUresult driver_finish_null(Driver *d);
void driver_free_streams(Driver *d);

/* ---- driver_memory.c ---- */
CUresult driver_run_copy(Driver *d, const Work *w);   /* COPY, FILL or FREE */
void driver_free_host(Driver *d);

/* ---- driver_kernel.c ---- */
CUresult driver_run_launch(Driver *d, const Work *w);

/* ---- driver_host.c ---- */
/* The driver while a function of emu_enqueue's runs in this thread, which has then locked it; else NULL. */
Driver *driver_of_host_work(void);
__attribute__((format(printf, 3, 4))) CUresult driver_host_fault(Driver *d, CUresult code, const char *fmt, ...);
CUresult driver_run_host(Driver *d, Work *w);
void host_task_release(HostTask *t);            /* NULL is fine */

/* ---- driver_graph.c ---- */
Capture *driver_find_capture(Driver *d, uint64_t id);
/* May work be issued to s?  Using the null stream spoils captures of streams that are ordered with it. */
CUresult driver_check_capture(Driver *d, Handle *s);
/* Invalidates the capture that forbids a call which may wait, if there is one. */
CUresult driver_forbid_waiting(Driver *d, const char *call);
void graph_add(Graph *g, Handle *s, Work *w);
CUresult driver_wait_captured(Driver *d, Handle *s, Handle *e);
void driver_free_graphs(Driver *d);

#endif
