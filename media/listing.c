/* The file of a listing: where it is kept, when it may be read again, and what is checked before. */
#include "media/listing.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/sha256.h"

enum { BYTE_ORDER_MARK = 0x01020304, KEEP_DAYS = 60, DAY = 24 * 3600 };
static const char magic[8] = "nuwalst";

const char *listing_path(const Listing *l, uint64_t i) { return l->paths + l->file[i].path; }

void listing_done(Listing *l) {
  file_unmap(&l->map);
  mem_free(l->own_file);
  mem_free(l->own_member);
  buffer_done(&l->own_paths);
  captions_done(&l->own_captions);
  *l = (Listing){0};
}

void listing_close(Listing *l) {
  if (l) listing_done(l);
  mem_free(l);
}

void listing_print_notes(const Listing *l, Buffer *out) {
  static const char *const what[LISTING_NOTES] = {
      [NOTE_OTHER] = "files are neither pictures nor clips and were passed over",
      [NOTE_EMPTY_TEXT] = "texts are empty",
      [NOTE_LONE_TEXT] = "texts belong to no example",
      [NOTE_LONE_LABELS] = "maps of labels belong to no example",
      [NOTE_LONE_CAPTION] = "captions in tables belong to no example",
      [NOTE_NOWHERE] = "links lead nowhere",
      [NOTE_LISTED_BEFORE] = "links lead to folders that are listed already",
      [NOTE_BAD_NAME] = "members have no key, or a path that leaves the archive, and were passed over",
      [NOTE_TWICE] = "members are there a second time in their example and were passed over",
      [NOTE_LONE_MEMBER] = "keys have neither a picture nor a clip",
      [NOTE_BAD_CLASS] = "classes are no whole numbers from 0 to 16777215",
      [NOTE_BAD_JSON] = "members are no JSON objects, or larger than a caption can be, and were passed over",
      [NOTE_NO_EXAMPLE] = "shards hold no example",
      [NOTE_CUT] = "shards are cut short or damaged, and what follows is left out",
  };
  const ListingCount *note = l->head.note;
  for (int i = 0; i < LISTING_NOTES; i++)
    if (note[i].n)
      buffer_printf(out, "%llu %s, \"%s\" the first\n", (unsigned long long)note[i].n, what[i], note[i].first);
}

/* ---- form ---- */

static void digest_rules(uint8_t out[32]) {
  Buffer b = {0};
  listing_print_rules(&b);
  sha256(b.data ? b.data : "", b.len, out); /* short of memory: rules that nobody has */
  buffer_done(&b);
}

static void make_sum(const ListingHead *h, Sha256 *body, uint8_t out[32]) {
  sha256_update(body, h, offsetof(ListingHead, sum));
  sha256_done(body, out);
}

static bool bad(Error *err, const char *why) { return error_set(err, ERROR_FORMAT, "%s", why); }

static bool check_head(const ListingHead *h, Error *err) {
  uint8_t rules[32];
  digest_rules(rules);
  if (memcmp(h->magic, magic, sizeof magic) != 0) return bad(err, "it is no listing");
  if (h->byte_order != BYTE_ORDER_MARK || h->head_bytes != sizeof *h || memcmp(h->rules, rules, sizeof rules) != 0)
    return bad(err, "it is of another version");
  if (h->n_example > h->n_file || (h->n_member && h->n_member != h->n_example) ||
      !memchr(h->digest, 0, sizeof h->digest))
    return bad(err, "its head is damaged");
  for (int i = 0; i < LISTING_NOTES; i++)
    if (!memchr(h->note[i].first, 0, sizeof h->note[i].first)) return bad(err, "its head is damaged");
  return true;
}

/* Takes n elements off the front of what is left. */
static const void *take(const uint8_t **at, size_t *left, uint64_t n, size_t elem_bytes) {
  const uint8_t *from = *at;
  if (n > *left / elem_bytes) return NULL;
  *at += (size_t)n * elem_bytes;
  *left -= (size_t)n * elem_bytes;
  return from;
}

static bool ends_text(const char *text, uint64_t n) { return n > 0 && text[n - 1] == 0; }

