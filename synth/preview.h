/* A drawing while it fills: after each step what is there by then, as numbered PNGs or in a terminal that shows pictures. */
#ifndef NUWA_SYNTH_PREVIEW_H
#define NUWA_SYNTH_PREVIEW_H

#include <stdio.h>

#include "synth/kit.h"

typedef enum PreviewKind { PREVIEW_FILES, PREVIEW_KITTY, PREVIEW_SIXEL } PreviewKind;

typedef struct Preview {
  const Kit *kit;
  PreviewKind kind;
  const char *folder;   /* of files: step-0001.png, ... */
  FILE *to;             /* of terminals */
  uint8_t *rgb;         /* [frames, size, size, 3] */
  int32_t *codes;       /* [positions] */
  int64_t steps, rows;  /* made so far; lines that the last picture took */
  Error err;            /* why it stopped */
} Preview;

/* where: a folder, made as needed; or "terminal": how this one shows pictures, by its environment (kitty's protocol or
 * sixel), an error where it does not.  The kit must outlive it.  False with err set; close it either way. */
bool preview_open(Preview *p, const Kit *k, const char *where, FILE *terminal, Error *err);
void preview_close(Preview *p);
/* Shows the first sample's tokens [positions], -1: none yet, mid-grey.  False with p->err set. */
bool preview_show(Preview *p, const int32_t *tokens);

#endif
