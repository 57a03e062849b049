/* Functions and decode steps on a GPU: ports in, launches in order, copies, ports out, one wait.
 *
 * A step is captured as a graph the first time that its number of rows comes up and replayed from then on.  Numbers of
 * rows are rounded up to a few: what is computed for rows beyond those asked for is never looked at. */
#include "runtime/session.h"

static CudaAddress address_of(const void *p) { return (CudaAddress)(uintptr_t)p; }

static size_t port_bytes(const PlanTensor *t, int64_t B, int64_t R) {
  int64_t bytes = 0;
  BUG_IF(!plan_tensor_bytes(t, B, R, &bytes), "\"%s\" has no size", t->name);
  return (size_t)bytes;
}

static bool send_inputs(NuwaSession *s, int function, int64_t B, int64_t R) {
  const PlanFunction *f = &s->plan->function[function];
  for (int i = 0; i < f->n_in; i++)
    if (!cuda_copy_in(s->cuda, address_of(s->input_at[function][i]), s->input[function][i], port_bytes(&f->in[i], B, R),
                      &s->failure))
      return error_prefix(&s->failure, "input \"%s\"", f->in[i].name);
  return true;
}

static bool fetch_outputs(NuwaSession *s, int function, int64_t B, int64_t R) {
  const PlanFunction *f = &s->plan->function[function];
  for (int i = 0; i < f->n_out; i++)
    if (!cuda_copy_out(s->cuda, s->output[function][i], address_of(s->output_at[function][i]),
                       port_bytes(&f->out[i], B, R), &s->failure))
      return error_prefix(&s->failure, "output \"%s\"", f->out[i].name);
  return true;
}

static bool launch(NuwaSession *s, int function, int i, int64_t B, int64_t R) {
  const PlanLaunch *l = &s->plan->function[function].launch[i];
  void *const *ref = s->args[function][i];
  int64_t dim[2] = {B, R};
  if (l->kernel == -1) return cuda_products_run(s->products, l, ref, B, R, &s->failure);
  return cuda_launch(s->cuda, l->kernel, ref, l->n_ref, dim, session_items(l, B, R), &s->failure);
}

static bool launch_timed(NuwaSession *s, int function, int i, int64_t B, int64_t R) {
  const PlanLaunch *l = &s->plan->function[function].launch[i];
  int64_t ns = 0;
  bool ok = cuda_clock_start(s->cuda, &s->failure) && launch(s, function, i, B, R);
  if (ok && !(ok = cuda_clock_stop(s->cuda, &ns, &s->failure)))
    error_prefix(&s->failure, "%s", l->kernel < 0 ? "a product" : s->plan->kernel[l->kernel].name);
  s->launch_ns[function][i] += ns;
  return ok;
}

static bool enqueue(NuwaSession *s, int function, int64_t B, int64_t R) {
  const PlanFunction *f = &s->plan->function[function];
  if (!send_inputs(s, function, B, R)) return false;
  for (int i = 0; i < f->n_launch; i++)
    if (!(s->launch_ns ? launch_timed : launch)(s, function, i, B, R)) return false;
  for (int i = 0; i < f->n_copy; i++) {
    size_t bytes = (size_t)dim_value(f->copy[i].from.bytes, B, R);
    CudaAddress to = address_of(session_resolve(s, function, &f->copy[i].to));
    CudaAddress from = address_of(session_resolve(s, function, &f->copy[i].from));
    if (!cuda_copy(s->cuda, to, from, bytes, &s->failure)) return false;
  }
  return fetch_outputs(s, function, B, R);
}

bool cuda_run(NuwaSession *s, int function, int64_t B, int64_t R) {
  if (s->failure.code != ERROR_NONE) return false;
  return (cuda_enter(s->cuda, &s->failure) && enqueue(s, function, B, R) && cuda_wait(s->cuda, &s->failure)) ||
         error_prefix(&s->failure, "function \"%s\"", s->plan->function[function].name);
}

/* ---- decode steps ---- */

/* 8, 16, 32, ...: bucket i has 8 << i rows, but no more than the session. */
static int bucket_of(int64_t R) {
  int i = 0;
  while ((int64_t)SMALLEST_BUCKET << i < R) i++;
  return i;
}

int64_t cuda_round_rows(const NuwaSession *s, int64_t R) {
  int64_t rounded = (int64_t)SMALLEST_BUCKET << bucket_of(R);
  return rounded < s->options.rows ? rounded : s->options.rows;
}

static bool enqueue_step(NuwaSession *s, const PlanDecode *d, int state, int64_t streams, int64_t R) {
  size_t bytes = sizeof *s->tokens * (size_t)(streams * plan_positions(d));
  return cuda_copy_in(s->cuda, address_of(s->state[state]), s->tokens, bytes, &s->failure) &&
         enqueue(s, d->step, streams, R);
}

static void free_graphs(NuwaSession *s, StepGraphs *g) {
  for (int i = 0; i < STEP_BUCKETS; i++) {
    cuda_graph_free(s->cuda, g->bucket[i]);
    g->bucket[i] = NULL;
  }
}

static bool replay_step(NuwaSession *s, int decode, int state, int64_t streams, int64_t R) {
  StepGraphs *g = &s->graphs[decode];
  CudaGraphExec *graph = &g->bucket[bucket_of(R)];
  if (g->streams != streams) free_graphs(s, g);
  g->streams = streams;
  if (!*graph) {
    if (!cuda_capture_begin(s->cuda, &s->failure)) return false;
    bool ok = enqueue_step(s, &s->plan->decode[decode], state, streams, R);
    if (!cuda_capture_end(s->cuda, ok, graph, &s->failure)) return false;
  }
  return cuda_graph_run(s->cuda, *graph, &s->failure);
}

bool cuda_run_step(NuwaSession *s, int decode, int state, int64_t streams, int64_t R) {
  const PlanDecode *d = &s->plan->decode[decode];
  if (s->failure.code != ERROR_NONE) return false;
  bool direct = s->options.cuda.direct || s->launch_ns;
  bool ok = cuda_enter(s->cuda, &s->failure) &&
            (direct ? enqueue_step(s, d, state, streams, R) : replay_step(s, decode, state, streams, R)) &&
            cuda_wait(s->cuda, &s->failure);
  return ok || error_prefix(&s->failure, "step of decode \"%s\", %lld rows", d->name, (long long)R);
}

void cuda_free_graphs(NuwaSession *s) {
  Error ignored;
  if (!s->graphs || !cuda_enter(s->cuda, &ignored)) return;
  for (int i = 0; i < s->plan->n_decode; i++) free_graphs(s, &s->graphs[i]);
}
