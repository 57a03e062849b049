/* The slot judge: says which thing stands at which place on which background in a picture, from the pixels alone.
 *
 * It compares the picture with the rendering of every thing x size x place x jitter x background of a world of single
 * things, by least squares in RGB over the whole picture, and takes the closest.  Nothing else is known to it. */
#ifndef NUWA_JUDGE_H
#define NUWA_JUDGE_H

#include "media/world.h"

typedef struct Judgement {
  int thing, place, background; /* the slots of the closest rendering */
  int size, dx, dy;
  double error; /* mean squared difference per value (0..65025) */
} Judgement;

typedef struct Judge Judge;
/* `w` must outlive the judge.  One thread at a time may use a judge. */
Judge *judge_new(const World *w, Error *err);
void judge_free(Judge *j);
/* rgb [size, size, 3] of the world's picture size. */
Judgement judge_picture(Judge *j, const uint8_t *rgb);

/* How many of n pictures show what they should, slot by slot. */
typedef struct SlotScore {
  int n, thing, place, background, all;
} SlotScore;
void judge_count(const Judgement *got, const Scene *want, SlotScore *score);

#endif
