/* Parameters of kernels as text: they are part of keys, so reading back must give exactly what was printed. */
#include "codegen/codegen.h"
#include "tests/test.h"

static const KernelParams sample = {
    .tile_m = 6, .tile_n = 2, .tile_k = 512, .block_m = 4, .block_n = 2, .stages = 3, .swap = true,
    .pack_b = true, .unroll = 3};

TEST("parameters print and read back") {
  Buffer text = {0}, again = {0};
  KernelParams p;
  Error err = {0};
  params_print(&sample, &text);
  EXPECT_TEXT(text.data, "tile_m=6 tile_n=2 tile_k=512 block_m=4 block_n=2 stages=3 swap=1 pack_b=1 unroll=3");
  REQUIRE(params_parse(text.data, &p, &err), "%s", err.text);
  params_print(&p, &again);
  EXPECT_TEXT(again.data, text.data);
  buffer_done(&text);
  buffer_done(&again);
}

TEST("damaged parameters are refused by name") {
  static const char *const bad[][2] = {
      {"tile_m=6 tile_n=2", "parameter tile_k is missing"},
      {"tile_m=0", "tile_m goes from 1 to 64"},
      {"tile_m=6x", "tile_m goes from 1 to 64"},
      {"tile_m=", "tile_m goes from 1 to 64"},
      {"tile_m=99999999999999999999", "tile_m goes from 1 to 64"},
      {"tile_m=6 tile_m=6", "tile_m is given twice"},
      {"tile_q=6", "unknown parameter \"tile_q=6\""},
      {"pack_b=2", "pack_b goes from 0 to 1"},
  };
  for (int i = 0; i < COUNT_OF(bad); i++) {
    KernelParams p;
    Error err = {0};
    EXPECT(!params_parse(bad[i][0], &p, &err), "accepted \"%s\"", bad[i][0]);
    EXPECT_HAS(err.text, bad[i][1]);
  }
}

TEST_MAIN()
