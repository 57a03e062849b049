/* Writing files so that a name never stands for half a file.
 *
 * The bytes go to a file without a name (O_TMPFILE) where the file system has such, so that a process killed while it
 * writes leaves nothing; a name that does not exist yet is then linked to it.  What replaces a file needs a temporary
 * name, for the instant before the rename; where there are no nameless files, from the beginning.  Whoever writes to
 * a temporary file holds a lock on it (flock), which ends with the process: one that can be locked was left by a
 * process that was killed, on whatever machine or in whatever container, and is removed. */
#include "runtime/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINKS = 40, TEMP_NAMES = 64, TEMP_BASE_BYTES = 200 };

struct FileWriter {
  FILE *out;                  /* NULL: a pipe or device that the first write opens */
  bool failed, is_stream, has_temp;
  char *path;                 /* as the caller says, for messages */
  char target[PATH_MAX];      /* links followed */
  char folder[PATH_MAX];      /* of target */
  char temp[PATH_MAX];        /* a temporary name, when has_temp */
};

static bool write_failed(const char *doing, const char *path, Error *err) {
  return error_set(err, ERROR_IO, "cannot %s %s: %s", doing, path, strerror(errno));
}

/* The open descriptor that the path means, or -1. */
static int path_descriptor(const char *path) {
  static const char *const folder[] = {"/dev/fd/", "/proc/self/fd/"};
  if (!strcmp(path, "-") || !strcmp(path, "/dev/stdout")) return STDOUT_FILENO;
  if (!strcmp(path, "/dev/stderr")) return STDERR_FILENO;
  for (int i = 0; i < COUNT_OF(folder); i++) {
    size_t n = strlen(folder[i]);
    if (strncmp(path, folder[i], n) || path[n] < '0' || path[n] > '9') continue;
    char *end;
    long fd = strtol(path + n, &end, 10);
    if (!*end && fd <= INT_MAX) return (int)fd;
  }
  return -1;
}

/* The folder of a path, "." when it names none. */
static void path_folder(const char *path, char out[PATH_MAX]) {
  const char *slash = strrchr(path, '/');
  size_t n = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
  snprintf(out, PATH_MAX, "%.*s", slash ? (int)n : 1, slash ? path : ".");
}

/* Follows symbolic links, the last of which may lead to nothing, up to a descriptor or a path that is no link.  False
 * with errno. */
static bool path_resolve(const char *path, char out[PATH_MAX], int *out_descriptor) {
  char link[PATH_MAX], folder[PATH_MAX];
  errno = ENAMETOOLONG;
  if ((size_t)snprintf(out, PATH_MAX, "%s", path) >= PATH_MAX) return false;
  for (int i = 0; i < MAX_LINKS; i++) {
    if ((*out_descriptor = path_descriptor(out)) >= 0) return true;
    ssize_t n = readlink(out, link, sizeof link - 1);
    if (n < 0) return true; /* no link, or nothing there */
    link[n] = 0;
    path_folder(out, folder);
    int total = link[0] == '/' ? snprintf(out, PATH_MAX, "%s", link)
                               : snprintf(out, PATH_MAX, "%s/%s", folder, link);
    errno = ENAMETOOLONG;
    if (total >= PATH_MAX) return false;
  }
  errno = ELOOP;
  return false;
}

bool file_has_ending(const char *path, const char *ending) {
  size_t n = strlen(path), m = strlen(ending);
  return n > m && strcasecmp(path + n - m, ending) == 0;
}

bool file_is_stream(const char *path) {
  char target[PATH_MAX];
  int descriptor;
  struct stat st;
  if (!path_resolve(path, target, &descriptor)) return false;
  return descriptor >= 0 || (stat(target, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode));
}

/* ---- temporary names ---- */

/* The i-th temporary name; false when it is too long. */
static bool temp_name(FileWriter *w, int i) {
  const char *slash = strrchr(w->target, '/'), *base = slash ? slash + 1 : w->target;
  int n = snprintf(w->temp, sizeof w->temp, "%.*s%.*s.nuwa-tmp-%d", (int)(base - w->target), w->target,
                   TEMP_BASE_BYTES, base, i);
  if (n < (int)sizeof w->temp) return true;
  errno = ENAMETOOLONG;
  return false;
}

