/* Which fields of the data fill which inputs.  Codes are made of frames that are read as any picture is. */
#include "train/source.h"
#include "runtime/base/names.h"

#include <string.h>

enum { MAX_INPUTS = 32 }; /* of a function, one of which may be tokens */

/* What a function's inputs want of the data. */
typedef struct Inputs {
  int function;
  DataWant want[MAX_INPUTS];
  int n;
  const PlanTensor *tokens; /* NULL: it has none; else the last want is their frames */
} Inputs;

struct Source {
  SourceOptions o;
  Inputs *inputs; /* [n_inputs] */
  int n_inputs;
  float *frames; /* for the encoder: [batch, s, height, width, 3] of the function with the most of them */
  int64_t most_frames, frame_values;
};

/* ---- checking ---- */

static bool is_evaluated_apart(const Source *s, int function) { return s->o.eval_data && function == s->o.evaluate; }

static const Dataset *data_of(const Source *s, int function) {
  return is_evaluated_apart(s, function) ? s->o.eval_data : s->o.data;
}

static bool refuse(const PlanFunction *f, const PlanTensor *t, const char *want, Error *err) {
  return error_set(err, ERROR_ARGUMENT, "input \"%s\" of \"%s\" must be %s", t->name, f->name, want);
}

static bool add_want(Source *s, Inputs *in, const PlanFunction *f, const PlanTensor *t, Error *err) {
  DataWant *w = &in->want[in->n++];
  *w = (DataWant){.name = t->name, .dtype = t->dtype, .rank = t->rank - 1};
  for (int i = 0; i < w->rank; i++) {
    if (!dim_is_const(t->dim[i + 1]))
      return error_set(err, ERROR_ARGUMENT, "input \"%s\" of \"%s\": a batch has one B, its first size", t->name,
                       f->name);
    w->dim[i] = t->dim[i + 1].c;
  }
  return dataset_match(data_of(s, in->function), s->o.bpe, w, err) ||
         error_prefix(err, "input \"%s\" of \"%s\"", t->name, f->name);
}

static bool is_dim(const PlanTensor *t, int axis, int64_t size) { return dim_equal(t->dim[axis], dim_const(size)); }

static bool check_encoder(const PlanFunction *e, const PlanTensor *image, const PlanTensor *codes, Error *err) {
  bool ok = codes && codes->rank == 4 && codes->dtype == DTYPE_I32 && is_dim(codes, 1, 1) && e->n_in == 1 && image &&
            image->rank == 4 && image->dtype == DTYPE_F32 && dim_is_const(image->dim[1]) &&
            dim_is_const(image->dim[2]) && is_dim(image, 3, 3);
  return ok ||
         error_set(
             err, ERROR_ARGUMENT,
             "\"%s\" of the autoencoder must take image f32 [B, height, width, 3] and give codes i32 [B, 1, h, w]",
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
  s->frame_values = image->dim[1].c * image->dim[2].c * 3;
  if (t->dim[1].c > s->most_frames) s->most_frames = t->dim[1].c;
  return add_want(s, in, f, &frames, err) || error_prefix(err, "tokens");
}

static bool check_function(Source *s, const Plan *p, int function, Error *err) {
  Inputs *in = &s->inputs[s->n_inputs++];
  const PlanFunction *f = &p->function[function];
  const PlanTensor *tokens = NULL;
  in->function = function;
  if (f->n_in > MAX_INPUTS)
    return error_set(err, ERROR_LIMIT, "\"%s\" has %d inputs; at most %d", f->name, f->n_in, MAX_INPUTS);
  for (int i = 0; i < f->n_in; i++) {
    const PlanTensor *t = &f->in[i];
    if (train_feeds(t)) continue;
    if (t->rank == 0 || !dim_equal(t->dim[0], (Dim){0, 1, 0}))
      return refuse(f, t, "a batch: its first size must be B", err);
    if (strcmp(t->name, PORT_TOKENS) == 0)
      tokens = t;
    else if (!add_want(s, in, f, t, err))
      return false;
  }
  return !tokens || add_tokens(s, in, f, tokens, err);
}

/* ---- life ---- */

static bool allocate(Source *s, Error *err) {
  size_t bytes = sizeof(float);
  if (!s->most_frames) return true;
  bool ok = size_mul(bytes, (size_t)s->o.batch, &bytes) && size_mul(bytes, (size_t)s->most_frames, &bytes) &&
            size_mul(bytes, (size_t)s->frame_values, &bytes) && (s->frames = mem_alloc(bytes));
  return ok || error_set(err, ERROR_MEMORY, "a batch of %lld: out of memory", (long long)s->o.batch);
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
  mem_free(s->frames);
  mem_free(s->inputs);
  mem_free(s);
}

/* ---- filling ---- */

/* The encoder sees each frame as a picture; its codes [B s, 1, h, w] are the tokens [B, s, h, w]. */
static bool encode(const Source *s, int32_t *tokens, int64_t pictures, Error *err) {
  const Encoder *e = &s->o.encoder;
  int64_t codes = 0, room = s->o.batch;
  size_t values = (size_t)s->frame_values;
  const PlanFunction *f = &e->plan->function[e->function];
  BUG_IF(!plan_tensor_elems(plan_find_output(f, PORT_CODES), 1, 1, &codes), "codes of no size");
  for (int64_t at = 0; at < pictures; at += room) {
    int64_t count = pictures - at < room ? pictures - at : room;
    memcpy(nuwa_input(e->session, e->function, PORT_IMAGE), s->frames + (size_t)at * values,
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
  DataWant want[MAX_INPUTS];
  for (int i = 0; i < in->n; i++) {
    want[i] = in->want[i];
    want[i].out = in->tokens && i == in->n - 1 ? s->frames : nuwa_input(session, function, want[i].name);
  }
  const Dataset *d = data_of(s, function);
  if (is_evaluated_apart(s, function) && !dataset_is_endless(d)) split = WORLD_TRAIN; /* all there is */
  if (!dataset_fill(d, s->o.bpe, split, first, n, want, in->n, err)) return false;
  return !in->tokens || encode(s, nuwa_input(session, function, PORT_TOKENS), n * in->tokens->dim[1].c, err);
}

TrainSource source_interface(Source *s) {
  const Dataset *evaluated = s->o.eval_data ? s->o.eval_data : s->o.data;
  return (TrainSource){source_fill, dataset_is_endless(evaluated), s};
}
