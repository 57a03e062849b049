/* Which tensors of the world fill which inputs.  Frames are counted by the first function that has them; all must
 * agree. */
#include "runtime/base/names.h"
#include "train/source.h"

#include <string.h>

enum { MAX_FUNCTIONS = 8 };

/* What a function's inputs are, by kind; NULL: it has none. */
typedef struct Inputs {
  int function;
  const PlanTensor *image, *text, *labels, *tokens;
} Inputs;

struct Source {
  SourceOptions o;
  Dataset data;
  Inputs inputs[MAX_FUNCTIONS];
  int n_inputs;
  float *frames;  /* [batch, frames, size, size, 3] for the encoder */
};

/* ---- checking ---- */

static bool refuse(const PlanFunction *f, const PlanTensor *t, const char *want, Error *err) {
  return error_set(err, ERROR_ARGUMENT, "input \"%s\" of \"%s\" must be %s", t->name, f->name, want);
}

static bool is_dim(const PlanTensor *t, int axis, int64_t size) { return dim_equal(t->dim[axis], dim_const(size)); }

static bool set_frames(Source *s, const PlanFunction *f, const PlanTensor *t, int64_t frames, Error *err) {
  if (frames != 1 && frames != WORLD_FRAMES)
    return error_set(err, ERROR_ARGUMENT, "input \"%s\" of \"%s\" has %lld frames; the world gives 1 or %d", t->name,
                     f->name, (long long)frames, WORLD_FRAMES);
  if (s->data.frames && s->data.frames != frames)
    return error_set(err, ERROR_ARGUMENT, "input \"%s\" of \"%s\" has %lld frames, others have %d", t->name, f->name,
                     (long long)frames, s->data.frames);
  s->data.frames = (int)frames;
  return true;
}

/* [B, (s,) size, size (, 3)] */
static bool check_frames(Source *s, const PlanFunction *f, const PlanTensor *t, int channels, Error *err) {
  int size = world_options(s->o.world)->size, rank = 3 + (channels > 0), first = t->rank - rank;
  DType want = channels ? DTYPE_F32 : DTYPE_I32;
  bool ok = (first == 0 || first == 1) && t->dtype == want && is_dim(t, first + 1, size) &&
            is_dim(t, first + 2, size) && (!channels || is_dim(t, first + 3, channels));
  char text[120];
  snprintf(text, sizeof text, "%s [B, %d, %d%s], or with frames after B", dtype_name(want), size, size,
           channels ? ", 3" : "");
  if (!ok) return refuse(f, t, text, err);
  return set_frames(s, f, t, first ? t->dim[1].c : 1, err);
}

static bool check_text(Source *s, const PlanFunction *f, const PlanTensor *t, Error *err) {
  if (t->rank != 2 || t->dtype != DTYPE_I32 || !dim_is_const(t->dim[1]) || t->dim[1].c < 2)
    return refuse(f, t, "i32 [B, words], at least 2 words", err);
  if (!s->o.bpe) return error_set(err, ERROR_ARGUMENT, "input \"text\" of \"%s\": a merges file is needed", f->name);
  if (s->data.text_tokens && s->data.text_tokens != t->dim[1].c)
    return error_set(err, ERROR_ARGUMENT, "input \"text\" of \"%s\" has %lld words, another %d", f->name,
                     (long long)t->dim[1].c, s->data.text_tokens);
  s->data.text_tokens = (int)t->dim[1].c;
  return true;
}

static bool check_tokens(Source *s, const PlanFunction *f, const PlanTensor *t, Error *err) {
  if (!s->o.encoder.plan)
    return error_set(err, ERROR_ARGUMENT, "input \"tokens\" of \"%s\": an autoencoder is needed", f->name);
  const PlanFunction *e = &s->o.encoder.plan->function[s->o.encoder.function];
  const PlanTensor *codes = plan_find_output(e, PORT_CODES), *image = plan_find_input(e, PORT_IMAGE);
  int size = world_options(s->o.world)->size;
  if (!codes || codes->rank != 4 || codes->dtype != DTYPE_I32 || e->n_in != 1 || !image || image->rank != 4 ||
      image->dtype != DTYPE_F32 || !is_dim(image, 1, size) || !is_dim(image, 2, size) || !is_dim(image, 3, 3))
    return error_set(err, ERROR_ARGUMENT,
                     "\"%s\" of the autoencoder must take image f32 [B, %d, %d, 3] and give codes i32 [B, 1, h, w]",
                     e->name, size, size);
  char want[120];
  snprintf(want, sizeof want, "i32 [B, s, %lld, %lld], the codes of s frames", (long long)codes->dim[2].c,
           (long long)codes->dim[3].c);
  if (t->rank != 4 || t->dtype != DTYPE_I32 || !dim_equal(t->dim[2], codes->dim[2]) ||
      !dim_equal(t->dim[3], codes->dim[3]))
    return refuse(f, t, want, err);
  return set_frames(s, f, t, t->dim[1].c, err);
}

