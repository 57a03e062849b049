/* Words drawn, on models/nuwa.lua's captions of pictures made small: with a stop token a sample is what it is without
 * one up to the first stop, and nothing but stops behind it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/file.h"
#include "tests/num/rig.h"
#include "tests/test.h"

enum { WORDS = 8, VOCAB = 7, STOP = VOCAB - 1, COUNT = 12, CODES = 4 };

static RigKeep kept;
static const ObjectStore keep = {rig_keep_get, rig_keep_put, &kept};

/* The model with its stop, or the same without. */
static Plan *open_plan(bool stops, Error *err) {
  const Define define[] = {{"tasks", "image_text"}, {"dim", "16"},     {"heads", "2"}, {"encoder_layers", "1"},
                           {"decoder_layers", "1"}, {"codebook", "5"}, {"vocab", "7"}, {"text_tokens", "9"},
                           {"grid_s", "1"},         {"grid_h", "2"},   {"grid_w", "2"}};
  const ModelOptions o = {.define = define, .n_define = COUNT_OF(define), .models_dir = MODELS_DIR};
  const char *fn = "tasks.image_text";
  const CompileOptions c = {.function = &fn, .n_function = 1, .isa = isa_best(), .threads = 2, .store = &keep};
  Model *m = model_load(MODELS_DIR "/nuwa.lua", &o, err);
  Buffer bundle = {0};
  for (int i = 0; m && !stops && i < m->n_decode; i++) m->decode[i].has_stop = false;
  Plan *p = m && compile_model(m, &c, &bundle, err) ? plan_read(bundle.data, bundle.len, "words", err) : NULL;
  buffer_done(&bundle);
  model_free(m);
  return p;
}

/* Small weights: all words are about as likely. */
static double fit(void *ctx, const char *name, int64_t i, double x) { return 0.3 * x; }

static NuwaSession *open_session(const Plan *p, int threads, Error *err) {
  const NuwaOptions o = {.threads = threads, .samples = COUNT, .rows = COUNT, .ring_slots = WORDS};
  NuwaSession *s = nuwa_session_open(p, &o, err);
  const RigData data = {3, fit, NULL};
  for (int i = 0; s && i < p->n_param; i++) {
    int64_t n = 0;
    plan_tensor_elems(&p->param[i].type, 0, 0, &n);
    rig_fill(&data, p->param[i].type.name, p->param[i].type.dtype, n, nuwa_param(s, p->param[i].type.name));
  }
  if (!s || !nuwa_prepare(s)) return s;
  int32_t *codes = nuwa_input(s, p->decode[0].prologue, "image_tokens");
  for (int i = 0; i < COUNT * CODES; i++) codes[i] = i * 7 % 5;
  return s;
}

static int first_stop(const int32_t *tokens) {
  int n = 0;
  while (n < WORDS && tokens[n] != STOP) n++;
  return n;
}

typedef struct Drawn {
  int32_t tokens[COUNT * WORDS];
  float chance[COUNT * WORDS];
  NuwaGenerateStats stats;
} Drawn;

static bool draw(bool stops, int threads, const uint8_t *given, const int32_t *given_tokens, Drawn *out) {
  Error err = {0};
  Plan *p = open_plan(stops, &err);
  NuwaSession *s = p ? open_session(p, threads, &err) : NULL;
  const NuwaGenerate g = {.count = COUNT,
                          .seed = 11,
                          .guidance = 1,
                          .sample = {.temperature = 1, .top_p = 1},
                          .given = given,
                          .given_tokens = given_tokens,
                          .chance = out->chance};
  bool ok = s && nuwa_generate(s, &g, out->tokens, &out->stats, NULL, NULL, &err);
  EXPECT(ok, "%s", err.text);
  EXPECT(!p || p->decode[0].has_stop == stops, "stop");
  nuwa_session_close(s);
  plan_free(p);
  return ok;
}

/* What drawing without a stop gives says what drawing with it must. */
static void check(const Drawn *free_of, const Drawn *got, const uint8_t *given) {
  int longest = 0, drawn = 0, stopped = 0;
  for (int b = 0; b < COUNT; b++) {
    const int32_t *a = free_of->tokens + b * WORDS, *t = got->tokens + b * WORDS;
    int n = first_stop(a);
    stopped += n < WORDS - 1;
    for (int i = 0; i < WORDS; i++) {
      bool is_given = given && given[i];
      EXPECT(t[i] == (i > n && !is_given ? STOP : a[i]), "sample %d, word %d: %d", b, i, t[i]);
      drawn += i <= n && !is_given;
      EXPECT(i <= n && !is_given ? got->chance[b * WORDS + i] > 0 && got->chance[b * WORDS + i] < 1
                                 : got->chance[b * WORDS + i] == 1,
             "sample %d, word %d: %g", b, i, (double)got->chance[b * WORDS + i]);
    }
    longest = n + 1 > longest ? n + 1 : longest;
  }
  EXPECT(stopped > 1, "%d of %d samples stop before the end", stopped, COUNT);
  EXPECT(got->stats.tokens == drawn, "%d tokens, not %d", (int)got->stats.tokens, drawn);
  EXPECT(given || got->stats.steps == (longest < WORDS ? longest : WORDS), "%d steps for %d words",
         (int)got->stats.steps, longest);
}

TEST("behind its stop a sample has nothing else, uncounted, and drawing ends with the longest") {
  static Drawn free_of, one, two;
  REQUIRE(draw(false, 1, NULL, NULL, &free_of) && draw(true, 1, NULL, NULL, &one) && draw(true, 2, NULL, NULL, &two),
          "");
  check(&free_of, &one, NULL);
  EXPECT(memcmp(one.tokens, two.tokens, sizeof one.tokens) == 0, "other tokens with two threads");
  EXPECT(free_of.stats.tokens == COUNT * WORDS && free_of.stats.steps == WORDS, "%d", (int)free_of.stats.tokens);
}

TEST("a stop that is given stops, one that is given further on does not stop what is before it") {
  static Drawn free_of, got;
  static int32_t tokens[COUNT * WORDS];
  const uint8_t given[WORDS] = {1, 0, 1, 0, 0, 0, 1, 0};
  for (int b = 0; b < COUNT; b++) {
    tokens[b * WORDS] = b % 5;
    tokens[b * WORDS + 2] = b % 3 ? 2 : STOP;
    tokens[b * WORDS + 6] = b % 2 ? 3 : STOP;
  }
  REQUIRE(draw(false, 2, given, tokens, &free_of) && draw(true, 2, given, tokens, &got), "");
  check(&free_of, &got, given);
}

TEST_MAIN()
