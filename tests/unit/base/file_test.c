#include "runtime/base/file.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/test.h"

static char folder[40];

static const char *in_folder(const char *name) {
  static char path[200];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static int count_files(void) {
  int n = 0;
  DIR *d = opendir(folder);
  for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
  if (d) closedir(d);
  return n;
}

static void expect_content(const char *path, const char *want) {
  Error err = {0};
  size_t n;
  char *text = file_read(path, &n, &err);
  REQUIRE(text, "%s", err.text);
  EXPECT(n == strlen(want), "%zu bytes", n);
  EXPECT_TEXT(text, want);
  mem_free(text);
}

TEST("a folder for the tests") {
  strcpy(folder, "/tmp/nuwa-file-XXXXXX");
  REQUIRE(mkdtemp(folder), "none");
}

TEST("what is written is read back, whole and mapped") {
  Error err = {0};
  const char *path = in_folder("a");
  REQUIRE(file_write_all(path, "hello", 5, &err), "%s", err.text);
  expect_content(path, "hello");
  FileMap m;
  REQUIRE(file_map(path, &m, &err), "%s", err.text);
  EXPECT(m.len == 5 && !memcmp(m.data, "hello", 5), "%zu", m.len);
  file_unmap(&m);
  EXPECT(!m.data, "unmapped");
  REQUIRE(file_write_all(path, NULL, 0, &err), "%s", err.text);
  expect_content(path, "");
  REQUIRE(file_map(path, &m, &err), "%s", err.text);
  EXPECT(!m.data && m.len == 0, "an empty map");
  file_unmap(&m);
  EXPECT(count_files() == 1, "%d files", count_files());
}

TEST("files of every size are read whole, those without a size too") {
  Error err = {0};
  static const size_t sizes[] = {1, 4095, 4096, 4097, 300000};
  static char bytes[300000];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 31 >> 3);
  for (int s = 0; s < COUNT_OF(sizes); s++) {
    size_t n;
    REQUIRE(file_write_all(in_folder("a"), bytes, sizes[s], &err), "%s", err.text);
    char *got = file_read(in_folder("a"), &n, &err);
    REQUIRE(got, "%s", err.text);
    EXPECT(n == sizes[s] && !memcmp(got, bytes, n) && got[n] == 0, "%zu bytes of %zu", n, sizes[s]);
    mem_free(got);
  }
  size_t n;
  char *maps = file_read("/proc/self/maps", &n, &err);
  REQUIRE(maps, "%s", err.text);
  EXPECT(n > 200 && strlen(maps) == n, "%zu", n);
  mem_free(maps);
}

TEST("a file appears when it is committed, not before") {
  Error err = {0};
  file_write_all(in_folder("a"), "old", 3, &err);
  FileWriter *w = file_create(in_folder("a"), &err);
  REQUIRE(w, "%s", err.text);
  for (int i = 0; i < 3; i++) EXPECT(file_write(w, "new ", 4, &err), "%s", err.text);
  expect_content(in_folder("a"), "old");
  EXPECT(file_commit(w, &err), "%s", err.text);
  expect_content(in_folder("a"), "new new new ");
  EXPECT(count_files() == 1, "%d files", count_files());
}

TEST("an aborted file leaves nothing behind, and the old one as it was") {
  Error err = {0};
  file_write_all(in_folder("a"), "old", 3, &err);
  FileWriter *w = file_create(in_folder("a"), &err), *v = file_create(in_folder("new"), &err);
  REQUIRE(w && v, "%s", err.text);
  file_write(w, "x", 1, &err);
  file_abort(w);
  file_abort(v);
  expect_content(in_folder("a"), "old");
  EXPECT(count_files() == 1, "%d files", count_files());
}

TEST("two writers of one file do not meet; the last to commit wins") {
  Error err = {0};
  FileWriter *v = file_create(in_folder("a"), &err), *w = file_create(in_folder("a"), &err);
  REQUIRE(v && w, "%s", err.text);
  file_write(v, "first", 5, &err);
  file_write(w, "second", 6, &err);
  EXPECT(file_commit(w, &err) && file_commit(v, &err), "%s", err.text);
  expect_content(in_folder("a"), "first");
  EXPECT(count_files() == 1, "%d files", count_files());
}

