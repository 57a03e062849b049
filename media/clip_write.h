/* Clips to files: pictures of one size at an even rate, with the text of their recipe inside.
 *
 * GIF keeps every pixel where all frames together have at most 256 colours; else it has 256 that come close.  WebP
 * keeps every pixel.  Both repeat without end.  MP4 is H.264 (MPEG-4 where FFmpeg has no libx264), BT.709 of limited
 * range with half the chroma each way, near to what the eye can tell; an odd width or height grows by one, the last
 * column or row twice, because such chroma has no odd sizes.
 *
 * GIF counts time in 100ths of a second and WebP in 1000ths: frame i begins at the last of them that is not after
 * i / rate, so that reading at the rate (clip.h) gives the frames as they were.  What browsers would slow down is
 * refused: more than 50 frames a second of GIF, more than 1000 / 11 of WebP.  A WebP of one frame is a still picture,
 * which has no time.
 *
 * The same frames and text give the same bytes with the same libraries. */
#ifndef NUWA_CLIP_WRITE_H
#define NUWA_CLIP_WRITE_H

#include "media/clip.h"

/* How a clip is stored, by the ending of its file's name. */
typedef enum ClipFormat { CLIP_GIF, CLIP_WEBP, CLIP_MP4, CLIP_FORMATS } ClipFormat;

/* By .gif, .webp or .mp4, large letters or small; false: the name ends in none of them. */
bool clip_format_of(const char *path, ClipFormat *out);

/* n >= 1 frames rgb [n, height, width, 3] at rate > 0, with a text (UTF-8 of any length; NULL: none), as bytes that
 * are appended to `out`, or as a file that appears whole or not at all.  Sides of 1 to IMAGE_MAX_SIDE (WebP: one
 * less) and CLIP_MAX_FRAME pixels a frame, so that the clip can be read again.  What `out` holds after a failure is
 * no clip. */
bool clip_encode(ClipFormat format, const uint8_t *rgb, int n, int width, int height, ClipRate rate, const char *text,
                 Buffer *out, Error *err);
bool clip_write(const char *path, const uint8_t *rgb, int n, int width, int height, ClipRate rate, const char *text,
                Error *err);

/* What encodes MP4, "libavcodec 59.37.100": another version may give other bytes.  Of the other formats "", their pixels are
 * coded without loss.  NULL with err set where it cannot be loaded. */
const char *clip_encoder(ClipFormat format, char out[64], Error *err);

/* The text that clip_encode put into a GIF, WebP or MP4 (its content says which), heap-allocated; `where` names the
 * bytes in errors.  NULL with err->code ERROR_NONE when there is none; files that are damaged before it are refused.
 */
char *clip_find_text(const void *bytes, size_t n, const char *where, Error *err);

#endif
