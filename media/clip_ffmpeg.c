/* Clips by FFmpeg's libraries: one decoder in one thread, the file from memory.
 *
 * Decoders are told to fail rather than to conceal.  Some report damage by a message alone, and so does a demuxer
 * where a file ends early: an error message of either fails the clip. */
#include <string.h>

#include "media/clip_internal.h"
#include "media/ffmpeg.h"
#include "media/image_internal.h"

/* Formats that hold all they need in one file. */
static const char formats[] = "gif,mov,mp4,matroska,webm,avi,ogg,mpeg,mpegts,flv";

enum {
  IO_BYTES = 1 << 15,
  MAX_FRUITLESS = 1 << 14, /* packets in a row that give no frame */
};

enum { OF_FORMAT, OF_DECODER }; /* whom the log watches */

typedef struct FfmpegSource {
  ClipSource base;
  const Ffmpeg *ff;
  const uint8_t *bytes;
  int64_t n, at; /* what avio reads */
  AVIOContext *io;
  AVFormatContext *format;
  AVStream *stream;
  AVCodecContext *decoder;
  AVPacket *packet;
  struct SwsContext *sws; /* of the last picture */
  AVFrame *now, *ahead;   /* `ahead` tells when `now` ends */
  bool has_ahead, is_drained;
  uint64_t sent;                        /* pixels of all packets, whether they give frames or not */
  int64_t first, from, ahead_from, gap; /* stamps in ticks; the gap before ahead_from */
  int orientation;                      /* of EXIF */
  FfmpegLog log;
} FfmpegSource;

/* ---- failures ---- */

static bool fail(const FfmpegSource *s, const char *what, int code, Error *err) {
  return ffmpeg_fail(&s->log, s->base.where, what, code, err);
}

/* ---- the file ---- */

static int read_bytes(void *ctx, uint8_t *out, int room) {
  FfmpegSource *s = ctx;
  int64_t n = s->n - s->at < room ? s->n - s->at : room;
  if (n <= 0) return AVERROR_EOF;
  memcpy(out, s->bytes + s->at, (size_t)n);
  s->at += n;
  return (int)n;
}

/* There is nothing beyond the end, and a file that refers to it is cut short. */
static int64_t seek_bytes(void *ctx, int64_t offset, int whence) {
  FfmpegSource *s = ctx;
  whence &= ~AVSEEK_FORCE;
  if (whence == AVSEEK_SIZE) return s->n;
  int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? s->at : s->n;
  if (offset < -from || offset > s->n - from) return AVERROR(EINVAL);
  return s->at = from + offset;
}

static int open_no_other(AVFormatContext *format, AVIOContext **out, const char *url, int flags,
                         AVDictionary **options) {
  return AVERROR(EPERM);
}

static bool open_format(FfmpegSource *s, Error *err) {
  const Ffmpeg *ff = s->ff;
  uint8_t *room = ff->av_malloc(IO_BYTES);
  s->io = room ? ff->avio_alloc_context(room, IO_BYTES, 0, s, read_bytes, NULL, seek_bytes) : NULL;
  if (!s->io) ff->av_free(room);
  AVFormatContext *f = s->io ? ff->avformat_alloc_context() : NULL;
  if (!f) return fail(s, "", AVERROR(ENOMEM), err);
  s->log.watched[OF_FORMAT] = f;
  f->pb = s->io;
  f->flags |= AVFMT_FLAG_CUSTOM_IO;
  f->io_open = open_no_other;
  f->format_whitelist = ff->av_strdup(formats);
  f->protocol_whitelist = ff->av_strdup("none");
  int code =
      f->format_whitelist && f->protocol_whitelist ? ff->avformat_open_input(&f, NULL, NULL, NULL) : AVERROR(ENOMEM);
  if (code < 0) {
    ff->avformat_close_input(&f);
    return fail(s, "not a clip that is read (GIF, MP4, WebM, AVI, Ogg, MPEG, WebP), or damaged", code, err);
  }
  s->format = f;
  code = ff->avformat_find_stream_info(f, NULL);
  return code >= 0 || fail(s, "damaged", code, err);
}

