/* Which of a model's tasks a request is for. */
#ifndef NUWA_SYNTH_TASK_H
#define NUWA_SYNTH_TASK_H

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

/* What is said of a drawing. */
typedef struct TaskWish {
  const char *task;      /* by name; NULL: it follows from the rest */
  bool has_text, has_sketch, has_class;
  bool is_sketch_clip;         /* the sketch has frames */
  bool has_image, has_video;   /* given, to be completed */
  const char *out;       /* where to: .png a picture, .gif and .mp4 a clip, .webp either; NULL: nowhere */
} TaskWish;

/* Whether a name is one of those that spaces separate. */
bool task_is_listed(const char *tasks, const char *name);
/* tasks: those of the model, with spaces between.  *out in a: one of them, or NULL for the model's `decode` where it
 * has none. What the wish says of conditions must fit; a task "none_*" that the model lacks is one of text without a
 * caption.  False with err set, ERROR_USAGE: the model does not draw that, or two conditions exclude each other. */
bool task_choose(const char *tasks, const TaskWish *w, Arena *a, const char **out, Error *err);

#endif
