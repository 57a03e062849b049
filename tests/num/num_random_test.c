/* Random numbers of models: every word as Philox gives it, whatever the machine, the batch and the threads; what is made of
 * them has the moments and tails of its distribution; streams, steps and examples have nothing in common. */
#include <math.h>

#include "runtime/base/philox.h"
#include "runtime/base/sha256.h"
#include "tests/num/rig.h"
#include "tests/test.h"
#include "tests/unit/frontend/load.h"

enum { SAMPLES = 40, WIDTH = 2500, STEPS = 10 };   /* a million of each */

static const char text[] =
    "return module { f = fn({}, function()\n"
    "  return { u = uniform(f32(batch, 50, 50), 'one'), v = uniform(f32(batch, 50, 50), 'two'),\n"
    "    n = normal(f32(batch, 50, 50), 'three'), m = normal(f32(batch, 50, 50), 'four'), all = uniform(f32(77), 'one') }\n"
    "end) }\n";

typedef struct Case {
  Model *model;
  Plan *plan;
  NuwaSession *session;
  Error err;
} Case;

static bool open_case(Case *c, Isa isa, int threads) {
  CompileOptions o = {.isa = isa, .threads = 1};
  Buffer bundle = {0};
  *c = (Case){0};
  c->model = load_text(text, &c->err);
  if (c->model && compile_model(c->model, &o, &bundle, &c->err)) c->plan = plan_read(bundle.data, bundle.len, "m", &c->err);
  buffer_done(&bundle);
  c->session = c->plan ? nuwa_session_open(c->plan, &(NuwaOptions){.threads = threads, .samples = SAMPLES, .rows = 1}, &c->err) : NULL;
  return c->session != NULL;
}

static void close_case(Case *c) {
  nuwa_session_close(c->session);
  plan_free(c->plan);
  model_free(c->model);
}

static void feed(Case *c, uint64_t seed, int32_t step, int32_t first, int n) {
  int32_t *words = nuwa_input(c->session, 0, "seed"), *example = nuwa_input(c->session, 0, "example");
  words[0] = (int32_t)(uint32_t)seed;
  words[1] = (int32_t)(uint32_t)(seed >> 32);
  *(int32_t *)nuwa_input(c->session, 0, "step") = step;
  for (int i = 0; i < n; i++) example[i] = first + i;
  nuwa_run(c->session, 0, n, 0);
}

static const float *output(Case *c, const char *name) { return nuwa_output(c->session, 0, name); }

static uint32_t stream_of(const char *name) {
  uint8_t d[32];
  sha256(name, strlen(name), d);
  return (uint32_t)d[0] | (uint32_t)d[1] << 8 | (uint32_t)d[2] << 16 | (uint32_t)d[3] << 24;
}

static Philox block(uint64_t seed, uint32_t element, int32_t example, const char *stream, int32_t step) {
  return philox_block(seed, (uint32_t[]){element, (uint32_t)example, stream_of(stream), (uint32_t)step});
}

static void check_words(Case *c, uint64_t seed, int32_t step, int32_t first, int n) {
  int wrong = 0;
  double worst = 0;
  feed(c, seed, step, first, n);
  for (int s = 0; s < n; s++)
    for (uint32_t e = 0; e < WIDTH; e++) {
      Philox u = block(seed, e, first + s, "one", step), w = block(seed, e, first + s, "three", step);
      double unit = ((double)w.word[0] + 0.5) * 0x1p-32, turn = (double)w.word[1] * 0x1p-32;
      double normal = sqrt(-2 * log(unit)) * cos(2 * 3.14159265358979323846 * turn);
      size_t at = (size_t)s * WIDTH + e;
      wrong += output(c, "u")[at] != philox_uniform(u.word[0]);
      worst = fmax(worst, fabs((double)output(c, "n")[at] - normal) / fmax(1, fabs(normal)));
    }
  for (uint32_t e = 0; e < 77; e++) wrong += output(c, "all")[e] != philox_uniform(block(seed, e, 0, "one", step).word[0]);
  EXPECT(wrong == 0, "%d uniform numbers are others", wrong);
  EXPECT(worst < 1e-6, "a normal number is off by %g", worst);
}

TEST("uniform and normal numbers are those of Philox blocks counted by element, example, stream and step") {
  Isa isa[ISA_COUNT];
  for (int i = 0, n = rig_isas(isa); i < n; i++) {
    Case c;
    int threads = 1 + i % 2;
    REQUIRE(open_case(&c, isa[i], threads), "%s", c.err.text);
    check_words(&c, 0x123456789abcdef0u, 7, 1000, 3);
    check_words(&c, 0, -1, -2, 2);
    close_case(&c);
  }
}

