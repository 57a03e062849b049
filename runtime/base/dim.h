/* Sizes that are affine in the two symbols of a plan: B samples and R rows (positions of one decoding step). */
#ifndef NUWA_DIM_H
#define NUWA_DIM_H

#include <stdbool.h>
#include <stdint.h>

enum { MAX_RANK = 8 };

typedef struct Dim {
  int64_t c, b, r;   /* c + b*B + r*R */
} Dim;

static inline Dim dim_const(int64_t c) { return (Dim){c, 0, 0}; }
static inline bool dim_is_const(Dim d) { return d.b == 0 && d.r == 0; }
static inline bool dim_equal(Dim x, Dim y) { return x.c == y.c && x.b == y.b && x.r == y.r; }
static inline Dim dim_add(Dim x, Dim y) { return (Dim){x.c + y.c, x.b + y.b, x.r + y.r}; }
static inline Dim dim_scale(Dim x, int64_t k) { return (Dim){x.c * k, x.b * k, x.r * k}; }
static inline int64_t dim_value(Dim d, int64_t B, int64_t R) { return d.c + d.b * B + d.r * R; }

#endif
