/* See divergence.h.  The entry's function is compiled anew with other outputs: the largest absolute value of every tensor
 * on the way, which is NaN where one of its elements is. */
#include "synth/divergence.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "runtime/base/names.h"

/* So many tensors are looked at in one compile; the first ones first. */
enum { AT_ONCE = 200, MOST_SECONDS = 30 /* after which no further ones are begun */ };
static const char checking_name[] = "check";

typedef struct Check {
  Training *t;
  const TrainEntry *e;
  Func *f;             /* whose nodes are looked at */
  Node **node;         /* [n] */
  double *most;        /* [n] their largest absolute values */
  int n;
  bool gradients;      /* only those that the model asked for, of params */
  Func *checking;      /* gives those of [from, to) */
  int from, to;
  double begin;        /* seconds */
  Error err;
  bool ok;
} Check;

static void name_output(char out[16], int i) { snprintf(out, 16, "%08d", i); }

static void build_checking(void *ctx) {
  Check *c = ctx;
  Graph *g = c->f->graph;
  Port *out = ARENA_ARRAY(g->arena, Port, c->to - c->from);
  for (int i = c->from; i < c->to; i++) {
    char name[16];
    Node *x = graph_unary(g, OP_ABS, c->node[i]);
    Node *most = x && x->type.rank ? graph_max(g, x, (1u << x->type.rank) - 1) : x;
    if (most && most->type.dtype != DTYPE_F32) most = graph_cast(g, most, DTYPE_F32);
    if (!most) return;
    name_output(name, i);
    out[i - c->from] = (Port){arena_strdup(g->arena, name), most};
  }
  c->checking = func_new(g, checking_name, c->f->in, c->f->n_in, out, c->to - c->from);
}

/* ---- running it where the training stands ---- */

static bool copy_tensor(Check *c, NuwaSession *to, const PlanTensor *t, bool is_param) {
  NuwaSession *from = c->t->session;
  int64_t bytes = 0;
  if (!plan_tensor_bytes(t, 0, 0, &bytes)) return true;
  void *values = mem_alloc((size_t)bytes + 1);
  bool ok = values && (is_param ? nuwa_read_param(from, t->name, values, &c->err) && nuwa_write_param(to, t->name, values, &c->err)
                                : nuwa_read_state(from, t->name, values, &c->err) && nuwa_write_state(to, t->name, values, &c->err));
  mem_free(values);
  return ok;
}

static bool copy_state(Check *c, const Plan *p, NuwaSession *s) {
  for (int i = 0; i < p->n_param; i++)
    if (!copy_tensor(c, s, &p->param[i].type, true)) return false;
  for (int i = 0; i < p->n_state; i++)
    if (plan_find_state(c->t->plan, p->state[i].type.name) >= 0 && !copy_tensor(c, s, &p->state[i].type, false)) return false;
  int f = plan_find_function(p, checking_name);
  for (int i = 0; i < p->function[f].n_in; i++) {
    const PlanTensor *t = &p->function[f].in[i];
    int64_t bytes = 0;
    void *to = nuwa_input(s, f, t->name);
    const void *from = nuwa_input(c->t->session, c->e->function, t->name);
    if (to && from && plan_tensor_bytes(t, c->t->spec.batch, 1, &bytes)) memcpy(to, from, (size_t)bytes);
  }
  return nuwa_prepare(s);
}

static bool run_checking(Check *c, DType precision) {
  SynthTarget target = *c->t->target;
  CompileOptions o = {0};
  Model m = *c->t->model;
  m.func = &c->checking;
  m.n_func = 1;
  m.n_decode = m.n_train = 0;
  target.compile.precision = precision;
  Plan *p = models_compile_plan(&target, &m, &o, &c->err);
  NuwaSession *s = p ? models_open_session(&target, p, c->t->spec.batch, 1, 0, &c->err) : NULL;
  int f = p ? plan_find_function(p, checking_name) : -1;
  bool ok = s && copy_state(c, p, s) && nuwa_run(s, f, c->t->spec.batch, 1);
  for (int i = c->from; ok && i < c->to; i++) {
    char name[16];
    name_output(name, i);
    c->most[i] = (double)*(const float *)nuwa_output(s, f, name);
  }
  nuwa_session_close(s);
  plan_free(p);
  return ok;
}

