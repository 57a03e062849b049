/* See task.h. */
#include "synth/task.h"

#include <string.h>

#include "runtime/base/file.h"
#include "runtime/base/names.h"

bool task_is_listed(const char *tasks, const char *name) {
  size_t n = strlen(name);
  for (const char *p = tasks; *p;) {
    size_t len = strcspn(p, " ");
    if (len == n && memcmp(p, name, n) == 0) return true;
    p += len + (p[len] == ' ');
  }
  return false;
}

/* "image" or "video", or NULL: either. */
static const char *target_of(const TaskWish *w) {
  if (w->has_video || w->is_sketch_clip) return PORT_VIDEO;
  if (w->out && (file_has_ending(w->out, ".gif") || file_has_ending(w->out, ".mp4"))) return PORT_VIDEO;
  return w->has_sketch || (w->out && file_has_ending(w->out, ".png")) ? PORT_IMAGE : NULL;
}

static const char *condition_of(const TaskWish *w) {
  return w->has_sketch ? "sketch" : w->has_class ? "class" : w->has_text ? "text" : "none";
}

static bool check_conditions(const char *tasks, const TaskWish *w, Error *err) {
  const char *both = w->has_sketch && w->has_text ? "--sketch and --text"
                     : w->has_sketch && w->has_class ? "--sketch and --class"
                     : *tasks && w->has_text && w->has_class ? "--text and --class"
                                                     : NULL;
  if (both) return error_set(err, ERROR_USAGE, "%s exclude each other: a drawing has one condition", both);
  return !w->has_sketch || !(w->has_image || w->has_video) ||
         error_set(err, ERROR_USAGE, "--sketch and %s exclude each other: a sketch says all of the drawing",
                   w->has_image ? "--image" : "--video");
}

/* The task of that condition and target that the model has; also of text without a caption, and of clips for
 * pictures. */
static const char *find(const char *tasks, const char *condition, const char *target, bool completes, Arena *a) {
  const char *name = arena_printf(a, "%s_%s", condition, target);
  if (task_is_listed(tasks, name)) return name;
  if (completes && strcmp(condition, "none") == 0 && task_is_listed(tasks, name = arena_printf(a, "text_%s", target)))
    return name;
  return NULL;
}

static bool check_named(const char *tasks, const TaskWish *w, Error *err) {
  if (!task_is_listed(tasks, w->task))
    return error_set(err, ERROR_USAGE, "--task %s: the model has %s%s", w->task,
                     *tasks ? "the tasks " : "no tasks, but one drawing", tasks);
  const char *condition = condition_of(w);
  size_t n = strlen(condition);
  bool fits = strncmp(w->task, condition, n) == 0 && w->task[n] == '_';
  if (!fits && (strcmp(condition, "none") != 0 || strncmp(w->task, "text_", 5) != 0 || !(w->has_image || w->has_video)))
    return error_set(err, ERROR_USAGE, "--task %s, but what is given is %s", w->task,
                     strcmp(condition, "none") == 0 ? "no condition" : condition);
  const char *target = target_of(w), *its = strchr(w->task, '_') + 1;
  bool may_be_frames =
      target && strcmp(target, PORT_IMAGE) == 0 && strcmp(its, PORT_VIDEO) == 0; /* a picture a frame */
  return !target || strcmp(target, its) == 0 || may_be_frames ||
         error_set(err, ERROR_USAGE, "--task %s gives a%s, and %s is for a%s", w->task,
                   its[0] == 'i' ? " picture" : " clip",
                   w->has_video        ? "--video"
                   : w->is_sketch_clip ? "--sketch"
                                       : w->out,
                   target[0] == 'i' ? " picture" : " clip");
}

bool task_choose(const char *tasks, const TaskWish *w, Arena *a, const char **out, Error *err) {
  if (!check_conditions(tasks, w, err)) return false;
  *out = w->task;
  if (w->task) return check_named(tasks, w, err);
  if (!*tasks) return true;
  const char *target = target_of(w), *condition = condition_of(w);
  bool completes = w->has_image || w->has_video;
  const char *image = find(tasks, condition, PORT_IMAGE, completes, a),
             *video = find(tasks, condition, PORT_VIDEO, completes, a);
  if (!target && image && video)
    return error_set(err, ERROR_USAGE, "a picture or a clip?  Name the task: --task %s or --task %s", image, video);
  if (target && strcmp(target, PORT_VIDEO) == 0) *out = video;
  else *out = image ? image : video;
  return *out || error_set(err, ERROR_USAGE, "the model draws %s; of %s%s nothing, for which it would need %s_%s",
                           tasks, strcmp(condition, "none") == 0 ? "no condition" : condition,
                           target ? target[0] == 'i' ? " a picture" : " a clip" : "", condition,
                           target ? target : PORT_IMAGE);
}
