/* WebP by libwebp, without loss: a frame of an animation holds the box that differs from the one before. */
#include <pthread.h>
#include <string.h>

#include <webp/encode.h>
#include <webp/mux.h>

#include "media/clip_write_internal.h"
#include "media/library.h"

/* F(library, function) */
#define WEBP_FUNCTIONS(F)                                                                                            \
  F(encode, WebPEncodeLosslessRGB)                                                                                   \
  F(encode, WebPFree)                                                                                                \
  F(mux, WebPMuxAssemble)                                                                                            \
  F(mux, WebPMuxDelete)                                                                                              \
  F(mux, WebPMuxPushFrame)                                                                                           \
  F(mux, WebPMuxSetAnimationParams)                                                                                  \
  F(mux, WebPMuxSetCanvasSize)                                                                                       \
  F(mux, WebPMuxSetChunk)                                                                                            \
  F(mux, WebPMuxSetImage)                                                                                            \
  F(mux, WebPNewInternal)

static const char encode_name[] = "libwebp.so.7", mux_name[] = "libwebpmux.so.3";

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

static bool load_webp(Error *err) {
  pthread_once(&once, load);
  return !*missing || error_set(err, ERROR_DEVICE, "WebP: libwebp cannot be loaded: %s", missing);
}

enum { PER_SECOND = 1000, SHORTEST = 11, LONGEST = (1 << 24) - 1 };

typedef struct Box {
  int x, y, width, height;
} Box;

/* What frame i changes; its corner stands at even places, as the format wants it.  Never empty. */
static Box changed(const ClipFrames *f, int i) {
  if (i == 0) return (Box){0, 0, f->width, f->height};
  const uint8_t *now = clip_frame(f, i), *before = clip_frame(f, i - 1);
  int left = f->width, right = 0, top = f->height, bottom = 0;
  for (int y = 0; y < f->height; y++)
    for (int x = 0; x < f->width; x++, now += 3, before += 3) {
      if (memcmp(now, before, 3) == 0) continue;
      if (x < left) left = x;
      if (x >= right) right = x + 1;
      if (y < top) top = y;
      bottom = y + 1;
    }
  if (!right) return (Box){0, 0, 1, 1};
  left -= left % 2;
  top -= top % 2;
  return (Box){left, top, right - left, bottom - top};
}

static bool push(const ClipFrames *f, int i, WebPMux *mux) {
  Box b = changed(f, i);
  const uint8_t *rgb = clip_frame(f, i) + 3 * ((size_t)b.y * (size_t)f->width + (size_t)b.x);
  uint8_t *bytes = NULL;
  WebPMuxFrameInfo frame = {.x_offset = b.x,
                            .y_offset = b.y,
                            .id = WEBP_CHUNK_ANMF,
                            .dispose_method = WEBP_MUX_DISPOSE_NONE,
                            .blend_method = WEBP_MUX_NO_BLEND};
  frame.duration = (int)(clip_stamp(f, i + 1, PER_SECOND) - clip_stamp(f, i, PER_SECOND));
  frame.bitstream.size = webp.WebPEncodeLosslessRGB(rgb, b.width, b.height, 3 * f->width, &bytes);
  frame.bitstream.bytes = bytes;
  bool ok = frame.bitstream.size > 0;
  if (ok && f->n == 1) ok = webp.WebPMuxSetImage(mux, &frame.bitstream, 1) == WEBP_MUX_OK;
  if (ok && f->n > 1) ok = webp.WebPMuxPushFrame(mux, &frame, 1) == WEBP_MUX_OK;
  webp.WebPFree(bytes);
  return ok;
}

static bool set_text(const ClipFrames *f, WebPMux *mux) {
  Buffer xmp = {0};
  if (!f->text) return true;
  clip_append_xmp(&xmp, f->text);
  WebPData data = {(const uint8_t *)xmp.data, xmp.len};
  bool ok = !xmp.failed && webp.WebPMuxSetChunk(mux, "XMP ", &data, 1) == WEBP_MUX_OK;
  buffer_done(&xmp);
  return ok;
}

static bool encode(const ClipFrames *f, WebPMux *mux, Buffer *out) {
  const WebPMuxAnimParams endless = {.bgcolor = 0xffffffff};
  WebPData file = {0};
  bool ok = true;
  for (int i = 0; ok && i < f->n; i++) ok = push(f, i, mux);
  if (ok && f->n > 1)
    ok = webp.WebPMuxSetAnimationParams(mux, &endless) == WEBP_MUX_OK &&
         webp.WebPMuxSetCanvasSize(mux, f->width, f->height) == WEBP_MUX_OK;
  ok = ok && set_text(f, mux) && webp.WebPMuxAssemble(mux, &file) == WEBP_MUX_OK;
  if (ok) buffer_append(out, file.bytes, file.size);
  webp.WebPFree((void *)file.bytes);
  return ok;
}

/* Sizes and rates have been checked: what fails then is memory. */
bool clip_encode_webp(const ClipFrames *f, Buffer *out, Error *err) {
  if (f->width > WEBP_MAX_DIMENSION || f->height > WEBP_MAX_DIMENSION)
    return error_set(err, ERROR_LIMIT, "a WebP of %d x %d: it has at most %d pixels a side", f->width, f->height,
                     WEBP_MAX_DIMENSION);
  if (!clip_check_rate(f, "WebP", PER_SECOND, SHORTEST, LONGEST, err) || !load_webp(err)) return false;
  WebPMux *mux = webp.WebPNewInternal(WEBP_MUX_ABI_VERSION);
  bool ok = mux && encode(f, mux, out);
  if (mux) webp.WebPMuxDelete(mux);
  return ok || error_set(err, ERROR_MEMORY, "writing a WebP: out of memory");
}
