/* See models.h. */
#include "synth/models.h"

#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/names.h"
#include "runtime/bundle.h"

void synth_say(const SynthTarget *t, const char *fmt, ...) {
  char text[1500];
  va_list args;
  if (!t->say) return;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  t->say(t->ctx, text);
}

bool models_is_bundle(const char *path) {
  char magic[BUNDLE_MAGIC_BYTES];
  size_t n = strlen(path);
  if (n > 5 && strcmp(path + n - 5, ".nuwa") == 0) return true;
  FILE *f = fopen(path, "rb");
  bool is = f && fread(magic, 1, sizeof magic, f) == sizeof magic && memcmp(magic, bundle_magic, sizeof magic) == 0;
  if (f) fclose(f);
  return is;
}

const char *models_find(Arena *a, const SynthTarget *t, const char *file) {
  return t->models_dir ? arena_printf(a, "%s/%s", t->models_dir, file) : arena_strdup(a, file);
}

void models_define(Arena *a, ModelSpec *m, const char *name, const char *value) {
  Define *grown = ARENA_ARRAY(a, Define, m->n_define + 1);
  int n = 0;
  for (int i = 0; i < m->n_define; i++)
    if (strcmp(m->define[i].name, name) != 0) grown[n++] = m->define[i];
  grown[n++] = (Define){arena_strdup(a, name), arena_strdup(a, value)};
  m->define = grown;
  m->n_define = n;
}

/* A value that nothing reads is a mistake: the writer believes that it does something. */
static bool check_fields(const Model *m, Error *err) {
  static const char *const read[] = {MODEL_CODEBOOK, MODEL_VOCAB, MODEL_CLASSES, MODEL_LABELS_CODEBOOK, MODEL_NULL, "size",  "text_tokens",
                                     "grid",         "grid.1",    "grid.2",      "grid.3"};
  for (int i = 0; i < m->n_field; i++) {
    int k = 0;
    while (k < COUNT_OF(read) && strcmp(read[k], m->field[i].name) != 0) k++;
    if (k < COUNT_OF(read)) continue;
    error_set(err, ERROR_MODEL, "%s: module: \"%s\" has no effect; beside functions a module says", m->path,
              m->field[i].name);
    for (k = 0; k < COUNT_OF(read) - 3; k++) {
      size_t at = strlen(err->text);
      snprintf(err->text + at, sizeof err->text - at, "%s %s", k ? "," : "", read[k]);
    }
    size_t at = strlen(err->text);
    snprintf(err->text + at, sizeof err->text - at,
             "; how to train is a list, train = { { \"main\", optim.adam(loss, { lr = 1e-3 }) } }");
    return false;
  }
  return true;
}

Model *models_load(const SynthTarget *t, const ModelSpec *m, Error *err) {
  ModelOptions o = {
      .define = m->define, .n_define = m->n_define, .models_dir = t->models_dir, .source = m->source};
  Model *model = model_load(m->path, &o, err);
  /* What weights carry is as it was when they were made. */
  if (!model || m->source || check_fields(model, err)) return model;
  model_free(model);
  return NULL;
}

static CompileOptions with_target(const SynthTarget *t, const CompileOptions *what) {
  CompileOptions o = t->compile;
  o.function = what->function;
  o.n_function = what->n_function;
  o.whole = what->whole;
  o.train = what->train;
  o.raw = what->raw;
  o.explain = what->explain;
  return o;
}

bool models_compile(const SynthTarget *t, Model *model, const CompileOptions *what, Buffer *out, Error *err) {
  CompileOptions o = with_target(t, what);
  return compile_model(model, &o, out, err);
}

bool models_lower(const SynthTarget *t, const Model *model, const CompileOptions *what, Lowered *out, Error *err) {
  CompileOptions o = with_target(t, what);
  return compile_lower(model, &o, out, err);
}

Plan *models_compile_plan(const SynthTarget *t, Model *model, const CompileOptions *o, Error *err) {
  Buffer bundle = {0};
  Plan *p = NULL;
  if (models_compile(t, model, o, &bundle, err)) p = plan_read(bundle.data, bundle.len, model->path, err);
  buffer_done(&bundle);
  return p;
}

static Plan *compile_for(const SynthTarget *t, const ModelSpec *m, const CompileOptions *o, const Safetensors *w,
                         Error *err) {
  Model *model = models_load(t, m, err);
  Plan *p = model && models_check_weights(model, w, err) ? models_compile_plan(t, model, o, err) : NULL;
  model_free(model);
  return p;
}

