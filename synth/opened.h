/* A model with its weights, from files or from the parts of a bundle: what a kit opens for each of its models. */
#ifndef NUWA_SYNTH_OPENED_H
#define NUWA_SYNTH_OPENED_H

#include "synth/models.h"

typedef struct Opened {
  const char *path;      /* the weights file; NULL: they are of the bundle */
  const char *where;     /* that, or the bundle's: for messages */
  char digest[65];       /* SHA-256 of the weights file */
  char codes[65];        /* that, or of the file whose codes these weights make (WEIGHTS_CODES) */
  Safetensors *weights;
  const Plan *plan;
  Plan *owned;           /* the plan, where it is not the bundle's */
} Opened;

/* Where models may come from. */
typedef struct OpenedFrom {
  Arena *arena;               /* of paths and completed specs; call inside arena_protect */
  const SynthTarget *target;
  NuwaBundle *bundle;         /* NULL: files alone */
  const char *bundle_path;
} OpenedFrom;

/* Whether the bundle embeds weights of that part. */
bool opened_is_embedded(const OpenedFrom *from, const char *part);
/* Opens the weights of a file, or with path NULL those that the bundle embeds; NaN in them is refused. */
bool opened_weights(Opened *o, const OpenedFrom *from, const char *part, const char *path, Error *err);
/* The bundle's plan of that part where there is one and takes_bundle, else the functions [n] of m, which is completed from the
 * weights.  Weights must be open, and fit. */
bool opened_plan(Opened *o, const OpenedFrom *from, const char *part, ModelSpec *m, bool takes_bundle,
                 const char *const *function, int n, Error *err);
void opened_close(Opened *o);

#endif
