/* One element of an elementwise op, with the bits that kernels compute. */
#ifndef NUWA_SCALAR_H
#define NUWA_SCALAR_H

#include "ir/ir.h"

/* n: a MAP op other than iota; x[i]: an element of operand i.  The element of the result, in the element type of n: f32
 * arithmetic in the kernels' mode, bf16 rounded once. */
double scalar_compute(const Node *n, const double *x);

#endif
