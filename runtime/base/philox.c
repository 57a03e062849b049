/* Philox 4x32-10: ten rounds of two 32x32 -> 64 bit products; constants from the paper. */
#include "runtime/base/philox.h"

Philox philox_block(uint64_t key, const uint32_t counter[4]) {
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
    c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)b;
    c3 = (uint32_t)a;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return (Philox){{c0, c1, c2, c3}};
}

Philox philox(uint64_t seed, uint32_t position, uint32_t sample, uint32_t stream) {
  return philox_block(seed, (const uint32_t[4]){position, sample, stream, 0});
}
