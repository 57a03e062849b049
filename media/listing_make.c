/* Lists a folder: walks it, sorts what it finds, and says what belongs to which example.
 *
 * A folder is listed once, under the path that reaches it without links, or else under the first of the links.  Hidden
 * folders are passed over.  A folder NAME.frames is an example, and what else lies in it is counted. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "media/listing.h"
#include "runtime/base/sha256.h"

enum { MAX_DEPTH = 32, LISTING_VERSION = 7 };
/* Time stamps of file systems are coarse: two seconds, of the coarsest. */
static const int64_t settled_ns = 2000000000;

/* ---- names ---- */

typedef struct Suffix {
  const char *text;
  FileKind kind;
  bool any_case; /* else the file is opened under this very name later */
} Suffix;

/* Of two that fit the first counts. */
static const Suffix suffixes[] = {
    {".labels.png", FILE_LABELS, false}, {".png", FILE_PICTURE, true}, {".jpg", FILE_PICTURE, true},
    {".jpeg", FILE_PICTURE, true},       {".webp", FILE_CLIP, true},   {".gif", FILE_CLIP, true},
    {".mp4", FILE_CLIP, true},           {".m4v", FILE_CLIP, true},    {".mov", FILE_CLIP, true},
    {".webm", FILE_CLIP, true},          {".mkv", FILE_CLIP, true},    {".avi", FILE_CLIP, true},
    {".ogv", FILE_CLIP, true},           {".mpg", FILE_CLIP, true},    {".mpeg", FILE_CLIP, true},
    {".frames", FILE_FRAMES, false},     {".txt", FILE_TEXT, false},
};

static const char *const tables[] = {"captions.txt", "metadata.jsonl"};

void listing_print_rules(Buffer *out) {
  buffer_printf(out, "%d", LISTING_VERSION);
  for (int i = 0; i < COUNT_OF(suffixes); i++)
    buffer_printf(out, " %s %d %d", suffixes[i].text, suffixes[i].kind, suffixes[i].any_case);
}

static const char *name_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

size_t listing_suffix(const char *path) {
  const char *name = name_of(path), *dot = strrchr(name, '.');
  return dot && dot > name ? (size_t)(dot - path) : strlen(path);
}

static bool ends_in(const char *name, const Suffix *s) {
  size_t n = strlen(name), k = strlen(s->text);
  return n > k && (s->any_case ? strcasecmp : strcmp)(name + n - k, s->text) == 0;
}

FileKind listing_kind(const char *path) {
  const char *name = name_of(path);
  if (*name == '.') return FILE_OTHER;
  for (int i = 0; i < COUNT_OF(tables); i++)
    if (strcmp(name, tables[i]) == 0) return FILE_TABLE;
  for (int i = 0; i < COUNT_OF(suffixes); i++)
    if (ends_in(name, &suffixes[i])) return suffixes[i].kind;
  return FILE_OTHER;
}

bool listing_is_example(FileKind k) { return k <= FILE_FRAMES; }

/* The bytes of the path of a file of captions or labels that say whose they are. */
static size_t stem_bytes(const char *path, FileKind k) {
  return k == FILE_LABELS ? strlen(path) - strlen(".labels.png") : listing_suffix(path);
}

/* ---- what is known while listing ---- */

typedef struct FolderId {
  uint64_t dev, ino;
  bool is_used;
} FolderId;

typedef struct Maker {
  Listing *l;
  const char *root;
  size_t cap;    /* of own_file */
  Buffer links;  /* paths of links to folders, a NUL behind each: looked into when all that is no link is listed */
  FolderId *seen; /* a hash table of a power of two, at most half full */
  size_t n_seen, cap_seen;
  int64_t begin_ns;
} Maker;

static bool no_memory(const Maker *m, Error *err) {
  return error_set(err, ERROR_MEMORY, "%s: out of memory", m->root);
}

static char *path_at(const Maker *m, size_t i) { return m->l->own_paths.data + m->l->own_file[i].path; }

