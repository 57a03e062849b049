/* Reading and writing safetensors.  The header's JSON has a fixed shape (an object of flat objects), so the reader
 * below knows that shape only: it never recurses, and refuses everything the format does not define. */
#include "runtime/base/safetensors.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <string.h>

#include "runtime/base/utf8.h"

enum { HEADER_LENGTH_BYTES = 8, HEADER_ALIGN = 64 };
static const size_t header_max = (size_t)100 << 20; /* the reference implementation's limit */
static const char metadata_name[] = "__metadata__";

struct NuwaWeights {
  Arena *arena;
  FileMap map; /* empty when the bytes are the caller's */
  const NuwaBundle *bundle;
  TensorView *tensors;
  int n_tensors, cap_tensors;
  const TensorView **by_name;
  MetadataEntry *meta;
  int n_meta, cap_meta;
};

typedef struct TensorReader {
  Safetensors *s;
  const char *where, *begin, *p, *end; /* the header's text */
  const char *data;
  size_t data_bytes;
  bool has_metadata, ok;
  Error *err;
} TensorReader;

/* What an entry says about its tensor, as read. */
typedef struct TensorEntry {
  bool has_dtype, has_shape, has_offsets;
  uint64_t offset[2];
} TensorEntry;

static const struct {
  const char *name;
  size_t bytes;
} stored_types[STORED_COUNT] = {
#define X(id, size) {#id, size},
    STORED_TYPES(X)
#undef X
};
_Static_assert((int)STORED_F32 == DTYPE_F32 && (int)STORED_BF16 == DTYPE_BF16 && (int)STORED_I32 == DTYPE_I32 &&
                   (int)STORED_U8 == DTYPE_U8 && DTYPE_COUNT == 4,
               "element types of our own come first");

const char *stored_name(StoredType t) { return stored_types[t].name; }
size_t stored_bytes(StoredType t) { return stored_types[t].bytes; }

PRINTF_LIKE(2, 3) static bool reader_fail(TensorReader *r, const char *fmt, ...) {
  char text[600];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return error_set(r->err, ERROR_FORMAT, "%s: header, byte %zu: %s", r->where, (size_t)(r->p - r->begin), text);
}

static void reader_skip_space(TensorReader *r) {
  while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r')) r->p++;
}

static bool reader_take(TensorReader *r, char c) {
  reader_skip_space(r);
  if (r->p == r->end || *r->p != c) return false;
  r->p++;
  return true;
}

static bool reader_expect(TensorReader *r, char c) {
  if (reader_take(r, c)) return true;
  if (r->p == r->end) return reader_fail(r, "it ends where '%c' is expected", c);
  return reader_fail(r, "'%c' is expected", c);
}

static bool read_hex4(TensorReader *r, uint32_t *out) {
  uint32_t v = 0;
  for (int i = 0; i < 4; i++, r->p++) {
    char c = r->p < r->end ? *r->p : 0;
    if (c >= '0' && c <= '9') v = v << 4 | (uint32_t)(c - '0');
    else if ((c | 32) >= 'a' && (c | 32) <= 'f') v = v << 4 | (uint32_t)((c | 32) - 'a' + 10);
    else return reader_fail(r, "\\u needs four hexadecimal digits");
  }
  *out = v;
  return true;
}

