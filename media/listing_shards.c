/* Lists shards, tar files by the rules of WebDataset: members that stand together and have one name up to its first
 * dot are an example, what follows the dot says what each is.
 *
 * libarchive reads the heads (GNU's long names, pax); where a member's bytes lie is kept, so that an example is read
 * in one step.  Nothing is unpacked, so names of members harm nobody; those that would leave the archive are passed
 * over all the same. */
#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "media/library.h"
#include "media/listing.h"
#include "runtime/base/sha256.h"

enum { MAX_SHARDS = 100000, MAX_NAME = 1024, BLOCK = 512 };

/* ---- libarchive ---- */

#define ARCHIVE_FUNCTIONS(F)                                                                                         \
  F(archive_entry_filetype)                                                                                          \
  F(archive_entry_hardlink)                                                                                          \
  F(archive_entry_pathname)                                                                                          \
  F(archive_entry_size)                                                                                              \
  F(archive_entry_sparse_count)                                                                                      \
  F(archive_error_string)                                                                                            \
  F(archive_read_data_block)                                                                                         \
  F(archive_read_free)                                                                                               \
  F(archive_read_new)                                                                                                \
  F(archive_read_next_header)                                                                                        \
  F(archive_read_open_memory)                                                                                        \
  F(archive_read_support_format_tar)

static struct {
#define FIELD(name) __typeof__(name) *name;
  ARCHIVE_FUNCTIONS(FIELD)
#undef FIELD
} lib;
static char missing[LIBRARY_WHY_BYTES];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void) {
#define LOAD(name) &&library_find("libarchive.so.13", #name, &lib.name, missing)
  bool ok = true ARCHIVE_FUNCTIONS(LOAD);
#undef LOAD
  (void)ok; /* missing says it */
}

/* ---- names of shards ---- */

/* The range in the last part of a pattern; without one, first == last and no digits. */
typedef struct ShardRange {
  const char *before, *after; /* the pattern up to the brace and from the other one on */
  int before_bytes, digits;
  uint64_t first, last;
} ShardRange;

static bool read_number(const char **p, uint64_t *out) {
  const char *from = *p;
  for (*out = 0; **p >= '0' && **p <= '9' && *p - from < 12; ++*p) *out = 10 * *out + (uint64_t)(**p - '0');
  return *p > from && *p - from <= 9;
}

static bool parse_range(const char *pattern, ShardRange *r, Error *err) {
  const char *open = strchr(pattern, '{'), *p = open ? open + 1 : pattern;
  *r = (ShardRange){pattern, "", (int)strlen(pattern), 0, 0, 0};
  if (!open) return true;
  r->before_bytes = (int)(open - pattern);
  bool ok = read_number(&p, &r->first);
  r->digits = (int)(p - open - 1);
  ok = ok && p[0] == '.' && p[1] == '.' && (p += 2, read_number(&p, &r->last)) && *p == '}' && r->first <= r->last;
  r->after = ok ? p + 1 : "";
  if (!ok || strpbrk(r->after, "{}/"))
    return error_set(err, ERROR_ARGUMENT,
                     "%s: a range of shards is one {FIRST..LAST} in the name of the file, as "
                     "shards-{000..031}.tar",
                     pattern);
  return r->last - r->first < MAX_SHARDS ||
         error_set(err, ERROR_LIMIT, "%s: more than %d shards", pattern, MAX_SHARDS);
}

static bool shard_name(const ShardRange *r, uint64_t i, char out[PATH_MAX], Error *err) {
  int n = r->digits ? snprintf(out, PATH_MAX, "%.*s%0*llu%s", r->before_bytes, r->before, r->digits,
                               (unsigned long long)(r->first + i), r->after)
                    : snprintf(out, PATH_MAX, "%s", r->before);
  return n < PATH_MAX || error_set(err, ERROR_LIMIT, "%s: too long a path", r->before);
}

/* ---- examples ---- */

typedef struct Maker {
  Listing *l;
  const char *pattern;
  size_t cap;
  int64_t begin_ns;
  Sha256 digest;
  /* of the shard that is read: */
  uint32_t shard;
  const char *name; /* of its file */
  FileMap map;
  struct archive *archive;
  /* of the example that is read: */
  char key[MAX_NAME], path[MAX_NAME]; /* "": none; and of its picture */
  ListedFile file;
  ListedMember member;
} Maker;

static bool no_memory(const Maker *m, Error *err) {
  return error_set(err, ERROR_MEMORY, "%s: out of memory", m->pattern);
}

