/* What is kept of a folder: read again as it was made, made anew when anything changed or is damaged, and never needed. */
#include <dirent.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "media/listing.h"
#include "tests/test.h"
#include "tests/unit/media/data_files.h"

static char told[2000];

static void warn(void *ctx, const char *text) { snprintf(told, sizeof told, "%s", text); }

static const char *cache(void) {
  static char path[100];
  if (!*path) snprintf(path, sizeof path, "%s", path_of("cache/nuwa/listings"));
  return path;
}

static Listing *open_kept(const char *root, const char *at) {
  static Error err;
  *told = 0;
  Listing *l = listing_open(root, &(DatasetOptions){.cache = at, .warn = warn}, &err);
  if (!l) TEST_FAIL_("%s", err.text);
  return l;
}

static void run(const char *format, const char *name) {
  char command[300];
  snprintf(command, sizeof command, format, path_of(name));
  if (system(command) != 0) abort();
}

/* As if nobody had touched anything for long. */
static void age(const char *name) { run("find '%s' -exec touch -h -d 2001-01-01 {} +", name); }

/* The kept listing's file, one of another number each time it is written; 0: none is there. */
static ino_t kept_file(char *out_path) {
  DIR *dir = opendir(cache());
  struct stat st = {0};
  int files = 0;
  for (struct dirent *e; dir && (e = readdir(dir));) {
    if (*e->d_name == '.') continue;
    files++;
    if (fstatat(dirfd(dir), e->d_name, &st, 0) != 0) abort();
    if (out_path) snprintf(out_path, 300, "%s/%.100s", cache(), e->d_name);
  }
  if (dir) closedir(dir);
  EXPECT(files <= 1, "%d files", files);
  return st.st_ino;
}

static void forget(void) { run("rm -rf '%s'", "cache"); }

/* All that a listing says, as text. */
static const char *say(const Listing *l) {
  static Buffer b[2];
  static int turn;
  Buffer *out = &b[turn = !turn];
  out->len = 0;
  buffer_printf(out, "%.8s\n", l->head.digest);
  for (uint64_t i = 0; i < l->head.n_file; i++) {
    size_t first = 0, n = l->file[i].kind == FILE_PICTURE ? listing_captions(l, i, &first) : 0;
    buffer_printf(out, "%d %d %s", l->file[i].kind, l->file[i].has, listing_path(l, i));
    for (size_t k = 0; k < n; k++) buffer_printf(out, " \"%s\"", captions_text(&l->captions, first + k));
    buffer_append(out, "\n", 1);
  }
  for (int i = 0; i < LISTING_NOTES; i++)
    if (l->head.note[i].n) buffer_printf(out, "note %d: %d, %s\n", i, (int)l->head.note[i].n, l->head.note[i].first);
  return out->data;
}

/* What is opened with the cache is what the folder holds. */
static void expect_right(const char *name) {
  Listing *kept = open_kept(path_of(name), cache()), *made = open_kept(path_of(name), NULL);
  if (kept && made) EXPECT_TEXT(say(kept), say(made));
  listing_close(kept);
  listing_close(made);
}

static void make_folder(const char *root) {
  static const char *const names[] = {"a.png", "b/c d.jpg", "b/c.png", "b/c.PNG"};
  char name[100];
  for (int i = 0; i < COUNT_OF(names); i++) snprintf(name, sizeof name, "%s/%s", root, names[i]), write_text(name, "x");
  snprintf(name, sizeof name, "%s/a.txt", root), write_text(name, "one\n");
  snprintf(name, sizeof name, "%s/b/c.labels.png", root), write_text(name, "x");
  snprintf(name, sizeof name, "%s/captions.txt", root), write_text(name, "b/c\ttwo\nb/c d.png\tfour\nb/c\tthree\n");
  snprintf(name, sizeof name, "%s/b/notes.md", root), write_text(name, "x");
}

TEST("a listing is kept, mapped, and read again without being written") {
  forget();
  make_folder("keep");
  age("keep");
  Listing *l = open_kept(path_of("keep"), cache());
  REQUIRE(l, "");
  EXPECT(l->map.data && !l->own_file && !*told, "%s", told);
  EXPECT_HAS(say(l), "0 1 a.png\n0 4 b/c d.jpg \"four\"\n0 6 b/c.PNG \"two\" \"three\"\n0 6 b/c.png \"two\" \"three\"\n"
                     "8 0 \n5 0 a.txt\n8 0 b\n6 0 b/c.labels.png\n7 0 captions.txt\nnote 0: 1, b/notes.md\n");
  listing_close(l);
  ino_t first = kept_file(NULL);
  EXPECT(first, "a file is there");
  expect_right("keep");
  expect_right("keep/");
  EXPECT(kept_file(NULL) == first, "another file");
}