/* After "\u": one code unit, or a pair of surrogates. */
static bool read_unicode_escape(TensorReader *r, uint32_t *out) {
  uint32_t low = 0;
  if (!read_hex4(r, out)) return false;
  if (*out < 0xD800 || *out >= 0xE000) return true;
  if (*out >= 0xDC00 || r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
    return reader_fail(r, "half of a surrogate pair stands alone");
  r->p += 2;
  if (!read_hex4(r, &low)) return false;
  if (low < 0xDC00 || low >= 0xE000) return reader_fail(r, "half of a surrogate pair stands alone");
  *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
  return true;
}

/* After the backslash. */
static bool read_escape(TensorReader *r, uint32_t *out) {
  static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
  char c = r->p < r->end ? *r->p : 0;
  const char *at = c ? strchr(names, c) : NULL;
  if (!at && c != 'u') return reader_fail(r, "a string holds an unknown escape");
  r->p++;
  if (!at) return read_unicode_escape(r, out);
  *out = (uint8_t)values[at - names];
  return true;
}

static bool read_character(TensorReader *r, uint32_t *out) {
  int len = utf8_read(r->p, (size_t)(r->end - r->p), out);
  if (len == 0) return reader_fail(r, "a string is not UTF-8");
  if (*out < 0x20 || *out == 0x7F) return reader_fail(r, "a string holds the control character %u", (unsigned)*out);
  r->p += len;
  return *out != '\\' || read_escape(r, out);
}

/* A string into the arena.  A name may not hold control characters; other text may, escaped, except NUL. */
static bool read_string(TensorReader *r, bool is_name, const char **out) {
  if (!reader_expect(r, '"')) return false;
  const char *close = r->p;
  while (close < r->end && *close != '"') close += *close == '\\' && close + 1 < r->end ? 2 : 1;
  if (close >= r->end) return reader_fail(r, "a string does not end");
  char *text = arena_alloc(r->s->arena, (size_t)(close - r->p) + 1);
  size_t len = 0;
  while (*r->p != '"') {
    uint32_t c;
    if (!read_character(r, &c)) return false;
    if (c == 0 || (is_name && (c < 0x20 || c == 0x7F)))
      return reader_fail(r, "a %s holds the control character %u", is_name ? "name" : "string", (unsigned)c);
    len += (size_t)utf8_write(c, text + len); /* an escape is at least as long as what it stands for */
  }
  r->p++;
  *out = text;
  return true;
}

static bool read_number(TensorReader *r, uint64_t *out) {
  reader_skip_space(r);
  const char *first = r->p;
  uint64_t v = 0;
  for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++)
    if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(*r->p - '0'), &v) || v > INT64_MAX)
      return reader_fail(r, "a number is above 2^63 - 1");
  if (r->p == first) return reader_fail(r, "a number of digits only is expected");
  if (*first == '0' && r->p - first > 1) return reader_fail(r, "a number starts with 0");
  *out = v;
  return true;
}

static bool read_dtype(TensorReader *r, TensorView *t) {
  const char *name;
  if (!read_string(r, true, &name)) return false;
  for (int i = 0; i < STORED_COUNT; i++)
    if (!strcmp(name, stored_name((StoredType)i))) {
      t->stored = (StoredType)i;
      t->dtype = i < DTYPE_COUNT ? (DType)i : DTYPE_COUNT;
      return true;
    }
  Buffer known = {0};
  for (int i = 0; i < STORED_COUNT; i++) buffer_printf(&known, "%s%s", i ? ", " : "", stored_name((StoredType)i));
  reader_fail(r, "tensor '%.100s': dtype '%.40s' is none of %s", t->name, name, known.data ? known.data : "ours");
  buffer_done(&known);
  return false;
}

static bool read_shape(TensorReader *r, TensorView *t) {
  if (!reader_expect(r, '[')) return false;
  if (reader_take(r, ']')) return true;
  do {
    uint64_t v;
    if (t->rank == TENSOR_MAX_RANK)
      return reader_fail(r, "tensor '%.100s' has more than %d axes", t->name, TENSOR_MAX_RANK);
    if (!read_number(r, &v)) return false;
    t->dim[t->rank++] = (int64_t)v;
  } while (reader_take(r, ','));
  return reader_expect(r, ']');
}

static bool read_offsets(TensorReader *r, TensorEntry *e) {
  return reader_expect(r, '[') && read_number(r, &e->offset[0]) && reader_expect(r, ',') &&
         read_number(r, &e->offset[1]) && reader_expect(r, ']');
}

static bool read_field(TensorReader *r, TensorView *t, TensorEntry *e) {
  const char *key;
  bool *seen;
  if (!read_string(r, true, &key) || !reader_expect(r, ':')) return false;
  if (!strcmp(key, "dtype")) seen = &e->has_dtype;
  else if (!strcmp(key, "shape")) seen = &e->has_shape;
  else if (!strcmp(key, "data_offsets")) seen = &e->has_offsets;
  else return reader_fail(r, "tensor '%.100s' has an unknown field '%.100s'", t->name, key);
  if (*seen) return reader_fail(r, "tensor '%.100s' has its %s twice", t->name, key);
  *seen = true;
  if (seen == &e->has_dtype) return read_dtype(r, t);
  return seen == &e->has_shape ? read_shape(r, t) : read_offsets(r, e);
}

/* Bytes of a tensor by its elements' bytes and its shape; false when they do not fit a size_t. */
static bool tensor_bytes(const TensorView *t, size_t elem_bytes, size_t *out) {
  *out = elem_bytes;
  for (int i = 0; i < t->rank; i++)
    if (t->dim[i] < 0 || !size_mul(*out, (size_t)t->dim[i], out)) return false;
  return true;
}

