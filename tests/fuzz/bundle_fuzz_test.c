/* Bundles for the CPU with damage: see bundle.h. */
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

TEST_MAIN()
