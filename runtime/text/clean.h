/* Text as CLIP cleans it before it is split into words: the documented steps of ftfy.fix_text but fix_encoding, which
 * guesses, then html.unescape twice, then runs of space to one, then small letters.  Other implementations of the same:
 * ftfy 6 (github.com/rspeer/python-ftfy), openai/CLIP simple_tokenizer.py. */
#ifndef NUWA_CLEAN_H
#define NUWA_CLEAN_H

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

/* Appends the cleaned text.  Bytes that are not UTF-8 count as U+FFFD. */
bool text_clean(const char *text, size_t n, Buffer *out, Error *err);

#endif
