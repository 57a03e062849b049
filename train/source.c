/* Which fields of the data fill which inputs.  What functions want is collected in two sets, of steps and of evaluations:
 * the loader fills slots with those, and from there they are copied into inputs.  Codes are made, when they are asked for,
 * of frames that are read as any picture is. */
#include "train/source.h"
#include "runtime/base/names.h"
#include "runtime/base/pool.h"
#include "train/loader.h"

#include <string.h>

enum { MAX_INPUTS = 32 }; /* of a function, one of which may be tokens */
enum { SLOTS_AHEAD = 2, MAX_LOADING = 8 };

/* What some functions want of the data, each once. */
typedef struct Wants {
  DataWant *item; /* [cap] */
  size_t *at;     /* [cap] where it begins in a slot */
  int n, cap;
  size_t bytes; /* of a slot */
} Wants;

/* What a function's inputs want of the data. */
typedef struct Inputs {
  int function;
  bool is_evaluation;
  int want[MAX_INPUTS]; /* in the set of steps, or of evaluations */
  const char *name[MAX_INPUTS];
  int n;
  const PlanTensor *tokens; /* NULL: it has none; else the last want is their frames */
} Inputs;

struct Source {
  SourceOptions o;
  Inputs *inputs; /* [n_inputs] */
  int n_inputs;
  Wants wants[2]; /* of steps, of evaluations */
  uint8_t *slots; /* [n_slots][slot_bytes] */
  size_t slot_bytes;
  int n_slots;
  Loader *loader;
  int64_t frame_values; /* of one frame for the encoder */
};

/* ---- checking ---- */

static bool is_evaluated_apart(const Source *s, int function) { return s->o.eval_data && function == s->o.evaluate; }

static const Dataset *data_of(const Source *s, int function) {
  return is_evaluated_apart(s, function) ? s->o.eval_data : s->o.data;
}

static bool refuse(const PlanFunction *f, const PlanTensor *t, const char *want, Error *err) {
  return error_set(err, ERROR_ARGUMENT, "input \"%s\" of \"%s\" must be %s", t->name, f->name, want);
}

static bool is_same(const DataWant *a, const DataWant *b) {
  return a->field == b->field && a->ids == b->ids && a->ignored == b->ignored && a->dtype == b->dtype &&
         a->rank == b->rank && strcmp(a->name, b->name) == 0 &&
         memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim) == 0;
}

/* Its number in the set; -1: out of memory. */
static int find_want(Wants *s, const DataWant *w) {
  for (int i = 0; i < s->n; i++)
    if (is_same(&s->item[i], w)) return i;
  if (s->n == s->cap) {
    int cap = s->cap ? 2 * s->cap : 8;
    DataWant *item = mem_realloc(s->item, (size_t)cap * sizeof *item);
    if (!item) return -1;
    s->item = item;
    s->cap = cap;
  }
  s->item[s->n] = *w;
  return s->n++;
}

static bool add_want(Source *s, Inputs *in, const PlanFunction *f, const PlanTensor *t, Error *err) {
  DataWant w = {.name = t->name, .dtype = t->dtype, .rank = t->rank - 1};
  for (int i = 0; i < w.rank; i++) {
    if (!dim_is_const(t->dim[i + 1]))
      return error_set(err, ERROR_ARGUMENT, "input \"%s\" of \"%s\": a batch has one B, its first size", t->name,
                       f->name);
    w.dim[i] = t->dim[i + 1].c;
  }
  for (int i = 0; i < s->o.n_ids; i++)
    if (s->o.ids[i].function == in->function && strcmp(s->o.ids[i].input, t->name) == 0)
      w.ids = s->o.ids[i].ids, w.ignored = s->o.ids[i].ignored;
  if (!dataset_match(data_of(s, in->function), s->o.bpe, &w, err))
    return error_prefix(err, "input \"%s\" of \"%s\"", t->name, f->name);
  int at = find_want(&s->wants[in->is_evaluation], &w);
  if (at < 0) return error_set(err, ERROR_MEMORY, "a source of batches: out of memory");
  in->name[in->n] = t->name;
  in->want[in->n++] = at;
  return true;
}