static bool read_tensor(TensorReader *r, const char *name) {
  TensorView t = {.name = name};
  TensorEntry e = {0};
  if (!reader_expect(r, '{')) return false;
  if (!reader_take(r, '}')) {
    do {
      if (!read_field(r, &t, &e)) return false;
    } while (reader_take(r, ','));
    if (!reader_expect(r, '}')) return false;
  }
  if (!e.has_dtype || !e.has_shape || !e.has_offsets)
    return reader_fail(r, "tensor '%.100s' has no %s", name,
                       !e.has_dtype ? "dtype" : !e.has_shape ? "shape" : "data_offsets");
  if (e.offset[0] > e.offset[1] || e.offset[1] > r->data_bytes)
    return reader_fail(r, "tensor '%.100s': offsets %llu to %llu do not lie in the %zu bytes of data", name,
                       (unsigned long long)e.offset[0], (unsigned long long)e.offset[1], r->data_bytes);
  if (!tensor_bytes(&t, stored_bytes(t.stored), &t.bytes))
    return reader_fail(r, "tensor '%.100s': its shape is too large", name);
  if (t.bytes != e.offset[1] - e.offset[0])
    return reader_fail(r, "tensor '%.100s': its shape needs %zu bytes, its offsets give %llu", name, t.bytes,
                       (unsigned long long)(e.offset[1] - e.offset[0]));
  t.data = r->data + e.offset[0];
  ARENA_PUSH(r->s->arena, r->s->tensors, r->s->n_tensors, r->s->cap_tensors, t);
  return true;
}

static bool read_metadata(TensorReader *r) {
  if (r->has_metadata) return reader_fail(r, "%s appears twice", metadata_name);
  r->has_metadata = true;
  if (!reader_expect(r, '{')) return false;
  if (reader_take(r, '}')) return true;
  do {
    MetadataEntry m;
    if (!read_string(r, true, &m.key) || !reader_expect(r, ':') || !read_string(r, false, &m.value)) return false;
    ARENA_PUSH(r->s->arena, r->s->meta, r->s->n_meta, r->s->cap_meta, m);
  } while (reader_take(r, ','));
  return reader_expect(r, '}');
}

static bool read_header(TensorReader *r) {
  if (!reader_expect(r, '{')) return false;
  if (!reader_take(r, '}')) {
    do {
      const char *name;
      if (!read_string(r, true, &name) || !reader_expect(r, ':')) return false;
      if (!(strcmp(name, metadata_name) ? read_tensor(r, name) : read_metadata(r))) return false;
    } while (reader_take(r, ','));
    if (!reader_expect(r, '}')) return false;
  }
  reader_skip_space(r);
  return r->p == r->end || reader_fail(r, "something follows the last '}'");
}

/* Empty tensors come before what starts at the same place. */
static int compare_place(const void *a, const void *b) {
  const TensorView *x = a, *y = b;
  if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
  if ((x->bytes == 0) != (y->bytes == 0)) return x->bytes == 0 ? -1 : 1;
  return strcmp(x->name, y->name);
}

static int compare_name(const void *a, const void *b) {
  return strcmp((*(const TensorView *const *)a)->name, (*(const TensorView *const *)b)->name);
}

static int compare_key(const void *a, const void *b) {
  return strcmp(((const MetadataEntry *)a)->key, ((const MetadataEntry *)b)->key);
}

static bool reader_check_metadata(TensorReader *r) {
  Safetensors *s = r->s;
  if (s->n_meta) qsort(s->meta, (size_t)s->n_meta, sizeof *s->meta, compare_key);
  for (int i = 1; i < s->n_meta; i++)
    if (!strcmp(s->meta[i - 1].key, s->meta[i].key))
      return error_set(r->err, ERROR_FORMAT, "%s: metadata has '%.100s' twice", r->where, s->meta[i].key);
  return true;
}

static bool is_in_place(const Safetensors *s) {
  for (int i = 1; i < s->n_tensors; i++) {
    const TensorView *before = &s->tensors[i - 1];
    if ((const char *)s->tensors[i].data < (const char *)before->data + before->bytes) return false;
  }
  return true;
}