static void change(const char *name, int kind) {
  char path[200];
  switch (kind) {
  case 0: snprintf(path, sizeof path, "%s/b/new.png", name), write_text(path, "x"); break;
  case 1: snprintf(path, sizeof path, "%s/b/c.PNG", name), unlink(path_of(path)); break;
  case 2: run("printf longer >'%s/b/c.png' && touch -d 2001-01-01 '%1$s/b/c.png'", name); break;
  case 3: run("printf y >'%s/b/c.png'", name); break;
  case 4: run("printf 'b/c\\tfour\\n' >'%s/captions.txt'", name); break;
  case 5: run(": >'%s/a.txt'", name); break;
  case 6: run("echo x >'%s/nowhere.png'", "elsewhere"); break;
  case 7: run("echo x >'%s/in/z.png'", "elsewhere"); break;
  case 8: run("rm -r '%s/b'", name); break;
  default: run("rm '%s/captions.txt'", name);
  }
}

TEST("a listing is made anew whatever has changed: names, sizes, times, tables, texts, what links lead to") {
  forget();
  for (int kind = 0; kind < 10; kind++) {
    char name[40];
    snprintf(name, sizeof name, "change%d", kind);
    make_folder(name);
    run("mkdir -p '%s/in'", "elsewhere");
    run("rm -f '%s/nowhere.png'", "elsewhere");
    run("ln -s ../elsewhere/in '%s/linked' && ln -s ../elsewhere/nowhere.png '%1$s/link.png'", name);
    age(name);
    age("elsewhere");
    expect_right(name);
    ino_t first = kept_file(NULL);
    expect_right(name);
    EXPECT(kept_file(NULL) == first, "%d: nothing changed", kind);
    change(name, kind);
    expect_right(name);
    EXPECT(kept_file(NULL) != first, "%d: not noticed", kind);
    forget();
  }
}

TEST("what changed a moment ago is looked at again: a later change might show the same time") {
  forget();
  make_folder("young");
  expect_right("young");
  ino_t first = kept_file(NULL);
  expect_right("young");
  EXPECT(kept_file(NULL) != first, "not trusted yet");
  Listing *l = open_kept(path_of("young"), cache());
  EXPECT(l && l->map.data, "mapped all the same");
  listing_close(l);
}

TEST("a damaged, cut or foreign file is replaced, and the listing is right") {
  forget();
  make_folder("worn");
  age("worn");
  expect_right("worn");
  char path[300];
  size_t n, m;
  Error err;
  kept_file(path);
  char *good = file_read(path, &n, &err);
  REQUIRE(good && n > 1000, "");
  for (size_t i = 0; i < 14; i++) {
    char *bytes = calloc(1, n + 8);
    memcpy(bytes, good, n);
    size_t size = i == 0 ? 0 : i == 1 ? 100 : i == 2 ? n - 1 : i == 3 ? n + 8 : n, at = n * i / 14;
    if (size == n) bytes[at] = (char)(bytes[at] ^ 4);
    if (!file_write_all(path, bytes, size, &err)) abort();
    ino_t bad = kept_file(NULL);
    expect_right("worn");
    EXPECT(kept_file(NULL) != bad, "byte %zu is not noticed", at);
    free(bytes);
    bytes = file_read(path, &m, &err);
    EXPECT(m == n && memcmp(bytes, good, n) == 0, "the file is what it was");
    mem_free(bytes);
  }
  make_folder("other");
  if (!file_write_all(path, good, n, &err)) abort();
  Listing l;
  EXPECT(!listing_parse(&l, (const uint8_t *)good, n, "/tmp/other", &err), "of another folder");
  EXPECT_TEXT(err.text, "it is of another folder");
  good[offsetof(ListingHead, rules)] ^= 1;
  EXPECT(!listing_parse(&l, (const uint8_t *)good, n, path_of("worn"), &err), "of other rules");
  EXPECT_TEXT(err.text, "it is of another version");
  mem_free(good);
}

/* In a process of its own, which may write files of `bytes` at most. */
static bool in_child(bool (*body)(void), rlim_t bytes) {
  pid_t pid = fork();
  if (pid == 0) {
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){bytes, bytes});
    _exit(body() ? 0 : 1);
  }
  int status;
  return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool is_told_and_right(void) {
  Listing *l = open_kept(path_of("full"), cache());
  bool ok = l && !l->map.data && l->head.n_example == 4 && strstr(told, "is not kept: cannot write ");
  if (!ok) fprintf(stderr, "told: %s\n", told);
  return ok;
}

TEST("where nothing can be kept, because the disk is full or there is no such folder, that is told and the listing is right") {
  forget();
  make_folder("full");
  age("full");
  EXPECT(in_child(is_told_and_right, 600), "a full disk");
  EXPECT(!kept_file(NULL), "nothing is left");
  Listing *l = open_kept(path_of("full"), path_of("full/a.txt"));
  REQUIRE(l, "");
  EXPECT(!l->map.data && l->head.n_example == 4, "");
  EXPECT_HAS(told, "full is not kept: cannot ");
  listing_close(l);
  l = open_kept(path_of("full"), NULL);
  EXPECT(l && !*told, "nobody asked for a file: %s", told);
  listing_close(l);
}

