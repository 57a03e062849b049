/* The emulated driver: streams, events, and when work runs.
 *
 * Work runs at the last moment that the API allows, or earlier where that is nastier.  What a stream guarantees, and
 * no more, is in the Works' deps: the work before in the stream; events waited for; for the null stream all earlier
 * work of blocking streams, and the null stream's for theirs.  emu_set_order chooses among the legal orders. */
#include "tests/gpu/driver.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ORDER_LAST = 0, ORDER_AT_ONCE = 1, ORDER_OTHERS_FIRST = 2 };   /* larger ones are seeds */
enum { STREAM_NON_BLOCKING = 1, EVENT_DISABLE_TIMING = 2 };

/* ---- work ---- */

Work *work_new(WorkKind kind, const char *call) {
  Work *w = emu_alloc(sizeof *w);
  w->kind = kind;
  w->call = call;
  w->refs = 1;
  return w;
}

static Work *work_hold(Work *w) {
  w->refs++;
  return w;
}

static void work_drop_deps(Work *w) {
  for (int k = 0; k < w->deps; k++) work_release(w->dep[k]);
  free(w->dep);
  w->dep = NULL;
  w->deps = w->dep_cap = 0;
}

/* Chains of works that wait for each other are long; those of done ones are empty, so this does not go deep but where
 * a queue is dropped: there the newest goes first and is held by nobody else. */
void work_release(Work *w) {
  if (!w || --w->refs) return;
  work_drop_deps(w);
  free(w->params);
  free(w->staged);
  host_task_release(w->host);
  free(w);
}

/* w has run or never will: what it was given goes, though a stream's end or an event may stand for it for long. */
static void work_settle(Work *w) {
  w->done = true;
  work_drop_deps(w);
  if (w->host) {
    w->call = "(done)";
    host_task_release(w->host);
    w->host = NULL;
  }
  work_release(w);
}

void work_wait_for(Work *w, Work *before) {
  if (before && !before->done) EMU_PUSH(w->dep, w->deps, w->dep_cap, work_hold(before));
}

static void tail_set(Handle *h, Work *w) {
  work_release(h->tail);
  h->tail = w ? work_hold(w) : NULL;
}

/* ---- the order ---- */

