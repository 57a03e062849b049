/* The judge: says which thing of which colour stands at which place on which background in a picture, and how it moves in a
 * clip, from the pixels alone.
 *
 * It compares them with renderings of scenes of single things and takes the closest by least squares in RGB over all pixels of
 * all frames: every thing x colour, at every place, jitter, size and with every motion that its world has.  Of backgrounds it
 * tries those that most pixels look like, of places and motions those that fit where the others are. */
#ifndef NUWA_JUDGE_H
#define NUWA_JUDGE_H

#include "media/world.h"

typedef struct Judgement {
  Scene scene;  /* the closest rendering's: n_things = 1, phrasing 0 */
  double error; /* mean squared difference per value (0..65025) */
} Judgement;

typedef struct Judge Judge;
/* `w` must outlive the judge.  One thread at a time may use a judge. */
Judge *judge_new(const World *w, Error *err);
void judge_free(Judge *j);
/* rgb [size, size, 3] of the world's picture size. */
Judgement judge_picture(Judge *j, const uint8_t *rgb);
/* rgb [WORLD_FRAMES, size, size, 3]; a clip may stand still, too. */
Judgement judge_clip(Judge *j, const uint8_t *rgb);

/* How many of n pictures or clips show what they should, slot by slot. */
typedef struct SlotScore {
  int n, thing, place, background, colour, motion;
  int all; /* of all slots: of pictures the first four */
} SlotScore;
void judge_count(const Judgement *got, const Scene *want, SlotScore *score);

#endif
