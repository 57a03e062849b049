/* Pictures to PNG files, and what is common to the files that are read (image_png.c, image_jpeg.c, clip_webp.c).
 *
 * Pixels are written through libpng's simplified interface, which keeps its error handling to itself.  It knows
 * nothing of text chunks, so those are put into and looked up in the finished file here. */
#include <stdio.h>
#include <string.h>

#include <png.h>

#include "media/clip_internal.h"
#include "media/image_internal.h"
#include "runtime/base/file.h"

static const uint8_t png_signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
enum { PNG_HEAD_BYTES = 8 + 25 }; /* the signature and the IHDR chunk, which must come first */

static uint32_t png_crc(uint32_t crc, const uint8_t *p, size_t n) {
  crc = ~crc;
  for (size_t i = 0; i < n; i++) {
    crc ^= p[i];
    for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
  }
  return ~crc;
}

static uint32_t load_be32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void append_be32(Buffer *b, uint32_t x) {
  uint8_t bytes[4] = {(uint8_t)(x >> 24), (uint8_t)(x >> 16), (uint8_t)(x >> 8), (uint8_t)x};
  buffer_append(b, bytes, 4);
}

static bool check_key(const char *key, Error *err) {
  size_t n = strlen(key);
  bool ok = n >= 1 && n <= 79;
  for (size_t i = 0; ok && i < n; i++) ok = key[i] >= 32 && key[i] < 127;
  return ok ||
         error_set(err, ERROR_ARGUMENT, "PNG text key \"%.100s\": must be 1 to 79 printable ASCII characters", key);
}

/* tEXt is Latin-1, so whatever is not ASCII becomes iTXt, which is UTF-8. */
static bool append_text(Buffer *out, const ImageText *t, Error *err) {
  if (!check_key(t->key, err)) return false;
  size_t key_bytes = strlen(t->key) + 1, value_bytes = strlen(t->value);
  bool ascii = true;
  for (size_t i = 0; i < value_bytes; i++) ascii &= (unsigned char)t->value[i] < 128;
  if (value_bytes > (1u << 30)) return error_set(err, ERROR_LIMIT, "PNG text \"%s\": longer than 1 GiB", t->key);
  append_be32(out, (uint32_t)(key_bytes + value_bytes + (ascii ? 0 : 4)));
  size_t start = out->len;
  buffer_append(out, ascii ? "tEXt" : "iTXt", 4);
  buffer_append(out, t->key, key_bytes);
  if (!ascii) buffer_append(out, "\0\0\0\0", 4); /* not compressed, method 0, no language, no translated key */
  buffer_append(out, t->value, value_bytes);
  if (!out->failed) append_be32(out, png_crc(0, (const uint8_t *)out->data + start, out->len - start));
  return true;
}

bool image_encode_png(const Image *im, const ImageText *texts, int n_texts, Buffer *out, Error *err) {
  png_image png = {.version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_RGB};
  png.width = (png_uint_32)im->width;
  png.height = (png_uint_32)im->height;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(png);
  uint8_t *file = mem_alloc(bytes);
  if (!file) return error_set(err, ERROR_MEMORY, "writing a PNG of %d x %d: out of memory", im->width, im->height);
  bool ok = png_image_write_to_memory(&png, file, &bytes, 0, im->rgb, 0, NULL);
  if (!ok) error_set(err, ERROR_ARGUMENT, "writing a PNG of %d x %d: %s", im->width, im->height, png.message);
  if (ok) buffer_append(out, file, PNG_HEAD_BYTES);
  for (int i = 0; ok && i < n_texts; i++) ok = append_text(out, &texts[i], err);
  if (ok) buffer_append(out, file + PNG_HEAD_BYTES, bytes - PNG_HEAD_BYTES);
  if (ok && out->failed)
    ok = error_set(err, ERROR_MEMORY, "writing a PNG of %d x %d: out of memory", im->width, im->height);
  mem_free(file);
  return ok;
}

/* Neighbouring labels get colours that are told apart: black, then hues a golden section apart. */
static void colour_of_label(int label, uint8_t out[3]) {
  int hue = label * 948 % 1536, x = hue % 256;   /* 1536 / phi */
  const uint8_t up = (uint8_t)x, down = (uint8_t)(255 - x), ramp[6][3] = {{255, up, 0}, {down, 255, 0}, {0, 255, up},
                                                                          {0, down, 255}, {up, 0, 255}, {255, 0, down}};
  for (int c = 0; c < 3; c++) out[c] = label ? (uint8_t)(64 + ramp[hue / 256][c] * 3 / 4) : 0;
}

