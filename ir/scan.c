/* Reading the pieces of IR text.  Nothing here trusts the text: numbers are checked for range, lists for length. */
#include "ir/scan.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void skip_blanks(Scan *s) {
  for (;; s->p++) {
    if (*s->p == '#')
      while (s->p[1] && s->p[1] != '\n') s->p++;
    else if (*s->p == '\n')
      s->line++;
    else if (!isspace((unsigned char)*s->p))
      return;
  }
}

const Loc *scan_loc(Scan *s) {
  skip_blanks(s);
  if (!s->loc || s->loc->line != s->line) {
    Loc *loc = ARENA_NEW(s->g->arena, Loc);
    *loc = (Loc){s->name, s->line, NULL};
    s->loc = loc;
  }
  return s->loc;
}

/* Blanks are not skipped: what is wrong may stand before them, on an earlier line. */
bool scan_fail(Scan *s, const char *fmt, ...) {
  char text[600], near[24];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  size_t n = strcspn(s->p, "\n");
  if (n)
    snprintf(near, sizeof near, "\"%.*s\"", n < 16 ? (int)n : 16, s->p);
  else
    snprintf(near, sizeof near, "the end of the %s", *s->p ? "line" : "text");
  graph_error(s->g, &(Loc){s->name, s->line, NULL}, "%s, at %s", text, near);
  return false;
}

bool scan_at_end(Scan *s) {
  skip_blanks(s);
  return *s->p == 0;
}

static bool is_word_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.'; }

bool scan_accept(Scan *s, const char *mark) {
  size_t n = strlen(mark);
  skip_blanks(s);
  if (strncmp(s->p, mark, n) != 0 || (is_word_char(mark[n - 1]) && is_word_char(s->p[n]))) return false;
  s->p += n;
  return true;
}

bool scan_expect(Scan *s, const char *mark) { return scan_accept(s, mark) || scan_fail(s, "\"%s\" expected", mark); }

/* ---- names ---- */

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/* After the backslash: one character into *out. */
static bool scan_escape(Scan *s, char *out) {
  char c = *s->p++;
  if (c == '"' || c == '\\') return *out = c, true;
  int hi = c == 'x' ? hex_digit(s->p[0]) : -1, lo = hi >= 0 ? hex_digit(s->p[1]) : -1;
  if (lo < 0 || hi * 16 + lo == 0) {
    s->p--;
    return scan_fail(s, "no such escape in a quoted name: \\\", \\\\ and \\x01 to \\xff exist");
  }
  s->p += 2;
  return *out = (char)(hi * 16 + lo), true;
}

static bool scan_quoted(Scan *s, const char **out) {
  size_t n = 0;
  char *text = arena_alloc(s->g->arena, strcspn(s->p, "\n") + 1);
  while (*s->p != '"') {
    if (*s->p == 0 || *s->p == '\n') return scan_fail(s, "a quoted name does not end");
    if (*s->p != '\\') {
      text[n++] = *s->p++;
      continue;
    }
    s->p++;
    if (!scan_escape(s, &text[n++])) return false;
  }
  s->p++;
  *out = text;
  return true;
}

bool scan_name(Scan *s, const char **out) {
  skip_blanks(s);
  if (*s->p == '"') return s->p++, scan_quoted(s, out);
  size_t n = 0;
  while (is_word_char(s->p[n])) n++;
  if (n == 0) return scan_fail(s, "a name expected");
  char *text = arena_alloc(s->g->arena, n + 1);
  memcpy(text, s->p, n);
  s->p += n;
  *out = text;
  return true;
}

/* ---- numbers ---- */

static bool scan_int(Scan *s, int64_t *out) {
  skip_blanks(s);
  char *end;
  errno = 0;
  if (*s->p != '-' && !isdigit((unsigned char)*s->p)) return scan_fail(s, "a whole number expected");
  long long v = strtoll(s->p, &end, 10);
  if (end == s->p) return scan_fail(s, "a whole number expected");
  if (errno) return scan_fail(s, "the number is too large");
  s->p = end;
  *out = v;
  return true;
}

static bool scan_real(Scan *s, double *out) {
  skip_blanks(s);
  char *end;
  *out = strtod(s->p, &end);
  if (end == s->p || is_word_char(*end)) return scan_fail(s, "a number expected");
  s->p = end;
  return true;
}

/* One of "12", "B", "12B", "R", "12R", with its sign in front; adds to *d. */
static bool scan_term(Scan *s, int64_t sign, Dim *d) {
  int64_t k = 1, limit = (int64_t)1 << 48;
  bool has_number = isdigit((unsigned char)*s->p);
  if (has_number && !scan_int(s, &k)) return false;
  if (k > limit) return scan_fail(s, "the size is too large");
  int64_t *to = *s->p == 'B' ? &d->b : *s->p == 'R' ? &d->r : &d->c;
  if (to == &d->c && !has_number) return scan_fail(s, "a size expected, such as 8, B or 4B+2");
  if (to != &d->c) s->p++;
  *to += sign * k;
  return true;
}

