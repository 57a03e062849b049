/* The demo's caption through the command line: what `nuwa generate --device cuda` draws on the emulated device. */
#include "runtime/text/bpe.h"
#include "tests/cli/commands.h"
#include "tests/gpu/demo.h"

#define CAPTION "a panda at the top right on a blue background"
#define EMULATED "--device cuda --cuda-driver " EMUCUDA_PATH " --cublaslt " EMUBLASLT
enum { POSITIONS = 64, MOST_WORDS = 64, MOST = 3 };

/* The tokens of `count` drawings, most likely token first. */
static bool draw(const char *options, int count, int32_t *tokens) {
  char args[1000], path[100];
  snprintf(args, sizeof args, "generate --models " MODELS_DIR " --task text_image --text '" CAPTION "' --temperature 0 "
           "--count %d --tokens-out t %s", count, options);
  EXPECT_STATUS(0, args, "tokens a picture in");
  snprintf(path, sizeof path, "%s/t", folder);
  Error err = {0};
  Safetensors *file = safetensors_open(path, &err);
  const TensorView *t = file ? safetensors_find(file, "tokens") : NULL;
  bool ok = t && t->bytes == sizeof *tokens * (size_t)(count * POSITIONS);
  EXPECT(ok, "no tokens: %s", err.text);
  if (ok) memcpy(tokens, t->data, t->bytes);
  safetensors_close(file);
  return ok;
}

/* Every token is the likeliest after those before it, as the interpreter sees it, or nearly. */
static void check_likeliest(DType precision, const int32_t *tokens) {
  Demo d;
  int32_t text[MOST_WORDS];
  REQUIRE(open_demo(&d, SHIPPED_DRAWER, precision, 1) && d.words <= MOST_WORDS, "%s", d.err.text);
  const char *merges = safetensors_metadata(d.weights, "bpe");
  Bpe *bpe = bpe_parse(merges, strlen(merges), "merges", &d.err);
  Reference r = {.d = &d, .name = "decode", .text = text, .tokens = tokens};
  bool ok = bpe && bpe_encode_fixed(bpe, CAPTION, text, (int)d.words, &d.err) && reference_run(&r);
  EXPECT(ok, "%s", d.err.text);
  if (ok) check_decisions("tokens", &r.out[0], tokens, token_slack(precision, &r.out[0]));
  arena_free(r.arena);
  bpe_free(bpe);
  close_demo(&d);
}

static int count_equal(const int32_t *x, const int32_t *y) {
  int n = 0;
  for (int i = 0; i < POSITIONS; i++) n += x[i] == y[i];
  return n;
}

/* One drawing in waves, and in the long campaign three in raster order: the same tokens. */
static bool draw_both_ways(const char *precision, int32_t *tokens) {
  int32_t more[MOST * POSITIONS];
  char options[600];
  snprintf(options, sizeof options, EMULATED " --precision %s", precision);
  if (!draw(options, 1, tokens)) return false;
  if (!test_is_long) return true;
  strcat(options, " --order raster");
  if (!draw(options, MOST, more)) return false;
  for (int i = 0; i < MOST; i++)
    EXPECT(count_equal(tokens, more + i * POSITIONS) == POSITIONS, "in raster order drawing %d of %d differs", i, MOST);
  return true;
}

WIDE_TEST("the demo's caption is drawn with the CPU's tokens, whatever the order and the number of drawings") {
  NEED_NVRTC();
  int32_t cpu[POSITIONS], cuda[POSITIONS];
  if (!draw("--device cpu", 1, cpu) || !draw_both_ways("f32", cuda)) return;
  check_likeliest(DTYPE_F32, cuda);
  int equal = count_equal(cpu, cuda);
  if (equal == POSITIONS) return;
  printf("%d of %d tokens are the CPU's\n", equal, POSITIONS);   /* allowed where two are as likely */
  check_likeliest(DTYPE_F32, cpu);
}

LONG_TEST("in bf16 too the tokens are the same whatever the order and the number of drawings, and likely ones") {
  NEED_NVRTC();
  int32_t cuda[POSITIONS];
  if (draw_both_ways("bf16", cuda)) check_likeliest(DTYPE_BF16, cuda);
}

TEST_MAIN()