/* Puts tensors into the order of their data and refuses overlaps and holes. */
static bool reader_check_places(TensorReader *r) {
  Safetensors *s = r->s;
  const char *at = r->data, *before = "the header";
  if (!is_in_place(s)) qsort(s->tensors, (size_t)s->n_tensors, sizeof *s->tensors, compare_place);
  for (int i = 0; i < s->n_tensors; i++) {
    const TensorView *t = &s->tensors[i];
    const char *data = t->data;
    if (data < at)
      return error_set(r->err, ERROR_FORMAT, "%s: tensors '%.100s' and '%.100s' overlap", r->where, before, t->name);
    if (data > at)
      return error_set(r->err, ERROR_FORMAT, "%s: %zu unused bytes before tensor '%.100s'", r->where,
                       (size_t)(data - at), t->name);
    at = data + t->bytes;
    before = t->name;
  }
  size_t rest = r->data_bytes - (size_t)(at - r->data);
  if (rest) return error_set(r->err, ERROR_FORMAT, "%s: %zu unused bytes after the last tensor", r->where, rest);
  return true;
}

static bool reader_check_names(TensorReader *r) {
  Safetensors *s = r->s;
  s->by_name = ARENA_ARRAY(s->arena, const TensorView *, s->n_tensors);
  for (int i = 0; i < s->n_tensors; i++) s->by_name[i] = &s->tensors[i];
  if (s->n_tensors) qsort(s->by_name, (size_t)s->n_tensors, sizeof *s->by_name, compare_name);
  for (int i = 1; i < s->n_tensors; i++)
    if (!strcmp(s->by_name[i - 1]->name, s->by_name[i]->name))
      return error_set(r->err, ERROR_FORMAT, "%s: two tensors are called '%.100s'", r->where, s->by_name[i]->name);
  return true;
}

static void read_all(void *ctx) {
  TensorReader *r = ctx;
  r->ok = read_header(r) && reader_check_metadata(r) && reader_check_places(r) && reader_check_names(r);
}

static bool reader_start(TensorReader *r, const char *bytes, size_t n) {
  uint64_t header = 0;
  if (n < HEADER_LENGTH_BYTES)
    return error_set(r->err, ERROR_FORMAT, "%s: not a safetensors file: %zu bytes are too few", r->where, n);
  for (int i = 0; i < HEADER_LENGTH_BYTES; i++) header |= (uint64_t)(uint8_t)bytes[i] << 8 * i;
  size_t rest = n - HEADER_LENGTH_BYTES;
  if (header > header_max)
    return error_set(r->err, ERROR_FORMAT, "%s: not a safetensors file: a header of %llu bytes, the limit is %zu",
                     r->where, (unsigned long long)header, header_max);
  if (header > rest)
    return error_set(r->err, ERROR_FORMAT, "%s: truncated: a header of %llu bytes is announced, %zu bytes follow",
                     r->where, (unsigned long long)header, rest);
  r->begin = r->p = bytes + HEADER_LENGTH_BYTES;
  r->end = r->data = r->begin + header;
  r->data_bytes = rest - (size_t)header;
  if (header == 0 || *r->p != '{')
    return error_set(r->err, ERROR_FORMAT, "%s: not a safetensors file: its header starts without '{'", r->where);
  return true;
}

static Safetensors *safetensors_new(Error *err) {
  Safetensors *s = mem_alloc(sizeof *s);
  if (s && (s->arena = arena_new())) return s;
  mem_free(s);
  error_set(err, ERROR_MEMORY, "out of memory");
  return NULL;
}

static bool safetensors_read(Safetensors *s, const void *bytes, size_t n, const char *where, Error *err) {
  TensorReader r = {.s = s, .where = where, .err = err};
  if (!reader_start(&r, bytes, n)) return false;
  if (!arena_protect(s->arena, read_all, &r, err)) return error_prefix(err, "%s", where);
  return r.ok;
}

Safetensors *safetensors_open(const char *path, Error *err) {
  Safetensors *s = safetensors_new(err);
  if (!s) return NULL;
  if (file_map(path, &s->map, err) && safetensors_read(s, s->map.data, s->map.len, path, err)) return s;
  safetensors_close(s);
  return NULL;
}

Safetensors *safetensors_parse(const void *bytes, size_t n, const char *where, Error *err) {
  Safetensors *s = safetensors_new(err);
  if (!s) return NULL;
  if (safetensors_read(s, bytes, n, where, err)) return s;
  safetensors_close(s);
  return NULL;
}

void safetensors_close(Safetensors *s) {
  if (!s) return;
  file_unmap(&s->map);
  arena_free(s->arena);
  mem_free(s);
}

