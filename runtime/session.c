/* A session: all memory of a running plan, and the launching of its kernels.
 *
 * Everything is laid out and allocated in nuwa_session_open; nuwa_run only walks tables.  The arena is shared by all
 * functions, because nothing in it outlives a call. */
#include <string.h>
#include <time.h>

#include "runtime/session.h"

enum { ALIGN = 64 };

/* First pass (base NULL): counts bytes.  Second pass: hands out memory. */
typedef struct Layout {
  uint8_t *base;
  size_t used;
  bool overflow;
} Layout;

static void *layout_take(Layout *l, int64_t bytes) {
  size_t room;
  if (bytes < 0 || !size_add((size_t)bytes, ALIGN - 1, &room)) {
    l->overflow = true;
    return NULL;
  }
  room &= ~(size_t)(ALIGN - 1);
  void *at = l->base ? l->base + l->used : NULL;
  if (!size_add(l->used, room, &l->used)) l->overflow = true;
  return at;
}

static int64_t tensor_bytes(Layout *l, const PlanTensor *t, const NuwaOptions *o) {
  int64_t bytes = 0;
  if (!plan_tensor_bytes(t, o->samples, o->rows, &bytes)) l->overflow = true;
  return bytes;
}

static int64_t state_bytes(Layout *l, const PlanState *state, const NuwaOptions *o) {
  PlanTensor t = state->type;
  if (state->is_ring && o->ring_slots) t.dim[0] = dim_const(o->ring_slots);
  return tensor_bytes(l, &t, o);
}

static int64_t part_units(const NuwaOptions *o, int part) { return part == 0 ? 1 : part == 1 ? o->samples : o->rows; }

static int64_t arena_bytes_needed(Layout *l, const Plan *p, const NuwaOptions *o) {
  int64_t most = 0;
  for (int i = 0; i < p->n_function; i++) {
    int64_t total = 0;
    for (int part = 0; part < 3; part++) {
      int64_t bytes;
      if (__builtin_mul_overflow(p->function[i].part_bytes[part], part_units(o, part), &bytes) ||
          __builtin_add_overflow(total, bytes, &total))
        l->overflow = true;
    }
    if (total > most) most = total;
  }
  return most;
}

static int64_t scratch_stride(const Plan *p) {
  int64_t most = 0;
  for (int i = 0; i < p->n_kernel; i++)
    if (p->kernel[i].scratch_bytes > most) most = p->kernel[i].scratch_bytes;
  return (most + ALIGN - 1) & ~(int64_t)(ALIGN - 1);
}

static int64_t largest_vocab(const Plan *p) {
  int64_t most = 0;
  for (int i = 0; i < p->n_decode; i++)
    if (p->decode[i].vocab > most) most = p->decode[i].vocab;
  return most;
}

static void lay_out(NuwaSession *s, Layout *l) {
  const Plan *p = s->plan;
  const NuwaOptions *o = &s->options;
  s->param = layout_take(l, (int64_t)sizeof(void *) * p->n_param);
  s->state = layout_take(l, (int64_t)sizeof(void *) * p->n_state);
  s->input = layout_take(l, (int64_t)sizeof(void *) * p->n_function);
  s->output = layout_take(l, (int64_t)sizeof(void *) * p->n_function);
  s->args = layout_take(l, (int64_t)sizeof(void *) * p->n_function);
  s->kernel = layout_take(l, (int64_t)sizeof(KernelFn) * p->n_kernel);
  for (int i = 0; i < p->n_param; i++) {
    void *at = layout_take(l, tensor_bytes(l, &p->param[i].type, o));
    if (l->base) s->param[i] = at;
  }
  for (int i = 0; i < p->n_state; i++) {
    void *at = layout_take(l, state_bytes(l, &p->state[i], o));
    if (l->base) s->state[i] = at;
  }
  for (int f = 0; f < p->n_function; f++) {
    const PlanFunction *fn = &p->function[f];
    void **in = layout_take(l, (int64_t)sizeof(void *) * fn->n_in), **out = layout_take(l, (int64_t)sizeof(void *) * fn->n_out);
    void ***args = layout_take(l, (int64_t)sizeof(void *) * fn->n_launch);
    if (l->base) s->input[f] = in, s->output[f] = out, s->args[f] = args;
    for (int i = 0; i < fn->n_in; i++) {
      void *at = layout_take(l, tensor_bytes(l, &fn->in[i], o));
      if (l->base) in[i] = at;
    }
    for (int i = 0; i < fn->n_out; i++) {
      void *at = layout_take(l, tensor_bytes(l, &fn->out[i], o));
      if (l->base) out[i] = at;
    }
    for (int i = 0; i < fn->n_launch; i++) {
      void *at = layout_take(l, (int64_t)sizeof(void *) * fn->launch[i].n_ref);
      if (l->base) args[i] = at;
    }
  }
  int threads = pool_threads(s->pool);
  s->scratch_stride = (size_t)scratch_stride(p);
  s->draw_stride = 2 * (size_t)largest_vocab(p);   /* guided logits, and the sampler's own */
  s->scratch = layout_take(l, (int64_t)s->scratch_stride * threads);
  s->draw_scratch = layout_take(l, (int64_t)(s->draw_stride * sizeof(float)) * threads);
  s->arena = layout_take(l, arena_bytes_needed(l, p, o));
}

