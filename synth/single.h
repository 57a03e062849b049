/* One function of a model with its weights, open to be called: all that is needed of a model that draws by one
 * function, or that tells features of pictures. */
#ifndef NUWA_SYNTH_SINGLE_H
#define NUWA_SYNTH_SINGLE_H

#include "synth/models.h"

typedef struct Single {
  Arena *arena;
  const char *name;   /* of the file that the weights are from */
  NuwaBundle *bundle; /* that the plan is of, or NULL */
  Safetensors *weights;
  char digest[65]; /* SHA-256 of the weights file */
  const Plan *plan;
  Plan *owned;
  NuwaSession *session;
  const PlanFunction *f; /* NULL: the model has no such function, and nothing else is open */
  int function;          /* of plan */
} Single;

/* Opens the first of the names that the model has a function of.  m: which model; where its path is NULL the weights
 * say.  weights: a file; NULL: those that m, a bundle, embeds; one that embeds none has no such function for this.
 * samples: the most of a call.  The target must outlive s.  False with err set; close s either way. */
bool single_open(Single *s, const SynthTarget *t, const ModelSpec *m, const char *weights, const char *const *names,
                 int n_names, int64_t samples, Error *err);
void single_close(Single *s);
/* Runs it on B samples. */
bool single_run(Single *s, int64_t B, Error *err);

/* Whether it is f32 [B, height, width, 1 or 3], of constant sizes. */
bool single_is_picture(const PlanTensor *t);
/* Pictures [n, height, width, 3] of 8 bits as such a port holds them, and back. */
void single_put_pictures(const PlanTensor *t, const uint8_t *rgb, int64_t n, float *out);
void single_get_pictures(const PlanTensor *t, const float *values, int64_t n, uint8_t *out_rgb);

#endif
