/* See showing.h. */
#include "synth/showing.h"

#include <math.h>
#include <string.h>

#include "media/image.h"
#include "runtime/base/names.h"

enum {
  SHOWN = 8,        /* examples in a picture, */
  SHOWN_FRAMES = 8, /* frames of a clip, */
  SHOWN_CLIPS = 4,
  COUNTED = 64,     /* examples whose codes are counted */
  LEAST_SIDE = 64,  /* of a picture as it is shown */
  MOST_CODES = 1 << 20,
  MOST_RECORDS = 32 /* pictures; and so many counts, of two metrics each */
};

/* One function, or one decode, whose function is its prologue (-1: it has no conditions). */
typedef struct Shown {
  const char *name;
  int function, decode; /* of the plan; decode -1: none */
  bool has_inputs, has_text;
} Shown;

struct Showing {
  Training *t;
  Plan *plan;
  NuwaSession *session;
  Source *source;
  TrainSource fed;
  WorldSplit split;
  Shown *shown; /* [n] in the training's arena */
  int n;
  Arena *arena; /* of the record that was made last */
  LogPicture *picture;
  LogCounts *counts;
  Metric *metric;
  int n_picture, n_counts, n_metric;
};

/* ---- what can be shown ---- */

static const Dataset *data_of(const Training *t) { return t->spec.eval_data ? t->spec.eval_data : t->spec.data; }

static bool has_field(const Training *t, const char *name) {
  int n;
  const DataField *f = dataset_fields(data_of(t), &n);
  if (strcmp(name, PORT_LABELS_TOKENS) == 0 && codec_is_open(&t->codec[CODEC_LABELS])) return true;
  bool is_code = strcmp(name, PORT_TOKENS) == 0 || strcmp(name, PORT_IMAGE_TOKENS) == 0 || strcmp(name, PORT_VIDEO_TOKENS) == 0;
  if (is_code && codec_is_open(&t->codec[CODEC_IMAGE])) return true;
  if (strcmp(name, PORT_TEXT) == 0 && !t->spec.bpe) return false;
  bool is_mask = t->spec.bpe && strcmp(name, PORT_TEXT_MASK) == 0;
  for (int i = 0; i < n; i++)
    if (strcmp(f[i].name, name) == 0 || (is_mask && f[i].fit == FIT_TEXT)) return true;
  return false;
}

/* except: an input that drawing makes itself; NULL: none. */
static bool is_fed(const Training *t, const Func *f, const char *except) {
  static const char *const own[] = {PORT_SEED, PORT_STEP, PORT_STEPS, PORT_EXAMPLE};
  for (int i = 0; i < f->n_in; i++) {
    const char *name = f->in[i].name;
    bool is_own = except && strcmp(name, except) == 0;
    for (int k = 0; k < COUNT_OF(own); k++) is_own |= strcmp(name, own[k]) == 0;
    if (!is_own && !has_field(t, name)) return false;
  }
  return true;
}

/* What is not in the training has no values. */
static bool is_trained(const Training *t, const Func *f) {
  int n;
  Node **node = func_nodes(f, &n);
  for (int i = 0; i < n; i++)
    if (node[i]->op == OP_PARAM && plan_find_param(t->plan, node[i]->attrs.leaf.name) < 0) return false;
  return true;
}

static bool is_picture_port(const Port *p) {
  const Type *t = &p->node->type;
  bool is_image = strcmp(p->name, PORT_IMAGE) == 0 && t->rank == 4,
       is_video = strcmp(p->name, PORT_VIDEO) == 0 && t->rank == 5;
  return (is_image || is_video) && t->dtype == DTYPE_F32 && dim_equal(t->dim[0], (Dim){.b = 1});
}

static bool gives_picture(const Func *f) {
  for (int i = 0; i < f->n_out; i++)
    if (is_picture_port(&f->out[i])) return true;
  return false;
}

/* Whether the autoencoder turns what is drawn into pictures. */
static bool has_pictures(const Training *t, const Func *f, const char *tokens) {
  const Codec *c = &t->codec[CODEC_IMAGE];
  for (int i = 0; codec_is_open(c) && i < f->n_in; i++) {
    const Type *type = &f->in[i].node->type;
    if (strcmp(f->in[i].name, tokens) == 0)
      return type->rank == 4 && dim_equal(type->dim[2], dim_const(c->grid[0])) && dim_equal(type->dim[3], dim_const(c->grid[1]));
  }
  return false;
}

