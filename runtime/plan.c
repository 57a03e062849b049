/* The format of a bundle, described once: the same functions write a plan and read it back.
 *
 *   "NUWAPLAN"  u32 version  u32 0  u64 length of the body  32 bytes SHA-256 of the body  body
 *
 * The body is a stream of little-endian 64-bit integers, doubles, and length-prefixed bytes in the order of the fields
 * below.  Reading checks only that the stream is well formed; plan_check (plan_check.c) checks what it says. */
#include <string.h>

#include "runtime/base/sha256.h"
#include "runtime/plan.h"

static const char PLAN_MAGIC[8] = "NUWAPLAN";
enum { PLAN_VERSION = 7, PLAN_HEADER = 56 };

/* Reads when out is NULL, else writes.  After a failure everything is a no-op and reads give zeros. */
typedef struct Codec {
  Buffer *out;
  Arena *arena;
  const uint8_t *at, *end;
  Error *err;
  bool failed;
} Codec;

static void code_fail(Codec *c, const char *what) {
  if (!c->failed && !c->out) error_set(c->err, ERROR_FORMAT, "%s", what);
  c->failed = true;
}

static void code_bytes(Codec *c, void *p, size_t n) {
  if (c->out) {
    buffer_append(c->out, p, n);
    return;
  }
  if (c->failed || (size_t)(c->end - c->at) < n) {
    memset(p, 0, n);
    code_fail(c, "the plan ends in the middle of a field");
    return;
  }
  memcpy(p, c->at, n);
  c->at += n;
}

static void code_i64(Codec *c, int64_t *x) { code_bytes(c, x, sizeof *x); }

static void code_f64(Codec *c, double *x) { code_bytes(c, x, sizeof *x); }

static void code_i32(Codec *c, int32_t *x) {
  int64_t wide = *x;
  code_i64(c, &wide);
  if (wide < INT32_MIN || wide > INT32_MAX) code_fail(c, "an integer of the plan is out of range");
  else *x = (int32_t)wide;
}

static void code_bool(Codec *c, bool *x) {
  int64_t wide = *x;
  code_i64(c, &wide);
  if (wide != 0 && wide != 1) code_fail(c, "a truth value of the plan is neither 0 nor 1");
  *x = wide == 1;
}

/* A count of things that take at least one byte each, so that a damaged one cannot ask for much memory. */
static void *code_array(Codec *c, int32_t *n, void *array, size_t elem_bytes) {
  code_i32(c, n);
  if (c->out) return array;
  if (!c->failed && (*n < 0 || *n > c->end - c->at)) code_fail(c, "a count of the plan exceeds its length");
  if (c->failed) *n = 0;
  return arena_alloc_array(c->arena, elem_bytes, (size_t)*n);
}
#define CODE_ARRAY(c, n, array) ((array) = code_array((c), &(n), (array), sizeof *(array)))

static void code_blob(Codec *c, const uint8_t **bytes, int64_t *len) {
  code_i64(c, len);
  if (c->out) {
    buffer_append(c->out, *bytes, (size_t)*len);
    return;
  }
  if (c->failed || *len < 0 || *len > c->end - c->at) {
    code_fail(c, "a blob of the plan exceeds its length");
    *len = 0;
  }
  uint8_t *copy = arena_alloc(c->arena, (size_t)*len + 1);
  memcpy(copy, c->at, (size_t)*len);
  copy[*len] = 0;
  if (!c->failed) c->at += *len;
  *bytes = copy;
}

static void code_text(Codec *c, const char **text) {
  const uint8_t *bytes = (const uint8_t *)*text;
  int64_t len = c->out ? (int64_t)strlen(*text) : 0;
  code_blob(c, &bytes, &len);
  if (!c->out && memchr(bytes, 0, (size_t)len)) code_fail(c, "a text of the plan holds a NUL");
  *text = (const char *)bytes;
}

static void code_dim(Codec *c, Dim *d) {
  code_i64(c, &d->c);
  code_i64(c, &d->b);
  code_i64(c, &d->r);
}

static void code_dtype(Codec *c, DType *t) {
  int32_t dtype = (int32_t)*t;
  code_i32(c, &dtype);
  *t = (DType)dtype;
}

static void code_tensor(Codec *c, PlanTensor *t) {
  code_text(c, &t->name);
  code_dtype(c, &t->dtype);
  code_i32(c, &t->rank);
  if (t->rank < 0 || t->rank > MAX_RANK) {
    code_fail(c, "a tensor of the plan has a rank out of range");
    t->rank = 0;
  }
  for (int i = 0; i < t->rank; i++) code_dim(c, &t->dim[i]);
}

