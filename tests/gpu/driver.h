/* The state behind the emulated driver API.  There is one device and one context, as a process sees a real driver. */
#ifndef EMU_DRIVER_H
#define EMU_DRIVER_H

#include "tests/gpu/emucuda.h"
#include "tests/gpu/ptx_exec.h"

enum {   /* CUresult */
  CU_OK = 0, CU_INVALID_VALUE = 1, CU_OUT_OF_MEMORY = 2, CU_NOT_INITIALIZED = 3, CU_INVALID_DEVICE = 101,
  CU_INVALID_IMAGE = 200, CU_INVALID_CONTEXT = 201, CU_NO_BINARY = 209, CU_INVALID_PTX = 218, CU_INVALID_HANDLE = 400,
  CU_NOT_FOUND = 500, CU_NOT_READY = 600, CU_OUT_OF_RESOURCES = 701, CU_NOT_SUPPORTED = 801
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

/* A stream or an event: they only have to be told from rubbish. */
typedef struct Handle {
  bool event, recorded;
  double seconds;               /* when the event was recorded */
} Handle;

typedef struct Driver {
  bool initialised;
  int capability, retained;
  Memory memory;
  Loaded **module;
  int modules, module_cap;
  Handle **handle;
  int handles, handle_cap;
  void **host;                  /* from cuMemAllocHost */
  int hosts, host_cap;
  int sticky;                   /* the failure of a kernel: every later call returns it */
  uint64_t step_limit, steps;
  char error[900], shown[1000]; /* the last failure, and the form cuGetErrorString gave out */
} Driver;

/* Locks the driver and checks that it may be called: initialised, a context current, no kernel has failed.  Always
 * pair with driver_leave, which unlocks and returns its argument.  NULL: *out_code says why, nothing is locked. */
Driver *driver_enter(CUresult *out_code);
Driver *driver_enter_unchecked(void);
CUresult driver_leave(Driver *d, CUresult code);
__attribute__((format(printf, 3, 4))) CUresult driver_fail(Driver *d, CUresult code, const char *fmt, ...);
bool driver_has_handle(const Driver *d, const void *p, bool event);
void driver_free_objects(Driver *d);   /* driver_memory.c's share of emu_reset */

#endif
