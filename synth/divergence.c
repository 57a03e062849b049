/* See divergence.h.  The entry's function is compiled anew with other outputs: the largest absolute values of tensors on the
 * way, which are NaN where one of their elements is.  Looked at are at first some all over the function, then some of what
 * the first bad one follows from, until all that it is made of is good: each compile holds only what comes before. */
#include "synth/divergence.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "runtime/base/names.h"

enum { AT_ONCE = 24 /* tensors in one compile */, MOST_SECONDS = 30 /* after which no further one is begun */ };
static const char checking_name[] = "check";

typedef struct Check {
  Training *t;
  const TrainEntry *e;
  Func *f;             /* whose nodes are looked at */
  Node **node;         /* [n] */
  double *most;        /* [n] their largest absolute values, as far as they were looked at */
  bool *is_known, *is_excused;   /* [n] most is set; it is infinite because of what it was given */
  int *at;             /* [nodes of the graph] a node's place in the list; -1: it has none */
  int n;
  bool gradients;      /* only those that the model asked for, of params */
  Func *checking;      /* gives those that are looked at, */
  int *look, n_look;   /* [n_look] places */
  double begin;        /* seconds */
  Error err;
  bool ok;
} Check;

static void name_output(char out[16], int i) { snprintf(out, 16, "%08d", i); }

static void build_checking(void *ctx) {
  Check *c = ctx;
  Graph *g = c->f->graph;
  Port *out = ARENA_ARRAY(g->arena, Port, c->n_look);
  for (int i = 0; i < c->n_look; i++) {
    char name[16];
    Node *x = graph_unary(g, OP_ABS, c->node[c->look[i]]);
    Node *most = x && x->type.rank ? graph_max(g, x, (1u << x->type.rank) - 1) : x;
    if (most && most->type.dtype != DTYPE_F32) most = graph_cast(g, most, DTYPE_F32);
    if (!most) return;
    name_output(name, i);
    out[i] = (Port){arena_strdup(g->arena, name), most};
  }
  c->checking = func_new(g, checking_name, c->f->in, c->f->n_in, out, c->n_look);
}

/* ---- running it where the training stands ---- */

static bool copy_tensor(Check *c, NuwaSession *to, const PlanTensor *t, bool is_param) {
  NuwaSession *from = c->t->session;
  int64_t bytes = 0;
  if (!plan_tensor_bytes(t, 0, 0, &bytes)) return true;
  void *values = mem_alloc((size_t)bytes + 1);
  bool ok =
      values &&
      (is_param ? nuwa_read_param(from, t->name, values, &c->err) && nuwa_write_param(to, t->name, values, &c->err)
                : nuwa_read_state(from, t->name, values, &c->err) && nuwa_write_state(to, t->name, values, &c->err));
  mem_free(values);
  return ok;
}

static bool copy_state(Check *c, const Plan *p, NuwaSession *s) {
  for (int i = 0; i < p->n_param; i++)
    if (!copy_tensor(c, s, &p->param[i].type, true)) return false;
  for (int i = 0; i < p->n_state; i++)
    if (plan_find_state(c->t->plan, p->state[i].type.name) >= 0 && !copy_tensor(c, s, &p->state[i].type, false))
      return false;
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
  for (int i = 0; ok && i < c->n_look; i++) {
    char name[16];
    name_output(name, i);
    c->most[c->look[i]] = (double)*(const float *)nuwa_output(s, f, name);
    c->is_known[c->look[i]] = true;
  }
  nuwa_session_close(s);
  plan_free(p);
  return ok;
}

/* Not finite, other than infinities that models put where nothing is to be chosen. */
static bool is_bad(const Check *c, int i) {
  Op op = c->node[i]->op;
  if (!c->is_known[i] || c->is_excused[i]) return false;
  return isnan(c->most[i]) || (isinf(c->most[i]) && op != OP_PAD && op != OP_SELECT && op != OP_MAXIMUM && op != OP_MINIMUM);
}

static int place_of(const Check *c, const Node *n) { return c->at[n->id]; }

