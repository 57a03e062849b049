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

/* ---- weights inside ---- */

/* A bundle of the plan and weights that fit it, and where the weights lie. */
static bool open_application(const Buffer *plan, Buffer *out, size_t *out_at, size_t *out_n) {
  static const float values[40] = {1, 2, 3};
  static const TensorView view[] = {{.name = "w", .rank = 2, .dim = {5, 8}, .data = values, .bytes = 160},
                                    {.name = "v", .rank = 2, .dim = {8, 5}, .data = values, .bytes = 160},
                                    {.name = "start", .rank = 1, .dim = {8}, .data = values, .bytes = 32}};
  static const MetadataEntry meta = {"format", "nuwa-weights"};
  char path[] = "/tmp/nuwa_bundle_XXXXXX";
  Buffer weights = {0};
  Error err = {0};
  FileMap map = {0};
  int fd = mkstemp(path);
  bool ok = fd >= 0 && safetensors_write_head("weights", view, COUNT_OF(view), &meta, 1, &weights, &err);
  for (int i = 0; ok && i < COUNT_OF(view); i++) buffer_append(&weights, view[i].data, view[i].bytes);
  BundlePart part[] = {{NUWA_PART_PLAN, "drawer", (const uint8_t *)plan->data, plan->len},
                       {NUWA_PART_WEIGHTS, "drawer", (const uint8_t *)weights.data, weights.len}};
  ok = ok && bundle_write(path, part, COUNT_OF(part), &err) && file_map(path, &map, &err);
  if (ok) buffer_append(out, map.data, map.len);
  *out_n = weights.len;
  *out_at = out->len - weights.len;
  file_unmap(&map);
  buffer_done(&weights);
  if (fd >= 0) close(fd);
  unlink(path);
  EXPECT(ok, "%s", err.text);
  return ok;
}

/* With the right digests again. */
static void sign_weights(uint8_t *bytes, size_t at, size_t n) {
  enum { SECOND = FILE_HEADER + ENTRY, DIGEST_IN_ENTRY = 24 };
  sha256(bytes + at, n, bytes + SECOND + DIGEST_IN_ENTRY);
  sha256(bytes + FILE_HEADER, 2 * ENTRY, bytes + DIRECTORY_DIGEST_AT);
}

/* Loads the weights of a bundle into a session of its plan and runs it; false with the reason. */
static bool use_weights(const uint8_t *bytes, size_t n, Error *err) {
  NuwaBundle *b = bundle_parse(bytes, n, "damaged", err);
  NuwaWeights *w = b ? nuwa_bundle_weights(b, "drawer", err) : NULL;
  NuwaSession *s = w ? nuwa_session_open(nuwa_bundle_plan(b, NULL), &options, err) : NULL;
  bool ok = s && nuwa_load_weights(s, w, false, err);
  if (ok && !nuwa_run(s, nuwa_find_function(nuwa_bundle_plan(b, NULL), "loss"), 2, 0)) ok = nuwa_check(s, err);
  nuwa_session_close(s);
  nuwa_weights_close(w);
  nuwa_bundle_close(b);
  return ok;
}

TEST("weights inside of a bundle may say anything: they are refused with a reason, or a session runs with them") {
  Buffer plan = {0}, file = {0};
  size_t at, n;
  Error err = {0};
  if (!open_bundle(&plan) || !open_application(&plan, &file, &at, &n)) return;
  REQUIRE(use_weights((const uint8_t *)file.data, file.len, &err), "%s", err.text);
  uint8_t *bytes = mem_alloc_aligned(file.len, 64);   /* as a map lies: what fits is used in place */
  int accepted = 0, refused = 0;
  for (int i = 0; i < 600; i += FUZZ_STRIDE) {
    Fuzz f = {(uint64_t)i * 17};
    memcpy(bytes, file.data, file.len);
    for (size_t edits = fuzz_below(&f, 3) + 1; edits > 0; edits--)
      fuzz_damage(&f, bytes + at, fuzz_below(&f, 4) ? n - 352 : n);   /* mostly the header */
    if (fuzz_below(&f, 4) == 0) {
      uint64_t header = fuzz_below(&f, 2) ? fuzz_below(&f, 2 * n) : (uint64_t)fuzz_number(&f);
      memcpy(bytes + at, &header, sizeof header);
    }
    sign_weights(bytes, at, n);
    Error e = {0};
    if (use_weights(bytes, file.len, &e)) accepted++;
    else refused++;
    EXPECT(e.code == 0 || e.text[0], "case %d gives no reason", i);
  }
  EXPECT(accepted > 5 && refused > 50, "%d accepted, %d refused", accepted, refused);
  mem_free(bytes);
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
