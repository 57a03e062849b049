/* What is known of a drawing: which part of a picture or clip, as pixels and as tokens.
 *
 * The unknown part is painted mid-grey before encoding; a token is given iff all its pixels are known.  Known pixels
 * come out as they went in. */
#ifndef NUWA_SYNTH_GIVEN_H
#define NUWA_SYNTH_GIVEN_H

#include "synth/kit.h"

/* Of files that a user names.  One of image and video is set. */
typedef struct GivenSpec {
  const char *image;      /* a picture; of a clip the first frame */
  const char *video;      /* a clip */
  const char *mask;       /* what of it is unknown: a picture or clip of its shape (light is unknown), a word, or a box
                           * X,Y,WIDTH,HEIGHT in its pixels; NULL: of a picture nothing may be */
  int64_t given_frames;   /* this many first frames of a clip are known, whatever the mask says of them; 0: as the mask says */
} GivenSpec;

typedef struct Given {
  int64_t frames;     /* that are drawn: 1 of a picture */
  uint8_t *rgb;       /* [frames, size, size, 3]: fitted to the model's size */
  uint8_t *unknown;   /* [frames, size, size]: 1 where a pixel is unknown */
  uint8_t *given;     /* [positions]: 1 where a token is given */
  int32_t *tokens;    /* [positions] */
} Given;

/* Reads a picture, or the first frame of a clip, for a kit and fits it to its size. rgb [size, size, 3] in a. */
bool given_read_picture(const Kit *k, Arena *a, const char *path, uint8_t **out_rgb, Error *err);
/* The first frames of a clip, at most `most`, fitted: rgb [*out_n, size, size, 3] in a; *out_all: it has no more. */
bool given_read_clip(const Kit *k, Arena *a, const char *path, int64_t most, uint8_t **out_rgb, int64_t *out_n, bool *out_all,
                     Error *err);
/* Whether a mask is a word or a box, rather than a file. */
bool given_is_word(const char *mask);
/* All in a. */
bool given_read(Kit *k, Arena *a, const GivenSpec *spec, Given *out, Error *err);
/* Codes of what is known: given and tokens from frames, rgb and unknown.  In a. */
bool given_encode(const Kit *k, Arena *a, Given *g, Error *err);
/* Puts the known pixels of frame f back into a drawing [size, size, 3]. */
void given_restore(const Kit *k, const Given *g, int64_t f, uint8_t *rgb);

#endif
