/* See idx.h. */
#include "media/idx.h"

#include <errno.h>
#include <string.h>

#include <zlib.h>

bool idx_parse(const uint8_t *bytes, size_t n, const char *where, Idx *out, Error *err) {
  if (n < 4 || bytes[0] || bytes[1]) return error_set(err, ERROR_FORMAT, "%s: not an IDX file (%zu bytes)", where, n);
  if (bytes[2] != 8)
    return error_set(err, ERROR_FORMAT, "%s: IDX elements of type 0x%02x; only 0x08 (u8) is read", where, bytes[2]);
  int rank = bytes[3];
  size_t head = 4 + 4 * (size_t)rank, elems = 1;
  if (rank < 1 || rank > IDX_MAX_RANK)
    return error_set(err, ERROR_FORMAT, "%s: an IDX array of %d axes; 1 to %d are read", where, rank, IDX_MAX_RANK);
  if (n < head) return error_set(err, ERROR_FORMAT, "%s: an IDX file of %zu bytes ends within its head", where, n);
  *out = (Idx){.rank = rank, .data = bytes + head};
  for (int i = 0; i < rank; i++) {
    const uint8_t *p = bytes + 4 + 4 * i;
    out->dim[i] = (int64_t)((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]);
    if (!size_mul(elems, (size_t)out->dim[i], &elems)) elems = SIZE_MAX;
    if (elems == SIZE_MAX) break;
  }
  if (elems != n - head)
    return error_set(err, ERROR_FORMAT, "%s: an IDX array of %zu elements in %zu bytes", where, elems, n - head);
  return true;
}

/* zlib's reason, or the system's. */
static bool refuse(gzFile f, const char *path, Error *err) {
  int code;
  const char *text = gzerror(f, &code);
  return code == Z_ERRNO ? error_set(err, ERROR_IO, "%s: %s", path, strerror(errno))
                         : error_set(err, ERROR_FORMAT, "%s: damaged gzip data: %s", path, text);
}

bool idx_read_file(const char *path, Buffer *out, Error *err) {
  enum { CHUNK = 1 << 18 };
  gzFile f = gzopen(path, "rb");
  char *chunk = mem_alloc(CHUNK);
  bool ok = f || error_set(err, ERROR_IO, "%s: %s", path, strerror(errno));
  if (ok && !chunk) ok = error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  for (int n = 1; ok && n > 0;) {
    n = gzread(f, chunk, CHUNK);
    if (n < 0)
      ok = refuse(f, path, err);
    else
      buffer_append(out, chunk, (size_t)n);
    if (ok && out->len > IDX_MAX_BYTES)
      ok = error_set(err, ERROR_LIMIT, "%s: more than %zu bytes", path, IDX_MAX_BYTES);
    if (ok && out->failed) ok = error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  }
  if (ok) { /* a stream that was cut short ends without an error of its own */
    int code;
    gzerror(f, &code);
    if (code == Z_BUF_ERROR) ok = error_set(err, ERROR_FORMAT, "%s: the gzip data end too early", path);
  }
  if (f) gzclose(f);
  mem_free(chunk);
  return ok;
}
