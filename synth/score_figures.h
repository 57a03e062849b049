/* What scores say, figure by figure: which of them a task has, what they are called, and what they are. */
#ifndef NUWA_SYNTH_SCORE_FIGURES_H
#define NUWA_SYNTH_SCORE_FIGURES_H

#include "media/events.h"
#include "synth/score.h"

typedef enum ScoreFigureId {
  FIGURE_THING,
  FIGURE_PLACE,
  FIGURE_BACKGROUND,
  FIGURE_COLOUR,
  FIGURE_MOTION,
  FIGURE_MOVES,
  FIGURE_ALL,
  FIGURE_PIXELS,
  FIGURE_SIMILARITY,
  FIGURE_FRECHET,
  SCORE_FIGURES
} ScoreFigureId;

typedef struct ScoreFigure {
  const char *name, *key;    /* for people: "some motion"; in JSON and of metrics: "moves" */
  const char *unit;          /* behind the number: " %", or "" */
  int digits, exact_digits;  /* behind the point: for people, in JSON */
  bool less_is_better;
} ScoreFigure;

const ScoreFigure *score_figure(ScoreFigureId id);
/* Whether the scores have it; and what it is in a row, of slots a percentage, NAN where that row has none. */
bool score_has_figure(const Scores *s, ScoreFigureId id);
double score_figure_value(const Scores *s, int row, ScoreFigureId id);

/* All figures of the drawings as metrics "s2v.thing", in a; their number. */
int score_metrics(const Scores *s, Arena *a, Metric out[SCORE_FIGURES]);
/* What the metric of that name is; NULL: it is no score. */
const ScoreFigure *score_figure_of_metric(const char *metric);

#endif