static bool is_shown(const Training *t, const Func *f) {
  const ModelDecode *d = compile_decode_of(t->model, f);
  if (f->n_update || !is_trained(t, f)) return false;
  if (d) return has_pictures(t, f, d->tokens) && is_fed(t, f, d->tokens);
  return gives_picture(f) && is_fed(t, f, NULL);
}

/* ---- opening ---- */

typedef struct ShowingOpening {
  Showing *s;
  Error *err;
  bool ok;
} ShowingOpening;

static void list_shown(Showing *s, const char **name) {
  const Training *t = s->t;
  s->shown = ARENA_ARRAY(t->arena, Shown, t->model->n_func + 1);
  for (int i = 0; i < t->model->n_func && s->n < MOST_RECORDS; i++)
    if (is_shown(t, t->model->func[i])) {
      s->shown[s->n] = (Shown){.name = t->model->func[i]->name};
      name[s->n++] = t->model->func[i]->name;
    }
}

/* Of a decode the prologue is what the data feed. */
static void find_functions(Showing *s) {
  for (int i = 0; i < s->n; i++) {
    Shown *w = &s->shown[i];
    w->decode = plan_find_decode(s->plan, w->name);
    w->function = w->decode >= 0 ? s->plan->decode[w->decode].prologue : plan_find_function(s->plan, w->name);
    for (int k = 0; w->function >= 0 && k < s->plan->function[w->function].n_in; k++) {
      const PlanTensor *in = &s->plan->function[w->function].in[k];
      w->has_inputs |= !train_feeds(in);
      w->has_text |= strcmp(in->name, PORT_TEXT) == 0;
    }
  }
}

static NuwaGenerate request_of(const Showing *s, const Shown *w) {
  return (NuwaGenerate){.decode = w->decode, .count = SHOWN, .seed = train_seed(s->t->spec.seed, w->name),
                        .sample = {.temperature = 1, .top_p = 1}, .guidance = 1};
}

static bool open_session(Showing *s, Error *err) {
  int64_t slots = 0, rows = 1;
  for (int i = 0; i < s->n; i++) {
    int64_t more_slots, more_rows;
    NuwaGenerate g = request_of(s, &s->shown[i]);
    if (s->shown[i].decode < 0) continue;
    if (!nuwa_generate_needs(s->plan, &g, &more_slots, &more_rows, err)) return false;
    if (more_slots > s->plan->decode[s->shown[i].decode].live && more_slots > slots) slots = more_slots;
    if (more_rows > rows) rows = more_rows;
  }
  s->session = models_open_session(s->t->target, s->plan, SHOWN, rows, slots, err);
  return s->session != NULL;
}

static bool open_source(Showing *s, Error *err) {
  const Training *t = s->t;
  int *function = ARENA_ARRAY(t->arena, int, s->n + 1), n = 0;
  SourceOptions o = {.data = data_of(t), .evaluate = -1, .bpe = t->spec.bpe, .batch = SHOWN};
  training_encoders(t, o.encoder);
  for (int i = 0; i < s->n; i++)
    if (s->shown[i].has_inputs) function[n++] = s->shown[i].function;
  bool is_held_out =
      dataset_is_endless(data_of(t)) || (!t->spec.eval_data && dataset_count(data_of(t), WORLD_VALIDATION) > 0);
  s->split = is_held_out ? WORLD_VALIDATION : WORLD_TRAIN; /* another data set is for this as a whole */
  if (!(s->source = source_new(s->plan, function, n, &o, err))) return false;
  s->fed = source_interface(s->source);
  return true;
}

static void open_body(void *ctx) {
  ShowingOpening *c = ctx;
  Showing *s = c->s;
  const char **name = ARENA_ARRAY(s->t->arena, const char *, s->t->model->n_func + 1);
  list_shown(s, name);
  CompileOptions o = {.function = name, .n_function = s->n};
  if ((c->ok = s->n == 0)) return;
  if (!(s->plan = models_compile_plan(s->t->target, s->t->model, &o, c->err))) return;
  find_functions(s);
  c->ok = open_session(s, c->err) && open_source(s, c->err);
}

