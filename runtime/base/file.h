/* Files: whole reads, read-only maps, and writes that never leave half a file behind. */
#ifndef NUWA_FILE_H
#define NUWA_FILE_H

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

/* The whole file, heap-allocated and NUL-terminated (the NUL is not in *out_len).  Free with mem_free.  "-" is standard
 * input, here and in file_map; of what is no regular file at most 1 GiB is read. */
char *file_read(const char *path, size_t *out_len, Error *err);

typedef struct FileMap {
  const uint8_t *data;   /* NULL when len is 0 and it is mapped */
  size_t len;
  bool is_copy;          /* on the heap, as of a pipe or device */
} FileMap;
bool file_map(const char *path, FileMap *out, Error *err);
/* As file_map, but a copy: of what others may cut short while it is used, which would end a program that has it mapped.  At most
 * 1 GiB. */
bool file_load(const char *path, FileMap *out, Error *err);
void file_unmap(FileMap *m);

/* A file that appears under its name only when file_commit succeeds: without a name or under a temporary one until
 * then, flushed, synced, linked or renamed.  file_abort (also after a failed write) leaves nothing, a killed process
 * at most a temporary file that the next writer of the same name removes.  Both free w.
 *
 * Symbolic links are followed, also to what does not exist yet; a file that is replaced keeps its mode, and its owner
 * where we may give files away.  What is no regular file (a pipe, /dev/null) is written as it stands, from the first
 * write on, and so are "-", /dev/stdout and /dev/fd/N through the descriptor that is open. */
typedef struct FileWriter FileWriter;
FileWriter *file_create(const char *path, Error *err);
bool file_write(FileWriter *w, const void *bytes, size_t n, Error *err);
bool file_commit(FileWriter *w, Error *err);
void file_abort(FileWriter *w);

/* Does writing `path` pass the bytes on as they come ("-", a pipe, a device)?  Then the suffix of its name says
 * nothing, and it can be written only once. */
bool file_is_stream(const char *path);
/* Whether a name ends in these characters, in small letters or large, and has others before. */
bool file_has_ending(const char *path, const char *ending);

/* Makes the folders of path, which is what stands before its last slash, where they are not there. */
bool file_make_folders(const char *path, Error *err);

/* Create, write, commit. */
bool file_write_all(const char *path, const void *bytes, size_t n, Error *err);

#endif
