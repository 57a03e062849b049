/* Damaged IDX arrays, tables of captions and texts of pictures: refused with a reason that names them, or read to the
 * last byte of what they say. */
#include "media/captions.h"
#include "media/idx.h"
#include "tests/fuzz/fuzz.h"
#include "tests/test.h"

TEST("damaged IDX files are refused or say exactly what their bytes hold") {
  enum { N = 16 + 5 * 4 * 3 };
  int read = 0;
  for (int i = 0; i < 20000; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i};
    size_t n = fuzz_below(&f, 4) ? N : fuzz_below(&f, N + 1);
    uint8_t *bytes = malloc(N); /* of its own, so that a reader that goes beyond is seen */
    static const uint8_t head[16] = {0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 3};
    memset(bytes, 7, N);
    memcpy(bytes, head, sizeof head);
    for (size_t edits = fuzz_below(&f, 3); edits > 0; edits--) fuzz_damage(&f, bytes, fuzz_below(&f, 2) ? N : 16);
    uint8_t *cut = malloc(n + 1);
    memcpy(cut, bytes, n);
    Error err = {0};
    Idx x;
    bool ok = idx_parse(cut, n, "damaged", &x, &err);
    EXPECT(ok || (err.code == ERROR_FORMAT && strncmp(err.text, "damaged", 7) == 0), "case %d: %s", i, err.text);
    if (ok) {
      size_t elems = 1, sum = 0;
      for (int k = 0; k < x.rank; k++) elems *= (size_t)x.dim[k];
      EXPECT(x.data + elems == cut + n, "case %d: %zu elements", i, elems);
      for (size_t k = 0; k < elems; k++) sum += x.data[k];
      read += sum > 0;
    }
    free(cut);
    free(bytes);
  }
  EXPECT(read > 100, "only %d are read", read);
}

static const char *const put[] = {"\n",
                                  "\t",
                                  "\r\n",
                                  "\"",
                                  "{",
                                  "}",
                                  "\\u00",
                                  "\xef\xbb\xbf",
                                  "{\"file_name\": ",
                                  ", \"text\": \"",
                                  "\xff\xfe",
                                  "de.utf8=",
                                  "a/b.png\t",
                                  "[[[[[[",
                                  "\\"};

/* Changes text in a copy that ends where the text does; the caller frees it. */
static char *damaged(Fuzz *f, const char *text, size_t *out_n) {
  size_t n = strlen(text);
  char *room = malloc(n + 1024), *exact;
  memcpy(room, text, n + 1);
  for (size_t edits = fuzz_below(f, 5); edits > 0; edits--) n = fuzz_edit(f, room, n, put, COUNT_OF(put));
  if (n >= 8 && !fuzz_below(f, 4)) fuzz_damage(f, (uint8_t *)room, n);
  exact = malloc(n + 1);
  memcpy(exact, room, n);
  free(room);
  *out_n = n;
  return exact;
}

typedef bool Parser(Captions *c, const char *bytes, size_t n, const char *where, const char *folder, Error *err);

static void check_table(Parser *parse, const char *text, int least) {
  int read = 0;
  for (int i = 0; i < 6000; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i};
    Captions c = {0};
    Error err = {0};
    size_t n, first;
    char *bytes = damaged(&f, text, &n);
    bool ok = parse(&c, bytes, n, "damaged", "in/", &err);
    EXPECT(ok || (err.code != ERROR_NONE && strncmp(err.text, "damaged:", 8) == 0), "case %d: \"%s\"", i, err.text);
    captions_sort(&c);
    for (size_t k = 0; ok && k < c.n; k++) {
      const char *name = captions_name(&c, k);
      EXPECT(strncmp(name, "in/", 3) == 0 && captions_find(&c, name, &first) >= 1 && first <= k, "case %d: \"%s\"", i,
             name);
    }
    read += ok && c.n;
    captions_done(&c);
    free(bytes);
  }
  EXPECT(read > least, "only %d are read", read);
}

TEST("damaged tables of captions are refused by name and line, or every name in them is found") {
  check_table(captions_parse_text, "a.png\ta red apple\nb/c.jpg\ttwo taxis\n\na.png\tan apple\n", 60);
  check_table(captions_parse_jsonl,
              "{\"file_name\": \"a.png\", \"text\": \"a red apple\"}\n{\"text\": \"x \\u00e9\", \"file_name\": "
              "\"b\", \"n\": [1, {}]}\n",
              60);
}

TEST("a damaged text of a picture gives one of its lines, or nothing") {
  for (int i = 0; i < 6000; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i};
    size_t n;
    char *bytes = damaged(&f, "One horse.\r\nde.utf8=Ein Pferd.\n\nAnother\n", &n);
    Buffer out = {0};
    captions_choose(bytes, n, fuzz_next(&f), &out);
    EXPECT(out.len <= n && (!out.len || !memchr(out.data, '\n', out.len)), "case %d", i);
    EXPECT(!out.len || memmem(bytes, n, out.data, out.len), "case %d: \"%s\"", i, out.data);
    buffer_done(&out);
    free(bytes);
  }
}

TEST_MAIN()
