/* What tests alone may ask of a library and do to it.  Only code compiled with NUWA_TEST_HOOKS has these (the library
 * nuwa_hooks, which tests link in front of the others); what is installed has none of them. */
#ifndef NUWA_HOOKS_H
#define NUWA_HOOKS_H

#include <stdint.h>

/* Counts allocations since the program began.  mem_fail_at(n) lets the n-th from now fail (0: none will);
 * mem_fail_from(n) that one and all after it, until mem_fail_at(0).  They reach every thread. */
uint64_t mem_alloc_count(void);
void mem_fail_at(uint64_t n);
void mem_fail_from(uint64_t n);

#endif
