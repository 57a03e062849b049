/* Models from text, in a folder of their own that goes away at exit. */
#ifndef NUWA_TEST_LOAD_H
#define NUWA_TEST_LOAD_H

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frontend/lua/model.h"
#include "runtime/base/file.h"

static char load_folder[64];

static inline void load_folder_remove(void) {
  char command[100];
  snprintf(command, sizeof command, "rm -rf '%s'", load_folder);
  if (load_folder[0] && system(command) != 0) fputs("cannot remove the folder\n", stderr);
}

/* The path of a file in the folder; valid until the fourth call from now. */
static inline const char *load_path(const char *name) {
  static char path[4][300];
  static int turn;
  if (!load_folder[0]) {
    strcpy(load_folder, "/tmp/nuwa-lua-XXXXXX");
    if (!mkdtemp(load_folder)) abort();
    atexit(load_folder_remove);
  }
  turn = (turn + 1) % 4;
  snprintf(path[turn], sizeof path[turn], "%s/%s", load_folder, name);
  return path[turn];
}

static inline const char *load_write(const char *name, const char *text) {
  Error err = {0};
  const char *path = load_path(name);
  if (!file_write_all(path, text, strlen(text), &err)) abort();
  return path;
}

/* Loads `text` as model.lua, with limits that a test can wait for. */
static inline Model *load_with(const char *text, ModelOptions options, Error *err) {
  *err = (Error){0};
  if (!options.limits.instructions) options.limits.instructions = 10000000;
  return model_load(load_write("model.lua", text), &options, err);
}

static inline Model *load_text(const char *text, Error *err) { return load_with(text, (ModelOptions){0}, err); }

/* The error of a model that must not load; "" when it did. */
static inline const char *load_error(const char *text) {
  static Error err;
  Model *m = load_text(text, &err);
  if (m) err.text[0] = 0;
  model_free(m);
  return err.text;
}

/* Of the thread's own work, as the limit of time counts. */
static inline double load_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
