/* Where the time of a function goes: the measured launches of a session beside what the compiler said of their
 * groups. */
#ifndef NUWA_CLI_PROFILE_H
#define NUWA_CLI_PROFILE_H

#include "runtime/base/safetensors.h"
#include "runtime/include/nuwa.h"
#include "runtime/plan.h"

/* Prints to stderr, for `runs` runs with B samples since nuwa_profile_start: the share of each kernel family, then
 * the slowest kernels with their speed.  explain: what compiling wrote into CompileOptions.explain. */
void profile_print(const NuwaSession *s, const Plan *p, const char *function, const char *explain, int64_t runs,
                   int64_t B);

#endif
