#include "runtime/base/utf8.h"

#include "tests/test.h"

TEST("every character is written and read back") {
  for (uint32_t c = 0; c <= 0x10FFFF; c++) {
    char b[4];
    uint32_t got = 0;
    if (c >= 0xD800 && c < 0xE000) continue;
    int n = utf8_write(c, b);
    if (utf8_read(b, (size_t)n, &got) != n || got != c) EXPECT(false, "U+%04X", (unsigned)c);
    if (utf8_read(b, (size_t)n - 1, &got) != 0) EXPECT(false, "U+%04X, cut", (unsigned)c);
  }
}

TEST("damaged sequences are refused") {
  static const char *const bad[] = {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF",
                                    "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\xFF", "\xC3(",
                                    "\xE2\x82(", "\xE2\x28\xA1"};
  uint32_t c;
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    EXPECT(utf8_read(bad[i], strlen(bad[i]), &c) == 0 && !utf8_is_text(bad[i], strlen(bad[i])), "case %zu", i);
}

TEST("text has no control characters") {
  EXPECT(utf8_is_text("", 0) && utf8_is_text("a b", 3) && utf8_is_text("gr\xC3\xBC\xC3\x9F", 6), "text");
  EXPECT(!utf8_is_text("a\nb", 3) && !utf8_is_text("\0", 1) && !utf8_is_text("\x7F", 1), "not text");
}

TEST_MAIN()
