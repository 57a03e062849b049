/* Tar shards by the rules of WebDataset (listing_shards.c says which member is whose):
 *
 *   KEY.png .jpg .jpeg .webp       a picture
 *   KEY.mp4 .webm .gif ...         a clip (clip.h)
 *   KEY.txt                        its captions, one a line (captions.h)
 *   KEY.json                       an object with its caption as "text" or "caption", where there is no KEY.txt
 *   KEY.cls                        its class, a whole number
 *   KEY.labels.png                 what its pixels show
 *
 * The order is that of the archives.  An epoch goes from shard to shard, in an order of its own, and within each in
 * one of its own.  A member is read when it is wanted, at its place in the file. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/dataset_files.h"

typedef struct Shards {
  Dataset base;
  char *folder; /* with a slash at its end, or "" */
  Listing *listing;
  ClipOptions clips;
} Shards;

static const Shards *shards_of(const Dataset *d) { return (const Shards *)d; }

static const char *key_path(const Shards *s, uint64_t i) { return listing_path(s->listing, i); }

/* ---- members ---- */

typedef struct Part {
  char *bytes; /* with a zero behind them */
  size_t n;
  char where[300]; /* "shards-003.tar: a/b.png" */
} Part;

static bool read_at(int fd, char *out, size_t n, uint64_t at) {
  while (n) {
    ssize_t got = pread(fd, out, n, (off_t)at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out += got, n -= (size_t)got, at += (uint64_t)got;
  }
  return true;
}

static bool read_open(const ListedFile *shard, int fd, Part *out, uint64_t at, Error *err) {
  struct stat st;
  if (fstat(fd, &st) != 0) return error_set(err, ERROR_IO, "%s: %s", out->where, strerror(errno));
  if (st.st_size != shard->size || at > (uint64_t)st.st_size || out->n > (uint64_t)st.st_size - at)
    return error_set(err, ERROR_FORMAT, "%s: the shard has changed since it was listed", out->where);
  if (!(out->bytes = mem_alloc(out->n + 1))) return error_set(err, ERROR_MEMORY, "%s: out of memory", out->where);
  return read_at(fd, out->bytes, out->n, at) || error_set(err, ERROR_IO, "%s: cannot be read", out->where);
}

/* mem_free gives its bytes back, after a failure too. */
static bool read_part(const Shards *s, uint64_t i, MemberPart part, Part *out, Error *err) {
  static const char *const suffix[] = {
      [MEMBER_TEXT] = ".txt", [MEMBER_JSON] = ".json", [MEMBER_LABELS] = ".labels.png"};
  const ListedMember *m = &s->listing->member[i];
  uint64_t file = s->listing->head.n_example + m->shard;
  const char *shard = listing_path(s->listing, file), *path = key_path(s, i);
  char full[PATH_MAX];
  *out = (Part){.n = (size_t)m->bytes[part]};
  snprintf(out->where, sizeof out->where, "%.120s: %.*s%s", shard,
           (int)(part == MEMBER_PICTURE ? strlen(path) : listing_suffix(path)), path,
           suffix[part] ? suffix[part] : "");
  if (snprintf(full, sizeof full, "%s%s", s->folder, shard) >= (int)sizeof full)
    return error_set(err, ERROR_LIMIT, "%s: too long a path", shard);
  int fd = open(full, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return error_set(err, ERROR_IO, "%s: %s", full, strerror(errno));
  bool ok = read_open(&s->listing->file[file], fd, out, m->at[part], err);
  close(fd);
  return ok;
}

/* ---- reading ---- */

static bool shards_read_caption(const Dataset *d, const DataExample *e, Buffer *out, Error *err) {
  const Shards *s = shards_of(d);
  uint8_t has = s->listing->file[e->number].has;
  MemberPart part = has & HAS_TEXT ? MEMBER_TEXT : MEMBER_JSON;
  Part p;
  if (!(has & (HAS_TEXT | HAS_JSON))) return true;
  bool ok = read_part(s, e->number, part, &p, err) &&
            (part == MEMBER_TEXT ? data_choose_caption(p.bytes, p.n, p.where, e->draw, out, err)
                                 : captions_read_json(p.bytes, p.n, p.where, out, err));
  mem_free(p.bytes);
  return ok;
}

static bool put_picture(const Shards *s, uint64_t i, const DataWant *want, int n, int64_t at, int out_size[2],
                        Error *err) {
  Part p;
  bool ok = read_part(s, i, MEMBER_PICTURE, &p, err);
  if (ok && s->listing->file[i].kind == FILE_CLIP)
    ok = data_put_clip(p.bytes, p.n, p.where, &s->clips, want, n, at, out_size, err);
  else if (ok)
    ok = data_put_image(p.bytes, p.n, p.where, want, n, at, out_size, err);
  mem_free(p.bytes);
  return ok;
}

static bool put_labels(const Shards *s, uint64_t i, const int size[2], const DataWant *want, int n, int64_t at,
                       Error *err) {
  Part p;
  bool ok =
      read_part(s, i, MEMBER_LABELS, &p, err) && data_put_label_map(p.bytes, p.n, p.where, size, want, n, at, 0, err);
  mem_free(p.bytes);
  return ok;
}

static bool shards_read(const Dataset *d, const DataExample *e, const DataWant *want, int n, int64_t at, Error *err) {
  const Shards *s = shards_of(d);
  bool has[FIT_ARRAY + 1] = {false};
  int size[2] = {0};
  for (int i = 0; i < n; i++) {
    has[want[i].field->fit] = true;
    if (want[i].field->fit == FIT_CLASS) ((int32_t *)want[i].out)[at] = s->listing->member[e->number].class_id;
  }
  return (!has[FIT_PICTURE] || put_picture(s, e->number, want, n, at, size, err)) &&
         (!has[FIT_LABELS] || put_labels(s, e->number, size, want, n, at, err));
}

static void shards_key(const Dataset *d, const DataExample *e, Buffer *out) {
  const char *path = key_path(shards_of(d), e->number);
  buffer_append(out, path, listing_suffix(path));
}

static void shards_notes(const Dataset *d, Buffer *out) { listing_print_notes(shards_of(d)->listing, out); }

static uint32_t shards_group(const Dataset *d, uint64_t number) {
  return shards_of(d)->listing->member[number].shard;
}

static void shards_close(Dataset *d) {
  Shards *s = (Shards *)d;
  listing_close(s->listing);
  mem_free(s->folder);
}

static const DatasetKind kind = {shards_read,  shards_read_caption, shards_key,
                                 shards_notes, shards_group,        shards_close};

/* ---- opening ---- */

static void count_classes(Shards *s) {
  for (uint64_t i = 0; i < s->base.n; i++)
    if (s->listing->file[i].has & HAS_CLASS && s->listing->member[i].class_id >= s->base.n_class)
      s->base.n_class = s->listing->member[i].class_id + 1;
}

static bool open_shards(Shards *s, const char *pattern, const char *options, const DatasetOptions *o, Error *err) {
  const char *slash = strrchr(pattern, '/');
  size_t n = slash ? (size_t)(slash + 1 - pattern) : 0;
  if (!(s->folder = mem_alloc(n + 1))) return error_set(err, ERROR_MEMORY, "%s: out of memory", pattern);
  memcpy(s->folder, pattern, n);
  if (!(s->listing = listing_open_shards(pattern, o, err))) return false;
  const ListingHead *h = &s->listing->head;
  const ListingCount *cut = &h->note[NOTE_CUT];
  if (o->strict && cut->n)
    return error_set(err, ERROR_FORMAT, "%s: %llu shards are cut short or damaged, %s the first", pattern,
                     (unsigned long long)cut->n, cut->first);
  const ListingCount *json = &h->note[NOTE_BAD_JSON];
  if (o->strict && json->n)
    return error_set(err, ERROR_FORMAT, "%s: %llu members are no JSON objects, %s the first", pattern,
                     (unsigned long long)json->n, json->first);
  if (!(s->base.n = h->n_example))
    return error_set(err, ERROR_ARGUMENT, "%s: the shards hold neither pictures nor clips%s%s", pattern,
                     cut->n ? "; one is cut short or damaged: " : "", cut->n ? cut->first : "");
  s->base.n_group = (uint32_t)(h->n_file - h->n_example);
  memcpy(s->base.digest, h->digest, sizeof s->base.digest);
  dataset_digest_options(&s->base, options);
  count_classes(s);
  return data_add_listed_fields(&s->base, s->listing, err);
}

Dataset *dataset_open_shards(const char *pattern, const char *options, const DatasetOptions *o, Error *err) {
  Shards *s = mem_alloc(sizeof *s);
  if (!s) {
    error_set(err, ERROR_MEMORY, "%s: out of memory", pattern);
    return NULL;
  }
  s->base.kind = &kind;
  if (clip_options_parse(options, pattern, &s->clips, err) && open_shards(s, pattern, options, o, err)) return &s->base;
  dataset_close(&s->base);
  return NULL;
}