static void code_ref(Codec *c, PlanRef *r) {
  int32_t kind = (int32_t)r->kind;
  code_i32(c, &kind);
  r->kind = (RefKind)kind;
  code_i32(c, &r->index);
  code_i32(c, &r->part);
  code_i64(c, &r->unit_offset);
  code_dim(c, &r->bytes);
}

static void code_enum(Codec *c, int32_t *x, int32_t last) {
  code_i32(c, x);
  if (*x < 0 || *x > last) {
    code_fail(c, "a choice of the plan is out of range");
    *x = 0;
  }
}

static void code_launch(Codec *c, PlanLaunch *l) {
  int32_t kind = (int32_t)l->kind;
  code_enum(c, &kind, LAUNCH_KIND_COUNT - 1);
  l->kind = (LaunchKind)kind;
  if (l->kind == LAUNCH_KERNEL) code_i32(c, &l->kernel);
  CODE_ARRAY(c, l->n_ref, l->ref);
  for (int i = 0; i < l->n_ref; i++) code_ref(c, &l->ref[i]);
  code_i32(c, &l->n_factor);
  if (l->n_factor < 0 || l->n_factor > PLAN_MAX_FACTORS) {
    code_fail(c, "a launch of the plan has too many factors");
    l->n_factor = 0;
  }
  for (int i = 0; i < l->n_factor; i++) {
    code_dim(c, &l->factor[i].size);
    code_i64(c, &l->factor[i].tile);
  }
  code_i64(c, &l->grain);
  if (l->kind != LAUNCH_PRODUCT) return;
  code_i32(c, &l->product);
  code_dim(c, &l->shape.batch);
  code_dim(c, &l->shape.m);
  code_dim(c, &l->shape.n);
  code_dim(c, &l->shape.k);
}

static void code_function(Codec *c, PlanFunction *f) {
  code_text(c, &f->name);
  CODE_ARRAY(c, f->n_in, f->in);
  for (int i = 0; i < f->n_in; i++) code_tensor(c, &f->in[i]);
  CODE_ARRAY(c, f->n_out, f->out);
  for (int i = 0; i < f->n_out; i++) code_tensor(c, &f->out[i]);
  CODE_ARRAY(c, f->n_launch, f->launch);
  for (int i = 0; i < f->n_launch; i++) code_launch(c, &f->launch[i]);
  CODE_ARRAY(c, f->n_copy, f->copy);
  for (int i = 0; i < f->n_copy; i++) {
    code_ref(c, &f->copy[i].from);
    code_ref(c, &f->copy[i].to);
  }
  for (int i = 0; i < 3; i++) code_i64(c, &f->part_bytes[i]);
  code_bool(c, &f->is_prepare);
  code_i64(c, &f->least_samples);
  if (!f->least_why) f->least_why = "";
  code_text(c, &f->least_why);
}

/* Both grids are the decode's. */
static void code_attend(Codec *c, AttendAttrs *a, const int64_t grid[3]) {
  int32_t kind = (int32_t)a->kind, edge = (int32_t)a->edge, causal = (int32_t)a->causal;
  code_enum(c, &kind, ATTEND_BLOCK);
  code_enum(c, &edge, EDGE_SHIFT);
  code_enum(c, &causal, CAUSAL_PAST);
  *a = (AttendAttrs){.kind = (AttendKind)kind, .edge = (EdgeRule)edge, .causal = (Causal)causal,
                     .lo = {a->lo[0], a->lo[1], a->lo[2]}, .hi = {a->hi[0], a->hi[1], a->hi[2]},
                     .block = {a->block[0], a->block[1], a->block[2]}};
  for (int x = 0; x < 3; x++) {
    code_i64(c, &a->lo[x]);
    code_i64(c, &a->hi[x]);
    code_i64(c, &a->block[x]);
    a->query_grid[x] = a->key_grid[x] = grid[x];
  }
}

