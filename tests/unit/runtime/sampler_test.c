#include "runtime/sampler.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "runtime/base/memory.h"
#include "runtime/base/philox.h"
#include "runtime/base/pool.h"
#include "tests/test.h"

enum { MOST = 512 };

static NuwaSampling options(float temperature, int top_k, float top_p) {
  return (NuwaSampling){.temperature = temperature, .top_k = top_k, .top_p = top_p};
}

static int draw(const float *logits, int n, NuwaSampling o, float uniform) {
  float scratch[MOST];
  return sampler_draw(logits, n, &o, uniform, scratch);
}

/* The definition, by sorting and in long double. */
typedef struct Ranked {
  float logit;
  int index;
} Ranked;

static int compare_ranked(const void *a, const void *b) {
  const Ranked *x = a, *y = b;
  if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
  return x->index - y->index;
}

/* Shares of the tokens that are kept; *out_close: top-p is decided by less than 1e-6. */
static void define_shares(const float *logits, int n, NuwaSampling o, long double *share, bool *out_close) {
  Ranked r[MOST];
  for (int i = 0; i < n; i++) r[i] = (Ranked){logits[i], i};
  qsort(r, (size_t)n, sizeof r[0], compare_ranked);
  long double sum = 0, cumulative = 0, kept = 0;
  int k = o.top_k >= 1 && o.top_k < n ? o.top_k : n;
  for (int i = 0; i < n; i++) share[i] = 0;
  for (int i = 0; i < k; i++) sum += expl(((long double)r[i].logit - r[0].logit) / o.temperature);
  *out_close = false;
  for (int i = 0; i < k && (i == 0 || o.top_p >= 1 || cumulative < o.top_p * sum); i++) {
    long double w = expl(((long double)r[i].logit - r[0].logit) / o.temperature);
    cumulative += w;
    kept += share[r[i].index] = w;
    if (o.top_p < 1 && fabsl(cumulative / sum - o.top_p) < 1e-6L) *out_close = true;
  }
  for (int i = 0; i < n; i++) share[i] /= kept;
}

static void check_against_definition(const float *logits, int n, NuwaSampling o) {
  long double share[MOST], sum = 0;
  bool close;
  define_shares(logits, n, o, share, &close);
  if (close) return;
  for (int i = 0; i < n; i++) {
    long double begin = sum, end = sum += share[i];
    if (end - begin < 1e-5L) continue;
    float in[2] = {(float)(begin + 2e-6L), (float)(end - 2e-6L)};
    for (int j = 0; j < 2; j++) {
      int got = draw(logits, n, o, in[j]);
      EXPECT(got == i, "n %d T %g k %d p %g u %.9g: %d, not %d", n, (double)o.temperature, o.top_k, (double)o.top_p,
             (double)in[j], got, i);
    }
  }
}

static float noise(int i, int stream) {
  Philox p = philox(7, (uint32_t)i, (uint32_t)stream, STREAM_TEST);
  return 12 * philox_uniform(p.word[0]) - 6;
}

TEST("draws follow the definition: temperature, then top-k, then top-p, then token order") {
  static const float temperatures[] = {0.3f, 1, 2.5f};
  static const int top_k[] = {0, 1, 3, 40, 10000};
  static const float top_p[] = {0, 0.1f, 0.5f, 0.9f, 0.999f, 1};
  static const int sizes[] = {1, 2, 3, 17, 300};
  float logits[MOST];
  for (int s = 0; s < COUNT_OF(sizes); s++)
    for (int kind = 0; kind < 2; kind++) {
      for (int i = 0; i < sizes[s]; i++) logits[i] = kind ? roundf(noise(i, s)) : noise(i, s); /* with many ties */
      for (int t = 0; t < COUNT_OF(temperatures); t++)
        for (int k = 0; k < COUNT_OF(top_k); k++)
          for (int p = 0; p < COUNT_OF(top_p); p++)
            check_against_definition(logits, sizes[s], options(temperatures[t], top_k[k], top_p[p]));
    }
}