void safetensors_set_bundle(Safetensors *s, const NuwaBundle *b) { s->bundle = b; }

const NuwaBundle *safetensors_bundle(const Safetensors *s) { return s->bundle; }

/* Those that stay move up; pointers to them, by name, are made anew. */
int safetensors_ignore(Safetensors *s, const char *pattern) {
  int kept = 0, n = s->n_tensors;
  for (int i = 0; i < n; i++)
    if (fnmatch(pattern, s->tensors[i].name, 0) != 0) s->tensors[kept++] = s->tensors[i];
  s->n_tensors = kept;
  for (int i = 0; i < kept; i++) s->by_name[i] = &s->tensors[i];
  if (kept) qsort(s->by_name, (size_t)kept, sizeof *s->by_name, compare_name);
  return n - kept;
}

bool safetensors_refuse(const char *const *name, int n, Error *err) {
  enum { SHOWN = 8 };
  error_set(err, ERROR_ARGUMENT, "weight \"%.200s\" is in the file, but the model has no such param", name[0]);
  for (int i = 1; i < n && i < SHOWN; i++) {
    size_t at = strlen(err->text);
    snprintf(err->text + at, sizeof err->text - at, "%s \"%.100s\"", i == 1 ? "; nor has it" : ",", name[i]);
  }
  size_t at = strlen(err->text);
  if (n > SHOWN) at += (size_t)snprintf(err->text + at, sizeof err->text - at, " and %d more", n - SHOWN);
  snprintf(err->text + at, sizeof err->text - at, "; --ignore PATTERN leaves out what fits");
  return false;
}

int safetensors_count(const Safetensors *s) { return s->n_tensors; }

const TensorView *safetensors_get(const Safetensors *s, int i) {
  BUG_IF(i < 0 || i >= s->n_tensors, "tensor %d of %d", i, s->n_tensors);
  return &s->tensors[i];
}

const TensorView *safetensors_find(const Safetensors *s, const char *name) {
  for (int low = 0, high = s->n_tensors; low < high;) {
    int mid = low + (high - low) / 2, order = strcmp(name, s->by_name[mid]->name);
    if (order == 0) return s->by_name[mid];
    if (order < 0) high = mid;
    else low = mid + 1;
  }
  return NULL;
}

const char *safetensors_metadata(const Safetensors *s, const char *key) {
  MetadataEntry wanted = {.key = key}, *m = NULL;
  if (s->n_meta) m = bsearch(&wanted, s->meta, (size_t)s->n_meta, sizeof *s->meta, compare_key);
  return m ? m->value : NULL;
}

const MetadataEntry *safetensors_all_metadata(const Safetensors *s, int *out_n) {
  *out_n = s->n_meta;
  return s->meta;
}

static void write_string(Buffer *b, const char *s) {
  buffer_append(b, "\"", 1);
  for (; *s; s++) {
    if (*s == '"' || *s == '\\') buffer_printf(b, "\\%c", *s);
    else if ((uint8_t)*s < 0x20 || *s == 0x7F) buffer_printf(b, "\\u%04x", (unsigned)*s);
    else buffer_append(b, s, 1);
  }
  buffer_append(b, "\"", 1);
}

static bool is_utf8(const char *s) {
  size_t n = strlen(s);
  uint32_t c;
  for (int len; n; s += len, n -= (size_t)len)
    if (!(len = utf8_read(s, n, &c))) return false;
  return true;
}

static bool check_tensor(const char *path, const TensorView *t, Error *err) {
  size_t bytes;
  if (!utf8_is_text(t->name, strlen(t->name)) || !strcmp(t->name, metadata_name))
    return error_set(err, ERROR_ARGUMENT, "cannot write %s: '%.100s' cannot be the name of a tensor", path, t->name);
  if (t->rank < 0 || t->rank > TENSOR_MAX_RANK || (unsigned)t->dtype >= DTYPE_COUNT ||
      !tensor_bytes(t, dtype_bytes(t->dtype), &bytes) || bytes != t->bytes)
    return error_set(err, ERROR_ARGUMENT, "cannot write %s: tensor '%.100s' of %zu bytes does not fit its shape",
                     path, t->name, t->bytes);
  return true;
}

static int compare_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool check_unique(const char *path, const char **names, int n, Error *err) {
  if (n) qsort(names, (size_t)n, sizeof *names, compare_text);
  for (int i = 1; i < n; i++)
    if (!strcmp(names[i - 1], names[i]))
      return error_set(err, ERROR_ARGUMENT, "cannot write %s: '%.100s' is there twice", path, names[i]);
  return true;
}

