/* Which fields of the data fill which inputs.  What functions want is collected in two sets, of steps and of evaluations:
 * the loader fills slots with those, and from there they are copied into inputs.  Codes are made, when they are asked for,
 * of frames that are read as any picture is. */
#include "train/source.h"
#include "runtime/base/names.h"
#include "runtime/base/pool.h"
#include "train/loader.h"

#include <string.h>

enum { MAX_INPUTS = 32 }; /* of a function */
enum { SLOTS_AHEAD = 2, MAX_LOADING = 8 };

/* What some functions want of the data, each once. */
typedef struct Wants {
  DataWant *item; /* [cap] */
  size_t *at;     /* [cap] where it begins in a slot */
  int n, cap;
  size_t bytes; /* of a slot */
} Wants;

/* An input, and what it wants of the data: its own values, or the frames that it has the codes of. */
typedef struct Input {
  const char *name;
  int want;    /* in the set of steps, or of evaluations */
  int encoder; /* that makes codes of the frames; -1: none */
  int64_t frames;
} Input;

typedef struct Inputs {
  int function;
  bool is_evaluation;
  Input item[MAX_INPUTS];
  int n;
} Inputs;

/* Inputs that are codes, and of what. */
static const struct Coded {
  const char *name;
  int encoder;
  const char *frames; /* the field of the data */
  bool is_picture;    /* of one frame, which has no axis */
} coded[] = {{PORT_TOKENS, ENCODER_IMAGE, PORT_VIDEO, false},
             {PORT_VIDEO_TOKENS, ENCODER_IMAGE, PORT_VIDEO, false},
             {PORT_IMAGE_TOKENS, ENCODER_IMAGE, PORT_IMAGE, true},
             {PORT_LABELS_TOKENS, ENCODER_LABELS, PORT_LABELS, false}};

