/* See given.h. */
#include "synth/given.h"

#include <stdlib.h>
#include <string.h>

#include "media/clip.h"
#include "runtime/base/file.h"

enum { GREY = 128, LIKE = 40 };   /* colours this near on each channel are alike */

static const char *const words[] = {"lower", "upper", "left", "right", "center", "all", "thing"};
enum { WORD_THING = 6 };

static int word_of(const char *mask) {
  int i = 0;
  while (i < COUNT_OF(words) && strcmp(mask, words[i]) != 0) i++;
  return i < COUNT_OF(words) ? i : -1;
}

/* "X,Y,WIDTH,HEIGHT"; what is larger than any picture stands as that. */
static bool read_box(const char *mask, int box[4]) {
  const char *p = mask;
  for (int i = 0; i < 4; i++) {
    char *end;
    if (*p < '0' || *p > '9') return false;
    long long x = strtoll(p, &end, 10);
    box[i] = x > IMAGE_MAX_SIDE ? IMAGE_MAX_SIDE + 1 : (int)x;
    if (*end != (i < 3 ? ',' : 0)) return false;
    p = end + (i < 3);
  }
  return true;
}

bool given_is_word(const char *mask) {
  int box[4];
  return word_of(mask) >= 0 || read_box(mask, box);
}

/* ---- reading ---- */

static bool fit(const Kit *k, const Image *picture, uint8_t *rgb, Error *err) {
  Image fitted = {0};
  if (!image_fit(picture, (int)k->size, (int)k->size, &fitted, err)) return false;
  memcpy(rgb, fitted.rgb, (size_t)(3 * k->size * k->size));
  image_done(&fitted);
  return true;
}

/* Frames as they are stored, or none at their end; the shape of the first one. */
typedef struct Frames {
  FileMap map;
  Clip *clip;
  int width, height;
} Frames;

static bool frames_open(Frames *f, const char *path, Error *err) {
  *f = (Frames){0};
  return file_map(path, &f->map, err) && (f->clip = clip_open(f->map.data, f->map.len, path, (ClipRate){0}, err));
}

static void frames_close(Frames *f) {
  clip_close(f->clip);
  file_unmap(&f->map);
}

static bool read_frames(const Kit *k, Frames *f, int64_t most, uint8_t *rgb, int64_t *out_n, bool *out_all,
                        Error *err) {
  size_t bytes = (size_t)(3 * k->size * k->size);
  bool ok = true;
  *out_n = 0;
  *out_all = false;
  while (ok && *out_n <= most) {
    Image frame = {0};
    if (!clip_next(f->clip, &frame, err)) {
      *out_all = err->code == ERROR_NONE;
      return *out_all;
    }
    if (!*out_n) f->width = frame.width, f->height = frame.height;
    if (*out_n < most) ok = fit(k, &frame, rgb + (size_t)*out_n * bytes, err);
    image_done(&frame);
    if (*out_n == most) return ok;
    ++*out_n;
  }
  return ok;
}

/* A picture, or the first frame of a clip. */
static bool read_picture(const char *path, Image *out, Error *err) {
  Frames f;
  Error of_clip = {0};
  if (image_read(path, out, err)) return true;
  if (err->code != ERROR_FORMAT) return false;
  bool ok = frames_open(&f, path, &of_clip) && clip_next(f.clip, out, &of_clip);
  frames_close(&f);
  return ok;
}

bool given_read_picture(const Kit *k, Arena *a, const char *path, uint8_t **out_rgb, Error *err) {
  Image picture = {0};
  *out_rgb = arena_alloc(a, (size_t)(3 * k->size * k->size));
  bool ok = read_picture(path, &picture, err) && fit(k, &picture, *out_rgb, err);
  image_done(&picture);
  return ok;
}

bool given_read_clip(const Kit *k, Arena *a, const char *path, int64_t most, uint8_t **out_rgb, int64_t *out_n,
                     bool *out_all, Error *err) {
  Frames f;
  *out_rgb = arena_alloc(a, (size_t)(3 * k->size * k->size * most));
  bool ok = frames_open(&f, path, err) && read_frames(k, &f, most, *out_rgb, out_n, out_all, err);
  frames_close(&f);
  return ok;
}

/* ---- masks ---- */

/* What is being read: its known pixels, and the shape of the file they came from. */
typedef struct Reading {
  const Kit *k;
  Arena *arena;
  const GivenSpec *spec;
  Given *g;
  int64_t known;         /* frames that there are pixels of */
  int width, height;     /* of the file's pictures */
  Error *err;
} Reading;

