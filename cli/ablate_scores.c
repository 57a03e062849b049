/* See ablate_scores.h. */
#include "cli/ablate_scores.h"

#include <string.h>

#include "runtime/base/names.h"
#include "synth/score_figures.h"
#include "synth/score_open.h"

enum { COUNT = 256, MOST = 4096 };

void ablate_scores_init(AblateScores *s) {
  *s = (AblateScores){.count = COUNT, .temperature = 1.0, .top_p = 1.0, .guidance = 1.0};
}

int ablate_scores_list(AblateScores *s, Arg *out) {
  const Arg args[] = {
      {"--score", ARG_LIST, "NAME",
       "a task, as of score --task, by which the weights of each run are scored, too; may be given several times",
       &s->tasks, 0, 0, .shapes = RECIPE_SCORES, .without = "--only-drawing"},
      {"--score-count", ARG_INT, "N", "scenes of each (256)", &s->count, 2, MOST, .shapes = RECIPE_SCORE_COUNT,
       .with = "--score"},
      {"--segment", ARG_TEXT, "FILE", "weights of a network that says what pixels show: figure pixels", &s->segment, 0,
       0, .shapes = RECIPE_SEGMENT, .with = "--score"},
      {"--features", ARG_TEXT, "FILE",
       "weights of a network of features: figure frechet, of a network of clips for tasks that draw clips alone",
       &s->features, 0, 0, .shapes = RECIPE_FEATURES, .with = "--score"},
      {"--similarity", ARG_TEXT, "FILE", "weights of models/metrics/clip.lua: figure similarity", &s->similarity, 0, 0,
       .shapes = RECIPE_SIMILARITY, .with = "--score"},
      ARG_CHANCE(s, "--score", NULL),
  };
  memcpy(out, args, sizeof args);
  return COUNT_OF(args);
}

static const ScoreTask *task_at(const AblateScores *s, int i) { return score_task(s->tasks.item[i]); }

static bool draws_pictures(const ScoreTask *t) { return strcmp(t->target, PORT_TEXT) != 0; }

bool ablate_scores_check(const AblateScores *s, Error *err) {
  bool any_draws = false;
  for (int i = 0; i < s->tasks.n; i++) {
    if (!score_task_asked("--score", s->tasks.item[i], err)) return false;
    any_draws |= draws_pictures(task_at(s, i));
    for (int k = 0; k < i; k++)
      if (task_at(s, k) == task_at(s, i))
        return error_set(err, ERROR_USAGE, "--score %s is given twice", s->tasks.item[i]);
  }
  const char *network = s->segment ? "--segment" : s->features ? "--features" : s->similarity ? "--similarity" : NULL;
  if (s->tasks.n && network && !any_draws)
    return error_set(err, ERROR_USAGE, "%s has no effect with --score %s, which draws captions", network,
                     s->tasks.item[0]);
  return cli_check_chance(s->temperature, s->top_k, s->top_p, err);
}

bool ablate_scores_recipe(AblateScores *s, Recipe *r, Error *err) {
  Arg arg[ARGS_MAX];
  return !s->tasks.n || args_recipe(arg, ablate_scores_list(s, arg), r, err);
}

/* ---- what is opened ---- */

static int64_t frames_of(const ScoreTask *t) { return score_task_is_clip(t) ? WORLD_FRAMES : 1; }

static bool uses_features(const AblateScores *s, const ScoreTask *t) {
  return draws_pictures(t) && score_networks_see(&s->networks, frames_of(t));
}

static bool check_features(const AblateScores *s, Error *err) {
  for (int i = 0; i < s->tasks.n; i++)
    if (uses_features(s, task_at(s, i))) return true;
  return error_set(err, ERROR_USAGE, "--features %s: sees clips of other lengths than any task of --score draws",
                   s->features);
}

bool ablate_scores_open(AblateScores *s, const SynthTarget *t, int threads, Error *err) {
  s->target = t;
  s->threads = threads;
  return score_networks_open(&s->networks, t, s->segment, s->features, err) &&
         (!s->features || check_features(s, err)) &&
         (!s->similarity || ranking_open(&s->ranking, t, s->similarity, err));
}

