/* A Feistel network of Philox rounds permutes the smallest square of a power of two that holds n; what lands outside
 * of [0, n) is permuted again until it does not (cycle walking: Black and Rogaway, Ciphers with Arbitrary Finite
 * Domains, 2002).  The square is less than four times n, so this ends after four rounds on average. */
#include "media/epoch.h"

#include "runtime/base/philox.h"

enum { FEISTEL_ROUNDS = 6 };

static uint64_t feistel(uint64_t seed, uint64_t epoch, int half_bits, uint64_t x) {
  uint64_t mask = ((uint64_t)1 << half_bits) - 1, left = x >> half_bits, right = x & mask;
  for (uint32_t round = 0; round < FEISTEL_ROUNDS; round++) {
    const uint32_t counter[4] = {(uint32_t)right, (uint32_t)epoch, (uint32_t)(epoch >> 32),
                                 STREAM_DATA | (round + 1) << 8};
    uint64_t next = left ^ (philox_block(seed, counter).word[0] & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

uint64_t epoch_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t i) {
  int half_bits = 0;
  if (n < 2) return 0;
  while (((uint64_t)1 << 2 * half_bits) < n) half_bits++;
  do i = feistel(seed, epoch, half_bits, i);
  while (i >= n);
  return i;
}

uint64_t epoch_permute_groups(uint64_t seed, uint64_t epoch, const uint64_t *start, uint64_t n_group, uint64_t i) {
  const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15); /* groups of one size get orders of their own */
  for (uint64_t k = 0;; k++) {
    uint64_t g = epoch_permute(seed, epoch, n_group, k), n = start[g + 1] - start[g];
    if (i < n) return start[g] + epoch_permute(seed ^ (g + 1) * odd, epoch, n, i);
    i -= n;
  }
}
