/* The text inside a GIF (a comment), a WebP (its XMP) or an MP4 (its comment): found by walking over what the file
 * holds, without a decoder.  What stands in the text's place but was not written by clip_encode is no text. */
#include <string.h>

#include "media/clip_internal.h"
#include "media/clip_write_internal.h"

typedef struct Span {
  const uint8_t *p;
  size_t n;
} Span;

static char *refuse(const char *where, const char *kind, const char *what, Error *err) {
  error_set(err, ERROR_FORMAT, "%s: damaged %s: %s", where, kind, what);
  return NULL;
}

/* The text of a buffer without the mark, and the buffer done; NULL with ERROR_NONE where there is no mark. */
static char *take_marked(Buffer *b, const char *where, Error *err) {
  const size_t mark = strlen(CLIP_TEXT_MARK);
  bool is_ours = !b->failed && b->len >= mark && !memcmp(b->data, CLIP_TEXT_MARK, mark);
  if (is_ours) return memmove(b->data, b->data + mark, b->len - mark + 1);
  if (b->failed) error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  buffer_done(b);
  return NULL;
}

/* ---- GIF ---- */

enum { GIF_EXTENSION = '!', GIF_COMMENT = 0xfe, GIF_TRAILER = ';', GIF_BLOCK = 255 };

void clip_append_comment(Buffer *out, const char *text) {
  Buffer b = {0};
  buffer_printf(&b, CLIP_TEXT_MARK "%s", text);
  buffer_append(out, "!\xfe", 2);
  for (size_t at = 0; at < b.len;) {
    uint8_t n = (uint8_t)(b.len - at < GIF_BLOCK ? b.len - at : GIF_BLOCK);
    buffer_append(out, &n, 1);
    buffer_append(out, b.data + at, n);
    at += n;
  }
  buffer_append(out, "", 1);
  out->failed |= b.failed;
  buffer_done(&b);
}

/* The comment at `at`, which lies within the file. */
static char *read_comment(const uint8_t *p, size_t at, const char *where, Error *err) {
  Buffer b = {0};
  for (at += 2; p[at]; at += p[at] + (size_t)1) buffer_append(&b, p + at + 1, p[at]);
  return take_marked(&b, where, err);
}

static char *find_in_gif(const uint8_t *p, size_t n, const char *where, Error *err) {
  size_t at = clip_gif_next(p, n, 0);
  while (at < n && p[at] != GIF_TRAILER) {
    size_t next = clip_gif_next(p, n, at);
    bool is_comment = next < n && p[at] == GIF_EXTENSION && p[at + 1] == GIF_COMMENT;
    char *text = is_comment ? read_comment(p, at, where, err) : NULL;
    if (text || err->code) return text;
    at = next;
  }
  return at < n ? NULL : refuse(where, "GIF", "it is cut short", err);
}

/* ---- WebP ---- */

static const char xmp_head[] = "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">"
                               "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
                               "<rdf:Description rdf:about=\"\" xmlns:nuwa=\"urn:nuwa:\">",
                  xmp_tail[] = "</rdf:Description></rdf:RDF></x:xmpmeta>", xmp_open[] = "<nuwa:recipe>",
                  xmp_close[] = "</nuwa:recipe>";

static const struct {
  char letter;
  const char *entity;
} entities[] = {{'<', "&lt;"}, {'>', "&gt;"}, {'&', "&amp;"}, {'\r', "&#13;"}};

static const char *entity_of(char letter) {
  for (int i = 0; i < COUNT_OF(entities); i++)
    if (entities[i].letter == letter) return entities[i].entity;
  return NULL;
}

static void append_text(Buffer *out, const char *text) { buffer_append(out, text, strlen(text)); }

void clip_append_xmp(Buffer *out, const char *text) {
  append_text(out, xmp_head);
  append_text(out, xmp_open);
  for (; *text; text++) {
    const char *entity = entity_of(*text);
    buffer_append(out, entity ? entity : text, entity ? strlen(entity) : 1);
  }
  append_text(out, xmp_close);
  append_text(out, xmp_tail);
}

/* The letter that an entity stands for, and where it ends; an & of others stays as it is. */
static char read_letter(Span in, size_t *at) {
  for (int i = 0; in.p[*at] == '&' && i < COUNT_OF(entities); i++) {
    size_t n = strlen(entities[i].entity);
    if (n > in.n - *at || memcmp(in.p + *at, entities[i].entity, n) != 0) continue;
    *at += n;
    return entities[i].letter;
  }
  return (char)in.p[(*at)++];
}

