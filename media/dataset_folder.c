/* A folder of pictures, and what lies beside them:
 *
 *   DIR/NAME.png .jpg .jpeg       an example, of key DIR/NAME; folders are looked into, links followed
 *   DIR/NAME.txt                  its captions, one a line (captions.h)
 *   DIR/NAME.labels.png           what its pixels show (image_read_labels)
 *   DIR/captions.txt              captions of pictures in DIR and below
 *   DIR/metadata.jsonl            the same
 *   CLASS/...                     its class, where all pictures lie in folders of the data's folder
 *
 * The order is that of the paths' bytes.  Everything else is counted.  Files are opened when they are read: the
 * listing holds a path of each and one byte. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "media/captions.h"
#include "media/dataset_internal.h"
#include "runtime/base/file.h"
#include "runtime/base/names.h"

enum { MAX_DEPTH = 32, PATH_BYTES = 4096 };
enum { HAS_TEXT = 1, HAS_LABELS = 2, HAS_TABLE = 4 };

typedef enum FileKind { FILE_PICTURE, FILE_TEXT, FILE_LABELS, FILE_TABLE, FILE_OTHER } FileKind;

typedef struct FolderFile {
  size_t path; /* in Folder.paths, relative to the root */
  uint8_t kind, has;
} FolderFile;

typedef struct Folder {
  Dataset base;
  char *root;
  Buffer paths;
  FolderFile *file; /* after opening the pictures alone, sorted by path */
  size_t n, cap;
  Captions captions;
  const char **class_name;
  uint64_t skipped, empty_texts, lone_texts, lone_labels, lone_captions;
  char first_skipped[200];
} Folder;

static const Folder *folder_of(const Dataset *d) { return (const Folder *)d; }
static const char *path_of(const Folder *f, size_t i) { return f->paths.data + f->file[i].path; }

/* ---- names ---- */

static size_t suffix_at(const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
  return dot && dot > name ? (size_t)(dot - path) : strlen(path);
}

static bool ends_in(const char *path, const char *suffix) {
  size_t n = strlen(path), k = strlen(suffix);
  return n > k && strcasecmp(path + n - k, suffix) == 0;
}

static bool ends_as(const char *name, const char *suffix) {
  size_t n = strlen(name), k = strlen(suffix);
  return n > k && strcmp(name + n - k, suffix) == 0;
}

static FileKind kind_of(const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  if (*name == '.') return FILE_OTHER;
  if (strcmp(name, "captions.txt") == 0 || strcmp(name, "metadata.jsonl") == 0) return FILE_TABLE;
  if (ends_as(name, ".labels.png")) return FILE_LABELS;   /* opened under that name, so written so */
  if (ends_in(name, ".png") || ends_in(name, ".jpg") || ends_in(name, ".jpeg")) return FILE_PICTURE;
  return ends_as(name, ".txt") ? FILE_TEXT : FILE_OTHER;
}

/* root/path, with another suffix where one is given; false: too long. */
static bool full_path(const Folder *f, const char *path, const char *suffix, char out[PATH_BYTES]) {
  int n = suffix ? snprintf(out, PATH_BYTES, "%s/%.*s%s", f->root, (int)suffix_at(path), path, suffix)
                 : snprintf(out, PATH_BYTES, "%s/%s", f->root, path);
  return n < PATH_BYTES;
}

/* ---- listing ---- */

typedef struct Level {
  const struct Level *above;
  dev_t dev;
  ino_t ino;
  int depth;
} Level;

/* An empty text says nothing of its picture. */
static bool add_file(Folder *f, const char *path, bool is_empty, Error *err) {
  if (f->n == f->cap) {
    size_t cap = f->cap ? 2 * f->cap : 256;
    FolderFile *file = mem_realloc(f->file, cap * sizeof *file);
    if (!file) return error_set(err, ERROR_MEMORY, "%s: out of memory", f->root);
    f->file = file;
    f->cap = cap;
  }
  FileKind what = kind_of(path);
  if (is_empty && what == FILE_TEXT) return f->empty_texts++, true;
  f->file[f->n++] = (FolderFile){f->paths.len, (uint8_t)what, 0};
  buffer_append(&f->paths, path, strlen(path) + 1);
  return !f->paths.failed || error_set(err, ERROR_MEMORY, "%s: out of memory", f->root);
}

