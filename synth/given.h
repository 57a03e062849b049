/* Completion: which part of a picture is known, as pixels and as tokens.
 *
 * The unknown part is painted mid-grey before encoding; a token is given iff all its pixels are known.  Known pixels
 * come out as they went in. */
#ifndef NUWA_SYNTH_GIVEN_H
#define NUWA_SYNTH_GIVEN_H

#include "synth/kit.h"

typedef struct Given {
  uint8_t *rgb;       /* [size, size, 3]: the picture, fitted to the model's size */
  uint8_t *unknown;   /* [size, size]: 1 where a pixel is unknown */
  uint8_t *given;     /* [positions]: 1 where a token is given */
  int32_t *tokens;    /* [positions] */
} Given;

/* Reads a picture for a kit and fits it to its size. rgb [size, size, 3] in a. */
bool given_read_picture(const Kit *k, Arena *a, const char *path, uint8_t **out_rgb, Error *err);
/* Whether a mask is one of the words lower, upper, left, right, all rather than a file. */
bool given_is_word(const char *mask);
/* mask: a picture of the picture's shape (light is unknown), or a word.  All in a. */
bool given_read(Kit *k, Arena *a, const char *path, const char *mask, Given *out, Error *err);
/* Puts the known pixels back into a drawing [size, size, 3]. */
void given_restore(const Kit *k, const Given *g, uint8_t *rgb);

#endif
