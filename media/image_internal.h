/* Between the files that read pictures. */
#ifndef NUWA_IMAGE_INTERNAL_H
#define NUWA_IMAGE_INTERNAL_H

#include "media/image.h"

/* Whether a picture of this size is within the limits of image.h. */
bool image_check_size(const char *where, uint64_t width, uint64_t height, Error *err);

/* As image_decode; the first bytes have been looked at. */
bool image_decode_png(const void *bytes, size_t n, const char *where, Image *out, Error *err);
bool image_decode_jpeg(const void *bytes, size_t n, const char *where, Image *out, Error *err);

#endif
