/* The verifier: what must hold between any two passes.  Only a bug of a pass can break it, but it never trusts what
 * it looks at more than it has to, so that the report comes before the crash. */
#include <string.h>

#include "ir/internal.h"

typedef struct Verify {
  const Func *f;
  const char *after;
  Error *err;
  Node **by_id;   /* [n_nodes], NULL where f does not reach */
} Verify;

static bool type_is_sane(const Type *t) {
  return (unsigned)t->dtype < DTYPE_COUNT && t->rank >= 0 && t->rank <= MAX_RANK;
}

static bool broken(Verify *v, const Node *n, const char *why, const char *detail) {
  char type[TYPE_TEXT] = "?", at[400] = "";
  if (!n)
    return error_set(v->err, ERROR_MODEL, "after %s: function %s: %s%s", v->after, v->f->name, why, detail);
  if (n->loc && n->loc->file) snprintf(at, sizeof at, " (%s:%d)", n->loc->file, n->loc->line);
  if (type_is_sane(&n->type)) type_print(&n->type, type, sizeof type);
  const char *op = (unsigned)n->op < OP_COUNT ? op_info[n->op].text : "?";
  return error_set(v->err, ERROR_MODEL, "after %s: function %s: node %d, %s : %s%s: %s%s", v->after, v->f->name,
                   n->id, op, type, at, why, detail);
}

static bool check_operands(Verify *v, const Node *n) {
  for (int i = 0; i < n->n_in; i++) {
    if (n->in[i]->id >= n->id) return broken(v, n, "an operand comes after its user", "");
    if (v->by_id[n->in[i]->id] != n->in[i]) return broken(v, n, "an operand shares its id with another node", "");
  }
  return true;
}

static bool check_inferred(Verify *v, const Node *n) {
  Error err = {0};
  Graph probe = *v->f->graph;
  Attrs attrs;
  Type type = {0};
  char text[TYPE_TEXT];
  static const Loc nowhere = {0};
  probe.err = &err;
  probe.here = &nowhere;
  attrs_copy(op_info[n->op].attrs, &attrs, &n->attrs);
  Infer c = {&probe, n->op, n->in, n->n_in, &attrs, &n->type, &type};
  if (!infer_all(&c)) return broken(v, n, "", err.text);
  if (!type_equal(&type, &n->type))
    return broken(v, n, "its type should be ", type_print(&type, text, sizeof text));
  if (!attrs_equal(op_info[n->op].attrs, &attrs, &n->attrs))
    return broken(v, n, "its attributes are not in normal form", "");
  return true;
}

static bool check_node(Verify *v, const Node *n, Form form) {
  if ((unsigned)n->op >= OP_COUNT) return broken(v, n, "there is no such op", "");
  if (!n->loc) return broken(v, n, "it has no location", "");
  if (form >= FORM_GIVEN && n->op == OP_GRAD) return broken(v, n, "a gradient that was not taken", "");
  if (form == FORM_PRIMITIVE && op_info[n->op].class == CLASS_COMPOSITE)
    return broken(v, n, "a composite in primitive form", "");
  if (n->op != OP_INPUT) return check_operands(v, n) && check_inferred(v, n);
  for (int i = 0; i < v->f->n_in; i++)
    if (v->f->in[i].node == n) return check_inferred(v, n);
  return broken(v, n, "an input that is not in the signature: ", n->attrs.leaf.name);
}

static bool check_ports(Verify *v) {
  const Func *f = v->f;
  for (int i = 0; i < f->n_in; i++) {
    if (!f->in[i].node || f->in[i].node->op != OP_INPUT) return broken(v, NULL, "not an input: ", f->in[i].name);
    if (strcmp(f->in[i].name, f->in[i].node->attrs.leaf.name) != 0)
      return broken(v, NULL, "an input has two names: ", f->in[i].name);
    for (int j = 0; j < i; j++)
      if (strcmp(f->in[i].name, f->in[j].name) == 0) return broken(v, NULL, "two inputs are called ", f->in[i].name);
  }
  for (int i = 0; i < f->n_out; i++) {
    if (!f->out[i].node) return broken(v, NULL, "nothing is returned as ", f->out[i].name);
    if (i > 0 && strcmp(f->out[i - 1].name, f->out[i].name) >= 0)
      return broken(v, NULL, "outputs are not sorted at ", f->out[i].name);
  }
  return true;
}