bool showing_open(Training *t, Showing **out, Error *err) {
  ShowingOpening c = {.s = mem_alloc(sizeof *c.s), .err = err};
  *out = NULL;
  if (!c.s) return error_set(err, ERROR_MEMORY, "out of memory");
  c.s->t = t;
  bool ok = arena_protect(t->arena, open_body, &c, err) && c.ok;
  if (ok && c.s->n) *out = c.s;
  else showing_close(c.s);
  return ok;
}

static void forget_record(Showing *s) {
  for (int i = 0; i < s->n_picture; i++) mem_free((void *)(uintptr_t)s->picture[i].png);
  arena_free(s->arena);
  s->arena = NULL;
  s->n_picture = s->n_counts = s->n_metric = 0;
}

void showing_close(Showing *s) {
  if (!s) return;
  forget_record(s);
  source_free(s->source);
  nuwa_session_close(s->session);
  plan_free(s->plan);
  mem_free(s);
}

/* ---- pictures ---- */

static bool captions_of(const Showing *s, const Shown *w, int n, Buffer *out, Error *err) {
  for (int i = 0; w->has_text && i < n; i++) {
    if (i) buffer_append(out, "\n", 1);
    size_t from = out->len;
    if (!dataset_caption(data_of(s->t), s->split, (uint64_t)i, out, err)) return false;
    for (size_t k = from; k < out->len; k++)
      if (out->data[k] == '\n') out->data[k] = ' ';
  }
  return true;
}

/* rgb: n pictures of width x height. */
static bool add_sheet(Showing *s, const Shown *w, const char *output, const uint8_t *rgb, int n, int columns,
                      int width, int height, Error *err) {
  int side = width > height ? width : height, zoom = side < LEAST_SIDE ? (LEAST_SIDE + side - 1) / side : 1;
  Image sheet = {0};
  Buffer png = {0}, captions = {0};
  if (s->n_picture == MOST_RECORDS) return true;
  bool ok = image_sheet(rgb, n, width, height, columns, 2, zoom, &sheet, err) && captions_of(s, w, SHOWN, &captions, err);
  ImageText text = {SHOWING_CAPTIONS, captions.data};
  ok = ok && image_encode_png(&sheet, &text, captions.len > 0, &png, err);
  if (ok && (png.failed || captions.failed)) ok = error_set(err, ERROR_MEMORY, "pictures: out of memory");
  if (ok)
    s->picture[s->n_picture++] =
        (LogPicture){arena_printf(s->arena, "%s.%s", w->name, output), png.data, png.len, sheet.width, sheet.height};
  else
    buffer_done(&png);
  buffer_done(&captions);
  image_done(&sheet);
  return ok;
}

/* Where the frames of a tensor lie: [B, (s,) h, w, c]. */
typedef struct Frames {
  const float *values;
  int64_t count;  /* of an example */
  int width, height, channels;
} Frames;

static Frames frames_of(const PlanTensor *t, const float *values) {
  int h = t->rank - 3;
  return (Frames){values, t->rank == 5 ? t->dim[1].c : 1, (int)t->dim[h + 1].c, (int)t->dim[h].c, (int)t->dim[h + 2].c};
}

static void copy_frame(const Frames *f, int64_t example, int64_t frame, uint8_t *rgb) {
  size_t pixels = (size_t)f->width * (size_t)f->height;
  const float *from = f->values + (size_t)(example * f->count + frame) * pixels * (size_t)f->channels;
  image_from_channels(from, pixels, f->channels, rgb);
}

/* A row of examples, or a row of frames for every clip; what went in (NULL: nothing like it) above what came out. */
static bool add_frames(Showing *s, const Shown *w, const char *output, const Frames *in, const Frames *out, Error *err) {
  bool is_clip = out->count > 1;
  int rows = is_clip ? SHOWN_CLIPS : 1,
      columns = !is_clip                    ? SHOWN
                : out->count < SHOWN_FRAMES ? (int)out->count
                                            : SHOWN_FRAMES,
      n = 0;
  if (out->channels != 1 && out->channels != 3) return true;
  size_t bytes = (size_t)out->width * (size_t)out->height * 3;
  uint8_t *rgb = ARENA_ARRAY(s->arena, uint8_t, bytes * (size_t)(2 * rows * columns));
  const Frames *side[] = {in, out};
  for (int r = 0; r < rows; r++)
    for (int k = in ? 0 : 1; k < 2; k++)
      for (int c = 0; c < columns; c++, n++)
        copy_frame(side[k], is_clip ? r : c, is_clip ? out->count * c / columns : 0, rgb + bytes * (size_t)n);
  return add_sheet(s, w, output, rgb, n, columns, out->width, out->height, err);
}

