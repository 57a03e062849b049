/* See library.h. */
#include "media/library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool library_find(const char *library, const char *function, void *out, char why[LIBRARY_WHY_BYTES]) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  void *p = handle ? dlsym(handle, function) : NULL;
  memcpy(out, &p, sizeof p);
  if (p) return true;
  const char *text = dlerror();
  snprintf(why, LIBRARY_WHY_BYTES, "%s", text ? text : function);
  return false;
}
