/* The emulated driver: memory, streams and events.  Streams run in order, so an asynchronous copy is a copy. */
#include "tests/gpu/driver.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  *free_bytes = d->memory.limit - d->memory.used;
  *total_bytes = d->memory.limit;
  return driver_leave(d, CU_OK);
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  if (!bytes) return driver_fail(d, CU_INVALID_VALUE, "cuMemAlloc of 0 bytes");
  *address = memory_alloc(&d->memory, bytes);
  if (!*address)
    return driver_fail(d, CU_OUT_OF_MEMORY, "cuMemAlloc of %zu bytes, %zu of %zu are free", bytes,
                       d->memory.limit - d->memory.used, d->memory.limit);
  return driver_leave(d, CU_OK);
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  if (address && !memory_free(&d->memory, address))
    return driver_fail(d, CU_INVALID_VALUE, "cuMemFree: %#llx was not allocated", address);
  return driver_leave(d, CU_OK);
}

CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned flags) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  *p = bytes ? malloc(bytes) : NULL;
  if (!*p) return driver_fail(d, bytes ? CU_OUT_OF_MEMORY : CU_INVALID_VALUE, "cuMemHostAlloc of %zu bytes", bytes);
  EMU_PUSH(d->host, d->hosts, d->host_cap, *p);
  return driver_leave(d, CU_OK);
}

CUresult cuMemAllocHost_v2(void **p, size_t bytes) { return cuMemHostAlloc(p, bytes, 0); }

CUresult cuMemFreeHost(void *p) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  for (int k = 0; k < d->hosts; k++)
    if (d->host[k] == p) {
      free(p);
      d->host[k] = d->host[--d->hosts];
      return driver_leave(d, CU_OK);
    }
  return driver_fail(d, CU_INVALID_VALUE, "cuMemFreeHost: this memory is not the driver's");
}

/* The bytes of a device range, or NULL when it is not inside one allocation. */
static Allocation *find_range(Driver *d, CUdeviceptr address, size_t bytes) {
  Allocation *a = memory_find(&d->memory, address);
  return a && bytes <= a->bytes - (address - a->address) ? a : NULL;
}

static CUresult fail_range(Driver *d, const char *call, CUdeviceptr address, size_t bytes) {
  return driver_fail(d, CU_INVALID_VALUE, "%s: %zu bytes at %#llx are not inside one allocation", call, bytes,
                     address);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  if (!bytes) return driver_leave(d, CU_OK);
  Allocation *a = find_range(d, to, bytes);
  if (!a) return fail_range(d, "cuMemcpyHtoD", to, bytes);
  memcpy(a->data + (to - a->address), from, bytes);
  memory_mark_written(a, to, bytes);
  return driver_leave(d, CU_OK);
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  if (!bytes) return driver_leave(d, CU_OK);
  Allocation *a = find_range(d, from, bytes);
  if (!a) return fail_range(d, "cuMemcpyDtoH", from, bytes);
  memcpy(to, a->data + (from - a->address), bytes);
  return driver_leave(d, CU_OK);
}

/* What was never written stays so at its new place. */
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  if (!bytes) return driver_leave(d, CU_OK);
  Allocation *a = find_range(d, to, bytes), *b = find_range(d, from, bytes);
  if (!a || !b) return fail_range(d, "cuMemcpyDtoD", a ? from : to, bytes);
  size_t at = (size_t)(to - a->address), source = (size_t)(from - b->address);
  if (a == b && (at < source ? source - at : at - source) < bytes)
    return driver_fail(d, CU_INVALID_VALUE, "cuMemcpyDtoD: the ranges overlap");
  memcpy(a->data + at, b->data + source, bytes);
  for (size_t k = 0; k < bytes; k++) {
    unsigned set = b->written[(source + k) / 8] >> (source + k) % 8 & 1;
    unsigned char *w = &a->written[(at + k) / 8];
    *w = (unsigned char)((*w & ~(1u << (at + k) % 8)) | set << (at + k) % 8);
  }
  return driver_leave(d, CU_OK);
}

/* n elements of `bytes` each. */
static CUresult memset_device(const char *call, CUdeviceptr to, const void *value, size_t bytes, size_t n) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  if (!n) return driver_leave(d, CU_OK);
  Allocation *a = n <= SIZE_MAX / bytes ? find_range(d, to, n * bytes) : NULL;
  if (!a) return fail_range(d, call, to, n * bytes);
  if (to % bytes)
    return driver_fail(d, CU_INVALID_VALUE, "%s: address %#llx is not a multiple of %zu", call, to, bytes);
  for (size_t k = 0; k < n; k++) memcpy(a->data + (to - a->address) + k * bytes, value, bytes);
  memory_mark_written(a, to, n * bytes);
  return driver_leave(d, CU_OK);
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t n) {
  return memset_device("cuMemsetD8", to, &value, sizeof value, n);
}

CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t n) {
  return memset_device("cuMemsetD32", to, &value, sizeof value, n);
}

/* ---- streams and events ---- */

/* The null stream always exists. */
bool driver_has_handle(const Driver *d, const void *p, bool event) {
  if (!p) return !event;
  for (int k = 0; k < d->handles; k++)
    if (d->handle[k] == p) return d->handle[k]->event == event;
  return false;
}

void driver_free_objects(Driver *d) {
  for (int k = 0; k < d->handles; k++) free(d->handle[k]);
  for (int k = 0; k < d->hosts; k++) free(d->host[k]);
  free(d->handle);
  free(d->host);
}

/* NULL, and the code to return, unless the driver may be called and p is a stream or an event. */
static Driver *enter_with(CUresult *out_code, const char *call, const void *p, bool event) {
  Driver *d = driver_enter(out_code);
  if (!d || driver_has_handle(d, p, event)) return d;
  *out_code = driver_fail(d, CU_INVALID_HANDLE, "%s: this is no %s", call, event ? "event" : "stream");
  return NULL;
}

static CUresult handle_new(void **out, bool event) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  Handle *h = emu_alloc(sizeof *h);
  h->event = event;
  EMU_PUSH(d->handle, d->handles, d->handle_cap, h);
  *out = h;
  return driver_leave(d, CU_OK);
}

static CUresult handle_free(const char *call, void *p, bool event) {
  CUresult code;
  Driver *d = enter_with(&code, call, p, event);
  if (!d) return code;
  for (int k = 0; k < d->handles; k++)
    if (d->handle[k] == p) {
      free(p);
      d->handle[k] = d->handle[--d->handles];
      return driver_leave(d, CU_OK);
    }
  return driver_fail(d, CU_INVALID_HANDLE, "%s: the null stream stays", call);
}

static CUresult handle_check(const char *call, const void *p, bool event) {
  CUresult code;
  Driver *d = enter_with(&code, call, p, event);
  return d ? driver_leave(d, CU_OK) : code;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  CUresult code = handle_check("cuMemcpyHtoDAsync", stream, false);
  return code ? code : cuMemcpyHtoD_v2(to, from, bytes);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  CUresult code = handle_check("cuMemcpyDtoHAsync", stream, false);
  return code ? code : cuMemcpyDtoH_v2(to, from, bytes);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  CUresult code = handle_check("cuMemcpyDtoDAsync", stream, false);
  return code ? code : cuMemcpyDtoD_v2(to, from, bytes);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, CUstream stream) {
  CUresult code = handle_check("cuMemsetD8Async", stream, false);
  return code ? code : cuMemsetD8_v2(to, value, n);
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t n, CUstream stream) {
  CUresult code = handle_check("cuMemsetD32Async", stream, false);
  return code ? code : cuMemsetD32_v2(to, value, n);
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags) { return handle_new((void **)stream, false); }
CUresult cuStreamDestroy_v2(CUstream stream) { return handle_free("cuStreamDestroy", stream, false); }
CUresult cuStreamSynchronize(CUstream stream) { return handle_check("cuStreamSynchronize", stream, false); }
CUresult cuStreamQuery(CUstream stream) { return handle_check("cuStreamQuery", stream, false); }

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  CUresult code = handle_check("cuStreamWaitEvent", stream, false);
  return code ? code : handle_check("cuStreamWaitEvent", event, true);
}

CUresult cuEventCreate(CUevent *event, unsigned flags) { return handle_new((void **)event, true); }
CUresult cuEventDestroy_v2(CUevent event) { return handle_free("cuEventDestroy", event, true); }
CUresult cuEventSynchronize(CUevent event) { return handle_check("cuEventSynchronize", event, true); }
CUresult cuEventQuery(CUevent event) { return handle_check("cuEventQuery", event, true); }

CUresult cuEventRecord(CUevent event, CUstream stream) {
  CUresult code = handle_check("cuEventRecord", stream, false);
  Driver *d = code ? NULL : enter_with(&code, "cuEventRecord", event, true);
  if (!d) return code;
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  Handle *h = (Handle *)event;
  h->recorded = true;
  h->seconds = (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
  return driver_leave(d, CU_OK);
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) {
  CUresult code = handle_check("cuEventElapsedTime", start, true);
  Driver *d = code ? NULL : enter_with(&code, "cuEventElapsedTime", end, true);
  if (!d) return code;
  const Handle *a = (Handle *)start, *b = (Handle *)end;
  if (!a->recorded || !b->recorded)
    return driver_fail(d, CU_INVALID_HANDLE, "cuEventElapsedTime: an event was not recorded");
  *milliseconds = (float)((b->seconds - a->seconds) * 1e3);
  return driver_leave(d, CU_OK);
}
