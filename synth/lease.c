/* See lease.h.  All that is read and changed of a lease is read and changed under a lock of the file "lock" beside it, so
 * that of two who find it expired one takes it. */
#include "synth/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/file.h"
#include "runtime/base/memory.h"

enum { TOUCH_SECONDS = LEASE_SECONDS / 6, TRUSTED_SECONDS = LEASE_SECONDS / 2, BOOT_BYTES = 40, TOKEN_BYTES = 200 };

struct Lease {
  char path[4096], lock[4096];
  char token[TOKEN_BYTES], boot[BOOT_BYTES]; /* boot: of the running kernel, so of this machine; "" where nobody says */
  int held;                                   /* the lease, locked as long as the process lives; -1: not locked */
  pthread_t thread;
  pthread_mutex_t mutex; /* of the next three */
  pthread_cond_t wake;
  bool is_done, is_lost;
  time_t touched;        /* when it was known to be ours, CLOCK_MONOTONIC */
};

static time_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec;
}

/* ---- the lock ---- */

static const struct flock whole_file = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

/* The locked file, -1 after err was set.  Closing it unlocks. */
static int lock(const Lease *l, Error *err) {
  struct flock whole = whole_file;
  int fd = open(l->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666), locked = -1;
  while (fd >= 0 && (locked = fcntl(fd, F_OFD_SETLKW, &whole)) != 0 && errno == EINTR) {}
  if (fd >= 0 && locked == 0) return fd;
  error_set(err, ERROR_IO, "%s: %s", l->lock, strerror(errno));
  if (fd >= 0) close(fd);
  return -1;
}

/* Who says to hold it; "" where nobody does. */
static void read_token(const Lease *l, char token[TOKEN_BYTES]) {
  int fd = open(l->path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd >= 0 ? read(fd, token, TOKEN_BYTES - 1) : -1;
  if (fd >= 0) close(fd);
  token[n > 0 ? n : 0] = 0;
}

static bool is_ours(const Lease *l) {
  char token[TOKEN_BYTES];
  read_token(l, token);
  return strcmp(token, l->token) == 0;
}

/* Whether it is of a process of this machine that is no more: what that had locked is not. */
static bool is_of_the_dead(const Lease *l) {
  struct flock whole = whole_file;
  char token[TOKEN_BYTES];
  read_token(l, token);
  if (!*l->boot || !strstr(token, l->boot)) return false;
  int fd = open(l->path, O_RDWR | O_CLOEXEC);
  bool dead = fd >= 0 && fcntl(fd, F_OFD_SETLK, &whole) == 0;
  if (fd >= 0) close(fd);
  return dead;
}

/* Whether nobody touched the lease for too long, or its holder died, or there is none.  The lock is touched to learn what time
 * its file system has. */
static bool is_free(const Lease *l, int locked) {
  struct stat lease, now;
  if (stat(l->path, &lease) != 0) return errno == ENOENT;
  if (is_of_the_dead(l)) return true;
  if (futimens(locked, NULL) != 0 || fstat(locked, &now) != 0) return false;
  return now.st_mtim.tv_sec - lease.st_mtim.tv_sec > LEASE_SECONDS;
}

/* ---- keeping it ---- */

static void touch(Lease *l) {
  Error ignored;
  int fd = lock(l, &ignored);
  if (fd < 0) return;   /* a folder that is away for a while: the lease stays as old as it is */
  bool lost = !is_ours(l) || utimensat(AT_FDCWD, l->path, NULL, 0) != 0;
  close(fd);
  pthread_mutex_lock(&l->mutex);
  l->is_lost |= lost;
  l->touched = now();
  pthread_mutex_unlock(&l->mutex);
}

static void *keep(void *ctx) {
  Lease *l = ctx;
  pthread_mutex_lock(&l->mutex);
  while (!l->is_done) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += TOUCH_SECONDS;
    if (pthread_cond_timedwait(&l->wake, &l->mutex, &until) != ETIMEDOUT) continue;
    pthread_mutex_unlock(&l->mutex);
    touch(l);
    pthread_mutex_lock(&l->mutex);
  }
  pthread_mutex_unlock(&l->mutex);
  return NULL;
}

