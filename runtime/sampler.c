/* Selection works on keys, integers in the order of the logits, by radix: three passes over at most 2048 bins find the
 * key of the k-th largest token, or of the one where a share of the weight is reached, without sorting. */
#include "runtime/sampler.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "runtime/base/error.h"

enum { KEY_NAN = 0 };
static const double weight_one = 1099511627776.0; /* 2^40, so that 2^23 weights fit 64 bits */

static float float_from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

/* Ordered like the logits.  By bits, because the processor may or may not flush denormals here. */
static uint32_t key_of(float logit) {
  uint32_t u;
  memcpy(&u, &logit, sizeof u);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return KEY_NAN;
  if ((u & 0x7F800000u) == 0) u = 0;
  return u >> 31 ? ~u : u | 0x80000000u;
}

static const uint32_t key_minus_inf = 0x007FFFFFu; /* ~0xFF800000 */

static float logit_without_denormals(float logit) {
  uint32_t u;
  memcpy(&u, &logit, sizeof u);
  return float_from_bits((u & 0x7F800000u) == 0 ? 0 : u);
}

/* exp(x) in [2^-40, 1], or 0 where it is less or x is NaN; x <= 0.  x = k ln 2 + r, |r| <= ln 2 / 2, and the Taylor
 * polynomial of degree 8, whose error of 2e-10 is far below the float's.  Every operation rounds once, so all machines
 * agree, and there are no branches, so that compilers make vectors of it. */
static float exp_fixed(double x) {
  double inside = x > -27.9 ? x : 0;
  int k = (int)(inside * 1.44269504088896338700e+00 - 0.5);
  double r = inside - k * 6.93147180369123816490e-01 - k * 1.90821492927058770002e-10;
  double y = r * (1.0 / 40320) + 1.0 / 5040;
  y = y * r + 1.0 / 720;
  y = y * r + 1.0 / 120;
  y = y * r + 1.0 / 24;
  y = y * r + 1.0 / 6;
  y = y * r + 0.5;
  y = y * r + 1;
  y = y * r + 1;
  int64_t bits = (int64_t)(1023 + k) << 52;
  double scale;
  memcpy(&scale, &bits, sizeof scale);
  y *= scale;
  return ((x > -27.9) & (y * weight_one >= 1)) ? (float)y : 0;
}

static void weigh(const float *logits, int n, float max, float temperature, float *weights) {
  double inverse = 1 / (double)temperature, top = (double)logit_without_denormals(max);
  if (isinf(max))
    for (int i = 0; i < n; i++) weights[i] = logits[i] == max;
  else
    for (int i = 0; i < n; i++)
      weights[i] = exp_fixed(((double)logit_without_denormals(logits[i]) - top) * inverse);
}

static uint64_t weight_units(float w) { return (uint64_t)(int64_t)((double)w * weight_one); }

static int argmax(const float *logits, int n) {
  int best = 0;
  for (int i = 1; i < n; i++)
    if (key_of(logits[i]) > key_of(logits[best])) best = i;
  return best;
}

/* What a token counts in a selection: itself, or its weight. */
static uint64_t token_mass(const float *weights, int i, bool by_weight) {
  return by_weight ? weight_units(weights[i]) : weights[i] > 0;
}

/* The largest key such that tokens with at least that key have the mass `need` (1 <= need <= all mass); *out_above is
 * the mass of those with larger keys. */
static uint32_t select_key(const float *logits, const float *weights, int n, bool by_weight, uint64_t need,
                           uint64_t *out_above) {
  uint32_t prefix = 0, known = 0;
  uint64_t above = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    uint64_t bin[256] = {0};
    uint32_t b = 255, mask = b;
    for (int i = 0; i < n; i++) {
      uint32_t key = key_of(logits[i]);
      if ((key & known) == prefix) bin[key >> shift & mask] += token_mass(weights, i, by_weight);
    }
    while (above + bin[b] < need) above += bin[b--];
    prefix |= b << shift;
    known |= mask << shift;
  }
  *out_above = above;
  return prefix;
}

/* Keeps the fewest tokens, largest first, that have the mass `need`. */
static void keep_largest(const float *logits, float *weights, int n, bool by_weight, uint64_t need) {
  uint64_t above;
  uint32_t least = select_key(logits, weights, n, by_weight, need, &above);
  for (int i = 0; i < n; i++) {
    uint32_t key = key_of(logits[i]);
    if (key > least) continue;
    if (key == least && above < need) above += token_mass(weights, i, by_weight);
    else weights[i] = 0;
  }
}

static uint64_t sum_units(const float *weights, int n) {
  uint64_t sum = 0;
  for (int i = 0; i < n; i++) sum += weight_units(weights[i]);
  return sum;
}

static int count_positive(const float *weights, int n) {
  int count = 0;
  for (int i = 0; i < n; i++) count += weights[i] > 0;
  return count;
}

/* x in [0, 1) in units of 2^-32. */
static uint64_t share_units(float x) {
  if (!(x > 0)) return 0;
  return x < 1 ? (uint64_t)((double)x * 4294967296.0) : 0xFFFFFFFFu;
}

/* ceil(total * units / 2^32), by halves because the product has up to 96 bits. */
static uint64_t share_of(uint64_t total, uint64_t units) {
  uint64_t low = (total & 0xFFFFFFFFu) * units, high = (total >> 32) * units;
  return high + (low >> 32) + ((low & 0xFFFFFFFFu) != 0);
}

int sampler_draw(const float *logits, int n, const NuwaSampling *o, float uniform, float *scratch) {
  BUG_IF(n < 1 || n > SAMPLER_MAX_TOKENS, "a draw from %d tokens", n);
  int best = argmax(logits, n);
  uint32_t max_key = key_of(logits[best]);
  if (!(o->temperature >= 1.17549435e-38f) || max_key <= key_minus_inf) return best;
  weigh(logits, n, logits[best], o->temperature, scratch);
  if (o->top_k >= 1 && o->top_k < count_positive(scratch, n))
    keep_largest(logits, scratch, n, false, (uint64_t)o->top_k);
  if (!(o->top_p >= 1)) {
    uint64_t need = share_of(sum_units(scratch, n), share_units(o->top_p));
    keep_largest(logits, scratch, n, true, need ? need : 1);
  }
  uint64_t total = sum_units(scratch, n), units = share_units(uniform);
  /* The first sum that is above total * uniform: with floor() for the bound, the first above the bound. */
  uint64_t bound = ((total >> 32) * units) + ((total & 0xFFFFFFFFu) * units >> 32), sum = 0;
  for (int i = 0; i < n; i++) {
    sum += weight_units(scratch[i]);
    if (sum > bound) return i;
  }
  return best; /* not reached: the whole sum is above the bound */
}

void sampler_guide(float *out, const float *cond, const float *uncond, float g, int n) {
  if (g == 1) {
    memmove(out, cond, (size_t)n * sizeof *out);
    return;
  }
  for (int i = 0; i < n; i++) out[i] = uncond[i] + g * (cond[i] - uncond[i]);
}
