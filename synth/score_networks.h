/* Networks that judge drawings of the world: which class each pixel shows, and features whose distribution is compared. */
#ifndef NUWA_SYNTH_SCORE_NETWORKS_H
#define NUWA_SYNTH_SCORE_NETWORKS_H

#include "synth/frechet.h"
#include "synth/single.h"

/* "segment": image f32 [B, h, w, 3] -> labels i32 [B, h, w]      (models/metrics/segment.lua)
 * "features": image, or video f32 [B, s, h, w, 3] -> features f32 [B, n]      (models/metrics/features.lua) */
typedef struct ScoreNetworks {
  Single segment, features;   /* f is NULL: none */
} ScoreNetworks;

/* Opens what is named (NULL: not).  False with err set; close it either way. */
bool score_networks_open(ScoreNetworks *n, const SynthTarget *t, const char *segment, const char *features, Error *err);
void score_networks_close(ScoreNetworks *n);

/* Of n frames rgb [n, size, size, 3]: the share of pixels whose class is that of labels [n, size, size]. */
bool score_networks_accuracy(ScoreNetworks *n, const uint8_t *rgb, const uint16_t *labels, int64_t frames, int64_t size, double *out,
                             Error *err);
/* Adds the features of n pictures, or clips of `frames`: rgb [n, frames, size, size, 3].  A network of pictures sees each frame. */
bool score_networks_features(ScoreNetworks *n, const uint8_t *rgb, int64_t count, int64_t frames, int64_t size, Moments *out, Error *err);
/* Whether there are features of drawings of so many frames: a network of pictures sees each, one of clips those of its own
 * length. */
bool score_networks_see(const ScoreNetworks *n, int64_t frames);
/* Of a vector; 0: there is no such network. */
int64_t score_networks_width(const ScoreNetworks *n);

#endif
