/* See dataset_files.h. */
#include "media/dataset_files.h"

#include <string.h>

#include "runtime/base/names.h"

/* ---- options ---- */

static bool set_option(const char *text, size_t n, const char *where, ClipOptions *o, Error *err) {
  char value[24];
  if (n == 10 && memcmp(text, "short=hold", n) == 0) return o->holds = true;
  if (n > 4 && n - 4 < sizeof value && memcmp(text, "fps=", 4) == 0) {
    snprintf(value, sizeof value, "%.*s", (int)n - 4, text + 4);
    return clip_parse_rate(value, &o->rate, err) || error_prefix(err, "%s", where);
  }
  return error_set(err, ERROR_ARGUMENT,
                   "%s: \"%.*s\" is no option; there are flip (half of the examples are mirrored), "
                   "fps=N (frames a second that clips give) and "
                   "short=hold (the last frame of a short clip stays)",
                   where, (int)n, text);
}

bool clip_options_parse(const char *text, const char *where, ClipOptions *out, Error *err) {
  *out = (ClipOptions){0};
  for (const char *p = text; *text && p;) {
    size_t n = strcspn(p, ",");
    if (!set_option(p, n, where, out, err)) return false;
    p = p[n] ? p + n + 1 : NULL;
  }
  return true;
}

/* ---- frames ---- */

static int64_t wanted_frames(const DataWant *w, DataFit fit) {
  int height, width;
  return w->field->fit == fit ? data_want_frames(w, &height, &width) : 0;
}

int64_t data_most_frames(const DataWant *want, int n, DataFit fit) {
  int64_t most = 0;
  for (int i = 0; i < n; i++)
    if (wanted_frames(&want[i], fit) > most) most = wanted_frames(&want[i], fit);
  return most;
}

bool data_refuse_short(const char *where, const ClipOptions *o, int64_t has, int64_t wants, Error *err) {
  return error_set(err, ERROR_FORMAT, "%s: a clip of %lld frames%s, where %lld are wanted%s", where, (long long)has,
                   o->rate.frames ? " at this rate" : "", (long long)wants,
                   has ? " (short=hold lets the last one stay)" : "");
}

static bool put_frame(const Image *im, const DataWant *want, int n, int64_t at, int64_t frame, Error *err) {
  for (int i = 0; i < n; i++)
    if (wanted_frames(&want[i], FIT_PICTURE) > frame && !data_put_picture(&want[i], at, frame, im, err)) return false;
  return true;
}

bool data_put_frames(FrameReader next, void *ctx, const char *where, const ClipOptions *o, const DataWant *want,
                     int n, int64_t at, int out_size[2], Error *err) {
  int64_t frames = data_most_frames(want, n, FIT_PICTURE);
  Image im = {0};
  bool ok = true, ended = false;
  for (int64_t f = 0; ok && f < frames; f++) {
    Image read;
    if (!ended && next(ctx, &read, err)) {
      image_done(&im);
      im = read;
      if (!f) out_size[0] = im.width, out_size[1] = im.height;
    } else if (!ended) {
      ended = ok = err->code == ERROR_NONE && f && o->holds;
      if (!ok && err->code == ERROR_NONE) data_refuse_short(where, o, f, frames, err);
    }
    ok = ok && put_frame(&im, want, n, at, f, err);
  }
  image_done(&im);
  return ok;
}

static bool next_of_clip(void *ctx, Image *out, Error *err) { return clip_next(ctx, out, err); }

bool data_put_clip(const void *bytes, size_t n_bytes, const char *where, const ClipOptions *o, const DataWant *want,
                   int n, int64_t at, int out_size[2], Error *err) {
  Clip *c = clip_open(bytes, n_bytes, where, o->rate, err);
  bool ok = c && data_put_frames(next_of_clip, c, where, o, want, n, at, out_size, err);
  clip_close(c);
  return ok;
}

/* ---- pictures, labels, captions ---- */

bool data_put_image(const void *bytes, size_t n_bytes, const char *where, const DataWant *want, int n, int64_t at,
                    int out_size[2], Error *err) {
  Image im = {0};
  bool ok = image_decode(bytes, n_bytes, where, &im, err) && put_frame(&im, want, n, at, 0, err);
  out_size[0] = im.width, out_size[1] = im.height;
  image_done(&im);
  return ok;
}

bool data_put_label_map(const void *bytes, size_t n_bytes, const char *where, const int size[2], const DataWant *want,
                        int n, int64_t at, int64_t frame, Error *err) {
  uint16_t *labels = NULL;
  int width, height;
  bool ok = image_decode_labels(bytes, n_bytes, where, &labels, &width, &height, err);
  if (ok && size[0] && (width != size[0] || height != size[1]))
    ok = error_set(err, ERROR_FORMAT, "%s: labels of %d x %d for a picture of %d x %d", where, width, height, size[0],
                   size[1]);
  for (int i = 0; ok && i < n; i++)
    if (wanted_frames(&want[i], FIT_LABELS) > frame) data_put_labels(&want[i], at, frame, labels, width, height);
  mem_free(labels);
  return ok;
}

bool data_choose_caption(const char *bytes, size_t n, const char *where, uint64_t draw, Buffer *out, Error *err) {
  if (n > CAPTION_MAX_BYTES)
    return error_set(err, ERROR_LIMIT, "%s: captions of %zu bytes; at most %d", where, n, CAPTION_MAX_BYTES);
  if (memchr(bytes, 0, n))
    return error_set(err, ERROR_FORMAT, "%s holds a zero byte: captions are UTF-8 text", where);
  captions_choose(bytes, n, draw, out);
  return true;
}

/* ---- fields ---- */

enum { IS_CLIP = 0x100 }; /* beside what ListedFile.has says */

static int has_of(const ListedFile *file) { return file->has | (file->kind != FILE_PICTURE ? IS_CLIP : 0); }

/* A field that some have. */
static bool add_partial(Dataset *d, const Listing *l, const char *name, DataFit fit, int rank, int has, Error *err) {
  uint64_t missing = 0, first = 0;
  for (uint64_t i = d->n; i-- > 0;)
    if (!(has_of(&l->file[i]) & has)) missing++, first = i;
  if (missing == d->n) return true;
  if (!dataset_add_field(d, name, fit, rank, (int64_t[]){DATA_ANY, DATA_ANY, DATA_ANY, 3}, err)) return false;
  d->field[d->n_field - 1].missing = missing;
  d->field[d->n_field - 1].first_missing = first;
  return true;
}

bool data_add_listed_fields(Dataset *d, const Listing *l, Error *err) {
  return dataset_add_field(d, PORT_IMAGE, FIT_PICTURE, 3, (int64_t[]){DATA_ANY, DATA_ANY, 3}, err) &&
         add_partial(d, l, PORT_VIDEO, FIT_PICTURE, 4, IS_CLIP, err) &&
         add_partial(d, l, PORT_LABELS, FIT_LABELS, 2, HAS_LABELS, err) &&
         add_partial(d, l, PORT_LABELS, FIT_LABELS, 3, HAS_FRAME_LABELS, err) &&
         add_partial(d, l, PORT_TEXT, FIT_TEXT, 1, HAS_TEXT | HAS_TABLE | HAS_JSON, err) &&
         add_partial(d, l, PORT_CLASS, FIT_CLASS, 0, HAS_CLASS, err);
}
