/* Drawing by a plain function, as GANs and VAEs do: a function of the module's `tasks` that gives `image` from random
 * numbers alone ("none_image"), or of a class too ("class_image"). */
#ifndef NUWA_SYNTH_PAINTER_H
#define NUWA_SYNTH_PAINTER_H

#include "synth/recipe.h"
#include "synth/single.h"

typedef struct Painter {
  Single single;
  const PlanTensor *image; /* of its outputs */
  int64_t height, width;
  int64_t classes; /* that may be asked for; 0: it draws of none */
  bool is_one;     /* else the model draws by none of these, and nothing is open */
} Painter;

enum { PAINTER_PART = 64 };                             /* pictures drawn at once */
enum { PAINTER_NO_CLASS = -1, PAINTER_ANY_CLASS = -2 }; /* to draw of; any: whether it draws of one or not */

/* Opens what the weights, or the bundle m, draw by, of that class (weights and m: as of single_open).  A model
 * without such a task is no error: is_one is false then.  False with err set; close p either way. */
bool painter_open(Painter *p, const SynthTarget *t, const ModelSpec *m, const char *weights, int64_t class,
                  Error *err);
void painter_close(Painter *p);

/* Pictures first ... first + n - 1 of a seed, n up to PAINTER_PART, each the same whatever else is drawn.  class [n];
 * not read where it draws of none.  rgb [n, height, width, 3]. */
bool painter_draw(Painter *p, uint64_t seed, int64_t first, int64_t n, const int32_t *class, uint8_t *out_rgb,
                  Error *err);
/* What of a drawing's recipe follows from the painter. */
void painter_recipe(const Painter *p, Recipe *r);

#endif
