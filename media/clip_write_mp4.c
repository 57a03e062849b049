/* MP4 by FFmpeg: H.264 of 4:2:0, which every player shows. */
#include <string.h>

#include "media/clip_encoder.h"
#include "media/clip_write_internal.h"

/* Constant quality, finer than the eye can tell; x264 is told to do the same on every processor. */
static const EncoderCodec codecs[] = {{"libx264", "crf=14:x264-params=cpu-independent=1"},
                                      {"mpeg4", "flags=+qscale:global_quality=236"}};

typedef struct Mp4Frames {
  const ClipFrames *clip;
  AVFrame *rgb; /* of even sides, in rows as long as swscale likes them */
  struct SwsContext *sws;
} Mp4Frames;

static int even(int n) { return n + n % 2; }

static bool fail(Error *err) { return error_set(err, ERROR_MEMORY, "writing an MP4: out of memory"); }

static void copy_row(const uint8_t *from, int width, uint8_t *to) {
  size_t bytes = 3 * (size_t)width;
  memcpy(to, from, bytes);
  if (width % 2) memcpy(to + bytes, to + bytes - 3, 3);
}

static void copy_frame(const Mp4Frames *m, int i) {
  const ClipFrames *f = m->clip;
  const uint8_t *from = clip_frame(f, i);
  for (int y = 0; y < m->rgb->height; y++) {
    int row = y < f->height ? y : f->height - 1;
    copy_row(from + 3 * (size_t)row * (size_t)f->width, f->width, m->rgb->data[0] + y * m->rgb->linesize[0]);
  }
}

static bool make_rgb(Mp4Frames *m, const Ffmpeg *ff, const AVFrame *like, Error *err) {
  if (m->rgb) return true;
  m->rgb = ff->av_frame_alloc();
  if (!m->rgb) return fail(err);
  m->rgb->format = AV_PIX_FMT_RGB24;
  m->rgb->width = like->width;
  m->rgb->height = like->height;
  if (ff->av_frame_get_buffer(m->rgb, 0) < 0) return fail(err);
  m->sws = ff->sws_getCachedContext(NULL, like->width, like->height, AV_PIX_FMT_RGB24, like->width, like->height,
                                    like->format, SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP | SWS_BITEXACT,
                                    NULL, NULL, NULL);
  if (!m->sws) return fail(err);
  ff->sws_setColorspaceDetails(m->sws, ff->sws_getCoefficients(SWS_CS_DEFAULT), 1,
                               ff->sws_getCoefficients(SWS_CS_ITU709), 0, 0, 1 << 16, 1 << 16);
  return true;
}

static bool draw(void *ctx, const Ffmpeg *ff, int i, AVFrame *out, Error *err) {
  Mp4Frames *m = ctx;
  if (!make_rgb(m, ff, out, err)) return false;
  copy_frame(m, i);
  int rows = ff->sws_scale(m->sws, (const uint8_t *const *)m->rgb->data, m->rgb->linesize, 0, out->height, out->data,
                           out->linesize);
  out->pts = i;
  return rows == out->height || fail(err);
}

static void done(Mp4Frames *m) {
  Error err;
  const Ffmpeg *ff = m->rgb || m->sws ? ffmpeg_load(&err) : NULL;
  if (!ff) return;
  ff->sws_freeContext(m->sws);
  ff->av_frame_free(&m->rgb);
}

static int32_t common_divisor(int32_t a, int32_t b) { return b ? common_divisor(b, a % b) : a; }

bool clip_encode_mp4(const ClipFrames *f, Buffer *out, Error *err) {
  int32_t divisor = common_divisor(f->rate.frames, f->rate.seconds);
  Mp4Frames m = {f};
  Buffer comment = {0};
  if (f->text) buffer_printf(&comment, CLIP_TEXT_MARK "%s", f->text);
  EncoderWant want = {.name = "MP4",
                      .format = "mp4",
                      .format_options = "",
                      .codecs = codecs,
                      .n_codecs = COUNT_OF(codecs),
                      .pixels = AV_PIX_FMT_YUV420P,
                      .width = even(f->width),
                      .height = even(f->height),
                      .frames = f->n,
                      .tick = {f->rate.seconds / divisor, f->rate.frames / divisor},
                      .comment = comment.data,
                      .draw = draw,
                      .ctx = &m};
  bool ok = comment.failed ? fail(err) : encoder_run(&want, out, err);
  buffer_done(&comment);
  done(&m);
  return ok;
}

const char *clip_encoder(ClipFormat format, char out[64], Error *err) {
  const Ffmpeg *ff = format == CLIP_MP4 ? ffmpeg_load(err) : NULL;
  if (format == CLIP_MP4 && !ff) return NULL;
  unsigned v = ff ? ff->avcodec_version() : 0;
  snprintf(out, 64, ff ? "libavcodec %u.%u.%u" : "", v >> 16, v >> 8 & 255, v & 255);
  return out;
}
