/* The emulated driver: capture of streams, and graphs.
 *
 * A node is a Work: what a launch was given was copied when it was captured, what a copy reads is read at every
 * replay.  What a capture forbids (waiting, the null stream, events from outside) fails with the driver's code and
 * invalidates the capture, whose end then says so. */
#include "tests/gpu/driver.h"

#include <stdlib.h>
#include <string.h>

enum { MODE_GLOBAL = 0, MODE_THREAD = 1, MODE_RELAXED = 2 };
enum { STATUS_NONE = 0, STATUS_ACTIVE = 1, STATUS_INVALIDATED = 2 };

Capture *driver_find_capture(Driver *d, uint64_t id) {
  for (int k = 0; k < d->captures; k++)
    if (d->capture[k].id == id) return &d->capture[k];
  return NULL;
}

/* ---- graphs ---- */

static Graph *graph_new(Driver *d, bool ready) {
  Graph *g = emu_alloc(sizeof *g);
  g->ready = ready;
  EMU_PUSH(d->graph, d->graphs, d->graph_cap, g);
  return g;
}

static void graph_free(Driver *d, int place) {
  Graph *g = d->graph[place];
  while (g->nodes) work_release(g->node[--g->nodes]);
  work_release(g->last);
  free(g->node);
  free(g);
  d->graph[place] = d->graph[--d->graphs];
}

static int graph_place(const Driver *d, const void *p, bool ready) {
  for (int k = 0; k < d->graphs; k++)
    if (d->graph[k] == p && d->graph[k]->ready == ready) return k;
  return -1;
}

void driver_free_graphs(Driver *d) {
  while (d->graphs) graph_free(d, d->graphs - 1);
  free(d->graph);
  free(d->capture);
}

static void graph_push(Graph *g, Work *w) {
  w->number = g->nodes;
  EMU_PUSH(g->node, g->nodes, g->node_cap, w);
}

/* w becomes a node behind what the stream has come to. */
void graph_add(Graph *g, Handle *s, Work *w) {
  for (int k = 0; k < s->fronts; k++) work_wait_for(w, s->front[k]);
  graph_push(g, w);
  s->fronts = 0;
  EMU_PUSH(s->front, s->fronts, s->front_cap, w);
}

/* Everything but what it waits for. */
static Work *work_copy(const Work *w) {
  Work *c = work_new(w->kind, w->call);
  c->kernel = w->kernel;
  memcpy(c->grid, w->grid, sizeof c->grid);
  memcpy(c->block, w->block, sizeof c->block);
  c->dynamic_bytes = w->dynamic_bytes;
  if (w->params) {
    c->params = emu_alloc((size_t)w->kernel->kernel->param_bytes);
    memcpy(c->params, w->params, (size_t)w->kernel->kernel->param_bytes);
  }
  c->to = w->to;
  c->from = w->from;
  c->host_to = w->host_to;
  c->host_from = w->host_from;
  c->bytes = w->bytes;
  c->value = w->value;
  c->elem = w->elem;
  c->host = w->host;
  if (c->host) c->host->refs++;
  return c;
}

/* ---- capture ---- */

/* "nothing may enter a capture but through its streams and events" */
CUresult driver_check_capture(Driver *d, Handle *s) {
  Capture *c = s->capture ? driver_find_capture(d, s->capture) : NULL;
  if (c && c->invalid)
    return driver_error(d, CU_CAPTURE_INVALIDATED, "the capture of this stream was invalidated by an earlier call");
  if (s != &d->null) return CU_OK;
  for (int k = 0; k < d->handles; k++) {
    const Handle *h = d->handle[k];
    c = !h->event && h->blocking && h->capture ? driver_find_capture(d, h->capture) : NULL;
    if (!c) continue;
    c->invalid = true;
    return driver_error(d, CU_CAPTURE_IMPLICIT, "the null stream is used while a blocking stream is being captured");
  }
  return CU_OK;
}

