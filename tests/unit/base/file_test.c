#include "runtime/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/hooks.h"
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

TEST("pipes and devices are written as they stand, standard output by its descriptor") {
  Error err = {0};
  struct stat st;
  EXPECT(file_write_all("/dev/null", "x", 1, &err), "%s", err.text);
  EXPECT(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode), "/dev/null is still the device");
  EXPECT(!file_write_all("/dev/full", "x", 1, &err), "no room");
  EXPECT_TEXT(err.text, "cannot write /dev/full: No space left on device");
  EXPECT(file_is_stream("-") && file_is_stream("/dev/null") && file_is_stream("/dev/stdout"), "streams");
  EXPECT(!file_is_stream(in_folder("none")) && !file_is_stream(folder), "no streams");
  int end[2];
  char path[40], got[40] = {0};
  REQUIRE(pipe(end) == 0, "no pipe");
  snprintf(path, sizeof path, "/dev/fd/%d", end[1]);
  EXPECT(file_write_all(path, "through", 7, &err), "%s", err.text);
  EXPECT(read(end[0], got, sizeof got) == 7 && !strcmp(got, "through"), "got \"%s\"", got);
  snprintf(path, sizeof path, "/dev/fd/%d", end[0]);
  EXPECT(!file_create(path, &err), "the other end");
  EXPECT_HAS(err.text, "it is open for reading only");
  close(end[0]);
  close(end[1]);
}

TEST("a writer that only asks whether it could write opens no pipe") {
  Error err = {0};
  char path[200];
  strcpy(path, in_folder("pipe"));
  REQUIRE(mkfifo(path, 0600) == 0, "no pipe");
  FileWriter *w = file_create(path, &err); /* opening a pipe without a reader would wait */
  REQUIRE(w, "%s", err.text);
  file_abort(w);
  int reader = open(path, O_RDONLY | O_NONBLOCK);
  char got[8] = {0};
  EXPECT(file_write_all(path, "bytes", 5, &err), "%s", err.text);
  EXPECT(read(reader, got, sizeof got) == 5 && !strcmp(got, "bytes"), "got \"%s\"", got);
  close(reader);
  unlink(path);
}

/* Runs body with standard output or input on the file; restores it. */
static bool redirected(int descriptor, const char *path, int flags, bool (*body)(Error *), Error *err) {
  int kept = dup(descriptor), fd = open(path, flags, 0666);
  fflush(stdout);
  dup2(fd, descriptor);
  bool ok = body(err);
  fflush(stdout);
  dup2(kept, descriptor);
  close(kept);
  close(fd);
  return ok;
}

static bool write_dash(Error *err) {
  return printf("first, ") > 0 && file_write_all("-", "then ", 5, err) && file_write_all("/dev/stdout", "last", 4, err);
}

static bool read_dash(Error *err) {
  FileMap m;
  char word[6];
  if (read(STDIN_FILENO, word, 5) != 5 || !file_map("-", &m, err)) return false;
  bool ok = m.len == 11 && !memcmp(m.data, ", then last", m.len);
  file_unmap(&m);
  return ok;
}

TEST("a dash is standard output and standard input, from where they stand") {
  Error err = {0};
  unlink(in_folder("a"));
  EXPECT(redirected(STDOUT_FILENO, in_folder("a"), O_WRONLY | O_CREAT | O_TRUNC, write_dash, &err), "%s", err.text);
  expect_content(in_folder("a"), "first, then last");
  EXPECT(redirected(STDIN_FILENO, in_folder("a"), O_RDONLY, read_dash, &err), "%s", err.text);
}

TEST("what comes through a pipe is mapped as a copy") {
  Error err = {0};
  int end[2];
  char path[40];
  FileMap m;
  REQUIRE(pipe(end) == 0 && write(end[1], "bytes", 5) == 5, "no pipe");
  close(end[1]);
  snprintf(path, sizeof path, "/dev/fd/%d", end[0]);
  REQUIRE(file_map(path, &m, &err), "%s", err.text);
  EXPECT(m.is_copy && m.len == 5 && !memcmp(m.data, "bytes", 5), "%zu", m.len);
  file_unmap(&m);
  close(end[0]);
  REQUIRE(file_map("/dev/null", &m, &err), "%s", err.text);
  EXPECT(m.len == 0, "%zu", m.len);
  file_unmap(&m);
}

TEST("what is loaded stays when the file is cut short, and a file of more than a gigabyte is refused") {
  Error err = {0};
  FileMap m;
  const char *path = in_folder("a");
  REQUIRE(file_write_all(path, "hello", 5, &err) && file_load(path, &m, &err), "%s", err.text);
  REQUIRE(truncate(path, 0) == 0, "truncate");
  EXPECT(m.len == 5 && memcmp(m.data, "hello", 5) == 0, "%zu bytes", m.len);
  file_unmap(&m);
  REQUIRE(file_load(path, &m, &err) && m.len == 0, "%s", err.text);
  file_unmap(&m);
  REQUIRE(truncate(path, ((off_t)1 << 30) + 1) == 0, "truncate");   /* a hole, which takes no space */
  EXPECT(!file_load(path, &m, &err) && err.code == ERROR_LIMIT, "%s", err.text);
  EXPECT_HAS(err.text, "it has 1073741825 bytes");
  unlink(path);
}

