/* The text form of functions.  Values are numbered in the order of a walk from updates and outputs to operands, which
 * depends on nothing but the function itself: parsing and printing again gives the same text. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ir/text.h"

/* ---- names and numbers ---- */

bool name_is_bare(const char *s) {
  if (!isalpha((unsigned char)*s) && *s != '_') return false;
  for (; *s; s++)
    if ((unsigned char)*s >= 128 || (!isalnum((unsigned char)*s) && *s != '_' && *s != '.')) return false;
  return true;
}

void text_quote(Buffer *out, const char *s) {
  buffer_append(out, "\"", 1);
  for (; *s; s++) {
    unsigned char ch = (unsigned char)*s;
    if (ch == '"' || ch == '\\')
      buffer_printf(out, "\\%c", ch);
    else if (ch < 32 || ch == 127)
      buffer_printf(out, "\\x%02x", ch);
    else
      buffer_append(out, s, 1);
  }
  buffer_append(out, "\"", 1);
}

void text_name(Buffer *out, const char *s) {
  if (name_is_bare(s))
    buffer_append(out, s, strlen(s));
  else
    text_quote(out, s);
}

void text_add_name(Error *err, const char *separator, const char *name) {
  Buffer text = {0};
  text_name(&text, name);
  size_t at = strlen(err->text);
  snprintf(err->text + at, sizeof err->text - at, "%s%s", separator, text.data && !text.failed ? text.data : "...");
  buffer_done(&text);
}

void text_real(Buffer *out, double v) {
  if (isnan(v)) {
    buffer_append(out, "nan", 3);
  } else if (isinf(v)) {
    buffer_printf(out, "%s", v < 0 ? "-inf" : "inf");
  } else {
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
      snprintf(text, sizeof text, "%.*g", digits, v);
      if (strtod(text, NULL) == v) break;
    }
    buffer_printf(out, "%s", text);
  }
}

/* ---- attributes ---- */

static void print_int3(Buffer *out, const int64_t *v) {
  for (int i = 0; i < 3; i++) {
    buffer_printf(out, "%s", i ? "," : "[");
    if (v[i] >= EXTENT_INF || v[i] <= -EXTENT_INF)
      buffer_printf(out, "%s", v[i] < 0 ? "-inf" : "inf");
    else
      buffer_printf(out, "%lld", (long long)v[i]);
  }
  buffer_printf(out, "]");
}

static void print_axes(Buffer *out, int64_t axes) {
  const char *sep = "";
  buffer_printf(out, "[");
  for (int i = 0; i < MAX_RANK; i++) {
    if (!(axes >> i & 1)) continue;
    buffer_printf(out, "%s%d", sep, i);
    sep = ",";
  }
  buffer_printf(out, "]");
}

static void print_list(Buffer *out, FieldType type, const void *at, int n) {
  char dim[DIM_TEXT];
  buffer_printf(out, "[");
  for (int i = 0; i < n; i++) {
    if (i) buffer_printf(out, ",");
    if (type == FIELD_dim8)
      buffer_printf(out, "%s", dim_print(((const Dim *)at)[i], dim));
    else
      buffer_printf(out, "%lld", (long long)((const int64_t *)at)[i]);
  }
  buffer_printf(out, "]");
}

/* rank: of operand 0, the number of entries that per-axis lists have. */
static void print_field(Buffer *out, const AttrField *f, const Attrs *a, int rank) {
  const void *at = (const char *)a + f->offset;
  int n_names;
  const char *const *names = field_names(f->type, &n_names);
  buffer_printf(out, "%s=", f->text);
  switch (f->type) {
    case FIELD_int: buffer_printf(out, "%lld", (long long)*(const int64_t *)at); return;
    case FIELD_real: text_real(out, *(const double *)at); return;
    case FIELD_text: text_quote(out, *(char *const *)at); return;
    case FIELD_dtype: buffer_printf(out, "%s", dtype_name(*(const DType *)at)); return;
    case FIELD_axes: print_axes(out, *(const int64_t *)at); return;
    case FIELD_int3: print_int3(out, at); return;
    case FIELD_dim8: case FIELD_int8: print_list(out, f->type, at, rank); return;
    default: buffer_printf(out, "%s", names[*(const unsigned *)at]); return;
  }
}

