/* Which writer a clip is for, and what all of them refuse. */
#include <string.h>
#include <strings.h>

#include "media/clip_internal.h"
#include "media/clip_write_internal.h"
#include "runtime/base/file.h"

static const struct {
  const char *ending, *name;
  bool (*encode)(const ClipFrames *f, Buffer *out, Error *err);
} formats[CLIP_FORMATS] = {
    [CLIP_GIF] = {".gif", "GIF", clip_encode_gif},
    [CLIP_WEBP] = {".webp", "WebP", clip_encode_webp},
    [CLIP_MP4] = {".mp4", "MP4", clip_encode_mp4},
};

bool clip_format_of(const char *path, ClipFormat *out) {
  const char *ending = strrchr(path, '.');
  for (ClipFormat k = 0; ending && k < CLIP_FORMATS; k++)
    if (strcasecmp(ending, formats[k].ending) == 0) return *out = k, true;
  return false;
}

const uint8_t *clip_frame(const ClipFrames *f, int i) {
  return f->rgb + (size_t)i * 3 * (size_t)f->width * (size_t)f->height;
}

int64_t clip_stamp(const ClipFrames *f, int64_t i, int per_second) {
  return i * per_second * f->rate.seconds / f->rate.frames;
}

bool clip_check_rate(const ClipFrames *f, const char *name, int per_second, int least, int most, Error *err) {
  int64_t ticks = (int64_t)per_second * f->rate.seconds, frames = f->rate.frames;
  return (ticks >= least * frames && ticks <= most * frames) ||
         error_set(err, ERROR_ARGUMENT, "a %s of %d/%d frames a second: frames of %s last %d/%d to %d/%d seconds",
                   name, f->rate.frames, f->rate.seconds, name, least, per_second, most, per_second);
}

static bool check(const ClipFrames *f, const char *name, Error *err) {
  if (f->n < 1 || f->width < 1 || f->height < 1)
    return error_set(err, ERROR_ARGUMENT, "a %s of %d frames of %d x %d: at least 1 frame of 1 x 1 is needed", name,
                     f->n, f->width, f->height);
  if (f->rate.frames < 1 || f->rate.seconds < 1 || f->rate.frames / f->rate.seconds > 1000)
    return error_set(err, ERROR_ARGUMENT, "a %s of %d/%d frames a second: must be above 0 and at most 1000", name,
                     f->rate.frames, f->rate.seconds);
  if (f->n > CLIP_MAX_STORED)
    return error_set(err, ERROR_LIMIT, "a %s of %d frames: at most %d can be read", name, f->n, CLIP_MAX_STORED);
  return clip_check_size(name, (uint64_t)f->width, (uint64_t)f->height, err);
}

bool clip_encode(ClipFormat format, const uint8_t *rgb, int n, int width, int height, ClipRate rate, const char *text,
                 Buffer *out, Error *err) {
  const char *name = formats[format].name;
  ClipFrames f = {rgb, n, width, height, rate, text};
  if (!check(&f, name, err) || !formats[format].encode(&f, out, err)) return false;
  return !out->failed ||
         error_set(err, ERROR_MEMORY, "writing a %s of %d frames of %d x %d: out of memory", name, n, width, height);
}

bool clip_write(const char *path, const uint8_t *rgb, int n, int width, int height, ClipRate rate, const char *text,
                Error *err) {
  Buffer b = {0};
  ClipFormat format;
  if (!clip_format_of(path, &format))
    return error_set(err, ERROR_ARGUMENT, "%s: names of clips end in .gif, .webp or .mp4", path);
  bool ok = clip_encode(format, rgb, n, width, height, rate, text, &b, err) || error_prefix(err, "%s", path);
  ok = ok && file_write_all(path, b.data, b.len, err);
  buffer_done(&b);
  return ok;
}