void ablate_scores_close(AblateScores *s) {
  score_networks_close(&s->networks);
  ranking_close(&s->ranking);
}

bool ablate_scores_check_model(const AblateScores *s, const Model *model, Arena *a, Error *err) {
  const char *tasks = models_list_tasks(model, a), *name;
  Error none;
  if (s->tasks.n && !*tasks && !model_find_decode(model, FUNC_DECODE, &none))
    return error_set(err, ERROR_USAGE, "--score: it draws nothing token by token (decode)");
  for (int i = 0; i < s->tasks.n; i++)
    if (!score_choose_task(task_at(s, i), tasks, a, &name, err)) return error_prefix(err, "--score");
  return true;
}

/* ---- one task of a run ---- */

typedef struct TaskScoring {
  AblateScores *of;
  const ScoreTask *task;
  KitSpec spec;
  Arena *arena;              /* of all its pictures: gone before the next task */
  Kit kit;
  World *world;
  Scores scores;
  Error *err;
  bool ok;
} TaskScoring;

static void score_body(void *ctx) {
  TaskScoring *c = ctx;
  AblateScores *s = c->of;
  ScoreNetworks networks = s->networks;
  if (!uses_features(s, c->task)) networks.features = (Single){0};
  if (!score_open_kit(&c->kit, s->target, &c->spec, c->task, c->arena, c->err) ||
      !(c->world = score_open_world(&c->kit, c->task, NULL, 0, c->arena, c->err)))
    return;
  const ScoreRequest r = {.task = c->task,
                          .world = c->world,
                          .split = WORLD_HELD_OUT,
                          .count = s->count,
                          .draws = true,
                          .only_draws = true,
                          .draws_of_each = 1,
                          .threads = s->threads,
                          .networks = &networks,
                          .similarity = s->similarity ? &s->ranking : NULL,
                          .sample = {(float)s->temperature, (int)s->top_k, (float)s->top_p},
                          .guidance = (float)s->guidance};
  c->ok = score_kit(&c->kit, &r, c->arena, &c->scores, c->err);
}

static void say_scores(const Scores *s) {
  const char *between = "";
  fprintf(stderr, "%s ", s->task->name);
  for (ScoreFigureId i = 0; i < SCORE_FIGURES; i++) {
    const ScoreFigure *f = score_figure(i);
    if (!score_has_figure(s, i)) continue;
    fprintf(stderr, "%s %s %.*f%s", between, f->name, f->digits, score_figure_value(s, SCORE_DRAWN, i), f->unit);
    between = ",";
  }
  fputc('\n', stderr);
}

static bool score_task_of(AblateScores *s, const ScoreTask *t, const KitSpec *spec, Arena *a, Metric *out,
                          int *n, Error *err) {
  TaskScoring c = {.of = s, .task = t, .spec = *spec, .arena = arena_new(), .err = err};
  bool ok = c.arena ? arena_protect(c.arena, score_body, &c, err) && c.ok
                    : error_set(err, ERROR_MEMORY, "out of memory");
  kit_close(&c.kit);
  world_close(c.world);
  arena_free(c.arena);
  if (!ok) return error_prefix(err, "--score %s", t->name);
  say_scores(&c.scores);
  *n = score_metrics(&c.scores, a, out);
  return true;
}

bool ablate_scores_measure(AblateScores *s, const TrainingSpec *spec, const char *weights, Arena *a,
                           Metric **out, int *out_n, Error *err) {
  KitSpec kit = {.weights = weights};
  memcpy(kit.codec, spec->codec, sizeof kit.codec);
  *out = ARENA_ARRAY(a, Metric, s->tasks.n * SCORE_FIGURES);
  *out_n = 0;
  for (int i = 0, n; i < s->tasks.n; i++, *out_n += n)
    if (!score_task_of(s, task_at(s, i), &kit, a, *out + *out_n, &n, err)) return false;
  return true;
}