static bool grow(Maker *m, Error *err) {
  Listing *l = m->l;
  if (l->head.n_file < m->cap) return true;
  size_t cap = m->cap ? 2 * m->cap : 256;
  ListedFile *file = mem_realloc(l->own_file, cap * sizeof *file);
  if (file) l->own_file = file;
  ListedMember *member = file ? mem_realloc(l->own_member, cap * sizeof *member) : NULL;
  if (!member) return no_memory(m, err);
  l->own_member = member;
  m->cap = cap;
  return true;
}

static bool add_file(Maker *m, const ListedFile *file, const char *path, Error *err) {
  Listing *l = m->l;
  if (!grow(m, err)) return false;
  ListedFile *f = &l->own_file[l->head.n_file++];
  *f = *file;
  f->path = l->own_paths.len;
  buffer_append(&l->own_paths, path, strlen(path) + 1);
  sha256_update(&m->digest, path, strlen(path) + 1);
  sha256_update(&m->digest, &f->size, sizeof f->size);
  sha256_update(&m->digest, &f->has, sizeof f->has);
  return !l->own_paths.failed || no_memory(m, err);
}

/* Ends the example that is read. */
static bool end_example(Maker *m, Error *err) {
  Listing *l = m->l;
  bool ok = true;
  if (*m->key && !*m->path) listing_count(l, NOTE_LONE_MEMBER, m->key);
  if (*m->path) {
    m->member.shard = m->shard;
    ok = add_file(m, &m->file, m->path, err);
    if (ok) l->own_member[l->head.n_example++] = m->member;
    sha256_update(&m->digest, m->member.bytes, sizeof m->member.bytes);
    sha256_update(&m->digest, &m->member.class_id, sizeof m->member.class_id);
  }
  *m->key = *m->path = 0;
  m->file = (ListedFile){0};
  m->member = (ListedMember){0};
  return ok;
}

/* ---- members ---- */

typedef struct Member {
  const char *name, *ext; /* of the archive; behind the first dot, in small letters */
  uint64_t at, bytes;
} Member;

/* "./" says nothing.  NULL: a name that leaves the archive, or has no key. */
static const char *clean_name(const char *name) {
  while (name[0] == '.' && name[1] == '/') name += 2;
  if (*name == '/' || strlen(name) >= MAX_NAME) return NULL;
  for (const char *p = name; p; p = strchr(p, '/')) {
    if (*p == '/') p++;
    if (p[0] == '.' && p[1] == '.' && (!p[2] || p[2] == '/')) return NULL;
  }
  const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
  return *base && *base != '.' ? name : NULL;
}

/* Where the bytes of a member lie; false: not within the file. */
static bool find_bytes(const Maker *m, Member *out) {
  const void *block = NULL;
  size_t n;
  la_int64_t offset = 0;
  out->at = 0;
  if (!out->bytes) return true;
  if (lib.archive_read_data_block(m->archive, &block, &n, &offset) != ARCHIVE_OK || offset || !n) return false;
  uintptr_t at = (uintptr_t)block - (uintptr_t)m->map.data;
  if ((uintptr_t)block < (uintptr_t)m->map.data || at > m->map.len || out->bytes > m->map.len - at) return false;
  out->at = at;
  return true;
}

static bool set_part(Maker *m, MemberPart part, uint8_t has, const Member *x) {
  if (m->file.has & has) {
    listing_count(m->l, NOTE_TWICE, x->name);
    return false;
  }
  m->file.has |= has;
  m->member.at[part] = x->at;
  m->member.bytes[part] = x->bytes;
  return true;
}

static void set_class(Maker *m, const Member *x) {
  enum { MAX_CLASS = 1 << 24 };
  const char *p = (const char *)m->map.data + x->at;
  int64_t id = 0;
  uint64_t i = 0, digits;
  while (i < x->bytes && isspace((unsigned char)p[i])) i++;
  for (digits = i; i < x->bytes && p[i] >= '0' && p[i] <= '9' && id < MAX_CLASS; i++) id = 10 * id + p[i] - '0';
  digits = i - digits;
  while (i < x->bytes && isspace((unsigned char)p[i])) i++;
  if (!digits || i < x->bytes || id >= MAX_CLASS)
    listing_count(m->l, NOTE_BAD_CLASS, x->name);
  else if (m->file.has & HAS_CLASS)
    listing_count(m->l, NOTE_TWICE, x->name);
  else
    m->file.has |= HAS_CLASS, m->member.class_id = (int32_t)id;
}

