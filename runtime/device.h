/* What a session needs of that which runs its kernels.  cpu/ and cuda/ are a device each, devices.c lists them; sessions,
 * decoding and weights know nothing else of them.
 *
 * Addresses are those that kernels see.  Where is_host they are host memory; elsewhere the host reaches them by copies
 * only.  What is enqueued (copies, clears, launches, replays) runs in order, and `wait` waits for it.  A function that
 * returns bool is false with the reason in err; after the first failure the session calls close and nothing else. */
#ifndef NUWA_DEVICE_H
#define NUWA_DEVICE_H

#include "runtime/base/pool.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"

typedef struct Device Device;
typedef struct DeviceRecord DeviceRecord;   /* the device's own */

typedef struct DeviceKind {
  /* Whether a product's algorithm reads as one; NULL where products cannot be launched. */
  bool (*check_algorithm)(const char *text, Error *err);
  /* Loads the code of a plan for this device.  Plan, options and pool must outlive the result. */
  Device *(*open)(const Plan *p, const NuwaOptions *o, Pool *pool, Error *err);
  void (*close)(Device *d);   /* frees everything that was got from it, records excepted */

  /* Before everything below, in the thread that calls it. */
  bool (*enter)(Device *d, Error *err);
  bool (*wait)(Device *d, Error *err);

  /* NULL on failure; `what` says in the error for what.  Aligned to PLAN_ALIGNMENT; cleared where is_host, in pages
   * that take no memory before they are written. */
  void *(*alloc)(Device *d, size_t bytes, const char *what, Error *err);
  /* Host memory from and to which copies are fast, cleared. */
  void *(*alloc_host)(Device *d, size_t bytes, Error *err);
  bool (*clear)(Device *d, void *to, size_t bytes, Error *err);
  /* From and to any host memory. */
  bool (*copy_in)(Device *d, void *to, const void *from, size_t bytes, Error *err);
  bool (*copy_out)(Device *d, void *to, const void *from, size_t bytes, Error *err);
  bool (*copy)(Device *d, void *to, const void *from, size_t bytes, Error *err);

  /* A launch of the plan on its operands' addresses [l->n_ref].  Allocates nothing. */
  bool (*launch)(Device *d, const PlanLaunch *l, void *const *ref, int64_t B, int64_t R, Error *err);
  /* The time of what is enqueued between the two; the second waits for it. */
  bool (*clock_start)(Device *d, Error *err);
  bool (*clock_stop)(Device *d, int64_t *out_ns, Error *err);

  /* Where it records: between begin and end what is enqueued is kept instead of running.  end is called whether or not
   * enqueueing worked (`ok`), and returns false when it did not. */
  bool (*record_begin)(Device *d, Error *err);
  bool (*record_end)(Device *d, bool ok, DeviceRecord **out, Error *err);
  bool (*replay)(Device *d, DeviceRecord *record, Error *err);
  void (*record_free)(Device *d, DeviceRecord *record);   /* NULL is fine */

  const char *(*name)(const Device *d);
  size_t (*bytes)(const Device *d);   /* that it holds beside what was allocated through it */
  bool (*is_kernel_compiled)(const Device *d, int kernel);
  const char *(*product_algorithm)(const Device *d, int product);
  size_t (*product_workspace)(const Device *d, int product);
} DeviceKind;

/* What every device begins with. */
struct Device {
  const DeviceKind *does;
  bool is_host;       /* kernels work in host memory */
  bool rounds_rows;   /* few different numbers of rows are better than the exact ones */
  bool records;
};

extern const DeviceKind cpu_device, cuda_device;

const DeviceKind *device_kind(PlanDevice d);

#endif
