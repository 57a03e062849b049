/* How well a kit draws what captions say, slot by slot.
 *
 * The judge (media/judge.h) sees pictures only.  It judges the true renderings of scenes (which bounds what can be
 * scored), their reconstructions by the autoencoder, one drawing for each caption, and the drawings against each
 * other's captions (chance). */
#ifndef NUWA_SYNTH_SCORE_H
#define NUWA_SYNTH_SCORE_H

#include "media/judge.h"
#include "synth/kit.h"

typedef struct ScoreRequest {
  const World *world;           /* of single things, in pictures of the kit's size */
  Judge *judge;                 /* of that world */
  WorldSplit split;             /* whose scenes: pairs kept from training, or unseen scenes of pairs that it shows */
  int64_t count;                /* scenes, at least 1 */
  bool draws;                   /* else the autoencoder alone is scored */
  uint64_t seed;                /* of the drawings, as the rest */
  NuwaSampling sample;
  float guidance;
} ScoreRequest;

enum { SCORE_TRUE, SCORE_REBUILT, SCORE_DRAWN, SCORE_SHUFFLED, SCORE_ROWS };

typedef struct Scores {
  int64_t count;
  SlotScore row[SCORE_ROWS];
  bool has[SCORE_ROWS];         /* the last two only where something was drawn */
  double psnr, psnr_box;        /* dB, of reconstructions: over all pixels, and over the things' boxes */
  NuwaGenerateStats stats;      /* of drawing */
  int64_t size;                 /* of pictures; rgb [count][size, size, 3] of the first three rows, black if not drawn */
  uint8_t *rgb[SCORE_SHUFFLED];
} Scores;

/* Everything in a (call inside arena_protect). */
bool score_kit(Kit *k, const ScoreRequest *r, Arena *a, Scores *out, Error *err);
/* Rows of truth, reconstruction and drawing, `columns` scenes wide (at most count), for the scenes that fill their
 * rows.  image_done frees it. */
bool score_sheet(const Scores *s, int columns, Arena *a, Image *out, Error *err);

#endif
