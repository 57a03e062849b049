/* CLIP's own merges and its cleaning of text.  What is expected of a text was computed with ftfy 6.3 (fix_encoding off),
 * Python's html.unescape and str.lower; ids are those of CLIP's tokenizer. */
#include <stdlib.h>
#include <unistd.h>

#include <zlib.h>

#include "media/merges.h"
#include "runtime/base/file.h"
#include "runtime/base/hooks.h"
#include "runtime/text/clean.h"
#include "tests/test.h"
#include "tests/unit/media/clip_cases.h"

static Bpe *clip_part(void) {
  Buffer text = {0};
  Error err;
  buffer_printf(&text, "\"bpe_simple_vocab_16e6.txt#version: 0.2\n");
  for (int i = 0; i < COUNT_OF(clip_merges); i++) buffer_printf(&text, "%s\n", clip_merges[i].merge);
  Bpe *b = bpe_parse(text.data, text.len, "part of CLIP's merges", &err);
  EXPECT(b, "%s", err.text);
  buffer_done(&text);
  return b;
}

TEST("texts have the ids that CLIP gives them") {
  Bpe *b = clip_part();
  REQUIRE(b, "no merges");
  EXPECT(bpe_merge_count(b) == COUNT_OF(clip_merges), "%d merges", bpe_merge_count(b));
  for (int i = 0; i < COUNT_OF(clip_cases); i++) {
    int32_t ids[200];
    int n = 0;
    Error err;
    char got[1200] = "";
    REQUIRE(bpe_encode(b, clip_cases[i].text, ids, COUNT_OF(ids), &n, &err), "%s", err.text);
    for (int k = 0; k < n; k++) {
      int id = ids[k] < BPE_BYTES ? ids[k] : ids[k] == bpe_start(b) ? 49406 : ids[k] == bpe_end(b) ? 49407
                                           : BPE_BYTES + clip_merges[ids[k] - BPE_BYTES].rank;
      snprintf(got + strlen(got), sizeof got - strlen(got), "%s%d", k ? " " : "", id);
    }
    EXPECT(!strcmp(got, clip_cases[i].ids), "%s\n got %s\nwant %s", clip_cases[i].text, got, clip_cases[i].ids);
  }
  bpe_free(b);
}

static void expect_clean(const char *text, const char *want) {
  Buffer out = {0};
  Error err = {0};
  EXPECT(text_clean(text, strlen(text), &out, &err), "%s", err.text);
  EXPECT(!strcmp(out.data ? out.data : "", want), "%s\n got %s\nwant %s", text, out.data ? out.data : "", want);
  buffer_done(&out);
}

TEST("text is cleaned by the steps of ftfy, then html.unescape twice, then small letters") {
  static const char *const cases[][2] = {
      {"\342\200\234Curly\342\200\235 \342\200\230quotes\342\200\231 don\312\274t",
       "\042curly\042 'quotes' don't"},
      {"\357\254\201sh \357\254\204oor \304\262ssel \305\211",
       "fish ffloor ijssel 'n"},
      {"\357\274\246\357\275\225\357\275\214\357\275\214\343\200\200\357\275\267\357\276\236\357\277\243",
       "full \343\202\256 \314\204"},
      {"\304\260stanbul \316\237\316\224\316\237\316\243. \316\243\316\243",
       "i\314\207stanbul \316\277\316\264\316\277\317\202. \317\203\317\202"},
      {"&eacute;&EACUTE; &SZLIG; &nTILDE; &notin; &NotEqualTilde;",
       "\303\251\303\251 ss &ntilde; \342\210\211 \342\211\202\314\270"},
      {"&lt;b&gt; &EACUTE; <br> &EACUTE; &eacute;",
       "<b> &eacute; <br> &eacute; \303\251"},
      {"&eacute &notit; &ampamp; &#8217 &#x41g",
       "\303\251 \302\254it; & \342\200\231 ag"},
      {"&#0;&#128;&#150;&#xD800;&#1;&#xFFFE;&#1114112;|",
       "\357\277\275\342\202\254\342\200\223\357\277\275\357\277\275|"},
      {"&amp;amp;amp;eacute;",
       "\303\251"},
      {"a\033[36;44mb\033[0m\007c\357\273\277d\342\200\250e\302\205f\302\223g",
       "abcd e\342\200\246f\042g"},
      {"e\314\201 A\314\212 \341\204\200\341\205\241\341\206\250 q\314\207\314\243 \340\245\230 \360\235\205\236",
       "\303\251 \303\245 \352\260\201 q\314\243\314\207 \340\244\225\340\244\274 \360\235\205\227\360\235\205\245"},
      {"\302\275 x\302\262 \342\221\240 \357\255\217",
       "\302\275 x\302\262 \342\221\240 \357\255\217"},
      {"&fjlig;&FJLIG; &ThickSpace;|&nbsp;|&ZeroWidthSpace;|",
       "fjfj | |\342\200\213|"},
  };
  for (int i = 0; i < COUNT_OF(cases); i++) expect_clean(cases[i][0], cases[i][1]);
  expect_clean("", "");
  expect_clean(" \t\n ", "");
  expect_clean("a\xff\xc3(", "a\xef\xbf\xbd\xef\xbf\xbd("); /* damaged bytes, one character each */
}

