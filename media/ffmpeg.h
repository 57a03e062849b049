/* FFmpeg's libraries, loaded at the first use (library.h): the functions used, once, in a table; their types are
 * those of the headers. */
#ifndef NUWA_FFMPEG_H
#define NUWA_FFMPEG_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

#include "runtime/base/error.h"

/* F(library, function) */
#define FFMPEG_FUNCTIONS(F)                                                                                          \
  F(avutil, av_dict_free)                                                                                            \
  F(avutil, av_dict_parse_string)                                                                                    \
  F(avutil, av_dict_set)                                                                                             \
  F(avutil, av_frame_alloc)                                                                                          \
  F(avutil, av_frame_free)                                                                                           \
  F(avutil, av_frame_get_buffer)                                                                                     \
  F(avutil, av_frame_move_ref)                                                                                       \
  F(avutil, av_frame_unref)                                                                                          \
  F(avutil, av_free)                                                                                                 \
  F(avutil, av_freep)                                                                                                \
  F(avutil, av_image_alloc)                                                                                          \
  F(avutil, av_log_set_callback)                                                                                     \
  F(avutil, av_malloc)                                                                                               \
  F(avutil, av_max_alloc)                                                                                            \
  F(avutil, av_pix_fmt_desc_get)                                                                                     \
  F(avutil, av_strdup)                                                                                               \
  F(avutil, av_strerror)                                                                                             \
  F(avcodec, avcodec_version)                                                                                        \
  F(avcodec, av_packet_alloc)                                                                                        \
  F(avcodec, av_packet_free)                                                                                         \
  F(avcodec, av_packet_rescale_ts)                                                                                   \
  F(avcodec, av_packet_unref)                                                                                        \
  F(avcodec, avcodec_alloc_context3)                                                                                 \
  F(avcodec, avcodec_find_decoder)                                                                                   \
  F(avcodec, avcodec_find_encoder_by_name)                                                                           \
  F(avcodec, avcodec_free_context)                                                                                   \
  F(avcodec, avcodec_get_name)                                                                                       \
  F(avcodec, avcodec_open2)                                                                                          \
  F(avcodec, avcodec_parameters_from_context)                                                                        \
  F(avcodec, avcodec_parameters_to_context)                                                                          \
  F(avcodec, avcodec_receive_frame)                                                                                  \
  F(avcodec, avcodec_receive_packet)                                                                                 \
  F(avcodec, avcodec_send_frame)                                                                                     \
  F(avcodec, avcodec_send_packet)                                                                                    \
  F(avformat, av_guess_sample_aspect_ratio)                                                                          \
  F(avformat, av_interleaved_write_frame)                                                                            \
  F(avformat, av_read_frame)                                                                                         \
  F(avformat, av_write_trailer)                                                                                      \
  F(avformat, avformat_alloc_context)                                                                                \
  F(avformat, avformat_alloc_output_context2)                                                                        \
  F(avformat, avformat_close_input)                                                                                  \
  F(avformat, avformat_find_stream_info)                                                                             \
  F(avformat, avformat_free_context)                                                                                 \
  F(avformat, avformat_new_stream)                                                                                   \
  F(avformat, avformat_open_input)                                                                                   \
  F(avformat, avformat_write_header)                                                                                 \
  F(avformat, avio_alloc_context)                                                                                    \
  F(avformat, avio_context_free)                                                                                     \
  F(swscale, sws_freeContext)                                                                                        \
  F(swscale, sws_getCachedContext)                                                                                   \
  F(swscale, sws_getCoefficients)                                                                                    \
  F(swscale, sws_scale)                                                                                              \
  F(swscale, sws_setColorspaceDetails)

typedef struct Ffmpeg {
#define FIELD(library, name) __typeof__(name) *name;
  FFMPEG_FUNCTIONS(FIELD)
#undef FIELD
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
  __typeof__(av_packet_side_data_get) *av_packet_side_data_get;
#else
  __typeof__(av_stream_get_side_data) *av_stream_get_side_data;
#endif
} Ffmpeg;

/* The table, loaded by the first caller for all; NULL with err set where a library is missing. */
const Ffmpeg *ffmpeg_load(Error *err);

/* What the libraries say of one clip.  Nothing of it is printed. */
typedef struct FfmpegLog {
  char text[160];         /* the first error since it was emptied: the reason why something failed */
  const void *watched[2]; /* contexts, and the first error that each has ever reported */
  char complaint[2][160];
} FfmpegLog;

/* Sets err to "where: what: why", or to a lack of memory; `code` is FFmpeg's, 0: none.  Returns false. */
bool ffmpeg_fail(const FfmpegLog *log, const char *where, const char *what, int code, Error *err);

/* What is said in this thread goes to `log` from now on; NULL: nowhere. */
void ffmpeg_listen(FfmpegLog *log);

#endif
