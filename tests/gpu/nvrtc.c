/* NVRTC by dlopen. */
#include "tests/gpu/nvrtc.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every function used, once: its name and its arguments. */
#define NVRTC_FUNCTIONS(F)                                                                             \
  F(nvrtcVersion, (int *major, int *minor))                                                            \
  F(nvrtcCreateProgram, (void **program, const char *source, const char *name, int headers,            \
                         const char *const *header, const char *const *include))                       \
  F(nvrtcDestroyProgram, (void **program))                                                             \
  F(nvrtcCompileProgram, (void *program, int n, const char *const *option))                            \
  F(nvrtcGetProgramLogSize, (void *program, size_t *bytes))                                            \
  F(nvrtcGetProgramLog, (void *program, char *log))                                                    \
  F(nvrtcGetPTXSize, (void *program, size_t *bytes))                                                   \
  F(nvrtcGetPTX, (void *program, char *ptx))                                                           \
  F(nvrtcGetCUBINSize, (void *program, size_t *bytes))                                                 \
  F(nvrtcGetCUBIN, (void *program, char *cubin))

struct Nvrtc {
  void *library;
#define FIELD(name, arguments) int(*name) arguments;
  NVRTC_FUNCTIONS(FIELD)
#undef FIELD
};

static bool load_symbols(Nvrtc *n) {
  bool all = true;
  /* POSIX gives functions as void *; the copy keeps the conversion out of the language's way. */
#define LOAD(name, arguments)                                                                          \
  do {                                                                                                 \
    void *p = dlsym(n->library, #name);                                                                \
    memcpy(&n->name, &p, sizeof p);                                                                    \
    all = all && p;                                                                                    \
  } while (0);
  NVRTC_FUNCTIONS(LOAD)
#undef LOAD
  return all;
}

Nvrtc *nvrtc_open(const char *path) {
  static const char *const usual[] = {"libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12",
                                      "/usr/local/cuda/lib64/libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so.13",
                                      "/usr/local/cuda/lib64/libnvrtc.so.12"};
  Nvrtc *n = calloc(1, sizeof *n);
  if (!n) return NULL;
  if (path) n->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  for (size_t k = 0; !path && !n->library && k < sizeof usual / sizeof *usual; k++)
    n->library = dlopen(usual[k], RTLD_NOW | RTLD_LOCAL);
  if (n->library && load_symbols(n)) return n;
  nvrtc_close(n);
  return NULL;
}

/* The library stays loaded: NVRTC keeps threads and exit handlers of its own. */
void nvrtc_close(Nvrtc *n) { free(n); }

void nvrtc_version(const Nvrtc *n, int *out_major, int *out_minor) { n->nvrtcVersion(out_major, out_minor); }

static void fetch_log(const Nvrtc *n, void *program, NvrtcResult *out) {
  size_t bytes = 0;
  if (n->nvrtcGetProgramLogSize(program, &bytes)) bytes = 0;
  out->log = calloc(1, bytes + 1);
  if (out->log && bytes) n->nvrtcGetProgramLog(program, out->log);
}

static void fetch_image(const Nvrtc *n, void *program, bool ptx, NvrtcResult *out) {
  int code = ptx ? n->nvrtcGetPTXSize(program, &out->bytes) : n->nvrtcGetCUBINSize(program, &out->bytes);
  if (code || !out->bytes) return;
  out->image = malloc(out->bytes);
  if (!out->image) return;
  code = ptx ? n->nvrtcGetPTX(program, out->image) : n->nvrtcGetCUBIN(program, out->image);
  if (!code) return;
  free(out->image);
  out->image = NULL;
}

bool nvrtc_compile(const Nvrtc *n, const char *source, const char *arch, const char *const *options, int n_options,
                   NvrtcResult *out) {
  enum { OWN = 3, MOST = 32 };
  const char *all[MOST];
  char arch_option[64];
  void *program = NULL;
  *out = (NvrtcResult){0};
  if (n_options > MOST - OWN) n_options = MOST - OWN;
  snprintf(arch_option, sizeof arch_option, "--gpu-architecture=%s", arch);
  all[0] = arch_option;
  all[1] = "--fmad=false";
  all[2] = "-default-device";
  for (int k = 0; k < n_options; k++) all[OWN + k] = options[k];
  if (n->nvrtcCreateProgram(&program, source, "kernel.cu", 0, NULL, NULL) == 0) {
    int code = n->nvrtcCompileProgram(program, OWN + n_options, all);
    fetch_log(n, program, out);
    if (code == 0) fetch_image(n, program, strncmp(arch, "compute", 7) == 0, out);
    n->nvrtcDestroyProgram(&program);
  }
  if (!out->log) out->log = calloc(1, 1);
  return out->image != NULL;
}

void nvrtc_result_done(NvrtcResult *r) {
  free(r->image);
  free(r->log);
  *r = (NvrtcResult){0};
}