void *session_resolve(const NuwaSession *s, int function, const PlanRef *r) {
  const PlanFunction *f = &s->plan->function[function];
  switch (r->kind) {
  case REF_INPUT: return s->input[function][r->index];
  case REF_OUTPUT: return s->output[function][r->index];
  case REF_PARAM: return s->param[r->index];
  case REF_STATE: return s->state[r->index];
  default: break;
  }
  int64_t at = r->unit_offset * part_units(&s->options, r->part);
  for (int part = 0; part < r->part; part++) at += f->part_bytes[part] * part_units(&s->options, part);
  return s->arena + at;
}

static void resolve_args(NuwaSession *s) {
  for (int f = 0; f < s->plan->n_function; f++)
    for (int i = 0; i < s->plan->function[f].n_launch; i++)
      for (int r = 0; r < s->plan->function[f].launch[i].n_ref; r++)
        s->args[f][i][r] = session_resolve(s, f, &s->plan->function[f].launch[i].ref[r]);
}

static bool load_objects(NuwaSession *s, Error *err) {
  const Plan *p = s->plan;
  s->object = mem_alloc(sizeof(Object *) * (size_t)(p->n_object ? p->n_object : 1));
  if (!s->object) return error_set(err, ERROR_MEMORY, "out of memory for %d objects", p->n_object);
  for (int i = 0; i < p->n_object; i++) {
    s->object[i] = object_load(p->object[i].bytes, (size_t)p->object[i].len, err);
    if (!s->object[i]) return error_prefix(err, "native object %d", i);
  }
  return true;
}

static bool find_kernels(NuwaSession *s, Error *err) {
  for (int i = 0; i < s->plan->n_kernel; i++) {
    const PlanKernel *k = &s->plan->kernel[i];
    void *at = object_symbol(s->object[k->object], k->name);
    if (!at) return error_set(err, ERROR_FORMAT, "kernel \"%s\" is not in native object %d", k->name, k->object);
    memcpy(&s->kernel[i], &at, sizeof at);
  }
  return true;
}

static bool check_options(const NuwaOptions *o, Error *err) {
  int64_t most = (int64_t)1 << 24;
  if (o->threads < 0 || o->threads > POOL_MAX_THREADS)
    return error_set(err, ERROR_ARGUMENT, "threads: %d, must be 1 to %d, or 0 for all", o->threads, POOL_MAX_THREADS);
  if (o->samples < 1 || o->samples > most || o->rows < 0 || o->rows > most || o->ring_slots < 0 || o->ring_slots > most)
    return error_set(err, ERROR_ARGUMENT, "samples %lld, rows %lld, ring slots %lld: out of range", (long long)o->samples,
                     (long long)o->rows, (long long)o->ring_slots);
  return true;
}

static bool allocate(NuwaSession *s, Error *err) {
  Layout count = {0};
  lay_out(s, &count);
  if (count.overflow) return error_set(err, ERROR_MEMORY, "the tensors of this model are too large for this machine");
  s->bytes = count.used;
  s->memory = mem_alloc_aligned(count.used ? count.used : ALIGN, ALIGN);
  if (!s->memory) return error_set(err, ERROR_MEMORY, "out of memory: a session needs %zu bytes", count.used);
  memset(s->memory, 0, count.used);
  Layout place = {.base = s->memory};
  lay_out(s, &place);
  resolve_args(s);
  int64_t positions = 0;
  for (int i = 0; i < s->plan->n_decode; i++) {
    const int64_t *grid = s->plan->decode[i].grid;
    if (grid[0] * grid[1] * grid[2] > positions) positions = grid[0] * grid[1] * grid[2];
  }
  return order_init(&s->order, positions, err);
}

NuwaSession *nuwa_session_open(const Plan *p, const NuwaOptions *options, Error *err) {
  if (!check_options(options, err)) return NULL;
  if (!isa_is_available(p->isa)) {
    error_set(err, ERROR_DEVICE, "this bundle holds code for %s, which this machine lacks", p->isa);
    return NULL;
  }
  NuwaSession *s = mem_alloc(sizeof *s);
  if (!s) {
    error_set(err, ERROR_MEMORY, "out of memory for a session");
    return NULL;
  }
  s->plan = p;
  s->options = *options;
  if (s->options.rows == 0) s->options.rows = 1;
  s->pool = pool_new(options->threads ? options->threads : pool_count_processors(), err);
  if (s->pool && load_objects(s, err) && allocate(s, err) && find_kernels(s, err)) return s;
  nuwa_session_close(s);
  return NULL;
}

