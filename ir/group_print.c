/* The canonical text of a group.  Nothing of it depends on the model around: no names, no numbers of nodes, no order in
 * which independent nodes were made.  Results are sorted by what they compute; values are numbered by a walk from them to
 * operands, what is read from memory first where it is met. */
#include <string.h>

#include "ir/program.h"
#include "ir/text.h"
#include "runtime/base/sha256.h"

enum { DIGEST_BYTES = 32 };

typedef struct GroupValue {
  const Node *node;
  bool is_read;                     /* from memory */
  uint8_t digest[DIGEST_BYTES];     /* of what it computes; equal where only the sources of what is read differ */
  int number;                       /* -1: not printed yet */
} GroupValue;

typedef struct GroupPrinter {
  const Group *g;
  Arena *arena;
  GroupValue *value;                     /* operands before users */
  int n_value, cap_value, n_number;
  Buffer *out;
} GroupPrinter;

static bool is_among(Node *const *list, int n, const Node *x) {
  for (int i = 0; i < n; i++)
    if (list[i] == x) return true;
  return false;
}

static GroupValue *find_value(GroupPrinter *p, const Node *n) {
  for (int i = 0; i < p->n_value; i++)
    if (p->value[i].node == n) return &p->value[i];
  return NULL;
}

/* " = op {attributes} : type", which is all of a node but its operands. */
static void print_form(Buffer *out, const GroupValue *v) {
  char type[TYPE_TEXT];
  buffer_printf(out, "%s", v->is_read ? "read" : op_info[v->node->op].text);
  if (!v->is_read) text_attrs(out, v->node);
  buffer_printf(out, " : %s", type_print(&v->node->type, type, sizeof type));
}

/* Adds n behind its operands; not those of what is read. */
static void add_value(GroupPrinter *p, const Node *n) {
  if (find_value(p, n)) return;
  GroupValue v = {.node = n, .number = -1, .is_read = is_among(p->g->in, p->g->n_in, n)};
  for (int i = 0; i < n->n_in && !v.is_read; i++) add_value(p, n->in[i]);
  Buffer text = {0};
  print_form(&text, &v);
  for (int i = 0; i < n->n_in && !v.is_read; i++)
    buffer_append(&text, find_value(p, n->in[i])->digest, DIGEST_BYTES);
  size_t bytes = text.len;
  sha256(arena_take_buffer(p->arena, &text), bytes, v.digest);
  ARENA_PUSH(p->arena, p->value, p->n_value, p->cap_value, v);
}

static void print_value(GroupPrinter *p, const Node *n) {
  GroupValue *v = find_value(p, n);
  if (v->number >= 0) return;
  for (int i = 0; i < n->n_in && !v->is_read; i++) print_value(p, n->in[i]);
  v->number = p->n_number++;
  buffer_printf(p->out, "  %%%d = ", v->number);
  print_form(p->out, v);
  for (int i = 0; i < n->n_in && !v->is_read; i++)
    buffer_printf(p->out, "%s%%%d", i ? ", " : " of ", find_value(p, n->in[i])->number);
  buffer_printf(p->out, "\n");
}

/* Results in the order of their digests; equal ones stay in theirs. */
static const Node **sorted_results(GroupPrinter *p) {
  const Node **out = ARENA_ARRAY(p->arena, const Node *, p->g->n_out);
  for (int i = 0; i < p->g->n_out; i++) {
    int at = i;
    const GroupValue *v = find_value(p, p->g->out[i]);
    for (; at > 0 && memcmp(find_value(p, out[at - 1])->digest, v->digest, DIGEST_BYTES) > 0; at--) out[at] = out[at - 1];
    out[at] = p->g->out[i];
  }
  return out;
}

void group_print(Arena *a, const Group *g, Buffer *out) {
  static const char *const family[] = {[FAMILY_MAP] = "map", [FAMILY_REDUCE] = "reduce", [FAMILY_SCATTER] = "scatter",
                                       [FAMILY_CONTRACT] = "contract", [FAMILY_ATTEND] = "attend"};
  GroupPrinter p = {.g = g, .arena = a, .out = out};
  for (int i = 0; i < g->n_out; i++) add_value(&p, g->out[i]);
  const Node **result = sorted_results(&p);
  buffer_printf(out, "group %s\n", family[g->family]);
  for (int i = 0; i < g->n_out; i++) print_value(&p, result[i]);
  buffer_printf(out, "  results");
  for (int i = 0; i < g->n_out; i++) buffer_printf(out, " %%%d", find_value(&p, result[i])->number);
  buffer_printf(out, "\n");
}
