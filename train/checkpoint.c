/* Writing and reading the state of a run.  A run's tensors are listed once (list_tensors), for both directions. */
#include "train/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/names.h"
#include "runtime/base/sha256.h"

static const char format_name[] = "nuwa-checkpoint-3";
static const char meta_step[] = "step", meta_digest[] = "sha256";

/* Where a tensor of a run lives in the session. */
typedef enum Home { HOME_PARAM, HOME_STATE } Home;

typedef struct StatePlace {
  Home home;
  const char *name; /* in the session */
  void *memory;     /* that the host reaches; NULL: it does not */
} StatePlace;

typedef struct TensorList {
  Arena *arena;
  TensorView *view;
  StatePlace *place; /* of view[i] */
  int n, cap, n_place, cap_place;
} TensorList;

static void list_push(TensorList *l, const char *prefix, const PlanTensor *t, Home home, void *memory) {
  TensorView v = {
      .name = arena_printf(l->arena, "%s%s", prefix, t->name), .dtype = t->dtype, .rank = t->rank, .data = memory};
  StatePlace place = {home, t->name, memory};
  int64_t bytes = 0;
  for (int i = 0; i < t->rank; i++) v.dim[i] = t->dim[i].c;
  BUG_IF(!plan_tensor_bytes(t, 0, 0, &bytes), "\"%s\" has no size", t->name);
  v.bytes = (size_t)bytes;
  ARENA_PUSH(l->arena, l->view, l->n, l->cap, v);
  ARENA_PUSH(l->arena, l->place, l->n_place, l->cap_place, place);
}

/* Copies of what the host does not reach. */
static bool list_fetch(TensorList *l, NuwaSession *s, Error *err) {
  for (int i = 0; i < l->n; i++) {
    const StatePlace *p = &l->place[i];
    if (p->memory) continue;
    void *copy = arena_alloc(l->arena, l->view[i].bytes);
    l->view[i].data = copy;
    if (!(p->home == HOME_PARAM ? nuwa_read_param(s, p->name, copy, err) : nuwa_read_state(s, p->name, copy, err)))
      return false;
  }
  return true;
}

static bool put(NuwaSession *s, const StatePlace *p, const TensorView *from, Error *err) {
  return p->home == HOME_PARAM ? nuwa_write_param(s, p->name, from->data, err)
                               : nuwa_write_state(s, p->name, from->data, err);
}

static void mark_state(const PlanRef *r, bool *used) {
  if (r->kind == REF_STATE) used[r->index] = true;
}

static void find_states(const PlanFunction *f, bool *used) {
  for (int i = 0; i < f->n_launch; i++)
    for (int k = 0; k < f->launch[i].n_ref; k++) mark_state(&f->launch[i].ref[k], used);
  for (int i = 0; i < f->n_copy; i++) mark_state(&f->copy[i].from, used), mark_state(&f->copy[i].to, used);
}

static void list_tensors(TensorList *l, const Checkpoint *c) {
  const Plan *p = c->plan;
  bool *used = ARENA_ARRAY(l->arena, bool, p->n_state + 1);
  for (int i = 0; i < c->n_entry; i++) find_states(&p->function[c->entry[i].function], used);
  for (int i = 0; i < p->n_param; i++)
    list_push(l, "param.", &p->param[i].type, HOME_PARAM, nuwa_param(c->session, p->param[i].type.name));
  for (int i = 0; i < p->n_state; i++)
    if (used[i]) list_push(l, "state.", &p->state[i].type, HOME_STATE, nuwa_state(c->session, p->state[i].type.name));
}

/* ---- numbers ---- */

/* The element of a view as a number. */
static float element_at(const TensorView *v, size_t i) {
  return v->dtype == DTYPE_F32 ? ((const float *)v->data)[i] : f32_from_bf16(((const uint16_t *)v->data)[i]);
}

/* No NaN anywhere, nor infinity in what is trained (a mask may be made of such): training that went wrong between the
 * checks of its steps is not to replace a file that is good. */
