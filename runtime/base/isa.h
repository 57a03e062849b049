/* Instruction sets by name, decided by feature bits (cpuid and what the kernel saves; hwcaps), never by the CPU's name. */
#ifndef NUWA_ISA_H
#define NUWA_ISA_H

#include <stdbool.h>

/* "plain", "avx2", "avx512", "neon".  False for other names. */
bool isa_is_available(const char *name);

#endif