static bool list_folder(Folder *f, const char *path, const Level *above, Error *err);

static bool list_entry(Folder *f, const char *folder, const char *name, const Level *at, Error *err) {
  char path[PATH_BYTES], full[PATH_BYTES];
  struct stat st;
  if (snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name) >= PATH_BYTES ||
      !full_path(f, path, NULL, full))
    return error_set(err, ERROR_LIMIT, "%s/%s: a path of more than %d bytes", f->root, folder, PATH_BYTES);
  if (stat(full, &st) != 0)
    return errno == ENOENT || errno == ELOOP || error_set(err, ERROR_IO, "%s: %s", full, strerror(errno));
  if (S_ISDIR(st.st_mode)) return *name == '.' || list_folder(f, path, at, err);
  return !S_ISREG(st.st_mode) || add_file(f, path, st.st_size == 0, err);
}

/* A link to a folder that holds it would have no end. */
static bool is_above(const Level *l, const struct stat *st) {
  for (; l; l = l->above)
    if (l->dev == st->st_dev && l->ino == st->st_ino) return true;
  return false;
}

static bool list_folder(Folder *f, const char *path, const Level *above, Error *err) {
  char full[PATH_BYTES];
  struct stat st;
  if (!full_path(f, path, NULL, full)) return error_set(err, ERROR_LIMIT, "%s: too long a path", f->root);
  DIR *dir = opendir(full);
  if (!dir || fstat(dirfd(dir), &st) != 0) {
    error_set(err, ERROR_IO, "%s: %s", full, strerror(errno));
    if (dir) closedir(dir);
    return false;
  }
  Level at = {above, st.st_dev, st.st_ino, above ? above->depth + 1 : 0};
  bool ok = true, seen = is_above(above, &st);
  if (at.depth > MAX_DEPTH) ok = error_set(err, ERROR_LIMIT, "%s: folders more than %d deep", full, MAX_DEPTH);
  for (struct dirent *e; ok && !seen && (e = readdir(dir));)
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) ok = list_entry(f, path, e->d_name, &at, err);
  closedir(dir);
  return ok;
}

static int compare_paths(const void *a, const void *b, void *paths) {
  return strcmp((char *)paths + ((const FolderFile *)a)->path, (char *)paths + ((const FolderFile *)b)->path);
}

/* ---- what belongs to which picture ---- */

/* The stem of path, shown as text of `n` bytes, against that of a picture. */
static int compare_stem(const char *path, size_t n, const char *picture) {
  size_t k = suffix_at(picture);
  int order = memcmp(path, picture, n < k ? n : k);
  return order ? order : (n > k) - (n < k);
}

/* By stems pictures have another order than by paths ("a b.png" and "a.png"): this one is for looking up. */
typedef struct Stems {
  const Folder *f;
  uint32_t *at; /* [n] pictures by stem */
  size_t n;
} Stems;

static int compare_stems(const void *a, const void *b, void *ctx) {
  const Folder *f = ctx;
  uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
  const char *path = path_of(f, i);
  int order = compare_stem(path, suffix_at(path), path_of(f, k));
  return order ? order : (i > k) - (i < k);
}

/* Marks all pictures of the stem; false: there is none. */
static bool mark(Folder *f, const Stems *s, const char *path, size_t n, uint8_t has) {
  size_t lo = 0, hi = s->n;
  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;
    if (compare_stem(path, n, path_of(f, s->at[mid])) > 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  bool found = false;
  for (; lo < s->n && compare_stem(path, n, path_of(f, s->at[lo])) == 0; lo++)
    f->file[s->at[lo]].has |= has, found = true;
  return found;
}

static bool read_table(Folder *f, const char *path, Error *err) {
  char full[PATH_BYTES], folder[PATH_BYTES];
  const char *slash = strrchr(path, '/');
  size_t n;
  snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash + 1 - path) : 0, path);
  if (!full_path(f, path, NULL, full)) return error_set(err, ERROR_LIMIT, "%s: too long a path", path);
  char *bytes = file_read(full, &n, err);
  bool ok = bytes && (ends_in(path, ".txt") ? captions_parse_text : captions_parse_jsonl)(&f->captions, bytes, n,
                                                                                          full, folder, err);
  mem_free(bytes);
  return ok;
}

static void count_skipped(Folder *f, const char *path) {
  if (!f->skipped++) snprintf(f->first_skipped, sizeof f->first_skipped, "%s", path);
}

