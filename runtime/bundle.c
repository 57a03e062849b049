/* The format of a bundle's file, written and read.
 *
 *   "NUWABNDL"  u32 version  u32 parts  u64 bytes of the file  32 bytes SHA-256 of the directory  u64 0
 *   directory: for each part  u32 kind  u32 0  u64 offset  u64 length  32 bytes SHA-256  72 bytes name, filled with NUL
 *   parts, each at the next multiple of 64, zeros between
 *
 * Everything but the parts' bytes follows from the names, kinds and lengths: whatever else a file says is damage. */
#include "runtime/bundle.h"

#include <string.h>

#include "runtime/base/sha256.h"

const char bundle_magic[BUNDLE_MAGIC_BYTES + 1] = "NUWABNDL";

enum { BUNDLE_VERSION = 1, BUNDLE_HEADER = 64, BUNDLE_ENTRY = 128, BUNDLE_ALIGN = 64, DIGEST = 32, PLAN_DIGEST_AT = 24 };
enum { ENTRY_OFFSET = 8, ENTRY_LENGTH = 16, ENTRY_DIGEST = 24, ENTRY_NAME = 56 };   /* within an entry */

struct NuwaBundle {
  FileMap map;              /* empty where the bytes are the caller's */
  const uint8_t *bytes;
  const char *where;
  int n_part;
  BundlePart *part;         /* [n_part] */
  Plan **plan;              /* [n_part] NULL where the part is none */
};

static const char *kind_name(int kind) {
  static const char *const name[] = {"plan", "weights", "text"};
  return name[kind];
}

static size_t align_up(size_t at) { return (at + BUNDLE_ALIGN - 1) & ~(size_t)(BUNDLE_ALIGN - 1); }

static const uint8_t *entry_at(const uint8_t *bytes, int i) { return bytes + BUNDLE_HEADER + (size_t)i * BUNDLE_ENTRY; }

/* ---- what parts must be ---- */

static bool is_name(const char *name, size_t n) {
  for (size_t i = 0; i < n; i++)
    if ((uint8_t)name[i] < ' ' || name[i] == 127) return false;
  return n > 0 && n < BUNDLE_NAME;
}

static bool check_parts(const BundlePart *part, int n, Error *err) {
  int plans = 0;
  for (int i = 0; i < n; i++) {
    if (part[i].kind < 0 || part[i].kind > NUWA_PART_TEXT)
      return error_set(err, ERROR_FORMAT, "part %d of the bundle is of kind %d, which does not exist", i, part[i].kind);
    if (!is_name(part[i].name, strlen(part[i].name)))
      return error_set(err, ERROR_FORMAT, "part %d of the bundle has an impossible name", i);
    for (int k = 0; k < i; k++)
      if (part[k].kind == part[i].kind && strcmp(part[k].name, part[i].name) == 0)
        return error_set(err, ERROR_FORMAT, "the bundle has two %ss \"%s\"", kind_name(part[i].kind), part[i].name);
    const uint8_t *end = part[i].len ? memchr(part[i].bytes, 0, part[i].len) : NULL;
    if (part[i].kind == NUWA_PART_TEXT && end != part[i].bytes + part[i].len - 1)
      return error_set(err, ERROR_FORMAT, "text \"%s\" of the bundle does not end with its only NUL", part[i].name);
    plans += part[i].kind == NUWA_PART_PLAN;
  }
  return plans > 0 || error_set(err, ERROR_FORMAT, "the bundle has no plan");
}

/* A plan's header has the digest of what follows it, which plan_read checks. */
static void part_digest(const BundlePart *p, uint8_t out[DIGEST]) {
  if (p->kind == NUWA_PART_PLAN && p->len >= PLAN_DIGEST_AT + DIGEST) memcpy(out, p->bytes + PLAN_DIGEST_AT, DIGEST);
  else sha256(p->bytes, p->len, out);
}

/* ---- writing ---- */

