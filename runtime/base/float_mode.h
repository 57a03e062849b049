/* The mode of floating-point arithmetic that kernels run in: round to nearest even, nothing traps, denormal operands
 * and results count as 0 of their sign.  It belongs to the thread; whoever sets it restores the caller's. */
#ifndef NUWA_FLOAT_MODE_H
#define NUWA_FLOAT_MODE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
typedef unsigned FloatMode;
static inline FloatMode float_mode_get(void) { return _mm_getcsr(); }
static inline void float_mode_set(FloatMode m) { _mm_setcsr(m); }
static const FloatMode float_mode_kernels = 0x1F80 | 0x8000 | 0x0040; /* exceptions masked, FTZ, DAZ */
#elif defined(__aarch64__)
typedef uint64_t FloatMode;
static inline FloatMode float_mode_get(void) {
  FloatMode m;
  __asm__ volatile("mrs %0, fpcr" : "=r"(m));
  return m;
}
static inline void float_mode_set(FloatMode m) { __asm__ volatile("msr fpcr, %0" : : "r"(m)); }
static const FloatMode float_mode_kernels = 1u << 24; /* FZ */
#else
#error "an x86-64 or aarch64 machine is needed"
#endif

/* Sets the kernels' mode; returns the one before. */
static inline FloatMode float_mode_enter(void) {
  FloatMode before = float_mode_get();
  float_mode_set(float_mode_kernels);
  return before;
}

#endif
