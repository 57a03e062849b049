#include "runtime/text/bpe_internal.h"
#include "runtime/text/unicode.h"
#include "media/merges.h"
#include "media/world.h"
#include "runtime/base/file.h"
#include "runtime/base/hooks.h"
#include "tests/test.h"

/* Words of a text as "a|b|c". */
static void split(const char *text, char *out) {
  BpeWords w;
  Error err;
  const char *word;
  size_t len;
  *out = 0;
  if (!bpe_words_init(&w, text, &err)) {
    strcpy(out, err.text);
    return;
  }
  while (bpe_words_next(&w, &word, &len)) {
    if (*out) strcat(out, "|");
    strncat(out, word, len);
  }
  bpe_words_done(&w);
}

TEST("text is cleaned and split into words as CLIP's pattern does") {
  static const char *const cases[][2] = {
      {"A  photo\tof\n a Cat.", "a|photo|of|a|cat|."},
      {"it's we're I'll don't o'clock", "it|'s|we|'re|i|'ll|don|'t|o|'|clock"},
      {"x2 1234", "x|2|1|2|3|4"},
      {"wow!!! (ok)...", "wow|!!!|(|ok|)..."},
      {"tom &amp;amp; jerry &#233;&#xE9; &bogus;", "tom|&|jerry|éé|&|bogus|;"},
      {"ÉCOLE Straße ΑΒΓ ДОМ", "école|straße|αβγ|дом"},
      {"女娲补天 3月", "女娲补天|3|月"},
      {"a\xc2\xa0"
       "b\xe3\x80\x80"
       "c",
       "a|b|c"},
      {"pi\xc3\xb1"
       "ata \xf0\x9f\x8d\x8e!",
       "piñata|\xf0\x9f\x8d\x8e!"},
      {"<|startoftext|>hi<|endoftext|>", "<|startoftext|>|hi|<|endoftext|>"},
      {"bad \xff byte", "bad|\xef\xbf\xbd|byte"},
      {"--'s", "--'|s"},
      {"", ""},
      {"  \n ", ""},
  };
  char got[500];
  for (int i = 0; i < COUNT_OF(cases); i++) {
    split(cases[i][0], got);
    EXPECT_TEXT(got, cases[i][1]);
  }
}

TEST("letters, numbers and small forms beyond Latin-1 are known") {
  EXPECT(unicode_is_letter('a') && unicode_is_letter(0x4e2d) && unicode_is_letter(0x20000) && unicode_is_letter(0xe9),
         "");
  EXPECT(!unicode_is_letter('1') && !unicode_is_letter(' ') && !unicode_is_letter(0x1f34e) &&
             !unicode_is_letter(0xd7),
         "");
  EXPECT(unicode_is_number('7') && unicode_is_number(0xbd) && unicode_is_number(0x663) && !unicode_is_number('x'),
         "");
  EXPECT(unicode_lower(0x100) == 0x101 && unicode_lower(0x101) == 0x101 && unicode_lower(0x10400) == 0x10428, "");
  EXPECT(unicode_lower(0xd7) == 0xd7 && unicode_lower(0x1e9e) == 0xdf && unicode_lower(0x10ffff) == 0x10ffff, "");
}

TEST("bytes have CLIP's ids") {
  Error err;
  Bpe *b = bpe_parse("", 0, "empty", &err);
  REQUIRE(b, "%s", err.text);
  int32_t ids[16];
  int n;
  REQUIRE(bpe_encode(b, "!~", ids, 16, &n, &err), "%s", err.text);
  EXPECT(n == 2 && ids[0] == 0 && ids[1] == 256 + 93, "%d: %d %d", n, ids[0], ids[1]);
  REQUIRE(bpe_encode(b, "é", ids, 16, &n, &err), "%s", err.text); /* c3 a9 */
  EXPECT(n == 2 && ids[0] == 0xc3 - 174 + 94 + 12 && ids[1] == 256 + 0xa9 - 161 + 94, "%d %d", ids[0], ids[1]);
  EXPECT(bpe_vocab(b) == 514 && bpe_start(b) == 512 && bpe_end(b) == 513, "");
  bpe_free(b);
}