TEST("temperature 0 is the largest logit, and the first of equals") {
  float logits[] = {1, 5, -2, 5, 4};
  static const float cold[] = {0, -1, NAN, 1e-40f};
  for (int i = 0; i < COUNT_OF(cold); i++) EXPECT(draw(logits, 5, options(cold[i], 0, 1), 0.99f) == 1, "%d", i);
  EXPECT(draw(logits, 5, (NuwaSampling){0}, 0.5f) == 1, "options of zeros");
}

TEST("of equal logits top-k keeps the lowest indices") {
  float logits[] = {0, 2, 2, 2, 2, 0};
  bool seen[6] = {false};
  for (int u = 0; u < 100; u++) seen[draw(logits, 6, options(1, 3, 1), (float)u / 100)] = true;
  EXPECT(!seen[0] && seen[1] && seen[2] && seen[3] && !seen[4] && !seen[5], "tokens 1, 2 and 3");
}

TEST("of equal logits top-p keeps the lowest indices, as few as hold the share") {
  float logits[] = {1, 1, 1, 1, 1, 1, 1, 1};
  static const struct {
    float p;
    int kept;
  } cases[] = {{0, 1}, {0.125f, 1}, {0.126f, 2}, {0.5f, 4}, {0.51f, 5}, {1, 8}};
  for (int c = 0; c < COUNT_OF(cases); c++) {
    int most = 0;
    for (int u = 0; u < 256; u++) {
      int got = draw(logits, 8, options(1, 0, cases[c].p), (float)u / 256);
      EXPECT(got == u * cases[c].kept / 256, "p %g u %d: %d", (double)cases[c].p, u, got);
      most = got > most ? got : most;
    }
    EXPECT(most == cases[c].kept - 1, "p %g keeps %d", (double)cases[c].p, most + 1);
  }
}

TEST("top-p is a share of what top-k left") {
  float logits[] = {logf(4), logf(3), logf(2), logf(1)}; /* top-k 2 leaves 4/7 and 3/7 */
  EXPECT(draw(logits, 4, options(1, 2, 0.56f), 0.99f) == 0, "0.56 < 4/7");
  EXPECT(draw(logits, 4, options(1, 2, 0.58f), 0.99f) == 1, "0.58 > 4/7");
  EXPECT(draw(logits, 4, options(1, 0, 0.56f), 0.99f) == 1, "0.56 > 4/10");
}

TEST("what is not a number is never drawn, nor is minus infinity") {
  float logits[] = {NAN, -INFINITY, 0, -NAN, 0, -INFINITY};
  for (int k = 0; k <= 6; k++)
    for (int u = 0; u < 64; u++) {
      int got = draw(logits, 6, options(1, k, u % 2 ? 1 : 0.9f), (float)u / 64);
      EXPECT(got == 2 || got == 4, "k %d u %d: %d", k, u, got);
    }
  EXPECT(draw(logits, 6, options(0, 0, 1), 0) == 2, "argmax");
  EXPECT(draw(logits, 6, options(INFINITY, 0, 1), 0) == 2, "an endless temperature");
}

TEST("infinities share everything, and without any hope the answer is defined") {
  float some[] = {1, INFINITY, NAN, INFINITY, 3}, none[] = {NAN, -INFINITY, -INFINITY}, nan[] = {NAN, -NAN};
  EXPECT(draw(some, 5, options(1, 0, 1), 0.49f) == 1, "the first half");
  EXPECT(draw(some, 5, options(1, 0, 1), 0.51f) == 3, "the second half");
  EXPECT(draw(none, 3, options(1, 0, 1), 0.9f) == 1, "the first minus infinity");
  EXPECT(draw(nan, 2, options(1, 2, 0.5f), 0.9f) == 0, "0");
}

TEST("a uniform number outside of [0, 1) is taken to the border") {
  float logits[] = {0, 0, 0, 0};
  static const struct {
    float u;
    int want;
  } cases[] = {{-1, 0}, {NAN, 0}, {0, 0}, {1, 3}, {7, 3}, {INFINITY, 3}};
  for (int c = 0; c < COUNT_OF(cases); c++)
    EXPECT(draw(logits, 4, options(1, 0, 1), cases[c].u) == cases[c].want, "%g", (double)cases[c].u);
}