static void mask_of_word(int word, int64_t size, uint8_t *unknown) {
  for (int64_t i = 0; i < size * size; i++) {
    int64_t y = i / size, x = i % size, low = size / 4, high = size - size / 4;
    const bool in[] = {2 * y >= size, 2 * y < size, 2 * x < size, 2 * x >= size,
                       y >= low && y < high && x >= low && x < high, true};
    unknown[i] = in[word];
  }
}

static bool is_like(const uint8_t *a, const uint8_t *b) {
  return abs(a[0] - b[0]) <= LIKE && abs(a[1] - b[1]) <= LIKE && abs(a[2] - b[2]) <= LIKE;
}

/* Whether the picture's border has a colour like it. */
static bool is_of_border(const uint8_t *rgb, int64_t size, const uint8_t *pixel) {
  for (int64_t i = 0; i < size; i++) {
    const int64_t at[4] = {i, (size - 1) * size + i, i * size, i * size + size - 1};
    for (int k = 0; k < 4; k++)
      if (is_like(rgb + 3 * at[k], pixel)) return true;
  }
  return false;
}

/* The box around all that has no colour of the border; false: there is nothing of the kind. */
static bool mask_of_thing(const uint8_t *rgb, int64_t size, uint8_t *unknown) {
  int64_t x0 = size, y0 = size, x1 = -1, y1 = -1;
  for (int64_t i = 0; i < size * size; i++) {
    if (is_of_border(rgb, size, rgb + 3 * i)) continue;
    int64_t x = i % size, y = i / size;
    x0 = x < x0 ? x : x0, x1 = x > x1 ? x : x1;
    y0 = y < y0 ? y : y0, y1 = y > y1 ? y : y1;
  }
  for (int64_t y = y0 - 1; y <= y1 + 1; y++)
    for (int64_t x = x0 - 1; x <= x1 + 1; x++)
      if (x1 >= 0 && x >= 0 && y >= 0 && x < size && y < size) unknown[y * size + x] = 1;
  return x1 >= 0;
}

static void take_mask(const Image *fitted, uint8_t *unknown) {
  for (int i = 0; i < fitted->width * fitted->height; i++)
    unknown[i] = fitted->rgb[3 * i] + fitted->rgb[3 * i + 1] + fitted->rgb[3 * i + 2] >= 3 * 128;
}

/* Where pixel edge `at` of a file's axis goes, of which `part` pixels in the middle become `size`; rounded down, or
 * up. */
static int edge_of(int64_t at, int whole, int part, int size, bool up) {
  int64_t inside = at - (whole - part) / 2, scaled = inside * size;
  int64_t floor = scaled >= 0 ? scaled / part : -((-scaled + part - 1) / part);
  int64_t out = floor + (up && floor * part != scaled);
  return (int)(out < 0 ? 0 : out > size ? size : out);
}

/* The box in the file's pixels, where its picture went.  A pixel that it touches is unknown. */
static bool mask_of_box(const Reading *r, const int box[4], uint8_t *unknown) {
  int side = (int)r->k->size, part_w, part_h;
  bool inside = box[2] > 0 && box[3] > 0 && box[0] <= r->width - box[2] && box[1] <= r->height - box[3];
  if (!inside)
    return error_set(r->err, ERROR_ARGUMENT, "--mask %s: the box X,Y,WIDTH,HEIGHT must lie in the picture, %d x %d",
                     r->spec->mask, r->width, r->height);
  image_fit_part(r->width, r->height, side, side, &part_w, &part_h);
  int x0 = edge_of(box[0], r->width, part_w, side, false), x1 = edge_of(box[0] + box[2], r->width, part_w, side, true);
  int y0 = edge_of(box[1], r->height, part_h, side, false),
      y1 = edge_of(box[1] + box[3], r->height, part_h, side, true);
  for (int y = y0; y < y1; y++)
    for (int x = x0; x < x1; x++) unknown[y * side + x] = 1;
  return true;
}

