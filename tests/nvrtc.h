/* Sentences that need NVRTC, of tests that leave compiling to the program or library they test. */
#ifndef NUWA_TESTS_NVRTC_H
#define NUWA_TESTS_NVRTC_H

#include "codegen/emit/nvrtc.h"
#include "tests/test.h"

static inline bool have_nvrtc(void) {
  Error err;
  Nvrtc *n = nvrtc_open(NULL, &err);
  nvrtc_close(n);
  return n != NULL;
}

#define NEED_NVRTC() \
  if (!have_nvrtc()) SKIP("NVRTC is not installed")

#endif