/* A caption in it makes it worth keeping. */
static bool set_json(Maker *m, const Member *x, Error *err) {
  Buffer text = {0};
  Error why = {0};
  bool ok = x->bytes <= CAPTION_MAX_BYTES &&
            captions_read_json((const char *)m->map.data + x->at, (size_t)x->bytes, x->name, &text, &why);
  bool is_short = text.failed || why.code == ERROR_MEMORY;
  if (!ok)
    listing_count(m->l, NOTE_BAD_JSON, x->name);
  else if (text.len)
    set_part(m, MEMBER_JSON, HAS_JSON, x);
  buffer_done(&text);
  return !is_short || no_memory(m, err);
}

static void set_picture(Maker *m, FileKind kind, const Member *x) {
  if (*m->path) {
    listing_count(m->l, NOTE_TWICE, x->name);
    return;
  }
  snprintf(m->path, sizeof m->path, "%s", x->name);
  bool is_still = strcmp(x->ext, "webp") == 0 && !listing_webp_moves(m->map.data + x->at, (size_t)x->bytes);
  m->file.kind = (uint8_t)(is_still ? FILE_PICTURE : kind);
  m->file.size = (int64_t)x->bytes;
  m->member.at[MEMBER_PICTURE] = x->at;
  m->member.bytes[MEMBER_PICTURE] = x->bytes;
}

static bool set_member(Maker *m, const Member *x, Error *err) {
  char name[MAX_NAME + 2];
  snprintf(name, sizeof name, "x.%s", x->ext);
  FileKind kind = listing_kind(name);
  bool has_dot = strchr(x->ext, '.') != NULL; /* of "seg.png" we know nothing */
  if (strcmp(x->ext, "json") == 0) return set_json(m, x, err);
  if (strcmp(x->ext, "cls") == 0)
    set_class(m, x);
  else if (kind == FILE_LABELS)
    set_part(m, MEMBER_LABELS, HAS_LABELS, x);
  else if (!has_dot && kind == FILE_TEXT && !x->bytes)
    listing_count(m->l, NOTE_EMPTY_TEXT, x->name);
  else if (!has_dot && kind == FILE_TEXT)
    set_part(m, MEMBER_TEXT, HAS_TEXT, x);
  else if (!has_dot && (kind == FILE_PICTURE || kind == FILE_CLIP))
    set_picture(m, kind, x);
  else
    listing_count(m->l, NOTE_OTHER, x->name);
  return true;
}

/* A regular file of the archive; false: the archive is cut short. */
static bool take_member(Maker *m, const char *full_name, uint64_t bytes, bool *out_ok, Error *err) {
  char ext[MAX_NAME];
  const char *name = clean_name(full_name);
  if (!name) return listing_count(m->l, NOTE_BAD_NAME, full_name), true;
  const char *slash = strrchr(name, '/'), *dot = strchr(slash ? slash : name, '.');
  size_t n = dot ? (size_t)(dot - name) : strlen(name);
  if (strlen(m->key) != n || memcmp(m->key, name, n) != 0) {
    if (!(*out_ok = end_example(m, err))) return true;
    snprintf(m->key, sizeof m->key, "%.*s", (int)n, name);
  }
  for (size_t i = 0; i + n <= strlen(name); i++) ext[i] = (char)tolower((unsigned char)name[n + i]);
  Member x = {name, dot ? ext + 1 : "", 0, bytes};
  if (!find_bytes(m, &x)) return false;
  *out_ok = set_member(m, &x, err);
  return true;
}

/* ---- one shard ---- */

/* What is read of an example when its shard breaks off may lack something: it is left out. */
static void count_cut(Maker *m, const char *why) {
  char text[PATH_MAX + 300];
  snprintf(text, sizeof text, "%s (%s)", m->name, why);
  listing_count(m->l, NOTE_CUT, text);
  *m->key = *m->path = 0;
  m->file = (ListedFile){0};
  m->member = (ListedMember){0};
}

static bool has_end(const FileMap *map) {
  bool zero = map->len >= BLOCK && map->len % BLOCK == 0;
  for (size_t i = 1; zero && i <= BLOCK; i++) zero = map->data[map->len - i] == 0;
  return zero;
}

static bool take_members(Maker *m, Error *err) {
  struct archive_entry *e;
  int code;
  bool ok = true;
  while (ok && ((code = lib.archive_read_next_header(m->archive, &e)) == ARCHIVE_OK || code == ARCHIVE_WARN)) {
    const char *name = lib.archive_entry_pathname(e);
    bool is_file = lib.archive_entry_filetype(e) == AE_IFREG && !lib.archive_entry_hardlink(e);
    la_int64_t bytes = lib.archive_entry_size(e);
    if (lib.archive_entry_filetype(e) == AE_IFDIR) continue;
    if (!name || !is_file || bytes < 0 || lib.archive_entry_sparse_count(e))
      listing_count(m->l, NOTE_OTHER, name ? name : "");
    else if (!take_member(m, name, (uint64_t)bytes, &ok, err))
      return count_cut(m, "it ends early"), true;
  }
  if (!ok) return false;
  if (code != ARCHIVE_EOF) {
    const char *why = lib.archive_error_string(m->archive);
    return count_cut(m, why ? why : "damaged"), true;
  }
  if (!has_end(&m->map)) return count_cut(m, "it ends early"), true;
  return end_example(m, err);
}