Plan *models_open_plan(const SynthTarget *t, const ModelSpec *m, const char *const *functions, int n, const Safetensors *w,
                       Error *err) {
  CompileOptions o = {.function = functions, .n_function = n};
  bool is_bundle = !m->source && models_is_bundle(m->path);
  Plan *p = is_bundle ? bundle_open_plan(m->path, n ? functions[0] : NULL, err) : compile_for(t, m, &o, w, err);
  if (!p || nuwa_check_weights(p, w, !is_bundle, err)) return p;
  plan_free(p);
  return NULL;
}

/* A driver that compiles PTX takes seconds for it, every time. */
static void tell_ptx(const SynthTarget *t, const Plan *p, const NuwaSession *s) {
  int n = 0;
  for (int i = 0; i < p->n_kernel; i++)
    n += nuwa_kernel_is_compiled(s, i) && p->object[p->kernel[i].object].n_image > 1;
  if (n)
    synth_say(t, "the driver compiled PTX for %d of %d kernels: it takes no machine code of this bundle (%s)", n,
              p->n_kernel, p->features);
}

NuwaSession *models_open_session(const SynthTarget *t, const Plan *p, int64_t samples, int64_t rows,
                                 int64_t ring_slots, Error *err) {
  NuwaOptions o = t->session;
  if (!t->is_device_given) o.device = p->device;
  o.samples = samples;
  o.rows = rows;
  o.ring_slots = ring_slots;
  NuwaSession *s = nuwa_session_open(p, &o, err);
  if (s) tell_ptx(t, p, s);
  return s;
}

/* ---- params ---- */

static int by_name(const void *x, const void *y) {
  return strcmp((*(Node *const *)x)->attrs.leaf.name, (*(Node *const *)y)->attrs.leaf.name);
}

/* A graph has one node a param, but functions share them; some only training has. */
Node **models_params(const Model *model, int *out_n) {
  Arena *a = model->graph->arena;
  bool *seen = ARENA_ARRAY(a, bool, model->graph->n_nodes);
  Node **param = NULL;
  int n = 0, cap = 0;
  for (int i = 0; i < model->n_func + model->n_train; i++) {
    int n_nodes;
    Node **nodes = func_nodes(i < model->n_func ? model->func[i] : model->train[i - model->n_func].func, &n_nodes);
    for (int k = 0; k < n_nodes; k++) {
      if (nodes[k]->op != OP_PARAM || seen[nodes[k]->id]) continue;
      seen[nodes[k]->id] = true;
      ARENA_PUSH(a, param, n, cap, nodes[k]);
    }
  }
  if (n) qsort(param, (size_t)n, sizeof(Node *), by_name);
  *out_n = n;
  return param;
}

typedef struct WeightsCheck {
  const Model *model;
  const Safetensors *weights;
  Error *err;
  bool ok;
} WeightsCheck;

static void check_weights(void *ctx) {
  WeightsCheck *c = ctx;
  int n;
  Node **param = models_params(c->model, &n);
  const char **other = ARENA_ARRAY(c->model->graph->arena, const char *, safetensors_count(c->weights));
  int n_other = 0;
  for (int i = 0; i < safetensors_count(c->weights); i++) {
    const char *name = safetensors_get(c->weights, i)->name;
    int k = 0;
    while (k < n && strcmp(param[k]->attrs.leaf.name, name) != 0) k++;
    if (k == n) other[n_other++] = name;
  }
  if (n_other && !safetensors_refuse(other, n_other, c->err)) return;
  c->ok = true;
}

bool models_check_weights(const Model *model, const Safetensors *w, Error *err) {
  WeightsCheck c = {model, w, err, false};
  return arena_protect(model->graph->arena, check_weights, &c, err) && c.ok;
}

const char *models_add_task(Arena *a, const char *list, const char *decode) {
  size_t n = strlen(FUNC_TASKS ".");
  if (strncmp(decode, FUNC_TASKS ".", n) != 0) return list;
  return arena_printf(a, "%s%s%s", list, *list ? " " : "", decode + n);
}

const char *models_list_tasks(const Model *model, Arena *a) {
  const char *list = "";
  for (int i = 0; i < model->n_decode; i++) list = models_add_task(a, list, model->decode[i].name);
  return list;
}
