/* What a task is scored with: a kit of weights that does it, and the world whose scenes it is asked for. */
#ifndef NUWA_SYNTH_SCORE_OPEN_H
#define NUWA_SYNTH_SCORE_OPEN_H

#include "synth/score.h"

/* Which of a model's tasks ("text_image sketch_video", "" where it has none) a kit does t with; *out NULL: its
 * `decode`.  In a.  False with err set: it has none. */
bool score_choose_task(const ScoreTask *t, const char *tasks, Arena *a, const char **out, Error *err);
/* Opens what spec names, for the task.  False with err set (kit then holds nothing). */
bool score_open_kit(Kit *k, const SynthTarget *target, const KitSpec *spec, const ScoreTask *t, Arena *a, Error *err);
/* A world of scenes as the task wants them: of data, "world:OPTIONS", or with NULL the one that the kit's weights were
 * trained on; of so many things, 0: as it says.  NULL after err was set. */
World *score_open_world(const Kit *k, const ScoreTask *t, const char *data, int64_t things, Arena *a, Error *err);

#endif
