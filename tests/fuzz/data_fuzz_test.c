/* Damaged IDX arrays, tables of captions and texts of pictures: refused with a reason that names them, or read to the
 * last byte of what they say. */
#include "media/captions.h"
#include "media/idx.h"
#include "media/listing.h"
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
    CaptionTable t = captions_sort(&c);
    for (size_t k = 0; ok && k < t.n; k++) {
      const char *name = t.text + t.item[k].name;
      EXPECT(strncmp(name, "in/", 3) == 0 && captions_find(&t, name, &first) >= 1 && first <= k, "case %d: \"%s\"", i,
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

/* A listing of two pictures and a caption, as its bytes; the caller frees them. */
static uint8_t *make_listing(size_t *out_n) {
  char folder[] = "/tmp/nuwa-listing-XXXXXX", path[200];
  Error err;
  if (!mkdtemp(folder)) abort();
  snprintf(path, sizeof path,
           "cd %s && mkdir data cache && echo >data/a.png && echo >data/b.png && echo 'a\tone' >data/captions.txt", folder);
  if (system(path) != 0) abort();
  snprintf(path, sizeof path, "%s/data", folder);
  char cache[100];
  snprintf(cache, sizeof cache, "%s/cache", folder);
  listing_close(listing_open(path, &(DatasetOptions){.cache = cache}, &err));
  snprintf(path, sizeof path, "cat %s/cache/*", folder);
  FILE *f = popen(path, "r");
  uint8_t *bytes = malloc(1 << 16);
  *out_n = f ? fread(bytes, 1, 1 << 16, f) : 0;
  if (f) pclose(f);
  snprintf(path, sizeof path, "rm -r %s", folder);
  if (system(path) != 0) abort();
  return bytes;
}

TEST("damaged listings are refused with the reason, or all that they say is there") {
  size_t n, read = 0, first;
  uint8_t *good = make_listing(&n);
  REQUIRE(n > sizeof(ListingHead), "%zu", n);
  const ListingHead *h = (const ListingHead *)good;
  const char *root = (const char *)good + sizeof *h + h->n_file * sizeof(ListedFile) + h->n_caption * sizeof(Caption);
  for (int i = 0; i < 20000; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i};
    size_t size = fuzz_below(&f, 8) ? n : fuzz_below(&f, n);
    uint8_t *bytes = malloc(n);
    memcpy(bytes, good, n);
    for (size_t edits = fuzz_below(&f, 3) + 1; edits > 0; edits--)
      if (fuzz_below(&f, 3))
        fuzz_damage(&f, bytes + sizeof *h, n - sizeof *h);
      else
        fuzz_damage(&f, bytes + offsetof(ListingHead, n_example), 64);
    uint8_t *exact = malloc(size + 1);
    memcpy(exact, bytes, size);
    Listing l;
    Error err = {0};
    bool ok = listing_parse(&l, exact, size, root, &err);
    EXPECT(ok || err.code == ERROR_FORMAT, "case %d: %s", i, err.text);
    for (uint64_t k = 0; ok && k < l.head.n_example; k++) {
      size_t of_it = listing_captions(&l, k, &first);
      for (size_t c = 0; c < of_it; c++) read += strlen(captions_text(&l.captions, first + c));
    }
    free(exact);
    free(bytes);
  }
  EXPECT(read > 100, "%zu", read);
  free(good);
}

TEST_MAIN()
