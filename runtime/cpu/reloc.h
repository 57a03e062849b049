/* One relocation of an ELF object: which bits of an instruction or a word hold an address, on which machine.
 * Knows nothing of sections and symbols; those are loader.c's. */
#ifndef NUWA_RELOC_H
#define NUWA_RELOC_H

#include <stdint.h>

#include "runtime/base/error.h"

/* "x86-64", "aarch64", or NULL for an e_machine that we do not load. */
const char *reloc_machine_name(unsigned machine);

/* Bytes that a relocation of this type changes; 0 for one that changes nothing, -1 for a type that we do not know. */
int reloc_width(unsigned machine, uint32_t type);

/* Writes `target` (symbol + addend) into the reloc_width bytes at `bytes`, which are those that will lie at address
 * `place`.  Fails when the target is out of the field's reach or alignment. */
bool reloc_apply(unsigned machine, uint32_t type, uint8_t *bytes, uint64_t place, uint64_t target, Error *err);

#endif
