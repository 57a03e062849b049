#include "runtime/base/safetensors.h"

#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/hooks.h"
#include "tests/test.h"

/* A file of this header and `data_bytes` bytes 0, 1, 2, ...; heap-allocated to its exact size for the sanitizers. */
static char *make_file(const char *header, size_t header_bytes, size_t data_bytes, size_t *out_n) {
  *out_n = 8 + header_bytes + data_bytes;
  char *bytes = malloc(*out_n);
  for (int i = 0; i < 8; i++) bytes[i] = (char)(header_bytes >> 8 * i & 255);
  memcpy(bytes + 8, header, header_bytes);
  for (size_t i = 0; i < data_bytes; i++) bytes[8 + header_bytes + i] = (char)i;
  return bytes;
}

static void expect_refused_bytes(const char *header, size_t header_bytes, size_t data_bytes, const char *reason) {
  Error err = {0};
  size_t n;
  char *bytes = make_file(header, header_bytes, data_bytes, &n);
  Safetensors *s = safetensors_parse(bytes, n, "w.safetensors", &err);
  EXPECT(!s && err.code == ERROR_FORMAT, "not refused: %s", header);
  EXPECT(!strncmp(err.text, "w.safetensors: ", 15), "%s", err.text);
  EXPECT_HAS(err.text, reason);
  safetensors_close(s);
  free(bytes);
}

static void expect_refused(const char *header, size_t data_bytes, const char *reason) {
  expect_refused_bytes(header, strlen(header), data_bytes, reason);
}

/* The parsed file; *out_bytes must be freed after it is closed. */
static Safetensors *parse(const char *header, size_t data_bytes, char **out_bytes) {
  Error err = {0};
  size_t n;
  *out_bytes = make_file(header, strlen(header), data_bytes, &n);
  Safetensors *s = safetensors_parse(*out_bytes, n, "w.safetensors", &err);
  EXPECT(s, "%s", err.text);
  return s;
}

#define TENSOR(name, dtype, shape, begin, end)                                                                     \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," #end "]}"

TEST("tensors are found by name, with their dtype, shape and data") {
  char *bytes;
  Safetensors *s = parse("{" TENSOR("b", "F32", "2,3", 0, 24) " , " TENSOR("a", "U8", "", 24, 25) "}   ", 25, &bytes);
  REQUIRE(s, "refused");
  EXPECT(safetensors_count(s) == 2, "%d", safetensors_count(s));
  const TensorView *a = safetensors_find(s, "a"), *b = safetensors_find(s, "b");
  REQUIRE(a && b && !safetensors_find(s, "c"), "names");
  EXPECT(a->dtype == DTYPE_U8 && a->rank == 0 && a->bytes == 1 && *(const uint8_t *)a->data == 24, "a");
  EXPECT(b->dtype == DTYPE_F32 && b->rank == 2 && b->dim[0] == 2 && b->dim[1] == 3 && b->bytes == 24, "b");
  EXPECT(safetensors_get(s, 0) == b && safetensors_get(s, 1) == a, "in the order of the file");
  safetensors_close(s);
  free(bytes);
}

TEST("the order is that of the data, whatever the header's") {
  char *bytes;
  Safetensors *s = parse("{" TENSOR("x", "U8", "2", 3, 5) "," TENSOR("y", "U8", "3", 0, 3) ","
                         TENSOR("none", "F32", "0,7", 3, 3) "}", 5, &bytes);
  REQUIRE(s, "refused");
  EXPECT_TEXT(safetensors_get(s, 0)->name, "y");
  EXPECT_TEXT(safetensors_get(s, 1)->name, "none");
  EXPECT_TEXT(safetensors_get(s, 2)->name, "x");
  safetensors_close(s);
  free(bytes);
}

