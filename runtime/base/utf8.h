/* UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef NUWA_UTF8_H
#define NUWA_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads one character at p (n bytes are there): its length in bytes, 1 to 4, or 0 when it is damaged or n is 0. */
int utf8_read(const char *p, size_t n, uint32_t *out_char);
/* Writes a character of at most U+10FFFF; the number of bytes, 1 to 4. */
int utf8_write(uint32_t c, char out[4]);
/* Whether all of it is UTF-8 without control characters (below U+0020, and U+007F). */
bool utf8_is_text(const char *p, size_t n);

#endif