void listing_count(Listing *l, ListingNote note, const char *path) {
  ListingCount *c = &l->head.note[note];
  char cut[sizeof c->first];
  snprintf(cut, sizeof cut, "%s", path);
  if (!c->n++ || strcmp(cut, c->first) < 0) strcpy(c->first, cut);
}

static void count(Maker *m, ListingNote note, const char *path) { listing_count(m->l, note, path); }

void listing_stamp(Listing *l, ListedFile *f, const struct stat *st, int64_t begin_ns) {
  f->size = st->st_size;
  f->mtime_ns = st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec;
  if (f->mtime_ns > begin_ns - settled_ns) l->head.is_settled = 0;
}

static bool add(Maker *m, const char *path, FileKind kind, const struct stat *st, Error *err) {
  Listing *l = m->l;
  size_t n = (size_t)l->head.n_file;
  if (n == m->cap) {
    size_t cap = m->cap ? 2 * m->cap : 64;
    ListedFile *file = mem_realloc(l->own_file, cap * sizeof *file);
    if (!file) return no_memory(m, err);
    l->own_file = file;
    m->cap = cap;
  }
  ListedFile *f = &l->own_file[l->head.n_file++];
  *f = (ListedFile){.path = l->own_paths.len, .kind = (uint8_t)kind};
  if (st) listing_stamp(l, f, st, m->begin_ns);
  buffer_append(&l->own_paths, path, strlen(path) + 1);
  return !l->own_paths.failed || no_memory(m, err);
}

/* ---- folders that were seen ---- */

static FolderId *find_seen(FolderId *table, size_t cap, const struct stat *st) {
  uint64_t hash = ((uint64_t)st->st_ino + (uint64_t)st->st_dev * 31) * UINT64_C(0x9e3779b97f4a7c15) >> 32;
  for (;; hash++) {
    FolderId *f = &table[hash & (cap - 1)];
    if (!f->is_used || (f->dev == (uint64_t)st->st_dev && f->ino == (uint64_t)st->st_ino)) return f;
  }
}

static bool grow_seen(Maker *m, Error *err) {
  size_t cap = m->cap_seen ? 2 * m->cap_seen : 64;
  FolderId *table = mem_alloc(cap * sizeof *table);
  if (!table) return no_memory(m, err);
  for (size_t i = 0; i < m->cap_seen; i++)
    if (m->seen[i].is_used)
      *find_seen(table, cap, &(struct stat){.st_dev = m->seen[i].dev, .st_ino = m->seen[i].ino}) = m->seen[i];
  mem_free(m->seen);
  m->seen = table;
  m->cap_seen = cap;
  return true;
}

/* Whether the folder was there before, in *out; from now on it was. */
static bool see(Maker *m, const struct stat *st, bool *out, Error *err) {
  if (2 * m->n_seen >= m->cap_seen && !grow_seen(m, err)) return false;
  FolderId *f = find_seen(m->seen, m->cap_seen, st);
  *out = f->is_used;
  m->n_seen += !f->is_used;
  *f = (FolderId){(uint64_t)st->st_dev, (uint64_t)st->st_ino, true};
  return true;
}

/* ---- walking ---- */

static bool full_path(const Maker *m, const char *path, char out[PATH_MAX]) {
  return snprintf(out, PATH_MAX, "%s/%s", m->root, path) < PATH_MAX;
}

static bool list_folder(Maker *m, const char *path, int depth, Error *err);

bool listing_webp_moves(const uint8_t *bytes, size_t n) {
  enum { FLAGS = 20, ANIMATION = 2 };
  return n > FLAGS && memcmp(bytes + 12, "VP8X", 4) == 0 && bytes[FLAGS] & ANIMATION;
}

