/* See sketch.h. */
#include "synth/sketch.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/file.h"
#include "runtime/base/sha256.h"

/* The files that make a sketch up. */
typedef struct FileList {
  const char **path; /* [n] sorted */
  int n, cap;
} FileList;

bool sketch_is_clip(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int by_name(const void *x, const void *y) { return strcmp(*(const char *const *)x, *(const char *const *)y); }

static bool list_files(const char *path, Arena *a, FileList *out, Error *err) {
  *out = (FileList){0};
  if (!sketch_is_clip(path)) {
    ARENA_PUSH(a, out->path, out->n, out->cap, path);
    return true;
  }
  DIR *d = opendir(path);
  if (!d) return error_set(err, ERROR_IO, "%s: the folder cannot be read", path);
  for (struct dirent *e; (e = readdir(d));)
    if (e->d_name[0] != '.' && file_has_ending(e->d_name, ".png"))
      ARENA_PUSH(a, out->path, out->n, out->cap, arena_printf(a, "%s/%s", path, e->d_name));
  closedir(d);
  if (out->n) qsort(out->path, (size_t)out->n, sizeof *out->path, by_name);
  return out->n || error_set(err, ERROR_ARGUMENT, "--sketch %s: the folder has no PNG files, one for each frame", path);
}

static bool check_labels(const Codec *c, const char *path, const int32_t *labels, Error *err) {
  for (int64_t i = 0; i < c->height * c->width; i++)
    if (c->channels && labels[i] >= c->channels)
      return error_set(
          err, ERROR_ARGUMENT,
          "--sketch %s: label %d at row %lld, column %lld; the model knows 0 to %lld (a palette's index, or grey as "
          "it is stored, is the label)",
          path, labels[i], (long long)(i / c->width), (long long)(i % c->width), (long long)c->channels - 1);
  return true;
}

static bool read_map(const Codec *c, const char *path, int32_t *out, Error *err) {
  uint16_t *labels = NULL;
  int width, height;
  FileMap map;
  if (!file_map(path, &map, err)) return error_prefix(err, "--sketch");
  bool ok = image_decode_labels(map.data, map.len, path, &labels, &width, &height, err) ||
            error_prefix(err, "--sketch (a PNG whose palette's indices, or grey values, are labels)");
  file_unmap(&map);
  if (ok) image_fit_labels(labels, width, height, (int)c->width, (int)c->height, out);
  mem_free(labels);
  return ok && check_labels(c, path, out, err);
}

bool sketch_read(Kit *k, Arena *a, const char *path, int32_t **out_codes, Error *err) {
  const Codec *c = &k->codec[CODEC_LABELS];
  int64_t frames = k->codes_grid[0], pixels = c->height * c->width;
  FileList list;
  if (!list_files(path, a, &list, err)) return false;
  if (list.n != frames)
    return error_set(err, ERROR_ARGUMENT,
                     frames == 1
                         ? "--sketch %s has %d maps, a picture is drawn of one: a PNG"
                         : "--sketch %s has %d map%s, the clip that is drawn %lld frames: a folder of so many PNGs",
                     path, list.n, list.n == 1 ? "" : "s", (long long)frames);
  int32_t *labels = ARENA_ARRAY(a, int32_t, frames * pixels);
  *out_codes = ARENA_ARRAY(a, int32_t, frames * c->grid[0] * c->grid[1]);
  for (int i = 0; i < list.n; i++)
    if (!read_map(c, list.path[i], labels + i * pixels, err)) return false;
  return codec_encode_frames(c, labels, frames, *out_codes, err);
}

bool sketch_digest(const char *path, Arena *a, char out[65], Error *err) {
  FileList list;
  Sha256 h;
  uint8_t digest[32];
  if (!list_files(path, a, &list, err)) return false;
  sha256_init(&h);
  for (int i = 0; i < list.n; i++) {
    FileMap map;
    if (!file_map(list.path[i], &map, err)) return false;
    sha256_update(&h, map.data, map.len);
    file_unmap(&map);
  }
  sha256_done(&h, digest);
  sha256_hex(digest, out);
  return true;
}
