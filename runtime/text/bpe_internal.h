/* What the files of the byte-pair encoder share. */
#ifndef NUWA_BPE_INTERNAL_H
#define NUWA_BPE_INTERNAL_H

#include "runtime/text/bpe.h"

/* What a token stands for.  Two merges may make the same text; all work is done on the first id, and the last one is
 * what comes out, as in CLIP's dictionary of strings. */
typedef struct BpeSymbol {
  uint32_t at; /* into pool */
  uint16_t bytes;
  bool ends_word;
  int32_t last_id;
} BpeSymbol;

typedef struct BpeMerge {
  int32_t left, right, made; /* first ids */
} BpeMerge;

struct NuwaText {
  int merges;
  BpeMerge *merge;   /* [merges] by rank */
  BpeSymbol *symbol; /* [512 + merges] */
  char *pool;        /* bytes of all symbols */
  size_t pool_bytes, pool_cap;
  int32_t *pairs; /* [slots] open hash of rank + 1 by (left, right) */
  int32_t *texts; /* [slots] open hash of the first id + 1 by (bytes, ends_word) */
  uint32_t slots; /* a power of two */
  /* CLIP's bytes_to_unicode: byte -> id 0..255, byte -> the character it is written as, and back (-1: none). */
  uint8_t id_of_byte[256];
  uint16_t char_of_byte[256];
  int16_t byte_of_char[512];
};

/* An encoder of the 512 bytes, with room for `merges`. */
Bpe *bpe_new(int merges, Error *err);
/* The id of a symbol; -1 when there is none. */
int bpe_find_text(const Bpe *b, const char *bytes, size_t n, bool ends_word);
int bpe_find_merge(const Bpe *b, int left, int right); /* its rank or -1 */
/* Appends a merge; there must be room.  Refuses pairs already merged, words that go on after their end, and overlong
 * symbols. */
bool bpe_add_merge(Bpe *b, int left, int right, const char *where, Error *err);

/* Cleans a text and hands out its words in turn.  What CLIP's pattern gives: the two special tokens, the endings
 * 's 't 're 've 'm 'll 'd, runs of letters, single numbers, runs of anything else but space. */
typedef struct BpeWords {
  char *text; /* cleaned, owned */
  size_t len, at;
} BpeWords;
bool bpe_words_init(BpeWords *w, const char *text, Error *err);
void bpe_words_done(BpeWords *w);
bool bpe_words_next(BpeWords *w, const char **out_word, size_t *out_len);

#endif