/* ---- the stream ---- */

static const int32_t *display_matrix(const FfmpegSource *s) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
  const AVCodecParameters *p = s->stream->codecpar;
  const AVPacketSideData *d =
      s->ff->av_packet_side_data_get(p->coded_side_data, p->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  return d && d->size >= 9 * sizeof(int32_t) ? (const int32_t *)d->data : NULL;
#else
  size_t n = 0;
  const uint8_t *data = s->ff->av_stream_get_side_data(s->stream, AV_PKT_DATA_DISPLAYMATRIX, &n);
  return data && n >= 9 * sizeof(int32_t) ? (const int32_t *)data : NULL;
#endif
}

/* (x, y) is shown at (a x + c y, b x + d y), of the matrix a b . c d in 16.16; as an orientation of EXIF. */
static bool find_orientation(FfmpegSource *s, Error *err) {
  static const int8_t turns[8][4] = {{1, 0, 0, 1}, {-1, 0, 0, 1}, {-1, 0, 0, -1}, {1, 0, 0, -1},
                                     {0, 1, 1, 0}, {0, 1, -1, 0}, {0, -1, -1, 0}, {0, -1, 1, 0}};
  const int32_t *m = display_matrix(s);
  s->orientation = 1;
  if (!m) return true;
  for (int i = 0; i < 8; i++) {
    const int8_t *t = turns[i];
    if (m[0] == t[0] * 65536 && m[1] == t[1] * 65536 && m[3] == t[2] * 65536 && m[4] == t[3] * 65536)
      return s->orientation = i + 1, true;
  }
  return error_set(err, ERROR_FORMAT, "%s: shown turned or skewed by other than right angles, which is not read",
                   s->base.where);
}

static bool find_stream(FfmpegSource *s, Error *err) {
  unsigned others = 0;
  for (unsigned i = 0; i < s->format->nb_streams; i++) {
    AVStream *t = s->format->streams[i];
    bool is_video = t->codecpar->codec_type == AVMEDIA_TYPE_VIDEO && !(t->disposition & AV_DISPOSITION_ATTACHED_PIC);
    if (is_video && !s->stream)
      s->stream = t;
    else
      t->discard = AVDISCARD_ALL, others++;
  }
  if (!s->stream) return error_set(err, ERROR_FORMAT, "%s: holds no video (%u other streams)", s->base.where, others);
  AVRational tick = s->stream->time_base;
  if (tick.num <= 0 || tick.den <= 0)
    return error_set(err, ERROR_FORMAT, "%s: damaged: its clock stands still", s->base.where);
  s->base.tick_num = tick.num;
  s->base.tick_den = tick.den;
  return find_orientation(s, err);
}

static bool open_decoder(FfmpegSource *s, Error *err) {
  const Ffmpeg *ff = s->ff;
  const AVCodecParameters *p = s->stream->codecpar;
  const AVCodec *codec = ff->avcodec_find_decoder(p->codec_id);
  if (!codec)
    return error_set(err, ERROR_FORMAT, "%s: no decoder for %s", s->base.where, ff->avcodec_get_name(p->codec_id));
  if ((p->width || p->height) && !clip_check_size(s->base.where, (uint64_t)p->width, (uint64_t)p->height, err))
    return false;
  AVCodecContext *d = s->decoder = ff->avcodec_alloc_context3(codec);
  int code = d ? ff->avcodec_parameters_to_context(d, p) : AVERROR(ENOMEM);
  s->log.watched[OF_DECODER] = d;
  if (code >= 0) {
    d->thread_count = 1;
    d->flags |= AV_CODEC_FLAG_BITEXACT;
    d->err_recognition = AV_EF_CRCCHECK | AV_EF_EXPLODE;
    d->error_concealment = 0;
    d->max_pixels = CLIP_MAX_FRAME;
    d->pkt_timebase = s->stream->time_base;
    code = ff->avcodec_open2(d, codec, NULL);
  }
  return code >= 0 || fail(s, "its decoder cannot be opened", code, err);
}

