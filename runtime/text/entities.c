/* Character references of HTML to what they name, the way of Python's html.unescape and the stricter one of ftfy. */
#include <string.h>

#include "runtime/base/utf8.h"
#include "runtime/text/codes.h"

/* Entries end with a zero: a name, "," or ";", a text.  No pointers, so that nothing is relocated. */
static const char entities[] =
#include "runtime/text/entities.def"
    ;

enum { MAX_NAME = 32, MAX_FIXED_NAME = 24 };

static bool is_digit(uint32_t c) { return c >= '0' && c <= '9'; }
static bool is_alnum(uint32_t c) { return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'z' && c < 128); }

/* The order of a name and that of an entry. */
static int compare_name(const char *name, const char *entry) {
  while (*name && *name == *entry) name++, entry++;
  unsigned char a = (unsigned char)*name, b = is_alnum((unsigned char)*entry) ? (unsigned char)*entry : 0;
  return a < b ? -1 : a > b;
}

/* The "," or ";" behind the name in its entry; NULL when there is none. */
static const char *find_entity(const char *name) {
  size_t low = 0, high = sizeof entities - 1; /* starts of entries, or the end */
  while (low < high) {
    size_t mid = low + (high - low) / 2;
    while (mid > low && entities[mid - 1]) mid--;
    int order = compare_name(name, entities + mid);
    if (order == 0) return entities + mid + strlen(name);
    if (order < 0) high = mid;
    else low = mid + strlen(entities + mid) + 1;
  }
  return NULL;
}

static void add_text(Codes *out, const char *text) {
  for (uint32_t c; *text;) {
    text += utf8_read(text, strlen(text), &c);
    codes_add(out, c);
  }
}

static bool is_noncharacter(uint32_t c) {
  return (c >= 0xfdd0 && c <= 0xfdef) || (c >= 0xfffe && (c & 0xffff) >= 0xfffe);
}

uint32_t codes_from_c1(uint32_t c) {
  static const uint16_t windows[32] = {
      0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160,
      0x2039, 0x152,  0x8d,   0x17d,  0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
      0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e, 0x178};
  return c >= 0x80 && c < 0xa0 ? windows[c - 0x80] : c;
}

/* What a number stands for; nothing where it is no character. */
static void add_number(Codes *out, uint32_t n) {
  if (n >= 0x80 && n < 0xa0) codes_add(out, codes_from_c1(n));
  else if (n == 0 || (n >= 0xd800 && n <= 0xdfff) || n > 0x10ffff) codes_add(out, 0xfffd);
  else if (n == '\t' || n == '\n' || n == '\f' || n == '\r') codes_add(out, n);
  else if (n >= 0x20 && n != 0x7f && !is_noncharacter(n)) codes_add(out, n);
}

/* "#233" or "#xe9" at p: its length without the semicolon, 0 when it is none. */
static size_t read_number(const uint32_t *p, size_t n, uint32_t *out) {
  bool is_hex = n > 1 && (p[1] == 'x' || p[1] == 'X');
  size_t first = is_hex ? 2 : 1, i = first;
  *out = 0;
  for (; i < n; i++) {
    uint32_t c = p[i] | 32, digit = is_digit(p[i]) ? p[i] - '0' : is_hex && c >= 'a' && c <= 'f' && p[i] < 128 ? c - 'a' + 10 : 99;
    if (digit > 15) break;
    if (*out <= 0x10ffff) *out = *out * (is_hex ? 16 : 10) + digit;
  }
  return i > first ? i : 0;
}

/* The longest name at p, of at least two characters, that may stand without a semicolon. */
static size_t read_prefix(const char *name, size_t n, const char **out_text) {
  char part[MAX_NAME + 1];
  for (memcpy(part, name, n + 1); n >= 2; part[--n] = 0) {
    const char *at = find_entity(part);
    if (at && *at == ',') return *out_text = at + 1, n;
  }
  return 0;
}

/* A reference behind "&": its length, 0 when it is none. */
static size_t read_reference(const uint32_t *p, size_t n, Codes *out) {
  char name[MAX_NAME + 1];
  uint32_t number;
  size_t len = n && p[0] == '#' ? read_number(p, n, &number) : 0;
  if (len) {
    add_number(out, number);
    return len + (len < n && p[len] == ';');
  }
  if (n && p[0] == '#') return 0;
  while (len < n && len < MAX_NAME && is_alnum(p[len])) name[len] = (char)p[len], len++;
  name[len] = 0;
  const char *text = len < n && p[len] == ';' ? find_entity(name) : NULL;
  if (text) text++, len++;
  else len = read_prefix(name, len, &text);
  if (len) add_text(out, text);
  return len;
}

void entities_unescape(const Codes *in, Codes *out) {
  for (size_t i = 0; i < in->n; i++) {
    size_t len = in->c[i] == '&' ? read_reference(in->c + i + 1, in->n - i - 1, out) : 0;
    if (len == 0) codes_add(out, in->c[i]);
    i += len;
  }
}

/* A name in capitals whose own is all small: the capital of what that one stands for, which here is made small in the
 * end, so that only those matter whose small form is another then. */
static bool add_capital(Codes *out, char *name) {
  static const struct {
    const char *from, *to;
  } others[] = {{"ϵ", "ε"}, {"ﬃ", "ffi"}, {"ﬀ", "ff"}, {"ﬄ", "ffl"}, {"ﬁ", "fi"}, {"ﬂ", "fl"},
                {"ı", "i"}, {"ϰ", "κ"}, {"µ", "μ"}, {"ŉ", "ʼn"}, {"ϕ", "φ"}, {"ϖ", "π"},
                {"ϱ", "ρ"}, {"ς", "σ"}, {"ß", "ss"}, {"ϑ", "θ"}};
  const char *known;
  for (const char *p = name; *p; p++)
    if (*p >= 'a' && *p <= 'z') return false;
  if (read_prefix(name, strlen(name), &known)) return false; /* ambiguous: html.unescape takes a part of it */
  for (char *p = name; *p; p++)
    if (*p >= 'A' && *p <= 'Z') *p |= 32;
  const char *text = find_entity(name);
  if (!text++) return false;
  for (int i = 0; i < COUNT_OF(others); i++)
    if (strcmp(text, others[i].from) == 0) text = others[i].to;
  add_text(out, text);
  return true;
}

/* "name;" or "#233;" behind "&": its length, 0 when it is none. */
static size_t fix_reference(const uint32_t *p, size_t n, Codes *out) {
  char name[MAX_FIXED_NAME + 1];
  uint32_t number;
  bool is_number = n && p[0] == '#';
  size_t first = is_number, len = first;
  while (len < n && len - first < MAX_FIXED_NAME && is_alnum(p[len])) name[len - first] = (char)p[len], len++;
  name[len - first] = 0;
  if (len == first || len >= n || p[len] != ';') return 0;
  if (is_number) {
    if (read_number(p, n, &number) != len || number == ';') return 0;
    add_number(out, number);
    return len + 1;
  }
  const char *text = find_entity(name);
  if (text) add_text(out, text + 1);
  return text || add_capital(out, name) ? len + 1 : 0;
}

void entities_fix(const Codes *in, Codes *out) {
  for (size_t i = 0; i < in->n; i++) {
    size_t len = in->c[i] == '&' ? fix_reference(in->c + i + 1, in->n - i - 1, out) : 0;
    if (len == 0) codes_add(out, in->c[i]);
    i += len;
  }
}
