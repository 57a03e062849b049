/* Palettes: the 256 colours of a picture that has more. */
#ifndef NUWA_PALETTE_H
#define NUWA_PALETTE_H

#include <stdint.h>

#include "runtime/base/error.h"

enum { PALETTE_MAX = 256 };

typedef struct Palette {
  int n;
  uint8_t rgb[PALETTE_MAX][3];
} Palette;

/* For pixels rgb [pixels, 3], at least one: all their colours, in the order in which they first occur, where these
 * are at most 256; else 256 or fewer with a small sum of squared errors.  False only when memory is short. */
bool palette_make(const uint8_t *rgb, size_t pixels, Palette *out, Error *err);

/* The nearest colour of each pixel, the first of several that are as near: out [pixels]. */
void palette_map(const Palette *p, const uint8_t *rgb, size_t pixels, uint8_t *out);

#endif
