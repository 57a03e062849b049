/* Compiled kernels in one table: digest of the key (the index), the whole key, the object, when it was last used.
 *
 * Several processes may use the file at once: every access is one short statement under SQLite's own locks.  The journal
 * is the plain rollback one, because WAL needs shared memory, which network file systems lack.  Losing an entry costs a
 * compilation, so nothing waits for the disk (synchronous = OFF), and a file that turns out damaged is deleted. */
#include "autotune/store.h"

#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/file.h"
#include "runtime/base/sha256.h"

enum { NAP_MS = 10, DIGEST = 32, PUTS_BETWEEN_SWEEPS = 64 };
static const int64_t STORE_MAX_BYTES = (int64_t)256 << 20;

struct Store {
  sqlite3 *db;
  sqlite3_stmt *get, *put, *touch;
  char *path;
  int64_t wait_ns;     /* that may still be waited for locks */
  ObjectStore objects;
  int puts;            /* since the size was last looked at */
  bool broken;         /* gave an error: no longer used */
  char warning[400];
};

static const char schema[] =
    "PRAGMA journal_mode = DELETE;"
    "PRAGMA synchronous = OFF;"
    "CREATE TABLE IF NOT EXISTS kernel ("
    " digest BLOB NOT NULL, key TEXT NOT NULL, object BLOB NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (digest));"
    "CREATE INDEX IF NOT EXISTS kernel_used ON kernel (used);";

/* ---- the file ---- */

static bool prepare(Store *s) {
  static const char get[] = "SELECT key, object FROM kernel WHERE digest = ?1";
  static const char put[] = "INSERT OR REPLACE INTO kernel (digest, key, object, used) VALUES (?1, ?2, ?3, ?4)";
  static const char touch[] = "UPDATE kernel SET used = ?2 WHERE digest = ?1 AND used < ?2 - 3600";
  return sqlite3_exec(s->db, schema, NULL, NULL, NULL) == SQLITE_OK &&
         sqlite3_prepare_v2(s->db, get, -1, &s->get, NULL) == SQLITE_OK &&
         sqlite3_prepare_v2(s->db, put, -1, &s->put, NULL) == SQLITE_OK &&
         sqlite3_prepare_v2(s->db, touch, -1, &s->touch, NULL) == SQLITE_OK;
}

static void disconnect(Store *s) {
  sqlite3_finalize(s->get);
  sqlite3_finalize(s->put);
  sqlite3_finalize(s->touch);
  sqlite3_close(s->db);
  s->get = s->put = s->touch = NULL;
  s->db = NULL;
}

static bool is_damage(int code) { return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB; }

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* SQLite's question whether to try once more, as long as there is time left. */
static int wait_a_little(void *ctx, int tries) {
  Store *s = ctx;
  if (s->wait_ns <= 0) return 0;
  int64_t from = now_ns();
  nanosleep(&(struct timespec){.tv_nsec = NAP_MS * 1000000}, NULL);
  s->wait_ns -= now_ns() - from;
  return 1;
}

/* The SQLite code; SQLITE_OK when ready for use. */
static int connect(Store *s) {
  int code = sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
  if (code == SQLITE_OK) sqlite3_busy_handler(s->db, wait_a_little, s);
  if (code == SQLITE_OK && prepare(s)) return SQLITE_OK;
  return code != SQLITE_OK ? code : sqlite3_errcode(s->db) == SQLITE_OK ? SQLITE_ERROR : sqlite3_errcode(s->db);
}

/* Somebody else's table of this name, or a truncated file, is damage as well. */
static bool open_file(Store *s, Error *err) {
  int code = connect(s);
  if (code == SQLITE_OK) return true;
  char why[200];
  snprintf(why, sizeof why, "%s", s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(code));
  bool damaged = is_damage(code) || (code & 0xff) == SQLITE_ERROR;
  disconnect(s);
  if (damaged && unlink(s->path) == 0) {
    snprintf(s->warning, sizeof s->warning, "kernel store %s was damaged (%s) and is begun anew", s->path, why);
    if (connect(s) == SQLITE_OK) return true;
    disconnect(s);
  }
  return error_set(err, ERROR_IO, "kernel store %s cannot be used: %s", s->path, why);
}

/* ---- entries ---- */

/* The first error puts the store out of use, and so does a lock once the time to wait is over; a damaged file goes, so
 * that the next run has a good one. */
static void note_result(Store *s, int code) {
  bool is_fine = code == SQLITE_ROW || code == SQLITE_DONE || (code == SQLITE_BUSY && s->wait_ns > 0);
  if (is_fine || s->broken) return;
  s->broken = true;
  snprintf(s->warning, sizeof s->warning, "kernel store %s: %s; kernels are not kept", s->path, sqlite3_errmsg(s->db));
  if (is_damage(code)) unlink(s->path);
}

static void bind_digest(sqlite3_stmt *q, const char *key, uint8_t digest[DIGEST]) {
  sha256(key, strlen(key), digest);
  sqlite3_bind_blob(q, 1, digest, DIGEST, SQLITE_STATIC);
}

