/* Clips: files of moving pictures, as pictures one after another.
 *
 * What a file is, its content says, never its name: GIF, MP4 (and MOV), WebM (and Matroska), AVI, Ogg and MPEG by
 * FFmpeg's libraries, WebP by its own.  A clip is read from memory: nothing that a file refers to is ever opened.
 *
 * Pictures are as image.h has them: of any depth and range of YUV, grey, palette; transparency is laid on white;
 * pixels that are not square are made so by the width; turned and mirrored as the file says (by right angles; other
 * turns are refused).  Where a file does not name its matrix it is BT.601 up to 1279 x 576, BT.709 above; grey that
 * names no range has all of it.  Interlaced fields, primaries, transfer curves and sound are left to others, and so
 * is the transparency of VP8 and VP9.
 *
 * Stored frames stand at times that need not be even.  At a rate of r frames a second, frame i is the stored frame
 * whose time, counted from the first one's, is nearest to i / r, the earlier of two that are as near; there are as
 * many as begin before the last one's end.  Frames of WebP that are shown for 10 ms or less, and of GIF for less than
 * 20, last 100, as browsers show them.  A clip that repeats is read once. */
#ifndef NUWA_CLIP_H
#define NUWA_CLIP_H

#include "media/image.h"

/* What one clip may cost: pixels of a frame (decoders keep up to 16), stored frames passed on the way, and the pixels
 * of all that is decoded. */
enum { CLIP_MAX_FRAME = 1 << 25, CLIP_MAX_STORED = 1 << 16 };
#define CLIP_MAX_PIXELS ((uint64_t)1 << 34)

/* frames in so many seconds; zeroed: the stored frames one after another, whatever their times. */
typedef struct ClipRate {
  int32_t frames, seconds;
} ClipRate;

/* "8", "12.5", "30000/1001": above 0, at most 1000 a second, with at most 3 decimals. */
bool clip_parse_rate(const char *text, ClipRate *out, Error *err);

typedef struct Clip Clip;

/* NULL with err set; `where` names the bytes in errors.  Bytes and where must outlive the clip. */
Clip *clip_open(const void *bytes, size_t n, const char *where, ClipRate rate, Error *err);
/* The next frame, an image of its own (sizes may change within a clip).  False at the end with err->code ERROR_NONE,
 * or with err set: damaged and truncated frames are refused, not guessed at.  *out is untouched then. */
bool clip_next(Clip *c, Image *out, Error *err);
void clip_close(Clip *c); /* NULL is fine */

#endif
