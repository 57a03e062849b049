/* See painter.h. */
#include "synth/painter.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/names.h"
#include "train/trainer.h"

static const char *const none_first[] = {FUNC_TASKS "." TASK_NONE, FUNC_TASKS "." TASK_CLASS};
static const char *const class_first[] = {FUNC_TASKS "." TASK_CLASS, FUNC_TASKS "." TASK_NONE};

static bool is_class(const PlanTensor *t) {
  return strcmp(t->name, PORT_CLASS) == 0 && t->dtype == DTYPE_I32 && t->rank == 1;
}

static bool check_ports(Painter *p, Error *err) {
  const PlanFunction *f = p->single.f;
  for (int i = 0; i < f->n_in; i++)
    if (!train_feeds(&f->in[i]) && !is_class(&f->in[i]))
      return error_set(err, ERROR_ARGUMENT,
                       "%s: \"%s\" has an input \"%s\", which nothing here gives: it may have %s i32[batch]",
                       p->single.name, f->name, f->in[i].name, PORT_CLASS);
  p->image = plan_find_output(f, PORT_IMAGE);
  if (!p->image || !single_is_picture(p->image))
    return error_set(err, ERROR_ARGUMENT, "%s: \"%s\" must give %s f32[batch, h, w, 1 or 3]", p->single.name, f->name,
                     PORT_IMAGE);
  p->height = p->image->dim[1].c;
  p->width = p->image->dim[2].c;
  return true;
}

static bool check_class(Painter *p, int64_t class, Error *err) {
  const char *classes = plan_text(p->single.plan, PLAN_TEXT_FIELD MODEL_CLASSES);
  if (!plan_find_input(p->single.f, PORT_CLASS))
    return class < 0 || error_set(err, ERROR_USAGE, "%s draws of no class", p->single.name);
  p->classes = classes ? strtoll(classes, NULL, 10) : 0;
  if (p->classes < 1)
    return error_set(err, ERROR_ARGUMENT,
                     "%s: \"%s\" draws of a class, and the module does not say how many there are:  %s = N",
                     p->single.name, p->single.f->name, MODEL_CLASSES);
  return class == PAINTER_ANY_CLASS || (class >= 0 && class < p->classes) ||
         error_set(err, ERROR_USAGE, "%s draws of a class from 0 to %lld, not of %s", p->single.name,
                   (long long)p->classes - 1, class < 0 ? "none" : "another");
}

bool painter_open(Painter *p, const SynthTarget *t, const ModelSpec *m, const char *weights, int64_t class,
                  Error *err) {
  *p = (Painter){0};
  if (!single_open(&p->single, t, m, weights, class < 0 ? none_first : class_first, COUNT_OF(none_first),
                   PAINTER_PART, err))
    return false;
  p->is_one = p->single.f != NULL;
  return !p->is_one || (check_ports(p, err) && check_class(p, class, err));
}

void painter_close(Painter *p) {
  single_close(&p->single);
  *p = (Painter){0};
}

bool painter_draw(Painter *p, uint64_t seed, int64_t first, int64_t n, const int32_t *class, uint8_t *rgb,
                  Error *err) {
  Single *s = &p->single;
  BUG_IF(n > PAINTER_PART, "more than a part");
  train_feed(s->session, s->plan, s->function, seed, 0, 0, (uint64_t)first, n);
  if (p->classes) memcpy(nuwa_input(s->session, s->function, PORT_CLASS), class, (size_t)n * sizeof *class);
  if (!single_run(s, n, err)) return false;
  single_get_pictures(p->image, nuwa_output(s->session, s->function, PORT_IMAGE), n, rgb);
  return true;
}

void painter_recipe(const Painter *p, Recipe *r) {
  recipe_set_plan(r, p->single.plan);
  recipe_set_text(r, RECIPE_WEIGHTS, p->single.digest);
}