static char *read_xmp(Span xmp, const char *where, Error *err) {
  const size_t open = strlen(xmp_open);
  Buffer b = {0};
  const uint8_t *from = memmem(xmp.p, xmp.n, xmp_open, open);
  if (!from) return NULL;
  Span in = {from + open, xmp.n - (size_t)(from - xmp.p) - open};
  const uint8_t *to = memmem(in.p, in.n, xmp_close, strlen(xmp_close));
  if (!to) return refuse(where, "WebP", "its XMP is cut short", err);
  in.n = (size_t)(to - in.p);
  buffer_append(&b, "", 0);
  for (size_t at = 0; at < in.n;) {
    char letter = read_letter(in, &at);
    buffer_append(&b, &letter, 1);
  }
  if (!b.failed) return b.data;
  buffer_done(&b);
  error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  return NULL;
}

static size_t load_le32(const uint8_t *p) {
  return (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
}

static char *find_in_webp(const uint8_t *p, size_t n, const char *where, Error *err) {
  enum { HEAD = 12, CHUNK = 8 };
  size_t end = load_le32(p + 4) + CHUNK;
  if (end > n) return refuse(where, "WebP", "it is cut short", err);
  for (size_t at = HEAD; at < end;) {
    size_t bytes = end - at < CHUNK ? SIZE_MAX : load_le32(p + at + 4);
    if (bytes == SIZE_MAX || bytes > end - at - CHUNK)
      return refuse(where, "WebP", "a chunk ends after the file", err);
    if (!memcmp(p + at, "XMP ", 4)) return read_xmp((Span){p + at + CHUNK, bytes}, where, err);
    at += CHUNK + bytes + bytes % 2;
  }
  return NULL;
}

/* ---- MP4 ---- */

static uint64_t load_be32(const uint8_t *p) {
  return (uint64_t)p[0] << 24 | (uint64_t)p[1] << 16 | (uint64_t)p[2] << 8 | p[3];
}

/* What the box at the beginning of `in` holds (at least 8 bytes), and its whole size; false: it ends after `in`. */
static bool read_box(Span in, Span *out, size_t *out_whole) {
  uint64_t whole = load_be32(in.p), head = 8;
  if (whole == 0) whole = in.n;
  if (whole == 1) {
    head = 16;
    whole = in.n < head ? 0 : load_be32(in.p + 8) << 32 | load_be32(in.p + 12);
  }
  if (whole < head || whole > in.n) return false;
  *out = (Span){in.p + head, whole - head};
  *out_whole = whole;
  return true;
}

/* The first box of a kind.  False with *out zeroed where there is none (QuickTime ends lists of them with 4 bytes of
 * zeros), with the rest in it where that is damaged. */
static bool find_box(Span in, const char *kind, Span *out) {
  size_t whole = 0;
  for (; in.n >= 8; in.p += whole, in.n -= whole) {
    if (!read_box(in, out, &whole)) return *out = in, false;
    if (!memcmp(in.p + 4, kind, 4)) return true;
  }
  return *out = (Span){0}, false;
}

static char *find_in_mp4(const uint8_t *p, size_t n, const char *where, Error *err) {
  static const struct {
    char kind[5];
    uint8_t skip; /* bytes before what the box holds */
  } path[] = {{"moov"}, {"udta"}, {"meta", 4}, {"ilst"}, {"\251cmt"}, {"data", 8}};
  Span in = {p, n};
  for (int i = 0; i < COUNT_OF(path); i++) {
    Span box;
    bool is_found = find_box(in, path[i].kind, &box);
    if (!is_found && !box.p && i > 0) return NULL;
    if (!is_found || box.n < path[i].skip) return refuse(where, "MP4", "it is cut short", err);
    in = (Span){box.p + path[i].skip, box.n - path[i].skip};
  }
  Buffer b = {0};
  buffer_append(&b, in.p, in.n);
  return take_marked(&b, where, err);
}

/* ---- all ---- */

char *clip_find_text(const void *bytes, size_t n, const char *where, Error *err) {
  err->code = ERROR_NONE;
  if (n >= 4 && !memcmp(bytes, "GIF8", 4)) return find_in_gif(bytes, n, where, err);
  if (clip_is_webp(bytes, n)) return find_in_webp(bytes, n, where, err);
  if (n >= 8 && !memcmp((const char *)bytes + 4, "ftyp", 4)) return find_in_mp4(bytes, n, where, err);
  error_set(err, ERROR_FORMAT, "%s: not a GIF, WebP or MP4 file (%zu bytes)", where, n);
  return NULL;
}
