/* The steps, over characters; how each is documented stands at ftfy.fixes. */
#include "runtime/text/clean.h"

#include <string.h>

#include "runtime/base/utf8.h"
#include "runtime/text/codes.h"
#include "runtime/text/unicode.h"

/* "&amp;amp;amp;..." takes a round for every level. */
enum { MAX_ROUNDS = 200 };

static void codes_done(Codes *t) {
  mem_free(t->c);
  *t = (Codes){0};
}

/* The text becomes what a step makes of it. */
static void apply(Codes *t, void (*step)(const Codes *in, Codes *out)) {
  Codes made = {.failed = t->failed};
  if (!t->failed) step(t, &made);
  codes_done(t);
  *t = made;
}

/* ---- the steps of ftfy ---- */

static const char *ligature(uint32_t c) {
  static const struct {
    uint16_t c;
    const char *text;
  } list[] = {{0x132, "IJ"}, {0x133, "ij"}, {0x149, "ʼn"}, {0x1f1, "DZ"}, {0x1f2, "Dz"}, {0x1f3, "dz"}, {0x1c4, "DŽ"},
              {0x1c5, "Dž"}, {0x1c6, "dž"}, {0x1c7, "LJ"}, {0x1c8, "Lj"}, {0x1c9, "lj"}, {0x1ca, "NJ"}, {0x1cb, "Nj"},
              {0x1cc, "nj"}, {0xfb00, "ff"}, {0xfb01, "fi"}, {0xfb02, "fl"}, {0xfb03, "ffi"}, {0xfb04, "ffl"},
              {0xfb05, "ſt"}, {0xfb06, "st"}};
  for (int i = 0; c >= 0x132 && i < COUNT_OF(list); i++)
    if (list[i].c == c) return list[i].text;
  return NULL;
}

/* Halfwidth and fullwidth forms to the usual ones (U+FFE3, a space with a macron, is its caller's). */
static uint32_t fix_width(uint32_t c) {
  static const uint16_t from_ff5f[] = {
      0x2985, 0x2986, 0x3002, 0x300c, 0x300d, 0x3001, 0x30fb, 0x30f2, 0x30a1, 0x30a3, 0x30a5, 0x30a7, 0x30a9, 0x30e3,
      0x30e5, 0x30e7, 0x30c3, 0x30fc, 0x30a2, 0x30a4, 0x30a6, 0x30a8, 0x30aa, 0x30ab, 0x30ad, 0x30af, 0x30b1, 0x30b3,
      0x30b5, 0x30b7, 0x30b9, 0x30bb, 0x30bd, 0x30bf, 0x30c1, 0x30c4, 0x30c6, 0x30c8, 0x30ca, 0x30cb, 0x30cc, 0x30cd,
      0x30ce, 0x30cf, 0x30d2, 0x30d5, 0x30d8, 0x30db, 0x30de, 0x30df, 0x30e0, 0x30e1, 0x30e2, 0x30e4, 0x30e6, 0x30e8,
      0x30e9, 0x30ea, 0x30eb, 0x30ec, 0x30ed, 0x30ef, 0x30f3, 0x3099, 0x309a, 0x1160, 0x1100, 0x1101, 0x11aa, 0x1102,
      0x11ac, 0x11ad, 0x1103, 0x1104, 0x1105, 0x11b0, 0x11b1, 0x11b2, 0x11b3, 0x11b4, 0x11b5, 0x111a, 0x1106, 0x1107,
      0x1108, 0x1121, 0x1109, 0x110a, 0x110b, 0x110c, 0x110d, 0x110e, 0x110f, 0x1110, 0x1111, 0x1112, 0xffbf, 0xffc0,
      0xffc1, 0x1161, 0x1162, 0x1163, 0x1164, 0x1165, 0x1166, 0xffc8, 0xffc9, 0x1167, 0x1168, 0x1169, 0x116a, 0x116b,
      0x116c, 0xffd0, 0xffd1, 0x116d, 0x116e, 0x116f, 0x1170, 0x1171, 0x1172, 0xffd8, 0xffd9, 0x1173, 0x1174, 0x1175,
      0xffdd, 0xffde, 0xffdf, 0xa2, 0xa3, 0xac, 0xffe3, 0xa6, 0xa5, 0x20a9, 0xffe7, 0x2502, 0x2190, 0x2191, 0x2192,
      0x2193, 0x25a0, 0x25cb};
  if (c == 0x3000) return ' ';
  if (c >= 0xff01 && c <= 0xff5e) return c - 0xff01 + '!';
  return c >= 0xff5f && c < 0xff5f + (uint32_t)COUNT_OF(from_ff5f) ? from_ff5f[c - 0xff5f] : c;
}