/* The mask goes where its picture goes: cropped and resized alike. */
static bool mask_of_file(const Reading *r) {
  Image frame = {0}, fitted = {0};
  Frames f = {0};
  const char *mask = r->spec->mask;
  int side = (int)r->k->size;
  size_t pixels = (size_t)side * (size_t)side;
  Error none = {0};
  bool is_picture = image_read(mask, &frame, &none), ok = true;
  if (!is_picture && !frames_open(&f, mask, r->err)) {
    frames_close(&f);
    if (none.code == ERROR_IO) *r->err = none;
    return error_prefix(
        r->err,
        "--mask (a picture or clip, a box X,Y,WIDTH,HEIGHT, or lower, upper, left, right, center, thing, all)");
  }
  for (int64_t i = 0; ok && i < r->g->frames; i++) {
    if (is_picture && i > 0) {
      memcpy(r->g->unknown + (size_t)i * pixels, r->g->unknown, pixels);
      continue;
    }
    if (!is_picture && !(ok = clip_next(f.clip, &frame, r->err))) {
      if (r->err->code == ERROR_NONE)
        error_set(r->err, ERROR_ARGUMENT, "--mask %s has %lld frames, the model makes %lld", mask, (long long)i,
                  (long long)r->g->frames);
      break;
    }
    ok = (int64_t)frame.width * r->height == (int64_t)frame.height * r->width ||
         error_set(r->err, ERROR_ARGUMENT, "--mask %s is %d x %d, its picture %d x %d: they must have the same shape",
                   mask, frame.width, frame.height, r->width, r->height);
    ok = ok && image_fit(&frame, side, side, &fitted, r->err);
    if (ok) take_mask(&fitted, r->g->unknown + (size_t)i * pixels);
    image_done(&fitted);
    if (!is_picture) image_done(&frame);
  }
  image_done(&frame);
  if (ok && !is_picture && (clip_next(f.clip, &frame, r->err) || r->err->code != ERROR_NONE)) {
    ok = r->err->code == ERROR_NONE
             ? error_set(r->err, ERROR_ARGUMENT, "--mask %s has more than %lld frames, which the model makes", mask,
                         (long long)r->g->frames)
             : false;
    image_done(&frame);
  }
  if (!is_picture) frames_close(&f);
  return ok;
}

static bool make_mask(const Reading *r) {
  const char *mask = r->spec->mask;
  int64_t size = r->k->size, pixels = size * size;
  int box[4], word = word_of(mask);
  if (word < 0 && !read_box(mask, box)) return mask_of_file(r);
  for (int64_t f = 0; f < r->g->frames; f++) {
    uint8_t *unknown = r->g->unknown + f * pixels;
    if (word < 0) {
      if (!mask_of_box(r, box, unknown)) return false;
    } else if (word != WORD_THING) {
      mask_of_word(word, size, unknown);
    } else if (f < r->known && !mask_of_thing(r->g->rgb + 3 * f * pixels, size, unknown)) {
      return error_set(r->err, ERROR_ARGUMENT,
                       "--mask thing: frame %lld has nothing but colours of its border: no thing is found",
                       (long long)f);
    }
  }
  return true;
}

/* A mask that hides nothing leaves nothing to draw, one that hides all nothing to begin with. */
static bool check_mask(const Reading *r) {
  int64_t n = r->g->frames * r->k->size * r->k->size, unknown = 0;
  const char *mask = r->spec->mask;
  for (int64_t i = 0; i < n; i++) unknown += r->g->unknown[i];
  if (unknown == 0)
    return error_set(r->err, ERROR_ARGUMENT, "%s%s hides nothing: all is known, and nothing is left to draw",
                     mask ? "--mask " : "--given-frames", mask ? mask : "");
  if (unknown < n || (mask && word_of(mask) >= 0)) return true;
  return error_set(r->err, ERROR_ARGUMENT, "--mask %s hides all: nothing is known; draw without %s", mask ? mask : "",
                   r->spec->video ? "--video" : "--image");
}

/* ---- pixels ---- */

/* The picture, as the first of the frames. */
static bool read_image(Reading *r) {
  Image picture = {0};
  bool ok = read_picture(r->spec->image, &picture, r->err) && fit(r->k, &picture, r->g->rgb, r->err);
  r->width = picture.width;
  r->height = picture.height;
  r->known = 1;
  image_done(&picture);
  return ok;
}

