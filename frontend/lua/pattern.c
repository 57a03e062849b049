/* Lua patterns: see pattern.h. */
#include "frontend/lua/pattern.h"

#include <ctype.h>
#include <string.h>

typedef enum ItemKind {
  ITEM_SET,      /* one character of a set, with a quantifier */
  ITEM_OPEN,     /* ( */
  ITEM_POSITION, /* () */
  ITEM_CLOSE,    /* ) of capture `a` */
  ITEM_BACK,     /* %1: the text of capture `a` again */
  ITEM_BALANCE,  /* %bxy */
  ITEM_FRONTIER, /* %f[set] */
  ITEM_END,      /* $ at the end of the pattern */
} ItemKind;

typedef struct PatternItem {
  ItemKind kind;
  char quantifier; /* of a set: 0, '*', '+', '-' or '?' */
  uint8_t a, b;
  uint32_t set[8]; /* bit c: character c belongs to it */
} PatternItem;

struct Pattern {
  bool anchored;
  int n_items, n_captures;
  PatternItem item[];
};

size_t pattern_bytes(size_t len) { return sizeof(Pattern) + (len + 1) * sizeof(PatternItem); }
bool pattern_is_anchored(const Pattern *p) { return p->anchored; }

/* ---- compiling ---- */

static void set_add(PatternItem *it, int c) { it->set[c >> 5] |= 1u << (c & 31); }
static bool set_has(const PatternItem *it, unsigned char c) { return it->set[c >> 5] >> (c & 31) & 1; }

static bool class_has(int class, int c) {
  switch (tolower(class)) {
  case 'a':
    return isalpha(c);
  case 'c':
    return iscntrl(c);
  case 'd':
    return isdigit(c);
  case 'g':
    return isgraph(c);
  case 'l':
    return islower(c);
  case 'p':
    return ispunct(c);
  case 's':
    return isspace(c);
  case 'u':
    return isupper(c);
  case 'w':
    return isalnum(c);
  case 'x':
    return isxdigit(c);
  default:
    return c == class;
  }
}

static bool is_class(int c) { return c && strchr("acdglpsuwx", tolower(c)) != NULL; }

/* %c inside or outside of a set. */
static void set_add_class(PatternItem *it, unsigned char class) {
  bool inverted = is_class(class) && isupper(class);
  for (int c = 0; c < 256; c++)
    if (class_has(class, c) != inverted) set_add(it, c);
}

/* Text at *pp, just behind "[" -> the set; *pp ends behind the closing bracket. */
static const char *compile_set(PatternItem *it, const char **pp, const char *end) {
  const char *p = *pp;
  bool inverted = p < end && *p == '^';
  if (inverted) p++;
  /* A closing bracket right at the start stands for itself. */
  for (bool first = true;; first = false) {
    if (p >= end) return "malformed pattern (missing ']')";
    unsigned char c = (unsigned char)*p++;
    if (c == ']' && !first) break;
    if (c == '%') {
      if (p >= end) return "malformed pattern (ends with '%')";
      set_add_class(it, (unsigned char)*p++);
    } else if (end - p >= 2 && p[0] == '-' && p[1] != ']') {
      for (int x = c; x <= (unsigned char)p[1]; x++) set_add(it, x);
      p += 2;
    } else {
      set_add(it, c);
    }
  }
  for (int i = 0; inverted && i < 8; i++) it->set[i] = ~it->set[i];
  *pp = p;
  return NULL;
}

typedef struct Compiler {
  Pattern *p;
  const char *at, *end;
  uint8_t open[PATTERN_MAX_CAPTURES];
  int n_open;
  bool closed[PATTERN_MAX_CAPTURES];
} Compiler;