/* An infinity that an op was given, or that models put where nothing is to be chosen, is no fault. */
static bool is_fault(const Check *c, int i) {
  const Node *n = c->node[i];
  if (isnan(c->most[i])) return true;
  if (isfinite(c->most[i]) || n->op == OP_PAD || n->op == OP_SELECT || n->op == OP_MAXIMUM || n->op == OP_MINIMUM) return false;
  for (int k = 0; k < n->n_in; k++)
    for (int j = 0; j < i; j++)
      if (c->node[j] == n->in[k] && isinf(c->most[j])) return false;
  for (int k = 0; k < n->n_in; k++)
    if (n->in[k]->op == OP_FILL && isinf(n->in[k]->attrs.fill.value)) return false;
  return true;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Up to the first chunk that holds a fault.  That one's place, or -1. */
static int find_first(Check *c, DType precision) {
  Model *m = c->t->model;
  for (c->from = 0; c->from < c->n; c->from = c->to) {
    c->to = c->from + AT_ONCE < c->n ? c->from + AT_ONCE : c->n;
    c->checking = NULL;
    m->graph->err = &c->err;
    bool built = arena_protect(m->graph->arena, build_checking, c, &c->err) && c->checking;
    m->graph->err = &m->diag;
    if (!built || !run_checking(c, precision)) return -1;
    for (int i = c->from; i < c->to; i++)
      if (is_fault(c, i)) return i;
    if (now() - c->begin > MOST_SECONDS) return -1;
  }
  return -1;
}

/* ---- what is looked at ---- */

static void list_nodes(void *ctx) {
  Check *c = ctx;
  int n;
  Node **all = func_nodes(c->f, &n);
  Arena *a = c->f->graph->arena;
  c->node = ARENA_ARRAY(a, Node *, n);
  c->most = ARENA_ARRAY(a, double, n);
  for (int i = 0; i < n; i++) {
    bool is_wanted = c->gradients ? all[i]->op == OP_GRAD && all[i]->in[1]->op == OP_PARAM
                               : dtype_is_float(all[i]->type.dtype) && all[i]->op != OP_FILL;
    if (is_wanted) c->node[c->n++] = all[i];
  }
}

static bool look_at(Check *c, Func *f, bool gradients) {
  Model *m = c->t->model;
  c->f = f;
  c->n = 0;
  c->gradients = gradients;
  return f && arena_protect(m->graph->arena, list_nodes, c, &c->err) && c->n > 0;
}

static void append(Error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void append(Error *err, const char *fmt, ...) {
  size_t at = strlen(err->text);
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(err->text + at, sizeof err->text - at, fmt, ap);
  va_end(ap);
}

static void explain_gradients(Check *c, Error *err) {
  Error ignored = {0};
  if (!look_at(c, model_find(c->t->model, arena_printf(c->t->arena, FUNC_TRAIN ".%s", c->e->name), &ignored), true)) return;
  int worst = find_first(c, c->t->target->compile.precision);
  if (worst < 0 && *c->err.text) return;
  if (worst >= 0) {
    append(err, "; the gradient of \"%.200s\" %s", c->node[worst]->in[1]->attrs.leaf.name,
           isnan(c->most[worst]) ? "holds NaN" : "holds infinity");
    return;
  }
  worst = 0;
  for (int i = 1; i < c->n; i++)
    if (c->most[i] > c->most[worst]) worst = i;
  append(err, "; the largest gradient is that of \"%.200s\": %g", c->node[worst]->in[1]->attrs.leaf.name, c->most[worst]);
}

static void explain_first(Check *c, Error *err) {
  Error ignored = {0};
  const char *name = arena_printf(c->t->arena, FUNC_TRAIN ".%s", c->e->name);
  if (!look_at(c, compile_meaning(c->t->model, name, c->t->target->compile.precision, &ignored), false)) return;
  int first = find_first(c, DTYPE_F32);
  if (first < 0) return;
  const Node *n = c->node[first];
  const char *what = op_info[n->op].class == CLASS_LEAF ? n->attrs.leaf.name : op_info[n->op].text;
  append(err, "; the first tensor that is not finite is %s \"%.200s\"", op_info[n->op].class == CLASS_LEAF ? "the" : "the result of", what);
  if (n->loc && n->loc->file) append(err, " of %s:%d", n->loc->file, n->loc->line);
}

static void explain_body(void *ctx) {
  Check *c = ctx;
  Error found = {0};
  explain_gradients(c, &found);
  explain_first(c, &found);
  c->err = found;
}

void divergence_explain(Training *t, const TrainEntry *e, Error *err) {
  Check c = {.t = t, .e = e, .begin = now()};
  Error ignored = {0};
  if (arena_protect(t->arena, explain_body, &c, &ignored)) append(err, "%s", c.err.text);
}
