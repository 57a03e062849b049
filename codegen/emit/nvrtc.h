/* NVRTC by dlopen: CUDA C to PTX or machine code.  No toolkit header is needed, nothing is linked. */
#ifndef NUWA_NVRTC_H
#define NUWA_NVRTC_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/memory.h"

typedef struct Nvrtc Nvrtc;

/* Loads the library at `path`; with NULL searches the loader's path and /usr/local/cuda.  NULL when there is none or
 * it lacks a function, which the error names. */
Nvrtc *nvrtc_open(const char *path, Error *err);
void nvrtc_close(Nvrtc *n);   /* NULL is fine */
void nvrtc_version(const Nvrtc *n, int *out_major, int *out_minor);

typedef struct NvrtcResult {
  char *image;                  /* PTX text, or a cubin when arch is "sm_NN"; NULL when it did not compile */
  size_t bytes;                 /* PTX: with its final NUL */
  char *log;                    /* the compiler's words; NULL only when memory is short */
} NvrtcResult;

/* Appends what beside the source shapes what nvrtc_compile makes of it: the library's exact build, all options. */
void nvrtc_key(const Nvrtc *n, const char *arch, const char *const *options, int n_options, Buffer *out);
/* arch: "compute_80" or "sm_80".  --fmad=false and -default-device are always given.  Any number of threads may
 * compile at once.  Free with nvrtc_result_done. */
bool nvrtc_compile(const Nvrtc *n, const char *source, const char *arch, const char *const *options, int n_options,
                   NvrtcResult *out);
void nvrtc_result_done(NvrtcResult *r);

#endif
