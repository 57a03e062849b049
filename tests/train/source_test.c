#include "tests/train/tiny.h"

enum { BATCH = 8, WORDS = 16, CODES = 256 };

static const Plan *plan(void) {
  static Plan *p;
  static const char *const function[] = {"encode", "told", "strange", "large"};
  if (!p) p = tiny_plan(function, 4, NULL);
  return p;
}

static const Bpe *bpe(void) {
  static Bpe *b;
  Error err = {0};
  if (!b) b = dataset_train_bpe(tiny_world(), 500, 600, &err);
  if (!b) TEST_FAIL_("%s", err.text);
  return b;
}

static NuwaSession *session(int64_t samples) {
  Error err = {0};
  NuwaSession *s = nuwa_session_open(plan(), &(NuwaOptions){.threads = 1, .samples = samples, .rows = 1}, &err);
  if (!s)
    TEST_FAIL_("%s", err.text);
  else
    nuwa_init_weights(s, 1);
  return s;
}

static SourceOptions told_options(NuwaSession *encoder, double null_text) {
  return (SourceOptions){.world = tiny_world(),
                         .bpe = bpe(),
                         .encoder = {encoder, plan(), plan_find_function(plan(), "encode")},
                         .null_text = null_text,
                         .seed = 9,
                         .batch = BATCH};
}

static const char *refusal(const char *name, const SourceOptions *o) {
  static Error err;
  int function = plan_find_function(plan(), name);
  Source *s = source_new(plan(), &function, 1, o, &err);
  source_free(s);
  return s ? "" : err.text;
}

TEST("inputs are refused that the world does not give") {
  REQUIRE(plan(), "");
  SourceOptions o = {.world = tiny_world(), .batch = BATCH};
  EXPECT_HAS(refusal("strange", &o),
             "\"strange\" has an input \"sound\"; the world gives image, video, text, labels, tokens, seen");
  EXPECT_HAS(refusal("large", &o), "input \"image\" of \"large\" must be f32 [B, 32, 32, 3]");
  EXPECT(*refusal("told", &o), "tokens without an encoder");
  o.encoder = (Encoder){NULL, plan(), plan_find_function(plan(), "encode")};
  EXPECT_HAS(refusal("told", &o), "a merges file is needed");
  o.bpe = bpe();
  EXPECT_TEXT(refusal("told", &o), "");
  o.noise = 0.5;
  EXPECT_HAS(refusal("told", &o), "noise in \"seen\" needs an autoencoder that says how many codes it has");
}

TEST("captions, labels and codes are those of the same scenes") {
  Error err = {0};
  NuwaSession *s = session(BATCH), *encoder = session(BATCH), *direct = session(BATCH);
  REQUIRE(s && encoder && direct, "");
  int told = plan_find_function(plan(), "told"), encode = plan_find_function(plan(), "encode");
  SourceOptions o = told_options(encoder, 0.0);
  Source *source = source_new(plan(), &told, 1, &o, &err);
  REQUIRE(source, "%s", err.text);
  TrainSource from = source_interface(source);
  REQUIRE(from.fill(from.ctx, s, told, WORLD_VALIDATION, 5, BATCH, &err), "%s", err.text);
  Dataset data = {tiny_world(), bpe(), WORDS, 1};
  static int32_t text[BATCH * WORDS], labels[BATCH * 1024];
  Batch want = {.images = nuwa_input(direct, encode, "image"), .text = text, .labels = labels};
  REQUIRE(dataset_fill(&data, WORLD_VALIDATION, 5, BATCH, &want, &err), "%s", err.text);
  nuwa_run(direct, encode, BATCH, 1);
  EXPECT(memcmp(text, nuwa_input(s, told, "text"), sizeof text) == 0, "the captions differ");
  EXPECT(memcmp(labels, nuwa_input(s, told, "labels"), sizeof labels) == 0, "the labels differ");
  EXPECT(memcmp(nuwa_output(direct, encode, "codes"), nuwa_input(s, told, "tokens"),
                sizeof(int32_t) * BATCH * CODES) == 0,
         "the codes differ");
  source_free(source);
  nuwa_session_close(s);
  nuwa_session_close(encoder);
  nuwa_session_close(direct);
}

