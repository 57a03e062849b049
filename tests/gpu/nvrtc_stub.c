/* An NVRTC that compiles nothing, of the version that is asked for: what keys say of a compiler is tested with it. */
#include <stddef.h>

/* 100 major + minor. */
__attribute__((visibility("default"))) int nvrtc_stub_version = 1300;
__attribute__((visibility("default"))) const int nvrtc_stub_number = NUMBER;   /* which build */

#define STUB(name, arguments) __attribute__((visibility("default"))) int name arguments; int name arguments
STUB(nvrtcVersion, (int *major, int *minor)) {
  *major = nvrtc_stub_version / 100;
  *minor = nvrtc_stub_version % 100;
  return 0;
}
STUB(nvrtcCreateProgram, (void **program, const char *source, const char *name, int headers, const char *const *header,
                          const char *const *include)) { return 1; }
STUB(nvrtcDestroyProgram, (void **program)) { return 1; }
STUB(nvrtcCompileProgram, (void *program, int n, const char *const *option)) { return 1; }
STUB(nvrtcGetProgramLogSize, (void *program, size_t *bytes)) { return 1; }
STUB(nvrtcGetProgramLog, (void *program, char *log)) { return 1; }
STUB(nvrtcGetPTXSize, (void *program, size_t *bytes)) { return 1; }
STUB(nvrtcGetPTX, (void *program, char *ptx)) { return 1; }
STUB(nvrtcGetCUBINSize, (void *program, size_t *bytes)) { return 1; }
STUB(nvrtcGetCUBIN, (void *program, char *cubin)) { return 1; }
