/* Merges files: "#version: 0.2", then "left right" a line. */
#include <string.h>

#include "runtime/text/bpe_internal.h"
#include "runtime/base/file.h"
#include "runtime/base/utf8.h"

static void put_symbol(const Bpe *b, int id, Buffer *out) {
  const BpeSymbol *s = &b->symbol[id];
  for (int i = 0; i < s->bytes; i++) {
    char bytes[4];
    uint32_t c = b->char_of_byte[(uint8_t)b->pool[s->at + (uint32_t)i]];
    buffer_append(out, bytes, (size_t)utf8_write(c, bytes));
  }
  if (s->ends_word) buffer_append(out, "</w>", 4);
}

bool bpe_serialise(const Bpe *b, Buffer *out, Error *err) {
  buffer_append(out, "#version: 0.2\n", 14);
  for (int i = 0; i < b->merges; i++) {
    put_symbol(b, b->merge[i].left, out);
    buffer_append(out, " ", 1);
    put_symbol(b, b->merge[i].right, out);
    buffer_append(out, "\n", 1);
  }
  return !out->failed || error_set(err, ERROR_MEMORY, "writing merges: out of memory");
}

bool bpe_write(const Bpe *b, const char *path, Error *err) {
  Buffer out = {0};
  bool ok = bpe_serialise(b, &out, err) && file_write_all(path, out.data, out.len, err);
  buffer_done(&out);
  return ok;
}

/* The id of a written symbol; -1 after an error.  "</w>" alone is four characters of text, not an empty word. */
static int parse_symbol(const Bpe *b, const char *p, size_t n, const char *where, Error *err) {
  bool ends_word = n > 4 && !memcmp(p + n - 4, "</w>", 4);
  size_t end = ends_word ? n - 4 : n, len = 0;
  char bytes[1024];
  for (size_t i = 0; i < end;) {
    uint32_t c;
    int step = utf8_read(p + i, end - i, &c), byte = step && c < 512 ? b->byte_of_char[c] : -1;
    if (byte < 0 || len == sizeof bytes) {
      error_set(err, ERROR_FORMAT, "%s: not a symbol of the byte alphabet: \"%.*s\"", where, n < 60 ? (int)n : 60, p);
      return -1;
    }
    bytes[len++] = (char)byte;
    i += (size_t)step;
  }
  int id = len ? bpe_find_text(b, bytes, len, ends_word) : -1;
  if (id < 0)
    error_set(err, ERROR_FORMAT, "%s: \"%.*s\" is not made by an earlier line", where, n < 60 ? (int)n : 60, p);
  return id;
}

static bool parse_line(Bpe *b, const char *p, size_t n, const char *where, Error *err) {
  const char *gap = memchr(p, ' ', n);
  size_t left_len = gap ? (size_t)(gap - p) : 0;
  if (!gap || !left_len || left_len + 1 == n || memchr(gap + 1, ' ', n - left_len - 1))
    return error_set(err, ERROR_FORMAT, "%s: expected two symbols with one space between them", where);
  int left = parse_symbol(b, p, left_len, where, err);
  int right = left < 0 ? -1 : parse_symbol(b, gap + 1, n - left_len - 1, where, err);
  return right >= 0 && bpe_add_merge(b, left, right, where, err);
}

Bpe *bpe_parse(const char *bytes, size_t n, const char *where, Error *err) {
  size_t lines = 1;
  for (size_t i = 0; i < n; i++) lines += bytes[i] == '\n';
  Bpe *b = bpe_new(lines < BPE_MAX_MERGES ? (int)lines : BPE_MAX_MERGES, err);
  if (!b) return NULL;
  int number = 0;
  for (size_t at = 0; at < n && b->merges < BPE_MAX_MERGES;) {
    const char *p = bytes + at, *end = memchr(p, '\n', n - at);
    size_t len = end ? (size_t)(end - p) : n - at;
    at += len + 1;
    number++;
    if (len && p[len - 1] == '\r') len--;
    if (!len || (number == 1 && memmem(p, len, "#version", 8))) continue; /* CLIP's own has more before it */
    char place[300];
    snprintf(place, sizeof place, "%.200s:%d", where, number);
    if (!parse_line(b, p, len, place, err)) {
      bpe_free(b);
      return NULL;
    }
  }
  return b;
}
