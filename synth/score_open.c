/* See score_open.h. */
#include "synth/score_open.h"

#include <inttypes.h>
#include <string.h>

#include "media/dataset.h"
#include "synth/task.h"
#include "synth/weights_file.h"

bool score_choose_task(const ScoreTask *t, const char *tasks, Arena *a, const char **out, Error *err) {
  *out = *tasks ? arena_printf(a, "%s_%s", t->condition, t->target) : NULL;
  if (*out && !task_is_listed(tasks, *out) && t->given == GIVEN_UPPER) *out = "text_image";
  return !*out || task_is_listed(tasks, *out) ||
         error_set(err, ERROR_USAGE, "%s needs a model with the task %s; it has %s", t->name, *out, tasks);
}

bool score_open_kit(Kit *k, const SynthTarget *target, const KitSpec *spec, const ScoreTask *t, Arena *a, Error *err) {
  KitSpec of_task = *spec;
  const char *tasks;
  return kit_list_tasks(target, spec, a, &tasks, err) && score_choose_task(t, tasks, a, &of_task.task, err) &&
         kit_open(k, target, &of_task, true, KIT_PART, err);
}

World *score_open_world(const Kit *k, const ScoreTask *t, const char *data, int64_t things, Arena *a, Error *err) {
  WorldOptions w;
  const Safetensors *weights = k->drawer.weights ? k->drawer.weights : k->codec[CODEC_IMAGE].opened.weights;
  const char *spec = data ? data : weights_file_recipe_text(a, weights, RECIPE_DATA);
  if (!spec || (!data && strncmp(spec, "world", 5) != 0)) spec = "world";
  if (!error_asked(dataset_world_options(spec, &w, err), err)) return NULL;
  w.kinds &= ~(unsigned)(WORLD_SINGLE | WORLD_TWO | WORLD_MOVING);
  w.kinds |= score_task_is_clip(t) ? WORLD_CLIPS : WORLD_SINGLE;
  if (!data && w.size != k->size) w.size = (int)k->size;
  if (things > 0) w.things = (int)things;
  if (w.size != k->size) {
    error_set(err, ERROR_ARGUMENT, "--data %s: pictures of %d pixels, the model's have %" PRId64, spec, w.size,
              k->size);
    return NULL;
  }
  World *world = world_open(&w, err);
  error_asked(world != NULL, err);
  return world;
}