static uint64_t coin(Driver *d) {
  d->random = d->random * 6364136223846793005u + 1442695040888963407u;
  return d->random >> 33;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool work_is_ready(const Work *w) {
  for (int k = 0; k < w->deps; k++)
    if (!w->dep[k]->done) return false;
  return true;
}

/* Marks what must run so that w is done; NULL: everything. */
static void mark_needed(Driver *d, const Work *w) {
  for (int k = 0; k < d->pendings; k++) d->pending[k]->needed = !w || d->pending[k] == w;
  for (int k = d->pendings; k-- > 0;) {
    const Work *p = d->pending[k];
    for (int j = 0; p->needed && j < p->deps; j++) p->dep[j]->needed = true;
  }
}

/* The place in the queue of the work to run next; the oldest is always ready. */
static int choose(Driver *d) {
  int needed = -1, other = -1, ready = 0, any = 0;
  for (int k = d->pendings; k-- > 0;) {
    if (!work_is_ready(d->pending[k])) continue;
    if (coin(d) % (uint64_t)++ready == 0) any = k;
    if (d->pending[k]->needed && needed < 0) needed = k;
    if (!d->pending[k]->needed && other < 0) other = k;
    if (d->order == ORDER_LAST && needed >= 0) break;
  }
  if (d->order > ORDER_OTHERS_FIRST) return any;
  return d->order == ORDER_OTHERS_FIRST && other >= 0 ? other : needed >= 0 ? needed : other;
}

static void run_at(Driver *d, int place) {
  Work *w = d->pending[place];
  d->pendings--;
  memmove(&d->pending[place], &d->pending[place + 1], (size_t)(d->pendings - place) * sizeof *d->pending);
  if (w->kind == WORK_LAUNCH) d->sticky = driver_run_launch(d, w);
  else if (w->kind == WORK_HOST) d->sticky = driver_run_host(d, w);
  else if (w->kind != WORK_MARK) d->sticky = driver_run_copy(d, w);
  d->runs++;
  w->seconds = now();
  work_settle(w);
}

/* After a failure nothing runs any more. */
static void drop_pending(Driver *d) {
  while (d->pendings) work_settle(d->pending[--d->pendings]);
}

CUresult driver_finish(Driver *d, Work *w) {
  if (w) work_hold(w);
  mark_needed(d, w);
  while (!d->sticky && (w ? !w->done : d->pendings > 0)) run_at(d, choose(d));
  if (d->sticky) drop_pending(d);
  work_release(w);
  return d->sticky;
}

static void queue_add(Driver *d, Handle *s, Work *w) {
  work_wait_for(w, s->tail);
  if (s == &d->null) {
    for (int k = 0; k < d->handles; k++)
      if (!d->handle[k]->event && d->handle[k]->blocking) work_wait_for(w, d->handle[k]->tail);
  } else if (s->blocking) {
    work_wait_for(w, d->null.tail);
  }
  tail_set(s, w);
  EMU_PUSH(d->pending, d->pendings, d->pending_cap, w);
  if (d->order == ORDER_AT_ONCE) driver_finish(d, NULL);
  while (d->order > ORDER_OTHERS_FIRST && d->pendings && !d->sticky && coin(d) % 3 == 0) run_at(d, choose(d));
}

CUresult driver_issue(Driver *d, Handle *s, Work *w) {
  CUresult code = driver_check_capture(d, s);
  if (code) {
    work_release(w);
    return code;
  }
  Capture *c = s->capture ? driver_find_capture(d, s->capture) : NULL;
  if (c) graph_add(c->graph, s, w);
  else queue_add(d, s, w);
  return CU_OK;
}

CUresult driver_finish_null(Driver *d) {
  CUresult code = driver_issue(d, &d->null, work_new(WORK_MARK, "wait"));
  return code ? code : driver_finish(d, d->null.tail);
}

void emu_set_order(uint64_t order) {
  Driver *d = driver_enter_unchecked();
  d->order = order;
  d->random = order * 0x9e3779b97f4a7c15u + 1;
  driver_leave(d, CU_OK);
}

/* ---- handles ---- */

static Handle *find_handle(const Driver *d, const void *p, bool event) {
  for (int k = 0; k < d->handles; k++)
    if (d->handle[k] == p && !d->handle[k]->destroyed && d->handle[k]->event == event) return d->handle[k];
  return NULL;
}

/* The null stream always exists; 1 is CU_STREAM_LEGACY. */
Handle *driver_stream(Driver *d, CUstream stream) {
  return (uintptr_t)stream < 2 ? &d->null : find_handle(d, stream, false);
}

static void handle_free(Driver *d, int place) {
  Handle *h = d->handle[place];
  work_release(h->tail);
  free(h->front);
  free(h);
  d->handle[place] = d->handle[--d->handles];
}

void driver_free_streams(Driver *d) {
  drop_pending(d);
  while (d->handles) handle_free(d, d->handles - 1);
  work_release(d->null.tail);
  free(d->handle);
  free(d->pending);
}

/* NULL, and the code to return, unless the driver may be called and p is a stream or an event. */
static Driver *enter_with(CUresult *out_code, const char *call, const void *p, bool event, Handle **out) {
  Driver *d = driver_enter(out_code);
  if (!d) return NULL;
  *out = event ? find_handle(d, p, true) : driver_stream(d, (CUstream)(uintptr_t)p);
  if (*out) return d;
  *out_code = driver_fail(d, CU_INVALID_HANDLE, "%s: this is no %s", call, event ? "event" : "stream");
  return NULL;
}

Driver *driver_enter_waiting(CUresult *out_code, const char *call) {
  Driver *d = driver_enter(out_code);
  if (!d) return NULL;
  *out_code = driver_forbid_waiting(d, call);
  if (!*out_code) return d;
  driver_leave(d, *out_code);
  return NULL;
}

static CUresult handle_new(void **out, bool event, bool flag) {
  CUresult code;
  Driver *d = driver_enter(&code);
  if (!d) return code;
  for (int k = d->handles; k-- > 0;)
    if (d->handle[k]->destroyed && (!d->handle[k]->tail || d->handle[k]->tail->done)) handle_free(d, k);
  Handle *h = emu_alloc(sizeof *h);
  h->event = event;
  if (event) h->timed = flag;
  else h->blocking = flag;
  EMU_PUSH(d->handle, d->handles, d->handle_cap, h);
  *out = h;
  return driver_leave(d, CU_OK);
}

/* ---- streams ---- */

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  return handle_new((void **)stream, false, !(flags & STREAM_NON_BLOCKING));
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  return cuStreamCreate(stream, flags);
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  CUresult code;
  Handle *s;
  Driver *d = enter_with(&code, "cuStreamDestroy", stream, false, &s);
  if (!d) return code;
  if (s == &d->null) return driver_fail(d, CU_INVALID_HANDLE, "cuStreamDestroy: the null stream stays");
  if (s->capture) {
    Capture *c = driver_find_capture(d, s->capture);
    if (c) c->invalid = true;
    return driver_fail(d, CU_CAPTURE_UNSUPPORTED, "cuStreamDestroy: the stream is being captured");
  }
  s->destroyed = true;
  return driver_leave(d, CU_OK);
}

/* Refuses to wait for, or ask about, a stream that is being captured. */
static CUresult check_not_captured(Driver *d, const char *call, const Handle *s) {
  Capture *c = s->capture ? driver_find_capture(d, s->capture) : NULL;
  if (!c) return driver_forbid_waiting(d, call);
  c->invalid = true;
  return driver_error(d, CU_CAPTURE_UNSUPPORTED, "%s: the stream is being captured", call);
}

CUresult cuStreamSynchronize(CUstream stream) {
  CUresult code;
  Handle *s;
  Driver *d = enter_with(&code, "cuStreamSynchronize", stream, false, &s);
  if (!d) return code;
  code = check_not_captured(d, "cuStreamSynchronize", s);
  if (!code) code = s == &d->null ? driver_finish_null(d) : s->tail ? driver_finish(d, s->tail) : CU_OK;
  return driver_leave(d, code);
}

