/* NVRTC from a table of its functions.  The library stays loaded: it keeps threads and exit handlers of its own. */
#include "codegen/emit/nvrtc.h"

#include <dlfcn.h>
#include <string.h>

#include "codegen/emit/build_id.h"

/* Every function used, once: its name and its arguments. */
#define NVRTC_FUNCTIONS(F)                                                                                         \
  F(nvrtcVersion, (int *major, int *minor))                                                                        \
  F(nvrtcCreateProgram, (void **program, const char *source, const char *name, int headers,                        \
                         const char *const *header, const char *const *include))                                   \
  F(nvrtcDestroyProgram, (void **program))                                                                         \
  F(nvrtcCompileProgram, (void *program, int n, const char *const *option))                                        \
  F(nvrtcGetProgramLogSize, (void *program, size_t *bytes))                                                        \
  F(nvrtcGetProgramLog, (void *program, char *log))                                                                \
  F(nvrtcGetPTXSize, (void *program, size_t *bytes))                                                               \
  F(nvrtcGetPTX, (void *program, char *ptx))                                                                       \
  F(nvrtcGetCUBINSize, (void *program, size_t *bytes))                                                             \
  F(nvrtcGetCUBIN, (void *program, char *cubin))

struct Nvrtc {
  void *library;
#define FIELD(name, arguments) int(*name) arguments;
  NVRTC_FUNCTIONS(FIELD)
#undef FIELD
};

static bool load_symbols(Nvrtc *n, Error *err) {
  /* POSIX gives functions as void *; the copy keeps the conversion out of the language's way. */
#define LOAD(name, arguments)                                                                                      \
  do {                                                                                                             \
    void *p = dlsym(n->library, #name);                                                                            \
    if (!p) return error_set(err, ERROR_DEVICE, "this NVRTC has no function \"%s\"", #name);                       \
    memcpy(&n->name, &p, sizeof p);                                                                                \
  } while (0);
  NVRTC_FUNCTIONS(LOAD)
#undef LOAD
  return true;
}

static bool load_library(Nvrtc *n, const char *path, Error *err) {
  static const char *const usual[] = {"libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12",
                                      "/usr/local/cuda/lib64/libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so.13",
                                      "/usr/local/cuda/lib64/libnvrtc.so.12"};
  if (path) {
    n->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return n->library || error_set(err, ERROR_DEVICE, "NVRTC cannot be loaded: %s", dlerror());
  }
  for (int k = 0; !n->library && k < COUNT_OF(usual); k++) n->library = dlopen(usual[k], RTLD_NOW | RTLD_LOCAL);
  return n->library ||
         error_set(err, ERROR_DEVICE, "NVRTC (libnvrtc.so) is neither on the loader's path nor in /usr/local/cuda");
}

Nvrtc *nvrtc_open(const char *path, Error *err) {
  Nvrtc *n = mem_alloc(sizeof *n);
  if (!n) {
    error_set(err, ERROR_MEMORY, "out of memory");
    return NULL;
  }
  if (load_library(n, path, err) && load_symbols(n, err)) return n;
  nvrtc_close(n);
  return NULL;
}

void nvrtc_close(Nvrtc *n) { mem_free(n); }

void nvrtc_version(const Nvrtc *n, int *out_major, int *out_minor) { n->nvrtcVersion(out_major, out_minor); }

static void fetch_log(const Nvrtc *n, void *program, NvrtcResult *out) {
  size_t bytes = 0;
  if (n->nvrtcGetProgramLogSize(program, &bytes)) bytes = 0;
  out->log = mem_alloc(bytes + 1);
  if (out->log && bytes) n->nvrtcGetProgramLog(program, out->log);
}

static void fetch_image(const Nvrtc *n, void *program, bool ptx, NvrtcResult *out) {
  int code = ptx ? n->nvrtcGetPTXSize(program, &out->bytes) : n->nvrtcGetCUBINSize(program, &out->bytes);
  if (code || !out->bytes) return;
  out->image = mem_alloc(out->bytes);
  if (!out->image) return;
  code = ptx ? n->nvrtcGetPTX(program, out->image) : n->nvrtcGetCUBIN(program, out->image);
  if (!code) return;
  mem_free(out->image);
  out->image = NULL;
}

enum { MOST_OPTIONS = 32 };

/* All that NVRTC is given: its own first.  How many. */
static int all_options(const char *arch, const char *const *options, int n_options, char arch_option[64],
                       const char *out[MOST_OPTIONS]) {
  int n = 0;
  snprintf(arch_option, 64, "--gpu-architecture=%s", arch);
  out[n++] = arch_option;
  out[n++] = "--fmad=false";
  out[n++] = "-default-device";
  for (int k = 0; k < n_options && n < MOST_OPTIONS; k++) out[n++] = options[k];
  return n;
}

void nvrtc_key(const Nvrtc *n, const char *arch, const char *const *options, int n_options, Buffer *out) {
  const char *all[MOST_OPTIONS];
  char arch_option[64];
  int major = 0, minor = 0, n_all = all_options(arch, options, n_options, arch_option, all);
  void *function;
  memcpy(&function, &n->nvrtcVersion, sizeof function);
  nvrtc_version(n, &major, &minor);
  buffer_printf(out, "nvrtc %d.%d ", major, minor);
  build_id_print(function, out);
  buffer_printf(out, "\n");
  for (int k = 0; k < n_all; k++) buffer_printf(out, "option %s\n", all[k]);
}

bool nvrtc_compile(const Nvrtc *n, const char *source, const char *arch, const char *const *options, int n_options,
                   NvrtcResult *out) {
  const char *all[MOST_OPTIONS];
  char arch_option[64];
  int n_all = all_options(arch, options, n_options, arch_option, all);
  void *program = NULL;
  *out = (NvrtcResult){0};
  if (n->nvrtcCreateProgram(&program, source, "kernel.cu", 0, NULL, NULL) == 0) {
    int code = n->nvrtcCompileProgram(program, n_all, all);
    fetch_log(n, program, out);
    if (code == 0) fetch_image(n, program, strncmp(arch, "compute", 7) == 0, out);
    n->nvrtcDestroyProgram(&program);
  }
  if (!out->log) out->log = mem_alloc(1);
  return out->image != NULL;
}

void nvrtc_result_done(NvrtcResult *r) {
  mem_free(r->image);
  mem_free(r->log);
  *r = (NvrtcResult){0};
}
