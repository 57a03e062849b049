/* The graph: nodes are checked, typed and hash-consed here; nothing else makes a node. */
#include "ir/internal.h"

#include <stdarg.h>
#include <string.h>

static const Loc nowhere = {0};

Graph *graph_new(Error *err) {
  Graph *g = mem_alloc(sizeof *g);
  Arena *a = arena_new();
  uint32_t n_buckets = 256;
  Node **buckets = mem_alloc(n_buckets * sizeof *buckets);
  if (!g || !a || !buckets) {
    arena_free(a);
    mem_free(g);
    mem_free(buckets);
    error_set(err, ERROR_MEMORY, "out of memory");
    return NULL;
  }
  *g = (Graph){.arena = a, .buckets = buckets, .n_buckets = n_buckets, .here = &nowhere, .err = err};
  return g;
}

void graph_free(Graph *g) {
  if (!g) return;
  arena_free(g->arena);
  mem_free(g->buckets);
  mem_free(g);
}

/* "; called from FILE:LINE" for every caller; a deep recursion shows its innermost calls only. */
static void print_callers(const Loc *loc, char *out, size_t cap) {
  enum { MAX_CALLERS = 8 };
  size_t at = 0;
  out[0] = 0;
  const Loc *l = loc->caller;
  for (int i = 0; l && i < MAX_CALLERS && at < cap; i++, l = l->caller)
    if (l->file) at += (size_t)snprintf(out + at, cap - at, "; called from %s:%d", l->file, l->line);
}