static bool is_still_named(int fd, const char *name) {
  struct stat a, b;
  return fstat(fd, &a) == 0 && lstat(name, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Removes what killed writers of the same target left. */
static void remove_stale(FileWriter *w) {
  for (int i = 0; i < TEMP_NAMES && temp_name(w, i); i++) {
    int fd = open(w->temp, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) continue;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_still_named(fd, w->temp)) unlink(w->temp);
    close(fd);
  }
}

/* A new named file, locked.  Another writer that looks for stale files may lock and remove it before we can. */
static int open_named(FileWriter *w, mode_t mode) {
  for (int i = 0; i < TEMP_NAMES; i++) {
    if (!temp_name(w, i)) return -1;
    int fd = open(w->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno != EEXIST) return -1;
    if (fd < 0) continue;
    bool is_ours = flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    if (is_ours && is_still_named(fd, w->temp)) return w->has_temp = true, fd;
    close(fd);
  }
  errno = EEXIST;
  return -1;
}

static void descriptor_path(int fd, char out[40]) { snprintf(out, 40, "/proc/self/fd/%d", fd); }

/* A new file without a name, locked; -1 where there are none, or no way to give it a name later. */
static int open_nameless(const FileWriter *w, mode_t mode) {
#ifdef O_TMPFILE
  char path[40];
  int fd = open(w->folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, mode);
  if (fd < 0) return -1;
  descriptor_path(fd, path);
  if (access(path, F_OK) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  close(fd);
#endif
  return -1;
}

/* ---- opening ---- */

/* A new file in the folder of the target; one that will replace a file (`old`) is never more open than that. */
static bool open_replacement(FileWriter *w, const struct stat *old, Error *err) {
  if (old && faccessat(AT_FDCWD, w->target, W_OK, AT_EACCESS) < 0) return write_failed("write", w->path, err);
  mode_t mode = old ? 0600 : 0666;
  remove_stale(w);
  int fd = open_nameless(w, mode);
  if (fd < 0) fd = open_named(w, mode);
  if (fd < 0)
    return error_set(err, ERROR_IO, "cannot create %s: folder %s: %s", w->path, w->folder, strerror(errno));
  if (old) {
    if (fchown(fd, old->st_uid, old->st_gid) < 0) (void)!fchown(fd, (uid_t)-1, old->st_gid);
    (void)!fchmod(fd, old->st_mode & 0777);
  }
  if ((w->out = fdopen(fd, "wb"))) return true;
  write_failed("create", w->path, err);
  close(fd);
  return false;
}

static bool open_descriptor(FileWriter *w, int descriptor, Error *err) {
  int flags = fcntl(descriptor, F_GETFL);
  if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY)
    return error_set(err, ERROR_IO, "cannot write %s: it is open for reading only", w->path);
  if (descriptor == STDOUT_FILENO) fflush(stdout); /* what was printed before comes before */
  int fd = flags < 0 ? -1 : fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (fd >= 0 && (w->out = fdopen(fd, "wb"))) return true;
  write_failed("write", w->path, err);
  if (fd >= 0) close(fd);
  return false;
}

static bool writer_open(FileWriter *w, Error *err) {
  int descriptor;
  struct stat st;
  if (!path_resolve(w->path, w->target, &descriptor)) return write_failed("write", w->path, err);
  path_folder(w->target, w->folder);
  w->is_stream = descriptor >= 0;
  if (w->is_stream) return open_descriptor(w, descriptor, err);
  if (stat(w->target, &st) < 0) return open_replacement(w, NULL, err);
  if (S_ISREG(st.st_mode)) return open_replacement(w, &st, err);
  if (S_ISDIR(st.st_mode)) return error_set(err, ERROR_IO, "cannot write %s: it is a directory", w->path);
  w->is_stream = S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode);
  if (!w->is_stream)
    return error_set(err, ERROR_IO, "cannot write %s: it is neither a file nor a pipe nor a character device", w->path);
  return faccessat(AT_FDCWD, w->target, W_OK, AT_EACCESS) == 0 || write_failed("write", w->path, err);
}