CUresult driver_forbid_waiting(Driver *d, const char *call) {
  for (int k = 0; k < d->captures; k++) {
    Capture *c = &d->capture[k];
    bool mine = pthread_equal(c->thread, pthread_self());
    if (c->mode == MODE_RELAXED || (c->mode == MODE_THREAD && !mine)) continue;
    c->invalid = true;
    return driver_error(d, CU_CAPTURE_UNSUPPORTED, "%s: not permitted while a stream is being captured", call);
  }
  return CU_OK;
}

/* s waits for e, and at least one of them belongs to a capture. */
CUresult driver_wait_captured(Driver *d, Handle *s, Handle *e) {
  Capture *c = s->capture ? driver_find_capture(d, s->capture) : NULL;
  Capture *from = e->capture ? driver_find_capture(d, e->capture) : NULL;
  if (s->capture && s->capture != e->capture) {
    if (c) c->invalid = true;
    if (from) from->invalid = true;
    return from ? driver_error(d, CU_CAPTURE_MERGE, "cuStreamWaitEvent: the event belongs to another capture")
                : driver_error(d, CU_CAPTURE_ISOLATION,
                               "cuStreamWaitEvent: the captured stream waits for an event recorded outside");
  }
  if (!from)
    return driver_error(d, CU_CAPTURE_ISOLATION, "cuStreamWaitEvent: the event belongs to a capture that has ended");
  if (from->invalid) return driver_error(d, CU_CAPTURE_INVALIDATED, "cuStreamWaitEvent: the capture is invalid");
  if (s == &d->null) {
    from->invalid = true;
    return driver_error(d, CU_CAPTURE_IMPLICIT, "cuStreamWaitEvent: the null stream waits for a captured event");
  }
  if (!s->capture) s->fronts = 0;
  s->capture = from->id;
  for (int k = 0; k < e->fronts; k++) EMU_PUSH(s->front, s->fronts, s->front_cap, e->front[k]);
  return CU_OK;
}

static Handle *enter_stream(CUresult *out_code, const char *call, CUstream stream, Driver **out) {
  Driver *d = driver_enter(out_code);
  if (!d) return NULL;
  Handle *s = driver_stream(d, stream);
  *out = d;
  if (!s) *out_code = driver_fail(d, CU_INVALID_HANDLE, "%s: this is no stream", call);
  return s;
}

CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
  CUresult code;
  Driver *d;
  Handle *s = enter_stream(&code, "cuStreamBeginCapture", stream, &d);
  if (!s) return code;
  if (mode < MODE_GLOBAL || mode > MODE_RELAXED)
    return driver_fail(d, CU_INVALID_VALUE, "cuStreamBeginCapture: mode %d", mode);
  if (s == &d->null)
    return driver_fail(d, CU_CAPTURE_UNSUPPORTED, "cuStreamBeginCapture: the null stream cannot be captured");
  if (s->capture)
    return driver_fail(d, CU_ILLEGAL_STATE, "cuStreamBeginCapture: the stream is being captured already");
  Capture c = {.id = ++d->last_capture, .mode = mode, .origin = s, .thread = pthread_self()};
  c.graph = emu_alloc(sizeof *c.graph);
  EMU_PUSH(d->capture, d->captures, d->capture_cap, c);
  s->capture = c.id;
  s->fronts = 0;
  return driver_leave(d, CU_OK);
}

/* The end of the origin must wait, directly or not, for every node. */
static bool is_joined(const Capture *c) {
  const Handle *s = c->origin;
  for (int k = 0; k < c->graph->nodes; k++) c->graph->node[k]->needed = false;
  for (int k = 0; k < s->fronts; k++) s->front[k]->needed = true;
  for (int k = c->graph->nodes; k-- > 0;) {
    const Work *w = c->graph->node[k];
    if (!w->needed) return false;
    for (int j = 0; j < w->deps; j++) w->dep[j]->needed = true;
  }
  return true;
}