static bool check_numbers(const TensorList *l, const Plan *p, const char *path, Error *err) {
  for (int i = 0; i < l->n; i++) {
    const TensorView *v = &l->view[i];
    if (!dtype_is_float(v->dtype)) continue;
    const char *name = l->place[i].name;
    int param = l->place[i].home == HOME_PARAM ? plan_find_param(p, name) : -1;
    bool refuses_infinity = param < 0 || p->param[param].is_updated;
    for (size_t k = 0, n = v->bytes / dtype_bytes(v->dtype); k < n; k++) {
      float x = element_at(v, k);
      if (!isnan(x) && !(refuses_infinity && isinf(x))) continue;
      return error_set(err, ERROR_ARGUMENT, "%s was not written: \"%.400s\" holds %g at element %zu: training diverged",
                       path, name, (double)x, k);
    }
  }
  return true;
}

static void digest_views(const TensorView *const *view, int n, char out[65]) {
  Sha256 h;
  uint8_t digest[32];
  sha256_init(&h);
  for (int i = 0; i < n; i++) sha256_update(&h, view[i]->data, view[i]->bytes);
  sha256_done(&h, digest);
  sha256_hex(digest, out);
}

/* ---- writing ---- */

typedef struct CheckpointWriting {
  const Checkpoint *c;
  const char *path;
  TensorList list;
  Error *err;
  bool ok;
} CheckpointWriting;

static void write_body(void *ctx) {
  CheckpointWriting *w = ctx;
  char step[24], digest[65];
  list_tensors(&w->list, w->c);
  if (!list_fetch(&w->list, w->c->session, w->err)) return;
  const TensorView **view = ARENA_ARRAY(w->list.arena, const TensorView *, w->list.n);
  for (int i = 0; i < w->list.n; i++) view[i] = &w->list.view[i];
  if (!check_numbers(&w->list, w->c->plan, w->path, w->err)) {
    error_prefix(w->err, "step %lld", (long long)w->c->step);
    return;
  }
  digest_views(view, w->list.n, digest);
  snprintf(step, sizeof step, "%lld", (long long)w->c->step);
  MetadataEntry meta[] = {{META_FORMAT, format_name}, {meta_step, step}, {META_RECIPE, w->c->recipe}, {meta_digest, digest}};
  w->ok = safetensors_write(w->path, w->list.view, w->list.n, meta, COUNT_OF(meta), w->err);
}

bool checkpoint_write(const Checkpoint *c, const char *path, Error *err) {
  CheckpointWriting w = {.c = c, .path = path, .list.arena = arena_new(), .err = err};
  if (!w.list.arena) return error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  bool within = arena_protect(w.list.arena, write_body, &w, err);
  arena_free(w.list.arena);
  return within && w.ok;
}

/* ---- reading ---- */

typedef struct Reading {
  Checkpoint *c;
  const char *path;
  Safetensors *file;
  TensorList list;
  Error *err;
  bool ok;
} Reading;

/* Everything that shapes a run must be the same, and is in its recipe. */
static bool check_recipe(const Reading *r, const char *have) {
  JsonDifference d;
  if (!json_compare(r->list.arena, have, r->c->recipe, r->c->is_told, &d, r->err))
    return error_prefix(r->err, "%s: the recipe", r->path);
  return !d.name ||
         error_set(r->err, ERROR_ARGUMENT, "%s is the checkpoint of another run: its %s%s is %s, this run's is %s",
                   r->path, d.within, d.name, d.theirs, d.ours);
}

static bool check_metadata(Reading *r) {
  const char *format = safetensors_metadata(r->file, META_FORMAT), *step = safetensors_metadata(r->file, meta_step);
  const char *recipe = safetensors_metadata(r->file, META_RECIPE);
  if (!format || strcmp(format, format_name) != 0 || !step || !recipe)
    return error_set(r->err, ERROR_FORMAT, "%s is no checkpoint of a training run (%s)", r->path, format_name);
  char *end;
  errno = 0;
  long long n = strtoll(step, &end, 10);
  if (end == step || *end || errno || n < 0)
    return error_set(r->err, ERROR_FORMAT, "%s: its step is \"%.40s\", not a number", r->path, step);
  if (!check_recipe(r, recipe)) return false;
  r->c->step = n;
  return true;
}

static bool same_type(const TensorView *a, const TensorView *b) {
  if (a->dtype != b->dtype || a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->dim[i] != b->dim[i]) return false;
  return true;
}

