/* RGB pictures: files to bytes and back, sizes, floats, contact sheets.
 *
 * Pictures are 8-bit sRGB, three bytes a pixel, rows from the top, no padding.  Reading flattens everything else to
 * that, as viewers show it (grey, palettes, 16 bits, four inks; transparency is laid on white, JPEGs are turned as
 * their EXIF data say).  Colour profiles are left to others. */
#ifndef NUWA_IMAGE_H
#define NUWA_IMAGE_H

#include <stdint.h>

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

/* What a file may ask for: checked before anything is allocated. */
enum { IMAGE_MAX_SIDE = 16384, IMAGE_MAX_PIXELS = 64 << 20 };

typedef struct Image {
  int width, height;
  uint8_t *rgb; /* [height, width, 3], owned */
} Image;

/* A black picture; image_done frees it and may be called on a zeroed or done one.  Sides of 1..IMAGE_MAX_SIDE. */
bool image_init(Image *im, int width, int height, Error *err);
void image_done(Image *im);

/* A key and its text inside a PNG file, for instance the recipe a picture was made by. */
typedef struct ImageText {
  const char *key;   /* 1 to 79 printable ASCII characters */
  const char *value; /* UTF-8; written as tEXt when it is ASCII, else as iTXt */
} ImageText;

/* The file as bytes in `out` (appended), or as a file that appears whole or not at all. */
bool image_encode_png(const Image *im, const ImageText *texts, int n_texts, Buffer *out, Error *err);
bool image_write_png(const char *path, const Image *im, const ImageText *texts, int n_texts, Error *err);

/* Decodes PNG, JPEG or WebP (of an animated one the first frame), told apart by their first bytes; `where` names the
 * bytes in errors.  Damaged and truncated data are refused, not guessed at.  *out is untouched on failure. */
bool image_decode(const void *bytes, size_t n, const char *where, Image *out, Error *err);
bool image_read(const char *path, Image *out, Error *err);

/* The text stored under `key` in a PNG (uncompressed tEXt or iTXt), heap-allocated.  NULL with err->code ERROR_NONE
 * when the file holds no such key. */
char *image_find_text(const void *bytes, size_t n, const char *where, const char *key, Error *err);

/* A map of labels [height, width] as a PNG with a palette, whose indices they are; labels beyond 255 are refused. */
bool image_write_labels(const char *path, const uint16_t *labels, int width, int height, Error *err);

/* Area average where an axis shrinks, linear interpolation where it grows. */
bool image_resize(const Image *im, int width, int height, Image *out, Error *err);
/* The part of width x height whose upper left pixel is (x, y); must lie inside. */
bool image_crop(const Image *im, int x, int y, int width, int height, Image *out, Error *err);
/* The largest centred part of the shape width:height, resized to exactly that. */
bool image_fit(const Image *im, int width, int height, Image *out, Error *err);
/* The size of that part. */
void image_fit_part(int from_width, int from_height, int width, int height, int *out_width, int *out_height);
/* A label map: PNG samples as they are stored (the index into a palette, or grey of 1 to 16 bits).
 * *out [height, width] is the caller's to free; untouched on failure. */
bool image_decode_labels(const void *bytes, size_t n, const char *where, uint16_t **out, int *out_width,
                         int *out_height, Error *err);

/* The same part of a label map as of a picture (image_fit), by the nearest of its labels: out [to_height, to_width]. */
void image_fit_labels(const uint16_t *labels, int width, int height, int to_width, int to_height, int32_t *out);

/* pixels values (three a pixel): u8 -> f32 in [-1, 1] and back, rounded and clamped.  NaN gives 0. */
void image_to_floats(const uint8_t *rgb, size_t values, float *out);
void image_from_floats(const float *values, size_t n, uint8_t *out);
/* The same of whole pixels that have 3 values, or 1: grey as Rec. 601 weighs colours. */
void image_to_channels(const uint8_t *rgb, size_t pixels, int64_t channels, float *out);
void image_from_channels(const float *values, size_t pixels, int64_t channels, uint8_t *out_rgb);
/* In 256ths: what is grey already stays as it is. */
uint8_t image_grey(const uint8_t rgb[3]);

/* n pictures of width x height, one after another in `rgb`, in rows of `columns`, each pixel drawn `zoom` times as
 * large, with `gap` pixels of mid-grey around them. */
bool image_sheet(const uint8_t *rgb, int n, int width, int height, int columns, int gap, int zoom, Image *out,
                 Error *err);

/* The sum of squared differences inside the box of w x h at (x, y) of two pictures that are `width` pixels wide. */
double image_box_error(const uint8_t *a, const uint8_t *b, int width, int x, int y, int w, int h);

/* Peak signal-to-noise ratio in dB over n values of 8 bits; INFINITY when they are equal. */
double image_psnr(const uint8_t *a, const uint8_t *b, size_t n);
/* The same from a sum of squared differences over n values, for means over many pictures. */
double image_psnr_of(double sum, size_t n);

#endif
