/* Classes of characters, for splitting text into words. */
#ifndef NUWA_UNICODE_H
#define NUWA_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

bool unicode_is_letter(uint32_t c);
bool unicode_is_number(uint32_t c);
bool unicode_is_space(uint32_t c);
bool unicode_is_cased(uint32_t c);     /* it has a capital or a small form */
uint32_t unicode_lower(uint32_t c);   /* c itself when it has no small form of one character */

#endif
