#include "runtime/base/philox.h"

#include "tests/test.h"

static void expect_words(Philox p, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  EXPECT(p.word[0] == a && p.word[1] == b && p.word[2] == c && p.word[3] == d, "%08x %08x %08x %08x",
         (unsigned)p.word[0], (unsigned)p.word[1], (unsigned)p.word[2], (unsigned)p.word[3]);
}

TEST("philox gives the known answers of Random123") {
  expect_words(philox_block(0, (uint32_t[4]){0}), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  expect_words(philox_block(UINT64_MAX, (uint32_t[4]){UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX}), 0x408f276d,
               0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  expect_words(philox_block(0x299f31d0a4093822u, (uint32_t[4]){0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
               0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1);
}

TEST("the counter is (position, sample, stream, 0)") {
  Philox a = philox(5, 1, 2, 3), b = philox_block(5, (uint32_t[4]){1, 2, 3, 0});
  EXPECT(memcmp(&a, &b, sizeof a) == 0, "the same words");
  expect_words(philox(0, 0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
}

TEST("uniform numbers lie in [0, 1) and reach both ends") {
  EXPECT(philox_uniform(0) == 0 && philox_uniform(255) == 0, "the lowest");
  EXPECT(philox_uniform(UINT32_MAX) == 1 - 1.0f / 16777216 && philox_uniform(UINT32_MAX) < 1, "the highest");
  EXPECT(philox_uniform(0x80000000u) == 0.5f, "the middle");
}

TEST_MAIN()
