/* What `nuwa inspect` shows: a function after a pass, a decode's schedule.  The passes run as in compile.c, but stop. */
#include <string.h>

#include "frontend/compile/compile.h"

const char *const compile_passes[] = {"lua",     "grad", "precision", "extents", "expand", "fold", "dce", "layout", "fuse",
                                      "memplan", "incremental", "wavefront", "prologue", "step", "train", NULL};

typedef struct PrintAfter {
  Model *m;
  Func *traced, *f;    /* f: in the precision */
  DType precision;
  const char *pass;
  Buffer *out;
  Error *err;
  bool ok;
} PrintAfter;

static bool is_pass(const PrintAfter *p, const char *name) { return strcmp(p->pass, name) == 0; }

/* Up to the pass of that name, or to the last.  grad has run already: it is called while Lua traces a function. */
static Func *apply(const char *until, Func *f) {
  static Func *(*const pass[])(Func *) = {pass_expand, pass_fold, pass_dce};
  static const char *const name[] = {"expand", "fold", "dce"};
  if (strcmp(until, "lua") == 0 || strcmp(until, "grad") == 0 || strcmp(until, "precision") == 0) return f;
  for (int i = 0; i < COUNT_OF(pass); i++) {
    f = pass[i](f);
    if (!f || strcmp(until, name[i]) == 0) return f;
  }
  return f;
}

static Decode *derive_decode(PrintAfter *p) {
  const ModelDecode *md = compile_decode_of(p->m, p->traced);
  if (md) return pass_incremental(p->f, md->tokens, md->logits);
  error_set(p->err, ERROR_ARGUMENT, "\"%s\" is no decode, it has no %s", p->f->name, p->pass);
  return NULL;
}

static Func *derive(PrintAfter *p) {
  if (is_pass(p, "train")) return train_build(p->f, &(AdamOptions){0.9, 0.999, 1e-8, 0.0, 1.0});
  Decode *d = derive_decode(p);
  return !d ? NULL : is_pass(p, "step") ? d->step : d->prologue;
}

static void print_decode(PrintAfter *p) {
  Decode *d = derive_decode(p);
  if (!d) return;
  if (is_pass(p, "incremental")) {
    func_print(d->prologue, p->out);
    func_print(d->step, p->out);
  } else {
    buffer_printf(p->out, "decode %s: t = %lld s + %lld h + %lld w, %lld steps; raster order: %lld steps\n", d->name,
                  (long long)d->wavefront.a[0], (long long)d->wavefront.a[1], (long long)d->wavefront.a[2],
                  (long long)d->wavefront.steps, (long long)d->raster.steps);
  }
  p->ok = true;
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

static void print_groups(PrintAfter *p, Func *f) {
  Program *program = pass_fuse(f);
  MemPlan *m = program ? pass_memplan(program) : NULL;
  if (!m) return;
  if (is_pass(p, "memplan")) print_memory(program, m, p->out);
  else program_explain(program, m, p->out);
  p->ok = true;
}

static void print_function(PrintAfter *p) {
  bool is_derived = is_pass(p, "train") || is_pass(p, "step") || is_pass(p, "prologue");
  bool is_grouped = is_pass(p, "fuse") || is_pass(p, "memplan");
  Func *f = is_derived ? derive(p) : p->f, *prepare = NULL;
  f = f ? apply(is_derived ? "dce" : p->pass, f) : NULL;
  if (f && (is_pass(p, "layout") || is_grouped)) f = pass_layout(f, &prepare);
  if (!f) return;
  if (is_grouped) {
    print_groups(p, f);
    return;
  }
  if (prepare) func_print(prepare, p->out);
  func_print(f, p->out);
  p->ok = true;
}

static void print_body(void *ctx) {
  PrintAfter *p = ctx;
  p->m->graph->err = p->err;
  bool is_traced = is_pass(p, "lua") || is_pass(p, "grad");
  if (!(p->f = is_traced ? p->traced : compile_precision(p->traced, p->precision))) return;
  if (is_pass(p, "extents")) {
    extents_explain(p->f, p->out);
    p->ok = true;
  } else if (is_pass(p, "incremental") || is_pass(p, "wavefront")) {
    print_decode(p);
  } else {
    print_function(p);
  }
}

bool compile_print_after(Model *m, Func *f, const char *pass, DType precision, Buffer *out, Error *err) {
  bool known = false;
  for (int i = 0; compile_passes[i]; i++) known |= strcmp(compile_passes[i], pass) == 0;
  if (!known) {
    error_set(err, ERROR_ARGUMENT, "no pass \"%s\"; there are:", pass);
    for (int i = 0; compile_passes[i]; i++) {
      size_t at = strlen(err->text);
      snprintf(err->text + at, sizeof err->text - at, " %s", compile_passes[i]);
    }
    return false;
  }
  PrintAfter p = {.m = m, .traced = f, .precision = precision, .pass = pass, .out = out, .err = err};
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

static void describe_body(void *ctx) {
  Describe *d = ctx;
  d->m->graph->err = d->err;
  Func *f = compile_precision(d->md->func, d->precision);
  Decode *decode = f ? pass_incremental(f, d->md->tokens, d->md->logits) : NULL;
  if (!decode) return;
  d->out->steps = decode->wavefront.steps;
  d->ok = plan_decode_describe(d->m->graph->arena, decode, &d->out->plan, d->err) &&
          count_kv(decode, d->out->plan.live, &d->out->kv_bytes, d->err);
}

bool compile_decode_describe(Model *m, const ModelDecode *md, DType precision, DecodeFacts *out, Error *err) {
  Describe d = {.m = m, .md = md, .precision = precision, .out = out, .err = err};
  bool within = arena_protect(m->graph->arena, describe_body, &d, err);
  m->graph->err = &m->diag;
  return within && d.ok;
}
