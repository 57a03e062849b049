/* The table of the driver's functions, filled by name. */
#include "runtime/cuda/api.h"

#include <dlfcn.h>
#include <string.h>

bool cuda_api_open(CudaApi *api, const char *path, Error *err) {
  void *library = dlopen(path ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return error_set(err, ERROR_DEVICE, "the CUDA driver cannot be loaded: %s", dlerror());
  /* POSIX gives functions as void *; the copy keeps the conversion out of the language's way. */
#define LOAD(name, arguments)                                                                                      \
  do {                                                                                                             \
    void *p = dlsym(library, #name);                                                                               \
    if (!p)                                                                                                        \
      return error_set(err, ERROR_DEVICE, "%s is no CUDA driver that serves here: it has no function \"%s\"",      \
                       path ? path : "libcuda.so.1", #name);                                                       \
    memcpy(&api->name, &p, sizeof p);                                                                              \
  } while (0);
  CUDA_FUNCTIONS(LOAD)
#undef LOAD
  return true;
}

bool cuda_api_error(const CudaApi *api, const char *call, CudaResult code, Error *err) {
  const char *name = NULL, *text = NULL;
  if (api->cuGetErrorName(code, &name) || !name) name = "an error without a name";
  if (api->cuGetErrorString(code, &text) || !text) text = "";
  ErrorCode kind = code == CUDA_OUT_OF_MEMORY ? ERROR_MEMORY : ERROR_DEVICE;
  return error_set(err, kind, "%s: %s (%d): %s", call, name, code, text);
}