static bool is_dim(const PlanTensor *t, int axis, int64_t size) { return dim_equal(t->dim[axis], dim_const(size)); }

static bool check_encoder(const PlanFunction *e, const PlanTensor *image, const PlanTensor *codes, Error *err) {
  bool ok = codes && codes->rank == 4 && codes->dtype == DTYPE_I32 && is_dim(codes, 1, 1) && e->n_in == 1 && image &&
            image->rank == 4 && image->dtype == DTYPE_F32 && dim_is_const(image->dim[1]) &&
            dim_is_const(image->dim[2]) && (is_dim(image, 3, 3) || is_dim(image, 3, 1));
  return ok ||
         error_set(
             err, ERROR_ARGUMENT,
             "\"%s\" of the autoencoder must take image f32 [B, height, width, 3 or 1] and give codes i32 [B, 1, h, w]",
             e->name);
}

/* The frames that the codes are of, as another want. */
static bool add_tokens(Source *s, Inputs *in, const PlanFunction *f, const PlanTensor *t, Error *err) {
  if (!s->o.encoder.plan)
    return error_set(err, ERROR_ARGUMENT, "input \"tokens\" of \"%s\": an autoencoder is needed", f->name);
  const PlanFunction *e = &s->o.encoder.plan->function[s->o.encoder.function];
  const PlanTensor *codes = plan_find_output(e, PORT_CODES), *image = plan_find_input(e, PORT_IMAGE);
  if (!check_encoder(e, image, codes, err)) return false;
  char want[120];
  snprintf(want, sizeof want, "i32 [B, s, %lld, %lld], the codes of s frames", (long long)codes->dim[2].c,
           (long long)codes->dim[3].c);
  if (t->rank != 4 || t->dtype != DTYPE_I32 || !dim_is_const(t->dim[1]) || !dim_equal(t->dim[2], codes->dim[2]) ||
      !dim_equal(t->dim[3], codes->dim[3]))
    return refuse(f, t, want, err);
  PlanTensor frames = {.name = PORT_VIDEO,
                       .dtype = DTYPE_F32,
                       .rank = 5,
                       .dim = {t->dim[0], t->dim[1], image->dim[1], image->dim[2], image->dim[3]}};
  in->tokens = t;
  s->frame_values = image->dim[1].c * image->dim[2].c * image->dim[3].c;
  return add_want(s, in, f, &frames, err) || error_prefix(err, "tokens");
}

static bool has_field(const Dataset *d, const char *name) {
  int n;
  const DataField *f = dataset_fields(d, &n);
  while (n > 0 && strcmp(f[n - 1].name, name) != 0) n--;
  return n > 0;
}

static bool check_function(Source *s, const Plan *p, int function, Error *err) {
  Inputs *in = &s->inputs[s->n_inputs++];
  const PlanFunction *f = &p->function[function];
  const PlanTensor *tokens = NULL;
  in->function = function;
  in->is_evaluation = function == s->o.evaluate;
  if (f->n_in > MAX_INPUTS)
    return error_set(err, ERROR_LIMIT, "\"%s\" has %d inputs; at most %d", f->name, f->n_in, MAX_INPUTS);
  for (int i = 0; i < f->n_in; i++) {
    const PlanTensor *t = &f->in[i];
    if (train_feeds(t)) continue;
    if (t->rank == 0 || !dim_equal(t->dim[0], (Dim){0, 1, 0}))
      return refuse(f, t, "a batch: its first size must be B", err);
    if (strcmp(t->name, PORT_TOKENS) == 0 && (s->o.encoder.plan || !has_field(data_of(s, function), t->name)))
      tokens = t;
    else if (!add_want(s, in, f, t, err))
      return false;
  }
  return !tokens || add_tokens(s, in, f, tokens, err);
}

