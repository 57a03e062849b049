/* How files become examples, whether they lie in folders or in shards: their bytes into wants. */
#ifndef NUWA_DATASET_FILES_H
#define NUWA_DATASET_FILES_H

#include "media/clip.h"
#include "media/dataset_internal.h"
#include "media/listing.h"

typedef struct ClipOptions {
  ClipRate rate; /* fps=N; else the stored frames */
  bool holds;    /* short=hold: the last frame of one that is too short stays; else that is refused */
} ClipOptions;

/* "fps=8,short=hold", "": neither.  `where` begins the error. */
bool clip_options_parse(const char *text, const char *where, ClipOptions *out, Error *err);

/* Fields of what is listed: image, and video, labels, text and class where some examples have them. */
bool data_add_listed_fields(Dataset *d, const Listing *l, Error *err);

/* The most frames that a want of this fit has; 0: there is none.  And that a clip has fewer, as an error. */
int64_t data_most_frames(const DataWant *want, int n, DataFit fit);
bool data_refuse_short(const char *where, const ClipOptions *o, int64_t has, int64_t wants, Error *err);

/* As clip_next: the next frame; false at the end with err->code ERROR_NONE, or with err set. */
typedef bool (*FrameReader)(void *ctx, Image *out, Error *err);

/* The first frames into place `at` of all wants of pictures, as many as each wants; of wants of one frame, the first.
 * out_size: width and height of the first one. */
bool data_put_frames(FrameReader next, void *ctx, const char *where, const ClipOptions *o, const DataWant *want,
                     int n, int64_t at, int out_size[2], Error *err);
/* The same of a clip's bytes. */
bool data_put_clip(const void *bytes, size_t n_bytes, const char *where, const ClipOptions *o, const DataWant *want,
                   int n, int64_t at, int out_size[2], Error *err);

/* A picture's bytes into place `at` of all wants of pictures; out_size: its width and height. */
bool data_put_image(const void *bytes, size_t n_bytes, const char *where, const DataWant *want, int n, int64_t at,
                    int out_size[2], Error *err);
/* A map of labels likewise, into frame `frame` of the wants of labels that have one; it must have the size of the
 * picture where that is known (else zeros). */
bool data_put_label_map(const void *bytes, size_t n_bytes, const char *where, const int size[2], const DataWant *want,
                        int n, int64_t at, int64_t frame, Error *err);
/* What captions_choose finds in an example's own text. */
bool data_choose_caption(const char *bytes, size_t n, const char *where, uint64_t draw, Buffer *out, Error *err);

#endif
