/* See captions.h. */
#include "media/captions.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/names.h"

void captions_done(Captions *c) {
  buffer_done(&c->text);
  mem_free(c->item);
  *c = (Captions){0};
}

/* ---- tables ---- */

static bool add(Captions *c, const char *folder, const char *name, size_t name_bytes, const char *text,
                size_t text_bytes, Error *err) {
  if (c->n == c->cap) {
    size_t cap = c->cap ? 2 * c->cap : 64;
    Caption *item = mem_realloc(c->item, cap * sizeof *item);
    if (!item) return error_set(err, ERROR_MEMORY, "captions: out of memory");
    c->item = item;
    c->cap = cap;
  }
  Caption *k = &c->item[c->n++];
  k->name = c->text.len;
  buffer_append(&c->text, folder, strlen(folder));
  buffer_append(&c->text, name, name_bytes);
  buffer_append(&c->text, "", 1);
  k->text = c->text.len;
  buffer_append(&c->text, text, text_bytes);
  buffer_append(&c->text, "", 1);
  return !c->text.failed || error_set(err, ERROR_MEMORY, "captions: out of memory");
}

/* The next line without its end, and what follows in *at; false at the end. */
static bool next_line(const char *bytes, size_t n, size_t *at, const char **line, size_t *line_bytes) {
  if (*at >= n) return false;
  const char *end = memchr(bytes + *at, '\n', n - *at);
  *line = bytes + *at;
  *line_bytes = end ? (size_t)(end - *line) : n - *at;
  *at += *line_bytes + 1;
  while (*line_bytes && isspace((unsigned char)(*line)[*line_bytes - 1])) --*line_bytes;
  return true;
}

