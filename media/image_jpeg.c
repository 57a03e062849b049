/* JPEG files to pictures, as viewers show them: turned and mirrored as their EXIF data say, four inks (CMYK) laid on
 * white paper.  Colour profiles are left to others. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include "media/image_internal.h"

typedef struct JpegState {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr handlers;
  jmp_buf failed;
  char message[JMSG_LENGTH_MAX];
  uint8_t *inks; /* a row of CMYK */
  Image im;
} JpegState;

static void jpeg_fail(j_common_ptr jpeg) {
  JpegState *s = jpeg->client_data;
  s->handlers.format_message(jpeg, s->message);
  longjmp(s->failed, 1);
}

/* libjpeg fills what is missing or damaged with grey and only warns (level -1); a reader of data should not. */
static void jpeg_message(j_common_ptr jpeg, int level) {
  if (level < 0) jpeg_fail(jpeg);
}

/* ---- orientation ---- */

/* A little- or big-endian TIFF structure. */
typedef struct Tiff {
  const uint8_t *data;
  size_t n;
  bool is_big;
} Tiff;

static uint32_t tiff_number(const Tiff *t, size_t at, int bytes) {
  uint32_t v = 0;
  if (at > t->n || t->n - at < (size_t)bytes) return 0;
  for (int i = 0; i < bytes; i++) v |= (uint32_t)t->data[at + (size_t)i] << 8 * (t->is_big ? bytes - 1 - i : i);
  return v;
}

/* The orientation tag of the first directory, 1 to 8; 1, upright, where there is none. */
static int exif_orientation(const uint8_t *data, size_t n) {
  enum { TAG_ORIENTATION = 0x112, TYPE_SHORT = 3 };
  if (n < 14 || memcmp(data, "Exif\0\0", 6)) return 1;
  Tiff t = {data + 6, n - 6, data[6] == 'M'};
  size_t folder = tiff_number(&t, 4, 4), entries = tiff_number(&t, folder, 2);
  if (tiff_number(&t, 2, 2) != 42) return 1;
  for (size_t i = 0; i < entries; i++) {
    size_t at = folder + 2 + 12 * i;
    if (tiff_number(&t, at, 2) != TAG_ORIENTATION || tiff_number(&t, at + 2, 2) != TYPE_SHORT) continue;
    uint32_t value = tiff_number(&t, at + 8, 2);
    return value >= 1 && value <= 8 ? (int)value : 1;
  }
  return 1;
}

static int jpeg_orientation(const JpegState *s) {
  for (jpeg_saved_marker_ptr m = s->jpeg.marker_list; m; m = m->next) {
    int orientation = m->marker == JPEG_APP0 + 1 ? exif_orientation(m->data, m->data_length) : 1;
    if (orientation != 1) return orientation;
  }
  return 1;
}

/* ---- pixels ---- */

/* Programs of Adobe store how much paper shows rather than how much ink is on it, and say who they are. */
static void inks_to_rgb(const JpegState *s, uint8_t *rgb) {
  const uint8_t *ink = s->inks;
  for (int x = 0; x < s->im.width; x++, ink += 4)
    for (int c = 0; c < 3; c++) {
      unsigned colour = s->jpeg.saw_Adobe_marker ? ink[c] : 255u - ink[c];
      unsigned black = s->jpeg.saw_Adobe_marker ? ink[3] : 255u - ink[3];
      *rgb++ = (uint8_t)((colour * black + 127) / 255);
    }
}

static void read_rows(JpegState *s) {
  while (s->jpeg.output_scanline < s->jpeg.output_height) {
    uint8_t *rgb = s->im.rgb + (size_t)s->jpeg.output_scanline * 3 * (size_t)s->im.width;
    JSAMPROW row = s->inks ? s->inks : rgb;
    jpeg_read_scanlines(&s->jpeg, &row, 1);
    if (s->inks) inks_to_rgb(s, rgb);
  }
}

static bool jpeg_run(JpegState *s, const void *bytes, size_t n, const char *where, Error *err) {
  if (setjmp(s->failed)) return error_set(err, ERROR_FORMAT, "%s: damaged JPEG: %s", where, s->message);
  jpeg_create_decompress(&s->jpeg);
  jpeg_save_markers(&s->jpeg, JPEG_APP0 + 1, 0xffff);
  jpeg_mem_src(&s->jpeg, bytes, (unsigned long)n);
  jpeg_read_header(&s->jpeg, TRUE);
  if (!image_check_size(where, s->jpeg.image_width, s->jpeg.image_height, err)) return false;
  bool is_cmyk = s->jpeg.num_components == 4;
  s->jpeg.out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&s->jpeg);
  if (!image_init(&s->im, (int)s->jpeg.output_width, (int)s->jpeg.output_height, err)) return false;
  if (is_cmyk && !(s->inks = mem_alloc(4 * (size_t)s->im.width)))
    return error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  read_rows(s);
  int orientation = jpeg_orientation(s);
  jpeg_finish_decompress(&s->jpeg);
  return image_turn(&s->im, orientation, err);
}

bool image_decode_jpeg(const void *bytes, size_t n, const char *where, Image *out, Error *err) {
  JpegState *s = mem_alloc(sizeof *s);
  if (!s) return error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  s->jpeg.err = jpeg_std_error(&s->handlers);
  s->jpeg.client_data = s;
  s->handlers.error_exit = jpeg_fail;
  s->handlers.emit_message = jpeg_message;
  bool ok = jpeg_run(s, bytes, n, where, err);
  jpeg_destroy_decompress(&s->jpeg);
  mem_free(s->inks);
  if (ok) *out = s->im;
  else image_done(&s->im);
  mem_free(s);
  return ok;
}
