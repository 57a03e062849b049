/* How like a data set's pictures are those that a model draws, what an autoencoder makes of them, or those of another data
 * set: the Frechet distance of
 * what a classifier's function "features" (image f32 [B, h, w, 1 or 3], or of clips video f32 [B, s, h, w, 1 or 3], to features
 * f32 [B, n]) tells of both. */
#ifndef NUWA_SYNTH_LIKENESS_H
#define NUWA_SYNTH_LIKENESS_H

#include "media/dataset.h"
#include "synth/frechet.h"
#include "synth/painter.h"

typedef struct Likeness {
  Single features;
  const PlanTensor *image, *vector; /* its input and output */
} Likeness;

/* Opens the features.  False with err set; close l either way. */
bool likeness_open(Likeness *l, const SynthTarget *t, const ModelSpec *m, const char *weights, Error *err);
void likeness_close(Likeness *l);

/* Features of n pictures of a data set that was opened whole and in order, from all over it, and of n drawings of a seed:
 * of classes, each as often as any other.  Moments in a (call inside arena_protect). */
bool likeness_of_data(Likeness *l, const Dataset *d, int64_t n, Arena *a, Moments *out, Error *err);
bool likeness_of_drawings(Likeness *l, Painter *p, uint64_t seed, int64_t n, Arena *a, Moments *out, Error *err);
/* Of what an autoencoder's function "reconstruct" makes of the data's pictures. */
bool likeness_of_reconstructions(Likeness *l, Single *codec, const Dataset *d, int64_t n, Arena *a, Moments *out,
                                 Error *err);

#endif
