/* Captions of pictures and clips: word by word, with how sure the model is of each. */
#ifndef NUWA_SYNTH_DESCRIPTION_H
#define NUWA_SYNTH_DESCRIPTION_H

#include "media/world.h"
#include "synth/kit.h"

typedef struct DescriptionWord {
  const char *text;
  double chance;        /* product over its tokens */
} DescriptionWord;

typedef struct Description {
  const char *caption;  /* in the arena, as all of it */
  double chance;        /* of the whole caption, its end included */
  DescriptionWord *word;
  int n_word;
} Description;

/* Whether a file is a clip, of more than one frame; false with err->code ERROR_NONE: it is a picture (or nothing that
 * is read, which reading it as one says). */
bool description_is_clip(const char *path, Error *err);

/* Captions of n pictures or clips, rgb [n, codes_grid[0], size, size, 3] of the kit's size.  The kit draws words of
 * image_tokens or video_tokens.  out [n]; in a. */
bool description_make(Kit *k, Arena *a, const uint8_t *rgb, int64_t n, uint64_t seed, NuwaSampling sample,
                      Description *out, Error *err);

/* A slot of the world's captions (world.h) in a description: its value as the caption says it, and the product over
 * its words. */
typedef struct DescriptionSlot {
  const char *name, *value;
  double chance;
} DescriptionSlot;
enum { DESCRIPTION_SLOTS = 5 };
/* thing, place, background, and where the caption says them colour and motion.  Their number; 0: no caption of the
 * world. */
int description_slots(const Description *d, const World *w, Arena *a, DescriptionSlot out[DESCRIPTION_SLOTS]);

#endif