/* What train_feed gives. */
static bool is_trainers(const PlanTensor *t) {
  static const char *const name[] = {PORT_SEED, PORT_STEP, PORT_STEPS, PORT_EXAMPLE};
  for (int i = 0; i < COUNT_OF(name); i++)
    if (t->dtype == DTYPE_I32 && t->rank <= 1 && strcmp(t->name, name[i]) == 0) return true;
  return false;
}

static bool check_input(Source *s, Inputs *in, const PlanFunction *f, const PlanTensor *t, Error *err) {
  const char *name = t->name;
  if (is_trainers(t)) return true;
  if (t->rank == 0 || !dim_equal(t->dim[0], (Dim){0, 1, 0})) {
    return refuse(f, t, "a batch: its first size must be B", err);
  }
  if (strcmp(name, PORT_IMAGE) == 0 || strcmp(name, PORT_VIDEO) == 0) return in->image = t, check_frames(s, f, t, 3, err);
  if (strcmp(name, PORT_LABELS) == 0) return in->labels = t, check_frames(s, f, t, 0, err);
  if (strcmp(name, PORT_TEXT) == 0) return in->text = t, check_text(s, f, t, err);
  if (strcmp(name, PORT_TOKENS) == 0) return in->tokens = t, check_tokens(s, f, t, err);
  return error_set(err, ERROR_ARGUMENT,
                   "\"%s\" has an input \"%s\"; the world gives image, video, text, labels, tokens", f->name, name);
}

static bool check_function(Source *s, const Plan *p, int function, Error *err) {
  Inputs *in = &s->inputs[s->n_inputs++];
  const PlanFunction *f = &p->function[function];
  in->function = function;
  for (int i = 0; i < f->n_in; i++)
    if (!check_input(s, in, f, &f->in[i], err)) return false;
  return true;
}

/* ---- life ---- */

static bool allocate(Source *s, Error *err) {
  if (!s->data.frames) s->data.frames = 1;
  if (s->o.encoder.plan) {
    s->frames = mem_alloc((size_t)s->o.batch * dataset_image_values(&s->data) * sizeof *s->frames);
    if (!s->frames) return error_set(err, ERROR_MEMORY, "a batch of %lld: out of memory", (long long)s->o.batch);
  }
  return true;
}

Source *source_new(const Plan *p, const int *function, int n_function, const SourceOptions *o, Error *err) {
  BUG_IF(n_function > MAX_FUNCTIONS, "a source for %d functions", n_function);
  Source *s = mem_alloc(sizeof *s);
  if (!s) {
    error_set(err, ERROR_MEMORY, "a source of batches: out of memory");
    return NULL;
  }
  s->o = *o;
  s->data = (Dataset){.world = o->world, .bpe = o->bpe};
  bool ok = true;
  for (int i = 0; ok && i < n_function; i++) ok = check_function(s, p, function[i], err);
  if (ok && allocate(s, err)) return s;
  source_free(s);
  return NULL;
}

void source_free(Source *s) {
  if (!s) return;
  mem_free(s->frames);
  mem_free(s);
}

/* ---- filling ---- */

/* The encoder sees each frame as a picture; its codes [B s, 1, h, w] are the tokens [B, s, h, w]. */
static bool encode(const Source *s, int32_t *tokens, int64_t n, Error *err) {
  const Encoder *e = &s->o.encoder;
  int64_t pictures = n * s->data.frames, codes = 0, room = s->o.batch;
  size_t values = dataset_image_values(&s->data) / (size_t)s->data.frames;
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

static void *input_of(NuwaSession *session, int function, const PlanTensor *t) {
  return t ? nuwa_input(session, function, t->name) : NULL;
}

static bool source_fill(void *ctx, NuwaSession *session, int function, WorldSplit split, uint64_t first, int64_t n,
                        Error *err) {
  const Source *s = ctx;
  const Inputs *in = s->inputs;
  while (in->function != function) in++;
  float *image = input_of(session, function, in->image);
  int32_t *text = input_of(session, function, in->text), *tokens = input_of(session, function, in->tokens);
  Batch batch = {.images = image    ? image
                           : tokens ? s->frames
                                    : NULL,
                 .text = text,
                 .labels = input_of(session, function, in->labels)};
  if (!dataset_fill(&s->data, split, first, (int)n, &batch, err)) return false;
  if (tokens) {
    if (image) memcpy(s->frames, image, (size_t)n * dataset_image_values(&s->data) * sizeof *image);
    if (!encode(s, tokens, n, err)) return false;
  }
  return true;
}

TrainSource source_interface(Source *s) { return (TrainSource){source_fill, s}; }