TEST("a file may hold nothing but metadata") {
  char *bytes;
  Safetensors *s = parse("{ \"__metadata__\" : "
                         "{ \"k\" : \"v\\n\\u00fc\\ud83d\\ude00\\\"\\\\\\/\" , \"b\":\"\" } }", 0, &bytes);
  REQUIRE(s, "refused");
  EXPECT(safetensors_count(s) == 0, "%d", safetensors_count(s));
  EXPECT_TEXT(safetensors_metadata(s, "k"), "v\n\xC3\xBC\xF0\x9F\x98\x80\"\\/");
  EXPECT_TEXT(safetensors_metadata(s, "b"), "");
  EXPECT(!safetensors_metadata(s, "c") && !safetensors_find(s, "__metadata__"), "no more");
  safetensors_close(s);
  free(bytes);
  s = parse("{}", 0, &bytes);
  EXPECT(s && safetensors_count(s) == 0 && !safetensors_find(s, "") && !safetensors_metadata(s, ""), "empty");
  safetensors_close(s);
  free(bytes);
}

TEST("escapes in names are resolved, so a name has one spelling") {
  char *bytes;
  Safetensors *s = parse("{" TENSOR("a\\u0062\\\"c", "U8", "1", 0, 1) "}", 1, &bytes);
  REQUIRE(s, "refused");
  EXPECT(safetensors_find(s, "ab\"c"), "by its resolved name");
  safetensors_close(s);
  free(bytes);
  expect_refused("{" TENSOR("ab", "U8", "1", 0, 1) "," TENSOR("a\\u0062", "U8", "1", 1, 2) "}", 2,
                 "two tensors are called 'ab'");
}

