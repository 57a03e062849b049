/* Arrays as a data set: the tensors [n, ...] of a safetensors file, or the two files of IDX.
 *
 * An array feeds inputs of its own name, sizes and a type that holds its numbers, with two exceptions.  "image"
 * [n, h, w], [n, h, w, 1] or [n, h, w, 3], u8 or f32 in [-1, 1], is a picture, resized as others are; floats of just
 * the sizes that are wanted stay what they are, others go through 8 bits.  "video" of u8 is given as floats in [-1, 1] where
 * floats are wanted.  "class" [n] of whole numbers from 0 on is
 * a class. */
#include <string.h>
#include <sys/stat.h>

#include "media/dataset_internal.h"
#include "media/idx.h"
#include "runtime/base/convert.h"
#include "runtime/base/names.h"

enum { MAX_CLASSES = 1 << 24 };

typedef struct Arrays {
  Dataset base;
  Safetensors *file;
  Buffer idx[2];
  TensorView view[DATA_MAX_FIELDS]; /* of field i; dim[0] is n */
} Arrays;

/* ---- reading ---- */

/* Example i of an array. */
static TensorView slice(const TensorView *v, uint64_t n, uint64_t i) {
  TensorView s = *v;
  s.rank = v->rank - 1;
  memmove(s.dim, v->dim + 1, (size_t)s.rank * sizeof *s.dim);
  s.bytes = v->bytes / n;
  s.data = (const char *)v->data + i * s.bytes;
  return s;
}

/* All of it as RGB of 8 bits. */
static void to_rgb(const TensorView *v, Image *im) {
  size_t channels = v->rank == 3 ? (size_t)v->dim[2] : 1, pixels = (size_t)im->width * (size_t)im->height;
  const uint8_t *bytes = v->data;
  for (size_t i = 0; i < pixels * 3; i++) {
    size_t at = i / 3 * channels + (channels == 3 ? i % 3 : 0);
    float x;
    if (v->stored == STORED_U8) {
      im->rgb[i] = bytes[at];
    } else {
      memcpy(&x, bytes + at * sizeof x, sizeof x);
      image_from_floats(&x, 1, im->rgb + i);
    }
  }
}

static bool put_picture(const TensorView *v, const DataWant *want, int64_t at, Error *err) {
  Image im;
  int height, width;
  data_want_frames(want, &height, &width);
  if (v->stored == STORED_F32 && want->dtype == DTYPE_F32 && height == v->dim[0] && width == v->dim[1] &&
      want->dim[want->rank - 1] == (v->rank == 3 ? v->dim[2] : 1)) {
    memcpy((char *)want->out + (size_t)at * v->bytes, v->data, v->bytes);
    return true;
  }
  if (!image_init(&im, (int)v->dim[1], (int)v->dim[0], err)) return false;
  to_rgb(v, &im);
  bool ok = data_put_picture(want, at, 0, &im, err);
  image_done(&im);
  return ok;
}

/* Frames of 8 bits as floats are what those of a clip are. */
static bool put_array(const TensorView *v, const DataWant *want, int64_t at, Error *err) {
  char *out = (char *)want->out + (size_t)at * data_want_bytes(want);
  if (v->stored != STORED_U8 || want->dtype != DTYPE_F32 || strcmp(want->name, PORT_VIDEO) != 0)
    return convert_tensor(v, want->dtype, out, err);
  image_to_floats(v->data, v->bytes, (float *)(void *)out);
  return true;
}

static bool arrays_read(const Dataset *d, const DataExample *e, const DataWant *want, int n, int64_t at, Error *err) {
  const Arrays *a = (const Arrays *)d;
  for (int i = 0; i < n; i++) {
    TensorView v = slice(&a->view[want[i].field - d->field], d->n, e->number);
    bool ok = (want[i].field->fit == FIT_PICTURE ? put_picture : put_array)(&v, &want[i], at, err);
    if (!ok) return error_prefix(err, "%s: example %llu", d->spec, (unsigned long long)e->number);
  }
  return true;
}

static void arrays_key(const Dataset *d, const DataExample *e, Buffer *out) {
  buffer_printf(out, "%llu", (unsigned long long)e->number);
}

static void arrays_close(Dataset *d) {
  Arrays *a = (Arrays *)d;
  safetensors_close(a->file);
  for (int i = 0; i < 2; i++) buffer_done(&a->idx[i]);
}

static const DatasetKind kind = {arrays_read, NULL, arrays_key, NULL, NULL, arrays_close};

/* ---- opening ---- */

static bool is_picture(const TensorView *v) {
  return strcmp(v->name, PORT_IMAGE) == 0 && (v->stored == STORED_U8 || v->stored == STORED_F32) &&
         (v->rank == 3 || (v->rank == 4 && (v->dim[3] == 1 || v->dim[3] == 3)));
}

static bool is_float(StoredType t) { return t == STORED_F32 || t == STORED_F64 || t == STORED_F16 || t == STORED_BF16; }

static bool is_visual(const TensorView *v) { return strcmp(v->name, PORT_IMAGE) == 0 || strcmp(v->name, PORT_VIDEO) == 0; }

static bool is_class(const TensorView *v) {
  return strcmp(v->name, PORT_CLASS) == 0 && v->rank == 1 && convert_is_possible(v, DTYPE_I32);
}

static bool count_classes(Arrays *a, const TensorView *v, const char *where, Error *err) {
  for (uint64_t i = 0; i < a->base.n; i++) {
    TensorView one = slice(v, a->base.n, i);
    int32_t c;
    if (!convert_tensor(&one, DTYPE_I32, &c, err))
      return error_prefix(err, "%s: example %llu", where, (unsigned long long)i);
    if (c < 0 || c >= MAX_CLASSES)
      return error_set(err, ERROR_FORMAT, "%s: example %llu has class %d; they are 0 to %d", where,
                       (unsigned long long)i, c, MAX_CLASSES - 1);
    if (c >= a->base.n_class) a->base.n_class = c + 1;
  }
  return true;
}

