/* Parser of PTX: variables, functions, declarations and scopes.  Single instructions are ptx_decode.c's.
 * Only what NVRTC emits is understood; everything else is an error with its line. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/ptx_lex.h"

void *emu_alloc(size_t bytes) {
  void *p = calloc(1, bytes ? bytes : 1);
  if (!p) {
    fprintf(stderr, "emulated CUDA driver: no memory for %zu bytes\n", bytes);
    abort();
  }
  return p;
}

void *emu_grow(void *old, int n, size_t elem_bytes, int *cap) {
  *cap = n < 8 ? 16 : n * 2;
  void *p = emu_alloc((size_t)*cap * elem_bytes);
  if (n) memcpy(p, old, (size_t)n * elem_bytes);
  free(old);
  return p;
}

char *emu_strndup(const char *s, size_t n) {
  char *p = emu_alloc(n + 1);
  memcpy(p, s, n);
  return p;
}

/* Blanks comments out and keeps the lines. */
static char *text_without_comments(const char *text) {
  char *copy = emu_strndup(text, strlen(text));
  for (char *p = copy; *p;) {
    if (p[0] == '"') {
      for (p++; *p && *p != '"' && *p != '\n'; p++) {}
      if (*p) p++;
    } else if (p[0] == '/' && p[1] == '/') {
      while (*p && *p != '\n') *p++ = ' ';
    } else if (p[0] == '/' && p[1] == '*') {
      char *end = strstr(p + 2, "*/");
      for (end = end ? end + 2 : p + strlen(p); p < end; p++)
        if (*p != '\n') *p = ' ';
    } else {
      p++;
    }
  }
  return copy;
}

int frame_alloc(int *total, int bytes, int align) {
  int at = (*total + align - 1) / align * align;
  *total = at + bytes;
  return at;
}

/* ".align 4 .v2 .b8 name[2][3]", as variables and parameters are declared; p->t stands behind the space. */
typedef struct Declared {
  Token name;
  PtxType type;
  int64_t count;                /* 0: "[]" */
  int bytes, align;             /* in all */
} Declared;

static int declared_align(Parser *p) {
  int64_t n = lex_integer(p, "an alignment");
  if (n < 1 || n > 4096 || (n & (n - 1))) parse_fail(p, p->t.line, "alignment %lld", (long long)n);
  return (int)n;
}

static void parse_declared(Parser *p, Declared *d) {
  *d = (Declared){.count = 1};
  int lanes = 1;
  for (;; ) {
    if (lex_accept(p, ".align")) {
      d->align = declared_align(p);
    } else if (lex_accept(p, ".v2")) {
      lanes = 2;
    } else if (lex_accept(p, ".v4")) {
      lanes = 4;
    } else if (lex_accept(p, ".ptr")) {   /* what a pointer parameter points to: nothing to us */
      while (token_is(&p->t, ".global") || token_is(&p->t, ".shared") || token_is(&p->t, ".const") ||
             token_is(&p->t, ".local"))
        lex_advance(p);
      if (lex_accept(p, ".align")) declared_align(p);
      break;
    } else if (p->t.kind == 'w' && p->t.s[0] == '.') {
      d->type = type_from_text(p->t.s + 1, p->t.n - 1);
      if (!d->type) parse_fail(p, p->t.line, "'%.*s' in a declaration is not supported", p->t.n, p->t.s);
      lex_advance(p);
    } else {
      break;
    }
  }
  if (p->t.kind != 'w' || !d->type) parse_fail(p, p->t.line, "a typed name expected at '%.*s'", p->t.n, p->t.s);
  d->name = p->t;
  lex_advance(p);
  while (lex_accept(p, "[")) {
    int64_t n = token_is(&p->t, "]") ? 0 : lex_integer(p, "an array length");
    if (n < 0 || n > 1 << 24 || d->count * n > 1 << 24)
      parse_fail(p, p->t.line, "array '%.*s' is too long", d->name.n, d->name.s);
    d->count *= n;
    lex_expect(p, "]");
  }
  int elem = ptx_type_bytes(d->type) * lanes;
  if (!d->align) d->align = elem;
  d->bytes = (int)(d->count * elem);
}

