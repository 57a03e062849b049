/* Batches from a data set, for whatever inputs a function has:
 *
 *   tokens, video_tokens  i32 [B, s, h, w]   codes that another model's "encode" gives for the frames
 *   image_tokens          i32 [B, 1, h, w]   the same of the picture
 *   labels_tokens         i32 [B, s, h, w]   of the maps of labels, by an encoder of its own
 *   (without an encoder, arrays of the data)
 *
 * and every other by its name and type from the data's fields (media/dataset.h).  What the trainer feeds (train_feed)
 * is left alone.  All functions of a step read the same examples, which are read once. */
#ifndef NUWA_SOURCE_H
#define NUWA_SOURCE_H

#include "media/dataset.h"
#include "train/trainer.h"

/* "encode" of an autoencoder: image f32 [B, height, width, 3 or 1], or labels i32 [B, height, width] -> codes i32
 * [B, 1, h, w]. */
enum { ENCODER_IMAGE, ENCODER_LABELS, ENCODER_KINDS };
typedef struct Encoder {
  NuwaSession *session; /* with its weights, for `batch` samples */
  const Plan *plan;     /* NULL: there is none */
  int function;
  int64_t labels;       /* that an encoder of maps knows; 0: unknown */
} Encoder;

/* What ids an input of a function takes, as in a DataWant. */
typedef struct SourceIds {
  int function;
  const char *input;
  int64_t ids, ignored;
} SourceIds;

typedef struct SourceOptions {
  const Dataset *data;
  const Dataset
      *eval_data; /* opened whole, for the inputs of function `evaluate`; NULL: these are fed what data hold out */
  int evaluate;
  const Bpe *bpe; /* NULL: no function wants text */
  Encoder encoder[ENCODER_KINDS];
  const SourceIds *ids; /* [n_ids]; of other inputs nothing is known */
  int n_ids;
  int64_t batch; /* largest n of a fill */
  int threads;   /* that load ahead while a run lasts; 0: each batch is loaded when it is asked for */
} SourceOptions;

typedef struct Source Source;

/* Checks every input of the functions against what there is.  The options' objects must outlive the source. */
Source *source_new(const Plan *p, const int *function, int n_function, const SourceOptions *o, Error *err);
void source_free(Source *s); /* NULL is fine */
/* For train_run; valid as long as s. */
TrainSource source_interface(Source *s);

/* A sensible number of threads where nobody says one. */
int source_default_threads(void);

#endif