/* ---- decoding ---- */

/* What one of them said, at any time, becomes the reason. */
static bool complained(FfmpegSource *s, int who) {
  if (!*s->log.complaint[who]) return false;
  memcpy(s->log.text, s->log.complaint[who], sizeof s->log.text);
  return true;
}

/* Passes the next packet on, or that there is no more. */
static bool feed(FfmpegSource *s, Error *err) {
  const Ffmpeg *ff = s->ff;
  for (int others = 0;; others++) {
    int code = ff->av_read_frame(s->format, s->packet);
    if (code < 0 && (code != AVERROR_EOF || complained(s, OF_FORMAT)))
      return fail(s, "damaged or cut short", code, err);
    if (code < 0) {
      s->is_drained = true;
      code = ff->avcodec_send_packet(s->decoder, NULL);
      return code >= 0 || fail(s, "damaged", code, err);
    }
    bool ours = s->packet->stream_index == s->stream->index, is_cut = ours && s->packet->flags & AV_PKT_FLAG_CORRUPT;
    if (is_cut) code = AVERROR_INVALIDDATA;
    if (ours && !is_cut) code = ff->avcodec_send_packet(s->decoder, s->packet);
    ff->av_packet_unref(s->packet);
    if (code < 0) return fail(s, is_cut ? "cut short" : "a damaged frame", code, err);
    if (ours) s->sent += (uint64_t)s->decoder->width * (uint64_t)s->decoder->height;
    if (ours) return clip_check_pixels(s->base.where, s->sent, err);
    if (others == MAX_FRUITLESS)
      return error_set(err, ERROR_LIMIT, "%s: %d packets without video", s->base.where, others);
  }
}

static bool check_frame(FfmpegSource *s, const AVFrame *f, Error *err) {
  if (f->flags & AV_FRAME_FLAG_CORRUPT || f->decode_error_flags || complained(s, OF_DECODER))
    return fail(s, "a damaged frame", 0, err);
  return clip_check_size(s->base.where, (uint64_t)f->width, (uint64_t)f->height, err);
}

/* False at the end with ERROR_NONE. */
static bool decode(FfmpegSource *s, AVFrame *out, Error *err) {
  err->code = ERROR_NONE;
  for (int fruitless = 0; fruitless < MAX_FRUITLESS; fruitless++) {
    int code = s->ff->avcodec_receive_frame(s->decoder, out);
    if (code >= 0) return check_frame(s, out, err);
    if (code == AVERROR_EOF || (code == AVERROR(EAGAIN) && s->is_drained))
      return complained(s, OF_DECODER) && fail(s, "damaged", 0, err);
    if (code != AVERROR(EAGAIN)) return fail(s, "a damaged frame", code, err);
    if (!feed(s, err)) return false;
  }
  return error_set(err, ERROR_LIMIT, "%s: %d packets give no frame", s->base.where, MAX_FRUITLESS);
}

static int64_t duration_of(const AVFrame *f) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 30, 100)
  return f->duration;
#else
  return f->pkt_duration;
#endif
}

/* Where nothing says how long a frame lasts: the gap before it, the mean rate, a tick. */
static int64_t lasts(const FfmpegSource *s, const AVFrame *f) {
  AVRational rate = s->stream->avg_frame_rate;
  int64_t per = (int64_t)rate.num * s->base.tick_num;
  if (duration_of(f) > 0) return duration_of(f);
  if (s->gap > 0) return s->gap;
  return per > 0 && rate.den > 0 ? ((int64_t)rate.den * s->base.tick_den + per - 1) / per : 1;
}