static void parse_initializer(Parser *p, const Declared *d, unsigned char *init) {
  bool list = lex_accept(p, "{");
  int elem = ptx_type_bytes(d->type), at = 0, depth = list;
  do {
    while (list && lex_accept(p, "{")) depth++;
    bool negative = lex_accept(p, "-");
    uint64_t v;
    if (!token_value(&p->t, negative, &v))
      parse_fail(p, p->t.line, "initial value '%.*s' is not supported", p->t.n, p->t.s);
    if (at + elem > d->bytes) parse_fail(p, p->t.line, "more initial values than '%.*s' holds", d->name.n, d->name.s);
    memcpy(init + at, &v, (size_t)elem);
    at += elem;
    lex_advance(p);
    while (depth > 1 && lex_accept(p, "}")) depth--;
  } while (list && lex_accept(p, ","));
  if (list) lex_expect(p, "}");
}

/* A .global or .const, at any level. */
static void parse_variable(Parser *p, bool constant) {
  Declared d;
  parse_declared(p, &d);
  Variable *v = emu_alloc(sizeof *v);
  EMU_PUSH(p->m->variable, p->m->variables, p->m->variable_cap, v);
  *v = (Variable){.constant = constant, .bytes = (size_t)d.bytes, .align = (size_t)d.align};
  v->name = emu_strndup(d.name.s, (size_t)d.name.n);
  v->init = emu_alloc(v->bytes);
  if (lex_accept(p, "=")) parse_initializer(p, &d, v->init);
  lex_expect(p, ";");
  if (!p->place(p->place_ctx, v)) parse_fail(p, d.name.line, "no device memory for variable '%s'", v->name);
  symbol_add(p, v->name, d.name.n, SYMBOL_VARIABLE, p->m->variables - 1);
}

/* A .shared at module level is laid out anew in every function that uses it only through its dynamic form; NVRTC
 * moves the others into their function. */
static void parse_module_shared(Parser *p) {
  Declared d;
  parse_declared(p, &d);
  lex_expect(p, ";");
  if (d.count) parse_fail(p, d.name.line, "static shared variable '%.*s' outside of a function is not supported",
                          d.name.n, d.name.s);
  symbol_add(p, d.name.s, d.name.n, SYMBOL_DYNAMIC_SHARED, 0);
}

static void parse_registers(Parser *p) {
  if (p->t.kind != 'w' || !type_from_text(p->t.s + 1, p->t.n - 1))
    parse_fail(p, p->t.line, "register type '%.*s' is not supported", p->t.n, p->t.s);
  PtxType type = type_from_text(p->t.s + 1, p->t.n - 1);
  int first = p->f->rows;
  lex_advance(p);
  do {
    Token name = p->t;
    if (name.kind != 'w') parse_fail(p, name.line, "a register name expected");
    lex_advance(p);
    if (!lex_accept(p, "<")) {
      symbol_add(p, name.s, name.n, SYMBOL_REGISTER, row_add(p->f, ROW_REGISTER, 0, 0));
      continue;
    }
    int64_t n = lex_integer(p, "a number of registers");
    if (n < 0 || n > 1 << 20) parse_fail(p, name.line, "%lld registers", (long long)n);
    for (int k = 0; k < n; k++) {
      char digits[16];
      int more = snprintf(digits, sizeof digits, "%d", k);
      char *full = emu_alloc((size_t)(name.n + more) + 1);
      memcpy(full, name.s, (size_t)name.n);
      memcpy(full + name.n, digits, (size_t)more);
      symbol_add(p, full, name.n + more, SYMBOL_REGISTER, row_add(p->f, ROW_REGISTER, 0, 0))->owned = true;
    }
    lex_expect(p, ">");
  } while (lex_accept(p, ","));
  for (int k = first; k < p->f->rows; k++) p->f->row[k].type = (uint8_t)type;
  lex_expect(p, ";");
}

