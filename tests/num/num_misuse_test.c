/* The public header asked for what does not exist or does not fit: it says so, and goes on as before. */
#include <pthread.h>

#include "runtime/plan.h"
#include "tests/fuzz/model.h"
#include "tests/test.h"

enum { POSITIONS = 6 };
static const NuwaSampling likely = {.temperature = 1, .top_p = 1};

static Plan *compiled(void) {
  static Plan *p;
  Buffer bytes = {0};
  Error err = {0};
  if (!p && fuzz_bundle(false, &bytes, &err)) p = plan_read(bytes.data, bytes.len, "model", &err);
  EXPECT(p, "%s", err.text);
  buffer_done(&bytes);
  return p;
}

static NuwaSession *open_session(int threads) {
  Error err = {0};
  NuwaOptions o = {.threads = threads, .samples = 2, .rows = 12};
  NuwaSession *s = compiled() ? nuwa_session_open(compiled(), &o, &err) : NULL;
  EXPECT(s && nuwa_init_weights(s, 1), "%s", err.text);
  return s;
}

static void expect_unopened(NuwaOptions o, int code, const char *why) {
  Error err = {0};
  EXPECT(!nuwa_session_open(compiled(), &o, &err) && err.code == code, "code %d", err.code);
  EXPECT_HAS(err.text, why);
}

TEST("a session is refused with the option that does not fit, and what would") {
  REQUIRE(compiled(), "");
  expect_unopened((NuwaOptions){.rows = 1}, NUWA_ERROR_ARGUMENT, "samples: 0, must be 1 to ");
  expect_unopened((NuwaOptions){.samples = 1, .rows = -1}, NUWA_ERROR_ARGUMENT, "rows: -1, must be 0 to ");
  expect_unopened((NuwaOptions){.samples = 1, .ring_slots = INT64_MAX}, NUWA_ERROR_ARGUMENT, "ring slots: ");
  expect_unopened((NuwaOptions){.samples = 1, .threads = -1}, NUWA_ERROR_ARGUMENT, "threads: -1");
  expect_unopened((NuwaOptions){.samples = 1, .device = 7}, NUWA_ERROR_ARGUMENT, "there is no device 7");
  expect_unopened((NuwaOptions){.samples = 1, .device = NUWA_CUDA}, NUWA_ERROR_DEVICE, "is for cpu, it was opened for cuda");
}

static void expect_refused(NuwaSession *s, int function, int64_t B, int64_t R, const char *why) {
  Error err = {0};
  EXPECT(!nuwa_run(s, function, B, R) && !nuwa_check(s, &err) && err.code == NUWA_ERROR_ARGUMENT, "code %d", err.code);
  EXPECT_HAS(err.text, why);
}

TEST("a function that is none, or not for so many, is refused, and the session is as good as before") {
  NuwaSession *s = open_session(1);
  if (!s) return;
  Error err = {0};
  float start[8];
  int loss = nuwa_find_function(compiled(), "loss");
  expect_refused(s, -1, 1, 0, "no function -1");
  expect_refused(s, 99, 1, 0, "no function 99");
  expect_refused(s, loss, 3, 0, "\"loss\": a session for 2 samples, 12 rows was asked for 3, 0");
  expect_refused(s, loss, -1, 0, "asked for -1, 0");
  expect_refused(s, loss, 1, 13, "asked for 1, 13");
  EXPECT(nuwa_read_param(s, "start", start, &err) && nuwa_write_param(s, "start", start, &err), "%s", err.text);
  int32_t tokens[POSITIONS];
  EXPECT(nuwa_generate(s, &(NuwaGenerate){.count = 1, .guidance = 1, .sample = likely}, tokens, NULL, NULL, NULL, &err) &&
         nuwa_check(s, &err), "%s", err.text);
  EXPECT(nuwa_run(s, loss, 2, 0) && nuwa_check(s, &err), "%s", err.text);
  nuwa_session_close(s);
}

