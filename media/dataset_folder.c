/* A folder of pictures and clips, and what lies beside them:
 *
 *   DIR/NAME.png .jpg .jpeg .webp  an example, of key DIR/NAME; folders are looked into, links followed
 *   DIR/NAME.mp4 .webm .gif ...   a clip (clip.h): all its frames, or FOLDER:fps=N of a second
 *   DIR/NAME.frames/              a clip of the pictures within, in the order of their names, numbers by their
 * values; FRAME.labels.png among them is what FRAME shows DIR/NAME.txt                  its captions, one a line
 * (captions.h) DIR/NAME.labels.png           what its pixels show (image_decode_labels) DIR/captions.txt captions of
 * examples in DIR and below DIR/metadata.jsonl            the same CLASS/...                     its class, where all
 * examples lie in folders of the data's folder
 *
 * What there is listing.h says; files are opened when they are read. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "media/dataset_files.h"
#include "runtime/base/names.h"

typedef struct Folder {
  Dataset base;
  char *root;
  Listing *listing;
  ClipOptions clips;
  const char **class_name;
} Folder;

static const Folder *folder_of(const Dataset *d) { return (const Folder *)d; }
static const char *path_of(const Folder *f, uint64_t i) { return listing_path(f->listing, i); }

/* root/path, with another suffix where one is given; false with err set: too long. */
static bool full_path(const Folder *f, const char *path, const char *suffix, char out[PATH_MAX], Error *err) {
  int n = suffix ? snprintf(out, PATH_MAX, "%s/%.*s%s", f->root, (int)listing_suffix(path), path, suffix)
                 : snprintf(out, PATH_MAX, "%s/%s", f->root, path);
  return n < PATH_MAX || error_set(err, ERROR_LIMIT, "%s/%s: too long a path", f->root, path);
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
  for (uint64_t i = 0; i < f->base.n; i++) {
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

/* NAME.txt. */
static bool read_own_caption(const char *path, uint64_t draw, Buffer *out, Error *err) {
  size_t n;
  char *bytes = file_read(path, &n, err);
  bool ok = bytes && data_choose_caption(bytes, n, path, draw, out, err);
  mem_free(bytes);
  return ok;
}

static bool folder_read_caption(const Dataset *d, const DataExample *e, Buffer *out, Error *err) {
  const Folder *f = folder_of(d);
  uint8_t has = f->listing->file[e->number].has;
  char full[PATH_MAX];
  size_t first;
  if (has & HAS_TEXT)
    return full_path(f, path_of(f, e->number), ".txt", full, err) && read_own_caption(full, e->draw, out, err);
  size_t n = has & HAS_TABLE ? listing_captions(f->listing, e->number, &first) : 0;
  if (n) {
    const char *text = captions_text(&f->listing->captions, first + e->draw % n);
    buffer_append(out, text, strlen(text));
  }
  return true;
}

static bool put_labels(const Folder *f, const char *path, const int size[2], const DataWant *want, int n, int64_t at,
                       int64_t frame, Error *err) {
  char full[PATH_MAX];
  FileMap m;
  if (!full_path(f, path, ".labels.png", full, err) || !file_load(full, &m, err)) return false;
  bool ok = data_put_label_map(m.data, m.len, full, size, want, n, at, frame, err);
  file_unmap(&m);
  return ok;
}

/* ---- frames in folders of their own ---- */

typedef struct FrameList {
  const Folder *f;
  uint64_t *file, n, next;
} FrameList;

/* "b2" before "b10"; those that differ in zeros alone by their bytes. */
static int compare_numbered(const char *a, const char *b) {
  const char *p = a, *q = b;
  while (*p && *q) {
    size_t n = strspn(p, "0123456789"), m = strspn(q, "0123456789");
    if (!n || !m) {
      if (*p != *q) break;
      p++, q++;
      continue;
    }
    for (; n > 1 && *p == '0'; n--) p++;
    for (; m > 1 && *q == '0'; m--) q++;
    int order = n == m ? memcmp(p, q, n) : n < m ? -1 : 1;
    if (order) return order;
    p += n, q += m;
  }
  return *p == *q ? strcmp(a, b) : (unsigned char)*p < (unsigned char)*q ? -1 : 1;
}

static int compare_frames(const void *a, const void *b, void *folder) {
  return compare_numbered(path_of(folder, *(const uint64_t *)a), path_of(folder, *(const uint64_t *)b));
}

static bool next_frame(void *ctx, Image *out, Error *err) {
  FrameList *l = ctx;
  char full[PATH_MAX];
  err->code = ERROR_NONE;
  return l->next < l->n && full_path(l->f, path_of(l->f, l->file[l->next++]), NULL, full, err) &&
         image_read(full, out, err);
}

static bool read_frame_labels(const FrameList *l, const char *full, const int size[2], const DataWant *want, int n,
                              int64_t at, Error *err) {
  const Folder *f = l->f;
  int64_t frames = data_most_frames(want, n, FIT_LABELS), has = (int64_t)l->n;
  if (has < frames && !(has && f->clips.holds)) return data_refuse_short(full, &f->clips, has, frames, err);
  for (int64_t k = 0; k < frames; k++)
    if (!put_labels(f, path_of(f, l->file[k < has ? k : has - 1]), size, want, n, at, k, err)) return false;
  return true;
}

/* Pictures and labels alike. */
static bool read_frames(const Folder *f, uint64_t example, const char *full, const DataWant *want, int n, int64_t at,
                        Error *err) {
  uint64_t first, count = listing_frames(f->listing, example, &first);
  int size[2] = {0};
  FrameList l = {f, mem_alloc((size_t)count * sizeof *l.file), 0, 0};
  if (!l.file) return error_set(err, ERROR_MEMORY, "%s: out of memory", full);
  for (uint64_t i = first; i < first + count; i++)
    if (f->listing->file[i].kind == FILE_FRAME) l.file[l.n++] = i;
  qsort_r(l.file, (size_t)l.n, sizeof *l.file, compare_frames, (void *)(uintptr_t)f);
  bool ok = data_put_frames(next_frame, &l, full, &f->clips, want, n, at, size, err) &&
            read_frame_labels(&l, full, size, want, n, at, err);
  mem_free(l.file);
  return ok;
}

/* ---- pictures ---- */

enum { LARGE = 1 << 26 };   /* more bytes than these are mapped, and whoever cuts such a clip short while it is read ends us; others are read */

static bool read_file(const Folder *f, const ListedFile *listed, const char *full, const DataWant *want, int n, int64_t at,
                      int out_size[2], Error *err) {
  FileMap m;
  bool is_clip = listed->kind == FILE_CLIP;
  if (!(is_clip && listed->size > LARGE ? file_map : file_load)(full, &m, err)) return false;
  bool ok = is_clip ? data_put_clip(m.data, m.len, full, &f->clips, want, n, at, out_size, err)
                    : data_put_image(m.data, m.len, full, want, n, at, out_size, err);
  file_unmap(&m);
  return ok;
}

static bool folder_read(const Dataset *d, const DataExample *e, const DataWant *want, int n, int64_t at, Error *err) {
  const Folder *f = folder_of(d);
  const char *path = path_of(f, e->number);
  FileKind file = (FileKind)f->listing->file[e->number].kind;
  char full[PATH_MAX];
  bool has[FIT_ARRAY + 1] = {false};
  int size[2] = {0};
  for (int i = 0; i < n; i++) {
    has[want[i].field->fit] = true;
    if (want[i].field->fit == FIT_CLASS) ((int32_t *)want[i].out)[at] = class_of(f, path);
  }
  if (!full_path(f, path, NULL, full, err)) return false;
  if (file == FILE_FRAMES) return read_frames(f, e->number, full, want, n, at, err);
  return (!has[FIT_PICTURE] || read_file(f, &f->listing->file[e->number], full, want, n, at, size, err)) &&
         (!has[FIT_LABELS] || put_labels(f, path, size, want, n, at, 0, err));
}

static void folder_key(const Dataset *d, const DataExample *e, Buffer *out) {
  const char *path = path_of(folder_of(d), e->number);
  buffer_append(out, path, listing_suffix(path));
}

static void folder_notes(const Dataset *d, Buffer *out) { listing_print_notes(folder_of(d)->listing, out); }

static void folder_close(Dataset *d) {
  Folder *f = (Folder *)d;
  listing_close(f->listing);
  mem_free(f->class_name);
  mem_free(f->root);
}

/* ---- opening ---- */

static bool add_fields(Folder *f, Error *err) {
  return data_add_listed_fields(&f->base, f->listing, err) &&
         (!f->base.n_class || dataset_add_field(&f->base, PORT_CLASS, FIT_CLASS, 0, (int64_t[]){0}, err));
}

static bool open_folder(Folder *f, const char *path, const char *options, const DatasetOptions *o, Error *err) {
  if (!(f->root = mem_alloc(strlen(path) + 1))) return error_set(err, ERROR_MEMORY, "%s: out of memory", path);
  strcpy(f->root, path);
  for (size_t n = strlen(f->root); n > 1 && f->root[n - 1] == '/';) f->root[--n] = 0;
  if (!(f->listing = listing_open(f->root, o, err))) return false;
  const ListingHead *h = &f->listing->head;
  if (!(f->base.n = h->n_example))
    return error_set(err, ERROR_ARGUMENT, "%s: holds neither pictures nor clips (%llu other files)", path,
                     (unsigned long long)h->note[NOTE_OTHER].n);
  memcpy(f->base.digest, h->digest, sizeof f->base.digest);
  dataset_digest_options(&f->base, options);
  return list_classes(f, err) && add_fields(f, err);
}

static const DatasetKind kind = {folder_read, folder_read_caption, folder_key, folder_notes, NULL, folder_close};

Dataset *dataset_open_folder(const char *path, const char *options, const DatasetOptions *o, Error *err) {
  Folder *f = mem_alloc(sizeof *f);
  if (!f) {
    error_set(err, ERROR_MEMORY, "%s: out of memory", path);
    return NULL;
  }
  f->base.kind = &kind;
  if (clip_options_parse(options, path, &f->clips, err) && open_folder(f, path, options, o, err)) return &f->base;
  dataset_close(&f->base);
  return NULL;
}