static const char small_merges[] = "#version: 0.2\ni n\nt h\na n\nr e\na r\ne r\nth e</w>\nin g</w>\n";

TEST("the first merges of CLIP's file give CLIP's ids, lowest rank first") {
  Error err;
  Bpe *b = bpe_parse(small_merges, strlen(small_merges), "memory", &err);
  REQUIRE(b, "%s", err.text);
  EXPECT(bpe_merge_count(b) == 8 && bpe_vocab(b) == 522, "%d", bpe_merge_count(b));
  int32_t ids[16];
  int n;
  REQUIRE(bpe_encode(b, "The thing", ids, 16, &n, &err), "%s", err.text);
  EXPECT(n == 3 && ids[0] == 512 + 6 && ids[1] == 512 + 1 && ids[2] == 512 + 7, "%d: %d %d %d", n, ids[0], ids[1],
         ids[2]);
  REQUIRE(bpe_encode(b, "a", ids, 16, &n, &err), "%s", err.text);
  EXPECT(n == 1 && ids[0] == 320, "%d", ids[0]);
  REQUIRE(bpe_encode(b, "tare", ids, 16, &n, &err), "%s", err.text); /* e</w> is not e, so only a r merges */
  EXPECT(n == 3 && ids[1] == 512 + 4, "%d: %d", n, ids[1]);
  REQUIRE(bpe_encode_fixed(b, "the", ids, 6, &err), "%s", err.text);
  EXPECT(ids[0] == 520 && ids[1] == 518 && ids[2] == 521 && ids[3] == 0 && ids[5] == 0, "");
  REQUIRE(bpe_encode_fixed(b, "the the the the the", ids, 4, &err), "%s", err.text);
  EXPECT(ids[0] == 520 && ids[2] == 518 && ids[3] == 521, "");
  uint8_t mask[8];
  bpe_mask(b, ids, mask, 4);
  EXPECT(memcmp(mask, "\1\1\1\1", 4) == 0, "a caption that fills its room");
  REQUIRE(bpe_encode_fixed(b, "the", ids, 8, &err), "%s", err.text);
  bpe_mask(b, ids, mask, 8);
  EXPECT(memcmp(mask, "\1\1\1\0\0\0\0\0", 8) == 0, "start, the, end");
  EXPECT(!bpe_encode_fixed(b, "x", ids, 1, &err), "");
  bpe_free(b);
}

TEST("a text that two merges make has the later id") {
  static const char twice[] = "a b\nb c\nab c\na bc\n";
  Error err;
  Bpe *b = bpe_parse(twice, strlen(twice), "memory", &err);
  REQUIRE(b, "%s", err.text);
  int32_t ids[8];
  int n;
  REQUIRE(bpe_encode(b, "abcx", ids, 8, &n, &err), "%s", err.text);
  EXPECT(n == 2 && ids[0] == 515, "%d: %d", n, ids[0]);
  bpe_free(b);
}

TEST("learning takes the most frequent pair first and ties by id") {
  static const char *const texts[] = {"aab aab", "aac", "zz zz"};
  Error err;
  Bpe *b = bpe_train(texts, 3, 10, &err);
  REQUIRE(b, "%s", err.text);
  Buffer out = {0};
  REQUIRE(bpe_serialise(b, &out, &err), "%s", err.text);
  EXPECT_TEXT(out.data, "#version: 0.2\na a\nz z</w>\naa b</w>\n");
  buffer_done(&out), bpe_free(b);
}

enum { CAPTIONS = 3000 };

