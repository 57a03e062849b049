/* The demo's models as they are shipped, with their weights, and the interpreter that runs them.
 *
 * Which code is nearest and which token is likeliest is a decision.  Where the device decides otherwise than the
 * interpreter, the interpreter's scores of the two must be closer than a tolerance, and whatever follows is computed
 * from the device's choice on both sides. */
#ifndef TEST_DEMO_H
#define TEST_DEMO_H

#include "runtime/base/names.h"
#include "tests/gpu/pair.h"
#include "tests/test.h"

enum { DEMO_DEFINES = 64, DEMO_OUTPUTS = 8 };

/* ---- the models ---- */

typedef struct Demo {
  Model *model;
  Safetensors *weights;
  DType precision;
  int64_t samples;
  Plan *plan;
  NuwaSession *session;
  RigData data;
  int64_t codebook, labels_codebook, vocab, words;   /* codes and tokens of text there are, tokens of a text; 0: none */
  Define define[DEMO_DEFINES];
  int n_define;
  char *options;
  Error err;
} Demo;

/* ---- data ---- */

static inline double fit(void *ctx, const char *name, int64_t i, double x) {
  const Demo *d = ctx;
  if (strcmp(name, PORT_TEXT) == 0) return (double)((i * i * 5 + 1) % d->vocab);
  if (strcmp(name, PORT_TEXT_MASK) == 0) return i % d->words < d->words * 3 / 4;
  if (strcmp(name, PORT_LABELS_TOKENS) == 0) return (double)((i * 53 + i / 7) % d->labels_codebook);
  bool is_code = strcmp(name, PORT_TOKENS) == 0 || strcmp(name, PORT_IMAGE_TOKENS) == 0 || strcmp(name, PORT_CODES) == 0;
  if (is_code) return (double)((i * 37 + i / 9) % d->codebook);
  if (strcmp(name, PORT_IMAGE) == 0) return 0.5 + 0.4 * sin((double)i * 0.013) * cos((double)(i % 96) * 0.07);
  if (strcmp(name, PORT_STEP) == 0) return 50;
  if (strcmp(name, PORT_STEPS) == 0) return 100;
  return x;
}

static inline int64_t field_of(const Demo *d, const char *name) {
  const Value *v = model_field(d->model, name);
  return v ? v->integer : 0;
}

static inline void prepare_data(Demo *d) {
  d->data = (RigData){3, fit, d};
  d->codebook = field_of(d, "codebook");
  d->labels_codebook = field_of(d, "labels_codebook");
  d->vocab = field_of(d, "vocab");
  d->words = field_of(d, "text_tokens");
}

/* Fills what a function of the plan reads. */
static inline void fill_inputs(Demo *d, int function) {
  const PlanFunction *pf = &d->plan->function[function];
  for (int i = 0; i < pf->n_in; i++) {
    int64_t n = 0;
    plan_tensor_elems(&pf->in[i], d->samples, 1, &n);
    rig_fill(&d->data, pf->in[i].name, pf->in[i].dtype, n, nuwa_input(d->session, function, pf->in[i].name));
  }
}

/* ---- opening ---- */

/* Options that the tests set otherwise than the weights do. */
static const struct {
  const char *weights;
  Define define;
} changed[] = {
    /* All tasks share their layers, and of clips the interpreter would compute for minutes. */
    {SHIPPED_DRAWER, {"tasks", "text_image,sketch_image,image_text"}},
    {SHIPPED_DRAWER, {"task_weights", "1,0.5,0.25"}},
    /* All of it is trained, and without the network whose weights are not shipped. */
    {SHIPPED_IMAGE, {"part", "all"}},
    {SHIPPED_IMAGE, {"codes_by", "gradient"}},
    {SHIPPED_IMAGE, {"perceptual", "none"}},
};

static inline void change_define(const char *weights, Define *d) {
  for (int i = 0; i < COUNT_OF(changed); i++)
    if (strcmp(changed[i].weights, weights) == 0 && strcmp(changed[i].define.name, d->name) == 0) *d = changed[i].define;
}

