/* See clip_encoder.h. */
#include "media/clip_encoder.h"

#include <string.h>

enum { IO_BYTES = 1 << 15 };

typedef struct Encoder {
  const EncoderWant *want;
  const Ffmpeg *ff;
  Buffer *out;
  size_t start, at; /* of the file and of the next write in `out` */
  AVIOContext *io;
  AVFormatContext *format;
  AVCodecContext *codec;
  AVStream *stream;
  AVFrame *frame;
  AVPacket *packet;
  bool is_begun; /* the muxer holds what only its trailer frees */
  FfmpegLog log;
} Encoder;

static bool fail(const Encoder *e, int code, Error *err) {
  return ffmpeg_fail(&e->log, e->want->name, "cannot be written", e->out->failed ? AVERROR(ENOMEM) : code, err);
}

/* ---- the file ---- */

#if LIBAVFORMAT_VERSION_MAJOR >= 61
static int write_bytes(void *ctx, const uint8_t *bytes, int n) {
#else
static int write_bytes(void *ctx, uint8_t *bytes, int n) {
#endif
  Encoder *e = ctx;
  Buffer *b = e->out;
  size_t size = (size_t)n, over = b->len - e->at < size ? b->len - e->at : size;
  if (over) memcpy(b->data + e->at, bytes, over);
  buffer_append(b, bytes + over, size - over);
  if (b->failed) return AVERROR(ENOMEM);
  e->at += size;
  return n;
}

/* Muxers return to what they have written, never beyond. */
static int64_t seek_bytes(void *ctx, int64_t offset, int whence) {
  Encoder *e = ctx;
  int64_t n = (int64_t)(e->out->len - e->start), at = (int64_t)(e->at - e->start);
  whence &= ~AVSEEK_FORCE;
  if (whence == AVSEEK_SIZE) return n;
  int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? at : n;
  if (offset < -from || offset > n - from) return AVERROR(EINVAL);
  e->at = e->start + (size_t)(from + offset);
  return from + offset;
}

static bool open_format(Encoder *e, Error *err) {
  const Ffmpeg *ff = e->ff;
  int code = ff->avformat_alloc_output_context2(&e->format, NULL, e->want->format, NULL);
  if (code < 0) return fail(e, code, err);
  uint8_t *room = ff->av_malloc(IO_BYTES);
  e->io = room ? ff->avio_alloc_context(room, IO_BYTES, 1, e, NULL, write_bytes, seek_bytes) : NULL;
  if (!e->io) ff->av_free(room);
  if (!e->io) return fail(e, AVERROR(ENOMEM), err);
  e->format->pb = e->io;
  e->format->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT;
  if (e->want->comment) code = ff->av_dict_set(&e->format->metadata, "comment", e->want->comment, 0);
  return code >= 0 || fail(e, code, err);
}

/* ---- the encoder ---- */

static const AVCodec *find_codec(const Encoder *e, const char **out_options) {
  const AVCodec *codec = NULL;
  for (int i = 0; !codec && i < e->want->n_codecs; i++) {
    codec = e->ff->avcodec_find_encoder_by_name(e->want->codecs[i].name);
    *out_options = e->want->codecs[i].options;
  }
  return codec;
}

static void set_codec(const Encoder *e, AVCodecContext *c) {
  const EncoderWant *w = e->want;
  c->width = w->width;
  c->height = w->height;
  c->pix_fmt = w->pixels;
  c->time_base = w->tick;
  c->framerate = (AVRational){w->tick.den, w->tick.num};
  c->thread_count = 1;
  c->flags |= AV_CODEC_FLAG_BITEXACT;
  if (e->format->oformat->flags & AVFMT_GLOBALHEADER) c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  if (w->pixels == AV_PIX_FMT_PAL8) return;
  c->color_range = AVCOL_RANGE_MPEG;
  c->colorspace = AVCOL_SPC_BT709;
  c->color_primaries = AVCOL_PRI_BT709;
  c->color_trc = AVCOL_TRC_BT709;
}

static bool open_codec(Encoder *e, Error *err) {
  const Ffmpeg *ff = e->ff;
  const char *text;
  AVDictionary *options = NULL;
  const AVCodec *codec = find_codec(e, &text);
  if (!codec)
    return error_set(err, ERROR_DEVICE, "%s cannot be written: FFmpeg has no encoder %s here", e->want->name,
                     e->want->codecs[0].name);
  e->codec = ff->avcodec_alloc_context3(codec);
  int code = e->codec ? ff->av_dict_parse_string(&options, text, "=", ":", 0) : AVERROR(ENOMEM);
  if (code >= 0) {
    set_codec(e, e->codec);
    code = ff->avcodec_open2(e->codec, codec, &options);
  }
  ff->av_dict_free(&options);
  return code >= 0 || fail(e, code, err);
}

static bool write_head(Encoder *e, Error *err) {
  const Ffmpeg *ff = e->ff;
  AVDictionary *options = NULL;
  e->stream = ff->avformat_new_stream(e->format, NULL);
  int code = e->stream ? ff->avcodec_parameters_from_context(e->stream->codecpar, e->codec) : AVERROR(ENOMEM);
  if (code >= 0) {
    e->stream->time_base = e->codec->time_base;
    e->stream->avg_frame_rate = e->codec->framerate;
    code = ff->av_dict_parse_string(&options, e->want->format_options, "=", ":", 0);
  }
  if (code >= 0) code = ff->avformat_write_header(e->format, &options);
  ff->av_dict_free(&options);
  e->is_begun = code >= 0;
  return e->is_begun || fail(e, code, err);
}

/* ---- frames ---- */

/* Passes on what the encoder has ready. */
static int drain(Encoder *e) {
  const Ffmpeg *ff = e->ff;
  int code;
  while ((code = ff->avcodec_receive_packet(e->codec, e->packet)) >= 0) {
    if (!e->packet->duration) e->packet->duration = 1;
    ff->av_packet_rescale_ts(e->packet, e->codec->time_base, e->stream->time_base);
    e->packet->stream_index = e->stream->index;
    code = ff->av_interleaved_write_frame(e->format, e->packet);
    if (code < 0) return code;
  }
  return code == AVERROR(EAGAIN) || code == AVERROR_EOF ? 0 : code;
}

/* Each in planes of its own: encoders keep some for later. */
static bool send_frame(Encoder *e, int i, Error *err) {
  const Ffmpeg *ff = e->ff;
  AVFrame *f = e->frame;
  ff->av_frame_unref(f);
  f->format = e->codec->pix_fmt;
  f->width = e->codec->width;
  f->height = e->codec->height;
  f->color_range = e->codec->color_range;
  f->colorspace = e->codec->colorspace;
  int code = ff->av_frame_get_buffer(f, 0);
  if (code < 0) return fail(e, code, err);
  if (!e->want->draw(e->want->ctx, ff, i, f, err)) return false;
  code = ff->avcodec_send_frame(e->codec, f);
  if (code >= 0) code = drain(e);
  return code >= 0 || fail(e, code, err);
}

static bool write_tail(Encoder *e, Error *err) {
  int code = e->ff->avcodec_send_frame(e->codec, NULL);
  if (code >= 0) code = drain(e);
  if (code >= 0) {
    e->is_begun = false;
    code = e->ff->av_write_trailer(e->format);
  }
  return (code >= 0 && !e->out->failed) || fail(e, code, err);
}

static bool run(Encoder *e, Error *err) {
  e->frame = e->ff->av_frame_alloc();
  e->packet = e->ff->av_packet_alloc();
  if (!e->frame || !e->packet) return fail(e, AVERROR(ENOMEM), err);
  bool ok = open_format(e, err) && open_codec(e, err) && write_head(e, err);
  for (int i = 0; ok && i < e->want->frames; i++) ok = send_frame(e, i, err);
  return ok && write_tail(e, err);
}

bool encoder_run(const EncoderWant *want, Buffer *out, Error *err) {
  Encoder e = {.want = want, .ff = ffmpeg_load(err), .out = out, .start = out->len, .at = out->len};
  const Ffmpeg *ff = e.ff;
  if (!ff) return error_prefix(err, "%s", want->name);
  ffmpeg_listen(&e.log);
  bool ok = run(&e, err);
  if (e.is_begun) ff->av_write_trailer(e.format);
  ffmpeg_listen(NULL);
  ff->av_frame_free(&e.frame);
  ff->av_packet_free(&e.packet);
  ff->avcodec_free_context(&e.codec);
  ff->avformat_free_context(e.format);
  if (e.io) ff->av_freep(&e.io->buffer);
  ff->avio_context_free(&e.io);
  return ok;
}
