/* What a trainer reads: examples of a data set, as a function's inputs want them.
 *
 * A data set gives fields by name: "image" and "video" (pictures), "labels" (what each pixel shows), "text"
 * (captions), "class", and arrays under names of their own.  It is one of
 *
 *   world, world:clips,size=64,things=64    scenes drawn when asked for (world.h): endless
 *   FOLDER, FOLDER:fps=8,short=hold         pictures, clips and what lies beside them (dataset_folder.c)
 *   shards-{000..031}.tar, with options     members of tar files (dataset_shards.c)
 *   FILE.safetensors                        arrays [n, ...] of one n
 *   idx:PREFIX                              PREFIX-images-idx3-ubyte and PREFIX-labels-idx1-ubyte, gzipped or not
 *
 * The option "flip" (FOLDER:flip) of all but the world mirrors pictures, left to right, in half of the examples of each
 * epoch of training, with their maps of labels.
 *
 * Every example has a key: its path without suffix, its tar key, or its number.  One key in DATA_HELD_OUT_OF, by its hash,
 * is kept from training as validation.  A part is read as the endless sequence of its epochs, each a permutation that
 * is computed (epoch.h): what stands at a position is a function of (data, seed, part, position), so that a run that
 * resumes at a position reads what it would have read.  Of the world a position is a scene.
 *
 * Reading changes nothing but what has been told of broken files: any number of threads may read at once. */
#ifndef NUWA_DATASET_H
#define NUWA_DATASET_H

#include "media/world.h"
#include "runtime/base/safetensors.h"
#include "runtime/text/bpe.h"

enum { DATA_ANY = -1, DATA_HELD_OUT_OF = 20, DATA_MAX_FIELDS = 64 };

typedef struct Dataset Dataset;

typedef struct DatasetOptions {
  uint64_t seed;                      /* of the order of examples, and of what is drawn among captions */
  bool whole;                         /* nothing is held out: what measures the model is another data set */
  bool measures;                      /* nothing is mirrored: a model is measured on what there is */
  bool in_order;                      /* epochs are the listing itself, for people who look */
  bool strict;                        /* a broken example is an error, else the next one stands in for it */
  bool allow_missing;                 /* a picture without a caption has an empty one, else that is refused */
  const char *names_path, *font_path; /* of the world; NULL: Debian's */
  const char *cache;                  /* folder of listings, made as needed; NULL: none are kept (listing.h) */
  void (*warn)(void *ctx,
               const char *text); /* told once of each broken example; may be NULL, may be called by any thread */
  void *warn_ctx;
} DatasetOptions;

/* NULL with err set, ERROR_ARGUMENT where the spec itself is wrong.  The options' texts must outlive the data set. */
Dataset *dataset_open(const char *spec, const DatasetOptions *o, Error *err);
void dataset_close(Dataset *d); /* NULL is fine */

/* How a field fits an input. */
typedef enum DataFit {
  FIT_PICTURE, /* f32 in [-1, 1] or u8, 3 channels or 1 (grey); resized and cropped where a size is DATA_ANY */
  FIT_LABELS,  /* i32; nearest where a size is DATA_ANY */
  FIT_TEXT,    /* i32 [words]: start, tokens, end, zeros; u8 [words] for "text_mask": 1, but 0 behind the end */
  FIT_CLASS,   /* i32 [] */
  FIT_ARRAY,   /* exactly these sizes; any element type that holds its numbers (convert.h) */
} DataFit;

typedef struct DataField {
  const char *name;
  DataFit fit;
  StoredType stored; /* of FIT_ARRAY */
  int rank;
  int64_t dim[TENSOR_MAX_RANK]; /* of one example */
  uint64_t missing;             /* examples that lack it */
  uint64_t first_missing;       /* number of the first of these */
} DataField;

/* The options that a spec "world" or "world:OPTIONS" says. */
bool dataset_world_options(const char *spec, WorldOptions *out, Error *err);
const char *dataset_spec(const Dataset *d);
const DataField *dataset_fields(const Dataset *d, int *out_n);
/* "image f32 or u8 [any, any, 3 or 1]" */
void dataset_print_field(const DataField *f, Buffer *out);
/* Examples of a part; 0: none, or without end (dataset_is_endless). */
uint64_t dataset_count(const Dataset *d, WorldSplit part);
bool dataset_is_endless(const Dataset *d);
/* Classes, and the name of one, NULL where they have none.  Names are sorted (the world's: in the order of things).
 */
int dataset_class_count(const Dataset *d);
const char *dataset_class_name(const Dataset *d, int i);
/* What opening found and left out, as lines; appended. */
void dataset_print_notes(const Dataset *d, Buffer *out);
/* SHA-256, in hexadecimal, of all that its examples follow from, wherever it lies: its options, and of its listing the names and sizes of files and captions, the bytes of arrays. */
const char *dataset_digest(const Dataset *d);
/* NULL where d is not the world. */
const World *dataset_world(const Dataset *d);

/* What one input wants of every example. */
typedef struct DataWant {
  const char *name;
  DType dtype;
  int rank;
  int64_t dim[TENSOR_MAX_RANK]; /* of one example */
  void *out;                    /* [n, ...] of a fill */
  int64_t ids, ignored;         /* of i32: 0 ... ids - 1 or `ignored`, else it is refused; ids is 0: whatever */
  const DataField *field;       /* dataset_match sets it */
} DataWant;

/* Bytes of one example. */
size_t data_want_bytes(const DataWant *w);

/* What could feed a want; NULL: nothing. */
const DataField *dataset_find_field(const Dataset *d, const DataWant *w);
/* Finds what feeds a want.  False with what is wanted and what there is side by side; bpe may be NULL where no text
 * is wanted. */
bool dataset_match(const Dataset *d, const Bpe *bpe, DataWant *want, Error *err);
/* An example that could not be read, and why. */
typedef struct DataBroken {
  struct DataBroken *next;
  uint64_t number;
  Error why;
} DataBroken;

/* Reads what stands at a position into place `at` of the wants, all matched; what is broken is put behind the list
 * *broken, NULL at first, and the next readable one stands in for it.  Nothing is said of what was read when it fails:
 * memory is short, nothing can be read, (strict) something cannot, or (ERROR_USAGE) the model has no place for an id. */
bool dataset_read(const Dataset *d, const Bpe *bpe, WorldSplit part, uint64_t position, const DataWant *want,
                  int n_want, int64_t at, DataBroken **broken, Error *err);
/* Tells of what it has not told yet, in the order of the list, and frees that. */
void dataset_tell(const Dataset *d, DataBroken *broken);
/* Both, for positions first ... first + n - 1. */
bool dataset_fill(const Dataset *d, const Bpe *bpe, WorldSplit part, uint64_t first, int64_t n, const DataWant *want,
                  int n_want, Error *err);

/* Key and caption of what stands at a position, appended; no caption leaves out alone, and so does one that cannot be read, which
 * is told (strict: an error). */
void dataset_key(const Dataset *d, WorldSplit part, uint64_t position, Buffer *out);
bool dataset_caption(const Dataset *d, WorldSplit part, uint64_t position, Buffer *out, Error *err);

/* An encoder trained on the captions at the first n positions of training (of one epoch at most). */
Bpe *dataset_train_bpe(const Dataset *d, int n, int max_merges, Error *err);

#endif
