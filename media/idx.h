/* IDX files (MNIST's): two zero bytes, an element type, a rank, sizes as big-endian u32, elements. */
#ifndef NUWA_IDX_H
#define NUWA_IDX_H

#include "runtime/base/error.h"
#include "runtime/base/memory.h"

enum { IDX_MAX_RANK = 4 };
#define IDX_MAX_BYTES ((size_t)1 << 33)

typedef struct Idx {
  int rank;
  int64_t dim[IDX_MAX_RANK];
  const uint8_t *data; /* u8, the product of dim of them; not owned */
} Idx;

/* Only bytes as elements.  Refuses what does not say exactly what the bytes hold. */
bool idx_parse(const uint8_t *bytes, size_t n, const char *where, Idx *out, Error *err);
/* All of a file, gzipped or not, of at most IDX_MAX_BYTES; appended. */
bool idx_read_file(const char *path, Buffer *out, Error *err);

#endif