static uint32_t uncurl(uint32_t c) {
  if (c == 0x2bc || (c >= 0x2018 && c <= 0x201b)) return '\'';
  return c >= 0x201c && c <= 0x201f ? '"' : c;
}

static bool is_line_break(uint32_t c) { return c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85; }

static bool is_control(uint32_t c) {
  return c < 9 || c == 11 || (c >= 14 && c < 32) || c == 127 || (c >= 0x206a && c <= 0x206f) || c == 0xfeff ||
         (c >= 0xfff9 && c <= 0xfffc);
}

/* Characters one by one: C1 controls, ligatures, width, quotes, line breaks. */
static void fix_characters(const Codes *in, Codes *out) {
  for (size_t i = 0; i < in->n; i++) {
    uint32_t c = codes_from_c1(in->c[i]), part;
    const char *parts = ligature(c);
    for (; parts && *parts; codes_add(out, uncurl(part))) parts += utf8_read(parts, strlen(parts), &part);
    if (parts) continue;
    if (c == 0xffe3) codes_add(out, ' '), codes_add(out, 0x304);
    else if (c != '\r' || i + 1 == in->n || in->c[i + 1] != '\n')
      codes_add(out, is_line_break(c) ? '\n' : uncurl(fix_width(c)));
  }
}

/* "ESC [ 36 ; 44 m" at i: its length, 0 when it is none. */
static size_t escape_length(const Codes *t, size_t i) {
  size_t at = i + 2;
  if (t->n - i < 3 || t->c[i] != 27 || t->c[i + 1] != '[') return 0;
  while (at < t->n && ((t->c[at] >= '0' && t->c[at] <= '9') || t->c[at] == ';')) at++;
  bool is_letter = at < t->n && t->c[at] < 128 && (t->c[at] | 32) >= 'a' && (t->c[at] | 32) <= 'z';
  return is_letter ? at + 1 - i : 0;
}

static void remove_escapes(const Codes *in, Codes *out) {
  for (size_t i = 0, n; i < in->n; i += n ? n : 1) {
    n = escape_length(in, i);
    if (n == 0 && !is_control(in->c[i])) codes_add(out, in->c[i]);
  }
}

static bool same(const Codes *a, const Codes *b) {
  return a->n == b->n && (a->n == 0 || memcmp(a->c, b->c, a->n * sizeof *a->c) == 0);
}

/* A line, until nothing changes any more. */
static bool fix_line(Codes *line, bool unescapes, Error *err) {
  for (int round = 0; round < MAX_ROUNDS; round++) {
    Codes before = {0};
    for (size_t i = 0; i < line->n; i++) codes_add(&before, line->c[i]);
    if (unescapes) apply(line, entities_fix);
    apply(line, fix_characters);
    apply(line, remove_escapes);
    apply(line, normal_compose);
    bool is_done = line->failed || before.failed || same(line, &before);
    line->failed |= before.failed;
    codes_done(&before);
    if (is_done) return true;
  }
  return error_set(err, ERROR_LIMIT, "a text with character references inside each other, more than %d deep", MAX_ROUNDS);
}