/* "name=value" a line, as `nuwa train` writes them. */
static inline void read_defines(Demo *d, const char *weights) {
  d->options = strdup(safetensors_metadata(d->weights, "options"));
  for (char *line = strtok(d->options, "\n"); line && d->n_define < DEMO_DEFINES - 1; line = strtok(NULL, "\n")) {
    char *eq = strchr(line, '=');
    *eq = 0;
    d->define[d->n_define] = (Define){line, eq + 1};
    change_define(weights, &d->define[d->n_define++]);
  }
}

/* The Lua files that the weights carry. */
typedef struct SourceCall {
  Arena *arena;
  const char *text;
  SourceMap *out;
  Error *err;
  bool ok;
} SourceCall;

static inline void read_demo_source(void *ctx) {
  SourceCall *c = ctx;
  c->ok = c->text ? source_read(c->arena, c->text, c->out, c->err) : error_set(c->err, ERROR_FORMAT, "the weights carry no source");
}

static inline bool open_demo(Demo *d, const char *weights, DType precision, int64_t samples) {
  char path[1000];
  *d = (Demo){.precision = precision, .samples = samples};
  snprintf(path, sizeof path, "%s/weights/%s.safetensors", MODELS_DIR, weights);
  if (!(d->weights = safetensors_open(path, &d->err))) return false;
  read_defines(d, weights);
  const char *model = safetensors_metadata(d->weights, "model");
  SourceMap source;
  Arena *arena = arena_new();
  SourceCall call = {arena, safetensors_metadata(d->weights, "source"), &source, &d->err, false};
  if (!arena || !arena_protect(arena, read_demo_source, &call, &d->err) || !call.ok) return false;
  ModelOptions o = {.define = d->define, .n_define = d->n_define, .source = &source};
  snprintf(path, sizeof path, "%s/%s", MODELS_DIR, model);
  d->model = model_load(path, &o, &d->err);
  arena_free(arena);
  if (d->model) prepare_data(d);
  return d->model != NULL;
}

static inline void close_plan(Demo *d) {
  nuwa_session_close(d->session);
  plan_free(d->plan);
  d->session = NULL;
  d->plan = NULL;
}

static inline void close_demo(Demo *d) {
  close_plan(d);
  model_free(d->model);
  safetensors_close(d->weights);
  free(d->options);
}

/* ---- the interpreter ---- */

static const char decided_name[] = "decided";   /* an input: what the device decided */

typedef struct Reference {
  Demo *d;
  Arena *arena;
  const char *name;             /* of the function */
  const int32_t *decided;       /* decisions to take as they are, or NULL */
  const int32_t *text, *tokens; /* instead of the data's, or NULL; of a text the mask too */
  Func *f;                      /* what was computed; where decisions were given their scores are the last output */
  Node *scores;
  Tensor out[DEMO_OUTPUTS], *update;
  bool ok;
} Reference;

static inline const int32_t *given_input(const Reference *r, const char *name) {
  if (strcmp(name, decided_name) == 0) return r->decided;
  if (strcmp(name, PORT_TEXT) == 0 || strcmp(name, PORT_TEXT_MASK) == 0) return r->text;
  return strcmp(name, PORT_TOKENS) == 0 ? r->tokens : NULL;
}

/* A mask has 1 for the tokens of its text. */
static inline double given_value(DType t, int32_t x) { return t == DTYPE_U8 ? x != 0 : x; }

