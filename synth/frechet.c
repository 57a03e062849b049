/* See frechet.h. */
#include "synth/frechet.h"

#include <math.h>

#include <lapacke.h>

Moments moments_new(Arena *a, int64_t d) {
  BUG_IF(d < 1 || d > FRECHET_MAX_D, "vectors of %lld elements", (long long)d);
  return (Moments){d, 0, ARENA_ARRAY(a, double, d), ARENA_ARRAY(a, double, d), ARENA_ARRAY(a, double, d *d)};
}

static void add_one(Moments *m, const float *x, double *moved) {
  for (int64_t i = 0; i < m->d && m->n == 0; i++) m->first[i] = (double)x[i];
  for (int64_t i = 0; i < m->d; i++) m->sum[i] += moved[i] = (double)x[i] - m->first[i];
  for (int64_t i = 0; i < m->d; i++) {
    double xi = moved[i], *row = m->product + i * m->d;
    for (int64_t j = 0; xi != 0 && j <= i; j++) row[j] += xi * moved[j];
  }
  m->n++;
}

void moments_add(Moments *m, const float *x, int64_t n) {
  double moved[FRECHET_MAX_D];
  for (int64_t i = 0; i < n; i++) add_one(m, x + i * m->d, moved);
}

static double mean_of(const Moments *m, int64_t i) { return m->first[i] + m->sum[i] / (double)m->n; }

/* [d, d], both halves. */
static double *covariance(const Moments *m, Arena *a) {
  int64_t d = m->d;
  double *c = ARENA_ARRAY(a, double, d *d), n = (double)m->n;
  for (int64_t i = 0; i < d; i++)
    for (int64_t j = 0; j <= i; j++)
      c[i * d + j] = c[j * d + i] = (m->product[i * d + j] - m->sum[i] * m->sum[j] / n) / (n - 1);
  return c;
}

/* Eigenvalues of a symmetric matrix; c [d, d] becomes its eigenvectors, one a column, where `vectors` says so. */
static bool eigen(double *c, int64_t d, bool vectors, double *values, Error *err) {
  int info = LAPACKE_dsyevd(LAPACK_ROW_MAJOR, vectors ? 'V' : 'N', 'L', (int)d, c, (int)d, values);
  return info == 0 || error_set(err, info < 0 ? ERROR_MEMORY : ERROR_ARGUMENT,
                                "eigenvalues of a covariance of %lld features: LAPACK says %d", (long long)d, info);
}

/* b = a^T x, all [d, d]. */
static void multiply(const double *a, const double *x, int64_t d, double *b) {
  for (int64_t k = 0; k < d; k++)
    for (int64_t i = 0; i < d; i++)
      for (int64_t j = 0; j < d; j++) b[i * d + j] += a[k * d + i] * x[k * d + j];
}

/* tr (C1 C2)^(1/2): with C1 = V L V^T and W = V L^(1/2), the eigenvalues of C1 C2 are those of W^T C2 W, which is
 * symmetric.  What rounding makes of 0 may be below it. */
static bool trace_of_root(double *c1, const double *c2, int64_t d, Arena *a, double *out, Error *err) {
  double *values = ARENA_ARRAY(a, double, d), *half = ARENA_ARRAY(a, double, d *d),
         *whole = ARENA_ARRAY(a, double, d *d);
  if (!eigen(c1, d, true, values, err)) return false;
  for (int64_t i = 0; i < d * d; i++) c1[i] *= sqrt(fmax(values[i % d], 0));
  multiply(c2, c1, d, half);
  multiply(c1, half, d, whole);
  if (!eigen(whole, d, false, values, err)) return false;
  *out = 0;
  for (int64_t i = 0; i < d; i++) *out += sqrt(fmax(values[i], 0));
  return true;
}

bool frechet_distance(const Moments *x, const Moments *y, Arena *a, double *out, Error *err) {
  BUG_IF(x->d != y->d || x->n < 2 || y->n < 2, "moments of other vectors");
  double *c1 = covariance(x, a), *c2 = covariance(y, a), distance = 0, root;
  for (int64_t i = 0; i < x->d; i++) {
    double apart = mean_of(x, i) - mean_of(y, i);
    distance += apart * apart + c1[i * x->d + i] + c2[i * x->d + i];
  }
  if (!isfinite(distance)) return error_set(err, ERROR_ARGUMENT, "features that are not finite have no distance");
  if (!trace_of_root(c1, c2, x->d, a, &root, err)) return false;
  *out = fmax(distance - 2 * root, 0);
  return true;
}
