/* SHA-256 (FIPS 180-4): digests of bundles, of weights, and of cache keys. */
#ifndef NUWA_SHA256_H
#define NUWA_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct Sha256 {
  uint32_t state[8];
  uint64_t bytes;
  uint8_t block[64];
} Sha256;

void sha256_init(Sha256 *s);
void sha256_update(Sha256 *s, const void *bytes, size_t n);
void sha256_done(Sha256 *s, uint8_t out[32]);
void sha256(const void *bytes, size_t n, uint8_t out[32]);
/* 64 lower-case digits and a NUL. */
void sha256_hex(const uint8_t digest[32], char out[65]);

#endif