void text_attrs(Buffer *out, const Node *n) {
  int count;
  const AttrField *f = attr_fields(op_info[n->op].attrs, &count);
  if (count == 0) return;
  for (int i = 0; i < count; i++) {
    buffer_printf(out, "%s", i ? ", " : " {");
    print_field(out, &f[i], &n->attrs, n->n_in ? n->in[0]->type.rank : 0);
  }
  buffer_printf(out, "}");
}

/* ---- functions ---- */

typedef struct FuncPrinter {
  const Func *f;
  Buffer *out;
  int *number;        /* by node id: 0 not seen, -k input k-1, else the number of the value */
  int n_values;
  Node **stack;
  int n, cap;
} FuncPrinter;

static void print_value(FuncPrinter *p, const Node *n) {
  int k = p->number[n->id];
  buffer_printf(p->out, "%%");
  if (k < 0)
    text_name(p->out, p->f->in[-k - 1].name);
  else
    buffer_printf(p->out, "%d", k);
}

static void print_node(FuncPrinter *p, const Node *n) {
  char type[TYPE_TEXT];
  buffer_printf(p->out, "  ");
  print_value(p, n);
  buffer_printf(p->out, " = %s(", op_info[n->op].text);
  for (int i = 0; i < n->n_in; i++) {
    if (i) buffer_printf(p->out, ", ");
    print_value(p, n->in[i]);
  }
  buffer_printf(p->out, ")");
  text_attrs(p->out, n);
  buffer_printf(p->out, " : %s\n", type_print(&n->type, type, sizeof type));
}

/* Prints n and what it needs, operands first; an explicit stack, because graphs are deep. */
static void print_needed(FuncPrinter *p, Node *root) {
  Arena *a = p->f->graph->arena;
  ARENA_PUSH(a, p->stack, p->n, p->cap, root);
  while (p->n > 0) {
    Node *n = p->stack[p->n - 1];
    int before = p->n;
    for (int i = n->n_in - 1; i >= 0 && !p->number[n->id]; i--)
      if (!p->number[n->in[i]->id]) ARENA_PUSH(a, p->stack, p->n, p->cap, n->in[i]);
    if (p->n > before) continue;
    p->n--;
    if (p->number[n->id]) continue;
    p->number[n->id] = ++p->n_values;
    print_node(p, n);
  }
}

static void print_head(FuncPrinter *p) {
  char type[TYPE_TEXT];
  buffer_printf(p->out, "func @");
  text_name(p->out, p->f->name);
  buffer_printf(p->out, "(");
  for (int i = 0; i < p->f->n_in; i++) {
    p->number[p->f->in[i].node->id] = -i - 1;
    buffer_printf(p->out, "%s%%", i ? ", " : "");
    text_name(p->out, p->f->in[i].name);
    buffer_printf(p->out, ": %s", type_print(&p->f->in[i].node->type, type, sizeof type));
  }
  buffer_printf(p->out, ") {\n");
}

void func_print(const Func *f, Buffer *out) {
  FuncPrinter p = {.f = f, .out = out, .number = ARENA_ARRAY(f->graph->arena, int, f->graph->n_nodes)};
  print_head(&p);
  for (int i = 0; i < f->n_update; i++) {
    print_needed(&p, f->update[i].target);
    print_needed(&p, f->update[i].value);
  }
  for (int i = 0; i < f->n_out; i++) print_needed(&p, f->out[i].node);
  for (int i = 0; i < f->n_update; i++) {
    buffer_printf(out, "  update ");
    print_value(&p, f->update[i].target);
    buffer_printf(out, " = ");
    print_value(&p, f->update[i].value);
    buffer_printf(out, "\n");
  }
  buffer_printf(out, "  return");
  for (int i = 0; i < f->n_out; i++) {
    buffer_printf(out, "%s", i ? ", " : " ");
    text_name(out, f->out[i].name);
    buffer_printf(out, " = ");
    print_value(&p, f->out[i].node);
  }
  buffer_printf(out, "\n}\n");
}