static bool check_places(const Listing *l, Error *err) {
  const ListingHead *h = &l->head;
  for (uint64_t i = 0; i < h->n_file; i++) {
    const ListedFile *f = &l->file[i];
    if (f->path >= h->path_bytes || f->kind >= FILE_OTHER || listing_is_example((FileKind)f->kind) != (i < h->n_example))
      return bad(err, "a file in it is damaged");
  }
  for (uint64_t i = 0; i < h->n_member; i++)
    if (l->member[i].shard >= h->n_file - h->n_example || l->member[i].class_id < 0)
      return bad(err, "a member in it is damaged");
  for (uint64_t i = 0; i < h->n_caption; i++)
    if (l->captions.item[i].name >= h->caption_bytes || l->captions.item[i].text >= h->caption_bytes)
      return bad(err, "a caption in it is damaged");
  return true;
}

bool listing_parse(Listing *l, const uint8_t *bytes, size_t n, const char *root, Error *err) {
  *l = (Listing){0};
  ListingHead *h = &l->head;
  if (n < sizeof *h) return bad(err, "it is cut short");
  memcpy(h, bytes, sizeof *h);
  if (!check_head(h, err)) return false;
  const uint8_t *at = bytes + sizeof *h;
  size_t left = n - sizeof *h;
  l->file = take(&at, &left, h->n_file, sizeof *l->file);
  l->captions.item = l->file ? take(&at, &left, h->n_caption, sizeof *l->captions.item) : NULL;
  l->member = l->captions.item ? take(&at, &left, h->n_member, sizeof *l->member) : NULL;
  const char *named = l->member ? take(&at, &left, h->root_bytes, 1) : NULL;
  l->paths = named ? take(&at, &left, h->path_bytes, 1) : NULL;
  l->captions.text = l->paths ? take(&at, &left, h->caption_bytes, 1) : NULL;
  l->captions.n = (size_t)h->n_caption;
  if (!l->captions.text || left) return bad(err, "it is cut short, or longer than it says");
  if (!ends_text(named, h->root_bytes) || (h->n_file && !ends_text(l->paths, h->path_bytes)) ||
      (h->n_caption && !ends_text(l->captions.text, h->caption_bytes)))
    return bad(err, "a text in it has no end");
  if (strcmp(named, root) != 0) return bad(err, "it is of another folder");
  return check_places(l, err);
}

typedef struct Part {
  const void *bytes;
  size_t n;
} Part;

static bool write_listing(Listing *l, const char *root, const char *path, Error *err) {
  ListingHead *h = &l->head;
  const Part part[] = {{l->file, (size_t)h->n_file * sizeof *l->file},
                       {l->captions.item, (size_t)h->n_caption * sizeof *l->captions.item},
                       {l->member, (size_t)h->n_member * sizeof *l->member},
                       {root, (size_t)h->root_bytes},
                       {l->paths, (size_t)h->path_bytes},
                       {l->captions.text, (size_t)h->caption_bytes}};
  Sha256 s;
  sha256_init(&s);
  for (int i = 0; i < COUNT_OF(part); i++) sha256_update(&s, part[i].bytes, part[i].n);
  make_sum(h, &s, h->sum);
  FileWriter *w = file_create(path, err);
  bool ok = w && file_write(w, h, sizeof *h, err);
  for (int i = 0; ok && i < COUNT_OF(part); i++) ok = file_write(w, part[i].bytes, part[i].n, err);
  if (ok) return file_commit(w, err);
  if (w) file_abort(w);
  return false;
}

/* ---- what is kept ---- */

static bool check_sum(const FileMap *m, const ListingHead *h) {
  uint8_t sum[32];
  Sha256 s;
  sha256_init(&s);
  sha256_update(&s, m->data + sizeof *h, m->len - sizeof *h);
  make_sum(h, &s, sum);
  return memcmp(sum, h->sum, sizeof sum) == 0;
}

static bool map_listing(Listing *l, const char *root, const char *path, Error *err) {
  FileMap m;
  if (!file_map(path, &m, err)) return false;
  if (listing_parse(l, m.data, m.len, root, err) && (check_sum(&m, &l->head) || bad(err, "it is damaged"))) {
    l->map = m;
    return true;
  }
  file_unmap(&m);
  *l = (Listing){0};
  return false;
}

static bool is_as_listed(int root, const ListedFile *f, const char *path) {
  struct stat st;
  if (fstatat(root, *path ? path : ".", &st, 0) != 0) return f->kind == FILE_NOWHERE;
  bool is_folder = f->kind == FILE_FOLDER || f->kind == FILE_FRAMES;
  if (is_folder ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode) || st.st_size != f->size) return false;
  return st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec == f->mtime_ns;
}

