/* Makes clips for tests, by FFmpeg's encoders and libwebp's: frames of known colours at known times. */
#ifndef NUWA_TESTS_CLIP_MAKE_H
#define NUWA_TESTS_CLIP_MAKE_H

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include "runtime/base/memory.h"

typedef struct ClipMake {
  const char *format, *codec; /* "gif", "mp4", "webm", ...; one of FFmpeg's encoders */
  enum AVPixelFormat pixels;
  int width, height, frames;
  const int64_t *stamps;   /* of each in 100ths of a second; NULL: one each tenth */
  AVRational shape;        /* of a pixel; zeroed: square */
  int32_t matrix[4];       /* a b c d of the display matrix; zeroed: none */
  enum AVColorRange range; /* of the samples, which the file names; 0: limited, and it names none */
  enum AVColorSpace space; /* 0: BT.601, and it names none */
  const char *options;     /* of the encoder, "a=b:c=d" */
  bool is_clear;           /* the lower half of each is transparent */
  bool with_sound_only;
} ClipMake;

/* What frame i shows: its own grey at the top, a red left and a blue right half below. */
static inline int make_grey(int i) { return 30 + 40 * (i % 6); }

static inline void make_pixel(const ClipMake *m, int i, int x, int y, uint8_t rgba[4]) {
  int below = y >= m->height / 2, right = x >= m->width / 2;
  uint8_t grey = (uint8_t)make_grey(i);
  rgba[0] = below ? (right ? 20 : 220) : grey;
  rgba[1] = below ? 40 : grey;
  rgba[2] = below ? (right ? 210 : 30) : grey;
  rgba[3] = m->is_clear && below ? 0 : 255;
}

