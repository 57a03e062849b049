#include "autotune/store.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
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
  return store_open(path, &err);
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
  EXPECT(!store_open("/proc/nowhere/x.sqlite", &err));
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

TEST("the folder of this test goes away") {
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", folder);
  EXPECT(folder[0] && system(command) == 0);
}

TEST_MAIN()
