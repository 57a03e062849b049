/* Reading files through POSIX calls.  A map shows the file as it is: whoever shortens a mapped file ends the program,
 * so our own writers (file_write.c) always replace files by renaming. */
#include "runtime/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool file_failed(const char *doing, const char *path, Error *err) {
  return error_set(err, ERROR_IO, "cannot %s %s: %s", doing, path, strerror(errno));
}

/* What comes through pipes and devices has no size, and /dev/zero no end. */
static const size_t stream_max = (size_t)1 << 30;

static int file_open(const char *path, struct stat *st, Error *err) {
  int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return file_failed("open", path, err), -1;
  if (fstat(fd, st) < 0) file_failed("read", path, err);
  else if (S_ISDIR(st->st_mode)) error_set(err, ERROR_IO, "cannot read %s: it is a directory", path);
  else return fd;
  close(fd);
  return -1;
}

/* Reads to the end, whatever fstat said: a pipe has no size, and a file may grow. */
static bool file_read_fd(int fd, const char *path, const struct stat *st, Buffer *b, Error *err) {
  bool is_stream = !S_ISREG(st->st_mode);
  size_t chunk = (is_stream ? 4095 : (size_t)st->st_size) + 1;
  for (;;) {
    size_t cap;
    if (is_stream && b->len > stream_max)
      return error_set(err, ERROR_LIMIT, "cannot read %s: no end after 1 GiB, and it is not a regular file", path);
    if (!size_add(b->len, chunk, &cap) || !size_add(cap, 1, &cap))
      return error_set(err, ERROR_MEMORY, "cannot read %s: it does not fit into memory", path);
    if (cap > b->cap) {
      char *data = mem_realloc(b->data, cap);
      if (!data) return error_set(err, ERROR_MEMORY, "out of memory while reading %s (%zu bytes)", path, cap);
      b->data = data;
      b->cap = cap;
    }
    ssize_t got = read(fd, b->data + b->len, b->cap - b->len - 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_failed("read", path, err);
    b->len += (size_t)got;
    b->data[b->len] = 0;
    if (got == 0) return true;
    chunk = b->len + 1 < b->cap ? 1 : b->len < 4096 ? 4096 : b->len;
  }
}

char *file_read(const char *path, size_t *out_len, Error *err) {
  struct stat st;
  int fd = file_open(path, &st, err);
  if (fd < 0) return NULL;
  Buffer b = {0};
  bool ok = file_read_fd(fd, path, &st, &b, err);
  close(fd);
  if (!ok) {
    buffer_done(&b);
    return NULL;
  }
  *out_len = b.len;
  return b.data;
}

bool file_map(const char *path, FileMap *out, Error *err) {
  struct stat st;
  int fd = file_open(path, &st, err);
  if (fd < 0) return false;
  bool ok = true;
  *out = (FileMap){0};
  if (!S_ISREG(st.st_mode) || lseek(fd, 0, SEEK_CUR) > 0) { /* a part of standard input may have been read before */
    Buffer b = {0};
    ok = file_read_fd(fd, path, &st, &b, err);
    if (ok) *out = (FileMap){.data = (const uint8_t *)b.data, .len = b.len, .is_copy = true};
    else buffer_done(&b);
  } else if (st.st_size > 0) {
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) ok = file_failed("map", path, err);
    else *out = (FileMap){.data = p, .len = (size_t)st.st_size};
  }
  close(fd);
  return ok;
}

bool file_load(const char *path, FileMap *out, Error *err) {
  struct stat st;
  int fd = file_open(path, &st, err);
  if (fd < 0) return false;
  Buffer b = {0};
  bool fits = !S_ISREG(st.st_mode) || st.st_size <= (off_t)stream_max;
  bool ok = fits ? file_read_fd(fd, path, &st, &b, err)
                 : error_set(err, ERROR_LIMIT,
                             "cannot read %s: it has %lld bytes, and more than 1 GiB is not expected here", path,
                             (long long)st.st_size);
  close(fd);
  if (ok) *out = (FileMap){.data = (const uint8_t *)b.data, .len = b.len, .is_copy = true};
  else buffer_done(&b);
  return ok;
}

void file_unmap(FileMap *m) {
  if (m->is_copy) mem_free((void *)(uintptr_t)m->data);
  else if (m->data) munmap((void *)(uintptr_t)m->data, m->len);
  *m = (FileMap){0};
}
