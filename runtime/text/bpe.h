/* Byte-pair encoding of text as in CLIP: the same cleaning, splitting, tokens and files.
 *
 * Token ids: 0..255 a byte inside a word and 256..511 a byte that ends one (both in the order of CLIP's
 * bytes_to_unicode: ! to ~, then the rest of Latin-1's printable characters, then all others), 512 + r what merge r
 * makes, then <|startoftext|> and <|endoftext|>.  With CLIP's own merges (48,894 of them) these are CLIP's 49,408
 * ids.
 *
 * Text is cleaned as CLIP does (clean.h), less ftfy's guesses about wrongly decoded text.  Bytes that are not UTF-8
 * count as U+FFFD.  A Bpe never changes: any number of threads may use it. */
#ifndef NUWA_BPE_H
#define NUWA_BPE_H

#include <stdint.h>

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

enum { BPE_BYTES = 512, BPE_MAX_MERGES = 49152 - 256 - 2, BPE_MAX_TEXT = 1 << 16 };

typedef NuwaText Bpe;

/* Learns at most max_merges merges from n texts: always the most frequent neighbours inside words, ties to the
 * smaller ids; stops when none occurs twice. */
Bpe *bpe_train(const char *const *texts, int n, int max_merges, Error *err);

/* A merges file: optionally a first line with "#version" in it, then "left right" a line, in the printable alphabet of
 * bytes_to_unicode with </w> at the end of words.  Lines after BPE_MAX_MERGES are left out, as CLIP does with its own
 * longer file.  `where` names the bytes in errors. */
Bpe *bpe_parse(const char *bytes, size_t n, const char *where, Error *err);
void bpe_free(Bpe *b);

/* The same as text, for a file or to be carried in a bundle. */
bool bpe_serialise(const Bpe *b, Buffer *out, Error *err);
bool bpe_write(const Bpe *b, const char *path, Error *err);

int bpe_merge_count(const Bpe *b);
int bpe_vocab(const Bpe *b); /* 512 + merges + 2 */
int bpe_start(const Bpe *b);
int bpe_end(const Bpe *b);

/* The tokens of a text (at most BPE_MAX_TEXT bytes), without start and end.  Writes the first `cap` of them; *out_n
 * is how many there are. */
bool bpe_encode(const Bpe *b, const char *text, int32_t *out, int cap, int *out_n, Error *err);

/* Exactly `length` >= 2 ids: start, the tokens, end, and zeros after it, as CLIP pads.  What is too long is cut
 * before the end token. */
bool bpe_encode_fixed(const Bpe *b, const char *text, int32_t *out, int length, Error *err);

/* Which of `length` ids are text: 1 up to the end token and with it, 0 behind it. */
void bpe_mask(const Bpe *b, const int32_t *ids, uint8_t *out, int length);

/* Appends the text of ids, up to the first end token; start tokens are skipped.  Words end with a space, except the
 * last.  Ids outside of the vocabulary are an error. */
bool bpe_decode(const Bpe *b, const int32_t *ids, int n, Buffer *out, Error *err);

#endif