/* The graph goes over to the driver's list, to be freed at once when it is worthless. */
static void capture_end(Driver *d, Capture *c, bool keep, Graph **out) {
  uint64_t id = c->id;
  EMU_PUSH(d->graph, d->graphs, d->graph_cap, c->graph);
  *out = keep ? c->graph : NULL;
  if (!keep) graph_free(d, d->graphs - 1);
  *c = d->capture[--d->captures];
  for (int k = 0; k < d->handles; k++) {
    Handle *h = d->handle[k];
    if (h->capture != id) continue;
    h->fronts = 0;
    if (!h->event) h->capture = 0;
  }
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  CUresult code;
  Driver *d;
  Handle *s = enter_stream(&code, "cuStreamEndCapture", stream, &d);
  if (!s) return code;
  Capture *c = s->capture ? driver_find_capture(d, s->capture) : NULL;
  *graph = NULL;
  if (!c) return driver_fail(d, CU_ILLEGAL_STATE, "cuStreamEndCapture: the stream is not being captured");
  if (c->mode != MODE_RELAXED && !pthread_equal(c->thread, pthread_self()))
    return driver_fail(d, CU_CAPTURE_WRONG_THREAD, "cuStreamEndCapture: the capture began in another thread");
  if (c->origin != s) {
    c->invalid = true;
    return driver_fail(d, CU_CAPTURE_UNMATCHED, "cuStreamEndCapture: the capture began in another stream");
  }
  code = c->invalid ? CU_CAPTURE_INVALIDATED : is_joined(c) ? CU_OK : CU_CAPTURE_UNJOINED;
  capture_end(d, c, code == CU_OK, (Graph **)graph);
  if (code == CU_CAPTURE_UNJOINED)
    return driver_fail(d, code, "cuStreamEndCapture: work of a joined stream is not waited for by the first one");
  if (code) return driver_fail(d, code, "cuStreamEndCapture: an earlier call has invalidated the capture: %.400s",
                               d->error);
  return driver_leave(d, CU_OK);
}

static int capture_status(Driver *d, const Handle *s, uint64_t *out_id) {
  const Capture *c = s->capture ? driver_find_capture(d, s->capture) : NULL;
  *out_id = c ? c->id : 0;
  return !c ? STATUS_NONE : c->invalid ? STATUS_INVALIDATED : STATUS_ACTIVE;
}

CUresult cuStreamIsCapturing(CUstream stream, int *status) {
  CUresult code;
  Driver *d;
  uint64_t id;
  Handle *s = enter_stream(&code, "cuStreamIsCapturing", stream, &d);
  if (!s) return code;
  *status = capture_status(d, s, &id);
  return driver_leave(d, CU_OK);
}

/* The nodes that the next one would wait for are not given out. */
CUresult cuStreamGetCaptureInfo_v2(CUstream stream, int *status, unsigned long long *id, CUgraph *graph,
                                   const void **nodes, size_t *n_nodes) {
  CUresult code;
  Driver *d;
  uint64_t found;
  Handle *s = enter_stream(&code, "cuStreamGetCaptureInfo", stream, &d);
  if (!s) return code;
  if (graph || nodes || n_nodes)
    return driver_fail(d, CU_NOT_SUPPORTED, "cuStreamGetCaptureInfo: the emulator tells status and id only");
  *status = capture_status(d, s, &found);
  if (id) *id = found;
  return driver_leave(d, CU_OK);
}

/* ---- what is done with graphs ---- */

static Graph *enter_graph(CUresult *out_code, const char *call, const void *p, bool ready, Driver **out, int *place) {
  Driver *d = driver_enter(out_code);
  if (!d) return NULL;
  *out = d;
  *place = graph_place(d, p, ready);
  if (*place >= 0) return d->graph[*place];
  *out_code = driver_fail(d, CU_INVALID_HANDLE, "%s: this is no %s", call, ready ? "executable graph" : "graph");
  return NULL;
}