/* Decodes the frame after `now`, and says when it begins: never before the one before it. */
static bool look_ahead(FfmpegSource *s, Error *err) {
  const int64_t most = (int64_t)1 << 60;
  bool is_first = !s->now->buf[0];
  if (!(s->has_ahead = decode(s, s->ahead, err))) return err->code == ERROR_NONE;
  int64_t stamp = s->ahead->best_effort_timestamp;
  if (stamp != AV_NOPTS_VALUE && (stamp > most || stamp < -most))
    return error_set(err, ERROR_FORMAT, "%s: a frame at a time out of all bounds", s->base.where);
  if (is_first) s->first = stamp == AV_NOPTS_VALUE ? 0 : stamp;
  int64_t after = is_first ? 0 : s->from + lasts(s, s->now);
  s->ahead_from = stamp == AV_NOPTS_VALUE ? after : stamp - s->first;
  if (s->ahead_from < s->from) s->ahead_from = s->from;
  s->gap = s->ahead_from - s->from;
  return true;
}

static bool ffmpeg_next(ClipSource *base, ClipSpan *out, Error *err) {
  FfmpegSource *s = (FfmpegSource *)base;
  ffmpeg_listen(&s->log);
  if (!s->now->buf[0] && !look_ahead(s, err)) return false;
  if (!s->has_ahead) return !s->now->buf[0] && error_set(err, ERROR_FORMAT, "%s: holds no frame", base->where);
  s->ff->av_frame_unref(s->now);
  s->ff->av_frame_move_ref(s->now, s->ahead);
  s->from = s->ahead_from;
  base->pixels = (uint64_t)s->now->width * (uint64_t)s->now->height;
  if (!look_ahead(s, err)) return false;
  out->from = s->from;
  out->is_last = !s->has_ahead;
  out->to = out->is_last ? s->from + lasts(s, s->now) : s->ahead_from;
  return true;
}

/* ---- pictures ---- */

/* What the numbers of a frame mean; 0: another matrix than swscale has. */
static int matrix_of(const AVFrame *f) {
  switch (f->colorspace) {
  case AVCOL_SPC_RGB:
  case AVCOL_SPC_UNSPECIFIED:
  case AVCOL_SPC_RESERVED:
    return f->width >= 1280 || f->height > 576 ? SWS_CS_ITU709 : SWS_CS_ITU601;
  case AVCOL_SPC_BT709:
  case AVCOL_SPC_FCC:
  case AVCOL_SPC_BT470BG:
  case AVCOL_SPC_SMPTE170M:
  case AVCOL_SPC_SMPTE240M:
  case AVCOL_SPC_BT2020_NCL:
    return f->colorspace;
  default:
    return 0;
  }
}

static bool has_full_range(const AVFrame *f, const AVPixFmtDescriptor *d) {
  if (f->color_range != AVCOL_RANGE_UNSPECIFIED) return f->color_range == AVCOL_RANGE_JPEG;
  return d->nb_components < 3 || strncmp(d->name, "yuvj", 4) == 0;
}