static bool check_written(const char *path, const TensorView *tensors, int n, const MetadataEntry *meta, int n_meta,
                          Error *err) {
  int most = n > n_meta ? n : n_meta;
  const char **names = mem_alloc((size_t)most * sizeof *names);
  if (!names) return error_set(err, ERROR_MEMORY, "out of memory while writing %s", path);
  bool ok = true;
  for (int i = 0; ok && i < n; i++) {
    ok = check_tensor(path, &tensors[i], err);
    names[i] = tensors[i].name;
  }
  ok = ok && check_unique(path, names, n, err);
  for (int i = 0; ok && i < n_meta; i++) {
    if (!utf8_is_text(meta[i].key, strlen(meta[i].key)) || !is_utf8(meta[i].value))
      ok = error_set(err, ERROR_ARGUMENT, "cannot write %s: metadata '%.100s' is not UTF-8", path, meta[i].key);
    names[i] = meta[i].key;
  }
  ok = ok && check_unique(path, names, n_meta, err);
  mem_free(names);
  return ok;
}

static void write_metadata(Buffer *b, const MetadataEntry *meta, int n) {
  write_string(b, metadata_name);
  buffer_printf(b, ":{");
  for (int i = 0; i < n; i++) {
    if (i) buffer_append(b, ",", 1);
    write_string(b, meta[i].key);
    buffer_append(b, ":", 1);
    write_string(b, meta[i].value);
  }
  buffer_append(b, "}", 1);
}

static void write_entry(Buffer *b, const TensorView *t, size_t offset) {
  write_string(b, t->name);
  buffer_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype_safetensors_name(t->dtype));
  for (int i = 0; i < t->rank; i++) buffer_printf(b, "%s%lld", i ? "," : "", (long long)t->dim[i]);
  buffer_printf(b, "],\"data_offsets\":[%zu,%zu]}", offset, offset + t->bytes);
}

/* The 8-byte length and the header, padded with spaces so that data start at a multiple of HEADER_ALIGN. */
static bool write_header(Buffer *b, const TensorView *tensors, int n, const MetadataEntry *meta, int n_meta) {
  char length[HEADER_LENGTH_BYTES] = {0};
  size_t offset = 0;
  buffer_append(b, length, sizeof length);
  buffer_append(b, "{", 1);
  if (n_meta) write_metadata(b, meta, n_meta);
  for (int i = 0; i < n && !b->failed; i++) {
    if (i || n_meta) buffer_append(b, ",", 1);
    write_entry(b, &tensors[i], offset);
    b->failed |= !size_add(offset, tensors[i].bytes, &offset);
  }
  buffer_append(b, "}", 1);
  while (!b->failed && b->len % HEADER_ALIGN) buffer_append(b, " ", 1);
  if (b->failed) return false;
  for (int i = 0; i < HEADER_LENGTH_BYTES; i++)
    b->data[i] = (char)((uint64_t)(b->len - HEADER_LENGTH_BYTES) >> 8 * i & 0xFF);
  return true;
}

bool safetensors_write_head(const char *where, const TensorView *tensors, int n, const MetadataEntry *meta, int n_meta,
                            Buffer *out, Error *err) {
  size_t begin = out->len;
  if (!check_written(where, tensors, n, meta, n_meta, err)) return false;
  if (!write_header(out, tensors, n, meta, n_meta))
    return error_set(err, ERROR_MEMORY, "out of memory while writing %s", where);
  return out->len - begin - HEADER_LENGTH_BYTES <= header_max ||
         error_set(err, ERROR_LIMIT, "cannot write %s: its header is longer than %zu bytes", where, header_max);
}

bool safetensors_write(const char *path, const TensorView *tensors, int n, const MetadataEntry *meta, int n_meta,
                       Error *err) {
  Buffer header = {0};
  FileWriter *w = NULL;
  bool ok = safetensors_write_head(path, tensors, n, meta, n_meta, &header, err) && (w = file_create(path, err)) &&
            file_write(w, header.data, header.len, err);
  for (int i = 0; ok && i < n; i++) ok = file_write(w, tensors[i].data, tensors[i].bytes, err);
  buffer_done(&header);
  if (ok) return file_commit(w, err);
  if (w) file_abort(w);
  return false;
}
