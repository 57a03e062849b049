/* Variants of a model: a Lua file that returns a list of tables of options,
 *
 *   return { { "NN", encoder = "nearby", decoder = "nearby" }, { "FF", encoder = "full", decoder = "full" } }
 *
 * each with a name of its own in front, or without one. */
#ifndef NUWA_VARIANTS_H
#define NUWA_VARIANTS_H

#include "frontend/lua/options.h"

enum { VARIANTS_MAX = 10000 };

typedef struct Variant {
  const char *name;   /* NULL: none was given */
  Define *define;     /* sorted by name */
  int n_define;
} Variant;

/* Runs the file in the sandbox; the list in a.  False after err was set, with the file and which variant is wrong. */
bool variants_read(Arena *a, const char *path, Variant **out, int *out_n, Error *err);

#endif