/* All of a frame as RGBA in `plane`, rows of `stride` bytes. */
static bool convert(FfmpegSource *s, uint8_t *plane[4], int stride[4], Error *err) {
  const Ffmpeg *ff = s->ff;
  const AVFrame *f = s->now;
  const AVPixFmtDescriptor *d = ff->av_pix_fmt_desc_get(f->format);
  int matrix = matrix_of(f);
  if (!d || d->flags & AV_PIX_FMT_FLAG_HWACCEL || !matrix)
    return error_set(err, ERROR_FORMAT, "%s: pixels of %s with matrix %d are not read", s->base.where,
                     d ? d->name : "an unknown kind", f->colorspace);
  struct SwsContext *sws = s->sws =
      ff->sws_getCachedContext(s->sws, f->width, f->height, f->format, f->width, f->height, AV_PIX_FMT_RGBA,
                               SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT, NULL, NULL, NULL);
  if (!sws) return fail(s, "its pixels cannot be converted", 0, err);
  ff->sws_setColorspaceDetails(sws, ff->sws_getCoefficients(matrix), has_full_range(f, d),
                               ff->sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
  int rows = ff->sws_scale(sws, (const uint8_t *const *)f->data, f->linesize, 0, f->height, plane, stride);
  return rows == f->height || fail(s, "its pixels cannot be converted", 0, err);
}

/* The width that makes pixels square. */
static bool make_square(const FfmpegSource *s, Image *im, Error *err) {
  AVRational shape = s->ff->av_guess_sample_aspect_ratio(s->format, s->stream, s->now);
  if (shape.num <= 0 || shape.den <= 0 || shape.num == shape.den) return true;
  int64_t width = ((int64_t)im->width * shape.num + shape.den / 2) / shape.den;
  if (width < 1) width = 1;
  if (!image_check_size(s->base.where, (uint64_t)width, (uint64_t)im->height, err)) return false;
  Image wide;
  if (!image_resize(im, (int)width, im->height, &wide, err)) return false;
  image_done(im);
  *im = wide;
  return true;
}

static bool ffmpeg_picture(ClipSource *base, Image *out, Error *err) {
  enum { ALIGNMENT = 64 }; /* swscale writes whole vectors */
  FfmpegSource *s = (FfmpegSource *)base;
  const AVFrame *f = s->now;
  uint8_t *plane[4] = {0};
  int stride[4] = {0};
  Image im = {0};
  ffmpeg_listen(&s->log);
  int code = s->ff->av_image_alloc(plane, stride, f->width, f->height, AV_PIX_FMT_RGBA, ALIGNMENT);
  if (code < 0) return fail(s, "its pixels cannot be converted", code, err);
  bool ok =
      convert(s, plane, stride, err) && image_from_rgba(plane[0], (size_t)stride[0], f->width, f->height, &im, err);
  s->ff->av_freep(&plane[0]);
  ok = ok && make_square(s, &im, err) && image_turn(&im, s->orientation, err);
  if (ok)
    *out = im;
  else
    image_done(&im);
  return ok;
}

/* ---- opening ---- */

/* Does a GIF reach its trailer?  The decoder leaves what is missing of a picture as it was, without a word. */
static bool is_whole_gif(const uint8_t *p, size_t n) {
  size_t at = clip_gif_next(p, n, 0);
  while (at < n && p[at] != ';') at = clip_gif_next(p, n, at);
  return at < n;
}

static void ffmpeg_close(ClipSource *base) {
  FfmpegSource *s = (FfmpegSource *)base;
  const Ffmpeg *ff = s->ff;
  ffmpeg_listen(NULL);
  ff->av_frame_free(&s->now);
  ff->av_frame_free(&s->ahead);
  ff->av_packet_free(&s->packet);
  ff->sws_freeContext(s->sws);
  ff->avcodec_free_context(&s->decoder);
  ff->avformat_close_input(&s->format);
  if (s->io) ff->av_freep(&s->io->buffer);
  ff->avio_context_free(&s->io);
  mem_free(s);
}

static const ClipKind kind = {ffmpeg_next, ffmpeg_picture, ffmpeg_close};

static bool open_source(FfmpegSource *s, Error *err) {
  const Ffmpeg *ff = s->ff;
  ffmpeg_listen(&s->log);
  if (s->n >= 4 && !memcmp(s->bytes, "GIF8", 4) && !is_whole_gif(s->bytes, (size_t)s->n))
    return error_set(err, ERROR_FORMAT, "%s: a GIF that is cut short or damaged", s->base.where);
  s->packet = ff->av_packet_alloc();
  s->now = ff->av_frame_alloc();
  s->ahead = ff->av_frame_alloc();
  if (!s->packet || !s->now || !s->ahead) return fail(s, "", AVERROR(ENOMEM), err);
  return open_format(s, err) && find_stream(s, err) && open_decoder(s, err);
}

ClipSource *clip_open_ffmpeg(const void *bytes, size_t n, const char *where, Error *err) {
  const Ffmpeg *ff = ffmpeg_load(err);
  FfmpegSource *s = ff ? mem_alloc(sizeof *s) : NULL;
  if (!s) {
    if (ff)
      error_set(err, ERROR_MEMORY, "%s: out of memory", where);
    else
      error_prefix(err, "%s", where);
    return NULL;
  }
  s->base = (ClipSource){.kind = &kind, .where = where};
  s->ff = ff;
  s->bytes = bytes;
  s->n = (int64_t)n;
  if (open_source(s, err)) return &s->base;
  ffmpeg_close(&s->base);
  return NULL;
}
