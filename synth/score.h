/* How well a kit does a task on scenes of the world, slot by slot.
 *
 * The judge (media/judge.h) sees pixels only.  It judges the true renderings of scenes (which bounds what can be
 * scored), their reconstructions by the autoencoder, one drawing for each scene, the drawings against each other's
 * scenes (chance), and of clips the first frame, standing still; where several are drawn for a scene, also of these
 * the one nearest to the truth, and the one most like its caption. Captions that are drawn are read back into slots instead. */
#ifndef NUWA_SYNTH_SCORE_H
#define NUWA_SYNTH_SCORE_H

#include "media/judge.h"
#include "synth/kit.h"
#include "synth/ranking.h"
#include "synth/score_networks.h"

/* What of a scene is given to the drawing. */
typedef enum ScoreGiven {
  GIVEN_NOTHING,
  GIVEN_UPPER,       /* the upper half of the picture */
  GIVEN_SURROUNDING, /* all but the thing, which is to be another */
  GIVEN_FIRST_FRAME, /* the first frame of a clip; with a caption, of another motion */
} ScoreGiven;

typedef struct ScoreTask {
  const char *name;              /* "tv2v" */
  const char *condition, *target; /* of the model's task: "text", "video" */
  ScoreGiven given;
} ScoreTask;
/* t2i, s2i, i2i, ti2i, t2v, s2v, v2v, tv2v, i2t, v2t; NULL: there is none of that name. */
const ScoreTask *score_task(const char *name);
/* The same of an option's value; NULL after err was set. */
const ScoreTask *score_task_asked(const char *option, const char *name, Error *err);
bool score_task_is_clip(const ScoreTask *t); /* whether its scenes move */

typedef struct ScoreRequest {
  const ScoreTask *task;        /* that the kit was opened for */
  const World *world; /* of single things, of clips where the task's scenes move, in pictures of the kit's size */
  WorldSplit split;             /* whose scenes: pairs kept from training, or unseen scenes of pairs that it shows */
  int64_t count;                /* scenes, at least 1 */
  bool draws;                   /* else the autoencoder alone is scored */
  bool only_draws;              /* the row SCORE_DRAWN, and no others: a fifth of the time of judging clips */
  int64_t
      draws_of_each; /* scene, at least 1: the first is judged, and the one whose pixels are nearest to the truth */
  int threads;                  /* that judge */
  ScoreNetworks *networks;      /* whose figures are wanted, too; NULL: none */
  Ranking *similarity;          /* that says how like their captions they are; NULL: not asked */
  uint64_t seed;                /* of the drawings, as the rest */
  NuwaSampling sample;
  float guidance;
} ScoreRequest;

enum {
  SCORE_TRUE,
  SCORE_REBUILT,
  SCORE_DRAWN,
  SCORE_PIXELS,
  SCORE_SHUFFLED = SCORE_PIXELS,
  SCORE_FROZEN,
  SCORE_BEST,    /* where several are drawn of a scene: that nearest to the truth, */
  SCORE_LIKEST,  /* and that most like the caption, by the network of similarity */
  SCORE_ROWS
};

/* How many of n show what they should, and what else is asked. */
typedef struct ScoreRow {
  SlotScore slots;
  int moves;                    /* of clips: that show some motion of the world */
  double accuracy;              /* share of pixels that show what the scene's labels say; of networks alone */
  double similarity;            /* to the scenes' captions, mean (of clips over frames, too) */
  double frechet;               /* distance of features from those of true renderings of other scenes */
  int n_seen,
      thing_seen; /* of GIVEN_UPPER: scenes of which a third of the thing is given, and of these the thing kept */
} ScoreRow;

typedef struct Scores {
  const ScoreTask *task;
  int64_t count;
  ScoreRow row[SCORE_ROWS];
  bool has_colours, has_accuracy, has_similarity, has_frechet;   /* in these; score_figures.h lists all */
  bool has[SCORE_ROWS];         /* of captions only those drawn, and shuffled */
  double psnr, psnr_box;        /* dB, of reconstructions: over all pixels, and over the things' boxes */
  NuwaGenerateStats stats;      /* of drawing */
  int64_t size, frames; /* of pictures or clips; rgb [count][frames, size, size, 3] of the first three rows, black if
                           not drawn */
  uint8_t *rgb[SCORE_PIXELS];
} Scores;

/* Everything in a (call inside arena_protect).  ERROR_CANCELLED where the kit's target cancels. */
bool score_kit(Kit *k, const ScoreRequest *r, Arena *a, Scores *out, Error *err);
/* Rows of truth, reconstruction and drawing, `columns` scenes wide (at most count), for the scenes that fill their
 * rows, as many as fit a picture; of clips a scene is a row of its frames.  image_done frees it. */
bool score_sheet(const Scores *s, int columns, Arena *a, Image *out, Error *err);

#endif
