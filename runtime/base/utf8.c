/* UTF-8 by the table of the Unicode standard (3.9, well-formed byte sequences). */
#include "runtime/base/utf8.h"

int utf8_read(const char *p, size_t n, uint32_t *out_char) {
  static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
  if (n == 0) return 0;
  uint8_t first = (uint8_t)p[0];
  int len = first < 0x80 ? 1 : first < 0xC0 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF8 ? 4 : 0;
  if (len == 0 || (size_t)len > n) return 0;
  uint32_t c = len == 1 ? first : first & (0x7Fu >> len);
  for (int i = 1; i < len; i++) {
    uint8_t next = (uint8_t)p[i];
    if ((next & 0xC0) != 0x80) return 0;
    c = c << 6 | (next & 0x3Fu);
  }
  if (c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return 0;
  *out_char = c;
  return len;
}

int utf8_write(uint32_t c, char out[4]) {
  int len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  for (int i = len - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
  out[0] = (char)(len == 1 ? c : (0xF00u >> len & 0xFF) | c);
  return len;
}

bool utf8_is_text(const char *p, size_t n) {
  for (size_t i = 0; i < n;) {
    uint32_t c;
    int len = utf8_read(p + i, n - i, &c);
    if (len == 0 || c < 0x20 || c == 0x7F) return false;
    i += (size_t)len;
  }
  return true;
}