/* A .shared, .local or .param (for calls) inside a function. */
static void parse_frame_variable(Parser *p, SymbolKind kind) {
  Declared d;
  parse_declared(p, &d);
  lex_expect(p, ";");
  int *total = kind == SYMBOL_SHARED ? &p->f->shared_bytes : &p->f->local_bytes;
  if (*total > 1 << 24) parse_fail(p, d.name.line, "'%.*s' is too large", d.name.n, d.name.s);
  int at = frame_alloc(total, d.bytes, d.align);
  symbol_add(p, d.name.s, d.name.n, kind, at)->bytes = d.bytes;
}

static bool label_follows(const Parser *p) {
  const char *s = p->p;
  while (*s == ' ' || *s == '\t') s++;
  return p->t.kind == 'w' && s[0] == ':' && s[1] != ':';
}

static void parse_label(Parser *p) {
  Label l = {p->t.s, p->t.n, p->f->instrs, 0};
  for (int k = 0; k < p->labels; k++)
    if (p->label[k].n == l.n && memcmp(p->label[k].name, l.name, (size_t)l.n) == 0)
      parse_fail(p, p->t.line, "label '%.*s' is defined twice", l.n, l.name);
  lex_advance(p);
  lex_expect(p, ":");
  if (lex_accept(p, ".branchtargets")) {
    l.instr = p->f->n_branch_targets;
    do {
      Fixup x = {p->t.s, p->t.n, p->f->n_branch_targets, p->t.line, true};
      EMU_PUSH(p->fixup, p->fixups, p->fixup_cap, x);
      EMU_PUSH(p->f->branch_targets, p->f->n_branch_targets, p->f->branch_target_cap, 0);
      l.targets++;
      lex_advance(p);
    } while (lex_accept(p, ","));
    lex_expect(p, ";");
  }
  EMU_PUSH(p->label, p->labels, p->label_cap, l);
}

static void parse_block(Parser *p, int depth) {
  int mark = p->symbols;
  if (depth > 64) parse_fail(p, p->t.line, "blocks are nested too deeply");
  lex_expect(p, "{");
  while (!token_is(&p->t, "}")) {
    if (!p->t.kind) parse_fail(p, p->t.line, "'}' expected, found the end of the text");
    if (p->t.kind == '{') parse_block(p, depth + 1);
    else if (lex_accept(p, ".reg")) parse_registers(p);
    else if (lex_accept(p, ".shared")) parse_frame_variable(p, SYMBOL_SHARED);
    else if (lex_accept(p, ".local")) parse_frame_variable(p, SYMBOL_LOCAL);
    else if (lex_accept(p, ".param")) parse_frame_variable(p, SYMBOL_FRAME_PARAM);
    else if (lex_accept(p, ".global")) parse_variable(p, false);
    else if (lex_accept(p, ".const")) parse_variable(p, true);
    else if (token_is(&p->t, ".loc") || token_is(&p->t, ".pragma")) lex_skip_line(p);
    else if (label_follows(p)) parse_label(p);
    else decode_instruction(p);
  }
  scope_close(p, mark);
  lex_advance(p);
}

static void resolve_labels(Parser *p) {
  Function *f = p->f;
  for (int k = 0; k < p->fixups; k++) {
    const Fixup *x = &p->fixup[k];
    const Label *l = NULL;
    for (int j = 0; j < p->labels && !l; j++)
      if (p->label[j].n == x->n && memcmp(p->label[j].name, x->name, (size_t)x->n) == 0) l = &p->label[j];
    if (!l) parse_fail(p, x->line, "no label '%.*s' in this function", x->n, x->name);
    Instr *i = x->in_table ? NULL : &f->code[x->instr];
    if ((l->targets > 0) != (i && i->op == OP_BRX))
      parse_fail(p, x->line, "'%.*s' is not the kind of label this needs", x->n, x->name);
    if (i) i->target = l->instr, i->targets = l->targets;
    else f->branch_targets[x->instr] = l->instr;
  }
  p->labels = p->fixups = 0;
}

