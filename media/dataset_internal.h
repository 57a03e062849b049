/* Between the kinds of data sets and what they have in common. */
#ifndef NUWA_DATASET_INTERNAL_H
#define NUWA_DATASET_INTERNAL_H

#include <stdatomic.h>

#include "media/dataset.h"
#include "media/epoch.h"
#include "media/image.h"
#include "runtime/base/sha256.h"

typedef struct DataExample {
  WorldSplit part;
  uint64_t number; /* in [0, n), or a scene */
  uint64_t draw;   /* what chooses among its captions */
} DataExample;

typedef struct DatasetKind {
  /* One example into place `at` of every want but text. */
  bool (*read)(const Dataset *d, const DataExample *e, const DataWant *want, int n, int64_t at, Error *err);
  bool (*caption)(const Dataset *d, const DataExample *e, Buffer *out, Error *err); /* NULL: it has none */
  void (*key)(const Dataset *d, const DataExample *e, Buffer *out);
  void (*notes)(const Dataset *d, Buffer *out); /* may be NULL */
  /* NULL, or: which of d->n_group groups an example is of, which stand one after another.  An epoch reads group by
   * group. */
  uint32_t (*group)(const Dataset *d, uint64_t number);
  void (*close)(Dataset *d);                    /* all but d and what follows here */
} DatasetKind;

struct Dataset {
  const DatasetKind *kind;
  DatasetOptions o;
  char *spec;
  DataField field[DATA_MAX_FIELDS];
  int n_field;
  bool is_endless, flips;
  uint64_t n; /* examples, below 2^32 */
  int n_class;
  const char *const *class_name; /* [n_class], or NULL */
  char digest[65];
  uint32_t *part[2]; /* numbers of the examples of training and validation */
  uint64_t n_part[2];
  uint32_t n_group;
  uint64_t *start[2]; /* [n_group + 1] where groups begin in part; NULL: there are none */
  EpochGroups *groups[2];
  atomic_uchar *told; /* [n + 1]: of this example the user knows; the last: of captions that are cut */
};

/* Each NULL with err set. */
Dataset *dataset_open_world(const char *options, const DatasetOptions *o, Error *err);
Dataset *dataset_open_folder(const char *path, const char *options, const DatasetOptions *o, Error *err);
Dataset *dataset_open_shards(const char *pattern, const char *options, const DatasetOptions *o, Error *err);
Dataset *dataset_open_safetensors(const char *path, const DatasetOptions *o, Error *err);
Dataset *dataset_open_idx(const char *prefix, const DatasetOptions *o, Error *err);

/* Adds a field with n sizes; false with err set when there are too many. */
bool dataset_add_field(Dataset *d, const char *name, DataFit fit, int rank, const int64_t *dim, Error *err);
void dataset_set_digest(Dataset *d, Sha256 *h);
/* Adds options that say how the examples are read, as they were written; NULL and "": there are none. */
void dataset_digest_options(Dataset *d, const char *options);

/* Frames of a want of pictures or labels: 1 where it has no axis for them.  *h, *w: sizes of each. */
int64_t data_want_frames(const DataWant *w, int *out_h, int *out_w);
/* A picture into frame `frame` of place `at`, cropped and resized as image_fit does where the sizes differ. */
bool data_put_picture(const DataWant *w, int64_t at, int64_t frame, const Image *im, Error *err);
/* Labels [height, width] likewise; of a resize each takes the label at its centre. */
void data_put_labels(const DataWant *w, int64_t at, int64_t frame, const uint16_t *labels, int width, int height);

#endif
