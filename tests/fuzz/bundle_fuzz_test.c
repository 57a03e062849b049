/* Bundles for the CPU with damage: see bundle.h. */
#include <unistd.h>

#include "runtime/bundle.h"
#include "tests/fuzz/bundle.h"

static const NuwaOptions options = {.threads = 1, .samples = 2, .rows = 4};

static bool open_bundle(Buffer *out) {
  Error err = {0};
  bool ok = fuzz_bundle(false, out, &err);
  EXPECT(ok, "%s", err.text);
  return ok;
}

TEST("a bundle with any damage is refused by its digest") {
  Buffer bundle = {0};
  if (open_bundle(&bundle)) check_damage(&bundle);
  buffer_done(&bundle);
}

TEST("a bundle that is damaged and signed again is refused with a reason or is consistent") {
  Buffer bundle = {0};
  if (open_bundle(&bundle)) check_signed_damage(&bundle, &options);
  buffer_done(&bundle);
}

TEST("every number of a plan may be any number") {
  Buffer bundle = {0};
  if (open_bundle(&bundle)) check_numbers(&bundle, &options);
  buffer_done(&bundle);
}

/* ---- the file around the plan ---- */

enum { PARTS = 4, FILE_HEADER = 64, ENTRY = 128, DIRECTORY_DIGEST_AT = 24 };
static const char weights_json[] =
    "{\"__metadata__\":{\"k\":\"v\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";

/* A bundle of two plans, weights and a text; the weights need room for their 8 + json + 8 bytes. */
static bool open_file(const Buffer *plan, Buffer *out) {
  uint8_t weights[8 + sizeof weights_json - 1 + 8] = {sizeof weights_json - 1};
  memcpy(weights + 8, weights_json, sizeof weights_json - 1);
  BundlePart part[PARTS] = {{NUWA_PART_PLAN, "drawer", (const uint8_t *)plan->data, plan->len},
                            {NUWA_PART_WEIGHTS, "drawer", weights, sizeof weights},
                            {NUWA_PART_PLAN, "image", (const uint8_t *)plan->data, plan->len},
                            {NUWA_PART_TEXT, "merges", (const uint8_t *)"a b", 4}};
  char path[] = "/tmp/nuwa_bundle_XXXXXX";
  Error err = {0};
  int fd = mkstemp(path);
  FileMap map = {0};
  bool ok = fd >= 0 && bundle_write(path, part, PARTS, &err) && file_map(path, &map, &err);
  if (ok) buffer_append(out, map.data, map.len);
  file_unmap(&map);
  if (fd >= 0) close(fd);
  unlink(path);
  EXPECT(ok, "%s", err.text);
  return ok;
}

/* All that can be asked of a file that was taken. */
static bool use_file(const NuwaBundle *b, Error *err) {
  NuwaPart part;
  bool ok = true;
  for (int i = 0; nuwa_bundle_part(b, i, &part); i++) {
    if (part.kind == NUWA_PART_PLAN) EXPECT(nuwa_bundle_plan(b, part.name), "part %d", i);
    if (part.kind == NUWA_PART_TEXT) EXPECT(strlen(nuwa_bundle_entry(b, part.name)) == part.bytes - 1, "part %d", i);
    NuwaWeights *w = part.kind == NUWA_PART_WEIGHTS ? nuwa_bundle_weights(b, part.name, err) : NULL;
    if (part.kind == NUWA_PART_WEIGHTS) ok = ok && w;
    nuwa_weights_close(w);
  }
  return ok;
}

static void expect_file_refused(const uint8_t *bytes, size_t n, const char *what, size_t at) {
  Error e = {0};
  NuwaBundle *b = bundle_parse(bytes, n, "damaged", &e);
  EXPECT(!b || !use_file(b, &e), "%s %zu is accepted", what, at);
  expect_refused((int)at, &e);
  nuwa_bundle_close(b);
}