void nuwa_session_close(NuwaSession *s) {
  if (!s) return;
  for (int i = 0; s->object && i < s->plan->n_object; i++) object_free(s->object[i]);
  mem_free(s->object);
  order_done(&s->order);
  mem_free(s->launch_ns);
  mem_free(s->memory);
  pool_free(s->pool);
  mem_free(s);
}

/* ---- launching ---- */

typedef struct Launch {
  const NuwaSession *session;
  KernelFn fn;
  void **args;
  int64_t dim[2];
} Launch;

static void launch_items(void *ctx, int64_t begin, int64_t end, int thread) {
  const Launch *l = ctx;
  l->fn(l->args, l->dim, begin, end, l->session->scratch + (size_t)thread * l->session->scratch_stride);
}

static int64_t launch_count(const PlanLaunch *l, int64_t B, int64_t R) {
  int64_t n = 1;
  for (int i = 0; i < l->n_factor; i++) {
    int64_t size = dim_value(l->factor[i].size, B, R), tile = l->factor[i].tile;
    n *= (size + tile - 1) / tile;
  }
  return n;
}

/* Copies read what the sources held before the first copy: one whose source is an earlier copy's target would not, so
 * the planner never makes such a pair. */
static void run_copies(NuwaSession *s, int function, int64_t B, int64_t R) {
  const PlanFunction *f = &s->plan->function[function];
  for (int i = 0; i < f->n_copy; i++)
    memmove(session_resolve(s, function, &f->copy[i].to), session_resolve(s, function, &f->copy[i].from),
            (size_t)dim_value(f->copy[i].from.bytes, B, R));
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void nuwa_run(NuwaSession *s, int function, int64_t B, int64_t R) {
  BUG_IF(function < 0 || function >= s->plan->n_function, "no function %d", function);
  BUG_IF(B < 0 || B > s->options.samples || R < 0 || R > s->options.rows, "a session for %lld samples, %lld rows was asked for %lld, %lld",
         (long long)s->options.samples, (long long)s->options.rows, (long long)B, (long long)R);
  const PlanFunction *f = &s->plan->function[function];
  for (int i = 0; i < f->n_launch; i++) {
    const PlanLaunch *l = &f->launch[i];
    Launch call = {.session = s, .fn = s->kernel[l->kernel], .args = s->args[function][i], .dim = {B, R}};
    int64_t begin = s->launch_ns ? now_ns() : 0;
    pool_run(s->pool, launch_items, &call, launch_count(l, B, R), l->grain);
    if (s->launch_ns) s->launch_ns[function][i] += now_ns() - begin;
  }
  run_copies(s, function, B, R);
}

void nuwa_prepare(NuwaSession *s) {
  for (int f = 0; f < s->plan->n_function; f++)
    if (s->plan->function[f].is_prepare) nuwa_run(s, f, 1, 1);
}

bool nuwa_profile_start(NuwaSession *s, Error *err) {
  const Plan *p = s->plan;
  size_t launches = 0, functions = (size_t)p->n_function;
  for (int f = 0; f < p->n_function; f++) launches += (size_t)p->function[f].n_launch;
  mem_free(s->launch_ns);
  s->launch_ns = mem_alloc(functions * sizeof *s->launch_ns + launches * sizeof **s->launch_ns);
  if (!s->launch_ns) return error_set(err, ERROR_MEMORY, "profile: out of memory for %zu launches", launches);
  int64_t *at = (int64_t *)(void *)(s->launch_ns + functions);
  for (int f = 0; f < p->n_function; f++) {
    s->launch_ns[f] = at;
    at += p->function[f].n_launch;
  }
  return true;
}

int64_t nuwa_profile_ns(const NuwaSession *s, int function, int launch) {
  return s->launch_ns ? s->launch_ns[function][launch] : 0;
}

/* ---- access ---- */

static void *find_tensor(const PlanTensor *list, int n, void **memory, const char *name) {
  for (int i = 0; i < n; i++)
    if (strcmp(list[i].name, name) == 0) return memory[i];
  return NULL;
}

void *nuwa_input(NuwaSession *s, int function, const char *name) {
  return find_tensor(s->plan->function[function].in, s->plan->function[function].n_in, s->input[function], name);
}

void *nuwa_output(NuwaSession *s, int function, const char *name) {
  return find_tensor(s->plan->function[function].out, s->plan->function[function].n_out, s->output[function], name);
}

void *nuwa_param(NuwaSession *s, const char *name) {
  for (int i = 0; i < s->plan->n_param; i++)
    if (strcmp(s->plan->param[i].type.name, name) == 0) return s->param[i];
  return NULL;
}

void *nuwa_state(NuwaSession *s, const char *name) {
  for (int i = 0; i < s->plan->n_state; i++)
    if (strcmp(s->plan->state[i].type.name, name) == 0) return s->state[i];
  return NULL;
}

int nuwa_threads(const NuwaSession *s) { return pool_threads(s->pool); }

int64_t nuwa_samples(const NuwaSession *s) { return s->options.samples; }

size_t nuwa_session_bytes(const NuwaSession *s) { return s->bytes; }
