/* Drawing again by the recipe in a file: its values into a command's options, and that nothing else has changed. */
#ifndef NUWA_CLI_REPLAY_H
#define NUWA_CLI_REPLAY_H

#include "cli/cli.h"

typedef struct Replay {
  const char *file, *recipe;   /* in the command's arena */
} Replay;

/* Reads the recipe in a PNG, GIF, WebP or MP4 and sets the options that shape a drawing as it says; *out_sample is which of the
 * seed it was.  Weights that kit does not name are looked for by digest, beside the file and among the shipped ones. */
bool replay_read(const char *path, const Arg *arg, int n, KitArgs *kit, int64_t *out_sample, Arena *a, Replay *out, Error *err);
/* Whether the recipe of what is about to be drawn is the file's: another input file, other weights or another device give
 * other bytes, and are refused by name.  Input files that lie elsewhere by now keep the paths that they had. */
bool replay_check(const Replay *r, Recipe *now, Error *err);

#endif
