/* What `nuwa inspect` shows: a function after a pass, a decode's schedule.  The passes run as in compile.c, but stop. */
#include <string.h>

#include "frontend/compile/compile.h"

typedef struct PrintAfter {
  Model *m;
  Func *f;
  Pipeline pipeline;
  Buffer *out;
  bool ok;
} PrintAfter;

static void print_schedule(const Decode *d, Buffer *out) {
  buffer_printf(out, "decode %s: t = %lld s + %lld h + %lld w, %lld steps; raster order: %lld steps\n", d->name,
                (long long)d->wavefront.a[0], (long long)d->wavefront.a[1], (long long)d->wavefront.a[2],
                (long long)d->wavefront.steps, (long long)d->raster.steps);
}

static void print_storage(const Storage *s, const Func *f, const MemPlan *m, Buffer *out) {
  static const char *const part[] = {"", " times B", " times R"};
  switch (s->kind) {
  case STORAGE_NONE:
    buffer_printf(out, "nowhere\n");
    break;
  case STORAGE_ARENA:
    buffer_printf(out, "arena at %lld, %lld bytes%s\n", (long long)s->unit_offset, (long long)s->unit_bytes, part[s->part]);
    break;
  case STORAGE_INPUT:
    buffer_printf(out, "input %s\n", f->in[s->index].name);
    break;
  case STORAGE_OUTPUT:
    buffer_printf(out, "output %s\n", f->out[s->index].name);
    break;
  case STORAGE_PARAM:
  case STORAGE_STATE:
    buffer_printf(out, "%s %s\n", s->kind == STORAGE_PARAM ? "param" : "state", m->leaf[s->index]->attrs.leaf.name);
    break;
  }
}

/* Where every value lives that groups write, and what is copied at the end. */
static void print_memory(const Program *program, const MemPlan *m, Buffer *out) {
  buffer_printf(out, "function %s: arena of %lld + %lld B + %lld R bytes, %lld values in place\n", program->func->name,
                (long long)m->part_bytes[0], (long long)m->part_bytes[1], (long long)m->part_bytes[2],
                (long long)m->in_place);
  for (int k = 0; k < program->n_group; k++) {
    for (int i = 0; i < program->group[k].n_out; i++) {
      const Node *n = program->group[k].out[i];
      char type[200];
      buffer_printf(out, "  group %d: %s %s: ", k, op_info[n->op].text, type_print(&n->type, type, sizeof type));
      print_storage(&m->of[n->id], program->func, m, out);
    }
  }
  for (int i = 0; i < m->n_copy; i++)
    buffer_printf(out, "  copied at the end: %s to %s\n", op_info[m->copy[i].from->op].text,
                  m->copy[i].to ? m->copy[i].to->attrs.leaf.name : program->func->out[m->copy[i].output].name);
}

static bool print_groups(const PassWork *w, Buffer *out) {
  MemPlan *m = w->memplan ? w->memplan : pass_memplan(w->program);
  if (m) program_explain(w->program, m, out);
  return m != NULL;
}

static bool print_work(void *ctx, PassWork *w, const Pass *last) {
  Buffer *out = ((PrintAfter *)ctx)->out;
  switch (last->show) {
  case SHOW_FUNCTION: func_print(w->func, out); break;
  case SHOW_SIZES: buffer_printf(out, "%s: %s\n", w->func->name, w->no_samples ? w->no_samples : "any batch"); break;
  case SHOW_EXTENTS: extents_explain(w->func, out); break;
  case SHOW_SCHEDULE: if (!w->is_prologue) print_schedule(w->split, out); break;
  case SHOW_GROUPS: return print_groups(w, out);
  case SHOW_MEMORY: print_memory(w->program, w->memplan, out); break;
  }
  return true;
}