static bool scan_dim(Scan *s, Dim *out) {
  skip_blanks(s);
  *out = dim_const(0);
  int64_t sign = 1;
  if (*s->p == '-') sign = -1, s->p++;
  for (int terms = 0; terms < 8; terms++) {
    if (!scan_term(s, sign, out)) return false;
    if (*s->p != '+' && *s->p != '-') return true;
    sign = *s->p++ == '-' ? -1 : 1;
  }
  return scan_fail(s, "the size has too many terms");
}

static bool scan_dtype(Scan *s, DType *out) {
  const char *name;
  if (!scan_name(s, &name)) return false;
  return dtype_from_name(name, out) || scan_fail(s, "no element type is called \"%s\" (f32, bf16, i32, u8)", name);
}

bool scan_type(Scan *s, Type *out) {
  *out = (Type){0};
  if (!scan_dtype(s, &out->dtype) || !scan_expect(s, "[")) return false;
  if (scan_accept(s, "]")) return true;
  do {
    if (out->rank == MAX_RANK) return scan_fail(s, "a type has at most %d axes", MAX_RANK);
    if (!scan_dim(s, &out->dim[out->rank++])) return false;
  } while (scan_accept(s, ","));
  return scan_expect(s, "]");
}

/* ---- attributes ---- */

typedef bool (*ScanItem)(Scan *s, void *at);

static bool item_int(Scan *s, void *at) { return scan_int(s, at); }
static bool item_dim(Scan *s, void *at) { return scan_dim(s, at); }

static bool item_extent(Scan *s, void *at) {
  int64_t *v = at;
  if (scan_accept(s, "inf")) return *v = EXTENT_INF, true;
  if (scan_accept(s, "-inf")) return *v = -EXTENT_INF, true;
  return scan_int(s, v);
}

static bool scan_list(Scan *s, int n, ScanItem item, void *at, size_t bytes) {
  if (!scan_expect(s, "[")) return false;
  for (int i = 0; i < n; i++)
    if ((i && !scan_expect(s, ",")) || !item(s, (char *)at + (size_t)i * bytes)) return false;
  return scan_accept(s, "]") || scan_fail(s, "the list needs %d entries", n);
}

static bool scan_axes(Scan *s, int64_t *out) {
  *out = 0;
  if (!scan_expect(s, "[")) return false;
  if (scan_accept(s, "]")) return true;
  do {
    int64_t axis;
    if (!scan_int(s, &axis)) return false;
    if (axis < 0 || axis >= MAX_RANK) return scan_fail(s, "an axis is 0 to %d", MAX_RANK - 1);
    *out |= (int64_t)1 << axis;
  } while (scan_accept(s, ","));
  return scan_expect(s, "]");
}

static bool scan_choice(Scan *s, const AttrField *f, unsigned *out) {
  int n;
  const char *name, *const *names = field_names(f->type, &n);
  if (!scan_name(s, &name)) return false;
  for (int i = 0; i < n; i++)
    if (strcmp(name, names[i]) == 0) return *out = (unsigned)i, true;
  char all[100] = "";
  for (int i = 0; i < n; i++) snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", names[i]);
  return scan_fail(s, "%s cannot be \"%s\" (%s)", f->text, name, all);
}

static bool scan_field(Scan *s, const AttrField *f, Attrs *a, int rank) {
  void *at = (char *)a + f->offset;
  switch (f->type) {
    case FIELD_int: return scan_int(s, at);
    case FIELD_real: return scan_real(s, at);
    case FIELD_text: return scan_name(s, at);
    case FIELD_dtype: return scan_dtype(s, at);
    case FIELD_axes: return scan_axes(s, at);
    case FIELD_dim8: return scan_list(s, rank, item_dim, at, sizeof(Dim));
    case FIELD_int8: return scan_list(s, rank, item_int, at, sizeof(int64_t));
    case FIELD_int3: return scan_list(s, 3, item_extent, at, sizeof(int64_t));
    default: return scan_choice(s, f, at);
  }
}

static bool unknown_field(Scan *s, Op op, const char *name) {
  int n;
  const AttrField *f = attr_fields(op_info[op].attrs, &n);
  char all[200] = "";
  for (int i = 0; i < n; i++) snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", f[i].text);
  return scan_fail(s, "%s has no attribute \"%s\" (%s)", op_info[op].text, name, n ? all : "it has none");
}

bool scan_attrs(Scan *s, Op op, int rank, Attrs *out) {
  memset(out, 0, sizeof *out);
  if (!scan_accept(s, "{") || scan_accept(s, "}")) return true;
  int n, i;
  unsigned seen = 0;
  const AttrField *f = attr_fields(op_info[op].attrs, &n);
  do {
    const char *name;
    if (!scan_name(s, &name)) return false;
    for (i = 0; i < n && strcmp(f[i].text, name) != 0; i++) {}
    if (i == n) return unknown_field(s, op, name);
    if (seen >> i & 1) return scan_fail(s, "%s is given twice", name);
    seen |= 1u << i;
    if (!scan_expect(s, "=") || !scan_field(s, &f[i], out, rank)) return false;
  } while (scan_accept(s, ","));
  return scan_expect(s, "}");
}
