/* Named tensors that the interpreter reads its leafs from.  Those that were not put there are drawn from their name.
 */
#ifndef NUWA_TESTS_STORE_H
#define NUWA_TESTS_STORE_H

#include <math.h>
#include <string.h>

#include "ir/interp.h"
#include "runtime/base/philox.h"

enum { STORE_MOST = 256 };

typedef struct Store {
  Arena *arena;
  int64_t B, R;
  int n;
  const char *name[STORE_MOST];
  Tensor tensor[STORE_MOST];
  double low, high;            /* of drawn floats */
  int64_t int_low, int_high;   /* of drawn i32, inclusive */
} Store;

static inline void store_init(Store *s, int64_t B) {
  *s = (Store){.arena = arena_new(), .B = B, .R = 3, .low = -1.2, .high = 1.2, .int_low = 0, .int_high = 3};
}

static inline void store_done(Store *s) { arena_free(s->arena); }

static inline Tensor *store_find(Store *s, const char *name) {
  for (int i = 0; i < s->n; i++)
    if (strcmp(s->name[i], name) == 0) return &s->tensor[i];
  return NULL;
}

/* Puts t there, or replaces what has the name. */
static inline Tensor *store_put(Store *s, const char *name, Tensor t) {
  Tensor *old = store_find(s, name);
  if (!old) {
    BUG_IF(s->n == STORE_MOST, "the store is full");
    s->name[s->n] = arena_strdup(s->arena, name);
    old = &s->tensor[s->n++];
  }
  *old = t;
  return old;
}

static inline Tensor store_new(Store *s, const Type *t) {
  int64_t dim[MAX_RANK];
  for (int i = 0; i < t->rank; i++) dim[i] = dim_value(t->dim[i], s->B, s->R);
  return tensor_new(s->arena, t->dtype, t->rank, dim);
}

static inline double store_draw(const Store *s, DType t, uint64_t seed, int64_t i) {
  Philox p = philox(seed, (uint32_t)i, 0, STREAM_TEST);
  if (t == DTYPE_U8) return p.word[0] % 2;
  if (t == DTYPE_I32) return (double)(s->int_low + (int64_t)(p.word[0] % (uint32_t)(s->int_high - s->int_low + 1)));
  return s->low + (s->high - s->low) * ((p.word[0] + 0.5) / 4294967296.0);
}

static inline const Tensor *store_leaf(void *ctx, const Node *leaf, Error *err) {
  Store *s = ctx;
  const char *name = leaf->attrs.leaf.name;
  Tensor *t = store_find(s, name);
  if (t) return t;
  uint64_t seed = 7;
  for (const char *c = name; *c; c++) seed = seed * 31 + (uint8_t)*c;
  t = store_put(s, name, store_new(s, &leaf->type));
  for (int64_t i = 0; i < tensor_elems(t) && leaf->op != OP_STATE; i++) t->data[i] = store_draw(s, t->dtype, seed, i);
  return t;
}

#endif