static bool check_updates(Verify *v) {
  const Func *f = v->f;
  for (int i = 0; i < f->n_update; i++) {
    const Node *target = f->update[i].target, *value = f->update[i].value;
    if (!target || !value) return broken(v, NULL, "an update lacks its target or value", "");
    if (target->op != OP_PARAM && target->op != OP_STATE)
      return broken(v, target, "updated, but neither param nor state", "");
    if (!type_equal(&target->type, &value->type)) return broken(v, target, "updated by another type", "");
    for (int j = 0; j < i; j++)
      if (f->update[j].target == target) return broken(v, target, "updated twice", "");
  }
  return true;
}

/* What the function names itself is also what its walk found: else an id stands for two nodes. */
static bool check_roots(Verify *v) {
  for (int i = 0; i < v->f->n_out; i++)
    if (v->by_id[v->f->out[i].node->id] != v->f->out[i].node)
      return broken(v, v->f->out[i].node, "it shares its id with another node", "");
  for (int i = 0; i < v->f->n_update; i++)
    if (v->by_id[v->f->update[i].value->id] != v->f->update[i].value)
      return broken(v, v->f->update[i].value, "it shares its id with another node", "");
  return true;
}

bool func_verify(const Func *f, Form form, const char *after, Error *err) {
  Verify v = {f, after, err, NULL};
  if (!check_ports(&v) || !check_updates(&v)) return false;
  int n;
  Node **nodes = func_nodes(f, &n);
  v.by_id = ARENA_ARRAY(f->graph->arena, Node *, f->graph->n_nodes);
  for (int i = 0; i < n; i++) {
    v.by_id[nodes[i]->id] = nodes[i];
    if (!type_is_sane(&nodes[i]->type)) return broken(&v, nodes[i], "its type is no type", "");
  }
  if (!check_roots(&v)) return false;
  for (int i = 0; i < n; i++)
    if (!check_node(&v, nodes[i], form)) return false;
  return true;
}

/* ---- sizes ---- */

static Dim dim_at(Dim d, int64_t B, int64_t R) {
  int64_t b, r, n;
  bool fits = !__builtin_mul_overflow(d.b, B, &b) && !__builtin_mul_overflow(d.r, R, &r) &&
              !__builtin_add_overflow(d.c, b, &n) && !__builtin_add_overflow(n, r, &n);
  return dim_const(fits ? n : INT64_MAX);   /* which no rule takes */
}

static Type type_at(const Type *t, int64_t B, int64_t R) {
  Type at = *t;
  for (int i = 0; i < t->rank; i++) at.dim[i] = dim_at(t->dim[i], B, R);
  return at;
}

static void attrs_at(AttrKind kind, Attrs *a, int64_t B, int64_t R) {
  int n;
  const AttrField *field = attr_fields(kind, &n);
  for (int i = 0; i < n; i++) {
    Dim *dim = (Dim *)((char *)a + field[i].offset);
    for (int k = 0; field[i].type == FIELD_dim8 && k < MAX_RANK; k++) dim[k] = dim_at(dim[k], B, R);
  }
}

static bool node_holds_at(const Node *n, const Graph *g, int64_t B, int64_t R, Error *err) {
  Node *operand = ARENA_ARRAY(g->arena, Node, n->n_in), **in = ARENA_ARRAY(g->arena, Node *, n->n_in);
  for (int i = 0; i < n->n_in; i++) {
    operand[i] = *n->in[i];
    operand[i].type = type_at(&n->in[i]->type, B, R);
    in[i] = &operand[i];
  }
  Graph probe = *g;
  Attrs attrs;
  Type type = {0}, at = type_at(&n->type, B, R);
  char want[TYPE_TEXT], has[TYPE_TEXT];
  probe.err = err;
  probe.here = n->loc;
  attrs_copy(op_info[n->op].attrs, &attrs, &n->attrs);
  attrs_at(op_info[n->op].attrs, &attrs, B, R);
  Infer c = {&probe, n->op, in, n->n_in, &attrs, &at, &type};
  if (!infer_all(&c)) return false;
  if (type_same_shape(&type, &at)) return true;
  graph_error(&probe, NULL, "%s: its result would be %s and not %s", op_info[n->op].text,
              type_print(&type, has, sizeof has), type_print(&at, want, sizeof want));
  return false;
}

bool func_holds_at(const Func *f, int64_t B, int64_t R, Error *err) {
  int n;
  Node **node = func_nodes(f, &n);
  for (int i = 0; i < n; i++) {
    Error why = {0};
    if (node_holds_at(node[i], f->graph, B, R, &why)) continue;
    return error_set(err, ERROR_ARGUMENT, "with a batch of %lld: %s", (long long)B, why.text);
  }
  return true;
}
