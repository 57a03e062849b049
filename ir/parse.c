/* The parser of functions: what func_print writes, and what people write into golden tests.  Types of results are
 * inferred again and must be those in the text. */
#include <string.h>

#include "ir/scan.h"

enum { VALUE_BUCKETS = 1024 };

typedef struct NamedValue {
  const char *name;
  Node *node;
  struct NamedValue *next;
} NamedValue;

typedef struct Parser {
  Scan s;
  NamedValue *values[VALUE_BUCKETS];   /* of the function being read */
  Port *in, *out;
  Update *update;
  int n_in, cap_in, n_out, cap_out, n_update, cap_update;
} Parser;

static NamedValue **bucket_of(Parser *p, const char *name) {
  return &p->values[hash_bytes(2166136261u, name, strlen(name)) % VALUE_BUCKETS];
}

static bool define(Parser *p, const char *name, Node *node) {
  NamedValue **bucket = bucket_of(p, name);
  for (NamedValue *v = *bucket; v; v = v->next)
    if (strcmp(v->name, name) == 0) return scan_fail(&p->s, "%%%s is defined twice", name);
  NamedValue *v = ARENA_NEW(p->s.g->arena, NamedValue);
  *v = (NamedValue){name, node, *bucket};
  *bucket = v;
  return true;
}

static bool parse_value(Parser *p, Node **out) {
  const char *name;
  if (!scan_expect(&p->s, "%") || !scan_name(&p->s, &name)) return false;
  for (NamedValue *v = *bucket_of(p, name); v; v = v->next)
    if (strcmp(v->name, name) == 0) return *out = v->node, true;
  return scan_fail(&p->s, "%%%s is not defined before", name);
}

static bool parse_input(Parser *p) {
  Graph *g = p->s.g;
  const char *name;
  Type type;
  g->here = scan_loc(&p->s);
  if (!scan_expect(&p->s, "%") || !scan_name(&p->s, &name) || !scan_expect(&p->s, ":") || !scan_type(&p->s, &type))
    return false;
  Attrs a = {.leaf = {.name = name}};
  Node *n = graph_op(g, OP_INPUT, NULL, 0, &a, &type);
  if (!n || !define(p, name, n)) return false;
  ARENA_PUSH(g->arena, p->in, p->n_in, p->cap_in, ((Port){name, n}));
  return true;
}

static bool parse_inputs(Parser *p) {
  if (!scan_expect(&p->s, "(")) return false;
  if (scan_accept(&p->s, ")")) return true;
  do {
    if (!parse_input(p)) return false;
  } while (scan_accept(&p->s, ","));
  return scan_expect(&p->s, ")");
}

static bool parse_operands(Parser *p, Node ***out, int *out_n) {
  int cap = 0;
  *out = NULL;
  *out_n = 0;
  if (!scan_expect(&p->s, "(")) return false;
  if (scan_accept(&p->s, ")")) return true;
  do {
    Node *n;
    if (!parse_value(p, &n)) return false;
    ARENA_PUSH(p->s.g->arena, *out, *out_n, cap, n);
  } while (scan_accept(&p->s, ","));
  return scan_expect(&p->s, ")");
}

/* "%3 = op(%1, %2) {attributes} : type", after the "%". */
static bool parse_node(Parser *p) {
  Graph *g = p->s.g;
  const char *name, *text;
  Node **in;
  int n_in;
  Attrs attrs;
  Type type;
  g->here = scan_loc(&p->s);
  if (!scan_name(&p->s, &name) || !scan_expect(&p->s, "=") || !scan_name(&p->s, &text)) return false;
  Op op = op_from_text(text);
  if (op == OP_COUNT) return scan_fail(&p->s, "there is no op \"%s\"", text);
  if (!parse_operands(p, &in, &n_in) || !scan_attrs(&p->s, op, n_in ? in[0]->type.rank : 0, &attrs)) return false;
  if (!scan_expect(&p->s, ":") || !scan_type(&p->s, &type)) return false;
  Node *n = graph_op(g, op, in, n_in, &attrs, &type);
  if (!n) return false;
  if (!type_equal(&n->type, &type)) {
    char has[TYPE_TEXT], said[TYPE_TEXT];
    graph_error(g, NULL, "%s: the result is %s, the text says %s", text, type_print(&n->type, has, sizeof has),
                type_print(&type, said, sizeof said));
    return false;
  }
  return define(p, name, n);
}

static bool parse_update(Parser *p) {
  Update u = {0};
  scan_loc(&p->s);
  if (!parse_value(p, &u.target) || !scan_expect(&p->s, "=") || !parse_value(p, &u.value)) return false;
  if (u.target->op != OP_PARAM && u.target->op != OP_STATE)
    return scan_fail(&p->s, "only a param or a state can be updated, not %s", op_info[u.target->op].text);
  if (!type_equal(&u.target->type, &u.value->type)) return scan_fail(&p->s, "an update's types differ");
  for (int i = 0; i < p->n_update; i++)
    if (p->update[i].target == u.target)
      return scan_fail(&p->s, "\"%s\" is updated twice", u.target->attrs.leaf.name);
  ARENA_PUSH(p->s.g->arena, p->update, p->n_update, p->cap_update, u);
  return true;
}

static bool parse_return(Parser *p) {
  if (scan_accept(&p->s, "}")) return true;
  do {
    Port out;
    if (!scan_name(&p->s, &out.name) || !scan_expect(&p->s, "=") || !parse_value(p, &out.node)) return false;
    ARENA_PUSH(p->s.g->arena, p->out, p->n_out, p->cap_out, out);
  } while (scan_accept(&p->s, ","));
  return scan_expect(&p->s, "}");
}

static Func *parse_func(Parser *p) {
  const char *name;
  *p = (Parser){.s = p->s};
  const Loc *loc = scan_loc(&p->s);
  if (!scan_expect(&p->s, "func") || !scan_expect(&p->s, "@") || !scan_name(&p->s, &name)) return NULL;
  if (!parse_inputs(p) || !scan_expect(&p->s, "{")) return NULL;
  while (!scan_accept(&p->s, "return")) {
    if (scan_accept(&p->s, "%") ? !parse_node(p) : scan_accept(&p->s, "update") ? !parse_update(p)
                                : !scan_fail(&p->s, "\"%%\", \"update\" or \"return\" expected"))
      return NULL;
  }
  if (!parse_return(p)) return NULL;
  p->s.g->here = loc;
  Func *f = func_new(p->s.g, name, p->in, p->n_in, p->out, p->n_out);
  if (!f) return NULL;
  f->update = p->update;
  f->n_update = p->n_update;
  return f;
}

bool ir_parse(Graph *g, const char *name, const char *text, Func ***out_funcs, int *out_n) {
  if (g->err->code != ERROR_NONE) return false;
  int cap = 0;
  const Loc *here = g->here;
  Parser *p = ARENA_NEW(g->arena, Parser);
  p->s = (Scan){.g = g, .name = arena_strdup(g->arena, name), .p = text, .line = 1};
  *out_funcs = NULL;
  *out_n = 0;
  do {
    Func *f = parse_func(p);
    if (!f) break;
    ARENA_PUSH(g->arena, *out_funcs, *out_n, cap, f);
  } while (!scan_at_end(&p->s));
  g->here = here;
  return g->err->code == ERROR_NONE;
}