/* Captions of a table name a picture with its suffix or without. */
static void mark_captions(Folder *f, const Stems *s) {
  for (size_t i = 0; i < f->captions.n; i++) {
    const char *name = captions_name(&f->captions, i);
    size_t whole = strlen(name), n = kind_of(name) == FILE_PICTURE ? suffix_at(name) : whole;
    if (!mark(f, s, name, n, HAS_TABLE)) f->lone_captions++;
  }
}

static bool join(Folder *f, Error *err) {
  Stems s = {f, mem_alloc(f->n * sizeof *s.at), 0};
  if (!s.at) return error_set(err, ERROR_MEMORY, "%s: out of memory", f->root);
  for (size_t i = 0; i < f->n; i++)
    if (f->file[i].kind == FILE_PICTURE) s.at[s.n++] = (uint32_t)i;
  qsort_r(s.at, s.n, sizeof *s.at, compare_stems, f);
  bool ok = true;
  for (size_t i = 0; ok && i < f->n; i++) {
    const char *path = path_of(f, i);
    switch (f->file[i].kind) {
    case FILE_TEXT:
      f->lone_texts += !mark(f, &s, path, suffix_at(path), HAS_TEXT);
      break;
    case FILE_LABELS:
      f->lone_labels += !mark(f, &s, path, strlen(path) - strlen(".labels.png"), HAS_LABELS);
      break;
    case FILE_TABLE:
      ok = read_table(f, path, err);
      break;
    case FILE_OTHER:
      count_skipped(f, path);
      break;
    default:
      break;
    }
  }
  if (ok) captions_sort(&f->captions), mark_captions(f, &s);
  mem_free(s.at);
  return ok;
}

/* Of a million pictures every byte counts: what is kept has no room to grow. */
static bool drop_all_but_pictures(Folder *f, Error *err) {
  size_t n = 0, bytes = 0;
  for (size_t i = 0; i < f->n; i++)
    if (f->file[i].kind == FILE_PICTURE) n++, bytes += strlen(path_of(f, i)) + 1;
  FolderFile *file = mem_alloc(n * sizeof *file);
  Buffer paths = {.data = mem_alloc(bytes + 1), .cap = bytes + 1};
  for (size_t i = 0, at = 0; file && paths.data && i < f->n; i++) {
    if (f->file[i].kind != FILE_PICTURE) continue;
    file[at++] = (FolderFile){paths.len, FILE_PICTURE, f->file[i].has};
    buffer_append(&paths, path_of(f, i), strlen(path_of(f, i)) + 1);
  }
  bool ok = (file && paths.data) || error_set(err, ERROR_MEMORY, "%s: out of memory", f->root);
  mem_free(f->file);
  buffer_done(&f->paths);
  f->file = file;
  f->paths = paths;
  f->base.n = f->n = n;
  return ok;
}

/* Names and sizes of all that is used, and the tables. */
static bool digest(Folder *f, Error *err) {
  Sha256 h;
  sha256_init(&h);
  for (size_t i = 0; i < f->n; i++) {
    char full[PATH_BYTES], line[32];
    struct stat st;
    if (f->file[i].kind == FILE_OTHER || !full_path(f, path_of(f, i), NULL, full)) continue;
    if (stat(full, &st) != 0) return error_set(err, ERROR_IO, "%s: %s", full, strerror(errno));
    sha256_update(&h, path_of(f, i), strlen(path_of(f, i)) + 1);
    sha256_update(&h, line, (size_t)snprintf(line, sizeof line, "%lld\n", (long long)st.st_size));
  }
  sha256_update(&h, f->captions.text.data, f->captions.text.len);
  dataset_set_digest(&f->base, &h);
  return true;
}

/* ---- classes ---- */

