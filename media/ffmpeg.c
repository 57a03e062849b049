/* See ffmpeg.h. */
#include "media/ffmpeg.h"

#include <pthread.h>
#include <string.h>

#include "media/library.h"

#define NAME_OF(library, major) "lib" library ".so." AV_STRINGIFY(major)
static const char avutil_name[] = NAME_OF("avutil", LIBAVUTIL_VERSION_MAJOR);
static const char avcodec_name[] = NAME_OF("avcodec", LIBAVCODEC_VERSION_MAJOR);
static const char avformat_name[] = NAME_OF("avformat", LIBAVFORMAT_VERSION_MAJOR);
static const char swscale_name[] = NAME_OF("swscale", LIBSWSCALE_VERSION_MAJOR);

/* The largest piece of memory that a file can make FFmpeg ask for: a plane of IMAGE_MAX_PIXELS of 8 bytes, and some.
 */
enum { MAX_ALLOC = (512 << 20) + (1 << 16) };

static Ffmpeg table;
static char missing[LIBRARY_WHY_BYTES]; /* why it could not be loaded */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local FfmpegLog *sink;

void ffmpeg_listen(FfmpegLog *log) {
  sink = log;
  if (log) *log->text = 0;
}

static void take_message(void *origin, int level, const char *fmt, va_list args) {
  char text[160];
  if (level > AV_LOG_ERROR || !sink) return;
  vsnprintf(text, sizeof text, fmt, args);
  text[strcspn(text, "\n")] = 0;
  if (!*sink->text) strcpy(sink->text, text);
  for (int i = 0; i < 2; i++)
    if (origin && origin == sink->watched[i] && !*sink->complaint[i]) strcpy(sink->complaint[i], text);
}

static void load(void) {
#define LOAD(library, name) &&library_find(library##_name, #name, &table.name, missing)
  bool ok = true FFMPEG_FUNCTIONS(LOAD);
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
  ok = ok LOAD(avcodec, av_packet_side_data_get);
#else
  ok = ok LOAD(avformat, av_stream_get_side_data);
#endif
#undef LOAD
  if (!ok) return;
  table.av_log_set_callback(take_message);
  table.av_max_alloc(MAX_ALLOC);
}

const Ffmpeg *ffmpeg_load(Error *err) {
  pthread_once(&once, load);
  if (!*missing) return &table;
  error_set(err, ERROR_DEVICE, "FFmpeg's libraries, which read and write clips, cannot be loaded: %s", missing);
  return NULL;
}

bool ffmpeg_fail(const FfmpegLog *log, const char *where, const char *what, int code, Error *err) {
  char text[AV_ERROR_MAX_STRING_SIZE] = "";
  const char *why = log->text;
  if (code == AVERROR(ENOMEM)) return error_set(err, ERROR_MEMORY, "%s: out of memory", where);
  if (!*why && code) table.av_strerror(code, text, sizeof text);
  return error_set(err, ERROR_FORMAT, "%s: %s: %s", where, what,
                   *why    ? why
                   : *text ? text
                           : "no reason given");
}