TEST("names and numbers that do not exist are NULL, false, -1 or nothing") {
  NuwaSession *s = open_session(1);
  if (!s) return;
  Error err = {0};
  EXPECT(!nuwa_input(s, -1, "x") && !nuwa_input(s, 99, "x") && !nuwa_input(s, 0, "none"), "inputs");
  EXPECT(!nuwa_output(s, -1, "loss") && !nuwa_output(s, 99, "loss") && !nuwa_output(s, 0, "none"), "outputs");
  EXPECT(!nuwa_param(s, "none") && !nuwa_state(s, "none"), "params and states");
  EXPECT(!nuwa_read_param(s, "none", NULL, &err) && err.code == NUWA_ERROR_ARGUMENT, "%d", err.code);
  EXPECT_HAS(err.text, "no param \"none\"");
  EXPECT(!nuwa_write_state(s, "none", NULL, &err), "written");
  EXPECT_HAS(err.text, "no state \"none\"");
  EXPECT(!nuwa_kernel_is_compiled(s, -1) && !nuwa_kernel_is_compiled(s, 999), "kernels");
  EXPECT_TEXT(nuwa_product_algorithm(s, 0), "");
  EXPECT(nuwa_product_workspace(s, -1) == 0 && nuwa_profile_start(s, &err), "%s", err.text);
  EXPECT(nuwa_profile_ns(s, -1, 0) == 0 && nuwa_profile_ns(s, 0, -1) == 0 && nuwa_profile_ns(s, 0, 999) == 0, "times");
  nuwa_session_close(s);
  nuwa_session_close(NULL);
  nuwa_bundle_close(NULL);
  nuwa_weights_close(NULL);
}

static void expect_undrawn(NuwaSession *s, NuwaGenerate g, const char *why) {
  Error err = {0};
  int32_t tokens[2 * POSITIONS];
  EXPECT(!nuwa_generate(s, &g, tokens, NULL, NULL, NULL, &err) && err.code == NUWA_ERROR_ARGUMENT, "code %d", err.code);
  EXPECT_HAS(err.text, why);
}

static bool stop_at_once(void *ctx, int64_t done, int64_t total) {
  ++*(int *)ctx;
  return false;
}

TEST("a drawing that does not fit is refused, one that is stopped writes nothing, and the next one works") {
  NuwaSession *s = open_session(1);
  if (!s) return;
  Error err = {0};
  int32_t given[POSITIONS] = {5}, tokens[POSITIONS] = {-7};
  uint8_t is_given[POSITIONS] = {1};
  int64_t slots, rows;
  int calls = 0;
  NuwaGenerate g = {.count = 1, .guidance = 1, .sample = likely};
  expect_undrawn(s, (NuwaGenerate){.guidance = 1}, "count is 0, must be 1 to 4294967294");
  expect_undrawn(s, (NuwaGenerate){.count = INT64_MAX, .guidance = 1}, "must be 1 to 4294967294");
  expect_undrawn(s, (NuwaGenerate){.count = 2, .first = 4294967294, .guidance = 1}, "the first of 2 samples is 4294967294");
  expect_undrawn(s, (NuwaGenerate){.count = 2, .guidance = 2}, "need 4 rows, the session has 2 samples");
  expect_undrawn(s, (NuwaGenerate){.decode = 1, .count = 1, .guidance = 1}, "no decode 1");
  expect_undrawn(s, (NuwaGenerate){.count = 1, .guidance = 1, .given = is_given, .given_tokens = given}, "given token 5");
  EXPECT(!nuwa_generate_needs(compiled(), &(NuwaGenerate){.decode = -1, .count = 1}, &slots, &rows, &err), "decode -1");
  EXPECT(!nuwa_generate(s, &g, tokens, NULL, stop_at_once, &calls, &err) && err.code == NUWA_ERROR_CANCELLED && calls == 1 &&
         tokens[0] == -7, "code %d, %d calls, %d", err.code, calls, tokens[0]);
  EXPECT(nuwa_check(s, &err) && nuwa_generate(s, &g, tokens, NULL, NULL, NULL, &err) && tokens[0] >= 0, "%s", err.text);
  nuwa_session_close(s);
}

/* Draws again and again with a session of its own; whether the tokens are always the same. */
static void *draw_often(void *out) {
  NuwaSession *s = open_session(2);
  Error err = {0};
  int32_t *tokens = out, again[2 * POSITIONS];
  NuwaGenerate g = {.count = 2, .guidance = 1, .seed = 3, .sample = likely};
  bool ok = s && nuwa_generate(s, &g, tokens, NULL, NULL, NULL, &err);
  for (int i = 0; ok && i < 50; i++)
    ok = nuwa_generate(s, &g, again, NULL, NULL, NULL, &err) && memcmp(again, tokens, sizeof again) == 0;
  nuwa_session_close(s);
  return ok ? out : NULL;
}

TEST("two sessions of one plan draw in two threads what one draws alone") {
  REQUIRE(compiled(), "");
  int32_t tokens[3][2 * POSITIONS];
  pthread_t thread[2];
  void *done[3];
  for (int i = 0; i < 2; i++) REQUIRE(pthread_create(&thread[i], NULL, draw_often, tokens[i]) == 0, "no thread");
  for (int i = 0; i < 2; i++) pthread_join(thread[i], &done[i]);
  done[2] = draw_often(tokens[2]);
  for (int i = 0; i < 3; i++) EXPECT(done[i] && memcmp(tokens[i], tokens[2], sizeof tokens[2]) == 0, "thread %d", i);
}

TEST_MAIN()