/* A mark of UTF-8 at the beginning is no text. */
static size_t skip_mark(const char *bytes, size_t n) {
  return n >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

static bool check_line(const char *line, size_t n, const char *where, int number, Error *err) {
  if (memchr(line, 0, n)) return error_set(err, ERROR_FORMAT, "%s:%d: a zero byte: this is no text", where, number);
  return n <= CAPTION_MAX_BYTES ||
         error_set(err, ERROR_LIMIT, "%s:%d: a line of %zu bytes; at most %d", where, number, n, CAPTION_MAX_BYTES);
}

bool captions_parse_text(Captions *c, const char *bytes, size_t n, const char *where, const char *folder,
                         Error *err) {
  const char *line;
  size_t at = skip_mark(bytes, n), k;
  for (int number = 1; next_line(bytes, n, &at, &line, &k); number++) {
    if (!k) continue;
    if (!check_line(line, k, where, number, err)) return false;
    const char *tab = memchr(line, '\t', k);
    if (!tab || tab == line)
      return error_set(err, ERROR_FORMAT, "%s:%d: a line must be NAME, a tab, and its caption", where, number);
    size_t name = (size_t)(tab - line);
    if (!add(c, folder, line, name, tab + 1, k - name - 1, err)) return false;
  }
  return true;
}

typedef struct JsonLine {
  Arena *arena;
  char *line;
  const char *name, *text;
  bool ok;
  Error *err;
} JsonLine;

static void read_json(void *ctx) {
  JsonLine *j = ctx;
  JsonField *list;
  int n;
  if (!json_read_object(j->arena, j->line, &list, &n, j->err)) return;
  const JsonField *name = json_find(list, n, "file_name"), *text = json_find(list, n, PORT_TEXT);
  j->ok = name && text && name->is_text && text->is_text && *name->value;
  if (!j->ok)
    error_set(j->err, ERROR_FORMAT, "it must have \"file_name\" and \"text\", both texts");
  else
    j->name = name->value, j->text = text->value;
}

static bool parse_json_line(Captions *c, const char *line, size_t n, const char *folder, Error *err) {
  JsonLine j = {.arena = arena_new(), .line = mem_alloc(n + 1), .err = err};
  bool ok = (j.arena && j.line) || error_set(err, ERROR_MEMORY, "out of memory");
  if (ok) memcpy(j.line, line, n);
  ok = ok && arena_protect(j.arena, read_json, &j, err) && j.ok &&
       add(c, folder, j.name, strlen(j.name), j.text, strlen(j.text), err);
  arena_free(j.arena);
  mem_free(j.line);
  return ok;
}

bool captions_parse_jsonl(Captions *c, const char *bytes, size_t n, const char *where, const char *folder,
                          Error *err) {
  const char *line;
  size_t at = skip_mark(bytes, n), k;
  for (int number = 1; next_line(bytes, n, &at, &line, &k); number++) {
    if (!k) continue;
    if (!check_line(line, k, where, number, err)) return false;
    if (!parse_json_line(c, line, k, folder, err)) return error_prefix(err, "%s:%d", where, number);
  }
  return true;
}

/* ---- looking up ---- */

const char *captions_text(const CaptionTable *t, size_t i) { return t->text + t->item[i].text; }

static int compare(const void *a, const void *b, void *text) {
  const Caption *x = a, *y = b;
  int order = strcmp((char *)text + x->name, (char *)text + y->name);
  return order ? order : (x->text > y->text) - (x->text < y->text);
}

CaptionTable captions_sort(Captions *c) {
  if (c->n) qsort_r(c->item, c->n, sizeof *c->item, compare, c->text.data);
  return (CaptionTable){c->text.data, c->item, c->n};
}

size_t captions_find(const CaptionTable *t, const char *name, size_t *out) {
  size_t lo = 0, hi = t->n;
  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;
    if (strcmp(t->text + t->item[mid].name, name) < 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  *out = lo;
  while (hi < t->n && strcmp(t->text + t->item[hi].name, name) == 0) hi++;
  return hi - lo;
}

/* ---- a picture's own text ---- */

/* "de.utf8=..." */
static bool is_translation(const char *line, size_t n) {
  static const char mark[] = ".utf8=";
  size_t k = 0;
  while (k < n && (isalnum((unsigned char)line[k]) || line[k] == '_' || line[k] == '-' || line[k] == '@')) k++;
  return k > 0 && n - k >= sizeof mark - 1 && memcmp(line + k, mark, sizeof mark - 1) == 0;
}

void captions_choose(const char *bytes, size_t n, uint64_t draw, Buffer *out) {
  const char *line;
  uint64_t count = 0;
  size_t at = skip_mark(bytes, n), k;
  while (next_line(bytes, n, &at, &line, &k)) count += k && !is_translation(line, k);
  if (!count) return;
  draw %= count;
  for (at = skip_mark(bytes, n); next_line(bytes, n, &at, &line, &k);) {
    if (!k || is_translation(line, k)) continue;
    if (draw-- == 0) {
      buffer_append(out, line, k);
      return;
    }
  }
}

/* ---- an example's own JSON ---- */

static void find_json_text(void *ctx) {
  JsonLine *j = ctx;
  JsonField *list;
  int n;
  if (!json_read_object(j->arena, j->line, &list, &n, j->err)) return;
  const JsonField *text = json_find(list, n, PORT_TEXT);
  if (!text || !text->is_text) text = json_find(list, n, "caption");
  j->text = text && text->is_text ? text->value : "";
  j->ok = true;
}

bool captions_read_json(const char *bytes, size_t n, const char *where, Buffer *out, Error *err) {
  JsonLine j = {.arena = arena_new(), .line = mem_alloc(n + 1), .err = err};
  bool ok = (j.arena && j.line) || error_set(err, ERROR_MEMORY, "out of memory");
  size_t mark = skip_mark(bytes, n);
  if (ok) memcpy(j.line, bytes + mark, n - mark);
  ok = ok && arena_protect(j.arena, find_json_text, &j, err) && j.ok;
  if (ok) buffer_append(out, j.text, strlen(j.text));
  arena_free(j.arena);
  mem_free(j.line);
  return ok || error_prefix(err, "%s", where);
}
