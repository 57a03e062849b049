/* Between the files that read pictures. */
#ifndef NUWA_IMAGE_INTERNAL_H
#define NUWA_IMAGE_INTERNAL_H

#include "media/image.h"

/* Whether a picture of this size is within the limits of image.h. */
bool image_check_size(const char *where, uint64_t width, uint64_t height, Error *err);

/* As image_decode; the first bytes have been looked at. */
bool image_decode_png(const void *bytes, size_t n, const char *where, Image *out, Error *err);
bool image_decode_jpeg(const void *bytes, size_t n, const char *where, Image *out, Error *err);
bool image_decode_webp(const void *bytes, size_t n, const char *where, Image *out, Error *err);

/* Turns a picture in place by an orientation of EXIF.  Row 0 and column 0 of what is stored are: 1 top left, 2 top
 * right, 3 bottom right, 4 bottom left, 5 left top, 6 right top, 7 right bottom, 8 left bottom of what is shown. */
bool image_turn(Image *im, int orientation, Error *err);
/* Pixels of four bytes, not premultiplied, in rows of `stride` bytes, laid on white. */
bool image_from_rgba(const uint8_t *rgba, size_t stride, int width, int height, Image *out, Error *err);

#endif
