/* A session: all memory of a running plan, and the running of its functions on the plan's device.
 *
 * Everything is laid out and allocated in nuwa_session_open; nuwa_run only walks tables.  The arena is shared by all
 * functions, because nothing in it outlives a call. */
#include <string.h>

#include "runtime/session.h"

enum { ALIGN = PLAN_ALIGNMENT };

/* First pass (base NULL): counts bytes.  Second pass: hands out memory. */
typedef struct Room {
  uint8_t *base;
  size_t used;
  bool overflow;
} Room;

static void *layout_take(Room *l, int64_t bytes) {
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

/* Where things go: tables that the host walks, host memory of ports, memory of the device.  On a device in host memory
 * the last two are one. */
typedef struct Memories {
  Room *table, *port, *device;
} Memories;

static bool is_placing(const Memories *p) { return p->table->base != NULL; }

static int64_t tensor_bytes(Room *l, const PlanTensor *t, const NuwaOptions *o) {
  int64_t bytes = 0;
  if (!plan_tensor_bytes(t, o->samples, o->rows, &bytes)) l->overflow = true;
  return bytes;
}

static PlanTensor state_type(const PlanState *state, const NuwaOptions *o) {
  PlanTensor t = state->type;
  if (state->is_ring && o->ring_slots) t.dim[0] = dim_const(o->ring_slots);
  return t;
}

int64_t session_state_bytes(const NuwaSession *s, int state) {
  PlanTensor t = state_type(&s->plan->state[state], &s->options);
  int64_t bytes = 0;
  BUG_IF(!plan_tensor_bytes(&t, s->options.samples, s->options.rows, &bytes), "state \"%s\" has no size", t.name);
  return bytes;
}

static int64_t part_units(const NuwaOptions *o, int part) { return part == 0 ? 1 : part == 1 ? o->samples : o->rows; }

static int64_t arena_bytes_needed(Room *l, const Plan *p, const NuwaOptions *o) {
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

static int64_t largest_vocab(const Plan *p) {
  int64_t most = 0;
  for (int i = 0; i < p->n_decode; i++)
    if (p->decode[i].vocab > most) most = p->decode[i].vocab;
  return most;
}

static int64_t largest_grid(const Plan *p) {
  int64_t most = 0;
  for (int i = 0; i < p->n_decode; i++) {
    int64_t positions = plan_positions(&p->decode[i]);
    if (positions > most) most = positions;
  }
  return most;
}

static void **take_pointers(Memories *at, int n) { return layout_take(at->table, (int64_t)sizeof(void *) * n); }

static void lay_out_kept(NuwaSession *s, Memories *at) {
  const Plan *p = s->plan;
  const NuwaOptions *o = &s->options;
  s->param = take_pointers(at, p->n_param);
  s->room = take_pointers(at, p->n_param);
  s->state = take_pointers(at, p->n_state);
  for (int i = 0; i < p->n_param; i++) {
    void *place = layout_take(at->device, tensor_bytes(at->device, &p->param[i].type, o));
    if (is_placing(at)) s->param[i] = s->room[i] = place;
  }
  for (int i = 0; i < p->n_state; i++) {
    PlanTensor t = state_type(&p->state[i], o);
    void *place = layout_take(at->device, tensor_bytes(at->device, &t, o));
    if (is_placing(at)) s->state[i] = place;
  }
}

static void lay_out_ports(NuwaSession *s, Memories *at, const PlanTensor *t, int n, void ***out_host, void ***out_at) {
  void **host = take_pointers(at, n), **address = take_pointers(at, n);
  for (int i = 0; i < n; i++) {
    int64_t bytes = tensor_bytes(at->port, &t[i], &s->options);
    void *port = layout_take(at->port, bytes), *place = at->port == at->device ? port : layout_take(at->device, bytes);
    if (is_placing(at)) host[i] = port, address[i] = place;
  }
  if (is_placing(at)) *out_host = host, *out_at = address;
}

static void lay_out_function(NuwaSession *s, Memories *at, int f) {
  const PlanFunction *fn = &s->plan->function[f];
  lay_out_ports(s, at, fn->in, fn->n_in, s->input + f, s->input_at + f);
  lay_out_ports(s, at, fn->out, fn->n_out, s->output + f, s->output_at + f);
  void ***args = layout_take(at->table, (int64_t)sizeof(void *) * fn->n_launch);
  if (is_placing(at)) s->args[f] = args;
  for (int i = 0; i < fn->n_launch; i++) {
    void **refs = take_pointers(at, fn->launch[i].n_ref);
    if (is_placing(at)) args[i] = refs;
  }
}

/* *out_kept: bytes at the start of the device's memory that must begin as zeros. */
static void lay_out(NuwaSession *s, Memories *at, size_t *out_kept) {
  const Plan *p = s->plan;
  lay_out_kept(s, at);
  *out_kept = at->device->used;
  int64_t functions = (int64_t)sizeof(void *) * p->n_function;
  s->input = layout_take(at->table, functions);
  s->output = layout_take(at->table, functions);
  s->input_at = layout_take(at->table, functions);
  s->output_at = layout_take(at->table, functions);
  s->args = layout_take(at->table, functions);
  for (int f = 0; f < p->n_function; f++) lay_out_function(s, at, f);
  int threads = pool_threads(s->pool);
  s->draw_stride = 2 * (size_t)largest_vocab(p);   /* guided logits, and the sampler's own */
  s->draw_scratch = layout_take(at->table, (int64_t)(s->draw_stride * sizeof(float)) * threads);
  s->stopped = layout_take(at->table, (int64_t)sizeof *s->stopped * s->options.samples);
  s->arena = layout_take(at->device, arena_bytes_needed(at->device, p, &s->options));
  if (!s->device->is_host)
    s->tokens = layout_take(at->port, (int64_t)sizeof(int32_t) * s->options.samples * largest_grid(p));
  if (s->device->records) s->records = layout_take(at->table, (int64_t)sizeof(StepRecords) * p->n_decode);
}

static void *resolve(const NuwaSession *s, int function, const PlanRef *r) {
  const PlanFunction *f = &s->plan->function[function];
  switch (r->kind) {
  case REF_INPUT: return s->input_at[function][r->index];
  case REF_OUTPUT: return s->output_at[function][r->index];
  case REF_PARAM: return s->param[r->index];
  case REF_STATE: return s->state[r->index];
  default: break;
  }
  int64_t at = r->unit_offset * part_units(&s->options, r->part);
  for (int part = 0; part < r->part; part++) at += f->part_bytes[part] * part_units(&s->options, part);
  return s->arena + at;
}

void session_resolve(NuwaSession *s) {
  for (int f = 0; f < s->plan->n_function; f++)
    for (int i = 0; i < s->plan->function[f].n_launch; i++)
      for (int r = 0; r < s->plan->function[f].launch[i].n_ref; r++)
        s->args[f][i][r] = resolve(s, f, &s->plan->function[f].launch[i].ref[r]);
}

void session_place_param(NuwaSession *s, int param, const void *at) { s->param[param] = (void *)(uintptr_t)at; }

static bool check_options(const NuwaOptions *o, Error *err) {
  int64_t most = (int64_t)1 << 24;
  if (o->threads < 0 || o->threads > POOL_MAX_THREADS)
    return error_set(err, ERROR_ARGUMENT, "threads: %d, must be 1 to %d, or 0 for all", o->threads, POOL_MAX_THREADS);
  const struct { const char *what; int64_t n, least; } size[] = {
      {"samples", o->samples, 1}, {"rows", o->rows, 0}, {"ring slots", o->ring_slots, 0}};
  for (int i = 0; i < COUNT_OF(size); i++)
    if (size[i].n < size[i].least || size[i].n > most)
      return error_set(err, ERROR_ARGUMENT, "%s: %lld, must be %lld to %lld", size[i].what, (long long)size[i].n,
                       (long long)size[i].least, (long long)most);
  return true;
}

/* An allocation of nothing is none. */
static size_t at_least(size_t bytes) { return bytes ? bytes : ALIGN; }

static bool allocate_device(NuwaSession *s, Room *port, Room *device, const Room *ports, const Room *all,
                            size_t kept, Error *err) {
  const DeviceKind *does = s->device->does;
  if (!does->enter(s->device, err)) return false;
  device->base = does->alloc(s->device, at_least(all->used), "params, states, arena and ports", err);
  if (!device->base) return false;
  if (port != device && !(port->base = does->alloc_host(s->device, at_least(ports->used), err))) return false;
  return s->device->is_host || (does->clear(s->device, device->base, kept, err) && does->wait(s->device, err));
}

static bool allocate(NuwaSession *s, Error *err) {
  int device = s->device->is_host ? 1 : 2;
  size_t kept;
  Room count[3] = {0}, place[3] = {0};
  lay_out(s, &(Memories){&count[0], &count[1], &count[device]}, &kept);
  if (count[0].overflow || count[1].overflow || count[2].overflow)
    return error_set(err, ERROR_MEMORY, "the tensors of this model are too large for this machine");
  s->bytes = count[0].used + count[1].used + count[2].used + s->device->does->bytes(s->device);
  s->memory = mem_alloc_aligned(at_least(count[0].used), ALIGN);
  if (!s->memory)
    return error_set(err, ERROR_MEMORY, "out of memory: the tables of a session need %zu bytes", count[0].used);
  memset(s->memory, 0, count[0].used);
  place[0].base = s->memory;
  if (!allocate_device(s, &place[1], &place[device], &count[1], &count[device], kept, err)) return false;
  lay_out(s, &(Memories){&place[0], &place[1], &place[device]}, &kept);
  session_resolve(s);
  return order_init(&s->order, s->plan->decode, s->plan->n_decode, err);
}

static bool check_device(const Plan *p, const NuwaOptions *o, Error *err) {
  if ((int)p->device == o->device) return true;
  if (o->device < 0 || o->device >= PLAN_DEVICE_COUNT)
    return error_set(err, ERROR_ARGUMENT, "there is no device %d", o->device);
  return error_set(err, ERROR_DEVICE, "this bundle is for %s, it was opened for %s; compile the model for that",
                   plan_device_name(p->device), plan_device_name((PlanDevice)o->device));
}

static bool open_parts(NuwaSession *s, Error *err) {
  int threads = s->options.threads ? s->options.threads : pool_count_processors();
  return (s->pool = pool_new(threads, err)) &&
         (s->device = device_kind(s->plan->device)->open(s->plan, &s->options, s->pool, err)) && allocate(s, err);
}

NuwaSession *nuwa_session_open(const Plan *p, const NuwaOptions *options, Error *err) {
  if (!check_options(options, err) || !check_device(p, options, err)) return NULL;
  NuwaSession *s = mem_alloc(sizeof *s);
  if (!s) {
    error_set(err, ERROR_MEMORY, "out of memory for a session");
    return NULL;
  }
  s->plan = p;
  s->options = *options;
  if (s->options.rows == 0) s->options.rows = 1;
  if (open_parts(s, err)) return s;
  nuwa_session_close(s);
  return NULL;
}

void nuwa_session_close(NuwaSession *s) {
  if (!s) return;
  if (s->device) {
    step_free_records(s);
    s->device->does->close(s->device);
  }
  order_done(&s->order);
  mem_free(s->launch_ns);
  mem_free(s->memory);
  pool_free(s->pool);
  mem_free(s);
}

/* ---- running ---- */

static size_t port_bytes(const PlanTensor *t, int64_t B, int64_t R) {
  int64_t bytes = 0;
  BUG_IF(!plan_tensor_bytes(t, B, R, &bytes), "\"%s\" has no size", t->name);
  return (size_t)bytes;
}

static bool send_inputs(NuwaSession *s, int function, int64_t B, int64_t R) {
  const PlanFunction *f = &s->plan->function[function];
  for (int i = 0; i < f->n_in; i++)
    if (!s->device->does->copy_in(s->device, s->input_at[function][i], s->input[function][i],
                                  port_bytes(&f->in[i], B, R), &s->failure))
      return error_prefix(&s->failure, "input \"%s\"", f->in[i].name);
  return true;
}

static bool fetch_outputs(NuwaSession *s, int function, int64_t B, int64_t R) {
  const PlanFunction *f = &s->plan->function[function];
  for (int i = 0; i < f->n_out; i++)
    if (!s->device->does->copy_out(s->device, s->output[function][i], s->output_at[function][i],
                                   port_bytes(&f->out[i], B, R), &s->failure))
      return error_prefix(&s->failure, "output \"%s\"", f->out[i].name);
  return true;
}

static bool launch(NuwaSession *s, int function, int i, int64_t B, int64_t R) {
  const PlanLaunch *l = &s->plan->function[function].launch[i];
  return s->device->does->launch(s->device, l, s->args[function][i], B, R, &s->failure);
}

static bool launch_timed(NuwaSession *s, int function, int i, int64_t B, int64_t R) {
  const PlanLaunch *l = &s->plan->function[function].launch[i];
  int64_t ns = 0;
  bool ok = s->device->does->clock_start(s->device, &s->failure) && launch(s, function, i, B, R);
  if (ok && !(ok = s->device->does->clock_stop(s->device, &ns, &s->failure)))
    error_prefix(&s->failure, "%s", l->kind == LAUNCH_KERNEL ? s->plan->kernel[l->kernel].name : "a product");
  s->launch_ns[function][i] += ns;
  return ok;
}

/* Copies read what the sources held before the first copy: one whose source is an earlier copy's target would not, so
 * the planner never makes such a pair. */
static bool run_copies(NuwaSession *s, int function, int64_t B, int64_t R) {
  const PlanFunction *f = &s->plan->function[function];
  for (int i = 0; i < f->n_copy; i++) {
    size_t bytes = (size_t)dim_value(f->copy[i].from.bytes, B, R);
    void *to = resolve(s, function, &f->copy[i].to), *from = resolve(s, function, &f->copy[i].from);
    if (!s->device->does->copy(s->device, to, from, bytes, &s->failure)) return false;
  }
  return true;
}

bool session_enqueue(NuwaSession *s, int function, int64_t B, int64_t R) {
  const PlanFunction *f = &s->plan->function[function];
  bool copies_ports = !s->device->is_host;
  if (copies_ports && !send_inputs(s, function, B, R)) return false;
  for (int i = 0; i < f->n_launch; i++)
    if (!(s->launch_ns ? launch_timed : launch)(s, function, i, B, R)) return false;
  return run_copies(s, function, B, R) && (!copies_ports || fetch_outputs(s, function, B, R));
}

static const PlanFunction *function_of(const NuwaSession *s, int function) {
  return function >= 0 && function < s->plan->n_function ? &s->plan->function[function] : NULL;
}

bool nuwa_run(NuwaSession *s, int function, int64_t B, int64_t R) {
  const PlanFunction *f = function_of(s, function);
  s->refusal.code = ERROR_NONE;
  if (s->failure.code != ERROR_NONE) return false;
  if (!f) return error_set(&s->refusal, ERROR_ARGUMENT, "there is no function %d", function);
  if (B < 0 || B > s->options.samples || R < 0 || R > s->options.rows)
    return error_set(&s->refusal, ERROR_ARGUMENT,
                     "function \"%s\": a session for %lld samples, %lld rows was asked for %lld, %lld", f->name,
                     (long long)s->options.samples, (long long)s->options.rows, (long long)B, (long long)R);
  if (B < f->least_samples)
    return error_set(&s->refusal, ERROR_ARGUMENT, "function \"%s\" takes no batch of %lld: %s", f->name, (long long)B,
                     f->least_why);
  const DeviceKind *does = s->device->does;
  bool ok = does->enter(s->device, &s->failure) && session_enqueue(s, function, B, R) &&
            does->wait(s->device, &s->failure);
  return ok || error_prefix(&s->failure, "function \"%s\"", f->name);
}

bool nuwa_prepare(NuwaSession *s) {
  for (int f = 0; f < s->plan->n_function; f++)
    if (s->plan->function[f].is_prepare && !nuwa_run(s, f, 1, 1)) return false;
  return s->failure.code == ERROR_NONE;
}

bool nuwa_check(const NuwaSession *s, Error *err) {
  if (s->failure.code == ERROR_NONE && s->refusal.code == ERROR_NONE) return true;
  *err = s->failure.code ? s->failure : s->refusal;
  return false;
}

const char *nuwa_device_name(const NuwaSession *s) { return s->device->does->name(s->device); }

bool nuwa_kernel_is_compiled(const NuwaSession *s, int kernel) {
  return kernel >= 0 && kernel < s->plan->n_kernel && s->device->does->is_kernel_compiled(s->device, kernel);
}

static bool has_product(const NuwaSession *s, int product) { return product >= 0 && product < s->plan->n_product; }

const char *nuwa_product_algorithm(const NuwaSession *s, int product) {
  return has_product(s, product) ? s->device->does->product_algorithm(s->device, product) : "";
}

size_t nuwa_product_workspace(const NuwaSession *s, int product) {
  return has_product(s, product) ? s->device->does->product_workspace(s->device, product) : 0;
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
  const PlanFunction *f = function_of(s, function);
  return s->launch_ns && f && launch >= 0 && launch < f->n_launch ? s->launch_ns[function][launch] : 0;
}

/* ---- access ---- */

void *nuwa_input(NuwaSession *s, int function, const char *name) {
  const PlanFunction *f = function_of(s, function);
  const PlanTensor *t = f ? plan_find_input(f, name) : NULL;
  return t ? s->input[function][t - f->in] : NULL;
}

void *nuwa_output(NuwaSession *s, int function, const char *name) {
  const PlanFunction *f = function_of(s, function);
  const PlanTensor *t = f ? plan_find_output(f, name) : NULL;
  return t ? s->output[function][t - f->out] : NULL;
}

static size_t param_bytes(const NuwaSession *s, int i) { return port_bytes(&s->plan->param[i].type, 0, 0); }

static void take_room(NuwaSession *s, int i) {
  if (s->param[i] == s->room[i]) return;
  session_place_param(s, i, s->room[i]);
  session_resolve(s);
}

void *nuwa_param(NuwaSession *s, const char *name) {
  int i = plan_find_param(s->plan, name);
  if (i < 0 || !s->device->is_host) return NULL;
  if (s->param[i] != s->room[i]) { /* whoever asks may write */
    memcpy(s->room[i], s->param[i], param_bytes(s, i));
    take_room(s, i);
  }
  return s->param[i];
}

void *nuwa_state(NuwaSession *s, const char *name) {
  int i = plan_find_state(s->plan, name);
  return i < 0 || !s->device->is_host ? NULL : s->state[i];
}

bool session_read(NuwaSession *s, void *to, const void *address, size_t bytes) {
  const DeviceKind *does = s->device->does;
  return s->failure.code == ERROR_NONE && does->enter(s->device, &s->failure) &&
         does->copy_out(s->device, to, address, bytes, &s->failure) && does->wait(s->device, &s->failure);
}

bool session_write(NuwaSession *s, void *address, const void *from, size_t bytes) {
  const DeviceKind *does = s->device->does;
  return s->failure.code == ERROR_NONE && does->enter(s->device, &s->failure) &&
         does->copy_in(s->device, address, from, bytes, &s->failure) && does->wait(s->device, &s->failure);
}

/* The address and the size of a param or a state, of a param that will be written its room. */
static bool find_kept(NuwaSession *s, bool is_param, const char *name, bool writes, void **out_at, size_t *out_bytes,
                      Error *err) {
  int i = is_param ? plan_find_param(s->plan, name) : plan_find_state(s->plan, name);
  if (i < 0) return error_set(err, ERROR_ARGUMENT, "there is no %s \"%s\"", is_param ? "param" : "state", name);
  if (is_param && writes) take_room(s, i);
  *out_at = is_param ? s->param[i] : s->state[i];
  *out_bytes = is_param ? param_bytes(s, i) : (size_t)session_state_bytes(s, i);
  return true;
}

static bool read_kept(NuwaSession *s, bool is_param, const char *name, void *to, Error *err) {
  void *at = NULL;
  size_t bytes = 0;
  return find_kept(s, is_param, name, false, &at, &bytes, err) && (session_read(s, to, at, bytes) || nuwa_check(s, err));
}

static bool write_kept(NuwaSession *s, bool is_param, const char *name, const void *from, Error *err) {
  void *at = NULL;
  size_t bytes = 0;
  return find_kept(s, is_param, name, true, &at, &bytes, err) && (session_write(s, at, from, bytes) || nuwa_check(s, err));
}

bool nuwa_read_param(NuwaSession *s, const char *name, void *to, Error *err) { return read_kept(s, true, name, to, err); }

bool nuwa_write_param(NuwaSession *s, const char *name, const void *from, Error *err) {
  return write_kept(s, true, name, from, err);
}

bool nuwa_read_state(NuwaSession *s, const char *name, void *to, Error *err) { return read_kept(s, false, name, to, err); }

bool nuwa_write_state(NuwaSession *s, const char *name, const void *from, Error *err) {
  return write_kept(s, false, name, from, err);
}

int nuwa_threads(const NuwaSession *s) { return pool_threads(s->pool); }

int64_t nuwa_samples(const NuwaSession *s) { return s->options.samples; }

size_t nuwa_session_bytes(const NuwaSession *s) {
  size_t bytes = s->bytes;
  for (int i = 0; i < s->plan->n_param; i++)
    if (s->param[i] != s->room[i]) bytes -= param_bytes(s, i);
  return bytes;
}
