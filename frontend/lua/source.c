/* See source.h. */
#include "frontend/lua/source.h"

#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/sha256.h"
#include "runtime/base/utf8.h"

const SourceFile *source_find(const SourceMap *m, const char *name) {
  for (int i = 0; i < m->n; i++)
    if (strcmp(m->file[i].name, name) == 0) return &m->file[i];
  return NULL;
}

/* Text that JSON keeps as it is. */
static bool is_text(const SourceFile *f) {
  uint32_t c;
  for (size_t i = 0; i < f->len;) {
    int n = utf8_read(f->text + i, f->len - i, &c);
    if (n == 0 || c == 0) return false;
    i += (size_t)n;
  }
  return true;
}

bool source_check(const SourceMap *m, Error *err) {
  size_t bytes = 0;
  for (int i = 0; i < m->n; i++) {
    if (!is_text(&m->file[i]))
      return error_set(err, ERROR_FORMAT, "%s: holds a zero or is no UTF-8, so weights cannot carry it",
                       m->file[i].name);
    bytes += m->file[i].len;
  }
  return bytes <= SOURCE_MAX_BYTES ||
         error_set(err, ERROR_FORMAT, "the model's %d files have %zu bytes; weights carry at most %d", m->n, bytes,
                   SOURCE_MAX_BYTES);
}

void source_print(const SourceMap *m, Buffer *out) {
  for (int i = 0; i < m->n; i++) {
    buffer_append(out, i ? ", " : "{", i ? 2 : 1);
    json_print_text(out, m->file[i].name);
    buffer_append(out, ": ", 2);
    json_print_text(out, m->file[i].text);
  }
  buffer_append(out, m->n ? "}" : "{}", m->n ? 1 : 2);
}

void source_digest(const SourceMap *m, char out[65]) {
  Sha256 h;
  uint8_t digest[32];
  sha256_init(&h);
  for (int i = 0; i < m->n; i++) {
    sha256_update(&h, m->file[i].name, strlen(m->file[i].name) + 1);
    sha256_update(&h, m->file[i].text, m->file[i].len + 1);
  }
  sha256_done(&h, digest);
  sha256_hex(digest, out);
}

bool source_read(Arena *a, const char *text, SourceMap *out, Error *err) {
  JsonField *list;
  int n;
  if (strlen(text) > 6 * (size_t)SOURCE_MAX_BYTES)   /* an escape is at most six bytes a character */
    return error_set(err, ERROR_FORMAT, "the model's source: larger than %d bytes", SOURCE_MAX_BYTES);
  if (!json_read_object(a, text, &list, &n, err)) return error_prefix(err, "the model's source");
  SourceFile *file = ARENA_ARRAY(a, SourceFile, n);
  size_t bytes = 0;
  for (int i = 0; i < n; i++) {
    if (!list[i].is_text)
      return error_set(err, ERROR_FORMAT, "the model's source: \"%s\" is no text", list[i].name);
    file[i] = (SourceFile){list[i].name, list[i].value, strlen(list[i].value)};
    bytes += file[i].len;
  }
  *out = (SourceMap){file, n};
  return bytes <= SOURCE_MAX_BYTES ||
         error_set(err, ERROR_FORMAT, "the model's source: larger than %d bytes", SOURCE_MAX_BYTES);
}