static size_t class_bytes(const char *path) {
  const char *slash = strchr(path, '/');
  return slash ? (size_t)(slash - path) : 0;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Pictures of one folder stand together in the listing. */
static bool list_classes(Folder *f, Error *err) {
  size_t n = 0;
  Buffer names = {0};
  for (size_t i = 0; i < f->n; i++) {
    const char *path = path_of(f, i);
    size_t k = class_bytes(path);
    if (!k) return buffer_done(&names), true; /* not all have one: these are no classes */
    if (i && class_bytes(path_of(f, i - 1)) == k && memcmp(path, path_of(f, i - 1), k) == 0) continue;
    n++;
    buffer_append(&names, path, k);
    buffer_append(&names, "", 1);
  }
  size_t table = n * sizeof *f->class_name;
  bool ok = n <= INT32_MAX && !names.failed && (f->class_name = mem_alloc(table + names.len));
  if (ok) {
    char *text = (char *)f->class_name + table;
    memcpy(text, names.data, names.len);
    for (size_t i = 0; i < n; i++, text += strlen(text) + 1) f->class_name[i] = text;
    qsort(f->class_name, n, sizeof *f->class_name, compare_names);
    f->base.class_name = f->class_name;
    f->base.n_class = (int)n;
  }
  buffer_done(&names);
  return ok || error_set(err, ERROR_MEMORY, "%s: out of memory", f->root);
}

static int32_t class_of(const Folder *f, const char *path) {
  size_t n = class_bytes(path);
  int lo = 0, hi = f->base.n_class;
  while (hi - lo > 1) {
    int mid = lo + (hi - lo) / 2, order = strncmp(f->class_name[mid], path, n);
    if (order < 0 || (order == 0 && !f->class_name[mid][n]))
      lo = mid;
    else
      hi = mid;
  }
  return lo;
}

/* ---- reading ---- */

static bool folder_read_caption(const Dataset *d, const DataExample *e, Buffer *out, Error *err) {
  const Folder *f = folder_of(d);
  const char *path = path_of(f, e->number);
  char full[PATH_BYTES];
  size_t n, first;
  if (f->file[e->number].has & HAS_TEXT) {
    if (!full_path(f, path, ".txt", full)) return error_set(err, ERROR_LIMIT, "%s: too long a path", path);
    char *bytes = file_read(full, &n, err);
    bool ok = bytes && (n <= CAPTION_MAX_BYTES || error_set(err, ERROR_LIMIT, "%s: captions of %zu bytes; at most %d",
                                                            full, n, CAPTION_MAX_BYTES));
    if (ok && memchr(bytes, 0, n))
      ok = error_set(err, ERROR_FORMAT, "%s holds a zero byte: captions are UTF-8 text", full);
    if (ok) captions_choose(bytes, n, e->draw, out);
    mem_free(bytes);
    return ok;
  }
  if (!(f->file[e->number].has & HAS_TABLE)) return true;
  if (!(n = captions_find(&f->captions, path, &first))) {
    snprintf(full, sizeof full, "%.*s", (int)suffix_at(path), path);
    n = captions_find(&f->captions, full, &first);
  }
  if (n) {
    const char *text = captions_text(&f->captions, first + e->draw % n);
    buffer_append(out, text, strlen(text));
  }
  return true;
}

static bool put_labels(const Folder *f, const char *path, const Image *im, const DataWant *want, int n, int64_t at,
                       Error *err) {
  char full[PATH_BYTES];
  uint16_t *labels = NULL;
  int width, height;
  if (!full_path(f, path, ".labels.png", full)) return error_set(err, ERROR_LIMIT, "%s: too long a path", path);
  bool ok = image_read_labels(full, &labels, &width, &height, err);
  if (ok && im->rgb && (width != im->width || height != im->height))
    ok = error_set(err, ERROR_FORMAT, "%s: labels of %d x %d for a picture of %d x %d", full, width, height,
                   im->width, im->height);
  for (int i = 0; ok && i < n; i++)
    if (want[i].field->fit == FIT_LABELS) data_put_labels(&want[i], at, 0, labels, width, height);
  mem_free(labels);
  return ok;
}

static bool folder_read(const Dataset *d, const DataExample *e, const DataWant *want, int n, int64_t at, Error *err) {
  const Folder *f = folder_of(d);
  const char *path = path_of(f, e->number);
  char full[PATH_BYTES];
  bool has[FIT_ARRAY + 1] = {false};
  Image im = {0};
  for (int i = 0; i < n; i++) {
    has[want[i].field->fit] = true;
    if (want[i].field->fit == FIT_CLASS) ((int32_t *)want[i].out)[at] = class_of(f, path);
  }
  if (!full_path(f, path, NULL, full)) return error_set(err, ERROR_LIMIT, "%s: too long a path", path);
  bool ok = !has[FIT_PICTURE] || image_read(full, &im, err);
  for (int i = 0; ok && i < n; i++)
    if (want[i].field->fit == FIT_PICTURE) ok = data_put_picture(&want[i], at, 0, &im, err);
  ok = ok && (!has[FIT_LABELS] || put_labels(f, path, &im, want, n, at, err));
  image_done(&im);
  return ok;
}

static void folder_key(const Dataset *d, const DataExample *e, Buffer *out) {
  const char *path = path_of(folder_of(d), e->number);
  buffer_append(out, path, suffix_at(path));
}

static void folder_notes(const Dataset *d, Buffer *out) {
  const Folder *f = folder_of(d);
  const struct {
    uint64_t n;
    const char *what;
  } lone[] = {{f->lone_texts, "texts"}, {f->lone_labels, "maps of labels"}, {f->lone_captions, "captions in tables"}};
  if (f->skipped)
    buffer_printf(out, "%llu files are no PNG or JPEG and were passed over, \"%s\" the first\n",
                  (unsigned long long)f->skipped, f->first_skipped);
  if (f->empty_texts) buffer_printf(out, "%llu texts are empty\n", (unsigned long long)f->empty_texts);
  for (int i = 0; i < COUNT_OF(lone); i++)
    if (lone[i].n) buffer_printf(out, "%llu %s belong to no picture\n", (unsigned long long)lone[i].n, lone[i].what);
}

static void folder_close(Dataset *d) {
  Folder *f = (Folder *)d;
  captions_done(&f->captions);
  buffer_done(&f->paths);
  mem_free(f->file);
  mem_free(f->class_name);
  mem_free(f->root);
}

/* ---- opening ---- */

/* A field that some have. */
static bool add_partial(Folder *f, const char *name, DataFit fit, int rank, uint8_t has, Error *err) {
  uint64_t missing = 0, first = 0;
  for (size_t i = f->n; i-- > 0;)
    if (!(f->file[i].has & has)) missing++, first = i;
  if (missing == f->n) return true;
  if (!dataset_add_field(&f->base, name, fit, rank, (int64_t[]){DATA_ANY, DATA_ANY}, err)) return false;
  f->base.field[f->base.n_field - 1].missing = missing;
  f->base.field[f->base.n_field - 1].first_missing = first;
  return true;
}

static bool add_fields(Folder *f, Error *err) {
  return dataset_add_field(&f->base, PORT_IMAGE, FIT_PICTURE, 3, (int64_t[]){DATA_ANY, DATA_ANY, 3}, err) &&
         add_partial(f, PORT_LABELS, FIT_LABELS, 2, HAS_LABELS, err) &&
         add_partial(f, PORT_TEXT, FIT_TEXT, 1, HAS_TEXT | HAS_TABLE, err) &&
         (!f->base.n_class || dataset_add_field(&f->base, PORT_CLASS, FIT_CLASS, 0, (int64_t[]){0}, err));
}

static bool open_folder(Folder *f, const char *path, Error *err) {
  if (!(f->root = mem_alloc(strlen(path) + 1))) return error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  strcpy(f->root, path);
  for (size_t n = strlen(f->root); n > 1 && f->root[n - 1] == '/';) f->root[--n] = 0;
  if (!list_folder(f, "", NULL, err)) return false;
  if (f->n >= UINT32_MAX) return error_set(err, ERROR_LIMIT, "%s: %zu files are too many", path, f->n);
  if (f->n) qsort_r(f->file, f->n, sizeof *f->file, compare_paths, f->paths.data);
  if (!join(f, err) || !digest(f, err)) return false;
  if (!drop_all_but_pictures(f, err)) return false;
  if (!f->n)
    return error_set(err, ERROR_ARGUMENT, "%s: holds no PNG or JPEG picture (%llu other files)", path,
                     (unsigned long long)f->skipped);
  return list_classes(f, err) && add_fields(f, err);
}

static const DatasetKind kind = {folder_read, folder_read_caption, folder_key, folder_notes, folder_close};

Dataset *dataset_open_folder(const char *path, const DatasetOptions *o, Error *err) {
  Folder *f = mem_alloc(sizeof *f);
  if (!f) {
    error_set(err, ERROR_MEMORY, "%s: out of memory", path);
    return NULL;
  }
  f->base.kind = &kind;
  if (open_folder(f, path, err)) return &f->base;
  dataset_close(&f->base);
  return NULL;
}