/* Who asks is told "not yet" once, then the work runs: a loop of questions ends. */
static CUresult ask(Driver *d, Work *w) {
  if (!w || w->done) return d->sticky;
  if (w->asked) return driver_finish(d, w);
  w->asked = true;
  return CU_NOT_READY;
}

CUresult cuStreamQuery(CUstream stream) {
  CUresult code;
  Handle *s;
  Driver *d = enter_with(&code, "cuStreamQuery", stream, false, &s);
  if (!d) return code;
  code = check_not_captured(d, "cuStreamQuery", s);
  if (code || !d->pendings) return driver_leave(d, code);
  if (s == &d->null && (!s->tail || s->tail->done || !s->tail->asked))   /* it includes the blocking streams */
    code = driver_issue(d, s, work_new(WORK_MARK, "cuStreamQuery"));
  return driver_leave(d, code ? code : ask(d, s->tail));
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  CUresult code;
  Handle *s;
  Driver *d = enter_with(&code, "cuStreamWaitEvent", stream, false, &s);
  if (!d) return code;
  Handle *e = find_handle(d, event, true);
  if (!e) return driver_fail(d, CU_INVALID_HANDLE, "cuStreamWaitEvent: this is no event");
  if (!e->recorded) return driver_leave(d, CU_OK);
  if (s->capture || e->capture) return driver_leave(d, driver_wait_captured(d, s, e));
  Work *w = work_new(WORK_MARK, "cuStreamWaitEvent");
  work_wait_for(w, e->tail);
  return driver_leave(d, driver_issue(d, s, w));
}

CUresult cuCtxSynchronize(void) {
  CUresult code;
  Driver *d = driver_enter_waiting(&code, "cuCtxSynchronize");
  return d ? driver_leave(d, driver_finish(d, NULL)) : code;
}

/* ---- events ---- */

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  return handle_new((void **)event, true, !(flags & EVENT_DISABLE_TIMING));
}

CUresult cuEventDestroy_v2(CUevent event) {
  CUresult code;
  Handle *e;
  Driver *d = enter_with(&code, "cuEventDestroy", event, true, &e);
  if (!d) return code;
  for (int k = 0; k < d->handles; k++)
    if (d->handle[k] == e) {
      handle_free(d, k);
      break;
    }
  return driver_leave(d, CU_OK);
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  CUresult code;
  Handle *e;
  Driver *d = enter_with(&code, "cuEventRecord", event, true, &e);
  if (!d) return code;
  Handle *s = driver_stream(d, stream);
  if (!s) return driver_fail(d, CU_INVALID_HANDLE, "cuEventRecord: this is no stream");
  if (s->capture) {
    code = driver_check_capture(d, s);
    if (code) return driver_leave(d, code);
    tail_set(e, NULL);
    e->fronts = 0;
    for (int k = 0; k < s->fronts; k++) EMU_PUSH(e->front, e->fronts, e->front_cap, s->front[k]);
  } else {
    Work *w = work_hold(work_new(WORK_MARK, "cuEventRecord"));
    code = driver_issue(d, s, w);
    if (!code) tail_set(e, w);
    work_release(w);
    if (code) return driver_leave(d, code);
  }
  e->capture = s->capture;
  e->recorded = true;
  return driver_leave(d, CU_OK);
}

/* An event of a capture stands for nothing that could be waited for here. */
static CUresult check_event(Driver *d, const char *call, const Handle *e) {
  if (!e->capture) return driver_forbid_waiting(d, call);
  Capture *c = driver_find_capture(d, e->capture);
  if (c) c->invalid = true;
  return driver_error(d, CU_CAPTURED_EVENT, "%s: the event was recorded in a capture", call);
}

CUresult cuEventSynchronize(CUevent event) {
  CUresult code;
  Handle *e;
  Driver *d = enter_with(&code, "cuEventSynchronize", event, true, &e);
  if (!d) return code;
  code = check_event(d, "cuEventSynchronize", e);
  return driver_leave(d, code || !e->tail ? code : driver_finish(d, e->tail));
}

CUresult cuEventQuery(CUevent event) {
  CUresult code;
  Handle *e;
  Driver *d = enter_with(&code, "cuEventQuery", event, true, &e);
  if (!d) return code;
  code = check_event(d, "cuEventQuery", e);
  return driver_leave(d, code ? code : ask(d, e->tail));
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) {
  CUresult code;
  Handle *a;
  Driver *d = enter_with(&code, "cuEventElapsedTime", start, true, &a);
  if (!d) return code;
  const Handle *b = find_handle(d, end, true);
  if (!b || !a->tail || !b->tail || !a->timed || !b->timed)
    return driver_fail(d, CU_INVALID_HANDLE, "cuEventElapsedTime: an event was not recorded, or without its time");
  if (!a->tail->done || !b->tail->done) return driver_leave(d, CU_NOT_READY);
  *milliseconds = (float)((b->tail->seconds - a->tail->seconds) * 1e3);
  return driver_leave(d, CU_OK);
}

CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end) {
  return cuEventElapsedTime(milliseconds, start, end);
}