static void put_entry(uint8_t *to, const BundlePart *p, size_t offset) {
  uint32_t kind = (uint32_t)p->kind;
  uint64_t at = offset, length = p->len;
  memcpy(to, &kind, sizeof kind);
  memcpy(to + ENTRY_OFFSET, &at, sizeof at);
  memcpy(to + ENTRY_LENGTH, &length, sizeof length);
  part_digest(p, to + ENTRY_DIGEST);
  memcpy(to + ENTRY_NAME, p->name, strlen(p->name));
}

/* Header and directory into head, which has their size and is zero. */
static void put_head(uint8_t *head, const BundlePart *part, int n) {
  uint32_t count[2] = {BUNDLE_VERSION, (uint32_t)n};
  size_t end = BUNDLE_HEADER + (size_t)n * BUNDLE_ENTRY;
  for (int i = 0; i < n; i++) {
    size_t at = align_up(end);
    put_entry(head + BUNDLE_HEADER + (size_t)i * BUNDLE_ENTRY, &part[i], at);
    end = at + part[i].len;
  }
  uint64_t bytes = end;
  memcpy(head, bundle_magic, BUNDLE_MAGIC_BYTES);
  memcpy(head + 8, count, sizeof count);
  memcpy(head + 16, &bytes, sizeof bytes);
  sha256(head + BUNDLE_HEADER, (size_t)n * BUNDLE_ENTRY, head + 24);
}

static bool write_parts(FileWriter *w, const uint8_t *head, const BundlePart *part, int n, Error *err) {
  static const uint8_t zeros[BUNDLE_ALIGN];
  size_t at = BUNDLE_HEADER + (size_t)n * BUNDLE_ENTRY;
  if (!file_write(w, head, at, err)) return false;
  for (int i = 0; i < n; i++) {
    size_t gap = align_up(at) - at;
    if (!file_write(w, zeros, gap, err) || !file_write(w, part[i].bytes, part[i].len, err)) return false;
    at += gap + part[i].len;
  }
  return true;
}

bool bundle_write(const char *path, const BundlePart *part, int n, Error *err) {
  if (n < 1 || n > BUNDLE_MAX_PARTS)
    return error_set(err, ERROR_ARGUMENT, "a bundle has 1 to %d parts, not %d", BUNDLE_MAX_PARTS, n);
  if (!check_parts(part, n, err)) return false;
  uint8_t *head = mem_alloc(BUNDLE_HEADER + (size_t)n * BUNDLE_ENTRY);
  if (!head) return error_set(err, ERROR_MEMORY, "out of memory while writing a bundle");
  put_head(head, part, n);
  FileWriter *w = file_create(path, err);
  bool ok = w && write_parts(w, head, part, n, err);
  if (ok) ok = file_commit(w, err);
  else if (w) file_abort(w);
  mem_free(head);
  return ok;
}

/* ---- reading ---- */

static bool check_head(const uint8_t *bytes, size_t n, uint32_t *out_parts, Error *err) {
  if (n < BUNDLE_HEADER || memcmp(bytes, bundle_magic, BUNDLE_MAGIC_BYTES) != 0)
    return error_set(err, ERROR_FORMAT, "not a nuwa bundle (it does not start with \"%s\")", bundle_magic);
  uint32_t count[2];
  uint64_t length, zero;
  uint8_t digest[DIGEST];
  memcpy(count, bytes + 8, sizeof count);
  memcpy(&length, bytes + 16, sizeof length);
  memcpy(&zero, bytes + 56, sizeof zero);
  if (count[0] != BUNDLE_VERSION)
    return error_set(err, ERROR_FORMAT, "bundle version %u, this program reads version %d", count[0], BUNDLE_VERSION);
  if (length != n)
    return error_set(err, ERROR_FORMAT, "truncated or too long: the header promises %llu bytes, there are %zu",
                     (unsigned long long)length, n);
  if (count[1] < 1 || count[1] > BUNDLE_MAX_PARTS || (n - BUNDLE_HEADER) / BUNDLE_ENTRY < count[1] || zero)
    return error_set(err, ERROR_FORMAT, "damaged: its header promises %u parts", count[1]);
  sha256(bytes + BUNDLE_HEADER, (size_t)count[1] * BUNDLE_ENTRY, digest);
  if (memcmp(digest, bytes + 24, DIGEST) != 0)
    return error_set(err, ERROR_FORMAT, "damaged: the directory does not match its SHA-256");
  *out_parts = count[1];
  return true;
}

