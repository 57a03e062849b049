/* Files through POSIX calls.  A map shows the file as it is: whoever shortens a mapped file ends the program, so
 * our own writers always replace files by renaming. */
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

static int file_open(const char *path, struct stat *st, Error *err) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return file_failed("open", path, err), -1;
  if (fstat(fd, st) < 0) file_failed("read", path, err);
  else if (S_ISDIR(st->st_mode)) error_set(err, ERROR_IO, "cannot read %s: it is a directory", path);
  else return fd;
  close(fd);
  return -1;
}

/* Reads to the end, whatever fstat said: a pipe has no size, and a file may grow. */
static bool file_read_fd(int fd, const char *path, size_t hint, Buffer *b, Error *err) {
  size_t chunk = hint + 1;
  for (;;) {
    size_t cap;
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
  bool ok = file_read_fd(fd, path, S_ISREG(st.st_mode) ? (size_t)st.st_size : 4095, &b, err);
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
  if (!S_ISREG(st.st_mode)) {
    ok = error_set(err, ERROR_IO, "cannot map %s: it is not a regular file", path);
  } else if (st.st_size > 0) {
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) ok = file_failed("map", path, err);
    else *out = (FileMap){.data = p, .len = (size_t)st.st_size};
  }
  close(fd);
  return ok;
}

void file_unmap(FileMap *m) {
  if (m->data) munmap((void *)(uintptr_t)m->data, m->len);
  *m = (FileMap){0};
}

struct FileWriter {
  FILE *out;
  bool failed;
  char *temp; /* the name it has until file_commit, `path` with a suffix */
  char *path;
};

/* A new file beside `path`.  O_EXCL and not mkstemp, so that the umask decides the mode. */
static int file_open_temp(const char *path, char *temp, size_t cap) {
  for (int i = 0; i < 1000; i++) {
    snprintf(temp, cap, "%s.tmp-%ld-%d", path, (long)getpid(), i);
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

FileWriter *file_create(const char *path, Error *err) {
  struct stat st;
  if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
    error_set(err, ERROR_IO, "cannot write %s: it exists and is not a regular file", path);
    return NULL;
  }
  size_t len = strlen(path) + 1, temp_cap = len + 40;
  FileWriter *w = mem_alloc(sizeof *w + len + temp_cap);
  if (!w) {
    error_set(err, ERROR_MEMORY, "out of memory while creating %s", path);
    return NULL;
  }
  w->path = memcpy((char *)(w + 1), path, len);
  w->temp = w->path + len;
  int fd = file_open_temp(path, w->temp, temp_cap);
  w->out = fd < 0 ? NULL : fdopen(fd, "wb");
  if (w->out) return w;
  file_failed("create", path, err);
  if (fd >= 0) {
    close(fd);
    unlink(w->temp);
  }
  mem_free(w);
  return NULL;
}

bool file_write(FileWriter *w, const void *bytes, size_t n, Error *err) {
  if (n == 0 || (!w->failed && fwrite(bytes, 1, n, w->out) == n)) return true;
  w->failed = true;
  return file_failed("write", w->path, err);
}

/* A rename is on disk only when its folder is.  Some file systems cannot sync a folder; the file is whole anyway. */
static void file_sync_folder(char *temp) {
  char *slash = strrchr(temp, '/');
  if (slash) slash[slash == temp] = 0;
  int fd = open(slash ? temp : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)!fsync(fd);
  close(fd);
}

bool file_commit(FileWriter *w, Error *err) {
  if (w->failed) {
    error_set(err, ERROR_IO, "cannot write %s: an earlier write failed", w->path);
    file_abort(w);
    return false;
  }
  bool ok = fflush(w->out) == 0 && fsync(fileno(w->out)) == 0;
  if (!ok) file_failed("write", w->path, err);
  if (fclose(w->out) != 0 && ok) ok = file_failed("write", w->path, err);
  if (ok && rename(w->temp, w->path) < 0) ok = file_failed("replace", w->path, err);
  if (ok) file_sync_folder(w->temp);
  else unlink(w->temp);
  mem_free(w);
  return ok;
}

void file_abort(FileWriter *w) {
  fclose(w->out);
  unlink(w->temp);
  mem_free(w);
}

bool file_write_all(const char *path, const void *bytes, size_t n, Error *err) {
  FileWriter *w = file_create(path, err);
  if (!w) return false;
  if (file_write(w, bytes, n, err)) return file_commit(w, err);
  file_abort(w);
  return false;
}
