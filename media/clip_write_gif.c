/* GIF: frames of one palette by FFmpeg, and the text as a comment before the trailer. */
#include <stdio.h>
#include <string.h>

#include "media/clip_encoder.h"
#include "media/clip_write_internal.h"
#include "media/palette.h"

enum { PER_SECOND = 100, SHORTEST = 2, LONGEST = UINT16_MAX };

typedef struct GifFrames {
  const ClipFrames *clip;
  Palette palette;
  uint32_t colours[PALETTE_MAX]; /* of the palette, as FFmpeg has them: opaque */
  uint8_t *indices;              /* of a frame [height, width] */
} GifFrames;

static bool draw(void *ctx, const Ffmpeg *ff, int i, AVFrame *out, Error *err) {
  GifFrames *g = ctx;
  size_t width = (size_t)g->clip->width, height = (size_t)g->clip->height;
  palette_map(&g->palette, clip_frame(g->clip, i), width * height, g->indices);
  for (size_t y = 0; y < height; y++)
    memcpy(out->data[0] + y * (size_t)out->linesize[0], g->indices + y * width, width);
  memcpy(out->data[1], g->colours, sizeof g->colours);
  out->pts = clip_stamp(g->clip, i, PER_SECOND);
  return true;
}

static bool choose_colours(GifFrames *g, Error *err) {
  const ClipFrames *f = g->clip;
  size_t pixels = (size_t)f->width * (size_t)f->height;
  g->indices = mem_alloc(pixels);
  if (!g->indices) return error_set(err, ERROR_MEMORY, "writing a GIF: out of memory");
  if (!palette_make(f->rgb, (size_t)f->n * pixels, &g->palette, err)) return false;
  for (int i = 0; i < PALETTE_MAX; i++) {
    const uint8_t *c = g->palette.rgb[i];
    g->colours[i] = 0xff000000u | (uint32_t)c[0] << 16 | (uint32_t)c[1] << 8 | c[2];
  }
  return true;
}

static bool encode(GifFrames *g, Buffer *out, Error *err) {
  static const EncoderCodec codec = {"gif", ""};
  const ClipFrames *f = g->clip;
  char options[40]; /* the last frame has no other after it that would tell its end */
  int64_t last = clip_stamp(f, f->n, PER_SECOND) - clip_stamp(f, f->n - 1, PER_SECOND);
  snprintf(options, sizeof options, "loop=0:final_delay=%d", (int)last);
  EncoderWant want = {.name = "GIF",
                      .format = "gif",
                      .format_options = options,
                      .codecs = &codec,
                      .n_codecs = 1,
                      .pixels = AV_PIX_FMT_PAL8,
                      .width = f->width,
                      .height = f->height,
                      .frames = f->n,
                      .tick = {1, PER_SECOND},
                      .draw = draw,
                      .ctx = g};
  return choose_colours(g, err) && encoder_run(&want, out, err);
}

bool clip_encode_gif(const ClipFrames *f, Buffer *out, Error *err) {
  if (!clip_check_rate(f, "GIF", PER_SECOND, SHORTEST, LONGEST, err)) return false;
  GifFrames *g = mem_alloc(sizeof *g);
  if (!g) return error_set(err, ERROR_MEMORY, "writing a GIF: out of memory");
  g->clip = f;
  bool ok = encode(g, out, err);
  if (ok && f->text) {
    out->len--; /* the trailer */
    clip_append_comment(out, f->text);
    buffer_append(out, ";", 1);
  }
  mem_free(g->indices);
  mem_free(g);
  return ok;
}
