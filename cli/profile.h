/* Where the time of a function goes: the measured launches of a session beside what the compiler said of their
 * groups. */
#ifndef NUWA_CLI_PROFILE_H
#define NUWA_CLI_PROFILE_H

#include "frontend/compile/compile.h"
#include "media/report/page.h"
#include "runtime/include/nuwa.h"

/* Prints to stderr, for `runs` runs with B samples since nuwa_profile_start: the share of each kernel family, then
 * the slowest kernels with their speed.  e: what the compiler estimates of the same functions. */
void profile_print(const NuwaSession *s, const Plan *p, const char *function, const Lowered *e, int64_t runs,
                   int64_t B);

/* The same as a table of a page, for runs > 0; call inside arena_protect. */
void profile_page(Arena *a, Buffer *out, const NuwaSession *s, const Plan *p, const char *function, const Lowered *e,
                  int64_t runs, int64_t B);

#endif