void *graph_error(Graph *g, const Loc *loc, const char *fmt, ...) {
  if (g->err->code != ERROR_NONE) return NULL;
  if (!loc) loc = g->here;
  char text[sizeof g->err->text], callers[400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  print_callers(loc, callers, sizeof callers);
  if (loc->file)
    error_set(g->err, ERROR_MODEL, "%s:%d: %s%s", loc->file, loc->line, text, callers);
  else
    error_set(g->err, ERROR_MODEL, "%s%s", text, callers);
  return NULL;
}

/* ---- hash-consing ---- */

static bool is_named(Op op) { return op == OP_PARAM || op == OP_STATE; }

/* Params and states are found by name alone, so that a second declaration can be compared with the first. */
static uint32_t node_hash(const Node *n) {
  uint32_t h = hash_bytes(2166136261u, &n->op, sizeof n->op);
  if (is_named(n->op)) return hash_bytes(h, n->attrs.leaf.name, strlen(n->attrs.leaf.name));
  for (int i = 0; i < n->n_in; i++) h = hash_bytes(h, &n->in[i]->id, sizeof n->in[i]->id);
  h = hash_bytes(h, &n->scope, sizeof n->scope);
  h = hash_bytes(h, &n->type.dtype, sizeof n->type.dtype);
  h = hash_bytes(h, n->type.dim, (size_t)n->type.rank * sizeof *n->type.dim);
  return attrs_hash(op_info[n->op].attrs, &n->attrs, h);
}

static bool node_equal(const Node *x, const Node *y) {
  if (x->op != y->op || x->n_in != y->n_in || x->scope != y->scope) return false;
  if (is_named(x->op)) return strcmp(x->attrs.leaf.name, y->attrs.leaf.name) == 0;
  for (int i = 0; i < x->n_in; i++)
    if (x->in[i] != y->in[i]) return false;
  return type_equal(&x->type, &y->type) && attrs_equal(op_info[x->op].attrs, &x->attrs, &y->attrs);
}

static void grow_buckets(Graph *g) {
  uint32_t n = g->n_buckets * 2;
  Node **buckets = mem_alloc(n * sizeof *buckets);
  if (!buckets) return; /* longer chains are slower, not wrong */
  for (uint32_t i = 0; i < g->n_buckets; i++)
    for (Node *p = g->buckets[i], *next; p; p = next) {
      next = p->next;
      p->next = buckets[p->hash & (n - 1)];
      buckets[p->hash & (n - 1)] = p;
    }
  mem_free(g->buckets);
  g->buckets = buckets;
  g->n_buckets = n;
}

static Node *node_find(Graph *g, const Node *like) {
  for (Node *p = g->buckets[like->hash & (g->n_buckets - 1)]; p; p = p->next)
    if (p->hash == like->hash && node_equal(p, like)) return p;
  return NULL;
}

static Node *node_insert(Graph *g, const Node *made) {
  Node *n = arena_copy(g->arena, made, sizeof *made);
  n->in = arena_copy(g->arena, made->in, (size_t)made->n_in * sizeof *made->in);
  if (op_info[n->op].class == CLASS_LEAF) n->attrs.leaf.name = arena_strdup(g->arena, n->attrs.leaf.name);
  n->id = g->n_nodes++;
  n->loc = g->here;
  if ((uint32_t)g->n_nodes > g->n_buckets) grow_buckets(g);
  Node **bucket = &g->buckets[n->hash & (g->n_buckets - 1)];
  n->next = *bucket;
  *bucket = n;
  return n;
}

/* A param or state declared again must be declared alike. */
static Node *check_redeclared(Graph *g, Node *old, const Node *made) {
  if (!is_named(made->op)) return old;
  const char *op = op_info[made->op].text, *name = made->attrs.leaf.name;
  char had[TYPE_TEXT], has[TYPE_TEXT], at[400] = "";
  if (old->loc->file) snprintf(at, sizeof at, " at %s:%d", old->loc->file, old->loc->line);
  if (!type_equal(&old->type, &made->type))
    return graph_error(g, NULL, "%s: \"%s\" is %s here but %s where it was first declared%s", op, name,
                       type_print(&made->type, has, sizeof has), type_print(&old->type, had, sizeof had), at);
  if (!attrs_equal(op_info[made->op].attrs, &old->attrs, &made->attrs))
    return graph_error(g, NULL, "%s: \"%s\" is initialised differently where it was first declared%s", op, name, at);
  return old;
}

/* ---- making nodes ---- */

static bool check_arity(Infer *c) {
  int arity = op_info[c->op].arity;
  const char *text = op_info[c->op].text;
  if (arity >= 0 && c->n_in != arity)
    return graph_error(c->g, NULL, "%s: needs %d operand%s, has %d", text, arity, arity == 1 ? "" : "s", c->n_in);
  if (arity == -1 && c->n_in < 1) return graph_error(c->g, NULL, "%s: needs at least one operand", text);
  for (int i = 0; i < c->n_in; i++)
    if (!c->in[i]) return graph_error(c->g, NULL, "%s: operand %d is missing", text, i);
  return true;
}

/* What every result must be, whatever the rule says. */
static bool check_result(Infer *c) {
  Dim elems;
  char type[TYPE_TEXT];
  Type full = *c->out;   /* an empty axis hides nothing: what is made of the others must have a size too */
  for (int i = 0; i < full.rank; i++)
    if (dim_equal(full.dim[i], dim_const(0))) full.dim[i] = dim_const(1);
  bool sound = type_elems(&full, &elems);
  for (int i = 0; i < c->out->rank; i++) sound = sound && dim_is_sound(c->out->dim[i]);
  if (sound) return true;
  return graph_error(c->g, NULL, "%s: the size of the result %s is not affine in B and R, or too large",
                     op_info[c->op].text, type_print(c->out, type, sizeof type));
}

typedef bool (*InferFn)(Infer *c);
static const InferFn infer_of[OP_COUNT] = {
#define OP(id, text, arity, attrs, class, rows, work, reads, infer, eval, grad, fold, scalar) infer_##infer,
#include "ir/ops.def"
#undef OP
};

bool infer_all(Infer *c) { return check_arity(c) && infer_of[c->op](c) && check_result(c); }

Node *graph_op(Graph *g, Op op, Node *const *in, int n_in, const Attrs *attrs, const Type *type) {
  BUG_IF((unsigned)op >= OP_COUNT, "graph_op: op %d", (int)op);
  if (g->err->code != ERROR_NONE) return NULL;
  static const Attrs none;
  Node made = {.op = op, .n_in = n_in, .in = (Node **)(uintptr_t)in};
  attrs_copy(op_info[op].attrs, &made.attrs, attrs ? attrs : &none);
  Infer c = {g, op, in, n_in, &made.attrs, type, &made.type};
  if (!infer_all(&c)) return NULL;
  if (op == OP_INPUT) made.scope = g->scope;
  made.hash = node_hash(&made);
  Node *old = node_find(g, &made);
  return old ? check_redeclared(g, old, &made) : node_insert(g, &made);
}