static bool add_view(Arrays *a, const TensorView *v, const char *where, Error *err) {
  Dataset *d = &a->base;
  DataFit fit = is_picture(v) ? FIT_PICTURE : is_class(v) ? FIT_CLASS : FIT_ARRAY;
  if (v->rank < 1 || (d->n_field && (uint64_t)v->dim[0] != d->n))
    return error_set(err, ERROR_FORMAT, "%s: \"%s\" has %lld examples, \"%s\" has %llu", where, v->name,
                     v->rank < 1 ? 0 : (long long)v->dim[0], d->n_field ? d->field[0].name : "none",
                     (unsigned long long)d->n);
  if (is_visual(v) && v->stored != STORED_U8 && !is_float(v->stored))
    return error_set(err, ERROR_FORMAT,
                     "%s: \"%s\" is %s: of pictures and clips the numbers are U8, or floats in [-1, 1]", where,
                     v->name, stored_name(v->stored));
  d->n = (uint64_t)v->dim[0];
  if (!d->n) return error_set(err, ERROR_FORMAT, "%s: \"%s\" holds no example", where, v->name);
  int64_t picture[3] = {DATA_ANY, DATA_ANY, 3};
  if (fit == FIT_PICTURE &&
      (v->dim[1] < 1 || v->dim[2] < 1 || v->dim[1] > IMAGE_MAX_SIDE || v->dim[2] > IMAGE_MAX_SIDE))
    return error_set(err, ERROR_FORMAT, "%s: pictures of %lld x %lld", where, (long long)v->dim[2],
                     (long long)v->dim[1]);
  if (!dataset_add_field(d, v->name, fit, fit == FIT_PICTURE ? 3 : v->rank - 1,
                         fit == FIT_PICTURE ? picture : v->dim + 1, err))
    return error_prefix(err, "%s", where);
  d->field[d->n_field - 1].stored = v->stored;
  a->view[d->n_field - 1] = *v;
  return fit != FIT_CLASS || count_classes(a, v, where, err);
}

static void digest(Arrays *a) {
  Sha256 h;
  sha256_init(&h);
  for (int i = 0; i < a->base.n_field; i++) {
    const TensorView *v = &a->view[i];
    sha256_update(&h, v->name, strlen(v->name) + 1);
    sha256_update(&h, stored_name(v->stored), strlen(stored_name(v->stored)) + 1);
    sha256_update(&h, v->dim, (size_t)v->rank * sizeof *v->dim);
    sha256_update(&h, v->data, v->bytes);
  }
  dataset_set_digest(&a->base, &h);
}

static Arrays *arrays_new(const char *where, Error *err) {
  Arrays *a = mem_alloc(sizeof *a);
  if (a)
    a->base.kind = &kind;
  else
    error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  return a;
}

static Dataset *finish(Arrays *a, bool ok) {
  if (ok) return digest(a), &a->base;
  if (a) dataset_close(&a->base);
  return NULL;
}

Dataset *dataset_open_safetensors(const char *path, const DatasetOptions *o, Error *err) {
  Arrays *a = arrays_new(path, err);
  bool ok = a && (a->file = safetensors_open(path, err));
  if (ok && !safetensors_count(a->file)) ok = error_set(err, ERROR_FORMAT, "%s: holds no array", path);
  for (int i = 0; ok && i < safetensors_count(a->file); i++) ok = add_view(a, safetensors_get(a->file, i), path, err);
  return finish(a, ok);
}

/* ---- IDX ---- */

/* PREFIXsuffix or PREFIXsuffix.gz. */
static bool find_idx(const char *prefix, const char *suffix, char *out, size_t room, Error *err) {
  struct stat st;
  for (int gz = 0; gz < 2; gz++)
    if (snprintf(out, room, "%s%s%s", prefix, suffix, gz ? ".gz" : "") < (int)room && stat(out, &st) == 0)
      return true;
  return error_set(err, ERROR_ARGUMENT,
                   "idx:%s: neither %s%s nor %s%s.gz is there (of the four files of MNIST, say idx:FOLDER/train or "
                   "idx:FOLDER/t10k)",
                   prefix, prefix, suffix, prefix, suffix);
}

static bool add_idx(Arrays *a, Buffer *bytes, const char *prefix, const char *suffix, const char *name, int rank,
                    Error *err) {
  char path[4096];
  Idx x;
  if (!find_idx(prefix, suffix, path, sizeof path, err) || !idx_read_file(path, bytes, err) ||
      !idx_parse((const uint8_t *)bytes->data, bytes->len, path, &x, err))
    return false;
  if (x.rank != rank) return error_set(err, ERROR_FORMAT, "%s: an array of %d axes, not %d", path, x.rank, rank);
  TensorView v = {.name = name, .dtype = DTYPE_U8, .stored = STORED_U8, .rank = rank, .data = x.data, .bytes = 1};
  for (int i = 0; i < rank; i++) v.dim[i] = x.dim[i], v.bytes *= (size_t)x.dim[i];
  return add_view(a, &v, path, err);
}

Dataset *dataset_open_idx(const char *prefix, const DatasetOptions *o, Error *err) {
  Arrays *a = arrays_new(prefix, err);
  return finish(a, a && add_idx(a, &a->idx[0], prefix, "-images-idx3-ubyte", PORT_IMAGE, 3, err) &&
                       add_idx(a, &a->idx[1], prefix, "-labels-idx1-ubyte", PORT_CLASS, 1, err));
}
