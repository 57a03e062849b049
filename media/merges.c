#include "media/merges.h"

#include <string.h>

#include <zlib.h>

#include "runtime/base/file.h"

enum { PART_BYTES = 1 << 16, MAX_BYTES = 64 << 20 };

/* All members of the file, to the end. */
static bool inflate_all(z_stream *z, Buffer *out, const char *path, Error *err) {
  static const char damaged[] = "%s: damaged gzip data: %s";
  char *part = mem_alloc(PART_BYTES);
  if (!part) return error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  int status = Z_OK;
  while (status == Z_OK && !out->failed && out->len <= MAX_BYTES) {
    z->next_out = (Bytef *)part;
    z->avail_out = PART_BYTES;
    status = inflate(z, Z_NO_FLUSH);
    buffer_append(out, part, PART_BYTES - z->avail_out);
    if (status == Z_STREAM_END && z->avail_in) status = inflateReset(z);
  }
  mem_free(part);
  if (out->failed || status == Z_MEM_ERROR) return error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  if (out->len > MAX_BYTES)
    return error_set(err, ERROR_LIMIT, "%s: more than %d MiB of merges", path, MAX_BYTES >> 20);
  if (status == Z_STREAM_END) return true;
  return error_set(err, ERROR_FORMAT, damaged, path, z->msg ? z->msg : "it ends too early");
}

static bool gunzip(const FileMap *m, Buffer *out, const char *path, Error *err) {
  z_stream z = {.next_in = (Bytef *)(uintptr_t)m->data, .avail_in = (uInt)m->len};
  if (m->len > MAX_BYTES) return error_set(err, ERROR_LIMIT, "%s: more than %d MiB", path, MAX_BYTES >> 20);
  if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) return error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  bool ok = inflate_all(&z, out, path, err);
  inflateEnd(&z);
  return ok;
}

Bpe *merges_read(const char *path, Error *err) {
  FileMap m;
  Buffer text = {0};
  Bpe *b = NULL;
  if (!file_load(path, &m, err)) return NULL;
  bool is_gzip = m.len >= 2 && m.data[0] == 0x1f && m.data[1] == 0x8b;
  if (!is_gzip) b = bpe_parse((const char *)m.data, m.len, path, err);
  else if (gunzip(&m, &text, path, err)) b = bpe_parse(text.data ? text.data : "", text.len, path, err);
  buffer_done(&text);
  file_unmap(&m);
  return b;
}