/* ---- life ---- */

/* Where each want begins in a slot. */
static bool lay_out(const Source *s, Wants *w) {
  if (!(w->at = mem_alloc((size_t)w->n * sizeof *w->at))) return false;
  for (int i = 0; i < w->n; i++) {
    size_t bytes = dtype_bytes(w->item[i].dtype);
    for (int k = 0; k < w->item[i].rank; k++)
      if (!size_mul(bytes, (size_t)w->item[i].dim[k], &bytes)) return false;
    w->at[i] = w->bytes;
    if (!size_mul(bytes, (size_t)s->o.batch, &bytes) || !size_add(bytes, w->bytes, &bytes) ||
        !size_add(bytes, 63, &bytes))
      return false;
    w->bytes = bytes & ~(size_t)63;
  }
  return true;
}

static bool load(void *ctx, const LoaderBatch *b, int64_t i, int slot, DataBroken **broken, Error *err);
static void tell(void *ctx, const LoaderBatch *b, DataBroken *broken);

static bool allocate(Source *s, Error *err) {
  size_t bytes;
  s->n_slots = s->o.threads > 0 ? 1 + SLOTS_AHEAD : 1;
  bool ok = lay_out(s, &s->wants[0]) && lay_out(s, &s->wants[1]);
  s->slot_bytes = s->wants[0].bytes > s->wants[1].bytes ? s->wants[0].bytes : s->wants[1].bytes;
  ok = ok && size_mul(s->slot_bytes, (size_t)s->n_slots, &bytes) && (s->slots = mem_alloc_aligned(bytes + 1, 64));
  if (!ok) return error_set(err, ERROR_MEMORY, "a batch of %lld: out of memory", (long long)s->o.batch);
  LoaderOptions o = {.slots = s->n_slots, .batch = s->o.batch, .load = load, .tell = tell, .ctx = s};
  return (s->loader = loader_new(&o, err)) != NULL;
}

Source *source_new(const Plan *p, const int *function, int n_function, const SourceOptions *o, Error *err) {
  Source *s = mem_alloc(sizeof *s);
  if (!s || !(s->inputs = mem_alloc((size_t)n_function * sizeof *s->inputs))) {
    error_set(err, ERROR_MEMORY, "a source of batches: out of memory");
    mem_free(s);
    return NULL;
  }
  s->o = *o;
  bool ok = true;
  for (int i = 0; ok && i < n_function; i++) ok = check_function(s, p, function[i], err);
  if (ok && allocate(s, err)) return s;
  source_free(s);
  return NULL;
}

void source_free(Source *s) {
  if (!s) return;
  loader_free(s->loader);
  for (int i = 0; i < 2; i++) mem_free(s->wants[i].item), mem_free(s->wants[i].at);
  mem_free(s->slots);
  mem_free(s->inputs);
  mem_free(s);
}

int source_default_threads(void) {
  int half = pool_count_processors() / 2;
  return half < 1 ? 1 : half < MAX_LOADING ? half : MAX_LOADING;
}

/* ---- loading ---- */

/* Where the examples of a want lie in a slot. */
static uint8_t *want_at(const Source *s, const Wants *w, int i, int slot) {
  return s->slots + (size_t)slot * s->slot_bytes + w->at[i];
}

static const Dataset *data_of_batch(const Source *s, const LoaderBatch *b) {
  return b->is_evaluation && s->o.eval_data ? s->o.eval_data : s->o.data;
}

/* Of another data set than that of training all is evaluated. */
static WorldSplit split_of(const Source *s, WorldSplit split, bool is_evaluation) {
  return is_evaluation && s->o.eval_data && !dataset_is_endless(s->o.eval_data) ? WORLD_TRAIN : split;
}