TEST("a commit that fails leaves nothing behind") {
  Error err = {0};
  char path[200];
  strcpy(path, in_folder("taken"));
  FileWriter *w = file_create(path, &err);
  REQUIRE(w && file_write(w, "x", 1, &err), "%s", err.text);
  REQUIRE(mkdir(path, 0700) == 0, "mkdir");
  EXPECT(!file_commit(w, &err), "a folder stands there");
  EXPECT_HAS(err.text, "cannot replace");
  rmdir(path);
  EXPECT(count_files() == 1, "%d files", count_files());
}

TEST("what cannot be written is an error, now or at the commit, and leaves the old file") {
  static char bytes[100000];
  struct rlimit before, small;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0, "no limits here");
  file_write_all(in_folder("a"), "old", 3, &(Error){0});
  for (size_t n = 2000; n <= sizeof bytes; n += sizeof bytes - 2000) {
    Error err = {0};
    signal(SIGXFSZ, SIG_IGN);
    small = before;
    small.rlim_cur = 1000;
    setrlimit(RLIMIT_FSIZE, &small);
    bool ok = file_write_all(in_folder("a"), bytes, n, &err);
    FileWriter *w = file_create(in_folder("a"), &err);
    bool later = w && (file_write(w, bytes, n, &(Error){0}) ? true : file_write(w, bytes, 1, &(Error){0}));
    bool committed = w && file_commit(w, &(Error){0});
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT(!ok && err.code == ERROR_IO && !committed, "%zu bytes", n);
    EXPECT(later == (n == 2000), "a writer that failed stays failed");
    EXPECT_HAS(err.text, "cannot write ");
    EXPECT_HAS(err.text, "File too large");
    expect_content(in_folder("a"), "old");
    EXPECT(count_files() == 1, "%d files", count_files());
  }
}

TEST("devices are never replaced by files") {
  Error err = {0};
  EXPECT(!file_create("/dev/null", &err), "not a regular file");
  EXPECT_TEXT(err.text, "cannot write /dev/null: it exists and is not a regular file");
}

TEST("a mode follows the umask") {
  Error err = {0};
  struct stat st;
  mode_t before = umask(027);
  unlink(in_folder("a"));
  EXPECT(file_write_all(in_folder("a"), "x", 1, &err), "%s", err.text);
  umask(before);
  EXPECT(stat(in_folder("a"), &st) == 0 && (st.st_mode & 0777) == 0640, "%o", (unsigned)st.st_mode & 0777);
}

TEST("errors name the file and what the system said") {
  Error err = {0};
  FileMap m;
  size_t n;
  EXPECT(!file_read("/nowhere/x", &n, &err) && err.code == ERROR_IO, "no such file");
  EXPECT_TEXT(err.text, "cannot open /nowhere/x: No such file or directory");
  EXPECT(!file_map("/tmp", &m, &err), "a folder");
  EXPECT_TEXT(err.text, "cannot read /tmp: it is a directory");
  EXPECT(!file_map("/dev/null", &m, &err), "a device");
  EXPECT_TEXT(err.text, "cannot map /dev/null: it is not a regular file");
  EXPECT(!file_create("/nowhere/x", &err), "no such folder");
  EXPECT_TEXT(err.text, "cannot create /nowhere/x: No such file or directory");
}

TEST("whichever allocation fails, reading and writing report it and leave nothing") {
  for (int n = 1; n <= 8; n++) {
    Error err = {0};
    size_t len;
    mem_fail_at((uint64_t)n);
    bool written = file_write_all(in_folder("b"), "text", 4, &err);
    char *text = written ? file_read(in_folder("b"), &len, &err) : NULL;
    mem_fail_at(0);
    EXPECT(text || err.code == ERROR_MEMORY, "allocation %d: %s", n, err.text);
    mem_free(text);
    unlink(in_folder("b"));
    EXPECT(count_files() == 1, "%d files", count_files());
  }
}

TEST("the folder is empty again") {
  unlink(in_folder("a"));
  EXPECT(rmdir(folder) == 0, "something is left in %s", folder);
}

TEST_MAIN()
