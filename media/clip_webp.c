/* WebP by libwebp: still pictures, and animated ones as clips.  FFmpeg reads the former only. */
#include <pthread.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "media/clip_internal.h"
#include "media/image_internal.h"
#include "media/library.h"

/* F(library, function) */
#define WEBP_FUNCTIONS(F)                                                                                            \
  F(decode, WebPGetFeaturesInternal)                                                                                 \
  F(demux, WebPAnimDecoderOptionsInitInternal)                                                                       \
  F(demux, WebPAnimDecoderNewInternal)                                                                               \
  F(demux, WebPAnimDecoderGetInfo)                                                                                   \
  F(demux, WebPAnimDecoderGetNext)                                                                                   \
  F(demux, WebPAnimDecoderDelete)

static const char decode_name[] = "libwebp.so.7", demux_name[] = "libwebpdemux.so.2";

static struct {
#define FIELD(library, name) __typeof__(name) *name;
  WEBP_FUNCTIONS(FIELD)
#undef FIELD
} webp;
static char missing[LIBRARY_WHY_BYTES];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void) {
#define LOAD(library, name) &&library_find(library##_name, #name, &webp.name, missing)
  bool ok = true WEBP_FUNCTIONS(LOAD);
#undef LOAD
  (void)ok; /* missing says it */
}

static bool load_webp(const char *where, Error *err) {
  pthread_once(&once, load);
  return !*missing || error_set(err, ERROR_DEVICE, "%s: libwebp cannot be loaded: %s", where, missing);
}

typedef struct WebpSource {
  ClipSource base;
  WebPAnimDecoder *decoder;
  WebPAnimInfo info;
  const uint8_t *rgba; /* the canvas, the decoder's */
  uint32_t n;          /* frames decoded */
  int64_t end;         /* of the last of them, in ms */
  int last_stamp;      /* as the file has it */
} WebpSource;

static bool webp_next(ClipSource *base, ClipSpan *out, Error *err) {
  enum { SHORTEST = 10, USUAL = 100 };
  WebpSource *s = (WebpSource *)base;
  uint8_t *rgba;
  int stamp;
  err->code = ERROR_NONE;
  if (s->n == s->info.frame_count) return false;
  if (!webp.WebPAnimDecoderGetNext(s->decoder, &rgba, &stamp))
    return error_set(err, ERROR_FORMAT, "%s: damaged WebP: frame %u cannot be decoded", base->where, s->n);
  int64_t duration = (int64_t)stamp - s->last_stamp;
  out->from = s->end;
  out->to = s->end += duration > SHORTEST ? duration : USUAL;
  out->is_last = ++s->n == s->info.frame_count;
  s->last_stamp = stamp;
  s->rgba = rgba;
  return true;
}

static bool webp_picture(ClipSource *base, Image *out, Error *err) {
  const WebpSource *s = (const WebpSource *)base;
  int width = (int)s->info.canvas_width, height = (int)s->info.canvas_height;
  return image_from_rgba(s->rgba, 4 * (size_t)width, width, height, out, err) || error_prefix(err, "%s", base->where);
}

static void webp_close(ClipSource *base) {
  WebpSource *s = (WebpSource *)base;
  if (s->decoder) webp.WebPAnimDecoderDelete(s->decoder);
  mem_free(s);
}

static const ClipKind kind = {webp_next, webp_picture, webp_close};

/* The size is checked before the decoder makes its two canvases. */
static bool check_head(const void *bytes, size_t n, const char *where, Error *err) {
  WebPBitstreamFeatures f;
  VP8StatusCode status = webp.WebPGetFeaturesInternal(bytes, n, &f, WEBP_DECODER_ABI_VERSION);
  if (status != VP8_STATUS_OK)
    return error_set(err, ERROR_FORMAT, "%s: damaged WebP: %s", where,
                     status == VP8_STATUS_NOT_ENOUGH_DATA ? "it is cut short" : "its head is wrong");
  return image_check_size(where, (uint64_t)f.width, (uint64_t)f.height, err);
}

ClipSource *clip_open_webp(const void *bytes, size_t n, const char *where, Error *err) {
  if (!load_webp(where, err) || !check_head(bytes, n, where, err)) return NULL;
  WebpSource *s = mem_alloc(sizeof *s);
  if (!s) {
    error_set(err, ERROR_MEMORY, "%s: out of memory", where);
    return NULL;
  }
  s->base = (ClipSource){.kind = &kind, .where = where, .tick_num = 1, .tick_den = 1000};
  WebPAnimDecoderOptions o;
  webp.WebPAnimDecoderOptionsInitInternal(&o, WEBP_DEMUX_ABI_VERSION);
  o.color_mode = MODE_RGBA;
  o.use_threads = 0;
  s->decoder = webp.WebPAnimDecoderNewInternal(&(WebPData){bytes, n}, &o, WEBP_DEMUX_ABI_VERSION);
  if (s->decoder && webp.WebPAnimDecoderGetInfo(s->decoder, &s->info) && s->info.frame_count > 0) {
    s->base.pixels = (uint64_t)s->info.canvas_width * s->info.canvas_height;
    return &s->base;
  }
  error_set(err, ERROR_FORMAT, "%s: damaged WebP: it is cut short, or its parts do not fit each other", where);
  webp_close(&s->base);
  return NULL;
}

bool image_decode_webp(const void *bytes, size_t n, const char *where, Image *out, Error *err) {
  ClipSpan span;
  ClipSource *s = clip_open_webp(bytes, n, where, err);
  bool ok = s && webp_next(s, &span, err) && webp_picture(s, out, err);
  if (s) webp_close(s);
  return ok;
}
