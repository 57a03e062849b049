/* safetensors files: an 8-byte length, a JSON header, raw little-endian tensors.  Shared by the lean runtime (its
 * weights) and by everything that exchanges named tensors; hence its own small strict JSON reader, no library.
 * Everything is checked before use: header length, UTF-8 free of control characters, duplicate names, dtype, shape
 * against offsets with overflow-safe arithmetic, offsets in bounds, without overlaps or holes. */
#ifndef NUWA_SAFETENSORS_H
#define NUWA_SAFETENSORS_H

#include "runtime/base/dtype.h"
#include "runtime/base/error.h"
#include "runtime/base/file.h"

enum { TENSOR_MAX_RANK = 8 };

/* The element types of files, bytes of each; those that are ours come first, numbered alike. */
#define STORED_TYPES(X)                                                                                               \
  X(F32, 4) X(BF16, 2) X(I32, 4) X(U8, 1) X(F16, 2) X(F64, 8) X(I64, 8) X(BOOL, 1) X(I8, 1) X(I16, 2) X(U16, 2)        \
  X(U32, 4) X(U64, 8) X(F8_E4M3, 1) X(F8_E5M2, 1)
typedef enum StoredType {
#define X(id, bytes) STORED_##id,
  STORED_TYPES(X)
#undef X
  STORED_COUNT
} StoredType;
const char *stored_name(StoredType t);
size_t stored_bytes(StoredType t);

typedef struct TensorView {
  const char *name;
  DType dtype;         /* DTYPE_COUNT: none of ours, see stored (convert.h) */
  int rank;
  int64_t dim[TENSOR_MAX_RANK];
  const void *data;    /* not owned; aligned to 8 when the file is ours, so copy before vector use */
  size_t bytes;
  StoredType stored;   /* of a tensor that was read */
} TensorView;

typedef NuwaWeights Safetensors;

/* Maps and checks path. NULL on failure. */
Safetensors *safetensors_open(const char *path, Error *err);
/* The same for bytes in memory, which must outlive the result; `where` names them in errors. */
Safetensors *safetensors_parse(const void *bytes, size_t n, const char *where, Error *err);
void safetensors_close(Safetensors *s);
/* The bundle that the bytes are of; NULL, as it begins: of none. */
void safetensors_set_bundle(Safetensors *s, const NuwaBundle *b);
const NuwaBundle *safetensors_bundle(const Safetensors *s);
/* Forgets the tensors whose name fits the pattern (fnmatch: * and ?).  How many those were. */
int safetensors_ignore(Safetensors *s, const char *pattern);
/* Fails: a file of weights has these tensors, of which the model knows none. */
bool safetensors_refuse(const char *const *name, int n, Error *err);
int safetensors_count(const Safetensors *s);
const TensorView *safetensors_get(const Safetensors *s, int i);                    /* in file order */
const TensorView *safetensors_find(const Safetensors *s, const char *name);        /* NULL when absent */
const char *safetensors_metadata(const Safetensors *s, const char *key);           /* NULL when absent */

typedef struct MetadataEntry {
  const char *key, *value;
} MetadataEntry;
/* All of it, sorted by key, valid as long as s. */
const MetadataEntry *safetensors_all_metadata(const Safetensors *s, int *out_n);

/* Writes atomically, tensors in the given order, header padded so that data start aligned to 64 bytes.  Names are
 * UTF-8 without control characters, each once; metadata values are UTF-8. */
bool safetensors_write(const char *path, const TensorView *tensors, int n, const MetadataEntry *meta, int n_meta,
                       Error *err);
/* What such a file begins with, appended to out: the tensors' bytes follow, without gaps.  `where` names it in errors; the
 * tensors' data are not looked at. */
bool safetensors_write_head(const char *where, const TensorView *tensors, int n, const MetadataEntry *meta, int n_meta,
                            Buffer *out, Error *err);

#endif