static bool is_zero(const uint8_t *bytes, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (bytes[i]) return false;
  return true;
}

/* Part i, which begins at the first multiple of 64 from *end on; then *end is where it ends. */
static bool read_entry(const NuwaBundle *b, size_t n, int i, size_t *end, Error *err) {
  const uint8_t *entry = entry_at(b->bytes, i);
  const char *name = (const char *)entry + ENTRY_NAME;
  uint32_t kind[2];
  uint64_t offset, length;
  memcpy(kind, entry, sizeof kind);
  memcpy(&offset, entry + ENTRY_OFFSET, sizeof offset);
  memcpy(&length, entry + ENTRY_LENGTH, sizeof length);
  size_t at = align_up(*end), chars = strnlen(name, BUNDLE_NAME);
  if (kind[0] > NUWA_PART_TEXT || kind[1] || !is_zero(entry + ENTRY_NAME + chars, BUNDLE_NAME - chars) || !is_name(name, chars))
    return error_set(err, ERROR_FORMAT, "part %d of the bundle has an impossible kind or name", i);
  if (offset != at || at > n || length > n - at || !is_zero(b->bytes + *end, at - *end))
    return error_set(err, ERROR_FORMAT, "part %d of the bundle, \"%s\", is not where it must be", i, name);
  b->part[i] = (BundlePart){.kind = (int)kind[0], .name = name, .bytes = b->bytes + at, .len = (size_t)length};
  *end = at + (size_t)length;
  return true;
}

static bool check_digest(const NuwaBundle *b, const BundlePart *p, Error *err) {
  uint8_t digest[DIGEST];
  part_digest(p, digest);
  return memcmp(digest, bundle_digest(b, p), DIGEST) == 0 ||
         error_set(err, ERROR_FORMAT, "%s: damaged: %s \"%s\" does not match its SHA-256", b->where, kind_name(p->kind),
                   p->name);
}

static bool read_parts(NuwaBundle *b, size_t n, Error *err) {
  size_t end = BUNDLE_HEADER + (size_t)b->n_part * BUNDLE_ENTRY;
  for (int i = 0; i < b->n_part; i++)
    if (!read_entry(b, n, i, &end, err)) return error_prefix(err, "%s", b->where);
  if (end != n) return error_set(err, ERROR_FORMAT, "%s: bytes follow the last part of the bundle", b->where);
  for (int i = 0; i < b->n_part; i++)
    if (b->part[i].kind != NUWA_PART_WEIGHTS && !check_digest(b, &b->part[i], err)) return false;
  if (!check_parts(b->part, b->n_part, err)) return error_prefix(err, "%s", b->where);
  for (int i = 0; i < b->n_part; i++)
    if (b->part[i].kind == NUWA_PART_PLAN) {
      if (!(b->plan[i] = plan_read(b->part[i].bytes, b->part[i].len, b->where, err))) return false;
      b->plan[i]->bundle = b;
    }
  return true;
}

static NuwaBundle *bundle_new(const char *where, int parts) {
  size_t chars = strlen(where) + 1, n = (size_t)parts;
  NuwaBundle *b = mem_alloc(sizeof *b + n * (sizeof *b->part + sizeof *b->plan) + chars);
  if (!b) return NULL;
  b->part = (BundlePart *)(void *)(b + 1);
  b->plan = (Plan **)(void *)(b->part + n);
  b->where = memcpy(b->plan + n, where, chars);
  b->n_part = parts;
  return b;
}