/* "(.param .b32 a, ...)": in the parameter block of a kernel, in the local frame of a function. */
static void parse_params(Parser *p, Param **list, int *n, int *cap) {
  Function *f = p->f;
  lex_expect(p, "(");
  while (!token_is(&p->t, ")")) {
    Declared d;
    lex_expect(p, ".param");
    parse_declared(p, &d);
    Param q = {.bytes = d.bytes};
    q.offset = frame_alloc(f->entry ? &f->param_bytes : &f->local_bytes, d.bytes, d.align);
    if (q.bytes > MAX_PARAM_BYTES || q.offset + q.bytes > MAX_PARAM_BYTES)
      parse_fail(p, d.name.line, "more than 4096 bytes of parameters");
    EMU_PUSH(*list, *n, *cap, q);
    SymbolKind kind = f->entry ? SYMBOL_PARAM : SYMBOL_FRAME_PARAM;
    symbol_add(p, d.name.s, d.name.n, kind, q.offset)->bytes = d.bytes;
    if (!lex_accept(p, ",")) break;
  }
  lex_expect(p, ")");
}

static void parse_tuning(Parser *p) {
  while (p->t.kind == 'w' && p->t.s[0] == '.') {
    Token what = p->t;
    lex_advance(p);
    if (token_is(&what, ".noreturn")) continue;
    int64_t product = 1;
    do product *= lex_integer(p, "a number");
    while (lex_accept(p, ","));
    if (token_is(&what, ".maxntid") || token_is(&what, ".reqntid")) p->f->max_threads = (int)product;
    else if (!token_is(&what, ".minnctapersm") && !token_is(&what, ".maxnreg"))
      parse_fail(p, what.line, "'%.*s' is not supported", what.n, what.s);
  }
}

/* The function of a name: new, or the one of its prototype with the parameters forgotten. */
static Function *function_declare(Parser *p, const Token *name, bool entry) {
  Symbol *y = symbol_find(p, name->s, name->n);
  Function *f;
  if (y) {
    f = y->kind == SYMBOL_FUNCTION ? p->m->function[y->value] : NULL;
    if (!f || f->defined || f->entry != entry) parse_fail(p, name->line, "'%.*s' is defined twice", name->n, name->s);
    char *kept = f->name;
    free(f->param);
    free(f->result);
    *f = (Function){.name = kept, .entry = entry};
    return f;
  }
  f = emu_alloc(sizeof *f);
  EMU_PUSH(p->m->function, p->m->functions, p->m->function_cap, f);
  f->name = emu_strndup(name->s, (size_t)name->n);
  f->entry = entry;
  symbol_add(p, f->name, name->n, SYMBOL_FUNCTION, p->m->functions - 1);
  return f;
}

static void parse_function(Parser *p, bool entry) {
  int results = 0, result_cap = 0;
  /* The results stand before the name; the name must outlive the parameters' scope, so it is declared first. */
  const char *open = p->t.s;
  if (p->t.kind == '(') {
    while (p->t.kind && p->t.kind != ')') lex_advance(p);
    lex_advance(p);
  } else {
    open = NULL;
  }
  if (p->t.kind != 'w') parse_fail(p, p->t.line, "a function name expected");
  Function *f = p->f = function_declare(p, &p->t, entry);
  lex_advance(p);
  int mark = p->symbols;
  if (open) {
    const char *back = p->t.s;
    int line = p->t.line;
    p->p = open;
    lex_advance(p);
    parse_params(p, &f->result, &results, &result_cap);
    p->p = back;
    p->line = line;
    lex_advance(p);
  }
  if (p->t.kind == '(') parse_params(p, &f->param, &f->params, &f->param_cap);
  parse_tuning(p);
  if (!lex_accept(p, ";")) {
    f->defined = true;
    parse_block(p, 0);
    resolve_labels(p);
    Instr end = {.op = entry ? OP_EXIT : OP_RET, .guard = -1, .line = p->t.line, .text = "(end of function)",
                 .text_bytes = 17};
    EMU_PUSH(f->code, f->instrs, f->instr_cap, end);
  }
  scope_close(p, mark);
  p->f = NULL;
}