struct Source {
  SourceOptions o;
  Inputs *inputs; /* [n_inputs] */
  int n_inputs;
  Wants wants[2]; /* of steps, of evaluations */
  uint8_t *slots; /* [n_slots][slot_bytes] */
  size_t slot_bytes;
  int n_slots;
  Loader *loader;
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

/* `input` is of the function, t what it wants of the data: itself, but for codes. */
static bool add_want(Source *s, Inputs *in, const PlanFunction *f, const PlanTensor *t, Input input, Error *err) {
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
  if (input.encoder == ENCODER_LABELS) w.ids = s->o.encoder[ENCODER_LABELS].labels;
  if (!dataset_match(data_of(s, in->function), s->o.bpe, &w, err))
    return error_prefix(err, "input \"%s\" of \"%s\"", t->name, f->name);
  int at = find_want(&s->wants[in->is_evaluation], &w);
  if (at < 0) return error_set(err, ERROR_MEMORY, "a source of batches: out of memory");
  input.want = at;
  in->item[in->n++] = input;
  return true;
}

static bool is_dim(const PlanTensor *t, int axis, int64_t size) { return dim_equal(t->dim[axis], dim_const(size)); }

static bool check_encoder(const PlanFunction *e, int kind, const PlanTensor *frame, const PlanTensor *codes, Error *err) {
  bool is_image = kind == ENCODER_IMAGE;
  bool ok = codes && codes->rank == 4 && codes->dtype == DTYPE_I32 && is_dim(codes, 1, 1) && e->n_in == 1 && frame &&
            frame->rank == (is_image ? 4 : 3) && frame->dtype == (is_image ? DTYPE_F32 : DTYPE_I32) &&
            dim_is_const(frame->dim[1]) && dim_is_const(frame->dim[2]) &&
            (!is_image || is_dim(frame, 3, 3) || is_dim(frame, 3, 1));
  return ok ||
         error_set(err, ERROR_ARGUMENT, "\"%s\" of the autoencoder must take %s and give codes i32 [B, 1, h, w]", e->name,
                   is_image ? "image f32 [B, height, width, 3 or 1]" : "labels i32 [B, height, width]");
}

/* The frames that the codes are of, as another want. */
static bool add_tokens(Source *s, Inputs *in, const PlanFunction *f, const PlanTensor *t, const struct Coded *c, Error *err) {
  const Encoder *encoder = &s->o.encoder[c->encoder];
  if (!encoder->plan)
    return error_set(err, ERROR_ARGUMENT, "input \"%s\" of \"%s\": an autoencoder%s is needed", t->name, f->name,
                     c->encoder == ENCODER_IMAGE ? "" : " of labels");
  const PlanFunction *e = &encoder->plan->function[encoder->function];
  const PlanTensor *codes = plan_find_output(e, PORT_CODES),
                   *frame = plan_find_input(e, c->encoder == ENCODER_IMAGE ? PORT_IMAGE : PORT_LABELS);
  if (!check_encoder(e, c->encoder, frame, codes, err)) return false;
  char want[120];
  snprintf(want, sizeof want, "i32 [B, %s, %lld, %lld], the codes of %s", c->is_picture ? "1" : "s",
           (long long)codes->dim[2].c, (long long)codes->dim[3].c, c->is_picture ? "a picture" : "s frames");
  if (t->rank != 4 || t->dtype != DTYPE_I32 || !dim_is_const(t->dim[1]) || !dim_equal(t->dim[2], codes->dim[2]) ||
      !dim_equal(t->dim[3], codes->dim[3]) || (c->is_picture && t->dim[1].c != 1))
    return refuse(f, t, want, err);
  PlanTensor frames = {.name = c->frames, .dtype = frame->dtype, .rank = frame->rank, .dim = {t->dim[0]}};
  bool has_axis = !c->is_picture && (c->encoder == ENCODER_IMAGE || t->dim[1].c > 1);
  if (has_axis) frames.dim[1] = t->dim[1], frames.rank++;
  for (int i = 1; i < frame->rank; i++) frames.dim[i + has_axis] = frame->dim[i];
  return add_want(s, in, f, &frames, (Input){t->name, .encoder = c->encoder, .frames = t->dim[1].c}, err) ||
         error_prefix(err, "%s", t->name);
}

static const struct Coded *find_coded(const char *name) {
  for (int i = 0; i < COUNT_OF(coded); i++)
    if (strcmp(coded[i].name, name) == 0) return &coded[i];
  return NULL;
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
  in->function = function;
  in->is_evaluation = function == s->o.evaluate;
  if (f->n_in > MAX_INPUTS)
    return error_set(err, ERROR_LIMIT, "\"%s\" has %d inputs; at most %d", f->name, f->n_in, MAX_INPUTS);
  for (int i = 0; i < f->n_in; i++) {
    const PlanTensor *t = &f->in[i];
    if (train_feeds(t)) continue;
    if (t->rank == 0 || !dim_equal(t->dim[0], (Dim){0, 1, 0}))
      return refuse(f, t, "a batch: its first size must be B", err);
    const struct Coded *c = find_coded(t->name);
    bool is_coded = c && (s->o.encoder[c->encoder].plan || !has_field(data_of(s, function), t->name));
    if (is_coded ? !add_tokens(s, in, f, t, c, err) : !add_want(s, in, f, t, (Input){t->name, .encoder = -1}, err))
      return false;
  }
  return true;
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

/* The encoder sees each frame by itself; its codes [B s, 1, h, w] are the tokens [B, s, h, w]. */
static bool encode(const Source *s, int kind, const uint8_t *frames, int32_t *tokens, int64_t n, Error *err) {
  const Encoder *e = &s->o.encoder[kind];
  int64_t codes = 0, bytes = 0, room = s->o.batch;
  const PlanFunction *f = &e->plan->function[e->function];
  BUG_IF(!plan_tensor_elems(plan_find_output(f, PORT_CODES), 1, 1, &codes) || !plan_tensor_bytes(&f->in[0], 1, 1, &bytes),
         "codes of no size");
  for (int64_t at = 0; at < n; at += room) {
    int64_t count = n - at < room ? n - at : room;
    memcpy(nuwa_input(e->session, e->function, f->in[0].name), frames + (size_t)(at * bytes), (size_t)(count * bytes));
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
  int slot;
  if (!loader_take(s->loader, &b, &slot, err)) return false;
  for (const Input *i = in->item; i < in->item + in->n; i++) {
    void *to = nuwa_input(session, function, i->name);
    const uint8_t *from = want_at(s, w, i->want, slot);
    if (i->encoder < 0) memcpy(to, from, (size_t)n * data_want_bytes(&w->item[i->want]));
    else if (!encode(s, i->encoder, from, to, n * i->frames, err)) return false;
  }
  return true;
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
