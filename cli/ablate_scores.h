/* Scores of tasks as metrics of a sweep's runs: the options that say which, and how they are had of a run's weights. */
#ifndef NUWA_CLI_ABLATE_SCORES_H
#define NUWA_CLI_ABLATE_SCORES_H

#include "cli/cli.h"
#include "synth/ranking.h"
#include "synth/score_networks.h"
#include "synth/training.h"

typedef struct AblateScores {
  ArgList tasks;             /* n 0: nothing is scored */
  int64_t count, top_k;
  double temperature, top_p, guidance;
  const char *segment, *features, *similarity;
  const SynthTarget *target; /* from ablate_scores_open on, with what these files hold */
  int threads;
  ScoreNetworks networks;
  Ranking ranking;
} AblateScores;

/* As it is when nobody says otherwise. */
void ablate_scores_init(AblateScores *s);
/* The options, to be read into s; their number. */
int ablate_scores_list(AblateScores *s, Arg *out);
/* Refuses values that are none, and options that no task has a use for. */
bool ablate_scores_check(const AblateScores *s, Error *err);
/* Adds all that shapes the scores to a recipe. */
bool ablate_scores_recipe(AblateScores *s, Recipe *r, Error *err);
/* Opens the networks; the target must outlive s.  Close it either way. */
bool ablate_scores_open(AblateScores *s, const SynthTarget *t, int threads, Error *err);
void ablate_scores_close(AblateScores *s);
/* Whether a model draws what the tasks ask for.  In a. */
bool ablate_scores_check_model(const AblateScores *s, const Model *model, Arena *a, Error *err);
/* Scores weights that the spec trained as `nuwa score --task NAME --weights FILE` does; metrics in a.  Says on stderr what
 * came of each task. */
bool ablate_scores_measure(AblateScores *s, const TrainingSpec *spec, const char *weights, Arena *a,
                           Metric **out, int *out_n, Error *err);

#endif