TEST("a file with several parts gives each of them back") {
  Buffer plan = {0}, file = {0};
  Error err = {0};
  if (!open_bundle(&plan) || !open_file(&plan, &file)) return;
  NuwaBundle *b = bundle_parse((const uint8_t *)file.data, file.len, "whole", &err);
  REQUIRE(b && use_file(b, &err), "%s", err.text);
  EXPECT(nuwa_bundle_plan(b, "drawer") && nuwa_bundle_plan(b, "image") && !nuwa_bundle_plan(b, "merges"), "plans");
  EXPECT(nuwa_bundle_plan(b, NULL) == nuwa_bundle_plan(b, "drawer"), "the first plan");
  EXPECT_TEXT(nuwa_bundle_entry(b, "merges"), "a b");
  NuwaWeights *w = nuwa_bundle_weights(b, "drawer", &err);
  REQUIRE(w, "%s", err.text);
  EXPECT_TEXT(nuwa_weights_metadata(w, "k"), "v");
  EXPECT((const char *)safetensors_find(w, "w")->data > file.data, "weights are not where the file is");
  nuwa_weights_close(w);
  EXPECT(!nuwa_bundle_weights(b, "image", &err), "weights that are not there");
  EXPECT_HAS(err.text, "no weights \"image\"");
  nuwa_bundle_close(b);
  buffer_done(&plan);
  buffer_done(&file);
}

TEST("a file with several parts is refused wherever it is damaged or ends") {
  Buffer plan = {0}, file = {0};
  if (!open_bundle(&plan) || !open_file(&plan, &file)) return;
  uint8_t *bytes = malloc(file.len);
  size_t head = FILE_HEADER + PARTS * ENTRY;
  for (size_t at = 0; at < file.len; at += at < head ? FUZZ_STRIDE : file.len / 100) {
    memcpy(bytes, file.data, file.len);
    bytes[at] ^= (uint8_t)(1u << at % 8);
    expect_file_refused(bytes, file.len, "damage at", at);
  }
  for (size_t n = 0; n < file.len; n += 1 + n / 16)
    expect_file_refused(memcpy(bytes, file.data, n), n, "an end at", n);
  free(bytes);
  buffer_done(&plan);
  buffer_done(&file);
}

TEST("a file whose directory says anything, and is signed, is refused or consistent") {
  Buffer plan = {0}, file = {0};
  if (!open_bundle(&plan) || !open_file(&plan, &file)) return;
  uint8_t *bytes = malloc(file.len);
  int accepted = 0, refused = 0;
  for (int i = 0; i < 400; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i * 31};
    memcpy(bytes, file.data, file.len);
    for (size_t edits = fuzz_below(&f, 3) + 1; edits > 0; edits--)
      fuzz_damage(&f, bytes + FILE_HEADER, PARTS * ENTRY);
    if (fuzz_below(&f, 16) == 0) bytes[12] = (uint8_t)fuzz_next(&f);   /* the number of parts */
    uint32_t parts = bytes[12];
    if (FILE_HEADER + parts * ENTRY > file.len) continue;
    sha256(bytes + FILE_HEADER, parts * ENTRY, bytes + DIRECTORY_DIGEST_AT);
    Error e = {0};
    NuwaBundle *b = bundle_parse(bytes, file.len, "damaged", &e);
    bool ok = b && use_file(b, &e);
    if (!ok) expect_refused(i, &e);
    if (ok) accepted++;
    else refused++;
    nuwa_bundle_close(b);
  }
  EXPECT(accepted > 1 && refused > 50, "%d accepted, %d refused", accepted, refused);
  free(bytes);
  buffer_done(&plan);
  buffer_done(&file);
}

TEST("what cannot be a bundle is not written") {
  static const struct { BundlePart part[2]; int n; const char *why; } bad[] = {
      {{{NUWA_PART_TEXT, "a", (const uint8_t *)"", 1}}, 1, "no plan"},
      {{{NUWA_PART_PLAN, "a", (const uint8_t *)"", 0}, {NUWA_PART_PLAN, "a", (const uint8_t *)"", 0}},
       2, "two plans"},
      {{{NUWA_PART_PLAN, "a\n", (const uint8_t *)"", 0}}, 1, "name"},
      {{{NUWA_PART_PLAN, "", (const uint8_t *)"", 0}}, 1, "name"},
      {{{NUWA_PART_PLAN, "a", (const uint8_t *)"", 0}, {NUWA_PART_TEXT, "a", (const uint8_t *)"b", 1}}, 2, "NUL"},
      {{{0}}, 0, "1 to 256 parts"}};
  for (int i = 0; i < COUNT_OF(bad); i++) {
    Error err = {0};
    EXPECT(!bundle_write("/tmp/nuwa_no_bundle", bad[i].part, bad[i].n, &err), "case %d", i);
    EXPECT_HAS(err.text, bad[i].why);
    EXPECT(access("/tmp/nuwa_no_bundle", F_OK) != 0, "case %d left a file", i);
  }
}

TEST_MAIN()