CUresult cuGraphGetNodes(CUgraph graph, void **nodes, size_t *n_nodes) {
  CUresult code;
  Driver *d;
  int place;
  Graph *g = enter_graph(&code, "cuGraphGetNodes", graph, false, &d, &place);
  if (!g) return code;
  for (size_t k = 0; nodes && k < *n_nodes; k++) nodes[k] = k < (size_t)g->nodes ? g->node[k] : NULL;
  if (!nodes || *n_nodes > (size_t)g->nodes) *n_nodes = (size_t)g->nodes;
  return driver_leave(d, CU_OK);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  CUresult code;
  Driver *d;
  int place;
  Graph *g = enter_graph(&code, "cuGraphInstantiate", graph, false, &d, &place);
  if (!g) return code;
  Graph *x = graph_new(d, true);
  for (int k = 0; k < g->nodes; k++) {
    Work *w = work_copy(g->node[k]);
    for (int j = 0; j < g->node[k]->deps; j++) work_wait_for(w, x->node[g->node[k]->dep[j]->number]);
    graph_push(x, w);
  }
  *exec = (CUgraphExec)x;
  return driver_leave(d, CU_OK);
}

CUresult cuGraphDestroy(CUgraph graph) {
  CUresult code;
  Driver *d;
  int place;
  if (!enter_graph(&code, "cuGraphDestroy", graph, false, &d, &place)) return code;
  graph_free(d, place);
  return driver_leave(d, CU_OK);
}

/* Launches that are under way keep what they need. */
CUresult cuGraphExecDestroy(CUgraphExec exec) {
  CUresult code;
  Driver *d;
  int place;
  if (!enter_graph(&code, "cuGraphExecDestroy", exec, true, &d, &place)) return code;
  graph_free(d, place);
  return driver_leave(d, CU_OK);
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) {
  CUresult code;
  Driver *d;
  int place;
  if (!enter_graph(&code, "cuGraphUpload", exec, true, &d, &place)) return code;
  if (!driver_stream(d, stream)) return driver_fail(d, CU_INVALID_HANDLE, "cuGraphUpload: this is no stream");
  return driver_leave(d, CU_OK);
}

/* Copies of the nodes wait for each other as the nodes do, for `begin` where nothing else is before them. */
static void queue_nodes(Driver *d, const Graph *x, Work *begin, Work *end) {
  Work **copy = emu_alloc((size_t)x->nodes * sizeof *copy);
  for (int k = 0; k < x->nodes; k++) {
    const Work *n = x->node[k];
    Work *w = copy[k] = work_copy(n);
    work_wait_for(w, begin);
    for (int j = 0; j < n->deps; j++) work_wait_for(w, copy[n->dep[j]->number]);
    work_wait_for(end, w);
    EMU_PUSH(d->pending, d->pendings, d->pending_cap, w);
  }
  free(copy);
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  CUresult code;
  Driver *d;
  int place;
  Graph *x = enter_graph(&code, "cuGraphLaunch", exec, true, &d, &place);
  if (!x) return code;
  Handle *s = driver_stream(d, stream);
  if (!s) return driver_fail(d, CU_INVALID_HANDLE, "cuGraphLaunch: this is no stream");
  if (s->capture) return driver_fail(d, CU_NOT_SUPPORTED, "cuGraphLaunch: a graph inside of a graph");
  for (int k = 0; k < x->nodes; k++)
    if (x->node[k]->kind == WORK_LAUNCH && !driver_find_kernel(d, (CUfunction)x->node[k]->kernel))
      return driver_fail(d, CU_INVALID_HANDLE, "cuGraphLaunch: a module of the graph has been unloaded");
  Work *begin = work_new(WORK_MARK, "cuGraphLaunch"), *end = work_new(WORK_MARK, "cuGraphLaunch");
  work_wait_for(begin, x->last);
  begin->refs++;
  code = driver_issue(d, s, begin);
  if (!code) {
    queue_nodes(d, x, begin, end);
    work_release(x->last);
    x->last = end;
    end->refs++;
    code = driver_issue(d, s, end);
  } else {
    work_release(end);
  }
  work_release(begin);
  return driver_leave(d, code);
}
