/* See score_figures.h. */
#include "synth/score_figures.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/names.h"

static const ScoreFigure figures[SCORE_FIGURES] = {
    [FIGURE_THING] = {"thing", "thing", " %", 1, 2, false},
    [FIGURE_PLACE] = {"place", "place", " %", 1, 2, false},
    [FIGURE_BACKGROUND] = {"background", "background", " %", 1, 2, false},
    [FIGURE_COLOUR] = {"colour", "colour", " %", 1, 2, false},
    [FIGURE_MOTION] = {"motion", "motion", " %", 1, 2, false},
    [FIGURE_MOVES] = {"some motion", "moves", " %", 1, 2, false},
    [FIGURE_ALL] = {"all", "all", " %", 1, 2, false},
    [FIGURE_PIXELS] = {"pixels", "pixels", "", 4, 6, false},
    [FIGURE_SIMILARITY] = {"similarity", "similarity", "", 4, 6, false},
    [FIGURE_FRECHET] = {"Frechet distance", "frechet", "", 3, 6, true},
};

const ScoreFigure *score_figure(ScoreFigureId id) { return &figures[id]; }

bool score_has_figure(const Scores *s, ScoreFigureId id) {
  bool is_clip = score_task_is_clip(s->task), draws_words = strcmp(s->task->target, PORT_TEXT) == 0;
  switch (id) {
  case FIGURE_COLOUR: return s->has_colours;
  case FIGURE_MOTION: return is_clip;
  case FIGURE_MOVES: return is_clip && !draws_words;
  case FIGURE_PIXELS: return s->has_accuracy;
  case FIGURE_SIMILARITY: return s->has_similarity;
  case FIGURE_FRECHET: return s->has_frechet;
  default: return true;
  }
}

static double percent(const ScoreRow *r, int part) { return r->slots.n ? 100.0 * part / r->slots.n : 0.0; }

double score_figure_value(const Scores *s, int row, ScoreFigureId id) {
  const ScoreRow *r = &s->row[row];
  switch (id) {
  case FIGURE_THING: return percent(r, r->slots.thing);
  case FIGURE_PLACE: return percent(r, r->slots.place);
  case FIGURE_BACKGROUND: return percent(r, r->slots.background);
  case FIGURE_COLOUR: return percent(r, r->slots.colour);
  case FIGURE_MOTION: return percent(r, r->slots.motion);
  case FIGURE_MOVES: return percent(r, r->moves);
  case FIGURE_ALL: return percent(r, r->slots.all);
  case FIGURE_PIXELS: return r->accuracy;
  case FIGURE_SIMILARITY: return r->similarity;
  case FIGURE_FRECHET: return row == SCORE_SHUFFLED ? NAN : r->frechet;   /* the same drawings */
  default: return NAN;
  }
}

int score_metrics(const Scores *s, Arena *a, Metric out[SCORE_FIGURES]) {
  int n = 0;
  for (ScoreFigureId i = 0; i < SCORE_FIGURES; i++)
    if (score_has_figure(s, i))
      out[n++] = (Metric){arena_printf(a, "%s.%s", s->task->name, figures[i].key),
                          score_figure_value(s, SCORE_DRAWN, i)};
  return n;
}

const ScoreFigure *score_figure_of_metric(const char *metric) {
  char task[8];
  size_t n = strcspn(metric, ".");
  snprintf(task, sizeof task, "%.*s", (int)n, metric);
  for (ScoreFigureId i = 0; metric[n] && score_task(task) && i < SCORE_FIGURES; i++)
    if (strcmp(metric + n + 1, figures[i].key) == 0) return &figures[i];
  return NULL;
}