bool image_write_labels(const char *path, const uint16_t *labels, int width, int height, Error *err) {
  size_t n = (size_t)width * (size_t)height;
  png_image png = {.version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_RGB_COLORMAP, .colormap_entries = 256};
  uint8_t palette[256][3], *index = mem_alloc(n), *file = NULL;
  bool ok = index || error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  for (int i = 0; i < 256; i++) colour_of_label(i, palette[i]);
  for (size_t i = 0; ok && i < n; i++) {
    index[i] = (uint8_t)labels[i];
    ok = labels[i] < 256 || error_set(err, ERROR_LIMIT, "%s: label %d; a palette has 0 to 255", path, labels[i]);
  }
  png.width = (png_uint_32)width;
  png.height = (png_uint_32)height;
  png_alloc_size_t bytes = 0;
  ok = ok && ((png_image_write_to_memory(&png, NULL, &bytes, 0, index, 0, palette) && (file = mem_alloc(bytes)) &&
               png_image_write_to_memory(&png, file, &bytes, 0, index, 0, palette)) ||
              error_set(err, ERROR_ARGUMENT, "%s: writing a PNG of %d x %d: %s", path, width, height, png.message));
  ok = ok && file_write_all(path, file, bytes, err);
  mem_free(index);
  mem_free(file);
  return ok;
}

bool image_write_png(const char *path, const Image *im, const ImageText *texts, int n_texts, Error *err) {
  Buffer b = {0};
  bool ok = image_encode_png(im, texts, n_texts, &b, err) && file_write_all(path, b.data, b.len, err);
  buffer_done(&b);
  return ok;
}

bool image_check_size(const char *where, uint64_t width, uint64_t height, Error *err) {
  bool ok = width >= 1 && height >= 1 && width <= IMAGE_MAX_SIDE && height <= IMAGE_MAX_SIDE &&
            width * height <= IMAGE_MAX_PIXELS;
  return ok ||
         error_set(err, ERROR_LIMIT, "%s: a picture of %llu x %llu; the limits are %d pixels a side, %d in all",
                   where, (unsigned long long)width, (unsigned long long)height, IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS);
}

bool image_decode(const void *bytes, size_t n, const char *where, Image *out, Error *err) {
  const uint8_t *p = bytes;
  if (n >= 8 && !memcmp(p, png_signature, 8)) return image_decode_png(bytes, n, where, out, err);
  if (n >= 3 && p[0] == 0xff && p[1] == 0xd8 && p[2] == 0xff) return image_decode_jpeg(bytes, n, where, out, err);
  if (clip_is_webp(bytes, n)) return image_decode_webp(bytes, n, where, out, err);
  return error_set(err, ERROR_FORMAT, "%s: not a PNG, JPEG or WebP file (%zu bytes)", where, n);
}

bool image_read(const char *path, Image *out, Error *err) {
  FileMap m;
  if (!file_load(path, &m, err)) return false;
  bool ok = image_decode(m.data, m.len, path, out, err);
  file_unmap(&m);
  return ok;
}

/* Where the text of an iTXt begins, after key, flags, language and translated key; NULL if compressed or damaged. */
static const uint8_t *skip_itxt_head(const uint8_t *p, const uint8_t *end) {
  if (end - p < 2 || p[0] != 0) return NULL;
  p += 2;
  for (int i = 0; i < 2; i++) {
    p = memchr(p, 0, (size_t)(end - p));
    if (!p) return NULL;
    p++;
  }
  return p;
}

static char *copy_text(const uint8_t *p, size_t n, const char *where, Error *err) {
  char *text = mem_alloc(n + 1);
  if (!text) {
    error_set(err, ERROR_MEMORY, "%s: out of memory", where);
    return NULL;
  }
  memcpy(text, p, n);
  return text;
}

char *image_find_text(const void *bytes, size_t n, const char *where, const char *key, Error *err) {
  const uint8_t *p = bytes;
  err->code = ERROR_NONE;
  if (n < 8 || memcmp(p, png_signature, 8)) {
    error_set(err, ERROR_FORMAT, "%s: not a PNG file", where);
    return NULL;
  }
  size_t key_bytes = strlen(key) + 1;
  for (size_t at = 8; at < n;) {
    uint32_t len = n - at < 12 ? UINT32_MAX : load_be32(p + at);
    if (len == UINT32_MAX || len > n - at - 12) {
      error_set(err, ERROR_FORMAT, "%s: truncated PNG: a chunk at byte %zu ends after the file", where, at);
      return NULL;
    }
    const uint8_t *data = p + at + 8, *end = data + len;
    bool text = !memcmp(data - 4, "tEXt", 4), itxt = !memcmp(data - 4, "iTXt", 4);
    if ((text || itxt) && len >= key_bytes && !memcmp(data, key, key_bytes)) {
      if (png_crc(0, data - 4, (size_t)len + 4) != load_be32(end)) {
        error_set(err, ERROR_FORMAT, "%s: damaged PNG: wrong checksum of the text \"%s\"", where, key);
        return NULL;
      }
      const uint8_t *value = itxt ? skip_itxt_head(data + key_bytes, end) : data + key_bytes;
      if (value) return copy_text(value, (size_t)(end - value), where, err);
    }
    at += (size_t)len + 12;
  }
  return NULL;
}