TEST("an example's numbers depend on neither the batch nor what ran before") {
  Case c;
  static float many[5 * WIDTH], normal[5 * WIDTH];
  REQUIRE(open_case(&c, isa_best(), 2), "%s", c.err.text);
  feed(&c, 5, 3, 10, 5);
  memcpy(many, output(&c, "u"), sizeof many);
  memcpy(normal, output(&c, "n"), sizeof normal);
  for (int s = 4; s >= 0; s--) {
    feed(&c, 5, 3, 10 + s, 1);
    bool same = memcmp(output(&c, "u"), many + s * WIDTH, WIDTH * sizeof(float)) == 0 &&
                memcmp(output(&c, "n"), normal + s * WIDTH, WIDTH * sizeof(float)) == 0;
    EXPECT(same, "example %d", s);
  }
  close_case(&c);
}

/* Sums over draws. */
typedef struct Moments {
  double n, x, x2, x3, x4, least, most, above[7], with_other, with_step, with_example, with_next;
} Moments;

static void add(Moments *m, double x) {
  m->n++, m->x += x, m->x2 += x * x, m->x3 += x * x * x, m->x4 += x * x * x * x;
  m->least = fmin(m->least, x), m->most = fmax(m->most, x);
  for (int k = 0; k < 7; k++) m->above[k] += fabs(x) > k;
}

static void draw(Case *c, int steps, const char *name, const char *other, double mean, Moments *m) {
  static float before[SAMPLES * WIDTH];
  for (int step = 0; step < steps; step++) {
    feed(c, 99, step, step * SAMPLES, SAMPLES);
    const float *x = output(c, name), *y = output(c, other);
    for (int i = 0; i < SAMPLES * WIDTH; i++) {
      double d = (double)x[i] - mean;
      add(m, d);
      m->with_other += d * ((double)y[i] - mean);
      if (step) m->with_step += d * ((double)before[i] - mean);
      if (i >= WIDTH) m->with_example += d * ((double)x[i - WIDTH] - mean);
      if (i) m->with_next += d * ((double)x[i - 1] - mean);
    }
    memcpy(before, x, sizeof before);
  }
}

/* A sum of n numbers of that variance lies within five of its deviations. */
static void check_sum(const char *what, double sum, double n, double variance) {
  EXPECT(fabs(sum) < 5 * sqrt(n * variance), "%s: %g deviations", what, sum / sqrt(n * variance));
}

static void check_independent(const Moments *m, double variance) {
  double v = variance * variance;
  check_sum("streams", m->with_other, m->n, v);
  check_sum("steps", m->with_step, m->n, v);
  check_sum("examples", m->with_example, m->n, v);
  check_sum("neighbours", m->with_next, m->n, v);
}

static void check_distributions(int steps) {
  Case c;
  Moments u = {.least = 9}, n = {.least = 9};
  REQUIRE(open_case(&c, isa_best(), 2), "%s", c.err.text);
  draw(&c, steps, "u", "v", 0.5, &u);
  check_sum("mean", u.x, u.n, 1.0 / 12);
  check_sum("variance", u.x2 - u.n / 12, u.n, 1.0 / 180);
  check_sum("third moment", u.x3, u.n, 1.0 / 448);
  EXPECT(u.least >= -0.5 && u.most < 0.5 && u.least < -0.5 + 1e-4 && u.most > 0.5 - 1e-4, "from %.9g to %.9g", u.least, u.most);
  check_independent(&u, 1.0 / 12);
  draw(&c, steps, "n", "m", 0, &n);
  check_sum("mean", n.x, n.n, 1);
  check_sum("variance", n.x2 - n.n, n.n, 2);
  check_sum("third moment", n.x3, n.n, 15);
  check_sum("fourth moment", n.x4 - 3 * n.n, n.n, 96);
  for (int k = 0; k < 7; k++) {
    double share = erfc(k / sqrt(2.0));
    if (share * n.n > 20) check_sum("tail", n.above[k] - share * n.n, n.n, share * (1 - share) + 1e-12);
  }
  EXPECT(n.above[6] <= 2 + 1e-8 * n.n, "%g numbers beyond six deviations", n.above[6]);
  check_independent(&n, 1);
  close_case(&c);
}

TEST("a million draws have the moments and tails of their distributions, and nothing in common with others") { check_distributions(STEPS); }

LONG_TEST("so have a hundred million") { check_distributions(100 * STEPS); }

TEST_MAIN()