static bool is_still_webp(int folder, const char *name) {
  uint8_t head[21] = {0};
  size_t n = strlen(name);
  if (n < 5 || strcasecmp(name + n - 5, ".webp") != 0) return false;
  int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return true; /* whoever reads it says why not */
  ssize_t got = read(fd, head, sizeof head);
  close(fd);
  return got < 0 || !listing_webp_moves(head, (size_t)got);
}

/* What a regular file is where it lies. */
static FileKind kind_in(int folder, const char *name, bool in_frames) {
  FileKind k = listing_kind(name);
  if (k == FILE_CLIP && is_still_webp(folder, name)) k = FILE_PICTURE;
  if (in_frames) return k == FILE_PICTURE ? FILE_FRAME : k == FILE_LABELS ? FILE_FRAME_LABELS : FILE_OTHER;
  return k == FILE_FRAMES ? FILE_OTHER : k;
}

static bool is_frames(const char *path) { return listing_kind(path) == FILE_FRAMES; }

static bool is_in_frames(const char *path) {
  static const char end[] = ".frames/";
  const char *name = name_of(path);
  return (size_t)(name - path) > strlen(end) && memcmp(name - strlen(end), end, strlen(end)) == 0;
}

/* A link: *st is of what it leads to, unless that is nothing (*out_done) or a folder, which waits. */
static bool list_link(Maker *m, int folder, const char *path, const char *name, struct stat *st, bool *out_done,
                      Error *err) {
  *out_done = true;
  if (fstatat(folder, name, st, 0) != 0) {
    if (errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
      return error_set(err, ERROR_IO, "%s/%s: %s", m->root, path, strerror(errno));
    if (*name == '.') return true;
    count(m, NOTE_NOWHERE, path);
    return add(m, path, FILE_NOWHERE, NULL, err);
  }
  *out_done = S_ISDIR(st->st_mode) && !is_in_frames(path);
  if (*out_done && *name != '.') buffer_append(&m->links, path, strlen(path) + 1);
  return !m->links.failed || no_memory(m, err);
}

static bool list_entry(Maker *m, int folder, const char *at, const char *name, int depth, Error *err) {
  char path[PATH_MAX];
  struct stat st;
  bool is_done = false;
  if (snprintf(path, sizeof path, "%s%s%s", at, *at ? "/" : "", name) >= PATH_MAX)
    return error_set(err, ERROR_LIMIT, "%s/%s: a path of more than %d bytes", m->root, at, PATH_MAX);
  if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
    return errno == ENOENT || error_set(err, ERROR_IO, "%s/%s: %s", m->root, path, strerror(errno));
  if (S_ISLNK(st.st_mode) && !list_link(m, folder, path, name, &st, &is_done, err)) return false;
  if (is_done) return true;
  bool in_frames = is_in_frames(path);
  if (S_ISDIR(st.st_mode) && !in_frames) return *name == '.' || list_folder(m, path, depth + 1, err);
  if (!S_ISREG(st.st_mode) && !in_frames) return true;
  FileKind kind = S_ISREG(st.st_mode) ? kind_in(folder, name, in_frames) : FILE_OTHER;
  if (kind != FILE_OTHER) return add(m, path, kind, &st, err);
  count(m, NOTE_OTHER, path);
  return true;
}

static bool list_entries(Maker *m, DIR *dir, const char *path, int depth, Error *err) {
  struct stat st;
  bool was_seen, ok = true;
  if (fstat(dirfd(dir), &st) != 0) return error_set(err, ERROR_IO, "%s/%s: %s", m->root, path, strerror(errno));
  if (!see(m, &st, &was_seen, err)) return false;
  if (was_seen) return count(m, NOTE_LISTED_BEFORE, path), true;
  if (!add(m, path, is_frames(path) ? FILE_FRAMES : FILE_FOLDER, &st, err)) return false; /* with its time before it is read */
  errno = 0;
  for (struct dirent *e; ok && (e = readdir(dir)); errno = 0)
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
      ok = list_entry(m, dirfd(dir), path, e->d_name, depth, err);
  if (ok && errno) return error_set(err, ERROR_IO, "%s/%s: %s", m->root, path, strerror(errno));
  return ok;
}

static bool list_folder(Maker *m, const char *path, int depth, Error *err) {
  char full[PATH_MAX];
  if (!full_path(m, path, full)) return error_set(err, ERROR_LIMIT, "%s: too long a path", m->root);
  if (depth > MAX_DEPTH) return error_set(err, ERROR_LIMIT, "%s: folders more than %d deep", full, MAX_DEPTH);
  DIR *dir = opendir(full);
  if (!dir) return error_set(err, ERROR_IO, "%s: %s", full, strerror(errno));
  bool ok = list_entries(m, dir, path, depth, err);
  closedir(dir);
  return ok;
}

static int compare_texts(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Round by round: links within what links lead to come after those that led there. */
static bool follow_links(Maker *m, Error *err) {
  bool ok = true;
  for (int round = 0; ok && m->links.len; round++) {
    Buffer links = m->links;
    size_t n = 0, i = 0;
    m->links = (Buffer){0};
    for (size_t at = 0; at < links.len; at += strlen(links.data + at) + 1) n++;
    char **path = mem_alloc(n * sizeof *path);
    for (size_t at = 0; path && at < links.len; at += strlen(links.data + at) + 1) path[i++] = links.data + at;
    if (path) qsort(path, n, sizeof *path, compare_texts);
    ok = path || no_memory(m, err);
    for (i = 0; ok && i < n; i++) ok = list_folder(m, path[i], round, err);
    mem_free(path);
    buffer_done(&links);
  }
  return ok;
}

/* ---- what belongs to which example ---- */

/* The stem of path, shown as text of `n` bytes, against that of an example. */
static int compare_stem(const char *path, size_t n, const char *example) {
  size_t k = listing_suffix(example);
  int order = memcmp(path, example, n < k ? n : k);
  return order ? order : (n > k) - (n < k);
}

/* By stems examples have another order than by paths ("a b.png" and "a.png"): this one is for looking up. */
typedef struct Stems {
  uint32_t *at; /* [n] examples */
  size_t n;
} Stems;

static int compare_stems(const void *a, const void *b, void *ctx) {
  const Maker *m = ctx;
  uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
  const char *path = path_at(m, i);
  int order = compare_stem(path, listing_suffix(path), path_at(m, k));
  return order ? order : (i > k) - (i < k);
}

static size_t find_stem(const Maker *m, const Stems *s, const char *path, size_t n) {
  size_t lo = 0, hi = s->n;
  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;
    if (compare_stem(path, n, path_at(m, s->at[mid])) > 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static size_t count_stem(const Maker *m, const Stems *s, const char *path, size_t n) {
  size_t first = find_stem(m, s, path, n), last = first;
  while (last < s->n && compare_stem(path, n, path_at(m, s->at[last])) == 0) last++;
  return last - first;
}

/* Marks all examples of the stem; false: there is none.  Labels of a folder of frames lie in it, one for each. */
static bool mark(Maker *m, const Stems *s, const char *path, size_t n, uint8_t has) {
  size_t lo = find_stem(m, s, path, n);
  bool found = false;
  for (; lo < s->n && compare_stem(path, n, path_at(m, s->at[lo])) == 0; lo++) {
    ListedFile *f = &m->l->own_file[s->at[lo]];
    if (has == HAS_LABELS && f->kind == FILE_FRAMES) continue;
    f->has |= has, found = true;
  }
  return found;
}

/* Marks the example of just this path. */
static bool mark_path(Maker *m, const char *path, uint8_t has) {
  size_t lo = 0, hi = (size_t)m->l->head.n_example;
  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;
    int order = strcmp(path, path_at(m, mid));
    if (order == 0) return m->l->own_file[mid].has |= has, true;
    if (order > 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  return false;
}

static bool read_table(Maker *m, const char *path, Error *err) {
  char full[PATH_MAX], folder[PATH_MAX];
  FileMap map;
  snprintf(folder, sizeof folder, "%.*s", (int)(name_of(path) - path), path);
  if (!full_path(m, path, full)) return error_set(err, ERROR_LIMIT, "%s: too long a path", path);
  if (!file_map(full, &map, err)) return false;
  bool is_text = strcmp(name_of(path), tables[0]) == 0;
  bool ok = (is_text ? captions_parse_text : captions_parse_jsonl)(
      &m->l->own_captions, map.data ? (const char *)map.data : "", map.len, full, folder, err);
  file_unmap(&map);
  return ok;
}

/* Captions of a table name an example with its suffix, or with another, or without: what is no path of an example is
 * cut to the stem, which names all examples of it. */
static void mark_captions(Maker *m, const Stems *s) {
  Captions *c = &m->l->own_captions;
  for (size_t i = 0; i < c->n; i++) {
    char *name = c->text.data + c->item[i].name;
    if (mark_path(m, name, HAS_TABLE)) {
      size_t bytes = listing_suffix(name);
      if (count_stem(m, s, name, bytes) == 1) name[bytes] = 0;   /* together with those that say no suffix */
      continue;
    }
    size_t n = listing_is_example(listing_kind(name)) ? listing_suffix(name) : strlen(name);
    if (mark(m, s, name, n, HAS_TABLE))
      name[n] = 0;
    else
      count(m, NOTE_LONE_CAPTION, name);
  }
}

size_t listing_captions(const Listing *l, uint64_t i, size_t *out_first) {
  const char *path = listing_path(l, i);
  char stem[PATH_MAX];
  size_t n = captions_find(&l->captions, path, out_first);
  if (n) return n;
  snprintf(stem, sizeof stem, "%.*s", (int)listing_suffix(path), path);
  return captions_find(&l->captions, stem, out_first);
}

uint64_t listing_frames(const Listing *l, uint64_t i, uint64_t *out_first) {
  char within[PATH_MAX + 1];
  uint64_t lo = l->head.n_example, hi = l->head.n_file, n = 0;
  size_t k = (size_t)snprintf(within, sizeof within, "%s/", listing_path(l, i));
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo) / 2;
    if (strcmp(listing_path(l, mid), within) < 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  while (lo + n < l->head.n_file && strncmp(listing_path(l, lo + n), within, k) == 0) n++;
  *out_first = lo;
  return n;
}

/* An empty text says nothing of its example. */
static void join_beside(Maker *m, const Stems *s, size_t i) {
  const ListedFile *f = &m->l->own_file[i];
  const char *path = path_at(m, i);
  if (f->kind == FILE_TEXT && !f->size)
    count(m, NOTE_EMPTY_TEXT, path);
  else if (!mark(m, s, path, stem_bytes(path, (FileKind)f->kind), f->kind == FILE_TEXT ? HAS_TEXT : HAS_LABELS))
    count(m, f->kind == FILE_TEXT ? NOTE_LONE_TEXT : NOTE_LONE_LABELS, path);
}

/* A folder of frames has labels when one of them has. */
static void join_frame_labels(Maker *m, size_t i) {
  char folder[PATH_MAX];
  const char *path = path_at(m, i);
  snprintf(folder, sizeof folder, "%.*s", (int)(name_of(path) - path - 1), path);
  mark_path(m, folder, HAS_LABELS | HAS_FRAME_LABELS);
}

static bool join(Maker *m, Error *err) {
  const ListingHead *h = &m->l->head;
  Stems s = {mem_alloc((size_t)h->n_example * sizeof *s.at), (size_t)h->n_example};
  if (!s.at) return no_memory(m, err);
  for (size_t i = 0; i < s.n; i++) s.at[i] = (uint32_t)i;
  qsort_r(s.at, s.n, sizeof *s.at, compare_stems, m);
  bool ok = true;
  for (size_t i = s.n; ok && i < h->n_file; i++) {
    FileKind kind = (FileKind)m->l->own_file[i].kind;
    if (kind == FILE_TEXT || kind == FILE_LABELS) join_beside(m, &s, i);
    if (kind == FILE_FRAME_LABELS) join_frame_labels(m, i);
    if (kind == FILE_TABLE) ok = read_table(m, path_at(m, i), err);
  }
  if (ok) mark_captions(m, &s);
  mem_free(s.at);
  return ok;
}

/* Names and sizes of all that is used, and the tables.  Texts of folders, and links to nowhere, say nothing. */
static void digest(const Listing *l, Sha256 *h) {
  sha256_init(h);
  for (uint64_t i = 0; i < l->head.n_file; i++) {
    const ListedFile *f = &l->own_file[i];
    char line[32];
    int64_t size = f->kind == FILE_FRAMES ? 0 : f->size; /* what a folder's is says nothing */
    if (f->kind == FILE_FOLDER || f->kind == FILE_NOWHERE || (f->kind == FILE_TEXT && !f->size)) continue;
    const char *path = l->own_paths.data + f->path;
    sha256_update(h, path, strlen(path) + 1);
    sha256_update(h, line, (size_t)snprintf(line, sizeof line, "%lld\n", (long long)size));
  }
  sha256_update(h, l->own_captions.text.data, l->own_captions.text.len);
}

/* ---- all of it ---- */

/* Examples first, then by path. */
static int compare_files(const void *a, const void *b, void *paths) {
  const ListedFile *x = a, *y = b;
  bool x_first = listing_is_example((FileKind)x->kind), y_first = listing_is_example((FileKind)y->kind);
  return x_first != y_first ? y_first - x_first : strcmp((char *)paths + x->path, (char *)paths + y->path);
}

/* Of a million examples every byte counts: what is kept has no room to grow. */
static void *fit(void *p, size_t bytes) {
  void *fits = mem_realloc(p, bytes + 1);
  return fits ? fits : p;
}

void listing_finish(Listing *l, Sha256 *digest_of_all) {
  ListingHead *h = &l->head;
  uint8_t bytes[32];
  sha256_done(digest_of_all, bytes);
  sha256_hex(bytes, h->digest);
  Captions *c = &l->own_captions;
  h->path_bytes = l->own_paths.len;
  h->n_caption = c->n;
  h->caption_bytes = c->text.len;
  l->own_file = fit(l->own_file, (size_t)h->n_file * sizeof *l->own_file);
  if (l->own_member) l->own_member = fit(l->own_member, (size_t)h->n_member * sizeof *l->own_member);
  l->own_paths.data = fit(l->own_paths.data, l->own_paths.len);
  if (c->n) c->text.data = fit(c->text.data, c->text.len), c->item = fit(c->item, c->n * sizeof *c->item);
  l->file = l->own_file;
  l->member = l->own_member;
  l->paths = l->own_paths.data;
  l->captions = captions_sort(c);
}

static bool make(Maker *m, Error *err) {
  Listing *l = m->l;
  ListingHead *h = &l->head;
  if (!list_folder(m, "", 0, err) || !follow_links(m, err)) return false;
  if (h->n_file >= UINT32_MAX)
    return error_set(err, ERROR_LIMIT, "%s: %llu files are too many", m->root, (unsigned long long)h->n_file);
  qsort_r(l->own_file, (size_t)h->n_file, sizeof *l->own_file, compare_files, l->own_paths.data);
  while (h->n_example < h->n_file && listing_is_example((FileKind)l->own_file[h->n_example].kind)) h->n_example++;
  if (!join(m, err)) return false;
  Sha256 all;
  digest(l, &all);
  listing_finish(l, &all);
  return true;
}

bool listing_make(Listing *l, const char *root, Error *err) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  *l = (Listing){.head.is_settled = 1};
  Maker m = {.l = l, .root = root, .begin_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec};
  bool ok = make(&m, err);
  mem_free(m.seen);
  buffer_done(&m.links);
  return ok;
}
