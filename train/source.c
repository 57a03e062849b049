/* Which tensors of the world fill which inputs.  Frames are counted by the first function that has them; all must
 * agree. */
#include "train/source.h"

#include <string.h>

#include "runtime/base/names.h"
#include "runtime/base/philox.h"

enum { MAX_FUNCTIONS = 8 };

/* What a function's inputs are, by kind; NULL: it has none. */
typedef struct Inputs {
  int function;
  const PlanTensor *image, *text, *labels, *tokens, *seen;
} Inputs;

struct Source {
  SourceOptions o;
  Dataset data;
  Inputs inputs[MAX_FUNCTIONS];
  int n_inputs;
  int32_t *empty; /* [text_tokens] the null condition */
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

static bool check_input(Source *s, Inputs *in, const PlanFunction *f, const PlanTensor *t, Error *err) {
  const char *name = t->name;
  if (t->rank == 0) {
    if (strcmp(name, TRAIN_LR) == 0 || strcmp(name, TRAIN_CORRECTION1) == 0 || strcmp(name, TRAIN_CORRECTION2) == 0)
      return true;
  } else if (!dim_equal(t->dim[0], (Dim){0, 1, 0})) {
    return refuse(f, t, "a batch: its first size must be B", err);
  }
  if (strcmp(name, PORT_IMAGE) == 0 || strcmp(name, PORT_VIDEO) == 0)
    return in->image = t, check_frames(s, f, t, 3, err);
  if (strcmp(name, PORT_LABELS) == 0) return in->labels = t, check_frames(s, f, t, 0, err);
  if (strcmp(name, PORT_TEXT) == 0) return in->text = t, check_text(s, f, t, err);
  if (strcmp(name, PORT_TOKENS) == 0) return in->tokens = t, check_tokens(s, f, t, err);
  if (strcmp(name, PORT_SEEN) == 0) return in->seen = t, check_tokens(s, f, t, err);
  return error_set(err, ERROR_ARGUMENT,
                   "\"%s\" has an input \"%s\"; the world gives image, video, text, labels, tokens, seen", f->name, name);
}

static bool check_function(Source *s, const Plan *p, int function, Error *err) {
  Inputs *in = &s->inputs[s->n_inputs++];
  const PlanFunction *f = &p->function[function];
  in->function = function;
  for (int i = 0; i < f->n_in; i++)
    if (!check_input(s, in, f, &f->in[i], err)) return false;
  if (in->seen && !in->tokens)
    return error_set(err, ERROR_ARGUMENT, "\"%s\" has an input \"seen\" but no \"tokens\" to make it of", f->name);
  if (in->seen && s->o.noise > 0.0 && s->o.codes < 1)
    return error_set(err, ERROR_ARGUMENT, "noise in \"seen\" needs an autoencoder that says how many codes it has");
  return true;
}

/* ---- life ---- */

static bool allocate(Source *s, Error *err) {
  if (!s->data.frames) s->data.frames = 1;
  if (s->o.encoder.plan) {
    s->frames = mem_alloc((size_t)s->o.batch * dataset_image_values(&s->data) * sizeof *s->frames);
    if (!s->frames) return error_set(err, ERROR_MEMORY, "a batch of %lld: out of memory", (long long)s->o.batch);
  }
  if (!s->data.text_tokens) return true;
  s->empty = mem_alloc((size_t)s->data.text_tokens * sizeof *s->empty);
  if (!s->empty) return error_set(err, ERROR_MEMORY, "a text: out of memory");
  return bpe_encode_fixed(s->o.bpe, "", s->empty, s->data.text_tokens, err);
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
  mem_free(s->empty);
  mem_free(s->frames);
  mem_free(s);
}

/* ---- filling ---- */

/* Whether a training example goes without its caption: for classifier-free guidance. */
static bool is_dropped(const Source *s, uint64_t example) {
  Philox r = philox(s->o.seed, (uint32_t)example, (uint32_t)(example >> 32), STREAM_DROP);
  return (double)philox_uniform(r.word[0]) < s->o.null_text;
}

static void drop_texts(const Source *s, int32_t *text, uint64_t first, int64_t n) {
  size_t words = (size_t)s->data.text_tokens;
  for (int64_t i = 0; i < n; i++)
    if (is_dropped(s, first + (uint64_t)i)) memcpy(text + (size_t)i * words, s->empty, words * sizeof *text);
}

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

/* Replaces codes of one example.  A reader that cannot trust what it has seen has to look at the condition for every
 * token, not for the first few of a thing only. */
static void add_noise(const Source *s, int32_t *seen, int64_t n, uint64_t example) {
  uint32_t counter[4] = {0, (uint32_t)example, (uint32_t)(example >> 32), STREAM_NOISE};
  double share = s->o.noise * (double)philox_uniform(philox_block(s->o.seed, counter).word[0]);
  for (int64_t i = 0; i < n; i++) {
    counter[0] = (uint32_t)i + 1;
    Philox r = philox_block(s->o.seed, counter);
    if ((double)philox_uniform(r.word[0]) < share) seen[i] = (int32_t)((uint64_t)r.word[1] * (uint64_t)s->o.codes >> 32);
  }
}

static void see(const Source *s, const int32_t *tokens, int32_t *seen, const PlanTensor *t, WorldSplit split, uint64_t first,
                int64_t n) {
  int64_t places = t->dim[1].c * t->dim[2].c * t->dim[3].c;
  memcpy(seen, tokens, (size_t)(n * places) * sizeof *seen);
  for (int64_t i = 0; i < n && split == WORLD_TRAIN && s->o.noise > 0.0; i++)
    add_noise(s, seen + i * places, places, first + (uint64_t)i);
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
  if (text && split == WORLD_TRAIN && s->o.null_text > 0.0) drop_texts(s, text, first, n);
  if (tokens) {
    if (image) memcpy(s->frames, image, (size_t)n * dataset_image_values(&s->data) * sizeof *image);
    if (!encode(s, tokens, n, err)) return false;
    if (in->seen) see(s, tokens, input_of(session, function, in->seen), in->seen, split, first, n);
  }
  return true;
}

TrainSource source_interface(Source *s) { return (TrainSource){source_fill, s}; }