FileWriter *file_create(const char *path, Error *err) {
  size_t len = strlen(path) + 1;
  FileWriter *w = mem_alloc(sizeof *w + len);
  if (!w) {
    error_set(err, ERROR_MEMORY, "out of memory while creating %s", path);
    return NULL;
  }
  *w = (FileWriter){.path = memcpy((char *)(w + 1), path, len)};
  if (writer_open(w, err)) return w;
  file_abort(w);
  return NULL;
}

/* Opens a pipe or a device, which whoever only asks whether a file can be written must not do. */
static bool open_stream(FileWriter *w) {
  if (w->out) return true;
  int fd = open(w->target, O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return false;
  if ((w->out = fdopen(fd, "wb"))) return true;
  close(fd);
  return false;
}

/* ---- writing ---- */

bool file_write(FileWriter *w, const void *bytes, size_t n, Error *err) {
  if (n == 0 || (!w->failed && open_stream(w) && fwrite(bytes, 1, n, w->out) == n)) return true;
  w->failed = true;
  return write_failed("write", w->path, err);
}

/* A rename is on disk only when its folder is.  Some file systems cannot sync a folder; the file is whole anyway. */
static void sync_folder(const char *folder) {
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)!fsync(fd);
  close(fd);
}

/* A temporary name for the file without one, whose lock is held already. */
static bool name_replacement(FileWriter *w, const char *descriptor) {
  for (int i = 0; i < TEMP_NAMES; i++) {
    if (!temp_name(w, i)) return false;
    w->has_temp = linkat(AT_FDCWD, descriptor, AT_FDCWD, w->temp, AT_SYMLINK_FOLLOW) == 0;
    if (w->has_temp || errno != EEXIST) return w->has_temp;
  }
  return false;
}

/* Gives the written file its name. */
static bool publish(FileWriter *w, Error *err) {
  char descriptor[40];
  descriptor_path(fileno(w->out), descriptor);
  if (!w->has_temp && linkat(AT_FDCWD, descriptor, AT_FDCWD, w->target, AT_SYMLINK_FOLLOW) == 0) return true;
  if (!w->has_temp && errno != EEXIST) return write_failed("create", w->path, err);
  if (!w->has_temp && !name_replacement(w, descriptor)) return write_failed("create", w->path, err);
  if (rename(w->temp, w->target) < 0) return write_failed("replace", w->path, err);
  w->has_temp = false;
  return true;
}

bool file_commit(FileWriter *w, Error *err) {
  bool ok = !w->failed || error_set(err, ERROR_IO, "cannot write %s: an earlier write failed", w->path);
  ok = ok && ((open_stream(w) && fflush(w->out) == 0 && (w->is_stream || fsync(fileno(w->out)) == 0)) ||
              write_failed("write", w->path, err));
  ok = ok && (w->is_stream || publish(w, err));
  if (ok && !w->is_stream) sync_folder(w->folder);
  if (ok && w->is_stream) {
    ok = fclose(w->out) == 0 || write_failed("write", w->path, err);
    w->out = NULL;
  }
  file_abort(w);
  return ok;
}

void file_abort(FileWriter *w) {
  if (w->has_temp) unlink(w->temp);
  if (w->out) fclose(w->out);
  mem_free(w);
}

bool file_write_all(const char *path, const void *bytes, size_t n, Error *err) {
  FileWriter *w = file_create(path, err);
  if (!w) return false;
  if (file_write(w, bytes, n, err)) return file_commit(w, err);
  file_abort(w);
  return false;
}

bool file_make_folders(const char *path, Error *err) {
  char folder[PATH_MAX];
  if ((size_t)snprintf(folder, sizeof folder, "%s", path) >= sizeof folder)
    return error_set(err, ERROR_LIMIT, "%s: too long a path", path);
  for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
      return error_set(err, ERROR_IO, "cannot make folder %s: %s", folder, strerror(errno));
    *slash = '/';
  }
  return true;
}
