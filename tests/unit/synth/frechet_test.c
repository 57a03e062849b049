/* The Frechet distance of normal distributions, where it is known in closed form. */
#include "synth/frechet.h"

#include <math.h>

#include "tests/test.h"

/* Vectors of d elements that are a mean plus, in equal numbers, + and - each column of root [d, d]: their covariance
 * is 2 / (2 d - 1) root root^T. */
static Moments spread(Arena *a, int d, const double *mean, const double *root) {
  Moments m = moments_new(a, d);
  for (int k = 0; k < d; k++)
    for (int sign = -1; sign <= 1; sign += 2) {
      float x[8];
      for (int i = 0; i < d; i++) x[i] = (float)(mean[i] + sign * root[i * d + k]);
      moments_add(&m, x, 1);
    }
  return m;
}

typedef struct DistanceCall {
  Arena *arena;
  int d;
  const double *mean[2], *root[2];
  double got;
  bool ok;
  Error err;
} DistanceCall;

static void measure(void *ctx) {
  DistanceCall *c = ctx;
  Moments x = spread(c->arena, c->d, c->mean[0], c->root[0]), y = spread(c->arena, c->d, c->mean[1], c->root[1]);
  c->ok = frechet_distance(&x, &y, c->arena, &c->got, &c->err);
}

static double distance(int d, const double *m1, const double *r1, const double *m2, const double *r2) {
  DistanceCall c = {arena_new(), d, {m1, m2}, {r1, r2}, NAN, false, {0}};
  bool within = arena_protect(c.arena, measure, &c, &c.err);
  EXPECT(within && c.ok, "%s", c.err.text);
  arena_free(c.arena);
  return c.got;
}

static void expect_near(double got, double want, int line) {
  EXPECT(fabs(got - want) <= 1e-5 * (1 + fabs(want)), "line %d: %.9g, not %.9g", line, got, want);
}
#define EXPECT_NEAR(got, want) expect_near(got, want, __LINE__)

static const double zero[9], mean[3] = {1, -2, 0.5};

TEST("the distance of a distribution from itself is 0, also where it is flat or a point") {
  const double root[9] = {2, 0, 0, 1, 3, 0, -1, 0.5, 1}, flat[9] = {2, 0, 0, 1, 0, 0, 3, 0, 0};
  EXPECT_NEAR(distance(3, mean, root, mean, root), 0.0);
  EXPECT_NEAR(distance(3, mean, flat, mean, flat), 0.0);
  EXPECT_NEAR(distance(3, mean, zero, mean, zero), 0.0);
}

TEST("means apart count by their squares, and deviations along the same axes by those of their differences") {
  const double one[9] = {1, 0, 0, 0, 2, 0, 0, 0, 3}, other[9] = {4, 0, 0, 0, 2, 0, 0, 0, 1};
  const double k = 2.0 / 5; /* of the covariance */
  EXPECT_NEAR(distance(3, zero, one, mean, one), 1 + 4 + 0.25);
  EXPECT_NEAR(distance(3, zero, one, zero, other), k * (9 + 0 + 4));
  EXPECT_NEAR(distance(3, mean, other, zero, one), 5.25 + k * 13);
}

/* C1 = k diag(a^2, b^2), C2 the same turned by 45 degrees: tr (C1 C2)^(1/2) = (tr C1 C2 + 2 det)^(1/2) of 2 x 2. */
TEST("covariances along other axes do not commute, and the root is that of their product") {
  const double a = 3, b = 1, k = 2.0 / 3, s = sqrt(0.5);
  const double straight[4] = {a, 0, 0, b}, turned[4] = {a * s, -b * s, a * s, b * s};
  double trace = k * k * (a * a + b * b) * (a * a + b * b) / 2, root = sqrt(trace + 2 * k * k * a * a * b * b);
  EXPECT_NEAR(distance(2, zero, straight, zero, turned), 2 * k * (a * a + b * b) - 2 * root);
}

TEST("a large mean costs no digits") {
  const double far[1] = {1e6}, root[1] = {1}, wide[1] = {3};
  EXPECT_NEAR(distance(1, far, root, far, wide), 2.0 * 4);
}

static void add_infinite(void *ctx) {
  DistanceCall *c = ctx;
  const float x[2] = {1, INFINITY};
  Moments m = moments_new(c->arena, 1);
  moments_add(&m, x, 2);
  c->ok = frechet_distance(&m, &m, c->arena, &c->got, &c->err);
}

TEST("features that are not finite are refused") {
  DistanceCall c = {.arena = arena_new()};
  EXPECT(arena_protect(c.arena, add_infinite, &c, &c.err) && !c.ok, "a distance of %g", c.got);
  EXPECT_HAS(c.err.text, "features that are not finite have no distance");
  arena_free(c.arena);
}

TEST_MAIN()