static const char *compression_of(const FileMap *map) {
  static const struct {
    const char *magic, *name;
  } kinds[] = {{"\x1f\x8b", "gzip"},
               {"\x28\xb5\x2f\xfd", "zstd"},
               {"\xfd"
                "7zXZ",
                "xz"},
               {"BZh", "bzip2"},
               {"\x04\x22\x4d\x18", "lz4"}};
  for (int i = 0; i < COUNT_OF(kinds); i++)
    if (map->len > 8 && memcmp(map->data, kinds[i].magic, strlen(kinds[i].magic)) == 0) return kinds[i].name;
  return NULL;
}

static bool list_mapped(Maker *m, Error *err) {
  const char *compression = compression_of(&m->map);
  if (compression)
    return error_set(err, ERROR_FORMAT,
                     "%s: compressed by %s; examples are read at any place, so shards must be plain tar files",
                     m->name, compression);
  if (!m->map.len) return count_cut(m, "it is empty"), true;
  if (!(m->archive = lib.archive_read_new())) return no_memory(m, err);
  lib.archive_read_support_format_tar(m->archive);
  bool ok = true;
  if (lib.archive_read_open_memory(m->archive, m->map.data, m->map.len) == ARCHIVE_OK)
    ok = take_members(m, err);
  else
    count_cut(m, "no tar file");
  lib.archive_read_free(m->archive);
  return ok;
}

static bool list_shard(Maker *m, const char *path, ListedFile *out, Error *err) {
  struct stat st;
  const char *slash = strrchr(path, '/');
  uint64_t before = m->l->head.n_example;
  m->name = slash ? slash + 1 : path;
  if (stat(path, &st) != 0) return error_set(err, ERROR_IO, "%s: %s (of %s)", path, strerror(errno), m->pattern);
  if (!S_ISREG(st.st_mode)) return error_set(err, ERROR_ARGUMENT, "%s: no regular file", path);
  *out = (ListedFile){.kind = FILE_SHARD};
  listing_stamp(m->l, out, &st, m->begin_ns);
  if (!file_map(path, &m->map, err)) return false;
  bool ok = list_mapped(m, err);
  file_unmap(&m->map);
  if (ok && m->l->head.n_example == before) listing_count(m->l, NOTE_NO_EXAMPLE, m->name);
  return ok;
}

/* ---- all of them ---- */

static bool list_shards(Maker *m, const ShardRange *r, ListedFile *shard, Error *err) {
  uint64_t n = r->last - r->first + 1;
  char path[PATH_MAX];
  for (uint64_t i = 0; i < n; i++) {
    m->shard = (uint32_t)i;
    if (!shard_name(r, i, path, err) || !list_shard(m, path, &shard[i], err)) return false;
  }
  for (uint64_t i = 0; i < n; i++) {
    if (!shard_name(r, i, path, err)) return false;
    const char *slash = strrchr(path, '/');
    if (!add_file(m, &shard[i], slash ? slash + 1 : path, err)) return false;
  }
  m->l->head.n_member = m->l->head.n_example;
  return true;
}

bool listing_make_shards(Listing *l, const char *pattern, Error *err) {
  struct timespec now;
  ShardRange r;
  *l = (Listing){.head.is_settled = 1};
  pthread_once(&once, load);
  if (*missing) return error_set(err, ERROR_DEVICE, "%s: libarchive cannot be loaded: %s", pattern, missing);
  if (!parse_range(pattern, &r, err)) return false;
  clock_gettime(CLOCK_REALTIME, &now);
  ListedFile *shard = mem_alloc((size_t)(r.last - r.first + 1) * sizeof *shard);
  Maker *m = mem_alloc(sizeof *m);
  bool ok = (shard && m) || error_set(err, ERROR_MEMORY, "%s: out of memory", pattern);
  if (ok) {
    *m = (Maker){.l = l, .pattern = pattern, .begin_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec};
    sha256_init(&m->digest);
    ok = list_shards(m, &r, shard, err);
    if (ok) listing_finish(l, &m->digest);
  }
  mem_free(m);
  mem_free(shard);
  return ok;
}
