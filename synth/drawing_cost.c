/* See drawing_cost.h. */
#include "synth/drawing_cost.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "runtime/base/names.h"

enum { TIMED_RUNS = 5 };

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int64_t param_count(const Plan *p) {
  int64_t total = 0;
  for (int i = 0; i < p->n_param; i++) {
    int64_t elems;
    if (plan_tensor_elems(&p->param[i].type, 1, 1, &elems)) total += elems;
  }
  return total;
}

/* A text of one picture that fills its place. */
static void fill_text(NuwaSession *s, const Plan *p) {
  int prologue = p->decode[0].prologue;
  const PlanTensor *t = prologue >= 0 ? plan_find_input(&p->function[prologue], PORT_TEXT_MASK) : NULL;
  int64_t elems;
  if (t && plan_tensor_elems(t, 1, 1, &elems))
    memset(nuwa_input(s, prologue, PORT_TEXT_MASK), 1, (size_t)elems * dtype_bytes(t->dtype));
}

/* Draws with initial weights, again and again. */
static bool time_drawing(NuwaSession *s, const Plan *p, const NuwaGenerate *g, DrawingCost *out, Error *err) {
  const int64_t *grid = p->decode[0].grid;
  int32_t *tokens = mem_alloc((size_t)(grid[0] * grid[1] * grid[2]) * sizeof *tokens);
  NuwaGenerateStats stats = {0};
  if (!tokens) return error_set(err, ERROR_MEMORY, "out of memory");
  fill_text(s, p);
  bool ok = nuwa_init_weights(s, 1) || nuwa_check(s, err);
  out->ms = INFINITY;
  for (int i = 0; i < TIMED_RUNS && ok; i++) {
    double begin = now_ms();
    ok = nuwa_generate(s, g, tokens, &stats, NULL, NULL, err);
    out->ms = fmin(out->ms, now_ms() - begin);
  }
  mem_free(tokens);
  out->steps = stats.steps;
  out->tokens = stats.tokens;
  return ok;
}

/* NULL without err set: there is no decode. */
static Plan *compile_drawing(const SynthTarget *t, const ModelSpec *m, DrawingCost *out, Error *err) {
  static const char *const functions[] = {FUNC_DECODE};
  CompileOptions o = {.function = functions, .n_function = 1};
  DecodeFacts facts = {0};
  Error none;
  err->code = ERROR_NONE;
  Model *model = models_load(t, m, err);
  const ModelDecode *md = model ? model_find_decode(model, functions[0], &none) : NULL;
  bool ok = md && compile_decode_describe(model, md, t->compile.precision, &facts, err);
  Plan *p = ok ? models_compile_plan(t, model, &o, err) : NULL;
  out->kv_bytes = facts.kv_bytes;
  model_free(model);
  return p;
}

bool drawing_cost_measure(const SynthTarget *t, const ModelSpec *m, DrawingCost *out, Error *err) {
  const NuwaGenerate g = {.count = 1, .sample = {.temperature = 1.0f, .top_p = 1.0f}, .guidance = 1.0f};
  *out = (DrawingCost){0};
  Plan *p = compile_drawing(t, m, out, err);
  int64_t slots, rows;
  if (!p && err->code == ERROR_NONE) return true;
  NuwaSession *s = p && nuwa_generate_needs(p, &g, &slots, &rows, err) ? models_open_session(t, p, 1, rows, 0, err) : NULL;
  bool ok = s && time_drawing(s, p, &g, out, err);
  if (ok) out->params = param_count(p);
  nuwa_session_close(s);
  plan_free(p);
  return ok;
}
