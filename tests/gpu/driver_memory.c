/* The emulated driver: memory and copies.
 *
 * Copies are Works as launches are; what they read and write is touched when they run.  Pageable memory of the host
 * is no exception: a driver may copy it late, and only promises to have read it when a call without "Async"
 * returns. */
#include "tests/gpu/driver.h"

#include <stdlib.h>
#include <string.h>

/* A copy of at most this many bytes may still be under way when cuMemcpyHtoD from pageable memory returns. */
enum { STAGED_BYTES = 64 << 10 };

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  *free_bytes = d->memory.limit - d->memory.used;
  *total_bytes = d->memory.limit;
  return driver_leave(d, CU_OK);
}

/* Frees that are under way count as done when memory is short. */
static CUresult allocate(Driver *d, const char *call, CUdeviceptr *address, size_t bytes) {
  if (!bytes) return driver_error(d, CU_INVALID_VALUE, "%s of 0 bytes", call);
  *address = memory_alloc(&d->memory, bytes);
  if (*address) return CU_OK;
  CUresult code = driver_finish(d, NULL);
  if (code) return code;
  *address = memory_alloc(&d->memory, bytes);
  if (*address) return CU_OK;
  return driver_error(d, CU_OUT_OF_MEMORY, "%s of %zu bytes, %zu of %zu are free", call, bytes,
                      d->memory.limit - d->memory.used, d->memory.limit);
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  CUresult code;
  Driver *d = driver_enter_waiting(&code, "cuMemAlloc");
  return d ? driver_leave(d, allocate(d, "cuMemAlloc", address, bytes)) : code;
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  CUresult code;
  Driver *d = driver_enter_waiting(&code, "cuMemFree");
  if (!d) return code;
  code = driver_finish(d, NULL);
  if (code) return driver_leave(d, code);
  if (address && !memory_free(&d->memory, address))
    return driver_fail(d, CU_INVALID_VALUE, "cuMemFree: %#llx was not allocated", address);
  return driver_leave(d, CU_OK);
}

/* The memory is there at once; only its end is ordered by the stream. */
CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  const Handle *s = driver_stream(d, stream);
  if (!s) return driver_fail(d, CU_INVALID_HANDLE, "cuMemAllocAsync: this is no stream");
  if (s->capture) return driver_fail(d, CU_NOT_SUPPORTED, "cuMemAllocAsync: memory inside of a graph");
  return driver_leave(d, allocate(d, "cuMemAllocAsync", address, bytes));
}

/* ---- the host's memory ---- */

CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned flags) {
  CUresult code;
  Driver *d = driver_enter_waiting(&code, "cuMemHostAlloc");
  if (!d) return code;
  HostBlock b = {bytes ? malloc(bytes) : NULL, bytes};
  *p = b.p;
  if (!*p) return driver_fail(d, bytes ? CU_OUT_OF_MEMORY : CU_INVALID_VALUE, "cuMemHostAlloc of %zu bytes", bytes);
  EMU_PUSH(d->host, d->hosts, d->host_cap, b);
  return driver_leave(d, CU_OK);
}

CUresult cuMemAllocHost_v2(void **p, size_t bytes) { return cuMemHostAlloc(p, bytes, 0); }

CUresult cuMemFreeHost(void *p) {
  CUresult code;
  Driver *d = driver_enter_waiting(&code, "cuMemFreeHost");
  if (!d) return code;
  code = driver_finish(d, NULL);
  if (code) return driver_leave(d, code);
  for (int k = 0; k < d->hosts; k++)
    if (d->host[k].p == p) {
      free(p);
      d->host[k] = d->host[--d->hosts];
      return driver_leave(d, CU_OK);
    }
  return driver_fail(d, CU_INVALID_VALUE, "cuMemFreeHost: this memory is not the driver's");
}

void driver_free_host(Driver *d) {
  for (int k = 0; k < d->hosts; k++) free(d->host[k].p);
  free(d->host);
}

