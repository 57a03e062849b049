/* Lexer and name table of the PTX parser.  What the words mean is the parser's business. */
#include "tests/gpu/ptx_lex.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void parse_fail(Parser *p, int line, const char *fmt, ...) {
  char text[400];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  snprintf(p->error, p->error_bytes, "PTX line %d: %s", line, text);
  longjmp(p->escape, 1);
}

static bool is_word(int c) { return isalnum(c) || c == '_' || c == '$' || c == '%' || c == '.'; }

void lex_advance(Parser *p) {
  while (*p->p && isspace((unsigned char)*p->p)) p->line += *p->p++ == '\n';
  const char *s = p->p;
  p->t = (Token){s, 0, p->line, 0};
  if (!*s) return;
  if (*s == '"') {
    for (s++; *s && *s != '"' && *s != '\n'; s++) {}
    if (*s != '"') parse_fail(p, p->line, "a string without its closing quote");
    p->t.kind = '"';
    s++;
  } else if (is_word((unsigned char)*s)) {
    p->t.kind = 'w';
    /* "L2::128B" is part of an opcode, "label:" is not part of a word. */
    while (is_word((unsigned char)*s) || (s[0] == ':' && s[1] == ':' && isalnum((unsigned char)s[2])))
      s += *s == ':' ? 2 : 1;
  } else {
    p->t.kind = *s++;
  }
  p->t.n = (int)(s - p->p);
  p->p = s;
}

void lex_skip_line(Parser *p) {
  const char *s = p->t.s;
  while (*s && *s != '\n') s++;
  p->line = p->t.line;
  p->p = s;
  lex_advance(p);
}

bool token_is(const Token *t, const char *text) {
  return t->kind && (int)strlen(text) == t->n && memcmp(t->s, text, (size_t)t->n) == 0;
}

bool lex_accept(Parser *p, const char *text) {
  if (!token_is(&p->t, text)) return false;
  lex_advance(p);
  return true;
}

void lex_expect(Parser *p, const char *text) {
  if (!lex_accept(p, text))
    parse_fail(p, p->t.line, "'%s' expected, found '%.*s'", text, p->t.n, p->t.kind ? p->t.s : "");
}

bool token_value(const Token *t, bool negative, uint64_t *out_bits) {
  char text[64], *end;
  if (t->kind != 'w' || !isdigit((unsigned char)t->s[0]) || t->n >= (int)sizeof text) return false;
  memcpy(text, t->s, (size_t)t->n);
  text[t->n] = 0;
  char tag = text[0] == '0' ? (char)tolower((unsigned char)text[1]) : 0;
  bool decimal = strchr(text, '.') != NULL;
  uint64_t v;
  if (tag == 'f' || tag == 'd') {
    v = strtoull(text + 2, &end, 16);
    if (t->n != (tag == 'f' ? 10 : 18)) return false;
    if (negative) v ^= tag == 'f' ? (uint64_t)1 << 31 : (uint64_t)1 << 63;
  } else if (decimal) {
    double d = strtod(text, &end);
    if (negative) d = -d;
    memcpy(&v, &d, sizeof v);
  } else {
    errno = 0;
    bool binary = tag == 'b';
    v = strtoull(binary ? text + 2 : text, &end, binary ? 2 : 0);
    if (*end == 'U' || *end == 'u') end++;
    if (errno) return false;
    if (negative) v = 0 - v;
  }
  *out_bits = v;
  return *end == 0;
}

int64_t lex_integer(Parser *p, const char *what) {
  bool negative = lex_accept(p, "-");
  uint64_t v = 0;
  if (!token_value(&p->t, negative, &v) || memchr(p->t.s, '.', (size_t)p->t.n))
    parse_fail(p, p->t.line, "%s expected, found '%.*s'", what, p->t.n, p->t.s);
  lex_advance(p);
  return (int64_t)v;
}

static unsigned name_hash(const char *s, int n) {
  unsigned h = 2166136261u;
  for (int i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 16777619u;
  return (h ^ h >> 15) & (BUCKETS - 1);
}

Symbol *symbol_add(Parser *p, const char *name, int n, SymbolKind kind, int64_t value) {
  unsigned h = name_hash(name, n);
  Symbol y = {.name = name, .n = n, .kind = kind, .value = value, .next = p->bucket[h], .bucket = h};
  EMU_PUSH(p->symbol, p->symbols, p->symbol_cap, y);
  p->bucket[h] = p->symbols;
  return &p->symbol[p->symbols - 1];
}

Symbol *symbol_find(Parser *p, const char *name, int n) {
  for (int k = p->bucket[name_hash(name, n)]; k; k = p->symbol[k - 1].next) {
    Symbol *y = &p->symbol[k - 1];
    if (y->n == n && memcmp(y->name, name, (size_t)n) == 0) return y;
  }
  return NULL;
}

void scope_close(Parser *p, int mark) {
  while (p->symbols > mark) {
    Symbol *y = &p->symbol[--p->symbols];
    p->bucket[y->bucket] = y->next;
    if (y->owned) free((char *)y->name);
  }
}