bool lease_is_held(Lease *l) {
  pthread_mutex_lock(&l->mutex);
  bool lost = l->is_lost, is_old = now() - l->touched > TRUSTED_SECONDS;
  pthread_mutex_unlock(&l->mutex);
  return is_old ? lease_renew(l) : !lost;
}

bool lease_renew(Lease *l) {
  touch(l);
  pthread_mutex_lock(&l->mutex);
  bool lost = l->is_lost;
  pthread_mutex_unlock(&l->mutex);
  return !lost;
}

/* ---- taking and giving back ---- */

static void read_boot(char boot[BOOT_BYTES]) {
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  ssize_t n = fd >= 0 ? read(fd, boot, BOOT_BYTES - 1) : -1;
  if (fd >= 0) close(fd);
  boot[n > 0 ? n : 0] = 0;
  boot[strcspn(boot, "\n")] = 0;
}

static bool set_names(Lease *l, const char *folder, Error *err) {
  uint64_t random = 0;
  char host[65] = "?";
  gethostname(host, sizeof host - 1);
  int n = snprintf(l->path, sizeof l->path, "%s/lease", folder), m = snprintf(l->lock, sizeof l->lock, "%s/lock", folder);
  if (n < 0 || m < 0 || (size_t)n >= sizeof l->path || (size_t)m >= sizeof l->lock)
    return error_set(err, ERROR_ARGUMENT, "%s: the path is too long", folder);
  if (getrandom(&random, sizeof random, 0) != sizeof random) random = (uint64_t)time(NULL);
  read_boot(l->boot);
  snprintf(l->token, sizeof l->token, "%s %ld %016" PRIx64 " %s\n", host, (long)getpid(), random, l->boot);
  return true;
}

/* Where the file system has no locks, the lease ends by its age alone. */
static void hold(Lease *l) {
  struct flock whole = whole_file;
  l->held = open(l->path, O_RDWR | O_CLOEXEC);
  if (l->held >= 0) fcntl(l->held, F_OFD_SETLK, &whole);
  l->touched = now();
}

static bool take(Lease *l, bool *is_taken, Error *err) {
  int fd = lock(l, err);
  if (fd < 0) return false;
  *is_taken = !is_free(l, fd);
  bool ok = !*is_taken && file_write_all(l->path, l->token, strlen(l->token), err);
  if (ok) hold(l);
  close(fd);
  return ok;
}

static void give_back(const Lease *l) {
  Error ignored;
  int fd = lock(l, &ignored);
  if (fd < 0) return;
  if (is_ours(l)) unlink(l->path);
  if (l->held >= 0) close(l->held);
  close(fd);
}

Lease *lease_take(const char *folder, bool *is_taken, Error *err) {
  *is_taken = false;
  Lease *l = mem_alloc(sizeof *l);
  if (!l) {
    error_set(err, ERROR_MEMORY, "out of memory");
    return NULL;
  }
  *l = (Lease){.held = -1};
  if (!set_names(l, folder, err) || !take(l, is_taken, err)) {
    mem_free(l);
    return NULL;
  }
  pthread_mutex_init(&l->mutex, NULL);
  pthread_cond_init(&l->wake, NULL);
  if (pthread_create(&l->thread, NULL, keep, l) == 0) return l;
  error_set(err, ERROR_MEMORY, "no thread to keep the lease of %s", folder);
  give_back(l);
  mem_free(l);
  return NULL;
}

void lease_release(Lease *l) {
  if (!l) return;
  pthread_mutex_lock(&l->mutex);
  l->is_done = true;
  pthread_cond_signal(&l->wake);
  pthread_mutex_unlock(&l->mutex);
  pthread_join(l->thread, NULL);
  give_back(l);
  pthread_cond_destroy(&l->wake);
  pthread_mutex_destroy(&l->mutex);
  mem_free(l);
}