static bool is_pinned(const Driver *d, const void *p) {
  for (int k = 0; k < d->hosts; k++)
    if ((size_t)((const unsigned char *)p - d->host[k].p) < d->host[k].bytes) return true;
  return false;
}

/* ---- running ---- */

/* The allocation that holds a range, or NULL when it is not inside one. */
static Allocation *find_range(Driver *d, CUdeviceptr address, size_t bytes) {
  Allocation *a = memory_find(&d->memory, address);
  return a && bytes <= a->bytes - (address - a->address) ? a : NULL;
}

static CUresult range_error(Driver *d, const char *call, CUdeviceptr address, size_t bytes, CUresult code) {
  return driver_error(d, code, "%s: %zu bytes at %#llx are not inside one allocation", call, bytes, address);
}

/* What was never written stays so at its new place. */
static void copy_inside(Allocation *a, size_t at, const Allocation *b, size_t source, size_t bytes) {
  memcpy(a->data + at, b->data + source, bytes);
  if (memory_is_written(b, b->address + source, bytes)) {
    memory_mark_written(a, a->address + at, bytes);
    return;
  }
  for (size_t k = 0; k < bytes; k++) {
    unsigned set = b->written[(source + k) / 8] >> (source + k) % 8 & 1;
    unsigned char *w = &a->written[(at + k) / 8];
    *w = (unsigned char)((*w & ~(1u << (at + k) % 8)) | set << (at + k) % 8);
  }
}

CUresult driver_run_copy(Driver *d, const Work *w) {
  Allocation *a = w->to ? find_range(d, w->to, w->bytes) : NULL;
  const Allocation *b = w->from ? find_range(d, w->from, w->bytes) : NULL;
  if (w->kind == WORK_FREE) {
    if (memory_free(&d->memory, w->to)) return CU_OK;
    return driver_error(d, FAULT_ADDRESS, "%s: %#llx is freed already", w->call, w->to);
  }
  if (w->to && !a) return range_error(d, w->call, w->to, w->bytes, FAULT_ADDRESS);
  if (w->from && !b) return range_error(d, w->call, w->from, w->bytes, FAULT_ADDRESS);
  size_t at = a ? (size_t)(w->to - a->address) : 0, source = b ? (size_t)(w->from - b->address) : 0;
  if (w->kind == WORK_FILL) {
    for (size_t k = 0; k < w->bytes; k += (size_t)w->elem) memcpy(a->data + at + k, &w->value, (size_t)w->elem);
    memory_mark_written(a, w->to, w->bytes);
  } else if (a && b) {
    copy_inside(a, at, b, source, w->bytes);
  } else if (b) {
    memcpy(w->host_to, b->data + source, w->bytes);
  } else {
    memcpy(a->data + at, w->staged ? w->staged : w->host_from, w->bytes);
    memory_mark_written(a, w->to, w->bytes);
  }
  return CU_OK;
}

/* ---- issuing ---- */

/* Checks the ranges as they are now and issues; w is consumed. */
static CUresult issue_checked(Driver *d, Handle *s, Work *w) {
  CUresult code = CU_OK;
  if (w->to && !find_range(d, w->to, w->bytes)) code = range_error(d, w->call, w->to, w->bytes, CU_INVALID_VALUE);
  else if (w->from && !find_range(d, w->from, w->bytes))
    code = range_error(d, w->call, w->from, w->bytes, CU_INVALID_VALUE);
  else if (w->to && w->from && (w->to < w->from ? w->from - w->to : w->to - w->from) < w->bytes)
    code = driver_error(d, CU_INVALID_VALUE, "%s: the ranges overlap", w->call);
  if (!code) return driver_issue(d, s, w);
  work_release(w);
  return code;
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  Handle *s = driver_stream(d, stream);
  const Allocation *a = memory_find(&d->memory, address);
  if (!s) return driver_fail(d, CU_INVALID_HANDLE, "cuMemFreeAsync: this is no stream");
  if (!a || a->address != address)
    return driver_fail(d, CU_INVALID_VALUE, "cuMemFreeAsync: %#llx was not allocated", address);
  Work *w = work_new(WORK_FREE, "cuMemFreeAsync");
  w->to = address;
  w->bytes = 1;
  return driver_leave(d, driver_issue(d, s, w));
}

