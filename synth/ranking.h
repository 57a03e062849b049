/* Choosing among drawings: how like a caption each is, by a model of similarity (models/metrics/clip.lua) with functions
 *
 *   image_features  image f32 [B, h, w, 3] -> features f32 [B, n]      text_features  text i32 [B, words] -> features f32 [B, n]
 *
 * whose products are the likeness; of a clip the mean over its frames. */
#ifndef NUWA_SYNTH_RANKING_H
#define NUWA_SYNTH_RANKING_H

#include "runtime/text/bpe.h"
#include "synth/single.h"

typedef struct Ranking {
  Single image, text;
  Bpe *bpe;
  const PlanTensor *picture, *words, *vector[2]; /* inputs, and outputs of image and text */
} Ranking;

/* False with err set; close it either way.  The target must outlive it. */
bool ranking_open(Ranking *r, const SynthTarget *t, const char *weights, Error *err);
void ranking_close(Ranking *r);
/* rgb [n, frames, size, size, 3] and one text for all -> out [n]. */
bool ranking_compare(Ranking *r, const char *text, const uint8_t *rgb, int64_t n, int64_t frames, int64_t size, double *out,
                     Error *err);
/* Numbers 0..n-1, the most alike first; of equals the first. */
void ranking_order(const double *likeness, int64_t n, int64_t *out);

#endif
