/* Merges files with random damage, and random bytes as text: refused or read; what is read encodes and decodes. */
#include "runtime/text/bpe.h"
#include "tests/fuzz/fuzz.h"
#include "tests/test.h"

static const char *const caption[] = {
  "a red apple on a blue background", "the yellow taxi at the upper left", "a whale in the middle, on green",
  "an apple and a whale", "two taxis", "naïve café 10:30 don't",
};
static const char *const merge_word[] = {"\n", " ", "\n\n", "a b\n", "</w>", "#version: 9\n", "a", "\xc4\xa0",
                                         "\xff", "th e</w>\n"};

static bool trained(Buffer *out) {
  Error err = {0};
  Bpe *b = bpe_train(caption, COUNT_OF(caption), 40, &err);
  bool ok = b && bpe_serialise(b, out, &err);
  if (!ok) fprintf(stderr, "%s\n", err.text);
  bpe_free(b);
  return ok;
}

static void check_round_trip(const Bpe *b, int i) {
  enum { CAP = 256 };
  int32_t ids[CAP];
  int n = 0;
  Error err = {0};
  Buffer text = {0};
  EXPECT(bpe_encode(b, caption[0], ids, CAP, &n, &err) && n > 0 && n <= CAP, "case %d: %s", i, err.text);
  for (int k = 0; k < n; k++) EXPECT(ids[k] >= 0 && ids[k] < bpe_vocab(b), "case %d: id %d", i, ids[k]);
  EXPECT(bpe_decode(b, ids, n, &text, &err), "case %d: %s", i, err.text);
  EXPECT(text.data && strcmp(text.data, caption[0]) == 0, "case %d: \"%s\"", i, text.data);
  buffer_done(&text);
}

TEST("damaged merges are refused with a reason or give an encoder that loses nothing") {
  Buffer file = {0};
  REQUIRE(trained(&file) && !file.failed, "");
  int read = 0;
  char *bytes = malloc(file.len + 512);
  for (int i = 0; i < 4000; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i};
    size_t n = file.len;
    memcpy(bytes, file.data, n + 1);
    for (size_t edits = fuzz_below(&f, 3) + 1; edits > 0; edits--) {
      if (fuzz_below(&f, 2)) n = fuzz_edit(&f, bytes, n, merge_word, COUNT_OF(merge_word));
      else if (n >= 8) fuzz_damage(&f, (uint8_t *)bytes, n);
    }
    Error err = {0};
    Bpe *b = bpe_parse(bytes, n, "damaged", &err);
    EXPECT(b || (err.code == ERROR_FORMAT && strncmp(err.text, "damaged", 7) == 0), "case %d: %d \"%s\"", i,
           err.code, err.text);
    if (b) check_round_trip(b, i), read++;
    bpe_free(b);
  }
  EXPECT(read > 10, "only %d of the damaged files are read", read);
  free(bytes);
  buffer_done(&file);
}

TEST("random bytes encode to ids of the vocabulary") {
  Buffer file = {0};
  Error err = {0};
  REQUIRE(trained(&file), "");
  Bpe *b = bpe_parse(file.data, file.len, "merges", &err);
  REQUIRE(b, "%s", err.text);
  for (int i = 0; i < 4000; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i + 90000};
    char text[65] = {0};
    int32_t ids[16];
    size_t n = fuzz_below(&f, 64);
    for (size_t k = 0; k < n; k++) text[k] = (char)(fuzz_below(&f, 255) + 1);
    REQUIRE(bpe_encode_fixed(b, text, ids, 16, &err), "%s", err.text);
    EXPECT(ids[0] == bpe_start(b), "case %d", i);
    for (int k = 0; k < 16; k++) EXPECT(ids[k] >= 0 && ids[k] < bpe_vocab(b), "case %d: id %d", i, ids[k]);
  }
  bpe_free(b);
  buffer_done(&file);
}

TEST_MAIN()