TEST("references inside each other end in an error, not in an endless loop") {
  Buffer text = {0}, out = {0};
  Error err = {0};
  buffer_printf(&text, "&");
  for (int i = 0; i < 150; i++) buffer_printf(&text, "amp;");
  buffer_printf(&text, "lt;");
  EXPECT(text_clean(text.data, text.len, &out, &err), "%s", err.text);
  EXPECT_TEXT(out.data, "<");
  for (int i = 0; i < 15000; i++) buffer_printf(&text, "&amp;amp;amp;");
  buffer_printf(&text, "&");
  for (int i = 0; i < 1000; i++) buffer_printf(&text, "amp;");
  EXPECT(!text_clean(text.data, text.len, &out, &err) && err.code == ERROR_LIMIT, "it ended");
  buffer_done(&text);
  buffer_done(&out);
}

TEST("running out of memory while cleaning is reported") {
  for (uint64_t k = 1; k < 60; k++) {
    Buffer out = {0};
    Error err = {0};
    static const char text[] = "e\xcc\x81\xcc\xa3 &eacute; \xef\xac\x81";
    mem_fail_at(k);
    bool ok = text_clean(text, strlen(text), &out, &err);
    mem_fail_at(0);
    EXPECT(ok || err.code == ERROR_MEMORY, "allocation %d", (int)k);
    buffer_done(&out);
  }
}

static void write_gzip(const char *path, const char *text, const char *mode) {
  size_t n = strlen(text);
  gzFile f = gzopen(path, mode);
  if (!f || gzwrite(f, text, (unsigned)n) != (int)n || gzclose(f) != Z_OK) abort();
}

TEST("merges may be gzipped, in one member or several, and damage is refused") {
  const char *path = "clip_test.txt.gz";
  Error err = {0};
  write_gzip(path, "\"x.txt#version: 0.2\ni n\nt h\n", "wb");
  write_gzip(path, "th e</w>\n", "ab");
  Bpe *b = merges_read(path, &err);
  REQUIRE(b, "%s", err.text);
  EXPECT(bpe_merge_count(b) == 3, "%d", bpe_merge_count(b));
  bpe_free(b);
  size_t n;
  char *bytes = file_read(path, &n, &err);
  REQUIRE(bytes, "%s", err.text);
  for (size_t cut = 2; cut < n; cut++) {
    if (!file_write_all(path, bytes, cut, &err)) abort();
    b = merges_read(path, &err);
    EXPECT(!b || bpe_merge_count(b) == 2, "cut to %zu of %zu bytes", cut, n); /* the first member is whole */
    bpe_free(b);
  }
  EXPECT_HAS(err.text, "clip_test.txt.gz: damaged gzip data: ");
  for (size_t i = 2; i < n; i++) {
    bytes[i] ^= 0x55;
    if (!file_write_all(path, bytes, n, &err)) abort();
    bpe_free(merges_read(path, &err));
    bytes[i] ^= 0x55;
  }
  mem_free(bytes);
  unlink(path);
}

TEST_MAIN()
