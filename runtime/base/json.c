/* See json.h. */
#include "runtime/base/json.h"

#include <math.h>
#include <string.h>

#include "runtime/base/utf8.h"

/* ---- writing ---- */

void json_print_text(Buffer *out, const char *text) {
  buffer_append(out, "\"", 1);
  for (const char *p = text, *end = text + strlen(text); p < end;) {
    uint32_t c;
    int n = utf8_read(p, (size_t)(end - p), &c);
    if (*p == '"' || *p == '\\') buffer_printf(out, "\\%c", *p);
    else if (*p == '\n') buffer_append(out, "\\n", 2);
    else if ((unsigned char)*p < 0x20 || *p == 0x7f) buffer_printf(out, "\\u%04x", (unsigned)(unsigned char)*p);
    else if (n == 0) buffer_append(out, "\\ufffd", 6);
    else buffer_append(out, p, (size_t)n);
    p += n ? n : 1;
  }
  buffer_append(out, "\"", 1);
}

void json_print_real(Buffer *out, double x) {
  char text[32];
  if (!isfinite(x)) {
    buffer_append(out, "null", 4);
    return;
  }
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, x);
    if (strtod(text, NULL) == x) break;
  }
  buffer_printf(out, "%s", text);
}

/* ---- reading ---- */

typedef struct JsonReader {
  Arena *arena;
  const char *begin, *p;   /* ends with a NUL */
  Error *err;
} JsonReader;

static bool fail(JsonReader *r, const char *what) {
  return error_set(r->err, ERROR_FORMAT, "JSON, byte %zu: %s", (size_t)(r->p - r->begin), what);
}

static void skip_space(JsonReader *r) { r->p += strspn(r->p, " \t\r\n"); }

static bool expect(JsonReader *r, char c, const char *what) {
  skip_space(r);
  if (*r->p != c) return fail(r, what);
  r->p++;
  return true;
}

static bool read_hex4(JsonReader *r, uint32_t *out) {
  *out = 0;
  for (int i = 0; i < 4; i++, r->p++) {
    char c = *r->p, low = (char)(c | 32);
    if (c >= '0' && c <= '9') *out = *out << 4 | (uint32_t)(c - '0');
    else if (low >= 'a' && low <= 'f') *out = *out << 4 | (uint32_t)(low - 'a' + 10);
    else return fail(r, "\\u needs four hexadecimal digits");
  }
  return true;
}

/* After the backslash. */
static bool read_escape(JsonReader *r, uint32_t *out) {
  static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
  const char *at = *r->p ? strchr(names, *r->p) : NULL;
  if (!at && *r->p != 'u') return fail(r, "an unknown escape");
  r->p++;
  if (at) {
    *out = (uint8_t)values[at - names];
    return true;
  }
  uint32_t low = 0;
  if (!read_hex4(r, out)) return false;
  if (*out >= 0xD800 && *out < 0xE000) {
    bool is_pair = *out < 0xDC00 && r->p[0] == '\\' && r->p[1] == 'u';
    if (is_pair) r->p += 2;
    if (!is_pair || !read_hex4(r, &low) || low < 0xDC00 || low >= 0xE000)
      return fail(r, "half of a surrogate pair stands alone");
    *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
  }
  return *out || fail(r, "a string holds a zero");
}

/* A string's characters: never more bytes than its text has. */
static bool read_text(JsonReader *r, const char **out) {
  if (!expect(r, '"', "a string is expected")) return false;
  const char *close = r->p;
  while (*close && *close != '"') close += *close == '\\' && close[1] ? 2 : 1;
  if (!*close) return fail(r, "a string does not end");
  char *text = arena_alloc(r->arena, (size_t)(close - r->p) + 1);
  size_t len = 0;
  while (*r->p != '"') {
    uint32_t c;
    int n = utf8_read(r->p, (size_t)(close - r->p), &c);
    if (n == 0) return fail(r, "a string is not UTF-8");
    r->p += n;
    if (c == '\\' && !read_escape(r, &c)) return false;
    len += (size_t)utf8_write(c, text + len);
  }
  r->p++;
  *out = text;
  return true;
}

