/* A kit: what drawing takes. A generating model with its text encoder, the codecs of its codes, and all their
 * weights. */
#ifndef NUWA_SYNTH_KIT_H
#define NUWA_SYNTH_KIT_H

#include "media/image.h"
#include "runtime/text/bpe.h"
#include "synth/codec.h"

typedef struct KitSpec {
  ModelSpec model;                /* its path may be NULL: taken from the weights */
  const char *weights;            /* NULL: the shipped ones */
  CodecSpec codec[CODEC_KINDS];   /* without weights: those that the generating model was trained with, or the shipped ones */
  const char *task;               /* one of the module's `tasks`, "sketch_video"; NULL: its `decode` */
  /* Where model is an application (a bundle with a plan "drawer"), what is NULL is taken from that. */
} KitSpec;

/* Without a generating model: drawer is empty, bpe NULL, and the grid is that of one picture. */
typedef struct Kit {
  Arena *arena;                 /* defines and paths */
  NuwaBundle *bundle;           /* the application that these are of, or NULL */
  Opened drawer;
  Codec codec[CODEC_KINDS];     /* of labels only where the task reads or gives some */
  Bpe *bpe;
  int decode;                   /* of the drawer's plan */
  int64_t size;                 /* of pictures: their side */
  int64_t text_tokens;          /* that the model reads; 0: it draws of no text */
  int64_t classes;              /* 0: of no class */
  const char *codes_input;      /* "labels_tokens", "image_tokens" or "video_tokens": the codes that it draws of; NULL: none */
  int64_t codes_grid[3];
  int64_t grid[3], positions;   /* of what is drawn */
  bool draws_words;             /* else codes of pictures */
  const SynthTarget *target;    /* of the drawer's sessions, */
  SynthTarget codes_target;     /* and of the codecs' */
} Kit;

/* Loads everything, or the codec of images alone (draws false); `samples`: pictures a codec takes at once, 0: it only
 * describes.  The target must outlive the kit.  False with err set (kit then holds nothing). */
bool kit_open(Kit *k, const SynthTarget *t, const KitSpec *spec, bool draws, int64_t samples, Error *err);
void kit_close(Kit *k);
/* The tasks of a model, or of the weights that spec names, as names with a space between; "" where it has none.  In a. */
bool kit_list_tasks(const SynthTarget *t, const KitSpec *spec, Arena *a, const char **out, Error *err);
/* What of a drawing's recipe follows from the kit. */
void kit_recipe(const Kit *k, Recipe *r);

enum { KIT_PART = 64 };          /* most samples that are drawn at once, and pictures that the autoencoder takes */

/* Says which words of a caption the weights' captions never had, and where it is cut because it is too long; refuses one that is
 * in another language. */
bool kit_check_caption(const Kit *k, const char *text, Error *err);

typedef struct KitRequest {
  const char *const *text;      /* [count]; NULL: none */
  int32_t class;                /* of all; -1: none */
  const int32_t *codes;         /* [count][codes_grid]; NULL: none */
  int64_t count, first;         /* samples first, first + 1, ... of the seed */
  int64_t at_once;              /* samples drawn together, 0: KIT_PART.  The same tokens whatever it is */
  uint64_t seed;
  NuwaSampling sample;
  float guidance;
  bool raster;
  float *chance;                /* [count][positions] as of NuwaGenerate; NULL: not wanted */
  const uint8_t *given;         /* [positions] or NULL */
  const int32_t *given_tokens;  /* [count][positions] */
  /* Called after each step of drawing with the tokens of samples [first, first + n) of the request, -1 where there is none
   * yet; may be NULL. */
  bool (*step)(void *ctx, const int32_t *tokens, int64_t first, int64_t n);
  /* Called when samples [first, first + n) of the request are drawn; may be NULL. */
  bool (*finished)(void *ctx, int64_t first, int64_t n, Error *err);
  void *ctx;
} KitRequest;

/* tokens [count][positions]; stats: steps and live of one part, the rest of all.  The target hears of progress and
 * may cancel: *out_done samples are finished then, and nothing has failed. */
bool kit_generate(Kit *k, const KitRequest *r, int32_t *tokens, NuwaGenerateStats *stats, int64_t *out_done,
                  Error *err);

#endif