NuwaBundle *bundle_parse(const uint8_t *bytes, size_t n, const char *where, Error *err) {
  uint32_t parts = 0;
  if (!check_head(bytes, n, &parts, err)) {
    error_prefix(err, "%s", where);
    return NULL;
  }
  NuwaBundle *b = bundle_new(where, (int)parts);
  if (!b) {
    error_set(err, ERROR_MEMORY, "%s: out of memory", where);
    return NULL;
  }
  b->bytes = bytes;
  if (read_parts(b, n, err)) return b;
  nuwa_bundle_close(b);
  return NULL;
}

NuwaBundle *nuwa_bundle_open(const char *path, Error *err) {
  FileMap map;
  if (!file_map(path, &map, err)) return NULL;
  NuwaBundle *b = bundle_parse(map.data, map.len, path, err);
  if (b) b->map = map;
  else file_unmap(&map);
  return b;
}

void nuwa_bundle_close(NuwaBundle *b) {
  if (!b) return;
  for (int i = 0; i < b->n_part; i++) plan_free(b->plan[i]);
  file_unmap(&b->map);
  mem_free(b);
}

/* ---- what it has ---- */

const BundlePart *bundle_part(const NuwaBundle *b, int i) { return i >= 0 && i < b->n_part ? &b->part[i] : NULL; }

const BundlePart *bundle_find(const NuwaBundle *b, int kind, const char *name) {
  for (int i = 0; i < b->n_part; i++)
    if (b->part[i].kind == kind && strcmp(b->part[i].name, name) == 0) return &b->part[i];
  return NULL;
}

const uint8_t *bundle_digest(const NuwaBundle *b, const BundlePart *part) {
  return entry_at(b->bytes, (int)(part - b->part)) + ENTRY_DIGEST;
}

Plan *bundle_take_plan(NuwaBundle *b, const char *function) {
  Plan **found = NULL;
  for (int i = 0; i < b->n_part; i++) {
    if (!b->plan[i]) continue;
    bool has = function && plan_find_function(b->plan[i], function) >= 0;
    if (has || !found) found = &b->plan[i];
    if (has || !function) break;
  }
  Plan *p = found ? *found : NULL;
  if (found) *found = NULL;
  if (p) p->bundle = NULL;
  return p;
}

Plan *bundle_open_plan(const char *path, const char *function, Error *err) {
  NuwaBundle *b = nuwa_bundle_open(path, err);
  Plan *p = b ? bundle_take_plan(b, function) : NULL;
  nuwa_bundle_close(b);
  return p;
}

bool nuwa_bundle_part(const NuwaBundle *b, int i, NuwaPart *out) {
  const BundlePart *p = bundle_part(b, i);
  if (p) *out = (NuwaPart){.kind = p->kind, .name = p->name, .bytes = p->len};
  return p != NULL;
}

const Plan *nuwa_bundle_plan(const NuwaBundle *b, const char *name) {
  for (int i = 0; i < b->n_part; i++)
    if (b->plan[i] && (!name || strcmp(b->part[i].name, name) == 0)) return b->plan[i];
  return NULL;
}

const char *nuwa_bundle_entry(const NuwaBundle *b, const char *name) {
  const BundlePart *p = bundle_find(b, NUWA_PART_TEXT, name);
  return p ? (const char *)p->bytes : NULL;
}

Safetensors *nuwa_bundle_weights(const NuwaBundle *b, const char *name, Error *err) {
  const BundlePart *p = bundle_find(b, NUWA_PART_WEIGHTS, name);
  if (!p) {
    error_set(err, ERROR_ARGUMENT, "%s: the bundle has no weights \"%s\"; compile it with --embed", b->where, name);
    return NULL;
  }
  Safetensors *w = check_digest(b, p, err) ? safetensors_parse(p->bytes, p->len, b->where, err) : NULL;
  if (w) safetensors_set_bundle(w, b);
  return w;
}
