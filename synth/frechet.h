/* The Frechet distance of two sets of vectors, each taken as a normal distribution of its mean m and covariance C:
 *   |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))
 * (Dowson, Landau, 1982; of features of pictures, as a measure of those that are drawn: Heusel et al., 2017). */
#ifndef NUWA_SYNTH_FRECHET_H
#define NUWA_SYNTH_FRECHET_H

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

/* Sums over vectors, from which mean and covariance follow. */
typedef struct Moments {
  int64_t d, n;    /* elements of a vector, vectors so far */
  double *first;   /* [d], the first vector, from which all are measured: so little cancels */
  double *sum;     /* [d] */
  double *product; /* [d, d], sums of x_i x_j, i >= j */
} Moments;

enum { FRECHET_MAX_D = 4096 };

/* In a (call inside arena_protect). */
Moments moments_new(Arena *a, int64_t d);
/* n vectors [n, d]. */
void moments_add(Moments *m, const float *x, int64_t n);

/* Of two of one d, with two vectors at least each; covariances are those of samples (n - 1).  Memory in a. */
bool frechet_distance(const Moments *x, const Moments *y, Arena *a, double *out, Error *err);

#endif
