#include "autotune/store.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/file.h"
#include "tests/test.h"

static char folder[64], path[128];

static Store *open_fresh(const char *name) {
  Error err = {0};
  if (!folder[0]) {
    strcpy(folder, "/tmp/nuwa_store_XXXXXX");
    if (!mkdtemp(folder)) return NULL;
  }
  snprintf(path, sizeof path, "%s/deep/%s.sqlite", folder, name);
  return store_open(path, STORE_WAIT_MS, &err);
}

static bool holds(Store *s, const char *key, const char *want) {
  const ObjectStore *o = store_objects(s);
  Buffer got = {0};
  bool hit = o->get(o->ctx, key, &got);
  bool right = want ? hit && got.len == strlen(want) && memcmp(got.data, want, got.len) == 0 : !hit;
  buffer_done(&got);
  return right;
}

static void put(Store *s, const char *key, const char *object) {
  const ObjectStore *o = store_objects(s);
  o->put(o->ctx, key, object, strlen(object));
}

TEST("what was put is there, also after reopening, and only under its whole key") {
  Store *s = open_fresh("a");
  REQUIRE(s, "open");
  EXPECT(holds(s, "kernel a", NULL));
  put(s, "kernel a", "object");
  EXPECT(holds(s, "kernel a", "object") && holds(s, "kernel ", NULL) && holds(s, "kernel ab", NULL));
  put(s, "kernel a", "another");
  store_close(s);
  s = open_fresh("a");
  REQUIRE(s, "open");
  EXPECT(holds(s, "kernel a", "another") && !store_warning(s));
  store_close(s);
}

TEST("a damaged file is begun anew, with a warning") {
  Store *s = open_fresh("b");
  put(s, "k", "object");
  store_close(s);
  Error err = {0};
  REQUIRE(file_write_all(path, "this is no database, though it is longer than a page of one would have to be", 76, &err), "%s", err.text);
  s = open_fresh("b");
  REQUIRE(s, "open");
  REQUIRE(store_warning(s), "no warning");
  EXPECT_HAS(store_warning(s), "damaged");
  EXPECT(holds(s, "k", NULL));
  put(s, "k", "new");
  EXPECT(holds(s, "k", "new"));
  store_close(s);
}

TEST("damage in the middle gives misses or an error, never a wrong object") {
  Store *s = open_fresh("c");
  char key[32], object[2000];
  memset(object, 'x', sizeof object);
  for (int i = 0; i < 50; i++) {
    snprintf(key, sizeof key, "key %d", i);
    snprintf(object, sizeof object, "object %d", i);
    const ObjectStore *o = store_objects(s);
    o->put(o->ctx, key, object, sizeof object);
  }
  store_close(s);
  size_t n;
  Error err = {0};
  char *bytes = file_read(path, &n, &err);
  REQUIRE(bytes, "%s", err.text);
  for (size_t i = 4096; i < n; i += 97) bytes[i] ^= 0x55;
  REQUIRE(file_write_all(path, bytes, n, &err), "%s", err.text);
  mem_free(bytes);
  s = open_fresh("c");
  for (int i = 0; s && i < 50; i++) {
    const ObjectStore *o = store_objects(s);
    Buffer got = {0};
    snprintf(key, sizeof key, "key %d", i);
    EXPECT(!o->get(o->ctx, key, &got), "a damaged object was taken");
    buffer_done(&got);
  }
  store_close(s);
}

TEST("a place that cannot be written is an error, not a crash") {
  Error err = {0};
  EXPECT(!store_open("/proc/nowhere/x.sqlite", STORE_WAIT_MS, &err));
  EXPECT_HAS(err.text, "/proc/nowhere");
  EXPECT(store_objects(NULL) == NULL);
  store_close(NULL);
}

TEST("several processes share one store") {
  store_close(open_fresh("d"));
  for (int child = 0; child < 4; child++)
    if (fork() == 0) {
      Store *s = open_fresh("d");
      bool ok = s != NULL;
      for (int i = 0; ok && i < 60; i++) {
        char key[32];
        snprintf(key, sizeof key, "%d", i);
        put(s, key, key);
        ok = holds(s, key, key);
      }
      ok = ok && !store_warning(s);
      store_close(s);
      _exit(!ok);
    }
  for (int child = 0; child < 4; child++) {
    int status = 1;
    wait(&status);
    EXPECT(status == 0, "a process failed");
  }
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Somebody who has the store for himself. */
static sqlite3 *lock_store(void) {
  sqlite3 *db;
  if (sqlite3_open(path, &db) == SQLITE_OK && sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK)
    return db;
  abort();
}

TEST("a lock that stays costs one wait in all, and is told once") {
  Error err = {0};
  Store *s = open_fresh("e");
  put(s, "k", "object");
  store_close(s);
  s = store_open(path, 200, &err);
  REQUIRE(s, "%s", err.text);
  EXPECT(holds(s, "k", "object"));
  sqlite3 *other = lock_store();
  double from = seconds();
  for (int i = 0; i < 50; i++) {
    EXPECT(holds(s, "k", NULL), "an object from behind a lock");
    put(s, "another", "object");
  }
  double spent = seconds() - from;   /* 100 waits would be 20 s */
  EXPECT(spent > 0.15 && spent < 5, "%g s", spent);
  REQUIRE(store_warning(s), "no warning");
  EXPECT_HAS(store_warning(s), "database is locked; kernels are not kept");
  sqlite3_close(other);
  EXPECT(holds(s, "k", NULL), "used again");
  store_close(s);
  s = open_fresh("e");
  EXPECT(s && holds(s, "k", "object") && holds(s, "another", NULL) && !store_warning(s));
  store_close(s);
}

TEST("a store that is locked from the start is done without after one wait") {
  store_close(open_fresh("f"));
  Error err = {0};
  sqlite3 *other = lock_store();
  double from = seconds();
  EXPECT(!store_open(path, 100, &err));
  EXPECT(seconds() - from < 5, "%g s", seconds() - from);
  EXPECT_HAS(err.text, "cannot be used: database is locked");
  sqlite3_close(other);
}

TEST("a lock that ends in time is waited for") {
  Error err = {0};
  Store *s = open_fresh("g");
  put(s, "k", "object");
  store_close(s);
  s = store_open(path, 60000, &err);
  int ready[2];
  char c;
  REQUIRE(s && pipe(ready) == 0, "open");
  if (fork() == 0) {
    sqlite3 *other = lock_store();
    if (write(ready[1], "", 1) != 1) _exit(1);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    sqlite3_close(other);
    _exit(0);
  }
  REQUIRE(read(ready[0], &c, 1) == 1, "pipe");
  EXPECT(holds(s, "k", "object") && !store_warning(s));
  close(ready[0]);
  close(ready[1]);
  wait(NULL);
  store_close(s);
}

TEST("the folder of this test goes away") {
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", folder);
  EXPECT(folder[0] && system(command) == 0);
}

TEST_MAIN()
