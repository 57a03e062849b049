/* Colour bitmaps of an emoji font, through FreeType. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <ft2build.h>
#include FT_FREETYPE_H

#include "media/world_internal.h"

static const char font_folder[] = "/usr/share/fonts", font_file[] = "NotoColorEmoji.ttf";

struct EmojiFont {
  FT_Library library;
  FT_Face face;
  char path[1024];
};

/* Depth first, at most six folders deep. */
static bool find_font(const char *folder, int depth, char *out, size_t cap) {
  DIR *d = depth < 6 ? opendir(folder) : NULL;
  if (!d) return false;
  bool found = false;
  for (struct dirent *e; !found && (e = readdir(d));) {
    char path[1024];
    struct stat st;
    if (e->d_name[0] == '.' || snprintf(path, sizeof path, "%s/%s", folder, e->d_name) >= (int)sizeof path) continue;
    if (stat(path, &st)) continue;
    if (S_ISDIR(st.st_mode))
      found = find_font(path, depth + 1, out, cap);
    else if (!strcmp(e->d_name, font_file))
      found = snprintf(out, cap, "%s", path) < (int)cap;
  }
  closedir(d);
  return found;
}

/* Bitmap fonts come in fixed sizes; the first is what Noto has (136 x 128 pixels). */
static bool open_face(EmojiFont *f, Error *err) {
  if (FT_Init_FreeType(&f->library)) return error_set(err, ERROR_MEMORY, "FreeType does not start");
  FT_Error e = FT_New_Face(f->library, f->path, 0, &f->face);
  if (e) return error_set(err, ERROR_IO, "%s: not a readable font (FreeType error %d)", f->path, e);
  if (!FT_HAS_COLOR(f->face) || f->face->num_fixed_sizes < 1 || FT_Select_Size(f->face, 0))
    return error_set(err, ERROR_FORMAT, "%s: has no colour bitmaps; the bitmap build of %s is needed", f->path,
                     font_file);
  return true;
}

EmojiFont *emoji_font_open(const char *path, Error *err) {
  EmojiFont *f = mem_alloc(sizeof *f);
  if (!f) {
    error_set(err, ERROR_MEMORY, "opening a font: out of memory");
    return NULL;
  }
  bool ok = true;
  if (path && snprintf(f->path, sizeof f->path, "%s", path) >= (int)sizeof f->path)
    ok = error_set(err, ERROR_ARGUMENT, "the path of a font is longer than %zu bytes", sizeof f->path - 1);
  else if (!path && !find_font(font_folder, 0, f->path, sizeof f->path))
    ok = error_set(err, ERROR_IO, "no %s under %s (Debian package fonts-noto-color-emoji)", font_file, font_folder);
  if (ok) ok = open_face(f, err);
  if (ok) return f;
  emoji_font_close(f);
  return NULL;
}

void emoji_font_close(EmojiFont *f) {
  if (!f) return;
  if (f->face) FT_Done_Face(f->face);
  if (f->library) FT_Done_FreeType(f->library);
  mem_free(f);
}

/* The box of what is not nearly transparent: anti-aliasing leaves faint rims that would shrink the thing. */
static bool find_box(const FT_Bitmap *b, int *x0, int *y0, int *x1, int *y1) {
  *x0 = *y0 = INT32_MAX;
  *x1 = *y1 = -1;
  for (int y = 0; y < (int)b->rows; y++)
    for (int x = 0; x < (int)b->width; x++) {
      if (b->buffer[(ptrdiff_t)y * b->pitch + 4 * x + 3] < 32) continue;
      if (x < *x0) *x0 = x;
      if (x > *x1) *x1 = x;
      if (y < *y0) *y0 = y;
      if (y > *y1) *y1 = y;
    }
  return *x1 >= 0;
}

bool emoji_font_glyph(EmojiFont *f, uint32_t code, GlyphBitmap *out, bool *out_found, Error *err) {
  *out_found = false;
  FT_UInt glyph = FT_Get_Char_Index(f->face, code);
  if (!glyph || FT_Load_Glyph(f->face, glyph, FT_LOAD_COLOR)) return true;
  const FT_Bitmap *b = &f->face->glyph->bitmap;
  int x0, y0, x1, y1;
  if (b->pixel_mode != FT_PIXEL_MODE_BGRA || b->rows > 4096 || b->width > 4096) return true;
  if (!find_box(b, &x0, &y0, &x1, &y1)) return true;
  GlyphBitmap g = {x1 - x0 + 1, y1 - y0 + 1, NULL};
  g.rgba = mem_alloc((size_t)g.width * (size_t)g.height * 4);
  if (!g.rgba) return error_set(err, ERROR_MEMORY, "%s: out of memory", f->path);
  uint8_t *q = g.rgba;
  for (int y = y0; y <= y1; y++)
    for (int x = x0; x <= x1; x++, q += 4) {
      const uint8_t *p = b->buffer + (ptrdiff_t)y * b->pitch + 4 * x;
      q[0] = p[2], q[1] = p[1], q[2] = p[0], q[3] = p[3];
    }
  *out = g;
  *out_found = true;
  return true;
}