static bool check_digest(const Reading *r) {
  const char *want = safetensors_metadata(r->file, meta_digest);
  int n = safetensors_count(r->file);
  char have[65];
  const TensorView **view = ARENA_ARRAY(r->list.arena, const TensorView *, n + 1);
  for (int i = 0; i < n; i++) view[i] = safetensors_get(r->file, i);
  digest_views(view, n, have);
  if (want && strcmp(want, have) == 0) return true;
  return error_set(r->err, ERROR_FORMAT, "%s is damaged: its tensors do not have the digest it states", r->path);
}

static bool check_tensors(const Reading *r) {
  if (safetensors_count(r->file) != r->list.n)
    return error_set(r->err, ERROR_FORMAT, "%s holds %d tensors, this run has %d", r->path,
                     safetensors_count(r->file), r->list.n);
  for (int i = 0; i < r->list.n; i++) {
    const TensorView *v = safetensors_find(r->file, r->list.view[i].name);
    if (!v) return error_set(r->err, ERROR_FORMAT, "%s lacks \"%s\"", r->path, r->list.view[i].name);
    if (!same_type(v, &r->list.view[i]))
      return error_set(r->err, ERROR_FORMAT, "%s: \"%s\" has another type or shape than in this run", r->path,
                       v->name);
  }
  return check_digest(r);
}

static void read_body(void *ctx) {
  Reading *r = ctx;
  int64_t step = r->c->step;
  list_tensors(&r->list, r->c);
  if (!check_metadata(r) || !check_tensors(r)) {
    r->c->step = step;
    return;
  }
  for (int i = 0; i < r->list.n; i++)
    if (!put(r->c->session, &r->list.place[i], safetensors_find(r->file, r->list.view[i].name), r->err)) return;
  r->ok = true;
}

bool checkpoint_read(Checkpoint *c, const char *path, Error *err) {
  Reading r = {.c = c, .path = path, .file = safetensors_open(path, err), .err = err};
  if (!r.file) return false;
  r.list.arena = arena_new();
  bool within = r.list.arena ? arena_protect(r.list.arena, read_body, &r, err)
                             : error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  arena_free(r.list.arena);
  safetensors_close(r.file);
  return within && r.ok;
}

/* ---- final weights ---- */

typedef struct WritingWeights {
  NuwaSession *session;
  const Plan *plan;
  const TensorView *more;
  int n_more;
  const char *path;
  bool as_bf16;
  const MetadataEntry *meta;
  int n_meta;
  TensorList list;
  Error *err;
  bool ok;
} WritingWeights;

static void round_view(Arena *a, TensorView *v) {
  size_t n = v->bytes / sizeof(float);
  const float *from = v->data;
  uint16_t *to = ARENA_ARRAY(a, uint16_t, n + 1);
  for (size_t i = 0; i < n; i++) to[i] = bf16_from_f32(from[i]);
  v->data = to;
  v->dtype = DTYPE_BF16;
  v->bytes = n * sizeof *to;
}

static void write_weights_body(void *ctx) {
  WritingWeights *w = ctx;
  for (int i = 0; i < w->plan->n_param; i++) {
    const PlanTensor *t = &w->plan->param[i].type;
    list_push(&w->list, "", t, HOME_PARAM, nuwa_param(w->session, t->name));
  }
  if (!list_fetch(&w->list, w->session, w->err)) return;
  if (!check_numbers(&w->list, w->plan, w->path, w->err)) return;
  for (int i = 0; i < w->n_more; i++) ARENA_PUSH(w->list.arena, w->list.view, w->list.n, w->list.cap, w->more[i]);
  for (int i = 0; i < w->list.n; i++)
    if (w->as_bf16 && w->list.view[i].dtype == DTYPE_F32) round_view(w->list.arena, &w->list.view[i]);
  w->ok = safetensors_write(w->path, w->list.view, w->list.n, w->meta, w->n_meta, w->err);
}

bool weights_write(NuwaSession *s, const Plan *p, const TensorView *more, int n_more, const char *path, bool as_bf16,
                   const MetadataEntry *meta, int n_meta, Error *err) {
  WritingWeights w = {s, p, more, n_more, path, as_bf16, meta, n_meta, {.arena = arena_new()}, err, false};
  if (!w.list.arena) return error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  bool within = arena_protect(w.list.arena, write_weights_body, &w, err);
  arena_free(w.list.arena);
  return within && w.ok;
}
