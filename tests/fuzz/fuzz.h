/* Seeded damage: a generator of numbers, and changes to bytes and to texts.  The same on every run. */
#ifndef NUWA_FUZZ_H
#define NUWA_FUZZ_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct Fuzz {
  uint64_t state;
} Fuzz;

/* Instrumented programs are many times slower: they see every fourth case. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { FUZZ_STRIDE = 4 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { FUZZ_STRIDE = 4 };
#else
enum { FUZZ_STRIDE = 1 };
#endif
#else
enum { FUZZ_STRIDE = 1 };
#endif

/* splitmix64 (Steele, Lea, Flood, 2014). */
static inline uint64_t fuzz_next(Fuzz *f) {
  uint64_t z = f->state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

/* Uniform in [0, n), n >= 1. */
static inline size_t fuzz_below(Fuzz *f, size_t n) { return (size_t)(fuzz_next(f) % n); }

/* Numbers at which readers tend to go wrong. */
static inline int64_t fuzz_number(Fuzz *f) {
  static const int64_t edge[] = {0, 1, -1, 2, 3, 7, 64, 255, 65536, INT32_MAX, (int64_t)INT32_MAX + 1, INT32_MIN,
                                 (int64_t)1 << 40, (int64_t)1 << 46, INT64_MAX, INT64_MIN, INT64_MAX - 55};
  return edge[fuzz_below(f, sizeof edge / sizeof *edge)];
}

/* Some bytes of [n], n >= 8, become others: a bit, a byte, a number at a multiple of eight, or a stretch of another
 * place. */
static inline void fuzz_damage(Fuzz *f, uint8_t *bytes, size_t n) {
  size_t at = fuzz_below(f, n), words = n / 8, length = fuzz_below(f, 32) + 1, from = fuzz_below(f, n);
  int64_t number = fuzz_number(f);
  switch (fuzz_below(f, 4)) {
  case 0: bytes[at] ^= (uint8_t)(1u << fuzz_below(f, 8)); break;
  case 1: bytes[at] = (uint8_t)fuzz_next(f); break;
  case 2: memcpy(bytes + 8 * fuzz_below(f, words), &number, sizeof number); break;
  default:
    if (length > n - at) length = n - at;
    if (length > n - from) length = n - from;
    memmove(bytes + at, bytes + from, length);
  }
}

/* Changes text [n] in place, which has room for n + 64 bytes: takes a stretch out, doubles it, puts one of `word` in,
 * or changes a character.  Returns the new length; the text stays NUL-terminated. */
static inline size_t fuzz_edit(Fuzz *f, char *text, size_t n, const char *const *word, size_t n_words) {
  size_t at = n ? fuzz_below(f, n) : 0, length = fuzz_below(f, 24) + 1;
  if (length > n - at) length = n - at;
  const char *put = word[fuzz_below(f, n_words)];
  size_t room = strlen(put) < 63 ? strlen(put) : 63;
  switch (fuzz_below(f, 4)) {
  case 0:
    memmove(text + at, text + at + length, n - at - length + 1);
    return n - length;
  case 1:
    memmove(text + at + length, text + at, n - at + 1);
    return n + length;
  case 2:
    memmove(text + at + room, text + at, n - at + 1);
    memcpy(text + at, put, room);
    return n + room;
  default:
    if (n) text[at] = (char)(32 + fuzz_below(f, 95));
    return n;
  }
}

#endif
