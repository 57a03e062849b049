/* Timing, and functions as text: through all passes into a plan, a session, and so many runs. */
#include "bench/bench.h"

#include <string.h>
#include <time.h>

#include "codegen/plan/products.h"
#include "passes/passes.h"
#include "runtime/base/philox.h"

/* ---- time ---- */

double bench_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return a < b ? -1 : a > b;
}

enum { MOST_SAMPLES = 101 };
static const double group_s = 1e-3, budget_s = 3.0;

/* Seconds of one call, over `calls` of them. */
static bool time_calls(int64_t calls, bool (*run)(void *ctx, Error *err), void *ctx, double *out, Error *err) {
  double begin = bench_now();
  for (int64_t i = 0; i < calls; i++)
    if (!run(ctx, err)) return false;
  *out = (bench_now() - begin) / (double)calls;
  return true;
}

static Sample sample_of(double *sample, int n) {
  qsort(sample, (size_t)n, sizeof *sample, by_value);
  return (Sample){n % 2 ? sample[n / 2] : 0.5 * (sample[n / 2 - 1] + sample[n / 2]), sample[0]};
}

bool bench_time(int repeat, bool (*run)(void *ctx, Error *err), void *ctx, Sample *out, Error *err) {
  double sample[MOST_SAMPLES], warm, end = bench_now() + budget_s;
  int n = 0, most = repeat < MOST_SAMPLES ? repeat : MOST_SAMPLES;
  if (!time_calls(1, run, ctx, &warm, err)) return false;
  if (warm < group_s && !time_calls(warm > 0.0 ? 1 + (int64_t)(group_s / warm / 4.0) : 100, run, ctx, &warm, err))
    return false;
  int64_t calls = warm >= group_s ? 1 : warm > 0.0 ? (int64_t)(group_s / warm) + 1 : 1000;
  if (warm >= budget_s) sample[n++] = warm;
  while (n < most && (n == 0 || bench_now() < end))
    if (!time_calls(calls, run, ctx, &sample[n++], err)) return false;
  *out = sample_of(sample, n);
  return true;
}

/* ---- functions ---- */

typedef struct FunctionRun {
  NuwaSession *session;
  int function;
  int64_t B;
} FunctionRun;

static bool run_function(void *ctx, Error *err) {
  const FunctionRun *r = ctx;
  return nuwa_run(r->session, r->function, r->B, 1) || nuwa_check(r->session, err);
}

static double kernel_seconds(const NuwaSession *s, const Plan *p, int function) {
  int64_t ns = 0;
  for (int i = 0; i < p->function[function].n_launch; i++) ns += nuwa_profile_ns(s, function, i);
  return 1e-9 * (double)ns;
}

static bool time_kernels(int repeat, FunctionRun *r, const Plan *p, Sample *out, Error *err) {
  double sample[MOST_SAMPLES], end = bench_now() + budget_s;
  int n = 0, most = repeat < MOST_SAMPLES ? repeat : MOST_SAMPLES;
  if (!run_function(r, err) || !nuwa_profile_start(r->session, err) || !run_function(r, err)) return false;
  while (n < most && (n == 0 || bench_now() < end)) {
    double before = kernel_seconds(r->session, p, r->function);
    if (!run_function(r, err)) return false;
    sample[n++] = kernel_seconds(r->session, p, r->function) - before;
  }
  *out = sample_of(sample, n);
  return true;
}

bool bench_time_function(const BenchOptions *o, NuwaSession *s, const Plan *p, int function, int64_t B, Sample *out,
                         Error *err) {
  FunctionRun r = {s, function, B};
  if (o->device == PLAN_CUDA) return time_kernels(o->repeat, &r, p, out, err);
  return bench_time(o->repeat, run_function, &r, out, err);
}

/* ---- inputs ---- */

bool bench_fill(NuwaSession *s, const Plan *p, int function, int64_t B, int64_t R, double scalar, Error *err) {
  const PlanFunction *f = &p->function[function];
  for (int i = 0; i < f->n_in; i++) {
    const PlanTensor *t = &f->in[i];
    void *to = nuwa_input(s, function, t->name);
    int64_t n;
    if (!to || !plan_tensor_elems(t, B, R, &n))
      return error_set(err, ERROR_ARGUMENT, "input \"%s\" is too large", t->name);
    for (int64_t k = 0; k < n; k++) {
      uint32_t word = philox((uint64_t)i + 1, (uint32_t)k, (uint32_t)(k >> 32), STREAM_TEST).word[0];
      if (t->dtype == DTYPE_F32) ((float *)to)[k] = t->rank == 0 ? (float)scalar : philox_uniform(word) - 0.5f;
      else if (t->dtype == DTYPE_BF16) ((uint16_t *)to)[k] = bf16_from_f32(philox_uniform(word) - 0.5f);
      else if (t->dtype == DTYPE_I32) ((int32_t *)to)[k] = (int32_t)(word % 64);
      else ((uint8_t *)to)[k] = 1;   /* a mask that leaves nothing out */
    }
  }
  return true;
}

/* ---- text -> plan ---- */

const char *bench_precise(const Bench *b, const char *text) {
  static const char from[] = "f32[", to[] = "bf16[";
  Buffer out = {0};
  if (b->o->precision != DTYPE_BF16) return text;
  for (const char *next; (next = strstr(text, from)); text = next + strlen(from))
    buffer_printf(&out, "%.*s%s", (int)(next - text), text, to);
  buffer_printf(&out, "%s", text);
  return arena_take_buffer(b->arena, &out);
}

