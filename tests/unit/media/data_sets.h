/* Data sets of files that a test has made: opened, read, and what is refused. */
#ifndef TEST_DATA_SETS_H
#define TEST_DATA_SETS_H

#include "media/dataset.h"
#include "tests/test.h"
#include "tests/unit/media/data_files.h"

static char warnings[4000];

static inline void warn(void *ctx, const char *text) {
  strncat(warnings, text, sizeof warnings - strlen(warnings) - 2);
  strcat(warnings, "\n");
}

static inline Dataset *open_data(const char *spec, DatasetOptions o) {
  static Error err;
  o.warn = warn;
  *warnings = 0;
  Dataset *d = dataset_open(spec, &o, &err);
  if (!d) TEST_FAIL_("%s", err.text);
  return d;
}

static inline const char *refusal(const char *spec) {
  static Error err;
  Dataset *d = dataset_open(spec, &(DatasetOptions){0}, &err);
  dataset_close(d);
  return d ? "" : err.text;
}

static inline const char *keys_of(const Dataset *d, WorldSplit part) {
  static Buffer b;
  b.len = 0;
  buffer_append(&b, "", 0);
  for (uint64_t i = 0; i < dataset_count(d, part); i++) {
    dataset_key(d, part, i, &b);
    buffer_append(&b, " ", 1);
  }
  return b.data ? b.data : "";
}

static inline Bpe *bpe(void) {
  static Bpe *b;
  Error err;
  static const char *const text[] = {"one", "two"};
  if (!b) b = bpe_train(text, 2, 10, &err);
  return b;
}

static inline const char *mismatch(const Dataset *d, DataWant w) {
  static Error err;
  return dataset_match(d, bpe(), &w, &err) ? "" : err.text;
}

static inline bool fill(const Dataset *d, WorldSplit part, uint64_t first, int n, DataWant *w, Error *err) {
  return dataset_match(d, bpe(), w, err) && dataset_fill(d, bpe(), part, first, n, w, 1, err);
}

/* The example whose key is this, in order. */
static inline uint64_t place_of(const Dataset *d, const char *key) {
  Buffer b = {0};
  for (uint64_t i = 0; i < dataset_count(d, WORLD_TRAIN); i++) {
    b.len = 0;
    dataset_key(d, WORLD_TRAIN, i, &b);
    if (strcmp(b.data, key) == 0) return buffer_done(&b), i;
  }
  TEST_FAIL_("\"%s\" is not there: %s", key, keys_of(d, WORLD_TRAIN));
  return buffer_done(&b), 0;
}

static inline const char *caption_of(const Dataset *d, const char *key) {
  static Buffer b;
  Error err;
  b.len = 0;
  buffer_append(&b, "", 0);
  if (!dataset_caption(d, WORLD_TRAIN, place_of(d, key), &b, &err)) return TEST_FAIL_("%s", err.text), "";
  return b.len ? b.data : "";
}

#endif