static bool same_dims(const PlanTensor *a, const PlanTensor *b) {
  if (a->dtype != b->dtype || a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (!dim_equal(a->dim[i], b->dim[i])) return false;
  return true;
}

static bool is_picture(const PlanTensor *t) {
  bool is_image = strcmp(t->name, PORT_IMAGE) == 0 && t->rank == 4,
       is_video = strcmp(t->name, PORT_VIDEO) == 0 && t->rank == 5;
  return (is_image || is_video) && t->dtype == DTYPE_F32;
}

/* ---- counts ---- */

static LogCounts *begin_counts(Showing *s, const Shown *w, const char *output, int64_t codes) {
  if (s->n_counts == MOST_RECORDS || codes < 1 || codes > MOST_CODES) return NULL;
  LogCounts *c = &s->counts[s->n_counts++];
  *c = (LogCounts){arena_printf(s->arena, "%s.%s", w->name, output), ARENA_ARRAY(s->arena, int64_t, codes), (int)codes};
  return c;
}

static void add_counts(LogCounts *c, const int32_t *code, int64_t n) {
  int64_t *count = (int64_t *)(uintptr_t)c->count;
  for (int64_t i = 0; i < n; i++)
    if (code[i] >= 0 && code[i] < c->n) count[code[i]]++;
}

/* How many codes are used at all, and as if by how many equally (2 to the entropy). */
static void add_use(Showing *s, const LogCounts *c) {
  double used = 0, all = 0, entropy = 0;
  for (int i = 0; i < c->n; i++) used += c->count[i] > 0, all += (double)c->count[i];
  for (int i = 0; i < c->n; i++)
    if (c->count[i]) entropy -= (double)c->count[i] / all * log((double)c->count[i] / all);
  if (all == 0) return;
  s->metric[s->n_metric++] = (Metric){arena_printf(s->arena, "%s.used", c->name), used};
  s->metric[s->n_metric++] = (Metric){arena_printf(s->arena, "%s.perplexity", c->name), exp(entropy)};
}

static int64_t codebook_of(const Training *t) {
  const Value *v = model_field(t->model, MODEL_CODEBOOK);
  return v && v->kind == VALUE_INT ? v->integer : 0;
}

/* ---- running ---- */

static bool fill(Showing *s, const Shown *w, uint64_t first, Error *err) {
  train_feed(s->session, s->plan, w->function, train_seed(s->t->spec.seed, w->name), 1, 1, first, SHOWN);
  return !w->has_inputs || s->fed.fill(s->fed.ctx, s->session, w->function, s->split, first, SHOWN, err);
}

static bool run(Showing *s, const Shown *w, uint64_t first, Error *err) {
  return fill(s, w, first, err) && (nuwa_run(s->session, w->function, SHOWN, 1) || nuwa_check(s->session, err));
}

static bool show_outputs(Showing *s, const Shown *w, Error *err) {
  const PlanFunction *f = &s->plan->function[w->function];
  for (int i = 0; i < f->n_out; i++) {
    const PlanTensor *t = &f->out[i], *same = plan_find_input(f, t->name);
    if (!is_picture(t)) continue;
    Frames in = {0}, out = frames_of(t, nuwa_output(s->session, w->function, t->name));
    bool has_in = same && same_dims(same, t);
    if (has_in) in = frames_of(same, nuwa_input(s->session, w->function, t->name));
    if (!add_frames(s, w, t->name, has_in ? &in : NULL, &out, err)) return false;
  }
  return true;
}

static bool is_codes(const PlanTensor *t) { return strcmp(t->name, PORT_CODES) == 0 && t->dtype == DTYPE_I32; }

static bool show_codes(Showing *s, const Shown *w, Error *err) {
  const PlanFunction *f = &s->plan->function[w->function];
  const PlanTensor *codes = plan_find_output(f, PORT_CODES);
  int64_t n = 0;
  LogCounts *c = codes && is_codes(codes) ? begin_counts(s, w, PORT_CODES, codebook_of(s->t)) : NULL;
  if (!c || !plan_tensor_elems(codes, SHOWN, 1, &n)) return true;
  for (uint64_t first = 0; first < COUNTED; first += SHOWN) {
    if (first && !run(s, w, first, err)) return false;
    add_counts(c, nuwa_output(s->session, w->function, PORT_CODES), n);
  }
  add_use(s, c);
  return true;
}

static bool show_drawing(Showing *s, const Shown *w, Error *err) {
  const PlanDecode *d = &s->plan->decode[w->decode];
  const Training *t = s->t;
  const Codec *codec = &t->codec[CODEC_IMAGE];
  const PlanTensor *image = plan_find_output(&codec->opened.plan->function[codec->decode], PORT_IMAGE);
  int64_t positions = plan_positions(d), frames = SHOWN * d->grid[0], values = 0;
  NuwaGenerate g = request_of(s, w);
  int32_t *tokens = ARENA_ARRAY(s->arena, int32_t, SHOWN * positions);
  if ((w->function >= 0 && !fill(s, w, 0, err)) || !nuwa_generate(s->session, &g, tokens, NULL, NULL, NULL, err))
    return false;
  LogCounts *c = begin_counts(s, w, PORT_TOKENS, d->vocab);
  if (c) add_counts(c, tokens, SHOWN * positions), add_use(s, c);
  BUG_IF(!plan_tensor_elems(image, 1, 1, &values), "pictures of no size");
  float *pictures = ARENA_ARRAY(s->arena, float, frames * values);
  Frames out = frames_of(image, pictures);
  out.count = d->grid[0];
  return codec_decode_frames(codec, tokens, frames, pictures, err) && add_frames(s, w, PORT_IMAGE, NULL, &out, err);
}

/* ---- the record ---- */

static bool copy_tensor(Showing *s, const PlanTensor *to, const PlanTensor *from, bool is_param, Error *err) {
  int64_t bytes = 0;
  BUG_IF(!same_dims(to, from) || !plan_tensor_bytes(to, 0, 0, &bytes),
         "\"%s\" is stored otherwise where it is trained", to->name);
  void *values = mem_alloc((size_t)bytes + 1);
  bool ok = values || error_set(err, ERROR_MEMORY, "\"%s\": out of memory", to->name);
  ok = ok && (is_param ? training_read_param(s->t, to->name, values, err) &&
                             nuwa_write_param(s->session, to->name, values, err)
                       : nuwa_read_state(s->t->session, to->name, values, err) &&
                             nuwa_write_state(s->session, to->name, values, err));
  mem_free(values);
  return ok;
}

static bool copy_weights(Showing *s, Error *err) {
  const Plan *trained = s->t->plan, *p = s->plan;
  for (int i = 0; i < p->n_param; i++)
    if (!copy_tensor(s, &p->param[i].type, &trained->param[plan_find_param(trained, p->param[i].type.name)].type,
                     true, err))
      return false;
  for (int i = 0; i < p->n_state; i++) {
    int at = plan_find_state(trained, p->state[i].type.name);
    if (at >= 0 && !copy_tensor(s, &p->state[i].type, &trained->state[at].type, false, err)) return false;
  }
  return nuwa_prepare(s->session) || nuwa_check(s->session, err);
}

static void make_body(void *ctx) {
  ShowingOpening *c = ctx;
  Showing *s = c->s;
  s->picture = ARENA_ARRAY(s->arena, LogPicture, MOST_RECORDS);
  s->counts = ARENA_ARRAY(s->arena, LogCounts, MOST_RECORDS);
  s->metric = ARENA_ARRAY(s->arena, Metric, 2 * MOST_RECORDS);
  c->ok = copy_weights(s, c->err);
  for (int i = 0; c->ok && i < s->n; i++) {
    const Shown *w = &s->shown[i];
    c->ok = w->decode >= 0 ? show_drawing(s, w, c->err)
                           : run(s, w, 0, c->err) && show_outputs(s, w, c->err) && show_codes(s, w, c->err);
    if (!c->ok) error_prefix(c->err, "showing \"%s\"", w->name);
  }
}

bool showing_make(Showing *s, LogRecord *out, Error *err) {
  ShowingOpening c = {.s = s, .err = err};
  forget_record(s);
  if (!(s->arena = arena_new())) return error_set(err, ERROR_MEMORY, "pictures: out of memory");
  bool ok = arena_protect(s->arena, make_body, &c, err) && c.ok;
  *out = (LogRecord){s->metric, s->n_metric, s->picture, s->n_picture, s->counts, s->n_counts};
  return ok;
}