static int count_dropped(const TrainSource *from, NuwaSession *s, int told, WorldSplit split, uint64_t first, int n,
                         uint8_t *which) {
  Error err = {0};
  int32_t empty[WORDS], dropped = 0;
  if (!bpe_encode_fixed(bpe(), "", empty, WORDS, &err)) abort();
  for (int i = 0; i < n; i += BATCH) {
    if (!from->fill(from->ctx, s, told, split, first + (uint64_t)i, BATCH, &err)) abort();
    const int32_t *text = nuwa_input(s, told, "text");
    for (int k = 0; k < BATCH; k++) dropped += which[i + k] = memcmp(text + k * WORDS, empty, sizeof empty) == 0;
  }
  return dropped;
}

TEST("the asked share of training captions is empty, always the same ones, none in validation") {
  Error err = {0};
  enum { N = 400 };
  static uint8_t a[N], b[N];
  NuwaSession *s = session(BATCH), *encoder = session(BATCH);
  REQUIRE(s && encoder, "");
  int told = plan_find_function(plan(), "told");
  SourceOptions o = told_options(encoder, 0.25);
  Source *source = source_new(plan(), &told, 1, &o, &err);
  REQUIRE(source, "%s", err.text);
  TrainSource from = source_interface(source);
  int dropped = count_dropped(&from, s, told, WORLD_TRAIN, 0, N, a);
  EXPECT(dropped > 70 && dropped < 130, "%d of %d", dropped, N);
  count_dropped(&from, s, told, WORLD_TRAIN, 4, N - BATCH, b);
  EXPECT(memcmp(a + 4, b, N - BATCH) == 0, "it depends on the batch");
  EXPECT(count_dropped(&from, s, told, WORLD_VALIDATION, 0, N, b) == 0, "validation lacks captions");
  source_free(source);
  nuwa_session_close(s);
  nuwa_session_close(encoder);
}

/* Of BATCH examples from `first`: how many codes of `seen` differ from the tokens, -1 if one is none at all. */
static int count_noise(const TrainSource *from, NuwaSession *s, int told, WorldSplit split, uint64_t first) {
  Error err = {0};
  if (!from->fill(from->ctx, s, told, split, first, BATCH, &err)) abort();
  const int32_t *tokens = nuwa_input(s, told, "tokens"), *seen = nuwa_input(s, told, "seen");
  int differ = 0;
  for (int i = 0; i < BATCH * CODES; i++) {
    if (seen[i] < 0 || seen[i] >= TINY_CODES) return -1;
    differ += seen[i] != tokens[i];
  }
  return differ;
}

TEST("up to the asked share of the codes that training sees are random, always the same ones, none in validation") {
  Error err = {0};
  NuwaSession *s = session(BATCH), *encoder = session(BATCH);
  REQUIRE(s && encoder, "");
  int told = plan_find_function(plan(), "told"), total = 0;
  SourceOptions o = told_options(encoder, 0.0);
  o.noise = 0.5;
  o.codes = TINY_CODES;
  Source *source = source_new(plan(), &told, 1, &o, &err);
  REQUIRE(source, "%s", err.text);
  TrainSource from = source_interface(source);
  for (int i = 0; i < 10; i++) {
    int differ = count_noise(&from, s, told, WORLD_TRAIN, (uint64_t)(i * BATCH));
    EXPECT(differ >= 0 && differ < BATCH * CODES / 2, "%d codes differ", differ);
    total += differ;
  }
  /* Half of the half on average; one replacement in TINY_CODES is what was there. */
  double share = (double)total / (10 * BATCH * CODES);
  EXPECT(share > 0.18 && share < 0.29, "%g of the codes", share);
  count_noise(&from, s, told, WORLD_TRAIN, 4);
  static int32_t seen[BATCH * CODES];
  memcpy(seen, nuwa_input(s, told, "seen"), sizeof seen);
  count_noise(&from, s, told, WORLD_TRAIN, 8);
  EXPECT(memcmp(seen + 4 * CODES, nuwa_input(s, told, "seen"), sizeof seen / 2) == 0, "it depends on the batch");
  EXPECT(count_noise(&from, s, told, WORLD_VALIDATION, 0) == 0, "validation sees noise");
  source_free(source);
  nuwa_session_close(s);
  nuwa_session_close(encoder);
}

TEST_MAIN()
