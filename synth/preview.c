/* See preview.h.  Kitty's protocol takes a PNG in base 64; sixels are six pixels high strips of one colour each,
 * after a palette, here of 6 x 6 x 6 colours. */
#include "synth/preview.h"

#include <stdlib.h>
#include <string.h>

#include "media/image.h"
#include "runtime/base/file.h"

enum { GREY = 128, ZOOM = 2, GAP = 1, LINE = 20, CUBE = 6, COLOURS = CUBE * CUBE * CUBE };

/* ---- opening ---- */

static bool says(const char *name, const char *part) {
  const char *value = getenv(name);
  return value && strstr(value, part);
}

static bool find_terminal(Preview *p, Error *err) {
  if (getenv("KITTY_WINDOW_ID") || says("TERM", "kitty") || says("TERM_PROGRAM", "ghostty") ||
      says("TERM_PROGRAM", "WezTerm"))
    return p->kind = PREVIEW_KITTY, true;
  if (says("TERM", "sixel") || says("TERM", "foot") || says("TERM", "mlterm") || says("TERM", "contour") ||
      says("TERM", "vt340"))
    return p->kind = PREVIEW_SIXEL, true;
  return error_set(err, ERROR_ARGUMENT,
                   "--preview terminal: by TERM and TERM_PROGRAM this one shows no pictures (kitty, WezTerm, "
                   "ghostty, foot, mlterm "
                   "and others do); give a folder");
}

bool preview_open(Preview *p, const Kit *k, const char *where, FILE *terminal, Error *err) {
  *p = (Preview){.kit = k, .kind = PREVIEW_FILES, .folder = where, .to = terminal};
  char first[4096];
  bool is_terminal = strcmp(where, "terminal") == 0;
  if (is_terminal && !find_terminal(p, err)) return false;
  if (!is_terminal && snprintf(first, sizeof first, "%s/x", where) >= (int)sizeof first)
    return error_set(err, ERROR_ARGUMENT, "--preview: too long a path");
  if (!is_terminal && !file_make_folders(first, err)) return error_prefix(err, "--preview");
  p->rgb = mem_alloc((size_t)(3 * k->grid[0] * k->size * k->size));
  p->codes = mem_alloc((size_t)k->positions * sizeof *p->codes);
  return (p->rgb && p->codes) || error_set(err, ERROR_MEMORY, "a preview: out of memory");
}

void preview_close(Preview *p) {
  mem_free(p->rgb);
  mem_free(p->codes);
  *p = (Preview){0};
}

/* ---- terminals ---- */

static void put_base64(const uint8_t *x, size_t n, FILE *to) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < n; i += 3) {
    unsigned v = (unsigned)x[i] << 16 | (i + 1 < n ? (unsigned)x[i + 1] << 8 : 0) | (i + 2 < n ? x[i + 2] : 0);
    putc(digits[v >> 18], to);
    putc(digits[v >> 12 & 63], to);
    putc(i + 1 < n ? digits[v >> 6 & 63] : '=', to);
    putc(i + 2 < n ? digits[v & 63] : '=', to);
  }
}

/* In pieces of at most 4096 characters. */
static bool put_kitty(const Image *im, FILE *to, Error *err) {
  enum { PIECE = 3072 };
  Buffer png = {0};
  bool ok = image_encode_png(im, NULL, 0, &png, err);
  for (size_t at = 0; ok && at < png.len; at += PIECE) {
    size_t n = png.len - at < PIECE ? png.len - at : PIECE;
    fprintf(to, at ? "\033_Gm=%d;" : "\033_Ga=T,f=100,m=%d;", at + n < png.len);
    put_base64((const uint8_t *)png.data + at, n, to);
    fputs("\033\\", to);
  }
  buffer_done(&png);
  return ok;
}

static int cube_of(const uint8_t *p) {
  int out = 0;
  for (int c = 0; c < 3; c++) out = CUBE * out + (p[c] * (CUBE - 1) + 127) / 255;
  return out;
}

/* One colour's pixels in a strip of six lines, runs counted. */
static void put_strip(const Image *im, int y0, int colour, FILE *to) {
  int run = 0, last = -1;
  fprintf(to, "#%d", colour);
  for (int x = 0; x <= im->width; x++) {
    int bits = 0;
    for (int k = 0; x < im->width && k < 6 && y0 + k < im->height; k++)
      bits |= (cube_of(im->rgb + 3 * ((y0 + k) * im->width + x)) == colour) << k;
    if (x < im->width && bits == last) {
      run++;
      continue;
    }
    if (run > 3) fprintf(to, "!%d%c", run, 63 + last);
    for (int i = 0; run <= 3 && i < run; i++) putc(63 + last, to);
    last = bits;
    run = 1;
  }
  putc('$', to);
}

static void put_sixel(const Image *im, FILE *to) {
  fprintf(to, "\033Pq\"1;1;%d;%d", im->width, im->height);
  for (int i = 0; i < COLOURS; i++) fprintf(to, "#%d;2;%d;%d;%d", i, i / 36 * 20, i / 6 % 6 * 20, i % 6 * 20);
  for (int y = 0; y < im->height; y += 6) {
    bool there[COLOURS] = {false};
    for (int k = y * im->width; k < (y + 6 < im->height ? y + 6 : im->height) * im->width; k++)
      there[cube_of(im->rgb + 3 * k)] = true;
    for (int i = 0; i < COLOURS; i++)
      if (there[i]) put_strip(im, y, i, to);
    putc('-', to);
  }
  fputs("\033\\", to);
}

/* Over the picture before. */
static bool put_picture(Preview *p, const Image *im) {
  bool ok = true;
  if (p->rows) fprintf(p->to, "\033[%lldA\r", (long long)p->rows);
  if (p->kind == PREVIEW_KITTY) ok = put_kitty(im, p->to, &p->err);
  else put_sixel(im, p->to);
  p->rows = (im->height + LINE - 1) / LINE;
  for (int64_t i = 0; i < p->rows; i++) putc('\n', p->to);
  fflush(p->to);
  return ok;
}

/* ---- pictures ---- */

/* What is not drawn yet is mid-grey. */
static bool decode(Preview *p, const int32_t *tokens) {
  const Kit *k = p->kit;
  int64_t size = k->size, h = k->grid[1], w = k->grid[2];
  for (int64_t i = 0; i < k->positions; i++) p->codes[i] = tokens[i] < 0 ? 0 : tokens[i];
  if (!codec_decode(&k->codec[CODEC_IMAGE], p->codes, k->grid[0], p->rgb, &p->err)) return false;
  for (int64_t i = 0; i < k->grid[0] * size * size; i++) {
    int64_t x = i % size, y = i / size % size, f = i / (size * size);
    if (tokens[(f * h + y * h / size) * w + x * w / size] < 0) memset(p->rgb + 3 * i, GREY, 3);
  }
  return true;
}

bool preview_show(Preview *p, const int32_t *tokens) {
  const Kit *k = p->kit;
  Image sheet = {0};
  char path[4200];
  bool ok = decode(p, tokens) && image_sheet(p->rgb, (int)k->grid[0], (int)k->size, (int)k->size, (int)k->grid[0],
                                             GAP, ZOOM, &sheet, &p->err);
  p->steps++;
  snprintf(path, sizeof path, "%s/step-%04lld.png", p->folder, (long long)p->steps);
  ok = ok && (p->kind == PREVIEW_FILES ? image_write_png(path, &sheet, NULL, 0, &p->err) : put_picture(p, &sheet));
  image_done(&sheet);
  return ok;
}