#define MAKE(call)                                                                                                   \
  ((call) < 0 ? (fprintf(stderr, "%s:%d: %s failed\n", __FILE__, __LINE__, #call), abort()) : (void)0)

static inline uint8_t *make_rgba(const ClipMake *m, int i) {
  uint8_t *rgba = malloc(4 * (size_t)m->width * (size_t)m->height);
  if (!rgba) abort();
  for (int y = 0; y < m->height; y++)
    for (int x = 0; x < m->width; x++) make_pixel(m, i, x, y, rgba + 4 * (y * m->width + x));
  return rgba;
}

/* As many colours as there are, exactly: GIF has a palette. */
static inline void make_indices(const ClipMake *m, const uint8_t *rgba, AVFrame *f) {
  uint32_t colour[16] = {0}, *palette = (uint32_t *)f->data[1];
  int n = 0;
  for (int i = 0; i < m->width * m->height; i++) {
    const uint8_t *p = rgba + 4 * i;
    uint32_t want = p[3] ? 0xff000000u | (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2] : 0;
    int k = 0;
    while (k < n && colour[k] != want) k++;
    if (k == n) colour[n++] = want;
    f->data[0][i / m->width * f->linesize[0] + i % m->width] = (uint8_t)k;
  }
  for (int k = 0; k < 256; k++) palette[k] = k < n ? colour[k] : 0xff000000u;
}

static inline AVFrame *make_frame(const ClipMake *m, int i) {
  AVFrame *f = av_frame_alloc();
  f->width = m->width, f->height = m->height, f->format = m->pixels;
  f->color_range = m->range, f->colorspace = m->space ? m->space : AVCOL_SPC_UNSPECIFIED;
  f->pts = m->stamps ? m->stamps[i] : 10 * i;
  MAKE(av_frame_get_buffer(f, 0));
  uint8_t *rgba = make_rgba(m, i);
  if (m->pixels == AV_PIX_FMT_PAL8) return make_indices(m, rgba, f), free(rgba), f;
  struct SwsContext *sws = sws_getContext(m->width, m->height, AV_PIX_FMT_RGBA, m->width, m->height, m->pixels,
                                          SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP, NULL, NULL, NULL);
  bool full = m->range == AVCOL_RANGE_JPEG || (!m->range && av_pix_fmt_desc_get(m->pixels)->nb_components < 3);
  sws_setColorspaceDetails(sws, sws_getCoefficients(SWS_CS_DEFAULT), 1,
                           sws_getCoefficients(m->space ? (int)m->space : SWS_CS_ITU601), full, 0, 1 << 16, 1 << 16);
  sws_scale(sws, (const uint8_t *const[]){rgba}, (int[]){4 * m->width}, 0, m->height, f->data, f->linesize);
  sws_freeContext(sws);
  free(rgba);
  return f;
}

static inline void make_drain(AVFormatContext *out, AVCodecContext *c, AVStream *s, AVPacket *p) {
  while (avcodec_receive_packet(c, p) >= 0) {
    if (!p->duration) p->duration = 10;
    av_packet_rescale_ts(p, c->time_base, s->time_base);
    p->stream_index = s->index;
    MAKE(av_interleaved_write_frame(out, p));
  }
}

static inline void make_sound(AVFormatContext *out) {
  AVStream *s = avformat_new_stream(out, NULL);
  s->codecpar->codec_type = AVMEDIA_TYPE_AUDIO;
  s->codecpar->codec_id = AV_CODEC_ID_PCM_S16LE;
  s->codecpar->sample_rate = 8000;
  s->codecpar->ch_layout = (AVChannelLayout)AV_CHANNEL_LAYOUT_MONO;
  s->codecpar->bits_per_coded_sample = 16;
  s->codecpar->block_align = 2;
  s->time_base = (AVRational){1, 8000};
}

static inline AVCodecContext *make_encoder(const ClipMake *m, AVFormatContext *out, AVStream **out_stream) {
  const AVCodec *codec = avcodec_find_encoder_by_name(m->codec);
  if (!codec) abort();
  AVCodecContext *c = avcodec_alloc_context3(codec);
  c->width = m->width, c->height = m->height, c->pix_fmt = m->pixels;
  c->time_base = (AVRational){1, 100};
  c->framerate = (AVRational){10, 1};
  c->sample_aspect_ratio = m->shape;
  c->color_range = m->range, c->colorspace = m->space ? m->space : AVCOL_SPC_UNSPECIFIED;
  c->thread_count = 1;
  c->gop_size = 4;
  c->bit_rate = 2000000;
  if (out->oformat->flags & AVFMT_GLOBALHEADER) c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  AVDictionary *options = NULL;
  if (m->options) MAKE(av_dict_parse_string(&options, m->options, "=", ":", 0));
  MAKE(avcodec_open2(c, codec, &options));
  av_dict_free(&options);
  AVStream *s = *out_stream = avformat_new_stream(out, NULL);
  MAKE(avcodec_parameters_from_context(s->codecpar, c));
  s->time_base = c->time_base;
  s->sample_aspect_ratio = m->shape;
  if (m->matrix[0] || m->matrix[1]) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
    AVCodecParameters *to = s->codecpar;
    int32_t *matrix = (int32_t *)av_packet_side_data_new(&to->coded_side_data, &to->nb_coded_side_data,
                                                         AV_PKT_DATA_DISPLAYMATRIX, 9 * sizeof *matrix, 0)->data;
#else
    int32_t *matrix = (int32_t *)av_stream_new_side_data(s, AV_PKT_DATA_DISPLAYMATRIX, 9 * sizeof *matrix);
#endif
    memset(matrix, 0, 9 * sizeof *matrix);
    matrix[0] = m->matrix[0], matrix[1] = m->matrix[1], matrix[3] = m->matrix[2], matrix[4] = m->matrix[3];
    matrix[8] = 1 << 30;
  }
  return c;
}

/* The bytes of a file; buffer_done frees them. */
static inline Buffer make_clip(const ClipMake *m) {
  Buffer bytes = {0};
  AVFormatContext *out = NULL;
  AVStream *stream = NULL;
  AVCodecContext *c = NULL;
  char path[40], part[4096];
  int fd = memfd_create("clip", 0);
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  av_log_set_level(AV_LOG_FATAL);
  MAKE(avformat_alloc_output_context2(&out, NULL, m->format, NULL));
  out->flags |= AVFMT_FLAG_BITEXACT;
  if (m->with_sound_only)
    make_sound(out);
  else
    c = make_encoder(m, out, &stream);
  MAKE(avio_open(&out->pb, path, AVIO_FLAG_WRITE));
  MAKE(avformat_write_header(out, NULL));
  AVPacket *p = av_packet_alloc();
  for (int i = 0; c && i < m->frames; i++) {
    AVFrame *f = make_frame(m, i);
    MAKE(avcodec_send_frame(c, f));
    av_frame_free(&f);
    make_drain(out, c, stream, p);
  }
  if (c) {
    MAKE(avcodec_send_frame(c, NULL));
    make_drain(out, c, stream, p);
  } else {
    MAKE(av_new_packet(p, 1600));
    memset(p->data, 0, 1600);
    p->pts = p->dts = 0, p->duration = 800;
    MAKE(av_interleaved_write_frame(out, p));
  }
  MAKE(av_write_trailer(out));
  av_packet_free(&p);
  avcodec_free_context(&c);
  avio_closep(&out->pb);
  for (ssize_t n; (n = read(fd, part, sizeof part)) > 0;) buffer_append(&bytes, part, (size_t)n);
  close(fd);
  avformat_free_context(out);
  return bytes;
}

/* The same as WebP, without loss: animated, or still of one frame alone. */
static inline Buffer make_webp(const ClipMake *m) {
  Buffer bytes = {0};
  WebPData data = {0};
  WebPAnimEncoderOptions o;
  WebPConfig config;
  WebPAnimEncoderOptionsInit(&o);
  if (!WebPConfigInit(&config)) abort();
  config.lossless = 1, config.exact = 1;
  WebPAnimEncoder *e = WebPAnimEncoderNew(m->width, m->height, &o);
  for (int i = 0; i <= m->frames; i++) {
    WebPPicture picture;
    int stamp = m->stamps ? (int)m->stamps[i] * 10 : 100 * i; /* one more: when it ends */
    if (!WebPPictureInit(&picture)) abort();
    picture.width = m->width, picture.height = m->height, picture.use_argb = 1;
    uint8_t *rgba = make_rgba(m, i);
    if (!WebPPictureImportRGBA(&picture, rgba, 4 * m->width)) abort();
    if (!WebPAnimEncoderAdd(e, i < m->frames ? &picture : NULL, stamp, &config)) abort();
    WebPPictureFree(&picture);
    free(rgba);
  }
  if (!WebPAnimEncoderAssemble(e, &data)) abort();
  buffer_append(&bytes, data.bytes, data.size);
  WebPDataClear(&data);
  WebPAnimEncoderDelete(e);
  return bytes;
}

#endif
