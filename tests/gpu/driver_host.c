/* The emulated driver: work that runs on the host, as libraries such as cuBLASLt bring it.
 *
 * Such work is to everybody else a kernel that runs at once: it waits, runs late, is captured and replayed like one,
 * and what it does wrong is a fault like one's.  What a kernel is asked about its memory, it is asked too, range by
 * range.  Two that share their scratch memory must be ordered: as each runs at once, they would never disturb each
 * other here, so that is looked for. */
#include "tests/gpu/driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local Driver *running;

Driver *driver_of_host_work(void) { return running; }

void host_task_release(HostTask *t) {
  if (!t || --t->refs) return;
  if (t->work.release) t->work.release(t->work.context);
  free(t);
}

CUresult emu_enqueue(CUstream stream, const EmuWork *work) {
  CUresult code;
  HostTask *t = emu_alloc(sizeof *t);
  t->refs = 1;
  t->work = *work;
  Driver *d = driver_enter(&code);
  if (!d) {
    host_task_release(t);
    return code;
  }
  Handle *s = driver_stream(d, stream);
  if (s) {
    Work *w = work_new(WORK_HOST, work->what);
    w->host = t;
    return driver_leave(d, driver_issue(d, s, w));
  }
  driver_error(d, CU_INVALID_HANDLE, "%s: this is no stream", work->what);
  host_task_release(t);
  return driver_leave(d, CU_INVALID_HANDLE);
}

/* ---- memory ---- */

/* The first failure inside of a function counts, whatever the function makes of it. */
CUresult driver_host_fault(Driver *d, CUresult code, const char *fmt, ...) {
  char text[400];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  if (!d->host_fault) d->host_fault = driver_error(d, code, "%s: %s", d->host_work->call, text);
  return code;
}

/* The allocation that holds the range; NULL after a fault. */
static Allocation *find_host_range(Driver *d, const char *doing, CUdeviceptr address, size_t bytes) {
  Allocation *a = memory_find(&d->memory, address);
  if (a && bytes <= a->bytes - (address - a->address)) return a;
  driver_host_fault(d, FAULT_ADDRESS, "it %s %zu bytes at %#llx, which are not inside one allocation", doing, bytes,
                    address);
  return NULL;
}

CUresult emu_read(void *to, CUdeviceptr from, size_t bytes) {
  Driver *d = running;
  if (!d) return CU_ILLEGAL_STATE;
  if (!bytes || d->host_fault) return d->host_fault;
  const Allocation *a = find_host_range(d, "reads", from, bytes);
  if (!a) return d->host_fault;
  if (!memory_is_written(a, from, bytes)) {
    while (memory_is_written(a, from, 1)) from++;
    return driver_host_fault(d, FAULT_LAUNCH,
                             "read of global memory never written: offset %llu of the %zu bytes at %#llx",
                             from - a->address, a->bytes, (unsigned long long)a->address);
  }
  if (to) memcpy(to, a->data + (from - a->address), bytes);
  return CU_OK;
}

/* NULL after a fault. */
static Allocation *find_writable(Driver *d, CUdeviceptr to, size_t bytes) {
  Allocation *a = find_host_range(d, "writes", to, bytes);
  if (!a || !a->constant) return a;
  driver_host_fault(d, FAULT_ADDRESS, "write to constant memory at %#llx", to);
  return NULL;
}

CUresult emu_write(CUdeviceptr to, const void *from, size_t bytes) {
  Driver *d = running;
  if (!d) return CU_ILLEGAL_STATE;
  Allocation *a = bytes && !d->host_fault ? find_writable(d, to, bytes) : NULL;
  if (!a) return d->host_fault;
  memcpy(a->data + (to - a->address), from, bytes);
  memory_mark_written(a, to, bytes);
  return CU_OK;
}

CUresult emu_forget(CUdeviceptr at, size_t bytes) {
  Driver *d = running;
  if (!d) return CU_ILLEGAL_STATE;
  Allocation *a = bytes && !d->host_fault ? find_writable(d, at, bytes) : NULL;
  if (a) memory_forget(a, at, bytes);
  return d->host_fault;
}

/* ---- running ---- */

static bool share_scratch(const Work *a, const Work *b) {
  if (a->kind != WORK_HOST || b->kind != WORK_HOST) return false;
  const EmuWork *x = &a->host->work, *y = &b->host->work;
  if (!x->scratch_bytes || !y->scratch_bytes) return false;
  return x->scratch < y->scratch ? y->scratch - x->scratch < x->scratch_bytes
                                 : x->scratch - y->scratch < y->scratch_bytes;
}

/* Of what is pending when w runs, that which does not wait for w may as well run at the same time. */
static CUresult check_scratch(Driver *d, Work *w) {
  int rivals = 0;
  for (int k = 0; k < d->pendings; k++) rivals += share_scratch(w, d->pending[k]);
  if (!rivals) return CU_OK;
  w->after = true;
  for (int k = 0; k < d->pendings; k++) {   /* oldest first, so what each waits for has been seen */
    Work *p = d->pending[k];
    p->after = false;
    for (int j = 0; j < p->deps && !p->after; j++) p->after = !p->dep[j]->done && p->dep[j]->after;
    if (p->after || !share_scratch(w, p)) continue;
    return driver_error(d, FAULT_LAUNCH,
                        "%s: its scratch memory of %zu bytes at %#llx may be in use by another %s at the same time: "
                        "no event orders them", w->call, w->host->work.scratch_bytes, w->host->work.scratch, p->call);
  }
  return CU_OK;
}

CUresult driver_run_host(Driver *d, Work *w) {
  const EmuWork *e = &w->host->work;
  CUresult code = check_scratch(d, w);
  if (code) return code;
  running = d;
  d->host_work = w;
  d->host_fault = CU_OK;
  emu_forget(e->scratch, e->scratch_bytes);
  if (!d->host_fault) code = e->run(e->context);
  emu_forget(e->scratch, e->scratch_bytes);
  d->host_work = NULL;
  running = NULL;
  if (d->host_fault || !code) return d->host_fault;
  return driver_error(d, code, "%s: its function on the host returned %d", w->call, code);
}
