/* Files: whole reads, read-only maps, and writes that never leave half a file behind. */
#ifndef NUWA_FILE_H
#define NUWA_FILE_H

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

/* The whole file, heap-allocated and NUL-terminated (the NUL is not in *out_len).  Free with mem_free. */
char *file_read(const char *path, size_t *out_len, Error *err);

typedef struct FileMap {
  const uint8_t *data;   /* NULL when len is 0 */
  size_t len;
} FileMap;
bool file_map(const char *path, FileMap *out, Error *err);
void file_unmap(FileMap *m);

/* A file that appears under its name only when file_commit succeeds (temporary name beside it, flush, fsync,
 * rename).  file_abort (also after a failed write) leaves nothing.  Both free w. */
typedef struct FileWriter FileWriter;
FileWriter *file_create(const char *path, Error *err);
bool file_write(FileWriter *w, const void *bytes, size_t n, Error *err);
bool file_commit(FileWriter *w, Error *err);
void file_abort(FileWriter *w);

/* Create, write, commit. */
bool file_write_all(const char *path, const void *bytes, size_t n, Error *err);

#endif