TEST("merges learned from captions make them short, survive their file, and decode back") {
  WorldOptions o;
  Error err;
  world_options_init(&o);
  World *w = world_open(&o, &err);
  REQUIRE(w, "%s", err.text);
  static char texts[CAPTIONS][WORLD_CAPTION_BYTES];
  static const char *list[CAPTIONS];
  for (int i = 0; i < CAPTIONS; i++) {
    Scene s = world_scene(w, WORLD_TRAIN, (uint64_t)i);
    world_caption(w, &s, texts[i]);
    list[i] = texts[i];
  }
  Bpe *b = bpe_train(list, CAPTIONS, 1000, &err);
  REQUIRE(b, "%s", err.text);
  EXPECT(bpe_merge_count(b) > 100 && bpe_merge_count(b) < 1000, "%d", bpe_merge_count(b));
  REQUIRE(bpe_write(b, "bpe_test.txt", &err), "%s", err.text);
  Bpe *again = merges_read("bpe_test.txt", &err);
  REQUIRE(again, "%s", err.text);
  remove("bpe_test.txt");
  EXPECT(bpe_vocab(again) == bpe_vocab(b), "");
  for (int i = 0; i < CAPTIONS; i++) {
    int32_t ids[64], ids2[64];
    int n, n2;
    Scene s = world_held_out_scene(w, (uint64_t)i);
    char text[WORLD_CAPTION_BYTES], spaced[2 * WORLD_CAPTION_BYTES] = {0};
    world_caption(w, &s, text);
    REQUIRE(bpe_encode(b, text, ids, 64, &n, &err) && bpe_encode(again, text, ids2, 64, &n2, &err), "%s", err.text);
    EXPECT(n == n2 && n < 24 && !memcmp(ids, ids2, sizeof *ids * (size_t)n), "%d tokens: %s", n, text);
    for (char *p = text, *q = spaced; *p; p++) { /* "x-y," is four words to the encoder */
      if (*p == ',' || *p == '-') *q++ = ' ';
      *q++ = *p;
      if (*p == '-') *q++ = ' ';
    }
    Buffer out = {0};
    REQUIRE(bpe_decode(b, ids, n, &out, &err), "%s", err.text);
    EXPECT_TEXT(out.data, spaced);
    buffer_done(&out);
  }
  bpe_free(b), bpe_free(again), world_close(w);
}

TEST("any text decodes back to its words, in any script") {
  Error err;
  Bpe *b = bpe_parse(small_merges, strlen(small_merges), "memory", &err);
  REQUIRE(b, "%s", err.text);
  int32_t ids[200];
  int n;
  Buffer out = {0};
  REQUIRE(bpe_encode(b, "女娲 paints the Überding \xf0\x9f\x8d\x8e", ids, 200, &n, &err), "%s", err.text);
  REQUIRE(bpe_decode(b, ids, n, &out, &err), "%s", err.text);
  EXPECT_TEXT(out.data, "女娲 paints the überding \xf0\x9f\x8d\x8e");
  ids[0] = 1 << 20;
  EXPECT(!bpe_decode(b, ids, n, &out, &err), "");
  EXPECT_HAS(err.text, "outside of the vocabulary");
  buffer_done(&out), bpe_free(b);
}

TEST("random merges and texts are refused or used, never harmful") {
  uint32_t x = 1;
  Error err;
  for (int round = 0; round < 3000; round++) {
    char file[200], text[100];
    int32_t ids[64];
    int n;
    for (int i = 0; i < 199; i++) {
      x = x * 1664525u + 1013904223u;
      file[i] = "ab e\n</w>\xc3\xa9\xc4\xa0\n\n"[x >> 28];
      text[i % 99] = (char)(x >> 16 | 1);
    }
    file[199] = text[99] = 0;
    Bpe *b = bpe_parse(file, (size_t)(x >> 8) % 200, "random", &err);
    if (!b) b = bpe_parse(small_merges, strlen(small_merges), "memory", &err);
    REQUIRE(b, "%s", err.text);
    REQUIRE(bpe_encode(b, text, ids, 64, &n, &err), "%s", err.text);
    Buffer out = {0};
    EXPECT(bpe_decode(b, ids, n < 64 ? n : 64, &out, &err), "%s", err.text);
    buffer_done(&out), bpe_free(b);
  }
}