static void touch(Store *s, const uint8_t digest[DIGEST]) {
  sqlite3_bind_blob(s->touch, 1, digest, DIGEST, SQLITE_STATIC);
  sqlite3_bind_int64(s->touch, 2, (int64_t)time(NULL));
  note_result(s, sqlite3_step(s->touch));   /* a use that is not noted costs nothing */
  sqlite3_reset(s->touch);
}

/* An object is kept with its own digest behind it: SQLite notices damage to its tree, not to the bytes in it, and these
 * bytes will be executed. */
static bool read_object(const uint8_t *stored, int bytes, Buffer *out) {
  uint8_t digest[DIGEST];
  if (!stored || bytes <= DIGEST) return false;
  size_t n = (size_t)bytes - DIGEST;
  sha256(stored, n, digest);
  if (memcmp(digest, stored + n, DIGEST) != 0) return false;
  buffer_append(out, stored, n);
  return true;
}

static bool store_get(void *ctx, const char *key, Buffer *out) {
  Store *s = ctx;
  if (s->broken) return false;
  uint8_t digest[DIGEST];
  bind_digest(s->get, key, digest);
  int code = sqlite3_step(s->get);
  bool hit = code == SQLITE_ROW && sqlite3_column_type(s->get, 0) == SQLITE_TEXT &&
             strcmp((const char *)sqlite3_column_text(s->get, 0), key) == 0 &&
             read_object(sqlite3_column_blob(s->get, 1), sqlite3_column_bytes(s->get, 1), out);
  note_result(s, code);
  sqlite3_reset(s->get);
  if (hit && out->failed) {
    buffer_done(out);
    return false;
  }
  if (hit) touch(s, digest);
  return hit;
}

/* Drops the entries that were used longest ago until the rest is three quarters of the limit. */
static void sweep(Store *s) {
  static const char drop[] =
      "DELETE FROM kernel WHERE digest IN (SELECT digest FROM (SELECT digest, SUM(LENGTH(object) + LENGTH(key)) OVER "
      "(ORDER BY used DESC, digest) AS total FROM kernel) WHERE total > ?1)";
  struct stat st;
  s->puts = 0;
  if (stat(s->path, &st) != 0 || st.st_size <= STORE_MAX_BYTES) return;
  sqlite3_stmt *q = NULL;
  if (sqlite3_prepare_v2(s->db, drop, -1, &q, NULL) == SQLITE_OK) {
    sqlite3_bind_int64(q, 1, STORE_MAX_BYTES / 4 * 3);
    sqlite3_step(q);
  }
  sqlite3_finalize(q);
  sqlite3_exec(s->db, "VACUUM", NULL, NULL, NULL);
}

static void store_put(void *ctx, const char *key, const void *bytes, size_t n) {
  Store *s = ctx;
  if (s->broken || n == 0 || n > (size_t)STORE_MAX_BYTES / 4) return;
  uint8_t digest[DIGEST], check[DIGEST];
  Buffer object = {0};
  sha256(bytes, n, check);
  buffer_append(&object, bytes, n);
  buffer_append(&object, check, sizeof check);
  if (object.failed) {
    buffer_done(&object);
    return;
  }
  bind_digest(s->put, key, digest);
  sqlite3_bind_text(s->put, 2, key, -1, SQLITE_STATIC);
  sqlite3_bind_blob(s->put, 3, object.data, (int)object.len, SQLITE_STATIC);
  sqlite3_bind_int64(s->put, 4, (int64_t)time(NULL));
  note_result(s, sqlite3_step(s->put));
  sqlite3_reset(s->put);
  sqlite3_clear_bindings(s->put);
  buffer_done(&object);
  if (!s->broken && ++s->puts >= PUTS_BETWEEN_SWEEPS) sweep(s);
}

/* ---- the store ---- */

Store *store_open(const char *path, int wait_ms, Error *err) {
  Store *s = mem_alloc(sizeof *s);
  Buffer copy = {0};
  buffer_printf(&copy, "%s", path);
  if (!s || !copy.data || copy.failed) {
    buffer_done(&copy);
    mem_free(s);
    error_set(err, ERROR_MEMORY, "kernel store %s: out of memory; kernels are not kept", path);
    return NULL;
  }
  s->path = copy.data;
  s->wait_ns = (int64_t)wait_ms * 1000000;
  s->objects = (ObjectStore){store_get, store_put, s};
  if (file_make_folders(s->path, err) && open_file(s, err)) return s;
  store_close(s);
  return NULL;
}

const char *store_warning(const Store *s) { return s && s->warning[0] ? s->warning : NULL; }

void store_close(Store *s) {
  if (!s) return;
  if (s->db && !s->broken) sweep(s);
  disconnect(s);
  mem_free(s->path);
  mem_free(s);
}

const ObjectStore *store_objects(Store *s) { return s ? &s->objects : NULL; }
