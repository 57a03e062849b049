/* What may not be read, and what is too much of something. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/media/data_sets.h"

/* Runs body in a process without rights. */
static bool as_nobody(bool (*body)(void)) {
  pid_t pid = fork();
  if (pid == 0) _exit((geteuid() || (setgid(65534) == 0 && setuid(65534) == 0)) && body() ? 0 : 1);
  int status;
  return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool names_the_locked_folder(void) {
  return strstr(refusal(path_of("locked")), "locked/b: Permission denied") != NULL;
}

static bool passes_over_the_locked_file(void) {
  uint8_t pixel[2 * 3];
  Error err;
  DataWant w = {"image", DTYPE_U8, 3, {1, 1, 3}, pixel};
  Dataset *d = open_data(path_of("secret"), (DatasetOptions){.in_order = true, .whole = true});
  bool ok = d && fill(d, WORLD_TRAIN, 0, 2, &w, &err) && strstr(warnings, "secret/a.png: Permission denied; the next one");
  dataset_close(d);
  return ok && pixel[0] == 2 && pixel[3] == 2;
}

TEST("a folder that may not be read is refused by name, a file that may not is passed over like a broken one") {
  write_picture("locked/a.png", 1, 1, 1);
  write_picture("locked/b/c.png", 1, 1, 1);
  write_picture("secret/a.png", 1, 1, 1);
  write_picture("secret/b.png", 1, 1, 2);
  if (chmod(path_of("locked/b"), 0) || chmod(path_of("secret/a.png"), 0) || chmod(folder, 0755)) abort();
  EXPECT(as_nobody(names_the_locked_folder), "");
  EXPECT(as_nobody(passes_over_the_locked_file), "");
  if (chmod(path_of("locked/b"), 0755)) abort();
}

TEST("captions of a megabyte and more are refused by name, and their pictures passed over") {
  enum { MOST = 65536, MEGABYTE = 1 << 20 };
  char *text = malloc(MEGABYTE + 2);
  memset(text, 'a', MEGABYTE + 1);
  text[MEGABYTE + 1] = 0;
  for (int i = 0; i < 3; i++) write_picture(i ? i > 1 ? "much/z.png" : "much/y.png" : "much/x.png", 1, 1, i);
  write_text("much/x.txt", text);
  write_text("much/y.txt", text + 1);
  write_text("much/z.txt", text + 1 + MEGABYTE - MOST);
  free(text);
  int32_t words[3 * 4];
  Error err;
  DataWant w = {"text", DTYPE_I32, 1, {4}, words};
  Dataset *d = open_data(path_of("much"), (DatasetOptions){.in_order = true, .whole = true});
  REQUIRE(d, "");
  REQUIRE(fill(d, WORLD_TRAIN, 0, 3, &w, &err), "%s", err.text);
  EXPECT_HAS(warnings, "much/x.txt: captions of 1048577 bytes; at most 1048576; the next one stands in for it\n");
  EXPECT_HAS(warnings, "much: the caption of \"y\": a text of 1048576 bytes; at most 65536 are encoded; the next one");
  EXPECT(memcmp(words, words + 8, 16) == 0 && words[3] == bpe_end(bpe()), "z is read, cut to the words wanted");
  dataset_close(d);
}

TEST("two million classes are counted, and ids beyond all sense refused") {
  int32_t class[3] = {7, 1999999, 0};
  TensorView v = {.name = "class", .dtype = DTYPE_I32, .rank = 1, .dim = {3}, .data = class, .bytes = sizeof class};
  Error err;
  REQUIRE(safetensors_write(path_of("many.safetensors"), &v, 1, NULL, 0, &err), "%s", err.text);
  Dataset *d = open_data(path_of("many.safetensors"), (DatasetOptions){.whole = true});
  REQUIRE(d, "");
  EXPECT(dataset_class_count(d) == 2000000 && !dataset_class_name(d, 1999999), "%d", dataset_class_count(d));
  EXPECT_HAS(mismatch(d, (DataWant){"class", DTYPE_I32, 0, {0}, .ids = 1000}), "has 2000000 classes, the model takes 1000");
  dataset_close(d);
  class[1] = 1 << 24;
  REQUIRE(safetensors_write(path_of("many.safetensors"), &v, 1, NULL, 0, &err), "%s", err.text);
  EXPECT_HAS(refusal(path_of("many.safetensors")), "example 1 has class 16777216; they are 0 to 16777215");
}

TEST_MAIN()