TEST("borders are exact: quarters change hands at multiples of a quarter") {
  float logits[] = {0, -0.0f, 1e-40f, -1e-40f};
  for (int i = 0; i < 4; i++) {
    EXPECT(draw(logits, 4, options(1, 0, 1), (float)i / 4) == i, "at %d/4", i);
    EXPECT(draw(logits, 4, options(1, 0, 1), nextafterf((float)(i + 1) / 4, 0)) == i, "below %d/4", i + 1);
  }
}

typedef struct Draws {
  float logits[256][MOST];
  uint32_t fold;
} Draws;

/* One draw for each of 256 options and logits, folded into a number. */
static void draw_many(void *ctx, int64_t begin, int64_t end, int thread) {
  float scratch[MOST];
  Draws *all = ctx;
  all->fold = 0;
  for (int d = 0; d < 256; d++) {
    NuwaSampling o = options(0.25f * (float)(1 + d % 8), d % 3 * 20, 1 - 0.05f * (float)(d % 7));
    int token = sampler_draw(all->logits[d], MOST, &o, noise(d, 999) / 12 + 0.5f, scratch);
    all->fold = all->fold * 31 + (uint32_t)token;
  }
}

TEST("draws are the same on every machine and in every floating-point mode") {
  Error err = {0};
  static Draws all;
  for (int d = 0; d < 256; d++) /* with denormals, of both signs */
    for (int i = 0; i < MOST; i++) all.logits[d][i] = i % 5 && d % 2 ? noise(i, d) : noise(i, d) * 1e-39f;
  draw_many(&all, 0, 1, 0);
  uint32_t kept = all.fold;
  Pool *p = pool_new(1, &err);
  REQUIRE(p, "%s", err.text);
  pool_run(p, draw_many, &all, 1, 1);
  pool_free(p);
  EXPECT(kept == all.fold, "%u, and with denormals flushed %u", (unsigned)kept, (unsigned)all.fold);
  EXPECT(kept == 8871925, "recorded on x86-64 with GCC and clang; here %u", (unsigned)kept);
}

TEST("large vocabularies: draws have the frequencies of the softmax") {
  enum { N = 12288, DRAWS = 4000 };
  float *logits = mem_alloc(N * sizeof *logits), *scratch = mem_alloc(N * sizeof *scratch);
  REQUIRE(logits && scratch, "memory");
  for (int i = 0; i < N; i++) logits[i] = i % 3 ? -30 : (i % 2 ? logf(3) : 0); /* 2048 tokens of 3, 2048 of 1 */
  NuwaSampling o = options(1, 0, 1);
  int odd = 0, other = 0;
  for (int d = 0; d < DRAWS; d++) {
    Philox p = philox(1, (uint32_t)d, 0, STREAM_SAMPLE);
    int t = sampler_draw(logits, N, &o, philox_uniform(p.word[0]), scratch);
    odd += t % 3 == 0 && t % 2 == 1;
    other += t % 3 != 0;
  }
  EXPECT(abs(odd - DRAWS * 3 / 4) < 150, "%d of %d", odd, DRAWS); /* 5 standard deviations are 137 */
  EXPECT(other == 0, "%d", other);
  mem_free(logits);
  mem_free(scratch);
}

TEST("guidance moves from the unconditional logits along the difference") {
  float c[] = {1, 2, -3}, u[] = {0.5f, 4, -3}, out[3];
  sampler_guide(out, c, u, 3, 3);
  EXPECT(out[0] == 2 && out[1] == -2 && out[2] == -3, "%g %g %g", (double)out[0], (double)out[1], (double)out[2]);
  sampler_guide(out, c, u, 0, 3);
  EXPECT(memcmp(out, u, sizeof out) == 0, "g = 0 is the unconditional one");
}

TEST("guidance of 1 is the condition, to the bit") {
  float c[] = {0.1f, INFINITY, -0.0f, 1e30f}, u[] = {1e10f, 1, 5, -INFINITY}, out[4];
  sampler_guide(out, c, u, 1, 4);
  EXPECT(memcmp(out, c, sizeof out) == 0, "copied");
  sampler_guide(c, c, u, 1, 4);
  EXPECT(memcmp(out, c, sizeof out) == 0, "in place");
}

TEST_MAIN()