static void print_body(void *ctx) {
  PrintAfter *p = ctx;
  const char *until = p->pipeline.until;
  PassWork w = {.func = p->f, .decode = compile_decode_of(p->m, p->f), .train = model_train_of(p->m, p->f)};
  p->m->graph->err = p->pipeline.err;
  if (!w.decode && (strcmp(until, "incremental") == 0 || strcmp(until, "wavefront") == 0))
    error_set(p->pipeline.err, ERROR_ARGUMENT, "\"%s\" is no decode, it has no %s", p->f->name, until);
  else
    p->ok = pipeline_run(&p->pipeline, &w);
}

bool compile_print_after(Model *m, Func *f, const char *pass, DType precision, Buffer *out, Error *err) {
  if (!pass) pass = pipeline_passes[0].name;
  if (!pipeline_find(pass, err)) return false;
  PrintAfter p = {.m = m, .f = f, .out = out,
                  .pipeline = {.precision = precision, .until = pass, .done = print_work, .ctx = &p, .err = err}};
  bool within = arena_protect(m->graph->arena, print_body, &p, err);
  m->graph->err = &m->diag;
  return within && p.ok;
}

/* ---- schedules ---- */

typedef struct Describe {
  Model *m;
  const ModelDecode *md;
  DType precision;
  DecodeFacts *out;
  Error *err;
  bool ok;
} Describe;

/* The state behind a key or value operand; NULL: it is made of params alone. */
static const Node *state_of(const Node *n, bool *out_is_ring) {
  *out_is_ring = false;
  while (n->op == OP_RESHAPE || n->op == OP_DETACH || n->op == OP_BROADCAST || n->op == OP_RING_WRITE) {
    *out_is_ring |= n->op == OP_RING_WRITE;
    n = n->in[0];
  }
  return n->op == OP_STATE ? n : NULL;
}

/* Every state that an attention of the step reads as k or v, once; rings have `live` slots. */
static bool count_kv(const Decode *d, int64_t live, int64_t *out, Error *err) {
  int n;
  Node **node = func_nodes(d->step, &n);
  bool *seen = ARENA_ARRAY(d->step->graph->arena, bool, d->step->graph->n_nodes);
  *out = 0;
  for (int i = 0; i < 2 * n; i++) {
    bool is_ring;
    const Node *attend = node[i / 2];
    const Node *s = attend->op == OP_ATTEND_ROWS ? state_of(attend->in[2 + i % 2], &is_ring) : NULL;
    if (!s || seen[s->id]) continue;
    seen[s->id] = true;
    PlanTensor t = {.name = s->attrs.leaf.name, .dtype = s->type.dtype, .rank = s->type.rank};
    memcpy(t.dim, s->type.dim, sizeof t.dim);
    if (is_ring) t.dim[0] = dim_const(live);
    int64_t bytes;
    if (!plan_tensor_bytes(&t, 1, 0, &bytes) || __builtin_add_overflow(*out, bytes, out))
      return error_set(err, ERROR_MODEL, "decode \"%s\": its keys and values are too large to count", d->name);
  }
  return true;
}

static bool describe(void *ctx, PassWork *w, const Pass *last) {
  Describe *d = ctx;
  if (w->is_prologue) return true;
  d->out->steps = w->split->wavefront.steps;
  return plan_decode_describe(d->m->graph->arena, w->split, &d->out->plan, d->err) &&
         count_kv(w->split, d->out->plan.live, &d->out->kv_bytes, d->err);
}

static void describe_body(void *ctx) {
  Describe *d = ctx;
  Pipeline p = {.precision = d->precision, .until = "wavefront", .done = describe, .ctx = d, .err = d->err};
  d->m->graph->err = d->err;
  d->ok = pipeline_run(&p, &(PassWork){.func = d->md->func, .decode = d->md});
}

bool compile_decode_describe(Model *m, const ModelDecode *md, DType precision, DecodeFacts *out, Error *err) {
  Describe d = {.m = m, .md = md, .precision = precision, .out = out, .err = err};
  bool within = arena_protect(m->graph->arena, describe_body, &d, err);
  m->graph->err = &m->diag;
  return within && d.ok;
}
