/* Functions in IR text, compiled for the CPU and for CUDA, each with a session: the CPU's, and one on the emulated device
 * through the very path that a real one takes (dlopen, PTX by NVRTC, pinned memory, graphs). */
#ifndef TEST_PAIR_H
#define TEST_PAIR_H

#include <math.h>

#include "frontend/compile/compile.h"
#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"
#include "tests/gpu/emu_test.h"
#include "tests/num/rig.h"

enum { ON_CPU, ON_CUDA };

typedef struct Pair {
  Model model;
  ModelDecode decode;
  Plan *plan[2];
  NuwaSession *session[2];
  Error err;
  const char *text;
} Pair;

static inline void pair_parse(void *ctx) {
  Pair *p = ctx;
  if (!ir_parse(p->model.graph, "case", p->text, &p->model.func, &p->model.n_func)) p->model.n_func = 0;
}

/* is_decode: the first function is the teacher-forced one of a decode of its name. */
static inline bool pair_parse_text(Pair *p, const char *text, bool is_decode) {
  *p = (Pair){.text = text};
  p->model.graph = graph_new(&p->err);
  p->model.path = "case";
  if (!p->model.graph || !arena_protect(p->model.graph->arena, pair_parse, p, &p->err) || !p->model.n_func) return false;
  if (!is_decode) return true;
  p->decode = (ModelDecode){p->model.func[0]->name, p->model.func[0], "tokens", "logits"};
  p->model.decode = &p->decode;
  p->model.n_decode = 1;
  return true;
}

static inline Plan *pair_compile(Pair *p, CompileOptions o) {
  Buffer bundle = {0};
  Plan *plan = NULL;
  o.isa = isa_best();
  o.threads = 1;   /* sanitizers see nothing of NVRTC's locks */
  if (compile_model(&p->model, &o, &bundle, &p->err)) plan = plan_read(bundle.data, bundle.len, "case", &p->err);
  buffer_done(&bundle);
  return plan;
}

static inline NuwaOptions pair_options(PlanDevice device, int64_t samples, int64_t rows) {
  return (NuwaOptions){.device = device, .threads = 2, .samples = samples, .rows = rows, .cuda.driver = EMUCUDA_PATH};
}

/* Both plans and sessions, with the same weights. */
static inline bool pair_open(Pair *p, const char *text, bool is_decode, int64_t samples, int64_t rows) {
  if (!pair_parse_text(p, text, is_decode)) return false;
  for (int d = ON_CPU; d <= ON_CUDA; d++) {
    NuwaOptions o = pair_options(d == ON_CPU ? PLAN_CPU : PLAN_CUDA, samples, rows);
    if (!(p->plan[d] = pair_compile(p, (CompileOptions){.device = o.device}))) return false;
    if (!(p->session[d] = nuwa_session_open(p->plan[d], &o, &p->err))) return false;
    if (!nuwa_init_weights(p->session[d], 7)) return nuwa_check(p->session[d], &p->err);
  }
  return true;
}

static inline void pair_close(Pair *p) {
  for (int d = ON_CPU; d <= ON_CUDA; d++) {
    nuwa_session_close(p->session[d]);
    plan_free(p->plan[d]);
  }
  graph_free(p->model.graph);
}

/* Runs function f of both on the same data. */
static inline bool pair_run(Pair *p, int f, const RigData *data, int64_t B, int64_t R) {
  for (int d = ON_CPU; d <= ON_CUDA; d++) {
    const PlanFunction *fn = &p->plan[d]->function[f];
    for (int i = 0; i < fn->n_in; i++) {
      int64_t n = 0;
      plan_tensor_elems(&fn->in[i], B, R, &n);
      rig_fill(data, fn->in[i].name, fn->in[i].dtype, n, nuwa_input(p->session[d], f, fn->in[i].name));
    }
    if (!nuwa_run(p->session[d], f, B, R)) return nuwa_check(p->session[d], &p->err);
  }
  return true;
}

/* Largest difference of n elements over the largest on the CPU. */
static inline double pair_difference(DType t, const void *cpu, const void *cuda, int64_t n) {
  double most = 0, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    double x = rig_load(t, cpu, i), y = rig_load(t, cuda, i);
    if (isnan(x) != isnan(y)) return INFINITY;
    if (isnan(x)) continue;
    most = fmax(most, fabs(x));
    worst = fmax(worst, fabs(x - y));
  }
  return most > 0 ? worst / most : worst;
}

/* The worst output. */
static inline double pair_error(Pair *p, int f, int64_t B, int64_t R) {
  const PlanFunction *fn = &p->plan[ON_CPU]->function[f];
  double worst = 0;
  for (int i = 0; i < fn->n_out; i++) {
    int64_t n = 0;
    plan_tensor_elems(&fn->out[i], B, R, &n);
    worst = fmax(worst, pair_difference(fn->out[i].dtype, nuwa_output(p->session[ON_CPU], f, fn->out[i].name),
                                        nuwa_output(p->session[ON_CUDA], f, fn->out[i].name), n));
  }
  return worst;
}

#endif