TEST("files that are no safetensors files are refused") {
  Error err = {0};
  for (size_t n = 0; n < 8; n++) {
    EXPECT(!safetensors_parse("\2\0\0\0\0\0\0\0", n, "w", &err), "%zu bytes", n);
    EXPECT_HAS(err.text, "are too few");
  }
  EXPECT(!safetensors_parse("\2\0\0\0\0\0\0\0{", 9, "w", &err), "truncated");
  EXPECT_TEXT(err.text, "w: truncated: a header of 2 bytes is announced, 1 bytes follow");
  EXPECT(!safetensors_parse("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10, "w", &err), "a huge header");
  EXPECT_HAS(err.text, "a header of 18446744073709551615 bytes, the limit is 104857600");
  EXPECT(!safetensors_parse("\0\0\0\0\0\0\0\0", 8, "w", &err), "no header");
  expect_refused("[]", 0, "its header starts without '{'");
  expect_refused(" {}", 0, "its header starts without '{'");
}

TEST("broken JSON is refused with the byte where it breaks") {
  expect_refused("{", 0, "header, byte 1: it ends where '\"' is expected");
  expect_refused("{\"a\"", 0, "header, byte 4: it ends where ':' is expected");
  expect_refused("{} x", 0, "header, byte 3: something follows the last '}'");
  expect_refused("{\"a", 0, "a string does not end");
  expect_refused("{\"a\\", 0, "a string does not end");
  expect_refused("{\"a\\\"", 0, "a string does not end");
  expect_refused("{\"a\":1}", 0, "'{' is expected");
  expect_refused("{\"a\":{},}", 0, "tensor 'a' has no dtype");
  expect_refused("{" TENSOR("a", "U8", "1", 0, 1) ",}", 1, "'\"' is expected");
  expect_refused("{" TENSOR("a", "U8", "1,", 0, 1) "}", 1, "a number of digits only is expected");
  expect_refused("{" TENSOR("a", "U8", "-1", 0, 1) "}", 1, "a number of digits only is expected");
  expect_refused("{" TENSOR("a", "U8", "1.0", 0, 1) "}", 1, "']' is expected");
  expect_refused("{" TENSOR("a", "U8", "1e0", 0, 1) "}", 1, "']' is expected");
  expect_refused("{" TENSOR("a", "U8", "01", 0, 1) "}", 1, "a number starts with 0");
  expect_refused("{\"__metadata__\":{\"a\":1}}", 0, "'\"' is expected");
  expect_refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ appears twice");
  expect_refused("{\"__metadata__\":{\"k\":\"1\",\"j\":\"\",\"k\":\"2\"}}", 0, "metadata has 'k' twice");
}

TEST("strings that are not UTF-8, or hold control characters, are refused") {
  expect_refused("{\"\xC0\x80\":{}}", 0, "a string is not UTF-8");
  expect_refused("{\"a\xC3\":{}}", 0, "a string is not UTF-8");
  expect_refused("{\"a\nb\":{}}", 0, "a string holds the control character 10");
  expect_refused("{\"a\\nb\":{}}", 0, "a name holds the control character 10");
  expect_refused("{\"a\\u0000b\":{}}", 0, "a name holds the control character 0");
  expect_refused("{\"__metadata__\":{\"a\":\"\\u0000\"}}", 0, "a string holds the control character 0");
  expect_refused_bytes("{\"a\0\":{}}", 9, 0, "a string holds the control character 0");
  expect_refused("{\"\\x\":{}}", 0, "unknown escape");
  expect_refused("{\"\\u12\":{}}", 0, "\\u needs four hexadecimal digits");
  expect_refused("{\"\\u12", 0, "a string does not end");
  expect_refused("{\"\\ud800\":{}}", 0, "half of a surrogate pair");
  expect_refused("{\"\\ud800\\u0041\":{}}", 0, "half of a surrogate pair");
  expect_refused("{\"\\udc00\\ud800\":{}}", 0, "half of a surrogate pair");
}

TEST("a tensor's entry has its three fields, once each, and no others") {
  expect_refused("{\"a\":{\"shape\":[],\"data_offsets\":[0,1]}}", 1, "tensor 'a' has no dtype");
  expect_refused("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "tensor 'a' has no shape");
  expect_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 0, "tensor 'a' has no data_offsets");
  expect_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"shape\":[]}}", 0, "tensor 'a' has its shape twice");
  expect_refused("{\"a\":{\"stride\":[]}}", 0, "tensor 'a' has an unknown field 'stride'");
  expect_refused("{\"a\":{\"dtype\":\"F4\"}}", 0, "tensor 'a': dtype 'F4' is none of F32, BF16, I32, U8, F16, F64, I64, BOOL");
  expect_refused("{\"a\":{\"dtype\":\"f32\"}}", 0, "dtype 'f32' is none of");
  expect_refused("{" TENSOR("a", "U8", "1,1,1,1,1,1,1,1,1", 0, 1) "}", 1, "tensor 'a' has more than 8 axes");
}

TEST("shapes and offsets that overflow or disagree are refused") {
  expect_refused("{" TENSOR("a", "F32", "2", 0, 4) "}", 4, "its shape needs 8 bytes, its offsets give 4");
  expect_refused("{" TENSOR("a", "U8", "2", 0, 2) "}", 1, "offsets 0 to 2 do not lie in the 1 bytes of data");
  expect_refused("{" TENSOR("a", "U8", "2", 2, 0) "}", 2, "offsets 2 to 0 do not lie");
  expect_refused("{" TENSOR("a", "U8", "4294967296,4294967296", 0, 0) "}", 0, "its shape is too large");
  expect_refused("{" TENSOR("a", "F32", "4611686018427387904", 0, 0) "}", 0, "its shape is too large");
  expect_refused("{" TENSOR("a", "U8", "9223372036854775808", 0, 0) "}", 0, "a number is above 2^63 - 1");
  expect_refused("{" TENSOR("a", "U8", "99999999999999999999999", 0, 0) "}", 0, "a number is above 2^63 - 1");
  expect_refused("{" TENSOR("a", "U8", "1", 9223372036854775807, 9223372036854775807) "}", 1, "do not lie in");
  expect_refused("{" TENSOR("a", "U8", "1", 0, 18446744073709551616) "}", 1, "a number is above 2^63 - 1");
}

TEST("overlaps, holes, leftovers and repeated names are refused") {
  expect_refused("{" TENSOR("a", "U8", "2", 0, 2) "," TENSOR("b", "U8", "2", 1, 3) "}", 3, "'a' and 'b' overlap");
  expect_refused("{" TENSOR("b", "U8", "2", 0, 2) "," TENSOR("a", "U8", "2", 0, 2) "}", 2, "'a' and 'b' overlap");
  expect_refused("{" TENSOR("n", "U8", "0", 1, 1) "," TENSOR("b", "U8", "2", 0, 2) "}", 2, "'b' and 'n' overlap");
  expect_refused("{" TENSOR("a", "U8", "1", 0, 1) "," TENSOR("b", "U8", "1", 2, 3) "}", 3,
                 "1 unused bytes before tensor 'b'");
  expect_refused("{" TENSOR("a", "U8", "1", 1, 2) "}", 2, "1 unused bytes before tensor 'a'");
  expect_refused("{" TENSOR("a", "U8", "1", 0, 1) "}", 3, "2 unused bytes after the last tensor");
  expect_refused("{}", 3, "3 unused bytes after the last tensor");
  expect_refused("{" TENSOR("a", "U8", "1", 0, 1) "," TENSOR("a", "U8", "1", 1, 2) "}", 2, "called 'a'");
}

static char path[64];

static bool write_sample(Error *err) {
  static const float x[6] = {1, 2, 3, 4, 5, 6};
  static const uint16_t y[3] = {0x3F80, 0x4000, 0x7FC0};
  const TensorView t[] = {{"layer.0/weight", DTYPE_F32, 2, {2, 3}, x, sizeof x},
                          {"empty b", DTYPE_I32, 3, {4, 0, 2}, NULL, 0},
                          {"empty a", DTYPE_I32, 1, {0}, NULL, 0},
                          {"quote\" \\ gr\xC3\xBC\xC3\x9F", DTYPE_BF16, 1, {3}, y, sizeof y}};
  const MetadataEntry m[] = {{"version", "1"}, {"text", "a\n\t\"b\"\\ \x01\x7F \xE2\x82\xAC"}};
  return safetensors_write(path, t, 4, m, 2, err);
}

TEST("what is written is read back, names, values and metadata to the byte") {
  Error err = {0};
  snprintf(path, sizeof path, "/tmp/nuwa-safetensors-%d", (int)getpid());
  REQUIRE(write_sample(&err), "%s", err.text);
  Safetensors *s = safetensors_open(path, &err);
  REQUIRE(s, "%s", err.text);
  EXPECT(safetensors_count(s) == 4, "%d", safetensors_count(s));
  EXPECT_TEXT(safetensors_get(s, 1)->name, "empty b");
  EXPECT_TEXT(safetensors_get(s, 2)->name, "empty a");
  const TensorView *x = safetensors_find(s, "layer.0/weight"), *y = safetensors_get(s, 3);
  REQUIRE(x && ((uintptr_t)x->data & 63) == 0 && x->bytes == 24, "the first tensor, aligned");
  EXPECT(((const float *)x->data)[5] == 6 && x->rank == 2 && x->dim[0] == 2 && x->dim[1] == 3, "its values");
  EXPECT_TEXT(y->name, "quote\" \\ gr\xC3\xBC\xC3\x9F");
  EXPECT(y->dtype == DTYPE_BF16 && ((const uint16_t *)y->data)[1] == 0x4000, "bf16");
  EXPECT_TEXT(safetensors_metadata(s, "text"), "a\n\t\"b\"\\ \x01\x7F \xE2\x82\xAC");
  safetensors_close(s);
  unlink(path);
}

TEST("a file cut at any length, or with any bit of its header flipped, never crashes the reader") {
  Error err = {0};
  size_t n;
  REQUIRE(write_sample(&err), "%s", err.text);
  char *bytes = file_read(path, &n, &err);
  unlink(path);
  REQUIRE(bytes, "%s", err.text);
  for (size_t cut = 0; cut < n; cut++) {
    char *part = malloc(cut ? cut : 1);
    memcpy(part, bytes, cut);
    Safetensors *s = safetensors_parse(part, cut, "w", &err);
    EXPECT(!s, "%zu of %zu bytes", cut, n);
    safetensors_close(s);
    free(part);
  }
  int refused = 0;
  for (size_t bit = 0; bit < 8 * (n - 30); bit++) { /* 30 bytes of data */
    bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
    Safetensors *s = safetensors_parse(bytes, n, "w", &err);
    refused += !s;
    safetensors_close(s);
    bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
  }
  EXPECT(refused > 1500, "%d refused", refused);
  mem_free(bytes);
}

TEST("tensors that cannot be written are refused, and nothing is") {
  Error err = {0};
  uint8_t x[4] = {0};
  TensorView good = {"a", DTYPE_U8, 1, {4}, x, 4};
  const struct {
    TensorView t[2];
    MetadataEntry m;
    const char *reason;
  } cases[] = {{{good, {"a", DTYPE_U8, 0, {0}, x, 1}}, {"k", "v"}, "'a' is there twice"},
               {{good, {"__metadata__", DTYPE_U8, 0, {0}, x, 1}}, {"k", "v"}, "cannot be the name of a tensor"},
               {{good, {"b\n", DTYPE_U8, 0, {0}, x, 1}}, {"k", "v"}, "cannot be the name of a tensor"},
               {{good, {"\xFF", DTYPE_U8, 0, {0}, x, 1}}, {"k", "v"}, "cannot be the name of a tensor"},
               {{good, {"b", DTYPE_F32, 1, {2}, x, 4}}, {"k", "v"}, "'b' of 4 bytes does not fit its shape"},
               {{good, {"b", DTYPE_U8, 1, {-1}, x, 4}}, {"k", "v"}, "does not fit its shape"},
               {{good, {"b", DTYPE_U8, 9, {1}, x, 1}}, {"k", "v"}, "does not fit its shape"},
               {{good, {"b", DTYPE_U8, 0, {0}, x, 1}}, {"k", "\xFF"}, "metadata 'k' is not UTF-8"}};
  for (int i = 0; i < COUNT_OF(cases); i++) {
    EXPECT(!safetensors_write(path, cases[i].t, 2, &cases[i].m, 1, &err), "case %d", i);
    EXPECT_HAS(err.text, cases[i].reason);
    EXPECT(err.code == ERROR_ARGUMENT && access(path, F_OK) != 0, "case %d leaves a file", i);
  }
  EXPECT(!safetensors_write("/nowhere/x", &good, 1, NULL, 0, &err) && err.code == ERROR_IO, "no folder");
  EXPECT(!safetensors_open("/nowhere/x", &err) && err.code == ERROR_IO, "no file");
}

TEST("whichever allocation fails, writing and reading report it") {
  int failures = 0;
  for (bool done = false; !done; failures += !done) {
    Error err = {0};
    mem_fail_at((uint64_t)failures + 1);
    Safetensors *s = write_sample(&err) ? safetensors_open(path, &err) : NULL;
    mem_fail_at(0);
    done = s != NULL;
    EXPECT(done || err.code == ERROR_MEMORY, "%s", err.text);
    safetensors_close(s);
    unlink(path);
  }
  EXPECT(failures >= 5, "%d", failures);
}

TEST("many tensors are all found") {
  enum { N = 3000 };
  static char names[N][16];
  static TensorView t[N];
  static int32_t values[N];
  Error err = {0};
  for (int i = 0; i < N; i++) {
    snprintf(names[i], sizeof names[i], "t%d", (i * 7919) % N);
    values[i] = i;
    t[i] = (TensorView){names[i], DTYPE_I32, 0, {0}, &values[i], 4};
  }
  REQUIRE(safetensors_write(path, t, N, NULL, 0, &err), "%s", err.text);
  Safetensors *s = safetensors_open(path, &err);
  REQUIRE(s, "%s", err.text);
  int wrong = 0;
  for (int i = 0; i < N; i++) {
    const TensorView *found = safetensors_find(s, names[i]);
    wrong += !found || *(const int32_t *)found->data != i || safetensors_get(s, i) != found;
  }
  EXPECT(wrong == 0, "%d", wrong);
  safetensors_close(s);
  unlink(path);
}

TEST_MAIN()