TEST("symbolic links are followed, over several steps and to what is not there yet") {
  Error err = {0};
  struct stat st;
  char one[200], two[200];
  strcpy(one, in_folder("one"));
  strcpy(two, in_folder("two"));
  unlink(in_folder("a"));
  REQUIRE(symlink("two", one) == 0 && symlink(in_folder("a"), two) == 0, "no links");
  for (int i = 0; i < 2; i++) {
    EXPECT(file_write_all(one, i ? "again" : "anew", i ? 5 : 4, &err), "%s", err.text);
    EXPECT(lstat(one, &st) == 0 && S_ISLNK(st.st_mode) && lstat(two, &st) == 0 && S_ISLNK(st.st_mode), "links");
    expect_content(in_folder("a"), i ? "again" : "anew");
  }
  unlink(two);
  REQUIRE(symlink("one", two) == 0, "no link");
  EXPECT(!file_create(one, &err), "a circle");
  EXPECT_HAS(err.text, "Too many levels of symbolic links");
  unlink(one);
  unlink(two);
}

TEST("a file that is replaced keeps its mode, and none is ever more open") {
  Error err = {0};
  struct stat st;
  static const mode_t modes[] = {0600, 0644, 0664, 0755};
  for (int i = 0; i < COUNT_OF(modes); i++) {
    file_write_all(in_folder("a"), "x", 1, &err);
    REQUIRE(chmod(in_folder("a"), modes[i]) == 0, "chmod");
    EXPECT(file_write_all(in_folder("a"), "y", 1, &err), "%s", err.text);
    EXPECT(stat(in_folder("a"), &st) == 0 && (st.st_mode & 07777) == modes[i], "%o", (unsigned)st.st_mode);
  }
}

/* Runs body in a process without rights. */
static bool as_nobody(bool (*body)(void)) {
  pid_t pid = fork();
  if (pid == 0) {
    bool ok = (geteuid() || (setgid(65534) == 0 && setuid(65534) == 0)) && body();
    _exit(ok ? 0 : 1);
  }
  int status;
  return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool cannot_create(void) {
  Error err = {0};
  return !file_create(in_folder("new"), &err) && strstr(err.text, "cannot create /tmp/nuwa-file-") &&
         strstr(err.text, ": Permission denied");
}

static bool cannot_replace(void) {
  Error err = {0};
  return !file_create(in_folder("a"), &err) && strstr(err.text, "cannot write ") &&
         strstr(err.text, ": Permission denied");
}

TEST("a folder or a file that may not be written is refused, and stays as it is") {
  file_write_all(in_folder("a"), "old", 3, &(Error){0});
  chmod(in_folder("a"), 0444);
  chmod(folder, 0555);
  EXPECT(as_nobody(cannot_create), "a folder for reading only");
  chmod(folder, 0777);
  EXPECT(as_nobody(cannot_replace), "a file for reading only");
  chmod(folder, 0700);
  chmod(in_folder("a"), 0644);
  expect_content(in_folder("a"), "old");
}

TEST("what killed writers left is removed by the next writer of the name, what others write is not") {
  Error err = {0};
  const char *left[] = {"a.nuwa-tmp-0", "a.nuwa-tmp-7"};
  for (int i = 0; i < 2; i++) {
    FILE *f = fopen(in_folder(left[i]), "w");
    REQUIRE(f, "%s", left[i]);
    fclose(f);
  }
  FILE *f = fopen(in_folder("a.nuwa-tmp-1"), "w");
  REQUIRE(f && flock(fileno(f), LOCK_EX) == 0, "a file that is being written");
  EXPECT(file_write_all(in_folder("a"), "x", 1, &err), "%s", err.text);
  EXPECT(count_files() == 2, "%d files", count_files());
  fclose(f);
  EXPECT(file_write_all(in_folder("a"), "x", 1, &err), "%s", err.text);
  EXPECT(count_files() == 1, "%d files", count_files());
}

static void write_for_ever(void) {
  static char bytes[1 << 20];
  for (char c = 'a';; c = c == 'z' ? 'a' : (char)(c + 1)) {
    memset(bytes, c, sizeof bytes);
    file_write_all(in_folder("a"), bytes, sizeof bytes, &(Error){0});
  }
}

static void kill_writers(int n) {
  for (int i = 0; i < n; i++) {
    pid_t pid = fork();
    if (pid == 0) write_for_ever();
    usleep((useconds_t)(3000 + i * 7919 % 20000));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    size_t len;
    char *text = file_read(in_folder("a"), &len, &(Error){0});
    bool whole = text && (len == 1 || len == 1 << 20);
    for (size_t k = 1; whole && k < len; k++) whole = text[k] == text[0];
    EXPECT(whole, "kill %d: half a file", i);
    mem_free(text);
  }
  file_write_all(in_folder("a"), "x", 1, &(Error){0});
  EXPECT(count_files() == 1, "%d files", count_files());
}

TEST("writers that are killed leave whole files and nothing else") { kill_writers(8); }
LONG_TEST("writers that are killed two hundred times leave whole files and nothing else") {
  strcpy(folder, "/tmp/nuwa-file-XXXXXX");
  REQUIRE(mkdtemp(folder) && file_write_all(in_folder("a"), "x", 1, &(Error){0}), "no folder");
  kill_writers(200);
  unlink(in_folder("a"));
  EXPECT(rmdir(folder) == 0, "something is left in %s", folder);
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
  EXPECT(!file_create("/tmp", &err), "a folder");
  EXPECT_TEXT(err.text, "cannot write /tmp: it is a directory");
  EXPECT(!file_create("/nowhere/x", &err), "no such folder");
  EXPECT_TEXT(err.text, "cannot create /nowhere/x: folder /nowhere: No such file or directory");
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
