/* Which reader a clip is for, and which of its stored frames are the frames at a rate. */
#include "media/clip_internal.h"

#include <string.h>

#include "media/image_internal.h"

struct Clip {
  ClipSource *source;
  ClipRate rate;
  int64_t n; /* frames given */
  ClipSpan now;
  uint64_t stored, pixels; /* of those passed */
};

bool clip_is_webp(const void *bytes, size_t n) {
  return n >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp((const char *)bytes + 8, "WEBP", 4);
}

static size_t skip_gif_blocks(const uint8_t *p, size_t n, size_t at) {
  while (at < n && p[at]) at += p[at] + (size_t)1;
  return at + 1;
}

size_t clip_gif_next(const uint8_t *p, size_t n, size_t at) {
  enum { IMAGE = ',', EXTENSION = '!', HEAD = 13, IMAGE_HEAD = 10 };
  if (at == 0) return n < HEAD ? n : HEAD + (p[10] & 0x80 ? (size_t)6 << (p[10] & 7) : 0);
  if (p[at] == EXTENSION) return skip_gif_blocks(p, n, at + 2);
  if (p[at] != IMAGE || n - at <= IMAGE_HEAD) return n;
  return skip_gif_blocks(p, n, at + IMAGE_HEAD + 1 + (p[at + 9] & 0x80 ? (size_t)6 << (p[at + 9] & 7) : 0));
}

Clip *clip_open(const void *bytes, size_t n, const char *where, ClipRate rate, Error *err) {
  Clip *c = mem_alloc(sizeof *c);
  if (!c) {
    error_set(err, ERROR_MEMORY, "%s: out of memory", where);
    return NULL;
  }
  c->rate = rate;
  c->source = (clip_is_webp(bytes, n) ? clip_open_webp : clip_open_ffmpeg)(bytes, n, where, err);
  if (c->source) return c;
  mem_free(c);
  return NULL;
}

void clip_close(Clip *c) {
  if (!c) return;
  c->source->kind->close(c->source);
  mem_free(c);
}

/* ---- rates ---- */

bool clip_parse_rate(const char *text, ClipRate *out, Error *err) {
  int whole = 0, n = 0, thousandths = 0, unit = 100, seconds = 1;
  const char *p = text;
  for (; *p >= '0' && *p <= '9' && n < 7; p++, n++) whole = 10 * whole + (*p - '0');
  bool ok = n > 0;
  if (ok && *p == '/') {
    seconds = 0;
    for (n = 0, p++; *p >= '0' && *p <= '9' && n < 7; p++, n++) seconds = 10 * seconds + (*p - '0');
  } else if (ok && *p == '.') {
    ok = p[1] != 0;
    for (p++; *p >= '0' && *p <= '9' && unit; p++, unit /= 10) thousandths += unit * (*p - '0');
    ok = ok && whole <= 1000;
    whole = 1000 * whole + thousandths;
    seconds = 1000;
  }
  ok = ok && !*p && whole > 0 && seconds > 0 && whole / seconds <= 1000;
  if (!ok)
    return error_set(err, ERROR_ARGUMENT,
                     "\"%.40s\" is no rate: frames a second, above 0 and at most 1000, as 8, 12.5 or 30000/1001",
                     text);
  *out = (ClipRate){whole, seconds};
  return true;
}

/* ---- frames ---- */

/* Times of up to 2^50 ticks, frames, ticks and rates of 31 bits each: products have less than 120. */
static bool is_past(const Clip *c) {
  const ClipSource *s = c->source;
  if (!c->stored) return true;
  if (!c->n) return false;
  __int128 wanted = (__int128)c->n * c->rate.seconds * s->tick_den, scale = (__int128)c->rate.frames * s->tick_num;
  return c->now.is_last ? wanted >= c->now.to * scale : 2 * wanted > (c->now.from + c->now.to) * scale;
}

bool clip_check_size(const char *where, uint64_t width, uint64_t height, Error *err) {
  return image_check_size(where, width, height, err) &&
         (width * height <= CLIP_MAX_FRAME ||
          error_set(err, ERROR_LIMIT, "%s: a clip of %llu x %llu; at most %d pixels a frame are read", where,
                    (unsigned long long)width, (unsigned long long)height, CLIP_MAX_FRAME));
}

bool clip_check_pixels(const char *where, uint64_t pixels, Error *err) {
  return pixels <= CLIP_MAX_PIXELS || error_set(err, ERROR_LIMIT, "%s: more than %llu pixels are to be decoded",
                                                where, (unsigned long long)CLIP_MAX_PIXELS);
}

static bool advance(Clip *c, Error *err) {
  const ClipSource *s = c->source;
  const int64_t most = (int64_t)1 << 50;
  if (!s->kind->next(c->source, &c->now, err)) return false;
  c->stored++;
  c->pixels += s->pixels;
  if (c->stored > CLIP_MAX_STORED)
    return error_set(err, ERROR_LIMIT, "%s: more than %d stored frames before frame %lld", s->where, CLIP_MAX_STORED,
                     (long long)c->n);
  if (c->now.to > most || c->now.from < -most)
    return error_set(err, ERROR_FORMAT, "%s: frame %llu is shown at a time out of all bounds", s->where,
                     (unsigned long long)c->stored - 1);
  return clip_check_pixels(s->where, c->pixels, err);
}

bool clip_next(Clip *c, Image *out, Error *err) {
  bool all = c->rate.frames == 0;
  err->code = ERROR_NONE;
  while (all || is_past(c)) {
    if (c->stored && c->now.is_last) return false;
    if (!advance(c, err)) return false;
    if (all) break;
  }
  c->n++;
  return c->source->kind->picture(c->source, out, err);
}
