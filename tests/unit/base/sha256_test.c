#include "runtime/base/sha256.h"

#include "tests/test.h"

static void expect_digest(const void *bytes, size_t n, const char *want) {
  uint8_t digest[32];
  char hex[65];
  sha256(bytes, n, digest);
  sha256_hex(digest, hex);
  EXPECT_TEXT(hex, want);
}

TEST("sha256 gives the known answers of FIPS 180-4") {
  expect_digest("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  expect_digest("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  expect_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST("a million times a, in pieces of every size") {
  static char as[1000];
  uint8_t digest[32];
  char hex[65];
  Sha256 s;
  memset(as, 'a', sizeof as);
  sha256_init(&s);
  size_t left = 1000000;
  for (size_t piece = 0; left; piece = (piece + 37) % 1000) {
    size_t n = piece < left ? piece : left;
    sha256_update(&s, as, n);
    left -= n;
  }
  sha256_done(&s, digest);
  sha256_hex(digest, hex);
  EXPECT_TEXT(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST("padding is right at every length around a block, in one piece or two") {
  uint8_t bytes[200], whole[32], parts[32];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7);
  for (size_t n = 0; n <= 200; n++)
    for (size_t cut = 0; cut <= n; cut += 13) {
      Sha256 s;
      sha256(bytes, n, whole);
      sha256_init(&s);
      sha256_update(&s, bytes, cut);
      sha256_update(&s, bytes + cut, n - cut);
      sha256_done(&s, parts);
      EXPECT(memcmp(whole, parts, 32) == 0, "%zu bytes cut at %zu", n, cut);
    }
}

TEST_MAIN()
