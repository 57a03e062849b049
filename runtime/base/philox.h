/* Counter-based randomness: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3,
 * SC 2011).  Nothing here has state: the same key and counter give the same numbers, in any order. */
#ifndef NUWA_PHILOX_H
#define NUWA_PHILOX_H

#include <stdint.h>

typedef struct Philox {
  uint32_t word[4];
} Philox;

/* key = 64-bit seed (low word first); counter as in the design: (position, sample, stream, 0). */
Philox philox(uint64_t seed, uint32_t position, uint32_t sample, uint32_t stream);

/* The bare function: any 64-bit key (low word first) and 128-bit counter. */
Philox philox_block(uint64_t key, const uint32_t counter[4]);

/* Streams of the counter, so that no two uses share numbers. */
enum {
  STREAM_SAMPLE = 0, STREAM_INIT = 1, STREAM_DATA = 2, STREAM_TEST = 5
};

/* A word as a float in [0, 1): its upper 24 bits / 2^24. */
static inline float philox_uniform(uint32_t word) { return (float)(word >> 8) * (1.0f / 16777216.0f); }

#endif
