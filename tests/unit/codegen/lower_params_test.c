/* Parameters of kernels as text: they are part of keys, so reading back must give exactly what was printed. */
#include "codegen/codegen.h"
#include "tests/test.h"

/* The default values of a kind, as far as its fields go: the first of each. */
static Params first_of(ParamsKind kind) {
  Params p = {.kind = kind};
  const int *values;
  for (int i = 0; i < params_fields(kind); i++) {
    params_field_values(kind, i, &values);
    p.value[i] = values[0];
  }
  return p;
}

TEST("parameters of every kind and with every value print and read back") {
  for (int kind = 0; kind < PARAMS_COUNT; kind++)
    for (int i = 0; i < params_fields(kind); i++) {
      const int *values;
      int n = params_field_values(kind, i, &values);
      for (int v = 0; v < n; v++) {
        Params p = first_of(kind), back;
        Buffer text = {0};
        Error err = {0};
        p.value[i] = values[v];
        params_print(&p, &text);
        EXPECT(params_parse(text.data, &back, &err), "%s", err.text);
        EXPECT(params_equal(&p, &back), "%s", text.data);
        buffer_done(&text);
      }
    }
}

TEST("parameters name their kind and their fields") {
  Buffer text = {0};
  Params p = {.kind = PARAMS_CONTRACT, .contract = {.tile_m = 6, .tile_n = 2, .tile_k = 512, .block_m = 4, .pack_b = 1,
                                                   .unroll = 4, .widen_unroll = 1}};
  params_print(&p, &text);
  EXPECT_TEXT(text.data, "contract tile_m=6 tile_n=2 tile_k=512 block_m=4 pack_b=1 unroll=4 widen_unroll=1");
  buffer_done(&text);
}

TEST("damaged parameters are refused by name") {
  static const char *const bad[][2] = {
      {"", "\"\" is no kind of parameters; there are: map"},
      {"mop unroll=1", "\"mop\" is no kind of parameters; there are: map"},
      {"contract tile_m=6 tile_n=2", "parameters of contract: tile_k is missing"},
      {"contract tile_m=0", "parameters of contract: \"tile_m=0\": tile_m is one of 1 to 16"},
      {"contract tile_m=6x", "tile_m is one of 1 to 16"},
      {"contract tile_m= 6", "tile_m is one of 1 to 16"},
      {"contract tile_m=+6", "tile_m is one of 1 to 16"},
      {"contract tile_m=06", "tile_m is one of 1 to 16"},
      {"contract tile_m=99999999999999999999", "tile_m is one of 1 to 16"},
      {"contract tile_k=100", "tile_k is one of 0 32 64 128 256 512 1024 2048"},
      {"contract tile_m=6 tile_m=6", "tile_m is given twice"},
      {"contract tile_q=6", "there is no \"tile_q=6\"; there are: tile_m tile_n tile_k block_m pack_b unroll widen_unroll"},
      {"contract pack_b=2", "pack_b is one of 0 1"},
  };
  for (int i = 0; i < COUNT_OF(bad); i++) {
    Params p;
    Error err = {0};
    EXPECT(!params_parse(bad[i][0], &p, &err), "accepted \"%s\"", bad[i][0]);
    EXPECT_HAS(err.text, bad[i][1]);
  }
}

TEST_MAIN()