/* Every file is looked at: one that was written in place changes no folder's time.  Members are none. */
static bool is_fresh(const Listing *l, const char *folder) {
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool ok = fd >= 0 && l->head.is_settled;
  for (uint64_t i = l->head.n_member; ok && i < l->head.n_file; i++) ok = is_as_listed(fd, &l->file[i], listing_path(l, i));
  if (fd >= 0) close(fd);
  return ok;
}

/* CACHE/<digest of the root>.listing; false: too long. */
static bool cache_path(const char *cache, const char *root, char out[PATH_MAX]) {
  uint8_t digest[32];
  char name[65];
  sha256(root, strlen(root), digest);
  sha256_hex(digest, name);
  return snprintf(out, PATH_MAX, "%s/%s.listing", cache, name) < PATH_MAX;
}

/* A listing that is used is not old. */
static void touch(const char *path) {
  struct stat st;
  if (stat(path, &st) == 0 && st.st_mtime < time(NULL) - DAY) (void)!utimensat(AT_FDCWD, path, NULL, 0);
}

/* Removes what nobody has used for long. */
static void remove_old(const char *cache) {
  DIR *dir = opendir(cache);
  struct stat st;
  for (struct dirent *e; dir && (e = readdir(dir));) {
    size_t n = strlen(e->d_name);
    if (n < 8 || strcmp(e->d_name + n - 8, ".listing") != 0) continue;
    if (fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && st.st_mtime < time(NULL) - KEEP_DAYS * DAY)
      unlinkat(dirfd(dir), e->d_name, 0);
  }
  if (dir) closedir(dir);
}

/* Lets the kept file stand for what is on the heap, unless another process has put another in its place. */
static bool keep(Listing *l, const char *root, const char *cache, const char *path, Error *err) {
  Listing kept;
  if (!file_make_folders(path, err) || !write_listing(l, root, path, err)) return false;
  remove_old(cache);
  if (!map_listing(&kept, root, path, err)) return false;
  if (memcmp(&kept.head, &l->head, sizeof l->head) == 0) {
    listing_done(l);
    *l = kept;
  } else {
    listing_done(&kept);
  }
  return true;
}

static void tell(const DatasetOptions *o, const char *root, const Error *why) {
  char text[sizeof why->text + PATH_MAX];
  if (!o->warn) return;
  snprintf(text, sizeof text, "the listing of %s is not kept: %s", root, why->text);
  o->warn(o->warn_ctx, text);
}

/* ---- opening ---- */

typedef bool (*Make)(Listing *l, const char *root, Error *err);

/* `full` names the same as root, to any process; NULL: it is not there.  Paths are relative to `folder`. */
static bool open_listing(Listing *l, const char *root, const char *full, const char *folder, Make make,
                         const DatasetOptions *o, Error *err) {
  char path[PATH_MAX];
  Error why;
  bool has_cache = o->cache && full && cache_path(o->cache, full, path);
  if (has_cache && map_listing(l, full, path, &why)) {
    if (is_fresh(l, folder)) return touch(path), true;
    listing_done(l);
  }
  if (!make(l, root, err)) return false;
  if (!has_cache) return true;
  ListingHead *h = &l->head;
  memcpy(h->magic, magic, sizeof magic);
  h->byte_order = BYTE_ORDER_MARK;
  h->head_bytes = sizeof *h;
  h->root_bytes = strlen(full) + 1;
  digest_rules(h->rules);
  if (!keep(l, full, o->cache, path, &why)) tell(o, root, &why);
  return true;
}

static Listing *open_new(const char *root, const char *full, const char *folder, Make make, const DatasetOptions *o,
                         Error *err) {
  Listing *l = mem_alloc(sizeof *l);
  if (!l) return error_set(err, ERROR_MEMORY, "%s: out of memory", root), NULL;
  if (open_listing(l, root, full, folder, make, o, err)) return l;
  listing_close(l);
  return NULL;
}

Listing *listing_open(const char *root, const DatasetOptions *o, Error *err) {
  char full[PATH_MAX];
  return open_new(root, realpath(root, full), full, listing_make, o, err);
}

Listing *listing_open_shards(const char *pattern, const DatasetOptions *o, Error *err) {
  char folder[PATH_MAX], full[2 * PATH_MAX], real[PATH_MAX];
  const char *slash = strrchr(pattern, '/');
  int n = snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - pattern) + 1 : 1, slash ? pattern : ".");
  bool known = n < PATH_MAX && realpath(folder, real);
  if (known) snprintf(full, sizeof full, "%s/%s", real, slash ? slash + 1 : pattern);
  return open_new(pattern, known ? full : NULL, real, listing_make_shards, o, err);
}