static const char *compile_open(Compiler *c, PatternItem *it) {
  if (c->p->n_captures == PATTERN_MAX_CAPTURES) return "too many captures";
  int index = c->p->n_captures++;
  it->a = (uint8_t)index;
  it->kind = c->at < c->end && *c->at == ')' ? ITEM_POSITION : ITEM_OPEN;
  if (it->kind == ITEM_POSITION) {
    c->at++;
    c->closed[index] = true;
  } else {
    c->open[c->n_open++] = (uint8_t)index;
  }
  return NULL;
}

static const char *compile_close(Compiler *c, PatternItem *it) {
  if (!c->n_open) return "invalid pattern capture";
  it->kind = ITEM_CLOSE;
  it->a = c->open[--c->n_open];
  c->closed[it->a] = true;
  return NULL;
}

/* Behind "%".  *out_single: the item takes one character and may have a quantifier. */
static const char *compile_escape(Compiler *c, PatternItem *it, bool *out_single) {
  if (c->at >= c->end) return "malformed pattern (ends with '%')";
  unsigned char x = (unsigned char)*c->at++;
  if (x == 'b') {
    if (c->end - c->at < 2) return "malformed pattern (missing arguments to '%b')";
    *it = (PatternItem){.kind = ITEM_BALANCE, .a = (uint8_t)c->at[0], .b = (uint8_t)c->at[1]};
    c->at += 2;
  } else if (x == 'f') {
    if (c->at >= c->end || *c->at++ != '[') return "missing '[' after '%f' in pattern";
    it->kind = ITEM_FRONTIER;
    return compile_set(it, &c->at, c->end);
  } else if (isdigit(x)) {
    int index = x - '1';
    if (index < 0 || index >= c->p->n_captures || !c->closed[index]) return "invalid capture index in pattern";
    *it = (PatternItem){.kind = ITEM_BACK, .a = (uint8_t)index};
  } else {
    set_add_class(it, x);
    *out_single = true;
  }
  return NULL;
}

static const char *compile_item(Compiler *c, PatternItem *it) {
  char x = *c->at++;
  bool single = false;
  const char *wrong = NULL;
  if (x == '(') return compile_open(c, it);
  if (x == ')') return compile_close(c, it);
  if (x == '$' && c->at == c->end) {
    it->kind = ITEM_END;
    return NULL;
  }
  if (x == '%') {
    wrong = compile_escape(c, it, &single);
  } else if (x == '[') {
    wrong = compile_set(it, &c->at, c->end);
    single = true;
  } else {
    if (x == '.')
      memset(it->set, 0xff, sizeof it->set);
    else
      set_add(it, (unsigned char)x);
    single = true;
  }
  if (!wrong && single && c->at < c->end && strchr("*+-?", *c->at) && *c->at) it->quantifier = *c->at++;
  return wrong;
}

const char *pattern_compile(Pattern *p, const char *text, size_t len) {
  *p = (Pattern){0};
  if (len > PATTERN_MAX_BYTES) return "pattern too long (at most 512 bytes)";
  Compiler c = {.p = p, .at = text, .end = text + len};
  if (len && *text == '^') {
    p->anchored = true;
    c.at++;
  }
  while (c.at < c.end) {
    PatternItem *it = &p->item[p->n_items++];
    *it = (PatternItem){0};
    const char *wrong = compile_item(&c, it);
    if (wrong) return wrong;
  }
  return c.n_open ? "unfinished capture" : NULL;
}

/* ---- matching ---- */

typedef struct Matcher {
  const Pattern *p;
  const unsigned char *s;
  size_t len;
  uint64_t *steps;
  bool out_of_steps;
  Match *m;
} Matcher;

static bool take_step(Matcher *m) {
  if (*m->steps == 0) {
    m->out_of_steps = true;
    return false;
  }
  --*m->steps;
  return true;
}

static bool match_from(Matcher *m, int i, size_t at);

