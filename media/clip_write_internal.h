/* Between what writes clips. */
#ifndef NUWA_CLIP_WRITE_INTERNAL_H
#define NUWA_CLIP_WRITE_INTERNAL_H

#include "media/clip_write.h"

typedef struct ClipFrames {
  const uint8_t *rgb; /* [n, height, width, 3] */
  int n, width, height;
  ClipRate rate;
  const char *text; /* NULL: none */
} ClipFrames;

/* As clip_encode; sizes and rate have been checked against what all formats have in common. */
bool clip_encode_gif(const ClipFrames *f, Buffer *out, Error *err);
bool clip_encode_webp(const ClipFrames *f, Buffer *out, Error *err);
bool clip_encode_mp4(const ClipFrames *f, Buffer *out, Error *err);

/* When frame i begins, in whole ticks of which a second has `per_second`. */
int64_t clip_stamp(const ClipFrames *f, int64_t i, int per_second);
/* Whether frames last `least` to `most` of these ticks, as the format called `name` needs them. */
bool clip_check_rate(const ClipFrames *f, const char *name, int per_second, int least, int most, Error *err);

const uint8_t *clip_frame(const ClipFrames *f, int i);

/* What the text of a clip is called in what holds comments of anyone: "nuwa {...}". */
#define CLIP_TEXT_MARK "nuwa "

/* A comment extension of GIF, and a packet of XMP. */
void clip_append_comment(Buffer *out, const char *text);
void clip_append_xmp(Buffer *out, const char *text);

#endif