typedef struct TextRun {
  Bench *b;
  const TextCase *c;
  Graph *g;
  Buffer bundle;
  Plan *plan;
  NuwaSession *session;
  int function;
  double flops;               /* of the products and attentions */
  Error *err;
  bool ok;
} TextRun;

static void count_flops(TextRun *t, const Program *p) {
  for (int i = 0; i < p->n_group; i++)
    if (p->group[i].family == FAMILY_CONTRACT || p->group[i].family == FAMILY_ATTEND)
      t->flops += (double)dim_value(program_cost(t->g->arena, &p->group[i]).flops, t->c->samples, 1);
}

static Program *plan_function(const TextRun *t, PlanBuild *build, Func *f, bool is_prepare, int *out) {
  Program *p = pass_fuse(f);
  if (p && t->b->o->cublaslt && t->b->o->device == PLAN_CUDA) p = pass_products(t->g->arena, p);
  MemPlan *m = p ? pass_memplan(p) : NULL;
  *out = m ? plan_build_function(build, p, m, is_prepare) : -1;
  return p;
}

static bool add_function(TextRun *t, PlanBuild *build, Func *f) {
  Func *prepare = NULL, *none;
  int index;
  if (!(f = pass_expand(f)) || !(f = pass_fold(f)) || !(f = pass_dce(f)) || !(f = pass_layout(f, &prepare)))
    return false;
  if (prepare && !(prepare = pass_expand(prepare), prepare = pass_dce(pass_fold(prepare)),
                   prepare = pass_layout(prepare, &none)))
    return false;
  if (prepare && (plan_function(t, build, prepare, true, &index), index < 0)) return false;
  Program *p = plan_function(t, build, f, false, &t->function);
  if (t->function >= 0) count_flops(t, p);
  return t->function >= 0;
}

static void compile_text(void *ctx) {
  TextRun *t = ctx;
  Func **func;
  int n;
  const BenchOptions *bo = t->b->o;
  ImageOptions o = {.threads = bo->threads, .cuda.nvrtc = bo->nvrtc};
  if (!ir_parse(t->g, t->c->id, t->c->text, &func, &n)) return;
  if (bo->device == PLAN_CUDA) o.target = target_cuda(bo->capability);
  else if (!target_host(bo->isa, &o.target, t->err)) return;
  PlanBuild *build = plan_build_new(t->g->arena, &o, t->err);
  t->ok = add_function(t, build, func[0]) && plan_build_finish(build, &t->bundle);
}

static bool open_text(TextRun *t) {
  const BenchOptions *bo = t->b->o;
  NuwaOptions o = {
      .threads = bo->threads, .samples = t->c->samples, .rows = 1, .device = bo->device, .cuda = bo->cuda};
  t->g = graph_new(t->err);
  if (!t->g || !arena_protect(t->g->arena, compile_text, t, t->err) || !t->ok) return false;
  t->plan = plan_read(t->bundle.data, t->bundle.len, t->c->id, t->err);
  t->session = t->plan ? nuwa_session_open(t->plan, &o, t->err) : NULL;
  if (!t->session) return false;
  nuwa_init_weights(t->session, 1);
  return bench_fill(t->session, t->plan, t->function, t->c->samples, 1, 1.0, t->err);
}

static void close_text(TextRun *t) {
  nuwa_session_close(t->session);
  plan_free(t->plan);
  buffer_done(&t->bundle);
  graph_free(t->g);
}

/* ---- a row ---- */

/* Bytes of n tensors. */
static double tensors_bytes(const PlanTensor *tensor, int n, int64_t B) {
  double sum = 0.0;
  for (int i = 0; i < n; i++) {
    int64_t bytes = 0;
    if (plan_tensor_bytes(&tensor[i], B, 1, &bytes)) sum += (double)bytes;
  }
  return sum;
}

bool bench_text(Bench *b, const TextCase *c, Error *err) {
  if (!bench_wants(b, c->id)) return true;
  TextRun t = {.b = b, .c = c, .err = err};
  Sample sample;
  bool ok = open_text(&t) && bench_time_function(b->o, t.session, t.plan, t.function, c->samples, &sample, err);
  if (ok) {
    const PlanFunction *f = &t.plan->function[t.function];
    BenchRow row = {.unit = c->unit, .median_s = sample.median_s, .best_s = sample.best_s};
    row.written = tensors_bytes(f->out, f->n_out, c->samples);
    row.bytes = tensors_bytes(f->in, f->n_in, c->samples) + row.written;
    for (int i = 0; i < t.plan->n_param; i++) row.bytes += tensors_bytes(&t.plan->param[i].type, 1, c->samples);
    row.flops = c->unit != UNIT_FLOPS ? 0.0 : c->needed > 0.0 ? t.flops * c->needed : t.flops;
    snprintf(row.id, sizeof row.id, "%s", c->id);
    snprintf(row.what, sizeof row.what, "%s", c->what);
    snprintf(row.size, sizeof row.size, "%s", c->size);
    bench_rate(b, &row);
    bench_add(b, &row);
  }
  close_text(&t);
  return ok || error_prefix(err, "%s", c->id);
}