/* As many as possible first (greedy) or as few as possible, at least `least`. */
static bool match_repeated(Matcher *m, int i, size_t at, size_t least, bool greedy) {
  const PatternItem *it = &m->p->item[i];
  size_t n = 0;
  while (n < (greedy ? m->len - at : least)) {
    if (at + n >= m->len || !set_has(it, m->s[at + n])) break;
    if (!take_step(m)) return false;
    n++;
  }
  if (n < least) return false;
  for (;;) {
    if (match_from(m, i + 1, at + n)) return true;
    if (!take_step(m)) return false;
    if (greedy) {
      if (n == least) return false;
      n--;
    } else {
      if (at + n >= m->len || !set_has(it, m->s[at + n])) return false;
      n++;
    }
  }
}

static bool match_set(Matcher *m, int i, size_t at) {
  const PatternItem *it = &m->p->item[i];
  switch (it->quantifier) {
  case '*':
    return match_repeated(m, i, at, 0, true);
  case '+':
    return match_repeated(m, i, at, 1, true);
  case '-':
    return match_repeated(m, i, at, 0, false);
  default:
    break;
  }
  bool here = at < m->len && set_has(it, m->s[at]);
  if (it->quantifier == '?') return (here && match_from(m, i + 1, at + 1)) || match_from(m, i + 1, at);
  return here && match_from(m, i + 1, at + 1);
}

static bool match_balance(Matcher *m, int i, size_t at) {
  const PatternItem *it = &m->p->item[i];
  if (at >= m->len || m->s[at] != it->a) return false;
  size_t depth = 1;
  for (size_t p = at + 1; p < m->len; p++) {
    if (!take_step(m)) return false;
    if (m->s[p] == it->b) {
      if (--depth == 0) return match_from(m, i + 1, p + 1);
    } else if (m->s[p] == it->a) {
      depth++;
    }
  }
  return false;
}

static bool match_back(Matcher *m, int i, size_t at) {
  const Capture *c = &m->m->capture[m->p->item[i].a];
  size_t len = c->is_position ? 0 : c->len;
  if (m->len - at < len || memcmp(m->s + at, m->s + c->start, len) != 0) return false;
  *m->steps -= *m->steps < len / 16 ? *m->steps : len / 16;
  return match_from(m, i + 1, at + len);
}

static bool match_capture(Matcher *m, int i, size_t at) {
  const PatternItem *it = &m->p->item[i];
  Capture *c = &m->m->capture[it->a], old = *c;
  if (it->kind == ITEM_CLOSE)
    c->len = at - c->start;
  else
    *c = (Capture){.start = at, .is_position = it->kind == ITEM_POSITION};
  if (match_from(m, i + 1, at)) return true;
  *c = old;
  return false;
}

/* Items i and those after it, at `at`. */
static bool match_from(Matcher *m, int i, size_t at) {
  if (m->out_of_steps || !take_step(m)) return false;
  if (i == m->p->n_items) {
    m->m->end = at;
    return true;
  }
  const PatternItem *it = &m->p->item[i];
  switch (it->kind) {
  case ITEM_SET:
    return match_set(m, i, at);
  case ITEM_OPEN:
  case ITEM_POSITION:
  case ITEM_CLOSE:
    return match_capture(m, i, at);
  case ITEM_BACK:
    return match_back(m, i, at);
  case ITEM_BALANCE:
    return match_balance(m, i, at);
  case ITEM_FRONTIER: {
    unsigned char before = at ? m->s[at - 1] : 0, here = at < m->len ? m->s[at] : 0;
    return !set_has(it, before) && set_has(it, here) && match_from(m, i + 1, at);
  }
  case ITEM_END:
    return at == m->len && match_from(m, i + 1, at);
  }
  return false;
}

MatchResult pattern_match(const Pattern *p, const char *subject, size_t len, size_t at, uint64_t *steps, Match *out) {
  Matcher m = {.p = p, .s = (const unsigned char *)subject, .len = len, .steps = steps, .m = out};
  out->start = at;
  out->n = p->n_captures;
  if (match_from(&m, 0, at)) return MATCH_YES;
  return m.out_of_steps ? MATCH_OUT_OF_STEPS : MATCH_NO;
}