static void code_decode(Codec *c, PlanDecode *d) {
  code_text(c, &d->name);
  for (int x = 0; x < 3; x++) code_i64(c, &d->grid[x]);
  code_i64(c, &d->vocab);
  code_bool(c, &d->has_stop);
  code_i64(c, &d->stop);
  code_i32(c, &d->prologue);
  code_i32(c, &d->step);
  CODE_ARRAY(c, d->n_attend, d->attend);
  for (int i = 0; i < d->n_attend; i++) code_attend(c, &d->attend[i], d->grid);
  CODE_ARRAY(c, d->n_stencil, d->stencil);
  for (int i = 0; i < d->n_stencil; i++) {
    for (int x = 0; x < 3; x++) code_i64(c, &d->stencil[i].delta[x]);
    code_bool(c, &d->stencil[i].raster);
  }
  for (int x = 0; x < 3; x++) {
    code_i64(c, &d->wavefront[x]);
    code_i64(c, &d->raster[x]);
  }
  code_i64(c, &d->live);
}

static void code_kernel(Codec *c, PlanKernel *k) {
  code_text(c, &k->name);
  code_i32(c, &k->object);
  code_i64(c, &k->scratch_bytes);
  code_i32(c, &k->threads);
  code_i32(c, &k->items);
  code_i64(c, &k->shared_bytes);
}

static void code_product(Codec *c, PlanProduct *p) {
  code_dtype(c, &p->in);
  code_dtype(c, &p->out);
  code_bool(c, &p->transpose_a);
  code_bool(c, &p->transpose_b);
  code_bool(c, &p->share_b);
  code_bool(c, &p->bias);
  code_text(c, &p->algorithm);
}

static void code_object(Codec *c, PlanObject *o) {
  CODE_ARRAY(c, o->n_image, o->image);
  for (int i = 0; i < o->n_image; i++) {
    code_i32(c, &o->image[i].arch);
    code_blob(c, &o->image[i].bytes, &o->image[i].len);
  }
}

static void code_plan(Codec *c, Plan *p) {
  int32_t device = (int32_t)p->device;
  code_i32(c, &device);
  p->device = (PlanDevice)device;
  code_text(c, &p->isa);
  code_text(c, &p->features);
  CODE_ARRAY(c, p->n_param, p->param);
  for (int i = 0; i < p->n_param; i++) {
    code_tensor(c, &p->param[i].type);
    code_i32(c, &p->param[i].init);
    code_f64(c, &p->param[i].scale);
    code_bool(c, &p->param[i].is_updated);
  }
  CODE_ARRAY(c, p->n_state, p->state);
  for (int i = 0; i < p->n_state; i++) {
    code_tensor(c, &p->state[i].type);
    code_bool(c, &p->state[i].is_ring);
  }
  CODE_ARRAY(c, p->n_function, p->function);
  for (int i = 0; i < p->n_function; i++) code_function(c, &p->function[i]);
  CODE_ARRAY(c, p->n_kernel, p->kernel);
  for (int i = 0; i < p->n_kernel; i++) code_kernel(c, &p->kernel[i]);
  CODE_ARRAY(c, p->n_product, p->product);
  for (int i = 0; i < p->n_product; i++) code_product(c, &p->product[i]);
  CODE_ARRAY(c, p->n_object, p->object);
  for (int i = 0; i < p->n_object; i++) code_object(c, &p->object[i]);
  CODE_ARRAY(c, p->n_decode, p->decode);
  for (int i = 0; i < p->n_decode; i++) code_decode(c, &p->decode[i]);
  CODE_ARRAY(c, p->n_text, p->text);
  for (int i = 0; i < p->n_text; i++) {
    code_text(c, &p->text[i].key);
    code_text(c, &p->text[i].value);
  }
}

bool plan_write(const Plan *p, Buffer *out, Error *err) {
  Buffer body = {0};
  Codec c = {.out = &body, .err = err};
  code_plan(&c, (Plan *)p);   /* writing changes nothing */
  uint8_t digest[32];
  sha256(body.data, body.len, digest);
  uint32_t version[2] = {PLAN_VERSION, 0};
  uint64_t length = body.len;
  buffer_append(out, PLAN_MAGIC, sizeof PLAN_MAGIC);
  buffer_append(out, version, sizeof version);
  buffer_append(out, &length, sizeof length);
  buffer_append(out, digest, sizeof digest);
  buffer_append(out, body.data, body.len);
  bool ok = !body.failed && !out->failed;
  buffer_done(&body);
  return ok ? true : error_set(err, ERROR_MEMORY, "out of memory while writing a bundle");
}