TEST("malformed merges name the line") {
  static const char *const cases[][2] = {
      {"#version: 0.2\na b\nab\n", "f:3: expected two symbols"},
      {"a b c\n", "f:1: expected two symbols"},
      {" b\n", "f:1: expected two symbols"},
      {"a b\nab q\nxy z\n", "f:3: \"xy\" is not made by an earlier line"},
      {"a b\na b\n", "f:2: the same merge twice"},
      {"a b</w>\nab</w> c\n", "f:2: the left part ends a word"},
      {"a \xff\n", "f:1: not a symbol of the byte alphabet"},
      {"a \xe5\xa5\xb3\n", "f:1: not a symbol of the byte alphabet"},
  };
  Error err;
  for (int i = 0; i < COUNT_OF(cases); i++) {
    Bpe *b = bpe_parse(cases[i][0], strlen(cases[i][0]), "f", &err);
    EXPECT(!b, "case %d", i);
    EXPECT_HAS(err.text, cases[i][1]);
    bpe_free(b);
  }
  EXPECT(!merges_read("no such merges", &err), "");
}

/* A file as large as CLIP's, made of all pairs over the bytes: what follows the first 48894 lines is left out. */
TEST("a file longer than CLIP's vocabulary is cut where CLIP cuts its own") {
  Error err;
  Buffer file = {0};
  buffer_printf(&file, "#version: 0.2\r\n");
  for (int i = 0; i < 256; i++)
    for (int k = 0; k < 256; k++) {
      int left = 0x100 + i % 68, right = 0x100 + k % 68; /* the unprintable bytes, and Latin letters for the rest */
      if (i < 188)
        left = i < 94 ? 33 + i : 161 + i - 94 + (i - 94 >= 12);
      else
        left = 0x100 + i - 188;
      if (k < 188)
        right = k < 94 ? 33 + k : 161 + k - 94 + (k - 94 >= 12);
      else
        right = 0x100 + k - 188;
      int c[2] = {left, right};
      for (int m = 0; m < 2; m++)
        if (c[m] < 128)
          buffer_printf(&file, "%c%s", c[m], m ? "\r\n" : " ");
        else
          buffer_printf(&file, "%c%c%s", 0xc0 | c[m] >> 6, 0x80 | (c[m] & 63), m ? "\r\n" : " ");
    }
  REQUIRE(!file.failed, "");
  Bpe *b = bpe_parse(file.data, file.len, "big", &err);
  REQUIRE(b, "%s", err.text);
  EXPECT(bpe_vocab(b) == 49408 && bpe_start(b) == 49406 && bpe_end(b) == 49407, "%d", bpe_vocab(b));
  bpe_free(b), buffer_done(&file);
}

TEST("texts without end are refused, long ones are not") {
  static char text[BPE_MAX_TEXT + 2];
  memset(text, 'a', sizeof text - 1);
  static const char merges[] = "a a\naa aa\naaaa aaaa\n";
  Error err;
  int n;
  Bpe *b = bpe_parse(merges, strlen(merges), "memory", &err);
  REQUIRE(b, "%s", err.text);
  EXPECT(!bpe_encode(b, text, NULL, 0, &n, &err) && err.code == ERROR_LIMIT, "");
  REQUIRE(bpe_encode(b, text + 1, NULL, 0, &n, &err), "%s", err.text);
  EXPECT(n == BPE_MAX_TEXT / 8 + 3, "%d", n); /* the last a ends the word and stays alone */
  bpe_free(b);
}

TEST("running out of memory anywhere is reported") {
  Error err;
  static const char *const texts[] = {"the cat and the hat", "the bat"};
  for (uint64_t k = 1; k < 40; k++) {
    mem_fail_at(k);
    Bpe *b = bpe_train(texts, 2, 20, &err);
    bool failed = !b;
    if (failed) EXPECT(err.code == ERROR_MEMORY, "%s", err.text);
    int32_t ids[8];
    if (b && !bpe_encode_fixed(b, "the cat", ids, 8, &err)) EXPECT(err.code == ERROR_MEMORY, "%s", err.text);
    mem_fail_at(0);
    bpe_free(b);
  }
}

TEST_MAIN()