static void skip_section(Parser *p) {
  while (p->t.kind && p->t.kind != '{') lex_advance(p);
  while (p->t.kind && p->t.kind != '}') lex_advance(p);
  lex_expect(p, "}");
}

/* ".target sm_80, debug" */
static void parse_target(Parser *p) {
  if (p->t.kind != 'w' || p->t.n < 5 || memcmp(p->t.s, "sm_", 3) != 0)
    parse_fail(p, p->t.line, "target '%.*s' is not supported", p->t.n, p->t.s);
  p->m->target = atoi(p->t.s + 3);
  lex_skip_line(p);
}

/* Apart from the setjmp, so that no variable lives across it. */
__attribute__((noinline)) static void parse_module(Parser *p) {
  lex_advance(p);
  if (!token_is(&p->t, ".version")) parse_fail(p, p->t.line, "this is not PTX: it does not begin with .version");
  while (p->t.kind) {
    if (lex_accept(p, ".target")) parse_target(p);
    else if (token_is(&p->t, ".version") || token_is(&p->t, ".address_size") ||
        token_is(&p->t, ".file") || token_is(&p->t, ".loc") || token_is(&p->t, ".pragma"))
      lex_skip_line(p);
    else if (token_is(&p->t, ".extern") || token_is(&p->t, ".visible") || token_is(&p->t, ".weak")) lex_advance(p);
    else if (token_is(&p->t, ".section")) skip_section(p);
    else if (lex_accept(p, ".global")) parse_variable(p, false);
    else if (lex_accept(p, ".const")) parse_variable(p, true);
    else if (lex_accept(p, ".shared")) parse_module_shared(p);
    else if (lex_accept(p, ".entry")) parse_function(p, true);
    else if (lex_accept(p, ".func")) parse_function(p, false);
    else parse_fail(p, p->t.line, "'%.*s' is not supported here", p->t.n, p->t.s);
  }
  for (int k = 0; k < p->m->functions; k++) {
    Function *f = p->m->function[k];
    if (f->entry && f->defined) link_kernel(p, f);
  }
}

static bool parse_caught(Parser *p) {
  if (setjmp(p->escape)) return false;
  parse_module(p);
  return true;
}

Module *ptx_module_new(const char *text, PlaceFn *place, void *ctx, char *error, size_t error_bytes) {
  Parser *p = emu_alloc(sizeof *p);
  Module *m = emu_alloc(sizeof *m);
  *p = (Parser){.m = m, .line = 1, .place = place, .place_ctx = ctx, .error = error, .error_bytes = error_bytes};
  m->text = text_without_comments(text);
  p->p = m->text;
  bool ok = parse_caught(p);
  scope_close(p, 0);
  free(p->symbol);
  free(p->label);
  free(p->fixup);
  free(p->scratch);
  free(p);
  if (ok) return m;
  ptx_module_free(m);
  return NULL;
}

void ptx_module_free(Module *m) {
  if (!m) return;
  for (int k = 0; k < m->functions; k++) function_free(m->function[k]);
  for (int k = 0; k < m->kernels; k++) function_free(m->kernel[k]);
  for (int k = 0; k < m->variables; k++) {
    free(m->variable[k]->name);
    free(m->variable[k]->init);
    free(m->variable[k]);
  }
  free(m->function);
  free(m->kernel);
  free(m->variable);
  free(m->text);
  free(m);
}
