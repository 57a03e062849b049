/* Between what reads clips. */
#ifndef NUWA_CLIP_INTERNAL_H
#define NUWA_CLIP_INTERNAL_H

#include "media/clip.h"

typedef struct ClipSource ClipSource;

/* When a stored frame is shown, in ticks from the first one's beginning; to >= from. */
typedef struct ClipSpan {
  int64_t from, to;
  bool is_last;
} ClipSpan;

typedef struct ClipKind {
  /* Decodes the next stored frame.  False at the end with err->code ERROR_NONE, or with err set. */
  bool (*next)(ClipSource *s, ClipSpan *out, Error *err);
  /* That frame as a picture, as often as it is asked for. */
  bool (*picture)(ClipSource *s, Image *out, Error *err);
  void (*close)(ClipSource *s); /* frees it too */
} ClipKind;

struct ClipSource {
  const ClipKind *kind;
  const char *where;
  int32_t tick_num, tick_den; /* seconds of a tick */
  uint64_t pixels;            /* of a frame */
};

/* Each NULL with err set; the first bytes have been looked at. */
ClipSource *clip_open_ffmpeg(const void *bytes, size_t n, const char *where, Error *err);
ClipSource *clip_open_webp(const void *bytes, size_t n, const char *where, Error *err);

/* Whether a frame of this size, and pixels in all, are within the limits of clip.h. */
bool clip_check_size(const char *where, uint64_t width, uint64_t height, Error *err);
bool clip_check_pixels(const char *where, uint64_t pixels, Error *err);

bool clip_is_webp(const void *bytes, size_t n);

/* Where the block of a GIF after the one at `at` begins, which is none of its trailer; at 0: after its head.  n or more
 * where it is cut short or damaged. */
size_t clip_gif_next(const uint8_t *p, size_t n, size_t at);

#endif