static bool header_check(const uint8_t *bytes, size_t n, const char *where, Error *err) {
  if (n < PLAN_HEADER || memcmp(bytes, PLAN_MAGIC, sizeof PLAN_MAGIC) != 0)
    return error_set(err, ERROR_FORMAT, "%s: not a nuwa bundle (it does not start with \"NUWAPLAN\")", where);
  uint32_t version;
  uint64_t length;
  memcpy(&version, bytes + 8, sizeof version);
  memcpy(&length, bytes + 16, sizeof length);
  if (version != PLAN_VERSION)
    return error_set(err, ERROR_FORMAT, "%s: bundle version %u, this program reads version %d", where, version,
                     PLAN_VERSION);
  if (length != n - PLAN_HEADER)
    return error_set(err, ERROR_FORMAT, "%s: truncated or too long: the header promises %llu bytes, there are %llu", where,
                     (unsigned long long)length, (unsigned long long)(n - PLAN_HEADER));
  if (memcmp(bytes + 12, "\0\0\0\0", 4) != 0)
    return error_set(err, ERROR_FORMAT, "%s: damaged: four bytes of the header are not zero", where);
  uint8_t digest[32];
  sha256(bytes + PLAN_HEADER, n - PLAN_HEADER, digest);
  if (memcmp(digest, bytes + 24, 32) != 0)
    return error_set(err, ERROR_FORMAT, "%s: damaged: the contents do not match their SHA-256", where);
  return true;
}

typedef struct ReadCall {
  Codec codec;
  Arena *arena;
  Plan *plan;
} ReadCall;

static void read_body(void *ctx) {
  ReadCall *call = ctx;
  call->plan = ARENA_NEW(call->arena, Plan);
  call->plan->arena = call->arena;
  code_plan(&call->codec, call->plan);
  if (!call->codec.failed && call->codec.at != call->codec.end) code_fail(&call->codec, "bytes follow the end of the plan");
  if (!call->codec.failed && !plan_check(call->plan, call->codec.err)) call->codec.failed = true;
}

Plan *plan_read(const void *bytes, size_t n, const char *where, Error *err) {
  if (!header_check(bytes, n, where, err)) return NULL;
  Arena *arena = arena_new();
  if (!arena) {
    error_set(err, ERROR_MEMORY, "%s: out of memory", where);
    return NULL;
  }
  ReadCall call = {.arena = arena};
  call.codec = (Codec){
      .arena = arena, .at = (const uint8_t *)bytes + PLAN_HEADER, .end = (const uint8_t *)bytes + n, .err = err};
  bool ok = arena_protect(arena, read_body, &call, err);
  if (ok && !call.codec.failed) return call.plan;
  error_prefix(err, "%s", where);
  arena_free(arena);
  return NULL;
}

void plan_free(Plan *p) {
  if (p) arena_free(p->arena);
}

const char *plan_device_name(PlanDevice d) { return d == PLAN_CUDA ? "cuda" : "cpu"; }

int plan_find_function(const Plan *p, const char *name) {
  for (int i = 0; i < p->n_function; i++)
    if (strcmp(p->function[i].name, name) == 0) return i;
  return -1;
}

int plan_find_decode(const Plan *p, const char *name) {
  for (int i = 0; i < p->n_decode; i++)
    if (strcmp(p->decode[i].name, name) == 0) return i;
  return -1;
}

int plan_find_param(const Plan *p, const char *name) {
  for (int i = 0; i < p->n_param; i++)
    if (strcmp(p->param[i].type.name, name) == 0) return i;
  return -1;
}

int plan_find_state(const Plan *p, const char *name) {
  for (int i = 0; i < p->n_state; i++)
    if (strcmp(p->state[i].type.name, name) == 0) return i;
  return -1;
}

static const PlanTensor *find_tensor(const PlanTensor *list, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (strcmp(list[i].name, name) == 0) return &list[i];
  return NULL;
}

const PlanTensor *plan_find_input(const PlanFunction *f, const char *name) { return find_tensor(f->in, f->n_in, name); }

const PlanTensor *plan_find_output(const PlanFunction *f, const char *name) {
  return find_tensor(f->out, f->n_out, name);
}

int64_t plan_items(const PlanLaunch *l, int64_t B, int64_t R) {
  int64_t n = 1;
  for (int i = 0; i < l->n_factor; i++) {
    int64_t size = dim_value(l->factor[i].size, B, R), tile = l->factor[i].tile;
    n *= (size + tile - 1) / tile;
  }
  return n;
}

int64_t plan_positions(const PlanDecode *d) { return d->grid[0] * d->grid[1] * d->grid[2]; }

const char *plan_text(const Plan *p, const char *key) {
  for (int i = 0; i < p->n_text; i++)
    if (strcmp(p->text[i].key, key) == 0) return p->text[i].value;
  return NULL;
}