static bool opens_again_and_again(void) {
  bool ok = true;
  for (int i = 0; ok && i < 6; i++) {
    Listing *l = open_kept(path_of("crowd"), cache());
    ok = l && l->head.n_example == 4 && l->map.data && !*told;
    listing_close(l);
  }
  return ok;
}

TEST("several processes may make the same listing at once, and one of them stays") {
  forget();
  make_folder("crowd");
  pid_t pid[6];
  for (int i = 0; i < 6; i++)
    if ((pid[i] = fork()) == 0) _exit(opens_again_and_again() ? 0 : 1);
  for (int i = 0; i < 6; i++) {
    int status;
    EXPECT(waitpid(pid[i], &status, 0) == pid[i] && status == 0, "process %d: %d", i, status);
  }
  EXPECT(kept_file(NULL), "one file, and nothing temporary");
  expect_right("crowd");
}

TEST("listings that nobody has used for two months go when another is written") {
  forget();
  write_text("cache/nuwa/listings/old.listing", "x");
  write_text("cache/nuwa/listings/new.listing", "x");
  write_text("cache/nuwa/listings/old.txt", "x");
  run("touch -d 2001-01-01 '%s'/old.*", "cache/nuwa/listings");
  make_folder("sweep");
  listing_close(open_kept(path_of("sweep"), cache()));
  run("cd '%s' && ! test -e old.listing && test -e new.listing && test -e old.txt", "cache/nuwa/listings");
}

TEST("a folder is listed once, by the path without links or the first of them; links to nowhere are counted") {
  make_folder("ring/real");
  run("cd '%s' && ln -s real alink && ln -s .. real/up && ln -s gone.png lost.png && ln -s ../outside 1 && ln -s "
      "../outside 2 && mkdir ../outside && echo x >../outside/o.png && ln -s ../ring ../outside/back",
      "ring");
  Listing *l = open_kept(path_of("ring"), NULL);
  REQUIRE(l, "");
  EXPECT_HAS(say(l), "0 0 1/o.png\n0 1 real/a.png\n0 4 real/b/c d.jpg");
  EXPECT_HAS(say(l), "note 5: 1, lost.png\nnote 6: 4, 1/back\n");
  EXPECT(l->head.n_example == 5, "%d", (int)l->head.n_example);
  listing_close(l);
}

TEST("a table names a picture by its path, by another suffix, or by none") {
  write_text("named/x.png", "x");
  write_text("named/x.jpg", "x");
  write_text("named/y.png", "x");
  write_text("named/z.jpeg", "x");
  write_text("named/captions.txt", "x.png\tone\nx.svg\tno\ny.jpg\ttwo\nz\tthree\nx\tfour\n");
  Listing *l = open_kept(path_of("named"), NULL);
  REQUIRE(l, "");
  EXPECT_HAS(say(l), "0 4 x.jpg \"four\"\n0 4 x.png \"one\"\n0 4 y.png \"two\"\n0 4 z.jpeg \"three\"\n");
  EXPECT_HAS(say(l), "note 4: 1, x.svg\n");
  listing_close(l);
}

/* Bytes on the heap. */
static size_t heap(void) {
  struct mallinfo2 m = mallinfo2();
  return m.uordblks + m.hblkhd;
}

/* n files in folders of 1000, each with a caption in a table. */
static void make_many(const char *name, int n) {
  char path[200], file[400];
  for (int i = 0; i < n; i++) {
    snprintf(path, sizeof path, "%s/class%04d/", name, i / 1000);
    if (i % 1000 == 0) path_of(path); /* makes it */
    snprintf(file, sizeof file, "%s/%sexample%07d.png", folder, path, i);
    FILE *f = fopen(file, "w");
    if (!f || fclose(f) != 0) abort();
  }
  snprintf(path, sizeof path, "%s/captions.txt", name);
  FILE *f = fopen(path_of(path), "w");
  for (int i = 0; f && i < n; i++) fprintf(f, "class%04d/example%07d.png\ta caption of example %d\n", i / 1000, i, i);
  if (!f || fclose(f) != 0) abort();
}

WIDE_TEST("a million examples need at most 64 bytes of heap each, when they are listed and when they are read again") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  SKIP("the sanitizer counts the heap");
#endif
  int n = test_is_long ? 1000000 : 4000;
  forget();
  make_many("many", n);
  for (int round = 0; round < 2; round++) {
    Error err;
    size_t before = heap();
    Dataset *d = dataset_open(path_of("many"), &(DatasetOptions){.cache = cache(), .warn = warn}, &err);
    REQUIRE(d, "%s", err.text);
    size_t each = (heap() - before) / (size_t)n;
    EXPECT(dataset_count(d, WORLD_TRAIN) + dataset_count(d, WORLD_VALIDATION) == (uint64_t)n, "");
    EXPECT(each <= 64, "%zu bytes", each);
    if (test_is_long) printf("%d examples: %zu bytes of heap each\n", n, each);
    dataset_close(d);
    if (!round) age("many");
  }
}

TEST_MAIN()
