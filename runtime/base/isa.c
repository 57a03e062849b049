/* `plain` is 128-bit vectors with FMA: on x86-64 the AVX and FMA3 encodings, on aarch64 what every CPU has. */
#include "runtime/base/isa.h"

#include <string.h>

#if defined(__x86_64__)

/* __builtin_cpu_supports looks at cpuid and at xgetbv: what the operating system does not save does not count. */
static bool has_plain(void) { return __builtin_cpu_supports("avx") && __builtin_cpu_supports("fma"); }
static bool has_avx2(void) { return has_plain() && __builtin_cpu_supports("avx2"); }
static bool has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
static bool has_neon(void) { return false; }

#else

static bool has_plain(void) { return true; }
static bool has_avx2(void) { return false; }
static bool has_avx512(void) { return false; }
static bool has_neon(void) {
#if defined(__aarch64__)
  return true;
#else
  return false;
#endif
}

#endif

bool isa_is_available(const char *name) {
  if (strcmp(name, "plain") == 0) return has_plain();
  if (strcmp(name, "avx2") == 0) return has_avx2();
  if (strcmp(name, "avx512") == 0) return has_avx512();
  if (strcmp(name, "neon") == 0) return has_neon();
  return false;
}