/* Calls without "Async" use the null stream. */
static CUresult copy_waiting(const char *call, CUdeviceptr to, void *host_to, CUdeviceptr from, const void *host_from,
                             size_t bytes) {
  CUresult code;
  Driver *d = driver_enter_waiting(&code, call);
  if (!d || !bytes) return d ? driver_leave(d, CU_OK) : code;
  Work *w = work_new(WORK_COPY, call);
  w->to = to, w->host_to = host_to, w->from = from, w->host_from = host_from, w->bytes = bytes;
  bool staged = host_from && bytes <= STAGED_BYTES && !is_pinned(d, host_from);
  if (staged) {
    w->staged = emu_alloc(bytes);
    memcpy(w->staged, host_from, bytes);
  }
  code = issue_checked(d, &d->null, w);
  if (!code && !staged && !(to && from)) code = driver_finish(d, d->null.tail);
  return driver_leave(d, code);
}

static CUresult copy_queued(const char *call, CUdeviceptr to, void *host_to, CUdeviceptr from, const void *host_from,
                            size_t bytes, CUstream stream) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  Handle *s = driver_stream(d, stream);
  if (!s) return driver_fail(d, CU_INVALID_HANDLE, "%s: this is no stream", call);
  if (!bytes) return driver_leave(d, CU_OK);
  Work *w = work_new(WORK_COPY, call);
  w->to = to, w->host_to = host_to, w->from = from, w->host_from = host_from, w->bytes = bytes;
  return driver_leave(d, issue_checked(d, s, w));
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  return copy_waiting("cuMemcpyHtoD", to, NULL, 0, from, bytes);
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  return copy_waiting("cuMemcpyDtoH", 0, to, from, NULL, bytes);
}

/* Does not wait in spite of its name. */
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy_waiting("cuMemcpyDtoD", to, NULL, from, NULL, bytes);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  return copy_queued("cuMemcpyHtoDAsync", to, NULL, 0, from, bytes, stream);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_queued("cuMemcpyDtoHAsync", 0, to, from, NULL, bytes, stream);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_queued("cuMemcpyDtoDAsync", to, NULL, from, NULL, bytes, stream);
}

/* n elements of `elem` bytes each.  The host never waits for them. */
static CUresult fill(const char *call, CUdeviceptr to, unsigned value, int elem, size_t n, CUstream stream) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  Handle *s = driver_stream(d, stream);
  if (!s) return driver_fail(d, CU_INVALID_HANDLE, "%s: this is no stream", call);
  if (!n) return driver_leave(d, CU_OK);
  if (to % (unsigned)elem)
    return driver_fail(d, CU_INVALID_VALUE, "%s: address %#llx is not a multiple of %d", call, to, elem);
  if (n > SIZE_MAX / (size_t)elem || !to)
    return driver_leave(d, range_error(d, call, to, n, CU_INVALID_VALUE));
  Work *w = work_new(WORK_FILL, call);
  w->to = to, w->value = value, w->elem = elem, w->bytes = n * (size_t)elem;
  return driver_leave(d, issue_checked(d, s, w));
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t n) {
  return fill("cuMemsetD8", to, value, 1, n, NULL);
}

CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t n) {
  return fill("cuMemsetD16", to, value, 2, n, NULL);
}

CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t n) {
  return fill("cuMemsetD32", to, value, 4, n, NULL);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, CUstream stream) {
  return fill("cuMemsetD8Async", to, value, 1, n, stream);
}

CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t n, CUstream stream) {
  return fill("cuMemsetD16Async", to, value, 2, n, stream);
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t n, CUstream stream) {
  return fill("cuMemsetD32Async", to, value, 4, n, stream);
}