static bool read_video(Reading *r) {
  Frames f;
  bool all = false;
  const GivenSpec *s = r->spec;
  int64_t frames = r->g->frames, wanted = s->mask ? frames : s->given_frames;
  bool ok = frames_open(&f, s->video, r->err) && read_frames(r->k, &f, frames, r->g->rgb, &r->known, &all, r->err);
  r->width = f.width;
  r->height = f.height;
  frames_close(&f);
  if (!ok) return false;
  if (s->mask && (r->known < frames || !all))
    return error_set(r->err, ERROR_ARGUMENT,
                     "--video %s has %s%lld frames, the model makes %lld: with --mask they must be as many", s->video,
                     all ? "" : "more than ", (long long)r->known, (long long)frames);
  return r->known >= wanted ||
         error_set(r->err, ERROR_ARGUMENT, "--video %s has %lld frames, --given-frames wants %lld", s->video,
                   (long long)r->known, (long long)wanted);
}

static bool check_spec(const Reading *r) {
  const GivenSpec *s = r->spec;
  int64_t frames = r->g->frames;
  if (s->video && frames == 1)
    return error_set(r->err, ERROR_USAGE, "--video is for clips, this task draws pictures: give --image");
  if (s->given_frames >= frames)
    return error_set(r->err, ERROR_USAGE,
                     "--given-frames %lld: the model makes %lld frames, of which 1 to %lld can be given",
                     (long long)s->given_frames, (long long)frames, (long long)frames - 1);
  if (s->video && !s->mask && !s->given_frames)
    return error_set(r->err, ERROR_USAGE, "--video needs --given-frames N, --mask, or both: what of it is known");
  if (s->image && frames > 1 && s->given_frames > 1)
    return error_set(r->err, ERROR_USAGE, "--given-frames %lld: --image is one frame; give --video",
                     (long long)s->given_frames);
  return s->mask || frames > 1 || error_set(r->err, ERROR_USAGE, "--image and --mask go together");
}

/* What has no pixels is unknown; the first frames are known where that is said. */
static void limit_frames(Reading *r) {
  int64_t pixels = r->k->size * r->k->size;
  const GivenSpec *s = r->spec;
  for (int64_t f = 0; f < r->g->frames; f++) {
    bool is_known = f < (s->image && !s->mask ? 1 : s->given_frames),
         is_unknown = f >= r->known || (!s->mask && !is_known);
    if (is_known || is_unknown) memset(r->g->unknown + f * pixels, is_unknown, (size_t)pixels);
  }
}

/* A token is given unless one of its pixels is unknown. */
static void tokens_of_pixels(const Kit *k, const uint8_t *unknown, uint8_t *given) {
  int64_t h = k->grid[1], w = k->grid[2], size = k->size;
  memset(given, 1, (size_t)(h * w));
  for (int64_t y = 0; y < size; y++)
    for (int64_t x = 0; x < size; x++)
      if (unknown[y * size + x]) given[y * h / size * w + x * w / size] = 0;
}

bool given_encode(const Kit *k, Arena *a, Given *g, Error *err) {
  int64_t pixels = k->size * k->size, codes = k->grid[1] * k->grid[2];
  uint8_t *painted = arena_copy(a, g->rgb, (size_t)(3 * g->frames * pixels));
  g->given = arena_alloc(a, (size_t)k->positions);
  g->tokens = ARENA_ARRAY(a, int32_t, k->positions);
  for (int64_t i = 0; i < g->frames * pixels; i++)
    if (g->unknown[i]) memset(painted + 3 * i, GREY, 3);
  for (int64_t f = 0; f < g->frames; f++) tokens_of_pixels(k, g->unknown + f * pixels, g->given + f * codes);
  return codec_encode(&k->codec[CODEC_IMAGE], painted, g->frames, g->tokens, err);
}

bool given_read(Kit *k, Arena *a, const GivenSpec *spec, Given *g, Error *err) {
  int64_t frames = k->grid[0], pixels = k->size * k->size;
  *g = (Given){.frames = frames, .rgb = arena_alloc(a, (size_t)(3 * frames * pixels)),
               .unknown = arena_alloc(a, (size_t)(frames * pixels))};
  Reading r = {k, a, spec, g, .err = err};
  if (!check_spec(&r) || !(spec->video ? read_video(&r) : read_image(&r)) || (spec->mask && !make_mask(&r)))
    return false;
  limit_frames(&r);
  return check_mask(&r) && given_encode(k, a, g, err);
}

void given_restore(const Kit *k, const Given *g, int64_t f, uint8_t *rgb) {
  int64_t pixels = k->size * k->size;
  for (int64_t i = 0; i < pixels; i++)
    if (!g->unknown[f * pixels + i]) memcpy(rgb + 3 * i, g->rgb + 3 * (f * pixels + i), 3);
}
