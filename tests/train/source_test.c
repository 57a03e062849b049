#include "tests/train/tiny.h"

enum { BATCH = 8, WORDS = 16, CODES = 256 };

static const Plan *plan(void) {
  static Plan *p;
  static const char *const function[] = {"encode", "told", "strange", "large"};
  if (!p) p = tiny_plan(function, 4, false, NULL);
  return p;
}

static const Bpe *bpe(void) {
  static Bpe *b;
  Error err = {0};
  if (!b) b = dataset_train_bpe(tiny_data(), 500, 600, &err);
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

static SourceOptions told_options(NuwaSession *encoder) {
  return (SourceOptions){.data = tiny_data(),
                         .bpe = bpe(),
                         .encoder[ENCODER_IMAGE] = {encoder, plan(), plan_find_function(plan(), "encode")},
                         .evaluate = -1,
                         .batch = BATCH};
}

static const char *refusal(const char *name, const SourceOptions *o) {
  static Error err;
  int function = plan_find_function(plan(), name);
  Source *s = source_new(plan(), &function, 1, o, &err);
  source_free(s);
  return s ? "" : err.text;
}

TEST("inputs are refused that the data do not give, with what is wanted and what there is") {
  REQUIRE(plan(), "");
  SourceOptions o = {.data = tiny_data(), .evaluate = -1, .batch = BATCH};
  EXPECT_HAS(refusal("strange", &o),
             "input \"sound\" of \"strange\": sound f32 [7] is wanted of every example; world:things=8 has image f32 or u8 [");
  EXPECT_HAS(refusal("large", &o), "image f32 [64, 64, 3] is wanted of every example; world:things=8 has image f32 or u8 [32, 32, 3");
  EXPECT(*refusal("told", &o), "tokens without an encoder");
  o.encoder[ENCODER_IMAGE] = (Encoder){NULL, plan(), plan_find_function(plan(), "encode")};
  EXPECT_HAS(refusal("told", &o), "a merges file is needed");
  o.bpe = bpe();
  EXPECT_TEXT(refusal("told", &o), "");
}

TEST("captions, labels and codes are those of the same scenes") {
  Error err = {0};
  NuwaSession *s = session(BATCH), *encoder = session(BATCH), *direct = session(BATCH);
  REQUIRE(s && encoder && direct, "");
  int told = plan_find_function(plan(), "told"), encode = plan_find_function(plan(), "encode");
  SourceOptions o = told_options(encoder);
  Source *source = source_new(plan(), &told, 1, &o, &err);
  REQUIRE(source, "%s", err.text);
  TrainSource from = source_interface(source);
  REQUIRE(from.fill(from.ctx, s, told, WORLD_VALIDATION, 5, BATCH, &err), "%s", err.text);
  static int32_t text[BATCH * WORDS], labels[BATCH * 1024];
  DataWant want[] = {{"image", DTYPE_F32, 3, {32, 32, 3}, nuwa_input(direct, encode, "image")},
                     {"text", DTYPE_I32, 1, {WORDS}, text},
                     {"labels", DTYPE_I32, 2, {32, 32}, labels}};
  for (int i = 0; i < COUNT_OF(want); i++) REQUIRE(dataset_match(tiny_data(), bpe(), &want[i], &err), "%s", err.text);
  REQUIRE(dataset_fill(tiny_data(), bpe(), WORLD_VALIDATION, 5, BATCH, want, COUNT_OF(want), &err), "%s", err.text);
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

TEST_MAIN()
