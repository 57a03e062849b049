/* Drawing one token from logits.  Exact and the same on every machine: the only rounding is in each token's weight
 * (a fixed polynomial in double arithmetic); sums and comparisons are of integers. */
#ifndef NUWA_SAMPLER_H
#define NUWA_SAMPLER_H

#include "runtime/include/nuwa.h"

enum { SAMPLER_MAX_TOKENS = 1 << 23 };

/* A token in [0, n), 1 <= n <= SAMPLER_MAX_TOKENS.  Token i weighs exp((logits[i] - max) / temperature), cut to
 * multiples of 2^-40; top-k, then top-p (shares of what top-k left) keep some; the answer is the first token, in
 * token order, up to which those kept weigh more than `uniform` of their sum.  uniform is in [0, 1): below or NaN
 * counts as 0, above as the largest number below 1.  Of equal logits the lowest index counts as the largest.
 *
 * NaN is never drawn, -inf neither; +inf shares everything with the other +inf.  Where nothing is above -inf the
 * answer is the first -inf, where all are NaN it is 0.  Denormals count as 0.  scratch: n floats of the caller. */
int sampler_draw(const float *logits, int n, const NuwaSampling *o, float uniform, float *scratch);

/* Classifier-free guidance: out[i] = uncond[i] + g * (cond[i] - uncond[i]), three roundings, in the caller's
 * floating-point mode; g == 1 copies cond.  out may be cond or uncond. */
void sampler_guide(float *out, const float *cond, const float *uncond, float g, int n);

#endif
