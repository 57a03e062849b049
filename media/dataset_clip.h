/* How clips of folders and shards become examples. */
#ifndef NUWA_DATASET_CLIP_H
#define NUWA_DATASET_CLIP_H

#include "media/clip.h"
#include "media/dataset_internal.h"

typedef struct ClipOptions {
  ClipRate rate; /* fps=N; else the stored frames */
  bool holds;    /* short=hold: the last frame of one that is too short stays; else that is refused */
} ClipOptions;

/* "fps=8,short=hold", "": neither.  `where` begins the error. */
bool clip_options_parse(const char *text, const char *where, ClipOptions *out, Error *err);

/* As clip_next: the next frame; false at the end with err->code ERROR_NONE, or with err set. */
typedef bool (*FrameReader)(void *ctx, Image *out, Error *err);

/* The first frames into place `at` of all wants of pictures, as many as each wants; of wants of one frame, the first.
 * out_size: width and height of the first one. */
bool data_put_frames(FrameReader next, void *ctx, const char *where, const ClipOptions *o, const DataWant *want,
                     int n, int64_t at, int out_size[2], Error *err);
/* The same of a clip's bytes. */
bool data_put_clip(const void *bytes, size_t n_bytes, const char *where, const ClipOptions *o, const DataWant *want,
                   int n, int64_t at, int out_size[2], Error *err);

#endif
