/* Files of a data set's folder, in a folder of the test's own. */
#ifndef TEST_DATA_FILES_H
#define TEST_DATA_FILES_H

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/image.h"
#include "runtime/base/file.h"

static char folder[64];

static inline void remove_folder(void) {
  char command[100];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  if (system(command) != 0) fputs("cannot remove the folder\n", stderr);
}

/* A path of the test's own; valid until the eighth call from now. */
static inline const char *path_of(const char *name) {
  static char path[8][400];
  static int turn;
  if (!folder[0]) {
    strcpy(folder, "/tmp/nuwa-data-XXXXXX");
    if (!mkdtemp(folder)) abort();
    atexit(remove_folder);
  }
  turn = (turn + 1) % 8;
  snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
  for (char *p = path[turn] + strlen(folder) + 1; (p = strchr(p, '/')); p++) {
    *p = 0;
    mkdir(path[turn], 0777);
    *p = '/';
  }
  return path[turn];
}

static inline void write_bytes(const char *name, const void *bytes, size_t n) {
  Error err;
  if (!file_write_all(path_of(name), bytes, n, &err)) abort();
}

static inline void write_text(const char *name, const char *text) { write_bytes(name, text, strlen(text)); }

/* One colour, whose red says which picture it is. */
static inline void write_picture(const char *name, int width, int height, int red) {
  Image im;
  Error err;
  if (!image_init(&im, width, height, &err)) abort();
  for (int i = 0; i < width * height; i++) im.rgb[3 * i] = (uint8_t)red;
  if (!image_write_png(path_of(name), &im, NULL, 0, &err)) abort();
  image_done(&im);
}

#endif
