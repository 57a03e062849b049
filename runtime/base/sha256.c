/* SHA-256, portable. */
#include "runtime/base/sha256.h"

#include <string.h>

static const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

void sha256_init(Sha256 *s) {
  static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(s->state, first, sizeof first);
  s->bytes = 0;
}

static uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* One round; the standard's a, b, ... h are h[first % 8], h[(first + 1) % 8], ... */
static inline void sha256_round(uint32_t h[8], int first, uint32_t word) {
  uint32_t a = h[first % 8], b = h[(first + 1) % 8], c = h[(first + 2) % 8];
  uint32_t e = h[(first + 4) % 8], f = h[(first + 5) % 8], g = h[(first + 6) % 8];
  uint32_t t1 = h[(first + 7) % 8] + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + word;
  h[(first + 3) % 8] += t1;
  h[(first + 7) % 8] = t1 + (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
}

static void sha256_block(uint32_t state[8], const uint8_t *p) {
  uint32_t w[64], h[8];
  for (int i = 0; i < 16; i++, p += 4)
    w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
  for (int i = 16; i < 64; i++) {
    uint32_t a = w[i - 15], b = w[i - 2];
    uint32_t s0 = rotr(a, 7) ^ rotr(a, 18) ^ a >> 3, s1 = rotr(b, 17) ^ rotr(b, 19) ^ b >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  memcpy(h, state, sizeof h);
  for (int i = 0; i < 64; i += 8)   /* the eight change places, not values: after eight rounds each is where it was */
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) sha256_round(h, 8 - k, sha256_k[i + k] + w[i + k]);
  for (int i = 0; i < 8; i++) state[i] += h[i];
}

void sha256_update(Sha256 *s, const void *bytes, size_t n) {
  const uint8_t *p = bytes;
  size_t have = s->bytes % 64;
  s->bytes += n;
  if (have) {
    size_t take = n < 64 - have ? n : 64 - have;
    if (take) memcpy(s->block + have, p, take);
    if (have + take < 64) return;
    sha256_block(s->state, s->block);
    p += take;
    n -= take;
  }
  for (; n >= 64; p += 64, n -= 64) sha256_block(s->state, p);
  if (n) memcpy(s->block, p, n);
}

void sha256_done(Sha256 *s, uint8_t out[32]) {
  uint64_t bits = s->bytes * 8;
  uint8_t tail[72] = {0x80};
  size_t have = s->bytes % 64, pad = (have < 56 ? 56 : 120) - have;
  for (int i = 0; i < 8; i++) tail[pad + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
  sha256_update(s, tail, pad + 8);
  for (int i = 0; i < 32; i++) out[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256(const void *bytes, size_t n, uint8_t out[32]) {
  Sha256 s;
  sha256_init(&s);
  sha256_update(&s, bytes, n);
  sha256_done(&s, out);
}

void sha256_hex(const uint8_t digest[32], char out[65]) {
  for (int i = 0; i < 32; i++) {
    out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
    out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
  }
  out[64] = 0;
}
