/* Encoding by FFmpeg's libraries: one encoder in one thread, the file into memory. */
#ifndef NUWA_CLIP_ENCODER_H
#define NUWA_CLIP_ENCODER_H

#include "media/ffmpeg.h"
#include "runtime/base/memory.h"

/* An encoder by name, with its options, "a=b:c=d". */
typedef struct EncoderCodec {
  const char *name, *options;
} EncoderCodec;

typedef struct EncoderWant {
  const char *name, *format;  /* what errors call it; the muxer */
  const char *format_options; /* "a=b:c=d" or "" */
  const EncoderCodec *codecs; /* the first of them that there is, of n_codecs */
  int n_codecs;
  enum AVPixelFormat pixels; /* YUV is BT.709 of limited range */
  int width, height, frames;
  AVRational tick;     /* seconds of a time stamp */
  const char *comment; /* NULL: none */
  /* Draws frame i and sets its pts; the planes are there.  False with err set. */
  bool (*draw)(void *ctx, const Ffmpeg *ff, int i, AVFrame *out, Error *err);
  void *ctx;
} EncoderWant;

/* The bytes of the file appended to `out`, the same for the same frames: it names no version and no time. */
bool encoder_run(const EncoderWant *want, Buffer *out, Error *err);

#endif