static inline const Tensor *read_leaf(void *ctx, const Node *leaf, Error *err) {
  Reference *r = ctx;
  int64_t dim[MAX_RANK];
  const char *name = leaf->attrs.leaf.name;
  for (int i = 0; i < leaf->type.rank; i++) dim[i] = dim_value(leaf->type.dim[i], r->d->samples, 1);
  Tensor *t = ARENA_NEW(r->arena, Tensor);
  *t = tensor_new(r->arena, leaf->type.dtype, leaf->type.rank, dim);
  int64_t n = tensor_elems(t);
  const int32_t *given = given_input(r, name);
  const TensorView *v = leaf->op == OP_PARAM ? safetensors_find(r->d->weights, name) : NULL;
  if (leaf->op == OP_STATE) return t;   /* as a session begins */
  if (leaf->op == OP_PARAM && !v) return error_set(err, ERROR_ARGUMENT, "no weight %s", name), NULL;
  void *values = given || v ? NULL : arena_alloc(r->arena, (size_t)n * dtype_bytes(t->dtype));
  if (values) rig_fill(&r->d->data, name, t->dtype, n, values);
  for (int64_t i = 0; i < n; i++)
    t->data[i] = given ? given_value(t->dtype, given[i]) : v ? rig_load(v->dtype, v->data, i) : rig_load(t->dtype, values, i);
  return t;
}

/* Argmax becomes an input, its operand the scores. */
static inline Node *cut_decision(void *ctx, Graph *g, Node *n, Node *const *in) {
  Reference *r = ctx;
  if (n->op != OP_ARGMAX) return node_rebuild(g, n, in);
  r->scores = in[0];
  return graph_op(g, OP_INPUT, NULL, 0, &(Attrs){.leaf.name = decided_name}, &n->type);
}

static inline void reference_build(void *ctx) {
  Reference *r = ctx;
  Func *f = model_find(r->d->model, r->name, &r->d->err);
  if (f) f = pipeline_meaning(f, model_train_of(r->d->model, f), r->d->precision, &r->d->err);
  if (f && r->decided) f = func_rewrite(f, cut_decision, r);
  if (!f) return;
  Port out[DEMO_OUTPUTS];
  memcpy(out, f->out, sizeof *out * (size_t)f->n_out);
  if (r->scores) out[f->n_out] = (Port){"scores", r->scores};
  r->f = func_new(f->graph, f->name, f->in, f->n_in, out, f->n_out + (r->scores != NULL));
  r->f->update = f->update;
  r->f->n_update = f->n_update;
}

static inline void reference_alloc(void *ctx) {
  Reference *r = ctx;
  r->update = ARENA_ARRAY(r->arena, Tensor, r->f->n_update + 1);
}

/* The caller frees r->arena. */
static inline bool reference_run(Reference *r) {
  Error *err = &r->d->err;
  r->arena = arena_new();
  r->d->model->graph->err = err;
  return r->arena && arena_protect(r->d->model->graph->arena, reference_build, r, err) && r->f &&
         arena_protect(r->arena, reference_alloc, r, err) &&
         interp_run(r->f, r->d->samples, 1, read_leaf, r, r->arena, r->out, r->update, err);
}

/* ---- decisions ---- */

static inline double largest(const Tensor *t) {
  double most = 0;
  for (int64_t i = 0; i < tensor_elems(t); i++) most = fmax(most, fabs(t->data[i]));
  return most;
}

/* How much less likely than the best a drawn token's logit may be. */
static inline double token_slack(DType precision, const Tensor *logits) {
  return precision == DTYPE_BF16 ? 2e-2 * largest(logits) : 1e-4;
}

/* Every decision has a score within `slack` of the best one's; those that differ are printed. */
static inline void check_decisions(const char *what, const Tensor *scores, const int32_t *decided, double slack) {
  int64_t choices = scores->dim[scores->rank - 1], n = tensor_elems(scores) / choices, differ = 0;
  double widest = 0;
  for (int64_t i = 0; i < n; i++) {
    const double *s = scores->data + i * choices;
    int64_t best = 0;
    for (int64_t k = 1; k < choices; k++)
      if (s[k] > s[best]) best = k;
    REQUIRE(decided[i] >= 0 && decided[i] < choices, "%s: decision %d is %d", what, (int)i, decided[i]);
    differ += best != decided[i];
    widest = fmax(widest, s[best] - s[decided[i]]);
  }
  EXPECT(widest <= slack, "%s: a choice is %g below the best, %g is allowed", what, widest, slack);
  if (differ)
    printf("%s: %d of %d choices are not the interpreter's, by at most %g\n", what, (int)differ, (int)n, widest);
}

#endif