/* Over a number, a word, or something in brackets that match. */
static bool skip_value(JsonReader *r) {
  char open[64];
  int depth = 0;
  do {
    skip_space(r);
    char c = *r->p;
    if (c == '"') {
      const char *ignored;
      if (!read_text(r, &ignored)) return false;
    } else if (c == '{' || c == '[') {
      if (depth == COUNT_OF(open)) return fail(r, "brackets are nested too deep");
      open[depth++] = c;
      r->p++;
    } else if (c == '}' || c == ']') {
      if (!depth || open[--depth] != (c == '}' ? '{' : '[')) return fail(r, "brackets do not match");
      r->p++;
    } else {
      size_t n = strcspn(r->p, " \t\r\n,:\"{}[]");
      if (!n && !(depth && (c == ',' || c == ':'))) return fail(r, "a value is expected");
      r->p += n ? n : 1;
    }
  } while (depth);
  return true;
}

static bool read_field(JsonReader *r, JsonField *f) {
  if (!read_text(r, &f->name) || !expect(r, ':', "':' is expected")) return false;
  skip_space(r);
  f->is_text = *r->p == '"';
  if (f->is_text) return read_text(r, &f->value);
  const char *first = r->p;
  if (!skip_value(r)) return false;
  char *text = arena_alloc(r->arena, (size_t)(r->p - first) + 1);
  memcpy(text, first, (size_t)(r->p - first));
  f->value = text;
  return true;
}

bool json_read_object(Arena *a, const char *text, JsonField **out, int *out_n, Error *err) {
  JsonReader r = {a, text, text, err};
  JsonField *list = NULL;
  int n = 0, cap = 0;
  if (!expect(&r, '{', "'{' is expected")) return false;
  skip_space(&r);
  if (*r.p == '}') r.p++;
  else {
    for (;;) {
      JsonField f = {0};
      if (!read_field(&r, &f)) return false;
      if (json_find(list, n, f.name)) return fail(&r, "a name stands twice");
      ARENA_PUSH(a, list, n, cap, f);
      skip_space(&r);
      if (*r.p == '}') break;
      if (!expect(&r, ',', "',' or '}' is expected")) return false;
    }
    r.p++;
  }
  skip_space(&r);
  if (*r.p) return fail(&r, "something stands behind the object");
  *out = list;
  *out_n = n;
  return true;
}

const JsonField *json_find(const JsonField *list, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (strcmp(list[i].name, name) == 0) return &list[i];
  return NULL;
}

/* ---- comparing ---- */

static bool differ(JsonDifference *out, const char *within, const char *name, const JsonField *theirs,
                   const JsonField *ours) {
  static const char unset[] = "not set";
  *out = (JsonDifference){within, name, theirs ? theirs->value : unset, ours ? ours->value : unset};
  return true;
}

static bool compare(Arena *a, const char *within, const char *have, const char *want, bool (*skips)(const char *name),
                    JsonDifference *out, Error *err) {
  JsonField *theirs, *ours;
  int n_theirs, n_ours;
  if (!json_read_object(a, have, &theirs, &n_theirs, err) || !json_read_object(a, want, &ours, &n_ours, err)) return false;
  for (int i = 0; i < n_ours && !out->name; i++) {
    const JsonField *x = &ours[i], *y = json_find(theirs, n_theirs, x->name);
    if ((skips && skips(x->name)) || (y && x->is_text == y->is_text && strcmp(x->value, y->value) == 0)) continue;
    bool are_objects = !*within && y && !x->is_text && !y->is_text && *x->value == '{' && *y->value == '{';
    if (!are_objects) return differ(out, within, x->name, y, x);
    if (!compare(a, arena_printf(a, "%s.", x->name), y->value, x->value, NULL, out, err)) return false;
  }
  for (int i = 0; i < n_theirs && !out->name; i++)
    if (!(skips && skips(theirs[i].name)) && !json_find(ours, n_ours, theirs[i].name))
      return differ(out, within, theirs[i].name, &theirs[i], NULL);
  return true;
}

bool json_compare(Arena *a, const char *theirs, const char *ours, bool (*skips)(const char *name),
                  JsonDifference *out, Error *err) {
  *out = (JsonDifference){0};
  return compare(a, "", theirs, ours, skips, out, err);
}