static bool load(void *ctx, const LoaderBatch *b, int64_t i, int slot, DataBroken **broken, Error *err) {
  const Source *s = ctx;
  const Wants *w = &s->wants[b->is_evaluation];
  DataWant *want = mem_alloc((size_t)w->n * sizeof *want);
  if (!want) return error_set(err, ERROR_MEMORY, "loading: out of memory");
  for (int k = 0; k < w->n; k++) want[k] = w->item[k], want[k].out = want_at(s, w, k, slot);
  bool ok = dataset_read(data_of_batch(s, b), s->o.bpe, split_of(s, b->split, b->is_evaluation),
                         b->first + (uint64_t)i, want, w->n, i, broken, err);
  mem_free(want);
  return ok;
}

static void tell(void *ctx, const LoaderBatch *b, DataBroken *broken) {
  dataset_tell(data_of_batch(ctx, b), broken);
}

/* ---- filling ---- */

/* The encoder sees each frame as a picture; its codes [B s, 1, h, w] are the tokens [B, s, h, w]. */
static bool encode(const Source *s, const float *frames, int32_t *tokens, int64_t pictures, Error *err) {
  const Encoder *e = &s->o.encoder;
  int64_t codes = 0, room = s->o.batch;
  size_t values = (size_t)s->frame_values;
  const PlanFunction *f = &e->plan->function[e->function];
  BUG_IF(!plan_tensor_elems(plan_find_output(f, PORT_CODES), 1, 1, &codes), "codes of no size");
  for (int64_t at = 0; at < pictures; at += room) {
    int64_t count = pictures - at < room ? pictures - at : room;
    memcpy(nuwa_input(e->session, e->function, PORT_IMAGE), frames + (size_t)at * values,
           (size_t)count * values * sizeof(float));
    if (!nuwa_run(e->session, e->function, count, 1)) return nuwa_check(e->session, err);
    memcpy(tokens + at * codes, nuwa_output(e->session, e->function, PORT_CODES),
           (size_t)(count * codes) * sizeof *tokens);
  }
  return true;
}

static bool source_fill(void *ctx, NuwaSession *session, int function, WorldSplit split, uint64_t first, int64_t n,
                        Error *err) {
  const Source *s = ctx;
  const Inputs *in = s->inputs;
  while (in->function != function) in++;
  const Wants *w = &s->wants[in->is_evaluation];
  LoaderBatch b = {in->is_evaluation, split, first, n};
  int slot, copied = in->n - (in->tokens != NULL);
  if (!loader_take(s->loader, &b, &slot, err)) return false;
  for (int i = 0; i < copied; i++)
    memcpy(nuwa_input(session, function, in->name[i]), want_at(s, w, in->want[i], slot),
           (size_t)n * data_want_bytes(&w->item[in->want[i]]));
  if (!in->tokens) return true;
  const float *frames = (const float *)(const void *)want_at(s, w, in->want[copied], slot);
  return encode(s, frames, nuwa_input(session, function, PORT_TOKENS), n * in->tokens->dim[1].c, err);
}

static uint64_t source_count(void *ctx, WorldSplit split) {
  const Source *s = ctx;
  return dataset_count(s->o.eval_data ? s->o.eval_data : s->o.data, split_of(s, split, true));
}

static void source_begin(void *ctx, const LoaderBatches *b) {
  const Source *s = ctx;
  loader_begin(s->loader, b, s->o.threads);
}

static void source_end(void *ctx) { loader_end(((const Source *)ctx)->loader); }
static double source_waited(void *ctx) { return loader_waited(((const Source *)ctx)->loader); }

TrainSource source_interface(Source *s) {
  const Dataset *evaluated = s->o.eval_data ? s->o.eval_data : s->o.data;
  return (TrainSource){.fill = source_fill,
                       .has_held_out = dataset_is_endless(evaluated),
                       .ctx = s,
                       .count = source_count,
                       .begin = source_begin,
                       .end = source_end,
                       .waited = source_waited};
}
