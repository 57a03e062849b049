/* Runs the program as a user does, in a folder of its own: models/ holds the shipped Lua files and those of
 * tests/cli/models, and the store of kernels is there too. */
#ifndef TEST_CLI_COMMANDS_H
#define TEST_CLI_COMMANDS_H

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/file.h"
#include "tests/test.h"

static char folder[64], output[1 << 16];

static inline void remove_folder(void) {
  char command[100];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  if (system(command) != 0) fputs("cannot remove the folder\n", stderr);
}

/* A shell command in the folder; `nuwa` is the program.  Its exit status; `output` has what it printed. */
static inline int shell(const char *command) {
  char line[2000];
  snprintf(line, sizeof line, "cd '%s' && nuwa() { '%s' \"$@\"; } && { %s; } 2>&1 </dev/null", folder, NUWA, command);
  FILE *f = popen(line, "r");
  if (!f) abort();
  size_t n = fread(output, 1, sizeof output - 1, f);
  output[n] = 0;
  int status = pclose(f);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A shell command that must succeed. */
static inline void expect_shell(const char *command) {
  int status = shell(command);
  EXPECT(status == 0, "%d from %s\n%s", status, command, output);
}

/* Makes the folder at the first call. */
static inline void open_folder(void) {
  if (folder[0]) return;
  strcpy(folder, "/tmp/nuwa-cli-XXXXXX");
  if (!mkdtemp(folder)) abort();
  atexit(remove_folder);
  setenv("XDG_CACHE_HOME", folder, 1);
  if (shell("mkdir models && cp " MODELS_DIR "/*.lua " CASES_DIR "/*.lua models/") != 0) abort();
}

/* Makes a file of the folder. */
static inline void write_text(const char *name, const char *text) {
  char path[100];
  Error err;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  if (!file_write_all(path, text, strlen(text), &err)) abort();
}

static inline int nuwa(const char *arguments) {
  char command[1500];
  open_folder();
  snprintf(command, sizeof command, "nuwa %s", arguments);
  return shell(command);
}

#define EXPECT_STATUS(want, arguments, text)                                                                         \
  do {                                                                                                               \
    int status = nuwa(arguments);                                                                                    \
    EXPECT(status == (want), "%d, not %d, from nuwa %s:\n%s", status, want, arguments, output);                     \
    EXPECT_HAS(output, text);                                                                                        \
  } while (0)

#endif
