/* Tar archives for tests, good and bad. */
#ifndef NUWA_TESTS_TAR_MAKE_H
#define NUWA_TESTS_TAR_MAKE_H

#include <string.h>

#include "media/image.h"
#include "runtime/base/memory.h"

typedef struct TarHead {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100], magic[6], version[2],
      user[32], group[32], major[8], minor[8], prefix[155], zero[12];
} TarHead;

static inline void tar_add_as(Buffer *b, const char *name, char type, const void *bytes, size_t n, size_t says) {
  TarHead h = {.mode = "0000644",
               .uid = "0000000",
               .gid = "0000000",
               .mtime = "00000000000",
               .type = type,
               .magic = "ustar",
               .version = {'0', '0'}};
  static const char zeros[512];
  unsigned sum = 0;
  memcpy(h.name, name, strnlen(name, sizeof h.name));
  snprintf(h.size, sizeof h.size, "%011zo", says);
  memset(h.sum, ' ', sizeof h.sum);
  for (size_t i = 0; i < sizeof h; i++) sum += ((const unsigned char *)&h)[i];
  snprintf(h.sum, sizeof h.sum, "%06o", sum);
  buffer_append(b, &h, sizeof h);
  buffer_append(b, bytes, n);
  buffer_append(b, zeros, (512 - n % 512) % 512);
}

static inline void tar_add(Buffer *b, const char *name, const void *bytes, size_t n) {
  tar_add_as(b, name, '0', bytes, n, n);
}

static inline void tar_add_text(Buffer *b, const char *name, const char *text) {
  tar_add(b, name, text, strlen(text));
}

/* One colour, whose red says which picture it is. */
static inline void tar_add_picture(Buffer *b, const char *name, int red) {
  Image im;
  Buffer png = {0};
  Error err;
  if (!image_init(&im, 4, 3, &err)) abort();
  for (int i = 0; i < 12; i++) im.rgb[3 * i] = (uint8_t)red;
  if (!image_encode_png(&im, NULL, 0, &png, &err)) abort();
  tar_add(b, name, png.data, png.len);
  image_done(&im);
  buffer_done(&png);
}

static inline void tar_end(Buffer *b) {
  static const char zeros[1024];
  buffer_append(b, zeros, sizeof zeros);
}

#endif