/* An infinity that an op was given is none of its own. */
static bool is_given(const Check *c, int i) {
  const Node *n = c->node[i];
  if (isnan(c->most[i])) return false;
  for (int k = 0; k < n->n_in; k++) {
    int in = place_of(c, n->in[k]);
    if ((in >= 0 && isinf(c->most[in])) || (n->in[k]->op == OP_FILL && isinf(n->in[k]->attrs.fill.value))) return true;
  }
  return false;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool is_stopped(const Check *c) {
  const SynthTarget *t = c->t->target;
  return now() - c->begin > MOST_SECONDS || (t->is_cancelled && t->is_cancelled(t->ctx));
}

static bool look(Check *c, DType precision) {
  Model *m = c->t->model;
  c->checking = NULL;
  m->graph->err = &c->err;
  bool built = arena_protect(m->graph->arena, build_checking, c, &c->err) && c->checking;
  m->graph->err = &m->diag;
  return built && run_checking(c, precision);
}

static int first_bad(const Check *c) {
  for (int i = 0; i < c->n; i++)
    if (is_bad(c, i)) return i;
  return -1;
}

/* ---- which to look at next ---- */

typedef struct Choosing {
  Check *c;
  int bad;             /* whose ancestors; -1: all */
} Choosing;

static void choose(Check *c, int i) {
  if (i < 0 || c->is_known[i] || c->n_look >= AT_ONCE) return;
  for (int k = 0; k < c->n_look; k++)
    if (c->look[k] == i) return;
  c->look[c->n_look++] = i;
}

/* Marks what the node follows from, itself not. */
static void mark_ancestors(const Check *c, int bad, bool *is_one) {
  is_one[bad] = true;
  for (int i = bad; i >= 0; i--)
    for (int k = 0; is_one[i] && k < c->node[i]->n_in; k++)
      if (place_of(c, c->node[i]->in[k]) >= 0) is_one[place_of(c, c->node[i]->in[k])] = true;
  is_one[bad] = false;
}

/* What the bad one is made of, and some all over what that follows from; without one what the function gives, and some all
 * over it. */
static void choose_next(void *ctx) {
  const Choosing *h = ctx;
  Check *c = h->c;
  bool *is_one = ARENA_ARRAY(c->f->graph->arena, bool, c->n);
  int n = 0, seen = 0;
  c->n_look = 0;
  if (h->bad >= 0) mark_ancestors(c, h->bad, is_one);
  else memset(is_one, true, (size_t)c->n);
  for (int k = 0; h->bad >= 0 && k < c->node[h->bad]->n_in; k++) choose(c, place_of(c, c->node[h->bad]->in[k]));
  for (int k = 0; h->bad < 0 && k < c->f->n_out; k++) choose(c, place_of(c, c->f->out[k].node));
  for (int i = 0; i < c->n; i++) n += is_one[i] && !c->is_known[i];
  int stride = (n + AT_ONCE - 1) / AT_ONCE;
  for (int i = 0; i < c->n; i++)
    if (is_one[i] && !c->is_known[i] && seen++ % stride == 0) choose(c, i);
}

static bool operands_are_known(const Check *c, int i) {
  for (int k = 0; k < c->node[i]->n_in; k++) {
    int in = place_of(c, c->node[i]->in[k]);
    if (in >= 0 && !c->is_known[in]) return false;
  }
  return true;
}

/* The place of a node that is not finite although all that it is made of is; -1: none was found. */
static int find_origin(Check *c, DType precision) {
  Arena *a = c->f->graph->arena;
  for (int bad = -1;;) {
    Choosing h = {c, bad};
    if (is_stopped(c) || !arena_protect(a, choose_next, &h, &c->err) || (c->n_look && !look(c, precision))) return -1;
    int before = bad;
    bad = first_bad(c);
    if (bad < 0) return -1;
    if (bad != before || !operands_are_known(c, bad)) continue;
    if (!is_given(c, bad)) return bad;
    c->is_excused[bad] = true;
    bad = first_bad(c);
  }
}

/* ---- what there is to look at ---- */

static void list_nodes(void *ctx) {
  Check *c = ctx;
  int n;
  Node **all = func_nodes(c->f, &n);
  Arena *a = c->f->graph->arena;
  c->node = ARENA_ARRAY(a, Node *, n);
  c->most = ARENA_ARRAY(a, double, n);
  c->is_known = ARENA_ARRAY(a, bool, n);
  c->is_excused = ARENA_ARRAY(a, bool, n);
  c->look = ARENA_ARRAY(a, int, n + AT_ONCE);
  c->at = ARENA_ARRAY(a, int, c->f->graph->n_nodes);
  for (int i = 0; i < c->f->graph->n_nodes; i++) c->at[i] = -1;
  for (int i = 0; i < n; i++) {
    bool is_wanted = c->gradients ? all[i]->op == OP_GRAD && all[i]->in[1]->op == OP_PARAM
                               : dtype_is_float(all[i]->type.dtype) && all[i]->op != OP_FILL;
    if (!is_wanted) continue;
    c->at[all[i]->id] = c->n;
    c->node[c->n++] = all[i];
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
  for (c->n_look = 0; c->n_look < c->n; c->n_look++) c->look[c->n_look] = c->n_look;
  if (is_stopped(c) || !look(c, c->t->target->compile.precision)) return;
  int worst = first_bad(c);
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
  int first = find_origin(c, DTYPE_F32);
  if (first < 0) return;
  const Node *n = c->node[first];
  const char *what = op_info[n->op].class == CLASS_LEAF ? n->attrs.leaf.name : op_info[n->op].text;
  append(err, "; the first tensor that is not finite is %s \"%.200s\"",
         op_info[n->op].class == CLASS_LEAF ? "the" : "the result of", what);
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