/* Line by line.  Where a "<" was seen references stay: the text may be HTML. */
static bool fix_text(Codes *text, Error *err) {
  Codes fixed = {0};
  bool unescapes = true, ok = true;
  for (size_t at = 0, end; at < text->n && ok; at = end) {
    Codes line = {0};
    for (end = at; end < text->n && (end == at || text->c[end - 1] != '\n'); end++) {
      codes_add(&line, text->c[end]);
      unescapes = unescapes && text->c[end] != '<';
    }
    ok = fix_line(&line, unescapes, err);
    for (size_t i = 0; i < line.n; i++) codes_add(&fixed, line.c[i]);
    fixed.failed |= line.failed;
    codes_done(&line);
  }
  codes_done(text);
  *text = fixed;
  return ok;
}

/* ---- space and small letters ---- */

/* What stands between letters without ending their word, as far as a sigma is concerned. */
static bool is_passed_over(uint32_t c) {
  static const uint16_t list[] = {'\'', '.', ':', '^', '`', 0xa8, 0xad, 0xaf, 0xb4, 0xb7, 0xb8, 0x2019, 0x2024, 0x2027};
  for (int i = 0; i < COUNT_OF(list); i++)
    if (list[i] == c) return true;
  return (c >= 0x300 && c < 0x370) || (c >= 0x483 && c < 0x48a) || (c >= 0x591 && c < 0x5be) ||
         (c >= 0x64b && c < 0x660) || c == 0x94d || c == 0x93c || (c >= 0x941 && c < 0x949) ||
         (c >= 0x1ab0 && c < 0x1b00) || (c >= 0x1dc0 && c < 0x1e00) || (c >= 0x200b && c < 0x2010) ||
         (c >= 0x20d0 && c < 0x2100) || (c >= 0xfe00 && c < 0xfe10) || (c >= 0xfe20 && c < 0xfe30);
}

/* A capital sigma at i ends a word: a letter stands before it, and none behind. */
static bool is_final_sigma(const Codes *t, size_t i) {
  size_t before = i, after = i + 1;
  while (before > 0 && is_passed_over(t->c[before - 1])) before--;
  while (after < t->n && is_passed_over(t->c[after])) after++;
  return before > 0 && unicode_is_cased(t->c[before - 1]) && (after == t->n || !unicode_is_cased(t->c[after]));
}

static void lower(const Codes *in, Codes *out) {
  for (size_t i = 0; i < in->n; i++) {
    uint32_t c = in->c[i];
    codes_add(out, c == 0x3a3 && is_final_sigma(in, i) ? 0x3c2 : c == 0x130 ? 'i' : unicode_lower(c));
    if (c == 0x130) codes_add(out, 0x307);
  }
}

static void join_space(const Codes *in, Codes *out) {
  for (size_t i = 0; i < in->n; i++) {
    if (!unicode_is_space(in->c[i])) codes_add(out, in->c[i]);
    else if (out->n > 0 && out->c[out->n - 1] != ' ') codes_add(out, ' ');
  }
  if (out->n > 0 && out->c[out->n - 1] == ' ') out->n--;
}

bool text_clean(const char *text, size_t n, Buffer *out, Error *err) {
  Codes codes = {0};
  for (size_t at = 0; at < n;) {
    uint32_t c;
    int len = utf8_read(text + at, n - at, &c);
    codes_add(&codes, len ? c : 0xfffd);
    at += len ? (size_t)len : 1;
  }
  bool ok = codes.failed || fix_text(&codes, err);
  if (ok) {
    apply(&codes, entities_unescape);
    apply(&codes, entities_unescape);
    apply(&codes, join_space);
    apply(&codes, lower);
  }
  for (size_t i = 0; ok && i < codes.n; i++) {
    char bytes[4];
    buffer_append(out, bytes, (size_t)utf8_write(codes.c[i], bytes));
  }
  if (ok && (codes.failed || out->failed)) ok = error_set(err, ERROR_MEMORY, "cleaning a text: out of memory");
  codes_done(&codes);
  return ok;
}
